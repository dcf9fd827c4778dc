"""Many named pictures, read one at a time: from a folder, a list, an archive, or an iterable."""

import io
import os
import tarfile
import zipfile
from collections.abc import Callable, Collection, Iterable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Self

from onnx_deconv.errors import InputError
from onnx_deconv.imaging import SUFFIXES, Picture, read_image

Load = Callable[[], Picture]

_MOST_BYTES = 1 << 28
"""Bytes that a picture in an archive may take; no photograph takes as many."""
_TOO_LARGE = f"takes more than {_MOST_BYTES >> 20} MB in its archive"
_READ_WHOLE = {
    *(tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE),
    *(tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK),
}
_LONGEST_HEADER, _LONGEST_LIST = 1 << 20, 1 << 26
"""Bytes of an archive's extended header, and of a list of paths."""


class Images:
    """Named pictures that can be iterated more than once.

    Parameters
    ----------
    name
        What messages call them.
    each
        Makes an iterator of (name, function that reads the picture), in the same order every time.
    count
        How many there are, if known.
    """

    def __init__(
        self, name: str, each: Callable[[], Iterator[tuple[str, Load]]], count: int | None = None
    ) -> None:
        self.name, self._each, self.count = name, each, count

    def __iter__(self) -> Iterator[tuple[str, Load]]:
        return self._each()

    def numbered(self, first: int, last: int) -> "Images":
        """Return those from one number to another, which is left out."""
        return Images(self.name, lambda: islice(self, first, last))

    def named(self, names: Collection[str]) -> "Images":
        """Return those of these names."""
        return Images(self.name, lambda: ((name, load) for name, load in self if name in names), len(names))


def images_of(source: str | os.PathLike[str] | Images | Iterable[tuple[str, Picture]]) -> Images:
    """Make pictures of a folder, a file of names, an archive, or an iterable.

    Parameters
    ----------
    source
        A folder (all pictures in it and in its folders, named by their path in it); a text file of
        paths, one a line, relative to the file; a zip or tar file; or an iterable of (name, picture),
        H×W×3, uint8, RGB, that can be iterated twice (a list, for instance, but no generator). Names
        identify images and break ties: the same images must have the same names.

    Returns
    -------
    Images

    Raises
    ------
    InputError
        If there are no pictures, or the iterable can be used only once.
    """
    if isinstance(source, Images):
        return source
    if not isinstance(source, str | os.PathLike):
        if isinstance(source, Iterator):
            raise InputError("the images are read twice: give a list, not a generator")
        return Images("the given images", lambda: ((n, partial(_itself, p)) for n, p in source))
    path = Path(source)
    if path.is_dir():
        return _listed(str(path), path, sorted(_inside(path)))
    if not path.is_file():
        raise InputError(f"{path}: no such file or folder of images")
    return _of_file(path)


def _of_file(path: Path) -> Images:
    if zipfile.is_zipfile(path):
        return _zipped(path)
    if _is_tar(path):
        return Images(str(path), lambda: _tarred(path))
    if path.suffix.lower() in SUFFIXES:
        return _listed(str(path), path.parent, [path.name])
    try:
        if path.stat().st_size > _LONGEST_LIST:
            raise InputError(f"{path}: neither pictures, nor an archive or a list of them")
        text = path.read_text(encoding="utf-8")
        if "\0" in text:
            raise InputError(f"{path}: neither pictures, nor a whole archive or a list of them")
        names = [line.strip() for line in text.splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: neither pictures nor a list of them ({error})") from error
    return _listed(str(path), path.parent, sorted({name for name in names if name}))


def _inside(folder: Path) -> Iterator[str]:
    for home, _, files in os.walk(folder):
        for file in files:
            if os.path.splitext(file)[1].lower() in SUFFIXES and not file.startswith("."):  # noqa: PTH122
                yield os.path.relpath(os.path.join(home, file), folder)  # noqa: PTH118


def _listed(name: str, home: Path, names: list[str]) -> Images:
    if not names:
        raise InputError(f"{name}: there are no pictures there")
    return Images(name, lambda: ((n, partial(read_image, home / n)) for n in names), len(names))


def _zipped(path: Path) -> Images:
    def each() -> Iterator[tuple[str, Load]]:
        archive = zipfile.ZipFile(path)  # open as long as a picture may be read, from any thread
        for name in names:
            yield name, partial(_zipped_image, archive, name)

    try:
        with zipfile.ZipFile(path) as archive:
            names = sorted({n for n in archive.namelist() if Path(n).suffix.lower() in SUFFIXES})
    except Exception as error:
        raise InputError(f"{path}: the archive is damaged ({error})") from error
    if not names:
        raise InputError(f"{path}: there are no pictures in it")
    return Images(str(path), each, len(names))


def _is_tar(path: Path) -> bool:
    try:
        with _opened_tar(path):
            return True
    except Exception:  # noqa: BLE001  (a damaged stream raises what its compression likes)
        return False


def _tarred(path: Path) -> Iterator[tuple[str, Load]]:
    name = None
    try:
        with _opened_tar(path) as archive:
            for member in archive:
                if member.isfile() and Path(member.name).suffix.lower() in SUFFIXES:
                    name = member.name
                    # Now, not when it is wanted: the archive can only be read from its beginning to its end.
                    yield name, _tarred_image(archive, member)
                archive.members.clear()  # type: ignore[attr-defined]  # else it remembers every member
    except Exception as error:  # noqa: BLE001  (a damaged stream raises what its compression likes)
        after = "at its beginning" if name is None else f"after {name}"
        reason = f"{path}: the archive is damaged {after} ({error}); what follows is left out"
        yield f"{path.name}, {after}", partial(_refused, reason)


def _opened_tar(path: Path) -> tarfile.TarFile:
    return tarfile.open(path, tarinfo=_Member)


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
    if member.size > _MOST_BYTES:
        return partial(_refused, f"{member.name}: {_TOO_LARGE}")
    file = archive.extractfile(member)
    return partial(_in_memory, file.read() if file is not None else b"", member.name)


def _zipped_image(archive: zipfile.ZipFile, name: str) -> Picture:
    """Read a member, but no more of it than any honest picture takes, whatever its header says."""
    try:
        with archive.open(name) as file:
            content = file.read(_MOST_BYTES + 1)
    except Exception as error:
        raise InputError(f"{name}: damaged or encrypted in its archive ({error})") from error
    if len(content) > _MOST_BYTES:
        raise InputError(f"{name}: {_TOO_LARGE}")
    return _in_memory(content, name)


def _refused(reason: str) -> Picture:
    raise InputError(reason)


def _in_memory(content: bytes, name: str) -> Picture:
    file = io.BytesIO(content)
    file.name = name
    return read_image(file)


def _itself(picture: Picture) -> Picture:
    return picture
