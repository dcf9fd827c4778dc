"""Functions of one value that are no rectifiers: the signal times the true derivative."""

import math
from collections.abc import Callable, Collection

import numpy as np

from onnx_deconv.operators import fields, numbers
from onnx_deconv.operators.builder import Signal
from onnx_deconv.operators.reduce import inverse
from onnx_deconv.operators.registry import Evaluate, operator
from onnx_deconv.operators.site import Site
from onnx_deconv.operators.tables import Signals
from onnx_deconv.operators.training import refuse_training
from onnx_deconv.operators.traits import (
    COMBINATION,
    DISCONTINUOUS,
    NONNEGATIVE,
    PICK,
    POINTWISE,
    PROBABILITY,
    SQUASHING,
    VIEW,
    Trait,
)

Derivative = Callable[[Site], Signal]


def derivative(
    name: str, traits: Collection[Trait], evaluate: Evaluate | None = None
) -> Callable[[Derivative], Derivative]:
    """Register a function that returns dy/dx as the rule "signal times derivative"."""

    def register(slope: Derivative) -> Derivative:
        def multiply(at: Site) -> Signals:
            return [at.op.Mul(at.signal, slope(at))]

        multiply.__doc__, multiply.__module__ = slope.__doc__, slope.__module__
        operator(name, traits=traits, evaluate=evaluate)(multiply)
        return slope

    return register


@derivative("Sigmoid", {POINTWISE, SQUASHING, PROBABILITY, NONNEGATIVE}, numbers.logistic)
def sigmoid(at: Site) -> Signal:
    """Scaled by y·(1 - y)."""
    return at.op.Mul(at.output(), at.op.Sub(1.0, at.output()))


@derivative("Tanh", {POINTWISE, SQUASHING}, np.tanh)
def tanh(at: Site) -> Signal:
    """Scaled by 1 - y²."""
    return at.op.Sub(1.0, at.op.Mul(at.output(), at.output()))


@derivative("HardSigmoid", {POINTWISE, SQUASHING, NONNEGATIVE}, numbers.hard_sigmoid)
def hard_sigmoid(at: Site) -> Signal:
    """Scaled by alpha between the bounds."""
    op, y = at.op, at.output()
    inside = op.And(op.Greater(y, 0.0), op.Less(y, 1.0))
    return op.Where(inside, float(at.attr("alpha", 0.2)), 0.0)


@derivative("Softsign", {POINTWISE, SQUASHING}, lambda x: x / (1 + np.abs(x)))
def softsign(at: Site) -> Signal:
    """Scaled by 1/(1 + |x|)²."""
    op = at.op
    root = op.Add(op.Abs(at.input(0)), 1.0)
    return op.Reciprocal(op.Mul(root, root))


@derivative("Exp", {POINTWISE, NONNEGATIVE}, np.exp)
def exp(at: Site) -> Signal:
    """Scaled by y."""
    return at.output()


@derivative("Log", {POINTWISE, COMBINATION}, np.log)
def log(at: Site) -> Signal:
    """Scaled by 1/x (zero where x is)."""
    return inverse(at, at.input(0))


@derivative("Sqrt", {POINTWISE, NONNEGATIVE}, np.sqrt)
def sqrt(at: Site) -> Signal:
    """Scaled by 1/(2y) (zero where y is)."""
    return at.op.Mul(inverse(at, at.output()), 0.5)


@derivative("Reciprocal", {POINTWISE, COMBINATION}, lambda x: 1 / x)
def reciprocal(at: Site) -> Signal:
    """Scaled by -1/x² (zero where x is)."""
    root = inverse(at, at.input(0))
    return at.op.Neg(at.op.Mul(root, root))


@derivative("Abs", {POINTWISE, NONNEGATIVE}, np.abs)
def absolute(at: Site) -> Signal:
    """Scaled by the sign of x."""
    return at.op.Sign(at.input(0))


@derivative("Erf", {POINTWISE}, numbers.error_function)
def erf(at: Site) -> Signal:
    """Scaled by (2/√π)·e^(-x²)."""
    op, x = at.op, at.input(0)
    return op.Mul(op.Exp(op.Neg(op.Mul(x, x))), 2 / math.sqrt(math.pi))


@derivative("Sin", {POINTWISE})
def sin(at: Site) -> Signal:
    """Scaled by cos x."""
    return at.op.Cos(at.input(0))


@derivative("Cos", {POINTWISE})
def cos(at: Site) -> Signal:
    """Scaled by -sin x."""
    return at.op.Neg(at.op.Sin(at.input(0)))


@operator("Neg", traits={POINTWISE, COMBINATION}, evaluate=np.negative)
def neg(at: Site) -> Signals:
    """Negated."""
    return [at.op.Neg(at.signal)]


@operator("Identity", "Dropout", traits={POINTWISE, VIEW}, evaluate=numbers.identity)
def identity(at: Site) -> Signals:
    """Passes unchanged (Dropout drops nothing at inference)."""
    refuse_training(at)
    return [at.signal, *[None] * (len(at.node.inputs) - 1)]


@operator("CastLike", traits={POINTWISE, VIEW})
@operator("Cast", traits={POINTWISE, VIEW}, evaluate=numbers.cast)
def cast(at: Site) -> Signals:
    """Passes unchanged: the companion computes in one type."""
    return [at.signal, *[None] * (len(at.node.inputs) - 1)]


@operator("Hardmax", traits={DISCONTINUOUS, PICK}, field=fields.softmax_axes)
@operator("Sign", traits={POINTWISE, DISCONTINUOUS}, evaluate=np.sign)
@operator("Round", traits={POINTWISE, DISCONTINUOUS}, evaluate=np.round)
@operator("Ceil", traits={POINTWISE, DISCONTINUOUS}, evaluate=np.ceil)
@operator("Floor", traits={POINTWISE, DISCONTINUOUS}, evaluate=np.floor)
def steps(at: Site) -> Signals:
    """Nothing passes: the derivative is zero almost everywhere."""
    return [None] * len(at.node.inputs)
