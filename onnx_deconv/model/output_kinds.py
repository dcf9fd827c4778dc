"""What an output is, judged by its axes and by the nodes that it comes from."""

import re
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Literal

from onnx_deconv.model.model import Model
from onnx_deconv.model.tail_steps import BOX, FLOATS, compared_by, guarded, is_even
from onnx_deconv.model.tail_views import join_below
from onnx_deconv.model.tails import Tail, averages_classes, chooses, picked_by_the_image, picks_boxes
from onnx_deconv.model.value_axes import Axes, dense_axis, is_line
from onnx_deconv.operators import Shape, traits_of
from onnx_deconv.operators.axes import BATCH, CHANNEL, Names
from onnx_deconv.operators.node import ForwardNode
from onnx_deconv.operators.traits import (
    AFFINE,
    CONVOLUTION,
    FILTER,
    NONNEGATIVE,
    NORMALISATION,
    POOL,
    REDUCTION,
    REPEATS,
    SUM,
    VIEW,
)

_USUAL = {1000, 1001, 21841, 21843}
"""Classes of ImageNet, and of all that it was chosen from; with one for what is none of them."""
_COORDINATES = {34, 42, 51, 63, 66, 99, 132, 136, 195, 196, 212, 1404, 1434}
"""Coordinates of well-known landmarks: of bodies 17·2, 17·3, 33·2, 33·3, 33·4 and 39·5, of hands 21·2 and
21·3, of faces 68·2, 98·2, 106·2, 468·3, 478·3; and 66 bins of an angle."""
_EMBEDDED = {128, 384, 512, 768, 1024, 1280, 1536, 2048}
"""Dimensions that embeddings mostly have."""
_SMALL = {10, 100}
"""Classes of MNIST and CIFAR: an output beside others has as many numbers by chance."""
Kind = Literal[
    "classes", "class map", "sequence", "detections", "embedding", "regression", "numbers", "image", "unknown"
]
"""What an output is: scores of classes; of classes at each position; of classes at each step; fields of
boxes; a direction; a quantity, or several; a row of numbers that may be classes or quantities; a picture."""
Row = Literal["classes", "regression", "embedding"]
"""What a row of numbers may be."""
_WORDS: Mapping[Row, AbstractSet[str]] = {
    "classes": {
        "category", "class", "classes", "classification", "classifier", "cls", "heatmap", "heatmaps", "hm",
        "label", "labels", "logit",
        "logits", "prob", "probs", "probability", "probabilities",
        "score", "scores",
    },
    "regression": {
        "age", "angle", "angles", "bbox", "bboxes", "box", "boxes", "coord", "coords", "coordinate",
        "coordinates", "gaze", "keypoint", "keypoints", "kps", "kpt", "kpts", "landmark", "landmarks", "mesh",
        "offset", "offsets", "pitch", "point", "points", "pose", "roll", "vertices", "xy", "xyz", "yaw",
    },
    "embedding": {"descriptor", "embed", "embedding", "embeddings", "embeds", "feat", "feats", "feature",
                  "features", "pooler", "token", "tokens"},
}  # fmt: skip
"""Words in outputs' names that say what a row of numbers is."""


def kind_of(model: Model, tail: Tail, axes: Axes, where: Names) -> Kind:
    """Tell what an output is, given what runs along the axes of its scores."""
    shape = model.type_of(tail.start).shape or ()
    long = [k for k in axes.positions if shape[k] != 1]
    count = 1 if axes.classes is None else shape[axes.classes]
    if not long:
        if tail.squashes or (chooses(model, tail) and not picked_by_the_image(model, tail.start)):
            return "classes"
        if count == 1:
            return "regression"
        return "embedding" if _is_normalised(model, tail.output) else "numbers"
    if len(long) > 1 and any(where[k] == {CHANNEL} for k in long):
        return "detections"  # one axis is of anchors
    if len(long) > 1:
        drawn = not tail.squashes and tail.compares is None
        return "image" if drawn and _is_picture(model, shape, count, long) else "class map"
    among_places = tail.compares in axes.positions
    alone = among_places and axes.classes is None and _has_boxes(model, tail.output)
    if alone or picks_boxes(model, tail):
        return "detections"
    if among_places:
        return "class map"  # probabilities of places, in a map of each class
    return _kind_of_row(model, tail, axes, where, long[0])


def _kind_of_row(model: Model, tail: Tail, axes: Axes, where: Names, along: int) -> Kind:
    """Tell what an output is that has one axis beside those of images and classes."""
    sources, boxes = where[along] - {BATCH}, _has_boxes(model, tail.output)
    if len(sources) == 1 and CHANNEL not in sources:
        return "sequence"
    if is_line(sources) and _is_one_number(model, tail, axes):
        return "sequence"  # a box has more numbers
    if _joins_a_box(model, tail, axes):
        return "detections"
    if tail.compares is not None and not boxes:
        return "sequence"  # attention joins rows and columns; a softmax without boxes beside it reads
    if not boxes and not _shares_size(model, tail, along) and _is_dense_row(model, tail, axes):
        return "sequence"  # and no boxes, or masks, stand beside it
    if _joins_softmaxes(model, tail, axes):
        return "sequence"  # of attributes, each with classes of its own
    return "detections" if sources or (chooses(model, tail) and boxes) else "unknown"


def _is_one_number(model: Model, tail: Tail, axes: Axes) -> bool:
    """Tell whether there is one number at each position."""
    return axes.classes is None or (model.type_of(tail.start).shape or ())[axes.classes] == 1


def _joins_softmaxes(model: Model, tail: Tail, axes: Axes) -> bool:
    """Tell whether each row of a value is a softmax of its own over all the row's numbers."""
    joined, shape = model.joined.get(tail.start), model.type_of(tail.start).shape or ()
    if joined is None or joined.beside or axes.classes is None:
        return False
    along = [(model.type_of(n.outputs[0].name).shape or (), compared_by(model, n)) for n in joined.squashed]
    return all(axis is not None and each[axis] == shape[axes.classes] != 1 for each, axis in along)


def is_sequence_by_its_layer(model: Model, tail: Tail, axes: Axes, where: Names) -> bool:
    """Tell whether nothing but the last dense layer says that a sequence is one, as of tokens or queries."""
    shape = model.type_of(tail.start).shape or ()
    along = {name for k in axes.positions if shape[k] != 1 for name in where[k] - {BATCH}}
    told = tail.compares is not None or tail.squashes or chooses(model, tail)
    told = told or _joins_softmaxes(model, tail, axes)
    return not told and (len(along) != 1 or CHANNEL in along)


def told_by_name(output: str) -> Row | None:
    """Tell what a row of numbers is by its name; ``None`` where no word of it says so, or several do."""
    words = set(re.findall("[a-z]+", re.sub("([a-z])([A-Z])", r"\1 \2", output).lower()))
    found = [row for row, known in _WORDS.items() if words & known]
    return found[0] if len(found) == 1 else None


def told_by_count(model: Model, count: int | None) -> bool:
    """Tell whether there are as many numbers as classes of a data set everybody knows."""
    return count in _USUAL or (count in _SMALL and len(model.outputs) == 1)


def looks_classified(model: Model, output: str, start: str, count: int | None) -> bool:
    """Tell whether a row of numbers is made as classifiers make it: the only output, after a pool or dense.

    Coordinates are mostly one output of several, or made by filters as large as their maps. What is made of
    a softmax by constants is a mean over its classes: the angle, or the age, that bins stand for.
    """
    return (
        count not in _COORDINATES | _EMBEDDED
        and not _others(model, output)
        and _is_pooled_or_dense(model, start)
        and not averages_classes(model, start)
    )


def _others(model: Model, output: str) -> list[str]:
    """List the other outputs that are real numbers, made of the image."""
    types = {name: model.type_of(name) for name in model.outputs if name not in {output, *model.constants}}
    return [name for name, each in types.items() if each.dtype in FLOATS and 0 not in (each.shape or ())]


def _is_pooled_or_dense(model: Model, value: str) -> bool:
    """Tell whether a dense layer or a pool over all positions comes before a value, with no filter between.

    Convolutions of what has no positions any more are dense layers too.
    """
    waiting, seen = [value], set[str]()
    while waiting:
        node = model.producers.get(name := waiting.pop())
        if node is None or name in seen:
            continue
        seen.add(name)
        traits, below = traits_of(node), node.inputs[0].name if node.inputs else ""
        if traits & {POOL, REDUCTION} or (FILTER in traits and CONVOLUTION not in traits):
            return True
        if CONVOLUTION not in traits or _has_no_positions(model, below):
            waiting += [v.name for v in node.inputs if v.name and v.name not in model.constants]
    return False


def _has_no_positions(model: Model, value: str) -> bool:
    shape = model.type_of(value).shape
    return shape is not None and all(size == 1 for size in shape[2:])


def _has_boxes(model: Model, output: str) -> bool:
    """Tell whether another output holds boxes: four numbers each."""
    shapes = (model.type_of(other).shape or () for other in model.outputs if other != output)
    return any(BOX in shape for shape in shapes)


def _is_dense_row(model: Model, tail: Tail, axes: Axes) -> bool:
    """Tell whether a dense layer gives the scores of each step: more than coordinates, or called so."""
    dense, shape = dense_axis(model, tail.start), model.type_of(tail.start).shape or ()
    several = dense is not None and dense == axes.classes and (shape[dense] or 0) > BOX
    return several and told_by_name(tail.output) in (None, "classes")


def _joins_a_box(model: Model, tail: Tail, axes: Axes) -> bool:
    """Tell whether each row of scores joins four numbers, as of a box, and as many as there are classes."""
    node = join_below(model, tail.start)
    if node is None or ForwardNode(node, model).axis() != axes.classes:
        return False
    sizes = [(model.type_of(v.name).shape or (None,) * (axes.classes + 1))[axes.classes] for v in node.inputs]
    several = len(sizes) > 1 and None not in sizes
    halves = [BOX // 2] * 2  # two corners, or a centre and a size, before or behind the scores
    return several and (BOX in sizes or (sizes != halves and halves in (sizes[:2], sizes[-2:])))


def _shares_size(model: Model, tail: Tail, along: int) -> bool:
    """Tell whether another output has as many of something, as boxes, or masks, of the same queries have."""
    count = (model.type_of(tail.start).shape or ())[along]
    return any(count in (model.type_of(name).shape or ()) for name in model.outputs if name != tail.output)


def _is_picture(model: Model, shape: Shape, count: int | None, long: Sequence[int]) -> bool:
    """Tell whether an output may be the input, redrawn: as many channels, and no smaller."""
    given = [model.type_of(name).shape or () for name in model.inputs]
    sizes = [shape[k] for k in long]
    return count in (1, 3) and any(
        len(taken) == len(shape)
        and count in taken[1:]
        and all((d or 0) >= (t or 0) for d, t in zip(sizes, taken[2:], strict=False))
        for taken in given
    )


def _is_normalised(model: Model, value: str) -> bool:
    """Tell whether a value is divided by its own length."""
    node = model.producers.get(value)
    while node is not None:
        lower = node.inputs[0].name if VIEW in traits_of(node) else guarded(model, node)
        if lower is None:
            break
        node = model.producers.get(lower)
    if node is None or NORMALISATION in traits_of(node):
        return node is not None
    operands = [v.name for v in node.inputs]
    return AFFINE in traits_of(node) and any(_is_length(model, v, set(operands) - {v}) for v in operands)


def _is_length(model: Model, value: str, of: AbstractSet[str], within: int = 6) -> bool:
    """Tell whether a value is a norm of one of some others, a few pointwise nodes later.

    A mean, a maximum or a sum that keeps signs is none: what they are taken off, or divide, may be scores.
    """
    node = model.producers.get(value)
    if node is None or not within:
        return False
    known = {"", *model.constants}  # an input that may be left out has no name
    traits, first = traits_of(node), [v.name for v in node.inputs if v.name not in known]
    if REPEATS in traits:
        del first[1:]  # to which shape a length is brought (torch.nn.functional.normalize does) says nothing
    if REDUCTION not in traits:
        return len(first) == 1 and _is_length(model, first[0], of, within - 1)
    if NONNEGATIVE in traits:
        return bool(of & set(first))
    squared = model.producers.get(first[0]) if SUM in traits and first else None
    return squared is not None and is_even(model, squared) and bool(of & {v.name for v in squared.inputs})
