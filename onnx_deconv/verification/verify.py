"""Is a pair exact? Checks against answers that share no code with the rules.

1. *forward*: the forward model gives what the user's own model gives.
2. *switches*: each points to a maximum of its own window.
3. *companion*: it sends a seed back as the slow reference does
   (:mod:`onnx_deconv.verification.reference`), which computes in float64 from the very forward values that
   the companion reads.
4. *difference*: what the gradient table predicts for a small step is what the runtime then computes.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from itertools import product
from math import prod
from typing import Any

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from onnx_deconv.attribution.seed import make_seed, scores_of
from onnx_deconv.compiler.forward import forward
from onnx_deconv.compiler.pair import Pair, compile_pair
from onnx_deconv.errors import MissingRuleError, RuleError
from onnx_deconv.model import Array, Model, all_tensors
from onnx_deconv.operators import Tap
from onnx_deconv.runtime import PairSession, Providers, Session, numpy_of
from onnx_deconv.semantics import Semantics
from onnx_deconv.verification.reference import ReferenceOptions, reference

FORWARD_LIMIT = 1e-5
"""Of an output, as a share of its largest number: a value that is tapped keeps the runtime from fusing the
nodes around it, which may round otherwise."""

COMPANION_LIMIT = 1e-4
"""Of a reconstruction, as a share of the reference's largest number."""

DIFFERENCE_LIMIT = 0.05
"""Of a finite difference in float32, as a share of the prediction. It is loose: a short step drowns in
rounding, a long one crosses rectifiers; the best of five steps counts."""

HALF_LIMIT = 1e-2
"""In place of the first two where numbers are float16 (eleven bits)."""

SMALL = 20_000_000
"""Numbers in a model's weights up to which a second, random seed is sent back: slow on larger ones."""

QUANTISED_LIMIT = 5e-2
"""For quantised models: onnxruntime fuses no two operators, and rounds, where the value between is read."""

_QUANTISERS = {"QuantizeLinear", "DynamicQuantizeLinear"}
_STEPS = (1.0, 1e-1, 1e-2, 1e-3, 1e-4)
"""Lengths of a finite difference, in standard deviations of the input's numbers."""

_ROUNDING = 1e3 * np.finfo(np.float32).eps
"""Of the score: what a step has to exceed to be told from rounding."""
_TIE_ROUNDS = 200
_HALF = (TensorProto.FLOAT16, TensorProto.BFLOAT16)


@dataclass(frozen=True)
class Check:
    """One thing that was checked.

    Attributes
    ----------
    name
        ``forward``, ``switches``, ``companion`` or ``difference``.
    of
        What it was checked of: a rule table, a value.
    error
        How far off it is; ``None`` where it could not be checked.
    limit
        How far off it may be.
    detail
        In words.
    """

    name: str
    of: str
    error: float | None
    limit: float
    detail: str = ""

    @property
    def passed(self) -> bool:
        """Whether it is near enough; not where it could not be checked, or is no number."""
        return self.error is not None and self.error <= self.limit

    def as_dict(self) -> dict[str, Any]:
        """Return everything as plain JSON data."""
        return {**asdict(self), "passed": self.passed}


def verify(
    model: Model,
    feeds: Mapping[str, Array],
    layer: str | None = None,
    tables: Sequence[str] = ("deconvnet", "guided", "gradient"),
    semantics: Semantics | None = None,
    providers: Providers = "auto",
    rng: np.random.Generator | None = None,
    saved: Pair | None = None,
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
        Where random seeds come from.
    saved
        A pair of that model to check in place of new ones; its own layer, table and choices then hold. The
        model may be its forward model.

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
    original = Session(model.proto, model.folder, providers).run(feeds)
    whole = _with_weights(model)
    for rules in tables if saved is None else [saved.manifest["semantics"]["rules"]]:
        chosen = replace(semantics or Semantics(), rules=rules)
        pair = saved or compile_pair(model, layer, semantics=chosen)
        plain = PairSession(pair, providers)
        yield same_outputs(model, original, plain.run_forward(feeds), rules)
        run = _Run(model, whole, pair, feeds, providers)
        if run.pools and (saved is not None or rules == tables[0]):
            yield run.switches()
        for kind, seed in run.seeds(rng):
            yield run.companion(kind, seed)
        if rules == "gradient":
            yield from run.differences(plain)


def check_pair(
    model: Model, original: Session, pair: Pair, feeds: Mapping[str, Array], providers: Providers = "auto"
) -> Iterator[Check]:
    """Check a pair, such as one that was saved, quickly: outputs are equal, reconstructions are finite.

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
    session = PairSession(pair, providers)
    values = session.run_forward(feeds)
    yield same_outputs(model, original.run(feeds), values, pair.manifest["semantics"]["rules"])
    explained = numpy_of(values[pair.manifest["explained"]["value"]])
    found = session.run_deconv(values, _top(explained).astype(session.seed_dtype))
    for entry in pair.manifest["reconstructions"]:
        result, shape = found[entry["name"]], feeds[entry["of"]].shape
        bad = int((~np.isfinite(result)).sum()) if result.shape == shape else prod(shape)
        sizes = "×".join(map(str, result.shape))
        yield Check("companion", entry["of"], float(bad), 0.0, f"finite, {sizes}")


def same_outputs(model: Model, original: Mapping[str, Any], found: Mapping[str, Any], of: str) -> Check:
    """Compare the forward model's own outputs with the user's model's.

    Parameters
    ----------
    model
        The user's model.
    original, found
        Results of both, as ``OrtValue`` s by name.
    of
        What the check is called after.

    Returns
    -------
    Check
        The largest error of any output; integers have to be equal.
    """
    errors = {o: relative_error(numpy_of(found[o]), numpy_of(original[o])) for o in model.outputs}
    worst = max(errors, key=lambda o: errors[o])
    half = any(model.type_of(name).dtype in _HALF for name in (*model.inputs, *model.outputs))
    limit = HALF_LIMIT if half else FORWARD_LIMIT
    limit = QUANTISED_LIMIT if any(node.op in _QUANTISERS for node in model.nodes) else limit
    detail = f"outputs {', '.join(errors)}" if len(errors) == 1 else f"{len(errors)} outputs, worst {worst}"
    return Check("forward", of, errors[worst], limit, detail)


def relative_error(found: Array, expected: Array) -> float:
    """Return the largest difference as a share of the largest expected number.

    Numbers that are not finite have to be the same in both; where all expected ones are zero, any
    other is infinitely wrong.
    """
    if found.shape != expected.shape:
        return float("inf")
    a, b = found.astype(np.float64), expected.astype(np.float64)
    finite = np.isfinite(b)
    if not np.array_equal(a[~finite], b[~finite], equal_nan=True):
        return float("inf")
    difference = float(np.abs(a[finite] - b[finite]).max(initial=0.0))
    largest = float(np.abs(b[finite]).max(initial=0.0))
    if difference == 0.0:
        return 0.0
    return difference / largest if largest else float("inf")


class _Run:
    """One batch that went forward through a pair whose forward model shows every value.

    Parameters
    ----------
    model, pair, feeds, providers
        What runs.
    whole
        The model's graph, flat and with its weights, for the reference.
    """

    def __init__(
        self, model: Model, whole: ModelProto, pair: Pair, feeds: Mapping[str, Array], providers: Providers
    ) -> None:
        self.model, self.whole, self.pair, self.feeds = model, whole, pair, feeds
        shown = replace(pair, forward=_showing_all(model, pair))
        self.session = PairSession(shown, providers)
        self.passed = self.session.run_forward(feeds)
        self.values = {v: numpy_of(value) for v, value in self.passed.items()} | dict(feeds)
        for new, value in model.gained.values.items():
            # An activation without the factor that the file writes with it.
            if value in self.values:
                self.values[new] = self.values[value] / model.read(model.tensors[f"{value}/factor"])
        self.explained = str(pair.manifest["explained"]["value"])
        producers = {v: n for n in whole.graph.node for v in n.output}
        entries = [e for e in pair.manifest["deconv_inputs"] if e["kind"] == "switches"]
        self.pools = {e["name"]: producers[e["of"]] for e in entries}

    def seeds(self, rng: np.random.Generator) -> Iterator[tuple[str, Array]]:
        """Yield what to send back: the strongest unit and, for models that are not large, noise."""
        explained = self.values[self.explained]
        yield "strongest unit", _top(explained)
        if sum(prod(t.dims) for t in self.model.tensors.values()) <= SMALL:
            yield "random seed", np.asarray(rng.standard_normal(explained.shape), np.float32)

    def switches(self) -> Check:
        """Check each switch: it lies in its window, and what it points to is the window's maximum."""
        wrong, ties, total = [], 0, 0
        for name, pool in self.pools.items():
            x, y = self.values[pool.input[0]], self.values[pool.output[0]]
            windows, found = _Windows.of(pool, x.shape, y.shape), self.values[name]
            total += found.size
            bad = ~windows.valid(x, y, found)
            ties += int((windows.first_maxima(x) != windows.by_row(found))[~bad].sum())
            if bad.any():
                wrong.append(f"{pool.name or pool.output[0]} ({int(bad.sum())} of {bad.size})")
        detail = f"{len(self.pools)} pools, {total} windows, {ties} ties not decided for the first"
        if wrong:
            detail += f"; wrong in {', '.join(wrong)}"
        return Check("switches", "all tables", float(len(wrong)), 0.0, detail)

    def companion(self, kind: str, seed: Array) -> Check:
        """Compare the companion with the reference, on one seed."""
        semantics = self.pair.manifest["semantics"]
        entries = self.pair.manifest["reconstructions"]
        half = semantics["precision"] == "float16"
        limit = HALF_LIMIT if half else COMPANION_LIMIT
        options = ReferenceOptions(
            rules=semantics["rules"],
            activations=semantics["activations"],
            lrn=None if semantics["lrn"] == "auto" else semantics["lrn"],
            unpool=semantics["unpool"],
        )
        names = [e["of"] for e in entries]
        try:
            expected = reference(self.whole, self.settled, self.explained, seed, names, options)
        except (MissingRuleError, RuleError) as error:
            return Check("companion", semantics["rules"], None, limit, f"not checked: {error}")
        found = self.session.run_deconv(self.passed, seed.astype(self.session.seed_dtype))
        errors = [relative_error(found[e["name"]], expected[e["of"]]) for e in entries]
        empty = not any(e.any() for e in expected.values())
        detail = f"{kind}{': nothing arrives, in the reference either' if empty else ''}"
        return Check("companion", semantics["rules"], max(errors), limit, detail)

    def differences(self, plain: PairSession) -> Iterator[Check]:
        """Compare a step along the gradient with what the gradient predicts for it."""
        if any(node.op in _QUANTISERS for node in self.model.nodes):
            return  # a rounded number stays as it is, or jumps
        seed = _top(self.values[self.explained])
        found = plain.run_deconv(plain.run_forward(self.feeds), seed.astype(plain.seed_dtype))
        for entry in self.pair.manifest["reconstructions"]:
            x, gradient = self.feeds[entry["of"]], found[entry["name"]].astype(np.float64)
            if x.dtype not in (np.float32, np.float64):
                continue  # a step that is short enough would be rounded away
            length, spread = np.linalg.norm(gradient), float(x.std()) or 1.0
            if not length:
                continue

            def score(moved: Array, name: str = entry["of"]) -> float:
                values = plain.run_forward({**self.feeds, name: moved})
                return float(np.vdot(seed, numpy_of(values[self.explained]).astype(np.float64)))

            errors = []
            for step in _STEPS:
                move = step * spread * gradient / length
                up, down = (x + move).astype(x.dtype), (x - move).astype(x.dtype)
                predicted = float(np.vdot(gradient, up.astype(np.float64) - down))
                high, low = score(up), score(down)
                if abs(predicted) > _ROUNDING * max(abs(high), abs(low)):
                    errors.append(abs(high - low - predicted) / abs(predicted))
            if not errors:
                continue  # no step stands out of the score's rounding
            detail = f"a step along the gradient of {entry['of']}, in the runtime's own precision"
            yield Check("difference", "gradient", min(errors), DIFFERENCE_LIMIT, detail)

    @cached_property
    def settled(self) -> Mapping[str, Array]:
        """The forward values for the reference: ties of a maximum are decided as the switches say.

        Where a runtime computes a float16 pool in float32, or finds maxima in another order, its
        switches are as right as the first in each window, which the reference takes. What the
        switches point to is raised by the smallest amount that float64 can hold.
        """
        settled: dict[str, Array] = {}
        for name, pool in self.pools.items():
            x = self.values[pool.input[0]]
            windows = _Windows.of(pool, x.shape, self.values[pool.output[0]].shape)
            switches, raised = windows.by_row(self.values[name]), x.astype(np.float64)
            for _ in range(_TIE_ROUNDS):
                first = windows.first_maxima(raised)
                other = first != switches
                if not other.any():
                    break
                flat = raised.reshape(-1)
                raising: Array = np.nextafter(flat[first[other]], np.inf)
                np.maximum.at(flat, switches[other], raising)
                settled[pool.input[0]] = raised
        return {**self.values, **settled}


@dataclass(frozen=True)
class _Windows:
    """Where the windows of a MaxPool look, straight from the operator's specification.

    ``positions[k][i, j]`` is the place along axis k of offset j in window i, -1 where it is padding.
    """

    shape: tuple[int, ...]
    positions: Sequence[Array]
    by_column: bool

    @classmethod
    def of(cls, pool: NodeProto, shape: tuple[int, ...], out: tuple[int, ...]) -> "_Windows":
        attributes = {a.name: helper.get_attribute_value(a) for a in pool.attribute}
        kernel = attributes["kernel_shape"]
        strides = attributes.get("strides", [1] * len(kernel))
        dilations = attributes.get("dilations", [1] * len(kernel))
        pads = attributes.get("pads", [0] * 2 * len(kernel))
        how = attributes.get("auto_pad", b"NOTSET").decode()
        positions = []
        for k, (size, count) in enumerate(zip(shape[2:], out[2:], strict=True)):
            reach = (count - 1) * strides[k] + (kernel[k] - 1) * dilations[k] + 1
            total = max(0, reach - size)
            begin = {
                "NOTSET": pads[k],
                "VALID": 0,
                "SAME_UPPER": total // 2,
                "SAME_LOWER": total - total // 2,
            }[how]
            starts = np.arange(count)[:, None] * strides[k] - begin
            places = starts + np.arange(kernel[k])[None] * dilations[k]
            positions.append(np.where((places >= 0) & (places < size), places, -1))
        return cls(shape, positions, attributes.get("storage_order", 0) == 1)

    def by_row(self, switches: Array) -> Array:
        """Return flat positions counted in row-major order, whatever the pool's storage order."""
        if not self.by_column:
            return switches
        backwards = (*self.shape[:2], *self.shape[:1:-1])
        n, c, *rest = np.unravel_index(switches, backwards)
        return np.ravel_multi_index((n, c, *rest[::-1]), self.shape)

    def first_maxima(self, x: Array) -> Array:
        """Return each window's first maximum in row-major order, as a flat position."""
        best = np.full((*x.shape[:2], *(len(p) for p in self.positions)), -np.inf)
        where = np.full(best.shape, -1, np.int64)
        strides = [prod(x.shape[k + 1 :]) for k in range(x.ndim)]
        images = strides[0] * np.arange(x.shape[0])[:, None] + strides[1] * np.arange(x.shape[1])[None]
        for offset in product(*(range(p.shape[1]) for p in self.positions)):
            places = [p[:, j] for p, j in zip(self.positions, offset, strict=True)]
            flat = np.ix_(*places)
            everywhere: tuple[Any, ...] = (slice(None), slice(None), *flat)
            candidate = x[everywhere].astype(np.float64)
            for along in flat:
                candidate = np.where(along >= 0, candidate, -np.inf)  # padding
            better = candidate > best
            position = sum(s * p for s, p in zip(strides[2:], flat, strict=True))
            best = np.where(better, candidate, best)
            where = np.where(better, images.reshape(*images.shape, *[1] * len(places)) + position, where)
        return where

    def valid(self, x: Array, y: Array, switches: Array) -> Array:
        """Tell for each switch whether it lies in its own window and points to the window's maximum."""
        found = self.by_row(switches)
        inside = (found >= 0) & (found < x.size)
        found = np.where(inside, found, 0)
        at = np.unravel_index(found, x.shape)
        own = np.meshgrid(*map(np.arange, y.shape), indexing="ij", sparse=True)
        for k in range(2):
            inside &= at[k] == own[k]
        for k, places in enumerate(self.positions):
            # All positions of the window along this axis, against the one that was chosen.
            here = places[own[k + 2]]
            inside &= (here == at[k + 2][..., None]).any(-1)
        first = self.first_maxima(x)
        maximum = np.where(first >= 0, x.reshape(-1)[first], x.dtype.type(0))
        pointed = x.reshape(-1)[found]
        return np.asarray(inside & (pointed == maximum) & (pointed == y))


def _top(explained: Array) -> Array:
    """Return a seed of 1 at the strongest position of each image's strongest channel."""
    explained = explained.astype(np.float32)
    channels = [int(c) for c in scores_of(explained).argmax(axis=1)]
    seed, _ = make_seed(np.where(np.isfinite(explained), explained, 0), channels, kind="strongest")
    spots = seed.reshape(len(seed), -1)
    top = np.zeros_like(spots)
    top[np.arange(len(spots)), np.abs(spots).argmax(1)] = 1
    return top.reshape(seed.shape)


def _showing_all(model: Model, pair: Pair) -> ModelProto:
    """Write the forward model anew with every value of the graph among its outputs."""
    entries = [e for e in pair.manifest["deconv_inputs"] if e["kind"] != "seed"]
    explained = str(pair.manifest["explained"]["value"])
    taps = [Tap(e["kind"], e["of"], e["name"]) for e in entries] + [Tap("value", explained, explained)]
    computed = [v for n in model.view.graph.node if n.op_type != "Constant" for v in n.output if v]
    # Values inside local functions and withdrawn operators get nodes of their own.
    taps += [Tap("value", v, v) for v in computed if v not in model.values and v != explained]
    full = forward(model, taps)
    shown = {o.name for o in full.graph.output}
    own = [v for n in full.graph.node if n.op_type != "Constant" for v in n.output if v and v not in shown]
    full.graph.output.extend(helper.make_empty_tensor_value_info(v) for v in own)
    return full


def _with_weights(model: Model) -> ModelProto:
    """Copy the model's flat graph, activations recognised, with its weights inside."""
    whole = ModelProto()
    whole.CopyFrom(model.view)
    del whole.graph.node[:]
    whole.graph.node.extend(model.node_proto(node) for node in model.nodes)
    held = {t.name for t in whole.graph.initializer} | {v for n in whole.graph.node for v in n.output}
    whole.graph.initializer.extend(t for name, t in model.tensors.items() if name not in held)
    for tensor in all_tensors(whole):
        if tensor.data_location == TensorProto.EXTERNAL:
            tensor.CopyFrom(numpy_helper.from_array(np.asarray(model.read(tensor)), tensor.name))
    return whole
