"""The arguments and options that several commands share."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import click

from onnx_deconv.cli.console import Console
from onnx_deconv.cli.options import Decorator, Option, once, option, together, whole
from onnx_deconv.cli.places import parse_seed
from onnx_deconv.operators import rule_tables

_NOTHING: Mapping[str, str] = MappingProxyType({})
PATH: Any = click.Path(path_type=Path)
FIRST_AND_LAST = "the first and the last convolution, and the scores"
LAST_CONVOLUTION = "the last convolution before the class maps"
SCORES = "the scores, before a final softmax"
_LAYER = "the name of a value or node, or conv3 for the third convolution ('onnx-deconv inspect' lists them)"

model = click.argument("model", type=PATH)
photographs = click.argument("paths", metavar="IMAGE...", nargs=-1, required=True)
files = click.argument("paths", metavar="[IMAGE]...", nargs=-1)


def output(default: str, help: str) -> Decorator:  # noqa: A002
    """Make the option for where results are written."""
    return click.option("-o", "--output", type=PATH, default=default, show_default=True, help=help)


def layers(what: str, default: str) -> Option:
    """Declare the option for any number of layers."""
    text = f"{what}: {_LAYER}; may be repeated.  [default: {default}]"
    return option("--layer", text, multiple=True, metavar="NAME")


def layer(what: str, default: str) -> Option:
    """Declare the option for one layer."""
    text = f"{what}: {_LAYER}.  [default: {default}]"
    return option("--layer", text, multiple=True, callback=once, metavar="NAME")


def ray() -> Option:
    """Declare the option for a cluster."""
    text = (
        "Let a Ray cluster do the work: its address, auto for the one that this machine belongs to, or "
        "local. Every node must find the model and the images under the same paths."
    )
    return option("--ray", text, metavar="ADDRESS")


def target(help: str) -> Option:  # noqa: A002
    """Declare the option for one class."""
    return option("--target", help, multiple=True, callback=once, metavar="TARGET")


def targets(help: str) -> Option:  # noqa: A002
    """Declare the option for any number of classes or channels."""
    return option("--target", help, multiple=True, metavar="TARGET")


def seed() -> Option:
    """Declare the option for what an explanation starts from."""
    return option(
        "--seed",
        "What the explanation starts from: one is 1 at the unit, value the unit's activation, "
        "map the whole feature map, present what is positive in it, strongest its strongest activation "
        "alone. auto: a class starts from its own feature map where the model has one. An .npy file: "
        "its array, of the explained value's shape, is sent back as it is.",
        type=str,
        callback=parse_seed,
        metavar="auto|one|value|map|present|strongest|FILE.npy",
    )


def random_state(what: str) -> Option:
    """Declare the option that makes random numbers the same in every run."""
    return whole("--random-state", f"Seed of the random numbers that {what}.", least=0)


def sheet_format(what: str) -> Option:
    """Declare the option for the format of a sheet."""
    return option("--format", f"The format of the {what}; svg and pdf keep texts, curves and bars as such.")


def rules(help: str, also: Mapping[str, str] = _NOTHING, **attributes: Any) -> Option:  # noqa: A002
    """Declare the option for rule tables, with those that are registered as its choices.

    Parameters
    ----------
    help
        What is chosen; what each table does is added to it.
    also
        More choices, and what they do.
    **attributes
        As for :func:`~onnx_deconv.cli.options.option`.
    """
    choices = {name: each.doc for name, each in rule_tables().items()} | dict(also)
    listed = " ".join(f"{name}: {says}" for name, says in choices.items())
    return option("--rules", f"{help} {listed}", type=click.Choice(list(choices)), **attributes)


def _switch(name: str, *also: str, help: str) -> Decorator:  # noqa: A002
    def callback(ctx: click.Context, param: click.Parameter, value: bool) -> None:  # noqa: FBT001
        del param
        if value:
            setattr(ctx.ensure_object(Console), name, True)

    return click.option(
        *also, f"--{name}", is_flag=True, expose_value=False, is_eager=True, callback=callback, help=help
    )


common = together(
    _switch("json", help="Print one JSON object per result on stdout, and nothing else there."),
    _switch("quiet", help="Print errors only."),
    _switch("verbose", "-v", help="Print details, and the traceback of an error."),
)
"""What every command takes: they set the console that it prints to."""
