"""Feature maps as their phases (polyphase components): with step 2 along an axis, even and odd values.

In two dimensions and with step 2 there are four: even and odd rows at even and odd columns, in row-major
order. What is done to all values alike can be done to each phase, which a runtime may keep in a layout of its
own; interleaving them costs least where the channels are fewest.
"""

from collections.abc import Sequence
from itertools import product
from typing import NamedTuple

from onnx import TensorProto

from onnx_deconv.compiler.passes.blocked_layout import BlockedBuilder
from onnx_deconv.compiler.passes.builder import Builder
from onnx_deconv.compiler.passes.masking import Mask, mask_of
from onnx_deconv.compiler.passes.operations import POINTWISE, RELU, dense_convolution
from onnx_deconv.compiler.passes.pattern import Match
from onnx_deconv.compiler.passes.pooling_geometry import STRIDE, every_other

_CONV = dense_convolution()


class Polyphase(NamedTuple):
    """A value of the graph, and the phases that make it up."""

    value: str
    phases: list[str]
    """Of equal size; what one has beyond the value's size is cut off when they are interleaved."""
    channels: int


def interleaved(add: Builder, maps: Polyphase, sizes: Sequence[int], step: int) -> str:
    """Put phases together; return the value.

    The last axis first, the phases' values side by side by a Concat along a new axis: measured the fastest
    (docs/performance.md).

    Parameters
    ----------
    add
        Where the nodes go.
    maps
        The phases.
    sizes
        The value's spatial sizes.
    step
        How many phases there are along each axis.
    """
    phases, shape = maps.phases, [-1, maps.channels, *(-(-d // step) for d in sizes)]
    for axis in reversed(range(2, len(shape))):
        shape[axis] *= step
        apart = [add.Unsqueeze(phase, [axis + 1]) for phase in phases]
        groups = [apart[k : k + step] for k in range(0, len(apart), step)]
        phases = [add.Reshape(add.Concat(*group, axis=axis + 1), shape) for group in groups]
    if shape[2:] != list(sizes):
        return str(add.Slice(phases[0], [0] * len(sizes), sizes, range(2, len(shape))))
    return phases[0]


def pointwise_applied(add: BlockedBuilder, maps: Polyphase) -> Polyphase:
    """Do to the phases what follows: ReLUs, masks, and 1×1 convolutions that leave no more channels."""
    graph = add.graph
    while (reader := graph.only_reader(maps.value)) is not None:
        left: int | str = maps.channels
        phases: list[str] = []
        if mask := mask_of(graph, reader):
            phases = _masked(add, maps, mask)
        elif RELU.match(graph, reader) or POINTWISE.match(graph, reader):
            left = graph.filter_shape(reader)[0] if POINTWISE.match(graph, reader) else left
            phases = [add.append(reader.op_type, phase, *reader.input[1:]) for phase in maps.phases]
        if not phases or not isinstance(left, int) or left > maps.channels:
            break
        maps = Polyphase(reader.output[0], phases, left)
    return maps


class _Axis(NamedTuple):
    """A convolution with stride 1, along one axis."""

    kernel: int
    pad: int
    """Before the first value."""

    def taps(self, step: int, to: int, of: int) -> range:
        """List the filter's positions by which phase ``of`` contributes to phase ``to`` of the result."""
        return range((of - to + self.pad) % step, self.kernel, step)

    def pad_before(self, step: int, to: int, of: int) -> int:
        """Count the zeros before that phase."""
        return (of - to + self.pad) // step


def _masked(add: BlockedBuilder, maps: Polyphase, mask: Mask) -> list[str]:
    """Mask each phase by that of the forward value; nothing where its sizes are not known."""
    graph, sizes = add.graph, add.graph.sizes(mask.forward) or []
    if len(sizes) != len("HW") or len(maps.phases) != STRIDE**2:
        return []
    counts, masked = [-(-size // STRIDE) for size in sizes], []
    for phase, places in zip(maps.phases, product(range(STRIDE), repeat=2), strict=True):
        rows, columns = map(every_other, sizes, places, counts)
        forward = add.moved(mask.forward, rows, columns, strides=(STRIDE, STRIDE), channels=maps.channels)
        dims = graph.shape(mask.forward)[0], maps.channels, *counts
        graph.types[forward] = TensorProto.FLOAT, dims
        masked.append(mask.applied(add, phase, forward))
    return masked


def convolution_applied(add: Builder, maps: Polyphase, step: int) -> Polyphase:
    """Do to the phases the convolution that follows, where it keeps the sizes and leaves fewer channels.

    Each phase of the result is a sum over all phases, each convolved with the filter's numbers that it meets.
    What the phases have beyond the value's size must be 0; in the results it is not.
    """
    graph = add.graph
    found = _CONV.match(graph, graph.only_reader(maps.value))
    axes = _axes(found, step) if found else []
    if not found or not axes:
        return maps
    left = graph.filter_shape(found.node)[0]
    if not isinstance(left, int) or left >= maps.channels:
        return maps
    indices = list(product(range(step), repeat=len(axes)))
    results = [""] * len(maps.phases)
    for (k, to), (of, phase) in product(enumerate(indices), zip(indices, maps.phases, strict=True)):
        term = _term(add, found.values["weight"], phase, list(zip(axes, to, of, strict=True)), step)
        if term:
            results[k] = add.Add(term, results[k]) if results[k] else term
    return Polyphase(found.node.output[0], results, left)


def _term(
    add: Builder, weight: str, phase: str, axes: Sequence[tuple[_Axis, int, int]], step: int
) -> str | None:
    """Convolve one phase with the numbers that it meets for a phase of the result, if there are any."""
    taps = [axis.taps(step, to, of) for axis, to, of in axes]
    if not all(taps):
        return None
    before = [axis.pad_before(step, to, of) for axis, to, of in axes]
    after = [len(t) - 1 - b for t, b in zip(taps, before, strict=True)]
    starts, stops = [t.start for t in taps], [t.stop for t in taps]
    numbers = add.Slice(weight, starts, stops, range(2, 2 + len(taps)), [step] * len(taps))
    return str(add.Conv(phase, numbers, pads=[*before, *after]))


def _axes(found: Match, step: int) -> list[_Axis]:
    """Return the geometry of a convolution that keeps the sizes; nothing for others."""
    kernel = [k for k in found.graph.filter_shape(found.node)[2:] if isinstance(k, int)]
    n, pads = len(kernel), found.attributes.get("pads", [])
    if 2 * n != len(pads):
        return []
    each = list(zip(kernel, pads[:n], pads[n:], strict=True))
    kept = (k == 1 + sum(ends) and (k == 1 or min(ends) >= step - 1) for k, *ends in each)
    return [_Axis(k, before) for k, before, _ in each] if all(kept) else []
