"""The tail of an output: the nodes after the scores, which squash, scale, round, reorder or pick them."""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace

import numpy as np
import onnx_graphsurgeon as gs
from onnx import TensorProto

from onnx_deconv.model.axis_names import axis_names
from onnx_deconv.model.model import Array, Model
from onnx_deconv.model.tail_steps import (
    below,
    blocks,
    compared_by,
    compared_in,
    given_of,
    kept,
    picks,
    saturates,
    score_column,
    slopes,
)
from onnx_deconv.operators import find, traits_of
from onnx_deconv.operators.axes import BATCH, CHANNEL, cut_out, placed_from, takes_lowest
from onnx_deconv.operators.node import ForwardNode, label
from onnx_deconv.operators.traits import (
    DISCONTINUOUS,
    FILTER,
    JOIN,
    PICK,
    POINTWISE,
    PROBABILITY,
    REDUCTION,
    VIEW,
    Trait,
)

Elements = list[tuple[int, int]]
"""For each class its class among the scores, and whether it rises (1) or falls (-1) with it."""

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
        lower, passed = below(model, node, value)
        if lower is None and (alike := _alike(model, value)) is not None:
            return replace(alike, output=output, nodes=tuple(steps))
        if lower is None or lower in model.inputs:
            break
        steps += passed
        value = lower
        if PROBABILITY in traits_of(node):
            compares = compared_by(model, node)
            return _unmixed(model, Tail(output, lower, tuple(steps), squashes=True, compares=compares))
        if any(PROBABILITY in traits_of(each) for each in passed):  # one in each part of what is joined
            return _unmixed(model, Tail(output, lower, tuple(steps), squashes=True))
        bounded = _is_bounded(model, node, value)
        if bounded or any(blocks(model, each) for each in passed):
            found = Tail(output, lower, tuple(steps), compares=compared_in(model, passed, lower))
    return _unmixed(model, found)


def _alike(model: Model, value: str) -> Tail | None:
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


def picks_boxes(model: Model, tail: Tail) -> bool:
    """Tell whether an output is rows of boxes that the graph picks, each with its score."""
    return any(score_column(model, node) is not None for node in tail.nodes)


def picked_by_the_image(model: Model, value: str) -> bool:
    """Tell whether the image decides which numbers a value holds, as the lowest of several."""
    while (node := model.producers.get(value)) is not None and VIEW in traits_of(node):
        value = node.inputs[0].name
    return node is not None and PICK in traits_of(node) and picks(model, node)


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
        if PROBABILITY in traits_of(node):
            if among_classes and compared_by(model, node) is None:
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
        if PROBABILITY in traits_of(node):
            found.append(node)
        else:
            values += given_of(model, node)
    return found


def elements(model: Model, tail: Tail, classes: int, count: int) -> Elements | None:
    """Tell what the classes of an output are among the scores.

    Parameters
    ----------
    model
        The model.
    tail
        The output's tail.
    classes
        The axis of the scores along which the classes lie.
    count
        How many classes the scores have.

    Returns
    -------
    list of tuple or None
        For each class of the output its class among the scores, and -1 where it falls as that rises (as 1 - p
        does), else 1; ``None`` where that is not known. The classes of a value that the image decides, as an
        ArgMax's, are those that it is picked from; where the lowest is picked, it is the class that falls.
    """
    known = numbering(model, tail, classes, count)
    decided = next((n for n in reversed(tail.nodes) if n.outputs[0].name not in known), None)
    if decided is None:
        return known.get(tail.output)
    if takes_lowest(ForwardNode(decided, model)):
        lowest = known.get(decided.inputs[0].name)
        return None if lowest is None else [(own, -sign) for own, sign in lowest]
    return known.get(before(model, decided) or "") if picks(model, decided) else None


def numbering(model: Model, tail: Tail, classes: int, count: int) -> dict[str, Elements]:
    """Tell what the classes of each value of a tail are among the scores, as :func:`elements` does.

    Values behind one that the image decides are left out, and all behind one that nothing is known of.
    """
    known = {tail.ranked or tail.start: class_numbers(model, tail, classes, count) + 1}
    for node in reversed(tail.nodes):
        try:
            known |= _numbered_results(model, node, known)
        except (TypeError, ValueError, IndexError, KeyError, AttributeError):
            break
    return {
        value: [(abs(int(n)) - 1, 1 if n > 0 else -1) for n in each.ravel()]
        for value, each in known.items()
        if each.all()
    }


def class_numbers(model: Model, tail: Tail, classes: int, count: int) -> Array:
    """Number the classes of a tail's scores from 0, along their axis; all other axes have size 1."""
    rank = len(model.type_of(tail.start).shape or ())
    return np.arange(count).reshape([-1 if k == classes else 1 for k in range(rank)])


def before(model: Model, node: gs.Node) -> str | None:
    """Return the value that a node of a tail squashes, reorders or picks from; ``None`` of other nodes."""
    return below(model, node, node.outputs[0].name)[0]


def _numbered_results(model: Model, node: gs.Node, known: dict[str, Array]) -> dict[str, Array]:
    """Return the numbers of the classes in each result of a node."""
    given = known.get(node.inputs[0].name)
    results = [v.name for v in node.outputs if v.name]
    cut = {} if given is None else {value: cut_numbers(model, node, value, given) for value in results}
    found = {value: numbers for value, numbers in cut.items() if numbers is not None}
    return found or {node.outputs[0].name: numbered(model, node, known)}


def cut_numbers(model: Model, node: gs.Node, value: str, numbers: Array) -> Array | None:
    """Return the numbers of the classes in a result of a node that cuts them along an axis; else ``None``."""
    part = cut_out(ForwardNode(node, model), value)
    if part is None:
        return None
    axis, first, last = part
    return numbers if numbers.shape[axis] == 1 else numbers.take(range(first, last), axis)


def numbered(model: Model, node: gs.Node, known: dict[str, Array]) -> Array:
    """Return the numbers of the classes after a node."""
    traits = traits_of(node)
    entry = find(node.op, node.domain)
    if PROBABILITY in traits or (PICK in traits and DISCONTINUOUS in traits):  # a softmax, hard or not
        return known[node.inputs[0].name]
    if POINTWISE in traits and VIEW not in traits:
        if (value := kept(model, node)) is not None:
            return known[value]
        (value,) = given_of(model, node)
        signs = slopes(model, node)
        if signs is None:
            raise ValueError(node.op)
        return np.asarray(known[value] * (signs.reshape(-1)[0] if signs.size == 1 else signs))
    if VIEW in traits and POINTWISE in traits:
        return known[node.inputs[0].name]
    if REDUCTION in traits:
        raise ValueError(node.op)
    if placed_from(ForwardNode(node, model)) == 0:
        return _padded(model, node, known[node.inputs[0].name])
    inputs = [known[v.name] if v.name in known else model.constant(v.name) for v in node.inputs if v.name]
    if VIEW in traits and (not entry.can_evaluate or any(i is None for i in inputs)):
        return known[node.inputs[0].name].reshape(1, -1)  # a Flatten, or what comes to one
    return np.asarray(entry.evaluate(node.attrs, *inputs))


def _padded(model: Model, node: gs.Node, numbers: Array) -> Array:
    """Return the numbers of the classes after other positions were added, which no class is among."""
    pads = np.asarray(model.constant(node.inputs[1].name)).ravel()
    along = node.inputs[3:] and model.constant(node.inputs[3].name)
    axes = np.arange(numbers.ndim) if along is None or not len(along) else along.ravel() % numbers.ndim
    if any(numbers.shape[k] > 1 and pads.reshape(2, -1)[:, n].any() for n, k in enumerate(axes)):
        raise ValueError(node.op)
    return numbers
