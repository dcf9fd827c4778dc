"""Forms that TensorRT's parser takes, in place of others that say the same."""

from onnx import TensorProto

from onnx_deconv.compiler.passes.pattern import ABSENT, ANY, op, value
from onnx_deconv.compiler.passes.registry import optimisation_pass
from onnx_deconv.compiler.passes.rewriter import Rewriter

_RESIZE = op.Resize(ANY, ABSENT, ABSENT, value("sizes"))
_BYTES = op.Identity(op.Cast(value("numbers"), to=TensorProto.UINT8))


@optimisation_pass("axes")
def axes(graph: Rewriter) -> None:
    """A Resize that is told the sizes of its last axes is told those of all.

    TensorRT's parser (TensorRT for RTX 1.7) takes sizes for those of the first axes.
    """
    for found in _RESIZE.matches(graph):
        given = found.attributes.get("axes")
        rank = len(graph.shape(found.node.input[0]))
        if not given or list(given) != list(range(rank - len(given), rank)):
            continue
        add = graph.builder(found.node.name)
        first = add.Slice(add.Shape(found.node.input[0]), [0], [rank - len(given)])
        sizes = add.Concat(first, found.values["sizes"], axis=0)
        how = {name: known for name, known in found.attributes.items() if name != "axes"}
        graph.replace(found.node, add, add.Resize(found.node.input[0], "", "", sizes, **how))


@optimisation_pass("bytes")
def bytes_(graph: Rewriter) -> None:
    """Bytes under another name are made under that name: TensorRT has them at its border alone."""
    for found in _BYTES.matches(graph):
        add = graph.builder(found.node.name)
        graph.replace(found.node, add, add.Cast(found.values["numbers"], to=TensorProto.UINT8))
