"""Read numbers from files: arrays, sounds, and pictures of any bands and pages."""

import os
import wave
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageSequence, UnidentifiedImageError

from onnx_deconv.errors import InputError
from onnx_deconv.imaging.picture import PathLike
from onnx_deconv.imaging.read import opened

Numbers = npt.NDArray[Any]
_TIFF = (".tif", ".tiff")
_SOUNDS = (".aif", ".aiff", ".flac", ".mp3", ".ogg", ".wav")
NUMBER_SUFFIXES = frozenset({".npy", ".npz", *_SOUNDS})
"""Suffixes of files that hold numbers and can be no picture."""


class ReadNumbers(NamedTuple):
    """What a file holds.

    Attributes
    ----------
    array
        The numbers.
    channels_first
        Whether its first axis is known to be the channels (of a sound) or bands.
    """

    array: Numbers
    channels_first: bool


def holds_numbers(path: PathLike) -> bool:
    """Tell by its name whether a file holds numbers and can be no picture; ``FILE.npz:NAME`` is one too."""
    return Path(_parted(path)[0]).suffix.lower() in NUMBER_SUFFIXES


def read_numbers(path: PathLike) -> ReadNumbers:
    """Read numbers from a file.

    1. ``.npy``: its array. ``.npz``: its only array, or the one named after a colon, ``FILE.npz:NAME``.
    2. A sound: channels × samples, float32, -1..1. ``.wav`` of whole numbers is read without other packages;
       the rest by ``soundfile`` (``pip install 'onnx-deconv[signals]'``).
    3. Any other file is a picture: bands × H × W, each value as it is stored. The bands of all pages of a
       TIFF follow each other. More than four bands, or 16 bits in colour, are read by ``tifffile``
       (``pip install 'onnx-deconv[bands]'``).

    Raises
    ------
    InputError
        If the file cannot be read, or a package is missing.
    """
    file, name = _parted(path)
    suffix = Path(file).suffix.lower()
    reader: Callable[[str], Numbers]
    if suffix in (".npy", ".npz"):
        return ReadNumbers(_read(file, lambda given: _array(given, name)), channels_first=False)
    reader = _sound if suffix in _SOUNDS else _tiff if suffix in _TIFF else _bands
    return ReadNumbers(_read(file, reader), channels_first=True)


def _parted(path: PathLike) -> tuple[str, str | None]:
    """Part the name of an array from the file's."""
    text = os.fspath(path)
    file, colon, name = text.rpartition(":")
    return (file, name) if colon and file.lower().endswith(".npz") else (text, None)


def _read(file: str, reader: Callable[[str], Numbers]) -> Numbers:
    if not Path(file).is_file():
        raise InputError(f"{file}: no such file; check its path")
    try:
        array = np.asarray(reader(file))
    except InputError:
        raise
    except Image.DecompressionBombError as error:
        raise InputError(f"{file}: has more pixels than are read of a picture; give them as .npy") from error
    except Exception as error:  # what a damaged file raises differs with its format
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{file}: cannot be read ({reason}); save it again, as .npy for instance") from error
    if array.dtype.kind not in "fiub" or not array.size:
        raise InputError(f"{file}: holds no numbers (an array of {array.dtype}, {array.size} values)")
    return array


def _array(file: str, name: str | None) -> Numbers:
    found = np.load(file, allow_pickle=False)
    if not isinstance(found, np.lib.npyio.NpzFile):
        return np.asarray(found)
    with found:
        names = list(found)
        if name is None and len(names) != 1:
            raise InputError(
                f"{file}: holds the arrays {', '.join(names)}: name one, as in {file}:{names[0]}"
            )
        if name is not None and name not in names:
            raise InputError(f"{file}: holds no array {name!r} but {', '.join(names)}")
        return np.asarray(found[name or names[0]])


def _sound(file: str) -> Numbers:
    """Return channels × samples, -1..1."""
    if file.lower().endswith(".wav"):
        try:
            return _wave(file)
        except wave.Error:
            pass  # floating point, or compressed
    try:
        import soundfile  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise InputError(
            f"{file}: this kind of sound is read by soundfile: pip install 'onnx-deconv[signals]', or save "
            "it as .wav of 16 bits"
        ) from error
    samples, _ = soundfile.read(file, dtype="float32", always_2d=True)
    return np.ascontiguousarray(samples.T)


def _wave(file: str) -> Numbers:
    with wave.open(file, "rb") as sound:
        width, channels = sound.getsampwidth(), sound.getnchannels()
        content = np.frombuffer(sound.readframes(sound.getnframes()), np.uint8)
    parts = content.reshape(-1, width)
    if width == 1:  # the only width without a sign
        values = (parts[:, 0].astype(np.float64) - 128) / 128
    else:  # little endian: in the upper bytes of 32 bits
        whole = np.zeros((len(parts), 4), np.uint8)
        whole[:, 4 - width :] = parts
        values = whole.view("<i4")[:, 0] / 2.0**31
    return np.ascontiguousarray(values.reshape(-1, channels).T.astype(np.float32))


def _tiff(file: str) -> Numbers:
    """Return bands × H × W: by tifffile where it is installed, as Pillow knows few kinds."""
    try:
        import tifffile  # noqa: PLC0415 - an extra
    except ImportError:
        try:
            return _bands(file)
        except UnidentifiedImageError as error:
            raise InputError(
                f"{file}: this kind of TIFF is read by tifffile: pip install 'onnx-deconv[bands]', or give "
                "an .npy file"
            ) from error
    with tifffile.TiffFile(file) as tiff:
        series = tiff.series[0]
        axes, array = series.axes, series.asarray()
    order = [k for k, letter in enumerate(axes) if letter not in "YX"]
    return array.transpose([*order, axes.index("Y"), axes.index("X")]).reshape(-1, *_sides(axes, array))


def _sides(axes: str, array: Numbers) -> tuple[int, int]:
    return array.shape[axes.index("Y")], array.shape[axes.index("X")]


def _bands(file: str) -> Numbers:
    """Return the bands of all pages, as Pillow reads them: bands × H × W."""
    with opened(file) as picture:
        pages = [_page(frame) for frame in ImageSequence.Iterator(picture)]
    return np.concatenate(pages)


def _page(picture: Image.Image) -> Numbers:
    picture = picture.convert("RGB") if picture.mode == "P" else picture
    array = np.array(picture)
    return array[None] if array.ndim == len("HW") else np.moveaxis(array, -1, 0)
