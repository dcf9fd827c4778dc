"""The probability that a class is somewhere in an image, as far as a model tells it."""

from typing import NamedTuple

import numpy as np

from onnx_deconv.model.detections import Fields
from onnx_deconv.model.head import Head

EVEN = 0.5
"""Below this probability a class is more likely not there than there."""
_MOST = 500
"""The largest score, either way, whose exponential is computed."""


class Chance(NamedTuple):
    """Whether a class is somewhere in an image.

    Attributes
    ----------
    probability
        In its best box, or at the best position of its map; ``None`` where the model gives none.
    absent
        Whether it is more likely nowhere.
    """

    probability: float | None = None
    absent: bool = False


def in_a_map(head: Head, score: float) -> Chance:
    """Tell whether a class is in its map, given the score that it has at its best position, or has alone.

    Among classes that a softmax compares the strongest may well have less than one half.
    """
    falls = any(sign < 0 for _, sign in head.elements or ())
    compared = head.rivals and head.squash == "together"
    if head.ranked is not None or falls or not (compared or head.squash == "each"):
        return Chance()
    probability = _logistic(score)
    return Chance(probability, head.squash == "each" and probability < EVEN)


def in_a_box(head: Head, fields: Fields, score: float) -> Chance:
    """Tell whether a class is in a box, given its score there.

    A score that no sigmoid in the graph makes a probability, but that is below 0, is one before a sigmoid.
    """
    if fields.probable or fields.exclusive or (fields.raw and fields.objectness is not None):
        return Chance(score, score < EVEN) if 0 <= score <= 1 else Chance()
    if fields.raw and head.squash == "each":
        return Chance(_logistic(score), score < 0)
    return Chance(None, score < 0)


def _logistic(score: float) -> float:
    """Return the probability that a score before a sigmoid, or the logarithm of odds, stands for."""
    return float(1 / (1 + np.exp(-np.clip(score, -_MOST, _MOST))))
