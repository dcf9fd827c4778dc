"""What a program must know to prepare a model's inputs: sizes, the batch, preprocessing, names of classes."""

from dataclasses import asdict
from typing import Any

from onnx_deconv.errors import InputError
from onnx_deconv.imaging import ImageInput, preprocess_for
from onnx_deconv.labels import Labels
from onnx_deconv.model import Model
from onnx_deconv.model.class_names import names_in_nodes
from onnx_deconv.model.heads import Head, names_of_fields


def labels_of(model: Model, head: Head) -> Labels:
    """Return the names that a file has for the classes of an output: in its metadata, else in its nodes."""
    return Labels.of(None, model.metadata, names_in_nodes(model, head))


def input_facts(model: Model, head: Head) -> dict[str, Any]:
    """Return what to say in a manifest of a model's inputs, and of its classes.

    Parameters
    ----------
    model
        The model.
    head
        The output whose classes are named.

    Returns
    -------
    dict
        ``batch``: its axis, its size where the file fixes it, and as ``added`` the inputs that have no such
        axis in the file. ``example``: sizes with which the model can be warmed up, by input; ``None`` for a
        size that nothing tells. ``preprocessing``: how photographs become numbers, as
        :class:`onnx_deconv.imaging.Preprocess` has it, ``None`` where the model does not say. ``labels``: the
        names of the classes in the model's file.
    """
    added = sorted(model.image_axis_added)
    return {
        "batch": {"axis": 0, "size": model.batch} | ({"added": added} if added else {}),
        "example": {name: _example(model, name) for name in model.inputs},
        "preprocessing": _preprocessing(model),
        "labels": list(names_of_fields(head, labels_of(model, head).names)),
    }


def _example(model: Model, name: str) -> list[int | None] | None:
    dims = model.type_of(name).shape
    if dims is None:
        return None
    sizes = [dims[0] or 1, *dims[1:]] if dims else []
    try:
        takes = ImageInput.of(model)
    except InputError:
        return sizes
    height, width = takes.size_or(None)
    channels = [takes.channels]
    return (
        [sizes[0], *channels, height, width]
        if takes.layout == "NCHW"
        else [sizes[0], height, width, *channels]
    )


def _preprocessing(model: Model) -> dict[str, Any] | None:
    try:
        preprocess, assumed = preprocess_for(model)
    except InputError:
        return None
    return None if assumed else asdict(preprocess)
