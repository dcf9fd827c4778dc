"""Pictures in zip and tar files, one at a time; what is damaged or far too large is named and left out."""

import io
import os
import tarfile
import weakref
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple, Self

from onnx_deconv.atlas.stored import Stored
from onnx_deconv.errors import InputError
from onnx_deconv.files import member
from onnx_deconv.imaging import SUFFIXES, Picture, read_image

Load = Callable[[], Picture]
"""Reads a picture."""

MOST_BYTES = 1 << 28
"""Bytes that a picture in an archive may take; no photograph takes as many."""
TOO_LARGE = f"takes more than {MOST_BYTES >> 20} MB in its archive"

_READ_WHOLE = {
    *(tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE),
    *(tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK),
}
_LONGEST_HEADER = 1 << 20
"""Bytes of an archive's extended header."""


def in_memory(content: bytes, name: str) -> Picture:
    """Read a picture that was a file; messages call it by this name."""
    file = io.BytesIO(content)
    file.name = name
    return read_image(file)


def refused(reason: str) -> Picture:
    """Say why a picture is left out.

    Raises
    ------
    InputError
        Always.
    """
    raise InputError(reason)


def zip_names(file: Stored) -> list[str]:
    """List the pictures in a zip file.

    Raises
    ------
    InputError
        If it cannot be read.
    """
    try:
        with file.open() as opened, zipfile.ZipFile(opened) as archive:
            return sorted({n for n in archive.namelist() if _is_picture(n)})
    except Exception as error:
        raise InputError(f"{file.called}: the archive is damaged ({error})") from error


def zipped(file: Stored, names: list[str]) -> Iterator[tuple[str, Load]]:
    """Yield the pictures of a zip file."""
    archive = _Zip(file)
    for name in names:
        yield name, partial(archive.picture, name)


class _Zip:
    """A zip file, open as long as a picture may be read, from any thread; another process opens it again."""

    def __init__(self, file: Stored) -> None:
        self._file = file
        self._archive = zipfile.ZipFile(file.source())
        weakref.finalize(self, self._archive.close)

    def __reduce__(self) -> tuple[type, tuple[Stored]]:
        return _Zip, (self._file,)

    def picture(self, name: str) -> Picture:
        """Read a member; none that takes more than any honest picture."""
        try:
            content = member(self._archive, name, MOST_BYTES)
        except Exception as error:
            raise InputError(f"{name}: damaged or encrypted in its archive ({error})") from error
        if content is None:
            raise InputError(f"{name}: {TOO_LARGE}")
        return in_memory(content, name)


class Place(NamedTuple):
    """Where a picture is in an uncompressed tar file, or why it is left out."""

    name: str
    start: int
    length: int
    fault: str | None = None


def is_tar(file: Stored) -> bool:
    """Tell whether a file is a tar file, compressed or not."""
    try:
        with file.open() as opened, _opened_tar(opened):
            return True
    except Exception:  # noqa: BLE001  (a damaged stream raises what its compression likes)
        return False


def tar_places(file: Stored) -> list[Place] | None:
    """Find the pictures of an uncompressed tar file; ``None`` of any other.

    Only the members' headers are read; of a file in a bucket that is a request for each.
    """
    places: list[Place] = []
    with file.open() as opened:
        size = opened.seek(0, os.SEEK_END)
        opened.seek(0)
        try:
            archive = tarfile.open(fileobj=opened, mode="r:", tarinfo=_Member)  # noqa: SIM115  (file is closed)
        except tarfile.TarError:
            return None
        try:
            places.extend(Place(m.name, m.offset_data, m.size) for m in _pictures_in(archive))
        except Exception as error:  # noqa: BLE001  (as above)
            places = [place for place in places if place.start + place.length <= size]
            places.append(_cut_short(file, places[-1].name if places else None, error))
    return places


def placed(file: Stored, places: list[Place]) -> Iterator[tuple[str, Load]]:
    """Yield the pictures at some places of a tar file."""
    for place in places:
        yield place.name, partial(_placed_image, file, place)


def _placed_image(file: Stored, place: Place) -> Picture:
    if place.fault is not None:
        refused(place.fault)
    if place.length > MOST_BYTES:
        refused(f"{place.name}: {TOO_LARGE}")
    with file.open() as opened:
        opened.seek(place.start)
        content = opened.read(place.length)
    if len(content) < place.length:
        refused(f"{place.name}: damaged in its archive, which ends before")
    return in_memory(content, place.name)


def tarred(file: Stored) -> Iterator[tuple[str, Load]]:
    """Yield the pictures of a tar file, which is read from its beginning to its end."""
    name = None
    try:
        with file.open() as opened, _opened_tar(opened) as archive:
            for member in _pictures_in(archive):
                name = member.name
                # Now, not when it is wanted: a compressed archive can only be read once.
                yield name, _tarred_image(archive, member)
    except Exception as error:  # noqa: BLE001  (a damaged stream raises what its compression likes)
        called, _, _, reason = _cut_short(file, name, error)
        yield called, partial(refused, str(reason))


def _pictures_in(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    for found in archive:
        if found.isfile() and _is_picture(found.name):
            yield found
        archive.members.clear()  # type: ignore[attr-defined]  # else it remembers every member


def _cut_short(file: Stored, last: str | None, error: Exception) -> Place:
    after = "at its beginning" if last is None else f"after {last}"
    reason = f"{file.called}: the archive is damaged {after} ({error}); what follows is left out"
    return Place(f"{file.name}, {after}", 0, 0, reason)


def _opened_tar(file: object) -> tarfile.TarFile:
    return tarfile.open(fileobj=file, tarinfo=_Member)  # type: ignore[call-overload]


class _Member(tarfile.TarInfo):
    """A member whose header may not claim more memory than any honest one does."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        """Read a header; those of extended headers and long names are read whole, so they must be short."""
        member = super().frombuf(buf, encoding, errors)
        if member.type in _READ_WHOLE and member.size > _LONGEST_HEADER:
            raise tarfile.ReadError(f"a header of {member.size:,} bytes")
        return member


def _tarred_image(archive: tarfile.TarFile, member: tarfile.TarInfo) -> Load:
    if member.size > MOST_BYTES:
        return partial(refused, f"{member.name}: {TOO_LARGE}")
    file = archive.extractfile(member)
    return partial(in_memory, file.read() if file is not None else b"", member.name)


def _is_picture(name: str) -> bool:
    return Path(name).suffix.lower() in SUFFIXES
