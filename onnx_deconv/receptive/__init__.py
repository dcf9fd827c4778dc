"""Receptive fields: which pixels of the image a unit can see.

For every position of every value, and along each axis of the image, the first and the last pixel are
computed that can change it. An operator is described by its *taps*: the input positions that each output
position reads; taps in the padding read nothing. So the result is exact at borders too, for any strides,
dilations, branches and residuals, where the usual closed form (Araujo, Norris & Sim, "Computing Receptive
Fields of Convolutional Neural Networks", Distill 2019) is right only for units far from the border. There
is one exception: after a ``Pad`` node that only some branches pass, the box may be too large.
"""

from onnx_deconv.receptive.crops import Crop, CropError, CropGrid
from onnx_deconv.receptive.field import Raster, ReceptiveField, rasters, receptive_field, receptive_fields

__all__ = [
    "Crop",
    "CropError",
    "CropGrid",
    "Raster",
    "ReceptiveField",
    "rasters",
    "receptive_field",
    "receptive_fields",
]
