"""The tail of an output: the nodes after the scores, which squash, scale, round, reorder or pick them."""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace

import onnx_graphsurgeon as gs
from onnx import TensorProto

from onnx_deconv.model.axis_names import axis_names
from onnx_deconv.model.model import Model
from onnx_deconv.model.tail_steps import (
    below,
    below_views,
    blocks,
    compared_by,
    compared_in,
    given_of,
    is_whole,
    picks,
    saturates,
    score_column,
    slopes,
    turn,
)
from onnx_deconv.operators import traits_of
from onnx_deconv.operators.axes import BATCH, CHANNEL
from onnx_deconv.operators.node import ForwardNode, label
from onnx_deconv.operators.traits import (
    DISCONTINUOUS,
    FILTER,
    JOIN,
    PICK,
    POINTWISE,
    PROBABILITY,
    REDUCTION,
    SWITCHES,
    VIEW,
    Trait,
)

ELSEWHERE = -1
"""Stands for the axis along which scores are compared where that is an axis of another shape of theirs."""


@dataclass(frozen=True)
class Tail:
    """What stands between the scores and an output.

    Attributes
    ----------
    output
        The output.
    start
        The scores; the output itself where nothing is cut off.
    nodes
        The nodes that are cut off, the last one first.
    squashes
        Whether one of them makes probabilities.
    compares
        The axis of the scores along which a node compares them, if one does: the classes'; or ``ELSEWHERE``.
    ranked
        The value by which classes are ranked, where the view has gained its scores: the mean of several
        probabilities, or several beside each other. Its numbers stand where the scores' do.
        ``None`` for the scores.
    inside
        The nodes between the scores and that value, the last one first.
    """

    output: str
    start: str
    nodes: Sequence[gs.Node]
    squashes: bool = False
    compares: int | None = None
    ranked: str | None = None
    inside: Sequence[gs.Node] = ()

    @property
    def cut(self) -> list[str]:
        """The operators and names of the nodes that are cut off."""
        return [f"{node.op} {label(node)}" for node in (*self.nodes, *self.inside)]


def tail_of(model: Model, output: str) -> Tail:
    """Find the scores that an output is made of, as :func:`_tail_of` does.

    A number that falls as the best of several rises, as how uncertain a model is, is the score of none of
    them: it is explained itself.
    """
    tail = _tail_of(model, output)
    falls = falling(model, tail)
    return tail if falls is None or any(blocks(model, node) for node in falls) else Tail(output, output, ())


def falling(model: Model, tail: Tail) -> list[gs.Node] | None:
    """Return the nodes after which an output falls as the best score, picked from several, rises.

    ``None`` where it rises, or where none is picked for its number.
    """
    made = {v.name: node for node in tail.nodes for v in node.outputs}
    value, sign, passed = tail.output, 1, list[gs.Node]()
    while (node := made.get(value)) is not None and value != tail.start:
        lower, step = below(model, node, value)
        found = [each for each in step if _finds_the_largest(model, each)]
        sign *= turn(model, lower, step) if lower is not None and len(step) > 1 else 1
        counts = is_whole(model, value) and model.type_of(value).dtype != TensorProto.BOOL
        says = PICK in traits_of(node) and is_whole(model, lower or "")  # which class is the best
        if sign < 0 and not counts and (found or says):
            return [*passed, *(each for each in step if each not in found)]
        signs = slopes(model, node) if _has_slope(model, node) else None
        sign = -sign if signs is not None and (signs < 0).all() else sign
        passed.append(node)
        value = lower or tail.start
    return None


def _finds_the_largest(model: Model, node: gs.Node) -> bool:
    """Tell whether a node finds the largest of several scores, or of those around each."""
    found = PICK in traits_of(node) and DISCONTINUOUS not in traits_of(node)
    return SWITCHES in traits_of(node) or (found and compared_by(model, node) is not None)


def _has_slope(model: Model, node: gs.Node) -> bool:
    return POINTWISE in traits_of(node) and VIEW not in traits_of(node) and len(given_of(model, node)) == 1


def _tail_of(model: Model, output: str) -> Tail:
    """Find the scores that an output is made of.

    They stand before the last softmax or sigmoid if only nodes follow it that scale, shift, limit, round,
    compare, pick or reorder what it gives; a softmax makes every class's signal depend on all others, and
    Simonyan et al. (2014, section 2) start before it for that reason. Else they stand before the first of
    such nodes that lets no derivative pass, or only between two bounds. What is computed from an input right
    away is no score.
    """
    value, steps, found = output, list[gs.Node](), Tail(output, output, ())
    while (node := model.producers.get(value)) is not None:
        if (mean := model.ensembles.get(value)) is not None:
            return Tail(output, mean.scores, tuple(steps), True, mean.classes, value, mean.nodes)
        if value in model.spread:
            return Tail(output, model.spread[value], (*steps, node), True, ELSEWHERE)
        lower, passed = below(model, node, value)
        if lower is None and (same := alike(model, value)) is not None:
            return replace(same, output=output, nodes=tuple(steps))
        if lower is None or lower in model.inputs:
            break
        steps += passed
        value = lower
        if PROBABILITY in traits_of(node):
            compares = compared_by(model, node)
            return _unmixed(model, Tail(output, lower, tuple(steps), squashes=True, compares=compares))
        squashing = [each for each in passed if PROBABILITY in traits_of(each)]
        if squashing:  # one in each part of what is joined
            compares = compared_in(model, squashing, lower)
            return _unmixed(model, Tail(output, lower, tuple(steps), squashes=True, compares=compares))
        bounded = _is_bounded(model, node, value)
        if bounded or any(blocks(model, each) for each in passed):
            found = Tail(output, lower, tuple(steps), compares=compared_in(model, passed, lower))
    return _unmixed(model, found)


def alike(model: Model, value: str) -> Tail | None:
    """Return the tail of a value that joins probabilities and nothing else; ``None`` of others.

    Those of softmaxes beside each other may be of several groups of classes: none is compared with all.
    """
    joined, node = model.joined.get(value), model.producers.get(value)
    if joined is None or joined.beside or node is None:
        return None
    along = {compared_by(model, each) for each in joined.squashed}
    axis = along.pop()
    if axis is not None:
        right_before = {v.name for v in node.inputs} == {n.outputs[0].name for n in joined.squashed}
        if not right_before or JOIN not in traits_of(node) or ForwardNode(node, model).axis() == axis:
            return None
    return None if along else Tail(value, joined.scores, (), True, axis, value, joined.squashed)


def _is_bounded(model: Model, node: gs.Node, value: str) -> bool:
    """Tell whether a node limits a row of scores; pictures and expectations have natural limits."""
    shape = model.type_of(value).shape
    row = shape is not None and sum(size != 1 for size in shape) <= 2  # noqa: PLR2004
    return row and saturates(model, node) and not averages_classes(model, value)


def _unmixed(model: Model, tail: Tail) -> Tail:
    """Go on below what puts classes and positions into one axis, or takes one image out of its batch.

    So detectors do before they pick the best of all boxes and classes.
    """
    lower = tail if any(picks(model, node) for node in tail.nodes) else None
    while lower is not None and not _is_apart(model, lower.start):
        lower = _one_lower(model, lower)
    return tail if lower is None else lower


def _is_apart(model: Model, value: str) -> bool:
    """Tell whether a value has an axis for the images, and none for both classes and positions."""
    where = axis_names(model).values.get(value, ())
    return any(BATCH in axis for axis in where) and not any(
        CHANNEL in axis and len(axis) > 1 for axis in where
    )


def _one_lower(model: Model, tail: Tail) -> Tail | None:
    """Go on below a node that changes no number, whatever the image is."""
    node = model.producers.get(tail.start)
    if node is None or not traits_of(node) & {PICK, VIEW} or picks(model, node):
        return None
    value = node.inputs[0].name
    if value in model.inputs or value not in given_of(model, node):
        return None
    return replace(tail, start=value, nodes=(*tail.nodes, node), compares=None)


def chooses(model: Model, tail: Tail) -> bool:
    """Tell whether a tail compares scores, or picks by them, as is done with classes alone."""
    return any(
        picks(model, node) or model.type_of(node.outputs[0].name).dtype == TensorProto.BOOL
        for node in tail.nodes
    )


def scored_elsewhere(model: Model, tail: Tail) -> bool:
    """Tell whether another output is the probabilities of a tail's scores, or says which is the largest."""
    others = (tail_of(model, output) for output in model.outputs if output != tail.output)
    of_scores = (each for each in others if each.squashes or chooses(model, each))
    return any(_leads_to(model, each.start, tail.start) for each in of_scores)


def _leads_to(model: Model, value: str, scores: str) -> bool:
    """Tell whether a value is scores, or made of them by scaling, shifting or reordering alone."""
    while value != scores:
        node = model.producers.get(value)
        lower = None if node is None else below(model, node, value)[0]
        if lower is None or not traits_of(node) & {POINTWISE, VIEW}:
            return False
        value = lower
    return True


def picks_boxes(model: Model, tail: Tail) -> bool:
    """Tell whether an output is rows of boxes that the graph picks, each with its score."""
    return any(score_column(model, node) is not None for node in tail.nodes)


def picked_by_the_image(model: Model, value: str) -> bool:
    """Tell whether the image decides which numbers a value holds, as the lowest of several, or sums of such.

    The largest along an axis that is gone, as of several crops, leaves the numbers along the others.
    """
    value = below_views(model, value)
    waiting, seen = [value], set[str]()
    while waiting:
        name = waiting.pop()
        node = model.producers.get(name)
        if node is None or name in seen:
            continue
        seen.add(name)
        traits = traits_of(node)
        if PICK in traits and picks(model, node):
            if name == value or _orders(model, node):
                return True
        elif traits & {JOIN, VIEW} or (POINTWISE in traits and PROBABILITY not in traits):
            waiting += given_of(model, node)
    return False


def _orders(model: Model, node: gs.Node) -> bool:
    """Tell whether a node puts scores into an order of their own, as the best first."""
    kept_axes = REDUCTION not in traits_of(node) and DISCONTINUOUS not in traits_of(node)
    return kept_axes and compared_by(model, node) is not None


def mixes_probabilities(model: Model, output: str) -> bool:
    """Tell whether an output is made of probabilities alone, as the largest of several softmaxes is.

    Where nothing could be cut off, no value stands for the scores.
    """
    return _made_of_probabilities(model, output, {JOIN, PICK, POINTWISE, REDUCTION, VIEW})


def joins_probabilities(model: Model, output: str) -> bool:
    """Tell whether an output is probabilities, as they are: those of several softmaxes beside each other."""
    return _made_of_probabilities(model, output, {JOIN, PICK, VIEW})


def mixes_classes(model: Model, output: str) -> bool:
    """Tell whether an output is made of softmaxes over classes alone, and has classes as they have.

    So is the largest of two, their product, or the mean over parts of a batch. In a mean over the classes,
    as an angle is one over bins, nothing runs along an axis any more that classes ran along.
    """
    names, found, values = axis_names(model).values, 0, [output]
    count = (model.type_of(output).shape or (None,))[-1]
    for value in values:
        node = model.producers.get(value)
        told = names.get(value)  # no batch that is cut into parts
        sizes = model.type_of(value).shape or ()
        has_classes = count in sizes if told is None else any(CHANNEL in axis for axis in told)
        if node is None or not has_classes:
            return False
        if PROBABILITY in traits_of(node):
            along = compared_by(model, node)
            if along is None or told is None or CHANNEL not in told[along]:
                return False
            found += 1
        elif picks(model, node) or not traits_of(node) & {JOIN, PICK, POINTWISE, REDUCTION, VIEW}:
            return False
        else:
            values += [each for each in given_of(model, node) if each not in values]
    return found > 0


def averages_classes(model: Model, output: str) -> bool:
    """Tell whether an output is made by constants of what softmaxes give, as a mean over their classes is."""
    by = {FILTER, JOIN, PICK, POINTWISE, REDUCTION, VIEW}
    return _made_of_probabilities(model, output, by, among_classes=True)


def _made_of_probabilities(
    model: Model, output: str, by: AbstractSet[Trait], *, among_classes: bool = False
) -> bool:
    """Tell whether an output is made of probabilities by certain operators alone.

    They may have to be shared out among classes, as by a softmax.
    """
    found, values, seen = 0, [output], set[str]()
    while values:
        value = values.pop()
        node = model.producers.get(value)
        if node is None:
            return False
        if value in seen:
            continue
        seen.add(value)
        if PROBABILITY in traits_of(node) or value in model.spread:
            if among_classes and value not in model.spread and compared_by(model, node) is None:
                return False
            found += 1
        elif traits_of(node) & by and (REDUCTION in by or REDUCTION not in traits_of(node)):
            values += given_of(model, node)
        else:
            return False
    return found > 0


def squashed_before(model: Model, value: str) -> list[gs.Node]:
    """List the nodes that make probabilities in a value, or in a part of it, after the last filters."""
    values, seen, found = [value], set[str](), list[gs.Node]()
    while values:
        value = values.pop()
        node = model.producers.get(value)
        if node is None or value in seen or FILTER in traits_of(node):
            continue
        seen.add(value)
        if PROBABILITY in traits_of(node) or value in model.spread:
            found.append(node)
        else:
            values += given_of(model, node)
    return found
