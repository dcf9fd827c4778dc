"""Project the strongest units back to the pixels, each on the part of the image that it can see.

An image goes forward once, whatever the number of its units. A unit's signal never leaves the pixels
that it can see, so the companion is compiled for a *crop* a little larger than that, and reads the
switches of the crop: those of the whole image, cut out and renumbered. A crop lies so that it is a
multiple of the layer's step away from the image's border, or flush with it: then the windows of every
layer below fall on the same pixels, and padding is met where the image has it and nowhere else.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from onnx import ModelProto, helper

from onnx_deconv.atlas.images import Images
from onnx_deconv.atlas.tally import Atlas
from onnx_deconv.compile import SEED, Pair, compile_pair
from onnx_deconv.errors import DeconvError, InputError
from onnx_deconv.explainer import Explainer
from onnx_deconv.forward import forward
from onnx_deconv.image import Picture, Preprocess, Size
from onnx_deconv.model import Array, Model
from onnx_deconv.receptive import ReceptiveField, receptive_field
from onnx_deconv.rules.site import Tap
from onnx_deconv.runtime import Session, numpy_of
from onnx_deconv.view import reads

_AT_ONCE, _PIXELS_AT_ONCE = 24, 100_000
"""How many crops go back together; large ones fewer, so that they take no more memory."""
_WORTH = 0.85
"""A crop of more than this part of the image is not worth the trouble."""


class Unit(NamedTuple):
    """One of the strongest units of a feature map."""

    layer: str
    channel: int
    rank: int
    activation: float
    position: tuple[int, ...]


@dataclass(frozen=True)
class Projection:
    """What excited one unit.

    Attributes
    ----------
    layer, channel, rank, activation, position
        The unit: the rank-th strongest of its feature map, 0 the first.
    image
        The image's name.
    box
        (y0, x0, y1, x1): the pixels of the model's input that the unit can see.
    window
        (y0, x0, y1, x1): the pixels that are shown, of the same size for all units of a layer. It
        holds the box and lies within the image.
    values
        The reconstruction within the window, channels first, float32. All around it is zero.
    patch
        The image within the window, as the model sees it: h×w×3, uint8, RGB.
    """

    layer: str
    channel: int
    rank: int
    activation: float
    position: tuple[int, ...]
    image: str
    box: tuple[int, ...]
    window: tuple[int, ...]
    values: Array = field(repr=False)
    patch: Picture = field(repr=False)


class Projector:
    """Projects units of some layers of one model; sessions are made once.

    Parameters
    ----------
    explainer
        For the model, with the semantics to use.
    layers
        The layers, channels on axis 1.
    preprocess
        How pictures become the model's input; all of one size.
    crops
        Whether units may be projected on crops; the result is the same, only slower, if not.

    Raises
    ------
    InputError
        If pictures keep their own sizes.
    DeconvError
        If a layer cannot be explained.
    """

    def __init__(
        self, explainer: Explainer, layers: Sequence[str], preprocess: Preprocess, *, crops: bool = True
    ) -> None:
        if preprocess.size is None:
            raise InputError("an atlas needs images of one size: give --size")
        self.preprocess = preprocess
        (self._input,) = explainer.model.inputs
        self._ways = {
            layer: _Way.of(explainer, layer, preprocess.size, preprocess.layout, crops) for layer in layers
        }
        taps = {tap.name: tap for way in self._ways.values() for tap in way.taps if tap.kind != "shape"}
        proto = forward(explainer.model, list(taps.values()))
        del proto.graph.output[:]
        proto.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in taps)
        shape = explainer.model.type_of(self._input).shape
        self._copies = (shape[0] if shape else None) or 1
        self._forward = _typed(proto, explainer, taps) if taps else None

    def window(self, layer: str) -> Size:
        """Return (height, width) of what is shown of a layer's units."""
        return self._ways[layer].window

    def run(self, atlas: Atlas, images: Images) -> Iterator[Projection]:
        """Project every unit of an atlas that is active, image by image.

        Yields
        ------
        Projection
            In no particular order.

        Raises
        ------
        InputError
            If an image of the atlas is not among the images any more.
        """
        units, missing = _by_image(atlas), set(atlas.images)
        waiting: dict[str, list[_Job]] = {layer: [] for layer in self._ways}
        for name, load in images:
            if name not in missing:
                continue
            missing.remove(name)
            tensor, geometry = self.preprocess.apply(picture := load())
            view, taps = geometry.view(picture), self._look(tensor)
            for unit in units.get(name, []):
                queue, way = waiting[unit.layer], self._ways[unit.layer]
                queue.append(way.job(unit, name, view, taps))
                if len(queue) >= way.batch:
                    yield from way.back(queue)
                    queue.clear()
        if missing:
            raise InputError(f"{len(missing)} images of the atlas are missing, {min(missing)!r} for one")
        for layer, queue in waiting.items():
            if queue:
                yield from self._ways[layer].back(queue)

    def _look(self, tensor: Array) -> dict[str, Array]:
        """Return the switches and taps of one image; its batch axis has length 1."""
        if self._forward is None:
            return {}
        batch = np.repeat(tensor[None], self._copies, 0)
        return {name: numpy_of(value) for name, value in self._forward.run({self._input: batch}).items()}


def _by_image(atlas: Atlas) -> dict[str, list[Unit]]:
    units: dict[str, list[Unit]] = {}
    for layer, table in atlas.layers.items():
        for channel, rank in np.argwhere(table.taken & (table.activations != 0)).tolist():
            place = channel, rank
            unit = Unit(
                layer, channel, rank, float(table.activations[place]), tuple(table.positions[place].tolist())
            )
            units.setdefault(atlas.images[table.images[place]], []).append(unit)
    return units


def _typed(proto: ModelProto, explainer: Explainer, taps: Mapping[str, Tap]) -> Session:
    for output in proto.graph.output:
        tap = taps[output.name]
        dtype = 7 if tap.kind == "switches" else explainer.model.type_of(tap.value).dtype or 1
        output.type.tensor_type.elem_type = dtype
    return Session(proto, explainer.model.folder, explainer.providers)


class _Job(NamedTuple):
    """One unit on its way back."""

    unit: Unit
    image: str
    origin: tuple[int, int]
    box: tuple[int, ...]
    window: tuple[int, ...]
    patch: Picture
    taps: Mapping[str, Array]


@dataclass
class _Way:
    """The way back from one layer, for crops of one size."""

    seen: ReceptiveField
    whole: Model
    cut: Model
    pair: Pair
    session: Session
    size: Size
    crop: Size
    step: Size
    window: Size
    layout: str
    fixed: int | None
    jumps: dict[str, Size] = field(default_factory=dict)

    @classmethod
    def of(cls, explainer: Explainer, layer: str, size: Size, layout: str, crops: bool) -> "_Way":  # noqa: FBT001
        """Compile the companion for the smallest crop that will do, or for whole images."""
        whole, batch = _cut_to(explainer.model, layer, size, layout)
        seen = receptive_field(whole, layer, layout=layout)
        window = tuple(min(s, whole) for s, whole in zip(seen.size, size, strict=True))
        crop, step = _crop_of(seen, size) if crops and seen.note is None else (size, (1, 1))
        try:
            return cls._compiled(explainer, whole, seen, size, crop, step, window, layout, batch)  # type: ignore[arg-type]
        except (DeconvError, _NotAligned):
            if crop == size:
                raise
            return cls._compiled(explainer, whole, seen, size, size, (1, 1), window, layout, batch)  # type: ignore[arg-type]

    @classmethod
    def _compiled(
        cls, explainer: Explainer, whole: Model, seen: ReceptiveField, size: Size, crop: Size, step: Size,
        window: Size, layout: str, batch: int | None,
    ) -> "_Way":  # fmt: skip
        cut = whole if crop == size else _cut_to(explainer.model, seen.layer, crop, layout)[0]
        pair = compile_pair(cut, seen.layer, semantics=explainer.semantics)
        session = Session(pair.deconv, pair.folder, explainer.providers)
        way = cls(seen, whole, cut, pair, session, size, crop, step, window, layout, batch)
        way.jumps = way._jumps() if crop != size else {}
        return way

    @property
    def taps(self) -> list[Tap]:
        """What the companion reads."""
        entries = self.pair.manifest["deconv_inputs"]
        return [Tap(e["kind"], e["of"], e["name"]) for e in entries if e["kind"] != "seed"]

    @property
    def batch(self) -> int:
        """How many units go back at once."""
        return self.fixed or max(1, min(_AT_ONCE, _PIXELS_AT_ONCE // math.prod(self.crop)))

    def _jumps(self) -> dict[str, Size]:
        """Pixels per position of each tap (switches: of their pool's input, then its output)."""
        found = {}
        for tap in self.taps:
            for value in (tap.value, self._pooled(tap)):
                if len(self.cut.type_of(value).shape or ()) == len("NCHW"):
                    sight = receptive_field(self.whole, value, layout=self.layout)
                    if any(step % jump or axis is None for step, jump, axis in
                           zip(self.step, sight.jump, sight.axes, strict=True)):  # fmt: skip
                        raise _NotAligned
                    found[value] = int(sight.jump[0]), int(sight.jump[1])
                elif tap.kind == "switches":
                    raise _NotAligned
        return found

    def _pooled(self, tap: Tap) -> str:
        if tap.kind != "switches":
            return tap.value
        pool = self.whole.producers[tap.value]
        if pool.attrs.get("storage_order", 0):
            raise _NotAligned
        return str(pool.inputs[0].name)

    def job(self, unit: Unit, image: str, view: Picture, taps: Mapping[str, Array]) -> _Job:
        """Cut out what a unit needs."""
        first = [
            0 if axis is None else math.floor(unit.position[axis] * jump + offset)
            for axis, jump, offset in zip(self.seen.axes, self.seen.jump, self.seen.offset, strict=True)
        ]
        origin = [
            min(max(y // step * step, 0), size - crop)
            for y, step, size, crop in zip(first, self.step, self.size, self.crop, strict=True)
        ]
        y, x = (
            min(max(y, 0), size - shown) for y, size, shown in zip(first, self.size, self.window, strict=True)
        )
        window = y, x, y + self.window[0], x + self.window[1]
        own = {tap.name: self._cut_out(tap, taps, origin) for tap in self.taps if tap.kind != "shape"}
        patch = view[window[0] : window[2], window[1] : window[3]]
        box = self.seen.at(unit.position)
        return _Job(unit, image, (origin[0], origin[1]), box, window, patch, own)

    def _cut_out(self, tap: Tap, taps: Mapping[str, Array], origin: Sequence[int]) -> Array:
        """Cut a tap of the whole image to the crop; renumber switches."""
        values = taps[tap.name][:1]
        if tap.value not in self.jumps:
            return values
        (top, left), (height, width) = self._place(tap.value, origin)
        values = values[:, :, top : top + height, left : left + width]
        if tap.kind != "switches":
            return values
        pooled = self._pooled(tap)
        (top, left), (height, width) = self._place(pooled, origin)
        full_height, full_width = _sizes(self.whole, pooled)[2:]
        rest, x = np.divmod(values, full_width)
        channel, y = np.divmod(rest, full_height)
        y, x = np.clip(y - top, 0, height - 1), np.clip(x - left, 0, width - 1)
        return (channel * height + y) * width + x

    def _place(self, value: str, origin: Sequence[int]) -> tuple[tuple[int, int], Size]:
        jump = self.jumps[value]
        height, width = _sizes(self.cut, value)[2:]
        return (origin[0] // jump[0], origin[1] // jump[1]), (height, width)

    def back(self, jobs: Sequence[_Job]) -> Iterator[Projection]:
        """Send the units of one batch back."""
        count = self.fixed or len(jobs)
        feeds = {tap.name: self._stacked(tap, jobs, count) for tap in self.taps}
        seed = np.zeros((count, *_sizes(self.cut, self.seen.layer)[1:]), np.float32)
        for k, job in enumerate(jobs):
            seed[(k, job.unit.channel, *self._inside(job))] = job.unit.activation
        dtype = np.float16 if "float16" in self.session.inputs[SEED].type else np.float32
        results = self.session.run({**feeds, SEED: seed.astype(dtype)})
        (reconstructions,) = (numpy_of(r).astype(np.float32, copy=False) for r in results.values())
        for job, values in zip(jobs, reconstructions, strict=False):
            yield self._projection(job, values)

    def _inside(self, job: _Job) -> tuple[int, ...]:
        """Return the unit's position in the crop."""
        position = list(job.unit.position)
        for axis, jump, start in zip(self.seen.axes, self.seen.jump, job.origin, strict=True):
            if axis is not None and self.crop != self.size:
                position[axis] -= round(start / jump)
        return tuple(position)

    def _stacked(self, tap: Tap, jobs: Sequence[_Job], count: int) -> Array:
        if tap.kind == "shape":
            shape = self.cut.type_of(tap.value).shape or ()
            return np.array([count if d is None else d for d in shape], np.int64)
        parts = [job.taps[tap.name] for job in jobs]
        parts += [parts[-1]] * (count - len(parts))
        if tap.kind == "switches":
            one = math.prod(_sizes(self.cut, self._pooled(tap))[1:])
            parts = [part + k * one for k, part in enumerate(parts)]
        return np.concatenate(parts)

    def _projection(self, job: _Job, values: Array) -> Projection:
        values = values if self.layout == "NCHW" else values.transpose(2, 0, 1)
        (top, left), (y0, x0, y1, x1) = job.origin, job.window
        shown = np.zeros((len(values), y1 - y0, x1 - x0), np.float32)
        # A window may reach beyond its crop where nothing can be seen: it lies within the image's border.
        a, b = max(y0, top), min(y1, top + self.crop[0])
        c, d = max(x0, left), min(x1, left + self.crop[1])
        shown[:, a - y0 : b - y0, c - x0 : d - x0] = values[:, a - top : b - top, c - left : d - left]
        return Projection(*job.unit, job.image, job.box, job.window, shown, job.patch)


def _sizes(model: Model, value: str) -> tuple[int, ...]:
    """Return a value's shape where all but the batch is known."""
    return tuple(d or 1 for d in model.type_of(value).shape or ())


class _NotAligned(Exception):  # noqa: N818  (it never leaves this room)
    """A layer's crops cannot be laid so that all taps fall on whole positions."""


def _crop_of(seen: ReceptiveField, size: Size) -> tuple[Size, Size]:
    """Return the size of a layer's crops and their step; the whole image where no smaller one will do."""
    if any(axis is None or jump < 1 or jump % 1 for axis, jump in zip(seen.axes, seen.jump, strict=True)):
        return size, (1, 1)
    crop, step = [], []
    for wide, jump, offset, length in zip(seen.size, seen.jump, seen.offset, size, strict=True):
        need = wide + math.floor(offset) % int(jump)
        crop.append(min(need + (length - need) % int(jump), length))
        step.append(int(jump))
    if math.prod(crop) > _WORTH * math.prod(size):
        return size, (1, 1)
    return (crop[0], crop[1]), (step[0], step[1])


def _cut_to(model: Model, layer: str, size: Size, layout: str) -> tuple[Model, int | None]:
    """Return the part of a model that a layer needs, for images of another size; and its batch, if fixed."""
    (name,) = model.inputs
    shape = list(model.type_of(name).shape or ())
    channels = shape[1] if layout == "NCHW" else shape[3]
    sizes = [channels, *size] if layout == "NCHW" else [*size, channels]
    batches: list[int | str] = ["N", shape[0] or 1]
    for batch in batches:
        cut = _resized(model, layer, [batch, *sizes])
        first = (cut.type_of(layer).shape or (1,))[0]
        if (first is None) == (batch == "N"):
            return cut, batch if isinstance(batch, int) else None
    raise InputError(f"{layer!r}: the batch that it is made for cannot be told")


def _resized(model: Model, layer: str, dims: Sequence[Any]) -> Model:
    proto = ModelProto()
    proto.CopyFrom(model.proto)
    graph = proto.graph
    needed, kept = {layer}, []
    for node in reversed(graph.node):
        if needed.intersection(node.output):
            kept.append(node)
            needed.update(reads(node))
    kept = [type(n).FromString(n.SerializeToString()) for n in reversed(kept)]
    if not any(layer in n.output for n in kept):
        raise InputError(f"{layer!r} lies inside a function or a branch: choose a layer outside")
    del graph.node[:], graph.output[:], graph.value_info[:]
    graph.node.extend(kept)
    graph.output.append(helper.make_tensor_value_info(layer, model.type_of(layer).dtype or 1, None))
    for info in graph.input:
        if info.name in model.inputs:
            info.CopyFrom(
                helper.make_tensor_value_info(info.name, info.type.tensor_type.elem_type, list(dims))
            )
    cut = Model(proto, model.folder, model.name)
    cut.spool = model.spool
    return cut
