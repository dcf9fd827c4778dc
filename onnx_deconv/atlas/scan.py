"""Scan images once: only the maximum of each feature map leaves the session."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from onnx_deconv.atlas.images import Images
from onnx_deconv.atlas.top_activations import Atlas
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
_RESULTS = {"max": TensorProto.FLOAT, "argmax": TensorProto.INT64, "shape": TensorProto.INT64}
"""What the model of maxima gives for each layer, and its element type."""


def scan(
    explainer: Explainer,
    images: Images,
    preprocess: Preprocess,
    atlas: Atlas,
    layers: Sequence[str],
    *,
    after_batch: Callable[[Atlas], None] = lambda _: None,
) -> Atlas:
    """Run the images forward and keep each feature map's strongest activations.

    Parameters
    ----------
    explainer
        For the model.
    images
        The images. The first ``atlas.seen`` of them are skipped, so that an interrupted scan goes on.
    preprocess
        How pictures become the model's input.
    atlas
        The atlas so far; it is added to.
    layers
        Values of the model, channels on axis 1.
    after_batch
        Called with the atlas after each batch, to save it or to report progress.

    Returns
    -------
    Atlas
        The one given.

    Raises
    ------
    InputError
        If a picture does not fit the model. One that cannot be read is noted in ``atlas.failed``.
    """
    network = _Maxima(explainer, layers)
    names, tensors = [], []
    count = atlas.seen
    for name, tensor in _prepared(images, preprocess, atlas, count):
        count += 1
        if tensor is not None:
            names.append(name)
            tensors.append(tensor)
        if len(names) == network.batch:
            atlas.add(names, network(np.stack(tensors)))
            names, tensors = [], []
        if not names:
            atlas.seen = count
            after_batch(atlas)
    if names:
        atlas.add(names, network(np.stack(tensors)))
    atlas.seen = count
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


class _Maxima:
    """Runs the model of maxima, see :func:`maxima_model`."""

    def __init__(self, explainer: Explainer, layers: Sequence[str]) -> None:
        model = explainer.model
        self.layers = list(layers)
        self._session = Session(maxima_model(model, self.layers), model.folder, explainer.providers)
        (self._input,) = model.inputs
        self._fixed = model.batch
        self.batch = self._fixed or BATCH

    def __call__(self, batch: Array) -> dict[str, tuple[Array, Array]]:
        """Return, by layer, the maxima (N, channels) and their positions (N, channels, axes)."""
        n = len(batch)
        if self._fixed:
            batch = np.concatenate([batch, np.repeat(batch[-1:], self._fixed - n, 0)])
        values = {k: numpy_of(v) for k, v in self._session.run({self._input: batch}).items()}
        found = {}
        for k, layer in enumerate(self.layers):
            maxima, flat, shape = (values[f"atlas/{k}/{what}"] for what in _RESULTS)
            axes = np.unravel_index(flat[:n], tuple(shape[2:])) if len(shape) > 2 else ()  # noqa: PLR2004
            positions = np.stack(axes, axis=-1) if axes else np.zeros((*flat[:n].shape, 0), np.int64)
            found[layer] = maxima[:n].astype(np.float32), positions.astype(np.int64)
        return found


def maxima_model(model: Model, layers: Sequence[str]) -> ModelProto:
    """Append the maximum of each feature map and its position to the user's model; drop all other outputs.

    Nothing after the last layer is computed then, no switches are, and no feature map leaves the session.
    """
    proto = forward(model, [Tap("value", layer, layer) for layer in layers])
    graph = proto.graph
    del graph.output[:]
    graph.initializer.append(numpy_helper.from_array(np.array([0, 0, -1]), "atlas/flat"))
    axes_as_input = model.opset >= _AXES_AS_INPUT
    if axes_as_input:
        graph.initializer.append(numpy_helper.from_array(np.array([2]), "atlas/axes"))
    for k, layer in enumerate(layers):
        graph.node.extend(_maximum(layer, f"atlas/{k}", axes_as_input=axes_as_input))
        for what, dtype in _RESULTS.items():
            graph.output.append(helper.make_tensor_value_info(f"atlas/{k}/{what}", dtype, None))
    return proto


def _maximum(layer: str, name: str, *, axes_as_input: bool) -> list[NodeProto]:
    node, flat = helper.make_node, f"{name}/flat"
    inputs = [flat, "atlas/axes"] if axes_as_input else [flat]
    axes: dict[str, Any] = {} if axes_as_input else {"axes": [2]}
    return [
        node("Cast", [layer], [f"{name}/float"], to=TensorProto.FLOAT),
        node("Reshape", [f"{name}/float", "atlas/flat"], [flat]),
        node("ReduceMax", inputs, [f"{name}/max"], keepdims=0, **axes),
        node("ArgMax", [flat], [f"{name}/argmax"], axis=2, keepdims=0),
        node("Shape", [layer], [f"{name}/shape"]),
    ]
