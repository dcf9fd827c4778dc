"""The part of a model that one layer needs."""

from collections.abc import Sequence
from typing import Any

from onnx import ModelProto, helper

from onnx_deconv.errors import InputError
from onnx_deconv.model import Model
from onnx_deconv.model.canonical import reads
from onnx_deconv.model.protos import copy_of


def cut_to(model: Model, layer: str, dims: Sequence[int | str], layout: str) -> Model:
    """Return the part of a model that a layer needs, for images of another size.

    Parameters
    ----------
    model
        The model.
    layer
        One of its values.
    dims
        Batch, height and width: numbers, or names where they are open.
    layout
        Where the image's channels are.

    Raises
    ------
    InputError
        If the layer is not one of the graph's own values.
    """
    (name,) = model.inputs
    shape = list(model.type_of(name).shape or ())
    batch, *sizes = dims
    return _resized(
        model, layer, [batch, shape[1], *sizes] if layout == "NCHW" else [batch, *sizes, shape[3]]
    )


def _resized(model: Model, layer: str, dims: Sequence[Any]) -> Model:
    proto = ModelProto()
    proto.CopyFrom(model.proto)
    graph = proto.graph
    producers = {value: k for k, node in enumerate(graph.node) for value in node.output}
    waiting, found = [layer], set()
    while waiting:  # some files list their nodes in any order
        number = producers.get(waiting.pop())
        if number is not None and number not in found:
            found.add(number)
            waiting += reads(graph.node[number])
    kept = [copy_of(graph.node[k]) for k in sorted(found)]
    if not any(layer in n.output for n in kept):
        raise InputError(f"{layer!r} lies inside a function or a branch: choose a layer outside")
    del graph.node[:], graph.output[:], graph.value_info[:]
    graph.node.extend(kept)
    graph.output.append(helper.make_tensor_value_info(layer, model.type_of(layer).dtype or 1, None))
    for info in graph.input:
        if info.name in model.inputs:
            info.CopyFrom(
                helper.make_tensor_value_info(info.name, info.type.tensor_type.elem_type, list(dims))
            )
    cut = Model(proto, model.folder, model.name)
    cut.spool = model.spool
    return cut
