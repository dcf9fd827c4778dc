"""A model some of whose inputs get the same with every image: they become a part of the model."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from onnx import NodeProto, TensorProto, helper, numpy_helper

from onnx_deconv.attribution.batches import as_array, as_input, batched
from onnx_deconv.errors import InputError
from onnx_deconv.model import Array, Model, Source, load
from onnx_deconv.model.opset_conversion import at_opset
from onnx_deconv.model.protos import replace

_NEEDS = 9
"""The first opset that has all operators used here."""


def with_inputs(model: Source | Model, given: Mapping[str, Any]) -> Model:
    """Return a model that takes the other inputs alone.

    Parameters
    ----------
    model
        The model, or what :func:`onnx_deconv.load` takes; it is not changed. The new one
        reads its weights from the same files.
    given
        What inputs get with every image, by name: an array as the model takes it of one image, without the
        batch axis; a number for an input without axes.

    Raises
    ------
    InputError
        If the model has no such input, an array does not fit, or no input is left.

    Examples
    --------
    >>> model = with_inputs(load("siamese.onnx"), {"right": array})
    >>> Explainer(model).explain("left.jpg")
    """
    model = model if isinstance(model, Model) else load(model)
    if unknown := [name for name in given if name not in model.inputs]:
        raise InputError(f"the model has no input {unknown[0]!r} but {', '.join(model.inputs)}")
    left = [name for name in model.inputs if name not in given]
    if not left:
        raise InputError("every input is given, so that none is left to explain")
    proto, with_batch = at_opset(model.proto, _NEEDS, model.proto.ir_version), batched(model)
    counted = next((name for name in with_batch if name in left), None)
    made: list[NodeProto] = []
    for name, content in given.items():
        array, types = np.asarray(as_array(name, content)), model.type_of(name)
        # What runtimes do with bfloat16 is little more than to convert it.
        rounded = types.dtype == TensorProto.BFLOAT16
        value = f"{name}/float" if rounded else name
        if name not in with_batch or counted is None:
            made.append(_constant(value, as_input(model, name, array)))
        else:
            if array.ndim == len(types.shape or ()):
                size = "×".join(map(str, array.shape))
                raise InputError(
                    f"input {name!r}: {size} is a batch: give what one image gets, without its axis"
                )
            array = as_input(model, name, np.repeat(array[None], model.batch or 1, 0))
            made += (_repeated if model.batch is None else _told)(value, array, counted)
        if rounded:
            made.append(helper.make_node("Cast", [value], [name], to=types.dtype))
    replace(proto.graph.input, [each for each in proto.graph.input if each.name not in given])
    replace(proto.graph.node, [*made, *proto.graph.node])
    shapes = {name: sizes for name, sizes in model.input_shapes.items() if name not in given}
    return Model(proto, model.files, model.name, shapes)


def _constant(name: str, array: Array) -> NodeProto:
    """Write an array into the graph; as a node, which files of all ages have."""
    return helper.make_node("Constant", [], [name], value=numpy_helper.from_array(array))


def _repeated(name: str, array: Array, counted: str) -> Iterator[NodeProto]:
    """Repeat what one image gets as often as there are images in another input."""
    one, sizes, count, shape = (f"{name}/{each}" for each in ("one", "sizes", "count", "shape"))
    yield _constant(one, array)
    yield _constant(sizes, np.array(array.shape[1:], np.int64))
    yield _constant(f"{count}/axis", np.zeros(1, np.int64))
    yield helper.make_node("Shape", [counted], [f"{count}/of"])
    yield helper.make_node("Gather", [f"{count}/of", f"{count}/axis"], [count])
    yield helper.make_node("Concat", [count, sizes], [shape], axis=0)
    yield helper.make_node("Expand", [one, shape], [name])


def _told(name: str, array: Array, counted: str) -> Iterator[NodeProto]:
    """Give an array as what seems to depend on another input.

    What follows from a constant is taken for weights, computed slowly, and cut off where it only scales
    scores: an explanation would differ from that of the model which is given both.
    """
    one, flat, first, flag = (f"{name}/{each}" for each in ("one", "flat", "first", "flag"))
    yield _constant(one, array)
    yield _constant(f"{flat}/shape", np.array([-1]))
    yield _constant(f"{first}/place", np.zeros(1, np.int64))
    yield helper.make_node("Reshape", [counted, f"{flat}/shape"], [flat])
    yield helper.make_node("Gather", [flat, f"{first}/place"], [first])
    yield helper.make_node("Cast", [first], [flag], to=TensorProto.BOOL)
    yield helper.make_node("Where", [flag, one, one], [name])
