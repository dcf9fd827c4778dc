"""Several graphs put into one: nodes, weights and inputs, under names that are free."""

from collections.abc import Mapping

from onnx import GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, numpy_helper

from onnx_deconv.model import Array
from onnx_deconv.model.canonical import put_in_order
from onnx_deconv.model.opset_conversion import at_opset
from onnx_deconv.model.protos import opset_of, renamed, stored_tensors, subgraphs
from onnx_deconv.operators.builder import BACKWARD, IR_VERSION


class Assembly:
    """A graph to which others are added; values that only they know get names that are free.

    Parameters
    ----------
    proto
        The graph to begin with; it is changed.
    outputs
        How many of its outputs it keeps.
    name
        What to call the model in an error.
    """

    def __init__(self, proto: ModelProto, outputs: int, name: str) -> None:
        self.proto, self.graph, self.opset = proto, proto.graph, opset_of(proto)
        del self.graph.output[outputs:]
        put_in_order(self.graph, name)
        self.nodes = {n.name for n in self.graph.node}
        for node in self.graph.node:
            if node.name.startswith(BACKWARD):  # by which the backward pass is told from the user's model
                node.name = self._node_name(f"model/{node.name}")
        given = {i.name for i in self.graph.input}
        self.taken = {*given, *_names(self.graph)}
        self.fixed = {t.name for t in self.graph.initializer if t.name in given}
        tensors = [(t.name, t) for t in self.graph.initializer if t.name not in given]
        tensors += stored_tensors(self.graph.node).items()
        self.tensors = {_content(tensor): name for name, tensor in tensors}

    def free(self, name: str) -> str:
        """Take a name that no value has: this one, or a longer one."""
        while name in self.taken:
            name += "_"
        self.taken.add(name)
        return name

    def append(self, part: ModelProto, names: Mapping[str, str]) -> dict[str, str]:
        """Add a graph's nodes; its values that have no other name in ``names`` are tied by their own.

        Returns
        -------
        dict
            What its outputs are called here.
        """
        inside = at_opset(part, self.opset, IR_VERSION).graph
        known = {i.name: i.name for i in inside.input} | dict(names)
        known |= {t.name: self._weight(t) for t in inside.initializer}
        for node in inside.node:
            known |= {v: self.free(v) for v in node.output if v and v not in known}
            self.graph.node.append(_renamed(node, known, self._node_name(node.name)))
        return {o.name: known[o.name] for o in inside.output}

    def add_input(self, info: ValueInfoProto, default: Array | None) -> None:
        """Declare an input; with a default, a caller may leave it out."""
        if default is not None:
            self.graph.initializer.append(numpy_helper.from_array(default, info.name))
        self.graph.input.append(info)

    def prepend(self, part: ModelProto, names: Mapping[str, str]) -> None:
        """Add a graph's nodes, in front of those that are there."""
        count = len(self.graph.node)
        self.append(part, names)
        turned = GraphProto()
        turned.node.extend([*self.graph.node[count:], *self.graph.node[:count]])
        del self.graph.node[:]
        self.graph.node.extend(turned.node)

    def replace_input(self, name: str, info: ValueInfoProto) -> None:
        """Declare another input in the place of one."""
        where = next(k for k, i in enumerate(self.graph.input) if i.name == name)
        self.graph.input[where].CopyFrom(info)

    def _node_name(self, name: str) -> str:
        while name in self.nodes:
            name += "_"
        self.nodes.add(name)
        return name

    def _weight(self, tensor: TensorProto) -> str:
        if tensor.name in self.fixed:
            return tensor.name
        content = _content(tensor)
        if content not in self.tensors:
            copy = TensorProto()
            copy.CopyFrom(tensor)
            copy.name = self.tensors[content] = self.free(tensor.name)
            self.graph.initializer.append(copy)
        return self.tensors[content]


def _names(graph: GraphProto) -> set[str]:
    """Collect the names of all values, those inside branches and loops too."""
    names = {v for n in graph.node for v in n.output} | {t.name for t in graph.initializer}
    names |= {t.values.name for t in graph.sparse_initializer}
    names |= {i.name for i in graph.input}
    for inner in (graph for node in graph.node for graph in subgraphs(node)):
        names |= _names(inner)
    return names


def _content(tensor: TensorProto) -> object:
    """Tell tensors of the same numbers: by where they are, or by the numbers themselves."""
    head = tensor.data_type, tuple(tensor.dims)
    if tensor.data_location == TensorProto.EXTERNAL:
        return *head, tuple(sorted((e.key, e.value) for e in tensor.external_data))
    return *head, numpy_helper.to_array(tensor).tobytes()


def _renamed(node: NodeProto, names: Mapping[str, str], name: str) -> NodeProto:
    new = renamed(node, names)
    new.name = name
    return new
