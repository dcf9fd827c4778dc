"""The lattice that strided layers leave in a saliency map, and a saliency map without it.

The transpose of a layer whose stride does not divide its kernel reaches some pixels through more weights
than others, in a pattern that repeats with the stride (Odena, Dumoulin & Olah 2016, "Deconvolution and
Checkerboard Artifacts"). It is a property of the network, not of the photograph.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

_PERIODS = (2, 4, 8, 16, 32)
_STRONG = 0.25
"""The share of what is finer than a period that must repeat with it for the lattice to be called strong."""
_NEARLY = 0.8
"""The shortest period that explains this share of what the best one does is the lattice's."""
_VISIBLE = 0.1**2
"""The least power that a pattern must have, as a share of the power of what it lies over."""
_TINY = np.finfo(np.float64).tiny
_ACCIDENT = 3.0
"""How many times what noise explains on average a lattice has to explain beside."""


class Lattice(NamedTuple):
    """A pattern that repeats all over a map.

    Attributes
    ----------
    period
        In pixels of the model's input.
    share
        How much of what is finer than the period the pattern explains, less what it would by accident.
    """

    period: int
    share: float


def magnitude_of(values: npt.NDArray[Any]) -> tuple[npt.NDArray[np.float64], Lattice | None]:
    """Return the largest magnitude over the channels, C×H×W to H×W, averaged over its lattice if it has one.

    Returns
    -------
    tuple
        The magnitudes, and the lattice, or ``None``.
    """
    magnitude = np.abs(np.asarray(values, np.float64)).max(axis=0)
    found = lattice_of(magnitude)
    return (magnitude if found is None else smoothed(magnitude, found.period)), found


def lattice_of(magnitude: npt.NDArray[Any]) -> Lattice | None:
    """Find a strong lattice in the magnitudes of a reconstruction, H×W, not negative; else ``None``."""
    if not np.isfinite(magnitude).all():
        return None
    shares = {period: _share(magnitude, period) for period in _PERIODS}
    best = max(shares.values())
    if best < _STRONG:
        return None
    return next(Lattice(period, share) for period, share in shares.items() if share >= _NEARLY * best)


def smoothed(magnitude: npt.NDArray[Any], period: int) -> npt.NDArray[np.float64]:
    """Average a map over one period of its lattice, H×W; at the borders over what there is of it.

    Each mean covers every place of the pattern alike, so that nothing is left of it.
    """
    return _mean(_mean(np.asarray(magnitude, np.float64), period, 0), period, 1)


def _mean(values: npt.NDArray[np.float64], period: int, axis: int) -> npt.NDArray[np.float64]:
    """Average along an axis over `period` pixels around each; of an even number, the ends count half."""
    weights = np.ones(period + 1 - period % 2)
    if period % 2 == 0:
        weights[[0, -1]] = 0.5
    reach = len(weights) // 2
    # What is outside counts as the pixel one period further in, which is at the same place of the pattern.
    inside = np.arange(-reach, values.shape[axis] + reach)
    inside = np.where(inside < 0, inside + period, inside)
    inside = np.where(inside >= values.shape[axis], inside - period, inside)
    count = values.shape[axis]
    wide = np.moveaxis(np.take(values, np.clip(inside, 0, count - 1), axis), axis, 0)
    mean = np.zeros((count, *wide.shape[1:]))
    for k, weight in enumerate(weights / period):  # over all lines at once: this is on the way of every click
        mean += weight * wide[k : k + count]
    return np.moveaxis(mean, 0, axis)


def _share(magnitude: npt.NDArray[Any], period: int) -> float:
    """Measure how much of a map's fine detail is its local mean times a pattern of a period."""
    height, width = (side - side % period for side in magnitude.shape)
    places = period * period
    if min(height, width) < 2 * period:
        return 0.0
    values = np.asarray(magnitude, np.float64)
    mean, detail = (v[:height, :width] for v in (smoothed(values, period), values))
    weight = (mean**2).sum()
    if not weight:
        return 0.0
    # What is the same at all places is no pattern: a hill's top is higher than its mean everywhere.
    detail = detail - (detail * mean).sum() / weight * mean
    means, details = _by_place(mean, period), _by_place(detail, period)
    explained = ((details * means).sum(axis=1) ** 2 / np.maximum((means**2).sum(axis=1), _TINY)).sum()
    if explained < _VISIBLE * weight:
        return 0.0
    # So many pixels of one strength would say as much; few of them repeat anything by accident.
    pixels = (values**2).sum() ** 2 / (values**4).sum()
    return float(explained / (detail**2).sum() - _ACCIDENT * places / pixels)


def _by_place(values: npt.NDArray[np.float64], period: int) -> npt.NDArray[np.float64]:
    """Sort pixels by their place in the pattern: period² × the rest."""
    rows, columns = (side // period for side in values.shape)
    blocks = values.reshape(rows, period, columns, period)
    return blocks.transpose(1, 3, 0, 2).reshape(period * period, -1)
