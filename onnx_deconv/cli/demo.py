"""``onnx-deconv demo``: the embedded model explains the embedded photograph."""

from pathlib import Path

import click

from onnx_deconv.attribution.method import AUTO
from onnx_deconv.attribution.photographs import Selection
from onnx_deconv.cli import groups
from onnx_deconv.cli.console import Console
from onnx_deconv.cli.explaining import explain
from onnx_deconv.cli.explanation import Job
from onnx_deconv.cli.image_options import ImageOptions
from onnx_deconv.cli.model_options import ModelOptions, SemanticsOptions
from onnx_deconv.cli.options import Sectioned, takes
from onnx_deconv.cli.sample_study import InputOptions
from onnx_deconv.files import embedded
from onnx_deconv.imaging import VIEWS

_EPILOG = """\b
Examples:
  onnx-deconv demo
  onnx-deconv demo -o pictures --rules guided
"""


@click.command(cls=Sectioned, epilog=_EPILOG)
@groups.output("onnx-deconv-demo", "Folder for the pictures.")
@takes("semantics", SemanticsOptions, without=("head", "activations", "lrn", "unpool", "precision"))
@takes("run", ModelOptions, without=("labels", "shapes", "output", "kind"))
@groups.common
@click.pass_obj
def command(console: Console, /, output: Path, semantics: SemanticsOptions, run: ModelOptions) -> int:
    """Classify the embedded photograph with the embedded model, and draw what excited the class.

    Nothing is downloaded.
    """
    study = InputOptions().study(
        console, run.explainer(embedded("demo.onnx"), semantics, AUTO, measure=True), ImageOptions()
    )
    classes = len(study.explainer.labels.names)
    console.say(f"The embedded model, which knows {classes} classes, sees the embedded photograph of a cat:")
    code = explain(console, Job(study, [Selection()], VIEWS, output), [str(embedded("chelsea.png"))])
    console.say(
        "The side-by-side picture shows the photograph; the reconstruction, which is what in the pixels\n"
        "excited the class, in colour on grey; its magnitude as a heat map; and that over the photograph.\n"
        "The numbers (.npy) and a description (.json) are in the same folder.\n"
        "Next: onnx-deconv explain --help"
    )
    return code
