"""Blurring by a Gaussian, on a grid of any size."""

import functools

import numpy as np

from onnx_deconv.model import Array

_REACH = 4
"""Standard deviations at which the Gaussian is cut off."""


def blurred(values: Array, sigma: float) -> Array:
    """Blur the last two axes by a Gaussian; beyond a border the values are mirrored.

    Parameters
    ----------
    values
        Shape (..., H, W).
    sigma
        Standard deviation of the Gaussian, in pixels; 0 changes nothing.

    Returns
    -------
    numpy.ndarray
        float32, of the same shape.
    """
    result = values.astype(np.float32)
    if not sigma > 0:
        return result
    height, width = result.shape[-2:]
    return np.asarray(_matrix(height, sigma) @ result @ _matrix(width, sigma).T)


@functools.cache
def _matrix(length: int, sigma: float) -> Array:
    """Return the blur of one axis as a matrix, shape (length, length)."""
    reach = max(1, round(_REACH * sigma))
    offsets = np.arange(-reach, reach + 1)
    weights = np.exp(-0.5 * (offsets / sigma) ** 2)
    places = np.arange(length)[:, None] + offsets
    period = 2 * length
    mirrored = np.minimum(places % period, period - 1 - places % period)
    matrix = np.zeros((length, length))
    np.add.at(matrix, (np.arange(length)[:, None], mirrored), weights / weights.sum())
    return matrix.astype(np.float32)
