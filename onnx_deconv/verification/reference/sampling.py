"""Samples between pixels: what each takes of the pixels near it, and how that changes as it moves."""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_deconv.verification.reference import kernels
from onnx_deconv.verification.reference.graph import Array, Positions

INTERPOLATIONS: dict[str, tuple[kernels.Kernel, kernels.Kernel, tuple[int, ...]]] = {
    "linear": (kernels.linear, kernels.linear_slope, (0, 1)),
    "cubic": (kernels.cubic, kernels.cubic_slope, (-1, 0, 1, 2)),
    "nearest": (np.ones_like, np.zeros_like, (0,)),
}
"""The kernel, its derivative, and the pixels it reaches, counted from the one at or before the coordinate."""


@dataclass(frozen=True)
class Neighbours:
    """The pixels along one axis that samples are mixed from, each array (pixels, batch, samples).

    Attributes
    ----------
    places
        Their positions, -1 for what is outside.
    weights
        How much of them is in the sample.
    slopes
        The derivative of that by the sample's coordinate.
    """

    places: Positions
    weights: Array
    slopes: Array

    @classmethod
    def of(cls, coordinate: Array, mode: str, inside: Callable[[Positions], Positions]) -> "Neighbours":
        """Find the pixels near coordinates, (batch, samples); `inside` says which pixel stands at a place."""
        kernel, slope, reach = INTERPOLATIONS[mode]
        first = np.rint(coordinate) if mode == "nearest" else np.floor(coordinate)
        places = first.astype(np.int64) + np.reshape(reach, (-1, 1, 1))
        distance = coordinate - places
        return cls(inside(places), kernel(distance), slope(distance))


@dataclass(frozen=True)
class Samples:
    """Samples of pictures (batch, channels, *size), at the same places in all channels."""

    size: tuple[int, ...]
    axes: Sequence[Neighbours]

    def spread(self, signal: Array) -> Array:
        """Send the samples' signal, (batch, channels, samples), to the pixels, (batch, channels, *size)."""
        batch, channels, _ = signal.shape
        pixels = np.zeros((batch, channels, math.prod(self.size) + 1))  # the last is what is outside
        n, c = np.ogrid[:batch, :channels]
        for place, share in self._mixed(None):
            np.add.at(pixels, (n[..., None], c[..., None], place[:, None]), signal * share[:, None])
        return pixels[..., :-1].reshape(batch, channels, *self.size)

    def read(self, pixels: Array, by: int | None = None) -> Array:
        """Return the samples, (batch, channels, samples), or their derivative by one coordinate."""
        batch, channels = pixels.shape[:2]
        flat = np.zeros((batch, channels, math.prod(self.size) + 1))  # the last is what is outside
        flat[..., :-1] = pixels.reshape(batch, channels, -1)
        n, c = np.ogrid[:batch, :channels]
        taken = [
            flat[n[..., None], c[..., None], place[:, None]] * share[:, None]
            for place, share in self._mixed(by)
        ]
        return np.sum(taken, axis=0)

    def _mixed(self, by: int | None) -> Iterator[tuple[Positions, Array]]:
        """Yield flat positions, -1 for what is outside, and shares or their derivative, (batch, samples)."""
        for chosen in itertools.product(*(range(len(axis.places)) for axis in self.axes)):
            near = list(zip(self.axes, chosen, strict=True))
            places = [axis.places[k] for axis, k in near]
            shares = [axis.slopes[k] if a == by else axis.weights[k] for a, (axis, k) in enumerate(near)]
            outside = np.min(places, axis=0) < 0
            flat = np.ravel_multi_index([np.maximum(place, 0) for place in places], self.size)
            yield np.where(outside, -1, flat), math.prod(shares)


def zeros(size: int) -> Callable[[Positions], Positions]:
    """Nothing stands outside 0 … size-1."""
    return lambda places: np.where((places < 0) | (places >= size), -1, places)


def border(size: int) -> Callable[[Positions], Positions]:
    """Outside 0 … size-1 stands the nearest pixel."""
    return lambda places: places.clip(0, size - 1)


def reflection(low: float, high: float) -> Callable[[Positions], Positions]:
    """Outside stands what is mirrored at both ends."""
    return lambda places: reflected(places, low, high)[0].astype(np.int64)


def reflected(x: NDArray[Any], low: float, high: float) -> tuple[Array, Array]:
    """Fold what lies outside back at both ends, as often as it takes, and tell in which direction it runs."""
    folds, rest = np.divmod(x - low, max(high - low, 1e-9))
    even = folds % 2 == 0
    return np.where(even, low + rest, high - rest), np.where(even, 1.0, -1.0)
