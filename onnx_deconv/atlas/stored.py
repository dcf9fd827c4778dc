"""Files of pictures, on this machine or in a bucket (``s3://…``, ``gs://…``), which pyarrow reads."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, cast
from urllib.parse import quote, urlsplit

from onnx_deconv.errors import InputError

NEEDS_PYARROW = "is read by pyarrow: pip install 'onnx-deconv[arrow]'"

_SCHEME = "://"
_OF_URIS = ":/?#[]@!$&'()*+,;=%"
"""What stands for itself in a URI beside letters, digits and ``-._~``; people leave the rest as it is."""


@dataclass(frozen=True)
class Stored:
    """A file or folder.

    Attributes
    ----------
    path
        Where it is, in its filesystem.
    called
        What messages call it.
    system
        The filesystem, as pyarrow has it; ``None`` for files of this machine.
    """

    path: str
    called: str
    system: Any = None

    @classmethod
    def of(cls, source: str | os.PathLike[str]) -> "Stored":
        """Find a file or folder by its path or its URI.

        Raises
        ------
        InputError
            If nothing can be asked there.
        """
        text = os.fspath(source)
        if not is_uri(text):
            return cls(text, text)
        try:
            from pyarrow import fs  # noqa: PLC0415 - an extra
        except ImportError as error:
            raise InputError(f"{address(text)}: {NEEDS_PYARROW}") from error
        try:
            system, path = fs.FileSystem.from_uri(quote(text, safe=_OF_URIS))
        except Exception as error:  # each filesystem raises what its library likes
            raise InputError(f"{address(text)}: cannot be reached ({_first_line(error)})") from error
        return cls(path, address(text), system)

    @property
    def is_here(self) -> bool:
        """Whether it is a file of this machine, of which any part is read as fast as any other."""
        return self.system is None

    @property
    def name(self) -> str:
        """The last part of its path."""
        return PurePosixPath(self.path).name if self.system is not None else Path(self.path).name

    @property
    def suffix(self) -> str:
        """The end of its name, in lower case, with the dot."""
        return Path(self.name).suffix.lower()

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder.

        Raises
        ------
        InputError
            If there is no such thing, or it cannot be asked.
        """
        if self.system is None:
            return Path(self.path).is_dir()
        from pyarrow import fs  # noqa: PLC0415

        kind = self._asked(lambda: self.system.get_file_info(self.path).type)
        if kind == fs.FileType.NotFound:
            raise InputError(f"{self.called}: no such file or folder of images")
        return bool(kind == fs.FileType.Directory)

    def inside(self) -> Iterator[str]:
        """Yield the files in a folder and its folders, by their paths in it, in no order; none is hidden."""
        found = _walk(self.path) if self.system is None else self._listed()
        return (path for path in found if not PurePosixPath(path).name.startswith("."))

    def _listed(self) -> list[str]:
        from pyarrow import fs  # noqa: PLC0415

        found = self._asked(lambda: self.system.get_file_info(fs.FileSelector(self.path, recursive=True)))
        files = (info.path for info in found if info.type == fs.FileType.File)
        return [str(PurePosixPath(path).relative_to(self.path)) for path in files]

    def file(self, inner: str) -> "Stored":
        """Return a file of a folder, by its path in it."""
        if self.system is None:
            path = os.path.join(self.path, inner)  # noqa: PTH118  (of a million names)
            return replace(self, path=path, called=path)
        path, called = (f"{text.rstrip('/')}/{inner}" for text in (self.path, self.called))
        return replace(self, path=path, called=called)

    def open(self) -> BinaryIO:
        """Open a file, to be read anywhere.

        Raises
        ------
        InputError
            If it cannot be opened.
        """
        if self.system is not None:
            return cast("BinaryIO", self._asked(lambda: self.system.open_input_file(self.path)))
        try:
            return Path(self.path).open("rb")
        except OSError as error:
            raise InputError(f"{self.called}: cannot be read ({error.strerror or error})") from error

    def source(self) -> str | BinaryIO:
        """Return what those take that close a file themselves: its path, or an open file of a bucket."""
        return self.path if self.system is None else self.open()

    def _asked(self, ask: Any) -> Any:
        try:
            return ask()
        except Exception as error:  # as above
            raise InputError(f"{self.called}: cannot be read ({_first_line(error)})") from error


def is_uri(text: str) -> bool:
    """Tell whether a text names a file by its URI."""
    return _SCHEME in text


def address(uri: str) -> str:
    """Return a URI without the passwords and options that may be in it, to be shown and recorded."""
    parts = urlsplit(uri)
    return f"{parts.scheme}{_SCHEME}{parts.netloc.rpartition('@')[2]}{parts.path}"


def _walk(folder: str) -> Iterator[str]:
    for home, _, files in os.walk(folder):
        for file in files:
            yield os.path.relpath(os.path.join(home, file), folder)  # noqa: PTH118


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
