"""Photographs into arrays, arrays into pictures; the only room that imports Pillow.

From a file to a model: :func:`read_image` makes any picture file an RGB array, :class:`Preprocess` makes
that array a model's input (:func:`preprocess_for` finds out how), and :class:`Geometry` remembers how the
photograph was placed in it, so that a reconstruction can be put back on the photograph.
Numbers that are no photographs are read by :func:`read_numbers`, and drawn by :class:`SignalViews` and
:class:`VolumeViews`; images of any bands by :class:`Views`.
From numbers to a file: :func:`projection`, :func:`saliency` and :func:`heat_map` give them colours,
:class:`Views` are all views of one reconstruction, :func:`montage` lays pictures out on a sheet, and
:func:`save_png` writes them. Charts are in :mod:`onnx_deconv.imaging.charts`, their legends in
:mod:`onnx_deconv.imaging.legends`.

Sizes are (height, width) everywhere; a *picture* is a uint8 array H×W×3, RGB, 0..255.
"""

from onnx_deconv.imaging.arrays import NUMBER_SUFFIXES, holds_numbers, read_numbers
from onnx_deconv.imaging.boxes import Box, BoxRow, read_boxes
from onnx_deconv.imaging.canvas import BLACK, Canvas, Colour, outlined, text_length, text_size
from onnx_deconv.imaging.channels import Channels, InputAxes, Layout, channels_first
from onnx_deconv.imaging.colour import (
    NEGLIGIBLE,
    PROJECTION_PERCENTILE,
    SALIENCY_PERCENTILE,
    Saliency,
    heat_map,
    projection,
    saliency,
    scale_of,
)
from onnx_deconv.imaging.custom import CustomPreprocess
from onnx_deconv.imaging.geometry import Geometry
from onnx_deconv.imaging.lattice import Lattice, lattice_of, magnitude_of
from onnx_deconv.imaging.layout import SheetLayout
from onnx_deconv.imaging.model_input import ImageInput, preprocess_for, takes_pictures
from onnx_deconv.imaging.montage import beside, joined, laid_out, montage
from onnx_deconv.imaging.photo import Photo
from onnx_deconv.imaging.picture import Interpolation, PathLike, Picture, Size, check_picture
from onnx_deconv.imaging.preprocess import Dtype, Fit, Preprocess
from onnx_deconv.imaging.presets import PRESETS, preprocess_from_metadata, preset
from onnx_deconv.imaging.read import SUFFIXES, TooManyPixelsError, has_fourth_band, read_image, size_of
from onnx_deconv.imaging.signal_views import SignalViews
from onnx_deconv.imaging.sources import Source, holds_several, is_array, read_source
from onnx_deconv.imaging.transform import at_height, at_most, jpeg_compressed, map_resized, moved
from onnx_deconv.imaging.vector import VECTOR, SheetFormat, save_sheet
from onnx_deconv.imaging.views import CAPTIONS, ON_PHOTO, VIEWS, Scales, Views, overlay
from onnx_deconv.imaging.volume_views import VolumeViews
from onnx_deconv.imaging.write import FORMATS, Image, as_image, png, save_npy, save_picture, save_png, webp

__all__ = [
    "BLACK",
    "CAPTIONS",
    "FORMATS",
    "NEGLIGIBLE",
    "NUMBER_SUFFIXES",
    "ON_PHOTO",
    "PRESETS",
    "PROJECTION_PERCENTILE",
    "SALIENCY_PERCENTILE",
    "SUFFIXES",
    "VECTOR",
    "VIEWS",
    "Box",
    "BoxRow",
    "Canvas",
    "Channels",
    "Colour",
    "CustomPreprocess",
    "Dtype",
    "Fit",
    "Geometry",
    "Image",
    "ImageInput",
    "InputAxes",
    "Interpolation",
    "Lattice",
    "Layout",
    "PathLike",
    "Photo",
    "Picture",
    "Preprocess",
    "Saliency",
    "Scales",
    "SheetFormat",
    "SheetLayout",
    "SignalViews",
    "Size",
    "Source",
    "TooManyPixelsError",
    "Views",
    "VolumeViews",
    "as_image",
    "at_height",
    "at_most",
    "beside",
    "channels_first",
    "check_picture",
    "has_fourth_band",
    "heat_map",
    "holds_numbers",
    "holds_several",
    "is_array",
    "joined",
    "jpeg_compressed",
    "laid_out",
    "lattice_of",
    "magnitude_of",
    "map_resized",
    "montage",
    "moved",
    "outlined",
    "overlay",
    "png",
    "preprocess_for",
    "preprocess_from_metadata",
    "preset",
    "projection",
    "read_boxes",
    "read_image",
    "read_numbers",
    "read_source",
    "saliency",
    "save_npy",
    "save_picture",
    "save_png",
    "save_sheet",
    "scale_of",
    "size_of",
    "takes_pictures",
    "text_length",
    "text_size",
    "webp",
]
