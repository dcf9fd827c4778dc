"""Measure what an explanation costs: against the plain forward pass, and against what else there is.

    python tools/bench.py run bench.jsonl                    # all networks, batches of 1, 8 and 32
    python tools/bench.py run bench.jsonl --net vgg16 --batch 1 --runs 5
    python tools/bench.py report bench.jsonl docs/performance.png    # prints the tables, draws the plot

Needs torch, torchvision, captum and onnx (matplotlib for the plot; dianna for ``--rise``; tensorflow-cpu,
tf_keras, tf2onnx and xplique for ``--net keras_resnet50``). The networks are torchvision's (or Keras's)
with random weights. Each contender (``tools/contenders.py``) lives in a process of its own, so that no
library's threads or memory are in another's way; all are made first and then run in turn, so
that a busy machine hits them alike; a figure is a median (or, on a machine
that others use too, the fastest run: ``report --fastest``). They have the same weights, input and number of
threads. A result is written as soon as it is there, and what the file has already is not measured again.
"""

import json
import multiprocessing
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import click
import numpy as np
from contenders import (
    CAPTUM,
    CONTENDERS,
    EXPLAIN,
    KERAS,
    PLAIN,
    RISE,
    SIZES,
    XPLIQUE,
    Case,
    contenders,
    exported,
    limit,
)

BATCHES = 1, 8, 32

_PAUSE = 0.05
"""Seconds before each run, in which the threads of the last one stop looking for work."""


def serve(connection: Connection, name: str, case: Case, clock: str) -> None:
    """Make a contender; run it whenever asked, and tell the seconds, or what failed."""
    seconds = getattr(time, clock)
    try:
        limit(case.threads)
        run = CONTENDERS[name](case)
        run()  # what is made on first use is not counted
        run()
    except Exception as error:  # noqa: BLE001 - whatever it is, the others shall be measured
        said = str(error).strip() or "no more was said"
        connection.send(f"{type(error).__name__}: {said.splitlines()[0][:150]}")
        return
    connection.send(None)
    while connection.recv():
        start = seconds()
        run()
        connection.send(seconds() - start)


def timed(
    names: Iterable[str], case: Case, runs: int, clock: str
) -> tuple[dict[str, list[float]], dict[str, str]]:
    """Run contenders in turn; return the seconds of each run, and why some could not run."""
    spawn = multiprocessing.get_context("spawn")
    found: dict[str, list[float]] = {}
    failed: dict[str, str] = {}
    asked: dict[str, Connection] = {}
    for name in names:
        asked[name], theirs = spawn.Pipe()
        spawn.Process(target=serve, args=(theirs, name, case, clock), daemon=True).start()
        theirs.close()
        if why := _answer(asked[name]):
            failed[name] = why
            del asked[name]
    for _ in range(runs):
        for name, connection in asked.items():
            time.sleep(_PAUSE)
            connection.send(True)
            found.setdefault(name, []).append(connection.recv())
    for connection in asked.values():
        connection.send(False)
    return found, failed


def _answer(connection: Connection) -> str | None:
    try:
        return connection.recv()
    except EOFError:
        return "its process ended (out of memory?)"


def machine(device: str) -> str:
    """Describe the machine in a line."""
    import onnxruntime  # noqa: PLC0415
    import torch  # noqa: PLC0415

    models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line]
    cpu = models[0].partition(":")[2].strip() if models else platform.processor()
    gpu = f", {torch.cuda.get_device_name()}" if device == "cuda" else ""
    versions = f"onnxruntime {onnxruntime.__version__}, torch {torch.__version__}"
    return f"{cpu}{gpu}; {versions}"


@click.group(help=__doc__)
def main() -> None:
    """Measure."""


@main.command()
@click.argument("results", type=click.Path(path_type=Path))
@click.option(
    "--net", "nets", multiple=True, type=click.Choice([*SIZES, *KERAS]), help="[default: all of torchvision]"
)
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
@click.option("--rise", is_flag=True, help="DIANNA's black-box sampler too, on the first image alone.")
def run(
    results: Path, nets: list[str], batches: list[int], runs: int, threads: int | None, device: str,
    *, cpu_time: bool, compiled: bool, rise: bool,
) -> None:  # fmt: skip
    """Measure what RESULTS lacks, and append it."""
    threads = threads or len(os.sched_getaffinity(0))
    done = {(r["net"], r["batch"], r["device"]) for r in _read(results)}
    optional = {f"{CAPTUM}, compiled": compiled, RISE: rise}
    for net in nets or SIZES:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "net.onnx"
            for batch in batches or BATCHES:
                if (net, batch, device) in done:
                    continue
                if not path.exists():
                    exported(net, path)
                case = Case(net, batch, device, threads, path)
                names = [name for name in contenders(net) if optional.get(name, True)]
                count = max(3, runs if batch < BATCHES[-1] else runs // 3)
                times, failed = timed(names, case, count, "thread_time" if cpu_time else "perf_counter")
                kind = "processor" if cpu_time else "clock"
                record = {
                    "net": net, "batch": batch, "device": device, "runs": count,
                    "machine": f"{machine(device)}, {threads} threads; {kind} time",
                    "times": times, "failed": failed,
                }  # fmt: skip
                with results.open("a") as file:
                    file.write(json.dumps(record) + "\n")
                click.echo(_row(_with_seconds(record, statistics.median), times))


def _read(results: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in results.read_text().splitlines()] if results.exists() else []


def _with_seconds(record: dict[str, Any], of: Callable[[list[float]], float]) -> dict[str, Any]:
    return record | {"seconds": {name: of(times) for name, times in record["times"].items()}}


def _row(record: dict[str, Any], columns: Iterable[str]) -> str:
    seconds = record["seconds"]
    theirs = next((seconds[name] for name in (CAPTUM, XPLIQUE) if name in seconds), None)
    cells = [record["net"], str(record["batch"])]
    cells += [f"{1e3 * seconds[name]:.1f}" if name in seconds else "–" for name in columns]
    cells.append(f"{seconds[EXPLAIN] / seconds[PLAIN]:.2f}")
    cells.append(f"{theirs / seconds[EXPLAIN]:.2f}" if theirs else "–")
    return f"| {' | '.join(cells)} |"


@main.command()
@click.argument("results", type=click.Path(exists=True, path_type=Path))
@click.argument("plot", type=click.Path(path_type=Path), required=False)
@click.option("--fastest", is_flag=True, help="Of each contender's runs the fastest, not the median.")
def report(results: Path, plot: Path | None, *, fastest: bool) -> None:
    """Print the table of RESULTS, and draw PLOT."""
    records = [_with_seconds(r, min if fastest else statistics.median) for r in _read(results)]
    click.echo(f"{records[0]['machine']}; milliseconds\n")
    columns = [name for name in CONTENDERS if any(name in r["seconds"] for r in records)]
    heads = ["network", "batch", *columns, "explain / plain", "theirs / explain"]
    click.echo(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
    for record in records:
        click.echo(_row(record, columns))
    ratios = [s[CAPTUM] / s[EXPLAIN] for r in records if CAPTUM in (s := r["seconds"])]
    if ratios:
        mean, least = statistics.geometric_mean(ratios), min(ratios)
        click.echo(f"\n{CAPTUM} / explain: {mean:.2f} in the geometric mean, at least {least:.2f}")
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
        yticks=places,
        yticklabels=names,
        xlabel="time, in plain forward passes of onnxruntime (2: the same arithmetic twice)",
    )
    axes.invert_yaxis()
    axes.legend()
    plt.savefig(plot, dpi=120)


if __name__ == "__main__":
    main()
