"""Models that take one image without an axis for images: they are read as if they had one, of size 1."""

import json
from collections.abc import Collection, Mapping

import numpy as np
from onnx import ModelProto, NodeProto, helper, numpy_helper

from onnx_deconv.model.protos import every_node, opset_of, replace

ADDED = "onnx_deconv.image_axis"
"""The metadata's key for the inputs that got an axis."""
_AXES_ARE_AN_INPUT = 13
"""The first opset whose Squeeze takes its axes as an input."""


def with_image_axis(proto: ModelProto, inputs: Collection[str]) -> ModelProto:
    """Copy a model with an axis for the images before the others of some inputs.

    Parameters
    ----------
    proto
        The model; not changed.
    inputs
        Names of inputs, each of one image.

    Returns
    -------
    ModelProto
        It takes that image as a batch of one, and computes the same. The metadata name the inputs.
    """
    new = ModelProto()
    new.CopyFrom(proto)
    inside = {name: f"{name}/image" for name in inputs}
    for node in every_node(new.graph.node):
        node.input[:] = [inside.get(value, value) for value in node.input]
    for info in new.graph.input:
        shape = info.type.tensor_type.shape
        if info.name in inside and shape.dim:
            sizes = [d.dim_value if d.HasField("dim_value") else d.dim_param or None for d in shape.dim]
            info.CopyFrom(
                helper.make_tensor_value_info(info.name, info.type.tensor_type.elem_type, [1, *sizes])
            )
    taken_out = [node for name, image in inside.items() for node in _first_of(name, image, opset_of(new))]
    replace(new.graph.node, [*taken_out, *new.graph.node])
    kept = {p.key: p.value for p in proto.metadata_props}
    helper.set_model_props(new, kept | {ADDED: json.dumps(sorted(inputs))})
    return new


def added_to(metadata: Mapping[str, str]) -> frozenset[str]:
    """Return the inputs that got an axis, as a model's metadata name them; anybody may have written these."""
    try:
        names = json.loads(metadata.get(ADDED, "[]"))
    except (ValueError, RecursionError):
        return frozenset()
    return (
        frozenset(name for name in names if isinstance(name, str)) if isinstance(names, list) else frozenset()
    )


def _first_of(batch: str, image: str, opset: int) -> list[NodeProto]:
    """Return the nodes that take the only image out of a batch."""
    if opset < _AXES_ARE_AN_INPUT:
        return [helper.make_node("Squeeze", [batch], [image], image, axes=[0])]
    axes = f"{image}/axes"
    return [
        helper.make_node("Constant", [], [axes], axes, value=numpy_helper.from_array(np.zeros(1, np.int64))),
        helper.make_node("Squeeze", [batch, axes], [image], image),
    ]
