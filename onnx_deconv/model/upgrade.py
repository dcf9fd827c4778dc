"""Rewrite opsets 1 to 6, which onnxruntime no longer runs, as opset 7.

The standard's own version converter gets their broadcasting wrong: ``Add(x[N,C,H,W], b[C], axis=1)``
becomes a ``[C,1,1,1]`` addend.
"""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import onnx
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from onnx_deconv.errors import ModelError
from onnx_deconv.model.plain_forms import name_domains
from onnx_deconv.model.protos import replace

OLDEST_OPSET = 7
"""The oldest opset that onnxruntime promises to run."""


def upgrade(proto: ModelProto) -> ModelProto:
    """Rewrite a model of opset 1 to 6 as one of opset 7 that computes the same.

    Broadcasting by ``axis`` becomes an explicit Unsqueeze, hints for in-place computation and
    training are dropped, and attributes that became inputs or changed their type are moved.

    Parameters
    ----------
    proto
        The model, with its weights inside; not changed.

    Returns
    -------
    ModelProto
        At opset 7.

    Raises
    ------
    ModelError
        If it uses an operator whose old form is not known here.
    """
    new = ModelProto()
    new.CopyFrom(proto)
    name_domains(new)
    old = [n.op_type for n in new.graph.node if n.op_type in _UNKNOWN_FORMS]
    if old:
        names = ", ".join(sorted(set(old)))
        raise ModelError(f"opset {_opset(proto).version} of {names} is too old; export the model again")
    for node in new.graph.node:
        _drop(node, {"consumed_inputs", "is_test"})
        if node.op_type in _MOVED:
            _MOVED[node.op_type](new.graph, node)
    _opset(new).version = _LAST_OLD
    _broadcast_explicitly(new)
    _opset(new).version = OLDEST_OPSET
    del new.graph.value_info[:]
    return new


_LAST_OLD = 6
_UNKNOWN_FORMS = {"Tile", "Upsample", "Split", "LpPool", "GlobalLpPool", "Loop", "Scan", "If", "ATen"}
_BINARY = {"Add", "Sub", "Mul", "Div", "Pow", "And", "Or", "Xor", "Equal", "Greater", "Less"}


def _opset(proto: ModelProto) -> Any:
    return next(o for o in proto.opset_import if o.domain in ("", "ai.onnx"))


def _drop(node: NodeProto, names: Iterable[str]) -> dict[str, Any]:
    """Remove attributes; return their values."""
    gone = {a.name: helper.get_attribute_value(a) for a in node.attribute if a.name in names}
    kept = [a for a in node.attribute if a.name not in gone]
    del node.attribute[:]
    node.attribute.extend(kept)
    return gone


def _move_reshape(graph: GraphProto, node: NodeProto) -> None:
    """The target was an attribute up to opset 4."""
    target = _drop(node, {"shape"})
    if target:
        name = f"{node.output[0]}/shape"
        graph.initializer.append(numpy_helper.from_array(np.asarray(target["shape"], np.int64), name))
        node.input.append(name)


def _move_cast(_: GraphProto, node: NodeProto) -> None:
    """The type was a name up to opset 5."""
    to = _drop(node, {"to"})["to"]
    number = TensorProto.DataType.Value(to.decode().upper()) if isinstance(to, bytes) else to
    node.attribute.append(helper.make_attribute("to", number))


def _move_concat(_: GraphProto, node: NodeProto) -> None:
    """The axis had a default up to opset 3."""
    if not any(a.name == "axis" for a in node.attribute):
        node.attribute.append(helper.make_attribute("axis", 1))


def _move_pad(_: GraphProto, node: NodeProto) -> None:
    """The padding had another name in opset 1."""
    pads = _drop(node, {"paddings"})
    if pads:
        node.attribute.append(helper.make_attribute("pads", pads["paddings"]))


_MOVED: dict[str, Callable[[GraphProto, NodeProto], None]] = {
    "Reshape": _move_reshape,
    "Cast": _move_cast,
    "Concat": _move_concat,
    "Pad": _move_pad,
}


def _broadcast_explicitly(proto: ModelProto) -> None:
    """Give each broadcast operand the axes that NumPy's rule needs."""
    graph = proto.graph
    inferred = onnx.shape_inference.infer_shapes(proto).graph
    ranks = {t.name: len(t.dims) for t in graph.initializer}
    ranks |= {
        i.name: len(i.type.tensor_type.shape.dim)
        for i in (*inferred.input, *inferred.value_info, *inferred.output)
        if i.type.tensor_type.HasField("shape")
    }
    nodes: list[NodeProto] = []
    for node in graph.node:
        gone = _drop(node, {"broadcast", "axis"}) if node.op_type in _BINARY else _drop(node, {"broadcast"})
        if "axis" in gone:
            nodes += _trailing_axes(node, ranks, gone["axis"])
        elif node.op_type == "PRelu":
            nodes += _trailing_axes(node, ranks, 1)
        nodes.append(node)
    replace(graph.node, nodes)


def _trailing_axes(node: NodeProto, ranks: dict[str, int], axis: int) -> list[NodeProto]:
    """Append axes to the second operand, which stood at ``axis`` of the first."""
    a, b = node.input[:2]
    if a not in ranks or b not in ranks:
        raise ModelError(f"{node.op_type} {node.name or node.output[0]!r}: its operands' ranks are unknown")
    start = axis if axis >= 0 else axis + ranks[a]
    missing = ranks[a] - start - ranks[b]
    if missing <= 0 or ranks[b] == 0:
        return []
    node.input[1] = f"{node.output[0]}/aligned"
    axes = list(range(ranks[b], ranks[b] + missing))
    return [helper.make_node("Unsqueeze", [b], [node.input[1]], axes=axes)]
