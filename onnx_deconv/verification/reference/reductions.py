"""Reductions over axes: all numbers that become one stand in one row, along its last axis."""

import math
from collections.abc import Callable

import numpy as np

from onnx_deconv.verification.reference.graph import Array, Positions
from onnx_deconv.verification.reference.signals import inverse
from onnx_deconv.verification.reference.table import of_first_input
from onnx_deconv.verification.reference.visit import Visit

Slope = Callable[[Array], Array]

SLOPES: dict[str, Slope] = {}
"""From a reduction to the function of rows, (rows, n), that gives dy/dx for each x."""


def slope_of(operator: str) -> Callable[[Slope], Slope]:
    """Enter a reduction, by its derivative, into both tables."""

    def enter(function: Slope) -> Slope:
        SLOPES[operator] = function
        return function

    of_first_input(operator)(reduce)
    return enter


def reduce(at: Visit) -> Array:
    """Return for each x the signal of the number that it became part of, times dy/dx."""
    shape, axes = at.shape(), reduced_axes(at)
    order = [axis for axis in range(len(shape)) if axis not in axes] + axes
    rows = at.x().transpose(order).reshape(-1, math.prod(shape[axis] for axis in axes))
    back = at.signal.reshape(-1, 1) * SLOPES[at.operator](rows)
    return back.reshape([shape[axis] for axis in order]).transpose(np.argsort(order))


def reduced_axes(at: Visit) -> list[int]:
    """Return the axes: an attribute in old opsets, an input in new ones, else all or none."""
    rank = len(at.shape())
    axes = at.ints("axes", 1)
    if not axes:
        axes = [] if at.attr("noop_with_empty_axes", 0) else list(range(rank))
    return sorted(axis % rank for axis in axes)


@slope_of("ReduceSum")
def of_sum(x: Array) -> Array:
    """Σ x: 1."""
    return np.ones_like(x)


@slope_of("ReduceMean")
def of_mean(x: Array) -> Array:
    """Σ x / n: 1/n."""
    return np.full_like(x, 1 / x.shape[-1])


@slope_of("ReduceL1")
def of_absolute_sum(x: Array) -> Array:
    """Σ |x|: the sign of x."""
    return np.sign(x)


@slope_of("ReduceL2")
def of_length(x: Array) -> Array:
    """√Σx²: x/√Σx², 0 where all x are."""
    length = np.sqrt((x**2).sum(-1, keepdims=True))
    return np.where(length > 0, x / length, 0.0)


@slope_of("ReduceSumSquare")
def of_squares(x: Array) -> Array:
    """Σ x²: 2x."""
    return 2 * x


@slope_of("ReduceLogSum")
def of_log_sum(x: Array) -> Array:
    """Σ x, its logarithm: 1/Σx, 0 where that is."""
    return np.broadcast_to(inverse(x.sum(-1, keepdims=True)), x.shape)


@slope_of("ReduceLogSumExp")
def of_log_sum_exp(x: Array) -> Array:
    """Σ eˣ, its logarithm: eˣ/Σeˣ."""
    powers = np.exp(x - x.max(-1, keepdims=True))
    shares: Array = powers / powers.sum(-1, keepdims=True)
    return shares


@slope_of("ReduceProd")
def of_product(x: Array) -> Array:
    """Π x: the product of all others, of those before and those after."""
    ones = np.ones((len(x), 1))
    before: Array = np.multiply.accumulate(np.hstack([ones, x[:, :-1]]), -1)
    after: Array = np.multiply.accumulate(np.hstack([ones, x[:, :0:-1]]), -1)[:, ::-1]
    return before * after


@slope_of("ReduceMax")
def of_maximum(x: Array) -> Array:
    """Return 1 for the first of the largest, else 0."""
    return _one_at(x.argmax(-1), x)


@slope_of("ReduceMin")
def of_minimum(x: Array) -> Array:
    """Return 1 for the first of the smallest, else 0."""
    return _one_at(x.argmin(-1), x)


def _one_at(places: Positions, x: Array) -> Array:
    return (np.arange(x.shape[-1]) == places[:, None]).astype(np.float64)
