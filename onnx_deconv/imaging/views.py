"""Views of a reconstruction: the pictures that are drawn of it, alone or with its photograph."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from onnx_deconv.errors import InputError
from onnx_deconv.imaging.canvas import banner, outlined
from onnx_deconv.imaging.channels import InputAxes, channels_first
from onnx_deconv.imaging.colour import SALIENCY_PERCENTILE, heat_map, projection, saliency, scale_of
from onnx_deconv.imaging.geometry import Geometry
from onnx_deconv.imaging.lattice import magnitude_of
from onnx_deconv.imaging.layout import SheetLayout
from onnx_deconv.imaging.montage import laid_out
from onnx_deconv.imaging.photo import Photo
from onnx_deconv.imaging.picture import Picture, Size, check_picture
from onnx_deconv.imaging.transform import at_height

VIEWS = ("projection", "heat", "overlay", "side-by-side")
"""``projection``: the reconstruction in the model's own pixels, zero mid-grey. ``heat``, ``overlay``: its
saliency, alone and laid over the photograph, both of the photograph's size. ``side-by-side``: all of them
on one sheet, cropped to what the model sees; of a single unit also what is inside its receptive field."""

ON_PHOTO = "projection-on-photo"
"""The projection on the photograph's own grid."""

CAPTIONS = ("photograph", "projection", "saliency", "overlay")
"""Captions of the side-by-side sheet."""

_INSIDE = ("receptive field", "projection inside it")
"""Captions of what that sheet shows enlarged of a single unit."""
_TALLEST = 720
"""Pixels: larger pictures are reduced to this height on a side-by-side sheet."""
_WIDE, _VERY_WIDE = 1.5, 3
"""Width over height of pictures that stand two in a row, or one, instead of four."""


class Scales(NamedTuple):
    """The magnitudes shown at full brightness; pictures that are compared share them."""

    projection: float
    saliency: float

    @classmethod
    def largest(cls, several: Sequence["Scales"]) -> "Scales":
        """Return the scales at which none of several pictures is brighter than its own would be."""
        return cls(max(each.projection for each in several), max(each.saliency for each in several))


class ViewsByName(ABC):
    """The views of one reconstruction; each is drawn when it is asked for."""

    _badge: str | None

    @abstractmethod
    def _makers(self) -> Mapping[str, Callable[[], Picture]]:
        """Return what draws each view but the sheet."""

    @abstractmethod
    def sheet(self) -> SheetLayout:
        """Lay the side-by-side view out."""

    def __getitem__(self, view: str) -> Picture:
        """Draw one view: H×W×3, uint8, RGB."""
        if view == "side-by-side":
            return self.sheet().picture()
        makers = self._makers()
        if view not in makers:
            known = [*VIEWS, *(name for name in makers if name not in VIEWS)]
            raise InputError(f"no view is named {view!r}: choose one of {', '.join(known)}")
        return self._marked(makers[view]())

    def _marked(self, picture: Picture) -> Picture:
        return picture if self._badge is None else banner(picture, self._badge)


class Views(ViewsByName):
    """The views of one reconstruction, by name; each is drawn when it is asked for.

    Parameters
    ----------
    photo
        The photograph that was explained.
    reconstruction
        As the model takes images (``axes.layout``), finite.
    axes
        The order of the axes and channels of the model's input: the preprocessing, for instance.
    captions
        One for each picture of the side-by-side sheet: photograph, projection, saliency, overlay.
    box
        A box to outline in that sheet's photograph, and to show enlarged, (y0, x0, y1, x1) in pixels of the
        model's input: a unit's receptive field, for instance.
    badge
        A text to write into each picture, at its bottom.
    scales
        For pictures that are compared; by default the reconstruction's own.
    bands
        The channels that the projection shows as the axes' channels; by default all, in their order.

    Attributes
    ----------
    lattice
        The lattice that heat map and overlay are averaged over, else ``None``.
    scales
        The magnitudes shown at full brightness.

    Raises
    ------
    InputError
        If the reconstruction has values that are not finite.
    """

    def __init__(
        self, photo: Photo, reconstruction: npt.NDArray[Any], axes: InputAxes,
        captions: Sequence[str] = CAPTIONS, box: Sequence[int] | None = None, badge: str | None = None,
        scales: Scales | None = None, bands: Sequence[int] | None = None,
    ) -> None:  # fmt: skip
        self.photo, self._axes, self._captions, self._badge = photo, axes, captions, badge
        self._box = None if box is None or box[2] <= box[0] or box[3] <= box[1] else box
        self._values = channels_first(reconstruction, axes.layout)
        magnitude, self.lattice = magnitude_of(self._values)
        self.scales = scales or Scales(scale_of(self._values), scale_of(magnitude, SALIENCY_PERCENTILE))
        self._salient = saliency(magnitude, scale=self.scales.saliency)
        self._shown = self._values if bands is None else self._values[list(bands)]

    def _makers(self) -> Mapping[str, Callable[[], Picture]]:
        """Those of :data:`VIEWS`, and :data:`ON_PHOTO`."""
        geometry = self.photo.geometry
        return {
            "projection": lambda: self._projected(self._shown),
            "heat": lambda: heat_map(geometry.to_photo(self._salient)),
            "overlay": lambda: overlay(self.photo.picture, geometry.to_photo(self._salient)),
            ON_PHOTO: lambda: self._projected(np.stack([geometry.to_photo(each) for each in self._shown])),
        }

    def sheet(self) -> SheetLayout:
        """Lay the side-by-side view out, enlarged by a whole number: a model's pixels stay equal squares."""
        view, factor = self.photo.enlarged_view()
        (height, width), size = view.shape[:2], self.photo.geometry.size
        to_view = Geometry((height, width), size, size, (0, 0))
        projected = at_height(self._projected(self._shown), height)
        box = None if self._box is None else [factor * edge for edge in self._box]
        pictures = [
            view if box is None else outlined(view, _filled(box, (height, width))),
            *map(
                self._marked,
                (
                    projected,
                    at_height(heat_map(self._salient), height),
                    overlay(view, to_view.to_photo(self._salient)),
                ),
            ),
        ]
        pictures = [at_height(picture, min(height, _TALLEST)) for picture in pictures]
        captions = [*self._captions]
        if self.lattice is not None:
            captions[2] += f" (averaged over a lattice of {self.lattice.period} pixels)"
        if box is not None:
            y0, x0, y1, x1 = box
            room = (pictures[0].shape[0], pictures[0].shape[1])
            pictures += [_fitted(whole[y0:y1, x0:x1], room) for whole in (view, projected)]
            captions += _INSIDE
        columns = _columns(width / height)
        return laid_out(pictures, columns if box is None else min(columns, 3), captions, lines=2)

    def _projected(self, values: npt.NDArray[Any]) -> Picture:
        return projection(values, self.scales.projection or None, channels=self._axes.channels)


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


def _filled(box: Sequence[int], size: Size) -> npt.NDArray[np.bool_]:
    """Return the mask of a box's pixels."""
    y0, x0, y1, x1 = box
    mask = np.zeros(size, np.bool_)
    mask[y0:y1, x0:x1] = True
    return mask


def _fitted(picture: Picture, room: Size) -> Picture:
    """Enlarge or reduce a picture so that it just fits into a room, keeping its proportions."""
    ratio = min(room[0] / picture.shape[0], room[1] / picture.shape[1])
    return at_height(picture, max(1, int(ratio * picture.shape[0])))


def _columns(ratio: float) -> int:
    """Choose how many of the four pictures stand in a row, given their width over their height."""
    return 4 if ratio <= _WIDE else 2 if ratio <= _VERY_WIDE else 1
