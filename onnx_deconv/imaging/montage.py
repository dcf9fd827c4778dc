"""Several pictures on one sheet, with captions."""

from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate

import numpy as np

from onnx_deconv.errors import InputError
from onnx_deconv.imaging.canvas import Font, font_of, text_size
from onnx_deconv.imaging.layout import PlacedPicture, PlacedText, SheetLayout
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
    pictures: Sequence[Picture],
    columns: int,
    captions: Sequence[str] | None = None,
    gap: int = 8,
    lines: int = 1,
) -> SheetLayout:
    """Lay a :func:`montage` out, without drawing it yet; parameters and errors are the same."""
    _check_montage(pictures, columns, captions, gap)
    columns = min(columns, len(pictures))
    width = max(picture.shape[1] for picture in pictures) + gap
    text = text_size(width - gap)
    below = [_wrapped(caption, font_of(text), width - gap, lines) for caption in captions or ()]
    line_height = round(_LINE_HEIGHT * text)
    caption_height = max(map(len, below), default=0) * line_height
    rows = [pictures[k : k + columns] for k in range(0, len(pictures), columns)]
    heights = [max(picture.shape[0] for picture in row) + caption_height + gap for row in rows]
    tops = [gap, *(gap + edge for edge in accumulate(heights))]
    corners = [
        (tops[row], gap + column * width)
        for row, column in (divmod(index, columns) for index in range(len(pictures)))
    ]
    texts = [
        PlacedText(top + picture.shape[0] + number * line_height, left, line)
        for (top, left), picture, caption in zip(corners, pictures, below, strict=False)
        for number, line in enumerate(caption)
    ]
    placed = [PlacedPicture(*corner, _coloured(p)) for corner, p in zip(corners, pictures, strict=True)]
    return SheetLayout((tops[-1], columns * width + gap), placed, texts, text)


def _coloured(picture: Picture) -> Picture:
    return picture if picture.ndim == len("HWC") else picture[..., None].repeat(3, axis=-1)


def _check_montage(
    pictures: Sequence[Picture], columns: int, captions: Sequence[str] | None, gap: int
) -> None:
    if not pictures:
        raise InputError("a montage needs at least one picture")
    for picture in pictures:
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
