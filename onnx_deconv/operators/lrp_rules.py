"""The rules of layer-wise relevance propagation for filters: how relevance is divided among the inputs.

From Montavon et al. 2019, table 10.1. There activations are not negative; where they may be, a contribution
counts as positive or negative by its own sign, as zennit has it (Anders et al. 2021). A bias is a
contribution, too, whose share goes nowhere. Denominators are moved away from 0 by a small number of their own
sign.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from onnx_deconv.operators.builder import Emitter, Signal
from onnx_deconv.operators.filters import Filter
from onnx_deconv.operators.signs import is_nonnegative
from onnx_deconv.operators.vanishing import rectifier_behind

STABILISER = 1e-6
"""What moves denominators away from 0."""


class FilterRule(Protocol):
    """From the relevance of a filter's result to that of its input."""

    @property
    def says(self) -> str:
        """What it does, as the end of a sentence."""

    def __call__(self, layer: Filter, signal: Signal) -> Signal:
        """Emit the nodes; return the relevance of the input."""


class Term(NamedTuple):
    """A part of a filter's input, and the weight that it meets."""

    x: Signal
    weight: Signal


@dataclass(frozen=True)
class Epsilon:
    """The epsilon rule: x·Wᵀ(R/(z + ε·sign z)), z being the filter's result.

    Attributes
    ----------
    epsilon
        How far denominators are moved away from 0.
    """

    epsilon: float = STABILISER
    says = "in proportion to contributions (epsilon rule)"

    def __call__(self, layer: Filter, signal: Signal) -> Signal:
        """Emit the nodes; return the relevance of the input."""
        op = layer.op
        return op.Mul(layer.back(op.Div(signal, self._denominator(layer)), layer.weight), layer.x)

    def _denominator(self, layer: Filter) -> Signal:
        rectifier = rectifier_behind(layer.end)
        if rectifier is not None and rectifier.node.op == "Relu":
            # Where the result is negative there is no relevance; the runtime has fused the two nodes.
            return layer.op.Add(rectifier.output(), self.epsilon)
        return stabilised(layer.op, layer.end.output(), self.epsilon)


@dataclass(frozen=True)
class AlphaBeta:
    """The alpha-beta rule: α shares by what contributes positively, less β shares by what does negatively.

    With α = 1 and β = 0 it is the z-plus rule.

    Attributes
    ----------
    alpha, beta
        α - β = 1, neither negative.

    Raises
    ------
    ValueError
        If they are not.
    """

    alpha: float = 1.0
    beta: float = 0.0

    def __post_init__(self) -> None:
        if self.alpha < 0 or self.beta < 0 or self.alpha - self.beta != 1:
            raise ValueError(f"alpha={self.alpha}, beta={self.beta}: alpha - beta has to be 1, both ≥ 0")

    @property
    def says(self) -> str:
        """What it does."""
        if not self.beta:
            return "in proportion to positive contributions (z-plus rule)"
        return f"{self.alpha:g} shares by positive, less {self.beta:g} by negative contributions"

    def __call__(self, layer: Filter, signal: Signal) -> Signal:
        """Emit the nodes; return the relevance of the input."""
        op, relevance = layer.op, self._shares(layer, signal, 1)
        if not self.beta:
            return relevance
        return op.Sub(
            op.Mul(relevance, float(self.alpha)), op.Mul(self._shares(layer, signal, -1), float(self.beta))
        )

    @staticmethod
    def _shares(layer: Filter, signal: Signal, sign: int) -> Signal:
        op = layer.op
        terms = [Term(x, part(op, layer.weight, sign * own)) for own, x in _signed(layer)]
        bias = None if layer.bias is None else part(op, layer.bias, sign)
        return handed_back(layer, op.Div(signal, _total(layer, terms, bias, sign * STABILISER)), terms)


@dataclass(frozen=True)
class Gamma:
    """The gamma rule: contributions of the result's sign count 1 + γ times.

    Attributes
    ----------
    gamma
        How much they are favoured.
    """

    gamma: float = 0.25
    says = "in proportion to contributions, those of the result's sign favoured (gamma rule)"

    def __call__(self, layer: Filter, signal: Signal) -> Signal:
        """Emit the nodes; return the relevance of the input."""
        if rectifier_behind(layer.end) is not None:  # no relevance where the result is negative
            return self._shares(layer, signal, 1)
        op, result = layer.op, layer.end.output()
        positive, negative = op.Greater(result, 0.0), op.Less(result, 0.0)
        return op.Add(
            self._shares(layer, op.Where(positive, signal, 0.0), 1),
            self._shares(layer, op.Where(negative, signal, 0.0), -1),
        )

    def _shares(self, layer: Filter, signal: Signal, sign: int) -> Signal:
        op = layer.op
        terms = [Term(x, self._favoured(op, layer.weight, sign * own)) for own, x in _signed(layer)]
        bias = None if layer.bias is None else self._favoured(op, layer.bias, sign)
        total = _total(layer, terms, bias, sign * STABILISER)
        # Of the other sign only where the result is, too, and there is no relevance.
        limit = op.Max if sign > 0 else op.Min
        return handed_back(layer, op.Div(signal, limit(total, sign * STABILISER)), terms)

    def _favoured(self, op: Emitter, numbers: Signal, sign: int) -> Signal:
        return op.Add(numbers, op.Mul(part(op, numbers, sign), float(self.gamma)))


def stabilised(op: Emitter, total: Signal, epsilon: float) -> Signal:
    """Move a denominator away from 0 by a small number of its sign, upwards where it is 0."""
    return op.Add(total, op.Where(op.Less(total, 0.0), -epsilon, epsilon))


def part(op: Emitter, numbers: Signal, sign: int) -> Signal:
    """Return the positive or the negative part of some numbers."""
    return op.Relu(numbers) if sign > 0 else op.Min(numbers, 0.0)


def _signed(layer: Filter) -> list[tuple[int, Signal]]:
    """Take a filter's input apart by sign, where it may be negative."""
    if is_nonnegative(layer.at.model, layer.at.node.inputs[layer.i].name):
        return [(1, layer.x)]
    return [(sign, part(layer.op, layer.x, sign)) for sign in (1, -1)]


def _total(layer: Filter, terms: Sequence[Term], bias: Signal | None, more: float) -> Signal:
    """Add up what all terms contribute, the bias and a number."""
    op = layer.op
    base = op.filled([1], more) if bias is None else op.Add(bias, more)
    parts = [layer.forward(x, weight, base if k == 0 else None) for k, (x, weight) in enumerate(terms)]
    return op.sum(parts)


def handed_back(layer: Filter, ratio: Signal, terms: Sequence[Term]) -> Signal:
    """Hand ratios of relevance to result back; each part of the input gets them times its contributions."""
    op = layer.op
    return op.sum([op.Mul(layer.back(ratio, weight), x) for x, weight in terms])
