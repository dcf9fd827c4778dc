"""Rounding to a few levels, as arithmetic that runtimes do not take for a promise."""

import numpy as np
from onnx import NodeProto, TensorProto, helper

from onnx_deconv.compiler.passes.builder import Builder
from onnx_deconv.compiler.passes.pattern import op
from onnx_deconv.compiler.passes.registry import optimisation_pass
from onnx_deconv.compiler.passes.rewriter import Rewriter
from onnx_deconv.model.protos import attributes_of

_WHOLE = {TensorProto.UINT8, TensorProto.INT8, TensorProto.UINT16, TensorProto.INT16}


@optimisation_pass("levels")
def levels(graph: Rewriter) -> None:
    """A quantiser becomes the division, rounding, sum and bounds that the standard defines it as.

    Where OpenVINO (2026.4) sees a quantiser, its transformations for low precision move scales and roundings
    through the graph, also through the backward pass, which was not quantised: explanations by LRP-γ were not
    finite, and a SqueezeNet's own answers 67 % off. What is rounded by arithmetic it computes as the file
    says; only what lies halfway between two levels may be rounded otherwise.
    """
    for found in op.QuantizeLinear().matches(graph):
        add = graph.builder(found.node.name)
        level = _rounded(graph, found.node, add)
        if level is not None:
            graph.replace(found.node, add, level)


def _rounded(graph: Rewriter, node: NodeProto, add: Builder) -> str | None:
    """Compute what a quantiser gives; ``None`` where its form is not known."""
    numbers, scale, zero = [*node.input, ""][:3]
    (dtype, _), dims = graph.types.get(node.output[0], (0, ())), graph.dims.get(scale, graph.shape(scale))
    rank = len(graph.shape(numbers)) or len(graph.dims.get(numbers, ()))
    by_axis = len(dims) > 0 and dims != (1,)
    if dtype not in _WHOLE or attributes_of(node).get("block_size") or (by_axis and not rank):
        return None

    def aligned(value: str) -> str:
        real = add.Cast(value, to=TensorProto.FLOAT)
        axis = attributes_of(node).get("axis", 1) % rank if by_axis else 0
        return add.Reshape(real, [-1] + [1] * (rank - 1 - axis)) if by_axis else real

    level = add.Round(add.Div(add.Cast(numbers, to=TensorProto.FLOAT), aligned(scale)))
    bounds = np.iinfo(helper.tensor_dtype_to_np_dtype(dtype))
    level = add.Add(level, aligned(zero)) if zero else level
    return str(add.Cast(add.Clip(level, np.float32(bounds.min), np.float32(bounds.max)), to=dtype))


@optimisation_pass("bytes_pooled")
def bytes_pooled(graph: Rewriter) -> None:
    """Maxima of bytes are found among the same numbers in float32.

    Of uint8 tract (0.23) gives other indices than those of the maxima.
    """
    for found in op.MaxPool().matches(graph):
        pooled, results = found.node.input[0], list(found.node.output)
        if graph.types.get(pooled, (0, ()))[0] != TensorProto.UINT8:
            continue
        add = graph.builder(found.node.name)
        maxima, *indices = add.copy(found.node, [add.Cast(pooled, to=TensorProto.FLOAT)])
        graph.replace(found.node, add, add.Cast(maxima, to=TensorProto.UINT8), *indices[: len(results) - 1])
