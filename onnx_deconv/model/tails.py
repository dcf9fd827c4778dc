"""The tail of an output: the nodes after the scores, which squash, scale, round, reorder or pick them."""

from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray
from onnx import TensorProto

from onnx_deconv.errors import RuleError
from onnx_deconv.model.model import Array, Model
from onnx_deconv.operators import find
from onnx_deconv.operators.axes import compared, picked_from
from onnx_deconv.operators.node import ForwardNode, label
from onnx_deconv.operators.traits import (
    DISCONTINUOUS,
    FILTER,
    JOIN,
    PICK,
    POINTWISE,
    PROBABILITY,
    QUANTISER,
    RECTIFIER,
    REDUCTION,
    VIEW,
    Trait,
)

Elements = list[tuple[int, int]]
"""For each class its class among the scores, and whether it rises (1) or falls (-1) with it."""

FLOATS = frozenset(
    {
        TensorProto.FLOAT,
        TensorProto.FLOAT16,
        TensorProto.DOUBLE,
        TensorProto.BFLOAT16,
        TensorProto.UNDEFINED,
    }
)
"""Element types of real numbers; unknown ones are taken for such."""

_TRIED = np.array([1e-6, 0.01, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99, 1.0, 10.0, 1e3, 1e6])
"""Numbers on which a function is tried for whether it rises or falls: those that probabilities may be."""


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
        The axis of the scores along which a node compares them, if one does: the classes'.
    ranked
        The value by which classes are ranked: the mean of several probabilities, whose numbers stand where
        the scores' do; ``None`` for the scores.
    inside
        The nodes between the scores and that mean, the last one first.
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
    such nodes that lets no derivative pass. What is computed from an input right away is no score.
    """
    value, steps, found = output, list[gs.Node](), Tail(output, output, ())
    while (node := model.producers.get(value)) is not None:
        if (mean := model.ensembles.get(value)) is not None:
            return Tail(output, mean.scores, tuple(steps), True, mean.classes, value, mean.nodes)
        below, passed = _below(model, node)
        if below is None or below in model.inputs:
            break
        steps += passed
        value = below
        if PROBABILITY in _traits(node):
            return Tail(output, below, tuple(steps), squashes=True, compares=_compared(model, node))
        if any(_blocks(model, each) for each in passed):
            found = Tail(output, below, tuple(steps), compares=_compared(model, node))
    return found


def chooses(model: Model, tail: Tail) -> bool:
    """Tell whether a tail compares scores, or picks by them, as is done with classes alone."""
    return any(
        _picks(model, node) or model.type_of(node.outputs[0].name).dtype == TensorProto.BOOL
        for node in tail.nodes
    )


def mixes_probabilities(model: Model, output: str) -> bool:
    """Tell whether an output is made of probabilities alone, as the largest of several softmaxes is.

    Where nothing could be cut off, no value stands for the scores.
    """
    return _made_of_probabilities(model, output, {JOIN, PICK, POINTWISE, REDUCTION, VIEW})


def joins_probabilities(model: Model, output: str) -> bool:
    """Tell whether an output is probabilities, as they are: those of several softmaxes beside each other."""
    return _made_of_probabilities(model, output, {JOIN, PICK, VIEW})


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
        if PROBABILITY in _traits(node):
            if among_classes and _compared(model, node) is None:
                return False
            found += 1
        elif _traits(node) & by:
            values += _given(model, node)
        else:
            return False
    return found > 0


def squashed_before(model: Model, value: str) -> bool:
    """Tell whether a value, or a part of it, is made of probabilities that come after the last filters."""
    values, seen = [value], set[str]()
    while values:
        value = values.pop()
        node = model.producers.get(value)
        if node is None or value in seen or FILTER in _traits(node):
            continue
        seen.add(value)
        if PROBABILITY in _traits(node):
            return True
        values += _given(model, node)
    return False


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
        ArgMax's, are those that it is picked from.
    """
    known = numbering(model, tail, classes, count)
    decided = next((n for n in reversed(tail.nodes) if n.outputs[0].name not in known), None)
    if decided is None:
        return known.get(tail.output)
    return known.get(before(model, decided) or "") if _picks(model, decided) else None


def numbering(model: Model, tail: Tail, classes: int, count: int) -> dict[str, Elements]:
    """Tell what the classes of each value of a tail are among the scores, as :func:`elements` does.

    Values behind one that the image decides are left out, and all behind one that nothing is known of.
    """
    rank = len(model.type_of(tail.start).shape or ())
    numbers = np.arange(1, count + 1).reshape([-1 if k == classes else 1 for k in range(rank)])
    known: dict[str, Array] = {tail.ranked or tail.start: numbers}
    for node in reversed(tail.nodes):
        try:
            known[node.outputs[0].name] = _numbered(model, node, known)
        except (TypeError, ValueError, IndexError, KeyError, AttributeError):
            break
    return {
        value: [(abs(int(n)) - 1, 1 if n > 0 else -1) for n in each.ravel()]
        for value, each in known.items()
        if each.all()
    }


def before(model: Model, node: gs.Node) -> str | None:
    """Return the value that a node of a tail squashes, reorders or picks from; ``None`` of other nodes."""
    return _below(model, node)[0]


def _below(model: Model, node: gs.Node) -> tuple[str | None, list[gs.Node]]:
    """Return the value that a tail goes on to after a node, and the nodes up to it; ``None`` if it ends."""
    traits = _traits(node)
    given = _given(model, node)
    if JOIN in traits and len(given) > 1:
        return _met(model, node, given)
    place = picked_from(ForwardNode(node, model))
    first = node.inputs[place].name if len(node.inputs) > place else ""
    if (traits & {VIEW, PICK} or PROBABILITY in traits) and first in given:
        return first, [node]
    if POINTWISE in traits and len(given) == 1 and slopes(model, node) is not None:
        return given[0], [node]
    return None, []


def _met(model: Model, node: gs.Node, given: Sequence[str]) -> tuple[str | None, list[gs.Node]]:
    """Return the value that all operands of a join are made of."""
    trails = [list(_trail(model, value)) for value in given]
    shared = set.intersection(*({value for value, _ in trail} for trail in trails))
    meeting = next((value for value, _ in trails[0] if value in shared), None)
    if meeting is None:
        return None, []
    passed = [node]
    for trail in trails:
        for value, step in trail:
            if value == meeting:
                break
            passed.append(step)
    return meeting, passed


def _trail(model: Model, value: str) -> Iterator[tuple[str, gs.Node]]:
    """Yield the values that a value is made of by one after the other, each with its node."""
    while True:
        node = model.producers.get(value)
        yield value, node
        if node is None or PROBABILITY in _traits(node) or JOIN in _traits(node):
            return
        below, _ = _below(model, node)
        if below is None:
            return
        value = below


def slopes(model: Model, node: gs.Node) -> NDArray[np.int64] | None:
    """Tell where a function of one value rises (1) and falls (-1); ``None`` if it does both or is unknown."""
    entry = find(node.op, node.domain)
    constants = [model.constant(v.name) if v.name in model.constants else None for v in node.inputs]
    if not entry.can_evaluate:
        return None
    try:
        with np.errstate(all="ignore"):
            found = [
                np.asarray(entry.evaluate(node.attrs, *_filled(node, constants, x)), np.float64)
                for x in _TRIED
            ]
    except (TypeError, ValueError):
        return None
    values = np.stack(np.broadcast_arrays(*found))
    rises = (values[1:] >= values[:-1]).all(axis=0)
    falls = (values[1:] <= values[:-1]).all(axis=0)
    return np.where(rises, 1, -1) if (rises ^ falls).all() else None


def is_even(model: Model, node: gs.Node) -> bool:
    """Tell whether a function of one value has the same value at a number and its negative, as x² and |x|."""
    entry = find(node.op, node.domain)
    constants = [model.constant(v.name) if v.name in model.constants else None for v in node.inputs]
    if POINTWISE not in entry.traits or not entry.can_evaluate or len(_given(model, node)) != 1:
        return False
    there, back = (entry.evaluate(node.attrs, *_filled(node, constants, x)) for x in (2.0, -2.0))
    return np.array_equal(there, back)


def _filled(node: gs.Node, constants: Sequence[Array | None], x: float) -> Iterator[Array | None]:
    for value, constant in zip(node.inputs, constants, strict=True):
        missing = not value.name
        yield None if missing else np.asarray(x) if constant is None else constant


def _numbered(model: Model, node: gs.Node, known: dict[str, Array]) -> Array:
    """Return the numbers of the classes after a node."""
    traits = _traits(node)
    entry = find(node.op, node.domain)
    if PROBABILITY in traits:
        return known[node.inputs[0].name]
    if POINTWISE in traits and VIEW not in traits:
        (value,) = _given(model, node)
        signs = slopes(model, node)
        if signs is None:
            raise ValueError(node.op)
        return np.asarray(known[value] * (signs.reshape(-1)[0] if signs.size == 1 else signs))
    if VIEW in traits and POINTWISE in traits:
        return known[node.inputs[0].name]
    inputs = [known[v.name] if v.name in known else model.constant(v.name) for v in node.inputs if v.name]
    if VIEW in traits and (not entry.can_evaluate or any(i is None for i in inputs)):
        return known[node.inputs[0].name].reshape(1, -1)  # a Flatten, or what comes to one
    return np.asarray(entry.evaluate(node.attrs, *inputs))


def _blocks(model: Model, node: gs.Node) -> bool:
    """Tell whether no derivative passes a node of a tail, or the image decides what it picks."""
    traits = _traits(node)
    if QUANTISER in traits:
        return False
    if _picks(model, node):
        return True
    whole = model.type_of(node.outputs[0].name).dtype not in FLOATS
    return whole or (DISCONTINUOUS in traits and RECTIFIER not in traits)


def _picks(model: Model, node: gs.Node) -> bool:
    """Tell whether the image decides what a node picks."""
    if PICK not in _traits(node):
        return False
    return bool(node.domain) or compared(ForwardNode(node, model)) is not None or len(_given(model, node)) > 1


def _compared(model: Model, node: gs.Node) -> int | None:
    try:
        return compared(ForwardNode(node, model))
    except RuleError:  # not even the number of axes is known
        return None


def _given(model: Model, node: gs.Node) -> list[str]:
    """Return the values among a node's inputs that depend on the model's, each once."""
    return list(dict.fromkeys(v.name for v in node.inputs if v.name and v.name not in model.constants))


def _traits(node: gs.Node) -> frozenset[Trait]:
    return find(node.op, node.domain).traits
