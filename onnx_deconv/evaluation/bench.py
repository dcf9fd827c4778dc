"""What all measures of one evaluation share: the model, the photographs, and one method at a time."""

import zlib
from collections.abc import Iterable, Sequence
from functools import cached_property

import numpy as np

from onnx_deconv.attribution.explainer import Explainer
from onnx_deconv.attribution.features import Features
from onnx_deconv.errors import InputError
from onnx_deconv.evaluation.cases import Boxes, Case, cases_of
from onnx_deconv.evaluation.methods import Maps, Method
from onnx_deconv.evaluation.perturbation import STEPS
from onnx_deconv.evaluation.randomisation import Layer, learnt_layers, randomised
from onnx_deconv.imaging import PathLike, Photo, Preprocess
from onnx_deconv.model import Array
from onnx_deconv.model.detections import softmax

_KEPT = 256 << 20
"""Bytes of images, and of maps, that are kept in memory."""


class Bench:
    """A model and the photographs that methods are measured on.

    Parameters
    ----------
    explainer
        Any explainer for the model: the model itself runs, and the labels are known.
    photographs, preprocess, boxes, masks
        As for :func:`onnx_deconv.evaluation.cases.cases_of`.
    random_state
        Seeds all random numbers.
    steps
        Of insertion and deletion.

    Attributes
    ----------
    cases
        The photographs, each with a class: that of its boxes, or the one with the highest score.
    """

    def __init__(
        self,
        explainer: Explainer,
        photographs: Iterable[PathLike],
        preprocess: Preprocess,
        boxes: Boxes | None = None,
        masks: PathLike | None = None,
        random_state: int = 0,
        steps: int = STEPS,
    ) -> None:
        self.model, self.preprocess = explainer.model, preprocess
        self.output, self._undecided = explainer.head.output, explainer.undecided
        self.random_state, self.steps = random_state, steps
        self._network = Features(explainer)
        self._tensors = _Latest()
        self.cases = cases_of(photographs, preprocess, self._top_class, boxes, masks)

    @cached_property
    def layers(self) -> list[Layer]:
        """The layers with weights, the last one first."""
        return learnt_layers(self.model)

    def photo(self, case: Case) -> Photo:
        """Read a case's photograph."""
        return Photo.read(case.path, self.preprocess)

    def image(self, case: Case) -> Array:
        """Return a photograph as the model takes it."""
        if case.name not in self._tensors:
            self._tensors.keep(case.name, self.photo(case).tensor)
        return self._tensors[case.name]

    def images(self, cases: Sequence[Case]) -> Array:
        """Return photographs as the model takes them, shape (N, ...)."""
        return np.stack([self.image(case) for case in cases])

    def scores(self, images: Array) -> Array:
        """Return the scores of images, before a final softmax or sigmoid, shape (N, K)."""
        return self._network(images).scores

    def probabilities(self, images: Array) -> Array:
        """Return the probability of each class, shape (N, K); where the model has none, by a softmax."""
        values = self._network(images)
        return softmax(values.scores) if values.probabilities is None else values.probabilities

    def partner(self, case: Case) -> Case | None:
        """Return the next photograph; ``None`` where there is no other."""
        place = self.cases.index(case)
        others = [*self.cases[place + 1 :], *self.cases[:place]]
        return next((other for other in others if other.name != case.name), None)

    def unrelated(self, case: Case, scores: Array) -> int | None:
        """Draw another class, of the half with the lower scores; ``None`` where there is no other."""
        ranking = [k for k in np.argsort(-scores, kind="stable").tolist() if k != case.target]
        lower = ranking[len(ranking) // 2 :]
        return int(self.rng(case, "class").choice(lower)) if lower else None

    def rng(self, case: Case, purpose: str) -> np.random.Generator:
        """Make random numbers that depend on the case and the purpose, not on what ran before."""
        text = f"{purpose} {case.target} {case.name}"
        return np.random.default_rng([self.random_state, zlib.crc32(text.encode())])

    def _top_class(self, photo: Photo) -> int:
        if self._undecided is not None:
            raise InputError(f"{self._undecided}; here a photograph's box (--boxes) says which")
        return int(self._network(photo.tensor[None]).ranks[0].argmax())


class Trial:
    """One method on a bench.

    Attributes
    ----------
    bench
        The model and the photographs.
    method
        The method.
    explain
        The method on the model: takes images and classes, returns maps.
    """

    def __init__(self, bench: Bench, method: Method) -> None:
        self.bench, self.method = bench, method
        self.explain: Maps = method.on(bench.model, bench.preprocess.layout)
        self._maps = _Latest()
        self._randomised: tuple[int, Maps] | None = None

    def maps(self, cases: Sequence[Case]) -> Array:
        """Return the saliency maps of cases, each for its own class, shape (N, H, W)."""
        found = {case: self._maps[_key(case)] for case in cases if _key(case) in self._maps}
        missing = [case for case in cases if case not in found]
        if missing:
            made = self.explain(self.bench.images(missing), [case.target for case in missing])
            found |= zip(missing, made, strict=True)
        for case in missing:
            self._maps.keep(_key(case), found[case])
        return np.stack([found[case] for case in cases])

    def randomised(self, depth: int) -> Maps:
        """Return the method on a copy of the model whose last `depth` layers have random weights."""
        if self._randomised is None or self._randomised[0] != depth:
            self._randomised = None  # its memory goes before the next one takes some
            copy = randomised(self.bench.model, self.bench.layers[:depth], self.bench.random_state)
            self._randomised = depth, self.method.on(copy, self.bench.preprocess.layout)
        return self._randomised[1]


class _Latest(dict[str, Array]):
    """The arrays that were kept last, as many as memory is set aside for; at least one."""

    def keep(self, key: str, array: Array) -> None:
        self[key] = array
        while len(self) > max(1, _KEPT // array.nbytes):
            del self[next(iter(self))]


def _key(case: Case) -> str:
    return f"{case.target} {case.name}"
