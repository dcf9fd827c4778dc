"""Scan images: only the maximum of each feature map leaves the session.

Where the strongest maxima are in their maps is found afterwards, by a second pass over the images that hold
them: to find every position of every map would take as long as the model itself.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import NamedTuple

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from onnx_deconv.atlas.ahead import ahead
from onnx_deconv.atlas.images import Images, Load
from onnx_deconv.atlas.top_activations import Atlas
from onnx_deconv.attribution.explainer import Explainer
from onnx_deconv.compiler.forward import forward
from onnx_deconv.errors import InputError
from onnx_deconv.imaging import Preprocess
from onnx_deconv.model import Array, Model
from onnx_deconv.operators import Tap
from onnx_deconv.runtime import Session, numpy_of, workers

BATCH = 16
"""How many images go forward at once, where the model leaves that open."""


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
        If a picture does not fit the model, or the first images are not those that the atlas was made of.
        A picture that cannot be read is noted in ``atlas.failed``.
    """
    network = _Network(explainer, maxima_model(explainer.model, layers), preprocess)
    for batch in network.run(_unseen(images, atlas)):
        _take(atlas, layers, batch)
        after_batch(atlas)
    _locate(explainer, images, preprocess, atlas)
    after_batch(atlas)
    return atlas


def _unseen(images: Images, atlas: Atlas) -> Iterator[tuple[str, Load]]:
    """Skip the images that an atlas has seen."""
    seen, each = "", iter(images)
    for name, _ in islice(each, atlas.seen):
        seen = _with_name(seen, name)
    if seen != atlas.names:
        raise InputError(
            f"the first {atlas.seen} images are not those that the interrupted run saw: give the same images, "
            "or choose another folder"
        )
    return each


def _with_name(names: str, name: str) -> str:
    """Return the digest of images' names, one more than before."""
    return hashlib.sha256(f"{names} {name}".encode(errors="surrogateescape")).hexdigest()


class _Batch(NamedTuple):
    """Images that ran forward.

    Attributes
    ----------
    images
        The images' names, and why one could not be read.
    results
        The model's outputs for those that could be read, in their order.
    """

    images: Sequence[tuple[str, str | None]]
    results: Sequence[Array]

    @property
    def read(self) -> list[str]:
        """The names of the images that could be read."""
        return [name for name, reason in self.images if reason is None]


def _take(atlas: Atlas, layers: Sequence[str], batch: _Batch) -> None:
    """Take the maxima of a batch into account; positions follow later."""
    found = {}
    for layer, maxima in zip(layers, batch.results, strict=False):
        count, channels, *axes = maxima.shape
        found[layer] = maxima.reshape(count, channels), np.zeros((count, channels, len(axes)), np.int64)
    if found:
        atlas.add(batch.read, found)
    for name, reason in batch.images:
        atlas.seen, atlas.names = atlas.seen + 1, _with_name(atlas.names, name)
        if reason is not None:
            atlas.failed[name] = reason


def _locate(explainer: Explainer, images: Images, preprocess: Preprocess, atlas: Atlas) -> None:
    """Find the positions of an atlas's activations."""
    places = {layer: table for layer, table in atlas.layers.items() if table.positions.shape[2]}
    if not places:
        return
    network = _Network(explainer, positions_model(explainer.model, list(places)), preprocess)
    numbers = {name: n for n, name in enumerate(atlas.images)}
    for batch in network.run((name, load) for name, load in images if name in numbers):
        which = [numbers[name] for name in batch.read]
        for k, table in enumerate(places.values() if which else ()):
            flat, shape = batch.results[2 * k : 2 * k + 2]
            for row, number in enumerate(which):
                here = np.nonzero(table.images == number)
                axes = np.unravel_index(flat[row, here[0]], tuple(shape[2:]))
                table.positions[here] = np.stack(axes, axis=-1)


class _Network:
    """A model that many images run through, several batches at a time.

    On the CPU each core reads, prepares and runs images of its own; the model's single-threaded session keeps
    a core busier than one of all cores does all of them.
    """

    def __init__(self, explainer: Explainer, proto: ModelProto, preprocess: Preprocess) -> None:
        (self._input,) = explainer.model.inputs
        self._session = Session(proto, explainer.model.folder, explainer.providers, threads=1, arena=True)
        self._fixed = explainer.model.batch
        self._preprocess = preprocess

    def run(self, images: Iterable[tuple[str, Load]]) -> Iterator[_Batch]:
        """Yield the results of batch after batch, in the images' order."""
        count = workers("cpu")
        pool, each = ThreadPoolExecutor(count), iter(images)
        batches = iter(lambda: list(islice(each, self._fixed or BATCH)), [])
        try:
            yield from ahead(pool, self._run, batches, count + 1)
        finally:
            pool.shutdown(cancel_futures=True)

    def _run(self, batch: Sequence[tuple[str, Load]]) -> _Batch:
        images, tensors = list[tuple[str, str | None]](), list[Array]()
        for name, load in batch:
            try:
                tensors.append(self._preprocess.apply(load())[0])
                images.append((name, None))
            except InputError as error:
                images.append((name, str(error)))
        return _Batch(images, self._forward(np.stack(tensors)) if tensors else [])

    def _forward(self, batch: Array) -> list[Array]:
        count = len(batch)
        if self._fixed:
            batch = np.concatenate([batch, np.repeat(batch[-1:], self._fixed - count, 0)])
        results = map(numpy_of, self._session.run({self._input: batch}).values())
        return [each if each.ndim == 1 else each[:count] for each in results]


def maxima_model(model: Model, layers: Sequence[str]) -> ModelProto:
    """Append the maximum of each feature map to the user's model; drop all other outputs.

    Nothing after the last layer is computed then, no switches are, and no feature map leaves the session.
    onnxruntime computes the maxima on the CPU in the order in which its convolutions leave their results,
    so that there is nothing to rearrange.
    """
    proto = _with_outputs_of(model, layers)
    for k, layer in enumerate(layers):
        flat = len(model.type_of(layer).shape or ()) == 2  # noqa: PLR2004 - an activation for each channel
        node = helper.make_node(
            "Identity" if flat else "GlobalMaxPool", [f"atlas/{k}/float"], [f"atlas/{k}/max"]
        )
        _append(proto, k, layer, [node], {"max": TensorProto.FLOAT})
    return proto


def positions_model(model: Model, layers: Sequence[str]) -> ModelProto:
    """Append the position of each feature map's maximum, and the map's shape, to the user's model."""
    proto = _with_outputs_of(model, layers)
    proto.graph.initializer.append(numpy_helper.from_array(np.array([0, 0, -1]), "atlas/flat"))
    for k, layer in enumerate(layers):
        nodes = [
            helper.make_node("Reshape", [f"atlas/{k}/float", "atlas/flat"], [f"atlas/{k}/flat"]),
            helper.make_node("ArgMax", [f"atlas/{k}/flat"], [f"atlas/{k}/argmax"], axis=2, keepdims=0),
            helper.make_node("Shape", [layer], [f"atlas/{k}/shape"]),
        ]
        _append(proto, k, layer, nodes, {"argmax": TensorProto.INT64, "shape": TensorProto.INT64})
    return proto


def _with_outputs_of(model: Model, layers: Sequence[str]) -> ModelProto:
    proto = forward(model, [Tap("value", layer, layer) for layer in layers])
    del proto.graph.output[:]
    return proto


def _append(
    proto: ModelProto, number: int, layer: str, nodes: Sequence[NodeProto], outputs: Mapping[str, int]
) -> None:
    """Append nodes that read a layer as float32, and their outputs."""
    cast = helper.make_node("Cast", [layer], [f"atlas/{number}/float"], to=TensorProto.FLOAT)
    proto.graph.node.extend([cast, *nodes])
    for what, dtype in outputs.items():
        proto.graph.output.append(helper.make_tensor_value_info(f"atlas/{number}/{what}", dtype, None))
