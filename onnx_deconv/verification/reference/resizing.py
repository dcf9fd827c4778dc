"""Resizing: a linear map along each axis."""

import functools
import math
from collections.abc import Callable

import numpy as np

from onnx_deconv.verification.reference import kernels
from onnx_deconv.verification.reference.graph import Array, Positions
from onnx_deconv.verification.reference.table import of_first_input
from onnx_deconv.verification.reference.visit import Visit

_RECENT = 11
"""The first opset whose Resize takes a region, and says by attributes how it interpolates."""


@of_first_input("Resize", "Upsample")
def resize(at: Visit) -> Array:
    """Y = M·X along each axis, M[o, i] the share of input i in output o: x receives Mᵀ·signal."""
    if at.attr("keep_aspect_ratio_policy", "stretch") != "stretch":
        raise at.unsupported("keep_aspect_ratio_policy")
    signal = at.signal
    for axis, scale in resize_scales(at).items():
        signal = np.moveaxis(np.tensordot(resize_weights(at, axis, scale), signal, (0, axis)), 0, axis)
    return signal


def resize_axes(at: Visit) -> list[int]:
    """Return the axes that scales, sizes and regions are given for."""
    rank = len(at.shape())
    return [axis % rank for axis in at.ints("axes") or range(rank)]


def resize_scales(at: Visit) -> dict[int, float]:
    """Return the scale of each axis: given, or the quotient of the sizes."""
    axes = resize_axes(at)
    place = 2 if is_recent(at) else 1
    scales = at.raw(place).reshape(-1) if at.given(place) else np.asarray(at.attr("scales", ()))
    if scales.size:
        return dict(zip(axes, map(float, scales), strict=True))
    return {axis: at.signal.shape[axis] / at.shape()[axis] for axis in axes}


def is_recent(at: Visit) -> bool:
    """Whether the node takes a region as its second input."""
    return at.operator == "Resize" and at.graph.opset >= _RECENT


def resize_weights(at: Visit, axis: int, scale: float) -> Array:
    """Return M[o, i]: how much of input i is in output o, along one axis."""
    weights = np.zeros((at.signal.shape[axis], at.shape()[axis]))
    shares = interpolation(at, scale)
    for o, x in enumerate(coordinates(at, axis, scale)):
        if is_cropped(at) and not 0 <= x <= weights.shape[1] - 1:
            continue  # beyond the picture stands a constant
        places, share = shares(x)
        within = (places >= 0) & (places < weights.shape[1])
        if at.attr("exclude_outside", 0):
            share = np.where(within, share, 0.0) / share[within].sum()
        np.add.at(weights[o], places.clip(0, weights.shape[1] - 1), share)
    return weights


def coordinates(at: Visit, axis: int, scale: float) -> list[float]:
    """Return where in the input each output position of an axis looks."""
    kind = at.attr("coordinate_transformation_mode", "half_pixel" if is_recent(at) else "asymmetric")
    size, out = at.shape()[axis], at.signal.shape[axis]
    if is_cropped(at):
        axes = resize_axes(at)
        start, end = at.x(1)[[axes.index(axis), len(axes) + axes.index(axis)]] * (size - 1)
        return [start + o * (end - start) / (out - 1) if out > 1 else (start + end) / 2 for o in range(out)]
    if kind not in COORDINATES:
        raise at.unsupported(f"coordinates {kind}")
    return [COORDINATES[kind](o, size, out, scale) for o in range(out)]


def is_cropped(at: Visit) -> bool:
    """Whether the node looks at a region of its input, beyond which stands a constant."""
    return bool(at.attr("coordinate_transformation_mode", "") == "tf_crop_and_resize")


def interpolation(at: Visit, scale: float) -> Callable[[float], tuple[Positions, Array]]:
    """Return the function from a coordinate to the places that it takes from, and their shares."""
    mode = at.attr("mode", "nearest")
    if mode == "nearest":
        to = NEAREST[at.attr("nearest_mode", "round_prefer_floor" if is_recent(at) else "floor")]
        # Runtimes decide ties in single precision.
        return lambda x: (np.array([to(float(np.float32(x)))]), np.ones(1))
    if mode not in ("linear", "cubic"):
        raise at.unsupported(f"mode {mode}")
    kernel = kernels.linear
    if mode == "cubic":
        kernel = functools.partial(kernels.cubic, a=at.real("cubic_coeff_a", -0.75))
    width = min(scale, 1.0) if at.attr("antialias", 0) else 1.0
    reach = math.ceil((1 if mode == "linear" else 2) / width)

    def shares(x: float) -> tuple[Positions, Array]:
        places = np.arange(math.floor(x) - reach, math.floor(x) + reach + 2)
        share = kernel((places - x).astype(np.float64) * width)
        return places, share / share.sum()

    return shares


NEAREST: dict[str, Callable[[float], int]] = {
    "floor": math.floor,
    "ceil": math.ceil,
    "round_prefer_floor": lambda x: math.ceil(x - 0.5),
    "round_prefer_ceil": lambda x: math.floor(x + 0.5),
}
"""The input position that a coordinate takes."""

COORDINATES: dict[str, Callable[[int, int, int, float], float]] = {
    "asymmetric": lambda o, _size, _out, scale: o / scale,
    "half_pixel": lambda o, _size, _out, scale: (o + 0.5) / scale - 0.5,
    "pytorch_half_pixel": lambda o, _size, out, scale: (o + 0.5) / scale - 0.5 if out > 1 else 0.0,
    "align_corners": lambda o, size, out, _scale: o * (size - 1) / max(out - 1, 1),
    "half_pixel_symmetric": lambda o, size, out, scale: (size - out / scale) / 2 + (o + 0.5) / scale - 0.5,
}
"""Where in the input an output position o looks, given both sizes and the scale."""
