"""Depthwise transposed convolutions with larger strides."""

from collections.abc import Sequence
from itertools import product
from typing import NamedTuple

import numpy as np

from onnx_deconv.compiler.passes.attributes import ones
from onnx_deconv.compiler.passes.blocked_layout import BlockedBuilder
from onnx_deconv.compiler.passes.builder import Builder
from onnx_deconv.compiler.passes.operations import transposed_convolution
from onnx_deconv.compiler.passes.pattern import Match
from onnx_deconv.compiler.passes.polyphase import Polyphase, interleaved, pointwise_applied
from onnx_deconv.compiler.passes.registry import optimisation_pass
from onnx_deconv.compiler.passes.rewriter import Rewriter


class _Phase(NamedTuple):
    """Along one axis, one phase of a transposed convolution's result: a convolution with stride 1."""

    last: int
    """The last of the filter's positions that take part; the others come before, a stride apart each."""
    begin: int
    """Padding."""
    end: int


def _is_depthwise(found: Match) -> bool:
    """Tell whether each channel has a filter of its own, which no stride skips."""
    channels, each, *kernel = found.graph.dims[found.values["weight"]]
    group, stride = found.attributes.get("group", 1), found.attributes["strides"][0]
    return (channels, each) == (group, 1) and all(int(k) >= stride for k in kernel)


_LARGEST_STRIDE = 4
"""A pool over all of a map has one phase for each of its positions, each a node."""


def _equal_and_small(strides: Sequence[int] | None) -> bool:
    return strides is not None and len(set(strides)) == 1 < strides[0] <= _LARGEST_STRIDE


_DEPTHWISE = transposed_convolution(strides=_equal_and_small, dilations=ones).where(_is_depthwise)


@optimisation_pass("depthwise")
def depthwise(graph: Rewriter) -> None:
    """A depthwise transposed convolution with a larger stride becomes a convolution for each of its phases.

    onnxruntime's transposed convolution goes channel by channel; its depthwise convolution does not. With
    stride 2 each of four phases has a quarter of the filter's numbers. They are interleaved where the
    channels are fewest: after the ReLU and the 1×1 convolution that follow.

    Measured to help MobileNetV2 and EfficientNet-B0: without it an explanation takes 22 % and 14 % longer.
    """
    for found in _DEPTHWISE.matches(graph):
        axes, stride = _axes(found), found.attributes["strides"][0]
        if not axes or min(number for axis in axes for phase in axis for number in phase) < 0:
            continue
        output, channels = found.node.output[0], int(graph.dims[found.values["weight"]][0])
        add = BlockedBuilder(graph, found.node.name, channels)
        made = [_convolved(add, found, phase, stride) for phase in product(*axes)]
        maps = Polyphase(output, made, channels)
        maps = pointwise_applied(add, maps)
        result = interleaved(add, maps, graph.sizes(output) or [], stride)
        graph.replace(graph.producers[maps.value], add, result)


def _axes(found: Match) -> list[list[_Phase]]:
    """Return the phases along each axis; nothing where a size is not known."""
    graph, node, attributes = found.graph, found.node, found.attributes
    sizes, results = graph.sizes(node.input[0]), graph.sizes(node.output[0])
    if not sizes or not results:
        return []
    stride, *_ = attributes["strides"]
    kernel = [int(k) for k in graph.dims[node.input[1]][2:]]
    each = zip(kernel, sizes, results, attributes.get("pads", [0] * len(sizes)), strict=False)
    return [[_phase(k, stride, *axis) for k in range(stride)] for axis in each]


def _phase(phase: int, stride: int, kernel: int, size: int, result: int, pad: int) -> _Phase:
    """Of the result's values ``phase``, ``phase + stride``, ...: which of the filter's numbers make them."""
    first = (phase + pad) % stride
    count = (kernel - first + stride - 1) // stride
    last = first + (count - 1) * stride
    begin = (last - phase - pad) // stride
    return _Phase(last, begin, -(-result // stride) - size - begin + count - 1)


def _convolved(add: Builder, found: Match, axes: Sequence[_Phase], stride: int) -> str:
    """Convolve the signal with the filter's numbers of one phase, rotated."""
    n, lowest = len(axes), np.iinfo(np.int64).min
    signal, weight, *bias = found.node.input
    taken = add.Slice(weight, [axis.last for axis in axes], [lowest] * n, range(2, 2 + n), [-stride] * n)
    pads = [axis.begin for axis in axes] + [axis.end for axis in axes]
    return str(add.Conv(signal, taken, *bias, group=add.graph.dims[weight][0], pads=pads))
