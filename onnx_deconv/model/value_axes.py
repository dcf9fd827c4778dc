"""The axes of a value: which holds the images, which the classes or channels, which positions."""

from collections import Counter
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any

import numpy as np

from onnx_deconv.model.axis_names import AxisNames
from onnx_deconv.model.model import Array, Model
from onnx_deconv.model.tails import Tail
from onnx_deconv.operators import Shape, traits_of
from onnx_deconv.operators.axes import BATCH, CHANNEL, NOTHING, Names
from onnx_deconv.operators.traits import (
    AFFINE,
    CONVOLUTION,
    FILTER,
    JOIN,
    PICK,
    POINTWISE,
    PROBABILITY,
    QUANTISER,
    VIEW,
)

_Size = int | str | None
_ANCHORED = 2
"""Axes that a filter's channels become where boxes have anchors: the anchors, and the fields."""


@dataclass(frozen=True)
class Axes:
    """What the axes of a value are.

    Attributes
    ----------
    batch
        The axis of the images; ``None`` where a value of the only image that a model takes has none.
    classes
        The axis of the classes, channels or fields; ``None`` where there is one for each image.
    positions
        The other axes.
    """

    batch: int | None = 0
    classes: int | None = 1
    positions: tuple[int, ...] = ()

    @property
    def order(self) -> list[int]:
        """The axes as explanations count them: images, classes, positions."""
        first = [axis for axis in (self.batch, self.classes) if axis is not None]
        return [*first, *self.positions]

    @property
    def led(self) -> "Axes":
        """The axes of the same value with one for the images before them, where it has none."""
        if self.batch is not None:
            return self
        classes = None if self.classes is None else self.classes + 1
        return Axes(0, classes, tuple(axis + 1 for axis in self.positions))

    @property
    def usual(self) -> bool:
        """Whether they are in this order already."""
        told = self.batch is not None and self.classes is not None
        return told and self.order == list(range(len(self.order)))

    def canonical(self, values: Array) -> Array:
        """Return values in the shape (N, K, ...)."""
        if self.usual or values.ndim != len(self.order):
            return values
        if self.batch is None:
            return self.led.canonical(values[None])
        turned = values.transpose(self.order)
        return turned if self.classes is not None else turned[:, None]

    def restored(self, values: Array) -> Array:
        """Return values of the shape (N, K, ...) in the value's own."""
        if self.batch is None:
            return np.asarray(self.led.restored(values)[0])
        if self.usual or values.ndim != len(self.order) + (self.classes is None):
            return values
        plain = values if self.classes is not None else values[:, 0]
        return plain.transpose(np.argsort(self.order))

    def sizes(self, dims: Sequence[_Size] | None) -> list[_Size] | None:
        """Return a shape in the order (N, K, ...)."""
        if dims is None or len(dims) != len(self.order):
            return None if dims is None else list(dims)
        if self.batch is None:
            return self.led.sizes([1, *dims])
        found = [dims[k] for k in self.order]
        return found if self.classes is not None else [found[0], 1, *found[1:]]

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> "Axes":
        """Return axes from plain JSON data."""
        return cls(stored["batch"], stored["classes"], tuple(stored["positions"]))

    def as_dict(self) -> dict[str, Any]:
        """Return them as plain JSON data."""
        return {"batch": self.batch, "classes": self.classes, "positions": list(self.positions)}


def batch_axis(model: Model, names: AxisNames, value: str) -> int | None:
    """Return the axis of a value that holds the images; ``None`` where the graph does not tell.

    It is the input's batch, followed through the graph; else the axis that has the name of the input's; else
    the first, if it has the size that the batch has. An axis that images and positions share holds no images.
    """
    types = model.type_of(value)
    shape, where = types.shape or (), names.values.get(value)
    if where is not None:
        holds = [k for k, axis in enumerate(where) if BATCH in axis]
        alone = [k for k in holds if where[k] == {BATCH}]
        if len(alone) == 1:
            return alone[0]
        if not holds or any(where[k] != {BATCH} and shape[k] is None for k in holds):
            return None
    symbols = {t.symbols[0] for t in map(model.type_of, model.inputs) if t.symbols and t.symbols[0]}
    named = [k for k, symbol in enumerate(types.symbols) if symbol in symbols]
    if len(named) == 1:
        return named[0]
    fits = bool(shape) and (shape[0] == model.batch or (shape[0] == 1 and model.batch is None))
    return 0 if fits else None


def has_no_images(model: Model, names: AxisNames, value: str) -> bool:
    """Tell whether a value has no axis for the images, as the model takes one at a time."""
    where = names.values.get(value)
    return model.batch == 1 and where is not None and not any(BATCH in axis for axis in where)


def has_one_channel(names: AxisNames, where: Names, batch: int | None) -> bool:
    """Tell whether a value is a map, or a row, whose only channel has no axis: all others are positions.

    Parameters
    ----------
    names
        What runs along the axes of the model's values.
    where
        What runs along the value's.
    batch
        The axis of its images, if it has one.
    """
    others = [axis for k, axis in enumerate(where) if k != batch]
    filtered = tuple(f"{value}[" for value in names.channels)
    return bool(others) and all(
        len(axis) == 1 and not axis & names.own and next(iter(axis)).startswith(filtered) for axis in others
    )


def class_axis(
    tail: Tail, shape: Shape, where: Names, batch: int | None, own: AbstractSet[str] = NOTHING
) -> int | None:
    """Return the axis of scores that holds the classes; ``None`` where the graph does not tell.

    It is the one that a softmax or an ArgMax of the tail compares along, unless that finds a place in the
    whole map of each channel; else the one that the channels of a filter became, with no position of the
    input in it; of two such beside positions, which are the anchors and the fields of their boxes, the
    longer one; else the only one that is left, or that the input's channels became.

    Parameters
    ----------
    tail
        The output's tail.
    shape, where
        The scores' shape, and what runs along their axes.
    batch
        The axis of their images, if they have one.
    own
        The names of the inputs' channels, which a filter's may be added to, or multiplied by.
    """
    where = tuple(axis - own if CHANNEL in axis else axis for axis in where)
    rest = [k for k in range(len(shape)) if k != batch]
    filtered = [k for k in rest if where[k] == {CHANNEL}]
    if tail.compares in rest and not (len(filtered) == 1 and is_map(where[tail.compares])):
        return tail.compares
    wide = [k for k in rest if shape[k] != 1]
    placeless = [k for k in rest if not where[k] - {CHANNEL, BATCH}]
    made = [k for k in placeless if CHANNEL in where[k]]
    # Where no filter made channels, the input's own are followed.
    carried = [k for k in rest if where[k] and all(name.endswith("[1]") for name in where[k])]
    # In a map of one channel the channel's axis, of size 1, has no name; those of the positions keep theirs.
    bare = len(placeless) == 1 and not where[placeless[0]] and not carried
    alone = [k for k in wide if not (bare and where[k] - {CHANNEL, BATCH})]
    anchors = [k for k in made if shape[k] != max(shape[j] or 0 for j in made)]
    if len(made) == len(anchors) + 1 == _ANCHORED and any(where[k] - {CHANNEL, BATCH} for k in rest):
        made = [k for k in made if k not in anchors]
    for found in (made, alone, placeless, [] if made else carried):
        if len(found) == 1:
            return found[0]
    return rest[0] if not wide and rest else None


def dense_axis(model: Model, value: str) -> int | None:
    """Return the axis of a value along which the numbers lie that a dense layer makes for each position.

    After it nothing but shifts, factors, copies and picks may come, or a join, of which each part may be
    squashed; ``None`` where something else does. The parts of which nothing tells may be anything.
    """
    while (node := model.producers.get(value)) is not None:
        traits, last = traits_of(node), len(model.type_of(value).shape or ()) - 1
        given = [v.name for v in node.inputs if v.name and v.name not in model.constants]
        if FILTER in traits and CONVOLUTION not in traits:
            weights_last = given == [node.inputs[0].name]
            return (last if weights_last else last - 1) if len(given) == 1 and last > 1 else None
        if JOIN in traits:
            found = {dense_axis(model, _unsquashed(model, each)) for each in given} - {None}
            return found.pop() if len(found) == 1 else None
        scales = AFFINE in traits or (POINTWISE in traits and traits & {QUANTISER, VIEW})
        if not (scales and len(given) == 1) and PICK not in traits:
            return None
        value = node.inputs[0].name if PICK in traits else given[0]
        if len(model.type_of(value).shape or ()) - 1 != last:
            return None
    return None


def _unsquashed(model: Model, value: str) -> str:
    """Return what a sigmoid was given, where one makes a value."""
    node = model.producers.get(value)
    return node.inputs[0].name if node is not None and traits_of(node) >= {PROBABILITY, POINTWISE} else value


def is_map(axis: AbstractSet[str]) -> bool:
    """Tell whether an axis holds positions along several axes of an image, and nothing else."""
    return not axis & {BATCH, CHANNEL} and _most_of_one_input(axis) > 1


def is_line(axis: AbstractSet[str]) -> bool:
    """Tell whether an axis holds positions along one axis of the image, and nothing else.

    The same axis of several inputs, as the time of two signals, is one.
    """
    return not axis & {BATCH, CHANNEL} and _most_of_one_input(axis) == 1


def _most_of_one_input(axis: AbstractSet[str]) -> int:
    return max(Counter(name.rpartition("[")[0] for name in axis).values(), default=0)
