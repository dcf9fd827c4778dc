"""``onnx-deconv explore``: a page to explore a model."""

import shlex
import webbrowser
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import click

from onnx_deconv.attribution.method import AUTO
from onnx_deconv.cli import groups
from onnx_deconv.cli.console import Console
from onnx_deconv.cli.fixed_inputs import FixedInputs
from onnx_deconv.cli.groups import PATH
from onnx_deconv.cli.image_options import ImageOptions
from onnx_deconv.cli.model_options import ModelOptions, tell_assumed
from onnx_deconv.cli.options import Sectioned, changed, option, takes
from onnx_deconv.cli.pictures import find_pictures
from onnx_deconv.cli.serving_options import AddressOptions, LimitOptions
from onnx_deconv.errors import InputError, speak_options
from onnx_deconv.semantics import Semantics
from onnx_deconv.serving import check_installed, explore

if TYPE_CHECKING:
    from onnx_deconv.serving.exploration import Asked

_EPILOG = """\b
Examples:
  onnx-deconv explore model.onnx
  onnx-deconv explore squeezenet.onnx photos/ --preset imagenet-caffe --labels labels.txt
  onnx-deconv explore model.onnx photos/ --atlas onnx-deconv-atlas
  onnx-deconv explore model.onnx cat.png --no-browser --port 9000

The page needs no network. Photographs that are dropped on it stay on this machine.
"""


@dataclass(frozen=True)
class PageOptions:
    """Whether the page is opened, and what is shown beside feature maps."""

    no_browser: Annotated[
        bool, option("--no-browser", "Do not open the page in a browser.", is_flag=True)
    ] = False
    atlas: Annotated[
        Path | None,
        option(
            "--atlas",
            "An atlas of MODEL, a folder that 'atlas build' made: the page shows the images that excite a "
            "feature map most beside it.",
            type=PATH,
            metavar="FOLDER",
        ),
    ] = None


@click.command(cls=Sectioned, epilog=_EPILOG)
@groups.model
@click.argument("paths", metavar="[IMAGE]...", nargs=-1)
@takes("page", PageOptions)
@takes("address", AddressOptions)
@takes("limits", LimitOptions, without=("waiting", "batch", "runs"))
@takes("fixed", FixedInputs)
@takes("images", ImageOptions)
@takes("run", ModelOptions)
@groups.common
@click.pass_obj
def command(
    console: Console, /, model: Path, paths: Sequence[str], *, page: PageOptions,
    address: AddressOptions, limits: LimitOptions, fixed: FixedInputs, images: ImageOptions,
    run: ModelOptions,
) -> int:  # fmt: skip
    """Explore MODEL in the browser: its layers, feature maps, units and classes, on photographs.

    IMAGE is a photograph, a folder of photographs, or a pattern; others can be dropped on the page.
    """
    check_installed("explore")
    where, found = address.address(), find_pictures(paths)
    if missing := [path for path in found if not path.exists()]:
        raise InputError(f"{missing[0]}: no such file or folder of photographs")
    first = run.explainer(fixed.model(model, run, images), None, AUTO)
    preprocess = images.preprocess(first.model, console)
    tell_assumed(console, first.head)
    explore(
        lambda method: run.explainer(model if first.saved else first.model, None, method),
        preprocess,
        found,
        _commands(model, [*fixed.flags(), *_flags(images), *_flags(run)]),
        limits.limits(),
        where,
        lambda url: _say(console, url, opens=not page.no_browser),
        page.atlas,
    )
    return 0


def _say(console: Console, url: str, *, opens: bool) -> None:
    speak_options(False)  # from now on requests are answered, which have no options
    console.result({"url": url}, f"{url}: stop with Ctrl+C")
    console.finish()
    if opens:
        webbrowser.open(url)


def _commands(model: Path, given: Sequence[str]) -> "Callable[[str, Asked, Sequence[str]], str]":
    """Make what writes the command line of an explanation."""

    def command_of(photograph: str, asked: "Asked", options: Sequence[str]) -> str:
        name = "occlude" if asked.method == "occlusion" else "explain"
        words = ["onnx-deconv", name, str(model), photograph]
        words += [] if asked.layer is None else [f"--layer={asked.layer}"]
        words += [] if asked.target is None else [f"--target={asked.target}"]
        words += [] if asked.position is None else [f"--position={','.join(map(str, asked.position))}"]
        return shlex.join([*words, *_method(asked.method), *options, *given])

    return command_of


def _method(name: str) -> Iterator[str]:
    """Write a method as options."""
    if name not in (AUTO, "occlusion"):
        chosen = Semantics.of(name).as_dict()
        yield f"--rules={chosen['rules']}"
        if chosen["cam"] != "none":
            yield f"--cam={chosen['cam']}"
        if chosen["cam_layer"] is not None:
            yield f"--cam-layer={chosen['cam_layer']}"


def _flags(group: Any) -> Iterator[str]:
    """Write the options of a group that were given, as on the command line."""
    for name, value in changed(group).items():
        if name == "--input-shape":
            yield from (f"{name}={each}:{','.join(map(str, sizes))}" for each, sizes in value)
        elif name == "--size" and not isinstance(value, str):
            yield f"{name}={'x'.join(map(str, value))}"
        else:
            several = isinstance(value, tuple | list)
            yield f"{name}={','.join(map(str, value)) if several else value}"
