"""How alike two saliency maps are: correlations of their numbers, and of their ranks."""

import numpy as np

from onnx_deconv.model import Array

FLAT = 1e-9
"""A map whose standard deviation is below this fraction of its largest value has no pattern to compare."""


def pearson(one: Array, other: Array) -> float | None:
    """Correlate two maps pixel by pixel: 1 where one is the other up to scale and offset.

    Parameters
    ----------
    one, other
        Of the same shape.

    Returns
    -------
    float or None
        From -1 to 1; ``None`` where a map has the same value everywhere, as a blank one has.
    """
    x, y = _standardised(one), _standardised(other)
    return None if x is None or y is None else float(np.clip(x @ y, -1, 1))


def spearman(one: Array, other: Array) -> float | None:
    """Correlate the ranks of two maps' pixels: 1 where both put their pixels in the same order.

    The measure by which Adebayo et al. (2018, "Sanity Checks for Saliency Maps") and Ghorbani et al. (2019,
    "Interpretation of Neural Networks Is Fragile") compare maps. Parameters and result are those of
    :func:`pearson`.
    """
    return pearson(ranks(one), ranks(other))


def ranks(values: Array) -> Array:
    """Return the rank of each number, from 0; equal ones share the mean of their ranks. Shape (n,)."""
    _, which, counts = np.unique(values, return_inverse=True, return_counts=True)
    mean_ranks: Array = np.cumsum(counts) - (counts + 1) / 2
    return mean_ranks[which.ravel()]


def _standardised(values: Array) -> Array | None:
    """Return the numbers less their mean, with a Euclidean length of 1; ``None`` where all are equal."""
    flat = values.astype(np.float64).ravel()
    centred = flat - flat.mean()
    length = float(np.linalg.norm(centred))
    return centred / length if length > FLAT * np.abs(flat).max() * np.sqrt(flat.size) else None
