"""Measure the atlas of a model: images and projections a second, as ratios in one run, and memory.

    python tools/bench_atlas.py MODEL IMAGES --preset imagenet-caffe [--every 16]

The pass over the images stands beside the plain model's forward pass over the same images, prepared before,
at the best of batches of 1, 16 and 32 on all cores; the rounds of both take turns, and medians count.
``--every 16`` projects every 16th feature map. Beside it stands one forward pass and one companion's pass
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
from onnx_deconv.atlas import Atlas, Projector, images_of, scan
from onnx_deconv.atlas.scan import scan_seconds
from onnx_deconv.imaging import preprocess_for
from onnx_deconv.model.heads import convolutions
from onnx_deconv.runtime import Session

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
@click.option("--every", default=16, show_default=True)
@click.option("--rounds", default=5, show_default=True)
@click.option("--providers", default="cpu", show_default=True)
def main(model: Path, images: Path, preset: str | None, every: int, rounds: int, providers: str) -> None:
    """Measure the atlas of MODEL over IMAGES."""
    explainer, source = Explainer(model, providers=providers), images_of(images)
    preprocess, _ = preprocess_for(explainer.model, preset)
    layers = convolutions(explainer.model)
    tensors = np.stack([preprocess.apply(load())[0] for _, load in source])
    sizes = [explainer.model.batch] if explainer.model.batch else [1, 16, 32]
    session = Session(explainer.model.proto, explainer.model.folder, providers)
    took: dict[str, list[float]] = {}
    for _ in range(rounds):
        for size in sizes:
            took.setdefault(f"forward, batch {size}", []).append(forward_seconds(session, tensors, size))
        took.setdefault("scan", []).append(scan_seconds(explainer, source, preprocess, layers))
    medians = {name: statistics.median(each) for name, each in took.items()}
    plain = min(seconds for name, seconds in medians.items() if name != "scan")
    print(f"{len(layers)} layers, {len(tensors)} images;", end=" ")
    print(", ".join(f"{name}: {1e3 * seconds:.1f} ms an image" for name, seconds in medians.items()))
    print(f"the scan reaches {100 * plain / medians['scan']:.0f} % of the plain forward pass")
    atlas = scan(explainer, source, preprocess, Atlas(), layers)
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


def forward_seconds(session: Session, tensors: np.ndarray, size: int) -> float:
    """Return the seconds that an image takes in batches of this size."""
    (name,) = session.inputs
    start, count = time.perf_counter(), len(tensors) // size * size
    for first in range(0, count, size):
        session.run({name: tensors[first : first + size]})
    return (time.perf_counter() - start) / count


def singly(explainer: Explainer, atlas: Atlas, tensor: np.ndarray) -> float:
    """Return the seconds that a unit takes by itself, in the mean over the atlas."""
    counts = {layer: int(t.active.sum()) for layer, t in atlas.layers.items()}
    batch = tensor[None]
    medians = {layer: statistics.median(list(one_by_one(explainer, layer, batch))[1:]) for layer in counts}
    return sum(counts[layer] * medians[layer] for layer in counts) / sum(counts.values())


if __name__ == "__main__":
    main()
