"""A picture taken apart: along each axis every second value, or every third, from 0, from 1 and so on.

What is done to all values alike can be done to the parts, which a runtime may keep in a layout of its own;
putting them together costs least where the channels are fewest.
"""

from collections.abc import Sequence

from onnx import NodeProto, helper

from onnx_deconv.lower.rewriter import Branch, Rewriter


def interleaved(
    add: Branch, graph: Rewriter, parts: Sequence[str], channels: int, sizes: Sequence[int], step: int
) -> None:
    """Put a picture together; the last node gives it.

    Along the last axis first, the parts' values side by side by a Concat: of all ways measured the fastest.

    Parameters
    ----------
    add, graph
        Where the nodes go, and the constants.
    parts
        Of equal sizes, those that differ in where they begin along the last axis side by side.
    channels, sizes
        The picture's; what the parts have beyond is cut off.
    step
        How far apart a part's values lie.
    """
    shape = [-1, channels, *(-(-d // step) for d in sizes)]
    for axis in reversed(range(2, len(shape))):
        shape[axis] *= step
        behind, flat = graph.constant([axis + 1]), graph.constant(shape)
        apart = [add("Unsqueeze", part, behind) for part in parts]
        lines = [apart[k : k + step] for k in range(0, len(apart), step)]
        parts = [add("Reshape", add("Concat", *line, axis=axis + 1), flat) for line in lines]
    if shape[2:] != list(sizes):
        ends = [graph.constant(line) for line in ([0] * len(sizes), sizes, range(2, len(shape)))]
        add("Slice", parts[0], *ends)


def followed(
    graph: Rewriter, node: NodeProto, add: Branch, parts: list[str], channels: int
) -> tuple[NodeProto, list[str], int]:
    """Do to the parts what is done to the whole: ReLUs, and 1×1 convolutions that leave no more channels.

    Returns
    -------
    tuple
        The node whose result the parts are now, the parts, and how many channels they have.
    """
    while (reader := graph.only_reader(node.output[0])) is not None:
        left: int | str = channels
        if is_pointwise(graph, reader):
            left, *_ = graph.filter_sizes(reader)
        elif reader.op_type != "Relu":
            break
        if not isinstance(left, int) or left > channels:
            break
        parts = [add(reader.op_type, part, *reader.input[1:]) for part in parts]
        node, channels = reader, left
    return node, parts, channels


def is_pointwise(graph: Rewriter, node: NodeProto) -> bool:
    """Tell whether a node is a 1×1 convolution of all channels with all."""
    attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    stepped = any(s != 1 for s in attributes.get("strides", ())) or any(attributes.get("pads", ()))
    if node.op_type != "Conv" or stepped or attributes.get("group", 1) != 1 or "auto_pad" in attributes:
        return False
    return all(k == 1 for k in graph.filter_sizes(node)[2:])
