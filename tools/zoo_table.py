"""The table of the zoo, from the results of tools/sweep.py."""

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

Result = Mapping[str, Any]
COLUMNS = "model", "framework", "exporter", "opset", "nodes", "pools", "overlapping", "verdict", "error", "s"

HEAD = """\
# Which models were tried, and how exact it is

Every model is converted, and its companion is run on random inputs with onnxruntime's CPU provider. The
same model, loaded node by node into PyTorch in double precision (`tests/oracles/torch_oracle`), sends the
same seed back by automatic differentiation, its rectifiers replaced as the rule table says; it takes
onnxruntime's forward values and switches, so that both take the same branches.

* *error*: the largest difference as a share of the largest number, the worst of the tables `deconvnet`,
  `guided` and `gradient`, where the file allows several sizes at each of them.
* *ok*: at most 1e-4, and the forward model's own outputs are bit for bit those of the user's model (with
  the runtime's graph optimisations off or on; float16 files to 1e-2: onnxruntime computes them in float32 on
  the CPU, and rounds where a value in between is read).
* *ok below V*: with random weights the signal vanishes or overflows on the way down from the output, so that
  the activation V was explained in its place.
* *ok, rounded*: up to 2e-3 for float16 files, whose forward values have three digits, and 2e-2 for quantised
  ones, whose forward values have 256 steps: derivatives are taken at these, and by which of two rounded
  values (an activation's input, or its result) is a choice. Where no forward value takes part they are as
  exact as the others. The oracle takes the forward values as they are, also where a CPU's products of
  eight bits saturate ([optimised and quantised files](explanation.md#optimised-and-quantised-files)).
* *s*: seconds to load and convert, on 2 CPU cores that two sweeps and other jobs shared.

Files that onnxruntime saved at its level `all` (`ort-all_*`) are refused, where it laid weights out for one
kind of machine: saved at `extended`, the same models are in the table. In *ort-extended_keras_mobilenetv2*,
at one of four sizes, nearly all of the gradient is cut off by ReLU6, and what is left differs by 1 %.

Weights are random unless the name says otherwise. To reproduce: the builders in `tools/zoo`, then
`python tools/sweep.py FOLDER`.
"""


TWINS = """\
Files of one network with the same weights, and the largest difference between their reconstructions in any
table (`python tools/zoo_twins.py FOLDER`)."""
LONGEST = 160


def render(folder: Path) -> str:
    """Return the page."""
    records = [json.loads(p.read_text()) for p in sorted(folder.glob("*.json"))]
    results = [r for r in records if "verdict" in r]
    results.sort(key=lambda r: (r["framework"], r["architecture"], r["exporter"]))
    unbuilt = [r for r in records if "failed" in r and "verdict" not in r]
    good = [r for r in results if r["verdict"].startswith("ok")]
    bad = [r for r in results if r not in good]
    pairs = {(r["architecture"], r["exporter"]) for r in results}
    files = f"{len(results)} files, {len(pairs)} pairs of an architecture and an exporter (or tool)"
    summary = f"{files}: {len(good)} ok, {len(bad)} not."
    parts = [HEAD, summary, *listed("What fails, and why", bad, why)]
    parts += listed(
        "What its exporter, or onnxruntime, does not get to run", unbuilt, lambda r: plain(r["failed"])
    )
    parts += twins(folder)
    parts += ["## All", table(results)]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def table(results: Iterable[Result]) -> str:
    """Return one row per model."""
    lines = [" | ".join(COLUMNS), " | ".join("---" for _ in COLUMNS)]
    lines += [" | ".join(map(str, row(r))) for r in results]
    return "\n".join(f"| {line} |" for line in lines)


def row(r: Result) -> list[object]:
    """Return a model's numbers."""
    error = f"{r['error']:.0e}" if "error" in r else ""
    seconds = f"{r['seconds']:.2f}" if "seconds" in r else ""
    counted = [r.get(k, "") for k in ("opset", "nodes", "pools", "overlapping")]
    return [r["name"], r["framework"], r["exporter"], *counted, r["verdict"], error, seconds]


def listed(title: str, results: list[Result], reason: Any) -> list[str]:
    """Return a section with one line per model, or nothing."""
    lines = [f"- {r['name']}: {reason(r)}" for r in results]
    return [f"## {title}", "\n".join(lines)] if lines else []


def why(r: Result) -> str:
    """Return a failure's reason in one line."""
    return plain(r["reason"]) if r.get("reason") else f"{r['verdict']}: {_errors(r)}"


def plain(reason: str) -> str:
    """Leave out what belongs to one machine or one file."""
    reason = re.sub(r"Load model from \S+ failed:", "", reason).partition(": needed by")[0]
    return reason if len(reason) <= LONGEST else f"{reason[:LONGEST]} ..."


def twins(folder: Path) -> list[str]:
    """Return the section that tools/zoo_twins.py has written, if it has."""
    written = folder / "twins.md"
    if not written.exists():
        return []
    return ["## Same network, same explanation", TWINS, written.read_text(encoding="utf-8")]


def _errors(r: Result) -> str:
    return ", ".join(f"{table} {error['max']:.0e}" for table, error in r["errors"].items())
