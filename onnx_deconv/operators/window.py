"""Sliding windows: the geometry that convolutions and pools share, and its transpose."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from onnx_deconv.operators.builder import Operand, Signal
from onnx_deconv.operators.site import Site


def impossible(attributes: Mapping[str, Any], *_: int) -> str | None:
    """Refuse windows of no size, steps that do not move, padding that cuts, and no groups."""
    sizes = {name: attributes.get(name) or [] for name in ("kernel_shape", "strides", "dilations")}
    wrong = [f"{name}={given}" for name, given in sizes.items() if min(given, default=1) < 1]
    if min(pads := attributes.get("pads") or [], default=0) < 0:
        wrong.append(f"pads={pads}")
    if (groups := attributes.get("group", 1)) < 1:
        wrong.append(f"group={groups}")
    return wrong[0] if wrong else None


@dataclass(frozen=True)
class Window:
    """Kernel, strides, dilations and padding of a forward node, one entry per spatial axis.

    Attributes
    ----------
    kernel, strides, dilations
        As in the operator's specification.
    begins, ends
        Padding resolved from ``pads`` and ``auto_pad``; ``None`` along an axis where it depends on
        a size that is only known at run time.
    sizes
        The forward input's spatial sizes, ``None`` where unknown.
    ceil
        Whether the number of windows is rounded up (pools).
    lower
        Whether the odd element of a run-time padding goes first (``auto_pad=SAME_LOWER``).
    """

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    begins: tuple[int | None, ...]
    ends: tuple[int | None, ...]
    sizes: tuple[int | None, ...]
    ceil: bool
    lower: bool

    @classmethod
    def of(cls, at: Site, kernel: Sequence[int | None]) -> Self:
        """Read a node's window; ``kernel`` is used where it has no ``kernel_shape``."""
        kernel = tuple(at.attr("kernel_shape", kernel))
        if None in kernel:
            raise at.unsupported("the kernel's size is only known at run time")
        sizes, n = at.shape_of(0)[2:], len(kernel)
        strides, dilations = at.attr("strides", [1] * n), at.attr("dilations", [1] * n)
        auto = at.attr("auto_pad", "NOTSET")
        begins, ends = _pads(at, auto, kernel, strides, dilations)  # type: ignore[arg-type]
        return cls(
            kernel,  # type: ignore[arg-type]
            tuple(strides),
            tuple(dilations),
            begins,
            ends,
            sizes,
            bool(at.attr("ceil_mode", 0)),
            auto == "SAME_LOWER",
        )

    def extent(self, k: int) -> int:
        """Return how many positions a window spans along axis ``k``."""
        return (self.kernel[k] - 1) * self.dilations[k] + 1

    def left_over(self, k: int) -> int | None:
        """Return by how much the input exceeds what its windows reach along axis ``k``.

        Positive: the last columns are seen by no window (stride > 1). Negative: the last windows hang
        over the edge (``ceil_mode``). ``None``: known only at run time.
        """
        size, begin, end = self.sizes[k], self.begins[k], self.ends[k]
        if begin is None or end is None:
            return None
        if size is None:
            return 0 if self.strides[k] == 1 else None
        return size + begin + end - self.reach(k, windows(size + begin + end, self, k, begin))

    def reach(self, k: int, count: int) -> int:
        """Return how many positions ``count`` windows cover along axis ``k``, padding included."""
        return (count - 1) * self.strides[k] + self.extent(k)

    def transpose(self, at: Site, signal: Signal, weight: Signal, **attributes: Any) -> Signal:
        """Send a signal back through the windows: ConvTranspose to the forward input's size.

        ConvTranspose alone infers a size that is right only for stride 1: for larger strides several
        input sizes give the same number of windows. Where the input's size is known, output padding
        makes up the difference; elsewhere the result is made too large and cut at run time.
        """
        n = len(self.kernel)
        left = [self.left_over(k) for k in range(n)]
        if all(d is not None and d >= 0 for d in left):
            pads = [*self.begins, *self.ends]
            return at.op.ConvTranspose(
                signal,
                weight,
                strides=self.strides,
                pads=pads,
                output_padding=_given(left),
                **attributes,
            )
        # The windows leave less than a stride of the input unseen.
        begins = [0 if b is None else b for b in self.begins]
        spare = [stride - 1 for stride in self.strides]
        whole = at.op.ConvTranspose(
            signal,
            weight,
            strides=self.strides,
            pads=begins + [0] * n,
            output_padding=_given(spare),
            **attributes,
        )
        return _cut(at, self, whole)


def windows(padded: int, window: Window, k: int, begin: int) -> int:
    """Count the windows along axis ``k`` of a padded input, as the pools' specification does."""
    steps = (padded - window.extent(k)) / window.strides[k]
    if not window.ceil:
        return math.floor(steps) + 1
    count = math.ceil(steps) + 1
    size = window.sizes[k]
    # A window that would start in the padding after the input is no window.
    if size is not None and (count - 1) * window.strides[k] >= size + begin:
        count -= 1
    return count


def channels_of(at: Site) -> int:
    """Return the number of channels of input 0.

    Raises
    ------
    RuleError
        If it is only known at run time.
    """
    channels = at.shape_of(0)[1]
    if channels is None:
        raise at.unsupported("the number of channels is only known at run time")
    return channels


def spatial_shape(at: Site, i: int) -> Operand:
    """Return the sizes of input ``i`` after batch and channel, as int64."""
    known = at.shape_of(i)[2:]
    if None not in known:
        return [d for d in known if d is not None]
    return at.op.Slice(at.shape(i), [2], [len(known) + 2], [0])


def crop(at: Site, signal: Signal, begins: Operand, sizes: Operand) -> Signal:
    """Cut the spatial axes to the given sizes, starting at ``begins``."""
    axes = at.spatial_axes()
    if isinstance(begins, list) and isinstance(sizes, list):
        ends: Operand = [b + s for b, s in zip(begins, sizes, strict=True)]
    elif isinstance(begins, list) and not any(begins):
        ends = sizes
    else:
        ends = at.op.Add(begins, sizes)
    return at.op.Slice(signal, begins, ends, axes)


def _given(padding: Sequence[int | None]) -> Sequence[int | None] | None:
    return padding if any(padding) else None


def _pads(
    at: Site, auto: str, kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
) -> tuple[tuple[int | None, ...], tuple[int | None, ...]]:
    n = len(kernel)
    if auto in ("", "NOTSET"):
        pads = at.attr("pads", [0] * (2 * n))
        return tuple(pads[:n]), tuple(pads[n:])
    if auto == "VALID":
        return (0,) * n, (0,) * n
    begins: list[int | None] = []
    ends: list[int | None] = []
    for k, size in enumerate(at.shape_of(0)[2:]):
        extent = (kernel[k] - 1) * dilations[k] + 1
        if size is None and strides[k] > 1:
            begins.append(None)
            ends.append(None)
            continue
        # With stride 1 the size cancels out.
        known = 1 if size is None else size
        total = max((math.ceil(known / strides[k]) - 1) * strides[k] + extent - known, 0)
        small, large = total // 2, total - total // 2
        begins.append(small if auto == "SAME_UPPER" else large)
        ends.append(large if auto == "SAME_UPPER" else small)
    return tuple(begins), tuple(ends)


def _cut(at: Site, window: Window, whole: Signal) -> Signal:
    """Cut a reconstruction that is too large to the forward input's size, known or not."""
    n = len(window.kernel)
    sizes = spatial_shape(at, 0)
    if None not in window.begins:
        return crop(at, whole, [0] * n, sizes)
    # SAME padding of a size known at run time: total = max((⌈L/s⌉-1)·s + extent - L, 0).
    op, strides = at.op, list(window.strides)
    counts = op.Div(op.Add(sizes, [s - 1 for s in strides]), strides)
    extents = [window.extent(k) - s for k, s in enumerate(strides)]
    total = op.Max(op.Sub(op.Add(op.Mul(counts, strides), extents), sizes), [0])
    begins: Operand = op.Div(op.Add(total, [1]) if window.lower else total, [2])
    fixed = [0 if b is None else 1 for b in window.begins]
    if any(fixed):
        # `begins` of the other axes were given to ConvTranspose already.
        begins = op.Mul(begins, [1 - f for f in fixed])
    return crop(at, whole, begins, sizes)
