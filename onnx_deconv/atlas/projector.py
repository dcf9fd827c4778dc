"""Project the strongest units of an atlas back to the pixels, many at a time."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property, partial
from typing import NamedTuple, TypeVar

import numpy as np

from onnx_deconv.atlas.ahead import ahead
from onnx_deconv.atlas.archives import Load
from onnx_deconv.atlas.forward_values import ForwardValues
from onnx_deconv.atlas.images import Images
from onnx_deconv.atlas.jobs import Job, Projection, Unit, batches, unit_of, units_by_image
from onnx_deconv.atlas.layer_projector import LayerProjector
from onnx_deconv.atlas.submodel import Submodels
from onnx_deconv.atlas.top_activations import Atlas, UnitKey
from onnx_deconv.attribution.explainer import Explainer
from onnx_deconv.compiler.forward import forward
from onnx_deconv.errors import InputError
from onnx_deconv.imaging import Picture, Preprocess, Size
from onnx_deconv.model import Array
from onnx_deconv.model.ranking import Ranking, ranking
from onnx_deconv.operators import Tap
from onnx_deconv.runtime import (
    Session,
    clock_of,
    device_of,
    first_nan,
    numpy_of,
    return_freed_memory,
    workers,
)

T = TypeVar("T")

_TASKS_PER_WORKER = 3
"""Tasks, per worker, that are waiting or under way."""

_TASKS_TO_TRIM = 128
"""Tasks after which freed memory is given back: they take pieces of all sizes, and what is between them
would grow with the number of units."""


class Costs(NamedTuple):
    """What projections take.

    Attributes
    ----------
    seconds
        How long one core, or the GPU, takes for a unit, by layer.
    image
        How long it takes for an image, before its units.
    bytes_read
        Bytes that all companions together read of one image.
    """

    seconds: dict[str, float]
    image: float
    bytes_read: int


class Projector:
    """Projects units of some layers of one model; sessions are made once.

    On the CPU each core projects units of its own.

    Parameters
    ----------
    explainer
        For the model, with the method to use.
    layers
        The layers, channels on axis 1.
    preprocess
        How pictures become the model's input; all of one size.
    crops
        Whether units may be projected on crops, which gives the same result faster.

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
            raise InputError(
                "an atlas needs images of one size: give it (--size, or size= of the Preprocess)"
            )
        self.preprocess, self._explainer = preprocess, explainer
        (self._input,) = explainer.model.inputs
        submodels = Submodels(explainer.model, layers, preprocess.layout)
        size = preprocess.size
        self._layers = {
            layer: LayerProjector(explainer, submodels, layer, size, crops=crops) for layer in layers
        }
        taps = {t.name: t for layer in self._layers.values() for t in layer.taps if t.kind != "shape"}
        self._taps = list(taps.values())
        self._placed = [ranking(explainer.model, name) for name, each in self._layers.items() if each.placed]
        self._workers = workers(device_of(explainer.providers))

    @cached_property
    def _forward(self) -> Session | None:
        """What gives the companions' values; ``None`` where they read none."""
        return self._forward_session(self._taps) if self._taps else None

    @cached_property
    def _locating(self) -> Session | None:
        """The same, with what tells the positions of units: the feature maps of all layers that have any."""
        if not self._placed:
            return self._forward
        values = [each.value for each in self._placed]
        return self._forward_session([*self._taps, *(Tap("value", value, value) for value in values)])

    def _forward_session(self, taps: Iterable[Tap]) -> Session:
        """Make the forward model whose only outputs are these values."""
        model = self._explainer.model
        proto, names = forward(model, taps), {tap.name for tap in taps}
        for output in list(proto.graph.output):
            if output.name not in names:
                proto.graph.output.remove(output)
        return Session(proto, model.folder, self._explainer.providers, threads=1)

    def window(self, layer: str) -> Size:
        """Return (height, width) of the pixels that are shown of a layer's units."""
        return self._layers[layer].window

    def channels(self, layer: str) -> int:
        """Return how many feature maps a layer has."""
        return self._layers[layer].channels

    def costs(
        self,
        image: tuple[str, Picture] | None = None,
        each: Callable[[Projection], object] = lambda one: one,
    ) -> Costs:
        """Measure what projections take, by an image and a unit in the middle of each layer.

        Parameters
        ----------
        image
            Its name and the picture; by default a grey one.
        each
            What will be done with each projection, as :meth:`run` takes it.
        """
        clock = clock_of(device_of(self._explainer.providers))
        name, shown = image or ("a grey picture", _blank(*(self.preprocess.size or (0, 0))))
        tensor, geometry = self.preprocess.apply(shown)
        values, forward = _timed(clock, lambda: self._values(self._locating, tensor))
        read, view, seconds = ForwardValues(values), geometry.view(shown), dict[str, float]()
        for of, layer in self._layers.items():
            job = self._job(Unit(of, 0, 0, 1.0, layer.middle), name, view, read)
            _, seconds[of] = _timed(clock, partial(self._project, each, [job]))
        return Costs(seconds, forward, sum(values[tap.name].nbytes for tap in self._taps))

    def run(
        self,
        atlas: Atlas,
        images: Images,
        wanted: Callable[[UnitKey], bool] = lambda _: True,
        each: Callable[[Projection], T] = lambda one: one,  # type: ignore[assignment,return-value]
        *,
        locate: bool = False,
    ) -> Iterator[T]:
        """Project every unit of an atlas whose activation is not zero, image by image.

        Parameters
        ----------
        atlas
            The atlas.
        images
            The images that it was made of.
        wanted
            Chooses the units to project, by (layer, channel, rank); by default all.
        each
            A function that is applied to each projection, on the core that made it; by default none.
        locate
            Whether to find the positions of all units, chosen or not, by the same pass over the images, and
            write them into the atlas: see `positions` of :func:`scan`.

        Yields
        ------
        Projection
            Or what `each` made of it; in no particular order.

        Raises
        ------
        InputError
            If an image of the atlas is not among the images any more.
        """
        units = units_by_image(atlas, wanted)
        if locate:
            units = {name: units.get(name, []) for name in atlas.images}
        session, placed = (self._locating, self._placed) if locate else (self._forward, [])
        run_forward = partial(self._run_forward, atlas, session, placed)
        pool = ThreadPoolExecutor(self._workers)
        try:
            tasks = ((name, load, units.pop(name)) for name, load in images if name in units)
            jobs = ahead(pool, run_forward, tasks, self._workers + 1)
            depth = _TASKS_PER_WORKER * self._workers
            tasks_done = ahead(pool, partial(self._project, each), batches(jobs), depth)
            for number, done in enumerate(tasks_done, 1):
                yield from done
                if number % _TASKS_TO_TRIM == 0:
                    return_freed_memory()
            return_freed_memory()
        finally:
            pool.shutdown(cancel_futures=True)
        if units:
            raise InputError(f"{len(units)} images of the atlas are missing, {min(units)!r} for one")

    def _run_forward(
        self, atlas: Atlas, session: Session | None, placed: Sequence[Ranking],
        task: tuple[str, Load, Sequence[UnitKey]],
    ) -> list[Job]:  # fmt: skip
        """Run an image forward, find positions in some layers, and cut out what each of its units needs."""
        name, load, units = task
        tensor, geometry = self.preprocess.apply(picture := load())
        found = self._values(session, tensor)
        if placed:
            maps = {each.layer: each.of(found[each.value][0]) for each in placed}
            atlas.locate(name, {layer: of_layer for layer, of_layer in maps.items() if layer in atlas.layers})
        read = {tap.name: found[tap.name] for tap in self._taps}  # units hold it for a while: no maps
        view, values = geometry.view(picture), ForwardValues(read)
        return [self._job(unit_of(atlas, unit), name, view, values) for unit in units]

    def _values(self, session: Session | None, tensor: Array) -> dict[str, Array]:
        """Return what a session gives for one image, which is repeated to fill the model's batch."""
        if session is None:
            return {}
        batch = np.repeat(tensor[None], self._explainer.model.batch or 1, 0)
        return {name: numpy_of(value) for name, value in session.run({self._input: batch}).items()}

    def _job(self, unit: Unit, image: str, view: Picture, values: ForwardValues) -> Job:
        layer = self._layers[unit.layer]
        crop, box = layer.crop(unit.position), layer.field.box(unit.position)
        y0, x0 = (
            min(max(first, 0), size - shown)
            for (first, _), size, shown in zip(
                layer.field.reach(unit.position), layer.size, layer.window, strict=True
            )
        )
        height, width = layer.window
        window = y0, x0, y0 + height, x0 + width
        patch = view[y0 : y0 + height, x0 : x0 + width]
        waits = layer.most_units(crop) > 1  # then it needs its own crop's values, not the whole image's
        needed = layer.cut(crop, values) if waits else values
        return Job(unit, image, layer, crop, box, window, patch, needed)

    def _project(self, each: Callable[[Projection], T], jobs: Sequence[Job]) -> list[T]:
        """Project units of one layer, whose crops have one size."""
        found = self._reconstructed(jobs)
        for job, values in zip(jobs, found, strict=True):
            if not np.isfinite(values).all():
                raise InputError(self._why_not_finite(job))
        return [each(job.projection(values)) for job, values in zip(jobs, found, strict=True)]

    def _reconstructed(self, jobs: Sequence[Job]) -> Array:
        """Return the reconstructions of such units, channels first."""
        units = [(job.unit.channel, job.unit.position, job.unit.activation) for job in jobs]
        values = [job.cut_values() for job in jobs]
        found = jobs[0].layer.project([job.crop for job in jobs], units, values)
        return found.transpose(0, 3, 1, 2) if self.preprocess.layout == "NHWC" else found

    def _why_not_finite(self, job: Job) -> str:
        """Name the unit, and the first node that gives NaN, if it does so for a blank picture too."""
        model, size = self._explainer.model, self.preprocess.size or (0, 0)
        tensor = self.preprocess.apply(_blank(*size))[0]
        node = first_nan(
            model.proto, model.folder, {self._input: np.repeat(tensor[None], model.batch or 1, 0)}
        )
        unit = f"feature map {job.unit.channel} of {job.unit.layer!r} in {job.image}"
        own = "" if node is None else f": the model's own {node} gives NaN"
        return f"{unit}: values of the reconstruction are not finite{own}"


def _timed(clock: Callable[[], float], work: Callable[[], T]) -> tuple[T, float]:
    """Do something twice, as the first time takes longer; return its result and the seconds of the second."""
    work()
    start = clock()
    result = work()
    return result, clock() - start


def _blank(height: int, width: int) -> Picture:
    """Return a picture of one grey."""
    return np.full((height, width, 3), 128, np.uint8)
