"""Values of a graph that are the same in every run, and what is known of them without running it."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

from onnx_deconv.model.protos import stored_tensors
from onnx_deconv.operators import own_domain

if TYPE_CHECKING:
    from onnx_deconv.compiler.passes.rewriter import Dims, Rewriter

_FOLDED = {
    "Add", "Cast", "Concat", "Constant", "ConstantOfShape", "Div", "Expand", "Identity", "Max", "Min",
    "Mul", "Neg", "Reciprocal", "Relu", "Reshape", "Slice", "Sqrt", "Squeeze", "Sub", "Transpose",
    "Unsqueeze",
}  # fmt: skip
"""What a runtime computes when it loads a model, where only constants go in; DequantizeLinear it does not."""

_UNKNOWN: "Dims" = ("",)


class Constants:
    """The values that are the same in every run: stored, or made of such when the model is loaded.

    Attributes
    ----------
    stored
        Those that are stored and no caller can replace.
    dims
        The shapes of all.
    """

    def __init__(self, graph: "Rewriter") -> None:
        replaceable = {i.name for i in graph.graph.input}
        self.stored = {t.name: t for t in graph.graph.initializer if t.name not in replaceable}
        self.stored |= stored_tensors(graph.nodes)
        self.dims: dict[str, Dims] = {name: tuple(t.dims) for name, t in self.stored.items()}
        for node in graph.nodes:
            if node.op_type in _FOLDED and not own_domain(node.domain) and self._are_constants(node.input):
                self.dims.setdefault(node.output[0], graph.shape(node.output[0]) or _UNKNOWN)

    def _are_constants(self, values: Iterable[str]) -> bool:
        return all(value in self.dims for value in values)

    def sizes(self, value: str) -> list[int] | None:
        """Return a constant's sizes; ``None`` where they are not known, or it is none."""
        dims = self.dims.get(value, _UNKNOWN)
        sizes = [d for d in dims if isinstance(d, int)]
        return sizes if len(sizes) == len(dims) else None

    def numbers(self, value: str) -> NDArray[Any] | None:
        """Return the numbers of a constant that the graph itself holds."""
        tensor = self.stored.get(value)
        if tensor is None or tensor.data_location == TensorProto.EXTERNAL:
            return None
        return numpy_helper.to_array(tensor)
