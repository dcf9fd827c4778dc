"""Boxes that people drew in photographs: read from a table."""

import csv
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from onnx_deconv.errors import InputError
from onnx_deconv.imaging.picture import PathLike

Box = tuple[float, float, float, float]
"""(top, left, bottom, right) in pixels."""


class BoxRow(NamedTuple):
    """A line of a table: the box of something in a photograph.

    Attributes
    ----------
    number
        Of the line, from 1.
    image
        The photograph's file name.
    what
        What the box surrounds.
    box
        In pixels of the photograph.
    """

    number: int
    image: str
    what: str
    box: Box


def read_boxes(path: PathLike, what: str) -> Iterator[BoxRow]:
    """Read boxes in photographs.

    Parameters
    ----------
    path
        A CSV file with a header and at least the columns image, x0, y0, x1, y1 and the one named `what`.
    what
        The column that says what a box surrounds.

    Yields
    ------
    BoxRow
        Line by line.

    Raises
    ------
    InputError
        If the file cannot be read, a column is missing, or an edge is not a number.
    """
    columns = ("image", what, "x0", "y0", "x1", "y1")
    try:
        with Path(path).open(encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file)
            missing = [name for name in columns if name not in (rows.fieldnames or ())]
            if missing:
                raise InputError(
                    f"{path}: there is no column {', '.join(missing)}; write {','.join(columns)}"
                )
            for row in rows:
                image, name = ((row[column] or "").strip() for column in ("image", what))
                yield BoxRow(rows.line_num, image, name, _box(path, rows.line_num, row))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        why = getattr(error, "strerror", None) or error
        raise InputError(f"{path}: no boxes can be read there ({why})") from error


def _box(path: PathLike, number: int, row: Mapping[str, str]) -> Box:
    try:
        top, left, bottom, right = (float(row[name]) for name in ("y0", "x0", "y1", "x1"))
    except (TypeError, ValueError):
        raise InputError(f"{path}, line {number}: x0, y0, x1 and y1 have to be numbers") from None
    return top, left, bottom, right
