"""Write an atlas as a folder of open formats: ``atlas.json``, arrays as ``.npy``, sheets as ``.png``."""

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from onnx_deconv.atlas.arrays import LayerArrays, Plan, files_of, planned
from onnx_deconv.atlas.jobs import Projection
from onnx_deconv.atlas.reader import INDEX, Reader
from onnx_deconv.atlas.resume import PARTIAL, Journal, UnitKey
from onnx_deconv.atlas.sheets import save_sheets
from onnx_deconv.atlas.top_activations import Atlas, TopActivations
from onnx_deconv.errors import InputError
from onnx_deconv.files import folder, replacing, writing
from onnx_deconv.imaging import Channels, Size, at_height, map_resized, projection
from onnx_deconv.model import Array
from onnx_deconv.runtime import workers

FORMAT = 1
"""The version of the index's format."""


def plans(
    atlas: Atlas, windows: Mapping[str, Size], channels: int, *, values: bool = True
) -> dict[str, Plan]:
    """Plan the arrays of an atlas, by layer.

    Parameters
    ----------
    atlas
        The atlas.
    windows
        (height, width) of the pixels that are shown of each layer's units.
    channels
        How many channels a reconstruction has.
    values
        Whether to keep the reconstructions' numbers; they take the most room.
    """
    return {
        layer: planned(table.activations.shape, windows[layer], channels, values=values)
        for layer, table in atlas.layers.items()
    }


class Drawn(NamedTuple):
    """A projection as it is kept in files.

    Attributes
    ----------
    unit
        Layer, channel and rank.
    arrays
        What the layer's arrays hold for the unit, by kind.
    entry
        What ``atlas.json`` tells of the projection.
    """

    unit: UnitKey
    arrays: Mapping[str, Array]
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
        The arrays to keep, by layer.
    channels
        The order of a reconstruction's channels.
    """

    def __init__(
        self, home: str | os.PathLike[str], atlas: Atlas, plan: Mapping[str, Plan], channels: Channels
    ) -> None:
        self.home, self.atlas, self._channels = folder(home), atlas, channels
        self._remove_the_old()
        self._journal = Journal(self.home, atlas)
        stems = _stems(atlas.layers)
        found = {layer: LayerArrays.resume(self.home, stems[layer], plan[layer]) for layer in plan}
        if not self._journal.done or None in found.values():
            self._journal.clear()
            found = {layer: LayerArrays.create(self.home, stems[layer], plan[layer]) for layer in plan}
        self.arrays = {layer: arrays for layer, arrays in found.items() if arrays is not None}

    def _remove_the_old(self) -> None:
        """Remove a finished atlas, all of it: one that is half written has no index."""
        if not (self.home / INDEX).exists():
            return
        with suppress(InputError):  # what is no atlas has no files that are known
            for stem in Reader(self.home).stems:
                for name in files_of(stem):
                    (self.home / name).unlink(missing_ok=True)
        with writing(self.home / INDEX):
            (self.home / INDEX).unlink(missing_ok=True)

    @property
    def done(self) -> Mapping[UnitKey, Mapping[str, Any]]:
        """The projections that are written, by (layer, channel, rank)."""
        return self._journal.done

    def draw(self, one: Projection) -> Drawn:
        """Make what is kept of a projection; may be called from any thread."""
        kept, scale = self.arrays[one.layer].plan, float(np.abs(one.values).max(initial=0))
        height, width = kept["projections"][1][2:4]
        values = one.values
        if values.shape[1:] != (height, width):
            # The numbers, not their picture: fine signals of both signs leave little when they are averaged.
            values = np.stack([map_resized(channel, (height, width)) for channel in values])
        arrays = {
            "projections": projection(values, channels=self._channels),
            "patches": at_height(one.patch, height),
        }
        if "values" in kept:
            arrays["values"] = (one.values / np.float32(scale or 1)).astype(np.float16)
        entry = {"receptive_field": list(one.box), "window": list(one.window), "scale": scale}
        return Drawn((one.layer, one.channel, one.rank), arrays, entry)

    def add(self, drawn: Drawn) -> None:
        """Write a projection."""
        layer, channel, rank = drawn.unit
        for kind, array in drawn.arrays.items():
            self.arrays[layer].write(kind, (channel, rank), array)
        self._journal.note(drawn.unit, drawn.entry)

    def copy(self, other: Reader, layer: str, unit: tuple[int, int], source: tuple[int, int]) -> None:
        """Copy the projection of a unit (channel, rank) from another atlas, where it is `source`."""
        arrays, others = self.arrays[layer], other.arrays(layer)
        for kind in arrays.plan:
            arrays.write(kind, unit, others.read(kind, source))
        self._journal.note((layer, *unit), other.entries[layer, *source])

    def finish(self) -> Path:
        """Draw the sheets, write the index, delete what a resumed run would need; return the index's path."""
        with ThreadPoolExecutor(workers("cpu")) as pool:
            for _ in pool.map(save_sheets, self.arrays.values()):
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
                    "files": self.arrays[layer].stem,
                    "channels": len(table.activations),
                    "axes": table.positions.shape[2],
                    "units": list(self._units(layer, table)),
                }
                for layer, table in atlas.layers.items()
            ],
        }

    def _units(self, layer: str, table: TopActivations) -> Iterator[dict[str, Any]]:
        for channel, rank in table.ranks():
            yield {
                "channel": channel,
                "rank": rank,
                "activation": float(table.activations[channel, rank]),
                "image": self.atlas.image_of(layer, channel, rank),
                "position": table.positions[channel, rank].tolist(),
                **self.done.get((layer, channel, rank), {}),
            }


def _stems(layers: Iterable[str]) -> dict[str, str]:
    """Name each layer's files by its number in the atlas and its name."""
    return {
        layer: f"{n:03}-{re.sub(r'[^A-Za-z0-9.-]+', '-', layer)[:60].strip('-') or 'layer'}"
        for n, layer in enumerate(layers, 1)
    }
