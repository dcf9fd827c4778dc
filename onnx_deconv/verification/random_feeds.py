"""Random inputs for a model: what its pair is checked and timed on where nobody gives a photograph."""

import numpy as np

from onnx_deconv.errors import InputError, sizes_of
from onnx_deconv.imaging import ImageInput, Preprocess, Size, preprocess_for
from onnx_deconv.imaging.picture import Picture
from onnx_deconv.model import Array, Model


def random_feeds(
    model: Model, rng: np.random.Generator, preprocess: Preprocess | None = None
) -> dict[str, Array]:
    """Make one batch of random inputs: coarse coloured noise for pictures, normal numbers for the rest.

    Parameters
    ----------
    model
        The model.
    rng
        The random generator.
    preprocess
        How pictures become numbers; by default as :func:`onnx_deconv.imaging.preprocess_for` decides.

    Returns
    -------
    dict
        One array per input.

    Raises
    ------
    InputError
        If a shape is not known well enough.
    """
    try:
        takes = ImageInput.of(model)
        preprocess = preprocess or preprocess_for(model)[0]
    except InputError:
        return {name: _normal(model, name, rng) for name in model.inputs}
    noise = _coarse_noise(preprocess.size or takes.size_or(None), rng)
    return {takes.name: np.repeat(preprocess.normalise(noise)[None], takes.batch or 1, 0)}


def _coarse_noise(size: Size, rng: np.random.Generator) -> Picture:
    height, width = size
    blocks = rng.integers(0, 256, (-(-height // 4), -(-width // 4), 3), np.uint8)
    coarse = blocks.repeat(4, 0).repeat(4, 1)[:height, :width] // 2
    # Flat blocks alone would make ties in every pool, where no derivative exists.
    return coarse + rng.integers(0, 128, coarse.shape, np.uint8)


def _normal(model: Model, name: str, rng: np.random.Generator) -> Array:
    types = model.type_of(name)
    if types.shape is None or None in types.shape[1:]:
        raise InputError(f"input {name!r} has shape {types}: {sizes_of(name, types.shape)}")
    dtype = model.input_dtype(name)
    numbers = rng.standard_normal([d or 1 for d in types.shape])
    return (numbers if dtype.kind == "f" else np.zeros_like(numbers)).astype(dtype)
