"""Whether a picture is about the image, and about the class, tried with two of each."""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np

from onnx_deconv.compiler.pair import Pair
from onnx_deconv.imaging.similarity import pearson
from onnx_deconv.model import Array, Model
from onnx_deconv.runtime import PairSession, Providers, SignalMeter, Survival, numpy_of
from onnx_deconv.semantics import Semantics
from onnx_deconv.verification.batch import axes_told, strongest_unit
from onnx_deconv.verification.checks import COMPANION_LIMIT, HALF_LIMIT, Check

ALIKE = 0.99
"""A correlation from which on two pictures are called alike."""


def check_dependence(session: PairSession, feeds: Mapping[str, Array]) -> Iterator[Check]:
    """Explain one unit in two images, and two units in one image; compare the pictures.

    The second image is the first one, reversed along its last axis; the units are the two strongest of the
    first image. How alike pictures are depends on the network, and is told. An error is only what contradicts
    the manifest: pictures that differ although nothing of the image is said to take part.

    Parameters
    ----------
    session
        The pair.
    feeds
        One batch, by input name.

    Yields
    ------
    Check
        ``image``, and ``class`` where the explained value has several units. The error is by how much the
        correlation falls short of 1 where it has to be 1, else 0.
    """
    manifest = session.pair.manifest
    rules, depends = manifest["semantics"]["rules"], manifest["image_dependence"]["depends"]
    limit = HALF_LIMIT if manifest["semantics"]["precision"] == "float16" else COMPANION_LIMIT
    likeness = likeness_of_images(session, feeds, {name: _reversed(array) for name, array in feeds.items()})
    error = 1 - likeness if depends == "no" and likeness is not None else 0.0
    yield Check(
        "image", rules, error, limit, f"two images: {told(likeness)}; depends on the image: {depends}"
    )
    values = session.run_forward(feeds)
    explained, axes = numpy_of(values[manifest["explained"]["value"]]), axes_told(session.pair)
    if axes.canonical(explained)[0].size > 1:
        first = strongest_unit(explained, axes)
        one = _picture(session, values, first)
        second = strongest_unit(np.where(first > 0, -np.inf, explained), axes)
        likeness = correlation(one, _picture(session, values, second))
        yield Check("class", rules, 0.0, limit, f"the two strongest units: {told(likeness)}")


def likeness_of_images(
    session: PairSession, feeds: Mapping[str, Array], others: Mapping[str, Array]
) -> float | None:
    """Correlate the pictures of one unit, the strongest in the first of two batches, in both of them."""
    values = session.run_forward(feeds)
    explained = numpy_of(values[session.pair.manifest["explained"]["value"]])
    seed = strongest_unit(explained, axes_told(session.pair))
    return correlation(_picture(session, values, seed), _picture(session, session.run_forward(others), seed))


def survival(
    model: Model, pair: Pair, feeds: Mapping[str, Array], providers: Providers = "auto"
) -> Survival | None:
    """Tell what became of the worst of a batch's signals, each of an image's strongest unit.

    Parameters
    ----------
    model
        The model that the pair was made of, or its forward model.
    pair
        The pair.
    feeds
        One batch, by input name.
    providers
        What to run on.

    Returns
    -------
    Survival or None
        ``None`` where nothing rectifies the signal.
    """
    manifest = pair.manifest
    inputs = [each["of"] for each in manifest["reconstructions"]]
    value, semantics = manifest["explained"]["value"], Semantics(**manifest["semantics"])
    meter = SignalMeter(model, value, semantics, inputs, providers)
    unit = partial(strongest_unit, axes=axes_told(pair))
    worst = min(meter(feeds, unit), key=lambda each: each.share)
    return worst if worst.at is not None else None


def check_survival(
    model: Model, pair: Pair, feeds: Mapping[str, Array], providers: Providers = "auto"
) -> Iterator[Check]:
    """Tell how much of the signal its rectifiers let through; nothing of that is an error."""
    found = survival(model, pair, feeds, providers)
    if found is not None:
        yield Check("signal", pair.manifest["semantics"]["rules"], 0.0, COMPANION_LIMIT, found.words)


def correlation(one: Array, other: Array) -> float | None:
    """Correlate two pictures' magnitudes; ``None`` where one of them is the same everywhere."""
    return pearson(np.abs(one), np.abs(other))


def _picture(session: PairSession, values: Mapping[str, Any], seed: Array) -> Array:
    (result, *_) = session.pair.manifest["reconstructions"]
    return session.run_deconv(values, seed.astype(session.seed_dtype))[result["name"]]


def _reversed(array: Array) -> Array:
    return np.ascontiguousarray(array[..., ::-1]) if array.ndim > 1 and array.dtype.kind == "f" else array


def told(likeness: float | None) -> str:
    """Say how alike two pictures are."""
    if likeness is None:
        return "nothing to compare"
    return f"pictures correlate {likeness:.2f}" + (", they are alike" if likeness >= ALIKE else "")
