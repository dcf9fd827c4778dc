"""Operators that move values about: each sends every value back to where it came from."""

import numpy as np

from onnx_deconv.emit import Operand, Signal
from onnx_deconv.rules.registry import Signals, rule
from onnx_deconv.rules.site import Site


@rule("Reshape", "Flatten", "Squeeze", "Unsqueeze")
def reshape(at: Site) -> Signals:
    """Takes the forward input's shape."""
    return [at.reshape(at.signal, 0), *[None] * (len(at.node.inputs) - 1)]


@rule("Transpose")
def transpose(at: Site) -> Signals:
    """The inverse permutation."""
    perm = at.attr("perm", list(range(len(at.shape_of(0))))[::-1])
    return [at.op.Transpose(at.signal, perm=[int(k) for k in np.argsort(perm)])]


@rule("Expand")
def expand(at: Site) -> Signals:
    """Summed over the axes along which it was repeated."""
    return [at.unbroadcast(at.signal, 0), None]


@rule("Slice")
def slice_(at: Site) -> Signals:
    """Put back where it was cut out of an empty tensor."""
    rank = len(at.shape_of(0))
    starts, ends = at.param("starts", 1), at.param("ends", 2)
    axes = [a % rank for a in at.param("axes", 3, list(range(len(starts))))]
    steps = at.param("steps", 4, [1] * len(starts))
    nothing = [None] * (len(at.node.inputs) - 1)
    sizes = [at.shape_of(0)[a] for a in axes]
    signal = at.signal
    if None in sizes or any(s != 1 for s in steps):
        for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
            signal = _put_back(at, signal, axis, (start, end, step))
        return [signal, *nothing]
    pads = np.zeros((2, rank), np.int64)
    for axis, start, end, size in zip(axes, starts, ends, sizes, strict=True):
        first, last, _ = slice(start, end).indices(size)
        pads[:, axis] = first, size - max(last, first)
    return [at.op.Pad(signal, pads.ravel()), *nothing]


def _put_back(at: Site, signal: Signal, axis: int, cut: tuple[int, int, int]) -> Signal:
    """Scatter the slices of one axis to where they were."""
    op, size = at.op, at.shape_of(0)[axis]
    if size is not None:
        positions: Operand = np.arange(size)[slice(*_python_slice(cut))]
    else:
        everywhere = op.Range(np.int64(0), op.Squeeze(at.size(0, axis)), np.int64(1))
        positions = op.Slice(everywhere, [cut[0]], [cut[1]], [0], [cut[2]])
    return scatter_axis(at, signal, axis, positions, at.size(0, axis))


def _python_slice(cut: tuple[int, int, int]) -> tuple[int, int | None, int]:
    """Return ONNX's start, end and step as Python reads them: an end far below zero means "to the front"."""
    start, end, step = cut
    return (start, None, step) if step < 0 and end < -(2**30) else cut


def scatter_axis(at: Site, signal: Signal, axis: int, positions: Operand, size: Operand) -> Signal:
    """Add a signal's slices along one axis to the given positions of an empty axis of the given size."""
    op, rank = at.op, len(at.shape_of(0))
    shape = op.Shape(signal)
    parts = [
        *([op.Slice(shape, [0], [axis], [0])] if axis else []),
        size,
        *([op.Slice(shape, [axis + 1], [rank], [0])] if axis + 1 < rank else []),
    ]
    whole = op.Concat(*parts, axis=0) if len(parts) > 1 else size
    column = op.Reshape(positions, [-1] + [1] * (rank - 1 - axis))
    return op.ScatterElements(
        op.filled(whole, 0.0), op.Expand(column, shape), signal, axis=axis, reduction="add"
    )


@rule("Pad")
def pad(at: Site) -> Signals:
    """Padding is cut off; what it mirrored or repeated is added to where it was taken from."""
    rank, mode = len(at.shape_of(0)), at.attr("mode", "constant")
    axes = [a % rank for a in at.param("axes", 3, list(range(rank)))]
    pads = at.param("pads", 1)
    signal = at.signal
    rest = [None] * (len(at.node.inputs) - 1)
    if mode == "constant":
        opposite = np.zeros((2, rank), np.int64)
        opposite[:, axes] = -np.reshape(pads, (2, -1))
        return [at.op.Pad(signal, opposite.ravel()), *rest]
    for axis, begin, end in zip(axes, pads[: len(axes)], pads[len(axes) :], strict=True):
        if begin or end:
            signal = _unmirror(at, signal, axis, (begin, end))
    return [signal, *rest]


def _unmirror(at: Site, signal: Signal, axis: int, pads: tuple[int, int]) -> Signal:
    """Add the padding of one axis to where it was taken from."""
    op, mode, size = at.op, at.attr("mode"), at.shape_of(0)[axis]
    if size is not None:
        numpy_mode = {"reflect": "reflect", "edge": "edge", "wrap": "wrap"}[mode]
        if min(pads) < 0:
            raise at.unsupported(f"negative pads with mode {mode}")
        positions: Operand = np.pad(np.arange(size), pads, numpy_mode)  # type: ignore[call-overload]
    elif mode == "wrap":
        raise at.unsupported("mode wrap with a size known only at run time")
    else:
        everywhere = op.Range(np.int64(0), op.Squeeze(at.size(0, axis)), np.int64(1))
        positions = op.Pad(everywhere, list(pads), mode=mode)
    return scatter_axis(at, signal, axis, positions, at.size(0, axis))


@rule("DepthToSpace")
def depth_to_space(at: Site) -> Signals:
    """Blocks of pixels become channels again."""
    n, block = at.attr("blocksize"), at.attr("mode", "DCR")
    channels, height, width = _sizes(at)
    out = channels // n**2
    split = at.op.Reshape(at.signal, [-1, out, height, n, width, n])
    perm = [0, 3, 5, 1, 2, 4] if block == "DCR" else [0, 1, 3, 5, 2, 4]
    return [at.reshape(at.op.Transpose(split, perm=perm), 0)]


@rule("SpaceToDepth")
def space_to_depth(at: Site) -> Signals:
    """Channels become blocks of pixels again: DepthToSpace."""
    return [at.op.DepthToSpace(at.signal, blocksize=at.attr("blocksize"))]


def _sizes(at: Site) -> tuple[int, int, int]:
    sizes = at.shape_of(0)[1:]
    if None in sizes:
        raise at.unsupported("a size that is only known at run time")
    channels, height, width = (d or 0 for d in sizes)
    return channels, height, width
