"""What an explain graph's manifest says of all that goes in and comes out."""

from collections.abc import Mapping
from dataclasses import asdict
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import TensorProto, ValueInfoProto, helper

from onnx_deconv.compiler.pair import Pair
from onnx_deconv.compiler.seed_graph import EXPLAINED, OWN_TOP, SCORES, GraphSeed, TargetKind
from onnx_deconv.errors import ModelError
from onnx_deconv.model import Array
from onnx_deconv.model.value_axes import Axes

if TYPE_CHECKING:  # Pillow takes time to load, which graphs without pictures need not spend
    from onnx_deconv.imaging import Layout, Preprocess

SHARED = (
    "format", "version", "model", "explained", "scores", "semantics", "rules", "image_dependence", "batch",
    "example", "preprocessing", "labels",
)  # fmt: skip
"""What an explain graph's manifest has in common with a pair's."""
_TARGET = (
    "which channel (class) to explain in each image; -1: the image's strongest; numbers of none give zeros"
)
_TARGET_UNIT = (
    "which unit to explain in each image, by its index in the explained value, in row-major order over "
    "the axes behind the batch; -1: the image's strongest"
)
_TARGET_WEIGHTS = "a weight for each channel (class); zeros: the image's strongest"
_TARGET_ARRAY = (
    "a signal of the explained value's shape that is sent back as it is; zeros: the image's strongest class, "
    "if one can be"
)
_SCORES = (
    "each channel's (class's) strongest activation, or the logarithm of its best odds against the others "
    "where a softmax compares classes, or each unit's activation; the strongest is taken for -1"
)
_EXPLAINED = "what was explained in each image: what 'target' said, or the strongest"


def target_entry(
    pair: Pair, name: str, target: TargetKind, seed: GraphSeed, top: int, count: int | None
) -> dict[str, Any]:
    """Describe the input that says what to explain.

    Where the batch is free, one target may do for all images.
    """
    batch, explained = _batch(pair), pair.manifest["explained"]
    images = batch if isinstance(batch, int) else "targets"
    if target == "array":
        return {"name": name, "shape": explained["shape"], "dtype": "float", "meaning": _TARGET_ARRAY}
    if target == "weights":
        weights = [images, count or "channels"]
        return {"name": name, "shape": weights, "dtype": "float", "meaning": _TARGET_WEIGHTS}
    shape = [images] if top == 1 else [images, top]
    meaning = _TARGET_UNIT if seed == "unit" else _TARGET
    return {"name": name, "shape": shape, "dtype": "int64", "meaning": meaning}


def own_top(manifest: Mapping[str, Any]) -> dict[str, Array]:
    """Return what to give as ``target`` to have each image's strongest explained, by the input's name."""
    target = manifest["target"]
    shape = [size if isinstance(size, int) else 1 for size in target["shape"]]
    if target["dtype"] == "float":
        return {target["name"]: np.zeros(shape, np.float32)}
    return {target["name"]: np.full(shape, OWN_TOP)}


def other_target(
    manifest: Mapping[str, Any], found: Mapping[str, Array], rng: np.random.Generator
) -> dict[str, Array]:
    """Return what to give as ``target`` to have something else explained than each image's strongest.

    Parameters
    ----------
    manifest
        The explain graph's.
    found
        What the graph gave for :func:`own_top`, by output name.
    rng
        Where weights and arrays come from.
    """
    ((target, top),) = own_top(manifest).items()
    if top.dtype == np.float32:
        return {target: np.asarray(rng.standard_normal(top.shape, np.float32))}
    told = {entry.get("meaning"): entry["name"] for entry in manifest["outputs"]}
    count = prod(found[told[_SCORES]].shape[1:])
    return {target: (found[told[_EXPLAINED]] + 1) % count}


def answers(pair: Pair, names: Mapping[str, str], count: int | None, top: int) -> list[dict[str, Any]]:
    """Describe the outputs that say what was chosen, and by what."""
    batch, precision = _batch(pair), np.dtype(seed_type(pair))
    dtype = TensorProto.DataType.Name(helper.np_dtype_to_tensor_dtype(precision)).lower()
    chosen = [batch] if top == 1 else [batch, top]
    return [
        {"name": names[SCORES], "shape": [batch, count], "dtype": dtype, "meaning": _SCORES},
        {"name": names[EXPLAINED], "shape": chosen, "dtype": "int64", "meaning": _EXPLAINED},
    ]


def _batch(pair: Pair) -> Any:
    explained = pair.manifest["explained"]
    return (Axes.of(explained["axes"]).sizes(explained["shape"]) or [None])[0]


def results(pair: Pair) -> dict[str, Mapping[str, Any]]:
    """Return what the companion gives, by name."""
    return {r["name"]: r for r in pair.manifest["reconstructions"]}


def seed_type(pair: Pair) -> str:
    """Return the type of the companion's numbers, as NumPy calls it."""
    return str(pair.manifest["semantics"]["precision"])


def result_entries(pair: Pair, names: Mapping[str, str], top: int) -> list[dict[str, Any]]:
    """Describe the reconstructions, one for each input that is sent a signal."""
    return [
        {**result, "name": names[name], "shape": _with_top(result["shape"], top)}
        for name, result in results(pair).items()
    ]


def _with_top(shape: Any, top: int) -> Any:
    return shape if top == 1 or shape is None else [shape[0], top, *shape[1:]]


def heat_entry(result: Mapping[str, Any], name: str, layout: "Layout") -> dict[str, Any]:
    """Describe the heat map of a reconstruction."""
    shape = result["shape"]
    if shape is not None:
        *lead, a, b, c = shape
        shape = [*lead, b, c, 3] if layout == "NCHW" else [*lead, a, b, 3]
    return {"name": name, "of": result["name"], "shape": shape, "dtype": "uint8"}


def picture_entry(inputs: Any, name: str, preprocess: "Preprocess") -> dict[str, Any]:
    """Describe the picture that takes the place of the model's one input.

    Raises
    ------
    ModelError
        If the model has several.
    """
    if len(inputs) != 1:
        raise ModelError(f"the model takes {len(inputs)} inputs: a picture can be prepared for one alone")
    n, *rest = inputs[0]["shape"] or [None] * 4
    sizes = rest[1:] if preprocess.layout == "NCHW" else rest[:2]
    return {"name": name, "of": inputs[0]["name"], "shape": [n, *sizes, 3], "dtype": "uint8"}


def preparation(pair: Pair, name: str, preprocess: "Preprocess") -> dict[str, Any]:
    """Say how pictures are prepared, which the graph itself does, and of what size they are."""
    ((batch, *rest),) = pair.manifest["example"].values()
    sizes = rest[1:] if preprocess.layout == "NCHW" else rest[:2]
    return {"preprocessing": asdict(preprocess), "example": {name: [batch, *sizes, 3]}}


def value_info(entry: Mapping[str, Any]) -> ValueInfoProto:
    """Declare an input or output as the manifest describes it."""
    dtype = TensorProto.DataType.Value(str(entry["dtype"]).upper())
    return helper.make_tensor_value_info(entry["name"], dtype, entry["shape"])
