"""Measure how much memory a model that explains keeps, in times its weights (Linux).

    python tools/bench_memory.py vgg19.onnx
    python tools/bench_memory.py vgg19.onnx --low-memory
    python tools/bench_memory.py vgg19.onnx --form explain

The kernel's proportional set size after one image and after ten, less what it was before the sessions were
made; and the processor time of an explanation, the median of nine. ``tools/make_vgg19.py`` makes a model.
"""

import gc
import re
import statistics
import time
from pathlib import Path

import click
import numpy as np
import onnxruntime  # noqa: F401 - what it takes by itself does not count

from onnx_deconv import Explainer, compile_pair, explain_graph, load
from onnx_deconv.compiler.explain_manifest import own_top
from onnx_deconv.model import all_tensors
from onnx_deconv.runtime import Session
from onnx_deconv.verification.random_feeds import random_feeds


def resident() -> float:
    """Return this process's share of the machine's memory, in bytes."""
    gc.collect()
    return 1024 * int(
        re.findall(r"^Pss:\s+(\d+)", Path("/proc/self/smaps_rollup").read_text(), re.MULTILINE)[0]
    )


@click.command(help=__doc__)
@click.argument("path", type=click.Path(exists=True, path_type=Path))
@click.option("--form", type=click.Choice(["pair", "explain"]), default="pair", show_default=True)
@click.option("--low-memory", is_flag=True, help="Give memory back after each explanation (pair).")
def main(path: Path, form: str, *, low_memory: bool) -> None:
    """Print the figures."""
    if low_memory and form == "explain":
        raise click.UsageError("--low-memory is a pair's")
    model = load(path)
    weights = sum(4 * np.prod(t.dims, dtype=np.int64) for t in all_tensors(model.proto))
    feeds = random_feeds(model, np.random.default_rng(0))
    before = resident()
    if form == "pair":
        explainer = Explainer(model, providers="cpu", low_memory=low_memory)
        run = lambda: explainer(feeds)  # noqa: E731
    else:
        graph = explain_graph(compile_pair(model))
        session = Session(graph.proto, graph.folder, "cpu")
        asked = feeds | own_top(graph.manifest)
        run = lambda: session.run(asked)  # noqa: E731
    run()
    first, times = resident() - before, []
    for _ in range(9):
        start = time.process_time()
        run()
        times.append(time.process_time() - start)
    ten = resident() - before
    click.echo(
        f"{weights / 1e6:.0f} MB of weights; {form}: {first / weights:.2f} times as much after one image, "
        f"{ten / weights:.2f} after ten; {1e3 * statistics.median(times):.0f} ms"
    )


if __name__ == "__main__":
    main()
