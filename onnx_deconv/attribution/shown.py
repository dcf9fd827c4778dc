"""What an explanation needs to be drawn: the photograph, and how it became the model's input."""

from collections.abc import Sequence
from dataclasses import dataclass

from onnx_deconv.imaging import Channels, Layout, Photo


@dataclass(frozen=True)
class Shown:
    """A photograph that was explained.

    Attributes
    ----------
    photo
        The photograph, and what the model saw of it.
    layout, channels
        Of the model's input.
    name
        What captions call the photograph.
    box
        The receptive field of the explained unit, (y0, x0, y1, x1) in pixels of the model's input; ``None``
        for classes and whole maps.
    assumed
        The preset that was assumed, for want of anything that says how pixels become numbers; else ``None``.
    """

    photo: Photo
    layout: Layout
    channels: Channels
    name: str = "photograph"
    box: Sequence[int] | None = None
    assumed: str | None = None
