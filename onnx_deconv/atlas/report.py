"""An atlas as one HTML file to read: no server, no network."""

import base64
import json
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import numpy as np

from onnx_deconv.atlas.store import Reader
from onnx_deconv.attribution.explainer import Explainer
from onnx_deconv.attribution.photographs import Target, explain_photos
from onnx_deconv.errors import InputError
from onnx_deconv.files import replacing
from onnx_deconv.imaging import Photo, Picture, Preprocess, at_height, draw, webp
from onnx_deconv.model import Array
from onnx_deconv.operators import compared_tables

LARGEST = 25_000_000
"""Bytes that a report takes at most; its pictures are made smaller and coarser until it does."""

_PER = 64
"""Feature maps per sprite: a browser decodes only what is looked at."""
_STEPS = ((48, 60), (48, 40), (40, 40), (32, 40), (32, 20), (24, 20), (16, 10))
"""Size of a picture and quality of the compression, the best first."""
_COARSE = 24
"""Pixels up to which a picture is shown with its pixels as squares."""
_PHOTO = 288
"""Height of the pictures of a photograph."""


@dataclass(frozen=True)
class Explained:
    """One choice of the pickers, with its pictures.

    Attributes
    ----------
    photo, layer, subject, rules
        What is picked.
    pictures
        Captions with pictures.
    """

    photo: str
    layer: str
    subject: str
    rules: str
    pictures: Sequence[tuple[str, Picture]]


def write_report(
    path: str | os.PathLike[str],
    reader: Reader,
    explained: Sequence[Explained] = (),
    *,
    largest: int = LARGEST,
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
        Bytes that it may take.

    Returns
    -------
    int
        Its size in bytes.

    Raises
    ------
    InputError
        If it cannot be written, or not made as small as that.
    """
    template = files("onnx_deconv.atlas").joinpath("report.html").read_text(encoding="utf-8")
    for tile, quality in _STEPS:
        record = json.dumps(_record(reader, explained, tile, quality), separators=(",", ":"))
        # Within a script element "</" would end it.
        page = template.replace("/*ATLAS*/", record.replace("</", "<\\/")).encode()
        if len(page) <= largest:
            with replacing(path) as temporary:
                temporary.write_bytes(page)
            return len(page)
    raise InputError(f"the report takes more than {largest:,} bytes: make it of fewer layers")


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
        How they became the model's input.
    layers
        Whose strongest feature map is explained too.
    classes
        How many classes of each photograph, the most probable first.

    Yields
    ------
    Explained
        Each photograph's classes first, then its layers.
    """
    how: dict[str, Any] = {"providers": explainer.providers, "labels": explainer.labels.names or None}
    tables = [Explainer(explainer.model, name, **how) for name in compared_tables()]
    for name, photo in photos:
        for layer in (None, *layers):
            for each in tables:
                target = Target(layer=layer, top=classes if layer is None else 1)
                for one in explain_photos(each, [photo], target)[0]:
                    subject = one.label or f"{'class' if layer is None else 'feature map'} {one.channel}"
                    pictures = draw(photo, one.reconstruction, preprocess, ("projection", "overlay"))
                    shown = [("what the model sees", photo.view)]
                    shown += [(f"{subject}: {view}", picture) for view, picture in pictures.items()]
                    yield Explained(name, layer or "classes", subject, each.semantics.rules, shown)


def _record(reader: Reader, explained: Sequence[Explained], tile: int, quality: int) -> dict[str, Any]:
    atlas, made = reader.atlas, reader.atlas.made
    rules = made.get("semantics", {}).get("rules", "")
    return {
        "model": made.get("model", "a model"),
        "about": f"The {atlas.top} strongest of {atlas.seen} images for each feature map, projected to the "
        f"pixels that caused them ({rules}).",
        "images": atlas.images,
        "layers": [_layer(reader, layer, tile, quality) for layer in atlas.layers],
        "explanations": [
            {
                "photo": one.photo,
                "layer": one.layer,
                "class": one.subject,
                "rules": one.rules,
                "pictures": [(caption, _text(at_height(p, _PHOTO), 75)) for caption, p in one.pictures],
            }
            for one in explained
        ],
    }


def _layer(reader: Reader, layer: str, tile: int, quality: int) -> dict[str, Any]:
    table, shelf = reader.atlas.layers[layer], reader.shelf(layer)
    channels, top = table.activations.shape
    height, width = _size(shelf.projections.shape[2:4], tile)
    columns = math.ceil(math.sqrt(top))
    rows = math.ceil(top / columns)
    units: list[list[Any]] = [[] for _ in range(channels)]
    for channel, rank in np.argwhere(table.taken).tolist():
        seen = reader.seen[layer, channel, rank].get("receptive_field", [])
        image, position = int(table.images[channel, rank]), table.positions[channel, rank].tolist()
        activation = float(f"{table.activations[channel, rank]:.5g}")
        units[channel].append([activation, image, position, seen])
    windows = [reader.seen[key].get("window") for key in reader.seen if key[0] == layer]
    window = next((w for w in windows if w), [0, 0, height, width])
    return {
        "layer": layer,
        "channels": channels,
        "window": [window[2] - window[0], window[3] - window[1]],
        "grid": [rows, columns],
        "block": [rows * height, columns * width],
        "per": _PER,
        "across": math.isqrt(_PER),
        "coarse": max(shelf.projections.shape[2:4]) <= _COARSE,
        "sprites": {
            "projections": list(_sprites(shelf.projections, (height, width), columns, quality)),
            "patches": list(_sprites(shelf.patches, (height, width), columns, quality)),
        },
        "units": units,
    }


def _size(kept: Sequence[int], tile: int) -> tuple[int, int]:
    """Return the size of a layer's pictures in the report: few pixels are repeated, many averaged."""
    height, width = kept
    if max(kept) <= tile:
        times = max(1, tile // max(kept))
        return height * times, width * times
    factor = tile / max(kept)
    return max(1, round(height * factor)), max(1, round(width * factor))


def _sprites(tiles: Array, size: tuple[int, int], columns: int, quality: int) -> Iterator[str]:
    """Yield pictures of many feature maps each, one block of its nine per feature map."""
    across = math.isqrt(_PER)
    for first in range(0, len(tiles), _PER):
        blocks = [_block(block, size, columns) for block in tiles[first : first + _PER]]
        blank = np.full_like(blocks[0], 255)
        missing = -len(blocks) % min(across, len(blocks))
        wide = min(across, len(blocks))
        blocks += [blank] * missing
        lines = [np.concatenate(blocks[k : k + wide], axis=1) for k in range(0, len(blocks), wide)]
        yield _text(np.concatenate(lines), quality)


def _block(tiles: Array, size: tuple[int, int], columns: int) -> Picture:
    height, width = size
    rows = math.ceil(len(tiles) / columns)
    block = np.full((rows * height, columns * width, 3), 255, np.uint8)
    for k, tile in enumerate(tiles):
        row, column = divmod(k, columns)
        shown = at_height(np.asarray(tile), height)[:, :width]
        block[row * height : (row + 1) * height, column * width : column * width + shown.shape[1]] = shown
    return block


def _text(picture: Picture, quality: int) -> str:
    return base64.b64encode(webp(picture, quality)).decode()
