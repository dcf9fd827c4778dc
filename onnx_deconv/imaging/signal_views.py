"""Views of a reconstruction of a signal: lines and bands, one lane for each channel."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from onnx_deconv.imaging.colour import SALIENCY_PERCENTILE, heat_map, relative_to, scale_of
from onnx_deconv.imaging.layout import SheetLayout
from onnx_deconv.imaging.montage import laid_out
from onnx_deconv.imaging.picture import Picture
from onnx_deconv.imaging.views import Scales, ViewsByName

_WIDTH, _HEIGHT, _LEAST_LANE, _BAND = 960, 240, 28, 24
"""Pixels: of a picture, of all lanes together and of each at least, and of the band below them."""
_MOST_LANES = 16
_MARGIN = 3
_PALE, _STRONG = np.array([176, 176, 184.0]), np.array([200, 16, 32.0])
"""The colours of a line where its saliency is 0 and 1."""


class SignalViews(ViewsByName):
    """The views of the reconstruction of a signal, by name.

    ``projection``: the reconstruction as a line around zero. ``heat``: its saliency as a band. ``overlay``:
    the signal as a line that is red where it is salient, and the band. ``side-by-side``: all, one
    below the other. Of many channels those with the largest saliency are drawn.

    Parameters
    ----------
    signal, reconstruction
        C×L, finite.
    captions, badge, scales
        As for :class:`~onnx_deconv.imaging.Views`.

    Attributes
    ----------
    scales
        The magnitudes shown at full height and at full strength.
    lanes
        The channels that are drawn.
    lattice
        ``None``: nothing is averaged.
    """

    lattice = None

    def __init__(
        self, signal: npt.NDArray[Any], reconstruction: npt.NDArray[Any], captions: Sequence[str],
        badge: str | None = None, scales: Scales | None = None,
    ) -> None:  # fmt: skip
        self._signal = np.asarray(signal, np.float64)
        self._values = np.asarray(reconstruction, np.float64)
        self._captions, self._badge = captions, badge
        magnitude = np.abs(self._values)
        self.scales = scales or Scales(scale_of(self._values), scale_of(magnitude, SALIENCY_PERCENTILE))
        self._salient = relative_to(self.scales.saliency, magnitude)
        strongest = np.argsort(-magnitude.max(axis=1), kind="stable")[:_MOST_LANES]
        self.lanes: list[int] = sorted(strongest.tolist())
        self._lane_height = max(_LEAST_LANE, _HEIGHT // len(self.lanes))

    def _makers(self) -> Mapping[str, Callable[[], Picture]]:
        return {
            "projection": self._projection,
            "heat": lambda: self._band(_BAND * 4),
            "overlay": lambda: np.concatenate([self._line(self._salient), self._band(_BAND)]),
        }

    def sheet(self) -> SheetLayout:
        """Lay the side-by-side view out: one picture below the other, along the same axis."""
        pictures = [self._line(np.zeros_like(self._salient))]
        pictures += [self[view] for view in ("projection", "heat", "overlay")]
        captions = [*self._captions]
        if len(self.lanes) < len(self._signal):
            captions[0] += f" (channels {', '.join(map(str, self.lanes))} of {len(self._signal)})"
        return laid_out(pictures, 1, captions, lines=2)

    def _line(self, salient: npt.NDArray[np.float64]) -> Picture:
        lanes = []
        for lane in self.lanes:
            low, high = self._signal[lane].min(), self._signal[lane].max()
            lanes.append(self._lane(self._signal[lane], salient[lane], (low, high)))
        return np.concatenate(lanes)

    def _projection(self) -> Picture:
        scale = self.scales.projection or 1.0
        strength = np.ones(self._values.shape[1])
        lanes = [self._lane(self._values[k], strength, (-scale, scale), zero=True) for k in self.lanes]
        return np.concatenate(lanes)

    def _lane(
        self, line: npt.NDArray[np.float64], salient: npt.NDArray[np.float64], span: tuple[float, float],
        *, zero: bool = False,
    ) -> Picture:  # fmt: skip
        """Draw one line; where a column has several samples, all that they span."""
        height = self._lane_height
        low, high, strength = _columns(line, salient)
        room, extent = height - 2 * _MARGIN - 1, (span[1] - span[0]) or 1.0
        top, bottom = (
            _MARGIN + np.rint(room * (1 - np.clip((v - span[0]) / extent, 0, 1))) for v in (high, low)
        )
        rows = np.arange(height)[:, None]
        lane = np.full((height, _WIDTH, 3), 255, np.uint8)
        if zero:
            lane[_MARGIN + room // 2] = 200
        lane[0] = 230
        drawn = (rows >= top) & (rows <= bottom + 1)
        colours = np.rint(_PALE + strength[:, None] * (_STRONG - _PALE)).astype(np.uint8)
        lane[drawn] = np.broadcast_to(colours, lane.shape)[drawn]
        return lane

    def _band(self, height: int) -> Picture:
        """Draw the saliency of the most salient channel at each position."""
        _, _, strength = _columns(self._salient[0], self._salient.max(axis=0))
        return heat_map(np.repeat(strength[None], height, axis=0))


def _columns(line: npt.NDArray[np.float64], salient: npt.NDArray[np.float64]) -> tuple[Any, Any, Any]:
    """Return the least and the greatest value, and the greatest saliency, of a line in each column of pixels.

    A column reaches to where the next one begins, so that the line has no gaps. The saliency is a sample's
    own: it covers the columns that are nearest to it.
    """
    length = len(line)
    edges = np.linspace(0, length - 1, _WIDTH + 1)
    at_edges = np.interp(edges, np.arange(length), line)
    low = np.minimum(at_edges[:-1], at_edges[1:])
    high = np.maximum(at_edges[:-1], at_edges[1:])
    owners = np.minimum((np.arange(_WIDTH) * length) // _WIDTH, length - 1)
    strength = salient[owners]
    if length > _WIDTH:
        column = np.minimum((np.arange(length) * _WIDTH) // length, _WIDTH - 1)
        np.minimum.at(low, column, line)
        np.maximum.at(high, column, line)
        np.maximum.at(strength, column, salient)
    return low, high, strength
