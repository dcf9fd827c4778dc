"""Where the windows of filters and pools lie: padding, and positions."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from torch_oracle.operators import Call


@dataclass(frozen=True)
class Windows:
    """The windows of one node, one number per spatial axis."""

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    begins: tuple[int, ...]
    ends: tuple[int, ...]

    @classmethod
    def of(cls, at: Call, sizes: Sequence[int], kernel: Sequence[int]) -> "Windows":
        """Read a node's attributes."""
        n = len(kernel)
        strides, dilations = at.get("strides") or [1] * n, at.get("dilations") or [1] * n
        pads = at.get("pads") or [0] * (2 * n)
        auto = at.get("auto_pad", "NOTSET")
        begins, ends = pads[:n], pads[n:]
        if auto == "VALID":
            begins = ends = [0] * n
        elif auto.startswith("SAME"):
            rows = zip(sizes, kernel, strides, dilations, strict=True)
            totals = [max((-(-size // s) - 1) * s + (k - 1) * d + 1 - size, 0) for size, k, s, d in rows]
            small, large = [t // 2 for t in totals], [t - t // 2 for t in totals]
            begins, ends = (small, large) if auto == "SAME_UPPER" else (large, small)
        return cls(tuple(kernel), tuple(strides), tuple(dilations), tuple(begins), tuple(ends))

    def counts(self, sizes: Sequence[int], *, ceil: bool = False) -> list[int]:
        """Return how many windows each axis has; none starts behind the input in the padding."""
        return [self._count(axis, size, ceil) for axis, size in enumerate(sizes)]

    def _count(self, axis: int, size: int, ceil: bool) -> int:  # noqa: FBT001
        k, s, d = self.kernel[axis], self.strides[axis], self.dilations[axis]
        room = size + self.begins[axis] + self.ends[axis] - ((k - 1) * d + 1)
        count = (-(-room // s) if ceil else room // s) + 1
        return count - 1 if ceil and (count - 1) * s >= size + self.begins[axis] else count

    def places(self, sizes: Sequence[int], counts: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Return the flat position of each number of each window, and whether it lies in the input.

        Both of shape (windows, numbers per window).
        """
        flat, inside = torch.zeros(1, 1, dtype=torch.int64), torch.ones(1, 1, dtype=torch.bool)
        for axis, (size, count) in enumerate(zip(sizes, counts, strict=True)):
            along = self.along(axis, count)
            within = (along >= 0) & (along < size)
            clamped = along.clamp(0, size - 1)
            flat = (flat[:, None, :, None] * size + clamped[None, :, None, :]).flatten(2).flatten(0, 1)
            inside = (inside[:, None, :, None] & within[None, :, None, :]).flatten(2).flatten(0, 1)
        return flat, inside

    def along(self, axis: int, count: int) -> Tensor:
        """Return the positions on one axis, shape (windows, numbers); negative in the padding."""
        starts = torch.arange(count)[:, None] * self.strides[axis] - self.begins[axis]
        return starts + torch.arange(self.kernel[axis]) * self.dilations[axis]


def framed(x: Tensor, begins: Sequence[int], ends: Sequence[int], fill: float = 0.0) -> Tensor:
    """Pad the last axes, or cut them where a padding is negative."""
    pairs = zip(reversed(begins), reversed(ends), strict=True)
    return functional.pad(x, list(itertools.chain.from_iterable(pairs)), value=fill)
