"""Drawing on a picture: lines, boxes, text."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from onnx_deconv.imaging.picture import Picture, check_picture

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
Colour = tuple[int, int, int]
"""Red, green, blue, 0..255."""
BLACK: Colour = (0, 0, 0)
WHITE: Colour = (255, 255, 255)
_YELLOW: Colour = (255, 220, 0)
_OUTLINE = (BLACK, _YELLOW, _YELLOW, BLACK)
"""The pixels across an outline."""
_SMALLEST, _LARGEST = 12, 20
_LEGIBLE = 7
_CELL_TO_TEXT = 16
"""Text is this many times smaller than the picture beside it is wide, within the sizes above."""


class Canvas:
    """A copy of a picture to draw on. Points are (left, top) in pixels.

    Parameters
    ----------
    picture
        H×W×3, uint8.
    """

    def __init__(self, picture: Picture) -> None:
        self._image = Image.fromarray(picture)
        self._draw = ImageDraw.Draw(self._image)

    def line(self, points: Sequence[tuple[float, float]], colour: Colour = BLACK, width: int = 1) -> None:
        """Connect points, with round joints."""
        self._draw.line(list(points), fill=colour, width=width, joint="curve")

    def box(
        self,
        box: Sequence[float],
        colour: Colour = BLACK,
        width: int = 1,
        fill: Colour | None = None,
    ) -> None:
        """Draw a box (top, left, bottom, right): its outline just inside, and a fill if given."""
        top, left, bottom, right = box
        if bottom > top and right > left:
            self._draw.rectangle(((left, top), (right - 1, bottom - 1)), fill, colour, width)

    def text(
        self,
        place: tuple[float, float],
        text: str,
        size: int,
        anchor: str = "la",
        colour: Colour = BLACK,
    ) -> None:
        """Write a line of text; `anchor` is Pillow's code for the point of the text that is at `place`."""
        self._draw.text(place, text, fill=colour, font=font_of(size), anchor=anchor)

    def paste(self, place: tuple[int, int], picture: Picture) -> None:
        """Put a picture, H×W×3, with its top left corner at a point."""
        self._image.paste(Image.fromarray(picture), place)

    def picture(self) -> Picture:
        """Return what was drawn, H×W×3, uint8."""
        return np.array(self._image)


def outlined(picture: Picture, inside: npt.NDArray[np.bool_]) -> Picture:
    """Draw an outline around the pixels of a mask: two yellow pixels wide, between two black lines.

    Parameters
    ----------
    picture
        H×W×3, uint8, RGB.
    inside
        H×W.

    Returns
    -------
    numpy.ndarray
        A copy of the same size; where the mask ends at the picture's edge the outline is inside the mask.

    Raises
    ------
    InputError
        If the array is no picture.
    """
    check_picture(picture)
    drawn = picture.copy()
    for _ in _OUTLINE:
        inside = _grown(inside)
    for ink in _OUTLINE:
        # Beyond the picture's edge nothing is inside, so that the outline is drawn along the edge too.
        inner = ~_grown(~np.pad(inside, 1))[1:-1, 1:-1]
        drawn[inside & ~inner] = ink
        inside = inner
    return drawn


def _grown(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Add the eight neighbours of each pixel of a mask."""
    tall = mask.copy()
    tall[1:] |= mask[:-1]
    tall[:-1] |= mask[1:]
    grown = tall.copy()
    grown[:, 1:] |= tall[:, :-1]
    grown[:, :-1] |= tall[:, 1:]
    return grown


def banner(picture: Picture, text: str) -> Picture:
    """Write a line of text at the bottom of a picture, white on a dark band.

    Parameters
    ----------
    picture
        H×W×3, uint8, RGB.
    text
        It is made as small as the picture needs; what cannot be read at all is left out.

    Returns
    -------
    numpy.ndarray
        A copy of the same size.
    """
    height, width = picture.shape[:2]
    largest = min(text_size(width), height // 2)
    fitting = (k for k in range(largest, _LEGIBLE - 1, -1) if text_length(text, k) <= width - k)
    size = next(fitting, None)
    if size is None:
        return picture
    drawn = picture.copy()
    drawn[-round(1.4 * size) :] //= 4
    canvas = Canvas(drawn)
    canvas.text((size // 2, height - round(1.25 * size)), text, size, colour=WHITE)
    return canvas.picture()


def text_length(text: str, size: int) -> float:
    """Measure a line of text, in pixels."""
    return font_of(size).getlength(text)


def text_size(width: int) -> int:
    """Choose a text size for captions of a picture of some width, both in pixels."""
    return min(max(_SMALLEST, width // _CELL_TO_TEXT), _LARGEST)


def font_of(size: int) -> Font:
    """Return Pillow's own font in a size in pixels."""
    return ImageFont.load_default(size)
