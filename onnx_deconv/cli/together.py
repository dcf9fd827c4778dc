"""Photographs explained by a Ray cluster: its actors explain, this process writes the files."""

import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from onnx_deconv.cli.console import Console
from onnx_deconv.cli.explanation import Job
from onnx_deconv.cli.outcomes import Explained, Explaining, Outcome
from onnx_deconv.cli.records import save_json
from onnx_deconv.distributed import Workers
from onnx_deconv.errors import InputError
from onnx_deconv.files import folder, replacing
from onnx_deconv.runtime import device_of


class Packed(NamedTuple):
    """An explanation with its files.

    Attributes
    ----------
    explained
        The explanation; its record names no files that still exist.
    endings
        What follows the wanted name in the name of each file.
    contents
        What is in it.
    """

    explained: Explained
    endings: Mapping[str, str]
    contents: Mapping[str, bytes]


class _Said(Console):
    """A console that keeps warnings, for the one that people read."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []

    def warn(self, text: str) -> None:
        self.said.append(text)


class Packer:
    """Explains photographs and packs the results, on one core of a cluster.

    Parameters
    ----------
    job
        What is done to each photograph.
    names
        What the names of each photograph's files begin with.
    """

    def __init__(self, job: Job, names: Mapping[str, str]) -> None:
        self._said = _Said()
        self._job, self._names = replace(job, study=replace(job.study, console=self._said)), names

    def explain(self, group: Sequence[str]) -> tuple[dict[str, Sequence[Packed] | str], list[str]]:
        """Explain photographs that the model takes at once; return what became of them, and warnings."""
        with tempfile.TemporaryDirectory() as home:
            job = replace(self._job, output=Path(home), taken=[])
            found = Explaining(job, self._names).explain(group)
            packed: dict[str, Sequence[Packed] | str] = {
                path: str(outcome) if isinstance(outcome, InputError) else [*map(_packed, outcome)]
                for path, outcome in found.items()
            }
        said, self._said.said = self._said.said, []
        return packed, said


def _packed(one: Explained) -> Packed:
    files = {key: Path(file) for key, file in one.record["files"].items()}
    name = files["record"].stem  # the wanted one, or with a number
    return Packed(
        one,
        {key: file.name.removeprefix(name) for key, file in files.items()},
        {key: file.read_bytes() for key, file in files.items()},
    )


def together(
    console: Console, job: Job, names: Mapping[str, str], groups: Sequence[Sequence[str]], address: str
) -> Iterator[dict[str, Outcome]]:
    """Explain groups of photographs on a cluster; write the files and yield what became of each group.

    Parameters
    ----------
    console
        Where warnings go, and how far the work is.
    job
        What is done to each photograph.
    names
        What the names of each photograph's files begin with.
    groups
        Photographs that the model takes at once.
    address
        See :class:`onnx_deconv.distributed.Workers`.

    Raises
    ------
    InputError
        If there is no such cluster.
    """
    on_gpu = device_of(job.study.explainer.providers) == "cuda"
    workers = Workers(Packer, (job, names), address, on_gpu=on_gpu)
    submitted = workers.results(lambda worker, group: worker.explain.remote(group), groups)
    for number, (group, reference) in enumerate(submitted, 1):
        console.status(f"{number}/{len(groups)} {Path(group[0]).name}")
        found, warnings = workers.get(reference)
        for warning in warnings:
            console.warn(warning)
        yield {
            path: InputError(outcome)
            if isinstance(outcome, str)
            else [_unpacked(job, one) for one in outcome]
            for path, outcome in found.items()
        }


def _unpacked(job: Job, packed: Packed) -> Explained:
    """Write the files of an explanation under names that no others have."""
    home, name = folder(job.output), job.name(packed.explained.wanted)
    files = {key: home / f"{name}{ending}" for key, ending in packed.endings.items()}
    for key, file in files.items():
        if key != "record":
            with replacing(file) as temporary:
                temporary.write_bytes(packed.contents[key])
    description = json.loads(packed.contents["record"])
    save_json(files["record"], {**description, "files": files})
    return packed.explained._replace(record={**packed.explained.record, "files": files})
