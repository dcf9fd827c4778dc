"""Which values of a model its feature maps are: each convolution behind its normalisation and rectifier."""

from collections.abc import Iterator, Mapping, Sequence

import onnx_graphsurgeon as gs

from onnx_deconv.model.load import Model

_RECTIFIERS = {
    "Relu", "LeakyRelu", "PRelu", "ThresholdedRelu", "Clip", "Elu", "Selu", "Celu",
    "Softplus", "Swish", "HardSwish", "Mish", "Gelu",
}  # fmt: skip
"""Sigmoid and Tanh are not among them: they change no order of activations, and saturate."""
_SCALINGS = {"BatchNormalization", "Add", "Sub", "Mul", "Div"}
_COPIES = {"Identity", "Cast", "Dropout", "QuantizeLinear", "DequantizeLinear"}

_Readers = Mapping[str, Sequence[gs.Node]]


def convolutions(model: Model) -> list[str]:
    """List the values of all convolutions, each rectified, in the order of the graph.

    Parameters
    ----------
    model
        The model; only its graph is read.

    Returns
    -------
    list of str
        Names of values, each once; see :func:`rectified_convolution`.
    """
    readers = _readers(model)
    return list(dict.fromkeys(_rectified(model, readers, value) for value in model.convolutions))


def rectified_convolution(model: Model, value: str) -> str:
    """Follow a convolution to the value that its rectifier gives.

    The rectifier is found behind any number of nodes that scale or shift by constants (a
    BatchNormalization, a bias added apart) or copy (Cast, Dropout, quantisers), as long as nothing
    else reads what is between. The rectifier itself need not be the only reader: a residual branch
    may start at the same value.

    Parameters
    ----------
    model
        The model; only its graph is read.
    value
        What a convolution computes.

    Returns
    -------
    str
        The rectifier's output; where there is no rectifier, the output of the last node that scales or
        shifts, or ``value`` itself.
    """
    return _rectified(model, _readers(model), value)


def _rectified(model: Model, readers: _Readers, value: str) -> str:
    last = value
    while True:
        nodes = readers.get(value, ())
        rectifier = next((node for node in nodes if node.op in _RECTIFIERS), None)
        if rectifier is not None:
            rectified = str(rectifier.outputs[0].name)
            # A factor that a simplifier folded into the next filter is part of the activation.
            return model.gained.values.get(rectified, rectified)
        if len(nodes) != 1:
            return last
        scales = _scales(model, nodes[0], value)
        if not scales and nodes[0].op not in _COPIES:
            return last
        value = nodes[0].outputs[0].name
        last = value if scales else last


def _scales(model: Model, node: gs.Node, value: str) -> bool:
    """Tell whether a node scales or shifts a value by constants."""
    others = [i.name for i in node.inputs if i.name and i.name != value]
    return node.op in _SCALINGS and all(name in model.constants for name in others)


def _readers(model: Model) -> _Readers:
    """Return the nodes that read each value, but for those whose results nothing needs.

    What a recognised activation was spelled with is still in the graph, and needed no more.
    """
    needed, live = set(model.outputs), list[gs.Node]()
    for node in reversed(model.nodes):
        if any(output.name in needed for output in node.outputs):
            live.append(node)
            needed.update(_reads(node))
    readers: dict[str, list[gs.Node]] = {}
    for node in reversed(live):
        for name in set(_reads(node)):
            readers.setdefault(name, []).append(node)
    return readers


def _reads(node: gs.Node) -> Iterator[str]:
    """Yield the values that a node reads, in its branches too."""
    yield from (value.name for value in node.inputs if value.name)
    for branch in (a for a in node.attrs.values() if isinstance(a, gs.Graph)):
        for inner in branch.nodes:
            yield from _reads(inner)
