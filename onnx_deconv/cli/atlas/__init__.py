"""``onnx-deconv atlas``: what excites each feature map most over many images."""

import click

from onnx_deconv.cli.commands import CommandGroup

_COMMANDS = {
    "build": "Find the images that excite each feature map most, and project them to pixels.",
    "merge": "Merge atlases of different images into one.",
    "query": "Ask an atlas which feature maps fire for a class, or are alike.",
    "report": "Write an atlas as one HTML file.",
}

_EPILOG = """\b
Examples:
  onnx-deconv atlas build squeezenet.onnx photos/ --preset imagenet-caffe -o atlas
  onnx-deconv atlas report atlas -o report.html
"""


@click.group(cls=CommandGroup, module=__name__, commands=_COMMANDS, epilog=_EPILOG)
def command() -> None:
    """Find the images that excite each feature map of a model most; draw and share the result.

    Zeiler & Fergus 2013, figure 2.
    """
