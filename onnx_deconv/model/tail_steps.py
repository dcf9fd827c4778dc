"""One step of a tail: by which of a node's inputs the scores go on below it, and what passes there."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from weakref import WeakKeyDictionary

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray
from onnx import TensorProto

from onnx_deconv.errors import RuleError
from onnx_deconv.model.axis_names import axis_names
from onnx_deconv.model.model import Array, Model
from onnx_deconv.model.reading import read_by, told_by_the_image
from onnx_deconv.operators import find, traits_of
from onnx_deconv.operators.axes import CHANNEL, compared, picked_from, placed_from, takes_lowest
from onnx_deconv.operators.node import ForwardNode
from onnx_deconv.operators.traits import (
    DISCONTINUOUS,
    JOIN,
    LIMIT,
    PICK,
    POINTWISE,
    PROBABILITY,
    QUANTISER,
    RECTIFIER,
    REDUCTION,
    SQUASHING,
    SWITCHES,
    VIEW,
)

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

_BOTH_SIDES = np.concatenate([-_TRIED[::-1], _TRIED])
_TRUTHS = np.array([False, True])

BOX = 4
"""Fields of a box: its centre and its size, or two corners."""

Step = tuple[str | None, list[gs.Node]]
"""The value that a tail goes on to, and the nodes up to it; ``None`` where it ends."""


def below(model: Model, node: gs.Node, value: str) -> Step:
    """Return the value that a tail goes on to below a value, which a node computes, and the nodes up to it.

    ``None`` where it ends.
    """
    traits, given = traits_of(node), given_of(model, node)
    if branches_of(node):
        taken = _taken_by_a_branch(model, node, value)
        return (None, []) if taken is None else (taken, [node])
    if JOIN in traits and len(given) > 1:
        met = _met(model, node, given)
        column = None if met[0] is not None else score_column(model, node)
        return met if column is None else (column, [node])
    place = picked_from(ForwardNode(node, model))
    first = node.inputs[place].name if len(node.inputs) > place else ""
    if takes_lowest(ForwardNode(node, model)) and not is_whole(model, value):
        return None, []  # the lowest score says which class it is of, but rises with it
    if REDUCTION in traits and PICK in traits and not _is_of_classes(model, node, first):
        return None, []
    if (traits & {VIEW, PICK} or PROBABILITY in traits) and first in given:
        return first, [node]
    if (placed := model.products.get(value) or _placed(model, node)) is not None:
        return placed, [node]
    if POINTWISE not in traits:
        return None, []
    if len(given) == 1 and slopes(model, node) is not None:
        return given[0], [node]
    if (operand := kept(model, node)) is not None:
        return operand, [node]
    return _counted(model, node)


def _placed(model: Model, node: gs.Node) -> str | None:
    """Return what a node places among constants, as picked boxes among rows for those that are missing."""
    place = placed_from(ForwardNode(node, model))
    told = _told_by_the_image(model)
    if place is None or node.inputs[place].name not in told or (place and node.inputs[0].name in told):
        return None
    return str(node.inputs[place].name)


def below_views(model: Model, value: str) -> str:
    """Return the value that one is a view of: the same numbers in another shape, order or type."""
    while (node := model.producers.get(value)) is not None and VIEW in traits_of(node):
        value = node.inputs[0].name
    return value


def trail(model: Model, value: str) -> Iterator[tuple[str, gs.Node]]:
    """Yield the values that a value is made of by one after the other, each with its node."""
    while True:
        node = model.producers.get(value)
        yield value, node
        if node is None or PROBABILITY in traits_of(node) or JOIN in traits_of(node):
            return
        lower, _ = below(model, node, value)
        if lower is None:
            return
        value = lower


def _met(model: Model, node: gs.Node, given: Sequence[str]) -> Step:
    """Return the value that all operands of a join are made of."""
    trails: Sequence[list[tuple[str, gs.Node]]] = [_through_extremum(model, value) for value in given]
    if (meeting := _meeting(trails)) is None:
        trails = _below_squashed(model, trails)
        meeting = _meeting(trails)
    if meeting is None:
        return None, []
    passed = {node.outputs[0].name: node}
    for each in trails:
        for value, step in each:
            if value == meeting:
                break
            passed.setdefault(step.outputs[0].name, step)
    return meeting, _last_first(model, passed.values())


def _meeting(trails: Sequence[Sequence[tuple[str, gs.Node]]]) -> str | None:
    """Return the first value that all trails have; ``None`` if there is none."""
    shared = set.intersection(*({value for value, _ in each} for each in trails))
    return next((value for value, _ in trails[0] if value in shared), None)


def _below_squashed(
    model: Model, trails: Sequence[list[tuple[str, gs.Node]]]
) -> Sequence[list[tuple[str, gs.Node]]]:
    """Let trails go on below what makes probabilities, if all do but those of the numbers of classes."""
    squashed = [_picks_squashed(model, each) for each in trails]
    if not all(own or _is_counted(model, each) for own, each in zip(squashed, trails, strict=True)):
        return trails
    return [
        [*each, *trail(model, each[-1][1].inputs[0].name)] if own else each
        for own, each in zip(squashed, trails, strict=True)
    ]


def _picks_squashed(model: Model, steps: Sequence[tuple[str, gs.Node]]) -> bool:
    """Tell whether a trail ends at a sigmoid that the image picks from, or a softmax whose largest it picks.

    So detectors pick the best boxes of each of their maps, one by one, before they join them; and beside the
    largest probability there may stand the class that has the largest score.
    """
    *above, (_, node) = steps
    if node is None or PROBABILITY not in traits_of(node):
        return False
    along, picked = compared_by(model, node), [step for _, step in above if picks(model, step)]
    return bool(picked) and (along is None or compared_by(model, picked[-1]) == along)


def holds_numbers_of_classes(model: Model, value: str) -> bool:
    """Tell whether something whole, as the number of a class, stands beside others in a value's rows."""
    node = model.producers.get(value)
    if node is None or JOIN not in traits_of(node) or node.attrs["axis"] == 0:
        return False
    given = given_of(model, node)
    return len(given) > 1 and any(_is_counted(model, list(trail(model, each))) for each in given)


def _is_counted(model: Model, steps: Sequence[tuple[str, gs.Node]]) -> bool:
    return any(is_whole(model, value) for value, _ in steps)


def _through_extremum(model: Model, value: str) -> list[tuple[str, gs.Node]]:
    """List a trail that goes on below a largest number of places, as beside the place where it was found."""
    steps = list(trail(model, value))
    _, node = steps[-1]
    if node is None or not traits_of(node) >= {PICK, REDUCTION}:
        return steps
    return [*steps, *trail(model, node.inputs[0].name)]


def _last_first(model: Model, nodes: Iterable[gs.Node]) -> list[gs.Node]:
    """Put nodes into the order of the graph, backwards."""
    place = {value: k for k, value in enumerate(model.producers)}
    return sorted(nodes, key=lambda node: -place[node.outputs[0].name])


def branches_of(node: gs.Node) -> list[gs.Graph]:
    """Return the graphs of which a node runs one, or one again and again."""
    return [each for each in node.attrs.values() if isinstance(each, gs.Graph)]


def _taken_by_a_branch(model: Model, node: gs.Node, value: str) -> str | None:
    """Return what one branch picks a value from, where the other has a constant, as for no detections."""
    place = [v.name for v in node.outputs].index(value)
    told = _told_by_the_image(model)
    found = []
    for branch in branches_of(node):
        made = {v.name: inner for inner in branch.nodes for v in inner.outputs}
        name = branch.outputs[place].name
        while name in made:
            inner = made[name]
            if not traits_of(inner) & {PICK, VIEW} or REDUCTION in traits_of(inner):
                break
            name = inner.inputs[0].name
        reads = [name for inner in branch.nodes for name in read_by(inner) if name in told]
        if reads or name in told:
            found.append(name)
    return found[0] if len(found) == 1 and len(branches_of(node)) > 1 and found[0] in told else None


def score_column(model: Model, node: gs.Node) -> str | None:
    """Return the scores among what is joined to rows of boxes; ``None`` if these are none.

    A row holds a box that the image chose: its corners, its score, mostly its class, in some its image. The
    score is the one real number that was picked; where there is a class, by the same scores as this was.
    """
    axis, given = len(model.type_of(node.outputs[0].name).shape or ()) - 1, given_of(model, node)
    if JOIN not in traits_of(node) or axis < 1 or len(given) < 2 or node.attrs["axis"] not in (axis, -1):  # noqa: PLR2004
        return None
    trails = {value: list(trail(model, value)) for value in given}
    named = {v for v, steps in trails.items() if _is_counted(model, steps)}
    reached = {value for each in named for value, _ in trails[each]}
    widths = {value: (model.type_of(value).shape or (None,))[-1] for value in given}
    beside = sum(BOX if width is None else width for value, width in widths.items() if value not in named)
    if beside <= BOX:
        return None
    columns = [
        value
        for value, steps in trails.items()
        if value not in named
        and widths[value] == 1
        and any(step is not None and picks(model, step) for _, step in steps)
        and (not named or any(each in reached for each, _ in steps))
    ]
    return columns[0] if len(columns) == 1 else None


def _is_of_classes(model: Model, node: gs.Node, value: str) -> bool:
    """Tell whether a reduction goes over the channels of a filter alone, as the best class of a box does.

    One class alone is the best of all.
    """
    axis, where = compared_by(model, node), axis_names(model).values.get(value)
    if axis is None or where is None:
        return False
    return where[axis] == {CHANNEL} or (model.type_of(value).shape or (None,) * len(where))[axis] == 1


def kept(model: Model, node: gs.Node) -> str | None:
    """Return the operand that a node keeps where a condition holds, as in heat · (heat == its pooled map).

    The condition is what no derivative passes, whatever it is computed from; elsewhere there is a constant.
    """
    given = given_of(model, node)
    if POINTWISE not in traits_of(node) or len(given) == 1:
        return None
    conditions = {v: numbers for v in given if (numbers := _condition(model, v)) is not None}
    others = [v for v in given if v not in conditions]
    if len(others) != 1:
        return None
    found = [_tried(model, node, {v: numbers[held] for v, numbers in conditions.items()}) for held in (0, 1)]
    rising = [values is not None and (values[1:] >= values[:-1]).all() for values in found]
    moving = [values is not None and (values[1:] > values[:-1]).any() for values in found]
    return others[0] if all(rising) and any(moving) else None


def guarded(model: Model, node: gs.Node) -> str | None:
    """Return the operand that a node keeps unless it is infinite or no number at all; ``None`` of others."""
    operand = kept(model, node)
    others = (value for value in given_of(model, node) if value != operand)
    return operand if operand and all(len(_finite_truths(model, v)) == 1 for v in others) else None


def _finite_truths(model: Model, value: str) -> Array:
    """Return what a condition may be for finite numbers; both where that is not told."""
    node = model.producers.get(value)
    given = [] if node is None else given_of(model, node)
    truths = [v for v in given if model.type_of(v).dtype == TensorProto.BOOL]
    if node is None or (not truths and model.type_of(value).dtype != TensorProto.BOOL):
        return _TRUTHS
    if POINTWISE not in traits_of(node) or not find(node.op, node.domain).can_evaluate:
        return _finite_truths(model, truths[0]) if VIEW in traits_of(node) and truths else _TRUTHS
    numbers = [v for v in given if v not in truths]
    bounds = [each for each in _constants(model, node, {}) if each is not None]
    whole = any(model.type_of(v).dtype not in FLOATS for v in numbers)
    if len(numbers) > 1 or whole or any(each.size != 1 for each in bounds):
        return _TRUTHS
    around = np.concatenate([_BOTH_SIDES, *(each.ravel() + step for each in bounds for step in (-1, 0, 1))])
    grid = np.meshgrid(*(_finite_truths(model, v) if v in truths else around for v in given))
    inputs = _constants(model, node, {v: each.ravel() for v, each in zip(given, grid, strict=True)})
    try:
        return np.unique(find(node.op, node.domain).evaluate(node.attrs, *inputs))
    except (TypeError, ValueError):
        return _TRUTHS


def _condition(model: Model, value: str) -> tuple[Array, Array] | None:
    """Return what a condition is where it does not hold and where it does; ``None`` if a value is none.

    It is made, element by element, of truth values and of steps alone.
    """
    waiting, seen, chain, several = [value], set[str](), list[gs.Node](), False
    while waiting:
        node = model.producers.get(name := waiting.pop())
        if name in seen:
            continue
        seen.add(name)
        if node is None or not traits_of(node) & {POINTWISE, VIEW}:
            return None
        truth = model.type_of(name).dtype == TensorProto.BOOL
        if not truth and not (DISCONTINUOUS in traits_of(node) and RECTIFIER not in traits_of(node)):
            operands = given_of(model, node)
            several = several or len(operands) > 1
            chain += [] if several else [node]
            waiting += operands
    no, yes = np.zeros(()), np.ones(())
    for node in reversed(chain):
        if POINTWISE in traits_of(node) and find(node.op, node.domain).can_evaluate:
            no, yes = (_evaluated(model, node, number) for number in (no, yes))
    return no, yes


def _evaluated(model: Model, node: gs.Node, number: Array) -> Array:
    """Return what a function of one value gives for a number."""
    inputs = _filled(node, _constants(model, node, {}), number)
    return np.asarray(find(node.op, node.domain).evaluate(node.attrs, *inputs))


def _is_step(model: Model, node: gs.Node) -> bool:
    """Tell whether no derivative passes a node."""
    traits, whole = traits_of(node), model.type_of(node.outputs[0].name).dtype not in FLOATS
    return QUANTISER not in traits and (whole or (DISCONTINUOUS in traits and RECTIFIER not in traits))


def is_whole(model: Model, value: str) -> bool:
    """Tell whether a value holds whole numbers or truth values that are no quantised ones."""
    node = model.producers.get(value)
    quantised = node is not None and QUANTISER in traits_of(node)
    return model.type_of(value).dtype not in FLOATS and not quantised


def _counted(model: Model, node: gs.Node) -> Step:
    """Return the only value that whole numbers or truth values are computed from.

    Whole numbers count places or classes, and are computed from such, as a class is from a place. Truth
    values say where scores are large, or larger than those around them.
    """
    result = node.outputs[0].name
    truth, passing = model.type_of(result).dtype == TensorProto.BOOL, {POINTWISE, VIEW}
    passing |= {SWITCHES} if truth else set()
    if not is_whole(model, result):
        return None, []
    waiting, found, passed = [result], dict[str, None](), dict[str, gs.Node]()
    while waiting:
        name = waiting.pop()
        each = model.producers.get(name)
        if name in passed or name in found:
            continue
        ends = each is None or PROBABILITY in traits_of(each)
        apart = truth and (_moves(model, each) or _is_largest(model, each))
        if ends or not (traits_of(each) & passing or apart):
            found[name] = None
            continue
        passed[name] = each
        waiting += given_of(model, each)
    (value, *others) = found or [""]
    alone = value and not others and (truth or is_whole(model, value))
    nodes = _last_first(model, passed.values())
    return (value, nodes) if alone and turn(model, value, nodes) else (None, [])


def _is_largest(model: Model, node: gs.Node | None) -> bool:
    """Tell whether a node finds the largest of several scores, such as of all classes."""
    if node is None or not traits_of(node) >= {PICK, REDUCTION} or takes_lowest(ForwardNode(node, model)):
        return False
    return compared_by(model, node) is not None


_LARGEST = ((0.9, 0.45), (10.0, 5.0), (1e3, 500.0), (-1.0, -2.0))
"""Largest scores, each with one that is smaller."""


def turn(model: Model, value: str, nodes: Sequence[gs.Node]) -> int:
    """Tell which way a truth value goes that compares scores with the largest of them.

    Parameters
    ----------
    model
        The model.
    value
        The scores.
    nodes
        The nodes between these and the truth value, the last one first.

    Returns
    -------
    int
        1 where it holds for the largest score alone, -1 where for all others, 0 where that is not told.
        Also 1 of nodes that find no largest score.
    """
    if not any(_is_largest(model, node) for node in nodes):
        return 1
    order = nodes[::-1]
    pairs = [[_held(model, {value: score}, most, order) for score in (most, less)] for most, less in _LARGEST]
    return ([True, False] in pairs) - ([False, True] in pairs)


def _held(model: Model, scores: Mapping[str, float], largest: float, nodes: Sequence[gs.Node]) -> bool:
    """Evaluate the truth value that nodes compute from one score and the largest of all."""
    known, most = {value: np.asarray(score) for value, score in scores.items()}, np.asarray(largest)
    for node in nodes:
        entry, result = find(node.op, node.domain), node.outputs[0].name
        given = [most if each is None else each for each in _constants(model, node, known)]
        if POINTWISE in entry.traits and entry.can_evaluate:
            known[result] = np.asarray(entry.evaluate(node.attrs, *given))
        else:
            known[result] = given[0] if VIEW in entry.traits else most
    return bool(known[nodes[-1].outputs[0].name])


def _moves(model: Model, node: gs.Node) -> bool:
    """Tell whether a node only moves numbers to other places, whatever the image is."""
    cut = PICK in traits_of(node) and not picks(model, node)
    return cut or _placed(model, node) is not None


def slopes(model: Model, node: gs.Node) -> NDArray[np.int64] | None:
    """Tell where a function of one value rises (1) and falls (-1); ``None`` if it does both or is unknown."""
    values = _tried(model, node, {})
    if values is not None and (values == values[0]).all():  # a step at 0, perhaps
        values = _tried(model, node, {}, _BOTH_SIDES)
    if values is None:
        return None
    rises = (values[1:] >= values[:-1]).all(axis=0)
    falls = (values[1:] <= values[:-1]).all(axis=0)
    return np.where(rises, 1, -1) if (rises ^ falls).all() else None


def saturates(model: Model, node: gs.Node) -> bool:
    """Tell whether a function of one value has a bound on each side that it reaches, as a Clip has.

    No derivative passes where it has reached them.
    """
    if POINTWISE not in traits_of(node) or len(given_of(model, node)) != 1:
        return False
    values = _tried(model, node, {}, _BOTH_SIDES)
    if values is None or not traits_of(node) & {LIMIT, SQUASHING} or len(values) != len(_BOTH_SIDES):
        return False
    far = 2 if LIMIT in traits_of(node) else 3  # Tanh comes so near to its bounds that it is rounded to them
    flat = (values[:far] == values[0]).all() and (values[-far:] == values[-1]).all()
    return bool(flat and (values[0] != values[-1]).all())


def _tried(model: Model, node: gs.Node, fixed: Mapping[str, Array], numbers: Array = _TRIED) -> Array | None:
    """Return what a function of one value, the others being fixed, gives for the numbers it is tried on."""
    entry = find(node.op, node.domain)
    constants = _constants(model, node, fixed)
    if not entry.can_evaluate:
        return None
    varied = (v.name for v, each in zip(node.inputs, constants, strict=True) if v.name and each is None)
    truth = any(model.type_of(name).dtype == TensorProto.BOOL for name in varied)
    try:
        with np.errstate(all="ignore"):
            found = [
                np.asarray(entry.evaluate(node.attrs, *_filled(node, constants, x)), np.float64)
                for x in (_TRUTHS if truth else numbers)
            ]
    except (TypeError, ValueError):
        return None
    return np.stack(np.broadcast_arrays(*found))


def is_even(model: Model, node: gs.Node) -> bool:
    """Tell whether a function of one value has the same value at a number and its negative, as x² and |x|."""
    entry = find(node.op, node.domain)
    if POINTWISE not in entry.traits or not entry.can_evaluate or len(given_of(model, node)) != 1:
        return False
    constants = _constants(model, node, {})
    there, back = (entry.evaluate(node.attrs, *_filled(node, constants, x)) for x in (2.0, -2.0))
    return np.array_equal(there, back)


def _constants(model: Model, node: gs.Node, fixed: Mapping[str, Array]) -> list[Array | None]:
    """Return the numbers of a node's inputs; ``None`` of the one that a function is tried on.

    What repeats one number to a size that the run tells is that number here.
    """
    found: list[Array | None] = []
    for value in node.inputs:
        if value.name in fixed:
            found.append(fixed[value.name])
        elif value.name in model.constants:
            found.append(model.constant(value.name))
        elif value.name and value.name not in _told_by_the_image(model):
            found.append(np.zeros(()))
        else:
            found.append(None)
    return found


def _filled(node: gs.Node, constants: Sequence[Array | None], x: float | Array) -> Iterator[Array | None]:
    for value, constant in zip(node.inputs, constants, strict=True):
        missing = not value.name
        yield None if missing else np.asarray(x) if constant is None else constant


def picks(model: Model, node: gs.Node) -> bool:
    """Tell whether the image decides what a node picks, or where it keeps what it is given."""
    if branches_of(node):
        return True
    if PICK not in traits_of(node):
        return kept(model, node) is not None and guarded(model, node) is None
    return bool(node.domain) or compared_by(model, node) is not None or len(given_of(model, node)) > 1


def blocks(model: Model, node: gs.Node) -> bool:
    """Tell whether no derivative passes a node of a tail, or the image decides what it picks."""
    return QUANTISER not in traits_of(node) and (picks(model, node) or _is_step(model, node))


def compared_by(model: Model, node: gs.Node) -> int | None:
    """Return the axis along which a node compares, as :func:`~onnx_deconv.operators.axes.compared` does."""
    try:
        return compared(ForwardNode(node, model))
    except RuleError:  # not even the number of axes is known
        return None


def compared_in(model: Model, passed: Iterable[gs.Node], lower: str) -> int | None:
    """Return the axis of a value along which one of the nodes that a tail passes compares it."""
    axes = (compared_by(model, node) for node in passed if node.inputs[0].name == lower)
    return next((axis for axis in axes if axis is not None), None)


def given_of(model: Model, node: gs.Node) -> list[str]:
    """Return the values among a node's inputs that the image's numbers change, each once."""
    told = _told_by_the_image(model)
    return list(dict.fromkeys(v.name for v in node.inputs if v.name in told))


def _told_by_the_image(model: Model) -> set[str]:
    """Return the values that depend on the inputs' numbers, not on their sizes alone."""
    if model not in _TOLD:
        _TOLD[model] = told_by_the_image(model.nodes, model.inputs)
    return _TOLD[model]


_TOLD: WeakKeyDictionary[Model, set[str]] = WeakKeyDictionary()
