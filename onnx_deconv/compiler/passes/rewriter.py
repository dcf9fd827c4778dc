"""A graph to be rewritten: what its values are, who makes and who reads them, and what is put where."""

import itertools
from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import cached_property
from typing import Any, TypeGuard

import onnx
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from onnx_deconv.compiler.passes.builder import Builder
from onnx_deconv.compiler.passes.constants import Constants
from onnx_deconv.model.protos import opset_of, replace, subgraphs

BLOCK = 16
"""The most channels that a block of onnxruntime's blocked layout (NCHWc) holds."""

Dims = tuple[int | str, ...]
"""A shape; sizes that are known only at run time are names, or empty."""

_IMAGE_BY_IMAGE = {"Conv", "Relu", "Split", "Sum"}


class Rewriter:
    """A graph whose nodes can be asked for, replaced and added to.

    Parameters
    ----------
    proto
        The model; it is changed.

    Attributes
    ----------
    model, graph
        The model, and its graph.
    nodes
        The nodes as they were, in order.
    producers
        The node that makes each value.
    results
        Values that keep their names: the graph's outputs, and what a branch or loop reads.
    types
        Each value's element type and shape.
    dims
        Shapes of the constants that are stored, or made of such when the model is loaded.
    """

    def __init__(self, proto: ModelProto) -> None:
        self.model, self.graph, self.opset = proto, proto.graph, opset_of(proto)
        self.nodes: list[NodeProto] = list(self.graph.node)
        self.producers = {v: n for n in self.nodes for v in n.output if v}
        self.results = {o.name for o in self.graph.output} | _read_inside(self.nodes)
        self._readers: dict[str, list[NodeProto]] = {}
        for node in self.nodes:
            for value in set(node.input):
                self._readers.setdefault(value, []).append(node)
        self.types = _types(proto)
        self.dims: dict[str, Dims] = {t.name: tuple(t.dims) for t in self.graph.initializer}
        self.dims |= self._made_at_load()
        self._taken = {*self.producers, *(t.name for t in self.graph.initializer)}
        self._declared: set[str] = {i.name for i in self.graph.value_info}
        self._constants: dict[object, str] = {}
        self._instead: dict[int, list[NodeProto]] = {}

    def _made_at_load(self) -> dict[str, Dims]:
        """Return the shapes of constants that no file stores: filled with one number, or parts of weights."""
        return {v: dims for v, dims in self.constants.dims.items() if dims and all(map(_is_size, dims))}

    def shape(self, value: str) -> Dims:
        """Return a value's shape; empty where its rank is not known."""
        return self.types.get(value, (0, ()))[1]

    def sizes(self, value: str, types: Collection[int] = (TensorProto.FLOAT,)) -> list[int] | None:
        """Return a value's spatial sizes; ``None`` where one is not known, or it is none of these types."""
        dtype, dims = self.types.get(value, (0, ()))
        sizes = [d for d in dims[2:] if _is_size(d)]
        return sizes if dtype in types and len(sizes) == len(dims) - 2 else None

    def filter_shape(self, conv: NodeProto) -> Dims:
        """Return the shape of a convolution's filter, stored or made at load; empty where not known."""
        return self.dims.get(conv.input[1]) or self.shape(conv.input[1])

    def readers(self, value: str) -> list[NodeProto]:
        """List the nodes that read a value; none where it is a result."""
        return [] if value in self.results else self._readers.get(value, [])

    def only_reader(self, value: str) -> NodeProto | None:
        """Return the one node that reads a value; ``None`` where there are several, or it is a result."""
        readers = self.readers(value)
        return readers[0] if len(readers) == 1 else None

    def declare(self, value: str, dims: Sequence[int | str]) -> None:
        """Write down a float32 value's shape, and those of what it was computed from image by image.

        A runtime that knows shapes to be equal can compute in place, and keep a layout of its own.
        """
        while value not in self._declared:
            self._declared.add(value)
            self.graph.value_info.append(helper.make_tensor_value_info(value, TensorProto.FLOAT, dims))
            node = self.producers.get(value)
            if node is None or node.op_type not in _IMAGE_BY_IMAGE or not self.sizes(node.input[0]):
                break
            value = node.input[0]
            dims = [dims[0], *self.types[value][1][1:]]

    @cached_property
    def constants(self) -> Constants:
        """The values that are the same in every run, computed ones too."""
        return Constants(self)

    @property
    def changed(self) -> bool:
        """Whether nodes are to be put in the place of others."""
        return bool(self._instead)

    def builder(self, name: str) -> Builder:
        """Begin a few nodes whose names start with a name."""
        return Builder(self, name)

    def replace(self, node: NodeProto, by: Builder, *results: str) -> None:
        """Put other nodes in the place of one; the results, in order, get the names of its outputs."""
        by.rename(zip(results, node.output, strict=False))
        self._instead[id(node)] = by.nodes
        self.producers |= {v: made for made in by.nodes for v in made.output}

    def insert_before(self, node: NodeProto, nodes: Sequence[NodeProto]) -> None:
        """Put nodes before one."""
        self._instead[id(node)] = [*nodes, node]

    def insert_after(self, node: NodeProto, nodes: Sequence[NodeProto]) -> None:
        """Put nodes after one, which stays where something reads it."""
        self._instead[id(node)] = [node, *nodes]

    def bypass(self, node: NodeProto, source: str) -> None:
        """Have the readers of a node's output read another value; a result is still given by its name."""
        output = node.output[0]
        if output in self.results:
            add = self.builder(node.name)
            self.replace(node, add, add.Identity(source))
        for reader in self.readers(output):
            reader.input[:] = [source if value == output else value for value in reader.input]

    def free(self, name: str) -> str:
        """Take a name that no value has: this one, or a longer one."""
        while name in self._taken:
            name += "_"
        self._taken.add(name)
        return name

    def constant(self, numbers: NDArray[Any]) -> str:
        """Store a small constant, once; return its name."""
        key = numbers.dtype.str, numbers.shape, numbers.tobytes()
        if key not in self._constants:
            names = map("optimised/constant_{}".format, itertools.count())
            self._constants[key] = name = self.free(next(n for n in names if n not in self._taken))
            self.dims[name] = numbers.shape
            self.graph.initializer.append(numpy_helper.from_array(numbers, name))
        return self._constants[key]

    def finish(self) -> None:
        """Write the nodes back, without those that nothing reads, and without weights that none of them does.

        A weight that is an input too, which a caller may replace, goes as both: else it would have to be
        given.
        """
        nodes = [made for node in self.nodes for made in self._written(node)]
        wanted = {o.name for o in self.graph.output} | _read_inside(nodes)
        live: list[NodeProto] = []
        for node in reversed(nodes):
            if any(v in wanted for v in node.output):
                live.append(node)
                wanted.update(node.input)
        for node in live:
            if node.op_type == "MaxPool" and len(node.output) > 1 and node.output[1] not in wanted:
                del node.output[1:]
        replace(self.graph.node, live[::-1])
        unread = {t.name for t in self.graph.initializer} - wanted
        replace(self.graph.initializer, [t for t in self.graph.initializer if t.name not in unread])
        replace(self.graph.input, [i for i in self.graph.input if i.name not in unread])

    def _written(self, node: NodeProto) -> Iterator[NodeProto]:
        """Yield what stands in the place of a node, where some of it may have been replaced as well."""
        for made in self._instead.get(id(node), [node]):
            if made is node:
                yield node
            else:
                yield from self._written(made)


def _is_size(dim: int | str) -> TypeGuard[int]:
    return isinstance(dim, int) and dim > 0


def _types(proto: ModelProto) -> dict[str, tuple[int, Dims]]:
    """Infer each value's element type and shape."""
    inferred = onnx.shape_inference.infer_shapes(proto).graph
    found = {}
    for info in (*inferred.input, *inferred.value_info, *inferred.output):
        tensor = info.type.tensor_type
        dims = [d.dim_value if d.HasField("dim_value") else d.dim_param for d in tensor.shape.dim]
        found[info.name] = tensor.elem_type, tuple(dims)
    return found


def _read_inside(nodes: Iterable[NodeProto]) -> set[str]:
    """Collect what branches and loops read from outside."""
    read: set[str] = set()
    inside = [graph for node in nodes for graph in subgraphs(node)]
    for graph in inside:  # grows as it is gone through
        for node in graph.node:
            read.update(node.input)
            inside += subgraphs(node)
    return read
