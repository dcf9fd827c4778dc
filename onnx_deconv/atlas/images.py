"""Many named pictures, read one at a time: from a folder, a list, an archive, or an iterable."""

import io
import os
import tarfile
import zipfile
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

from onnx_deconv.errors import InputError
from onnx_deconv.imaging import SUFFIXES, Picture, read_image

Load = Callable[[], Picture]


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
    if zipfile.is_zipfile(path):
        return _zipped(path)
    if tarfile.is_tarfile(path):
        return Images(str(path), lambda: _tarred(path))
    if path.suffix.lower() in SUFFIXES:
        return _listed(str(path), path.parent, [path.name])
    try:
        names = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
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

    with zipfile.ZipFile(path) as archive:
        names = sorted(n for n in archive.namelist() if Path(n).suffix.lower() in SUFFIXES)
    if not names:
        raise InputError(f"{path}: there are no pictures in it")
    return Images(str(path), each, len(names))


def _tarred(path: Path) -> Iterator[tuple[str, Load]]:
    with tarfile.open(path) as archive:
        for member in archive:
            if member.isfile() and Path(member.name).suffix.lower() in SUFFIXES:
                # Now, not when it is wanted: the archive can only be read from its beginning to its end.
                file = archive.extractfile(member)
                yield member.name, partial(_in_memory, file.read() if file is not None else b"", member.name)
            archive.members.clear()  # type: ignore[attr-defined]  # else it remembers every member


def _zipped_image(archive: zipfile.ZipFile, name: str) -> Picture:
    return _in_memory(archive.read(name), name)


def _in_memory(content: bytes, name: str) -> Picture:
    file = io.BytesIO(content)
    file.name = name
    return read_image(file)


def _itself(picture: Picture) -> Picture:
    return picture
