"""Check one model of the zoo: its companion against the oracle in PyTorch, all three rule tables.

python tools/zoo_check.py MODEL.json RESULT.json      # as tools/sweep.py does, one process per model
"""

import json
import math
import resource
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnx
import onnx.inliner
import onnxruntime as ort
from onnx import ModelProto, helper
from onnx.external_data_helper import load_external_data_for_model

from onnx_deconv import Model, Pair, Semantics, compile_pair, load
from onnx_deconv.compiler.backward import Walk
from onnx_deconv.runtime import Session, numpy_of

sys.path.append(str(Path(__file__).parents[1] / "tests" / "oracles"))  # the oracle is that of the tests

from torch_oracle import Oracle

TABLES = "deconvnet", "guided", "gradient"
TOLERANCE = 1e-4
ROUNDED = {"fp16": 2e-3, "quantised": 2e-2}
"""Of families whose forward values have three digits or 256 steps: derivatives are taken at these."""
VANISHED, EXPLODED = 1e-30, 1e30
"""Signals beyond these are outside what single precision tells apart."""
ATTEMPTS = 12
Arrays = Mapping[str, np.ndarray]


@dataclass
class Run:
    """A model that has gone forward once, with what the companion and the oracle read."""

    model: Model
    feeds: Arrays
    pairs: dict[str, Pair]
    explained: str = ""
    values: dict[str, np.ndarray] = field(default_factory=dict)
    oracle: Oracle | None = None

    @classmethod
    def of(cls, model: Model, feeds: Arrays, pairs: dict[str, Pair]) -> "Run":
        """Run a pair's forward model, every value shown, and the oracle at these values."""
        self = cls(model, feeds, pairs, pairs["deconvnet"].manifest["explained"]["value"])
        full = self._whole()
        self.values = {**run(shown(full), feeds), **feeds}
        pools = [n for n in full.graph.node if n.op_type == "MaxPool" and len(n.output) > 1]
        switches = {n.output[0]: self.values[n.output[1]] for n in pools if n.output[1] in self.values}
        self.oracle = Oracle(full, values=self.values, switches=switches)
        self.oracle.forward(feeds, [self.explained])
        return self

    def _whole(self) -> ModelProto:
        """Return one flat model that has all taps of the tables and all weights."""
        full = ModelProto()
        full.CopyFrom(self.pairs["deconvnet"].forward)
        for pair in self.pairs.values():
            _add_outputs(full, pair.forward)
        load_external_data_for_model(full, str(self.model.folder))
        return onnx.inliner.inline_local_functions(full) if full.functions else full

    def companion(self, rules: str, seed: np.ndarray) -> dict[str, np.ndarray]:
        """Send a seed back through the companion; return reconstructions by input."""
        pair = self.pairs[rules]
        session = Session(pair.deconv, pair.folder, "cpu")
        given = {i.name: self.values.get(i.name, seed) for i in pair.deconv.graph.input if i.name != "seed"}
        back = session.run({**given, "seed": seed.astype(np.float32)})
        return {r["of"]: numpy_of(back[r["name"]]) for r in pair.manifest["reconstructions"]}

    def errors(self, seed: np.ndarray) -> dict[str, dict[str, float]]:
        """Compare companion and oracle, by rule table."""
        return {rules: self._error(rules, seed) for rules in self.pairs}

    def _error(self, rules: str, seed: np.ndarray) -> dict[str, float]:
        expected, found = self.oracle.back(self.explained, seed, rules), self.companion(rules, seed)
        both = [(found[name].astype(np.float64).ravel(), expected[name].ravel()) for name in found]
        a, b = (np.concatenate(parts) for parts in zip(*both, strict=True))
        largest = np.abs(b).max()
        if not np.isfinite(largest) or not VANISHED < largest < EXPLODED:
            return {"largest": float(largest), "max": math.inf, "l2": math.inf}
        apart = float(np.abs(a - b).max() / largest), float(np.linalg.norm(a - b) / np.linalg.norm(b))
        return {"largest": float(largest), "max": apart[0], "l2": apart[1]}


def _add_outputs(full: ModelProto, other: ModelProto) -> None:
    """Append what another table's forward model has beyond this one: outputs, nodes, indices of pools."""
    held = {n.output[0]: n for n in full.graph.node}
    for node in other.graph.node:
        if node.output[0] not in held:
            full.graph.node.append(node)
        elif len(node.output) > len(held[node.output[0]].output):
            held[node.output[0]].output[:] = node.output
    present = {o.name for o in full.graph.output}
    full.graph.output.extend(o for o in other.graph.output if o.name not in present)


def shown(proto: ModelProto) -> ModelProto:
    """Return a model that outputs every value."""
    full = ModelProto()
    full.CopyFrom(proto)
    present = {o.name for o in full.graph.output} | {""}
    names = dict.fromkeys(v for node in full.graph.node for v in node.output if v not in present)
    full.graph.output.extend(helper.make_empty_tensor_value_info(v) for v in names)
    return full


def run(
    model: ModelProto | Path, feeds: Arrays, folder: Path | None = None, *, plain: bool = False
) -> Arrays:
    """Run a model on onnxruntime's CPU; ``plain``: without its graph optimisations."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    if plain:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    if folder is not None:
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(folder))
    source = str(model) if isinstance(model, Path) else model.SerializeToString()
    session = ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    names = [o.name for o in session.get_outputs()]
    return dict(zip(names, session.run(names, feeds), strict=True))


def numbers(
    model: Model, sizes: Mapping[str, list[int]], span: Sequence[float] = (-1, 1)
) -> dict[str, np.ndarray]:
    """Return random inputs: real ones in the span, bytes of all values, other integers 0 or 1."""
    rng = np.random.default_rng(0)
    feeds = {}
    for name, shape in sizes.items():
        kind = np.dtype(helper.tensor_dtype_to_np_dtype(model.type_of(name).dtype))
        real = rng.uniform(*span, shape)
        whole = rng.integers(0, 256 if kind == np.uint8 else 2, shape)
        feeds[name] = (real if kind.kind not in "biu" else whole).astype(kind)
    return feeds


def seed_of(values: np.ndarray) -> np.ndarray:
    """Return 1 at each image's best class for scores, else random numbers."""
    if values.ndim > 1 and values.shape[1] == values[0].size:
        best = values.reshape(len(values), -1).argmax(1)
        return np.eye(values.shape[1], dtype=np.float32)[best].reshape(values.shape)
    return np.random.default_rng(1).random(values.shape, np.float32)


def compiled(model: Model, explained: str | None) -> dict[str, Pair]:
    """Compile for each table."""
    return {rules: compile_pair(model, explained, semantics=Semantics(rules=rules)) for rules in TABLES}


def check(record: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Convert a model and compare; return what was found."""
    start = time.perf_counter()
    model = load(path)
    compile_pair(model, record.get("explain"))
    seconds = time.perf_counter() - start
    pairs = compiled(model, record.get("explain"))
    feeds = numbers(model, record["inputs"], record.get("span", (-1, 1)))
    found: dict[str, Any] = {"seconds": round(seconds, 3), **counts(model, pairs["deconvnet"])}
    # onnxruntime computes float16 in float32 on the CPU, and rounds where a value in between is read.
    tolerance = 1e-2 if record["family"] == "fp16" else 0.0
    found["same_outputs"] = same_outputs(path, pairs["deconvnet"], feeds, tolerance)
    judged, errors = compared(Run.of(model, feeds, pairs))
    found |= {"explained": judged.explained, "errors": errors, "error": worst(errors)}
    found["deviation"] = list(judged.oracle.deviation)
    found["moved"] = judged.explained != pairs["deconvnet"].manifest["explained"]["value"]
    found["sizes"] = [at_size(judged, sizes) for sizes in record.get("sizes") or []]
    every = [found["error"], *(s["error"] for s in found["sizes"])]
    return found | {"verdict": verdict(found, record["family"]), "error": float(np.max(every))}


def compared(first: Run) -> tuple[Run, dict[str, dict[str, float]]]:
    """Compare at the explained value, or at the deepest activation from where a signal arrives."""
    errors = first.errors(seed_of(first.values[first.explained]))
    if arrives([e["largest"] for e in errors.values()]):
        return first, errors
    for value in deeper(first):
        pairs = compiled(first.model, value)
        second = Run.of(first.model, first.feeds, pairs)
        found = second.errors(seed_of(second.values[value]))
        if arrives([e["largest"] for e in found.values()]):
            return second, found
    return first, errors


def arrives(largest: Sequence[float]) -> bool:
    """Tell whether each table's signal arrives: not as the rounding of one that cancels out, either."""
    return all(VANISHED < number < EXPLODED for number in largest) and min(largest) > 1e-5 * max(largest)


def deeper(first: Run) -> Iterator[str]:
    """Yield values to explain instead: activations from where the oracle says that a signal arrives."""
    tried = 0
    for node in reversed(first.oracle.proto.graph.node):
        value = node.output[0]
        known = first.oracle.known.get(value)
        active = node.op_type in ("Relu", "Clip", "LeakyRelu", "PRelu", "Mul", "Elu", "Selu", "Conv")
        if not active or known is None or not known.requires_grad or value == first.explained:
            continue
        seed = seed_of(known.detach().numpy())
        arrived = [max(np.abs(r).max() for r in first.oracle.back(value, seed, t).values()) for t in TABLES]
        tried += 1
        if arrives(arrived) or tried > ATTEMPTS:
            yield value
        if tried > ATTEMPTS:
            return


def at_size(judged: Run, sizes: Mapping[str, list[int]]) -> dict[str, Any]:
    """Run the same pairs on inputs of other sizes."""
    other = Run.of(judged.model, numbers(judged.model, sizes), judged.pairs)
    errors = other.errors(seed_of(other.values[other.explained]))
    return {"sizes": dict(sizes), "error": worst(errors)}


def same_outputs(path: Path, pair: Pair, feeds: Arrays, tolerance: float = 0.0) -> bool:
    """Whether the forward model gives what the user's model gives, bit for bit but for a tolerance.

    With the runtime's graph optimisations off or on: each fuses, and rounds, in its own way.
    """

    def same(*, plain: bool) -> bool:
        theirs = run(path, feeds, plain=plain)
        ours = run(pair.forward, feeds, pair.folder, plain=plain)
        if not tolerance:
            return all(np.array_equal(v, ours[k], equal_nan=v.dtype.kind == "f") for k, v in theirs.items())
        return all(np.abs(ours[k] - v).max() <= tolerance * np.abs(v).max() for k, v in theirs.items())

    return same(plain=True) or same(plain=False)


def counts(model: Model, pair: Pair) -> dict[str, int]:
    """Count nodes and pools."""
    semantics = Semantics()
    walk = Walk(model, pair.manifest["explained"]["value"], semantics)
    pools = [n for n in walk.path if n.op == "MaxPool"]
    return {
        "nodes": len(model.proto.graph.node),
        "path": len(walk.path),
        "companion": len(pair.deconv.graph.node),
        "pools": len(pools),
        "overlapping": sum(_overlaps(n.attrs) for n in pools),
    }


def _overlaps(attributes: Mapping[str, Any]) -> bool:
    kernel = attributes["kernel_shape"]
    ones = [1] * len(kernel)
    rows = zip(kernel, attributes.get("strides", ones), attributes.get("dilations", ones), strict=True)
    return any((k - 1) * d + 1 > s for k, s, d in rows)


def worst(errors: Mapping[str, Mapping[str, float]]) -> float:
    """Return the largest error of the three tables."""
    return float(np.max([e["max"] for e in errors.values()]))  # NaN if one is


def verdict(found: Mapping[str, Any], family: str) -> str:
    """Say in a few words what was found."""
    tolerance = ROUNDED.get(family, TOLERANCE)
    if not found["same_outputs"]:
        return "the forward model's outputs differ"
    if math.isinf(found["error"]):
        return "no signal arrives, from any layer tried"
    if not found["error"] <= tolerance:  # NaN is wrong, too
        return "differs from the oracle"
    wrong = [s for s in found["sizes"] if not s["error"] <= tolerance]
    if wrong:
        return f"wrong at {wrong[0]['sizes']}"
    rounded = "" if max([found["error"], *(s["error"] for s in found["sizes"])]) <= TOLERANCE else ", rounded"
    return f"ok{rounded} below {found['explained']}" if found["moved"] else f"ok{rounded}"


@click.command(help=__doc__)
@click.argument("record", type=click.Path(exists=True, path_type=Path))
@click.argument("result", type=click.Path(path_type=Path))
def main(record: Path, result: Path) -> None:
    """Check one model."""
    facts = json.loads(record.read_text())
    try:
        found = check(facts, record.with_suffix(".onnx"))
    except Exception as error:  # noqa: BLE001  (whatever it is, it is the finding)
        first = str(error).strip().splitlines()[:1] or [""]
        where = _innermost(error)
        found = {"verdict": "failed", "reason": f"{type(error).__name__}: {first[0]}"[:300], "where": where}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    draft = result.with_suffix(".draft")
    draft.write_text(json.dumps({**facts, **found, "peak_mb": peak}) + "\n")
    draft.replace(result)


def _innermost(error: Exception) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    code = trace.tb_frame.f_code if trace is not None else None
    return f"{Path(code.co_filename).name}:{trace.tb_lineno}" if code else ""


if __name__ == "__main__":
    sys.exit(main())
