"""Say before a large explanation how much memory it takes, and refuse it where there is not as much."""

import logging
from collections.abc import Mapping

from onnx_deconv.errors import InputError
from onnx_deconv.model import Array
from onnx_deconv.runtime import PairSession, memory_free, memory_needed

logger = logging.getLogger(__name__)

_LARGE = 1 << 22
"""Numbers in a batch from which on the memory is estimated at all: 1180×1180 pixels of three channels."""
_MUCH = 4e9
"""Bytes that are worth a line beforehand."""


def check_room(session: PairSession, feeds: Mapping[str, Array]) -> None:
    """Compare what a batch takes with what is free, where it is large and runs on the CPU.

    Raises
    ------
    InputError
        If there is not enough.
    """
    if sum(array.size for array in feeds.values()) < _LARGE or session.forward.device != "cpu":
        return
    needed = memory_needed(session.pair, {name: array.shape for name, array in feeds.items()})
    free = memory_free()
    sizes = ", ".join("×".join(map(str, array.shape)) for array in feeds.values())
    takes = f"an explanation of {sizes} takes about {needed / 1e9:.1f} GB of memory"
    if free is not None and needed > free:
        raise InputError(f"{takes}, and {free / 1e9:.1f} GB are free: choose a smaller size or fewer images")
    if needed > _MUCH:
        logger.warning("%s", takes)
