"""Infer the shapes of a graph, also through shapes that the graph computes itself.

ONNX's own inference stops at a Reshape whose target is computed from another value's shape through
casts and slices, as several exporters write it. Here such targets are computed as far as they can
be (a size that is known at run time only stays open), handed to the inference, and it goes on.
"""

import math
from collections.abc import Callable, Mapping, Sequence

import onnx
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

Sizes = list[int | None]
"""The elements of a small integer tensor, flat; ``None`` where only known at run time."""

_LONGEST = 64
_KEEP_SHAPE = {
    "Gelu", "GroupNormalization", "HardSwish", "LayerNormalization", "MeanVarianceNormalization", "Mish",
    "RMSNormalization", "Swish",
}  # fmt: skip
"""Operators that inference knows nothing of: functions, and those younger than the model's opset."""


def infer_shapes(view: ModelProto) -> ModelProto:
    """Return the model with the shapes of its values filled in as far as they can be known."""
    recounted: set[str] = set()
    while True:
        try:
            inferred = onnx.shape_inference.infer_shapes(view, data_prop=True)
        except Exception:  # noqa: BLE001  (inference is a help, not a condition; it raises what it likes)
            return view
        if _recount_windows(view, inferred, recounted):
            continue
        view = inferred
        if not _resolve_targets(view):
            return view


def _recount_windows(view: ModelProto, inferred: ModelProto, recounted: set[str]) -> bool:
    """Write down the output of a pool whose windows were miscounted; tell whether there was one.

    Below opset 22 ONNX counts windows of ``ceil_mode`` that would start beyond the input; no runtime
    makes them. All that follows was inferred from the wrong size, so inference starts again.
    """
    shapes = _known_shapes(inferred.graph)
    for node in inferred.graph.node:
        if node.op_type not in ("MaxPool", "AveragePool") or node.output[0] in recounted:
            continue
        source, wrong = shapes.get(node.input[0]), shapes.get(node.output[0])
        right = None if source is None else _pooled(node, source)
        if right is not None and wrong is not None and right != wrong:
            recounted.add(node.output[0])
            _write(view, node, right, inferred)
            return True
    return False


def _pooled(node: NodeProto, source: Sizes) -> Sizes | None:
    """Return the shape of a pool that rounds up; ``None`` for any other."""
    at = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    if not at.get("ceil_mode"):
        return None
    kernel, n, auto = at["kernel_shape"], len(at["kernel_shape"]), at.get("auto_pad", b"NOTSET")
    strides, dilations = at.get("strides", [1] * n), at.get("dilations", [1] * n)
    pads, counts = at.get("pads", [0] * (2 * n)), Sizes()
    for k, size in enumerate(source[2:]):
        if size is None:
            counts.append(None)
            continue
        if auto.startswith(b"SAME"):
            counts.append(-(-size // strides[k]))
            continue
        rest = size + pads[k] + pads[n + k] - (kernel[k] - 1) * dilations[k] - 1
        last = -(-rest // strides[k])
        beyond = last * strides[k] >= size + pads[k]
        counts.append(last if beyond else last + 1)
    return [*source[:2], *counts]


def _resolve_targets(view: ModelProto) -> bool:
    """Write down the shapes of Reshape outputs that could be computed; tell whether there were any."""
    shapes, sizes, found = _known_shapes(view.graph), known_numbers(view.graph), False
    for node in view.graph.node:
        target = (
            sizes.get(node.input[1])
            if node.op_type in ("Reshape", "Expand") and len(node.input) > 1
            else None
        )
        if node.output[0] in shapes:
            continue
        if target is not None:
            _write(view, node, _reshaped(node, target, shapes.get(node.input[0])), view)
            found = True
        elif node.op_type in _KEEP_SHAPE and node.input[0] in shapes:
            _write(view, node, shapes[node.input[0]], view)
            found = True
    return found


def known_numbers(graph: GraphProto) -> dict[str, Sizes]:
    """Compute the small integer and truth values that follow from shapes and constants alone.

    Returns
    -------
    dict
        Elements by value name, flat; an element is ``None`` where only known at run time.
    """
    shapes, numbers = _known_shapes(graph), _known_tensors(graph)
    for node in graph.node:
        computed = _evaluate(node, shapes, numbers)
        if computed is not None and len(computed) <= _LONGEST:
            numbers[node.output[0]] = computed
    return numbers


def _known_shapes(graph: GraphProto) -> dict[str, Sizes]:
    shapes: dict[str, Sizes] = {t.name: list(t.dims) for t in graph.initializer}
    for info in (*graph.input, *graph.value_info, *graph.output):
        if info.type.tensor_type.HasField("shape"):
            dims = info.type.tensor_type.shape.dim
            shapes[info.name] = [d.dim_value if d.dim_value > 0 else None for d in dims]
    return shapes


def _known_tensors(graph: GraphProto) -> dict[str, Sizes]:
    tensors = [*graph.initializer]
    for node in graph.node:
        tensors += [
            _named(a.t, node.output[0])
            for a in node.attribute
            if node.op_type == "Constant" and a.name == "value"
        ]
    integers = (TensorProto.INT64, TensorProto.INT32, TensorProto.BOOL)
    return {
        t.name: [int(v) for v in numpy_helper.to_array(t).reshape(-1)]
        for t in tensors
        if t.data_type in integers and t.data_location != TensorProto.EXTERNAL and sum(t.dims) <= _LONGEST
    }


def _named(tensor: TensorProto, name: str) -> TensorProto:
    copy = TensorProto()
    copy.CopyFrom(tensor)
    copy.name = name
    return copy


def _evaluate(node: NodeProto, shapes: Mapping[str, Sizes], sizes: Mapping[str, Sizes]) -> Sizes | None:
    """Compute a node of shape arithmetic as far as its inputs are known."""
    attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    if node.op_type == "Shape" and node.input[0] in shapes:
        return shapes[node.input[0]][attributes.get("start", 0) : attributes.get("end")]
    given = [sizes.get(name) for name in node.input]
    known = [g for g in given if g is not None]
    if len(known) != len(given) or not given:
        return None
    if node.op_type in ("Cast", "Identity", "Squeeze", "Unsqueeze", "Reshape", "Flatten"):
        return known[0]
    if node.op_type == "ReduceProd":
        return [None if None in known[0] else math.prod(k for k in known[0] if k is not None)]
    if node.op_type == "Not":
        return [None if k is None else int(not k) for k in known[0]]
    if node.op_type == "Concat":
        return [size for part in known for size in part]
    if node.op_type == "Gather" and None not in known[1]:
        return [known[0][k] for k in known[1] if k is not None]
    if node.op_type == "Slice":
        return _sliced(known, attributes)
    if node.op_type in _ARITHMETIC and len(known) == 2:  # noqa: PLR2004
        return _elementwise(_ARITHMETIC[node.op_type], known[0], known[1])
    return None


def _sliced(known: Sequence[Sizes], attributes: Mapping[str, Sequence[int]]) -> Sizes | None:
    # starts, ends and steps; of a 1-D tensor there is but one axis.
    bounds = [attributes.get("starts"), attributes.get("ends")] if len(known) == 1 else [*known[1:3]]
    step = known[4] if len(known) > 4 else [1]  # noqa: PLR2004
    if any(b is None or len(b) != 1 or b[0] is None for b in [*bounds, step]):
        return None
    start, end = (b[0] for b in bounds if b is not None)
    return known[0][start : end : step[0]]


_ARITHMETIC: dict[str, Callable[[int, int], int]] = {
    "Add": lambda a, b: a + b,
    "Sub": lambda a, b: a - b,
    "Mul": lambda a, b: a * b,
    "Div": lambda a, b: a // b,
    "Mod": lambda a, b: a % b,
    "Max": max,
    "Min": min,
    "Equal": lambda a, b: int(a == b),
    "Less": lambda a, b: int(a < b),
    "LessOrEqual": lambda a, b: int(a <= b),
    "Greater": lambda a, b: int(a > b),
    "GreaterOrEqual": lambda a, b: int(a >= b),
    "And": lambda a, b: int(a and b),
    "Or": lambda a, b: int(a or b),
}


def _elementwise(function: Callable[[int, int], int], a: Sizes, b: Sizes) -> Sizes | None:
    length = max(len(a), len(b))
    a, b = (x * length if len(x) == 1 else x for x in (a, b))
    if len(a) != len(b) or (function in (_ARITHMETIC["Div"], _ARITHMETIC["Mod"]) and 0 in b):
        return None  # no list of sizes
    return [None if x is None or y is None else function(x, y) for x, y in zip(a, b, strict=True)]


def _reshaped(node: NodeProto, target: Sizes, source: Sizes | None) -> Sizes:
    """Return the output's shape: -1 stays open, 0 copies the input's size."""
    if node.op_type == "Expand":
        lead = [1] * max(0, len(target) - len(source or []))
        padded = [*lead, *(source or [None] * len(target))]
        return [
            None if t is None or s is None else max(s, t)
            for s, t in zip(padded[-len(target) :], target, strict=True)
        ]
    copied = [source[k] if t == 0 and source else t for k, t in enumerate(target)]
    return [size if size is not None and size > 0 else None for size in copied]


def _write(view: ModelProto, node: NodeProto, shape: Sizes, typed: ModelProto) -> None:
    dtypes = {i.name: i.type.tensor_type.elem_type for i in (*typed.graph.value_info, *typed.graph.input)}
    name = node.output[0]
    info = next((i for i in (*view.graph.value_info, *view.graph.output) if i.name == name), None)
    if info is None:
        info = view.graph.value_info.add(name=name)
    dtype = dtypes.get(node.input[0], 0) or info.type.tensor_type.elem_type
    info.CopyFrom(helper.make_tensor_value_info(name, dtype, shape))
