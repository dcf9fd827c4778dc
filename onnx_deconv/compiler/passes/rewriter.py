"""A graph to be rewritten, and the passes that do it, by name."""

import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from onnx_deconv.model.protos import opset_of

BACK = "deconv/"
"""What names of nodes on the way back begin with."""

BLOCK = 16
"""Channels that onnxruntime's blocked layout keeps together, at most."""

_MADE_AT_LOAD = {
    "Add", "Cast", "ConstantOfShape", "Div", "Max", "Min", "Mul", "Neg", "Relu", "Reshape", "Slice", "Sqrt",
    "Sub", "Transpose",
}  # fmt: skip
"""What companions compute of weights alone: their positive parts, scaled, turned around."""

_PICTURE_BY_PICTURE = {"Conv", "Relu", "Split", "Sum"}


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
        self.results = {o.name for o in self.graph.output} | _read_inside(self.nodes)
        self._readers: dict[str, list[NodeProto]] = {}
        for node in self.nodes:
            for value in set(node.input):
                self._readers.setdefault(value, []).append(node)
        self.types = _types(proto)
        self.dims = {t.name: tuple(t.dims) for t in self.graph.initializer} | self._made_at_load()
        self._declared: set[str] = {i.name for i in self.graph.value_info}
        self._made: dict[object, str] = {}
        self._instead: dict[int, list[NodeProto]] = {}

    def _made_at_load(self) -> dict[str, tuple[int, ...]]:
        """Return the sizes of what a runtime computes of constants alone when it loads the model."""
        held = {t.name for t in self.graph.initializer} - {i.name for i in self.graph.input}
        found = {}
        for node in self.nodes:
            if node.op_type in _MADE_AT_LOAD and held.issuperset(filter(None, node.input)):
                held.update(node.output)
                dims = self.types.get(node.output[0], (0, ("",)))[1]
                known = tuple(d for d in dims if isinstance(d, int) and d > 0)
                if len(known) == len(dims):
                    found[node.output[0]] = known
        return found

    def sizes(self, value: str) -> list[int] | None:
        """Return a float32 value's spatial sizes; ``None`` where they are not known, or the type is not."""
        dtype, dims = self.types.get(value, (0, ()))
        sizes = [d for d in dims[2:] if isinstance(d, int) and d > 0]
        return sizes if dtype == TensorProto.FLOAT and len(sizes) == len(dims) - 2 else None

    def filter_sizes(self, conv: NodeProto) -> list[int | str]:
        """Return the sizes of a convolution's filter, stored or made at load; nothing where not known."""
        return list(self.dims.get(conv.input[1]) or self.types.get(conv.input[1], (0, ()))[1])

    def readers(self, value: str) -> list[NodeProto]:
        """List the nodes that read a value; none where the graph gives it, or a branch or loop reads it."""
        return [] if value in self.results else self._readers.get(value, [])

    def only_reader(self, value: str) -> NodeProto | None:
        """Return the one node that reads a value; ``None`` where others do, or the graph gives it."""
        readers = self.readers(value)
        return readers[0] if len(readers) == 1 else None

    def declare(self, value: str, dims: Sequence[int | str]) -> None:
        """Write down a float32 value's sizes, and those of what it was computed from picture by picture.

        A runtime that knows sizes to be equal can compute in place, and keep a layout of its own.
        """
        while value not in self._declared:
            self._declared.add(value)
            self.graph.value_info.append(helper.make_tensor_value_info(value, TensorProto.FLOAT, dims))
            node = self.producers.get(value)
            if node is None or node.op_type not in _PICTURE_BY_PICTURE or not self.sizes(node.input[0]):
                break
            value = node.input[0]
            dims = [dims[0], *self.types[value][1][1:]]

    def replace(self, node: NodeProto, by: Sequence[NodeProto]) -> None:
        """Put other nodes in the place of one; the last gives its output."""
        by[-1].output[0] = node.output[0]
        self._instead[id(node)] = list(by)

    def append(self, node: NodeProto, behind: Sequence[NodeProto]) -> None:
        """Put nodes behind one, which stays where something reads it."""
        self._instead[id(node)] = [node, *behind]

    def constant(self, numbers: Any, dtype: Any = np.int64) -> str:
        """Store a small constant, once."""
        array = np.asarray(numbers, dtype)
        key = array.dtype.str, array.shape, array.tobytes()
        if key not in self._made:
            # Earlier passes have left theirs.
            free = (
                f"optimised/constant_{k}"
                for k in itertools.count()
                if f"optimised/constant_{k}" not in self.dims
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


class Branch:
    """Nodes to be put in the place of one, named after it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.nodes: list[NodeProto] = []

    def add(self, operator: str, *inputs: str, outputs: int = 1, **attributes: Any) -> list[str]:
        """Append a node; return its outputs."""
        name = f"{self.name}/{operator}_{len(self.nodes)}"
        names = [f"{name}:{k}" if k else name for k in range(outputs)]
        self.nodes.append(helper.make_node(operator, inputs, names, name, **attributes))
        return names

    def __call__(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Append a node of one output; return it."""
        return self.add(operator, *inputs, **attributes)[0]


def attributes_of(node: NodeProto) -> dict[str, Any]:
    """Return a node's attributes by name; what it leaves out is not there."""
    return {a.name: helper.get_attribute_value(a) for a in node.attribute}


Pass = Callable[[Rewriter], None]
PASSES: dict[str, Pass] = {}


def lowering(name: str) -> Callable[[Pass], Pass]:
    """Register a pass under its name."""

    def register(function: Pass) -> Pass:
        PASSES[name] = function
        return function

    return register


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
