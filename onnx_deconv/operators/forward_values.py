"""The forward values that a companion reads: weights that both share, and taps."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs
from onnx import TensorProto
from onnx.helper import tensor_dtype_to_np_dtype

from onnx_deconv.operators.builder import BACKWARD, Emitter, Operand, Signal
from onnx_deconv.operators.node import Forward

# Computed constants that are small enough to be written into the companion, in elements.
_SMALL = 64
# What the companion calls its own values; a model's values of such names get others there.
_OWN_NAMES = ("seed", "reconstruction", BACKWARD)


@dataclass(frozen=True)
class Tap:
    """A forward value that the companion reads.

    Attributes
    ----------
    kind
        ``switches`` (a MaxPool's indices, counted from the first position of each image), ``value``, or
        ``shape`` (of a value, int64).
    value
        The forward value it is of; for switches the MaxPool's first output.
    name
        Its name, both as an output of the forward model and as an input of the companion.
    """

    kind: str
    value: str
    name: str


@dataclass
class ForwardValues:
    """Gives the companion the forward model's values, and keeps account of what it reads.

    Attributes
    ----------
    model
        The forward model.
    op
        Writes nodes of the companion.
    taps
        Filled by asking: the forward values that become inputs of the companion, by name.
    weights
        Filled by asking: the initializers that both models share, by name.
    reads
        How often a forward value was asked for that depends on the image.
    """

    model: Forward
    op: Emitter
    taps: dict[str, Tap] = field(default_factory=dict)
    weights: dict[str, TensorProto] = field(default_factory=dict)
    reads: int = 0

    def switches(self, pool: gs.Node) -> Signal:
        """Return the positions of the maxima that a MaxPool found: int64, flat over each image."""
        y = pool.outputs[0].name
        name = f"{y}/switches"
        if not self._is_computed(pool, name):
            name = _free(self.model, name)
        return self._tap(Tap("switches", y, name), self.model.type_of(y).dims, np.int64)

    def _is_computed(self, pool: gs.Node, name: str) -> bool:
        """Tell whether a model computes a pool's switches already, under that name."""
        own = [v.name for v in pool.outputs[1:]]
        maker = self.model.producers.get(name)
        if maker is None or not own:
            return False
        return maker is pool or (maker.op in ("Mod", "Sub") and maker.inputs[0].name == own[0])

    def shape(self, name: str, rank: int) -> Operand:
        """Return the shape of a value as a 1-D int64 value."""
        return self._tap(Tap("shape", name, _free(self.model, f"{name}/shape")), [rank], np.int64)

    def value(self, name: str) -> Signal:
        """Return a forward value in the signal's type.

        A weight is the forward model's own initializer; a value computed from weights is computed again;
        anything else becomes a tap.
        """
        value = self.raw(name)
        if self.model.type_of(name).dtype in (self.op.elem_type, TensorProto.UNDEFINED):
            return value
        return self.op.Cast(value, to=self.op.elem_type)

    def raw(self, name: str) -> Signal:
        """Return a forward value in its own type (indices, conditions)."""
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
        self.reads += tap.kind == "value"
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
            self.op.take(node.op, self.model.type_of(inputs[0]).dtype)
            return self.op.Cast(self.raw(inputs[0]), to=dtype)
        if node.op == "Transpose":
            return self.op.Transpose(self.raw(inputs[0]), perm=node.attrs.get("perm"))
        if node.op in ("Reshape", "Unsqueeze", "Squeeze", "Flatten") and shape is not None:
            return self.op.Reshape(self.raw(inputs[0]), list(shape))
        if node.op in ("Identity", "Dropout"):
            return self.raw(inputs[0])
        if node.op in ("Add", "Sub", "Mul", "Div", "Neg", "Sqrt", "Reciprocal", "DequantizeLinear"):
            extra = {}
            if node.op == "DequantizeLinear":
                extra = {k: v for k, v in node.attrs.items() if k == "axis" or (k == "block_size" and v)}
                self.op.take(node.op, self.model.type_of(inputs[0]).dtype, extra)
            given = [self.raw(v) if v else None for v in inputs]
            return getattr(self.op, node.op)(*given, **extra)
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
