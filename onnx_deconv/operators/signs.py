"""Which forward values are known to have no negative numbers, before the model runs."""

import numpy as np
import onnx_graphsurgeon as gs
from onnx import TensorProto

from onnx_deconv.operators.node import Forward, ForwardNode
from onnx_deconv.operators.registry import traits_of
from onnx_deconv.operators.traits import KEEPS_SIGN, NONNEGATIVE, POOL, VIEW

_REAL = {TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE}
_FEW = 64
"""Numbers of a constant that is looked at; weights are never read."""


def is_nonnegative(model: Forward, value: str) -> bool:
    """Tell whether a value has no negative numbers, whatever the image.

    It is traced back to operators that give none (Relu, Sigmoid, Softmax), through those that keep the sign
    (pools, sums, views).
    """
    seen, values = set[str](), [value]
    while values:
        name = values.pop()
        if name in seen:
            continue
        seen.add(name)
        if name in model.constants or name in model.tensors:
            if not _is_nonnegative_constant(model, name):
                return False
            continue
        node = model.producers.get(name)
        if node is None or (sources := _sources(node, model)) is None:
            return False
        values += sources
    return True


def _sources(node: gs.Node, model: Forward) -> list[str] | None:
    """Return what must not be negative for the node's result not to be; ``None`` where nothing tells."""
    traits = traits_of(node)
    if NONNEGATIVE in traits or (node.op == "Clip" and _starts_at_zero(ForwardNode(node, model))):
        return []
    real = [v.name for v in node.inputs if v.name and model.type_of(v.name).dtype in _REAL]
    if not traits & {KEEPS_SIGN, VIEW, POOL} or (VIEW in traits and node.inputs[0].name not in real):
        return None
    return real


def _starts_at_zero(clip: ForwardNode) -> bool:
    lowest = clip.numbers("min", 1)
    return lowest is not None and lowest[0] >= 0


def _is_nonnegative_constant(model: Forward, name: str) -> bool:
    shape = model.type_of(name).shape
    if shape is None or None in shape or np.prod([d or 1 for d in shape], dtype=int) > _FEW:
        return False
    numbers = model.constant(name)
    return numbers is not None and bool(np.all(numbers >= 0))
