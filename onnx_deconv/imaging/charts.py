"""Charts of numbers: curves and bars."""

import itertools
import math
from collections.abc import Sequence

import numpy as np

from onnx_deconv.imaging.axes import number, ticks
from onnx_deconv.imaging.canvas import BLACK, Canvas, Colour, text_length, text_size
from onnx_deconv.imaging.legends import COLOURS, with_legend
from onnx_deconv.imaging.picture import Picture, Size
from onnx_deconv.imaging.transform import at_height
from onnx_deconv.model import Array

_FINE = 2
"""Charts are drawn this many times larger, then reduced, which smooths their lines."""
_GRID: Colour = (220, 220, 220)


def line_chart(
    x: Sequence[float],
    curves: Sequence[Sequence[float]],
    *,
    title: str = "",
    x_label: str = "",
    colours: Sequence[Colour] = COLOURS,
    bottom: float | None = 0.0,
    size: Size = (320, 400),
) -> Picture:
    """Draw curves over a common axis.

    Parameters
    ----------
    x
        Where the curves were measured, in ascending order.
    curves
        Each as long as `x`; a value that is not finite leaves a gap.
    title
        Text above the chart.
    x_label
        Text below the chart.
    colours
        One per curve; they repeat.
    bottom
        The highest value that the vertical axis may begin with; ``None`` for the lowest value measured.
    size
        (height, width) of the picture.

    Returns
    -------
    numpy.ndarray
        height×width×3, uint8.
    """
    known = [float(v) for curve in curves for v in curve if math.isfinite(v)]
    lowest = [] if bottom is None else [bottom]
    ys = ticks(min([*known, *lowest], default=0), max(known, default=1))
    xs = [t for t in ticks(min(x), max(x)) if x[0] <= t <= x[-1]]
    chart = _Chart(size, title, (x[0], x[-1]), xs, ys, lines_below=2)
    chart.label_x(x_label)
    for index, curve in enumerate(curves):
        for piece in _pieces(x, curve):
            points = [chart.at(*point) for point in piece]
            colour = colours[index % len(colours)]
            chart.canvas.line(points * (2 if len(points) == 1 else 1), colour, 2 * _FINE)
    return chart.picture()


def bar_chart(
    groups: Sequence[str],
    names: Sequence[str],
    heights: Array,
    spreads: Array,
    *,
    title: str = "",
    size: Size = (320, 560),
) -> Picture:
    """Draw groups of bars, each with a whisker from height - spread to height + spread.

    Parameters
    ----------
    groups
        Text below each group.
    names
        The names of a group's bars, for the legend.
    heights, spreads
        Shape (groups, names); not negative.
    title
        Text above the chart.
    size
        (height, width) of the picture without the legend.

    Returns
    -------
    numpy.ndarray
        H×W×3, uint8.
    """
    ys = ticks(0, float((heights + spreads).max()))
    chart = _Chart(size, title, (0, len(groups)), [], ys, lines_below=1)
    colours = list(itertools.islice(itertools.cycle(COLOURS), len(names)))
    for g, group in enumerate(groups):
        chart.text_below(g + 0.5, group)
        for k, colour in enumerate(colours):
            left, middle, right = (g + 0.1 + 0.8 * (k + d) / len(names) for d in (0.05, 0.5, 0.95))
            chart.bar(left, right, heights[g, k], colour)
            ends = (max(heights[g, k] - spreads[g, k], 0), heights[g, k] + spreads[g, k])
            chart.canvas.line([chart.at(middle, end) for end in ends], BLACK, _FINE)
    return with_legend(chart.picture(), dict(zip(names, colours, strict=True)))


class _Chart:
    """A frame with a title, a grid and its numbers, to draw curves or bars in.

    Parameters
    ----------
    size
        (height, width) of the picture.
    title
        Text above.
    x
        Where the horizontal axis begins and ends.
    xs, ys
        The numbers along the axes, in ascending order; the vertical axis begins and ends with them.
    lines_below
        How many lines of text there is room for below.
    """

    def __init__(
        self, size: Size, title: str, x: tuple[float, float], xs: Sequence[float], ys: Sequence[float],
        lines_below: int,
    ) -> None:  # fmt: skip
        height, width = (_FINE * side for side in size)
        self.size, self.x, self.y = size, x, (ys[0], ys[-1])
        self.text = _FINE * text_size(size[0])
        self.canvas = Canvas(np.full((height, width, 3), 255, np.uint8))
        left = max(text_length(number(y), self.text) for y in ys) + self.text
        self.box = (2 * self.text, left, height - (1 + lines_below) * self.text, width - 2 * self.text)
        self.canvas.text((self._middle, self.text / 2), title, self.text, "ma")
        for y in ys:
            place = self.at(x[0], y)
            self.canvas.line([place, self.at(x[1], y)], _GRID, _FINE)
            self.canvas.text((place[0] - self.text / 2, place[1]), number(y), self.text, "rm")
        for each in xs:
            place = self.at(each, self.y[0])
            self.canvas.line([place, self.at(each, self.y[1])], _GRID, _FINE)
            self.canvas.text((place[0], place[1] + self.text / 4), number(each), self.text, "ma")
        self.canvas.box(self.box, BLACK, _FINE)

    @property
    def _middle(self) -> float:
        return (self.box[1] + self.box[3]) / 2

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Return where a point is drawn: (left, top) in pixels of the canvas."""
        top, left, bottom, right = self.box
        along = (x - self.x[0]) / ((self.x[1] - self.x[0]) or 1)
        up = (y - self.y[0]) / ((self.y[1] - self.y[0]) or 1)
        return left + along * (right - left), bottom - up * (bottom - top)

    def label_x(self, text: str) -> None:
        """Write what the horizontal axis is."""
        place = self._middle, _FINE * self.size[0] - self.text / 4
        self.canvas.text(place, text, self.text, "md")

    def text_below(self, x: float, text: str) -> None:
        """Write a text below a place of the horizontal axis."""
        place = self.at(x, 0)[0], _FINE * self.size[0] - self.text / 2
        self.canvas.text(place, text, self.text, "md")

    def bar(self, left: float, right: float, height: float, colour: Colour) -> None:
        """Draw a bar that stands on zero."""
        start, end = self.at(left, 0), self.at(right, height)
        self.canvas.box((end[1], start[0], start[1], end[0]), colour, fill=colour)

    def picture(self) -> Picture:
        """Return what was drawn, smoothed."""
        return at_height(self.canvas.picture(), self.size[0])


def _pieces(x: Sequence[float], curve: Sequence[float]) -> list[list[tuple[float, float]]]:
    """Cut a curve where it is not finite."""
    pieces: list[list[tuple[float, float]]] = [[]]
    for point in zip(x, curve, strict=True):
        if math.isfinite(point[1]):
            pieces[-1].append((float(point[0]), float(point[1])))
        elif pieces[-1]:
            pieces.append([])
    return [piece for piece in pieces if piece]
