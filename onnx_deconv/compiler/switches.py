"""Switches of a forward model: where a MaxPool found its maxima, counted within each image.

ONNX counts a MaxPool's indices over the whole batch. A companion would then have to get the very batch
that the forward model had. The place of the image in the batch is taken away here, by one node for each pool.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, numpy_helper

from onnx_deconv.model.node_builder import NodeBuilder
from onnx_deconv.model.protos import opset_of

REMAINDER = 10
"""The first opset that has an operator for the remainder of a division."""


def append(model: ModelProto, pool: NodeProto, name: str, sizes: Sequence[int | None]) -> None:
    """Have a model compute a pool's switches.

    Parameters
    ----------
    model
        The model; a pool that does not give its indices yet does so afterwards.
    pool
        The pool's node.
    name
        What the switches are to be called.
    sizes
        The shape of what is pooled, ``None`` where a size is not known.
    """
    own = [v for v in pool.output[1:] if v]
    if sizes[:1] == [1] and not own:
        pool.output[:] = [pool.output[0], name]
        return
    add = _Appended(name)
    indices = own[0] if own else f"{name}/batch"
    pool.output[:] = [pool.output[0], indices]
    size = _image_size(add, pool.input[0], sizes)
    if opset_of(model) >= REMAINDER:
        add.Mod(indices, size)
    else:
        add.Sub(indices, add.Mul(add.Div(indices, size), size))
    add.nodes[-1].output[:] = [name]
    model.graph.node.extend(add.nodes)


def _image_size(add: "_Appended", pooled: str, sizes: Sequence[int | None]) -> str:
    """Return how many positions an image has."""
    known = np.array(math.prod(size for size in sizes[1:] if size is not None))
    unknown = [axis for axis, size in enumerate(sizes) if axis and size is None]
    total = add.constant(known)
    shape = add.Shape(pooled) if unknown else ""
    for axis in unknown:  # not the product of a vector: CUDA has none of whole numbers
        total = add.Mul(total, add.Gather(shape, np.array(axis)))
    return total


class _Appended(NodeBuilder):
    """Nodes to be put at the end of a model of any opset; in old ones no constant is a whole number."""

    def constant(self, numbers: NDArray[Any]) -> str:
        wide = self.Constant(value=numpy_helper.from_array(numbers.astype(np.float64)))
        return str(self.Cast(wide, to=TensorProto.INT64))
