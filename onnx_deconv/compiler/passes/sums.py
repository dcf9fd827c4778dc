"""Sums where signals meet."""

from onnx_deconv.compiler.passes.rewriter import BACK, Branch, Rewriter, lowering


@lowering("sums")
def sums(graph: Rewriter) -> None:
    """A sum of several signals becomes additions of two.

    onnxruntime adds two by all threads, where a Sum is one thread's work, and a convolution before takes an
    addition in.
    """
    for node in graph.nodes:
        if node.op_type == "Sum" and len(node.input) > 1 and node.name.startswith(BACK):
            add = Branch(node.name)
            total, *others = node.input
            for term in others:
                total = add("Add", total, term)
            graph.replace(node, add.nodes)
