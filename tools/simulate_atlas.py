"""Simulate the atlas of many images on many workers: the driver's own code, no cluster, a clock of its own.

    python tools/simulate_atlas.py [--maps 64] [--images 10000000] [--workers 1000]

``Cluster.scan`` runs as it is, on a stand-in for Ray whose tasks take no time of this machine: a block takes
as long on the stand-in's clock as its images would, give or take a tenth, and one block in a hundred three
times as long. A partial atlas holds what the strongest activations of so many random images are (order
statistics of uniform numbers, drawn one after another, so that ten million images need not be drawn). It
prints the most memory that the driver held (tracemalloc), the tree's merges and how many follow one another,
and how busy the workers were. The merged atlas is compared with one sort of all blocks' activations.

    python tools/simulate_atlas.py --tiny 1000 --tiny 100000

runs the real pass, ``scan``, over so many tiny pictures in a process of its own, and prints its memory.
"""

import heapq
import itertools
import multiprocessing
import resource
import time
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import click
import numpy as np
from onnx import TensorProto, helper, numpy_helper

from onnx_deconv import Explainer
from onnx_deconv.atlas import Atlas, Images, TopActivations, images_of, merge, scan
from onnx_deconv.distributed import cluster, workers
from onnx_deconv.imaging import Preprocess

TOP = 9
_SECONDS_OF_IMAGE = 0.0066
"""What a core takes for an image of SqueezeNet, see docs/scale.md."""
_SECONDS_OF_MERGE = 0.05
"""And to merge eight of its partial atlases."""


@dataclass(eq=False)
class Reference:
    """A result that is somewhere on the cluster: how it is computed, and when it is there."""

    compute: Callable[[], Atlas]
    ready: float
    depth: int = 0


@dataclass
class StandIn:
    """What the driver uses of Ray, on a clock of its own."""

    maps: int
    count: int
    now: float = 0.0
    busy: float = 0.0
    merges: int = 0
    deepest: int = 0
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))

    def wait(self, references: Sequence[Reference], num_returns: int) -> tuple[list[Reference], None]:
        """Turn the clock on to the first result."""
        first = heapq.nsmallest(num_returns, references, key=lambda one: one.ready)
        self.now = max(self.now, first[-1].ready)
        return first, None

    def get(self, reference: Reference) -> Atlas:
        """Compute a result."""
        return reference.compute()

    def merge(self, given: Sequence[Reference]) -> Reference:
        """Begin a merge on the actor that asks for it."""
        depth = 1 + max(one.depth for one in given)
        self.merges, self.deepest = self.merges + 1, max(self.deepest, depth)
        return Reference(lambda: merge([one.compute() for one in given]), self.now + _SECONDS_OF_MERGE, depth)

    def scan(self, first: int, last: int) -> Reference:
        """Begin a block on the actor that asks for it."""
        seconds = (last - first) * _SECONDS_OF_IMAGE * self.rng.uniform(0.9, 1.1)
        seconds *= 3 if self.rng.random() < 0.01 else 1  # noqa: PLR2004
        self.busy += seconds
        return Reference(partial(atlas_of, self.maps, first, last), self.now + seconds)


class Actor:
    """An actor of the stand-in; it only knows the clock."""

    def __init__(self, ray: StandIn) -> None:
        self.scan, self.merge = _Method(ray.scan), _Method(lambda *given: ray.merge(given))


@dataclass
class _Method:
    remote: Callable[..., Reference]


def atlas_of(maps: int, first: int, last: int) -> Atlas:
    """Return the strongest of random activations, one for each image and map."""
    rng, count = np.random.default_rng(first), last - first
    top = min(TOP, count)
    left = count - np.arange(top)
    activations = np.cumprod(rng.random((maps, top)) ** (1 / left), axis=1).astype(np.float32)
    numbers = np.stack([rng.choice(count, top, replace=False) for _ in range(maps)])
    names = np.unique(numbers)
    table = TopActivations.empty(maps, TOP, 2)
    table.activations[:, :top], table.images[:, :top] = activations, np.searchsorted(names, numbers)
    called = [f"{first + number:09}" for number in names.tolist()]
    return Atlas(TOP, {}, called, {"layer": table}, count)


def simulate(maps: int, images: int, count: int) -> None:
    """Let the driver scan, and print what it took."""
    ray = StandIn(maps, count)
    driver = cluster.Cluster.__new__(cluster.Cluster)
    pool = workers.Workers.__new__(workers.Workers)
    pool.ray, pool.actors = ray, [Actor(ray) for _ in range(count)]
    driver._ray, driver._workers, driver.actors = ray, pool, pool.actors  # noqa: SLF001
    source = Images("synthetic", lambda: iter(()), images)  # names are not what is measured
    peaks: list[int] = []

    def measured(reference: Reference) -> Atlas:
        peaks.append(tracemalloc.get_traced_memory()[1])  # what follows is a task's memory, not the driver's
        return reference.compute()

    ray.get = measured  # type: ignore[method-assign]
    tracemalloc.start()
    start = time.process_time()
    found = driver.scan(source)
    peak_of_tree = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    size = sum(a.nbytes for a in vars(found.layers["layer"]).values())
    print(
        f"{images:>10,} images, {count:>5,} workers: driver at most {peaks[0] / 1e6:.2f} MB, atlas of "
        f"{size / 1e3:.0f} kB, {ray.merges:,} merges, {ray.deepest} after one another, the whole tree in one "
        f"process {peak_of_tree / 1e6:.1f} MB; workers {100 * ray.busy / (ray.now * count):.0f} % busy over "
        f"{ray.now:,.0f} s on their clock; {time.process_time() - start:.1f} s of this machine"
    )
    check(found, maps, images, count)


def check(found: Atlas, maps: int, images: int, count: int) -> None:
    """Compare the merged atlas with one sort of all blocks'."""
    blocks = cluster.blocks(images, count)
    best = np.full((maps, 0), 0, np.float32)
    for group in itertools.batched(blocks, 64) if hasattr(itertools, "batched") else [blocks]:
        tables = [atlas_of(maps, *block).layers["layer"] for block in group]
        best = np.concatenate([best, *(table.activations for table in tables)], axis=1)
        best = -np.sort(-best, axis=1)[:, :TOP]
    np.testing.assert_array_equal(found.layers["layer"].activations, best)
    np.testing.assert_equal(found.seen, images)


def tiny(count: int) -> None:
    """Scan tiny pictures, and print the memory."""
    rng = np.random.default_rng(0)
    weights = numpy_helper.from_array(rng.standard_normal((8, 3, 3, 3)).astype(np.float32), "w")
    nodes = [helper.make_node("Conv", ["image", "w"], ["c"]), helper.make_node("Relu", ["c"], ["r"])]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 3, 8, 8])
    output = helper.make_tensor_value_info("r", TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "net", [image], [output], [weights])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    start = time.process_time()
    pictures = Images("tiny", lambda: _pictures(count), count)
    atlas = scan(Explainer(model, providers="cpu"), images_of(pictures), Preprocess(size=(8, 8), fit="none"),
                 Atlas(TOP), ["r"])  # fmt: skip
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    seconds = time.process_time() - start
    print(f"{count:>10,} tiny images: {peak:.0f} MB, {len(atlas.images)} kept, {seconds:.0f} s of processor")


def _pictures(count: int) -> Iterator[tuple[str, Callable[[], Any]]]:
    for number in range(count):
        yield f"{number:09}", partial(_picture, number)


def _picture(number: int) -> Any:
    return np.random.Generator(np.random.PCG64(number)).integers(0, 256, (8, 8, 3), np.uint8)


@click.command()
@click.option("--maps", default=64, show_default=True)
@click.option("--images", "largest", default=10**7, show_default=True, type=click.IntRange(1))
@click.option("--workers", "most", default=1000, show_default=True, type=click.IntRange(1))
@click.option("--tiny", "counts", multiple=True, type=int)
def main(maps: int, largest: int, most: int, counts: Sequence[int]) -> None:
    """Simulate the driver, or scan tiny pictures."""
    for count in counts:
        child = multiprocessing.get_context("spawn").Process(target=tiny, args=(count,))
        child.start()
        child.join()
    if not counts:
        first = (max(1, largest // 1000), max(1, most // 100))
        for images, workers_ in (first, (max(1, largest // 10), most), (largest, most)):
            simulate(maps, images, workers_)


if __name__ == "__main__":
    main()
