"""Measure the atlas of a model: images and projections a second, as ratios in one run, and memory.

    python tools/bench_atlas.py MODEL IMAGES --preset imagenet-caffe [--every 16] [--times 4]

The pass over the images, each of them ``--times`` times, stands beside the plain model's forward pass over
the same images, prepared before, on all cores, and beside plain loops that read, prepare and run the same
images: in one thread for each core, each with a session of one thread ("apart"), and with as many threads
that only read and prepare, ahead of a session of all cores. All have batches of 1, 4, 16 and 32, and the best
counts; the rounds take turns, and medians count. All sessions are made before. With ``--times`` the images
should be some 500: while the last batches run, cores wait, and of the first few hundred images all are kept.
``--ray`` (with the extra) lets one and two actors of one core each pass over the images instead, in turns.
``--every 16`` projects every 16th feature map. Beside it stands one forward pass and one companion's pass
over the whole image for each unit, timed on some units of each layer (medians) and counted for all. By
default units are projected by the method that the command takes, ``auto``.
"""

import itertools
import resource
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import click
import numpy as np

from onnx_deconv import Explainer
from onnx_deconv.atlas import Atlas, Images, Projector, images_of, scan
from onnx_deconv.atlas.ahead import ahead
from onnx_deconv.atlas.scan import Scanner
from onnx_deconv.atlas.writer import plans
from onnx_deconv.distributed import Cluster, Job
from onnx_deconv.imaging import Picture, Preprocess, preprocess_for
from onnx_deconv.model.feature_maps import convolutions
from onnx_deconv.runtime import Session, workers

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
@click.option("--method", default="auto", show_default=True)
@click.option("--every", default=16, show_default=True)
@click.option("--rounds", default=5, show_default=True)
@click.option("--times", default=1, show_default=True)
@click.option("--ray", is_flag=True)
@click.option("--providers", default="cpu", show_default=True)
def main(
    model: Path,
    images: Path,
    preset: str | None,
    method: str,
    every: int,
    rounds: int,
    times: int,
    providers: str,
    *,
    ray: bool,
) -> None:
    """Measure the atlas of MODEL over IMAGES."""
    explainer, source = Explainer(model, method, providers=providers), images_of(images)
    preprocess, _ = preprocess_for(explainer.model, preset)
    layers = convolutions(explainer.model)
    if ray:
        print(clusters(explainer, partial(_repeated, source, times), preprocess, layers, rounds))
        return
    medians = passes(explainer, _repeated(source, times), preprocess, layers, rounds)
    print(f"{len(layers)} layers, {len([*source])} images, {times} times;", end=" ")
    print(", ".join(f"{name}: {1e3 * seconds:.1f} ms an image" for name, seconds in medians.items()))
    for kind in ("forward", "loop"):
        best = min((seconds, name) for name, seconds in medians.items() if name.startswith(kind))
        print(f"the scan reaches {100 * best[0] / medians['scan']:.0f} % of: {best[1]}")
    atlas = scan(explainer, source, preprocess, Atlas(), layers, positions=False)
    projector, chosen = Projector(explainer, layers, preprocess), thinned(atlas, every)
    start = time.perf_counter()
    count = sum(1 for _ in projector.run(chosen, source, locate=True))
    seconds = time.perf_counter() - start
    print(f"projections: {count} in {seconds:.1f} s, {count / seconds:.0f} a second")
    print(f"peak memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3:.0f} MB")
    alone = singly(explainer, chosen, preprocess.apply(next(iter(source))[1]())[0])
    print(
        f"one forward pass and one deconv each: {1e3 * alone:.2f} ms, not {1e3 * seconds / count:.2f}:",
        end=" ",
    )
    print(f"{alone * count / seconds:.1f} times as long")


def passes(
    explainer: Explainer, images: Images, preprocess: Preprocess, layers: Sequence[str], rounds: int
) -> dict[str, float]:
    """Return the median seconds that an image takes, by what is done with it."""
    model, loads = explainer.model, [load for _, load in images]
    sessions = [
        Session(model.proto, model.folder, explainer.providers, threads=threads, arena=True)
        for threads in (None, 1)
    ]
    prepared = [preprocess.apply(load())[0] for load in loads]
    scanner = Scanner(explainer, preprocess, layers)
    runs: dict[str, Callable[[], object]] = {"scan": lambda: [*scanner.add(images, Atlas())]}
    for size in [model.batch] if model.batch else [1, 4, 16, 32]:
        runs[f"forward, batch {size}"] = partial(_forward, sessions[0], prepared, size)
        runs[f"loop apart, batch {size}"] = partial(_apart, sessions[1], loads, preprocess, size)
        runs[f"loop ahead, batch {size}"] = partial(_ahead, sessions[0], loads, preprocess, size)
    took: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            took[name].append((time.perf_counter() - start) / len(loads))
    return {name: statistics.median(seconds) for name, seconds in took.items()}


def clusters(
    explainer: Explainer,
    source: Callable[[], Images],
    preprocess: Preprocess,
    layers: Sequence[str],
    rounds: int,
) -> str:
    """Say how long one actor takes, and two."""
    import ray  # noqa: PLC0415 - an extra

    ray.init(num_cpus=3, log_to_driver=False, include_dashboard=False, configure_logging=False)
    plan = plans(dict.fromkeys(layers, (1, 9)), dict.fromkeys(layers, (8, 8)), 3)
    job = Job(explainer, preprocess, source, plan, {}, 9)
    made = {count: Cluster(job, "local", actors=count) for count in (1, 2)}
    took: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(rounds + 1):
        for count, cluster in made.items():
            start = time.perf_counter()
            cluster.scan(source())
            took[count].append(time.perf_counter() - start)
    one, two = (statistics.median(seconds[1:]) for seconds in took.values())  # without the first, for warmth
    return f"one actor: {one:.2f} s, two: {two:.2f} s, {one / two:.2f} times as fast"


def _forward(session: Session, tensors: Sequence[np.ndarray], size: int) -> None:
    (name,) = session.inputs
    for first in range(0, len(tensors), size):
        session.run({name: np.stack(tensors[first : first + size])})


def _apart(
    session: Session, loads: Sequence[Callable[[], Picture]], preprocess: Preprocess, size: int
) -> None:
    def several(first: int) -> None:
        _forward(session, [preprocess.apply(load())[0] for load in loads[first : first + size]], size)

    with ThreadPoolExecutor(workers("cpu")) as pool:
        for _ in pool.map(several, range(0, len(loads), size)):
            pass


def _ahead(
    session: Session, loads: Sequence[Callable[[], Picture]], preprocess: Preprocess, size: int
) -> None:
    with ThreadPoolExecutor(workers("cpu")) as pool:
        tensors = ahead(pool, lambda load: preprocess.apply(load())[0], loads, 3 * size)
        while batch := [*itertools.islice(tensors, size)]:
            _forward(session, batch, size)


def _repeated(images: Images, times: int) -> Images:
    """Return images as often as this, each time by another name."""
    return Images(
        images.name,
        lambda: ((f"{time}/{name}", load) for time in range(times) for name, load in images),
        images.count and images.count * times,
    )


def singly(explainer: Explainer, atlas: Atlas, tensor: np.ndarray) -> float:
    """Return the seconds that a unit takes by itself, in the mean over the atlas."""
    counts = {layer: int(t.active.sum()) for layer, t in atlas.layers.items()}
    batch = tensor[None]
    medians = {layer: statistics.median(list(one_by_one(explainer, layer, batch))[1:]) for layer in counts}
    return sum(counts[layer] * medians[layer] for layer in counts) / sum(counts.values())


if __name__ == "__main__":
    main()
