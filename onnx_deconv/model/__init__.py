"""The user's model: read, made canonical for reading, and never changed."""

from onnx_deconv.model.canonical import InputShapes
from onnx_deconv.model.load import (
    Source,
    digest,
    load,
    naming_the_file,
    parse_input_shape,
    read_proto,
)
from onnx_deconv.model.model import Array, Model
from onnx_deconv.model.protos import all_tensors

__all__ = [
    "Array",
    "InputShapes",
    "Model",
    "Source",
    "all_tensors",
    "digest",
    "load",
    "naming_the_file",
    "parse_input_shape",
    "read_proto",
]
