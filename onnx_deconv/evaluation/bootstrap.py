"""How sure a mean over photographs is: confidence intervals by the bootstrap."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from onnx_deconv.model import Array

RESAMPLES, CONFIDENCE = 2000, 0.95
_AT_ONCE = 1 << 20
"""Numbers that are drawn at once."""


class Interval(NamedTuple):
    """A mean and its confidence interval, over `size` numbers."""

    mean: float
    low: float
    high: float
    size: int


def mean_interval(
    values: Sequence[float] | Array,
    random_state: int = 0,
    resamples: int = RESAMPLES,
    confidence: float = CONFIDENCE,
) -> Interval | None:
    """Estimate a mean and its confidence interval by the percentile bootstrap.

    Efron & Tibshirani 1993, "An Introduction to the Bootstrap", chapter 13.

    Parameters
    ----------
    values
        One number per photograph.
    random_state
        Seeds the random numbers: the same values always have the same interval.
    resamples
        How many samples, of the same size and with replacement, are drawn.
    confidence
        The share of their means that lies within the interval.

    Returns
    -------
    Interval or None
        ``None`` where there are no values.
    """
    numbers = np.asarray(values, np.float64)
    if not numbers.size:
        return None
    rng = np.random.default_rng(random_state)
    step = max(1, _AT_ONCE // numbers.size)
    sizes = [min(step, resamples - first) for first in range(0, resamples, step)]
    means = [numbers[rng.integers(numbers.size, size=(size, numbers.size))].mean(axis=1) for size in sizes]
    low, high = np.quantile(np.concatenate(means), [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(float(numbers.mean()), float(low), float(high), numbers.size)


def paired_difference(
    values: Sequence[float | None], others: Sequence[float | None], random_state: int = 0
) -> Interval | None:
    """Estimate by how much one method exceeds another on the same photographs.

    Photographs are drawn together with what both methods reached on them, so that what makes a
    photograph hard for both does not widen the interval.

    Parameters
    ----------
    values, others
        What each method reached, photograph by photograph; those that one of them has no value for are
        left out.
    random_state
        As for :func:`mean_interval`.

    Returns
    -------
    Interval or None
        Of the difference `values` - `others`; ``None`` where no photograph has both.
    """
    pairs = zip(values, others, strict=True)
    return mean_interval([a - b for a, b in pairs if a is not None and b is not None], random_state)
