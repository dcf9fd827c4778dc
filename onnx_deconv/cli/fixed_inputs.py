"""The option ``--input``, and models of which some inputs get the same with every photograph."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import click
import numpy as np

from onnx_deconv.attribution.fixed_inputs import with_inputs
from onnx_deconv.attribution.samples import Reader
from onnx_deconv.cli.console import Console
from onnx_deconv.cli.image_options import ImageOptions
from onnx_deconv.cli.model_options import ModelOptions
from onnx_deconv.cli.options import Option, option
from onnx_deconv.compiler.package import is_pair
from onnx_deconv.errors import InputError
from onnx_deconv.imaging import takes_pictures
from onnx_deconv.model import Model

_WORDS = {"true": True, "false": False}

Given = Sequence[tuple[str, Sequence[str]]]
"""Inputs by name, each with what was written for it."""


def _named(ctx: click.Context, param: click.Parameter, values: Sequence[str]) -> Given:
    found: dict[str, list[str]] = {}
    for value in values:
        name, equals, given = value.partition("=")
        if not (name and equals and given):
            raise click.BadParameter(f"{value!r}: write NAME=FILE or NAME=NUMBER", ctx, param)
        found.setdefault(name, []).append(given)
    return tuple((name, tuple(each)) for name, each in found.items())


def given_inputs(help: str) -> Option:  # noqa: A002
    """Declare the option for what inputs get."""
    return option("--input", help, multiple=True, callback=_named, metavar="NAME=FILE")


def values_of(given: Given) -> dict[str, Any]:
    """Return the files of each input, its file, or its numbers."""
    return {name: _value(name, texts) for name, texts in given}


def _value(name: str, texts: Sequence[str]) -> Any:
    if len(texts) > 1:
        return tuple(Path(text) for text in texts)
    (text,) = texts
    if Path(text).exists():
        return Path(text)
    try:
        numbers = [_WORDS[part] if part in _WORDS else float(part) for part in text.split(",")]
    except ValueError:
        if not Path(text).suffix:
            raise InputError(
                f"--input {name}: {text!r} is neither a file nor numbers, true or false"
            ) from None
        return Path(text)
    return np.array(numbers if len(numbers) > 1 else numbers[0])


@dataclass(frozen=True)
class FixedInputs:
    """What the inputs get that are not for photographs."""

    given: Annotated[
        Given,
        given_inputs(
            "What another input of the model gets with every IMAGE, where it takes several: a picture, an "
            ".npy, .npz or sound file, one or more numbers, true or false; may be repeated.",
        ),
    ] = ()

    def model(self, path: Path, run: ModelOptions, images: ImageOptions) -> Path | Model:
        """Return the model that takes the other inputs alone: the file itself where nothing is given.

        Raises
        ------
        InputError
            If something does not fit the model, or it is a pair.
        """
        if not self.given:
            return path
        if is_pair(path):
            raise InputError(
                f"{path}: --input is for a model; what inputs get is chosen before it is converted"
            )
        return self.of(run.load(path), images)

    def of(self, model: Model, images: ImageOptions, console: Console | None = None) -> Model:
        """Return the model that takes the other inputs alone."""
        given = values_of(self.given)
        if unknown := [name for name in given if name not in model.inputs]:
            raise InputError(f"--input {unknown[0]}: the model's inputs are {', '.join(model.inputs)}")
        pictures = {
            name: images.preprocess_of(model, name, console)[0]
            for name, value in given.items()
            if takes_pictures(model, name, images.layout) and not isinstance(value, np.ndarray)
        }
        reader, fixed = Reader(model, pictures), dict[str, Any]()
        for name, value in given.items():
            parts = reader.parts(name, value)
            if len(parts) != 1:
                raise InputError(f"--input {name}: holds {len(parts)} samples: give one")
            fixed[name] = parts[0].array
        return with_inputs(model, fixed) if fixed else model

    def flags(self) -> list[str]:
        """Return the options as on the command line."""
        return [f"--input={name}={text}" for name, texts in self.given for text in texts]

    def record(self) -> Mapping[str, Any]:
        """Return what a result depends on, for its record."""
        return {"inputs": {name: ",".join(texts) for name, texts in self.given}} if self.given else {}


NOTHING_FIXED = FixedInputs()
"""Of a model of one input, or as it is."""
