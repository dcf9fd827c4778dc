"""Say where the time of an explain graph goes, by operator: onnxruntime's profiler, on the CPU.

python tools/profile_explain.py model.onnx --passes filters,depthwise,pools,splits
"""

import json
from collections import defaultdict
from pathlib import Path
from statistics import median

import click
import numpy as np
import onnxruntime

from onnx_deconv import compile_pair, explain_graph, load
from onnx_deconv.compiler.explain_manifest import own_top
from onnx_deconv.compiler.passes import EXPLAIN
from onnx_deconv.verification.random_feeds import random_feeds


@click.command(help=__doc__)
@click.argument("path", type=click.Path(exists=True, path_type=Path))
@click.option("--passes", default=",".join(EXPLAIN["cpu"]), show_default=True)
@click.option("--runs", default=9, show_default=True)
@click.option("--rows", default=15, show_default=True)
def main(path: Path, passes: str, runs: int, rows: int) -> None:
    """Print the table: milliseconds of each operator, in the forward part and in the deconv part."""
    model = load(path)
    graph = explain_graph(compile_pair(model), passes=[name for name in passes.split(",") if name])
    options = onnxruntime.SessionOptions()
    options.enable_profiling = True
    options.add_session_config_entry(
        "session.model_external_initializers_file_folder_path", str(graph.folder)
    )
    session = onnxruntime.InferenceSession(
        graph.proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    feeds = random_feeds(model, np.random.default_rng(0)) | own_top(graph.manifest)
    for _ in range(runs):
        session.run(None, feeds)
    profile = Path(session.end_profiling())
    times: dict[tuple[str, str], list[float]] = defaultdict(list)
    for event in json.loads(profile.read_text()):
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            times[event["name"], event["args"]["op_name"]].append(event["dur"] / 1e3)
    profile.unlink()
    spent: dict[tuple[str, str], list[float]] = defaultdict(list)
    for (name, operator), found in times.items():
        spent["deconv" if name.startswith(("deconv/", "optimised/")) else "forward", operator].append(
            median(found)
        )
    click.echo(
        f"{sum(map(sum, spent.values())):.1f} ms\n\n| part | operator | nodes | ms |\n|---|---|---|---|"
    )
    for (part, operator), found in sorted(spent.items(), key=lambda item: -sum(item[1]))[:rows]:
        click.echo(f"| {part} | {operator} | {len(found)} | {sum(found):.1f} |")


if __name__ == "__main__":
    main()
