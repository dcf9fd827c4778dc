"""Explain photographs one batch after another, and report those that cannot be explained."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from onnx_deconv.cli.batch import JOURNAL, Batch
from onnx_deconv.cli.console import Console, counted
from onnx_deconv.cli.explanation import Job
from onnx_deconv.cli.model_options import tell_assumed
from onnx_deconv.cli.outcomes import Explained, Explaining, Outcome
from onnx_deconv.cli.pictures import stems
from onnx_deconv.cli.study import Failures
from onnx_deconv.cli.together import together
from onnx_deconv.errors import InputError
from onnx_deconv.imaging import VIEWS
from onnx_deconv.labels import IMAGENET, IMAGENET_CLASSES


def explain(console: Console, job: Job, paths: Sequence[str], ray: str | None = None) -> int:
    """Explain photographs, on a Ray cluster if its address is given; return the exit code.

    A photograph that cannot be read is reported, and the others are explained. Any other error (a
    class that does not exist, a full disk) would occur for each of them, and ends the command.
    """
    for subject in job.subjects():
        subject.prepare()  # errors of the model come before any photograph
    _offer_names(console, job)
    if any(subject.of_classes for subject in job.subjects()):
        tell_assumed(console, job.study.explainer.head)
    batch = Batch(job, paths) if len(paths) > 1 else None
    done = {} if batch is None else dict(batch.done)
    _report_done(console, done)
    names, failures = dict(zip(paths, stems(paths), strict=True)), Failures(console, len(paths))
    groups = _groups(job, [path for path in paths if path not in done])
    try:
        for outcomes in _outcomes(console, job, names, groups, ray):
            _note(console, batch, outcomes, failures, elsewhere=ray is not None)
    finally:
        made = [] if batch is None else batch.write_summary()
    if made:
        console.say(f"{' and '.join(map(str, made))}: all {len(paths)} photographs")
    return failures.exit_code()


def _note(
    console: Console, batch: Batch | None, outcomes: Mapping[str, Outcome], failures: Failures,
    *, elsewhere: bool,
) -> None:  # fmt: skip
    """Report what became of photographs."""
    for path, outcome in outcomes.items():
        if isinstance(outcome, InputError):
            failures.note(outcome)
            if batch is not None:
                batch.fail(path, str(outcome))
            continue
        for one in outcome:
            _report(console, one)
        if batch is not None and outcome:
            batch.note(path, [(one.record, one.thumbnail) for one in outcome])
            batch.say_what_it_takes(console, path, elsewhere=elsewhere)


def _outcomes(
    console: Console, job: Job, names: Mapping[str, str], groups: Sequence[Sequence[str]], ray: str | None
) -> Iterable[Mapping[str, Outcome]]:
    if ray is not None:
        return together(console, job, names, groups, ray)
    explaining = Explaining(job, names)
    return map(explaining.explain, console.progress(groups, lambda group: Path(group[0]).name))


def _report_done(console: Console, done: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    """Say what an earlier run has explained, and give its results where a program reads them."""
    if not done:
        return
    console.say(f"{counted(len(done), 'photograph')} explained already; delete {JOURNAL} to begin again")
    for records in done.values():
        for record in records:
            if console.json:
                console.result(record, "")


def _groups(job: Job, paths: Sequence[str]) -> list[Sequence[str]]:
    """Cut the photographs into what the model takes at once: one, or its fixed batch size."""
    step = 1 if job.study.own_sizes else job.study.explainer.model.batch or 1
    return [paths[k : k + step] for k in range(0, len(paths), step)]


def _offer_names(console: Console, job: Job) -> None:
    explainer = job.study.explainer
    of_classes = any(selection.layer is None for selection in job.selections)
    if of_classes and not explainer.labels.names and explainer.classes in IMAGENET_CLASSES:
        console.warn(f"the model names no classes; if they are ImageNet's, --labels {IMAGENET} does")


def _report(console: Console, one: Explained) -> None:
    image, files = one.record["image"], one.record["files"]
    views = [f"  {path}" for view, path in files.items() if view.startswith(VIEWS)]
    console.result(one.record, "\n".join([f"{image}: {one.what}", *views]))
    for warning in one.warnings:
        console.warn(f"{image}: {warning}")
