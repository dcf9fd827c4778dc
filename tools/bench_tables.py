"""Measure what an answer with its explanation costs by each method, in plain forward passes.

    python tools/bench_tables.py squeezenet.onnx mobilenet.onnx

Milliseconds of one thread's processor time, which other programs disturb little; with ``--threads 2`` on the
clock. The explain graphs and the model itself run in turn, on one random image; a figure is a median.
"""

import statistics
import time
from pathlib import Path

import click
import numpy as np
from contenders import limit

from onnx_deconv import Semantics, compile_pair, explain_graph, load
from onnx_deconv.attribution.method import AUTO, CLASS_METHOD
from onnx_deconv.operators import rule_tables
from onnx_deconv.runtime import Session
from onnx_deconv.verification import random_feeds


def timed(
    sessions: dict[str, Session], feeds: dict[str, np.ndarray], runs: int, *, cpu: bool
) -> dict[str, float]:
    """Run sessions in turn; return the median of each in milliseconds."""
    clock, found = time.process_time if cpu else time.perf_counter, {name: [] for name in sessions}
    for round_ in range(runs + 2):
        for name, session in sessions.items():
            if not cpu:
                time.sleep(0.05)  # in which the threads of the last one stop looking for work
            start = clock()
            session.run(feeds)
            if round_ > 1:  # what is made on first use is not counted
                found[name].append(1000 * (clock() - start))
    return {name: statistics.median(times) for name, times in found.items()}


@click.command(help=__doc__)
@click.argument("models", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option(
    "--method", "chosen", multiple=True, help="Of the table's columns, as auto or grad-cam; or any other."
)
@click.option("--runs", default=15, show_default=True)
@click.option("--threads", default=1, show_default=True)
def main(models: tuple[Path, ...], chosen: tuple[str, ...], runs: int, threads: int) -> None:
    """Measure."""
    limit(threads)
    names = chosen or (AUTO, "grad-cam", *rule_tables())
    methods = {name: CLASS_METHOD if name == AUTO else Semantics.of(name) for name in names}
    print("| model | plain forward, ms |", " | ".join(methods), "|")
    print("|---|---|" + "---|" * len(methods))
    for path in models:
        model = load(path)
        sessions = {"": Session(model.proto, model.folder, "cpu")}
        for name, semantics in methods.items():
            graph = explain_graph(compile_pair(model, semantics=semantics), target_input="optional")
            sessions[name] = Session(graph.proto, graph.folder, "cpu")
        feeds = random_feeds(model, np.random.default_rng(0))
        plain, *others = timed(sessions, feeds, runs, cpu=threads == 1).values()
        print(f"| {path.stem} | {plain:.1f} |", " | ".join(f"{each / plain:.2f}" for each in others), "|")


if __name__ == "__main__":
    main()
