"""One node of the forward graph, and the signals that arrived at it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from onnx_deconv.errors import RuleError
from onnx_deconv.verification.reference.graph import Array, Forward
from onnx_deconv.verification.reference.options import ReferenceOptions


@dataclass(frozen=True)
class Visit:
    """One node of the forward graph, and the signals that arrived at its outputs."""

    graph: Forward
    node: onnx.NodeProto
    arrived: Sequence[Array | None]
    options: ReferenceOptions

    @property
    def operator(self) -> str:
        """The operator, with its domain unless that is the standard's."""
        domain = "" if self.node.domain in ("", "ai.onnx") else f"{self.node.domain}."
        return domain + self.node.op_type

    @property
    def reached(self) -> bool:
        """Whether there is a signal to send back, and an input to send it to."""
        inner = any(attribute.HasField("g") for attribute in self.node.attribute)
        leads = inner or not self.graph.depends.isdisjoint(self.node.input)
        return leads and any(signal is not None for signal in self.arrived)

    @property
    def signal(self) -> Array:
        """The signal at the first output; no other output may have one."""
        first, *others = self.arrived
        if first is None or any(other is not None for other in others):
            raise self.unsupported("explaining one of its secondary outputs")
        return first

    def unsupported(self, what: str) -> RuleError:
        """Return the error that says which form of this node is unsupported."""
        return RuleError(
            f"the reference does not support {what}: "
            f"{self.operator} {self.node.name or self.node.output[0]!r}"
        )

    def given(self, i: int) -> bool:
        """Whether the node has an input `i`."""
        return i < len(self.node.input) and bool(self.node.input[i])

    def raw(self, i: int) -> NDArray[Any]:
        """Return the forward value at input `i`, in the model's own type."""
        return self.graph.value(self.node.input[i])

    def x(self, i: int = 0) -> Array:
        """Return the forward value at input `i` in float64."""
        return self.raw(i).astype(np.float64)

    def shape(self, i: int = 0) -> tuple[int, ...]:
        """Return the shape of input `i`."""
        return self.raw(i).shape

    def attr(self, name: str, default: Any = None) -> Any:
        """Return an attribute of the node."""
        for attribute in self.node.attribute:
            if attribute.name == name:
                held = onnx.helper.get_attribute_value(attribute)
                return held.decode() if isinstance(held, bytes) else held
        return default

    def real(self, name: str, default: float) -> float:
        """Return an attribute that is a real number."""
        return float(self.attr(name, default))

    def ints(self, name: str, i: int | None = None) -> list[int] | None:
        """Return a list of integers: an attribute, or input `i` in newer opsets."""
        if i is not None and self.given(i):
            return [int(number) for number in self.raw(i).reshape(-1)]
        held = self.attr(name)
        return None if held is None else [int(number) for number in held]

    def number(self, name: str, i: int, default: float) -> float:
        """Return a number: an attribute, or input `i` in newer opsets."""
        if self.given(i):
            return float(self.raw(i).reshape(-1)[0])
        return float(self.attr(name, default))
