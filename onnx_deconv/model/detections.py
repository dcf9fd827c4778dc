"""The fields of a detector's boxes: which of them are scores of classes, and how boxes are ranked."""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from onnx_deconv.errors import ModelError
from onnx_deconv.model.load import Array
from onnx_deconv.model.output_kinds import Kind

_BOX = 4
"""Fields of a box: its centre and its size, or two corners."""
_COCO = 80
_OVERLAP = 0.45
"""Of two boxes that share more than this of their union, the weaker one is left out."""
_MOST = 300
"""Boxes of one class that are looked at, the strongest first."""


@dataclass(frozen=True)
class Fields:
    """Which fields of a detector's boxes are what.

    Attributes
    ----------
    first, count
        The first field that is a class's score, and how many there are.
    objectness
        The field that says whether there is anything at all; ``None`` without one.
    """

    first: int
    count: int
    objectness: int | None = None

    @classmethod
    def of(cls, kind: Kind, fields: int | None, squashed: bool, labels: int) -> Self | None:  # noqa: FBT001
        """Tell the fields of an output; ``None`` where it is not told which are classes, or it has no boxes.

        With C classes, YOLO v8 and later write 4 + C fields, YOLO v3 to v7 and YOLOX 5 + C with the
        objectness before the classes; SSD writes the classes apart from the boxes, the background first.

        Parameters
        ----------
        kind
            What the output is.
        fields
            How many fields its boxes have.
        squashed
            Whether it is made of probabilities alone.
        labels
            How many names of classes are known.
        """
        if kind != "detections" or fields is None:
            return None
        if labels:
            known = {labels: cls(0, labels), labels + 1: cls(1, labels)} if squashed else {}
            known |= {labels + _BOX: cls(_BOX, labels), labels + _BOX + 1: cls(_BOX + 1, labels, _BOX)}
            return known.get(fields)
        if squashed:
            return cls(0, fields)
        return {_COCO + _BOX: cls(_BOX, _COCO), _COCO + _BOX + 1: cls(_BOX + 1, _COCO, _BOX)}.get(fields)

    def scores(self, values: Array) -> Array:
        """Return each class's score in each box, shape (N, C, A), given all fields, shape (N, F, A)."""
        found = values[:, self.first : self.first + self.count]
        return found if self.objectness is None else found * values[:, self.objectness, None]

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
        if self.first < _BOX:
            return [int(k) for k in order]
        kept: list[int] = []
        for k in order[:_MOST]:
            if all(_overlap(values[:_BOX, k], values[:_BOX, other]) <= _OVERLAP for other in kept):
                kept.append(int(k))
        return kept

    def as_dict(self) -> dict[str, Any]:
        """Return them as plain JSON data."""
        return {"first": self.first, "count": self.count, "objectness": self.objectness}

    def around(self, values: Array, point: tuple[float, float]) -> list[int]:
        """List the boxes of an image that hold a point (x, y) of the input.

        Raises
        ------
        ModelError
            If the output holds no boxes.
        """
        if self.first < _BOX:
            raise ModelError("the boxes are not in this output: name a class and a rank, as in person#1")
        x, y, width, height = values[:_BOX]
        inside = (np.abs(x - point[0]) <= width / 2) & (np.abs(y - point[1]) <= height / 2)
        return [int(k) for k in np.flatnonzero(inside)]


def _overlap(a: Array, b: Array) -> float:
    """Return the share of two boxes' union that both cover; a box is its centre and its size."""
    low = np.maximum(a[:2] - a[2:] / 2, b[:2] - b[2:] / 2)
    high = np.minimum(a[:2] + a[2:] / 2, b[:2] + b[2:] / 2)
    shared = float(np.prod(np.maximum(high - low, 0)))
    total = float(np.prod(a[2:]) + np.prod(b[2:])) - shared
    return shared / total if total > 0 else 0.0
