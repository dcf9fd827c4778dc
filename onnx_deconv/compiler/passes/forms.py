"""Forms that a runtime takes, or computes rightly, in place of others that say the same."""

import numpy as np
from onnx import TensorProto, helper

from onnx_deconv.compiler.passes.pattern import ABSENT, ANY, op, value
from onnx_deconv.compiler.passes.registry import optimisation_pass
from onnx_deconv.compiler.passes.rewriter import Rewriter

_RESIZE = op.Resize(ANY, ABSENT, ABSENT, value("sizes"))
_POOL_BY_NORM = op.GlobalLpPool()
_BY_NORM = op.LpNormalization() | _POOL_BY_NORM
_EUCLIDEAN = 2
_BYTES = op.Identity(op.Cast(value("numbers"), to=TensorProto.UINT8))


@optimisation_pass("axes")
def axes(graph: Rewriter) -> None:
    """A Resize that is told the sizes of its last axes is told those of all.

    TensorRT's parser (TensorRT for RTX 1.7) takes sizes for those of the first axes.
    """
    for found in _RESIZE.matches(graph):
        given = found.attributes.get("axes")
        rank = len(graph.shape(found.node.input[0]))
        if not given or list(given) != list(range(rank - len(given), rank)):
            continue
        add = graph.builder(found.node.name)
        first = add.Slice(add.Shape(found.node.input[0]), [0], [rank - len(given)])
        sizes = add.Concat(first, found.values["sizes"], axis=0)
        how = {name: known for name, known in found.attributes.items() if name != "axes"}
        graph.replace(found.node, add, add.Resize(found.node.input[0], "", "", sizes, **how))


@optimisation_pass("bytes")
def bytes_(graph: Rewriter) -> None:
    """Bytes under another name are made under that name: TensorRT has them at its border alone."""
    for found in _BYTES.matches(graph):
        add = graph.builder(found.node.name)
        graph.replace(found.node, add, add.Cast(found.values["numbers"], to=TensorProto.UINT8))


@optimisation_pass("norms")
def norms(graph: Rewriter) -> None:
    """A normalisation by a norm becomes a division by it, or by 1 where it is 0; a pool, the norm.

    OpenVINO (2026.4) adds something to norms that it divides by: numbers of 10⁻³ came out 33 % too small. It
    has no pool over whole maps of a free number of images; tract (0.23) computes that wrongly.
    """
    for found in _BY_NORM.matches(graph):
        read, given, order = found.node.input[0], found.attributes, found.attributes.get("p", 2)
        dtype, rank = graph.types.get(read, (0, ()))[0], len(graph.shape(read))
        if not dtype or not rank or order > _EUCLIDEAN:
            continue
        add = graph.builder(found.node.name)
        pools = _POOL_BY_NORM.match(graph, found.node)
        axes = list(range(2, rank)) if pools else [given.get("axis", -1)]
        norm = add.append(f"ReduceL{order}", read, axes, keepdims=1)
        nothing, one = (np.array(k, helper.tensor_dtype_to_np_dtype(dtype)) for k in (0, 1))
        divided = [] if pools else [add.Div(read, add.Where(add.Equal(norm, nothing), one, norm))]
        graph.replace(found.node, add, *(divided or [norm]))
