"""Small changes of a photograph that hardly change what a model answers: a map should stay as it was.

A map that changes much is fragile (Ghorbani et al. 2019, "Interpretation of Neural Networks Is Fragile");
after a shift it should be shifted too (Crabbé & van der Schaar 2023, "Evaluating the Robustness of
Interpretability Methods through Explanation Invariance and Equivariance").
"""

import numpy as np

from onnx_deconv.evaluation.bench import Bench
from onnx_deconv.evaluation.cases import Case
from onnx_deconv.evaluation.perturbation import like
from onnx_deconv.imaging import jpeg_compressed
from onnx_deconv.model import Array

NOISE = 0.05
"""Standard deviation of the noise, as a fraction of the range of an image's numbers."""
SHIFT = (4, 4)
"""How far a photograph is shifted: pixels of the model's input, down and to the right."""
JPEG_QUALITY = 50


def noisy(bench: Bench, case: Case) -> Array:
    """Return a photograph as the model takes it, with Gaussian noise; integers stay within its range."""
    image = bench.image(case)
    low, high = float(image.min()), float(image.max())
    values = image + bench.rng(case, "noise").normal(0, NOISE * (high - low), image.shape)
    return like(image, np.clip(values, low, high) if image.dtype.kind in "iu" else values)


def shifted(bench: Bench, case: Case) -> Array:
    """Return a photograph as the model takes it, shifted; what comes from outside repeats its border."""
    image, axis = bench.image(case), 1 if bench.preprocess.layout == "NCHW" else 0
    for by in SHIFT:
        image = image.take(np.maximum(np.arange(image.shape[axis]) - by, 0), axis)
        axis += 1
    return image


def compressed(bench: Bench, case: Case) -> Array:
    """Return a photograph as the model takes it, after what the model sees was saved as JPEG."""
    return bench.preprocess.normalise(jpeg_compressed(bench.photo(case).view, JPEG_QUALITY))


def overlap(before: Array, after: Array) -> tuple[Array, Array]:
    """Return the parts of two maps, before and after the shift, that show the same pixels of the image."""
    down, right = SHIFT
    height, width = before.shape
    return before[: height - down, : width - right], after[down:, right:]
