"""Lowerings: rewrites of a companion or an explain graph that compute the same, faster.

Each is a pass with a name, may be left out, and is in the list for a provider because it was measured to
be faster there (docs/performance.md). Only standard operators come and go.
"""

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from onnx_deconv.errors import InputError
from onnx_deconv.opsets import opset_of

EXPLAIN = "filters", "depthwise", "pools"
"""What is done to an explain graph: faster on the CPU; CUDA has a kernel for all that comes in."""

COMPANION = {"cpu": ("filters", "depthwise"), "cuda": ("filters",)}
"""What is done to a companion when it is loaded, by device."""

_PLAIN = {"dilations", "group", "kernel_shape", "pads", "strides", "output_padding"}
_FEW = 16
"""Output channels below which a transposed convolution stays one: its product is small, its sum cheap."""


class Rewriter:
    """A graph whose nodes can be asked for, replaced and added to.

    Parameters
    ----------
    proto
        The model; it is changed.
    """

    def __init__(self, proto: ModelProto) -> None:
        self.graph, self.opset = proto.graph, opset_of(proto)
        self.nodes: list[NodeProto] = list(self.graph.node)
        self.producers = {v: n for n in self.nodes for v in n.output if v}
        self.dims = {t.name: tuple(t.dims) for t in self.graph.initializer}
        self.types = _types(proto)
        self._made: dict[object, str] = {}
        self._instead: dict[int, list[NodeProto]] = {}

    def sizes(self, value: str) -> list[int] | None:
        """Return a float32 value's spatial sizes; ``None`` where they are not known, or the type is not."""
        dtype, dims = self.types.get(value, (0, ()))
        sizes = [d for d in dims[2:] if isinstance(d, int) and d > 0]
        return sizes if dtype == TensorProto.FLOAT and len(sizes) == len(dims) - 2 else None

    def replace(self, node: NodeProto, by: Sequence[NodeProto]) -> None:
        """Put other nodes in the place of one; the last gives its output."""
        by[-1].output[0] = node.output[0]
        self._instead[id(node)] = list(by)

    def constant(self, numbers: Any, dtype: Any = np.int64) -> str:
        """Store a small constant, once."""
        array = np.asarray(numbers, dtype)
        key = array.dtype.str, array.shape, array.tobytes()
        if key not in self._made:
            # Earlier passes have left theirs.
            free = (
                f"lowered/constant_{k}" for k in itertools.count() if f"lowered/constant_{k}" not in self.dims
            )
            self._made[key] = name = next(free)
            self.dims[name] = array.shape
            self.graph.initializer.append(numpy_helper.from_array(array, name))
        return self._made[key]

    def finish(self) -> None:
        """Write the nodes back, without those that nothing reads."""
        nodes = [m for n in self.nodes for m in self._instead.get(id(n), [n])]
        wanted = {o.name for o in self.graph.output} | _read_inside(nodes)
        live: list[NodeProto] = []
        for node in reversed(nodes):
            if any(v in wanted for v in node.output):
                live.append(NodeProto.FromString(node.SerializeToString()))
                wanted.update(node.input)
        for node in live:
            if node.op_type == "MaxPool" and len(node.output) > 1 and node.output[1] not in wanted:
                del node.output[1:]
        kept = [t for t in self.graph.initializer if t.name in wanted]
        tensors = [TensorProto.FromString(t.SerializeToString()) for t in kept]
        del self.graph.node[:], self.graph.initializer[:]
        self.graph.node.extend(live[::-1])
        self.graph.initializer.extend(tensors)


Pass = Callable[[Rewriter], None]
PASSES: dict[str, Pass] = {}


def lowering(name: str) -> Callable[[Pass], Pass]:
    """Register a pass under its name."""

    def register(function: Pass) -> Pass:
        PASSES[name] = function
        return function

    return register


def lower(proto: ModelProto, passes: Iterable[str]) -> ModelProto:
    """Return a copy of a model to which passes were applied, in order.

    Raises
    ------
    InputError
        If there is no pass of that name.
    """
    passes = list(passes)
    unknown = [name for name in passes if name not in PASSES]
    if unknown:
        raise InputError(f"no lowering is named {unknown[0]!r}: choose among {', '.join(PASSES)}")
    copy = ModelProto()
    copy.CopyFrom(proto)
    for name in passes:
        rewriter = Rewriter(copy)
        PASSES[name](rewriter)
        rewriter.finish()
    return copy


@lowering("filters")
def filters(graph: Rewriter) -> None:
    """A transposed convolution in steps of 1 becomes a convolution with the filter turned around.

    The filter is turned in the graph, from the weight that the forward model has: no file stores it
    twice, and onnxruntime turns it once, when the model is loaded.
    """
    for node in graph.nodes:
        if node.op_type != "ConvTranspose" or node.input[1] not in graph.dims:
            continue
        attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        weight = graph.dims[node.input[1]]
        pads = _turned_pads(attributes, weight[2:])
        group = attributes.get("group", 1)
        depthwise = weight[0] == group
        if pads is None or not (depthwise or weight[1] * group >= _FEW):
            continue
        turned, name = _turned(graph, node.input[1], weight, group)
        kept = {k: v for k, v in attributes.items() if k in ("dilations", "group", "kernel_shape")}
        inputs = [node.input[0], name, *node.input[2:]]
        conv = helper.make_node("Conv", inputs, [""], node.name, pads=pads, **kept)
        graph.replace(node, [*turned, conv])


def _turned_pads(attributes: Mapping[str, Any], kernel: Sequence[int]) -> list[int] | None:
    """Return the padding of the convolution; ``None`` where there is no such convolution."""
    stepped = any(s != 1 for s in attributes.get("strides", ())) or any(attributes.get("output_padding", ()))
    return None if stepped else _stuffed_pads(attributes, kernel)


def _turned(graph: Rewriter, name: str, weight: Sequence[int], group: int) -> tuple[list[NodeProto], str]:
    """Swap a filter's channels, within each group, and turn its positions around."""
    nodes: list[NodeProto] = []

    def add(operator: str, *inputs: str, **attributes: Any) -> None:
        source = nodes[-1].output[0] if nodes else name
        output = f"lowered/{name}/{operator}_{len(nodes)}/{group}"
        nodes.append(helper.make_node(operator, [source, *inputs], [output], output, **attributes))

    n = len(weight) - 2
    a, b = weight[0] // group, weight[1]
    if any(k > 1 for k in weight[2:]):
        back = [graph.constant([number] * n) for number in (-1, np.iinfo(np.int64).min, -1)]
        add("Slice", back[0], back[1], graph.constant(range(2, 2 + n)), back[2])
    if a > 1 or b > 1:
        positions = list(range(3, 3 + n))
        if group > 1:
            add("Reshape", graph.constant([group, a, b, *weight[2:]]))
            add("Transpose", perm=[0, 2, 1, *positions])
            add("Reshape", graph.constant([group * b, a, *weight[2:]]))
        else:
            add("Transpose", perm=[1, 0, *range(2, 2 + n)])
    known = graph.producers
    fresh = [n for n in nodes if n.output[0] not in known]
    known.update({n.output[0]: n for n in fresh})
    return fresh, nodes[-1].output[0] if nodes else name


@lowering("depthwise")
def depthwise(graph: Rewriter) -> None:
    """A depthwise transposed convolution in larger steps becomes zeros between the signal, and a convolution.

    onnxruntime's transposed convolution goes channel by channel; its depthwise convolution does not. The
    zeros come by a transposed convolution of all channels as if they were pictures of a batch.
    """
    for node in graph.nodes:
        if node.op_type != "ConvTranspose" or node.input[1] not in graph.dims:
            continue
        attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        weight, sizes = graph.dims[node.input[1]], graph.sizes(node.input[0])
        strides, one_each = attributes.get("strides", ()), (attributes.get("group", 1), 1)
        if weight[:2] != one_each or sizes is None:
            continue
        pads = _stuffed_pads(attributes, weight[2:])
        if pads is None or len(set(strides)) != 1 or strides[0] == 1:
            continue
        turned, name = _turned(graph, node.input[1], weight, weight[0])
        stuffed = _stuffed(graph, node, sizes, int(strides[0]), weight[0])
        kept = {k: v for k, v in attributes.items() if k in ("dilations", "group", "kernel_shape")}
        inputs = [stuffed[-1].output[0], name, *node.input[2:]]
        conv = helper.make_node("Conv", inputs, [""], node.name, pads=pads, **kept)
        graph.replace(node, [*turned, *stuffed, conv])


def _stuffed(
    graph: Rewriter, node: NodeProto, sizes: Sequence[int], step: int, channels: int
) -> list[NodeProto]:
    """Put a signal's values ``step`` apart, zeros in between and after the last."""
    first = np.zeros((1, 1, *[step] * len(sizes)), np.float32)
    first.flat[0] = 1
    steps: list[tuple[str, str, dict[str, Any]]] = [
        ("Reshape", graph.constant([-1, 1, *sizes]), {}),
        ("ConvTranspose", graph.constant(first, np.float32), {"strides": [step] * len(sizes)}),
        ("Reshape", graph.constant([-1, channels, *(d * step for d in sizes)]), {}),
    ]
    nodes: list[NodeProto] = []
    for operator, operand, attributes in steps:
        source = nodes[-1].output[0] if nodes else node.input[0]
        name = f"{node.name}/apart_{len(nodes)}"
        nodes.append(helper.make_node(operator, [source, operand], [name], name, **attributes))
    return nodes


def _stuffed_pads(attributes: Mapping[str, Any], kernel: Sequence[int]) -> list[int] | None:
    """Return the padding of the convolution; ``None`` where there is no such convolution."""
    n = len(kernel)
    if not set(attributes) <= _PLAIN:
        return None
    dilations, strides = attributes.get("dilations", [1] * n), attributes.get("strides", [1] * n)
    given, more = attributes.get("pads", [0] * (2 * n)), attributes.get("output_padding", [0] * n)
    around = [(k - 1) * d for k, d in zip(kernel, dilations, strict=True)]
    begins = [a - p for a, p in zip(around, given[:n], strict=True)]
    ends = [a - p + o - (s - 1) for a, p, o, s in zip(around, given[n:], more, strides, strict=True)]
    return begins + ends if min(begins + ends) >= 0 else None


@lowering("pools")
def pools(graph: Rewriter) -> None:
    """Where windows lie side by side, find their first maxima by comparing, not by switches.

    A MaxPool that is asked for switches is many times slower than one that is not, and keeps
    onnxruntime's blocked layout from passing. Here each of a window's positions, in row-major order,
    takes the signal if its value is the maximum and no position before it took it.
    """
    for node in graph.nodes:
        pool = _pool_of(graph, node)
        if pool is None:
            continue
        scatter, pool_node, side = pool
        graph.replace(node, _compared(node, pool_node, _unshaped(graph, scatter.input[2]), side))


def _pool_of(graph: Rewriter, node: NodeProto) -> tuple[NodeProto, NodeProto, int] | None:
    """Match Reshape(ScatterElements(zeros, Reshape(switches), Reshape(signal))) of windows side by side."""
    scatter = graph.producers.get(node.input[0]) if node.op_type == "Reshape" else None
    if scatter is None or scatter.op_type != "ScatterElements":
        return None
    switches = _unshaped(graph, scatter.input[1])
    pool = graph.producers.get(switches)
    if pool is None or pool.op_type != "MaxPool" or list(pool.output[1:]) != [switches]:
        return None
    attributes = {a.name: helper.get_attribute_value(a) for a in pool.attribute}
    kernel, strides = attributes["kernel_shape"], attributes.get("strides", [])
    sizes = graph.sizes(pool.input[0]) or []
    side_by_side = (
        len(set(kernel)) == 1
        and len(kernel) == len(sizes) == 2  # noqa: PLR2004
        and list(strides) == list(kernel)
        and all(d % kernel[0] == 0 for d in sizes)
        and not any(attributes.get("pads", ()))
        and all(d == 1 for d in attributes.get("dilations", ()))
        and not attributes.get("storage_order", 0)
        and attributes.get("auto_pad", b"NOTSET") in (b"NOTSET", b"VALID", b"SAME_UPPER", b"SAME_LOWER")
    )
    return (scatter, pool, int(kernel[0])) if side_by_side else None


def _compared(node: NodeProto, pool: NodeProto, signal: str, side: int) -> list[NodeProto]:
    nodes: list[NodeProto] = []

    def add(operator: str, inputs: Sequence[str], outputs: int = 1, **attributes: Any) -> list[str]:
        name = f"{node.name}/{operator}_{len(nodes)}"
        names = [f"{name}:{k}" if k else name for k in range(outputs)]
        nodes.append(helper.make_node(operator, inputs, names, name, **attributes))
        return names

    (blocks,) = add("SpaceToDepth", [pool.input[0]], blocksize=side)
    *first, _ = add("Split", [blocks], side * side, axis=1, num_outputs=side * side)
    left, taken = signal, []
    for values in first:
        (equal,) = add("Equal", [values, pool.output[0]])
        (mask,) = add("Cast", [equal], to=TensorProto.FLOAT)
        taken += add("Mul", [mask, left])
        (left,) = add("Sub", [left, taken[-1]])
    (all_taken,) = add("Concat", [*taken, left], axis=1)
    add("DepthToSpace", [all_taken], blocksize=side)
    return nodes


def _unshaped(graph: Rewriter, value: str) -> str:
    node = graph.producers.get(value)
    return str(node.input[0]) if node is not None and node.op_type == "Reshape" else value


def _types(proto: ModelProto) -> dict[str, tuple[int, tuple[int | str, ...]]]:
    """Infer each value's element type and sizes; those known only at run time are strings."""
    inferred = onnx.shape_inference.infer_shapes(proto).graph
    return {
        i.name: (
            i.type.tensor_type.elem_type,
            tuple(
                d.dim_value if d.HasField("dim_value") else d.dim_param for d in i.type.tensor_type.shape.dim
            ),
        )
        for i in (*inferred.input, *inferred.value_info, *inferred.output)
    }


def _read_inside(nodes: Iterable[NodeProto]) -> set[str]:
    """Collect what branches and loops read from outside."""
    read: set[str] = set()

    def look(graph: GraphProto) -> None:
        for node in graph.node:
            read.update(node.input)
            for inner in _graphs(node):
                look(inner)

    for node in nodes:
        for inner in _graphs(node):
            look(inner)
    return read


def _graphs(node: NodeProto) -> list[GraphProto]:
    return [g for a in node.attribute for g in ([a.g] if a.HasField("g") else a.graphs)]
