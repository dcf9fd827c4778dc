"""Operators with several inputs on the path: sums, products, concatenations."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from onnx_deconv.operators import axes, fields, numbers
from onnx_deconv.operators.builder import Signal
from onnx_deconv.operators.reduce import inverse
from onnx_deconv.operators.registry import operator
from onnx_deconv.operators.reshape import resized
from onnx_deconv.operators.site import Site
from onnx_deconv.operators.tables import Signals
from onnx_deconv.operators.traits import AFFINE, COMBINATION, JOIN, KEEPS_SIGN, LIMIT, PICK, POINTWISE, SUM


@operator("Add", "Sum", traits={POINTWISE, AFFINE, COMBINATION, KEEPS_SIGN, SUM}, evaluate=lambda *x: sum(x))
def add(at: Site) -> Signals:
    """Every term gets the signal."""
    return [at.unbroadcast(at.signal, i) if at.needs(i) else None for i in range(len(at.node.inputs))]


@operator("Sub", traits={POINTWISE, AFFINE, COMBINATION}, evaluate=lambda a, b: a - b)
def sub(at: Site) -> Signals:
    """The first term gets the signal, the second its negative."""
    return [
        at.unbroadcast(at.signal, 0) if at.needs(0) else None,
        at.unbroadcast(at.op.Neg(at.signal), 1) if at.needs(1) else None,
    ]


@operator("Mean", traits={POINTWISE, KEEPS_SIGN, SUM})
def mean(at: Site) -> Signals:
    """Every term gets an equal share of the signal."""
    n = len(at.node.inputs)
    share = at.op.Mul(at.signal, 1.0 / n)
    return [at.unbroadcast(share, i) if at.needs(i) else None for i in range(n)]


@operator("Mul", traits={POINTWISE, AFFINE, COMBINATION, KEEPS_SIGN}, evaluate=lambda a, b: a * b)
def mul(at: Site) -> Signals:
    """Each factor gets the signal times the other factor."""
    return [
        _times(at, at.input(1), 0) if at.needs(0) else None,
        _times(at, at.input(0), 1) if at.needs(1) else None,
    ]


@operator("Div", traits={POINTWISE, AFFINE, COMBINATION}, evaluate=numbers.divide)
def div(at: Site) -> Signals:
    """The numerator gets signal/b, the denominator -signal·a/b² (zero where b is, if it is computed)."""
    op = at.op
    if not at.needs(1):
        return [at.unbroadcast(op.Div(at.signal, at.input(1)), 0), None]
    share = op.Mul(at.signal, inverse(at, at.input(1)))
    ratio = op.Mul(at.input(0), inverse(at, at.input(1)))
    return [
        at.unbroadcast(share, 0) if at.needs(0) else None,
        at.unbroadcast(op.Neg(op.Mul(share, ratio)), 1),
    ]


@operator("Pow", traits={POINTWISE}, evaluate=np.power)
def power(at: Site) -> Signals:
    """The base gets the signal times b·x^(b-1) (zero where that is infinite)."""
    if at.needs(1):
        raise at.unsupported("its exponent depends on the explained input")
    op, exponent = at.op, at.input(1)
    slope = op.Mul(exponent, op.Pow(at.input(0), op.Sub(exponent, 1.0)))
    known = at.constant(1)
    if known is None or (known < 1).any():
        slope = op.Where(op.And(op.Equal(at.input(0), 0.0), op.Less(exponent, 1.0)), 0.0, slope)
    return [_times(at, slope, 0), None]


@operator(
    "Concat",
    traits={KEEPS_SIGN, JOIN},
    evaluate=numbers.concat,
    field=fields.concatenation,
    axes=axes.joining,
)
def concat(at: Site) -> Signals:
    """Every part gets its slice of the signal."""
    axis, n = at.axis(1), len(at.node.inputs)
    sizes = [at.shape_of(i)[axis] for i in range(n)]
    if n == 1:
        return [at.signal]
    run_time = None in sizes
    split = at.op.Concat(*[at.size(i, axis) for i in range(n)], axis=0) if run_time else sizes
    return list(at.op.Split(at.signal, split, axis=axis, outputs=n))


@operator("Split", traits={KEEPS_SIGN, PICK}, field=fields.splitting)
def split(at: Site) -> Signals:
    """The parts' signals are put side by side; a part without one is empty."""
    axis = at.axis()
    like = next(s for s in at.signals if s is not None)
    parts: list[Signal] = []
    for k, signal in enumerate(at.signals):
        size = at.shape_of_output(k)[axis]
        if signal is None and size is None:
            raise at.unsupported("an output that is not used has a size known only at run time")
        empty = signal is None
        parts.append(at.op.filled(resized(at, at.op.Shape(like), axis, [size]), 0.0) if empty else signal)
    return [at.op.Concat(*parts, axis=axis), *[None] * (len(at.node.inputs) - 1)]


@split.fault
def split_into(attributes: Mapping[str, Any], _: int, outputs: int) -> str | None:
    """Refuse a number of parts that is not the number of outputs."""
    parts = attributes.get("num_outputs", outputs)
    return None if parts == outputs else f"num_outputs={parts}, and {outputs} outputs"


@operator("Min", traits={POINTWISE, COMBINATION, LIMIT, KEEPS_SIGN}, evaluate=numbers.minimum)
@operator("Max", traits={POINTWISE, COMBINATION, LIMIT, KEEPS_SIGN}, evaluate=numbers.maximum)
def extremum(at: Site) -> Signals:
    """The signal goes to the operand that was taken, the first of equals."""
    op, last = at.op, len(at.node.inputs) - 1
    passed: list[Signal | None] = []
    rest = at.signal
    for i in range(last + 1):
        taken = op.Equal(at.input(i), at.output()) if i < last else None
        signal = rest if taken is None else op.Where(taken, rest, 0.0)
        rest = rest if taken is None else op.Where(taken, 0.0, rest)
        passed.append(at.unbroadcast(signal, i) if at.needs(i) else None)
    return passed


@operator("Where", traits={POINTWISE, COMBINATION, KEEPS_SIGN}, evaluate=numbers.where)
def where(at: Site) -> Signals:
    """Each branch gets the signal where it was taken."""
    op, condition = at.op, at.raw(0)
    return [
        None,
        at.unbroadcast(op.Where(condition, at.signal, 0.0), 1) if at.needs(1) else None,
        at.unbroadcast(op.Where(condition, 0.0, at.signal), 2) if at.needs(2) else None,
    ]


def _times(at: Site, factor: Signal, i: int) -> Signal:
    return at.unbroadcast(at.op.Mul(at.signal, factor), i)
