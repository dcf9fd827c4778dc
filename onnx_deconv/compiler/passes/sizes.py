"""Arithmetic on sizes that are known."""

from onnx import TensorProto, helper

from onnx_deconv.compiler.passes.registry import optimisation_pass
from onnx_deconv.compiler.passes.rewriter import Rewriter
from onnx_deconv.model.constant_folding import known_numbers
from onnx_deconv.model.shape_inference import infer_shapes

_WHOLE = {TensorProto.INT64, TensorProto.INT32, TensorProto.BOOL}


@optimisation_pass("sizes")
def sizes(graph: Rewriter) -> None:
    """Whole numbers that follow from known sizes become constants: targets of a Reshape, pads, depths.

    onnxruntime computes them itself when it loads a model. Others (TensorRT) want them to be constant.
    """
    view = infer_shapes(graph.model)
    types = {i.name: i.type.tensor_type.elem_type for i in view.graph.value_info}
    numbers = known_numbers(view.graph, {i.name for i in graph.graph.input})
    for node in graph.nodes:
        (*_, value) = node.output
        known = numbers.get(value)
        if known is None or len(node.output) > 1 or not node.input or None in known.reshape(-1).tolist():
            continue
        if types.get(value) in _WHOLE:
            dtype = helper.tensor_dtype_to_np_dtype(types[value])
            graph.bypass(node, graph.constant(known.astype(dtype)))
