"""Write the companion graph: ``op.Relu(x)`` appends a Relu node and returns its output.

The only place where graphs are built and exported. One opset for all companions: 18 is the oldest
that has every operator the rules need (ScatterElements that adds, Split by number), so the widest
range of runtimes loads the result, and the CUDA provider has all its kernels.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, TypeAlias

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, ValueInfoProto

from onnx_deconv.errors import RuleError

OPSET, IR_VERSION = 18, 8
BACKWARD = "deconv/"
"""What names of a companion's nodes and values begin with; then come the forward node's name, and their own.

In an explain graph the user's nodes have other names, so that these tell the backward pass.
"""

Signal: TypeAlias = gs.Tensor
"""A value of the companion graph."""

Operand: TypeAlias = Signal | NDArray[Any] | Sequence[int] | float | None
"""What an operator takes: a value, integers (int64), a number of the signal's type, or nothing."""


class Emitter:
    """Builds one graph; an operator's name is a method that appends a node of it.

    A node that repeats an earlier one (same operator, inputs and attributes) is not written twice:
    the earlier one's outputs are returned. Attributes get the type that the operator's schema
    says; those that are ``None`` or equal the default are left out.

    Parameters
    ----------
    dtype
        The signal's element type; plain numbers become scalars of it.

    Attributes
    ----------
    opset
        The oldest opset that has all nodes so far, :data:`OPSET` at least.

    Examples
    --------
    >>> op = Emitter(np.dtype(np.float32))
    >>> y = op.Relu(op.Mul(op.input("x", (1, 3)), 2.0))
    """

    def __init__(self, dtype: np.dtype[Any]) -> None:
        self.dtype = dtype
        self.opset = OPSET
        self.origin = ""
        self.nodes: list[gs.Node] = []
        self.inputs: dict[str, gs.Variable] = {}
        self._known: dict[object, list[gs.Variable]] = {}
        self._constants: dict[object, gs.Constant] = {}

    @property
    def elem_type(self) -> int:
        """The signal's element type as ONNX counts them."""
        return int(onnx.helper.np_dtype_to_tensor_dtype(self.dtype))

    def take(self, operator: str, elem_type: int, attributes: Collection[str] = ()) -> None:
        """Raise the opset to the first whose operator takes a first input of some type, and attributes."""
        text = f"tensor({TensorProto.DataType.Name(elem_type).lower()})"
        newest = onnx.defs.onnx_opset_version()
        schemas = ((k, onnx.defs.get_schema(operator, k, "")) for k in range(self.opset, newest + 1))
        takes = (k for k, s in schemas if text in s.inputs[0].types and {*attributes} <= set(s.attributes))
        self.opset = next(takes, newest)

    def input(self, name: str, shape: Sequence[int | str | None] | None, dtype: Any = None) -> gs.Variable:
        """Return the graph's input of that name, declaring it on first use."""
        if name not in self.inputs:
            self.inputs[name] = gs.Variable(name, dtype=dtype or self.dtype, shape=shape)
        return self.inputs[name]

    def constant(self, numbers: NDArray[Any]) -> gs.Constant:
        """Return a small constant, stored once however often it is used."""
        key = (numbers.dtype.str, numbers.shape, numbers.tobytes())
        if key not in self._constants:
            name = f"{BACKWARD}constant_{len(self._constants)}"
            self._constants[key] = gs.Constant(name, np.ascontiguousarray(numbers).reshape(numbers.shape))
        return self._constants[key]

    def __getattr__(self, operator: str) -> Callable[..., Any]:
        if not operator[0].isupper():
            raise AttributeError(operator)

        def append(*operands: Operand, outputs: int = 1, **attributes: Any) -> Any:
            values = self._append(operator, [self._value(o) for o in operands], outputs, attributes)
            return values[0] if outputs == 1 else values

        return append

    def _append(
        self, operator: str, inputs: list[Signal], outputs: int, attributes: dict[str, Any]
    ) -> list[gs.Variable]:
        typed = _typed(operator, attributes, self.origin, self.opset)
        key = (operator, tuple(v.name for v in inputs), outputs, repr(sorted(typed.items())))
        if key not in self._known:
            name = f"{BACKWARD}{self.origin}/{operator}_{len(self.nodes)}"
            self._known[key] = [gs.Variable(f"{name}:{k}" if k else name) for k in range(outputs)]
            node = gs.Node(operator, name, typed, inputs=inputs, outputs=self._known[key])
            self.nodes.append(node)
        return self._known[key]

    def _value(self, operand: Operand) -> Signal:
        if isinstance(operand, gs.Tensor):
            return operand
        if operand is None:
            return gs.Variable.empty()
        if isinstance(operand, float):
            return self.constant(np.asarray(operand, self.dtype))
        if isinstance(operand, np.ndarray | np.generic):
            return self.constant(np.asarray(operand))
        return self.constant(np.asarray(operand, np.int64))

    def sum(self, signals: Sequence[Signal]) -> Signal:
        """Add signals that meet."""
        return signals[0] if len(signals) == 1 else self.Sum(*signals)

    def scatter_add(self, empty: Signal, positions: Signal, signal: Signal, axis: int = 0) -> Signal:
        """Add a signal to positions along an axis; in float32, as the CPU provider cannot add float16."""
        wide = [self.widened(value) for value in (empty, signal)]
        added = self.ScatterElements(wide[0], positions, wide[1], axis=axis, reduction="add")
        return self.narrowed(added)

    def widened(self, signal: Signal) -> Signal:
        """Return a signal as float32."""
        return signal if self.dtype == np.float32 else self.Cast(signal, to=TensorProto.FLOAT)

    def narrowed(self, wide: Signal) -> Signal:
        """Return float32 numbers in the signal's type."""
        return wide if self.dtype == np.float32 else self.Cast(wide, to=self.elem_type)

    def count(self, sizes: Operand, axes: Iterable[int]) -> Signal:
        """Return how many positions some axes have, of a 1-D int64 value of sizes, in the signal's type.

        Ones are added up on the device that has the signal: arithmetic on the sizes, which the CPU has, would
        have to be copied to it.
        """
        lines = [self.ones(self.Slice(sizes, [axis], [axis + 1], [0])) for axis in axes]
        first, *others = [self.ReduceSum(line, [0], keepdims=0) for line in lines]
        for other in others:
            first = self.Mul(first, other)
        return first

    def ones(self, shape: Operand) -> Signal:
        """Return a tensor of ones of the signal's type."""
        return self.filled(shape, 1.0)

    def filled(self, shape: Operand, number: float, dtype: Any = None) -> Signal:
        """Return a tensor of one number; made at run time, so that no file stores it."""
        one = np.full(1, number, dtype or self.dtype)
        return self.ConstantOfShape(shape, value=gs.Constant("value", one))

    def export(
        self,
        outputs: Sequence[tuple[str, Signal, ValueInfoProto]],
        weights: Iterable[TensorProto],
        name: str,
    ) -> ModelProto:
        """Export the nodes that the outputs need.

        Parameters
        ----------
        outputs
            (name, value, type) of each output.
        weights
            Initializers that the nodes refer to by name; those that no node uses are left out.
        name
            The graph's name.

        Returns
        -------
        ModelProto
            A model at opset :data:`OPSET`, domain ``""`` only.
        """
        # Not by the method: outputs that carry one value are still two outputs.
        results = [gs.Variable(f"{BACKWARD}output/{k}") for k in range(len(outputs))]
        for result, (output, value, _) in zip(results, outputs, strict=True):
            name = f"{BACKWARD}output/{output}"
            self.nodes.append(gs.Node("Identity", name, inputs=[value], outputs=[result]))
        nodes = _live(self.nodes, results)
        used = {v.name for n in nodes for v in n.inputs}
        inputs = [v for v in self.inputs.values() if v.name in used or v.name == "seed"]
        for result, (output, _, _) in zip(results, outputs, strict=True):
            result.name = output
        graph = gs.Graph(nodes, inputs, results, name=name, opset=OPSET)
        proto = gs.export_onnx(graph, do_type_check=False)  # noqa: TID251  (this is the one place)
        proto.ir_version = IR_VERSION
        proto.graph.initializer.extend(w for w in weights if w.name in used)
        del proto.graph.value_info[:], proto.graph.output[:]
        proto.graph.output.extend(info for _, _, info in outputs)
        return proto


def origin(node: str) -> str:
    """Return which forward node a companion's node belongs to, by the latter's name."""
    return node.removeprefix(BACKWARD).rpartition("/")[0]


def _typed(operator: str, attributes: dict[str, Any], origin: str, opset: int) -> dict[str, Any]:
    """Give attributes the types that the operator's schema says, and leave out defaults."""
    try:
        schema = onnx.defs.get_schema(operator, opset, "")
    except onnx.defs.SchemaError:
        raise RuleError(f"{operator} is no operator of opset {opset} (rule for {origin!r})") from None
    typed = {}
    for name, given in attributes.items():
        if name not in schema.attributes:
            known = ", ".join(schema.attributes) or "none"
            raise RuleError(f"{operator} has no attribute {name!r} but {known} (rule for {origin!r})")
        declared = schema.attributes[name]
        number = _CASTS.get(declared.type)
        if given is None:
            continue
        value = number(given) if number else given
        default = (
            onnx.helper.get_attribute_value(declared.default_value) if declared.default_value.name else None
        )
        if isinstance(default, bytes):
            default = default.decode()
        if isinstance(value, gs.Tensor) or value != default:
            typed[name] = value
    return typed


_Type = onnx.defs.OpSchema.AttrType
_CASTS: dict[_Type, Callable[[Any], Any]] = {
    _Type.FLOAT: float,
    _Type.INT: int,
    _Type.FLOATS: lambda v: [float(x) for x in v],
    _Type.INTS: lambda v: [int(x) for x in v],
}


def _live(nodes: list[gs.Node], results: Sequence[gs.Variable]) -> list[gs.Node]:
    """Keep the nodes that some result depends on."""
    wanted, live = {v.name for v in results}, []
    for node in reversed(nodes):
        if any(v.name in wanted for v in node.outputs):
            live.append(node)
            wanted.update(v.name for v in node.inputs)
    return live[::-1]
