"""What one run of a model takes: an array for each input, made of files, pictures, arrays and numbers."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from onnx_deconv.attribution.batches import batched
from onnx_deconv.attribution.explainer import Explainer
from onnx_deconv.attribution.explanation import Explanation
from onnx_deconv.attribution.number_input import NumberInput
from onnx_deconv.attribution.seed import Place, SeedKind
from onnx_deconv.attribution.shown import Shown, ShownNumbers, ShownPhoto
from onnx_deconv.attribution.target import moved
from onnx_deconv.errors import InputError, way
from onnx_deconv.imaging import (
    CustomPreprocess,
    Geometry,
    ImageInput,
    Photo,
    Preprocess,
    Source,
    read_numbers,
    read_source,
)
from onnx_deconv.model import Array, Model
from onnx_deconv.receptive import receptive_field

_DRAWN = range(2, 5)
"""Axes of what can be drawn, channels included: signals, images, volumes."""


@dataclass(frozen=True)
class Selection:
    """What to explain in each photograph.

    Attributes
    ----------
    targets
        Classes or channels, by index or label; empty for the ``top`` strongest.
    layer, position, top, seed
        As for :meth:`onnx_deconv.attribution.explainer.Explainer.__call__`.
    """

    targets: Sequence[int | str] = ()
    layer: str | None = None
    position: Place = None
    top: int = 1
    seed: SeedKind | Array = "auto"


@dataclass(frozen=True)
class Sample:
    """What a model takes once.

    Attributes
    ----------
    feeds
        An array for each input: without the batch axis, or as it is where the input has none.
    shown
        What is drawn, by input; inputs that cannot be drawn are missing.
    photo
        The photograph, where a point of it may be a target.
    """

    feeds: Mapping[str, Array]
    shown: Mapping[str, Shown]
    photo: Photo | None = None


class Part(NamedTuple):
    """What one input gets of a sample, and how it is drawn."""

    array: Array
    shown: Shown | None = None


def explain_samples(
    explainer: Explainer, samples: Sequence[Sample], selection: Selection
) -> list[list[Explanation]]:
    """Explain samples of one size together.

    Parameters
    ----------
    explainer
        For the model.
    samples
        At most as many as the model takes at once; where that number is fixed, fewer will do. Inputs without
        a batch axis get what the first sample has.
    selection
        What to explain.

    Returns
    -------
    list
        For each sample its explanations: in the order of the selection's targets, or strongest first.

    Raises
    ------
    InputError
        If the selection or a sample does not fit the model.
    """
    missing = max(0, (explainer.model.batch or 0) - len(samples))
    filled = [*samples, *[samples[-1]] * missing]
    with_batch = batched(explainer.model)
    batch = {
        name: np.stack([each.feeds[name] for each in filled]) if name in with_batch else array
        for name, array in samples[0].feeds.items()
    }
    found: list[list[Explanation]] = [[] for _ in filled]
    asked: Sequence[int | str | None] = selection.targets or [None]
    how: dict[str, Any] = {"layer": selection.layer, "position": selection.position, "seed": selection.seed}
    for each in asked:
        there: Any = each
        if isinstance(each, str) and not explainer.labels.names.count(each):
            there = [moved(each, partial(_in_input, one.photo)) for one in filled]
        for one in explainer(batch, there, top=1 if selection.targets else selection.top, **how):
            found[one.image].append(one)
    return [
        [_drawable(explainer, one, sample) for one in each]
        for each, sample in zip(found, samples, strict=False)
    ]


def _drawable(explainer: Explainer, one: Explanation, sample: Sample) -> Explanation:
    """Let an explanation know what was explained."""
    shown: dict[str, Shown] = {name: s for name, s in sample.shown.items() if name in one.reconstructions}
    for name, each in shown.items():
        if isinstance(each, ShownPhoto) and not one.standing.of_class and one.position is not None:
            size, asked = each.photo.geometry.size, one.standing.asked
            field = receptive_field(explainer.model, asked, size=size, layout=each.layout)
            shown[name] = replace(each, box=field.box(one.position))
    first = next(iter(one.reconstructions), "")
    return replace(one, shown=shown.get(first), drawn=shown)


def _in_input(photo: Photo | None, x: float, y: float) -> tuple[float, float]:
    """Return where a photograph's point is in the model's input.

    Raises
    ------
    InputError
        If it is not in the photograph, or the input does not show it.
    """
    if photo is None:
        return x, y
    high, low, end, right = photo.geometry.box
    if not (high <= y <= end and low <= x <= right):
        raise InputError(
            f"the point {x:g},{y:g} is outside what the model sees of the photograph: x from {low:g} to "
            f"{right:g}, y from {high:g} to {end:g}"
        )
    down, across = photo.geometry.point_in_input(y, x)
    return across, down


@dataclass(frozen=True)
class Reader:
    """Makes samples of what is given for a model's inputs.

    Attributes
    ----------
    model
        The model.
    pictures
        How photographs become the inputs that take pictures, by name; the other inputs take numbers.
    assumed
        The preset that was assumed, if one was.
    bands
        The channels that are drawn of images of other channels than pictures have.
    page
        Which page or frame of picture files is read.
    """

    model: Model
    pictures: Mapping[str, Preprocess | CustomPreprocess]
    assumed: str | None = None
    bands: Sequence[int] | None = None
    page: int = 0

    def samples(self, given: Mapping[str, Any]) -> list[Sample]:
        """Make samples of what is given for each input: one thing or a batch.

        Where one input gets a batch, what is given once for the others counts for each of its samples.

        Raises
        ------
        InputError
            If something is missing, or does not fit.
        """
        self._check_names(given)
        with_batch = batched(self.model)
        parts = {name: self.parts(name, given[name]) for name in self.model.inputs}
        counts = {name: len(each) for name, each in parts.items() if name in with_batch}
        total = max(counts.values(), default=1)
        if set(counts.values()) - {1, total}:
            numbers = ", ".join(f"{name}: {count}" for name, count in counts.items())
            raise InputError(f"every input needs the same number of samples, or one: {numbers}")
        return [
            self._sample({name: each[k % len(each)] for name, each in parts.items()}) for k in range(total)
        ]

    def parts(self, name: str, given: Any) -> list[Part]:
        """Make what one input gets of each sample.

        Parameters
        ----------
        name
            The input.
        given
            An array, a number, a path, or, where the input takes pictures, any image; or a list of paths,
            whose bands are joined.

        Raises
        ------
        InputError
            If it cannot be read, or does not fit.
        """
        is_number = np.isscalar(given) and not isinstance(given, str | bytes)
        if name in self.pictures and not is_number:
            return self._of_pictures(name, given)
        takes = NumberInput.of(self.model, name)
        array, what, first = self._numbers(given)
        samples = takes.samples(array, what, channels_first=first)
        if not takes.batched:
            return [Part(samples, self._shown(takes, samples, what))]
        return [Part(sample, self._shown(takes, sample, what)) for sample in samples]

    def _check_names(self, given: Mapping[str, Any]) -> None:
        names = self.model.inputs
        if unknown := [name for name in given if name not in names]:
            raise InputError(f"the model has no input {unknown[0]!r} but {', '.join(names)}")
        if missing := [name for name in names if name not in given]:
            raise InputError(
                f"nothing is given for {', '.join(missing)} ({self.model.type_of(missing[0])}): give it, as "
                f"in {way(f'--input {missing[0]}=FILE', f'{{{missing[0]!r}: ...}}')}"
            )

    def _sample(self, parts: Mapping[str, Part]) -> Sample:
        shown = {name: part.shown for name, part in parts.items() if part.shown is not None}
        photo = next((each.photo for each in shown.values() if isinstance(each, ShownPhoto)), None)
        return Sample({name: part.array for name, part in parts.items()}, shown, photo)

    def _of_pictures(self, name: str, given: Any) -> list[Part]:
        how = self.pictures[name]
        if _are_files(given):
            raise InputError(
                f"input {name!r} takes photographs, each in one file, and got {len(given)}: join them in one "
                "picture or .npy file"
            )
        source = given if isinstance(given, Source) else source_for(self.model, name, how, given, self.page)
        assumed = None if source.numbers is not None else self.assumed
        return [
            Part(photo.tensor, ShownPhoto(photo, how.layout, how.channels, called, None, assumed))
            for photo, called in photos_of(self.model, name, how, source)
        ]

    def _numbers(self, given: Any) -> tuple[Any, str, bool]:
        """Return numbers, what they are called, and whether their first axis is the channels."""
        if isinstance(given, str | os.PathLike):
            read = read_numbers(given)
            return read.array, os.path.basename(given), read.channels_first  # noqa: PTH119
        if _are_files(given):
            bands = [read_numbers(each).array for each in given]
            flat = [band[None] if band.ndim == len("HW") else band for band in bands]
            if len({band.shape[1:] for band in flat}) > 1:
                raise InputError(
                    f"{', '.join(map(str, given))}: their sizes differ, so they are no bands of one image"
                )
            return np.concatenate(flat), "what the bands make", True
        array = np.asarray(given.detach().cpu() if hasattr(given, "detach") else given)
        return array, "what is given", False

    def _shown(self, takes: NumberInput, sample: Array, name: str) -> ShownNumbers | None:
        values = takes.canonical(sample) if sample.ndim and takes.dtype.kind == "f" else sample
        drawable = values.ndim in _DRAWN and values[0].size > 1
        return ShownNumbers(values, takes.channel_axis, name, self._bands(values)) if drawable else None

    def _bands(self, values: Array) -> Sequence[int] | None:
        if (
            self.bands is not None
            and values.ndim == len("CHW")
            and not all(0 <= band < len(values) for band in self.bands)
        ):
            raise InputError(
                f"bands {', '.join(map(str, self.bands))}: the input has channels 0 to {len(values) - 1}"
            )
        return self.bands


def photos_of(
    model: Model, name: str, how: Preprocess | CustomPreprocess, given: Any, page: int = 0
) -> list[tuple[Photo, str]]:
    """Make what an input that takes pictures gets of an image or a batch; each with its name.

    Raises
    ------
    InputError
        If it cannot be read, or does not fit.
    """
    source = given if isinstance(given, Source) else source_for(model, name, how, given, page)
    called = source.name or "photograph"
    photos = [Photo.of(picture, how) for picture in source.pictures]
    numbers = () if source.numbers is None else source.numbers
    return [(photo, called) for photo in [*photos, *(_seen_by_the_model(how, each) for each in numbers)]]


def source_for(
    model: Model, name: str, how: Preprocess | CustomPreprocess, given: Any, page: int = 0
) -> Source:
    """Read an image; numbers come out as a batch that fits the input.

    Raises
    ------
    InputError
        If it cannot be read, or does not fit.
    """
    takes = ImageInput.of(model, how.layout, name)
    own = _is_for(takes, given)
    source = (
        Source(numbers=np.asarray(given))
        if own
        else read_source(given, bands=4 if "A" in how.channels else 3, page=page)
    )
    if source.numbers is None:
        return source
    numbers, axes = source.numbers, len("NCHW")
    batch = numbers[None] if numbers.ndim == axes - 1 else numbers
    types = model.type_of(name)
    fits = batch.ndim == axes and batch.dtype.kind == np.dtype(takes.dtype).kind
    sizes = (types.shape or ())[1:]
    if not fits or any(d not in (None, a) for d, a in zip(sizes, batch.shape[1:], strict=True)):
        given_shape = "×".join(map(str, numbers.shape))
        raise InputError(
            f"an array of {numbers.dtype} {given_shape} is taken as the model takes it, but input "
            f"{name!r} takes {types} {takes.dtype}; a picture is uint8, H×W×3"
        )
    return replace(source, numbers=batch.astype(takes.dtype, copy=False), several=batch is numbers)


def _seen_by_the_model(how: Preprocess | CustomPreprocess, tensor: Array) -> Photo:
    """Make a photograph of what the model takes."""
    if isinstance(how, CustomPreprocess):
        raise InputError("float arrays are preprocessed already: give pictures, or no function as preprocess")
    picture = how.undone(tensor)
    size = (picture.shape[0], picture.shape[1])
    return Photo(picture, tensor, Geometry(size, size, size, (0, 0)))


def _are_files(given: Any) -> bool:
    """Tell whether several files are given for one input."""
    return (
        isinstance(given, list | tuple)
        and bool(given)
        and all(isinstance(g, str | os.PathLike) for g in given)
    )


def _is_for(takes: ImageInput, given: Any) -> bool:
    """Tell whether an array of uint8 is no picture but what a model of uint8 takes, channels first."""
    if takes.dtype != "uint8" or takes.layout != "NCHW" or not isinstance(given, np.ndarray):
        return False
    return (
        given.dtype == np.uint8
        and given.ndim >= len("CHW")
        and given.shape[-3] == takes.channels != given.shape[-1]
    )
