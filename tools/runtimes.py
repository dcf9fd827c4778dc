"""Prove explain graphs on the runtimes that they are made for: the table of docs/deploy.md.

    python tools/runtimes.py install ENVS                # 2 GB, outside the repository: each runtime's own
    python tools/runtimes.py table ENVS models/demo.onnx squeezenet1.1.onnx --runtime openvino --runtime web

Each model is converted for the runtime (``convert --for``), run there in batches of 1 and 3 with targets
other than the strongest class, and compared with the library's own Explainer: an error is the largest
difference, as a share of the largest value. What a runtime, or ``convert``, refuses is said. The cost is the
processor time of the explain graph as a multiple of that of the model itself, in the same runtime, in one
thread (on WebGPU the clock's); of each the fastest run, which other programs disturb least.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import onnx

from onnx_deconv import DeconvError, Explainer, Model, compile_pair, explain_graph, load
from onnx_deconv.verification import random_feeds
from onnx_deconv.verification.checks import output_limit

HERE = Path(__file__).parent / "runtimes"
PACKAGES = {
    "onnxruntime": ["onnxruntime", "numpy"], "reference": ["onnx"], "openvino": ["openvino"],
    "openvino_provider": ["onnxruntime-openvino"], "tract": ["tract"], "ncnn": ["ncnn", "pnnx"],
    "webgpu": ["playwright"],
}  # fmt: skip
"""What each runtime for Python needs."""
NODE = {"node": "onnxruntime-node", "web": "onnxruntime-web", "webgpu": "onnxruntime-web"}
"""What npm fetches for those for JavaScript; of them WebGPU needs Chromium, which Python steers."""
PROFILES = {
    "openvino_provider": "openvino",
    "reference": "web",
    "node": "onnxruntime",
    "webgpu": "web",
    "ncnn": "mobile",
}
"""What ``--for`` is called for the runtimes that are not called so themselves."""
RUNTIMES = tuple(dict.fromkeys((*PACKAGES, *NODE)))
SLOW = {"reference"}
CLOSE = 1e-3
_DTYPES = {
    np.dtype(np.float32): "float", np.dtype(np.float16): "float16", np.dtype(np.int64): "int64",
    np.dtype(np.uint8): "uint8",
}  # fmt: skip
_RECONSTRUCTION, _EXPLAINED = "reconstruction", "explained"


class RefusedError(Exception):
    """A runtime did not run a model."""


@dataclass(frozen=True)
class Runtime:
    """A runtime in an environment of its own.

    Attributes
    ----------
    name
        What it is called here.
    envs
        The folder of environments.
    """

    name: str
    envs: Path

    @property
    def command(self) -> list[str]:
        """What runs a model in it."""
        if self.name in NODE and self.name not in PACKAGES:
            return ["node", str(HERE / "run.mjs"), self.name]
        script = [str(HERE / "webgpu.py")] if self.name == "webgpu" else [str(HERE / "run.py"), self.name]
        return [str(self.envs / self.name / "bin" / "python"), *script]

    @property
    def is_installed(self) -> bool:
        """Whether it is there."""
        modules = self.envs / "node" / "node_modules"
        has_modules = self.name not in NODE or (modules / NODE[self.name]).is_dir()
        return has_modules and (self.name not in PACKAGES or Path(self.command[0]).exists())

    def run(
        self, folder: Path, feeds: Mapping[str, np.ndarray], outputs: Sequence[str], runs: int
    ) -> tuple[dict[str, np.ndarray], float]:
        """Run ``folder/model.onnx``; return outputs, and the milliseconds of the fastest run.

        Raises
        ------
        RefusedError
            If it cannot.
        """
        _write(folder, feeds, outputs)
        done = subprocess.run(
            [*self.command, str(folder), str(1 if self.name in SLOW else runs)],
            cwd=self.envs / "node" if self.name in NODE else folder,
            capture_output=True, text=True, check=False, timeout=600,
        )  # fmt: skip
        if done.returncode:
            raise RefusedError(_reason(done.stderr))
        told = json.loads((folder / "outputs.json").read_text())
        numbers = {kind: dtype for dtype, kind in _DTYPES.items()}
        found = {
            o["name"]: np.frombuffer((folder / o["file"]).read_bytes(), numbers[o["dtype"]]).reshape(
                o["shape"]
            )
            for o in told["outputs"]
        }
        return found, min(told["milliseconds"])


def _write(folder: Path, feeds: Mapping[str, np.ndarray], outputs: Sequence[str]) -> None:
    """Write down what to run ``folder/model.onnx`` on."""
    entries = []
    for k, (name, array) in enumerate(feeds.items()):
        (folder / f"feed{k}.bin").write_bytes(np.ascontiguousarray(array).tobytes())
        kind = _DTYPES[array.dtype]
        entries.append({"name": name, "dtype": kind, "shape": array.shape, "file": f"feed{k}.bin"})
    given = [o.name for o in onnx.load(folder / "model.onnx", load_external_data=False).graph.output]
    told = {"feeds": entries, "outputs": list(outputs), "places": [given.index(name) for name in outputs]}
    (folder / "feeds.json").write_text(json.dumps(told))


def _reason(text: str) -> str:
    """Find the line of a runtime's complaint that says what is wrong."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    telling = [line for line in lines if "Error" in line or "error:" in line or "Failed" in line]
    return (telling or lines or ["it said nothing"])[-1][:200]


@dataclass(frozen=True)
class Found:
    """What one runtime gave for one model and batch: an error, or what was refused, and times.

    Attributes
    ----------
    limit
        How large the error may be: float16 and quantised models are rounded otherwise by each runtime.
    """

    error: float | None = None
    refused: str = ""
    explain: float = 0
    plain: float = 0
    limit: float = CLOSE

    @property
    def is_wrong(self) -> bool:
        """Whether what the runtime gave is too far off."""
        return self.error is not None and self.error > self.limit

    def __str__(self) -> str:
        if self.error is None:
            return f"refused: {self.refused}"
        wrong = "**wrong** " if self.is_wrong else ""
        return f"{wrong}{self.error:.0e}" + (f", {self.explain / self.plain:.1f}×" if self.plain else "")


def proved(runtime: Runtime, path: Path, batch: int, runs: int) -> Found:
    """Convert a model for a runtime, run it there, and compare."""
    shape = random_feeds(load(path), np.random.default_rng(0))
    (name, first), *_ = shape.items()
    model = load(path, {name: (batch, *first.shape[1:])})
    x = np.concatenate([random_feeds(load(path), np.random.default_rng(k))[name] for k in range(batch)])
    targets = _others(model, x)
    profile = PROFILES.get(runtime.name, runtime.name)
    try:
        graph = explain_graph(compile_pair(model), seed="one", runtime=profile)
    except DeconvError as refusal:
        return Found(refused=str(refusal))
    explainer = Explainer(model, providers="cpu")
    expected = [
        e.reconstruction for e in explainer(x, targets.tolist(), layer=explainer.scores_layer, seed="one")
    ]
    with tempfile.TemporaryDirectory() as folder:
        try:
            return _compared(
                runtime, Path(folder), graph, model, {name: x, "target": targets}, expected, runs
            )
        except RefusedError as refusal:
            return Found(refused=str(refusal))


def _others(model: Model, x: np.ndarray) -> np.ndarray:
    """Choose a class for each image that is not its strongest."""
    explainer = Explainer(model, providers="cpu")
    classes = model.type_of(explainer.scores_layer).shape[1]
    top = [e.channel for e in explainer(x, seed="one")]
    return np.array([(int(t) + 1 + k % (classes - 1)) % classes for k, t in enumerate(top)])


def _compared(
    runtime: Runtime, folder: Path, graph: object, model: Model, feeds: Mapping[str, np.ndarray],
    expected: Sequence[np.ndarray], runs: int,
) -> Found:  # fmt: skip
    saved = graph.save(folder)[0]
    saved.rename(folder / "model.onnx")
    found, explain = runtime.run(folder, feeds, [_RECONSTRUCTION, _EXPLAINED], runs)
    if (found[_EXPLAINED] != feeds["target"]).any():
        return Found(error=float("inf"))
    limit = max(CLOSE, output_limit(model))
    largest = np.abs(expected).max() or 1
    error = float(np.abs(found[_RECONSTRUCTION] - np.stack(expected)).max() / largest)
    plain = folder / "plain"
    plain.mkdir()
    whole = onnx.load_from_string(model.proto.SerializeToString())
    onnx.load_external_data_for_model(whole, str(model.folder))
    onnx.save(whole, plain / "model.onnx")
    (name, x), *_ = feeds.items()
    try:
        _, alone = runtime.run(plain, {name: x}, model.outputs[:1], runs)
    except RefusedError:
        alone = 0
    return Found(error, explain=explain, plain=alone, limit=limit)


@click.group(help=__doc__)
def main() -> None:
    """Install, or print the table."""


@main.command()
@click.argument("envs", type=click.Path(path_type=Path))
def install(envs: Path) -> None:
    """Make ENVS, an environment for each runtime; pip and npm fetch what is in them."""
    for name, packages in PACKAGES.items():
        subprocess.run([sys.executable, "-m", "venv", str(envs / name)], check=True)
        subprocess.run([str(envs / name / "bin" / "pip"), "install", "--quiet", *packages], check=True)
    (envs / "node").mkdir(parents=True, exist_ok=True)
    # Its script would fetch CUDA's libraries from elsewhere.
    npm = ["npm", "install", "--ignore-scripts", "--no-fund", *dict.fromkeys(NODE.values())]
    subprocess.run(npm, cwd=envs / "node", check=True)


@main.command()
@click.argument("envs", type=click.Path(exists=True, path_type=Path))
@click.argument("models", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option(
    "--runtime", "names", multiple=True, type=click.Choice(RUNTIMES), help="[default: all installed]"
)
@click.option("--batch", "batches", multiple=True, type=int, default=(1, 3), show_default=True)
@click.option("--runs", default=9, show_default=True)
def table(
    envs: Path, models: tuple[Path, ...], names: Sequence[str], batches: Sequence[int], runs: int
) -> None:
    """Print errors and costs of MODELS in the runtimes of ENVS; exit with 1 if one is wrong."""
    runtimes = [r for r in (Runtime(name, envs.absolute()) for name in names or RUNTIMES) if r.is_installed]
    click.echo(f"| | {' | '.join(r.name for r in runtimes)} |\n|{'---|' * (len(runtimes) + 1)}")
    wrong = False
    for path in models:
        for batch in batches:
            if load(path).batch not in (None, batch):
                continue
            cells = [proved(runtime, path, batch, runs) for runtime in runtimes]
            wrong |= any(cell.is_wrong for cell in cells)
            click.echo(f"| {path.stem}, batch {batch} | {' | '.join(map(str, cells))} |")
    sys.exit(wrong)


if __name__ == "__main__":
    main()
