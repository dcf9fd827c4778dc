"""Elementwise operators on plain numbers: enough to tell what a few nodes compute."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Attributes = Mapping[str, Any]


def _logistic(x: Array) -> Array:
    return np.exp(-np.logaddexp(0, -x))


def _clip(at: Attributes, x: Array, low: Array | None = None, high: Array | None = None) -> Array:
    low = np.asarray(at.get("min", -np.inf)) if low is None else low
    high = np.asarray(at.get("max", np.inf)) if high is None else high
    return np.minimum(np.maximum(x, low), high)


def _leaky(x: Array, slope: Array | float) -> Array:
    return np.where(x > 0, x, slope * x)


def _exponential(x: Array, alpha: float, gamma: float = 1.0, scale: float = 1.0) -> Array:
    return gamma * np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0) / scale))


def error_function(x: Array) -> Array:
    """Return erf(x) to double precision."""
    return np.vectorize(math.erf, otypes=[np.float64])(x)


EVALUATE: Mapping[str, Callable[..., Any]] = {
    "Abs": lambda _, x: np.abs(x),
    "Add": lambda _, a, b: a + b,
    "And": lambda _, a, b: np.logical_and(a, b),
    "Cast": lambda _, x: x,
    "Celu": lambda at, x: _exponential(x, at.get("alpha", 1.0), scale=at.get("alpha", 1.0)),
    "Clip": _clip,
    "DequantizeLinear": lambda _, x, *__: x,
    "Div": lambda _, a, b: a / b,
    "Elu": lambda at, x: _exponential(x, at.get("alpha", 1.0)),
    "Equal": lambda _, a, b: a == b,
    "Erf": lambda _, x: error_function(x),
    "Exp": lambda _, x: np.exp(x),
    "Greater": lambda _, a, b: a > b,
    "GreaterOrEqual": lambda _, a, b: a >= b,
    "HardSigmoid": lambda at, x: np.clip(at.get("alpha", 0.2) * x + at.get("beta", 0.5), 0, 1),
    "Identity": lambda _, x: x,
    "LeakyRelu": lambda at, x: _leaky(x, at.get("alpha", 0.01)),
    "Less": lambda _, a, b: a < b,
    "LessOrEqual": lambda _, a, b: a <= b,
    "Log": lambda _, x: np.log(x),
    "Max": lambda _, *x: np.maximum.reduce(np.broadcast_arrays(*x)),
    "Min": lambda _, *x: np.minimum.reduce(np.broadcast_arrays(*x)),
    "Mul": lambda _, a, b: a * b,
    "Neg": lambda _, x: -x,
    "Not": lambda _, x: np.logical_not(x),
    "Or": lambda _, a, b: np.logical_or(a, b),
    "PRelu": lambda _, x, slope: _leaky(x, slope),
    "Pow": lambda _, a, b: np.power(a, b),
    "QuantizeLinear": lambda _, x, *__: x,
    "Reciprocal": lambda _, x: 1 / x,
    "Relu": lambda _, x: np.maximum(x, 0),
    "Selu": lambda at, x: _exponential(
        x, at.get("alpha", 1.6732631921768188), at.get("gamma", 1.0507010221481323)
    ),
    "Sigmoid": lambda _, x: _logistic(x),
    "Sign": lambda _, x: np.sign(x),
    "Softplus": lambda _, x: np.logaddexp(0, x),
    "Softsign": lambda _, x: x / (1 + np.abs(x)),
    "Sqrt": lambda _, x: np.sqrt(x),
    "Sub": lambda _, a, b: a - b,
    "Sum": lambda _, *x: sum(x),
    "Swish": lambda at, x: x * _logistic(at.get("alpha", 1.0) * x),
    "Tanh": lambda _, x: np.tanh(x),
    "ThresholdedRelu": lambda at, x: np.where(x > at.get("alpha", 1.0), x, 0),
    "Where": lambda _, c, a, b: np.where(c != 0, a, b),
}
"""Operator to function of (attributes, *inputs); quantisers round nothing, casts change nothing."""
