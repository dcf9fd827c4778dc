"""``onnx-deconv demo``: the embedded model explains the embedded photograph."""

from pathlib import Path
from typing import Any

import click

import onnx_deconv
from onnx_deconv.attribution.explainer import Explainer
from onnx_deconv.attribution.photographs import Target
from onnx_deconv.cli import options
from onnx_deconv.cli.console import Console
from onnx_deconv.cli.explain import Job, explain
from onnx_deconv.errors import InputError
from onnx_deconv.imaging import VIEWS, preprocess_for

_EPILOG = """\b
Examples:
  onnx-deconv demo
  onnx-deconv demo -o pictures --rules guided
"""


@click.command("demo", epilog=_EPILOG, short_help="Explain the embedded photograph with the embedded model.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    default="onnx-deconv-demo",
    show_default=True,
    help="Folder for the pictures.",
)
@options.semantics_options(without=("activations", "lrn", "unpool", "precision"))
@options.providers
@options.common
@click.pass_obj
def command(console: Console, /, output: Path, **given: Any) -> int:
    """Classify the embedded photograph with the embedded model, and draw what it saw.

    Nothing is downloaded.
    """
    model, photograph = embedded("demo.onnx"), embedded("chelsea.png")
    explainer = Explainer(model, options.semantics_of(given), providers=given["providers"])
    preprocess, _ = preprocess_for(explainer.model)
    classes = len(explainer.labels.names)
    console.say(f"The embedded model (it knows {classes} classes) looks at the embedded photograph of a cat:")
    code = explain(console, Job(explainer, preprocess, Target(), VIEWS, output), [photograph])
    console.say(
        "Side by side: the photograph; the reconstruction, whose colours are what in the pixels excited\n"
        "the class, on grey; how much of it lies where; and that over the photograph. Beside the\n"
        "pictures lie its numbers (.npy) and what made it (.json). Next: onnx-deconv explain --help"
    )
    return code


def embedded(name: str) -> Path:
    """Find a file that comes with the package: inside it, or in a checkout beside it.

    Raises
    ------
    InputError
        If it is in neither place.
    """
    package = Path(onnx_deconv.__file__).parent
    for home in (package / "models", package.parent / "models"):
        if (home / name).is_file():
            return home / name
    raise InputError(f"{name} does not lie in {package / 'models'}: install onnx-deconv again")
