"""Preprocessing as Hugging Face and timm describe it, in a file beside the model."""

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from onnx_deconv.errors import InputError, way
from onnx_deconv.imaging.picture import Interpolation, Size

NAMES = ("preprocessor_config.json", "config.json")
"""The files that are looked for, in this order: Hugging Face's, then timm's."""

_RESAMPLING: Mapping[Any, Interpolation] = {
    0: "nearest",
    2: "bilinear",
    3: "bicubic",
    "nearest": "nearest",
    "bilinear": "bilinear",
    "bicubic": "bicubic",
}


def _way_out() -> str:
    return f"choose a preprocessing by {way('--preset', 'preprocess=')}"


def config_beside(folder: Path) -> Path | None:
    """Find the file that describes the preprocessing of a model in a folder.

    Parameters
    ----------
    folder
        The model's; of one named ``onnx``, as Hugging Face's repositories have it, the parent too.

    Returns
    -------
    pathlib.Path or None
        ``None`` where no file there says anything about preprocessing.
    """
    homes = [folder, folder.parent] if folder.name == "onnx" else [folder]
    found = (home / name for home in homes for name in NAMES)
    return next((path for path in found if path.is_file() and _is_about_preprocessing(path)), None)


def changes_from(path: Path) -> dict[str, Any]:
    """Read a preprocessing from such a file.

    Parameters
    ----------
    path
        A ``preprocessor_config.json`` of Hugging Face's, or a ``config.json`` of timm's.

    Returns
    -------
    dict
        Attributes of :class:`~onnx_deconv.imaging.Preprocess`.

    Raises
    ------
    InputError
        If the file cannot be read, or describes what cannot be done here.
    """
    config = _read(path)
    if not _describes(config):
        raise InputError(f"{path}: says nothing about preprocessing; {_way_out()}")
    try:
        timm = _of_timm(config)
        return _timm(timm) if timm is not None else _hugging_face(config)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise InputError(f"{path}: its preprocessing cannot be read ({reason}); {_way_out()}") from error


def _read(path: Path) -> Mapping[str, Any]:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{path}: cannot be read as JSON ({reason}); {_way_out()}") from error
    return config if isinstance(config, Mapping) else {}


def _is_about_preprocessing(path: Path) -> bool:
    if path.name == NAMES[0]:
        return True
    with suppress(InputError):  # many programs call their settings config.json
        return _describes(_read(path))
    return False


def _describes(config: Mapping[str, Any]) -> bool:
    return _of_timm(config) is not None or bool({"do_normalize", "do_rescale", "image_mean"} & set(config))


def _of_timm(config: Mapping[str, Any]) -> Mapping[str, Any] | None:
    inner = config.get("pretrained_cfg", config)
    return inner if isinstance(inner, Mapping) and "input_size" in inner else None


def _timm(config: Mapping[str, Any]) -> dict[str, Any]:
    """The transform that timm evaluates with: resize by crop_pct, crop, scale to 0..1, normalise."""
    _, height, width = config["input_size"]
    share, mode = float(config.get("crop_pct") or 1.0), config.get("crop_mode") or "center"
    if mode != "center" and not (mode == "squash" and share == 1):
        raise ValueError(f"crop_mode {mode} is not known")
    return {
        "size": (int(height), int(width)),
        "fit": "stretch" if mode == "squash" else "crop",
        "resize": int(max(height, width) / share) if mode == "center" else None,
        "interpolation": _interpolation(config.get("interpolation", "bilinear")),
        "scale": 1 / 255,
        "mean": _numbers(config["mean"]),
        "std": _numbers(config["std"]),
    }


def _hugging_face(config: Mapping[str, Any]) -> dict[str, Any]:
    """The steps of an image processor: resize, crop, rescale, normalise; each may be left out."""
    changes: dict[str, Any] = {"interpolation": _interpolation(config.get("resample", 2))}
    changes |= _hugging_face_size(config)
    rescale = config.get("do_rescale", True)
    changes["scale"] = float(config.get("rescale_factor", 1 / 255)) if rescale else 1.0
    normalise = config.get("do_normalize", True)
    changes["mean"] = _numbers(config["image_mean"]) if normalise else (0.0,)
    changes["std"] = _numbers(config["image_std"]) if normalise else (1.0,)
    if config.get("do_flip_channel_order"):
        changes["channels"] = "BGR"
    return changes


def _hugging_face_size(config: Mapping[str, Any]) -> dict[str, Any]:
    size, crop = config.get("size"), config.get("crop_size")
    resizes, crops = config.get("do_resize", True), config.get("do_center_crop", crop is not None)
    shortest = size.get("shortest_edge") if isinstance(size, Mapping) else size if crops else None
    share = config.get("crop_pct")
    if resizes and shortest is not None and share is not None:  # ConvNeXt: the crop is the size itself
        return {"size": (int(shortest),) * 2, "fit": "crop", "resize": int(shortest / share)}
    if crops and crop is not None:
        changes: dict[str, Any] = {"size": _pair(crop), "fit": "crop"}
        if resizes and shortest is not None:
            changes["resize"] = int(shortest)
        return changes
    if resizes and size is not None:
        fit = "crop" if shortest is not None else "stretch"
        whole = (int(shortest),) * 2 if shortest is not None else _pair(size)
        return {"size": whole, "fit": fit} | ({"resize": int(shortest)} if shortest is not None else {})
    return {}


def _pair(size: Any) -> Size:
    if isinstance(size, Mapping):
        return int(size["height"]), int(size["width"])
    pair = size if isinstance(size, list) else [size, size]
    return int(pair[0]), int(pair[1])


def _numbers(values: Any) -> tuple[float, ...]:
    return tuple(float(v) for v in values) if isinstance(values, list) else (float(values),)


def _interpolation(name: Any) -> Interpolation:
    if name not in _RESAMPLING:
        raise ValueError(f"resampling {name!r} is none of nearest, bilinear, bicubic")
    return _RESAMPLING[name]
