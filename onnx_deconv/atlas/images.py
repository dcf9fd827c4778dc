"""Many named pictures, read one at a time: from folders, lists, archives, tables, buckets, or an iterable."""

import os
import zipfile
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from pathlib import Path

from onnx_deconv.atlas.archives import (
    MOST_BYTES,
    TOO_LARGE,
    Load,
    in_memory,
    is_tar,
    placed,
    refused,
    tar_places,
    tarred,
    zip_names,
    zipped,
)
from onnx_deconv.atlas.parquet import Rows
from onnx_deconv.atlas.stored import Stored, is_uri
from onnx_deconv.errors import InputError
from onnx_deconv.imaging import SUFFIXES, Picture, read_image

_LONGEST_LIST = 1 << 26
"""Bytes of a list of paths."""
_SHARDS = frozenset({".parquet", ".tar"})
"""The suffixes of files that hold many pictures, of which a folder may hold many in its turn."""


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


class _Listed(Images):
    """Pictures whose names are in memory: some of them are chosen without looking at the others' files."""

    def __init__(self, name: str, names: Sequence[str], load: Callable[[str], Load]) -> None:
        super().__init__(name, lambda: ((each, load(each)) for each in names), len(names))
        self._names, self._load = names, load

    def numbered(self, first: int, last: int) -> Images:
        return _Listed(self.name, self._names[first:last], self._load)

    def named(self, names: Collection[str]) -> Images:
        return _Listed(self.name, [each for each in self._names if each in names], self._load)


class _Joined(Images):
    """The pictures of several files, whose names are a part of the pictures'; only files needed are read."""

    def __init__(self, name: str, parts: Mapping[str, Images]) -> None:
        counts = [images.count for images in parts.values()]
        known = [count for count in counts if count is not None]
        super().__init__(name, self._all, sum(known) if len(known) == len(counts) else None)
        self._parts = parts

    def _all(self) -> Iterator[tuple[str, Load]]:
        for part, images in self._parts.items():
            for name, load in images:
                yield f"{part}/{name}", load

    def numbered(self, first: int, last: int) -> Images:
        if self.count is None:
            return super().numbered(first, last)
        found, before = dict[str, Images](), 0
        for part, images in self._parts.items():
            count = images.count or 0
            if first < before + count and before < last:
                found[part] = images.numbered(max(first - before, 0), min(last - before, count))
            before += count
        return _Joined(self.name, found)

    def named(self, names: Collection[str]) -> Images:
        found = dict[str, Images]()
        for part, images in self._parts.items():
            inner = {name[len(part) + 1 :] for name in names if name.startswith(f"{part}/")}
            if inner:
                found[part] = images.named(inner)
        return _Joined(self.name, found)


def images_of(
    source: str | os.PathLike[str] | Images | Iterable[tuple[str, Picture]], *, one_by_one: bool = False
) -> Images:
    """Make pictures of a folder, a file of names, an archive, a table, or an iterable.

    Parameters
    ----------
    source
        A folder: all pictures in it and in its folders, named by their path in it; if there are none, those
        in its Parquet and tar files (WebDataset). A text file of paths, one a line, relative to the file; a
        zip, tar or Parquet file. Folders and files of this machine are given by their path, those of a bucket
        by their URI (``s3://…``, ``gs://…``). Or an iterable of (name, picture),
        H×W×3, uint8, RGB, that can be iterated twice (a list, for instance, but no generator). Names
        identify images and break ties: the same images must have the same names.
    one_by_one
        Whether pictures are to be read one by one, also where to read all in their order would be faster: in
        an uncompressed tar file of a bucket.

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
    stored = Stored.of(source)
    if stored.is_folder:
        return _of_folder(stored, one_by_one=one_by_one)
    if stored.is_here and not Path(stored.path).is_file():
        raise InputError(f"{stored.called}: no such file or folder of images")
    return _of_file(stored, one_by_one=one_by_one)


def is_collection(source: str) -> bool:
    """Tell whether a path or URI names a file or folder that only :func:`images_of` knows how to read.

    A folder is one if no picture lies directly in it, but some do in its folders, tar files or tables.
    """
    path = Path(source)
    if is_uri(source):
        return True
    if path.is_dir():
        if any(file.suffix.lower() in SUFFIXES for file in path.iterdir()):
            return False
        return any(_suffix(name) in SUFFIXES | _SHARDS for name in Stored.of(source).inside())
    suffix = path.suffix.lower()
    if not path.is_file() or suffix in SUFFIXES:
        return False
    return suffix in _SHARDS or zipfile.is_zipfile(path) or is_tar(Stored.of(source))


def _of_folder(folder: Stored, *, one_by_one: bool) -> Images:
    files = sorted(folder.inside())
    names = [name for name in files if _suffix(name) in SUFFIXES]
    if names:
        return _Listed(folder.called, names, lambda name: partial(_inside, folder, name))
    shards = [name for name in files if _suffix(name) in _SHARDS]
    if not shards:
        raise InputError(f"{folder.called}: there are no pictures there")
    return _Joined(
        folder.called, {name: _of_file(folder.file(name), one_by_one=one_by_one) for name in shards}
    )


def _of_file(file: Stored, *, one_by_one: bool) -> Images:
    if file.suffix == ".parquet":
        rows = Rows(file)
        return Images(file.called, lambda: iter(rows), rows.count)
    if _is_zip(file):
        names = zip_names(file)
        if not names:
            raise InputError(f"{file.called}: there are no pictures in it")
        return Images(file.called, lambda: zipped(file, names), len(names))
    if is_tar(file):
        return _of_tar(file, one_by_one=one_by_one)
    if file.suffix in SUFFIXES:
        return Images(file.called, lambda: iter([(file.name, partial(_picture, file))]), 1)
    if not file.is_here:
        raise InputError(f"{file.called}: neither pictures nor an archive or a table of them")
    return _of_list(Path(file.path))


def _of_tar(file: Stored, *, one_by_one: bool) -> Images:
    places = tar_places(file) if file.is_here or one_by_one else None
    if places is None:
        return Images(file.called, lambda: tarred(file))
    return Images(file.called, lambda: placed(file, places), len(places))


def _is_zip(file: Stored) -> bool:
    with file.open() as opened:
        return zipfile.is_zipfile(opened)


def _of_list(path: Path) -> Images:
    try:
        if path.stat().st_size > _LONGEST_LIST:
            raise InputError(f"{path}: neither pictures, nor an archive or a list of them")
        text = path.read_text(encoding="utf-8")
        if "\0" in text:
            raise InputError(f"{path}: neither pictures, nor a whole archive or a list of them")
        names = [line.strip() for line in text.splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: neither pictures nor a list of them ({error})") from error
    found = sorted({name for name in names if name})
    if not found:
        raise InputError(f"{path}: there are no pictures there")
    return _Listed(str(path), found, lambda name: partial(read_image, path.parent / name))


def _inside(folder: Stored, name: str) -> Picture:
    return _picture(folder.file(name))


def _picture(file: Stored) -> Picture:
    if file.is_here:
        return read_image(file.path)
    with file.open() as opened:
        content = opened.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        return refused(f"{file.called}: {TOO_LARGE}")
    return in_memory(content, file.called)


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower()  # noqa: PTH122  (of a million names)


def _itself(picture: Picture) -> Picture:
    return picture
