"""3×3 convolutions with fewer multiplications.

Lavin & Gray, "Fast Algorithms for Convolutional Neural Networks" (2015), sections 3 and 4.1, F(4×4, 3×3): 4×4
results come from 6×6 values by 36 multiplications for each pair of channels, not by 144.
"""

from collections.abc import Sequence
from math import prod
from typing import Any, NamedTuple

import numpy as np
from onnx import NodeProto

from onnx_deconv.compiler.passes.parts import interleaved, is_dense
from onnx_deconv.compiler.passes.rewriter import BACK, BLOCK, Branch, Rewriter, attributes_of, lowering

_KERNEL, _TILE = 3, 4
_POINTS = 0, 1, -1, 1 / 2, -2
"""Where polynomials are evaluated, with infinity. These round less than 0, ±1, ±2: 2e-6, not 7e-6."""
_NUMBERS = len(_POINTS) + 1
_MANY = 400_000_000
"""Multiplications of a convolution below which moving the numbers about takes what is saved."""
_WORTH = 0.45
"""Multiplications left, as a share of the convolution's, below which it is done."""

_Matrix = np.ndarray[Any, Any]


def _evaluate(count: int) -> _Matrix:
    """Evaluate a polynomial of so many coefficients at all points, and at infinity."""
    finite = np.power.outer(np.array(_POINTS, float), np.arange(count))
    return np.vstack([finite, np.eye(count)[-1:]])


# Lavin & Gray's Aᵀ, G and Bᵀ: correlation is the transpose of multiplying polynomials by their values.
_OUT, _FILTER, _IN = _evaluate(_TILE).T, _evaluate(_KERNEL), np.linalg.inv(_evaluate(_NUMBERS)).T


class _Axis(NamedTuple):
    """A convolution along one axis."""

    size: int
    result: int
    pad: int
    """Before the first value."""

    @property
    def tiles(self) -> int:
        """How many times four results there are, the last four perhaps in part."""
        return -(-self.result // _TILE)

    def taken_apart(self) -> _Matrix:
        """Give each of the tiles' six numbers, from all values: (6, tiles, size)."""
        first = _TILE * np.arange(self.tiles)[:, None] - self.pad
        each = [_IN[:, k, None, None] * (np.arange(self.size) == first + k) for k in range(_NUMBERS)]
        return np.sum(each, axis=0)


@lowering("winograd")
def winograd(graph: Rewriter) -> None:
    """A 3×3 convolution of many channels on a small picture becomes 36 of single values, on the way back.

    A product for each axis takes the picture apart into tiles' numbers, which are the channels of a
    convolution in 36 groups; another gives each tile's results, which are interleaved. The filter's numbers
    are made in the graph, when the model is loaded: no file stores them; they take four times the filter's
    memory. The user's own convolutions stay as they are, so that the model answers what it answers.
    """
    for node in graph.nodes:
        back = node.name.startswith(BACK) and node.op_type == "Conv" and not _divides(graph, node)
        axes = _axes(graph, node) if back else []
        if axes and _is_worth(axes, *_channels(graph, node)):
            graph.replace(node, _tiled(graph, node, axes))


def _axes(graph: Rewriter, node: NodeProto) -> list[_Axis]:
    """Match a 3×3 convolution in steps of 1, of all channels with all, without a bias; nothing for others."""
    attributes = attributes_of(node)
    weight, sizes, results = graph.filter_sizes(node), *map(graph.sizes, (node.input[0], node.output[0]))
    if weight[2:] != [_KERNEL] * 2 or not sizes or not results:
        return []
    if not is_dense(node) or "auto_pad" in attributes:
        return []
    return [_Axis(*line) for line in zip(sizes, results, attributes.get("pads", [0] * 4)[:2], strict=True)]


def _divides(graph: Rewriter, node: NodeProto) -> bool:
    """Tell whether a convolution's signal or its result takes part in a division.

    What is divided by next to nothing is huge, and would drown its neighbours in the tile.
    """
    before, behind = graph.producers.get(node.input[0]), graph.readers(node.output[0])
    return any(n is not None and n.op_type == "Div" for n in (before, *behind))


def _channels(graph: Rewriter, node: NodeProto) -> list[int]:
    """Count the channels of a convolution's result, and of its signal; 0 where it is not known."""
    return [d if isinstance(d, int) else 0 for d in graph.filter_sizes(node)[:2]]


def _is_worth(axes: Sequence[_Axis], after: int, before: int) -> bool:
    """Tell whether of very many multiplications few enough are left."""
    high, wide = axes
    rows, columns = (_NUMBERS * axis.tiles for axis in axes)
    apart = before * rows * wide.size * (high.size + columns)
    products = rows * columns * before * after
    in_all = _KERNEL**2 * before * after * prod(axis.result for axis in axes)
    in_blocks = before % BLOCK == after % BLOCK == 0
    return in_blocks and in_all >= _MANY and apart + products < _WORTH * in_all


def _tiled(graph: Rewriter, node: NodeProto, axes: Sequence[_Axis]) -> list[NodeProto]:
    add, (after, before) = Branch(node.name), _channels(graph, node)
    n, m, (high, wide) = _NUMBERS, _TILE, axes

    def matrix(numbers: _Matrix) -> str:
        return graph.constant(numbers, np.float32)

    def shaped(value: str, *sizes: int) -> str:
        return add("Reshape", value, graph.constant(sizes))

    products = np.kron(_FILTER, _FILTER).T
    filters = add("MatMul", shaped(node.input[1], after * before, _KERNEL**2), matrix(products))
    filters = shaped(add("Transpose", filters, perm=[1, 0]), n * n * after, before, 1, 1)
    picture = shaped(node.input[0], -1, 1, before, high.size, wide.size)
    rows = add("MatMul", matrix(high.taken_apart()[:, None]), picture)
    rows = shaped(rows, -1, n, 1, before * high.tiles, wide.size)
    numbers = add("MatMul", rows, matrix(wide.taken_apart().swapaxes(1, 2)))
    numbers = shaped(numbers, -1, n * n * before, high.tiles, wide.tiles)
    numbers = add("Conv", numbers, filters, group=n * n)
    each = after * high.tiles * wide.tiles
    results = add("MatMul", matrix(_OUT), shaped(numbers, -1, n, n * each))
    results = add("MatMul", matrix(_OUT), shaped(results, -1, m, n, each))
    together = shaped(results, -1, m * m * after, high.tiles, wide.tiles)
    parts = add.add("Split", together, outputs=m * m, axis=1, num_outputs=m * m)
    interleaved(add, graph, parts, after, [high.result, wide.result], m)
    return add.nodes
