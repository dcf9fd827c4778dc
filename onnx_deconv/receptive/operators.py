"""Operators: what each makes of what its inputs see."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs

from onnx_deconv.model import Model
from onnx_deconv.receptive.sight import Sight, Strip
from onnx_deconv.receptive.taps import padded, picked, resampled, unwindowed, windowed

_WINDOWS = {"Conv", "MaxPool", "AveragePool", "LpPool"}
_POINTWISE = {
    "Abs", "Add", "And", "BatchNormalization", "Cast", "CastLike", "Ceil", "Celu", "Clip", "Cos",
    "DequantizeLinear", "Div", "Dropout", "Elu", "Equal", "Erf", "Exp", "Expand", "Floor", "Gelu",
    "Greater", "GreaterOrEqual", "HardSigmoid", "HardSwish", "Identity", "LRN", "LeakyRelu", "Less",
    "LessOrEqual", "Log", "Max", "Mean", "Min", "Mish", "Mod", "Mul", "Neg", "Not", "Or", "PRelu",
    "Pow", "QuantizeLinear", "Reciprocal", "Relu", "Round", "Selu", "Shrink", "Sigmoid", "Sign",
    "Sin", "Softplus", "Softsign", "Sqrt", "Sub", "Sum", "Swish", "Tanh", "ThresholdedRelu",
    "Where",
}  # fmt: skip
_EVERYWHERE = {"Flatten", "Gemm", "InstanceNormalization", "GroupNormalization", "MeanVarianceNormalization"}


class Operators:
    """How what is seen goes through the operators of one model."""

    def __init__(self, model: Model) -> None:
        self.model = model

    def through(self, node: gs.Node, seen: Mapping[int, Sight]) -> Sight:
        """Return what a node's outputs see, given what those of its inputs see that depend on the image."""
        first = next(iter(seen.values()))
        for other in list(seen.values())[1:]:
            if node.op != "Concat":
                first = first.joined(other)
        if node.op in _WINDOWS:
            return self._spatial(first, lambda s, k, n: windowed(node, s, k, self._kernel(node), n))
        if node.op in _POINTWISE:
            return first
        if node.op in _EVERYWHERE or node.op.startswith("Global"):
            return first.blurred(None)
        special = getattr(self, f"_{node.op.lower()}", None)
        if node.op.startswith(("Reduce", "Arg")):
            special = self._reduce
        found: Sight | None = special(node, first, seen) if special is not None else None
        if found is not None:
            return found
        note = f"{node.op} {node.name or node.outputs[0].name!r}: the whole image is assumed"
        return Sight(tuple(s.whole() for s in first.strips), note)

    def _kernel(self, node: gs.Node) -> Sequence[int]:
        if "kernel_shape" in node.attrs:
            return node.attrs["kernel_shape"]
        return [d or 1 for d in (self.model.type_of(node.inputs[1].name).shape or ())[2:]]

    @staticmethod
    def _spatial(sight: Sight, change: Callable[[Strip, int, int], Strip]) -> Sight:
        """Change the strips that run along a spatial axis k of n (channels first)."""
        n = len(sight.strips)
        return sight.map(lambda s: s if s.axis is None else change(s, s.axis + n, n))

    def _convtranspose(self, node: gs.Node, sight: Sight, _: Any) -> Sight:
        kernel = self._kernel(node)
        return self._spatial(sight, lambda s, k, n: unwindowed(node, s, k, kernel, n))

    def _concat(self, node: gs.Node, _: Sight, seen: Mapping[int, Sight]) -> Sight | None:
        rank = self._rank(node.inputs[0].name)
        axis = node.attrs["axis"] - (rank if node.attrs["axis"] >= 0 else 0)
        parts = list(seen.values())
        if all(s.axis != axis for part in parts for s in part.strips):
            joined = parts[0]
            for part in parts[1:]:
                joined = joined.joined(part)
            return joined
        return None

    def _transpose(self, node: gs.Node, sight: Sight, _: Any) -> Sight:
        rank = self._rank(node.inputs[0].name)
        perm = node.attrs.get("perm") or list(range(rank))[::-1]
        return sight.map(
            lambda s: s if s.axis is None else replace(s, axis=perm.index(s.axis + len(perm)) - len(perm))
        )

    def _reshape(self, node: gs.Node, sight: Sight, _: Any) -> Sight | None:
        """Find each axis again: as long as before, with as much behind it."""
        before, after = (self.model.type_of(v.name).shape for v in (node.inputs[0], node.outputs[0]))
        if before is None or after is None:
            return None
        places = {_place(after, axis): axis for axis in range(-len(after), 0)}
        found = [None if s.axis is None else places.get(_place(before, s.axis)) for s in sight.strips]
        lost = any(s.axis is not None and new is None for s, new in zip(sight.strips, found, strict=True))
        if lost:
            return None if len(after) > 2 else sight.blurred(None)  # noqa: PLR2004
        pairs = zip(sight.strips, found, strict=True)
        return sight._replace(strips=tuple(replace(s, axis=new) for s, new in pairs))

    _squeeze = _unsqueeze = _reshape

    def _reduce(self, node: gs.Node, sight: Sight, _: Any) -> Sight | None:
        axes = self._numbers(node, "axes", 1)
        if node.op.startswith("Arg"):
            axes = [node.attrs.get("axis", 0)]
        rank = self._rank(node.inputs[0].name)
        if axes is None:
            return sight.blurred(None)
        gone = sorted(axis - rank if axis >= 0 else axis for axis in axes)
        blurred = sight.blurred(gone)
        if node.attrs.get("keepdims", 1):
            return blurred
        return blurred.map(
            lambda s: s if s.axis is None else replace(s, axis=s.axis + sum(a > s.axis for a in gone))
        )

    def _softmax(self, node: gs.Node, sight: Sight, _: Any) -> Sight:
        rank = self._rank(node.inputs[0].name)
        modern = self.model.opset >= 13 and node.op != "LayerNormalization"  # noqa: PLR2004
        axis = node.attrs.get("axis", -1 if modern or node.op == "LayerNormalization" else 1)
        axis = axis - rank if axis >= 0 else axis
        return sight.blurred([axis] if modern else list(range(axis, 0)))

    _logsoftmax = _hardmax = _layernormalization = _softmax

    def _lpnormalization(self, node: gs.Node, sight: Sight, _: Any) -> Sight:
        axis = node.attrs.get("axis", -1)
        return sight.blurred([axis if axis < 0 else axis - self._rank(node.inputs[0].name)])

    def _split(self, node: gs.Node, sight: Sight, _: Any) -> Sight | None:
        axis = node.attrs.get("axis", 0)
        axis = axis if axis < 0 else axis - self._rank(node.inputs[0].name)
        return None if any(s.axis == axis for s in sight.strips) else sight

    def _matmul(self, node: gs.Node, _: Sight, seen: Mapping[int, Sight]) -> Sight:
        del node
        parts = [sight.blurred([-1 if i == 0 else -2]) for i, sight in seen.items()]
        return parts[0] if len(parts) == 1 else parts[0].joined(parts[1])

    def _pad(self, node: gs.Node, sight: Sight, _: Any) -> Sight | None:
        pads, axes = self._numbers(node, "pads", 1), self._numbers(node, "axes", 3)
        mode = node.attrs.get("mode", "constant")
        if pads is None:
            return None
        rank = self._rank(node.inputs[0].name)
        axes = [a - rank if a >= 0 else a for a in (axes or range(rank))]
        by_axis = {a: (pads[k], pads[k + len(axes)]) for k, a in enumerate(axes)}
        return sight.map(lambda s: padded(s, *by_axis.get(s.axis or 0, (0, 0)), mode))

    def _slice(self, node: gs.Node, sight: Sight, _: Any) -> Sight | None:
        names = ("starts", "ends", "axes", "steps")
        starts, ends, axes, steps = (self._numbers(node, name, 1 + i) for i, name in enumerate(names))
        if starts is None or ends is None:
            return None
        rank, steps = self._rank(node.inputs[0].name), steps or [1] * len(starts)
        cuts = zip(axes or range(len(starts)), starts, ends, steps, strict=True)
        by_axis = {a - rank if a >= 0 else a: slice(b, e, t) for a, b, e, t in cuts}
        return sight.map(lambda s: picked(s, by_axis[s.axis]) if s.axis in by_axis else s)

    def _depthtospace(self, node: gs.Node, sight: Sight, _: Any) -> Sight:
        b = node.attrs["blocksize"]
        return self._spatial(
            sight, lambda s, *_: s.read((np.arange(len(s.bounds) * b) // b)[:, None], 1 / b, 0, 1)
        )

    def _spacetodepth(self, node: gs.Node, sight: Sight, _: Any) -> Sight:
        b = node.attrs["blocksize"]
        return self._spatial(sight, lambda s, *_: s.read(np.arange(len(s.bounds)).reshape(-1, b), b, 0, b))

    def _resize(self, node: gs.Node, sight: Sight, _: Any) -> Sight | None:
        if self._upsampling(node) is None:
            return None
        scales = self._upsampling(node) or {}
        return sight.map(lambda s: resampled(s, node, *scales[s.axis]) if s.axis in scales else s)

    _upsample = _resize

    def _upsampling(self, node: gs.Node) -> dict[int | None, tuple[int, float]] | None:
        """Return the new length and the scale along each axis; None where they cannot be known."""
        before, after = (self.model.type_of(v.name).shape for v in (node.inputs[0], node.outputs[0]))
        place = 1 if node.op == "Upsample" or self.model.opset < 11 else 2  # noqa: PLR2004
        scales = self._floats(node, "scales", place)
        if before is None or after is None or None in (*before[2:], *after[2:]):
            return None
        found: dict[int | None, tuple[int, float]] = {}
        for axis in range(-len(before), 0):
            old, new = before[axis], after[axis]
            if old is not None and new is not None and "axes" not in node.attrs:
                given = scales is not None and len(scales) == len(before)
                found[axis] = new, (scales[axis] if given and scales is not None else new / old)
        return found or None

    def _rank(self, value: str) -> int:
        return len(self.model.type_of(value).shape or ())

    def _numbers(self, node: gs.Node, name: str, i: int) -> list[int] | None:
        """Read whole numbers: an attribute in old opsets, an input in new ones."""
        numbers = self._floats(node, name, i)
        return None if numbers is None else [int(n) for n in numbers]

    def _floats(self, node: gs.Node, name: str, i: int) -> list[float] | None:
        if name in node.attrs:
            return list(node.attrs[name])
        if len(node.inputs) <= i or not node.inputs[i].name:
            return None
        numbers = self.model.constant(node.inputs[i].name)
        return None if numbers is None or not numbers.size else numbers.ravel().tolist()


def _place(shape: Sequence[int | None], axis: int) -> tuple[object, ...]:
    behind = [] if axis == -1 else list(shape[axis + 1 :])
    return shape[axis], math.prod(d for d in behind if d), behind.count(None)
