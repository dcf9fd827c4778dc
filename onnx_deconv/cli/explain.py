"""``onnx-deconv explain``: pictures of what in photographs excited a class or a unit."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import click

from onnx_deconv.attribution.average import AVERAGES, Average
from onnx_deconv.attribution.method import AUTO
from onnx_deconv.attribution.photographs import Selection
from onnx_deconv.attribution.seed import Place, SeedKind
from onnx_deconv.cli import groups
from onnx_deconv.cli.console import Console
from onnx_deconv.cli.explaining import explain
from onnx_deconv.cli.explanation import Job
from onnx_deconv.cli.image_options import ImageOptions
from onnx_deconv.cli.model_options import ModelOptions, SemanticsOptions
from onnx_deconv.cli.options import Sectioned, option, takes, whole
from onnx_deconv.cli.places import parse_place
from onnx_deconv.cli.sample_study import InputOptions
from onnx_deconv.imaging import VECTOR, VIEWS, SheetFormat
from onnx_deconv.model import Array

_EPILOG = """\b
Examples:
  onnx-deconv explain model.onnx photo.jpg
  onnx-deconv explain squeezenet.onnx photos/ --preset imagenet-caffe --labels labels.txt -o out
  onnx-deconv explain model.onnx cat.png --target tabby --target 207 --rules guided --view all
  onnx-deconv explain model.onnx cat.png --target 'tabby - tiger cat'
  onnx-deconv explain segmenter.onnx street.jpg --target road --position region
  onnx-deconv explain detector.onnx street.jpg --target 'person at 320,210'
  onnx-deconv explain model.onnx cat.png --layer conv4 --target 17 --position 6,6
  onnx-deconv explain model.onnx cat.png --layer conv3 --top 9 --seed strongest
  onnx-deconv explain model.onnx 'photos/*.jpg' --top 3 --json
  onnx-deconv explain pair.onnx --input left=a.png --input right=b.png --input threshold=0.5
  onnx-deconv explain heartbeat.onnx ecg.npy
  onnx-deconv explain satellite.onnx scene.tif --bands 3,2,1

For each explanation the folder gets its pictures, the reconstruction (.npy, shaped as the model's input)
and a description (.json: class, score, seed, rules, preprocessing, the scale of the projection).
For several photographs it also gets a table, summary.csv, and a page, index.html. If it is interrupted, run
the same command again: it explains only what is new or has changed.
With a wrong preset the pictures look convincing but mean nothing: check first that the class is right.
"""
_VIEWS = ("side-by-side", "projection")


@dataclass(frozen=True)
class TargetOptions:
    """What is explained."""

    targets: Annotated[
        Sequence[str],
        groups.targets(
            "What is explained: a class, by index or label, or a channel of --layer; a class's absence, as "
            "in -tabby; a sum, as in 'tabby - tiger cat'; of a detector a box, as in person, person#2 or "
            "'person at 120,80'; may be repeated.  [default: the strongest]",
        ),
    ] = ()
    top: Annotated[
        int,
        whole(
            "--top", "Without --target: explain the K strongest classes or channels.", metavar="K", least=1
        ),
    ] = 1
    layers: Annotated[
        Sequence[str],
        groups.layers("A layer that is explained", groups.SCORES),
    ] = ()
    position: Annotated[
        Place,
        option(
            "--position",
            "Where in the map of the class or channel: one position (a step of a sequence, a box's place "
            "among the boxes); region, where the class wins over all others; or a mask, a picture that is "
            "white there or an .npy file.  [default: see --seed]",
            type=str,
            callback=parse_place,
            metavar="Y,X|region|MASK",
        ),
    ] = None
    seed: Annotated[SeedKind | Array, groups.seed()] = "auto"

    def of_layers(self) -> list[Selection]:
        """Return what is explained in each photograph, layer by layer."""
        if self.top > 1 and self.targets:
            raise click.UsageError("--top takes the strongest: leave out --target")
        layers: Sequence[str | None] = self.layers or (None,)
        if not isinstance(self.seed, str) and (self.targets or self.position is not None or self.top > 1):
            raise click.UsageError(
                "--seed FILE.npy is all that is explained: leave out --target, --position, --top"
            )
        return [Selection(self.targets, layer, self.position, self.top, self.seed) for layer in layers]


@dataclass(frozen=True)
class AverageOptions:
    """What an explanation is the mean of."""

    average: Annotated[
        str | None,
        option(
            "--average",
            "Explain by the mean over many passes: smoothgrad, over the image with noise (of the gradient, "
            "or of what --rules and --cam say), or integrated-gradients, over gradients from a black or "
            "grey image (zeros, as the model takes them) to the photograph.",
            type=click.Choice(AVERAGES),
        ),
    ] = None
    samples: Annotated[
        int | None,
        whole("--samples", f"How many passes.  [default: {Average(AVERAGES[0]).samples}]", least=1),
    ] = None

    def of(self) -> Average | None:
        """Return what is averaged over, ``None`` for a single pass."""
        if self.average is None:
            if self.samples is not None:
                raise click.UsageError("--samples counts the passes of an average: give --average too")
            return None
        average = Average.of(self.average)
        return average if self.samples is None else replace(average, samples=self.samples)


@dataclass(frozen=True)
class ClusterOptions:
    """Who does the work."""

    ray: Annotated[str | None, groups.ray()] = None


@dataclass(frozen=True)
class PictureOptions:
    """Which pictures are drawn, and how they are written."""

    views: Annotated[
        Sequence[str],
        option(
            "--view",
            "A picture to draw of each explanation; may be repeated.  "
            f"[default: {' and '.join(_VIEWS)}; with --format svg or pdf side-by-side]",
            type=click.Choice([*VIEWS, "all"]),
            multiple=True,
        ),
    ] = ()
    suffix: Annotated[
        SheetFormat,
        option(
            "--format", "The format of the pictures; svg and pdf keep the captions of side-by-side as text."
        ),
    ] = "png"
    most: Annotated[
        int | None,
        whole(
            "--max-size",
            "Reduce pictures whose longer side has more pixels.  [default: as large as the photograph]",
            metavar="PIXELS",
            least=16,
        ),
    ] = None

    def drawn(self) -> Sequence[str]:
        """Return the views to draw."""
        vector = f".{self.suffix}" in VECTOR
        chosen = VIEWS if "all" in self.views else self.views or (("side-by-side",) if vector else _VIEWS)
        if vector and set(chosen) != {"side-by-side"}:
            raise click.UsageError(
                f"--format {self.suffix} is for --view side-by-side: other views are pixels"
            )
        if vector and self.most is not None:
            raise click.UsageError(f"--max-size counts pixels: leave it out with --format {self.suffix}")
        return chosen


@click.command(cls=Sectioned, epilog=_EPILOG)
@groups.model
@groups.files
@groups.output("onnx-deconv-pictures", "Folder for the pictures, reconstructions and descriptions.")
@takes("inputs", InputOptions)
@takes("options", TargetOptions)
@takes("semantics", SemanticsOptions)
@takes("averages", AverageOptions)
@takes("pictures", PictureOptions)
@takes("cluster", ClusterOptions)
@takes("images", ImageOptions)
@takes("run", ModelOptions)
@groups.common
@click.pass_obj
def command(
    console: Console, /, model: Path, paths: Sequence[str], output: Path, *, inputs: InputOptions,
    options: TargetOptions, semantics: SemanticsOptions, averages: AverageOptions, pictures: PictureOptions,
    cluster: ClusterOptions, images: ImageOptions, run: ModelOptions,
) -> int:  # fmt: skip
    """Draw what in photographs excited a class of MODEL, or a unit of any layer.

    MODEL is an ONNX file, or a folder that 'convert' wrote. IMAGE is a photograph, a folder of photographs,
    a pattern, a zip, tar or Parquet file, or a bucket's folder or file (s3://, gs://). For a model that takes
    no photographs, it is a signal or a volume (.npy, .npz, .wav), or an image of other bands (.npy, TIFF).
    Without --target and --layer the most probable class is explained.
    """
    targets, drawn = options.of_layers(), pictures.drawn()
    taken, flags = inputs.with_flags(model, run)
    explainer = run.explainer(taken, semantics, AUTO, averages.of(), measure=True, layers=len(targets))
    study = inputs.study(console, explainer, images, flags)
    found = study.find(paths)
    job = Job(study, targets, drawn, output, pictures.suffix, pictures.most)
    return explain(console, job, found, cluster.ray)
