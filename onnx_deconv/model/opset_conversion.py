"""Rewrite a graph for a newer opset, node by node: most nodes mean the same there and stay as they are.

One graph has one opset. Where a user's graph and a companion become one, the older of both is raised:
a node whose form the newer opset still has is kept to the byte; the others are rewritten, each on its
own, by the standard's version converter.
"""

from collections.abc import Iterator

import onnx
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, defs, helper

from onnx_deconv.errors import ModelError
from onnx_deconv.model.decompositions import spell_out
from onnx_deconv.model.functions import inlined
from onnx_deconv.model.plain_forms import name_domains
from onnx_deconv.model.protos import copy_of, opset_of, renamed, replace, stored_tensors, subgraphs
from onnx_deconv.operators import own_domain

# Operators that kept their form and changed their meaning, and the opset in which they did.
_NEW_MEANINGS = {
    "Softmax": 13, "LogSoftmax": 13, "Hardmax": 13, "Resize": 11, "Scan": 9, "GridSample": 20, "DFT": 20,
    "GroupNormalization": 21, "RoiAlign": 16,
}  # fmt: skip
# Opset 18 made an even Split say into how many parts.
_SPLIT_BY_NUMBER = 18
_FIRST_IR_WITHOUT_LISTED_WEIGHTS = 4
_IN_FLOAT32 = {"MeanVarianceNormalization"}
"""Functions that onnxruntime (1.32) writes with constants of float32 at some opsets, whatever they read."""


def at_opset(proto: ModelProto, opset: int, ir_version: int) -> ModelProto:
    """Return a copy of a model that computes the same at a newer opset.

    Parameters
    ----------
    proto
        The model; its weights may be external.
    opset, ir_version
        At least these; a model that is newer keeps its own.

    Raises
    ------
    ModelError
        If a node has no equivalent there; it is named.
    """
    copy, old = ModelProto(), opset_of(proto)
    copy.CopyFrom(proto)
    if copy.ir_version < _FIRST_IR_WITHOUT_LISTED_WEIGHTS:
        # A weight that is listed as an input would become one that a caller may replace.
        weights = {t.name for t in copy.graph.initializer}
        replace(copy.graph.input, [i for i in copy.graph.input if i.name not in weights])
    copy.ir_version = max(copy.ir_version, ir_version)
    if old >= opset:
        return copy
    name_domains(copy)
    if copy.functions:
        copy = inlined(copy)
    spell_out(copy.graph, lambda node: node.domain == "" and _schema(node.op_type, opset) is None)
    _raise(copy.graph, _Types(copy), old, opset)
    for entry in copy.opset_import:
        if own_domain(entry.domain) == "":
            entry.version = opset
    return copy


def means_the_same(node: NodeProto, old: int, new: int) -> bool:
    """Tell whether a node of one opset is valid, and computes the same, in another."""
    if own_domain(node.domain) != "":
        return True
    before, after = _schema(node.op_type, old), _schema(node.op_type, new)
    if before is None or after is None or after.deprecated:
        return False
    if before.since_version == after.since_version:
        return True
    given = {a.name for a in node.attribute}
    return (
        not old < _NEW_MEANINGS.get(node.op_type, 0) <= new
        and not (node.op_type == "Split" and old < _SPLIT_BY_NUMBER and not _says_sizes(node, given))
        and given <= set(after.attributes)
        and {a.name for a in after.attributes.values() if a.required} <= given
        and after.min_input <= len(node.input) <= after.max_input
        and len(node.output) <= after.max_output
        and all(
            name in given or name not in after.attributes or _default(a) == _default(after.attributes[name])
            for name, a in before.attributes.items()
        )
    )


def _says_sizes(node: NodeProto, given: set[str]) -> bool:
    return len(node.input) > 1 or "split" in given


def _default(attribute: defs.OpSchema.Attribute) -> bytes:
    value: bytes = attribute.default_value.SerializeToString()
    return value


def _schema(operator: str, opset: int) -> defs.OpSchema | None:
    try:
        return defs.get_schema(operator, opset, "")
    except defs.SchemaError:
        return None


class _Types:
    """What is known of a model's values: the converter needs ranks, and the numbers of small constants."""

    def __init__(self, proto: ModelProto) -> None:
        graph = onnx.shape_inference.infer_shapes(proto).graph
        self.infos = {i.name: i for i in (*graph.input, *graph.value_info, *graph.output)}
        inline = (t for t in graph.initializer if t.data_location != TensorProto.EXTERNAL)
        self.constants: dict[str, TensorProto] = {t.name: t for t in inline}
        self.constants |= stored_tensors(graph.node)
        for t in graph.initializer:
            self.infos[t.name] = helper.make_tensor_value_info(t.name, t.data_type, list(t.dims))

    def of(self, name: str) -> ValueInfoProto:
        """Return a value's type; of an unknown one, that it is of numbers."""
        info = self.infos.get(name)
        if info is not None:
            return info
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, None)


def _raise(graph: GraphProto, types: _Types, old: int, new: int) -> None:
    nodes: list[NodeProto] = []
    for node in graph.node:
        for inner in subgraphs(node):
            _raise(inner, types, old, new)
        half = any(types.of(v).type.tensor_type.elem_type == TensorProto.FLOAT16 for v in node.input)
        if half and node.op_type in _IN_FLOAT32:
            nodes += _in_float32(node)
        elif means_the_same(node, old, new):
            nodes.append(node)
        else:
            nodes += _converted(node, types, old, new)
    replace(graph.node, nodes)


def _in_float32(node: NodeProto) -> list[NodeProto]:
    """Rewrite a node of float16 as one of float32, between casts."""
    (read,), (given,) = node.input, node.output
    wide, result = f"{given}/float32", f"{given}/in_float32"
    before = helper.make_node("Cast", [read], [wide], wide, to=TensorProto.FLOAT)
    after = helper.make_node("Cast", [result], [given], result, to=TensorProto.FLOAT16)
    return [before, renamed(node, {read: wide, given: result}), after]


def _converted(node: NodeProto, types: _Types, old: int, new: int) -> Iterator[NodeProto]:
    """Rewrite one node as those that compute the same at the newer opset."""
    constants = [_named(types.constants[v], v) for v in node.input if v in types.constants]
    inputs = [types.of(v) for v in dict.fromkeys(node.input) if v]
    graph = helper.make_graph([node], "node", inputs, [types.of(v) for v in node.output if v], constants)
    alone = helper.make_model(graph, opset_imports=[helper.make_opsetid("", old)], ir_version=8)
    try:
        found = onnx.version_converter.convert_version(alone, new).graph
    except Exception as error:  # the converter has no common base for what it raises
        name = node.name or node.output[0]
        remedy = f"export the model for opset {new}"
        reason = str(error).strip().partition("\n")[0]
        raise ModelError(
            f"{node.op_type} {name!r} cannot be raised to opset {new} ({reason}): {remedy}"
        ) from error
    known = {*node.input, *node.output}
    made = {v for n in found.node for v in n.output} | {t.name for t in found.initializer}
    names = {v: f"{node.output[0]}/{v}" for v in made - known}
    for tensor in found.initializer:
        if tensor.name in names:
            new_tensor = _named(tensor, names[tensor.name])
            yield helper.make_node("Constant", [], [new_tensor.name], new_tensor.name, value=new_tensor)
    for new_node in (renamed(n, names) for n in found.node):
        new_node.name = new_node.name or new_node.output[0]
        yield new_node


def _named(tensor: TensorProto, name: str) -> TensorProto:
    copy = copy_of(tensor)
    copy.name = name
    return copy
