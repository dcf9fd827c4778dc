"""The explain graph: forward model, seed and companion in one file; picture in, answer and why out.

The nodes of a pair are put into one graph, tied by the names that both models use, with a few nodes
between them that choose the unit: the one that the input ``target`` says, or the strongest channel of each
image. Every weight is stored once.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import onnx
from onnx import ModelProto, ValueInfoProto, helper

from onnx_deconv.compiler import seed_graph
from onnx_deconv.compiler.assembly import Assembly
from onnx_deconv.compiler.backward import SEED
from onnx_deconv.compiler.explain_manifest import (
    SHARED,
    answers,
    heat_entry,
    own_top,
    picture_entry,
    preparation,
    result_entries,
    results,
    seed_type,
    target_entry,
    value_info,
)
from onnx_deconv.compiler.input_facts import labels_for
from onnx_deconv.compiler.package import EXPLAIN as FILE
from onnx_deconv.compiler.package import Check, save_graph
from onnx_deconv.compiler.pair import MANIFEST_KEY, Pair, compile_pair
from onnx_deconv.compiler.passes import apply_passes
from onnx_deconv.compiler.profiles import Profile, check, check_sizes, profile
from onnx_deconv.compiler.seed_graph import EXPLAINED, SCORES, TARGET, GraphSeed, Ranked, TargetKind
from onnx_deconv.errors import InputError, ModelError, given, way
from onnx_deconv.model import Model, Source, load
from onnx_deconv.model.decompositions import spell_out
from onnx_deconv.model.detections import Fields
from onnx_deconv.model.feature_maps import class_maps
from onnx_deconv.model.head import ROWS_OF_BOXES
from onnx_deconv.model.head_labels import labelled
from onnx_deconv.model.heads import head_of
from onnx_deconv.model.opset_conversion import at_opset
from onnx_deconv.model.protos import copy_of, opset_of, replace
from onnx_deconv.model.shape_inference import infer_shapes, state_sizes
from onnx_deconv.model.value_axes import Axes
from onnx_deconv.operators.builder import BACKWARD, IR_VERSION, OPSET

if TYPE_CHECKING:  # Pillow takes time to load, which graphs without pictures need not spend
    from onnx_deconv.imaging import Layout, Preprocess

PICTURE, HEAT = "picture", "heat"


@dataclass(frozen=True)
class ExplainGraph:
    """One model that answers and explains.

    Attributes
    ----------
    proto
        The model. Inputs: the user's model's own, and ``target``. Outputs: the user's model's own,
        ``reconstruction``, ``scores`` (of each channel, by which the strongest is found), and ``explained``
        (which channels were: what ``target`` said, or the strongest).
    manifest
        Names, shapes, types and meaning of all that goes in and comes out, as plain JSON data.
    folder
        Where its large weights lie (their tensors are external).
    keeps
        What has to live as long as the graph: the temporary folder of a model that came from memory.
    """

    proto: ModelProto
    manifest: Mapping[str, Any]
    folder: Path
    keeps: object = field(default=None, repr=False)

    def save(self, path: str | PathLike[str], name: str = FILE, check: Check = lambda _: None) -> list[Path]:
        """Write the graph and ``manifest.json`` into a folder, and ``weights.bin`` for a large model.

        It is not run in the runtime that it was made for, as ``onnx-deconv convert`` does for OpenVINO and
        tract, to refuse what these compute wrongly: :func:`onnx_deconv.verification.proving` makes a check
        that does.

        Parameters
        ----------
        path
            The folder.
        name
            What the graph's file is called.
        check
            As for :func:`~onnx_deconv.compiler.package.save`.

        Raises
        ------
        InputError
            If a file cannot be written.
        """
        return save_graph(self.proto, {**self.manifest, "file": name}, self.folder, path, name, check)


def explain_graph(
    pair: Pair | Source | Model,
    *,
    top: int = 1,
    seed: GraphSeed = "auto",
    ranking: str | None = None,
    target_input: Literal["optional", "required"] = "required",
    preprocess: "Preprocess | None" = None,
    rendering: "Layout | None" = None,
    runtime: str = "onnxruntime",
    passes: Iterable[str] | None = None,
    target: TargetKind = "index",
    labels: Sequence[str] | str | None = None,
) -> ExplainGraph:
    """Put a pair into one graph that chooses what to explain by itself.

    Parameters
    ----------
    pair
        See :func:`onnx_deconv.compiler.pair.compile_pair`; of a model that of its default output, or with
        ``seed`` left to ``auto`` of each class's own feature map, where an explainer starts.
    top
        How many channels (classes), or units, of each image to explain. With more than one, ``target``
        has shape (N, top) in place of (N,), ``reconstruction`` (N, top, C, H, W) in place of (N, C, H, W).
    seed
        ``one``: 1 at the channel's strongest unit. ``map``: the channel's map with its activations.
        ``present``: those of its activations that are positive, all where none is. ``contrast``: the class,
        less the mean of all others; for scores alone. ``strongest``: the map's strongest activation alone.
        ``unit``: ``target`` is not a channel but a
        unit, its index in row-major order over the explained value's axes after the batch (channel,
        row, column); it starts with its activation, a unit of an output's scores with 1.
        ``auto``: ``one`` for a value that has one unit per
        channel (scores), ``present`` for maps before a sigmoid, else ``map``.
    ranking
        The value whose strongest channel is explained, shape (N, K, ...); by default the explained value,
        which it is for units.
    target_input
        Whether a caller may leave the input ``target`` out, or must give it, -1 for the model's own top. Only
        for onnxruntime in Python, C++, C#, Java: other runtimes (onnxruntime for JavaScript, its OpenVINO
        provider, tract) take the default of an optional input for a constant, and explain the strongest
        class whatever they are given. A channel or unit that the value does not have gives a reconstruction
        of zeros.
    preprocess
        Have the graph take uint8 pictures (N, H, W, 3), RGB, of the model's size, as its input ``picture``,
        and make of them what :meth:`onnx_deconv.imaging.Preprocess.normalise` does.
    rendering
        Have the graph also return ``heat``, the reconstruction's saliency in colours as
        :mod:`onnx_deconv.imaging` draws it, uint8 (N, H, W, 3): the layout of the model's input.
    runtime
        What will run the graph, see :mod:`onnx_deconv.compiler.profiles`: it is brought to the forms that the
        runtime takes, and checked to have no other.
    passes
        Optimisation passes to apply, by name, see :mod:`onnx_deconv.compiler.passes`; ``()`` for none. By
        default those for the runtime.
    target
        ``index``: the input ``target`` has the number of a channel or class for each image. ``weights``: it
        has a weight for each of them, float32 (N, K), and their weighted sum is explained: 1 and -1 for the
        difference of two classes, -1 for what speaks against one. Where an image's are all zero its strongest
        is explained. ``array``: it is itself what is sent back, float32 of the explained value's shape: any
        position, region, mask or box can be asked for; zeros: the image's strongest, or zeros where no number
        is (an embedding's).
    labels
        As for :func:`~onnx_deconv.compiler.pair.compile_pair`; of a model alone, as a pair has its own.

    Returns
    -------
    ExplainGraph
        At the user's opset, or at the companion's where that is newer.

    Raises
    ------
    ModelError
        If a node of either model has no equivalent at the other's opset; if pictures are asked for and
        the model takes more than one input; or if the graph cannot be brought to the runtime.
    InputError
        If there is no such ``runtime``, it needs sizes that are not known, or ignores optional inputs; if
        ``top`` is not positive, or more than there are channels or units; there is no such ``seed`` or value
        ``ranking``; units are ranked by another value than theirs; or a heat map is asked for of what is no
        image.

    Examples
    --------
    >>> graph = explain_graph(compile_pair(load("squeezenet.onnx")), top=5)
    >>> graph.save("explain")
    """
    if not isinstance(pair, Pair):
        pair, own = _default_pair(pair, seed, labels)
        ranking = ranking or own
    elif labels is not None:
        raise InputError("labels: a pair has its own: give them to compile_pair, which makes it")
    ranked, count = _checked(pair, ranking, seed, top, target)
    takes = _profile(runtime, pair, target_input, ranked)
    graph = _forward_graph(pair, ranked, seed)
    interface = {n: graph.free(n) for n in (TARGET, PICTURE, HEAT, SCORES, EXPLAINED, *results(pair))}
    seeds = _append_seeds(graph, pair, ranked, interface, target, seed, top)
    wanted = target_entry(pair, interface[TARGET], target, seed, top, count)
    default = own_top({"target": wanted})[interface[TARGET]] if target_input == "optional" else None
    graph.add_input(value_info(wanted), default)
    _append_companions(graph, pair, seeds, interface)
    entries = result_entries(pair, interface, top)
    if rendering is not None:
        result = next(iter(results(pair)))
        entries.append(_append_rendering(graph, entries[0], result, interface, rendering, top))
    entries += answers(pair, interface, count, top)
    inputs, prepared = list(pair.manifest["inputs"]), dict[str, Any]()
    if preprocess is not None:
        inputs = [_prepend_preprocessing(graph, inputs, interface[PICTURE], preprocess)]
        prepared = preparation(pair, interface[PICTURE], preprocess)
    graph.graph.output.extend(value_info(entry) for entry in entries)
    manifest = {
        **{key: pair.manifest[key] for key in SHARED},
        **prepared,
        "form": "explain",
        "runtime": runtime,
        "file": FILE,
        "opset": _opset(pair),
        "seed": seed_graph.resolved(pair.manifest["explained"], ranked, seed),
        "top": top,
        "ranking": ranked.value,
        "inputs": inputs,
        "target": {**wanted, "input": target_input},
        "outputs": [*pair.manifest["outputs"], *entries],
    }
    if takes.spelled:
        spell_out(graph.graph, taken=graph.taken)
    made = _finished(graph.proto, manifest, takes.passes if passes is None else passes)
    check(made, runtime)
    return ExplainGraph(made, manifest, pair.folder, pair)


def _profile(
    runtime: str, pair: Pair, target_input: Literal["optional", "required"], ranked: Ranked
) -> Profile:
    """Return what a runtime takes; make sure that it takes the graph's inputs."""
    takes = profile(runtime)
    check_sizes(runtime, pair.manifest["inputs"])
    optional = given("target_input", "optional")
    if target_input == "optional" and not takes.optional_target:
        raise InputError(f"{optional}: {runtime} would ignore what is given to an optional input")
    if target_input == "optional" and not ranked.has_strongest:
        raise InputError(f"{optional}: {ranked.value!r} has no strongest number by itself")
    return takes


def _opset(pair: Pair) -> int:
    """Return the opset of both models in one graph."""
    return max(OPSET, opset_of(pair.forward))


def _forward_graph(pair: Pair, ranked: Ranked, seed: GraphSeed) -> Assembly:
    """Return the forward model, to be continued; make sure that it has what is ranked."""
    proto = at_opset(pair.forward, _opset(pair), IR_VERSION)
    graph = Assembly(proto, len(pair.manifest["outputs"]), pair.manifest["model"])
    own = pair.manifest["explained"]["value"]
    if ranked.value not in graph.taken:
        raise InputError(f"ranking={ranked.value!r}: the model has no such value")
    if seed == "unit" and ranked.value != own:
        raise InputError(f"ranking={ranked.value!r}: units are ranked by their own value, {own!r}")
    return graph


def _default_pair(
    source: Source | Model, seed: GraphSeed, labels: Sequence[str] | str | None
) -> tuple[Pair, str | None]:
    """Return the pair that explains a model, and the value that ranks its classes where that is another."""
    model = source if isinstance(source, Model) else load(source)
    plain = head_of(model)
    head = labelled(model, plain, len(labels_for(model, plain, labels).names))
    maps = class_maps(model, head) if seed == "auto" else None
    return compile_pair(model, maps, labels=labels), None if maps is None else head.start


def _append_seeds(
    graph: Assembly,
    pair: Pair,
    ranked: Ranked,
    interface: Mapping[str, str],
    target: TargetKind,
    seed: GraphSeed,
    top: int,
) -> list[str]:
    """Append what makes the seeds of ``target``; return their names."""
    explained = pair.manifest["explained"]
    if target == "weights":
        made = seed_graph.weighted_seeds(explained, ranked, seed_type(pair), seed)
    else:
        made = seed_graph.seeds(explained, ranked, seed_type(pair), top, seed, arrays=target == "array")
    told = (TARGET, SCORES, EXPLAINED)
    values = graph.append(made, {f"{SEED}/{name}": interface[name] for name in told})
    return [values[f"{SEED}/{k}"] for k in range(top)]


def _append_companions(
    graph: Assembly, pair: Pair, seeds: Sequence[str], interface: Mapping[str, str]
) -> None:
    """Append the companion once for each seed, and put what the copies give into one result."""
    deconv = at_opset(pair.deconv, _opset(pair), IR_VERSION)
    back = [graph.append(deconv, {SEED: seed}) for seed in seeds]
    for name in results(pair):
        parts = {f"{name}/{k}": made[name] for k, made in enumerate(back)}
        graph.append(seed_graph.stacked(name, len(seeds)), parts | {name: interface[name]})


def _append_rendering(
    graph: Assembly,
    result: Mapping[str, Any],
    name: str,
    interface: Mapping[str, str],
    rendering: "Layout",
    top: int,
) -> dict[str, Any]:
    """Append what draws a heat map of a result; return the heat map's entry in the manifest."""
    from onnx_deconv.compiler import image_graph  # noqa: PLC0415 - Pillow takes a while to load

    axes = len(result["shape"] or rendering) - (top > 1)
    if axes != len(rendering):
        raise InputError(
            f"rendering={rendering!r}: {name!r} has {axes} axes: a heat map is drawn of an image alone"
        )
    names = {name: interface[name], HEAT: interface[HEAT]}
    graph.append(image_graph.rendering(name, rendering, top), names)
    return heat_entry(result, interface[HEAT], rendering)


def _prepend_preprocessing(
    graph: Assembly, inputs: Sequence[Mapping[str, Any]], picture: str, preprocess: "Preprocess"
) -> dict[str, Any]:
    """Let the graph take a picture in place of the model's input; return its entry in the manifest."""
    from onnx_deconv.compiler import image_graph  # noqa: PLC0415 - Pillow takes a while to load

    entry, name = picture_entry(inputs, picture, preprocess), inputs[0]["name"]
    graph.prepend(image_graph.preprocessing(preprocess, name), {PICTURE: picture, name: name})
    graph.replace_input(name, value_info(entry))
    return entry


def _check_kind(target: TargetKind, ranked: Ranked, top: int, seed: GraphSeed) -> None:
    """Make sure that what ``target`` is to hold is something that the graph can explain."""
    named = given("target", target, "target-kind")
    if target not in get_args(TargetKind):
        raise InputError(f"{named}: choose one of {', '.join(get_args(TargetKind))}")
    if target == "array" and top > 1:
        raise InputError(f"{named}: an array is one explanation, not of several channels")
    if target in ("index", "array"):
        return
    if ranked.fields is not None:
        raise InputError(f"{named}: each class has a box of its own: explain them one by one")
    if top > 1 or seed in ("unit", "contrast"):
        what = "several channels" if top > 1 else "units" if seed == "unit" else "a contrast"
        raise InputError(f"{named}: a sum of channels is one explanation, not of {what}")


def _checked(
    pair: Pair, ranking: str | None, seed: GraphSeed, top: int, target: TargetKind
) -> tuple[Ranked, int | None]:
    """Return what is ranked, and how many channels or units that has; make sure that the choices fit."""
    if seed not in get_args(GraphSeed):
        raise InputError(f"{given('seed', seed)}: choose one of {', '.join(get_args(GraphSeed))}")
    if top < 1:
        raise InputError(f"{given('top', top)}: give a number above 0")
    explained = pair.manifest["explained"]
    ranked = _ranked(pair, ranking or explained["value"], seed, target)
    if seed == "contrast" and not seed_graph.has_scores(explained, ranked):
        raise InputError(
            f"{given('seed', seed)}: {explained['value']!r} has no one score for each of several classes"
        )
    whole = next((each["of"] for each in results(pair).values() if each["shape"] == []), None)
    if top > 1 and whole is not None:
        raise InputError(f"{given('top', top)}: input {whole!r} is one number: explain one class at a time")
    count = _count(explained, ranked, seed)
    if count is not None and top > count:
        what = "units" if seed == "unit" else "channels"
        raise InputError(f"{given('top', top)}: {explained['value']!r} has {count} {what}")
    _check_kind(target, ranked, top, seed)
    return ranked, count


def _ranked(pair: Pair, value: str, seed: GraphSeed, target: TargetKind) -> Ranked:
    """Return the value by which classes or channels are ranked, and what is known of it."""
    scores, explained = pair.manifest["scores"], pair.manifest["explained"]
    if scores is None and explained["output"] is not None:
        raise ModelError(
            f"the graph does not tell what output {explained['output']!r} is: make the pair of a layer, by "
            "compile_pair(model, LAYER), or of another output, by compile_pair(model, output=NAME)"
        )
    of_layer = value == explained["value"] and explained["output"] is None
    if seed != "unit" and scores is not None and value == scores["value"] and not of_layer:
        if (why := _without_strongest(scores, explained, len(pair.manifest.get("labels") or ()))) is not None:
            if target == "array":
                return Ranked(value, Axes.of(scores["axes"]), has_strongest=False)
            raise ModelError(
                f"output {scores['output']!r} {why}: choose units "
                f"({given('seed', 'unit')}) or arrays ({given('target', 'array', 'target-kind')})"
            )
        fields = None if scores["fields"] is None else Fields(**scores["fields"])
        value = scores.get("ranked", value)  # earlier pairs have none
        axes = Axes.of(scores.get("ranked_axes", scores["axes"]))
        by_output = value == scores["output"] != scores["value"]
        made = {name for node in pair.forward.graph.node for name in node.output}
        before = scores["value"] if by_output and fields is None and scores["value"] in made else None
        return Ranked(
            value, axes, scores["classes"], fields, by_output=by_output,
            before=before, before_axes=Axes.of(scores["axes"]), rivals=scores.get("rivals", False),
        )  # fmt: skip
    return Ranked(value, Axes.of(explained["axes"]) if value == explained["value"] else Axes())


def _without_strongest(scores: Mapping[str, Any], explained: Mapping[str, Any], labels: int) -> str | None:
    """Tell why none of an output's numbers comes first, given how many names; ``None`` where one does."""
    kind = scores["kind"]
    if kind == "unknown":
        return "holds rows of numbers of which nothing tells what they are"
    if kind == "detections" and scores["fields"] is None:
        if labels:
            return f"holds {ROWS_OF_BOXES}, and {labels} labels do not tell which of their fields are classes"
        return (
            f"holds {ROWS_OF_BOXES}, and nothing tells which of their fields are classes, which "
            f"{way('--labels', 'labels=')} would tell"
        )
    if kind == "embedding":
        return "is an embedding, whose dimensions have no meaning"
    if kind == "numbers":
        return (
            "is a row of numbers, and nothing tells whether they are classes, which "
            f"{given('kind', 'classes')} says"
        )
    sizes = Axes.of(explained["axes"]).sizes(explained["shape"]) or []
    several = kind == "regression" and sizes[1:2] != [1]
    return "holds several quantities, none of which comes first" if several else None


def _count(explained: Mapping[str, Any], ranked: Ranked, seed: GraphSeed) -> int | None:
    """Return how many channels, or units, each image has; ``None`` where the model does not say."""
    if ranked.elements is not None or ranked.fields is not None:
        return ranked.fields.count if ranked.fields is not None else len(ranked.elements or ())
    shape = Axes.of(explained["axes"]).sizes(explained["shape"]) or []
    sizes = shape[1:] if seed == "unit" else shape[1:2]
    whole = [size for size in sizes if isinstance(size, int)]
    return prod(whole) if sizes and len(whole) == len(sizes) else None


def _finished(proto: ModelProto, manifest: Mapping[str, Any], passes: Iterable[str]) -> ModelProto:
    """Optimise the model, and put the manifest into it."""
    del proto.graph.value_info[:]
    replace(proto.graph.value_info, _beyond_inference(proto))
    kept = {p.key: p.value for p in proto.metadata_props if p.key != MANIFEST_KEY}
    helper.set_model_props(proto, kept | {MANIFEST_KEY: json.dumps(manifest)})
    made = apply_passes(proto, passes)
    state_sizes(made)  # for what takes the file apart without inferring shapes itself
    return made


def _beyond_inference(proto: ModelProto) -> list[ValueInfoProto]:
    """List the feature maps of the user's model whose sizes ONNX's own inference, which passes use, misses.

    Most stand behind a Pad whose pads the graph computes, or an operator that is onnxruntime's own.
    """
    found = onnx.shape_inference.infer_shapes(proto).graph.value_info
    missed = {v for node in proto.graph.node if not node.name.startswith(BACKWARD) for v in node.output}
    missed -= {info.name for info in found if _is_map_of_known_size(info)}
    if not missed:
        return []
    plain = copy_of(proto)
    spell_out(plain.graph, taken={v for node in proto.graph.node for v in node.output})
    known = infer_shapes(plain).graph.value_info
    return [info for info in known if info.name in missed and _is_map_of_known_size(info)]


def _is_map_of_known_size(info: ValueInfoProto) -> bool:
    """Tell whether a value has a type, a batch axis, channels, and axes of known size."""
    tensor = info.type.tensor_type
    sizes = list(tensor.shape.dim)[1:]
    return bool(tensor.elem_type) and len(sizes) > len("C") and all(dim.dim_value for dim in sizes)
