"""Filters whose weight takes in a scaling of what they read, or of what they give."""

from math import prod
from typing import NamedTuple

import numpy as np
from onnx import NodeProto
from onnx.helper import tensor_dtype_to_np_dtype

from onnx_deconv.compiler.passes.attributes import off
from onnx_deconv.compiler.passes.builder import Builder
from onnx_deconv.compiler.passes.pattern import Match, Pattern, op, value
from onnx_deconv.compiler.passes.rewriter import Rewriter
from onnx_deconv.model.protos import attributes_of

_LARGE = 1 << 20
"""Numbers in a stored weight above which a second one, in memory, costs more than the scaling."""


def _may_change(graph: Rewriter, weight: str) -> bool:
    """Tell whether a weight is made at load, or is small."""
    sizes = graph.constants.sizes(weight)
    return sizes is not None and (weight not in graph.constants.stored or prod(sizes) <= _LARGE)


def _is_matrix(graph: Rewriter, weight: str) -> bool:
    return _may_change(graph, weight) and len(graph.constants.sizes(weight) or ()) == len("KN")


def filter_of(signal: Pattern, *more: Pattern) -> Pattern:
    """Match a filter of a signal, by a weight that may change; ``more`` are the inputs after the weight."""
    kernel, matrix = value("weight", _may_change), value("weight", _is_matrix)
    filters = op.Conv(signal, kernel, *more) | op.ConvTranspose(signal, kernel, *more)
    products = op.Gemm(signal, matrix, *more, transA=off) | op.MatMul(signal, matrix, *more)
    return (filters | products).named("filter")


_MATRIX_PRODUCT, _MATMUL, _CONV = op.Gemm() | op.MatMul(), op.MatMul(), op.Conv()
_DIV, _NORMALISATION = op.Div(), op.BatchNormalization()


class _Weight(NamedTuple):
    """A filter's weight, with the axes of the signal's channels and of the result's."""

    sizes: list[int]
    signal: int
    result: int
    group: int
    channel: int
    """The axis of channels in the signal and in the result, counted from the end."""


def take_in(found: Match) -> None:
    """Do a filter and the scaling before or after it, captured as such, by a filter of scaled weight."""
    graph, scaling, filter_ = found.graph, found.nodes["scaling"], found.nodes["filter"]
    weight, sizes = _weight(graph, filter_), graph.constants.sizes(found.values["scaling"]) or []
    if not _scales_channels(graph, scaling, sizes, filter_, weight):
        return
    add = graph.builder(found.node.name)
    by = _gain(add, scaling) if _NORMALISATION.match(graph, scaling) else found.values["scaling"]
    by = _spread(add, by, prod(sizes), weight, weight.result if found.node is scaling else weight.signal)
    operation = add.Div if _DIV.match(graph, scaling) else add.Mul
    scaled = operation(filter_.input[1], by)
    graph.constants.dims[scaled] = tuple(weight.sizes)
    graph.replace(found.node, add, *add.copy(filter_, [found.values["signal"], scaled, *filter_.input[2:]]))


def _weight(graph: Rewriter, filter_: NodeProto) -> _Weight:
    sizes, attributes = graph.constants.sizes(filter_.input[1]) or [], attributes_of(filter_)
    if _MATRIX_PRODUCT.match(graph, filter_):
        rows = attributes.get("transB", 0)
        return _Weight(sizes, rows, 1 - rows, 1, -1)
    second = int(_CONV.match(graph, filter_) is not None)
    return _Weight(sizes, second, 1 - second, attributes.get("group", 1), 1 - len(sizes))


def _scales_channels(
    graph: Rewriter, scaling: NodeProto, sizes: list[int], filter_: NodeProto, weight: _Weight
) -> bool:
    """Tell whether all of the signal is scaled alike, or each of the channels that the filter sums over."""
    if prod(sizes) == 1:
        return True
    if _NORMALISATION.match(graph, scaling):
        return _MATMUL.match(graph, filter_) is None  # whose channels are the last axis, not the second
    return len(sizes) >= -weight.channel and sizes[weight.channel] == prod(sizes)


def _gain(add: Builder, normalisation: NodeProto) -> str:
    """Compute what a normalisation multiplies each channel by."""
    dtype = tensor_dtype_to_np_dtype(add.graph.types[normalisation.output[0]][0])
    epsilon = np.asarray(attributes_of(normalisation).get("epsilon", 1e-5), dtype)
    deviation = add.Sqrt(add.Add(normalisation.input[4], epsilon))
    return str(add.Div(normalisation.input[1], deviation))


def _spread(add: Builder, by: str, channels: int, weight: _Weight, axis: int) -> str:
    """Lay a number for each channel along an axis; on the second, each group has its share of them."""
    shape = [1] * len(weight.sizes)
    shape[axis] = channels
    if axis == 1 and weight.group > 1 and channels > 1:
        groups, (whole, share) = weight.group, weight.sizes[:2]
        apart = add.Reshape(by, [groups, 1, share])
        by = add.Expand(apart, [groups, whole // groups, share])
        shape[:2] = whole, share
    return str(add.Reshape(by, shape))
