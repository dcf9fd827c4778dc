"""The strongest activations so far: all that is kept of the images that went by."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from onnx_deconv.errors import InputError
from onnx_deconv.model import Array

_NONE = np.iinfo(np.int64).max
"""The image of a place that no activation has taken."""


@dataclass
class Strongest:
    """The strongest activations of one layer's feature maps, each in another image, strongest first.

    Attributes
    ----------
    activations
        Shape (channels, k), float32; -inf where there were fewer images than k.
    images
        Shape (channels, k), int64: which of :attr:`Atlas.images`.
    positions
        Shape (channels, k, axes), int64: the unit's position behind the channel, the first in row-major
        order where a map has its maximum more than once.
    """

    activations: Array
    images: Array
    positions: Array

    @classmethod
    def empty(cls, channels: int, top: int, axes: int) -> "Strongest":
        """Return a table that has seen no image."""
        return cls(
            np.full((channels, top), -np.inf, np.float32),
            np.full((channels, top), _NONE),
            np.zeros((channels, top, axes), np.int64),
        )

    def with_others(self, activations: Array, images: Array, positions: Array) -> "Strongest":
        """Return the strongest of these and others, shapes (channels, n) and (channels, n, axes).

        Ties go to the earlier image.
        """
        top = self.activations.shape[1]
        a = np.concatenate([self.activations, np.nan_to_num(activations, nan=-np.inf)], axis=1)
        i = np.concatenate([self.images, images], axis=1)
        p = np.concatenate([self.positions, positions], axis=1)
        order = np.lexsort((i, -a), axis=1)[:, :top]
        return Strongest(
            np.take_along_axis(a, order, 1),
            np.take_along_axis(i, order, 1),
            np.take_along_axis(p, order[..., None], 1),
        )

    def renumbered(self, numbers: Array) -> "Strongest":
        """Return the same with image n called numbers[n]."""
        taken = self.images != _NONE
        images = np.where(taken, numbers[np.where(taken, self.images, 0)] if len(numbers) else 0, _NONE)
        return Strongest(self.activations, images, self.positions)

    @property
    def taken(self) -> Array:
        """Where there is an activation: booleans, (channels, k)."""
        places: Array = self.images != _NONE
        return places


@dataclass
class Atlas:
    """The strongest activations of many layers over many images.

    Memory depends on the number of feature maps, not on that of images.

    Attributes
    ----------
    top
        How many activations are kept of each feature map.
    made
        What they depend on, as plain JSON data: model, layers, preprocessing. Atlases that differ here
        cannot be merged.
    images
        Names of the images that are among the strongest anywhere, sorted.
    layers
        By layer.
    seen
        How many images went by, unreadable ones included.
    failed
        Those that could not be read, and why.
    """

    top: int = 9
    made: dict[str, Any] = field(default_factory=dict)
    images: list[str] = field(default_factory=list)
    layers: dict[str, Strongest] = field(default_factory=dict)
    seen: int = 0
    failed: dict[str, str] = field(default_factory=dict)

    def add(self, names: Sequence[str], found: Mapping[str, tuple[Array, Array]]) -> None:
        """Take the maxima of a batch into account.

        Parameters
        ----------
        names
            Of its images, each one new.
        found
            By layer: maxima, shape (N, channels), and their positions, (N, channels, axes).
        """
        self._know(names)
        numbers = {name: n for n, name in enumerate(self.images)}
        batch = np.array([numbers[name] for name in names])
        for layer, (maxima, positions) in found.items():
            channels, axes = maxima.shape[1], positions.shape[2]
            table = self.layers.get(layer) or Strongest.empty(channels, self.top, axes)
            images = np.broadcast_to(batch, (channels, len(batch)))
            self.layers[layer] = table.with_others(maxima.T, images, positions.transpose(1, 0, 2))
        self.forget()

    def _know(self, names: Iterable[str]) -> None:
        """Make place for names among the images, which stay sorted."""
        images = sorted({*self.images, *names})
        numbers = {name: n for n, name in enumerate(images)}
        moved = np.array([numbers[name] for name in self.images], np.int64)
        self.layers = {layer: table.renumbered(moved) for layer, table in self.layers.items()}
        self.images = images

    def forget(self) -> None:
        """Drop the names of images that are not among the strongest any more."""
        used = [table.images[table.taken] for table in self.layers.values()]
        kept = np.unique(np.concatenate([np.unique(u) for u in used])) if used else np.zeros(0, np.int64)
        numbers = np.zeros(len(self.images), np.int64)
        numbers[kept] = np.arange(len(kept))
        self.layers = {layer: table.renumbered(numbers) for layer, table in self.layers.items()}
        self.images = [self.images[n] for n in kept]


def merge(parts: Sequence[Atlas]) -> Atlas:
    """Merge atlases of disjoint sets of images into what one pass over all of them gives.

    Raises
    ------
    InputError
        If there are none, or they were made in different ways.
    """
    if not parts:
        raise InputError("there is nothing to merge")
    first = parts[0]
    for part in parts:
        different = [k for k in {*first.made, *part.made} if first.made.get(k) != part.made.get(k)]
        if different or part.top != first.top:
            what = ", ".join(sorted(different) or ["top"])
            raise InputError(f"the atlases cannot be merged: they differ in {what}")
    whole = Atlas(first.top, first.made)
    for part in parts:
        whole._know(part.images)  # noqa: SLF001  (its own class)
    numbers = {name: n for n, name in enumerate(whole.images)}
    for part in parts:
        moved = np.array([numbers[name] for name in part.images], np.int64)
        for layer, table in part.layers.items():
            own = table.renumbered(moved)
            known = whole.layers.get(layer) or Strongest.empty(*_shape(table))
            whole.layers[layer] = known.with_others(own.activations, own.images, own.positions)
        whole.seen += part.seen
        whole.failed |= part.failed
    whole.forget()
    return whole


def _shape(table: Strongest) -> tuple[int, int, int]:
    channels, top, axes = table.positions.shape
    return channels, top, axes
