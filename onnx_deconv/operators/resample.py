"""Resampling: a linear map along each axis, whose matrix the operator itself makes of the identity."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from onnx_deconv.operators import fields, shapes
from onnx_deconv.operators.builder import Operand, Signal
from onnx_deconv.operators.registry import operator
from onnx_deconv.operators.site import Site
from onnx_deconv.operators.tables import Signals
from onnx_deconv.operators.traits import KEEPS_SIGN, RESAMPLER

# Not the constant beyond a region, which no signal comes from.
_HOW = (
    "antialias",
    "coordinate_transformation_mode",
    "cubic_coeff_a",
    "exclude_outside",
    "mode",
    "nearest_mode",
)


@operator("Resize", traits={RESAMPLER}, field=fields.resampling, shape=shapes.resize)
def resize(at: Site) -> Signals:
    """The transposed interpolation, axis by axis."""
    if at.model.opset < fields.RESIZE_BY_ATTRIBUTES:
        return upsample(at)
    if at.attr("keep_aspect_ratio_policy", "stretch") != "stretch":
        raise at.unsupported("keep_aspect_ratio_policy other than 'stretch'")
    how = {name: at.attr(name) for name in _HOW}
    return [_transposed(at, how), *[None] * (len(at.node.inputs) - 1)]


@operator("Upsample", traits={KEEPS_SIGN, RESAMPLER}, field=fields.resampling)
def upsample(at: Site) -> Signals:
    """The transposed interpolation, axis by axis."""
    how = {"mode": at.attr("mode", "nearest"), "coordinate_transformation_mode": "asymmetric"}
    return [_transposed(at, how), *[None] * (len(at.node.inputs) - 1)]


def _transposed(at: Site, how: Mapping[str, Any]) -> Signal:
    """Multiply by the transposed matrix of each axis that is resampled."""
    signal, axes = at.signal, _axes(at)
    for axis in axes:
        sizes, scale = (at.shape_of(0)[axis], at.shape_of_output()[axis]), _scale(at, axes.index(axis))
        cropped = how["coordinate_transformation_mode"] == "tf_crop_and_resize"
        kept = scale in (None, 1.0) and sizes[0] == sizes[1] and (None not in sizes or axis < 2)  # noqa: PLR2004
        if cropped or not (kept or scale == 1.0):
            signal = _along(at, signal, axis, scale, how)
    return signal


def _along(at: Site, signal: Signal, axis: int, scale: float | None, how: Mapping[str, Any]) -> Signal:
    op, rank = at.op, len(at.shape_of(0))
    matrix = op.Transpose(_matrix(at, axis, scale, how))
    if axis == rank - 1:
        return op.MatMul(signal, matrix)
    perm = list(range(rank))
    perm[axis], perm[-1] = perm[-1], perm[axis]
    return op.Transpose(op.MatMul(op.Transpose(signal, perm=perm), matrix), perm=perm)


def _matrix(at: Site, axis: int, scale: float | None, how: Mapping[str, Any]) -> Signal:
    """Resample the identity's rows, each a picture of one pixel: (before, after)."""
    op = at.op
    before, after = at.size(0, axis), _size_after(at, axis)
    rows = op.EyeLike(op.filled(op.Concat(before, before, axis=0), 0.0))
    pictures = op.Reshape(rows, op.Concat(before, [1, 1], before, axis=0))
    region = _region(at, axis) if how["coordinate_transformation_mode"] == "tf_crop_and_resize" else None
    if scale is None:
        resampled = op.Resize(pictures, region, None, op.Concat(before, [1, 1], after, axis=0), **how)
    else:
        if "nearest_mode" not in how:
            # The operators without one round down, and up where they shrink.
            how = {**how, "nearest_mode": "ceil" if scale < 1 else "floor"}
        resampled = op.Resize(pictures, region, np.asarray([1, 1, 1, scale], np.float32), **how)
    return op.Reshape(resampled, op.Concat(before, after, axis=0))


def _size_after(at: Site, axis: int) -> Operand:
    known = at.shape_of_output()[axis]
    return [known] if known is not None else at.op.Shape(at.signal, start=axis, end=axis + 1)


def _axes(at: Site) -> list[int]:
    """Return the axes that the node's scales, sizes and regions are given for."""
    rank = len(at.shape_of(0))
    return [a % rank for a in at.attr("axes", list(range(rank)))]


def _scale(at: Site, k: int) -> float | None:
    """Return the k-th scale; ``None`` where the node gives sizes."""
    i = fields.scales_input(at)
    scales = at.param("scales", i)
    if scales is None and i == 1:
        raise at.unsupported("it has neither scales nor sizes")
    return float(scales[k]) if scales else None


def _region(at: Site, axis: int) -> Operand:
    """Return the part of one axis that is resampled, as the operator wants it for four axes."""
    region = at.constant(1)
    if region is None:
        raise at.unsupported("its region of interest (input 1) is computed at run time")
    axes = _axes(at)
    start, end = region[axes.index(axis)], region[len(axes) + axes.index(axis)]
    return np.asarray([0, 0, 0, start, 1, 1, 1, end], np.float32)
