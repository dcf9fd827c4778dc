"""An atlas as a folder of open formats: ``atlas.json``, arrays as ``.npy``, sheets as ``.png``."""

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from onnx_deconv.atlas.project import Projection
from onnx_deconv.atlas.shelf import Plan, Shelf, planned, sheet
from onnx_deconv.atlas.tally import Atlas, Strongest
from onnx_deconv.atlas.unfinished import PARTIAL, Journal, Place
from onnx_deconv.errors import InputError
from onnx_deconv.files import folder, replacing
from onnx_deconv.imaging import Channels, Size, at_height, map_resized, projection, save_png
from onnx_deconv.model import Array
from onnx_deconv.runtime import workers

INDEX = "atlas.json"
FORMAT = 1

_SEEN = ("receptive_field", "window", "scale")


def plans(atlas: Atlas, windows: Mapping[str, Size], planes: int, *, values: bool = True) -> dict[str, Plan]:
    """Plan the arrays of an atlas, by layer.

    Parameters
    ----------
    atlas
        The table.
    windows
        (height, width) of what is shown of each layer's units.
    planes
        How many channels a reconstruction has.
    values
        Whether to keep the reconstructions' numbers; they take the most room.
    """
    return {
        layer: planned(table.activations.shape, windows[layer], planes, values=values)
        for layer, table in atlas.layers.items()
    }


class Drawn(NamedTuple):
    """What is kept of a projection.

    Attributes
    ----------
    place
        Layer, channel and rank.
    arrays
        Its parts of the layer's arrays, by what they hold.
    seen
        What ``atlas.json`` tells of it.
    """

    place: Place
    arrays: Mapping[str, Array]
    seen: Mapping[str, Any]


class Writer:
    """Writes an atlas: first the projections one by one, then the sheets and the index.

    Parameters
    ----------
    home
        The folder; it is made. What an interrupted run left there of the same atlas is kept.
    atlas
        The table.
    plan
        What arrays to keep of each layer.
    channels
        What a reconstruction's channels are.
    """

    def __init__(
        self, home: str | os.PathLike[str], atlas: Atlas, plan: Mapping[str, Plan], channels: Channels
    ) -> None:
        self.home, self.atlas, self._channels = folder(home), atlas, channels
        (self.home / INDEX).unlink(missing_ok=True)  # what is half written is no atlas
        self._journal = Journal(self.home, atlas)
        stems = _stems(atlas.layers)
        left = {layer: Shelf.left(self.home, stems[layer], plan[layer]) for layer in plan}
        if not self._journal.done or None in left.values():
            self._journal.forget()
            left = {layer: Shelf.made(self.home, stems[layer], plan[layer]) for layer in plan}
        self.shelves = {layer: shelf for layer, shelf in left.items() if shelf is not None}

    @property
    def done(self) -> Mapping[Place, Mapping[str, Any]]:
        """What is written, by (layer, channel, rank)."""
        return self._journal.done

    def draw(self, one: Projection) -> "Drawn":
        """Make of a projection what is kept of it; from any thread."""
        kept, scale = self.shelves[one.layer].plan, float(np.abs(one.values).max(initial=0))
        height, width = kept["projections"][1][2:4]
        values = one.values
        if values.shape[1:] != (height, width):
            # The numbers, not their picture: fine signals of both signs leave little when they are averaged.
            values = np.stack([map_resized(plane, (height, width)) for plane in values])
        picture = projection(values, channels=self._channels)
        arrays = {"projections": picture, "patches": at_height(one.patch, height)}
        if "values" in kept:
            arrays["values"] = (one.values / np.float32(scale or 1)).astype(np.float16)
        seen = {"receptive_field": list(one.box), "window": list(one.window), "scale": scale}
        return Drawn((one.layer, one.channel, one.rank), arrays, seen)

    def add(self, drawn: "Drawn") -> None:
        """Keep a projection."""
        layer, *place = drawn.place
        for kind, array in drawn.arrays.items():
            self.shelves[layer].write(kind, (place[0], place[1]), array)
        self._journal.note(drawn.place, drawn.seen)

    def copy(self, other: "Reader", layer: str, place: Size, source: Size) -> None:
        """Take a unit's projection from another atlas."""
        shelf, theirs = self.shelves[layer], other.shelf(layer)
        for kind in shelf.plan:
            shelf.write(kind, place, theirs.read(kind, source))
        self._journal.note((layer, *place), other.seen[layer, *source])

    def finish(self) -> Path:
        """Draw the sheets, write the index, forget what was unfinished; return the index's path."""
        with ThreadPoolExecutor(workers("cpu")) as pool:
            for _ in pool.map(_draw_sheets, self.shelves.values()):
                pass  # what went wrong is raised here
        with replacing(self.home / INDEX) as temporary:
            temporary.write_text(json.dumps(self._index()) + "\n", encoding="utf-8")
        (self.home / PARTIAL).unlink(missing_ok=True)
        self._journal.remove()
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
                **self.done.get((layer, channel, rank), {}),
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


def _draw_sheets(shelf: Shelf) -> None:
    save_png(shelf.home / f"{shelf.stem}-projections.png", sheet(shelf.projections))
    save_png(shelf.home / f"{shelf.stem}-patches.png", sheet(shelf.patches))


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


def _stems(layers: Iterable[str]) -> dict[str, str]:
    """Name each layer's files: its number in the atlas, and its name."""
    return {
        layer: f"{n:03}-{re.sub(r'[^A-Za-z0-9.-]+', '-', layer)[:60].strip('-') or 'layer'}"
        for n, layer in enumerate(layers, 1)
    }
