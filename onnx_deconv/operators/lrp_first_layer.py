"""The rules of layer-wise relevance propagation for the first layer, whose inputs are pixels.

From Montavon et al. 2017, "Explaining nonlinear classification decisions with deep Taylor decomposition",
section 4; the flat rule is from Lapuschkin et al. 2019.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from onnx_deconv.operators.builder import Signal
from onnx_deconv.operators.filters import Filter, where_present
from onnx_deconv.operators.lrp_rules import STABILISER, Term, handed_back, part, stabilised
from onnx_deconv.operators.site import Site


@dataclass(frozen=True)
class Flat:
    """The flat rule: all elements that a result was computed from get the same."""

    says = "evenly (flat rule)"

    def __call__(self, layer: Filter, signal: Signal) -> Signal:
        """Emit the nodes; return the relevance of the input."""
        return layer.evenly(signal, STABILISER)


@dataclass(frozen=True)
class WSquare:
    """The w² rule: in proportion to squared weights."""

    says = "in proportion to squared weights (w² rule)"

    def __call__(self, layer: Filter, signal: Signal) -> Signal:
        """Emit the nodes; return the relevance of the input."""
        return layer.by_weight(signal, layer.op.Mul(layer.weight, layer.weight), STABILISER)


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

    def __call__(self, layer: Filter, signal: Signal) -> Signal:
        """Emit the nodes; return the relevance of the input."""
        op, bounds = layer.op, ((self.low, "ReduceMin", 1), (self.high, "ReduceMax", -1))
        terms = [
            Term(where_present(layer.at, layer.i, _beyond(bound, search)), part(op, layer.weight, sign))
            for bound, search, sign in bounds
        ]
        total = op.Add(*(layer.forward(x, weight) for x, weight in terms))
        return handed_back(layer, op.Div(signal, stabilised(op, total, STABILISER)), terms)


def _beyond(given: float | Sequence[float] | None, search: str) -> Callable[[Site, int], Signal]:
    """Return how to take a bound off an input."""

    def beyond(at: Site, i: int) -> Signal:
        x, rank = at.input(i), len(at.shape_of(i))
        positions = list(range(2, rank))
        if given is None:
            return at.op.Sub(x, getattr(at.op, search)(x, positions or [rank - 1]))
        return at.op.Sub(x, np.reshape(given, [-1] + [1] * len(positions)).astype(at.op.dtype))

    return beyond
