"""What a reader has to know of reconstructions: can they be about the image, how much signal is left."""

from collections.abc import Callable, Mapping
from functools import cached_property

import numpy as np
import onnx_graphsurgeon as gs

from onnx_deconv.attribution.attempts import Column, Start
from onnx_deconv.attribution.forward_pass import Pass
from onnx_deconv.attribution.sessions import Sessions
from onnx_deconv.attribution.standing import Equals, Standing
from onnx_deconv.attribution.tiled_pass import TiledPass
from onnx_deconv.compiler.dependence import ImageDependence, of_a_map
from onnx_deconv.errors import given
from onnx_deconv.imaging.model_input import input_layout
from onnx_deconv.model import Array, Model
from onnx_deconv.model.heads import axes_of, heads
from onnx_deconv.model.ranking import before_limit
from onnx_deconv.model.tails import mixes_probabilities, squashed_before
from onnx_deconv.operators.node import label
from onnx_deconv.runtime import Survival
from onnx_deconv.semantics import Semantics

_WHOLE = {"map", "present"}
_SQUASHED = "{!r} is computed from scores: where it is near its bounds, little of the signal passes back"
_JOINED = "the probability is at its bound, where no signal passes: explain the layer {!r} before it"


def told_apart(model: Model, layer: str) -> str:
    """Say, behind what is equal in a layer, which other layer tells it apart; nothing if there is none."""
    before = before_limit(model, layer)
    return "" if before is None else f"; {given('layer', before)}, the value before, tells them apart"


class Remarks:
    """What a reader has to know of the reconstructions of one model.

    Parameters
    ----------
    model
        The model.
    sessions
        What explains it.
    """

    def __init__(self, model: Model, sessions: Sessions) -> None:
        self._model, self._sessions = model, sessions

    def may_be_leftovers(self, layer: str, semantics: Semantics) -> bool:
        """Tell whether the share of the signal that survives says something: no rectifier reads the image."""
        return not self._dependence(layer, semantics).reads_activations

    def survived(
        self, feeds: Mapping[str, Array], run_of: Callable[[Start], Pass], column: Column
    ) -> list[Survival | None]:
        """Measure how much of each image's signal survived, where that says something.

        Parameters
        ----------
        feeds
            The images, by input name.
        run_of
            Gives the forward pass of a start.
        column
            The reconstructions.
        """
        found: list[Survival | None] = [None] * len(column.starts)
        empty = column.empty()
        for start in dict.fromkeys(column.starts):
            tiled = isinstance(run_of(start), TiledPass)  # the meter runs the whole image
            if tiled or not self.may_be_leftovers(start.layer, start.semantics):
                continue
            own = [seed * (each == start) for seed, each in zip(column.seeds, column.starts, strict=True)]
            seeds = axes_of(self._model, start.layer).restored(np.stack(own))
            survivals = self._sessions.meter(start.layer, start.semantics)(feeds, seeds)
            for image, survival in enumerate(survivals):
                if column.starts[image] == start and image not in empty:
                    found[image] = survival
        return found

    def note(
        self, column: Column, image: int, survived: Survival | None, equals: Equals, standing: Standing
    ) -> str | None:
        """Say whether it is there, what became of the signal, what is as strong, if it is about the image."""
        blind, layer = self.dependence(column, image).note, column.starts[image].layer
        tied = self._tied(layer, equals, of_class=standing.of_class)
        squashed = _SQUASHED.format(layer) if layer in self._squashed else None
        node = self._joined.get(layer)
        if node is not None and f"died at {label(node)!r}" in (column.notes[image] or ""):
            squashed = _JOINED.format(node.inputs[0].name)
        left = None if survived is None else survived.warning
        return (
            "; ".join(filter(None, (standing.doubt, column.notes[image], tied, squashed, left, blind)))
            or None
        )

    def _tied(self, layer: str, equals: Equals, *, of_class: bool) -> str | None:
        """Say what is exactly as strong as what is explained, and which layer tells all of them apart."""
        names = (("class", "classes") if of_class else ("channel", "channels"), ("position", "positions"))
        counts = zip(equals, names, strict=True)
        alike = [f"{count} other {what[count > 1]}" for count, what in counts if count]
        if not alike:
            return None
        apart = "" if of_class else told_apart(self._model, layer)
        are = "is" if sum(equals) == 1 else "are"
        return f"{' and '.join(alike)} {are} as strong: the first in order is explained{apart}"

    def dependence(self, column: Column, image: int) -> ImageDependence:
        """Tell how an image's reconstruction depends on the image."""
        start = column.starts[image]
        found = self._dependence(start.layer, start.semantics)
        if not found.note or column.kinds[image] not in _WHOLE:
            return found
        name, reconstructions = next(iter(column.reconstructions.items()))
        channel = 0 if input_layout(self._model, name) == "NCHW" else -1
        positions = reconstructions[image].size / reconstructions[image].shape[channel]
        return of_a_map(start.semantics, column.seeds[image][0].size / positions)

    def _dependence(self, layer: str, semantics: Semantics) -> ImageDependence:
        return ImageDependence.of(self._sessions.pair(layer, semantics).pair.manifest)

    @cached_property
    def _joined(self) -> dict[str, gs.Node]:
        """The nodes that make the probabilities of boxes beside these in one value, by that value."""
        boxes = [head.ranked or head.start for head in heads(self._model) if head.kind == "detections"]
        found = {value: squashed_before(self._model, value) for value in boxes}
        return {value: nodes[0] for value, nodes in found.items() if len(nodes) == 1}

    @cached_property
    def _squashed(self) -> set[str]:
        """The outputs that are made of scores by a softmax or the like."""
        return {
            head.output
            for head in heads(self._model)
            if head.start != head.output
            or mixes_probabilities(self._model, head.output)
            or (head.kind == "detections" and squashed_before(self._model, head.output))
        }
