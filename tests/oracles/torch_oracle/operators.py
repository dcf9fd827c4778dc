"""The table of operators, and what a function in it is told about its node."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import onnx
import torch
from onnx import NodeProto, TensorProto, helper, numpy_helper
from torch import Tensor

MICROSOFT = "com.microsoft"
OPERATORS: dict[tuple[str, str], Callable[..., Any]] = {}
"""By domain and operator: given a :class:`Call` and the inputs, returns the output or outputs."""


def operator(*names: str, domain: str = "") -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Enter a function into the table."""

    def enter(function: Callable[..., Any]) -> Callable[..., Any]:
        OPERATORS.update({(domain, name): function for name in names})
        return function

    return enter


class Runner(Protocol):
    """What runs the nodes of a graph."""

    given: dict[str, np.ndarray]
    switches: dict[str, np.ndarray]

    def branch(self, graph: onnx.GraphProto, given: Sequence[Tensor]) -> list[Tensor]:
        """Run a subgraph."""

    def detour(self, x: Tensor, y: Tensor, rule: Any) -> Tensor:
        """Return y, its signal sent to x by a rule of the table."""


class At(torch.autograd.Function):
    """The identity, but for the value, which comes from elsewhere."""

    @staticmethod
    def forward(ctx: Any, _: Tensor, value: Tensor) -> Tensor:  # noqa: ARG004
        """Return the value."""
        return value.clone()

    @staticmethod
    def backward(ctx: Any, signal: Tensor) -> tuple[Tensor, None]:  # noqa: ARG004
        """Pass the signal."""
        return signal, None


class Call:
    """One node that is being run.

    Parameters
    ----------
    node
        The node.
    opset
        The version of its domain's operators.
    runner
        What runs it.
    """

    def __init__(self, node: NodeProto, opset: int, runner: Runner) -> None:
        self.node, self.opset, self.runner = node, opset, runner
        self.attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}

    def get(self, name: str, default: Any = None) -> Any:
        """Return an attribute."""
        value = self.attributes.get(name, default)
        return value.decode() if isinstance(value, bytes) else value

    def ints(self, name: str, given: Tensor | None = None) -> list[int] | None:
        """Return numbers that old opsets write as an attribute and new ones as an input."""
        if given is not None:
            return [int(k) for k in given.reshape(-1).tolist()]
        value = self.get(name)
        return None if value is None else list(value)

    def like(self, op: str, **attributes: Any) -> "Call":
        """Return a call of another operator of the standard, at the same place."""
        return Call(helper.make_node(op, [], [], **attributes), 21, self.runner)


def as_double(value: Tensor) -> Tensor:
    """Return numbers of any type in double precision."""
    return value.to(torch.float64)


def tensor_of(given: TensorProto | np.ndarray) -> Tensor | None:
    """Read a tensor; real numbers in double precision, the others in their own type."""
    array = numpy_helper.to_array(given) if isinstance(given, TensorProto) else given
    if array.dtype.kind in "OSU":
        return None
    if array.dtype.kind not in "biu":
        array = array.astype(np.float64)
    return torch.from_numpy(np.array(array))


def torch_type(elem_type: int) -> torch.dtype:
    """Return the type that stands for one of ONNX: double for every real one."""
    kind = np.dtype(helper.tensor_dtype_to_np_dtype(elem_type))
    return torch.from_numpy(np.zeros(1, kind)).dtype if kind.kind in "biu" else torch.float64
