"""One pass over the images: only the maxima of each feature map leave the session."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper

from onnx_deconv.atlas.images import Images
from onnx_deconv.atlas.tally import Atlas
from onnx_deconv.attribution.explainer import Explainer
from onnx_deconv.compiler.forward import forward
from onnx_deconv.errors import InputError
from onnx_deconv.imaging import Preprocess
from onnx_deconv.model import Array, Model
from onnx_deconv.operators import Tap
from onnx_deconv.runtime import Session, numpy_of

BATCH = 16
"""How many images go forward at once, where the model leaves that open."""

_AXES_AS_INPUT = 18
"""The first opset whose ReduceMax takes its axes as an input."""


def scan(
    explainer: Explainer,
    images: Images,
    preprocess: Preprocess,
    atlas: Atlas,
    layers: Sequence[str],
    *,
    after_batch: Callable[[Atlas], None] = lambda _: None,
) -> Atlas:
    """Go through the images; keep each feature map's strongest activations.

    Parameters
    ----------
    explainer
        For the model.
    images
        What to go through; the first ``atlas.seen`` are skipped: an interrupted pass goes on.
    preprocess
        How pictures become the model's input.
    atlas
        What is known so far; it is added to.
    layers
        Values of the model, channels on axis 1.
    after_batch
        Called with the atlas after each batch: the place for saving and for progress.

    Returns
    -------
    Atlas
        The one given.

    Raises
    ------
    InputError
        If a picture does not fit the model. One that cannot be read is noted in ``atlas.failed``.
    """
    eye = _Eye(explainer, layers)
    names, tensors = [], []
    taken = atlas.seen
    for name, tensor in _prepared(images, preprocess, atlas, taken):
        taken += 1
        if tensor is not None:
            names.append(name)
            tensors.append(tensor)
        if len(names) == eye.batch:
            atlas.add(names, eye.maxima(np.stack(tensors)))
            names, tensors = [], []
        if not names:
            atlas.seen = taken
            after_batch(atlas)
    if names:
        atlas.add(names, eye.maxima(np.stack(tensors)))
    atlas.seen = taken
    after_batch(atlas)
    return atlas


def _prepared(
    images: Images, preprocess: Preprocess, atlas: Atlas, skip: int
) -> Iterator[tuple[str, Array | None]]:
    for number, (name, load) in enumerate(images):
        if number < skip:
            continue
        try:
            yield name, preprocess.apply(load())[0]
        except InputError as error:
            atlas.failed[name] = str(error)
            yield name, None


class _Eye:
    """The forward model, reduced to one maximum per feature map."""

    def __init__(self, explainer: Explainer, layers: Sequence[str]) -> None:
        model = explainer.model
        self.layers = list(layers)
        self._session = Session(maxima_model(model, self.layers), model.folder, explainer.providers)
        (self._input,) = model.inputs
        self._fixed = model.batch
        self.batch = self._fixed or BATCH

    def maxima(self, batch: Array) -> dict[str, tuple[Array, Array]]:
        """Return, by layer, the maxima (N, channels) and where they are (N, channels, axes)."""
        n = len(batch)
        if self._fixed:
            batch = np.concatenate([batch, np.repeat(batch[-1:], self._fixed - n, 0)])
        values = {k: numpy_of(v) for k, v in self._session.run({self._input: batch}).items()}
        found = {}
        for k, layer in enumerate(self.layers):
            maxima, where, shape = (values[f"atlas/{k}/{what}"] for what in ("max", "at", "shape"))
            axes = np.unravel_index(where[:n], tuple(shape[2:])) if len(shape) > 2 else ()  # noqa: PLR2004
            positions = np.stack(axes, axis=-1) if axes else np.zeros((*where[:n].shape, 0), np.int64)
            found[layer] = maxima[:n].astype(np.float32), positions.astype(np.int64)
        return found


def maxima_model(model: Model, layers: Sequence[str]) -> ModelProto:
    """Append to the user's model the maximum of each feature map and its place; drop all other outputs.

    Nothing behind the last layer is computed then, no switches are, and no feature map leaves the session.
    """
    proto = forward(model, [Tap("value", layer, layer) for layer in layers])
    graph = proto.graph
    del graph.output[:]
    graph.initializer.append(numpy_helper.from_array(np.array([0, 0, -1]), "atlas/flat"))
    modern = model.opset >= _AXES_AS_INPUT
    if modern:
        graph.initializer.append(numpy_helper.from_array(np.array([2]), "atlas/axes"))
    for k, layer in enumerate(layers):
        name = f"atlas/{k}"
        node = helper.make_node
        axes: dict[str, Any] = {} if modern else {"axes": [2]}
        graph.node.extend(
            [
                node("Cast", [layer], [f"{name}/float"], to=TensorProto.FLOAT),
                node("Reshape", [f"{name}/float", "atlas/flat"], [f"{name}/flat"]),
                node(
                    "ReduceMax",
                    [f"{name}/flat", *(["atlas/axes"] if modern else [])],
                    [f"{name}/max"],
                    keepdims=0,
                    **axes,
                ),
                node("ArgMax", [f"{name}/flat"], [f"{name}/at"], axis=2, keepdims=0),
                node("Shape", [layer], [f"{name}/shape"]),
            ]
        )
        for what, dtype in (
            ("max", TensorProto.FLOAT),
            ("at", TensorProto.INT64),
            ("shape", TensorProto.INT64),
        ):
            graph.output.append(helper.make_tensor_value_info(f"{name}/{what}", dtype, None))
    return proto
