"""Transposed convolutions that another operator does faster."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from onnx import NodeProto, helper

from onnx_deconv.lower.rewriter import Branch, Rewriter, lowering

_PLAIN = {"dilations", "group", "kernel_shape", "pads", "strides", "output_padding"}
_FEW = 16
"""Output channels below which a transposed convolution stays one: its product is small, its sum cheap."""


@lowering("filters")
def filters(graph: Rewriter) -> None:
    """A transposed convolution in steps of 1 becomes a convolution with the filter turned around.

    The filter is turned in the graph, from the weight that the forward model has: no file stores it
    twice, and onnxruntime turns it once, when the model is loaded.
    """
    for node in graph.nodes:
        if node.op_type != "ConvTranspose" or node.input[1] not in graph.dims:
            continue
        attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        weight = graph.dims[node.input[1]]
        pads = _turned_pads(attributes, weight[2:])
        group = attributes.get("group", 1)
        depthwise = weight[0] == group
        if pads is None or not (depthwise or weight[1] * group >= _FEW):
            continue
        _convolve(graph, node, node.input[0], pads)


def _convolve(
    graph: Rewriter, node: NodeProto, signal: str, pads: Sequence[int], before: Sequence[NodeProto] = ()
) -> None:
    """Put a convolution with the filter turned around in the place of a transposed one."""
    kept = [a for a in node.attribute if a.name in ("dilations", "group", "kernel_shape")]
    group = next((a.i for a in kept if a.name == "group"), 1)
    turned, name = _turned(graph, node.input[1], graph.dims[node.input[1]], group)
    conv = helper.make_node("Conv", [signal, name, *node.input[2:]], [""], node.name, pads=pads)
    conv.attribute.extend(kept)
    graph.replace(node, [*turned, *before, conv])


def _turned_pads(attributes: Mapping[str, Any], kernel: Sequence[int]) -> list[int] | None:
    """Return the padding of the convolution; ``None`` where there is no such convolution."""
    stepped = any(s != 1 for s in attributes.get("strides", ())) or any(attributes.get("output_padding", ()))
    return None if stepped else _stuffed_pads(attributes, kernel)


def _turned(graph: Rewriter, name: str, weight: Sequence[int], group: int) -> tuple[list[NodeProto], str]:
    """Swap a filter's channels, within each group, and turn its positions around."""
    nodes: list[NodeProto] = []

    def add(operator: str, *inputs: str, **attributes: Any) -> None:
        source = nodes[-1].output[0] if nodes else name
        output = f"lowered/{name}/{operator}_{len(nodes)}/{group}"
        nodes.append(helper.make_node(operator, [source, *inputs], [output], output, **attributes))

    n = len(weight) - 2
    a, b = weight[0] // group, weight[1]
    if any(k > 1 for k in weight[2:]):
        back = [graph.constant([number] * n) for number in (-1, np.iinfo(np.int64).min, -1)]
        add("Slice", back[0], back[1], graph.constant(range(2, 2 + n)), back[2])
    if a > 1 or b > 1:
        positions = list(range(3, 3 + n))
        if group > 1:
            add("Reshape", graph.constant([group, a, b, *weight[2:]]))
            add("Transpose", perm=[0, 2, 1, *positions])
            add("Reshape", graph.constant([group * b, a, *weight[2:]]))
        else:
            add("Transpose", perm=[1, 0, *range(2, 2 + n)])
    known = graph.producers
    fresh = [n for n in nodes if n.output[0] not in known]
    known.update({n.output[0]: n for n in fresh})
    return fresh, nodes[-1].output[0] if nodes else name


@lowering("depthwise")
def depthwise(graph: Rewriter) -> None:
    """A depthwise transposed convolution in larger steps becomes zeros between the signal, and a convolution.

    onnxruntime's transposed convolution goes channel by channel; its depthwise convolution does not. The
    zeros come by a transposed convolution of all channels as if they were pictures of a batch.
    """
    for node in graph.nodes:
        if node.op_type != "ConvTranspose" or node.input[1] not in graph.dims:
            continue
        attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        weight, sizes = graph.dims[node.input[1]], graph.sizes(node.input[0])
        strides, one_each = attributes.get("strides", ()), (attributes.get("group", 1), 1)
        if weight[:2] != one_each or sizes is None:
            continue
        pads = _stuffed_pads(attributes, weight[2:])
        if pads is None or len(set(strides)) != 1 or strides[0] == 1:
            continue
        stuffed = _stuffed(graph, node, sizes, int(strides[0]), weight[0])
        _convolve(graph, node, stuffed[-1].output[0], pads, stuffed)


def _stuffed(
    graph: Rewriter, node: NodeProto, sizes: Sequence[int], step: int, channels: int
) -> list[NodeProto]:
    """Put a signal's values ``step`` apart, zeros in between and after the last."""
    first = np.zeros((1, 1, *[step] * len(sizes)), np.float32)
    first.flat[0] = 1
    add = Branch(f"{node.name}/apart")
    each = add("Reshape", node.input[0], graph.constant([-1, 1, *sizes]))
    apart = add("ConvTranspose", each, graph.constant(first, np.float32), strides=[step] * len(sizes))
    add("Reshape", apart, graph.constant([-1, channels, *(d * step for d in sizes)]))
    return add.nodes


def _stuffed_pads(attributes: Mapping[str, Any], kernel: Sequence[int]) -> list[int] | None:
    """Return the padding of the convolution; ``None`` where there is no such convolution."""
    n = len(kernel)
    if not set(attributes) <= _PLAIN:
        return None
    dilations, strides = attributes.get("dilations", [1] * n), attributes.get("strides", [1] * n)
    given, more = attributes.get("pads", [0] * (2 * n)), attributes.get("output_padding", [0] * n)
    around = [(k - 1) * d for k, d in zip(kernel, dilations, strict=True)]
    begins = [a - p for a, p in zip(around, given[:n], strict=True)]
    ends = [a - p + o - (s - 1) for a, p, o, s in zip(around, given[n:], more, strides, strict=True)]
    return begins + ends if min(begins + ends) >= 0 else None
