"""Measure whether saliency falls on the object: the pointing game, and the energy inside the box.

    python tools/pointing_game.py MODEL FOLDER --preset imagenet-caffe

FOLDER holds photographs and ``boxes.csv`` (image, class index, x0, y0, x1, y1 in pixels of the
photograph). The pointing game (Zhang et al. 2018, section 4.2) counts how often the strongest point of
a map lies in the box; ties and single pixels are evened out by a Gaussian of 2 % of the shorter side.
The energy is the share of the map's sum inside the box (Wang et al. 2020, section 4.3). Both maps
and baselines are measured on the part of the photograph that the model sees.
"""

import csv
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
from PIL import Image, ImageFilter

from onnx_deconv import Explainer, Labels, Semantics
from onnx_deconv.imaging import Geometry, preset, read_image

Map = np.ndarray
Box = tuple[int, int, int, int]
METHODS = [(rules, seed) for rules in ("deconvnet", "guided", "gradient") for seed in ("one", "map")]


def edges(photo: Map, geometry: Geometry) -> Map:
    """Return the length of the luminance gradient (Sobel), as an edge detector that knows no class."""
    grey = Image.fromarray(geometry.view(photo)).convert("L")
    parts = [
        grey.filter(ImageFilter.Kernel((3, 3), k, 1, 128))
        for k in ((-1, 0, 1, -2, 0, 2, -1, 0, 1), (-1, -2, -1, 0, 0, 0, 1, 2, 1))
    ]
    x, y = (np.asarray(part, np.float32) - 128 for part in parts)
    length = np.hypot(x, y)
    length[[0, -1]] = length[:, [0, -1]] = 0
    return length


def centre(_: Map, geometry: Geometry) -> Map:
    """Return a map with its one peak at the centre, falling with the distance."""
    height, width = geometry.size
    y, x = np.mgrid[:height, :width]
    distance = np.hypot((y - (height - 1) / 2) / height, (x - (width - 1) / 2) / width)
    return np.exp(-((distance / 0.25) ** 2)).astype(np.float32)


def blurred(values: Map, sigma: float) -> Map:
    """Smooth a map by a Gaussian."""
    reach = round(3 * sigma)
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    for axis in (0, 1):
        values = np.apply_along_axis(np.convolve, axis, values, weights / weights.sum(), mode="same")
    return values


def score(values: Map, geometry: Geometry, boxes: list[Box]) -> tuple[float, float]:
    """Return (1 if the strongest point lies in a box, share of the sum in the boxes)."""
    inside = np.zeros(geometry.photo, bool)
    for x0, y0, x1, y1 in boxes:
        inside[max(y0, 0) : y1, max(x0, 0) : x1] = True
    smooth = geometry.to_photo(blurred(values, 0.02 * min(geometry.size)))
    plain = geometry.to_photo(values)
    total = float(plain.sum())
    share = float(plain[inside].sum()) / total if total else 0.0
    return float(inside.ravel()[np.argmax(smooth)]), share


def annotations(folder: Path) -> dict[tuple[Path, int], list[Box]]:
    """Read boxes.csv: the boxes of each class in each photograph."""
    found: dict[tuple[Path, int], list[Box]] = defaultdict(list)
    with (folder / "boxes.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            x0, y0, x1, y1 = (int(row[k]) for k in ("x0", "y0", "x1", "y1"))
            found[folder / row["image"], int(row["class"])].append((x0, y0, x1, y1))
    return found


@click.command(help=__doc__)
@click.argument("model", type=click.Path(exists=True))
@click.argument("folder", type=click.Path(exists=True, path_type=Path))
@click.option("--preset", "name", default="imagenet", show_default=True)
@click.option("--size", default=224, show_default=True)
def main(model: str, folder: Path, name: str, size: int) -> None:
    """Print a table."""
    preprocess = preset(name).replace(size=(size, size))
    explainers = {
        rules: Explainer(model, Semantics(rules=rules), labels=Labels().names) for rules, _ in METHODS
    }
    found: dict[str, list[tuple[float, float]]] = defaultdict(list)
    empty: dict[str, int] = defaultdict(int)
    right = total = 0
    baselines: dict[str, Callable[[Map, Geometry], Map]] = {"centre": centre, "Sobel edges": edges}
    for (path, label), boxes in annotations(folder).items():
        photo = read_image(path)
        array, geometry = preprocess.apply(photo)
        for baseline, function in baselines.items():
            found[baseline].append(score(function(photo, geometry), geometry, boxes))
        total += 1
        right += int(explainers["deconvnet"].scores(array[None]).argmax() == label)
        for rules, seed in METHODS:
            layer = explainers[rules].class_maps if seed == "map" else None
            (one,) = explainers[rules](array[None], label, layer=layer, seed=seed)
            method = f"{rules}, seed {seed}"
            found[method].append(score(np.abs(one.reconstruction).max(0), geometry, boxes))
            empty[method] += one.is_empty
    print(f"{total} photographs, {right} classified correctly")
    print("| method | pointing game | energy in box | empty |\n|---|---|---|---|")
    for method, values in found.items():
        hits, energy = np.mean(values, axis=0)
        print(f"| {method} | {hits:.1%} | {energy:.1%} | {empty[method]} |")


if __name__ == "__main__":
    main()
