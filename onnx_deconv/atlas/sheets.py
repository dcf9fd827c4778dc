"""Sheets: the pictures of a layer laid out as one, a block of ranks per feature map."""

import math

from onnx_deconv.atlas.layer_files import LayerFiles, Tiles
from onnx_deconv.atlas.top_activations import TopActivations
from onnx_deconv.files import replacing
from onnx_deconv.imaging import Picture, at_height, at_most, montage, webp
from onnx_deconv.model import Array

_HEIGHT = 48
"""Pixels: larger pictures are reduced to this height, smaller ones enlarged by a whole number up to it."""
_QUALITY = 75
_LARGEST = 16383
"""Pixels along a side that WebP can have."""
_BLOCKS_RATIO = 1.6
"""Blocks in a row over blocks in a column."""


def sheet(tiles: Array | Tiles, tied: Array) -> Picture:
    """Lay the pictures of a layer out: one block per feature map, its strongest first.

    Parameters
    ----------
    tiles
        Shape (channels, k, height, width, 3), uint8.
    tied
        Where all are equally strong, which is said then: booleans, (channels,).

    Returns
    -------
    numpy.ndarray
        H×W×3, uint8, RGB.
    """
    across = math.ceil(math.sqrt(tiles.shape[1]))
    height = _HEIGHT if tiles.shape[2] > _HEIGHT else tiles.shape[2] * max(1, _HEIGHT // tiles.shape[2])
    blocks = [
        montage([at_height(tile, height) for tile in block], across, gap=2)
        for block in map(tiles.__getitem__, range(len(tiles)))
    ]
    columns = max(1, math.ceil(math.sqrt(len(blocks) * _BLOCKS_RATIO)))
    captions = [f"{n} all equal" if equal else str(n) for n, equal in enumerate(tied)]
    return montage(blocks, columns, captions, gap=6)


def save_sheets(files: LayerFiles, table: TopActivations) -> None:
    """Draw a layer's projections and patches and save them beside its archives."""
    for kind, tiles in (("projections", files.projections), ("patches", files.patches)):
        with replacing(files.home / f"{files.stem}-{kind}.webp") as temporary:
            temporary.write_bytes(webp(at_most(sheet(tiles, table.tied), _LARGEST), _QUALITY))
