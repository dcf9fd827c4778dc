"""Padding in forms that not every runtime takes."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from onnx_deconv.compiler.passes.attributes import absent
from onnx_deconv.compiler.passes.builder import Builder
from onnx_deconv.compiler.passes.pattern import ANY, op, value
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


def _set_pads(add: Builder, numbers: Sequence[int]) -> None:
    for attribute in add.nodes[-1].attribute:
        if attribute.name == "pads":
            attribute.ints[:] = numbers
