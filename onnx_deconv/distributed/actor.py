"""What an actor does: one explainer, blocks of images."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from onnx_deconv.atlas import Atlas, Images, Projector
from onnx_deconv.atlas.jobs import Unit
from onnx_deconv.atlas.layer_files import Plans
from onnx_deconv.atlas.resume import UnitKey
from onnx_deconv.atlas.scan import Tally, locate
from onnx_deconv.atlas.writer import Drawn, draw
from onnx_deconv.attribution.explainer import Explainer
from onnx_deconv.imaging import Preprocess
from onnx_deconv.model import Array


@dataclass(frozen=True)
class Job:
    """What an atlas is made of.

    Attributes
    ----------
    explainer
        For the model; its file must be found under the same path by every node.
    preprocess
        How pictures become the model's input.
    source
        Gives the images, which every node must find.
    plan
        What is kept, by layer.
    made, top
        See :class:`~onnx_deconv.atlas.Atlas`.
    """

    explainer: Explainer
    preprocess: Preprocess
    source: Callable[[], Images]
    plan: Plans
    made: dict[str, Any]
    top: int


class Projected(NamedTuple):
    """What an actor found in some images.

    Attributes
    ----------
    positions
        By layer, those of all units in these images, in the order of the layer's table.
    drawn
        The projections.
    """

    positions: dict[str, Array]
    drawn: list[Drawn]


class Actor:
    """Tallies and projects blocks of images, on one core.

    Parameters
    ----------
    job
        What the atlas is made of.
    """

    def __init__(self, job: Job) -> None:
        self._job, self._images = job, job.source()
        self._projector: Projector | None = None
        self._tally: Tally | None = None

    def tally(self, first: int, last: int) -> Atlas:
        """Find the strongest activations of the images from one number to another, which is left out."""
        job = self._job
        if self._tally is None:
            self._tally = Tally(job.explainer, job.preprocess, list(job.plan))
        found = Atlas(job.top, job.made)
        for _ in self._tally.add(self._images.numbered(first, last), found):
            pass
        return found

    def project(self, atlas: Atlas, names: Collection[str], done: Collection[UnitKey]) -> Projected:
        """Find where an atlas's units are in these of its images, and project and draw those not done."""
        job, images = self._job, self._images.named(names)
        if self._projector is None:
            self._projector = Projector(job.explainer, list(job.plan), job.preprocess)
        atlas = writable(atlas)
        locate(job.explainer, images, job.preprocess, atlas)

        def wanted(unit: Unit) -> bool:
            return unit[:3] not in done and atlas.image_of(*unit[:3]) in names

        drawn = list(
            self._projector.run(atlas, images, wanted, partial(draw, job.plan, job.preprocess.channels))
        )
        numbers = [n for n, name in enumerate(atlas.images) if name in names]
        places = {layer: np.isin(table.images, numbers) for layer, table in atlas.layers.items()}
        return Projected({layer: atlas.layers[layer].positions[at] for layer, at in places.items()}, drawn)


def writable(atlas: Atlas) -> Atlas:
    """Copy an atlas whose arrays lie in the cluster's shared memory, which is not written to."""
    layers = {name: replace(table, positions=table.positions.copy()) for name, table in atlas.layers.items()}
    return replace(atlas, layers=layers)
