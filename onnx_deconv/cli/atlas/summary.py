"""What is printed of a finished atlas: of one that is made, and of one that was there before."""

from pathlib import Path
from typing import Any

from onnx_deconv.atlas import Atlas
from onnx_deconv.atlas.reader import INDEX
from onnx_deconv.cli import FELL_SHORT
from onnx_deconv.cli.console import Console, counted

_MOST = 20
"""How many images that failed are named on stderr; ``atlas.json`` names all."""


def tell_replaced(console: Console, output: Path) -> None:
    """Warn that a finished atlas is in the folder: the new one takes its place."""
    if (output / INDEX).is_file():
        console.warn(f"{output}: the finished atlas there will be replaced")


def summarise(console: Console, atlas: Atlas, output: Path, seconds: float | None = None) -> int:
    """Print what an atlas holds, and the images that failed; return the exit code."""
    maps = sum(len(table.activations) for table in atlas.layers.values())
    record: dict[str, Any] = {
        "atlas": output,
        "layers": len(atlas.layers),
        "feature_maps": maps,
        "top": atlas.top,
        "images": atlas.seen,
        "failed": atlas.failed,
        "tied": sum(int(table.tied.sum()) for table in atlas.layers.values()),
    }
    read = atlas.seen - len(atlas.failed)
    text = f"{output}: the strongest {min(atlas.top, read)} of {counted(read, 'image')}"
    text += f" for each of {counted(maps, 'feature map')} in {counted(len(atlas.layers), 'layer')}"
    if seconds is not None:
        record["seconds"] = round(seconds, 1)
        text += f" ({seconds:.0f} s)"
    for reason in list(atlas.failed.values())[:_MOST]:
        console.error(reason)
    if atlas.failed:
        console.warn(f"{len(atlas.failed)} of {atlas.seen} images could not be read; atlas.json names them")
    if tied := record["tied"]:
        among = f"in {tied} of {counted(maps, 'feature map')} all {atlas.top} images are equally strong"
        console.warn(f"{among}, and more may be: names decide which are shown; sheets and report mark them")
    console.result(record, text)
    return FELL_SHORT if atlas.failed else 0
