"""Operators that take numbers from places, or put them there, that an index names."""

import math

import numpy as np

from onnx_deconv.verification.reference.graph import Array, Positions
from onnx_deconv.verification.reference.moves import moved
from onnx_deconv.verification.reference.table import of_each_input
from onnx_deconv.verification.reference.visit import Visit


@moved("Gather")
def gather(at: Visit, places: Positions) -> Positions:
    """Take entries along an axis by index."""
    return places.take(at.raw(1), at.attr("axis", 0))


@moved("GatherElements")
def gather_elements(at: Visit, places: Positions) -> Positions:
    """Take, for each entry of the index, the number that its value names along an axis."""
    return elements(places, at.raw(1), at.attr("axis", 0))


@moved("GatherND")
def gather_nd(at: Visit, places: Positions) -> Positions:
    """Take the slices that the index's last axis names, after the batch axes that both share."""
    indices, batch = at.raw(1), at.attr("batch_dims", 0)
    stacks = math.prod(places.shape[:batch])
    picked = [
        slices(own, chosen)
        for own, chosen in zip(
            places.reshape(stacks, *places.shape[batch:]),
            indices.reshape(stacks, *indices.shape[batch:]),
            strict=True,
        )
    ]
    return np.stack(picked).reshape(at.signal.shape)


@moved("TopK")
def top_k(at: Visit, places: Positions) -> Positions:
    """Take the k largest, or smallest, along an axis, of equals the first."""
    if not at.attr("sorted", 1):
        raise at.unsupported("values in no order")
    axis, (k, *_) = at.attr("axis", -1), at.ints("k", 1) or [at.attr("k")]
    x = -at.x() if at.attr("largest", 1) else at.x()
    order = np.argsort(x, axis, kind="stable").take(range(k), axis)
    return np.take_along_axis(places, order, axis)


@of_each_input("ScatterElements", "Scatter")
def scatter_elements(at: Visit, i: int) -> Array:
    """Y is x but where updates, one for each entry of the index, were put or added."""
    return scattered(at, i, elements(_places(at), at.raw(1), at.attr("axis", 0)))


@of_each_input("ScatterND")
def scatter_nd(at: Visit, i: int) -> Array:
    """Y is x but where updates, slices that the index's last axis names, were put or added."""
    return scattered(at, i, slices(_places(at), at.raw(1)))


def scattered(at: Visit, i: int, places: Positions) -> Array:
    """Send the updates the signal at their places, x all that was not replaced, the index nothing."""
    reduction, signal = at.attr("reduction", "none"), at.signal.reshape(-1)
    if reduction not in ("none", "add"):
        raise at.unsupported(f"reduction {reduction}")
    if i == 1:
        return np.zeros(at.shape(1))
    if i > 1:
        return signal[places]
    kept = signal.copy()
    if reduction == "none":
        kept[places] = 0
    return kept.reshape(at.shape())


def elements(places: Positions, indices: Positions, axis: int) -> Positions:
    """Return the places that an index names along an axis; along the others it may be shorter."""
    axis %= places.ndim
    near = tuple(slice(None) if a == axis else slice(size) for a, size in enumerate(indices.shape))
    return np.take_along_axis(places[near], indices % places.shape[axis], axis)


def slices(places: Positions, indices: Positions) -> Positions:
    """Return the places that an index's last axis names: of single numbers, or of whole slices."""
    return places[tuple(np.moveaxis(indices, -1, 0))]


def _places(at: Visit) -> Positions:
    return np.arange(math.prod(at.shape())).reshape(at.shape())
