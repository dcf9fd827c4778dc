"""Seeds: the signals that explanations start with.

All activations of the explained value but those that are aimed at are set to zero (Zeiler & Fergus 2013,
section 2.1).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from operator import index
from typing import Any, Literal, SupportsIndex, get_args

import numpy as np

from onnx_deconv.errors import InputError, given
from onnx_deconv.model import Array
from onnx_deconv.model.head import Head
from onnx_deconv.model.value_axes import Axes

SeedKind = Literal["auto", "one", "value", "map", "present", "strongest"]
"""``one``: 1 at the unit. ``value``: the unit's activation. ``map``: a whole feature map with its
activations. ``present``: those of them that are positive, as after a Relu; the whole map where none is.
``strongest``: the map's strongest activation alone. ``auto``: ``value`` where a position
is given, ``one`` for a value with one unit per channel (scores), else ``map``. An explainer takes ``one`` in
its place for a position, a region or a mask of an output's scores, whose sign says nothing; also where the
seed of a map is asked for, and one position of scores is explained, as of a box."""

Place = SupportsIndex | Sequence[int] | Array | Literal["region"] | None
"""Where in a channel's map: a position, one index per axis after the channel, or a number for one axis; a
mask, an array with as many axes, which is fitted to the map (of weights, of whole numbers 0 and 1, or of
grey levels, of which 128 to 255 are white); ``region``, where the channel is larger than all others; ``None``
for the whole map."""

_WHITE = 128
"""The darkest grey level of a mask that is white."""


@dataclass(frozen=True)
class Aim:
    """What the explanation of one image aims at: a weighted sum of channels, at a place.

    Attributes
    ----------
    weights
        Channels, each with its weight.
    place
        See :data:`Place`.
    anchor
        Of boxes that follow each other along the channels of a map: which one's the channels are.
    areas
        Of a region of classes: for each of the weights, where its class wins over the other classes. Empty
        for channels, each of which competes with all others.
    """

    weights: tuple[tuple[int, float], ...]
    place: Place = None
    anchor: int | None = None
    areas: tuple[Array, ...] = ()

    @property
    def asked(self) -> tuple[int, ...] | None:
        """The position as a caller gives it: with the anchor, where there are several."""
        position = self.position
        return position if self.anchor is None or position is None else (self.anchor, *position)

    @property
    def position(self) -> tuple[int, ...] | None:
        """The position, where the place is one.

        Raises
        ------
        InputError
            If it is none of whole numbers.
        """
        if self.place is None or is_area(self.place):
            return None
        place: Any = self.place
        try:
            return (
                (index(place),)
                if hasattr(place, "__index__") and not np.ndim(place)
                else tuple(map(index, place))
            )
        except (TypeError, ValueError) as error:
            raise InputError(
                f"position {self.place!r}: give a whole number for each axis of the map, a mask, or region"
            ) from error


def is_area(place: Place) -> bool:
    """Tell whether a place is a region or a mask."""
    return isinstance(place, str) or (
        isinstance(place, np.ndarray) and place.ndim > 0 and (place.ndim > 1 or place.dtype.kind != "i")
    )


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


def ranks_of(values: Array, head: Head) -> Array:
    """Return one number per image and class, by which an output's classes are put in order.

    Parameters
    ----------
    values
        Shape (N, K, ...), of the value that ranks them: the output's own, which has classes in place of
        channels, or what :func:`of_classes` takes.
    head
        The output.
    """
    return scores_of(values) if head.ranked_by_output else of_classes(values, head)


def of_classes(values: Array, head: Head) -> Array:
    """Return one score per image and class of an output, given the value that it starts from.

    It is the strongest activation; of classes that a softmax compares at each position, the logarithm of the
    odds where they are best.

    Parameters
    ----------
    values
        Shape (N, K) or (N, K, ...).
    head
        The output.

    Returns
    -------
    ndarray
        Shape (N, number of classes).
    """
    found = _best_odds(values) if head.rivals else scores_of(values)
    if head.elements is None:
        return found
    channels, signs = zip(*head.elements, strict=True)
    return np.asarray(found[:, channels] * np.array(signs, found.dtype))


def _best_odds(values: Array) -> Array:
    """Return the logarithm of each channel's best odds against all others at a position, as by a softmax.

    The probability itself is rounded to 1 where a channel is far ahead: it is not taken from 1.
    """
    first = values.max(axis=1, keepdims=True)
    best, share = values == first, np.exp(values - first)
    behind = np.where(best, 0, share).sum(axis=1, keepdims=True)
    total = share.sum(axis=1, keepdims=True)
    several = total - behind > 1.5  # noqa: PLR2004 - of equals, each has a share of 1
    rest = np.maximum(np.where(several, total - 1, behind), np.finfo(values.dtype).tiny)
    return np.asarray(np.log(scores_of(share / np.where(best, rest, total - share))))


def make_seed(values: Array, aims: Sequence[Aim], kind: SeedKind = "auto") -> tuple[Array, str]:
    """Make a seed for a batch.

    Parameters
    ----------
    values
        The explained value's activations, shape (N, K, ...).
    aims
        What is aimed at in each image, length N; places of one kind.
    kind
        See :data:`SeedKind`.

    Returns
    -------
    tuple
        The seed, float32, shaped as ``values``; and the kind that it is.

    Raises
    ------
    InputError
        If a channel or a place is outside the value, or the kind is unknown.
    """
    if kind not in get_args(SeedKind):
        raise InputError(f"{given('seed', kind)}: choose one of {', '.join(get_args(SeedKind))}")
    for aim in aims:
        _check(values, aim)
    kind = _resolved(values, aims[0].place, kind)
    seed = np.zeros(values.shape, np.float32)
    for image, aim in enumerate(aims):
        places = aim.areas or [aim.place] * len(aim.weights)
        for (channel, weight), place in zip(aim.weights, places, strict=True):
            seed[image, channel] += weight * _of_channel(values[image], channel, place, kind)
    return seed, kind


def _of_channel(values: Array, channel: int, place: Place, kind: SeedKind) -> Array:
    """Make the seed of one channel, shape as its map."""
    feature_map = values[channel]
    if is_area(place):
        area = region(values, channel) if isinstance(place, str) else fitted(place, feature_map.shape)
        if kind == "present":
            return area * present(feature_map)
        if kind != "strongest":
            return area if kind == "one" else area * feature_map
        feature_map = np.where(area != 0, feature_map, 0)
    if kind == "map":
        return feature_map
    if kind == "present":
        return present(feature_map)
    found = np.zeros_like(feature_map)
    aim = Aim((), place).position
    where = strongest(feature_map) if aim is None else aim
    found[where] = 1.0 if kind == "one" else feature_map[where]
    return found


def fitted(mask: Place, sizes: Sequence[int]) -> Array:
    """Return a mask of the wanted size: each position takes what the mask has there."""
    found = weights_of(np.asarray(mask))
    for axis, size in enumerate(sizes):
        middles = (np.arange(size) + 0.5) * found.shape[axis] / size
        found = found.take(middles.astype(np.int64), axis)
    return found


def weights_of(mask: Array) -> Array:
    """Return a mask's weights: real numbers as they are; of grey levels 1 where it is white, else 0.

    Raises
    ------
    InputError
        If whole numbers are neither 0 and 1 nor grey levels.
    """
    if mask.dtype.kind in "iu" and mask.size and (mask.max() > 1 or mask.min() < 0):
        if mask.min() < 0 or not _WHITE <= mask.max() <= 2 * _WHITE - 1:
            raise InputError(
                f"a mask of the whole numbers {mask.min()} to {mask.max()}: give 0 and 1, or grey levels, "
                f"white from {_WHITE} to {2 * _WHITE - 1}"
            )
        mask = mask >= _WHITE
    return mask.astype(np.float32)


def region(values: Array, channel: int) -> Array:
    """Return where a channel is larger than all others (positive, if it is the only one): 1, elsewhere 0."""
    wins = values.argmax(axis=0) == channel if len(values) > 1 else values[channel] > 0
    return wins.astype(np.float32)


def present(feature_map: Array) -> Array:
    """Return the positive activations of a map, elsewhere 0; all of them if none is positive."""
    return np.maximum(feature_map, 0) if (feature_map > 0).any() else feature_map


def strongest(feature_map: Array) -> tuple[int, ...]:
    """Return the position of a map's strongest activation, the first in row-major order."""
    return tuple(int(k) for k in np.unravel_index(np.argmax(feature_map), feature_map.shape))


def as_strong(feature_map: Array) -> int:
    """Count the other positions that are exactly as strong as the :func:`strongest`."""
    return int((feature_map == feature_map.max()).sum()) - 1


def _resolved(values: Array, place: Place, kind: SeedKind) -> SeedKind:
    if is_area(place):
        return "map" if kind in ("auto", "value") else kind
    if kind != "auto":
        return "value" if kind in ("map", "present", "strongest") and place is not None else kind
    if place is not None:
        return "value"
    return "one" if values[0, 0].size == 1 else "map"


def _check(values: Array, aim: Aim) -> None:
    for channel, _ in aim.weights:
        if not 0 <= channel < values.shape[1]:
            raise InputError(
                f"there is no channel or class {channel}: the explained value has 0 to {values.shape[1] - 1}"
            )
    sizes, position = values.shape[2:], aim.position
    if isinstance(aim.place, str) and aim.place != "region":
        raise InputError(f"position {aim.place!r}: give indices, a mask, or region")
    if is_area(aim.place) and all(size == 1 for size in sizes):
        what = "its region" if isinstance(aim.place, str) else "a mask"
        raise InputError(
            f"position: {what} is for maps: here each class or channel has one number: leave it out"
        )
    if isinstance(aim.place, np.ndarray) and is_area(aim.place) and aim.place.ndim != len(sizes):
        raise InputError(f"a mask of shape {aim.place.shape}: the explained maps have the shape {sizes}")
    if position is None or len(position) == len(sizes) == 0:
        return
    if not sizes:
        raise InputError(
            f"position {position}: the explained value has no positions: leave it out, or name a layer"
        )
    if len(position) != len(sizes):
        raise InputError(
            f"position {position}: the explained value has {len(sizes)} axes after the channel: give an "
            f"index for each, in the map of size {sizes}"
        )
    if any(not 0 <= k < size for k, size in zip(position, sizes, strict=True)):
        raise InputError(f"position {position} is outside the feature map of size {sizes}")


def for_all(explained: Array, axes: Axes, seed: Array, total: int) -> Array:
    """Return an array that is sent back for each image of a whole batch, shape (total, K, ...).

    Raises
    ------
    InputError
        If it has neither the explained value's shape nor that of one image's.
    """
    led = axes.led
    wanted = led.restored(np.broadcast_to(np.float32(0), (total, *explained.shape[1:]))).shape
    first = led.batch or 0
    before, after = wanted[:first], wanted[first + 1 :]
    one = np.expand_dims(seed, first) if seed.shape == (*before, *after) else seed
    if one.shape not in (wanted, (*before, 1, *after)) or seed.dtype.kind not in "fiub":
        raise InputError(
            f"seed: an array of shape {seed.shape}; the explained value has the shape {wanted}, that of one "
            f"image {(*before, *after)}"
        )
    if not np.isfinite(one).all():
        raise InputError(
            "seed: an array with numbers that are infinite or not a number: nothing can be sent back"
        )
    return led.canonical(np.broadcast_to(one, wanted))
