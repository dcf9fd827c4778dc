"""``onnx-deconv atlas``: what excites each feature map most over many images."""

import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import click

from onnx_deconv.atlas import Atlas, Images, Projector, images_of, scan
from onnx_deconv.atlas.merging import merge_folders
from onnx_deconv.atlas.resume import digest, load_partial, save_partial
from onnx_deconv.atlas.writer import Writer, plans
from onnx_deconv.attribution.explainer import Explainer
from onnx_deconv.cli import FELL_SHORT, options
from onnx_deconv.cli.console import Console
from onnx_deconv.cli.pictures import find_pictures
from onnx_deconv.cli.preparation import as_dict, preparation, preprocess_of
from onnx_deconv.files import folder
from onnx_deconv.imaging import Preprocess, read_image
from onnx_deconv.model import Model
from onnx_deconv.model.heads import convolutions, rectified_convolution

_SAVE_EVERY = 5.0
"""Seconds between two writings of what an interrupted run goes on from."""

_EPILOG = """\b
Examples:
  onnx-deconv atlas squeezenet.onnx photos/ -o atlas --preset imagenet-caffe
  onnx-deconv atlas model.onnx images.zip -o atlas --layers conv1,conv5 --top 4
  onnx-deconv atlas merge part1 part2 part3 -o whole

\b
IMAGES is a folder (with those inside), a zip or tar file, a text file of paths, or pictures. Of each layer
there are two sheets (-projections.png, -patches.png), the pictures and numbers as arrays (.npy), and in
atlas.json where each came from. An interrupted run goes on where it stopped when started again. Runs over
different images, on different machines, are merged by 'atlas merge' into what one run would have given.
"""


@click.command(
    "atlas", epilog=_EPILOG, short_help="Draw what excites each feature map most over many images."
)
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("images", metavar="IMAGES...", nargs=-1, required=True)
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="Folder for the atlas.")
@click.option(
    "--layers",
    metavar="A,B,C",
    help="Values or nodes, or conv3 for what the third convolution's rectifier gives.  [default: all such]",
)
@click.option("--top", type=click.IntRange(1), default=9, show_default=True, help="How many per feature map.")
@click.option(
    "--values/--no-values",
    default=True,
    show_default=True,
    help="Keep the reconstructions' numbers: much the largest part of an atlas.",
)
@options.semantics_options()
@preparation
@options.input_shape
@options.providers
@options.common
@click.pass_obj
def command(console: Console, /, model: Path, images: tuple[str, ...], output: Path, **given: Any) -> int:
    """Find what excites each feature map of MODEL most over IMAGES, and project it back to pixels."""
    if str(model) == "merge" and not model.exists():
        whole = merge_folders(images, output)
        return _finish(console, whole, output, time.monotonic())
    start = time.monotonic()
    explainer = Explainer(
        model,
        options.semantics_of(given, model),
        providers=given["providers"],
        input_shapes=given["shapes"],
    )
    preprocess, warning = preprocess_of(explainer.model, given, console)
    layers = _layers(explainer.model, given["layers"])
    projector = Projector(explainer, layers, preprocess)  # what cannot be explained is found out first
    source, made = _source(images), _made(explainer, preprocess, layers)
    home = folder(output)
    atlas = load_partial(home, made, given["top"]) or Atlas(given["top"], made)
    _scan(console, explainer, source, preprocess, atlas, layers, home)
    windows = {layer: projector.window(layer) for layer in layers}
    plan = plans(atlas, windows, len(preprocess.channels), values=given["values"])
    writer = Writer(home, atlas, plan, preprocess.channels)
    _project(console, projector, atlas, source, writer)
    console.status("drawing the sheets")
    writer.finish()
    if warning:
        console.warn(warning)
    return _finish(console, atlas, output, start)


def _scan(
    console: Console, explainer: Explainer, source: Images, preprocess: Preprocess, atlas: Atlas,
    layers: Sequence[str], home: Path,
) -> None:  # fmt: skip
    clock, saved = _Clock(console, "images", source.count, atlas.seen), time.monotonic()
    if atlas.seen:
        console.warn(f"going on after {atlas.seen} images")

    def after_batch(atlas: Atlas) -> None:
        nonlocal saved
        clock.show(atlas.seen)
        if time.monotonic() - saved > _SAVE_EVERY:
            save_partial(home, atlas)
            saved = time.monotonic()

    try:
        scan(explainer, source, preprocess, atlas, layers, after_batch=after_batch)
    finally:
        save_partial(home, atlas)


def _project(console: Console, projector: Projector, atlas: Atlas, source: Images, writer: Writer) -> None:
    count = sum(int(t.active.sum()) for t in atlas.layers.values())
    done = len(writer.done)
    if done:
        console.warn(f"going on after {done} projections")
    clock = _Clock(console, "projected", count, done)
    drawn = projector.run(atlas, source, lambda unit: unit[:3] not in writer.done, writer.draw)
    for number, one in enumerate(drawn, done + 1):
        writer.add(one)
        clock.show(number)


def _layers(model: Model, wanted: str | None) -> list[str]:
    if wanted is None:
        return convolutions(model)
    found = []
    for name in (part.strip() for part in wanted.split(",")):
        value = model.layer(name)
        found.append(rectified_convolution(model, value) if model.ordinals.get(value) == name else value)
    return list(dict.fromkeys(found))


def _source(images: Sequence[str]) -> Images:
    if len(images) == 1:
        return images_of(images[0])
    paths = find_pictures(images)
    listed = sorted((str(path), path) for path in paths)
    return Images("the pictures", lambda: ((n, partial(read_image, p)) for n, p in listed), len(listed))


def _made(explainer: Explainer, preprocess: Preprocess, layers: Sequence[str]) -> dict[str, Any]:
    """Say what an atlas depends on, but for the images."""
    return {
        "model": Path(explainer.model.name).name,
        "sha256": digest(explainer.model),
        "semantics": explainer.semantics.as_dict(),
        "preprocess": {k: list(v) if isinstance(v, tuple) else v for k, v in as_dict(preprocess).items()},
        "layers": list(layers),
    }


def _finish(console: Console, atlas: Atlas, output: Path, start: float) -> int:
    maps = sum(len(table.activations) for table in atlas.layers.values())
    seconds = time.monotonic() - start
    record = {
        "atlas": output,
        "layers": len(atlas.layers),
        "feature_maps": maps,
        "top": atlas.top,
        "images": atlas.seen,
        "failed": atlas.failed,
        "seconds": round(seconds, 1),
    }
    for reason in list(atlas.failed.values())[:20]:
        console.error(reason)
    if atlas.failed:
        console.warn(f"{len(atlas.failed)} of {atlas.seen} images could not be read; atlas.json names them")
    strongest = f"{min(atlas.top, atlas.seen)} of {atlas.seen} images"
    text = f"{output}: {strongest} for {maps} feature maps in {len(atlas.layers)} layers"
    console.result(record, f"{text} ({seconds:.0f} s)")
    return FELL_SHORT if atlas.failed else 0


class _Clock:
    """Shows how many are done, how fast, and how long the rest will take."""

    def __init__(self, console: Console, what: str, total: int | None, first: int = 0) -> None:
        self._console, self._what, self._total, self._first = console, what, total, first
        self._start, self._shown = time.monotonic(), 0.0

    def show(self, done: int) -> None:
        now = time.monotonic()
        if now - self._shown < 0.2:  # noqa: PLR2004  (seconds: more often nobody can read)
            return
        self._shown = now
        rate = (done - self._first) / max(now - self._start, 1e-3)
        of = "" if self._total is None else f" of {self._total}"
        left = "" if self._total is None or not rate else f", {_time((self._total - done) / rate)} left"
        self._console.status(f"{done}{of} {self._what}, {rate:.1f} a second{left}")


def _time(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02}"
