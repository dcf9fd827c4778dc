"""Taps: which positions of its input each position of an operator's output reads."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from onnx_deconv.operators.sight import Strip


def windowed(node: gs.Node, strip: Strip, k: int, kernel: Sequence[int], n: int) -> Strip:
    """Go through a convolution or a pool along axis k of n: position o reads on from o·stride - begin."""
    stride, dilation, extent, begin, end = _window(node, k, kernel, n)
    length, auto = len(strip.bounds), node.attrs.get("auto_pad", "NOTSET")
    if auto == "VALID":
        begin = end = 0
    elif auto.startswith("SAME"):
        total = max((-(-length // stride) - 1) * stride + extent - length, 0)
        begin = total // 2 if auto == "SAME_UPPER" else total - total // 2
        end = total - begin
    steps = (length + begin + end - extent) / stride
    count = math.floor(steps) + 1
    if node.attrs.get("ceil_mode", 0):
        count = math.ceil(steps) + 1
        count -= (count - 1) * stride >= length + begin  # it would start in the padding after the input
    taps = np.arange(count)[:, None] * stride - begin + np.arange(kernel[k]) * dilation
    return strip.read(taps, stride, -begin, extent)


def unwindowed(node: gs.Node, strip: Strip, k: int, kernel: Sequence[int], n: int) -> Strip:
    """Go through a ConvTranspose: position o gets what i sends to i·stride - begin + tap·dilation."""
    stride, dilation, extent, begin, end = _window(node, k, kernel, n)
    length, auto = len(strip.bounds), node.attrs.get("auto_pad", "NOTSET")
    spare = (node.attrs.get("output_padding") or [0] * n)[k]
    full = (length - 1) * stride + extent + spare
    wanted = node.attrs.get("output_shape")
    if wanted is not None or auto.startswith("SAME"):
        total = full - (wanted[k - n] if wanted is not None else length * stride)
        begin = total // 2 if auto == "SAME_UPPER" else total - total // 2
        end = total - begin
    ends = np.arange(full - begin - end)[:, None] + begin - np.arange(kernel[k]) * dilation
    taps = np.where(ends % stride == 0, ends // stride, -1)
    return strip.read(taps, 1 / stride, (begin - extent + 1) / stride, (extent - 1) // stride + 1)


def _window(node: gs.Node, k: int, kernel: Sequence[int], n: int) -> tuple[int, int, int, int, int]:
    """Return stride, dilation, extent and explicit padding along spatial axis k."""
    stride = (node.attrs.get("strides") or [1] * n)[k]
    dilation = (node.attrs.get("dilations") or [1] * n)[k]
    pads = node.attrs.get("pads") or [0] * (2 * n)
    return stride, dilation, (kernel[k] - 1) * dilation + 1, pads[k], pads[k + n]


def padded(strip: Strip, begin: int, end: int, mode: str) -> Strip:
    """Go through a Pad; a negative one crops."""
    if not begin and not end:
        return strip
    positions = np.arange(len(strip.bounds))[max(0, -begin) : len(strip.bounds) - max(0, -end)]
    around = max(0, begin), max(0, end)
    if mode == "constant":
        taps = np.pad(positions, around, constant_values=-1)
    else:
        taps = np.pad(positions, around, mode)  # type: ignore[call-overload]
    return strip.read(taps[:, None], 1, -begin, 1)


def picked(strip: Strip, cut: slice) -> Strip:
    """Go through a Slice."""
    taps = np.arange(len(strip.bounds))[cut]
    step = cut.step or 1
    return strip.read(taps[:, None], step, int(taps[0]) if len(taps) else 0, 1)


def resampled(strip: Strip, how: Mapping[str, Any], length: int, scale: float) -> Strip:
    """Go through a Resize of these attributes: which positions an output is interpolated from.

    Without a ``nearest_mode`` it rounds down, and up where it shrinks, as before opset 11.
    """
    old, mode = len(strip.bounds), how["mode"]
    if length == old and scale == 1:
        return strip
    at = np.arange(length).astype(float)
    match how["coordinate_transformation_mode"]:
        case "asymmetric":
            centre = at / scale
        case "align_corners":
            centre = at * (old - 1) / max(length - 1, 1)
        case "pytorch_half_pixel" if length == 1:
            centre = np.zeros(1)
        case "half_pixel" | "pytorch_half_pixel":
            centre = (at + 0.5) / scale - 0.5
        case "half_pixel_symmetric":
            centre = old / 2 * (1 - length / (scale * old)) + (at + 0.5) / scale - 0.5
        case _:
            return strip.whole()
    centre = np.round(centre, 5)  # the scale is a float32
    if mode == "nearest":
        rounding = how["nearest_mode"] or ("ceil" if scale < 1 else "floor")
        taps = _ROUNDED[rounding](centre)[:, None]
        reach = 1.0
    else:
        wide = 1 / scale if how["antialias"] and scale < 1 else 1
        reach = (1 if mode == "linear" else 2) * wide
        near = np.arange(-math.ceil(reach), math.ceil(reach) + 1)
        taps = np.floor(centre)[:, None] + near
        taps = np.where(np.abs(taps - centre[:, None]) < reach - 1e-9, taps, np.nan)
    kept = np.where(np.isnan(taps), -1, np.clip(np.nan_to_num(taps), 0, old - 1)).astype(int)
    extent = 1 if mode == "nearest" else 2 * reach
    return strip.read(kept, 1 / scale, 0.5 / scale - extent / 2, extent)


_ROUNDED: Mapping[str, Callable[[NDArray[Any]], NDArray[Any]]] = {
    "round_prefer_floor": lambda x: np.ceil(x - 0.5),
    "round_prefer_ceil": lambda x: np.floor(x + 0.5),
    "floor": np.floor,
    "ceil": np.ceil,
}
