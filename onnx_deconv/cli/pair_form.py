"""``onnx-deconv convert --form pair``: two models that run one after the other."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from onnx_deconv.cli.console import in_bytes, sizes, table
from onnx_deconv.cli.conversion import Conversion, check_lines, in_turn, named, shape_of
from onnx_deconv.compiler.backward import Walk
from onnx_deconv.compiler.package import DECONV, FORWARD, WEIGHTS, load_pair, save
from onnx_deconv.compiler.pair import Pair, compile_pair, pair_for
from onnx_deconv.verification import Check, check_pair

_SHOWN = 6
"""How many switches and taps are named."""


def write(conversion: Conversion, runtime: str) -> dict[str, Any]:
    """Write the pair and check it; return its record."""
    model = conversion.model
    with conversion.timed("compile"):
        general = compile_pair(
            model, conversion.layer, semantics=conversion.semantics, **conversion.of_output
        )
        pair = pair_for(general, runtime)
    original, checks = conversion.original(), list[Check]()

    def look(folder: Path) -> None:
        if original is not None:
            with conversion.timed("check"):
                saved = load_pair(folder)
                for batch in in_turn(original[1]):
                    checks.extend(check_pair(model, original[0], saved, batch, conversion.providers))
            conversion.refuse_failures(checks)

    with conversion.timed("save"):
        files = conversion.written(lambda: save(pair, conversion.output, look))
    record = conversion.record(files, checks, **_facts(conversion, pair))
    record["bytes"]["model"] = model.files.size
    return record


def _facts(conversion: Conversion, pair: Pair) -> dict[str, Any]:
    explained, entries = pair.manifest["explained"], pair.manifest["deconv_inputs"]
    model, semantics = conversion.model, conversion.semantics
    walk = Walk(model, explained["value"], semantics)
    return {
        "explained": explained,
        "semantics": semantics.as_dict(),
        "image_dependence": pair.manifest["image_dependence"],
        "nodes": {
            "model": len(model.proto.graph.node),
            "path": len(walk.path),
            "deconv": len(pair.deconv.graph.node),
        },
        "switches": [e["of"] for e in entries if e["kind"] == "switches"],
        "taps": [e["name"] for e in entries if e["kind"] in ("value", "shape")],
        "reconstructions": pair.manifest["reconstructions"],
    }


def lines(record: Mapping[str, Any]) -> Iterator[str]:
    """Describe what was written."""
    if not record["passed"]:
        yield from check_lines(record)
        return
    explained, nodes, size, seconds = (record[k] for k in ("explained", "nodes", "bytes", "seconds"))
    spent = ", ".join(f"{name} {value:.2f}" for name, value in seconds.items())
    yield f"{record['folder']}: written in {sum(seconds.values()):.2f} s ({spent})"
    rows = [
        (record["model"], f"{nodes['model']} nodes", in_bytes(size["model"])),
        (FORWARD, f"{nodes['path']} on the path", in_bytes(size[FORWARD])),
        (DECONV, f"{nodes['deconv']} nodes", in_bytes(size[DECONV])),
        (WEIGHTS, "of both", in_bytes(size[WEIGHTS])),
    ]
    yield table(rows, indent="  ")
    cut = f"; without the nodes after it: {', '.join(explained['cut'])}" if explained["cut"] else ""
    facts = [
        ("explains", f"{explained['value']} ({sizes(explained['shape'])}){cut}"),
        ("returns", ", ".join(map(shape_of, record["reconstructions"]))),
        ("choices", named(record["semantics"])),
        ("switches", _first(record["switches"])),
        ("taps", _first(record["taps"])),
    ]
    yield table(facts, indent="  ")
    yield from check_lines(record)


def _first(names: Sequence[str]) -> str:
    rest = f", and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{len(names)}: {', '.join(names[:_SHOWN])}{rest}" if names else "none"
