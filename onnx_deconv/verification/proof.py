"""Proving a graph on the runtime that it was made for: its answers are compared with onnxruntime's."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from onnx import ModelProto

from onnx_deconv.compiler.explain_graph import ExplainGraph
from onnx_deconv.compiler.explain_manifest import other_target, own_top
from onnx_deconv.errors import InputError, ModelError, RuntimeUnavailableError
from onnx_deconv.model import Array, Model
from onnx_deconv.runtime import PROVERS, Prover, Session
from onnx_deconv.verification.checks import Check, output_limit, relative_error
from onnx_deconv.verification.random_feeds import random_feeds

PROOF = "proof"
"""What these checks are called."""

PROOF_LIMIT = 1e-3
"""Of each output, as a share of its largest number; of whole numbers the share of those that differ."""

_LEVELS = 255
"""What differences of pictures are shares of."""


_SPREAD = 2.0
"""The standard deviation of noise; some faults need values that no picture makes."""

_NOTHING = 1e-3
"""What differences are shares of where all expected numbers are 0: rounding may leave something of them."""

_NUDGE, _COARSE_NUDGE = 1e-6, 1e-3
"""By what share inputs are moved to learn what rounding does; the second for float16 and quantised models."""

_FEW = 1 / 64
"""What share of pixels is moved in place of that: the mean square is the same."""

_EMPTY_WORDS = (
    "Exception from", "FrontEnd API failed", "Model wasn't fully converted", "Failed operations", "Summary:",
)  # fmt: skip
"""What lines of OpenVINO's complaints begin with that do not say what is wrong."""

_MOST = 1e30
"""What an infinite error is ranked as."""

_NUDGES = 2
_MARGIN = 3
"""How many times as much another runtime's rounding may do as these small steps."""


class Question(NamedTuple):
    """What a graph is asked, and what onnxruntime answers.

    Attributes
    ----------
    feeds
        The inputs, by name.
    answers
        onnxruntime's outputs, by name, in the file's order.
    rounding
        How far they move where the inputs move by little more than rounding: gates and maxima that nearly tie
        make some answers hang on the last digits, in every runtime.
    """

    feeds: Mapping[str, Array]
    answers: Mapping[str, Array]
    rounding: Mapping[str, float]


def questions(
    model: Model,
    manifest: Mapping[str, Any],
    feeds: Mapping[str, Array],
    found: Mapping[str, Array],
    run: Callable[[Mapping[str, Array]], Mapping[str, Array]],
    rng: np.random.Generator,
) -> Iterator[Question]:
    """Ask an explain graph more: for another target than the strongest, and with noise.

    Parameters
    ----------
    model
        The model in it.
    manifest
        The explain graph's.
    feeds, found
        What it was asked for, each image's strongest, and what it gave.
    run
        Runs it in onnxruntime.
    rng
        Where the noise comes from.

    Yields
    ------
    Question
        The last has two batches in one, if the number of images is free. What the model
        itself cannot do is left out.
    """
    nudge = _NUDGE if output_limit(model) < PROOF_LIMIT else _COARSE_NUDGE

    def question(asked: Mapping[str, Array], answers: Mapping[str, Array]) -> Question:
        moved = [run({name: _moved(a, nudge, rng) for name, a in asked.items()}) for _ in range(_NUDGES)]
        return Question(asked, answers, {o: max(_error(m[o], a) for m in moved) for o, a in answers.items()})

    yield question(feeds, found)
    other = {**feeds, **other_target(manifest, found, rng)}
    noise = {name: _noise(array, rng) for name, array in other.items()}
    entries = [*manifest["inputs"], manifest["target"]]
    free = {each["name"] for each in entries if each["shape"] and not isinstance(each["shape"][0], int)}
    both = {
        name: np.concatenate([other[name], noise[name]]) if name in free else noise[name] for name in other
    }
    for more in (other, both):
        with suppress(InputError):
            yield question(more, run(more))


def _moved(array: Array, share: float, rng: np.random.Generator) -> Array:
    """Move numbers by a share; of pictures, a few pixels by a level, which moves all by about as much."""
    if array.dtype == np.uint8 and share == _COARSE_NUDGE:
        few = rng.random(array.shape) < _FEW
        return np.where(few, np.where(array < _LEVELS, array + 1, array - 1), array).astype(np.uint8)
    if array.dtype.kind != "f":
        return array
    return np.asarray(array * (1 + share * rng.standard_normal(array.shape)), array.dtype)


def _noise(array: Array, rng: np.random.Generator) -> Array:
    if array.dtype.kind != "f":
        return array
    return np.asarray(rng.normal(0, _SPREAD, array.shape), array.dtype)


def proving(model: Model, graph: ExplainGraph, count: int = 1) -> Callable[[Path], None]:
    """Make a check for :meth:`~onnx_deconv.compiler.explain_graph.ExplainGraph.save`: it runs the new file.

    ``onnx-deconv convert`` does this by itself.

    Parameters
    ----------
    model
        The model in the graph.
    graph
        Made for a runtime that is installed here.
    count
        How many random images are tried.

    Returns
    -------
    Callable
        Raises :class:`~onnx_deconv.ModelError` where the runtime of the graph cannot run it, or does not give
        what onnxruntime gives; nothing is written then.

    Raises
    ------
    InputError
        If nothing proves graphs for the runtime.
    RuntimeUnavailableError
        If the runtime is not installed.

    Examples
    --------
    >>> model = load("model.onnx")
    >>> graph = explain_graph(model, runtime="openvino")
    >>> graph.save("explain", check=proving(model, graph))
    """
    runtime = graph.manifest["runtime"]
    if runtime not in PROVERS:
        raise InputError(f"nothing proves graphs for {runtime}: only for {', '.join(PROVERS)}")
    if not PROVERS[runtime].is_installed:
        raise RuntimeUnavailableError(_not_proved(PROVERS[runtime]))

    def check(folder: Path) -> None:
        (file,) = folder.glob("*.onnx")
        run = Session(ModelProto.FromString(file.read_bytes()), folder, "cpu").run_plainly
        asked = list[Question]()
        for rng in map(np.random.default_rng, range(count)):
            feeds = _feeds(model, graph.manifest, rng)
            asked += questions(model, graph.manifest, feeds, run(feeds), run, rng)
        (found,) = prove(model, runtime, file, asked)
        if found.verdict != "ok":
            raise ModelError(f"{found.of}: {found.detail}, so nothing was written")

    return check


def _feeds(model: Model, manifest: Mapping[str, Any], rng: np.random.Generator) -> dict[str, Array]:
    """Make one batch of random inputs of an explain graph, of which each image's strongest is explained."""
    taken = {entry["name"]: entry for entry in manifest["inputs"]}
    feeds = {name: array for name, array in random_feeds(model, rng).items() if name in taken}
    for name in taken.keys() - feeds.keys():  # pictures that the graph prepares itself
        feeds[name] = rng.integers(0, 256, manifest["example"][name], np.uint8)
    return feeds | own_top(manifest)


def prove(model: Model, runtime: str, file: Path, asked: Iterable[Question]) -> list[Check]:
    """Run a graph in the runtime that it was made for, and compare each answer.

    Parameters
    ----------
    model
        The model in it, whose types say how near an answer can be.
    runtime
        What the graph was made for.
    file
        The graph.
    asked
        What to run it on; looked at only if there is something to run it in.

    Returns
    -------
    list
        The worst answer, with the runtime's name; ``not covered`` where the runtime is not installed. Empty
        where nothing proves graphs for this runtime.
    """
    prover = PROVERS.get(runtime)
    if prover is None:
        return []
    limit = max(PROOF_LIMIT, output_limit(model))
    if not prover.is_installed:
        return [Check(PROOF, prover.name, None, limit, _not_proved(prover))]
    try:
        output, error, limit = _worst(prover, file, list(asked), limit)
    except Exception as refusal:  # noqa: BLE001 - each runtime has errors of its own
        return [Check(PROOF, prover.name, float("inf"), limit, f"cannot run the graph: {_reason(refusal)}")]
    return [Check(PROOF, prover.name, error, limit, _differs(output, error))]


def _worst(prover: Prover, file: Path, asked: Sequence[Question], limit: float) -> tuple[str, float, float]:
    """Return the output that is off by most of what it may be, its error, and what that may be."""
    found = [
        (name, _error(np.asarray(given), array), max(limit, _MARGIN * rounding[name]))
        for run in (load(file, list(asked[0].answers)) for load in prover.loads)
        for feeds, expected, rounding in asked
        for given, (name, array) in zip(run(feeds), expected.items(), strict=True)
    ]
    return max(found, key=lambda each: min(each[1], _MOST) / each[2])


def _error(found: Array, expected: Array) -> float:
    """Tell how far off an answer is.

    Pictures are alike where most of their levels are, as a level may be rounded up or down.
    """
    if found.shape != expected.shape:
        return float("inf")
    if not expected.size:
        return 0.0
    if expected.dtype.kind == "f" and not np.array_equal(np.isfinite(found), np.isfinite(expected)):
        return float("inf")
    if expected.dtype == np.uint8:
        return float(np.abs(found.astype(int) - expected.astype(int)).mean()) / _LEVELS
    if expected.dtype.kind != "f":
        return float((found != expected).mean())
    if not expected.any():
        return float(np.abs(found).max()) / _NOTHING
    return relative_error(found, expected)


def _differs(output: str, error: float) -> str:
    """Say how far off the worst answer is."""
    if np.isfinite(error):
        return f"{output!r} differs from onnxruntime's by {error:.2g} of its largest number"
    return f"{output!r} has another shape than onnxruntime's, or other numbers that are not finite"


def _reason(error: Exception) -> str:
    """Find the line of a runtime's complaint that says what is wrong, which often is not the first."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if "Check '" not in line and not line.startswith(_EMPTY_WORDS)]
    return (telling or lines or [type(error).__name__])[0].lstrip("- ")[:200]


def _not_proved(prover: Prover) -> str:
    return (
        f"not proved in {prover.name}, which is not installed here: pip install {prover.package}, "
        "and convert again"
    )
