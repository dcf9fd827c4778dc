"""Lowerings: rewrites of a companion or an explain graph that compute the same, faster.

Each is a pass with a name, may be left out, and is in the list for a provider because it was measured to
be faster there (docs/performance.md). Only standard operators come and go.
"""

from collections.abc import Iterable

from onnx import ModelProto

from onnx_deconv.compiler.passes import (  # noqa: F401
    blocked,
    depthwise,
    filters,
    pools,
    residuals,
    scalings,
    splits,
    sums,
    uniform,
    winograd,
)
from onnx_deconv.compiler.passes.registry import PASSES
from onnx_deconv.compiler.passes.rewriter import Rewriter
from onnx_deconv.errors import InputError

__all__ = ["COMPANION", "EXPLAIN", "PASSES", "Rewriter", "apply_passes"]

EXPLAIN = {
    "cpu": (
        "filters", "uniform", "depthwise", "blocked", "pools",
        "scalings", "splits", "winograd", "sums", "residuals",
    ),
    "cuda": ("filters", "uniform", "pools"),
}  # fmt: skip
"""What is done to an explain graph, by the device that it is made for.

``blocked`` needs convolutions in float32, which GPUs may round (TF32).
"""

COMPANION = {
    "cpu": ("filters", "uniform", "depthwise", "scalings", "sums", "residuals"),
    "cuda": ("filters", "uniform"),
}
"""What is done to a companion when it is loaded, by device."""


def apply_passes(proto: ModelProto, passes: Iterable[str]) -> ModelProto:
    """Return a copy of a model to which passes were applied, in order.

    Raises
    ------
    InputError
        If there is no pass of that name.
    """
    passes = list(passes)
    unknown = [name for name in passes if name not in PASSES]
    if unknown:
        raise InputError(f"no pass is named {unknown[0]!r}: choose among {', '.join(PASSES)}")
    copy = ModelProto()
    copy.CopyFrom(proto)
    for name in passes:
        rewriter = Rewriter(copy)
        PASSES[name](rewriter)
        rewriter.finish()
    return copy
