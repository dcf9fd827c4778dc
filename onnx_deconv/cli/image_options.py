"""The option group for how photographs become a model's input."""

from dataclasses import dataclass
from typing import Annotated, Any

import click

from onnx_deconv.cli.console import Console
from onnx_deconv.cli.options import option, parse_numbers, parse_size
from onnx_deconv.imaging import PRESETS, Channels, Fit, Layout, Preprocess, preprocess_for
from onnx_deconv.model import Model


@dataclass(frozen=True)
class ImageOptions:
    """How a photograph becomes the model's input; ``None`` where nothing was chosen."""

    preset: Annotated[
        str | None,
        option(
            "--preset",
            "A common preprocessing of photographs.  [default: what the model's metadata say, else imagenet]",
            type=click.Choice(list(PRESETS)),
        ),
    ] = None
    size: Annotated[
        tuple[int, int] | str | None,
        option(
            "--size",
            "Size of the model's input in pixels: 224, or 224x320 with the height first, or photo "
            "for each photograph's own size.  [default: the size that the model says, else the preset's]",
            callback=parse_size,
            metavar="SIZE",
        ),
    ] = None
    fit: Annotated[
        Fit | None,
        option(
            "--fit",
            "How a photograph is brought to that size: its centre is cropped, it is stretched, "
            "padded, or already of that size.  [default: crop]",
        ),
    ] = None
    mean: Annotated[
        tuple[float, ...] | None,
        option(
            "--mean",
            "The mean of each channel, which is subtracted after --scale.",
            callback=parse_numbers(float),
            metavar="A,B,C",
        ),
    ] = None
    std: Annotated[
        tuple[float, ...] | None,
        option(
            "--std",
            "The standard deviation of each channel, which is divided by after --mean.",
            callback=parse_numbers(float),
            metavar="A,B,C",
        ),
    ] = None
    scale: Annotated[
        float | None,
        option("--scale", "The factor that pixels, 0..255, are multiplied by.", type=float),
    ] = None
    channels: Annotated[
        Channels | None,
        option("--channels", "The order of the input's colour channels."),
    ] = None
    layout: Annotated[
        Layout | None,
        option("--layout", "The order of the input's axes.  [default: from its shape]"),
    ] = None

    def preprocess(self, model: Model, console: Console | None = None) -> Preprocess:
        """Decide how a photograph becomes the model's input; a preset that was assumed is warned of."""
        found = self.preprocess_of(model, None, console)
        tell_assumed_preset(console, found[1])
        if console is not None and "A" in found[0].channels:
            console.warn_at_the_end(
                "the model's fourth channel is a file's fourth band, or 255 everywhere where it has none"
            )
        return found[0]

    def preprocess_of(
        self, model: Model, name: str | None, console: Console | None = None
    ) -> tuple[Preprocess, str | None]:
        """Decide how a photograph becomes an input; return the preset that was assumed too, if one was."""
        chosen: dict[str, Any] = {name: value for name, value in vars(self).items() if value is not None}
        if chosen.get("size") == "photo":
            chosen["size"] = None
        preset, layout = chosen.pop("preset", None), chosen.pop("layout", None)
        found = preprocess_for(model, preset, layout, name, **chosen)
        if console is not None:
            console.detail(
                f"preprocessing{f' of {name}' if len(model.inputs) > 1 else ''}: {described(found[0])}"
            )
        return found


def tell_assumed_preset(console: Console | None, preset: str | None) -> None:
    """Warn of a preset that was assumed, if one was."""
    if console is not None and preset is not None:
        console.warn_at_the_end(
            f"the model does not say how to preprocess photographs, so --preset {preset} was "
            "assumed; if the class is wrong, choose another preset"
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
