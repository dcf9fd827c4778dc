"""Units that the pointer passes over: one forward pass for a photograph and a layer, then backward passes."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from onnx_deconv.attribution.explainer import Explainer
from onnx_deconv.attribution.forward_pass import Pass
from onnx_deconv.attribution.seed import Aim
from onnx_deconv.errors import InputError
from onnx_deconv.imaging import Photo, Picture, Preprocess, channels_first, heat_map, projection
from onnx_deconv.model import Array
from onnx_deconv.receptive import ReceptiveField, receptive_field


@dataclass(frozen=True)
class Glance:
    """A unit of a photograph, and what excited it.

    Attributes
    ----------
    activation
        Its own.
    reconstruction
        Shaped as the model takes one image.
    projection
        The picture of it.
    field
        Its receptive field, (y0, x0, y1, x1) in pixels of the model's input.
    """

    activation: float
    reconstruction: Array
    projection: Picture
    field: tuple[int, ...]


class Glances:
    """A photograph that has run forward to a layer, to look at any of its units.

    Parameters
    ----------
    explainer
        Of the model.
    photo
        As the model sees it.
    layer
        A value's or a node's name.
    preprocess
        How the photograph became the model's input.
    """

    def __init__(self, explainer: Explainer, photo: Photo, layer: str, preprocess: Preprocess) -> None:
        self._preprocess = preprocess
        batch = photo.tensor[None].repeat(explainer.model.batch or 1, axis=0)
        self._run: Pass = explainer.forward(batch, layer)
        self._field: ReceptiveField = receptive_field(
            explainer.model, self._run.layer, size=photo.geometry.size, layout=preprocess.layout
        )

    def map(self, channel: int) -> Picture:
        """Draw a feature map, one pixel for each position, as bright as it is in the layer.

        Raises
        ------
        InputError
            If there is no such channel, or the layer has no maps.
        """
        values = self._run.explained[0]
        if not 0 <= channel < len(values) or values.ndim != len("CHW"):
            raise InputError(f"{self._run.layer!r} has no feature map {channel}")
        return bright(values[channel], float(values.max()))

    def at(self, channel: int, position: Sequence[int]) -> Glance:
        """Send one unit back.

        Raises
        ------
        InputError
            If there is no such unit, or what comes back is not finite.
        """
        place = tuple(position)
        aim = Aim(((channel, 1.0),), place)
        found = next(iter(self._run.back([aim] * len(self._run.explained), "auto")[0].values()))[0]
        picture = projection(
            channels_first(found, self._preprocess.layout), channels=self._preprocess.channels
        )
        activation = float(self._run.explained[(0, channel, *place)])
        return Glance(activation, found, picture, tuple(self._field.box(place)))


def bright(feature_map: Array, largest: float) -> Picture:
    """Draw a feature map: what is not positive is black, the largest activation is brightest."""
    shown = np.clip(feature_map / largest, 0, 1) if largest > 0 else np.zeros_like(feature_map)
    return heat_map(shown.astype(np.float32))
