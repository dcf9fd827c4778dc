"""Where parts of objects are in photographs: read from a table."""

import csv
from collections.abc import Mapping
from os import PathLike
from pathlib import Path

from onnx_deconv.errors import InputError

OBJECT = "object"
"""The name in a table for the whole object, which bounds the random boxes."""

Box = tuple[float, float, float, float]
"""(top, left, bottom, right) in pixels."""

_COLUMNS = ("image", "part", "x0", "y0", "x1", "y1")


def read_parts(path: str | PathLike[str]) -> dict[str, dict[str, Box]]:
    """Read where parts are in photographs, in pixels of the photographs.

    Parameters
    ----------
    path
        A CSV file with a header and the columns image, part, x0, y0, x1, y1. The part ``object`` is the
        whole object: it is not hidden but bounds the random boxes.

    Returns
    -------
    dict
        By part and image: the box.

    Raises
    ------
    InputError
        If the file cannot be read, a column is missing, an edge is not a number, or a part is given twice.
    """
    found: dict[str, dict[str, Box]] = {}
    try:
        with Path(path).open(encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file)
            missing = [name for name in _COLUMNS if name not in (rows.fieldnames or ())]
            if missing:
                raise InputError(
                    f"{path}: there is no column {', '.join(missing)}; write {','.join(_COLUMNS)}"
                )
            for row in rows:
                part, image = (row["part"] or "").strip(), (row["image"] or "").strip()
                boxes = found.setdefault(part, {})
                if image in boxes:
                    raise InputError(f"{path}, line {rows.line_num}: {part} of {image} is given twice")
                boxes[image] = _box(path, rows.line_num, row)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        why = getattr(error, "strerror", None) or error
        raise InputError(f"{path}: no boxes can be read there ({why})") from error
    return found


def _box(path: str | PathLike[str], number: int, row: Mapping[str, str]) -> Box:
    try:
        top, left, bottom, right = (float(row[name]) for name in ("y0", "x0", "y1", "x1"))
    except (TypeError, ValueError):
        raise InputError(f"{path}, line {number}: x0, y0, x1 and y1 have to be numbers") from None
    return top, left, bottom, right
