"""The files that a model is read from: where they are, whether they changed, and a private copy of them.

A model's weights stay in its files (:mod:`onnx_deconv.model.external_data`) and are read when they are
needed, perhaps hours later. Meanwhile somebody may replace the files, or cut them short, and whoever
has mapped them would get other numbers, or be stopped by the system (SIGBUS). So what has to last is
copied first (:meth:`ModelFiles.keep`), and whatever is read later is compared with what was there at first.
"""

import hashlib
import logging
import math
import os
import shutil
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from onnx import ModelProto, TensorProto, helper

from onnx_deconv.errors import ModelError
from onnx_deconv.files import Spool
from onnx_deconv.model.external_data import Extent
from onnx_deconv.model.protos import all_tensors

logger = logging.getLogger(__name__)

_ROOM = 1 << 26
"""Bytes that a private copy leaves free on the disk."""


PACKED = {
    TensorProto.DataType.Value(name)
    for name in ("INT4", "UINT4", "FLOAT4E2M1", "INT2", "UINT2")
    if name in TensorProto.DataType.keys()  # noqa: SIM118  (no dict)
}
"""Types of which several numbers share a byte; older versions of onnx lack some."""


_PAIRS = {TensorProto.COMPLEX64, TensorProto.COMPLEX128}
"""Types of which a number is written as two."""


class FileState(NamedTuple):
    """What tells one state of a file from another."""

    device: int
    inode: int
    size: int
    mtime: int

    @classmethod
    def of(cls, file: Path | int) -> "FileState":
        """Look at a file, given by its path or its descriptor."""
        about = os.stat(file)  # noqa: PTH116  (or a descriptor)
        return cls(about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns)


class ModelFiles:
    """The files of one model.

    Parameters
    ----------
    path
        The model file. It may be a link, as caches and Kubernetes volumes have them.
    state
        The file's state when it was read.
    spool
        The folder that it lies in, if that is one of our own.

    Attributes
    ----------
    home
        The folder that the model was given in, where other files about it may lie.
    name
        What its own weights call the file.
    folder
        Where the weights are read from: the model's own folder, or that of a copy.
    spool
        The folder of a copy, if there is one.
    is_private
        Whether the weights are read from files that nobody else knows of.
    """

    def __init__(self, path: Path, state: FileState, spool: Spool | None = None) -> None:
        self.path = path
        self.home = self.folder = path.parent
        self.spool = spool
        self.name = path.name if _is_utf8(path.name) else "model.onnx"
        self.is_private, self._warned = spool is not None, False
        self._homes = (path.parent, Path(os.path.realpath(path)).parent)
        self._sources: dict[str, Path] = {self.name: path}
        self._seen: dict[str, FileState] = {self.name: state}

    @property
    def in_memory(self) -> bool:
        """Whether there is no file but our own."""
        return self.spool is not None and self.path.parent == self.spool.folder

    @property
    def size(self) -> int:
        """How many bytes the model's file and those of its weights take."""
        return sum(state.size for state in self._seen.values())

    def add(self, locations: Iterable[str]) -> dict[str, int]:
        """Take files of weights in; return their sizes.

        Parameters
        ----------
        locations
            As the model names them: relative to its folder, or to the folder of the file it is a link to.

        Raises
        ------
        ModelError
            If a location points outside both, or there is no such file.
        """
        for location in locations:
            if location not in self._sources:
                self._sources[location] = self._find(location)
                self._seen[location] = FileState.of(self._sources[location])
        if self.spool is None and any(map(self._needs_mirror, self._sources)):
            # onnxruntime refuses links that lead elsewhere.
            self._copy(by_link=True)
        return {location: self._seen[location].size for location in locations}

    def _find(self, location: str) -> Path:
        inside = Path(os.path.normpath(location))
        if not location or "\0" in location or inside.is_absolute() or ".." in inside.parts:
            raise ModelError(
                f"{self.path}: its weights point outside the model's folder ({location[:200]!r}); refused"
            )
        for home in self._homes:
            try:
                if (home / inside).is_file():
                    return home / inside
            except (OSError, ValueError):  # a name that is too long, for one
                continue
        raise ModelError(
            f"{self.path}: its external data {location[:200]!r} are missing in {self.folder}: "
            "put them there, under this name"
        )

    def _needs_mirror(self, location: str) -> bool:
        """Tell whether onnxruntime would not find or not take a file where it lies."""
        lies = Path(os.path.realpath(self._sources[location]))
        return lies != Path(os.path.realpath(self.folder)) / location

    def keep(self) -> Path:
        """Copy the files, so that nothing that happens to them later matters; return the copies' folder.

        Where the disk has no room for it, the files are used where they are, with a warning.

        Raises
        ------
        ModelError
            If they changed since they were read.
        """
        if not self.is_private:
            try:
                self._copy(by_link=False)
                self.is_private = True
            except OSError as error:
                self._copies_failed(error)
        return self.folder

    def _copies_failed(self, error: OSError) -> None:
        logger.warning(
            "%s: no private copy can be kept (%s): leave the file as it is while it is in use",
            self.path, error.strerror or error,
        )  # fmt: skip

    def _copy(self, *, by_link: bool) -> None:
        """Mirror the files in a folder of our own, under the names that the model knows them by."""
        self.check()
        spool = self.spool or Spool()
        for location, source in self._sources.items():
            target = spool.folder / location
            if by_link and target.exists():
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            if not (by_link and _linked(source, target)):
                self._copy_one(source, target, self._seen[location])
        self.spool, self.folder = spool, spool.folder

    def _copy_one(self, source: Path, target: Path, seen: FileState) -> None:
        """Copy a file in the state in which it was seen first."""
        if shutil.disk_usage(target.parent).free < seen.size + _ROOM:
            raise OSError(None, "too little room on the disk of temporary files")
        fresh = target.with_name(f"{target.name}.new")
        with source.open("rb") as old, fresh.open("wb") as new:
            shutil.copyfileobj(old, new, 1 << 22)
            new.flush()
            if FileState.of(old.fileno()) != seen or FileState.of(new.fileno()).size != seen.size:
                raise ModelError(f"{self.path}: changed while it was read; try again")
        fresh.replace(target)

    def __getstate__(self) -> dict[str, Any]:
        """Pickle where the files lie and what tells their content; of what lies in memory, the content."""
        own = self.in_memory
        return {
            "path": self.path,
            "content": {name: (self.folder / name).read_bytes() for name in self._sources} if own else None,
            "digests": {} if own else {name: _digest(self.folder / name) for name in self._sources},
            "sources": self._sources,
            "copies": self.folder,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        spool, sources = Spool(), dict(state["sources"])
        if state["content"] is not None:
            sources = {name: spool.folder / name for name in state["content"]}
            for name, content in state["content"].items():
                sources[name].write_bytes(content)
        seen = {name: FileState.of(source) for name, source in sources.items() if source.exists()}
        for name, digest in state["digests"].items():
            found = _fetched([sources[name], state["copies"] / name], spool.folder / name, digest)
            seen[name] = FileState.of(found)
        path = spool.folder / state["path"].name if state["content"] is not None else state["path"]
        self.__init__(path, next(iter(seen.values())), spool)  # type: ignore[misc]
        self.folder, self._sources, self._seen = spool.folder, sources, seen

    def check(self) -> None:
        """Make sure that files which are used where they are are those that were read at first.

        Raises
        ------
        ModelError
            If one changed. Of what is private, a change is only noted, once.
        """
        if self.is_private and self._warned:
            return
        changed = self._changed()
        if changed is None:
            return
        if not self.is_private:
            raise ModelError(f"{changed}: has changed since it was read; load it again")
        self._warned = True
        logger.warning("%s has changed: what was loaded before stays as it was; load it again", changed)

    def _changed(self) -> Path | None:
        for location, source in self._sources.items():
            try:
                if FileState.of(source) == self._seen[location]:
                    continue
            except OSError:
                pass
            return source
        return None


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _fetched(candidates: Sequence[Path], target: Path, digest: str) -> Path:
    """Copy the first of several files that has a certain content; return which one it was.

    Raises
    ------
    ModelError
        If there is none.
    """
    for source in candidates:
        target.parent.mkdir(parents=True, exist_ok=True)
        with suppress(OSError):
            shutil.copyfile(source, target)
            if _digest(target) == digest:
                return source
    raise ModelError(f"{candidates[0]}: has changed since it was pickled; make the explainer again")


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _linked(source: Path, target: Path) -> bool:
    """Make a hard link, if the file system can."""
    try:
        os.link(os.path.realpath(source), target)
    except (OSError, AttributeError):  # some systems have no such links at all
        return False
    return True


def check_weights(proto: ModelProto, files: ModelFiles, name: str) -> None:
    """Take in the files of a model's weights, and refuse weights that are not whole.

    Raises
    ------
    ModelError
        If a file is missing, outside the model's folder, or too short, or a place in it is no place.
    """
    extents: list[tuple[TensorProto, Extent]] = []
    for tensor in all_tensors(proto):
        if not _is_whole(tensor):
            raise ModelError(f"{name}: damaged: the numbers of {tensor.name!r} do not fit its shape and type")
        if tensor.data_location == TensorProto.EXTERNAL:
            try:
                extents.append((tensor, Extent.of(tensor)))
            except ValueError as error:
                raise ModelError(f"{name}: the place of the weights {tensor.name!r}: {error}") from error
    sizes = files.add(dict.fromkeys(extent.location for _, extent in extents))
    for tensor, extent in extents:
        needed = _bytes_of(tensor)
        if extent.length is not None and needed is not None and extent.length != needed:
            raise ModelError(f"{name}: {tensor.name!r} takes {needed} bytes, not {extent.length}")
        if extent.offset + (extent.length or needed or 0) > sizes[extent.location]:
            raise ModelError(f"{name}: external data {extent.location!r} end before {tensor.name!r} does")


def _is_whole(tensor: TensorProto) -> bool:
    """Tell whether a tensor has a type and as many numbers as its shape says."""
    known = tensor.data_type and tensor.data_type in TensorProto.DataType.values()
    if not known or min(tensor.dims, default=0) < 0:
        return False
    if tensor.data_type == TensorProto.STRING:
        return len(tensor.string_data) == math.prod(tensor.dims)
    needed = _bytes_of(tensor)
    if tensor.data_location == TensorProto.EXTERNAL or needed is None:
        return True
    if tensor.HasField("raw_data"):
        return len(tensor.raw_data) == needed
    stored = getattr(tensor, helper.tensor_dtype_to_field(tensor.data_type))
    per_number = 2 if tensor.data_type in _PAIRS else 1
    return len(stored) == math.prod(tensor.dims) * per_number


def _bytes_of(tensor: TensorProto) -> int | None:
    """Return how many bytes a tensor's numbers take; ``None`` where several share a byte."""
    try:
        dtype = helper.tensor_dtype_to_np_dtype(tensor.data_type)
    except KeyError:
        return None
    if tensor.data_type in PACKED:
        return None
    return math.prod(tensor.dims) * dtype.itemsize
