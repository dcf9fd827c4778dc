"""Which values of a model are feature maps: of its classes, the last below a value, of its convolutions."""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet

import onnx_graphsurgeon as gs

from onnx_deconv.errors import ModelError
from onnx_deconv.model.axis_names import axis_names, image_rank
from onnx_deconv.model.head import Head
from onnx_deconv.model.heads import axes_of
from onnx_deconv.model.model import Model
from onnx_deconv.model.reading import read_by
from onnx_deconv.model.tails import squashed_before
from onnx_deconv.operators import traits_of
from onnx_deconv.operators.axes import BATCH, CHANNEL, NOTHING
from onnx_deconv.operators.traits import AFFINE, POINTWISE, POOL, QUANTISER, RECTIFIER, REDUCTION, VIEW

_Readers = Mapping[str, Sequence[gs.Node]]


def class_maps(model: Model, head: Head) -> str | None:
    """Find the value that holds one feature map per class, right below a global pool.

    The pool may be spelled as means over one axis after another.

    Parameters
    ----------
    model
        The model.
    head
        The output whose classes are meant.

    Returns
    -------
    str or None
        Its name; ``None`` where the model has no such maps, where the scores themselves are maps, and of a
        quantity that is a mean of probabilities, as the area of a class is.
    """
    if head.has_positions:
        return None
    value, classes, found = head.start, _channels(model, head.start), None
    while (node := model.producers.get(value)) is not None and node.inputs:
        traits, below = traits_of(node), node.inputs[0].name
        if REDUCTION in traits or (POOL in traits and found is None):
            if classes is None or _channels(model, below) != classes:
                break
            found = below if _is_of_places(model, below) else found
        elif VIEW not in traits:
            break
        value = below
    is_area = found is not None and head.kind == "regression" and squashed_before(model, found)
    return None if is_area else found


def _is_of_places(model: Model, value: str) -> bool:
    """Tell whether a value of channels has all places of the image beside them, as far as the graph tells.

    Members of an ensemble are none, nor are columns whose rows were pooled, or frames.
    """
    names, shape = axis_names(model), model.type_of(value).shape or ()
    where, rank = names.values.get(value), image_rank(model)
    if where is None:
        return True
    along = [where[k] for k in axes_of(model, value).positions if shape[k] != 1]
    image = next(
        (names.values.get(v, ()) for v in model.inputs if len(model.type_of(v).shape or ()) == rank), ()
    )
    lost = NOTHING.union(*image) - NOTHING.union(*along) - names.own - {BATCH}
    return all(axis and not axis & {BATCH, CHANNEL} for axis in along) and (not lost or len(shape) >= rank)


def _channels(model: Model, value: str) -> int | None:
    """Return the size of the axis along which a value's channels lie; ``None`` where it is not known."""
    sizes = axes_of(model, value).sizes(model.type_of(value).shape) or []
    return sizes[1] if len(sizes) > 1 and isinstance(sizes[1], int) else None


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
        if found in outputs and VIEW not in traits_of(node):
            return found
        frontier = frontier - outputs | {v.name for v in node.inputs if v.name in reached}
        only = next(iter(frontier)) if len(frontier) == 1 else None
        if only is not None and only not in model.inputs and (found is None or found in outputs):
            found = only if _has_positions(model, only) else None
    return found


def feature_maps_at(model: Model, layer: str, value: str, reached: AbstractSet[str]) -> str:
    """Return a layer that class activation maps of a value can be made of.

    Parameters
    ----------
    model
        The model.
    layer
        The layer's value.
    value
        The explained value.
    reached
        The values between the image and the explained value.

    Raises
    ------
    ModelError
        If it has no positions, or is not one of these values.
    """
    why, shape = None, model.type_of(layer)
    if layer in model.inputs:
        why = "it is the image itself: choose a layer after it"
    elif layer == value or layer not in reached:
        why = f"no signal from {value!r} passes through it"
    elif not _has_positions(model, layer):
        why = f"it has no positions in the image (its shape is {shape})"
    if why is not None:
        raise ModelError(f"{model.name}: no class activation map at {layer!r}: {why}")
    return layer


def _has_positions(model: Model, value: str) -> bool:
    """Tell whether a value has positions along as many axes as an image has."""
    sizes = axes_of(model, value).sizes(model.type_of(value).shape) or []
    return len(sizes) == image_rank(model) and any(size != 1 for size in sizes[2:])


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
        rectifier = next((node for node in nodes if RECTIFIER in traits_of(node)), None)
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
    return AFFINE in traits_of(node) and all(name in model.constants for name in others)


def _copies(node: gs.Node) -> bool:
    """Tell whether a node passes each number on to the same position, at most rounded."""
    traits = traits_of(node)
    return POINTWISE in traits and bool(traits & {VIEW, QUANTISER})


def _readers(model: Model) -> _Readers:
    """Return the nodes that read each value, leaving out nodes whose results nothing needs.

    Nodes that spelled out an activation stay in the graph when it is recognised, but are not needed.
    """
    needed, live = set(model.outputs), list[gs.Node]()
    for node in reversed(model.nodes):
        if any(output.name in needed for output in node.outputs):
            live.append(node)
            needed.update(read_by(node))
    readers: dict[str, list[gs.Node]] = {}
    for node in reversed(live):
        for name in set(read_by(node)):
            readers.setdefault(name, []).append(node)
    return readers
