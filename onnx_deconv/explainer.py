"""Explain units of a model: arrays in, scores and reconstructions out."""

import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from os import PathLike
from typing import Any, NamedTuple

import numpy as np
from onnx import ModelProto, helper

from onnx_deconv.compile import SEED, Pair, compile_pair, scores_value
from onnx_deconv.errors import InputError
from onnx_deconv.labels import Labels
from onnx_deconv.model import Array, Model, Source, load
from onnx_deconv.package import FORWARD, is_pair, load_pair
from onnx_deconv.runtime import PairSession, Providers, Session, numpy_of
from onnx_deconv.seed import SeedKind, make_seed, scores_of
from onnx_deconv.semantics import Semantics

Batch = Array | Mapping[str, Array]
Channel = int | str | Sequence[int | str]


@dataclass(frozen=True)
class Explanation:
    """What excited one unit in one image.

    Attributes
    ----------
    image
        Index of the image in the batch.
    layer
        The explained value.
    channel
        The unit's channel; for scores, the class.
    label
        The channel's name, where the explained value is the scores and labels are known.
    score
        For scores: the model's own output for the class (a probability where the model ends in a
        Softmax); for other values: the activation (the map's strongest where no position is given).
    at
        The unit's position, or ``None`` for scores or a whole map.
    seed
        Which seed was used (see :data:`onnx_deconv.seed.SeedKind`).
    reconstruction
        Shape of one image as the model takes it (C, H, W or H, W, C), float32; for a model with several
        explained inputs, that of the first.
    reconstructions
        All reconstructions by input name, each without the batch axis.
    note
        What the reader should know: that the signal died on the way down and where, and what was
        explained in its place; else ``None``.
    """

    image: int
    layer: str
    channel: int
    label: str | None
    score: float
    at: tuple[int, ...] | None
    seed: str
    reconstruction: Array = field(repr=False)
    reconstructions: Mapping[str, Array] = field(repr=False)
    note: str | None = None

    @property
    def is_empty(self) -> bool:
        """Whether nothing arrived at the input."""
        return not any(r.any() for r in self.reconstructions.values())


class Explainer:
    """Explains any unit of one model.

    Sessions are made once per layer and reused; calls from several threads may run at once.

    Parameters
    ----------
    model
        A path to an ONNX file or to a folder made by ``onnx-deconv convert``, a serialised model, a
        ``ModelProto``, or a :class:`~onnx_deconv.model.Model`.
    semantics
        A rule table's name (``deconvnet``, ``guided``, ``gradient``) or all choices; for a folder, those
        it was made with unless given.
    providers
        ``auto``, ``cpu``, ``cuda``, or a list of onnxruntime's names.
    labels
        Names of the classes; by default those in the model's metadata.
    inputs
        The inputs to explain in terms of, where a model has several.
    input_shapes
        Sizes to assume for inputs, by name.

    Examples
    --------
    >>> explainer = Explainer("squeezenet.onnx")
    >>> best, = explainer(batch)
    >>> best.label, best.score, best.reconstruction.shape
    ('golden retriever', 0.94, (3, 224, 224))
    """

    def __init__(
        self,
        model: Source | Model,
        semantics: Semantics | str | None = None,
        *,
        providers: Providers = "auto",
        labels: Sequence[str] | None = None,
        inputs: Sequence[str] | None = None,
        input_shapes: Mapping[str, Sequence[int]] | None = None,
    ) -> None:
        saved = load_pair(model) if is_pair(model) else None  # type: ignore[arg-type]
        self.model = _model(model, saved, input_shapes)
        stored = Semantics(**saved.manifest["semantics"]) if saved is not None else Semantics()
        self.semantics = stored if semantics is None else Semantics.of(semantics)
        self.providers = providers
        self._inputs = inputs
        self._lock = threading.Lock()
        self._sessions: dict[str, PairSession] = {}
        self.scores_layer, _ = scores_value(self.model)
        self.layer = self.scores_layer if saved is None else str(saved.manifest["explained"]["value"])
        if saved is not None and self.semantics == stored and inputs is None:
            self._sessions[self.layer] = PairSession(saved, providers)
        self.labels = Labels.of(labels, self.model.metadata)

    def __call__(
        self,
        batch: Batch,
        channel: Channel | None = None,
        *,
        layer: str | None = None,
        at: Sequence[int] | None = None,
        top: int = 1,
        seed: SeedKind = "auto",
    ) -> list[Explanation]:
        """Explain units of one layer for every image of a batch.

        Parameters
        ----------
        batch
            Images as the model takes them, shape (N, ...), or one such array per input name. Where the
            model's batch size is fixed, N may be any multiple of it.
        channel
            The class, or the layer's channel: an index, a label, or one of either per image. By
            default the ``top`` strongest of each image.
        layer
            A value's or a node's name; by default the scores, or what a saved pair was made to explain.
        at
            A position in the channel's map; by default see ``seed``.
        top
            How many channels per image where none is given.
        seed
            What to start with, see :data:`onnx_deconv.seed.SeedKind`. With ``auto``, a reconstruction of a
            class that comes out empty is replaced by one that starts from the class's own feature map.

        Returns
        -------
        list of Explanation
            In the order of the images; for each image its strongest channel first.

        Raises
        ------
        InputError
            If the batch, the channel or the position does not fit.
        UnknownLayerError
            If there is no such layer.
        """
        name = self._named(layer)
        pair = self.session(name)
        found: list[Explanation] = []
        for first, feeds in self._chunks(batch):
            chosen = _part_of(channel, first, _length(feeds))
            found += self._explain(pair, name, feeds, first, _Choice(chosen, at, top, seed))
        return found

    def scores(self, batch: Batch) -> Array:
        """Return the model's scores, shape (N, K): its output for each class.

        Raises
        ------
        InputError
            If the batch does not fit.
        """
        pair = self.session(self.scores_layer)
        parts = []
        for _, feeds in self._chunks(batch):
            values = pair.run_forward(feeds)
            parts.append(self._scores(values, self._explained(self.scores_layer, values)))
        return np.concatenate(parts)

    def session(self, layer: str | None = None) -> PairSession:
        """Return the pair, ready to run, that explains a layer; made on first use."""
        name = self._named(layer)
        with self._lock:
            if name not in self._sessions:
                pair = compile_pair(self.model, name, semantics=self.semantics, inputs=self._inputs)
                self._sessions[name] = PairSession(pair, self.providers)
            return self._sessions[name]

    def _named(self, layer: str | None) -> str:
        return self.layer if layer is None else self.model.layer(layer)

    def _explain(
        self,
        pair: PairSession,
        layer: str,
        feeds: Mapping[str, Array],
        first: int,
        choice: "_Choice",
    ) -> Iterator[Explanation]:
        """Explain one chunk; one pass forward, one back per channel asked for."""
        values = pair.run_forward(feeds)
        explained = self._explained(layer, values)
        scores = self._scores(values, explained) if layer == self.scores_layer else scores_of(explained)
        ranked = self._ranked(explained, choice, layer)
        backs = [self._back(pair, layer, feeds, values, explained, channels, choice) for channels in ranked.T]
        for image in range(len(explained)):
            for back in backs:
                channel = back.channels[image]
                at = None if choice.at is None else tuple(choice.at)
                score = scores[image, channel] if at is None else explained[(image, channel, *at)]
                parts = {name: r[image] for name, r in back.reconstructions.items()}
                label = self.labels.name(channel) if layer == self.scores_layer else None
                yield Explanation(
                    first + image, layer, channel, label, float(score), at, back.kinds[image],
                    next(iter(parts.values())), parts, back.notes[image],
                )  # fmt: skip

    def _back(
        self,
        pair: PairSession,
        layer: str,
        feeds: Mapping[str, Array],
        values: Mapping[str, Any],
        explained: Array,
        channels: Sequence[int],
        choice: "_Choice",
    ) -> "_Back":
        """Go back once for the whole chunk; look after signals that died."""
        channels = [int(c) for c in channels]
        seed, kind = make_seed(explained, channels, choice.at, choice.seed)
        results = pair.run_deconv(values, seed.astype(pair.seed_dtype))
        names = {r["name"]: r["of"] for r in pair.pair.manifest["reconstructions"]}
        back = _Back(
            channels,
            {names[n]: r.astype(np.float32, copy=False) for n, r in results.items()},
            [kind] * len(channels),
            [None] * len(channels),
        )
        empty = [
            k for k in range(len(channels)) if not any(r[k].any() for r in back.reconstructions.values())
        ]
        if empty:
            died = self._where_signal_died(pair, values, seed)
            for k in empty:
                back.notes[k] = f"the reconstruction is empty: {died}"
            if choice.seed == "auto" and layer == self.scores_layer:
                self._fall_back(feeds, back, empty, died)
        return back

    def _fall_back(self, feeds: Mapping[str, Array], back: "_Back", empty: Sequence[int], died: str) -> None:
        """Explain the class's own feature map, below the global pool, where the class's signal died."""
        below = self.class_maps
        if below is None:
            return
        pair = self.session(below)
        values = pair.run_forward(feeds)
        explained = self._explained(below, values)
        names = {r["name"]: r["of"] for r in pair.pair.manifest["reconstructions"]}
        for kind in ("map", "strongest"):
            left = [k for k in empty if not any(r[k].any() for r in back.reconstructions.values())]
            if not left:
                return
            seed, _ = make_seed(explained, back.channels, None, kind)
            results = pair.run_deconv(values, seed.astype(pair.seed_dtype))
            for k in left:
                for name, r in results.items():
                    back.reconstructions[names[name]][k] = r[k]
                if any(r[k].any() for r in results.values()):
                    back.kinds[k] = kind
                    back.notes[k] = (
                        f"{died}; explained the class's feature map {below!r} instead (seed={kind})"
                    )

    @cached_property
    def class_maps(self) -> str | None:
        """The value that holds one feature map per class, right below a global pool; if there is one."""
        value = self.scores_layer
        while (node := self.model.producers.get(value)) is not None and node.inputs:
            below = node.inputs[0].name
            if node.op in ("GlobalAveragePool", "AveragePool", "ReduceMean", "GlobalMaxPool"):
                return below
            if node.op not in ("Reshape", "Flatten", "Squeeze", "Identity", "Dropout", "Cast"):
                return None
            value = below
        return None

    def _where_signal_died(self, pair: PairSession, values: Mapping[str, Any], seed: Array) -> str:
        """Run the companion with all its values shown, and name the last node that let nothing pass."""
        probe = ModelProto()
        probe.CopyFrom(pair.pair.deconv)
        shown = {o.name for o in probe.graph.output}
        kinds = (
            "Relu",
            "Mul",
            "Where",
            "LeakyRelu",
            "PRelu",
            "ScatterElements",
            "MaxUnpool",
            "BatchNormalization",
        )
        nodes = [n for n in probe.graph.node if n.op_type in kinds]
        probe.graph.output.extend(
            helper.make_empty_tensor_value_info(n.output[0]) for n in nodes if n.output[0] not in shown
        )
        session = Session(probe, pair.pair.folder, "cpu")
        feeds = {name: numpy_of(values[name]) for name in pair.reads}
        found = session.run({**feeds, SEED: seed.astype(pair.seed_dtype)})
        alive = {SEED}
        origin = "the rules"
        for node in probe.graph.node:
            passes = node.output[0] not in found or numpy_of(found[node.output[0]]).any()
            if passes and any(i in alive for i in node.input):
                alive.update(node.output)
            elif any(i in alive for i in node.input):
                origin = node.name.removeprefix("deconv/").rpartition("/")[0]
        return f"the signal died at {origin!r}, where nothing of it was positive"

    def _explained(self, layer: str, values: Mapping[str, Any]) -> Array:
        """Return the explained value's activations, shape (N, K, ...)."""
        explained = numpy_of(values[layer])
        if explained.ndim < 2:  # noqa: PLR2004
            raise InputError(
                f"{layer!r} has shape {explained.shape}: a unit is a channel of a value of at least 2 axes"
            )
        return explained.astype(np.float32, copy=False)

    def _scores(self, values: Mapping[str, Any], explained: Array) -> Array:
        """Return what the model says of each class: its own output where that matches the classes."""
        logits = scores_of(explained)
        output = values.get(self.model.outputs[0])
        own = logits if output is None else numpy_of(output)
        return (own.reshape(logits.shape) if own.size == logits.size else logits).astype(
            np.float32, copy=False
        )

    def _ranked(self, explained: Array, choice: "_Choice", layer: str) -> Array:
        """Return the channels to explain, shape (N, number per image)."""
        scores = scores_of(explained)
        if choice.channels is None:
            if not 1 <= choice.top <= scores.shape[1]:
                raise InputError(f"top={choice.top}: the explained value has {scores.shape[1]} channels")
            return np.argsort(-scores, axis=1, kind="stable")[:, : choice.top]
        index = self.labels.index if layer == self.scores_layer else _whole
        return np.array([[index(c)] for c in choice.channels])

    def _chunks(self, batch: Batch) -> Iterator[tuple[int, dict[str, Array]]]:
        """Cut a batch into what the model takes at once: all of it, or its fixed batch size."""
        feeds = self._feeds(batch)
        total = _length(feeds)
        fixed = {s[0] for n in feeds if (s := self.model.type_of(n).shape) and s[0] is not None}
        step = min(fixed, default=total)
        if total % step:
            raise InputError(f"the model takes {step} images at a time; {total} is no multiple of that")
        for first in range(0, total, step):
            yield first, {name: a[first : first + step] for name, a in feeds.items()}

    def _feeds(self, batch: Batch) -> dict[str, Array]:
        names = self.model.inputs
        if isinstance(batch, np.ndarray):
            if len(names) != 1:
                raise InputError(f"the model has inputs {', '.join(names)}: give a dict of arrays")
            batch = {names[0]: batch}
        if set(batch) != set(names):
            raise InputError(f"the model takes {', '.join(names)}; given: {', '.join(batch)}")
        return {name: self._checked(name, array) for name, array in batch.items()}

    def _checked(self, name: str, array: Array) -> Array:
        types = self.model.type_of(name)
        dtype = np.dtype(helper.tensor_dtype_to_np_dtype(types.dtype))
        if array.dtype != dtype and not (array.dtype.kind == dtype.kind == "f"):
            raise InputError(
                f"input {name!r} takes {dtype} numbers, not {array.dtype}; preprocess the image first"
            )
        shape = types.shape
        if shape is not None:
            fits = array.ndim == len(shape) and all(
                d is None or d == a for d, a in zip(shape[1:], array.shape[1:], strict=True)
            )
            if not fits or not len(array):
                raise InputError(f"input {name!r} has shape {types}, not {'×'.join(map(str, array.shape))}")
        return array.astype(dtype, copy=False)


class _Choice(NamedTuple):
    """What to explain in each image of a chunk."""

    channels: Sequence[int | str] | None
    at: Sequence[int] | None
    top: int
    seed: SeedKind


class _Back(NamedTuple):
    """One pass back for one channel per image."""

    channels: Sequence[int]
    reconstructions: dict[str, Array]
    kinds: list[str]
    notes: list[str | None]


def _model(source: Source | Model, saved: Pair | None, shapes: Mapping[str, Sequence[int]] | None) -> Model:
    if isinstance(source, Model):
        return source
    if saved is not None and isinstance(source, str | PathLike):
        return load(f"{source}/{FORWARD}", shapes)
    return load(source, shapes)


def _length(feeds: Mapping[str, Array]) -> int:
    return len(next(iter(feeds.values())))


def _part_of(channel: Channel | None, first: int, length: int) -> list[int | str] | None:
    """Return one channel per image of a chunk."""
    if channel is None:
        return None
    if isinstance(channel, int | np.integer | str):
        return [channel if isinstance(channel, str) else int(channel)] * length
    part = list(channel[first : first + length])
    if len(part) != length:
        raise InputError(f"{len(channel)} channels for another number of images")
    return part


def _whole(channel: int | str) -> int:
    try:
        return int(channel)
    except ValueError:
        raise InputError(f"channel {channel!r}: a layer's channel is a number") from None
