"""Unpooling of windows with stride 2, by operators of onnxruntime's blocked layout alone.

Where windows of 3×3 overlap, a window's first maximum in row-major order lies in the first of its rows that
holds the maximum, and is the first in that row. So a signal goes first to one of three rows, where it meets
those of the windows above and below, then to one of three columns. Where two values are equal is told by the
operators that the blocked layout has (depthwise convolutions with one tap, Add, Mul, Relu): of
d = maximum - value,

    Relu(2⁻²² - 2¹²⁷ d)   is 2⁻²² if d = 0, and 0 if not,

as no float32 above 0 is below 2⁻¹⁴⁹. This is exact for all finite values, where convolutions are computed in
float32 (not TF32): they multiply by powers of 2 and add zeros. Of a signal, what is below 2⁻¹²⁷ is lost.
"""

from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

import numpy as np

from onnx_deconv.compiler.passes.builder import Builder
from onnx_deconv.compiler.passes.pooling_geometry import (
    KERNEL,
    STAYS,
    STRIDE,
    Phase,
    PoolAxis,
    Shift,
    TransposedAxis,
    shifted,
)
from onnx_deconv.compiler.passes.rewriter import Rewriter

_STEEP, _SMALL = 2.0**127, 2.0**-22

Share = tuple[str, float]
"""A value, and the number that it is still to be multiplied by."""


class BlockedBuilder(Builder):
    """Nodes that onnxruntime keeps in its blocked layout.

    Parameters
    ----------
    graph, name
        As of :class:`Builder`.
    channels
        How many channels values have, where nothing else is said.
    """

    def __init__(self, graph: Rewriter, name: str, channels: int) -> None:
        super().__init__(graph, name)
        self.channels = channels
        self._ones: dict[str, str] = {}

    def moved(
        self, value: str, rows: Shift = STAYS, columns: Shift = STAYS, *,
        by: float = 1, strides: Sequence[int] = (1, 1), bias: float | None = None, plus: str = "",
        channels: int | None = None,
    ) -> str:  # fmt: skip
        """Convolve each channel with a filter of one tap, whose number is ``by``; add a value, or a bias.

        Not both: onnxruntime adds them in an order of its own, which is not exact.
        """
        channels = channels or self.channels
        weight = np.zeros((channels, 1, rows.kernel, columns.kernel), np.float32)
        weight[:, :, rows.tap, columns.tap] = by
        biases = [] if bias is None else [np.full(channels, bias, np.float32)]
        pads = [rows.begin, columns.begin, rows.end, columns.end]
        made = self.Conv(value, weight, *biases, group=channels, strides=list(strides), pads=pads)
        return str(self.Add(made, plus) if plus else made)

    def ones(self, value: str) -> str:
        """Give 1 everywhere."""
        if value not in self._ones:
            self._ones[value] = self.moved(value, by=0, bias=1)
        return self._ones[value]

    def small(self, distance: str) -> str:
        """Give a small number where a distance is 0, and 0 elsewhere."""
        return str(self.Relu(self.moved(distance, by=-_STEEP, bias=_SMALL)))

    def shares(self, distances: Sequence[str], signal: str) -> list[Share]:
        """Divide a signal among positions: the first whose distance is 0 takes it, or else the last."""
        taken: list[Share] = []
        for distance in distances:
            share = self.Mul(self.small(distance), signal)
            taken.append((share, 1 / _SMALL))
            signal = self.moved(share, by=-1 / _SMALL, plus=signal)
        return [*taken, (signal, 1)]

    def distances(self, value: str, maximum: str, axis: PoolAxis, take: Callable[..., str]) -> list[str]:
        """Return maximum - value at all of a window's positions but the last; above 0 in the padding."""
        found = []
        for k in range(KERNEL - 1):
            found.append(take(value, axis.at_position(k), by=-1, plus=maximum))
            if axis.is_outside(k):  # a 0 there is at no distance from a maximum of 0
                outside = self.Relu(take(self.ones(value), axis.at_position(k), by=-1, bias=1))
                found[-1] = self.Add(found[-1], outside)
        return found

    def total(self, terms: Sequence[tuple[Share, Shift, Shift]]) -> str:
        """Add up values, each multiplied and moved."""
        total = ""
        for (value, by), rows, columns in terms:
            stays = rows == columns == STAYS and by == 1 and not total
            total = value if stays else self.moved(value, rows, columns, by=by, plus=total)
        return total


def overlapping(
    add: BlockedBuilder, pooled: str, maximum: str, signal: str, rows: PoolAxis, columns: PoolAxis,
    layouts: Sequence[Sequence[Phase]],
) -> list[str]:  # fmt: skip
    """Send each window's signal to its first maximum, where windows are 3×3 with stride 2.

    Parameters
    ----------
    add
        Where the nodes go.
    pooled, maximum
        What the pool reads and gives.
    signal
        A number for each window.
    rows, columns
        The pool's geometry.
    layouts
        The layout of the results' even and odd rows, and of their even and odd columns.

    Returns
    -------
    list
        The four phases: even rows at even and at odd columns, odd rows at both.
    """
    pads = [0, columns.pad, 0, max(0, STRIDE * columns.windows + 1 - columns.size - columns.pad)]
    in_rows = add.MaxPool(pooled, kernel_shape=[1, KERNEL], strides=[1, STRIDE], pads=pads)

    def down(value: str, shift: Shift, **more: Any) -> str:
        return add.moved(value, shift, strides=(STRIDE, 1), **more)

    shares = add.shares(add.distances(in_rows, maximum, rows, down), signal)
    found = []
    for phase in range(STRIDE):
        length = rows.length(phase)
        row = add.total([(shares[k], shift, STAYS) for k, shift in rows.sources(phase, Phase(0, length))])

        def across(value: str, shift: Shift, phase: int = phase, **more: Any) -> str:
            return add.moved(value, rows.at_phase(phase), shift, strides=(STRIDE, STRIDE), **more)

        distances = add.distances(pooled, down(in_rows, rows.at_phase(phase)), columns, across)
        taken = add.shares(distances, row)
        kept = shifted(length, *layouts[0][phase])
        for other in range(STRIDE):
            sources = columns.sources(other, layouts[1][other])
            found.append(add.total([(taken[k], kept, shift) for k, shift in sources]))
    return found


def side_by_side(
    add: BlockedBuilder, pooled: str, maximum: str, signal: str, rows: PoolAxis, columns: PoolAxis
) -> list[str]:
    """Send the signal of windows of 2×2 with stride 2 to their first maxima.

    Parameters and result are those of :func:`overlapping`. A signal of 2¹⁰⁶ or more would become infinite.
    """
    left, phases = add.moved(signal, by=1 / _SMALL), []
    for row, column in list(product(range(STRIDE), repeat=2))[:-1]:
        where = rows.at_position(row), columns.at_position(column)
        distance = add.moved(pooled, *where, by=-1, strides=(STRIDE, STRIDE), plus=maximum)
        phases.append(add.Mul(add.small(distance), left))
        left = add.moved(phases[-1], by=-1 / _SMALL, plus=left)
    return [*phases, add.moved(left, by=_SMALL)]


def transposed(add: Builder, phases: Sequence[str], weight: str, geometry: Sequence[TransposedAxis]) -> str:
    """Transpose a convolution whose signal is in four phases: each with twice the stride, then their sum."""
    total = ""
    for k, signal in enumerate(phases):
        cuts = [axis.cut(phase) for axis, phase in zip(geometry, divmod(k, STRIDE), strict=True)]
        before, after, lack = zip(*cuts, strict=True)
        strides = [STRIDE * axis.stride for axis in geometry]
        value = add.ConvTranspose(
            signal, weight, strides=strides, pads=[*before, *after], output_padding=lack
        )
        total = add.Add(total, value) if total else value
    return total
