"""A forward node and the signal that reached it: all that a rule gets to see."""

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import onnx_graphsurgeon as gs

from onnx_deconv.operators.builder import Emitter, Operand, Signal
from onnx_deconv.operators.forward_values import ForwardValues
from onnx_deconv.operators.node import ForwardNode
from onnx_deconv.operators.registry import traits_of
from onnx_deconv.operators.tables import RuleTable
from onnx_deconv.operators.traits import FILTER


class Choices(Protocol):
    """The choices of a companion by name, see :class:`onnx_deconv.semantics.Semantics`."""

    @property
    def table(self) -> RuleTable:
        """The rule table."""

    @property
    def activations(self) -> str:
        """``all`` or ``relu``."""

    @property
    def lrn(self) -> str:
        """``auto``, ``identity`` or ``gradient``."""

    @property
    def unpool(self) -> str:
        """``add`` or ``overwrite``."""

    @property
    def precision(self) -> str:
        """``float32`` or ``float16``."""


@dataclass
class Site(ForwardNode):
    """A forward node and the signal that reached it.

    Attributes
    ----------
    node, model
        The forward node, and the model that it belongs to.
    op
        Writes nodes of the companion: ``at.op.Relu(at.signal)``.
    semantics
        The choices made by name.
    signals
        One per forward output; ``None`` where no signal arrived.
    reached
        The values between the explained inputs and the explained value.
    readers
        The nodes that read each of them and lead to the explained value.
    values
        Gives the forward values that rules read.
    """

    op: Emitter
    semantics: Choices
    signals: Sequence[Signal | None]
    reached: Container[str]
    readers: Mapping[str, Sequence[gs.Node]]
    values: ForwardValues

    @property
    def signal(self) -> Signal:
        """The signal at the node's first output, where no other output has one.

        Raises
        ------
        RuleError
            If another has one: a rule for that reads ``signals``.
        """
        signal = self.signals[0]
        if signal is None or any(other is not None for other in self.signals[1:]):
            raise self.unsupported("only its first output can be explained")
        return signal

    def needs(self, i: int) -> bool:
        """Tell whether the signal for input ``i`` leads anywhere."""
        return i < len(self.node.inputs) and self.node.inputs[i].name in self.reached

    def is_first(self) -> bool:
        """Tell whether no filter stands between the explained inputs and this node."""
        seen: set[str] = set()
        values = [v.name for v in self.node.inputs if v.name in self.reached]
        while values:
            node = self.model.producers.get(values.pop())
            if node is None or node.outputs[0].name in seen:
                continue
            if FILTER in traits_of(node):
                return False
            seen.add(node.outputs[0].name)
            values += [v.name for v in node.inputs if v.name in self.reached]
        return True

    def only_reader(self) -> "Site | None":
        """Return the site of the only node that reads this node's output, where there is only one.

        Its signals are none of its own: it is there for what it computes.
        """
        readers = self.readers.get(self.node.outputs[0].name, ())
        return replace(self, node=readers[0], signals=()) if len(readers) == 1 else None

    def raw_output(self, k: int = 0) -> Signal:
        """Return the forward value of output ``k`` in its own type (indices)."""
        return self.values.raw(self.node.outputs[k].name)

    def input(self, i: int) -> Signal:
        """Return the forward value of input ``i`` in the signal's type.

        A weight is the forward model's own initializer; a value computed from weights is computed
        again; anything else becomes a tap.
        """
        return self.values.value(self.node.inputs[i].name)

    def output(self, k: int = 0) -> Signal:
        """Return the forward value of output ``k``, as :meth:`input` does."""
        return self.values.value(self.node.outputs[k].name)

    def raw(self, i: int) -> Signal:
        """Return the forward value of input ``i`` in its own type (indices, conditions)."""
        return self.values.raw(self.node.inputs[i].name)

    def switches(self) -> Signal:
        """Return the positions of the maxima that this MaxPool found: int64, flat over each image."""
        return self.values.switches(self.node)

    def size(self, i: int, axis: int) -> Operand:
        """Return the size of one axis of input ``i`` as a 1-element int64 value."""
        known = self.shape_of(i)[axis]
        if known is not None:
            return [known]
        return self.op.Slice(self.shape(i), [axis], [axis + 1], [0])

    def shape(self, i: int) -> Operand:
        """Return the shape of input ``i`` as a 1-D int64 value: a constant where it is known."""
        known = self.shape_of(i)
        if None not in known:
            return [d for d in known if d is not None]
        return self.values.shape(self.node.inputs[i].name, len(known))

    def batch_shape(self, i: int) -> Operand:
        """Return :meth:`shape`, for a node that keeps the batch: the signal tells its size."""
        batch, *rest = self.shape_of(i)
        if batch is not None or None in rest:
            return self.shape(i)
        return self.op.Concat(self.op.Shape(self.signal, end=1), rest, axis=0)

    def reshape(self, signal: Signal, i: int) -> Signal:
        """Give a signal the shape of input ``i``."""
        known = self.shape_of(i)
        if known.count(None) <= 1:
            return self.op.Reshape(signal, [-1 if d is None else d for d in known])
        return self.op.Reshape(signal, self.shape(i))

    def unbroadcast(self, signal: Signal, i: int) -> Signal:
        """Sum a signal of the output's shape over the axes along which input ``i`` was repeated."""
        of_input, of_output = self.shape_of(i), self.shape_of_output()
        lead = len(of_output) - len(of_input)
        ones = [lead + k for k, d in enumerate(of_input) if d == 1 and of_output[lead + k] != 1]
        if lead:
            signal = self.op.ReduceSum(signal, list(range(lead)), keepdims=0)
        return self.op.ReduceSum(signal, [k - lead for k in ones]) if ones else signal
