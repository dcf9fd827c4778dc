"""Occlusion: what a model thinks of a photograph while a grey square hides one part after another.

Zeiler & Fergus 2013, section 4.2 and figure 7: where the score of the right class falls, and where the
strongest feature map falls silent with it, there lies what the model recognised.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from onnx_deconv.attribution.explainer import Explainer
from onnx_deconv.attribution.features import Features, Values, last_convolution
from onnx_deconv.attribution.photographs import preprocess_for
from onnx_deconv.errors import InputError
from onnx_deconv.imaging import Layout, Preprocess
from onnx_deconv.model import Array, Model, Source

Fill = Literal["grey"] | float | Sequence[float]
"""``grey``: mid-grey, 128 of 255, as the model's preprocessing makes it a number; or that number itself,
one for all channels or one for each."""
Watch = Callable[[Sequence[Any]], Iterable[Any]]
"""Passes the steps of long work on, one by one, and shows how far it is."""

_PARTS = 7
_STEPS = 4
_BATCH = 16
_MID_GREY = 128


@dataclass(frozen=True)
class Occlusion:
    """How a photograph's scores and activations change under a square that hides a part of it.

    Every map has shape (R, C): the value at (r, c) was found with the square centred on the stride×stride
    pixels of the model's input from (r·stride, c·stride) on, so that a map enlarged `stride` times lies
    on the input (and sticks out below and to the right where the stride does not divide its size).

    Attributes
    ----------
    size, stride
        Side of the square and distance between its places, in pixels of the input.
    boxes
        The places, shape (R, C, 4): top, left, bottom, right in pixels, cut at the borders.
    fill
        What the square is filled with, as the input's numbers, one per channel.
    target, label
        The class that is followed, and its name.
    score, scores
        Its score without the square, and with it, shape (R, C).
    probability, probabilities
        The same behind the model's softmax or sigmoid; ``None`` where it has none.
    top, classes
        The most probable class without the square, and with it, shape (R, C).
    layer, channel
        The feature map with the largest total activation without the square.
    activation, activations
        That total, the sum over the map's positions, without the square, and with it, shape (R, C).
    """

    size: int
    stride: int
    boxes: npt.NDArray[np.int64] = field(repr=False)
    fill: Array = field(repr=False)
    target: int
    label: str | None
    score: float
    scores: Array = field(repr=False)
    probability: float | None
    probabilities: Array | None = field(repr=False)
    top: int
    classes: Array = field(repr=False)
    layer: str
    channel: int
    activation: float
    activations: Array = field(repr=False)

    @property
    def shown(self) -> tuple[float, Array]:
        """The class's probability without the square and with it; its score where there is none."""
        if self.probability is None or self.probabilities is None:
            return self.score, self.scores
        return self.probability, self.probabilities


def occlusion(
    explainer: Explainer | Source | Model,
    image: Array,
    *,
    size: int | None = None,
    stride: int | None = None,
    fill: Fill = "grey",
    target: int | str | None = None,
    layer: str | None = None,
    batch: int = _BATCH,
    preprocess: Preprocess | None = None,
    watch: Watch = iter,
) -> Occlusion:
    """Slide a square over one image (Zeiler & Fergus 2013, section 4.2).

    Parameters
    ----------
    explainer
        For the model, or what :class:`~onnx_deconv.attribution.explainer.Explainer` takes as one. The plain
        model runs, without switches.
    image
        One image as the model takes it, shape (C, H, W) or (H, W, C).
    size
        Side of the square in pixels; by default a seventh of the image's shorter side (32 of 224).
    stride
        Pixels from place to place; by default a quarter of `size`.
    fill
        See :data:`Fill`.
    target
        The class to follow, by index or label; by default the most probable one.
    layer
        Whose strongest feature map is followed; by default the last convolution below the class maps,
        rectified.
    batch
        How many places at once; a model of a fixed batch size takes that.
    preprocess
        How pictures became the model's input: its layout, and what grey is. By default as
        :func:`~onnx_deconv.attribution.photographs.preprocess_for` decides.
    watch
        See :data:`Watch`.

    Raises
    ------
    InputError
        If the image, the class, the fill, the size or the stride does not fit.
    UnknownLayerError
        If there is no such layer.
    """
    explainer = explainer if isinstance(explainer, Explainer) else Explainer(explainer)
    preprocess = preprocess or preprocess_for(explainer.model)[0]
    extent = _extent(image, preprocess.layout)
    size = max(1, min(extent) // _PARTS) if size is None else size
    stride = max(1, size // _STEPS) if stride is None else stride
    places = boxes(extent, size, stride)
    network = Features(explainer, [layer or last_convolution(explainer)])
    values = network(image[None])
    colour = filling(fill, preprocess, image)
    follow = _Follow.of(explainer, network.layers[0], values, target)
    flat = places.reshape(-1, 4)
    found = [
        follow.read(network(occluded(image, part, colour, preprocess.layout)))
        for part in watch([flat[k : k + max(1, batch)] for k in range(0, len(flat), max(1, batch))])
    ]
    before = follow.read(values)

    def mapped(what: int) -> Array:
        return np.concatenate([reading[what] for reading in found]).reshape(places.shape[:2])

    told = values.probabilities is not None
    return Occlusion(
        size, stride, places, colour.ravel(), follow.target, explainer.labels.name(follow.target),
        float(before[0][0]), mapped(0), float(before[1][0]) if told else None, mapped(1) if told else None,
        int(before[2][0]), mapped(2), follow.layer, follow.channel, float(before[3][0]), mapped(3),
    )  # fmt: skip


@dataclass(frozen=True)
class _Follow:
    """What is read off each run: one class, the most probable class, one feature map's sum."""

    target: int
    layer: str
    channel: int

    @classmethod
    def of(cls, explainer: Explainer, layer: str, values: Values, target: int | str | None) -> "_Follow":
        index = int(values.scores[0].argmax()) if target is None else explainer.labels.index(target)
        count = values.scores.shape[1]
        if not 0 <= index < count:
            raise InputError(f"there is no class {index}: the model has 0 to {count - 1}")
        totals = values.of[layer][0].reshape(values.of[layer].shape[1], -1).sum(axis=1)
        return cls(index, layer, int(totals.argmax()))

    def read(self, values: Values) -> tuple[Array, Array, Array, Array]:
        """Return each image's score, probability if any, most probable class and total activation."""
        feature_map = values.of[self.layer][:, self.channel]
        return (
            values.scores[:, self.target],
            values.shown[:, self.target],
            values.scores.argmax(axis=1),
            feature_map.reshape(len(feature_map), -1).sum(axis=1),
        )


def boxes(extent: tuple[int, int], size: int, stride: int) -> npt.NDArray[np.int64]:
    """Place squares so that each stride×stride piece of an image has one centred on it.

    Parameters
    ----------
    extent
        (height, width) of the image.
    size, stride
        Of the squares and between them. Where the two differ by an odd number the centre is half a
        pixel up and left.

    Returns
    -------
    numpy.ndarray
        Shape (R, C, 4): top, left, bottom, right, cut at the image's borders; R = ⌈height / stride⌉.

    Raises
    ------
    InputError
        If size or stride is not positive, or the square hides the whole image.
    """
    if size < 1 or stride < 1:
        raise InputError(f"a square of {size} pixels in steps of {stride}: give numbers of at least 1")
    if size >= 2 * max(extent):
        raise InputError(f"a square of {size} pixels hides all of an image of {extent[0]}×{extent[1]}")
    (tops, bottoms), (lefts, rights) = (_spans(length, size, stride) for length in extent)
    grid = np.empty((len(tops), len(lefts), 4), np.int64)
    grid[..., 0], grid[..., 2] = tops[:, None], bottoms[:, None]
    grid[..., 1], grid[..., 3] = lefts, rights
    return grid


def _spans(length: int, size: int, stride: int) -> tuple[Array, Array]:
    starts = np.arange(0, length, stride) + (stride - size) // 2
    return np.clip(starts, 0, length), np.clip(starts + size, 0, length)


def occluded(image: Array, boxes: Array, fill: Array, layout: Layout) -> Array:
    """Copy an image once per box and fill the boxes.

    Parameters
    ----------
    image
        One image as the model takes it.
    boxes
        Shape (N, 4): top, left, bottom, right in pixels.
    fill
        What :func:`filling` returns.
    layout
        Of the image's axes.

    Returns
    -------
    numpy.ndarray
        Shape (N, ...), of the image's type.
    """
    copies = np.repeat(image[None], len(boxes), axis=0)
    for copy, (top, left, bottom, right) in zip(copies, boxes, strict=True):
        where = (slice(top, bottom), slice(left, right))
        copy[(slice(None), *where) if layout == "NCHW" else where] = fill
    return copies


def filling(fill: Fill, preprocess: Preprocess, image: Array) -> Array:
    """Make the square's filling one number per channel, shaped so that it spreads over a box.

    Raises
    ------
    InputError
        If it is no number, or not one per channel.
    """
    shape = (-1, 1, 1) if preprocess.layout == "NCHW" else (1, 1, -1)
    channels = image.shape[0 if preprocess.layout == "NCHW" else -1]
    if isinstance(fill, str):
        if fill != "grey":
            raise InputError(f"fill is {fill!r}: write grey, or a number, or one for each channel")
        numbers = preprocess.normalise(np.full((1, 1, 3), _MID_GREY, np.uint8)).ravel()
    else:
        numbers = np.atleast_1d(np.asarray(fill, np.float64))
    if numbers.shape not in ((1,), (channels,)) or not np.isfinite(numbers).all():
        raise InputError(f"fill {fill!r} has {numbers.size} numbers: give one, or {channels} finite ones")
    return np.broadcast_to(numbers, channels).astype(image.dtype).reshape(shape)


def _extent(image: Array, layout: Layout) -> tuple[int, int]:
    if image.ndim != len("CHW"):
        raise InputError(f"an array of shape {image.shape} is no image: give one, without a batch axis")
    height, width = image.shape[1:] if layout == "NCHW" else image.shape[:2]
    return height, width
