"""Rectifiers that exporters spell in several nodes: one network, one explanation."""

import math
from collections.abc import Iterator

import onnx

from onnx_deconv.verification.reference.activations import clip_bounds
from onnx_deconv.verification.reference.graph import Forward
from onnx_deconv.verification.reference.options import ReferenceOptions
from onnx_deconv.verification.reference.visit import Visit


def spelled_activation(graph: Forward, node: onnx.NodeProto) -> str | None:
    """Return the x of the activation whose last node this is, or None.

    1. x·Sigmoid(x) (SiLU), x·HardSigmoid(x) or x·Clip(x + 3, 0, 6)/6 (HardSwish),
       x·½·(1 + Erf(x/√2)) (Gelu), x·Tanh(Softplus(x)) (Mish): a product of x, a gate of the same
       x and a number, in any order and association.
    2. Min(Max(x, 0), h), Max(Min(x, h), 0): Clip, ReLU6 where h is 6.
    """
    name = node.output[0] if node.output else ""
    for x in (*gated(graph, name), *clamped_at_zero(graph, node)):
        if x in graph.depends and graph.value(x).shape == graph.value(name).shape:
            return x
    return None


def clamped_at_zero(graph: Forward, node: onnx.NodeProto) -> Iterator[str]:
    """Yield x where a Min or a Max completes a clamp of x from 0 to something positive."""
    if node.op_type in ("Min", "Max"):
        for x, low, high in clamps(graph, node):
            if low == 0 < high:
                yield x


def clamps(graph: Forward, node: onnx.NodeProto | None) -> Iterator[tuple[str, float, float]]:
    """Yield (x, low, high) where a node ends a clamp: a Clip, or Min and Max."""
    if node is None:
        return
    if node.op_type == "Clip":
        bounds = clip_bounds(Visit(graph, node, (), ReferenceOptions()))
        yield node.input[0], *bounds
    for outer, inner in (("Min", "Max"), ("Max", "Min")):
        for inside, first in with_number(graph, node, outer):
            for x, second in with_number(graph, graph.producers.get(inside), inner):
                yield (x, second, first) if outer == "Min" else (x, first, second)


def with_number(graph: Forward, node: onnx.NodeProto | None, operator: str) -> Iterator[tuple[str, float]]:
    """Yield (value, number) where a node is `operator` of a value and a constant number."""
    if node is None or node.op_type != operator or len(node.input) != 2:  # noqa: PLR2004
        return
    for value, other in (node.input, reversed(node.input)):
        number = graph.scalar(other)
        if number is not None and value in graph.depends:
            yield value, number


def multiples(graph: Forward, name: str) -> Iterator[tuple[float, str]]:
    """Yield every (k, value) such that `name` is k·value through factors that are numbers."""
    factor = 1.0
    while True:
        yield factor, name
        node = graph.producers.get(name)
        if node is None:
            return
        steps = [(value, number) for value, number in with_number(graph, node, "Mul")]
        if node.op_type == "Div" and graph.scalar(node.input[1]):
            steps = [(node.input[0], 1.0 / (graph.scalar(node.input[1]) or 1.0))]
        if not steps:
            return
        name, number = steps[0]
        factor *= number


def gated(graph: Forward, name: str) -> Iterator[str]:
    """Yield x where `name` is x times a gate of x, whatever number the factors come to."""
    for factor, product in multiples(graph, name):
        node = graph.producers.get(product)
        if node is None or node.op_type != "Mul":
            continue
        for one, other in (node.input, reversed(node.input)):
            carried = {value: k for k, value in multiples(graph, one)}
            for share, gate in multiples(graph, other):
                for x, full in gates(graph, graph.producers.get(gate)):
                    if x in carried and close(factor * share * carried[x] * full, 1.0):
                        yield x


def gates(graph: Forward, node: onnx.NodeProto | None) -> Iterator[tuple[str, float]]:
    """Yield (x, full) where a node is a gate of x, opening as x grows until it is `full`."""
    if node is None:
        return
    for x, low, high in clamps(graph, node):
        for inner, number in with_number(graph, graph.producers.get(x), "Add"):
            if (low, high, number) == (0.0, 6.0, 3.0):
                yield inner, high
    for value, number in with_number(graph, node, "Add"):
        yield from ((x, 2 * number) for x in error_functions(graph, value, number))
    yield from ((x, 1.0) for x in unit_gates(graph, node))


def unit_gates(graph: Forward, node: onnx.NodeProto) -> Iterator[str]:
    """Yield x where a node is a gate of x whose value runs from 0 to 1."""
    if node.op_type == "Sigmoid":
        yield node.input[0]
    if node.op_type == "HardSigmoid":
        at = Visit(graph, node, (), ReferenceOptions())
        if close(at.real("alpha", 0.2), 1 / 6) and close(at.real("beta", 0.5), 0.5):
            yield node.input[0]
    if node.op_type == "Tanh":
        inner = graph.producers.get(node.input[0])
        if inner is not None and inner.op_type == "Softplus":
            yield inner.input[0]


def error_functions(graph: Forward, name: str, scale: float) -> Iterator[str]:
    """Yield x where `name` is scale·erf(x/√2)."""
    for factor, value in multiples(graph, name):
        node = graph.producers.get(value)
        if node is not None and node.op_type == "Erf" and close(factor, scale):
            for inner, x in multiples(graph, node.input[0]):
                if close(inner, math.sqrt(0.5)):
                    yield x


def close(number: float, expected: float) -> bool:
    """Whether a number of a model, perhaps rounded to fp16, is meant to be `expected`."""
    return math.isclose(number, expected, rel_tol=2e-3)
