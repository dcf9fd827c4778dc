"""Pools: a maximum sends its signal to where it was found, an average spreads it."""

from math import prod

import numpy as np
import onnx_graphsurgeon as gs

from onnx_deconv.operators import fields, shapes
from onnx_deconv.operators.builder import Operand, Signal
from onnx_deconv.operators.reduce import over
from onnx_deconv.operators.registry import operator
from onnx_deconv.operators.site import Site
from onnx_deconv.operators.tables import Signals
from onnx_deconv.operators.traits import GLOBAL, NONNEGATIVE, PLACEMENT, POOL, SWITCHES
from onnx_deconv.operators.window import Window, channels_of, impossible, spatial_shape, windows


@operator("MaxPool", traits={POOL, SWITCHES}, field=fields.window)
def max_pool(at: Site) -> Signals:
    """Unpool: the signal goes where the switches say; where windows overlap, signals add up."""
    return [unpool(at, at.switches(), at.batch_shape(0), by_column=at.attr("storage_order", 0) == 1)]


max_pool.fault(impossible)


def unpool(at: Site, switches: Signal, shape: Operand, *, by_column: bool) -> Signal:
    """Place a signal at positions, flat over each image, of an otherwise empty tensor of the given shape."""
    op, n = at.op, len(at.shape_of(0)) - 2
    backwards = [0, 1, *range(n + 1, 1, -1)]
    if by_column:
        shape = [shape[k] for k in backwards] if isinstance(shape, list) else op.Gather(shape, backwards)
    if at.semantics.unpool == "overwrite":
        placed = _overwritten(at, switches, shape)
    else:
        # MaxUnpool keeps the last of several signals for one position and has no CUDA kernel. All is done in
        # float32: the CPU provider cannot add float16, and passes find it in this form.
        wide = op.filled(shape, 0.0, np.float32), switches, op.widened(at.signal)
        added = op.ScatterElements(*map(op.Flatten, wide), axis=1, reduction="add")
        placed = op.narrowed(op.Reshape(added, shape))
    return op.Transpose(placed, perm=backwards) if by_column else placed


def _overwritten(at: Site, switches: Signal, shape: Operand) -> Signal:
    """Place a signal by MaxUnpool, which keeps the last of several for one position."""
    op, sizes, counts = at.op, at.shape_of(0)[2:], at.shape_of_output()[2:]
    switches = _over_the_batch(at, switches, shape)
    if None in sizes or prod(d or 1 for d in counts) <= prod(d or 1 for d in sizes):
        # A kernel of 1 infers the smallest output, which MaxUnpool lets be replaced by any larger.
        ones = [1] * len(sizes)
        return op.MaxUnpool(at.signal, switches, shape, kernel_shape=ones, strides=ones)
    # It refuses more windows than positions (padding), so all is laid out in a line that is long enough.
    line = [op.Reshape(value, [1, 1, -1]) for value in (at.signal, switches)]
    total = op.ReduceProd(op.Concat(shape, axis=0))
    longer = op.Concat([1, 1], op.Add(total, op.Size(at.signal)), axis=0)
    placed = op.MaxUnpool(*line, longer, kernel_shape=[1], strides=[1])
    return op.Reshape(op.Slice(placed, [0], total, [2]), shape)


def _over_the_batch(at: Site, switches: Signal, shape: Operand) -> Signal:
    """Count switches from the first position of the batch, not of each image."""
    op = at.op
    shape = op.Concat(shape, axis=0)
    number = op.Squeeze(op.Slice(shape, [0], [1], [0]))
    size = op.ReduceProd(op.Slice(shape, [1], [len(at.shape_of(0))], [0]))
    starts = op.Mul(op.Range(np.int64(0), number, np.int64(1)), size)
    return op.Add(switches, op.Reshape(starts, [-1] + [1] * (len(at.shape_of(0)) - 1)))


@operator("AveragePool", traits={POOL}, field=fields.window)
def average_pool(at: Site) -> Signals:
    """Spread: each window hands its share of the signal to all its positions."""
    window = Window.of(at, ())
    return [spread(at, window, _shared(at, window))]


average_pool.fault(impossible)


def _shared(at: Site, window: Window) -> Signal:
    """Divide the signal by the number of positions that each forward window averaged."""
    inside = not at.attr("count_include_pad", 0)
    padded = inside and any(b != 0 for b in (*window.begins, *window.ends))
    left = [window.left_over(k) for k in range(len(window.kernel))]
    hangs = window.ceil and any(d is None or d < 0 for d in left)
    if not padded and not hangs:
        return at.op.Mul(at.signal, 1.0 / prod(window.kernel))
    counts = _static_counts(window, inside=inside)
    if counts is not None:
        return at.op.Div(at.signal, np.asarray(counts, at.op.dtype))
    return at.op.Div(at.signal, _run_time_counts(at, window, inside=inside))


def _run_time_counts(at: Site, window: Window, *, inside: bool) -> Signal:
    """Count the positions that each window averaged by a filter of ones over a picture of ones.

    The picture is zero where positions do not count: beyond the padding, and in it unless included.
    """
    op, n = at.op, len(window.kernel)
    ones = op.ones(op.Concat([1, 1], spatial_shape(at, 0), axis=0))
    kernel = op.ones([1, 1, *window.kernel])
    same = {"strides": window.strides, "dilations": window.dilations}
    if None in window.begins:
        return op.Conv(ones, kernel, auto_pad=at.attr("auto_pad"), **same)
    begins, ends = list(window.begins), list(window.ends)
    if not inside:
        ones = op.Pad(ones, [0, 0, *begins, 0, 0, *ends], 1.0)
        begins, ends = [0] * n, [0] * n
    # A window hanging over the edge reaches less than a stride further (ceil_mode).
    spare = [(e or 0) + s - 1 for e, s in zip(ends, window.strides, strict=True)]
    counts = op.Conv(ones, kernel, pads=[*begins, *spare], **same)
    sizes = op.Slice(op.Shape(at.signal), [2], [n + 2], [0])
    return op.Slice(counts, [0] * n, sizes, at.spatial_axes())


def window_sums(at: Site, window: Window, value: Signal) -> Signal:
    """Sum a value of the forward input's shape over each window, padding left out."""
    op, n, channels = at.op, len(window.kernel), channels_of(at)
    kernel = op.ones([channels, 1, *window.kernel])
    same = {"strides": window.strides, "dilations": window.dilations, "group": channels}
    if None in window.begins:
        return op.Conv(value, kernel, auto_pad=at.attr("auto_pad"), **same)
    ends = [e or 0 for e in window.ends]
    if not window.ceil:
        return op.Conv(value, kernel, pads=[*window.begins, *ends], **same)
    spare = [e + s - 1 for e, s in zip(ends, window.strides, strict=True)]
    sums = op.Conv(value, kernel, pads=[*window.begins, *spare], **same)
    return op.Slice(sums, [0] * n, op.Slice(op.Shape(at.signal), [2], [n + 2], [0]), at.spatial_axes())


def _static_counts(
    window: Window, *, inside: bool
) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]] | None:
    """Count the positions that each window averaged: shape (1, 1, *windows), or None if not known."""
    counts = np.ones(())
    for k, size in enumerate(window.sizes):
        begin, end = window.begins[k], window.ends[k]
        if size is None or begin is None or end is None:
            return None
        low, high = (begin, begin + size) if inside else (0, begin + size + end)
        number = windows(begin + size + end, window, k, begin)
        at = np.arange(number)[:, None] * window.strides[k]
        position = at + np.arange(window.kernel[k])[None] * window.dilations[k]
        counts = np.multiply.outer(counts, ((position >= low) & (position < high)).sum(1))
    return counts[None, None]


def spread(at: Site, window: Window, share: Signal) -> Signal:
    """Hand each window's share to all its positions: a transposed filter of ones per channel."""
    channels = channels_of(at)
    ones = at.op.ones([channels, 1, *window.kernel])
    same = {"dilations": window.dilations, "group": channels, "kernel_shape": window.kernel}
    return window.transpose(at, share, ones, **same)


@operator("GlobalAveragePool", traits={POOL, GLOBAL})
def global_average_pool(at: Site) -> Signals:
    """Spread: every position gets an equal share."""
    op, sizes = at.op, at.shape_of(0)[2:]
    if None not in sizes:
        share = op.Mul(at.signal, 1.0 / prod(d or 1 for d in sizes))
        return [op.Expand(share, [1, 1, *sizes])]
    count = op.count(at.shape(0), range(2, 2 + len(sizes)))
    return [op.Expand(op.Div(at.signal, count), at.shape(0))]


@operator("GlobalMaxPool", traits={POOL, GLOBAL})
def global_max_pool(at: Site) -> Signals:
    """The signal goes to the first maximum of each channel."""
    op, x = at.op, at.input(0)
    flat = op.Reshape(x, [0, 0, -1])
    first = op.ArgMax(flat, axis=2)
    empty = op.filled(op.Shape(flat), 0.0)
    signal = op.Reshape(at.signal, [0, 0, -1])
    return [at.reshape(op.ScatterElements(empty, first, signal, axis=2), 0)]


@operator("LpPool", traits={POOL, NONNEGATIVE}, field=fields.window)
def lp_pool(at: Site) -> Signals:
    """Each window hands its positions the signal times sign(x)·(|x|/y)^(p-1)."""
    op, p, y = at.op, at.attr("p", 2), at.output()
    share = at.signal if p == 1 else over(at, at.signal, y if p == 2 else op.Pow(y, float(p - 1)))  # noqa: PLR2004
    return [op.Mul(spread(at, Window.of(at, ()), share), _power_slope(at, at.input(0), p))]


lp_pool.fault(impossible)


@operator("GlobalLpPool", traits={POOL, GLOBAL, NONNEGATIVE})
def global_lp_pool(at: Site) -> Signals:
    """Each position gets the signal times sign(x)·(|x|/y)^(p-1)."""
    op, p = at.op, at.attr("p", 2)
    return [op.Mul(at.signal, _power_slope(at, over(at, at.input(0), at.output()), p))]


def _power_slope(at: Site, x: Signal, p: int) -> Signal:
    """Return sign(x)·|x|^(p-1), the derivative of |x|^p/p."""
    op = at.op
    if p == 2:  # noqa: PLR2004
        return x
    return op.Sign(x) if p == 1 else op.Mul(op.Sign(x), op.Pow(op.Abs(x), float(p - 1)))


@operator("MaxUnpool", traits={PLACEMENT}, shape=shapes.max_unpool)
def max_unpool(at: Site) -> Signals:
    """Each value's signal is read back from where it was put; of several at one place, the last has it."""
    op, places = at.op, at.op.Reshape(at.raw(1), [-1])
    signal = op.Reshape(at.signal, [-1])
    flat = op.Gather(signal, places)
    kernel = at.attr("kernel_shape")
    if any(k > s for k, s in zip(kernel, at.attr("strides", [1] * len(kernel)), strict=True)):
        order = op.Range(np.int64(0), op.Size(places), np.int64(1))
        nobody = op.ConstantOfShape(op.Shape(signal), value=gs.Constant("value", np.full(1, -1, np.int64)))
        last = op.ScatterElements(nobody, places, order, axis=0, reduction="max")
        flat = op.Where(op.Equal(op.Gather(last, places), order), flat, 0.0)
    return [at.reshape(flat, 0), *[None] * (len(at.node.inputs) - 1)]
