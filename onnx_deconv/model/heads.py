"""What the outputs of a model are, and where an explanation of them starts."""

import math
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple, get_args
from weakref import WeakKeyDictionary

import onnx_graphsurgeon as gs
from onnx import TensorProto

from onnx_deconv.errors import InputError, ModelError, given, way
from onnx_deconv.model.axis_names import AxisNames, axis_names
from onnx_deconv.model.carriers import carried, real_inputs
from onnx_deconv.model.chosen_fields import chosen_fields, holds_products_of_a_field
from onnx_deconv.model.class_numbers import elements, mixture, untraced
from onnx_deconv.model.detections import (
    Fields,
    Layout,
    Part,
    anchors_of,
    behind,
    ends_with_nothing,
    labels_that_fit,
    may_hold_boxes,
    name_of_nothing,
    parts,
    without_box,
)
from onnx_deconv.model.model import Model
from onnx_deconv.model.output_kinds import (
    Kind,
    is_sequence_by_its_layer,
    kind_of,
    looks_classified,
    told_by_count,
    told_by_name,
)
from onnx_deconv.model.tail_steps import BOX, FLOATS, compared_by, given_of, holds_numbers_of_classes
from onnx_deconv.model.tails import (
    ELSEWHERE,
    Tail,
    alike,
    chooses,
    falling,
    joins_probabilities,
    mixes_classes,
    picked_by_the_image,
    scored_elsewhere,
    squashed_before,
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
from onnx_deconv.operators.node import ForwardNode, label
from onnx_deconv.operators.traits import (
    JOIN,
    PICK,
    POINTWISE,
    PROBABILITY,
    QUANTISER,
    RESAMPLER,
    VIEW,
)

_PARTS: Mapping[str | None, Part] = {"classes": "scores", "regression": "boxes"}
"""What an output of boxes holds, by what its name says of a row."""
ChosenKind = Literal["classes", "regression"]
"""What a user may say that a row of numbers is."""


@dataclass(frozen=True)
class Head:
    """What one output of a model is, and where its explanation starts.

    Attributes
    ----------
    output
        The output's name.
    kind
        See :data:`Kind`.
    start
        The value that an explanation starts from: the scores.
    axes
        The scores' axes.
    cut
        The operators and names of the nodes behind it that take no part.
    elements
        For each class of the output its class among the scores, and whether it rises (1) or falls (-1) with
        it; ``None`` where classes are counted among the scores.
    own
        The output's axes, where it has one number for each class and position that the scores have.
    problem
        Why there is nothing to explain; ``None`` if there is. Where the kind is known, a channel of the
        scores can be.
    boxes
        What is known of its boxes; ``None`` where it has none.
    squash
        How the scores become probabilities: each alone, or all together; ``None`` where they do not.
    ranked
        The value by which classes are ranked, if it is not the scores: a mean of several probabilities, or
        rows that hold some, whose axes are the scores'; or the output itself, whose axes are ``own``, where
        it has one number for each class (and position) and puts classes into another order than their scores.
    by_name
        Whether nothing but its name tells its kind.
    assumed
        Whether it is taken for classes, or for classes at each step, though nothing says so: most models that
        end like it have classes.
    in_place_of
        The output that stands before it, and would be explained if this one held no classes.
    levels
        The other outputs with scores of the same classes for other boxes, as a detector has for each of its
        levels, if this output was chosen among them without being asked for.
    table
        The sizes of the table that the output makes of each image's row of numbers, which are counted row by
        row; empty where it makes none.
    scored
        How many classes the scores have; ``None`` where that is not known.
    rivals
        Whether a softmax or an ArgMax compares the classes at each position of a map: what all have in common
        there says nothing, and a class is as strong as its odds against all others are.
    """

    output: str
    kind: Kind
    start: str
    axes: Axes = field(default_factory=Axes)
    cut: tuple[str, ...] = ()
    elements: tuple[tuple[int, int], ...] | None = None
    own: Axes | None = None
    problem: str | None = None
    boxes: Layout | None = None
    squash: Literal["each", "together"] | None = None
    ranked: str | None = None
    by_name: bool = False
    assumed: bool = False
    in_place_of: str | None = None
    levels: Sequence[str] = ()
    table: tuple[int | None, ...] = ()
    scored: int | None = None
    rivals: bool = False

    @property
    def ranked_axes(self) -> Axes:
        """The axes of the value by which classes are ranked."""
        return self.axes if self.own is None or self.ranked != self.output else self.own

    @property
    def has_positions(self) -> bool:
        """Whether there is a map, or a row, of each class."""
        return self.kind not in ROWS

    @property
    def seed(self) -> Literal["one", "map", "present"]:
        """What a class is explained from: 1 at its score or box, or its map with its activations.

        Before a sigmoid those that are negative say that the class is not there, and are left out.
        """
        if not self.has_positions or self.kind == "detections":
            return "one"
        return "present" if self.squash == "each" and self.elements is None else "map"

    @property
    def seed_of_a_place(self) -> Literal["one", "auto"]:
        """What a position, a region or a mask of it is explained from: 1 at each score, as a class has.

        Scores have no zero: their sign says nothing, and must not turn a reconstruction round. The values of
        an image have one, as activations have.
        """
        return "auto" if self.kind == "image" else "one"


_MAPS = ("class map", "sequence")
"""Kinds of outputs that have a number for each class and position, of which some classes come first."""
ROWS = ("classes", "regression", "embedding", "numbers")
"""Kinds of outputs that have no positions."""

_COUNTED = {TensorProto.INT64, TensorProto.INT32, TensorProto.BOOL, TensorProto.STRING}
"""Types of numbers that no signal comes from; shorter integers may be quantised."""


def heads(model: Model) -> list[Head]:
    """Tell what each output of a model is."""
    if model not in _HEADS:
        names = axis_names(model)
        found = _with_boxes(model, [_head(model, names, output) for output in model.outputs])
        _HEADS[model] = [_before_squashing(model, labelled(model, head, 0)) for head in found]
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


def class_count(model: Model, head: Head) -> int | None:
    """Return how many classes an output has; ``None`` where the model leaves that open."""
    if head.elements is not None:
        return len(head.elements)
    sizes = head.axes.sizes(model.type_of(head.start).shape) or []
    return int(sizes[1]) if len(sizes) > 1 and isinstance(sizes[1], int) else None


def numbered_alike(head: Head) -> bool:
    """Tell whether a channel of an output's scores is its class of the same number, with the same sign."""
    return head.elements is None and head.problem is None


def fields_of(head: Head, labels: int) -> Fields | None:
    """Tell which fields of an output's boxes are what; ``None`` where that is not told, or it has none.

    Parameters
    ----------
    head
        The output.
    labels
        How many names of classes are known.
    """
    return None if head.boxes is None else Fields.of(head.boxes, labels)


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
    return _before_squashing(model, replace(head, kind="detections", boxes=layout))


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


def _may_be_a_level(model: Model, head: Head) -> bool:
    """Tell whether a map has other sizes of itself beside it, and channels as a detector's levels have."""
    channels = class_count(model, head) or 0
    if tail_of(model, head.output).compares is not None or not may_hold_boxes(channels):
        return False
    return _has_levels(model, head) and not _is_of_pixels(model, head)


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
    count, join = class_count(model, head), _join_below(model, value)
    if join is None or count is None or not _has_levels(model, head):
        return False
    axis, result = ForwardNode(join, model).axis(), join.outputs[0].name
    where, shape = axis_names(model).values.get(result), model.type_of(result).shape or ()
    return where is not None and where[axis] == {CHANNEL} and shape[axis] == count


def _join_below(model: Model, value: str) -> gs.Node | None:
    """Return the join whose numbers a value holds, at most in another order or rounded."""
    while (node := model.producers.get(value)) is not None and JOIN not in traits_of(node):
        if not traits_of(node) & {QUANTISER, VIEW}:
            return None
        value = node.inputs[0].name
    return node


def _has_levels(model: Model, head: Head) -> bool:
    """Tell whether another output is such a map of another size, as those of a detector's levels are."""
    own, along = model.type_of(head.output).shape or (), (head.own or head.axes).classes
    if along is None or along >= len(own):
        return False
    others = [model.type_of(name).shape or () for name in model.outputs]
    return any(len(each) == len(own) and each[along] == own[along] and each != own for each in others)


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


def chosen(head: Head, kind: ChosenKind | None) -> Head:
    """Return a head of the kind that a user says it is.

    Raises
    ------
    InputError
        If that is no kind, or the output is none that may be of it.
    """
    if kind is None:
        return head
    if kind not in get_args(ChosenKind):
        raise InputError(f"{given('kind', kind)}: choose one of {', '.join(get_args(ChosenKind))}")
    if head.kind not in ROWS:
        raise InputError(
            f"kind {kind!r}: output {head.output!r} is of the kind {head.kind!r}, as its axes tell"
        )
    return replace(head, kind=kind, by_name=False, assumed=False)


def undecided(head: Head, fields: Fields | None, count: int | None, labels: int = 0) -> str | None:
    """Tell why nothing is explained of an output unless it is named; ``None`` where something is.

    Parameters
    ----------
    head
        The output.
    fields
        Which fields of its boxes are what, if that is told.
    count
        How many classes, fields or numbers it has, if that is known.
    labels
        How many names of classes are known.
    """
    named, sizes = f"output {head.output!r}", "×".join(str(size or "?") for size in head.table)
    how = f", counted row by row from 0 to {count - 1}" if sizes and count is not None else ""
    field = f"field {0 if count is None else count - 1}"
    if head.boxes is not None and head.boxes.part == "boxes":
        return (
            f"{named} holds boxes, whose scores another output holds: choose that one, or a target such as "
            f"{field!r} and the box's position"
        )
    if head.kind == "detections" and fields is None:
        those = "" if count is None else f" 0 to {count - 1}"
        what = "the scores of boxes" if head.boxes is not None and head.boxes.part == "scores" else "boxes"
        fit = [str(k) for k in (() if head.boxes is None else labels_that_fit(head.boxes))]
        tells = f"{labels} labels do not tell" if labels and fit else "nothing tells"
        several = " or ".join(filter(None, (", ".join(fit[:-1]), *fit[-1:])))
        would = f"; {several} would" if labels and fit else ""
        names = "the classes' labels, or " if fit else ""
        return (
            f"{named} holds {what}, and {tells} which of their fields{those} are classes{would}: give {names}"
            f"a target such as {field!r} and the box's position"
        )
    if head.kind == "embedding":
        return f"{named} is an embedding, whose dimensions have no meaning: give one as a target, or an array"
    if head.kind == "numbers":
        what = f"a table of {sizes}" if sizes else f"a row of {count or 'some'}"
        return (
            f"{named} is {what} numbers, and nothing tells whether they are classes: give one as a "
            f"target{how}; or say what they are, by {way('--kind', 'kind=')} or the classes' labels"
        )
    if head.kind == "unknown" and head.problem is None:
        return (
            f"{named} holds several rows of numbers, and nothing tells what they are: give one as a target, "
            "by its column and its position, or an array"
        )
    if head.kind == "regression" and count != 1:
        many = sizes or count or "several"
        return f"{named} holds {many} quantities, none of which comes first: give one as a target{how}"
    return None


def _with_boxes(model: Model, found: Sequence[Head]) -> list[Head]:
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
        layout = Layout(
            None if rows else own[1],
            part if picked is None else picked.part,
            scores,
            _shares(model, head, own[1]),
            ends_with_nothing(own[1], model.outputs, shares=shares),
            grid or head.squash is not None,
            tuple(more),
            told=None if picked is None else picked.told,
            probable=head.ranked is not None,
            shared=_shared(model, head.start, own[1]),
            scores=_scores(model, head, own[1]),
            multiplied=holds_products_of_a_field(model, head.start),
            unsure=part == "all" and own[1] == BOX and name != "scores" and picked is None,
        )
        told.append(replace(head, boxes=layout))
    return [_beside_picked(model, head, told) for head in told]


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


def _before_squashing(model: Model, head: Head) -> Head:
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


def _picked(model: Model, tail: Tail, axes: Axes, count: int | None) -> Layout | None:
    """Return what the graph tells of boxes whose best it picks: which of their fields it compares."""
    if count is None or axes.classes is None:
        return None
    fields = chosen_fields(model, tail, axes.classes, count)
    if fields is None:
        return None
    if len(fields) < count:
        return Layout(count, told=(fields[0], len(fields)))
    return Layout(count, "scores", told=None if _squash(tail) == "together" else (0, count))


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


def _head(model: Model, names: AxisNames, output: str) -> Head:
    if output in model.inputs:
        return Head(output, "unknown", output, problem=f"output {output!r} is the input itself")
    tail = _joined_in_one_row(model, names, tail_of(model, output))
    tail = _laid_out(model, names, _as_one_row(model, names, tail))
    head = _head_of(model, names, tail)
    if head.kind == "detections" or head.boxes is not None or head.problem is not None:
        return head
    mixed = _mixture(model, tail, head.axes)
    if mixed is None or JOIN not in traits_of(mixed):
        return head
    after = tail.nodes[: next(k for k, node in enumerate(tail.nodes) if node is mixed)]
    return _head_of(model, names, Tail(output, mixed.outputs[0].name, after))


def _mixture(model: Model, tail: Tail, axes: Axes) -> gs.Node | None:
    """Return the node behind which numbers stand for several parts of the classes, if there is one."""
    shape = model.type_of(tail.start).shape
    count = None if shape is None or axes.classes is None else shape[axes.classes]
    if count is None or tail.output in (tail.start, tail.ranked):
        return None
    return mixture(model, tail, _along(axes), count)


def _head_of(model: Model, names: AxisNames, tail: Tail) -> Head:
    output = tail.output
    shape = model.type_of(tail.start).shape
    named = f"output {output!r} ({model.type_of(output)})"
    if shape is None:
        return Head(output, "unknown", tail.start, cut=tuple(tail.cut))
    if model.type_of(tail.start).dtype in _COUNTED:
        problem = f"no path leads from scores to {named}, which is made of whole numbers"
        return Head(output, "unknown", tail.start, cut=tuple(tail.cut), problem=problem)
    if (unknown := _unknown_maker(model, tail.start)) is not None:
        problem = f"{named} is computed by {unknown}, an operator of which nothing is known here"
        return Head(output, "unknown", tail.start, cut=tuple(tail.cut), problem=problem)
    batch = batch_axis(model, names, tail.start)
    if batch is None and not has_no_images(model, names, tail.start):
        problem = f"the graph does not tell which axis of {named} holds the images"
        return Head(output, "unknown", tail.start, cut=tuple(tail.cut), problem=problem)
    where = names.values.get(tail.start, (NOTHING,) * len(shape))
    spread = tail.compares in (None, ELSEWHERE)
    one = has_one_channel(names, where, batch) if spread else _is_one_map(tail, where)
    classes = None if one else class_axis(tail, shape, where, batch, names.own)
    if classes is None and not one:
        classes = dense_axis(model, tail.start)
    joined = (
        batch is None
        and classes not in (None, tail.compares)
        and bool(where[classes] - names.own - {CHANNEL})
    )
    if joined or (classes is None and len(shape) > 1 and not one):
        problem = f"the graph does not tell which axis of {named} holds the classes"
        return Head(output, "unknown", tail.start, cut=tuple(tail.cut), problem=problem)
    rest = tuple(k for k in range(len(shape)) if k not in (batch, classes))
    axes = Axes(batch, classes, rest)
    told = _told_by_all(model, names, tail, axes)
    count = None if classes is None else shape[classes]
    boxes = _picked(model, tail, axes, count) if told.kind == "detections" else None
    asked = _asked(model, names, tail, axes) if boxes is None else (None, None)
    of_maps = told.kind in _MAPS and tail.ranked is None
    reordered = (told.kind in ROWS or of_maps) and _may_reorder(model, tail)
    if reordered and of_maps and asked[1] is None:
        asked = asked[0], _map_axes(model, names, tail, axes, count if asked[0] is None else len(asked[0]))
    reordered = reordered and asked[1] is not None
    return Head(
        output,
        told.kind,
        tail.start,
        axes,
        tuple(tail.cut),
        *asked,
        problem=None if told.kind == "detections" else _why_no_classes(model, tail, axes),
        boxes=boxes,
        squash=_squash(tail),
        ranked=output if reordered and tail.ranked is None else tail.ranked,
        by_name=told.by_name,
        assumed=told.assumed,
        table=_table(model, names, output) if told.kind in ROWS else (),
        scored=count,
        rivals=of_maps and not reordered and count != 1 and _has_rivals(model, tail, axes),
    )


def _has_rivals(model: Model, tail: Tail, axes: Axes) -> bool:
    """Tell whether an output compares classes with each other, the given one or another of these scores."""
    if axes.classes is None or tail.compares == axes.classes:
        return axes.classes is not None
    others = (tail_of(model, output) for output in model.outputs if output != tail.output)
    return any(each.start == tail.start and each.compares == axes.classes for each in others)


def _may_reorder(model: Model, tail: Tail) -> bool:
    """Tell whether a tail may put classes into another order: not all are computed alike.

    A constant has another number for each, as a weight has, or some alone pass a node before a join.
    """
    alone = [n for n in tail.nodes if POINTWISE in traits_of(n) and VIEW not in traits_of(n)]
    constants = (model.constant(v.name) for n in alone for v in n.inputs)
    differ = any((each != each.flat[0]).any() for each in constants if each is not None and each.size)
    return differ or (len(alone) > 0 and any(JOIN in traits_of(n) for n in tail.nodes))


def _laid_out(model: Model, names: AxisNames, tail: Tail) -> Tail:
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


def _as_one_row(model: Model, names: AxisNames, tail: Tail) -> Tail:
    """Return a tail that starts before the views that made a table of each image's row of numbers.

    The coordinates of K points, K×2, are the numbers of one dense layer, of which neither axis holds classes.
    Where a softmax goes along one of the axes, as of a reader of plates, that one does.
    """
    value, views = tail.start, list[gs.Node]()
    while tail.compares is None and _is_table(model, names, value):
        node = model.producers.get(value)
        if node is None or VIEW not in traits_of(node):
            return tail
        value = node.inputs[0].name
        views.append(node)
    return replace(tail, start=value, nodes=(*tail.nodes, *views)) if views and not tail.ranked else tail


def _joined_in_one_row(model: Model, names: AxisNames, tail: Tail) -> Tail:
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


def _is_table(model: Model, names: AxisNames, value: str) -> bool:
    """Tell whether the channels of a filter run along several axes of a value, and nothing else along any."""
    where, shape = names.values.get(value), model.type_of(value).shape
    if where is None or shape is None:
        return False
    long = [axis for axis, size in zip(where, shape, strict=True) if size != 1 and BATCH not in axis]
    return len(long) > 1 and all(axis == {CHANNEL} for axis in long)


def _table(model: Model, names: AxisNames, output: str) -> tuple[int | None, ...]:
    """Return the sizes of the table that an output makes of each image's row of numbers, if it makes one."""
    shape, where = model.type_of(output).shape or (), names.values.get(output, ())
    if not _is_table(model, names, output):
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
    if may_be_table and _is_table(model, names, tail.output):
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


def _squash(tail: Tail) -> Literal["each", "together"] | None:
    if not tail.squashes:
        return None
    return "each" if tail.compares is None else "together"


def _asked(
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


def _why_no_classes(model: Model, tail: Tail, axes: Axes) -> str | None:
    """Tell why it is not known which score a class is, or which way it goes; ``None`` where it is."""
    shape, named = model.type_of(tail.start).shape, f"output {tail.output!r} ({model.type_of(tail.output)})"
    count = 1 if shape is None or axes.classes is None else shape[axes.classes]
    if tail.output in (tail.start, tail.ranked) or count is None:
        return None
    if falling(model, tail) is not None:
        return f"{named} falls as the best of the scores {tail.start!r} rises, and is the score of no class"
    several = any(shape is None or shape[k] != 1 for k in axes.positions)
    lost = untraced(model, tail, _along(axes), count, has_positions=several)
    mixed = _mixture(model, tail, axes)
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


def _map_axes(model: Model, names: AxisNames, tail: Tail, axes: Axes, count: int | None) -> Axes | None:
    """Return the axes of an output that has a number for each class and position, as its scores have."""
    start, where = names.values.get(tail.start, ()), names.values.get(tail.output, ())
    shape, at = model.type_of(tail.output).shape or (), {axis: k for k, axis in enumerate(where)}
    real = model.type_of(tail.output).dtype in FLOATS and not chooses(model, tail)
    if not real or len(at) != len(where) or sorted(map(sorted, start)) != sorted(map(sorted, where)):
        return None
    batch, classes = (None if k is None else at[start[k]] for k in (axes.batch, axes.classes))
    known = classes is None or (count is not None and shape[classes] == count)
    return Axes(batch, classes, tuple(at[start[k]] for k in axes.positions)) if known else None


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
