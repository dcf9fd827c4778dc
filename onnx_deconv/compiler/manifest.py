"""Read the manifest of a saved pair as what it is: text from a file, which anybody may have changed."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from onnx import ModelProto

from onnx_deconv.compiler.backward import SEED
from onnx_deconv.compiler.dependence import ImageDependence
from onnx_deconv.compiler.pair import FORMAT, MANIFEST_KEY
from onnx_deconv.errors import InputError
from onnx_deconv.semantics import Semantics

_KINDS = ("seed", "switches", "value", "shape")
"""What an input of a companion may be."""


def checked_manifest(forward: ModelProto, deconv: ModelProto) -> dict[str, Any]:
    """Return the manifest that both models of a pair carry.

    Raises
    ------
    ValueError
        If they carry none, not the same, or one that does not describe them.
    """
    texts = [_carried(proto) for proto in (forward, deconv)]
    if texts[0] != texts[1]:
        raise ValueError("its two models are from different conversions")
    manifest = _parsed(texts[0])
    _require(manifest.get("format") == FORMAT, f"its manifest is not of format {FORMAT}")
    explained = _explained(manifest)
    outputs, inputs = _names(forward.graph.output), _names(forward.graph.input)
    _require(explained.get("value") in outputs, "its forward model lacks the explained value")
    reads = _entries(manifest, "deconv_inputs", ("name", "kind", "shape"))
    _require({e["name"] for e in reads} == _names(deconv.graph.input), "the companion takes others")
    _require(
        {e["name"] for e in reads} - {SEED} <= outputs, "its forward model lacks what the companion reads"
    )
    kinds = {e["name"]: e["kind"] for e in reads}
    seeds = [name for name, kind in kinds.items() if kind == "seed"]
    known = all(kind in _KINDS for kind in kinds.values())
    _require(seeds == [SEED] and known, "its manifest does not say what the companion's inputs are")
    found = _entries(manifest, "reconstructions", ("name", "of"))
    _require({e["name"] for e in found} == _names(deconv.graph.output), "the companion returns others")
    _require({e["of"] for e in found} <= inputs, "its forward model lacks the explained input")
    _check_dependence(manifest.get("image_dependence"))
    dependence = ImageDependence.of(manifest).as_dict()
    return {**manifest, "semantics": _semantics(manifest.get("semantics")), "image_dependence": dependence}


def checked_graph_manifest(text: str) -> dict[str, Any] | None:
    """Return the manifest of an explain graph; ``None`` if it is of something else.

    Raises
    ------
    ValueError
        If it does not describe an explain graph.
    """
    manifest = _parsed(text)
    if manifest.get("form") != "explain":
        return None
    _explained(manifest)
    for key in ("inputs", "outputs"):
        _entries(manifest, key, ("name",))
    target = manifest.get("target")
    _require(isinstance(target, dict) and isinstance(target.get("name"), str), "it does not name its target")
    _require(isinstance(manifest.get("ranking"), str | None), "its ranking is no value")
    return {**manifest, "semantics": _semantics(manifest.get("semantics"))}


def _explained(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a manifest says is explained."""
    explained, scores = manifest.get("explained"), manifest.get("scores", 0)
    if not isinstance(explained, dict) or not isinstance(explained.get("value"), str):
        raise ValueError("its manifest does not say what is explained")  # noqa: TRY004  (it is a text's)
    _require(isinstance(explained.get("output"), str | None), "its manifest names no output")
    named = isinstance(scores, dict) and isinstance(scores.get("value"), str)
    _require(scores is None or named, "its manifest does not say what the scores are")
    return explained


def _carried(proto: ModelProto) -> str:
    texts = [p.value for p in proto.metadata_props if p.key == MANIFEST_KEY]
    _require(len(texts) == 1, "a model carries no manifest")
    return texts[0]


def _parsed(text: str) -> dict[str, Any]:
    try:
        manifest = json.loads(text)
    except RecursionError:
        manifest = None
    if not isinstance(manifest, dict):
        raise ValueError("its manifest is no JSON object")  # noqa: TRY004  (it is a text's)
    return manifest


def _entries(manifest: Mapping[str, Any], key: str, keys: Iterable[str]) -> list[dict[str, Any]]:
    entries = manifest.get(key)
    whole = isinstance(entries, list) and all(isinstance(e, dict) and {*keys} <= {*e} for e in entries)
    _require(whole, f"its manifest has no whole list of {key}")
    for entry in entries or []:
        named = isinstance(entry["name"], str) and isinstance(entry.get("of", ""), str)
        _require(named, f"{key} without names")
        shape = entry.get("shape") or []
        _require(isinstance(shape, list), f"{key} with a shape that is none")
    return entries or []


def _check_dependence(told: object) -> None:
    if told is None:  # pairs of earlier versions do not tell
        return
    if not isinstance(told, dict) or {*told} != {"depends", "through", "note"}:
        raise ValueError("its manifest does not say how it depends on the image")
    through = told["through"]
    known = told["depends"] in ("yes", "hardly", "no") and isinstance(told["note"], str | None)
    texts = isinstance(through, list) and all(isinstance(each, str) for each in through)
    _require(known and texts, "its manifest does not say how it depends on the image")


def _semantics(semantics: object) -> dict[str, str | None]:
    """Return all choices: those of earlier versions are fewer."""
    if not isinstance(semantics, dict):
        raise ValueError("its manifest does not say how it explains")  # noqa: TRY004  (it is a text's)
    try:
        return Semantics(**semantics).as_dict()
    except (TypeError, InputError) as error:
        raise ValueError(f"its manifest's choices: {error}") from error


def _names(values: Iterable[Any]) -> set[str]:
    return {value.name for value in values}


def _require(holds: object, what: str) -> None:
    if not holds:
        raise ValueError(what)
