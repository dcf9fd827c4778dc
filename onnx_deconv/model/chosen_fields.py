"""Which fields of boxes are classes, told by what a graph compares before it picks the best boxes."""

from collections.abc import Iterator

import onnx_graphsurgeon as gs

from onnx_deconv.model.class_numbers import class_numbers, cut_numbers, numbered
from onnx_deconv.model.model import Array, Model
from onnx_deconv.model.tail_steps import (
    below,
    branches_of,
    compared_by,
    given_of,
    is_whole,
    picks,
    score_column,
)
from onnx_deconv.model.tails import Tail
from onnx_deconv.operators import traits_of
from onnx_deconv.operators.traits import PICK, VIEW


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
    found = class_numbers(model, tail, classes, count)
    picked = False
    for value, node in _path(model, tail):
        if _is_choice(model, node, value, found):
            return _in_a_row(found)
        picked = picked or (PICK in traits_of(node) and picks(model, node))
        try:
            found = _taken(model, node, value, found)
        except (TypeError, ValueError, IndexError, KeyError, AttributeError):
            return _in_a_row(found) if VIEW in traits_of(node) else None
    return _in_a_row(found) if picked and found.size == 1 else None


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


def _path(model: Model, tail: Tail) -> Iterator[tuple[str, gs.Node]]:
    """Yield the values that scores pass on their way to an output, each with its node, the first first."""
    made = {v.name: node for node in tail.nodes for v in node.outputs}
    value, path = tail.output, list[tuple[str, gs.Node]]()
    while value != tail.start and (node := made.get(value)) is not None:
        path.append((value, node))
        column = score_column(model, node)
        value = column or below(model, node, value)[0] or tail.start
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
    return numbered(model, node, dict.fromkeys(given[:1], numbers))
