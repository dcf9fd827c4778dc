"""Whether a saliency map lies on the object: against boxes or masks of it.

A mask here is a boolean array of the map's shape, true on the object: the pixels of its boxes, or of its
outline where that is known. A blank map points nowhere and counts as a miss.
"""

import numpy as np
import numpy.typing as npt

from onnx_deconv.evaluation.blur import blurred
from onnx_deconv.evaluation.concentration import is_blank
from onnx_deconv.model import Array

Mask = npt.NDArray[np.bool_]

SMOOTHING = 0.02
"""Standard deviation of the Gaussian that evens out single pixels before a map's peak is looked for, as a
fraction of its longer side; as in TorchRay (Fong et al. 2019, "Understanding Deep Networks via Extremal
Perturbations and Smooth Masks")."""
TOLERANCE = 15.0
"""Pixels by which a peak may miss the object, with tolerance (Zhang et al. 2018, section 4.2)."""


def pointing_game(
    saliency: Array, inside: Mask, tolerance: float = 0.0, smoothing: float = SMOOTHING
) -> float:
    """Tell whether a map's peak lies on the object (Zhang et al. 2018, section 4.2).

    Zhang et al., "Top-Down Neural Attention by Excitation Backprop".

    Parameters
    ----------
    saliency
        A map, shape (H, W).
    inside
        The object.
    tolerance
        The distance from the object, in pixels of the map, that still counts as a hit.
    smoothing
        See :data:`SMOOTHING`; 0 takes the map as it is.

    Returns
    -------
    float
        1.0 for a hit, 0.0 for a miss. Where several pixels are equally high, the share of hits among them.
    """
    if is_blank(saliency):
        return 0.0
    smooth = blurred(saliency, smoothing * max(saliency.shape))
    peaks, object_ = np.argwhere(smooth == smooth.max()), np.argwhere(inside)
    distances = [np.hypot(*(object_ - peak).T).min() for peak in peaks]
    return float(np.mean([distance <= tolerance for distance in distances]))


def share_inside(saliency: Array, inside: Mask) -> float:
    """Return the share of a map's sum that lies on the object.

    With boxes it is the energy-based pointing game (Wang et al. 2020, "Score-CAM", section 4.3); with masks
    the relevance mass accuracy (Arras et al. 2022, "CLEVR-XAI").

    Parameters
    ----------
    saliency
        A map, shape (H, W).
    inside
        The object.

    Returns
    -------
    float
        0 to 1.
    """
    if is_blank(saliency):
        return 0.0
    return float(saliency[inside].sum(dtype=np.float64) / saliency.sum(dtype=np.float64))


def rank_accuracy(saliency: Array, inside: Mask) -> float:
    """Return the share of a map's K strongest pixels that lie on the object, which has K pixels.

    The relevance rank accuracy (Arras et al. 2022, "CLEVR-XAI").

    Parameters
    ----------
    saliency
        A map, shape (H, W).
    inside
        The object.

    Returns
    -------
    float
        0 to 1. Of pixels that are equal where the K strongest end, as many count as are expected if chosen
        at random.
    """
    if is_blank(saliency):
        return 0.0
    size = int(inside.sum())
    last = np.partition(saliency, -size, axis=None)[-size]
    above, equal = saliency > last, saliency == last
    hits = float((above & inside).sum())
    hits += (size - int(above.sum())) * float((equal & inside).sum()) / float(equal.sum())
    return hits / size
