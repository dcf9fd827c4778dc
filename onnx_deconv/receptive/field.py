"""The receptive fields of a layer's units, and how every value's positions are spaced over the image."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from onnx_deconv.errors import InputError
from onnx_deconv.model import Array, Model
from onnx_deconv.operators.sight import Sight
from onnx_deconv.receptive.walk import sights_of


@dataclass(frozen=True)
class ReceptiveField:
    """Which pixels of the image the units of one layer can see.

    Attributes
    ----------
    layer
        The value.
    size
        For each axis of the image: how many pixels a unit sees that is far from the border. Exact for
        convolutions and pools, rounded up after a resampling.
    jump
        How many pixels apart neighbouring units are; 0 where every unit sees the same.
    offset
        The first pixel that the unit at position 0 sees, padding included: often negative.
    axes
        For each axis of the image: the layer's axis along it, counted from the first after the channel;
        ``None`` where every unit sees the same.
    bounds
        For each axis of the image, for each position: the first pixel and one past the last, int64,
        clipped to the image.
    note
        The operators for which it was assumed that a unit sees the whole image; else ``None``.
    """

    layer: str
    size: tuple[int, ...]
    jump: tuple[float, ...]
    offset: tuple[float, ...]
    axes: tuple[int | None, ...]
    bounds: tuple[Array, ...] = field(repr=False)
    note: str | None = None

    def box(self, position: Sequence[int]) -> tuple[int, ...]:
        """Return the box of pixels that a unit sees.

        Parameters
        ----------
        position
            One index per axis after the channel; empty for scores.

        Returns
        -------
        tuple of int
            (y0, x0, y1, x1), half open, clipped to the image; all 0 if it sees only padding.

        Raises
        ------
        InputError
            If there is no such unit.
        """
        rows = [self._row(k, position) for k in range(len(self.bounds))]
        if any(first >= last for first, last in rows):
            return (0,) * (2 * len(rows))
        return tuple(first for first, _ in rows) + tuple(last for _, last in rows)

    def reach(self, position: Sequence[int]) -> list[tuple[int, int]]:
        """Return, per axis, the first pixel that a unit sees and one past the last, padding included.

        The padding, outside the image, may be that of any layer between the image and the unit.
        """
        return [
            (min(first, closed[0]), max(last, closed[1])) if first < last else closed
            for (first, last), closed in zip(
                (self._row(k, position) for k in range(len(self.bounds))), self._closed(position), strict=True
            )
        ]

    def _closed(self, position: Sequence[int]) -> Iterator[tuple[int, int]]:
        """Return the same in closed form, which is inexact only after a resampling."""
        for axis, size, jump, offset in zip(self.axes, self.size, self.jump, self.offset, strict=True):
            start = 0 if axis is None else position[axis] * jump + offset
            yield math.floor(start), math.ceil(start + size)

    def _row(self, k: int, position: Sequence[int]) -> tuple[int, int]:
        axis, bounds = self.axes[k], self.bounds[k]
        if axis is not None and not (axis < len(position) and 0 <= position[axis] < len(bounds)):
            raise InputError(f"{self.layer!r} has no unit at {tuple(position)}")
        first, last = bounds[0 if axis is None else position[axis]]
        return int(first), int(last)


def receptive_field(
    model: Model, layer: str, *, size: Sequence[int] | None = None, layout: str = "NCHW"
) -> ReceptiveField:
    """Find out which pixels the units of a layer can see.

    Parameters
    ----------
    model
        The model; only its graph is read.
    layer
        A value's or a node's name, or the n-th convolution (``conv3``).
    size
        The image's size, one number per spatial axis, where the model leaves it open.
    layout
        The layout of the model's input: ``"NCHW"`` or ``"NHWC"``.

    Returns
    -------
    ReceptiveField
        It is exact, except for operators that its ``note`` names.

    Raises
    ------
    UnknownLayerError
        If there is no such layer.
    InputError
        If the image's size is not known, or no image leads to the layer.
    """
    value = model.layer(layer)
    return receptive_fields(model, [value], size=size, layout=layout)[value]


def receptive_fields(
    model: Model, layers: Sequence[str], *, size: Sequence[int] | None = None, layout: str = "NCHW"
) -> dict[str, ReceptiveField]:
    """Find out which pixels the units of several values, given by their names, can see.

    Other parameters and errors are those of :func:`receptive_field`.
    """
    sights = sights_of(model, size, layout)
    for layer in layers:
        if layer not in sights:
            raise InputError(f"{layer!r} does not depend on the image")
    return {layer: _field(model, layer, sights[layer]) for layer in layers}


class Raster(NamedTuple):
    """How a value's positions are spaced over the image, one entry per axis of the image.

    Attributes
    ----------
    axes
        The value's axis that runs along the image's, counted from the last (-1); ``None`` where there
        is none, or it is not known.
    jumps
        Pixels between neighbouring positions; 0 where ``axes`` has ``None``.
    offsets
        The first pixel that position 0 sees, padding included.
    sizes
        How many pixels a position sees.
    """

    axes: tuple[int | None, ...]
    jumps: tuple[float, ...]
    offsets: tuple[float, ...]
    sizes: tuple[float, ...]


def rasters(model: Model, layout: str = "NCHW") -> dict[str, Raster]:
    """Find out how the positions of every value that depends on the image are spaced over it, by name.

    Parameters and errors are those of :func:`receptive_field`.
    """
    return {
        value: Raster(
            tuple(s.axis for s in sight.strips),
            tuple(s.jump for s in sight.strips),
            tuple(s.offset for s in sight.strips),
            tuple(s.size for s in sight.strips),
        )
        for value, sight in sights_of(model, None, layout).items()
    }


def _field(model: Model, value: str, sight: Sight) -> ReceptiveField:
    rank = len(model.type_of(value).shape or ())
    axes = tuple(None if s.axis is None else rank + s.axis - 2 for s in sight.strips)
    if any(axis is not None and axis < 0 for axis in axes):
        channels_last = "its channels are not axis 1: the whole image is assumed"
        sight, axes = Sight(tuple(s.whole() for s in sight.strips), channels_last), (None,) * len(axes)
    return ReceptiveField(
        value,
        tuple(math.ceil(s.size) for s in sight.strips),
        tuple(s.jump for s in sight.strips),
        tuple(s.offset for s in sight.strips),
        axes,
        tuple(s.clean() for s in sight.strips),
        sight.note,
    )
