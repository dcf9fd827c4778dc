"""Masks: a forward value stops a signal, told by operators of onnxruntime's blocked layout.

A comparison and a Where take the forward value and the signal out of that layout, and the next convolution
brings the signal back. HardSigmoid, max(0, min(1, slope·x + offset)), stays there. With a slope of 2¹²⁷ it
is 1 for each normal float32 above 0, and 0 for what is not positive; of what is below 2⁻¹²⁷ less passes.
The offset is not 0, which OpenVINO (2026.4) takes for the default, 0.5, but so small that it changes nothing.
Below a bound b, slope and offset are -2ᵏ and 2ᵏ·b: a product with a power of 2 is exact, and so is the
difference of numbers next to each other.
"""

import math
from dataclasses import dataclass

import numpy as np
from onnx import NodeProto, TensorProto

from onnx_deconv.compiler.passes.builder import Builder
from onnx_deconv.compiler.passes.operations import RELU
from onnx_deconv.compiler.passes.pattern import Pattern, backward, op, value
from onnx_deconv.compiler.passes.rewriter import Rewriter

_STEEPEST = 127
"""The largest power of 2 in float32."""


@dataclass(frozen=True)
class Mask:
    """A signal, multiplied by 1 where a forward value is above 0, or below a bound, and by 0 elsewhere.

    Attributes
    ----------
    node
        What gives the product.
    signal, forward
        Values of the graph, float32, of equal shape.
    slope, offset
        Of the HardSigmoid.
    """

    node: NodeProto
    signal: str
    forward: str
    slope: float = 2.0**_STEEPEST
    offset: float = -(2.0**-126)

    def applied(self, add: Builder, signal: str, forward: str) -> str:
        """Mask another signal, of the sizes of this forward value, in the blocked layout."""
        if add.graph.sizes(forward):
            for each in (forward, signal):
                add.graph.declare(each, add.graph.shape(forward))
        return str(add.Mul(signal, add.HardSigmoid(forward, alpha=self.slope, beta=self.offset)))


def mask_of(graph: Rewriter, node: NodeProto | None) -> Mask | None:
    """Return the mask that a node of the backward pass is; ``None`` if it is none."""
    if found := _ABOVE_0.match(graph, node):
        return Mask(found.node, found.values["signal"], found.values["forward"])
    if found := _BELOW_BOUND.match(graph, node):
        bound = _number(graph, found.values["bound"]) or 0.0
        slope = 2.0 ** min(_STEEPEST, _STEEPEST - math.frexp(bound)[1])
        return Mask(found.node, found.values["signal"], found.values["forward"], -slope, slope * bound)
    return None


def mask_after(graph: Rewriter, signal: str) -> Mask | None:
    """Return the mask through which all of a signal goes, rectified or not; ``None`` if there is none."""
    reader = graph.only_reader(signal)
    if RELU.match(graph, reader) and reader is not None:
        signal = reader.output[0]
    mask = mask_of(graph, graph.only_reader(signal))
    return mask if mask is not None and mask.signal == signal else None


def signed(graph: Rewriter, node: NodeProto) -> str | None:
    """Return the input of a companion whose sign a node gives; that a ReLU gave it is not known there.

    What a convolution gives must not be multiplied by 2¹²⁷: onnxruntime would multiply the filter.
    """
    found = _SIGN_OF_INPUT.match(graph, node)
    return found.values["forward"] if found is not None else None


def sign(add: Builder, forward: str) -> str:
    """Give the sign of a value: times 2¹²⁷, cut off at -1 and 1; nearer to 0 than 2⁻¹²⁷, less than that."""
    steep = add.Mul(forward, np.array(2.0**_STEEPEST, np.float32))
    return str(add.Clip(steep, np.array(-1, np.float32), np.array(1, np.float32)))


def _number(graph: Rewriter, name: str) -> float | None:
    """Return the one number that a value always is; ``None`` where there is no such number."""
    numbers = graph.constants.numbers(name)
    return None if numbers is None or numbers.size != 1 else float(numbers.item())


def _is_0(graph: Rewriter, name: str) -> bool:
    return _number(graph, name) == 0


def _is_bound(graph: Rewriter, name: str) -> bool:
    bound = _number(graph, name)
    return bound is not None and 0 < bound < math.inf


def _is_float32(graph: Rewriter, name: str) -> bool:
    return graph.types.get(name, (0, ()))[0] == TensorProto.FLOAT


def _is_rectified(graph: Rewriter, name: str) -> bool:
    return _is_float32(graph, name) and RELU.match(graph, graph.producers.get(name)) is not None


def _is_given(graph: Rewriter, name: str) -> bool:
    return _is_float32(graph, name) and name not in graph.producers


def _where(condition: Pattern) -> Pattern:
    return op.Where(condition, _SIGNAL, value("zero", _is_0)).where(backward)


_SIGNAL, _FORWARD = value("signal", _is_float32), value("forward", _is_float32)
_SIGN = op.Sign(value("forward", _is_rectified))
_SIGN_OF_INPUT = op.Sign(value("forward", _is_given)).where(backward)
_ABOVE_0 = (
    _where(op.Greater(_FORWARD, value("bound", _is_0)))
    | op.Mul(_SIGNAL, _SIGN).where(backward)
    | op.Mul(_SIGN, _SIGNAL).where(backward)
)
_BELOW_BOUND = _where(op.Less(_FORWARD, value("bound", _is_bound)))
