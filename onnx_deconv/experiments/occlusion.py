"""Occlusion: how a model's answer changes while a grey square slides over a photograph.

Zeiler & Fergus 2013, section 4.2 and figure 7: where hiding a place lowers the score of the right class,
and the activation of the strongest feature map with it, is what the model recognised.
"""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from onnx_deconv.attribution.batches import as_array
from onnx_deconv.attribution.explainer import Explainer
from onnx_deconv.attribution.features import Features, Values, last_convolution
from onnx_deconv.experiments.common import Watch, class_index
from onnx_deconv.experiments.hiding import Fill, fill_values, image_size, square_grid, with_boxes_hidden
from onnx_deconv.imaging import Preprocess, preprocess_for
from onnx_deconv.model import Array, Model, Source

_SQUARES_PER_SIDE = 7
"""By default the square's side is this fraction of the image's shorter side."""
_STEPS_PER_SQUARE = 4
"""By default the square moves by this fraction of its side."""
_BATCH = 16


@dataclass(frozen=True)
class Occlusion:
    """How an image's scores and activations change under a square that hides a part of it.

    Every map has shape (R, C): the value at (r, c) was measured with the square centred on the
    stride×stride pixels of the model's input that begin at (r·stride, c·stride). So a map enlarged
    `stride` times covers the input (and a little more below and to the right where the stride does not
    divide the input's size).

    Attributes
    ----------
    size, stride
        Side of the square and distance between its places, in pixels of the input.
    boxes
        The square's places, shape (R, C, 4): top, left, bottom, right in pixels, cut at the borders.
    fill
        The numbers that the square is filled with, one per channel of the input.
    target, label
        The class that is followed, and its name.
    score, scores
        The class's score without the square, and with it, shape (R, C).
    probability, probabilities
        The same after the model's softmax or sigmoid; ``None`` where it has none.
    prediction, predictions
        The class with the highest score without the square, and with it, shape (R, C).
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
    prediction: int
    predictions: Array = field(repr=False)
    layer: str
    channel: int
    activation: float
    activations: Array = field(repr=False)

    @property
    def probability_or_score(self) -> float:
        """The class's probability without the square; its score where the model gives no probabilities."""
        return self.score if self.probability is None else self.probability

    @property
    def probabilities_or_scores(self) -> Array:
        """The same with the square, shape (R, C)."""
        return self.scores if self.probabilities is None else self.probabilities


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
    """Slide a square over one image and measure scores and activations (Zeiler & Fergus 2013, section 4.2).

    Parameters
    ----------
    explainer
        An explainer for the model, or what :class:`~onnx_deconv.attribution.explainer.Explainer` takes as
        one. Only the model itself runs, without switches.
    image
        One image as the model takes it, shape (C, H, W) or (H, W, C).
    size
        Side of the square in pixels; by default a seventh of the image's shorter side (32 of 224).
    stride
        Pixels from place to place; by default a quarter of `size`.
    fill
        See :data:`~onnx_deconv.experiments.hiding.Fill`.
    target
        The class to follow, by index or label; by default the one with the highest score.
    layer
        The layer whose strongest feature map is followed; by default the last convolution below the class
        maps, rectified.
    batch
        How many places at once; a model with a fixed batch size takes that many.
    preprocess
        How pictures became the model's input: its layout, and the numbers that are grey. By default as
        :func:`~onnx_deconv.imaging.preprocess_for` decides.
    watch
        See :data:`~onnx_deconv.experiments.common.Watch`.

    Raises
    ------
    InputError
        If the image, the class, the fill, the size or the stride does not fit.
    UnknownLayerError
        If there is no such layer.
    """
    explainer = explainer if isinstance(explainer, Explainer) else Explainer(explainer)
    preprocess = preprocess or preprocess_for(explainer.model)[0]
    image = as_array("image", image)
    shorter = min(extent := image_size(image, preprocess.layout))
    size = max(1, shorter // _SQUARES_PER_SIDE) if size is None else size
    stride = max(1, size // _STEPS_PER_SQUARE) if stride is None else stride
    boxes = square_grid(extent, size, stride)
    network = Features(explainer, [layer or last_convolution(explainer)])
    values = network(image[None])
    colour = fill_values(fill, preprocess, image)
    follow = _Follow.of(explainer, network.layers[0], values, target)
    places, step = boxes.reshape(-1, 4), max(1, batch)
    found = [
        follow.read(network(with_boxes_hidden(image, some, colour, preprocess.layout)))
        for some in watch([places[k : k + step] for k in range(0, len(places), step)])
    ]
    before = [reading[0] for reading in follow.read(values)]
    maps = [np.concatenate(readings).reshape(boxes.shape[:2]) for readings in zip(*found, strict=True)]
    known = values.probabilities is not None
    return Occlusion(
        size, stride, boxes, colour.ravel(), follow.target, explainer.labels.name(follow.target),
        float(before[0]), maps[0], float(before[1]) if known else None, maps[1] if known else None,
        int(before[2]), maps[2], follow.layer, follow.channel, float(before[3]), maps[3],
    )  # fmt: skip


@dataclass(frozen=True)
class _Follow:
    """What is read off each run: one class, the strongest class, one feature map's sum."""

    target: int
    layer: str
    channel: int

    @classmethod
    def of(cls, explainer: Explainer, layer: str, values: Values, target: int | str | None) -> "_Follow":
        index = class_index(explainer, target, values.ranks[0])
        totals = _sums(values.features[layer][0])
        return cls(index, layer, int(totals.argmax()))

    def read(self, values: Values) -> tuple[Array, Array, Array, Array]:
        """Return each image's score, probability if any, strongest class and total activation."""
        return (
            values.scores[:, self.target],
            values.probabilities_or_scores[:, self.target],
            values.ranks.argmax(axis=1),
            _sums(values.features[self.layer][:, self.channel]),
        )


def _sums(maps: Array) -> Array:
    """Sum each map over its positions."""
    return maps.reshape(len(maps), -1).sum(axis=1)
