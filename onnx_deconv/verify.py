"""Check a model's pair against answers that do not come from the rules."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import onnx
from onnx import ModelProto, helper

from onnx_deconv.compile import Pair, compile_pair, scores_value
from onnx_deconv.image import Preprocess, read_image
from onnx_deconv.model import Array, Model
from onnx_deconv.reference import ReferenceOptions, reference
from onnx_deconv.runtime import PairSession, Session, numpy_of
from onnx_deconv.seed import make_seed, scores_of
from onnx_deconv.semantics import Rules, Semantics

TOLERANCE = 1e-4
"""Largest difference from the reference, relative to its largest number."""

OUTPUT_TOLERANCE = 1e-5
"""Of the forward model's outputs: a tapped value keeps the runtime from fusing the nodes around it."""

DIFFERENCE_TOLERANCE = 0.05
"""Of a finite difference in float32: its rounding, and rectifiers that switch within the step."""


@dataclass(frozen=True)
class Check:
    """One thing that was checked.

    Attributes
    ----------
    name
        What.
    error
        How far off it is.
    tolerance
        How far off it may be.
    """

    name: str
    error: float
    tolerance: float

    @property
    def passed(self) -> bool:
        """Whether the error is small enough; not if it is no number."""
        return self.error <= self.tolerance

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain JSON data."""
        return {**asdict(self), "passed": self.passed}


def random_feeds(model: Model, seed: int = 0, free: int = 64) -> dict[str, Array]:
    """Make random inputs, -1..1; where the model leaves sizes open the batch is 1, the others ``free``."""
    rng, feeds = np.random.default_rng(seed), {}
    for name in model.inputs:
        types = model.type_of(name)
        sizes = [d or (1 if k == 0 else free) for k, d in enumerate(types.shape or ())]
        feeds[name] = rng.uniform(-1, 1, sizes).astype(helper.tensor_dtype_to_np_dtype(types.dtype))
    return feeds


def image_feeds(model: Model, preprocess: Preprocess, path: str) -> dict[str, Array]:
    """Make the model's input of a photograph, repeated to its fixed batch size."""
    array, _ = preprocess.apply(read_image(path))
    shape = model.type_of(model.inputs[0]).shape
    return {model.inputs[0]: np.repeat(array[None], (shape[0] if shape else None) or 1, axis=0)}


def verify_model(
    model: Model, feeds: Mapping[str, Array], tables: Sequence[Rules], layer: str | None = None
) -> Iterator[Check]:
    """Check the pair of a model on one input.

    1. The forward model's own outputs equal the original's.
    2. Each switch points at a value equal to the maximum that the pool gave.
    3. For each rule table, the companion equals the slow reference (:mod:`onnx_deconv.reference`), fed with
       the same forward values, from the strongest unit of each image.
    4. The gradient table predicts what a small step along it changes, as the runtime computes it; that is
       float32, so it is a loose check.

    Parameters
    ----------
    model
        The model.
    feeds
        One batch, by input name.
    tables
        Rule tables to check.
    layer
        What to explain; by default the scores.

    Yields
    ------
    Check
        In that order.
    """
    value = scores_value(model)[0] if layer is None else model.layer(layer)
    original = Session(model.proto, model.folder, "cpu").run(feeds)
    shown, whole = _all_values(model, feeds), _with_weights(model)
    for table in tables:
        pair = compile_pair(model, value, semantics=Semantics(rules=table))
        session = PairSession(pair, "cpu")
        forward = {name: numpy_of(v) for name, v in session.run_forward(feeds).items()}
        if table == tables[0]:
            yield _same_outputs(model, original, forward)
            yield from _switches(pair, forward, shown)
        seed = _strongest_units(forward[value])
        found = session.run_deconv(forward, seed.astype(session.seed_dtype))
        entries = pair.manifest["reconstructions"]
        expected = reference(
            whole,
            {**shown, **forward},
            value,
            seed,
            [e["of"] for e in entries],
            ReferenceOptions(rules=table),
        )
        for entry in entries:
            error = relative(found[entry["name"]], expected[entry["of"]])
            yield Check(f"{table}: {entry['name']} equals the reference", error, TOLERANCE)
        if table == "gradient" and len(entries) == 1:
            yield _finite_difference(session, feeds, value, seed, entries[0]["of"], found[entries[0]["name"]])


def check_saved(model: Model, pair: Pair, times: int) -> Iterator[Check]:
    """Check a saved pair on random inputs: outputs equal the original's, reconstructions are finite."""
    original, session = Session(model.proto, model.folder, "cpu"), PairSession(pair, "cpu")
    value = pair.manifest["explained"]["value"]
    for k in range(times):
        feeds = random_feeds(model, seed=k)
        forward = {name: numpy_of(v) for name, v in session.run_forward(feeds).items()}
        yield _same_outputs(model, original.run(feeds), forward)
        seed = _strongest_units(forward[value])
        for entry in pair.manifest["reconstructions"]:
            found = session.run_deconv(forward, seed.astype(session.seed_dtype))[entry["name"]]
            fits = found.shape == feeds[entry["of"]].shape
            bad = int((~np.isfinite(found)).sum()) if fits else found.size
            yield Check(f"{entry['name']} is finite and has the input's shape", float(bad), 0.0)


def relative(found: Array, expected: Array) -> float:
    """Return the largest difference relative to the largest expected number."""
    difference = np.abs(found.astype(np.float64) - expected).max(initial=0.0)
    largest = np.abs(expected).max(initial=0.0)
    return float(difference / largest) if largest else float(difference)


def _strongest_units(explained: Array) -> Array:
    """Return a seed of 1 at the strongest unit of each image."""
    explained = explained.astype(np.float32)
    channels = [int(c) for c in scores_of(explained).argmax(axis=1)]
    seed, _ = make_seed(explained, channels, kind="strongest")
    return (seed != 0).astype(np.float32)


def _same_outputs(model: Model, original: Mapping[str, Any], forward: Mapping[str, Array]) -> Check:
    errors = [relative(forward[o], numpy_of(original[o]).astype(np.float64)) for o in model.outputs]
    return Check("forward outputs equal the original's", max(errors), OUTPUT_TOLERANCE)


def _switches(pair: Pair, forward: Mapping[str, Array], shown: Mapping[str, Array]) -> Iterator[Check]:
    producers = {v: n for n in pair.forward.graph.node for v in n.output}
    for entry in pair.manifest["deconv_inputs"]:
        if entry["kind"] == "switches" and entry["of"] in shown:
            pool = producers[entry["of"]]
            x, y = shown[pool.input[0]], shown[entry["of"]]
            if any(a.name == "storage_order" and a.i for a in pool.attribute):
                x = x.transpose(0, 1, *range(x.ndim - 1, 1, -1))
            error = np.abs(x.ravel()[forward[entry["name"]]].astype(np.float64) - y).max(initial=0.0)
            yield Check(f"switches of {entry['of']} point at the maxima", float(error), 0.0)


def _finite_difference(
    session: PairSession, feeds: Mapping[str, Array], value: str, seed: Array, name: str, gradient: Array
) -> Check:
    """Compare a step along the gradient with what the gradient says of it."""
    length = float(np.linalg.norm(gradient.astype(np.float64)))
    scale = float(np.abs(feeds[name]).max()) or 1.0
    if not length:
        return Check("gradient: finite difference", 0.0, DIFFERENCE_TOLERANCE)

    def score(x: Array) -> float:
        values = session.run_forward({**feeds, name: x.astype(feeds[name].dtype)})
        return float(np.vdot(seed, numpy_of(values[value]).astype(np.float64)))

    errors = []
    for step in (1e-2, 1e-3, 1e-4):
        move = gradient / length * step * scale * np.sqrt(gradient.size)
        predicted = float(np.vdot(gradient.astype(np.float64), move))
        change = (score(feeds[name] + move) - score(feeds[name] - move)) / 2
        errors.append(abs(change - predicted) / abs(predicted))
    return Check("gradient: finite difference in float32", min(errors), DIFFERENCE_TOLERANCE)


def _all_values(model: Model, feeds: Mapping[str, Array]) -> dict[str, Array]:
    """Compute every value of the view's graph with the runtime; constants and inputs among them."""
    shown = ModelProto()
    shown.CopyFrom(model.view)
    present = {o.name for o in shown.graph.output}
    for node in shown.graph.node:
        for name in node.output:
            if name and name not in present:
                shown.graph.output.append(onnx.helper.make_empty_tensor_value_info(name))
    found = Session(shown, model.folder, "cpu").run(feeds)
    return {**feeds, **{name: numpy_of(v) for name, v in found.items()}}


def _with_weights(model: Model) -> ModelProto:
    """Copy the view with its weights inside."""
    whole = ModelProto()
    whole.CopyFrom(model.view)
    onnx.external_data_helper.load_external_data_for_model(whole, str(model.folder))
    return whole
