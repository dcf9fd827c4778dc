"""What becomes of signals that meet: they add up."""

import math

import numpy as np

from onnx_deconv.verification.reference.graph import Array, Positions


def shrink(signal: Array, shape: tuple[int, ...]) -> Array:
    """Undo broadcasting: what was copied gets the sum of its copies' signals."""
    signal = signal.sum(tuple(range(signal.ndim - len(shape))))
    stretched = tuple(a for a, size in enumerate(shape) if size == 1 and signal.shape[a] != 1)
    shrunk: Array = signal.sum(stretched, keepdims=True)
    return shrunk


def inverse(x: Array) -> Array:
    """Return 1/x, and 0 for 0: nothing comes from where a slope is infinite."""
    return np.where(x == 0, 0.0, 1.0 / np.where(x == 0, 1.0, x))


def return_to(places: Positions, signal: Array, shape: tuple[int, ...]) -> Array:
    """Send each signal to the flat position it belongs to, -1 being none; what meets adds up."""
    real = places >= 0
    summed = np.bincount(places[real], weights=signal[real], minlength=math.prod(shape))
    return summed.astype(np.float64).reshape(shape)
