"""Channels: which ones a model takes, in which order."""

from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image

from onnx_deconv.imaging.picture import Picture

Channels = Literal["RGB", "BGR", "L", "RGBA", "BGRA"]
Layout = Literal["NCHW", "NHWC"]


class InputAxes(Protocol):
    """Whatever knows the order of the axes and channels of a model's input: a preprocessing, for instance."""

    @property
    def layout(self) -> Layout:
        """Where the channels are."""

    @property
    def channels(self) -> Channels:
        """Which channels there are, in order."""


def channels_first(image: npt.NDArray[Any], layout: Layout) -> npt.NDArray[Any]:
    """Return one image, C×H×W or H×W×C by its layout, as C×H×W."""
    return image if layout == "NCHW" else image.transpose(2, 0, 1)


def reordered(values: tuple[float, ...], old: str, new: str, *, alpha: float) -> tuple[float, ...]:
    """Reorder one value per channel of `old` for the channels of `new`."""
    if len(values) == 1:
        return values
    by_letter = dict(zip(old, values, strict=True))
    by_letter["L"] = sum(by_letter[letter] for letter in "RGB") / 3
    return tuple(by_letter.get(letter, alpha) for letter in new)


def channel_of(picture: Picture, letter: str) -> Picture:
    """Return one channel of a picture, H×W: R, G, B, L (its luma) or A (its fourth, if any; else opaque)."""
    if letter == "A":
        has_four = picture.shape[2] == len("RGBA")
        return picture[..., 3] if has_four else np.full(picture.shape[:2], 255, np.uint8)
    if letter == "L":
        return np.asarray(Image.fromarray(np.ascontiguousarray(picture[..., :3])).convert("L"))
    return picture[..., "RGB".index(letter)]
