"""Numbers along axes: which ones, and how they are written."""

import math

import numpy as np

_MOST = 6


def ticks(low: float, high: float) -> list[float]:
    """Choose round numbers, evenly spaced, that enclose a range; at most six of them are inside it."""
    if not high > low:
        high = low + (abs(low) or 1.0)
    raw = (high - low) / (_MOST - 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = power * next(f for f in (1, 2, 3, 5, 10) if power * f >= raw * (1 - 1e-9))
    if step == 3 * power and power < 10:  # thirds suit angles alone  # noqa: PLR2004
        step = 5 * power
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [k * step for k in range(first, last + 1)]


_PLAIN = 1e6
"""Numbers up to this one, and down to its inverse, are written without an exponent."""


def number(value: float) -> str:
    """Write a number in three digits, with an exponent only where it is very large or small."""
    if not 1 / _PLAIN < abs(value) < _PLAIN:
        return f"{value:.3g}"
    return np.format_float_positional(value, precision=3, fractional=False, trim="-")
