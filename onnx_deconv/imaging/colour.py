"""From numbers to colours: reconstructions as projections, saliency maps and heat maps.

A *reconstruction* is an array of signed numbers, C×H×W, one for each channel and pixel of the model's
input. A *projection* shows it as Zeiler & Fergus do: in colour, with zero as mid-grey. A *saliency map*
is its magnitude at each pixel, H×W, which a *heat map* shows in false colour.

Brightness is relative to a *scale*: a percentile of the magnitudes ``|x|`` that are **not zero**.
A percentile of all magnitudes would be 0, or would saturate the picture, for units of early layers, whose
reconstructions are only a few pixels wide. Measured on SqueezeNet 1.1 (the strongest unit of a layer,
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
from typing import Any

import numpy as np
import numpy.typing as npt

from onnx_deconv.errors import InputError
from onnx_deconv.imaging.channels import Channels
from onnx_deconv.imaging.picture import Picture

Saliency = npt.NDArray[np.float32]
"""A saliency map: H×W, float32, 0..1."""

PROJECTION_PERCENTILE, SALIENCY_PERCENTILE = 99.5, 99.0
"""The percentile of the non-zero magnitudes that is shown at full brightness, by default."""

NEGLIGIBLE = 1e-6
"""Magnitudes below this fraction of the largest are rounding errors of float32, and count as zero."""

_MID_GREY = 128


def scale_of(reconstruction: npt.NDArray[Any], percentile: float = PROJECTION_PERCENTILE) -> float:
    """Measure the magnitude that a projection shows at full brightness.

    Parameters
    ----------
    reconstruction
        C×H×W or H×W, finite.
    percentile
        Above 0, up to 100; taken of the magnitudes that are not zero.

    Returns
    -------
    float
        The scale; 0.0 for a reconstruction of zeros.

    Raises
    ------
    InputError
        If a value is not finite, or the percentile is out of range.
    """
    return _level(np.abs(_checked(reconstruction)), percentile)


def projection(
    reconstruction: npt.NDArray[Any],
    scale: float | None = None,
    percentile: float = PROJECTION_PERCENTILE,
    channels: Channels = "RGB",
) -> Picture:
    """Show a reconstruction as pixels: zero is mid-grey (128), ±scale are 255 and 1.

    Parameters
    ----------
    reconstruction
        C×H×W or H×W, finite; shown in grey if it has one channel.
    scale
        The magnitude shown at full brightness; by default measured by :func:`scale_of`. A
        reconstruction of zeros is flat mid-grey at any scale.
    percentile
        For :func:`scale_of`, where no scale is given.
    channels
        The order of the model's channels, as in :class:`onnx_deconv.imaging.Preprocess`.

    Returns
    -------
    numpy.ndarray
        H×W×3, uint8, RGB.

    Raises
    ------
    InputError
        If a value is not finite, the channels do not fit, or the scale is not a positive number.
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
    reconstruction: npt.NDArray[Any],
    percentile: float = SALIENCY_PERCENTILE,
    scale: float | None = None,
) -> Saliency:
    """Measure the magnitude of a reconstruction at each pixel, relative to a scale.

    Parameters
    ----------
    reconstruction
        C×H×W with any number of channels, or H×W; finite.
    percentile
        Sets the scale where none is given: a percentile of the magnitudes that are not zero.
    scale
        The magnitude that counts as 1; larger ones do too.

    Returns
    -------
    numpy.ndarray
        H×W, float32, 0..1: the largest magnitude of any channel; all 0 where the reconstruction is.

    Raises
    ------
    InputError
        If a value is not finite, or the percentile is out of range.
    """
    magnitude = np.abs(_checked(reconstruction)).max(axis=0)
    level = _level(magnitude, percentile) if scale is None else scale
    return relative_to(level, magnitude).astype(np.float32)


def relative_to(level: float, magnitude: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return magnitudes as shares of a level, 0..1; all are 0 where the level is."""
    return np.minimum(magnitude, level) / level if level else np.zeros_like(magnitude)


def heat_map(saliency: npt.NDArray[Any], colormap: str = "inferno") -> Picture:
    """Show a saliency map in false colour.

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
        If no colour map has that name (the message offers close ones), or the map is not H×W within
        0..1.
    """
    _check_saliency(saliency)
    heat: Picture = _colours(colormap)[np.rint(np.clip(saliency, 0, 1) * 255).astype(np.uint8)]
    return heat


def _checked(reconstruction: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Return a finite reconstruction C×H×W."""
    values = np.asarray(reconstruction, np.float64)
    if values.ndim == len("HW"):
        values = values[None]
    if values.ndim != len("CHW") or not values.size:
        raise InputError(f"a reconstruction of shape {values.shape} is no image: give C×H×W")
    if not np.isfinite(values).all():
        count = int((~np.isfinite(values)).sum())
        raise InputError(f"{count} values of the reconstruction are not finite")
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
