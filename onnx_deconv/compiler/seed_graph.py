"""Small graphs that stand between the parts of an explain graph: which units, and a row of results."""

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any, Literal

import numpy as np
from onnx import ModelProto, TensorProto, helper

from onnx_deconv.compiler.backward import SEED
from onnx_deconv.operators.builder import Emitter, Signal

TARGET, SCORES, EXPLAINED = "target", "scores", "explained"
"""What the graph takes and returns; here with ``seed/`` before: a model may have values of such names."""
OWN_TOP = -1
"""The value of ``target`` that stands for the strongest channel of each image."""

GraphSeed = Literal["auto", "one", "map", "strongest", "unit"]


def seeds(explained: Mapping[str, Any], ranked: str, precision: str, top: int, kind: GraphSeed) -> ModelProto:
    """Choose each image's channels, or units, and make their seeds.

    Parameters
    ----------
    explained
        The manifest's entry of the explained value.
    ranked
        The value whose strongest channel is taken where ``target`` does not say, shape (N, K, ...); for
        units the explained value.
    precision
        The seed's type.
    top
        How many channels, or units, of each image.
    kind
        See :func:`onnx_deconv.compiler.explain_graph.explain_graph`.

    Returns
    -------
    ModelProto
        Inputs: the two values and ``seed/target``; outputs: ``seed/0``, ``seed/1`` ..., ``seed/scores``, by
        which the strongest is found, and ``seed/explained``, which channels or units were taken.
    """
    op = Emitter(np.dtype(precision))
    op.origin = SEED
    value = op.Cast(op.input(explained["value"], None), to=op.elem_type)
    by = op.Cast(op.input(ranked, None), to=op.elem_type)
    target = op.input(f"{SEED}/{TARGET}", None, np.int64)
    if kind == "unit":
        scores = op.Reshape(by, [0, -1])
    else:
        scores = op.ReduceMax(op.Reshape(by, [0, 0, -1]), [2], keepdims=0)
    best = op.ArgMax(scores, axis=1, keepdims=0) if top == 1 else op.TopK(scores, [top], outputs=2)[1]
    targets = op.Where(op.Less(target, np.int64(0)), best, target)
    made = []
    for k in range(top):
        chosen = targets if top == 1 else op.Gather(targets, np.int64(k), axis=1)
        made.append(_seed(op, value, chosen, explained["shape"][1:], kind))
    starts = {f"{SEED}/{k}": signal for k, signal in enumerate(made)}
    told = {f"{SEED}/{SCORES}": scores, f"{SEED}/{EXPLAINED}": targets}
    return exported(op, starts | told, "seeds")


def _seed(
    op: Emitter, value: Signal, chosen: Signal, sizes: Sequence[int | str | None], kind: GraphSeed
) -> Signal:
    """Make the seed of one channel, or unit, per image, shape as the value, whose images have these sizes."""
    if kind == "unit":
        return op.Mul(value, _mask(op, value, chosen, sizes))
    channels, *sizes = sizes
    if kind == "auto":
        kind = "one" if all(size == 1 for size in sizes) else "map"
    off_on = np.array([0, 1], op.dtype)
    depth = (
        op.Squeeze(op.Shape(value, start=1, end=2)) if not isinstance(channels, int) else np.int64(channels)
    )
    mask = op.OneHot(chosen, depth, off_on, axis=1)
    if sizes:
        mask = op.Unsqueeze(mask, list(range(2, 2 + len(sizes))))
    if sizes and kind != "map":
        lowest = np.asarray(np.finfo(op.dtype).min)
        inside = op.Where(op.Cast(mask, to=TensorProto.BOOL), value, lowest)
        # The first of equals, as everywhere.
        unit = op.ArgMax(op.Reshape(inside, [0, -1]), axis=1, keepdims=0)
        mask = op.Mul(_mask(op, value, unit, [channels, *sizes]), mask)
    return mask if kind == "one" else op.Mul(value, mask)


def _mask(op: Emitter, value: Signal, unit: Signal, sizes: Sequence[int | str | None]) -> Signal:
    """Make 1 at one unit of each image, by its row-major index, and 0 elsewhere; shape as the value."""
    known = [size for size in sizes if isinstance(size, int)]
    fixed = len(known) == len(sizes)
    depth = np.int64(prod(known)) if fixed else op.Squeeze(op.Shape(op.Reshape(value, [0, -1]), start=1))
    mask = op.OneHot(unit, depth, np.array([0, 1], op.dtype), axis=1)
    return op.Reshape(mask, [-1, *known] if fixed else op.Shape(value))


def stacked(name: str, top: int) -> ModelProto:
    """Put reconstructions ``name/0``, ``name/1`` ... in a row, (N, top, ...), if more than one."""
    op = Emitter(np.dtype(np.float32))
    op.origin = "stacked"
    parts = [op.input(f"{name}/{k}", None) for k in range(top)]
    stack = parts[0] if top == 1 else op.Concat(*[op.Unsqueeze(p, [1]) for p in parts], axis=1)
    return exported(op, {name: stack}, "stacked")


def exported(op: Emitter, outputs: Mapping[str, Signal], name: str) -> ModelProto:
    """Export a graph; what its outputs are like is told by what it becomes a part of."""
    infos = [(o, s, helper.make_empty_tensor_value_info(o)) for o, s in outputs.items()]
    return op.export(infos, [], name)
