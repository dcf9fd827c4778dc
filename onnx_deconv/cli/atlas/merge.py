"""``onnx-deconv atlas merge``: one atlas of several."""

from collections.abc import Sequence
from pathlib import Path

import click

from onnx_deconv.atlas.merging import merge_folders
from onnx_deconv.cli import groups
from onnx_deconv.cli.atlas.summary import summarise
from onnx_deconv.cli.console import Console

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
    return summarise(console, merge_folders(atlases, output), output)
