"""How the part of an image that a unit can see may be cut out, and where the layers below lie in it.

A crop begins a multiple of the *grain* away from the image's first pixel, or at it, and ends a multiple of
it before the image's last, or at it. The grain is a multiple of the pixels between neighbouring units of
every layer below. So the windows of all those layers fall on the same pixels as in the whole image, each
layer's values in the crop are those of a box of whole positions, and the image's own padding is met
where the image has it.
"""

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import NamedTuple

from onnx_deconv.imaging import Size
from onnx_deconv.receptive import Raster, ReceptiveField

_FINEST = 64
"""The smallest distance between positions, as a part of a pixel, that is told from none."""


class Crop(NamedTuple):
    """A part of an image.

    Attributes
    ----------
    origin
        Its first row and column.
    size
        Height and width, in pixels.
    """

    origin: Size
    size: Size


class NoWayError(Exception):
    """A layer's units cannot be projected in one of the ways that are tried."""


class Grid:
    """Crops for the units of one layer.

    Parameters
    ----------
    seen
        What the layer's units see.
    below
        How the layer and every value between it and the image lie over the image.
    shapes
        Those values' shapes for a whole image.
    size
        The image's (height, width).

    Raises
    ------
    NoWayError
        If a value below does not lie evenly over the image, or it is not known how.
    """

    def __init__(
        self,
        seen: ReceptiveField,
        below: Mapping[str, Raster],
        shapes: Mapping[str, Sequence[int]],
        size: Size,
    ) -> None:
        self._seen, self._shapes, self._size = seen, shapes, size
        self._axes = {value: _known(raster) for value, raster in below.items()}
        self._jumps = {value: raster.jumps for value, raster in below.items()}
        self._grain = [_grain(jumps) for jumps in zip(*self._jumps.values(), strict=True)]

    def crop(self, position: Sequence[int]) -> Crop:
        """Return the smallest crop that shows a unit all it can see."""
        starts, ends = [], []
        # Not clipped to the image: what would be seen beyond it is padding that some layer reads.
        for (first, last), grain, whole in zip(
            self._seen.reach(position), self._grain, self._size, strict=True
        ):
            starts.append(max(first // grain, 0) * grain)
            ends.append(whole - max((whole - last) // grain, 0) * grain)
        sizes = [end - start for start, end in zip(starts, ends, strict=True)]
        return Crop((starts[0], starts[1]), (sizes[0], sizes[1]))

    def start(self, value: str, crop: Crop) -> list[int]:
        """Return the first position of a value that lies in a crop, along each of its axes."""
        starts = [0] * len(self._shapes[value])
        for axis, jump, pixel in zip(self._axes[value], self._jumps[value], crop.origin, strict=True):
            starts[axis] = round(pixel / jump)
        return starts

    def shape(self, value: str, crop: Crop) -> list[int]:
        """Return a value's shape for a crop."""
        shape = list(self._shapes[value])
        cut = [whole - length for whole, length in zip(self._size, crop.size, strict=True)]
        for axis, jump, pixels in zip(self._axes[value], self._jumps[value], cut, strict=True):
            shape[axis] -= round(pixels / jump)
        return shape


def _known(raster: Raster) -> list[int]:
    axes = [axis for axis in raster.axes if axis is not None]
    if len(set(axes)) < len(raster.axes):
        raise NoWayError("a layer below does not lie over the image")
    return axes


def _grain(jumps: Sequence[float]) -> int:
    """Return the smallest number of pixels that is a whole number of positions of every value."""
    parts = [Fraction(jump).limit_denominator(_FINEST) for jump in jumps]
    if not all(part > 0 and float(part) == jump for part, jump in zip(parts, jumps, strict=True)):
        raise NoWayError("a layer below does not lie evenly over the image")
    return math.lcm(*(part.numerator for part in parts))
