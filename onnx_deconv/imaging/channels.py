"""Channels: which planes a model takes, in which order."""

from typing import Literal

import numpy as np
from PIL import Image

from onnx_deconv.imaging.picture import Picture

Channels = Literal["RGB", "BGR", "L", "RGBA", "BGRA"]


def follow(values: tuple[float, ...], old: str, new: str, *, alpha: float) -> tuple[float, ...]:
    """Reorder one value per channel of `old` for the channels of `new`."""
    if len(values) == 1:
        return values
    by_letter = dict(zip(old, values, strict=True))
    by_letter["L"] = sum(by_letter[letter] for letter in "RGB") / 3
    return tuple(by_letter.get(letter, alpha) for letter in new)


def plane(view: Picture, letter: str) -> Picture:
    """One channel of a picture: R, G, B, L (its luma) or A (opaque)."""
    if letter == "A":
        return np.full(view.shape[:2], 255, np.uint8)
    if letter == "L":
        return np.asarray(Image.fromarray(view).convert("L"))
    return view[..., "RGB".index(letter)]
