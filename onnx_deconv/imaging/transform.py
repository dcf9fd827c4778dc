"""Pictures and maps resized, shifted, scaled, rotated and compressed with loss."""

import io
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
        In pixels. Pixels are repeated to enlarge a picture, so that the few pixels of a reconstruction
        stay visible, and averaged to reduce it.

    Returns
    -------
    numpy.ndarray
        height×w×3, uint8.

    Raises
    ------
    InputError
        If the array is no picture, or the height is not positive.
    """
    check_picture(picture)
    if height < 1:
        raise InputError(f"height is {height}: give at least 1")
    size = height, max(1, round(picture.shape[1] * height / picture.shape[0]))
    interpolation: Interpolation = "nearest" if height > picture.shape[0] else "bilinear"
    return np.array(resize(Image.fromarray(picture), size, interpolation))


def at_most(picture: Picture, side: int) -> Picture:
    """Reduce a picture so that its longer side has at most so many pixels; a smaller one stays as it is."""
    ratio = side / max(picture.shape[:2])
    if ratio >= 1:
        return picture
    height, width = (max(1, round(ratio * each)) for each in picture.shape[:2])
    return np.array(resize(Image.fromarray(picture), (height, width), "bilinear"))


def map_resized(values: npt.NDArray[Any], size: Size) -> npt.NDArray[np.float32]:
    """Resize a map of numbers, H×W, linearly to (height, width), float32."""
    return np.array(resize(Image.fromarray(values.astype(np.float32)), size, "bilinear"))


def moved(
    picture: Picture, *, down: float = 0.0, scale: float = 1.0, angle: float = 0.0, fill: int = 128
) -> Picture:
    """Shift a picture down, then scale and rotate it about its centre.

    Parameters
    ----------
    picture
        H×W×3, uint8.
    down
        Pixels; negative shifts up.
    scale
        A factor; above 1 enlarges.
    angle
        Degrees, anticlockwise.
    fill
        Grey value, 0..255, of pixels that come from outside the picture.

    Returns
    -------
    numpy.ndarray
        H×W×3, uint8, of the same size, interpolated linearly.

    Raises
    ------
    InputError
        If the array is no picture, or the scale is not positive.
    """
    check_picture(picture)
    if not scale > 0:
        raise InputError(f"scale is {scale}: give a number above 0")
    height, width = picture.shape[:2]
    # Pillow wants the inverse: from each pixel of the result to where it comes from.
    turn = math.radians(angle)
    # Rounded, so that rounding errors do not cost a pixel at quarter turns.
    cosine, sine = (round(f(turn), 12) / scale for f in (math.cos, math.sin))
    x, y = width / 2, height / 2
    inverse = (
        cosine,
        -sine,
        x - cosine * x + sine * (y + down),
        sine,
        cosine,
        y - sine * x - cosine * (y + down),
    )
    image = Image.fromarray(picture).transform(
        (width, height), Image.Transform.AFFINE, inverse, Image.Resampling.BILINEAR, fillcolor=(fill,) * 3
    )
    return np.array(image)


def jpeg_compressed(picture: Picture, quality: int) -> Picture:
    """Return what is left of a picture that was saved as JPEG.

    Parameters
    ----------
    picture
        H×W×3, uint8, RGB.
    quality
        1 (small) to 95 (good), as in Pillow.

    Returns
    -------
    numpy.ndarray
        Of the same size.

    Raises
    ------
    InputError
        The array is no picture.
    """
    check_picture(picture)
    file = io.BytesIO()
    Image.fromarray(picture).save(file, format="JPEG", quality=quality)
    with Image.open(file) as compressed:
        return np.array(compressed)
