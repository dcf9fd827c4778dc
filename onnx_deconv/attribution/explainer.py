"""Explain units of a model: arrays in, scores and reconstructions out."""

import operator
import os
import threading
import weakref
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from onnx_deconv.attribution.attempts import Column, Passes, Start, explain_column
from onnx_deconv.attribution.batches import Batch, chunks, feeds_of, length
from onnx_deconv.attribution.explanation import Explanation
from onnx_deconv.attribution.forward_pass import Pass
from onnx_deconv.attribution.method import AUTO, CLASS_METHOD, chosen_method
from onnx_deconv.attribution.recent import Recent
from onnx_deconv.attribution.room import check_room
from onnx_deconv.attribution.seed import SeedKind, scores_of, strongest
from onnx_deconv.attribution.standing import Standing
from onnx_deconv.compiler.dependence import ImageDependence, of_a_map
from onnx_deconv.compiler.package import FORWARD, is_pair, load_pair
from onnx_deconv.compiler.pair import Pair, compile_pair
from onnx_deconv.errors import InputError
from onnx_deconv.labels import Labels
from onnx_deconv.model import Array, Model, Source, load
from onnx_deconv.model.heads import class_maps, scores_value
from onnx_deconv.model.model_files import ModelFiles, check_weights
from onnx_deconv.operators import RuleTable
from onnx_deconv.runtime import PairSession, Providers, return_freed_memory
from onnx_deconv.semantics import NO_RULES, Semantics

if TYPE_CHECKING:
    from onnx_deconv.attribution.images import Preprocessing
MAX_LAYERS = 8
"""For how many layers an explainer keeps models ready, unless told otherwise."""

_EXPLAINERS: "weakref.WeakSet[Explainer]" = weakref.WeakSet()

_MAP_SEEDS: tuple[SeedKind, ...] = ("map", "strongest")

Targets = int | str | Sequence[int | str]
"""A class by index or label, or a channel of a layer: one for all images, or one for each."""


class Explainer:
    """Explains any unit of one model.

    Sessions are made once per layer and reused; calls from several threads may run at once.

    Parameters
    ----------
    model
        A path to an ONNX file or to a folder made by ``onnx-deconv convert``, a serialised model, a
        ``ModelProto``, or a :class:`~onnx_deconv.model.Model`.
    semantics
        A method's name (``deconvnet``, ``guided``, ``gradient``, ``grad-cam``, ``guided*grad-cam``, ...), a
        rule table, or all choices; by default ``deconvnet``, or what a folder's pair was made with.
        ``auto`` chooses by what is explained, see :func:`~onnx_deconv.attribution.method.chosen_method`.
    providers
        ``auto``, ``cpu``, ``cuda``, or a list of onnxruntime's names.
    labels
        Names of the classes; by default those in the model's metadata.
    inputs
        The inputs to send signals back to, where a model has several; by default all.
    input_shapes
        Sizes to assume for inputs, by name.
    low_memory
        Whether to return all memory but the weights to the system after each call, which is a little slower.
    max_layers
        For how many layers (and methods) the models are kept ready. Those used longest ago are dropped, and
        made again when they are needed.

    The model is a snapshot: its files are copied to the system's folder of temporary files, and may be
    replaced, cut short or deleted; a warning says so when it is noticed. Where there is no room for the
    copy, a warning says that the files must stay as they are.

    An explainer can be pickled, if its files are still what they were where it is unpickled, and used in a
    forked process, where it makes its sessions anew.

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
        max_layers: int = MAX_LAYERS,
    ) -> None:
        if max_layers < 1:
            raise InputError(f"max_layers={max_layers}: at least one layer's models have to be kept")
        saved = load_pair(model) if is_pair(model) else None  # type: ignore[arg-type]
        self.model = _model(model, saved, input_shapes)
        if saved is not None:
            saved = _beside(saved, self.model)
        self.model.files.keep()
        stored = Semantics(**saved.manifest["semantics"]) if saved is not None else Semantics()
        self.auto = semantics == AUTO and saved is None
        given = CLASS_METHOD if self.auto else None if semantics == AUTO else semantics
        self.semantics = stored if given is None else Semantics.of(given)
        self.providers = providers
        self.low_memory = low_memory
        self._inputs = inputs
        self.max_layers = max_layers
        self._chosen: dict[str, Semantics] = {}
        self.scores_layer, _ = scores_value(self.model)
        self.layer = self.scores_layer if saved is None else str(saved.manifest["explained"]["value"])
        self.saved = saved is not None
        self._pair = saved if self.semantics == stored and inputs is None else None
        self.labels = Labels.of(labels, self.model.metadata)
        self._begin()
        if self._pair is not None:
            self.session(self.layer, self.semantics)  # what is wrong with a saved pair shows now

    def _begin(self) -> None:
        """Start without sessions: at first, after unpickling, and in a forked process."""
        self._lock = threading.Lock()
        self._sessions = Recent[tuple[str, Semantics], PairSession](self.max_layers)
        _EXPLAINERS.add(self)

    def __getstate__(self) -> dict[str, Any]:
        return {name: each for name, each in vars(self).items() if name not in ("_lock", "_sessions")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        if self._pair is not None:
            self._pair = replace(self._pair, folder=self.model.folder)
        self._begin()

    def __call__(
        self,
        batch: Batch,
        target: Targets | None = None,
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
            The kind of seed, see :data:`~onnx_deconv.attribution.seed.SeedKind`. With ``auto``, a class is
            explained from its own feature map where the model has one below its global pool, else from its
            score; where a reconstruction comes out empty, the next of these is tried.

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
        whole = feeds_of(self.model, batch)
        targets = _per_image(target, length(whole))
        for first, feeds in chunks(self.model, whole):
            chosen = targets and targets[first : first + length(feeds)]
            found += self._explain(name, feeds, first, _Choice(chosen, position, top, seed))
        if self.low_memory:
            return_freed_memory()
        return found

    def explain(
        self,
        images: Any,
        target: Targets | None = None,
        *,
        layer: str | None = None,
        position: Sequence[int] | None = None,
        top: int = 1,
        seed: SeedKind = "auto",
        preprocess: "Preprocessing | None" = None,
    ) -> Any:
        """Explain photographs, whichever way a program holds them; the result can be looked at.

        Parameters
        ----------
        images
            One image, or several. An image is a path, an image of Pillow's, a uint8 array H×W×C, an array or
            tensor as the model takes it, or the row of a data set (:mod:`onnx_deconv.imaging.sources`).
        target
            A class, by index or label, or a channel of the layer; several are each explained in every image.
            By default the ``top`` strongest.
        layer, position, top, seed
            As for a call of the explainer.
        preprocess
            How photographs become the model's input: the name of a preset, a
            :class:`~onnx_deconv.imaging.Preprocess`, a ``preprocessor_config.json`` or ``config.json``, or a
            function of an image of Pillow's. By default what the model's metadata say, such a file beside the
            model, else the preset ``imagenet``.

        Returns
        -------
        Explanation, Explanations or iterator
            For one image and one target an :class:`~onnx_deconv.attribution.explanation.Explanation`; for a
            list, a tuple, a batch or several targets a list of them, which shows itself as a grid; for
            anything else that is iterated over (a generator, a data set) an iterator, which reads a batch at
            a time.

        Raises
        ------
        InputError
            If an image cannot be read, or an image or the target does not fit the model.
        UnknownLayerError
            If there is no such layer.
        """
        from onnx_deconv.attribution.images import explain_images  # noqa: PLC0415 - it explains by this class

        return explain_images(
            self, images, target, layer=layer, position=position, top=top, seed=seed, preprocess=preprocess
        )

    def __repr__(self) -> str:
        inputs, outputs = (
            ", ".join(f"{name} {self.model.type_of(name)}" for name in names)
            for names in (self.model.inputs, self.model.outputs)
        )
        method = AUTO if self.auto else self.semantics.method
        name = Path(self.model.name).name
        return f"Explainer({name}: {inputs} → {outputs}; {method}; providers {self.providers})"

    def scores(self, batch: Batch) -> Array:
        """Return the model's scores, shape (N, K): its output for each class.

        Raises
        ------
        InputError
            If the batch does not fit.
        """
        start = self._starts(self.scores_layer, _Choice(None, None, 1, "auto"))[0]
        session = self.session(start.layer, start.semantics)
        passes = [
            Pass(session, start.layer, feeds) for _, feeds in chunks(self.model, feeds_of(self.model, batch))
        ]
        return np.concatenate([p.scores(self.model.outputs[0]) for p in passes])

    def session(self, layer: str | None = None, semantics: Semantics | None = None) -> PairSession:
        """Return the pair, ready to run, that explains a layer; made on first use.

        Parameters
        ----------
        layer
            A value's or a node's name; by default what the explainer explains.
        semantics
            In place of those that :meth:`method` tells.
        """
        name = self._named(layer)
        key = name, semantics or self.method(name)
        with self._lock:
            self.model.files.check()
            return self._sessions.get(key) or self._sessions.add(key, self._made(*key))

    def _made(self, layer: str, semantics: Semantics) -> PairSession:
        """Make the pair that explains a layer ready to run."""
        pair = self._pair
        if pair is None or (layer, semantics) != (self.layer, self.semantics):
            self._sessions.make_room()
            pair = compile_pair(self.model, layer, semantics=semantics, inputs=self._inputs)
        return PairSession(pair, self.providers, low_memory=self.low_memory)

    def prepare(
        self, layer: str | None = None, position: Sequence[int] | None = None, seed: SeedKind = "auto"
    ) -> PairSession:
        """Make what an explanation needs at first, so that a model's errors come before any image.

        Parameters and errors are those of a call.
        """
        start = self._starts(self._named(layer), _Choice(None, position, 1, seed))[0]
        return self.session(start.layer, start.semantics)

    def method(self, layer: str | None = None) -> Semantics:
        """Return the semantics that a layer is explained with: those given, or what ``auto`` chooses."""
        name = self._named(layer)
        if self.auto and name not in self._chosen:
            self._chosen[name] = chosen_method(self.model, name, self._inputs)
        return self._chosen[name] if self.auto else self.semantics

    def _named(self, layer: str | None) -> str:
        return self.layer if layer is None else self.model.layer(layer)

    def _explain(
        self, layer: str, feeds: Mapping[str, Array], first: int, choice: "_Choice"
    ) -> Iterator[Explanation]:
        """Explain one chunk: one forward pass per layer tried, one backward pass per channel asked for."""
        starts = self._starts(layer, choice)
        check_room(self.session(starts[0].layer, starts[0].semantics), feeds)
        passes = Passes(lambda value, semantics: Pass(self.session(value, semantics), value, feeds))
        start = passes.of(starts[0])
        of_classes = layer == self.scores_layer
        scores = start.scores(self.model.outputs[0]) if of_classes else scores_of(start.explained)
        ranked = self._ranked(scores, choice, of_classes)
        columns = [
            explain_column(passes, starts, [int(c) for c in column], choice.position) for column in ranked.T
        ]
        for image, channels in enumerate(ranked):
            for channel, column in zip(channels, columns, strict=True):
                position = None if choice.position is None else tuple(choice.position)
                unit = None if position is None else (image, channel, *position)
                score = scores[image, channel] if unit is None else start.explained[unit]
                if column.kinds[image] == "strongest":
                    position = strongest(passes.of(column.starts[image]).explained[image, channel])
                label = self.labels.name(channel) if of_classes else None
                standing = (
                    Standing.of_a_class(self.model, layer, scores[image], int(channel))
                    if of_classes
                    else Standing.of_a_channel(layer, scores[image], int(channel))
                )
                found = {name: r[image] for name, r in column.reconstructions.items()}
                yield Explanation(
                    first + image, column.starts[image].layer, int(channel), label, float(score), position,
                    column.kinds[image], next(iter(found.values())), found, standing,
                    self._note(column, image), column.starts[image].semantics,
                    self._dependence(column, image).depends,
                )  # fmt: skip

    def _starts(self, layer: str, choice: "_Choice") -> list[Start]:
        """List the starts in order: where a reconstruction comes out empty, the next is tried.

        A class's own feature map comes first where the model has one: its activations say where the
        class was seen, while a class's score sends the same signal to every position, most of which the
        rectifiers below then cancel (docs/explanation.md has the figures).
        """
        chosen = self.method(layer)
        if choice.seed != "auto" or choice.position is not None or layer != self.scores_layer:
            return [Start(layer, choice.seed, chosen)]
        if chosen.reads_feature_maps:
            plain = [replace(chosen, cam="none")] if chosen.rules != NO_RULES else []
            others = [Semantics("guided"), Semantics("gradient")] if self.auto else []
            return [Start(layer, "one", each) for each in (chosen, *plain, *others)]
        scores = [Start(layer, "one", chosen)]
        if self.class_maps is None:
            return scores
        maps = [Start(self.class_maps, kind, chosen) for kind in _MAP_SEEDS]
        # A saved pair was made for the layer that it starts from. Rules of relevance divide what a score has
        # among the positions of its map by themselves.
        return scores + maps if self.saved or chosen.table.conserves else maps + scores

    def _note(self, column: Column, image: int) -> str | None:
        """Say what became of the signal, and whether the picture can be about the image."""
        blind = self._dependence(column, image).note
        return "; ".join(filter(None, (column.notes[image], blind))) or None

    def _dependence(self, column: Column, image: int) -> ImageDependence:
        start = column.starts[image]
        manifest = self.session(start.layer, start.semantics).pair.manifest
        found = ImageDependence.of(manifest)
        return of_a_map(start.semantics) if found.note and column.kinds[image] == "map" else found

    @cached_property
    def class_maps(self) -> str | None:
        """The value that holds one feature map per class, right below a global pool; if there is one."""
        return class_maps(self.model, self.scores_layer)

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


class _Choice(NamedTuple):
    """What to explain in each image of a chunk."""

    targets: Sequence[int | str] | None
    position: Sequence[int] | None
    top: int
    seed: SeedKind


def _model(source: Source | Model, saved: Pair | None, shapes: Mapping[str, Sequence[int]] | None) -> Model:
    if isinstance(source, Model):
        return source
    if saved is not None and isinstance(source, str | PathLike):
        return load(f"{source}/{FORWARD}", shapes)
    return load(source, shapes)


def _beside(saved: Pair, model: Model) -> Pair:
    """Let a saved pair read its weights where its forward model does."""
    check_weights(saved.deconv, model.files, model.name)
    if isinstance(saved.keeps, ModelFiles):
        saved.keeps.check()
    return replace(saved, folder=model.files.keep(), keeps=model.files)


def _begin_all() -> None:
    """Let all explainers begin anew: a session's threads do not survive a fork, nor does a held lock."""
    for explainer in list(_EXPLAINERS):
        explainer._begin()  # noqa: SLF001


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_all)


def _per_image(target: Targets | None, total: int) -> list[int | str] | None:
    """Return one target per image."""
    if target is None:
        return None
    if isinstance(target, str) or not np.ndim(target):
        return [_number_or_name(target)] * total
    if len(target) != total:  # type: ignore[arg-type]
        raise InputError(f"{len(target)} targets for {total} images: give one for all, or one for each")  # type: ignore[arg-type]
    return [_number_or_name(each) for each in target]  # type: ignore[union-attr]


def _number_or_name(target: Any) -> int | str:
    """Accept any kind of whole number: Python's, NumPy's, a tensor of one."""
    if isinstance(target, str):
        return str(target)
    try:
        return operator.index(target)
    except TypeError:
        raise InputError(f"target {target!r}: give a whole number or a name") from None


def _whole(target: int | str) -> int:
    try:
        return int(target)
    except ValueError:
        raise InputError(f"target {target!r}: a channel of a layer is given by its number") from None
