"""The figure of an occlusion."""

import numpy as np

from onnx_deconv.attribution.photographs import PERCENTILE, Photo, closer_view, planes
from onnx_deconv.experiments.occlusion import Occlusion
from onnx_deconv.imaging import BLACK, Canvas, Picture, Preprocess, at_height, map_at, montage, render
from onnx_deconv.imaging.charts import COLOURS, OTHERS, coloured, number, with_colour_bar, with_legend
from onnx_deconv.labels import Labels
from onnx_deconv.model import Array

_LEGEND = 18


def draw_occlusion(
    occlusion: Occlusion, photo: Photo, reconstruction: Array, preprocess: Preprocess, labels: Labels
) -> Picture:
    """Draw what Zeiler & Fergus' figure 7 shows.

    The photograph with the square where it hurts the class most; the class's probability (or score) by
    the square's place; how much it falls, over the photograph; the projection of the strongest feature
    map; that map's total activation, and the most probable class, by the square's place.

    Parameters
    ----------
    occlusion
        What was measured.
    photo
        The photograph.
    reconstruction
        Of the strongest feature map, as the model takes images.
    preprocess
        How the photograph became the model's input.
    labels
        Names of the classes.

    Returns
    -------
    numpy.ndarray
        H×W×3, uint8.
    """
    view, times = closer_view(photo)
    before, shown = occlusion.shown
    projected = render.projection(
        planes(reconstruction, preprocess.layout), percentile=PERCENTILE, channels=preprocess.channels
    )
    followed, feature_map = labels.spoken(occlusion.target), f"{occlusion.layer} map {occlusion.channel}"
    what = "score" if occlusion.probability is None else "probability"
    cells = {
        f"{followed}: {what} {number(before)}, {number(shown.min())} with the square here": _hidden(
            view, occlusion, times
        ),
        f"{what} of {followed} by the square's place": _map(occlusion, shown, view, before),
        f"where hiding lowers the {what}": _fall(occlusion, before - shown, view),
        f"{feature_map}: its projection": at_height(projected, view.shape[0]),
        f"{feature_map}: total activation": _map(
            occlusion, occlusion.activations, view, occlusion.activation
        ),
        "most probable class by the square's place": _classes(occlusion, view, labels),
    }
    return montage(list(cells.values()), 3, list(cells), lines=2)


def _hidden(view: Picture, occlusion: Occlusion, times: int) -> Picture:
    """Draw the square where the class suffers most."""
    worst = np.unravel_index(occlusion.shown[1].argmin(), occlusion.classes.shape)
    canvas = Canvas(view)
    canvas.box([times * int(edge) for edge in occlusion.boxes[worst]], BLACK, 2, fill=(128, 128, 128))
    return canvas.picture()


def _map(occlusion: Occlusion, values: Array, view: Picture, before: float) -> Picture:
    low, high = min(float(values.min()), before), max(float(values.max()), before)
    return with_colour_bar(_laid_out(occlusion, coloured(values, low, high), view), low, high)


def _laid_out(occlusion: Occlusion, cells: Picture, view: Picture) -> Picture:
    """Give each place of the square the piece of the photograph that it was centred on."""
    height, width = occlusion.boxes[-1, -1, 2:]
    pieces = cells.repeat(occlusion.stride, 0).repeat(occlusion.stride, 1)[:height, :width]
    return at_height(np.ascontiguousarray(pieces), view.shape[0])


def _fall(occlusion: Occlusion, fall: Array, view: Picture) -> Picture:
    """Lay over the photograph by how much the square lowers the score, as a share of the largest fall."""
    rows, columns = (side * occlusion.stride for side in fall.shape)
    height, width = occlusion.boxes[-1, -1, 2:]
    relative = np.clip(fall, 0, None) / max(float(fall.max()), np.finfo(np.float32).tiny)
    on_input = map_at(relative, (rows, columns))[:height, :width]
    return render.overlay(view, map_at(on_input, (view.shape[0], view.shape[1])))


def _classes(occlusion: Occlusion, view: Picture, labels: Labels) -> Picture:
    """Colour the most probable class; the rarest, where there are many, share the grey."""
    units, counts = np.unique(occlusion.classes, return_counts=True)
    common = [int(unit) for unit in units[np.argsort(-counts, kind="stable")]][: len(COLOURS)]
    colours = dict(zip(common, COLOURS, strict=False))
    cells = np.array(
        [[colours.get(int(unit), OTHERS) for unit in row] for row in occlusion.classes], np.uint8
    )
    legend = {labels.spoken(unit)[:_LEGEND]: colour for unit, colour in colours.items()}
    others = {f"{len(units) - len(common)} others": OTHERS} if len(units) > len(common) else {}
    return with_legend(_laid_out(occlusion, cells, view), legend | others)
