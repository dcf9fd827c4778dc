"""What a check says, and how far off an answer may be."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
from onnx import TensorProto

from onnx_deconv.model import Array, Model
from onnx_deconv.operators import find
from onnx_deconv.operators.traits import DEQUANTISER, QUANTISER
from onnx_deconv.runtime import numpy_of

FORWARD_LIMIT = 1e-5
"""Of an output, as a share of its largest number: a value that is tapped keeps the runtime from fusing the
nodes around it, which may round otherwise."""

COMPANION_LIMIT = 1e-4
"""Of a reconstruction, as a share of the reference's largest number."""

HALF_LIMIT = 1e-2
"""In place of these two where numbers are float16 (eleven bits)."""

QUANTISED_LIMIT = 5e-2
"""For quantised models: onnxruntime fuses no two operators, and rounds, where the value between is read."""

_HALF = (TensorProto.FLOAT16, TensorProto.BFLOAT16)

Verdict = Literal["ok", "failed", "not covered"]
"""``not covered``: there is nothing to compare with; the check's detail says why."""


@dataclass(frozen=True)
class Check:
    """One thing that was checked.

    Attributes
    ----------
    name
        ``forward``, ``switches``, ``companion``, ``difference``, ``image``, ``class``, ``signal`` or
        ``proof``.
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
    def verdict(self) -> Verdict:
        """Whether it is near enough; an error that is no number is not."""
        if self.error is None:
            return "not covered"
        return "ok" if self.error <= self.limit else "failed"

    def as_dict(self) -> dict[str, Any]:
        """Return everything as plain JSON data."""
        return {**asdict(self), "verdict": self.verdict}


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
        The largest error of any output; integers and texts have to be equal, but for one step of a quantised
        output.
    """
    tensors = [o for o in model.outputs if original[o].is_tensor()]  # a ZipMap makes dictionaries
    limit = output_limit(model)
    error = _steps_apart if limit == QUANTISED_LIMIT else relative_error
    errors = {o: error(numpy_of(found[o]), numpy_of(original[o])) for o in tensors}
    worst = max(errors, key=lambda o: errors[o], default="")
    detail = f"outputs {', '.join(errors)}" if len(errors) == 1 else f"{len(errors)} outputs, worst {worst}"
    return Check("forward", of, errors.get(worst, 0.0), limit, detail)


def same_but_for_rounding(
    check: Check,
    model: Model,
    original: Mapping[str, Any],
    unoptimised: Callable[[], tuple[Mapping[str, Any], Mapping[str, Any]]],
) -> Check:
    """Compare outputs once more where the runtime's optimisations alone change what the user's model gives.

    A detector sorts its boxes; where rounding orders scores that are nearly equal, other ones stand in a row.
    The answers of quantised models depend on what is fused, and may be told to. Where weights alone are
    quantised, a value that is read may let the runtime multiply in eight bits.

    Parameters
    ----------
    check
        What :func:`same_outputs` found.
    model
        The user's model.
    original
        Its results.
    unoptimised
        Runs both models without optimisations.
    """
    if check.verdict == "ok" or check.limit == QUANTISED_LIMIT:
        return check
    plain, found = unoptimised()
    again = same_outputs(model, plain, found, check.of)
    if again.verdict != "ok":
        return check
    why = "without the runtime's optimisations, whose rounding alone changes the model's own"
    if same_outputs(model, original, plain, check.of).verdict == "ok":
        if not any(DEQUANTISER in find(node.op, node.domain).traits for node in model.nodes):
            return check
        why = "without the runtime's optimisations, which may multiply by quantised weights in eight bits"
    return replace(again, detail=f"{again.detail}, {why}")


def output_limit(model: Model) -> float:
    """Return how far off outputs may be, as a share of the largest number: the types of a model say it."""
    if any(rounds(node.op, node.domain) for node in model.nodes):
        return QUANTISED_LIMIT
    computed = (v.name for node in model.nodes for v in node.outputs)
    half = any(model.type_of(name).dtype in _HALF for name in (*model.inputs, *computed))
    return HALF_LIMIT if half else FORWARD_LIMIT


def rounds(operator: str, domain: str | None) -> bool:
    """Tell whether an operator rounds real numbers to quantised ones."""
    traits = find(operator, domain).traits
    return QUANTISER in traits and DEQUANTISER not in traits


def _steps_apart(found: Array, expected: Array) -> float:
    """Return the relative error of a quantised output: none where bytes differ by one step at most."""
    if expected.dtype in (np.uint8, np.int8) and found.shape == expected.shape:
        steps = np.abs(found.astype(np.int64) - expected.astype(np.int64))
        if steps.max(initial=0) <= 1:
            return 0.0
    return relative_error(found, expected)


def relative_error(found: Array, expected: Array) -> float:
    """Return the largest difference as a share of the largest expected number.

    Numbers that are not finite have to be the same in both; where all expected ones are zero, any
    other is infinitely wrong.
    """
    if found.shape != expected.shape:
        return float("inf")
    if expected.dtype.kind not in "biuf":
        return 0.0 if np.array_equal(found, expected) else float("inf")
    a, b = found.astype(np.float64), expected.astype(np.float64)
    finite = np.isfinite(b)
    if not np.array_equal(a[~finite], b[~finite], equal_nan=True):
        return float("inf")
    difference = float(np.abs(a[finite] - b[finite]).max(initial=0.0))
    largest = float(np.abs(b[finite]).max(initial=0.0))
    if difference == 0.0:
        return 0.0
    return difference / largest if largest else float("inf")
