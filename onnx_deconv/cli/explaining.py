"""Explain photographs one batch after another, and report those that cannot be explained."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from onnx_deconv.attribution.explanation import Explanation
from onnx_deconv.attribution.explanations import shared_scales
from onnx_deconv.attribution.samples import Sample, explain_samples
from onnx_deconv.cli.batch import JOURNAL, Batch
from onnx_deconv.cli.console import Console, counted
from onnx_deconv.cli.explanation import Job, Subject, lines, write
from onnx_deconv.cli.pictures import stems
from onnx_deconv.cli.study import Failures
from onnx_deconv.errors import InputError
from onnx_deconv.labels import IMAGENET, IMAGENET_CLASSES
from onnx_deconv.model.heads import class_count


def explain(console: Console, job: Job, paths: Sequence[Path]) -> int:
    """Explain photographs; return the exit code.

    A photograph that cannot be read is reported, and the others are explained. Any other error (a
    class that does not exist, a full disk) would occur for each of them, and ends the command.
    """
    for subject in job.subjects():
        subject.prepare()  # errors of the model come before any photograph
    _check_labels(console, job)
    batch = Batch(job, paths) if len(paths) > 1 else None
    done = {} if batch is None else dict(batch.done)
    _report_done(console, done)
    names, failures = dict(zip(paths, stems(paths), strict=True)), Failures(console, len(paths))
    try:
        groups = _groups(job, [path for path in paths if path not in done])
        for group in console.progress(groups, lambda group: group[0].name):
            written = _explain_group(console, job, group, names, failures)
            if batch is not None:
                _note(console, batch, group, written, failures)
    finally:
        made = [] if batch is None else batch.write_summary()
    if made:
        console.say(f"{' and '.join(map(str, made))}: all {len(paths)} photographs")
    return failures.exit_code()


_Written = list[tuple[Explanation, Mapping[str, Any]]]


def _explain_group(
    console: Console, job: Job, group: Sequence[Path], names: Mapping[Path, str], failures: Failures
) -> dict[Path, _Written]:
    """Explain the photographs that the model takes at once; return what was written of each."""
    written: dict[Path, _Written] = {}
    samples = _read(job, group, failures)
    for subject in job.subjects():
        for path, explanations in _explained(job, subject, samples, failures):
            scales = shared_scales(explanations)
            for rank, (one, scale) in enumerate(zip(explanations, scales, strict=True), 1):
                number = rank if len(explanations) > 1 else None
                record = write(job, subject, one, path, names[path], number, scale)
                _report(console, subject, one, record)
                written.setdefault(path, []).append((one, record))
    return written


def _note(
    console: Console,
    batch: Batch,
    group: Sequence[Path],
    written: Mapping[Path, _Written],
    failures: Failures,
) -> None:
    for path in group:
        if path in failures.reasons:
            batch.fail(path, failures.reasons[path])
        elif path in written:
            batch.note(path, written[path])
            batch.say_what_it_takes(console, path)


def _report_done(console: Console, done: Mapping[Path, Sequence[Mapping[str, Any]]]) -> None:
    """Say what an earlier run has explained, and give its results where a program reads them."""
    if not done:
        return
    console.say(f"{counted(len(done), 'photograph')} explained already; delete {JOURNAL} to begin again")
    for records in done.values():
        for record in records:
            if console.json:
                console.result(record, "")


def _groups(job: Job, paths: Sequence[Path]) -> list[Sequence[Path]]:
    """Cut the photographs into what the model takes at once: one, or its fixed batch size."""
    step = 1 if job.study.own_sizes else job.study.explainer.model.batch or 1
    return [paths[k : k + step] for k in range(0, len(paths), step)]


def _read(job: Job, paths: Sequence[Path], failures: Failures) -> dict[Path, Sample]:
    samples = {}
    for path in paths:
        try:
            samples[path] = job.study.read(path)
        except InputError as error:
            failures.note(path, error)
    return samples


def _explained(
    job: Job, subject: Subject, samples: Mapping[Path, Sample], failures: Failures
) -> Iterator[tuple[Path, list[Explanation]]]:
    if not samples:
        return
    try:
        found = explain_samples(subject.explainer, list(samples.values()), subject.selection)
    except InputError as error:
        # Only what is of its own size differs in what the model can do with it.
        if not job.study.own_sizes:
            raise
        (path,) = samples
        failures.note(path, InputError(f"{path}: {error}"))
        return
    yield from zip(samples, found, strict=True)


def _check_labels(console: Console, job: Job) -> None:
    explainer = job.study.explainer
    fields = explainer.fields
    classes = class_count(explainer.model, explainer.head) if fields is None else fields.count
    count = len(explainer.labels.names)
    if classes is not None and count not in (0, classes):
        console.warn(f"{count} labels for {classes} classes: names may be wrong")
    if count == 0 and classes in IMAGENET_CLASSES:
        console.warn(f"the model names no classes; if they are ImageNet's, --labels {IMAGENET} does")


def _report(console: Console, subject: Subject, one: Explanation, record: Mapping[str, Any]) -> None:
    console.result(record, lambda: "\n".join(lines(subject, one, record)))
    if one.note:
        console.warn(f"{record['image']}: {one.note}")
    if one.standing.warning and subject.selection.targets:  # who asks for the strongest knows their order
        console.warn(f"{record['image']}: {one.name}: {one.standing.warning}")
    if not one.drawn:
        console.warn(
            f"{record['image']}: no input has the form of a picture, a signal or a volume: no pictures"
        )
    if one.is_empty:
        console.warn(f"{record['image']}: the reconstruction is zero, so its pictures are blank")
