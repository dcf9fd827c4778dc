"""Tell by its first bytes what a file is that is given for an ONNX model but is none."""

import struct
from typing import NamedTuple

HEAD = 512
"""So many of a file's first bytes tell what it is."""


class _Format(NamedTuple):
    """A format that begins with certain bytes at an offset; what it is, and how to get an ONNX model."""

    offset: int
    magic: bytes
    what: str
    way_out: str


_TORCH = "export it with torch.onnx.export(model, example, 'model.onnx')"
_KERAS = "export it with Keras's model.export('model.onnx', format='onnx'), or with tf2onnx"
_TFLITE = "convert it with python -m tf2onnx.convert --tflite FILE --output model.onnx"
_UNPACK = "unpack it, and give the .onnx file in it"
_SOURCE = "give the ONNX file that it was built from"

_FORMATS = (
    _Format(0, b"version https://git-lfs", "a Git LFS pointer, not the file itself", "run 'git lfs pull'"),
    _Format(0, b"/annex/objects/", "a git-annex pointer, not the file itself", "run 'git annex get FILE'"),
    _Format(0, b"outs:\n", "a DVC pointer, not the file itself", "run 'dvc pull', and give that file"),
    _Format(0, b"\x1f\x8b", "compressed by gzip", "unpack it with gunzip"),
    _Format(0, b"BZh", "compressed by bzip2", "unpack it with bunzip2"),
    _Format(0, b"\xfd7zXZ\0", "compressed by xz", "unpack it with unxz"),
    _Format(0, b"\x28\xb5\x2f\xfd", "compressed by zstd", "unpack it with unzstd"),
    _Format(0, b"7z\xbc\xaf\x27\x1c", "a 7z archive", _UNPACK),
    _Format(257, b"ustar", "a tar archive", _UNPACK),
    _Format(4, b"ORTM", "in onnxruntime's own format (.ort)", _SOURCE),
    _Format(4, b"TFL3", "a TensorFlow Lite model", _TFLITE),
    _Format(0, b"ftrt", "a TensorRT plan", _SOURCE),
    _Format(0, b"ptrt", "a TensorRT plan", _SOURCE),
    _Format(0, b"\x89HDF\r\n\x1a\n", "an HDF5 file (Keras's .h5)", _KERAS),
    _Format(0, b"\x89PNG\r\n", "a picture", "give the model first, then the pictures"),
    _Format(0, b"\xff\xd8\xff", "a picture", "give the model first, then the pictures"),
    _Format(0, b"\x93NUMPY", "a NumPy array", "give an ONNX file"),
    *(
        _Format(0, bytes([0x80, protocol]), "a Python pickle (PyTorch's .pt)", _TORCH)
        for protocol in (2, 3, 4, 5)
    ),
)


def what_it_is(head: bytes) -> str | None:
    """Return what a file is, and how to get an ONNX model; ``None`` if it may be one.

    Parameters
    ----------
    head
        Its first :data:`HEAD` bytes, or all of them.
    """
    if not head:
        return "is empty: was its download interrupted?"
    if head.startswith(b"PK\x03\x04"):
        return _zipped(head)
    if head[8:10] == b'{"' and struct.unpack_from("<Q", head)[0] < 1 << 40:
        return f"is no ONNX model but safetensors, which are weights without a graph: {_TORCH}"
    for each in _FORMATS:
        if head[each.offset :].startswith(each.magic):
            return f"is no ONNX model but {each.what}: {each.way_out}"
    return _text(head)


def _zipped(head: bytes) -> str:
    """Tell what a zip archive holds by the name of its first member."""
    length = int.from_bytes(head[26:28], "little")
    first = head[30 : 30 + length]
    if first.endswith((b"/data.pkl", b"/version", b"/.format_version")):
        return f"is no ONNX model but a PyTorch file (.pt): {_TORCH}"
    if first in (b"metadata.json", b"config.json", b"model.weights.h5"):
        return f"is no ONNX model but a Keras file (.keras): {_KERAS}"
    return f"is no ONNX model but a zip archive: {_UNPACK}"


def _text(head: bytes) -> str | None:
    """Tell what a text is; a serialised model is none, it begins with a control character."""
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    lower = text[:64].lower()
    if text[:1] == b"{":
        if any(name in text for name in (b'"irVersion"', b'"opsetImport"', b'"graph"')):
            return "is an ONNX model as JSON: onnx.save(onnx.load(FILE, format='json'), 'model.onnx')"
        return "is no ONNX model but JSON: give the .onnx file"
    if lower.startswith((b"<!doctype html", b"<html", b"<head")):
        return "is no ONNX model but a web page: download the file itself (a 'raw' or 'resolve' address)"
    if lower.startswith(b"<?xml"):
        return "is no ONNX model but XML (OpenVINO's .xml?): give the ONNX file that it was made from"
    if text.startswith((b"ir_version:", b"producer_name:", b"graph {", b"opset_import {")):
        return "is an ONNX model as text: onnx.save(onnx.load(FILE, format='textproto'), 'model.onnx')"
    if text.startswith(b"<") and b"ir_version" in text:
        return "is an ONNX model as text: onnx.save(onnx.parser.parse_model(open(FILE).read()), 'model.onnx')"
    return None
