"""Which score each class of an output is, and by what classes are put in order."""

import math
from typing import Literal

import onnx_graphsurgeon as gs

from onnx_deconv.model.axis_names import AxisNames
from onnx_deconv.model.class_numbers import elements, mixture, untraced
from onnx_deconv.model.model import Model
from onnx_deconv.model.tail_steps import FLOATS
from onnx_deconv.model.tails import Tail, chooses, falling, tail_of
from onnx_deconv.model.value_axes import Axes, has_no_images
from onnx_deconv.operators import traits_of
from onnx_deconv.operators.axes import BATCH
from onnx_deconv.operators.node import label
from onnx_deconv.operators.traits import JOIN, POINTWISE, VIEW


def mixing_node(model: Model, tail: Tail, axes: Axes) -> gs.Node | None:
    """Return the node behind which numbers stand for several parts of the classes, if there is one."""
    shape = model.type_of(tail.start).shape
    count = None if shape is None or axes.classes is None else shape[axes.classes]
    if count is None or tail.output in (tail.start, tail.ranked):
        return None
    return mixture(model, tail, _along(axes), count)


def has_rivals(model: Model, tail: Tail, axes: Axes) -> bool:
    """Tell whether an output compares classes with each other, the given one or another of these scores."""
    if axes.classes is None or tail.compares == axes.classes:
        return axes.classes is not None
    others = (tail_of(model, output) for output in model.outputs if output != tail.output)
    return any(each.start == tail.start and each.compares == axes.classes for each in others)


def may_reorder(model: Model, tail: Tail) -> bool:
    """Tell whether a tail may put classes into another order: not all are computed alike.

    A constant has another number for each, as a weight has, or some alone pass a node before a join.
    """
    alone = [n for n in tail.nodes if POINTWISE in traits_of(n) and VIEW not in traits_of(n)]
    constants = (model.constant(v.name) for n in alone for v in n.inputs)
    differ = any((each != each.flat[0]).any() for each in constants if each is not None and each.size)
    return differ or (len(alone) > 0 and any(JOIN in traits_of(n) for n in tail.nodes))


def squashing(tail: Tail) -> Literal["each", "together"] | None:
    """Tell how a tail makes probabilities of scores: each alone or all together; ``None`` if it does not."""
    if not tail.squashes:
        return None
    return "each" if tail.compares is None else "together"


def own_classes(
    model: Model, names: AxisNames, tail: Tail, axes: Axes
) -> tuple[tuple[tuple[int, int], ...] | None, Axes | None]:
    """Return what an output's classes are among the scores, and the axes of its own numbers."""
    if tail.output in (tail.start, tail.ranked):
        return None, axes
    shapes = [model.type_of(value).shape for value in (tail.start, tail.output)]
    count = 1 if axes.classes is None or shapes[0] is None else shapes[0][axes.classes]
    real = model.type_of(tail.output).dtype in FLOATS and shapes[1] is not None and not chooses(model, tail)
    if count is None:
        return None, axes if real and shapes[0] == shapes[1] else None
    found = elements(model, tail, _along(axes), count)
    plain = found is None or found == [(k, 1) for k in range(count)]
    if axes.classes is None and real and shapes[0] == shapes[1]:
        return None if plain or found is None else tuple(found), axes
    own = _same_axes(model, names, tail, len(found) if found else count) if real else None
    return None if plain or found is None else tuple(found), own


def why_no_classes(model: Model, tail: Tail, axes: Axes) -> str | None:
    """Tell why it is not known which score a class is, or which way it goes; ``None`` where it is."""
    shape, named = model.type_of(tail.start).shape, f"output {tail.output!r} ({model.type_of(tail.output)})"
    count = 1 if shape is None or axes.classes is None else shape[axes.classes]
    if tail.output in (tail.start, tail.ranked) or count is None:
        return None
    if falling(model, tail) is not None:
        return f"{named} falls as the best of the scores {tail.start!r} rises, and is the score of no class"
    several = any(shape is None or shape[k] != 1 for k in axes.positions)
    lost = untraced(model, tail, _along(axes), count, has_positions=several)
    mixed = mixing_node(model, tail, axes)
    lost = mixed if mixed is not None and JOIN not in traits_of(mixed) else lost
    which = f"the graph does not tell which of the scores {tail.start!r} the classes of {named} are"
    return None if lost is None else f"{which}, or in which direction they go, by {lost.op} {label(lost)!r}"


def _along(axes: Axes) -> int:
    """Return the axis of scores along which their classes lie; of a single class any will do."""
    return (axes.batch or 0) if axes.classes is None else axes.classes


def _same_axes(model: Model, names: AxisNames, tail: Tail, count: int) -> Axes | None:
    """Return the axes of an output that is a row of scores for each image."""
    where, shape = names.values.get(tail.output), model.type_of(tail.output).shape
    if shape is None or where is None:
        return None
    holds = [k for k, axis in enumerate(where) if BATCH in axis]
    batch = holds[0] if len(holds) == 1 else None
    rest = [k for k in range(len(shape)) if k != batch]
    alone = batch is not None or has_no_images(model, names, tail.output)
    if not alone or math.prod(shape[k] or 0 for k in rest) != count:
        return None
    wide = next((k for k in rest if shape[k] != 1), rest[0] if rest else None)
    return Axes(batch, wide, tuple(k for k in rest if k != wide))


def map_axes(model: Model, names: AxisNames, tail: Tail, axes: Axes, count: int | None) -> Axes | None:
    """Return the axes of an output that has a number for each class and position, as its scores have."""
    start, where = names.values.get(tail.start, ()), names.values.get(tail.output, ())
    shape, at = model.type_of(tail.output).shape or (), {axis: k for k, axis in enumerate(where)}
    real = model.type_of(tail.output).dtype in FLOATS and not chooses(model, tail)
    if not real or len(at) != len(where) or sorted(map(sorted, start)) != sorted(map(sorted, where)):
        return None
    batch, classes = (None if k is None else at[start[k]] for k in (axes.batch, axes.classes))
    known = classes is None or (count is not None and shape[classes] == count)
    return Axes(batch, classes, tuple(at[start[k]] for k in axes.positions)) if known else None
