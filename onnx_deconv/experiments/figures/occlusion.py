"""The figure of an occlusion."""

import numpy as np

from onnx_deconv.experiments.figures.common import hide_box
from onnx_deconv.experiments.occlusion import Occlusion
from onnx_deconv.imaging import (
    Photo,
    Picture,
    Preprocess,
    SheetLayout,
    at_height,
    channels_first,
    laid_out,
    map_resized,
    overlay,
    projection,
)
from onnx_deconv.imaging.axes import number
from onnx_deconv.imaging.legends import COLOURS, OTHERS, coloured, with_colour_bar, with_legend
from onnx_deconv.labels import Labels
from onnx_deconv.model import Array

_LEGEND = 18
"""Letters of a class's name in the legend."""


def draw_occlusion(
    occlusion: Occlusion,
    photo: Photo,
    reconstruction: Array,
    method: str,
    preprocess: Preprocess,
    labels: Labels,
) -> SheetLayout:
    """Draw Zeiler & Fergus' figure 7.

    The photograph with the square where it hurts the class most; the class's probability (or score) by
    the square's place; how much it falls, over the photograph; the projection of the strongest feature
    map; that map's total activation, and the strongest class, by the square's place.

    Parameters
    ----------
    occlusion
        What was measured.
    photo
        The photograph.
    reconstruction
        The reconstruction of the strongest feature map, as the model takes images.
    method
        What it was made by.
    preprocess
        How the photograph became the model's input.
    labels
        Names of the classes.
    """
    view, factor = photo.enlarged_view()
    before, after = occlusion.probability_or_score, occlusion.probabilities_or_scores
    projected = projection(channels_first(reconstruction, preprocess.layout), channels=preprocess.channels)
    target, feature_map = labels.spoken(occlusion.target), f"{occlusion.layer} map {occlusion.channel}"
    what = "score" if occlusion.probability is None else "probability"
    totals = occlusion.activations
    cells: dict[str, Picture | SheetLayout] = {
        f"{target}: {what} {number(before)}, {number(after.min())} with the square here": _worst(
            occlusion, view, factor
        ),
        f"{what} of {target} by the square's place": _map(occlusion, after, view, before),
        f"where hiding lowers the {what}": _fall(occlusion, before - after, view),
        f"{feature_map}: its projection by {method}": at_height(projected, view.shape[0]),
        f"{feature_map}: total activation": _map(occlusion, totals, view, occlusion.activation),
        "most probable class by the square's place": _classes(occlusion, view, labels),
    }
    return laid_out(list(cells.values()), 3, list(cells), lines=2)


def _worst(occlusion: Occlusion, view: Picture, factor: int) -> Picture:
    """Draw the square where the class suffers most."""
    after = occlusion.probabilities_or_scores
    worst = np.unravel_index(after.argmin(), after.shape)
    return hide_box(view, factor * occlusion.boxes[worst])


def _map(occlusion: Occlusion, values: Array, view: Picture, before: float) -> SheetLayout:
    low, high = min(float(values.min()), before), max(float(values.max()), before)
    return with_colour_bar(_over_view(occlusion, coloured(values, low, high), view), low, high)


def _over_view(occlusion: Occlusion, cells: Picture, view: Picture) -> Picture:
    """Give each place of the square the piece of the view that it was centred on."""
    height, width = occlusion.boxes[-1, -1, 2:]
    pieces = cells.repeat(occlusion.stride, 0).repeat(occlusion.stride, 1)[:height, :width]
    return at_height(np.ascontiguousarray(pieces), view.shape[0])


def _fall(occlusion: Occlusion, fall: Array, view: Picture) -> Picture:
    """Lay over the view by how much the square lowers the score, relative to the largest fall."""
    rows, columns = (side * occlusion.stride for side in fall.shape)
    height, width = occlusion.boxes[-1, -1, 2:]
    relative = np.clip(fall, 0, None) / max(float(fall.max()), np.finfo(np.float32).tiny)
    on_input = map_resized(relative, (rows, columns))[:height, :width]
    return overlay(view, map_resized(on_input, (view.shape[0], view.shape[1])))


def _classes(occlusion: Occlusion, view: Picture, labels: Labels) -> SheetLayout:
    """Colour each place by its strongest class; where there are many classes, the rarest share one grey."""
    found, counts = np.unique(occlusion.predictions, return_counts=True)
    common = [int(index) for index in found[np.argsort(-counts, kind="stable")]][: len(COLOURS)]
    colours = dict(zip(common, COLOURS, strict=False))
    cells = np.array(
        [[colours.get(int(index), OTHERS) for index in row] for row in occlusion.predictions], np.uint8
    )
    legend = {labels.spoken(index)[:_LEGEND]: colour for index, colour in colours.items()}
    others = {f"{len(found) - len(common)} others": OTHERS} if len(found) > len(common) else {}
    return with_legend(_over_view(occlusion, cells, view), legend | others)
