"""See one activation where exporters wrote several nodes, by what the nodes compute.

Only the *view* of a model is rewritten, never the user's model: a group of nodes that computes one
activation of one value becomes one node of the standard's name for it, so that one network gets one
explanation whichever exporter wrote the file. The group's output keeps its name.

Exporters spell one function in many ways (``x·½·(1+erf(x/√2))`` has factors in any order, ``PRelu`` is
``relu(x) - a·relu(-x)`` in one file and a ``Where`` in another), so that groups are not compared with
spellings: they are evaluated on a line of numbers, and the activation is the one with those results.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

from onnx_deconv.operators import traits_of
from onnx_deconv.operators.activations import GRID, LINE, Activation, identified, slopes
from onnx_deconv.operators.registry import find
from onnx_deconv.operators.traits import (
    COMBINATION,
    DEQUANTISER,
    LIMIT,
    POINTWISE,
    QUANTISER,
    RECTIFIER,
    REDUCTION,
    REPEATS,
)

Array = NDArray[np.float64]
Constant = Callable[[str], NDArray[np.generic] | None]

_LONGEST = 16
"""Of a group, in nodes: the longest spelling known has 11."""
MOST_NUMBERS = 1 << 18
"""In a constant that takes part: a slope for each pixel, not a weight."""


@dataclass(frozen=True)
class Recognised:
    """What the view has gained beside nodes.

    Attributes
    ----------
    tensors
        Constants of the new nodes (a PRelu's slopes, a factor), by name.
    values
        New values (an activation without its factor): the value of the same type and shape, by name.
    results
        The names of the values that the activations compute.
    """

    tensors: dict[str, TensorProto] = field(default_factory=dict)
    values: dict[str, str] = field(default_factory=dict)
    results: set[str] = field(default_factory=set)


def recognise(graph: gs.Graph, constant: Constant) -> Recognised:
    """Replace spelled-out activations by one node each.

    Relu, LeakyRelu, PRelu, Elu, Selu, Celu, ThresholdedRelu, Clip, Softplus, Swish (SiLU), HardSwish,
    Gelu in both forms, Mish, and the gate HardSigmoid; quantisers inside a group round nothing. The
    four of the form x·gate(x) are recognised without their factor too, which becomes a Mul.

    Parameters
    ----------
    graph
        The view; changed in place.
    constant
        Gives the numbers of a value that is a constant, computed ones too; ``None`` for anything else and
        for what is too large to be a slope.
    """
    groups, gained, nodes = _Groups(graph, constant), Recognised(), list[gs.Node]()
    for node in graph.nodes:
        found = groups.activation(node) if COMBINATION in traits_of(node) else None
        if found is None:
            nodes.append(node)
            continue
        y = node.outputs[0]
        node.outputs.clear()
        written = _written(node.name, found[0], found[1], y, gained)
        groups.producers[y.name] = written[-1]
        gained.results.add(written[0].outputs[0].name)
        nodes += written
    graph.nodes.clear()
    graph.nodes.extend(nodes)
    return gained


def _written(
    name: str, x: gs.Variable, found: Activation, y: gs.Variable, gained: Recognised
) -> list[gs.Node]:
    """Write an activation of x that gives y, with its factor if it has one."""

    def constant(kind: str, numbers: NDArray[np.float32]) -> gs.Variable:
        gained.tensors[f"{y.name}/{kind}"] = numpy_helper.from_array(numbers, f"{y.name}/{kind}")
        return gs.Variable(f"{y.name}/{kind}")

    inputs = [x] if found.slope is None else [x, constant("slope", found.slope)]
    if found.scale == 1.0:
        return [gs.Node(found.op, name, found.attributes, inputs=inputs, outputs=[y])]
    activated = gs.Variable(f"{y.name}/activated")
    gained.values[activated.name] = y.name
    factor = constant("factor", np.asarray(found.scale, np.float32))
    return [
        gs.Node(found.op, f"{name}/activated", found.attributes, inputs=inputs, outputs=[activated]),
        gs.Node("Mul", name, inputs=[activated, factor], outputs=[y]),
    ]


class _Groups:
    """Groups of elementwise nodes that compute one value from one other."""

    def __init__(self, graph: gs.Graph, constant: Constant) -> None:
        self._constant = constant
        self.producers = {v.name: n for n in graph.nodes for v in n.outputs if v.name}
        self.order = {n.outputs[0].name: k for k, n in enumerate(graph.nodes) if n.outputs}
        self._numbers: dict[str, Array | None] = {}
        self._half: set[str] = set()

    def activation(self, last: gs.Node) -> tuple[gs.Variable, Activation] | None:
        """Find the activation that a node completes, from as far back as there is one, and its input.

        Of several inputs with the same activation (a quantiser between them) it is the nearest.
        """
        best = None
        for x, group in self.sources(last):
            if not self._may_be_input(x, group):
                continue
            found = self.identify(x, group)
            if found is None or (LIMIT in find(found.op).traits and self._is_statistic(x)):
                continue
            if best is None or not _same(found, best[1]):
                best = x, found
        return best

    def _may_be_input(self, x: gs.Variable, group: Sequence[gs.Node]) -> bool:
        """Tell whether a value may be an activation's input: no quantised number, of the result's shape."""
        last, readers = group[-1], [n for n in group if any(v.name == x.name for v in n.inputs)]
        if any(DEQUANTISER in traits_of(n) for n in readers):
            return False
        if x.shape and last.outputs[0].shape and len(x.shape) != len(last.outputs[0].shape):
            return False
        return len(group) > 1 or (LIMIT in traits_of(last) and RECTIFIER not in traits_of(last))

    def _is_statistic(self, x: gs.Variable) -> bool:
        """Tell whether a value follows from reductions alone: a variance that is kept from below zero."""
        front, seen = [x.name], 0
        while front:
            node, seen = self.producers.get(front.pop()), seen + 1
            if node is None or seen > _LONGEST:
                return False
            if REDUCTION not in traits_of(node):
                if not _computes(node):
                    return False
                front += self._open(node)
        return True

    def sources(self, last: gs.Node) -> Iterator[tuple[gs.Variable, list[gs.Node]]]:
        """Yield each single value that a node's result follows from, nearest first, with the nodes between.

        The values that are still open are followed back one by one, the latest first, until one is left.
        """
        group = [last]
        front = self._open(last)
        while front and len(group) <= _LONGEST:
            if len(front) == 1:
                (x,) = front.values()
                yield x, group[::-1]
            latest = max(front, key=lambda name: self.order.get(name, -1))
            node = self.producers.get(latest)
            if node is None or not _computes(node) or len(node.outputs) > 1:
                return
            group.append(node)
            del front[latest]
            front |= self._open(node)

    def _open(self, node: gs.Node) -> dict[str, gs.Variable]:
        """Return the inputs that are no constants, by name; quantisers' scales are constants to them."""
        inputs = node.inputs[:1] if QUANTISER in traits_of(node) else node.inputs
        return {v.name: v for v in inputs if v.name and self.numbers(v) is None}

    def numbers(self, value: gs.Tensor) -> Array | None:
        """Return the numbers of a small constant, computed ones too; ``None`` for anything else."""
        if value.name not in self._numbers:
            self._numbers[value.name] = self._find_numbers(value)
        return self._numbers[value.name]

    def _find_numbers(self, value: gs.Tensor) -> Array | None:
        known = self._constant(value.name)
        if known is None:
            return self._repeated(value)
        if known.dtype == np.float16:
            self._half.add(value.name)
        return _small(known)

    def _repeated(self, value: gs.Tensor) -> Array | None:
        """Return the one number with which a shape is filled that only the run tells, if a value is such."""
        node = self.producers.get(value.name)
        if node is None or REPEATS not in traits_of(node):
            return None
        given, *shape = node.inputs
        number = self.numbers(given) if shape else _evaluate(node, [np.ones(1, np.int64)])
        return number.reshape(()) if number is not None and number.size == 1 else None

    def identify(self, x: gs.Variable, group: Sequence[gs.Node]) -> Activation | None:
        """Evaluate a group of nodes, in order, and name the activation with those results."""
        constants = [c for n in group for v in n.inputs if v.name and (c := self.numbers(v)) is not None]
        half = any(v.name in self._half for n in group for v in n.inputs)
        if all(c.size == 1 for c in constants):
            y = self._run(x, group, GRID)
            thresholds = {float(c.reshape(-1)[0]) for c in constants}
            return None if y is None else identified(y, thresholds, half=half)
        rank = max(c.ndim for c in constants)
        y = self._run(x, group, LINE.reshape(-1, *[1] * rank))
        return None if y is None else slopes(y)

    def _run(self, x: gs.Variable, group: Sequence[gs.Node], line: Array) -> Array | None:
        values: dict[str, Array | None] = {x.name: line}
        for node in sorted(group, key=lambda n: self.order[n.outputs[0].name]):
            inputs = [values[v.name] if v.name in values else self.numbers(v) for v in node.inputs]
            values[node.outputs[0].name] = _evaluate(node, inputs)
        y = values[group[-1].outputs[0].name]
        return None if y is None else y.reshape(line.shape) if y.size == line.size else y


def _small(numbers: NDArray[np.generic]) -> Array | None:
    """Return a constant's numbers, a single one where all are the same."""
    if numbers.dtype.kind not in "fiub" or not 0 < numbers.size <= MOST_NUMBERS:
        return None
    first = numbers.reshape(-1)[:1]
    return np.asarray(first[0] if (numbers == first).all() else numbers, np.float64)


def _same(a: Activation, b: Activation) -> bool:
    slopes = [b"" if found.slope is None else found.slope.tobytes() for found in (a, b)]
    return (a.op, a.attributes, a.scale) == (b.op, b.attributes, b.scale) and slopes[0] == slopes[1]


def _evaluate(node: gs.Node, inputs: Sequence[Array | None]) -> Array | None:
    """Evaluate an elementwise node; ``None`` where its operands do not fit."""
    try:
        with np.errstate(all="ignore"):
            return np.asarray(find(node.op, node.domain).evaluate(node.attrs, *inputs), np.float64)
    except (TypeError, ValueError):
        return None


def _computes(node: gs.Node) -> bool:
    """Tell whether a node's result can be computed number by number."""
    entry = find(node.op, node.domain)
    return POINTWISE in entry.traits and entry.can_evaluate
