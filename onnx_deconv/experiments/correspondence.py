"""Correspondence analysis: whether hiding the same part of different objects changes features alike.

Zeiler & Fergus 2013, section 4.3, table 1 and figure 8.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np

from onnx_deconv.attribution.explainer import Explainer
from onnx_deconv.attribution.features import Features
from onnx_deconv.errors import InputError
from onnx_deconv.experiments.common import Watch, default_layers
from onnx_deconv.experiments.hiding import Fill, fill_values, image_size, with_boxes_hidden
from onnx_deconv.imaging import Preprocess, preprocess_for
from onnx_deconv.model import Array

RANDOM = "random"
"""The name, beside those of the parts, of boxes at random places."""

_DRAWS = 10


@dataclass(frozen=True)
class Correspondence:
    """How alike the features of N images change when a part is hidden in all of them.

    The change of image i at layer l is ε_i = x_i - x̃_i, of the features without and with the part
    hidden; H is the Hamming distance of two vectors of signs (-1, 0, 1).

    Attributes
    ----------
    layers, parts
        What was compared; the last part is ``random``: boxes of the parts' sizes at random places.
    distances
        By layer and part: H(sign ε_i, sign ε_j) divided by the number of features, one for each pair
        i < j of images, shape (pairs,); for ``random`` those of all draws, one after another.
    features
        By layer: the number of features.
    boxes
        By part: (top, left, bottom, right) in pixels of the model's input, shape (N, 4); for
        ``random`` of all draws, shape (draws, N, 4).
    """

    layers: tuple[str, ...]
    parts: tuple[str, ...]
    distances: Mapping[str, Mapping[str, Array]] = field(repr=False)
    features: Mapping[str, int]
    boxes: Mapping[str, Array] = field(repr=False)

    def mean(self, layer: str, part: str) -> float:
        """Return the mean fraction of signs that differ, over the pairs (table 1)."""
        return float(self.distances[layer][part].mean())

    def std(self, layer: str, part: str) -> float:
        """Return the standard deviation over the pairs (table 1)."""
        return float(self.distances[layer][part].std())

    def delta(self, layer: str, part: str) -> float:
        """Return Δ_l, the sum of H(sign ε_i, sign ε_j) over all ordered pairs i ≠ j (section 4.3).

        For ``random`` it is the mean over all draws. The lower, the more alike the changes are.
        """
        draws = len(self.boxes[part]) if part == RANDOM else 1
        return float(2 * self.distances[layer][part].sum() * self.features[layer] / draws)


def correspondence(
    explainer: Explainer,
    images: Array,
    parts: Mapping[str, Array],
    *,
    within: Array | None = None,
    layers: Sequence[str] | None = None,
    draws: int = _DRAWS,
    rng: np.random.Generator | None = None,
    fill: Fill = "grey",
    preprocess: Preprocess | None = None,
    watch: Watch = iter,
) -> Correspondence:
    """Hide parts and compare how features change, over images (Zeiler & Fergus 2013, section 4.3).

    Parameters
    ----------
    explainer
        An explainer for the model; only the model itself runs, without switches.
    images
        As the model takes them, shape (N, ...), N ≥ 2: objects of one kind.
    parts
        By name: where the part is in each image, shape (N, 4): top, left, bottom, right in pixels.
    within
        The box of each image that random boxes stay in, shape (N, 4); by default the whole image.
    layers
        Values or nodes; by default the first and the last convolution, rectified, and the scores.
    draws
        How many sets of random boxes are drawn; they have the sizes of each part in turn.
    rng
        The random generator for their places; by default one with a fixed seed.
    fill, preprocess, watch
        As for :func:`onnx_deconv.experiments.occlusion.occlusion`.

    Raises
    ------
    InputError
        If there are fewer than two images or no parts, or boxes do not fit the images.
    UnknownLayerError
        If there is no such layer.
    """
    preprocess = preprocess or preprocess_for(explainer.model)[0]
    _check(images, parts, draws)
    whole = np.tile([0, 0, *image_size(images[0], preprocess.layout)], (len(images), 1))
    checked = {name: _cut_to_image(name, boxes, whole) for name, boxes in parts.items()}
    random = _random_boxes(list(checked.values()), whole if within is None else within, draws, rng)
    network = Features(explainer, default_layers(explainer) if layers is None else layers)
    before, colour = network(images), fill_values(fill, preprocess, images[0])

    def distances_of(boxes: Array) -> dict[str, Array]:
        hidden = [
            with_boxes_hidden(image, box[None], colour, preprocess.layout)
            for image, box in zip(images, boxes, strict=True)
        ]
        after = network(np.concatenate(hidden)).features
        return {name: sign_distances(before.features[name] - after[name]) for name in network.layers}

    found = [distances_of(boxes) for boxes in watch([*checked.values(), *random])]
    distances = {
        layer: {name: one[layer] for name, one in zip(checked, found, strict=False)}
        | {RANDOM: np.concatenate([one[layer] for one in found[len(checked) :]])}
        for layer in network.layers
    }
    features = {name: int(np.prod(before.features[name].shape[1:])) for name in network.layers}
    names = (*checked, RANDOM)
    return Correspondence(tuple(network.layers), names, distances, features, {**checked, RANDOM: random})


def sign_distances(changes: Array) -> Array:
    """Compare the signs of changes for each pair of images.

    Parameters
    ----------
    changes
        One vector of changes ε per image, shape (N, ...).

    Returns
    -------
    numpy.ndarray
        H(sign ε_i, sign ε_j) / number of features for each pair i < j, shape (N(N-1)/2,), 0..1.
    """
    signs = np.sign(changes.reshape(len(changes), -1)).astype(np.int8)
    return np.array([(signs[i] != signs[j]).mean() for i, j in combinations(range(len(signs)), 2)])


def _check(images: Array, parts: Mapping[str, Array], draws: int) -> None:
    if len(images) < 2 or not parts or draws < 1:  # noqa: PLR2004 - a pair
        raise InputError("a correspondence needs two images or more, a part hidden in each, and a draw")
    if RANDOM in parts:
        raise InputError(
            f"a part cannot be named {RANDOM!r}, which is what parts are compared with: rename it"
        )


def _cut_to_image(name: str, boxes: Array, whole: Array) -> Array:
    boxes = np.asarray(boxes, np.int64)
    if boxes.shape != whole.shape:
        raise InputError(f"part {name!r}: boxes of shape {boxes.shape}, not one of four edges for each image")
    cut = np.clip(boxes, whole[:, [0, 1, 0, 1]], whole[:, [2, 3, 2, 3]])
    empty = np.flatnonzero((cut[:, 2:] <= cut[:, :2]).any(axis=1))
    if len(empty):
        raise InputError(f"part {name!r} of image {empty[0]} hides nothing of what the model sees")
    return cut


def _random_boxes(
    parts: Sequence[Array], within: Array, draws: int, rng: np.random.Generator | None
) -> Array:
    """Draw boxes of the parts' sizes, each anywhere within its image's bounds (or covering them)."""
    rng = rng or np.random.default_rng(0)
    within = np.asarray(within, np.int64)
    drawn = []
    for draw in range(draws):
        boxes = parts[draw % len(parts)]
        sizes = boxes[:, 2:] - boxes[:, :2]
        room = np.maximum(within[:, 2:] - within[:, :2] - sizes, 0)
        starts = within[:, :2] + rng.integers(0, room, endpoint=True)
        drawn.append(np.concatenate([starts, starts + sizes], axis=1))
    return np.stack(drawn)
