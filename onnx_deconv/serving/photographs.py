"""Photographs that callers send: their first bytes tell what they are, before anything is decoded."""

import io
import re

from onnx_deconv.errors import InputError
from onnx_deconv.imaging import Picture, TooManyPixelsError, read_image, size_of

_SIGNATURES = re.compile(rb"\xff\xd8\xff|\x89PNG\r\n\x1a\n|RIFF.{4}WEBP", re.DOTALL)


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
    if measured(file) > pixels:
        raise TooLargeError(f"the photograph has {measured(file):,} pixels; {pixels:,} are allowed")
    return read_image(_named(file))


def measured(file: bytes) -> int:
    """Return how many pixels a photograph has, without decoding it.

    Raises
    ------
    TooLargeError
        If they are more than any photograph may have.
    InputError
        If it is no JPEG, PNG or WebP file.
    """
    if not _SIGNATURES.match(file):
        raise InputError("the photograph is no JPEG, PNG or WebP file")
    try:
        height, width = size_of(_named(file))
    except TooManyPixelsError as error:
        raise TooLargeError(str(error)) from error
    return height * width


def _named(file: bytes) -> io.BytesIO:
    found = io.BytesIO(file)
    found.name = "the photograph"
    return found
