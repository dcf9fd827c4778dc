"""Measure what an explanation costs: against the plain forward pass, and against what else there is.

    python tools/bench.py run bench.jsonl                    # all networks, batches of 1, 8 and 32
    python tools/bench.py run bench.jsonl --net vgg16 --batch 1 --runs 5
    python tools/bench.py report bench.jsonl docs/performance.png    # prints the tables, draws the plot

Needs torch, torchvision, captum and onnx (and matplotlib for the plot). The networks are torchvision's
with random weights. For one network and batch all contenders are made first and then run in turn, so
that a busy machine hits them alike; a figure is a median (or, on a machine
that others use too, the fastest run: ``report --fastest``). They have the same weights, input and number of
threads. A result is written as soon as it is there, and what the file has already is not measured again.
"""

import json
import os
import platform
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np

SIZES = {
    "squeezenet1_1": 224, "vgg16": 224, "resnet50": 224, "densenet121": 224, "inception_v3": 299,
    "mobilenet_v2": 224, "efficientnet_b0": 224,
}  # fmt: skip
BATCHES = 1, 8, 32
PLAIN, EXPLAIN, CAPTUM = "plain forward", "explain graph", "Captum Deconvolution"

_PAUSE = 0.05
"""Seconds before each run, in which the threads of the last one stop looking for work."""

Contender = Callable[[], Any]


def torchvision_models() -> Any:
    """Import torchvision's models, also where its compiled operators (which they do not use) are missing."""
    import torch  # noqa: PLC0415

    register = torch.library.register_fake
    torch.library.register_fake = lambda *_, **__: lambda function: function
    try:
        import torchvision.models  # noqa: PLC0415
    finally:
        torch.library.register_fake = register
    return torchvision.models


def network(name: str) -> Any:
    """Make one of torchvision's networks with random weights."""
    import torch  # noqa: PLC0415

    torch.manual_seed(0)
    more = {"init_weights": True, "aux_logits": True} if name == "inception_v3" else {}
    return getattr(torchvision_models(), name)(weights=None, **more).eval()


def exported(net: Any, size: int, path: Path) -> Path:
    """Export a network to ONNX."""
    import torch  # noqa: PLC0415

    axes = {"x": {0: "N"}, "y": {0: "N"}}
    torch.onnx.export(
        net, torch.zeros(2, 3, size, size), path, dynamo=False, opset_version=17,
        input_names=["x"], output_names=["y"], dynamic_axes=axes,
    )  # fmt: skip
    return path


def ours(path: Path, x: np.ndarray, providers: str) -> Iterator[tuple[str, Contender]]:
    """Yield the plain model, that with switches, the pair, and the explain graph, lowered and not."""
    from onnx_deconv import compile_pair, explain_graph, load  # noqa: PLC0415
    from onnx_deconv.lower import EXPLAIN as LOWERINGS  # noqa: PLC0415
    from onnx_deconv.runtime import PairSession, Session, numpy_of  # noqa: PLC0415

    model = load(path)
    pair = compile_pair(model)
    plain = Session(model.proto, model.folder, providers)
    yield PLAIN, lambda: numpy_of(plain.run({"x": x})["y"])
    session = PairSession(pair, providers)
    yield "forward with switches", lambda: session.run_forward({"x": x})

    def both() -> np.ndarray:
        values = session.run_forward({"x": x})
        scores = numpy_of(values["y"])
        seed = np.zeros_like(scores)
        seed[np.arange(len(x)), scores.argmax(1)] = 1
        return session.run_deconv(values, seed)["reconstruction"]

    yield "pair", both
    for name, passes in ((EXPLAIN, LOWERINGS[session.forward.device]), ("explain graph, not lowered", ())):
        graph = explain_graph(pair, lowerings=passes)
        one = Session(graph.proto, graph.folder, providers)
        yield name, lambda one=one: numpy_of(one.run({"x": x})["reconstruction"])


def torchs(net: Any, x: np.ndarray, device: str, *, compiled: bool) -> Iterator[tuple[str, Contender]]:
    """Yield Captum's deconvolution, eager and compiled, and the gradient by autograd."""
    import torch  # noqa: PLC0415
    from captum.attr import Deconvolution  # noqa: PLC0415

    net = net.to(device)
    batch = torch.from_numpy(x).to(device)
    with torch.no_grad():
        top = net(batch).argmax(1)

    def gradient() -> np.ndarray:
        image = batch.clone().requires_grad_()
        scores = net(image)
        score = scores.gather(1, scores.argmax(1, keepdim=True)).sum()
        return torch.autograd.grad(score, image)[0].cpu().numpy()

    yield "autograd gradient", gradient
    hooked = Deconvolution(_without_inplace(net))
    yield CAPTUM, lambda: hooked.attribute(batch, target=top).detach().cpu().numpy()
    if compiled:
        faster = Deconvolution(torch.compile(_without_inplace(net)))
        yield f"{CAPTUM}, compiled", lambda: faster.attribute(batch, target=top).detach().cpu().numpy()


def _without_inplace(net: Any) -> Any:
    """Copy a network without ReLUs in place, which Captum's hooks refuse, or used twice."""
    import copy  # noqa: PLC0415

    net = copy.deepcopy(net)
    for module in net.modules():
        if hasattr(module, "inplace"):
            module.inplace = False
    return net


def sampler(path: Path, x: np.ndarray, masks: int = 1000) -> Iterator[tuple[str, Contender]]:
    """Yield RISE on the plain model (Petsiuk et al. 2018; DIANNA's default is 1000 masks), as DIANNA runs it.

    For the time alone: masks are drawn beforehand, and of the model's runs one batch of 100 is timed.
    """
    from onnx_deconv import load  # noqa: PLC0415
    from onnx_deconv.runtime import Session, numpy_of  # noqa: PLC0415

    model = load(path)
    session, size = Session(model.proto, model.folder, "cpu"), x.shape[-1]
    rng = np.random.default_rng(0)
    drawn = rng.random((100, 1, size, size), np.float32)

    def tenth() -> float:
        scores = numpy_of(session.run({"x": drawn * x[:1]})["y"])
        return float((scores[:, 0, None, None] * drawn[:, 0]).sum())

    yield f"a tenth of RISE's {masks} masks", tenth


def timed(
    contenders: dict[str, Contender], runs: int, clock: Callable[[], float]
) -> tuple[dict[str, list[float]], dict[str, str]]:
    """Run the contenders in turn; return the seconds of each run, and why some could not run."""
    failed: dict[str, str] = {}
    for name, run in list(contenders.items()):
        try:
            run()  # what is made on first use is not counted
            run()
        except Exception as error:  # noqa: BLE001 - whatever it is, the others shall be measured
            failed[name] = f"{type(error).__name__}: {str(error).strip().splitlines()[0][:150]}"
            del contenders[name]
    found: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(runs):
        for name, run in contenders.items():
            time.sleep(_PAUSE)
            start = clock()
            run()
            found[name].append(clock() - start)
    return found, failed


def _limit(threads: int) -> None:
    """Have every session made from here on run in so many threads."""
    import onnxruntime  # noqa: PLC0415

    make = onnxruntime.SessionOptions

    def limited() -> Any:
        options = make()
        options.intra_op_num_threads = threads
        return options

    onnxruntime.SessionOptions = limited


def machine(device: str) -> str:
    """Describe the machine in a line."""
    import onnxruntime  # noqa: PLC0415
    import torch  # noqa: PLC0415

    models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line]
    cpu = models[0].partition(":")[2].strip() if models else platform.processor()
    gpu = f", {torch.cuda.get_device_name()}" if device == "cuda" else ""
    versions = f"onnxruntime {onnxruntime.__version__}, torch {torch.__version__}"
    return f"{cpu}{gpu}, {torch.get_num_threads()} threads; {versions}"


@click.group(help=__doc__)
def main() -> None:
    """Measure."""


@main.command()
@click.argument("results", type=click.Path(path_type=Path))
@click.option("--net", "nets", multiple=True, type=click.Choice(list(SIZES)), help="[default: all]")
@click.option("--batch", "batches", multiple=True, type=int, help="[default: 1, 8, 32]")
@click.option("--runs", default=15, show_default=True, help="Of each contender; at batch 32 a third.")
@click.option("--threads", type=int, help="[default: one for each core]")
@click.option(
    "--cpu-time",
    is_flag=True,
    help="Time on the processor, not on the clock: with --threads 1, on a busy machine.",
)
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True)
@click.option("--compiled", is_flag=True, help="torch.compile for Captum too (minutes for each network).")
@click.option("--rise", is_flag=True, help="A black-box sampler too, at batch 1.")
def run(
    results: Path, nets: list[str], batches: list[int], runs: int, threads: int | None, device: str,
    *, cpu_time: bool, compiled: bool, rise: bool,
) -> None:  # fmt: skip
    """Measure what RESULTS lacks, and append it."""
    import torch  # noqa: PLC0415

    warnings.simplefilter("ignore")
    threads = threads or len(os.sched_getaffinity(0))
    torch.set_num_threads(threads)
    _limit(threads)
    clock = time.thread_time if cpu_time else time.perf_counter
    if device == "cuda":
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    done = {(r["net"], r["batch"], r["device"]) for r in _read(results)}
    for name in nets or SIZES:
        for batch in batches or BATCHES:
            if (name, batch, device) in done:
                continue
            size, net = SIZES[name], network(name)
            x = np.random.default_rng(0).standard_normal((batch, 3, size, size)).astype(np.float32)
            with tempfile.TemporaryDirectory() as folder:
                path = exported(net, size, Path(folder) / "net.onnx")
                contenders = dict(ours(path, x, device))
                contenders |= torchs(net, x, device, compiled=compiled)
                if rise and batch == 1:
                    contenders |= sampler(path, x)
                count = max(3, runs if batch < BATCHES[-1] else runs // 3)
                times, failed = timed(contenders, count, clock)
            kind = "processor" if cpu_time else "clock"
            record = {
                "net": name, "batch": batch, "device": device, "runs": runs,
                "machine": f"{machine(device)}; {kind} time", "times": times, "failed": failed,
            }  # fmt: skip
            with results.open("a") as file:
                file.write(json.dumps(record) + "\n")
            click.echo(_row(_with_seconds(record, statistics.median)))


def _read(results: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in results.read_text().splitlines()] if results.exists() else []


def _with_seconds(record: dict[str, Any], of: Callable[[list[float]], float]) -> dict[str, Any]:
    return record | {"seconds": {name: of(times) for name, times in record["times"].items()}}


def _row(record: dict[str, Any]) -> str:
    seconds = record["seconds"]
    cells = [record["net"], str(record["batch"])]
    cells += [f"{1e3 * seconds[name]:.1f}" if name in seconds else "–" for name in _COLUMNS]
    if CAPTUM in seconds:
        cells += [f"{seconds[EXPLAIN] / seconds[PLAIN]:.2f}", f"{seconds[CAPTUM] / seconds[EXPLAIN]:.2f}"]
    return f"| {' | '.join(cells)} |"


_COLUMNS = [
    PLAIN, "forward with switches", "pair", EXPLAIN, "explain graph, not lowered", CAPTUM,
    f"{CAPTUM}, compiled", "autograd gradient",
]  # fmt: skip


@main.command()
@click.argument("results", type=click.Path(exists=True, path_type=Path))
@click.argument("plot", type=click.Path(path_type=Path), required=False)
@click.option("--fastest", is_flag=True, help="Of each contender's runs the fastest, not the median.")
def report(results: Path, plot: Path | None, *, fastest: bool) -> None:
    """Print the table of RESULTS, and draw PLOT."""
    records = [_with_seconds(r, min if fastest else statistics.median) for r in _read(results)]
    click.echo(f"{records[0]['machine']}; milliseconds\n")
    heads = ["network", "batch", *_COLUMNS, "explain / plain", "Captum / explain"]
    click.echo(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
    for record in records:
        click.echo(_row(record))
    ratios = [s[CAPTUM] / s[EXPLAIN] for r in records if CAPTUM in (s := r["seconds"])]
    mean, least = statistics.geometric_mean(ratios), min(ratios)
    click.echo(f"\nCaptum / explain: {mean:.2f} in the geometric mean, at least {least:.2f}")
    for record in records:
        for name, why in record["failed"].items():
            click.echo(f"{record['net']}, batch {record['batch']}: {name} did not run ({why})")
    if plot is not None:
        _draw(records, plot)


def _draw(records: list[dict[str, Any]], plot: Path) -> None:
    import matplotlib as mpl  # noqa: PLC0415

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    names = [f"{r['net']} ×{r['batch']}" for r in records]
    places = np.arange(len(names))
    _, axes = plt.subplots(figsize=(9, 0.35 * len(names) + 1.5), layout="constrained")
    for k, contender in enumerate((EXPLAIN, "autograd gradient", CAPTUM)):
        values = [r["seconds"].get(contender, 0) / r["seconds"][PLAIN] for r in records]
        axes.barh(places + 0.27 * (k - 1), values, 0.25, label=contender)
    axes.axvline(2, color="grey", linewidth=1)
    axes.set(
        yticks=places, yticklabels=names, xlabel="time, in plain forward passes of onnxruntime (2: the limit)"
    )
    axes.invert_yaxis()
    axes.legend()
    plt.savefig(plot, dpi=120)


if __name__ == "__main__":
    main()
