"""Models and pairs, ready to run: the only room that imports onnxruntime, and other runtimes."""

from onnx_deconv.runtime.memory import memory_free, memory_needed, peak_memory
from onnx_deconv.runtime.not_a_number import first_nan, why_not_finite
from onnx_deconv.runtime.pair_session import PairSession, companion, seed_type
from onnx_deconv.runtime.provers import PROVERS, Prover
from onnx_deconv.runtime.providers import Providers
from onnx_deconv.runtime.session import (
    Session,
    clock_of,
    device_of,
    limit_threads,
    numpy_of,
    return_freed_memory,
    workers,
)
from onnx_deconv.runtime.signal_meter import SignalMeter, Survival, percent

__all__ = [
    "PROVERS",
    "PairSession",
    "Prover",
    "Providers",
    "Session",
    "SignalMeter",
    "Survival",
    "clock_of",
    "companion",
    "device_of",
    "first_nan",
    "limit_threads",
    "memory_free",
    "memory_needed",
    "numpy_of",
    "peak_memory",
    "percent",
    "return_freed_memory",
    "seed_type",
    "why_not_finite",
    "workers",
]
