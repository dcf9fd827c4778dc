"""One explanation as files: its pictures, its numbers, and a description of what made it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from dataclasses import field as attribute
from pathlib import Path
from typing import Any

from onnx_deconv.attribution.explainer import Explainer
from onnx_deconv.attribution.explanation import Explanation
from onnx_deconv.attribution.photographs import Target
from onnx_deconv.cli.pictures import safe, unique
from onnx_deconv.cli.records import save_json
from onnx_deconv.cli.study import Study
from onnx_deconv.files import folder
from onnx_deconv.imaging import (
    PROJECTION_PERCENTILE,
    VIEWS,
    Photo,
    channels_first,
    draw,
    save_npy,
    save_png,
    scale_of,
)
from onnx_deconv.receptive import receptive_field

_SAID = {"yes": "", "hardly": " (hardly about the photograph)", "no": " (not about the photograph)"}
"""What a caption says of a method, by whether its picture depends on the photograph."""


@dataclass(frozen=True)
class Subject:
    """What is explained: classes, or channels of a layer."""

    explainer: Explainer
    target: Target

    @property
    def layer(self) -> str:
        """The value that was asked for; a class may be explained from its map below this value."""
        asked = self.target.layer
        return self.explainer.layer if asked is None else self.explainer.model.layer(asked)

    def prepare(self) -> None:
        """Make the sessions that the explanation needs at first."""
        self.explainer.prepare(self.target.layer, self.target.position, self.target.seed)

    @property
    def of_classes(self) -> bool:
        """Whether classes are explained."""
        return self.layer == self.explainer.scores_layer

    def words(self, one: Explanation) -> str:
        """Name a class or a unit for people."""
        if one.words is not None or one.place is not None:
            return ", ".join(filter(None, (one.words or self._class(one), one.place)))
        if self.of_classes:
            return self._class(one)
        position = "" if one.position is None else f" at {','.join(map(str, one.position))}"
        return f"{self.layer} channel {one.channel}{position}"

    def _class(self, one: Explanation) -> str:
        return self.explainer.labels.spoken(one.channel) if self.of_classes else f"channel {one.channel}"

    def file_name(self, one: Explanation) -> str:
        """Name a class or a unit in a file's name: by its label if no other class has the same."""
        if not self.of_classes:
            return "-".join(map(str, (safe(self.layer), one.channel, *(one.position or ()))))
        if one.words is not None:
            return one.words
        named = self._class(one)
        shared = one.label is not None and self.explainer.labels.names.count(one.label) > 1
        return f"{named}-{one.channel}" if shared else named

    def box(self, one: Explanation, photo: Photo, study: Study) -> tuple[int, ...] | None:
        """Return the receptive field of a unit in the model's input; ``None`` for classes and whole maps."""
        if self.of_classes or one.position is None:
            return None
        size, layout = photo.geometry.size, study.preprocess.layout
        field = receptive_field(self.explainer.model, self.layer, size=size, layout=layout)
        return field.box(one.position)


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
    taken
        The names that files have already.
    """

    study: Study
    targets: Sequence[Target]
    views: Sequence[str]
    output: Path
    taken: list[str] = attribute(default_factory=list)

    def subjects(self) -> list[Subject]:
        """List what is explained, layer by layer."""
        return [Subject(self.study.explainer, target) for target in self.targets]

    def name(self, stem: str, rank: int | None, subject: Subject, one: Explanation) -> str:
        """Name the files of an explanation: photograph, rank, label or channel, method; each name once."""
        ranked = [] if rank is None else [str(rank)]
        method = safe(one.method)
        name = unique(["-".join([stem, *ranked, safe(subject.file_name(one)), method])], self.taken)
        self.taken.append(name)
        return name


def write(
    job: Job, subject: Subject, one: Explanation, photo: Photo, path: Path, stem: str, rank: int | None
) -> dict[str, Any]:
    """Draw and write one explanation; return its record.

    Parameters
    ----------
    path, stem
        The photograph's file, and what the names of its results begin with.
    rank
        Among several explanations of the photograph, from 1.
    """
    name = job.name(stem, rank, subject, one)
    box = subject.box(one, photo, job.study)
    method = one.method
    captions = (
        path.name,
        f"{subject.words(one)}, {one.score:.3g}",
        f"{method}{_SAID[one.depends]}, saliency",
        "overlay",
    )
    pictures = draw(photo, one.reconstruction, job.study.preprocess, job.views, captions, box)
    home = folder(job.output)
    files = {view: home / f"{name}-{view}.png" for view in pictures}
    files |= {"values": home / f"{name}.npy", "record": home / f"{name}.json"}
    record = {
        "image": path,
        "rank": rank or 1,
        "output": one.output,
        "kind": one.kind,
        "target": subject.words(one),
        "layer": one.layer,
        "class": one.channel if subject.of_classes else None,
        "channel": one.channel,
        "label": one.label,
        "score": one.score,
        "position": one.position,
        "receptive_field": box,
        "seed": one.seed,
        "method": one.method,
        "depends_on_image": one.depends,
        "note": one.note,
        "empty": one.is_empty,
        "files": files,
    }
    for view, picture in pictures.items():
        save_png(files[view], picture)
    save_npy(files["values"], one.reconstruction)
    save_json(
        files["record"],
        {
            **record,
            **job.study.made_by(),
            "semantics": one.semantics.as_dict(),
            "rules": one.semantics.rules_record,
            **_drawn(job.study, photo, one),
        },
    )
    return record


def _drawn(study: Study, photo: Photo, one: Explanation) -> dict[str, Any]:
    """Return what it takes to draw the pictures of an explanation again from its values."""
    values = channels_first(one.reconstruction, study.preprocess.layout)
    return {
        "photograph": {"size": photo.geometry.photo, "shown": photo.geometry.box},
        "projection": {"scale": scale_of(values), "percentile": PROJECTION_PERCENTILE},
        "shape": one.reconstruction.shape,
    }


def lines(subject: Subject, one: Explanation, record: Mapping[str, Any]) -> Iterator[str]:
    """Describe an explanation for people, and name its pictures."""
    if one.words is not None or one.place is not None:
        what = f"{subject.words(one)}, score {one.score:.3g}"
    elif subject.of_classes:
        what = f"{one.label} (class {one.channel})" if one.label else f"class {one.channel}"
        what += f", score {one.score:.3g}"
    else:
        what = f"{subject.words(one)}, activation {one.score:.3g}"
    yield f"{record['image']}: {what}"
    yield from (f"  {path}" for view, path in record["files"].items() if view in VIEWS)
