"""Read a model file without reading its weights.

A protobuf parser copies every byte twice: once from the file, once into the message. For a model
of several hundred MB that is most of the time and all of the memory. But ONNX already has a way to
say "the numbers are elsewhere": *external data* (a file, an offset, a length). So :func:`skim`
walks over the serialised model and rewrites each large tensor to say that its numbers lie where
they lie: in the model file itself. What is left is a valid model of a few KB whose weights stay
on disk, mapped by whoever needs them (onnxruntime maps them too).

Wire format: https://protobuf.dev/programming-guides/encoding/ ; field numbers: onnx.proto.
"""

import os
from collections.abc import Iterator
from typing import NamedTuple, Protocol, Self, overload

from onnx import TensorProto

from onnx_deconv.model.functions import MOST_NODES

INLINE_LIMIT = 1024
"""Tensors of fewer bytes stay in the model, where shape inference can read them."""

_MORE, _LONGEST_INTEGER = 0x80, 64
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5

# message -> {field number: message of that field}: the ways that lead to a tensor.
_PATHS: dict[str, dict[int, str]] = {
    "model": {7: "graph", 25: "function"},
    "graph": {1: "node", 5: "tensor"},
    "function": {7: "node"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph"},
}
# Fields of a TensorProto that hold its numbers as little-endian bytes, and the one type each may
# have (`None`: any). Integers in the other fields are varints and have to stay.
_PAYLOAD = {4: TensorProto.FLOAT, 9: None, 10: TensorProto.DOUBLE}
_DATA_TYPE = 2
_PAGE = 1 << 16
_LONGEST_NUMBER = 19
"""Digits of the largest size of a file."""


class Extent(NamedTuple):
    """Where a tensor's numbers lie.

    Attributes
    ----------
    location, offset, length
        The file, relative to the model's folder, and the bytes in it; without a length, to its end.
    """

    location: str
    offset: int
    length: int | None

    @classmethod
    def of(cls, tensor: TensorProto) -> Self:
        """Read what a tensor says.

        Raises
        ------
        ValueError
            If an offset or a length is no number.
        """
        where = {e.key: e.value for e in tensor.external_data}
        length = _whole(where["length"]) if "length" in where else None
        return cls(where.get("location", ""), _whole(where.get("offset", "0")), length)


def _whole(text: str) -> int:
    if not text.isascii() or not text.isdecimal() or len(text) > _LONGEST_NUMBER:
        raise ValueError(f"{text[:40]!r} is no number of bytes")
    return int(text)


class Content(Protocol):
    """Bytes that can be looked at: in memory, or a :class:`File`."""

    def __len__(self) -> int: ...

    @overload
    def __getitem__(self, at: int) -> int: ...

    @overload
    def __getitem__(self, at: slice) -> bytes | memoryview: ...


class File:
    """A file's content, read a page at a time where it is looked at.

    It is not mapped: whoever looks at mapped memory of a file that was cut short is stopped by the system.

    Parameters
    ----------
    handle
        The open file's descriptor.
    """

    def __init__(self, handle: int) -> None:
        self._handle, self._size = handle, os.fstat(handle).st_size
        self._page, self._first = b"", 0

    def __len__(self) -> int:
        return self._size

    @overload
    def __getitem__(self, at: int) -> int: ...

    @overload
    def __getitem__(self, at: slice) -> bytes: ...

    def __getitem__(self, at: int | slice) -> int | bytes:
        if isinstance(at, slice):
            first, last, _ = at.indices(self._size)
            return self._read(first, max(0, last - first))
        if not self._first <= at < self._first + len(self._page):
            self._first = at - at % _PAGE
            self._page = self._read(self._first, min(_PAGE, self._size - self._first))
        return self._page[at - self._first]

    def _read(self, first: int, count: int) -> bytes:
        parts: list[bytes] = []
        os.lseek(self._handle, first, os.SEEK_SET)
        while count and (part := os.read(self._handle, min(count, 1 << 30))):
            parts.append(part)
            count -= len(part)
        if count:
            raise ValueError("it was cut short while it was read")
        return b"".join(parts)


def skim(buffer: Content, location: str) -> bytes:
    """Serialise the same model with its large tensors pointing into the file they came from.

    Parameters
    ----------
    buffer
        A serialised ``ModelProto``.
    location
        The file's name, to be written as the tensors' external location.

    Returns
    -------
    bytes
        A serialised ``ModelProto``; tensors of :data:`INLINE_LIMIT` bytes and more are external.

    Raises
    ------
    ValueError
        If the bytes are no well-formed protobuf message, or a graph has more than :data:`MOST_NODES` nodes.
    """
    return _slim(buffer, 0, len(buffer), "model", location)


def _slim(buffer: Content, start: int, end: int, message: str, location: str) -> bytes:
    if message == "tensor":
        return _slim_tensor(buffer, start, end, location)
    paths, out, copied, nodes = _PATHS[message], bytearray(), start, 0
    for field, wire, begin, body, stop in _fields(buffer, start, end):
        nodes += paths.get(field) == "node"
        if nodes > MOST_NODES:
            raise ValueError(f"a graph of it has more than {MOST_NODES} nodes")
        if wire == _BYTES and field in paths and stop - body >= INLINE_LIMIT:
            child = _slim(buffer, body, stop, paths[field], location)
            out += buffer[copied:begin]
            out += _varint(field << 3 | _BYTES) + _varint(len(child)) + child
            copied = stop
    return bytes(out + buffer[copied:end])


def _slim_tensor(buffer: Content, start: int, end: int, location: str) -> bytes:
    fields = list(_fields(buffer, start, end))
    dtype = next((_read_varint(buffer, b, s)[0] for f, _, _, b, s in fields if f == _DATA_TYPE), 0)
    payload = [f for f in fields if f[0] in _PAYLOAD and f[1] == _BYTES]
    if len(payload) != 1 or _PAYLOAD[payload[0][0]] not in (None, dtype):
        return bytes(buffer[start:end])
    _, _, begin, body, stop = payload[0]
    if stop - body < INLINE_LIMIT:
        return bytes(buffer[start:end])
    pointer = TensorProto(data_location=TensorProto.EXTERNAL)
    for key, value in {"location": location, "offset": body, "length": stop - body}.items():
        pointer.external_data.add(key=key, value=str(value))
    return bytes(buffer[start:begin]) + bytes(buffer[stop:end]) + pointer.SerializeToString()


def _fields(buffer: Content, start: int, end: int) -> Iterator[tuple[int, int, int, int, int]]:
    """Yield (field number, wire type, begin of the field, begin and end of its content)."""
    at = start
    while at < end:
        begin = at
        key, at = _read_varint(buffer, at, end)
        wire = key & 7
        body = at
        if wire == _VARINT:
            _, at = _read_varint(buffer, at, end)
        elif wire == _BYTES:
            length, body = _read_varint(buffer, at, end)
            at = body + length
        elif wire in (_FIXED32, _FIXED64):
            at += 4 if wire == _FIXED32 else 8
        else:
            raise ValueError(f"wire type {wire} at byte {begin}")
        if at > end:
            raise ValueError(f"cut short at byte {begin}")
        yield key >> 3, wire, begin, body, at


def _read_varint(buffer: Content, at: int, end: int) -> tuple[int, int]:
    value = shift = 0
    while at < end and shift < _LONGEST_INTEGER:
        byte = buffer[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < _MORE:
            return value, at
        shift += 7
    raise ValueError(f"no integer ends before byte {at}")


def _varint(value: int) -> bytes:
    out = bytearray()
    while value >= _MORE:
        out.append(value & 0x7F | _MORE)
        value >>= 7
    return bytes([*out, value])
