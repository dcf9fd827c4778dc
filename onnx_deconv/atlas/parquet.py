"""Pictures in the rows of a Parquet file, as data sets keep them; one group of rows at a time."""

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import PurePath
from threading import Lock
from typing import Any

from onnx_deconv.atlas.archives import MOST_BYTES, TOO_LARGE, Load, in_memory, refused
from onnx_deconv.atlas.stored import Stored
from onnx_deconv.errors import InputError
from onnx_deconv.imaging import Picture

_PICTURES = ("image", "img", "jpg", "jpeg", "png", "bytes", "content")
_NAMES = ("path", "file_name", "filename", "name", "__key__", "key")
_CLASSES = ("label", "class", "cls")
"""Columns, the first that there is."""
_MOST_OF_GROUP = 1 << 31
"""Bytes of the pictures of a group of rows, which is read at once."""
_GROUPS = 2
"""Groups that are kept: pictures are read nearly in order."""


class Rows:
    """The pictures of a Parquet file.

    The pictures are a column of bytes, or of structures with ``bytes`` in them (as Hugging Face's data sets
    have them). A row's name is its class, if there is a column of those, its number, and the file's name that
    the row gives.

    Parameters
    ----------
    file
        The file.

    Attributes
    ----------
    count
        How many rows there are.

    Raises
    ------
    InputError
        If it cannot be read, or has no such column.
    """

    def __init__(self, file: Stored) -> None:
        try:
            import pyarrow as pa  # noqa: PLC0415 - an extra
            from pyarrow import parquet  # noqa: PLC0415
        except ImportError as error:
            raise InputError(
                f"{file.called}: is read by pyarrow: pip install 'onnx-deconv[arrow]'"
            ) from error
        try:
            self._file: Any = parquet.ParquetFile(file.source())
        except Exception as error:
            raise InputError(f"{file.called}: no whole Parquet file ({error})") from error
        self._stored, self._called, self.count = file, file.called, int(self._file.metadata.num_rows)
        self._columns = _columns(pa, self._file.schema_arrow, file.called)
        self._lock, self._groups = Lock(), OrderedDict[int, Any]()

    def __reduce__(self) -> tuple[type, tuple[Stored]]:
        return Rows, (self._stored,)

    def __iter__(self) -> Iterator[tuple[str, Load]]:
        row = 0
        for group in range(self._file.num_row_groups):
            for inner, name in enumerate(self._names(group, row)):
                yield name, partial(self._picture, group, inner, name)
                row += 1

    def _names(self, group: int, first: int) -> list[str]:
        """Name the rows of a group; their pictures are not read."""
        count = self._file.metadata.row_group(group).num_rows
        _, named, classed = self._columns
        wanted = [column for column in (named, classed) if column is not None]
        with self._lock:
            found = [self._read(group, column) for column in wanted]
        columns: dict[str | None, Any] = {None: [None] * count, **dict(zip(wanted, found, strict=True))}
        both = zip(columns[named], columns[classed], strict=True)
        return [_name(first + k, name, of_class) for k, (name, of_class) in enumerate(both)]

    def _picture(self, group: int, row: int, name: str) -> Picture:
        with self._lock:
            content = self._pictures(group)[row].as_py()
        if content is None:
            return refused(f"{name}: {self._called} holds no picture in this row")
        if len(content) > MOST_BYTES:
            return refused(f"{name}: {TOO_LARGE}")
        return in_memory(content, name)

    def _pictures(self, group: int) -> Any:
        if group not in self._groups:
            while len(self._groups) >= _GROUPS:
                self._groups.popitem(last=False)
            self._groups[group] = self._read_pictures(group)
        self._groups.move_to_end(group)
        return self._groups[group]

    def _read_pictures(self, group: int) -> Any:
        about = self._file.metadata.row_group(group)
        pictures = self._columns[0]
        sizes = [
            about.column(k).total_uncompressed_size
            for k in range(about.num_columns)
            if about.column(k).path_in_schema == pictures
        ]
        if sum(sizes) > _MOST_OF_GROUP:
            raise InputError(
                f"{self._called}: a group of rows takes {sum(sizes) / 1e9:.1f} GB: write it in smaller groups"
            )
        try:
            return self._read(group, pictures)
        except Exception as error:
            raise InputError(f"{self._called}: group {group} of its rows is damaged ({error})") from error

    def _read(self, group: int, column: str) -> Any:
        """Read a column of a group: its outer name and, of structures, the name inside."""
        outer, _, inner = column.partition(".")
        found = self._file.read_row_group(group, columns=[column]).column(outer)
        return found if not inner else found.combine_chunks().field(inner) if found.num_chunks else found


def _columns(pa: Any, schema: Any, called: str) -> tuple[str, str | None, str | None]:
    """Find the columns of pictures, names and classes."""

    def is_bytes(kind: Any) -> bool:
        return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))

    holds = {}
    for field in schema:
        if is_bytes(field.type):
            holds[field.name] = field.name
        elif pa.types.is_struct(field.type) and any(
            inner.name == "bytes" and is_bytes(inner.type) for inner in field.type
        ):
            holds[field.name] = f"{field.name}.bytes"
    chosen = next((name for name in (*_PICTURES, *holds) if name in holds), None)
    if chosen is None:
        raise InputError(
            f"{called}: no column holds pictures; there are {', '.join(schema.names)} (give bytes, or a "
            "structure with 'bytes')"
        )
    pictures = holds[chosen]
    inside = {inner.name for inner in schema.field(chosen).type} if pictures != chosen else set()
    named = f"{chosen}.path" if "path" in inside else _first(_NAMES, schema.names)
    return pictures, named, _first(_CLASSES, schema.names)


def _first(wanted: Sequence[str], names: Sequence[str]) -> str | None:
    return next((name for name in wanted if name in names), None)


def _name(row: int, name: Any, of_class: Any) -> str:
    found, folder = _plain(name), _plain(of_class)
    number = f"{row:08}" + (f"-{PurePath(str(found)).name}" if found is not None else "")
    return number if folder is None else f"{folder}/{number}"


def _plain(value: Any) -> Any:
    return value.as_py() if hasattr(value, "as_py") else value
