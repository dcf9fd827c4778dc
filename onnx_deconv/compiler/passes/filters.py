"""Transposed convolutions that another operator does faster."""

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any, NamedTuple

import numpy as np
from onnx import NodeProto, helper

from onnx_deconv.compiler.passes.parts import followed, interleaved
from onnx_deconv.compiler.passes.rewriter import Branch, Rewriter, attributes_of, lowering

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
        attributes = attributes_of(node)
        weight = graph.dims[node.input[1]]
        pads = _turned_pads(attributes, weight[2:])
        group = attributes.get("group", 1)
        depthwise = weight[0] == group
        if pads is None or not (depthwise or weight[1] * group >= _FEW):
            continue
        turned, name = _turned(graph, node.input[1], weight, group)
        conv = helper.make_node("Conv", [node.input[0], name, *node.input[2:]], [""], node.name, pads=pads)
        conv.attribute.extend(a for a in node.attribute if a.name in ("dilations", "group", "kernel_shape"))
        graph.replace(node, [*turned, conv])


def _turned_pads(attributes: Mapping[str, Any], kernel: Sequence[int]) -> list[int] | None:
    """Return the padding of the convolution; ``None`` where there is no such convolution."""
    stepped = any(s != 1 for s in attributes.get("strides", ())) or any(attributes.get("output_padding", ()))
    if stepped or not set(attributes) <= _PLAIN:
        return None
    n = len(kernel)
    dilations, given = attributes.get("dilations", [1] * n), attributes.get("pads", [0] * (2 * n))
    pads = [(k - 1) * d - p for k, d, p in zip([*kernel] * 2, [*dilations] * 2, given, strict=True)]
    return pads if min(pads) >= 0 else None


def _turned(graph: Rewriter, name: str, weight: Sequence[int], group: int) -> tuple[list[NodeProto], str]:
    """Swap a filter's channels, within each group, and turn its positions around."""
    nodes: list[NodeProto] = []

    def add(operator: str, *inputs: str, **attributes: Any) -> None:
        source = nodes[-1].output[0] if nodes else name
        output = f"optimised/{name}/{operator}_{len(nodes)}/{group}"
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


class _Part(NamedTuple):
    """Along one axis, every so many values of a transposed convolution: a convolution in steps of 1."""

    last: int
    """The filter's last number that takes part; the others lie before it, as many apart."""
    begin: int
    """Padding."""
    end: int


@lowering("depthwise")
def depthwise(graph: Rewriter) -> None:
    """A depthwise transposed convolution in larger steps becomes a convolution for each part of the picture.

    onnxruntime's transposed convolution goes channel by channel; its depthwise convolution does not. In steps
    of 2 each part, every other row and column, has a quarter of the filter's numbers. The parts are put
    together where the channels are fewest: behind the ReLU and the 1×1 convolution that follow.
    """
    for node in graph.nodes:
        lines = _lines(graph, node) if node.op_type == "ConvTranspose" else []
        if not lines:
            continue
        step, channels = len(lines[0]), graph.dims[node.input[1]][0]
        add = Branch(node.name)
        made = [_part(graph, add, node, line) for line in product(*lines)]
        value, made, channels = followed(graph, node.output[0], add, made, channels)
        interleaved(add, graph, made, channels, graph.sizes(node.output[0]) or [], step)
        graph.replace(graph.producers[value], add.nodes)


def _lines(graph: Rewriter, node: NodeProto) -> list[list[_Part]]:
    """Take a depthwise transposed convolution in equal steps apart; nothing where that cannot be done."""
    attributes = attributes_of(node)
    weight, sizes, whole = graph.dims.get(node.input[1]), *map(graph.sizes, (node.input[0], node.output[0]))
    step, *others = attributes.get("strides", [1])
    if not weight or not sizes or not whole or step == 1 or {step, *others} != {step}:
        return []
    if weight[:2] != (attributes.get("group", 1), 1) or min(weight[2:]) < step:
        return []
    if not set(attributes) <= _PLAIN or any(d != 1 for d in attributes.get("dilations", ())):
        return []
    pads = attributes.get("pads", [0] * len(sizes))
    axes = zip(weight[2:], sizes, whole, pads, strict=False)
    lines = [[_part_of(phase, step, *axis) for phase in range(step)] for axis in axes]
    return lines if min(n for line in lines for part in line for n in part) >= 0 else []


def _part_of(phase: int, step: int, kernel: int, size: int, whole: int, pad: int) -> _Part:
    """Of the result's values ``phase``, ``phase + step``, ...: which of the filter's numbers make them."""
    first = (phase + pad) % step
    count = (kernel - first + step - 1) // step
    last = first + (count - 1) * step
    begin = (last - phase - pad) // step
    return _Part(last, begin, -(-whole // step) - size - begin + count - 1)


def _part(graph: Rewriter, add: Branch, node: NodeProto, line: Sequence[_Part]) -> str:
    n, back = len(line), np.iinfo(np.int64).min
    step = next(a.ints[0] for a in node.attribute if a.name == "strides")
    cut = [[part.last for part in line], [back] * n, range(2, 2 + n), [-step] * n]
    filtered = add("Slice", node.input[1], *map(graph.constant, cut))
    pads = [part.begin for part in line] + [part.end for part in line]
    return add(
        "Conv", node.input[0], filtered, *node.input[2:], group=graph.dims[node.input[1]][0], pads=pads
    )
