"""Read a finished atlas from its folder."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from onnx_deconv.atlas.index import checked_index
from onnx_deconv.atlas.layer_files import LayerFiles
from onnx_deconv.atlas.top_activations import Atlas, TopActivations
from onnx_deconv.errors import InputError
from onnx_deconv.model import Model, digest

INDEX = "atlas.json"

_OF_PROJECTION = ("receptive_field", "window", "scale")
"""What the index tells of a unit's projection."""


class Reader:
    """Reads a finished atlas.

    Parameters
    ----------
    home
        Its folder.

    Attributes
    ----------
    atlas
        The atlas.
    entries
        By (layer, channel, rank): ``receptive_field``, ``window`` and ``scale`` of each projection.

    Raises
    ------
    InputError
        If there is no whole atlas.
    """

    def __init__(self, home: str | os.PathLike[str]) -> None:
        self.home = Path(home)
        try:
            index = checked_index((self.home / INDEX).read_text(encoding="utf-8"))
            self._stems = {each["layer"]: each["files"] for each in index["layers"]}
            self._tiles = {each["layer"]: tuple(each["tile"]) for each in index["layers"]}
            self.entries = {
                (each["layer"], u["channel"], u["rank"]): {k: u[k] for k in _OF_PROJECTION if k in u}
                for each in index["layers"]
                for u in each["units"]
            }
            self.atlas = _atlas(index)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise InputError(
                f"{self.home}: no finished atlas ({reason}); make it with 'atlas build'"
            ) from error
        self._files: dict[str, LayerFiles] = {}

    def check_model(self, model: Model) -> None:
        """Refuse a model that the atlas was not made of.

        Raises
        ------
        InputError
            If it is another.
        """
        made = self.atlas.made
        if digest(model) != made.get("sha256"):
            raise InputError(f"{model.name}: is not the model of the atlas ({made.get('model')})")

    @property
    def stems(self) -> list[str]:
        """The beginnings of the names of each layer's files."""
        return list(self._stems.values())

    def files(self, layer: str) -> LayerFiles:
        """Open the files of a layer."""
        if layer not in self._files:
            units = self.atlas.layers[layer].activations.shape
            self._files[layer] = LayerFiles(self.home, self._stems[layer], units, self._tiles[layer])
        return self._files[layer]


def _atlas(index: Mapping[str, Any]) -> Atlas:
    images = sorted({u["image"] for each in index["layers"] for u in each["units"]})
    numbers = {name: n for n, name in enumerate(images)}
    layers = {}
    for each in index["layers"]:
        table = TopActivations.empty(each["channels"], index["top"], each["axes"])
        for u in each["units"]:
            unit = u["channel"], u["rank"]
            table.activations[unit] = u["activation"]
            table.images[unit] = numbers[u["image"]]
            table.positions[unit] = u["position"]
        layers[each["layer"]] = table
    return Atlas(index["top"], index["made"], images, layers, index["seen"], index["failed"])
