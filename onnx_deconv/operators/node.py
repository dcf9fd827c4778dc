"""A node of the forward model, for reading: its attributes, inputs and shapes, whatever the opset."""

from collections.abc import Container, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import onnx_graphsurgeon as gs
from numpy.typing import NDArray
from onnx import TensorProto

from onnx_deconv.errors import RuleError, sizes_of
from onnx_deconv.operators.value_type import Shape, ValueType


class Forward(Protocol):
    """What an operator's entry may ask of the forward model."""

    @property
    def opset(self) -> int:
        """The version of the standard operators that it uses."""

    @property
    def producers(self) -> Mapping[str, gs.Node]:
        """The node that computes a value, by the value's name."""

    @property
    def tensors(self) -> Mapping[str, TensorProto]:
        """Weights and other stored constants, by name."""

    @property
    def constants(self) -> Container[str]:
        """Names of the values that no input can change."""

    @property
    def recognised(self) -> Container[str]:
        """Names of the values that stand for an activation written as several nodes."""

    @property
    def inputs(self) -> list[str]:
        """Names of the inputs that a caller feeds."""

    def type_of(self, value: str) -> ValueType:
        """Element type and shape of a value, as far as they are known."""

    def constant(self, value: str) -> NDArray[Any] | None:
        """Return the numbers of a value that does not depend on the inputs, else ``None``."""


@dataclass
class ForwardNode:
    """A node of the forward model.

    Attributes
    ----------
    node
        The node.
    model
        The forward model.
    """

    node: gs.Node
    model: Forward

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
            sizes = self._open_sizes()
            perhaps = f"; if it follows from the size of {sizes[0]!r}, {sizes_of(*sizes)}" if sizes else ""
            raise self.unsupported(f"{name} (input {input}) is computed at run time{perhaps}")
        return numbers.tolist()

    def has(self, i: int) -> bool:
        """Tell whether the optional input ``i`` is given."""
        return i < len(self.node.inputs) and bool(self.node.inputs[i].name)

    def constant(self, i: int) -> NDArray[Any] | None:
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

    def shape_of_output(self, k: int = 0) -> Shape:
        """Return the shape of output ``k``, as :meth:`shape_of` does."""
        return self._shape(self.node.outputs[k].name)

    def spatial_axes(self) -> list[int]:
        """Return the axes after batch and channel."""
        return list(range(2, len(self.shape_of(0))))

    def axis(self, default: int = 0) -> int:
        """Return the attribute ``axis``, counted from the front."""
        axis = int(self.attr("axis", default))
        return axis if axis >= 0 else axis + len(self.shape_of(0))

    def unsupported(self, why: str) -> RuleError:
        """Make the error for a form of the operator that the rule does not support."""
        return RuleError(f"{self.node.op} {label(self.node)!r}: {why}")

    def _shape(self, name: str) -> Shape:
        shape = self.model.type_of(name).shape
        if shape is None:
            raise self._of_unknown_shape(name)
        return shape

    def _of_unknown_shape(self, name: str) -> RuleError:
        """Make the error for a value of unknown shape, which a node in training mode may be the reason of."""
        from onnx_deconv.operators.training import refuse_training  # noqa: PLC0415 - it reads nodes

        first, sizes = self._first_unknown(name), self._open_sizes()
        if first is not None:
            refuse_training(first)
        why = f"the shape of {name!r} is unknown"
        if sizes:
            return self.unsupported(f"{why}; the size of {sizes[0]!r} may tell it: {sizes_of(*sizes)}")
        made = "" if first is None else f", as nothing tells what {first.node.op} {label(first.node)!r} makes"
        return self.unsupported(f"{why}{made}, though all inputs' sizes are known: does onnxruntime run it?")

    def _first_unknown(self, name: str) -> "ForwardNode | None":
        """Return the first node on the way to a value of unknown shape whose result has none either."""
        found = None
        while (node := self.model.producers.get(name)) is not None:
            found = ForwardNode(node, self.model)
            before = [v.name for v in node.inputs if v.name and self.model.type_of(v.name).shape is None]
            if not before:
                break
            name = before[0]
        return found

    def _open_sizes(self) -> tuple[str, Shape | None] | None:
        """Return the first input whose sizes the file leaves open, and what is known of them."""
        shapes = ((name, self.model.type_of(name).shape) for name in self.model.inputs)
        return next(((name, shape) for name, shape in shapes if shape is None or None in shape), None)

    def numbers(self, name: str, input: int) -> list[Any] | None:  # noqa: A002
        """Return the numbers of an attribute, or of the constant input that it became, as a flat list.

        ``None`` where neither is given, or the input is computed at run time.
        """
        if name in self.node.attrs:
            given = self.node.attrs[name]
            return list(given) if isinstance(given, list | tuple) else [given]
        found = self.constant(input) if self.has(input) else None
        return None if found is None or not found.size else list(found.ravel().tolist())


def label(node: gs.Node) -> str:
    """Name a node as its owner would: by its name, else by its first output."""
    return str(node.name or node.outputs[0].name)
