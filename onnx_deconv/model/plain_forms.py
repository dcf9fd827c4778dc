"""Write alike what files may write in several ways: the standard's domain, constants that are mostly zero."""

from math import prod

import numpy as np
from numpy.typing import NDArray
from onnx import (
    AttributeProto,
    GraphProto,
    ModelProto,
    SparseTensorProto,
    TensorProto,
    numpy_helper,
)

from onnx_deconv.errors import ModelError
from onnx_deconv.model.protos import every_node, subgraphs
from onnx_deconv.operators import own_domain

_MOST_ELEMENTS = 1 << 28
"""Of a constant that is stored by its numbers that are not zero."""


def name_domains(proto: ModelProto) -> None:
    """Give the standard's domain its one name, in place."""
    for entry in proto.opset_import:
        entry.domain = own_domain(entry.domain)
    for function in proto.functions:
        function.domain = own_domain(function.domain)
        for entry in function.opset_import:
            entry.domain = own_domain(entry.domain)
    for nodes in (proto.graph.node, *(f.node for f in proto.functions)):
        for node in every_node(nodes):
            node.domain = own_domain(node.domain)


def make_dense(graph: GraphProto) -> None:
    """Write out constants that are stored by their numbers that are not zero, in place.

    Raises
    ------
    ModelError
        If one is malformed, or too large.
    """
    for sparse in graph.sparse_initializer:
        graph.initializer.append(_dense(sparse, sparse.values.name))
    del graph.sparse_initializer[:]
    for node in graph.node:
        for inner in subgraphs(node):
            make_dense(inner)
        for attribute in node.attribute:
            if attribute.type == AttributeProto.SPARSE_TENSOR and attribute.name == "sparse_value":
                tensor = _dense(attribute.sparse_tensor, node.output[0])
                attribute.Clear()
                attribute.name, attribute.type = "value", AttributeProto.TENSOR
                attribute.t.CopyFrom(tensor)


def _dense(sparse: SparseTensorProto, name: str) -> TensorProto:
    shape = tuple(sparse.dims)
    if prod(shape) > _MOST_ELEMENTS:
        raise ModelError(
            f"the sparse constant {name!r} has {prod(shape):.3g} elements: too many to write out"
        )
    values, indices = numpy_helper.to_array(sparse.values), numpy_helper.to_array(sparse.indices)
    try:
        dense: NDArray[np.generic] = np.zeros(shape, values.dtype)
        where = tuple(indices.T) if indices.ndim > 1 else np.unravel_index(indices, shape)
        dense[where] = values
    except (ValueError, IndexError) as error:
        raise ModelError(f"the sparse constant {name!r} does not fit its shape {shape} ({error})") from error
    return numpy_helper.from_array(dense, name)
