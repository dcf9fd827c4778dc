"""The atlas: what excites each feature map most over many images (Zeiler & Fergus 2013, figure 2).

One pass over the images keeps the strongest activations of every feature map (:mod:`scan`); then each
is projected back to the pixels that caused it (:mod:`project`); :mod:`store` keeps it all in files.
"""

from onnx_deconv.atlas.images import Images, images_of
from onnx_deconv.atlas.project import Projection, Projector
from onnx_deconv.atlas.scan import scan
from onnx_deconv.atlas.tally import Atlas, Strongest, merge

__all__ = [
    "Atlas",
    "Images",
    "Projection",
    "Projector",
    "Strongest",
    "images_of",
    "merge",
    "scan",
]
