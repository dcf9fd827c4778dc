"""The driver of a cluster: hands out blocks of images, has partial atlases merged, and writes the results."""

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

import numpy as np

from onnx_deconv.atlas import Atlas, Images
from onnx_deconv.atlas.scan import BATCH, digest_of
from onnx_deconv.atlas.top_activations import UnitKey
from onnx_deconv.atlas.writer import Drawn
from onnx_deconv.distributed.actor import Actor, Job
from onnx_deconv.distributed.workers import Workers
from onnx_deconv.runtime import device_of

_BLOCKS_PER_ACTOR = 8
"""Blocks of images for each actor, at least, where there are that many images."""
_LAST_ROUNDS = 2
"""Blocks for each actor into which what is left is divided: blocks get smaller when the end is near."""
_SMALLER = 8
"""How many times smaller the last blocks are than the first: each block's atlas is sent, however small."""
_BRANCHES = 8
"""Partial atlases that an actor merges at once."""
_PROJECTED = 32
"""Images whose units an actor projects at once."""


class Cluster:
    """Actors on a Ray cluster that make one atlas.

    Parameters
    ----------
    job
        What the atlas is made of.
    address
        The cluster's, ``auto`` for the one that this machine belongs to, or ``local`` for this machine alone.
    actors
        How many; by default one for each core of the cluster.

    Raises
    ------
    InputError
        If Ray is not installed, or there is no such cluster.
    """

    def __init__(self, job: Job, address: str = "auto", actors: int | None = None) -> None:
        on_gpu = device_of(job.explainer.providers) == "cuda"
        self._workers = Workers(Actor, (job,), address, actors, on_gpu=on_gpu)
        self._ray, self.actors = self._workers.ray, self._workers.actors

    def scan(self, images: Images, done: Callable[[int], None] = lambda _: None) -> Atlas:
        """Find the strongest activations; where they are is found with the projections.

        Parameters
        ----------
        images
            The same that the job's source gives.
        done
            Called with the number of images that were scanned, to report progress.
        """
        total = images.count if images.count is not None else sum(1 for _ in images)
        parts = []
        shares = blocks(total, len(self.actors))
        for block, part in self._workers.results(lambda actor, block: actor.scan.remote(*block), shares):
            parts.append(part)
            done(block[1])
        found: Atlas = self._ray.get(self._merged(parts))
        found = found.of_images(found.images)  # a copy: what lies in the shared memory is not written to
        found.names = digest_of(images)
        return found

    def project(self, atlas: Atlas, done: Collection[UnitKey]) -> Iterator[Drawn]:
        """Find the positions of an atlas's units and yield the projections of those that are not done."""
        shared, keys = self._ray.put(atlas), self._ray.put(frozenset(done))
        numbers = {name: n for n, name in enumerate(atlas.images)}
        tables = {layer: table.images for layer, table in atlas.layers.items()}
        blocks = [
            frozenset(atlas.images[k : k + _PROJECTED]) for k in range(0, len(atlas.images), _PROJECTED)
        ]
        submitted = self._workers.results(
            lambda actor, names: actor.project.remote(shared, names, keys), blocks
        )
        for names, reference in submitted:
            found = self._ray.get(reference)
            wanted = [numbers[name] for name in names]
            for layer, positions in found.positions.items():
                atlas.layers[layer].positions[np.isin(tables[layer], wanted)] = positions
            yield from found.drawn

    def _merged(self, parts: Sequence[Any]) -> Any:
        """Merge partial atlases in a tree on the actors; only the last comes to this process."""
        while len(parts) > 1:
            groups = [parts[k : k + _BRANCHES] for k in range(0, len(parts), _BRANCHES)]
            merged = self._workers.results(lambda actor, group: actor.merge.remote(*group), groups)
            parts = [part for _, part in merged]
        return parts[0]


def blocks(total: int, actors: int) -> list[tuple[int, int]]:
    """Divide images into blocks, (first, last + 1) each, that get smaller towards the end.

    So no actor is waited for long (guided self-scheduling; Polychronopoulos & Kuck 1987). Blocks are whole
    batches, so that batches are those of one process.
    """
    largest = _batches(-(-total // (actors * _BLOCKS_PER_ACTOR)))
    smallest = _batches(largest // _SMALLER)
    found, first = [], 0
    while first < total:
        share = _batches((total - first) // (actors * _LAST_ROUNDS))
        last = min(first + max(smallest, min(largest, share)), total)
        found.append((first, last))
        first = last
    return found


def _batches(count: int) -> int:
    """Round a number of images up to whole batches, at least one."""
    return max(1, -(-count // BATCH)) * BATCH
