"""What an actor does: one explainer, blocks of images."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

from onnx_deconv.atlas import Atlas, Images, Projector, merge
from onnx_deconv.atlas.layer_files import Plans
from onnx_deconv.atlas.scan import Scanner
from onnx_deconv.atlas.top_activations import UnitKey
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
    """Scans and projects blocks of images, on one core.

    Parameters
    ----------
    job
        What the atlas is made of.
    """

    def __init__(self, job: Job) -> None:
        self._job, self._images = job, job.source()
        self._projector: Projector | None = None
        self._scanner: Scanner | None = None

    def scan(self, first: int, last: int) -> Atlas:
        """Find the strongest activations of the images from one number to another, which is left out."""
        job = self._job
        if self._scanner is None:
            self._scanner = Scanner(job.explainer, job.preprocess, list(job.plan))
        found = Atlas(job.top, job.made)
        for _ in self._scanner.add(self._images.numbered(first, last), found):
            pass
        return found

    def merge(self, *parts: Atlas) -> Atlas:
        """Merge partial atlases: here, since another process would take seconds to start."""
        return merge(parts)

    def project(self, atlas: Atlas, names: Collection[str], done: Collection[UnitKey]) -> Projected:
        """Find where an atlas's units are in these of its images, and project and draw those not done."""
        job, here = self._job, atlas.of_images(names)
        if self._projector is None:
            self._projector = Projector(job.explainer, list(job.plan), job.preprocess)
        drawn = self._projector.run(
            here, self._images.named(names), lambda unit: unit not in done,
            partial(draw, job.plan, job.preprocess.channels), locate=True,
        )  # fmt: skip
        pieces = list(drawn)
        return Projected(
            {layer: table.positions[table.filled] for layer, table in here.layers.items()}, pieces
        )
