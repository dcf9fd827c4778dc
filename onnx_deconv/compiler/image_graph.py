"""Small graphs that prepare pictures and draw heat maps, as the library itself does."""

import numpy as np
from onnx import ModelProto, TensorProto, helper

from onnx_deconv.compiler.seed_graph import exported
from onnx_deconv.imaging import NEGLIGIBLE, SALIENCY_PERCENTILE, Layout, Preprocess, heat_map
from onnx_deconv.operators.builder import Emitter, Signal

PICTURE, HEAT = "picture", "heat"

_ONE = 1 << 16
_LUMA = 19595, 38470, 7471
"""ITU-R 601 in 1/65536, as Pillow rounds it."""


def preprocessing(preprocess: Preprocess, name: str) -> ModelProto:
    """Make the model's input ``name`` of ``picture``: uint8 (N, H, W, 3), RGB, of the input's size."""
    op = Emitter(np.result_type(np.dtype(preprocess.dtype), np.float32))
    op.origin = "preprocessing"
    picture = op.input(PICTURE, None, np.uint8)
    scaled = op.Mul(_channels(op, picture, preprocess.channels), preprocess.scale)
    statistics = [np.array(v, op.dtype) for v in (preprocess.mean, preprocess.std)]
    numbers = op.Div(op.Sub(scaled, statistics[0]), statistics[1])
    dtype = np.dtype(preprocess.dtype)
    if dtype.kind != "f":
        limits = np.iinfo(dtype)
        numbers = op.Clip(op.Round(numbers), float(limits.min), float(limits.max))
    if preprocess.layout == "NCHW":
        numbers = op.Transpose(numbers, perm=[0, 3, 1, 2])
    if dtype != op.dtype:
        numbers = op.Cast(numbers, to=helper.np_dtype_to_tensor_dtype(dtype))
    return exported(op, {name: numbers}, "preprocessing")


def _channels(op: Emitter, picture: Signal, letters: str) -> Signal:
    """Order the channels of RGB pictures as the model has them."""
    numbers = op.Cast(picture, to=op.elem_type)  # at once: TensorRT takes bytes at its border alone
    if letters == "RGB":
        return numbers
    if set(letters) <= set("RGB"):
        return op.Gather(numbers, ["RGB".index(c) for c in letters], axis=3)
    # In 1/65536, with the rounding that Pillow has: equal to the bit. Whole numbers below 2**24 are exact in
    # float32, and so are their sums in every runtime; divisions of whole numbers (OpenVINO) and products of
    # matrices (TF32) are not.
    weights = {"R": (_ONE, 0, 0), "G": (0, _ONE, 0), "B": (0, 0, _ONE), "L": _LUMA, "A": (0, 0, 0)}
    shares = op.Mul(
        op.Unsqueeze(numbers, [3]),
        np.array([weights[c] for c in letters], op.dtype),
    )
    offsets = np.array([_ONE // 2 + (255 * _ONE if c == "A" else 0) for c in letters], op.dtype)
    return op.Floor(op.Mul(op.Add(op.ReduceSum(shares, [4], keepdims=0), offsets), 1 / _ONE))


def rendering(name: str, layout: Layout, top: int) -> ModelProto:
    """Draw the saliency of reconstructions, (N, C, H, W) or (N, H, W, C): ``heat``, uint8 (N, H, W, 3).

    The same as :func:`~onnx_deconv.imaging.saliency` and
    :func:`~onnx_deconv.imaging.heat_map`. With more than one of each image (``top``) both have an
    axis for them after the first.
    """
    op = Emitter(np.dtype(np.float32))
    op.origin = "rendering"
    given = op.Cast(op.input(name, None), to=op.elem_type)
    reconstruction = given
    if top > 1:
        reconstruction = op.Reshape(given, op.Concat([-1], op.Shape(given, start=2), axis=0))
    magnitude = op.ReduceMax(op.Abs(reconstruction), [1 if layout == "NCHW" else 3], keepdims=0)
    level = op.Unsqueeze(_level(op, op.Flatten(magnitude)), [2])
    # A picture of nothing stays 0.
    divisor = op.Where(op.Greater(level, 0.0), level, 1.0)
    relative = op.Div(op.Min(magnitude, level), divisor)
    colours = heat_map(np.linspace(0, 1, 256)[None])[0]
    index = op.Cast(op.Round(op.Mul(relative, 255.0)), to=TensorProto.INT64)
    heat = op.Gather(colours.astype(op.dtype), index, axis=0)
    if top > 1:
        heat = op.Reshape(heat, op.Concat([-1, top], op.Shape(heat, start=1), axis=0))
    # Bytes at the very end: TensorRT has no others.
    return exported(op, {HEAT: op.Cast(heat, to=TensorProto.UINT8)}, "rendering")


def _level(op: Emitter, flat: Signal) -> Signal:
    """Return the 99th percentile of each row's magnitudes that are more than rounding: (M, P) to (M, 1)."""
    ascending = op.TopK(flat, op.Shape(flat, start=1), largest=0, outputs=2)[0]
    floor = op.Mul(op.ReduceMax(flat, [1]), NEGLIGIBLE)
    mask = op.Cast(op.Greater(flat, floor), to=op.elem_type)
    # All are counted where the picture is: arithmetic on sizes is the CPU's, and would be copied to a GPU.
    present, absent = op.ReduceSum(mask, [1]), op.ReduceSum(op.Sub(1.0, mask), [1])
    whole = op.Add(present, absent)
    # As NumPy counts: between the first that is present (0) and the last (1), linear in between.
    share = op.Mul(op.Sub(present, 1.0), SALIENCY_PERCENTILE / 100)
    position = op.Add(absent, op.Max(share, 0.0))
    last = op.Sub(whole, 1.0)
    below = op.Min(op.Floor(position), last)
    pair = [
        op.GatherElements(ascending, op.Cast(index, to=TensorProto.INT64), axis=1)
        for index in (below, op.Min(op.Add(below, 1.0), last))
    ]
    return op.Add(pair[0], op.Mul(op.Sub(pair[1], pair[0]), op.Sub(position, below)))
