"""Views of a reconstruction of a volume: maximum projections along its axes, and a montage of its slices."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from onnx_deconv.imaging.colour import SALIENCY_PERCENTILE, heat_map, projection, relative_to, scale_of
from onnx_deconv.imaging.layout import SheetLayout
from onnx_deconv.imaging.montage import joined, laid_out
from onnx_deconv.imaging.picture import Picture
from onnx_deconv.imaging.views import Scales, ViewsByName, overlay

_SIDE = 192
"""Pixels: volumes are enlarged by a whole number until their longest side has about as many."""
_MOST_SLICES, _COLUMNS = 16, 4
_MARGIN = 4


class VolumeViews(ViewsByName):
    """The views of the reconstruction of a volume, by name.

    ``projection``: the strongest value along each of the three axes, in grey, zero mid-grey. ``heat``: the
    strongest saliency along them. ``overlay``: slices, evenly spaced, the most salient one among them, with
    their saliency laid over. ``side-by-side``: all of them.

    Parameters
    ----------
    volume, reconstruction
        C×D×H×W, finite.
    captions, badge, scales
        As for :class:`~onnx_deconv.imaging.Views`.

    Attributes
    ----------
    scales
        The magnitudes shown at full brightness.
    slices
        The slices of the montage.
    lattice
        ``None``: nothing is averaged.
    """

    lattice = None

    def __init__(
        self, volume: npt.NDArray[Any], reconstruction: npt.NDArray[Any], captions: Sequence[str],
        badge: str | None = None, scales: Scales | None = None,
    ) -> None:  # fmt: skip
        self._captions, self._badge = captions, badge
        self._grey = _as_grey(np.asarray(volume, np.float64).mean(axis=0))
        values = np.asarray(reconstruction, np.float64)
        strongest = np.abs(values).argmax(axis=0)[None]
        self._values = np.take_along_axis(values, strongest, axis=0)[0]
        magnitude = np.abs(self._values)
        flat = magnitude.reshape(len(magnitude), -1)
        own = Scales(scale_of(values.reshape(len(values), len(magnitude), -1)),
                     scale_of(flat, SALIENCY_PERCENTILE))  # fmt: skip
        self.scales = scales or own
        self._salient = relative_to(self.scales.saliency, magnitude).astype(np.float32)
        self.slices = _spread(len(flat), int(flat.max(axis=1).argmax()))
        self._factor = max(1, round(_SIDE / max(self._grey.shape)))

    def _makers(self) -> Mapping[str, Callable[[], Picture]]:
        return {
            "projection": lambda: self._in_a_row(self._projected(axis) for axis in range(3)),
            "heat": lambda: self._in_a_row(heat_map(self._salient.max(axis=axis)) for axis in range(3)),
            "overlay": self._montage,
        }

    def sheet(self) -> SheetLayout:
        """Lay out the maxima of the volume, the reconstruction and the saliency, and the slices."""
        whole = self._in_a_row(_coloured(self._grey.max(axis=axis)) for axis in range(3))
        first, second, third, last = self._captions
        along = "along depth, height, width"
        captions = [
            f"{first}, maxima {along}",
            second,
            third,
            f"{last}, slices {', '.join(map(str, self.slices))}",
        ]
        pictures = [whole, *(self[view] for view in ("projection", "heat", "overlay"))]
        return laid_out(pictures, 1, captions, lines=2)

    def _projected(self, axis: int) -> Picture:
        where = np.expand_dims(np.abs(self._values).argmax(axis=axis), axis)
        flat = np.take_along_axis(self._values, where, axis=axis).squeeze(axis)
        return projection(flat, self.scales.projection or None)

    def _montage(self) -> Picture:
        cells = [self._enlarged(overlay(_coloured(self._grey[k]), self._salient[k])) for k in self.slices]
        rows = [cells[k : k + _COLUMNS] for k in range(0, len(cells), _COLUMNS)]
        return joined([joined(row, 1, _MARGIN) for row in rows], 0)

    def _in_a_row(self, pictures: Any) -> Picture:
        """Put pictures of different heights side by side, on white."""
        return joined([self._enlarged(picture) for picture in pictures], 1, _MARGIN)

    def _enlarged(self, picture: Picture) -> Picture:
        return picture.repeat(self._factor, axis=0).repeat(self._factor, axis=1)


def _spread(count: int, strongest: int) -> list[int]:
    """Choose slices evenly, and the strongest for the one that is nearest to it."""
    if count <= _MOST_SLICES:
        return list(range(count))
    chosen = np.rint(np.linspace(0, count - 1, _MOST_SLICES)).astype(int).tolist()
    chosen[int(np.argmin([abs(k - strongest) for k in chosen]))] = strongest
    return sorted(chosen)


def _as_grey(volume: npt.NDArray[np.float64]) -> npt.NDArray[np.uint8]:
    low, high = float(volume.min()), float(volume.max())
    grey: npt.NDArray[np.uint8] = np.rint((volume - low) * 255 / ((high - low) or 1.0)).astype(np.uint8)
    return grey


def _coloured(grey: npt.NDArray[np.uint8]) -> Picture:
    return np.repeat(grey[..., None], 3, axis=-1)
