"""Shapes that a companion is given."""

from onnx import TensorProto, helper

from onnx_deconv.compiler.passes.pattern import ANY, op
from onnx_deconv.compiler.passes.registry import optimisation_pass
from onnx_deconv.compiler.passes.rewriter import Rewriter
from onnx_deconv.operators.builder import BACKWARD

_FILLED = op.ConstantOfShape(ANY)
_ANYTHING = helper.make_tensor("value", TensorProto.BOOL, [1], [False])


@optimisation_pass("shapes")
def shapes(graph: Rewriter) -> None:
    """A shape that is an input becomes that of a tensor made so, where it is reckoned with.

    onnxruntime's CUDA provider leaves arithmetic on shapes to the CPU where a node gives them; those that
    come as inputs it copies to the GPU and back.
    """
    filled = {found.node.input[0]: found.node for found in _FILLED.matches(graph)}
    for given in graph.graph.input:
        tensor, readers = given.type.tensor_type, graph.readers(given.name)
        if tensor.elem_type != TensorProto.INT64 or len(tensor.shape.dim) != 1:
            continue
        if any(n.input[0] == given.name and n is not filled.get(given.name) for n in readers):
            add = graph.builder(f"{BACKWARD}{given.name}")
            shape = add.Shape(add.ConstantOfShape(given.name, value=_ANYTHING))
            graph.insert_before(readers[0], add.nodes)
            for node in readers:
                node.input[:] = [shape if value == given.name else value for value in node.input]
