"""The arrays of one layer, as files that are written and read in place; and their sheets."""

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from onnx_deconv.errors import InputError
from onnx_deconv.imaging import Picture, Size, at_height, montage
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
    """The files of one layer. They are opened when they are read, and closed again: nothing stays in memory.

    Attributes
    ----------
    home
        The atlas's folder.
    stem
        What its files' names begin with.
    plan
        What they hold.
    """

    home: Path
    stem: str
    plan: Plan

    @classmethod
    def made(cls, home: Path, stem: str, plan: Plan) -> "Shelf":
        """Make the files, zero (mid-grey) all over."""
        shelf = cls(home, stem, dict(plan))
        for kind, (dtype, shape) in plan.items():
            np.lib.format.open_memmap(shelf._path(kind), "w+", dtype, shape)
            if kind in _PICTURES:
                for place in np.ndindex(shape[:2]):
                    shelf.write(kind, (place[0], place[1]), np.full(shape[2:], _GREY, dtype))
        return shelf

    @classmethod
    def left(cls, home: Path, stem: str, plan: Plan) -> "Shelf | None":
        """Take the files that an interrupted run left; ``None`` if they are not as planned."""
        try:
            shelf = cls.opened(home, stem)
        except InputError:
            return None
        return shelf if shelf.plan == dict(plan) else None

    @classmethod
    def opened(cls, home: Path, stem: str) -> "Shelf":
        """Take the files of a finished atlas.

        Raises
        ------
        InputError
            If one is missing.
        """
        shelf = cls(home, stem, {})
        kinds = [k for k in _KINDS if k in _PICTURES or shelf._path(k).is_file()]
        try:
            arrays = {kind: shelf._array(kind) for kind in kinds}
        except (OSError, ValueError) as error:
            raise InputError(f"{home}: no whole atlas ({error}); make it again") from error
        return cls(home, stem, {kind: (array.dtype, array.shape) for kind, array in arrays.items()})

    @property
    def values(self) -> Array | None:
        """Reconstructions within the windows, (channels, k, C, h, w), float16; ``None`` if not kept.

        Each is divided by its own largest magnitude, which ``atlas.json`` gives as ``scale``.
        """
        return self._array("values") if "values" in self.plan else None

    @property
    def projections(self) -> Array:
        """Pictures of the reconstructions, (channels, k, height, width, 3), uint8, of at most 64 pixels."""
        return self._array("projections")

    @property
    def patches(self) -> Array:
        """Pictures of what was projected on, of the same shape and type."""
        return self._array("patches")

    def _path(self, kind: str) -> Path:
        return self.home / f"{self.stem}-{kind}.npy"

    def _array(self, kind: str) -> Array:
        array: Array = np.load(self._path(kind), mmap_mode="r")
        return array

    def read(self, kind: str, place: Size) -> Array:
        """Read one unit's part of an array."""
        array: Array = np.array(self._array(kind)[place])
        return array

    def write(self, kind: str, place: Size, values: Array) -> None:
        """Write one unit's part of an array.

        Not through mapped memory: all that was ever written would count as the program's own.
        """
        dtype, shape = self.plan[kind]
        content = np.ascontiguousarray(values, dtype).tobytes()
        behind = math.prod(shape[:2]) - int(np.ravel_multi_index(place, shape[:2]))
        with self._path(kind).open("r+b") as file:
            file.seek(-behind * len(content), os.SEEK_END)
            file.write(content)


def planned(places: Size, window: Size, planes: int, *, values: bool) -> Plan:
    """Return the arrays of a layer with so many feature maps and ranks, whose windows are of this size."""
    picture = np.dtype(np.uint8), (*places, *_tile(window), 3)
    numbers = {"values": (np.dtype(np.float16), (*places, planes, *window))} if values else {}
    return {**numbers, "projections": picture, "patches": picture}


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
