"""3×3 convolutions with fewer multiplications.

Lavin & Gray, "Fast Algorithms for Convolutional Neural Networks" (2015), sections 3 and 4.1, F(4×4, 3×3): 4×4
results come from 6×6 values by 36 multiplications for each pair of channels, not by 144.
"""

from collections.abc import Sequence
from math import prod
from typing import Any, NamedTuple

import numpy as np

from onnx_deconv.compiler.passes.builder import Builder
from onnx_deconv.compiler.passes.operations import dense_convolution
from onnx_deconv.compiler.passes.pattern import Match, backward
from onnx_deconv.compiler.passes.polyphase import Polyphase, interleaved
from onnx_deconv.compiler.passes.registry import optimisation_pass
from onnx_deconv.compiler.passes.rewriter import BLOCK, Rewriter

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
        """How many tiles of four results there are; the last may reach beyond the results."""
        return -(-self.result // _TILE)

    def input_transform(self) -> _Matrix:
        """Return the matrix that makes the tiles' six numbers of all values: shape (6, tiles, size)."""
        first = _TILE * np.arange(self.tiles)[:, None] - self.pad
        each = [_IN[:, k, None, None] * (np.arange(self.size) == first + k) for k in range(_NUMBERS)]
        return np.sum(each, axis=0)


def _is_3x3(found: Match) -> bool:
    return found.graph.filter_shape(found.node)[2:] == (_KERNEL, _KERNEL)


def _divides_nothing(found: Match) -> bool:
    """Tell whether neither what a convolution reads nor what it gives takes part in a division.

    What is divided by next to nothing is huge, and would drown its neighbours in the tile.
    """
    graph, node = found.graph, found.node
    beside = (graph.producers.get(node.input[0]), *graph.readers(node.output[0]))
    return all(each is None or each.op_type != "Div" for each in beside)


_CONV = dense_convolution(auto_pad="NOTSET").where(backward, _is_3x3, _divides_nothing)


@optimisation_pass("winograd")
def winograd(graph: Rewriter) -> None:
    """A 3×3 convolution of many channels becomes a 1×1 convolution in 36 groups, in the backward pass.

    A matrix product along each axis transforms the input into 36 numbers for each tile of 4×4 results, which
    are the groups' channels; two more transform the convolution's results into the tiles, which are
    interleaved. The filter is transformed in the graph, when the model is loaded: no file stores the 36
    numbers, but in memory they take four times the filter's. The user's own convolutions stay as they are, so
    that the model's answers do not change.

    Measured to help VGG-16, the one of seven networks with such convolutions: explained 10 to 15 % faster.
    Smaller convolutions lose to the transforms what they save.
    """
    for found in _CONV.matches(graph):
        axes, (after, before, *_) = _axes(found), graph.filter_shape(found.node)
        if axes and isinstance(after, int) and isinstance(before, int) and _is_worth(axes, after, before):
            add = graph.builder(found.node.name)
            graph.replace(found.node, add, _tiled(add, found, axes, after, before))


def _axes(found: Match) -> list[_Axis]:
    """Return the geometry along each axis; nothing where a size is not known."""
    signal, result = (found.graph.sizes(v) for v in (found.node.input[0], found.node.output[0]))
    if not signal or not result:
        return []
    pads = found.attributes.get("pads", [0] * 4)[:2]
    return [_Axis(*each) for each in zip(signal, result, pads, strict=True)]


def _is_worth(axes: Sequence[_Axis], after: int, before: int) -> bool:
    """Tell whether there are many multiplications, of which few enough are left."""
    high, wide = axes
    rows, columns = (_NUMBERS * axis.tiles for axis in axes)
    transforms = before * rows * wide.size * (high.size + columns)
    products = rows * columns * before * after
    in_all = _KERNEL**2 * before * after * prod(axis.result for axis in axes)
    in_blocks = before % BLOCK == after % BLOCK == 0
    return in_blocks and in_all >= _MANY and transforms + products < _WORTH * in_all


def _tiled(add: Builder, found: Match, axes: Sequence[_Axis], after: int, before: int) -> str:
    n, m, (high, wide) = _NUMBERS, _TILE, axes

    def matrix(numbers: _Matrix) -> _Matrix:
        return numbers.astype(np.float32)

    filters = add.Reshape(found.values["weight"], [after * before, _KERNEL**2])
    filters = add.MatMul(filters, matrix(np.kron(_FILTER, _FILTER).T))
    filters = add.Reshape(add.Transpose(filters, perm=[1, 0]), [n * n * after, before, 1, 1])
    image = add.Reshape(found.values["signal"], [-1, 1, before, high.size, wide.size])
    rows = add.MatMul(matrix(high.input_transform()[:, None]), image)
    rows = add.Reshape(rows, [-1, n, 1, before * high.tiles, wide.size])
    numbers = add.MatMul(rows, matrix(wide.input_transform().swapaxes(1, 2)))
    numbers = add.Reshape(numbers, [-1, n * n * before, high.tiles, wide.tiles])
    numbers = add.Conv(numbers, filters, group=n * n)
    each = after * high.tiles * wide.tiles
    results = add.MatMul(matrix(_OUT), add.Reshape(numbers, [-1, n, n * each]))
    results = add.MatMul(matrix(_OUT), add.Reshape(results, [-1, m, n, each]))
    together = add.Reshape(results, [-1, m * m * after, high.tiles, wide.tiles])
    phases = add.Split(together, outputs=m * m, axis=1, num_outputs=m * m)
    return interleaved(add, Polyphase(found.node.output[0], phases, after), [high.result, wide.result], m)
