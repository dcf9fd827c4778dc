"""onnxruntime itself, and its execution providers: what is asked for, what is installed, what is used."""

import functools
import importlib.metadata
import logging
from collections.abc import Sequence
from typing import Any

from onnx_deconv.errors import RuntimeUnavailableError, given, way

logger = logging.getLogger(__name__)

Providers = str | Sequence[str]
"""``auto``, or what to try in order: ``cpu``, ``cuda``, or onnxruntime's own names."""

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
_NAMES = {"cpu": CPU, "cuda": CUDA}
_INSTALL = "pip install 'onnx-deconv[cpu]' (or [gpu] for CUDA)"


def resolve(providers: Providers) -> list[str]:
    """Return onnxruntime's own names of the providers to try, in order.

    Raises
    ------
    RuntimeUnavailableError
        If the installed build has none of a name that was given.
    """
    available = onnxruntime().get_available_providers()
    if providers == "auto":
        names = [p for p in (CUDA, CPU) if p in available]
    else:
        listed = [providers] if isinstance(providers, str) else list(providers)
        names = [_NAMES.get(p, p) for p in listed]
    for name in names:
        if name not in available:
            remedy = (
                "pip install 'onnx-deconv[gpu]' in place of the CPU build"
                if "CUDA" in name
                else f"choose others ({way('--providers', 'providers=')})"
            )
            raise RuntimeUnavailableError(f"the installed onnxruntime has no {name}: {remedy}")
    if CUDA in names:
        preload = getattr(onnxruntime(), "preload_dlls", None)
        if preload is not None:
            preload()
    return names


def check(asked: Providers, wanted: Sequence[str], got: Sequence[str]) -> None:
    """Compare what was asked for with what the session reports: onnxruntime falls back silently."""
    if CUDA not in wanted or CUDA in got:
        return
    if asked != "auto":
        raise RuntimeUnavailableError(
            "the CUDA provider could not be started: it needs an NVIDIA GPU with its driver, CUDA 13 and "
            "cuDNN 9 (pip install 'onnx-deconv[gpu]' brings both); or choose cpu "
            f"({given('providers', 'cpu')})"
        )
    say_once("no usable CUDA device: running on the CPU")


@functools.cache
def say_once(message: str) -> None:
    """Log a warning, the first time only."""
    logger.warning(message)


@functools.cache
def onnxruntime() -> Any:
    """Import onnxruntime.

    Raises
    ------
    RuntimeUnavailableError
        If it is not installed.
    """
    try:
        import onnxruntime as ort  # noqa: PLC0415  (an extra: the rest of the package works without it)
    except ImportError as error:
        raise RuntimeUnavailableError(f"onnxruntime is not installed: {_INSTALL}") from error
    ort.set_default_logger_severity(4)  # its own lines would stand before ours
    builds = [n for n in ("onnxruntime", "onnxruntime-gpu") if _installed(n)]
    if len(builds) > 1:
        logger.warning(
            "onnxruntime and onnxruntime-gpu are both installed and overwrite each other: remove one"
        )
    return ort


def _installed(distribution: str) -> bool:
    try:
        importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True
