"""The numbers of a layer's reconstructions: ``STEM-values.h5``, an HDF5 file with a chunk for each unit.

Its array ``values`` is float16 of the shape (channels, top, C, height, width). Chunks are compressed as
their units are projected, on any core or machine, and copied as they are from then on, in the units' order:
the same units give the same bytes whoever made them. Units that have no projection have no chunk, and read
as zeros.
"""

import math
import os
import weakref
import zlib
from collections.abc import Callable, Iterable
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from onnx_deconv.errors import InputError
from onnx_deconv.files import replacing, writing
from onnx_deconv.model import Array

Unit = tuple[int, int]
"""Channel and rank."""

_NAME = "values"
_LEVEL = 1
"""Of the compression: level 6 saves another 1 % and takes half as long again."""
_SHUFFLED = 2
"""Bytes of a number; HDF5's shuffle puts the first of all numbers before the second of all."""
_MOST = 1 << 26
"""Numbers of a unit, at most: three channels of 4096×4096 pixels."""
_EMPTY = 100
"""Bytes that a chunk of nothing may take."""


def needs_h5py(what: str = "the numbers of reconstructions (--values) are kept in HDF5 files") -> Any:
    """Return the module h5py.

    Parameters
    ----------
    what
        What needs it, for the message.

    Raises
    ------
    InputError
        If it is not installed.
    """
    try:
        import h5py  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise InputError(f"{what}: pip install 'onnx-deconv[values]'") from error
    return h5py


def chunk_of(values: Array) -> bytes:
    """Compress a unit's numbers, which become float16, as HDF5's filters shuffle and deflate do."""
    pairs = np.ascontiguousarray(values, np.float16).view(np.uint8).reshape(-1, _SHUFFLED)
    return zlib.compress(pairs.T.tobytes(), _LEVEL)


def write_values(
    path: Path, shape: tuple[int, ...], units: Iterable[Unit], read: Callable[[Unit], bytes]
) -> None:
    """Write the numbers of a layer.

    Parameters
    ----------
    path
        The file.
    shape
        (channels, top, C, height, width).
    units
        The units that there are numbers of, in their order.
    read
        Gives a unit's chunk, see :func:`chunk_of`.
    """
    h5py = needs_h5py()
    with replacing(path) as temporary, writing(path):
        try:
            _write(h5py, temporary, shape, ((unit, read(unit)) for unit in units))
        except (OSError, RuntimeError) as error:
            raise _system_error(error) from error


def _system_error(error: BaseException | None) -> OSError:
    """Return what the system refused: HDF5 says it in a paragraph, and fails again as the file is closed."""
    said = str(error)
    while error is not None:
        if isinstance(error, OSError) and error.errno is not None:
            return OSError(error.errno, os.strerror(error.errno))
        error = error.__context__
    return OSError(said)


def _write(h5py: Any, path: Path, shape: tuple[int, ...], chunks: Iterable[tuple[Unit, bytes]]) -> None:
    corner = (0,) * len(shape[2:])
    packed = {"chunks": (1, 1, *shape[2:]), "shuffle": True, "compression": "gzip"}
    # Not locked by HDF5: whoever replaces a file holds a lock on it already.
    with h5py.File(path, "w", locking=False) as file:
        values = file.create_dataset(_NAME, shape, np.float16, compression_opts=_LEVEL, **packed)
        for unit, chunk in chunks:
            values.id.write_direct_chunk((*unit, *corner), chunk)


class ValuesFile:
    """Reads the numbers of a layer's reconstructions; opened when first asked.

    Parameters
    ----------
    path
        The file.
    units
        How many channels, and how many ranks of each.
    """

    def __init__(self, path: Path, units: Unit) -> None:
        self._path, self._units = path, units

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, height, width) of a unit's numbers."""
        channels, height, width = self._values.shape[2:]
        return channels, height, width

    def of_channel(self, channel: int) -> Array:
        """Read a channel's numbers, (k, C, h, w), float16; zeros where there is no projection.

        Raises
        ------
        InputError
            If the file cannot be read.
        """
        try:
            array: Array = self._values[channel]
        except (OSError, RuntimeError, ValueError) as error:
            raise self._damaged(error) from error
        return array

    def chunk(self, unit: Unit) -> bytes:
        """Return a unit's numbers as :func:`chunk_of` made them.

        Raises
        ------
        InputError
            If there are none, or they are damaged.
        """
        try:
            return self._chunk((*unit, *(0,) * len(self.shape)))
        except (OSError, RuntimeError, ValueError, zlib.error) as error:
            raise self._damaged(error) from error

    def _chunk(self, place: tuple[int, ...]) -> bytes:
        """Read a unit's chunk, and make sure that it is whole."""
        size, called = _SHUFFLED * math.prod(self.shape), f"channel {place[0]}, rank {place[1]}"
        stored = self._values.id.get_chunk_info_by_coord(place)
        if stored.byte_offset is None or stored.filter_mask or stored.size > 2 * size + _EMPTY:
            raise ValueError(f"{called} has no numbers as an atlas keeps them")
        content, unpacked = bytes(self._values.id.read_direct_chunk(place)[1]), zlib.decompressobj()
        if len(unpacked.decompress(content, size + 1)) != size or not unpacked.eof:
            raise ValueError(f"the numbers of {called} are cut short")
        return content

    @cached_property
    def _values(self) -> Any:
        """The array, which is closed when nobody reads the file any more."""
        h5py = needs_h5py(f"{self._path}: is read by h5py")
        try:
            file = _opened(h5py, self._path)
            weakref.finalize(self, file.close)
            return _checked(h5py, file, self._units)
        except Exception as error:  # what a damaged file raises differs with the damage
            raise self._damaged(error) from error

    def _damaged(self, error: Exception) -> InputError:
        reason = " ".join(str(error).split())
        return InputError(f"{self._path}: is damaged ({reason}); make the atlas again")


def _opened(h5py: Any, path: Path) -> Any:
    """Open a file without a lock, or as it is open already: in one process HDF5 does it in one way."""
    try:
        return h5py.File(path, locking=False)
    except OSError:
        return h5py.File(path)


def _checked(h5py: Any, file: Any, units: Unit) -> Any:
    """Return the array of a file if it is as :func:`write_values` made it: no link leads elsewhere."""
    if not isinstance(file.get(_NAME, getlink=True), h5py.HardLink):
        raise ValueError(f"there is no array {_NAME!r} in it")  # noqa: TRY004  (the file is wrong, not its type)
    values = file[_NAME]
    is_array = isinstance(values, h5py.Dataset) and not values.is_virtual and values.external is None
    if not is_array or values.shape[:2] != units or values.dtype != np.float16:
        raise ValueError("it is of another atlas")
    _, _, *numbers = values.shape
    kept = len(numbers) == 3 and values.chunks == (1, 1, *numbers) and values.compression == "gzip"  # noqa: PLR2004
    if not kept or math.prod(numbers) > _MOST:
        raise ValueError("it is not packed as an atlas packs it")
    return values
