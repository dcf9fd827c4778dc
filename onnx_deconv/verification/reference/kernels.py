"""How much a position between two pixels takes from each pixel near it, by their distance."""

from collections.abc import Callable

import numpy as np

from onnx_deconv.verification.reference.graph import Array

Kernel = Callable[[Array], Array]


def linear(distance: Array) -> Array:
    """1 - |d| up to 1."""
    return np.maximum(0.0, 1.0 - np.abs(distance))


def linear_slope(distance: Array) -> Array:
    """Return the derivative of :func:`linear`: at a pixel, that towards the next one."""
    return np.where(np.abs(distance) <= 1, np.where(distance >= 0, -1.0, 1.0), 0.0)


def cubic(distance: Array, a: float = -0.75) -> Array:
    """(a+2)|d|³ - (a+3)|d|² + 1 up to 1, a|d|³ - 5a|d|² + 8a|d| - 4a up to 2 (Keys, 1981)."""
    d = np.abs(distance)
    near, far = (a + 2) * d**3 - (a + 3) * d**2 + 1, a * (d**3 - 5 * d**2 + 8 * d - 4)
    return np.where(d <= 1, near, np.where(d < 2, far, 0.0))  # noqa: PLR2004


def cubic_slope(distance: Array, a: float = -0.75) -> Array:
    """Return the derivative of :func:`cubic`."""
    d = np.abs(distance)
    near, far = 3 * (a + 2) * d**2 - 2 * (a + 3) * d, a * (3 * d**2 - 10 * d + 8)
    return np.sign(distance) * np.where(d <= 1, near, np.where(d < 2, far, 0.0))  # noqa: PLR2004
