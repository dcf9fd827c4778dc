"""Operations that OpenVINO makes one of, wrongly, with a maximum between them that changes nothing."""

from collections.abc import Iterator

import numpy as np
from onnx import NodeProto, helper

from onnx_deconv.compiler.passes.builder import Builder
from onnx_deconv.compiler.passes.pattern import op
from onnx_deconv.compiler.passes.registry import optimisation_pass
from onnx_deconv.compiler.passes.rewriter import Dims, Rewriter

_SCALINGS = op.Mul() | op.Div()
_ONE_CHANNEL = (1, 1)


@optimisation_pass("apart")
def apart(graph: Rewriter) -> None:
    """Maxima with the lowest number, which change nothing, stand before and after some convolutions.

    OpenVINO (2026.4) multiplies the filter in place of what it reads wherever the numbers' shape fits the
    filter's: it takes places of a map of 3×3 for places of a 3×3 filter. Average pools that do not count
    their padding divide by such numbers: explanations by LRP of networks with small maps were 28 % off.

    What a convolution from one channel to one channel gives it adds to another value in place, which goes
    wrong of a free number of small images: explanations by Grad-CAM were 91 % off in one thread.
    """
    for found in op.Conv().matches(graph):
        node, add = found.node, graph.builder(found.node.name)
        shape = graph.filter_shape(node)
        dtype = graph.types.get(node.output[0], (0, ()))[0]
        if not dtype:
            continue
        if any(_differs(dims, len(shape) - len("OI")) for dims in _factors(graph, node.input[0])):
            node.input[0] = _maximum(add, node.input[0], dtype)
        if shape[:2] in ((), _ONE_CHANNEL):
            (result,) = add.copy(node, list(node.input))
            graph.replace(node, add, _maximum(add, result, dtype))
        elif add.nodes:
            graph.insert_before(node, add.nodes)


def _maximum(add: Builder, value: str, dtype: int) -> str:
    """Take the maximum of numbers and the lowest of their type."""
    real = helper.tensor_dtype_to_np_dtype(dtype)
    return str(add.Max(value, np.array(np.finfo(real).min, real)))


def _factors(graph: Rewriter, value: str) -> Iterator[Dims]:
    """Yield the shapes of the constants that a value was multiplied by, or divided by, last."""
    node: NodeProto | None = graph.producers.get(value)
    while node is not None and _SCALINGS.match(graph, node):
        constants = [v for v in node.input if v in graph.constants.dims]
        yield from (graph.dims.get(v) or graph.constants.dims[v] for v in constants)
        node = next((graph.producers.get(v) for v in node.input if constants and v not in constants), None)


def _differs(dims: Dims, spatial: int) -> bool:
    """Tell whether numbers of this shape differ along axes of space; where it is not known they may."""
    return any(size != 1 for size in dims[-spatial:])
