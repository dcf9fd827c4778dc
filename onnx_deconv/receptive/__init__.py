"""Receptive fields: which pixels of the image a unit can see.

Along each axis of the image every value carries, for each of its positions, the first and the last
pixel that can change it. An operator is described by its *taps*: the input positions that each output
position reads; taps in the padding read nothing. So borders, strides, dilations, branches and
residuals come out exactly (but for branches that part at a border of a ``Pad`` node, where the box may
be too large), where the usual closed form (Araujo, Norris & Sim, "Computing Receptive
Fields of Convolutional Neural Networks", Distill 2019) is right for units far from the border alone.
"""

from onnx_deconv.receptive.field import Raster, ReceptiveField, rasters, receptive_field

__all__ = ["Raster", "ReceptiveField", "rasters", "receptive_field"]
