"""``onnx-deconv occlude``: what happens to the scores while a square hides one part after another."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import click

from onnx_deconv.attribution.explainer import Explainer
from onnx_deconv.attribution.photographs import Target, explain_photos
from onnx_deconv.cli import FELL_SHORT, options
from onnx_deconv.cli.console import Console
from onnx_deconv.cli.pictures import find_pictures, stems
from onnx_deconv.cli.preparation import on_photographs, preprocess_of
from onnx_deconv.cli.records import made_by, save_json
from onnx_deconv.errors import InputError
from onnx_deconv.experiments.figures import draw_occlusion
from onnx_deconv.experiments.hiding import Fill
from onnx_deconv.experiments.occlusion import Occlusion, occlusion
from onnx_deconv.files import folder
from onnx_deconv.imaging import Photo, Preprocess, save_npy, save_png
from onnx_deconv.model import Array

_EPILOG = """\b
Examples:
  onnx-deconv occlude squeezenet.onnx dog.jpg --preset imagenet-caffe --labels labels.txt
  onnx-deconv occlude model.onnx cat.png --class tabby --square 32 --stride 8 -o out
  onnx-deconv occlude model.onnx cat.png --layer conv4 --fill 0

\b
Each photograph gets a sheet (.png), its maps (.npy: the class's scores and probabilities, the most
probable classes, the strongest feature map's total activations) and their meaning (.json). A map's
value at row r, column c belongs to the stride×stride pixels from (r·stride, c·stride) on of the
model's input. Zeiler & Fergus 2013, section 4.2 and figure 7.
"""


def _fill(ctx: click.Context, param: click.Parameter, value: str) -> Fill:
    numbers = None if value == "grey" else options.numbers(float)(ctx, param, value)
    return "grey" if numbers is None else numbers


@click.command("occlude", epilog=_EPILOG, short_help="Slide a square over photographs; watch the scores.")
@options.model
@options.images
@options.output("onnx-deconv-occlusion")
@click.option(
    "--class", "unit", metavar="CLASS", help="The class, by index or label.  [default: the top one]"
)
@click.option(
    "--layer",
    metavar="NAME",
    help="Whose strongest feature map is followed.  [default: the last convolution below the class maps]",
)
@click.option(
    "--square",
    type=click.IntRange(1),
    metavar="PIXELS",
    help="Its side, in pixels of the model's input.  [default: a seventh of the shorter side]",
)
@click.option(
    "--stride",
    type=click.IntRange(1),
    metavar="PIXELS",
    help="From place to place.  [default: a quarter of the square]",
)
@click.option(
    "--fill",
    default="grey",
    show_default=True,
    callback=_fill,
    metavar="grey|NUMBERS",
    help="What hides: mid-grey (128 of 255), or the input's own number, one or one for each channel.",
)
@options.semantics_options()
@on_photographs
@click.pass_obj
def command(console: Console, /, model: Path, images: tuple[str, ...], **given: Any) -> int:
    """Slide a square over photographs and draw how MODEL's scores change.

    Drawn are the class's probability and the most probable class by the square's place, the total
    activation of the layer's strongest feature map likewise, and that map's projection.
    """
    paths = find_pictures(images)
    explainer = options.explainer_of(model, given)
    preprocess, warning = preprocess_of(explainer.model, given, console)
    failed = 0
    for path, name in zip(paths, stems(paths), strict=True):
        try:
            photo = Photo.read(path, preprocess)
        except InputError as error:
            if len(paths) == 1:
                raise
            console.error(str(error))
            failed += 1
            continue
        found = _occlusion(console, explainer, photo, preprocess, path.name, given)
        _write(console, explainer, photo, preprocess, found, path, folder(given["output"]) / name)
    if warning:
        console.warn(warning)
    return FELL_SHORT if failed else 0


def _occlusion(
    console: Console, explainer: Explainer, photo: Photo, preprocess: Preprocess, name: str, given: Any
) -> Occlusion:
    def watch(steps: Sequence[Array]) -> Iterable[Array]:
        return console.progress(steps, lambda step: f"times {len(step)} places of the square on {name}")

    return occlusion(
        explainer,
        photo.tensor,
        size=given["square"],
        stride=given["stride"],
        fill=given["fill"],
        target=given["unit"],
        layer=given["layer"],
        preprocess=preprocess,
        watch=watch,
    )


def _write(
    console: Console, explainer: Explainer, photo: Photo, preprocess: Preprocess, found: Occlusion,
    path: Path, stem: Path,
) -> None:  # fmt: skip
    ((projected,),) = explain_photos(explainer, [photo], Target([found.channel], found.layer))
    maps = {
        "scores": found.scores,
        "probabilities": found.probabilities,
        "classes": found.predictions,
        "activations": found.activations,
        "projection": projected.reconstruction,
    }
    files = {}
    for what, values in maps.items():
        if values is not None:
            files[what] = Path(f"{stem}-{what}.npy")
            save_npy(files[what], values)
    files["sheet"] = Path(f"{stem}-occlusion.png")
    save_png(
        files["sheet"], draw_occlusion(found, photo, projected.reconstruction, preprocess, explainer.labels)
    )
    files["record"] = Path(f"{stem}-occlusion.json")
    record = {
        "image": path,
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
        "fill": found.fill.tolist(),
        "files": files,
    }
    more = {"boxes": found.boxes, "top": found.prediction, "note": projected.note}
    save_json(files["record"], record | more | made_by(explainer, preprocess))
    what = "score" if found.probability is None else "probability"
    told = f"{what} {found.probability_or_score:.3g}, {record['least']:.3g} behind the square"
    console.result(record, f"{path}: {explainer.labels.spoken(found.target)}, {told}\n  {files['sheet']}")
