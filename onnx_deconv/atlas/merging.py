"""Atlases that were made of parts of the images, merged into one."""

import os
from collections.abc import Sequence

import numpy as np

from onnx_deconv.atlas.shelf import Plan
from onnx_deconv.atlas.store import Reader, Writer
from onnx_deconv.atlas.tally import Atlas, merge


def merge_folders(homes: Sequence[str | os.PathLike[str]], output: str | os.PathLike[str]) -> Atlas:
    """Merge finished atlases of disjoint sets of images into the folder of one.

    The projections are copied: neither the model nor the images are needed.

    Raises
    ------
    InputError
        If a folder holds no finished atlas, or they were made in different ways.
    """
    readers = [Reader(home) for home in homes]
    whole = merge([reader.atlas for reader in readers])
    places = [_owners(reader.atlas) for reader in readers]
    plan = {layer: _common([reader.shelf(layer).plan for reader in readers]) for layer in whole.layers}
    writer = Writer(output, whole, plan, "RGB")
    for layer, table in whole.layers.items():
        for channel, rank in np.argwhere(table.taken).tolist():
            key = layer, channel, whole.images[table.images[channel, rank]]
            reader, source = next((r, p[key]) for r, p in zip(readers, places, strict=True) if key in p)
            writer.copy(reader, layer, (channel, rank), (channel, source))
    writer.finish()
    return whole


def _owners(atlas: Atlas) -> dict[tuple[str, int, str], int]:
    return {
        (layer, channel, atlas.images[table.images[channel, rank]]): rank
        for layer, table in atlas.layers.items()
        for channel, rank in np.argwhere(table.taken).tolist()
    }


def _common(plans: Sequence[Plan]) -> Plan:
    """Return what all atlases keep of a layer."""
    return {kind: what for kind, what in plans[0].items() if all(kind in plan for plan in plans)}
