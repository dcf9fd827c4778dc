"""Explain units of a model: arrays in, scores and reconstructions out."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import replace
from functools import cached_property, partial
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, get_args

import numpy as np

from onnx_deconv.attribution.attempts import Column, Passes, Start, explain_column
from onnx_deconv.attribution.average import Average
from onnx_deconv.attribution.batches import Batch, chunks, feeds_of, length
from onnx_deconv.attribution.explanation import Explanation
from onnx_deconv.attribution.forward_pass import Pass
from onnx_deconv.attribution.method import AUTO, CLASS_METHOD, chosen_method
from onnx_deconv.attribution.passes import Forward
from onnx_deconv.attribution.remarks import Remarks
from onnx_deconv.attribution.seed import Place, SeedKind, as_strong, for_all, is_area
from onnx_deconv.attribution.sessions import Sessions
from onnx_deconv.attribution.standing import Equals, Standing
from onnx_deconv.attribution.subject import Subject
from onnx_deconv.attribution.target import Target, per_image, place_words
from onnx_deconv.compiler.inner_model import explained_value, load_model
from onnx_deconv.compiler.input_facts import labels_for
from onnx_deconv.compiler.package import FORWARD, is_pair, load_pair, reading_with
from onnx_deconv.compiler.pair import Pair, compile_pair
from onnx_deconv.errors import InputError, way
from onnx_deconv.labels import Labels
from onnx_deconv.model import Array, InputShapes, Model, Source, load
from onnx_deconv.model.feature_maps import class_maps
from onnx_deconv.model.head import (
    ROWS,
    ChosenKind,
    Head,
    chosen,
    class_count,
    fields_of,
    labels_unfit,
    numbered_alike,
    undecided,
)
from onnx_deconv.model.head_labels import boxes_by_labels, labelled, names_differ, names_of_fields
from onnx_deconv.model.heads import axes_of, explainable, head_of
from onnx_deconv.operators import RuleTable
from onnx_deconv.runtime import PairSession, Providers, Survival, return_freed_memory
from onnx_deconv.semantics import NO_RULES, Semantics

if TYPE_CHECKING:
    from onnx_deconv.attribution.images import Preprocessing
logger = logging.getLogger(__name__)

MAX_LAYERS = 8
"""For how many layers an explainer keeps models ready, unless told otherwise."""

_MAP_SEEDS: tuple[SeedKind, ...] = ("map", "strongest")
_WHOLE_MAP: tuple[SeedKind, ...] = ("map", "present", "strongest")
Targets = Target | Sequence[Target]
"""One target for all images, or one for each, see :data:`~onnx_deconv.attribution.target.Target`."""


class Explainer:
    """Explains any unit of one model.

    Sessions are made once per layer and reused; calls from several threads may run at once.

    Parameters
    ----------
    model
        A path to an ONNX file or to a folder made by ``onnx-deconv convert``, a serialised model, a
        ``ModelProto``, or a :class:`~onnx_deconv.model.Model`. An explain graph stands for the model in it.
    semantics
        A method's name (``deconvnet``, ``guided``, ``gradient``, ``grad-cam``, ``guided*grad-cam``, ...), a
        rule table, or all choices; by default ``deconvnet``, or what a folder's pair was made with.
        ``auto`` chooses by what is explained, see :func:`~onnx_deconv.attribution.method.chosen_method`.
    providers
        ``auto``, ``cpu``, ``cuda``, or a list of onnxruntime's names.
    labels
        Names of the classes; by default those in the model's file, or in a ``config.json`` beside it.
        ``imagenet`` takes ImageNet's, for a model of 1000 classes, or 1001.
    inputs
        The inputs to send signals back to, where a model has several; by default all.
    input_shapes
        Sizes to assume for inputs, by name; a word, as ``"N"``, stands for any size.
    output
        The output whose classes are explained; by default the first that is real numbers, or made of such.
    kind
        What a row of numbers is where nothing in the file says so: ``classes`` or ``regression``.
    average
        Explain by the mean over many inputs, see :class:`~onnx_deconv.attribution.average.Average`, or its
        name: ``smoothgrad`` (of the given method, else of the gradient) or ``integrated-gradients``.
    measure
        Whether to measure how much of the signal survives, where rectifiers read nothing of the image (the
        deconvnet). It takes another run of both models; without it nothing warns of a picture of leftovers.
    low_memory
        Whether to return all memory but the weights to the system after each call, which is a little slower.
    max_layers
        For how many layers (and methods) the models are kept ready. Those used longest ago are dropped, and
        made again when they are needed.

    Notes
    -----
    The model is a snapshot: its files are copied to the system's folder of temporary files, and may be
    replaced, cut short or deleted; a warning says so when it is noticed. Where there is no room for the
    copy, a warning says that the files must stay as they are.

    An explainer can be pickled, if its files are still what they were where it is unpickled, and used in a
    forked process, where it makes its sessions again.

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
        labels: Sequence[str] | str | None = None,
        inputs: Sequence[str] | None = None,
        input_shapes: InputShapes | None = None,
        output: str | None = None,
        kind: ChosenKind | None = None,
        average: Average | str | None = None,
        measure: bool = False,
        low_memory: bool = False,
        max_layers: int = MAX_LAYERS,
    ) -> None:
        if max_layers < 1:
            raise InputError(f"max_layers={max_layers}: at least one layer's models have to be kept")
        saved = load_pair(model) if is_pair(model) else None  # type: ignore[arg-type]
        self.model, manifest = _model(model, saved, input_shapes)
        if saved is not None:
            saved = reading_with(saved, self.model)
        self.model.files.keep()
        stored = Semantics(**manifest["semantics"]) if manifest is not None else Semantics()
        self.average = None if average is None else Average.of(average)
        if self.average is not None and (semantics is None or semantics == AUTO) and manifest is None:
            semantics = Semantics("gradient")
        self.auto = semantics == AUTO and manifest is None
        given = CLASS_METHOD if self.auto else None if semantics == AUTO else semantics
        self.semantics = stored if given is None else Semantics.of(given)
        if self.average is not None and self.average.integrates and self.semantics.method != "gradient":
            raise InputError(f"integrated gradients are of the gradient: leave out {self.semantics.method!r}")
        self.providers = providers
        self.measure = measure
        self.low_memory = low_memory
        self._inputs = inputs
        self._chosen: dict[str, Semantics] = {}
        named = output if manifest is None or output else manifest["explained"].get("output")
        self.head = head_of(self.model, named)
        self.saved = saved is not None
        known = labels_for(self.model, self.head, labels).names
        if (taken := boxes_by_labels(self.model, self.head, len(known))) is not None:
            logger.warning("%s: %s", self.model.name, taken)
        self.head = labelled(self.model, self.head, len(known))
        self.head = chosen(self.head, kind or _stored_kind(self.head, manifest))
        self.fields = fields_of(self.head, len(known))
        self.labels = Labels(names_of_fields(self.head, known))
        self.scores_layer = self.head.start
        layer = None if manifest is None else explained_value(manifest)
        self.layer = self.scores_layer if layer is None else layer
        told = None if self.fields is None and self.head.boxes is not None else self.classes
        unfit = labels_unfit(self.head, self.fields, len(self.labels.names))
        if (differ := unfit or names_differ(told, len(self.labels.names))) is not None:
            logger.warning("%s: %s", self.model.name, differ)
        self._of_layer = layer is not None and manifest is not None and not manifest["explained"]["output"]
        compiled = partial(
            _pair, self.model, self.scores_layer, inputs=inputs, output=self.head.output, kind=self._kind,
            labels=known or None,
        )  # fmt: skip
        same = saved is not None and saved.manifest["explained"]["value"] == self.layer
        same = same and self.semantics == stored and inputs is None
        ready = {(self.layer, stored): saved} if saved is not None and same else {}
        self._sessions = Sessions(self.model, providers, max_layers, compiled, ready, low_memory=low_memory)
        self._remarks = Remarks(self.model, self._sessions)
        self._forward = Forward(self.model, self._sessions, self.head, self.average, providers)
        for key in ready:
            self._sessions.pair(*key)  # what is wrong with a saved pair shows now

    def measuring(self) -> "Explainer":
        """Return one that shares the sessions of this one, and measures how much of the signal survives."""
        twin = copy(self)
        twin.measure = True
        return twin

    def may_be_leftovers(self, layer: str, semantics: Semantics) -> bool:
        """Tell whether the share of the signal that survives says something: no rectifier reads the image."""
        return self._remarks.may_be_leftovers(layer, semantics)

    def __call__(
        self,
        batch: Batch,
        target: Targets | None = None,
        *,
        layer: str | None = None,
        position: Place = None,
        top: int = 1,
        seed: SeedKind | Array = "auto",
    ) -> list[Explanation]:
        """Explain units of one layer for every image of a batch.

        Parameters
        ----------
        batch
            Images as the model takes them, shape (N, ...), or one such array per input name. Where the
            model's batch size is fixed, N may be any multiple of it.
        target
            What is explained: a class, by index or label, or a channel of the layer, or a sum of these
            (``-tabby``, ``tabby - tiger cat``, ``0.5*tabby + 207``); one for all images, or one for each. By
            default the ``top`` strongest of each image.
        layer
            A value's or a node's name; by default the scores, or what a saved pair was made to explain.
        position
            A position in the channel's feature map; a mask, which is fitted to the map; or ``region``: where
            the class wins over all others; by default ``seed`` decides.
        top
            How many channels to explain in each image where no target is given.
        seed
            The kind of seed, see :data:`~onnx_deconv.attribution.seed.SeedKind`, or an array of the explained
            value's shape, or of one image's, that is sent back as it is. With ``auto``, a class is
            explained from its own feature map where the model has one below its global pool, else from its
            score; where a reconstruction comes out empty, the next of these is tried.

        Returns
        -------
        list of Explanation
            In the order of the images; for each image its strongest channel first.

        Raises
        ------
        InputError
            If the batch, the target or the position does not fit the model, or nothing tells what to explain.
        ModelError
            If nothing tells what the output is.
        UnknownLayerError
            If there is no such layer.
        """
        name, of_classes = self._named(layer), self.explains_classes(layer)
        found: list[Explanation] = []
        whole = feeds_of(self.model, batch)
        total = length(self.model, whole)
        targets = per_image(target, total)
        for first, feeds in chunks(self.model, whole):
            images = slice(first, first + length(self.model, feeds))
            if not isinstance(seed, str):
                if target is not None or position is not None or top != 1:
                    raise InputError(
                        "seed: an array is all that is explained: leave out target, position, top"
                    )
                found += self._sent(name, feeds, images, np.asarray(seed), total)
                continue
            found += self._explain(
                name, feeds, first, _Choice(targets and targets[images], position, top, seed, of_classes)
            )
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
        seed: SeedKind | Array = "auto",
        preprocess: "Preprocessing | None" = None,
    ) -> Any:
        """Explain photographs, however a program holds them; the result shows itself.

        Parameters
        ----------
        images
            One image, or several. An image is a path, an image of Pillow's, a uint8 array H×W×C, an array or
            tensor as the model takes it, or the row of a data set (:mod:`onnx_deconv.imaging.sources`). For a
            model that takes no photographs: arrays, or paths of files with numbers. For one of several
            inputs: a mapping with something for each.
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
        """Return the model's scores, shape (N, K): its output for each class; of boxes the best.

        Raises
        ------
        InputError
            If the batch does not fit.
        """
        start = self._starts(self.scores_layer, _Choice(None, None, 1, "auto"))[0]
        passes = [
            self._forward.whole(feeds, start.layer, start.semantics)
            for _, feeds in chunks(self.model, feeds_of(self.model, batch))
        ]
        if self.fields is not None:
            return np.concatenate([self.fields.best(p.ranked(self.head)) for p in passes])
        return np.concatenate([p.scores(self.head) for p in passes])

    def forward(self, batch: Batch, layer: str | None = None) -> Pass:
        """Run a batch forward once: any of its units can then be sent back, each for a backward pass alone.

        Parameters
        ----------
        batch
            Images as the model takes them, as many as it takes at once.
        layer
            A value's or a node's name; by default what the explainer explains.

        Returns
        -------
        Pass
            Its ``explained`` holds the layer's activations; its ``back`` takes what is aimed at.

        Raises
        ------
        InputError
            If the batch does not fit.
        UnknownLayerError
            If there is no such layer.
        """
        name = self._named(layer)
        return self._forward.run(feeds_of(self.model, batch), name, self.method(name))

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
        return self._sessions.pair(name, semantics or self.method(name))

    def prepare(
        self, layer: str | None = None, position: Place = None, seed: SeedKind | Array = "auto"
    ) -> PairSession:
        """Make what an explanation needs at first, so that a model's errors come before any image.

        Parameters and errors are those of a call.
        """
        if not isinstance(seed, str):
            return self.session(layer)
        start = self.start(layer, position, seed)
        return self.session(start.layer, start.semantics)

    def start(self, layer: str | None = None, position: Place = None, seed: SeedKind = "auto") -> Start:
        """Return what an explanation starts from first, with what seed, and how signals are sent back.

        Whatever explains by other means, as an explain graph does, starts there too.

        Parameters and errors are those of a call.
        """
        choice = _Choice(None, position, 1, seed, self.explains_classes(layer))
        return self._starts(self._named(layer), choice)[0]

    def method(self, layer: str | None = None) -> Semantics:
        """Return the semantics that a layer is explained with: those given, or what ``auto`` chooses."""
        name = self._named(layer)
        if self.auto and name not in self._chosen:
            self._chosen[name] = chosen_method(self.model, name, self._inputs)
        return self._chosen[name] if self.auto else self.semantics

    @property
    def options(self) -> dict[str, Any]:
        """What an explainer by another method, or of a copy of the model, needs to explain the same."""
        names = self.labels.names or None
        return {"providers": self.providers, "labels": names, "output": self.head.output, "kind": self._kind}

    @property
    def undecided(self) -> str | None:
        """Why no class is explained unless one is named; ``None`` where the strongest is."""
        return undecided(self.head, self.fields, class_count(self.model, self.head), len(self.labels.names))

    @property
    def classes(self) -> int | None:
        """How many classes there are; ``None`` where the model leaves that open."""
        return class_count(self.model, self.head) if self.fields is None else self.fields.count

    @property
    def _kind(self) -> ChosenKind | None:
        kind = self.head.kind
        return kind if kind in ("classes", "regression") else None

    def _named(self, layer: str | None) -> str:
        name = self.layer if layer is None else self.model.layer(layer)
        if layer is None and name == self.scores_layer:
            explainable(self.model, self.head.output)
        return name

    def _check_count(self, layer: str, found: int, images: int) -> None:
        """Refuse results of several images together, as of a video whose frames lie along the batch."""
        if found < images:
            raise InputError(
                f"{layer!r} has {found} rows for {images} images: the model joins several into "
                f"one; choose a layer where each has its own ({way('--layer', 'layer=')})"
            )

    def explains_classes(self, layer: str | None = None) -> bool:
        """Tell whether a target is a class, of the output or of scores that are numbered like it.

        Parameters
        ----------
        layer
            A value's or a node's name; by default what the explainer explains.
        """
        name = self.layer if layer is None else self.model.layer(layer)
        asked = layer is not None or self._of_layer
        return name == self.scores_layer and (not asked or numbered_alike(self.head))

    def _explain(
        self, layer: str, feeds: Mapping[str, Array], first: int, choice: "_Choice"
    ) -> Iterator[Explanation]:
        """Explain one chunk: one forward pass per layer tried, one backward pass per channel asked for."""
        starts = self._starts(layer, choice)
        passes = Passes(partial(self._forward.run, feeds))
        of_classes = choice.of_classes
        head = self.head if of_classes else None
        subject = Subject(passes.of(starts[0]), head, self.labels, self.fields if of_classes else None)
        self._check_count(layer, len(subject.scores), length(self.model, feeds))
        rows = [
            [subject.aim(image, wanted, choice.position) for wanted in row]
            for image, row in enumerate(subject.wanted(choice.targets, choice.top))
        ]
        columns = [
            explain_column(passes, starts, [aim for _, aim in each]) for each in zip(*rows, strict=True)
        ]
        survivals = [self._survived(feeds, passes.of, column) for column in columns]
        for image, row in enumerate(rows):
            for (wanted, aim), column, survived in zip(row, columns, survivals, strict=True):
                found, single = column.found(image, aim), wanted.words is None
                alive, shown = column.seeds[image].any(), [each for each, _ in row]
                own = passes.of(column.starts[image]).explained[image, aim.weights[0][0]]
                unit = _Unit(
                    channel=wanted.first,
                    score=subject.score(image, wanted, aim),
                    standing=subject.standing(layer, image, wanted, aim),
                    label=self.labels.name(wanted.first) if of_classes and single else None,
                    position=aim.asked if found is None else found,
                    words=wanted.words,
                    place=place_words(choice.position),
                    equals=Equals(
                        subject.as_strong(image, shown, wanted) if alive and not choice.targets else 0,
                        as_strong(own) if alive and found is not None and aim.place is None else 0,
                    ),
                )
                yield self._explanation(first + image, unit, column, image, survived[image])

    def _sent(
        self, layer: str, feeds: Mapping[str, Array], images: slice, seed: Array, total: int
    ) -> Iterator[Explanation]:
        """Send an array back as it is, for the images of one chunk."""
        start = Start(layer, "auto", self.method(layer))
        run = self._forward.run(feeds, layer, start.semantics)
        given = for_all(run.explained, axes_of(self.model, layer), seed, total)[images]
        column = Column.of(run.send(given.astype(np.float32)), start, "array", given)
        survived = self._survived(feeds, lambda _: run, column)
        standing = Standing(layer, layer == self.scores_layer)
        for image in range(len(given)):
            score = float((given[image] * run.explained[image]).sum())
            unit = _Unit(0, score, standing, words="the given array")
            yield self._explanation(images.start + image, unit, column, image, survived[image])

    def _survived(
        self, feeds: Mapping[str, Array], run_of: Callable[[Start], Pass], column: Column
    ) -> list[Survival | None]:
        """Measure how much of each image's signal survived, where that is asked for."""
        measured = self.measure and self.average is None
        return self._remarks.survived(feeds, run_of, column) if measured else [None] * len(column.starts)

    def _explanation(
        self, number: int, unit: "_Unit", column: Column, image: int, survived: Survival | None
    ) -> Explanation:
        """Put together what is told of one image of a column, given its number in the whole batch."""
        start = column.starts[image]
        found = {name: r[image] for name, r in column.reconstructions.items()}
        of_scores = unit.standing.of_class
        return Explanation(
            **unit._asdict(),
            image=number,
            layer=start.layer,
            seed=column.kinds[image],
            reconstruction=next(iter(found.values())),
            reconstructions=found,
            note=self._remarks.note(column, image, survived, unit.equals, unit.standing),
            semantics=start.semantics,
            depends=self._remarks.dependence(column, image).depends,
            output=self.head.output if of_scores else None,
            kind=self.head.kind if of_scores else None,
            average=self.average,
            survived=None if survived is None else survived.share,
        )

    def _starts(self, layer: str, choice: "_Choice") -> list[Start]:
        """List the starts in order: where a reconstruction comes out empty, the next is tried.

        A class's own feature map comes first where the model has one: its activations say where the
        class was seen, while a class's score sends the same signal to every position, most of which the
        rectifiers below then cancel (docs/explanation.md has the figures).
        """
        chosen = self.method(layer)
        if self.average is not None and choice.seed == "auto":
            return [Start(layer, "one", chosen)]
        if choice.seed != "auto" or not choice.of_classes:
            of_one = choice.of_classes and self._is_of_one_score(choice)
            return [Start(layer, self.head.seed_of_a_place if of_one else choice.seed, chosen)]
        if choice.position is not None:
            return [Start(layer, self.head.seed_of_a_place, chosen)]
        if self.head.has_positions:
            return [Start(layer, self.head.seed, chosen)]
        if chosen.reads_feature_maps:
            plain = [replace(chosen, cam="none", cam_layer=None)] if chosen.rules != NO_RULES else []
            others = [Semantics("guided"), Semantics("gradient")] if self.auto else []
            return [Start(layer, "one", each) for each in (chosen, *plain, *others)]
        scores = [Start(layer, "one", chosen)]
        if self.class_maps is None:
            return scores
        maps = [Start(self.class_maps, kind, chosen) for kind in _MAP_SEEDS]
        # A saved pair was made for the layer that it starts from. Rules of relevance divide what a score has
        # among the positions of its map by themselves.
        return scores + maps if self.saved or chosen.table.conserves else maps + scores

    def _is_of_one_score(self, choice: "_Choice") -> bool:
        """Tell whether a seed of a whole map is asked for where one position is explained, as of a box."""
        one = self.head.kind == "detections" if choice.position is None else not is_area(choice.position)
        return one and choice.seed in _WHOLE_MAP

    @cached_property
    def class_maps(self) -> str | None:
        """The value that holds one feature map per class, right below a global pool; if there is one."""
        return class_maps(self.model, self.head)


def _stored_kind(head: Head, manifest: Mapping[str, Any] | None) -> ChosenKind | None:
    """Return what a pair's or a graph's maker said that a row of numbers is."""
    scores = manifest.get("scores") if manifest is not None else None
    if scores is None or scores["output"] != head.output or head.kind not in ROWS:
        return None
    return scores["kind"] if scores["kind"] in set(get_args(ChosenKind)) - {head.kind} else None


class _Unit(NamedTuple):
    """What is explained of one image; see :class:`~onnx_deconv.attribution.explanation.Explanation`."""

    channel: int
    score: float
    standing: Standing
    label: str | None = None
    position: tuple[int, ...] | None = None
    words: str | None = None
    place: str | None = None
    equals: Equals = Equals()


class _Choice(NamedTuple):
    """What to explain in each image of a chunk."""

    targets: Sequence[Target] | None
    position: Place
    top: int
    seed: SeedKind
    of_classes: bool = True


def _pair(model: Model, scores_layer: str, layer: str, **options: Any) -> Pair:
    """Make the pair of a layer, or of an output's classes where the layer holds its scores."""
    return compile_pair(model, None if layer == scores_layer else layer, **options)


def _model(
    source: Source | Model, saved: Pair | None, shapes: InputShapes | None
) -> tuple[Model, Mapping[str, Any] | None]:
    """Return the model, and what the manifest of a pair or an explain graph says of it."""
    if isinstance(source, Model):
        return source, None
    if saved is not None and isinstance(source, str | PathLike):
        model = load(f"{source}/{FORWARD}", shapes)
        # What the companion reads is an output there too, but none of the user's model.
        model.outputs = [entry["name"] for entry in saved.manifest["outputs"]]
        return model, saved.manifest
    return load_model(source, shapes)
