"""Activations: rectified as section 2.1 has it, or sent back by their true derivative."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_deconv.verification.reference.graph import Array
from onnx_deconv.verification.reference.table import of_first_input
from onnx_deconv.verification.reference.visit import Visit

Derivative = Callable[[Visit, Array], Array]

RECTIFIERS = frozenset(
    {
        "Relu",
        "LeakyRelu",
        "PRelu",
        "ThresholdedRelu",
        "Elu",
        "Selu",
        "Celu",
        "Softplus",
        "Swish",
        "HardSwish",
        "Gelu",
        "Mish",
    }
)
"""The activations that a deconvnet inverts by rectifying the signal; a Clip from 0 is another."""

DERIVATIVES: dict[str, Derivative] = {}
"""From an activation to the function that gives its derivative at the forward input x."""


def derivative_of(*operators: str) -> Callable[[Derivative], Derivative]:
    """Enter an elementwise function, by its derivative, into both tables."""

    def enter(function: Derivative) -> Derivative:
        DERIVATIVES.update(dict.fromkeys(operators, function))
        return function

    of_first_input(*operators)(activation)
    return enter


def activation(at: Visit) -> Array:
    """Return the rectified signal (section 2.1), or the signal times the true derivative."""
    if is_rectifier(at):
        return rectified(at, at.raw(0))
    return at.signal * DERIVATIVES[at.operator](at, at.x())


def is_rectifier(at: Visit) -> bool:
    """Whether the options make a rectifier of this activation."""
    if at.options.rules == "gradient":
        return False
    if at.options.activations == "relu":
        return at.operator == "Relu"
    return at.operator in RECTIFIERS or (at.operator == "Clip" and clip_bounds(at)[0] == 0)


def rectified(at: Visit, x: NDArray[Any]) -> Array:
    """Rectify the signal; guided backpropagation also stops it where x was not positive.

    An activation that is positively homogeneous is applied to the signal as it is (a relu that
    leaks lets the signal leak), any other one acts as a relu.
    """
    signal = at.signal
    slope: Array | float = 0.0
    if at.operator == "LeakyRelu":
        slope = at.real("alpha", 0.01)
    elif at.operator == "PRelu":
        slope = at.x(1)
    signal = np.where(signal > 0, signal, slope * signal)
    return np.where(x > 0, signal, 0.0) if at.options.rules == "guided" else signal


@derivative_of("Relu")
def relu(_: Visit, x: Array) -> Array:
    """Relu: max(x, 0), so 1 above 0, and 0 at 0."""
    return (x > 0).astype(np.float64)


@derivative_of("LeakyRelu")
def leaky_relu(at: Visit, x: Array) -> Array:
    """LeakyRelu: x above 0, alpha·x else."""
    return np.where(x > 0, 1.0, at.real("alpha", 0.01))


@derivative_of("PRelu")
def prelu(at: Visit, x: Array) -> Array:
    """PRelu: x above 0, slope·x else, the slope being learned."""
    return np.where(x > 0, 1.0, at.x(1))


@derivative_of("ThresholdedRelu")
def thresholded_relu(at: Visit, x: Array) -> Array:
    """ThresholdedRelu: x above alpha, 0 else."""
    return (x > at.real("alpha", 1.0)).astype(np.float64)


def clip_bounds(at: Visit) -> tuple[float, float]:
    """Return min and max of a Clip: attributes before opset 11, inputs since."""
    return at.number("min", 1, -np.inf), at.number("max", 2, np.inf)


@derivative_of("Clip")
def clip(at: Visit, x: Array) -> Array:
    """Clip: 1 strictly between the bounds, so that Clip(x, 0) and Relu are the same."""
    low, high = clip_bounds(at)
    return ((x > low) & (x < high)).astype(np.float64)


@derivative_of("Elu")
def elu(at: Visit, x: Array) -> Array:
    """Elu: x above 0, alpha·(eˣ - 1) else."""
    return np.where(x > 0, 1.0, at.real("alpha", 1.0) * np.exp(x))


@derivative_of("Selu")
def selu(at: Visit, x: Array) -> Array:
    """Selu: gamma·x above 0, gamma·alpha·(eˣ - 1) else."""
    alpha, gamma = at.real("alpha", 1.6732632423543772), at.real("gamma", 1.0507009873554805)
    return gamma * np.where(x > 0, 1.0, alpha * np.exp(x))


@derivative_of("Celu")
def celu(at: Visit, x: Array) -> Array:
    """Celu: x above 0, alpha·(e^(x/alpha) - 1) else."""
    return np.where(x > 0, 1.0, np.exp(x / at.real("alpha", 1.0)))


def logistic(x: Array) -> Array:
    """Return 1 / (1 + e⁻ˣ) without overflow."""
    return 0.5 * (1.0 + np.tanh(0.5 * x))


@derivative_of("Softplus")
def softplus(_: Visit, x: Array) -> Array:
    """Softplus: ln(1 + eˣ), so 1 / (1 + e⁻ˣ)."""
    return logistic(x)


@derivative_of("Swish")
def swish(at: Visit, x: Array) -> Array:
    """Swish: x·s(alpha·x), s the Sigmoid."""
    alpha = at.real("alpha", 1.0)
    return logistic(alpha * x) + alpha * x * logistic(alpha * x) * logistic(-alpha * x)


@derivative_of("HardSwish")
def hard_swish(_: Visit, x: Array) -> Array:
    """HardSwish: x·min(max(x/6 + 1/2, 0), 1)."""
    return np.where(x >= 3, 1.0, np.where(x > -3, (2 * x + 3) / 6, 0.0))  # noqa: PLR2004


@derivative_of("Mish")
def mish(_: Visit, x: Array) -> Array:
    """Mish: x·tanh(ln(1 + eˣ))."""
    gate: Array = np.tanh(np.logaddexp(0, x))
    return gate + x * (1 - gate**2) * logistic(x)


@derivative_of("Gelu")
def gelu(at: Visit, x: Array) -> Array:
    """Gelu: x·Φ(x), or nearly: ½·x·(1 + tanh(√(2/π)·(x + 0.044715·x³)))."""
    if at.attr("approximate", "none") == "none":
        density = np.exp(-(x**2) / 2) / math.sqrt(2 * math.pi)
        return 0.5 * (1 + error_function(x / math.sqrt(2))) + x * density
    bent: Array = np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))
    slope = math.sqrt(2 / math.pi) * (1 + 3 * 0.044715 * x**2)
    return 0.5 * (1 + bent) + 0.5 * x * (1 - bent**2) * slope


def error_function(x: Array) -> Array:
    """Return erf of each number."""
    return np.array([math.erf(number) for number in x.reshape(-1)]).reshape(x.shape)
