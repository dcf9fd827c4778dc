"""What the experiments share: the classes and layers that they follow, and how progress is reported."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from onnx_deconv.attribution.explainer import Explainer
from onnx_deconv.attribution.features import feature_layers
from onnx_deconv.attribution.target import is_sum
from onnx_deconv.errors import InputError
from onnx_deconv.model import Array

Watch = Callable[[Sequence[Any]], Iterable[Any]]
"""Yields the steps of a long computation one by one, and may report progress as it does; ``iter`` will do."""


def default_layers(explainer: Explainer) -> list[str]:
    """Name the first and the last convolution, rectified, and the scores."""
    layers = feature_layers(explainer)
    return list(dict.fromkeys([*layers[:1], *layers[-1:], explainer.scores_layer]))


def class_index(explainer: Explainer, chosen: int | str | None, ranks: Array) -> int:
    """Return the index of the class to follow in one image.

    Parameters
    ----------
    explainer
        Knows the labels.
    chosen
        A class by index or label; ``None`` for the strongest.
    ranks
        By what the image's classes are ranked, shape (K,).

    Raises
    ------
    InputError
        If there is no such class, it is a sum of classes, or none comes first.
    """
    if chosen is None and explainer.undecided is not None:
        raise InputError(explainer.undecided)
    try:
        index = int(ranks.argmax()) if chosen is None else explainer.labels.index(chosen)
    except InputError as error:
        if chosen is None or not is_sum(chosen):
            raise
        raise InputError(f"{chosen!r}: here one class is followed, no sum: name one class") from error
    if not 0 <= index < len(ranks):
        raise InputError(f"there is no class {index}: the model has 0 to {len(ranks) - 1}")
    return index
