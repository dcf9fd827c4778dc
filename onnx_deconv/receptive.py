"""Receptive fields: which pixels of the image a unit can see.

Along each axis of the image every value carries, for each of its positions, the first and the last
pixel that can change it. An operator is described by its *taps*: the input positions that each output
position reads; taps in the padding read nothing. So borders, strides, dilations, branches and
residuals come out exactly (but for branches that part at a border of a ``Pad`` node, where the box may
be too large), where the usual closed form (Araujo, Norris & Sim, "Computing Receptive
Fields of Convolutional Neural Networks", Distill 2019) is right for units far from the border alone.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
import onnx_graphsurgeon as gs

from onnx_deconv.errors import InputError
from onnx_deconv.model import Array, Model

_NOTHING = np.iinfo(np.int32).max
"""The first pixel of a unit that sees none."""


@dataclass(frozen=True)
class ReceptiveField:
    """What the units of one layer can see.

    Attributes
    ----------
    layer
        The value.
    size
        Pixels along each axis of the image that a unit sees where no border cuts it off. Exact for
        convolutions and pools, rounded up after a resampling.
    jump
        Pixels between what neighbouring units see; 0 where every unit sees the same.
    offset
        The first pixel that the unit at position 0 sees, padding included: often negative.
    axes
        For each axis of the image the layer's axis behind the channel that runs along it, or ``None``
        where every unit sees the same.
    bounds
        For each axis of the image, for each position: first pixel and one past the last, int64,
        clipped to the image.
    note
        Which operators made it necessary to assume that a unit sees everything; else ``None``.
    """

    layer: str
    size: tuple[int, ...]
    jump: tuple[float, ...]
    offset: tuple[float, ...]
    axes: tuple[int | None, ...]
    bounds: tuple[Array, ...] = field(repr=False)
    note: str | None = None

    def at(self, position: Sequence[int]) -> tuple[int, ...]:
        """Return the box of pixels that a unit sees.

        Parameters
        ----------
        position
            One index per axis behind the channel; empty for scores.

        Returns
        -------
        tuple of int
            (y0, x0, y1, x1), half open, clipped to the image; all 0 if it sees only padding.

        Raises
        ------
        InputError
            If there is no such unit.
        """
        rows = [self._row(k, position) for k in range(len(self.bounds))]
        if any(first >= last for first, last in rows):
            return (0,) * (2 * len(rows))
        return tuple(first for first, _ in rows) + tuple(last for _, last in rows)

    def reach(self, position: Sequence[int]) -> list[tuple[int, int]]:
        """Return, per axis, the first pixel that a unit sees and one past the last; outside the image too.

        What lies outside is padding, the image's or that of a layer on the way.
        """
        return [
            (min(first, closed[0]), max(last, closed[1])) if first < last else closed
            for (first, last), closed in zip(
                (self._row(k, position) for k in range(len(self.bounds))), self._closed(position), strict=True
            )
        ]

    def _closed(self, position: Sequence[int]) -> Iterator[tuple[int, int]]:
        """Return the same in closed form: a resampling's positions see more or less than it says."""
        for axis, size, jump, offset in zip(self.axes, self.size, self.jump, self.offset, strict=True):
            start = 0 if axis is None else position[axis] * jump + offset
            yield math.floor(start), math.ceil(start + size)

    def _row(self, k: int, position: Sequence[int]) -> tuple[int, int]:
        axis, bounds = self.axes[k], self.bounds[k]
        if axis is not None and not (axis < len(position) and 0 <= position[axis] < len(bounds)):
            raise InputError(f"{self.layer!r} has no unit at {tuple(position)}")
        first, last = bounds[0 if axis is None else position[axis]]
        return int(first), int(last)


def receptive_field(
    model: Model, layer: str, *, size: Sequence[int] | None = None, layout: str = "NCHW"
) -> ReceptiveField:
    """Find out which pixels the units of a layer can see.

    Parameters
    ----------
    model
        The model; only its graph is read.
    layer
        A value's or a node's name, or the n-th convolution (``conv3``).
    size
        The image's size, one number per spatial axis, where the model leaves it open.
    layout
        Where the image's channels are: ``"NCHW"`` or ``"NHWC"``.

    Returns
    -------
    ReceptiveField
        Exact but for operators that its ``note`` names.

    Raises
    ------
    UnknownLayerError
        If there is no such layer.
    InputError
        If the image's size is not known, or no image leads to the layer.
    """
    value = model.layer(layer)
    sights = _sights(model, size, layout)
    if value not in sights:
        raise InputError(f"{value!r} does not depend on the image")
    return _field(model, value, sights[value])


class Raster(NamedTuple):
    """How a value's positions lie over the image.

    Attributes
    ----------
    axes
        For each axis of the image the value's axis that runs along it, counted from the last (-1);
        ``None`` where there is none, or it is not known.
    jumps
        Pixels between neighbouring positions; 0 where ``axes`` has ``None``.
    """

    axes: tuple[int | None, ...]
    jumps: tuple[float, ...]


def rasters(model: Model, *, size: Sequence[int] | None = None, layout: str = "NCHW") -> dict[str, Raster]:
    """Find out how every value lies over the image that depends on it, by name.

    Parameters and errors are those of :func:`receptive_field`.
    """
    return {
        value: Raster(tuple(s.axis for s in sight.strips), tuple(s.jump for s in sight.strips))
        for value, sight in _sights(model, size, layout).items()
    }


def _sights(model: Model, size: Sequence[int] | None, layout: str) -> Mapping[str, "_Sight"]:
    return _Walk(model).run({name: _whole_image(model, name, size, layout) for name in model.inputs})


def _field(model: Model, value: str, sight: "_Sight") -> ReceptiveField:
    rank = len(model.type_of(value).shape or ())
    axes = tuple(None if s.axis is None else rank + s.axis - 2 for s in sight.strips)
    if any(axis is not None and axis < 0 for axis in axes):
        channels_last = "its channels are not axis 1: the whole image is assumed"
        sight, axes = _Sight(tuple(s.whole() for s in sight.strips), channels_last), (None,) * len(axes)
    return ReceptiveField(
        value,
        tuple(math.ceil(s.size) for s in sight.strips),
        tuple(s.jump for s in sight.strips),
        tuple(s.offset for s in sight.strips),
        axes,
        tuple(s.clean() for s in sight.strips),
        sight.note,
    )


@dataclass(frozen=True)
class _Strip:
    """What the positions along one axis of a value see along one axis of the image.

    ``axis`` counts from the last, as broadcasting does; ``None``: all positions see the same.
    """

    axis: int | None
    bounds: Array
    length: int
    size: float = 1
    jump: float = 1
    offset: float = 0

    def read(self, taps: Array, scale: float, first: float, extent: float) -> "_Strip":
        """Let each new position see what its taps see; ``scale, first, extent`` say it in closed form."""
        inside = (taps >= 0) & (taps < len(self.bounds))
        seen = self.bounds[np.where(inside, taps, 0)]
        bounds = np.stack(
            [
                np.where(inside, seen[..., 0], _NOTHING).min(axis=1, initial=_NOTHING),
                np.where(inside, seen[..., 1], -_NOTHING).max(axis=1, initial=-_NOTHING),
            ],
            axis=1,
        )
        size, offset = self.size + (extent - 1) * self.jump, self.offset + first * self.jump
        return replace(self, bounds=bounds, size=size, jump=self.jump * scale, offset=offset)

    def joined(self, other: "_Strip") -> "_Strip":
        """See what either sees."""
        a, b = self.bounds, other.bounds
        axes = {s.axis for s in (self, other) if s.axis is not None and len(s.bounds) > 1}
        if len(axes) > 1 or (len(a) != len(b) and 1 not in (len(a), len(b))):
            return self.whole()
        bounds = np.stack([np.minimum(a[:, 0], b[:, 0]), np.maximum(a[:, 1], b[:, 1])], axis=1)
        axis = axes.pop() if axes else self.axis if self.axis == other.axis else None
        if 0 in (self.jump, other.jump) or self.jump != other.jump:
            return replace(self.whole(), axis=axis, bounds=bounds)
        start = min(self.offset, other.offset)
        end = max(self.offset + self.size, other.offset + other.size)
        return replace(self, axis=axis, bounds=bounds, size=end - start, offset=start)

    def whole(self) -> "_Strip":
        """See everything, from everywhere."""
        return _Strip(None, np.array([[0, self.length]]), self.length, self.length, 0, 0)

    def pooled(self) -> "_Strip":
        """See what all positions see together."""
        hull = [[self.bounds[:, 0].min(), self.bounds[:, 1].max()]]
        return replace(self.whole(), bounds=np.array(hull))

    def clean(self) -> Array:
        """Return the bounds, (0, 0) where nothing is seen."""
        nothing = self.bounds[:, :1] >= self.bounds[:, 1:]
        return np.where(nothing, 0, self.bounds).astype(np.int64)


class _Sight(NamedTuple):
    """What a value sees: one strip per axis of the image."""

    strips: tuple[_Strip, ...]
    note: str | None = None

    def map(self, change: Callable[[_Strip], _Strip]) -> "_Sight":
        return self._replace(strips=tuple(map(change, self.strips)))

    def joined(self, other: "_Sight") -> "_Sight":
        pairs = zip(self.strips, other.strips, strict=True)
        return _Sight(tuple(a.joined(b) for a, b in pairs), self.note or other.note)

    def blurred(self, axes: Sequence[int] | None) -> "_Sight":
        """Let every position along these axes (all if None) see what all see together."""
        return self.map(lambda s: s.pooled() if axes is None or s.axis in axes else s)


def _whole_image(model: Model, name: str, size: Sequence[int] | None, layout: str) -> _Sight:
    shape = model.type_of(name).shape or ()
    axes = range(-len(shape) + 2, 0) if layout == "NCHW" else range(-len(shape) + 1, -1)
    sizes = [shape[axis] for axis in axes] if size is None else list(size)
    if len(sizes) != len(axes) or None in sizes:
        wanted = f"--input-shape {name}:1,3,224,224"
        raise InputError(f"input {name!r} has shape {model.type_of(name)}: give its size, as in {wanted}")
    strips = []
    for axis, length in zip(axes, sizes, strict=True):
        pixels = np.arange(length or 0)
        strips.append(_Strip(axis, np.stack([pixels, pixels + 1], axis=1), length or 0))
    return _Sight(tuple(strips))


# Operators

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


class _Walk:
    """One walk forward through a model's graph."""

    def __init__(self, model: Model) -> None:
        self.model = model

    def run(self, sights: dict[str, _Sight]) -> Mapping[str, _Sight]:
        """Return what each value that depends on the image sees, given what the inputs see."""
        for node in self.model.nodes:
            seen = {i: sights[v.name] for i, v in enumerate(node.inputs) if v.name in sights}
            if seen and node.op not in ("Shape", "Size"):
                sight = self._through(node, seen)
                sights.update({v.name: sight for v in node.outputs if v.name})
        return sights

    def _through(self, node: gs.Node, seen: Mapping[int, _Sight]) -> _Sight:
        first = next(iter(seen.values()))
        for other in list(seen.values())[1:]:
            if node.op != "Concat":
                first = first.joined(other)
        if node.op in _WINDOWS:
            return self._spatial(first, lambda s, k, n: _windowed(node, s, k, self._kernel(node), n))
        if node.op in _POINTWISE:
            return first
        if node.op in _EVERYWHERE or node.op.startswith("Global"):
            return first.blurred(None)
        special = getattr(self, f"_{node.op.lower()}", None)
        if node.op.startswith(("Reduce", "Arg")):
            special = self._reduce
        found: _Sight | None = special(node, first, seen) if special is not None else None
        if found is not None:
            return found
        note = f"{node.op} {node.name or node.outputs[0].name!r}: the whole image is assumed"
        return _Sight(tuple(s.whole() for s in first.strips), note)

    def _kernel(self, node: gs.Node) -> Sequence[int]:
        if "kernel_shape" in node.attrs:
            return node.attrs["kernel_shape"]
        return [d or 1 for d in (self.model.type_of(node.inputs[1].name).shape or ())[2:]]

    @staticmethod
    def _spatial(sight: _Sight, change: Callable[[_Strip, int, int], _Strip]) -> _Sight:
        """Change the strips that run along a spatial axis k of n (channels first)."""
        n = len(sight.strips)
        return sight.map(lambda s: s if s.axis is None else change(s, s.axis + n, n))

    def _convtranspose(self, node: gs.Node, sight: _Sight, _: Any) -> _Sight:
        kernel = self._kernel(node)
        return self._spatial(sight, lambda s, k, n: _unwindowed(node, s, k, kernel, n))

    def _concat(self, node: gs.Node, _: _Sight, seen: Mapping[int, _Sight]) -> _Sight | None:
        rank = self._rank(node.inputs[0].name)
        axis = node.attrs["axis"] - (rank if node.attrs["axis"] >= 0 else 0)
        parts = list(seen.values())
        if all(s.axis != axis for part in parts for s in part.strips):
            joined = parts[0]
            for part in parts[1:]:
                joined = joined.joined(part)
            return joined
        return None

    def _transpose(self, node: gs.Node, sight: _Sight, _: Any) -> _Sight:
        rank = self._rank(node.inputs[0].name)
        perm = node.attrs.get("perm") or list(range(rank))[::-1]
        return sight.map(
            lambda s: s if s.axis is None else replace(s, axis=perm.index(s.axis + len(perm)) - len(perm))
        )

    def _reshape(self, node: gs.Node, sight: _Sight, _: Any) -> _Sight | None:
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

    def _reduce(self, node: gs.Node, sight: _Sight, _: Any) -> _Sight | None:
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

    def _softmax(self, node: gs.Node, sight: _Sight, _: Any) -> _Sight:
        rank = self._rank(node.inputs[0].name)
        modern = self.model.opset >= 13 and node.op != "LayerNormalization"  # noqa: PLR2004
        axis = node.attrs.get("axis", -1 if modern or node.op == "LayerNormalization" else 1)
        axis = axis - rank if axis >= 0 else axis
        return sight.blurred([axis] if modern else list(range(axis, 0)))

    _logsoftmax = _hardmax = _layernormalization = _softmax

    def _lpnormalization(self, node: gs.Node, sight: _Sight, _: Any) -> _Sight:
        axis = node.attrs.get("axis", -1)
        return sight.blurred([axis if axis < 0 else axis - self._rank(node.inputs[0].name)])

    def _split(self, node: gs.Node, sight: _Sight, _: Any) -> _Sight | None:
        axis = node.attrs.get("axis", 0)
        axis = axis if axis < 0 else axis - self._rank(node.inputs[0].name)
        return None if any(s.axis == axis for s in sight.strips) else sight

    def _matmul(self, node: gs.Node, _: _Sight, seen: Mapping[int, _Sight]) -> _Sight:
        del node
        parts = [sight.blurred([-1 if i == 0 else -2]) for i, sight in seen.items()]
        return parts[0] if len(parts) == 1 else parts[0].joined(parts[1])

    def _pad(self, node: gs.Node, sight: _Sight, _: Any) -> _Sight | None:
        pads, axes = self._numbers(node, "pads", 1), self._numbers(node, "axes", 3)
        mode = node.attrs.get("mode", "constant")
        if pads is None:
            return None
        rank = self._rank(node.inputs[0].name)
        axes = [a - rank if a >= 0 else a for a in (axes or range(rank))]
        by_axis = {a: (pads[k], pads[k + len(axes)]) for k, a in enumerate(axes)}
        return sight.map(lambda s: _padded(s, *by_axis.get(s.axis or 0, (0, 0)), mode))

    def _slice(self, node: gs.Node, sight: _Sight, _: Any) -> _Sight | None:
        names = ("starts", "ends", "axes", "steps")
        starts, ends, axes, steps = (self._numbers(node, name, 1 + i) for i, name in enumerate(names))
        if starts is None or ends is None:
            return None
        rank, steps = self._rank(node.inputs[0].name), steps or [1] * len(starts)
        cuts = zip(axes or range(len(starts)), starts, ends, steps, strict=True)
        by_axis = {
            a - rank if a >= 0 else a: slice(b, e if e > -(1 << 31) else None, t) for a, b, e, t in cuts
        }
        return sight.map(lambda s: _picked(s, by_axis[s.axis]) if s.axis in by_axis else s)

    def _depthtospace(self, node: gs.Node, sight: _Sight, _: Any) -> _Sight:
        b = node.attrs["blocksize"]
        return self._spatial(
            sight, lambda s, *_: s.read((np.arange(len(s.bounds) * b) // b)[:, None], 1 / b, 0, 1)
        )

    def _spacetodepth(self, node: gs.Node, sight: _Sight, _: Any) -> _Sight:
        b = node.attrs["blocksize"]
        return self._spatial(sight, lambda s, *_: s.read(np.arange(len(s.bounds)).reshape(-1, b), b, 0, b))

    def _resize(self, node: gs.Node, sight: _Sight, _: Any) -> _Sight | None:
        if self._upsampling(node) is None:
            return None
        scales = self._upsampling(node) or {}
        return sight.map(lambda s: _resampled(s, node, *scales[s.axis]) if s.axis in scales else s)

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


def _window(node: gs.Node, k: int, kernel: Sequence[int], n: int) -> tuple[int, int, int, int, int]:
    """Return stride, dilation, extent and explicit padding along spatial axis k."""
    stride = (node.attrs.get("strides") or [1] * n)[k]
    dilation = (node.attrs.get("dilations") or [1] * n)[k]
    pads = node.attrs.get("pads") or [0] * (2 * n)
    return stride, dilation, (kernel[k] - 1) * dilation + 1, pads[k], pads[k + n]


def _windowed(node: gs.Node, strip: _Strip, k: int, kernel: Sequence[int], n: int) -> _Strip:
    stride, dilation, extent, begin, end = _window(node, k, kernel, n)
    length, auto = len(strip.bounds), node.attrs.get("auto_pad", "NOTSET")
    if auto == "VALID":
        begin = end = 0
    elif auto.startswith("SAME"):
        total = max((-(-length // stride) - 1) * stride + extent - length, 0)
        begin = total // 2 if auto == "SAME_UPPER" else total - total // 2
        end = total - begin
    steps = (length + begin + end - extent) / stride
    count = math.floor(steps) + 1
    if node.attrs.get("ceil_mode", 0):
        count = math.ceil(steps) + 1
        count -= (count - 1) * stride >= length + begin  # it would start in the padding behind the input
    taps = np.arange(count)[:, None] * stride - begin + np.arange(kernel[k]) * dilation
    return strip.read(taps, stride, -begin, extent)


def _unwindowed(node: gs.Node, strip: _Strip, k: int, kernel: Sequence[int], n: int) -> _Strip:
    """Go through a ConvTranspose: position o gets what i sends to i·stride - begin + tap·dilation."""
    stride, dilation, extent, begin, end = _window(node, k, kernel, n)
    length, auto = len(strip.bounds), node.attrs.get("auto_pad", "NOTSET")
    spare = (node.attrs.get("output_padding") or [0] * n)[k]
    full = (length - 1) * stride + extent + spare
    wanted = node.attrs.get("output_shape")
    if wanted is not None or auto.startswith("SAME"):
        total = full - (wanted[k - n] if wanted is not None else length * stride)
        begin = total - total // 2 if auto == "SAME_LOWER" else total // 2
        end = total - begin
    ends = np.arange(full - begin - end)[:, None] + begin - np.arange(kernel[k]) * dilation
    taps = np.where(ends % stride == 0, ends // stride, -1)
    return strip.read(taps, 1 / stride, (begin - extent + 1) / stride, (extent - 1) // stride + 1)


def _padded(strip: _Strip, begin: int, end: int, mode: str) -> _Strip:
    if not begin and not end:
        return strip
    positions = np.arange(len(strip.bounds))[max(0, -begin) : len(strip.bounds) - max(0, -end)]
    around = max(0, begin), max(0, end)
    if mode == "constant":
        taps = np.pad(positions, around, constant_values=-1)
    else:
        taps = np.pad(positions, around, mode)  # type: ignore[call-overload]
    return strip.read(taps[:, None], 1, -begin, 1)


def _picked(strip: _Strip, cut: slice) -> _Strip:
    taps = np.arange(len(strip.bounds))[cut]
    step = cut.step or 1
    return strip.read(taps[:, None], step, int(taps[0]) if len(taps) else 0, 1)


def _resampled(strip: _Strip, node: gs.Node, length: int, scale: float) -> _Strip:
    """Go through a Resize: which positions an output is interpolated from, as its specification says."""
    old, mode = len(strip.bounds), node.attrs.get("mode", "nearest")
    default = "asymmetric" if node.op == "Upsample" else "half_pixel"
    how = node.attrs.get("coordinate_transformation_mode", default)
    if length == old and scale == 1:
        return strip
    at = np.arange(length).astype(float)
    match how:
        case "asymmetric":
            centre = at / scale
        case "align_corners":
            centre = at * (old - 1) / max(length - 1, 1)
        case "pytorch_half_pixel" if length == 1:
            centre = np.zeros(1)
        case "half_pixel" | "pytorch_half_pixel":
            centre = (at + 0.5) / scale - 0.5
        case "half_pixel_symmetric":
            centre = old / 2 * (1 - length / (scale * old)) + (at + 0.5) / scale - 0.5
        case _:
            return strip.whole()
    centre = np.round(centre, 5)  # the scale is a float32
    if mode == "nearest":
        default = "floor" if node.op == "Upsample" else "round_prefer_floor"
        rounding = node.attrs.get("nearest_mode", default)
        taps = _ROUNDED[rounding](centre)[:, None]
        reach = 1.0
    else:
        wide = 1 / scale if node.attrs.get("antialias", 0) and scale < 1 else 1
        reach = (1 if mode == "linear" else 2) * wide
        near = np.arange(-math.ceil(reach), math.ceil(reach) + 1)
        taps = np.floor(centre)[:, None] + near
        taps = np.where(np.abs(taps - centre[:, None]) < reach - 1e-9, taps, np.nan)
    kept = np.where(np.isnan(taps), -1, np.clip(np.nan_to_num(taps), 0, old - 1)).astype(int)
    extent = 1 if mode == "nearest" else 2 * reach
    return strip.read(kept, 1 / scale, 0.5 / scale - extent / 2, extent)


_ROUNDED: Mapping[str, Callable[[Array], Array]] = {
    "round_prefer_floor": lambda x: np.ceil(x - 0.5),
    "round_prefer_ceil": lambda x: np.floor(x + 0.5),
    "floor": np.floor,
    "ceil": np.ceil,
}
