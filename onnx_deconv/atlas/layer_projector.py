"""Project units of one layer: its companion graph, fed with what a forward pass over an image gave.

An image goes forward once, however many of its units are projected. Each unit needs only the values within
its crop (:mod:`onnx_deconv.receptive.crops`); switches are renumbered for the crop. Where crops cannot be
used the whole image is projected, which gives the same result more slowly.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from onnx_deconv.atlas.forward_values import ForwardValues, switches_in_crop
from onnx_deconv.atlas.strategy import (
    StrategyError,
    check_known_shapes,
    check_row_major,
    check_shapes,
    known_shape,
    without_batch_axis,
)
from onnx_deconv.atlas.submodel import Placed, Submodels
from onnx_deconv.attribution.explainer import Explainer
from onnx_deconv.compiler.backward import SEED, Walk
from onnx_deconv.errors import DeconvError, InputError
from onnx_deconv.imaging import Size
from onnx_deconv.model import Array, Model, all_tensors
from onnx_deconv.operators import Tap
from onnx_deconv.receptive import Crop, CropGrid
from onnx_deconv.runtime import Session, companion, numpy_of

_BATCH, _OPEN = "N", ("H", "W")
"""Names for the sizes that a submodel leaves open."""
_MOST_UNITS, _MOST_PIXELS = 24, 20_000
"""Units, and pixels of all their crops, that are projected at once: more gain nothing."""
_MOST_WEIGHTS = 4_000_000
"""Weights of a companion that there may be a second time, for whole images."""


class LayerProjector:
    """Projects units of one layer to the pixels.

    Parameters
    ----------
    explainer
        For the model, with the method to use.
    submodels
        What the layers of the atlas need, shared by their projectors.
    layer
        The layer, channels on axis 1.
    size
        (height, width) of the images.
    layout
        The layout of the model's input, ``"NCHW"`` or ``"NHWC"``.
    crops
        Whether units may be projected on crops.

    Attributes
    ----------
    field
        The layer's receptive field.
    taps
        What the companion reads besides the seed.
    """

    def __init__(
        self, explainer: Explainer, submodels: Submodels, layer: str, size: Size, *, crops: bool
    ) -> None:
        self.size, self._whole_crop = size, Crop((0, 0), size)
        self._explainer, self._layer = explainer, layer
        self._analyse(submodels.of(layer, (_BATCH, *size)))
        # Sizes of the companion's input, the fastest first: crops, batches of whole images, whole images
        # as many at a time as the model takes.
        strategies: list[Sequence[int | str]] = [
            (_BATCH, *_OPEN),
            (_BATCH, *size),
            (explainer.model.batch or 1, *size),
        ]
        self._compile_first(submodels, strategies if crops else strategies[1:])
        self._on_whole = self._with_known_sizes(submodels)

    def _compile_first(self, submodels: Submodels, strategies: Sequence[Sequence[int | str]]) -> None:
        """Compile the companion by the first strategy that works for the layer."""
        *others, last = strategies
        for dims in others:
            try:
                self._compile(submodels, dims)
            except (DeconvError, StrategyError):
                continue
            return
        try:
            self._compile(submodels, last)
        except StrategyError as error:
            raise InputError(f"{self._layer!r} cannot be projected: {error}") from error

    def _analyse(self, whole: Placed) -> None:
        """Find out how the layer and the values below it are placed over a whole image."""
        self._whole, self._below = whole.model, whole.below(self._layer)
        self.field = whole.fields[self._layer]

    @property
    def window(self) -> Size:
        """(height, width) of the pixels that are shown of a unit."""
        return min(self.field.size[0], self.size[0]), min(self.field.size[1], self.size[1])

    @property
    def placed(self) -> bool:
        """Whether the layer's units have positions."""
        return bool(self._positions)

    @property
    def _positions(self) -> list[int]:
        """How many positions units have along each axis."""
        return known_shape(self._whole, self._layer)[2:]

    @property
    def channels(self) -> int:
        """How many feature maps the layer has."""
        return known_shape(self._whole, self._layer)[1]

    @property
    def middle(self) -> tuple[int, ...]:
        """The position in the middle of the layer."""
        return tuple(size // 2 for size in self._positions)

    def _compile(self, submodels: Submodels, dims: Sequence[int | str]) -> None:
        explainer, on_crops = self._explainer, tuple(dims[1:]) == _OPEN
        placed = submodels.of(self._layer, dims)
        model = placed.model
        proto, taps = Walk(model, self._layer, explainer.method(self._layer)).run()
        self.taps = list(taps)
        pools = {tap.name: model.producers[tap.value] for tap in self.taps if tap.kind == "switches"}
        self._pooled = {name: str(pool.inputs[0].name) for name, pool in pools.items()}
        if not on_crops:
            self._analyse(placed)
        self._fixed_batch = None if dims[0] == _BATCH else int(dims[0])
        self._grid = self._crop_grid() if on_crops else None
        self._check_batches(model)
        if self._grid is not None:
            self._check_crops(submodels, self._grid)
            self._check_smaller()
        self._session = companion(proto, model.folder, explainer.providers)

    def _check_batches(self, model: Model) -> None:
        """Check that what the companion reads can be put together for several images."""
        layer = self._layer
        shapes = [tap.value for tap in self.taps if tap.kind == "shape"]
        check_known_shapes(self._whole, [layer, *shapes, *self._pooled.values()])
        values = [layer, *(tap.value for tap in self.taps)]
        unbatched = without_batch_axis(model, values, self._below, _BATCH)
        self._separable = not unbatched
        if self._fixed_batch is None and unbatched:
            raise StrategyError(f"{unbatched[0]!r} has no batch axis")

    def _check_crops(self, submodels: Submodels, grid: CropGrid) -> None:
        """Check that values on a crop have the shapes that the grid computes."""
        check_row_major(self._whole, (tap.value for tap in self.taps if tap.kind == "switches"))
        crop = grid.sample()
        cropped = submodels.of(self._layer, (_BATCH, *crop.size))
        values = [self._layer, *(tap.value for tap in self.taps), *self._pooled.values()]
        shapes = {value: grid.shape(value, crop) for value in values if value in self._below}
        check_shapes(cropped.model, shapes)

    def _check_smaller(self) -> None:
        """Check that the unit in a corner does not see the whole image."""
        if self.crop([0 for _ in self._positions]) == self._whole_crop:
            raise StrategyError("each unit sees the whole image")

    def _with_known_sizes(self, submodels: Submodels) -> Session:
        """Return the companion for whole images: where they are among the crops, one that knows their size.

        Some passes need that: MobileNetV2's is a third faster then. ResNet-50's is 6 % faster, for which its
        weights are not kept twice.
        """
        if self._grid is None or self.crop(self.middle) != self._whole_crop:
            return self._session
        try:
            placed = submodels.of(self._layer, (_BATCH, *self.size))
            proto, taps = Walk(placed.model, self._layer, self._explainer.method(self._layer)).run()
        except DeconvError:
            return self._session
        reads = [self._layer, *(tap.value for tap in taps)]
        if without_batch_axis(placed.model, reads, self._below, _BATCH) or not {*taps} <= {*self.taps}:
            return self._session
        if sum(math.prod(tensor.dims) for tensor in all_tensors(proto)) > _MOST_WEIGHTS:
            return self._session
        return companion(proto, placed.model.folder, self._explainer.providers)

    def _crop_grid(self) -> CropGrid:
        shapes = {name: known_shape(self._whole, name) for name in self._below}
        return CropGrid(self.field, self._below, shapes, self.size)

    def crop(self, position: Sequence[int]) -> Crop:
        """Return the piece of the image on which a unit is projected."""
        return self._whole_crop if self._grid is None else self._grid.crop(position)

    def cut(self, crop: Crop, forward: ForwardValues) -> dict[str, Array]:
        """Cut what the companion reads for a crop out of a whole image's values."""
        return {tap.name: self._cut(tap, crop, forward) for tap in self.taps if tap.kind != "shape"}

    def _cut(self, tap: Tap, crop: Crop, forward: ForwardValues) -> Array:
        values, grid = forward.values[tap.name], self._grid
        if tap.value not in self._below or not self._separable:
            return values
        if grid is None or crop == self._whole_crop:
            return values[:1]
        starts, shape = grid.start(tap.value, crop), grid.shape(tap.value, crop)
        inside = tuple(slice(first, first + n) for first, n in zip(starts, shape, strict=True))
        if tap.kind != "switches":
            return values[inside]
        pooled = self._pooled[tap.name]
        maxima = forward.maxima(tap.name, known_shape(self._whole, pooled))
        rows, columns = (each[inside] for each in maxima)
        return switches_in_crop(rows, columns, grid.start(pooled, crop), grid.shape(pooled, crop))

    def most_units(self, crop: Crop) -> int:
        """Return how many units with crops of this size are projected at once."""
        if self._fixed_batch is not None:
            return self._fixed_batch if self._separable else 1
        return max(1, min(_MOST_UNITS, _MOST_PIXELS // math.prod(crop.size)))

    def project(
        self, crops: Sequence[Crop], units: Sequence[tuple[int, Sequence[int], float]],
        values: Sequence[Mapping[str, Array]],
    ) -> Array:  # fmt: skip
        """Project units whose crops have one size.

        Parameters
        ----------
        crops
            The units' crops.
        units
            Channel, position and activation of each.
        values
            What :meth:`cut` returned for each.

        Returns
        -------
        numpy.ndarray
            The reconstructions within the crops, shape (units, ...) as the model's input, float32.
        """
        count, size = self._fixed_batch or len(units), crops[0]
        feeds = {tap.name: self._batched(tap, values, size, count) for tap in self.taps}
        seed = np.zeros((count, *self._shape_in(self._layer, size)[1:]), np.float32)
        for k, (crop, (channel, position, activation)) in enumerate(zip(crops, units, strict=True)):
            seed[(k, channel, *self._position_in(crop, position))] = activation
        session = self._on_whole if size == self._whole_crop else self._session
        dtype = np.float16 if "float16" in session.inputs[SEED].type else np.float32
        given = {**feeds, SEED: seed.astype(dtype, copy=False)}
        (found,) = session.run({name: given[name] for name in session.inputs}).values()
        return numpy_of(found)[: len(units)].astype(np.float32, copy=False)

    def _position_in(self, crop: Crop, position: Sequence[int]) -> tuple[int, ...]:
        if self._grid is None:
            return tuple(position)
        starts = self._grid.start(self._layer, crop)[2:]
        return tuple(k - start for k, start in zip(position, starts, strict=True))

    def _shape_in(self, value: str, crop: Crop) -> list[int]:
        return known_shape(self._whole, value) if self._grid is None else self._grid.shape(value, crop)

    def _batched(self, tap: Tap, values: Sequence[Mapping[str, Array]], crop: Crop, count: int) -> Array:
        """Put what the companion reads for several units into one batch, filled up to `count`."""
        if tap.kind == "shape":
            return np.array([count, *self._shape_in(tap.value, crop)[1:]], np.int64)
        arrays = [of_unit[tap.name] for of_unit in values]
        if tap.value not in self._below or not self._separable:
            return arrays[0]
        arrays += [arrays[-1]] * (count - len(arrays))
        joined = arrays[0] if len(arrays) == 1 else np.concatenate(arrays)  # of whole images this is much
        return joined.astype(np.int64, copy=False) if tap.kind == "switches" else joined
