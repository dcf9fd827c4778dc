"""Write nodes of a graph that is held as a protobuf: an operator's name is a method that appends a node."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, helper

Operand: TypeAlias = str | NDArray[Any] | np.generic | Sequence[int]
"""What an operator takes: a value by its name, or a constant; plain integers are int64."""


class NodeBuilder(ABC):
    """Collects nodes; ``builder.Conv(x, w, group=2)`` appends a Conv and returns its output's name.

    Attributes that are ``None`` are left out. An operator that may have several outputs is told
    how many: ``builder.Split(x, axis=1, outputs=2)`` returns a list of two names.

    Parameters
    ----------
    name
        What names of new nodes and values begin with.

    Attributes
    ----------
    nodes
        The nodes so far, in order.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.nodes: list[NodeProto] = []

    def __getattr__(self, operator: str) -> Callable[..., Any]:
        if not operator[0].isupper():
            raise AttributeError(operator)
        return partial(self.append, operator)

    def append(self, operator: str, *operands: Operand, outputs: int | None = None, **attributes: Any) -> Any:
        """Append a node; return its output's name, or a list of them where their number is given."""
        name = self.free(f"{self.name}/{operator}_{len(self.nodes)}")
        names = [f"{name}:{k}" if k else name for k in range(outputs or 1)]
        inputs = [self._stored(operand) for operand in operands]
        given = {key: value for key, value in attributes.items() if value is not None}
        self.nodes.append(helper.make_node(operator, inputs, names, name, **given))
        return names[0] if outputs is None else names

    @abstractmethod
    def constant(self, numbers: NDArray[Any]) -> str:
        """Store an array in the graph; return its name."""

    def free(self, name: str) -> str:
        """Return a name that no value has: this one, unless the graph may have it already."""
        return name

    def _stored(self, operand: Operand) -> str:
        if isinstance(operand, str):
            return operand
        numbers = operand if isinstance(operand, np.ndarray | np.generic) else np.asarray(operand, np.int64)
        return self.constant(np.asarray(numbers))
