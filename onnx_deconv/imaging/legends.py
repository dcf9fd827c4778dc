"""What colours stand for: maps of numbers in colour, colour bars, legends."""

from collections.abc import Mapping

import numpy as np

from onnx_deconv.imaging.axes import number
from onnx_deconv.imaging.canvas import Canvas, Colour, text_length, text_size
from onnx_deconv.imaging.colour import heat_map
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


def with_colour_bar(picture: Picture, low: float, high: float) -> Picture:
    """Add a colour bar at the right of a picture made by :func:`coloured`: its lowest and highest value."""
    height = picture.shape[0]
    text = text_size(height)
    labels = [number(high), number(low)]
    width = 2 * text + round(max(text_length(label, text) for label in labels)) + 4
    side = np.full((height, width, 3), 255, np.uint8)
    side[:, text // 2 : text + text // 2] = heat_map(np.linspace(1, 0, height)[:, None])
    canvas = Canvas(side)
    canvas.text((2 * text, 0), labels[0], text, "la")
    canvas.text((2 * text, height - 1), labels[1], text, "ld")
    return np.concatenate([picture, canvas.picture()], axis=1)


def with_legend(picture: Picture, entries: Mapping[str, Colour]) -> Picture:
    """Add a legend at the right of a picture: a square of each colour and what it stands for."""
    height = picture.shape[0]
    text = text_size(height)
    longest = max((text_length(name, text) for name in entries), default=0)
    canvas = Canvas(np.full((height, round(longest) + 3 * text, 3), 255, np.uint8))
    for row, (name, colour) in enumerate(entries.items()):
        top = row * 1.6 * text
        canvas.box((top, text / 2, top + text, 1.5 * text), colour, fill=colour)
        canvas.text((2 * text, top + text / 2), name, text, "lm")
    return np.concatenate([picture, canvas.picture()], axis=1)
