"""What the outputs of a model are, where an explanation starts, and which values are feature maps."""

from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet

import onnx_graphsurgeon as gs
from onnx import TensorProto

from onnx_deconv.model.load import Model
from onnx_deconv.operators import find
from onnx_deconv.operators.node import label
from onnx_deconv.operators.traits import (
    AFFINE,
    POINTWISE,
    POOL,
    PROBABILITY,
    QUANTISER,
    RECTIFIER,
    REDUCTION,
    VIEW,
    Trait,
)

_Readers = Mapping[str, Sequence[gs.Node]]

FLOATS = frozenset(
    {
        TensorProto.FLOAT,
        TensorProto.FLOAT16,
        TensorProto.DOUBLE,
        TensorProto.BFLOAT16,
        TensorProto.UNDEFINED,
    }
)
"""Element types of real numbers; unknown ones are taken for such."""


def scores_value(model: Model, output: str | None = None) -> tuple[str, list[str]]:
    """Find where an explanation of a class starts: before the final Softmax, LogSoftmax or Sigmoid.

    A softmax makes every class's signal depend on all others; Simonyan et al. (2014, section 2)
    start before it for that reason.

    Returns
    -------
    tuple
        The value's name, and the operators and names of the nodes after it that were cut off.
    """
    value = output or next((o for o in model.outputs if model.type_of(o).dtype in FLOATS), model.outputs[0])
    trail: list[str] = []
    below = value
    while (node := model.producers.get(below)) is not None:
        trail.append(f"{node.op} {label(node)}")
        below = node.inputs[0].name if node.inputs else ""
        traits = _traits(node)
        if PROBABILITY in traits:
            return below, trail
        if VIEW not in traits:
            break
    return value, []


def class_maps(model: Model, scores: str) -> str | None:
    """Find the value that holds one feature map per class, right below a global pool.

    Parameters
    ----------
    model
        The model.
    scores
        The value of the scores, see :func:`scores_value`.

    Returns
    -------
    str or None
        Its name; ``None`` where the model has no such maps.
    """
    value, classes = scores, channels(model, scores)
    while (node := model.producers.get(value)) is not None and node.inputs:
        traits, below = _traits(node), node.inputs[0].name
        if traits & {POOL, REDUCTION}:
            return below if classes is not None and channels(model, below) == classes else None
        if VIEW not in traits:
            return None
        value = below
    return None


def feature_maps(model: Model, value: str, path: Sequence[gs.Node], reached: AbstractSet[str]) -> str | None:
    """Find the last feature maps: the nearest value with positions that all of another depends on.

    Parameters
    ----------
    model
        The model.
    value
        The explained value.
    path
        The nodes between the image and the value, in order.
    reached
        The values between them.

    Returns
    -------
    str or None
        Its name; ``None`` where there is none before the image.
    """
    frontier, found = {value}, None
    for node in reversed(path):
        outputs = {v.name for v in node.outputs}
        if not outputs & frontier:
            continue
        if found in outputs and VIEW not in _traits(node):
            return found
        frontier = frontier - outputs | {v.name for v in node.inputs if v.name in reached}
        only = next(iter(frontier)) if len(frontier) == 1 else None
        if only is not None and only not in model.inputs and (found is None or found in outputs):
            found = only if _has_positions(model, only) else None
    return found


def _has_positions(model: Model, value: str) -> bool:
    shape = model.type_of(value).shape
    return shape is not None and len(shape) > 2 and any(d != 1 for d in shape[2:])  # noqa: PLR2004


def channels(model: Model, value: str) -> int | None:
    """Return the size of a value's second axis, ``None`` where it is not known."""
    shape = model.type_of(value).shape
    return shape[1] if shape is not None and len(shape) > 1 else None


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

    There may be any number of nodes between the two that scale or shift by constants (a
    BatchNormalization, a bias added separately) or copy (Cast, Dropout, quantisers), as long as nothing
    else reads what they compute. The rectifier itself need not be the only reader of its input: a
    residual branch may start there.

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
        rectifier = next((node for node in nodes if RECTIFIER in _traits(node)), None)
        if rectifier is not None:
            rectified = str(rectifier.outputs[0].name)
            # A factor that a simplifier folded into the next filter is part of the activation.
            return model.gained.values.get(rectified, rectified)
        if len(nodes) != 1:
            return last
        scales = _scales(model, nodes[0], value)
        if not scales and not _copies(nodes[0]):
            return last
        value = nodes[0].outputs[0].name
        last = value if scales else last


def _scales(model: Model, node: gs.Node, value: str) -> bool:
    """Tell whether a node scales or shifts a value by constants."""
    others = [i.name for i in node.inputs if i.name and i.name != value]
    return AFFINE in _traits(node) and all(name in model.constants for name in others)


def _copies(node: gs.Node) -> bool:
    """Tell whether a node passes each number on to the same position, at most rounded."""
    traits = _traits(node)
    return POINTWISE in traits and bool(traits & {VIEW, QUANTISER})


def _readers(model: Model) -> _Readers:
    """Return the nodes that read each value, leaving out nodes whose results nothing needs.

    Nodes that spelled out an activation stay in the graph when it is recognised, but are not needed.
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


def _traits(node: gs.Node) -> frozenset[Trait]:
    return find(node.op, node.domain).traits
