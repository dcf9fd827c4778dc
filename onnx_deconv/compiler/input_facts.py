"""What a program must know to prepare a model's inputs: sizes, the batch, preprocessing, names of classes."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from onnx_deconv.errors import InputError
from onnx_deconv.imaging import ImageInput, preprocess_for
from onnx_deconv.labels import IMAGENET, Labels
from onnx_deconv.model import Model
from onnx_deconv.model.class_names import names_in_nodes
from onnx_deconv.model.head import Head, class_count
from onnx_deconv.model.head_labels import names_of_fields, names_that_fit


def labels_of(model: Model, head: Head) -> Labels:
    """Return the names that a file has for the classes of an output: in its metadata, else in its nodes."""
    found = Labels.of(None, model.metadata, names_in_nodes(model, head))
    return Labels(names_that_fit(model, head, found.names))


def labels_for(model: Model, head: Head, given: Sequence[str] | str | None = None) -> Labels:
    """Return the names of an output's classes: those given, those in its file, or beside it if as many.

    Parameters
    ----------
    model
        The model.
    head
        The output.
    given
        Names of the classes, or ``imagenet`` for ImageNet's; by default the model's own.

    Raises
    ------
    InputError
        If a text is given that stands for no names, or ImageNet's for another number of classes.
    """
    if isinstance(given, str):
        if given != IMAGENET:
            raise InputError(f"labels={given!r}: give the names as a list, or {IMAGENET!r}")
        return Labels.imagenet(class_count(model, head))
    if given is not None:
        return Labels(names_that_fit(model, head, Labels.of(given).names))
    found = labels_of(model, head)
    if found.names or model.files.in_memory:
        return found
    beside = Labels.beside(model.files.home)
    return beside if len(beside.names) == class_count(model, head) else found


def input_facts(model: Model, head: Head, names: Sequence[str]) -> dict[str, Any]:
    """Return what to say in a manifest of a model's inputs, and of its classes.

    Parameters
    ----------
    model
        The model.
    head
        The output whose classes are named.
    names
        The names that are known.

    Returns
    -------
    dict
        ``batch``: its axis, its size where the file fixes it, and as ``added`` the inputs that have no such
        axis in the file. ``example``: sizes with which the model can be warmed up, by input; ``None`` for a
        size that nothing tells. ``preprocessing``: how photographs become numbers, as
        :class:`onnx_deconv.imaging.Preprocess` has it, ``None`` where the model does not say. ``labels``: the
        names of the classes.
    """
    added = sorted(model.image_axis_added)
    return {
        "batch": {"axis": 0, "size": model.batch} | ({"added": added} if added else {}),
        "example": {name: _example(model, name) for name in model.inputs},
        "preprocessing": _preprocessing(model),
        "labels": list(names_of_fields(head, names)),
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
