"""Views of a reconstruction: the pictures that are drawn of it, alone or with its photograph."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from onnx_deconv.errors import InputError
from onnx_deconv.imaging.canvas import outlined
from onnx_deconv.imaging.channels import channels_first
from onnx_deconv.imaging.colour import Saliency, heat_map, projection, saliency
from onnx_deconv.imaging.geometry import Geometry
from onnx_deconv.imaging.montage import montage
from onnx_deconv.imaging.photo import Photo
from onnx_deconv.imaging.picture import Picture, check_picture
from onnx_deconv.imaging.preprocess import Preprocess
from onnx_deconv.imaging.transform import at_height

VIEWS = ("projection", "heat", "overlay", "side-by-side")
"""``projection``: the reconstruction in the model's own pixels, zero mid-grey. ``heat``, ``overlay``: its
saliency, alone and laid over the photograph, both of the photograph's size. ``side-by-side``: all of them
on one sheet, cropped to what the model sees."""

CAPTIONS = ("photograph", "projection", "saliency", "overlay")
"""Captions of the side-by-side sheet."""

_TALLEST = 720
"""Pixels: larger pictures are reduced to this height on a side-by-side sheet."""
_WIDE, _VERY_WIDE = 1.5, 3
"""Width over height of pictures that stand two in a row, or one, instead of four."""


def draw(
    photo: Photo,
    reconstruction: npt.NDArray[Any],
    preprocess: Preprocess,
    views: Sequence[str] = VIEWS,
    captions: Sequence[str] = CAPTIONS,
    box: Sequence[int] | None = None,
) -> dict[str, Picture]:
    """Draw views of one reconstruction.

    Parameters
    ----------
    photo
        The photograph that was explained.
    reconstruction
        As the model takes images (``preprocess.layout``), finite.
    preprocess
        How the photograph became the model's input.
    views
        Some of :data:`VIEWS`.
    captions
        One for each picture of the side-by-side sheet: photograph, projection, saliency, overlay.
    box
        A box to outline in that sheet's photograph, (y0, x0, y1, x1) in pixels of the model's input: a
        unit's receptive field, for instance.

    Returns
    -------
    dict
        One picture per view, H×W×3, uint8, RGB.

    Raises
    ------
    InputError
        If the reconstruction has values that are not finite.
    """
    values = channels_first(reconstruction, preprocess.layout)
    salient = saliency(values)
    projected = projection(values, channels=preprocess.channels)
    makers = {
        "projection": lambda: projected,
        "heat": lambda: heat_map(photo.geometry.to_photo(salient)),
        "overlay": lambda: overlay(photo.picture, photo.geometry.to_photo(salient)),
        "side-by-side": lambda: _side_by_side(photo, projected, salient, captions, box),
    }
    return {view: makers[view]() for view in views}


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
        As in :func:`onnx_deconv.imaging.heat_map`.
    opacity
        The heat map's opacity, 0..1, where the saliency is 1; where it is 0 the photograph is unchanged.

    Returns
    -------
    numpy.ndarray
        H×W×3, uint8, RGB.

    Raises
    ------
    InputError
        If the sizes differ, the opacity is out of range, or an argument is not what it should be.
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


def _side_by_side(
    photo: Photo,
    projected: Picture,
    salient: Saliency,
    captions: Sequence[str],
    box: Sequence[int] | None,
) -> Picture:
    """Lay the four pictures out, enlarged by a whole number: pixels of the model stay square and equal."""
    view, factor = photo.enlarged_view()
    height, width = view.shape[:2]
    size = photo.geometry.size
    to_view = Geometry((height, width), size, size, (0, 0))
    pictures = [
        at_height(picture, min(height, _TALLEST))
        for picture in (
            view if box is None else outlined(view, [factor * edge for edge in box]),
            at_height(projected, height),
            at_height(heat_map(salient), height),
            overlay(view, to_view.to_photo(salient)),
        )
    ]
    return montage(pictures, _columns(width / height), captions)


def _columns(ratio: float) -> int:
    """Choose how many of the four pictures stand in a row, given their width over their height."""
    return 4 if ratio <= _WIDE else 2 if ratio <= _VERY_WIDE else 1
