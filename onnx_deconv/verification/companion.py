"""The companion against the slow reference, on the very forward values that it reads."""

from collections.abc import Iterator, Mapping
from math import prod
from typing import Any, get_args

import numpy as np

from onnx_deconv.errors import MissingRuleError, ModelError, RuleError
from onnx_deconv.model import Array
from onnx_deconv.runtime import first_nan
from onnx_deconv.verification.batch import Batch, strongest_unit
from onnx_deconv.verification.checks import COMPANION_LIMIT, HALF_LIMIT, Check, relative_error
from onnx_deconv.verification.reference import ReferenceOptions, ReferenceRules, reference
from onnx_deconv.verification.switches import SwitchWindows

SMALL = 20_000_000
"""Numbers in a model's weights up to which a second, random seed is sent back: slow on larger ones."""

_TIE_ROUNDS = 200
"""How often ties are decided anew: a number raised in one window may come first in another."""


def check_companion(batch: Batch, rng: np.random.Generator) -> Iterator[Check]:
    """Compare what companion and reference send back: of the strongest unit and, unless slow, of noise."""
    values = settled(batch)
    explained = batch.values[batch.explained]
    yield compared(batch, values, "strongest unit", strongest_unit(explained))
    if sum(prod(t.dims) for t in batch.model.tensors.values()) <= SMALL:
        noise = np.asarray(rng.standard_normal(explained.shape), np.float32)
        yield compared(batch, values, "random seed", noise)


def compared(batch: Batch, values: Mapping[str, Array], kind: str, seed: Array) -> Check:
    """Compare the companion with the reference, on one seed."""
    semantics, entries = batch.pair.manifest["semantics"], batch.pair.manifest["reconstructions"]
    limit = HALF_LIMIT if semantics["precision"] == "float16" else COMPANION_LIMIT
    names = [e["of"] for e in entries]
    try:
        expected = reference(batch.graph, values, batch.explained, seed, names, _options(semantics))
    except (MissingRuleError, RuleError, ModelError) as error:
        return Check("companion", semantics["rules"], None, limit, f"{kind}: {_why(error)}")
    found = batch.session.run_deconv(batch.passed, seed.astype(batch.session.seed_dtype))
    if not all(np.isfinite(result).all() for result in found.values()):
        own = first_nan(batch.pair.forward, batch.pair.folder, batch.feeds)
        if own is not None:
            return Check(
                "companion", semantics["rules"], None, limit, f"{kind}: the model's own {own} gives NaN"
            )
    errors = [relative_error(found[e["name"]], expected[e["of"]]) for e in entries]
    empty = not any(e.any() for e in expected.values())
    detail = f"{kind}{': nothing arrives, in the reference either' if empty else ''}"
    return Check("companion", semantics["rules"], max(errors), limit, detail)


def _options(semantics: Mapping[str, Any]) -> ReferenceOptions:
    if semantics.get("cam", "none") != "none" or semantics.get("head", "signal") != "signal":
        raise RuleError("the reference knows neither class activation maps nor class maps")
    if semantics["rules"] not in get_args(ReferenceRules):
        raise RuleError(f"the reference has no rule table {semantics['rules']!r}")
    return ReferenceOptions(
        rules=semantics["rules"],
        activations=semantics["activations"],
        lrn=None if semantics["lrn"] == "auto" else semantics["lrn"],
        unpool=semantics["unpool"],
    )


def _why(error: Exception) -> str:
    if isinstance(error, MissingRuleError):
        return f"the reference lacks {', '.join(sorted({operator for operator, _ in error.missing}))}"
    return str(error)


def settled(batch: Batch) -> Mapping[str, Array]:
    """Return the forward values for the reference: ties of a maximum are decided as the switches say.

    Where a runtime computes a float16 pool in float32, or finds maxima in another order, its
    switches are as right as the first in each window, which the reference takes. What the
    switches point to is raised by the smallest amount that float64 can hold.
    """
    raised: dict[str, Array] = {}
    for name, pool in batch.pools.items():
        x = batch.values[pool.input[0]]
        windows = SwitchWindows.of(pool, x.shape, batch.values[pool.output[0]].shape)
        higher = _raised(windows, x, windows.by_row(batch.values[name]))
        if higher is not None:
            raised[pool.input[0]] = higher
    return {**batch.values, **raised}


def _raised(windows: SwitchWindows, x: Array, switches: Array) -> Array | None:
    """Return x, what the switches point to raised above what comes first, or None if nothing had to be."""
    raised = x.astype(np.float64)
    for done in range(_TIE_ROUNDS):
        first = windows.first_maxima(raised)
        other = first != switches
        if not other.any():
            return raised if done else None
        flat = raised.reshape(-1)
        raising: Array = np.nextafter(flat[first[other]], np.inf)
        np.maximum.at(flat, switches[other], raising)
    return raised
