"""Weights that a convolution and a transposed convolution share."""

from onnx import TensorProto

from onnx_deconv.compiler.passes.pattern import ANY, op, value
from onnx_deconv.compiler.passes.registry import optimisation_pass
from onnx_deconv.compiler.passes.rewriter import Rewriter

_FORWARD = op.Conv(ANY, value("weight"))
_BACK = op.ConvTranspose(ANY, value("weight"))


@optimisation_pass("copies")
def copies(graph: Rewriter) -> None:
    """A transposed convolution gets a copy of a weight with as many inputs as outputs.

    OpenVINO (2026.4) computes one of both wrongly where they share such a weight: explanations of a
    ResNet-18, of the embedded model and of a CIFAR-10 network are 79 to 99 % off then.
    """
    read = {found.values["weight"] for found in _FORWARD.matches(graph)}
    stored = {t.name: t for t in graph.graph.initializer}
    copied: dict[str, str] = {}
    for found in _BACK.matches(graph):
        name = found.values["weight"]
        tensor = stored.get(name)
        if name not in read or tensor is None or tensor.dims[0] != tensor.dims[1]:
            continue
        if name not in copied:
            copy = TensorProto()
            copy.CopyFrom(tensor)
            copy.name = copied[name] = graph.free(f"{name}/transposed")
            graph.graph.initializer.append(copy)
        found.node.input[1] = copied[name]
