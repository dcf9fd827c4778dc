"""Small steps of the input, and whether the explained unit changes as the gradient says.

A step along the gradient alone would pass a gradient that is only a projection of the right one, such as one
that lost the signal of half of the channels: it predicts rightly what happens along itself. So steps in
random directions are taken too.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from onnx import NodeProto

from onnx_deconv.model import Array
from onnx_deconv.operators import find, own_domain, rules_for, spelled
from onnx_deconv.operators.traits import DISCONTINUOUS, LOCATED, SWITCHES
from onnx_deconv.runtime import PairSession, numpy_of
from onnx_deconv.semantics import Semantics
from onnx_deconv.verification.batch import ROUNDING, Batch, axes_told, strongest_unit
from onnx_deconv.verification.checks import Check, rounds

ALONG_LIMIT = 0.05
"""Of a step along the gradient, as a share of the prediction. It is loose: in float32 a short step drowns in
rounding, a long one crosses rectifiers; any of the steps counts."""

RANDOM_LIMIT = 0.3
"""Of steps in random directions. They change the unit by as much as a step along the gradient does, but all
numbers of the input move for it, and more rectifiers are crossed: on 15 correct networks the error was 0.15
at most. A gradient that lost half of the signal is off by about 1."""

ALONG = (1e-2, 1e-3, 1e-1, 1e-4, 1.0)
"""Lengths of the steps along the gradient, in standard deviations of the input's numbers."""

RANDOM = (1e-3, 3e-4, 1e-4, 3e-3, 1e-2, 3e-5, 1e-1)
"""How far each number moves in random directions, likewise."""

DIRECTIONS = 8
"""How many random directions are taken together: the change along a single one may be next to nothing."""


def check_differences(batch: Batch, plain: PairSession, rng: np.random.Generator) -> Iterator[Check]:
    """Compare how the strongest units change with steps of each explained input with what the gradient says.

    Parameters
    ----------
    batch
        One that went through a pair of the gradient table.
    plain
        That pair as it is.
    rng
        Where random directions come from.

    Yields
    ------
    Check
        ``difference``, once for steps along each gradient and once for steps in random directions.
    """
    seed = strongest_unit(batch.values[batch.explained], axes_told(batch.pair))
    found = plain.run_deconv(plain.run_forward(batch.feeds), seed.astype(plain.seed_dtype))
    for entry in batch.pair.manifest["reconstructions"]:
        name, gradient = entry["of"], found[entry["name"]].astype(np.float64)
        if reason := why_not(batch, name):
            yield Check("difference", "gradient", None, ALONG_LIMIT, f"{name}: {reason}")
        else:
            steps = Steps(batch.feeds[name], gradient, _score(batch, plain, name, seed))
            yield from _checks(steps, name, rng)


def _score(batch: Batch, plain: PairSession, name: str, seed: Array) -> Callable[[Array], float]:
    """Return the function from another input of that name to the sum of the units that the seed names."""

    def score(moved: Array) -> float:
        values = plain.run_forward({**batch.feeds, name: moved})
        return float(np.vdot(seed, numpy_of(values[batch.explained]).astype(np.float64)))

    return score


def _checks(steps: "Steps", name: str, rng: np.random.Generator) -> Iterator[Check]:
    length = np.linalg.norm(steps.gradient)
    if length:
        error = steps.error(steps.gradient[None] / length, ALONG, ALONG_LIMIT)
        yield _check(error, ALONG_LIMIT, f"a step along the gradient of {name}")
    error = steps.error(rng.standard_normal((DIRECTIONS, *steps.x.shape)), RANDOM, RANDOM_LIMIT)
    yield _check(error, RANDOM_LIMIT, f"steps in {DIRECTIONS} random directions of {name}")


def _check(error: float | None, limit: float, what: str) -> Check:
    detail = f"{what}, in the runtime's own precision"
    if error is None:
        detail = f"{what}: no change stands out of the score's rounding, or is a number"
    return Check("difference", "gradient", error, limit, detail)


def why_not(batch: Batch, name: str) -> str:
    """Return why steps of an input cannot tell whether the gradient is right; nothing if they can."""
    if jumps := sorted({node.op_type for node in batch.path if _jumps(node)}):
        return f"the value of {', '.join(jumps)} jumps, or stays as it is"
    if moving := sorted({node.op_type for node in batch.path if _is_moved(node, batch)}):
        return f"the places where {', '.join(moving)} reads move with the image, and get no signal"
    chosen = Semantics(**batch.pair.manifest["semantics"])
    if chosen.reads_feature_maps:
        return "what the feature maps show of the class is no derivative"
    gradient, used = rules_for(Semantics("gradient")), rules_for(chosen)
    keys = [(own_domain(node.domain), node.op_type) for node in batch.path]
    if others := sorted({spelled(key) for key in keys if used.get(key) is not gradient.get(key)}):
        return f"{', '.join(others)} passes the signal otherwise than by the derivative"
    if chosen.unpool == "overwrite" and any(SWITCHES in find(name, domain).traits for domain, name in keys):
        return "unpool=overwrite is no derivative"
    values = [name, *(v for node in batch.path for v in node.output if v in batch.values)]
    coarse = {str(batch.values[v].dtype) for v in values} - {"float32", "float64", "int64", "bool"}
    if coarse:
        return f"a short step is rounded away in {', '.join(sorted(coarse))}"
    return ""


def _jumps(node: NodeProto) -> bool:
    return rounds(node.op_type, node.domain) or DISCONTINUOUS in find(node.op_type, node.domain).traits


def _is_moved(node: NodeProto, batch: Batch) -> bool:
    """Tell whether a node reads at places that are computed, as a detector's regions are from the image."""
    located = LOCATED in find(node.op_type, node.domain).traits
    computed = {value for each in batch.path for value in each.output}
    return located and not computed.isdisjoint(node.input[1:])


@dataclass(frozen=True)
class Steps:
    """Steps of one input, and what the gradient predicts for them.

    Attributes
    ----------
    x
        Where they start.
    gradient
        Of the score, of x's shape, float64.
    score
        The score at another input.
    """

    x: Array
    gradient: Array
    score: Callable[[Array], float]

    def error(self, directions: Array, lengths: Sequence[float], limit: float) -> float | None:
        """Return how far the prediction is off, as a share of it, for steps along all directions together.

        That is of the first length at which it is within the limit, else the least; None if no step tells:
        the score is no number, or changes by no more than rounding.
        """
        errors = []
        for length in lengths:
            error = self._error_at(directions, length, limit)
            if error is not None:
                errors.append(error)
                if error <= limit:
                    break
        return min(errors, default=None)

    def _error_at(self, directions: Array, length: float, limit: float) -> float | None:
        predicted, measured, scale = np.transpose([self._step(d, length) for d in directions])
        expected, seen = np.linalg.norm(predicted), np.linalg.norm(measured)
        if not np.isfinite(seen) or max(expected, seen) * limit <= ROUNDING * scale.max():
            return None
        if not 0 < expected < np.inf:
            return float("inf")
        return float(np.linalg.norm(measured - predicted) / expected)

    def _step(self, direction: Array, length: float) -> tuple[float, float, float]:
        """Return the change that is predicted, the one that is measured, and the score's size."""
        move = length * (float(self.x.std()) or 1.0) * direction
        up, down = (self.x + move).astype(self.x.dtype), (self.x - move).astype(self.x.dtype)
        predicted = float(np.vdot(self.gradient, up.astype(np.float64) - down))
        high, low = self.score(up), self.score(down)
        return predicted, high - low, max(abs(high), abs(low))
