"""Explain any CNN in an ONNX file."""

__version__ = "0.1.0"
