"""Sums where signals meet."""

from onnx_deconv.compiler.passes.pattern import ANY, backward, op
from onnx_deconv.compiler.passes.registry import optimisation_pass
from onnx_deconv.compiler.passes.rewriter import Rewriter

_SUM = op.Sum(ANY, ANY).where(backward)


@optimisation_pass("sums")
def sums(graph: Rewriter) -> None:
    """A sum of several signals becomes additions of two, in the backward pass.

    onnxruntime adds two by all threads, where a Sum is one thread's work, and a convolution takes in the
    addition of its result.

    Measured to help on two threads: EfficientNet-B0 explained 13 %, Inception v3 3 % faster.
    """
    for found in _SUM.matches(graph):
        add = graph.builder(found.node.name)
        total, *others = found.node.input
        for term in others:
            total = add.Add(total, term)
        graph.replace(found.node, add, total)
