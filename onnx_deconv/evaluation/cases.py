"""What methods are evaluated on: photographs, each with a class and, where it is known, the object."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from onnx_deconv.errors import InputError
from onnx_deconv.evaluation.localisation import Mask
from onnx_deconv.imaging import SUFFIXES, Box, Geometry, PathLike, Photo, Preprocess, read_boxes, read_image
from onnx_deconv.labels import Labels

Boxes = Mapping[str, Mapping[int, Sequence[Box]]]
"""By photograph's file name and class: the boxes of that class, in pixels of the photograph."""

_HALF = 128
"""Grey value from which on a pixel of a mask belongs to the object."""


@dataclass(frozen=True, eq=False)
class Case:
    """A photograph, and the class that is explained in it.

    Attributes
    ----------
    path
        The photograph.
    target
        The class.
    inside
        The object on the grid of the model's input, shape (H, W); ``None`` where it is not known or lies
        outside what the model sees.
    """

    path: Path
    target: int
    inside: Mask | None = None

    @property
    def name(self) -> str:
        """The photograph's file name."""
        return self.path.name


def boxes_from(path: PathLike, labels: Labels) -> dict[str, dict[int, list[Box]]]:
    """Read the boxes of objects, as :data:`Boxes`.

    Parameters
    ----------
    path
        A CSV file with a header and the columns image (the name of its file, with or without a folder), class
        (an index or a label), x0, y0, x1, y1.
    labels
        Names of the classes.

    Raises
    ------
    InputError
        If the file cannot be read, a column is missing, an edge is no number, or there is no such class.
    """
    found: dict[str, dict[int, list[Box]]] = {}
    for row in read_boxes(path, "class"):
        found.setdefault(Path(row.image).name, {}).setdefault(labels.index(row.what), []).append(row.box)
    return found


def cases_of(
    photographs: Iterable[PathLike],
    preprocess: Preprocess,
    top_class: Callable[[Photo], int],
    boxes: Boxes | None = None,
    masks: PathLike | None = None,
) -> list[Case]:
    """List the cases: one for each photograph, or for each class that has boxes in it.

    Parameters
    ----------
    photographs
        Picture files, of different names.
    preprocess
        How photographs become the model's input.
    top_class
        Tells the class of a photograph without boxes.
    boxes
        Where objects are. A photograph without any takes no part in what is measured on objects.
    masks
        A folder of pictures, each as large as its photograph and with its name (the suffix may differ): at
        least mid-grey on the object.

    Raises
    ------
    InputError
        If two photographs have one name, boxes and masks are given, nothing fits a photograph, or a file
        cannot be read.
    """
    paths = [Path(path) for path in photographs]
    _check_names(paths)
    if boxes is not None and masks is not None:
        raise InputError("there are boxes and masks: give one of them")
    outlines = {} if masks is None else _pictures_in(Path(masks))
    cases = []
    for path in paths:
        photo = Photo.read(path, preprocess)
        found = {} if boxes is None else boxes.get(path.name, {})
        cases += [Case(path, k, _seen(boxed(each, photo.geometry))) for k, each in found.items()]
        if not found:
            outline = outlines.get(path.stem)
            inside = None if outline is None else _seen(outlined(outline, photo.geometry))
            cases.append(Case(path, top_class(photo), inside))
    if (boxes or masks) and all(case.inside is None for case in cases):
        what = "boxes" if boxes else f"masks in {masks}"
        raise InputError(f"none of the {what} belongs to one of the photographs: compare the file names")
    return cases


def boxed(boxes: Iterable[Box], geometry: Geometry) -> Mask:
    """Return the pixels of a model's input that lie in boxes of the photograph."""
    inside = np.zeros(geometry.size, bool)
    for top, left, bottom, right in (geometry.box_in_input(box) for box in boxes):
        inside[top:bottom, left:right] = True
    return inside


def outlined(path: PathLike, geometry: Geometry) -> Mask:
    """Return the pixels of a model's input that a mask of the photograph marks.

    Raises
    ------
    InputError
        If the mask cannot be read, or is not of the photograph's size.
    """
    picture = read_image(path)
    height, width = geometry.photo
    if picture.shape[:2] != geometry.photo:
        raise InputError(f"{path}: the photograph has {height}×{width} pixels; make the mask as large")
    return replace(geometry, fill=0).view(picture).max(axis=2) >= _HALF


def _seen(inside: Mask) -> Mask | None:
    return inside if inside.any() else None


def _check_names(paths: Sequence[Path]) -> None:
    if not paths:
        raise InputError("there are no photographs: name at least one")
    name, times = Counter(path.name for path in paths).most_common(1)[0]
    if times > 1:
        raise InputError(f"{times} photographs are called {name}: results are kept by file name, rename them")


def _pictures_in(folder: Path) -> dict[str, Path]:
    """Return the pictures in a folder by their name without suffix."""
    try:
        return {p.stem: p for p in sorted(folder.iterdir()) if p.suffix.lower() in SUFFIXES}
    except OSError as error:
        raise InputError(f"{folder}: no masks can be read there ({error.strerror or error})") from error
