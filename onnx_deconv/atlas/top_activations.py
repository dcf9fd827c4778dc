"""The strongest activations of each feature map: all that is kept of the images that were scanned."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from onnx_deconv.errors import InputError
from onnx_deconv.model import Array

_NONE = np.iinfo(np.int64).max
"""The image number of a rank that no activation has taken."""

UnitKey = tuple[str, int, int]
"""A unit of an atlas: layer, channel and rank."""


@dataclass
class TopActivations:
    """The strongest activations of one layer's feature maps, each in another image, strongest first.

    Attributes
    ----------
    activations
        Shape (channels, k), float32; -inf where there were fewer images than k.
    images
        Shape (channels, k), int64: indices into :attr:`Atlas.images`.
    positions
        Shape (channels, k, axes), int64: the unit's position after the channel axis, the first in
        row-major order where a map has its maximum more than once.
    """

    activations: Array
    images: Array
    positions: Array

    @classmethod
    def empty(cls, channels: int, top: int, axes: int) -> "TopActivations":
        """Return the table before any image was scanned."""
        return cls(
            np.full((channels, top), -np.inf, np.float32),
            np.full((channels, top), _NONE),
            np.zeros((channels, top, axes), np.int64),
        )

    def with_others(self, activations: Array, images: Array, positions: Array) -> "TopActivations":
        """Return the strongest of these and others, shapes (channels, n) and (channels, n, axes).

        Ties go to the earlier image.
        """
        found = np.ascontiguousarray(np.where(np.isnan(activations), np.float32(-np.inf), activations))
        # Of many images few are among the strongest: only those are sorted.
        maps, places = np.nonzero(found >= self._least(found))
        if not maps.size:
            return self
        begins = np.flatnonzero(np.diff(maps, prepend=-1))
        changed, counts = maps[begins], np.diff(begins, append=len(maps))
        beside = np.repeat(np.arange(len(changed)), counts), np.arange(len(maps)) - np.repeat(begins, counts)
        known = self.activations, self.images, self.positions
        extended = [
            _extended(table[changed], beside, new[maps, places], fill)
            for table, new, fill in zip(known, (found, images, positions), (-np.inf, _NONE, 0), strict=True)
        ]
        order = np.argsort(_order_keys(*extended[:2]), axis=1)[:, : self.activations.shape[1]]
        strongest = [table.copy() for table in known]
        for table, each in zip(strongest, extended, strict=True):
            table[changed] = each[np.arange(len(changed))[:, None], order]
        return TopActivations(*strongest)

    def _least(self, found: Array) -> Array:
        """Return what the strongest of these and others reach at least, by feature map: (channels, 1)."""
        top, known = self.activations.shape[1], self.activations[:, -1:]
        if found.shape[1] <= top:
            return known
        least: Array = np.maximum(known, np.partition(found, -top, axis=1)[:, -top, None])
        return least

    def renumbered(self, numbers: Array) -> "TopActivations":
        """Return the same with image n called numbers[n]."""
        filled = self.filled
        images = np.where(filled, numbers[np.where(filled, self.images, 0)] if len(numbers) else 0, _NONE)
        return TopActivations(self.activations, images, self.positions)

    def where(self, kept: Array) -> "TopActivations":
        """Return a copy in which only these ranks, booleans of shape (channels, k), are not empty."""
        activations = np.where(kept, self.activations, np.float32(-np.inf))
        return TopActivations(activations, np.where(kept, self.images, _NONE), self.positions.copy())

    @property
    def filled(self) -> Array:
        """Where there is an activation: booleans, (channels, k)."""
        filled: Array = self.images != _NONE
        return filled

    @property
    def active(self) -> Array:
        """Where there is an activation other than zero, which can be projected: booleans, (channels, k)."""
        active: Array = self.filled & (self.activations != 0)
        return active

    @property
    def tied(self) -> Array:
        """Where all ranks have one activation above zero, so that names decide: booleans, (channels,)."""
        first, last = self.activations[:, 0], self.activations[:, -1]
        tied: Array = (first == last) & (first > 0) & (self.activations.shape[1] > 1)
        return tied

    def ranks(self) -> list[tuple[int, int]]:
        """List the channel and rank of each activation that there is."""
        return [(channel, rank) for channel, rank in np.argwhere(self.filled).tolist()]


@dataclass
class Atlas:
    """The strongest activations of many layers over many images.

    Memory depends on the number of feature maps, not on that of images.

    Attributes
    ----------
    top
        How many activations are kept of each feature map.
    made
        What the activations depend on, as plain JSON data: model, layers, preprocessing. Atlases that
        differ in this cannot be merged.
    images
        Names of the images that are among the strongest anywhere, sorted.
    layers
        By layer.
    seen
        How many images were scanned, unreadable ones included.
    failed
        The images that could not be read, and why.
    names
        A digest of the names of all images that were scanned, in their order; empty of a merged atlas.
    """

    top: int = 9
    made: dict[str, Any] = field(default_factory=dict)
    images: list[str] = field(default_factory=list)
    layers: Mapping[str, TopActivations] = field(default_factory=dict)
    seen: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    names: str = field(default="", compare=False)

    def image_of(self, layer: str, channel: int, rank: int) -> str:
        """Return the name of the image in which an activation was found."""
        return self.images[self.layers[layer].images[channel, rank]]

    def add(self, names: Sequence[str], found: Mapping[str, tuple[Array, Array]]) -> None:
        """Take the maxima of a batch into account.

        Parameters
        ----------
        names
            The names of its images, each one new.
        found
            By layer: maxima, shape (N, channels), and their positions, (N, channels, axes).
        """
        self._add_names(names)
        numbers = {name: n for n, name in enumerate(self.images)}
        batch = np.array([numbers[name] for name in names])
        for layer, (maxima, positions) in found.items():
            channels, axes = maxima.shape[1], positions.shape[2]
            known = self.layers.get(layer) or TopActivations.empty(channels, self.top, axes)
            images = np.broadcast_to(batch, (channels, len(batch)))
            all_of_them = known.with_others(maxima.T, images, positions.transpose(1, 0, 2))
            self.layers = {**self.layers, layer: all_of_them}
        self._drop_unused_names()

    def locate(self, name: str, maps: Mapping[str, Array]) -> None:
        """Find where an image's activations are, by its feature maps, (channels, ...) each."""
        number = self.images.index(name)
        for layer, of_layer in maps.items():
            table = self.layers[layer]
            here = np.nonzero(table.images == number)
            if here[0].size:
                chosen = of_layer[here[0]]
                flat = chosen.reshape(len(chosen), -1).argmax(axis=1)
                table.positions[here] = np.stack(np.unravel_index(flat, chosen.shape[1:]), axis=-1)

    def of_images(self, names: Collection[str]) -> "Atlas":
        """Copy what is known of some of the images; the ranks of others are left empty."""
        chosen = np.array([name in names for name in self.images], bool)
        layers = {layer: table.where(_chosen(table, chosen)) for layer, table in self.layers.items()}
        found = replace(self, images=[*self.images], layers=layers)
        found._drop_unused_names()  # noqa: SLF001 - its own
        return found

    def add_atlas(self, other: "Atlas") -> None:
        """Take another atlas, of other images, into account."""
        self._add_names(other.images)
        numbers = {name: n for n, name in enumerate(self.images)}
        moved = np.array([numbers[name] for name in other.images], np.int64)
        for layer, table in other.layers.items():
            new = table.renumbered(moved)
            known = self.layers.get(layer) or TopActivations.empty(*_shape(table))
            all_of_them = known.with_others(new.activations, new.images, new.positions)
            self.layers = {**self.layers, layer: all_of_them}
        self.seen += other.seen
        self.failed |= other.failed
        self._drop_unused_names()

    def _add_names(self, names: Iterable[str]) -> None:
        """Add names to those of the images, which stay sorted."""
        images = sorted({*self.images, *names})
        numbers = {name: n for n, name in enumerate(images)}
        moved = np.array([numbers[name] for name in self.images], np.int64)
        self.layers = {layer: table.renumbered(moved) for layer, table in self.layers.items()}
        self.images = images

    def _drop_unused_names(self) -> None:
        """Drop the names of images that are not among the strongest any more."""
        used = np.zeros(len(self.images), bool)
        for table in self.layers.values():
            used[table.images[table.filled]] = True
        kept = np.flatnonzero(used)
        numbers = np.zeros(len(self.images), np.int64)
        numbers[kept] = np.arange(len(kept))
        self.layers = {layer: table.renumbered(numbers) for layer, table in self.layers.items()}
        self.images = [self.images[n] for n in kept]


def merge(atlases: Sequence[Atlas]) -> Atlas:
    """Merge atlases of disjoint sets of images into what one scan of all of them gives.

    Raises
    ------
    InputError
        If there are none, they were made with different options, or two hold the same image.
    """
    if not atlases:
        raise InputError("there is nothing to merge")
    first = atlases[0]
    for atlas in atlases:
        different = [k for k in {*first.made, *atlas.made} if first.made.get(k) != atlas.made.get(k)]
        if different or atlas.top != first.top:
            what = ", ".join(sorted(different) or ["top"])
            raise InputError(f"the atlases cannot be merged: they differ in {what}")
    names = Counter(name for atlas in atlases for name in {*atlas.images})
    twice = [name for name, count in names.items() if count > 1]
    if twice:
        raise InputError(f"image {twice[0]} is in more than one atlas: merge atlases of different images")
    whole = Atlas(first.top, first.made)
    for atlas in atlases:
        whole.add_atlas(atlas)
    return whole


def _extended(known: Array, beside: tuple[Array, Array], new: Array, fill: float) -> Array:
    """Put numbers beside those of a table, (rows, columns, ...), by row and column; the rest is filled."""
    rows, columns = known.shape[:2]
    extended = np.full((rows, columns + beside[1].max() + 1, *known.shape[2:]), fill, known.dtype)
    extended[:, :columns] = known
    extended[:, columns:][beside] = new
    return extended


def _order_keys(activations: Array, images: Array) -> Array:
    """Return int64 numbers that increase as activations decrease and, at equal ones, as images do.

    One number is sorted several times as fast as two keys. As integers, the bits of floats that are not
    negative have the floats' order, and those of negative ones the opposite order.
    """
    bits = (activations + np.float32(0)).view(np.int32)  # -0 is 0
    increasing = bits ^ ((bits >> 31) & np.iinfo(np.int32).max)
    keys: Array = (~increasing).astype(np.int64) << 32 | images.astype(np.uint32)
    return keys


def _chosen(table: TopActivations, images: Array) -> Array:
    """Tell which ranks' images are chosen: booleans, (channels, k)."""
    chosen: Array = np.append(images, False)[np.where(table.filled, table.images, len(images))]
    return chosen


def _shape(table: TopActivations) -> tuple[int, int, int]:
    channels, top, axes = table.positions.shape
    return channels, top, axes
