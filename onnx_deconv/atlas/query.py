"""Ask a finished atlas: its units, the feature maps that a class excites, the maps that are alike.

Answers are columns by name, as ``pandas.DataFrame`` and ``pyarrow.table`` take them. No picture is
read, and of the layers only those that are asked for.
"""

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

import numpy as np

from onnx_deconv.atlas.top_activations import Atlas
from onnx_deconv.errors import InputError
from onnx_deconv.model.layer_names import layers_named

Columns = dict[str, list[Any]]
"""A table: columns of one length, by name."""

ClassOf = Callable[[str], str]
"""The class of an image, by its name; empty if it has none."""


@dataclass(frozen=True)
class Query:
    """What is asked; ``None`` leaves it open.

    Attributes
    ----------
    layer
        The layer, by its name, its number, or a part of its name that no other has.
    channel
        The feature map.
    image
        The image's name.
    of_class
        The class, by its name.
    top
        How many rows, at most.
    near
        A layer and a channel: asks for the feature maps that are most like that one, where `layer` is given
        of that layer.
    """

    layer: str | None = None
    channel: int | None = None
    image: str | None = None
    of_class: str | None = None
    top: int | None = None
    near: tuple[str, int] | None = None

    @classmethod
    def parse(cls, text: str) -> "Query":
        """Read ``layer=conv4 class="tabby cat" top=20``, or ``near=LAYER:CHANNEL``.

        Raises
        ------
        InputError
            If it cannot be understood.
        """
        found: dict[str, Any] = {}
        try:
            words = shlex.split(text)
        except ValueError as error:
            raise InputError(f"{text!r}: {error}") from error
        for word in words:
            key, is_given, value = word.partition("=")
            if not is_given or not value or key not in _KEYS:
                raise InputError(f"{word!r}: give {', '.join(f'{key}=…' for key in _KEYS)}")
            if key in found:
                raise InputError(f"{word!r}: {key} is given twice")
            found[key] = _understood(key, value)
        clash = next((pair for pair in _APART if set(pair) <= set(found)), None)
        if clash is not None:
            raise InputError(f"{text!r}: {clash[0]}= and {clash[1]}= are two questions: leave one out")
        return cls(of_class=found.pop("class", None), **found)


_KEYS = ("layer", "channel", "image", "class", "top", "near")
_APART = (("near", "class"), ("near", "channel"), ("near", "image"), ("class", "image"))


def _understood(key: str, value: str) -> Any:
    if key == "near":
        layer, between, channel = value.rpartition(":")
        if not between:
            raise InputError(f"near={value}: give a layer and a channel, near=LAYER:CHANNEL")
        return layer, _number("near", channel)
    return _number(key, value) if key in ("channel", "top") else value


def _number(key: str, value: str) -> int:
    if not value.isdecimal() or (key == "top" and not int(value)):
        raise InputError(f"{key}: {value!r} is no {'whole number above 0' if key == 'top' else 'channel'}")
    return int(value)


def folder_of(image: str) -> str:
    """Return the name of the folder that an image is in: collections keep a folder for each class."""
    return PurePath(image).parent.name


def ask(atlas: Atlas, query: Query, class_of: ClassOf = folder_of) -> Columns:
    """Answer a query.

    Parameters
    ----------
    atlas
        The atlas.
    query
        What is asked. With `near`: the feature maps with the most images in common. With a class: the feature
        maps that have most of its images among their strongest. Else units, the strongest of each map first.
    class_of
        Tells an image's class.

    Returns
    -------
    dict
        ``layer`` and ``channel`` are always among the columns.

    Raises
    ------
    InputError
        If there is no such layer, feature map, image or class in the atlas.
    """
    layer = None if query.layer is None else _layer(atlas, query.layer)
    if query.channel is not None:
        _check(atlas, layer, query.channel)
    if query.image is not None and query.image not in atlas.images:
        raise InputError(f"{query.image!r} is not among the strongest images of any feature map")
    if query.near is not None:
        of, channel = _layer(atlas, query.near[0]), query.near[1]
        _check(atlas, of, channel)
        return _nearest(atlas, of, channel, _layers(atlas, layer), query.top)
    if query.of_class is not None:
        return _of_class(atlas, query, layer, class_of)
    return _units(atlas, query, layer, class_of)


def _layer(atlas: Atlas, name: str) -> str:
    found = layers_named(name, {layer: layer for layer in atlas.layers}, atlas.made.get("numbers", {}))
    if len(found) == 1:
        return found[0]
    what = "several layers are called that" if found else "no such layer"
    raise InputError(f"{name!r}: {what}; there are {', '.join(found or atlas.layers)}")


def _check(atlas: Atlas, layer: str | None, channel: int) -> None:
    """Make sure that a layer, or one of all, has a feature map."""
    channels = max(len(atlas.layers[name].activations) for name in _layers(atlas, layer))
    if channel >= channels:
        what = repr(layer) if layer is not None else "the layer with the most"
        raise InputError(f"{what} has {channels} feature maps, counted from 0: not {channel}")


def _layers(atlas: Atlas, layer: str | None) -> list[str]:
    """List the layers that are asked for: others are not read."""
    return list(atlas.layers) if layer is None else [layer]


def _units(atlas: Atlas, query: Query, layer: str | None, class_of: ClassOf) -> Columns:
    names = "layer", "channel", "rank", "activation", "image", "class", "position"
    rows = []
    for name, channel, rank in _places(atlas, query, layer):
        table, image = atlas.layers[name], atlas.image_of(name, channel, rank)
        if query.image in (None, image):
            activation, position = table.activations[channel, rank], table.positions[channel, rank]
            rows.append((name, channel, rank, float(activation), image, class_of(image), position.tolist()))
        if len(rows) == query.top:
            break
    return _columns(names, rows)


def _places(atlas: Atlas, query: Query, layer: str | None) -> list[tuple[str, int, int]]:
    return [
        (name, channel, rank)
        for name in _layers(atlas, layer)
        for channel, rank in atlas.layers[name].ranks()
        if query.channel in (None, channel)
    ]


def _of_class(atlas: Atlas, query: Query, layer: str | None, class_of: ClassOf) -> Columns:
    classes = [class_of(image) for image in atlas.images]
    wanted = str(query.of_class).casefold()
    chosen = np.array([name.casefold() == wanted for name in classes], bool)
    if not chosen.any():
        known = ", ".join(sorted({name for name in classes if name})[:10]) or "none: name them with --classes"
        raise InputError(f"no image of class {query.of_class!r} is in the atlas; classes: {known}")
    rows = []
    for name in _layers(atlas, layer):
        table = atlas.layers[name]
        inside = table.filled & chosen[np.where(table.filled, table.images, 0)]
        for channel in np.nonzero(inside.any(axis=1))[0].tolist():
            if query.channel in (None, channel):
                count, first = int(inside[channel].sum()), int(inside[channel].argmax())
                of = int(table.filled[channel].sum())
                activation = float(table.activations[channel, first])
                rows.append((name, channel, count, of, activation, atlas.image_of(name, channel, first)))
    rows.sort(key=lambda row: -row[2] / row[3])  # stable: layers and channels in their order
    return _columns(("layer", "channel", "images", "of", "activation", "image"), rows[: query.top])


def _nearest(atlas: Atlas, layer: str, channel: int, among: Sequence[str], top: int | None) -> Columns:
    """List feature maps by the images that both have, over all images that either has (Jaccard 1901)."""
    own = atlas.layers[layer]
    images = own.images[channel][own.filled[channel]]
    rows = []
    for name, table in ((name, atlas.layers[name]) for name in among):
        shared = (np.isin(table.images, images) & table.filled).sum(axis=1)
        either = table.filled.sum(axis=1) + len(images) - shared
        for other in np.nonzero(shared)[0].tolist():
            if (name, other) != (layer, channel):
                count = int(shared[other])
                rows.append((name, other, count, count / int(either[other])))
    rows.sort(key=lambda row: -row[3])
    return _columns(("layer", "channel", "shared", "similarity"), rows[:top])


def _columns(names: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> Columns:
    return {name: [row[k] for row in rows] for k, name in enumerate(names)}


def classes_from(rows: Mapping[str, str], labels: Sequence[str] = ()) -> ClassOf:
    """Return what tells classes from a table of images and their classes, names or indices of `labels`.

    An image is found by its name in the atlas, or without its folder and suffix.

    Raises
    ------
    InputError
        If a number is the name of one class and the index of another.
    """

    def named(value: str) -> str:
        if not value.isdecimal() or int(value) >= len(labels):
            return value
        name = labels[int(value)]
        if name != value and value in labels:
            raise InputError(
                f"class {value!r} is a name, and the index of {name!r}: leave the labels out where the table "
                "has names"
            )
        return name

    known = {PurePath(image).stem: named(value) for image, value in rows.items()}
    whole = {image: named(value) for image, value in rows.items()}
    return lambda image: whole.get(image, known.get(PurePath(image).stem, ""))
