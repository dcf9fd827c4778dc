"""Excitation Backprop: how probable each unit is to be the winner of a top-down competition.

Zhang, Bargal, Lin, Brandt, Shen & Sclaroff, "Top-down Neural Attention by Excitation Backprop", IJCV 2018,
section 3.2: P(aⱼ|aᵢ) = Zᵢ·âⱼ·wⱼᵢ where the weight is positive, 0 elsewhere (equation 5); Zᵢ makes the sum 1.
Biases take no part. Activations that may be negative are counted from the image's smallest one on
(section 3.3), normalisations pass on what they get. A unit that nothing excites, for which the paper has no
winner, divides evenly, so that the probabilities at the image add up to the seed.
"""

from onnx_deconv.operators.builder import Signal
from onnx_deconv.operators.filter_kinds import CONVOLUTIONS, PRODUCTS, filter_at
from onnx_deconv.operators.filters import where_present
from onnx_deconv.operators.pooling import spread, window_sums
from onnx_deconv.operators.relevance import (
    LEAST,
    depending,
    divided,
    excitation,
    in_proportion,
    only,
    signals_of,
)
from onnx_deconv.operators.signs import is_nonnegative
from onnx_deconv.operators.site import Site
from onnx_deconv.operators.tables import Signals
from onnx_deconv.operators.window import Window

_NOTHING = 1e-30
"""What a unit has that no element reaches, so that its probability is divided by something."""


def activations(at: Site, i: int) -> Signal:
    """Return input ``i``, counted from each image's smallest number on where that may be negative."""
    return where_present(at, i, _counted)


def _counted(at: Site, i: int) -> Signal:
    op, x = at.op, at.input(i)
    if not is_nonnegative(at.model, at.node.inputs[i].name):
        rank = len(at.shape_of(i))
        x = op.Sub(x, op.ReduceMin(x, list(range(min(1, rank - 1), rank))))
    return op.Max(x, LEAST)


@excitation.row(*CONVOLUTIONS, *PRODUCTS)
def excite(at: Site) -> Signals:
    """Divided in proportion to activations times positive weights."""
    taking = signals_of(at)
    share = at.signal if len(taking) == 1 else at.op.Mul(at.signal, 1 / len(taking))
    return [_excited(at, i, share) if i in taking else None for i in range(len(at.node.inputs))]


def _excited(at: Site, i: int, signal: Signal) -> Signal:
    op, found, x = at.op, filter_at(at, i), activations(at, i)
    weight = op.Max(found.weight, LEAST)
    base = op.filled([1], _NOTHING) if found.leaves_gaps() else None
    total = found.forward(x, weight, base)
    return op.Mul(found.back(op.Div(signal, total), weight), x)


@excitation.row("DeformConv")
def refuse(at: Site) -> Signals:
    """Not supported."""
    raise at.unsupported("excitation through a filter that looks at moved places")


@excitation.row("Add", "Sum", "Mean")
def among_terms(at: Site) -> Signals:
    """Divided in proportion to the terms' activations."""
    terms = depending(at)
    if len(terms) == 1:
        return only(at, terms[0], at.unbroadcast(at.signal, terms[0]))
    parts = {i: activations(at, i) for i in terms}
    return divided(at, at.signal, parts, at.op.sum(list(parts.values())))


@excitation.row("Sub")
def to_first_term(at: Site) -> Signals:
    """To the first term, where it depends on the image."""
    first = depending(at)[0]
    return only(at, first, at.unbroadcast(at.signal, first))


@excitation.row("AveragePool")
def among_positions(at: Site) -> Signals:
    """Divided among each window's positions, in proportion to activations."""
    window, x = Window.of(at, ()), activations(at, 0)
    ratio = at.op.Div(at.signal, window_sums(at, window, x))
    return [at.op.Mul(spread(at, window, ratio), x)]


@excitation.row("GlobalAveragePool")
def among_all_positions(at: Site) -> Signals:
    """Divided among all positions, in proportion to activations."""
    op, x = at.op, activations(at, 0)
    return [op.Mul(op.Div(at.signal, op.ReduceSum(x, at.spatial_axes())), x)]


@excitation.row("ReduceSum", "ReduceMean")
def among_elements(at: Site) -> Signals:
    """Divided in proportion to activations."""
    return in_proportion(at, activations(at, 0))
