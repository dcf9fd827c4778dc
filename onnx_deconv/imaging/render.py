"""Pictures from reconstructions.

A reconstruction is an array of signed numbers at the model's input, C×H×W. A *projection* shows it
as Zeiler & Fergus do: in colour, zero as mid-grey. A *saliency* map is its size alone, H×W, shown
as a *heat map* or as an *overlay* on the photograph.

Brightness is relative to a *scale*: a percentile of the magnitudes ``|x|`` that are **not zero**.
Taken of all magnitudes it would be 0, or saturate the picture, for units of early layers, whose
reconstructions are a few pixels wide. Measured on SqueezeNet 1.1 (the strongest unit of a layer,
conv10: the strongest class; median of eight photographs), 99.5th percentile:

======  ========  =================================  ==================================
layer   non-zero  saturated, percentile of non-zero  saturated, percentile of all
======  ========  =================================  ==================================
conv1   0.02 %    3.7 % (1 of 27)                    all: the percentile is 0
fire2   0.43 %    0.6 %                              all: the percentile is 0
fire3   0.98 %    0.5 %                              51 %
fire6   24 %      0.5 %                              2.1 %
conv10  97 %      0.5 %                              0.5 %
======  ========  =================================  ==================================
"""

import difflib
import functools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from onnx_deconv.errors import InputError
from onnx_deconv.imaging import Channels, Picture, check_picture

Saliency = npt.NDArray[np.float32]
"""H×W, 0..1."""

_MID_GREY = 128
NEGLIGIBLE = 1e-6
"""Of the largest magnitude: below it lies what rounding leaves of a zero in float32."""


def scale_of(reconstruction: npt.NDArray[Any], percentile: float = 99.5) -> float:
    """Measure the magnitude that a projection shows at full brightness.

    Parameters
    ----------
    reconstruction
        C×H×W or H×W, finite.
    percentile
        Of the magnitudes that are not zero, above 0, up to 100.

    Returns
    -------
    float
        The scale; 0.0 for a reconstruction of zeros.

    Raises
    ------
    InputError
        A value is not finite, or the percentile is out of range.
    """
    return _level(np.abs(_checked(reconstruction)), percentile)


def projection(
    reconstruction: npt.NDArray[Any],
    scale: float | None = None,
    percentile: float = 99.5,
    channels: Channels = "RGB",
) -> Picture:
    """Show a reconstruction as pixels: zero is mid-grey (128), ±scale are 255 and 1.

    Parameters
    ----------
    reconstruction
        C×H×W or H×W, finite; shown in grey if it has one channel.
    scale
        What is shown at full brightness; measured by :func:`scale_of` if not given. A
        reconstruction of zeros is flat mid-grey whatever the scale.
    percentile
        For the scale that is measured.
    channels
        What the model's channels are, as in :class:`onnx_deconv.imaging.Preprocess`.

    Returns
    -------
    numpy.ndarray
        H×W×3, uint8, RGB.

    Raises
    ------
    InputError
        A value is not finite, the channels do not fit, or the scale is not a positive number.
    """
    values = _checked(reconstruction)
    colours = _rgb(values, channels)
    if not colours.any():
        return np.full(colours.shape, _MID_GREY, np.uint8)
    scale = _level(np.abs(values), percentile) if scale is None else scale
    if not (scale > 0 and math.isfinite(scale)):
        raise InputError(f"scale is {scale}: give a positive number, or none to have it measured")
    return (_MID_GREY + np.rint(127 * (np.clip(colours, -scale, scale) / scale))).astype(np.uint8)


def saliency(
    reconstruction: npt.NDArray[Any], percentile: float = 99, scale: float | None = None
) -> Saliency:
    """Measure how much of a reconstruction lies at each pixel.

    Parameters
    ----------
    reconstruction
        C×H×W with any number of channels, or H×W; finite.
    percentile
        Of the magnitudes that are not zero: what counts as 1, and what lies above it does too.
    scale
        What counts as 1 in its place.

    Returns
    -------
    numpy.ndarray
        H×W, float32, 0..1: the largest magnitude of any channel; all 0 where the reconstruction is.

    Raises
    ------
    InputError
        A value is not finite, or the percentile is out of range.
    """
    magnitude = np.abs(_checked(reconstruction)).max(axis=0)
    level = _level(magnitude, percentile) if scale is None else scale
    if not level:
        return np.zeros(magnitude.shape, np.float32)
    relative: Saliency = (np.minimum(magnitude, level) / level).astype(np.float32)
    return relative


def heat_map(saliency: npt.NDArray[Any], colormap: str = "inferno") -> Picture:
    """Colour a saliency map.

    Parameters
    ----------
    saliency
        H×W, 0..1.
    colormap
        A name from cmap's catalogue; the default is perceptually uniform.

    Returns
    -------
    numpy.ndarray
        H×W×3, uint8, RGB.

    Raises
    ------
    InputError
        No colour map has that name (close ones are offered), or the map is not H×W within 0..1.
    """
    _check_saliency(saliency)
    heat: Picture = _colours(colormap)[np.rint(np.clip(saliency, 0, 1) * 255).astype(np.uint8)]
    return heat


def overlay(
    photo: Picture,
    saliency: npt.NDArray[Any],
    colormap: str = "inferno",
    opacity: float = 0.8,
) -> Picture:
    """Lay a heat map over the photograph, the more opaque the more salient.

    Parameters
    ----------
    photo
        H×W×3, uint8, RGB.
    saliency
        H×W, 0..1, on the photograph's own grid (:meth:`onnx_deconv.imaging.Geometry.to_photo`).
    colormap
        As in :func:`heat_map`.
    opacity
        Of the heat map where the saliency is 1, 0..1; where it is 0 the photograph is unchanged.

    Returns
    -------
    numpy.ndarray
        H×W×3, uint8, RGB.

    Raises
    ------
    InputError
        The sizes differ, the opacity is out of range, or an argument is none that it should be.
    """
    check_picture(photo)
    if saliency.shape != photo.shape[:2]:
        raise InputError(
            f"a saliency map of {saliency.shape} does not fit a photograph of {photo.shape[:2]}: "
            "put it on the photograph with Geometry.to_photo"
        )
    if not 0 <= opacity <= 1:
        raise InputError(f"opacity is {opacity}: give a number from 0 to 1")
    heat = heat_map(saliency, colormap)
    alpha = np.float32(opacity) * np.clip(saliency, 0, 1).astype(np.float32)[..., None]
    blend: Picture = np.rint(photo + alpha * (heat - photo.astype(np.float32))).astype(np.uint8)
    return blend


def outlined(picture: Picture, box: Sequence[int], colour: Sequence[int] = (255, 220, 0)) -> Picture:
    """Draw the outline of a box around the pixels that it holds.

    Parameters
    ----------
    picture
        H×W×3, uint8, RGB.
    box
        (y0, x0, y1, x1) in pixels, half open.
    colour
        RGB of the line, two pixels wide, between two black ones.

    Returns
    -------
    numpy.ndarray
        A copy of the same size; where the box ends at the picture's edge the line lies inside.

    Raises
    ------
    InputError
        The array is no picture.
    """
    check_picture(picture)
    drawn = picture.copy()
    (height, width), (y0, x0, y1, x1) = picture.shape[:2], box
    for distance, ink in ((4, (0, 0, 0)), (3, colour), (2, colour), (1, (0, 0, 0))):
        top, left = max(y0 - distance, 4 - distance), max(x0 - distance, 4 - distance)
        bottom, right = min(y1 + distance, height - 4 + distance), min(x1 + distance, width - 4 + distance)
        for line in (
            np.s_[top, left:right],
            np.s_[bottom - 1, left:right],
            np.s_[top:bottom, left],
            np.s_[top:bottom, right - 1],
        ):
            drawn[line] = ink
    return drawn


def _checked(reconstruction: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Return a finite reconstruction C×H×W."""
    values = np.asarray(reconstruction, np.float64)
    if values.ndim == len("HW"):
        values = values[None]
    if values.ndim != len("CHW") or not values.size:
        raise InputError(f"a reconstruction of shape {values.shape} is no image: give C×H×W")
    if not np.isfinite(values).all():
        count = int((~np.isfinite(values)).sum())
        raise InputError(f"{count} values of the reconstruction are not finite: explain in float32")
    return values


def _level(magnitude: npt.NDArray[np.float64], percentile: float) -> float:
    """Percentile of the magnitudes that are more than rounding; 0.0 if there are none."""
    if not 0 < percentile <= 100:  # noqa: PLR2004 - per cent
        raise InputError(f"percentile is {percentile}: give a number above 0, up to 100")
    present = magnitude[magnitude > magnitude.max() * NEGLIGIBLE]
    return float(np.percentile(present, percentile)) if present.size else 0.0


def _rgb(values: npt.NDArray[np.float64], channels: str) -> npt.NDArray[np.float64]:
    """C×H×W in the model's channels to H×W×3 in RGB; one channel is grey."""
    if len(values) == 1:
        return np.repeat(values.transpose(1, 2, 0), 3, axis=-1)
    if len(values) != len(channels):
        raise InputError(
            f"a reconstruction of {len(values)} channels is no picture in {channels}: "
            "show its saliency, or save the array"
        )
    return np.stack([values[channels.index(colour)] for colour in "RGB"], axis=-1)


def _check_saliency(values: npt.NDArray[Any]) -> None:
    slack = 1e-3  # interpolation may leave the range by a rounding
    if values.ndim != len("HW") or not ((values >= -slack) & (values <= 1 + slack)).all():
        raise InputError("a saliency map is H×W with values from 0 to 1: make it with saliency()")


@functools.cache
def _colours(name: str) -> Picture:
    """256×3, uint8: the colour map from 0 to 1."""
    import cmap  # noqa: PLC0415 - 30 ms that only a coloured picture costs

    try:
        colormap = cmap.Colormap(name)
    except ValueError as error:
        close = difflib.get_close_matches(name, cmap.Catalog(), n=3)
        hint = f"did you mean {', '.join(close)}?" if close else "try inferno, viridis or turbo"
        raise InputError(f"no colour map is named {name!r}: {hint}") from error
    colours: Picture = np.rint(colormap.lut(256)[:, :3] * 255).astype(np.uint8)
    return colours
