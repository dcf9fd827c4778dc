"""``onnx-deconv correspondence``: whether hiding the same part of several objects changes features alike."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import click
import numpy as np

from onnx_deconv.cli import groups
from onnx_deconv.cli.console import Console, table
from onnx_deconv.cli.fixed_inputs import FixedInputs
from onnx_deconv.cli.groups import PATH
from onnx_deconv.cli.image_options import ImageOptions
from onnx_deconv.cli.model_options import ModelOptions
from onnx_deconv.cli.options import Sectioned, takes, whole
from onnx_deconv.cli.records import save_json
from onnx_deconv.cli.study import Study, batch_of, on_photographs
from onnx_deconv.errors import InputError
from onnx_deconv.experiments.correspondence import Correspondence, correspondence
from onnx_deconv.experiments.figures import draw_correspondence
from onnx_deconv.experiments.parts import OBJECT, read_parts
from onnx_deconv.files import folder
from onnx_deconv.imaging import Box, Photo, SheetFormat, save_sheet
from onnx_deconv.model import Array

_EPILOG = """\b
Examples:
  onnx-deconv correspondence model.onnx eyes.csv
  onnx-deconv correspondence model.onnx eyes.csv --layer conv5 --layer fc7 --draws 50

PARTS is a CSV file with the columns image,part,x0,y0,x1,y1. A row gives the box of one part of the object
in one photograph, in pixels of the photograph; each photograph needs one box of each part. Paths are
relative to the file. The part named 'object' is not hidden: random boxes are drawn within it.

Hiding a part changes features. For each layer the table gives the share of features whose changes have
different signs in two photographs: the mean and the standard deviation over all pairs of photographs. A
share below that of random boxes means that hiding the part changes the layer alike in all photographs.
Zeiler & Fergus 2013, section 4.3, table 1 and figure 8.
"""


@dataclass(frozen=True)
class CorrespondenceOptions:
    """What is compared."""

    layers: Annotated[
        Sequence[str],
        groups.layers("A layer whose features are compared", groups.FIRST_AND_LAST),
    ] = ()
    draws: Annotated[
        int,
        whole("--draws", "How many sets of random boxes are hidden, to compare the parts with.", least=1),
    ] = 10
    random_state: Annotated[
        int,
        groups.random_state(
            "place the random boxes",
        ),
    ] = 0
    suffix: Annotated[SheetFormat, groups.sheet_format("figure")] = "png"


@click.command(cls=Sectioned, epilog=_EPILOG)
@groups.model
@click.argument("parts", type=PATH)
@groups.output("onnx-deconv-correspondence", "Folder for the figure and the numbers.")
@takes("options", CorrespondenceOptions)
@on_photographs
@click.pass_obj
def command(
    console: Console, /, model: Path, parts: Path, output: Path, *, options: CorrespondenceOptions,
    fixed: FixedInputs, images: ImageOptions, run: ModelOptions,
) -> int:  # fmt: skip
    """Compare how the features of MODEL change when the same PARTS of several photographs are hidden."""
    found = read_parts(parts)
    names = list(dict.fromkeys(image for boxes in found.values() for image in boxes))
    study = Study.of(console, run.explainer(fixed.model(model, run, images)), images, fixed)
    photos = study.read((parts.parent / name for name in names), as_batch=True)
    boxes = {part: _placed(part, found[part], names, photos) for part in found}
    within = boxes.pop(OBJECT, None)
    result = correspondence(
        study.explainer,
        batch_of(photos),
        boxes,
        within=within,
        layers=options.layers or None,
        draws=options.draws,
        rng=np.random.default_rng(options.random_state),
        preprocess=study.preprocess,
        watch=lambda steps: console.progress(steps, lambda _: "sets of boxes"),
    )
    home = folder(output)
    sheet, record = home / f"correspondence.{options.suffix}", home / "correspondence.json"
    save_sheet(sheet, draw_correspondence(result, photos, [Path(name).name for name in names]))
    numbers = {"table": _numbers(result)}
    save_json(record, {"images": names, **numbers, **vars(result), **study.made_by()})
    console.result({"sheet": sheet, "record": record, **numbers}, f"{sheet}\n{_table(result)}")
    return 0


def _placed(part: str, boxes: dict[str, Box], names: list[str], photos: list[Photo]) -> Array:
    missing = [name for name in names if name not in boxes]
    if missing:
        raise InputError(f"part {part!r} has no box in {', '.join(missing)}: give one in each photograph")
    return np.array([photo.geometry.box_in_input(boxes[n]) for n, photo in zip(names, photos, strict=True)])


def _numbers(found: Correspondence) -> dict[str, dict[str, dict[str, float]]]:
    measures = {"mean": found.mean, "std": found.std, "delta": found.delta}
    return {
        layer: {
            part: {name: measure(layer, part) for name, measure in measures.items()} for part in found.parts
        }
        for layer in found.layers
    }


def _table(found: Correspondence) -> str:
    rows = [["hidden", *found.layers]]
    for part in found.parts:
        cells = (f"{found.mean(layer, part):.3f} ± {found.std(layer, part):.3f}" for layer in found.layers)
        rows.append([part, *cells])
    return table(rows)
