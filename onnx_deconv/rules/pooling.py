"""Pools: a maximum sends its signal to where it was found, an average spreads it."""

from math import prod

import numpy as np

from onnx_deconv.emit import Operand, Signal
from onnx_deconv.rules.registry import Signals, rule
from onnx_deconv.rules.site import Site
from onnx_deconv.rules.window import Window


@rule("MaxPool")
def max_pool(at: Site) -> Signals:
    """Unpool: the signal goes where the switches say; where windows overlap, signals add up."""
    return [unpool(at, at.switches(), at.batch_shape(0), by_column=at.attr("storage_order", 0) == 1)]


def unpool(at: Site, switches: Signal, shape: Operand, *, by_column: bool) -> Signal:
    """Place a signal at flat positions of an otherwise empty tensor of the given shape."""
    op, n = at.op, len(at.shape_of(0)) - 2
    backwards = [0, 1, *range(n + 1, 1, -1)]
    if by_column:
        shape = [shape[k] for k in backwards] if isinstance(shape, list) else op.Gather(shape, backwards)
    if at.semantics.unpool == "overwrite":
        # A kernel of 1 infers the smallest output, which MaxUnpool lets be replaced by any larger.
        ones = [1] * n
        placed = op.MaxUnpool(at.signal, switches, shape, kernel_shape=ones, strides=ones)
    else:
        # MaxUnpool keeps the last of several signals for one position and has no CUDA kernel.
        empty = op.Reshape(op.filled(shape, 0.0), [-1])
        flat = op.Reshape(switches, [-1]), op.Reshape(at.signal, [-1])
        placed = op.Reshape(op.ScatterElements(empty, *flat, reduction="add"), shape)
    return op.Transpose(placed, perm=backwards) if by_column else placed


@rule("AveragePool")
def average_pool(at: Site) -> Signals:
    """Spread: each window hands its share of the signal to all its positions."""
    window = Window.of(at, ())
    return [_spread(at, window, _shared(at, window))]


def _shared(at: Site, window: Window) -> Signal:
    """Divide the signal by the number of positions that each forward window averaged."""
    op, n = at.op, len(window.kernel)
    inside = not at.attr("count_include_pad", 0)
    hangs = [window.left_over(k) is None or (window.left_over(k) or 0) < 0 for k in range(n)]
    padded = inside and any(b != 0 for b in (*window.begins, *window.ends))
    if not padded and not any(hangs):
        return op.Mul(at.signal, 1.0 / prod(window.kernel))
    counts = _static_counts(window, inside=inside)
    if counts is not None:
        return op.Div(at.signal, np.asarray(counts, op.dtype))
    # The pool of a picture of ones that is zero in the padding tells each window's share.
    if not inside:
        raise at.unsupported("ceil_mode with count_include_pad and a size known only at run time")
    attributes = {k: at.attr(k) for k in ("kernel_shape", "strides", "dilations", "pads", "auto_pad")}
    if attributes.pop("dilations") not in (None, [1] * n):
        raise at.unsupported("dilations with a size known only at run time")
    ones = op.ones(op.Concat([1, 1], op.Slice(at.shape(0), [2], [n + 2], [0]), axis=0))
    included = {**attributes, "ceil_mode": int(window.ceil), "count_include_pad": 1}
    if window.ceil:
        raise at.unsupported("ceil_mode with a size known only at run time")
    return op.Div(at.signal, op.Mul(op.AveragePool(ones, **included), float(prod(window.kernel))))


def _static_counts(
    window: Window, *, inside: bool
) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]] | None:
    """Count the positions that each window averaged: shape (1, 1, *windows), or None if not known."""
    from onnx_deconv.rules.window import windows  # noqa: PLC0415

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


def _spread(at: Site, window: Window, share: Signal) -> Signal:
    """Hand each window's share to all its positions: a transposed filter of ones per channel."""
    channels = at.shape_of(0)[1]
    if channels is None:
        raise at.unsupported("the number of channels is only known at run time")
    ones = at.op.ones([channels, 1, *window.kernel])
    same = {"dilations": window.dilations, "group": channels, "kernel_shape": window.kernel}
    return window.transpose(at, share, ones, **same)


@rule("GlobalAveragePool")
def global_average_pool(at: Site) -> Signals:
    """Spread: every position gets an equal share."""
    op, sizes = at.op, at.shape_of(0)[2:]
    if None not in sizes:
        share = op.Mul(at.signal, 1.0 / prod(d or 1 for d in sizes))
        return [op.Expand(share, [1, 1, *sizes])]
    count = op.Cast(op.ReduceProd(op.Slice(at.shape(0), [2], [2 + len(sizes)], [0])), to=op.elem_type)
    return [op.Expand(op.Div(at.signal, count), at.shape(0))]


@rule("GlobalMaxPool")
def global_max_pool(at: Site) -> Signals:
    """The signal goes to the first maximum of each channel."""
    op, x = at.op, at.input(0)
    flat = op.Reshape(x, [0, 0, -1])
    first = op.ArgMax(flat, axis=2)
    empty = op.filled(op.Shape(flat), 0.0)
    signal = op.Reshape(at.signal, [0, 0, -1])
    return [at.reshape(op.ScatterElements(empty, first, signal, axis=2), 0)]
