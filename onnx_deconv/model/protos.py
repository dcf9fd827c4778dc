"""Small helpers for ONNX protobuf messages."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeVar

from google.protobuf.message import Message
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, helper

from onnx_deconv.operators import own_domain

M = TypeVar("M", bound=Message)


def copy_of(message: M) -> M:
    """Copy a message that belongs to another one, or soon will not."""
    return type(message).FromString(message.SerializeToString())


def replace(field: Any, content: Iterable[Message]) -> None:
    """Give a repeated field other content, which may come from the field itself."""
    copies = [copy_of(each) for each in content]
    del field[:]
    field.extend(copies)


def read_whole(message: Message) -> None:
    """Look at every field of a message once, which a parser of protobuf does not.

    Raises
    ------
    ValueError
        If a text is none: then it is bytes, or cannot be looked at.
    """
    waiting = [message]
    while waiting:
        for field, value in waiting.pop().ListFields():
            if field.type not in (field.TYPE_STRING, field.TYPE_MESSAGE):
                continue
            for each in [value] if isinstance(value, str | bytes | Message) else value:
                if isinstance(each, bytes):
                    raise ValueError(f"{field.name} {each[:40]!r} is no text")  # noqa: TRY004  (of a file)
                if isinstance(each, Message):
                    waiting.append(each)


def opset_of(proto: ModelProto) -> int:
    """Return the version of the standard operators that a model uses."""
    return next((int(o.version) for o in proto.opset_import if own_domain(o.domain) == ""), 1)


def attributes_of(node: NodeProto) -> dict[str, Any]:
    """Return a node's attributes as Python values."""
    return {a.name: helper.get_attribute_value(a) for a in node.attribute}


def subgraphs(node: NodeProto) -> Iterator[GraphProto]:
    """Yield the branches and bodies of a node."""
    for attribute in node.attribute:
        yield from [attribute.g] if attribute.type == AttributeProto.GRAPH else attribute.graphs


def every_node(nodes: Iterable[NodeProto]) -> Iterator[NodeProto]:
    """Yield nodes, and those in their branches and bodies."""
    for node in nodes:
        yield node
        for graph in subgraphs(node):
            yield from every_node(graph.node)


def all_tensors(proto: ModelProto) -> Iterable[TensorProto]:
    """Yield every tensor of a model: initializers and attributes, in subgraphs and functions too."""
    yield from _graph_tensors(proto.graph)
    for function in proto.functions:
        yield from _node_tensors(function.node)


def _graph_tensors(graph: GraphProto) -> Iterable[TensorProto]:
    yield from graph.initializer
    yield from _node_tensors(graph.node)


def _node_tensors(nodes: Iterable[NodeProto]) -> Iterable[TensorProto]:
    for node in nodes:
        for attribute in node.attribute:
            if attribute.type == AttributeProto.TENSOR:
                yield attribute.t
            elif attribute.type == AttributeProto.TENSORS:
                yield from attribute.tensors
        for graph in subgraphs(node):
            yield from _graph_tensors(graph)


def constant_nodes(nodes: Iterable[NodeProto]) -> dict[str, AttributeProto]:
    """Return what the Constant nodes hold, by the name of the value."""
    return {n.output[0]: n.attribute[0] for n in nodes if n.op_type == "Constant" and n.attribute}


def stored_tensors(nodes: Iterable[NodeProto]) -> dict[str, TensorProto]:
    """Return the tensors of those Constant nodes that hold one as such, by the name of the value."""
    return {name: held.t for name, held in constant_nodes(nodes).items() if held.name == "value"}


def renamed(node: NodeProto, names: Mapping[str, str]) -> NodeProto:
    """Copy a node, its values under other names."""
    new = copy_of(node)
    new.input[:] = [names.get(v, v) for v in new.input]
    new.output[:] = [names.get(v, v) for v in new.output]
    return new
