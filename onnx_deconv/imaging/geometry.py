"""From a photograph to a model's input, and back."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from onnx_deconv.imaging.picture import Interpolation, Picture, Size, check_picture, check_size, resize


@dataclass(frozen=True)
class Geometry:
    """How a photograph is placed in a model's input.

    The photograph is resized to ``resized`` and placed with its top left corner at ``offset`` of an
    input of ``size``. What is outside the input is cropped; input pixels it does not cover are padding.

    Attributes
    ----------
    photo
        (H, W) of the photograph.
    size
        (h, w) of the model's input.
    resized
        (height, width) of the whole photograph on the input's grid.
    offset
        (top, left) in pixels of the input; negative where the photograph is cropped.
    interpolation
        How pixels are interpolated when the photograph is resized.
    fill
        Grey value of the padding, 0..255.
    """

    photo: Size
    size: Size
    resized: Size
    offset: Size
    interpolation: Interpolation = "bilinear"
    fill: int = 114

    @property
    def box(self) -> tuple[float, float, float, float]:
        """(top, left, bottom, right) of what the input shows, in pixels of the photograph."""
        (top, bottom), (left, right) = self._in_photo(0), self._in_photo(1)
        return top, left, bottom, right

    @property
    def padding(self) -> tuple[int, int, int, int]:
        """(top, left, bottom, right): how many rows and columns of the input are padding."""
        (top, bottom), (left, right) = self._in_input(0), self._in_input(1)
        return top, left, self.size[0] - bottom, self.size[1] - right

    def view(self, photo: Picture) -> Picture:
        """Show the part of the photograph that the model sees, before normalisation.

        Parameters
        ----------
        photo
            H×W×3, uint8, of the size this geometry was made for; or H×W×4, with a fourth band.

        Returns
        -------
        numpy.ndarray
            h×w×3 (or 4), uint8, RGB, padding included. In colour, also where the model sees greys.

        Raises
        ------
        InputError
            If the array is no picture or has another size.
        """
        check_picture(photo, fourth=True)
        check_size("photograph", photo.shape[:2], self.photo)
        resized = _resized(photo, self.resized, self.interpolation)
        (top, bottom), (left, right) = self._in_input(0), self._in_input(1)
        y, x = self.offset
        view = np.full((*self.size, photo.shape[2]), self.fill, np.uint8)
        view[top:bottom, left:right] = resized[top - y : bottom - y, left - x : right - x]
        return view

    def to_photo(self, values: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Put a map from the model's input back on the photograph.

        Values are interpolated linearly (and averaged where the photograph is the coarser of the
        two). Values in the padding are ignored.

        Parameters
        ----------
        values
            h×w: one number per pixel of the model's input.

        Returns
        -------
        numpy.ndarray
            H×W, float32; 0 at each pixel of the photograph whose centre the input does not show.

        Raises
        ------
        InputError
            If the map has another size than the model's input.
        """
        check_size("map", values.shape, self.size)
        (top, bottom), (left, right) = self._in_input(0), self._in_input(1)
        y, x = self.offset
        shown = values[top:bottom, left:right].astype(np.float32)
        margins = (
            (top - y, self.resized[0] - (bottom - y)),
            (left - x, self.resized[1] - (right - x)),
        )
        whole = Image.fromarray(np.pad(shown, margins, mode="edge"))
        photo = np.array(resize(whole, self.photo, "bilinear"))
        seen = self._seen(0)[:, None] & self._seen(1)
        return np.where(seen, photo, np.float32(0))

    def box_in_input(self, box: Sequence[float]) -> tuple[int, int, int, int]:
        """Find where a box of the photograph is in the model's input.

        Parameters
        ----------
        box
            (top, left, bottom, right) in pixels of the photograph.

        Returns
        -------
        tuple of int
            (top, left, bottom, right) in pixels of the input, rounded and cut at its borders.
        """
        edges = []
        for k, edge in enumerate(box):
            axis = k % 2
            placed = round(edge * self.resized[axis] / self.photo[axis]) + self.offset[axis]
            edges.append(min(max(placed, 0), self.size[axis]))
        return edges[0], edges[1], edges[2], edges[3]

    def point_in_input(self, y: float, x: float) -> tuple[float, float]:
        """Return where a point (y, x) of the photograph is in the model's input, in pixels."""
        (top, left), (height, width) = self.offset, self.photo
        return y * self.resized[0] / height + top, x * self.resized[1] / width + left

    def _in_input(self, axis: int) -> tuple[int, int]:
        """(start, stop) of the rows (0) or columns (1) of the input that show the photograph."""
        offset = self.offset[axis]
        return max(0, offset), min(self.size[axis], offset + self.resized[axis])

    def _in_photo(self, axis: int) -> tuple[float, float]:
        """(start, stop) of the photograph's rows (0) or columns (1) that the input shows, as fractions."""
        photo, resized, offset = self.photo[axis], self.resized[axis], self.offset[axis]
        start, stop = ((edge - offset) * photo / resized for edge in self._in_input(axis))
        return start, stop

    def _seen(self, axis: int) -> npt.NDArray[np.bool_]:
        """Find the rows (0) or columns (1) of the photograph whose centres the input shows."""
        start, stop = self._in_photo(axis)
        centres = np.arange(self.photo[axis]) + 0.5
        return (centres >= start) & (centres < stop)


def _resized(photo: Picture, size: Size, interpolation: Interpolation) -> Picture:
    """Resize a picture; a fourth band by itself, as Pillow weights the colours by it."""
    parts = [photo[..., :3], *[np.repeat(photo[..., 3:], 3, axis=-1)] * (photo.shape[2] > len("RGB"))]
    done = [np.asarray(resize(Image.fromarray(np.ascontiguousarray(p)), size, interpolation)) for p in parts]
    return done[0] if len(done) == 1 else np.concatenate([done[0], done[1][..., :1]], axis=-1)
