"""Where pictures and texts stand on a sheet, before it is drawn as pixels or written as SVG or PDF."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from onnx_deconv.imaging.canvas import Canvas
from onnx_deconv.imaging.picture import Picture, Size


class PlacedPicture(NamedTuple):
    """A picture, H×W×3, and its top left corner."""

    top: int
    left: int
    picture: Picture


class PlacedText(NamedTuple):
    """One line of text, and the top left corner of its box."""

    top: int
    left: int
    text: str


@dataclass(frozen=True)
class SheetLayout:
    """A white sheet with pictures and lines of text.

    Attributes
    ----------
    size
        (height, width) in pixels.
    pictures, texts
        What stands on it.
    text_size
        Height of the text, in pixels.
    """

    size: Size
    pictures: Sequence[PlacedPicture]
    texts: Sequence[PlacedText]
    text_size: int

    def picture(self) -> Picture:
        """Draw it as pixels, H×W×3, uint8, RGB."""
        sheet = np.full((*self.size, 3), 255, np.uint8)
        for top, left, picture in self.pictures:
            sheet[top : top + picture.shape[0], left : left + picture.shape[1]] = picture
        canvas = Canvas(sheet)
        for top, left, text in self.texts:
            canvas.text((left, top), text, self.text_size)
        return canvas.picture()
