"""A forward node and the signal that reached it: all that a rule gets to see."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs
from onnx import TensorProto
from onnx.helper import tensor_dtype_to_np_dtype

from onnx_deconv.errors import RuleError
from onnx_deconv.model import Array, Model
from onnx_deconv.model.canonical import Shape
from onnx_deconv.operators.builder import Emitter, Operand, Signal
from onnx_deconv.semantics import Semantics

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


@dataclass
class Site:
    """A forward node and the signal that reached it.

    Attributes
    ----------
    node
        The forward node.
    op
        Writes nodes of the companion: ``at.op.Relu(at.signal)``.
    model
        The forward model.
    semantics
        The choices made by name.
    signals
        One per forward output; ``None`` where no signal arrived.
    needs
        ``at.needs(i)``: whether the signal for input ``i`` leads anywhere.
    taps
        Filled by asking: the forward values that the rules read.
    weights
        Filled by asking: the initializers that the rules use.
    """

    node: gs.Node
    op: Emitter
    model: Model
    semantics: Semantics
    signals: Sequence[Signal | None]
    needs: Callable[[int], bool]
    taps: dict[str, Tap] = field(default_factory=dict)
    weights: dict[str, TensorProto] = field(default_factory=dict)

    @property
    def signal(self) -> Signal:
        """The signal at the node's first output."""
        signal = self.signals[0]
        if signal is None:
            raise self.unsupported("only its first output can be explained")
        return signal

    def attr(self, name: str, default: Any = None) -> Any:
        """Return an attribute's Python value, or the default."""
        value = self.node.attrs.get(name, default)
        return value.decode() if isinstance(value, bytes) else value

    def param(self, name: str, input: int, default: Any = None) -> Any:  # noqa: A002
        """Return what is an attribute in old opsets and a constant input in new ones, as Python value.

        Raises
        ------
        RuleError
            If the input is there but depends on the model's inputs.
        """
        if name in self.node.attrs:
            return self.attr(name)
        if not self.has(input):
            return default
        numbers = self.constant(input)
        if numbers is None:
            raise self.unsupported(f"{name} (input {input}) is computed at run time")
        return numbers.tolist()

    def has(self, i: int) -> bool:
        """Tell whether the optional input ``i`` is given."""
        return i < len(self.node.inputs) and bool(self.node.inputs[i].name)

    def constant(self, i: int) -> Array | None:
        """Return the numbers of input ``i`` where no model input can change them, else ``None``."""
        return self.model.constant(self.node.inputs[i].name)

    def shape_of(self, i: int) -> Shape:
        """Return the shape of input ``i``; sizes known only at run time are ``None``.

        Raises
        ------
        RuleError
            If not even the number of axes is known.
        """
        return self._shape(self.node.inputs[i].name)

    def raw_output(self, k: int = 0) -> Signal:
        """Return the forward value of output ``k`` in its own type (indices)."""
        return self._raw(self.node.outputs[k].name)

    def shape_of_output(self, k: int = 0) -> Shape:
        """Return the shape of output ``k``, as :meth:`shape_of` does."""
        return self._shape(self.node.outputs[k].name)

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

    def spatial_axes(self) -> list[int]:
        """Return the axes after batch and channel."""
        return list(range(2, len(self.shape_of(0))))

    def axis(self, default: int = 0, name: str = "axis") -> int:
        """Return an axis attribute, counted from the front."""
        axis = int(self.attr(name, default))
        return axis if axis >= 0 else axis + len(self.shape_of(0))

    def unsupported(self, why: str) -> RuleError:
        """Make the error for a form of the operator that the rule does not support."""
        return RuleError(f"{self.node.op} {label(self.node)!r}: {why}")

    def _shape(self, name: str) -> Shape:
        shape = self.model.type_of(name).shape
        if shape is None:
            raise self.unsupported(f"the shape of {name!r} is unknown; give --input-shape")
        return shape

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


def tap_name(model: Model, value: str) -> str:
    """Name the forward output that carries a value: as the value, if no input or companion's value is."""
    other = value in model.inputs or value.startswith(_OWN_NAMES)
    return _free(model, f"{value}/value") if other else value


def _free(model: Model, name: str) -> str:
    """Make a name longer until none of the model's values has it."""
    while name in model.producers or name in model.tensors or name in model.inputs:
        name += "_"
    return name


def label(node: gs.Node) -> str:
    """Name a node as its owner would: by its name, else by its first output."""
    return str(node.name or node.outputs[0].name)


def _np_dtype(dtype: int) -> Any:
    return tensor_dtype_to_np_dtype(dtype) if dtype else np.float32
