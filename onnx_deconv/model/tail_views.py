"""The views among a model's last nodes, and the value before them where each number has its own place."""

from collections.abc import Set as AbstractSet
from dataclasses import replace

import onnx_graphsurgeon as gs

from onnx_deconv.model.axis_names import AxisNames
from onnx_deconv.model.model import Model
from onnx_deconv.model.tails import ELSEWHERE, Tail, alike
from onnx_deconv.model.value_axes import batch_axis, is_map
from onnx_deconv.operators import traits_of
from onnx_deconv.operators.axes import BATCH, CHANNEL
from onnx_deconv.operators.traits import JOIN, PICK, QUANTISER, VIEW


def laid_out(model: Model, names: AxisNames, tail: Tail) -> Tail:
    """Return a tail that starts before the views that joined the axes of maps, or took the images' away.

    A softmax over all places of a map goes along one axis, to which a Reshape brings rows and columns, and
    often images and channels to another one: the map before it has the same numbers, each at its place.
    Scores of the only image that a model takes may have no axis for it.
    """
    joined, along = names.values.get(tail.start), tail.compares
    if joined is None or tail.ranked:
        return tail
    places = along is not None and is_map(joined[along])
    lost = batch_axis(model, names, tail.start) is None and not any(_has_places(axis) for axis in joined)
    value, views = tail.start, list[gs.Node]()
    while (places or lost) and (node := model.producers.get(value)) is not None and _is_view(model, node):
        value = node.inputs[0].name
        views.append(node)
        where = names.values.get(value)
        if value in model.inputs or where is None:
            break
        if batch_axis(model, names, value) is not None and not any(is_map(axis) for axis in where):
            compares = None if along is None else ELSEWHERE
            return replace(tail, start=value, nodes=(*tail.nodes, *views), compares=compares)
    return tail


def as_one_row(model: Model, names: AxisNames, tail: Tail) -> Tail:
    """Return a tail that starts before the views that made a table of each image's row of numbers.

    The coordinates of K points, K×2, are the numbers of one dense layer, of which neither axis holds classes.
    Where a softmax goes along one of the axes, as of a reader of plates, that one does.
    """
    value, views = tail.start, list[gs.Node]()
    while tail.compares is None and is_table(model, names, value):
        node = model.producers.get(value)
        if node is None or VIEW not in traits_of(node):
            return tail
        value = node.inputs[0].name
        views.append(node)
    return replace(tail, start=value, nodes=(*tail.nodes, *views)) if views and not tail.ranked else tail


def joined_in_one_row(model: Model, names: AxisNames, tail: Tail) -> Tail:
    """Return a tail that starts behind the view that made one row of what several heads' sigmoids give.

    Each number of the row is then a class of its own, and none is shared by several heads.
    """
    row = None if tail.ranked in (None, tail.output) else alike(model, tail.output)
    if row is None or row.compares is not None:
        return tail
    long = []
    for value in (tail.ranked or "", tail.output):
        where, shape = names.values.get(value), model.type_of(value).shape
        if where is None or shape is None or any(axis - {BATCH, CHANNEL} for axis in where):
            return tail
        long.append(sum(size != 1 and BATCH not in axis for axis, size in zip(where, shape, strict=True)))
    return row if long[0] > 1 == long[1] else tail


def is_table(model: Model, names: AxisNames, value: str) -> bool:
    """Tell whether the channels of a filter run along several axes of a value, and nothing else along any."""
    where, shape = names.values.get(value), model.type_of(value).shape
    if where is None or shape is None:
        return False
    long = [axis for axis, size in zip(where, shape, strict=True) if size != 1 and BATCH not in axis]
    return len(long) > 1 and all(axis == {CHANNEL} for axis in long)


def table_of(model: Model, names: AxisNames, output: str) -> tuple[int | None, ...]:
    """Return the sizes of the table that an output makes of each image's row of numbers, if it makes one."""
    shape, where = model.type_of(output).shape or (), names.values.get(output, ())
    if not is_table(model, names, output):
        return ()
    return tuple(size for axis, size in zip(where, shape, strict=True) if size != 1 and BATCH not in axis)


def _is_view(model: Model, node: gs.Node) -> bool:
    """Tell whether a node gives the same numbers in another shape, as one that picks the only image does."""
    traits = traits_of(node)
    if VIEW in traits or PICK not in traits:
        return VIEW in traits
    shapes = [model.type_of(value.name).shape or () for value in (node.inputs[0], node.outputs[0])]
    before, after = ([d for d in shape if d != 1] for shape in shapes)
    return before == after and None not in before and len(shapes[1]) < len(shapes[0])


def _has_places(axis: AbstractSet[str]) -> bool:
    """Tell whether places share an axis with each other, or with the images."""
    return len(axis - {BATCH, CHANNEL}) > (BATCH not in axis)


def join_below(model: Model, value: str) -> gs.Node | None:
    """Return the join whose numbers a value holds, at most in another order or rounded."""
    while (node := model.producers.get(value)) is not None and JOIN not in traits_of(node):
        if not traits_of(node) & {QUANTISER, VIEW}:
            return None
        value = node.inputs[0].name
    return node
