"""Operators that pick or place elements by index: each value's signal goes back to where it was."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from onnx import TensorProto

from onnx_deconv.operators import axes, numbers
from onnx_deconv.operators.builder import Operand, Signal
from onnx_deconv.operators.registry import operator
from onnx_deconv.operators.reshape import scatter_axis
from onnx_deconv.operators.site import Site
from onnx_deconv.operators.tables import Signals
from onnx_deconv.operators.traits import KEEPS_SIGN, PICK, PLACEMENT


@operator("Gather", traits={KEEPS_SIGN, PICK}, evaluate=numbers.gather, axes=axes.gathering)
def gather(at: Site) -> Signals:
    """Each slice's signal is added to where it was taken."""
    op, axis, rank = at.op, at.axis(), len(at.shape_of(0))
    picked, size = at.constant(1), at.shape_of(0)[axis]
    one_axis = _with_one_axis(at, axis, len(at.shape_of(1)))
    if picked is not None and picked.size == 1 and size is not None:
        place = int(picked.reshape(-1)[0]) % size
        pads = np.zeros((2, rank), np.int64)
        pads[:, axis] = place, size - 1 - place
        return [op.Pad(one_axis, pads.ravel()), None]
    indices = op.Cast(at.raw(1), to=TensorProto.INT64)
    return [scatter_axis(at, one_axis, axis, indices, at.size(0, axis)), None]


def _with_one_axis(at: Site, axis: int, picked: int) -> Signal:
    """Give the signal one axis where the indices' axes stand."""
    op, rank = at.op, len(at.shape_of(0))
    if picked == 0:
        return op.Unsqueeze(at.signal, [axis])
    if picked == 1:
        return at.signal
    shape = op.Shape(at.signal)
    before, after = op.Slice(shape, [0], [axis]), op.Slice(shape, [axis + picked], [rank - 1 + picked])
    return op.Reshape(at.signal, op.Concat(before, [-1], after, axis=0))


@operator("GatherElements", traits={KEEPS_SIGN, PICK}, evaluate=numbers.gather_elements)
def gather_elements(at: Site) -> Signals:
    """Each element's signal is added to where it was taken."""
    return [at.op.scatter_add(at.op.filled(at.shape(0), 0.0), at.raw(1), at.signal, at.axis()), None]


@operator("TopK", traits={KEEPS_SIGN, PICK})
def top_k(at: Site) -> Signals:
    """Each value's signal goes to where it was found."""
    empty = at.op.filled(at.shape(0), 0.0)
    axis = at.axis(-1)
    return [at.op.scatter_add(empty, at.raw_output(1), at.signal, axis), *[None] * (len(at.node.inputs) - 1)]


@operator("GatherND", traits={KEEPS_SIGN, PICK}, evaluate=numbers.gather_nd)
def gather_nd(at: Site) -> Signals:
    """Each slice's signal is added to where it was taken."""
    op, batch, indices = at.op, at.attr("batch_dims", 0), at.raw(1)
    if batch:
        indices = op.Concat(_batch_coordinates(at, batch, indices), indices, axis=-1)
    return [op.ScatterND(op.filled(at.shape(0), 0.0), indices, at.signal, reduction="add"), None]


@gather_nd.fault
def batch_axes(attributes: Mapping[str, Any], *_: int) -> str | None:
    """Refuse fewer than no axes."""
    batch = attributes.get("batch_dims", 0)
    return None if batch >= 0 else f"batch_dims={batch}"


def _batch_coordinates(at: Site, batch: int, indices: Signal) -> Signal:
    """Return where along the batch axes each index stands: shape of the indices but for the last axis."""
    op, rank = at.op, len(at.shape_of(1))
    shape = op.Concat(op.Shape(indices, end=rank - 1), [1], axis=0)
    lines: list[Signal] = []
    for axis in range(batch):
        count = op.Squeeze(op.Slice(shape, [axis], [axis + 1]))
        line = op.Range(np.int64(0), count, np.int64(1))
        lines.append(op.Expand(op.Reshape(line, [-1] + [1] * (rank - 1 - axis)), shape))
    return lines[0] if batch == 1 else op.Concat(*lines, axis=-1)


@operator("ScatterElements", "Scatter", traits={PLACEMENT})
def scatter_elements(at: Site) -> Signals:
    """The updates get the signal from their places, the rest of it goes to what they did not replace."""
    op, axis = at.op, at.axis()
    updates = op.GatherElements(at.signal, at.raw(1), axis=axis)
    if _adds(at):
        return [at.signal, None, updates]
    return [op.ScatterElements(at.signal, at.raw(1), op.Mul(updates, 0.0), axis=axis), None, updates]


@operator("ScatterND", traits={PLACEMENT})
def scatter_nd(at: Site) -> Signals:
    """The updates get the signal from their places, the rest of it goes to what they did not replace."""
    op = at.op
    updates = op.GatherND(at.signal, at.raw(1))
    if _adds(at):
        return [at.signal, None, updates]
    return [op.ScatterND(at.signal, at.raw(1), op.Mul(updates, 0.0)), None, updates]


def _adds(at: Site) -> bool:
    """Tell whether updates are added to the values, else they replace them."""
    reduction = at.attr("reduction", "none")
    if reduction not in ("none", "add"):
        raise at.unsupported(f"reduction={reduction!r}; only 'none' and 'add' can be sent back")
    return bool(reduction == "add")


@operator("Tile", traits={KEEPS_SIGN})
def tile(at: Site) -> Signals:
    """The copies' signals are added up."""
    op, rank = at.op, len(at.shape_of(0))
    repeats = at.constant(1)
    counts: Operand = at.raw(1) if repeats is None else [int(r) for r in repeats]
    pairs = op.Concat(op.Reshape(counts, [-1, 1]), op.Reshape(at.shape(0), [-1, 1]), axis=1)
    apart = op.Reshape(at.signal, op.Reshape(pairs, [-1]))
    return [op.ReduceSum(apart, list(range(0, 2 * rank, 2)), keepdims=0), None]
