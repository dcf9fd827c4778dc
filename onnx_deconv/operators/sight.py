"""What a value sees of the image: strips, and how taps and joins change them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

_NOTHING = np.iinfo(np.int32).max
"""The first pixel of a unit that sees none."""


@dataclass(frozen=True)
class Strip:
    """What the positions along one axis of a value see along one axis of the image.

    ``axis`` counts from the last, as broadcasting does; ``None``: all positions see the same.
    """

    axis: int | None
    bounds: NDArray[Any]
    length: int
    size: float = 1
    jump: float = 1
    offset: float = 0

    def read(self, taps: NDArray[Any], scale: float, first: float, extent: float) -> "Strip":
        """Let each new position see what its taps see; ``scale, first, extent`` say it in closed form."""
        inside = (taps >= 0) & (taps < len(self.bounds))
        seen = self.bounds[np.where(inside, taps, 0)]
        bounds = np.stack(
            [
                np.where(inside, seen[..., 0], _NOTHING).min(axis=1, initial=_NOTHING),
                np.where(inside, seen[..., 1], -_NOTHING).max(axis=1, initial=-_NOTHING),
            ],
            axis=1,
        )
        size, offset = self.size + (extent - 1) * self.jump, self.offset + first * self.jump
        return replace(self, bounds=bounds, size=size, jump=self.jump * scale, offset=offset)

    def joined(self, other: "Strip") -> "Strip":
        """See what either sees."""
        a, b = self.bounds, other.bounds
        axes = {s.axis for s in (self, other) if s.axis is not None and len(s.bounds) > 1}
        if len(axes) > 1 or (len(a) != len(b) and 1 not in (len(a), len(b))):
            return self.whole()
        bounds = np.stack([np.minimum(a[:, 0], b[:, 0]), np.maximum(a[:, 1], b[:, 1])], axis=1)
        axis = axes.pop() if axes else self.axis if self.axis == other.axis else None
        if 0 in (self.jump, other.jump) or self.jump != other.jump:
            return replace(self.whole(), axis=axis, bounds=bounds)
        start = min(self.offset, other.offset)
        end = max(self.offset + self.size, other.offset + other.size)
        return replace(self, axis=axis, bounds=bounds, size=end - start, offset=start)

    def whole(self) -> "Strip":
        """See everything, from everywhere."""
        return Strip(None, np.array([[0, self.length]]), self.length, self.length, 0, 0)

    def pooled(self) -> "Strip":
        """See what all positions see together."""
        hull = [[self.bounds[:, 0].min(), self.bounds[:, 1].max()]]
        return replace(self.whole(), bounds=np.array(hull))

    def clean(self) -> NDArray[Any]:
        """Return the bounds, (0, 0) where nothing is seen."""
        nothing = self.bounds[:, :1] >= self.bounds[:, 1:]
        return np.where(nothing, 0, self.bounds).astype(np.int64)


class Sight(NamedTuple):
    """What a value sees: one strip per axis of the image."""

    strips: tuple[Strip, ...]
    note: str | None = None

    def map(self, change: Callable[[Strip], Strip]) -> "Sight":
        """Change every strip."""
        return self._replace(strips=tuple(map(change, self.strips)))

    def joined(self, other: "Sight") -> "Sight":
        """See what either sees, along every axis."""
        pairs = zip(self.strips, other.strips, strict=True)
        return Sight(tuple(a.joined(b) for a, b in pairs), self.note or other.note)

    def blurred(self, axes: Sequence[int] | None) -> "Sight":
        """Let every position along these axes (all if None) see what all see together."""
        return self.map(lambda s: s.pooled() if axes is None or s.axis in axes else s)
