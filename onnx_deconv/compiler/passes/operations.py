"""Patterns of operations that several passes look for."""

from onnx import TensorProto, numpy_helper

from onnx_deconv.compiler.passes.attributes import Expected, absent, ones, zeros
from onnx_deconv.compiler.passes.pattern import ABSENT, ANY, Match, Pattern, op, value
from onnx_deconv.compiler.passes.rewriter import Rewriter


def _has_known_shape(graph: Rewriter, weight: str) -> bool:
    return len(graph.dims.get(weight, ())) > len("MC")


def is_1x1(found: Match) -> bool:
    """Tell whether a filter, of a convolution or of its transpose, covers one position."""
    kernel = found.graph.filter_shape(found.node)[2:]
    return bool(kernel) and all(size == 1 for size in kernel)


def _is_0(filled_with: TensorProto | None) -> bool:
    return filled_with is None or not numpy_helper.to_array(filled_with).any()


RELU = op.Relu(ANY)

ZEROS = op.ConstantOfShape(ANY, value=_is_0)
"""A tensor of zeros, made at run time."""

DENSE_SAME: dict[str, Expected] = {"group": 1, "strides": ones, "pads": zeros, "auto_pad": "NOTSET"}
"""Attributes of a 1×1 filter, or its transpose, that joins all channels and keeps the sizes."""

POINTWISE = op.Conv(ANY, ANY, **DENSE_SAME).where(is_1x1)
"""A 1×1 convolution of all channels with all."""


def dense_convolution(**attributes: Expected) -> Pattern:
    """Match a convolution of all channels with all, with stride 1 and no bias; capture signal and weight."""
    signal, weight = value("signal"), value("weight")
    return op.Conv(signal, weight, ABSENT, group=1, strides=ones, dilations=ones, **attributes)


def transposed_convolution(*more: Pattern, **attributes: Expected) -> Pattern:
    """Match a transposed convolution with known padding and filter shape; capture signal and weight."""
    operands = value("signal"), value("weight", _has_known_shape), *more
    return op.ConvTranspose(*operands, auto_pad="NOTSET", output_shape=absent, **attributes)
