"""Where the values of windows with stride 2 come from and go to, along one axis.

Values are moved by convolutions whose filter has one number (a tap), because those have a kernel for
onnxruntime's blocked layout, which Slice and Pad have not.
"""

from typing import NamedTuple

KERNEL, STRIDE = 3, 2
"""Of windows that overlap."""


class Shift(NamedTuple):
    """How a convolution moves values along one axis: its filter's size, the place of the tap, and padding."""

    kernel: int = 1
    tap: int = 0
    begin: int = 0
    end: int = 0


STAYS = Shift()


def every_other(size: int, offset: int, count: int) -> Shift:
    """Take the values at offset, offset + 2, ..., so many of them; 0 outside."""
    tap, begin = max(offset, 0), max(-offset, 0)
    span = size + begin - STRIDE * (count - 1)
    kernel = max(tap + 1, span - 1)
    return Shift(kernel, tap, begin, max(0, kernel - span))


def shifted(size: int, by: int, count: int) -> Shift:
    """Move values by so many places, and make them so many; 0 where none comes from."""
    tap, begin = max(-by, 0), max(by, 0)
    kernel = max(tap + 1, size + begin - count + 1)
    return Shift(kernel, tap, begin, count - size - begin + kernel - 1)


class Phase(NamedTuple):
    """Every other value along an axis: how many zeros come before it, and its length with all zeros."""

    lead: int
    length: int


class PoolAxis(NamedTuple):
    """A pool with stride 2 along one axis."""

    size: int
    """Of what is pooled."""
    windows: int
    pad: int
    """Before the first value."""

    def place(self, position: int) -> int:
        """Return where the last window has a position; beyond the size it is padding."""
        return STRIDE * (self.windows - 1) + position - self.pad

    def is_outside(self, position: int) -> bool:
        """Tell whether some window has this position in the padding."""
        return position < self.pad or self.place(position) >= self.size

    def at_position(self, position: int) -> Shift:
        """Take what each window has at a position."""
        return every_other(self.size, position - self.pad, self.windows)

    def at_phase(self, phase: int) -> Shift:
        """Take the values of a phase."""
        return every_other(self.size, phase, self.length(phase))

    def length(self, phase: int) -> int:
        """Count the values of a phase."""
        return (self.size - phase + 1) // STRIDE

    def sources(self, phase: int, layout: Phase) -> list[tuple[int, Shift]]:
        """List the positions of windows that fall on a phase, and how the windows are moved to there."""
        places = [(k, k - self.pad) for k in range(KERNEL)]
        return [
            (k, shifted(self.windows, place // STRIDE + layout.lead, layout.length))
            for k, place in places
            if place % STRIDE == phase
        ]

    def layout(self, phase: int) -> Phase:  # noqa: ARG002 - as a transposed convolution's
        """Return the layout of a phase where both shall be as long as the first."""
        return Phase(0, self.length(0))


class TransposedAxis(NamedTuple):
    """A transposed convolution along one axis."""

    size: int
    """Of the signal."""
    kernel: int
    stride: int
    pads: tuple[int, int]
    output_padding: int

    def layout(self, phase: int) -> Phase:
        """Return the layout of a phase for which its results begin no later than the whole signal's."""
        lead = max(0, -(-self._first(phase) // (STRIDE * self.stride)))
        return Phase(lead, (self.size - phase + 1) // STRIDE + lead)

    def cut(self, phase: int) -> tuple[int, int, int]:
        """Count what a phase's results have before and after the whole signal's, and what they lack after."""
        lead, length = self.layout(phase)
        stride = STRIDE * self.stride
        before = lead * stride - self._first(phase)
        whole = (self.size - 1) * self.stride + self.kernel + self.output_padding - sum(self.pads)
        after = (length - 1) * stride + self.kernel - before - whole
        return before, max(after, 0), max(-after, 0)

    def _first(self, phase: int) -> int:
        """Return where the results of the phase's first value begin."""
        return self.stride * phase - self.pads[0]
