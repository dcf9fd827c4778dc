"""Unpooling without switches, in onnxruntime's blocked layout."""

from collections.abc import Sequence
from dataclasses import replace

from onnx import NodeProto, TensorProto

from onnx_deconv.compiler.passes.attributes import ones
from onnx_deconv.compiler.passes.blocked_layout import (
    BlockedBuilder,
    overlapping,
    side_by_side,
    transposed,
)
from onnx_deconv.compiler.passes.operations import RELU, transposed_convolution
from onnx_deconv.compiler.passes.pattern import ABSENT, Match, op
from onnx_deconv.compiler.passes.polyphase import (
    Polyphase,
    convolution_applied,
    interleaved,
    pointwise_applied,
)
from onnx_deconv.compiler.passes.pooling_geometry import KERNEL, STRIDE, PoolAxis, TransposedAxis
from onnx_deconv.compiler.passes.registry import optimisation_pass
from onnx_deconv.compiler.passes.rewriter import BLOCK, Rewriter
from onnx_deconv.compiler.passes.unpooling import Unpooling, unpooling_of

_CONCAT, _SPLIT = op.Concat(axis=1), op.Split(axis=1)
_TRANSPOSED = transposed_convolution(ABSENT, group=1, dilations=ones)


@optimisation_pass("blocked")
def blocked(graph: Rewriter) -> None:
    """Find the first maxima of windows with stride 2 by convolutions, not by switches.

    What follows is done to the four phases of the result, as far as it can be, before they are interleaved.
    The convolutions must be computed in float32; :mod:`~onnx_deconv.compiler.passes.blocked_layout` says how.

    Measured to help all of five networks with such pools: without it an explanation takes 61 % longer on
    SqueezeNet 1.1, 4 to 6 % on VGG-16, ResNet-50, DenseNet-121 and Inception v3.
    """
    for node in graph.nodes:
        unpooling = unpooling_of(graph, node)
        for branch in _branches(graph, node, unpooling) if unpooling is not None else ():
            add = BlockedBuilder(graph, branch.name, int(graph.shape(branch.pooled)[1]))
            unpooled = _overlapping if _is_overlapping(graph, branch) else _side_by_side
            replaced, result = unpooled(add, branch)
            graph.replace(replaced, add, result)


def _branches(graph: Rewriter, node: NodeProto, unpooling: Unpooling) -> list[Unpooling]:
    """List the unpoolings to be done in the place of one; none where that cannot be done."""
    branches = _separate(graph, node, unpooling)
    return [unpooling] if not branches and _is_in_blocks(graph, unpooling) else branches


def _separate(graph: Rewriter, node: NodeProto, unpooling: Unpooling) -> list[Unpooling]:
    """Where what a Concat gives is pooled, and its signal split again: pool and unpool each input by itself.

    All outputs of the Split are rectified. The list is empty where it is no such pool, or an input cannot be
    unpooled in the blocked layout.
    """
    concat = _CONCAT.match(graph, graph.producers.get(unpooling.pooled))
    split = _SPLIT.match(graph, graph.only_reader(unpooling.result))
    if not concat or not split or not graph.only_reader(unpooling.pool.output[1]):
        return []
    if not all(_rectifier(graph, result) for result in split.node.output):
        return []
    pools, signals = graph.builder(unpooling.pool.name), graph.builder(unpooling.name)
    maxima = [pools.copy(unpooling.pool, [pooled])[0] for pooled in concat.node.input]
    taken = signals.copy(split.node, [unpooling.signal, *split.node.input[1:]])
    each = zip(concat.node.input, maxima, taken, split.node.output, strict=True)
    branches = [_branch(graph, unpooling, *values) for values in each]
    if not all(_is_in_blocks(graph, branch) for branch in branches):
        return []
    graph.replace(unpooling.pool, pools, pools.Concat(*maxima, axis=1))
    graph.insert_after(node, signals.nodes)
    return branches


def _branch(
    graph: Rewriter, unpooling: Unpooling, pooled: str, maximum: str, signal: str, result: str
) -> Unpooling:
    """Return the unpooling of one of the values that are pooled together."""
    batch, _, *windows = graph.shape(unpooling.maximum)
    dims = batch, *graph.shape(pooled)[1:2], *windows
    graph.types |= dict.fromkeys((signal, maximum), (TensorProto.FLOAT, dims))
    return replace(unpooling, pooled=pooled, maximum=maximum, signal=signal, result=result)


def _is_in_blocks(graph: Rewriter, unpooling: Unpooling) -> bool:
    """Tell whether it can be done in the blocked layout: sizes must be known equal, the batch's by name."""
    batch, channels = graph.shape(unpooling.pooled)[:2]
    known = graph.sizes(unpooling.pooled) and graph.sizes(unpooling.maximum)
    if not (batch and known) or not isinstance(channels, int) or channels % BLOCK:
        return False
    fits = unpooling.is_side_by_side(graph) and unpooling.kernel[0] == STRIDE
    return fits or _is_overlapping(graph, unpooling)


def _is_overlapping(graph: Rewriter, unpooling: Unpooling) -> bool:
    """Tell whether the windows are 3×3 with stride 2, their padding known.

    A window that begins in the padding finds zeros there: the values must not be negative.
    """
    if (unpooling.kernel, unpooling.strides) != ([KERNEL] * 2, [STRIDE] * 2) or not unpooling.pads:
        return False
    axes = _axes(graph, unpooling)
    if any(axis.place(0) >= axis.size for axis in axes):
        return False  # by ceil_mode, in the padding alone: runtimes differ in whether there is such a window
    inside = not any(axis.is_outside(k) for axis in axes for k in range(KERNEL - 1))
    return inside or RELU.match(graph, graph.producers.get(unpooling.pooled)) is not None


def _axes(graph: Rewriter, unpooling: Unpooling) -> list[PoolAxis]:
    sizes, windows = (graph.sizes(v) or [] for v in (unpooling.pooled, unpooling.maximum))
    return [PoolAxis(*each) for each in zip(sizes, windows, (unpooling.pads or [0, 0])[:2], strict=True)]


def _overlapping(add: BlockedBuilder, unpooling: Unpooling) -> tuple[NodeProto, str]:
    """Unpool overlapping windows; what follows is done to the phases, where it can be.

    Returns
    -------
    tuple
        The node to be replaced, and the value that replaces its output.
    """
    graph, sizes = add.graph, _declared(add.graph, unpooling)
    rectifier = _rectifier(graph, unpooling.result)
    last = graph.only_reader(rectifier.output[0] if rectifier is not None else unpooling.result)
    filter_ = _TRANSPOSED.match(graph, last)
    geometry = _transposed_axes(filter_, sizes) if filter_ is not None else None
    rows, columns = axes = _axes(graph, unpooling)
    layouts = [[axis.layout(phase) for phase in range(STRIDE)] for axis in geometry or axes]
    values = unpooling.pooled, unpooling.maximum, unpooling.signal
    phases = overlapping(add, *values, rows, columns, layouts)
    if filter_ is not None and geometry is not None:
        phases = [add.Relu(phase) for phase in phases] if rectifier is not None else phases
        return filter_.node, transposed(add, phases, filter_.values["weight"], geometry)
    maps = pointwise_applied(add, Polyphase(unpooling.result, phases, add.channels))
    maps = convolution_applied(add, maps, STRIDE)
    graph.declare(maps.value, [graph.shape(unpooling.pooled)[0], maps.channels, *sizes])
    return graph.producers[maps.value], interleaved(add, maps, sizes, STRIDE)


def _side_by_side(add: BlockedBuilder, unpooling: Unpooling) -> tuple[NodeProto, str]:
    """Unpool windows of 2×2 side by side; a ReLU that follows is done to the signal, which is smaller.

    Parameters and result are those of :func:`_overlapping`.
    """
    graph, sizes = add.graph, _declared(add.graph, unpooling)
    rectifier = _rectifier(graph, unpooling.result)
    signal = add.Relu(unpooling.signal) if rectifier is not None else unpooling.signal
    phases = side_by_side(add, unpooling.pooled, unpooling.maximum, signal, *_axes(graph, unpooling))
    result = interleaved(add, Polyphase(unpooling.result, phases, add.channels), sizes, STRIDE)
    return rectifier if rectifier is not None else graph.producers[unpooling.result], result


def _declared(graph: Rewriter, unpooling: Unpooling) -> list[int]:
    """Write down the shapes of what an unpooling reads and gives; return the spatial sizes of the latter."""
    graph.declare(unpooling.signal, graph.shape(unpooling.maximum))
    graph.declare(unpooling.result, graph.shape(unpooling.pooled))
    return graph.sizes(unpooling.pooled) or []


def _rectifier(graph: Rewriter, value: str) -> NodeProto | None:
    """Return the ReLU through which all of a value goes."""
    found = RELU.match(graph, graph.only_reader(value))
    return found.node if found is not None else None


def _transposed_axes(found: Match, sizes: Sequence[int]) -> list[TransposedAxis]:
    """Return the geometry of a transposed convolution along each axis."""
    attributes = found.attributes
    kernel = [int(k) for k in found.graph.dims[found.values["weight"]][2:]]
    strides, pads = attributes.get("strides", [1, 1]), attributes.get("pads", [0] * 4)
    both, more = zip(pads[:2], pads[2:], strict=True), attributes.get("output_padding", [0, 0])
    return [TransposedAxis(*each) for each in zip(sizes, kernel, strides, both, more, strict=True)]
