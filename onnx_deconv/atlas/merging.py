"""Merge finished atlases, with their projections, into one folder."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from onnx_deconv.atlas.layer_files import common
from onnx_deconv.atlas.means import SHEET, room
from onnx_deconv.atlas.reader import Reader
from onnx_deconv.atlas.top_activations import Atlas, merge
from onnx_deconv.atlas.writer import Writer
from onnx_deconv.errors import InputError
from onnx_deconv.files import check_disk


def merge_folders(
    homes: Sequence[str | os.PathLike[str]],
    output: str | os.PathLike[str],
    *,
    begin: Callable[["Merging"], Callable[[int], None]] = lambda _: lambda _: None,
) -> Atlas:
    """Merge finished atlases of disjoint sets of images into the folder of one.

    The projections are copied: neither the model nor the images are needed. Those that an interrupted run
    copied are not copied again.

    Parameters
    ----------
    homes
        The atlases' folders.
    output
        The merged atlas's folder.
    begin
        Called with what the merged atlas takes before anything is written; returns what is called with the
        number of units that are copied, to report progress.

    Raises
    ------
    InputError
        If a folder holds no finished atlas, they were made with different options or of the same image, the
        output is one of them, or the disk has no room.
    """
    if Path(output).resolve() in [Path(home).resolve() for home in homes]:
        raise InputError(f"{output}: is one of the atlases that are merged; choose another folder")
    readers = [Reader(home) for home in homes]
    whole = merge([reader.atlas for reader in readers])
    ranks = [_rank_by_image(reader.atlas) for reader in readers]
    plan = {layer: common([reader.files(layer).plan for reader in readers]) for layer in whole.layers}
    disk, making = room(plan, whole.seen)
    free = check_disk(Path(output), making, "while it is made the atlas takes")
    units = [(layer, *unit) for layer, table in whole.layers.items() for unit in table.ranks()]
    copied = begin(Merging(len(units), disk, making, free, len(units) * SHEET))
    writer = Writer(output, whole, plan, "RGB")
    for number, (layer, channel, rank) in enumerate(units, 1):
        if (layer, channel, rank) not in writer.done:
            key = layer, channel, whole.image_of(layer, channel, rank)
            reader, old = next((r, each[key]) for r, each in zip(readers, ranks, strict=True) if key in each)
            writer.copy(reader, layer, (channel, rank), (channel, old))
        copied(number)
    writer.finish()
    return whole


class Merging(NamedTuple):
    """What a merged atlas takes.

    Attributes
    ----------
    units
        Units that are copied, at most.
    disk, making
        Bytes of the finished atlas, and those that it takes while it is made.
    free
        Bytes that the disk has.
    seconds
        What one core would take.
    """

    units: int
    disk: int
    making: int
    free: int
    seconds: float


def _rank_by_image(atlas: Atlas) -> dict[tuple[str, int, str], int]:
    """Return the rank of each unit by layer, channel and image."""
    return {
        (layer, channel, atlas.image_of(layer, channel, rank)): rank
        for layer, table in atlas.layers.items()
        for channel, rank in table.ranks()
    }
