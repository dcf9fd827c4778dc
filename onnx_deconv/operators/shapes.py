"""Shapes that the standard's own inference does not find: what entries name as their ``shape``."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

Sizes = list[int | None]
"""A shape; ``None`` for a size that is only known at run time."""

Numbers = NDArray[Any]
"""Plain numbers, and ``None`` for those that are only known at run time."""


@dataclass(frozen=True)
class Known:
    """What is known of a node before the model runs.

    Attributes
    ----------
    attributes
        By name, as Python values.
    shapes
        Of its inputs; ``None`` where not even the rank is known.
    numbers
        What its inputs are, where those are few and follow from shapes and constants; else ``None``.
    """

    attributes: Mapping[str, Any]
    shapes: Sequence[Sizes | None]
    numbers: Sequence[Numbers | None]

    @property
    def source(self) -> Sizes | None:
        """The first input's shape."""
        return self.shapes[0] if self.shapes else None

    def small(self, i: int) -> list[Any] | None:
        """Return what input ``i`` is, as a list; ``None`` where it is not given or not known."""
        found = self.numbers[i] if i < len(self.numbers) else None
        return None if found is None else list(found.reshape(-1))


def same(at: Known) -> Sizes | None:
    """The first input's shape."""
    return at.source


def reshape(at: Known) -> Sizes | None:
    """-1 stays open, 0 copies the input's size."""
    target, source = at.small(1), at.source
    if target is None:
        return None
    copied = [source[k] if t == 0 and source else t for k, t in enumerate(target)]
    return [size if size is not None and size > 0 else None for size in copied]


def expand(at: Known) -> Sizes | None:
    """Each axis as long as the longer of both."""
    target, source = at.small(1), at.source
    if target is None:
        return None
    lead = [1] * max(0, len(target) - len(source or []))
    padded = [*lead, *(source or [None] * len(target))]
    return [
        None if t is None or s is None else max(s, t)
        for s, t in zip(padded[-len(target) :], target, strict=True)
    ]


def pad(at: Known) -> Sizes | None:
    """Each axis with its padding; not for pads of some axes alone."""
    pads, source = at.small(1), at.source
    if pads is None or not source or len(at.shapes) > 3:  # noqa: PLR2004
        return None
    begins, ends = pads[: len(source)], pads[len(source) :]
    return [None if None in sizes else sum(sizes) for sizes in zip(source, begins, ends, strict=True)]


def cut(at: Known) -> Sizes | None:
    """Each axis as long as the part that is kept, whose ends may be computed from sizes."""
    starts, ends, source = at.small(1), at.small(2), at.source
    if starts is None or ends is None or not source:
        return None
    axes = at.small(3) if len(at.numbers) > 3 else [*range(len(starts))]  # noqa: PLR2004
    steps = at.small(4) if len(at.numbers) > 4 else [1] * len(starts)  # noqa: PLR2004
    if axes is None or steps is None or None in (*axes, *steps):
        return None
    found = list(source)
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        size = source[axis]
        open_ = None in (size, start, end)
        found[axis] = None if open_ else len(range(*slice(start, end, step).indices(size or 0)))
    return found


def resize(at: Known) -> Sizes | None:
    """The sizes that are given, if they are for all axes."""
    wanted, source = at.small(3), at.source
    return wanted if wanted is not None and source and len(wanted) == len(source) else None


def max_unpool(at: Known) -> Sizes | None:
    """The shape that is given as the third input."""
    return at.small(2)


def ceil_pool(at: Known) -> Sizes | None:
    """Count the windows of a pool that rounds up; ``None`` for any other.

    A window that would start in the padding after the input is no window.
    """
    source, given = at.source, at.attributes
    if not given.get("ceil_mode") or source is None:
        return None
    kernel, n, auto = given["kernel_shape"], len(given["kernel_shape"]), given.get("auto_pad", b"NOTSET")
    strides, dilations = given.get("strides", [1] * n), given.get("dilations", [1] * n)
    pads, counts = given.get("pads", [0] * (2 * n)), Sizes()
    for k, size in enumerate(source[2:]):
        if size is None:
            counts.append(None)
            continue
        if auto.startswith(b"SAME"):
            counts.append(-(-size // strides[k]))
            continue
        rest = size + pads[k] + pads[n + k] - (kernel[k] - 1) * dilations[k] - 1
        last = -(-rest // strides[k])
        beyond = last * strides[k] >= size + pads[k]
        counts.append(last if beyond else last + 1)
    return [*source[:2], *counts]
