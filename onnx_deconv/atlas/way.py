"""The way back from one layer: its companion, and what it reads, cut to what a unit can see.

An image goes forward once, whatever the number of its units. Of what that pass tells the companion, each
unit gets the part within its crop (:mod:`onnx_deconv.atlas.grid`); switches are numbered anew.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from onnx import ModelProto, helper

from onnx_deconv.atlas.grid import Crop, Grid, NoGridError
from onnx_deconv.compile import SEED, compile_pair
from onnx_deconv.errors import DeconvError, InputError
from onnx_deconv.explainer import Explainer
from onnx_deconv.image import Size
from onnx_deconv.model import Array, Model
from onnx_deconv.receptive import rasters, receptive_field
from onnx_deconv.rules.site import Tap
from onnx_deconv.runtime import companion, numpy_of
from onnx_deconv.view import reads

_AT_ONCE, _PIXELS_AT_ONCE = 24, 100_000
"""How many crops go back together; large ones fewer, so that they take no more memory."""


class Way:
    """The companion of one layer and where its units lie.

    Parameters
    ----------
    explainer
        For the model, with the semantics to use.
    layer
        The layer, channels on axis 1.
    size
        (height, width) of the images.
    layout
        Where the image's channels are, ``"NCHW"`` or ``"NHWC"``.
    crops
        Whether units may be projected on crops.

    Attributes
    ----------
    seen
        What the layer's units see of an image.
    taps
        What the companion reads beside the seed.
    window
        (height, width) of what is shown of a unit.
    """

    def __init__(self, explainer: Explainer, layer: str, size: Size, layout: str, *, crops: bool) -> None:
        self.size, self._whole_crop = size, Crop((0, 0), size)
        self._whole, self._fixed = cut_to(explainer.model, layer, size, layout)
        self.seen = receptive_field(self._whole, layer, layout=layout)
        self.window = min(self.seen.size[0], size[0]), min(self.seen.size[1], size[1])
        self._grid = self._lie(layout) if crops else None
        try:
            self._compile(explainer, layout)
        except (DeconvError, NoGridError):
            if self._grid is None:
                raise
            self._grid = None
            self._compile(explainer, layout)

    def _lie(self, layout: str) -> Grid | None:
        found = rasters(self._whole, layout=layout)
        below = {name: raster for name, raster in found.items() if len(_shape(self._whole, name))}
        shapes = {name: _shape(self._whole, name) for name in below}
        try:
            return Grid(self.seen, below, shapes, self.size)
        except NoGridError:
            return None

    def _compile(self, explainer: Explainer, layout: str) -> None:
        sizes = self.size if self._grid is None else ("H", "W")
        model = cut_to(explainer.model, self.seen.layer, sizes, layout)[0]
        pair = compile_pair(model, self.seen.layer, semantics=explainer.semantics)
        entries = pair.manifest["deconv_inputs"]
        self.taps = [Tap(e["kind"], e["of"], e["name"]) for e in entries if e["kind"] != "seed"]
        self._pools = {t.name: _pooled(self._whole, t) for t in self.taps if t.kind == "switches"}
        if self._grid is not None:
            self._check(explainer, layout)
        self._session = companion(pair, explainer.providers)

    def _check(self, explainer: Explainer, layout: str) -> None:
        """Make sure that a crop's values have the sizes that the grid says."""
        pools = (self._whole.producers[t.value] for t in self.taps if t.kind == "switches")
        if any(pool.attrs.get("storage_order", 0) for pool in pools):
            raise NoGridError
        middle = [n // 2 for n in _shape(self._whole, self.seen.layer)[2:]]
        crop = self.crop(middle)
        model = cut_to(explainer.model, self.seen.layer, crop.size, layout)[0]
        for value in [self.seen.layer, *(t.value for t in self.taps), *self._pools.values()]:
            if self._grid is None or _shape(model, value)[1:] != self._grid.shape(value, crop)[1:]:
                raise NoGridError

    def crop(self, position: Sequence[int]) -> Crop:
        """Return the part of the image on which a unit is projected."""
        return self._whole_crop if self._grid is None else self._grid.crop(position)

    def cut(self, crop: Crop, looked: "Look") -> dict[str, Array]:
        """Cut what the companion reads out of what was found out about a whole image."""
        return {tap.name: self._cut(tap, crop, looked) for tap in self.taps if tap.kind != "shape"}

    def _cut(self, tap: Tap, crop: Crop, looked: "Look") -> Array:
        if crop == self._whole_crop or self._grid is None:
            return looked.values[tap.name]
        inside = tuple(
            slice(first, first + length)
            for first, length in zip(
                self._grid.start(tap.value, crop), self._grid.shape(tap.value, crop), strict=True
            )
        )
        if tap.kind != "switches":
            return looked.values[tap.name][inside]
        pooled = self._pools[tap.name]
        top, left = self._grid.start(pooled, crop)[2:]
        channels, height, width = self._grid.shape(pooled, crop)[1:]
        rows, columns = (part[inside] for part in looked.places(tap.name, _shape(self._whole, pooled)))
        # Only windows that no unit of this crop sees can have their maximum outside.
        rows, columns = np.clip(rows - top, 0, height - 1), np.clip(columns - left, 0, width - 1)
        return (np.arange(channels, dtype=np.int32)[:, None, None] * height + rows) * width + columns

    def at_once(self, crop: Crop) -> int:
        """Return how many units with crops of this size go back together."""
        return self._fixed or max(1, min(_AT_ONCE, _PIXELS_AT_ONCE // math.prod(crop.size)))

    def back(
        self, crops: Sequence[Crop], units: Sequence[tuple[int, Sequence[int], float]],
        parts: Sequence[Mapping[str, Array]],
    ) -> Array:  # fmt: skip
        """Project units whose crops have one size.

        Parameters
        ----------
        crops
            Theirs.
        units
            Channel, position and activation of each.
        parts
            What :meth:`cut` gave for each.

        Returns
        -------
        numpy.ndarray
            The reconstructions within the crops, shape (units, ...) as the model's input, float32.
        """
        count, size = self._fixed or len(units), crops[0]
        feeds = {tap.name: self._stacked(tap, parts, size, count) for tap in self.taps}
        seed = np.zeros((count, *self._shape_in(self.seen.layer, size)[1:]), np.float32)
        for k, (crop, (channel, position, activation)) in enumerate(zip(crops, units, strict=True)):
            seed[(k, channel, *self._inside(crop, position))] = activation
        dtype = np.float16 if "float16" in self._session.inputs[SEED].type else np.float32
        (values,) = self._session.run({**feeds, SEED: seed.astype(dtype, copy=False)}).values()
        return numpy_of(values)[: len(units)].astype(np.float32, copy=False)

    def _inside(self, crop: Crop, position: Sequence[int]) -> tuple[int, ...]:
        if self._grid is None:
            return tuple(position)
        starts = self._grid.start(self.seen.layer, crop)[2:]
        return tuple(at - start for at, start in zip(position, starts, strict=True))

    def _shape_in(self, value: str, crop: Crop) -> list[int]:
        return _shape(self._whole, value) if self._grid is None else self._grid.shape(value, crop)

    def _stacked(self, tap: Tap, parts: Sequence[Mapping[str, Array]], crop: Crop, count: int) -> Array:
        if tap.kind == "shape":
            return np.array([count, *self._shape_in(tap.value, crop)[1:]], np.int64)
        arrays = [part[tap.name] for part in parts]
        arrays += [arrays[-1]] * (count - len(arrays))
        if tap.kind != "switches":
            return np.concatenate(arrays)
        one = math.prod(self._shape_in(self._pools[tap.name], crop)[1:])
        return np.concatenate([array.astype(np.int64) + k * one for k, array in enumerate(arrays)])


class Look:
    """What one forward pass over an image told.

    Parameters
    ----------
    values
        Switches and taps by name, for a batch of one.
    """

    def __init__(self, values: Mapping[str, Array]) -> None:
        self.values = values
        self._places: dict[str, tuple[Array, Array]] = {}

    def places(self, switches: str, pooled: Sequence[int]) -> tuple[Array, Array]:
        """Return the rows and columns of the maxima, int32, in a value of this shape."""
        if switches not in self._places:
            _, channels, height, width = pooled
            planes = np.arange(channels)[:, None, None] * (height * width)
            flat = (self.values[switches] - planes).astype(np.int32)
            rows = flat // np.int32(width)  # NumPy divides 32-bit numbers by one scalar many at a time
            self._places[switches] = rows, flat - rows * np.int32(width)
        return self._places[switches]


def _pooled(model: Model, switches: Tap) -> str:
    return str(model.producers[switches.value].inputs[0].name)


def _shape(model: Model, value: str) -> list[int]:
    """Return a value's shape where all but the batch is known."""
    return [d or 1 for d in model.type_of(value).shape or ()]


def cut_to(model: Model, layer: str, sizes: Sequence[int | str], layout: str) -> tuple[Model, int | None]:
    """Return the part of a model that a layer needs, for images of another size; and its batch, if fixed.

    Raises
    ------
    InputError
        If the layer is not one of the graph's own values, or no batch size fits it.
    """
    (name,) = model.inputs
    shape = list(model.type_of(name).shape or ())
    dims = [shape[1], *sizes] if layout == "NCHW" else [*sizes, shape[3]]
    for batch in ("N", shape[0] or 1):
        cut = _resized(model, layer, [batch, *dims])
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
