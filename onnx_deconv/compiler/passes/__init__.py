"""Optimisation passes: rewrites of a companion or an explain graph that compute the same, faster.

A pass has a name and may be left out. A list of passes for each device holds those that were measured to help
there; each pass says where it did, docs/performance.md has the figures and ``tools/bench_passes.py`` repeats
them. Standard operators are replaced by standard operators alone.
"""

from collections.abc import Iterable

from onnx import ModelProto

# Importing a pass registers it.
from onnx_deconv.compiler.passes import (  # noqa: F401
    apart,
    batches,
    blocked,
    chosen,
    copies,
    depthwise,
    filters,
    forms,
    levels,
    masks,
    padding,
    pools,
    residuals,
    scalings,
    shapes,
    sizes,
    splits,
    sums,
    uniform,
    windows,
    winograd,
)
from onnx_deconv.compiler.passes.registry import PASSES
from onnx_deconv.compiler.passes.rewriter import Rewriter
from onnx_deconv.errors import InputError
from onnx_deconv.model.canonical import put_in_order
from onnx_deconv.model.shape_inference import state_sizes

__all__ = ["COMPANION", "EXPLAIN", "MAXIMA", "PASSES", "apply_passes", "with_sizes"]

EXPLAIN = {
    "cpu": (
        "trims", "filters", "uniform", "chosen", "depthwise", "maxima", "blocked", "pools", "batches",
        "scalings", "splits", "winograd", "sums", "masks", "residuals",
    ),
    "cuda": ("filters", "uniform", "pools", "batches", "pads"),
}  # fmt: skip
"""The passes for an explain graph, in order, by the device that it is made for.

``blocked`` needs convolutions in float32, which GPUs may round (TF32).
"""

COMPANION = {
    "cpu": ("trims", "filters", "uniform", "depthwise", "scalings", "sums", "masks", "residuals"),
    "cuda": ("filters", "uniform", "pads", "shapes"),
}
"""The passes for a companion, in order, by the device on which it is loaded."""

MAXIMA: dict[str, tuple[str, ...]] = {"cpu": ("shared",), "cuda": ()}
"""The passes for a model that gives the maxima of its feature maps, in order, by device."""


def apply_passes(proto: ModelProto, passes: Iterable[str]) -> ModelProto:
    """Apply optimisation passes to a copy of a model.

    Parameters
    ----------
    proto
        A companion or an explain graph; not changed. Large tensors may be external.
    passes
        Names out of :data:`PASSES`, in the order in which they are applied.

    Returns
    -------
    ModelProto
        The copy, with the same inputs and outputs.

    Raises
    ------
    InputError
        If there is no pass of that name.
    """
    passes = list(passes)
    unknown = [name for name in passes if name not in PASSES]
    if unknown:
        raise InputError(f"no optimisation pass is named {unknown[0]!r}: choose among {', '.join(PASSES)}")
    copy = ModelProto()
    copy.CopyFrom(proto)
    put_in_order(copy.graph, proto.graph.name)  # as passes go back from the outputs to see what is read
    rewriter, finished = Rewriter(copy), b""
    for name in passes:
        PASSES[name](rewriter)
        if not finished or rewriter.changed or copy.SerializeToString(deterministic=True) != finished:
            rewriter.finish()
            # What is known of a graph holds as long as no pass changes it; most passes find nothing to do.
            rewriter, finished = Rewriter(copy), copy.SerializeToString(deterministic=True)
    return copy


def with_sizes(proto: ModelProto) -> ModelProto:
    """Copy a model whose inputs got sizes: what follows from them is constant, and written down."""
    copy = apply_passes(proto, ["sizes"])
    state_sizes(copy)
    return copy
