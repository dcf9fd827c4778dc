"""``onnx-deconv convert``: write the pair that any onnxruntime runs."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import numpy as np

from onnx_deconv.attribution.explainer import Explainer
from onnx_deconv.cli import FELL_SHORT, fused, options
from onnx_deconv.cli.console import Console, in_bytes, sizes, table
from onnx_deconv.compiler.backward import Walk
from onnx_deconv.compiler.package import DECONV, EXPLAIN, FORWARD, MANIFEST, WEIGHTS, load_pair, save
from onnx_deconv.compiler.pair import Pair, compile_pair
from onnx_deconv.errors import InputError
from onnx_deconv.model import Model, all_tensors, load
from onnx_deconv.semantics import Semantics

_EPILOG = """\b
Examples:
  onnx-deconv convert model.onnx -o pair
  onnx-deconv convert model.onnx -o pair --layer conv4 --rules guided
  onnx-deconv convert model.onnx -o pair --check 0     (needs no onnxruntime)
  onnx-deconv convert model.onnx -o one --form explain --pictures --heat
  onnx-deconv convert model.onnx -o one --form explain --layer conv3 --seed unit --top 9

\b
Writes forward.onnx (the model with more outputs), deconv.onnx (the companion), weights.bin (of both)
and manifest.json. Run forward.onnx on an image; make 'seed', zero but for the unit to explain; run
deconv.onnx on it and on forward.onnx's outputs of the same names: 'reconstruction' is the picture.

With --form explain writes explain.onnx alone (and manifest.json; weights.bin for a large model): image
in, the model's own outputs and 'reconstruction' out. It explains each image's strongest class, or those
given as the int64 input 'target'.
"""


@click.command("convert", epilog=_EPILOG, short_help="Write a model as a pair that explains itself.")
@options.model
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="Folder for the files.")
@click.option(
    "--form",
    type=click.Choice(["pair", "explain"]),
    default="pair",
    show_default=True,
    help="Two models that run one after the other, or one that does both.",
)
@options.layer
@options.semantics_options()
@click.option(
    "--check",
    type=click.IntRange(0),
    default=1,
    show_default=True,
    metavar="N",
    help="Check the result on N random inputs: the outputs are the original's, and the reconstruction is "
    "finite. 0: no check.",
)
@fused.explain_options
@options.input_shape
@options.providers
@options.common
@click.pass_obj
def command(console: Console, /, model: Path, output: Path, form: str, check: int, **given: Any) -> int:
    """Write MODEL as a pair that explains itself in any language that has onnxruntime."""
    timing: dict[str, float] = {}
    with _timed(timing, "load"):
        loaded = load(model, given["shapes"])
        _refuse_to_overwrite(loaded, model, output)
    semantics = options.semantics_of(given) or Semantics()
    if form == "explain":
        record = fused.write(console, loaded, output, semantics, given | {"check": check})
        console.result(record, lambda: "\n".join(fused.lines(record)))
        return _verdict(console, record)
    with _timed(timing, "compile"):
        pair = compile_pair(loaded, given["layer"], semantics=semantics)
    original, feeds = None, []
    if check:
        from onnx_deconv.runtime import Session  # noqa: PLC0415
        from onnx_deconv.verification.random_feeds import random_feeds  # noqa: PLC0415

        # Before anything is written: what cannot be checked shall not be there.
        original = Session(loaded.proto, loaded.folder, given["providers"])
        feeds = [random_feeds(loaded, np.random.default_rng(k)) for k in range(check)]
    with _timed(timing, "save"):
        files = save(pair, output)
    checks: list[Any] = []
    if original is not None:
        from onnx_deconv.verification import check_pair  # noqa: PLC0415

        with _timed(timing, "check"):
            saved = load_pair(output)
            for each in feeds:
                checks += check_pair(loaded, original, saved, each, given["providers"])
    record = _record(loaded, pair, semantics, files)
    maps = Explainer(loaded).class_maps if given["layer"] is None else None
    record |= {
        "seconds": {name: round(seconds, 3) for name, seconds in timing.items()},
        "checks": [each.as_dict() for each in checks],
        "passed": all(each.verdict == "ok" for each in checks),
    }
    console.result(record, lambda: "\n".join(_lines(record)))
    if maps:
        console.say(
            f"  {maps} has a map for each class: --layer {maps} makes a pair that starts there, which draws"
        )
        console.say("  a class more clearly")
    return _verdict(console, record)


def _verdict(console: Console, record: dict[str, Any]) -> int:
    if not record["passed"]:
        console.error("the pair falls short of its checks")
    return 0 if record["passed"] else FELL_SHORT


@contextmanager
def _timed(timing: dict[str, float], name: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    timing[name] = time.perf_counter() - start


def _refuse_to_overwrite(model: Model, path: Path, output: Path) -> None:
    """Make sure that none of the files to be written is the model itself or holds its weights."""
    locations = {e.value for t in all_tensors(model.proto) for e in t.external_data if e.key == "location"}
    own = {path.resolve(), *((model.folder / location).resolve() for location in locations)}
    for name in (FORWARD, DECONV, EXPLAIN, WEIGHTS, MANIFEST):
        if (output / name).resolve() in own:
            raise InputError(f"{output / name} belongs to the model that is read: choose another folder")


def _record(model: Model, pair: Pair, semantics: Semantics, files: list[Path]) -> dict[str, Any]:
    explained, entries = pair.manifest["explained"], pair.manifest["deconv_inputs"]
    walk = Walk(model, explained["value"], semantics)
    return {
        "model": model.name,
        "folder": files[0].parent,
        "explained": explained,
        "semantics": semantics.as_dict(),
        "nodes": {
            "model": len(model.proto.graph.node),
            "path": len(walk.path),
            "deconv": len(pair.deconv.graph.node),
        },
        "bytes": {"model": _size(model), **{file.name: file.stat().st_size for file in files}},
        "switches": [e["of"] for e in entries if e["kind"] == "switches"],
        "taps": [e["name"] for e in entries if e["kind"] in ("value", "shape")],
        "reconstructions": pair.manifest["reconstructions"],
    }


def _size(model: Model) -> int:
    """Measure the model's file and what lies beside it."""
    locations = {e.value for t in all_tensors(model.proto) for e in t.external_data if e.key == "location"}
    paths = {Path(model.name).resolve(), *((model.folder / location).resolve() for location in locations)}
    return sum(path.stat().st_size for path in paths if path.is_file())


def _lines(record: dict[str, Any]) -> Iterator[str]:
    explained, nodes, size = record["explained"], record["nodes"], record["bytes"]
    cut = f"; cut off: {', '.join(explained['cut'])}" if explained["cut"] else ""
    choices = ", ".join(f"{name}={value}" for name, value in record["semantics"].items())
    seconds = record["seconds"]
    spent = ", ".join(f"{name} {value:.2f}" for name, value in seconds.items())
    rows = [
        ("model", record["model"], f"{nodes['model']} nodes", in_bytes(size["model"])),
        ("", FORWARD, f"{nodes['path']} on the path", in_bytes(size[FORWARD])),
        ("", DECONV, f"{nodes['deconv']} nodes", in_bytes(size[DECONV])),
        ("", WEIGHTS, "of both", in_bytes(size[WEIGHTS])),
    ]
    yield f"{record['folder']}: written in {sum(seconds.values()):.2f} s ({spent})"
    yield table([row[1:] for row in rows], indent="  ")
    results = ", ".join(f"{r['name']} {sizes(r['shape'])}" for r in record["reconstructions"])
    yield table(
        [
            ("explains", f"{explained['value']} ({sizes(explained['shape'])}){cut}"),
            ("gives", results),
            ("by", choices),
            ("switches", _listed(record["switches"])),
            ("taps", _listed(record["taps"])),
        ],
        indent="  ",
    )
    for check in record["checks"]:
        verdict = "ok" if check["verdict"] == "ok" else "FAILED"
        what = "outputs differ by" if check["name"] == "forward" else "values that are not finite:"
        yield f"  check {verdict}: {what} {check['error']:.2g} ({check['detail']})"


def _listed(names: list[str]) -> str:
    shown = 6
    rest = f", and {len(names) - shown} more" if len(names) > shown else ""
    return f"{len(names)}: {', '.join(names[:shown])}{rest}" if names else "none"
