"""What colours stand for: maps of numbers in colour, colour bars, legends."""

from collections.abc import Mapping

import numpy as np

from onnx_deconv.imaging.axes import number
from onnx_deconv.imaging.canvas import Colour, text_length, text_size
from onnx_deconv.imaging.colour import heat_map
from onnx_deconv.imaging.layout import Mark, PlacedBox, PlacedPicture, PlacedText, SheetLayout
from onnx_deconv.imaging.picture import Picture
from onnx_deconv.model import Array

COLOURS: tuple[Colour, ...] = (
    (0, 114, 178), (230, 159, 0), (0, 158, 115), (213, 94, 0),
    (86, 180, 233), (204, 121, 167), (240, 228, 66),
)  # fmt: skip
"""The colours of curves and classes, in order: those of Okabe & Ito (2008, "Color Universal Design"), which
people with any kind of colour vision can tell apart, without the black."""
OTHERS: Colour = (127, 127, 127)
"""The grey, for all that has no colour of its own."""


def coloured(values: Array, low: float, high: float) -> Picture:
    """Colour a map of numbers, from dark at `low` to bright at `high`; flat where the two are equal."""
    spread = high - low
    relative = np.clip((values - low) / spread, 0, 1) if spread > 0 else np.zeros(values.shape)
    return heat_map(np.nan_to_num(relative))


def with_colour_bar(cell: Picture | SheetLayout, low: float, high: float) -> SheetLayout:
    """Add a colour bar at the right of a map made by :func:`coloured`: its lowest and highest value."""
    sheet = SheetLayout.of(cell)
    height, right = sheet.size
    text = text_size(height)
    labels = [number(high), number(low)]
    width = 2 * text + round(max(text_length(label, text) for label in labels)) + 4
    bar = heat_map(np.linspace(1, 0, height)[:, None]).repeat(text, axis=1)
    marks: list[Mark] = [
        PlacedPicture(0, right + text // 2, bar),
        PlacedText(0, right + 2 * text, labels[0], text, "la"),
        PlacedText(height - 1, right + 2 * text, labels[1], text, "ld"),
    ]
    return SheetLayout((height, right + width), [*sheet.marks, *marks])


def with_legend(cell: Picture | SheetLayout, entries: Mapping[str, Colour]) -> SheetLayout:
    """Add a legend at the right of a picture: a square of each colour and what it stands for."""
    sheet = SheetLayout.of(cell)
    height, right = sheet.size
    text = text_size(height)
    longest = max((text_length(name, text) for name in entries), default=0)
    marks: list[Mark] = []
    for row, (name, colour) in enumerate(entries.items()):
        top, left = row * 1.6 * text, right + text / 2
        marks.append(PlacedBox(top, left, top + text, left + text, colour, 1, colour))
        marks.append(PlacedText(top + text / 2, right + 2 * text, name, text, "lm"))
    return SheetLayout((height, right + round(longest) + 3 * text), [*sheet.marks, *marks])
