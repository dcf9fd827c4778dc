"""Weights that several filters read, each in a manner of its own."""

from collections.abc import Iterator

from onnx import NodeProto, TensorProto

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


@optimisation_pass("copies")
def copies(graph: Rewriter) -> None:
    """Filters that read one square weight in two manners, as it is and transposed, get a copy each.

    OpenVINO (2026.4) computes one of both wrongly where they share a weight with as many inputs as outputs:
    a Conv and a ConvTranspose, or two products of matrices. So explanations of a ResNet-18, of the embedded
    model and of a CIFAR-10 network are 79 to 99 % off then. It is the same where the weight is computed of
    constants.
    """
    weights = _Weights(graph)
    manners: dict[str, list[tuple[object, ...]]] = {}
    for node in graph.nodes:
        add = graph.builder(node.name)
        for place, value in _square_operands(graph, node):
            numbers = weights.described(value)
            if numbers is None:
                continue
            turned = [attributes_of(node).get(name) for name in ("transA", "transB")]
            manner = (node.op_type, place, *turned, weights.described(value, views=True))
            known = manners.setdefault(numbers, [])
            if manner not in known:
                known.append(manner)
            if turn := known.index(manner):
                node.input[place] = weights.copied(add, value, turn)
        if add.nodes:
            graph.insert_before(node, add.nodes)


def _square_operands(graph: Rewriter, node: NodeProto) -> Iterator[tuple[int, str]]:
    """Yield the operands of a filter that have as many inputs as outputs, and where they stand."""
    first = 0 if _CONVOLUTIONS.match(graph, node) else -_OPERANDS
    if first and not _PRODUCTS.match(graph, node):
        return
    for place, value in enumerate(node.input[:_OPERANDS]):
        dims = graph.dims.get(value) or graph.shape(value)
        if not dims or (len(dims) >= _OPERANDS and dims[first] == dims[first + 1]):
            yield place, value


class _Weights:
    """The values of a graph that are the same in every run."""

    def __init__(self, graph: Rewriter) -> None:
        self.graph, self.stored = graph, graph.constants.stored
        self._described: dict[tuple[str, bool], str | None] = {}
        self._copies: dict[tuple[str, int], str] = {}

    def described(self, value: str, *, views: bool = False) -> str | None:
        """Write down what a value is computed of, with or without its views; ``None`` if images take part."""
        if value in self.stored or not value:
            return value
        key = value, views
        if key not in self._described:
            self._described[key] = self._of_node(value, views=views)
        return self._described[key]

    def _of_node(self, value: str, *, views: bool) -> str | None:
        node = self.graph.producers.get(value)
        if node is None or not any(node.input) or any(subgraphs(node)):
            return None
        traits = find(node.op_type, node.domain).traits
        parts = [self.described(v, views=views) for v in node.input]
        if RANDOM in traits or None in parts:
            return None
        if VIEW in traits and not views:
            return parts[0]
        return f"{node.op_type}{attributes_of(node)}{parts}[{list(node.output).index(value)}]"

    def copied(self, add: Builder, value: str, turn: int) -> str:
        """Compute a value once more, of copies of what is stored."""
        if not value:
            return value
        if (value, turn) not in self._copies:
            if value in self.stored:
                self._copies[value, turn] = self._stored_again(value)
            else:
                node = self.graph.producers[value]
                found = add.copy(node, [self.copied(add, v, turn) for v in node.input])
                self._copies |= {(v, turn): c for v, c in zip(node.output, found, strict=True)}
        return self._copies[value, turn]

    def _stored_again(self, name: str) -> str:
        copy = TensorProto()
        copy.CopyFrom(self.stored[name])
        copy.name = self.graph.free(f"{name}/copied")
        self.graph.graph.initializer.append(copy)
        return copy.name
