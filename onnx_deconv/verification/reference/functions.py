"""Functions of one number that are no rectifiers: their true derivatives.

A smooth one needs no row, see :mod:`.slopes`. These have one as their derivative jumps or is infinite
somewhere, or as networks compute them so often that differences are too slow.
"""

import math

import numpy as np

from onnx_deconv.verification.reference.activations import derivative_of
from onnx_deconv.verification.reference.graph import Array
from onnx_deconv.verification.reference.signals import inverse
from onnx_deconv.verification.reference.visit import Visit


@derivative_of("Sigmoid")
def sigmoid(at: Visit, _: Array) -> Array:
    """Sigmoid: s = 1 / (1 + e⁻ˣ), so s·(1 - s)."""
    s = _own(at)
    return s * (1.0 - s)


@derivative_of("HardSigmoid")
def hard_sigmoid(at: Visit, x: Array) -> Array:
    """HardSigmoid: min(max(alpha·x + beta, 0), 1)."""
    alpha, line = at.real("alpha", 0.2), at.real("alpha", 0.2) * x + at.real("beta", 0.5)
    return np.where((line > 0) & (line < 1), alpha, 0.0)


@derivative_of("Tanh")
def tanh(at: Visit, _: Array) -> Array:
    """Tanh: 1 - tanh²."""
    return 1.0 - _own(at) ** 2


@derivative_of("Erf")
def erf(_: Visit, x: Array) -> Array:
    """Erf: 2/√π·e^(-x²)."""
    return 2 / math.sqrt(math.pi) * np.exp(-(x**2))


@derivative_of("Exp")
def exp(_: Visit, x: Array) -> Array:
    """Exp: eˣ."""
    return np.exp(x)


@derivative_of("Log")
def log(_: Visit, x: Array) -> Array:
    """Log: 1/x, 0 at 0."""
    return inverse(x)


@derivative_of("Sqrt")
def sqrt(_: Visit, x: Array) -> Array:
    """Sqrt: ½/√x, 0 at 0."""
    return 0.5 * inverse(np.sqrt(x))


@derivative_of("Reciprocal")
def reciprocal(_: Visit, x: Array) -> Array:
    """Reciprocal: -1/x², 0 at 0."""
    return -(inverse(x) ** 2)


@derivative_of("Abs")
def absolute(_: Visit, x: Array) -> Array:
    """Abs: the sign, 0 at 0."""
    return np.sign(x)


@derivative_of("Neg")
def negative(_: Visit, x: Array) -> Array:
    """Neg: -1."""
    return -np.ones_like(x)


@derivative_of("Sign", "Floor", "Ceil", "Round", "Hardmax")
def staircase(_: Visit, x: Array) -> Array:
    """Sign, Floor, Ceil, Round, Hardmax: constant almost everywhere."""
    return np.zeros_like(x)


@derivative_of("Affine")
def affine(at: Visit, x: Array) -> Array:
    """Affine: alpha·x + beta (of ONNX before 1.0, still in old exports)."""
    return np.full_like(x, at.real("alpha", 1.0))


@derivative_of("ImageScaler")
def image_scaler(at: Visit, x: Array) -> Array:
    """ImageScaler: scale·x + bias[c] (of ONNX before 1.0, still in old exports)."""
    return np.full_like(x, at.real("scale", 1.0))


def _own(at: Visit) -> Array:
    """Return the model's own result: of what is nearly at a bound onnxruntime's rest is a percent off."""
    return at.graph.value(at.node.output[0]).astype(np.float64)
