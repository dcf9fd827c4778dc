"""The nodes of a model that one layer needs, as a model of its own."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import GraphProto, ModelProto, NodeProto, helper
from onnx.numpy_helper import from_array

from onnx_deconv.errors import InputError
from onnx_deconv.model import Model
from onnx_deconv.model.canonical import reads
from onnx_deconv.model.constant_folding import known_numbers
from onnx_deconv.model.protos import copy_of

_SIZES = "tensor(int64)"
"""What an operator takes that is no image: sizes, pads, axes."""


def submodel(model: Model, layer: str, dims: Sequence[int | str], layout: str) -> Model:
    """Return the nodes of a model that a layer needs, as a model for images of another size.

    Parameters
    ----------
    model
        The model; not changed.
    layer
        One of its values; the submodel's output.
    dims
        Batch, height and width: numbers, or names where they are open.
    layout
        ``"NCHW"`` or ``"NHWC"``.

    Raises
    ------
    InputError
        If the layer is inside a local function or a branch.
    """
    (name,) = model.inputs
    shape = list(model.type_of(name).shape or ())
    batch, *sizes = dims
    resized = [batch, shape[1], *sizes] if layout == "NCHW" else [batch, *sizes, shape[3]]
    proto = ModelProto()
    proto.CopyFrom(model.proto)
    kept = _needed(proto.graph, layer)
    if not any(layer in node.output for node in kept):
        raise InputError(f"{layer!r} is inside a function or a branch: choose a layer outside")
    _keep_only(proto.graph, kept)
    _write_numbers_down(proto.graph, model.opset)
    proto.graph.output.append(helper.make_tensor_value_info(layer, model.type_of(layer).dtype or 1, None))
    _resize_input(proto.graph, name, resized)
    return Model(proto, model.files, model.name)


def _needed(graph: GraphProto, value: str) -> list[NodeProto]:
    """Copy the nodes that a value depends on, in the graph's order."""
    producers = {output: k for k, node in enumerate(graph.node) for output in node.output}
    waiting, found = [value], set()
    while waiting:  # some files list their nodes in any order
        number = producers.get(waiting.pop())
        if number is not None and number not in found:
            found.add(number)
            waiting += reads(graph.node[number])
    return [copy_of(graph.node[k]) for k in sorted(found)]


def _keep_only(graph: GraphProto, nodes: Sequence[NodeProto]) -> None:
    del graph.node[:], graph.output[:], graph.value_info[:]
    graph.node.extend(nodes)


def _write_numbers_down(graph: GraphProto, opset: int) -> None:
    """Give operators the sizes and pads as constants that the file computes from constants.

    ONNX's shape inference computes only some of them; where it does not, it forgets which axis is the batch.
    """
    numbers, written = known_numbers(graph), {tensor.name for tensor in graph.initializer}
    for node in graph.node:
        for number, kind in enumerate(_kinds_of_inputs(node, opset)[: len(node.input)]):
            name = node.input[number]
            known = numbers.get(name)
            if kind != _SIZES or known is None or None in known or name in written:
                continue
            node.input[number] = f"{name}/known"
            if node.input[number] not in written:
                written.add(node.input[number])
                graph.initializer.append(from_array(known.astype(np.int64), node.input[number]))


def _kinds_of_inputs(node: NodeProto, opset: int) -> list[str]:
    """Return the element types that an operator takes, by input."""
    if not onnx.defs.has(node.op_type, opset, node.domain):
        return []
    return [each.type_str for each in onnx.defs.get_schema(node.op_type, opset, node.domain).inputs]


def _resize_input(graph: GraphProto, name: str, dims: Sequence[Any]) -> None:
    (info,) = (i for i in graph.input if i.name == name)
    info.CopyFrom(helper.make_tensor_value_info(name, info.type.tensor_type.elem_type, list(dims)))
