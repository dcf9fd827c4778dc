"""The nodes of a model that some layers need, as a model of its own; read once for all layers of an atlas."""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import onnx
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper
from onnx.numpy_helper import from_array

from onnx_deconv.errors import DeconvError, InputError
from onnx_deconv.model import Model
from onnx_deconv.model.canonical import reads
from onnx_deconv.model.constant_folding import known_numbers
from onnx_deconv.model.protos import copy_of
from onnx_deconv.receptive import Raster, ReceptiveField, rasters, receptive_fields

_SIZES = "tensor(int64)"
"""What an operator takes that is no image: sizes, pads, axes."""


Dims = Sequence[int | str]
"""Batch, height and width: numbers, or names where they are open."""


class Submodels:
    """What some layers of a model need, as models for images of other sizes, each of which is read once.

    Parameters
    ----------
    model
        The model; not changed.
    layers
        Its values.
    layout
        ``"NCHW"`` or ``"NHWC"``.
    """

    def __init__(self, model: Model, layers: Sequence[str], layout: str) -> None:
        self._model, self._layers, self._layout = model, list(dict.fromkeys(layers)), layout
        self._read: dict[tuple[Any, ...], Placed | None] = {}

    def of(self, layer: str, dims: Dims) -> "Placed":
        """Return a model that has a layer, for images of these sizes.

        Parameters
        ----------
        layer
            The layer.
        dims
            Batch, height and width.

        Raises
        ------
        InputError
            If the layer is inside a local function or a branch.
        """
        together = self._together(tuple(dims))
        if together is None or together.model.type_of(layer).shape is None:
            # What another layer needs may not go with these sizes, which is no fault of this one.
            return Placed(submodel(self._model, [layer], dims, self._layout), [layer], self._layout)
        return together

    def _together(self, dims: tuple[int | str, ...]) -> "Placed | None":
        """Return the model that has all layers; ``None`` where there is none for such images."""
        if dims not in self._read:
            try:
                model = submodel(self._model, self._layers, dims, self._layout)
                self._read[dims] = Placed(model, self._layers, self._layout)
            except DeconvError:
                self._read[dims] = None
        return self._read[dims]


class Placed:
    """A model, and how its values are placed over the image.

    Parameters
    ----------
    model
        The model.
    layers
        The layers that it was made for.
    layout
        ``"NCHW"`` or ``"NHWC"``.
    """

    def __init__(self, model: Model, layers: Sequence[str], layout: str) -> None:
        self.model, self._layers, self._layout = model, layers, layout

    @cached_property
    def fields(self) -> dict[str, ReceptiveField]:
        """The layers' receptive fields."""
        return receptive_fields(self.model, self._layers, layout=self._layout)

    @cached_property
    def _rasters(self) -> dict[str, Raster]:
        return rasters(self.model, layout=self._layout)

    def below(self, layer: str) -> dict[str, Raster]:
        """Return the rasters of a layer and of all values that it is computed from."""
        waiting, needed = [layer], {layer}
        while waiting:
            node = self.model.producers.get(waiting.pop())
            found = {v.name for v in (*node.inputs, *node.outputs)} - needed if node is not None else set()
            needed |= found
            waiting += found
        return {value: raster for value, raster in self._rasters.items() if value in needed}


def submodel(model: Model, layers: Sequence[str], dims: Dims, layout: str) -> Model:
    """Return the nodes of a model that some layers need, as a model for images of another size.

    Parameters
    ----------
    model
        The model; not changed.
    layers
        Some of its values; those that no other needs are the submodel's outputs.
    dims
        Batch, height and width.
    layout
        ``"NCHW"`` or ``"NHWC"``.

    Raises
    ------
    InputError
        If a layer is inside a local function or a branch.
    """
    (name,) = model.inputs
    shape = list(model.type_of(name).shape or ())
    batch, *sizes = dims
    resized = [batch, shape[1], *sizes] if layout == "NCHW" else [batch, *sizes, shape[3]]
    proto = ModelProto()
    proto.CopyFrom(model.proto)
    kept = _needed(proto.graph, layers)
    made, used = {v for node in kept for v in node.output}, {v for node in kept for v in reads(node)}
    for layer in layers:
        if layer not in made:
            raise InputError(f"{layer!r} is inside a function or a branch: choose a layer outside")
    _keep_only(proto.graph, kept)
    _write_numbers_down(proto.graph, model.opset)
    for layer in [each for each in layers if each not in used]:
        dtype = model.type_of(layer).dtype or TensorProto.FLOAT
        proto.graph.output.append(helper.make_tensor_value_info(layer, dtype, None))
    _resize_input(proto.graph, name, resized)
    return Model(proto, model.files, model.name)


def _needed(graph: GraphProto, values: Sequence[str]) -> list[NodeProto]:
    """Copy the nodes that some values depend on, in the graph's order."""
    producers = {output: k for k, node in enumerate(graph.node) for output in node.output}
    waiting, found = [*values], set()
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
