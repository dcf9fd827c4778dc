"""The measures: each takes a method under trial and some cases, and yields named numbers for each case.

A number that is not defined is ``None``: how alike two blank maps are, for instance.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Literal

import numpy as np

from onnx_deconv.evaluation.bench import Bench, Trial
from onnx_deconv.evaluation.cases import Case
from onnx_deconv.evaluation.concentration import gini, is_blank
from onnx_deconv.evaluation.disturbances import overlap
from onnx_deconv.evaluation.localisation import Mask
from onnx_deconv.evaluation.perturbation import CONTENTLESS, area_under, order_of, transition
from onnx_deconv.imaging.similarity import pearson, spearman
from onnx_deconv.model import Array

Numbers = Mapping[str, float | None]
Run = Callable[[Trial, Sequence[Case]], Iterable[Numbers]]


def blank(trial: Trial, cases: Sequence[Case]) -> Iterator[Numbers]:
    """Yield 1 for each map that shows nothing, else 0."""
    return ({"blank": float(is_blank(each))} for each in trial.maps(cases))


def sparsity(trial: Trial, cases: Sequence[Case]) -> Iterator[Numbers]:
    """Yield each map's Gini index."""
    return ({"gini": gini(each)} for each in trial.maps(cases))


def localisation(**numbers: Callable[[Array, Mask], float]) -> Run:
    """Make a measure that compares each map with the object, by functions of both."""

    def run(trial: Trial, cases: Sequence[Case]) -> Iterator[Numbers]:
        for each, case in zip(trial.maps(cases), cases, strict=True):
            inside = case.inside
            yield {name: None if inside is None else f(each, inside) for name, f in numbers.items()}

    return run


def image_dependence(trial: Trial, cases: Sequence[Case]) -> Iterator[Numbers]:
    """Compare each map with that of the next photograph, for the same class."""
    others = [trial.bench.partner(case) for case in cases]
    if None in others:  # there is but one photograph
        return (_likeness("image", None, None) for _ in cases)
    images = trial.bench.images([other for other in others if other is not None])
    return _compared("image", trial, cases, trial.explain(images, _targets(cases)))


def class_dependence(trial: Trial, cases: Sequence[Case]) -> Iterator[Numbers]:
    """Compare each map with that of the same photograph, for an unrelated class."""
    images = trial.bench.images(cases)
    pairs = zip(cases, trial.bench.scores(images), strict=True)
    others = [trial.bench.unrelated(case, scores) for case, scores in pairs]
    if None in others:  # there is but one class
        return (_likeness("class", None, None) for _ in cases)
    return _compared("class", trial, cases, trial.explain(images, [k for k in others if k is not None]))


def weight_dependence(name: str, depth: int) -> Run:
    """Make a measure that compares each map with that of a model whose last layers have random weights."""

    def run(trial: Trial, cases: Sequence[Case]) -> Iterator[Numbers]:
        others = trial.randomised(depth)(trial.bench.images(cases), _targets(cases))
        return _compared(name, trial, cases, others)

    return run


def stability(name: str, disturbed: Callable[[Bench, Case], Array]) -> Run:
    """Make a measure that compares each map with that of the same photograph, disturbed."""

    def run(trial: Trial, cases: Sequence[Case]) -> Iterator[Numbers]:
        images = np.stack([disturbed(trial.bench, case) for case in cases])
        return _compared(name, trial, cases, trial.explain(images, _targets(cases)))

    return run


def perturbation(kind: Literal["insertion", "deletion"]) -> Run:
    """Make a measure of the area under each map's insertion or deletion curves."""

    def area(trial: Trial, case: Case, saliency: Array, contentless: str) -> float:
        layout = trial.bench.preprocess.layout
        image = trial.bench.image(case)
        without = CONTENTLESS[contentless](image, layout)
        start, end = (image, without) if kind == "deletion" else (without, image)
        order = order_of(saliency, trial.bench.rng(case, "order"))
        images = transition(start, end, order, layout, trial.bench.steps)
        return area_under(trial.bench.probabilities(images)[:, case.target])

    def run(trial: Trial, cases: Sequence[Case]) -> Iterator[Numbers]:
        for each, case in zip(trial.maps(cases), cases, strict=True):
            yield {f"{kind}_{name}": area(trial, case, each, name) for name in CONTENTLESS}

    return run


def pair(name: str) -> tuple[str, str]:
    """Name the two numbers of a measure of likeness."""
    return f"{name}_pearson", f"{name}_spearman"


def _compared(name: str, trial: Trial, cases: Sequence[Case], others: Array) -> Iterator[Numbers]:
    for before, after in zip(trial.maps(cases), others, strict=True):
        yield _likeness(name, *(overlap(before, after) if name == "shift" else (before, after)))


def _likeness(name: str, before: Array | None, after: Array | None) -> Numbers:
    """Correlate two maps; with a blank one, any other has nothing in common."""
    if before is None or after is None:
        return dict.fromkeys(pair(name))
    if is_blank(before) != is_blank(after):
        return dict.fromkeys(pair(name), 0.0)
    return dict(zip(pair(name), (pearson(before, after), spearman(before, after)), strict=True))


def _targets(cases: Sequence[Case]) -> list[int]:
    return [case.target for case in cases]
