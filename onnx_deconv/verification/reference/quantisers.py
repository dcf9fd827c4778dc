"""Quantisers: the signal passes as if nothing were rounded."""

import numpy as np

from onnx_deconv.verification.reference.graph import Array
from onnx_deconv.verification.reference.table import of_first_input
from onnx_deconv.verification.reference.visit import Visit

# What only moves numbers, and what computes the numbers that a left-out relu would have cut off.
_MOVES = ("Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze")
_FILTERS = ("Conv", "ConvTranspose", "Gemm", "MatMul", "Add", "Sum", "BatchNormalization")


def along_axis(at: Visit, numbers: Array) -> Array:
    """Give one number per channel the axes that it is broadcast along."""
    if numbers.size == 1:
        return numbers.reshape(())
    axis = int(at.attr("axis", 1))
    shape = [1] * len(at.shape())
    shape[axis] = numbers.size
    return numbers.reshape(shape)


def cuts_off(at: Visit) -> bool:
    """Whether a quantiser stands for the relu that was left out between it and a filter."""
    source = at.graph.producers.get(at.node.input[0])
    while source is not None and source.op_type in _MOVES:
        source = at.graph.producers.get(source.input[0])
    if source is None or source.op_type not in _FILTERS or not at.given(2):
        return False
    return bool((at.raw(2) == np.iinfo(at.raw(2).dtype).min).all())


@of_first_input("QuantizeLinear")
def quantise(at: Visit) -> Array:
    """Pass as if nothing were rounded; rectify where the quantiser does a relu's work."""
    signal = at.signal / along_axis(at, at.x(1))
    if not cuts_off(at):
        return signal
    above = at.graph.value(at.node.output[0]) > along_axis(at, at.x(2))
    if at.options.rules != "gradient":
        signal = np.maximum(signal, 0)
    return signal if at.options.rules == "deconvnet" else np.where(above, signal, 0.0)


@of_first_input("DequantizeLinear")
def dequantise(at: Visit) -> Array:
    """Pass in units of the scale."""
    return at.signal * along_axis(at, at.x(1))


@of_first_input("DynamicQuantizeLinear")
def quantise_dynamically(at: Visit) -> Array:
    """Pass in units of the scale that was found; the scale itself is taken as given."""
    (first, *_) = at.arrived
    signal = np.zeros(at.shape()) if first is None else first
    return signal / at.graph.value(at.node.output[1])
