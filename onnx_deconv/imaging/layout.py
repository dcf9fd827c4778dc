"""What stands where on a sheet, before it is drawn as pixels or written as SVG or PDF."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from onnx_deconv.imaging.canvas import BLACK, Canvas, Colour
from onnx_deconv.imaging.picture import Picture, Size

_FINE = 2
"""Sheets with lines are drawn this many times larger, then reduced, which smooths the lines."""


class PlacedPicture(NamedTuple):
    """A picture, H×W×3, and its top left corner."""

    top: float
    left: float
    picture: Picture


class PlacedText(NamedTuple):
    """A line of text, its height in pixels, and the point of it that is at the place (Pillow's anchors)."""

    top: float
    left: float
    text: str
    size: int
    anchor: str = "la"


class PlacedLine(NamedTuple):
    """A curve through points, each (left, top)."""

    points: Sequence[tuple[float, float]]
    colour: Colour = BLACK
    width: float = 1


class PlacedBox(NamedTuple):
    """A box: its outline just inside, or a fill."""

    top: float
    left: float
    bottom: float
    right: float
    colour: Colour = BLACK
    width: float = 1
    fill: Colour | None = None


Mark = PlacedPicture | PlacedText | PlacedLine | PlacedBox


@dataclass(frozen=True)
class SheetLayout:
    """A white sheet with pictures, lines of text, curves and boxes.

    Attributes
    ----------
    size
        (height, width) in pixels.
    marks
        What stands on it, in the order in which it is drawn.
    """

    size: Size
    marks: Sequence[Mark]

    @classmethod
    def of(cls, cell: "Picture | SheetLayout") -> "SheetLayout":
        """Return a sheet as it is, or one that a picture fills."""
        if isinstance(cell, SheetLayout):
            return cell
        return cls((cell.shape[0], cell.shape[1]), [PlacedPicture(0, 0, cell)])

    def moved(self, top: float, left: float) -> list[Mark]:
        """Return what stands on it, further down and to the right."""
        return [_moved(mark, top, left) for mark in self.marks]

    def picture(self) -> Picture:
        """Draw it as pixels, H×W×3, uint8, RGB."""
        fine = _FINE if any(isinstance(mark, PlacedLine | PlacedBox) for mark in self.marks) else 1
        height, width = (fine * side for side in self.size)
        canvas = Canvas(np.full((height, width, 3), 255, np.uint8))
        for mark in self.marks:
            _draw(canvas, mark, fine)
        drawn = canvas.picture()
        if fine == 1:
            return drawn
        blocks = drawn.reshape(self.size[0], fine, self.size[1], fine, 3)
        smooth: Picture = np.rint(blocks.mean(axis=(1, 3), dtype=np.float32)).astype(np.uint8)
        return smooth


def _moved(mark: Mark, top: float, left: float) -> Mark:
    if isinstance(mark, PlacedLine):
        return mark._replace(points=[(x + left, y + top) for x, y in mark.points])
    if isinstance(mark, PlacedBox):
        mark = mark._replace(bottom=mark.bottom + top, right=mark.right + left)
    return mark._replace(top=mark.top + top, left=mark.left + left)


def _draw(canvas: Canvas, mark: Mark, fine: int) -> None:
    if isinstance(mark, PlacedPicture):
        enlarged = mark.picture.repeat(fine, axis=0).repeat(fine, axis=1)
        canvas.paste((round(fine * mark.left), round(fine * mark.top)), enlarged)
    elif isinstance(mark, PlacedText):
        canvas.text((fine * mark.left, fine * mark.top), mark.text, fine * mark.size, mark.anchor)
    elif isinstance(mark, PlacedLine):
        points = [(fine * x, fine * y) for x, y in mark.points]
        canvas.line(points, mark.colour, round(fine * mark.width))
    else:
        edges = [fine * edge for edge in (mark.top, mark.left, mark.bottom, mark.right)]
        canvas.box(edges, mark.colour, round(fine * mark.width), mark.fill)
