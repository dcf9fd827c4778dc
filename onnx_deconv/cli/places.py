"""Places in a map, and seeds, as the command line takes them."""

import re
from pathlib import Path
from typing import Any, get_args

import click
import numpy as np

from onnx_deconv.attribution.seed import Place, SeedKind, weights_of
from onnx_deconv.errors import InputError
from onnx_deconv.imaging import read_image
from onnx_deconv.model import Array


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
    return weights_of(
        _array(path) if path.suffix == ".npy" else read_image(path).mean(axis=2).astype(np.uint8)
    )


def parse_seed(ctx: click.Context, param: click.Parameter, value: str) -> SeedKind | Array:
    """Parse a kind of seed, or the path of an .npy file with one."""
    if value in get_args(SeedKind):
        return value  # type: ignore[return-value]
    path = Path(value)
    if not path.is_file():
        kinds = ", ".join(get_args(SeedKind))
        raise click.BadParameter(f"{value!r}: choose one of {kinds}, or the path of an .npy file", ctx, param)
    array: Array = _array(path).astype(np.float32)
    return array


def _array(path: Path) -> Any:
    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray) and loaded.dtype.kind in "fiub":
            return loaded
    except Exception as error:  # what a damaged header raises differs with the damage
        raise InputError(f"{path}: no array of numbers can be read ({error})") from error
    if isinstance(loaded, np.ndarray):
        raise InputError(f"{path}: no array of numbers, but of {loaded.dtype}")
    raise InputError(f"{path}: it is no .npy file but several arrays: save the one that is meant")
