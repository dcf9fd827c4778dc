"""``onnx-deconv inspect``: what a model is made of, and how far it can be explained."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from onnx_deconv.cli import FELL_SHORT, options
from onnx_deconv.cli.console import Console, sizes, table
from onnx_deconv.compiler.inspection import Inspection, Layer, inspect_model

_EPILOG = """\b
Examples:
  onnx-deconv inspect model.onnx
  onnx-deconv inspect model.onnx --rules guided --layer conv4
  onnx-deconv inspect model.onnx --json | jq -r '.layers[].layer'

\b
Exit code 1 says that the layer cannot be explained; the last lines say why, and which can.
"""


@click.command("inspect", epilog=_EPILOG, short_help="List a model's layers and the rule each node gets.")
@options.model
@options.layer
@options.semantics_options(without=("precision",))
@options.input_shape
@options.common
@click.pass_obj
def command(console: Console, /, model: Path, layer: str | None, **given: Any) -> int:
    """List the layers of MODEL, the rule that each node gets, and what has none.

    Nothing runs, and no weight is read. Only nodes between the input and the explained layer are listed: no
    others need a rule.
    """
    semantics = options.semantics_of(given, model)
    loaded = options.open_model(model, given["shapes"])
    found = inspect_model(loaded, semantics, layer)
    console.result(found.as_dict(), lambda: "\n".join(_lines(found)))
    return FELL_SHORT if found.problem else 0


def _lines(found: Inspection) -> Iterator[str]:
    made = f", by {found.producer}" if found.producer else ""
    yield f"{found.model}: opset {found.opset}, IR {found.ir_version}{made}, {found.weights:,} weights"
    yield table(
        [
            *(("input", name, sizes(v["shape"]), v["dtype"]) for name, v in found.inputs.items()),
            *(("output", name, sizes(v["shape"]), v["dtype"]) for name, v in found.outputs.items()),
        ],
        indent="  ",
    )
    facts = [
        ("explains", found.explained + (f", cut off behind it: {', '.join(found.cut)}" if found.cut else ""))
    ]
    if found.class_maps:
        facts.append(("", f"a class from its own map in {found.class_maps} (--seed auto)"))
    facts.append(
        ("sizes", f"known at run time: {', '.join(found.dynamic)}" if found.dynamic else "all fixed")
    )
    if found.labels:
        facts.append(("labels", f"{found.labels} in the metadata"))
    yield table(facts, indent="  ")
    if found.layers:
        yield ""
        yield table([_HEADER, *map(_row, found.layers)])
    yield ""
    yield from _verdict(found)


_HEADER = ("layer", "node", "operator", "shape", "number", "rule")


def _row(layer: Layer) -> tuple[str, ...]:
    rule = "NO RULE" if layer.rule is None else f"{layer.family}: {layer.rule}"
    if layer.overlaps is not None:
        rule += " Windows overlap." if layer.overlaps else " Windows do not overlap."
    node = "" if layer.node == layer.layer else layer.node
    return layer.layer, node, layer.operator, sizes(layer.shape), layer.number or "", rule


def _verdict(found: Inspection) -> Iterator[str]:
    if found.problem is None:
        yield f"{found.explained} can be explained ({found.rules})."
        return
    yield f"{found.explained} cannot be explained: {found.problem}"
    if found.deepest:
        yield f"The last layer that can be: --layer {found.deepest}"
