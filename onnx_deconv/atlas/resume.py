"""Resume an interrupted run: the atlas so far, and a journal of the projections that are done."""

import io
import json
import os
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from onnx_deconv.atlas.index import FORMAT
from onnx_deconv.atlas.top_activations import Atlas, TopActivations, UnitKey
from onnx_deconv.errors import InputError
from onnx_deconv.files import replacing, writing

PARTIAL, JOURNAL, PIECES = "atlas.partial.npz", "atlas.projected.jsonl", "atlas.projected.bin"

_LARGEST = 1 << 31
"""Bytes that the tables of an atlas may take."""


def save_partial(home: Path, atlas: Atlas) -> None:
    """Save an atlas that is being scanned, so that an interrupted run can go on."""
    meta = {"made": atlas.made, "top": atlas.top, "seen": atlas.seen, "failed": atlas.failed}
    meta |= {"names": atlas.names}
    meta |= {"images": atlas.images, "layers": list(atlas.layers)}
    arrays = {"meta": np.frombuffer(json.dumps(meta).encode(), np.uint8)}
    for k, table in enumerate(atlas.layers.values()):
        arrays |= {f"{k}/a": table.activations, f"{k}/i": table.images, f"{k}/p": table.positions}
    with replacing(home / PARTIAL) as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]


def load_partial(home: Path, made: Mapping[str, Any], top: int) -> Atlas | None:
    """Read the atlas that an interrupted run left; ``None`` where there is none.

    Parameters
    ----------
    home
        The atlas's folder.
    made, top
        What the new run's atlas depends on, see :class:`~onnx_deconv.atlas.Atlas`.

    Raises
    ------
    InputError
        If it belongs to a run with other options, or cannot be read.
    """
    path = home / PARTIAL
    if not path.is_file():
        return None
    try:
        meta, tables = _read(path)
    except Exception as error:  # a damaged archive raises what its compression likes
        raise InputError(f"{path}: cannot be read ({error}); delete it to begin again") from error
    if meta["made"] != json.loads(json.dumps(made)) or meta["top"] != top:
        raise InputError(f"{path}: belongs to a run with other options; delete it, or choose another folder")
    layers = dict(zip(meta["layers"], tables, strict=True))
    return Atlas(top, dict(made), meta["images"], layers, meta["seen"], meta["failed"], meta["names"])


def _read(path: Path) -> tuple[dict[str, Any], list[TopActivations]]:
    """Read an atlas that was being scanned, and make sure that it is one."""
    with zipfile.ZipFile(path) as archive:
        if sum(member.file_size for member in archive.infolist()) > _LARGEST:
            raise ValueError("it would take too much memory")
    with np.load(path) as arrays:
        meta = json.loads(arrays["meta"].tobytes())
        tables = [TopActivations(*(arrays[f"{k}/{c}"] for c in "aip")) for k in range(len(meta["layers"]))]
    images = meta["images"]
    for table in tables:
        channels, top = table.activations.shape
        fits = table.images.shape == table.positions.shape[:2] == (channels, top) and top == meta["top"]
        numbers = table.images[table.filled] if fits else np.zeros(0)
        if not fits or numbers.min(initial=0) < 0 or numbers.max(initial=-1) >= len(images):
            raise ValueError("its tables do not fit together")
    types = {"made": dict, "failed": dict, "images": list, "layers": list, "seen": int, "names": str}
    if not all(isinstance(meta[name], kind) for name, kind in types.items()) or meta["seen"] < 0:
        raise ValueError("it is no atlas")
    if not all(isinstance(name, str) for name in (*images, *meta["layers"])):
        raise ValueError("a name is no text")
    return meta, tables


class Journal:
    """The projections of an atlas that are done: a line of JSON each in one file, its pieces in another.

    A run that is killed leaves at most its last line half written; that unit is projected again.

    Parameters
    ----------
    home
        The atlas's folder.
    atlas
        The atlas: lines about units that are not among its strongest any more are skipped.
    kinds
        The kinds of pieces that are kept of each unit, by layer.

    Attributes
    ----------
    done
        What was noted of each projection, by (layer, channel, rank).
    """

    def __init__(self, home: Path, atlas: Atlas, kinds: Mapping[str, Sequence[str]]) -> None:
        self._path, self._atlas = home / JOURNAL, atlas
        self._kinds, self._pieces = kinds, home / PIECES
        keeps = {layer: list(each) for layer, each in kinds.items()}
        self._head = (
            json.dumps({"format": FORMAT, "made": atlas.made, "top": atlas.top, "keeps": keeps}) + "\n"
        )
        self.done: dict[UnitKey, dict[str, Any]] = {}
        self._places: dict[UnitKey, dict[str, tuple[int, int]]] = {}
        self._size = self._pieces.stat().st_size if self._pieces.is_file() else 0
        lines = [line for line in self._lines() if line.endswith("\n") and self._take(line)]
        with replacing(self._path) as temporary:
            temporary.write_text(self._head + "".join(lines), encoding="utf-8")
        if not self.done:
            self._pieces.unlink(missing_ok=True)
            self._size = 0

    def _take(self, line: str) -> bool:
        """Take a line in; tell whether it is whole. A unit of one that is not is projected again."""
        try:
            entry = json.loads(line)
            layer, channel, rank = entry["place"]
            if entry["of"] == self._identity((layer, channel, rank)):
                seen = entry["seen"]
                boxes = {name: [int(x) for x in seen[name]] for name in ("receptive_field", "window")}
                places = {kind: self._place(entry["at"][kind]) for kind in self._kinds[layer]}
                self.done[layer, channel, rank] = {**boxes, "scale": float(seen["scale"])}
                self._places[layer, channel, rank] = places
        except (ValueError, KeyError, TypeError, IndexError, RecursionError):
            return False
        return True

    def _place(self, place: Sequence[Any]) -> tuple[int, int]:
        """Check where a piece is said to be."""
        start, length = map(int, place)
        if not 0 <= start <= start + length <= self._size:
            raise ValueError("the pieces end before")
        return start, length

    def _lines(self) -> list[str]:
        try:
            head, *lines = self._path.read_text(encoding="utf-8").splitlines(keepends=True)
        except (OSError, ValueError):
            return []
        return lines if head == self._head else []

    def _identity(self, unit: UnitKey) -> list[Any] | None:
        """Return the image and the activation that an atlas has for a unit; ``None`` if it has none."""
        layer, channel, rank = unit
        table = self._atlas.layers.get(layer)
        if table is None or not table.filled[channel, rank]:
            return None
        return [self._atlas.image_of(*unit), float(table.activations[channel, rank])]

    def note(self, unit: UnitKey, projection: Mapping[str, Any], pieces: Mapping[str, bytes]) -> None:
        """Keep a unit's pieces, by kind; then note that they are whole, and what the index tells of it."""
        places, kept = {}, [(kind, pieces[kind]) for kind in self._kinds[unit[0]] if kind in pieces]
        with writing(self._pieces), self._pieces.open("ab") as file:
            file.seek(0, os.SEEK_END)
            for kind, piece in kept:
                places[kind] = file.tell(), len(piece)
                file.write(piece)
        entry = {"place": unit, "of": self._identity(unit), "seen": projection, "at": places}
        with writing(self._path), self._path.open("a", encoding="utf-8") as file_of_lines:
            file_of_lines.write(json.dumps(entry) + "\n")
        self.done[unit], self._places[unit] = dict(projection), places

    def units(self, layer: str, kind: str) -> list[tuple[int, int]]:
        """List the channel and rank of the units of a layer that have a piece of a kind."""
        return [(c, r) for (name, c, r), places in self._places.items() if name == layer and kind in places]

    @contextmanager
    def reading(self, layer: str) -> Iterator[Callable[[tuple[int, int], str], bytes]]:
        """Yield what reads a piece of one of the layer's units, by its kind."""
        with self._pieces.open("rb") if self._places else io.BytesIO() as file:

            def read(unit: tuple[int, int], kind: str) -> bytes:
                start, length = self._places[layer, *unit][kind]
                file.seek(start)
                return file.read(length)

            yield read

    def remove(self) -> None:
        """Delete the files: the atlas is finished."""
        self._path.unlink(missing_ok=True)
        self._pieces.unlink(missing_ok=True)
