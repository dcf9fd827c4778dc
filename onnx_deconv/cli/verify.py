"""``onnx-deconv verify``: is it exact? Checks against answers that share no code with the rules."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import click
import numpy as np

from onnx_deconv.cli import FELL_SHORT, groups
from onnx_deconv.cli.console import Console
from onnx_deconv.cli.fixed_inputs import FixedInputs
from onnx_deconv.cli.groups import PATH
from onnx_deconv.cli.image_options import ImageOptions
from onnx_deconv.cli.model_options import MAP_ALONE, ModelOptions, SemanticsOptions
from onnx_deconv.cli.options import Sectioned, option, takes
from onnx_deconv.compiler.package import is_pair, load_pair
from onnx_deconv.errors import InputError
from onnx_deconv.imaging import ImageInput, read_image
from onnx_deconv.model import Array, Model
from onnx_deconv.model.heads import explainable
from onnx_deconv.operators import compared_tables
from onnx_deconv.semantics import Semantics
from onnx_deconv.verification import Check, Verdict, random_feeds, verify

_EPILOG = """\b
Examples:
  onnx-deconv verify model.onnx
  onnx-deconv verify model.onnx --image photo.jpg --preset imagenet
  onnx-deconv verify model.onnx --layer conv4 --rules deconvnet --json
  onnx-deconv verify pair

\b
The checks, and the largest error that passes, relative to the largest expected number:
  forward      the forward model's outputs are the original's                        1e-05
  switches     each points to the maximum of its own window                          exact
  companion    it sends a seed back as a slow NumPy deconvnet in float64 does,       1e-04
               which gets the forward values that the companion reads;
               relevance (lrp, ...) is what the papers' formulas say,                1e-03
               shares of excitation add up to what was sent                          1e-03
  difference   a step along the gradient changes the unit as the gradient says,      0.05
               and so do steps in eight random directions, in float32                0.3

What the network makes of the picture is reported, and is never an error: how alike the pictures of two images
and of two units are (image, class), and how much of the signal the rectifiers let through (signal).

Where the numbers are float16, the limits of outputs and reconstructions are 1e-02. The seeds are the
strongest unit and, for models of up to 20 million weights, random numbers.

A check is ok, FAILED, or not covered: then there is nothing to compare with, and the output says why (an
operator or a table that the slow deconvnet lacks; steps that rounding hides, as in float16). Exit code 1
means that a check failed.
"""


@dataclass(frozen=True)
class VerifyOptions:
    """What is checked."""

    layers: Annotated[
        Sequence[str],
        groups.layers("A layer whose explanation is checked", groups.SCORES),
    ] = ()
    tables: Annotated[
        Sequence[str],
        groups.rules(
            "A rule table to check; may be repeated (default: all but those of relevance).",
            MAP_ALONE,
            multiple=True,
        ),
    ] = ()
    image: Annotated[
        Path | None,
        option("--image", "A photograph to check with.  [default: random input]", type=PATH),
    ] = None
    random_state: Annotated[
        int,
        groups.random_state(
            "make inputs, seeds and directions",
        ),
    ] = 0


@click.command(cls=Sectioned, epilog=_EPILOG)
@groups.model
@takes("options", VerifyOptions)
@takes("semantics", SemanticsOptions, without=("rules",))
@takes("fixed", FixedInputs)
@takes("images", ImageOptions)
@takes("run", ModelOptions, without=("kind",))
@groups.common
@click.pass_obj
def command(
    console: Console, /, model: Path, *, options: VerifyOptions, semantics: SemanticsOptions,
    fixed: FixedInputs, images: ImageOptions, run: ModelOptions,
) -> int:  # fmt: skip
    """Check the forward model and the companion of MODEL against the original and a slow reference.

    MODEL is an ONNX file, or a folder that 'convert' wrote; then the pair in the folder is checked.
    """
    saved = load_pair(model) if is_pair(model) else None
    if saved is not None and (options.layers or options.tables):
        raise click.UsageError("a saved pair has its own layer and rules: leave out --layer and --rules")
    if saved is not None and run.labels is not None:
        raise click.UsageError("a saved pair has its own labels: leave out --labels")
    if saved is not None and fixed.given:
        raise click.UsageError("a saved pair takes what it takes: leave out --input")
    loaded = fixed.of(run.load(model), images)
    feeds = _feeds(loaded, options, images, console)
    verdicts: list[Verdict] = []
    layers: Sequence[str | None] = options.layers
    if saved is None and not layers:
        explainable(loaded, run.output)
        told = run.output is not None or run.labels is not None
        layers = (run.explainer(loaded).scores_layer if told else None,)
    layers, tables = layers or (None,), options.tables or compared_tables()
    each = [(layer, rules) for layer in layers for rules in (tables if saved is None else ("the pair",))]
    steps = console.progress(
        each, lambda step: " ".join(filter(None, (step[1], step[0]))), len(tables) if layers[1:] else 1
    )
    for layer in layers:
        if len(layers) > 1:
            console.say(f"layer {layer}:")
        for check in verify(
            loaded,
            feeds,
            layer,
            tables,
            semantics.of() or Semantics(),
            run.providers,
            np.random.default_rng(options.random_state),
            saved,
            lambda tables: (rules for rules, _ in zip(tables, steps, strict=False)),
        ):
            console.result({"layer": layer, **check.as_dict()}, _text(check))
            verdicts.append(check.verdict)
    return _summary(console, verdicts)


def _summary(console: Console, verdicts: list[Verdict]) -> int:
    failed, uncovered = verdicts.count("failed"), verdicts.count("not covered")
    if failed:
        console.error(f"{failed} of {len(verdicts)} checks failed")
        return FELL_SHORT
    passed = f"no check failed; {uncovered} of {len(verdicts)} not covered"
    console.say(passed if uncovered else "all checks passed")
    return 0


def _feeds(model: Model, options: VerifyOptions, images: ImageOptions, console: Console) -> dict[str, Array]:
    """Make one batch: of the photograph, or at random."""
    rng = np.random.default_rng(options.random_state)
    if options.image is not None:
        takes = ImageInput.of(model, images.layout)
        tensor, _ = images.preprocess(model, console).apply(read_image(options.image))
        return {takes.name: np.repeat(tensor[None], takes.batch or 1, 0)}
    try:
        preprocess = images.preprocess(model)
    except InputError:  # its input is no image
        return random_feeds(model, rng)
    return random_feeds(model, rng, preprocess)


def _text(check: Check) -> str:
    verdict = "FAILED" if check.verdict == "failed" else check.verdict
    error = "-" if check.error is None else f"{check.error:.1e}"
    limit = f"(at most {check.limit:.0e})"
    return f"{verdict:<11}  {check.name:<10}  {check.of:<10}  {error:>7} {limit}  {check.detail}"
