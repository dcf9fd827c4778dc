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

from onnx_deconv.compiler.passes.rewriter import Branch, Rewriter

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


class Part(NamedTuple):
    """Every other value along an axis: the zeros before it, and how long it is with all zeros."""

    lead: int
    length: int


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

    def sources(self, phase: int, part: Part) -> list[tuple[int, Line]]:
        """List the positions that fall on every other value, and how windows are moved to there."""
        places = [(k, k - self.pad) for k in range(KERNEL)]
        return [
            (k, _moved(self.windows, p // STEP + part.lead, part.length))
            for k, p in places
            if p % STEP == phase
        ]

    def part(self, phase: int) -> Part:  # noqa: ARG002 - as a transposed convolution's
        """Say how every other value is to lie where both parts shall be as long as the first."""
        return Part(0, self.length(0))


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
    add: Blocked, picture: str, maximum: str, signal: str, rows: Axis, columns: Axis,
    parts: Sequence[Sequence[Part]],
) -> list[str]:  # fmt: skip
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
    parts
        How the picture's rows 0, 2, ... and 1, 3, ... shall lie in the results, and so its columns.

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
        row = _sum(add, [(*shares[k], line, _STAYS) for k, line in rows.sources(phase, Part(0, length))])

        def across(value: str, line: Line, phase: int = phase, **more: object) -> str:
            return add.moved(value, rows.phase(phase), line, strides=(STEP, STEP), **more)  # type: ignore[arg-type]

        distances = add.distances(picture, down(in_rows, rows.phase(phase)), columns, across)
        taken = add.shares(distances, row)
        kept = _moved(length, parts[0][phase].lead, parts[0][phase].length)
        for other in range(STEP):
            sources = columns.sources(other, parts[1][other])
            found.append(_sum(add, [(*taken[k], kept, line) for k, line in sources]))
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


class Transposed(NamedTuple):
    """A transposed convolution along one axis."""

    size: int
    """Of the signal."""
    kernel: int
    step: int
    pads: tuple[int, int]
    more: int
    """Its ``output_padding``."""

    def part(self, phase: int) -> Part:
        """Say how every other value is to lie for its results to begin not after all the picture's."""
        lead = max(0, -(-self._first(phase) // (STEP * self.step)))
        return Part(lead, (self.size - phase + 1) // STEP + lead)

    def cut(self, phase: int) -> tuple[int, int, int]:
        """Count what a part's results have before and behind those of the picture, and what they lack."""
        lead, length = self.part(phase)
        step = STEP * self.step
        before = lead * step - self._first(phase)
        whole = (self.size - 1) * self.step + self.kernel + self.more - sum(self.pads)
        behind = (length - 1) * step + self.kernel - before - whole
        return before, max(behind, 0), max(-behind, 0)

    def _first(self, phase: int) -> int:
        """Say where in the results those of the first value begin."""
        return self.step * phase - self.pads[0]


def transposed(add: Branch, parts: Sequence[str], weight: str, geometry: Sequence[Transposed]) -> None:
    """Transpose a convolution whose signal lies in four quarters: each in larger steps, then their sum."""
    total = ""
    for k, part in enumerate(parts):
        lines = [line.cut(phase) for line, phase in zip(geometry, divmod(k, STEP), strict=True)]
        before, behind, lack = zip(*lines, strict=True)
        value = add(
            "ConvTranspose", part, weight,
            strides=[STEP * line.step for line in geometry], pads=[*before, *behind], output_padding=lack,
        )  # fmt: skip
        total = add("Add", total, value) if total else value
