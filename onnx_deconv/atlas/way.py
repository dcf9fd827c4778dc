"""The way back from one layer: its companion, and what it reads, cut to what a unit can see.

An image goes forward once, whatever the number of its units. Of what that pass tells the companion, each
unit gets the part within its crop (:mod:`onnx_deconv.atlas.grid`); switches are numbered anew.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from onnx_deconv.atlas.grid import Crop, Grid, NoWayError
from onnx_deconv.atlas.part import cut_to
from onnx_deconv.attribution.explainer import Explainer
from onnx_deconv.compiler.backward import SEED
from onnx_deconv.compiler.pair import compile_pair
from onnx_deconv.errors import DeconvError, InputError
from onnx_deconv.imaging import Size
from onnx_deconv.model import Array, Model
from onnx_deconv.operators import Tap
from onnx_deconv.receptive import rasters, receptive_field
from onnx_deconv.runtime import companion, numpy_of

_BATCH, _OPEN = "N", ("H", "W")
"""Names of the sizes that a model leaves open."""
_AT_ONCE, _PIXELS_AT_ONCE = 24, 20_000
"""How many crops go back together; of large ones it gains nothing."""


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
    """

    def __init__(self, explainer: Explainer, layer: str, size: Size, layout: str, *, crops: bool) -> None:
        self.size, self._whole_crop = size, Crop((0, 0), size)
        self._look_at(cut_to(explainer.model, layer, (_BATCH, *size), layout), layer, layout)
        # The first that will do: crops, whole images many at a time, whole images as the model takes them.
        ways: list[Sequence[int | str]] = [
            (_BATCH, *_OPEN),
            (_BATCH, *size),
            (explainer.model.batch or 1, *size),
        ]
        self._first_that_will_do(explainer, ways if crops else ways[1:], layout)

    def _first_that_will_do(
        self, explainer: Explainer, ways: Sequence[Sequence[int | str]], layout: str
    ) -> None:
        *others, last = ways
        for dims in others:
            try:
                self._compile(explainer, dims, layout)
            except (DeconvError, NoWayError):
                continue
            return
        try:
            self._compile(explainer, last, layout)
        except NoWayError as error:
            raise InputError(f"{self.seen.layer!r} cannot be projected: {error}") from error

    def _look_at(self, whole: Model, layer: str, layout: str) -> None:
        self._whole, self._below = whole, rasters(whole, layout=layout)
        self.seen = receptive_field(whole, layer, layout=layout)

    @property
    def window(self) -> Size:
        """(height, width) of what is shown of a unit."""
        return min(self.seen.size[0], self.size[0]), min(self.seen.size[1], self.size[1])

    def _compile(self, explainer: Explainer, dims: Sequence[int | str], layout: str) -> None:
        model = cut_to(explainer.model, self.seen.layer, dims, layout)
        pair = compile_pair(model, self.seen.layer, semantics=explainer.semantics)
        entries = pair.manifest["deconv_inputs"]
        self.taps = [Tap(e["kind"], e["of"], e["name"]) for e in entries if e["kind"] != "seed"]
        self._pools = {t.name: str(model.producers[t.value].inputs[0].name)
                       for t in self.taps if t.kind == "switches"}  # fmt: skip
        if tuple(dims[1:]) != _OPEN:
            self._look_at(model, self.seen.layer, layout)
        self._fixed = None if dims[0] == _BATCH else int(dims[0])
        self._grid = self._lie() if tuple(dims[1:]) == _OPEN else None
        self._check(model)
        if self._grid is not None:
            crop = self._grid.crop([0] * len(_shape(self._whole, self.seen.layer)[2:]))
            self._check_grid(cut_to(explainer.model, self.seen.layer, (_BATCH, *crop.size), layout), crop)
        self._session = companion(pair, explainer.providers)

    def _lie(self) -> Grid:
        shapes = {name: _shape(self._whole, name) for name in self._below}
        return Grid(self.seen, self._below, shapes, self.size)

    def _check(self, model: Model) -> None:
        """Make sure that what the companion reads is one part per image, or is the same for all images."""
        sized = [self.seen.layer, *self._pools.values(), *(t.value for t in self.taps if t.kind == "shape")]
        for value in sized:
            shape = self._whole.type_of(value).shape
            if shape is None or None in shape[1:]:
                raise NoWayError(f"the size of {value!r} is known only when the model runs")
        moving = _depending(model).intersection([self.seen.layer, *(t.value for t in self.taps)])
        known = [v for v in moving if v in self._below and (model.type_of(v).symbols or "-")[0] == _BATCH]
        self._apart = len(known) == len(moving)
        if self._fixed is None and not self._apart:
            raise NoWayError(f"{min(moving.difference(known))!r} is not one part per image")

    def _check_grid(self, model: Model, crop: Crop) -> None:
        """Make sure that a crop's values have the sizes that the grid says."""
        pools = (model.producers[t.value] for t in self.taps if t.kind == "switches")
        if any(pool.attrs.get("storage_order", 0) for pool in pools):
            raise NoWayError("a pool's switches go by columns")
        for value in [self.seen.layer, *(t.value for t in self.taps), *self._pools.values()]:
            if value in self._below and _shape(model, value)[1:] != self._shape_in(value, crop)[1:]:
                raise NoWayError(f"{value!r} has sizes of its own")

    def crop(self, position: Sequence[int]) -> Crop:
        """Return the part of the image on which a unit is projected."""
        return self._whole_crop if self._grid is None else self._grid.crop(position)

    def cut(self, crop: Crop, looked: "Look") -> dict[str, Array]:
        """Cut what the companion reads out of what was found out about a whole image."""
        return {tap.name: self._cut(tap, crop, looked) for tap in self.taps if tap.kind != "shape"}

    def _cut(self, tap: Tap, crop: Crop, looked: "Look") -> Array:
        values = looked.values[tap.name]
        if tap.value not in self._below or not self._apart:
            return values
        if self._grid is None or crop == self._whole_crop:
            return values[:1]
        inside = tuple(
            slice(first, first + length)
            for first, length in zip(
                self._grid.start(tap.value, crop), self._grid.shape(tap.value, crop), strict=True
            )
        )
        if tap.kind != "switches":
            return values[inside]
        pooled = self._pools[tap.name]
        top, left = self._grid.start(pooled, crop)[2:]
        channels, height, width = self._grid.shape(pooled, crop)[1:]
        rows, columns = (part[inside] for part in looked.places(tap.name, _shape(self._whole, pooled)))
        # Only windows that no unit of this crop sees can have their maximum outside.
        rows, columns = np.clip(rows - top, 0, height - 1), np.clip(columns - left, 0, width - 1)
        return (np.arange(channels, dtype=np.int32)[:, None, None] * height + rows) * width + columns

    def at_once(self, crop: Crop) -> int:
        """Return how many units with crops of this size go back together."""
        if self._fixed is not None:
            return self._fixed if self._apart else 1
        return max(1, min(_AT_ONCE, _PIXELS_AT_ONCE // math.prod(crop.size)))

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
        if tap.value not in self._below or not self._apart:
            return arrays[0]
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
        Switches and taps by name; of a batch the first image counts.
    """

    def __init__(self, values: Mapping[str, Array]) -> None:
        self.values = values
        self._places: dict[str, tuple[Array, Array]] = {}

    def places(self, switches: str, pooled: Sequence[int]) -> tuple[Array, Array]:
        """Return the rows and columns of the maxima, int32, in a value of this shape."""
        if switches not in self._places:
            _, channels, height, width = pooled
            planes = np.arange(channels)[:, None, None] * (height * width)
            flat = (self.values[switches][:1] - planes).astype(np.int32)
            rows = flat // np.int32(width)  # NumPy divides 32-bit numbers by one scalar many at a time
            self._places[switches] = rows, flat - rows * np.int32(width)
        return self._places[switches]


def _depending(model: Model) -> set[str]:
    """Collect the values that depend on the image, if only on its size."""
    found = set(model.inputs)
    for node in model.nodes:
        if any(value.name in found for value in node.inputs):
            found.update(value.name for value in node.outputs)
    return found


def _shape(model: Model, value: str) -> list[int]:
    """Return a value's shape where all but the batch is known."""
    return [d or 1 for d in model.type_of(value).shape or ()]
