"""What becomes of photographs that are explained."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from onnx_deconv.attribution.explanation import Explanation
from onnx_deconv.attribution.explanations import shared_scales
from onnx_deconv.attribution.samples import Sample, explain_samples
from onnx_deconv.cli.batch import thumbnail_of
from onnx_deconv.cli.explanation import Job, Subject, described, wanted_name, warnings_of, write
from onnx_deconv.errors import InputError
from onnx_deconv.imaging import Picture, Scales


class Explained(NamedTuple):
    """One explanation, and what is said of it.

    Attributes
    ----------
    record
        What its description says.
    wanted
        What its files would be called if no others were.
    what
        The explanation in words.
    warnings
        What people should know of it.
    thumbnail
        The picture for the page of all photographs; ``None`` where there is none.
    """

    record: Mapping[str, Any]
    wanted: str
    what: str
    warnings: Sequence[str]
    thumbnail: Picture | None


Outcome = Sequence[Explained] | InputError
"""The explanations of a photograph, or why there are none."""


class Explaining:
    """Explains photographs and writes the results.

    Parameters
    ----------
    job
        What is done to each photograph.
    names
        What the names of each photograph's files begin with.
    """

    def __init__(self, job: Job, names: Mapping[str, str]) -> None:
        self.job, self._names = job, names

    def explain(self, group: Sequence[str]) -> dict[str, Outcome]:
        """Explain photographs that the model takes at once."""
        outcomes: dict[str, Outcome] = {}
        samples = dict(self._read(group, outcomes))
        explained: dict[str, list[Explained]] = {}
        for subject in self.job.subjects():
            for path, explanations in _explained(self.job, subject, samples, outcomes):
                for one in explanations:
                    _check(one)
                scales = shared_scales(explanations)
                for rank, (one, scale) in enumerate(zip(explanations, scales, strict=True), 1):
                    number = rank if len(explanations) > 1 else None
                    explained.setdefault(path, []).append(self._written(subject, one, path, number, scale))
        return {path: outcomes.get(path, explained.get(path, ())) for path in group}

    def _read(self, group: Sequence[str], outcomes: dict[str, Outcome]) -> Iterator[tuple[str, Sample]]:
        for path in group:
            try:
                yield path, self.job.study.read(path)
            except InputError as error:
                outcomes[path] = error

    def _written(
        self, subject: Subject, one: Explanation, path: str, rank: int | None, scales: Scales | None
    ) -> Explained:
        wanted = wanted_name(self._names[path], rank, subject, one)
        record = write(self.job, subject, one, path, wanted, rank, scales)
        said = described(subject, one), [*warnings_of(subject, one)]
        return Explained(record, wanted, *said, thumbnail_of(one) if len(self._names) > 1 else None)


def _check(one: Explanation) -> None:
    """Refuse what cannot be drawn, with the place where it begins."""
    if not np.isfinite(one.reconstruction).all():
        raise InputError(f"{one.name}: {one.note}")


def _explained(
    job: Job, subject: Subject, samples: dict[str, Sample], outcomes: dict[str, Outcome]
) -> Iterator[tuple[str, list[Explanation]]]:
    if not samples:
        return
    try:
        found = explain_samples(subject.explainer, list(samples.values()), subject.selection)
    except InputError as error:
        # Only what is of its own size differs in what the model can do with it.
        if not job.study.own_sizes:
            raise
        (path,) = samples
        outcomes[path] = InputError(f"{path}: {error}")
        samples.clear()
        return
    yield from zip(samples, found, strict=True)
