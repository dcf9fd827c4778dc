"""``onnx-deconv convert --form explain``: one graph that answers and explains."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

import click
import numpy as np
from onnx import ModelProto

from onnx_deconv.attribution.explainer import Explainer
from onnx_deconv.cli import options
from onnx_deconv.cli.console import Console, in_bytes, sizes, table
from onnx_deconv.cli.preparation import preparation, preprocess_of
from onnx_deconv.compiler.explain_graph import ExplainGraph, explain_graph
from onnx_deconv.compiler.pair import compile_pair
from onnx_deconv.compiler.passes import EXPLAIN, PASSES
from onnx_deconv.compiler.seed_graph import GraphSeed
from onnx_deconv.imaging import ImageInput, Preprocess
from onnx_deconv.model import Model
from onnx_deconv.semantics import Semantics

explain_options = options.together(
    click.option(
        "--top", type=click.IntRange(1), default=1, show_default=True, metavar="K",
        help="With --form explain: give reconstructions of the K strongest classes, or units, of each image.",
    ),
    click.option(
        "--seed", type=click.Choice(get_args(GraphSeed)), default="auto", show_default=True,
        help="With --form explain: what to start with: 1 at the channel's strongest unit, its whole map, the "
        "map's strongest activation, or the unit whose index in the layer 'target' gives; auto: a class from "
        "its own map where the model has one.",
    ),
    click.option(
        "--target", type=click.Choice(["optional", "required"]), default="optional", show_default=True,
        help="With --form explain: whether the input 'target' may be left out. onnxruntime's JavaScript "
        "cannot set inputs that may; give it a required one, -1 for the model's own top.",
    ),
    click.option(
        "--pictures", is_flag=True,
        help="With --form explain: take uint8 pictures N×H×W×3, RGB, of the input's size, prepared in the "
        "graph by the options below.",
    ),
    click.option(
        "--passes", metavar="cpu|cuda|NAMES", default="cpu", show_default=True,
        callback=lambda *given: EXPLAIN.get(given[-1]) or tuple(filter(None, given[-1].split(","))),
        help="With --form explain: optimisation passes to apply: those that help on a device, or by name ("
        + ", ".join(PASSES) + "); '' for none.",
    ),
    click.option("--heat", is_flag=True, help="With --form explain: give heat maps too, uint8 N×H×W×3."),
    preparation,
)  # fmt: skip


def write(
    console: Console, model: Model, output: Path, semantics: Semantics, given: dict[str, Any]
) -> dict[str, Any]:
    """Write the explain graph and check it; return what there is to say.

    It starts where an explanation by the library does: at the classes' own maps where there are such.
    """
    explainer = Explainer(model)
    maps = explainer.class_maps if given["layer"] is None and given["seed"] == "auto" else None
    pair = compile_pair(model, maps or given["layer"], semantics=semantics)
    preprocess, warning = preprocess_of(model, given, console)
    if given["pictures"] and warning is not None:
        console.warn(warning)
    graph = explain_graph(
        pair,
        top=given["top"],
        seed=given["seed"],
        ranking=explainer.scores_layer if maps else None,
        target=given["target"],
        preprocess=preprocess if given["pictures"] else None,
        passes=given["passes"],
        rendering=ImageInput.of(model, preprocess.layout).layout if given["heat"] else None,
    )
    files = graph.save(output)
    checks = list(_checks(model, graph, files[0], preprocess, given)) if given["check"] else []
    return {
        "model": model.name,
        "folder": output,
        **{key: graph.manifest[key] for key in ("explained", "semantics", "inputs", "target", "outputs")},
        "bytes": {file.name: file.stat().st_size for file in files},
        "checks": [each.as_dict() for each in checks],
        "passed": all(each.verdict == "ok" for each in checks),
    }


def _checks(
    model: Model, graph: ExplainGraph, path: Path, preprocess: Preprocess, given: Mapping[str, Any]
) -> Iterator[Any]:
    """Check that the outputs are the original's, and that reconstructions are finite, on random inputs."""
    from onnx_deconv.runtime import Session, numpy_of  # noqa: PLC0415
    from onnx_deconv.verification import Check, random_feeds, same_outputs  # noqa: PLC0415

    original = Session(model.proto, model.folder, given["providers"])
    session = Session(ModelProto.FromString(path.read_bytes()), path.parent, given["providers"])
    wanted = graph.manifest["target"]
    for k in range(given["check"]):
        feeds: dict[str, Any] = dict(random_feeds(model, np.random.default_rng(k)))
        asked = dict(feeds)
        if given["pictures"]:
            name = model.inputs[0]
            layout = preprocess.layout
            n, h, w = (feeds[name].shape[axis] for axis in ((0, 2, 3) if layout == "NCHW" else (0, 1, 2)))
            pictures = np.random.default_rng(k).integers(0, 256, (n, h, w, 3), np.uint8)
            feeds = {name: np.stack([preprocess.normalise(p) for p in pictures])}
            asked = {graph.manifest["inputs"][0]["name"]: pictures}
        if wanted["input"] == "required":
            asked[wanted["name"]] = np.full([1, given["top"]][2 - len(wanted["shape"]) :], -1)
        found = session.run(asked)
        yield same_outputs(model, original.run(feeds), found, "explain")
        for entry in graph.manifest["outputs"][len(model.outputs) :]:
            result = numpy_of(found[entry["name"]])
            bad = int((~np.isfinite(result)).sum())
            yield Check("companion", entry["name"], float(bad), 0.0, f"finite, {sizes(result.shape)}")


def lines(record: Mapping[str, Any]) -> Iterator[str]:
    """Say what was written."""
    yield f"{record['folder']}: " + ", ".join(f"{n} {in_bytes(b)}" for n, b in record["bytes"].items())
    explained, wanted = record["explained"], record["target"]
    rows = [
        ("explains", f"{explained['value']} ({sizes(explained['shape'])})"),
        *(("takes", f"{i['name']} {sizes(i['shape'])} {i['dtype']}") for i in record["inputs"]),
        ("", f"{wanted['name']} {sizes(wanted['shape'])} int64, {wanted['input']}"),
        *(("gives", f"{o['name']} {sizes(o['shape'])} {o['dtype']}") for o in record["outputs"]),
        ("by", ", ".join(f"{name}={value}" for name, value in record["semantics"].items())),
    ]
    yield table(rows, indent="  ")
    for check in record["checks"]:
        verdict = "ok" if check["verdict"] == "ok" else "FAILED"
        what = "outputs differ by" if check["name"] == "forward" else "values that are not finite:"
        yield f"  check {verdict}: {what} {check['error']:.2g} ({check['detail']})"
