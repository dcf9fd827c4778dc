"""The nodes of a model that one layer needs, as a model of its own."""

from collections.abc import Sequence
from typing import Any

from onnx import GraphProto, ModelProto, NodeProto, helper

from onnx_deconv.errors import InputError
from onnx_deconv.model import Model
from onnx_deconv.model.canonical import reads
from onnx_deconv.model.protos import copy_of


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


def _resize_input(graph: GraphProto, name: str, dims: Sequence[Any]) -> None:
    (info,) = (i for i in graph.input if i.name == name)
    info.CopyFrom(helper.make_tensor_value_info(name, info.type.tensor_type.elem_type, list(dims)))
