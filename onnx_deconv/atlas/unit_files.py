"""What an atlas tells of a layer's units: a NumPy array of records, read when it is asked for.

``STEM-units.npy`` has the shape (channels, k). As all that comes from a file it may have been changed by
anybody, so that it is checked before it is used.
"""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from onnx_deconv.atlas.top_activations import TopActivations, UnitKey
from onnx_deconv.errors import InputError
from onnx_deconv.files import replacing
from onnx_deconv.model import Array

T = TypeVar("T")

_BOXES = "receptive_field", "window"


def _records(axes: int) -> np.dtype[Any]:
    """Return the type of a unit: image is -1 where a rank is empty, scale is NaN where none was projected."""
    fields = ("activation", "<f4", ()), ("image", "<i4", ()), ("position", "<i4", (axes,))
    boxes = tuple((name, "<i4", (4,)) for name in _BOXES)
    return np.dtype([*fields, *boxes, ("scale", "<f4", ())])


def write_units(
    path: Path, layer: str, table: TopActivations, projections: Mapping[UnitKey, Mapping[str, Any]]
) -> None:
    """Write what an atlas tells of a layer's units.

    Parameters
    ----------
    path
        The file.
    layer
        The layer.
    table
        Its strongest activations.
    projections
        ``receptive_field``, ``window`` and ``scale`` of what was projected, by unit.
    """
    units = np.zeros(table.activations.shape, _records(table.positions.shape[2]))
    units["image"], units["scale"] = -1, np.nan
    filled = table.filled
    units["activation"][filled], units["image"][filled] = table.activations[filled], table.images[filled]
    units["position"][filled] = table.positions[filled]
    for unit in table.ranks():
        known = projections.get((layer, *unit))
        if known is not None:
            for name in (*_BOXES, "scale"):
                units[name][unit] = known[name]
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.lib.format.write_array(file, units, allow_pickle=False)


class UnitFile:
    """Reads what an atlas tells of a layer's units.

    Parameters
    ----------
    path
        The file.
    shape
        How many channels, and how many ranks of each.
    axes
        How many axes positions have.
    images
        How many images the atlas has.

    Raises
    ------
    InputError
        If it is missing, or does not fit.
    """

    def __init__(self, path: Path, shape: tuple[int, int], axes: int, images: int) -> None:
        try:
            self._units = _read(path, shape, _records(axes))
            _check(self._units, images)
        except Exception as error:  # what a damaged header raises differs with the damage
            raise InputError(f"{path}: cannot be read ({error}); make the atlas again") from error

    def table(self) -> TopActivations:
        """Return the layer's strongest activations."""
        channels, top = self._units.shape
        table = TopActivations.empty(channels, top, self._units.dtype["position"].shape[0])
        filled = self._units["image"] >= 0
        table.activations[filled] = self._units["activation"][filled]
        table.images[filled] = self._units["image"][filled]
        table.positions[filled] = self._units["position"][filled]
        return table

    def projection(self, unit: tuple[int, int]) -> dict[str, Any]:
        """Return ``receptive_field``, ``window`` and ``scale`` of a unit's projection; empty without one."""
        record = self._units[unit]
        if np.isnan(record["scale"]):
            return {}
        return {name: record[name].tolist() for name in (*_BOXES, "scale")}


def _read(path: Path, shape: tuple[int, int], records: np.dtype[Any]) -> Array:
    """Read an array of this shape and type; nothing is allocated for one that claims to be larger."""
    mapped = np.lib.format.open_memmap(path, mode="r")
    if mapped.shape != shape or mapped.dtype != records:
        raise ValueError("it is of another atlas")
    return np.array(mapped)  # a copy: the file may be replaced


def _check(units: Array, images: int) -> None:
    inside = (units["image"] >= -1) & (units["image"] < images)
    scales = np.isnan(units["scale"]) | np.isfinite(units["scale"])
    if not (inside & scales & np.isfinite(units["activation"])).all() or (units["position"] < 0).any():
        raise ValueError("it holds numbers that no atlas has")


class Lazily(Mapping[str, T]):
    """A mapping whose values are made when they are first asked for.

    Parameters
    ----------
    keys
        The keys, in their order.
    make
        Makes the value of a key.
    """

    def __init__(self, keys: Mapping[str, Any], make: Callable[[str], T]) -> None:
        self._keys, self._make, self._made = keys, make, dict[str, T]()

    def __getitem__(self, key: str) -> T:
        if key not in self._made:
            if key not in self._keys:
                raise KeyError(key)
            self._made[key] = self._make(key)
        return self._made[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)

    def __contains__(self, key: object) -> bool:
        return key in self._keys
