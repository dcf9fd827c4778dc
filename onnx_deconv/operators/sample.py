"""Sampling between pixels: each sample's signal is shared among the pixels that it was mixed from."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Self

import numpy as np
from onnx import TensorProto

from onnx_deconv.operators.builder import Operand, Signal
from onnx_deconv.operators.registry import operator
from onnx_deconv.operators.site import Site
from onnx_deconv.operators.tables import Signals
from onnx_deconv.operators.window import Window, impossible, spatial_shape

_CUBIC = -0.75
"""Steepness of the cubic kernel, as the operator's specification has it."""


@dataclass(frozen=True)
class Tap:
    """One of the pixels that samples are mixed from, along one axis.

    Attributes
    ----------
    index
        Its position, int64, inside the picture: shape (batch, samples).
    weight, slope
        Its share, and the derivative of that by the sample's coordinate.
    """

    index: Signal
    weight: Signal
    slope: Signal


@dataclass(frozen=True)
class Sampling:
    """Samples of pictures of shape (batch, channels, pixels), at the same places in all channels.

    Attributes
    ----------
    at
        The forward node.
    taps
        For each spatial axis, the pixels that each sample is mixed from.
    sizes
        The spatial shape, int64.
    """

    at: Site
    taps: Sequence[Sequence[Tap]]
    sizes: Operand

    @classmethod
    def of(
        cls, at: Site, coordinates: Sequence[Signal], sizes: Operand, mode: str = "linear", pad: str = "zeros"
    ) -> Self:
        """Find the pixels around coordinates, one value of shape (batch, samples) per axis."""
        taps = [_taps(at, c, _length(at, sizes, k), mode, pad) for k, c in enumerate(coordinates)]
        return cls(at, taps, sizes)

    def spread(self, signal: Signal) -> Signal:
        """Send the samples' signal (batch, channels, samples) to the pixels (batch, channels, pixels)."""
        op = self.at.op
        count = op.ReduceProd(self.sizes)
        whole = op.filled(op.Concat(op.Shape(signal, end=2), count, axis=0), 0.0)
        for mixed in itertools.product(*self.taps):
            share = op.Mul(signal, op.Unsqueeze(self._product([t.weight for t in mixed]), [1]))
            places = op.Expand(op.Unsqueeze(self._place(mixed), [1]), op.Shape(signal))
            whole = op.scatter_add(whole, places, share, 2)
        return whole

    def read(self, pixels: Signal) -> Signal:
        """Return the samples of pixels (batch, channels, pixels)."""
        return self._mix(pixels, None)

    def slope(self, pixels: Signal, axis: int) -> Signal:
        """Return the derivative of the samples by their coordinate along an axis."""
        return self._mix(pixels, axis)

    def _mix(self, pixels: Signal, axis: int | None) -> Signal:
        op, parts = self.at.op, []
        for mixed in itertools.product(*self.taps):
            place = op.Unsqueeze(self._place(mixed), [1])
            shape = op.Concat(op.Shape(pixels, end=2), op.Shape(place, start=2), axis=0)
            shares = [t.slope if k == axis else t.weight for k, t in enumerate(mixed)]
            picked = op.GatherElements(pixels, op.Expand(place, shape), axis=2)
            parts.append(op.Mul(picked, op.Unsqueeze(self._product(shares), [1])))
        return op.sum(parts)

    def _product(self, factors: Sequence[Signal]) -> Signal:
        first, *rest = factors
        for factor in rest:
            first = self.at.op.Mul(first, factor)
        return first

    def _place(self, mixed: Sequence[Tap]) -> Signal:
        """Return the flat position of a pixel from its positions along the axes."""
        op, place = self.at.op, mixed[0].index
        for k, tap in enumerate(mixed[1:], 1):
            place = op.Add(op.Mul(place, _length(self.at, self.sizes, k)), tap.index)
        return place


def _length(at: Site, sizes: Operand, k: int) -> Operand:
    return np.int64(sizes[k]) if isinstance(sizes, list) else at.op.Gather(sizes, np.int64(k))


def _taps(at: Site, c: Signal, size: Operand, mode: str, pad: str) -> list[Tap]:
    op = at.op
    if mode == "nearest":
        return [_tap(at, op.Round(c), size, op.Add(op.Mul(c, 0.0), 1.0), op.Mul(c, 0.0), pad)]
    base = op.Floor(c)
    t = op.Sub(c, base)
    if mode == "linear":
        one = op.Add(op.Mul(t, 0.0), 1.0)
        shares = [(0.0, op.Sub(1.0, t), op.Neg(one)), (1.0, t, one)]
    else:
        shares = [(float(k), *_cubic(at, op.Sub(t, float(k)), near=k in (0, 1))) for k in (-1, 0, 1, 2)]
    return [_tap(at, op.Add(base, offset), size, weight, slope, pad) for offset, weight, slope in shares]


def _tap(at: Site, place: Signal, size: Operand, weight: Signal, slope: Signal, pad: str) -> Tap:
    """Bring a position that lies outside the picture inside, without a share if nothing is there."""
    op = at.op
    index, last = op.Cast(place, to=TensorProto.INT64), op.Sub(size, np.int64(1))
    inside = op.Max(op.Min(index, last), np.int64(0))
    if pad == "zeros":
        there = op.Cast(op.Equal(index, inside), to=op.elem_type)
        weight, slope = op.Mul(weight, there), op.Mul(slope, there)
    return Tap(inside, weight, slope)


def _cubic(at: Site, distance: Signal, *, near: bool) -> tuple[Signal, Signal]:
    """Return the cubic kernel at a signed distance, and its derivative (Keys, 1981)."""
    op, a = at.op, _CUBIC
    d, sign = op.Abs(distance), op.Sign(distance)
    factors = (a + 2, -(a + 3), 0.0, 1.0) if near else (a, -5 * a, 8 * a, -4 * a)
    weight: Signal = op.Add(op.Mul(d, factors[0]), factors[1])
    weight = op.Add(op.Mul(op.Add(op.Mul(weight, d), factors[2]), d), factors[3])
    slope = op.Add(op.Mul(op.Add(op.Mul(d, 3 * factors[0]), 2 * factors[1]), d), factors[2])
    return weight, op.Mul(slope, sign)


@operator("GridSample")
def grid_sample(at: Site) -> Signals:
    """Each sample's signal is shared among the pixels that it was mixed from; the grid gets its slope."""
    op, n = at.op, len(at.shape_of(0)) - 2
    mode = str(at.attr("mode", "linear")).removeprefix("bi")
    pad, sizes = at.attr("padding_mode", "zeros"), spatial_shape(at, 0)
    if pad == "reflection" and mode == "cubic":
        raise at.unsupported("cubic interpolation of reflected pictures")
    grid = op.Reshape(at.input(1), [0, -1, n])
    coordinates, slopes = zip(*(_coordinate(at, grid, k, sizes, mode, pad) for k in range(n)), strict=True)
    sampling = Sampling.of(at, coordinates, sizes, mode, pad)
    signal = op.Reshape(at.signal, [0, 0, -1])
    passed: list[Signal | None] = [None, None]
    if at.needs(0):
        passed[0] = at.reshape(sampling.spread(signal), 0)
    if at.needs(1):
        pixels = op.Reshape(at.input(0), [0, 0, -1])
        by_axis = [
            op.Mul(op.ReduceSum(op.Mul(signal, sampling.slope(pixels, k)), [1], keepdims=0), slopes[k])
            for k in reversed(range(n))  # a grid tells x before y
        ]
        passed[1] = at.reshape(op.Concat(*(op.Unsqueeze(s, [2]) for s in by_axis), axis=2), 1)
    return passed


def _coordinate(at: Site, grid: Signal, k: int, sizes: Operand, mode: str, pad: str) -> tuple[Signal, Signal]:
    """Return where a grid points along axis ``k``, in pixels, and the derivative of that by the grid."""
    op, n = at.op, len(at.shape_of(0)) - 2
    size = op.Cast(_length(at, sizes, k), to=op.elem_type)
    corners = at.attr("align_corners", 0)
    reach = op.Mul(op.Sub(size, 1.0) if corners else size, 0.5)
    there = op.Gather(grid, np.int64(n - 1 - k), axis=2)
    c, slope = op.Mul(op.Add(there, 1.0), reach), reach
    c = c if corners else op.Sub(c, 0.5)
    if pad == "zeros":
        return c, slope
    c = op.Round(c) if mode == "nearest" else c
    low, high = (0.0, op.Sub(size, 1.0)) if corners else (-0.5, op.Sub(size, 0.5))
    if pad == "reflection":
        return _reflected(at, c, slope, low, high)
    if mode == "cubic":
        return c, slope  # each of its four pixels is brought inside by itself
    inside = op.Max(op.Min(c, op.Sub(size, 1.0)), 0.0)
    return inside, op.Where(op.Equal(inside, c), slope, 0.0)


def _reflected(at: Site, c: Signal, slope: Signal, low: float, high: Signal) -> tuple[Signal, Signal]:
    """Fold coordinates that lie outside back between the two ends."""
    op = at.op
    span = op.Sub(high, low)
    turn = op.Mul(span, 2.0)
    beyond = op.Sub(c, low)
    rest = op.Sub(beyond, op.Mul(op.Floor(op.Div(beyond, turn)), turn))
    back = op.Greater(rest, span)
    folded = op.Add(op.Where(back, op.Sub(turn, rest), rest), low)
    return folded, op.Where(back, op.Neg(slope), slope)


@operator("DeformConv")
def deform_conv(at: Site) -> Signals:
    """The transposed filter, its signal shared among the pixels between which the filter looked."""
    if at.needs(1):
        raise at.unsupported("its filter depends on the explained input")
    window = Window.of(at, at.shape_of(1)[2:])
    columns = _Columns(at, window, at.attr("offset_group", 1))
    sampling = columns.sampling()
    signal = columns.transposed_filter()
    masked = signal if columns.mask is None else at.op.Mul(signal, columns.mask)
    passed: list[Signal | None] = [None] * len(at.node.inputs)
    if at.needs(0):
        passed[0] = at.reshape(sampling.spread(masked), 0)
    if at.needs(2):
        passed[2] = columns.offset_signal(sampling, masked)
    if at.has(4) and at.needs(4):
        read = at.op.Mul(signal, sampling.read(columns.pixels))
        passed[4] = at.reshape(at.op.ReduceSum(read, [1], keepdims=0), 4)
    return passed


deform_conv.fault(impossible)


@dataclass(frozen=True)
class _Columns:
    """What a deformable filter looks at: (batch·groups, channels, kernel·positions)."""

    at: Site
    window: Window
    groups: int

    @property
    def _kernel(self) -> int:
        return prod(self.window.kernel)

    @property
    def mask(self) -> Signal | None:
        """The weight of each sample, one for all channels of a group."""
        at = self.at
        return at.op.Reshape(at.input(4), self._grouped(1)) if at.has(4) else None

    @property
    def pixels(self) -> Signal:
        """The picture."""
        channels = self.at.shape_of(0)[1] or 0
        return self.at.op.Reshape(self.at.input(0), self._grouped(channels // self.groups))

    def _grouped(self, channels: int) -> Operand:
        """Return the shape (batch·groups, channels, rest)."""
        op = self.at.op
        return op.Concat(op.Mul(op.Shape(self.at.signal, end=1), [self.groups]), [channels, -1], axis=0)

    def sampling(self) -> Sampling:
        """Return where the filter looked: its own places moved by the offsets."""
        at, op, n = self.at, self.at.op, len(self.window.kernel)
        counts = op.Shape(at.signal, start=2)
        offsets = op.Reshape(at.input(2), op.Concat([0, self.groups, self._kernel, n], counts, axis=0))
        coordinates = []
        for k in range(n):
            moved = op.Gather(offsets, np.int64(k), axis=3)
            coordinates.append(op.Reshape(op.Add(moved, self._places(k, counts)), self._grouped_flat()))
        return Sampling.of(at, coordinates, spatial_shape(at, 0))

    def _grouped_flat(self) -> Operand:
        op = self.at.op
        return op.Concat(op.Mul(op.Shape(self.at.signal, end=1), [self.groups]), [-1], axis=0)

    def _places(self, k: int, counts: Signal) -> Signal:
        """Return where the filter would look along axis ``k``: (kernel, 1 or positions of that axis)."""
        op, window, n = self.at.op, self.window, len(self.window.kernel)
        stride, begin = window.strides[k], window.begins[k]
        if begin is None:
            raise self.at.unsupported("auto_pad with a size that is only known at run time")
        line = op.Range(np.int64(0), op.Gather(counts, np.int64(k)), np.int64(1))
        starts = op.Cast(op.Sub(op.Mul(line, np.int64(stride)), np.int64(begin)), to=op.elem_type)
        starts = op.Reshape(starts, [-1] + [1] * (n - 1 - k))
        inner = np.indices(window.kernel)[k].reshape(-1, *[1] * n) * window.dilations[k]
        return op.Add(inner.astype(op.dtype), starts)

    def transposed_filter(self) -> Signal:
        """Send the signal through the transposed filter to every place that the filter looked at."""
        at, op, filters = self.at, self.at.op, self.at.attr("group", 1)
        outputs, inputs = at.shape_of(1)[:2]
        channels = (inputs or 0) * filters
        weight = op.Reshape(at.input(1), [filters, (outputs or 0) // filters, (inputs or 0) * self._kernel])
        signal = op.Reshape(at.signal, [0, filters, (outputs or 0) // filters, -1])
        columns = op.MatMul(op.Transpose(weight, perm=[0, 2, 1]), signal)
        return op.Reshape(op.Reshape(columns, [0, channels, -1]), self._grouped(channels // self.groups))

    def offset_signal(self, sampling: Sampling, signal: Signal) -> Signal:
        """Return the signal of the offsets: how far the samples change as they move."""
        op, n = self.at.op, len(self.window.kernel)
        slopes = [
            op.ReduceSum(op.Mul(signal, sampling.slope(self.pixels, k)), [1], keepdims=0) for k in range(n)
        ]
        apart = [op.Reshape(s, [0, self._kernel, 1, -1]) for s in slopes]
        return self.at.reshape(op.Concat(*apart, axis=2), 2)
