"""``onnx-deconv invariance``: what shifting, scaling and rotating photographs does to features and scores."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import click
import numpy as np

from onnx_deconv.cli import groups
from onnx_deconv.cli.console import Console
from onnx_deconv.cli.fixed_inputs import FixedInputs
from onnx_deconv.cli.image_options import ImageOptions
from onnx_deconv.cli.model_options import ModelOptions, tell_assumed
from onnx_deconv.cli.options import Sectioned, option, takes, whole
from onnx_deconv.cli.pictures import find_pictures
from onnx_deconv.cli.records import save_json
from onnx_deconv.cli.study import Study, batch_of, on_photographs
from onnx_deconv.experiments.figures import draw_invariance
from onnx_deconv.experiments.invariance import TRANSFORMS, Invariance, invariance, transformation
from onnx_deconv.files import folder
from onnx_deconv.imaging import SheetFormat, save_sheet

_EPILOG = """\b
Examples:
  onnx-deconv invariance model.onnx cat.png dog.png cup.png
  onnx-deconv invariance model.onnx photos/ --transform rotation --steps 73 --layer conv1 --layer fc7

Writes invariance.png (or as --format says) and invariance.json (amounts, Euclidean distances by layer, the
norms of the untransformed features, probabilities, most probable classes). As in the paper, shifts go from
-60/224 to 60/224 of the height, scales from 1 to 1.8 and rotations from 0 to 360 degrees; the uncovered
border is filled with mid-grey. Zeiler & Fergus 2013, section 4 and figure 5.
"""
_RANGES = {"shift": (-60 / 224, 60 / 224), "scale": (1.0, 1.8), "rotation": (0.0, 360.0)}


@dataclass(frozen=True)
class InvarianceOptions:
    """How photographs are transformed, and what is measured."""

    transforms: Annotated[
        Sequence[str],
        option(
            "--transform",
            "How photographs are transformed; may be repeated.  [default: all of these]",
            type=click.Choice(list(TRANSFORMS)),
            multiple=True,
        ),
    ] = ()
    steps: Annotated[
        int,
        whole("--steps", "The number of amounts that each transformation is applied with.", least=2),
    ] = 25
    layers: Annotated[
        Sequence[str],
        groups.layers("A layer whose features are measured", groups.FIRST_AND_LAST),
    ] = ()
    targets: Annotated[
        Sequence[str],
        groups.targets(
            "The true class, by index or label: one for all photographs, or one for each.  "
            "[default: the most probable class of each photograph]",
        ),
    ] = ()
    suffix: Annotated[SheetFormat, groups.sheet_format("figure")] = "png"

    def targets_of(self, count: int) -> Sequence[str] | None:
        """Return one target for each photograph."""
        return tuple(self.targets) * (count if len(self.targets) == 1 else 1) or None


@click.command(cls=Sectioned, epilog=_EPILOG)
@groups.model
@groups.photographs
@groups.output("onnx-deconv-invariance", "Folder for the figure and the numbers.")
@takes("options", InvarianceOptions)
@on_photographs
@click.pass_obj
def command(
    console: Console, /, model: Path, paths: Sequence[str], output: Path, *, options: InvarianceOptions,
    fixed: FixedInputs, images: ImageOptions, run: ModelOptions,
) -> int:  # fmt: skip
    """Measure how much the features and scores of MODEL change as photographs are transformed.

    Photographs are shifted, scaled and rotated by several amounts.
    """
    files = find_pictures(paths)
    study = Study.of(console, run.explainer(fixed.model(model, run, images)), images, fixed)
    photos = study.read(files, as_batch=True)
    tell_assumed(console, study.explainer.head)
    views = [photo.view for photo in photos]
    found: dict[str, Invariance] = {}
    for kind in options.transforms or TRANSFORMS:
        found[kind] = invariance(
            study.explainer,
            batch_of(photos),
            transformation(kind, views, study.preprocess),
            np.linspace(*_RANGES[kind], options.steps).tolist(),
            layers=options.layers or None,
            targets=options.targets_of(len(photos)),
            watch=lambda amounts: console.progress(amounts, lambda amount: f"amounts, now {amount:.3g}"),
        )
    home = folder(output)
    sheet, record = home / f"invariance.{options.suffix}", home / "invariance.json"
    save_sheet(sheet, draw_invariance(found, views, [path.name for path in files], study.explainer.labels))
    values = {kind: vars(one) for kind, one in found.items()}
    save_json(record, {"images": files, **values, **study.made_by()})
    _report(console, sheet, record, {kind: _medians(one) for kind, one in found.items()})
    return 0


def _report(console: Console, sheet: Path, record: Path, medians: dict[str, dict[str, float]]) -> None:
    title = (
        "largest distance from the untransformed features, relative to their norm, median over photographs:"
    )
    rows = (
        f"  {kind}: " + ", ".join(f"{layer} {value:.3g}" for layer, value in of_layers.items())
        for kind, of_layers in medians.items()
    )
    console.result(
        {"sheet": sheet, "record": record, "largest": medians}, "\n".join([str(sheet), title, *rows])
    )


def _medians(found: Invariance) -> dict[str, float]:
    """Sum up each layer: the largest relative distance of a photograph, median over the photographs."""
    return {
        layer: float(np.median(distances.max(axis=1) / np.maximum(found.norms[layer], 1e-12)))
        for layer, distances in found.distances.items()
    }
