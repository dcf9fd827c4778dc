"""Feature invariance: how far a layer's features move as a picture is shifted, scaled, rotated.

Zeiler & Fergus 2013, section 4, "Feature invariance", and figure 5: small transformations change the
first layer's features dramatically and the last layer's less; the output is stable to shifts and
scalings, but in general not to rotations.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np

from onnx_deconv.attribution.explainer import Explainer
from onnx_deconv.attribution.features import Features, Values, convolutions
from onnx_deconv.errors import InputError
from onnx_deconv.experiments.occlusion import Watch
from onnx_deconv.imaging import Picture, Preprocess, moved
from onnx_deconv.model import Array

TRANSFORMS: Mapping[str, Callable[[Picture, float], Picture]] = MappingProxyType(
    {
        "shift": lambda picture, amount: moved(picture, down=amount * picture.shape[0]),
        "scale": lambda picture, amount: moved(picture, scale=amount),
        "rotation": lambda picture, amount: moved(picture, angle=amount),
    }
)
"""Downwards by a fraction of the height; by a factor about the centre; by degrees, anticlockwise."""


@dataclass(frozen=True)
class Invariance:
    """What a transformation does to the features and the scores of N images.

    Attributes
    ----------
    amounts
        Of the transformation, shape (A,).
    distances
        By layer: the Euclidean distance of each transformed image's features to those of the image
        itself, shape (N, A).
    norms
        By layer: the Euclidean norm of the image's own features, shape (N,): what a distance may be
        divided by to compare layers.
    targets
        The class that is followed in each image, shape (N,).
    scores
        Its probability (its score where the model gives none), shape (N, A).
    classes
        The most probable class, shape (N, A).
    """

    amounts: Array
    distances: Mapping[str, Array] = field(repr=False)
    norms: Mapping[str, Array] = field(repr=False)
    targets: Array
    scores: Array = field(repr=False)
    classes: Array = field(repr=False)


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
        For the model; the plain model runs.
    images
        The untransformed ones as the model takes them, shape (N, ...).
    transformed
        Returns all N images transformed by an amount; :func:`transformation` makes one.
    amounts
        The amounts.
    layers
        By default the first and the last convolution, rectified, and the scores.
    targets
        The true class of each image, by index or label; by default the most probable one of the
        untransformed image.
    watch
        Shows how far it is.

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
    distances, scores, classes = zip(*found, strict=True)
    return Invariance(
        np.asarray(amounts, np.float64),
        {layer: np.stack([d[layer] for d in distances], axis=1) for layer in network.layers},
        {layer: _norms(before.of[layer]) for layer in network.layers},
        chosen,
        np.stack(scores, axis=1),
        np.stack(classes, axis=1),
    )


def default_layers(explainer: Explainer) -> list[str]:
    """Name the first and the last convolution, rectified, and the scores."""
    inside = convolutions(explainer)
    return list(dict.fromkeys([*inside[:1], *inside[-1:], explainer.scores_layer]))


def transformation(kind: str, views: Sequence[Picture], preprocess: Preprocess) -> Callable[[float], Array]:
    """Transform what the model sees of photographs; mid-grey comes in from outside.

    Parameters
    ----------
    kind
        One of :data:`TRANSFORMS`.
    views
        Of the model's input size (:meth:`onnx_deconv.imaging.Geometry.view`).
    preprocess
        How they become the model's input.

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
    distances = {layer: _norms(after.of[layer] - before.of[layer]) for layer in layers}
    return distances, after.shown[np.arange(len(targets)), targets], after.scores.argmax(axis=1)


def _norms(features: Array) -> Array:
    return np.linalg.norm(features.reshape(len(features), -1).astype(np.float64), axis=1)


def _targets(explainer: Explainer, values: Values, targets: Sequence[int | str] | None) -> Array:
    if targets is None:
        return values.scores.argmax(axis=1)
    if len(targets) != len(values.scores):
        raise InputError(f"{len(targets)} classes for {len(values.scores)} images: give one for each")
    chosen = np.array([explainer.labels.index(target) for target in targets])
    if not ((chosen >= 0) & (chosen < values.scores.shape[1])).all():
        raise InputError(f"there is no class {chosen.max()}: the model has 0 to {values.scores.shape[1] - 1}")
    return chosen
