"""The figure of a correspondence analysis."""

from collections.abc import Sequence

import numpy as np

from onnx_deconv.experiments.correspondence import RANDOM, Correspondence
from onnx_deconv.experiments.figures.common import hide_box
from onnx_deconv.imaging import Photo, Picture, SheetLayout, at_height, beside, laid_out
from onnx_deconv.imaging.charts import bar_chart
from onnx_deconv.model import Array

_HEIGHT = 200
_RANDOM_SHOWN = 2
"""How many sets of random boxes are shown."""


def draw_correspondence(found: Correspondence, photos: Sequence[Photo], names: Sequence[str]) -> SheetLayout:
    """Draw Zeiler & Fergus' figure 8, and their table 1 as bars.

    Each row is a photograph as the model sees it, with each part hidden, and with random boxes hidden.
    The bars are the mean fraction of signs that differ between two photographs' changes, with their
    standard deviation.

    Parameters
    ----------
    found
        What was measured.
    photos, names
        One for each image.
    """
    columns: list[tuple[str, Array | None]] = [("", None)]
    columns += [(part, found.boxes[part]) for part in found.parts if part != RANDOM]
    columns += [(RANDOM, boxes) for boxes in found.boxes[RANDOM][:_RANDOM_SHOWN]]
    cells = [
        (_view(photo, None if boxes is None else boxes[k]), name or names[k])
        for k, photo in enumerate(photos)
        for name, boxes in columns
    ]
    sheet = laid_out([cell for cell, _ in cells], len(columns), [caption for _, caption in cells])
    return beside([sheet, _bars(found)], axis=0)


def _view(photo: Photo, box: Array | None) -> Picture:
    view, factor = photo.enlarged_view()
    return at_height(view if box is None else hide_box(view, factor * box), _HEIGHT)


def _bars(found: Correspondence) -> SheetLayout:
    means, spreads = (
        np.array([[measure(layer, part) for part in found.parts] for layer in found.layers])
        for measure in (found.mean, found.std)
    )
    title = "fraction of signs that differ (lower: more alike)"
    return bar_chart(found.layers, found.parts, means, spreads, title=title)
