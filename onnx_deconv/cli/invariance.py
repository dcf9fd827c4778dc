"""``onnx-deconv invariance``: what shifting, scaling and rotating photographs does to features and scores."""

from pathlib import Path
from typing import Any

import click
import numpy as np

from onnx_deconv.cli import options
from onnx_deconv.cli.console import Console
from onnx_deconv.cli.pictures import find_pictures
from onnx_deconv.cli.preparation import on_photographs, preprocess_of
from onnx_deconv.cli.records import made_by, save_json
from onnx_deconv.errors import InputError
from onnx_deconv.experiments.figures import draw_invariance
from onnx_deconv.experiments.invariance import TRANSFORMS, Invariance, invariance, transformation
from onnx_deconv.files import folder
from onnx_deconv.imaging import Photo, save_png

_EPILOG = """\b
Examples:
  onnx-deconv invariance model.onnx cat.png dog.png cup.png
  onnx-deconv invariance model.onnx photos/ --transform rotation --steps 73 --layer conv1 --layer fc7

\b
Writes invariance.png and invariance.json (amounts, Euclidean distances by layer, the norms of the
untransformed features, probabilities, most probable classes). Shifts go from -60/224 to 60/224 of the
height, scales from 1 to 1.8, rotations from 0 to 360 degrees, as in the paper; mid-grey comes in from
outside. Zeiler & Fergus 2013, section 4 and figure 5.
"""
_RANGES = {"shift": (-60 / 224, 60 / 224), "scale": (1.0, 1.8), "rotation": (0.0, 360.0)}


@click.command(
    "invariance", epilog=_EPILOG, short_help="Shift, scale and rotate photographs; measure features."
)
@options.model
@options.images
@options.output("onnx-deconv-invariance")
@click.option(
    "--transform", "kinds", type=click.Choice(list(TRANSFORMS)), multiple=True,
    help="How photographs are transformed; may be repeated.  [default: all]",
)  # fmt: skip
@click.option(
    "--steps", type=click.IntRange(2), default=25, show_default=True, help="How many amounts of each."
)
@click.option(
    "--layer", "layers", multiple=True, metavar="NAME",
    help="May be repeated.  [default: the first and the last convolution, and the scores]",
)  # fmt: skip
@click.option(
    "--class", "classes", multiple=True, metavar="CLASS",
    help="The true class: one for all photographs, or one for each.  [default: the top one]",
)  # fmt: skip
@on_photographs
@click.pass_obj
def command(console: Console, /, model: Path, images: tuple[str, ...], **given: Any) -> int:
    """Measure how far features and scores of MODEL move as photographs are shifted, scaled, rotated."""
    paths = find_pictures(images)
    explainer = options.explainer_of(model, given)
    preprocess, warning = preprocess_of(explainer.model, given, console)
    if preprocess.size is None:
        raise InputError("photographs in their own sizes cannot be compared: give a --size")
    photos = [Photo.read(path, preprocess) for path in paths]
    views = [photo.view for photo in photos]
    units = given["classes"] * (len(photos) if len(given["classes"]) == 1 else 1)
    found: dict[str, Invariance] = {}
    for kind in given["kinds"] or TRANSFORMS:
        found[kind] = invariance(
            explainer,
            np.stack([photo.tensor for photo in photos]),
            transformation(kind, views, preprocess),
            np.linspace(*_RANGES[kind], given["steps"]).tolist(),
            layers=given["layers"] or None,
            targets=units or None,
            watch=lambda amounts: console.progress(amounts, lambda amount: f"amounts, now {amount:.3g}"),
        )
    home = folder(given["output"])
    sheet, record = home / "invariance.png", home / "invariance.json"
    save_png(sheet, draw_invariance(found, views, [path.name for path in paths], explainer.labels))
    values = {kind: vars(one) for kind, one in found.items()}
    save_json(record, {"images": paths, **values, **made_by(explainer, preprocess)})
    told = {kind: _medians(one) for kind, one in found.items()}
    lines = [f"  {kind}: {_spoken(medians)}" for kind, medians in told.items()]
    title = "largest distance to the untransformed features, over their norm, median of the photographs:"
    console.result(
        {"sheet": sheet, "record": record, "largest": told}, "\n".join([f"{sheet}", title, *lines])
    )
    if warning:
        console.warn(warning)
    return 0


def _medians(found: Invariance) -> dict[str, float]:
    """Sum up each layer: the largest relative distance of a photograph, median over the photographs."""
    return {
        layer: float(np.median(distances.max(axis=1) / np.maximum(found.norms[layer], 1e-12)))
        for layer, distances in found.distances.items()
    }


def _spoken(medians: dict[str, float]) -> str:
    return ", ".join(f"{layer} {value:.3g}" for layer, value in medians.items())
