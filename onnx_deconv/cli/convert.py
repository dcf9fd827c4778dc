"""``onnx-deconv convert``: ONNX files that explain a model in any onnxruntime."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import click

from onnx_deconv.attribution.explainer import Explainer
from onnx_deconv.attribution.remarks import told_apart
from onnx_deconv.cli import FELL_SHORT, explain_form, groups, pair_form, triton_form
from onnx_deconv.cli.console import Console
from onnx_deconv.cli.conversion import Conversion, failure, unproved
from onnx_deconv.cli.explain_form import GraphOptions
from onnx_deconv.cli.fixed_inputs import FixedInputs
from onnx_deconv.cli.image_options import ImageOptions
from onnx_deconv.cli.model_options import ModelOptions, SemanticsOptions, tell_assumed
from onnx_deconv.cli.options import Sectioned, changed, option, takes, whole
from onnx_deconv.compiler.package import DECONV, EXPLAIN, FORWARD, MANIFEST, WEIGHTS
from onnx_deconv.errors import InputError
from onnx_deconv.model import Model, all_tensors, load
from onnx_deconv.model.heads import explainable
from onnx_deconv.semantics import Semantics

_EPILOG = """\b
Examples:
  onnx-deconv convert model.onnx -o pair
  onnx-deconv convert model.onnx -o pair --layer conv4 --rules guided
  onnx-deconv convert model.onnx -o pair --check 0     (needs no onnxruntime)
  onnx-deconv convert model.onnx -o one --form explain --pictures --heat
  onnx-deconv convert model.onnx -o web --form explain --for web --input-shape image:1,3,224,224
  onnx-deconv convert model.onnx -o repository --form triton
  onnx-deconv convert model.onnx -o one --form explain --layer conv3 --seed unit --top 9

Writes forward.onnx (the model with more outputs), deconv.onnx (the companion), weights.bin (the weights of
both) and manifest.json. To explain an image, run forward.onnx on it; make 'seed', which is zero except at
the unit to explain; then run deconv.onnx with the seed and with those outputs of forward.onnx that have the
names of its other inputs. Its output 'reconstruction' has the shape of the image.

With --form explain, writes explain.onnx, manifest.json and, for a large model, weights.bin. explain.onnx
takes an image and the int64 'target', which says what class to explain in each image, -1 for the strongest.
It returns the model's own outputs, 'reconstruction', 'scores' and 'explained', the class that was explained.
"""

Form = Literal["pair", "explain", "triton"]


@dataclass(frozen=True)
class ConvertOptions:
    """What is written."""

    form: Annotated[
        Form,
        option(
            "--form",
            "Two models that run one after the other, one model that does both, or a model repository for "
            "NVIDIA's Triton Inference Server: the model itself, and the one that does both.",
        ),
    ] = "pair"
    layer: Annotated[
        str | None,
        groups.layer("The layer that is explained", groups.SCORES),
    ] = None
    check: Annotated[
        int,
        whole(
            "--check",
            "Check on N random inputs that the outputs equal the original's and the reconstruction is "
            "finite; with --for openvino or tract, where that is installed, also that it gives what "
            "onnxruntime gives; 0 for no check.",
            least=0,
        ),
    ] = 1


@click.command(cls=Sectioned, epilog=_EPILOG)
@groups.model
@groups.output("onnx-deconv-converted", "Folder for the files.")
@takes("options", ConvertOptions)
@takes("semantics", SemanticsOptions)
@takes("graph", GraphOptions)
@takes("fixed", FixedInputs)
@takes("images", ImageOptions)
@takes("run", ModelOptions)
@groups.common
@click.pass_obj
def command(
    console: Console, /, model: Path, output: Path, *, options: ConvertOptions, semantics: SemanticsOptions,
    graph: GraphOptions, fixed: FixedInputs, images: ImageOptions, run: ModelOptions,
) -> int:  # fmt: skip
    """Write MODEL and its companion, which explain it in any language that has onnxruntime."""
    chosen = () if fixed.given else changed(images)
    unused = [name for name in (*changed(graph), *chosen) if name != "--for"]
    if options.form == "pair" and unused:
        raise click.UsageError(f"{', '.join(unused)}: only with --form explain or triton")
    if options.form != "pair" and not fixed.given:
        _refuse_idle_choices(graph, images)
    start = time.perf_counter()
    loaded = fixed.of(load(model, dict(run.shapes)), images)
    _refuse_to_overwrite(loaded, model, output)
    loaded.files.keep()
    seconds = {"load": round(time.perf_counter() - start, 3)}
    if options.layer is None:
        explainable(loaded, run.output)
    conversion = Conversion(
        loaded, options.layer, semantics.of() or Semantics(), output, options.check, run.providers, seconds,
        run.output, run.kind, run.names(),
    )  # fmt: skip
    if options.form != "pair":
        drawn = graph.pictures or graph.heat
        preprocess = images.preprocess(loaded, console if graph.pictures else None) if drawn else None
        if options.layer is None:
            tell_assumed(console, conversion.head)
        form = explain_form if options.form == "explain" else triton_form
        record = form.write(conversion, graph, preprocess)
        console.result(record, lambda: "\n".join(form.lines(record)))
    else:
        record = pair_form.write(conversion, graph.runtime)
        console.result(record, lambda: "\n".join(pair_form.lines(record)))
        if record["passed"]:
            _recommend(console, conversion)
    for name in sorted(loaded.image_axis_added):
        types = loaded.type_of(name)
        console.warn(
            f"input {name!r} takes a batch of one image, {types}: in {model.name} it has no axis for it"
        )
    notes = (
        record["image_dependence"]["note"],
        (record["signal"] or {}).get("warning"),
        _of_equals(loaded, options, graph),
        *unproved(record),
    )
    for note in filter(None, notes):
        console.warn(note)
    if not record["passed"]:
        console.error(failure(record))
    return 0 if record["passed"] else FELL_SHORT


def _of_equals(model: Model, options: "ConvertOptions", graph: GraphOptions) -> str | None:
    """Say that a graph may choose among channels or positions that are equally strong, if it may."""
    if options.form == "pair" or options.layer is None or graph.target_kind != "index":
        return None
    layer = model.layer(options.layer)
    apart = told_apart(model, layer)
    said = f"where several are equally strong in {layer!r}, the first in order is explained"
    return f"{said}{apart}" if apart else None


def _refuse_idle_choices(graph: GraphOptions, images: ImageOptions) -> None:
    """Make sure that each choice about photographs changes the graph: heat maps ask for the layout alone."""
    if graph.pictures:
        return
    idle = list(changed(images))
    if idle == ["--layout"] and not graph.heat:
        raise click.UsageError("--layout: only with --pictures or --heat")
    if idle := [name for name in idle if name != "--layout"]:
        raise click.UsageError(f"{', '.join(idle)}: only with --pictures")


def _refuse_to_overwrite(model: Model, path: Path, output: Path) -> None:
    """Make sure that none of the files to be written is the model itself or holds its weights."""
    locations = {e.value for t in all_tensors(model.proto) for e in t.external_data if e.key == "location"}
    own = {path.resolve(), *((model.folder / location).resolve() for location in locations)}
    for name in (FORWARD, DECONV, EXPLAIN, WEIGHTS, MANIFEST):
        if (output / name).resolve() in own:
            raise InputError(f"{output / name} belongs to the model that is read: choose another folder")


def _recommend(console: Console, conversion: Conversion) -> None:
    """Name the layer that a class is drawn from more clearly than from its score."""
    if conversion.layer is not None or conversion.semantics.starts_at_scores:
        return
    maps = Explainer(conversion.model, **conversion.of_output).class_maps
    if maps:
        console.say(f"  {maps} has one feature map per class: --layer {maps} shows a class more clearly")
