"""Which fields of boxes are classes, told by what a graph compares before it picks the best boxes."""

from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np
import onnx_graphsurgeon as gs

from onnx_deconv.model.class_numbers import class_numbers, cut_numbers, numbered
from onnx_deconv.model.model import Array, Model
from onnx_deconv.model.reading import below_repeats, is_product
from onnx_deconv.model.tail_steps import (
    below,
    below_views,
    branches_of,
    compared_by,
    given_of,
    is_whole,
    picks,
    score_column,
)
from onnx_deconv.model.tails import Tail
from onnx_deconv.operators import traits_of
from onnx_deconv.operators.traits import JOIN, PICK, PLACEMENT, VIEW


def chosen_fields(model: Model, tail: Tail, classes: int, count: int) -> list[int] | None:
    """Tell which of the fields of boxes are the classes that the graph chooses the best of.

    Parameters
    ----------
    model
        The model.
    tail
        The output's tail.
    classes
        The axis of the scores along which the fields lie.
    count
        How many fields the scores have.

    Returns
    -------
    list of int or None
        These fields; ``None`` where the graph chooses none, or it cannot be told among which.
    """
    numbers = _chosen(model, tail, tail.start, tail.output, class_numbers(model, tail, classes, count))
    return None if numbers is None else _in_a_row(numbers)


def holds_products_of_a_field(model: Model, value: str) -> bool:
    """Tell whether rows hold products of one of their fields and others: an objectness and the classes."""
    node = model.producers.get(below_views(model, value))
    if node is None or traits_of(node).isdisjoint({JOIN, PLACEMENT}):
        return False
    beside = given_of(model, node)
    for each in beside:
        product = model.producers.get(below_repeats(model, each))
        if product is not None and is_product(product):
            factors = given_of(model, product)
            if any(_holds(model, other, f) for f in factors for other in beside if other != each):
                return True
    return any(holds_products_of_a_field(model, each) for each in beside)  # one level after the other


def _holds(model: Model, value: str, field: str) -> bool:
    """Tell whether a value is one field, or rows, or a part of rows, that the field is picked from."""
    if _is_same(model, value, field):
        return True
    name = below_views(model, value)
    node, picking = model.producers.get(name), model.producers.get(field)
    one = None if picking is None else _picked(model, picking, field)
    if picking is None or one is None or len(one) > 1:
        return False
    rows = picking.inputs[0].name
    if name == below_views(model, rows):
        return True
    part = None if node is None or node.inputs[0].name != rows else _picked(model, node, name)
    return part is not None and one <= part


def _picked(model: Model, node: gs.Node, value: str) -> set[int] | None:
    """Return which places along an axis a node picks, whatever the image is; ``None`` of other nodes."""
    shapes = [model.type_of(name).shape for name in (node.inputs[0].name, value)]
    if PICK not in traits_of(node) or None in shapes or len({len(shape or ()) for shape in shapes}) > 1:
        return None
    before, after = shapes
    axes = [k for k, (a, b) in enumerate(zip(before or (), after or (), strict=True)) if a != b]
    size = (before or ())[axes[0]] if len(axes) == 1 else None
    if size is None:
        return None
    numbers = np.arange(size).reshape([-1 if k == axes[0] else 1 for k in range(len(before or ()))])
    try:
        return {int(k) for k in _taken(model, node, value, numbers).ravel()}
    except (TypeError, ValueError, IndexError, KeyError, AttributeError):
        return None


def _is_same(model: Model, one: str, other: str) -> bool:
    """Tell whether two values are one, or are picked alike from one, as where a row is cut twice."""
    if one == other:
        return True
    numbers, others = model.constant(one), model.constant(other)
    if numbers is not None and others is not None:
        return np.array_equal(numbers, others)
    first, second = model.producers.get(one), model.producers.get(other)
    if first is None or second is None or first.op != second.op or not traits_of(first) & {PICK, VIEW}:
        return False
    place = [v.name for v in first.outputs].index(one) == [v.name for v in second.outputs].index(other)
    inputs = [[v.name for v in node.inputs] for node in (first, second)]
    alike = place and first.attrs == second.attrs and len(inputs[0]) == len(inputs[1])
    return alike and all(map(partial(_is_same, model), *inputs))


def _chosen(model: Model, tail: Tail, start: str, end: str, numbers: Array) -> Array | None:
    """Return which of the fields that a value has the graph chooses the best of on its way to another."""
    picked = False
    for value, node in _path(model, tail, start, end):
        if _is_choice(model, node, value, numbers):
            return numbers
        if JOIN in traits_of(node) and len(given_of(model, node)) > 1 and score_column(model, node) is None:
            return _of_branches([_chosen(model, tail, start, v, numbers) for v in given_of(model, node)])
        picked = picked or (PICK in traits_of(node) and picks(model, node))
        try:
            numbers = _taken(model, node, value, numbers)
        except (TypeError, ValueError, IndexError, KeyError, AttributeError):
            return numbers if VIEW in traits_of(node) else None
        start = value
    return numbers if picked and numbers.size == 1 else None


def _of_branches(found: Sequence[Array | None]) -> Array | None:
    """Return the fields that are chosen among where several choices are joined: of each class, or level."""
    each = [numbers.ravel() for numbers in found if numbers is not None]
    if len(each) < len(found):
        return None
    return each[0] if all(np.array_equal(each[0], other) for other in each) else np.concatenate(each)


def _in_a_row(numbers: Array) -> list[int] | None:
    fields = [int(n) for n in numbers.ravel()]
    return fields if fields == list(range(fields[0], fields[0] + len(fields))) else None


def _is_choice(model: Model, node: gs.Node, value: str, numbers: Array) -> bool:
    """Tell whether a node chooses among the classes that are numbered along an axis."""
    if not picks(model, node) or not (PICK in traits_of(node) or branches_of(node)):
        return False
    axis, shape = compared_by(model, node), model.type_of(value).shape or (None,)
    if axis is not None:
        return numbers.size == 1 or (axis < numbers.ndim and numbers.shape[axis] > 1)
    if len(shape) != numbers.ndim:
        return is_whole(model, value) or shape[-1] != numbers.size
    return is_whole(model, value) or numbers.shape[node.attrs.get("axis", 0)] > 1


def _path(model: Model, tail: Tail, start: str, value: str) -> Iterator[tuple[str, gs.Node]]:
    """Yield the values that scores pass on their way from one to another, each with its node."""
    made = {v.name: node for node in tail.nodes for v in node.outputs}
    path = list[tuple[str, gs.Node]]()
    while value != start and (node := made.get(value)) is not None:
        path.append((value, node))
        column = score_column(model, node)
        value = column or below(model, node, value)[0] or start
    yield from reversed(path)


def _taken(model: Model, node: gs.Node, value: str, numbers: Array) -> Array:
    """Return the numbers of the fields in one result of a node; along all other axes they are the same."""
    given = given_of(model, node)
    if (cut := cut_numbers(model, node, value, numbers)) is not None:
        return cut
    if PICK in traits_of(node) and picks(model, node):
        if len(model.type_of(value).shape or ()) != numbers.ndim:
            raise ValueError(node.op)
        return numbers  # the image tells which boxes, not which fields
    found = numbered(model, node, dict.fromkeys(given[:1], numbers))
    return found if found.size else numbers  # of some boxes all fields are taken: those of a map, say
