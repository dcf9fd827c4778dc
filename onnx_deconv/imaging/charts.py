"""Plain pictures of numbers: line charts, colour bars, legends."""

import itertools
import math
from collections.abc import Mapping, Sequence

import numpy as np

from onnx_deconv.imaging.canvas import BLACK, Canvas, Colour, text_length, text_size
from onnx_deconv.imaging.colour import heat_map
from onnx_deconv.imaging.picture import Picture
from onnx_deconv.imaging.transform import at_height
from onnx_deconv.model import Array

COLOURS: tuple[Colour, ...] = (
    (31, 119, 180), (255, 127, 14), (44, 160, 44), (214, 39, 40), (148, 103, 189),
    (140, 86, 75), (227, 119, 194), (188, 189, 34), (23, 190, 207),
)  # fmt: skip
"""Of curves and classes, in order; from Tableau's ten without the grey."""
OTHERS: Colour = (127, 127, 127)

_FINE = 2
"""Charts are drawn this many times larger and reduced, which smooths their lines."""
_GRID: Colour = (220, 220, 220)


def line_chart(
    x: Sequence[float],
    curves: Sequence[Sequence[float]],
    *,
    title: str = "",
    x_label: str = "",
    colours: Sequence[Colour] = COLOURS,
    bottom: float | None = 0.0,
    size: tuple[int, int] = (320, 400),
) -> Picture:
    """Draw curves over a common axis.

    Parameters
    ----------
    x
        Where they were measured, in ascending order.
    curves
        Each as long as `x`; what is not finite leaves a gap.
    title
        Written above.
    x_label
        Written below.
    colours
        One per curve; they repeat.
    bottom
        What the vertical axis starts with at most; ``None`` for the lowest value.
    size
        (height, width) of the picture.

    Returns
    -------
    numpy.ndarray
        height×width×3, uint8.
    """
    height, width = (_FINE * side for side in size)
    text = _FINE * text_size(size[0])
    known = [float(v) for curve in curves for v in curve if math.isfinite(v)]
    lowest = [] if bottom is None else [bottom]
    xs, ys = ticks(min(x), max(x)), ticks(min([*known, *lowest], default=0), max(known, default=1))
    margin = max(text_length(number(y), text) for y in ys)
    frame = _Frame(
        2 * text, margin + text, height - 3 * text, width - 2 * text, (x[0], x[-1]), (ys[0], ys[-1])
    )
    canvas = Canvas(np.full((height, width, 3), 255, np.uint8))
    frame.draw(canvas, [t for t in xs if x[0] <= t <= x[-1]], ys, text)
    canvas.text((frame.middle, text / 2), title, text, "ma")
    canvas.text((frame.middle, height - text / 4), x_label, text, "md")
    for index, curve in enumerate(curves):
        for piece in _pieces(x, curve):
            points = [frame.at(*point) for point in piece]
            canvas.line(points * (2 if len(points) == 1 else 1), colours[index % len(colours)], 2 * _FINE)
    return at_height(canvas.picture(), size[0])


def bar_chart(
    groups: Sequence[str],
    names: Sequence[str],
    heights: Array,
    spreads: Array,
    *,
    title: str = "",
    size: tuple[int, int] = (320, 560),
) -> Picture:
    """Draw groups of bars, each with a whisker from height - spread to height + spread.

    Parameters
    ----------
    groups
        Written below each group.
    names
        Of a group's bars, in the legend.
    heights, spreads
        Shape (groups, names); not negative.
    title
        Written above.
    size
        (height, width) of the picture without the legend.

    Returns
    -------
    numpy.ndarray
        H×W×3, uint8.
    """
    height, width = (_FINE * side for side in size)
    text = _FINE * text_size(size[0])
    ys = ticks(0, float((heights + spreads).max()))
    margin = max(text_length(number(y), text) for y in ys)
    frame = _Frame(2 * text, margin + text, height - 2 * text, width - text, (0, len(groups)), (0, ys[-1]))
    canvas = Canvas(np.full((height, width, 3), 255, np.uint8))
    frame.draw(canvas, [], ys, text)
    canvas.text((frame.middle, text / 2), title, text, "ma")
    for g, group in enumerate(groups):
        canvas.text((frame.at(g + 0.5, 0)[0], height - text / 2), group, text, "md")
        for k, colour in zip(range(len(names)), itertools.cycle(COLOURS), strict=False):
            left, middle, right = (g + 0.1 + 0.8 * (k + d) / len(names) for d in (0.05, 0.5, 0.95))
            bottom, top = frame.at(left, 0), frame.at(right, heights[g, k])
            canvas.box((top[1], bottom[0], bottom[1], top[0]), colour, fill=colour)
            ends = (max(heights[g, k] - spreads[g, k], 0), heights[g, k] + spreads[g, k])
            canvas.line([frame.at(middle, end) for end in ends], BLACK, _FINE)
    legend = dict(zip(names, itertools.cycle(COLOURS), strict=False))
    return with_legend(at_height(canvas.picture(), size[0]), legend)


class _Frame:
    """Where numbers lie in a chart."""

    def __init__(
        self, top: float, left: float, bottom: float, right: float,
        x: tuple[float, float], y: tuple[float, float],
    ) -> None:  # fmt: skip
        self.box, self.x, self.y = (top, left, bottom, right), x, y
        self.middle = (left + right) / 2

    def at(self, x: float, y: float) -> tuple[float, float]:
        top, left, bottom, right = self.box
        along = (x - self.x[0]) / ((self.x[1] - self.x[0]) or 1)
        up = (y - self.y[0]) / ((self.y[1] - self.y[0]) or 1)
        return left + along * (right - left), bottom - up * (bottom - top)

    def draw(self, canvas: Canvas, xs: Sequence[float], ys: Sequence[float], text: int) -> None:
        """Draw the grid, the frame and the numbers."""
        for y in ys:
            canvas.line([self.at(self.x[0], y), self.at(self.x[1], y)], _GRID, _FINE)
            place = self.at(self.x[0], y)
            canvas.text((place[0] - text / 2, place[1]), number(y), text, "rm")
        for x in xs:
            canvas.line([self.at(x, self.y[0]), self.at(x, self.y[1])], _GRID, _FINE)
            place = self.at(x, self.y[0])
            canvas.text((place[0], place[1] + text / 4), number(x), text, "ma")
        canvas.box(self.box, BLACK, _FINE)


def _pieces(x: Sequence[float], curve: Sequence[float]) -> list[list[tuple[float, float]]]:
    """Cut a curve where it is not finite."""
    pieces: list[list[tuple[float, float]]] = [[]]
    for point in zip(x, curve, strict=True):
        if math.isfinite(point[1]):
            pieces[-1].append((float(point[0]), float(point[1])))
        elif pieces[-1]:
            pieces.append([])
    return [piece for piece in pieces if piece]


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Choose round numbers, evenly spaced, that enclose a range; `most` at most lie inside it."""
    if not high > low:
        high = low + (abs(low) or 1.0)
    raw = (high - low) / (most - 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = power * next(f for f in (1, 2, 3, 5, 10) if power * f >= raw * (1 - 1e-9))
    if step == 3 * power and power < 10:  # thirds suit angles alone  # noqa: PLR2004
        step = 5 * power
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [k * step for k in range(first, last + 1)]


_PLAIN = 1e6


def number(value: float) -> str:
    """Write a number in three digits, without an exponent where it is no longer so."""
    if not 1 / _PLAIN < abs(value) < _PLAIN:
        return f"{value:.3g}"
    return np.format_float_positional(value, precision=3, fractional=False, trim="-")


def coloured(values: Array, low: float, high: float) -> Picture:
    """Colour a map of numbers, from dark at `low` to bright at `high`; flat where the two are equal."""
    spread = high - low
    relative = np.clip((values - low) / spread, 0, 1) if spread > 0 else np.zeros(values.shape)
    return heat_map(np.nan_to_num(relative))


def with_colour_bar(picture: Picture, low: float, high: float) -> Picture:
    """Add to a picture made by :func:`coloured` what its colours stand for, at its right."""
    height = picture.shape[0]
    text = text_size(height)
    labels = [number(high), number(low)]
    width = 2 * text + round(max(text_length(label, text) for label in labels)) + 4
    side = np.full((height, width, 3), 255, np.uint8)
    side[:, text // 2 : text + text // 2] = heat_map(np.linspace(1, 0, height)[:, None])
    canvas = Canvas(side)
    canvas.text((2 * text, 0), labels[0], text, "la")
    canvas.text((2 * text, height - 1), labels[1], text, "ld")
    return np.concatenate([picture, canvas.picture()], axis=1)


def with_legend(picture: Picture, entries: Mapping[str, Colour]) -> Picture:
    """Add to a picture what its colours stand for, at its right."""
    height = picture.shape[0]
    text = text_size(height)
    longest = max((text_length(name, text) for name in entries), default=0)
    canvas = Canvas(np.full((height, round(longest) + 3 * text, 3), 255, np.uint8))
    for row, (name, colour) in enumerate(entries.items()):
        top = row * 1.6 * text
        canvas.box((top, text / 2, top + text, 1.5 * text), colour, fill=colour)
        canvas.text((2 * text, top + text / 2), name, text, "lm")
    return np.concatenate([picture, canvas.picture()], axis=1)
