"""Settle on a GPU what cannot be known without one; ``tools/gpu_day.sh`` runs it.

    python tools/gpu_day.py results.json                        # at most eight minutes on an NVIDIA GPU
    python tools/gpu_day.py results.json --device cpu --small   # a rehearsal without one

Written, after each finding, into one JSON file:

1. ``correctness``: explain graphs by every rule table, in float32 and float16, with and without the passes
   for CUDA, on random images and on images full of ties, and pairs: how far they are from the CPU's.
2. ``graphs``: whether CUDA graphs can be captured, and whether what is replayed on other images is right.
3. ``memory``: what an explanation takes on the device beyond the plain forward pass.
4. ``speed``: against the plain forward pass and Captum, in batches of 1, 8 and 32, TF32 off and on in both.

What fails is written down, and the rest goes on. What there is no time for is left out, the last batches
first.
"""

import json
import multiprocessing
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnxruntime
from bench import machine
from contenders import CAPTUM, CONTENDERS, SIZES, Case, exported
from onnx import ModelProto

from onnx_deconv import Semantics, compile_pair, explain_graph, load
from onnx_deconv.compiler.explain_manifest import own_top
from onnx_deconv.compiler.passes import EXPLAIN
from onnx_deconv.errors import DeconvError
from onnx_deconv.operators import rule_tables
from onnx_deconv.runtime import PairSession, numpy_of

sys.path.append(str(Path(__file__).parents[1] / "tests" / "support"))  # the networks are those of the tests

import small_networks

DEMO = Path(__file__).parents[1] / "models" / "demo.onnx"
BATCHES = 1, 8, 32
NETS = "resnet50", "squeezenet1_1", "vgg16", "mobilenet_v2", "densenet121", "efficientnet_b0"
_EXPORTS = 60
"""Seconds after which no further network is exported."""
OVERLAPPING = """
    c1 = Conv<pads=[1,1,1,1]>(x, w1, b1) r1 = Relu(c1)
    p1 = MaxPool<kernel_shape=[3,3], strides=[2,2], pads=[1,1,1,1]>(r1)
    c2 = Conv(p1, w2) r2 = Relu(c2) maps = Conv(r2, w3) g = GlobalAveragePool(maps) y = Flatten(g)
"""


@dataclass
class Day:
    """What is found, written down as soon as it is there, and the time that is left."""

    path: Path
    device: str
    small: bool
    minutes: float
    start: float = field(default_factory=time.monotonic)
    share: float = 1
    """Of the time, what may have passed at the end of the part that is under way."""
    found: dict[str, Any] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        """How long it has taken so far."""
        return time.monotonic() - self.start

    @property
    def over(self) -> bool:
        """Whether there is no time for more of this part."""
        return self.seconds > 60 * self.minutes * self.share

    def note(self, part: str, **entry: Any) -> None:
        """Write an entry down."""
        self.found.setdefault(part, []).append(entry)
        self.path.write_text(json.dumps(self.found, indent=1) + "\n")
        print(part, json.dumps(entry))

    def tried(self, part: str, what: Mapping[str, Any], find: Callable[[], Mapping[str, Any]]) -> None:
        """Find something out and write it down, or why it could not be found; nothing if time is over."""
        if self.over:
            return
        start = time.monotonic()
        try:
            result = find()
        except Exception as error:  # noqa: BLE001 - whatever it is, the rest shall be found
            result = {"failed": _said(error)}
        self.note(part, **what, **result, took=round(time.monotonic() - start, 2))


def _said(error: Exception) -> str:
    """Return what kind of error it is, and its first line."""
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0][:300]}"


class Bound:
    """A session whose inputs lie on its device, and whose results stay there."""

    def __init__(
        self, proto: ModelProto, folder: Path, device: str, feeds: Mapping[str, np.ndarray], **options: str
    ) -> None:
        settings = onnxruntime.SessionOptions()
        settings.log_severity_level = 3
        settings.add_session_config_entry("session.model_external_initializers_file_folder_path", str(folder))
        cuda = device == "cuda"
        providers = [("CUDAExecutionProvider", options)] if cuda else ["CPUExecutionProvider"]
        self.session = onnxruntime.InferenceSession(proto.SerializeToString(), settings, providers=providers)
        if cuda and "CUDAExecutionProvider" not in self.session.get_providers():
            raise RuntimeError("the CUDA provider could not be started")
        self.binding, self.device = self.session.io_binding(), device
        place = onnxruntime.OrtValue.ortvalue_from_numpy
        self.inputs = {name: place(value, device, 0) for name, value in feeds.items()}
        for name, value in self.inputs.items():
            self.binding.bind_ortvalue_input(name, value)
        self.outputs = [o.name for o in self.session.get_outputs()]
        for name in self.outputs:
            self.binding.bind_output(name, device)

    def run(self) -> None:
        """Run, and wait until it is done."""
        self.session.run_with_iobinding(self.binding)
        self.binding.synchronize_outputs()

    def results(self) -> dict[str, np.ndarray]:
        """Run; return the outputs."""
        self.run()
        values = self.binding.get_outputs()
        return {name: value.numpy() for name, value in zip(self.outputs, values, strict=True)}

    def fetched(self, name: str) -> np.ndarray:
        """Return an output of the last run."""
        return self.binding.get_outputs()[self.outputs.index(name)].numpy()

    def settle(self) -> None:
        """Have all later runs write to where the last one wrote, as CUDA graphs need it."""
        for name, value in zip(self.outputs, self.binding.get_outputs(), strict=True):
            self.binding.bind_ortvalue_output(name, value)


def session_options(*, tf32: bool, capture: bool = False) -> dict[str, str]:
    """Return the CUDA provider's options."""
    return {"use_tf32": str(int(tf32)), "enable_cuda_graph": str(int(capture))}


def networks() -> dict[str, tuple[Any, tuple[int, ...]]]:
    """Return models and the shapes of their images: pools side by side, overlapping ones, a trained net."""
    weights = {
        "w1": small_networks.random(4, 3, 3, 3), "b1": small_networks.random(4),
        "w2": small_networks.random(6, 4, 3, 3) / 2, "w3": small_networks.random(5, 6, 1, 1),
    }  # fmt: skip
    overlapping = small_networks.model(OVERLAPPING, weights, "N,3,22,22")
    return {
        "side by side": (small_networks.network(size="22,22"), (3, 22, 22)),
        "overlapping": (overlapping, (3, 22, 22)),
        "demo": (DEMO, (3, 64, 64)),
    }


def images(kind: str, shape: Sequence[int]) -> np.ndarray:
    """Make three images: noise, or flat areas, in which whole windows are equal."""
    noise = np.random.default_rng(1).standard_normal((3, *shape)).astype(np.float32)
    if kind == "random":
        return noise
    coarse = noise[:, :, ::8, ::8].repeat(8, 2).repeat(8, 3)[:, :, : shape[1], : shape[2]]
    return np.ascontiguousarray(np.round(coarse))


def feeds_of(graph: Any, x: np.ndarray) -> dict[str, np.ndarray]:
    """Return what an explain graph takes for images: each image's strongest class."""
    return {graph.manifest["inputs"][0]["name"]: x, **own_top(graph.manifest)}


def error(found: np.ndarray, expected: np.ndarray) -> dict[str, float]:
    """Return the largest difference as a share of the largest value, and the length of all as a share."""
    wide, scale = found.astype(np.float64), expected.astype(np.float64)
    apart = wide - scale
    return {
        "largest": float(np.abs(apart).max() / (np.abs(scale).max() or 1)),
        "all": float(np.linalg.norm(apart) / (np.linalg.norm(scale) or 1)),
    }


def correctness(day: Day) -> None:
    """Compare with the CPU, TF32 off: float32 should differ by rounding, float16 by its own."""
    forms = [("float32", "random", "cuda"), ("float32", "ties", "cuda"), ("float16", "random", "cuda")]
    more = [("float32", "random", "none"), ("float32", "ties", "none"), ("float16", "ties", "cuda")]
    for rules, (name, (source, shape)) in product(rule_tables(), networks().items()):
        for precision, kind, passes in forms + more * (rules == "deconvnet"):
            what = {"net": name, "rules": rules, "precision": precision, "images": kind, "passes": passes}
            day.tried("correctness", what, lambda w=what, s=source, k=shape: _compared(day, w, s, k))
    for (name, (source, shape)), kind in product(networks().items(), ("random", "ties")):
        what = {"net": name, "rules": "deconvnet", "images": kind, "form": "pair"}
        day.tried("correctness", what, lambda w=what, s=source, k=shape: _pairs(day, w, s, k))


def _compared(day: Day, what: Mapping[str, Any], source: Any, shape: Sequence[int]) -> dict[str, Any]:
    passes = EXPLAIN["cuda"] if what["passes"] == "cuda" else ()
    try:
        pair = compile_pair(load(source), semantics=Semantics(what["rules"], precision=what["precision"]))
    except DeconvError as refusal:
        return {"refused": str(refusal)}
    graph, plain = (explain_graph(pair, passes=p) for p in (passes, ()))
    feeds = feeds_of(graph, images(what["images"], shape))
    there = Bound(graph.proto, graph.folder, day.device, feeds, **session_options(tf32=False)).results()
    here = Bound(plain.proto, plain.folder, "cpu", feeds).results()
    expected = here["reconstruction"]
    return {"error": error(there["reconstruction"], expected), "not zero": float((expected != 0).mean())}


def _pairs(day: Day, what: Mapping[str, Any], source: Any, shape: Sequence[int]) -> dict[str, Any]:
    pair, x, found = compile_pair(load(source)), images(what["images"], shape), []
    for device in (day.device, "cpu"):
        session = PairSession(pair, device)
        values = session.run_forward({pair.manifest["inputs"][0]["name"]: x})
        scores = numpy_of(values[pair.manifest["explained"]["value"]])
        found.append(session.run_deconv(values, np.ones_like(scores))["reconstruction"])
    return {"error": error(*found), "tf32": day.device == "cuda"}


@dataclass(frozen=True)
class Exported:
    """A network in a file, with free batch, and the explain graph of one batch size."""

    net: str
    path: Path

    def images(self, batch: int, seed: int = 0) -> np.ndarray:
        """Make random images."""
        size = SIZES[self.net]
        return np.random.default_rng(seed).standard_normal((batch, 3, size, size)).astype(np.float32)

    def explain(self, batch: int, device: str, **options: str) -> Bound:
        """Make the explain graph for a batch, ready to run."""
        graph = explain_graph(
            compile_pair(load(self.path, {"x": self.images(batch).shape})),
            target_input="required", passes=EXPLAIN[device],
        )  # fmt: skip
        return Bound(graph.proto, graph.folder, device, feeds_of(graph, self.images(batch)), **options)

    def plain(self, batch: int, device: str, **options: str) -> Bound:
        """Make the network itself, ready to run."""
        model = load(self.path)
        return Bound(model.proto, model.folder, device, {"x": self.images(batch)}, **options)


def capture(day: Day, nets: Sequence[Exported]) -> None:
    """Capture a CUDA graph of an explain graph, and replay it on other images."""
    for net, batch in product(nets[:2], (1, 8)):
        day.tried("graphs", {"net": net.net, "batch": batch}, lambda n=net, b=batch: _captured(day, n, b))


def _captured(day: Day, net: Exported, batch: int) -> dict[str, Any]:
    plain = net.explain(batch, day.device, **session_options(tf32=False))
    bound = net.explain(batch, day.device, **session_options(tf32=False))
    bound.run()
    bound.settle()
    if day.device == "cuda":
        fixed = net.explain(batch, "cuda", **session_options(tf32=False, capture=True))
        for name, value in zip(bound.outputs, bound.binding.get_outputs(), strict=True):
            fixed.binding.bind_ortvalue_output(name, value)
        bound = fixed
        bound.run()  # captures
    errors = []
    for seed in (1, 2):
        for each in (plain, bound):
            each.inputs["x"].update_inplace(net.images(batch, seed))
        errors.append(error(bound.results()["reconstruction"], plain.results()["reconstruction"])["largest"])
    return {
        "errors": errors,
        "milliseconds": _milliseconds({"replayed": bound.run, "not captured": plain.run}, 20),
    }


def memory(day: Day, nets: Sequence[Exported]) -> None:
    """Measure what each takes on the device, each in a process of its own."""
    kinds = "plain forward", "explain graph", CAPTUM
    for net, batch, kind in product(nets[:1], (1,) if day.small else (1, 32), kinds):
        what = {"net": net.net, "batch": batch, "of": kind}
        day.tried(
            "memory", what,
            lambda n=net, b=batch, k=kind: {"mebibytes": _asked(_memory, day.device, n, k, b)},
        )  # fmt: skip


def _asked(measure: Callable[..., Any], *arguments: Any) -> Any:
    """Measure in a process of its own; an error if that dies, or takes more than a minute."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as alone:
        return alone.submit(measure, *arguments).result(timeout=60)


def _memory(device: str, net: Exported, kind: str, batch: int) -> float:
    """Return how many MiB of the device (rehearsed: of the process) are taken after two runs."""
    before = _taken(device)
    if kind == CAPTUM:
        run = CONTENDERS[CAPTUM](Case(net.net, batch, device, 2, net.path))
    else:
        make = net.plain if kind == "plain forward" else net.explain
        run = make(batch, device, **session_options(tf32=True)).run
    run()
    run()
    return round(_taken(device) - before, 1)


def _taken(device: str) -> float:
    if device == "cuda":
        import torch  # noqa: PLC0415

        free, total = torch.cuda.mem_get_info()
        return (total - free) / 2**20
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 2**20


def speed(day: Day, nets: Sequence[Exported]) -> None:
    """Time each network in each batch size, with TF32 off and on."""
    for batch, net, tf32 in product(BATCHES[:2] if day.small else BATCHES, nets, (False, True)):
        what = {"net": net.net, "batch": batch, "tf32": tf32}
        day.tried(
            "speed", what,
            lambda b=batch, n=net, t=tf32: _timed(day, n, b, tf32=t),
        )  # fmt: skip


def _timed(day: Day, net: Exported, batch: int, *, tf32: bool) -> dict[str, Any]:
    options, missing = session_options(tf32=tf32), dict[str, str]()
    explain = net.explain(batch, day.device, **options)
    runs = {
        "plain forward": net.plain(batch, day.device, **options).run,
        # As Captum's: the images lie on the device, the reconstruction is fetched.
        "explain graph": lambda: (explain.run(), explain.fetched("reconstruction")),
    }
    try:
        runs[CAPTUM] = CONTENDERS[CAPTUM](Case(net.net, batch, day.device, 2, net.path, tf32=tf32))
    except Exception as error:  # noqa: BLE001 - it may not be installed, or have no room: ours is timed alone
        missing = {f"without {CAPTUM}": _said(error)}
    return {"milliseconds": _milliseconds(runs, 3 if day.small else 15), **missing}


def _milliseconds(runs: Mapping[str, Callable[[], Any]], count: int) -> dict[str, float]:
    """Run each in turn; return the medians."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(count + 2):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            if turn > 1:  # what is made on first use is not counted
                times[name].append(1000 * (time.perf_counter() - start))
    return {name: round(statistics.median(each), 3) for name, each in times.items()}


def export(day: Day, folder: Path) -> list[Exported]:
    """Export networks, the most telling first, as long as there is time."""
    nets, end = list[Exported](), day.seconds + _EXPORTS
    for name in NETS[1:2] if day.small else NETS:
        if day.seconds < end:
            path = folder / f"{name}.onnx"
            day.tried("exports", {"net": name}, lambda n=name, p=path: exported(n, p) and {})
            nets += [Exported(name, path)] * path.exists()
    return nets


@click.command(help=__doc__)
@click.argument("results", type=click.Path(path_type=Path))
@click.option("--device", type=click.Choice(["cuda", "cpu"]), default="cuda", show_default=True)
@click.option("--small", is_flag=True, help="One network, small batches, few runs.")
@click.option("--minutes", default=7.0, show_default=True, help="After which nothing more is begun.")
def main(results: Path, device: str, minutes: float, *, small: bool) -> None:
    """Find everything out."""
    day = Day(results, device, small, minutes)
    if device == "cuda":
        day.tried("machine", {"of": "NVIDIA's libraries"}, lambda: onnxruntime.preload_dlls() or {})
    day.tried("machine", {"device": device}, lambda: {"machine": machine(device)})
    day.share = 0.35
    correctness(day)
    with tempfile.TemporaryDirectory() as folder:
        day.share = 0.5
        nets = export(day, Path(folder))
        for share, part in ((0.55, capture), (0.7, memory), (1, speed)):
            day.share = share
            part(day, nets)
    failures = sum("failed" in entry for entries in day.found.values() for entry in entries)
    day.note("end", failures=failures, seconds=round(day.seconds, 1))


if __name__ == "__main__":
    main()
