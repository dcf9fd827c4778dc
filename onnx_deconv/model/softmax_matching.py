"""See one softmax where exporters wrote several nodes, as those for JAX do: in the view alone.

``exp(x - max x) / Σ exp(x - max x)``, with the largest number taken off or not, and ``x - log Σ exp x``, by
three nodes or by one reduction.
"""

from collections.abc import Callable
from collections.abc import Set as AbstractSet
from typing import Any, NamedTuple

import onnx_graphsurgeon as gs
from numpy.typing import NDArray

Constant = Callable[[str], NDArray[Any] | None]
_LAST_AXIS_ONLY_BEFORE = 13
"""The opset before which a softmax goes over all axes from its own on."""


def recognise(graph: gs.Graph, constant: Constant, opset: int) -> set[str]:
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
    set of str
        The names of the values that the softmaxes compute.
    """
    spelled = _Spelled({v.name: n for n in graph.nodes for v in n.outputs if v.name}, constant)
    found = set[str]()
    for node in graph.nodes:
        match = spelled.softmax(node)
        rank = None if match is None else len(match.x.shape or ())
        if match is None or not rank:
            continue
        axis = match.axis % rank
        if opset < _LAST_AXIS_ONLY_BEFORE and axis != rank - 1:
            continue
        node.op, node.attrs, node.inputs = match.op, {"axis": axis}, [match.x]
        found.add(node.outputs[0].name)
    return found


class _Match(NamedTuple):
    op: str
    x: gs.Variable
    axis: int


class _Reduced(NamedTuple):
    of: gs.Tensor
    axis: int


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
            return self._of(first, whole.axis, "LogSoftmax") if whole.of.name == first.name else None
        if node.op == "Sub" and (log := self._made(second, "Log", _SHAPED)) is not None:
            summed = self._reduced(log.inputs[0], first, "ReduceSum")
            power = None if summed is None else self._made(summed.of, "Exp")
            if summed is not None and power is not None and power.inputs[0].name == first.name:
                return self._of(first, summed.axis, "LogSoftmax")
        return None

    def _quotient(self, power: gs.Tensor, total: gs.Tensor) -> _Match | None:
        exp, summed = self._made(power, "Exp"), self._reduced(total, power, "ReduceSum")
        if exp is None or summed is None or summed.of.name != power.name:
            return None
        return self._of(exp.inputs[0], summed.axis, "Softmax")

    def _of(self, exponent: gs.Tensor, axis: int, op: str) -> _Match:
        """Return the softmax of what the largest number is taken off, if it is."""
        less = self._made(exponent, "Sub")
        if less is not None:
            largest = self._reduced(less.inputs[1], less.inputs[0], "ReduceMax")
            if largest is not None and (largest.of.name, largest.axis) == (less.inputs[0].name, axis):
                exponent = less.inputs[0]
        return _Match(op, exponent, axis)

    def _made(self, value: gs.Tensor, op: str, also: AbstractSet[str] = frozenset()) -> gs.Node | None:
        """Return the node of an operator that makes a value; what is allowed may come after it."""
        node = self._producers.get(value.name)
        while node is not None and node.op in _SAME_NUMBERS | also:
            node = self._producers.get(node.inputs[0].name)
        return node if node is not None and node.op == op else None

    def _reduced(self, value: gs.Tensor, beside: gs.Tensor, op: str) -> _Reduced | None:
        """Return what a value is the sum or the largest of, if it stands beside each number of its row."""
        node = self._made(value, op, _SHAPED)
        axis = None if node is None else self._axis(node)
        if node is None or axis is None or not beside.shape:
            return None
        axis %= len(beside.shape)
        while (last := self._producers[value.name]).op == "Expand" or last.op in _SAME_NUMBERS:
            value = last.inputs[0]
        shape = value.shape or ()
        fits = len(shape) == len(beside.shape) and shape[axis] == 1
        others = [pair for k, pair in enumerate(zip(shape, beside.shape, strict=False)) if k != axis]
        same = all(a == b or not (isinstance(a, int) and isinstance(b, int)) for a, b in others)
        return _Reduced(node.inputs[0], axis) if fits and same else None

    def _axis(self, node: gs.Node) -> int | None:
        """Return the only axis that a reduction goes over; ``None`` of several."""
        axes = node.attrs.get("axes")
        if axes is None and len(node.inputs) > 1:
            axes = self._constant(node.inputs[1].name)
        return None if axes is None or len(axes) != 1 else int(axes[0])
