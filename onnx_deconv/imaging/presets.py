"""Presets for preprocessing, and what a model's metadata say about it."""

import difflib
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from onnx_deconv.errors import InputError
from onnx_deconv.imaging.channels import Channels
from onnx_deconv.imaging.picture import Size
from onnx_deconv.imaging.preprocess import Preprocess

PRESETS: Mapping[str, Preprocess] = MappingProxyType(
    {
        "imagenet": Preprocess(scale=1 / 255, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)),
        "imagenet-caffe": Preprocess(channels="BGR", mean=(103.939, 116.779, 123.68)),
        "imagenet-tf": Preprocess(scale=1 / 127.5, mean=(1.0,)),
        "unit": Preprocess(scale=1 / 255),
        "raw": Preprocess(),
    }
)
"""Common kinds of preprocessing, all bilinear with a centre crop of 224×224 from a shorter side of 256:
``imagenet`` (PyTorch), ``imagenet-caffe`` (BGR, 0..255 less the mean), ``imagenet-tf`` (-1..1),
``unit`` (0..1) and ``raw`` (0..255)."""
_RANGES: Mapping[str, Mapping[str, Any]] = {
    "NominalRange_0_255": {"scale": 1.0, "mean": (0.0,), "std": (1.0,)},
    "Normalized_0_1": {"scale": 1 / 255, "mean": (0.0,), "std": (1.0,)},
    "Normalized_1_1": {"scale": 1 / 127.5, "mean": (1.0,), "std": (1.0,)},
    "NominalRange_16_235": {"scale": 219 / 255, "mean": (-16.0,), "std": (1.0,)},
}
_PIXEL_FORMATS: Mapping[str, Channels] = {
    "Gray8": "L",
    "Rgb8": "RGB",
    "Bgr8": "BGR",
    "Rgba8": "RGBA",
    "Bgra8": "BGRA",
}


def preset(name: str) -> Preprocess:
    """Look up one of :data:`PRESETS`.

    Parameters
    ----------
    name
        A key of :data:`PRESETS`.

    Raises
    ------
    InputError
        If there is none of that name; the message offers some.
    """
    if name not in PRESETS:
        close = difflib.get_close_matches(name, PRESETS, n=1)
        hint = f"did you mean {close[0]}?" if close else f"choose one of {', '.join(PRESETS)}"
        raise InputError(f"no preprocessing preset is named {name!r}: {hint}")
    return PRESETS[name]


def preprocess_from_metadata(metadata: Mapping[str, str], base: Preprocess) -> Preprocess:
    """Apply what a model's metadata say about the pictures it takes.

    1. ``preset`` (this package's key) names one of :data:`PRESETS`, which replaces everything but the
       size, the layout and the element type.
    2. ``Image.NominalPixelRange`` (ONNX) replaces `scale`, `mean` and `std`, unless there is a preset.
    3. ``Image.BitmapPixelFormat`` (ONNX) replaces `channels`; `mean` and `std` are reordered with them.
    4. ``size`` (this package's key) is ``"224"`` or, height first, ``"224x320"``.

    A base with one channel keeps one channel. ``Image.ColorSpaceGamma`` is ignored, as photographs are
    sRGB; so are values that are unknown here.

    Parameters
    ----------
    metadata
        The model's ``metadata_props`` as a mapping.
    base
        The preprocessing where the metadata say nothing.

    Raises
    ------
    InputError
        If ``preset`` or ``size`` is malformed.
    """
    result = base
    if "preset" in metadata:
        kept = {name: getattr(base, name) for name in ("size", "layout", "dtype")}
        result = preset(metadata["preset"]).replace(**kept)
    else:
        result = result.replace(**_RANGES.get(metadata.get("Image.NominalPixelRange", ""), {}))
    wanted = _PIXEL_FORMATS.get(metadata.get("Image.BitmapPixelFormat", ""), result.channels)
    result = result.replace(channels="L" if base.channels == "L" else wanted)
    if "size" in metadata:
        result = result.replace(size=_parse_size(metadata["size"]))
    return result


def _parse_size(text: str) -> Size:
    match = re.fullmatch(r"\s*(\d{1,6})\s*(?:[x,]\s*(\d{1,6})\s*)?", text)
    if match is None:
        raise InputError(f"size is {text!r}: write one number, or height and width as in 224x320")
    return int(match[1]), int(match[2] or match[1])
