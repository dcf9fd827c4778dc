"""Batches of images: checked against a model's inputs, and cut into what it takes at once."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from onnx_deconv.errors import InputError
from onnx_deconv.model import Array, Model
from onnx_deconv.model.axis_names import axis_names, has_batches
from onnx_deconv.operators import traits_of
from onnx_deconv.operators.axes import BATCH
from onnx_deconv.operators.traits import RANGE

Batch = Any
"""Images as a model takes them, shape (N, ...), or the one image of a model that takes no batches: an array,
a tensor of any library that NumPy can read, nested lists, or one of these per input name; inputs without a
batch axis (flags, thresholds) as they are."""


def feeds_of(model: Model, batch: Batch) -> dict[str, Array]:
    """Return a batch by input name, each in the type that the input takes.

    Raises
    ------
    InputError
        If the batch does not fit the model's inputs.
    """
    names = model.inputs
    if not isinstance(batch, Mapping):
        if len(names) != 1:
            raise InputError(f"the model has inputs {', '.join(names)}: give a dict of arrays")
        batch = {names[0]: batch}
    if set(batch) != set(names):
        raise InputError(f"the model takes {', '.join(names)}; given: {', '.join(batch)}")
    feeds = {name: as_input(model, name, _as_batch(model, name, given)) for name, given in batch.items()}
    counts = {name: len(feeds[name]) for name in batched(model)}
    if len(set(counts.values())) > 1:
        numbers = ", ".join(f"{name}: {count}" for name, count in counts.items())
        raise InputError(f"every input needs the same number of images, not {numbers}")
    return feeds


def _as_batch(model: Model, name: str, given: Any) -> Array:
    """Return a batch; the one image that a model takes, as its file says, is a batch of one."""
    array, shape = as_array(name, given), model.type_of(name).shape
    alone = name in model.image_axis_added and shape is not None and array.ndim == len(shape) - 1
    return array[None] if alone else array


def as_array(name: str, given: Any) -> Array:
    """Make an array of what is given for an input: a NumPy array, a tensor of any library, or nested lists.

    Raises
    ------
    InputError
        If that cannot be done.
    """
    if isinstance(given, np.ndarray):
        return given
    for step in ("detach", "cpu"):  # PyTorch's tensors have to be taken from their graph and their device
        given = getattr(given, step, lambda given=given: given)()
    try:
        array = np.asarray(given)
    except Exception as error:
        raise InputError(
            f"input {name!r}: no array can be made of {type(given).__name__} ({error})"
        ) from error
    if array.dtype.kind not in "fiub":
        raise InputError(f"input {name!r}: give an array of numbers, not {type(given).__name__}")
    return array


def as_input(model: Model, name: str, array: Array) -> Array:
    """Return a batch in the type that an input of a model takes.

    Raises
    ------
    InputError
        If its shape or kind of numbers does not fit.
    """
    types = model.type_of(name)
    dtype = model.input_dtype(name)
    if array.dtype != dtype and not (array.dtype.kind == dtype.kind == "f"):
        raise InputError(
            f"input {name!r} takes {dtype} numbers, not {array.dtype}; preprocess the image first"
        )
    if types.shape is not None:
        skipped = int(name in batched(model))
        fits = array.ndim == len(types.shape) and all(
            d is None or d == a for d, a in zip(types.shape[skipped:], array.shape[skipped:], strict=True)
        )
        if fits and not array.size:
            raise InputError(f"input {name!r}: the batch is empty ({'×'.join(map(str, array.shape))})")
        if not fits:
            lacks = skipped and array.ndim == len(types.shape) - 1
            hint = ": add an axis for the images, array[None]" if lacks else ""
            raise InputError(f"input {name!r} has shape {types}, not {'×'.join(map(str, array.shape))}{hint}")
    check_finite(name, array)
    return array.astype(dtype, copy=False)


def check_finite(name: str, array: Array) -> None:
    """Make sure that no number of an input is infinite or NaN.

    Raises
    ------
    InputError
        If one is: names the first by its image and its place.
    """
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        place = np.argwhere(~np.isfinite(array))[0].tolist()
        which = f"image {place[0]} holds {array[tuple(place)]} at {place[1:]}" if place else f"is {array}"
        raise InputError(f"input {name!r}: {which}; all numbers have to be finite")


def chunks(model: Model, feeds: Mapping[str, Array]) -> Iterator[tuple[int, dict[str, Array]]]:
    """Cut a batch into what a model takes at once: all of it, its fixed batch size, or one image.

    One by one go the images of a model that finds one range for all of a batch, as one that was quantised
    dynamically does: what is told of an image does not depend on those beside it.

    Yields
    ------
    tuple
        The index of the first image, and the images by input name.

    Raises
    ------
    InputError
        If the number of images is no multiple of the fixed batch size.
    """
    total = length(model, feeds)
    step = model.batch or (1 if total == 1 or _has_ranges(model) else total)
    if total % step:
        raise InputError(f"the model takes {step} images at a time; {total} is no multiple of that")
    for first in range(0, total, step):
        cut = batched(model)
        yield first, {name: a[first : first + step] if name in cut else a for name, a in feeds.items()}


def _has_ranges(model: Model) -> bool:
    """Tell whether images that are kept apart to the end get one range in common on the way."""
    return any(RANGE in traits_of(node) for node in model.graph.nodes) and has_batches(model)


def length(model: Model, feeds: Mapping[str, Array]) -> int:
    """Return the number of images in a batch; 1 where no input has a batch axis."""
    return next((len(feeds[name]) for name in batched(model)), 1)


def batched(model: Model) -> list[str]:
    """List the inputs whose first axis is the batch."""
    names = axis_names(model).values
    return [
        name
        for name in model.inputs
        if (model.type_of(name).shape is None) or BATCH in next(iter(names.get(name, ())), ())
    ]
