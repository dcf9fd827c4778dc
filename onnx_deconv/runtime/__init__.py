"""Models and pairs, ready to run: the only room that imports onnxruntime."""

from onnx_deconv.runtime.memory import memory_free, memory_needed
from onnx_deconv.runtime.pair_session import PairSession, companion
from onnx_deconv.runtime.providers import Providers
from onnx_deconv.runtime.session import Session, device_of, numpy_of, return_freed_memory, workers

__all__ = [
    "PairSession",
    "Providers",
    "Session",
    "companion",
    "device_of",
    "memory_free",
    "memory_needed",
    "numpy_of",
    "return_freed_memory",
    "workers",
]
