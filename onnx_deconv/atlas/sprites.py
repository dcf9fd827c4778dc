"""Sprites: pictures of many feature maps in one, compressed for an HTML page."""

import base64
import math
from collections.abc import Iterator, Sequence

import numpy as np

from onnx_deconv.atlas.layer_files import Tiles
from onnx_deconv.imaging import Picture, Size, at_height, webp
from onnx_deconv.model import Array

BLOCKS = 64
"""Feature maps per sprite: a browser decodes only the sprites that are on the screen."""


def shown_size(kept: Sequence[int], tile: int) -> Size:
    """Return the size of a layer's pictures in the report: few pixels are repeated, many averaged.

    Parameters
    ----------
    kept
        (height, width) of the pictures that the atlas keeps.
    tile
        Pixels along the longer side, at most.
    """
    height, width = kept
    if max(kept) <= tile:
        times = max(1, tile // max(kept))
        return height * times, width * times
    factor = tile / max(kept)
    return max(1, round(height * factor)), max(1, round(width * factor))


def sprites(tiles: Array | Tiles, size: Size, columns: int, quality: int) -> Iterator[str]:
    """Yield sprites of 64 feature maps each, one block of its strongest units per feature map.

    Parameters
    ----------
    tiles
        Shape (channels, k, height, width, 3), uint8.
    size
        (height, width) of each picture in the sprite.
    columns
        Pictures in a row of a block.
    quality
        Quality of the compression, 0 to 100.
    """
    across = math.isqrt(BLOCKS)
    for first in range(0, len(tiles), BLOCKS):
        blocks = [_block(block, size, columns) for block in tiles[first : first + BLOCKS]]
        wide = min(across, len(blocks))
        blank = np.full_like(blocks[0], 255)
        blocks += [blank] * (-len(blocks) % wide)
        rows = [np.concatenate(blocks[k : k + wide], axis=1) for k in range(0, len(blocks), wide)]
        yield encoded(np.concatenate(rows), quality)


def _block(tiles: Array, size: Size, columns: int) -> Picture:
    height, width = size
    rows = math.ceil(len(tiles) / columns)
    block = np.full((rows * height, columns * width, 3), 255, np.uint8)
    for k, tile in enumerate(tiles):
        row, column = divmod(k, columns)
        shown = at_height(np.asarray(tile), height)[:, :width]
        block[row * height : (row + 1) * height, column * width : column * width + shown.shape[1]] = shown
    return block


def encoded(picture: Picture, quality: int) -> str:
    """Compress a picture as WebP, and write that in Base64."""
    return base64.b64encode(webp(picture, quality)).decode()
