"""Functions of one number that have no row: differentiated by central differences of the standard itself.

The standard's own evaluator computes the operator in double precision, so that a new function needs no
derivative here, and the one that its rule was given is still checked against something else.
"""

import functools
from collections.abc import Callable

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator

from onnx_deconv.verification.reference.graph import Array
from onnx_deconv.verification.reference.visit import Visit

Function = Callable[[Array], Array]

_STEP = 1e-6
"""As a share of each number, at least of 1: its square, and what double precision leaves, are below 1e-9."""


def differentiated(at: Visit) -> Array | None:
    """Return the signal times the derivative of a function of one number; None for any other operator."""
    function = _function(at)
    if function is None:
        return None
    x = at.x()
    step = _STEP * np.maximum(1.0, np.abs(x))
    return at.signal * (function(x + step) - function(x - step)) / (2 * step)


def _function(at: Visit) -> Function | None:
    """Return the standard's own operator, if it takes each number for itself."""
    if at.node.domain not in ("", "ai.onnx") or len(at.node.input) != 1 or len(at.node.output) != 1:
        return None
    try:
        function = functools.partial(_run, _evaluator(at.node, at.graph.opset))
    except NotImplementedError:
        return None
    return function if _takes_each_for_itself(function, at.x()) else None


def _evaluator(node: onnx.NodeProto, opset: int) -> ReferenceEvaluator:
    info = onnx.helper.make_tensor_value_info
    given, result = (info(v, onnx.TensorProto.DOUBLE, None) for v in (node.input[0], node.output[0]))
    graph = onnx.helper.make_graph([node], "function", [given], [result])
    return ReferenceEvaluator(
        onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)])
    )


def _run(evaluator: ReferenceEvaluator, x: Array) -> Array:
    (result,) = evaluator.run(None, {evaluator.input_names[0]: x})
    return np.asarray(result)


def _takes_each_for_itself(function: Function, x: Array) -> bool:
    """Tell whether a result stays as it is while every other number is exchanged for its neighbour."""
    y = function(x)
    if y.shape != x.shape or y.dtype != np.float64:
        return False
    other = np.arange(x.size).reshape(x.shape) % 2 == 1
    neighbours = np.roll(x, 1)
    return all(
        np.allclose(function(np.where(moved, neighbours, x))[~moved], y[~moved], rtol=1e-12, equal_nan=True)
        for moved in (other, ~other)
    )
