"""Compute the small numbers of a graph as far as they are known before it runs.

Exporters write arithmetic on shapes: a target of a Reshape, a condition of an If. What follows from
constants and known sizes is computed here; a size that is known at run time only stays open, and
whatever depends on it with it.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import GraphProto, NodeProto, TensorProto, helper, numpy_helper

Sizes = list[int | None]
"""A shape; ``None`` for a size that is only known at run time."""

Numbers = NDArray[np.object_]
"""Plain numbers, and ``None`` for those that are only known at run time."""

_MOST = 64
"""Elements of a value that is computed: shapes, pads and indices, not weights."""


def known_numbers(graph: GraphProto) -> dict[str, Numbers]:
    """Compute the small values that follow from shapes and constants alone.

    Parameters
    ----------
    graph
        With the shapes of its values filled in as far as they are known.

    Returns
    -------
    dict
        By value name, in the value's own shape.
    """
    shapes = known_shapes(graph)
    numbers = {t.name: n for t in graph.initializer if (n := _of_tensor(t)) is not None}
    for node in graph.node:
        computed = _computed(node, shapes, numbers)
        if computed is not None and computed.size <= _MOST:
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
    if tensor.data_location == TensorProto.EXTERNAL or math.prod(tensor.dims) > _MOST:
        return None
    array = numpy_helper.to_array(tensor)
    return _plain(array) if array.dtype.kind in "biuf" else None


def _plain(values: Any) -> Numbers:
    """Make an array of Python's own numbers, which know no width."""
    array = np.asarray(values)
    plain = np.empty(array.shape, object)
    plain[...] = array.tolist()
    return plain


def _computed(node: NodeProto, shapes: Mapping[str, Sizes], numbers: Mapping[str, Numbers]) -> Numbers | None:
    at = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    if node.op_type == "Constant":
        return next((c for c in map(_constant, at.values()) if c is not None), None)
    if node.op_type in ("Shape", "Size"):
        return _measured(node.op_type, shapes.get(node.input[0]), at)
    rule = _RULES.get(node.op_type)
    given = [numbers.get(name) for name in node.input]
    if rule is None or not given or any(g is None and n for g, n in zip(given, node.input, strict=True)):
        return None
    try:
        return np.asarray(rule(at, *given), object)
    except (TypeError, ValueError, IndexError, ZeroDivisionError, OverflowError):
        return None  # it depends on a number that is not known


def _constant(value: Any) -> Numbers | None:
    if isinstance(value, TensorProto):
        return _of_tensor(value)
    return (
        _plain(value) if isinstance(value, int | float | Sequence) and not isinstance(value, bytes) else None
    )


def _measured(operator: str, shape: Sizes | None, at: Mapping[str, Any]) -> Numbers | None:
    if shape is None:
        return None
    if operator == "Shape":
        return np.asarray(shape[at.get("start", 0) : at.get("end")], object)
    return None if None in shape else np.asarray(math.prod(d or 0 for d in shape), object)


def _each(function: Callable[..., Any]) -> Callable[..., Any]:
    """Apply a function element by element; what depends on an unknown number is unknown."""

    def known(*numbers: Any) -> Any:
        return None if None in numbers else function(*numbers)

    def apply(_: Mapping[str, Any], *inputs: Numbers) -> Any:
        return np.frompyfunc(known, len(inputs), 1)(*inputs)

    return apply


def _fold(function: Callable[..., Any]) -> Callable[..., Any]:
    """Reduce over all elements (a shape has but one axis)."""

    def apply(at: Mapping[str, Any], x: Numbers, *_: Numbers) -> Any:
        whole = None if None in x.reshape(-1).tolist() else function(x.reshape(-1).tolist())
        return np.asarray(whole, object).reshape((1,) * x.ndim if at.get("keepdims", 1) else ())

    return apply


def _divided(a: Any, b: Any) -> Any:
    """Divide; whole numbers are cut towards zero."""
    return a / b if isinstance(a, float) or isinstance(b, float) else math.trunc(a / b)


def _ints(numbers: Any) -> list[int]:
    return [int(n) for n in np.reshape(numbers, -1)]


def _axes(at: Mapping[str, Any], given: Sequence[Numbers]) -> list[int] | None:
    return list(at["axes"]) if "axes" in at else _ints(given[0]) if given and given[0] is not None else None


def _squeeze(at: Mapping[str, Any], x: Numbers, *axes: Numbers) -> Any:
    named = _axes(at, axes)
    return np.squeeze(x, tuple(named) if named is not None else None)


def _unsqueeze(at: Mapping[str, Any], x: Numbers, *axes: Numbers) -> Any:
    return np.expand_dims(x, tuple(_axes(at, axes) or ()))


def _slice(at: Mapping[str, Any], x: Numbers, *given: Numbers) -> Any:
    bounds: list[Any] = [at.get("starts"), at.get("ends"), at.get("axes"), None]
    for k, numbers in enumerate(given):
        bounds[k] = numbers
    starts, ends = _ints(bounds[0]), _ints(bounds[1])
    axes = range(len(starts)) if bounds[2] is None else _ints(bounds[2])
    steps = [1] * len(starts) if bounds[3] is None else _ints(bounds[3])
    cut = [slice(None)] * x.ndim
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        # Backwards, an end before the beginning means the beginning is taken too.
        cut[axis] = slice(start, None if step < 0 and end < -x.shape[axis] else end, step)
    return x[tuple(cut)]


def _cast(at: Mapping[str, Any], x: Numbers) -> Any:
    kind = np.dtype(helper.tensor_dtype_to_np_dtype(at["to"])).kind
    to: dict[str, Callable[[Any], Any]] = {"f": float, "b": lambda n: int(bool(n))}
    return _each(to.get(kind, int))(at, x)


def _reshape(_: Mapping[str, Any], x: Numbers, target: Numbers) -> Any:
    return x.reshape([x.shape[k] if n == 0 else n for k, n in enumerate(_ints(target))])


def _filled(at: Mapping[str, Any], shape: Numbers) -> Any:
    value = numpy_helper.to_array(at["value"]).item() if "value" in at else 0.0
    return np.full(_ints(shape), value, object) if math.prod(_ints(shape)) <= _MOST else None


def _concatenated(at: Mapping[str, Any], *parts: Numbers) -> Any:
    return np.concatenate(parts, at["axis"])


def _gathered(at: Mapping[str, Any], x: Numbers, indices: Numbers) -> Any:
    return x.take(np.asarray(indices, np.int64), at.get("axis", 0))


def _same(_: Mapping[str, Any], x: Numbers, *__: Numbers) -> Iterator[Any] | Any:
    return x


_RULES: Mapping[str, Callable[..., Any]] = {
    "Abs": _each(abs),
    "Add": _each(lambda a, b: a + b),
    "And": _each(lambda a, b: int(bool(a and b))),
    "Cast": _cast,
    "Ceil": _each(lambda a: float(math.ceil(a))),
    "Concat": _concatenated,
    "ConstantOfShape": _filled,
    "Div": _each(_divided),
    "Equal": _each(lambda a, b: int(a == b)),
    "Floor": _each(lambda a: float(math.floor(a))),
    "Gather": _gathered,
    "Greater": _each(lambda a, b: int(a > b)),
    "GreaterOrEqual": _each(lambda a, b: int(a >= b)),
    "Identity": _same,
    "Less": _each(lambda a, b: int(a < b)),
    "LessOrEqual": _each(lambda a, b: int(a <= b)),
    "Max": _each(max),
    "Min": _each(min),
    "Mod": _each(lambda a, b: a % b),
    "Mul": _each(lambda a, b: a * b),
    "Neg": _each(lambda a: -a),
    "Not": _each(lambda a: int(not a)),
    "Or": _each(lambda a, b: int(bool(a or b))),
    "ReduceMax": _fold(max),
    "ReduceMin": _fold(min),
    "ReduceProd": _fold(math.prod),
    "ReduceSum": _fold(sum),
    "Reshape": _reshape,
    "Slice": _slice,
    "Squeeze": _squeeze,
    "Sub": _each(lambda a, b: a - b),
    "Transpose": lambda at, x: x.transpose(at.get("perm")),
    "Unsqueeze": _unsqueeze,
    "Where": _each(lambda c, a, b: a if c else b),
}
