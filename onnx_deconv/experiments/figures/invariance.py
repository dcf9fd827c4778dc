"""The figure of feature invariance."""

from collections.abc import Mapping, Sequence

import numpy as np

from onnx_deconv.experiments.invariance import TRANSFORMS, Invariance
from onnx_deconv.imaging import Colour, Picture, SheetLayout, at_height, beside, montage
from onnx_deconv.imaging.charts import line_chart
from onnx_deconv.imaging.legends import COLOURS, with_legend
from onnx_deconv.labels import Labels
from onnx_deconv.model import Array

_AXIS_LABELS = {
    "shift": "shift down, in heights",
    "scale": "scale, factor",
    "rotation": "rotation, degrees",
}
_HEIGHT, _WIDTH = 320, 400
_MARGIN = 8
_THUMBNAIL = 80
_EXAMPLES = 5
_FRAME = 3


def draw_invariance(
    found: Mapping[str, Invariance], views: Sequence[Picture], names: Sequence[str], labels: Labels
) -> SheetLayout:
    """Draw Zeiler & Fergus' figure 5: one row per transformation.

    First examples of the photographs transformed, then the distance of each layer's features to those of
    the untransformed photograph, then the class's probability; one colour per photograph.

    Parameters
    ----------
    found
        What was measured, by kind of transformation.
    views
        What the model sees of each photograph.
    names
        The photographs' names.
    labels
        Names of the classes.
    """
    return beside([_row(kind, one, views, names, labels) for kind, one in found.items()], axis=0)


def _row(
    kind: str, found: Invariance, views: Sequence[Picture], names: Sequence[str], labels: Labels
) -> SheetLayout:
    curves = {f"distance at {layer}": values for layer, values in found.distances.items()}
    curves["class probability"] = found.scores
    *charts, last = [_chart(kind, found.amounts, title, values) for title, values in curves.items()]
    classes = [labels.spoken(int(target)) for target in found.targets]
    legend = {
        f"{name}: {label}": _colour(k) for k, (name, label) in enumerate(zip(names, classes, strict=True))
    }
    examples = _examples(kind, found.amounts, views)
    return beside([examples, *charts, with_legend(last, legend)], axis=1, margin=_MARGIN)


def _chart(kind: str, amounts: Array, title: str, values: Array) -> SheetLayout:
    size = _HEIGHT, _WIDTH
    return line_chart(amounts.tolist(), values.tolist(), title=title, x_label=_AXIS_LABELS[kind], size=size)


def _colour(index: int) -> Colour:
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


def _framed(picture: Picture, colour: Colour) -> Picture:
    height, width = picture.shape[:2]
    framed = np.empty((height + 2 * _FRAME, width + 2 * _FRAME, 3), np.uint8)
    framed[:] = colour
    framed[_FRAME:-_FRAME, _FRAME:-_FRAME] = picture
    return framed
