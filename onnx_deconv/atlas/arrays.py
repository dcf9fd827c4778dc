"""The arrays of one layer, as files that are written and read piece by piece."""

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from onnx_deconv.errors import InputError
from onnx_deconv.files import writing
from onnx_deconv.imaging import Size
from onnx_deconv.model import Array

_TILE = 64
"""Height and width, at most, of the pictures that are kept of each unit."""
_GREY = 128
_AXES = 5
_PICTURES = ("projections", "patches")
_KINDS = ("values", *_PICTURES)

Plan = Mapping[str, tuple[Any, tuple[int, ...]]]
"""Element type and shape of each of a layer's arrays, by kind: values, projections, patches."""


@dataclass(frozen=True)
class LayerArrays:
    """The array files of one layer. They are opened only while they are read: nothing stays in memory.

    Attributes
    ----------
    home
        The atlas's folder.
    stem
        The beginning of the files' names.
    plan
        The arrays.
    """

    home: Path
    stem: str
    plan: Plan

    @classmethod
    def create(cls, home: Path, stem: str, plan: Plan) -> "LayerArrays":
        """Create the files: numbers are zero, pictures mid-grey."""
        arrays = cls(home, stem, dict(plan))
        for kind, (dtype, shape) in plan.items():
            with writing(arrays._path(kind)), arrays._path(kind).open("wb") as file:
                # Not as mapped memory: a disk that is full then stops the program (SIGBUS).
                about = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
                np.lib.format.write_array_header_1_0(file, about)
                file.truncate(file.tell() + math.prod(shape) * dtype.itemsize)
            if kind in _PICTURES:
                for channel, rank in np.ndindex(shape[:2]):
                    arrays.write(kind, (channel, rank), np.full(shape[2:], _GREY, dtype))
        return arrays

    @classmethod
    def resume(cls, home: Path, stem: str, plan: Plan) -> "LayerArrays | None":
        """Open the files that an interrupted run left; ``None`` if they are not as planned."""
        try:
            arrays = cls.open(home, stem)
        except InputError:
            return None
        return arrays if arrays.plan == dict(plan) else None

    @classmethod
    def open(cls, home: Path, stem: str) -> "LayerArrays":
        """Open the files of a finished atlas.

        Raises
        ------
        InputError
            If one is missing.
        """
        files = cls(home, stem, {})
        kinds = [k for k in _KINDS if k in _PICTURES or files._path(k).is_file()]
        try:
            arrays = {kind: files._array(kind) for kind in kinds}
        except Exception as error:  # a damaged header raises whatever Python's parser does
            raise InputError(f"{home}: no whole atlas ({error}); make it again") from error
        return cls(home, stem, {kind: (array.dtype, array.shape) for kind, array in arrays.items()})

    def check(self, units: tuple[int, ...]) -> None:
        """Make sure that the files are an atlas's, of so many channels and ranks.

        Raises
        ------
        InputError
            If not.
        """
        for kind, (dtype, shape) in self.plan.items():
            wanted = np.uint8 if kind in _PICTURES else np.float16
            fits = dtype == wanted and len(shape) == _AXES and shape[:2] == units and 0 not in shape
            if not fits or (kind in _PICTURES and shape[4] != 3):  # noqa: PLR2004  (RGB)
                raise InputError(f"{self._path(kind)}: is not the array that the atlas had; make it again")

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
        """Pictures of the image within the windows, of the same shape and type."""
        return self._array("patches")

    def _path(self, kind: str) -> Path:
        return self.home / f"{self.stem}-{kind}.npy"

    def _array(self, kind: str) -> Array:
        array: Array = np.load(self._path(kind), mmap_mode="r")
        return array

    def read(self, kind: str, unit: tuple[int, int]) -> Array:
        """Read what an array holds for one unit, given by channel and rank."""
        array: Array = np.array(self._array(kind)[unit])
        return array

    def write(self, kind: str, unit: tuple[int, int], values: Array) -> None:
        """Write what an array holds for one unit, given by channel and rank.

        Not through mapped memory: all that was ever written would count as the program's own.
        """
        dtype, shape = self.plan[kind]
        content = np.ascontiguousarray(values, dtype).tobytes()
        from_end = math.prod(shape[:2]) - int(np.ravel_multi_index(unit, shape[:2]))
        with writing(self._path(kind)), self._path(kind).open("r+b") as file:
            file.seek(-from_end * len(content), os.SEEK_END)
            file.write(content)


def files_of(stem: str) -> list[str]:
    """Name all files that an atlas may have of a layer."""
    return [f"{stem}-{kind}.npy" for kind in _KINDS] + [f"{stem}-{kind}.png" for kind in _PICTURES]


def planned(units: tuple[int, int], window: Size, channels: int, *, values: bool) -> Plan:
    """Plan the arrays of a layer.

    Parameters
    ----------
    units
        How many feature maps, and how many ranks of each.
    window
        (height, width) of the pixels that are shown of a unit.
    channels
        How many channels a reconstruction has.
    values
        Whether to keep the reconstructions' numbers.
    """
    picture = np.dtype(np.uint8), (*units, *_tile(window), 3)
    numbers = {"values": (np.dtype(np.float16), (*units, channels, *window))} if values else {}
    return {**numbers, "projections": picture, "patches": picture}


def _tile(window: Size) -> Size:
    height, width = window
    factor = max(1.0, max(window) / _TILE)
    return max(1, round(height / factor)), max(1, round(width / factor))
