"""A forward node and the signal that reached it: all that a rule gets to see."""

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
import onnx_graphsurgeon as gs
from onnx import TensorProto
from onnx.helper import tensor_dtype_to_np_dtype

from onnx_deconv.operators.builder import Emitter, Operand, Signal
from onnx_deconv.operators.node import Forward, ForwardNode
from onnx_deconv.operators.registry import find
from onnx_deconv.operators.tables import RuleTable
from onnx_deconv.operators.traits import FILTER

# Computed constants that are small enough to be written into the companion, in elements.
_SMALL = 64
# What the companion calls its own values; a model's values of such names get others there.
_OWN_NAMES = ("seed", "reconstruction", "deconv/")


@dataclass(frozen=True)
class Tap:
    """A forward value that the companion reads.

    Attributes
    ----------
    kind
        ``switches`` (a MaxPool's indices), ``value``, or ``shape`` (of a value, int64).
    value
        The forward value it is of; for switches the MaxPool's first output.
    name
        Its name, both as an output of the forward model and as an input of the companion.
    """

    kind: str
    value: str
    name: str


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
    taps
        Filled by asking: the forward values that the rules read.
    weights
        Filled by asking: the initializers that the rules use.
    """

    op: Emitter
    semantics: Choices
    signals: Sequence[Signal | None]
    reached: Container[str]
    readers: Mapping[str, Sequence[gs.Node]]
    taps: dict[str, Tap] = field(default_factory=dict)
    weights: dict[str, TensorProto] = field(default_factory=dict)

    @property
    def signal(self) -> Signal:
        """The signal at the node's first output."""
        signal = self.signals[0]
        if signal is None:
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
            if FILTER in find(node.op, node.domain).traits:
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
        return self._raw(self.node.outputs[k].name)

    def input(self, i: int) -> Signal:
        """Return the forward value of input ``i`` in the signal's type.

        A weight is the forward model's own initializer; a value computed from weights is computed
        again; anything else becomes a tap.
        """
        return self._value(self.node.inputs[i].name)

    def output(self, k: int = 0) -> Signal:
        """Return the forward value of output ``k``, as :meth:`input` does."""
        return self._value(self.node.outputs[k].name)

    def raw(self, i: int) -> Signal:
        """Return the forward value of input ``i`` in its own type (indices, conditions)."""
        return self._raw(self.node.inputs[i].name)

    def switches(self) -> Signal:
        """Return the positions of the maxima that this MaxPool found: int64, flat over the whole input."""
        y = self.node.outputs[0].name
        own = [v.name for v in self.node.outputs[1:2] if v.name]
        name = own[0] if own else _free(self.model, f"{y}/switches")
        return self._tap(Tap("switches", y, name), self.model.type_of(y).dims, np.int64)

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
        name = self.node.inputs[i].name
        return self._tap(Tap("shape", name, _free(self.model, f"{name}/shape")), [len(known)], np.int64)

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

    def _value(self, name: str) -> Signal:
        value = self._raw(name)
        if self.model.type_of(name).dtype in (self.op.elem_type, TensorProto.UNDEFINED):
            return value
        return self.op.Cast(value, to=self.op.elem_type)

    def _raw(self, name: str) -> Signal:
        if name in self.model.tensors:
            tensor = TensorProto()
            tensor.CopyFrom(self.model.tensors[name])
            tensor.name = _free(self.model, f"{name}/weight") if name.startswith(_OWN_NAMES) else name
            self.weights[name] = tensor
            return gs.Variable(tensor.name)
        if name in self.model.constants:
            again = self._again(name)
            if again is not None:
                return again
        types = self.model.type_of(name)
        return self._tap(Tap("value", name, tap_name(self.model, name)), types.dims, _np_dtype(types.dtype))

    def _tap(self, tap: Tap, dims: Sequence[int | str | None] | None, dtype: Any) -> Signal:
        self.taps[tap.name] = tap
        return self.op.input(tap.name, dims, dtype)

    def _again(self, name: str) -> Signal | None:
        """Compute a constant in the companion as the forward model does, storing as little as possible."""
        shape, dtype = self.model.type_of(name).shape, self.model.type_of(name).dtype
        numbers = self.model.constant(name) if shape is None or None in shape else None
        shape = shape if numbers is None else numbers.shape
        node = self.model.producers[name]
        if node.op == "ConstantOfShape" and shape is not None and None not in shape:
            value = node.attrs.get("value")
            numbers = np.zeros(1, np.float32) if value is None else value.values
            return self.op.ConstantOfShape(list(shape), value=gs.Constant("value", numbers))
        inputs = [v.name for v in node.inputs]
        if node.op == "Cast" and "to" in node.attrs:
            return self.op.Cast(self._raw(inputs[0]), to=dtype)
        if node.op == "Transpose":
            return self.op.Transpose(self._raw(inputs[0]), perm=node.attrs.get("perm"))
        if node.op in ("Reshape", "Unsqueeze", "Squeeze", "Flatten") and shape is not None:
            return self.op.Reshape(self._raw(inputs[0]), list(shape))
        if node.op in ("Identity", "Dropout"):
            return self._raw(inputs[0])
        if node.op in ("Add", "Sub", "Mul", "Div", "Neg", "Sqrt", "Reciprocal", "DequantizeLinear"):
            axis = node.attrs.get("axis") if node.op == "DequantizeLinear" else None
            extra = {} if axis is None else {"axis": axis}
            return getattr(self.op, node.op)(*[self._raw(v) if v else None for v in inputs], **extra)
        numbers = self.model.constant(name)
        return self.op.constant(numbers) if numbers is not None and numbers.size <= _SMALL else None


def tap_name(model: Forward, value: str) -> str:
    """Name the forward output that carries a value: as the value, if no input or companion's value is."""
    other = value in model.inputs or value.startswith(_OWN_NAMES)
    return _free(model, f"{value}/value") if other else value


def _free(model: Forward, name: str) -> str:
    """Make a name longer until none of the model's values has it."""
    while name in model.producers or name in model.tensors or name in model.inputs:
        name += "_"
    return name


def _np_dtype(dtype: int) -> Any:
    return tensor_dtype_to_np_dtype(dtype) if dtype else np.float32
