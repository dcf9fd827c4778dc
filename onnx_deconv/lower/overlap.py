"""Unpooling of windows in steps of 2, in onnxruntime's blocked layout alone.

Where windows of 3×3 overlap, a window's first maximum in row-major order lies in the first of its rows that
holds the maximum, and is the first in that row. So a signal goes first to one of three rows, where it meets
those of the windows above and below, then to one of three columns. Where two values are equal is told by the
operators that the blocked layout has (depthwise convolutions with one number each, Add, Mul, Relu): of
d = maximum - value,

    Relu(2⁻²² - 2¹²⁷ d)   is 2⁻²² if d = 0, and 0 if not,

as no float32 above 0 is below 2⁻¹⁴⁹. This is exact for all finite values, where convolutions are computed in
float32 (not TF32): they multiply by powers of 2 and add zeros. Of a signal, what is below 2⁻¹²⁷ is lost.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from onnx_deconv.lower.rewriter import Branch, Rewriter

KERNEL, STEP = 3, 2
_STEEP, _SMALL = 2.0**127, 2.0**-22


class Line(NamedTuple):
    """How a convolution moves values along one axis: a filter with one number, and padding."""

    kernel: int = 1
    tap: int = 0
    begin: int = 0
    end: int = 0


_STAYS = Line()


def _every_other(size: int, offset: int, count: int) -> Line:
    """Take the values at offset, offset + 2, ..., so many of them; 0 outside."""
    tap, begin = max(offset, 0), max(-offset, 0)
    span = size + begin - STEP * (count - 1)
    kernel = max(tap + 1, span - 1)
    return Line(kernel, tap, begin, max(0, kernel - span))


def _moved(size: int, by: int, count: int) -> Line:
    """Move values by so many places, and make them so many; 0 where none comes from."""
    tap, begin = max(-by, 0), max(by, 0)
    kernel = max(tap + 1, size + begin - count + 1)
    return Line(kernel, tap, begin, count - size - begin + kernel - 1)


class Axis(NamedTuple):
    """A pool along one axis: the picture's size, the number of windows, the padding before the first."""

    size: int
    windows: int
    pad: int

    def place(self, position: int) -> int:
        """Say where in the picture the last window has a position."""
        return STEP * (self.windows - 1) + position - self.pad

    def outside(self, position: int) -> bool:
        """Tell whether some window has this position outside the picture."""
        return position < self.pad or self.place(position) >= self.size

    def position(self, position: int) -> Line:
        """Take what each window has at a position."""
        return _every_other(self.size, position - self.pad, self.windows)

    def phase(self, phase: int) -> Line:
        """Take every other value of the picture."""
        return _every_other(self.size, phase, self.length(phase))

    def length(self, phase: int) -> int:
        """Count every other value of the picture."""
        return (self.size - phase + 1) // STEP

    def sources(self, phase: int, length: int) -> list[tuple[int, Line]]:
        """List the positions that fall on every other value, and how windows are moved to there."""
        places = [(k, k - self.pad) for k in range(KERNEL)]
        return [(k, _moved(self.windows, p // STEP, length)) for k, p in places if p % STEP == phase]


class Blocked(Branch):
    """Nodes that onnxruntime keeps in its blocked layout."""

    def __init__(self, name: str, graph: Rewriter, channels: int) -> None:
        super().__init__(name)
        self.graph, self.channels = graph, channels
        self._ones: dict[str, str] = {}

    def moved(
        self, value: str, rows: Line = _STAYS, columns: Line = _STAYS, *,
        by: float = 1, strides: Sequence[int] = (1, 1), bias: float | None = None, plus: str = "",
    ) -> str:  # fmt: skip
        """Convolve each channel with a filter that has one number; add another value, or a bias.

        Not both: onnxruntime adds them in an order of its own, which is not exact.
        """
        weight = np.zeros((self.channels, 1, rows.kernel, columns.kernel), np.float32)
        weight[:, :, rows.tap, columns.tap] = by
        inputs = [value, self.graph.constant(weight, np.float32)]
        if bias is not None:
            inputs.append(self.graph.constant(np.full(self.channels, bias), np.float32))
        pads = [rows.begin, columns.begin, rows.end, columns.end]
        made = self("Conv", *inputs, group=self.channels, strides=list(strides), pads=pads)
        return self("Add", made, plus) if plus else made

    def ones(self, value: str) -> str:
        """Give 1 everywhere."""
        if value not in self._ones:
            self._ones[value] = self.moved(value, by=0, bias=1)
        return self._ones[value]

    def small(self, distance: str) -> str:
        """Give a small number where a distance is 0, and 0 elsewhere."""
        return self("Relu", self.moved(distance, by=-_STEEP, bias=_SMALL))

    def shares(self, distances: Sequence[str], signal: str) -> list[tuple[str, float]]:
        """Divide a signal among positions: the first whose distance is 0 takes it, or else the last.

        Returns
        -------
        list
            What each gets, and the number that it is still to be multiplied by.
        """
        taken = []
        for distance in distances:
            taken.append((self("Mul", self.small(distance), signal), 1 / _SMALL))
            signal = self.moved(taken[-1][0], by=-1 / _SMALL, plus=signal)
        return [*taken, (signal, 1)]

    def distances(self, value: str, maximum: str, axis: Axis, take: Callable[..., str]) -> list[str]:
        """Return maximum - value at all of a window's positions but the last; above 0 outside the picture."""
        found = []
        for k in range(KERNEL - 1):
            found.append(take(value, axis.position(k), by=-1, plus=maximum))
            if axis.outside(k):  # a 0 there is at no distance from a maximum of 0
                outside = self("Relu", take(self.ones(value), axis.position(k), by=-1, bias=1))
                found[-1] = self("Add", found[-1], outside)
        return found


def quarters(
    add: Blocked, picture: str, maximum: str, signal: str, rows: Axis, columns: Axis, *, equal: bool
) -> list[str]:
    """Send each window's signal to its first maximum.

    Parameters
    ----------
    add
        Where the nodes go.
    picture, maximum
        What the pool takes and gives.
    signal
        A number for each window.
    rows, columns
        The pool's geometry.
    equal
        Whether all results shall be as large as the first, by zeros at their ends.

    Returns
    -------
    list
        The picture's rows 0, 2, ... at the columns 0, 2, ... and 1, 3, ...; its rows 1, 3, ... at both.
    """
    pads = [0, columns.pad, 0, max(0, STEP * columns.windows + 1 - columns.size - columns.pad)]
    in_rows = add("MaxPool", picture, kernel_shape=[1, KERNEL], strides=[1, STEP], pads=pads)

    def down(value: str, line: Line, **more: object) -> str:
        return add.moved(value, line, strides=(STEP, 1), **more)  # type: ignore[arg-type]

    shares = add.shares(add.distances(in_rows, maximum, rows, down), signal)
    found = []
    for phase in range(STEP):
        length = rows.length(phase)
        row = _sum(add, [(*shares[k], line, _STAYS) for k, line in rows.sources(phase, length)])

        def across(value: str, line: Line, phase: int = phase, **more: object) -> str:
            return add.moved(value, rows.phase(phase), line, strides=(STEP, STEP), **more)  # type: ignore[arg-type]

        distances = add.distances(picture, down(in_rows, rows.phase(phase)), columns, across)
        parts = add.shares(distances, row)
        kept = _moved(length, 0, rows.length(0) if equal else length)
        for other in range(STEP):
            sources = columns.sources(other, columns.length(0 if equal else other))
            found.append(_sum(add, [(*parts[k], kept, line) for k, line in sources]))
    return found


def side_by_side(
    add: Blocked, picture: str, maximum: str, signal: str, rows: Axis, columns: Axis
) -> list[str]:
    """Send the signal of windows of 2×2 in steps of 2 to their first maxima.

    Parameters and result are those of :func:`quarters`. A signal of 2¹⁰⁶ or more would become infinite.
    """
    left, parts = add.moved(signal, by=1 / _SMALL), []
    for k in range(STEP**2 - 1):
        row, column = divmod(k, STEP)
        where = rows.position(row), columns.position(column)
        distance = add.moved(picture, *where, by=-1, strides=(STEP, STEP), plus=maximum)
        parts.append(add("Mul", add.small(distance), left))
        left = add.moved(parts[-1], by=-1 / _SMALL, plus=left)
    return [*parts, add.moved(left, by=_SMALL)]


def _sum(add: Blocked, terms: Sequence[tuple[str, float, Line, Line]]) -> str:
    """Add up values, each multiplied and moved."""
    total = ""
    for value, by, rows, columns in terms:
        stays = rows == columns == _STAYS and by == 1 and not total
        total = value if stays else add.moved(value, rows, columns, by=by, plus=total)
    return total


class Quarter(NamedTuple):
    """What is cut off a transposed convolution's result, and what is put around it."""

    begin: int
    end: int
    before: int
    after: int


class Transposed(NamedTuple):
    """A transposed convolution along one axis."""

    size: int
    """Of the signal."""
    kernel: int
    step: int
    pads: tuple[int, int]
    more: int
    """Its ``output_padding``."""

    def quarter(self, phase: int) -> Quarter:
        """Say how the result of every other value is to lie in the result of all."""
        whole = (self.size - 1) * self.step + self.kernel + self.more - sum(self.pads)
        count = (self.size - phase + 1) // STEP
        first = self.step * phase - self.pads[0]
        spare = whole - first - ((count - 1) * STEP * self.step + self.kernel)
        return Quarter(max(-first, 0), max(-spare, 0), max(first, 0), max(spare, 0))


def transposed(
    add: Branch, graph: Rewriter, parts: Sequence[str], weight: str, geometry: Sequence[Transposed]
) -> None:
    """Transpose a convolution whose signal lies in four quarters: each in larger steps, then their sum."""
    total = ""
    for k, part in enumerate(parts):
        lines = [line.quarter(phase) for line, phase in zip(geometry, divmod(k, STEP), strict=True)]
        value = add(
            "ConvTranspose", part, weight,
            strides=[STEP * line.step for line in geometry],
            pads=[line.begin for line in lines] + [line.end for line in lines],
        )  # fmt: skip
        around = [line.before for line in lines], [line.after for line in lines]
        if any(around[0] + around[1]):
            value = add("Pad", value, graph.constant([0, 0, *around[0], 0, 0, *around[1]]))
        total = add("Add", total, value) if total else value
