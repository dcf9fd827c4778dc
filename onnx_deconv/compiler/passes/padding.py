"""Padding in forms that not every runtime takes."""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray
from onnx import helper

from onnx_deconv.compiler.passes.attributes import absent
from onnx_deconv.compiler.passes.builder import Builder
from onnx_deconv.compiler.passes.pattern import ANY, backward, op, value
from onnx_deconv.compiler.passes.registry import optimisation_pass
from onnx_deconv.compiler.passes.rewriter import Rewriter

_PAD = op.Pad(ANY, value("pads"), mode="constant")
_TRANSPOSED = op.ConvTranspose(auto_pad="NOTSET", output_shape=absent)
_MOST_INPUTS = 3
"""Of a Pad of all axes."""
_TO_THE_END = np.iinfo(np.int64).max


@optimisation_pass("crops")
def crops(graph: Rewriter) -> None:
    """A Pad that takes away becomes a Slice, and a Pad of what it adds as well.

    tract (0.23) takes negative pads for large positive ones.
    """
    for found in _PAD.matches(graph):
        pads = graph.constants.numbers(found.values["pads"])
        if pads is not None and (pads < 0).any() and len(found.node.input) <= _MOST_INPUTS:
            add = graph.builder(found.node.name)
            graph.replace(found.node, add, _cropped(add, found.node.input, pads))


def _cropped(add: Builder, inputs: Sequence[str], pads: NDArray[np.int64]) -> str:
    begins, ends = pads[: len(pads) // 2], pads[len(pads) // 2 :]
    starts, stops = np.maximum(-begins, 0), np.where(ends < 0, ends, _TO_THE_END)
    cut = add.Slice(inputs[0], starts, stops, np.arange(len(begins)))
    return str(add.Pad(cut, np.maximum(pads, 0), *inputs[2:]) if (pads > 0).any() else cut)


@optimisation_pass("trims")
def trims(graph: Rewriter) -> None:
    """A Pad that cuts off what a transposed convolution gives becomes the transposed convolution's own pads.

    Exporters that write padding as nodes of their own (TensorFlow's, EfficientNet's) leave a Pad at each
    filter, at which the signal would leave onnxruntime's blocked layout.
    """
    for found in _PAD.matches(graph):
        cut = graph.constants.numbers(found.values["pads"])
        node = graph.producers.get(found.node.input[0])
        convolution = _TRANSPOSED.match(graph, node) if backward(found) else None
        if not convolution or node is None or cut is None or graph.only_reader(node.output[0]) is None:
            continue
        if cut.max() > 0 or cut.reshape(2, -1)[:, :2].any() or len(found.node.input) > _MOST_INPUTS:
            continue
        begins, ends = -cut.reshape(2, -1)[:, 2:]
        given = np.array(convolution.attributes.get("pads", [0] * 2 * len(begins)), np.int64)
        add = graph.builder(node.name)
        (whole,) = add.copy(node, node.input)
        _set_pads(add, given + np.concatenate([begins, ends]))
        graph.replace(found.node, add, whole)


@optimisation_pass("pads")
def pads(graph: Rewriter) -> None:
    """A transposed convolution with other pads before than after gets the smaller ones, and is cut.

    onnxruntime's CUDA provider has no kernel for it otherwise, and copies its signal to the CPU and back.
    """
    for found in _TRANSPOSED.matches(graph):
        given = np.array(found.attributes.get("pads", []), np.int64)
        begins, ends = given[: len(given) // 2], given[len(given) // 2 :]
        both = np.minimum(begins, ends)
        if (begins == ends).all():
            continue
        add = graph.builder(found.node.name)
        (whole,) = add.copy(found.node, found.node.input)
        _set_pads(add, [*both, *both])
        stops = np.where(ends > both, both - ends, _TO_THE_END)
        axes = np.arange(2, 2 + len(both))
        graph.replace(found.node, add, str(add.Slice(whole, begins - both, stops, axes)))


def _set_pads(add: Builder, numbers: Iterable[int]) -> None:
    node = add.nodes[-1]
    kept = [attribute for attribute in node.attribute if attribute.name != "pads"]
    del node.attribute[:]
    node.attribute.extend([*kept, helper.make_attribute("pads", list(map(int, numbers)))])
