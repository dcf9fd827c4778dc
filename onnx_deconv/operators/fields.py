"""How receptive fields pass operators: the functions that entries name as their ``field``.

Each takes a node and what those of its inputs see that depend on the image, by the input's number, and
returns what its results see; ``None`` where that cannot be told.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from onnx_deconv.operators.node import ForwardNode
from onnx_deconv.operators.sight import Sight, Strip
from onnx_deconv.operators.taps import padded, picked, resampled, unwindowed, windowed

Seen = Mapping[int, Sight]


def pointwise(_: ForwardNode, seen: Seen) -> Sight:
    """Each position sees what the operands' positions see there."""
    first, *rest = seen.values()
    for other in rest:
        first = first.joined(other)
    return first


def everywhere(at: ForwardNode, seen: Seen) -> Sight:
    """Each position sees what all positions see."""
    return pointwise(at, seen).blurred(None)


def window(at: ForwardNode, seen: Seen) -> Sight:
    """Each position sees what the window's positions see: convolutions and pools."""
    kernel = _kernel(at)
    return _spatial(pointwise(at, seen), len(kernel), lambda s, k, n: windowed(at.node, s, k, kernel, n))


def transposed_window(at: ForwardNode, seen: Seen) -> Sight:
    """Each position sees what the positions see that write to it: transposed convolutions."""
    kernel = _kernel(at)
    return _spatial(pointwise(at, seen), len(kernel), lambda s, k, n: unwindowed(at.node, s, k, kernel, n))


def concatenation(at: ForwardNode, seen: Seen) -> Sight | None:
    """Operands of one grid of positions; ``None`` where they are joined along an axis of the image."""
    (axis,) = _from_last(at, [at.node.attrs["axis"]])
    if any(s.axis == axis for part in seen.values() for s in part.strips):
        return None
    return pointwise(at, seen)


def permutation(at: ForwardNode, seen: Seen) -> Sight:
    """Axes change places."""
    perm = at.attr("perm") or list(range(_rank(at)))[::-1]
    return pointwise(at, seen).map(
        lambda s: s if s.axis is None else replace(s, axis=perm.index(s.axis + len(perm)) - len(perm))
    )


def new_shape(at: ForwardNode, seen: Seen) -> Sight | None:
    """Each axis is found again: as long as before, with as much after it."""
    sight = pointwise(at, seen)
    before, after = (at.model.type_of(v.name).shape for v in (at.node.inputs[0], at.node.outputs[0]))
    if before is None or after is None:
        return None
    places = {_place(after, axis): axis for axis in range(-len(after), 0)}
    found = [None if s.axis is None else places.get(_place(before, s.axis)) for s in sight.strips]
    lost = any(s.axis is not None and new is None for s, new in zip(sight.strips, found, strict=True))
    if lost:
        return None if len(after) > 2 else sight.blurred(None)  # noqa: PLR2004
    pairs = zip(sight.strips, found, strict=True)
    return sight._replace(strips=tuple(replace(s, axis=new) for s, new in pairs))


def reduction(at: ForwardNode, seen: Seen) -> Sight:
    """Along the reduced axes all is seen."""
    return _reduced(at, seen, at.numbers("axes", 1))


def arg_reduction(at: ForwardNode, seen: Seen) -> Sight:
    """Along the one reduced axis all is seen."""
    return _reduced(at, seen, [at.attr("axis", 0)])


def _reduced(at: ForwardNode, seen: Seen, axes: Sequence[int] | None) -> Sight:
    sight = pointwise(at, seen)
    if axes is None:
        return sight.blurred(None)
    gone = sorted(_from_last(at, axes))
    blurred = sight.blurred(gone)
    if at.attr("keepdims", 1):
        return blurred
    return blurred.map(
        lambda s: s if s.axis is None else replace(s, axis=s.axis + sum(a > s.axis for a in gone))
    )


def softmax_axes(at: ForwardNode, seen: Seen) -> Sight:
    """Along one axis all is seen; below opset 13 along all axes from it on."""
    if at.model.opset >= 13:  # noqa: PLR2004
        return pointwise(at, seen).blurred(_from_last(at, [at.attr("axis", -1)]))
    return _trailing(at, seen, 1)


def trailing_axes(at: ForwardNode, seen: Seen) -> Sight:
    """Along all axes from one on all is seen."""
    return _trailing(at, seen, -1)


def _trailing(at: ForwardNode, seen: Seen, default: int) -> Sight:
    (first,) = _from_last(at, [at.attr("axis", default)])
    return pointwise(at, seen).blurred(list(range(first, 0)))


def one_axis(at: ForwardNode, seen: Seen) -> Sight:
    """Along one axis all is seen."""
    return pointwise(at, seen).blurred(_from_last(at, [at.attr("axis", -1)]))


def splitting(at: ForwardNode, seen: Seen) -> Sight | None:
    """Parts of one grid of positions; ``None`` where an axis of the image is split."""
    sight, (axis,) = pointwise(at, seen), _from_last(at, [at.attr("axis", 0)])
    return None if any(s.axis == axis for s in sight.strips) else sight


def product(_: ForwardNode, seen: Seen) -> Sight:
    """A matrix product sees all along the axis that it sums over."""
    first, *rest = (sight.blurred([-1 if i == 0 else -2]) for i, sight in seen.items())
    return first.joined(rest[0]) if rest else first


def padding(at: ForwardNode, seen: Seen) -> Sight | None:
    """Positions of the padding see nothing, or what they mirror."""
    pads, mode = at.numbers("pads", 1), at.attr("mode", "constant")
    if pads is None:
        return None
    axes = _from_last(at, at.numbers("axes", 3) or range(_rank(at)))
    by_axis = {a: (int(pads[k]), int(pads[k + len(axes)])) for k, a in enumerate(axes)}
    return pointwise(at, seen).map(lambda s: padded(s, *by_axis.get(s.axis or 0, (0, 0)), mode))


def slicing(at: ForwardNode, seen: Seen) -> Sight | None:
    """Some positions are kept."""
    names = ("starts", "ends", "axes", "steps")
    starts, ends, axes, steps = (at.numbers(name, 1 + i) for i, name in enumerate(names))
    if starts is None or ends is None:
        return None
    along = _from_last(at, axes or range(len(starts)))
    cuts = zip(along, starts, ends, steps or [1] * len(starts), strict=True)
    by_axis = {a: slice(b, e, t) for a, b, e, t in cuts}
    return pointwise(at, seen).map(lambda s: picked(s, by_axis[s.axis]) if s.axis in by_axis else s)


def blocks_to_positions(at: ForwardNode, seen: Seen) -> Sight:
    """Each position becomes a block of positions that see the same."""
    b = at.node.attrs["blocksize"]
    return _spatial(
        pointwise(at, seen),
        2,
        lambda s, *_: s.read((np.arange(len(s.bounds) * b) // b)[:, None], 1 / b, 0, 1),
    )


def positions_to_blocks(at: ForwardNode, seen: Seen) -> Sight:
    """Each block of positions becomes one, which sees what they see."""
    b = at.node.attrs["blocksize"]
    return _spatial(
        pointwise(at, seen), 2, lambda s, *_: s.read(np.arange(len(s.bounds)).reshape(-1, b), b, 0, b)
    )


RESIZE_BY_ATTRIBUTES = 11
"""The first opset whose Resize says by attributes how it interpolates; its scales moved too."""


_DEFAULTS = {
    "mode": "nearest",
    "coordinate_transformation_mode": "half_pixel",
    "nearest_mode": "round_prefer_floor",
    "antialias": 0,
}
_BEFORE_ATTRIBUTES = _DEFAULTS | {"coordinate_transformation_mode": "asymmetric", "nearest_mode": None}


def scales_input(at: ForwardNode) -> int:
    """Tell which input of a Resize or Upsample its scales are."""
    return 2 if _by_attributes(at) else 1


def _by_attributes(at: ForwardNode) -> bool:
    return at.node.op == "Resize" and at.model.opset >= RESIZE_BY_ATTRIBUTES


def resampling(at: ForwardNode, seen: Seen) -> Sight | None:
    """Each position sees what the positions see that it is interpolated from."""
    scales = _scales(at)
    if scales is None:
        return None
    how = (_DEFAULTS if _by_attributes(at) else _BEFORE_ATTRIBUTES) | at.node.attrs
    return pointwise(at, seen).map(lambda s: resampled(s, how, *scales[s.axis]) if s.axis in scales else s)


def _scales(at: ForwardNode) -> dict[int | None, tuple[int, float]] | None:
    """Return the new length and the scale along each axis; None where they cannot be known."""
    before, after = (at.model.type_of(v.name).shape for v in (at.node.inputs[0], at.node.outputs[0]))
    scales = at.numbers("scales", scales_input(at))
    if before is None or after is None or None in (*before[2:], *after[2:]):
        return None
    found: dict[int | None, tuple[int, float]] = {}
    for axis in range(-len(before), 0):
        old, new = before[axis], after[axis]
        if old is not None and new is not None and "axes" not in at.node.attrs:
            given = scales is not None and len(scales) == len(before)
            found[axis] = new, (scales[axis] if given and scales is not None else new / old)
    return found or None


def _kernel(at: ForwardNode) -> Sequence[int]:
    if "kernel_shape" in at.node.attrs:
        return list(at.node.attrs["kernel_shape"])
    return [d or 1 for d in (at.model.type_of(at.node.inputs[1].name).shape or ())[2:]]


def _spatial(sight: Sight, n: int, change: Callable[[Strip, int, int], Strip]) -> Sight:
    """Change the strips that run along a spatial axis k of n (channels first)."""
    return sight.map(lambda s: s if s.axis is None else change(s, s.axis + n, n))


def _rank(at: ForwardNode) -> int:
    return len(at.model.type_of(at.node.inputs[0].name).shape or ())


def _from_last(at: ForwardNode, axes: Sequence[int] | range) -> list[int]:
    """Count axes from the last one, as broadcasting does."""
    rank = _rank(at)
    return [int(a) - rank if a >= 0 else int(a) for a in axes]


def _place(shape: Sequence[int | None], axis: int) -> tuple[object, ...]:
    after = [] if axis == -1 else list(shape[axis + 1 :])
    return shape[axis], math.prod(d for d in after if d), after.count(None)
