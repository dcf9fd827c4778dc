"""What tables of relevance share: shares of a whole are passed on, and what arrives is what was sent.

A signal of such a table is no derivative but an amount (a probability, a relevance) that each unit divides
among what it was computed from. An operator of one input passes on all that it has; activations,
normalisations and quantisers change nothing.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from onnx_deconv.operators.builder import Signal
from onnx_deconv.operators.pooling import spread, window_sums
from onnx_deconv.operators.reduce import axes_of, kept
from onnx_deconv.operators.registry import find, traits_of
from onnx_deconv.operators.site import Site
from onnx_deconv.operators.tables import Rule, RuleTable, Signals, register
from onnx_deconv.operators.training import refuse_training
from onnx_deconv.operators.traits import (
    LOGARITHM,
    NORMALISATION,
    POINTWISE,
    PROBABILITY,
    QUANTISER,
    RECTIFIER,
    SQUASHING,
    VIEW,
)
from onnx_deconv.operators.window import Window

excitation = register(
    RuleTable(
        "excitation",
        doc="Zhang et al. 2018, section 3.2: the probability that a unit is the winner, passed on in "
        "proportion to activations and positive weights.",
        conserves=True,
    )
)
lrp = register(
    RuleTable(
        "lrp",
        doc="Montavon et al. 2019, section 10.3: relevance; z-plus rule in convolutions, epsilon rule in "
        "dense layers, flat rule in the first layer.",
        conserves=True,
    )
)

LEAST = 1e-12
"""What a contribution counts at least, so that a unit to which nothing contributed has shares to pass on."""


def shared(*keys: object) -> Callable[[Rule], Rule]:
    """Register a function as the row of some operators in both tables."""

    def register_both(rule: Rule) -> Rule:
        for table in (excitation, lrp):
            table.row(*keys)(rule)  # type: ignore[arg-type]
        return rule

    return register_both


def only(at: Site, i: int, signal: Signal) -> Signals:
    """Give a signal to input ``i`` alone."""
    return [signal if k == i else None for k in range(len(at.node.inputs))]


def depending(at: Site) -> list[int]:
    """List the inputs that lead to the explained one."""
    return [i for i in range(len(at.node.inputs)) if at.needs(i)]


def gradient_rule(at: Site) -> Rule:
    """Return the derivative of a node's operator.

    Raises
    ------
    RuleError
        If it has none.
    """
    rule = find(at.node.op, at.node.domain).rule
    if rule is None:
        raise at.unsupported("it has no derivative")
    return rule


def derivative_alone(at: Site) -> Signal:
    """Send the signal back to the first input by the derivative, as if no other depended on the image.

    Raises
    ------
    RuleError
        If the first does not.
    """
    if not at.needs(0):
        raise at.unsupported("what it reads does not depend on the explained input, but where it reads does")
    alone = replace(at, reached={at.node.inputs[0].name})
    return gradient_rule(at)(alone)[0]


def divided(at: Site, signal: Signal, parts: Mapping[int, Signal], total: Signal) -> Signals:
    """Divide a signal among inputs, to each its part of a total."""
    ratio = at.op.Div(signal, total)
    shares = {i: at.unbroadcast(at.op.Mul(ratio, part), i) for i, part in parts.items()}
    return [shares.get(i) for i in range(len(at.node.inputs))]


@shared(RECTIFIER, SQUASHING, PROBABILITY, LOGARITHM, NORMALISATION, QUANTISER, POINTWISE, "Hardmax")
def unchanged(at: Site) -> Signals:
    """Passed on unchanged."""
    refuse_training(at)
    return only(at, depending(at)[0], at.signal)


@shared("Mul")
def to_what_is_gated(at: Site) -> Signals:
    """To the factor that is no gate (Arras et al. 2019, section 7.3.3); halves where neither or both are."""
    taking = signals_of(at)
    share = at.signal if len(taking) == 1 else at.op.Mul(at.signal, 1 / len(taking))
    return [at.unbroadcast(share, i) if i in taking else None for i in range(len(at.node.inputs))]


@shared("Max", "Min", "Where")
def to_what_is_taken(at: Site) -> Signals:
    """To the operand that was taken."""
    return gradient_rule(at)(at)


@shared("Div")
def to_numerator(at: Site) -> Signals:
    """To the numerator, where it depends on the image."""
    first = depending(at)[0]
    return only(at, first, at.unbroadcast(at.signal, first))


@shared("GridSample")
def to_pixels(at: Site) -> Signals:
    """Shared among the pixels that each sample was mixed from; the grid gets nothing."""
    return [derivative_alone(at), None]


@shared("RoiAlign")
def to_region(at: Site) -> Signals:
    """Shared among the pixels between which samples lie; where a region lies gets nothing."""
    return only(at, 0, derivative_alone(at))


@shared("Scatter", "ScatterElements", "ScatterND")
def to_what_is_there(at: Site) -> Signals:
    """The updates get what is at their places, the rest goes to what they did not replace."""
    if at.attr("reduction", "none") != "none":
        raise at.unsupported("relevance where updates do not replace what was there")
    return gradient_rule(at)(at)


@shared("ReduceLogSum")
def by_element(at: Site) -> Signals:
    """Divided in proportion to x."""
    return in_proportion(at, at.input(0))


@shared("ReduceL1")
def by_size(at: Site) -> Signals:
    """Divided in proportion to |x|."""
    return in_proportion(at, at.op.Abs(at.input(0)))


@shared("ReduceL2", "ReduceSumSquare")
def by_square(at: Site) -> Signals:
    """Divided in proportion to x²."""
    return in_proportion(at, at.op.Mul(at.input(0), at.input(0)))


@shared("ReduceLogSumExp")
def by_exponential(at: Site) -> Signals:
    """Divided in proportion to eˣ."""
    return in_proportion(at, at.op.Exp(at.op.Sub(at.input(0), kept(at, at.output()))))


@shared("ReduceProd")
def evenly(at: Site) -> Signals:
    """Divided evenly."""
    return in_proportion(at, at.op.ones(at.batch_shape(0)))


@shared("LpPool", "GlobalLpPool")
def by_power(at: Site) -> Signals:
    """Divided in proportion to |x|^p."""
    op = at.op
    powers = op.Max(op.Pow(op.Abs(at.input(0)), float(at.attr("p", 2))), LEAST)
    if at.node.op == "GlobalLpPool":
        ratio = op.Div(at.signal, op.ReduceSum(powers, at.spatial_axes()))
        return [op.Mul(ratio, powers)]
    window = Window.of(at, ())
    return [op.Mul(spread(at, window, op.Div(at.signal, window_sums(at, window, powers))), powers)]


def in_proportion(at: Site, parts: Signal) -> Signals:
    """Divide the signal of a reduction in proportion to numbers that are not negative."""
    op, parts = at.op, at.op.Max(parts, LEAST)
    ratio = op.Div(kept(at, at.signal), op.ReduceSum(parts, axes_of(at)))
    return only(at, 0, op.Mul(ratio, parts))


def signals_of(at: Site) -> Sequence[int]:
    """Return the factors of a product that depend on the image and are no gates, or all if none is left.

    A gate is what is stretched to the other's size, else what an activation between two bounds or a Softmax
    computed.
    """
    factors = depending(at)
    if factors[-1] > 1:
        raise at.unsupported("what it adds to its product depends on the explained input")
    if traits_of(at.node) & {POINTWISE}:
        factors = [i for i in factors if at.shape_of(i) == at.shape_of_output()] or factors
    return [i for i in factors if not _is_bounded(at, i)] or factors


def _is_bounded(at: Site, i: int) -> bool:
    node = at.model.producers.get(at.node.inputs[i].name)
    while node is not None and (VIEW in traits_of(node) or node.op == "Expand"):
        node = at.model.producers.get(node.inputs[0].name)
    return node is not None and bool(traits_of(node) & {SQUASHING, PROBABILITY})
