"""Names of the classes."""

import ast
import csv
import difflib
import io
import itertools
import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from onnx_deconv.errors import InputError, way
from onnx_deconv.files import embedded

# Where exporters and model zoos put them.
_METADATA_KEYS = ("labels", "classes", "class_names", "names", "id2label")
_JSON_KEYS = (*_METADATA_KEYS, "label_names", "categories", "pretrained_cfg")
"""The same in JSON: in timm's configurations, torchvision's ``weights.meta`` and COCO's annotations too."""
_CHARACTERS = "character"
"""Where PaddleOCR's readers have theirs, one on each line: the blank goes before them, the space behind."""
_HEADINGS = {"category", "class", "class_name", "class_names", "classes", "label", "labels", "name", "names"}
"""What the column of names is called in tables."""
_FEW = 8
"""Names that are listed where another is not found."""
IMAGENET = "imagenet"
IMAGENET_CLASSES = 1000, 1001
"""What asks for ImageNet's names, and how many classes a model has whose classes they may be."""
_WORDNET = re.compile(r"n\d{8}[\s:,]+(.*\S)")
_NUMBERED = re.compile(r"(\d{1,7})(?:\s*[:,;]\s*|\s+)(.*\S)")
"""A line with the number of the class, as lists for mobile models have it, or of ImageNet's synset."""
_MOST = 1_000_000
"""Classes, at most: an index beyond is no class's."""
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|.)|\x9b[0-?]*[ -/]*[@-~]")
"""What terminals take for commands: colours, moves, titles."""
_UNSEEN = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]+")
"""Control characters, marks that turn the direction of writing, byte order marks."""


_SAID = re.compile(r"(index|label)\s+(.+)", re.DOTALL)
"""What tells an index from a name that is a number."""
_MOST_BYTES, _DIGITS = 1 << 26, 9
"""Bytes that a file of names may take, and digits that the number of a class may have."""


@dataclass(frozen=True)
class Labels:
    """Names of the classes, in class order; possibly none.

    Attributes
    ----------
    names
        One per class.
    """

    names: tuple[str, ...] = ()

    @classmethod
    def of(
        cls, given: Sequence[str] | None, metadata: Mapping[str, str] | None = None, nodes: Sequence[str] = ()
    ) -> Self:
        """Take the given names, else those in a model's metadata, else those that its nodes hold.

        In metadata they may be JSON, a list or a dict as Python writes it (``{0: 'cat', 1: 'dog'}``), or
        lines; or the characters of a reader of text, as PaddleOCR writes them.
        """
        if given is not None:
            return cls(tuple(_clean(str(name)) for name in given))
        stored = metadata or {}
        text = next((stored[key] for key in _METADATA_KEYS if stored.get(key)), "")
        if not text and _CHARACTERS in stored:
            return cls(("blank", *map(_clean, stored[_CHARACTERS].split("\n")), "space"))
        return cls(tuple(_parsed(text)) or tuple(map(_clean, nodes)))

    @classmethod
    def beside(cls, folder: Path) -> Self:
        """Take the names in the ``config.json`` beside a model: ``id2label``, or timm's ``label_names``."""
        for place in (folder, folder.parent):
            try:
                config = json.loads((place / "config.json").read_text(encoding="utf-8"))
            except (OSError, ValueError, RecursionError):
                continue
            if isinstance(config, dict) and {"id2label", "label_names", "pretrained_cfg"} & config.keys():
                return cls(tuple(_held(config) or ()))
        return cls()

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Self:
        """Read names from a file: one per line, JSON, a table (``.csv``), or a data set's ``.yaml``.

        JSON is a list, or an object by index; a data set's description has its ``names``.

        Raises
        ------
        InputError
            If the file cannot be read as text, or holds no names.
        """
        try:
            about = Path(path).stat()
            if not Path(path).is_file() or about.st_size > _MOST_BYTES:  # a pipe would be waited for
                raise InputError(f"{path}: the labels cannot be read: it is no file of names")
            text = _decoded(Path(path).read_bytes())
        except UnicodeDecodeError as error:
            raise InputError(f"{path}: the labels are no text in UTF-8 ({error}): save it as such") from error
        except OSError as error:
            reason = getattr(error, "strerror", None) or error
            raise InputError(f"{path}: the labels cannot be read ({reason}); is the path right?") from error
        read = _BY_SUFFIX.get(Path(path).suffix.lower())
        found = None if read is None else read(text)
        names = tuple(_parsed(text) if found is None else found)
        if not names or (found is None and Path(path).suffix.lower() in _NO_LINES):
            raise InputError(f"{path}: no names of classes can be read: is the file whole, and of its kind?")
        return cls(names)

    @classmethod
    def imagenet(cls, classes: int | None) -> Self:
        """Return ImageNet's names, for a model that has its 1000 classes, or 1001: "background" is the first.

        Raises
        ------
        InputError
            If it has another number of classes.
        """
        if classes not in IMAGENET_CLASSES:
            raise InputError(f"labels {IMAGENET!r} are for 1000 or 1001 classes: the model has {classes}")
        names = cls.read(embedded("imagenet-labels.txt")).names
        return cls(names if classes == len(names) else ("background", *names))

    def name(self, index: int) -> str | None:
        """Return a class's name, or ``None``."""
        return self.names[index] if 0 <= index < len(self.names) else None

    def spoken(self, index: int) -> str:
        """Return the first of a class's names, or ``class`` and its number."""
        return (self.name(index) or "").partition(",")[0].strip() or f"class {index}"

    def index(self, label: int | str) -> int:
        """Return the index of a class given by index or by name (any one of a comma-separated name).

        A whole number is an index. A text of digits may be one, or a name where classes are called by
        numbers: ``index 7`` and ``label 7`` say which.

        Raises
        ------
        InputError
            If no class or several have that name, or a number is one class's name and another's index; close
            matches are offered.
        """
        if not isinstance(label, str):
            return int(label)
        found = self._named(label)
        if is_index(label):
            return self._told(label, int(label), found)
        if not found and (said := _SAID.fullmatch(label.strip())) is not None:
            if said[1] == "index" and is_index(said[2]):
                return int(said[2])
            label = said[2] if said[1] == "label" else label
            found = self._named(label)
        return self._only(label, found)

    def _named(self, label: str) -> list[int]:
        """Return the classes that have a name: as it is spelled, else with letters of any case."""
        return self._spelled(label, str) or self._spelled(label, str.lower)

    def _spelled(self, label: str, case: Callable[[str], str]) -> list[int]:
        wanted = case(label.strip())
        spoken = ([case(part.strip()) for part in name.split(",")] for name in self.names)
        named = zip(self.names, spoken, strict=True)
        return [k for k, (name, parts) in enumerate(named) if wanted in parts or wanted == case(name)]

    def _told(self, label: str, index: int, named: Sequence[int]) -> int:
        """Return the class that a number means: its index, unless that is another's name."""
        if named in ([], [index]):
            return index
        if index >= len(self.names) and len(named) == 1:
            return named[0]
        called = f" ({self.names[index]})" if index < len(self.names) else ""
        raise InputError(
            f"{label!r} is the name of class {', '.join(map(str, named))} and the index of another{called}: "
            f"give 'label {label}' or 'index {label}'"
        )

    def _only(self, label: str, found: Sequence[int]) -> int:
        """Return the only class that has a name."""
        wanted = label.strip().lower()
        if len(found) == 1:
            return found[0]
        if found:
            raise InputError(f"{label!r} names several classes: {', '.join(map(str, found))}; give the index")
        if not self.names:
            raise InputError(
                f"class {label!r}: the model carries no labels; give an index, or the names "
                f"({way('--labels FILE', 'labels=')}; imagenet for ImageNet's)"
            )
        spoken = [part.strip().lower() for name in self.names for part in name.split(",")]
        close = difflib.get_close_matches(wanted, spoken, 3)
        few = ", ".join(self.spoken(k) for k in range(min(len(self.names), _FEW)))
        more = ", ..." if len(self.names) > _FEW else ""
        also = f"did you mean {', '.join(close)}?" if close else f"the names are {few}{more}"
        raise InputError(f"no class is named {label!r}: {also}")


def is_index(text: str) -> bool:
    """Tell whether a text may be the index of a class: digits, and not too many."""
    return text.isdecimal() and len(text) <= _DIGITS


def _decoded(content: bytes) -> str:
    """Decode a text by its byte order mark, if it has one; Windows' tools write UTF-16."""
    return content.decode("utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")


def _parsed(text: str) -> list[str]:
    """Read names from JSON, from Python's way of writing a list or a dict, or one from each line."""
    found = _held(_value(text))
    return _of_lines(text) if found is None else found


def _of_lines(text: str) -> list[str]:
    """Read names from lines, behind the numbers that all of them have: WordNet's, or those of the classes."""
    lines = [line for line in map(str.strip, text.splitlines()) if line]
    if len(lines) > 1 and all(line.endswith(",") for line in lines[:-1]):
        lines = [line.removesuffix(",") for line in lines]
    lines = [line for line in map(_clean, lines) if line]
    if lines and all(numbered := [_WORDNET.fullmatch(line) for line in lines]):
        return [_clean(each[1]) for each in numbered if each]
    if len(lines) > 1 and all(numbered := [_NUMBERED.fullmatch(line) for line in lines]):
        pairs = [(int(each[1]), each[2]) for each in numbered if each]
        if pairs[0][0] == 0 and all(a < b for (a, _), (b, _) in itertools.pairwise(pairs)):
            return _by_index(dict(pairs))
    return lines


def _value(text: str) -> Any:
    """Return what a text holds as JSON, or as a literal of Python (never evaluated); ``None`` if neither."""
    readers: tuple[Callable[[str], Any], ...] = (json.loads, ast.literal_eval)
    for read in readers:
        try:
            return read(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
    return None


def _held(value: Any) -> list[str] | None:
    """Return the names that a list or a dict holds; ``None`` where it is no such thing."""
    if isinstance(value, Mapping):
        inner = next((value[key] for key in _JSON_KEYS if isinstance(value.get(key), Mapping | list)), None)
        found = _by_index(value) if inner is None else _held(inner)
        described = value.get("label_descriptions")
        return (
            found if not isinstance(described, Mapping) else [_name(described.get(k, k)) for k in found or ()]
        )
    if not isinstance(value, list | tuple):
        return None
    if value and all(isinstance(each, Mapping) and {"id", "name"} <= each.keys() for each in value):
        return _by_index({each["id"]: each["name"] for each in value})
    return [_name(each) for each in value]


def _by_index(named: Mapping[Any, Any]) -> list[str]:
    """Return names by index, from {index: name} or {name: index}; an index that is left out has no name."""
    pairs = [(_index(key), value) for key, value in named.items()]
    if any(index is None for index, _ in pairs):
        pairs = [(_index(value), key) for key, value in named.items()]
    known = {index: _name(value) for index, value in pairs if index is not None}
    if len(known) < len(named) or not known or max(known) >= _MOST:
        return []
    return [known.get(k, "") for k in range(max(known) + 1)]


def _index(key: Any) -> int | None:
    if isinstance(key, bool) or not (isinstance(key, int) or (isinstance(key, str) and key.isdecimal())):
        return None
    if isinstance(key, str) and len(key) > _DIGITS:
        return None
    return int(key) if int(key) >= 0 else None


def _name(value: Any) -> str:
    """Return a name; of several for one class (a WordNet number and a word) the last."""
    return _name(value[-1]) if isinstance(value, list | tuple) and value else _clean(str(value))


def _tabled(text: str) -> list[str] | None:
    """Read names from a table: beside a column of indices, under a heading, or its only column."""
    tables = sorted((_rows(text, separator) for separator in ",;\t"), key=lambda rows: -len((*rows, ())[0]))
    return next((names for rows in tables if rows and (names := _column(rows)) is not None), None)


def _rows(text: str, separator: str) -> list[list[str]]:
    """Return the rows of a table; none where they differ in length."""
    read = csv.reader(io.StringIO(text), delimiter=separator)
    rows = [[_clean(cell) for cell in row] for row in read if any(row)]
    return rows if len({len(row) for row in rows}) == 1 else []


def _column(rows: Sequence[Sequence[str]]) -> list[str] | None:
    """Return the names in a table; ``None`` where nothing tells which they are."""
    first, *others = rows
    headed = next((k for k, cell in enumerate(first) if cell.lower() in _HEADINGS), None)
    if len(first) == 1:
        return [name for (name,) in (rows if headed is None else others)]
    numbered = next((k for k in range(len(first)) if all(row[k].isdecimal() for row in others)), None)
    if numbered is None or not others:
        return None if headed is None else [row[headed] for row in others]
    body = rows if first[numbered].isdecimal() else others
    names = next(k for k in range(len(first)) if k != numbered) if headed is None else headed
    return _by_index({row[numbered]: row[names] for row in body}) or None


def _of_yaml(text: str) -> list[str] | None:
    """Read the names in the file that describes a data set to Ultralytics; ``None`` where there are none."""
    found = re.search(r"^names:[ \t]*(.*)\n((?:[ \t-].*\n|\s*\n)*)", text + "\n", re.MULTILINE)
    if found is None:
        return None
    if inline := found[1].partition(" #")[0].strip():
        plain = [_clean(name) for name in inline.strip("[]").split(",")]
        return _held(_value(inline)) or plain
    lines = [line.strip() for line in found[2].splitlines() if line.strip()]
    if all(line.startswith("- ") for line in lines):
        return [_clean(line[2:]) for line in lines]
    pairs = (line.partition(":") for line in lines)
    return _by_index({_clean(key): _clean(name) for key, _, name in pairs})


def _clean(text: str) -> str:
    """Remove what is no part of a name: byte order marks, quotes around it, and what steers a terminal."""
    text = _UNSEEN.sub(" ", _ESCAPES.sub("", text)).strip()
    quoted = len(text) > 1 and text[0] == text[-1] and text[0] in "\"'"
    return text[1:-1].strip() if quoted else text


_BY_SUFFIX: Mapping[str, Callable[[str], list[str] | None]] = {
    ".json": lambda text: _held(_value(text)),
    ".csv": _tabled,
    ".tsv": _tabled,
    ".yaml": _of_yaml,
    ".yml": _of_yaml,
}
_NO_LINES = (".json", ".yaml", ".yml")
"""Endings of files in which a line by itself is no name."""
