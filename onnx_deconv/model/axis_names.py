"""What runs along the axes of every value: the images of the batch, channels, positions of the input."""

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import onnx_graphsurgeon as gs

from onnx_deconv.errors import RuleError
from onnx_deconv.model.model import Model
from onnx_deconv.operators import Shape, find, traits_of
from onnx_deconv.operators.axes import (
    BATCH,
    NOTHING,
    Names,
    passed,
    pointwise,
    reduction,
    window,
    without_singles,
)
from onnx_deconv.operators.node import ForwardNode
from onnx_deconv.operators.traits import CONVOLUTION, FILTER, POINTWISE, POOL, REDUCTION, SHAPE_ONLY


@dataclass(frozen=True)
class AxisNames:
    """What runs along axes, by value; values about which nothing can be told are missing.

    Attributes
    ----------
    values
        One set of names for each axis: :data:`~onnx_deconv.operators.axes.BATCH`,
        :data:`~onnx_deconv.operators.axes.CHANNEL`, and those of the inputs' other axes.
    channels
        The axis of an input that the first filter takes for channels, by the input's name.
    planes
        Inputs without channels: the first filter goes along all their axes, and the graph adds one for it.
    lacks_images
        Whether a filter goes along the first axis of the image, so that it is none of images.
    """

    values: Mapping[str, Names]
    channels: Mapping[str, int]
    planes: AbstractSet[str] = frozenset()
    lacks_images: bool = False

    @property
    def own(self) -> frozenset[str]:
        """The names of the axes that ``channels`` tells of."""
        return frozenset(_named(value, axis) for value, axis in self.channels.items())


def axis_names(model: Model) -> AxisNames:
    """Follow the inputs' axes through the graph, once for each model.

    The first axis of an input is the batch, unless it has another number than the images have, which are the
    inputs with most axes: then the input is a table, or a flag.
    """
    if model not in _KNOWN:
        _KNOWN[model] = _followed_through(model)
    return _KNOWN[model]


def has_batches(model: Model) -> bool:
    """Tell whether the first axis of all that goes in and comes out is that of the images, and of them alone.

    Only then may requests of several callers run together, and results be parted again.
    """
    values = axis_names(model).values
    return all(
        next(iter(values.get(name, ())), None) == frozenset({BATCH})
        for name in (*model.inputs, *model.outputs)
    )


def image_rank(model: Model) -> int:
    """Return how many axes the image has: of several inputs, the one with most."""
    return max((len(model.type_of(name).shape or ()) for name in model.inputs), default=0)


def without_images(model: Model) -> list[str]:
    """List the inputs that are one image, without an axis for images, which the model's filters have.

    Of several inputs, those with most axes are the images.
    """
    if not axis_names(model).lacks_images:
        return []
    return [name for name in model.inputs if len(model.type_of(name).shape or ()) == image_rank(model)]


_KNOWN: WeakKeyDictionary[Model, AxisNames] = WeakKeyDictionary()


def _followed_through(model: Model) -> AxisNames:
    found = _followed_from(model, _inputs(model, _sized(model)))
    if _have_own_numbers(model) or any(
        sum(axis == {BATCH} for axis in names) > 1 for names in found.values.values()
    ):
        # Rows of a table whose number is open, too, are no images where these are multiplied by them.
        found = _followed_from(model, _inputs(model, _sized(model) & _named_as_images(model)))
    return found


def _followed_from(model: Model, inputs: Mapping[str, Names]) -> AxisNames:
    values, channels, planes, lacks_images = dict(inputs), dict[str, int](), set[str](), False
    for node in model.nodes:
        given = {i: values[v.name] for i, v in enumerate(node.inputs) if v.name in values}
        if not given:
            continue
        if CONVOLUTION in traits_of(node) and len(given.get(0, ())) > 2:  # noqa: PLR2004
            _note_channels(given[0], channels)
            planes.update(_planes(given[0], inputs) - channels.keys())
        lacks_images = lacks_images or _filters_the_batch(model, node, given)
        names = _followed(ForwardNode(node, model), given)
        for output in node.outputs if names is not None else ():
            shape = model.type_of(output.name).shape
            if names is not None and (shape is None or len(shape) == len(names)):
                values[output.name] = without_singles(_of_the_only_image(model, node, names, shape), shape)
    return AxisNames(values, channels, planes, lacks_images)


def _of_the_only_image(model: Model, node: gs.Node, names: Names, shape: Shape | None) -> Names:
    """Return the names of a node's results, where a filter or a pool tells the axis of the only image.

    A graph may take that axis away, and give it back before each of them, whose first axis it is.
    """
    alone = model.batch == 1 and traits_of(node) & {CONVOLUTION, POOL}
    if not alone or not names or names[0] or not shape or shape[0] != 1:
        return names
    return (frozenset({BATCH}), *names[1:])


def _filters_the_batch(model: Model, node: gs.Node, given: Mapping[int, Names]) -> bool:
    """Tell whether a convolution of one image goes along what was taken for the axis of images."""
    shape = model.type_of(node.inputs[0].name).shape or ()
    if CONVOLUTION not in traits_of(node) or 0 not in given or len(shape) <= image_rank(model):
        return False
    first, *others = given[0]
    along = [size for axis, size in zip(others, shape[1:], strict=True) if BATCH in axis]
    return shape[0] == 1 and any(size != 1 or BATCH not in first for size in along)


def _sized(model: Model) -> set[str]:
    """Return the inputs whose first axis has as many places as there are images."""
    return {name for name in model.inputs if (model.type_of(name).shape or (0,))[0] == model.batch}


def _named_as_images(model: Model) -> set[str]:
    """Return the inputs whose first axis is called as that of those with most axes, and these."""
    types = {name: model.type_of(name) for name in model.inputs}
    most = image_rank(model)
    called = {each.symbols[0] for each in types.values() if len(each.shape or ()) == most and each.symbols}
    return {
        name
        for name, each in types.items()
        if len(each.shape or ()) == most or (each.symbols and each.symbols[0] in called - {""})
    }


def _have_own_numbers(model: Model) -> bool:
    """Tell whether a value has rows and columns called as the first axes of two inputs: no batch has two."""
    called = {each.symbols[0] for each in map(model.type_of, model.inputs) if each.symbols} - {""}
    values = (model.type_of(v.name).symbols for node in model.nodes for v in node.outputs)
    return len(called) > 1 and any(len(called.intersection(symbols)) > 1 for symbols in values)


def _inputs(model: Model, with_images: AbstractSet[str]) -> dict[str, Names]:
    shapes = {name: model.type_of(name).shape for name in model.inputs}
    return {
        name: tuple(
            (frozenset({BATCH}) if name in with_images else NOTHING)
            if k == 0
            else frozenset({_named(name, k)})
            for k in range(len(shape))
        )
        for name, shape in shapes.items()
        if shape
    }


def _named(name: str, axis: int) -> str:
    return f"{name}[{axis}]"


def _note_channels(filtered: Names, channels: dict[str, int]) -> None:
    """Note which axis of an input a convolution takes for channels, if it is the first to read it.

    An axis that was cut into windows (a sound's samples) lies along the channels and the positions: it has
    positions only.
    """
    for name in filtered[1] - NOTHING.union(*filtered[2:]):
        value, bracket, axis = name.rpartition("[")
        if bracket:
            channels.setdefault(value, int(axis[:-1]))


def _planes(filtered: Names, inputs: Mapping[str, Names]) -> set[str]:
    """Return the inputs of which a convolution goes along every axis but that of the images."""
    along = NOTHING.union(*filtered[2:])
    return {value for value, (_, *axes) in inputs.items() if axes and all(axis <= along for axis in axes)}


def _followed(at: ForwardNode, given: Mapping[int, Names]) -> Names | None:
    """Return the names of a node's results; ``None`` where they cannot be told."""
    entry = find(at.node.op, at.node.domain)
    if SHAPE_ONLY in entry.traits:
        return None
    try:
        if entry.axes is not None:
            return entry.axes(at, given)
        if POINTWISE in entry.traits:
            return pointwise(at, given)
        if REDUCTION in entry.traits:
            return reduction(at, given)
        return window(at, given) if entry.traits & {CONVOLUTION, FILTER} else passed(at, given)
    except (RuleError, KeyError, IndexError, ValueError):
        return None  # a form whose shapes are not known
