"""Put local functions in place of the nodes that call them."""

from collections import Counter
from graphlib import CycleError, TopologicalSorter

import onnx.inliner
from onnx import FunctionProto, ModelProto, NodeProto

from onnx_deconv.errors import ModelError
from onnx_deconv.model.protos import copy_of, every_node

Key = tuple[str, str, str]

MOST_NODES = 200_000
"""In a graph whose functions are in place: far more than any network has."""


def inlined(proto: ModelProto) -> ModelProto:
    """Return a copy of a model without local functions.

    Attributes that a call leaves out have the function's default; the standard's inliner forgets them.

    Parameters
    ----------
    proto
        The model; not changed.

    Raises
    ------
    ModelError
        If a function calls itself, or the functions stand for more than :data:`MOST_NODES` nodes.
    """
    functions = {_key(f): f for f in proto.functions}
    _check_size(proto, functions)
    copy = copy_of(proto)
    for nodes in (copy.graph.node, *(f.node for f in copy.functions)):
        for node in every_node(nodes):
            if _called(node) in functions:
                _complete(node, functions[_called(node)])
    return onnx.inliner.inline_local_functions(copy)


def _check_size(proto: ModelProto, functions: dict[Key, FunctionProto]) -> None:
    """Count the nodes that functions stand for before any is put in place."""
    calls = {key: Counter(map(_called, every_node(f.node))) for key, f in functions.items()}
    calls["graph", "", ""] = Counter(map(_called, every_node(proto.graph.node)))
    try:
        order = list(
            TopologicalSorter({key: set(made) & set(functions) for key, made in calls.items()}).static_order()
        )
    except CycleError as error:
        raise ModelError(f"the model's function {error.args[1][0][1]!r} calls itself") from error
    sizes: dict[Key, int] = {}
    for key in order:
        sizes[key] = sum(times * sizes.get(called, 1) for called, times in calls[key].items())
    if sizes["graph", "", ""] > MOST_NODES:
        raise ModelError(
            f"the model's functions stand for {sizes['graph', '', '']:.3g} nodes, more than {MOST_NODES}: "
            "export it without functions that call each other so often"
        )


def _complete(call: NodeProto, function: FunctionProto) -> None:
    given = {a.name for a in call.attribute}
    call.attribute.extend(a for a in function.attribute_proto if a.name not in given)


def _key(function: FunctionProto) -> Key:
    return function.domain, function.name, function.overload


def _called(node: NodeProto) -> Key:
    return node.domain, node.op_type, node.overload
