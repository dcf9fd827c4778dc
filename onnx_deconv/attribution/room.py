"""Say before a large explanation how much memory it takes, and tell where there is not as much."""

import logging
from collections.abc import Mapping
from typing import NamedTuple

from onnx_deconv.model import Array
from onnx_deconv.runtime import PairSession, memory_free, memory_needed

logger = logging.getLogger(__name__)

_LARGE = 1 << 22
"""Numbers in a batch from which on the memory is estimated at all: 1180×1180 pixels of three channels."""
_MUCH = 4e9
"""Bytes that are worth a line beforehand."""


class Shortage(NamedTuple):
    """More memory would be taken than there is.

    Attributes
    ----------
    words
        What takes how much, and how much there is.
    free
        How many bytes there are.
    """

    words: str
    free: int


def shortage(session: PairSession, feeds: Mapping[str, Array]) -> Shortage | None:
    """Compare what a batch takes with what is free, where it is large and runs on the CPU.

    A line says it beforehand where it is much.
    """
    if sum(array.size for array in feeds.values()) < _LARGE or session.forward.device != "cpu":
        return None
    needed, free = bytes_of(session, feeds), memory_free()
    sizes = ", ".join("×".join(map(str, array.shape)) for array in feeds.values())
    takes = f"an explanation of {sizes} takes about {needed / 1e9:.1f} GB of memory"
    if free is not None and needed > free:
        return Shortage(f"{takes}, and {free / 1e9:.1f} GB are free", free)
    if needed > _MUCH:
        logger.warning("%s; a smaller size takes less", takes)
    return None


def bytes_of(session: PairSession, feeds: Mapping[str, Array]) -> int:
    """Estimate what a batch takes beside the weights."""
    return memory_needed(session.pair, {name: array.shape for name, array in feeds.items()})
