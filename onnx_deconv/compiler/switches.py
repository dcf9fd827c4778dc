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
from onnx_deconv.model.protos import attributes_of, opset_of

REMAINDER = 10
"""The first opset that has an operator for the remainder of a division."""


def append(model: ModelProto, pool: NodeProto, name: str, sizes: Sequence[int | None], dtype: int) -> None:
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
    dtype
        The type of what is pooled. Of bytes, maxima are found once more among the same numbers in float32:
        where all are 0, onnxruntime (1.22 to 1.28) and tract (0.23) take any place for that of the maximum.
    """
    if dtype == TensorProto.UINT8:
        wide = _Appended(f"{name}/float32")
        wide.MaxPool(wide.Cast(pool.input[0], to=TensorProto.FLOAT), **attributes_of(pool))
        model.graph.node.extend(wide.nodes)
        pool = model.graph.node[-1]
    add = _Appended(name)
    own = [v for v in pool.output[1:] if v]
    if sizes[:1] == [1] and not own:
        pool.output[:] = [pool.output[0], name]
        return
    indices = own[0] if own else f"{name}/batch"
    pool.output[:] = [pool.output[0], indices]
    opset = opset_of(model)
    size = _image_size(add, pool.input[0], sizes, opset)
    if opset >= REMAINDER:
        add.Mod(indices, size)
    else:
        add.Sub(indices, add.Mul(add.Div(indices, size), size))
    add.nodes[-1].output[:] = [name]
    model.graph.node.extend(add.nodes)


def _image_size(add: "_Appended", pooled: str, sizes: Sequence[int | None], opset: int) -> str:
    """Return how many positions an image has.

    Where a GPU computes the indices, it counts the positions too: ones are added up along each axis, as
    arithmetic on sizes, which the CPU has, would have to be copied to it.
    """
    total = add.constant(np.array(math.prod(size for size in sizes[1:] if size is not None)))
    unknown = [axis for axis, size in enumerate(sizes) if axis and size is None]
    shape = add.Shape(pooled) if unknown else ""
    for axis in unknown:
        if opset < REMAINDER:
            total = add.Mul(total, add.Gather(shape, add.constant(np.array(axis))))
            continue
        size = add.Gather(shape, add.constant(np.array([axis])))
        one = numpy_helper.from_array(np.ones(1, np.int64))
        total = add.Mul(total, add.ReduceSum(add.ConstantOfShape(size, value=one), keepdims=0))
    return total


class _Appended(NodeBuilder):
    """Nodes to be put at the end of a model of any opset; in old ones no constant is a whole number."""

    def constant(self, numbers: NDArray[Any]) -> str:
        wide = self.Constant(value=numpy_helper.from_array(numbers.astype(np.float64)))
        return str(self.Cast(wide, to=TensorProto.INT64))
