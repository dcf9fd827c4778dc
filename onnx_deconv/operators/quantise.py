"""Quantised numbers: the signal passes as if nothing were rounded, in units of each number's scale.

A quantiser whose zero point is its smallest number cuts off what is negative: tools that quantise a
network leave out a Relu that stands before one. Where its input comes straight from a filter, it is
that Relu, and rectifies as Relu does in each table.
"""

import numpy as np
from onnx import helper

from onnx_deconv.operators import numbers
from onnx_deconv.operators.builder import Operand, Signal
from onnx_deconv.operators.registry import operator, traits_of
from onnx_deconv.operators.site import Site
from onnx_deconv.operators.tables import Signals
from onnx_deconv.operators.traits import DEQUANTISER, POINTWISE, QUANTISER, RANGE, VIEW

_FILTERS = {"Conv", "ConvTranspose", "Gemm", "MatMul", "Add", "Sum", "BatchNormalization"}


@operator("QuantizeLinear", traits={POINTWISE, QUANTISER}, evaluate=numbers.identity)
def quantise(at: Site) -> Signals:
    """Divided by the scale; zero where it cut off what a left-out Relu would have."""
    if not replaces_relu(at):
        return _in_real_units(at, at.signal)
    above = at.op.Greater(at.output(), _aligned(at, at.op.Cast(at.raw(2), to=at.op.elem_type)))
    return _in_real_units(at, at.op.Where(above, at.signal, 0.0))


@quantise.row("deconvnet")
def rectify_quantised(at: Site) -> Signals:
    """Divided by the scale, and rectified where a Relu was left out before it."""
    return _in_real_units(at, at.op.Relu(at.signal) if replaces_relu(at) else at.signal)


@quantise.row("guided")
def guide_quantised(at: Site) -> Signals:
    """Rectified, and stopped where it cut off, where a Relu was left out before it."""
    (signal, *rest) = quantise(at)
    return [at.op.Relu(signal) if signal is not None and replaces_relu(at) else signal, *rest]


@operator("DequantizeLinear", traits={POINTWISE, QUANTISER, DEQUANTISER}, evaluate=numbers.identity)
def dequantise(at: Site) -> Signals:
    """Multiplied by the scale."""
    return [at.op.Mul(at.signal, _scale(at)), *[None] * (len(at.node.inputs) - 1)]


@operator("DynamicQuantizeLinear", traits={QUANTISER, RANGE})
def quantise_dynamically(at: Site) -> Signals:
    """Divided by the scale; what the scale itself owes to the input is left out."""
    return [at.op.Div(at.signal, at.output(1))]


def replaces_relu(at: Site) -> bool:
    """Tell whether a node is a quantiser that cuts off what is negative of a filter's result."""
    if at.node.op != "QuantizeLinear":
        return False
    source = at.model.producers.get(at.node.inputs[0].name)
    while source is not None and VIEW in traits_of(source):
        source = at.model.producers.get(source.inputs[0].name)
    if source is None or source.op not in _FILTERS or not at.has(2):
        return False
    zero, dtype = at.constant(2), at.model.type_of(at.node.inputs[2].name).dtype
    lowest = np.iinfo(helper.tensor_dtype_to_np_dtype(dtype)).min if dtype else None
    return zero is not None and bool(np.all(zero == lowest))


def _in_real_units(at: Site, signal: Signal) -> Signals:
    """Divide by the scale, or leave out the multiplication that a DequantizeLinear just made."""
    scale, rest = _scale(at), [None] * (len(at.node.inputs) - 1)
    made = signal.inputs[0] if signal.inputs else None
    if made is not None and made.op == "Mul" and made.inputs[1].name == scale.name:
        return [made.inputs[0], *rest]
    return [at.op.Div(signal, scale), *rest]


def _scale(at: Site) -> Signal:
    if at.attr("block_size", 0):
        raise at.unsupported("scales by blocks")
    return _aligned(at, at.input(1))


def _aligned(at: Site, numbers: Signal) -> Signal:
    """Align one number per channel with its axis."""
    counts, rank = at.shape_of(1), len(at.shape_of(0))
    if not counts or counts == (1,):
        return numbers
    shape: Operand = [-1] + [1] * (rank - 1 - at.axis(1))
    return at.op.Reshape(numbers, shape)
