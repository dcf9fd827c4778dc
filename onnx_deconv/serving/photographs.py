"""Photographs that callers send: their first bytes tell what they are, before anything is decoded."""

import io

from onnx_deconv.errors import InputError
from onnx_deconv.imaging import Picture, read_image, size_of

_SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n")
_WEBP = slice(8, 12)


class TooLargeError(InputError):
    """What a caller sent is larger than the server allows."""


def read_photograph(file: bytes, pixels: int) -> Picture:
    """Read a JPEG, PNG or WebP file.

    Parameters
    ----------
    file
        The file's bytes.
    pixels
        How many it may have.

    Raises
    ------
    TooLargeError
        If it has more.
    InputError
        If it is no such file, or damaged.
    """
    if not file.startswith(_SIGNATURES) and file[_WEBP] != b"WEBP":
        raise InputError("the photograph is no JPEG, PNG or WebP file")
    height, width = size_of(_named(file))
    if height * width > pixels:
        raise TooLargeError(f"the photograph has {height * width:,} pixels; {pixels:,} are allowed")
    return read_image(_named(file))


def _named(file: bytes) -> io.BytesIO:
    found = io.BytesIO(file)
    found.name = "the photograph"
    return found
