"""The option groups for how a model is explained, read and run."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import click

from onnx_deconv.attribution.average import Average
from onnx_deconv.attribution.explainer import MAX_LAYERS, Explainer
from onnx_deconv.cli import groups
from onnx_deconv.cli.console import Console
from onnx_deconv.cli.groups import PATH
from onnx_deconv.cli.options import Option, option
from onnx_deconv.compiler.inner_model import load_model
from onnx_deconv.compiler.package import FORWARD, is_pair, load_pair
from onnx_deconv.labels import IMAGENET, Labels
from onnx_deconv.model import Model, load, parse_input_shape
from onnx_deconv.model.head import ChosenKind, Head
from onnx_deconv.runtime import Providers, limit_threads
from onnx_deconv.semantics import NO_RULES, Semantics

_MOST_LAYERS = 32
"""Of how many layers a command keeps the models that it uses in turn: 60 MB each of an EfficientNet."""


def _shapes(ctx: click.Context, param: click.Parameter, values: Sequence[str]) -> Any:
    del ctx, param
    return tuple(parse_input_shape(value) for value in values)


def _providers(ctx: click.Context, param: click.Parameter, value: str) -> Providers:
    del ctx, param
    names = [name.strip() for name in value.split(",") if name.strip()] or ["auto"]
    return names[0] if len(names) == 1 else names


def _limit_threads(ctx: click.Context, param: click.Parameter, value: int | None) -> int | None:
    del ctx, param
    limit_threads(value)
    return value


def _choice(name: str, help: str) -> Option:  # noqa: A002
    choices = Semantics.choices()[name]
    return option(f"--{name}", f"{help}  [default: {choices[0]}]", type=click.Choice(choices))


MAP_ALONE = {NO_RULES: "No signal goes to the image; the map of --cam alone is made."}
"""What else than a table may be chosen."""


@dataclass(frozen=True)
class SemanticsOptions:
    """How the signal is sent back; ``None`` where no choice was made.

    The named choices of :class:`~onnx_deconv.semantics.Semantics`.
    """

    rules: Annotated[
        str | None,
        groups.rules(
            "The rule table, which says what each operator does to the signal (default: one that depends on "
            "the photograph, chosen for each layer; convert and inspect take deconvnet).",
            MAP_ALONE,
        ),
    ] = None
    cam: Annotated[
        str | None,
        _choice(
            "cam",
            "A class activation map that the reconstruction is multiplied by: grad-cam (Selvaraju et al. "
            "2017), layer-cam (Jiang et al. 2021), cam, gradient times activation (Draelos & Carin 2020), "
            "or grad-cam^3, the third power of Grad-CAM.",
        ),
    ] = None
    cam_layer: Annotated[
        str | None,
        option(
            "--cam-layer",
            "The layer whose feature maps the class activation map is made of: the name of a value or node, "
            "or conv3 for the third convolution ('onnx-deconv inspect' lists them).  [default: the last "
            "feature maps]",
            metavar="NAME",
        ),
    ] = None
    head: Annotated[
        str | None,
        _choice(
            "head",
            "What is sent back from the last feature maps: the signal that arrives there, or the class-map, "
            "which is what each position contributes to the class (gradient times activation).",
        ),
    ] = None
    activations: Annotated[
        str | None,
        _choice(
            "activations",
            "Which activations the deconvnet and guided tables treat as rectifiers: all of them, or Relu "
            "alone as Captum does.",
        ),
    ] = None
    lrn: Annotated[
        str | None,
        _choice(
            "lrn",
            "How the signal passes local response normalisation: unchanged, or by the true derivative; auto: "
            "as the rule table says.",
        ),
    ] = None
    unpool: Annotated[
        str | None,
        _choice(
            "unpool",
            "Where pooling windows overlap, signals that meet are added, or the last one overwrites the "
            "others.",
        ),
    ] = None
    precision: Annotated[
        str | None,
        _choice(
            "precision",
            "The number type that the companion computes in.",
        ),
    ] = None

    def of(self, path: Path | None = None) -> Semantics | None:
        """Return the semantics, or ``None`` where no choice was made.

        Parameters
        ----------
        path
            The model; where it is a saved pair, choices not made are the pair's.
        """
        chosen = {name: value for name, value in vars(self).items() if value is not None}
        if not chosen:
            return None
        base = Semantics(**load_pair(path).manifest["semantics"]) if path and is_pair(path) else Semantics()
        if self.cam_layer is not None and (self.cam or base.cam) == "none":
            raise click.UsageError("--cam-layer: choose a class activation map too, as --cam grad-cam")
        return replace(base, **chosen)


@dataclass(frozen=True)
class ModelOptions:
    """How a model is read and run."""

    labels: Annotated[
        Path | None,
        option(
            "--labels",
            "Names of the classes: a text file with one name per line, JSON, or CSV; or imagenet for those "
            "of ImageNet, where the model has its 1000 classes (or 1001).  "
            "What the outputs of a detector are may follow from their number.  "
            "[default: the names in the model's file, or in a config.json beside it]",
            type=PATH,
            metavar="FILE|imagenet",
        ),
    ] = None
    output: Annotated[
        str | None,
        option(
            "--model-output",
            "The output of the model whose classes are explained, where it has several ('onnx-deconv "
            "inspect' lists them).  [default: the first that is real numbers, or made of such]",
            metavar="NAME",
        ),
    ] = None
    kind: Annotated[
        ChosenKind | None,
        option(
            "--kind",
            "What the row of numbers is that MODEL returns, if the file does not say: classes, or "
            "regression (coordinates, say).  [default: a --target is asked for]",
        ),
    ] = None
    shapes: Annotated[
        Sequence[tuple[str, tuple[int | str, ...]]],
        option(
            "--input-shape",
            "Shape of an input whose sizes the file leaves open (a word, as N, for any size); repeatable.",
            multiple=True,
            callback=_shapes,
            metavar="NAME:1,3,224,224",
        ),
    ] = ()
    providers: Annotated[
        Providers,
        option(
            "--providers",
            "What the model runs on. auto: CUDA where it works, else the CPU. It is an error if a "
            "provider that is named here is not available.",
            callback=_providers,
            metavar="auto|cpu|cuda|cuda,cpu",
        ),
    ] = "auto"

    threads: Annotated[
        int | None,
        option(
            "--threads",
            "The most threads of the CPU that the model runs on.  [default: one per core]",
            type=click.IntRange(1),
            metavar="N",
            callback=_limit_threads,
        ),
    ] = None

    def load(self, path: Path) -> Model:
        """Load a model, the forward model of a saved pair, or the model inside an explain graph."""
        if is_pair(path):
            return load(path / FORWARD, dict(self.shapes))
        return load_model(path, dict(self.shapes))[0]

    def explainer(
        self,
        path: Path | Model,
        semantics: SemanticsOptions | None = None,
        default: str | None = None,
        average: Average | None = None,
        *,
        measure: bool = False,
        layers: int = 0,
    ) -> Explainer:
        """Make an explainer of a model or a saved pair.

        Parameters
        ----------
        path
            Where it is, or a model that is loaded.
        semantics
            The choices made.
        default
            The method where the semantics make no choice.
        average
            What explanations are the mean of.
        measure
            Whether to measure how much of the signal survives.
        layers
            How many layers are explained in turn, again and again: their models are kept if they are not too
            many for the memory.
        """
        chosen = None if semantics is None else semantics.of(path if isinstance(path, Path) else None)
        return Explainer(
            path,
            default if chosen is None else chosen,
            providers=self.providers,
            labels=self.names(),
            input_shapes=dict(self.shapes),
            output=self.output,
            kind=self.kind,
            average=average,
            measure=measure,
            max_layers=max(MAX_LAYERS, min(layers, _MOST_LAYERS)),
        )

    def names(self) -> Sequence[str] | str | None:
        """Return the names of the classes that were given, as the library takes them."""
        if self.labels is None:
            return None
        return IMAGENET if str(self.labels) == IMAGENET else Labels.read(self.labels).names


def tell_assumed(console: Console, head: Head) -> None:
    """Say where an output is taken for classes though nothing in the file says so, or before the first."""
    if head.in_place_of is not None:
        console.warn_at_the_end(
            f"output {head.output!r} is explained, as it holds scores; {head.in_place_of!r}, which stands "
            f"before it, is explained with --model-output {head.in_place_of}"
        )
    if head.levels:
        console.warn_at_the_end(
            f"output {head.output!r} is explained; {', '.join(map(repr, head.levels))}, which "
            f"{'hold' if len(head.levels) > 1 else 'holds'} the same classes of other boxes, larger or "
            "smaller ones, may have stronger ones: --model-output chooses"
        )
    if head.assumed and head.has_positions:
        console.warn_at_the_end(
            f"output {head.output!r} is taken for classes at each step: nothing in the file says so. If "
            "it holds other numbers, as features, name one with --target and --position; names of classes "
            "tell too"
        )
    elif head.assumed:
        console.warn_at_the_end(
            f"output {head.output!r} is taken for classes: nothing in the file says so. If they are other "
            "numbers, as coordinates, name one with --target; --kind, or names of the classes, tell too"
        )
