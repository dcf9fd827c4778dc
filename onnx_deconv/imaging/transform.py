"""Pictures and maps resized, shifted, scaled and rotated."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from onnx_deconv.errors import InputError
from onnx_deconv.imaging.picture import Interpolation, Picture, Size, check_picture, resize


def at_height(picture: Picture, height: int) -> Picture:
    """Resize a picture to a height, keeping its proportions.

    Parameters
    ----------
    picture
        H×W×3, uint8.
    height
        In pixels. Pixels are repeated to enlarge a picture (a few pixels of a reconstruction are
        to be seen as they are) and averaged to reduce it.

    Returns
    -------
    numpy.ndarray
        height×w×3, uint8.

    Raises
    ------
    InputError
        The array is no picture, or the height is not positive.
    """
    check_picture(picture)
    if height < 1:
        raise InputError(f"height is {height}: give at least 1")
    size = height, max(1, round(picture.shape[1] * height / picture.shape[0]))
    interpolation: Interpolation = "nearest" if height > picture.shape[0] else "bilinear"
    return np.array(resize(Image.fromarray(picture), size, interpolation))


def map_resized(values: npt.NDArray[Any], size: Size) -> npt.NDArray[np.float32]:
    """Resize a map of numbers, H×W, linearly to (height, width), float32."""
    return np.array(resize(Image.fromarray(values.astype(np.float32)), size, "bilinear"))


def moved(
    picture: Picture, *, down: float = 0.0, scale: float = 1.0, angle: float = 0.0, fill: int = 128
) -> Picture:
    """Shift a picture down, scale it about its centre, and rotate it about its centre.

    Parameters
    ----------
    picture
        H×W×3, uint8.
    down
        In pixels; negative shifts up.
    scale
        Above 1 enlarges.
    angle
        In degrees, anticlockwise.
    fill
        Grey value, 0..255, of what comes from outside the picture.

    Returns
    -------
    numpy.ndarray
        Of the same size, interpolated linearly.

    Raises
    ------
    InputError
        The array is no picture, or the scale is not positive.
    """
    check_picture(picture)
    if not scale > 0:
        raise InputError(f"scale is {scale}: give a number above 0")
    height, width = picture.shape[:2]
    # Pillow asks for each pixel of the result where it comes from: the way back.
    turn = math.radians(angle)
    # Rounded, lest a quarter turn fall short of a pixel by a rounding error.
    cosine, sine = (round(f(turn), 12) / scale for f in (math.cos, math.sin))
    x, y = width / 2, height / 2
    back = (
        cosine,
        -sine,
        x - cosine * x + sine * (y + down),
        sine,
        cosine,
        y - sine * x - cosine * (y + down),
    )
    image = Image.fromarray(picture).transform(
        (width, height), Image.Transform.AFFINE, back, Image.Resampling.BILINEAR, fillcolor=(fill,) * 3
    )
    return np.array(image)
