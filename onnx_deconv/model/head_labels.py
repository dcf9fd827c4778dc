"""What the names of classes, and their number, tell of an output."""

from collections.abc import Sequence
from dataclasses import replace

from onnx_deconv.model.axis_names import axis_names
from onnx_deconv.model.detections import Layout, anchors_of, may_hold_boxes, name_of_nothing
from onnx_deconv.model.head import Head, class_count, fields_of
from onnx_deconv.model.head_boxes import before_squashing
from onnx_deconv.model.model import Model
from onnx_deconv.model.tail_steps import given_of
from onnx_deconv.model.tail_views import join_below
from onnx_deconv.model.tails import tail_of
from onnx_deconv.operators import traits_of
from onnx_deconv.operators.axes import CHANNEL, NOTHING
from onnx_deconv.operators.node import ForwardNode
from onnx_deconv.operators.traits import PICK, POINTWISE, QUANTISER, RESAMPLER, VIEW


def names_of_fields(head: Head, names: Sequence[str]) -> tuple[str, ...]:
    """Return the names of an output's classes, given all that are known.

    There may be one for each field, the background too, where the graph picks among some of them, and one for
    each score, where an output has but some of the classes.
    """
    if head.elements is not None and len(names) == head.scored != len(head.elements):
        return tuple(names[own] for own, _ in head.elements)
    told = None if head.boxes is None else head.boxes.told
    if head.boxes is None or told is None or len(names) != head.boxes.fields:
        return tuple(names)
    return tuple(names[told[0] : sum(told)])


def names_that_fit(model: Model, head: Head, names: Sequence[str]) -> tuple[str, ...]:
    """Return names of classes without the gaps among them, where only these are as many as the classes.

    The numbers of a data set's categories may begin at 1, or leave some out, which a model's do not. The
    background of a detector's boxes is no class, also where it has a name.
    """
    if head.boxes is not None and (nothing := name_of_nothing(head.boxes, names)) is not None:
        return (*names[:nothing], *names[nothing + 1 :])
    without = tuple(filter(None, names))
    if (
        len(without) == len(names)
        or _are_as_many(model, head, names)
        or not _are_as_many(model, head, without)
    ):
        return tuple(names)
    return without


def _are_as_many(model: Model, head: Head, names: Sequence[str]) -> bool:
    """Tell whether there are as many names as an output has classes, given that number of names."""
    told = labelled(model, head, len(names))
    fields = fields_of(told, len(names))
    classes = class_count(model, told) if fields is None else fields.count
    return classes == len(names_of_fields(told, names))


def names_differ(classes: int | None, names: int) -> str | None:
    """Tell that there are not as many names as classes, unless there are none, or one number is not known.

    Parameters
    ----------
    classes
        How many classes an output has.
    names
        How many names are known.
    """
    if classes is None or names in (0, classes):
        return None
    return f"{names} labels for {classes} classes: names may be wrong"


def labelled(model: Model, head: Head, labels: int) -> Head:
    """Return a head as so many names of classes tell it.

    A map may hold the boxes of several anchors; numbers that have names are classes.

    Parameters
    ----------
    model, head
        The model and its output.
    labels
        How many names of classes are known.
    """
    channels = class_count(model, head)
    if head.boxes is not None and head.boxes.cells:  # as another number of names told it
        head = replace(head, kind="class map", boxes=None)
    if (head.kind == "numbers" or head.assumed) and labels == channels:
        return replace(head, kind=head.kind if head.has_positions else "classes", assumed=False)
    if head.kind != "class map" or tail_of(model, head.output).compares is not None:
        return head
    beside = _holds_other_numbers(model, head)
    cells = beside or not _is_of_pixels(model, head)
    anchors = anchors_of(channels, labels, of_levels=beside or _has_levels(model, head)) if cells else None
    if anchors is None and (not beside or labels == channels):
        return head
    layout = Layout((channels or 0) // (anchors or 1), raw=True, anchors=anchors or 1, cells=True)
    return before_squashing(model, replace(head, kind="detections", boxes=layout))


def boxes_by_labels(model: Model, head: Head, labels: int) -> str | None:
    """Say that a map is taken for boxes where nothing but the number of labels tells so.

    Also that one is not, for want of labels, which looks like a level of a detector.

    Parameters
    ----------
    model, head
        The model and its output, as it is without labels.
    labels
        How many names of classes are known.
    """
    layout = labelled(model, head, labels).boxes
    if head.kind == "class map" and not labels and layout is None and _may_be_a_level(model, head):
        return (
            f"output {head.output!r} is taken for a map of classes, but has the channels of a detector's "
            "boxes, and other levels beside it: if it holds boxes, give the classes' labels"
        )
    if head.kind != "class map" or layout is None or layout.fields is None:
        return None
    if _holds_other_numbers(model, head) or _has_levels(model, head):
        return None
    channels = layout.fields * layout.anchors
    return (
        f"output {head.output!r} is taken for a detector's boxes, as {labels} labels for {channels} channels "
        f"tell, and nothing else: if its channels are classes, give {channels} labels, or none"
    )


def _is_of_pixels(model: Model, head: Head) -> bool:
    """Tell whether a map is drawn larger at last, or as large as the image: a box has a cell of pixels."""
    value = head.start
    while (node := model.producers.get(value)) is not None and RESAMPLER not in traits_of(node):
        if not traits_of(node) & {PICK, POINTWISE, QUANTISER, VIEW}:
            break
        value = next(iter(given_of(model, node)), "")
    if node is not None and RESAMPLER in traits_of(node):
        return True
    shapes = {name: model.type_of(name).shape or () for name in (*model.inputs, head.start)}
    image = {f"{name}[{k}]": size for name in model.inputs for k, size in enumerate(shapes[name])}
    where = axis_names(model).values.get(head.start, (NOTHING,) * len(shapes[head.start]))
    places = [(shapes[head.start][k], image.get(name)) for k in head.axes.positions for name in where[k]]
    return bool(places) and all(own and taken and own >= taken for own, taken in places)


def _holds_other_numbers(model: Model, head: Head) -> bool:
    """Tell whether a map holds numbers beside scores, as detectors join boxes and scores at each level."""
    value = head.ranked or head.start
    joined = model.joined.get(value)
    if joined is not None:
        return joined.beside
    count, join = class_count(model, head), join_below(model, value)
    if join is None or count is None or not _has_levels(model, head):
        return False
    axis, result = ForwardNode(join, model).axis(), join.outputs[0].name
    where, shape = axis_names(model).values.get(result), model.type_of(result).shape or ()
    return where is not None and where[axis] == {CHANNEL} and shape[axis] == count


def _has_levels(model: Model, head: Head) -> bool:
    """Tell whether another output is such a map of another size, as those of a detector's levels are."""
    own, along = model.type_of(head.output).shape or (), (head.own or head.axes).classes
    if along is None or along >= len(own):
        return False
    others = [model.type_of(name).shape or () for name in model.outputs]
    return any(len(each) == len(own) and each[along] == own[along] and each != own for each in others)


def _may_be_a_level(model: Model, head: Head) -> bool:
    """Tell whether a map has other sizes of itself beside it, and channels as a detector's levels have."""
    channels = class_count(model, head) or 0
    if tail_of(model, head.output).compares is not None or not may_hold_boxes(channels):
        return False
    return _has_levels(model, head) and not _is_of_pixels(model, head)
