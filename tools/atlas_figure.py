"""Draw docs/atlas.png: what excites some feature maps of the embedded model most, over pieces of photographs.

    python tools/atlas_figure.py docs/atlas.png astronaut.png chelsea.png coffee.png

The pieces lie side by side, in four sizes, and mirrored: no map's nine are the same place nine times.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np

from onnx_deconv import Explainer
from onnx_deconv.atlas import Atlas, Projector, images_of, scan
from onnx_deconv.atlas.reader import Reader
from onnx_deconv.atlas.sheets import sheet
from onnx_deconv.atlas.writer import Writer, plans
from onnx_deconv.imaging import Picture, montage, preprocess_for, read_image, save_png

MODEL = Path(__file__).parents[1] / "models" / "demo.onnx"
LAYERS = ("conv1", "conv3", "conv5", "conv8", "conv11")
MAPS = 3


def pieces(name: str, photo: Picture) -> Iterator[tuple[str, Picture]]:
    """Cut a photograph up."""
    for side in (64, 96, 128, 192):
        for y in range(0, photo.shape[0] - side + 1, side):
            for x in range(0, photo.shape[1] - side + 1, side):
                piece = photo[y : y + side, x : x + side]
                yield f"{name} {side} {y} {x}", piece
                yield f"{name} {side} {y} {x} mirrored", piece[:, ::-1]


def row(reader: Reader, layer: str) -> list[Picture]:
    """Draw the projections and the patches of the maps that nine pieces excite most."""
    table, arrays = reader.atlas.layers[layer], reader.files(layer)
    numbers = sorted(int(n) for n in np.argsort(-table.activations[:, -1])[:MAPS])
    return [sheet(array[numbers], numbers) for array in (arrays.projections, arrays.patches)]


@click.command()
@click.argument("output", type=Path)
@click.argument("photos", type=Path, nargs=-1, required=True)
def main(output: Path, photos: tuple[Path, ...]) -> None:
    """Draw OUTPUT from PHOTOS."""
    explainer = Explainer(MODEL, providers="cpu")
    preprocess, _ = preprocess_for(explainer.model)
    layers = [explainer.model.layer(name) for name in LAYERS]
    source = images_of([piece for path in photos for piece in pieces(path.stem, read_image(path))])
    atlas = scan(explainer, source, preprocess, Atlas(), layers)
    projector = Projector(explainer, layers, preprocess)
    with tempfile.TemporaryDirectory() as home:
        windows = {layer: projector.window(layer) for layer in layers}
        units = {layer: table.activations.shape for layer, table in atlas.layers.items()}
        writer = Writer(home, atlas, plans(units, windows, 3), preprocess.channels)
        for drawn in projector.run(atlas, source, each=writer.draw):
            writer.add(drawn)
        writer.finish()
        reader = Reader(home)
        rows = [part for layer in layers for part in row(reader, layer)]
        captions = [f"{name}: {what}" for name in LAYERS for what in ("projections", "what the model saw")]
        save_png(output, montage(rows, 2, captions, gap=10))


if __name__ == "__main__":
    main()
