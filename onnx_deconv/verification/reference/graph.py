"""The forward graph and its values: all that the reference knows of a model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from onnx_deconv.errors import ModelError, UnknownLayerError

Array = NDArray[np.float64]
Positions = NDArray[np.int64]


def is_real(value: NDArray[Any]) -> bool:
    """Whether numbers of this type carry a signal (bfloat16 is a void type to NumPy)."""
    return value.dtype.kind in "fV"


def carries(value: NDArray[Any]) -> bool:
    """Whether a signal passes through a value: a real one, or the whole numbers of quantised operators."""
    return is_real(value) or value.dtype in (np.int8, np.uint8, np.int16, np.uint16, np.int32)


@dataclass(frozen=True)
class Forward:
    """The forward graph with its values: what a rule may look at."""

    opset: int
    inputs: tuple[str, ...]
    weights: Mapping[str, onnx.TensorProto]
    values: Mapping[str, NDArray[Any]]
    producers: Mapping[str, onnx.NodeProto]
    depends: frozenset[str]
    """The values through which a signal can reach an explained input."""

    @classmethod
    def read(
        cls,
        model: onnx.ModelProto,
        values: Mapping[str, NDArray[Any]],
        inputs: Sequence[str] | None,
    ) -> "Forward":
        """Index the graph and find out which values depend on the explained inputs."""
        graph = model.graph
        weights = {tensor.name: tensor for tensor in graph.initializer}
        if inputs is None:
            free = [value.name for value in graph.input if value.name not in weights]
            inputs = [name for name in free if name in values and is_real(np.asarray(values[name]))]
        depends = set(inputs)
        for node in graph.node:
            subgraph = any(attribute.HasField("g") for attribute in node.attribute)
            if subgraph or not depends.isdisjoint(node.input):
                # A dynamic quantiser's scale is taken as given.
                outputs = node.output[:1] if node.op_type == "DynamicQuantizeLinear" else node.output
                depends.update(
                    name
                    for name in outputs
                    if name and (name not in values or carries(np.asarray(values[name])))
                )
        return cls(
            opset=max(o.version for o in model.opset_import if o.domain in ("", "ai.onnx")),
            inputs=tuple(inputs),
            weights=weights,
            values=values,
            producers={name: node for node in graph.node for name in node.output if name},
            depends=frozenset(depends),
        )

    def value(self, name: str) -> NDArray[Any]:
        """Return the forward value `name`: as computed, or a weight or a constant of the model."""
        if name in self.values:
            return np.asarray(self.values[name])
        if name in self.weights:
            return numpy_helper.to_array(self.weights[name])
        node = self.producers.get(name)
        if node is None:
            raise UnknownLayerError(name, [*self.values, *self.weights, *self.producers])
        if node.op_type == "Constant":
            return np.asarray(constant(node))
        raise ModelError(f"the forward value {name!r} is needed, but was not given")

    def scalar(self, name: str) -> float | None:
        """Return the one number that `name` holds, if it is constant."""
        if name in self.depends:
            return None
        value = self.value(name)
        return float(value.reshape(-1)[0]) if value.size == 1 else None


def constant(node: onnx.NodeProto) -> NDArray[Any]:
    """Return what a Constant node holds, in whichever attribute it stands."""
    (attribute,) = node.attribute
    held = onnx.helper.get_attribute_value(attribute)
    if attribute.name == "value":
        return numpy_helper.to_array(held)
    return np.asarray(held, np.float32 if "float" in attribute.name else None)
