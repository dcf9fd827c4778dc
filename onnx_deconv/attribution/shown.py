"""What an explanation needs to be drawn: what was explained, and how it became the model's input."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from onnx_deconv.imaging import (
    Channels,
    Geometry,
    Lattice,
    Layout,
    Photo,
    Picture,
    Scales,
    SheetLayout,
    SignalViews,
    Views,
    VolumeViews,
)
from onnx_deconv.model import Array


class Drawn(Protocol):
    """The pictures of a reconstruction, by the names in :data:`onnx_deconv.imaging.VIEWS`."""

    @property
    def scales(self) -> Scales:
        """The magnitudes shown at full brightness."""

    @property
    def lattice(self) -> Lattice | None:
        """The lattice that maps are averaged over, if they are."""

    def __getitem__(self, view: str) -> Picture:
        """Draw one."""

    def sheet(self) -> SheetLayout:
        """Lay the side-by-side view out."""


class Shown(Protocol):
    """What was explained, and how its explanation is drawn.

    Attributes
    ----------
    name
        What captions call it.
    box
        The receptive field of the explained unit, (y0, x0, y1, x1) in pixels of the model's input; ``None``
        for classes, whole maps, and what is no picture.
    assumed
        The preset that was assumed, for want of anything that says how pixels become numbers; else ``None``.
    """

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def box(self) -> Sequence[int] | None: ...  # noqa: D102
    @property
    def assumed(self) -> str | None: ...  # noqa: D102

    def views(
        self, reconstruction: Array, captions: Sequence[str], badge: str | None, scales: Scales | None
    ) -> Drawn:
        """Return the pictures of a reconstruction of it."""


@dataclass(frozen=True)
class ShownPhoto:
    """A photograph that was explained; attributes as of :class:`Shown`.

    Attributes
    ----------
    photo
        The photograph, and what the model saw of it.
    layout, channels
        Of the model's input.
    """

    photo: Photo
    layout: Layout
    channels: Channels
    name: str = "photograph"
    box: Sequence[int] | None = None
    assumed: str | None = None

    def views(
        self, reconstruction: Array, captions: Sequence[str], badge: str | None, scales: Scales | None
    ) -> Views:
        """Return the pictures of a reconstruction of it."""
        return Views(self.photo, reconstruction, self, captions, self.box, badge, scales)


@dataclass(frozen=True)
class ShownNumbers:
    """A signal, a volume, or an image of any bands that was explained.

    Attributes
    ----------
    values
        As the model takes it, but channels first: C × one, two or three axes of positions.
    channel_axis
        Where the model has the channels, of one sample; ``None`` where it has no axis for them.
    bands
        The channels that are drawn as red, green and blue, of an image; by default the first three.
    """

    values: Array
    channel_axis: int | None
    name: str = "input"
    bands: Sequence[int] | None = None
    box: Sequence[int] | None = None
    assumed: str | None = None

    def views(
        self, reconstruction: Array, captions: Sequence[str], badge: str | None, scales: Scales | None
    ) -> Drawn:
        """Return the pictures of a reconstruction of it."""
        axis = self.channel_axis
        whole = reconstruction[None] if axis is None else np.moveaxis(reconstruction, axis, 0)
        signal, values = _without_singles(whole), _without_singles(self.values)
        if signal.ndim == len("CL"):
            return SignalViews(values, signal, captions, badge, scales)
        if signal.ndim == len("CDHW"):
            return VolumeViews(values, signal, captions, badge, scales)
        bands = self.bands or _first_bands(len(signal))
        photo = _as_photo(values[list(bands)])
        axes = _Axes("NCHW", "L" if len(bands) == 1 else "RGB")
        return Views(photo, signal, axes, captions, None, badge, scales, bands)


class _Axes(NamedTuple):
    layout: Layout
    channels: Channels


def _without_singles(values: Array) -> Array:
    """Leave out axes of one position: an image of one column is drawn as a signal."""
    kept = [size for size in values.shape[1:] if size > 1]
    return values.reshape(len(values), *(kept or [1]))


def _first_bands(count: int) -> Sequence[int]:
    """Choose the bands to draw: the first three; of two the second as green and blue; of one, grey."""
    return ((0,), (0, 1, 1))[count - 1] if count < len("RGB") else (0, 1, 2)


def _as_photo(bands: Array) -> Photo:
    """Draw bands in colours: each from its least value to its greatest."""
    values = np.asarray(bands, np.float64)
    low, high = (f(values, axis=(1, 2), keepdims=True) for f in (np.min, np.max))
    pixels = np.rint((values - low) * 255 / np.where(high > low, high - low, 1)).astype(np.uint8)
    picture = np.repeat(pixels, 3, axis=0) if len(pixels) == 1 else pixels
    size = values.shape[1], values.shape[2]
    return Photo(np.ascontiguousarray(picture.transpose(1, 2, 0)), bands, Geometry(size, size, size, (0, 0)))
