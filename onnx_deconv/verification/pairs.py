"""Checking a pair: all that can be said of it on one batch."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np

from onnx_deconv.compiler.backward import SEED
from onnx_deconv.compiler.package import reading_with
from onnx_deconv.compiler.pair import Pair, compile_pair
from onnx_deconv.model import Array, Model
from onnx_deconv.runtime import PairSession, Providers, Session, numpy_of, seed_type, why_not_finite
from onnx_deconv.semantics import Semantics
from onnx_deconv.verification.batch import Batch, axes_told, strongest_unit
from onnx_deconv.verification.checks import Check, same_but_for_rounding, same_outputs
from onnx_deconv.verification.companion import check_companion
from onnx_deconv.verification.dependence import check_dependence, check_survival
from onnx_deconv.verification.differences import check_differences
from onnx_deconv.verification.switches import check_switches


def verify(
    model: Model,
    feeds: Mapping[str, Array],
    layer: str | None = None,
    tables: Sequence[str] = ("deconvnet", "guided", "gradient"),
    semantics: Semantics | None = None,
    providers: Providers = "auto",
    rng: np.random.Generator | None = None,
    saved: Pair | None = None,
    watch: Callable[[Sequence[str]], Iterable[str]] = iter,
) -> Iterator[Check]:
    """Check the pair of a model on one batch.

    Parameters
    ----------
    model
        The user's model.
    feeds
        One batch, by input name.
    layer
        What to explain; by default the scores.
    tables
        The rule tables to check.
    semantics
        The other choices.
    providers
        What to run on; the reference is NumPy in any case.
    rng
        Where random seeds and directions come from.
    saved
        A pair of that model to check in place of new ones; its own layer, table and choices then hold. The
        model may be its forward model.
    watch
        Goes through the tables; one that shows the progress, say.

    Yields
    ------
    Check
        As each is done.

    Raises
    ------
    DeconvError
        If there is no pair to check: a rule is missing, the layer is unknown, the batch does not fit.
    """
    rng = rng or np.random.default_rng(0)
    saved = None if saved is None else reading_with(saved, model)
    model.files.keep()
    original = Session(model.proto, model.folder, providers).run(feeds)
    for rules in watch(tables if saved is None else [saved.manifest["semantics"]["rules"]]):
        pair = saved or compile_pair(model, layer, semantics=replace(semantics or Semantics(), rules=rules))
        plain = PairSession(pair, providers)
        yield _same_outputs(model, pair, feeds, providers, original, plain.run_forward(feeds))
        batch = Batch(model, pair, feeds, providers)
        if batch.pools and (saved is not None or rules == tables[0]):
            yield check_switches(batch)
        yield from check_companion(batch, rng)
        yield from check_dependence(plain, feeds)
        yield from check_survival(model, pair, feeds, providers)
        if rules == "gradient":
            yield from check_differences(batch, plain, rng)


def check_pair(
    model: Model, original: Session, pair: Pair, feeds: Mapping[str, Array], providers: Providers = "auto"
) -> Iterator[Check]:
    """Check a pair, such as one that was saved, quickly: outputs are equal, reconstructions are finite.

    Both models are run as their users will run them.

    Parameters
    ----------
    model
        The user's model.
    original
        The same, ready to run.
    pair
        The pair.
    feeds
        One batch, by input name.
    providers
        What to run on.

    Yields
    ------
    Check
        ``forward``, then ``companion`` for each explained input: the number of values that are not finite.
    """
    session, companion = (Session(part, pair.folder, providers) for part in (pair.forward, pair.deconv))
    values = session.run_plainly(feeds)
    yield _same_outputs(model, pair, feeds, providers, original.run(feeds), values)
    explained = numpy_of(values[pair.manifest["explained"]["value"]])
    reads = {name: values[name] for name in companion.inputs if name != SEED}
    sent = {**reads, SEED: strongest_unit(explained, axes_told(pair)).astype(seed_type(companion))}
    found = companion.run_plainly(sent)
    for entry in pair.manifest["reconstructions"]:
        result, shape = found[entry["name"]], _shape(entry["shape"], feeds[entry["of"]].shape)
        bad = int((~np.isfinite(result)).sum()) if result.shape == shape else prod(shape)
        sizes = "×".join(map(str, result.shape))
        reason = f" ({why_not_finite(pair, feeds, sent)})" if not np.isfinite(result).all() else ""
        yield Check("companion", entry["of"], float(bad), 0.0, sizes + reason)


def _same_outputs(
    model: Model,
    pair: Pair,
    feeds: Mapping[str, Array],
    providers: Providers,
    original: Mapping[str, Any],
    found: Mapping[str, Any],
) -> Check:
    """Compare the forward model's outputs with the user's model's."""

    def unoptimised() -> tuple[Mapping[str, Any], Mapping[str, Any]]:
        both = ((model.proto, model.folder), (pair.forward, pair.folder))
        own, made = (Session(*each, providers, optimised=False).run(feeds) for each in both)
        return own, made

    check = same_outputs(model, original, found, pair.manifest["semantics"]["rules"])
    return same_but_for_rounding(check, model, original, unoptimised)


def _shape(stated: Sequence[int | str] | None, given: Sequence[int]) -> tuple[int, ...]:
    """Return the shape of a reconstruction: the image's, but for sizes of its own, as a map's one channel."""
    own = given if stated is None else stated
    return tuple(mine if isinstance(mine, int) else size for mine, size in zip(own, given, strict=True))
