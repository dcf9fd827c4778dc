"""From photographs to pictures: preprocess, explain, render, save."""

import glob
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from onnx import helper

from onnx_deconv import render
from onnx_deconv.errors import InputError
from onnx_deconv.explainer import Explainer, Explanation
from onnx_deconv.files import replacing
from onnx_deconv.image import (
    Geometry,
    Picture,
    Preprocess,
    preprocess_from_metadata,
    preset,
    save_npy,
    save_png,
)
from onnx_deconv.model import Array, Model

VIEWS = ("sheet", "projection", "heat", "overlay")
EXTENSIONS = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".ppm", ".jp2", ".avif"}


def preprocess_for(model: Model, name: str | None, overrides: Mapping[str, Any]) -> Preprocess:
    """Choose the preprocessing: the caller's, else what the metadata say, else ImageNet's.

    Layout, channels and size come from the model's image input, the first of rank 4.

    Raises
    ------
    InputError
        If the model takes no image, or an override does not fit.
    """
    layout, size, grey, dtype = _image_input(model)
    base = preset(name or "imagenet").replace(layout=layout, dtype=dtype)
    if size is not None:
        base = base.replace(size=size)
    if grey:
        base = base.replace(channels="L")
    metadata = dict(model.metadata)
    if name is not None:
        metadata = {k: v for k, v in metadata.items() if k == "size"}
    if size is not None:
        metadata.pop("size", None)
    given = {key: value for key, value in overrides.items() if value is not None}
    return preprocess_from_metadata(metadata, base).replace(**given)


def photographs(paths: Iterable[str]) -> list[Path]:
    """List the photographs that paths, folders and patterns name, in order, each once.

    Raises
    ------
    InputError
        If a pattern or a folder names none.
    """
    found: dict[Path, None] = {}
    for text in paths:
        path = Path(text)
        if path.is_dir():
            inside = sorted(p for p in path.iterdir() if p.suffix.lower() in EXTENSIONS)
            if not inside:
                raise InputError(f"{text}: no pictures in this folder")
        elif not path.exists() and glob.has_magic(text):
            inside = [Path(p) for p in sorted(glob.glob(text, recursive=True))]  # noqa: PTH207  (absolute too)
            if not inside:
                raise InputError(f"{text}: matches no file")
        else:
            inside = [path]
        found.update(dict.fromkeys(inside))
    return list(found)


@dataclass(frozen=True)
class Request:
    """What to explain in a photograph, and which pictures to make of it.

    Attributes
    ----------
    channel, layer, at, top, seed
        As for :class:`~onnx_deconv.explainer.Explainer`'s call.
    views
        Some of :data:`VIEWS`.
    """

    channel: int | str | None = None
    layer: str | None = None
    at: tuple[int, ...] | None = None
    top: int = 1
    seed: Any = "auto"
    views: Sequence[str] = ("sheet", "projection")


def explain_photograph(
    explainer: Explainer, preprocess: Preprocess, photo: Picture, stem: str, folder: Path, request: Request
) -> Iterator[dict[str, Any]]:
    """Explain one photograph and write its pictures.

    Parameters
    ----------
    explainer, preprocess, request
        What to run and how.
    photo
        H×W×3, uint8, RGB.
    stem
        What the files' names begin with.
    folder
        Where they go; it exists.

    Yields
    ------
    dict
        Per explanation: class, label, score, layer, seed, note and files, as plain JSON data.
    """
    array, geometry = preprocess.apply(photo)
    found = explainer(
        _feeds(explainer.model, array), request.channel, layer=request.layer, at=request.at,
        top=request.top, seed=request.seed,
    )  # fmt: skip
    for one in (e for e in found if e.image == 0):
        name = f"{stem}-{_safe(one.label or f'{one.layer}-{one.channel}')}-{explainer.semantics.rules}"
        files = _write(one, photo, geometry, preprocess, folder / name, request.views)
        yield {
            "class": one.channel, "label": one.label, "score": one.score, "layer": one.layer,
            "seed": one.seed, "note": one.note, "files": [str(f) for f in files],
        }  # fmt: skip


def _write(
    one: Explanation,
    photo: Picture,
    geometry: Geometry,
    preprocess: Preprocess,
    base: Path,
    views: Sequence[str],
) -> list[Path]:
    """Write the raw reconstruction, what describes it, and the pictures asked for."""
    planes = one.reconstruction if preprocess.layout == "NCHW" else np.moveaxis(one.reconstruction, -1, 0)
    scale = render.scale_of(planes)
    written = []
    for view in views:
        path = base.with_name(f"{base.name}-{view}.png")
        save_png(path, _picture(view, planes, scale, photo, geometry, preprocess))
        written.append(path)
    raw, about = base.with_name(f"{base.name}.npy"), base.with_name(f"{base.name}.json")
    save_npy(raw, one.reconstruction)
    facts = {
        "layer": one.layer, "channel": one.channel, "label": one.label, "score": one.score, "seed": one.seed,
        "note": one.note, "scale": scale, "shape": list(one.reconstruction.shape), "shows": geometry.box,
    }  # fmt: skip
    with replacing(about) as temporary:
        temporary.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    return [*written, raw, about]


def _picture(
    view: str, planes: Array, scale: float, photo: Picture, geometry: Geometry, preprocess: Preprocess
) -> Picture:
    """Make one picture: projections as the model sees, maps on the photograph's own grid."""
    projection = render.projection(planes, scale, channels=preprocess.channels)
    if view == "projection":
        return projection
    salient, seen = render.saliency(planes), geometry.view(photo)
    if view == "sheet":
        return render.side_by_side(seen, projection, render.heat_map(salient), render.overlay(seen, salient))
    on_photo = geometry.to_photo(salient).clip(0, 1)
    return render.heat_map(on_photo) if view == "heat" else render.overlay(photo, on_photo)


def _feeds(model: Model, array: Array) -> Array:
    """Make a batch of one photograph: the model's own fixed batch size repeats it."""
    shape = model.type_of(model.inputs[0]).shape
    count = shape[0] if shape else None
    return np.repeat(array[None], count or 1, axis=0)


def _image_input(model: Model) -> tuple[str, tuple[int, int] | None, bool, str]:
    """Read layout, size, whether it is grey, and the element type off the model's first input."""
    types = model.type_of(model.inputs[0])
    if types.shape is None or len(types.shape) != 4:  # noqa: PLR2004
        raise InputError(f"{model.name}: its input {model.inputs[0]!r} has shape {types}, which is no image")
    shape = types.shape
    last = shape[3] in (1, 3, 4) and shape[1] not in (1, 3, 4)
    channels, height, width = (shape[3], shape[1], shape[2]) if last else shape[1:]
    size = (height, width) if height is not None and width is not None else None
    dtype = np.dtype(helper.tensor_dtype_to_np_dtype(types.dtype)).name
    return "NHWC" if last else "NCHW", size, channels == 1, dtype


def _safe(text: str) -> str:
    """Turn a label into a part of a file's name."""
    return re.sub(r"[^\w.-]+", "_", text).strip("_.")[:60] or "unit"
