"""Crops: the piece of an image that a unit can see, and where the layers below have their values in it.

A crop begins at the image's first pixel or a multiple of the *step* from it, and ends at the image's last
pixel or a multiple of the step before it. The step is a multiple of the pixels between neighbouring
units of every layer below. So the windows of all those layers fall on the same pixels as in the whole
image, each layer's values in the crop are those of a box of whole positions, and the image's own padding
is met where the image has it.
"""

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import NamedTuple

from onnx_deconv.errors import InputError
from onnx_deconv.receptive.field import Raster, ReceptiveField

_FINEST = 64
"""Distances between positions are taken for multiples of 1/64 pixel at the finest."""
_SAMPLE = 32
"""Pixels that a sample leaves out of the image: a multiple of the steps of most networks' layers."""


Size = tuple[int, int]


class CropError(InputError):
    """The units of a layer cannot be computed on crops."""


class Crop(NamedTuple):
    """A rectangle cut out of an image.

    Attributes
    ----------
    origin
        Its first row and column.
    size
        Height and width, in pixels.
    """

    origin: Size
    size: Size


class CropGrid:
    """Crops for the units of one layer.

    Parameters
    ----------
    field
        The receptive field of the layer.
    below
        The raster of the layer and of every value between it and the image.
    shapes
        Those values' shapes for a whole image; empty where they are not known.
    size
        The image's (height, width).

    Raises
    ------
    CropError
        If the positions of a value below are not evenly spaced over the image, or their spacing is unknown.
    """

    def __init__(
        self,
        field: ReceptiveField,
        below: Mapping[str, Raster],
        shapes: Mapping[str, Sequence[int]],
        size: Size,
    ) -> None:
        self._field, self._shapes, self._size = field, shapes, size
        self._axes = {value: _spatial_axes(raster) for value, raster in below.items()}
        self._jumps = {value: raster.jumps for value, raster in below.items()}
        self._steps = [_common_multiple(jumps) for jumps in zip(*self._jumps.values(), strict=True)]
        self._dropped = _dropped(below, shapes, size)

    def crop(self, position: Sequence[int]) -> Crop:
        """Return the smallest crop that holds all that a unit can see."""
        return self.around(position, position)

    def around(self, first: Sequence[int], last: Sequence[int]) -> Crop:
        """Return the smallest crop that holds all that the units from one position to another can see."""
        # Not clipped to the image: what would be seen beyond it is padding that some layer reads.
        reach = enumerate(zip(self._field.reach(first), self._field.reach(last), strict=True))
        (top, bottom), (left, right) = (self._span(axis, a[0], b[1]) for axis, (a, b) in reach)
        return Crop((top, left), (bottom - top, right - left))

    def _span(self, axis: int, first: int, last: int) -> tuple[int, int]:
        """Return the first pixel of a crop that holds these, and one past its last."""
        step, whole, (before, after) = self._steps[axis], self._size[axis], self._dropped[axis]
        # A unit that sees nothing but padding gets the nearest pixels: no crop is empty.
        first, last = min(first - before, whole - 1), max(last + after, 1)
        return max(first // step, 0) * step, whole - max((whole - last) // step, 0) * step

    def sample(self) -> Crop:
        """Return a crop to try: of the same size for most layers, so that they can be tried together."""
        height, width = (
            whole - math.lcm(step, _SAMPLE) for whole, step in zip(self._size, self._steps, strict=True)
        )
        if height < self._field.size[0] or width < self._field.size[1]:
            return self.crop([0] * len(self._field.axes))
        return Crop((0, 0), (height, width))

    def start(self, value: str, crop: Crop) -> list[int]:
        """Return the first position of a value that is in a crop, along each of its axes."""
        starts = [0] * len(self._shapes[value])
        for axis, jump, pixel in zip(self._axes[value], self._jumps[value], crop.origin, strict=True):
            starts[axis] = round(pixel / jump)
        return starts

    def shape(self, value: str, crop: Crop) -> list[int]:
        """Return a value's shape for a crop.

        Raises
        ------
        CropError
            If its shape for a whole image is not known.
        """
        if not self._shapes[value]:
            raise CropError(f"the shape of {value!r} is known only when the model runs")
        shape = list(self._shapes[value])
        cut = [whole - length for whole, length in zip(self._size, crop.size, strict=True)]
        for axis, jump, pixels in zip(self._axes[value], self._jumps[value], cut, strict=True):
            shape[axis] -= round(pixels / jump)
        return shape


def _spatial_axes(raster: Raster) -> list[int]:
    axes = [axis for axis in raster.axes if axis is not None]
    if len(set(axes)) < len(raster.axes):
        raise CropError("a layer below has no positions along an axis of the image")
    return axes


def _dropped(
    below: Mapping[str, Raster], shapes: Mapping[str, Sequence[int]], size: Size
) -> list[tuple[int, int]]:
    """Return, for each axis, the pixels at the image's borders that some value below has no positions for.

    A ``Slice``, for instance, drops as many positions of a crop as of the image: the crop has to be larger.
    Fewer pixels than there are between two positions do not count, as a crop is cut to whole positions.
    """
    found = []
    for k, whole in enumerate(size):
        before = after = 0
        for value, raster in below.items():
            jump, offset = raster.jumps[k], raster.offsets[k]
            before = max(before, math.ceil(offset // jump * jump))
            if not shapes[value]:  # the mask of a Dropout, for instance, which nothing reads
                continue
            positions = shapes[value][raster.axes[k] or 0]
            end = (positions - 1) * jump + offset + raster.sizes[k]
            after = max(after, math.ceil((whole - end) // jump * jump))
        found.append((before, after))
    return found


def _common_multiple(jumps: Sequence[float]) -> int:
    """Return the smallest number of pixels that is a whole number of positions of every value."""
    fractions = [Fraction(jump).limit_denominator(_FINEST) for jump in jumps]
    if not all(f > 0 and float(f) == jump for f, jump in zip(fractions, jumps, strict=True)):
        raise CropError("the positions of a layer below are not evenly spaced over the image")
    return math.lcm(*(f.numerator for f in fractions))
