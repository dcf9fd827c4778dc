"""Switches: each lies in its own window and points to the window's maximum."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import Any, Self

import numpy as np
from onnx import NodeProto

from onnx_deconv.model import Array
from onnx_deconv.model.protos import attributes_of
from onnx_deconv.verification.batch import Batch
from onnx_deconv.verification.checks import Check


def check_switches(batch: Batch) -> Check:
    """Check each switch: it lies in its window, and what it points to is the window's maximum."""
    wrong, ties, total = [], 0, 0
    for name, pool in batch.pools.items():
        x, y = batch.values[pool.input[0]], batch.values[pool.output[0]]
        windows, found = SwitchWindows.of(pool, x.shape, y.shape), batch.values[name]
        total += found.size
        bad = ~windows.valid(x, y, found)
        ties += int((windows.first_maxima(x) != windows.by_row(found))[~bad].sum())
        if bad.any():
            wrong.append(f"{pool.name or pool.output[0]} ({int(bad.sum())} of {bad.size})")
    detail = f"{len(batch.pools)} pools, {total} windows, {ties} ties not decided for the first"
    if wrong:
        detail += f"; wrong in {', '.join(wrong)}"
    return Check("switches", "all tables", float(len(wrong)), 0.0, detail)


@dataclass(frozen=True)
class SwitchWindows:
    """Where the windows of a MaxPool look, straight from the operator's specification.

    ``positions[k][i, j]`` is the place along axis k of offset j in window i, -1 where it is padding.
    """

    shape: tuple[int, ...]
    positions: Sequence[Array]
    by_column: bool

    @classmethod
    def of(cls, pool: NodeProto, shape: tuple[int, ...], out: tuple[int, ...]) -> Self:
        """Read the windows of a pool whose input and output have these shapes."""
        attributes = attributes_of(pool)
        kernel = attributes["kernel_shape"]
        strides = attributes.get("strides", [1] * len(kernel))
        dilations = attributes.get("dilations", [1] * len(kernel))
        pads = attributes.get("pads", [0] * 2 * len(kernel))
        positions = []
        for k, (size, count) in enumerate(zip(shape[2:], out[2:], strict=True)):
            reach = (count - 1) * strides[k] + (kernel[k] - 1) * dilations[k] + 1
            begin = _begin(attributes.get("auto_pad", b"NOTSET"), pads[k], max(0, reach - size))
            starts = np.arange(count)[:, None] * strides[k] - begin
            places = starts + np.arange(kernel[k])[None] * dilations[k]
            positions.append(np.where((places >= 0) & (places < size), places, -1))
        return cls(shape, positions, attributes.get("storage_order", 0) == 1)

    def by_row(self, switches: Array) -> Array:
        """Return flat positions in the batch, in row-major order, whatever the pool's storage order."""
        images = np.arange(len(switches)) * prod(self.shape[1:])
        switches = switches + images.reshape(-1, *[1] * (switches.ndim - 1))
        if not self.by_column:
            return switches
        backwards = (*self.shape[:2], *self.shape[:1:-1])
        n, c, *rest = np.unravel_index(switches, backwards)
        return np.ravel_multi_index((n, c, *rest[::-1]), self.shape)

    def first_maxima(self, x: Array) -> Array:
        """Return each window's first maximum in row-major order, as a flat position."""
        best = np.full((*x.shape[:2], *(len(p) for p in self.positions)), -np.inf)
        where = np.full(best.shape, -1, np.int64)
        strides = [prod(x.shape[k + 1 :]) for k in range(x.ndim)]
        images = strides[0] * np.arange(x.shape[0])[:, None] + strides[1] * np.arange(x.shape[1])[None]
        for offset in product(*(range(p.shape[1]) for p in self.positions)):
            places = [p[:, j] for p, j in zip(self.positions, offset, strict=True)]
            flat = np.ix_(*places)
            everywhere: tuple[Any, ...] = (slice(None), slice(None), *flat)
            candidate = x[everywhere].astype(np.float64)
            for along in flat:
                candidate = np.where(along >= 0, candidate, -np.inf)  # padding
            better = candidate > best
            position = sum(s * p for s, p in zip(strides[2:], flat, strict=True))
            best = np.where(better, candidate, best)
            where = np.where(better, images.reshape(*images.shape, *[1] * len(places)) + position, where)
        return where

    def valid(self, x: Array, y: Array, switches: Array) -> Array:
        """Tell for each switch whether it lies in its own window and points to the window's maximum."""
        found = self.by_row(switches)
        inside = (found >= 0) & (found < x.size)
        found = np.where(inside, found, 0)
        place = np.unravel_index(found, x.shape)
        own = np.meshgrid(*map(np.arange, y.shape), indexing="ij", sparse=True)
        for k in range(2):
            inside &= place[k] == own[k]
        for k, places in enumerate(self.positions):
            # All positions of the window along this axis, against the one that was chosen.
            inside &= (places[own[k + 2]] == place[k + 2][..., None]).any(-1)
        first = self.first_maxima(x)
        maximum = np.where(first >= 0, x.reshape(-1)[first], x.dtype.type(0))
        pointed = x.reshape(-1)[found]
        return np.asarray(inside & (pointed == maximum) & (pointed == y))


def _begin(automatic: bytes, given: int, total: int) -> int:
    """Return the padding before an axis, `total` being what automatic padding adds in all."""
    own = {b"VALID": 0, b"SAME_UPPER": total // 2, b"SAME_LOWER": total - total // 2}
    return own.get(automatic, given)
