"""Sheets: the pictures of a layer laid out as one, a block of ranks per feature map."""

import math
from collections.abc import Sequence

from onnx_deconv.atlas.arrays import LayerArrays
from onnx_deconv.imaging import Picture, at_height, montage, save_png
from onnx_deconv.model import Array

_HEIGHT = 48
"""Pixels: larger pictures are reduced to this height, smaller ones enlarged by a whole number up to it."""
_BLOCKS_RATIO = 1.6
"""Blocks in a row over blocks in a column."""


def sheet(tiles: Array, numbers: Sequence[int] | None = None) -> Picture:
    """Lay the pictures of a layer out: one block per feature map, its strongest first.

    Parameters
    ----------
    tiles
        Shape (channels, k, height, width, 3), uint8.
    numbers
        The feature maps' numbers, for the captions; by default from 0.

    Returns
    -------
    numpy.ndarray
        H×W×3, uint8, RGB.
    """
    across = math.ceil(math.sqrt(tiles.shape[1]))
    height = _HEIGHT if tiles.shape[2] > _HEIGHT else tiles.shape[2] * max(1, _HEIGHT // tiles.shape[2])
    blocks = [montage([at_height(tile, height) for tile in block], across, gap=2) for block in tiles]
    columns = max(1, math.ceil(math.sqrt(len(blocks) * _BLOCKS_RATIO)))
    return montage(blocks, columns, [str(n) for n in numbers or range(len(blocks))], gap=6)


def save_sheets(arrays: LayerArrays) -> None:
    """Draw a layer's projections and patches and save them beside its arrays."""
    save_png(arrays.home / f"{arrays.stem}-projections.png", sheet(arrays.projections))
    save_png(arrays.home / f"{arrays.stem}-patches.png", sheet(arrays.patches))
