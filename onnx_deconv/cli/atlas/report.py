"""``onnx-deconv atlas report``: an atlas as one HTML file."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import click

from onnx_deconv.atlas.reader import Reader
from onnx_deconv.atlas.report import SECONDS, Explained, explanations, write_report
from onnx_deconv.cli import groups
from onnx_deconv.cli.console import Console, counted, in_bytes
from onnx_deconv.cli.groups import PATH
from onnx_deconv.cli.model_options import ModelOptions
from onnx_deconv.cli.options import Sectioned, option, takes, whole
from onnx_deconv.cli.pictures import find_pictures
from onnx_deconv.imaging import Photo, Preprocess

_EPILOG = """\b
Examples:
  onnx-deconv atlas report atlas -o report.html
  onnx-deconv atlas report atlas cat.jpg dog.jpg --model squeezenet.onnx --labels labels.txt
"""


@dataclass(frozen=True)
class ReportOptions:
    """The photographs' explanations."""

    model: Annotated[
        Path | None,
        option("--model", "The model that the atlas was made of; it explains the photographs.", type=PATH),
    ] = None
    top: Annotated[
        int,
        whole("--top", "Explain the K most probable classes of each photograph.", metavar="K", least=1),
    ] = 3
    layers: Annotated[
        Sequence[str],
        groups.layers("A layer whose strongest feature map is explained too, for each photograph", "none"),
    ] = ()


@click.command(cls=Sectioned, epilog=_EPILOG)
@click.argument("atlas", type=PATH)
@click.argument("paths", metavar="[IMAGE]...", nargs=-1)
@groups.output("onnx-deconv-report.html", "The HTML file.")
@takes("options", ReportOptions)
@takes("run", ModelOptions, without=("shapes", "output", "kind"))
@groups.common
@click.pass_obj
def command(
    console: Console, /, atlas: Path, paths: Sequence[str], output: Path, *, options: ReportOptions,
    run: ModelOptions,
) -> int:  # fmt: skip
    """Write ATLAS, a folder that 'atlas build' made, as one HTML file that needs neither server nor network.

    Photographs, if any are given, are explained in it by every rule table.
    """
    reader = Reader(atlas)
    explained = list(_explained(console, reader, paths, options, run)) if paths else []
    units = sum(len(table.ranks()) for table in reader.atlas.layers.values())
    console.say_what_lasts(counted(units, "unit"), units * SECONDS, threads=1)
    size = write_report(output, reader, explained, show=console.status)
    maps = sum(len(table.activations) for table in reader.atlas.layers.values())
    record = {"report": output, "bytes": size, "feature_maps": maps, "explanations": len(explained)}
    holds = f"{counted(maps, 'feature map')}, {counted(len(explained), 'explanation')}, {in_bytes(size)}"
    console.result(record, f"{output}: {holds}")
    return 0


def _explained(
    console: Console, reader: Reader, paths: Sequence[str], options: ReportOptions, run: ModelOptions
) -> Iterator[Explained]:
    if options.model is None:
        raise click.UsageError("to explain photographs, name the model with --model")
    explainer, made = run.explainer(options.model), reader.atlas.made
    reader.check_model(explainer.model)
    how: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in made["preprocess"].items()}
    preprocess = Preprocess(**how)
    for path in console.progress(find_pictures(paths), lambda path: path.name):
        photo = Photo.read(path, preprocess)
        yield from explanations(explainer, [(path.name, photo)], preprocess, options.layers, options.top)
