"""Where the windows of convolutions and pools lie."""

from collections.abc import Sequence
from dataclasses import dataclass
from types import EllipsisType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_deconv.verification.reference.visit import Visit

Slices = tuple[EllipsisType | slice, ...]


@dataclass(frozen=True)
class Windows:
    """Which input position each window's kernel offset looks at: i·stride + k·dilation - begin.

    They look at a frame: the input with its padding around it, large enough for every window.
    """

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    begin: tuple[int, ...]
    end: tuple[int, ...]
    size: tuple[int, ...]
    count: tuple[int, ...]

    @classmethod
    def of(cls, at: Visit, kernel: Sequence[int]) -> "Windows":
        """Read the windows of a convolution or a pool: as many as the signal has positions."""
        rank, size, count = len(kernel), at.shape()[2:], at.signal.shape[2:]
        strides = at.ints("strides") or [1] * rank
        dilations = at.ints("dilations") or [1] * rank
        pads = at.ints("pads") or [0] * (2 * rank)
        begin, end = pads[:rank], pads[rank:]
        automatic = at.attr("auto_pad", "NOTSET")
        if automatic == "VALID":
            begin = end = [0] * rank
        elif automatic != "NOTSET":
            reach = [(count[a] - 1) * strides[a] + (kernel[a] - 1) * dilations[a] + 1 for a in range(rank)]
            both = [halves(max(0, reach[a] - size[a]), at) for a in range(rank)]
            begin, end = ([ends[side] for ends in both] for side in (0, 1))
        return cls(*map(tuple, (kernel, strides, dilations, begin, end, size, count)))

    @property
    def frame(self) -> tuple[int, ...]:
        """The size of the frame."""
        return tuple(
            max(
                self.begin[a] + self.size[a] + self.end[a],
                (self.count[a] - 1) * self.strides[a] + (self.kernel[a] - 1) * self.dilations[a] + 1,
            )
            for a in range(len(self.kernel))
        )

    @property
    def inside(self) -> Slices:
        """Where in the frame the input lies."""
        return (..., *(slice(b, b + n) for b, n in zip(self.begin, self.size, strict=True)))

    def seen(self, offset: Sequence[int]) -> Slices:
        """Return where in the frame the windows look with this offset of the kernel."""
        starts = [k * d for k, d in zip(offset, self.dilations, strict=True)]
        return (
            ...,
            *(
                slice(start, start + (c - 1) * s + 1, s)
                for start, s, c in zip(starts, self.strides, self.count, strict=True)
            ),
        )

    def framed(self, inner: NDArray[Any], fill: float) -> NDArray[Any]:
        """Return the frame around `inner`, padded with `fill`."""
        frame = np.full((*inner.shape[: -len(self.size)], *self.frame), fill, inner.dtype)
        frame[self.inside] = inner
        return frame


def halves(total: int, at: Visit) -> tuple[int, int]:
    """Share a padding between both ends; SAME_UPPER puts the odd one at the end."""
    smaller, larger = total // 2, total - total // 2
    return (smaller, larger) if at.attr("auto_pad") == "SAME_UPPER" else (larger, smaller)
