"""``onnx-deconv occlude``: how the scores change while a square hides one place after another."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import click

from onnx_deconv.attribution.explanation import Explanation
from onnx_deconv.attribution.method import AUTO
from onnx_deconv.attribution.photographs import Selection, explain_photos
from onnx_deconv.cli import groups
from onnx_deconv.cli.console import Console
from onnx_deconv.cli.fixed_inputs import FixedInputs
from onnx_deconv.cli.image_options import ImageOptions
from onnx_deconv.cli.model_options import ModelOptions, SemanticsOptions, tell_assumed
from onnx_deconv.cli.options import Sectioned, option, parse_numbers, takes, whole
from onnx_deconv.cli.pictures import find_pictures, stems
from onnx_deconv.cli.records import save_json
from onnx_deconv.cli.study import Failures, Study, on_photographs
from onnx_deconv.errors import InputError
from onnx_deconv.experiments.figures import draw_occlusion
from onnx_deconv.experiments.hiding import Fill
from onnx_deconv.experiments.occlusion import Occlusion, occlusion
from onnx_deconv.files import folder
from onnx_deconv.imaging import Photo, SheetFormat, save_npy, save_sheet
from onnx_deconv.model import Array

_EPILOG = """\b
Examples:
  onnx-deconv occlude squeezenet.onnx dog.jpg --preset imagenet-caffe --labels labels.txt
  onnx-deconv occlude model.onnx cat.png --target tabby --square 32 --stride 8 -o out
  onnx-deconv occlude model.onnx cat.png --layer conv4 --fill 0

Each photograph gets a sheet (.png), its maps (.npy: the class's scores and probabilities, the most
probable classes, the strongest feature map's total activations) and a description (.json). The value
of a map at row r, column c belongs to the stride×stride pixels of the model's input that begin at
(r·stride, c·stride). Zeiler & Fergus 2013, section 4.2 and figure 7.
"""


def _fill(ctx: click.Context, param: click.Parameter, value: str) -> Fill:
    return "grey" if value == "grey" else parse_numbers(float, "grey, or ")(ctx, param, value)


@dataclass(frozen=True)
class OcclusionOptions:
    """What is hidden, and what is watched."""

    target: Annotated[
        str | None,
        groups.target(
            "The class whose score is followed, by index or label.  [default: the most probable class]",
        ),
    ] = None
    layer: Annotated[
        str | None,
        groups.layer("The layer whose strongest feature map is followed", groups.LAST_CONVOLUTION),
    ] = None
    square: Annotated[
        int | None,
        whole(
            "--square",
            "The side of the square, in pixels of the model's input.  "
            "[default: a seventh of the input's shorter side]",
            metavar="PIXELS",
            least=1,
        ),
    ] = None
    stride: Annotated[
        int | None,
        whole(
            "--stride",
            "How far the square moves at each step.  [default: a quarter of its side]",
            metavar="PIXELS",
            least=1,
        ),
    ] = None
    fill: Annotated[
        Fill,
        option(
            "--fill",
            "What the square is filled with: mid-grey (128 of 255), or the numbers that the model gets, "
            "one for all channels or one for each.",
            type=str,
            callback=_fill,
            metavar="grey|NUMBERS",
        ),
    ] = "grey"
    suffix: Annotated[SheetFormat, groups.sheet_format("sheets")] = "png"


@click.command(cls=Sectioned, epilog=_EPILOG)
@groups.model
@groups.photographs
@groups.output("onnx-deconv-occlusion", "Folder for the sheets, maps and descriptions.")
@takes("options", OcclusionOptions)
@takes("semantics", SemanticsOptions)
@on_photographs
@click.pass_obj
def command(
    console: Console, /, model: Path, paths: Sequence[str], output: Path, *, options: OcclusionOptions,
    semantics: SemanticsOptions, fixed: FixedInputs, images: ImageOptions, run: ModelOptions,
) -> int:  # fmt: skip
    """Slide a square over photographs and draw how the scores of MODEL change.

    The sheet shows, for each place of the square, the class's probability, the most probable class and
    the total activation of a layer's strongest feature map; and that feature map's projection.
    """
    found = find_pictures(paths)
    study = Study.of(console, run.explainer(fixed.model(model, run, images), semantics, AUTO), images, fixed)
    failures = Failures(console, len(found))
    tell_assumed(console, study.explainer.head)
    for number, (path, name) in enumerate(zip(found, stems(map(str, found)), strict=True), 1):
        start = time.monotonic()
        try:
            (photo,) = study.read([path])
        except InputError as error:
            failures.note(error)
            continue
        result = _occlusion(console, study, photo, path.name, options)
        stem = folder(output) / name
        size = _write(console, study, photo, result, path, stem, options.suffix)
        if number == 1:
            console.say_the_rest(len(found) - 1, "photograph", time.monotonic() - start, output, size)
    return failures.exit_code()


def _occlusion(
    console: Console, study: Study, photo: Photo, name: str, options: OcclusionOptions
) -> Occlusion:
    def watch(steps: Sequence[Array]) -> Iterable[Array]:
        return console.progress(steps, lambda step: f"times {len(step)} places of the square on {name}")

    return occlusion(
        study.explainer,
        photo.tensor,
        size=options.square,
        stride=options.stride,
        fill=options.fill,
        target=options.target,
        layer=options.layer,
        preprocess=study.preprocess,
        watch=watch,
    )


def _write(
    console: Console, study: Study, photo: Photo, found: Occlusion, path: Path, stem: Path, suffix: str
) -> int:
    """Draw and write what was found in one photograph; return how many bytes that takes."""
    labels = study.explainer.labels
    ((projected,),) = explain_photos(study.explainer, [photo], Selection([found.channel], found.layer))
    maps = _maps(found, projected)
    files = {what: Path(f"{stem}-{what}.npy") for what in maps}
    files |= {"sheet": Path(f"{stem}-occlusion.{suffix}"), "record": Path(f"{stem}-occlusion.json")}
    for what, values in maps.items():
        save_npy(files[what], values)
    drawn = draw_occlusion(
        found, photo, projected.reconstruction, projected.made_by, study.preprocess, labels
    )
    save_sheet(files["sheet"], drawn)
    record = {"image": path, **_record(found), "files": files}
    more = {"boxes": found.boxes, "top": found.prediction, "method": projected.method, "note": projected.note}
    save_json(files["record"], record | more | study.made_by(found.layer))
    what = "score" if found.probability is None else "probability"
    text = f"{what} {found.probability_or_score:.3g}, lowest with the square {record['least']:.3g}"
    console.result(record, f"{path}: {labels.spoken(found.target)}, {text}\n  {files['sheet']}")
    return sum(file.stat().st_size for file in files.values())


def _maps(found: Occlusion, projected: Explanation) -> dict[str, Array]:
    maps = {
        "scores": found.scores,
        "probabilities": found.probabilities,
        "predictions": found.predictions,
        "activations": found.activations,
        "projection": projected.reconstruction,
    }
    return {what: values for what, values in maps.items() if values is not None}


def _record(found: Occlusion) -> dict[str, Any]:
    return {
        "class": found.target,
        "label": found.label,
        "score": found.score,
        "probability": found.probability,
        "least": float(found.probabilities_or_scores.min()),
        "layer": found.layer,
        "channel": found.channel,
        "activation": found.activation,
        "square": found.size,
        "stride": found.stride,
        "fill": found.fill,
    }
