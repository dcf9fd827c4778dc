"""``onnx-deconv inspect``: what a model is made of, and which of its layers can be explained."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import click

from onnx_deconv.cli import FELL_SHORT, groups
from onnx_deconv.cli.console import Console, sizes, table
from onnx_deconv.cli.fixed_inputs import FixedInputs
from onnx_deconv.cli.groups import PATH
from onnx_deconv.cli.image_options import ImageOptions
from onnx_deconv.cli.measured import Measured
from onnx_deconv.cli.model_options import ModelOptions, SemanticsOptions
from onnx_deconv.cli.options import Sectioned, changed, option, takes
from onnx_deconv.compiler.inspection import Inspection, Layer, Output, inspect_model
from onnx_deconv.semantics import Semantics

_TWO = 2
_EPILOG = """\b
Examples:
  onnx-deconv inspect model.onnx
  onnx-deconv inspect model.onnx --rules guided --layer conv4
  onnx-deconv inspect model.onnx --json | jq -r '.layers[].layer'
  onnx-deconv inspect model.onnx --measure cat.jpg --measure dog.jpg

Exit code 1 means that the layer cannot be explained; the end of the output says why, and which layer can.
"""


@dataclass(frozen=True)
class InspectOptions:
    """What is to be explained."""

    layers: Annotated[Sequence[str], groups.layers("A layer to be explained", groups.SCORES)] = ()
    measure: Annotated[
        Sequence[Path],
        option(
            "--measure",
            "A photograph to try: how much of the signal the rectifiers let through, and, with a second "
            "photograph, how alike two pictures of the first one's class are.",
            type=PATH,
            multiple=True,
            default=(),
        ),
    ] = ()


@click.command(cls=Sectioned, epilog=_EPILOG)
@groups.model
@takes("options", InspectOptions)
@takes("semantics", SemanticsOptions, without=("precision",))
@takes("fixed", FixedInputs)
@takes("images", ImageOptions)
@takes("run", ModelOptions, without=("providers", "kind"))
@groups.common
@click.pass_obj
def command(
    console: Console, /, model: Path, *, options: InspectOptions, semantics: SemanticsOptions,
    fixed: FixedInputs, images: ImageOptions, run: ModelOptions,
) -> int:  # fmt: skip
    """List the outputs of MODEL, its layers, the rule of each node, and the nodes that have none.

    Only nodes between the input and the explained layer are listed; no others need a rule. The model
    does not run, and its weights are not read, unless photographs are given to --measure.
    """
    if not (options.measure or fixed.given) and (idle := changed(images)):
        raise click.UsageError(f"{', '.join(idle)}: only with --measure")
    if len(options.measure) > _TWO:
        raise click.UsageError("--measure: one photograph, or two to compare")
    choices, loaded = semantics.of(model), fixed.of(run.load(model), images)
    preprocess = images.preprocess(loaded, console) if options.measure else None
    problems = 0
    wanted: Sequence[str | None] = options.layers or (None,)
    for layer in wanted:
        found = inspect_model(loaded, choices, layer, run.output, run.names())
        measured = None
        if preprocess is not None and found.problem is None:
            method = choices or Semantics()
            measured = Measured.of(loaded, found.explained, method, options.measure, preprocess)
        record = found.as_dict() | ({"measured": measured.as_dict()} if measured else {})
        console.result(record, "\n".join([*_lines(found), *(measured.lines() if measured else ())]))
        problems += found.problem is not None
    return FELL_SHORT if problems else 0


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
    yield table(_facts(found), indent="  ")
    yield ""
    yield table([_OUTPUTS, *map(_output, found.heads)])
    if found.layers:
        yield ""
        yield table([_HEADER, *map(_row, found.layers)])
    yield ""
    yield from _verdict(found)


def _facts(found: Inspection) -> list[tuple[str, str]]:
    cut = f", without the nodes after it: {', '.join(found.cut)}" if found.cut else ""
    facts = [("explains", found.explained + cut)]
    if found.class_maps:
        facts.append(("", f"each class from its own map in {found.class_maps} (--seed auto)"))
    known = f"known at run time: {', '.join(found.dynamic)}" if found.dynamic else "all fixed"
    facts.append(("sizes", known))
    if found.image_axis_added:
        names = ", ".join(found.image_axis_added)
        facts.append(("images", f"{names} had no axis for the images, and gets one of size 1"))
    if found.labels or found.names_differ:
        known = f"{found.labels} {found.labels_are}" if found.labels else "none"
        facts.append(("labels", "; ".join(filter(None, (known, found.names_differ)))))
    return facts


_OUTPUTS = ("output", "kind", "axes", "starts at", "without", "--target")


def _output(one: Output) -> tuple[str, ...]:
    targets = one.targets if one.problem is None else f"none: {one.problem}"
    how = ", by its name" if one.by_name else ", assumed" if one.assumed else ""
    kind = one.kind + how
    return one.output, kind, " × ".join(one.axes), one.start, ", ".join(one.cut), targets


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
        if found.image_dependence and found.image_dependence["note"]:
            yield f"Note: {found.image_dependence['note']}."
        return
    yield f"{found.explained} cannot be explained: {found.problem}"
    if found.deepest:
        yield f"The last layer that can be explained: --layer {found.deepest}"
