"""Four bands of TIFFs, of which Pillow reads three, or none: those whose fourth is no opacity."""

import os
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from onnx_deconv.errors import InputError
from onnx_deconv.imaging.picture import PathLike, Picture

SUFFIXES = (".tif", ".tiff")
_SAMPLES = 277
"""The tag that tells how many numbers a pixel has."""
_FOUR = len("RGBX")


def leaves_bands_out(path: PathLike) -> bool:
    """Tell whether a file may be a TIFF with a fourth band that Pillow leaves out."""
    if Path(path).suffix.lower() not in SUFFIXES:
        return False
    try:
        with Image.open(path, formats=["TIFF"]) as picture:
            return len(picture.getbands()) < _FOUR == picture.tag_v2.get(_SAMPLES)  # type: ignore[attr-defined]
    except UnidentifiedImageError:
        return Path(path).is_file()
    except Exception:  # noqa: BLE001 - what is wrong with the file is said where it is read
        return False


def four_bands(path: PathLike, page: int = 0) -> Picture | None:
    """Read the four bands of a page of a TIFF; ``None`` where it has another number of them.

    Returns
    -------
    numpy.ndarray or None
        H×W×4, uint8.

    Raises
    ------
    InputError
        If tifffile is not installed, or the bands are of more than eight bits.
    """
    try:
        import tifffile  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise InputError(
            f"{os.fspath(path)}: a TIFF with such a fourth band is read by tifffile: pip install "
            "'onnx-deconv[bands]', or give an .npy file"
        ) from error
    try:
        with tifffile.TiffFile(path) as tiff:
            axes, array = tiff.pages[page].axes, tiff.pages[page].asarray()
    except Exception:  # noqa: BLE001 - of a damaged file nearly anything; then Pillow tells what is wrong
        return None
    if sorted(axes) != sorted("YXS") or array.shape[axes.index("S")] != _FOUR:
        return None
    if array.dtype != np.uint8:
        raise InputError(
            f"{os.fspath(path)}: its four bands are {array.dtype}, and those of a picture uint8: give an "
            ".npy file of what the model takes"
        )
    return np.ascontiguousarray(array.transpose([axes.index(axis) for axis in "YXS"]))
