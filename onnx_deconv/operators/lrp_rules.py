"""The rules of layer-wise relevance propagation for filters: how relevance is divided among the inputs.

From Montavon et al. 2019, table 10.1. There activations are not negative; where they may be, a contribution
counts as positive or negative by its own sign, as zennit has it (Anders et al. 2021). A bias is a
contribution, too, whose share goes nowhere. Denominators are moved away from 0 by a small number of their own
sign.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from onnx_deconv.operators.builder import Emitter, Signal
from onnx_deconv.operators.filters import Filter, where_present
from onnx_deconv.operators.signs import is_nonnegative
from onnx_deconv.operators.site import Site
from onnx_deconv.operators.vanishing import rectifier_behind

STABILISER = 1e-6
"""What moves denominators away from 0."""


class FilterRule(Protocol):
    """From the relevance of a filter's result to that of its input."""

    @property
    def says(self) -> str:
        """What it does, as the end of a sentence."""

    def __call__(self, at: Filter, signal: Signal) -> Signal:
        """Emit the nodes; return the relevance of the input."""


class _Term(NamedTuple):
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

    def __call__(self, at: Filter, signal: Signal) -> Signal:
        """Emit the nodes; return the relevance of the input."""
        op = at.at.op
        return op.Mul(at.back(op.Div(signal, self._denominator(at)), at.weight), at.x)

    def _denominator(self, at: Filter) -> Signal:
        rectifier = rectifier_behind(at.end)
        if rectifier is not None and rectifier.node.op == "Relu":
            # Where the result is negative there is no relevance; the runtime has fused the two nodes.
            return at.at.op.Add(rectifier.output(), self.epsilon)
        return stabilised(at.at.op, at.end.output(), self.epsilon)


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

    def __call__(self, at: Filter, signal: Signal) -> Signal:
        """Emit the nodes; return the relevance of the input."""
        op, relevance = at.at.op, self._shares(at, signal, 1)
        if not self.beta:
            return relevance
        return op.Sub(
            op.Mul(relevance, float(self.alpha)), op.Mul(self._shares(at, signal, -1), float(self.beta))
        )

    @staticmethod
    def _shares(at: Filter, signal: Signal, sign: int) -> Signal:
        op = at.at.op
        terms = [_Term(x, part(op, at.weight, sign * own)) for own, x in _signed(at)]
        bias = None if at.bias is None else part(op, at.bias, sign)
        return _handed_back(at, op.Div(signal, _total(at, terms, bias, sign * STABILISER)), terms)


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

    def __call__(self, at: Filter, signal: Signal) -> Signal:
        """Emit the nodes; return the relevance of the input."""
        if rectifier_behind(at.end) is not None:  # no relevance where the result is negative
            return self._shares(at, signal, 1)
        op, result = at.at.op, at.end.output()
        positive, negative = op.Greater(result, 0.0), op.Less(result, 0.0)
        return op.Add(
            self._shares(at, op.Where(positive, signal, 0.0), 1),
            self._shares(at, op.Where(negative, signal, 0.0), -1),
        )

    def _shares(self, at: Filter, signal: Signal, sign: int) -> Signal:
        op = at.at.op
        terms = [_Term(x, self._favoured(op, at.weight, sign * own)) for own, x in _signed(at)]
        bias = None if at.bias is None else self._favoured(op, at.bias, sign)
        total = _total(at, terms, bias, sign * STABILISER)
        # Of the other sign only where the result is, too, and there is no relevance.
        limit = op.Max if sign > 0 else op.Min
        return _handed_back(at, op.Div(signal, limit(total, sign * STABILISER)), terms)

    def _favoured(self, op: Emitter, numbers: Signal, sign: int) -> Signal:
        return op.Add(numbers, op.Mul(part(op, numbers, sign), float(self.gamma)))


@dataclass(frozen=True)
class Flat:
    """The flat rule: all elements that a result was computed from get the same."""

    says = "evenly (flat rule)"

    def __call__(self, at: Filter, signal: Signal) -> Signal:
        """Emit the nodes; return the relevance of the input."""
        return at.evenly(signal, STABILISER)


@dataclass(frozen=True)
class WSquare:
    """The w² rule: in proportion to squared weights."""

    says = "in proportion to squared weights (w² rule)"

    def __call__(self, at: Filter, signal: Signal) -> Signal:
        """Emit the nodes; return the relevance of the input."""
        return at.by_weight(signal, at.at.op.Mul(at.weight, at.weight), STABILISER)


@dataclass(frozen=True)
class Box:
    """The z-B rule: in proportion to (x - low)·w⁺ + (x - high)·w⁻, for pixels between two bounds.

    Attributes
    ----------
    low, high
        Bounds of the numbers that the filter reads: one, or one per channel; ``None``: the smallest and the
        largest of each channel of the image itself.
    """

    low: float | Sequence[float] | None = None
    high: float | Sequence[float] | None = None
    says = "in proportion to (x - low)·w⁺ + (x - high)·w⁻ (z-B rule)"

    def __call__(self, at: Filter, signal: Signal) -> Signal:
        """Emit the nodes; return the relevance of the input."""
        op, bounds = at.at.op, ((self.low, "ReduceMin", 1), (self.high, "ReduceMax", -1))
        terms = [
            _Term(where_present(at.at, at.i, _beyond(bound, search)), part(op, at.weight, sign))
            for bound, search, sign in bounds
        ]
        total = op.Add(*(at.forward(x, weight) for x, weight in terms))
        return _handed_back(at, op.Div(signal, stabilised(op, total, STABILISER)), terms)


def _beyond(given: float | Sequence[float] | None, search: str) -> Callable[[Site, int], Signal]:
    """Return how to take a bound off an input."""

    def beyond(at: Site, i: int) -> Signal:
        x, rank = at.input(i), len(at.shape_of(i))
        positions = list(range(2, rank))
        if given is None:
            return at.op.Sub(x, getattr(at.op, search)(x, positions or [rank - 1]))
        return at.op.Sub(x, np.reshape(given, [-1] + [1] * len(positions)).astype(at.op.dtype))

    return beyond


def stabilised(op: Emitter, total: Signal, epsilon: float) -> Signal:
    """Move a denominator away from 0 by a small number of its sign, upwards where it is 0."""
    return op.Add(total, op.Where(op.Less(total, 0.0), -epsilon, epsilon))


def part(op: Emitter, numbers: Signal, sign: int) -> Signal:
    """Return the positive or the negative part of some numbers."""
    return op.Relu(numbers) if sign > 0 else op.Min(numbers, 0.0)


def _signed(at: Filter) -> list[tuple[int, Signal]]:
    """Take a filter's input apart by sign, where it may be negative."""
    if is_nonnegative(at.at.model, at.at.node.inputs[at.i].name):
        return [(1, at.x)]
    return [(sign, part(at.at.op, at.x, sign)) for sign in (1, -1)]


def _total(at: Filter, terms: Sequence[_Term], bias: Signal | None, more: float) -> Signal:
    """Add up what all terms contribute, the bias and a number."""
    op = at.at.op
    base = op.filled([1], more) if bias is None else op.Add(bias, more)
    parts = [at.forward(x, weight, base if k == 0 else None) for k, (x, weight) in enumerate(terms)]
    return op.sum(parts)


def _handed_back(at: Filter, ratio: Signal, terms: Sequence[_Term]) -> Signal:
    op = at.at.op
    return op.sum([op.Mul(at.back(ratio, weight), x) for x, weight in terms])
