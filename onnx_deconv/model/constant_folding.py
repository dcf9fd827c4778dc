"""Compute the small numbers of a graph as far as they are known before it runs.

Exporters write arithmetic on shapes: a target of a Reshape, a condition of an If. What follows from
constants and known sizes is computed here; a size that is known at run time only stays open, and
whatever depends on it with it.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from onnx import AttributeProto, GraphProto, NodeProto, TensorProto, helper, numpy_helper

from onnx_deconv.model.protos import attributes_of, constant_nodes
from onnx_deconv.operators import Operator, find
from onnx_deconv.operators.numbers import MOST
from onnx_deconv.operators.shapes import Numbers, Sizes
from onnx_deconv.operators.traits import POINTWISE, QUANTISER, SHAPE_ONLY


def known_numbers(graph: GraphProto, replaceable: Collection[str] = ()) -> dict[str, Numbers]:
    """Compute the small values that follow from shapes and constants alone.

    Parameters
    ----------
    graph
        With the shapes of its values filled in as far as they are known.
    replaceable
        Stored values that are not known: inputs with a default, which a caller may give.

    Returns
    -------
    dict
        By value name, in the value's own shape.
    """
    shapes = known_shapes(graph)
    stored = (t for t in graph.initializer if t.name not in replaceable)
    numbers = {t.name: n for t in stored if (n := _of_tensor(t)) is not None}
    held = ((name, _constant(attribute)) for name, attribute in constant_nodes(graph.node).items())
    numbers |= {name: n for name, n in held if n is not None}
    for node in graph.node:
        computed = _computed(node, shapes, numbers)
        if computed is not None and computed.size <= MOST:
            numbers[node.output[0]] = computed
    return numbers


def known_shapes(graph: GraphProto) -> dict[str, Sizes]:
    """Return the shapes that a graph states, by value name."""
    shapes: dict[str, Sizes] = {t.name: list(t.dims) for t in graph.initializer}
    for info in (*graph.input, *graph.value_info, *graph.output):
        if info.type.tensor_type.HasField("shape"):
            dims = info.type.tensor_type.shape.dim
            shapes[info.name] = [d.dim_value if d.dim_value > 0 else None for d in dims]
    return shapes


def _of_tensor(tensor: TensorProto) -> Numbers | None:
    if tensor.data_location == TensorProto.EXTERNAL or math.prod(tensor.dims) > MOST:
        return None
    array = numpy_helper.to_array(tensor)
    return _plain(array) if array.dtype.kind in "biuf" else None


def _plain(values: Any) -> Numbers:
    """Make an array of Python's own numbers, which know no width."""
    return np.asarray(values).astype(object)


def _computed(node: NodeProto, shapes: Mapping[str, Sizes], numbers: Mapping[str, Numbers]) -> Numbers | None:
    entry = find(node.op_type, node.domain)
    if not entry.can_evaluate or QUANTISER in entry.traits or not node.input:
        return None
    if SHAPE_ONLY in entry.traits:
        sizes = shapes.get(node.input[0])
        return None if sizes is None else entry.evaluate(attributes_of(node), sizes)
    if any(name and name not in numbers for name in node.input):
        return None
    at, given = attributes_of(node), [numbers.get(name) for name in node.input]
    try:
        with np.errstate(all="raise"):
            found = _pointwise(entry, at, given) if POINTWISE in entry.traits else entry.evaluate(at, *given)
        return None if found is None else np.asarray(found, object)
    except (TypeError, ValueError, IndexError, ArithmeticError):
        return None  # it depends on a number that is not known


def _pointwise(entry: Operator, at: Mapping[str, Any], given: Sequence[Numbers | None]) -> Any:
    """Evaluate element by element; what depends on an unknown number is unknown."""
    present = [k for k, numbers in enumerate(given) if numbers is not None]

    def known(*numbers: Any) -> Any:
        if None in numbers:
            return None
        inputs = dict(zip(present, numbers, strict=True))
        return np.asarray(entry.evaluate(at, *map(inputs.get, range(len(given))))).item()

    return np.frompyfunc(known, len(present), 1)(*(given[k] for k in present))


def _constant(held: AttributeProto) -> Numbers | None:
    """Return what a Constant node holds, if it is a few numbers."""
    value = helper.get_attribute_value(held)
    if isinstance(value, TensorProto):
        return _of_tensor(value)
    plain = isinstance(value, int | float | Sequence) and not isinstance(value, bytes)
    return _plain(value) if plain else None
