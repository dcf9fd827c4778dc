"""``onnx-deconv explain``: pictures of what excited a class, or a unit."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from onnx_deconv import __version__
from onnx_deconv.attribution.explainer import Explainer, Explanation
from onnx_deconv.attribution.photographs import Target, explain_photos
from onnx_deconv.cli import FELL_SHORT, options
from onnx_deconv.cli.console import Console, plain_data
from onnx_deconv.cli.pictures import find_pictures, safe, stems, unique
from onnx_deconv.cli.preparation import as_dict, preparation, preprocess_of
from onnx_deconv.errors import InputError
from onnx_deconv.files import folder, replacing
from onnx_deconv.imaging import (
    PROJECTION_PERCENTILE,
    VIEWS,
    Photo,
    Preprocess,
    channels_first,
    draw,
    save_npy,
    save_png,
    scale_of,
)
from onnx_deconv.receptive import ReceptiveField, receptive_field

_EPILOG = """\b
Examples:
  onnx-deconv explain model.onnx photo.jpg
  onnx-deconv explain squeezenet.onnx photos/ --preset imagenet-caffe --labels labels.txt -o out
  onnx-deconv explain model.onnx cat.png --class tabby --class 207 --rules guided --view all
  onnx-deconv explain model.onnx cat.png --layer conv4 --channel 17 --at 6,6
  onnx-deconv explain model.onnx cat.png --layer conv3 --top 9 --seed strongest
  onnx-deconv explain model.onnx 'photos/*.jpg' --top 3 --json

\b
Each explanation leaves, beside its pictures, the reconstruction (.npy, as the model takes images)
and what made it (.json: class, score, seed, rules, preprocessing, the scale of the projection).
A wrong preset gives a confident picture of nonsense: check that the class is right first.
"""


@click.command("explain", epilog=_EPILOG, short_help="Draw what in photographs excited a class or a unit.")
@options.model
@options.images
@options.output("onnx-deconv-pictures")
@click.option(
    "--class",
    "classes",
    multiple=True,
    metavar="CLASS",
    help="A class to explain, by index or label; may be repeated.  [default: the top one]",
)
@click.option("--top", type=click.IntRange(1), default=1, show_default=True, help="The K strongest.")
@options.layer
@click.option(
    "--channel",
    "units",
    type=click.IntRange(0),
    multiple=True,
    help="A channel of the layer; may be repeated.  [default: the strongest]",
)
@click.option(
    "--at",
    callback=options.numbers(int),
    metavar="Y,X",
    help="A position in the channel's map.  [default: see --seed]",
)
@options.seed
@options.semantics_options()
@options.labels
@click.option(
    "--view",
    "views",
    type=click.Choice([*VIEWS, "all"]),
    multiple=True,
    help="Which pictures; may be repeated.  [default: side-by-side and projection]",
)
@preparation
@options.input_shape
@options.providers
@options.common
@click.pass_obj
def command(console: Console, /, model: Path, images: tuple[str, ...], **given: Any) -> int:
    """Draw what in photographs excited a class of MODEL, or a unit of any layer.

    MODEL is an ONNX file, or a folder that 'convert' wrote. IMAGE is a picture, a folder of pictures, or
    a pattern. The top class is explained unless --class, or --layer and --channel, say otherwise.
    """
    target = _target(given)
    paths = find_pictures(images)
    explainer = options.explainer_of(model, given)
    preprocess, warning = preprocess_of(explainer.model, given, console)
    views = VIEWS if "all" in given["views"] else given["views"] or ("side-by-side", "projection")
    code = explain(console, Job(explainer, preprocess, target, views, given["output"]), paths)
    if warning:
        console.warn(warning)
    return code


def _target(given: dict[str, Any]) -> Target:
    classes, units, layer = given["classes"], given["units"], given["layer"]
    if classes and (layer or units):
        raise click.UsageError("--class is for the scores: with --layer, say --channel")
    if given["top"] > 1 and (classes or units):
        raise click.UsageError("--top takes the strongest: leave out --class and --channel")
    return Target(classes or units, layer, given["at"], given["top"], given["seed"])


@dataclass
class Job:
    """What is done to each photograph.

    Attributes
    ----------
    explainer, preprocess, target, views
        How it is explained, and what is drawn.
    output
        Where the files go; made when the first is written.
    """

    explainer: Explainer
    preprocess: Preprocess
    target: Target
    views: Sequence[str]
    output: Path
    taken: list[str] = field(default_factory=list)

    @property
    def layer(self) -> str:
        """The value that was asked for (what is explained may be the class's map below it)."""
        asked = self.target.layer
        return self.explainer.layer if asked is None else self.explainer.model.layer(asked)

    @property
    def start(self) -> str:
        """The value that the explanation starts from at first."""
        auto = self.target.seed == "auto" and self.target.position is None and self.of_classes
        maps = self.explainer.class_maps if auto and not self.explainer.saved else None
        return maps or self.layer

    def field(self, photo: Photo) -> ReceptiveField | None:
        """Return what the layer's units see of a photograph; ``None`` for classes."""
        if self.of_classes:
            return None
        size = photo.geometry.size
        return receptive_field(self.explainer.model, self.layer, size=size, layout=self.preprocess.layout)

    @property
    def of_classes(self) -> bool:
        """Whether classes are explained."""
        return self.layer == self.explainer.scores_layer


def explain(console: Console, job: Job, paths: Sequence[Path]) -> int:
    """Explain photographs; return the exit code.

    A photograph that cannot be read is reported, and the others are explained. What else can go wrong (a
    class, a full disk) would go wrong with each of them, and ends the command.
    """
    job.explainer.session(job.start)  # whatever is wrong with the model comes before any photograph
    _check_labels(console, job)
    names, failed = dict(zip(paths, stems(paths), strict=True)), set[Path]()

    def fail(path: Path, error: InputError) -> None:
        if len(paths) == 1:
            raise error
        console.error(str(error))
        failed.add(path)

    for group in console.progress(_groups(job, paths), lambda group: group[0].name):
        photos = _read(job, group, fail)
        for path, photo, explanations in _explained(job, photos, fail):
            for rank, one in enumerate(explanations, 1):
                number = rank if len(explanations) > 1 else None
                _report(console, _write(job, names[path], number, photo, one, path), one)
    if len(failed) == len(paths):
        raise InputError("none of the pictures could be explained")
    if failed:
        console.warn(f"{len(failed)} of {len(paths)} pictures could not be explained")
    return FELL_SHORT if failed else 0


_Fail = Callable[[Path, InputError], None]


def _read(job: Job, paths: Sequence[Path], fail: _Fail) -> dict[Path, Photo]:
    photos = {}
    for path in paths:
        try:
            photos[path] = Photo.read(path, job.preprocess)
        except InputError as error:
            fail(path, error)
    return photos


def _explained(
    job: Job, photos: dict[Path, Photo], fail: _Fail
) -> Iterator[tuple[Path, Photo, list[Explanation]]]:
    try:
        found = explain_photos(job.explainer, list(photos.values()), job.target) if photos else []
    except InputError as error:
        # Only photographs in their own sizes differ in what the model can do with them.
        if job.preprocess.size is not None:
            raise
        (path,) = photos
        fail(path, InputError(f"{path}: {error}"))
        return
    yield from zip(photos, photos.values(), found, strict=True)


def _groups(job: Job, paths: Sequence[Path]) -> list[Sequence[Path]]:
    """Cut the photographs into what the model takes at once: one, or its fixed batch size."""
    step = (job.explainer.model.batch or 1) if job.preprocess.size is not None else 1
    return [paths[k : k + step] for k in range(0, len(paths), step)]


def _check_labels(console: Console, job: Job) -> None:
    shape = job.explainer.model.type_of(job.explainer.scores_layer).shape
    classes = shape[1] if shape is not None and len(shape) > 1 else None
    count = len(job.explainer.labels.names)
    if classes is not None and count not in (0, classes):
        console.warn(f"{count} labels for {classes} classes: names may be wrong")


def _name(job: Job, stem: str, rank: int | None, one: Explanation) -> str:
    """Name the files of an explanation: image, rank, label or channel, rules."""
    if job.of_classes:
        subject = _spoken(one) or f"class-{one.channel}"
        names = job.explainer.labels.names
        if one.label is not None and names.count(one.label) > 1:
            subject += f"-{one.channel}"
    else:
        subject = "-".join(map(str, (safe(job.layer), one.channel, *(one.position or ()))))
    parts = [stem, *([] if rank is None else [str(rank)]), safe(subject), job.explainer.semantics.rules]
    name = unique(["-".join(parts)], job.taken)
    job.taken.append(name)
    return name


def _spoken(one: Explanation) -> str:
    """Return the first of a class's names."""
    return (one.label or "").partition(",")[0].strip()


def _write(
    job: Job, stem: str, rank: int | None, photo: Photo, one: Explanation, path: Path
) -> dict[str, Any]:
    """Draw and write one explanation; return what there is to say about it."""
    name = _name(job, stem, rank, one)
    rules, what = job.explainer.semantics.rules, _subject(job, one)
    captions = (path.name, f"{what}, {one.score:.3g}", f"{rules}, saliency", "overlay")
    field = job.field(photo) if one.position is not None else None
    box = field.box(one.position) if field is not None and one.position is not None else None
    pictures = draw(photo, one.reconstruction, job.preprocess, job.views, captions, box)
    home = folder(job.output)
    files = {view: home / f"{name}-{view}.png" for view in pictures}
    files |= {"values": home / f"{name}.npy", "record": home / f"{name}.json"}
    record = {
        "image": path,
        "rank": rank or 1,
        "layer": one.layer,
        "class": one.channel if job.of_classes else None,
        "channel": one.channel,
        "label": one.label,
        "score": one.score,
        "position": one.position,
        "receptive_field": box,
        "seed": one.seed,
        "note": one.note,
        "empty": one.is_empty,
        "files": files,
    }
    for view, picture in pictures.items():
        save_png(files[view], picture)
    save_npy(files["values"], one.reconstruction)
    with replacing(files["record"]) as temporary:
        text = json.dumps(plain_data({**record, **_making(job, photo, one)}), indent=2)
        temporary.write_text(text + "\n", encoding="utf-8")
    return record


def _making(job: Job, photo: Photo, one: Explanation) -> dict[str, Any]:
    """Say how an explanation came about: with this, its pictures can be made again from its values."""
    layout, (top, left, bottom, right) = job.preprocess.layout, photo.geometry.box
    return {
        "model": job.explainer.model.name,
        "onnx_deconv": __version__,
        "semantics": job.explainer.semantics.as_dict(),
        "preprocess": as_dict(job.preprocess),
        "photograph": {"size": photo.geometry.photo, "shown": [top, left, bottom, right]},
        "projection": {
            "scale": scale_of(channels_first(one.reconstruction, layout)),
            "percentile": PROJECTION_PERCENTILE,
        },
        "shape": one.reconstruction.shape,
    }


def _subject(job: Job, one: Explanation) -> str:
    if job.of_classes:
        return _spoken(one) or f"class {one.channel}"
    return f"{job.layer} channel {one.channel}" + (f" at {one.position}" if one.position else "")


def _report(console: Console, record: dict[str, Any], one: Explanation) -> None:
    console.result(record, lambda: "\n".join(_lines(record)))
    if one.note:
        console.warn(f"{record['image']}: {one.note}")
    if one.is_empty:
        console.warn(f"{record['image']}: nothing arrived at the input, its pictures are blank")


def _lines(record: dict[str, Any]) -> Iterator[str]:
    number, label = record["channel"], record["label"]
    if record["class"] is None:
        where = "" if record["position"] is None else f" at {','.join(map(str, record['at']))}"
        what = f"{record['layer']} channel {number}{where}, activation {record['score']:.3g}"
    else:
        named = f"{label} (class {number})" if label else f"class {number}"
        what = f"{named}, score {record['score']:.3g}"
    yield f"{record['image']}: {what}"
    yield from (f"  {path}" for view, path in record["files"].items() if view in VIEWS)
