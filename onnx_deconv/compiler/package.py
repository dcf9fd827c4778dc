"""Save a pair as files that any onnxruntime loads, and load it again.

``forward.onnx`` and ``deconv.onnx`` refer to one ``weights.bin``; ``manifest.json`` says what passes
between them. Weights are copied from file to file; they are never decoded.
"""

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO

from onnx import ModelProto, TensorProto, numpy_helper

from onnx_deconv.compiler.pair import MANIFEST_KEY, Pair
from onnx_deconv.errors import ModelError
from onnx_deconv.files import folder, replacing
from onnx_deconv.model import all_tensors
from onnx_deconv.model.external_data import INLINE_LIMIT

FORWARD, DECONV, WEIGHTS, MANIFEST = "forward.onnx", "deconv.onnx", "weights.bin", "manifest.json"
EXPLAIN = "explain.onnx"
ONE_FILE = 1 << 28
"""Up to this many bytes of weights lie in an explain graph's own file; more are mapped."""

_ALIGNMENT = 64
"""Of each tensor in the weights file, in bytes: a cache line, so that kernels can read it in place."""

_CHUNK = 1 << 24


def save(pair: Pair, path: str | os.PathLike[str]) -> list[Path]:
    """Write a pair into a folder, which is made where it does not exist.

    Parameters
    ----------
    pair
        See :class:`onnx_deconv.compiler.pair.Pair`.
    path
        The folder.

    Returns
    -------
    list
        The files written: :data:`FORWARD`, :data:`DECONV`, :data:`WEIGHTS`, :data:`MANIFEST`.

    Raises
    ------
    InputError
        If a file cannot be written; what was there before is kept then.
    """
    home = folder(path)
    targets = [home / name for name in (FORWARD, DECONV, WEIGHTS, MANIFEST)]
    with ExitStack() as stack:
        forward, deconv, weights, manifest = [stack.enter_context(replacing(target)) for target in targets]
        with weights.open("wb") as file:
            store = _Weights(file, pair.folder)
            for proto, to in ((pair.forward, forward), (pair.deconv, deconv)):
                to.write_bytes(store.moved(proto).SerializeToString())
        manifest.write_text(json.dumps(pair.manifest, indent=2) + "\n", encoding="utf-8")
    return targets


def save_graph(
    proto: ModelProto,
    manifest: Mapping[str, Any] | None,
    source: Path,
    path: str | os.PathLike[str],
    name: str = EXPLAIN,
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

    Returns
    -------
    list
        The files written: the model's, :data:`MANIFEST`, and :data:`WEIGHTS` where the weights are of more
        than :data:`ONE_FILE` bytes.

    Raises
    ------
    InputError
        If a file cannot be written; what was there before is kept then.
    """
    home = folder(path)
    large = sum(external_size(t) or t.ByteSize() for t in all_tensors(proto)) > ONE_FILE
    described = manifest is not None
    targets = [home / file for file in (name, *[MANIFEST] * described, *[WEIGHTS] * large)]
    with ExitStack() as stack:
        graph, *others = [stack.enter_context(replacing(target)) for target in targets]
        if large:
            with others[-1].open("wb") as file:
                whole = _Weights(file, source).moved(proto)
        else:
            whole = _with_weights(proto, source)
        graph.write_bytes(whole.SerializeToString())
        if described:
            others[0].write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
    return targets


def external_size(tensor: TensorProto) -> int:
    """Return how many bytes of a tensor's numbers lie in another file."""
    if tensor.data_location != TensorProto.EXTERNAL:
        return 0
    return int(next((e.value for e in tensor.external_data if e.key == "length"), 0))


def _with_weights(proto: ModelProto, source: Path) -> ModelProto:
    """Copy a model with its external tensors inside."""
    copy = ModelProto()
    copy.CopyFrom(proto)
    for tensor in all_tensors(copy):
        if tensor.data_location == TensorProto.EXTERNAL:
            where = {e.key: e.value for e in tensor.external_data}
            parts = _read(source, where["location"], int(where.get("offset", 0)), where.get("length"))
            tensor.raw_data = b"".join(parts)
            tensor.ClearField("external_data")
            tensor.ClearField("data_location")
    return copy


def load_pair(path: str | os.PathLike[str]) -> Pair:
    """Load a pair that :func:`save` wrote.

    Raises
    ------
    ModelError
        If the folder holds no pair.
    """
    home = Path(path)
    try:
        forward = ModelProto.FromString((home / FORWARD).read_bytes())
        deconv = ModelProto.FromString((home / DECONV).read_bytes())
        manifest = next(p.value for p in deconv.metadata_props if p.key == MANIFEST_KEY)
    except Exception as error:
        raise ModelError(f"{home}: no pair made by 'onnx-deconv convert' ({error})") from error
    return Pair(forward, deconv, json.loads(manifest), home)


def is_pair(path: object) -> bool:
    """Tell whether a path is a folder that holds a pair."""
    return isinstance(path, str | os.PathLike) and (Path(path) / DECONV).is_file()


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
                where = {e.key: e.value for e in tensor.external_data}
                key = where["location"], int(where.get("offset", 0)), where.get("length")
                _point(tensor, *self._place((key, seen[key]), _read(self._source, *key)))
                seen[key] += 1
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


def _read(source: Path, location: str, offset: int, length: str | None) -> Iterator[bytes]:
    """Read a part of a file piece by piece."""
    with (source / location).open("rb") as file:
        file.seek(offset)
        left = int(length) if length is not None else os.fstat(file.fileno()).st_size - offset
        while left > 0 and (part := file.read(min(left, _CHUNK))):
            left -= len(part)
            yield part


def _point(tensor: TensorProto, offset: int, length: int) -> None:
    """Replace a tensor's numbers by where they lie in the weights file."""
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
