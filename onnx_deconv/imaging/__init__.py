"""Photographs into arrays, arrays into files; the only room that imports Pillow.

The way in: :func:`read_image` makes any picture file an RGB array, :class:`Preprocess` makes that
array a model's input, and the :class:`Geometry` it returns knows where in the photograph the input
lies, so that a reconstruction can be put back on it. The way out: :func:`montage`,
:func:`save_png`, :func:`save_npy`.

Sizes are (height, width) everywhere; a *picture* is a uint8 array H×W×3, RGB, 0..255.
"""

from onnx_deconv.imaging.canvas import BLACK, Canvas, Colour, text_length, text_size
from onnx_deconv.imaging.channels import Channels
from onnx_deconv.imaging.geometry import Geometry
from onnx_deconv.imaging.montage import montage
from onnx_deconv.imaging.picture import Interpolation, PathLike, Picture, Size, check_picture
from onnx_deconv.imaging.preprocess import Dtype, Fit, Layout, Preprocess
from onnx_deconv.imaging.presets import PRESETS, preprocess_from_metadata, preset
from onnx_deconv.imaging.read import SUFFIXES, read_image
from onnx_deconv.imaging.transform import at_height, map_at, moved
from onnx_deconv.imaging.write import save_npy, save_png, webp

__all__ = [
    "BLACK",
    "PRESETS",
    "SUFFIXES",
    "Canvas",
    "Channels",
    "Colour",
    "Dtype",
    "Fit",
    "Geometry",
    "Interpolation",
    "Layout",
    "PathLike",
    "Picture",
    "Preprocess",
    "Size",
    "at_height",
    "check_picture",
    "map_at",
    "montage",
    "moved",
    "preprocess_from_metadata",
    "preset",
    "read_image",
    "save_npy",
    "save_png",
    "text_length",
    "text_size",
    "webp",
]
