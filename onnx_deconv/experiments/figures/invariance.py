"""The figure of feature invariance."""

from collections.abc import Mapping, Sequence

import numpy as np

from onnx_deconv.experiments.invariance import TRANSFORMS, Invariance
from onnx_deconv.imaging import Picture, at_height, montage
from onnx_deconv.imaging.charts import COLOURS, line_chart, with_legend
from onnx_deconv.labels import Labels
from onnx_deconv.model import Array

_AXES = {
    "shift": "shift down, in heights",
    "scale": "scale, factor",
    "rotation": "rotation, degrees",
}
_HEIGHT = 320
_THUMBNAIL = 80
_EXAMPLES = 5


def draw_invariance(
    found: Mapping[str, Invariance], views: Sequence[Picture], names: Sequence[str], labels: Labels
) -> Picture:
    """Draw what Zeiler & Fergus' figure 5 shows: one row per transformation.

    First examples of the photographs transformed, then the distance of each layer's features to those of
    the untransformed photograph, then the class's probability; one colour per photograph.

    Parameters
    ----------
    found
        What was measured, by kind of transformation.
    views
        What the model sees of each photograph.
    names
        Of the photographs.
    labels
        Names of the classes.

    Returns
    -------
    numpy.ndarray
        H×W×3, uint8.
    """
    rows = [_row(kind, one, views, names, labels) for kind, one in found.items()]
    width = max(row.shape[1] for row in rows)
    wide = [np.pad(row, ((0, 0), (0, width - row.shape[1]), (0, 0)), constant_values=255) for row in rows]
    return np.concatenate(wide)


def _row(
    kind: str, found: Invariance, views: Sequence[Picture], names: Sequence[str], labels: Labels
) -> Picture:
    x = found.amounts.tolist()

    def chart(title: str, values: Array) -> Picture:
        return line_chart(x, values.tolist(), title=title, x_label=_AXES[kind], size=(_HEIGHT, 400))

    charts = [chart(f"distance at {layer}", values) for layer, values in found.distances.items()]
    charts.append(chart("class probability", found.scores))
    classes = (labels.spoken(int(target)) for target in found.targets)
    legend = {
        f"{name}: {said}": _colour(k) for k, (name, said) in enumerate(zip(names, classes, strict=True))
    }
    cells = [_examples(kind, found.amounts, views), *charts]
    cells[-1] = with_legend(cells[-1], legend)
    tall = max(len(cell) for cell in cells)
    padded = [np.pad(c, ((8, 8 + tall - len(c)), (8, 8), (0, 0)), constant_values=255) for c in cells]
    return np.concatenate(padded, axis=1)


def _colour(index: int) -> tuple[int, int, int]:
    return COLOURS[index % len(COLOURS)]


def _examples(kind: str, amounts: Array, views: Sequence[Picture]) -> Picture:
    """Show each photograph at a few amounts, framed in the colour of its curve."""
    shown = amounts[np.linspace(0, len(amounts) - 1, min(_EXAMPLES, len(amounts))).round().astype(int)]
    side = min(_THUMBNAIL, _HEIGHT // len(views))
    thumbnails = [
        _framed(at_height(TRANSFORMS[kind](view, float(amount)), max(8, side - 8)), _colour(k))
        for k, view in enumerate(views)
        for amount in shown
    ]
    return montage(thumbnails, len(shown), gap=2)


def _framed(picture: Picture, colour: tuple[int, int, int]) -> Picture:
    framed = np.empty((picture.shape[0] + 6, picture.shape[1] + 6, 3), np.uint8)
    framed[:] = colour
    framed[3:-3, 3:-3] = picture
    return framed
