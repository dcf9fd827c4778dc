"""See one softmax where exporters wrote several nodes, as those for JAX do: in the view alone.

``exp(x - max x) / Σ exp(x - max x)``, with the largest number taken off or not, and ``x - log Σ exp x``, by
three nodes or by one reduction. Over several axes, as over all rows and columns of a map, the standard has
none: there the nodes stay, and only what they come to is told.
"""

from collections.abc import Callable
from collections.abc import Set as AbstractSet
from typing import Any, NamedTuple

import onnx_graphsurgeon as gs
from numpy.typing import NDArray

Constant = Callable[[str], NDArray[Any] | None]
_LAST_AXIS_ONLY_BEFORE = 13
"""The opset before which a softmax goes over all axes from its own on."""


def recognise(graph: gs.Graph, constant: Constant, opset: int) -> dict[str, str]:
    """Replace the last node of each softmax that is spelled out by the standard's.

    Parameters
    ----------
    graph
        The view; changed in place. Nodes that only the softmax needed stay.
    constant
        Gives the numbers of a value that is a constant; ``None`` for anything else.
    opset
        The model's.

    Returns
    -------
    dict
        The softmaxes over several axes, which are not replaced: the value that each goes over, by its result.
    """
    spelled = _Spelled({v.name: n for n in graph.nodes for v in n.outputs if v.name}, constant)
    several: dict[str, str] = {}
    for node in graph.nodes:
        match = spelled.softmax(node)
        rank = None if match is None else len(match.x.shape or ())
        if match is None or not rank:
            continue
        if len(match.axes) > 1:
            several[node.outputs[0].name] = match.x.name
            continue
        (axis,) = match.axes
        if opset < _LAST_AXIS_ONLY_BEFORE and axis != rank - 1:
            continue
        node.op, node.attrs, node.inputs = match.op, {"axis": axis}, [match.x]
    return several


class _Match(NamedTuple):
    op: str
    x: gs.Variable
    axes: frozenset[int]


class _Reduced(NamedTuple):
    of: gs.Tensor
    axes: frozenset[int]


_SAME_NUMBERS = {"Cast", "Identity"}
_SHAPED = {"Expand", "Reshape", "Unsqueeze"}
"""What brings the sum, or the largest number, of all classes back beside each of them."""


class _Spelled:
    """The nodes of a graph, and what they are of a softmax."""

    def __init__(self, producers: dict[str, gs.Node], constant: Constant) -> None:
        self._producers, self._constant = producers, constant

    def softmax(self, node: gs.Node) -> _Match | None:
        """Find the softmax, or its logarithm, that a node completes."""
        if len(node.inputs) != 2:  # noqa: PLR2004
            return None
        first, second = node.inputs
        if node.op == "Div":
            return self._quotient(first, second)
        if node.op == "Mul":
            for power, inverse in ((first, second), (second, first)):
                below = self._made(inverse, "Reciprocal")
                if below is not None and (match := self._quotient(power, below.inputs[0])) is not None:
                    return match
        if node.op == "Sub" and (whole := self._reduced(second, first, "ReduceLogSumExp")) is not None:
            return self._of(first, whole.axes, "LogSoftmax") if whole.of.name == first.name else None
        if node.op == "Sub" and (log := self._made(second, "Log", _SHAPED)) is not None:
            summed = self._reduced(log.inputs[0], first, "ReduceSum")
            power = None if summed is None else self._made(summed.of, "Exp")
            if summed is not None and power is not None and power.inputs[0].name == first.name:
                return self._of(first, summed.axes, "LogSoftmax")
        return None

    def _quotient(self, power: gs.Tensor, total: gs.Tensor) -> _Match | None:
        exp, summed = self._made(power, "Exp"), self._reduced(total, power, "ReduceSum")
        if exp is None or summed is None or summed.of.name != power.name:
            return None
        return self._of(exp.inputs[0], summed.axes, "Softmax")

    def _of(self, exponent: gs.Tensor, axes: frozenset[int], op: str) -> _Match:
        """Return the softmax of what the largest number is taken off, if it is."""
        less = self._made(exponent, "Sub")
        if less is not None:
            largest = self._reduced(less.inputs[1], less.inputs[0], "ReduceMax")
            if largest is not None and (largest.of.name, largest.axes) == (less.inputs[0].name, axes):
                exponent = less.inputs[0]
        return _Match(op, exponent, axes)

    def _made(self, value: gs.Tensor, op: str, also: AbstractSet[str] = frozenset()) -> gs.Node | None:
        """Return the node of an operator that makes a value; what is allowed may come after it."""
        node = self._producers.get(value.name)
        while node is not None and node.op in _SAME_NUMBERS | also:
            node = self._producers.get(node.inputs[0].name)
        return node if node is not None and node.op == op else None

    def _reduced(self, value: gs.Tensor, beside: gs.Tensor, op: str) -> _Reduced | None:
        """Return what a value is the sum or the largest of, if it stands beside each number of its row."""
        node = self._made(value, op, _SHAPED)
        if node is None or not beside.shape:
            return None
        of, axes = node.inputs[0], self._axes(node, len(beside.shape))
        while axes and _keeps_axes(node) and (node := self._made(of, op)) is not None:  # one axis at a time
            more = self._axes(node, len(beside.shape))
            of, axes = node.inputs[0], axes | more if more and _keeps_axes(node) else frozenset[int]()
        if not axes:
            return None
        while (last := self._producers[value.name]).op == "Expand" or last.op in _SAME_NUMBERS:
            value = last.inputs[0]
        shape = value.shape or ()
        fits = len(shape) == len(beside.shape) and all(shape[axis] == 1 for axis in axes)
        others = [pair for k, pair in enumerate(zip(shape, beside.shape, strict=False)) if k not in axes]
        same = all(a == b or not (isinstance(a, int) and isinstance(b, int)) for a, b in others)
        return _Reduced(of, axes) if fits and same else None

    def _axes(self, node: gs.Node, rank: int) -> frozenset[int]:
        """Return the axes that a reduction goes over; none where that is not known."""
        axes = node.attrs.get("axes")
        if axes is None and len(node.inputs) > 1:
            axes = self._constant(node.inputs[1].name)
        return frozenset() if axes is None else frozenset(int(axis) % rank for axis in axes)


def _keeps_axes(node: gs.Node) -> bool:
    return bool(node.attrs.get("keepdims", 1))
