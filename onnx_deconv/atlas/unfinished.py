"""What an interrupted run goes on from: the table so far, and a line for each projection that is done."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from onnx_deconv.atlas.tally import Atlas, Strongest
from onnx_deconv.errors import InputError
from onnx_deconv.files import replacing

PARTIAL, JOURNAL = "atlas.partial.npz", "atlas.projected.jsonl"

Place = tuple[str, int, int]
"""Layer, channel and rank."""


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


class Journal:
    """Which projections of an atlas are done, one line of JSON each.

    A run that is killed leaves at most its last line half written; that unit is projected again.

    Parameters
    ----------
    home
        The atlas's folder.
    atlas
        The table: lines about other units than its own are passed over.

    Attributes
    ----------
    done
        What was noted, by (layer, channel, rank).
    """

    def __init__(self, home: Path, atlas: Atlas) -> None:
        self._path, self._atlas = home / JOURNAL, atlas
        self._head = json.dumps({"made": atlas.made, "top": atlas.top}) + "\n"
        self.done: dict[Place, dict[str, Any]] = {}
        lines = [line for line in self._lines() if line.endswith("\n")]
        with replacing(self._path) as temporary:
            temporary.write_text(self._head + "".join(lines), encoding="utf-8")
        for entry in map(json.loads, lines):
            if entry["of"] == self._unit(entry["place"]):
                self.done[tuple(entry["place"])] = entry["seen"]

    def _lines(self) -> list[str]:
        try:
            head, *lines = self._path.read_text(encoding="utf-8").splitlines(keepends=True)
        except (OSError, ValueError):
            return []
        return lines if head == self._head else []

    def _unit(self, place: list[Any]) -> list[Any] | None:
        """Return which unit of which image the table has at a place."""
        layer, *where = place
        table = self._atlas.layers.get(layer)
        if table is None or not table.taken[tuple(where)]:
            return None
        image = self._atlas.images[table.images[tuple(where)]]
        return [image, float(table.activations[tuple(where)])]

    def note(self, place: Place, seen: Mapping[str, Any]) -> None:
        """Note that a projection is done."""
        entry = {"place": place, "of": self._unit(list(place)), "seen": seen}
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")
        self.done[place] = dict(seen)

    def forget(self) -> None:
        """Begin anew."""
        self.done = {}
        self._path.write_text(self._head, encoding="utf-8")

    def remove(self) -> None:
        """Delete what was noted: the atlas is finished."""
        self._path.unlink(missing_ok=True)
