"""A pair: the forward model, its companion, and the manifest that ties them together."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from onnx import ModelProto, TensorProto, helper

from onnx_deconv.compiler.backward import Walk
from onnx_deconv.compiler.forward import forward
from onnx_deconv.compiler.input_facts import input_facts, labels_for, labels_of
from onnx_deconv.compiler.passes import apply_passes, with_sizes
from onnx_deconv.compiler.profiles import check, profile
from onnx_deconv.errors import InputError
from onnx_deconv.model import Model, Source, load, naming_the_file
from onnx_deconv.model.head import ChosenKind, Head, chosen, fields_of, numbered_alike
from onnx_deconv.model.head_labels import labelled
from onnx_deconv.model.heads import axes_of, head_of
from onnx_deconv.operators import RuleTable, Tap
from onnx_deconv.semantics import Semantics

MANIFEST_KEY, LABELS_KEY = "onnx_deconv.manifest", "labels"
FORMAT = 1
"""Version of the manifest's layout."""

_MEANINGS = {
    "seed": "what to explain: zero but for the chosen unit of the explained value",
    "switches": "where each window of the MaxPool found its maximum: flat index into its input, by image",
    "value": "a forward value",
    "shape": "the shape of a forward value",
}


@dataclass(frozen=True)
class Pair:
    """A forward model, its companion, and what ties them together.

    Attributes
    ----------
    forward
        The user's model with the outputs that the companion reads.
    deconv
        The companion: inputs ``seed`` and those outputs, by name; one reconstruction per explained input.
    manifest
        Names, shapes, types and meaning of all that passes between them, as plain JSON data.
    folder
        Where the large weights of both lie (their tensors are external).
    keeps
        The files that the weights lie in, kept as long as the pair.
    """

    forward: ModelProto
    deconv: ModelProto
    manifest: Mapping[str, Any]
    folder: Path
    keeps: object = field(default=None, repr=False)


def compile_pair(
    model: Source | Model,
    explained: str | None = None,
    *,
    semantics: Semantics | RuleTable | str | None = None,
    inputs: Sequence[str] | None = None,
    output: str | None = None,
    kind: ChosenKind | None = None,
    labels: Sequence[str] | str | None = None,
) -> Pair:
    """Make the forward model and the companion that explains one of its values.

    Parameters
    ----------
    model
        The user's model, or what :func:`onnx_deconv.load` takes.
    explained
        The value to explain; by default the scores that the output is made of (see
        :func:`~onnx_deconv.model.tails.tail_of`).
    semantics
        The choices of the deconvnet, or a rule table or its name alone; all defaults if not given.
    inputs
        The model inputs to explain in terms of; by default all that carry real numbers.
    output
        The output whose scores are explained; by default the first that is real numbers, or made of such.
    kind
        What a row of numbers is where nothing in the file says so: ``classes`` or ``regression``.
    labels
        Names of the classes; by default those in the model's file, or in a ``config.json`` beside it.
        ``imagenet`` takes ImageNet's. Which fields of a detector's boxes are classes may follow from their
        number.

    Raises
    ------
    UnknownLayerError
        If the model has no such value.
    MissingRuleError
        If operators on the path have no rule; all of them are named.
    RuleError
        If an operator has a form that its rule does not support.
    ModelError
        If no path leads from an input to the value.
    """
    model = model if isinstance(model, Model) else load(model)
    with naming_the_file(model.proto, model.name):
        return _compiled(model, explained, Semantics.of(semantics), inputs, output, kind, labels)


def pair_for(pair: Pair, runtime: str) -> Pair:
    """Bring a pair to the forms that a runtime takes.

    Raises
    ------
    InputError
        If no pair runs there.
    ModelError
        If a half has a form that the runtime does not take; some of the nodes are named.
    """
    passes = profile(runtime).companion
    if passes is None:
        raise InputError(f"pairs run in onnxruntime (also on CUDA), not in {runtime}: make an explain graph")
    brought = replace(pair, deconv=apply_passes(pair.deconv, passes))
    for half in (brought.forward, brought.deconv):
        check(half, runtime)
    return brought


def of_given_sizes(model: Model, taps: Sequence[Tap] = ()) -> ModelProto:
    """Copy the user's model with what a companion reads; sizes that a caller gave are written into it."""
    made = forward(model, taps)
    return with_sizes(made) if model.pinned else made


def _compiled(
    model: Model,
    explained: str | None,
    semantics: Semantics,
    inputs: Sequence[str] | None,
    output: str | None,
    kind: ChosenKind | None,
    labels: Sequence[str] | str | None,
) -> Pair:
    head = head_of(model, output)
    names = labels_for(model, head, labels).names
    own = labels_of(model, head).names == names
    head = chosen(labelled(model, head, len(names)), kind)
    value = head.start if explained is None else model.layer(explained)
    walk = Walk(model, value, semantics, inputs)
    deconv, taps = walk.run()
    of_output = value == head.start and (explained is None or numbered_alike(head))
    manifest = _manifest(walk, deconv, taps, head, names, of_output=of_output)
    # The explained value's own activations choose the unit and scale the seed.
    shown = [Tap("value", walk.value, walk.value)]
    if head.ranked is not None and value == head.start:
        shown.append(Tap("value", head.ranked, head.ranked))
    halves = of_given_sizes(model, [*taps, *shown]), with_sizes(deconv) if model.pinned else deconv
    pair = Pair(*halves, manifest, model.folder, model.files)
    for proto in (pair.forward, pair.deconv):
        kept = [(p.key, p.value) for p in proto.metadata_props if p.key != MANIFEST_KEY]
        helper.set_model_props(proto, {**dict(kept), MANIFEST_KEY: json.dumps(manifest)})
    if not own:  # whoever reads the forward model, or a graph made of it, takes these
        told = {p.key: p.value for p in pair.forward.metadata_props}
        helper.set_model_props(pair.forward, {**told, LABELS_KEY: json.dumps(names)})
    pair.deconv.producer_name, pair.deconv.producer_version = "onnx_deconv", manifest["version"]
    return pair


def _manifest(
    walk: Walk,
    deconv: ModelProto,
    taps: Sequence[Tap],
    head: Head,
    names: Sequence[str],
    *,
    of_output: bool,
) -> dict[str, Any]:
    model, tapped = walk.model, {t.name: t for t in taps}
    return {
        "format": FORMAT,
        "version": version("onnx-deconv"),
        "model": Path(model.name).name,
        "explained": {
            "value": walk.value,
            **_type(model, walk.value),
            **_explained(model, walk.value, head, of_output=of_output),
        },
        "scores": _scores(head, len(names)) if head.problem is None else None,
        "semantics": walk.semantics.as_dict(),
        "rules": walk.semantics.rules_record,
        "image_dependence": walk.image_dependence(taps).as_dict(),
        **input_facts(model, head, names),
        "inputs": [described(model, name) for name in model.inputs],
        "outputs": [described(model, name) for name in model.outputs],
        "deconv_inputs": [
            {"name": i.name, **_meaning(tapped.get(i.name)), **_info_type(i)} for i in deconv.graph.input
        ],
        "reconstructions": [
            {"name": o.name, "of": name, **_info_type(o)}
            for o, name in zip(deconv.graph.output, walk.inputs, strict=True)
        ],
    }


def _explained(model: Model, value: str, head: Head, *, of_output: bool) -> dict[str, Any]:
    """Say what the explained value is: an output's scores, or a layer."""
    return {
        "output": head.output if of_output else None,
        "kind": head.kind if of_output else "layer",
        "axes": axes_of(model, value).as_dict(),
        "cut": list(head.cut) if of_output else [],
        "seed": head.seed if of_output else None,
    }


def _scores(head: Head, labels: int) -> dict[str, Any]:
    """Say what the scores are, by which classes are ranked, and what their classes are among them."""
    fields = fields_of(head, labels)
    return {
        "value": head.start,
        "ranked": head.ranked or head.start,
        "ranked_axes": head.ranked_axes.as_dict(),
        "output": head.output,
        "kind": head.kind,
        "axes": head.axes.as_dict(),
        "rivals": head.rivals,
        "classes": None if head.elements is None else [list(each) for each in head.elements],
        "fields": None if fields is None else fields.as_dict(),
    }


def _meaning(tap: Tap | None) -> dict[str, str]:
    if tap is None:
        return {"kind": "seed", "meaning": _MEANINGS["seed"]}
    return {"kind": tap.kind, "of": tap.value, "meaning": _MEANINGS[tap.kind]}


def described(model: Model, value: str) -> dict[str, Any]:
    """Return a value's name, shape and type, as a manifest has them."""
    return {"name": value, **_type(model, value)}


def _type(model: Model, value: str) -> dict[str, Any]:
    types = model.type_of(value)
    dtype = TensorProto.DataType.Name(types.dtype).lower()
    return {"shape": types.dims, "dtype": dtype}


def _info_type(info: Any) -> dict[str, Any]:
    tensor = info.type.tensor_type
    dims = [d.dim_value if d.HasField("dim_value") else d.dim_param or None for d in tensor.shape.dim]
    dtype = TensorProto.DataType.Name(tensor.elem_type).lower()
    return {"shape": dims if tensor.HasField("shape") else None, "dtype": dtype}
