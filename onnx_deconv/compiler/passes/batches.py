"""Unpooling where the switches come from the same batch."""

from onnx_deconv.compiler.passes.operations import ZEROS
from onnx_deconv.compiler.passes.pattern import ANY, backward, op, value
from onnx_deconv.compiler.passes.registry import optimisation_pass
from onnx_deconv.compiler.passes.rewriter import Rewriter

_INDICES = op.MaxPool(ANY).named("pool").giving(1)
_OPERANDS = op.Flatten(ZEROS.named("zeros")), op.Flatten(op.Mod(_INDICES, ANY)), op.Flatten(value("signal"))
_SUM = op.ScatterElements(*_OPERANDS, reduction="add", axis=1)
_UNPOOLING = op.Reshape(_SUM, value("shape")).where(backward)


@optimisation_pass("batches")
def batches(graph: Rewriter) -> None:
    """Unpool a whole batch by a MaxPool's own indices, which count over it.

    A pair counts switches within each image, as its halves may be batched apart. In one graph they are not: a
    node for each pool is saved, which on a GPU would read the image's size from the CPU.
    """
    for found in _UNPOOLING.matches(graph):
        add = graph.builder(found.node.name)
        operands = found.nodes["zeros"].output[0], found.nodes["pool"].output[1], found.values["signal"]
        lines = [add.Reshape(operand, [-1]) for operand in operands]
        whole = add.ScatterElements(*lines, reduction="add")
        graph.replace(found.node, add, add.Reshape(whole, found.values["shape"]))
