"""Seeds: the signals that explanations start with.

All activations of the explained value but the chosen unit's are set to zero (Zeiler & Fergus 2013,
section 2.1).
"""

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np

from onnx_deconv.errors import InputError
from onnx_deconv.model import Array

SeedKind = Literal["auto", "one", "value", "map", "strongest"]
"""``one``: 1 at the unit. ``value``: the unit's activation. ``map``: a whole feature map with its
activations. ``strongest``: the map's strongest activation alone. ``auto``: ``value`` where a position
is given, ``one`` for a value with one unit per channel (scores), else ``map``."""


def scores_of(values: Array) -> Array:
    """Reduce an explained value to one score per image and channel: its strongest activation.

    Parameters
    ----------
    values
        Shape (N, K) or (N, K, ...).

    Returns
    -------
    ndarray
        Shape (N, K).
    """
    return values.reshape(*values.shape[:2], -1).max(axis=2)


def make_seed(
    values: Array,
    channels: Sequence[int],
    position: Sequence[int] | None = None,
    kind: SeedKind = "auto",
) -> tuple[Array, str]:
    """Make a seed for a batch.

    Parameters
    ----------
    values
        The explained value's activations, shape (N, K, ...).
    channels
        The unit's channel for each image, length N.
    position
        Its position: one index per axis after the channel; ``None`` for the whole map.
    kind
        See :data:`SeedKind`.

    Returns
    -------
    tuple
        The seed, float32, shaped as ``values``; and the kind that it is.

    Raises
    ------
    InputError
        If a channel or a position is outside the value, or the kind is unknown.
    """
    if kind not in get_args(SeedKind):
        raise InputError(f"seed={kind!r}: choose one of {', '.join(get_args(SeedKind))}")
    _check(values, channels, position)
    kind = _resolved(values, position, kind)
    seed = np.zeros(values.shape, np.float32)
    for image, channel in enumerate(channels):
        feature_map = values[image, channel]
        where = tuple(position) if position is not None else strongest(feature_map)
        if kind == "map":
            seed[image, channel] = feature_map
        else:
            seed[(image, channel, *where)] = 1.0 if kind == "one" else feature_map[where]
    return seed, kind


def strongest(feature_map: Array) -> tuple[int, ...]:
    """Return the position of a map's strongest activation, the first in row-major order."""
    return tuple(int(k) for k in np.unravel_index(np.argmax(feature_map), feature_map.shape))


def _resolved(values: Array, position: Sequence[int] | None, kind: SeedKind) -> SeedKind:
    if kind != "auto":
        return "value" if kind in ("map", "strongest") and position is not None else kind
    if position is not None:
        return "value"
    return "one" if values[0, 0].size == 1 else "map"


def _check(values: Array, channels: Sequence[int], position: Sequence[int] | None) -> None:
    for channel in channels:
        if not 0 <= channel < values.shape[1]:
            raise InputError(
                f"there is no channel or class {channel}: the explained value has 0 to {values.shape[1] - 1}"
            )
    if position is None:
        return
    if len(position) != values.ndim - 2:
        axes = values.ndim - 2
        raise InputError(f"position {tuple(position)}: the explained value has {axes} axes after the channel")
    if any(not 0 <= k < size for k, size in zip(position, values.shape[2:], strict=True)):
        raise InputError(f"position {tuple(position)} is outside the feature map of size {values.shape[2:]}")
