"""How much a saliency map says: whether it is blank, and on how few pixels it lies."""

import numpy as np

from onnx_deconv.model import Array


def is_blank(saliency: Array) -> bool:
    """Tell whether a map shows nothing: no pixel is above zero."""
    return not (saliency > 0).any()


def gini(saliency: Array) -> float | None:
    """Measure how unevenly a map is spread, by its Gini index (Chalasani et al. 2020).

    Chalasani et al., "Concise Explanations of Neural Networks using Adversarial Training", with the values in
    ascending order v₁ … v_d: 1 - 2 Σ v_k/‖v‖₁ · (d - k + ½)/d.

    Parameters
    ----------
    saliency
        A map of numbers that are not negative.

    Returns
    -------
    float or None
        0 where all pixels are equal, 1 - 1/d where all lies on one of d pixels; ``None`` for a blank map.
    """
    values = np.sort(saliency.astype(np.float64), axis=None)
    total, count = values.sum(), values.size
    if not total > 0:
        return None
    weights = (count - np.arange(1, count + 1) + 0.5) / count
    return float(1 - 2 * (values / total) @ weights)
