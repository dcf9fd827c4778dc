"""Walk forward through a model's graph, from the image to every value that depends on it."""

from collections.abc import Mapping, Sequence

import numpy as np

from onnx_deconv.errors import InputError, sizes_of
from onnx_deconv.model import Model
from onnx_deconv.operators import Operator, fields, find
from onnx_deconv.operators.node import ForwardNode, label
from onnx_deconv.operators.registry import Field
from onnx_deconv.operators.sight import Sight, Strip
from onnx_deconv.operators.traits import GLOBAL, POINTWISE, REDUCTION, SHAPE_ONLY, Trait


def sights_of(model: Model, size: Sequence[int] | None, layout: str) -> Mapping[str, Sight]:
    """Return what each value that depends on the image sees, by name."""
    return _walk(model, {name: _whole_image(model, name, size, layout) for name in model.inputs})


def _whole_image(model: Model, name: str, size: Sequence[int] | None, layout: str) -> Sight:
    shape = model.type_of(name).shape or ()
    axes = range(-len(shape) + 2, 0) if layout == "NCHW" else range(-len(shape) + 1, -1)
    sizes = [shape[axis] for axis in axes] if size is None else list(size)
    if len(sizes) != len(axes) or None in sizes:
        types = model.type_of(name)
        raise InputError(f"input {name!r} has shape {types}: {sizes_of(name, types.shape)}")
    strips = []
    for axis, length in zip(axes, sizes, strict=True):
        pixels = np.arange(length or 0)
        strips.append(Strip(axis, np.stack([pixels, pixels + 1], axis=1), length or 0))
    return Sight(tuple(strips))


def _walk(model: Model, sights: dict[str, Sight]) -> Mapping[str, Sight]:
    """Return what each value that depends on the image sees, given what the inputs see."""
    for node in model.nodes:
        entry = find(node.op, node.domain)
        seen = {i: sights[v.name] for i, v in enumerate(node.inputs) if v.name in sights}
        if seen and SHAPE_ONLY not in entry.traits:
            sight = _through(ForwardNode(node, model), entry, seen)
            sights.update({v.name: sight for v in node.outputs if v.name})
    return sights


def _through(at: ForwardNode, entry: Operator, seen: Mapping[int, Sight]) -> Sight:
    """Return what a node's outputs see, given what its inputs see, as far as they depend on the image."""
    field = entry.field or next((f for t, f in _BY_TRAIT.items() if t in entry.traits), None)
    found = field(at, seen) if field is not None else None
    if found is not None:
        return found
    note = f"{at.node.op} {label(at.node)!r}: the whole image is assumed"
    return Sight(tuple(s.whole() for s in next(iter(seen.values())).strips), note)


_BY_TRAIT: Mapping[Trait, Field] = {
    GLOBAL: fields.everywhere,
    REDUCTION: fields.reduction,
    POINTWISE: fields.pointwise,
}
"""The fields of operators whose entries give none, by trait."""
