"""Functions of one number; at a kink the derivative is that of the left side."""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from torch_oracle.operators import MICROSOFT, OPERATORS, Call, operator
from torch_oracle.rectifiers import rectifier

UNARY: dict[str, Callable[[Tensor], Tensor]] = {
    "Relu": torch.relu,
    "Softplus": lambda x: functional.softplus(x, threshold=1e3),
    "Softsign": functional.softsign,
    "Sigmoid": torch.sigmoid,
    "Tanh": torch.tanh,
    "HardSwish": functional.hardswish,
    "Mish": lambda x: x * torch.tanh(functional.softplus(x, threshold=1e3)),
    "Erf": torch.erf,
    "Exp": torch.exp,
    "Log": torch.log,
    "Sqrt": torch.sqrt,
    "Reciprocal": torch.reciprocal,
    "Abs": torch.abs,
    "Neg": torch.neg,
    "Sin": torch.sin,
    "Cos": torch.cos,
    "Tan": torch.tan,
    "Asin": torch.asin,
    "Acos": torch.acos,
    "Atan": torch.atan,
    "Sinh": torch.sinh,
    "Cosh": torch.cosh,
    "Asinh": torch.asinh,
    "Acosh": torch.acosh,
    "Atanh": torch.atanh,
    "Floor": torch.floor,
    "Ceil": torch.ceil,
    "Round": torch.round,
    "Sign": torch.sign,
    "Not": torch.logical_not,
    "BitwiseNot": torch.bitwise_not,
    "IsNaN": torch.isnan,
    "Identity": lambda x: x,
}
OPERATORS.update({("", name): lambda _, x, f=f: f(x) for name, f in UNARY.items()})


@operator("LeakyRelu")
def leaky_relu(at: Call, x: Tensor) -> Tensor:
    """Return x, scaled by alpha where negative."""
    return torch.where(x > 0, x, x * at.get("alpha", 0.01))


@operator("PRelu")
def prelu(_: Call, x: Tensor, slope: Tensor) -> Tensor:
    """Return x, scaled by a learned slope where negative."""
    return torch.where(x > 0, x, x * slope)


@operator("ThresholdedRelu")
def thresholded_relu(at: Call, x: Tensor) -> Tensor:
    """Return x where it exceeds alpha."""
    return torch.where(x > at.get("alpha", 1.0), x, 0.0)


@operator("Clip")
def clip(at: Call, x: Tensor, low: Tensor | None = None, high: Tensor | None = None) -> Tensor:
    """Return x within bounds; none of the signal passes at a bound."""
    low = low if low is not None else at.get("min", -math.inf)
    high = high if high is not None else at.get("max", math.inf)
    low, high = (
        b
        if isinstance(b, Tensor)
        else torch.tensor(b, dtype=x.dtype if x.is_floating_point() else torch.float64)
        for b in (low, high)
    )
    y = torch.where(x > low, torch.where(x < high, x, high.to(x.dtype)), low.to(x.dtype))
    return torch.where(low > high, high.to(x.dtype), y)


@operator("Elu")
def elu(at: Call, x: Tensor) -> Tensor:
    """Return x, or α(eˣ-1) where negative."""
    return torch.where(x > 0, x, at.get("alpha", 1.0) * torch.expm1(x.clamp(max=0)))


@operator("Selu")
def selu(at: Call, x: Tensor) -> Tensor:
    """Return γx, or γα(eˣ-1) where negative."""
    alpha, gamma = at.get("alpha", 1.6732632423543772), at.get("gamma", 1.0507009873554805)
    return gamma * torch.where(x > 0, x, alpha * torch.expm1(x.clamp(max=0)))


@operator("Celu")
def celu(at: Call, x: Tensor) -> Tensor:
    """Return x, or α(e^(x/α)-1) where negative."""
    alpha = at.get("alpha", 1.0)
    return torch.where(x > 0, x, alpha * torch.expm1(x.clamp(max=0) / alpha))


@operator("HardSigmoid")
def hard_sigmoid(at: Call, x: Tensor) -> Tensor:
    """Return αx+β between 0 and 1."""
    y = at.get("alpha", 0.2) * x + at.get("beta", 0.5)
    return torch.where(y > 0, torch.where(y < 1, y, 1.0), 0.0)


@operator("Swish")
def swish(at: Call, x: Tensor) -> Tensor:
    """Return x·σ(αx)."""
    return x * torch.sigmoid(at.get("alpha", 1.0) * x)


@operator("QuickGelu", domain=MICROSOFT)
def quick_gelu(at: Call, x: Tensor) -> Tensor:
    """Return x·σ(αx), α 1.702 unless told."""
    return x * torch.sigmoid(at.get("alpha", 1.702) * x)


@operator("Gelu")
@operator("Gelu", domain=MICROSOFT)
def gelu(at: Call, x: Tensor) -> Tensor:
    """Return x·Φ(x)."""
    return functional.gelu(x, approximate=at.get("approximate", "none"))


@operator("BiasGelu", "FastGelu", domain=MICROSOFT)
def bias_gelu(at: Call, x: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return the gelu of a sum; the fast one in its tanh form."""
    form = "tanh" if at.node.op_type == "FastGelu" else "none"
    total = x if bias is None else x + bias
    return at.runner.detour(total, functional.gelu(total, approximate=form), rectifier())


@operator("Softmax")
def softmax(at: Call, x: Tensor) -> Tensor:
    """Return eˣ as shares; before opset 13 over all axes from the given one."""
    return _over_axes(at, x, torch.softmax)


@operator("LogSoftmax")
def log_softmax(at: Call, x: Tensor) -> Tensor:
    """Return the logarithm of the softmax."""
    return _over_axes(at, x, torch.log_softmax)


@operator("Hardmax")
def hardmax(at: Call, x: Tensor) -> Tensor:
    """Return 1 at the first maximum."""
    return _over_axes(
        at, x, lambda v, axis: functional.one_hot(v.argmax(axis), v.shape[axis]).double().movedim(-1, axis)
    )


def _over_axes(at: Call, x: Tensor, function: Callable[[Tensor, int], Tensor]) -> Tensor:
    if at.opset >= 13:
        return function(x, at.get("axis", -1))
    axis = at.get("axis", 1) % max(x.ndim, 1)
    return function(x.flatten(axis) if axis < x.ndim else x[..., None], axis).reshape(x.shape)
