"""``onnx-deconv verify``: is it exact? Against answers that share no code with the rules."""

from pathlib import Path
from typing import Any

import click
import numpy as np

from onnx_deconv.cli import FELL_SHORT, options
from onnx_deconv.cli.console import Console
from onnx_deconv.cli.preparation import preparation, preprocess_of
from onnx_deconv.compiler.package import is_pair, load_pair
from onnx_deconv.errors import InputError
from onnx_deconv.imaging import ImageInput, read_image
from onnx_deconv.model import Array, Model
from onnx_deconv.semantics import Semantics
from onnx_deconv.verification import Check, Verdict, random_feeds, verify

_EPILOG = """\b
Examples:
  onnx-deconv verify model.onnx
  onnx-deconv verify model.onnx --image photo.jpg --preset imagenet
  onnx-deconv verify model.onnx --layer conv4 --rules deconvnet --json
  onnx-deconv verify pair

\b
What is checked, and how far off it may be, as a share of the largest expected number:
  forward      the forward model's outputs are the original's                        1e-05
  switches     each points to the maximum of its own window                          exactly
  companion    it sends back what a slow NumPy deconvnet in float64 does, which is   1e-04
               fed with the very values that the companion reads
  difference   a step along the gradient changes the unit as the gradient says,      0.05
               and so do steps in eight random directions, in float32                0.3
The first and third are 1e-02 where the numbers are float16. Seeds are the strongest unit and, for models of
up to 20 million weights, random numbers.

\b
A check is ok, FAILED, or not covered: there is nothing to compare with, and the line says why (an operator
that the slow deconvnet lacks; steps that rounding hides, as in float16). Exit code 1 if a check failed.
"""


@click.command("verify", epilog=_EPILOG, short_help="Check a model's pair against independent answers.")
@options.model
@options.layer
@click.option(
    "--rules",
    "tables",
    type=click.Choice(Semantics.choices()["rules"]),
    multiple=True,
    help="A rule table to check; may be repeated.  [default: all]",
)
@options.semantics_options(without=("rules",))
@click.option("--image", type=click.Path(path_type=Path), help="A photograph.  [default: random input]")
@click.option(
    "--random-state",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Where random inputs, seeds and directions start.",
)
@preparation
@options.input_shape
@options.providers
@options.common
@click.pass_obj
def command(console: Console, /, model: Path, tables: tuple[str, ...], **given: Any) -> int:
    """Check MODEL's pair against the original and an independent, slow deconvnet.

    MODEL is an ONNX file, or a folder that 'convert' wrote: then that very pair is checked.
    """
    saved = load_pair(model) if is_pair(model) else None
    if saved is not None and (given["layer"] or tables):
        raise click.UsageError("a saved pair has its layer and rule table: leave out --layer and --rules")
    semantics = options.semantics_of(given) or Semantics()
    loaded = options.open_model(model, given["shapes"])
    rng = np.random.default_rng(given["random_state"])
    feeds = _feeds(loaded, given, console, rng)
    verdicts = []
    for check in verify(
        loaded,
        feeds,
        given["layer"],
        tables or Semantics.choices()["rules"],
        semantics,
        given["providers"],
        rng,
        saved,
    ):
        console.result(check.as_dict(), _line(check))
        verdicts.append(check.verdict)
    return _summary(console, verdicts)


def _summary(console: Console, verdicts: list[Verdict]) -> int:
    failed, open_ = verdicts.count("failed"), verdicts.count("not covered")
    if failed:
        console.error(f"{failed} of {len(verdicts)} checks fell short")
        return FELL_SHORT
    console.say(f"no check failed; {open_} of {len(verdicts)} not covered" if open_ else "all checks passed")
    return 0


def _feeds(
    model: Model, given: dict[str, Any], console: Console, rng: np.random.Generator
) -> dict[str, Array]:
    """Make one batch: of the photograph, or at random."""
    if given["image"] is not None:
        takes = ImageInput.of(model, given["layout"])
        preprocess, warning = preprocess_of(model, given, console)
        if warning:
            console.warn(warning)
        tensor, _ = preprocess.apply(read_image(given["image"]))
        return {takes.name: np.repeat(tensor[None], takes.batch or 1, 0)}
    try:
        preprocess, _ = preprocess_of(model, given)
    except InputError:  # its input is no picture
        return random_feeds(model, rng)
    return random_feeds(model, rng, preprocess)


def _line(check: Check) -> str:
    verdict = "FAILED" if check.verdict == "failed" else check.verdict
    error = "-" if check.error is None else f"{check.error:.1e}"
    limit = f"(at most {check.limit:.0e})"
    return f"{verdict:<11}  {check.name:<10}  {check.of:<10}  {error:>7} {limit}  {check.detail}"
