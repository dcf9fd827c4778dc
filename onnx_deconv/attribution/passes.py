"""Which forward pass a batch gets: whole, averaged over many inputs, or in tiles where memory is short."""

import logging
from collections.abc import Mapping
from functools import cached_property

from onnx_deconv.attribution.average import Average, AveragedPass
from onnx_deconv.attribution.batches import batched
from onnx_deconv.attribution.forward_pass import Pass
from onnx_deconv.attribution.room import Shortage, shortage
from onnx_deconv.attribution.sessions import Sessions
from onnx_deconv.attribution.tiled_pass import TiledPass
from onnx_deconv.errors import InputError
from onnx_deconv.model import Array, Model
from onnx_deconv.model.head import Head
from onnx_deconv.model.heads import axes_of
from onnx_deconv.receptive import CropError
from onnx_deconv.runtime import Providers
from onnx_deconv.semantics import Semantics

logger = logging.getLogger(__name__)


class Forward:
    """Runs batches of one model forward.

    Parameters
    ----------
    model
        The model.
    sessions
        What runs its pairs.
    head
        The output whose classes are explained.
    average
        What explanations are the mean of; ``None`` for a single pass.
    providers
        What tiles run on.
    """

    def __init__(
        self, model: Model, sessions: Sessions, head: Head, average: Average | None, providers: Providers
    ) -> None:
        self._model, self._sessions, self._head = model, sessions, head
        self._average, self._providers = average, providers

    def run(self, feeds: Mapping[str, Array], layer: str, semantics: Semantics) -> Pass:
        """Run a batch through the pair that explains a layer.

        Raises
        ------
        InputError
            If there is not enough memory, and the batch cannot go in tiles.
        """
        session = self._sessions.pair(layer, semantics)
        lack = shortage(session, feeds)
        if lack is not None and self._average is None:
            return self._tiled(feeds, layer, semantics, lack)
        if lack is not None:
            raise InputError(f"{lack.words}: choose a smaller size or fewer images")
        if self._average is not None:
            axes = axes_of(self._model, layer)
            return AveragedPass(session, layer, feeds, axes, self._average, self._shared)
        return self.whole(feeds, layer, semantics)

    def whole(self, feeds: Mapping[str, Array], layer: str, semantics: Semantics) -> Pass:
        """Run a batch once and as a whole, whatever memory it takes."""
        session = self._sessions.pair(layer, semantics)
        return Pass(session, layer, feeds, axes_of(self._model, layer), self._shared)

    def _tiled(
        self, feeds: Mapping[str, Array], layer: str, semantics: Semantics, lack: Shortage
    ) -> TiledPass:
        try:
            run = TiledPass(self._model, feeds, layer, semantics, self._head, lack.free, self._providers)
        except CropError as why:
            raise InputError(f"{lack.words} ({why}): choose a smaller size or fewer images") from why
        logger.warning("%s: it goes in %d tiles, which takes longer", lack.words, run.tiles)
        return run

    @cached_property
    def _shared(self) -> frozenset[str]:
        """The inputs without a batch axis, where another has one."""
        with_batch = batched(self._model)
        return frozenset(self._model.inputs).difference(with_batch) if with_batch else frozenset()
