"""``onnx-deconv report``: an atlas as one HTML file."""

from pathlib import Path
from typing import Any

import click

from onnx_deconv.atlas.reader import Reader
from onnx_deconv.atlas.report import explanations, write_report
from onnx_deconv.atlas.resume import digest
from onnx_deconv.attribution.explainer import Explainer
from onnx_deconv.cli import options
from onnx_deconv.cli.console import Console, in_bytes
from onnx_deconv.cli.pictures import find_pictures
from onnx_deconv.errors import InputError
from onnx_deconv.imaging import Photo, Preprocess
from onnx_deconv.labels import Labels

_EPILOG = """\b
Examples:
  onnx-deconv report atlas -o report.html
  onnx-deconv report atlas cat.jpg dog.jpg --model squeezenet.onnx --labels labels.txt -o report.html
"""


@click.command("report", epilog=_EPILOG, short_help="Write an atlas as one HTML file to read.")
@click.argument("atlas", type=click.Path(path_type=Path))
@click.argument("images", metavar="[IMAGE]...", nargs=-1)
@click.option("-o", "--output", type=click.Path(path_type=Path), default="report.html", show_default=True)
@click.option("--model", type=click.Path(path_type=Path), help="The atlas's model, to explain photographs.")
@click.option("--labels", type=click.Path(path_type=Path), help="Names of the classes.")
@click.option("--top", type=click.IntRange(1), default=3, show_default=True, help="Classes per photograph.")
@click.option(
    "--layer",
    "layers",
    multiple=True,
    help="A layer whose strongest feature map is shown for each photograph; may be repeated.",
)
@options.providers
@options.common
@click.pass_obj
def command(console: Console, /, atlas: Path, images: tuple[str, ...], output: Path, **given: Any) -> int:
    """Write ATLAS, a folder that 'atlas' made, as one HTML file that needs neither server nor network.

    Photographs, if any are given, are explained in it by every rule table.
    """
    reader = Reader(atlas)
    if images and given["model"] is None:
        raise click.UsageError("to explain photographs, say which model with --model")
    explained = list(_explained(console, reader, images, given)) if images else []
    size = write_report(output, reader, explained)
    maps = sum(len(table.activations) for table in reader.atlas.layers.values())
    record = {"report": output, "bytes": size, "feature_maps": maps, "explanations": len(explained)}
    console.result(record, f"{output}: {maps} feature maps, {len(explained)} explanations, {in_bytes(size)}")
    return 0


def _explained(console: Console, reader: Reader, images: tuple[str, ...], given: dict[str, Any]) -> Any:
    labels = given["labels"]
    names = None if labels is None else Labels.read(labels).names
    explainer = Explainer(given["model"], providers=given["providers"], labels=names)
    if digest(explainer.model) != reader.atlas.made.get("sha256"):
        raise InputError(
            f"{given['model']}: is not the model of the atlas ({reader.atlas.made.get('model')})"
        )
    made = reader.atlas.made["preprocess"]
    how: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in made.items()}
    preprocess = Preprocess(**how)
    paths = find_pictures(images)
    for path in console.progress(paths, lambda path: path.name):
        photo = Photo.read(path, preprocess)
        yield from explanations(explainer, [(path.name, photo)], preprocess, given["layers"], given["top"])
