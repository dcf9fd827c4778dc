"""What is known of the boxes that a detector's outputs hold."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from onnx_deconv.model.axis_names import axis_names
from onnx_deconv.model.chosen_fields import chosen_fields, holds_products_of_a_field
from onnx_deconv.model.detections import Layout, Part, behind, ends_with_nothing, parts, without_box
from onnx_deconv.model.head import Head, class_count
from onnx_deconv.model.head_classes import squashing
from onnx_deconv.model.model import Model
from onnx_deconv.model.output_kinds import told_by_name
from onnx_deconv.model.tail_steps import BOX, FLOATS, compared_by, given_of, holds_numbers_of_classes
from onnx_deconv.model.tails import Tail, chooses, joins_probabilities, squashed_before, tail_of
from onnx_deconv.model.value_axes import Axes, is_map
from onnx_deconv.operators import Shape, traits_of
from onnx_deconv.operators.node import label
from onnx_deconv.operators.traits import JOIN, PROBABILITY

_PARTS: Mapping[str | None, Part] = {"classes": "scores", "regression": "boxes"}
"""What an output of boxes holds, by what its name says of a row."""


def with_boxes(model: Model, found: Sequence[Head]) -> list[Head]:
    """Add what is known of the boxes of detectors, which may be spread over outputs."""
    sized = [_boxes(model, head) for head in found]
    maps = [count for h in found if h.kind == "class map" and (count := class_count(model, h)) is not None]
    named: list[Part | None] = [
        "scores"
        if head.squash == "together" or head.ranked in model.products.values()
        else _PARTS.get(told_by_name(head.output))
        for head in found
    ]
    told, of = [], parts(sized, named)
    boxes = [h for h, part in zip(found, of, strict=True) if part == "boxes"]
    shares = any(squashed_before(model, h.output) for h in boxes)
    alike = sum(own is not None and own[1] == BOX for own in sized) > 1  # scores, perhaps, or boxes
    for head, own, part, name in zip(found, sized, of, named, strict=True):
        if own is None:
            told.append(head)
            continue
        grid = len(own[0]) > 1 and not squashed_before(model, head.start)
        more = behind(model.metadata, maps if part == "all" else ())
        picked = head.boxes
        rows = picked is None and holds_numbers_of_classes(model, head.start)
        scores = own[2] and (part != "all" or own[1] != BOX or not alike)
        cut = None if part == "boxes" else head.elements
        kept = _kept(cut) if cut and (own[2] if part == "scores" else head.squash == "together") else None
        count = own[1] if kept is None else head.scored
        lost = cut is not None and kept is None and not _is_first(cut)
        layout = Layout(
            None if rows or lost else count,
            part if picked is None else picked.part,
            scores,
            _shares(model, head, count),
            ends_with_nothing(own[1], model.outputs, shares=shares),
            grid or head.squash is not None,
            tuple(more),
            told=kept if picked is None else picked.told,
            probable=head.ranked is not None,
            shared=_shared(model, head.start, own[1]),
            scores=_scores(model, head, own[1]),
            multiplied=holds_products_of_a_field(model, head.start),
            unsure=part == "all" and own[1] == BOX and name != "scores" and picked is None,
        )
        left = replace(head, elements=None, own=None) if kept else head
        told.append(replace(left, boxes=layout))
    return [_beside_picked(model, head, told) for head in told]


def _kept(elements: Sequence[tuple[int, int]]) -> tuple[int, int] | None:
    """Return the first of the probabilities that an output keeps, and how many, as without the background."""
    first, count = elements[0][0], len(elements)
    in_a_row = list(elements) == [(first + k, 1) for k in range(count)]
    return (first, count) if in_a_row else None


def _is_first(elements: Sequence[tuple[int, int]]) -> bool:
    """Tell whether the numbers that an output keeps of its scores are the first of them, in their order."""
    return list(elements) == [(k, 1) for k in range(len(elements))]


def _scores(model: Model, head: Head, count: int | None) -> Sequence[int] | None:
    """Tell of which group of probabilities each field of an output is; ``None`` where that is not known."""
    joined = model.joined.get(head.ranked or head.start)
    if joined is None or joined.fields is None or len(joined.fields) != count:
        return None
    if joined.beside:
        return joined.fields
    return without_box(joined.fields) if _joins_boxes(model, head, count) else None


def _shared(model: Model, value: str, count: int | None) -> int | None:
    """Return among how many fields of boxes one softmax, or one of each level, shares out probabilities."""
    joined = model.joined.get(value)
    if joined is None or not joined.beside or count is None:
        return None
    along = [(node, compared_by(model, node)) for node in joined.squashed]
    shapes = [(model.type_of(node.inputs[0].name).shape, axis) for node, axis in along]
    sizes = {None if shape is None or axis is None else shape[axis] for shape, axis in shapes}
    size = sizes.pop()
    return size if not sizes and size is not None and count - size == BOX else None


def before_squashing(model: Model, head: Head) -> Head:
    """Start before the sigmoids of probabilities that stand beside other numbers, as in rows of boxes."""
    joined = model.joined.get(head.start)
    coordinates = head.boxes is not None and head.boxes.part == "boxes"
    rows = head.kind == "sequence" and head.ranked is None and joined is not None and not joined.beside
    if joined is None or coordinates or head.problem is not None or (head.seed != "one" and not rows):
        return head
    if joined.beside and head.kind != "detections" and _has_others_made_of_probabilities(model, head.start):
        return head
    cut = (f"{node.op} {label(node)}" for node in joined.squashed)
    boxes = None if head.boxes is None else replace(head.boxes, probable=True)
    return replace(
        head, start=joined.scores, ranked=head.ranked or head.start, cut=(*head.cut, *cut), boxes=boxes
    )


def _has_others_made_of_probabilities(model: Model, value: str) -> bool:
    """Tell whether numbers that are computed from probabilities stand beside others, as 1 - max(p) does."""
    node = model.producers.get(value)
    if node is None or JOIN not in traits_of(node):
        return False
    return any(
        squashed_before(model, each) and not joins_probabilities(model, each)
        for each in given_of(model, node)
    )


def _shares(model: Model, head: Head, count: int | None) -> bool:
    """Tell whether a softmax behind an output's scores shares out probabilities among so many classes."""
    tail, names = tail_of(model, head.output), axis_names(model).values
    for node in (*tail.nodes, *tail.inside) if head.squash is not None else ():
        axis = compared_by(model, node) if PROBABILITY in traits_of(node) else None
        value = node.inputs[0].name
        shape, where = model.type_of(value).shape, names.get(value)
        if axis is not None and shape is not None and shape[axis] == count != 1:
            return where is None or not is_map(where[axis])
    return False


def _beside_picked(model: Model, head: Head, found: Sequence[Head]) -> Head:
    """Take an output of four numbers each for boxes, where the graph picks their scores beside it."""
    if head.kind not in ("detections", "unknown") or (head.boxes is not None and head.boxes.part != "all"):
        return head
    types = model.type_of(head.output)
    if (
        types.dtype not in FLOATS
        or (types.shape or (None,))[-1] != BOX
        or (head.boxes is not None and head.boxes.told is not None)
    ):
        return head
    kinds = ("detections", "class map")
    picked = (h for h in found if h.output != head.output and h.kind in kinds)
    if not any(chooses(model, tail_of(model, h.output)) for h in picked):
        return head
    return replace(head, boxes=Layout(BOX, "boxes"))


def picked_boxes(model: Model, tail: Tail, axes: Axes, count: int | None) -> Layout | None:
    """Return what the graph tells of boxes whose best it picks: which of their fields it compares."""
    if count is None or axes.classes is None:
        return None
    fields = chosen_fields(model, tail, axes.classes, count)
    if fields is None:
        return None
    if len(fields) < count:
        return Layout(count, told=(fields[0], len(fields)))
    return Layout(count, "scores", told=None if squashing(tail) == "together" else (0, count))


def _boxes(model: Model, head: Head) -> tuple[Shape, int | None, bool] | None:
    """Return how many boxes an output has, how many fields, and whether probabilities are cut off."""
    if head.kind != "detections" or head.problem is not None:
        return None
    sizes = head.axes.sizes(model.type_of(head.start).shape) or []
    whole = [d if isinstance(d, int) else None for d in sizes[2:] if d != 1]
    count = class_count(model, head)
    return tuple(whole), count, head.squash is not None and not _joins_boxes(model, head, count)


def _joins_boxes(model: Model, head: Head, count: int | None) -> bool:
    """Tell whether a part of an output's fields are four that may be a box, whatever squashes all of them."""
    joined, along = model.joined.get(head.ranked or head.start), head.axes.classes
    if joined is None or along is None:
        return False
    shapes = [model.type_of(node.outputs[0].name).shape or () for node in joined.squashed]
    sizes = [shape[along] if along < len(shape) else None for shape in shapes]
    return len(sizes) > 1 and BOX in sizes and sum(size or 0 for size in sizes) == count
