"""Unpooling without switches.

A MaxPool that is asked for switches is many times slower than one that is not, and keeps onnxruntime's
blocked layout from passing. Where a window has its maximum can be found by comparing.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from onnx import NodeProto, TensorProto, helper

from onnx_deconv.compiler.passes import overlap
from onnx_deconv.compiler.passes.parts import convolved, followed, interleaved
from onnx_deconv.compiler.passes.rewriter import BLOCK, Branch, Rewriter, attributes_of, lowering


@dataclass(frozen=True)
class Unpool:
    """A pool and the signal that its switches put back."""

    name: str
    result: str
    """The signal in the picture."""
    pool: NodeProto
    signal: str
    kernel: list[int]
    strides: list[int]
    pads: list[int] | None
    """``None`` where they follow from the sizes."""

    @property
    def picture(self) -> str:
        """What is pooled."""
        return str(self.pool.input[0])

    @property
    def maximum(self) -> str:
        """What the pool gives."""
        return str(self.pool.output[0])


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
        if unpool is None:
            continue
        branches = _branches(graph, unpool)
        if branches:
            _take_apart(graph, node, unpool, branches)
        for branch in branches or [unpool]:
            if _in_blocks(graph, branch):
                moved = _moved if _overlapping(graph, branch) else _moved_apart
                graph.replace(*moved(graph, branch))


def _branches(graph: Rewriter, unpool: Unpool) -> list[Unpool]:
    """Where what a Concat gave is pooled, and split again behind the unpooling: pool and unpool each part.

    All parts are then rectified. The list is empty where it is no such pool, or a part cannot be in blocks.
    """
    (maximum, switches), (batch, _, *windows) = unpool.pool.output, graph.types[unpool.maximum][1]
    concat, split = graph.producers.get(unpool.picture), graph.only_reader(unpool.result)
    if concat is None or split is None or graph.only_reader(switches) is None:
        return []
    if not _joins(concat, "Concat") or not _joins(split, "Split"):
        return []
    if not all(_rectifier(graph, result) for result in split.output):
        return []
    branches = []
    for k, (picture, result) in enumerate(zip(concat.input, split.output, strict=True)):
        pool = _copy(unpool.pool, f"{maximum}/{k}", [picture], [f"{maximum}/{k}"])
        signal = f"{unpool.signal}/{k}"
        dims = batch, *graph.types[picture][1][1:2], *windows
        graph.types.update(dict.fromkeys((signal, *pool.output), (TensorProto.FLOAT, dims)))
        name = f"{unpool.name}/{k}"
        branches.append(replace(unpool, name=name, result=result, pool=pool, signal=signal))
    return branches if all(_in_blocks(graph, branch) for branch in branches) else []


def _take_apart(graph: Rewriter, node: NodeProto, unpool: Unpool, branches: Sequence[Unpool]) -> None:
    """Make what the branches take: the pool of each part, which a Concat then joins, and the split signal."""
    pools = [branch.pool for branch in branches]
    whole = helper.make_node("Concat", [p.output[0] for p in pools], [""], unpool.pool.name, axis=1)
    graph.replace(unpool.pool, [*pools, whole])
    split = graph.readers(unpool.result)[0]
    inputs = [unpool.signal, *split.input[1:]]
    graph.append(node, [_copy(split, f"{split.name}/signal", inputs, [b.signal for b in branches])])


def _joins(node: NodeProto, operator: str) -> bool:
    """Tell whether it is this operator, along the channels."""
    return node.op_type == operator and attributes_of(node).get("axis") == 1


def _copy(node: NodeProto, name: str, inputs: Sequence[str], outputs: Sequence[str]) -> NodeProto:
    made = helper.make_node(node.op_type, inputs, outputs, name)
    made.attribute.extend(node.attribute)
    return made


def _unpool_of(graph: Rewriter, node: NodeProto) -> Unpool | None:
    """Match Reshape(ScatterElements(zeros, Reshape(switches), Reshape(signal))) of plain pools."""
    scatter = graph.producers.get(node.input[0]) if node.op_type == "Reshape" else None
    if scatter is None or scatter.op_type != "ScatterElements":
        return None
    switches = _unshaped(graph, scatter.input[1])
    pool = graph.producers.get(switches)
    if pool is None or pool.op_type != "MaxPool" or list(pool.output[1:]) != [switches]:
        return None
    attributes = attributes_of(pool)
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
    kernel, pads = list(attributes["kernel_shape"]), list(pads) if given else None
    return Unpool(node.name, node.output[0], pool, signal, kernel, list(strides), pads)


def _side_by_side(graph: Rewriter, unpool: Unpool) -> bool:
    """Tell whether the windows are squares that fill the picture (where ``auto_pad`` adds nothing)."""
    side, sizes = unpool.kernel[0], graph.sizes(unpool.picture) or []
    square = unpool.kernel == unpool.strides == [side, side]
    return square and not any(unpool.pads or ()) and all(d % side == 0 for d in sizes)


def _compared(node: NodeProto, unpool: Unpool) -> list[NodeProto]:
    """Each of a window's positions, in row-major order, takes the signal if it is the first maximum."""
    add, side = Branch(node.name), unpool.kernel[0]
    blocks = add("SpaceToDepth", unpool.picture, blocksize=side)
    *first, _ = add.add("Split", blocks, outputs=side**2, axis=1, num_outputs=side**2)
    left, taken = unpool.signal, []
    for values in first:
        mask = add("Cast", add("Equal", values, unpool.maximum), to=TensorProto.FLOAT)
        taken.append(add("Mul", mask, left))
        left = add("Sub", left, taken[-1])
    add("DepthToSpace", add("Concat", *taken, left, axis=1), blocksize=side)
    return add.nodes


def _in_blocks(graph: Rewriter, unpool: Unpool) -> bool:
    """Tell whether it can be done in the blocked layout: sizes must be known equal, the batch's by name."""
    batch, channels = graph.types[unpool.picture][1][:2]
    known = graph.sizes(unpool.picture) and graph.sizes(unpool.maximum)
    if not (batch and known) or not isinstance(channels, int) or channels % BLOCK:
        return False
    return _overlapping(graph, unpool) or (_side_by_side(graph, unpool) and unpool.kernel[0] == overlap.STEP)


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
    producer = graph.producers.get(unpool.picture)
    return inside or (producer is not None and producer.op_type == "Relu")


def _axes(graph: Rewriter, unpool: Unpool) -> list[overlap.Axis]:
    sizes, windows = (graph.sizes(v) or [] for v in (unpool.picture, unpool.maximum))
    return [overlap.Axis(*line) for line in zip(sizes, windows, (unpool.pads or [0, 0])[:2], strict=True)]


def _moved(graph: Rewriter, unpool: Unpool) -> tuple[NodeProto, list[NodeProto]]:
    """Unpool overlapping windows; what follows is done to the quarters, where it can be.

    Returns
    -------
    tuple
        The node to be replaced, and by what.
    """
    channels, sizes = _declared(graph, unpool)
    add = overlap.Blocked(unpool.name, graph, channels)
    rectifier = _rectifier(graph, unpool.result)
    last = graph.only_reader(rectifier.output[0] if rectifier else unpool.result)
    geometry = _transposed(graph, last, sizes) if last is not None else None
    rows, columns = axes = _axes(graph, unpool)
    lying = [[axis.part(phase) for phase in range(overlap.STEP)] for axis in geometry or axes]
    parts = overlap.quarters(add, unpool.picture, unpool.maximum, unpool.signal, rows, columns, lying)
    if last is not None and geometry is not None:
        parts = [add("Relu", part) for part in parts] if rectifier else parts
        overlap.transposed(add, parts, last.input[1], geometry)
        return last, add.nodes
    value, parts, channels = followed(graph, unpool.result, add, parts, channels)
    value, parts, channels = convolved(graph, value, add, parts, channels, overlap.STEP)
    graph.declare(value, [graph.types[unpool.picture][1][0], channels, *sizes])
    interleaved(add, graph, parts, channels, sizes, overlap.STEP)
    return graph.producers[value], add.nodes


def _moved_apart(graph: Rewriter, unpool: Unpool) -> tuple[NodeProto, list[NodeProto]]:
    """Unpool windows of 2×2 side by side; a ReLU that follows is done to the signal, which is smaller.

    Returns
    -------
    tuple
        The node to be replaced, and by what.
    """
    channels, sizes = _declared(graph, unpool)
    add = overlap.Blocked(unpool.name, graph, channels)
    rectifier = _rectifier(graph, unpool.result)
    signal = add("Relu", unpool.signal) if rectifier else unpool.signal
    parts = overlap.side_by_side(add, unpool.picture, unpool.maximum, signal, *_axes(graph, unpool))
    interleaved(add, graph, parts, channels, sizes, overlap.STEP)
    return rectifier or graph.producers[unpool.result], add.nodes


def _declared(graph: Rewriter, unpool: Unpool) -> tuple[int, list[int]]:
    """Write down the sizes of what an unpooling takes and gives; return the channels, the picture's sizes."""
    graph.declare(unpool.signal, graph.types[unpool.maximum][1])
    graph.declare(unpool.result, graph.types[unpool.picture][1])
    return int(graph.types[unpool.picture][1][1]), graph.sizes(unpool.picture) or []


def _rectifier(graph: Rewriter, value: str) -> NodeProto | None:
    """Return the ReLU through which all of a value goes."""
    reader = graph.only_reader(value)
    return reader if reader is not None and reader.op_type == "Relu" else None


def _transposed(graph: Rewriter, node: NodeProto, sizes: Sequence[int]) -> list[overlap.Transposed] | None:
    """Match a plain transposed convolution of all channels with all."""
    weight = graph.dims.get(node.input[1]) if node.op_type == "ConvTranspose" else None
    attributes = attributes_of(node)
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
