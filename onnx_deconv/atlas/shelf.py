"""The arrays of one layer, as files that are written and read in place; and their sheets."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from onnx_deconv.errors import InputError
from onnx_deconv.image import Picture, Size, at_height, montage
from onnx_deconv.model import Array

_TILE = 64
"""Height and width, at most, of the pictures that are kept of each unit."""
_SHOWN = 48
"""Of a picture on a sheet, and at least, where pixels are few."""
_GREY = 128
_PICTURES = ("projections", "patches")
_KINDS = ("values", *_PICTURES)

Plan = Mapping[str, tuple[Any, tuple[int, ...]]]
"""Element type and shape of each array, by what it holds."""


@dataclass(frozen=True)
class Shelf:
    """Where the arrays of one layer lie.

    Attributes
    ----------
    home
        The atlas's folder.
    stem
        What its files' names begin with.
    values
        Reconstructions within the windows, (channels, k, C, h, w), float16, each divided by its own
        largest magnitude, which ``atlas.json`` gives as ``scale``; ``None`` where they were not kept.
    projections, patches
        Pictures of them and of the image, (channels, k, height, width, 3), uint8, of at most 64 pixels.
    """

    home: Path
    stem: str
    values: Array | None
    projections: Array
    patches: Array

    @classmethod
    def made(cls, home: Path, stem: str, plan: Plan) -> "Shelf":
        """Make the files, zero (mid-grey) all over."""
        for kind, (dtype, shape) in plan.items():
            path = home / f"{stem}-{kind}.npy"
            array = np.lib.format.open_memmap(path, "w+", dtype, shape)
            if kind in _PICTURES:
                _fill(path, array)
        return cls._mapped(home, stem, plan)

    @classmethod
    def left(cls, home: Path, stem: str, plan: Plan) -> "Shelf | None":
        """Open the files that an interrupted run left; ``None`` if they are not as planned."""
        try:
            shelf = cls._mapped(home, stem, plan)
        except (OSError, ValueError):
            return None
        return shelf if shelf.plan == dict(plan) else None

    @classmethod
    def opened(cls, home: Path, stem: str) -> "Shelf":
        """Open the files of a finished atlas for reading.

        Raises
        ------
        InputError
            If one is missing.
        """
        kinds = [k for k in _KINDS if k in _PICTURES or (home / f"{stem}-{k}.npy").is_file()]
        try:
            return cls._mapped(home, stem, kinds)
        except (OSError, ValueError) as error:
            raise InputError(f"{home}: no whole atlas ({error}); make it again") from error

    @classmethod
    def _mapped(cls, home: Path, stem: str, kinds: Iterable[str]) -> "Shelf":
        found = {kind: np.load(home / f"{stem}-{kind}.npy", mmap_mode="r") for kind in kinds}
        return cls(home, stem, **{kind: found.get(kind) for kind in _KINDS})  # type: ignore[arg-type]

    @property
    def plan(self) -> Plan:
        """What the files hold."""
        arrays = {kind: getattr(self, kind) for kind in _KINDS}
        return {kind: (a.dtype, a.shape) for kind, a in arrays.items() if a is not None}

    def write(self, kind: str, place: Size, values: Array) -> None:
        """Write one unit's part of an array, if there is that array.

        Not through the mapped memory: all that was ever written would count as the program's own.
        """
        array = getattr(self, kind)
        if array is None:
            return
        content = np.ascontiguousarray(values, array.dtype).tobytes()
        with (self.home / f"{self.stem}-{kind}.npy").open("r+b") as file:
            file.seek(array.offset + int(np.ravel_multi_index(place, array.shape[:2])) * len(content))
            file.write(content)


def planned(places: Size, window: Size, planes: int, *, values: bool) -> Plan:
    """Return the arrays of a layer with so many feature maps and ranks, whose windows are of this size."""
    picture = np.dtype(np.uint8), (*places, *_tile(window), 3)
    numbers = {"values": (np.dtype(np.float16), (*places, planes, *window))} if values else {}
    return {**numbers, "projections": picture, "patches": picture}


def _fill(path: Path, array: Array) -> None:
    """Make a picture file mid-grey."""
    with path.open("r+b") as file:
        file.seek(array.offset)  # type: ignore[attr-defined]
        for row in range(len(array)):
            file.write(bytes([_GREY]) * array[row].nbytes)


def _tile(window: Size) -> Size:
    height, width = window
    factor = max(1.0, max(window) / _TILE)
    return max(1, round(height / factor)), max(1, round(width / factor))


def sheet(tiles: Array, numbers: Sequence[int] | None = None) -> Picture:
    """Lay the pictures of a layer out: one block per feature map, its strongest first.

    Parameters
    ----------
    tiles
        Shape (channels, k, height, width, 3), uint8.
    numbers
        Of the feature maps, for the captions; by default all, from 0.

    Returns
    -------
    numpy.ndarray
        H×W×3, uint8, RGB.
    """
    across = math.ceil(math.sqrt(tiles.shape[1]))
    height = _SHOWN if tiles.shape[2] > _SHOWN else tiles.shape[2] * max(1, _SHOWN // tiles.shape[2])
    blocks = [montage([at_height(tile, height) for tile in block], across, gap=2) for block in tiles]
    columns = max(1, math.ceil(math.sqrt(len(blocks) * 1.6)))
    return montage(blocks, columns, [str(n) for n in numbers or range(len(blocks))], gap=6)
