"""The companion against the slow reference, on the very forward values that it reads."""

from collections.abc import Iterator, Mapping
from math import prod

import numpy as np

from onnx_deconv.errors import MissingRuleError, ModelError, RuleError
from onnx_deconv.model import Array
from onnx_deconv.runtime import first_nan
from onnx_deconv.semantics import Semantics
from onnx_deconv.verification.answers import answer
from onnx_deconv.verification.batch import Batch, axes_told, strongest_unit
from onnx_deconv.verification.checks import COMPANION_LIMIT, HALF_LIMIT, Check, relative_error
from onnx_deconv.verification.reference import TABLES
from onnx_deconv.verification.switches import SwitchWindows

SMALL = 20_000_000
"""Numbers in a model's weights up to which a second, random seed is sent back: slow on larger ones."""

_LIMITS = {"excitation": 1e-3, **dict.fromkeys(TABLES, 1e-3)}
"""Of tables of relevance: shares are rounded at each division."""

_TIE_ROUNDS = 200
"""How often ties are decided again: a number raised in one window may come first in another."""


def check_companion(batch: Batch, rng: np.random.Generator) -> Iterator[Check]:
    """Compare what companion and reference send back: of the strongest unit and, unless slow, of noise."""
    semantics = Semantics(**batch.pair.manifest["semantics"])
    check = kept if semantics.rules == "excitation" and not semantics.reads_feature_maps else compared
    values = settled(batch)
    explained = batch.values[batch.explained]
    yield check(batch, values, "strongest unit", strongest_unit(explained, axes_told(batch.pair)))
    if semantics.cam != "none":
        return  # of noise there is hardly a map: channels cancel each other out
    if sum(prod(t.dims) for t in batch.model.tensors.values()) <= SMALL:
        yield check(batch, values, "random seed", _noise(semantics.rules, explained, rng))


def _noise(rules: str, explained: Array, rng: np.random.Generator) -> Array:
    """Draw a seed: a probability is not negative, and relevance is of the size of the value it is of."""
    noise = np.asarray(rng.standard_normal(explained.shape), np.float32)
    if rules == "excitation":
        return np.abs(noise)
    return noise * explained if rules in TABLES else noise


def compared(batch: Batch, values: Mapping[str, Array], kind: str, seed: Array) -> Check:
    """Compare the companion with the reference, on one seed."""
    entries = batch.pair.manifest["reconstructions"]
    try:
        expected = answer(batch, values, seed)
    except (MissingRuleError, RuleError, ModelError) as error:
        return _check(batch, None, f"{kind}: {_why(error)}")
    found = batch.session.run_deconv(batch.passed, seed.astype(batch.session.seed_dtype))
    if not all(np.isfinite(result).all() for result in found.values()):
        own = first_nan(batch.pair.forward, batch.pair.folder, batch.feeds)
        if own is not None:
            return _check(batch, None, f"{kind}: the model's own {own} gives NaN")
    errors = [relative_error(found[e["name"]], expected[e["of"]]) for e in entries]
    if max(errors) > _limit(batch) and batch.is_constant:
        detail = (
            f"{kind}: what arrives is rounding, as the model gives {batch.explained!r} alike for other images"
        )
        return _check(batch, None, detail)
    empty = not any(e.any() for e in expected.values())
    nothing = ": nothing arrives, in the reference either" if empty else ""
    return _check(batch, max(errors), kind + nothing)


def kept(batch: Batch, _values: Mapping[str, Array], kind: str, seed: Array) -> Check:
    """Tell which share of the probability that was sent was lost, gained or turned negative."""
    found = batch.session.run_deconv(batch.passed, seed.astype(batch.session.seed_dtype)).values()
    shares, sent = np.concatenate([result.ravel() for result in found]), seed.sum(dtype=np.float64)
    wrong = abs(shares.sum(dtype=np.float64) - sent) - np.minimum(shares, 0).sum(dtype=np.float64)
    return _check(batch, float(wrong / sent), f"{kind}: shares that add up to it")


def _check(batch: Batch, error: float | None, detail: str) -> Check:
    return Check("companion", batch.pair.manifest["semantics"]["rules"], error, _limit(batch), detail)


def _limit(batch: Batch) -> float:
    """Return how far off a reconstruction of a pair may be."""
    semantics = batch.pair.manifest["semantics"]
    if semantics["precision"] == "float16":
        return HALF_LIMIT
    return _LIMITS.get(semantics["rules"], COMPANION_LIMIT)


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
