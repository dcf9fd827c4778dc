"""Correspondence analysis: whether hiding the same part of different objects changes features alike.

Zeiler & Fergus 2013, section 4.3, table 1 and figure 8.
"""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from os import PathLike
from pathlib import Path

import numpy as np

from onnx_deconv.attribution.explainer import Explainer
from onnx_deconv.attribution.features import Features
from onnx_deconv.errors import InputError
from onnx_deconv.experiments.invariance import default_layers
from onnx_deconv.experiments.occlusion import Fill, Watch, filling, occluded
from onnx_deconv.imaging import Geometry, Preprocess, preprocess_for
from onnx_deconv.model import Array

RANDOM, OBJECT = "random", "object"
Box = tuple[float, float, float, float]
"""(top, left, bottom, right) in pixels."""
_COLUMNS = ("image", "part", "x0", "y0", "x1", "y1")
_DRAWS = 10


@dataclass(frozen=True)
class Correspondence:
    """How alike the features of N images change when a part is hidden in all of them.

    The change of image i at layer l is ε_i = x_i - x̃_i, of the features without and with the part
    hidden; H is the Hamming distance of two vectors of signs (-1, 0, 1).

    Attributes
    ----------
    layers, parts
        What was compared; the last part is ``random``: boxes of the parts' sizes at random places.
    distances
        By layer and part: H(sign ε_i, sign ε_j) divided by the number of features, one for each pair
        i < j of images, shape (pairs,); for ``random`` those of all draws, one after another.
    features
        By layer: the number of features.
    boxes
        By part: (top, left, bottom, right) in pixels of the model's input, shape (N, 4); for
        ``random`` of all draws, shape (draws, N, 4).
    """

    layers: tuple[str, ...]
    parts: tuple[str, ...]
    distances: Mapping[str, Mapping[str, Array]] = field(repr=False)
    features: Mapping[str, int]
    boxes: Mapping[str, Array] = field(repr=False)

    def mean(self, layer: str, part: str) -> float:
        """Return the mean share of signs that differ, over the pairs (table 1)."""
        return float(self.distances[layer][part].mean())

    def std(self, layer: str, part: str) -> float:
        """Return the standard deviation over the pairs (table 1)."""
        return float(self.distances[layer][part].std())

    def delta(self, layer: str, part: str) -> float:
        """Return Δ_l, the sum of H(sign ε_i, sign ε_j) over all ordered pairs i ≠ j (section 4.3).

        For ``random`` the mean of all draws. Lower means that the change is more alike.
        """
        draws = len(self.boxes[part]) if part == RANDOM else 1
        return float(2 * self.distances[layer][part].sum() * self.features[layer] / draws)


def correspondence(
    explainer: Explainer,
    images: Array,
    parts: Mapping[str, Array],
    *,
    within: Array | None = None,
    layers: Sequence[str] | None = None,
    draws: int = _DRAWS,
    rng: np.random.Generator | None = None,
    fill: Fill = "grey",
    preprocess: Preprocess | None = None,
    watch: Watch = iter,
) -> Correspondence:
    """Hide parts and compare the change of features over images (Zeiler & Fergus 2013, section 4.3).

    Parameters
    ----------
    explainer
        For the model; the plain model runs.
    images
        As the model takes them, shape (N, ...), N ≥ 2: objects of one kind.
    parts
        By name: where the part is in each image, shape (N, 4): top, left, bottom, right in pixels.
    within
        Where random boxes may lie in each image, shape (N, 4); by default anywhere.
    layers
        By default the first and the last convolution, rectified, and the scores.
    draws
        How many sets of random boxes are drawn; the parts' sizes take turns.
    rng
        Where random places come from; by default always the same.
    fill, preprocess
        As for :func:`onnx_deconv.experiments.occlusion.occlusion`.
    watch
        Shows how far it is.

    Raises
    ------
    InputError
        If there are fewer than two images or no parts, or boxes do not fit the images.
    UnknownLayerError
        If there is no such layer.
    """
    preprocess = preprocess or preprocess_for(explainer.model)[0]
    if len(images) < 2 or not parts or draws < 1:  # noqa: PLR2004 - a pair
        raise InputError("a correspondence needs two images or more, a part hidden in each, and a draw")
    if RANDOM in parts:
        raise InputError(
            f"a part cannot be named {RANDOM!r}, which is what parts are compared with: rename it"
        )
    extent = images.shape[2:] if preprocess.layout == "NCHW" else images.shape[1:3]
    whole = np.tile([0, 0, *extent], (len(images), 1))
    checked = {name: _checked(name, boxes, whole) for name, boxes in parts.items()}
    random = _random(list(checked.values()), whole if within is None else within, draws, rng)
    network = Features(explainer, default_layers(explainer) if layers is None else layers)
    before, colour = network(images), filling(fill, preprocess, images[0])

    def pairs(boxes: Array) -> dict[str, Array]:
        hidden = np.concatenate(
            [
                occluded(image, box[None], colour, preprocess.layout)
                for image, box in zip(images, boxes, strict=True)
            ]
        )
        after = network(hidden)
        return {name: sign_distances(before.of[name] - after.of[name]) for name in network.layers}

    found = [pairs(boxes) for boxes in watch([*checked.values(), *random])]
    distances = {
        layer: {name: one[layer] for name, one in zip(checked, found, strict=False)}
        | {RANDOM: np.concatenate([one[layer] for one in found[len(checked) :]])}
        for layer in network.layers
    }
    features = {name: int(np.prod(before.of[name].shape[1:])) for name in network.layers}
    names = (*checked, RANDOM)
    return Correspondence(tuple(network.layers), names, distances, features, {**checked, RANDOM: random})


def sign_distances(changes: Array) -> Array:
    """Compare the signs of changes for each pair of images.

    Parameters
    ----------
    changes
        One vector of changes ε per image, shape (N, ...).

    Returns
    -------
    numpy.ndarray
        H(sign ε_i, sign ε_j) / number of features for each pair i < j, shape (N(N-1)/2,), 0..1.
    """
    signs = np.sign(changes.reshape(len(changes), -1)).astype(np.int8)
    return np.array([(signs[i] != signs[j]).mean() for i, j in combinations(range(len(signs)), 2)])


def read_parts(path: str | PathLike[str]) -> dict[str, dict[str, Box]]:
    """Read where parts are in photographs, in pixels of the photographs.

    The file is CSV with a header and the columns image, part, x0, y0, x1, y1. The part ``object`` is
    no part: it bounds the random boxes.

    Returns
    -------
    dict
        By part, by image.

    Raises
    ------
    InputError
        If the file cannot be read, a column is missing, a number is none, or a part is given twice.
    """
    found: dict[str, dict[str, Box]] = {}
    try:
        with Path(path).open(encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file)
            missing = [name for name in _COLUMNS if name not in (rows.fieldnames or ())]
            if missing:
                raise InputError(
                    f"{path}: there is no column {', '.join(missing)}; write {','.join(_COLUMNS)}"
                )
            for row in rows:
                part, image = (row["part"] or "").strip(), (row["image"] or "").strip()
                boxes = found.setdefault(part, {})
                if image in boxes:
                    raise InputError(f"{path}, line {rows.line_num}: {part} of {image} is given twice")
                boxes[image] = _box(path, rows.line_num, row)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        why = getattr(error, "strerror", None) or error
        raise InputError(f"{path}: no boxes can be read there ({why})") from error
    return found


def in_input(box: Box, geometry: Geometry) -> tuple[int, int, int, int]:
    """Find where a box of the photograph lies in the model's input, to whole pixels, cut at its borders."""
    edges = []
    for k, edge in enumerate(box):
        axis = k % 2
        placed = round(edge * geometry.resized[axis] / geometry.photo[axis]) + geometry.offset[axis]
        edges.append(min(max(placed, 0), geometry.size[axis]))
    return edges[0], edges[1], edges[2], edges[3]


def _box(path: str | PathLike[str], line: int, row: Mapping[str, str]) -> Box:
    try:
        top, left, bottom, right = (float(row[name]) for name in ("y0", "x0", "y1", "x1"))
    except (TypeError, ValueError):
        raise InputError(f"{path}, line {line}: x0, y0, x1 and y1 have to be numbers") from None
    return top, left, bottom, right


def _checked(name: str, boxes: Array, whole: Array) -> Array:
    boxes = np.asarray(boxes, np.int64)
    if boxes.shape != whole.shape:
        raise InputError(f"part {name!r}: boxes of shape {boxes.shape}, not one of four edges for each image")
    cut = np.clip(boxes, whole[:, [0, 1, 0, 1]], whole[:, [2, 3, 2, 3]])
    empty = np.flatnonzero((cut[:, 2:] <= cut[:, :2]).any(axis=1))
    if len(empty):
        raise InputError(f"part {name!r} of image {empty[0]} hides nothing of what the model sees")
    return cut


def _random(parts: Sequence[Array], within: Array, draws: int, rng: np.random.Generator | None) -> Array:
    """Draw boxes of the parts' sizes, each anywhere in its image's bounds (or covering them)."""
    rng = rng or np.random.default_rng(0)
    within = np.asarray(within, np.int64)
    drawn = []
    for draw in range(draws):
        sizes = parts[draw % len(parts)][:, 2:] - parts[draw % len(parts)][:, :2]
        room = np.maximum(within[:, 2:] - within[:, :2] - sizes, 0)
        starts = within[:, :2] + rng.integers(0, room, endpoint=True)
        drawn.append(np.concatenate([starts, starts + sizes], axis=1))
    return np.stack(drawn)
