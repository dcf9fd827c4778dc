"""Numbers that differ from place to place, and filters that read what was multiplied by them."""

from collections.abc import Iterator

import numpy as np
from onnx import NodeProto, helper

from onnx_deconv.compiler.passes.pattern import op
from onnx_deconv.compiler.passes.registry import optimisation_pass
from onnx_deconv.compiler.passes.rewriter import Dims, Rewriter

_SCALINGS = op.Mul() | op.Div()


@optimisation_pass("places")
def places(graph: Rewriter) -> None:
    """Between a multiplication by other numbers at other places and a convolution stands a maximum.

    It is that with the lowest number, and changes nothing.

    OpenVINO (2026.4) multiplies the filter in place of what it reads wherever the numbers' shape fits the
    filter's: it takes places of a map of 3×3 for places of a 3×3 filter. Average pools that do not count
    their padding divide by such numbers: explanations by LRP of networks with small maps were 28 % off.
    """
    for found in op.Conv().matches(graph):
        read = found.node.input[0]
        spatial = len(graph.filter_shape(found.node)) - len("OI")
        dtype = graph.types.get(read, (0, ()))[0]
        if dtype and any(_differs(dims, spatial) for dims in _factors(graph, read)):
            add = graph.builder(found.node.name)
            real = helper.tensor_dtype_to_np_dtype(dtype)
            found.node.input[0] = add.Max(read, np.array(np.finfo(real).min, real))
            graph.insert_before(found.node, add.nodes)


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
