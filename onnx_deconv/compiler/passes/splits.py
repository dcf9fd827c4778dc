"""Splits that a convolution can do by itself."""

from itertools import accumulate, pairwise

from onnx import NodeProto

from onnx_deconv.compiler.passes.rewriter import Branch, Rewriter, attributes_of, lowering


@lowering("splits")
def splits(graph: Rewriter) -> None:
    """A convolution whose channels are split becomes one for each part.

    In onnxruntime a Split takes the signal out of the blocked layout, with the ReLU that follows.
    The filter is cut in the graph, when the model is loaded.
    """
    for node in graph.nodes:
        conv = graph.producers.get(node.input[0]) if node.op_type == "Split" else None
        if conv is None or graph.only_reader(node.input[0]) is not node or not _plain(graph, conv):
            continue
        sizes = _sizes(graph, node)
        if sizes:
            graph.replace(node, _parts(graph, node, conv, sizes))


def _plain(graph: Rewriter, conv: NodeProto) -> bool:
    """Tell whether it is a convolution of all channels with all, of pictures, without a bias."""
    attributes = attributes_of(conv)
    return (
        conv.op_type == "Conv"
        and len(conv.input) == 2  # noqa: PLR2004
        and attributes.get("group", 1) == 1
        and graph.sizes(conv.output[0]) is not None
    )


def _sizes(graph: Rewriter, node: NodeProto) -> list[int]:
    """Return how many channels each part has; nothing where that is not known, or others are split."""
    axis = next((a.i for a in node.attribute if a.name == "axis"), 0)
    found = [d for v in node.output for d in graph.types.get(v, (0, ()))[1][1:2] if isinstance(d, int)]
    return found if axis == 1 and len(found) == len(node.output) else []


def _parts(graph: Rewriter, node: NodeProto, conv: NodeProto, sizes: list[int]) -> list[NodeProto]:
    add = Branch(node.name)
    for output, ends in zip(node.output, pairwise(accumulate(sizes, initial=0)), strict=True):
        cut = [graph.constant([number]) for number in (*ends, 0)]
        add("Conv", conv.input[0], add("Slice", conv.input[1], *cut))
        add.nodes[-1].attribute.extend(conv.attribute)
        add.nodes[-1].output[0] = output
    # The first part last: the last node gives what the first output was.
    return [*add.nodes[2:], *add.nodes[:2]]
