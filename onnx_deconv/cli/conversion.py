"""What both forms of ``onnx-deconv convert`` share: what is converted, its checks, and what is printed."""

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from onnx_deconv.attribution.explainer import Explainer
from onnx_deconv.cli.console import sizes
from onnx_deconv.compiler.pair import compile_pair
from onnx_deconv.model import Array, Model
from onnx_deconv.model.head import ChosenKind, Head
from onnx_deconv.runtime import Providers, Session, Survival
from onnx_deconv.semantics import Semantics
from onnx_deconv.verification import PROOF, Check, random_feeds, survival

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Conversion:
    """What is converted, and where to.

    Attributes
    ----------
    model, layer, semantics
        What is explained, and how.
    output
        The folder for the files.
    checks
        How many random inputs the result is checked on.
    providers
        What the checks run on.
    seconds
        How long each step took, by its name.
    model_output
        The output whose classes are explained.
    kind
        What its numbers are, where nothing in the file says so.
    labels
        Names of the classes, where others count than the model's own.
    """

    model: Model
    layer: str | None
    semantics: Semantics
    output: Path
    checks: int
    providers: Providers
    seconds: dict[str, float] = field(default_factory=dict)
    model_output: str | None = None
    kind: ChosenKind | None = None
    labels: Sequence[str] | str | None = None

    @property
    def of_output(self) -> dict[str, Any]:
        """Which output is explained, what it is, and how its classes are called; as arguments."""
        return {"output": self.model_output, "kind": self.kind, "labels": self.labels}

    @property
    def head(self) -> Head:
        """The output that is explained."""
        return Explainer(self.model, **self.of_output).head

    @contextmanager
    def timed(self, step: str) -> Iterator[None]:
        """Measure a step."""
        start = time.perf_counter()
        yield
        self.seconds[step] = round(time.perf_counter() - start, 3)

    def original(self) -> tuple[Session, list[dict[str, Array]]] | None:
        """Return the model itself, ready to run, and random inputs to compare results on.

        ``None`` where no check was asked for.
        """
        if not self.checks:
            return None
        session = Session(self.model.proto, self.model.folder, self.providers)
        return session, [random_feeds(self.model, np.random.default_rng(k)) for k in range(self.checks)]

    def survived(self, explained: str) -> Survival | None:
        """Measure on a random input how much of the signal survives; ``None`` without checks."""
        if not self.checks:
            return None
        pair = compile_pair(self.model, explained, semantics=self.semantics, **self.of_output)
        with self.timed("signal"):
            return survival(
                self.model, pair, random_feeds(self.model, np.random.default_rng(0)), self.providers
            )

    def refuse_failures(self, checks: Sequence[Check]) -> None:
        """Keep new files from taking their places if a check failed."""
        if not _passed(checks):
            raise _CheckFailedError

    @staticmethod
    def written(write: Callable[[], list[Path]]) -> list[Path]:
        """Return the files that are written; none where a check failed."""
        try:
            return write()
        except _CheckFailedError:
            return []

    def record(self, files: Sequence[Path], checks: Sequence[Check], **more: Any) -> dict[str, Any]:
        """Return what there is to say about the files written."""
        survived = self.survived(more["explained"]["value"]) if _passed(checks) else None
        return {
            "model": self.model.name,
            "folder": self.output,
            **more,
            "bytes": {file.name: file.stat().st_size for file in files},
            "signal": None if survived is None else survived.as_dict(),
            "seconds": self.seconds,
            "checks": [each.as_dict() for each in checks],
            "passed": _passed(checks),
        }


class _CheckFailedError(Exception):
    """What was to be written does not give what it should."""


def in_turn(batches: Sequence[dict[str, Array]]) -> Iterator[dict[str, Array]]:
    """Yield the inputs of one check after another, and say which check it is."""
    for number, batch in enumerate(batches, 1):
        logger.debug("check %d of %d", number, len(batches))
        yield batch


def _passed(checks: Sequence[Check]) -> bool:
    return all(each.verdict != "failed" for each in checks)


def named(semantics: Mapping[str, str | None]) -> str:
    """Write the choices of a record that were made."""
    return ", ".join(f"{name}={value}" for name, value in semantics.items() if value is not None)


def check_lines(record: Mapping[str, Any]) -> Iterator[str]:
    """Describe the checks of a record, one line each."""
    for check in record["checks"]:
        if check["error"] is None:
            continue  # a warning says what was not checked
        verdict = "ok" if check["verdict"] == "ok" else "FAILED"
        error = check["error"]
        found = f"{check['detail']} differ by {error:.2g}"
        if check["name"] == PROOF:
            found = f"{check['of']}: {check['detail']}"
        if check["name"] == "companion":
            wrong = f"{error:.0f} values are not finite" if error else "all values are finite"
            found = f"{check['of']} {check['detail']}: {wrong}"
        yield f"  check {verdict}: {found}"
    yield from _signal(record)


def unproved(record: Mapping[str, Any]) -> Iterator[str]:
    """Say what could not be checked on this machine, and how it can be."""
    yield from (check["detail"] for check in record["checks"] if check["error"] is None)


def failure(record: Mapping[str, Any]) -> str:
    """Say in one line what is wrong with what was to be written, and the way out."""
    failed = [check for check in record["checks"] if check["verdict"] == "failed"]
    if any(check["name"] != PROOF for check in failed):
        return "a check failed, so nothing was written (--check 0 writes the files unchecked)"
    return (
        f"{failed[0]['of']}: {failed[0]['detail']}, so nothing was written: let onnxruntime run the "
        "graph (--for onnxruntime), or explain otherwise (--rules, --layer); --check 0 writes it unchecked"
    )


def _signal(record: Mapping[str, Any]) -> Iterator[str]:
    """Tell what became of the signal."""
    if signal := record["signal"]:
        yield f"  of a random input's strongest unit, {signal['words']}"


def shape_of(value: Mapping[str, Any]) -> str:
    """Write the name and the shape of a value in a manifest."""
    return f"{value['name']} {sizes(value['shape'])}"
