"""Measure what converting a large model and explaining from cold cost.

    python tools/bench_convert.py convert vgg19.onnx       # tools/make_vgg19.py writes one
    python tools/bench_convert.py nodes 2500 5000 10000 20000   # of a network of that many
    python tools/bench_convert.py explain MODEL IMAGE [options of onnx-deconv explain]

Each figure is the median of several runs of the whole program, its start included: seconds on the clock,
seconds of processor time (which other programs move less), and the peak of the resident set, where pages of
a mapped file count while they are resident.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click
import onnx
from onnx import helper

from onnx_deconv import compile_pair, load


def measure(*arguments: str) -> tuple[float, float, float]:
    """Run the command line once; return (seconds, processor seconds, peak resident memory in MB)."""
    start = time.perf_counter()
    command = [sys.executable, "-m", "onnx_deconv", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise click.ClickException(f"{' '.join(command)} failed")
    return seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def report(runs: list[tuple[float, float, float]], size: float) -> None:
    """Print the medians."""
    seconds, processor, peak = (statistics.median(column) for column in zip(*runs, strict=True))
    times = f"{peak / size:.2f} times the file ({size:.0f} MB)"
    took = f"{seconds:.2f} s, {processor:.2f} s of processor time"
    print(f"{took}, peak {peak:.0f} MB = {times}, {len(runs)} runs")


@click.group(help=__doc__)
def main() -> None:
    """Measure."""


@main.command()
@click.argument("model", type=click.Path(exists=True, path_type=Path))
@click.option("--runs", default=5, show_default=True)
@click.option("--check", default=0, show_default=True, help="Self-checks of convert; they run the model.")
def convert(model: Path, runs: int, check: int) -> None:
    """Measure ``onnx-deconv convert MODEL``."""
    with tempfile.TemporaryDirectory() as folder:
        found = [measure("convert", str(model), "-o", folder, "--check", str(check)) for _ in range(runs)]
    report(found, model.stat().st_size / 1e6)


@main.command()
@click.argument("counts", type=int, nargs=-1, required=True)
def nodes(counts: tuple[int, ...]) -> None:
    """Measure loading and compiling networks of many nodes, in this process."""
    for count in counts:
        proto = residual_network(count)
        start = time.process_time()
        pair = compile_pair(load(proto))
        seconds = time.process_time() - start
        made = f"{len(pair.deconv.graph.node)} in the companion"
        each = f"{1e6 * seconds / count:.0f} µs a node"
        print(f"{len(proto.graph.node)} nodes, {made}: {seconds:.2f} s of processor time, {each}")


def residual_network(count: int) -> onnx.ModelProto:
    """Make residual blocks of Conv, SiLU in two nodes, Add and Relu: five nodes each."""
    made, x = [], "x"
    for k in range(count // 5):
        made += [
            helper.make_node("Conv", [x, "w"], [f"c{k}"], f"conv{k}"),
            helper.make_node("Sigmoid", [f"c{k}"], [f"s{k}"]),
            helper.make_node("Mul", [f"c{k}", f"s{k}"], [f"m{k}"]),
            helper.make_node("Add", [f"m{k}", x], [f"a{k}"]),
            helper.make_node("Relu", [f"a{k}"], [f"r{k}"]),
        ]
        x = f"r{k}"
    image, result = (helper.make_tensor_value_info(v, 1, [1, 4, 8, 8]) for v in ("x", x))
    weight = helper.make_tensor("w", 1, [4, 4, 1, 1], [0.1] * 16)
    graph = helper.make_graph(made, "residual", [image], [result], [weight])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@main.command(context_settings={"ignore_unknown_options": True})
@click.argument("model", type=click.Path(exists=True, path_type=Path))
@click.argument("image", type=click.Path(exists=True))
@click.argument("options", nargs=-1)
@click.option("--runs", default=5, show_default=True)
def explain(model: Path, image: str, options: tuple[str, ...], runs: int) -> None:
    """Measure ``onnx-deconv explain MODEL IMAGE``."""
    with tempfile.TemporaryDirectory() as folder:
        found = [measure("explain", str(model), image, "-o", folder, *options) for _ in range(runs)]
    report(found, model.stat().st_size / 1e6)


if __name__ == "__main__":
    main()
