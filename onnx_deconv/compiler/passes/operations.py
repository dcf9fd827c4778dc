"""Patterns of operations that several passes look for."""

from onnx import TensorProto, numpy_helper

from onnx_deconv.compiler.passes.attributes import Expected, absent, ones, zeros
from onnx_deconv.compiler.passes.pattern import ABSENT, ANY, Match, Pattern, op, value
from onnx_deconv.compiler.passes.rewriter import Rewriter


def _has_known_shape(graph: Rewriter, weight: str) -> bool:
    return len(graph.dims.get(weight, ())) > len("MC")


def _is_1x1(found: Match) -> bool:
    kernel = found.graph.filter_shape(found.node)[2:]
    return bool(kernel) and all(size == 1 for size in kernel)


def is_pointwise(found: Match) -> bool:
    """Tell whether a convolution, transposed or not, has a 1×1 filter and changes no sizes."""
    changed = {name: found.attributes.get(name) for name in ("pads", "output_padding", "output_shape")}
    plain = not any(any(numbers or ()) for numbers in changed.values())
    padded = found.attributes.get("auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID")
    return _is_1x1(found) and plain and not padded and ones(found.attributes.get("strides"))


def _is_0(filled_with: TensorProto | None) -> bool:
    return filled_with is None or not numpy_helper.to_array(filled_with).any()


RELU = op.Relu(ANY)

ZEROS = op.ConstantOfShape(ANY, value=_is_0)
"""A tensor of zeros, made at run time."""

POINTWISE = op.Conv(ANY, ANY, group=1, strides=ones, pads=zeros, auto_pad="NOTSET").where(_is_1x1)
"""A 1×1 convolution of all channels with all."""


def dense_convolution(**attributes: Expected) -> Pattern:
    """Match a convolution of all channels with all, with stride 1 and no bias; capture signal and weight."""
    signal, weight = value("signal"), value("weight")
    return op.Conv(signal, weight, ABSENT, group=1, strides=ones, dilations=ones, **attributes)


def transposed_convolution(*more: Pattern, **attributes: Expected) -> Pattern:
    """Match a transposed convolution with known padding and filter shape; capture signal and weight."""
    operands = value("signal"), value("weight", _has_known_shape), *more
    return op.ConvTranspose(*operands, auto_pad="NOTSET", output_shape=absent, **attributes)
