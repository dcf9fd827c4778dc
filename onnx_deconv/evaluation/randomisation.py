"""Copies of a model with random weights: a map that stays as it was does not depend on what was learnt.

Adebayo et al. 2018, "Sanity Checks for Saliency Maps", section 3.1, "cascading randomization": layers lose
what they learnt from the last one, which makes the scores, down to the first.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from onnx import ModelProto, TensorProto, numpy_helper

from onnx_deconv.errors import ModelError
from onnx_deconv.model import Array, Model
from onnx_deconv.model.protos import copy_of, stored_tensors
from onnx_deconv.operators import traits_of
from onnx_deconv.operators.traits import FILTER

Redraw = Literal["redraw", "permute"]
"""How weights become random. ``redraw``: numbers from a normal distribution around 0 with the same standard
deviation, as a network has before it is trained. ``permute``: the same numbers in another order, which keeps
their mean, and with it what every class has in common. Integers are permuted all the same."""


@dataclass(frozen=True)
class Layer:
    """A node that has learnt weights.

    Attributes
    ----------
    name
        The value that it computes.
    tensors
        Names of the tensors that hold its weights and biases, in the model's file.
    """

    name: str
    tensors: tuple[str, ...]


def learnt_layers(model: Model) -> list[Layer]:
    """List the layers with weights, convolutions and matrix products, the last one first.

    Weights that several layers share belong to the last of them. The statistics of normalisations count as
    no layer and stay as they are.
    """
    tensors = _tensors_by_name(model.proto)
    layers, taken = list[Layer](), set[str]()
    for node in reversed(model.nodes):
        if FILTER not in traits_of(node) or node.outputs[0].name in model.constants:
            continue
        own = [t for value in node.inputs for t in _sources(model, tensors, value.name) if t not in taken]
        if own:
            taken.update(own)
            layers.append(Layer(node.outputs[0].name, tuple(dict.fromkeys(own))))
    return layers


def randomised(model: Model, layers: list[Layer], random_state: int = 0, how: Redraw = "redraw") -> Model:
    """Copy a model with random weights in some layers.

    Parameters
    ----------
    model
        The model; it is not changed. The copy reads all other weights from the same files.
    layers
        Some that :func:`learnt_layers` lists.
    random_state
        Seeds the random numbers. A layer's weights depend on it and on their name alone, so that a cascade
        leaves those above as they were.
    how
        See :data:`Redraw`.

    Returns
    -------
    Model
        A copy.

    Raises
    ------
    ModelError
        If there are no layers.
    """
    names = [name for layer in layers for name in layer.tensors]
    if not names:
        raise ModelError(f"{model.name}: has no weights to randomise")
    proto = copy_of(model.proto)
    tensors = _tensors_by_name(proto)
    for name in names:
        rng = np.random.default_rng([random_state, *name.encode()])
        tensors[name].CopyFrom(_random_like(model.read(tensors[name]), name, rng, how))
    return Model(proto, model.files, model.name)


def depths(layers: int) -> list[int]:
    """Choose after how many randomised layers to look: 1, and up to five in all, as far as all layers."""
    return sorted({round(each) for each in np.geomspace(1, layers, 5)}) if layers else []


def _random_like(numbers: Array, name: str, rng: np.random.Generator, how: Redraw) -> TensorProto:
    flat = np.asarray(numbers).ravel()
    if how == "permute" or flat.dtype.kind != "f":
        drawn = rng.permutation(flat)
    else:
        wide = flat.astype(np.float64)
        drawn = rng.normal(0, wide.std(), flat.size).astype(flat.dtype)
    return numpy_helper.from_array(drawn.reshape(numbers.shape), name)


def _sources(model: Model, tensors: Mapping[str, TensorProto], value: str) -> Iterator[str]:
    """Yield the tensor that a constant is made of, unless it is a single number."""
    while value not in tensors and value in model.constants and value in model.producers:
        # A Cast, a Transpose, a DequantizeLinear: the first input has the numbers.
        inputs = model.producers[value].inputs
        value = inputs[0].name if inputs else ""
    if value in tensors and tensors[value].dims:
        yield value


def _tensors_by_name(proto: ModelProto) -> Mapping[str, TensorProto]:
    """Return the tensors of a model's own graph, initializers and Constant nodes alike."""
    graph = proto.graph
    found = {tensor.name: tensor for tensor in graph.initializer}
    return found | stored_tensors(graph.node)
