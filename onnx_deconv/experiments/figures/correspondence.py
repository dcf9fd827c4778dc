"""The figure of a correspondence analysis."""

from collections.abc import Sequence

import numpy as np

from onnx_deconv.experiments.correspondence import RANDOM, Correspondence
from onnx_deconv.imaging import BLACK, Canvas, Photo, Picture, at_height, montage
from onnx_deconv.imaging.charts import bar_chart
from onnx_deconv.model import Array

_HEIGHT = 200
_RANDOMS = 2


def draw_correspondence(found: Correspondence, photos: Sequence[Photo], names: Sequence[str]) -> Picture:
    """Draw what Zeiler & Fergus' figure 8 shows, and their table 1 as bars.

    Each row is a photograph as the model sees it, with each part hidden, and with random boxes hidden.
    The bars are the mean share of signs that differ between two photographs' changes, with their
    standard deviation.

    Parameters
    ----------
    found
        What was measured.
    photos, names
        One for each image.

    Returns
    -------
    numpy.ndarray
        H×W×3, uint8.
    """
    columns: list[tuple[str, Array | None]] = [("", None)]
    columns += [(part, found.boxes[part]) for part in found.parts if part != RANDOM]
    columns += [(RANDOM, boxes) for boxes in found.boxes[RANDOM][:_RANDOMS]]
    cells = [
        (_hidden(photo, None if boxes is None else boxes[k]), name or names[k])
        for k, photo in enumerate(photos)
        for name, boxes in columns
    ]
    sheet = montage([cell for cell, _ in cells], len(columns), [caption for _, caption in cells])
    chart = _bars(found)
    width = max(sheet.shape[1], chart.shape[1])
    both = [np.pad(p, ((0, 8), (0, width - p.shape[1]), (0, 0)), constant_values=255) for p in (sheet, chart)]
    return np.concatenate(both)


def _hidden(photo: Photo, box: Array | None) -> Picture:
    view, times = photo.enlarged_view()
    canvas = Canvas(view)
    if box is not None:
        canvas.box([times * int(edge) for edge in box], BLACK, 2, fill=(128, 128, 128))
    return at_height(canvas.picture(), _HEIGHT)


def _bars(found: Correspondence) -> Picture:
    means, spreads = (
        np.array([[measure(layer, part) for part in found.parts] for layer in found.layers])
        for measure in (found.mean, found.std)
    )
    title = "share of signs that differ (lower: more alike)"
    return bar_chart(found.layers, found.parts, means, spreads, title=title)
