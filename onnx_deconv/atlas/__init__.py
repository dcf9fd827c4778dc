"""The atlas: what excites each feature map most over many images (Zeiler & Fergus 2013, figure 2).

One scan of the images keeps the strongest activations of every feature map (:func:`scan`); then each is
projected back to the pixels that caused it (:class:`Projector`); :mod:`onnx_deconv.atlas.writer` and
:mod:`onnx_deconv.atlas.reader` keep the result in files.
"""

from onnx_deconv.atlas.images import Images, images_of
from onnx_deconv.atlas.jobs import Projection
from onnx_deconv.atlas.projector import Projector
from onnx_deconv.atlas.scan import scan
from onnx_deconv.atlas.top_activations import Atlas, TopActivations, merge

__all__ = [
    "Atlas",
    "Images",
    "Projection",
    "Projector",
    "TopActivations",
    "images_of",
    "merge",
    "scan",
]
