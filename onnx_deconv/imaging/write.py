"""Write pictures and arrays to files, completely or not at all."""

import io
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from onnx_deconv.files import replacing
from onnx_deconv.imaging.picture import PathLike, Picture, check_picture


def save_png(path: PathLike, picture: Picture) -> None:
    """Write a picture as PNG, completely or not at all.

    Parameters
    ----------
    path
        The file; its folder must exist.
    picture
        uint8, H×W×3 (RGB) or H×W (grey).

    Raises
    ------
    InputError
        If the array is no picture, or the file cannot be written.
    """
    check_picture(picture, grey=True)
    with replacing(path) as temporary:
        Image.fromarray(picture).save(temporary, format="PNG")


def webp(picture: Picture, quality: int) -> bytes:
    """Compress a picture as WebP, with loss.

    Parameters
    ----------
    picture
        uint8, H×W×3 (RGB).
    quality
        0 (small) to 100 (good).

    Returns
    -------
    bytes
        A WebP file.

    Raises
    ------
    InputError
        If the array is no picture.
    """
    check_picture(picture)
    file = io.BytesIO()
    Image.fromarray(picture).save(file, format="WEBP", quality=quality, method=4)
    return file.getvalue()


def save_npy(path: PathLike, array: npt.NDArray[Any]) -> None:
    """Write an array in NumPy's format, completely or not at all.

    Parameters
    ----------
    path
        The file; its folder must exist. No suffix is added to the name.
    array
        Any numbers, any shape.

    Raises
    ------
    InputError
        If the file cannot be written.
    """
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.save(file, array, allow_pickle=False)
