"""Scan images: only the maximum of each feature map leaves the session.

Where the strongest maxima are in their maps is found afterwards, by a second pass over the images that hold
them, which may be the one that projects them: to find the position in every map of every image would take
longer than the model itself.
"""

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import reduce
from itertools import islice
from typing import NamedTuple

import numpy as np
from onnx import ModelProto, TensorProto, helper

from onnx_deconv.atlas.ahead import ahead
from onnx_deconv.atlas.archives import Load
from onnx_deconv.atlas.images import Images
from onnx_deconv.atlas.top_activations import Atlas
from onnx_deconv.attribution.explainer import Explainer
from onnx_deconv.compiler.forward import forward
from onnx_deconv.compiler.passes import MAXIMA, apply_passes
from onnx_deconv.errors import InputError
from onnx_deconv.imaging import Preprocess
from onnx_deconv.model import Array, Model
from onnx_deconv.model.ranking import Ranking, ranking
from onnx_deconv.operators import Tap
from onnx_deconv.runtime import Providers, Session, clock_of, device_of, numpy_of, workers

BATCH = 2
"""How many images go forward at once on a core, where the model leaves that open."""

_GPU_BATCH = 32
"""The same on a GPU, which small batches leave idle."""

_JOINED, _LONGEST = 128, 1.0
"""Images whose maxima are taken into account at once, as to sort few takes nearly as long as to sort many;
where they take longer than so many seconds, fewer."""
_WAITING = 16
"""Batches for each core that are waiting or under way, so that no core waits while maxima are sorted."""
_MEASURED = 32
"""Images by which the time of a scan is estimated."""
_MAPS_BATCH, _MAPS_WAITING = 1, 2
"""Of :data:`BATCH` and :data:`_WAITING`, where all feature maps leave the session."""


def scan(
    explainer: Explainer,
    images: Images,
    preprocess: Preprocess,
    atlas: Atlas,
    layers: Sequence[str],
    *,
    positions: bool = True,
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
    positions
        Whether to find the positions too, which takes a second pass over the images that are kept;
        :meth:`Projector.run` can find them on its way.
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
    for _ in Scanner(explainer, preprocess, layers).add(_unseen(images, atlas), atlas):
        after_batch(atlas)
    if positions:
        _locate(explainer, images, preprocess, atlas)
        after_batch(atlas)
    return atlas


class Scanner:
    """Adds images to atlases, block by block; the positions of their activations are not found.

    Parameters
    ----------
    explainer
        For the model.
    preprocess
        How pictures become the model's input.
    layers
        Values of the model, channels on axis 1.
    """

    def __init__(self, explainer: Explainer, preprocess: Preprocess, layers: Sequence[str]) -> None:
        self._rankings = [ranking(explainer.model, layer) for layer in layers]
        self._network = _network(explainer, preprocess, self._rankings)

    def add(self, images: Iterable[tuple[str, Load]], atlas: Atlas) -> Iterator[Atlas]:
        """Add images to an atlas, and yield it after each batch."""
        for batch in _joined(self._network.run(images)):
            _take(atlas, self._rankings, batch)
            yield atlas


def digest_of(images: Images) -> str:
    """Return the digest of the names of all images, which an atlas of them has."""
    return reduce(_with_name, (name for name, _ in images), "")


def scan_seconds(
    explainer: Explainer, images: Images, preprocess: Preprocess, layers: Sequence[str]
) -> float:
    """Measure how long one core, or the GPU, takes to scan an image.

    By the first few; those that fail count too.
    """
    clock = clock_of(device_of(explainer.providers))
    network = _network(explainer, preprocess, [ranking(explainer.model, layer) for layer in layers])
    first = list(islice(images, _MEASURED))
    for each in (first[:1], first):  # the first run takes longer
        start = clock()
        for _ in network.run(each):
            pass
    return (clock() - start) / max(1, len(first))


def _unseen(images: Images, atlas: Atlas) -> Iterator[tuple[str, Load]]:
    """Skip the images that an atlas has seen."""
    seen, each = "", iter(images)
    for name, _ in islice(each, atlas.seen):
        seen = _with_name(seen, name)
    if seen != atlas.names:
        raise InputError(
            f"the first {atlas.seen} images are not those that the interrupted run saw: "
            "give the same images, or choose another folder"
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
        The model's outputs for those that could be read, in their order, by name.
    """

    images: Sequence[tuple[str, str | None]]
    results: Mapping[str, Array]

    @property
    def read(self) -> list[str]:
        """The names of the images that could be read."""
        return [name for name, reason in self.images if reason is None]


def _joined(batches: Iterable[_Batch]) -> Iterator[_Batch]:
    """Put several batches together."""
    group, since = list[_Batch](), time.monotonic()
    for batch in batches:
        group.append(batch)
        if sum(len(one.images) for one in group) >= _JOINED or time.monotonic() - since > _LONGEST:
            yield _together(group)
            group, since = [], time.monotonic()
    if group:
        yield _together(group)


def _together(batches: Sequence[_Batch]) -> _Batch:
    read = [batch.results for batch in batches if batch.results]
    results = {name: np.concatenate([one[name] for one in read]) for name in (read[0] if read else ())}
    return _Batch([image for batch in batches for image in batch.images], results)


def _take(atlas: Atlas, rankings: Sequence[Ranking], batch: _Batch) -> None:
    """Take the maxima of a batch into account; positions follow later."""
    found = {}
    for ranked, maxima in zip(rankings, batch.results.values(), strict=False):
        count, channels, *axes = maxima.shape
        unknown = np.broadcast_to(np.int64(0), (count, channels, len(axes)))
        found[ranked.layer] = ranked.of(maxima.reshape(count, channels)), unknown
    if found:
        atlas.add(batch.read, found)
    for name, reason in batch.images:
        atlas.seen, atlas.names = atlas.seen + 1, _with_name(atlas.names, name)
        if reason is not None:
            atlas.failed[name] = reason


def _locate(explainer: Explainer, images: Images, preprocess: Preprocess, atlas: Atlas) -> None:
    """Find the positions of an atlas's activations."""
    placed = [layer for layer, table in atlas.layers.items() if table.positions.shape[2]]
    if not placed:
        return
    rankings = [ranking(explainer.model, layer) for layer in placed]
    proto = maps_model(explainer.model, [ranked.value for ranked in rankings])
    network = _Network(explainer, proto, preprocess, batch=_MAPS_BATCH)
    kept = {*atlas.images}
    for batch in network.run(((name, load) for name, load in images if name in kept), _MAPS_WAITING):
        for row, name in enumerate(batch.read):
            atlas.locate(name, {each.layer: each.of(batch.results[each.value][row]) for each in rankings})


class _Network:
    """A model that many images run through, several batches at a time.

    On the CPU each core reads, prepares and runs images of its own; the model's single-threaded session keeps
    a core busier than one of all cores does all of them.
    """

    def __init__(
        self, explainer: Explainer, proto: ModelProto, preprocess: Preprocess, batch: int | None = None
    ) -> None:
        (self._input,) = explainer.model.inputs
        self._session = Session(
            proto, explainer.model.folder, explainer.providers, threads=1, arena=True, numbered=True
        )
        self._fixed = explainer.model.batch
        self._batch = self._fixed or (batch if batch is not None else _batch_on(explainer.providers))
        self._preprocess = preprocess

    def run(self, images: Iterable[tuple[str, Load]], waiting: int = _WAITING) -> Iterator[_Batch]:
        """Yield the results of batch after batch, in the images' order; so many wait for each core."""
        count = workers("cpu")
        pool, each = ThreadPoolExecutor(count), iter(images)
        batches = iter(lambda: list(islice(each, self._batch)), [])
        try:
            yield from ahead(pool, self._run, batches, waiting * count)
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
        return _Batch(images, self._forward(np.stack(tensors)) if tensors else {})

    def _forward(self, batch: Array) -> dict[str, Array]:
        count = len(batch)
        if self._fixed:
            batch = np.concatenate([batch, np.repeat(batch[-1:], self._fixed - count, 0)])
        results = self._session.run({self._input: batch})
        return {name: numpy_of(each)[:count] for name, each in results.items()}


def _network(explainer: Explainer, preprocess: Preprocess, rankings: Sequence[Ranking]) -> _Network:
    """Return the network that gives the maxima of what layers are ranked by."""
    maxima = maxima_model(explainer.model, [ranked.value for ranked in rankings])
    proto = apply_passes(maxima, MAXIMA[device_of(explainer.providers)])
    return _Network(explainer, proto, preprocess)


def _batch_on(providers: Providers) -> int:
    return _GPU_BATCH if device_of(providers) == "cuda" else BATCH


def maxima_model(model: Model, values: Sequence[str]) -> ModelProto:
    """Append the maximum of each feature map to the user's model; drop all other outputs.

    Nothing after the last of them is computed then, no switches are, and no feature map leaves the session.
    onnxruntime computes the maxima on the CPU in the order in which its convolutions leave their results,
    so that there is nothing to rearrange. Those of the last value come first in the file: onnxruntime, which
    numbers nodes again from the outputs back, then numbers each maximum right after its map, and computes it
    while the caches still hold the map.
    """
    proto = forward(model, [Tap("value", value, value) for value in values])
    del proto.graph.output[:]
    for k, value in reversed([*enumerate(values)]):
        flat = len(model.type_of(value).shape or ()) == 2  # noqa: PLR2004 - an activation for each channel
        real, maxima = f"atlas/{k}/float", f"atlas/{k}/max"
        cast = helper.make_node("Cast", [value], [real], to=TensorProto.FLOAT)
        pool = helper.make_node("GlobalMaxPool", [real], [maxima])
        proto.graph.node.extend([cast, helper.make_node("Identity", [real], [maxima]) if flat else pool])
        proto.graph.output.insert(0, helper.make_tensor_value_info(maxima, TensorProto.FLOAT, None))
    return proto


def maps_model(model: Model, values: Sequence[str]) -> ModelProto:
    """Return the user's model with some of its values, feature maps, as its only outputs."""
    proto = forward(model, [Tap("value", value, value) for value in values])
    for output in [o for o in proto.graph.output if o.name not in values]:
        proto.graph.output.remove(output)
    return proto
