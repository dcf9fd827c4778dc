"""``onnx-deconv sheet``: classes, layers or rule tables compared over photographs, as one picture."""

from pathlib import Path
from typing import Any, get_args

import click

from onnx_deconv.attribution.explainer import Explainer
from onnx_deconv.attribution.features import feature_layers
from onnx_deconv.attribution.photographs import Target
from onnx_deconv.cli import options
from onnx_deconv.cli.console import Console
from onnx_deconv.cli.pictures import find_pictures
from onnx_deconv.cli.preparation import on_photographs, preprocess_of
from onnx_deconv.cli.records import made_by, save_json
from onnx_deconv.experiments.sheet import (
    Cell,
    Column,
    Scale,
    View,
    across_layers,
    across_tables,
    compare,
    draw_sheet,
)
from onnx_deconv.files import folder
from onnx_deconv.imaging import Photo, save_png
from onnx_deconv.semantics import Semantics

_EPILOG = """\b
Examples:
  onnx-deconv sheet model.onnx cat.png dog.png -o tables.png
  onnx-deconv sheet model.onnx photos/ --across classes --top 4
  onnx-deconv sheet model.onnx cat.png --across classes --class tabby --class lynx --brightness sheet
  onnx-deconv sheet model.onnx cat.png --across layers --layer conv1 --layer conv3 --layer conv5

\b
Beside the picture lies what it shows (.json). --brightness column or sheet makes brightness comparable;
the scales of different layers and tables are different things.
"""
_FIVE = 5


@click.command("sheet", epilog=_EPILOG, short_help="Compare tables, classes or layers over photographs.")
@options.model
@options.images
@options.output("onnx-deconv-sheet.png", "The picture.")
@click.option(
    "--across",
    type=click.Choice(["tables", "classes", "layers"]),
    default="tables",
    show_default=True,
    help="What stands side by side.",
)
@click.option(
    "--class", "classes", multiple=True, metavar="CLASS",
    help="A class, by index or label; may be repeated across classes.  [default: the top one]",
)  # fmt: skip
@click.option("--top", type=click.IntRange(1), help="Across classes: the K strongest.  [default: 3]")
@click.option(
    "--layer", "layers", multiple=True, metavar="NAME",
    help="A layer; may be repeated across layers.  [default there: five convolutions from first to last]",
)  # fmt: skip
@click.option(
    "--view", type=click.Choice(get_args(View)), default="projection", show_default=True,
    help="What is drawn of each explanation.",
)  # fmt: skip
@click.option(
    "--brightness", type=click.Choice(get_args(Scale)), default="own", show_default=True,
    help="Each picture's own, or shared by its column or the sheet.",
)  # fmt: skip
@click.option(
    "--height",
    type=click.IntRange(16, 2048),
    default=256,
    show_default=True,
    help="Of each picture, in pixels.",
)
@options.semantics_options()
@on_photographs
@click.pass_obj
def command(console: Console, /, model: Path, images: tuple[str, ...], **given: Any) -> int:
    """Compare explanations of photographs: rule tables, classes or layers of MODEL, as one picture.

    Each row is a photograph as the model sees it and its explanations, each with its score or activation.
    """
    if given["across"] == "tables" and given["rules"]:
        raise click.UsageError("--across tables compares all --rules: leave them out")
    paths = find_pictures(images)
    explainer = options.explainer_of(model, given)
    preprocess, warning = preprocess_of(explainer.model, given, console)
    photos = [Photo.read(path, preprocess) for path in paths]
    columns = _columns(explainer, given)
    rows = [
        next(compare(columns, [photo]))
        for photo, path in console.progress(list(zip(photos, paths, strict=True)), lambda each: each[1].name)
    ]
    output = folder(given["output"].parent) / given["output"].name
    names = [path.name for path in paths]
    save_png(
        output,
        draw_sheet(
            rows,
            photos,
            names,
            preprocess,
            view=given["view"],
            scale=given["brightness"],
            height=given["height"],
        ),
    )
    record = {
        "across": given["across"],
        "view": given["view"],
        "brightness": given["brightness"],
        "sheet": output,
    }
    shown = {str(path): [_told(cell) for cell in row] for path, row in zip(paths, rows, strict=True)}
    save_json(output.with_suffix(".json"), record | {"rows": shown} | made_by(explainer, preprocess))
    console.result(record | {"rows": shown}, f"{output}: {len(rows)} rows of {len(rows[0])} explanations")
    if warning:
        console.warn(warning)
    return 0


def _columns(explainer: Explainer, given: dict[str, Any]) -> list[Column]:
    across, classes, layers, top = (given[name] for name in ("across", "classes", "layers", "top"))
    if top and (across != "classes" or classes):
        raise click.UsageError(
            "--top takes the strongest classes: it is for --across classes without --class"
        )
    if across == "layers":
        if classes:
            raise click.UsageError("--across layers compares the strongest feature maps: leave out --class")
        return across_layers(explainer, layers or _spread(feature_layers(explainer)))
    if across == "classes":
        if layers:
            raise click.UsageError("--across classes compares scores: leave out --layer")
        return [Column(explainer, Target(classes, top=1 if classes else top or 3))]
    if len(classes) > 1 or len(layers) > 1 or (classes and layers):
        raise click.UsageError("--across tables compares one target: one --class, or one --layer")
    return across_tables(explainer, Semantics.choices()["rules"], Target(classes, *layers))


def _spread(layers: list[str]) -> list[str]:
    """Take five of them, evenly from the first to the last."""
    count = min(_FIVE, len(layers))
    return [layers[round(k * (len(layers) - 1) / max(1, count - 1))] for k in range(count)]


def _told(cell: Cell) -> dict[str, Any]:
    one = cell.explanation
    names = ("layer", "channel", "label", "score", "position", "seed", "note")
    return {"caption": cell.caption, **{name: getattr(one, name) for name in names}}
