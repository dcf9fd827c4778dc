"""Layer-wise relevance propagation: composites, which say what rule stands in which layers.

Montavon, Binder, Lapuschkin, Samek & Müller, "Layer-Wise Relevance Propagation: An Overview", in Explainable
AI: Interpreting, Explaining and Visualizing Deep Learning, 2019, chapter 10. A unit's relevance is divided
among the units below in proportion to what they contributed to it; section 10.3 says which rule suits which
layers. The rules of filters are in :mod:`onnx_deconv.operators.lrp_rules`
and :mod:`onnx_deconv.operators.lrp_first_layer`.
"""

from dataclasses import replace

from onnx_deconv.operators.builder import Signal
from onnx_deconv.operators.filter_kinds import CONVOLUTIONS, PRODUCTS, filter_at
from onnx_deconv.operators.lrp_first_layer import Box, Flat, WSquare
from onnx_deconv.operators.lrp_rules import STABILISER, AlphaBeta, Epsilon, FilterRule, Gamma, stabilised
from onnx_deconv.operators.relevance import depending, derivative_alone, divided, lrp, only, signals_of
from onnx_deconv.operators.signs import is_nonnegative
from onnx_deconv.operators.site import Site
from onnx_deconv.operators.tables import Rule, RuleTable, Signals, register

__all__ = ["AlphaBeta", "Box", "Epsilon", "FilterRule", "Flat", "Gamma", "WSquare", "composite"]


def composite(
    name: str,
    convolutions: FilterRule | None = None,
    dense: FilterRule | None = None,
    first: FilterRule | None = None,
    doc: str = "",
) -> RuleTable:
    """Make a table of layer-wise relevance propagation.

    Parameters
    ----------
    name
        What the table is called.
    convolutions
        The rule in convolutions; by default the z-plus rule.
    dense
        The rule in dense layers (Gemm, MatMul, Einsum); by default the epsilon rule.
    first
        The rule in the first layer, whatever it is; ``None``: the one it would have elsewhere.
    doc
        What the table does: one line.

    Returns
    -------
    RuleTable
        For an :class:`~onnx_deconv.Explainer`, or to be registered.
    """
    table = RuleTable(name, "lrp", doc=doc)
    _fill(table, convolutions or AlphaBeta(), dense or Epsilon(), first)
    return table


def _fill(table: RuleTable, convolutions: FilterRule, dense: FilterRule, first: FilterRule | None) -> None:
    table.row(*CONVOLUTIONS)(_layer(convolutions, first))
    table.row(*PRODUCTS)(_layer(dense, first))


def _layer(rule: FilterRule, first: FilterRule | None) -> Rule:
    """Make the row of a filter."""

    def layer(at: Site) -> Signals:
        chosen = first if first is not None and at.is_first() else rule
        taking = signals_of(at)
        share = at.signal if len(taking) == 1 else at.op.Mul(at.signal, 1 / len(taking))
        return [chosen(filter_at(at, i), share) if i in taking else None for i in range(len(at.node.inputs))]

    begins = f"; in the first layer {first.says}" if first is not None else ""
    layer.__doc__ = f"Divided {rule.says}{begins}."
    layer.__qualname__ = f"layer({rule!r}, {first!r})"
    return layer


_fill(lrp, AlphaBeta(), Epsilon(), Flat())
register(
    composite(
        "lrp-epsilon",
        Epsilon(),
        doc="Bach et al. 2015, section 3.2: the epsilon rule in all layers.",
    )
)
register(
    composite(
        "lrp-gamma",
        Gamma(),
        first=Box(),
        doc="Montavon et al. 2019, section 10.3: gamma rule in convolutions, epsilon rule in dense layers, "
        "z-B rule between the image's own bounds in the first layer.",
    )
)


@lrp.row("Add", "Sum", "Sub", "Mean")
def among_terms(at: Site) -> Signals:
    """Divided in proportion to the terms; constants get nothing."""
    terms = depending(at)
    if len(terms) == 1:
        return only(at, terms[0], at.unbroadcast(at.signal, terms[0]))
    parts = {i: at.op.Neg(at.input(i)) if i and at.node.op == "Sub" else at.input(i) for i in terms}
    total = at.op.sum(list(parts.values()))
    sure = at.node.op != "Sub" and all(is_nonnegative(at.model, at.node.inputs[i].name) for i in terms)
    return divided(at, at.signal, parts, _moved(at, total, sure=sure))


@lrp.row("AveragePool", "GlobalAveragePool", "ReduceMean", "ReduceSum", "DeformConv")
def in_proportion(at: Site) -> Signals:
    """Divided in proportion to contributions."""
    sure = is_nonnegative(at.model, at.node.outputs[0].name)
    ratio = at.op.Div(at.signal, _moved(at, at.output(), sure=sure))
    slopes = derivative_alone(replace(at, signals=[ratio]))
    return only(at, 0, at.op.Mul(slopes, at.input(0)))


def _moved(at: Site, total: Signal, *, sure: bool) -> Signal:
    """Move a denominator away from 0; upwards where it is sure not to be negative."""
    return at.op.Add(total, STABILISER) if sure else stabilised(at.op, total, STABILISER)
