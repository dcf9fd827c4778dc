"""Operators that move values about: each sends every value back to where it came from."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from onnx_deconv.operators import axes as named
from onnx_deconv.operators import fields, numbers, shapes
from onnx_deconv.operators.builder import Operand, Signal
from onnx_deconv.operators.registry import operator
from onnx_deconv.operators.site import Site
from onnx_deconv.operators.tables import Signals
from onnx_deconv.operators.traits import GLOBAL, KEEPS_SIGN, PICK, REPEATS, VIEW


@operator("Flatten", traits={VIEW, GLOBAL}, axes=named.regrouped)
@operator("Unsqueeze", traits={VIEW}, evaluate=numbers.unsqueeze, field=fields.new_shape, axes=named.inserted)
@operator("Squeeze", traits={VIEW}, evaluate=numbers.squeeze, field=fields.new_shape, axes=named.removed)
@operator(
    "Reshape",
    traits={VIEW},
    evaluate=numbers.reshape,
    field=fields.new_shape,
    shape=shapes.reshape,
    axes=named.regrouped,
)
def reshape(at: Site) -> Signals:
    """Takes the forward input's shape."""
    return [at.reshape(at.signal, 0), *[None] * (len(at.node.inputs) - 1)]


@operator(
    "Transpose",
    traits={VIEW},
    evaluate=numbers.transpose,
    field=fields.permutation,
    axes=named.permutation,
)
def transpose(at: Site) -> Signals:
    """The inverse permutation."""
    perm = at.attr("perm", list(range(len(at.shape_of(0))))[::-1])
    return [at.op.Transpose(at.signal, perm=[int(k) for k in np.argsort(perm)])]


@operator(
    "Expand", traits={KEEPS_SIGN, REPEATS}, field=fields.pointwise, shape=shapes.expand, axes=named.pointwise
)
def expand(at: Site) -> Signals:
    """Summed over the axes along which it was repeated."""
    return [at.unbroadcast(at.signal, 0), None]


@operator("Slice", traits={KEEPS_SIGN, PICK}, evaluate=numbers.slice_, field=fields.slicing, shape=shapes.cut)
def slice_(at: Site) -> Signals:
    """Put back where it was cut out of an empty tensor."""
    rank, nothing = len(at.shape_of(0)), [None] * (len(at.node.inputs) - 1)
    starts, ends = _bound(at, "starts", 1), _bound(at, "ends", 2)
    known = ends if starts is None else starts
    count = at.shape_of(1)[0] or 0 if known is None else len(known)
    axes = [a % rank for a in at.param("axes", 3, list(range(count)))]
    steps = at.param("steps", 4, [1] * count)
    sizes = [at.shape_of(0)[a] for a in axes]
    signal = at.signal
    if starts is None or ends is None or None in sizes or any(s != 1 for s in steps):
        for k, axis in enumerate(axes):
            signal = scatter_axis(at, signal, axis, _cut(at, k, axis, steps[k]), at.size(0, axis))
        return [signal, *nothing]
    pads = np.zeros((2, rank), np.int64)
    for axis, start, end, size in zip(axes, starts, ends, sizes, strict=True):
        first, last, _ = slice(start, end).indices(size or 0)
        pads[:, axis] = first, (size or 0) - max(last, first)
    return [at.op.Pad(signal, pads.ravel()), *nothing]


def _bound(at: Site, name: str, i: int) -> list[int] | None:
    """Return a Slice's starts or ends; ``None`` where they are computed at run time."""
    if name in at.node.attrs:
        return list(at.attr(name))
    numbers = at.constant(i)
    return None if numbers is None else [int(n) for n in numbers]


def _cut(at: Site, k: int, axis: int, step: int) -> Signal:
    """Return the positions that the k-th cut took, by cutting the line of all positions likewise."""
    op = at.op
    line = op.Range(np.int64(0), op.Squeeze(at.size(0, axis)), np.int64(1))
    cut: list[Operand] = []
    for name, i in (("starts", 1), ("ends", 2)):
        bound = _bound(at, name, i)
        cut.append(op.Slice(at.raw(i), [k], [k + 1]) if bound is None else [bound[k]])
    return op.Slice(line, *[op.Cast(c, to=TensorProto.INT64) for c in cut], [0], [step])


def scatter_axis(at: Site, signal: Signal, axis: int, positions: Operand, size: Operand) -> Signal:
    """Add a signal's slices along one axis to the given positions of an empty axis of the given size."""
    op, rank = at.op, len(at.shape_of(0))
    shape = op.Shape(signal)
    whole = resized(at, shape, axis, size)
    column = op.Reshape(positions, [-1] + [1] * (rank - 1 - axis))
    return op.scatter_add(op.filled(whole, 0.0), op.Expand(column, shape), signal, axis)


def resized(at: Site, shape: Signal, axis: int, size: Operand) -> Signal:
    """Return a shape with another size along one axis, which is given as a 1-D value."""
    op, rank = at.op, len(at.shape_of(0))
    parts = [
        *([op.Slice(shape, [0], [axis], [0])] if axis else []),
        size,
        *([op.Slice(shape, [axis + 1], [rank], [0])] if axis + 1 < rank else []),
    ]
    return op.Concat(*parts, axis=0)


@operator("Pad", traits={KEEPS_SIGN}, field=fields.padding, shape=shapes.pad)
def pad(at: Site) -> Signals:
    """Padding is cut off; what it mirrored or repeated is added to where it was taken from."""
    rank, mode = len(at.shape_of(0)), at.attr("mode", "constant")
    axes = [a % rank for a in at.param("axes", 3, list(range(rank)))]
    signal = at.signal
    rest = [None] * (len(at.node.inputs) - 1)
    if mode == "constant" and "pads" not in at.node.attrs and at.constant(1) is None:
        return [at.op.Pad(signal, at.op.Neg(at.raw(1)), None, at.raw(3) if at.has(3) else None), *rest]
    pads = at.param("pads", 1)
    if mode == "constant":
        opposite = np.zeros((2, rank), np.int64)
        opposite[:, axes] = -np.reshape(pads, (2, -1))
        return [at.op.Pad(signal, opposite.ravel()), *rest]
    for axis, begin, end in zip(axes, pads[: len(axes)], pads[len(axes) :], strict=True):
        if begin or end:
            signal = _unmirror(at, signal, axis, (begin, end))
    return [signal, *rest]


def padded_alike(at: Site, value: Signal) -> Signal:
    """Pad another value of a Pad's input's shape as the node does, with zeros."""
    pads, axes = at.attr("pads"), [at.raw(3)] if at.has(3) else []
    return at.op.Pad(value, at.raw(1) if pads is None else pads, *([None, *axes] if axes else []))


def _unmirror(at: Site, signal: Signal, axis: int, pads: tuple[int, int]) -> Signal:
    """Add the padding of one axis to where it was taken from (negative padding cuts)."""
    begin, end = pads
    size = at.shape_of(0)[axis]
    if size is not None:
        positions: Operand = _mirrored(np.arange(-begin, size + end), size, at.attr("mode"))
        return scatter_axis(at, signal, axis, positions, [size])
    op, last = at.op, at.size(0, axis)
    line = op.Range(np.int64(-begin), op.Squeeze(op.Add(last, [end])), np.int64(1))
    match at.attr("mode"):
        case "wrap":
            positions = op.Mod(line, last)
        case "edge":
            positions = op.Min(op.Max(line, [0]), op.Sub(last, [1]))
        case _:
            period = op.Mul(op.Sub(last, [1]), [2])
            there = op.Mod(line, period)
            positions = op.Min(there, op.Sub(period, there))
    return scatter_axis(at, signal, axis, positions, last)


def _mirrored(line: NDArray[Any], size: int, mode: str) -> NDArray[Any]:
    """Return where each position of a padded axis takes its value from."""
    if mode == "wrap":
        return line % size
    if mode == "edge":
        return line.clip(0, size - 1)
    period = max(2 * (size - 1), 1)
    return np.minimum(line % period, period - line % period)


@operator("DepthToSpace", traits={KEEPS_SIGN}, field=fields.blocks_to_positions)
def depth_to_space(at: Site) -> Signals:
    """Blocks of pixels become channels again: SpaceToDepth."""
    op, n, channels = at.op, int(at.attr("blocksize")), at.shape_of(0)[1]
    blocks = op.SpaceToDepth(at.signal, blocksize=n)
    if at.attr("mode", "DCR") == "DCR":
        return [blocks]
    if channels is None:
        raise at.unsupported("the number of channels is only known at run time")
    # CRD: a channel's places in a block lie side by side, where SpaceToDepth has the channels so.
    apart = op.Reshape(blocks, [0, n * n, channels // n**2, -1])
    return [at.reshape(op.Transpose(apart, perm=[0, 2, 1, 3]), 0)]


@operator("SpaceToDepth", traits={KEEPS_SIGN}, field=fields.positions_to_blocks)
def space_to_depth(at: Site) -> Signals:
    """Channels become blocks of pixels again: DepthToSpace."""
    return [at.op.DepthToSpace(at.signal, blocksize=at.attr("blocksize"))]
