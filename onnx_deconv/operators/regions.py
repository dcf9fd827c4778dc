"""Regions cut out of maps: each region's signal is shared among the pixels that it was mixed from."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import TensorProto

from onnx_deconv.operators import fields
from onnx_deconv.operators.axes import BATCH, CHANNEL, Given, Names
from onnx_deconv.operators.builder import Signal
from onnx_deconv.operators.node import ForwardNode
from onnx_deconv.operators.registry import operator
from onnx_deconv.operators.site import Site
from onnx_deconv.operators.tables import Signals
from onnx_deconv.operators.traits import LOCATED


def region_axes(at: ForwardNode, given: Given) -> Names | None:
    """The regions are places of the map, of the images that it is of; their own positions are, too."""
    if 0 not in given:
        return None
    images, _, *places = given[0]
    several = images if at.shape_of(0)[0] != 1 else images - {BATCH}
    return (several.union(*places), frozenset({CHANNEL}), *places)


@operator("RoiAlign", traits={LOCATED}, field=fields.everywhere, axes=region_axes)
def roi_align(at: Site) -> Signals:
    """Each mean of samples is shared among the pixels between which they lie; the corners get nothing.

    As in PyTorch, what a region shows is explained, not why it lies where it does.
    """
    op = at.op
    if at.attr("mode", "avg") != "avg":
        raise at.unsupported(f"mode={at.attr('mode')!r}; only 'avg' can be sent back")
    # Mostly one box is explained, and all others have no signal.
    strength = op.ReduceMax(op.Abs(at.signal), [1, 2, 3], keepdims=0)
    taken = op.Reshape(op.NonZero(strength), [-1])
    signal = op.Gather(at.signal, taken, axis=0)
    corners = op.Gather(at.input(1), taken, axis=0)
    rows, columns = _Side.of(at, corners, 0).shares(), _Side.of(at, corners, 1).shares()
    # (regions, channels, bins, width): the bins of each line are shared among its pixels.
    lines = op.MatMul(signal, op.Unsqueeze(columns, [1]))
    lines = op.Transpose(lines, perm=[1, 0, 2, 3])
    lines = op.Reshape(lines, op.Concat(at.size(0, 1), [-1], at.size(0, 3), axis=0))
    if at.shape_of(0)[0] != 1:
        rows = op.Mul(op.Unsqueeze(rows, [0]), _of_each_image(at, op.Gather(at.raw(2), taken, axis=0)))
    rows = op.Reshape(rows, op.Concat(at.size(0, 0), [-1], at.size(0, 2), axis=0))
    turned = op.Unsqueeze(op.Transpose(rows, perm=[0, 2, 1]), [1])
    return [at.reshape(op.MatMul(turned, op.Unsqueeze(lines, [0])), 0), None, None]


def _of_each_image(at: Site, images: Signal) -> Signal:
    """Return 1 for each image and region of it, else 0: shape (images, regions, 1, 1)."""
    op = at.op
    own = op.Equal(op.Unsqueeze(images, [0]), op.Unsqueeze(_line(at, 0), [1]))
    return op.Unsqueeze(op.Cast(own, to=op.elem_type), [2, 3])


def _line(at: Site, axis: int) -> Any:
    """Return 0, 1, ... along an axis of the map."""
    size = at.shape_of(0)[axis]
    if size is not None:
        return np.arange(size)
    return at.op.Range(np.int64(0), at.op.Squeeze(at.size(0, axis), [0]), np.int64(1))


@dataclass(frozen=True)
class _Side:
    """One side of the regions, and the bins that they are parted into along it.

    Attributes
    ----------
    at
        The forward node.
    axis
        0 for rows, 1 for columns.
    start, length
        Where each region begins, and how far it goes, in pixels of the map: shape (regions, 1, 1).
    bins
        The number of bins.
    """

    at: Site
    axis: int
    start: Signal
    length: Signal
    bins: int

    @classmethod
    def of(cls, at: Site, corners: Signal, axis: int) -> "_Side":
        """Read a side of regions off their corners x, y, x, y in pixels of the image."""
        op = at.op
        half = at.attr("coordinate_transformation_mode", _usual_coordinates(at)) == "half_pixel"
        scaled = op.Mul(corners, at.attr("spatial_scale", 1.0))
        scaled = op.Sub(scaled, 0.5) if half else scaled
        first, last = (op.Unsqueeze(op.Gather(scaled, [k], axis=1), [2]) for k in (1 - axis, 3 - axis))
        length = op.Sub(last, first)
        bins = int(at.attr(("output_height", "output_width")[axis], 1))
        return cls(at, axis, first, length if half else op.Max(length, 1.0), bins)

    def shares(self) -> Signal:
        """Return each pixel's share in each bin's mean: shape (regions, bins, pixels)."""
        op, (places, there, count) = self.at.op, self._samples()
        size = op.Cast(self.at.size(0, 2 + self.axis), to=op.elem_type)
        inside = op.And(op.GreaterOrEqual(places, -1.0), op.LessOrEqual(places, size))
        there = op.Mul(there, op.Cast(inside, to=op.elem_type))
        nearest = op.Max(op.Min(places, op.Sub(size, 1.0)), 0.0)
        pixels = op.Cast(_line(self.at, 2 + self.axis), to=op.elem_type)
        far = op.Abs(op.Sub(op.Unsqueeze(nearest, [3]), pixels))
        shares = op.Mul(op.Max(op.Sub(1.0, far), 0.0), op.Unsqueeze(there, [3]))
        return op.Div(op.ReduceSum(shares, [2], keepdims=0), count)

    def _samples(self) -> tuple[Signal, Signal, Signal]:
        """Return where samples are taken, whether they are, and how many of each bin.

        Of shape (regions, bins, samples), the last two with axes of size 1. Without a number of samples
        there is one for each pixel that a bin is long, and as many for all as the longest has.
        """
        op, ratio = self.at.op, int(self.at.attr("sampling_ratio", 0))
        size = op.Div(self.length, float(self.bins))
        if ratio > 0:
            count, line = op.filled([1, 1, 1], float(ratio)), np.arange(ratio).astype(op.dtype)
            there = op.filled([1, 1, 1], 1.0)
        else:
            count = op.Max(op.Ceil(size), 1.0)
            most = op.ReduceMax(
                op.Concat(op.Reshape(count, [-1]), op.filled([1], 1.0), axis=0), [0], keepdims=0
            )
            each = op.Range(np.int64(0), op.Cast(most, to=TensorProto.INT64), np.int64(1))
            line = op.Cast(each, to=op.elem_type)
            there = op.Cast(op.Less(line, op.Ceil(size)), to=op.elem_type)
        within = op.Div(op.Add(line, 0.5), count)
        bins = np.arange(self.bins, dtype=op.dtype)[:, None]
        return op.Add(self.start, op.Mul(op.Add(within, bins), size)), there, count


def _usual_coordinates(at: Site) -> str:
    """Return how corners are read where the node does not say."""
    return "half_pixel" if at.model.opset >= 16 else "output_half_pixel"  # noqa: PLR2004
