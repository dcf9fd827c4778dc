"""``onnx-deconv atlas build``: scan many images, then project what excites each feature map most."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import click

from onnx_deconv.atlas import Atlas, Images, Projector, images_of, scan
from onnx_deconv.atlas.layer_files import Plans
from onnx_deconv.atlas.means import means
from onnx_deconv.atlas.resume import PARTIAL, load_partial, save_partial
from onnx_deconv.atlas.scan import digest_of, scan_seconds
from onnx_deconv.atlas.values_file import needs_h5py
from onnx_deconv.atlas.writer import Writer, draw, plans
from onnx_deconv.attribution.method import AUTO
from onnx_deconv.cli import groups
from onnx_deconv.cli.atlas.progress import Progress
from onnx_deconv.cli.atlas.summary import summarise, tell_replaced
from onnx_deconv.cli.console import Console, counted, in_bytes
from onnx_deconv.cli.fixed_inputs import FixedInputs
from onnx_deconv.cli.image_options import ImageOptions
from onnx_deconv.cli.model_options import ModelOptions, SemanticsOptions
from onnx_deconv.cli.options import Sectioned, option, takes, whole
from onnx_deconv.cli.pictures import find_pictures
from onnx_deconv.cli.study import Study
from onnx_deconv.distributed import Cluster, Job
from onnx_deconv.errors import InputError
from onnx_deconv.files import check_disk, folder
from onnx_deconv.imaging import Picture, read_image
from onnx_deconv.model import Model, digest
from onnx_deconv.model.feature_maps import convolutions, rectified_convolution
from onnx_deconv.model.ranking import ranking
from onnx_deconv.runtime import device_of, workers
from onnx_deconv.semantics import Semantics

_SAVE_EVERY = 5.0
"""Seconds between two saves of the state that an interrupted run continues from."""

_TRIED = 32
"""Images of which one is hoped to be whole."""

_EPILOG = """\b
Examples:
  onnx-deconv atlas build squeezenet.onnx photos/ --preset imagenet-caffe -o atlas
  onnx-deconv atlas build model.onnx images.zip --layer conv1 --layer conv5 --top 4

IMAGE is a photograph, a folder (folders in it included), a zip, tar or Parquet file, a folder of tar or
Parquet files, a bucket's folder or file (s3://, gs://; with the extra arrow), or a text file of paths. Each
layer gets two sheets (-projections.webp, -patches.webp), an archive of their pictures (-pictures.zip) and an
array (-units.npy) that says which image and position each comes from. Before it begins, the command says
what it will take, and stops if the disk has not enough room. A number such as conv3 stands for the rectified
values of the third convolution. An interrupted run continues when the same command is run again.
'atlas merge' puts together atlases of different images that were made on different machines.
"""


@dataclass(frozen=True)
class AtlasOptions:
    """What an atlas holds."""

    layers: Annotated[
        Sequence[str],
        groups.layers("A layer of the atlas", "all convolutions, rectified"),
    ] = ()
    top: Annotated[
        int,
        whole("--top", "How many images are kept for each feature map.", metavar="K", least=1),
    ] = 9
    values: Annotated[
        bool,
        option(
            "--values/--no-values",
            "Whether to save the numbers of the reconstructions too (-values.h5): they take many times as "
            "much disk.",
        ),
    ] = False
    ray: Annotated[
        str | None,
        groups.ray(),
    ] = None

    def check(self) -> None:
        """Refuse what needs a package that is missing, before the model is read."""
        if self.values:
            needs_h5py()

    def of(self, model: Model) -> list[str]:
        """Return the values whose feature maps the atlas holds."""
        if not self.layers:
            return convolutions(model)
        values = [(name, model.layer(name)) for name in self.layers]
        number = model.ordinals.get
        found = [
            rectified_convolution(model, value) if number(value) == name else value for name, value in values
        ]
        return list(dict.fromkeys(found))


@click.command(cls=Sectioned, epilog=_EPILOG)
@groups.model
@groups.photographs
@groups.output("onnx-deconv-atlas", "Folder for the atlas.")
@takes("options", AtlasOptions)
@takes("semantics", SemanticsOptions)
@takes("fixed", FixedInputs)
@takes("images", ImageOptions)
@takes("run", ModelOptions, without=("labels", "kind"))
@groups.common
@click.pass_obj
def command(
    console: Console, /, model: Path, paths: Sequence[str], output: Path, *, options: AtlasOptions,
    semantics: SemanticsOptions, fixed: FixedInputs, images: ImageOptions, run: ModelOptions,
) -> int:  # fmt: skip
    """Find the images that excite each feature map of MODEL most, and project them back to pixels."""
    start = time.monotonic()
    options.check()
    study = Study.of(console, run.explainer(fixed.model(model, run, images), semantics, AUTO), images, fixed)
    layers = options.of(study.explainer.model)
    projector = Projector(study.explainer, layers, study.preprocess)  # refuses what cannot be explained
    source, made = _source(paths), _made(study, layers)
    units = {layer: (projector.channels(layer), options.top) for layer in layers}
    windows, channels = {layer: projector.window(layer) for layer in layers}, study.preprocess.channels
    plan = plans(units, windows, len(channels), values=options.values)
    cluster = _cluster(options, study, partial(_source, paths), plan, made)
    threads = workers(device_of(study.explainer.providers)) if cluster is None else len(cluster.actors)
    _tell_means(console, study, projector, plan, source, output, threads)
    tell_replaced(console, output)
    home = folder(output)
    atlas = load_partial(home, made, options.top) or Atlas(options.top, made)
    if cluster is None:
        _scan(console, study, source, atlas, layers, home)
    elif not atlas.seen:
        atlas = _scan_together(console, cluster, source, home)
    elif atlas.names != digest_of(source):  # a scan that was interrupted, and goes on here
        _scan(console, study, source, atlas, layers, home)
    writer = Writer(home, atlas, {layer: plan[layer] for layer in atlas.layers}, channels)
    _project(console, projector if cluster is None else cluster, atlas, source, writer)
    console.status("drawing the sheets")
    writer.finish()
    return summarise(console, atlas, output, time.monotonic() - start)


def _tell_means(
    console: Console,
    study: Study,
    projector: Projector,
    plan: Plans,
    source: Images,
    output: Path,
    threads: int,
) -> None:
    """Say what the atlas will take.

    Raises
    ------
    InputError
        If the disk cannot hold it.
    """
    console.status("measuring how long it will take")
    each = scan_seconds(study.explainer, source, study.preprocess, list(plan))
    costs = projector.costs(_first(source), partial(draw, plan, study.preprocess.channels))
    takes = means(study.explainer.model, costs, plan, source.count, each)
    or_else = ", fewer layers, a smaller --top, or leave out --values"
    free = check_disk(output, takes.making, "while it is made the atlas takes", or_else)
    least = (1e3 * each if takes.seconds is None else takes.seconds) / threads
    lasts = console.between(least, least * console.slower(threads))
    lasts += " for each 1,000 images, and the projections" if takes.seconds is None else ""
    lasts += ", less what is done already" if (output / PARTIAL).is_file() else ""
    console.say(
        f"{counted(takes.maps, 'feature map')} in {counted(len(plan), 'layer')} will take about "
        f"{in_bytes(takes.disk)} of disk ({in_bytes(takes.making)} while it is made, {in_bytes(free)} free), "
        f"at most about {in_bytes(takes.memory)} of memory, and last {lasts}"
    )


def _first(source: Images) -> tuple[str, Picture] | None:
    """Return the first picture that can be read, and its name, if it is among the first few."""
    for name, load in islice(source, _TRIED):
        try:
            return name, load()
        except InputError:
            continue
    return None


def _cluster(
    options: AtlasOptions, study: Study, source: Callable[[], Images], plan: Plans, made: dict[str, Any]
) -> Cluster | None:
    if options.ray is None:
        return None
    return Cluster(Job(study.explainer, study.preprocess, source, plan, made, options.top), options.ray)


def _scan_together(console: Console, cluster: Cluster, source: Images, home: Path) -> Atlas:
    """Find the strongest activations with a cluster, and save them."""
    atlas = cluster.scan(source, Progress(console, "images", source.count).show)
    save_partial(home, atlas)
    return atlas


def _scan(
    console: Console, study: Study, source: Images, atlas: Atlas, layers: Sequence[str], home: Path
) -> None:
    """Find the strongest activations; the state is saved now and then, and on an interruption."""
    progress, saved = Progress(console, "images", source.count, atlas.seen), time.monotonic()
    if atlas.seen:
        console.warn(f"continuing after {atlas.seen} images")

    def after_batch(atlas: Atlas) -> None:
        nonlocal saved
        progress.show(atlas.seen)
        if time.monotonic() - saved > _SAVE_EVERY:
            save_partial(home, atlas)
            saved = time.monotonic()

    try:
        scan(
            study.explainer, source, study.preprocess, atlas, layers, positions=False, after_batch=after_batch
        )
    finally:
        save_partial(home, atlas)


def _project(
    console: Console, projector: Projector | Cluster, atlas: Atlas, source: Images, writer: Writer
) -> None:
    """Project what was found and is not projected yet."""
    count = sum(int(t.active.sum()) for t in atlas.layers.values())
    done = len(writer.done)
    if done:
        console.warn(f"continuing after {done} projections")
    progress = Progress(console, "projections", count, done)
    if isinstance(projector, Cluster):
        drawn = projector.project(atlas, writer.done)
    else:
        drawn = projector.run(atlas, source, lambda unit: unit not in writer.done, writer.draw, locate=True)
    for number, one in enumerate(drawn, done + 1):
        writer.add(one)
        progress.show(number)


def _source(paths: Sequence[str]) -> Images:
    if len(paths) == 1:
        return images_of(paths[0])
    listed = sorted((str(path), path) for path in find_pictures(paths))
    return Images("the images", lambda: ((n, partial(read_image, p)) for n, p in listed), len(listed))


def _made(study: Study, layers: Sequence[str]) -> dict[str, Any]:
    """Return what an atlas depends on, except for the images."""
    preprocess = {k: list(v) if isinstance(v, tuple) else v for k, v in vars(study.preprocess).items()}
    return {
        "model": Path(study.explainer.model.name).name,
        "sha256": digest(study.explainer.model),
        "methods": {layer: _method(study.explainer.method(layer)) for layer in layers},
        "preprocess": preprocess,
        "layers": list(layers),
        "ranked_by": _rankings(study.explainer.model, layers),
        "numbers": _numbers(study.explainer.model, layers),
        **study.fixed.record(),
    }


def _numbers(model: Model, layers: Sequence[str]) -> dict[str, str]:
    """Return the layers that are convolutions, rectified or not, by their numbers."""
    found = {number: rectified_convolution(model, value) for value, number in model.ordinals.items()}
    found |= {number: value for value, number in model.ordinals.items() if value in layers}
    return {number: layer for number, layer in found.items() if layer in layers}


def _rankings(model: Model, layers: Sequence[str]) -> dict[str, str]:
    """Return, of layers whose activations have an upper bound, the values before it."""
    return {
        each.layer: each.value for each in (ranking(model, layer) for layer in layers) if each.before_bound
    }


def _method(semantics: Semantics) -> dict[str, Any]:
    return {"method": semantics.method, "semantics": semantics.as_dict(), "rules": semantics.rules_record}
