"""Weights that several filters read, each in a manner of its own."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from onnx import NodeProto, TensorProto, numpy_helper

from onnx_deconv.compiler.passes.builder import Builder
from onnx_deconv.compiler.passes.pattern import op
from onnx_deconv.compiler.passes.registry import optimisation_pass
from onnx_deconv.compiler.passes.rewriter import Rewriter
from onnx_deconv.model.protos import attributes_of, subgraphs
from onnx_deconv.operators import find
from onnx_deconv.operators.traits import RANDOM, VIEW

_CONVOLUTIONS = op.Conv() | op.ConvTranspose()
_PRODUCTS = op.Gemm() | op.MatMul()
_OPERANDS = 2
_SMALL = 16
"""Numbers; of constants with more than four OpenVINO was not seen to make one."""


@optimisation_pass("copies")
def copies(graph: Rewriter) -> None:
    """Filters that read one square weight in two manners, as it is and transposed, get a copy each.

    OpenVINO (2026.4) computes one of both wrongly where they share a weight with as many inputs as outputs:
    a Conv and a ConvTranspose, or two products of matrices. So explanations of a ResNet-18, of the embedded
    model and of a CIFAR-10 network are 79 to 99 % off then. It is the same where the weight is computed of
    constants. A copy of a small weight is stored with two axes exchanged, and a Transpose before its reader:
    of small constants OpenVINO (2025.4, in its provider of 1.24) makes one where their numbers are equal.
    """
    weights = _Weights(graph)
    manners: dict[str, list[tuple[object, ...]]] = {}
    for node in graph.nodes:
        add = graph.builder(node.name)
        for place, value in _square_operands(graph, node):
            origin = weights.origin(value)
            if origin is None:
                continue
            turned = [attributes_of(node).get(name) for name in ("transA", "transB")]
            manner = (node.op_type, place, *turned, *origin.views)
            known = manners.setdefault(origin.largest, [])
            if manner not in known:
                known.append(manner)
            if turn := known.index(manner):
                node.input[place] = weights.copied(add, value, turn, _first_axis(graph, node))
        if add.nodes:
            graph.insert_before(node, add.nodes)


def _square_operands(graph: Rewriter, node: NodeProto) -> Iterator[tuple[int, str]]:
    """Yield the operands of a filter that have as many inputs as outputs, and where they stand."""
    first = _first_axis(graph, node)
    if first and not _PRODUCTS.match(graph, node):
        return
    for place, value in enumerate(node.input[:_OPERANDS]):
        dims = graph.dims.get(value) or graph.shape(value)
        if not dims or (len(dims) >= _OPERANDS and dims[first] == dims[first + 1]):
            yield place, value


def _first_axis(graph: Rewriter, node: NodeProto) -> int:
    """Return the first of the two axes, inputs and outputs, of a filter's weight."""
    return 0 if _CONVOLUTIONS.match(graph, node) else -_OPERANDS


@dataclass(frozen=True)
class _Origin:
    """What a constant is computed of.

    Attributes
    ----------
    largest
        The largest of the tensors that are stored.
    size
        How many numbers that has.
    views
        The views that its first operand went through.
    """

    largest: str = ""
    size: int = 0
    views: tuple[str, ...] = ()


class _Weights:
    """The values of a graph that are the same in every run."""

    def __init__(self, graph: Rewriter) -> None:
        self.graph, self.stored = graph, graph.constants.stored
        self._origins: dict[str, _Origin | None] = {}
        self._copies: dict[tuple[str, int], str] = {}

    def origin(self, value: str) -> _Origin | None:
        """Find out what a value is computed of; ``None`` if images take part."""
        if not value:
            return _Origin()
        if value in self.stored:
            return _Origin(value, math.prod(self.stored[value].dims))
        if value not in self._origins:
            self._origins[value] = self._of_node(value)
        return self._origins[value]

    def _of_node(self, value: str) -> _Origin | None:
        node = self.graph.producers.get(value)
        if node is None or not any(node.input) or any(subgraphs(node)):
            return None
        traits = find(node.op_type, node.domain).traits
        found = [self.origin(v) for v in node.input]
        parts = [each for each in found if each is not None]
        if RANDOM in traits or len(parts) < len(found):
            return None
        view = (f"{node.op_type}{attributes_of(node)}",) if VIEW in traits else ()
        largest = max(parts, key=lambda part: part.size)
        return _Origin(largest.largest, largest.size, (*parts[0].views, *view))

    def copied(self, add: Builder, value: str, turn: int, first: int) -> str:
        """Compute a value once more, of copies of what is stored; ``first`` is a weight's first axis."""
        if not value:
            return value
        if (value, turn) not in self._copies:
            if value in self.stored:
                self._copies[value, turn] = self._stored_again(add, value, first)
            else:
                node = self.graph.producers[value]
                found = add.copy(node, [self.copied(add, v, turn, first) for v in node.input])
                self._copies |= {(v, turn): c for v, c in zip(node.output, found, strict=True)}
        return self._copies[value, turn]

    def _stored_again(self, add: Builder, name: str, first: int) -> str:
        copy = TensorProto()
        copy.CopyFrom(self.stored[name])
        numbers = self.graph.constants.numbers(name)
        small = numbers is not None and numbers.size <= _SMALL and numbers.ndim >= _OPERANDS
        axes = list(range(len(copy.dims)))
        if numbers is not None and small:
            axes[first], axes[first + 1] = axes[first + 1], axes[first]
            copy.CopyFrom(numpy_helper.from_array(numbers.transpose(axes)))
        copy.name = self.graph.free(f"{name}/copied")
        self.graph.graph.initializer.append(copy)
        return str(add.Transpose(copy.name, perm=axes)) if small else copy.name
