"""The figure of feature evolution."""

import numpy as np

from onnx_deconv.experiments.evolution import Evolution
from onnx_deconv.imaging import Preprocess, SheetLayout, at_height, channels_first, laid_out, projection
from onnx_deconv.imaging.axes import number
from onnx_deconv.model import Array

_HEIGHT = 160
_LEAST = 8
"""Pixels, along each axis, that a projection is cut to at least."""


def draw_evolution(found: Evolution, preprocess: Preprocess) -> SheetLayout:
    """Draw Zeiler & Fergus' figure 4: a row per feature map, a column per checkpoint.

    Each picture is the projection of the map's strongest activation, cut to one size around the pixels
    that it reached; its caption gives the checkpoint, the map, the activation and the method.

    Parameters
    ----------
    found
        What was measured.
    preprocess
        How photographs became the model's input.
    """
    stages, maps = found.activations.shape
    places = [(t, k) for k in range(maps) for t in range(stages)]
    values = [channels_first(found.projections[place], preprocess.layout) for place in places]
    size = np.maximum(np.max([_extent(each) for each in values], axis=0), _LEAST)
    pictures = [projection(_cut(each, size), channels=preprocess.channels) for each in values]
    captions = [
        f"{found.checkpoints[t]}: map {found.channels[k]}, {number(float(found.activations[t, k]))}, "
        f"{found.method}"
        for t, k in places
    ]
    return laid_out([at_height(picture, _HEIGHT) for picture in pictures], stages, captions, lines=2)


def _bounds(values: Array) -> tuple[Array, Array]:
    """Return the first and the last (row, column) that is not zero; (0, 0) for a picture of zeros."""
    places = np.argwhere(values.any(axis=0))
    return (places.min(axis=0), places.max(axis=0)) if len(places) else (np.zeros(2, int), np.zeros(2, int))


def _extent(values: Array) -> Array:
    first, last = _bounds(values)
    return last - first + 1


def _cut(values: Array, size: Array) -> Array:
    """Cut the given size out of a reconstruction, around what is not zero, within its borders."""
    first, last = _bounds(values)
    whole = np.array(values.shape[1:])
    top, left = np.clip((first + last + 1 - size) // 2, 0, np.maximum(whole - size, 0))
    return values[:, top : top + size[0], left : left + size[1]]
