"""Name the node that leaves nothing of its input, and the smallest image of which something is left."""

from collections.abc import Mapping, Sequence

from onnx import GraphProto, ModelProto, NodeProto

from onnx_deconv.model.protos import attributes_of, copy_of
from onnx_deconv.model.shape_inference import NothingLeftError, infer_shapes
from onnx_deconv.operators import find
from onnx_deconv.operators.shapes import Sizes
from onnx_deconv.operators.traits import CONVOLUTION, POOL

Shapes = Mapping[str, Sequence[int | str]]
"""Shapes of inputs by name; a word stands for any size."""

_LARGEST = 4096
"""Pixels along an axis up to which a size is looked for."""
_CHANNELS = 2
"""Axes before the positions: a filter without channels makes nothing of images of any size."""
_LARGER = "choose a larger size"


def check_what_is_left(view: ModelProto) -> None:
    """Refuse a graph in which windows are larger than their input, or an axis is shorter than nothing.

    Other results without elements are left alone: parts of what a model computes may well be empty.

    Parameters
    ----------
    view
        With the shapes of its values filled in.

    Raises
    ------
    NothingLeftError
        That names the node and the sizes.
    """
    sizes = _stated_sizes(view.graph)
    for node in view.graph.node:
        windows = _has_windows(node)
        made = _least(node.output, sizes, past=_CHANNELS if windows else 0)
        if made is not None and (made < 0 or (made == 0 and windows)) and _is_whole(node, sizes):
            raise NothingLeftError(_fault(node, sizes))


def too_small(proto: ModelProto, shapes: Shapes) -> str | None:
    """Say which node leaves nothing of inputs of these shapes, and from which size on one does.

    Parameters
    ----------
    proto
        The model.
    shapes
        The inputs' shapes, by name.

    Returns
    -------
    str
        The fault and the way out; ``None`` if something is left everywhere, as far as shapes can be inferred.
    """
    fault = _what_is_wrong(proto, shapes)
    return None if fault is None else f"{fault}: {larger(proto, shapes)}"


def larger(proto: ModelProto, shapes: Shapes) -> str:
    """Say what to do about inputs that are too small: the smallest size of which something is left.

    It is looked for along the axes that the file leaves open; parameters are those of :func:`too_small`.
    """
    free = {name: axes for name, axes in _free_axes(proto).items() if name in shapes and axes}
    if not free:
        return "choose a larger size, or export the model again for one"
    chosen = [shapes[name][axis] for name, axes in free.items() for axis in axes]
    given = [size for size in chosen if isinstance(size, int)]

    def fits(size: int) -> bool:
        grown = {
            name: [size if axis in free.get(name, ()) else n for axis, n in enumerate(shape)]
            for name, shape in shapes.items()
        }
        return _what_is_wrong(proto, grown) is None

    low = high = max(min(given, default=1), 1)
    while not fits(high):
        low, high = high, 2 * high
        if high > _LARGEST:
            return _LARGER
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if fits(middle) else (middle, high)
    axes = next(iter(free.values()))
    return f"choose a size of at least {'×'.join([str(high)] * len(axes))}"


def _free_axes(proto: ModelProto) -> dict[str, list[int]]:
    """List the axes of each input, except the first one, whose size the file leaves open."""
    shapes = {i.name: i.type.tensor_type.shape.dim for i in proto.graph.input}
    return {
        name: [axis for axis, dim in enumerate(dims) if axis and dim.dim_value <= 0]
        for name, dims in shapes.items()
    }


def _what_is_wrong(proto: ModelProto, shapes: Shapes) -> str | None:
    sized = copy_of(proto)
    for info in sized.graph.input:
        dims = info.type.tensor_type.shape.dim
        for dim, size in zip(dims, shapes.get(info.name, ()), strict=False):
            if isinstance(size, int):
                dim.dim_value = size
    del sized.graph.value_info[:]
    for info in sized.graph.output:  # what they say of free sizes may be wrong for these
        info.type.tensor_type.ClearField("shape")
    try:
        inferred = infer_shapes(sized)
    except NothingLeftError as fault:
        return str(fault)
    sizes = _stated_sizes(inferred.graph)
    for node in inferred.graph.node:
        made = _least(node.output, sizes)
        if made is not None and made < 1 and _is_whole(node, sizes):
            return _fault(node, sizes)
    return None


def _stated_sizes(graph: GraphProto) -> dict[str, Sizes]:
    """Return all sizes as inference writes them, also those below one."""
    sizes: dict[str, Sizes] = {t.name: list(t.dims) for t in graph.initializer}
    for info in (*graph.input, *graph.value_info, *graph.output):
        dims = info.type.tensor_type.shape.dim
        sizes[info.name] = [d.dim_value if d.HasField("dim_value") else None for d in dims]
    return sizes


def _has_windows(node: NodeProto) -> bool:
    return bool(find(node.op_type, node.domain).traits & {CONVOLUTION, POOL})


def _least(values: Sequence[str], sizes: Mapping[str, Sizes], past: int = 0) -> int | None:
    """Return the shortest known axis of some values, past their first ones."""
    return min((n for value in values for n in sizes.get(value, ())[past:] if n is not None), default=None)


def _is_whole(node: NodeProto, sizes: Mapping[str, Sizes]) -> bool:
    """Tell whether what a node reads first has elements: an image, and no list that is empty by nature."""
    least = _least(node.input[:1], sizes)
    return least is not None and least > 0 and len(sizes[node.input[0]]) > 2  # noqa: PLR2004


def _fault(node: NodeProto, sizes: Mapping[str, Sizes]) -> str:
    called, read = node.name or node.output[0], sizes[node.input[0]]
    if not _has_windows(node):
        return f"{node.op_type} {called!r} makes {_words(sizes[node.output[0]])} of {_words(read)}"
    at, n = attributes_of(node), len(read) - 2
    kernel = at.get("kernel_shape") or sizes.get(node.input[1] if len(node.input) > 1 else "", ())[2:]
    spans = [(size or 1) * d - d + 1 for size, d in zip(kernel, at.get("dilations", [1] * n), strict=False)]
    pads = at.get("pads", [0] * (2 * n))
    padded = ", padding included" if any(pads) else ""
    there = [None if s is None else s + pads[k] + pads[n + k] for k, s in enumerate(read[2:])]
    return (
        f"the windows of {node.op_type} {called!r} have {_words(spans)} positions, "
        f"and its input {node.input[0]!r} has {_words(there)}{padded}"
    )


def _words(sizes: Sequence[int | None]) -> str:
    return "×".join("?" if size is None else str(size) for size in sizes)
