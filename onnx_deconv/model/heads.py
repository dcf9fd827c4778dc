"""What the outputs of a model are, and where an explanation of them starts."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple
from weakref import WeakKeyDictionary

from onnx import TensorProto

from onnx_deconv.errors import InputError, ModelError
from onnx_deconv.model.axis_names import AxisNames, axis_names
from onnx_deconv.model.carriers import carried, real_inputs
from onnx_deconv.model.head import ROWS, Head, class_count
from onnx_deconv.model.head_boxes import before_squashing, picked_boxes, with_boxes
from onnx_deconv.model.head_classes import (
    has_rivals,
    map_axes,
    may_reorder,
    mixing_node,
    own_classes,
    squashing,
    why_no_classes,
)
from onnx_deconv.model.head_labels import labelled
from onnx_deconv.model.model import Model
from onnx_deconv.model.output_kinds import (
    Kind,
    is_sequence_by_its_layer,
    kind_of,
    looks_classified,
    told_by_count,
    told_by_name,
)
from onnx_deconv.model.tail_steps import BOX, FLOATS, holds_numbers_of_classes
from onnx_deconv.model.tail_views import as_one_row, is_table, joined_in_one_row, laid_out, table_of
from onnx_deconv.model.tails import (
    ELSEWHERE,
    Tail,
    chooses,
    joins_probabilities,
    mixes_classes,
    picked_by_the_image,
    scored_elsewhere,
    tail_of,
)
from onnx_deconv.model.value_axes import (
    Axes,
    batch_axis,
    class_axis,
    dense_axis,
    has_no_images,
    has_one_channel,
    is_map,
)
from onnx_deconv.operators import Shape, find, own_domain, spelled, traits_of
from onnx_deconv.operators.axes import BATCH, CHANNEL, NOTHING, Names
from onnx_deconv.operators.traits import JOIN, POINTWISE, PROBABILITY

_MAPS = ("class map", "sequence")
"""Kinds of outputs that have a number for each class and position, of which some classes come first."""
_COUNTED = {TensorProto.INT64, TensorProto.INT32, TensorProto.BOOL, TensorProto.STRING}
"""Types of numbers that no signal comes from; shorter integers may be quantised."""


def heads(model: Model) -> list[Head]:
    """Tell what each output of a model is."""
    if model not in _HEADS:
        names = axis_names(model)
        found = with_boxes(model, [_head(model, names, output) for output in model.outputs])
        _HEADS[model] = [before_squashing(model, labelled(model, head, 0)) for head in found]
    return _HEADS[model]


_HEADS: WeakKeyDictionary[Model, list[Head]] = WeakKeyDictionary()


def head_of(model: Model, output: str | None = None) -> Head:
    """Return what an output is; by default the first that is real numbers, or made of such.

    Boxes whose scores another output holds are left to that one; so are images, embeddings, and maps of which
    nothing says that they are scores, where the graph, or a name, says so of another. Quantities are left to
    scores of several classes.

    Raises
    ------
    InputError
        If there is no such output.
    """
    found = {head.output: head for head in heads(model)}
    if output is not None:
        if output not in found:
            raise InputError(f"{model.name} has no output {output!r}; it has {', '.join(found)}")
        return found[output]
    made = {name: head for name, head in found.items() if name not in model.inputs} or found
    real = [h for h in made.values() if h.cut or model.type_of(h.output).dtype in FLOATS]
    scores = [h for h in real if h.boxes is None or h.boxes.part != "boxes"]
    if len(scores) < len(real):  # a detector, whose classes may be told by nothing but a place in a table
        scores = [h for h in scores if h.problem is None] or scores
    first = next(iter(scores or real or made.values()))
    if first.kind in _SCORES_OR_NOT and not _tells_scores(model, first):
        first = next((h for h in scores if _tells_scores(model, h)), first)
    if first.kind in _QUANTITIES or (first.kind == "classes" and first.assumed):
        classes = (h for h in scores if _tells_scores(model, h) and class_count(model, h) != 1)
        first = next((replace(h, in_place_of=first.output) for h in classes), first)
    first = _with_own_numbers(first, real)
    return replace(first, levels=_levels(model, first, [h for h in scores if h.kind == first.kind]))


_SCORES_OR_NOT = ("class map", "sequence", "image", "embedding")
"""Kinds of outputs that hold no scores, or that may be maps of quantities: sizes, offsets, features."""
_QUANTITIES = ("regression", "numbers")
"""Kinds of rows that are none of classes, or of which nothing says so. Where scores stand beside them, of
more than whether something is there, these are what a person asks about first."""


def _tells_scores(model: Model, head: Head) -> bool:
    """Tell whether the graph, or an output's name, says that it holds scores of classes."""
    if head.problem is not None or head.kind in ("image", "embedding", "regression", "numbers", "unknown"):
        return False
    if head.kind == "detections":
        return head.boxes is not None and head.boxes.part != "boxes"
    if head.kind == "classes":
        return not head.assumed
    chosen = chooses(model, tail_of(model, head.output))
    return head.squash is not None or chosen or told_by_name(head.output) == "classes"


def _with_own_numbers(head: Head, others: Sequence[Head]) -> Head:
    """Return an output, or another of the same scores where that alone has a number for each class.

    A label says which class is the most probable, and the probabilities beside it how probable each is.
    """
    if head.own is not None or head.kind != "classes":
        return head
    same = (h for h in others if (h.start, h.kind, h.elements) == (head.start, head.kind, head.elements))
    return next((h for h in same if h.own is not None), head)


def explainable(model: Model, output: str | None = None) -> Head:
    """Return what an output is, as :func:`head_of` does.

    Raises
    ------
    ModelError
        If there is nothing to explain.
    InputError
        If there is no such output.
    """
    head = head_of(model, output)
    if head.problem is None:
        return head
    others = [repr(h.output) for h in heads(model) if h.problem is None and h.output != head.output]
    nearest = _with_images(model, head.start) if head.kind == "unknown" else head.start
    layer = "a layer" + (f", as {nearest!r}" if nearest else "")
    also = f"the output {' or '.join(others)}, or {layer}" if others else layer
    raise ModelError(f"{model.name}: {head.problem}: choose {also}")


def _with_images(model: Model, value: str) -> str | None:
    """Return the last value before another that can be explained: it has axes of images and of channels."""
    names, reached = axis_names(model), carried(model, real_inputs(model))
    while (node := model.producers.get(value)) is not None:
        value = next((v.name for v in node.inputs if v.name and v.name not in model.constants), "")
        where, shape = names.values.get(value), model.type_of(value).shape
        batch = batch_axis(model, names, value)
        if value in model.inputs or where is None or shape is None or value not in reached or batch is None:
            continue
        if _shares_out(model, value) or any(CHANNEL in axis and axis - {CHANNEL, BATCH} for axis in where):
            continue
        if class_axis(Tail(value, value, ()), shape, where, batch, names.own) is not None:
            return value
    return None


def _shares_out(model: Model, value: str) -> bool:
    """Tell whether a softmax made a value: what attention weighs by is no layer to look at."""
    made = model.producers.get(value)
    return made is not None and PROBABILITY in traits_of(made) and POINTWISE not in traits_of(made)


def _levels(model: Model, head: Head, alike: Iterable[Head]) -> tuple[str, ...]:
    """Return the outputs that hold the same classes of other boxes, in a detector."""
    if head.axes.classes is None or not any(each.kind == "detections" for each in heads(model)):
        return ()
    shapes = {each.output: _classes_last(model, each) for each in (head, *alike)}
    own = shapes.pop(head.output)
    return tuple(
        name
        for name, shape in shapes.items()
        if own and len(shape) == len(own) and shape[-1] == own[-1] and shape != own
    )


def _classes_last(model: Model, head: Head) -> Shape:
    """Return the shape of an output's scores, the classes last; nothing where it is not known."""
    shape, along = model.type_of(head.start).shape or (), head.axes.classes
    if along is None or along >= len(shape):
        return ()
    return (*shape[:along], *shape[along + 1 :], shape[along])


def _head(model: Model, names: AxisNames, output: str) -> Head:
    if output in model.inputs:
        return Head(output, "unknown", output, problem=f"output {output!r} is the input itself")
    tail = joined_in_one_row(model, names, tail_of(model, output))
    tail = laid_out(model, names, as_one_row(model, names, tail))
    head = _head_of(model, names, tail)
    if head.kind == "detections" or head.boxes is not None or head.problem is not None:
        return head
    mixed = mixing_node(model, tail, head.axes)
    if mixed is None or JOIN not in traits_of(mixed):
        return head
    after = tail.nodes[: next(k for k, node in enumerate(tail.nodes) if node is mixed)]
    return _head_of(model, names, Tail(output, mixed.outputs[0].name, after))


def _head_of(model: Model, names: AxisNames, tail: Tail) -> Head:
    """Return what an output is, given the nodes that lead to it from its scores."""
    axes = _axes(model, names, tail)
    if not isinstance(axes, Axes):
        return Head(tail.output, "unknown", tail.start, cut=tuple(tail.cut), problem=axes)
    told, shape = _told_by_all(model, names, tail, axes), model.type_of(tail.start).shape or ()
    count = None if axes.classes is None else shape[axes.classes]
    boxes = picked_boxes(model, tail, axes, count) if told.kind == "detections" else None
    elements, own = own_classes(model, names, tail, axes) if boxes is None else (None, None)
    of_maps = told.kind in _MAPS and tail.ranked is None
    reordered = (told.kind in ROWS or of_maps) and may_reorder(model, tail)
    if reordered and of_maps and own is None:
        own = map_axes(model, names, tail, axes, count if elements is None else len(elements))
    reordered = reordered and own is not None
    return Head(
        tail.output,
        told.kind,
        tail.start,
        axes,
        tuple(tail.cut),
        elements,
        own,
        problem=None if told.kind == "detections" else why_no_classes(model, tail, axes),
        boxes=boxes,
        squash=squashing(tail),
        ranked=tail.output if reordered and tail.ranked is None else tail.ranked,
        by_name=told.by_name,
        assumed=told.assumed,
        table=table_of(model, names, tail.output) if told.kind in ROWS else (),
        scored=count,
        rivals=of_maps and not reordered and count != 1 and has_rivals(model, tail, axes),
    )


def _axes(model: Model, names: AxisNames, tail: Tail) -> Axes | str | None:
    """Return the axes of an output's scores, or why they are not known: nothing, if not even a shape is."""
    types, named = model.type_of(tail.start), f"output {tail.output!r} ({model.type_of(tail.output)})"
    if types.shape is None:
        return None
    if types.dtype in _COUNTED:
        return f"no path leads from scores to {named}, which is made of whole numbers"
    if (unknown := _unknown_maker(model, tail.start)) is not None:
        return f"{named} is computed by {unknown}, an operator of which nothing is known here"
    batch = batch_axis(model, names, tail.start)
    if batch is None and not has_no_images(model, names, tail.start):
        return f"the graph does not tell which axis of {named} holds the images"
    where = names.values.get(tail.start, (NOTHING,) * len(types.shape))
    spread = tail.compares in (None, ELSEWHERE)
    one = has_one_channel(names, where, batch) if spread else _is_one_map(tail, where)
    classes = None if one else class_axis(tail, types.shape, where, batch, names.own)
    if classes is None and not one:
        classes = dense_axis(model, tail.start)
    unlike = batch is None and classes not in (None, tail.compares)
    joined = unlike and classes is not None and bool(where[classes] - names.own - {CHANNEL})
    if joined or (classes is None and len(types.shape) > 1 and not one):
        return f"the graph does not tell which axis of {named} holds the classes"
    return Axes(batch, classes, tuple(k for k in range(len(types.shape)) if k not in (batch, classes)))


def _is_one_map(tail: Tail, where: Names) -> bool:
    """Tell whether scores are a map of one channel, whose places are compared."""
    along = tail.compares
    if along is None or along not in range(len(where)):
        return False
    return is_map(where[along]) and not any(CHANNEL in axis for axis in where)


def _unknown_maker(model: Model, value: str) -> str | None:
    """Return the operator without an entry that gives a value and others, as plug-ins that pick boxes do."""
    node = model.producers.get(value)
    if node is None or find(node.op, node.domain).name:
        return None
    many = len(node.outputs) > 1 or len(model.type_of(value).shape or ()) > 2  # noqa: PLR2004
    return spelled((own_domain(node.domain), str(node.op))) if many else None


class _Told(NamedTuple):
    kind: Kind
    by_name: bool = False
    assumed: bool = False


def _told_by_all(model: Model, names: AxisNames, tail: Tail, axes: Axes) -> _Told:
    """Tell what an output is by its axes, the nodes that make it, its name, and other outputs."""
    shape, called = model.type_of(tail.start).shape or (), told_by_name(tail.output)
    count = None if axes.classes is None else shape[axes.classes]
    where = names.values.get(tail.start, (NOTHING,) * len(shape))
    told = _Told(kind_of(model, tail, axes, where))
    if told.kind == "sequence" and is_sequence_by_its_layer(model, tail, axes, where):
        return _Told("sequence", by_name=called == "classes", assumed=called != "classes")
    may_be_table = told.kind in ("numbers", "classes") and not chooses(model, tail)
    if may_be_table and is_table(model, names, tail.output):
        return _Told("numbers") if called is None else _Told(called, by_name=True)
    if told.kind in ("numbers", "regression") and scored_elsewhere(model, tail):
        return _Told("classes")
    several = axes.classes is not None and count != 1
    if told.kind == "classes" and called == "regression" and several and _is_squashed_alone(model, tail):
        return _Told("regression", by_name=True)  # a sigmoid gives coordinates too
    if told.kind == "classes" and called is None and count == BOX and _is_squashed_alone(model, tail):
        return _Told("classes", assumed=True)  # or a box, in shares of the image
    return _told(model, tail, count) if told.kind == "numbers" else told


def _told(model: Model, tail: Tail, count: int | None) -> _Told:
    """Tell what a row of numbers is; where the image orders or counts them, they are of no class."""
    if picked_by_the_image(model, tail.start) or holds_numbers_of_classes(model, tail.start):
        return _Told("numbers")
    if (named := told_by_name(tail.output)) is not None:
        return _Told(named, by_name=True)
    if told_by_count(model, count) or joins_probabilities(model, tail.output):
        return _Told("classes")
    if mixes_classes(model, tail.output):
        return _Told("classes")
    if looks_classified(model, tail.output, tail.start, count):
        return _Told("classes", assumed=True)
    return _Told("numbers")


def _is_squashed_alone(model: Model, tail: Tail) -> bool:
    """Tell whether each number is squashed for itself, and none is compared with others or with a bound."""
    return tail.squashes and tail.compares is None and not chooses(model, tail)


def axes_of(model: Model, value: str) -> Axes:
    """Tell what the axes of a layer's value are: images, channels, positions unless the graph says otherwise.

    Raises
    ------
    ModelError
        If the graph says that no axis holds the images.
    """
    for head in heads(model):
        if head.start == value and head.problem is None:
            return head.axes
    names, shape = axis_names(model), model.type_of(value).shape
    where = names.values.get(value)
    if shape is None or where is None:
        return Axes(0, 1, tuple(range(2, len(shape or ()))))
    batch = batch_axis(model, names, value)
    told = batch is not None or has_no_images(model, names, value)
    one = told and has_one_channel(names, where, batch)
    found = None
    if told and not one:
        found = class_axis(Tail(value, value, ()), shape, where, batch, names.own)
    if not told or (found is None and not one and len(shape) > 1):
        return Axes(0, 1, tuple(range(2, len(shape))))
    return Axes(batch, found, tuple(k for k in range(len(shape)) if k not in (batch, found)))
