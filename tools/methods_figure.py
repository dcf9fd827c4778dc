"""Draw what each method shows of one photograph in several networks, for docs/what-a-picture-can-tell.md.

    python tools/methods_figure.py docs/methods.jpg cat.png "SqueezeNet 1.1=model.onnx:imagenet-caffe" ...

A row for each network, NAME=FILE:PRESET; the class is the target. The maps lie over the photograph.
"""

from collections.abc import Sequence
from pathlib import Path

import click
from PIL import Image

from onnx_deconv import Explainer, load
from onnx_deconv.imaging import Photo, Picture, at_height, laid_out, preprocess_for

METHODS = ("auto", "grad-cam", "guided", "deconvnet", "excitation", "lrp")


def row(path: str, preset: str, photo: Path, target: str) -> list[Picture]:
    """Draw the photograph, then each method's map over it."""
    preprocess = preprocess_for(load(path), preset)[0]
    explainers = (Explainer(path, method, labels="imagenet") for method in METHODS)
    made = (each.explain(photo, target, preprocess=preprocess) for each in explainers)
    return [Photo.read(photo, preprocess).picture, *(one.views()["overlay"] for one in made)]


@click.command(help=__doc__)
@click.argument("output", type=click.Path(path_type=Path))
@click.argument("photo", type=click.Path(exists=True, path_type=Path))
@click.argument("networks", nargs=-1, required=True)
@click.option("--target", default="tiger cat", show_default=True)
@click.option("--height", default=130, show_default=True)
def main(output: Path, photo: Path, networks: Sequence[str], target: str, height: int) -> None:
    """Draw the figure."""
    pictures, captions = [], []
    for network in networks:
        name, _, rest = network.partition("=")
        path, _, preset = rest.rpartition(":")
        pictures += [at_height(each, height) for each in row(path, preset, photo, target)]
        captions += [name, *METHODS]
    sheet = laid_out(pictures, 1 + len(METHODS), captions, lines=2).picture()
    Image.fromarray(sheet).save(output, quality=80)


if __name__ == "__main__":
    main()
