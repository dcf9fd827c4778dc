"""Unpooling without switches.

A MaxPool that is asked for switches is many times slower than one that is not, and keeps onnxruntime's
blocked layout from passing. Where a window has its maximum can be found by comparing.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from onnx import NodeProto, TensorProto, helper

from onnx_deconv.lower import overlap
from onnx_deconv.lower.parts import interleaved
from onnx_deconv.lower.rewriter import BLOCK, Branch, Rewriter, lowering


@dataclass(frozen=True)
class Unpool:
    """A pool and the signal that its switches put back."""

    pool: NodeProto
    signal: str
    kernel: list[int]
    strides: list[int]
    pads: list[int] | None
    """``None`` where they follow from the sizes."""


@lowering("pools")
def pools(graph: Rewriter) -> None:
    """Find the first maxima of windows side by side by comparing, not by switches."""
    for node in graph.nodes:
        unpool = _unpool_of(graph, node)
        if unpool is not None and _side_by_side(graph, unpool):
            graph.replace(node, _compared(node, unpool))


@lowering("blocked")
def blocked(graph: Rewriter) -> None:
    """Find the first maxima of windows in steps of 2 by convolutions, which must be computed in float32."""
    for node in graph.nodes:
        unpool = _unpool_of(graph, node)
        if unpool is None or not _has_blocks(graph, unpool):
            continue
        if _overlapping(graph, unpool):
            last, nodes = _moved(graph, node, unpool)
            graph.replace(last, nodes)
        elif _side_by_side(graph, unpool) and unpool.kernel[0] == overlap.STEP:
            graph.replace(node, _moved_apart(graph, node, unpool))


def _unpool_of(graph: Rewriter, node: NodeProto) -> Unpool | None:
    """Match Reshape(ScatterElements(zeros, Reshape(switches), Reshape(signal))) of plain pools."""
    scatter = graph.producers.get(node.input[0]) if node.op_type == "Reshape" else None
    if scatter is None or scatter.op_type != "ScatterElements":
        return None
    switches = _unshaped(graph, scatter.input[1])
    pool = graph.producers.get(switches)
    if pool is None or pool.op_type != "MaxPool" or list(pool.output[1:]) != [switches]:
        return None
    attributes = {a.name: helper.get_attribute_value(a) for a in pool.attribute}
    plain = (
        len(graph.sizes(pool.input[0]) or ()) == len(attributes["kernel_shape"]) == 2  # noqa: PLR2004
        and all(d == 1 for d in attributes.get("dilations", ()))
        and not attributes.get("storage_order", 0)
    )
    if not plain:
        return None
    strides, pads = attributes.get("strides", [1, 1]), attributes.get("pads", [0] * 4)
    given = attributes.get("auto_pad", b"NOTSET") in (b"NOTSET", b"VALID")
    signal = _unshaped(graph, scatter.input[2])
    return Unpool(
        pool, signal, list(attributes["kernel_shape"]), list(strides), list(pads) if given else None
    )


def _side_by_side(graph: Rewriter, unpool: Unpool) -> bool:
    """Tell whether the windows are squares that fill the picture (where ``auto_pad`` adds nothing)."""
    side, sizes = unpool.kernel[0], graph.sizes(unpool.pool.input[0]) or []
    square = unpool.kernel == unpool.strides == [side, side]
    return square and not any(unpool.pads or ()) and all(d % side == 0 for d in sizes)


def _compared(node: NodeProto, unpool: Unpool) -> list[NodeProto]:
    """Each of a window's positions, in row-major order, takes the signal if it is the first maximum."""
    add, pool, side = Branch(node.name), unpool.pool, unpool.kernel[0]
    blocks = add("SpaceToDepth", pool.input[0], blocksize=side)
    *first, _ = add.add("Split", blocks, outputs=side**2, axis=1, num_outputs=side**2)
    left, taken = unpool.signal, []
    for values in first:
        mask = add("Cast", add("Equal", values, pool.output[0]), to=TensorProto.FLOAT)
        taken.append(add("Mul", mask, left))
        left = add("Sub", left, taken[-1])
    add("DepthToSpace", add("Concat", *taken, left, axis=1), blocksize=side)
    return add.nodes


def _has_blocks(graph: Rewriter, unpool: Unpool) -> bool:
    """Tell whether the blocked layout can be had: it must know that sizes are equal, the batch's by name."""
    batch, channels = graph.types[unpool.pool.input[0]][1][:2]
    known = graph.sizes(unpool.pool.input[0]) and graph.sizes(unpool.pool.output[0])
    return bool(batch and known) and isinstance(channels, int) and channels % BLOCK == 0


def _overlapping(graph: Rewriter, unpool: Unpool) -> bool:
    """Tell whether the windows are 3×3 in steps of 2, their padding known.

    A window that begins outside the picture finds zeros there: the values must not be negative.
    """
    if (unpool.kernel, unpool.strides) != ([overlap.KERNEL] * 2, [overlap.STEP] * 2) or not unpool.pads:
        return False
    axes = _axes(graph, unpool)
    if any(axis.place(0) >= axis.size for axis in axes):
        return False  # by ceil_mode, in the padding alone: runtimes differ in whether there is such a window
    inside = not any(axis.outside(k) for axis in axes for k in range(overlap.KERNEL - 1))
    producer = graph.producers.get(unpool.pool.input[0])
    return inside or (producer is not None and producer.op_type == "Relu")


def _axes(graph: Rewriter, unpool: Unpool) -> list[overlap.Axis]:
    sizes, windows = (graph.sizes(v) or [] for v in (unpool.pool.input[0], unpool.pool.output[0]))
    return [overlap.Axis(*line) for line in zip(sizes, windows, (unpool.pads or [0, 0])[:2], strict=True)]


def _moved(graph: Rewriter, node: NodeProto, unpool: Unpool) -> tuple[NodeProto, list[NodeProto]]:
    """Unpool overlapping windows; what follows is done to the quarters, where it can be.

    Returns
    -------
    tuple
        The node to be replaced, and by what.
    """
    picture, maximum = unpool.pool.input[0], unpool.pool.output[0]
    channels, sizes = int(graph.types[picture][1][1]), graph.sizes(picture) or []
    add = overlap.Blocked(node.name, graph, channels)
    graph.declare(unpool.signal, graph.types[maximum][1])
    graph.declare(node.output[0], graph.types[picture][1])
    rectifiers = _rectifiers(graph, node)
    last = graph.only_reader((rectifiers[0] if rectifiers else node).output[0])
    geometry = _transposed(graph, last, sizes) if last is not None and len(rectifiers) < 2 else None  # noqa: PLR2004
    rows, columns = axes = _axes(graph, unpool)
    lying = [[axis.part(phase) for phase in range(overlap.STEP)] for axis in geometry or axes]
    parts = overlap.quarters(add, picture, maximum, unpool.signal, rows, columns, lying)
    if rectifiers:
        parts = [add("Relu", part) for part in parts]
    if last is not None and geometry is not None:
        overlap.transposed(add, parts, last.input[1], geometry)
        return last, add.nodes
    _pass_on(graph, rectifiers)
    interleaved(add, graph, parts, channels, sizes, overlap.STEP)
    return node, add.nodes


def _moved_apart(graph: Rewriter, node: NodeProto, unpool: Unpool) -> list[NodeProto]:
    """Unpool windows of 2×2 side by side; a ReLU that follows is done to the signal, which is smaller."""
    picture, maximum, signal = unpool.pool.input[0], unpool.pool.output[0], unpool.signal
    channels, sizes = int(graph.types[picture][1][1]), graph.sizes(picture) or []
    add = overlap.Blocked(node.name, graph, channels)
    graph.declare(signal, graph.types[maximum][1])
    rectifiers = _rectifiers(graph, node)
    if rectifiers:
        signal = add("Relu", signal)
        _pass_on(graph, rectifiers)
    parts = overlap.side_by_side(add, picture, maximum, signal, *_axes(graph, unpool))
    interleaved(add, graph, parts, channels, sizes, overlap.STEP)
    return add.nodes


def _pass_on(graph: Rewriter, rectifiers: Sequence[NodeProto]) -> None:
    """Leave out rectifiers whose work is done."""
    for rectifier in rectifiers:
        graph.replace(rectifier, [helper.make_node("Identity", rectifier.input, [""], rectifier.name)])


def _rectifiers(graph: Rewriter, node: NodeProto) -> list[NodeProto]:
    """List the ReLUs through which all of a node's output goes, split or not."""
    reader = graph.only_reader(node.output[0])
    if reader is not None and reader.op_type == "Split":
        readers = [graph.only_reader(v) for v in reader.output]
    else:
        readers = [reader]
    found = [r for r in readers if r is not None and r.op_type == "Relu"]
    return found if len(found) == len(readers) else []


def _transposed(graph: Rewriter, node: NodeProto, sizes: Sequence[int]) -> list[overlap.Transposed] | None:
    """Match a plain transposed convolution of all channels with all."""
    weight = graph.dims.get(node.input[1]) if node.op_type == "ConvTranspose" else None
    attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    plain = {"kernel_shape", "pads", "strides", "output_padding", "dilations", "group"}
    if weight is None or len(node.input) != 2 or not set(attributes) <= plain:  # noqa: PLR2004
        return None
    if attributes.get("group", 1) != 1 or any(d != 1 for d in attributes.get("dilations", ())):
        return None
    strides, pads = attributes.get("strides", [1, 1]), attributes.get("pads", [0] * 4)
    more = attributes.get("output_padding", [0, 0])
    lines = zip(sizes, weight[2:], strides, zip(pads[:2], pads[2:], strict=True), more, strict=True)
    return [overlap.Transposed(*line) for line in lines]


def _unshaped(graph: Rewriter, value: str) -> str:
    node = graph.producers.get(value)
    return str(node.input[0]) if node is not None and node.op_type == "Reshape" else value
