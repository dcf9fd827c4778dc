"""``onnx-deconv atlas merge``: one atlas of several."""

from collections.abc import Callable, Sequence
from pathlib import Path

import click

from onnx_deconv.atlas.merging import Merging, merge_folders
from onnx_deconv.cli import groups
from onnx_deconv.cli.atlas.progress import Progress
from onnx_deconv.cli.atlas.summary import summarise, tell_replaced
from onnx_deconv.cli.console import Console, counted, in_bytes
from onnx_deconv.runtime import workers

_EPILOG = """\b
Examples:
  onnx-deconv atlas merge atlas1 atlas2 atlas3 -o whole

The result is the atlas that one run over all the images would have made. The atlases must be of the same
model with the same options, and their images must have different names.
"""


@click.command(epilog=_EPILOG)
@click.argument("atlases", metavar="ATLAS...", nargs=-1, required=True)
@groups.output("onnx-deconv-atlas-merged", "Folder for the merged atlas.")
@groups.common
@click.pass_obj
def command(console: Console, /, atlases: Sequence[str], output: Path) -> int:
    """Merge each ATLAS, a folder that 'atlas build' made, into one.

    Build them on several machines, each over images of its own; neither the model nor the images are read.
    """

    def begin(takes: Merging) -> Callable[[int], None]:
        threads = workers("cpu")
        least = takes.seconds / threads
        lasts = console.between(least, least * console.slower(threads))
        console.say(
            f"{counted(takes.units, 'unit')} will take about {in_bytes(takes.disk)} of disk "
            f"({in_bytes(takes.making)} while it is made, {in_bytes(takes.free)} free), and last {lasts}"
        )
        tell_replaced(console, output)
        return Progress(console, "units", takes.units).show

    return summarise(console, merge_folders(atlases, output, begin=begin), output)
