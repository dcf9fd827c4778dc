"""The model inside an explain graph: who explains such a graph means the model that it was made of."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx
from onnx import ModelProto, helper

from onnx_deconv.compiler.manifest import checked_graph_manifest
from onnx_deconv.compiler.package import EXPLAIN
from onnx_deconv.compiler.pair import MANIFEST_KEY
from onnx_deconv.errors import ModelError
from onnx_deconv.model import InputShapes, Model, Source, load
from onnx_deconv.model.protos import every_node, replace

_OF_PIXELS = ("preset", "Image.NominalPixelRange", "Image.BitmapPixelFormat")
"""Metadata on how pixels become numbers: untrue of a graph that takes the pixels themselves."""


def load_model(
    source: Source, input_shapes: InputShapes | None = None
) -> tuple[Model, dict[str, Any] | None]:
    """Load a model, or the one inside an explain graph: the file itself, or the folder it was written to.

    Parameters
    ----------
    source, input_shapes
        As for :func:`onnx_deconv.model.load`; a folder is one that ``onnx-deconv convert`` wrote.

    Returns
    -------
    model : Model
        An explain graph's without ``target`` and what it explains. It takes pictures where the graph does.
    manifest : dict or None
        The explain graph's; ``None`` for any other model.

    Raises
    ------
    ModelError
        If the model cannot be read.
    """
    path = _graph_in(source)
    model = load(source if path is None else path, input_shapes)
    try:
        manifest = checked_graph_manifest(model.metadata.get(MANIFEST_KEY, "{}"))
    except ValueError as error:
        raise ModelError(f"{model.name}: no graph that can be explained ({error}); make it again") from error
    if manifest is None:
        return model, None
    inner = load(_without_explanation(_whole(source if path is None else path), manifest), input_shapes)
    inner.name = model.name
    return inner, manifest


def explained_value(manifest: Mapping[str, Any]) -> str | None:
    """Return the value that a pair or an explain graph explains; ``None`` for a graph of classes."""
    scores, explained = manifest["scores"], manifest["explained"]
    if explained["output"] is None and manifest.get("ranking") == explained["value"]:
        return str(explained["value"])
    of_classes = scores is not None and manifest.get("ranking") in (scores["value"], scores.get("ranked"))
    return None if of_classes else str(explained["value"])


def _graph_in(source: Source) -> Path | None:
    """Return the explain graph in a folder."""
    if not isinstance(source, str | os.PathLike):
        return None
    file = Path(source) / EXPLAIN
    return file if file.is_file() else None


def _whole(source: Source) -> ModelProto:
    """Read a model with all its weights."""
    if isinstance(source, ModelProto):
        return source
    if isinstance(source, str | os.PathLike):
        return onnx.load(source)
    return ModelProto.FromString(bytes(source))


def _without_explanation(proto: ModelProto, manifest: Mapping[str, Any]) -> ModelProto:
    """Keep what the model's own outputs are made of."""
    own = {entry["name"] for entry in manifest["outputs"] if not {"of", "meaning"} & set(entry)}
    inner = ModelProto()
    inner.CopyFrom(proto)
    graph, needed = inner.graph, set(own)
    kept = []
    for node in reversed(graph.node):  # those that make a value stand before those that read it
        if needed.intersection(node.output):
            kept.append(node)
            needed.update(v for each in every_node([node]) for v in each.input)
    replace(graph.node, kept[::-1])
    replace(graph.output, [o for o in graph.output if o.name in own])
    replace(graph.input, [i for i in graph.input if i.name != manifest["target"]["name"]])
    replace(graph.initializer, [t for t in graph.initializer if t.name in needed])
    dropped = {MANIFEST_KEY, *(_OF_PIXELS if any("of" in i for i in manifest["inputs"]) else ())}
    helper.set_model_props(inner, {p.key: p.value for p in proto.metadata_props if p.key not in dropped})
    if not kept:
        raise ModelError("the explain graph's own outputs are missing: convert the model again")
    return inner
