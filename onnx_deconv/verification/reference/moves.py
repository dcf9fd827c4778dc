"""Operators that only move numbers: each signal goes back to where its number came from."""

import functools
import math
from collections.abc import Callable

import numpy as np

from onnx_deconv.verification.reference.graph import Array, Positions
from onnx_deconv.verification.reference.signals import return_to
from onnx_deconv.verification.reference.table import FirstInput, of_each_input, of_first_input
from onnx_deconv.verification.reference.visit import Visit


def moved(*operators: str) -> Callable[[Callable[[Visit, Positions], Positions]], FirstInput]:
    """Enter an operator that only moves numbers, by how it moves their positions.

    The numbers' positions are moved as the numbers are; then each signal goes back to the position
    that arrived with it.
    """

    def enter(move: Callable[[Visit, Positions], Positions]) -> FirstInput:
        @functools.wraps(move)
        def backward(at: Visit) -> Array:
            places = np.arange(math.prod(at.shape())).reshape(at.shape())
            return return_to(move(at, places), at.signal, at.shape())

        return of_first_input(*operators)(backward)

    return enter


@of_first_input("Identity", "Cast", "Reshape", "Flatten", "Squeeze", "Unsqueeze")
def reshape(at: Visit) -> Array:
    """Return the signal in the shape of the input: the order of the numbers is the same."""
    return at.signal.reshape(at.shape())


@of_each_input("CastLike")
def cast_like(at: Visit, i: int) -> Array:
    """Return the signal; the second input lends its type alone."""
    return at.signal if i == 0 else np.zeros(at.shape(i))


@of_first_input("Dropout")
def dropout(at: Visit) -> Array:
    """Nothing drops at inference."""
    if at.given(2) and at.raw(2).any():
        raise at.unsupported("training mode")
    return at.signal


@moved("Transpose")
def transpose(at: Visit, places: Positions) -> Positions:
    """Permute the axes; reverse them unless told."""
    return places.transpose(at.ints("perm"))


@moved("Slice")
def slice_(at: Visit, places: Positions) -> Positions:
    """Take starts:ends:steps along axes: attributes before opset 10, inputs since."""
    starts, ends = at.ints("starts", 1) or [], at.ints("ends", 2) or []
    axes = at.ints("axes", 3) or list(range(len(starts)))
    steps = at.ints("steps", 4) or [1] * len(starts)
    chosen = [slice(None)] * places.ndim
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        # Python reads a negative end as ONNX does, save past the beginning, which both clamp.
        chosen[axis] = slice(start, end, step)
    return places[tuple(chosen)]


@moved("Crop")
def crop(at: Visit, places: Positions) -> Positions:
    """Cut borders [left, top, right, bottom], or `scale` [height, width] from left, top."""
    left, top, right, bottom = at.ints("border") or []
    height, width = at.ints("scale") or (
        places.shape[2] - top - bottom,
        places.shape[3] - left - right,
    )
    return places[:, :, top : top + height, left : left + width]


@moved("Pad")
def pad(at: Visit, places: Positions) -> Positions:
    """Cut where pads are negative, then pad; a padded constant comes from no position."""
    pads = at.ints("pads", 1) or []
    axes = at.ints("axes", 3) or range(places.ndim)
    around = [(0, 0)] * places.ndim
    for axis, begin, end in zip(axes, pads[: len(pads) // 2], pads[len(pads) // 2 :], strict=True):
        around[axis] = begin, end
    places = places[
        tuple(
            slice(max(0, -begin), size - max(0, -end))
            for (begin, end), size in zip(around, places.shape, strict=True)
        )
    ]
    grown = [(max(0, begin), max(0, end)) for begin, end in around]
    mode = at.attr("mode", "constant")
    if mode == "constant":
        return np.pad(places, grown, constant_values=-1)
    return np.pad(places, grown, mode=mode)


@moved("Expand")
def expand(at: Visit, places: Positions) -> Positions:
    """Broadcast to a shape."""
    return np.broadcast_to(places, at.signal.shape)


@moved("Tile")
def tile(at: Visit, places: Positions) -> Positions:
    """Repeat along each axis."""
    return np.tile(places, at.raw(1))


@moved("DepthToSpace")
def depth_to_space(at: Visit, places: Positions) -> Positions:
    """Spread channels over blocks: the block comes first among them (DCR) or last (CRD)."""
    n, c, h, w = places.shape
    b = at.attr("blocksize")
    if at.attr("mode", "DCR") == "DCR":
        order = places.reshape(n, b, b, c // b**2, h, w).transpose(0, 3, 4, 1, 5, 2)
    else:
        order = places.reshape(n, c // b**2, b, b, h, w).transpose(0, 1, 4, 2, 5, 3)
    return order.reshape(n, c // b**2, h * b, w * b)


@moved("SpaceToDepth")
def space_to_depth(at: Visit, places: Positions) -> Positions:
    """Gather blocks into channels, the block first among them."""
    n, c, h, w = places.shape
    b = at.attr("blocksize")
    order = places.reshape(n, c, h // b, b, w // b, b).transpose(0, 3, 5, 1, 2, 4)
    return order.reshape(n, c * b**2, h // b, w // b)
