"""What a companion should send back for a seed: the slow reference's answer, by explained input."""

from collections.abc import Mapping
from typing import Any, get_args

import numpy as np

from onnx_deconv.compiler.backward import Walk
from onnx_deconv.errors import RuleError
from onnx_deconv.imaging.model_input import input_layout
from onnx_deconv.model import Array
from onnx_deconv.model.heads import axes_of
from onnx_deconv.semantics import NO_RULES, Semantics
from onnx_deconv.verification.batch import Batch
from onnx_deconv.verification.reference import (
    TABLES,
    ReferenceOptions,
    ReferenceRules,
    class_activation_map,
    enlarged,
    reference,
    relevance,
)

GRADIENT = ReferenceOptions(rules="gradient")


def answer(batch: Batch, values: Mapping[str, Array], seed: Array) -> dict[str, Array]:
    """Return what the reference sends back to each explained input.

    Raises
    ------
    MissingRuleError, RuleError, ModelError
        If the reference lacks an operator, a form of one, the rule table, or a forward value.
    """
    semantics = Semantics(**batch.pair.manifest["semantics"])
    names = [entry["of"] for entry in batch.pair.manifest["reconstructions"]]
    if semantics.rules in TABLES and not semantics.reads_feature_maps:
        return relevance(batch.graph, values, batch.explained, seed, names, batch.path, semantics.rules)
    if not semantics.reads_feature_maps:
        return reference(batch.graph, values, batch.explained, seed, names, _options(semantics))
    walk, start, begun = Walk(batch.model, batch.explained, semantics, names), batch.explained, seed
    wanted = {maps for maps in (walk.last_maps, walk.cam_maps) if maps is not None}
    gradients = reference(batch.graph, values, batch.explained, seed, sorted(wanted), GRADIENT)
    if semantics.head == "class-map":
        start = str(walk.last_maps)
        begun = gradients[start] * values[start].astype(np.float64)
    found: dict[str, Array] = {name: np.ones(()) for name in names}
    if semantics.rules != NO_RULES:
        found = reference(batch.graph, values, start, begun, names, _options(semantics))
    if walk.cam_maps is not None:
        kind: Any
        kind, _, power = semantics.cam.partition("^")
        axes = axes_of(batch.model, walk.cam_maps)
        gradient, activations = (axes.canonical(each[walk.cam_maps]) for each in (gradients, values))
        cam = class_activation_map(kind, gradient, activations.astype(np.float64))
        found = {name: found[name] * _on_image(batch, cam, name) ** int(power or 1) for name in names}
    return found


def _on_image(batch: Batch, cam: Array, name: str) -> Array:
    """Enlarge a map to an image; its one channel is where the image's channels are."""
    sizes = batch.feeds[name].shape
    if input_layout(batch.model, name) == "NHWC":
        return np.moveaxis(enlarged(cam, sizes[1:-1]), 1, -1)
    return enlarged(cam, sizes[2:])


def _options(semantics: Semantics) -> ReferenceOptions:
    rules: Any = semantics.rules
    if rules not in get_args(ReferenceRules):
        raise RuleError(f"the reference has no rule table {rules!r}")
    return ReferenceOptions(
        rules=rules,
        activations=semantics.activations,
        lrn=None if semantics.lrn == "auto" else semantics.lrn,
        unpool=semantics.unpool,
    )
