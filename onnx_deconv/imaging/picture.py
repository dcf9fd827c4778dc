"""What a picture and its size are, and how Pillow resizes one."""

import os
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from onnx_deconv.errors import InputError

Picture = npt.NDArray[np.uint8]
"""H×W×3, RGB, 0..255."""
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


def by(size: Sequence[int]) -> str:
    """Write a size as messages do: 224×320."""
    return "×".join(map(str, size))


def check_size(what: str, size: Sequence[int], wanted: Size, way_out: str = "give one of that size") -> None:
    """Refuse what has another size than the one wanted."""
    if tuple(size) != tuple(wanted):
        raise InputError(f"the {what} is {by(size)} but {by(wanted)} is expected: {way_out}")


def check_picture(picture: npt.NDArray[Any], *, grey: bool = False) -> None:
    """Make sure that an array is a picture.

    Parameters
    ----------
    picture
        What should be H×W×3, uint8, with at least one pixel.
    grey
        Whether H×W will do too.

    Raises
    ------
    InputError
        It is not.
    """
    axes = ((3,), ()) if grey else ((3,),)
    if picture.dtype != np.uint8 or picture.ndim < len("HW") or picture.shape[2:] not in axes:
        raise InputError(
            f"a picture is a uint8 array H×W×3, this is {picture.dtype} {by(picture.shape)}: "
            "read it with read_image"
        )
    if not picture.size:
        raise InputError("the picture has no pixels: give another")
