"""What a model does to an input's numbers before anything else: its own preparation of pixels."""

from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
import onnx_graphsurgeon as gs

from onnx_deconv.model.model import Model
from onnx_deconv.operators import find
from onnx_deconv.operators.traits import POINTWISE, VIEW

PixelRange = Literal["bytes", "unit"]
"""What pixels a model prepares itself: 0 to 255, or 0 to 1."""

_SPANS = (0.5, 12.0)
"""Between these is the range of the numbers that a trained network takes, highest less lowest: 1 for 0..1, 2
for -1..1, 4.5 for those of ImageNet less mean, by standard deviation."""
_BYTE_MEAN = 10.0
"""A mean that is subtracted and larger than this is one of bytes."""


def prepared_pixels(model: Model, name: str) -> PixelRange | None:
    """Tell which pixels an input takes, if the model scales and shifts them itself.

    The first nodes that read the input are tried on the ends of both ranges: a range is the model's if they
    bring it to numbers that networks take.

    Parameters
    ----------
    model
        The model.
    name
        The input.

    Returns
    -------
    str or None
        ``None`` where the model does nothing to the numbers, or nothing that tells.
    """
    ends = np.array([0.0, 1.0, 255.0])
    found: list[Any] = [*ends]
    try:
        for node in _first_nodes(model, name):
            found = [_computed(model, node, x) for x in found]
    except (TypeError, ValueError):
        return None
    black, one, white = (float(np.mean(x)) for x in found)
    if (black, one) == (0.0, 1.0):
        return None
    least, most = _SPANS
    if least <= abs(white - black) <= most or (abs(black) > _BYTE_MEAN and abs(one - black) == 1):
        return "bytes"
    return "unit" if 1 < abs(one - black) <= most and 0 < abs(black) <= most else None


def _first_nodes(model: Model, name: str) -> Iterator[gs.Node]:
    """Yield the nodes that shift and scale an input's numbers, one after the other."""
    value = name
    while True:
        readers = [node for node in model.nodes if any(v.name == value for v in node.inputs)]
        if len(readers) != 1:
            return
        (node,) = readers
        entry = find(node.op, node.domain)
        others = [v.name for v in node.inputs if v.name and v.name != value]
        if not entry.traits & {POINTWISE, VIEW} or any(v not in model.constants for v in others):
            return
        if VIEW not in entry.traits:
            if not entry.can_evaluate:
                return
            yield node
        value = node.outputs[0].name


def _computed(model: Model, node: gs.Node, x: Any) -> Any:
    entry = find(node.op, node.domain)
    given = [model.constant(v.name) if v.name in model.constants else x for v in node.inputs]
    with np.errstate(all="ignore"):
        return np.asarray(entry.evaluate(node.attrs, *given), np.float64)
