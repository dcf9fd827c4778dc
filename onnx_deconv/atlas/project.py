"""Project the strongest units of an atlas back to the pixels, many at a time."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple, TypeVar

import numpy as np

from onnx_deconv.atlas.grid import Crop
from onnx_deconv.atlas.images import Images, Load
from onnx_deconv.atlas.tally import Atlas
from onnx_deconv.atlas.way import Look, Way
from onnx_deconv.attribution.explainer import Explainer
from onnx_deconv.compiler.forward import forward
from onnx_deconv.errors import InputError
from onnx_deconv.imaging import Picture, Preprocess, Size
from onnx_deconv.model import Array
from onnx_deconv.operators import Tap
from onnx_deconv.runtime import Session, device_of, numpy_of, workers

T = TypeVar("T")

_AHEAD = 3
"""Tasks per worker that are waiting or under way."""
_HELD = 64_000_000
"""Bytes that units may hold while they wait for others to go back with."""


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

    On the CPU each core projects units of its own.

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
        self.preprocess, self._explainer = preprocess, explainer
        (self._input,) = explainer.model.inputs
        size, layout = preprocess.size, preprocess.layout
        self._ways = {layer: Way(explainer, layer, size, layout, crops=crops) for layer in layers}
        taps = {t.name: t for way in self._ways.values() for t in way.taps if t.kind != "shape"}
        self._workers = workers(device_of(explainer.providers))
        self._forward = self._looking(taps.values()) if taps else None

    def _looking(self, taps: Iterable[Tap]) -> Session:
        """Make the model that tells what the companions read, and nothing else."""
        model = self._explainer.model
        proto, told = forward(model, taps), {tap.name for tap in taps}
        for output in list(proto.graph.output):
            if output.name not in told:
                proto.graph.output.remove(output)
        return Session(proto, model.folder, self._explainer.providers, threads=1)

    def window(self, layer: str) -> Size:
        """Return (height, width) of what is shown of a layer's units."""
        return self._ways[layer].window

    def run(
        self,
        atlas: Atlas,
        images: Images,
        wanted: Callable[[Unit], bool] = lambda _: True,
        each: Callable[[Projection], T] = lambda one: one,  # type: ignore[assignment,return-value]
    ) -> Iterator[T]:
        """Project every unit of an atlas that is active, image by image.

        Parameters
        ----------
        atlas
            The table.
        images
            Those that it was made of.
        wanted
            Tells which units to project; by default all.
        each
            What to make of a projection, on the core that projected it; by default nothing.

        Yields
        ------
        Projection
            Or what was made of it; in no particular order.

        Raises
        ------
        InputError
            If an image of the atlas is not among the images any more.
        """
        units = _by_image(atlas, wanted)
        pool = ThreadPoolExecutor(self._workers)
        try:
            tasks = ((name, load, units.pop(name)) for name, load in images if name in units)
            looked = _ahead(pool, self._look, tasks, self._workers + 1)
            for done in _ahead(pool, partial(self._back, each), _batches(looked), _AHEAD * self._workers):
                yield from done
        finally:
            pool.shutdown(cancel_futures=True)
        if units:
            raise InputError(f"{len(units)} images of the atlas are missing, {min(units)!r} for one")

    def _look(self, task: tuple[str, Load, Sequence[Unit]]) -> list["_Job"]:
        """Run an image forward and cut out what each of its units needs."""
        name, load, units = task
        tensor, geometry = self.preprocess.apply(picture := load())
        view, look = geometry.view(picture), Look(self._tell(tensor))
        return [self._job(unit, name, view, look) for unit in units]

    def _tell(self, tensor: Array) -> dict[str, Array]:
        """Return the switches and taps of one image, as often as the model's batch is long."""
        if self._forward is None:
            return {}
        batch = np.repeat(tensor[None], self._explainer.model.batch or 1, 0)
        return {name: numpy_of(value) for name, value in self._forward.run({self._input: batch}).items()}

    def _job(self, unit: Unit, image: str, view: Picture, look: Look) -> "_Job":
        way = self._ways[unit.layer]
        crop, box = way.crop(unit.position), way.seen.box(unit.position)
        starts = [
            min(max(first, 0), size - shown)
            for (first, _), size, shown in zip(
                way.seen.reach(unit.position), way.size, way.window, strict=True
            )
        ]
        y0, x0, (height, width) = *starts, way.window
        window = y0, x0, y0 + height, x0 + width
        patch = view[y0 : y0 + height, x0 : x0 + width].copy()  # else the whole image stays as long
        if way.at_once(crop) > 1:  # it may have to wait: it keeps its part, not the whole image's
            return _Job(unit, image, way, crop, box, window, patch, way.cut(crop, look))
        return _Job(unit, image, way, crop, box, window, patch, look)

    def _back(self, each: Callable[[Projection], T], jobs: Sequence["_Job"]) -> list[T]:
        """Send units of one layer back, whose crops have one size."""
        way = jobs[0].way
        units = [(job.unit.channel, job.unit.position, job.unit.activation) for job in jobs]
        parts = [way.cut(j.crop, j.told) if isinstance(j.told, Look) else j.told for j in jobs]
        values = way.back([job.crop for job in jobs], units, parts)
        if self.preprocess.layout == "NHWC":
            values = values.transpose(0, 3, 1, 2)
        return [each(job.projection(part)) for job, part in zip(jobs, values, strict=True)]


class _Job(NamedTuple):
    """One unit on its way back."""

    unit: Unit
    image: str
    way: Way
    crop: Crop
    box: tuple[int, ...]
    window: tuple[int, int, int, int]
    patch: Picture
    told: Look | dict[str, Array]

    @property
    def weight(self) -> int:
        """Bytes that it holds."""
        told = {} if isinstance(self.told, Look) else self.told
        return self.patch.nbytes + sum(part.nbytes for part in told.values())

    def projection(self, values: Array) -> Projection:
        """Show what came back within the window: the crop's part of it, zero where it does not reach."""
        (top, left), (height, width) = self.crop
        y0, x0, y1, x1 = self.window
        shown = np.zeros((len(values), y1 - y0, x1 - x0), np.float32)
        a, b, c, d = max(y0, top), min(y1, top + height), max(x0, left), min(x1, left + width)
        shown[:, a - y0 : b - y0, c - x0 : d - x0] = values[:, a - top : b - top, c - left : d - left]
        return Projection(*self.unit, self.image, self.box, self.window, shown, self.patch)


def _by_image(atlas: Atlas, wanted: Callable[[Unit], bool]) -> dict[str, list[Unit]]:
    units: dict[str, list[Unit]] = {}
    for layer, table in atlas.layers.items():
        for channel, rank in np.argwhere(table.taken & (table.activations != 0)).tolist():
            place = channel, rank
            position = tuple(table.positions[place].tolist())
            unit = Unit(layer, channel, rank, float(table.activations[place]), position)
            if wanted(unit):
                units.setdefault(atlas.images[table.images[place]], []).append(unit)
    return units


def _batches(looked: Iterable[Iterable[_Job]]) -> Iterator[list[_Job]]:
    """Put together jobs of one layer whose crops have one size."""
    waiting: dict[Any, list[_Job]] = {}
    held = 0
    for job in (job for jobs in looked for job in jobs):
        queue = waiting.setdefault((job.unit.layer, job.crop.size), [])
        queue.append(job)
        held += job.weight
        full = len(queue) >= job.way.at_once(job.crop)
        if full or held > _HELD:
            key = (job.unit.layer, job.crop.size) if full else max(waiting, key=lambda k: _weight(waiting[k]))
            held -= _weight(waiting[key])
            yield waiting.pop(key)
    yield from waiting.values()


def _weight(jobs: Iterable[_Job]) -> int:
    return sum(job.weight for job in jobs)


def _ahead(
    pool: ThreadPoolExecutor, function: Callable[[Any], Any], tasks: Iterable[Any], depth: int
) -> Iterator[Any]:
    """Yield the function of each task in order, while others are worked on."""
    under_way: deque[Future[Any]] = deque()
    for task in tasks:
        under_way.append(pool.submit(function, task))
        if len(under_way) >= depth:
            yield under_way.popleft().result()
    while under_way:
        yield under_way.popleft().result()
