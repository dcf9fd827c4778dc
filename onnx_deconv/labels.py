"""Names of the classes."""

import difflib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from onnx_deconv.errors import InputError

# Where exporters and model zoos put them.
_MOST_BYTES, _DIGITS = 1 << 26, 10
_METADATA_KEYS = ("labels", "classes", "class_names", "names", "id2label")


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
    def of(cls, given: Sequence[str] | None, metadata: Mapping[str, str]) -> Self:
        """Take the given names, else those in a model's metadata (a JSON list or object, or lines)."""
        if given is not None:
            return cls(tuple(given))
        text = next((metadata[key] for key in _METADATA_KEYS if metadata.get(key)), "")
        return cls(tuple(_parsed(text)))

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Self:
        """Read names from a file: one per line, or JSON (a list, or an object by index).

        Raises
        ------
        InputError
            If the file cannot be read as text.
        """
        try:
            if Path(path).stat().st_size > _MOST_BYTES or (Path(path).exists() and not Path(path).is_file()):
                raise InputError(f"{path}: is no file of labels")
            text = Path(path).read_text(encoding="utf-8-sig")
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise InputError(f"{path}: the labels cannot be read ({reason}); is the path right?") from error
        return cls(tuple(_parsed(text)))

    def name(self, index: int) -> str | None:
        """Return a class's name, or ``None``."""
        return self.names[index] if 0 <= index < len(self.names) else None

    def spoken(self, index: int) -> str:
        """Return the first of a class's names, or ``class`` and its number."""
        return (self.name(index) or "").partition(",")[0].strip() or f"class {index}"

    def index(self, label: int | str) -> int:
        """Return the index of a class given by index or by name (any one of a comma-separated name).

        Raises
        ------
        InputError
            If no class or several have that name; close matches are offered.
        """
        if isinstance(label, int) or (label.isdecimal() and len(label) < _DIGITS):
            return int(label)
        wanted = label.strip().lower()
        spoken = {k: [part.strip().lower() for part in name.split(",")] for k, name in enumerate(self.names)}
        found = [k for k, parts in spoken.items() if wanted in parts or wanted == self.names[k].lower()]
        if len(found) == 1:
            return found[0]
        if found:
            raise InputError(f"{label!r} names several classes: {', '.join(map(str, found))}; give the index")
        if not self.names:
            raise InputError(f"class {label!r}: the model carries no labels; give an index, or --labels FILE")
        close = difflib.get_close_matches(wanted, [p for parts in spoken.values() for p in parts], 3)
        raise InputError(
            f"no class is named {label!r}" + (f": did you mean {', '.join(close)}?" if close else "")
        )


def _parsed(text: str) -> list[str]:
    try:
        parsed = json.loads(text)
    except (ValueError, RecursionError):
        return [line.strip() for line in text.splitlines() if line.strip()]
    if isinstance(parsed, dict):
        return (
            [str(parsed[key]) for key in sorted(parsed, key=int)]
            if all(k.isdecimal() and len(k) < _DIGITS for k in parsed)
            else []
        )
    return [str(name) for name in parsed] if isinstance(parsed, list) else []
