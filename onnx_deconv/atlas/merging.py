"""Merge finished atlases, with their projections, into one folder."""

import os
from collections.abc import Sequence
from pathlib import Path

from onnx_deconv.atlas.layer_files import common
from onnx_deconv.atlas.means import room
from onnx_deconv.atlas.reader import Reader
from onnx_deconv.atlas.top_activations import Atlas, merge
from onnx_deconv.atlas.writer import Writer
from onnx_deconv.files import check_disk


def merge_folders(homes: Sequence[str | os.PathLike[str]], output: str | os.PathLike[str]) -> Atlas:
    """Merge finished atlases of disjoint sets of images into the folder of one.

    The projections are copied: neither the model nor the images are needed.

    Parameters
    ----------
    homes
        The atlases' folders.
    output
        The merged atlas's folder.

    Raises
    ------
    InputError
        If a folder holds no finished atlas, they were made with different options or of the same image, or
        the disk has no room.
    """
    readers = [Reader(home) for home in homes]
    whole = merge([reader.atlas for reader in readers])
    ranks = [_rank_by_image(reader.atlas) for reader in readers]
    plan = {layer: common([reader.files(layer).plan for reader in readers]) for layer in whole.layers}
    check_disk(Path(output), room(plan, whole.seen)[1], "while it is made the atlas takes")
    writer = Writer(output, whole, plan, "RGB")
    for layer, table in whole.layers.items():
        for channel, rank in table.ranks():
            key = layer, channel, whole.image_of(layer, channel, rank)
            reader, old = next(
                (r, found[key]) for r, found in zip(readers, ranks, strict=True) if key in found
            )
            writer.copy(reader, layer, (channel, rank), (channel, old))
    writer.finish()
    return whole


def _rank_by_image(atlas: Atlas) -> dict[tuple[str, int, str], int]:
    """Return the rank of each unit by layer, channel and image."""
    return {
        (layer, channel, atlas.image_of(layer, channel, rank)): rank
        for layer, table in atlas.layers.items()
        for channel, rank in table.ranks()
    }
