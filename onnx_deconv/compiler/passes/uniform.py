"""Pictures of one value for each channel, as a global average pool sends back."""

from collections.abc import Collection, Sequence

from onnx import NodeProto, helper

from onnx_deconv.compiler.passes.parts import is_pointwise
from onnx_deconv.compiler.passes.rewriter import Branch, Rewriter, lowering

_ALIKE = {"Relu", "LeakyRelu", "BatchNormalization"}
"""Operators that do the same to all of a channel's values."""


@lowering("uniform")
def uniform(graph: Rewriter) -> None:
    """What is done alike to a picture of one value per channel is done to that value; then it is enlarged.

    An Expand of (N, C, 1, 1) moves behind ReLUs, scalings, 1×1 convolutions and splits of channels, as far as
    there are any: a 7×7 picture's 1×1 convolution costs 49 times less. A sum enlarges its terms by itself.
    """
    small: dict[str, tuple[str, str]] = {}  # a picture, and the value and the shape that it is expanded from
    for node in graph.nodes:
        if node.op_type == "Expand" and _from_one(graph, node):
            ones = [1, 1, *(graph.sizes(node.output[0]) or [])]
            small[node.output[0]] = node.input[0], graph.constant(ones)
        elif node.op_type in ("Add", "Sum") and _has_whole(graph, node, small):
            node.input[:] = [small.get(value, (value, ""))[0] for value in node.input]
        elif node.input and node.input[0] in small and _is_alike(graph, node):
            value, shape = small[node.input[0]]
            add = Branch(node.name)
            made = add.add(node.op_type, value, *node.input[1:], outputs=len(node.output))
            add.nodes[0].attribute.extend(node.attribute)
            for before, after in zip(made, node.output, strict=True):
                small[after] = before, shape
                add.nodes.append(helper.make_node("Expand", [before, shape], [after], f"{after}/enlarged"))
            graph.replace(node, [*add.nodes[:1], *add.nodes[2:], add.nodes[1]])


def _from_one(graph: Rewriter, node: NodeProto) -> bool:
    """Tell whether an Expand enlarges pictures of one value, to known sizes, and no batch or channels."""
    before, after = (graph.types.get(v, (0, ()))[1] for v in (node.input[0], node.output[0]))
    sizes = graph.sizes(node.output[0])
    return bool(sizes) and _is_one(before) and len(before) == len(after) and before[:2] == after[:2]


def _has_whole(graph: Rewriter, node: NodeProto, small: Collection[str]) -> bool:
    """Tell whether one of a sum's terms has the sum's sizes, so that others need not be enlarged to them."""
    sizes = graph.sizes(node.output[0])
    return bool(sizes) and any(graph.sizes(v) == sizes for v in node.input if v not in small)


def _is_one(dims: Sequence[int | str]) -> bool:
    return len(dims) > 2 and all(d == 1 for d in dims[2:])  # noqa: PLR2004


def _is_alike(graph: Rewriter, node: NodeProto) -> bool:
    """Tell whether a node does to one value what it does to a picture of that value."""
    if node.op_type in ("Mul", "Div"):
        other = graph.dims.get(node.input[1])
        picture = graph.types[node.input[0]][1]
        return other is not None and (other == () or (len(other) == len(picture) and _is_one(other)))
    if node.op_type == "Split":
        return any(a.name == "axis" and a.i == 1 for a in node.attribute)
    return node.op_type in _ALIKE or is_pointwise(graph, node)
