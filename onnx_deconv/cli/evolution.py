"""``onnx-deconv evolution``: feature maps through the checkpoints of a training."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import click
import numpy as np

from onnx_deconv.attribution.explainer import Explainer
from onnx_deconv.attribution.features import last_convolution
from onnx_deconv.attribution.method import AUTO
from onnx_deconv.attribution.remarks import told_apart
from onnx_deconv.cli import groups
from onnx_deconv.cli.console import Console, counted
from onnx_deconv.cli.fixed_inputs import FixedInputs
from onnx_deconv.cli.groups import PATH
from onnx_deconv.cli.image_options import ImageOptions
from onnx_deconv.cli.model_options import ModelOptions, SemanticsOptions
from onnx_deconv.cli.options import Sectioned, takes, whole
from onnx_deconv.cli.pictures import find_pictures, safe
from onnx_deconv.cli.records import save_json
from onnx_deconv.cli.study import Study, batch_of, on_photographs
from onnx_deconv.errors import InputError
from onnx_deconv.experiments.evolution import Evolution, checkpoints_in, evolution
from onnx_deconv.experiments.figures import draw_evolution
from onnx_deconv.files import check_disk, folder
from onnx_deconv.imaging import SheetFormat, save_npy, save_sheet

_EPILOG = """\b
Examples:
  onnx-deconv evolution checkpoints/ photos/ --layer conv3 --maps 6
  onnx-deconv evolution checkpoints/ photos/ --layer conv1 --layer conv5 --target 3 --target 17

Writes for each layer a sheet (.png), the projections (.npy: checkpoint, feature map, then the axes of
the model's input) and the activations, images and positions (.json).
Zeiler & Fergus 2013, section 4 and figure 4.
"""


@dataclass(frozen=True)
class EvolutionOptions:
    """The feature maps to follow."""

    layers: Annotated[
        Sequence[str],
        groups.layers("A layer whose feature maps are followed", groups.LAST_CONVOLUTION),
    ] = ()
    targets: Annotated[
        Sequence[int],
        whole(
            "--target",
            "A feature map, by its channel; may be repeated.  [default: drawn at random]",
            multiple=True,
            metavar="CHANNEL",
            least=0,
        ),
    ] = ()
    maps: Annotated[
        int,
        whole(
            "--maps",
            "The number of feature maps that are drawn at random where no --target is given.",
            least=1,
        ),
    ] = 6
    random_state: Annotated[
        int,
        groups.random_state(
            "choose feature maps",
        ),
    ] = 0
    suffix: Annotated[SheetFormat, groups.sheet_format("sheets")] = "png"

    def channels(self, explainer: Explainer, layer: str) -> Sequence[int]:
        """Choose the feature maps of a layer."""
        if self.targets:
            return self.targets
        shape = explainer.model.type_of(layer).shape
        count = shape[1] if shape is not None and len(shape) > 1 else None
        if count is None:
            raise InputError(
                f"the file does not say how many channels {layer!r} has: name some with --target"
            )
        chosen = np.random.default_rng(self.random_state).permutation(count)[: self.maps]
        return sorted(int(channel) for channel in chosen)


@click.command(cls=Sectioned, epilog=_EPILOG)
@click.argument("checkpoints", type=PATH)
@groups.photographs
@groups.output("onnx-deconv-evolution", "Folder for the sheets, projections and numbers.")
@takes("options", EvolutionOptions)
@takes("semantics", SemanticsOptions)
@on_photographs
@click.pass_obj
def command(
    console: Console, /, checkpoints: Path, paths: Sequence[str], output: Path, *,
    options: EvolutionOptions, semantics: SemanticsOptions, fixed: FixedInputs, images: ImageOptions,
    run: ModelOptions,
) -> int:  # fmt: skip
    """Draw the strongest activation of feature maps over photographs, for each ONNX file in CHECKPOINTS.

    The files are checkpoints of one model, in the order of the numbers in their names.
    """
    files, photographs = checkpoints_in(checkpoints), find_pictures(paths)

    def explainer_of(path: Path) -> Explainer:
        return run.explainer(fixed.model(path, run, images), semantics, AUTO)

    study = Study.of(console, explainer_of(files[-1]), images, fixed)
    batch, model = batch_of(study.read(photographs, as_batch=True)), study.explainer.model
    layers = [model.layer(layer) for layer in options.layers or [last_convolution(study.explainer)]]
    channels = {layer: options.channels(study.explainer, layer) for layer in layers}
    projections = len(files) * sum(map(len, channels.values()))
    check_disk(output, projections * batch[0].nbytes, "the projections take")
    for found in evolution(
        files,
        batch,
        channels,
        open_checkpoint=lambda path: explainer_of(Path(path)),
        watch=lambda steps: console.progress(steps, lambda path: path.name),
    ):
        _write(console, study, found, photographs, folder(output), options.suffix)
    return 0


def _write(
    console: Console, study: Study, found: Evolution, photographs: Sequence[Path], home: Path, suffix: str
) -> None:
    files = {
        what: home / f"{safe(found.layer)}-evolution.{ending}"
        for what, ending in (("sheet", suffix), ("values", "npy"), ("record", "json"))
    }
    save_sheet(files["sheet"], draw_evolution(found, study.preprocess))
    save_npy(files["values"], found.projections)
    numbers = {name: value for name, value in vars(found).items() if name != "projections"}
    save_json(files["record"], {**numbers, "files": photographs, **study.made_by(found.layer)})
    text = f"{found.layer}: {counted(len(found.checkpoints), 'checkpoint')}\n  {files['sheet']}"
    console.result({"layer": found.layer, "channels": found.channels, **files}, text)
    if several := int(((found.equals > 0) & (found.activations != 0)).sum()):
        console.warn(
            f"{found.layer}: of {several} of {found.equals.size} activations others are as strong: "
            f"the first in order is shown{told_apart(study.explainer.model, found.layer)}"
        )
