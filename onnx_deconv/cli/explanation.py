"""One explanation as files: its pictures, its numbers, and a description of what made it."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from dataclasses import field as attribute
from pathlib import Path
from typing import Any, NamedTuple

from onnx_deconv.attribution.explainer import Explainer
from onnx_deconv.attribution.explanation import Explanation
from onnx_deconv.attribution.photographs import Selection
from onnx_deconv.attribution.shown import Drawn, ShownPhoto
from onnx_deconv.cli.pictures import safe, unique
from onnx_deconv.cli.records import save_json
from onnx_deconv.cli.sample_study import SampleStudy
from onnx_deconv.errors import InputError
from onnx_deconv.files import folder
from onnx_deconv.imaging import (
    PROJECTION_PERCENTILE,
    SALIENCY_PERCENTILE,
    VECTOR,
    Scales,
    at_most,
    save_npy,
    save_picture,
    save_sheet,
)

_WHOLE = 0.995
"""The share of a photograph from which on a model sees all of it; a crop may round a pixel away."""


@dataclass(frozen=True)
class Subject:
    """What is explained: classes, or channels of a layer."""

    explainer: Explainer
    selection: Selection

    @property
    def layer(self) -> str:
        """The value that was asked for; a class may be explained from its map below this value."""
        asked = self.selection.layer
        return self.explainer.layer if asked is None else self.explainer.model.layer(asked)

    def prepare(self) -> None:
        """Make the sessions that the explanation needs at first.

        Raises
        ------
        InputError
            If nothing tells what to explain.
        """
        self.explainer.prepare(self.selection.layer, self.selection.position, self.selection.seed)
        asked = self.selection.targets or not isinstance(self.selection.seed, str)
        if self.of_classes and not asked and (why := self.explainer.undecided) is not None:
            raise InputError(why)

    @property
    def of_classes(self) -> bool:
        """Whether classes are explained."""
        return self.explainer.explains_classes(self.selection.layer)

    def file_name(self, one: Explanation) -> str:
        """Name a class or a unit in a file's name: by its label if no other class has the same."""
        if not self.of_classes:
            return "-".join(map(str, (safe(self.layer), one.channel, *(one.position or ()))))
        if one.words is not None:
            return re.sub("^-", "minus ", one.words)
        named = one.of_one
        shared = one.label is not None and self.explainer.labels.names.count(one.label) > 1
        return f"{named}-{one.channel}" if shared else named


@dataclass(frozen=True)
class Job:
    """What is done to each photograph.

    Attributes
    ----------
    study
        The model, and how photographs become its input.
    targets
        What is explained.
    views
        Which pictures are drawn.
    output
        The folder for the files; it is made when the first is written.
    suffix
        The format of the pictures.
    most
        The most pixels along a side of a picture; ``None`` for as many as there are.
    taken
        The names that files have already.
    """

    study: SampleStudy
    selections: Sequence[Selection]
    views: Sequence[str]
    output: Path
    suffix: str = "png"
    most: int | None = None
    taken: list[str] = attribute(default_factory=list)

    def subjects(self) -> list[Subject]:
        """List what is explained, layer by layer."""
        return [Subject(self.study.explainer, selection) for selection in self.selections]

    def name(self, wanted: str) -> str:
        """Name the files of an explanation as is wanted, or with a number: each name once."""
        name = unique([wanted], self.taken)
        self.taken.append(name)
        return name


def wanted_name(stem: str, rank: int | None, subject: Subject, one: Explanation) -> str:
    """Name an explanation's files: photograph, rank, label or channel, method."""
    ranked = [] if rank is None else [str(rank)]
    return "-".join([stem, *ranked, safe(subject.file_name(one)), safe(one.method)])


def write(
    job: Job,
    subject: Subject,
    one: Explanation,
    path: str,
    wanted: str,
    rank: int | None = None,
    scales: Scales | None = None,
) -> dict[str, Any]:
    """Draw and write one explanation; return its record.

    Parameters
    ----------
    path
        The photograph's file, or its address in a bucket.
    wanted
        What its files are called, unless others are.
    rank
        Among several explanations of the photograph, from 1.
    scales
        For pictures that are compared; by default their own.
    """
    name = job.name(wanted)
    home = folder(job.output)
    parts = _parts(one, scales)
    files = {
        f"{view}{part.suffix}": home / f"{name}{part.suffix}-{view}.{job.suffix}"
        for part in parts
        for view in (job.views if part.views is not None else ())
    }
    files |= {f"values{part.suffix}": home / f"{name}{part.suffix}.npy" for part in parts}
    files |= {"record": home / f"{name}.json"}
    record = _record(subject, one, path, rank, files)
    for part in parts:
        _save(job, part, files)
    save_json(
        files["record"],
        {
            **record,
            **job.study.made_by(),
            "semantics": one.semantics.as_dict(),
            "rules": one.semantics.rules_record,
            **(_drawn(parts[0]) if len(parts) == 1 else {}),
            **({part.name: _drawn(part) for part in parts} if len(parts) > 1 else {}),
        },
    )
    return record


def _record(
    subject: Subject, one: Explanation, path: str, rank: int | None, files: Mapping[str, Path]
) -> dict[str, Any]:
    """Return what is told of one explanation."""
    of_an_array = one.seed == "array"
    return {
        "image": path,
        "rank": rank or 1,
        "output": one.output,
        "kind": one.kind,
        "kind_assumed": subject.of_classes and subject.explainer.head.assumed,
        "target": one.name,
        "layer": one.layer,
        "class": None if of_an_array or not (subject.of_classes and one.of_class) else one.channel,
        "channel": None if of_an_array else one.channel,
        "label": one.label,
        "score": one.score,
        "position": one.position,
        "receptive_field": None if one.shown is None else one.shown.box,
        "standing": {"rank": one.standing.rank, "among": one.standing.among},
        "equals": one.equals._asdict(),
        "probability": one.standing.probability,
        "improbable": one.standing.warning,
        "seed": one.seed,
        "method": one.method,
        "depends_on_image": one.depends,
        "survived": one.survived,
        "note": one.note,
        "empty": one.is_empty,
        "files": files,
    }


class _Part(NamedTuple):
    """The reconstruction of one input, and its pictures if it can be drawn."""

    name: str
    suffix: str
    one: Explanation
    views: Drawn | None


def _parts(one: Explanation, scales: Scales | None) -> list[_Part]:
    """Part an explanation by input; where there is one, no file is named for it."""
    names = list(one.reconstructions)
    suffixes = [f"-{safe(name)}" if len(names) > 1 else "" for name in names]
    found = []
    for name, suffix in zip(names, suffixes, strict=True):
        each = one.of_input(name)
        own = scales if len(names) == 1 else None
        found.append(_Part(name, suffix, each, None if each.shown is None else each.views(own)))
    return found


def _save(job: Job, part: _Part, files: Mapping[str, Path]) -> None:
    """Write the pictures and the numbers of one input."""
    if part.views is not None:
        for view in job.views:
            _save_view(job, part.views, view, files[f"{view}{part.suffix}"])
    save_npy(files[f"values{part.suffix}"], part.one.reconstruction)


def _save_view(job: Job, views: Drawn, view: str, file: Path) -> None:
    if file.suffix in VECTOR:
        save_sheet(file, views.sheet())
    else:
        picture = views[view]
        save_picture(file, picture if job.most is None else at_most(picture, job.most))


def _drawn(part: _Part) -> dict[str, Any]:
    """Return what it takes to draw the pictures of a reconstruction again from its values."""
    shape, views = {"shape": part.one.reconstruction.shape}, part.views
    if views is None:
        return shape
    shown, scales = part.one.shown, views.scales
    geometry = shown.photo.geometry if isinstance(shown, ShownPhoto) else None
    return {
        "photograph": None if geometry is None else {"size": geometry.photo, "shown": geometry.box},
        "projection": {"scale": scales.projection, "percentile": PROJECTION_PERCENTILE},
        "saliency": {
            "scale": scales.saliency,
            "percentile": SALIENCY_PERCENTILE,
            "averaged_over": None if views.lattice is None else views.lattice.period,
        },
        **shape,
    }


def described(subject: Subject, one: Explanation) -> str:
    """Describe an explanation for people."""
    beside = one.standing.beside(one.score)
    if one.words is not None or one.place is not None:
        what = f"{one.name}, score {one.score:.3g}{beside}"
    elif subject.of_classes:
        what = f"{one.label} (class {one.channel})" if one.label else one.name
        what += f", score {one.score:.3g}{beside}"
        what += f", {one.standing.words}" if one.standing.is_behind else ""
    else:
        what = f"{one.name}, activation {one.score:.3g}"
    return what


def warnings_of(subject: Subject, one: Explanation) -> Iterator[str]:
    """Yield what people should know of an explanation."""
    if one.note:
        yield one.note
    if one.standing.warning and subject.selection.targets:  # who asks for the strongest knows their order
        yield f"{one.name}: {one.standing.warning}"
    if one.kind == "sequence" and isinstance(one.shown, ShownPhoto):
        yield from _cut_off(one.shown)
    if not one.drawn:
        yield "no input has the form of a picture, a signal or a volume: no pictures"
    if one.is_empty:
        yield "the reconstruction is zero, so its pictures are blank"


def _cut_off(shown: ShownPhoto) -> Iterator[str]:
    """Say where a line that is read, as of text, loses its ends as a photograph is cropped."""
    (height, width), (top, left, bottom, right) = shown.photo.geometry.photo, shown.photo.geometry.box
    share, side = min(((right - left) / width, "width"), ((bottom - top) / height, "height"))
    if share < _WHOLE:
        yield f"the model sees {share:.0%} of the photograph's {side}: --fit stretch or pad shows it all"
