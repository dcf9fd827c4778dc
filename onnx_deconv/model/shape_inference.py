"""Infer the shapes of a graph, also through shapes that the graph computes itself.

ONNX's own inference stops at a Reshape whose target is computed from another value's shape through
casts and slices, as several exporters write it. Here such targets are computed as far as they can
be (:mod:`onnx_deconv.model.constant_folding`), handed to the inference, and it goes on.
"""

import onnx
from onnx import ModelProto, NodeProto, ValueInfoProto, helper

from onnx_deconv.errors import ModelError
from onnx_deconv.model.constant_folding import known_numbers, known_shapes
from onnx_deconv.model.protos import attributes_of, replace
from onnx_deconv.operators import find
from onnx_deconv.operators.shapes import Known, Numbers, Sizes, ceil_pool, same
from onnx_deconv.operators.traits import NORMALISATION, POOL, RECTIFIER

_LONGEST_LIST = 1 << 16
"""Numbers in the longest list that sizes are computed from."""


class NothingLeftError(ModelError):
    """A node leaves nothing of its input, which is too small; the way out is not said yet."""


def infer_shapes(view: ModelProto) -> ModelProto:
    """Return the model with the shapes of its values filled in as far as they can be known.

    Raises
    ------
    NothingLeftError
        If a size is less than nothing.
    """
    recounted: set[str] = set()
    while True:
        try:
            inferred = _inferred(view)
        except Exception:  # noqa: BLE001  (inference is a help, not a condition; it raises what it likes)
            return view
        if _recount_windows(view, inferred, recounted):
            continue
        view = inferred
        if not _resolve_targets(view):
            return view


def _inferred(view: ModelProto) -> ModelProto:
    """Infer shapes, also from the numbers in short lists.

    ONNX keeps a record of each number of each list of integers, also of 2⁴⁰ that a file merely declares.
    """
    plainly = onnx.shape_inference.infer_shapes(view)
    graph = plainly.graph
    types = (i.type.tensor_type for i in (*graph.input, *graph.value_info, *graph.output))
    long = any(len(t.shape.dim) == 1 and t.shape.dim[0].dim_value > _LONGEST_LIST for t in types)
    return plainly if long else onnx.shape_inference.infer_shapes(view, data_prop=True)


def state_sizes(proto: ModelProto) -> None:
    """Write down the shapes of all values whose every size is known; what is stated of others stays."""
    known = [info for info in infer_shapes(proto).graph.value_info if _is_wholly_known(info)]
    names = {info.name for info in known}
    replace(proto.graph.value_info, [*known, *(i for i in proto.graph.value_info if i.name not in names)])


def _is_wholly_known(info: ValueInfoProto) -> bool:
    tensor = info.type.tensor_type
    known = tensor.elem_type and tensor.HasField("shape")  # of other domains types may not be known
    return bool(known) and all(dim.dim_value for dim in tensor.shape.dim)


def _recount_windows(view: ModelProto, inferred: ModelProto, recounted: set[str]) -> bool:
    """Write down the output of a pool whose windows were miscounted; tell whether there was one.

    Below opset 22 ONNX counts windows of ``ceil_mode`` that would start beyond the input; no runtime
    makes them. All that follows was inferred from the wrong size, so inference starts again.
    """
    shapes = known_shapes(inferred.graph)
    for node in inferred.graph.node:
        if POOL not in find(node.op_type, node.domain).traits or node.output[0] in recounted:
            continue
        wrong, right = shapes.get(node.output[0]), ceil_pool(_known(node, shapes, {}))
        if right is not None and wrong is not None and right != wrong:
            recounted.add(node.output[0])
            _write(view, node, right, inferred)
            return True
    return False


def _resolve_targets(view: ModelProto) -> bool:
    """Write down the shapes that could be computed; tell whether there were any."""
    shapes, numbers, found = known_shapes(view.graph), known_numbers(view.graph), False
    for node in view.graph.node:
        stated = shapes.get(node.output[0])
        shape = None if stated and None not in stated else _sizes(node, _followed(node, shapes, numbers))
        if shape is not None and (stated is None or shape.count(None) < stated.count(None)):
            _write(view, node, shape, view)
            found = True
    return found


def _sizes(node: NodeProto, shape: Sizes | None) -> Sizes | None:
    """Return a shape as files state it, where an empty axis is one of unknown size.

    Raises
    ------
    NothingLeftError
        If the result would have an axis of less than nothing.
    """
    least = min((size for size in shape or () if size is not None), default=0)
    if least < 0:
        called = node.name or node.output[0]
        raise NothingLeftError(f"{node.op_type} {called!r} gives an axis of size {least}")
    return None if shape is None else [size or None for size in shape]


def _followed(node: NodeProto, shapes: dict[str, Sizes], numbers: dict[str, Numbers]) -> Sizes | None:
    """Return the shape that follows from what inference does not look at; ``None`` if none does."""
    entry = find(node.op_type, node.domain)
    shape = entry.shape or (same if entry.traits & {RECTIFIER, NORMALISATION} else None)
    return None if shape is None else shape(_known(node, shapes, numbers))


def _known(node: NodeProto, shapes: dict[str, Sizes], numbers: dict[str, Numbers]) -> Known:
    inputs = [*map(shapes.get, node.input)], [*map(numbers.get, node.input)]
    return Known(attributes_of(node), *inputs)


def _write(view: ModelProto, node: NodeProto, shape: Sizes, typed: ModelProto) -> None:
    dtypes = {i.name: i.type.tensor_type.elem_type for i in (*typed.graph.value_info, *typed.graph.input)}
    name = node.output[0]
    info = next((i for i in (*view.graph.value_info, *view.graph.output) if i.name == name), None)
    if info is None:
        info = view.graph.value_info.add(name=name)
    dtype = dtypes.get(node.input[0], 0) or info.type.tensor_type.elem_type
    info.CopyFrom(helper.make_tensor_value_info(name, dtype, shape))
