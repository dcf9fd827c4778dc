"""Whether a model's answer for an image depends on the images beside it."""

from collections.abc import Callable, Mapping

import numpy as np

from onnx_deconv.errors import InputError
from onnx_deconv.imaging import Preprocess
from onnx_deconv.model import Array, Model
from onnx_deconv.verification.random_feeds import random_feeds

_LOUDER = 10
"""How many times larger the numbers of other images are: an average or a maximum over all is theirs then."""
_EQUAL = 1e-4
"""What rounding may differ by, as a share of the largest number; mostly there is no difference."""


def heeds_neighbours(
    model: Model, run: Callable[[Mapping[str, Array]], Mapping[str, Array]], preprocess: Preprocess | None
) -> bool:
    """Tell whether an image gets another answer beside other images than beside copies of itself.

    So it is where a model divides by a maximum or takes off an average over the whole batch, or quantises
    it by one range that it finds at run time. It is tried with random images, the first and the last of a
    batch.

    Parameters
    ----------
    model
        The model, whose first axes are all those of the images.
    run
        Runs it; returns what it gives, by output name.
    preprocess
        As for :func:`~onnx_deconv.verification.random_feeds`.

    Returns
    -------
    bool
        Also false where only callers know the sizes of its inputs, so that nothing can be tried.
    """
    images = model.batch or 2
    if images == 1:
        return False
    try:
        feeds, others = (random_feeds(model, np.random.default_rng(k), preprocess) for k in (0, 1))
    except InputError:
        return False
    try:
        return _differs(run, feeds, others, images)
    except InputError:  # it takes fewer images than it says
        return True


def _differs(
    run: Callable[[Mapping[str, Array]], Mapping[str, Array]],
    feeds: Mapping[str, Array],
    others: Mapping[str, Array],
    images: int,
) -> bool:
    alone = run({name: _row([array[0]] * images) for name, array in feeds.items()})
    for place in (0, images - 1):
        beside = {}
        for name, array in feeds.items():
            other = others[name][0]
            rows = [other * _LOUDER if other.dtype.kind == "f" else other] * images
            beside[name] = _row([*rows[:place], array[0], *rows[place + 1 :]])
        found = run(beside)
        if any(not _equal(alone[name][place], found[name][place]) for name in alone):
            return True
    return False


def _row(images: list[Array]) -> Array:
    return np.stack(images).astype(images[0].dtype)


def _equal(one: Array, other: Array) -> bool:
    if one.dtype.kind != "f":
        return np.array_equal(one, other)
    scale = np.abs(one).max(initial=0)
    return bool(np.allclose(one, other, rtol=0, atol=_EQUAL * float(scale), equal_nan=True))
