"""Charts of numbers: curves and bars."""

import itertools
import math
from collections.abc import Sequence

from onnx_deconv.imaging.axes import number, ticks
from onnx_deconv.imaging.canvas import BLACK, Colour, text_length, text_size
from onnx_deconv.imaging.layout import Mark, PlacedBox, PlacedLine, PlacedText, SheetLayout
from onnx_deconv.imaging.legends import COLOURS, with_legend
from onnx_deconv.imaging.picture import Size
from onnx_deconv.model import Array

_GRID: Colour = (220, 220, 220)


def line_chart(
    x: Sequence[float],
    curves: Sequence[Sequence[float]],
    *,
    title: str = "",
    x_label: str = "",
    size: Size = (320, 400),
) -> SheetLayout:
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
    size
        (height, width) in pixels.
    """
    known = [float(v) for curve in curves for v in curve if math.isfinite(v)]
    ys = ticks(min([0.0, *known]), max(known, default=1))
    xs = [t for t in ticks(min(x), max(x)) if x[0] <= t <= x[-1]]
    chart = _Chart(size, title, (x[0], x[-1]), xs, ys, lines_below=2)
    chart.label_x(x_label)
    for index, curve in enumerate(curves):
        for piece in _pieces(x, curve):
            points = [chart.at(*point) for point in piece]
            colour = COLOURS[index % len(COLOURS)]
            chart.line(points * (2 if len(points) == 1 else 1), colour, 2)
    return chart.layout()


def bar_chart(
    groups: Sequence[str],
    names: Sequence[str],
    heights: Array,
    spreads: Array,
    *,
    title: str = "",
    size: Size = (320, 560),
) -> SheetLayout:
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
        (height, width) in pixels, without the legend.
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
            chart.line([chart.at(middle, end) for end in ends], BLACK, 1)
    return with_legend(chart.layout(), dict(zip(names, colours, strict=True)))


class _Chart:
    """A frame with a title, a grid and its numbers, to lay curves or bars out in.

    Parameters
    ----------
    size
        (height, width) in pixels.
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
        height, width = size
        self.size, self.x, self.y = size, x, (ys[0], ys[-1])
        self.text = text_size(height)
        self._marks: list[Mark] = []
        left = max(text_length(number(y), self.text) for y in ys) + self.text
        self.box = (2 * self.text, left, height - (1 + lines_below) * self.text, width - 2 * self.text)
        self._write(self._middle, self.text / 2, title, "ma")
        for y in ys:
            place = self.at(x[0], y)
            self.line([place, self.at(x[1], y)], _GRID, 1)
            self._write(place[0] - self.text / 2, place[1], number(y), "rm")
        for each in xs:
            place = self.at(each, self.y[0])
            self.line([place, self.at(each, self.y[1])], _GRID, 1)
            self._write(place[0], place[1] + self.text / 4, number(each), "ma")
        self._marks.append(PlacedBox(*self.box, BLACK, 1))

    @property
    def _middle(self) -> float:
        return (self.box[1] + self.box[3]) / 2

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Return where a point is drawn: (left, top) in pixels."""
        top, left, bottom, right = self.box
        along = (x - self.x[0]) / ((self.x[1] - self.x[0]) or 1)
        up = (y - self.y[0]) / ((self.y[1] - self.y[0]) or 1)
        return left + along * (right - left), bottom - up * (bottom - top)

    def line(self, points: Sequence[tuple[float, float]], colour: Colour, width: float) -> None:
        """Connect points of the picture."""
        self._marks.append(PlacedLine(points, colour, width))

    def label_x(self, text: str) -> None:
        """Write what the horizontal axis is."""
        self._write(self._middle, self.size[0] - self.text / 4, text, "md")

    def text_below(self, x: float, text: str) -> None:
        """Write a text below a place of the horizontal axis."""
        self._write(self.at(x, 0)[0], self.size[0] - self.text / 2, text, "md")

    def bar(self, left: float, right: float, height: float, colour: Colour) -> None:
        """Draw a bar that stands on zero."""
        start, end = self.at(left, 0), self.at(right, height)
        self._marks.append(PlacedBox(end[1], start[0], start[1], end[0], colour, 1, colour))

    def layout(self) -> SheetLayout:
        """Return what there is to draw."""
        return SheetLayout(self.size, self._marks)

    def _write(self, left: float, top: float, text: str, anchor: str) -> None:
        self._marks.append(PlacedText(top, left, text, self.text, anchor))


def _pieces(x: Sequence[float], curve: Sequence[float]) -> list[list[tuple[float, float]]]:
    """Cut a curve where it is not finite."""
    pieces: list[list[tuple[float, float]]] = [[]]
    for point in zip(x, curve, strict=True):
        if math.isfinite(point[1]):
            pieces[-1].append((float(point[0]), float(point[1])))
        elif pieces[-1]:
            pieces.append([])
    return [piece for piece in pieces if piece]
