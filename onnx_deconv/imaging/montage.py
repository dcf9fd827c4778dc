"""Several pictures on one sheet, with captions."""

from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate

import numpy as np

from onnx_deconv.errors import InputError
from onnx_deconv.imaging.canvas import Font, font_of, text_size
from onnx_deconv.imaging.layout import PlacedText, SheetLayout
from onnx_deconv.imaging.picture import Picture, check_picture

_LINE_HEIGHT = 1.5


def montage(
    pictures: Sequence[Picture],
    columns: int,
    captions: Sequence[str] | None = None,
    gap: int = 8,
    lines: int = 1,
) -> Picture:
    """Lay pictures out in rows on a white sheet.

    Parameters
    ----------
    pictures
        Each H×W×3 (RGB) or H×W (grey), uint8, of any size. All cells are as wide as the widest
        picture, those of a row as high as its highest, and each picture is at the top left of its cell.
    columns
        How many pictures in a row.
    captions
        Text under each picture; it is cut where it does not fit.
    gap
        White pixels around and between the cells.
    lines
        The most lines of text that a caption may have.

    Returns
    -------
    numpy.ndarray
        H×W×3, uint8, RGB.

    Raises
    ------
    InputError
        If there are no pictures, not one caption for each, or `columns` or `gap` is impossible.
    """
    return laid_out(pictures, columns, captions, gap, lines).picture()


def laid_out(
    pictures: Sequence[Picture | SheetLayout],
    columns: int,
    captions: Sequence[str] | None = None,
    gap: int = 8,
    lines: int = 1,
) -> SheetLayout:
    """Lay a :func:`montage` out, without drawing it yet; a cell may be a sheet that was laid out before."""
    _check_montage(pictures, columns, captions, gap)
    cells = [SheetLayout.of(p if isinstance(p, SheetLayout) else _coloured(p)) for p in pictures]
    columns = min(columns, len(cells))
    width = max(cell.size[1] for cell in cells) + gap
    text = text_size(width - gap)
    below = [_wrapped(caption, font_of(text), width - gap, lines) for caption in captions or ()]
    line_height = round(_LINE_HEIGHT * text)
    caption_height = max(map(len, below), default=0) * line_height
    rows = [cells[k : k + columns] for k in range(0, len(cells), columns)]
    heights = [max(cell.size[0] for cell in row) + caption_height + gap for row in rows]
    tops = [gap, *(gap + edge for edge in accumulate(heights))]
    corners = [
        (tops[row], gap + column * width)
        for row, column in (divmod(index, columns) for index in range(len(cells)))
    ]
    texts = [
        PlacedText(top + cell.size[0] + number * line_height, left, line, text)
        for (top, left), cell, caption in zip(corners, cells, below, strict=False)
        for number, line in enumerate(caption)
    ]
    placed = [mark for corner, cell in zip(corners, cells, strict=True) for mark in cell.moved(*corner)]
    return SheetLayout((tops[-1], columns * width + gap), [*placed, *texts])


def beside(cells: Sequence[Picture | SheetLayout], axis: int, margin: int = 0) -> SheetLayout:
    """Lay pictures and sheets of any sizes out below each other (axis 0) or side by side (axis 1).

    Parameters
    ----------
    cells
        At least one.
    axis
        0 or 1.
    margin
        White pixels around each of them.
    """
    sheets = [SheetLayout.of(cell) for cell in cells]
    starts = [0, *accumulate(sheet.size[axis] + 2 * margin for sheet in sheets)]
    across = max(sheet.size[1 - axis] for sheet in sheets) + 2 * margin
    marks = []
    for start, sheet in zip(starts, sheets, strict=False):
        marks += sheet.moved(*((start + margin, margin) if axis == 0 else (margin, start + margin)))
    return SheetLayout((starts[-1], across) if axis == 0 else (across, starts[-1]), marks)


def _coloured(picture: Picture) -> Picture:
    return picture if picture.ndim == len("HWC") else picture[..., None].repeat(3, axis=-1)


def _check_montage(
    pictures: Sequence[Picture | SheetLayout], columns: int, captions: Sequence[str] | None, gap: int
) -> None:
    if not pictures:
        raise InputError("a montage needs at least one picture")
    for picture in pictures:
        if not isinstance(picture, SheetLayout):
            check_picture(picture, grey=True)
    if columns < 1 or gap < 0:
        raise InputError(f"a montage of {columns} columns, {gap} pixels apart, is impossible")
    if captions and len(captions) != len(pictures):
        raise InputError(f"{len(captions)} captions for {len(pictures)} pictures: give one for each")


_LONGEST = 1000
"""Characters of a caption that are looked at; no picture has room for more."""


def _wrapped(text: str, font: Font, width: int, most: int) -> list[str]:
    """Break a text into lines no wider than `width`; the last of the `most` lines is shortened."""
    lines, words = [""], text[:_LONGEST].split()
    for number, word in enumerate(words):
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and font.getlength(longer) > width:
            if len(lines) == most:
                lines[-1] = " ".join([lines[-1], *words[number:]])
                break
            lines.append(word)
        else:
            lines[-1] = longer
    return [_shortened(line, font, width) for line in lines]


def _shortened(line: str, font: Font, width: int) -> str:
    if font.getlength(line) <= width:
        return line
    fits = bisect_left(range(len(line)), True, key=lambda n: font.getlength(f"{line[: n + 1]}...") > width)
    return f"{line[:fits].rstrip()}..." if fits else ""


def joined(pictures: Sequence[Picture], axis: int, margin: int = 0) -> Picture:
    """Join pictures of any sizes below each other (axis 0) or side by side (axis 1), on white.

    Parameters
    ----------
    pictures
        At least one, each H×W×3, uint8, RGB.
    axis
        0 or 1.
    margin
        White pixels around each picture.

    Returns
    -------
    numpy.ndarray
        H×W×3, uint8, RGB.
    """
    across = max(picture.shape[1 - axis] for picture in pictures)
    padded = []
    for picture in pictures:
        widths = [(margin, margin), (margin, margin), (0, 0)]
        widths[1 - axis] = (margin, margin + across - picture.shape[1 - axis])
        padded.append(np.pad(picture, widths, constant_values=255))
    return np.concatenate(padded, axis=axis)
