"""The options that say how a photograph becomes the model's input."""

from collections.abc import Mapping
from typing import Any, get_args

import click

from onnx_deconv.cli import options
from onnx_deconv.cli.console import Console
from onnx_deconv.cli.options import numbers, size, together
from onnx_deconv.imaging import PRESETS, Channels, Fit, Layout, Preprocess, preprocess_for
from onnx_deconv.model import Model

_NAMES = ("preset", "size", "fit", "mean", "std", "scale", "channels", "layout")

preparation = together(
    click.option(
        "--preset",
        type=click.Choice(list(PRESETS)),
        help="How pixels become numbers.  [default: what the model's metadata say, else imagenet]",
    ),
    click.option(
        "--size",
        callback=size,
        metavar="SIZE",
        help="Of the model's input: 224, 224x320 (height first), or photo for each photograph's own.  "
        "[default: from the model's input]",
    ),
    click.option(
        "--fit",
        type=click.Choice(get_args(Fit)),
        help="How a photograph gets that size.  [default: crop, the centre]",
    ),
    click.option(
        "--mean",
        callback=numbers(float),
        metavar="A,B,C",
        help="Subtracted from pixels after --scale, per channel.",
    ),
    click.option(
        "--std", callback=numbers(float), metavar="A,B,C", help="Divided by after --mean, per channel."
    ),
    click.option("--scale", type=float, help="What pixels 0..255 are multiplied with."),
    click.option("--channels", type=click.Choice(get_args(Channels)), help="Order of the channels."),
    click.option("--layout", type=click.Choice(get_args(Layout)), help="Of the model's input."),
)

on_photographs = together(options.labels, preparation, options.input_shape, options.providers, options.common)
"""What every experiment on photographs takes beside its own options."""


def preprocess_of(
    model: Model, given: dict[str, Any], console: Console | None = None
) -> tuple[Preprocess, str | None]:
    """Take the options above out of a command's, and decide.

    Returns
    -------
    preprocess : Preprocess
    warning : str or None
        What had to be assumed.
    """
    chosen = {name: value for name in _NAMES if (value := given.pop(name)) is not None}
    if chosen.get("size") == "photo":
        chosen["size"] = None
    preset = chosen.pop("preset", None)
    preprocess, assumed = preprocess_for(model, preset, chosen.pop("layout", None), **chosen)
    if console is not None:
        console.detail(f"preprocessing: {described(preprocess)}")
    if assumed is None:
        return preprocess, None
    return preprocess, (
        f"the model does not say how pixels become numbers: those of --preset {assumed} were taken; "
        "if the class is wrong, name another"
    )


def described(preprocess: Preprocess) -> str:
    """Write a preprocessing in one line."""
    to = "the photograph's size" if preprocess.size is None else "×".join(map(str, preprocess.size))
    statistics = ", ".join(
        f"{name} {' '.join(f'{v:.4g}' for v in values)}"
        for name, values in (("mean", preprocess.mean), ("std", preprocess.std))
    )
    return (
        f"{preprocess.fit} to {to}, {preprocess.channels} {preprocess.layout} {preprocess.dtype}, "
        f"scale {preprocess.scale:.4g}, {statistics}"
    )


def as_dict(preprocess: Preprocess) -> Mapping[str, Any]:
    """Return a preprocessing as plain JSON data."""
    return {name: getattr(preprocess, name) for name in Preprocess.__dataclass_fields__}
