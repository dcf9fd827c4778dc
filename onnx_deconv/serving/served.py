"""One model behind a server: its plain graph and its explain graph, and what callers give and get.

A request that asks for the model's own outputs runs the model as it is; one that asks for ``reconstruction``
or ``heat`` runs the explain graph, which costs about two such runs.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from onnx import TensorProto, helper

from onnx_deconv.attribution.batches import check_finite
from onnx_deconv.attribution.explainer import Explainer
from onnx_deconv.compiler.dependence import ImageDependence, of_a_map
from onnx_deconv.compiler.explain_graph import ExplainGraph, explain_graph
from onnx_deconv.compiler.pair import Pair
from onnx_deconv.compiler.seed_graph import GraphSeed
from onnx_deconv.errors import InputError
from onnx_deconv.imaging import Photo, Picture, Preprocess, Views
from onnx_deconv.model import Array
from onnx_deconv.model.axis_names import has_batches
from onnx_deconv.runtime import Session, Survival
from onnx_deconv.serving.batching import Alike, Feeds, Job, Results, Runs
from onnx_deconv.serving.photographs import TooLargeError, measured, read_photograph
from onnx_deconv.serving.protocol import BYTES, Request, datatype, file_of, text_of
from onnx_deconv.verification import heeds_neighbours, random_feeds, survival

PHOTO = "photo"
VERSION = "1"
"""Of every model: a server has no other."""
_TOP = 5
_PHOTOGRAPHS = 4
"""How many photographs of the most pixels one request may have: nobody stops one that is being decoded."""


@dataclass(frozen=True)
class Described:
    """An input or output, as metadata tell of it; a size that is free is -1."""

    name: str
    datatype: str
    shape: list[int]


_NO_TENSOR = "undefined"


class Served:
    """A model, ready to answer.

    Parameters
    ----------
    name
        What callers call it.
    explainer
        Explains its classes; only what it is asked for at once is kept of it.
    preprocess
        How photographs become its input; ``None`` for a model that takes none.
    pixels
        Pixels of a photograph, at most.
    """

    def __init__(self, name: str, explainer: Explainer, preprocess: Preprocess | None, pixels: int) -> None:
        self.name, self.model, self.labels, self.head = (
            name,
            explainer.model,
            explainer.labels,
            explainer.head,
        )
        self.preprocess, self._pixels = preprocess, pixels
        self.classes = explainer.classes
        self._graph = graph_of(explainer, preprocess)
        self.method, self.note = str(explainer.method().method), note_of(explainer, preprocess)
        manifest = self._graph.manifest
        self._plain = Session(self.model.proto, self.model.folder, explainer.providers)
        self._explain = Session(self._graph.proto, self._graph.folder, explainer.providers)
        self.target = str(manifest["target"]["name"])
        self.photo = _free(PHOTO, [*self.model.inputs, self.target]) if preprocess is not None else None
        # A sequence, or a map, as a ZipMap makes, has no form in the protocol.
        tensors = [entry for entry in manifest["outputs"] if entry["dtype"] != _NO_TENSOR]
        self.outputs = [_described(entry) for entry in tensors]
        self.own_outputs = [each.name for each in self.outputs if each.name in self.model.outputs]
        self.reconstruction = next(
            e["name"] for e in manifest["outputs"] if e["name"] not in self.model.outputs and "of" in e
        )
        self._has_batches = has_batches(self.model)
        # Callers who are put together must not see each other.
        self._can_batch = self._has_batches and not heeds_neighbours(
            self.model, self._plain.run_plainly, preprocess
        )

    @property
    def inputs(self) -> list[Described]:
        """What it takes: its own inputs or a photograph, and what to explain."""
        own = [
            Described(n, datatype(self.model.input_dtype(n)), _sizes(self.model.type_of(n).shape))
            for n in self.model.inputs
        ]
        photo = [] if self.photo is None else [Described(self.photo, BYTES, [-1])]
        return [*own, *photo, Described(self.target, "INT64", [-1])]

    def job(self, request: Request) -> tuple[Job, Alike, list[str]]:
        """Return what a request makes the server run, and the names of the outputs that it wants.

        Raises
        ------
        InputError
            If the request does not fit the model.
        """
        names = list(request.outputs) or [each.name for each in self.outputs]
        known = {each.name for each in self.outputs}
        if unknown := [name for name in names if name not in known]:
            raise InputError(f"no output is named {unknown[0]!r}: there are {', '.join(sorted(known))}")
        if self.target in request.parameters:
            raise InputError(f"{self.target!r} is an input, not a parameter: give it among the inputs")
        feeds, images = self._feeds(request.inputs)
        explains = not set(names) <= set(self.own_outputs)
        targets = self._targets(request.inputs.get(self.target), images)
        if self.target in request.inputs and not explains:
            raise InputError(
                f"{self.target!r}: nothing is explained here: name {self.reconstruction!r} among the "
                "outputs, or leave it out"
            )
        if explains:
            for name, array in feeds.items():
                check_finite(name, array)
            feeds[self.target] = targets
        job = Job(self._runner(explains=explains), feeds, images)
        return job, self._alike(feeds, explains=explains), names

    async def results(self, request: Request, runs: Runs, told: dict[str, Any]) -> Results:
        """Run what is asked for; return the outputs that are wanted.

        Parameters
        ----------
        request
            What is asked for.
        runs
            Where it runs.
        told
            What the log says of the request; added to.
        """
        reading = runs.photograph if self.photo in request.inputs else asyncio.to_thread
        job, alike, names = await reading(self.job, request)
        told |= {"explained": self.target in job.feeds, "images": job.images}
        results = await runs.submit(job, alike)
        return {name: results[name] for name in names}

    def classes_of(self, results: Results) -> list[dict[str, Any]]:
        """List the strongest classes of the first image, by the model's own output."""
        found = results.get(self.head.output)
        if self.head.kind != "classes" or found is None or self.head.own is None:
            return []
        scores = np.asarray(self.head.own.canonical(found)[0], np.float64).ravel()
        best = np.argsort(-scores, kind="stable")[:_TOP]
        return [{"class": int(k), "label": self.labels.name(int(k)), "score": float(scores[k])} for k in best]

    def empty(self, results: Results) -> list[int]:
        """Name the images whose signal died on its way back: their reconstructions are zero everywhere."""
        return [k for k, each in enumerate(results.get(self.reconstruction, ())) if not each.any()]

    def told(self, results: Results) -> dict[str, Any]:
        """Say what is not to be seen in the reconstructions, if there are any among the results."""
        if set(results) <= set(self.own_outputs):
            return {}
        empty = self.empty(results)
        return ({"empty": empty} if empty else {}) | ({} if self.note is None else {"note": self.note})

    def picture(self, results: Results, photo: bytes, view: str) -> Picture:
        """Draw a view of the first image's reconstruction (:data:`onnx_deconv.imaging.VIEWS`)."""
        if self.preprocess is None:
            raise InputError("the model takes no photographs: ask for tensors")
        picture = read_photograph(photo, self._pixels)
        shown = Photo(picture, *self.preprocess.apply(picture))
        return Views(shown, results[self.reconstruction][0], self.preprocess)[view]

    def _runner(self, *, explains: bool) -> Callable[[Feeds], Results]:
        return (self._explain if explains else self._plain).run_plainly

    def _alike(self, feeds: Feeds, *, explains: bool) -> Alike:
        if not self._can_batch:
            return Alike(None)
        shapes = tuple(sorted((name, array.shape[1:]) for name, array in feeds.items()))
        return Alike((self.name, explains, shapes), self.model.batch)

    def _feeds(self, inputs: Mapping[str, Array]) -> tuple[dict[str, Array], int]:
        """Return what the model takes, and how many images that is."""
        given = set(inputs) - {self.target}
        if self.photo is not None and given == {self.photo}:
            return self._photographs([file_of(self.photo, each) for each in inputs[self.photo].ravel()])
        if given != set(self.model.inputs):
            or_photo = f", or {self.photo}" if self.photo else ""
            raise InputError(
                f"the model takes {', '.join(self.model.inputs)}{or_photo}; given: "
                f"{', '.join(map(repr, sorted(given))) or 'nothing'}"
            )
        feeds = {name: self._checked(name, inputs[name]) for name in self.model.inputs}
        counts = {len(array) for array in feeds.values() if array.ndim}
        if self._has_batches and len(counts) != 1:
            raise InputError("every input needs the same number of images")
        return feeds, next(iter(counts), 1)

    def _photographs(self, files: Sequence[bytes]) -> tuple[dict[str, Array], int]:
        """Read photographs: many small files could be more than memory holds, or take minutes to decode."""
        if sum(measured(file) for file in files) > _PHOTOGRAPHS * self._pixels:
            raise TooLargeError(f"{len(files)} photographs of this size are too many for one request")
        tensors: list[Array] = []
        for file in files:
            tensors.append(self.preprocess.apply(read_photograph(file, self._pixels))[0])  # type: ignore[union-attr]
            if sum(tensor.size for tensor in tensors) > len("RGB") * self._pixels:
                raise TooLargeError(f"{len(files)} photographs are too many for one request: send fewer")
        if len({tensor.shape for tensor in tensors}) != 1:
            raise InputError(f"input {self.photo!r}: give at least one photograph, and all of one size")
        return {self.model.inputs[0]: np.stack(tensors)}, len(tensors)

    def _checked(self, name: str, array: Array) -> Array:
        dtype, shape = self.model.input_dtype(name), self.model.type_of(name).shape
        if array.dtype != dtype:
            raise InputError(f"input {name!r} is {datatype(array.dtype)}: give {datatype(dtype)}")
        if shape is not None:
            free = 1 if self._can_batch else 0
            sizes = zip(shape[free:], array.shape[free:], strict=False)
            if array.ndim != len(shape) or any(d not in (None, a) for d, a in sizes) or not array.size:
                given = "×".join(map(str, array.shape))
                raise InputError(f"input {name!r} has the shape {self.model.type_of(name)}, not {given}")
        return array

    def _targets(self, given: Array | None, images: int) -> Array:
        """Return the class to explain in each image; -1 for the strongest."""
        if given is None:
            return np.full(images, -1, np.int64)
        if given.dtype.kind not in "iuO" or given.size not in (1, images):
            raise InputError(f"input {self.target!r}: give one class, or one for each image, INT64 or BYTES")
        found = [self._class(each) for each in given.ravel()]
        if self.classes is not None and any(not -1 <= k < self.classes for k in found):
            raise InputError(
                f"input {self.target!r}: classes are 0 to {self.classes - 1}, -1 for the strongest"
            )
        return np.broadcast_to(np.array(found, np.int64), images).copy()

    def _class(self, given: Any) -> int:
        if not isinstance(given, str | bytes):
            return int(given)
        text = text_of(self.target, given)
        return -1 if text == "-1" else self.labels.index(text)


def graph_of(explainer: Explainer, preprocess: Preprocess | None) -> ExplainGraph:
    """Make the graph that explains what the explainer does where it is not asked for anything special.

    Raises
    ------
    DeconvError
        If the model's classes cannot be explained in one graph.
    """
    start = explainer.start()
    return explain_graph(
        explainer.session(start.layer, start.semantics).pair,
        seed=cast(GraphSeed, start.seed),  # no place was asked for, whose value would be the seed
        ranking=explainer.scores_layer if start.layer != explainer.scores_layer else None,
        target_input="required",
        rendering=None if preprocess is None else preprocess.layout,
    )


def note_of(explainer: Explainer, preprocess: Preprocess | None) -> str | None:
    """Say what is wrong with all pictures of a model's classes, if anything is.

    They may not be about the image, or be drawn from leftovers of the signal. What is left of the strongest
    unit's signal is measured once, on a random input, since measuring each request would double its time.
    """
    pair = explainer.prepare().pair
    dependence = ImageDependence.of(pair.manifest)
    if dependence.note and pair.manifest["explained"]["value"] != explainer.scores_layer:
        dependence = of_a_map(explainer.method())
    left = None if dependence.reads_activations else _survival(explainer, pair, preprocess)
    return "; ".join(filter(None, (None if left is None else left.warning, dependence.note))) or None


def _survival(explainer: Explainer, pair: Pair, preprocess: Preprocess | None) -> Survival | None:
    try:
        feeds = random_feeds(explainer.model, np.random.default_rng(0), preprocess)
    except InputError:  # only callers know the sizes of its inputs
        return None
    return survival(explainer.model, pair, feeds, explainer.providers)


def _sizes(shape: Sequence[int | str | None] | None) -> list[int]:
    return [size if isinstance(size, int) else -1 for size in shape or ()]


def _described(entry: Mapping[str, Any]) -> Described:
    dtype = helper.tensor_dtype_to_np_dtype(TensorProto.DataType.Value(str(entry["dtype"]).upper()))
    return Described(entry["name"], datatype(np.dtype(dtype)), _sizes(entry["shape"]))


def _free(name: str, taken: Sequence[str]) -> str:
    return name if name not in taken else _free(f"{name}_", taken)
