"""Feature invariance: how much a layer's features change as a picture is shifted, scaled or rotated.

Zeiler & Fergus 2013, section 4, "Feature invariance", and figure 5: small transformations change the
first layer's features dramatically and the last layer's less; the output is stable to shifts and
scalings, but in general not to rotations.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np

from onnx_deconv.attribution.explainer import Explainer
from onnx_deconv.attribution.features import Features, Values
from onnx_deconv.errors import InputError
from onnx_deconv.experiments.common import Watch, class_index, default_layers
from onnx_deconv.imaging import Picture, Preprocess, moved
from onnx_deconv.model import Array

TRANSFORMS: Mapping[str, Callable[[Picture, float], Picture]] = MappingProxyType(
    {
        "shift": lambda picture, amount: moved(picture, down=amount * picture.shape[0]),
        "scale": lambda picture, amount: moved(picture, scale=amount),
        "rotation": lambda picture, amount: moved(picture, angle=amount),
    }
)
"""By name: shift down by a fraction of the height; scale by a factor about the centre; rotate by degrees,
anticlockwise. Each takes a picture and the amount."""


@dataclass(frozen=True)
class Invariance:
    """What a transformation does to the features and the scores of N images.

    Attributes
    ----------
    amounts
        The amounts that the images were transformed by, shape (A,).
    distances
        By layer: the Euclidean distance of each transformed image's features to those of the image
        itself, shape (N, A).
    norms
        By layer: the Euclidean norm of the untransformed image's features, shape (N,). Divide the
        distances by these to compare layers.
    targets
        The class that is followed for each image, shape (N,).
    scores
        Its probability (its score where the model gives no probabilities), shape (N, A).
    predictions
        The class with the highest score, shape (N, A).
    """

    amounts: Array
    distances: Mapping[str, Array] = field(repr=False)
    norms: Mapping[str, Array] = field(repr=False)
    targets: Array
    scores: Array = field(repr=False)
    predictions: Array = field(repr=False)


def invariance(
    explainer: Explainer,
    images: Array,
    transformed: Callable[[float], Array],
    amounts: Sequence[float],
    *,
    layers: Sequence[str] | None = None,
    targets: Sequence[int | str] | None = None,
    watch: Watch = iter,
) -> Invariance:
    """Measure how much a transformation of images changes features (Zeiler & Fergus 2013, figure 5).

    Parameters
    ----------
    explainer
        An explainer for the model; only the model itself runs, without switches.
    images
        The untransformed images as the model takes them, shape (N, ...).
    transformed
        A function that returns all N images transformed by an amount; :func:`transformation` makes one.
    amounts
        The amounts to transform by.
    layers
        Values or nodes; by default the first and the last convolution, rectified, and the scores.
    targets
        The true class of each image, by index or label; by default the one with the highest score of
        the untransformed image.
    watch
        See :data:`~onnx_deconv.experiments.common.Watch`.

    Raises
    ------
    InputError
        If the images, the classes or the amounts do not fit.
    UnknownLayerError
        If there is no such layer.
    """
    if not len(amounts):
        raise InputError("there are no amounts to transform by: give at least one")
    network = Features(explainer, default_layers(explainer) if layers is None else layers)
    before = network(images)
    chosen = _targets(explainer, before, targets)
    found = [_compared(network.layers, before, network(transformed(a)), chosen) for a in watch(amounts)]
    distances, scores, predictions = zip(*found, strict=True)
    return Invariance(
        np.asarray(amounts, np.float64),
        {layer: np.stack([d[layer] for d in distances], axis=1) for layer in network.layers},
        {layer: _norms(before.features[layer]) for layer in network.layers},
        chosen,
        np.stack(scores, axis=1),
        np.stack(predictions, axis=1),
    )


def transformation(kind: str, views: Sequence[Picture], preprocess: Preprocess) -> Callable[[float], Array]:
    """Make a function that transforms what the model sees of photographs; the surroundings are mid-grey.

    Parameters
    ----------
    kind
        One of :data:`TRANSFORMS`.
    views
        What the model sees of each photograph (:attr:`onnx_deconv.imaging.Photo.view`).
    preprocess
        How these become the model's input.

    Returns
    -------
    callable
        Takes an amount and returns the model's input, shape (N, ...): `transformed` of :func:`invariance`.

    Raises
    ------
    InputError
        If there is no such transformation.
    """
    if kind not in TRANSFORMS:
        raise InputError(f"there is no transformation {kind!r}: choose one of {', '.join(TRANSFORMS)}")
    transform = TRANSFORMS[kind]
    return lambda amount: np.stack([preprocess.normalise(transform(view, amount)) for view in views])


def _compared(
    layers: Sequence[str], before: Values, after: Values, targets: Array
) -> tuple[dict[str, Array], Array, Array]:
    distances = {layer: _norms(after.features[layer] - before.features[layer]) for layer in layers}
    return (
        distances,
        after.probabilities_or_scores[np.arange(len(targets)), targets],
        after.ranks.argmax(axis=1),
    )


def _norms(features: Array) -> Array:
    return np.linalg.norm(features.reshape(len(features), -1).astype(np.float64), axis=1)


def _targets(explainer: Explainer, values: Values, targets: Sequence[int | str] | None) -> Array:
    chosen = [None] * len(values.scores) if targets is None else targets
    if len(chosen) != len(values.scores):
        raise InputError(f"{len(chosen)} classes for {len(values.scores)} images: give one for each")
    pairs = zip(chosen, values.ranks, strict=True)
    return np.array([class_index(explainer, target, ranks) for target, ranks in pairs])
