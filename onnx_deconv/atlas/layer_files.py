"""The files of one layer: an archive of pictures, and one of numbers where they are kept.

``STEM-pictures.zip`` holds a WebP picture of each unit's projection and of its patch
(``projections/0012-3.webp``: channel 12, rank 3), ``STEM-values.h5`` their numbers
(:mod:`~onnx_deconv.atlas.values_file`). Both are written in the units' order, so the same units give the
same bytes whoever made them.
"""

import io
import weakref
import zipfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from onnx_deconv.atlas.values_file import Unit, ValuesFile, chunk_of, needs_h5py, write_values
from onnx_deconv.errors import InputError
from onnx_deconv.files import member, replacing
from onnx_deconv.imaging import Picture, Size, at_height, read_image, webp
from onnx_deconv.model import Array

VALUES, PICTURES = "values", ("projections", "patches")
KINDS = (*PICTURES, VALUES)

_TILE = 64
"""Height and width, at most, of the pictures that are kept of each unit."""
EXACT = 1024
"""Pixels of pictures that are compressed without loss: those of few pixels are shown enlarged."""
_QUALITY = 80
_GREY = 128
_LARGEST = 1 << 20
"""Bytes that one picture may take; those that are written take a few thousand."""
_EPOCH = (1980, 1, 1, 0, 0, 0)
"""When a file in an archive was made: two atlases of the same are the same to the byte."""


@dataclass(frozen=True)
class LayerPlan:
    """What is kept of a layer.

    Attributes
    ----------
    units
        How many channels, and how many ranks of each.
    tile
        (height, width) of the pictures.
    numbers
        (channels, height, width) of a unit's reconstruction; ``None`` where the numbers are not kept.
    """

    units: tuple[int, int]
    tile: Size
    numbers: tuple[int, int, int] | None = None

    @classmethod
    def of(cls, units: tuple[int, int], window: Size, channels: int, *, values: bool) -> "LayerPlan":
        """Plan what is kept of units of which a window of so many pixels is shown.

        Raises
        ------
        InputError
            If numbers are wanted, and h5py is missing.
        """
        if values:
            needs_h5py()
        height, width = window
        factor = max(1.0, max(window) / _TILE)
        tile = max(1, round(height / factor)), max(1, round(width / factor))
        return cls(units, tile, (channels, *window) if values else None)

    @property
    def kinds(self) -> tuple[str, ...]:
        """Return the kinds of pieces that are kept of each unit."""
        return PICTURES if self.numbers is None else KINDS

    def pieces(self, projection: Picture, patch: Picture, values: Array) -> dict[str, bytes]:
        """Compress what is kept of a unit, by kind.

        Parameters
        ----------
        projection
            The picture of its reconstruction.
        patch
            The picture of the image.
        values
            The reconstruction divided by its largest magnitude.
        """
        pictures = {"projections": projection, "patches": at_height(patch, self.tile[0])}
        pieces = {kind: compressed(picture) for kind, picture in pictures.items()}
        if self.numbers is not None:
            pieces[VALUES] = chunk_of(values)
        return pieces


def compressed(picture: Picture) -> bytes:
    """Compress a unit's picture: without loss if it has few pixels."""
    exact = picture.shape[0] * picture.shape[1] <= EXACT
    return webp(picture, _QUALITY, lossless=exact, effort=0)


class Tiles:
    """Pictures of a layer's units, read when asked for: ``tiles[5]``, ``tiles[8:16]``, ``tiles[[1, 3]]``.

    Attributes
    ----------
    shape
        (channels, k, height, width, 3) of the whole; uint8. Units that have no picture are grey.
    """

    def __init__(self, shape: tuple[int, ...], read: Callable[[Unit], bytes | None], path: Path) -> None:
        self.shape, self._read, self._path = shape, read, path

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: int | slice | Iterable[int]) -> Array:
        if isinstance(key, slice):
            key = range(len(self))[key]
        if not isinstance(key, Iterable):
            return np.stack([self._tile((int(key), rank)) for rank in range(self.shape[1])])
        rows = [self[int(channel)] for channel in key]
        return np.stack(rows) if rows else np.zeros((0, *self.shape[1:]), np.uint8)

    def _tile(self, unit: Unit) -> Array:
        content = self._read(unit)
        if content is None:
            return np.full(self.shape[2:], _GREY, np.uint8)
        file = io.BytesIO(content)
        file.name = self._path  # for messages
        picture = read_image(file)
        if picture.shape != self.shape[2:]:
            raise InputError(f"{self._path}: holds a picture of another atlas; make it again")
        return picture


class LayerFiles:
    """The files of one layer of a finished atlas.

    Parameters
    ----------
    home
        The atlas's folder.
    stem
        The beginning of the files' names.
    units
        How many channels, and how many ranks of each.
    tile
        (height, width) of the pictures.

    Raises
    ------
    InputError
        If the pictures are missing, or are no archive.
    """

    def __init__(self, home: Path, stem: str, units: tuple[int, int], tile: Size) -> None:
        self.home, self.stem, self._units, self._tile = home, stem, units, tile
        self._pictures = self._opened(home / f"{stem}-pictures.zip")
        self._names = {*self._pictures.namelist()}

    @property
    def plan(self) -> LayerPlan:
        """What is kept of the layer."""
        return LayerPlan(self._units, self._tile, None if self._numbers is None else self._numbers.shape)

    @property
    def projections(self) -> Tiles:
        """Pictures of the reconstructions, of at most 64 pixels."""
        return self._tiles("projections")

    @property
    def patches(self) -> Tiles:
        """Pictures of the image within the windows, as many and as large."""
        return self._tiles("patches")

    def values(self, channel: int) -> Array | None:
        """Read a channel's reconstructions within the windows, (k, C, h, w), float16; ``None`` if not kept.

        Each is divided by its own largest magnitude, which ``…-units.npy`` gives as ``scale``; those of units
        that were not projected are zeros.

        Raises
        ------
        InputError
            If h5py is missing, or the file is damaged.
        """
        return None if self._numbers is None else self._numbers.of_channel(channel)

    def pieces(self, unit: Unit) -> dict[str, bytes]:
        """Return what is kept of a unit, as :meth:`LayerPlan.pieces` made it."""
        found = {kind: self._piece(kind, unit) for kind in PICTURES}
        pieces = {kind: piece for kind, piece in found.items() if piece is not None}
        if pieces and self._numbers is not None:
            pieces[VALUES] = self._numbers.chunk(unit)
        return pieces

    def _tiles(self, kind: str) -> Tiles:
        path = self.home / f"{self.stem}-pictures.zip"
        return Tiles((*self._units, *self._tile, 3), lambda unit: self._piece(kind, unit), path)

    def _piece(self, kind: str, unit: Unit) -> bytes | None:
        name = _name(kind, unit)
        if name not in self._names:
            return None
        try:
            content = member(self._pictures, name, _LARGEST)
        except Exception as error:
            raise InputError(f"{self._pictures.filename}: {name} is damaged ({error})") from error
        if content is None:
            raise InputError(f"{self._pictures.filename}: {name} is no picture of an atlas")
        return content

    @cached_property
    def _numbers(self) -> ValuesFile | None:
        path = self.home / values_file(self.stem)
        return ValuesFile(path, self._units) if path.is_file() else None

    def _opened(self, path: Path) -> zipfile.ZipFile:
        """Open an archive, which is closed when nobody reads the layer any more."""
        try:
            archive = zipfile.ZipFile(path)
        except Exception as error:  # a damaged archive raises what Python's parser likes
            raise InputError(f"{path.parent}: no whole atlas ({error}); make it again") from error
        weakref.finalize(self, archive.close)
        return archive


def files_of(stem: str) -> list[str]:
    """Name all files that an atlas may have of a layer, one of an older format included."""
    kinds = "pictures.zip", "values.npz", "projections.webp", "patches.webp"
    return [units_file(stem), values_file(stem), *(f"{stem}-{what}" for what in kinds)]


def units_file(stem: str) -> str:
    """Name the file that tells of a layer's units."""
    return f"{stem}-units.npy"


def values_file(stem: str) -> str:
    """Name the file of a layer's numbers."""
    return f"{stem}-values.h5"


def pack(
    home: Path, stem: str, plan: LayerPlan, units: Iterable[Unit], read: Callable[[Unit, str], bytes]
) -> LayerFiles:
    """Write the files of a layer.

    Parameters
    ----------
    home
        The atlas's folder.
    stem
        The beginning of the files' names.
    plan
        What is kept.
    units
        The units that there are pieces of.
    read
        Gives a piece of a unit, by its kind.
    """
    ordered = sorted(units)
    with replacing(home / f"{stem}-pictures.zip") as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for kind in PICTURES:
            for unit in ordered:
                archive.writestr(zipfile.ZipInfo(_name(kind, unit), _EPOCH), read(unit, kind))
    if plan.numbers is not None:
        shape = (*plan.units, *plan.numbers)
        write_values(home / values_file(stem), shape, ordered, lambda unit: read(unit, VALUES))
    return LayerFiles(home, stem, plan.units, plan.tile)


def common(plans: Iterable[LayerPlan]) -> LayerPlan:
    """Return what all atlases keep of a layer."""
    first, *others = plans
    kept = first.numbers if all(plan.numbers == first.numbers for plan in others) else None
    return LayerPlan(first.units, first.tile, kept)


def _name(kind: str, unit: Unit) -> str:
    channel, rank = unit
    return f"{kind}/{channel:04}-{rank}.webp"


Plans = Mapping[str, LayerPlan]
"""What is kept, by layer."""
