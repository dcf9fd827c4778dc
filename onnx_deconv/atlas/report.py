"""An atlas as one HTML file, which needs neither a server nor a network."""

import json
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import numpy as np

from onnx_deconv.atlas.reader import Reader
from onnx_deconv.atlas.sprites import BLOCKS, encoded, shown_size, sprites
from onnx_deconv.attribution.explainer import Explainer
from onnx_deconv.attribution.photographs import Selection, explain_photos
from onnx_deconv.errors import InputError
from onnx_deconv.files import replacing
from onnx_deconv.imaging import Photo, Picture, Preprocess, at_height
from onnx_deconv.operators import compared_tables

LARGEST = 25_000_000
"""Bytes that a report may take; its pictures are made smaller and coarser until it does."""

_QUALITIES = ((48, 60), (48, 40), (40, 40), (32, 40), (32, 20), (24, 20), (16, 10))
"""Sizes of a unit's picture, in pixels, and qualities of the compression; the best first."""
_COARSE = 24
"""Pictures of at most this many pixels along an axis are shown with their pixels as squares."""
_PHOTO_HEIGHT, _PHOTO_QUALITY = 288, 75
"""Height in pixels, and quality of the compression, of the pictures of a photograph."""


@dataclass(frozen=True)
class Explained:
    """One explanation of a photograph, as the report's pickers offer it.

    Attributes
    ----------
    photo, layer, subject, rules
        What a reader picks: the photograph, the layer, its class or feature map, and the rule table.
    score
        The class's, or the feature map's strongest activation.
    pictures
        Captions and pictures.
    """

    photo: str
    layer: str
    subject: str
    rules: str
    score: float
    pictures: Sequence[tuple[str, Picture]]


SECONDS = 1e-3
"""Seconds in which one core draws a unit into a report, where its pictures need not be made smaller."""


def write_report(
    path: str | os.PathLike[str],
    reader: Reader,
    explained: Sequence[Explained] = (),
    *,
    largest: int = LARGEST,
    show: Callable[[str], None] = lambda _: None,
) -> int:
    """Write the report of an atlas.

    Parameters
    ----------
    path
        The HTML file.
    reader
        The atlas.
    explained
        Explanations of photographs, for the pickers.
    largest
        Bytes that the file may take.
    show
        Called with a line that tells how far it is.

    Returns
    -------
    int
        Its size in bytes.

    Raises
    ------
    InputError
        If it cannot be written, or cannot be made that small.
    """
    template = files("onnx_deconv.atlas").joinpath("report.html").read_text(encoding="utf-8")
    for tile, quality in _QUALITIES:
        parts: dict[str, Any] = {}
        record = _record(reader, explained, parts)
        if not _add_layers(reader, record, tile, quality, parts, largest, show):
            continue
        text = template.replace("/*PARTS*/", "\n".join(map(_part, parts, parts.values())))
        text = text.replace("/*ATLAS*/", _written(record))  # last: only here are names
        page = text.encode("utf-8", "replace")
        if len(page) <= largest:
            with replacing(path) as temporary:
                temporary.write_bytes(page)
            return len(page)
    raise InputError(f"the report takes more than {largest:,} bytes: make it of fewer layers")


def in_script(record: str) -> str:
    """Write JSON so that nothing in it is markup where it stands in an HTML page."""
    return record.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _written(record: Any) -> str:
    return in_script(json.dumps(record, separators=(",", ":")))


def _part(name: str, record: Any) -> str:
    """Write what is shown later as an element of its own: a browser need not have the whole file to begin."""
    data = f'<script type="application/json" id="{name}">{_written(record)}</script>'
    return f'{data}<script>came("{name}")</script>'


def explanations(
    explainer: Explainer, photos: Sequence[tuple[str, Photo]], preprocess: Preprocess,
    layers: Sequence[str] = (), classes: int = 3,
) -> Iterator[Explained]:  # fmt: skip
    """Explain photographs by every rule table.

    Parameters
    ----------
    explainer
        For the model; the rule tables are chosen here.
    photos
        Names and photographs.
    preprocess
        How the photographs became the model's input.
    layers
        Layers whose strongest feature map is explained too.
    classes
        How many classes of each photograph are explained, the strongest first.

    Yields
    ------
    Explained
        Each photograph's classes first, then its layers.
    """
    tables = [Explainer(explainer.model, name, **explainer.options) for name in compared_tables()]
    classes_first = [None] if explainer.undecided is None else []
    for name, photo in photos:
        for layer in (*classes_first, *layers):
            for each in tables:
                selection = Selection(layer=layer, top=classes if layer is None else 1)
                for one in explain_photos(each, [photo], selection, preprocess)[0]:
                    subject = one.label or f"{'class' if layer is None else 'feature map'} {one.channel}"
                    views = one.views()
                    shown = [("what the model sees", photo.view)]
                    shown += [(f"{one.caption}: {view}", views[view]) for view in ("projection", "overlay")]
                    yield Explained(name, layer or "classes", subject, each.semantics.rules, one.score, shown)


def _record(reader: Reader, explained: Sequence[Explained], parts: dict[str, Any]) -> dict[str, Any]:
    """Return what the page needs at once, but for the layers; all pictures become `parts`."""
    atlas, made = reader.atlas, reader.atlas.made
    pictures = [[_picture(caption, picture, parts) for caption, picture in one.pictures] for one in explained]
    return {
        "model": made.get("model", "a model"),
        "about": f"The {atlas.top} strongest of {atlas.seen} images for each feature map, projected to the "
        f"pixels that caused them{_methods(made)}.",
        "images": atlas.images,
        "layers": [],
        "explanations": [
            {
                "photo": one.photo,
                "layer": one.layer,
                "class": one.subject,
                "rules": one.rules,
                "score": float(f"{one.score:.3g}"),
                "pictures": shown,
            }
            for one, shown in zip(explained, pictures, strict=True)
        ],
    }


def _add_layers(
    reader: Reader, record: dict[str, Any], tile: int, quality: int, parts: dict[str, Any], largest: int,
    show: Callable[[str], None],
) -> bool:  # fmt: skip
    """Add the layers; tell whether their pictures take less than so many bytes: if not, some are left out."""
    size = 0
    for number, layer in enumerate(reader.atlas.layers, 1):
        show(f"{number}/{len(reader.atlas.layers)} {layer}, in pictures of {tile} pixels")
        name = f"layer{number - 1}"
        record["layers"].append(_layer(reader, layer, tile, quality, name, parts))
        size += sum(len(sprite) for sprites in parts[name]["sprites"].values() for sprite in sprites)
        if size > largest:
            return False
    return True


def _methods(made: Mapping[str, Any]) -> str:
    """Say by which method, and for which layers if there are several."""
    layers: dict[str, list[str]] = {}
    for layer, made_by in made.get("methods", {}).items():
        layers.setdefault(made_by["method"], []).append(layer)
    if len(layers) < 2:  # noqa: PLR2004 - one method, or an atlas of the library, which names none
        return "".join(f" by {method}" for method in layers)
    return " by " + "; by ".join(f"{method}: {', '.join(names)}" for method, names in layers.items())


def _picture(caption: str, picture: Picture, parts: dict[str, Any]) -> tuple[str, str, int, int]:
    """Return what is told of a photograph's picture; the same picture becomes one part."""
    sized = at_height(picture, _PHOTO_HEIGHT)
    shown = encoded(sized, _PHOTO_QUALITY)
    name = next((name for name, other in parts.items() if other == shown), f"picture{len(parts)}")
    parts[name] = shown
    return caption, name, *sized.shape[:2]


def _layer(
    reader: Reader, layer: str, tile: int, quality: int, name: str, parts: dict[str, Any]
) -> dict[str, Any]:
    table, arrays = reader.atlas.layers[layer], reader.files(layer)
    channels, top = table.activations.shape
    kept = arrays.projections.shape[2:4]
    height, width = shown_size(kept, tile)
    columns = math.ceil(math.sqrt(top))
    rows = math.ceil(top / columns)
    window = _window(reader, layer) or [0, 0, height, width]
    units = _units(reader, layer)
    parts[name] = {
        "sprites": {
            kind: list(sprites(pictures, (height, width), columns, quality))
            for kind, pictures in (("projections", arrays.projections), ("patches", arrays.patches))
        },
        "units": units,
    }
    return {
        "layer": layer,
        "channels": channels,
        "window": [window[2] - window[0], window[3] - window[1]],
        "grid": [rows, columns],
        "block": [rows * height, columns * width],
        "per": BLOCKS,
        "across": math.isqrt(BLOCKS),
        "coarse": max(kept) <= _COARSE,
        "strongest": [float(f"{of[0][0]:.3g}") if of else None for of in units],
        "tied": np.flatnonzero(table.tied).tolist(),
        "ranked_by": reader.atlas.made.get("ranked_by", {}).get(layer),
    }


def _units(reader: Reader, layer: str) -> list[list[Any]]:
    """Return, for each feature map, what the report tells of its strongest units."""
    table = reader.atlas.layers[layer]
    units: list[list[Any]] = [[] for _ in table.activations]
    for channel, rank in table.ranks():
        box = reader.projection(layer, (channel, rank)).get("receptive_field", [])
        image, position = int(table.images[channel, rank]), table.positions[channel, rank].tolist()
        activation = float(f"{table.activations[channel, rank]:.5g}")
        units[channel].append([activation, image, position, box])
    return units


def _window(reader: Reader, layer: str) -> list[int] | None:
    """Return the window of any of a layer's units: they have one size."""
    units = reader.atlas.layers[layer].ranks()
    windows = (reader.projection(layer, unit).get("window") for unit in units)
    return next((window for window in windows if window), None)
