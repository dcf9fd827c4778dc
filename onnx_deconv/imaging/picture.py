"""Pictures and their sizes: types, checks, and resizing."""

import os
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from onnx_deconv.errors import InputError

Picture = npt.NDArray[np.uint8]
"""A picture: H×W×3, uint8, RGB, 0..255."""
PathLike = str | os.PathLike[str]
Size = tuple[int, int]
"""(height, width)"""
Interpolation = Literal["nearest", "bilinear", "bicubic"]
_FILTERS: Mapping[str, Image.Resampling] = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}


def resize(picture: Image.Image, size: Size, interpolation: Interpolation) -> Image.Image:
    """Resize to (height, width), with antialiasing."""
    return picture.resize((size[1], size[0]), _FILTERS[interpolation])


def written(size: Sequence[int]) -> str:
    """Write a size for a message: 224×320."""
    return "×".join(map(str, size))


def check_size(what: str, size: Sequence[int], wanted: Size, hint: str = "give one of that size") -> None:
    """Raise an InputError unless a size is the one wanted."""
    if tuple(size) != tuple(wanted):
        raise InputError(f"the {what} is {written(size)} but {written(wanted)} is expected: {hint}")


def check_picture(picture: npt.NDArray[Any], *, grey: bool = False, fourth: bool = False) -> None:
    """Check that an array is a picture.

    Parameters
    ----------
    picture
        An array that should be H×W×3, uint8, with at least one pixel.
    grey
        Whether H×W is allowed too.
    fourth
        Whether H×W×4 is allowed too.

    Raises
    ------
    InputError
        If it is not.
    """
    axes = [(3,), *[()] * grey, *[(4,)] * fourth]
    if picture.dtype != np.uint8 or picture.ndim < len("HW") or picture.shape[2:] not in axes:
        raise InputError(
            f"a picture is a uint8 array H×W×3, this is {picture.dtype} {written(picture.shape)}: "
            "read it with read_image"
        )
    if not picture.size:
        raise InputError("the picture has no pixels: give another")
