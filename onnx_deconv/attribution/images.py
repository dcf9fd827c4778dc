"""Explain images however a program holds them: what :meth:`Explainer.explain` does."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple, overload

import numpy as np

from onnx_deconv.attribution.explainer import Explainer, Targets
from onnx_deconv.attribution.explanation import Explanation
from onnx_deconv.attribution.explanations import Explanations
from onnx_deconv.attribution.method import AUTO
from onnx_deconv.attribution.photographs import Target, explain_photos
from onnx_deconv.attribution.seed import SeedKind
from onnx_deconv.errors import InputError
from onnx_deconv.imaging import (
    PRESETS,
    CustomPreprocess,
    Geometry,
    Image,
    ImageInput,
    Photo,
    Preprocess,
    Source,
    holds_several,
    preprocess_for,
    read_source,
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
    model: Model, chosen: Preprocessing | None = None
) -> tuple[Preprocess | CustomPreprocess, str | None]:
    """Decide how a photograph becomes a model's input.

    Parameters
    ----------
    model
        The model.
    chosen
        By default what the model's metadata say, a ``preprocessor_config.json`` (Hugging Face) or
        ``config.json`` (timm) beside it, else the preset ``imagenet``.

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
        return preprocess_for(model, chosen)
    if isinstance(chosen, str | os.PathLike):
        is_file = Path(chosen).suffix == ".json"
        return preprocess_for(model, Path(chosen) if is_file else str(chosen))
    takes = ImageInput.of(model)
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
    seed: SeedKind = "auto",
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
    explainer = Explainer(model, method, **options)
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
    seed: SeedKind = "auto",
    preprocess: Preprocessing | None = None,
) -> Explained:
    """Explain one image or several; see :meth:`onnx_deconv.attribution.explainer.Explainer.explain`."""
    several = isinstance(target, list | tuple | range | np.ndarray)
    targets: list[Any] = [] if target is None else list(target) if several else [target]  # type: ignore[arg-type]
    if targets and top > 1:
        raise InputError("top takes the strongest: leave out target")
    chosen = Target(targets, layer, position, top, seed)
    if len(explainer.model.inputs) > 1:
        return _explained_feeds(explainer, images, chosen)
    how, assumed = preprocessing(explainer.model, preprocess)
    front = _Front(explainer, chosen, how, assumed)
    if holds_several(images):
        found = front.explained(images)
        return Explanations(found) if isinstance(images, list | tuple) else found
    source = front.source(images)
    explained = Explanations(front.explained([source]))
    return explained if source.several or several or top > 1 else explained[0]


def _explained_feeds(explainer: Explainer, feeds: Mapping[str, Any], target: Target) -> Explanations:
    """Explain a batch of a model with several inputs, one array for each; there are no pictures of it."""
    batch = {name: np.asarray(array) for name, array in feeds.items()}
    how: dict[str, Any] = {"layer": target.layer, "position": target.position, "seed": target.seed}
    columns = [explainer(batch, each, **how) for each in target.targets]
    columns = columns or [explainer(batch, top=target.top, **how)]
    return Explanations(sorted((one for column in columns for one in column), key=lambda one: one.image))


class _Image(NamedTuple):
    photo: Photo
    name: str


@dataclass(frozen=True)
class _Front:
    """What is done to each image."""

    explainer: Explainer
    target: Target
    how: Preprocess | CustomPreprocess
    assumed: str | None

    def explained(self, images: Iterable[Any]) -> Iterator[Explanation]:
        """Explain images one batch after another, in their order; read no more of them than a batch needs."""
        seen = 0
        for batch in self._batches(images):
            photos, names = [each.photo for each in batch], [each.name for each in batch]
            found = explain_photos(self.explainer, photos, self.target, self.how, names, self.assumed)
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
            for picture in source.pictures:
                yield _Image(Photo(picture, *self.how.apply(picture)), name)
            for tensor in () if source.numbers is None else source.numbers:
                yield _Image(self._seen_by_the_model(tensor), name)

    def source(self, given: Any) -> Source:
        """Read an image; numbers come out as a batch that fits the model."""
        takes = ImageInput.of(self.explainer.model, self.how.layout)
        source = Source(numbers=np.asarray(given)) if _is_for(takes, given) else read_source(given)
        if source.numbers is None:
            return source
        numbers, axes = source.numbers, len("NCHW")
        batch = numbers[None] if numbers.ndim == axes - 1 else numbers
        shape = self.explainer.model.type_of(takes.name).shape or ()
        fits = batch.ndim == axes and batch.dtype.kind == np.dtype(takes.dtype).kind
        if not fits or any(d not in (None, a) for d, a in zip(shape[1:], batch.shape[1:], strict=True)):
            given_shape = "×".join(map(str, numbers.shape))
            raise InputError(
                f"an array of {numbers.dtype} {given_shape} is taken as the model takes it, but input "
                f"{takes.name!r} takes {self.explainer.model.type_of(takes.name)} {takes.dtype}; a picture "
                "is uint8, H×W×3"
            )
        return replace(source, numbers=batch.astype(takes.dtype, copy=False), several=batch is numbers)

    def _seen_by_the_model(self, tensor: Array) -> Photo:
        """Make a photograph of what the model takes."""
        if isinstance(self.how, CustomPreprocess):
            raise InputError(
                "float arrays are preprocessed already: give pictures, or no function as preprocess"
            )
        picture = self.how.undone(tensor)
        size = (picture.shape[0], picture.shape[1])
        return Photo(picture, tensor, Geometry(size, size, size, (0, 0)))


def _is_for(takes: ImageInput, given: Any) -> bool:
    """Tell whether an array of uint8 is no picture but what a model of uint8 takes, channels first."""
    if takes.dtype != "uint8" or takes.layout != "NCHW" or not isinstance(given, np.ndarray):
        return False
    return (
        given.dtype == np.uint8
        and given.ndim >= len("CHW")
        and given.shape[-3] == takes.channels != given.shape[-1]
    )
