"""Measure whether saliency maps are about the photograph and about the class."""

import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from onnx_deconv.attribution.explainer import Explainer
from onnx_deconv.attribution.method import AUTO
from onnx_deconv.errors import InputError, way
from onnx_deconv.evaluation.bench import Bench, Trial
from onnx_deconv.evaluation.cases import Boxes, Case, boxes_from
from onnx_deconv.evaluation.catalogue import MEASURES, Measure, measures_named
from onnx_deconv.evaluation.journal import Journal, key_of
from onnx_deconv.evaluation.methods import BASELINES, Method, method_of
from onnx_deconv.evaluation.perturbation import STEPS
from onnx_deconv.evaluation.results import Evaluation
from onnx_deconv.experiments.common import Watch
from onnx_deconv.files import folder
from onnx_deconv.imaging import PathLike, Preprocess, preprocess_for
from onnx_deconv.model import Model, Source, digest
from onnx_deconv.operators import RuleTable

METHODS = (AUTO, "deconvnet", "guided", "gradient", *BASELINES)
"""What is evaluated by default."""
_BATCH = 8


class Step(NamedTuple):
    """What is measured at once."""

    method: Method
    measure: Measure
    cases: Sequence[Case]


def evaluate(
    model: Explainer | Source | Model,
    photographs: Iterable[PathLike],
    methods: Sequence[Method | RuleTable | str] = METHODS,
    *,
    boxes: Boxes | PathLike | None = None,
    masks: PathLike | None = None,
    measures: Sequence[str] = tuple(MEASURES),
    output: PathLike | None = None,
    preprocess: Preprocess | None = None,
    random_state: int = 0,
    steps: int = STEPS,
    batch: int = _BATCH,
    watch: Watch = iter,
) -> Evaluation:
    """Measure methods on photographs.

    Parameters
    ----------
    model
        An explainer for the model, whose providers are taken and whose labels are known, or what
        :class:`~onnx_deconv.attribution.explainer.Explainer` takes as a model.
    photographs
        Picture files, of different names.
    methods
        Names of what an explainer takes or of :data:`~onnx_deconv.evaluation.methods.BASELINES`, rule
        tables, or methods of your own.
    boxes
        Where objects are: a CSV file (:func:`~onnx_deconv.evaluation.cases.boxes_from`), or what is in one.
        The class of a photograph's boxes is explained; without boxes, the one with the highest score.
    masks
        A folder of masks, in place of boxes (:func:`~onnx_deconv.evaluation.cases.cases_of`).
    measures
        Names of :data:`~onnx_deconv.evaluation.catalogue.MEASURES`, or ``cascade``.
    output
        A folder for the journal. What an interrupted run has measured is not measured again.
    preprocess
        How photographs become the model's input; by default as
        :func:`~onnx_deconv.imaging.preprocess_for` decides.
    random_state
        Seeds all random numbers.
    steps
        Steps of insertion and deletion: for each method and photograph, four times as many runs of the model.
    batch
        How many photographs are explained at once.
    watch
        See :data:`~onnx_deconv.experiments.common.Watch`; the steps are :class:`Step` s.

    Raises
    ------
    InputError
        If an argument does not fit, a file cannot be read, or the folder holds another evaluation.
    """
    explainer = model if isinstance(model, Explainer) else Explainer(model)
    preprocess = preprocess or preprocess_for(explainer.model)[0]
    chosen = [method_of(method, explainer) for method in methods]
    _check(chosen, explainer.model, preprocess)
    if boxes is not None and not isinstance(boxes, Mapping):
        boxes = boxes_from(boxes, explainer.labels)
    bench = Bench(explainer, photographs, preprocess, boxes, masks, random_state, steps)
    wanted = measures_named(measures, len(bench.layers))
    made = _made(bench)
    journal = Journal(None if output is None else folder(output), made)
    planned = [step for method in chosen for step in _steps(method, wanted, bench.cases, batch)]
    _run(bench, [left for step in planned if (left := _left(step, journal)).cases], journal, watch)
    names = [method.name for method in chosen]
    found = {
        (name, measure.name, k): journal[key_of(name, measure.name, case)]
        for name in names
        for measure in wanted
        for k, case in enumerate(bench.cases)
    }
    return Evaluation(made, names, wanted, bench.cases, found)


def _steps(method: Method, measures: Sequence[Measure], cases: Sequence[Case], batch: int) -> Iterator[Step]:
    """Yield the steps of one method; those on one copy of the model together."""
    for depth in sorted({measure.depth for measure in measures}):
        for first in range(0, len(cases), batch):
            for measure in (each for each in measures if each.depth == depth):
                yield Step(method, measure, cases[first : first + batch])


def _left(step: Step, journal: Journal) -> Step:
    """Return what the journal does not have yet."""
    names = step.method.name, step.measure.name
    return step._replace(cases=[case for case in step.cases if key_of(*names, case) not in journal])


def _run(bench: Bench, steps: Sequence[Step], journal: Journal, watch: Watch) -> None:
    trial: Trial | None = None
    for method, measure, cases in watch(steps):
        if trial is None or trial.method is not method:
            trial = Trial(bench, method)
        journal.note(method.name, measure.name, dict(zip(cases, measure.run(trial, cases), strict=True)))


def _check(methods: Sequence[Method], model: Model, preprocess: Preprocess) -> None:
    if not methods:
        raise InputError("there is no method to evaluate: name at least one")
    names = [method.name for method in methods]
    if preprocess.size is None:
        raise InputError(
            "maps of photographs in their own sizes cannot be compared: give "
            + way("a --size", "a size, by preprocess=")
        )
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise InputError(f"two methods are called {twice!r}: give them different names")
    for method in methods:  # a wrong name is found before hours of work
        method.on(model, preprocess.layout)


def _made(bench: Bench) -> Mapping[str, Any]:
    """Return what the numbers depend on."""
    cases = [(case.name, case.target, _sum(case)) for case in bench.cases]
    preprocess = {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(bench.preprocess).items()}
    return {
        "model": Path(bench.model.name).name,
        "sha256": digest(bench.model),
        "output": bench.output,
        "preprocess": preprocess,
        "random_state": bench.random_state,
        "steps": bench.steps,
        "photographs": len({case.name for case in bench.cases}),
        "cases": f"{zlib.crc32(repr(cases).encode()):08x}",
    }


def _sum(case: Case) -> int:
    return 0 if case.inside is None else zlib.crc32(case.inside.tobytes())
