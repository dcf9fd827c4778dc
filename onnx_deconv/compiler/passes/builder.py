"""Write the nodes that a pass puts in the place of others."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray
from onnx import NodeProto

from onnx_deconv.model.node_builder import NodeBuilder

if TYPE_CHECKING:
    from onnx_deconv.compiler.passes.rewriter import Rewriter


class Builder(NodeBuilder):
    """Nodes to be put into a graph; no value is named as one that the graph has.

    Parameters
    ----------
    graph
        Where constants are stored.
    name
        What names of new nodes and values begin with: that of the node they belong to, by which passes tell
        the backward pass from the user's model.
    """

    def __init__(self, graph: "Rewriter", name: str) -> None:
        super().__init__(name)
        self.graph = graph

    def constant(self, numbers: NDArray[Any]) -> str:
        """Store a small constant in the graph, once; return its name."""
        return self.graph.constant(numbers)

    def free(self, name: str) -> str:
        """Take a name that no value of the graph has."""
        return self.graph.free(name)

    def copy(self, node: NodeProto, inputs: Sequence[str]) -> list[str]:
        """Append a node like another one, that reads other values; return its outputs."""
        self.append(node.op_type, *inputs, outputs=len(node.output))
        self.nodes[-1].domain = node.domain
        self.nodes[-1].attribute.extend(node.attribute)
        return list(self.nodes[-1].output)

    def rename(self, names: Iterable[tuple[str, str]]) -> None:
        """Give values other names, wherever the nodes make or read them."""
        known = dict(names)
        for node in self.nodes:
            node.input[:] = [known.get(value, value) for value in node.input]
            node.output[:] = [known.get(value, value) for value in node.output]
