"""What runs one model's explanations: made on first use, shared by threads, made again after a fork."""

import os
import threading
import weakref
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from onnx_deconv.attribution.recent import Recent
from onnx_deconv.compiler.pair import Pair
from onnx_deconv.model import Model
from onnx_deconv.runtime import PairSession, Providers, SignalMeter
from onnx_deconv.semantics import Semantics

Key = tuple[str, Semantics]
"""A layer, and the semantics that it is explained with."""
_OF_A_PROCESS = ("_lock", "_pairs", "_meters")

_ALL: "weakref.WeakSet[Sessions]" = weakref.WeakSet()


class Sessions:
    """Pairs and signal meters of one model, ready to run: those used last, by layer and semantics.

    Parameters
    ----------
    model
        The model.
    providers
        As for :class:`~onnx_deconv.runtime.PairSession`.
    most
        How many of each are kept.
    compiled
        Makes the pair of a layer by given ``semantics``; it can be pickled.
    saved
        Pairs that need not be made.
    low_memory
        As for :class:`~onnx_deconv.runtime.PairSession`.
    """

    def __init__(
        self, model: Model, providers: Providers, most: int, compiled: Callable[..., Pair],
        saved: Mapping[Key, Pair], *, low_memory: bool,
    ) -> None:  # fmt: skip
        self._model, self._providers, self._most = model, providers, most
        self._compiled, self._saved, self._low_memory = compiled, saved, low_memory
        self._begin()

    def _begin(self) -> None:
        """Start with none: at first, after unpickling, and in a forked process."""
        self._lock = threading.Lock()
        self._pairs = Recent[Key, PairSession](self._most)
        self._meters = Recent[Key, SignalMeter](self._most)
        _ALL.add(self)

    def __getstate__(self) -> dict[str, Any]:
        return {name: each for name, each in vars(self).items() if name not in _OF_A_PROCESS}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        folder = self._model.folder
        self._saved = {key: replace(pair, folder=folder) for key, pair in self._saved.items()}
        self._begin()

    def pair(self, layer: str, semantics: Semantics) -> PairSession:
        """Return the pair that explains a layer."""
        key = layer, semantics
        with self._lock:
            self._model.files.check()
            return self._pairs.get(key) or self._pairs.add(key, self._made(*key))

    def meter(self, layer: str, semantics: Semantics) -> SignalMeter:
        """Return what measures how much of a layer's signal survives."""
        key = layer, semantics
        with self._lock:
            ready = self._meters.get(key)
        if ready is not None:
            return ready
        inputs = [r["of"] for r in self.pair(*key).pair.manifest["reconstructions"]]
        made = SignalMeter(self._model, *key, inputs, self._providers)
        with self._lock:
            return self._meters.add(key, made)

    def _made(self, layer: str, semantics: Semantics) -> PairSession:
        pair = self._saved.get((layer, semantics))
        if pair is None:
            self._pairs.make_room()
            pair = self._compiled(layer, semantics=semantics)
        return PairSession(pair, self._providers, low_memory=self._low_memory)


def _begin_all() -> None:
    """Let all begin again: a session's threads do not survive a fork, nor does a held lock."""
    for sessions in list(_ALL):
        sessions._begin()  # noqa: SLF001


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_all)
