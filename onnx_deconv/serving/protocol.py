"""The Open Inference Protocol V2 over HTTP, with its extension for binary tensors.

Named in messages and errors as the protocol names them: a *request* has *inputs* and names the *outputs*
that it wants; a tensor has a *name*, a *datatype*, a *shape* and *data*. Binary data follow the JSON of a
message, whose length is then told by the header ``Inference-Header-Content-Length``.
"""

import base64
import binascii
import json
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np

from onnx_deconv.errors import InputError
from onnx_deconv.model import Array

HEADER_LENGTH = "inference-header-content-length"
BYTES = "BYTES"
DATATYPES = {
    "BOOL": "bool",
    **{f"{sign}INT{bits}": f"{sign.lower()}int{bits}" for sign in ("", "U") for bits in (8, 16, 32, 64)},
    "FP16": "float16",
    "FP32": "float32",
    "FP64": "float64",
}
"""NumPy's name of each of the protocol's types of numbers."""
_MOST_AXES = 8
_DIGITS = 20


@dataclass(frozen=True)
class Request:
    """What one caller asks of a model.

    Attributes
    ----------
    inputs
        By name; texts and files (``BYTES``) are an array of objects.
    outputs
        The names of the outputs that are wanted, and whether each is wanted as binary data; empty for all.
    binary
        Whether outputs are wanted as binary data where ``outputs`` does not say.
    id
        What the caller calls the request; given back.
    parameters
        What else it says.
    """

    inputs: Mapping[str, Array]
    outputs: Mapping[str, bool] = field(default_factory=dict)
    binary: bool = False
    id: str | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)


def parse(body: bytes, header_length: str | None = None) -> Request:
    """Read a request.

    Parameters
    ----------
    body
        JSON, and binary data behind it where ``header_length`` says how long the JSON is.
    header_length
        As the caller gave it.

    Raises
    ------
    InputError
        If it is no such request.
    """
    length = len(body) if header_length is None else _length(header_length, len(body))
    try:
        message = json.loads(body[:length])
    except (ValueError, RecursionError) as error:
        raise InputError(f"the request is not JSON: {error}") from None
    inputs = _listed(message, "inputs")
    if not inputs:
        raise InputError("the request has no inputs")
    tensors = _Tensors(body[length:])
    found = {_text(each, "name"): tensors.read(each) for each in inputs}
    if len(found) < len(inputs):
        raise InputError("two inputs have the same name")
    tensors.check_end()
    binary = _parameters(message).get("binary_data_output") is True
    outputs = {_text(o, "name"): _is_binary(o, binary=binary) for o in _listed(message, "outputs")}
    name = message.get("id")
    return Request(found, outputs, binary, name if isinstance(name, str) else None, _parameters(message))


def response(
    model: str, request: Request, outputs: Mapping[str, Array], parameters: Mapping[str, Any] | None = None
) -> tuple[bytes, int | None]:
    """Write a response.

    Returns
    -------
    body : bytes
    header_length : int or None
        The length of the JSON, where binary data follow it.

    Raises
    ------
    InputError
        If numbers that JSON has no word for (infinite, or NaN) are wanted as JSON.
    """
    entries, tail = [], list[bytes]()
    for name, array in outputs.items():
        entry: dict[str, Any] = {"name": name, "datatype": datatype(array.dtype), "shape": list(array.shape)}
        if request.outputs.get(name, request.binary):
            tail.append(_written(array))
            entry["parameters"] = {"binary_data_size": len(tail[-1])}
        else:
            entry["data"] = as_json(name, array.ravel())
        entries.append(entry)
    message: dict[str, Any] = {"model_name": model, "outputs": entries}
    message |= {"id": request.id} if request.id is not None else {}
    message |= {"parameters": parameters} if parameters else {}
    head = json.dumps(message, allow_nan=False, separators=(",", ":")).encode()
    return b"".join([head, *tail]), len(head) if tail else None


def datatype(dtype: np.dtype[Any]) -> str:
    """Return the protocol's name of a NumPy type."""
    return next((name for name, numpy in DATATYPES.items() if numpy == dtype.name), BYTES)


@dataclass
class _Tensors:
    """Reads tensors; the binary data of one follow those of another."""

    rest: bytes

    def read(self, entry: Any) -> Array:
        name, shape = _text(entry, "name"), _shape(entry)
        kind = _text(entry, "datatype")
        if kind != BYTES and kind not in DATATYPES:
            raise InputError(f"input {name!r}: no datatype is named {kind!r}")
        size = _parameters(entry).get("binary_data_size")
        if size is None:
            return _from_json(name, kind, shape, entry.get("data"))
        if not isinstance(size, int) or not 0 <= size <= len(self.rest):
            raise InputError(f"input {name!r}: binary_data_size is {size!r}; {len(self.rest)} bytes are left")
        data, self.rest = self.rest[:size], self.rest[size:]
        if kind == BYTES:
            return _shaped(name, objects(list(_pieces(name, data))), shape)
        dtype = np.dtype(DATATYPES[kind]).newbyteorder("<")
        if size != prod(shape) * dtype.itemsize:
            raise InputError(f"input {name!r}: {size} bytes are not {kind} of shape {shape}")
        return _shaped(name, np.frombuffer(data, dtype).astype(DATATYPES[kind], copy=False), shape)

    def check_end(self) -> None:
        if self.rest:
            raise InputError(f"{len(self.rest)} bytes behind the last input belong to none")


def _length(given: str, most: int) -> int:
    is_number = given.isascii() and given.isdecimal() and len(given) < _DIGITS
    if not is_number or int(given) > most:
        raise InputError(f"the header {HEADER_LENGTH} is {given[:_DIGITS]!r}: the request has {most} bytes")
    return int(given)


def _listed(message: Any, key: str) -> list[Any]:
    found = message.get(key, []) if isinstance(message, dict) else None
    if not isinstance(found, list):
        raise InputError(f"the request has no list of {key}")
    return found


def _text(entry: Any, key: str) -> str:
    found = entry.get(key) if isinstance(entry, dict) else None
    if not isinstance(found, str):
        raise InputError(f"a tensor of the request has no {key}")
    return found


def _parameters(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    found = entry.get("parameters")
    return found if isinstance(found, dict) else {}


def _is_binary(entry: Mapping[str, Any], *, binary: bool) -> bool:
    wanted = _parameters(entry).get("binary_data")
    return wanted if isinstance(wanted, bool) else binary


def _shape(entry: Mapping[str, Any]) -> list[int]:
    shape = entry.get("shape")
    whole = isinstance(shape, list) and all(type(size) is int and size >= 0 for size in shape)
    if not isinstance(shape, list) or not whole or len(shape) > _MOST_AXES:
        raise InputError(f"input {entry['name']!r}: its shape is a list of sizes")
    return shape


def _from_json(name: str, kind: str, shape: Sequence[int], data: Any) -> Array:
    if not isinstance(data, list):
        raise InputError(f"input {name!r} has no data")
    if kind == BYTES and not all(isinstance(each, str) for each in data):
        raise InputError(f"input {name!r}: its data are not a list of texts")
    return _shaped(name, objects(data) if kind == BYTES else numbers_of(name, kind, data), shape)


def numbers_of(name: str, kind: str, data: Any) -> Array:
    """Return the numbers in lists, shaped as these are.

    Raises
    ------
    InputError
        If they are none of the datatype.
    """
    try:
        given = np.array(data)
    except (ValueError, OverflowError, RecursionError):
        raise InputError(f"input {name!r}: its data are not numbers in rows of equal length") from None
    dtype = np.dtype(DATATYPES[kind])
    fits = given.dtype.kind in {"f": "fiu", "i": "iu", "u": "iu", "b": "b"}[dtype.kind]
    if given.size and (not fits or (dtype.kind in "iu" and not _in_range(given, dtype))):
        raise InputError(f"input {name!r}: its data are not {kind}")
    with np.errstate(over="ignore"):
        return given.astype(dtype)


def _in_range(given: Array, dtype: np.dtype[Any]) -> bool:
    bounds = np.iinfo(dtype)
    return bool(int(given.min()) >= bounds.min and int(given.max()) <= bounds.max)


def _shaped(name: str, array: Array, shape: Sequence[int]) -> Array:
    if array.size != prod(shape):
        raise InputError(f"input {name!r}: {array.size} numbers do not fill the shape {list(shape)}")
    try:
        return array.reshape(shape)
    except (ValueError, OverflowError):  # nothing fills it, but no array has sizes like the others
        raise InputError(f"input {name!r}: the shape {list(shape)} is too large") from None


def objects(values: Sequence[Any]) -> Array:
    """Return texts or files as an array of one axis."""
    found = np.empty(len(values), object)
    for k, value in enumerate(values):  # a list would be taken for numbers
        found[k] = value
    return found


def _pieces(name: str, data: bytes) -> Iterator[bytes]:
    """Cut binary ``BYTES`` into its elements: each has its length before it, in four bytes."""
    where = 0
    while where < len(data):
        start = where + 4
        if start > len(data):
            raise InputError(f"input {name!r}: an element has no length")
        (length,) = struct.unpack("<I", data[where:start])
        where = start + length
        if where > len(data):
            raise InputError(f"input {name!r}: an element is longer than the data")
        yield data[start:where]


def text_of(name: str, element: Any) -> str:
    """Return an element of ``BYTES`` as text."""
    try:
        return element.decode() if isinstance(element, bytes) else str(element)
    except UnicodeDecodeError:
        raise InputError(f"input {name!r}: an element is not text") from None


def file_of(name: str, element: Any) -> bytes:
    """Return an element of ``BYTES`` as a file; JSON, which holds text alone, has it in base64."""
    if isinstance(element, bytes):
        return element
    try:
        return base64.b64decode(element, validate=True)
    except (TypeError, ValueError, binascii.Error):
        raise InputError(f"input {name!r}: in JSON a file is written in base64") from None


def _written(array: Array) -> bytes:
    if array.dtype.kind == "O":
        texts = [each if isinstance(each, bytes) else str(each).encode() for each in array.ravel()]
        return b"".join(struct.pack("<I", len(text)) + text for text in texts)
    return np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<"), copy=False).tobytes()


def as_json(name: str, array: Array) -> list[Any]:
    """Write an array as JSON does, in nested lists.

    Raises
    ------
    InputError
        If it has numbers that JSON has no word for (infinite, or NaN).
    """
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise InputError(f"output {name!r} has numbers that JSON cannot hold: ask for it as binary data")
    found: list[Any] = array.tolist()
    return found
