"""``onnx-deconv sheet``: explanations of photographs side by side: rule tables, classes or layers."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import click

from onnx_deconv.attribution.explainer import Explainer
from onnx_deconv.attribution.features import feature_layers
from onnx_deconv.attribution.method import AUTO
from onnx_deconv.attribution.photographs import Selection
from onnx_deconv.attribution.seed import SeedKind
from onnx_deconv.cli import groups
from onnx_deconv.cli.console import Console, counted
from onnx_deconv.cli.fixed_inputs import FixedInputs
from onnx_deconv.cli.image_options import ImageOptions
from onnx_deconv.cli.model_options import ModelOptions, SemanticsOptions, tell_assumed
from onnx_deconv.cli.options import Sectioned, option, takes, whole
from onnx_deconv.cli.pictures import find_pictures
from onnx_deconv.cli.records import save_json
from onnx_deconv.cli.study import Study, on_photographs
from onnx_deconv.experiments.sheet import (
    Cell,
    Column,
    Scale,
    View,
    across_layers,
    across_tables,
    compare,
    lay_out_sheet,
)
from onnx_deconv.files import check_disk, folder
from onnx_deconv.imaging import Photo, SheetFormat, save_sheet
from onnx_deconv.model import Array
from onnx_deconv.operators import compared_tables

_EPILOG = """\b
Examples:
  onnx-deconv sheet model.onnx cat.png dog.png -o tables
  onnx-deconv sheet model.onnx photos/ --across classes --top 4
  onnx-deconv sheet model.onnx cat.png --across classes --target tabby --target lynx --brightness sheet
  onnx-deconv sheet model.onnx cat.png --across layers --layer conv1 --layer conv3 --layer conv5

Writes sheet.png, and sheet.json with what it shows. --brightness row, column or sheet makes the brightness of
pictures comparable; do not compare the brightness of different layers or rule tables, whose signals have
different units.
"""
_LAYERS, _CLASSES = 5, 3

Across = Literal["tables", "classes", "layers"]


@dataclass(frozen=True)
class SheetOptions:
    """What is compared, and how it is drawn."""

    across: Annotated[
        Across,
        option("--across", "What is compared: rule tables, classes, or layers."),
    ] = "tables"
    targets: Annotated[
        Sequence[str],
        groups.targets(
            "What is explained: a class, by index or label, or a channel of --layer; may be repeated with "
            "--across classes.  [default: the strongest]",
        ),
    ] = ()
    top: Annotated[
        int | None,
        whole(
            "--top",
            f"With --across classes: explain the K strongest.  [default: {_CLASSES}]",
            metavar="K",
            least=1,
        ),
    ] = None
    layers: Annotated[
        Sequence[str],
        groups.layers(
            "A layer that is explained",
            "the scores; with --across layers five convolutions from first to last",
        ),
    ] = ()
    seed: Annotated[SeedKind | Array, groups.seed()] = "auto"
    view: Annotated[
        View,
        option(
            "--view",
            "How an explanation is drawn: in colour on grey, as a heat map, or as one over the photograph.",
        ),
    ] = "projection"
    brightness: Annotated[
        Scale | None,
        option(
            "--brightness",
            "Whether each picture has its own scale of brightness, or shares its row's, its column's or the "
            "sheet's.  [default: row with --across classes, else own]",
        ),
    ] = None
    suffix: Annotated[
        SheetFormat,
        groups.sheet_format("sheet"),
    ] = "png"
    height: Annotated[
        int,
        whole("--height", "The height of each picture.", metavar="PIXELS", least=16, most=2048),
    ] = 256

    @property
    def scale(self) -> Scale:
        """What shares a scale: the classes of one photograph are compared, other pictures have their own."""
        return self.brightness or ("row" if self.across == "classes" else "own")

    def columns(self, explainer: Explainer) -> list[Column]:
        """Decide what stands in the columns of the sheet."""
        return {"tables": self._tables, "classes": self._classes, "layers": self._layers}[self.across](
            explainer
        )

    def _tables(self, explainer: Explainer) -> list[Column]:
        self._refuse_top()
        if len(self.targets) > 1 or len(self.layers) > 1:
            raise click.UsageError(
                "--across tables compares one explanation: give one --target and one --layer at most"
            )
        if not isinstance(self.seed, str) and self.targets:
            raise click.UsageError("--seed FILE.npy is all that is explained: leave out --target")
        layer = self.layers[0] if self.layers else None
        return across_tables(explainer, compared_tables(), Selection(self.targets, layer, seed=self.seed))

    def _classes(self, explainer: Explainer) -> list[Column]:
        if self.layers:
            raise click.UsageError("--across classes compares the scores of classes: leave out --layer")
        if self.targets:
            self._refuse_top()
        if not isinstance(self.seed, str):
            raise click.UsageError("--seed FILE.npy is one explanation: it is for --across tables")
        top = 1 if self.targets else self.top or _CLASSES
        return [Column(explainer, Selection(self.targets, top=top, seed=self.seed))]

    def _layers(self, explainer: Explainer) -> list[Column]:
        self._refuse_top()
        if self.targets:
            raise click.UsageError(
                "--across layers compares the strongest feature map of each layer: leave out --target"
            )
        if not isinstance(self.seed, str) or self.seed != "auto":
            raise click.UsageError("--across layers compares feature maps: leave out --seed")
        return across_layers(explainer, self.layers or _spread(feature_layers(explainer)))

    def _refuse_top(self) -> None:
        if self.top:
            raise click.UsageError(
                "--top takes the strongest classes: it is for --across classes without --target"
            )


@click.command(cls=Sectioned, epilog=_EPILOG)
@groups.model
@groups.photographs
@groups.output("onnx-deconv-sheet", "Folder for the sheet and its description.")
@takes("options", SheetOptions)
@takes("semantics", SemanticsOptions)
@on_photographs
@click.pass_obj
def command(
    console: Console, /, model: Path, paths: Sequence[str], output: Path, *, options: SheetOptions,
    semantics: SemanticsOptions, fixed: FixedInputs, images: ImageOptions, run: ModelOptions,
) -> int:  # fmt: skip
    """Compare explanations of photographs on one sheet: rule tables, classes or layers of MODEL.

    Each row shows a photograph as the model sees it, then its explanations with their scores or activations.
    """
    if options.across == "tables" and semantics.rules:
        raise click.UsageError("--across tables compares all rule tables: leave out --rules")
    default = None if options.across == "tables" else AUTO
    files = find_pictures(paths)
    study = Study.of(
        console, run.explainer(fixed.model(model, run, images), semantics, default), images, fixed
    )
    photos = study.read(files)
    if not options.layers and options.across != "layers":
        tell_assumed(console, study.explainer.head)
    columns = options.columns(study.explainer)
    check_disk(output, len(files) * (len(columns) + 1) * 3 * options.height**2, "the sheet takes up to")
    rows = compare(columns, photos, lambda steps: console.progress(steps, lambda step: files[step[1]].name))
    _write(console, study, rows, photos, files, folder(output), options)
    return 0


def _write(
    console: Console, study: Study, rows: Sequence[list[Cell]], photos: Sequence[Photo],
    files: Sequence[Path], home: Path, options: SheetOptions,
) -> None:  # fmt: skip
    sheet, description = home / f"sheet.{options.suffix}", home / "sheet.json"
    laid_out = lay_out_sheet(
        rows, photos, [path.name for path in files], study.preprocess,
        view=options.view, scale=options.scale, height=options.height,
    )  # fmt: skip
    save_sheet(sheet, laid_out)
    record = {
        "across": options.across,
        "view": options.view,
        "brightness": options.scale,
        "sheet": sheet,
        "record": description,
        "rows": {str(path): [_record(cell) for cell in row] for path, row in zip(files, rows, strict=True)},
    }
    save_json(description, record | study.made_by())
    console.result(record, f"{sheet}: {counted(len(rows), 'row')} of {counted(len(rows[0]), 'explanation')}")


def _spread(layers: list[str]) -> list[str]:
    """Take five layers at equal distances, the first and the last among them."""
    count = min(_LAYERS, len(layers))
    return [layers[round(k * (len(layers) - 1) / max(1, count - 1))] for k in range(count)]


def _record(cell: Cell) -> dict[str, Any]:
    names = ("layer", "channel", "label", "score", "position", "seed", "method", "note")
    return {"caption": cell.caption, **{name: getattr(cell.explanation, name) for name in names}}
