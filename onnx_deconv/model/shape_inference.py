"""Infer the shapes of a graph, also through shapes that the graph computes itself.

ONNX's own inference stops at a Reshape whose target is computed from another value's shape through
casts and slices, as several exporters write it. Here such targets are computed as far as they can
be (:mod:`onnx_deconv.model.constant_folding`), handed to the inference, and it goes on.
"""

import onnx
from onnx import ModelProto, NodeProto, helper

from onnx_deconv.model.constant_folding import Numbers, Sizes, known_numbers, known_shapes

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
    shapes = known_shapes(inferred.graph)
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
    shapes, numbers, found = known_shapes(view.graph), known_numbers(view.graph), False
    for node in view.graph.node:
        stated = shapes.get(node.output[0])
        shape = None if stated and None not in stated else _followed(node, shapes, numbers)
        if shape is not None and (stated is None or shape.count(None) < stated.count(None)):
            _write(view, node, shape, view)
            found = True
    return found


def _followed(node: NodeProto, shapes: dict[str, Sizes], numbers: dict[str, Numbers]) -> Sizes | None:
    """Return the shape that follows from what inference does not look at; ``None`` if none does."""
    source = shapes.get(node.input[0]) if node.input else None
    target = numbers.get(node.input[1]) if len(node.input) > 1 else None
    if node.op_type in ("Reshape", "Expand") and target is not None:
        return _reshaped(node, list(target), source)
    if node.op_type == "Pad" and target is not None and source and len(node.input) <= 3:  # noqa: PLR2004
        begins, ends = target[: len(source)], target[len(source) :]
        return [None if None in sizes else sum(sizes) for sizes in zip(source, begins, ends, strict=True)]
    if node.op_type == "Resize" and len(node.input) == 4 and node.input[3] in numbers:  # noqa: PLR2004
        wanted = list(numbers[node.input[3]])
        return wanted if source and len(wanted) == len(source) else None
    return source if node.op_type in _KEEP_SHAPE else None


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
