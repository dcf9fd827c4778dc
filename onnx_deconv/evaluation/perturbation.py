"""Insertion and deletion: how a class's probability follows the pixels that a saliency map puts first.

Petsiuk et al. 2018, "RISE: Randomized Input Sampling for Explanation". Deletion takes the most
salient pixels out of the image first: the faster the probability falls, the better. Insertion puts them
into an image without content first: the faster it rises, the better.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np

from onnx_deconv.evaluation.blur import blurred
from onnx_deconv.imaging import Layout
from onnx_deconv.model import Array

STEPS = 28
"""Steps from the first image to the last: of 224×224 pixels, 1792 change at each."""
_BLUR = 0.05
"""Standard deviation of the blur, as a fraction of the image's shorter side."""


def order_of(saliency: Array, rng: np.random.Generator) -> Array:
    """Return a map's pixels, the most salient first; equal ones in random order.

    Parameters
    ----------
    saliency
        Shape (H, W).
    rng
        Source of random numbers. An order by place would let a blank map reveal the image row by row.

    Returns
    -------
    numpy.ndarray
        Indices into the flattened map, shape (H·W,).
    """
    flat = saliency.ravel()
    return np.lexsort((rng.random(flat.size), -flat))


def transition(start: Array, end: Array, order: Array, layout: Layout, steps: int = STEPS) -> Array:
    """Turn one image into another, pixel by pixel.

    Parameters
    ----------
    start, end
        Images as the model takes them.
    order
        What :func:`order_of` returns.
    layout
        The layout of the images' axes.
    steps
        How many steps; each changes as many pixels, give or take one.

    Returns
    -------
    numpy.ndarray
        Shape (steps + 1, ...): `start` first and `end` last.
    """
    place = np.empty(order.size, np.int64)
    place[order] = np.arange(order.size)
    height_width = start.shape[1:] if layout == "NCHW" else start.shape[:2]
    changed = place.reshape(height_width) < np.linspace(0, order.size, steps + 1).round()[:, None, None]
    return np.where(changed[:, None] if layout == "NCHW" else changed[..., None], end, start)


def area_under(curve: Array) -> float:
    """Return the mean height of a curve over equal steps, by trapezia."""
    return float((curve[1:] + curve[:-1]).mean() / 2)


def blurred_image(image: Array, layout: Layout) -> Array:
    """Return an image so blurred that little can be recognised, as RISE's insertion does."""
    planes = image if layout == "NCHW" else image.transpose(2, 0, 1)
    smooth = blurred(planes, _BLUR * min(planes.shape[1:]))
    return like(image, smooth if layout == "NCHW" else smooth.transpose(1, 2, 0))


def mean_image(image: Array, layout: Layout) -> Array:
    """Return an image of the same mean colour everywhere."""
    mean = image.mean(axis=(1, 2) if layout == "NCHW" else (0, 1), keepdims=True, dtype=np.float64)
    return like(image, np.broadcast_to(mean, image.shape))


CONTENTLESS: Mapping[str, Callable[[Array, Layout], Array]] = MappingProxyType(
    {"blur": blurred_image, "mean": mean_image}
)
"""What stands for an image without its content, by name. Results depend on it (Sturmfels et al. 2020,
"Visualizing the Impact of Feature Attribution Baselines"): compare both."""


def like(image: Array, values: Array) -> Array:
    """Return numbers in the type of an image, rounded where that is one of integers."""
    whole = np.rint(values) if image.dtype.kind in "iu" else values
    return whole.astype(image.dtype)
