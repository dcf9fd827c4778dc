"""Atlases and explanations made by a Ray cluster: the same to the byte as one process makes them.

Each actor holds one explainer. Whichever actor is free scans the next block of images, the actors merge the
partial atlases in a tree, and the strongest units are projected image by image; only compressed pictures
come back.
An actor that is lost is replaced by Ray, and its block is done again.
"""

from onnx_deconv.distributed.actor import Job
from onnx_deconv.distributed.cluster import Cluster
from onnx_deconv.distributed.workers import Workers

__all__ = ["Cluster", "Job", "Workers"]
