"""Write pictures and arrays to files, completely or not at all."""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image as PillowImage

from onnx_deconv.errors import InputError
from onnx_deconv.files import replacing
from onnx_deconv.imaging.picture import PathLike, Picture, check_picture

FORMATS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    ".png": ("PNG", {}),
    ".jpg": ("JPEG", {"quality": 90}),
    ".jpeg": ("JPEG", {"quality": 90}),
    ".webp": ("WEBP", {"quality": 90, "method": 4}),
}
"""The formats that pictures are written in, by the file's suffix: Pillow's name, and how."""

Image = PillowImage.Image
"""A picture as Pillow has it."""


def as_image(picture: Picture) -> Image:
    """Return a picture, H×W×3 (RGB) or H×W (grey), as Pillow has it."""
    check_picture(picture, grey=True)
    return PillowImage.fromarray(picture)


def png(picture: Picture, *, fast: bool = False) -> bytes:
    """Compress a picture as PNG: the bytes of a file. Where it is fast, the file is a little larger."""
    file = io.BytesIO()
    as_image(picture).save(file, format="PNG", **({"compress_level": 1} if fast else {}))
    return file.getvalue()


def save_png(path: PathLike, picture: Picture) -> None:
    """Write a picture as PNG, completely or not at all.

    Parameters
    ----------
    path
        The file, whose suffix is ``.png``; its folder must exist.
    picture
        uint8, H×W×3 (RGB) or H×W (grey).

    Raises
    ------
    InputError
        If the array is no picture, the suffix is another, or the file cannot be written.
    """
    if Path(path).suffix.lower() != ".png":
        raise InputError(f"{path}: this picture is written as PNG; name it so, with the suffix .png")
    save_picture(path, picture)


def save_picture(path: PathLike, picture: Picture) -> None:
    """Write a picture in the format that the file's suffix names, completely or not at all.

    Parameters
    ----------
    path
        The file; its folder must exist. Its suffix is one of ``.png``, ``.jpg``, ``.jpeg``, ``.webp``.
    picture
        uint8, H×W×3 (RGB) or H×W (grey).

    Raises
    ------
    InputError
        If the array is no picture, the suffix is another, or the file cannot be written.
    """
    image, suffix = as_image(picture), Path(path).suffix.lower()
    if suffix not in FORMATS:
        raise InputError(
            f"{path}: pictures are written as {', '.join(FORMATS)}; choose one of these suffixes"
        )
    name, options = FORMATS[suffix]
    with replacing(path) as temporary:
        image.save(temporary, format=name, **options)


def webp(picture: Picture, quality: int, *, lossless: bool = False, effort: int = 4) -> bytes:
    """Compress a picture as WebP.

    Parameters
    ----------
    picture
        uint8, H×W×3 (RGB).
    quality
        0 (small) to 100 (good); without loss it tells nothing.
    lossless
        Whether every pixel is kept as it is.
    effort
        0 (fast) to 6 (small).

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
    options: dict[str, Any] = {"lossless": True} if lossless else {"quality": quality}
    PillowImage.fromarray(picture).save(file, format="WEBP", method=effort, **options)
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
