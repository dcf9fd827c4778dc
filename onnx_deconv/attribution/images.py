"""Explain images however a program holds them: what :meth:`Explainer.explain` does."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any, Literal, NamedTuple, overload

import numpy as np

from onnx_deconv.attribution.explainer import Explainer, Targets
from onnx_deconv.attribution.explanation import Explanation
from onnx_deconv.attribution.explanations import Explanations
from onnx_deconv.attribution.method import AUTO
from onnx_deconv.attribution.photographs import explain_photos
from onnx_deconv.attribution.samples import (
    Reader,
    Sample,
    Selection,
    explain_samples,
    photos_of,
    source_for,
)
from onnx_deconv.attribution.seed import SeedKind
from onnx_deconv.errors import InputError
from onnx_deconv.imaging import (
    PRESETS,
    CustomPreprocess,
    Image,
    ImageInput,
    Photo,
    Preprocess,
    Source,
    holds_several,
    preprocess_for,
    takes_pictures,
)
from onnx_deconv.model import Array, Model
from onnx_deconv.model import Source as ModelSource
from onnx_deconv.operators import RuleTable
from onnx_deconv.semantics import Semantics

Preprocessing = Preprocess | CustomPreprocess | str | os.PathLike[str] | Callable[[Any], Any]
"""How photographs become a model's input: a preprocessing, the name of a preset, a
``preprocessor_config.json`` or ``config.json``, or a function that takes an image of Pillow's and returns
what the model takes."""

Explained = Explanation | Explanations | Iterator[Explanation]

_AT_ONCE = 4
"""How many images run at once, where the model leaves that open."""


def preprocessing(
    model: Model, chosen: Preprocessing | None = None, name: str | None = None
) -> tuple[Preprocess | CustomPreprocess, str | None]:
    """Decide how a photograph becomes a model's input.

    Parameters
    ----------
    model
        The model.
    chosen
        By default what the model's metadata say, a ``preprocessor_config.json`` (Hugging Face) or
        ``config.json`` (timm) beside it, else the preset ``imagenet``.
    name
        The input; by default the only one.

    Returns
    -------
    preprocess : Preprocess or CustomPreprocess
    assumed : str or None
        The preset that was assumed because nothing says how pixels become numbers; else ``None``.

    Raises
    ------
    InputError
        If there is no such preset or file, or the model takes no pictures.
    """
    if isinstance(chosen, Preprocess | CustomPreprocess):
        return chosen, None
    if chosen is None or (isinstance(chosen, str) and chosen in PRESETS):
        return preprocess_for(model, chosen, name=name)
    if isinstance(chosen, str | os.PathLike):
        is_file = Path(chosen).suffix == ".json"
        return preprocess_for(model, Path(chosen) if is_file else str(chosen), name=name)
    if not callable(chosen):
        raise InputError(
            f"preprocess={chosen!r}: give the name of a preset, a Preprocess, the path of a file, "
            "or a function"
        )
    takes = ImageInput.of(model, name=name)
    return CustomPreprocess(chosen, takes.layout, takes.dtype), None


OnePicture = str | os.PathLike[str] | bytes | Image
"""What cannot be anything but one picture."""


@overload
def explain(
    model: ModelSource | Model,
    images: OnePicture,
    target: int | str | None = None,
    *,
    top: Literal[1] = 1,
    **options: Any,
) -> Explanation: ...
@overload
def explain(
    model: ModelSource | Model,
    images: list[Any] | tuple[Any, ...],
    target: Targets | None = None,
    **options: Any,
) -> Explanations: ...
@overload
def explain(
    model: ModelSource | Model, images: Iterator[Any], target: Targets | None = None, **options: Any
) -> Iterator[Explanation]: ...
@overload
def explain(
    model: ModelSource | Model, images: Any, target: Targets | None = None, **options: Any
) -> Any: ...
def explain(
    model: ModelSource | Model,
    images: Any,
    target: Targets | None = None,
    *,
    method: Semantics | RuleTable | str = AUTO,
    layer: str | None = None,
    position: Sequence[int] | None = None,
    top: int = 1,
    seed: SeedKind | Array = "auto",
    preprocess: Preprocessing | None = None,
    **options: Any,
) -> Explained:
    """Explain photographs: ``explain("model.onnx", "photo.jpg")``.

    Many calls for one model are faster with one :class:`~onnx_deconv.attribution.explainer.Explainer`.

    Parameters
    ----------
    model
        As for an explainer.
    images, target, layer, position, top, seed, preprocess
        As for :meth:`onnx_deconv.attribution.explainer.Explainer.explain`.
    method
        A method's name, a rule table, or all choices; by default what suits the model and the target.
    **options
        Further options of the explainer: labels, providers, inputs, input_shapes, low_memory.

    Returns
    -------
    Explanation, Explanations or iterator
        As of :meth:`onnx_deconv.attribution.explainer.Explainer.explain`.

    Raises
    ------
    DeconvError
        If the model cannot be read or explained, or an image or the target does not fit it.

    Examples
    --------
    >>> explanation = explain("squeezenet.onnx", "dog.jpg")
    >>> explanation.label, explanation.score
    ('golden retriever', 0.94)
    >>> explanation.save("dog.png")
    """
    explainer = Explainer(model, method, **{"measure": True} | options)
    return explain_images(
        explainer, images, target, layer=layer, position=position, top=top, seed=seed, preprocess=preprocess
    )


def explain_images(
    explainer: Explainer,
    images: Any,
    target: Targets | None = None,
    *,
    layer: str | None = None,
    position: Sequence[int] | None = None,
    top: int = 1,
    seed: SeedKind | Array = "auto",
    preprocess: Preprocessing | None = None,
) -> Explained:
    """Explain one image or several; see :meth:`onnx_deconv.attribution.explainer.Explainer.explain`."""
    several = isinstance(target, list | tuple | range | np.ndarray)
    targets: list[Any] = [] if target is None else list(target) if several else [target]  # type: ignore[arg-type]
    if targets and top != 1:
        raise InputError("top takes the strongest: leave out target")
    chosen = Selection(targets, layer, position, top, seed)
    if isinstance(images, Mapping) and _names_inputs(images, explainer.model.inputs):
        return _explained_feeds(explainer, images, chosen, preprocess)
    if len(explainer.model.inputs) > 1:
        names = ", ".join(explainer.model.inputs)
        raise InputError(f"the model has inputs {names}: give a dict with something for each")
    (name,) = explainer.model.inputs
    if not takes_pictures(explainer.model, name, getattr(preprocess, "layout", None)):
        return _explained_numbers(explainer, name, images, chosen, one=not (several or top > 1))
    how, assumed = preprocessing(explainer.model, preprocess)
    front = _Front(explainer, chosen, how, assumed)
    if holds_several(images):
        found = front.explained(images)
        return Explanations(found) if isinstance(images, list | tuple) else found
    source = front.source(images)
    explained = Explanations(front.explained([source]))
    return explained if source.several or several or top > 1 else explained[0]


def _names_inputs(given: Mapping[str, Any], inputs: Sequence[str]) -> bool:
    """Tell whether a mapping is by the names of inputs; a row of a data set holds other things too."""
    known = [name in inputs for name in given]
    return any(known) if len(inputs) > 1 else bool(known) and all(known)


def reader_of(model: Model, preprocess: Preprocessing | None = None) -> Reader:
    """Find out how what is given for each input of a model becomes its numbers.

    Parameters
    ----------
    model
        The model.
    preprocess
        How photographs become each input that takes pictures, as for :func:`preprocessing`.

    Raises
    ------
    InputError
        If there is no such preprocessing.
    """
    names = [
        name for name in model.inputs if takes_pictures(model, name, getattr(preprocess, "layout", None))
    ]
    found = {name: preprocessing(model, preprocess, name) for name in names}
    assumed = next((each for _, each in found.values() if each is not None), None)
    return Reader(model, {name: how for name, (how, _) in found.items()}, assumed)


def _explained_feeds(
    explainer: Explainer, given: Mapping[str, Any], selection: Selection, preprocess: Preprocessing | None
) -> Explanations:
    """Explain what is given for each input by its name."""
    return _explained(explainer, reader_of(explainer.model, preprocess).samples(given), selection)


def _explained_numbers(
    explainer: Explainer, name: str, given: Any, selection: Selection, *, one: bool
) -> Any:
    """Explain a signal, a volume or whatever else is no picture; several, if a batch or a list is given."""
    reader = Reader(explainer.model, {})
    several = isinstance(given, list | tuple)
    samples = [s for each in (given if several else [given]) for s in reader.samples({name: each})]
    found = _explained(explainer, samples, selection)
    return found[0] if one and not several and len(samples) == 1 else found


def _explained(explainer: Explainer, samples: Sequence[Sample], selection: Selection) -> Explanations:
    """Explain samples, as many at once as the model takes, and of one shape."""
    most, found = explainer.model.batch or _AT_ONCE, Explanations()
    for start in range(0, len(samples), most):
        alike = [list(group) for _, group in groupby(samples[start : start + most], key=_shapes)]
        for image, each in enumerate(
            one for group in alike for one in explain_samples(explainer, group, selection)
        ):
            found += [replace(one, image=start + image) for one in each]
    return found


def _shapes(sample: Sample) -> Any:
    """Return what samples have to share to be explained together."""
    return [(name, array.shape) for name, array in sample.feeds.items()]


class _Image(NamedTuple):
    photo: Photo
    name: str
    is_prepared: bool
    """Whether it was given as the model takes it."""


@dataclass(frozen=True)
class _Front:
    """What is done to each image."""

    explainer: Explainer
    selection: Selection
    how: Preprocess | CustomPreprocess
    assumed: str | None

    def explained(self, images: Iterable[Any]) -> Iterator[Explanation]:
        """Explain images one batch after another, in their order; read no more of them than a batch needs."""
        seen = 0
        for batch in self._batches(images):
            photos, names = [each.photo for each in batch], [each.name for each in batch]
            assumed = None if all(each.is_prepared for each in batch) else self.assumed
            found = explain_photos(self.explainer, photos, self.selection, self.how, names, assumed)
            for number, explanations in enumerate(found, seen):
                yield from (replace(one, image=number) for one in explanations)
            seen += len(batch)

    def _batches(self, images: Iterable[Any]) -> Iterator[list[_Image]]:
        """Group images of one size that follow each other, as many as the model takes at once."""
        most, batch = self.explainer.model.batch or _AT_ONCE, list[_Image]()
        for one in self._read(images):
            if batch and (len(batch) == most or one.photo.tensor.shape != batch[0].photo.tensor.shape):
                yield batch
                batch = []
            batch.append(one)
        if batch:
            yield batch

    def _read(self, images: Iterable[Any]) -> Iterator[_Image]:
        for number, given in enumerate(images):
            source = given if isinstance(given, Source) else self.source(given)
            name = source.name or (f"image {number}" if number else "photograph")
            for photo, _ in photos_of(self.explainer.model, self._input, self.how, source):
                yield _Image(photo, name, source.numbers is not None)

    def source(self, given: Any) -> Source:
        """Read an image; numbers come out as a batch that fits the model."""
        return source_for(self.explainer.model, self._input, self.how, given)

    @property
    def _input(self) -> str:
        return self.explainer.model.inputs[0]
