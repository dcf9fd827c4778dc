"""The fields of a detector's boxes: which of them are scores of classes, and how boxes are ranked."""

import math
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, Self

import numpy as np

from onnx_deconv.errors import ModelError
from onnx_deconv.model.model import Array
from onnx_deconv.model.tail_steps import BOX
from onnx_deconv.operators import Shape

Part = Literal["all", "scores", "boxes"]
"""What an output holds of detections: boxes and scores, or one of the two, the other being an output too."""
_COCO, _KEYPOINTS = 80, 17
_BEHIND = {"obb": 1, "pose": 3 * _KEYPOINTS}
"""Fields behind the classes, by the task that Ultralytics' metadata name: an angle; keypoints."""
_SIDES = 32, 64
"""Numbers of a box whose four sides are distributions over 8 or 16 distances."""
_ANCHORS = 3, 5, 9
"""Anchors of a cell: of YOLO v3 to v7, of v2, and of detectors with three shapes of three sizes."""
_OF_COCO = _COCO, 90, 91
"""Scores of COCO's classes, without a background: one for each, or by their numbers from 1, or from 0."""
_WITH_NOTHING = 92
"""Fields of DETR's scores: COCO's classes by their numbers, 0 to 90, and "no object"."""
_NOTHING = {"background", "bg", "no object"}
"""What names of classes call the background, without capitals and underscores."""
_OVERLAP = 0.45
"""Of two boxes that share more than this of their union, the weaker one is left out."""
_MOST = 300
"""Boxes of one class that are looked at, the strongest first."""


@dataclass(frozen=True)
class Layout:
    """What is known of a detector's boxes before their fields are told.

    Attributes
    ----------
    fields
        How many there are; ``None`` where that is not known.
    part
        See :data:`Part`.
    squashed
        Whether they are probabilities, before which an explanation starts.
    exclusive
        Whether a softmax over them makes probabilities: one of them then is the background, or "no object".
    last
        Whether that one is the last, as DETR's, not the first.
    raw
        Whether they are numbers before a sigmoid, and boxes counted in cells of a grid.
    behind
        How many fields there may be behind the classes: none, a mask's coefficients, keypoints, an angle.
    anchors
        How many boxes follow each other along the channels of a map.
    cells
        Whether boxes lie in the cells of a map, as the number of labels tells.
    told
        The first field that is a class and how many are, where the graph itself picks boxes by these.
    probable
        Whether boxes are ranked by probabilities, whatever they are explained from.
    shared
        Among how many fields, behind the box's, a softmax has shared out the probabilities, if one has.
    scores
        For each field which group of probabilities it is of, counted from 1, or 0 for none, where the graph
        joins these and others and tells.
    multiplied
        Whether the graph itself has multiplied the classes by the objectness that stands beside them.
    unsure
        Whether they may as well be boxes, and nothing but names of as many classes says that they are none.
    """

    fields: int | None
    part: Part = "all"
    squashed: bool = False
    exclusive: bool = False
    last: bool = False
    raw: bool = False
    behind: Sequence[int] = (0,)
    anchors: int = 1
    cells: bool = False
    told: tuple[int, int] | None = None
    probable: bool = False
    shared: int | None = None
    scores: Sequence[int] | None = None
    multiplied: bool = False
    unsure: bool = False


def behind(metadata: Mapping[str, str], maps: Sequence[int]) -> list[int]:
    """List how many fields there may be behind the classes of a detector.

    Parameters
    ----------
    metadata
        The model's: Ultralytics' ``task`` and ``kpt_shape``.
    maps
        How many channels the feature maps among the other outputs have: the coefficients of masks.
    """
    found = [0, *maps]
    task = metadata.get("task", "")
    if task in _BEHIND:
        numbers = [int(n) for n in re.findall(r"\d+", metadata.get("kpt_shape", ""))]
        found.append(math.prod(numbers) if task == "pose" and numbers else _BEHIND[task])
    return found


def without_box(groups: Sequence[int]) -> Sequence[int] | None:
    """Return groups of probabilities, of which one is four shares of the image's size: those are none.

    Parameters
    ----------
    groups
        For each field the group that it is of, from 1.

    Returns
    -------
    Sequence of int or None
        The same with 0 for the box; ``None`` where not exactly one group may be a box.
    """
    fours = [group for group, size in Counter(groups).items() if size == BOX]
    return [0 if group in fours else group for group in groups] if len(fours) == 1 else None


def anchors_of(channels: int | None, labels: int, *, of_levels: bool = False) -> int | None:
    """Tell how many boxes follow each other along the channels of a map; ``None`` if none.

    Several boxes of a cell have an objectness each; a single one may have none.

    Parameters
    ----------
    channels
        How many channels the map has.
    labels
        How many names of classes are known; without any, COCO's 80 classes are tried.
    of_levels
        Whether there are such maps of several sizes, as of a detector's levels.
    """
    if channels is None or channels == labels:
        return None
    classes = labels or _COCO
    fields = BOX + 1 + classes
    if channels % fields == 0 and channels // fields in _ANCHORS:
        return channels // fields
    return 1 if (labels or of_levels) and channels - classes in (BOX, BOX + 1, *_SIDES) else None


def may_hold_boxes(channels: int) -> bool:
    """Tell whether a map has as many channels as three boxes with some classes, or one with distributions."""
    one_class = BOX + 1 + 1
    return channels > _SIDES[1] or (channels % _ANCHORS[0] == 0 and channels // _ANCHORS[0] >= one_class)


def parts(
    outputs: Sequence[tuple[Shape, int | None, bool] | None], named: Sequence[Part | None] | None = None
) -> list[Part]:
    """Tell which outputs hold the scores of boxes that other outputs hold.

    Parameters
    ----------
    outputs
        For each output of detections how many boxes it has along each axis (``None`` where that is not known,
        and may be any number), how many fields each, and whether these are probabilities; ``None`` for other
        outputs.
    named
        What their names tell of them, which is asked where all have four numbers.

    Returns
    -------
    list
        A part for each output. The scores are what is squashed, but not boxes of four numbers where all such
        are; else a single number, or two or three; else what stands beside boxes of four numbers.
    """
    found: list[Part] = ["all"] * len(outputs)
    for boxes in {each[0] for each in outputs if each is not None}:
        alike = {k: each for k, each in enumerate(outputs) if each is not None and _as_many(each[0], boxes)}
        wide = {k for k, each in alike.items() if each[1] != BOX}
        squashed = {k for k, each in alike.items() if each[2]}
        if not wide and len(alike) > 1:  # of four numbers each a sigmoid may make either
            squashed = _by_name(alike, named or ())
        elif squashed and wide and not squashed & wide and len(alike) == len(squashed) + len(wide):
            squashed = set()  # DETR's boxes are shares of the image's size, and so made by a sigmoid
        if _may_be_points(alike, squashed, named or ()):
            continue
        called = {k for k in alike if k < len(named or ()) and (named or ())[k] == "boxes"}
        rest = alike.keys() - called or alike.keys()  # a sigmoid makes coordinates, too
        scores = (
            (squashed & wide & rest or squashed & rest)
            or {k for k in rest if (alike[k][1] or BOX) < BOX}
            or (wide & rest if len(wide & rest) == 1 else set())
            or (rest if len(rest) < len(alike) else set())
        )
        if 0 < len(scores) < len(alike):
            found = [
                found[k] if k not in alike else "scores" if k in scores else "boxes"
                for k in range(len(outputs))
            ]
    return found


def _may_be_points(
    outputs: Mapping[int, tuple[Shape, int | None, bool]],
    squashed: Collection[int],
    named: Sequence[Part | None],
) -> bool:
    """Tell whether the only probabilities may be points, shares of the image's size as boxes are.

    Then more numbers, which no sigmoid makes, stand beside them, and no name and no box tells more.
    """
    of_boxes = [k for k, each in outputs.items() if each[1] == BOX]
    pairs = [k for k in squashed if outputs[k][1] == 2]  # noqa: PLR2004
    bare = [k for k in outputs if k not in squashed and k not in of_boxes]
    told = any(k < len(named) and named[k] is not None for k in (*pairs, *bare))
    return bool(pairs and bare) and not told and {*pairs, *of_boxes} == {*squashed}


def _by_name(outputs: Collection[int], named: Sequence[Part | None]) -> set[int]:
    """Return the outputs that hold scores by their names, or by the others' names, if these tell."""
    told = {k: named[k] for k in outputs if k < len(named)}
    scores = {k for k, part in told.items() if part == "scores"}
    return scores or ({k for k, part in told.items() if part is None} if "boxes" in told.values() else set())


def _as_many(some: Shape, others: Shape) -> bool:
    """Tell whether two outputs may have as many boxes along each axis."""
    return len(some) == len(others) and all(
        None in (a, b) or a == b for a, b in zip(some, others, strict=True)
    )


def ends_with_nothing(fields: int | None, outputs: Sequence[str], *, shares: bool = False) -> bool:
    """Tell whether the last of a detector's classes is "no object", as DETR writes them.

    Parameters
    ----------
    fields
        How many scores each box has.
    outputs
        The names of the model's outputs.
    shares
        Whether sigmoids make the boxes, as where these are shares of the image's size.
    """
    return shares or fields == _WITH_NOTHING or not {"pred_logits", "pred_boxes"}.isdisjoint(outputs)


@dataclass(frozen=True)
class Fields:
    """Which fields of a detector's boxes are what.

    Attributes
    ----------
    first, count
        The first field that is a class's score, and how many there are.
    objectness
        The field that says whether there is anything at all; ``None`` without one.
    raw
        Whether the scores are numbers before a sigmoid, and boxes counted in cells of a grid.
    anchors
        How many boxes follow each other along the channels of a map.
    exclusive
        Whether they are numbers before a softmax over all fields, by which boxes are ranked.
    probable
        Whether what boxes are ranked by are probabilities already.
    """

    first: int
    count: int
    objectness: int | None = None
    raw: bool = False
    anchors: int = 1
    exclusive: bool = False
    probable: bool = False

    @classmethod
    def of(cls, layout: Layout, labels: int) -> Self | None:
        """Tell the fields of an output; ``None`` where it is not told which are classes.

        With C classes, YOLO v8 and later write 4 + C fields (64 + C with sides as distributions), YOLO v3 to
        v7 and YOLOX 5 + C with the objectness before the classes, NanoDet C + 32; SSD and RetinaFace write
        the classes apart from the boxes, the background first, and DETR "no object" last.

        Parameters
        ----------
        layout
            What is known of the boxes.
        labels
            How many names of classes are known.
        """
        may_be_boxes = layout.unsure and labels != layout.fields
        if layout.fields is None or layout.part == "boxes" or may_be_boxes:
            return None
        if layout.told is not None:
            told: Self | None = cls(*layout.told)
        elif layout.shared is not None:
            told = cls._of_softmax(layout.fields - layout.shared, layout.shared, labels, last=layout.last)
        else:
            left = (layout.fields - more for more in layout.behind if more < layout.fields)
            found = (cls._told(layout, fields, labels) for fields in left)
            told = next((each for each in found if each is not None), None)
            if told is not None:
                told = told.among(layout.scores)
            elif labels and layout.scores is not None:
                told = cls._of_groups(layout.scores, labels)
        if told is None:
            return None
        # Where one of the scores stands for nothing at all, a softmax is to come if none has been.
        to_come = _is_bare(layout) and told.count == layout.fields - 1
        exclusive = layout.exclusive or layout.shared is not None or to_come
        if layout.multiplied:
            told = replace(told, objectness=None)
        return replace(
            told, raw=layout.raw, anchors=layout.anchors, exclusive=exclusive, probable=layout.probable
        )

    def among(self, groups: Sequence[int] | None) -> Self | None:
        """Return the fields of classes that the groups of probabilities tell; ``None`` if others are meant.

        Parameters
        ----------
        groups
            For each field the group that it is of, 0 for no probability; ``None`` where that is not known.
        """
        return self if groups is None or self._fits(groups) else self._of_groups(groups, self.count)

    @classmethod
    def _of_groups(cls, groups: Sequence[int], count: int) -> Self | None:
        """Tell the fields where so many probabilities are one group, or all but one: the objectness.

        That stands alone, or, as YOLO writes it, before the classes.
        """
        found = [k for k, group in enumerate(groups) if group]
        sizes = Counter(groups[k] for k in found)
        of_classes = [group for group, size in sizes.items() if size == count]
        classes = [k for k in found if groups[k] in of_classes] if len(of_classes) == 1 else found
        if len(sizes) == 1 and len(found) == count + 1 and len(groups) - len(found) >= BOX:
            classes = found[1:]
        others = [k for k in found if k not in classes]
        if found == [*range(BOX)] and count == BOX and len(groups) in (2 * BOX, 2 * BOX + 1):
            return None  # a box in shares of the image's size, before numbers that no sigmoid makes
        if classes != [*range(classes[0], classes[0] + count)] or len(others) > 1:
            return None
        return cls(classes[0], count, next(iter(others), None))

    def _fits(self, groups: Sequence[int]) -> bool:
        """Tell whether these are probabilities, and the objectness of no group of some classes alone."""
        classes = set(groups[self.first : self.first + self.count])
        if self.objectness is None:
            return 0 not in classes
        certain = groups[self.objectness]
        return 0 not in {certain, *classes} and (certain not in classes or len(classes) == 1)

    @classmethod
    def _of_softmax(cls, first: int, shared: int, labels: int, *, last: bool) -> Self | None:
        """Tell the classes among fields of one softmax; one of them is nothing, unless all have names."""
        if labels not in (0, shared - 1, shared) or shared < 2:  # noqa: PLR2004
            return None
        return cls(first, shared) if labels == shared else cls(first + (not last), shared - 1)

    @classmethod
    def _told(cls, layout: Layout, fields: int, labels: int) -> Self | None:
        """Tell the fields up to the last class."""
        apart = layout.squashed or layout.part == "scores"
        for count in [labels] if labels else [_COCO]:
            behind = cls(0 if layout.last else 1, count)
            known = {count: cls(0, count), count + 1: behind} if labels and apart else {}
            known |= {count + BOX: cls(BOX, count), count + BOX + 1: cls(BOX + 1, count, BOX)}
            known |= {count + _SIDES[0]: cls(0, count), count + _SIDES[1]: cls(_SIDES[1], count)}
            if fields in known and (layout.part == "all" or known[fields].first <= 1):
                return known[fields]
        if labels or not apart:
            person = BOX + 1 + 3 * _KEYPOINTS  # COCO's poses: a person's box, score and keypoints
            return cls(BOX, 1) if fields == person and labels in (0, 1) else None
        if _is_bare(layout) and fields not in (1, *_OF_COCO, _WITH_NOTHING):
            return None  # a sigmoid may be to come, or a softmax, of which one number is nothing
        if layout.part == "all" and not layout.exclusive and fields > BOX and fields not in _OF_COCO:
            return None  # the sigmoid may have squashed the box's own numbers too, as YOLO v3's to v7's does
        nothing = layout.exclusive or (_is_bare(layout) and fields == _WITH_NOTHING)
        return cls(0 if layout.last else 1, fields - 1) if nothing and fields > 1 else cls(0, fields)

    @property
    def has_boxes(self) -> bool:
        """Whether the first four fields are a box in the input's pixels."""
        return self.first in (BOX, BOX + 1) and not self.raw

    def apart(self, values: Array) -> Array:
        """Return values of the shape (N, anchors · F, ...) as (N, F, anchors, ...)."""
        if self.anchors == 1:
            return values
        return values.reshape(len(values), self.anchors, -1, *values.shape[2:]).swapaxes(1, 2)

    def scores(self, values: Array) -> Array:
        """Return each class's score in each box, shape (N, C, ...), given all fields, shape (N, F, ...).

        The scores of a softmax are its probabilities: a box that is nothing may have a class's larger number.
        """
        values = softmax(values) if self.exclusive and not self.probable else values
        found = values[:, self.first : self.first + self.count]
        if self.objectness is None:
            return found
        certain = values[:, self.objectness, None]
        return found * certain if self.probable else _sigmoid(found) * _sigmoid(certain)

    def best(self, values: Array) -> Array:
        """Return each class's score in its best box, shape (N, C), given a value as the model has it."""
        found = self.scores(self.apart(values))
        return np.asarray(found.reshape(*found.shape[:2], -1).max(axis=2))

    def ranked(self, values: Array, channel: int) -> list[int]:
        """List an image's boxes by a class's score, without those that overlap a stronger one.

        Parameters
        ----------
        values
            All fields of an image's boxes, shape (F, A).
        channel
            The class.
        """
        order = np.argsort(-self.scores(values[None])[0, channel], kind="stable")
        if not self.has_boxes:
            return [int(k) for k in order]
        boxes, kept = _middles(values), list[int]()
        for k in order[:_MOST]:
            if all(_overlap(boxes[:, k], boxes[:, other]) <= _OVERLAP for other in kept):
                kept.append(int(k))
        return kept

    def as_dict(self) -> dict[str, Any]:
        """Return them as plain JSON data."""
        return asdict(self)

    def around(self, values: Array, point: tuple[float, float]) -> list[int]:
        """List the boxes of an image that hold a point (x, y) of the input.

        Raises
        ------
        ModelError
            If the output holds no boxes.
        """
        if not self.has_boxes:
            raise ModelError("this output does not hold boxes in pixels: name a class and a rank, CLASS#RANK")
        x, y, width, height = _middles(values)
        inside = (np.abs(x - point[0]) <= width / 2) & (np.abs(y - point[1]) <= height / 2)
        return [int(k) for k in np.flatnonzero(inside)]


def name_of_nothing(layout: Layout, names: Sequence[str]) -> int | None:
    """Return which of the names stands for the background of boxes; ``None`` if none does.

    There is one then for each score, and its place is where detectors have the background.

    Parameters
    ----------
    layout
        What is known of the boxes.
    names
        All names that are known.
    """
    alone = layout.fields if layout.part == "scores" else None
    if layout.told is not None or len(names) < 2 or len(names) not in (alone, layout.shared):  # noqa: PLR2004
        return None
    place = len(names) - 1 if layout.last else 0
    return place if names[place].strip(" _").lower().replace("_", " ") in _NOTHING else None


def labels_that_fit(layout: Layout) -> list[int]:
    """List how many names of classes would tell which fields of boxes are classes."""
    return [k for k in range(1, (layout.fields or 0) + 1) if Fields.of(layout, k) is not None]


def _middles(values: Array) -> Array:
    """Return boxes as centres and sizes; they are two corners if the second one lies behind in all."""
    low, high = values[:2], values[2:BOX]
    return np.concatenate([(low + high) / 2, high - low] if (high >= low).all() else [low, high])


def _is_bare(layout: Layout) -> bool:
    """Tell whether scores stand alone, and nothing makes them probabilities."""
    return layout.part == "scores" and not layout.squashed


def softmax(values: Array) -> Array:
    """Return the probabilities that scores of classes stand for, shape (N, C, ...) as the scores."""
    shares = np.exp(values - values.max(axis=1, keepdims=True))
    return np.asarray(shares / shares.sum(axis=1, keepdims=True))


def _sigmoid(values: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-np.clip(values, -80, 80))))


def _overlap(a: Array, b: Array) -> float:
    """Return the share of two boxes' union that both cover; a box is its centre and its size."""
    low = np.maximum(a[:2] - a[2:] / 2, b[:2] - b[2:] / 2)
    high = np.minimum(a[:2] + a[2:] / 2, b[:2] + b[2:] / 2)
    shared = float(np.prod(np.maximum(high - low, 0)))
    total = float(np.prod(a[2:]) + np.prod(b[2:])) - shared
    return shared / total if total > 0 else 0.0
