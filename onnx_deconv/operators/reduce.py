"""Reductions over axes: sums and norms spread their signal, a maximum sends it to where it was found."""

from collections.abc import Sequence
from math import prod

from onnx_deconv.operators import numbers
from onnx_deconv.operators.builder import Operand, Signal
from onnx_deconv.operators.registry import operator
from onnx_deconv.operators.site import Site
from onnx_deconv.operators.tables import Signals
from onnx_deconv.operators.traits import KEEPS_SIGN, NONNEGATIVE, PICK, REDUCTION, SUM


@operator("ReduceSum", traits={REDUCTION, KEEPS_SIGN, SUM}, evaluate=numbers.reduced(sum))
def reduce_sum(at: Site) -> Signals:
    """Every term gets the signal."""
    return _only(at, repeated(at, at.signal))


@operator("ReduceMean", traits={REDUCTION, KEEPS_SIGN, SUM})
def reduce_mean(at: Site) -> Signals:
    """Spread: every position gets an equal share."""
    return _only(at, repeated(at, divided(at, at.signal, axes_of(at))))


@operator("ReduceL1", traits={REDUCTION, NONNEGATIVE})
def reduce_l1(at: Site) -> Signals:
    """Scaled by the sign of x."""
    return _only(at, at.op.Mul(kept(at, at.signal), at.op.Sign(at.input(0))))


@operator("ReduceL2", traits={REDUCTION, NONNEGATIVE})
def reduce_l2(at: Site) -> Signals:
    """Scaled by x/y (zero where y is)."""
    return _only(at, at.op.Mul(kept(at, over(at, at.signal, at.output())), at.input(0)))


@operator("ReduceSumSquare", traits={REDUCTION, NONNEGATIVE})
def reduce_sum_square(at: Site) -> Signals:
    """Scaled by 2x."""
    return _only(at, at.op.Mul(kept(at, at.op.Mul(at.signal, 2.0)), at.input(0)))


@operator("ReduceLogSum", traits={REDUCTION})
def reduce_log_sum(at: Site) -> Signals:
    """Scaled by 1/Σx = 1/e^y (zero where the sum is)."""
    op = at.op
    return _only(at, repeated(at, op.Mul(at.signal, inverse(at, op.Exp(at.output())))))


@operator("ReduceLogSumExp", traits={REDUCTION})
def reduce_log_sum_exp(at: Site) -> Signals:
    """Scaled by e^(x-y), the softmax."""
    op = at.op
    softmax = op.Exp(op.Sub(at.input(0), kept(at, at.output())))
    return _only(at, op.Mul(kept(at, at.signal), softmax))


@operator("ReduceProd", traits={REDUCTION, KEEPS_SIGN}, evaluate=numbers.reduced(prod))
def reduce_prod(at: Site) -> Signals:
    """Scaled by the product of the others."""
    op, x, axes = at.op, at.input(0), axes_of(at)
    zero = op.Equal(x, 0.0)
    factors = op.Where(zero, 1.0, x)
    product, zeros = op.ReduceProd(factors, axes), op.ReduceSum(op.Cast(zero, to=op.elem_type), axes)
    # A zero's others are the product without it, if it is the only one; theirs is zero then.
    others = op.Where(op.Equal(zeros, 0.0), op.Div(product, factors), 0.0)
    alone = op.Where(op.And(zero, op.Equal(zeros, 1.0)), product, others)
    return _only(at, op.Mul(kept(at, at.signal), alone))


@operator("ReduceMax", traits={REDUCTION, KEEPS_SIGN, PICK}, evaluate=numbers.reduced(max))
def reduce_max(at: Site) -> Signals:
    """The signal goes to the first maximum."""
    return _only(at, _placed(at, "ArgMax"))


@operator("ReduceMin", traits={REDUCTION, KEEPS_SIGN, PICK}, evaluate=numbers.reduced(min))
def reduce_min(at: Site) -> Signals:
    """The signal goes to the first minimum."""
    return _only(at, _placed(at, "ArgMin"))


def axes_of(at: Site) -> list[int]:
    """Return the axes that are reduced: an attribute in old opsets, an input in new ones, else all."""
    rank = len(at.shape_of(0))
    axes = at.param("axes", 1)
    every = [] if at.attr("noop_with_empty_axes", 0) else range(rank)
    return sorted(axis % rank for axis in (axes or every))


def divided(at: Site, signal: Signal, axes: Sequence[int]) -> Signal:
    """Divide a signal by the number of the input's elements along some axes."""
    op, sizes = at.op, [at.shape_of(0)[axis] for axis in axes]
    if None not in sizes:
        return op.Mul(signal, 1.0 / prod(d or 1 for d in sizes))
    return op.Div(signal, op.count(at.shape(0), [axis % len(at.shape_of(0)) for axis in axes]))


def over(at: Site, signal: Signal, norm: Signal) -> Signal:
    """Divide a signal by a norm; zero where the norm is."""
    op = at.op
    nothing = op.Equal(norm, 0.0)
    return op.Where(nothing, 0.0, op.Div(signal, op.Where(nothing, 1.0, norm)))


def inverse(at: Site, value: Signal) -> Signal:
    """Return 1/value; zero where the value is, since no number is infinity times zero."""
    op = at.op
    nothing = op.Equal(value, 0.0)
    return op.Where(nothing, 0.0, op.Reciprocal(op.Where(nothing, 1.0, value)))


def _only(at: Site, signal: Signal) -> Signals:
    return [signal, *[None] * (len(at.node.inputs) - 1)]


def kept(at: Site, value: Signal) -> Signal:
    """Give a value of the output's shape the reduced axes back, of size 1."""
    axes = axes_of(at)
    return at.op.Unsqueeze(value, axes) if axes and not at.attr("keepdims", 1) else value


def repeated(at: Site, signal: Signal) -> Signal:
    """Repeat a signal along the axes that the forward node reduced."""
    op, axes, shape = at.op, axes_of(at), at.shape_of(0)
    signal = kept(at, signal)
    if all(shape[axis] is not None for axis in axes):
        # Expand leaves the other axes alone where it is told 1, also those of unknown size.
        return op.Expand(signal, [d if k in axes and d else 1 for k, d in enumerate(shape)])
    return op.Expand(signal, at.shape(0))


def _placed(at: Site, search: str) -> Signal:
    """Place the signal at the first extremum over the axes, which are made one, the last."""
    op, axes, rank = at.op, axes_of(at), len(at.shape_of(0))
    if not axes:
        return at.signal
    order = [a for a in range(rank) if a not in axes] + axes
    moved = op.Transpose(at.input(0), perm=order)
    line: Operand = [*[0] * (rank - len(axes)), -1]
    flat = op.Reshape(moved, line)
    signal = op.Reshape(op.Transpose(kept(at, at.signal), perm=order), line)
    first = getattr(op, search)(flat, axis=-1)
    placed = op.ScatterElements(op.filled(op.Shape(flat), 0.0), first, signal, axis=-1)
    return op.Transpose(op.Reshape(placed, op.Shape(moved)), perm=[order.index(a) for a in range(rank)])
