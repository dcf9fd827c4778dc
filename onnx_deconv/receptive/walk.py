"""The walk forward through a model's graph, from the image to every value that depends on it."""

from collections.abc import Mapping, Sequence

import numpy as np

from onnx_deconv.errors import InputError
from onnx_deconv.model import Model
from onnx_deconv.receptive.operators import Operators
from onnx_deconv.receptive.sight import Sight, Strip


def sights_of(model: Model, size: Sequence[int] | None, layout: str) -> Mapping[str, Sight]:
    """Return what each value that depends on the image sees, by name."""
    return _walk(model, {name: _whole_image(model, name, size, layout) for name in model.inputs})


def _whole_image(model: Model, name: str, size: Sequence[int] | None, layout: str) -> Sight:
    shape = model.type_of(name).shape or ()
    axes = range(-len(shape) + 2, 0) if layout == "NCHW" else range(-len(shape) + 1, -1)
    sizes = [shape[axis] for axis in axes] if size is None else list(size)
    if len(sizes) != len(axes) or None in sizes:
        wanted = f"--input-shape {name}:1,3,224,224"
        raise InputError(f"input {name!r} has shape {model.type_of(name)}: give its size, as in {wanted}")
    strips = []
    for axis, length in zip(axes, sizes, strict=True):
        pixels = np.arange(length or 0)
        strips.append(Strip(axis, np.stack([pixels, pixels + 1], axis=1), length or 0))
    return Sight(tuple(strips))


def _walk(model: Model, sights: dict[str, Sight]) -> Mapping[str, Sight]:
    """Return what each value that depends on the image sees, given what the inputs see."""
    operators = Operators(model)
    for node in model.nodes:
        seen = {i: sights[v.name] for i, v in enumerate(node.inputs) if v.name in sights}
        if seen and node.op not in ("Shape", "Size"):
            sight = operators.through(node, seen)
            sights.update({v.name: sight for v in node.outputs if v.name})
    return sights
