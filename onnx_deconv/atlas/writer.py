"""Write an atlas as a folder of open formats: ``atlas.json``, arrays of units, pictures, sheets."""

import json
import os
import re
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from onnx_deconv.atlas.index import FORMAT, stems_in
from onnx_deconv.atlas.jobs import Projection
from onnx_deconv.atlas.layer_files import PICTURES, LayerPlan, Plans, files_of, pack, units_file
from onnx_deconv.atlas.reader import INDEX, Reader
from onnx_deconv.atlas.resume import PARTIAL, Journal
from onnx_deconv.atlas.sheets import save_sheets
from onnx_deconv.atlas.top_activations import Atlas, UnitKey
from onnx_deconv.atlas.unit_files import write_units
from onnx_deconv.files import folder, replacing, writing
from onnx_deconv.imaging import Channels, Size, map_resized, projection
from onnx_deconv.runtime import workers

DRAWN_AT_ONCE = 4
"""Layers whose sheets are drawn at once, at most: those of a wide layer take a gigabyte."""


def plans(
    units: Mapping[str, tuple[int, int]], windows: Mapping[str, Size], channels: int, *, values: bool = False
) -> dict[str, LayerPlan]:
    """Plan what is kept of an atlas, by layer.

    Parameters
    ----------
    units
        How many feature maps each layer has, and how many ranks of each.
    windows
        (height, width) of the pixels that are shown of each layer's units.
    channels
        How many channels a reconstruction has.
    values
        Whether to keep the reconstructions' numbers; they take the most room.
    """
    return {
        layer: LayerPlan.of(each, windows[layer], channels, values=values) for layer, each in units.items()
    }


class Drawn(NamedTuple):
    """A projection as it is kept in files.

    Attributes
    ----------
    unit
        Layer, channel and rank.
    pieces
        What is kept of it, compressed, by kind.
    entry
        What the atlas tells of the projection.
    """

    unit: UnitKey
    pieces: Mapping[str, bytes]
    entry: Mapping[str, Any]


class Writer:
    """Writes an atlas: first the projections one by one, then the sheets and the index.

    Parameters
    ----------
    home
        The folder; it is made. What an interrupted run left there of the same atlas is kept.
    atlas
        The atlas.
    plan
        What to keep, by layer.
    channels
        The order of a reconstruction's channels.
    """

    def __init__(self, home: str | os.PathLike[str], atlas: Atlas, plan: Plans, channels: Channels) -> None:
        self.home, self.atlas, self._channels = folder(home), atlas, channels
        self._plan, self._stems = plan, _stems(atlas.layers)
        self._remove_the_old()
        self._journal = Journal(self.home, atlas, {layer: each.kinds for layer, each in plan.items()})

    def _remove_the_old(self) -> None:
        """Remove a finished atlas, all of it: one that is half written has no index."""
        if not (self.home / INDEX).exists():
            return
        with writing(self.home / INDEX):
            for stem in stems_in((self.home / INDEX).read_text(encoding="utf-8", errors="replace")):
                for name in files_of(stem):
                    (self.home / name).unlink(missing_ok=True)
            (self.home / INDEX).unlink(missing_ok=True)

    @property
    def done(self) -> Mapping[UnitKey, Mapping[str, Any]]:
        """The projections that are written, by (layer, channel, rank)."""
        return self._journal.done

    def draw(self, one: Projection) -> Drawn:
        """Make what is kept of a projection; may be called from any thread."""
        return draw(self._plan, self._channels, one)

    def add(self, drawn: Drawn) -> None:
        """Write a projection."""
        self._journal.note(drawn.unit, drawn.entry, drawn.pieces)

    def copy(self, other: Reader, layer: str, unit: tuple[int, int], source: tuple[int, int]) -> None:
        """Copy the projection of a unit (channel, rank) from another atlas, where it is `source`."""
        pieces = other.files(layer).pieces(source)
        if pieces:
            self._journal.note((layer, *unit), other.projection(layer, source), pieces)

    def finish(self) -> Path:
        """Draw the sheets, write the index, delete what a resumed run would need; return the index's path."""
        with ThreadPoolExecutor(min(workers("cpu"), DRAWN_AT_ONCE)) as pool:
            for _ in pool.map(self._finish_layer, self._plan):
                pass  # what went wrong is raised here
        with replacing(self.home / INDEX) as temporary:
            temporary.write_text(json.dumps(self._index()) + "\n", encoding="utf-8")
        (self.home / PARTIAL).unlink(missing_ok=True)
        self._journal.remove()
        return self.home / INDEX

    def _finish_layer(self, layer: str) -> None:
        units = self._journal.units(layer, PICTURES[0])
        with self._journal.reading(layer) as read:
            stem, table = self._stems[layer], self.atlas.layers[layer]
            write_units(self.home / units_file(stem), layer, table, self.done)
            save_sheets(pack(self.home, stem, self._plan[layer], units, read), table)

    def _index(self) -> dict[str, Any]:
        atlas = self.atlas
        return {
            "format": FORMAT,
            "made": atlas.made,
            "top": atlas.top,
            "seen": atlas.seen,
            "failed": atlas.failed,
            "images": atlas.images,
            "layers": [
                {
                    "layer": layer,
                    "files": self._stems[layer],
                    "tile": list(self._plan[layer].tile),
                    "channels": len(table.activations),
                    "axes": table.positions.shape[2],
                }
                for layer, table in atlas.layers.items()
            ],
        }


def draw(plan: Plans, channels: Channels, one: Projection) -> Drawn:
    """Make what is kept of a projection.

    Parameters
    ----------
    plan
        What is kept, by layer.
    channels
        The order of a reconstruction's channels.
    one
        The projection.
    """
    kept, scale = plan[one.layer], float(np.abs(one.values).max(initial=0))
    values = one.values
    if values.shape[1:] != kept.tile:
        # The numbers, not their picture: fine signals of both signs leave little when they are averaged.
        values = np.stack([map_resized(channel, kept.tile) for channel in values])
    picture = projection(values, channels=channels)
    pieces = kept.pieces(picture, one.patch, one.values / np.float32(scale or 1))
    entry = {"receptive_field": list(one.box), "window": list(one.window), "scale": scale}
    return Drawn((one.layer, one.channel, one.rank), pieces, entry)


def _stems(layers: Iterable[str]) -> dict[str, str]:
    """Name each layer's files by its number in the atlas and its name."""
    return {
        layer: f"{n:03}-{re.sub(r'[^A-Za-z0-9.-]+', '-', layer)[:60].strip('-') or 'layer'}"
        for n, layer in enumerate(layers, 1)
    }
