"""Save a pair as files that any onnxruntime loads, and load it again.

``forward.onnx`` and ``deconv.onnx`` refer to one ``weights.bin``; ``manifest.json`` says what passes
between them. Weights are copied from file to file; they are never decoded.
"""

import hashlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

from onnx import ModelProto, TensorProto, numpy_helper

from onnx_deconv.compiler.manifest import checked_manifest
from onnx_deconv.compiler.pair import Pair
from onnx_deconv.errors import ModelError
from onnx_deconv.files import check_disk, replacing_together
from onnx_deconv.model import Model, all_tensors, read_proto
from onnx_deconv.model.external_data import INLINE_LIMIT, Extent
from onnx_deconv.model.model_files import ModelFiles, check_weights

FORWARD, DECONV, WEIGHTS, MANIFEST = "forward.onnx", "deconv.onnx", "weights.bin", "manifest.json"
EXPLAIN = "explain.onnx"
ONE_FILE = 1 << 28
"""Up to this many bytes of weights lie in an explain graph's own file; more are mapped."""

_ALIGNMENT = 64
"""Of each tensor in the weights file, in bytes: a cache line, so that kernels can read it in place."""

_CHUNK = 1 << 24


ALL_FILES = (FORWARD, DECONV, WEIGHTS, MANIFEST, EXPLAIN)
"""All that may be written into a folder; what is there already belongs to what is replaced."""

Check = Callable[[Path], None]
"""Looks at new files in a temporary folder; what it raises keeps them from taking their places."""


def save(pair: Pair, path: str | os.PathLike[str], check: Check = lambda _: None) -> list[Path]:
    """Write a pair into a folder, which is made where it does not exist.

    All files appear together when they are whole; what a pair or an explain graph before them left goes.

    Parameters
    ----------
    pair
        See :class:`onnx_deconv.compiler.pair.Pair`.
    path
        The folder.
    check
        A last look at the new files; where it raises anything, all stays as it was.

    Returns
    -------
    list
        The files written: :data:`FORWARD`, :data:`DECONV`, :data:`WEIGHTS`, :data:`MANIFEST`.

    Raises
    ------
    InputError
        If a file cannot be written, or the disk has no room; what was there before is kept then.
    """
    names = (FORWARD, WEIGHTS, MANIFEST, DECONV)  # only with the last one a folder holds a pair
    _check_room(path, max(_bytes_of(pair.forward), _bytes_of(pair.deconv)))  # they share most weights
    with _written(path, names, check) as stage:
        with (stage / WEIGHTS).open("wb") as file:
            store = _Weights(file, pair.folder)
            for proto, name in ((pair.forward, FORWARD), (pair.deconv, DECONV)):
                (stage / name).write_bytes(store.moved(proto).SerializeToString())
        _write_manifest(pair.manifest, stage)
    return [Path(path) / name for name in (FORWARD, DECONV, WEIGHTS, MANIFEST)]


@contextmanager
def _written(path: str | os.PathLike[str], names: Sequence[str], check: Check) -> Iterator[Path]:
    """Yield a folder for new files, which take their places if a check passes."""
    with replacing_together(path, names, known=_stale(Path(path))) as stage:
        yield stage
        check(stage)


def _write_manifest(manifest: Mapping[str, Any], to: Path) -> None:
    (to / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")


def save_graph(
    proto: ModelProto,
    manifest: Mapping[str, Any] | None,
    source: Path,
    path: str | os.PathLike[str],
    name: str = EXPLAIN,
    check: Check = lambda _: None,
) -> list[Path]:
    """Write one model into a folder, which is made where it does not exist.

    Parameters
    ----------
    proto
        The graph; its external tensors lie in ``source``.
    manifest
        What goes in and comes out, if that is to be written too.
    source, path
        The folders to read from and to write to.
    name
        What the model's file is called.
    check
        A last look at the new files; where it raises anything, all stays as it was.

    Returns
    -------
    list
        The files written: the model's, :data:`MANIFEST`, and :data:`WEIGHTS` where the weights are of more
        than :data:`ONE_FILE` bytes.

    Raises
    ------
    InputError
        If a file cannot be written, or the disk has no room; what was there before is kept then.
    """
    size = _bytes_of(proto)
    large = size > ONE_FILE
    _check_room(path, size)
    names = (*[WEIGHTS] * large, *[MANIFEST] * (manifest is not None), name)
    with _written(path, names, check) as stage:
        if large:
            with (stage / WEIGHTS).open("wb") as file:
                whole = _Weights(file, source).moved(proto)
        else:
            whole = _with_weights(proto, source)
        (stage / name).write_bytes(whole.SerializeToString())
        if manifest is not None:
            _write_manifest(manifest, stage)
    return [Path(path) / file for file in reversed(names)]


def _bytes_of(proto: ModelProto) -> int:
    """Return how many bytes a model's tensors take, wherever they lie."""
    return sum(external_size(tensor) or tensor.ByteSize() for tensor in all_tensors(proto))


def _check_room(path: str | os.PathLike[str], needed: int) -> None:
    check_disk(Path(path), needed, "the files take")


def external_size(tensor: TensorProto) -> int:
    """Return how many bytes of a tensor's numbers lie in another file."""
    if tensor.data_location != TensorProto.EXTERNAL:
        return 0
    return Extent.of(tensor).length or 0


def copy_weights(proto: ModelProto, source: Path, target: Path) -> None:
    """Copy the files in which a model's external data are from one folder to another, which is made."""
    external = (t for t in all_tensors(proto) if t.data_location == TensorProto.EXTERNAL)
    target.mkdir()
    for location in {Extent.of(tensor).location for tensor in external}:
        (target / location).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / location, target / location)


def _with_weights(proto: ModelProto, source: Path) -> ModelProto:
    """Copy a model with its external tensors inside."""
    copy = ModelProto()
    copy.CopyFrom(proto)
    for tensor in all_tensors(copy):
        if tensor.data_location == TensorProto.EXTERNAL:
            tensor.raw_data = b"".join(_read(source, Extent.of(tensor)))
            tensor.ClearField("external_data")
            tensor.ClearField("data_location")
    return copy


def load_pair(path: str | os.PathLike[str]) -> Pair:
    """Load a pair that :func:`save` wrote.

    Raises
    ------
    ModelError
        If the folder holds no pair, or what it holds does not belong together.
    """
    home = Path(path)
    if not (home / DECONV).is_file():
        raise ModelError(f"{home}: no pair made by 'onnx-deconv convert'")
    (forward, files), (deconv, _) = (read_proto(home / name) for name in (FORWARD, DECONV))
    for proto, name in ((forward, FORWARD), (deconv, DECONV)):
        check_weights(proto, files, str(home / name))
    try:
        manifest = checked_manifest(forward, deconv)
    except ValueError as error:
        raise ModelError(f"{home}: no pair made by 'onnx-deconv convert' ({error}); make it again") from error
    return Pair(forward, deconv, manifest, files.folder, files)


def reading_with(saved: Pair, model: Model) -> Pair:
    """Let a saved pair read its weights where its forward model does: in a private copy of both.

    Raises
    ------
    ModelError
        If the files changed since they were read.
    """
    check_weights(saved.deconv, model.files, model.name)
    if isinstance(saved.keeps, ModelFiles):
        saved.keeps.check()
    return replace(saved, folder=model.files.keep(), keeps=model.files)


def is_pair(path: object) -> bool:
    """Tell whether a path is a folder that holds a pair."""
    return isinstance(path, str | os.PathLike) and (Path(path) / DECONV).is_file()


def _stale(home: Path) -> tuple[str, ...]:
    """Name what a conversion before this one may have left; nothing where its manifest is not there."""
    return ALL_FILES if (home / MANIFEST).is_file() else ()


class _Weights:
    """The one weights file: every large tensor of either model, once.

    Tensors that one model has twice are there twice: they are copies that a runtime must not take for one.
    """

    def __init__(self, file: BinaryIO, source: Path) -> None:
        self._file, self._source = file, source
        self._places: dict[object, tuple[int, int]] = {}

    def moved(self, proto: ModelProto) -> ModelProto:
        """Copy a model, its large tensors pointing into the weights file."""
        copy = ModelProto()
        copy.CopyFrom(proto)
        seen: Counter[object] = Counter()
        for tensor in all_tensors(copy):
            if tensor.data_location == TensorProto.EXTERNAL:
                where = Extent.of(tensor)
                _point(tensor, *self._place((where, seen[where]), _read(self._source, where)))
                seen[where] += 1
            elif tensor.ByteSize() >= INLINE_LIMIT and tensor.data_type != TensorProto.STRING:
                content = numpy_helper.to_array(tensor).tobytes()
                digest = hashlib.sha256(content).digest()
                _point(tensor, *self._place((digest, seen[digest]), iter([content])))
                seen[digest] += 1
        return copy

    def _place(self, key: object, content: Iterator[bytes]) -> tuple[int, int]:
        if key not in self._places:
            offset = -(-self._file.tell() // _ALIGNMENT) * _ALIGNMENT
            self._file.write(bytes(offset - self._file.tell()))
            for part in content:
                self._file.write(part)
            self._places[key] = offset, self._file.tell() - offset
        return self._places[key]


def _read(source: Path, where: Extent) -> Iterator[bytes]:
    """Read a part of a file piece by piece."""
    with (source / where.location).open("rb") as file:
        file.seek(where.offset)
        size = os.fstat(file.fileno()).st_size - where.offset
        left = size if where.length is None else where.length
        while left > 0 and (part := file.read(min(left, _CHUNK))):
            left -= len(part)
            yield part
        if left:
            raise ModelError(f"{source / where.location}: was cut short while it was read; try again")


def _point(tensor: TensorProto, offset: int, length: int) -> None:
    """Replace a tensor's numbers by where they are in the weights file."""
    for field in (
        "raw_data",
        "float_data",
        "double_data",
        "int32_data",
        "int64_data",
        "uint64_data",
        "external_data",
    ):
        tensor.ClearField(field)
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": WEIGHTS, "offset": offset, "length": length}.items():
        tensor.external_data.add(key=key, value=str(value))
