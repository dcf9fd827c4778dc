"""The signal of the one class that is explained: of all channels but that one it is 0."""

from dataclasses import dataclass, replace

from onnx import NodeProto, TensorProto

from onnx_deconv.compiler.passes.attributes import absent, zeros
from onnx_deconv.compiler.passes.builder import Builder
from onnx_deconv.compiler.passes.masking import mask_of
from onnx_deconv.compiler.passes.operations import DENSE_SAME, RELU, is_1x1
from onnx_deconv.compiler.passes.pattern import ABSENT, ANY, Match, op, value
from onnx_deconv.compiler.passes.registry import optimisation_pass
from onnx_deconv.compiler.passes.rewriter import Rewriter


@dataclass(frozen=True)
class _Channel:
    """The only channel of each image that is not 0.

    Attributes
    ----------
    signal
        A value of shape (N, 1, 1, 1), or (N, 1, H, W) where a feature map took part.
    index
        Which channel it is, shape (N,): a value of the graph.
    is_flat
        Whether it is the same all over its map.
    """

    signal: str
    index: str
    is_flat: bool = True


@optimisation_pass("chosen")
def chosen(graph: Rewriter) -> None:
    """What is done to a class's one-hot seed is done to that class's channel alone, as far as a filter.

    A filter's product with it is the filter's row of that class, times the channel. Between both, feature
    maps may multiply and mask the signal; of them, too, that channel alone is read.

    Measured to help networks whose classifier is a convolution, where feature maps of all classes would be
    multiplied: SqueezeNet 1.1 explained by `auto` 10 % faster; with a linear classifier 1 %.
    """
    channels: dict[str, _Channel] = {}
    for node in graph.nodes:
        add = graph.builder(node.name)
        given = next((channels[v] for v in node.input if v in channels), None)
        if given is None:
            made = _started(add, node)
        elif result := _ended(add, node, given):
            graph.replace(node, add, result)
            continue
        else:
            made = _continued(add, node, given, channels)
        if made is not None:
            channels[node.output[0]] = made
            graph.insert_after(node, add.nodes)


def _started(add: Builder, node: NodeProto) -> _Channel | None:
    """Begin with a one-hot seed: 1, or 0 where there is no such class."""
    found = _ONE_HOT.match(add.graph, node)
    if found is None:
        return None
    given, depth = found.nodes["index"].output[0], found.values["depth"]
    exists = add.Cast(add.Less(given, depth), to=add.graph.types[node.output[0]][0])
    index = add.Mul(given, add.Cast(exists, to=TensorProto.INT64))
    return _Channel(add.Reshape(exists, [-1, 1, 1, 1]), add.Reshape(index, [-1]))


def _continued(
    add: Builder, node: NodeProto, given: _Channel, channels: dict[str, _Channel]
) -> _Channel | None:
    """Do to the channel what a node does to all; ``None`` where that is not known."""
    graph, first = add.graph, channels.get(node.input[0])
    if first == given and (_COPY.match(graph, node) or _is_reshaped(graph, node)):
        return given
    if first == given and given.is_flat and (_EXPAND.match(graph, node) or _MEAN.match(graph, node)):
        return given
    if first == given and RELU.match(graph, node):
        return replace(given, signal=add.Relu(given.signal))
    mask = mask_of(graph, node)
    if mask is not None and mask.signal in channels and _is_image(graph, mask.forward):
        passes = add.HardSigmoid(_picked(add, given, mask.forward), alpha=mask.slope, beta=mask.offset)
        return replace(given, signal=add.Mul(given.signal, passes), is_flat=False)
    if found := _MUL.match(graph, node) or _MUL_BACK.match(graph, node):
        factor = found.values["factor"]
        if factor in channels:
            return None
        if graph.dims.get(factor) == ():
            return replace(given, signal=add.Mul(given.signal, factor))
        if _is_image(graph, factor):
            return replace(given, signal=add.Mul(given.signal, _picked(add, given, factor)), is_flat=False)
    return None


def _ended(add: Builder, node: NodeProto, given: _Channel) -> str | None:
    """Return the result of a filter, or of a sum over channels; ``None`` of other nodes."""
    graph = add.graph
    if found := _GEMM.match(graph, node):
        rows = _rows(add, found.values["weight"], given, axis=found.attributes.get("transB", 0))
        return str(add.Mul(add.Reshape(given.signal, [-1, 1]), rows))
    if given.is_flat:
        return None
    if found := _SUM.match(graph, node):
        numbers = graph.constants.numbers(found.values["axes"])
        return str(add.Identity(given.signal)) if numbers is not None and numbers.tolist() == [1] else None
    for filter_, axis in ((_CONV, 1), (_TRANSPOSED, 0)):
        if found := filter_.match(graph, node):
            return str(add.Mul(given.signal, _rows(add, found.values["weight"], given, axis)))
    return None


def _rows(add: Builder, weight: str, given: _Channel, axis: int) -> str:
    """Return what a filter holds for the channel of each image, shape (N, M, ...).

    Of a float16 weight these rows alone become float32: of all of it OpenVINO (2026.4) would hold no float32
    for the other filters that read it, which it then cannot run.
    """
    cast = _CAST.match(add.graph, add.graph.producers.get(weight))
    stored = cast.node.input[0] if cast else weight
    rows = add.Gather(stored, given.index, axis=axis)
    rows = add.Cast(rows, to=cast.attributes["to"]) if cast else rows
    rank = len(add.graph.dims[weight])
    return str(add.Transpose(rows, perm=[1, 0, *range(2, rank)]) if axis else rows)


def _picked(add: Builder, given: _Channel, maps: str) -> str:
    """Return one feature map of each image, shape (N, 1, H, W)."""
    index = add.Unsqueeze(given.index, [1])
    return str(add.Unsqueeze(add.GatherND(maps, index, batch_dims=1), [1]))


def _is_image(graph: Rewriter, name: str) -> bool:
    return bool(graph.sizes(name)) and len(graph.shape(name)) == len("NCHW")


def _is_reshaped(graph: Rewriter, node: NodeProto) -> bool:
    """Tell whether the classes get two axes of size 1."""
    shape = graph.shape(node.output[0])
    return _RESHAPE.match(graph, node) is not None and len(shape) == len("NCHW") and shape[2:] == (1, 1)


def _is_0(graph: Rewriter, name: str) -> bool:
    numbers = graph.constants.numbers(name)
    return numbers is not None and not numbers.any()


def _is_0_and_1(graph: Rewriter, name: str) -> bool:
    numbers = graph.constants.numbers(name)
    return numbers is not None and numbers.dtype.kind == "f" and numbers.tolist() == [0, 1]


def _asks_once(found: Match) -> bool:
    """Tell whether the index has one axis and is not negative: a caller's, or the top one in its place."""
    return found.node.input[2] == found.values["asked"] and len(found.graph.shape(found.node.output[0])) == 1


def _has_known_shape(graph: Rewriter, weight: str) -> bool:
    return bool(graph.dims.get(weight))


_INDEX = op.Where(op.Less(value("asked"), value("zero", _is_0)), op.ArgMax(ANY), ANY).where(_asks_once)
_ONE_HOT = op.OneHot(_INDEX.named("index"), value("depth"), value("values", _is_0_and_1))
_CAST = op.Cast()
_COPY, _RESHAPE = op.Identity(), op.Reshape() | op.Unsqueeze()
_EXPAND, _MEAN = op.Expand(), op.GlobalAveragePool()
_MUL, _MUL_BACK = op.Mul(ANY, value("factor")), op.Mul(value("factor"), ANY)
_SUM = op.ReduceSum(ANY, value("axes"), keepdims=1)
_WEIGHT = value("weight", _has_known_shape)
_CONV = op.Conv(ANY, _WEIGHT, ABSENT, **DENSE_SAME).where(is_1x1)
_TRANSPOSED = op.ConvTranspose(
    ANY, _WEIGHT, ABSENT, **DENSE_SAME, output_padding=zeros, output_shape=absent
).where(is_1x1)
_GEMM = op.Gemm(ANY, _WEIGHT, ABSENT, transA=0, alpha=1.0)
