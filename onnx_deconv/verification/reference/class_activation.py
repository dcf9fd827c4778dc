"""Class activation maps, as the equations of their papers have them."""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from onnx_deconv.verification.reference.graph import Array

ClassActivation = Literal["grad-cam", "layer-cam", "cam"]


def class_activation_map(kind: ClassActivation, gradient: Array, activations: Array) -> Array:
    """Return the map of one channel for feature maps of shape (N, C, ...).

    Grad-CAM weighs a channel by its mean gradient (Selvaraju et al. 2017, equations 1 and 2), LayerCAM each
    position by its own positive gradient (Jiang et al. 2021, equation 5), CAM by its own gradient (Draelos &
    Carin 2020, equation 5); of the sum over the channels, what is positive.
    """
    weights = gradient
    if kind == "grad-cam":
        weights = gradient.mean(tuple(range(2, gradient.ndim)), keepdims=True)
    elif kind == "layer-cam":
        weights = np.maximum(gradient, 0)
    return np.maximum((weights * activations).sum(1, keepdims=True), 0)


def enlarged(maps: Array, sizes: Sequence[int]) -> Array:
    """Return maps of another size, linear between the centres of their pixels."""
    for axis, size in enumerate(sizes, 2):
        old = maps.shape[axis]
        centres = (np.arange(size) + 0.5) * old / size - 0.5
        maps = np.apply_along_axis(lambda row: np.interp(centres, np.arange(len(row)), row), axis, maps)  # noqa: B023
    return maps
