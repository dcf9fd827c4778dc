"""Measure the atlas of a model: images and projections a second, memory, and what crops save.

    python tools/bench_atlas.py MODEL IMAGES --preset imagenet-caffe [--every 4]

``--every 4`` projects every fourth feature map. Beside it stands one forward pass and one companion's pass
over the whole image for each unit, timed on some units of each layer (medians) and counted for all.
"""

import resource
import statistics
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import click
import numpy as np

from onnx_deconv import Explainer
from onnx_deconv.atlas import Atlas, Images, Projector, images_of, scan
from onnx_deconv.imaging import Preprocess, preprocess_for
from onnx_deconv.model.heads import convolutions

_UNITS = 5
"""Units of each layer that are projected one by one."""


def thinned(atlas: Atlas, every: int) -> Atlas:
    """Keep every n-th feature map's units."""
    layers = {
        layer: replace(
            table, activations=table.activations * (np.arange(len(table.activations)) % every == 0)[:, None]
        )
        for layer, table in atlas.layers.items()
    }
    return replace(atlas, layers=layers)


def one_by_one(explainer: Explainer, layer: str, batch: np.ndarray) -> Iterator[float]:
    """Yield the seconds of a forward pass and a deconv of the whole image, for some units."""
    session, (name,) = explainer.session(layer), explainer.model.inputs
    rng = np.random.default_rng(0)
    for _ in range(_UNITS + 1):
        start = time.perf_counter()
        values = session.run_forward({name: batch})
        seed = np.zeros(values[layer].shape(), session.seed_dtype)
        seed.flat[rng.integers(seed.size)] = 1
        session.run_deconv(values, seed)
        yield time.perf_counter() - start


@click.command()
@click.argument("model", type=Path)
@click.argument("images", type=Path)
@click.option("--preset")
@click.option("--every", default=1, show_default=True)
@click.option("--providers", default="cpu", show_default=True)
def main(model: Path, images: Path, preset: str | None, every: int, providers: str) -> None:
    """Measure the atlas of MODEL over IMAGES."""
    explainer, source = Explainer(model, providers=providers), images_of(images)
    preprocess, _ = preprocess_for(explainer.model, preset)
    layers = convolutions(explainer.model)
    atlas, seconds = measured_scan(explainer, source, preprocess, layers)
    rate = atlas.seen / seconds
    print(f"{len(layers)} layers; scan: {atlas.seen} images, {seconds:.1f} s, {rate:.0f} a second")
    projector, chosen = Projector(explainer, layers, preprocess), thinned(atlas, every)
    start = time.perf_counter()
    count = sum(1 for _ in projector.run(chosen, source))
    seconds = time.perf_counter() - start
    print(f"projections: {count} in {seconds:.1f} s, {count / seconds:.0f} a second")
    alone = singly(explainer, chosen, preprocess.apply(next(iter(source))[1]())[0])
    print(
        f"one forward pass and one deconv each: {1e3 * alone:.2f} ms, not {1e3 * seconds / count:.2f}:",
        end=" ",
    )
    print(f"{alone * count / seconds:.1f} times as long")
    print(f"peak memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3:.0f} MB")


def measured_scan(
    explainer: Explainer, source: Images, preprocess: Preprocess, layers: list[str]
) -> tuple[Atlas, float]:
    """Scan, and time it."""
    start = time.perf_counter()
    atlas = scan(explainer, source, preprocess, Atlas(), layers)
    return atlas, time.perf_counter() - start


def singly(explainer: Explainer, atlas: Atlas, tensor: np.ndarray) -> float:
    """Return the seconds that a unit takes by itself, in the mean over the atlas."""
    counts = {layer: int(t.active.sum()) for layer, t in atlas.layers.items()}
    batch = tensor[None]
    medians = {layer: statistics.median(list(one_by_one(explainer, layer, batch))[1:]) for layer in counts}
    return sum(counts[layer] * medians[layer] for layer in counts) / sum(counts.values())


if __name__ == "__main__":
    main()
