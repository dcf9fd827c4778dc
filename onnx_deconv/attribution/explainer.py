"""Explain units of a model: arrays in, scores and reconstructions out."""

import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from os import PathLike
from typing import NamedTuple

import numpy as np
from onnx import helper

from onnx_deconv.attribution.forward_pass import Pass
from onnx_deconv.attribution.seed import SeedKind, scores_of, strongest
from onnx_deconv.compiler.package import FORWARD, is_pair, load_pair
from onnx_deconv.compiler.pair import Pair, compile_pair
from onnx_deconv.errors import InputError
from onnx_deconv.labels import Labels
from onnx_deconv.model import Array, Model, Source, load
from onnx_deconv.model.heads import class_maps, scores_value
from onnx_deconv.operators import RuleTable
from onnx_deconv.runtime import PairSession, Providers, return_freed_memory
from onnx_deconv.semantics import Semantics

Batch = Array | Mapping[str, Array]
Target = int | str | Sequence[int | str]


@dataclass(frozen=True)
class Explanation:
    """What excited one unit in one image.

    Attributes
    ----------
    image
        Index of the image in the batch.
    layer
        The value that the explanation started from.
    channel
        The unit's channel; for scores, the class.
    label
        The channel's name, where the explained value is the scores and labels are known.
    score
        For scores: the model's own output for the class (a probability where the model ends in a
        Softmax); for other values: the activation (the map's strongest where no position is given).
    position
        The unit's position in the feature map, chosen or the map's strongest; ``None`` for scores or a
        whole map.
    seed
        Which seed was used (see :data:`onnx_deconv.attribution.seed.SeedKind`).
    reconstruction
        Shape of one image as the model takes it (C, H, W or H, W, C), float32; for a model with several
        explained inputs, that of the first.
    reconstructions
        All reconstructions by input name, each without the batch axis.
    note
        What the reader should know: that a signal died on the way down, at which node, and what was
        explained in its place; else ``None``.
    """

    image: int
    layer: str
    channel: int
    label: str | None
    score: float
    position: tuple[int, ...] | None
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
    low_memory
        Whether all memory but the weights goes back to the system after each call; a little slower.

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
        semantics: Semantics | RuleTable | str | None = None,
        *,
        providers: Providers = "auto",
        labels: Sequence[str] | None = None,
        inputs: Sequence[str] | None = None,
        input_shapes: Mapping[str, Sequence[int]] | None = None,
        low_memory: bool = False,
    ) -> None:
        saved = load_pair(model) if is_pair(model) else None  # type: ignore[arg-type]
        self.model = _model(model, saved, input_shapes)
        stored = Semantics(**saved.manifest["semantics"]) if saved is not None else Semantics()
        self.semantics = stored if semantics is None else Semantics.of(semantics)
        self.providers = providers
        self.low_memory = low_memory
        self._inputs = inputs
        self._lock = threading.Lock()
        self._sessions: dict[str, PairSession] = {}
        self.scores_layer, _ = scores_value(self.model)
        self.layer = self.scores_layer if saved is None else str(saved.manifest["explained"]["value"])
        self.saved = saved is not None
        if saved is not None and self.semantics == stored and inputs is None:
            self._sessions[self.layer] = PairSession(saved, providers, low_memory=low_memory)
        self.labels = Labels.of(labels, self.model.metadata)

    def __call__(
        self,
        batch: Batch,
        target: Target | None = None,
        *,
        layer: str | None = None,
        position: Sequence[int] | None = None,
        top: int = 1,
        seed: SeedKind = "auto",
    ) -> list[Explanation]:
        """Explain units of one layer for every image of a batch.

        Parameters
        ----------
        batch
            Images as the model takes them, shape (N, ...), or one such array per input name. Where the
            model's batch size is fixed, N may be any multiple of it.
        target
            What is explained: a class, by index or label, or a channel of the layer; one for all
            images, or one for each. By default the ``top`` strongest of each image.
        layer
            A value's or a node's name; by default the scores, or what a saved pair was made to explain.
        position
            A position in the channel's feature map; by default ``seed`` decides.
        top
            How many channels to explain in each image where no target is given.
        seed
            What to start with, see :data:`~onnx_deconv.attribution.seed.SeedKind`. With ``auto``, a class
            is explained from its own feature map where the model has one below its global pool, and from its
            score elsewhere; where a reconstruction comes out empty, the next of these is tried.

        Returns
        -------
        list of Explanation
            In the order of the images; for each image its strongest channel first.

        Raises
        ------
        InputError
            If the batch, the target or the position does not fit the model.
        UnknownLayerError
            If there is no such layer.
        """
        name = self._named(layer)
        found: list[Explanation] = []
        whole = self._feeds(batch)
        targets = _per_image(target, _length(whole))
        for first, feeds in self._chunks(whole):
            chosen = targets and targets[first : first + _length(feeds)]
            found += self._explain(name, feeds, first, _Choice(chosen, position, top, seed))
        if self.low_memory:
            return_freed_memory()
        return found

    def scores(self, batch: Batch) -> Array:
        """Return the model's scores, shape (N, K): its output for each class.

        Raises
        ------
        InputError
            If the batch does not fit.
        """
        start = self._tries(self.scores_layer, _Choice(None, None, 1, "auto"))[0].layer
        passes = [Pass(self.session(start), start, feeds) for _, feeds in self._chunks(self._feeds(batch))]
        return np.concatenate([p.scores(self.model.outputs[0]) for p in passes])

    def session(self, layer: str | None = None) -> PairSession:
        """Return the pair, ready to run, that explains a layer; made on first use."""
        name = self._named(layer)
        with self._lock:
            if name not in self._sessions:
                pair = compile_pair(self.model, name, semantics=self.semantics, inputs=self._inputs)
                self._sessions[name] = PairSession(pair, self.providers, low_memory=self.low_memory)
            return self._sessions[name]

    def _named(self, layer: str | None) -> str:
        return self.layer if layer is None else self.model.layer(layer)

    def _explain(
        self, layer: str, feeds: Mapping[str, Array], first: int, choice: "_Choice"
    ) -> Iterator[Explanation]:
        """Explain one chunk: one pass forward per layer tried, one back per channel asked for."""
        tries = self._tries(layer, choice)
        passes = _Passes(self, feeds)
        start = passes[tries[0].layer]
        of_classes = layer == self.scores_layer
        scores = start.scores(self.model.outputs[0]) if of_classes else scores_of(start.explained)
        ranked = self._ranked(scores, choice, of_classes)
        columns = [
            self._column(passes, tries, [int(c) for c in column], choice.position) for column in ranked.T
        ]
        for image, channels in enumerate(ranked):
            for channel, column in zip(channels, columns, strict=True):
                parts = {name: r[image] for name, r in column.reconstructions.items()}
                position = None if choice.position is None else tuple(choice.position)
                unit = None if position is None else (image, channel, *position)
                score = scores[image, channel] if unit is None else start.explained[unit]
                if column.kinds[image] == "strongest":
                    position = strongest(passes[column.layers[image]].explained[image, channel])
                label = self.labels.name(channel) if of_classes else None
                yield Explanation(
                    first + image, column.layers[image], int(channel), label, float(score), position,
                    column.kinds[image], next(iter(parts.values())), parts, column.notes[image],
                )  # fmt: skip

    def _tries(self, layer: str, choice: "_Choice") -> list["_Try"]:
        """List what to start from, in order: the next is tried where a reconstruction comes out empty.

        A class's own feature map comes first where the model has one: its activations say where the
        class was seen, while a class's score hands every position the same share, most of which the
        rectifiers below then cancel (docs/explanation.md has the figures).
        """
        if choice.seed != "auto" or choice.position is not None or layer != self.scores_layer:
            return [_Try(layer, choice.seed)]
        scores = [_Try(self.scores_layer, "one")]
        if self.first_maps is None:
            return scores
        maps = [_Try(self.first_maps, "map"), _Try(self.first_maps, "strongest")]
        # A saved pair was made to start where it starts.
        return scores + maps if self.saved else maps + scores

    def _column(
        self,
        passes: "_Passes",
        tries: Sequence["_Try"],
        channels: Sequence[int],
        position: Sequence[int] | None,
    ) -> "_Column":
        """Explain one channel per image; look after signals that die."""
        column: _Column | None = None
        for attempt in tries:
            run = passes[attempt.layer]
            reconstructions, seed, kind = run.back(channels, position, attempt.seed)
            if column is None:
                column = _Column.of(reconstructions, attempt.layer, kind)
                empty = column.empty()
            else:
                column.replace(empty, reconstructions, attempt.layer, kind)
            left = [k for k in empty if k in column.empty()]
            if not left:
                break
            for k, stop in zip(left, run.where_signals_died(seed, left), strict=True):
                fate = f"died at {stop!r}" if stop is not None else "is zero: nothing is active there"
                died = f"the signal of {attempt.layer!r} (seed {kind}) {fate}"
                column.notes[k] = f"{column.notes[k]}; {died}" if column.notes[k] else died
            empty = left
        if column is None:
            raise InputError("nothing to start from")
        return column

    @cached_property
    def class_maps(self) -> str | None:
        """The value that holds one feature map per class, right below a global pool; if there is one."""
        return class_maps(self.model, self.scores_layer)

    @property
    def first_maps(self) -> str | None:
        """The class maps that a class is explained from unless told; ``None`` where its score is better.

        Rules of relevance divide what a score has among the positions of its map, as its activations are.
        """
        return None if self.semantics.table.conserves else self.class_maps

    def _ranked(self, scores: Array, choice: "_Choice", of_classes: bool) -> Array:  # noqa: FBT001
        """Return the channels to explain, shape (N, number per image)."""
        count = scores.shape[1]
        if choice.targets is None:
            if not 1 <= choice.top <= count:
                raise InputError(f"top={choice.top}: the explained value has {count} channels")
            return np.argsort(-scores, axis=1, kind="stable")[:, : choice.top]
        index = self.labels.index if of_classes else _whole
        channels = [index(target) for target in choice.targets]
        for channel in channels:
            if not 0 <= channel < count:
                what = "class" if of_classes else "channel"
                raise InputError(f"there is no {what} {channel}: the model has 0 to {count - 1}")
        return np.array([[channel] for channel in channels])

    def _chunks(self, feeds: Mapping[str, Array]) -> Iterator[tuple[int, dict[str, Array]]]:
        """Cut a batch into what the model takes at once: all of it, or its fixed batch size."""
        total = _length(feeds)
        step = self.model.batch or total
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
        feeds = {name: self.as_input(name, array) for name, array in batch.items()}
        if len({len(array) for array in feeds.values()}) > 1:
            numbers = ", ".join(f"{name}: {len(array)}" for name, array in feeds.items())
            raise InputError(f"every input needs the same number of images, not {numbers}")
        return feeds

    def as_input(self, name: str, array: Array) -> Array:
        """Return a batch in the type that an input of the model takes.

        Raises
        ------
        InputError
            If its shape or kind of numbers does not fit.
        """
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

    targets: Sequence[int | str] | None
    position: Sequence[int] | None
    top: int
    seed: SeedKind


class _Try(NamedTuple):
    """What to start from."""

    layer: str
    seed: SeedKind


class _Passes(dict[str, Pass]):
    """The passes of one chunk by layer, made when asked for."""

    def __init__(self, explainer: Explainer, feeds: Mapping[str, Array]) -> None:
        super().__init__()
        self._explainer, self._feeds = explainer, feeds

    def __missing__(self, layer: str) -> Pass:
        self[layer] = Pass(self._explainer.session(layer), layer, self._feeds)
        return self[layer]


@dataclass
class _Column:
    """Explanations of one channel per image: arrays by input name, and per image where they came from."""

    reconstructions: dict[str, Array]
    layers: list[str]
    kinds: list[str]
    notes: list[str | None]

    @classmethod
    def of(cls, reconstructions: dict[str, Array], layer: str, kind: str) -> "_Column":
        n = _length(reconstructions)
        return cls(reconstructions, [layer] * n, [kind] * n, [None] * n)

    def empty(self) -> list[int]:
        """Return the images for which nothing arrived at any input."""
        arrays = self.reconstructions.values()
        return [k for k in range(len(self.layers)) if not any(a[k].any() for a in arrays)]

    def replace(self, images: Sequence[int], others: Mapping[str, Array], layer: str, kind: str) -> None:
        """Take these images from another try, where something arrived."""
        for k in images:
            if any(a[k].any() for a in others.values()):
                for name, a in others.items():
                    self.reconstructions[name][k] = a[k]
                self.layers[k], self.kinds[k] = layer, kind
                self.notes[k] = f"{self.notes[k]}; explained {layer!r} (seed {kind}) instead"


def _model(source: Source | Model, saved: Pair | None, shapes: Mapping[str, Sequence[int]] | None) -> Model:
    if isinstance(source, Model):
        return source
    if saved is not None and isinstance(source, str | PathLike):
        return load(f"{source}/{FORWARD}", shapes)
    return load(source, shapes)


def _length(feeds: Mapping[str, Array]) -> int:
    return len(next(iter(feeds.values())))


def _per_image(target: Target | None, total: int) -> list[int | str] | None:
    """Return one target per image."""
    if target is None:
        return None
    if isinstance(target, int | np.integer | str):
        return [target if isinstance(target, str) else int(target)] * total
    if len(target) != total:
        raise InputError(f"{len(target)} targets for {total} images: give one for all, or one for each")
    return list(target)


def _whole(target: int | str) -> int:
    try:
        return int(target)
    except ValueError:
        raise InputError(f"target {target!r}: a channel of a layer is given by its number") from None
