"""Read any picture file as an RGB array."""

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from onnx_deconv.errors import InputError
from onnx_deconv.imaging.picture import PathLike, Picture, Size
from onnx_deconv.imaging.tiffs import four_bands, leaves_bands_out

SUFFIXES = frozenset(
    {".avif", ".bmp", ".gif", ".jfif", ".jp2", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".pnm", ".ppm"}
    | {".tga", ".tif", ".tiff", ".webp"}
)
"""Suffixes by which pictures in a folder are found; a file given by name may have any suffix."""
Bands = Literal[3, 4]
"""Red, green and blue, or these and a fourth: opacity, or near infrared, or whatever the file has there."""
logging.getLogger("PIL").addHandler(logging.NullHandler())  # what is wrong with a file is in our own message
_FOUR_BANDS = ("RGBA", "RGBX")


_COMMON = ("JPEG", "PNG", "GIF", "BMP", "PPM")
_NOT_OPENED = {"EPS", "WMF", "BUFR", "GRIB", "HDF5", "MPEG"}
"""Formats of Pillow's that start another program (Ghostscript) or need one to be decoded."""


class TooManyPixelsError(InputError):
    """A picture has more pixels than the limit against decompression bombs."""


def read_image(path: PathLike | BinaryIO, *, bands: Bands = 3, page: int = 0) -> Picture:
    """Read a picture of any format, mode and bit depth that Pillow knows.

    EXIF orientation is applied; transparency is blended with white.
    16-bit grey values range over 0..65535. Floating point grey values range over 0..1, 0..255 or
    0..65535, whichever is the first to hold them all, else from 0 to their maximum. Colour profiles are
    ignored, as in the pipelines that train models.

    Parameters
    ----------
    path
        The picture file, or an open file (messages call it by its ``name``).
    bands
        With 4, a file's fourth band is read too, and nothing is blended; it is 255 where the file has none.
    page
        Which page of a TIFF or frame of an animation, from 0.

    Returns
    -------
    numpy.ndarray
        H×W×3, uint8, RGB; H×W×4 with four bands.

    Raises
    ------
    InputError
        If there is no such page, or the file is missing, a folder, not a picture, damaged, in a format that
        other programs decode (EPS, WMF), or has more pixels than Pillow's limit against decompression bombs
        (``PIL.Image.MAX_IMAGE_PIXELS``).
    """
    if bands == len("RGBX") and (whole := _four_bands(path, page)) is not None:
        return whole
    try:
        with opened(path) as picture:
            _turn_to(picture, page)
            return as_picture(picture, bands=bands)
    except Exception as error:
        # Pillow's plugins raise nearly anything on a damaged file: SyntaxError, struct.error, ...
        name = _name_of(path)
        raise InputError(f"{name}: {_why_unreadable(name, error)}") from error


def size_of(path: PathLike | BinaryIO) -> Size:
    """Return the (height, width) that a picture's file states; the pixels are not read.

    Raises
    ------
    TooManyPixelsError
        If it states more pixels than the limit of :func:`read_image`.
    InputError
        If it is no picture.
    """
    try:
        with opened(path) as picture:
            return picture.height, picture.width
    except Exception as error:
        kind = TooManyPixelsError if isinstance(error, Image.DecompressionBombError) else InputError
        name = _name_of(path)
        raise kind(f"{name}: {_why_unreadable(name, error)}") from error


def _name_of(path: PathLike | BinaryIO) -> str:
    """Return what messages call a picture file."""
    if isinstance(path, str | os.PathLike):
        return os.fspath(path)
    return str(getattr(path, "name", None) or "a file")


def as_picture(image: Image.Image, *, bands: Bands = 3) -> Picture:
    """Return an open picture of Pillow's as an array, as :func:`read_image` does with a file."""
    upright = ImageOps.exif_transpose(image)
    if bands == len("RGBA") and upright.mode in _FOUR_BANDS:
        return np.array(upright)
    return with_bands(np.array(_rgb(upright)), bands)


def has_fourth_band(path: PathLike) -> bool:
    """Tell whether a picture file has a fourth band."""
    if leaves_bands_out(path):
        return True
    with opened(path) as picture:
        return picture.mode in _FOUR_BANDS


def _four_bands(path: PathLike | BinaryIO, page: int) -> Picture | None:
    """Return the bands of a TIFF whose fourth Pillow leaves out; ``None`` for other files."""
    if not isinstance(path, str | os.PathLike) or not leaves_bands_out(path):
        return None
    return four_bands(path, page)


def with_bands(picture: Picture, bands: Bands) -> Picture:
    """Return a picture with three bands or four: the fourth is blended with white, or added as 255."""
    if picture.shape[2] == bands:
        return picture
    if bands == len("RGB"):
        return np.array(_rgb(Image.fromarray(picture)))
    return np.concatenate([picture, np.full_like(picture[..., :1], 255)], axis=2)


def _turn_to(picture: Image.Image, page: int) -> None:
    """Turn to a page or frame.

    Raises
    ------
    InputError
        If there is none.
    """
    count = getattr(picture, "n_frames", 1)
    if not 0 <= page < count:
        raise _NoPageError(f"has no page {page}: they are numbered from 0 to {count - 1}")
    if page:
        picture.seek(page)


class _NoPageError(InputError):
    """There is no such page; the message lacks the file's name."""


def opened(path: PathLike | BinaryIO) -> Image.Image:
    """Open a picture, in no format that other programs are started for, and of no more pixels than the limit.

    Its errors are those of Pillow; :func:`read_image` makes lines of them.
    """
    picture = _opened(path)
    # Not by a warning of Pillow: filters of warnings belong to the whole process and all its threads.
    if Image.MAX_IMAGE_PIXELS and picture.width * picture.height > Image.MAX_IMAGE_PIXELS:
        picture.close()
        raise Image.DecompressionBombError
    return picture


def _opened(path: PathLike | BinaryIO) -> Image.Image:
    if isinstance(path, str | os.PathLike) and not Path(path).is_file() and Path(path).exists():
        raise IsADirectoryError if Path(path).is_dir() else _NoFileError
    try:
        return Image.open(path, formats=_COMMON)
    except UnidentifiedImageError:
        Image.init()
        return Image.open(path, formats=[name for name in Image.ID if name not in _NOT_OPENED])


class _NoFileError(OSError):
    """A pipe or a device, which might be waited for without end."""


def _why_unreadable(path: str, error: Exception) -> str:
    match error:
        case _NoPageError():
            return str(error)
        case FileNotFoundError():
            return "no such file; check the path of the picture"
        case _ if Path(path).is_dir():
            return "is a folder; give one picture"
        case Image.DecompressionBombError() | Image.DecompressionBombWarning():
            limit = f"{Image.MAX_IMAGE_PIXELS:,} pixels"
            return f"has more than {limit}, the limit against decompression bombs; make it smaller"
        case UnidentifiedImageError():
            return "not a picture in a format that is read; convert it to PNG or JPEG"
        case _NoFileError():
            return "is no ordinary file; save the picture to one"
        case PermissionError():
            return "permission to read it is denied; change its access rights"
    reason = " ".join(str(error).split()) or type(error).__name__
    return f"cannot be decoded ({reason}); save it again as PNG or JPEG"


def _rgb(picture: Image.Image) -> Image.Image:
    if picture.mode.startswith("I"):
        picture = Image.fromarray(_eight_bit(np.asarray(picture), whites=(65535,)))
    elif picture.mode == "F":
        picture = Image.fromarray(_eight_bit(np.asarray(picture), whites=(1, 255, 65535)))
    elif picture.mode == "La":  # premultiplied by alpha: Pillow converts it to LA alone
        picture = picture.convert("LA")
    if picture.has_transparency_data:
        white = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(white, picture.convert("RGBA"))
    return picture.convert("RGB")


def _eight_bit(values: npt.NDArray[Any], whites: Sequence[float]) -> Picture:
    """Scale grey values to 0..255: white is the first of `whites` that no value exceeds, or the maximum."""
    values = values.astype(np.float32)
    if not np.isfinite(values).all():
        raise ValueError("some of its values are infinite or not a number")
    peak = float(values.max())
    white = next((white for white in whites if peak <= white), peak)
    return np.rint(np.clip(values / white, 0, 1) * 255).astype(np.uint8)
