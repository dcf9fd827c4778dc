"""Explain photographs one batch after another, and report those that cannot be explained."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from onnx_deconv.attribution.explanation import Explanation
from onnx_deconv.attribution.photographs import explain_photos
from onnx_deconv.cli.console import Console
from onnx_deconv.cli.explanation import Job, Subject, lines, write
from onnx_deconv.cli.pictures import stems
from onnx_deconv.cli.study import Failures
from onnx_deconv.errors import InputError
from onnx_deconv.imaging import Photo
from onnx_deconv.model.heads import class_count


def explain(console: Console, job: Job, paths: Sequence[Path]) -> int:
    """Explain photographs; return the exit code.

    A photograph that cannot be read is reported, and the others are explained. Any other error (a
    class that does not exist, a full disk) would occur for each of them, and ends the command.
    """
    for subject in job.subjects():
        subject.prepare()  # errors of the model come before any photograph
    _check_labels(console, job)
    names, failures = dict(zip(paths, stems(paths), strict=True)), Failures(console, len(paths))
    for group in console.progress(_groups(job, paths), lambda group: group[0].name):
        photos = _read(job, group, failures)
        for subject in job.subjects():
            for path, explanations in _explained(job, subject, photos, failures):
                for rank, one in enumerate(explanations, 1):
                    number = rank if len(explanations) > 1 else None
                    record = write(job, subject, one, photos[path], path, names[path], number)
                    _report(console, subject, one, record)
    return failures.exit_code()


def _groups(job: Job, paths: Sequence[Path]) -> list[Sequence[Path]]:
    """Cut the photographs into what the model takes at once: one, or its fixed batch size."""
    step = (job.study.explainer.model.batch or 1) if job.study.preprocess.size is not None else 1
    return [paths[k : k + step] for k in range(0, len(paths), step)]


def _read(job: Job, paths: Sequence[Path], failures: Failures) -> dict[Path, Photo]:
    photos = {}
    for path in paths:
        try:
            (photos[path],) = job.study.read([path])
        except InputError as error:
            failures.note(path, error)
    return photos


def _explained(
    job: Job, subject: Subject, photos: Mapping[Path, Photo], failures: Failures
) -> Iterator[tuple[Path, list[Explanation]]]:
    if not photos:
        return
    try:
        found = explain_photos(subject.explainer, list(photos.values()), subject.target)
    except InputError as error:
        # Only photographs in their own sizes differ in what the model can do with them.
        if job.study.preprocess.size is not None:
            raise
        (path,) = photos
        failures.note(path, InputError(f"{path}: {error}"))
        return
    yield from zip(photos, found, strict=True)


def _check_labels(console: Console, job: Job) -> None:
    explainer = job.study.explainer
    fields = explainer.fields
    classes = class_count(explainer.model, explainer.head) if fields is None else fields.count
    count = len(explainer.labels.names)
    if classes is not None and count not in (0, classes):
        console.warn(f"{count} labels for {classes} classes: names may be wrong")


def _report(console: Console, subject: Subject, one: Explanation, record: Mapping[str, Any]) -> None:
    console.result(record, lambda: "\n".join(lines(subject, one, record)))
    if one.note:
        console.warn(f"{record['image']}: {one.note}")
    if one.is_empty:
        console.warn(f"{record['image']}: the reconstruction is zero, so its pictures are blank")
