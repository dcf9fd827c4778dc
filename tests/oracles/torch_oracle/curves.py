"""See one activation where an exporter wrote several nodes: by its curve, whatever the spelling.

Each value that is a function of one number of another value, its *base*, carries that function's curve:
its values at some probing points, computed by the very operators of the graph. A node whose result has
the curve of a known activation ends that activation.
"""

from collections.abc import Mapping

import torch
from onnx import NodeProto
from torch import Tensor

from torch_oracle.operators import OPERATORS, Call
from torch_oracle.rectifiers import Rule, hard_sigmoid_rule, rectifier, scaled

STRUCTURAL = {"Identity", "Cast", "Dropout", "QuantizeLinear", "DequantizeLinear"}
ELEMENTWISE = STRUCTURAL | {
    "Abs", "Add", "And", "Celu", "Clip", "Div", "Elu", "Equal", "Erf", "Exp", "Gelu", "Greater", "Mish",
    "GreaterOrEqual", "HardSigmoid", "HardSwish", "LeakyRelu", "Less", "LessOrEqual", "Log", "Max", "Min",
    "Mul", "Neg", "Not", "Or", "PRelu", "Pow", "Reciprocal", "Relu", "Selu", "Sigmoid", "Sign", "Softplus",
    "Softsign", "Sqrt", "Sub", "Sum", "Swish", "Tanh", "ThresholdedRelu", "Where",
}  # fmt: skip
PROBES = torch.linspace(-7.13, 7.21, 58, dtype=torch.float64)
POSITIVE = PROBES > 0
DEEPEST, MOST_BASES, LARGEST = 12, 8, 8192
FLAT = 1e-3
"""What is not zero but as small as this on the negative side is a lower bound, as before a division."""
STRAIGHT = 0.55
"""A Swish that lets pass less than this share of a positive number is next to a straight line."""


class Curves:
    """The curves of all values, by value and base; with how many nodes lie between."""

    def __init__(self, *, half: bool = False) -> None:
        self.tolerance = 2e-3 if half else 1e-5
        self.of: dict[str, dict[str, tuple[Tensor, int]]] = {}
        self.statistics: set[str] = set()

    def follow(self, call: Call, known: Mapping[str, Tensor | None]) -> tuple[str, Rule] | None:
        """Draw the curves of a node's result; return the base and the rule if it ends an activation."""
        node = call.node
        self._note_statistic(node, known)
        if node.op_type not in ELEMENTWISE or node.domain not in ("", "ai.onnx"):
            return None
        bases = self._bases(node.input, known)
        drawn = {b: self._drawn(call, b, depth, known) for b, depth in bases.items()}
        curves = {b: (c, bases[b] + 1) for b, c in drawn.items() if c is not None}
        self.of[node.output[0]] = curves
        changed = {b: c for b, (c, _) in curves.items() if not self._has(node.input, b, c)}
        if node.op_type in ("Max", "Min", "Clip", "Add"):
            # A variance that is kept from below zero is no activation.
            changed = {b: c for b, c in changed.items() if b not in self.statistics}
        found = (
            (b, recognised(c, self.tolerance)) for b, c in sorted(changed.items(), key=lambda p: bases[p[0]])
        )
        return next(((b, rule) for b, rule in found if rule is not None), None)

    def _note_statistic(self, node: NodeProto, known: Mapping[str, Tensor | None]) -> None:
        """Remember what follows from reductions alone."""
        read = [v for v in node.input if v and known[v] is not None and known[v].requires_grad]
        derived = node.op_type in ELEMENTWISE and read and self.statistics.issuperset(read)
        if derived or node.op_type.startswith("Reduce"):
            self.statistics.update(node.output)

    def _bases(self, names: list[str], known: Mapping[str, Tensor | None]) -> dict[str, int]:
        """Return the values that a node's inputs may be functions of, the nearest first."""
        depths: dict[str, int] = {}
        for name in names:
            if name and known[name] is not None and known[name].requires_grad:
                depths.setdefault(name, 0)
            for base, (_, depth) in self.of.get(name, {}).items():
                depths[base] = max(depths.get(base, 0), depth)
        nearest = sorted((d, b) for b, d in depths.items() if d < DEEPEST)
        return {b: d for d, b in nearest[:MOST_BASES]}

    def _curve(self, name: str, base: str, value: Tensor | None) -> Tensor | None:
        """Return a value as a function of the base; a constant is its own."""
        if name == base:
            return PROBES.reshape(-1, *[1] * value.ndim)
        if base in self.of.get(name, {}):
            return self.of[name][base][0]
        if value.requires_grad or self.of.get(name):
            return None
        if value.numel() > 1 and bool((value == value.reshape(-1)[0]).all()):
            return value.reshape(-1)[0]
        return None if value.numel() > LARGEST else value

    def _drawn(self, call: Call, base: str, _: int, known: Mapping[str, Tensor | None]) -> Tensor | None:
        names = call.node.input
        curves = [self._curve(v, base, known[v]) if v else None for v in names]
        if any(c is None and v and known[v] is not None for c, v in zip(curves, names, strict=True)):
            return None
        if call.node.op_type in STRUCTURAL and call.node.op_type != "Cast":
            return curves[0]
        return OPERATORS["", call.node.op_type](call, *curves)

    def _has(self, names: list[str], base: str, curve: Tensor) -> bool:
        held = (self.of[v][base][0] for v in names if base in self.of.get(v, {}))
        return any(c.shape == curve.shape and torch.equal(c, curve) for c in held)


def recognised(curve: Tensor, tolerance: float = 1e-5) -> Rule | None:
    """Return the rule of the activation that has a curve, of shape (probes, constants' axes ...)."""
    if curve.dtype != torch.float64 or curve.shape[0] != len(PROBES):
        return None
    x = PROBES.reshape(-1, *[1] * (curve.ndim - 1))
    for known in _smooth(curve, x):
        if _same(curve, known, tolerance):
            return rectifier()
    if _same(curve, (x / 6 + 0.5).clamp(0, 1), tolerance):
        return hard_sigmoid_rule
    scale = curve[-1:] / x[-1:]
    if scale.numel() == 1 and float(scale) > 0:
        # Simplifiers fold the half of a Gelu, the sixth of a HardSwish into the next filter.
        for known in _smooth(curve / scale, x)[:5]:
            if _same(curve / scale, known, tolerance):
                return scaled(rectifier(), float(scale))
    return _broken_at_zero(curve, x)


def _smooth(y: Tensor, x: Tensor) -> list[Tensor]:
    """Return the activations without a parameter, and Swish with the one that fits."""
    at = len(PROBES) * 5 // 9
    share = float((y[at] / x[at]).reshape(-1)[0])
    swish = [x * torch.sigmoid(x / x[at] * torch.logit(torch.tensor(share)))] if STRAIGHT < share < 1 else []
    functional = torch.nn.functional
    return [*swish, functional.hardswish(x), functional.gelu(x), functional.gelu(x, approximate="tanh"),
            functional.mish(x), functional.softplus(x), functional.selu(x)]  # fmt: skip


def _broken_at_zero(y: Tensor, x: Tensor) -> Rule | None:
    """Recognise what is x, or x up to a bound, on the positive side: Relu, Clip, LeakyRelu, Elu, Celu."""
    if not bool((y[POSITIVE][:1] > 0).all()):
        return None
    ceiling = y[-1:]
    if not _same(y[POSITIVE], torch.minimum(x[POSITIVE], ceiling)):
        return None
    below, at = y[~POSITIVE], x[~POSITIVE]
    slope = below[:1] / at[:1]
    if not bool(below.any()):
        return rectifier(relu=_same(ceiling, x[-1:]))
    if bool((below[:1].abs() < FLAT).any()):
        return None
    if _same(below, slope * at):
        straight = _same(slope.abs(), torch.ones_like(slope))  # the identity, or the absolute value
        return None if straight else rectifier(slope.squeeze(0))
    alpha = below[:1] / torch.expm1(at[:1])
    celu = -below[:1]
    forms = alpha * torch.expm1(at), celu * torch.expm1(at / celu)
    return rectifier() if any(_same(below, f) for f in forms) else None


def _same(a: Tensor, b: Tensor, tolerance: float = 1e-5) -> bool:
    return bool(torch.allclose(a.expand_as(a + b), b.expand_as(a + b), rtol=1e-4, atol=tolerance))
