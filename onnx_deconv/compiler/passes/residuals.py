"""Additions to what convolutions give, in onnxruntime's blocked layout."""

from collections.abc import Collection, Sequence

import numpy as np
from onnx import NodeProto

from onnx_deconv.compiler.passes.rewriter import BACK, BLOCK, Branch, Rewriter, lowering

_KEEP = {"Relu", "Add", "Mul", "Concat"}
"""Operators that stay in the blocked layout where all that they read is there."""

_PICTURE = 4
"""How many sizes a batch of pictures has."""


@lowering("residuals")
def residuals(graph: Rewriter) -> None:
    """A signal that convolutions' results are added to goes to the blocked layout first, if it is not there.

    There a convolution takes in the addition and the ReLU behind. Elsewhere its result leaves the layout for
    the sum, and the next convolution comes back to it, block after block of a residual network. A depthwise
    convolution with 1 takes the signal there, and the ReLU that it comes from.
    """
    blocked: set[str] = set()
    for node in graph.nodes:
        if _is_blocked(graph, node, blocked):
            blocked.update(node.output)
        elif node.name.startswith(BACK) and (readers := _gaining(graph, node.output[0])):
            blocked.add(_enter(graph, node, readers))


def _is_blocked(graph: Rewriter, node: NodeProto, blocked: Collection[str]) -> bool:
    """Tell whether a node's result is in the blocked layout."""
    if node.op_type not in _KEEP:
        return _fills_blocks(graph, node)
    alike = len({_sizes(graph, value) for value in (*node.input, *node.output)}) == 1
    return all(value in blocked for value in node.input) and (alike or node.op_type == "Concat")


def _fills_blocks(graph: Rewriter, node: NodeProto) -> bool:
    """Tell whether it is a convolution of pictures, of as many channels as whole blocks have."""
    if node.op_type != "Conv" or len(sizes := graph.filter_sizes(node)) != _PICTURE:
        return False
    group = next((a.i for a in node.attribute if a.name == "group"), 1)
    after, before = (d if isinstance(d, int) else 1 for d in sizes[:2])
    whole = before % BLOCK == 0 == after // group % BLOCK
    return whole or (before == 1 and group == after and group % BLOCK == 0)


def _gaining(graph: Rewriter, value: str) -> list[NodeProto]:
    """List who reads a value better from the blocked layout, if there are sums among them to go on in it."""
    sums = [r for r in graph.readers(value) if _takes_in(graph, r, value)]
    return sums and [r for r in graph.readers(value) if r in sums or _reads(graph, r, value)]


def _takes_in(graph: Rewriter, node: NodeProto, value: str) -> bool:
    """Tell whether a node adds this value to a convolution's result, and convolutions go on from the sum."""
    others = [v for v in node.input if v != value]
    sizes = _sizes(graph, value)
    if node.op_type != "Add" or len(others) != 1 or not sizes or sizes != _sizes(graph, others[0]):
        return False
    conv = graph.producers.get(others[0])
    if conv is None or not _fills_blocks(graph, conv) or graph.only_reader(others[0]) is not node:
        return False
    total = node.output[0]
    rectifier = graph.only_reader(total)
    if rectifier is not None and rectifier.op_type == "Relu":
        total = rectifier.output[0]
    return any(r.op_type == "Add" or _reads(graph, r, total) for r in graph.readers(total))


def _reads(graph: Rewriter, node: NodeProto, value: str) -> bool:
    """Tell whether a node is a convolution of this value in the blocked layout."""
    return node.input[0] == value and _fills_blocks(graph, node)


def _enter(graph: Rewriter, node: NodeProto, readers: Sequence[NodeProto]) -> str:
    """Have readers of a node's result read it from the blocked layout; return its name there."""
    value, add = node.output[0], Branch(node.name)
    channels = _sizes(graph, value)[1]
    ones = graph.constant(np.ones((channels, 1, 1, 1)), np.float32)
    if node.op_type == "Relu":
        entered = add("Relu", add("Conv", node.input[0], ones, group=channels))
    else:
        entered = add("Conv", value, ones, group=channels)
    graph.types[entered] = graph.types[value]
    graph.declare(entered, _sizes(graph, value))
    for reader in readers:
        reader.input[:] = [entered if v == value else v for v in reader.input]
    graph.append(node, add.nodes)
    return entered


def _sizes(graph: Rewriter, value: str) -> tuple[int | str, ...]:
    """Return the sizes of a batch of float32 pictures; nothing where one is not known, not even by name."""
    batch, *others = graph.types.get(value, (0, ("",)))[1] or ("",)
    known = batch and graph.sizes(value) and all(isinstance(d, int) and d > 0 for d in others)
    return (batch, *others) if known else ()
