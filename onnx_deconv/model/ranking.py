"""By what the units of a layer are ranked: their values before an upper bound, which many of them reach.

A ReLU6 leaves many images with a 6 in the same feature map. What it limits has the same order and tells them
apart.
"""

from dataclasses import dataclass

import numpy as np

from onnx_deconv.model.model import Array, Model
from onnx_deconv.model.tail_steps import given_of
from onnx_deconv.operators import traits_of
from onnx_deconv.operators.node import ForwardNode
from onnx_deconv.operators.rectify import before_upper_bound
from onnx_deconv.operators.traits import DEQUANTISER, QUANTISER, SQUASHING, VIEW


@dataclass(frozen=True)
class Ranking:
    """By what the units of a layer are ranked.

    Attributes
    ----------
    layer
        The layer.
    value
        The value before the upper bound of the activation; where there is none, the layer's own.
    least
        The activation's lower bound; -inf where there is none.
    """

    layer: str
    value: str
    least: float = -np.inf

    @property
    def before_bound(self) -> bool:
        """Whether units are ranked by another value than the layer's own."""
        return self.value != self.layer

    def of(self, values: Array) -> Array:
        """Return the strengths of units, or of the maxima of maps: values no smaller than the lower bound."""
        strengths: Array = np.maximum(values, values.dtype.type(self.least))
        return strengths


def ranking(model: Model, layer: str) -> Ranking:
    """Return by what the units of a layer are ranked."""
    node = model.producers.get(layer)
    limited = None if node is None else before_upper_bound(ForwardNode(node, model))
    if limited is None or limited[0] not in model.producers:  # there is nothing before the model's input
        return Ranking(layer, layer)
    return Ranking(layer, *limited)


def before_limit(model: Model, layer: str) -> str | None:
    """Name the value of which a ReLU6, a Sigmoid or a quantiser makes a layer: it tells more apart."""
    value, before = layer, None
    while (node := model.producers.get(value)) is not None and len(given := given_of(model, node)) == 1:
        if (ranked := ranking(model, value)).before_bound:
            return ranked.value
        traits, (value,) = traits_of(node), given
        if SQUASHING in traits or (QUANTISER in traits and DEQUANTISER not in traits):
            before = value
        if not traits & {VIEW, QUANTISER}:
            break
    return before if before in model.producers else None
