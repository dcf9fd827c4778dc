"""Relevance by the epsilon rule: where nothing is saturated, input times gradient.

A layer's shares zᵢⱼ/zⱼ of the relevance Rⱼ = zⱼ·∂y/∂zⱼ are zᵢⱼ·∂y/∂zⱼ. So it goes on through every layer that
is linear or, as Relu and MaxPool, piecewise linear through the origin (Ancona et al. 2018, proposition 1).
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from onnx_deconv.errors import RuleError
from onnx_deconv.verification.reference.graph import Array
from onnx_deconv.verification.reference.options import ReferenceOptions
from onnx_deconv.verification.reference.signals import inverse
from onnx_deconv.verification.reference.walk import reference

LINEAR = ("Conv", "ConvTranspose", "Gemm", "MatMul", "BatchNormalization", "Add", "Sum", "Sub")
PIECEWISE = ("Relu", "LeakyRelu", "PRelu", "MaxPool", "GlobalMaxPool", "ReduceMax")
MEANS = ("AveragePool", "GlobalAveragePool", "ReduceMean", "ReduceSum")
MOVES = (
    "Flatten",
    "Reshape",
    "Transpose",
    "Squeeze",
    "Unsqueeze",
    "Concat",
    "Split",
    "Slice",
    "Pad",
    "Identity",
    "Dropout",
)
SCALES = frozenset({*LINEAR, *PIECEWISE, *MEANS, *MOVES})
"""Operators that, but for their biases, double their result when what they read doubles."""


def epsilon_relevance(
    model: onnx.ModelProto,
    values: Mapping[str, NDArray[Any]],
    explained: str,
    relevance: NDArray[Any],
    inputs: Sequence[str],
    path: Iterable[onnx.NodeProto],
) -> dict[str, Array]:
    """Return the relevance of each input's numbers; parameters as in :func:`reference`.

    Raises
    ------
    RuleError
        If an operator on the path saturates, such as a Sigmoid.
    """
    if others := sorted({node.op_type for node in path} - SCALES):
        raise RuleError(f"with {', '.join(others)} on the path, relevance is not input times gradient")
    seed = relevance * inverse(np.asarray(values[explained], np.float64))
    gradient = reference(model, values, explained, seed, inputs, ReferenceOptions(rules="gradient"))
    return {name: np.asarray(values[name], np.float64) * each for name, each in gradient.items()}
