"""``onnx-deconv evolution``: feature maps through the checkpoints of a training."""

from pathlib import Path
from typing import Any

import click
import numpy as np

from onnx_deconv.attribution.explainer import Explainer
from onnx_deconv.attribution.features import last_convolution
from onnx_deconv.cli import options
from onnx_deconv.cli.console import Console
from onnx_deconv.cli.pictures import find_pictures, safe
from onnx_deconv.cli.preparation import on_photographs, preprocess_of
from onnx_deconv.cli.records import made_by, save_json
from onnx_deconv.errors import InputError
from onnx_deconv.experiments.evolution import checkpoints_in, evolution
from onnx_deconv.experiments.figures import draw_evolution
from onnx_deconv.files import folder
from onnx_deconv.imaging import Photo, save_npy, save_png

_EPILOG = """\b
Examples:
  onnx-deconv evolution checkpoints/ photos/ --layer conv3 --maps 6
  onnx-deconv evolution checkpoints/ photos/ --layer conv1 --layer conv5 --channel 3 --channel 17

\b
For each layer: a sheet (.png), the projections (.npy: checkpoint, map, then as the model takes images)
and the activations, images and positions (.json). Zeiler & Fergus 2013, section 4 and figure 4.
"""


@click.command(
    "evolution", epilog=_EPILOG, short_help="Follow feature maps through a training's checkpoints."
)
@click.argument("checkpoints", type=click.Path(path_type=Path))
@options.images
@options.output("onnx-deconv-evolution")
@click.option(
    "--layer", "layers", multiple=True, metavar="NAME",
    help="May be repeated.  [default: the last convolution below the class maps]",
)  # fmt: skip
@click.option(
    "--channel", "feature_maps", type=click.IntRange(0), multiple=True, help="A feature map; may be repeated."
)
@click.option(
    "--maps", type=click.IntRange(1), default=6, show_default=True,
    help="Without --channel: how many, drawn at random but always the same.",
)  # fmt: skip
@options.semantics_options()
@on_photographs
@click.pass_obj
def command(console: Console, /, checkpoints: Path, images: tuple[str, ...], **given: Any) -> int:
    """Draw the strongest activation of feature maps over IMAGES, for each ONNX file in CHECKPOINTS.

    The files are one model's, in the order of the numbers in their names.
    """
    files, paths = checkpoints_in(checkpoints), find_pictures(images)
    semantics, shapes, providers = options.semantics_of(given), given["shapes"], given["providers"]

    def opened(path: Any) -> Explainer:
        return Explainer(path, semantics, providers=providers, input_shapes=shapes)

    last = opened(files[-1])
    preprocess, warning = preprocess_of(last.model, given, console)
    if preprocess.size is None:
        raise InputError("photographs in their own sizes cannot be compared: give a --size")
    batch = np.stack([Photo.read(path, preprocess).tensor for path in paths])
    layers = [last.model.layer(layer) for layer in given["layers"] or [last_convolution(last)]]
    channels = {layer: given["feature_maps"] or _some(last, layer, given["maps"]) for layer in layers}
    for found in evolution(
        files,
        batch,
        channels,
        open_checkpoint=opened,
        watch=lambda steps: console.progress(steps, lambda path: path.name),
    ):
        stem = folder(given["output"]) / safe(found.layer)
        sheet, values, record = (Path(f"{stem}-evolution.{suffix}") for suffix in ("png", "npy", "json"))
        save_png(sheet, draw_evolution(found, preprocess))
        save_npy(values, found.projections)
        numbers = {name: value for name, value in vars(found).items() if name != "projections"}
        save_json(record, {**numbers, "files": paths, **made_by(last, preprocess)})
        told = {"layer": found.layer, "channels": found.channels, "sheet": sheet, "values": values}
        console.result(told | {"record": record}, f"{found.layer}: {len(files)} checkpoints\n  {sheet}")
    if warning:
        console.warn(warning)
    return 0


def _some(explainer: Explainer, layer: str, count: int) -> list[int]:
    """Choose feature maps at random, always the same."""
    shape = explainer.model.type_of(layer).shape
    channels = shape[1] if shape is not None and len(shape) > 1 else None
    if channels is None:
        raise InputError(f"the file does not say how many channels {layer!r} has: name them with --channel")
    chosen = np.random.default_rng(0).permutation(channels)[:count]
    return sorted(int(channel) for channel in chosen)
