"""Read a finished atlas from its folder."""

import os
from pathlib import Path
from typing import Any

from onnx_deconv.atlas.index import checked_index
from onnx_deconv.atlas.layer_files import LayerFiles, units_file
from onnx_deconv.atlas.top_activations import Atlas
from onnx_deconv.atlas.unit_files import Lazily, UnitFile
from onnx_deconv.errors import InputError
from onnx_deconv.model import Model, digest

INDEX = "atlas.json"


class Reader:
    """Reads a finished atlas; opening it reads none of its units.

    Parameters
    ----------
    home
        Its folder.

    Attributes
    ----------
    atlas
        The atlas; a layer's units are read when it is first asked for.

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
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise InputError(
                f"{self.home}: no finished atlas ({reason}); make it with 'atlas build'"
            ) from error
        self._shapes = {each["layer"]: (each["channels"], index["top"]) for each in index["layers"]}
        axes, images = {each["layer"]: each["axes"] for each in index["layers"]}, index["images"]

        def units_of(layer: str) -> UnitFile:
            path, shape = self.home / units_file(self._stems[layer]), self._shapes[layer]
            return UnitFile(path, shape, axes[layer], len(images))

        self._units = Lazily(axes, units_of)
        tables = Lazily(axes, lambda layer: self._units[layer].table())
        self.atlas = Atlas(index["top"], index["made"], images, tables, index["seen"], index["failed"])
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

    def projection(self, layer: str, unit: tuple[int, int]) -> dict[str, Any]:
        """Return ``receptive_field``, ``window`` and ``scale`` of a unit (channel, rank) if it was projected.

        Else the dictionary is empty.
        """
        return self._units[layer].projection(unit)

    def files(self, layer: str) -> LayerFiles:
        """Open the files of a layer."""
        if layer not in self._files:
            shape, tile = self._shapes[layer], self._tiles[layer]
            self._files[layer] = LayerFiles(self.home, self._stems[layer], shape, tile)
        return self._files[layer]
