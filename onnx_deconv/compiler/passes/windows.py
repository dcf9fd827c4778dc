"""Unpooling without switches, for windows of any form."""

import math
from collections.abc import Sequence
from itertools import product

import numpy as np
from onnx import NodeProto, TensorProto

from onnx_deconv.compiler.passes.builder import Builder
from onnx_deconv.compiler.passes.pattern import ANY, op
from onnx_deconv.compiler.passes.registry import optimisation_pass
from onnx_deconv.compiler.passes.rewriter import Rewriter
from onnx_deconv.compiler.passes.unpooling import put_back
from onnx_deconv.model.protos import attributes_of

_UNPOOLING = put_back(op.MaxPool(ANY, storage_order=0).named("pool").giving(1))
_LOWEST = float(np.finfo(np.float32).min)
_EXACT = {TensorProto.FLOAT}
_NARROW = {TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.UINT8, TensorProto.INT8}
"""Types of which float32 holds every number."""


@optimisation_pass("windows")
def windows(graph: Rewriter) -> None:
    """Find the first maxima of windows of any form by comparing, not by switches, where sizes are known.

    Many runtimes have no MaxPool that gives indices (WebGPU, TensorRT), or give others than the standard's.
    The values at each position of the windows are taken apart by slices, which are exact everywhere; the
    first that equals the maximum gets the signal, and a transposed filter of ones puts it back, which adds up
    where windows overlap. Of windows of K positions, K times as many values as windows are held at once.

    Numbers of smaller types are compared as float32. Their maximum is found among them, as a runtime may
    compute the pool itself in float32, and not round what comes out.
    """
    for node in graph.nodes:
        found = _UNPOOLING.match(graph, node)
        if found is None:
            continue
        pool, signal = found.nodes["pool"], found.values["signal"]
        form = _Windows.of(graph, pool)
        if form is not None:
            add = graph.builder(node.name)
            graph.replace(node, add, form.unpooled(add, pool, signal))


class _Windows:
    """The windows of a pool whose sizes are known but for the batch.

    Parameters
    ----------
    channels, sizes, counts
        The channels and sizes of what is pooled, and the number of windows along each axis.
    kernel, strides, dilations, begins
        The pool's, per axis.
    exact
        Whether what is pooled is float32.
    """

    def __init__(
        self, channels: int, sizes: Sequence[int], counts: Sequence[int], kernel: Sequence[int],
        strides: Sequence[int], dilations: Sequence[int], begins: Sequence[int], *, exact: bool,
    ) -> None:  # fmt: skip
        self.exact, self.channels, self.sizes, self.counts = exact, channels, sizes, counts
        self.kernel, self.strides, self.dilations, self.begins = kernel, strides, dilations, begins
        self.positions = math.prod(kernel)

    @classmethod
    def of(cls, graph: Rewriter, pool: NodeProto) -> "_Windows | None":
        """Read the windows of a pool; ``None`` where a size is not known."""
        attributes = attributes_of(pool)
        kernel, n = attributes["kernel_shape"], len(attributes["kernel_shape"])
        sizes, counts = (graph.sizes(v, _EXACT | _NARROW) for v in (pool.input[0], pool.output[0]))
        channels = graph.shape(pool.input[0])[1:2]
        if not sizes or not counts or not isinstance(channels[0], int) or channels[0] < 1:
            return None
        strides, dilations = (attributes.get(name, [1] * n) for name in ("strides", "dilations"))
        reach = _reach(counts, strides, kernel, dilations)
        spare = [max(0, r - size) for r, size in zip(reach, sizes, strict=True)]
        automatic = {
            b"SAME_UPPER": [e // 2 for e in spare],
            b"SAME_LOWER": [e - e // 2 for e in spare],
            b"VALID": [0] * n,
        }
        given = attributes.get("pads", [0] * 2 * n)[:n]
        begins = automatic.get(attributes.get("auto_pad", b"NOTSET"), given)
        exact = graph.sizes(pool.input[0], _EXACT) is not None
        return cls(int(channels[0]), sizes, counts, kernel, strides, dilations, begins, exact=exact)

    @property
    def whole(self) -> list[int]:
        """The extent of all windows together, along each axis, from the first position of the first."""
        return _reach(self.counts, self.strides, self.kernel, self.dilations)

    def unpooled(self, add: Builder, pool: NodeProto, signal: str) -> str:
        """Send the signal of each window to its first maximum."""
        values = self._apart(
            add, pool.input[0] if self.exact else add.Cast(pool.input[0], to=TensorProto.FLOAT)
        )
        maximum = add.Unsqueeze(pool.output[0], [2]) if self.exact else add.ReduceMax(values, [2], keepdims=1)
        first = self._first(add, add.Equal(values, maximum))
        placed = add.Mul(first, add.Unsqueeze(signal, [2]))
        # Channels are done like images: one filter serves all, and WebGPU (onnxruntime-web 1.30) computes
        # transposed filters wrongly of which each group makes one channel of several.
        lines = add.Reshape(placed, [-1, self.positions, *self.counts])
        return str(add.Reshape(self._together(add, lines), [-1, self.channels, *self.sizes]))

    def _apart(self, add: Builder, pooled: str) -> str:
        """Take the values at each position of the windows: (N, C, K, windows...)."""
        n, ends = len(self.sizes), self.whole
        after = [max(0, e - b - s) for e, b, s in zip(ends, self.begins, self.sizes, strict=True)]
        if any(self.begins) or any(after):
            pads = np.array([0, 0, *self.begins, 0, 0, *after])
            pooled = add.Pad(pooled, pads, np.array(_LOWEST, np.float32))
        parts = []
        for offset in product(*map(range, self.kernel)):
            starts = [k * d for k, d in zip(offset, self.dilations, strict=True)]
            stops = [a + (c - 1) * s + 1 for a, c, s in zip(starts, self.counts, self.strides, strict=True)]
            part = add.Slice(pooled, starts, stops, list(range(2, 2 + n)), list(self.strides))
            parts.append(add.Unsqueeze(part, [2]))
        return str(add.Concat(*parts, axis=2) if len(parts) > 1 else parts[0])

    def _first(self, add: Builder, equal: str) -> str:
        """Give 1 at the first position that equals the maximum; no ArgMax, which may take another."""
        ones = [1] * len(self.sizes)
        falling = np.arange(self.positions, 0, -1, dtype=np.float32).reshape(1, 1, -1, *ones)
        rank = add.Mul(add.Cast(equal, to=TensorProto.FLOAT), falling)
        best = add.Max(add.ReduceMax(rank, [2], keepdims=1), np.array(0.5, np.float32))
        return str(add.Cast(add.Equal(rank, best), to=TensorProto.FLOAT))

    def _together(self, add: Builder, lines: str) -> str:
        """Put (N·C, K, windows...) back to where they were taken from; what meets adds up."""
        n = len(self.sizes)
        weight = np.eye(self.positions, dtype=np.float32).reshape(self.positions, 1, *self.kernel)
        after = [e - b - s for e, b, s in zip(self.whole, self.begins, self.sizes, strict=True)]
        pads = [*self.begins, *(max(0, a) for a in after)]
        result = add.ConvTranspose(
            lines, weight, kernel_shape=list(self.kernel), strides=list(self.strides),
            dilations=list(self.dilations), pads=pads,
        )  # fmt: skip
        missing = [max(0, -a) for a in after]
        if any(missing):  # positions behind the last window
            result = add.Pad(result, np.array([0] * (n + 2) + [0, 0, *missing]))
        return str(result)


def _reach(
    counts: Sequence[int], strides: Sequence[int], kernel: Sequence[int], dilations: Sequence[int]
) -> list[int]:
    axes = zip(counts, strides, kernel, dilations, strict=True)
    return [(c - 1) * s + (k - 1) * d + 1 for c, s, k, d in axes]
