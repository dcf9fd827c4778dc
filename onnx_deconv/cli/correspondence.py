"""``onnx-deconv correspondence``: whether the same part of different objects is one thing to a model."""

from pathlib import Path
from typing import Any

import click
import numpy as np

from onnx_deconv.cli import options
from onnx_deconv.cli.console import Console, table
from onnx_deconv.cli.preparation import on_photographs, preprocess_of
from onnx_deconv.cli.records import made_by, save_json
from onnx_deconv.errors import InputError
from onnx_deconv.experiments.correspondence import Correspondence, correspondence
from onnx_deconv.experiments.figures import draw_correspondence
from onnx_deconv.experiments.parts import OBJECT, Box, read_parts
from onnx_deconv.files import folder
from onnx_deconv.imaging import Photo, save_png
from onnx_deconv.model import Array

_EPILOG = """\b
Examples:
  onnx-deconv correspondence model.onnx eyes.csv
  onnx-deconv correspondence model.onnx eyes.csv --layer conv5 --layer fc7 --draws 50

\b
PARTS is a CSV file with the columns image,part,x0,y0,x1,y1: where a part is in a photograph, in its
pixels, each part once in each photograph; paths are relative to the file. The part named 'object' is
not hidden but bounds the random boxes.

\b
Told is, for each layer, the mean share of features whose change has different signs in two
photographs, and its standard deviation over the pairs: lower than random means that hiding the part
changes the layer alike in all of them. Zeiler & Fergus 2013, section 4.3, table 1 and figure 8.
"""


@click.command(
    "correspondence", epilog=_EPILOG, short_help="Hide the same part in several photographs; compare."
)
@options.model
@click.argument("parts", type=click.Path(path_type=Path))
@options.output("onnx-deconv-correspondence")
@click.option(
    "--layer", "layers", multiple=True, metavar="NAME",
    help="May be repeated.  [default: the first and the last convolution, and the scores]",
)  # fmt: skip
@click.option(
    "--draws", type=click.IntRange(1), default=10, show_default=True, help="How many sets of random boxes."
)
@click.option("--random-seed", type=click.IntRange(0), default=0, show_default=True, help="Of their places.")
@on_photographs
@click.pass_obj
def command(console: Console, /, model: Path, parts: Path, **given: Any) -> int:
    """Compare how the features of MODEL change when the same PARTS of different photographs are hidden."""
    found = read_parts(parts)
    names = list(dict.fromkeys(image for boxes in found.values() for image in boxes))
    explainer = options.explainer_of(model, given)
    preprocess, warning = preprocess_of(explainer.model, given, console)
    if preprocess.size is None:
        raise InputError("photographs in their own sizes cannot be compared: give a --size")
    photos = [Photo.read(parts.parent / name, preprocess) for name in names]
    boxes = {part: _placed(part, found[part], names, photos) for part in found}
    within = boxes.pop(OBJECT, None)
    result = correspondence(
        explainer,
        np.stack([photo.tensor for photo in photos]) if photos else np.empty(0),
        boxes,
        within=within,
        layers=given["layers"] or None,
        draws=given["draws"],
        rng=np.random.default_rng(given["random_seed"]),
        preprocess=preprocess,
        watch=lambda steps: console.progress(steps, lambda _: "sets of boxes"),
    )
    home = folder(given["output"])
    sheet, record = home / "correspondence.png", home / "correspondence.json"
    save_png(sheet, draw_correspondence(result, photos, [Path(name).name for name in names]))
    save_json(
        record, {"images": names, "table": _told(result), **vars(result), **made_by(explainer, preprocess)}
    )
    console.result({"sheet": sheet, "record": record, "table": _told(result)}, f"{sheet}\n{_table(result)}")
    if warning:
        console.warn(warning)
    return 0


def _placed(part: str, boxes: dict[str, Box], names: list[str], photos: list[Photo]) -> Array:
    missing = [name for name in names if name not in boxes]
    if missing:
        raise InputError(f"part {part!r} has no box in {', '.join(missing)}: give one in each photograph")
    return np.array([photo.geometry.box_in_input(boxes[n]) for n, photo in zip(names, photos, strict=True)])


def _told(found: Correspondence) -> dict[str, dict[str, dict[str, float]]]:
    return {
        layer: {
            part: {
                "mean": found.mean(layer, part),
                "std": found.std(layer, part),
                "delta": found.delta(layer, part),
            }
            for part in found.parts
        }
        for layer in found.layers
    }


def _table(found: Correspondence) -> str:
    rows = [["hidden", *found.layers]]
    for part in found.parts:
        cells = (f"{found.mean(layer, part):.3f} ± {found.std(layer, part):.3f}" for layer in found.layers)
        rows.append([part, *cells])
    return table(rows)
