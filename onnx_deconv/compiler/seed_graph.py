"""Small graphs that stand between the parts of an explain graph: which units, and a row of results."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any, Literal

import numpy as np
from onnx import ModelProto, TensorProto, helper

from onnx_deconv.compiler.axis_order import canonical, restored
from onnx_deconv.compiler.backward import SEED
from onnx_deconv.model.detections import Fields
from onnx_deconv.model.value_axes import Axes
from onnx_deconv.operators.builder import Emitter, Signal

TARGET, SCORES, EXPLAINED = "target", "scores", "explained"
"""What the graph takes and returns; here with ``seed/`` before: a model may have values of such names."""
OWN_TOP = -1
"""The value of ``target`` that stands for the strongest channel of each image."""

_NOTHING = np.int64(2**31 - 1)
"""A channel that no value has; OneHot would count negative ones from the end."""

GraphSeed = Literal["auto", "one", "contrast", "map", "present", "strongest", "unit"]
TargetKind = Literal["index", "weights", "array"]


@dataclass(frozen=True)
class Ranked:
    """The value whose strongest class or channel is taken where ``target`` does not say.

    Attributes
    ----------
    value
        Its name.
    axes
        Its axes.
    elements
        As in :class:`onnx_deconv.model.head.Head`: what the classes of the output are among its channels.
    fields
        Of a detector's boxes: which of its channels are classes.
    has_strongest
        Whether one of its channels comes first; of an embedding none does.
    by_output
        Whether it is the output itself, whose channels are its classes.
    before, before_axes
        The scores that the output is made of, which tell apart classes whose numbers rounding made equal.
    rivals
        As in :class:`onnx_deconv.model.head.Head`: a class is as strong as its odds against the others.
    """

    value: str
    axes: Axes
    elements: Sequence[Sequence[int]] | None = None
    fields: Fields | None = None
    has_strongest: bool = True
    by_output: bool = False
    before: str | None = None
    before_axes: Axes = field(default_factory=Axes)
    rivals: bool = False


def seeds(
    explained: Mapping[str, Any],
    ranked: Ranked,
    precision: str,
    top: int,
    kind: GraphSeed,
    *,
    arrays: bool = False,
) -> ModelProto:
    """Choose each image's channels, or units, and make their seeds.

    Parameters
    ----------
    explained
        The manifest's entry of the explained value.
    ranked
        For units the explained value.
    precision
        The seed's type.
    top
        How many channels, or units, of each image.
    kind
        See :func:`onnx_deconv.compiler.explain_graph.explain_graph`.
    arrays
        Whether ``seed/target`` has the explained value's shape, and is itself the seed of each image for
        which it is not all zero; of every image where no channel is the strongest.

    Returns
    -------
    ModelProto
        Inputs: the two values and ``seed/target``; outputs: ``seed/0``, ``seed/1`` ..., ``seed/scores``, by
        which the strongest is found, and ``seed/explained``, which channels or units were taken.
    """
    op, value, by, axes = _begun(explained, ranked, precision)
    kind = resolved(explained, ranked, kind)
    anchors = 1 if ranked.fields is None or kind == "unit" else ranked.fields.anchors
    by = _apart(op, by, anchors)
    target = op.input(f"{SEED}/{TARGET}", None, None if arrays else np.int64)
    rank = _classes(op, by, ranked) if kind != "unit" else op.Reshape(by, [0, -1])
    scores = op.ReduceMax(op.Reshape(rank, [0, 0, -1]), [2], keepdims=0) if kind != "unit" else rank
    best = _best(op, scores, top, _before(op, value, explained, ranked))
    targets = best if arrays else _asked_or_best(op, target, best)
    made, sizes = [], (axes.sizes(explained["shape"]) or [])[1:]
    for k in range(top):
        chosen = targets if top == 1 else op.Gather(targets, np.int64(k), axis=1)
        if not ranked.has_strongest:
            made.append(op.Cast(target, to=op.elem_type))
            continue
        if ranked.fields is not None and kind != "unit":
            sizes = sizes if anchors == 1 else [None] * 3
            seed = _box(op, _apart(op, value, anchors), rank, chosen, ranked.fields, sizes)
            seed = seed if anchors == 1 else _together(op, seed, value)
        elif kind == "unit" and _is_scores(explained):
            seed = _mask(op, value, chosen, sizes)
        else:
            seed = _of_class(op, value, chosen, ranked, sizes, kind)
        seed = restored(op, seed, axes)
        made.append(_given(op, target, seed, axes) if arrays else seed)
    starts = {f"{SEED}/{k}": signal for k, signal in enumerate(made)}
    told = {f"{SEED}/{SCORES}": scores, f"{SEED}/{EXPLAINED}": targets}
    return exported(op, starts | told, "seeds")


def _is_scores(explained: Mapping[str, Any]) -> bool:
    """Tell whether a value is an output's scores, which have no zero, so that a unit starts with 1."""
    return explained["output"] is not None and explained["kind"] != "image"


def _begun(
    explained: Mapping[str, Any], ranked: Ranked, precision: str
) -> tuple[Emitter, Signal, Signal, Axes]:
    """Begin a graph; return the explained value and the ranked one, (N, K, ...), and the former's axes."""
    op, axes = Emitter(np.dtype(precision)), Axes.of(explained["axes"])
    op.origin = SEED
    value = canonical(op, op.Cast(op.input(explained["value"], None), to=op.elem_type), axes)
    by = canonical(op, op.Cast(op.input(ranked.value, None), to=op.elem_type), ranked.axes)
    return op, value, by, axes


def _before(op: Emitter, value: Signal, explained: Mapping[str, Any], ranked: Ranked) -> Signal | None:
    """Return the scores that an output's numbers are made of, one for each class, if it ranks them."""
    if ranked.before is None:
        return None
    scores = value
    if ranked.before != explained["value"]:
        given = op.Cast(op.input(ranked.before, None), to=op.elem_type)
        scores = canonical(op, given, ranked.before_axes)
    scores = _of_elements(op, scores, ranked)
    return op.ReduceMax(op.Reshape(scores, [0, 0, -1]), [2], keepdims=0)


def _best(op: Emitter, scores: Signal, top: int, before: Signal | None) -> Signal:
    """Find the strongest of each image, by the scores before where these are equal, else the first."""
    if before is None:
        return op.ArgMax(scores, axis=1, keepdims=0) if top == 1 else op.TopK(scores, [top], outputs=2)[1]
    lowest, nothing, found = np.asarray(np.finfo(op.dtype).min), np.asarray(-np.inf, op.dtype), list[Signal]()
    size = op.Squeeze(op.Shape(scores, start=1, end=2))
    for _ in range(top):
        equal = op.Equal(scores, op.ReduceMax(scores, [1], keepdims=1))
        found.append(op.ArgMax(op.Where(equal, before, lowest), axis=1, keepdims=0))
        taken = op.OneHot(found[-1], size, np.array([0, 1], op.dtype), axis=1)
        taken = op.Cast(taken, to=TensorProto.BOOL)
        scores, before = op.Where(taken, nothing, scores), op.Where(taken, lowest, before)
    return found[0] if top == 1 else op.Concat(*(op.Unsqueeze(each, [1]) for each in found), axis=1)


def _asked_or_best(op: Emitter, target: Signal, best: Signal) -> Signal:
    """Return the channels that are asked for, the best in place of -1, and of other negative numbers none."""
    asked = op.Where(op.Less(target, np.int64(OWN_TOP)), _NOTHING, target)
    return op.Where(op.Less(asked, np.int64(0)), best, asked)


def _given(op: Emitter, target: Signal, seed: Signal, axes: Axes) -> Signal:
    """Return the seeds that are given; of an image that is given zeros the other."""
    given = op.Cast(target, to=op.elem_type)
    others = [k for k in range(len(axes.order)) if k != axes.batch]
    largest = op.ReduceMax(op.Abs(given), others, keepdims=1)
    return op.Where(op.Equal(largest, np.zeros((), op.dtype)), seed, given)


def weighted_seeds(
    explained: Mapping[str, Any], ranked: Ranked, precision: str, kind: GraphSeed
) -> ModelProto:
    """Make each image's seed of a weighted sum of its channels or classes.

    As :func:`seeds` of one channel, but that ``seed/target`` has a weight for each, shape (N, K). Where an
    image's weights are all zero its strongest is taken.
    """
    op, value, by, axes = _begun(explained, ranked, precision)
    kind = resolved(explained, ranked, kind)
    given = op.Cast(op.input(f"{SEED}/{TARGET}", None), to=op.elem_type)
    scores = op.ReduceMax(op.Reshape(_classes(op, by, ranked), [0, 0, -1]), [2], keepdims=0)
    best = _best(op, scores, 1, _before(op, value, explained, ranked))
    size = op.Squeeze(op.Shape(scores, start=1, end=2))
    strongest = op.OneHot(best, size, np.array([0, 1], op.dtype), axis=1)
    largest = op.ReduceMax(op.Abs(given), [1], keepdims=1)
    weights = op.Where(op.Equal(largest, np.zeros((), op.dtype)), strongest, given)
    sizes = (axes.sizes(explained["shape"]) or [])[1:]
    seed = restored(op, _weighted(op, value, _of_channels(op, weights, value, ranked), kind, sizes), axes)
    chosen = op.ArgMax(op.Abs(weights), axis=1, keepdims=0)
    return exported(
        op, {f"{SEED}/0": seed, f"{SEED}/{SCORES}": scores, f"{SEED}/{EXPLAINED}": chosen}, "seeds"
    )


def _of_channels(op: Emitter, weights: Signal, value: Signal, ranked: Ranked) -> Signal:
    """Return the weights of the channels, given those of the classes."""
    if ranked.elements is None:
        return weights
    channels, signs = zip(*ranked.elements, strict=True)
    size = op.Squeeze(op.Shape(value, start=1, end=2))
    signed = op.Mul(
        op.OneHot(np.array(channels), size, np.array([0, 1], op.dtype), axis=1),
        np.array(signs, op.dtype)[:, None],
    )
    return op.MatMul(weights, signed)


def _weighted(
    op: Emitter, value: Signal, weights: Signal, kind: GraphSeed, sizes: Sequence[int | str | None]
) -> Signal:
    """Make the seed of all channels, each times its weight, shape as the value."""
    places = sizes[1:]
    factor = op.Unsqueeze(weights, list(range(2, 2 + len(places)))) if places else weights
    if kind in ("map", "present"):
        return op.Mul(_present(op, value, sizes) if kind == "present" else value, factor)
    if all(size == 1 for size in places):
        return factor if kind == "one" else op.Mul(value, factor)
    flat = op.Reshape(value, [0, 0, -1])
    depth = op.Squeeze(op.Shape(flat, start=2))
    at = op.OneHot(op.ArgMax(flat, axis=2, keepdims=0), depth, np.array([0, 1], op.dtype), axis=2)
    unit = op.Mul(op.Reshape(at, op.Shape(value)), factor)
    return unit if kind == "one" else op.Mul(unit, value)


def resolved(explained: Mapping[str, Any], ranked: Ranked, kind: GraphSeed) -> GraphSeed:
    """Return the kind of seed that ``auto`` stands for: a box's score or one unit per channel, else a map.

    Of a map before a sigmoid it is what is positive.
    """
    if ranked.fields is not None and kind != "unit":
        return "one"
    if kind != "auto":
        return kind
    sizes = (Axes.of(explained["axes"]).sizes(explained["shape"]) or [])[2:]
    if all(size == 1 for size in sizes):
        return "one"
    return "present" if explained.get("seed") == "present" else "map"


def has_scores(explained: Mapping[str, Any], ranked: Ranked) -> bool:
    """Tell whether a value holds one number for each of several classes, whose number is known."""
    channels, *places = (Axes.of(explained["axes"]).sizes(explained["shape"]) or [])[1:] or [None]
    several = (
        isinstance(channels, int) and channels > 1 and (ranked.elements is None or len(ranked.elements) > 1)
    )
    return several and ranked.fields is None and all(size == 1 for size in places)


def _classes(op: Emitter, by: Signal, ranked: Ranked) -> Signal:
    """Return the numbers that classes are ranked by, shape (N, K, ...)."""
    if ranked.fields is not None:
        first, count, objectness = ranked.fields.first, ranked.fields.count, ranked.fields.objectness
        probable = ranked.fields.probable
        by = op.Softmax(by, axis=1) if ranked.fields.exclusive and not probable else by
        scores = op.Slice(by, [first], [first + count], [1])
        if objectness is None:
            return scores
        certain = op.Slice(by, [objectness], [objectness + 1], [1])
        squash = op.Identity if probable else op.Sigmoid
        return op.Mul(squash(scores), squash(certain))
    if ranked.by_output:
        return by
    return _of_elements(op, _best_odds(op, by) if ranked.rivals else by, ranked)


def _best_odds(op: Emitter, values: Signal) -> Signal:
    """Return the logarithm of each channel's best odds against all others at a position, as by a softmax.

    The probability itself is rounded to 1 where a channel is far ahead: it is not taken from 1.
    """
    first = op.ReduceMax(values, [1], keepdims=1)
    best, share = op.Equal(values, first), op.Exp(op.Sub(values, first))
    behind = op.ReduceSum(op.Where(best, np.zeros((), op.dtype), share), [1], keepdims=1)
    total = op.ReduceSum(share, [1], keepdims=1)
    several = op.Greater(op.Sub(total, behind), np.asarray(1.5, op.dtype))  # of equals, each has a share of 1
    rest = op.Where(several, op.Sub(total, np.ones((), op.dtype)), behind)
    rest = op.Where(best, op.Max(rest, np.asarray(np.finfo(op.dtype).tiny)), op.Sub(total, share))
    odds = op.Reshape(op.Div(share, rest), [0, 0, -1])
    return op.Log(op.ReduceMax(odds, [2], keepdims=1))


def _of_elements(op: Emitter, by: Signal, ranked: Ranked) -> Signal:
    """Return the numbers of an output's classes, given those of its scores, shape (N, K, ...)."""
    if ranked.elements is None:
        return by
    channels, signs = zip(*ranked.elements, strict=True)
    scores = op.ReduceMax(op.Reshape(by, [0, 0, -1]), [2], keepdims=0)
    return op.Mul(op.Gather(scores, np.array(channels), axis=1), np.array(signs, op.dtype))


def _apart(op: Emitter, value: Signal, anchors: int) -> Signal:
    """Bring a map of several anchors into the shape (N, fields, anchors, H · W); others stay as they are."""
    if anchors == 1:
        return value
    cells = op.ReduceProd(op.Shape(value, start=2), keepdims=1)
    shape = op.Concat(np.array([0, anchors, -1]), cells, axis=0)
    return op.Transpose(op.Reshape(value, shape), perm=[0, 2, 1, 3])


def _together(op: Emitter, seed: Signal, value: Signal) -> Signal:
    """Bring a seed of several anchors into the shape of the value."""
    return op.Reshape(op.Transpose(seed, perm=[0, 2, 1, 3]), op.Shape(value))


def _box(
    op: Emitter,
    value: Signal,
    scores: Signal,
    chosen: Signal,
    fields: Fields,
    sizes: Sequence[int | str | None],
) -> Signal:
    """Make 1 at the score of one class of each image in the box where it is best; shape as the value.

    Where its score is multiplied by an objectness, there too.
    """
    off_on = np.array([0, 1], op.dtype)
    behind = list(range(2, max(len(sizes), 2) + 1))
    mask = op.Unsqueeze(op.OneHot(chosen, np.int64(fields.count), off_on, axis=1), behind)
    inside = op.Where(op.Cast(mask, to=TensorProto.BOOL), scores, np.asarray(np.finfo(op.dtype).min))
    unit = op.ArgMax(op.Reshape(inside, [0, -1]), axis=1, keepdims=0)
    boxes = op.ReduceProd(op.Shape(value, start=2), keepdims=0)
    there = _mask(op, value, op.Add(unit, op.Mul(boxes, np.int64(fields.first))), sizes)
    if fields.objectness is not None:
        box = op.Add(op.Mod(unit, boxes), op.Mul(boxes, np.int64(fields.objectness)))
        there = op.Add(there, _mask(op, value, box, sizes))
    return op.Mul(there, op.ReduceMax(mask, [1], keepdims=1))  # nothing for a class that there is not


def _of_class(
    op: Emitter,
    value: Signal,
    chosen: Signal,
    ranked: Ranked,
    sizes: Sequence[int | str | None],
    kind: GraphSeed,
) -> Signal:
    """Make the seed of one class, channel or unit per image, shape as the value."""
    if kind == "contrast":
        return _contrast(op, _of_class(op, value, chosen, ranked, sizes, "one"), ranked, sizes)
    if ranked.elements is None or kind == "unit":
        return _seed(op, value, chosen, sizes, kind)
    channels, signs = zip(*ranked.elements, strict=True)
    last = np.int64(len(channels) - 1)
    known = op.Min(chosen, last)
    sign = op.Gather(np.array(signs, op.dtype), known)
    sign = op.Where(
        op.Less(last, chosen), np.zeros((), op.dtype), sign
    )  # nothing for a class that there is not
    seed = _seed(op, value, op.Gather(np.array(channels), known), sizes, kind)
    return op.Mul(seed, op.Reshape(sign, [-1] + [1] * len(sizes)))


def _contrast(op: Emitter, seed: Signal, ranked: Ranked, sizes: Sequence[int | str | None]) -> Signal:
    """Take the mean of the other classes off a class's seed, whose units are one per class."""
    depth = int(sizes[0] or 0)
    channels, signs = zip(*(ranked.elements or [(k, 1) for k in range(depth)]), strict=True)
    every = np.zeros((1, depth, *(1 for _ in sizes[1:])), op.dtype)
    np.add.at(every[0], list(channels), np.reshape(signs, (-1, *every.shape[2:])).astype(op.dtype))
    share = 1 / (len(channels) - 1)
    there = op.ReduceSum(op.Abs(seed), list(range(1, every.ndim)), keepdims=1)  # 0 for no class
    return op.Sub(op.Mul(seed, 1 + share), op.Mul(there, every * share))


def _seed(
    op: Emitter, value: Signal, chosen: Signal, sizes: Sequence[int | str | None], kind: GraphSeed
) -> Signal:
    """Make the seed of one channel, or unit, per image, shape as the value, whose images have these sizes."""
    if kind == "unit":
        return op.Mul(value, _mask(op, value, chosen, sizes))
    channels, *sizes = sizes or [None]
    off_on = np.array([0, 1], op.dtype)
    depth = (
        op.Squeeze(op.Shape(value, start=1, end=2)) if not isinstance(channels, int) else np.int64(channels)
    )
    mask = op.OneHot(chosen, depth, off_on, axis=1)
    if sizes:
        mask = op.Unsqueeze(mask, list(range(2, 2 + len(sizes))))
    if kind == "present":
        return op.Mul(_present(op, value, [None, *sizes]), mask)
    if any(size != 1 for size in sizes) and kind != "map":
        lowest = np.asarray(np.finfo(op.dtype).min)
        inside = op.Where(op.Cast(mask, to=TensorProto.BOOL), value, lowest)
        # The first of equals, as everywhere.
        unit = op.ArgMax(op.Reshape(inside, [0, -1]), axis=1, keepdims=0)
        mask = op.Mul(_mask(op, value, unit, [channels, *sizes]), mask)
    return mask if kind == "one" else op.Mul(value, mask)


def _present(op: Emitter, value: Signal, sizes: Sequence[int | str | None]) -> Signal:
    """Return the positive activations of each channel, elsewhere 0; all of a channel where none is."""
    positive = op.Relu(value)
    places = list(range(2, 1 + len(sizes)))
    largest = op.ReduceMax(positive, places, keepdims=1) if places else positive
    return op.Where(op.Equal(largest, np.zeros((), op.dtype)), value, positive)


def _mask(op: Emitter, value: Signal, unit: Signal, sizes: Sequence[int | str | None]) -> Signal:
    """Make 1 at one unit of each image, by its row-major index, and 0 elsewhere; shape as the value."""
    known = [size for size in sizes if isinstance(size, int)]
    fixed = len(known) == len(sizes) > 0
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
