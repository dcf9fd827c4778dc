"""Options that several commands share."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import click

from onnx_deconv.attribution.explainer import Explainer
from onnx_deconv.attribution.seed import SeedKind
from onnx_deconv.cli.console import Console
from onnx_deconv.compiler.package import FORWARD, is_pair, load_pair
from onnx_deconv.labels import Labels
from onnx_deconv.model import Model, load, parse_input_shape
from onnx_deconv.runtime import Providers
from onnx_deconv.semantics import Semantics

Decorator = Callable[[Any], Any]

_SAYS = {
    "rules": "What rectifiers do to the signal: rectify it (Zeiler & Fergus), guide it (Springenberg et "
    "al.), or their true derivative.",
    "activations": "Which activations count as rectifiers.",
    "lrn": "Local response normalisation; auto: identity for deconvnet, else gradient.",
    "unpool": "What happens where pooling windows overlap.",
    "precision": "What the companion computes in.",
}


Callback = Callable[[click.Context, click.Parameter, Any], Any]


def numbers(kind: type[float] | type[int]) -> Callback:
    """Make a parser of numbers between commas, such as ``0.485,0.456,0.406``."""

    def parse(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[float, ...] | None:
        if value is None:
            return None
        try:
            return tuple(kind(part) for part in value.split(","))
        except ValueError:
            text = f"{value!r}: write {'whole ' if kind is int else ''}numbers with commas between them"
            raise click.BadParameter(text, ctx, param) from None

    return parse


def size(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[int, int] | str | None:
    """Parse ``224``, ``224x320`` (height first) or ``photo``."""
    if value is None or value == "photo":
        return value
    match = re.fullmatch(r"(\d{1,5})(?:[x,](\d{1,5}))?", value)
    if match is None:
        text = f"{value!r}: write 224, 224x320 (height first), or photo"
        raise click.BadParameter(text, ctx, param)
    return int(match[1]), int(match[2] or match[1])


def together(*options: Decorator) -> Decorator:
    """Join options into one decorator."""

    def decorate(command: Any) -> Any:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def _switch(name: str) -> Callable[[click.Context, click.Parameter, bool], None]:
    def callback(ctx: click.Context, param: click.Parameter, value: bool) -> None:  # noqa: FBT001
        del param
        if value:
            setattr(ctx.ensure_object(Console), name, True)

    return callback


def _flag(*names: str, help: str) -> Decorator:  # noqa: A002
    name = names[-1].removeprefix("--")
    return click.option(
        *names, is_flag=True, expose_value=False, is_eager=True, callback=_switch(name), help=help
    )


common = together(
    _flag("--json", help="Print one JSON object per result on stdout, and nothing else there."),
    _flag("--quiet", help="Say nothing but errors."),
    _flag("-v", "--verbose", help="Say more; errors come with a traceback."),
)

model = click.argument("model", type=click.Path(path_type=Path))

layer = click.option(
    "--layer",
    metavar="NAME",
    help="A value's or a node's name, or conv3 for the third convolution ('onnx-deconv inspect' lists "
    "them).  [default: the scores, before a final softmax]",
)

labels = click.option(
    "--labels",
    type=click.Path(path_type=Path),
    help="Names of the classes: one a line, or JSON.  [default: those in the model's metadata]",
)


def output(default: str, help: str = "Folder for the results.") -> Decorator:  # noqa: A002
    """Make the option that says where results go."""
    return click.option(
        "-o", "--output", type=click.Path(path_type=Path), default=default, show_default=True, help=help
    )


images = click.argument("images", metavar="IMAGE...", nargs=-1, required=True)


def _shapes(
    ctx: click.Context, param: click.Parameter, values: tuple[str, ...]
) -> dict[str, tuple[int, ...]]:
    del ctx, param
    return dict(parse_input_shape(value) for value in values)


input_shape = click.option(
    "--input-shape",
    "shapes",
    multiple=True,
    callback=_shapes,
    metavar="NAME:1,3,224,224",
    help="Sizes of an input that the file leaves open.",
)


def _providers(ctx: click.Context, param: click.Parameter, value: str) -> Providers:
    del ctx, param
    names = [name.strip() for name in value.split(",") if name.strip()] or ["auto"]
    return names[0] if len(names) == 1 else names


providers = click.option(
    "--providers",
    default="auto",
    show_default=True,
    callback=_providers,
    metavar="auto|cpu|cuda|cuda,cpu",
    help="What to run on. auto: CUDA where it works, else the CPU. What is named must be had.",
)

seed = click.option(
    "--seed",
    type=click.Choice(get_args(SeedKind)),
    default="auto",
    show_default=True,
    help="What to start with: 1 at the unit, its activation, its whole map, or the map's strongest; "
    "auto: a class from its own map where the model has one.",
)


def semantics_options(*, without: tuple[str, ...] = ()) -> Decorator:
    """Make one option for each named choice of :class:`~onnx_deconv.semantics.Semantics`."""
    return together(
        *(
            click.option(
                f"--{name}",
                type=click.Choice(choices),
                help=f"{_SAYS[name]}  [default: {choices[0]}]",
            )
            for name, choices in Semantics.choices().items()
            if name not in without
        )
    )


def semantics_of(given: dict[str, Any], path: Path | None = None) -> Semantics | None:
    """Take the choices out of a command's options; ``None`` where none was made.

    Parameters
    ----------
    given
        The command's options; the choices are removed.
    path
        The model; where it is a saved pair, choices not made are the pair's.
    """
    names = [name for name in Semantics.choices() if name in given]
    chosen = {name: value for name in names if (value := given.pop(name)) is not None}
    if not chosen:
        return None
    base = Semantics(**load_pair(path).manifest["semantics"]) if is_pair(path) and path else Semantics()
    return replace(base, **chosen)


def explainer_of(model: Path, given: dict[str, Any]) -> Explainer:
    """Make an Explainer as a command's options say: rules, labels, providers, input shapes."""
    labels = given["labels"]
    return Explainer(
        model,
        semantics_of(given, model),
        providers=given["providers"],
        labels=None if labels is None else Labels.read(labels).names,
        input_shapes=given["shapes"],
    )


def open_model(path: Path, shapes: dict[str, tuple[int, ...]]) -> Model:
    """Load a model, or the forward model of a saved pair."""
    return load(path / FORWARD if is_pair(path) else path, shapes)
