"""What the projector works on: one unit of an atlas at a time, with what its projection needs."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from onnx_deconv.atlas.forward_values import ForwardValues
from onnx_deconv.atlas.layer_projector import LayerProjector
from onnx_deconv.atlas.top_activations import Atlas, UnitKey
from onnx_deconv.imaging import Picture
from onnx_deconv.model import Array
from onnx_deconv.receptive import Crop

_MOST_WAITING = 64_000_000
"""Bytes that units may hold in memory while they wait for others to be projected with."""


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
        The unit: the one of this rank in its feature map, 0 the strongest.
    image
        The image's name.
    box
        (y0, x0, y1, x1): the pixels of the model's input that the unit can see.
    window
        (y0, x0, y1, x1): the pixels that are shown, of the same size for all units of a layer. It
        holds the box and does not leave the image.
    values
        The reconstruction within the window, channels first, float32. Outside the window it is zero.
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


class Job(NamedTuple):
    """One unit to project, and what is needed for it."""

    unit: Unit
    image: str
    layer: LayerProjector
    crop: Crop
    box: tuple[int, ...]
    window: tuple[int, int, int, int]
    patch: Picture
    values: ForwardValues | dict[str, Array]

    @property
    def memory(self) -> int:
        """Bytes that it holds."""
        values = {} if isinstance(self.values, ForwardValues) else self.values
        return self.patch.nbytes + sum(array.nbytes for array in values.values())

    def apart(self) -> "Job":
        """Return the same with copies of its crop's values and pixels: slices keep whole images in memory.

        Only those that wait for others are copied. All units of an image at once would take far more.
        """
        if isinstance(self.values, ForwardValues):
            return self._replace(patch=_own(self.patch))
        return self._replace(
            patch=_own(self.patch), values={name: _own(each) for name, each in self.values.items()}
        )

    def cut_values(self) -> dict[str, Array]:
        """Return what the companion reads within the crop."""
        if isinstance(self.values, ForwardValues):
            return self.layer.cut(self.crop, self.values)
        return self.values

    def projection(self, values: Array) -> Projection:
        """Move a reconstruction from the crop to the window; it is zero where the crop does not reach."""
        (top, left), (height, width) = self.crop
        y0, x0, y1, x1 = self.window
        shown = np.zeros((len(values), y1 - y0, x1 - x0), np.float32)
        a, b, c, d = max(y0, top), min(y1, top + height), max(x0, left), min(x1, left + width)
        shown[:, a - y0 : b - y0, c - x0 : d - x0] = values[:, a - top : b - top, c - left : d - left]
        return Projection(*self.unit, self.image, self.box, self.window, shown, _own(self.patch))


def units_by_image(atlas: Atlas, wanted: Callable[[UnitKey], bool]) -> dict[str, list[UnitKey]]:
    """List the units of an atlas that have an activation other than zero, by their image's name."""
    units: dict[str, list[UnitKey]] = {}
    for layer, top in atlas.layers.items():
        for channel, rank in np.argwhere(top.active).tolist():
            key = layer, channel, rank
            if wanted(key):
                units.setdefault(atlas.image_of(*key), []).append(key)
    return units


def unit_of(atlas: Atlas, key: UnitKey) -> Unit:
    """Return a unit as an atlas has it."""
    layer, channel, rank = key
    table = atlas.layers[layer]
    position = tuple(table.positions[channel, rank].tolist())
    return Unit(layer, channel, rank, float(table.activations[channel, rank]), position)


def batches(found: Iterable[Iterable[Job]]) -> Iterator[list[Job]]:
    """Put together jobs of one layer whose crops have one size."""
    waiting: dict[Any, list[Job]] = {}
    held = 0
    for job in (job for jobs in found for job in jobs):
        queue = waiting.setdefault((job.unit.layer, job.crop.size), [])
        full = len(queue) + 1 >= job.layer.most_units(job.crop)
        queue.append(job if full else job.apart())
        held += queue[-1].memory
        if full or held > _MOST_WAITING:
            key = (job.unit.layer, job.crop.size) if full else max(waiting, key=lambda k: _memory(waiting[k]))
            held -= _memory(waiting[key])
            yield waiting.pop(key)
    yield from waiting.values()


def _own(array: Array) -> Array:
    """Return an array that keeps no larger one in memory."""
    return array if array.base is None else array.copy()


def _memory(jobs: Iterable[Job]) -> int:
    return sum(job.memory for job in jobs)
