"""``onnx-deconv verify``: is it exact? Checks against answers that share no code with the rules."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import click
import numpy as np

from onnx_deconv.attribution.photographs import ImageInput, random_feeds
from onnx_deconv.cli import FELL_SHORT, groups
from onnx_deconv.cli.console import Console
from onnx_deconv.cli.groups import PATH
from onnx_deconv.cli.image_options import ImageOptions
from onnx_deconv.cli.model_options import ModelOptions, SemanticsOptions
from onnx_deconv.cli.options import option, takes
from onnx_deconv.compiler.package import is_pair, load_pair
from onnx_deconv.errors import InputError
from onnx_deconv.imaging import read_image
from onnx_deconv.model import Array, Model
from onnx_deconv.semantics import Semantics
from onnx_deconv.verification.verify import Check, verify

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
               which gets the forward values that the companion reads
  difference   a step along the gradient changes the score as the gradient says      0.05
               (float32: the best of five steps; not checked where rounding exceeds
               them all, and for float16 models)

Where the numbers are float16, the first and the third limit are 1e-02. The seeds are the strongest unit
and, for models of up to 20 million weights, random numbers.
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
        groups.rules("A rule table to check; may be repeated (default: all).", multiple=True),
    ] = ()
    image: Annotated[
        Path | None,
        option("--image", "A photograph to check with.  [default: random input]", type=PATH),
    ] = None
    random_state: Annotated[
        int,
        groups.random_state(
            "make inputs and seeds",
        ),
    ] = 0


@click.command(epilog=_EPILOG)
@groups.model
@takes("options", VerifyOptions)
@takes("semantics", SemanticsOptions, without=("rules",))
@takes("images", ImageOptions)
@takes("run", ModelOptions, without=("labels",))
@groups.common
@click.pass_obj
def command(
    console: Console, /, model: Path, *, options: VerifyOptions, semantics: SemanticsOptions,
    images: ImageOptions, run: ModelOptions,
) -> int:  # fmt: skip
    """Check the forward model and the companion of MODEL against the original and a slow reference.

    MODEL is an ONNX file, or a folder that 'convert' wrote; then the pair in the folder is checked.
    """
    saved = load_pair(model) if is_pair(model) else None
    if saved is not None and (options.layers or options.tables):
        raise click.UsageError("a saved pair has its own layer and rules: leave out --layer and --rules")
    loaded = run.load(model)
    feeds = _feeds(loaded, options, images, console)
    failed, layers = 0, options.layers or (None,)
    for layer in layers:
        for check in verify(
            loaded,
            feeds,
            layer,
            options.tables or groups.rule_tables(),
            semantics.of() or Semantics(),
            run.providers,
            np.random.default_rng(options.random_state),
            saved,
        ):
            console.result(check.as_dict(), _text(check))
            failed += not check.passed
    if failed:
        console.error(f"{failed} checks failed")
        return FELL_SHORT
    console.say("all checks passed")
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
    verdict = "ok    " if check.passed else "FAILED" if check.error is not None else "?     "
    error = "-" if check.error is None else f"{check.error:.1e}"
    return (
        f"{verdict}  {check.name:<10}  {check.of:<10}  {error:>7} (at most {check.limit:.0e})  {check.detail}"
    )
