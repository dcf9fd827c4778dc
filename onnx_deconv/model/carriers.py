"""Which values a signal can come from: real numbers, and quantised ones, that inputs lead to."""

from collections.abc import Iterable

import onnx_graphsurgeon as gs
from onnx import TensorProto

from onnx_deconv.model.model import Model
from onnx_deconv.model.reading import read_by
from onnx_deconv.model.tail_steps import FLOATS
from onnx_deconv.operators import traits_of
from onnx_deconv.operators.traits import QUANTISER

_QUANTISED = {TensorProto.UINT8, TensorProto.INT8, TensorProto.UINT16, TensorProto.INT16}
_CARRIERS = FLOATS | _QUANTISED


def real_inputs(model: Model) -> list[str]:
    """List the inputs of real numbers; where there are none, of quantised ones."""
    types = {name: model.type_of(name).dtype for name in model.inputs}
    # Some quantised models take the picture as it is, in whole numbers.
    return [name for name, dtype in types.items() if dtype in FLOATS] or [
        name for name, dtype in types.items() if dtype in _QUANTISED
    ]


def carried(model: Model, inputs: Iterable[str]) -> set[str]:
    """Return inputs and all values that paths of such numbers lead to from them.

    Paths end at other integers and at truth values: shapes, indices, masks. They end at the scales and zero
    points of quantisers, which are taken as given, also where the graph computes them from the numbers.
    """
    found, given = set(inputs), _scales(model)
    for node in model.nodes:
        if any(v in found for v in read_by(node)):
            passed = {v.name for v in _passed_on(node) if model.type_of(v.name).dtype in _CARRIERS}
            found.update(passed - given)
    return found


def _scales(model: Model) -> set[str]:
    """Return the scales and zero points of quantisers."""
    quantisers = (node for node in model.nodes if QUANTISER in traits_of(node))
    return {v.name for node in quantisers for v in node.inputs[1:]}


def _passed_on(node: gs.Node) -> list[gs.Variable]:
    """Return the outputs that a signal can come from: a dynamic quantiser's scale is taken as given."""
    return node.outputs[:1] if QUANTISER in traits_of(node) else node.outputs
