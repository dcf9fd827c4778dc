"""The photographs that a command reads, and the names of the files that it writes."""

import glob
import os
import re
import unicodedata
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from onnx_deconv.errors import InputError
from onnx_deconv.imaging import SUFFIXES

_LONGEST = 60
"""The bytes that one component of a file's name may take; file systems allow 255 for the whole name."""


def find_pictures(arguments: Iterable[str]) -> list[Path]:
    """List photographs, see :func:`find_files`."""
    return find_files(arguments, SUFFIXES)


def find_files(arguments: Iterable[str], suffixes: Collection[str]) -> list[Path]:
    """List files, each once, in the order given.

    Parameters
    ----------
    arguments
        Files, folders (what is directly in them, sorted), and patterns that the shell did not expand.
    suffixes
        By which files in a folder are found.

    Raises
    ------
    InputError
        If there is no picture in a folder, or no file matches a pattern.
    """
    found: dict[str, Path] = {}
    for argument in arguments:
        path = Path(argument)
        if path.is_dir():
            paths = _inside(path, suffixes)
        elif not path.exists() and glob.has_magic(argument):
            matches = sorted(glob.glob(argument, recursive=True))  # noqa: PTH207  (it may be absolute)
            paths = [Path(match) for match in matches if Path(match).is_file()]
            if not paths:
                raise InputError(f"{argument}: no file matches the pattern")
        else:
            paths = [path]
        for each in paths:
            found.setdefault(os.path.realpath(each), each)
    return list(found.values())


def _inside(folder: Path, suffixes: Collection[str]) -> list[Path]:
    try:
        files = sorted(p for p in folder.iterdir() if p.suffix.lower() in suffixes and p.is_file())
    except OSError as error:
        raise InputError(f"{folder}: cannot be listed ({error.strerror or error})") from error
    pictures = [p for p in files if not p.name.startswith(".")]
    if not pictures:
        what = "pictures" if suffixes == SUFFIXES else f"files ({', '.join(sorted(suffixes))})"
        raise InputError(f"{folder}: there are no {what} in this folder")
    return pictures


def safe(text: str) -> str:
    """Make a text safe for a file's name: letters, digits, dots, hyphens and underscores; never empty."""
    text = re.sub(r"[^\w.-]+", "-", unicodedata.normalize("NFC", text))
    text = text.encode("utf-8", "replace")[:_LONGEST].decode("utf-8", "ignore")
    return text.strip("-._") or "unnamed"


def stems(names: Iterable[str]) -> list[str]:
    """Name the results of each photograph: by its stem, and by more where another has the same.

    This is the folder, else the suffix, else a number.
    """
    found: list[str] = []
    for path in map(Path, names):
        stem, folder = safe(path.stem), safe(path.absolute().parent.name)
        candidates = [stem, f"{folder}-{stem}", f"{stem}-{safe(path.suffix[1:])}"]
        found.append(unique(candidates, found))
    return found


def unique(candidates: Sequence[str], taken: Iterable[str]) -> str:
    """Return the first candidate that is not taken, whatever its case; else one with a number."""
    known = {name.casefold() for name in taken}
    number = 2
    for candidate in candidates:
        if candidate.casefold() not in known:
            return candidate
    while f"{candidates[0]}-{number}".casefold() in known:
        number += 1
    return f"{candidates[0]}-{number}"
