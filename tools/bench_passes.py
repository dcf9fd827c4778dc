"""Measure what each optimisation pass saves: the explain graph without it, beside the one with all.

    python tools/bench_passes.py squeezenet.onnx resnet50.onnx ...

Processor time of one thread (which other programs disturb little), or time on the clock of several threads;
medians. All graphs of a file run in turn, on one random image. The table says how much longer an explanation
takes without each pass; – where it changes nothing.
"""

import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import click
import numpy as np
from onnx import ModelProto

from onnx_deconv import compile_pair, explain_graph, load
from onnx_deconv.compiler.passes import EXPLAIN
from onnx_deconv.runtime import Session
from onnx_deconv.verification.random_feeds import random_feeds


@click.command(help=__doc__)
@click.argument("paths", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--runs", default=15, show_default=True)
@click.option("--threads", default=1, show_default=True)
def main(paths: tuple[Path, ...], runs: int, threads: int) -> None:
    """Print the table."""
    click.echo(f"| without | {' | '.join(path.stem for path in paths)} |\n|{'---|' * (len(paths) + 1)}")
    columns = [longer_without(path, runs, threads) for path in paths]
    for name in EXPLAIN["cpu"]:
        click.echo(f"| `{name}` | {' | '.join(column.get(name, '–') for column in columns)} |")
    click.echo(f"| all (ms with them) | {' | '.join(column['all'] for column in columns)} |")


def longer_without(path: Path, runs: int, threads: int) -> dict[str, str]:
    """Return how much longer an explanation takes without each pass, and without all."""
    model = load(path)
    pair, names = compile_pair(model), EXPLAIN["cpu"]
    lists = {"": names} | {name: tuple(n for n in names if n != name) for name in names} | {"all": ()}
    graphs = {
        name: explain_graph(pair, target_input="optional", passes=passes) for name, passes in lists.items()
    }
    clock = time.thread_time if threads == 1 else time.perf_counter
    feeds = random_feeds(model, np.random.default_rng(0))
    sessions = {
        name: Session(graph.proto, graph.folder, "cpu", threads=threads)
        for name, graph in graphs.items()
        if not name or not same(graph.proto, graphs[""].proto)
    }
    seconds = timed({name: lambda s=session: s.run(feeds) for name, session in sessions.items()}, runs, clock)
    whole = seconds.pop("")
    found = {name: f"{100 * (each / whole - 1):+.0f} %" for name, each in seconds.items()}
    return found | {"all": f"{found.get('all', '–')} ({1e3 * whole:.1f})"}


def same(one: ModelProto, other: ModelProto) -> bool:
    """Tell whether two graphs have the same operators in the same order."""
    return [n.op_type for n in one.graph.node] == [n.op_type for n in other.graph.node]


def timed(calls: dict[str, Callable[[], object]], runs: int, clock: Callable[[], float]) -> dict[str, float]:
    """Run functions in turn; return the median of each one's time, in seconds."""
    found: dict[str, list[float]] = {name: [] for name in calls}
    for k in range(runs + 2):
        for name, call in calls.items():
            start = clock()
            call()
            if k > 1:  # what is made on first use is not counted
                found[name].append(clock() - start)
    return {name: median(each) for name, each in found.items()}


if __name__ == "__main__":
    main()
