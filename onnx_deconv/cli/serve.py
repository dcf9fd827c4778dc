"""``onnx-deconv serve``: models that answer and explain over HTTP."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import click

from onnx_deconv import __version__
from onnx_deconv.attribution.explainer import Explainer
from onnx_deconv.attribution.method import AUTO
from onnx_deconv.cli import groups
from onnx_deconv.cli.console import Console
from onnx_deconv.cli.fixed_inputs import FixedInputs
from onnx_deconv.cli.image_options import ImageOptions
from onnx_deconv.cli.model_options import ModelOptions, SemanticsOptions, tell_assumed
from onnx_deconv.cli.options import Sectioned, takes
from onnx_deconv.cli.serving_options import AddressOptions, KServeOptions, LimitOptions
from onnx_deconv.errors import InputError, speak_options
from onnx_deconv.imaging import Preprocess
from onnx_deconv.serving import check_installed, serve

_EPILOG = """\b
Examples:
  onnx-deconv serve model.onnx
  onnx-deconv serve cats=resnet.onnx dogs=squeezenet.onnx --labels labels.txt --port 9000
  ONNX_DECONV_TOKEN=secret onnx-deconv serve model.onnx --host 0.0.0.0

\b
Then, with a photograph:
  curl --data-binary @cat.jpg -H 'Content-Type: image/jpeg' localhost:8000/v2/models/model/infer
  curl --data-binary @cat.jpg -H 'Content-Type: image/jpeg' \\
       'localhost:8000/v2/models/model/infer?target=tabby&view=overlay' -o tabby.png

Tensors are asked for by the Open Inference Protocol V2: docs/serve.md.
"""


@click.command(cls=Sectioned, epilog=_EPILOG)
@click.argument("models", metavar="[NAME=]MODEL...", nargs=-1, required=True)
@takes("address", AddressOptions)
@takes("limits", LimitOptions)
@takes("kserve", KServeOptions)
@takes("semantics", SemanticsOptions)
@takes("fixed", FixedInputs)
@takes("images", ImageOptions)
@takes("run", ModelOptions)
@groups.common
@click.pass_obj
def command(
    console: Console, /, models: Sequence[str], *, address: AddressOptions, limits: LimitOptions,
    kserve: KServeOptions, semantics: SemanticsOptions, fixed: FixedInputs, images: ImageOptions,
    run: ModelOptions,
) -> int:  # fmt: skip
    """Serve each MODEL over HTTP: its own answers, and what in an image excited a class.

    MODEL is an ONNX file, or a folder that 'convert' wrote; it is called by its NAME, or its file's name.
    The server speaks the Open Inference Protocol V2, takes photographs too, and runs until it is stopped.
    """
    check_installed("kserve" if kserve.kserve else "serve")
    where, grpc = kserve.addresses(address.address())
    named: dict[str, tuple[Explainer, Preprocess | None]] = {}
    for given in models:
        name, path = _named(given, kserve.model_name if len(models) == 1 else None)
        if name in named:
            raise InputError(f"two models are named {name!r}: write another name in front, NAME={path}")
        explainer = run.explainer(fixed.model(path, run, images), semantics, AUTO)
        tell_assumed(console, explainer.head)
        named[name] = explainer, _preprocess(explainer, images, console)
    serve(named, limits.limits(), where, __version__, partial(_say, console, list(named)), grpc)
    return 0


def _named(given: str, otherwise: str | None) -> tuple[str, Path]:
    """Part a name from its model's path."""
    name, sign, path = given.partition("=")
    if sign and name and not Path(given).exists():
        if "/" in name:
            raise InputError(f"{given}: a name is a part of an address: give one without a slash")
        return name, Path(path)
    return otherwise or Path(given).resolve().stem, Path(given)


def _preprocess(explainer: Explainer, images: ImageOptions, console: Console) -> Preprocess | None:
    """Decide how photographs become a model's input; ``None`` where it takes none."""
    try:
        return images.preprocess(explainer.model, console)
    except InputError as error:
        if any(value is not None for value in vars(images).values()):
            raise
        console.detail(f"{explainer.model.name} takes tensors alone: {error}")
        return None


def _say(console: Console, names: Sequence[str], url: str, grpc: str | None) -> None:
    speak_options(False)  # from now on requests are answered, which have no options
    also = "" if grpc is None else f", gRPC at {grpc}"
    told = {"url": url, "models": names} | ({} if grpc is None else {"grpc": grpc})
    console.result(told, f"{url}{also}: {', '.join(names)}; stop with Ctrl+C")
    console.finish()
