"""Feature evolution: what excites a feature map most, checkpoint after checkpoint of one training.

Zeiler & Fergus 2013, section 4, "Feature evolution during training", and figure 4: the strongest
activation of a feature map over a set of images, projected to the pixels. Lower layers settle within few
epochs, upper layers late; a sudden jump means that another image has come to excite the map most.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from os import PathLike, fspath
from pathlib import Path

import numpy as np

from onnx_deconv.attribution.explainer import Explainer
from onnx_deconv.attribution.features import Features
from onnx_deconv.errors import InputError
from onnx_deconv.experiments.common import Watch
from onnx_deconv.model import Array
from onnx_deconv.model.ranking import ranking

_BATCH = 32


@dataclass(frozen=True)
class Evolution:
    """The strongest activation of each of K feature maps in each of T checkpoints.

    Attributes
    ----------
    checkpoints
        Their names, in order.
    layer, channels
        The feature maps.
    method
        What they are projected by.
    activations
        The strongest activation over all images and positions, shape (T, K): where the layer has an upper
        bound (ReLU6), the value before it, since at the bound many are equal.
    images
        The index of the image that it was found in, shape (T, K).
    positions
        Its position in the map, shape (T, K, number of the map's axes).
    equals
        How many other activations, of all images and positions, equal it, shape (T, K): the first is taken.
    projections
        That activation alone, sent back to the pixels: shape (T, K, ...), each as the model takes
        images, float32.
    """

    checkpoints: tuple[str, ...]
    layer: str
    channels: tuple[int, ...]
    method: str
    activations: Array = field(repr=False)
    images: Array = field(repr=False)
    positions: Array = field(repr=False)
    equals: Array = field(repr=False)
    projections: Array = field(repr=False)


def evolution(
    checkpoints: Sequence[str | PathLike[str]],
    images: Array,
    targets: Mapping[str, Sequence[int]],
    *,
    open_checkpoint: Callable[[str | PathLike[str]], Explainer] = Explainer,
    batch: int = _BATCH,
    watch: Watch = iter,
) -> list[Evolution]:
    """Follow feature maps through the checkpoints of a training (Zeiler & Fergus 2013, figure 4).

    Parameters
    ----------
    checkpoints
        ONNX files of one model, in order; :func:`checkpoints_in` lists those of a folder.
    images
        As the model takes them, shape (N, ...).
    targets
        The feature maps to follow, by layer: a value or a node that every checkpoint has.
    open_checkpoint
        Makes an Explainer from a file: for other rules or another provider.
    batch
        How many images run at once.
    watch
        See :data:`~onnx_deconv.experiments.common.Watch`.

    Returns
    -------
    list of Evolution
        One per layer.

    Raises
    ------
    InputError
        If there are no checkpoints, images or feature maps, or a channel does not exist.
    UnknownLayerError
        If a checkpoint lacks a layer.
    """
    if not len(checkpoints) or not len(images) or not all(map(len, targets.values())):
        raise InputError("there is nothing to follow: give checkpoints, images and feature maps")
    stages = [_stages(open_checkpoint(path), images, targets, batch) for path in watch(checkpoints)]
    names = tuple(Path(path).stem for path in checkpoints)
    found = []
    for (layer, maps), of_layer in zip(targets.items(), zip(*stages, strict=True), strict=True):
        (method, *_), *columns = zip(*of_layer, strict=True)
        found.append(Evolution(names, layer, tuple(maps), method, *map(np.stack, columns)))
    return found


def checkpoints_in(folder: str | PathLike[str]) -> list[Path]:
    """List a folder's ONNX files in natural order: epoch 2 comes before epoch 10.

    Raises
    ------
    InputError
        If there is no such folder, or no ONNX file in it.
    """
    home = Path(folder)
    found = sorted((p for p in home.glob("*.onnx") if p.is_file()), key=lambda path: natural(path.name))
    if not found:
        raise InputError(f"{fspath(folder)}: there are no checkpoints (*.onnx) in this folder")
    return found


def natural(name: str) -> list[tuple[bool, int, str]]:
    """Make a sort key by which numbers in names are ordered by their size."""
    pieces = re.findall(r"\d+|\D+", name.casefold())
    return [(False, int(piece), "") if piece.isdecimal() else (True, 0, piece) for piece in pieces]


_Stage = tuple[str, Array, Array, Array, Array, Array]
"""Of one layer in one checkpoint: the method, activations, images, positions, equals, projections."""


def _stages(
    explainer: Explainer, images: Array, channels: Mapping[str, Sequence[int]], batch: int
) -> list[_Stage]:
    """Find and project the strongest activations in one checkpoint, for each layer."""
    model, strongest = explainer.model, [_Strongest(maps) for maps in channels.values()]
    rankings = [ranking(model, model.layer(name)) for name in channels]
    network = Features(explainer, [ranked.value for ranked in rankings])
    for first in range(0, len(images), batch):
        values = network(images[first : first + batch])
        for ranked, maps in zip(rankings, strongest, strict=True):
            maps.add(ranked.of(values.features[ranked.value]), first)
    return [
        (
            explainer.method(ranked.layer).method,
            maps.activations,
            maps.images,
            maps.positions,
            maps.equals,
            _projections(explainer, images, ranked.layer, maps),
        )
        for ranked, maps in zip(rankings, strongest, strict=True)
    ]


def _projections(explainer: Explainer, images: Array, layer: str, maps: "_Strongest") -> Array:
    count = explainer.model.batch or 1
    found = []
    for image, channel, position in zip(maps.images, maps.channels, maps.positions, strict=True):
        batch = np.repeat(images[image][None], count, axis=0)
        explained = explainer(batch, int(channel), layer=layer, position=[int(k) for k in position])
        found.append(explained[0].reconstruction)
    return np.stack(found)


class _Strongest:
    """The strongest activation of some channels over the images so far; the first of equals."""

    def __init__(self, channels: Sequence[int]) -> None:
        self.channels = list(channels)
        self.activations = np.full(len(channels), -np.inf, np.float32)
        self.images = np.zeros(len(channels), np.int64)
        self.positions = np.zeros((len(channels), 0), np.int64)
        self.equals = np.zeros(len(channels), np.int64)

    def add(self, values: Array, first: int) -> None:
        """Take a batch's activations into account, shape (N, K, ...); its first image has index `first`."""
        count = values.shape[1]
        if not all(0 <= channel < count for channel in self.channels):
            raise InputError(f"the layer has channels 0 to {count - 1}, not all of {self.channels}")
        if not self.positions.size:
            self.positions = np.zeros((len(self.channels), values.ndim - 2), np.int64)
        for k, channel in enumerate(self.channels):
            maps = values[:, channel]
            image, *position = np.unravel_index(int(maps.argmax()), maps.shape)
            alike = int((maps == max(maps.max(), self.activations[k])).sum())
            self.equals[k] += alike
            if maps[(image, *position)] > self.activations[k]:
                self.activations[k] = maps[(image, *position)]
                self.images[k], self.positions[k] = first + image, position
                self.equals[k] = alike - 1
