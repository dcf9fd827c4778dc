"""A picture taken apart: along each axis every second value, or every third, from 0, from 1 and so on.

What is done to all values alike can be done to the parts, which a runtime may keep in a layout of its own;
putting them together costs least where the channels are fewest.
"""

from collections.abc import Sequence
from itertools import product
from typing import NamedTuple

from onnx import NodeProto

from onnx_deconv.compiler.passes.rewriter import Branch, Rewriter, attributes_of


def interleaved(
    add: Branch, graph: Rewriter, parts: Sequence[str], channels: int, sizes: Sequence[int], step: int
) -> None:
    """Put a picture together; the last node gives it.

    Along the last axis first, the parts' values side by side by a Concat: of all ways measured the fastest.

    Parameters
    ----------
    add, graph
        Where the nodes go, and the constants.
    parts
        Of equal sizes, those that differ in where they begin along the last axis side by side.
    channels, sizes
        The picture's; what the parts have beyond is cut off.
    step
        How far apart a part's values lie.
    """
    shape = [-1, channels, *(-(-d // step) for d in sizes)]
    for axis in reversed(range(2, len(shape))):
        shape[axis] *= step
        behind, flat = graph.constant([axis + 1]), graph.constant(shape)
        apart = [add("Unsqueeze", part, behind) for part in parts]
        lines = [apart[k : k + step] for k in range(0, len(apart), step)]
        parts = [add("Reshape", add("Concat", *line, axis=axis + 1), flat) for line in lines]
    if shape[2:] != list(sizes):
        ends = [graph.constant(line) for line in ([0] * len(sizes), sizes, range(2, len(shape)))]
        add("Slice", parts[0], *ends)


def followed(
    graph: Rewriter, value: str, add: Branch, parts: list[str], channels: int
) -> tuple[str, list[str], int]:
    """Do to the parts what is done to the whole: ReLUs, and 1×1 convolutions that leave no more channels.

    Returns
    -------
    tuple
        The value that the parts are now, the parts, and how many channels they have.
    """
    while (reader := graph.only_reader(value)) is not None:
        left: int | str = channels
        if is_pointwise(graph, reader):
            left, *_ = graph.filter_sizes(reader)
        elif reader.op_type != "Relu":
            break
        if not isinstance(left, int) or left > channels:
            break
        parts = [add(reader.op_type, part, *reader.input[1:]) for part in parts]
        value, channels = reader.output[0], left
    return value, parts, channels


class _Axis(NamedTuple):
    """A convolution in steps of 1, along one axis."""

    kernel: int
    pad: int
    """Before the first value."""

    def taps(self, step: int, to: int, of: int) -> range:
        """List the filter's positions that values ``of``, ``of + step``, ... meet for results ``to``, ...."""
        return range((of - to + self.pad) % step, self.kernel, step)

    def before(self, step: int, to: int, of: int) -> int:
        """Count the padding before those values."""
        return (of - to + self.pad) // step


def convolved(
    graph: Rewriter, value: str, add: Branch, parts: list[str], channels: int, step: int
) -> tuple[str, list[str], int]:
    """Do to the parts the convolution that follows, where it keeps the sizes and leaves fewer channels.

    Each part of the result is a sum over all parts, each convolved with the filter's numbers that it meets.
    What the parts have beyond the picture must be 0; in the results it is not.

    Returns
    -------
    tuple
        As :func:`followed`.
    """
    conv = graph.only_reader(value)
    axes = _axes(graph, conv, step) if conv is not None else []
    left = graph.filter_sizes(conv)[0] if conv is not None and axes else channels
    if conv is None or not isinstance(left, int) or left >= channels:
        return value, parts, channels
    phases = list(product(range(step), repeat=len(axes)))
    results = [""] * len(parts)
    for (k, to), (of, part) in product(enumerate(phases), zip(phases, parts, strict=True)):
        lines = list(zip(axes, to, of, strict=True))
        taps = [axis.taps(step, *line) for axis, *line in lines]
        if not all(taps):
            continue
        before = [axis.before(step, *line) for axis, *line in lines]
        behind = [len(t) - 1 - b for t, b in zip(taps, before, strict=True)]
        cut = [t.start for t in taps], [t.stop for t in taps], range(2, 2 + len(taps)), [step] * len(taps)
        filtered = add("Slice", conv.input[1], *map(graph.constant, cut))
        term = add("Conv", part, filtered, pads=[*before, *behind])
        results[k] = add("Add", term, results[k]) if results[k] else term
    return conv.output[0], results, left


def _axes(graph: Rewriter, node: NodeProto, step: int) -> list[_Axis]:
    """Match a convolution of all channels with all, in steps of 1, that keeps the sizes."""
    if not is_dense(node):
        return []
    kernel = [k for k in graph.filter_sizes(node)[2:] if isinstance(k, int)]
    n, pads = len(kernel), attributes_of(node).get("pads", [])
    if 2 * n != len(pads):
        return []
    lines = list(zip(kernel, pads[:n], pads[n:], strict=True))
    kept = (k == 1 + sum(ends) and (k == 1 or min(ends) >= step - 1) for k, *ends in lines)
    return [_Axis(k, before) for k, before, _ in lines] if all(kept) else []


def is_dense(node: NodeProto) -> bool:
    """Tell whether a node is a convolution of all channels with all, in steps of 1, without a bias."""
    attributes = attributes_of(node)
    ones = [*attributes.get("strides", ()), *attributes.get("dilations", ()), attributes.get("group", 1)]
    return node.op_type == "Conv" and len(node.input) == 2 and all(one == 1 for one in ones)  # noqa: PLR2004


def is_pointwise(graph: Rewriter, node: NodeProto) -> bool:
    """Tell whether a node is a 1×1 convolution of all channels with all."""
    attributes = attributes_of(node)
    stepped = any(s != 1 for s in attributes.get("strides", ())) or any(attributes.get("pads", ()))
    if node.op_type != "Conv" or stepped or attributes.get("group", 1) != 1 or "auto_pad" in attributes:
        return False
    return all(k == 1 for k in graph.filter_sizes(node)[2:])
