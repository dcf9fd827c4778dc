"""Rounding to a few levels, as arithmetic that runtimes do not take for a promise."""

import numpy as np
from onnx import NodeProto, TensorProto, helper

from onnx_deconv.compiler.passes.builder import Builder
from onnx_deconv.compiler.passes.pattern import op
from onnx_deconv.compiler.passes.registry import optimisation_pass
from onnx_deconv.compiler.passes.rewriter import Rewriter
from onnx_deconv.model.protos import attributes_of

_WHOLE = {TensorProto.UINT8, TensorProto.INT8, TensorProto.UINT16, TensorProto.INT16}
_PUT_BACK = op.DequantizeLinear()


@optimisation_pass("levels")
def levels(graph: Rewriter) -> None:
    """A quantiser becomes the division, rounding, sum and bounds that the standard defines it as.

    What puts its levels back to real numbers becomes a difference and a product.

    Where OpenVINO (2026.4) sees a quantiser, its transformations for low precision move scales and roundings
    through the graph, also through the backward pass, which was not quantised: explanations by LRP-γ were not
    finite, and a SqueezeNet's own answers 67 % off. onnxruntime adds quantisers behind what puts levels back
    before its OpenVINO provider sees a graph. What is rounded by arithmetic both compute as the file says;
    only what lies halfway between two levels may be rounded otherwise.
    """
    for found in (op.QuantizeLinear() | _PUT_BACK).matches(graph):
        add = graph.builder(found.node.name)
        puts_back = _PUT_BACK.match(graph, found.node) is not None
        result = (_real if puts_back else _rounded)(graph, found.node, add)
        if result is not None:
            graph.replace(found.node, add, result)


def _rounded(graph: Rewriter, node: NodeProto, add: Builder) -> str | None:
    """Compute what a quantiser gives; ``None`` where its form is not known."""
    dtype, aligned = _type(graph, node.output[0]), _aligned(graph, node, add)
    if dtype not in _WHOLE or aligned is None:
        return None
    numbers, scale, zero = aligned
    level = add.Round(add.Div(numbers, scale))
    bounds = np.iinfo(helper.tensor_dtype_to_np_dtype(dtype))
    level = add.Add(level, zero) if zero else level
    return str(add.Cast(add.Clip(level, np.float32(bounds.min), np.float32(bounds.max)), to=dtype))


def _real(graph: Rewriter, node: NodeProto, add: Builder) -> str | None:
    """Compute what levels stand for; ``None`` where their form is not known."""
    aligned = _aligned(graph, node, add)
    if _type(graph, node.input[0]) not in {*_WHOLE, TensorProto.INT32} or aligned is None:
        return None
    numbers, scale, zero = aligned
    number = add.Mul(add.Sub(numbers, zero) if zero else numbers, scale)
    return str(add.Cast(number, to=_type(graph, node.input[1])))


def _aligned(graph: Rewriter, node: NodeProto, add: Builder) -> tuple[str, str, str] | None:
    """Make numbers, scale and zero point fit, in float32; ``None`` where blocks have scales of their own."""
    numbers, scale, zero = [*node.input, ""][:3]
    dims = graph.dims.get(scale, graph.shape(scale))
    rank = len(graph.shape(numbers)) or len(graph.dims.get(numbers, ()))
    by_axis = len(dims) > 0 and dims != (1,)
    if attributes_of(node).get("block_size") or (by_axis and not rank):
        return None

    def aligned(value: str) -> str:
        real = add.Cast(value, to=TensorProto.FLOAT)
        axis = attributes_of(node).get("axis", 1) % rank if by_axis else 0
        return str(add.Reshape(real, [-1] + [1] * (rank - 1 - axis))) if by_axis else str(real)

    return str(add.Cast(numbers, to=TensorProto.FLOAT)), aligned(scale), aligned(zero) if zero else ""


def _type(graph: Rewriter, value: str) -> int:
    """Return a value's element type; 0 where it is not known."""
    stored = graph.constants.stored.get(value)
    return stored.data_type if stored is not None else graph.types.get(value, (0, ()))[0]
