"""What the deconvnet and the guided table do to the signal of an activation; None: its derivative.

Zeiler & Fergus 2013, section 2.1: the signal is rectified as the forward value was, by the same function
if that is positively homogeneous. Springenberg et al. 2015, section 3.4: and stopped where the forward
input was not positive.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from torch_oracle.operators import Call

Rule = Callable[[Any, Tensor, Tensor], Tensor | None]
"""Given the oracle, the forward input and the signal."""

RECTIFIERS = {"Relu", "ThresholdedRelu", "Elu", "Selu", "Celu", "Softplus", "Swish", "HardSwish", "Gelu",
              "Mish", "QuickGelu"}  # fmt: skip


def rectifier(slope: Tensor | float = 0.0, *, relu: bool = False) -> Rule:
    """Return the rule of a rectifier that has a slope on the negative side.

    Parameters
    ----------
    slope
        Of the same function; 0 for all that are not positively homogeneous.
    relu
        Whether it is Relu itself, which obeys the table even where the others do not.
    """

    def rule(oracle: Any, x: Tensor, signal: Tensor) -> Tensor | None:
        if oracle.rules == "gradient" or (oracle.activations == "relu" and not relu):
            return None
        passed = torch.where(signal > 0, signal, signal * slope)
        return torch.where(x > 0, passed, 0.0) if oracle.rules == "guided" else passed

    return rule


def scaled(rule: Rule, factor: float) -> Rule:
    """Return the rule of an activation times a factor."""

    def both(oracle: Any, x: Tensor, signal: Tensor) -> Tensor | None:
        passed = rule(oracle, x, signal)
        return None if passed is None else passed * factor

    return both


def hard_sigmoid_rule(oracle: Any, x: Tensor, signal: Tensor) -> Tensor | None:
    """Pass a gate's derivative: the Clip inside a spelled-out HardSigmoid rectifies nothing."""
    return None if oracle.rules == "gradient" else torch.where(x.abs() < 3, signal / 6, 0.0)


def lrn_rule(oracle: Any, _: Tensor, signal: Tensor) -> Tensor | None:
    """Pass the signal unchanged where normalisation is not undone."""
    identity = oracle.lrn == "identity" or (oracle.lrn == "auto" and oracle.rules == "deconvnet")
    return signal if identity else None


FILTERS = {"Conv", "ConvTranspose", "Gemm", "MatMul", "Add", "Sum", "BatchNormalization"}
ZERO_POINT = {"QuantizeLinear": 2, "QLinearConv": 7, "QLinearMatMul": 7, "QLinearAdd": 7, "QGemm": 8}
"""Which input holds it, of the operators that quantise what a filter or a sum gives."""


def cut_off_rule(call: Call, given: Sequence[Tensor | None], source: str) -> Rule | None:
    """Return the rule of a quantiser that cuts off what is negative of a filter's result.

    It stands for the Relu that quantising tools leave out there; what it rounds to zero counts as cut off.
    """
    place = ZERO_POINT.get(call.node.op_type, len(given))
    zero = given[place] if place < len(given) else None
    if zero is None or (call.node.op_type == "QuantizeLinear" and source not in FILTERS):
        return None
    if zero.is_floating_point() or bool((zero != torch.iinfo(zero.dtype).min).any()):
        return None

    def rule(oracle: Any, y: Tensor, signal: Tensor) -> Tensor:
        passed = signal if oracle.rules == "gradient" else signal.relu()
        above = y > float(zero.reshape(-1)[0])
        return passed if oracle.rules == "deconvnet" else torch.where(above, passed, 0.0)

    return rule


def native_rule(call: Call, _: Tensor | None = None, *more: Tensor | None) -> Rule | None:
    """Return the rule of an activation that is one node."""
    op = call.node.op_type
    if op in RECTIFIERS:
        return rectifier(relu=op == "Relu")
    if op == "LeakyRelu":
        return rectifier(call.get("alpha", 0.01))
    if op == "PRelu":
        return rectifier(more[0].detach())
    if op == "Clip":
        low = more[0] if more else call.get("min")
        return rectifier() if low is not None and float(low) == 0 else None
    return None
