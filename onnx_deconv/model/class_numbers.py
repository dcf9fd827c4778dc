"""Which classes of scores the numbers of an output are, followed from node to node."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import onnx_graphsurgeon as gs
from onnx import TensorProto

from onnx_deconv.model.model import Array, Model
from onnx_deconv.model.tail_steps import below, given_of, is_whole, kept, picks, slopes
from onnx_deconv.model.tails import Tail, falling
from onnx_deconv.operators import find, traits_of
from onnx_deconv.operators.axes import cut_out, picked_along, placed_from, takes_lowest
from onnx_deconv.operators.node import ForwardNode
from onnx_deconv.operators.traits import DISCONTINUOUS, JOIN, PICK, POINTWISE, PROBABILITY, REDUCTION, VIEW

Elements = list[tuple[int, int]]
"""For each class its class among the scores, and whether it rises (1) or falls (-1) with it."""


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
        ArgMax's, are those that it is picked from; where the lowest is picked, it is the class that falls. Of
        a truth value that says whether it is one of some classes they are these.
    """
    known, decided = _followed(model, tail, classes, count)
    if decided is None:
        return _elements(known.get(tail.output))
    if takes_lowest(ForwardNode(decided, model)):
        lowest = _elements(known.get(decided.inputs[0].name))
        return None if lowest is None else [(own, -sign) for own, sign in lowest]
    found = _elements(known.get(before(model, decided) or "")) if picks(model, decided) else None
    meant = None if found is None else _meant(model, tail, decided, len(found))
    if found is None or meant is None:
        return found
    return [(found[k][0], found[k][1] * sign) for k, sign in meant] or None


def _meant(model: Model, tail: Tail, picked: gs.Node, count: int) -> Elements | None:
    """Return the classes for which an output holds that says of the best one whether it is such, as a == 3.

    Compared with a row of numbers, as a == [0, 1, 2], the best class is one for each of these, or with all
    others, as in a != [0, 1, 2], it is the one that falls. ``None`` where an output says anything else; none
    of a row where it is not known.
    """
    made = {v.name: node for node in tail.nodes for v in node.outputs}
    value, path = tail.output, list[gs.Node]()
    while (node := made.get(value)) is not None and node is not picked:
        lower, passed = below(model, node, value)
        path += passed
        value = lower or ""
    truths = [model.type_of(each.outputs[0].name).dtype == TensorProto.BOOL for each in path]
    if node is None or not is_whole(model, value) or not any(truths):
        return None
    known: dict[str, Array] = {value: np.arange(count)[:, None]}
    for each in reversed(path):
        found = _of_each_class(model, each, known)
        if found is None:
            return [] if _meets_a_row(model, each) else None
        known[each.outputs[0].name] = found
    truth = known[tail.output].astype(bool)
    if truth.shape[-1] > 1:
        return _of_a_row(np.broadcast_to(truth, (count, truth.shape[-1])))
    held = np.flatnonzero(np.broadcast_to(truth, (count, 1))).tolist()
    return [(k, 1) for k in held] if 0 < len(held) < count else None


def _of_a_row(truth: Array) -> Elements:
    """Return for each number the only class for which it holds, or does not; none if any has none."""
    found: Elements = []
    for column in truth.T:
        held, others = np.flatnonzero(column).tolist(), np.flatnonzero(~column).tolist()
        if len(held) == 1:
            found.append((held[0], 1))
        elif len(others) == 1:
            found.append((others[0], -1))
        else:
            return []
    return found


def _meets_a_row(model: Model, node: gs.Node) -> bool:
    """Tell whether a node computes with a row of numbers, or with such that are not known."""
    fixed = [v.name for v in node.inputs if v.name and v.name not in given_of(model, node)]
    numbers = [model.constant(name) for name in fixed]
    return POINTWISE in traits_of(node) and any(each is None or each.size > 1 for each in numbers)


def _of_each_class(model: Model, node: gs.Node, known: Mapping[str, Array]) -> Array | None:
    """Return what a node gives for each class that may be the best; ``None`` where that is not known.

    The classes are rows; there are several columns after it was compared with a row of numbers.
    """
    entry = find(node.op, node.domain)
    if VIEW in entry.traits:
        return known.get(node.inputs[0].name)
    inputs = [known.get(v.name, model.constant(v.name)) for v in node.inputs]
    if POINTWISE not in entry.traits or not entry.can_evaluate or any(each is None for each in inputs):
        return None
    rows = list[Array]()
    for value, numbers in zip(node.inputs, inputs, strict=True):
        row = numbers if value.name in known else _row(model, node, numbers)
        if row is None:
            return None
        rows.append(row)
    return np.asarray(entry.evaluate(node.attrs, *rows))


def _row(model: Model, node: gs.Node, constant: Array | None) -> Array | None:
    """Return a number, or a row of them where what is compared has a single one; else ``None``."""
    if constant is None or constant.size == 1:
        return None if constant is None else constant.reshape(1, 1)
    shape = model.type_of(given_of(model, node)[0]).shape
    long = [k for k, size in enumerate(constant.shape[::-1], 1) if size > 1]
    if shape is None or len(long) > 1 or (long[0] <= len(shape) and shape[-long[0]] != 1):
        return None
    return constant.reshape(1, -1)


def untraced(
    model: Model, tail: Tail, classes: int, count: int, *, has_positions: bool = False
) -> gs.Node | None:
    """Return the node behind which it is not known which score a class of an output is, or which way it goes.

    ``None`` where it is known, or where a channel of a map is the class of the same number whatever follows:
    nodes that compare places, or join what is told of each map.

    Parameters
    ----------
    model, tail, classes, count
        As for :func:`elements`.
    has_positions
        Whether there is a map, or a row, of each class.
    """
    known, decided = _followed(model, tail, classes, count)
    if decided is None:
        return None
    if picks(model, decided):
        unknown = not has_positions and elements(model, tail, classes, count) is None
        found = known.get(before(model, decided) or decided.inputs[0].name)
        return decided if unknown or _picks_by_others(model, tail, decided, found) else None
    moves = PICK in traits_of(decided) or placed_from(ForwardNode(decided, model)) is not None
    return decided if moves or not has_positions or _is_of_one_value(model, decided) else None


def mixture(model: Model, tail: Tail, classes: int, count: int) -> gs.Node | None:
    """Return the last node that mixes what stands for several parts of the classes; ``None`` without one.

    It joins, or compares, the best of some classes with those of others, or joins to the classes what falls
    as the best of them rises, as a class for what is none of them.

    Parameters
    ----------
    model, tail, classes, count
        As for :func:`elements`.
    """
    known = _known(model, tail, classes, count, past_choices=True)
    among = {value: set(np.abs(numbers).ravel().tolist()) for value, numbers in known.items()}
    mixed, last = set[str](), None
    for node in reversed(tail.nodes):
        results, given = [v.name for v in node.outputs], [v for v in given_of(model, node) if v in among]
        if results[0] in known or not given:
            continue
        together = bool(traits_of(node) & {JOIN, POINTWISE}) and len(given) > 1
        several = together and (
            any(among[v] != among[given[0]] for v in given) or not mixed.isdisjoint(given)
        )
        if several or (JOIN in traits_of(node) and _joins_what_falls(model, tail, given, known)):
            last = node
            mixed.update(results)
        elif not mixed.isdisjoint(given):
            mixed.update(results)
        among |= dict.fromkeys(results, among[given[0]])
    return last


def _joins_what_falls(model: Model, tail: Tail, given: Sequence[str], known: Mapping[str, Array]) -> bool:
    """Tell whether beside the numbers of classes there stands one that falls as the best of them rises."""
    others = [value for value in given if value not in known]
    return len(others) < len(given) and any(
        falling(model, replace(tail, output=value)) is not None for value in others
    )


def _is_of_one_value(model: Model, node: gs.Node) -> bool:
    """Tell whether a node computes a function of one value alone, number by number, as a band of it."""
    waiting, roots = [node.outputs[0].name], set[str]()
    while waiting:
        name = waiting.pop()
        made = model.producers.get(name)
        if made is None or POINTWISE not in traits_of(made):
            roots.add(name)
        else:
            waiting += given_of(model, made)
    return len(roots) == 1 and node.outputs[0].name not in roots


def _picks_by_others(model: Model, tail: Tail, node: gs.Node, numbers: Array | None) -> bool:
    """Tell whether a node picks classes by numbers that are not made of the scores, as of another output."""
    along = picked_along(ForwardNode(node, model))
    if along is None or numbers is None or along >= numbers.ndim or numbers.shape[along] == 1:
        return False
    waiting = [v.name for v in node.inputs[1:] if v.name in given_of(model, node)]
    seen, others = set[str](), bool(waiting)
    while waiting:
        name = waiting.pop()
        if name in (tail.start, tail.ranked):
            others = False
        made = model.producers.get(name)
        if made is not None and name not in seen:
            seen.add(name)
            waiting += given_of(model, made)
    return others


def numbering(model: Model, tail: Tail, classes: int, count: int) -> dict[str, Elements]:
    """Tell what the classes of each value of a tail are among the scores, as :func:`elements` does.

    Values behind one that the image decides are left out, and all behind one that nothing is known of.
    """
    known, _ = _followed(model, tail, classes, count)
    return {value: found for value, each in known.items() if (found := _elements(each)) is not None}


def _followed(model: Model, tail: Tail, classes: int, count: int) -> tuple[dict[str, Array], gs.Node | None]:
    """Number the classes of a tail's values from 1, negative where they fall, and find the first without."""
    known = _known(model, tail, classes, count)
    return known, next((n for n in reversed(tail.nodes) if n.outputs[0].name not in known), None)


def _known(
    model: Model, tail: Tail, classes: int, count: int, *, past_choices: bool = False
) -> dict[str, Array]:
    """Number the classes of a tail's values up to the first without, or of all that have their own."""
    known = {tail.ranked or tail.start: class_numbers(model, tail, classes, count) + 1}
    for node in reversed(tail.nodes):
        try:
            known |= _numbered_results(model, node, known)
        except (TypeError, ValueError, IndexError, KeyError, AttributeError):
            if not past_choices:
                break
    return {value: each for value, each in known.items() if each.all()}


def _elements(numbers: Array | None) -> Elements | None:
    if numbers is None:
        return None
    return [(abs(int(n)) - 1, 1 if n > 0 else -1) for n in numbers.ravel()]


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
    traits, scores = traits_of(node), model.spread.get(node.outputs[0].name)
    if scores is not None:
        return known[scores]
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
    return _moved(model, node, [known.get(v.name, model.constant(v.name)) for v in node.inputs if v.name])


def _moved(model: Model, node: gs.Node, inputs: list[Array | None]) -> Array:
    """Return the numbers of the classes after a node that moves or picks them, whatever the image is."""
    entry, first = find(node.op, node.domain), inputs[0]
    along = picked_along(ForwardNode(node, model))
    if along is not None and first is not None and first.shape[along] == 1:
        # It picks places, which all have the same classes.
        if len(model.type_of(node.outputs[0].name).shape or ()) == first.ndim:
            return first
        inputs[1:] = [None if each is None else np.zeros_like(each) for each in inputs[1:]]
    unknown = not entry.can_evaluate or any(each is None for each in inputs)
    if VIEW in traits_of(node) and first is not None and unknown:
        return first.reshape(1, -1)  # a Flatten, or what comes to one
    return np.asarray(entry.evaluate(node.attrs, *inputs))


def _padded(model: Model, node: gs.Node, numbers: Array) -> Array:
    """Return the numbers of the classes after other positions were added, which no class is among."""
    pads = np.asarray(model.constant(node.inputs[1].name)).ravel()
    along = node.inputs[3:] and model.constant(node.inputs[3].name)
    axes = np.arange(numbers.ndim) if along is None or not len(along) else along.ravel() % numbers.ndim
    if any(numbers.shape[k] > 1 and pads.reshape(2, -1)[:, n].any() for n, k in enumerate(axes)):
        raise ValueError(node.op)
    return numbers
