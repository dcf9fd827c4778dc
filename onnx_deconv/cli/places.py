"""Places in a map, and seeds, as the command line takes them."""

import re
from pathlib import Path
from typing import Any, get_args

import click
import numpy as np

from onnx_deconv.attribution.seed import Place, SeedKind
from onnx_deconv.errors import InputError
from onnx_deconv.imaging import read_image
from onnx_deconv.model import Array

_WHITE = 128


def parse_place(ctx: click.Context, param: click.Parameter, value: str | None) -> Place:
    """Parse ``12,30``, ``region``, or the path of a mask: a picture, or an .npy file."""
    if value is None or value == "region":
        return value  # type: ignore[return-value]
    if re.fullmatch(r"\d+(\s*,\s*\d+)*", value):
        return tuple(int(part) for part in value.split(","))
    path = Path(value)
    if not path.is_file():
        text = f"{value!r}: write whole numbers with commas between them, region, or the path of a mask"
        raise click.BadParameter(text, ctx, param)
    return (
        _array(path)
        if path.suffix == ".npy"
        else (read_image(path).mean(axis=2) >= _WHITE).astype(np.float32)
    )


def parse_seed(ctx: click.Context, param: click.Parameter, value: str) -> SeedKind | Array:
    """Parse a kind of seed, or the path of an .npy file with one."""
    if value in get_args(SeedKind):
        return value  # type: ignore[return-value]
    path = Path(value)
    if not path.is_file():
        kinds = ", ".join(get_args(SeedKind))
        raise click.BadParameter(f"{value!r}: choose one of {kinds}, or the path of an .npy file", ctx, param)
    array: Array = _array(path)
    return array


def _array(path: Path) -> Any:
    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return loaded.astype(np.float32)
    except Exception as error:  # what a damaged header raises differs with the damage
        raise InputError(f"{path}: no array of numbers can be read ({error})") from error
    raise InputError(f"{path}: it is no .npy file but several arrays: save the one that is meant")
