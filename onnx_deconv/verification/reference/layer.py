"""Linear layers, forward and back with any weights; the scales and shifts after a layer are part of it."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import numpy as np
import onnx

from onnx_deconv.verification.reference.filters import mix, transposed_windows
from onnx_deconv.verification.reference.graph import Array, Forward
from onnx_deconv.verification.reference.moves import pad
from onnx_deconv.verification.reference.table import BACKWARD
from onnx_deconv.verification.reference.visit import Visit
from onnx_deconv.verification.reference.windows import Windows


def part(numbers: Array, sign: int) -> Array:
    """Return the positive or the negative part of some numbers."""
    return np.maximum(numbers, 0.0) if sign > 0 else np.minimum(numbers, 0.0)


@dataclass(frozen=True)
class Layer:
    """A linear layer at one image: z = forward(x, weight) + bias."""

    at: Visit
    weight: Array
    bias: Array
    z: Array

    @classmethod
    def of(cls, at: Visit, path: Iterable[onnx.NodeProto]) -> "Layer":
        """Read a layer, and what follows it up to the end of the path: scales and shifts by constants."""
        if not at.graph.depends.isdisjoint(at.node.input[1:]):
            raise at.unsupported("relevance where a weight or a bias depends on the explained input")
        weight, bias, axis = LAYERS[at.operator].read(at)
        name = at.node.output[0]
        along = [-1] + [1] * (at.signal.ndim - 1 - axis)
        while (step := _affine(at, path, name, axis)) is not None:
            node, scale, shift = step
            weight = LAYERS[at.operator].scaled(at, weight, scale)
            bias = bias * scale.reshape(along) + shift.reshape(along)
            name = node.output[0]
        return cls(at, weight, bias, at.graph.value(name).astype(np.float64))

    @property
    def x(self) -> Array:
        """What the layer reads."""
        return self.at.x()

    @property
    def image(self) -> Array:
        """What the layer reads, before it was padded."""
        padding = self._padding()
        return self.x if padding is None else padding.x()

    def placed(self, image: Array) -> Array:
        """Pad an image as the one that the layer reads, by zeros."""
        padding = self._padding()
        if padding is None:
            return image
        places = np.arange(image.size).reshape(image.shape)
        where = pad.__wrapped__(padding, places)  # type: ignore[attr-defined]
        return np.where(where < 0, 0.0, image.reshape(-1)[where])

    def forward(self, x: Array, weight: Array) -> Array:
        """Apply the layer to another input with another weight, without a bias."""
        return LAYERS[self.at.operator].forward(self.at, x, weight)

    def back(self, signal: Array, weight: Array) -> Array:
        """Send a signal back through the layer with another weight."""
        values = {**self.at.graph.values, self.at.node.input[1]: weight}
        at = replace(self.at, graph=replace(self.at.graph, values=values), arrived=[signal])
        return BACKWARD[self.at.operator](at, 0) / self.at.real("alpha", 1.0)

    def _padding(self) -> Visit | None:
        node = self.at.graph.producers.get(self.at.node.input[0])
        if node is None or node.op_type != "Pad":
            return None
        visit = replace(self.at, node=node, arrived=[self.at.x()])
        return visit if visit.attr("mode", "constant") == "constant" else None


def _affine(
    at: Visit, path: Iterable[onnx.NodeProto], name: str, axis: int
) -> tuple[onnx.NodeProto, Array, Array] | None:
    """Return the only node that reads a value, if it scales or shifts each channel: by what."""
    readers = [node for node in path if name in node.input]
    if len(readers) != 1:
        return None
    node, channels = readers[0], at.signal.shape[axis]
    reader = replace(at, node=node, arrived=[at.signal])
    one, none = np.ones(channels), np.zeros(channels)
    if node.op_type == "BatchNormalization" and axis == 1:
        scale = reader.x(1) / np.sqrt(reader.x(4) + reader.real("epsilon", 1e-5))
        return node, scale, reader.x(2) - scale * reader.x(3)
    if node.op_type not in ("Add", "Sub", "Mul", "Div") or list(node.input).count(name) != 1:
        return None
    k = list(node.input).index(name)
    number = _by_channel(reader, 1 - k, axis)
    if number is None or (k == 1 and node.op_type in ("Sub", "Div")):
        return None
    number = number * one
    steps = {"Add": (one, number), "Sub": (one, -number), "Mul": (number, none), "Div": (1 / number, none)}
    return node, *steps[node.op_type]


def _by_channel(at: Visit, i: int, axis: int) -> Array | None:
    """Return a constant operand that has one number for each channel, or one for all."""
    if not _is_constant(at.graph, at.node.input[i]):
        return None
    shape, rank = at.shape(i), at.signal.ndim
    elsewhere = [d for k, d in enumerate(shape, rank - len(shape)) if k != axis]
    if (
        len(shape) > rank
        or any(d != 1 for d in elsewhere)
        or math.prod(shape) not in (1, at.signal.shape[axis])
    ):
        return None
    return at.x(i).reshape(-1)


def _is_constant(graph: Forward, name: str) -> bool:
    """Tell whether a value is computed from weights alone."""
    node = graph.producers.get(name)
    return name in graph.weights if node is None else all(_is_constant(graph, v) for v in node.input if v)


@dataclass(frozen=True)
class Kind:
    """An operator as a linear map of its first input: its weight, bias and axis of channels, and the map."""

    read: Callable[[Visit], tuple[Array, Array, int]]
    forward: Callable[[Visit, Array, Array], Array]
    scaled: Callable[[Visit, Array, Array], Array]


def _read_conv(at: Visit) -> tuple[Array, Array, int]:
    bias = at.x(2).reshape(-1, *[1] * (at.signal.ndim - 2)) if at.given(2) else np.zeros(())
    return at.x(1), bias, 1


def _conv(at: Visit, x: Array, weight: Array) -> Array:
    """y[o, i] = Σ w[o, c, k]·x[c, i·s + k·d - p]."""
    windows = Windows.of(at, weight.shape[2:])
    grouped, frame = weight.reshape(at.attr("group", 1), -1, *weight.shape[1:]), windows.framed(x, 0.0)
    parts = (mix(grouped[(..., *k)], frame[windows.seen(k)]) for k in np.ndindex(*windows.kernel))
    return sum(parts, start=np.zeros(()))


def _conv_transpose(at: Visit, x: Array, weight: Array) -> Array:
    """y[o, i·s + k·d - p] += w[c, o, k]·x[c, i]."""
    windows = transposed_windows(at, weight.shape[2:])
    grouped = weight.reshape(at.attr("group", 1), -1, *weight.shape[1:]).swapaxes(1, 2)
    frame = np.zeros((*at.signal.shape[:2], *windows.frame))
    for k in np.ndindex(*windows.kernel):
        frame[windows.seen(k)] += mix(grouped[(..., *k)], x)
    return frame[windows.inside]


def _scaled_transposed(at: Visit, weight: Array, scale: Array) -> Array:
    groups = at.attr("group", 1)
    apart = weight.reshape(groups, -1, *weight.shape[1:])
    return (apart * scale.reshape(groups, 1, -1, *[1] * (weight.ndim - 2))).reshape(weight.shape)


def _read_gemm(at: Visit) -> tuple[Array, Array, int]:
    bias = at.real("beta", 1.0) * at.x(2) if at.given(2) else np.zeros(())
    return at.real("alpha", 1.0) * at.x(1), bias, 1


def _gemm(at: Visit, x: Array, weight: Array) -> Array:
    return (x.T if at.attr("transA", 0) else x) @ (weight.T if at.attr("transB", 0) else weight)


def _read_matmul(at: Visit) -> tuple[Array, Array, int]:
    if len(at.shape(1)) == 1:
        raise at.unsupported("relevance through a product with a vector")
    return at.x(1), np.zeros(()), at.signal.ndim - 1


LAYERS = {
    "Conv": Kind(_read_conv, _conv, lambda _, w, scale: w * scale.reshape(-1, *[1] * (w.ndim - 1))),
    "ConvTranspose": Kind(_read_conv, _conv_transpose, _scaled_transposed),
    "Gemm": Kind(
        _read_gemm, _gemm, lambda at, w, scale: w * (scale[:, None] if at.attr("transB", 0) else scale)
    ),
    "MatMul": Kind(_read_matmul, lambda _, x, weight: x @ weight, lambda _, w, scale: w * scale),
}
"""The linear layers whose relevance is divided."""
