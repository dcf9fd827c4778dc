"""A photograph, and what a model sees of it."""

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from onnx_deconv.imaging.custom import CustomPreprocess
from onnx_deconv.imaging.geometry import Geometry
from onnx_deconv.imaging.picture import PathLike, Picture, Size
from onnx_deconv.imaging.preprocess import Preprocess
from onnx_deconv.imaging.read import Bands, read_image, with_bands

_LEAST_HEIGHT, _MOST_WIDTH = 320, 640
"""Pixels of an enlarged view: it is at least this high, unless it would get wider than that."""
_MOST_PIXELS = 1 << 26
"""Photographs that would have more pixels than this when enlarged are not enlarged, to save memory."""


@dataclass(frozen=True)
class Photo:
    """A photograph, and what a model sees of it.

    Attributes
    ----------
    picture
        The photograph, H×W×3, uint8, RGB.
    tensor
        One image as the model takes it, without a batch axis.
    geometry
        How the photograph is placed in it.
    """

    picture: Picture
    tensor: npt.NDArray[Any]
    geometry: Geometry

    @classmethod
    def read(cls, path: PathLike, preprocess: Preprocess, page: int = 0) -> "Photo":
        """Read a photograph and preprocess it.

        Parameters
        ----------
        path
            The picture file.
        preprocess
            How it becomes the model's input.
        page
            Which page of a TIFF or frame of an animation, from 0.

        Raises
        ------
        InputError
            If it cannot be read, or does not fit.
        """
        return cls.of(read_image(path, bands=bands_of(preprocess), page=page), preprocess)

    @classmethod
    def of(cls, picture: Picture, preprocess: Preprocess | CustomPreprocess) -> "Photo":
        """Preprocess a picture, H×W×3, or H×W×4 where the model takes a fourth band."""
        whole = with_bands(picture, bands_of(preprocess))
        return cls(np.ascontiguousarray(whole[..., :3]), *preprocess.apply(whole))

    @property
    def view(self) -> Picture:
        """What the model sees, before normalisation: h×w×3, uint8, RGB, of the model's input size."""
        return self.geometry.view(self.picture)

    def enlarged_view(self) -> tuple[Picture, int]:
        """Show what the model sees at a higher resolution, for people to look at.

        Returns
        -------
        view : numpy.ndarray
            H×W×3, uint8, RGB: a whole number of times the size of the model's input.
        factor : int
            That number.
        """
        height, width = self.geometry.size
        factor = max(1, min(math.ceil(_LEAST_HEIGHT / height), _MOST_WIDTH // width))
        if math.prod(self.geometry.resized) * factor**2 > _MOST_PIXELS:  # of a very long photograph
            factor = 1
        return _on_finer_grid(self.geometry, factor).view(self.picture), factor


def _on_finer_grid(geometry: Geometry, factor: int) -> Geometry:
    """Return the same geometry for a model input that is larger by a whole factor."""

    def finer(pair: Size) -> Size:
        return factor * pair[0], factor * pair[1]

    size, resized, offset = map(finer, (geometry.size, geometry.resized, geometry.offset))
    return replace(geometry, size=size, resized=resized, offset=offset)


def bands_of(preprocess: Preprocess | CustomPreprocess) -> Bands:
    """Tell how many bands of a picture a model takes: four where its channels have an A."""
    return 4 if "A" in preprocess.channels else 3
