"""Sums and means over axes: every position gets the signal, or an equal share of it."""

from math import prod

from onnx_deconv.emit import Signal
from onnx_deconv.rules.registry import Signals, rule
from onnx_deconv.rules.site import Site


@rule("ReduceSum")
def reduce_sum(at: Site) -> Signals:
    """Every term gets the signal."""
    return _spread(at, at.signal)


@rule("ReduceMean")
def reduce_mean(at: Site) -> Signals:
    """Spread: every position gets an equal share."""
    op, sizes = at.op, [at.shape_of(0)[axis] for axis in _axes(at)]
    if None not in sizes:
        return _spread(at, op.Mul(at.signal, 1.0 / prod(d or 1 for d in sizes)))
    count = op.ReduceProd(op.Gather(at.shape(0), _axes(at)), keepdims=0)
    return _spread(at, op.Div(at.signal, op.Cast(count, to=op.elem_type)))


def _axes(at: Site) -> list[int]:
    """Return the axes that are reduced: an attribute in old opsets, an input in new ones, else all."""
    rank = len(at.shape_of(0))
    axes = at.param("axes", 1)
    every = [] if at.attr("noop_with_empty_axes", 0) else range(rank)
    return sorted(axis % rank for axis in (axes or every))


def _spread(at: Site, signal: Signal) -> Signals:
    """Repeat a signal along the axes that the forward node reduced."""
    op, axes, shape = at.op, _axes(at), at.shape_of(0)
    if axes and not at.attr("keepdims", 1):
        signal = op.Unsqueeze(signal, axes)
    if all(shape[axis] is not None for axis in axes):
        # Expand leaves the other axes alone where it is told 1, also those of unknown size.
        signal = op.Expand(signal, [d if k in axes and d else 1 for k, d in enumerate(shape)])
    else:
        signal = op.Expand(signal, at.shape(0))
    return [signal, *[None] * (len(at.node.inputs) - 1)]
