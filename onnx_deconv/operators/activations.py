"""Name an activation by its values on a line of numbers."""

import functools
import math
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from onnx_deconv.operators.registry import find
from onnx_deconv.operators.traits import LIMIT

Array = NDArray[np.float64]


class Activation(NamedTuple):
    """What a group of nodes computes: ``scale`` times an activation.

    Attributes
    ----------
    op, attributes
        The standard's operator.
    slope
        Where it is PRelu, its slopes.
    scale
        Simplifiers fold a factor (the ½ of Gelu, the ⅙ of HardSwish) into the next filter.
    """

    op: str
    attributes: dict[str, Any]
    slope: NDArray[np.float32] | None = None
    scale: float = 1.0


GRID: Array = np.sort(np.concatenate([np.linspace(-14.03, 14.07, 113), np.linspace(-1.13, 1.17, 24), [0.0]]))
"""Where functions are compared: both tails, densely about zero, and no round number but that."""

_GATES = {"Gelu", "HardSwish", "Mish", "Swish"}
"""Activations of the form x·gate(x), whose factors exporters write as nodes of their own."""

LINE: Array = np.asarray([-2.0, -1.0, 1.0, 2.0])
"""Where functions with one slope for each channel or pixel are compared."""

_TOLERANCE, _HALF_TOLERANCE = 3e-5, 2e-3
"""Of what constants in single and half precision leave; the two forms of Gelu are 5e-4 apart."""
_EXACT = 1e-12
"""Of what double precision leaves."""


def identified(y: Array, constants: Iterable[float] = (), *, half: bool = False) -> Activation | None:
    """Name the activation that has the values ``y`` on :data:`GRID`, ``None`` if there is none.

    Parameters
    ----------
    y
        Shape of the grid.
    constants
        Numbers that may be a threshold: where a jump lies cannot be read off a grid.
    half
        Whether the group's constants are in half precision.
    """
    if y.shape != GRID.shape or not np.isfinite(y).all() or np.ptp(y) == 0:
        return None
    tolerance = _HALF_TOLERANCE if half else _TOLERANCE
    thresholds = (("ThresholdedRelu", {"alpha": c}) for c in constants if 0 < c < GRID[-2])
    found = _closest(y, [*_candidates(y), *thresholds], tolerance)
    scale = float(y[-1] / GRID[-1])
    if found is not None or not scale > 0:
        return found
    gates = [c for c in _candidates(y / scale) if c[0] in _GATES]
    found = _closest(y / scale, gates, tolerance)
    return None if found is None else found._replace(scale=_tidy(scale))


def _closest(y: Array, candidates: list[tuple[str, dict[str, Any]]], tolerance: float) -> Activation | None:
    stopping = [c for c in candidates if _stops_alike(y, *c)]
    errors = [_distance(y, op, attributes) for op, attributes in stopping]
    if not errors or min(errors) > tolerance:
        return None
    return Activation(*stopping[int(np.argmin(errors))])


def _stops_alike(y: Array, op: str, attributes: dict[str, Any]) -> bool:
    """Tell whether what an activation stops is exactly what the group stops, if it stops anything.

    ``Relu(x) + 1e-6`` is nearly a Relu, but what reads it does not get 0 from a unit that is dead.
    """
    if LIMIT not in find(op).traits and op != "LeakyRelu":
        return True
    expected = _values(op, tuple(attributes.items()))
    if attributes.get("min"):
        return _distance(y, op, attributes) < _EXACT
    return not y[expected == 0].any()


def slopes(y: Array) -> Activation | None:
    """Name a PRelu with one slope for each channel or pixel.

    Parameters
    ----------
    y
        What each number of :data:`LINE` becomes: shape (4, *shape of the slopes).
    """
    if y.shape[:1] != LINE.shape or not np.isfinite(y).all():
        return None
    x = LINE.reshape(-1, *[1] * (y.ndim - 1))
    slope = -y[1]
    expected = np.where(x > 0, x, slope * x)
    if np.abs(expected - y).max() > _TOLERANCE or np.ptp(slope) == 0:
        return None
    return Activation("PRelu", {}, slope.astype(np.float32))


def _distance(y: Array, op: str, attributes: dict[str, Any]) -> float:
    expected = _values(op, tuple(attributes.items()))
    return float(np.max(np.abs(y - expected) / (1 + np.abs(expected))))


@functools.lru_cache(maxsize=256)
def _values(op: str, attributes: tuple[tuple[str, Any], ...]) -> Array:
    """Evaluate an activation on the grid; the layers of one network ask for the same again and again."""
    with np.errstate(all="ignore"):
        return np.asarray(find(op).evaluate(dict(attributes), GRID), np.float64)


def _candidates(y: Array) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the activations that might be it, with the attributes that would fit."""
    yield from (("Relu", {}), ("Softplus", {}), ("HardSwish", {}), ("Mish", {}))
    yield from (("Gelu", {"approximate": form}) for form in ("none", "tanh"))
    floor, ceiling, one = float(y[0]), float(y[-1]), float(np.interp(1, GRID, y))
    if GRID[0] < floor < ceiling < GRID[-1] and y[-2] == ceiling:
        yield "Clip", {"min": _tidy(floor), "max": _tidy(ceiling)}
    slope = floor / GRID[0]
    if 0 < abs(slope) < 1:
        yield "LeakyRelu", {"alpha": _tidy(slope)}
    if floor < 0:
        yield "Elu", {"alpha": _tidy(floor / math.expm1(GRID[0]))}
        yield "Celu", {"alpha": _tidy(-floor)}
        gamma = ceiling / GRID[-1]
        yield "Selu", {"alpha": -floor / gamma if gamma else 0.0, "gamma": gamma}
    middle = int(np.argmin(np.abs(GRID - 1)))
    gate = float(y[middle] / GRID[middle])
    if 0.5 < gate < 1:  # noqa: PLR2004  (a positive alpha)
        yield "Swish", {"alpha": _tidy(math.log(gate / (1 - gate)) / GRID[middle])}
    zero = int(np.flatnonzero(GRID == 0)[0])
    beta = float(y[zero])
    if abs(beta - 1 / 2) < _TOLERANCE:
        yield "Sigmoid", {}
    if 0 < beta < 1 and floor >= 0 and one <= 1:
        rise = (y[zero + 1] - y[zero - 1]) / (GRID[zero + 1] - GRID[zero - 1])
        yield "HardSigmoid", {"alpha": _tidy(float(rise)), "beta": _tidy(beta)}


def _tidy(number: float) -> float:
    """Round to what single precision can tell."""
    return float(f"{number:.7g}")
