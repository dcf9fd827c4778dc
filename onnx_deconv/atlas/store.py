"""An atlas as a folder of open formats: ``atlas.json``, arrays as ``.npy``, sheets as ``.png``."""

import hashlib
import json
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from onnx_deconv import render
from onnx_deconv.atlas.project import Projection
from onnx_deconv.atlas.tally import Atlas, Strongest, merge
from onnx_deconv.errors import InputError
from onnx_deconv.files import folder, replacing
from onnx_deconv.image import Channels, Picture, Size, at_height, montage, save_png
from onnx_deconv.model import Array, Model

INDEX, PARTIAL = "atlas.json", "atlas.partial.npz"
FORMAT = 1

_TILE = 64
"""Height and width, at most, of the pictures that are kept of each unit."""
_SHOWN = 48
"""Of a picture on a sheet, and at least, where pixels are few."""
_GREY = 128
_PICTURES = ("projections", "patches")


# Unfinished: the table alone


def save_partial(home: Path, atlas: Atlas) -> None:
    """Write what an interrupted run goes on from, whole or not at all."""
    meta = {"made": atlas.made, "top": atlas.top, "seen": atlas.seen, "failed": atlas.failed}
    meta |= {"images": atlas.images, "layers": list(atlas.layers)}
    arrays = {"meta": np.frombuffer(json.dumps(meta).encode(), np.uint8)}
    for k, table in enumerate(atlas.layers.values()):
        arrays |= {f"{k}/a": table.activations, f"{k}/i": table.images, f"{k}/p": table.positions}
    with replacing(home / PARTIAL) as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]


def load_partial(home: Path, made: Mapping[str, Any], top: int) -> Atlas | None:
    """Read what an interrupted run left; ``None`` where there is none.

    Raises
    ------
    InputError
        If it belongs to another run.
    """
    path = home / PARTIAL
    if not path.is_file():
        return None
    try:
        with np.load(path) as arrays:
            meta = json.loads(arrays["meta"].tobytes())
            tables = [Strongest(*(arrays[f"{k}/{c}"] for c in "aip")) for k in range(len(meta["layers"]))]
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{path}: cannot be read ({error}); delete it to begin again") from error
    if meta["made"] != json.loads(json.dumps(made)) or meta["top"] != top:
        raise InputError(f"{path}: belongs to a run with other options; delete it, or choose another folder")
    layers = dict(zip(meta["layers"], tables, strict=True))
    return Atlas(top, dict(made), meta["images"], layers, meta["seen"], meta["failed"])


def digest(model: Model) -> str:
    """Return what tells one model's file from another's: the SHA-256 of its graph."""
    return hashlib.sha256(model.proto.SerializeToString(deterministic=True)).hexdigest()[:16]


# Finished: the table with its pictures


@dataclass(frozen=True)
class Shelf:
    """Where the arrays of one layer lie.

    Attributes
    ----------
    stem
        What its files' names begin with.
    values
        Reconstructions within the windows, (channels, k, C, h, w), float16, each divided by its own
        largest magnitude, which ``atlas.json`` gives as ``scale``; ``None`` where they were not kept.
    projections, patches
        Pictures of them and of the image, (channels, k, height, width, 3), uint8, of at most 64 pixels.
    """

    stem: str
    values: Array | None
    projections: Array
    patches: Array

    @classmethod
    def made(cls, home: Path, stem: str, places: Size, window: Size, planes: int, *, values: bool) -> "Shelf":
        """Make the files, zero (mid-grey) all over."""
        small = _tile(window)
        arrays = [
            np.lib.format.open_memmap(home / f"{stem}-{kind}.npy", "w+", dtype, (*places, *shape))
            for kind, dtype, shape in (
                ("projections", np.uint8, (*small, 3)),
                ("patches", np.uint8, (*small, 3)),
                *([("values", np.float16, (planes, *window))] if values else []),
            )
        ]
        arrays[0][:] = arrays[1][:] = _GREY
        return cls(stem, arrays[2] if values else None, arrays[0], arrays[1])

    @property
    def arrays(self) -> tuple[Array | None, Array, Array]:
        """All three."""
        return self.values, self.projections, self.patches

    @classmethod
    def opened(cls, home: Path, stem: str) -> "Shelf":
        """Open the files of a finished atlas for reading.

        Raises
        ------
        InputError
            If one is missing.
        """
        try:
            found = [
                np.load(home / f"{stem}-{kind}.npy", mmap_mode="r") for kind in ("projections", "patches")
            ]
            raw = home / f"{stem}-values.npy"
            values = np.load(raw, mmap_mode="r") if raw.is_file() else None
        except (OSError, ValueError) as error:
            raise InputError(f"{home}: no whole atlas ({error}); make it again") from error
        return cls(stem, values, *found)


def _tile(window: Size) -> Size:
    height, width = window
    factor = max(1.0, max(window) / _TILE)
    return max(1, round(height / factor)), max(1, round(width / factor))


class Writer:
    """Writes an atlas: first the projections one by one, then the sheets and the index.

    Parameters
    ----------
    home
        The folder; it is made.
    atlas
        The table.
    windows
        (height, width) of what is shown of each layer's units.
    planes
        How many channels a reconstruction has.
    channels
        What they are.
    values
        Whether to keep the reconstructions' numbers; they take the most room.
    """

    def __init__(
        self, home: str | os.PathLike[str], atlas: Atlas, windows: Mapping[str, Size], planes: int,
        channels: Channels, *, values: bool = True,
    ) -> None:  # fmt: skip
        self.home, self.atlas, self._channels = folder(home), atlas, channels
        self.units: dict[tuple[str, int, int], dict[str, Any]] = {}
        stems = _stems(atlas.layers)
        self.shelves = {
            layer: Shelf.made(self.home, stems[layer], _places(table), windows[layer], planes, values=values)
            for layer, table in atlas.layers.items()
        }

    def add(self, one: Projection) -> None:
        """Keep a projection."""
        shelf, place = self.shelves[one.layer], (one.channel, one.rank)
        scale = float(np.abs(one.values).max(initial=0))
        if shelf.values is not None and scale:
            shelf.values[place] = one.values / np.float32(scale)
        height = shelf.projections.shape[2]
        shelf.projections[place] = at_height(render.projection(one.values, channels=self._channels), height)
        shelf.patches[place] = at_height(one.patch, height)
        self._note(one.layer, *place, one.box, one.window, scale)

    def _note(
        self, layer: str, channel: int, rank: int, box: Sequence[int], window: Sequence[int], scale: float
    ) -> None:
        seen = {"receptive_field": list(box), "window": list(window), "scale": scale}
        self.units[layer, channel, rank] = seen

    def copy(self, other: "Reader", layer: str, channel: int, rank: int, source: tuple[int, int]) -> None:
        """Take a unit's projection from another atlas."""
        for mine, theirs in zip(self.shelves[layer].arrays, other.shelf(layer).arrays, strict=True):
            if mine is not None and theirs is not None:
                mine[channel, rank] = theirs[source]
        self.units[layer, channel, rank] = other.seen[layer, *source]

    def finish(self) -> Path:
        """Draw the sheets, write the index, forget what was unfinished; return the index's path."""
        for shelf in self.shelves.values():
            for kind, tiles in (("projections", shelf.projections), ("patches", shelf.patches)):
                save_png(self.home / f"{shelf.stem}-{kind}.png", sheet(tiles))
        with replacing(self.home / INDEX) as temporary:
            temporary.write_text(json.dumps(self._index()) + "\n", encoding="utf-8")
        (self.home / PARTIAL).unlink(missing_ok=True)
        return self.home / INDEX

    def _index(self) -> dict[str, Any]:
        atlas = self.atlas
        return {
            "format": FORMAT,
            "made": atlas.made,
            "top": atlas.top,
            "seen": atlas.seen,
            "failed": atlas.failed,
            "layers": [
                {
                    "layer": layer,
                    "files": self.shelves[layer].stem,
                    "channels": len(table.activations),
                    "axes": table.positions.shape[2],
                    "units": list(self._units(layer, table)),
                }
                for layer, table in atlas.layers.items()
            ],
        }

    def _units(self, layer: str, table: Strongest) -> Iterator[dict[str, Any]]:
        for channel, rank in np.argwhere(table.taken).tolist():
            yield {
                "channel": channel,
                "rank": rank,
                "activation": float(table.activations[channel, rank]),
                "image": self.atlas.images[table.images[channel, rank]],
                "position": table.positions[channel, rank].tolist(),
                **self.units.get((layer, channel, rank), {}),
            }


class Reader:
    """A finished atlas.

    Parameters
    ----------
    home
        Its folder.

    Attributes
    ----------
    atlas
        The table.
    seen
        By (layer, channel, rank): ``receptive_field``, ``window`` and ``scale`` of each projection.

    Raises
    ------
    InputError
        If there is no whole atlas.
    """

    def __init__(self, home: str | os.PathLike[str]) -> None:
        self.home = Path(home)
        try:
            index = json.loads((self.home / INDEX).read_text(encoding="utf-8"))
            self._stems = {each["layer"]: each["files"] for each in index["layers"]}
            self.seen = {
                (each["layer"], u["channel"], u["rank"]): {k: u[k] for k in _SEEN if k in u}
                for each in index["layers"]
                for u in each["units"]
            }
            self.atlas = _table(index)
        except (OSError, ValueError, KeyError) as error:
            raise InputError(f"{self.home}: no finished atlas ({error}); make it with 'atlas'") from error
        self._shelves: dict[str, Shelf] = {}

    def shelf(self, layer: str) -> Shelf:
        """Open the arrays of a layer."""
        if layer not in self._shelves:
            self._shelves[layer] = Shelf.opened(self.home, self._stems[layer])
        return self._shelves[layer]


_SEEN = ("receptive_field", "window", "scale")


def _table(index: Mapping[str, Any]) -> Atlas:
    images = sorted({u["image"] for each in index["layers"] for u in each["units"]})
    numbers = {name: n for n, name in enumerate(images)}
    layers = {}
    for each in index["layers"]:
        table = Strongest.empty(each["channels"], index["top"], each["axes"])
        for u in each["units"]:
            place = u["channel"], u["rank"]
            table.activations[place] = u["activation"]
            table.images[place] = numbers[u["image"]]
            table.positions[place] = u["position"]
        layers[each["layer"]] = table
    return Atlas(index["top"], index["made"], images, layers, index["seen"], index["failed"])


def merge_folders(homes: Sequence[str | os.PathLike[str]], output: str | os.PathLike[str]) -> Atlas:
    """Merge finished atlases of disjoint sets of images into the folder of one.

    The projections are copied: neither the model nor the images are needed.

    Raises
    ------
    InputError
        If a folder holds no finished atlas, or they were made in different ways.
    """
    readers = [Reader(home) for home in homes]
    whole = merge([reader.atlas for reader in readers])
    places = [_owners(reader.atlas) for reader in readers]
    first = {layer: readers[0].shelf(layer) for layer in whole.layers}
    values = all(reader.shelf(layer).values is not None for reader in readers for layer in whole.layers)
    writer = _Copier(output, whole, first, values=values)
    for layer, table in whole.layers.items():
        for channel, rank in np.argwhere(table.taken).tolist():
            key = layer, channel, whole.images[table.images[channel, rank]]
            reader, source = next((r, p[key]) for r, p in zip(readers, places, strict=True) if key in p)
            writer.copy(reader, layer, channel, rank, (channel, source))
    writer.finish()
    return whole


def _owners(atlas: Atlas) -> dict[tuple[str, int, str], int]:
    return {
        (layer, channel, atlas.images[table.images[channel, rank]]): rank
        for layer, table in atlas.layers.items()
        for channel, rank in np.argwhere(table.taken).tolist()
    }


class _Copier(Writer):
    """A writer whose arrays are shaped as those of another atlas."""

    def __init__(
        self, home: str | os.PathLike[str], atlas: Atlas, like: Mapping[str, Shelf], *, values: bool
    ) -> None:
        self.home, self.atlas, self.units = folder(home), atlas, {}
        stems = _stems(atlas.layers)
        self.shelves = {layer: _like(self.home, stems[layer], like[layer], values=values) for layer in like}


def _like(home: Path, stem: str, shelf: Shelf, *, values: bool) -> Shelf:
    made: dict[str, Array | None] = {}
    for kind, array in zip(("values", *_PICTURES), shelf.arrays, strict=True):
        made[kind] = None
        if array is not None and (values or kind != "values"):
            new = np.lib.format.open_memmap(home / f"{stem}-{kind}.npy", "w+", array.dtype, array.shape)
            new[:] = 0 if kind == "values" else _GREY
            made[kind] = new
    return Shelf(stem, made["values"], made["projections"], made["patches"])  # type: ignore[arg-type]


def _stems(layers: Iterable[str]) -> dict[str, str]:
    """Name each layer's files: its number in the atlas, and its name."""
    return {
        layer: f"{n:03}-{re.sub(r'[^A-Za-z0-9.-]+', '-', layer)[:60].strip('-') or 'layer'}"
        for n, layer in enumerate(layers, 1)
    }


def _places(table: Strongest) -> Size:
    channels, top = table.activations.shape
    return channels, top


def sheet(tiles: Array, numbers: Sequence[int] | None = None) -> Picture:
    """Lay the pictures of a layer out: one block per feature map, its strongest first.

    Parameters
    ----------
    tiles
        Shape (channels, k, height, width, 3), uint8.
    numbers
        Of the feature maps, for the captions; by default all, from 0.

    Returns
    -------
    numpy.ndarray
        H×W×3, uint8, RGB.
    """
    across = math.ceil(math.sqrt(tiles.shape[1]))
    height = _SHOWN if tiles.shape[2] > _SHOWN else tiles.shape[2] * max(1, _SHOWN // tiles.shape[2])
    blocks = [montage([at_height(tile, height) for tile in block], across, gap=2) for block in tiles]
    columns = max(1, math.ceil(math.sqrt(len(blocks) * 1.6)))
    return montage(blocks, columns, [str(n) for n in numbers or range(len(blocks))], gap=6)
