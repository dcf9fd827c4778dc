"""The explain graph: forward model, seed and companion in one file; picture in, answer and why out.

The nodes of a pair are put into one graph, tied by the names that both models use, with a few nodes
between them that choose the unit: the one that the input ``target`` says, or the strongest channel of each
image. Every weight is stored once.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from math import prod
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import onnx
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from onnx_deconv.compiler import seed_graph
from onnx_deconv.compiler.backward import SEED
from onnx_deconv.compiler.package import EXPLAIN as FILE
from onnx_deconv.compiler.package import Check, save_graph
from onnx_deconv.compiler.pair import MANIFEST_KEY, Pair
from onnx_deconv.compiler.passes import apply_passes
from onnx_deconv.compiler.profiles import check, check_sizes, profile
from onnx_deconv.compiler.seed_graph import EXPLAINED, OWN_TOP, SCORES, TARGET, GraphSeed, Ranked, TargetKind
from onnx_deconv.errors import InputError, ModelError
from onnx_deconv.model import Array
from onnx_deconv.model.canonical import put_in_order
from onnx_deconv.model.detections import Fields
from onnx_deconv.model.opset_conversion import at_opset
from onnx_deconv.model.protos import opset_of, renamed, replace, stored_tensors
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
    pair: Pair,
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
) -> ExplainGraph:
    """Put a pair into one graph that chooses what to explain by itself.

    Parameters
    ----------
    pair
        See :func:`onnx_deconv.compiler.pair.compile_pair`.
    top
        How many channels (classes), or units, of each image to explain. With more than one, ``target``
        has shape (N, top) in place of (N,), ``reconstruction`` (N, top, C, H, W) in place of (N, C, H, W).
    seed
        ``one``: 1 at the channel's strongest unit. ``map``: the channel's map with its activations.
        ``present``: those of its activations that are positive, all where none is. ``contrast``: the class,
        less the mean of all others; for scores alone. ``strongest``: the map's strongest activation alone.
        ``unit``: ``target`` is not a channel but a
        unit, its index in row-major order over the explained value's axes behind the batch (channel,
        row, column); it starts with its activation. ``auto``: ``one`` for a value that has one unit per
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
        position, region, mask or box can be asked for; zeros: the image's strongest.

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
        ``ranking``; or units are ranked by another value than theirs.

    Examples
    --------
    >>> graph = explain_graph(compile_pair(load("squeezenet.onnx")), top=5)
    >>> graph.save("explain")
    """
    takes = profile(runtime)
    check_sizes(runtime, pair.manifest["inputs"])
    if target_input == "optional" and not takes.optional_target:
        raise InputError(
            f"target_input='optional': {runtime} would ignore what is given to an optional input"
        )
    ranked, count = _checked(pair, ranking, seed, top)
    explained = pair.manifest["explained"]
    _check_kind(target, ranked, top, seed)
    opset = max(OPSET, opset_of(pair.forward))
    graph = _Assembly(
        at_opset(pair.forward, opset, IR_VERSION), len(pair.manifest["outputs"]), pair.manifest["model"]
    )
    if ranked.value not in graph.taken:
        raise InputError(f"ranking={ranking!r}: the model has no such value")
    if seed == "unit" and ranked.value != explained["value"]:
        raise InputError(f"ranking={ranking!r}: units are ranked by their own value, {explained['value']!r}")
    interface = {n: graph.free(n) for n in (TARGET, PICTURE, HEAT, SCORES, EXPLAINED, *_results(pair))}
    if target == "weights":
        seeds = seed_graph.weighted_seeds(explained, ranked, _seed_type(pair), seed)
    else:
        seeds = seed_graph.seeds(explained, ranked, _seed_type(pair), top, seed, arrays=target == "array")
    told = (TARGET, SCORES, EXPLAINED)
    chosen = graph.append(seeds, {f"{SEED}/{name}": interface[name] for name in told})
    entry = _target_entry(interface[TARGET], _target_shape(pair, top), target, count, seed)
    if target == "array":
        entry |= {"shape": explained["shape"], "dtype": "float", "meaning": _TARGET_ARRAY}
    graph.add_target(entry, optional=target_input == "optional")
    _append_companions(graph, pair, [chosen[f"{SEED}/{k}"] for k in range(top)], interface, opset)
    entries = [_entry(r, interface[r["name"]], _with_top(r["shape"], top)) for r in _results(pair).values()]
    if rendering is not None:
        entries.append(
            _append_rendering(graph, entries[0], next(iter(_results(pair))), interface, rendering, top)
        )
    entries += _answers(pair, interface, count, top)
    inputs = list(pair.manifest["inputs"])
    if preprocess is not None:
        inputs = [_prepend_preprocessing(graph, inputs, interface[PICTURE], preprocess)]
    graph.graph.output.extend(_info(entry) for entry in entries)
    manifest = {
        **{key: pair.manifest[key] for key in _SHARED},
        **({} if preprocess is None else _prepared(pair, interface[PICTURE], preprocess)),
        "form": "explain",
        "runtime": runtime,
        "file": FILE,
        "opset": opset,
        "seed": seed_graph.resolved(explained, ranked, seed),
        "top": top,
        "ranking": ranked.value,
        "inputs": inputs,
        "target": {**entry, "input": target_input},
        "outputs": [*pair.manifest["outputs"], *entries],
    }
    made = graph.finished(pair, manifest, takes.passes if passes is None else passes)
    check(made.proto, runtime)
    return made


def _append_companions(
    graph: "_Assembly", pair: Pair, seeds: Sequence[str], interface: Mapping[str, str], opset: int
) -> None:
    """Append the companion once for each seed, and put what the copies give into one result."""
    deconv = at_opset(pair.deconv, opset, IR_VERSION)
    back = [graph.append(deconv, {SEED: seed}) for seed in seeds]
    for name in _results(pair):
        parts = {f"{name}/{k}": made[name] for k, made in enumerate(back)}
        graph.append(seed_graph.stacked(name, len(seeds)), parts | {name: interface[name]})


def _append_rendering(
    graph: "_Assembly",
    result: Mapping[str, Any],
    name: str,
    interface: Mapping[str, str],
    rendering: "Layout",
    top: int,
) -> dict[str, Any]:
    """Append what draws a heat map of a result; return the heat map's entry in the manifest."""
    from onnx_deconv.compiler import image_graph  # noqa: PLC0415 - Pillow takes a while to load

    names = {name: interface[name], HEAT: interface[HEAT]}
    graph.append(image_graph.rendering(name, rendering, top), names)
    return _heat(result, interface[HEAT], rendering)


def _prepend_preprocessing(
    graph: "_Assembly", inputs: Sequence[Mapping[str, Any]], picture: str, preprocess: "Preprocess"
) -> dict[str, Any]:
    """Let the graph take a picture in place of the model's input; return its entry in the manifest."""
    from onnx_deconv.compiler import image_graph  # noqa: PLC0415 - Pillow takes a while to load

    entry, name = _picture(inputs, picture, preprocess), inputs[0]["name"]
    graph.prepend(image_graph.preprocessing(preprocess, name), {PICTURE: picture, name: name})
    graph.replace_input(name, _info(entry))
    return entry


def _check_kind(target: TargetKind, ranked: Ranked, top: int, seed: GraphSeed) -> None:
    """Make sure that what ``target`` is to hold is something that the graph can explain."""
    if target not in get_args(TargetKind):
        raise InputError(f"target={target!r}: choose one of {', '.join(get_args(TargetKind))}")
    if target == "array" and top > 1:
        raise InputError("target='array': an array is one explanation, not of several channels")
    if target in ("index", "array"):
        return
    if ranked.fields is not None:
        raise InputError("target='weights': each class has a box of its own: explain them one by one")
    if top > 1 or seed in ("unit", "contrast"):
        what = "several channels" if top > 1 else "units" if seed == "unit" else "a contrast"
        raise InputError(f"target='weights': a sum of channels is one explanation, not of {what}")


def _target_entry(
    name: str, shape: list[int | str], target: TargetKind, count: int | None, seed: GraphSeed
) -> dict[str, Any]:
    """Describe the input that says what to explain."""
    if target == "weights":
        wide = [*shape, count or "channels"]
        return {"name": name, "shape": wide, "dtype": "float", "meaning": _TARGET_WEIGHTS}
    meaning = _TARGET_UNIT if seed == "unit" else _TARGET
    return {"name": name, "shape": shape, "dtype": "int64", "meaning": meaning}


def own_top(manifest: Mapping[str, Any]) -> dict[str, Array]:
    """Return what to give as ``target`` to have each image's strongest explained, by the input's name."""
    target = manifest["target"]
    shape = [size if isinstance(size, int) else 1 for size in target["shape"]]
    if target["dtype"] == "float":
        return {target["name"]: np.zeros(shape, np.float32)}
    return {target["name"]: np.full(shape, OWN_TOP)}


_SHARED = (
    "format", "version", "model", "explained", "scores", "semantics", "rules", "image_dependence", "batch",
    "example", "preprocessing", "labels",
)  # fmt: skip
"""What an explain graph's manifest has in common with a pair's."""
_TARGET = "which channel (class) to explain in each image; -1: the image's strongest"
_TARGET_UNIT = (
    "which unit to explain in each image, by its index in the explained value, in row-major order over "
    "the axes behind the batch; -1: the image's strongest"
)
_TARGET_WEIGHTS = "a weight for each channel (class); zeros: the image's strongest"
_TARGET_ARRAY = (
    "a signal of the explained value's shape that is sent back as it is; zeros: the image's strongest class"
)
_SCORES = (
    "each channel's (class's) strongest activation, or each unit's activation; the strongest is taken for -1"
)
_EXPLAINED = "what was explained in each image: what 'target' said, or the strongest"


def _batch(pair: Pair) -> Any:
    explained = pair.manifest["explained"]
    return (Axes.of(explained["axes"]).sizes(explained["shape"]) or [None])[0]


def _checked(pair: Pair, ranking: str | None, seed: GraphSeed, top: int) -> tuple[Ranked, int | None]:
    """Return what is ranked, and how many channels or units that has; make sure that the choices fit."""
    if seed not in get_args(GraphSeed):
        raise InputError(f"seed={seed!r}: choose one of {', '.join(get_args(GraphSeed))}")
    if top < 1:
        raise InputError(f"top={top}: give a number above 0")
    explained = pair.manifest["explained"]
    ranked = _ranked(pair, ranking or explained["value"], seed)
    if seed == "contrast" and not seed_graph.has_scores(explained, ranked):
        raise InputError(
            f"seed={seed!r}: {explained['value']!r} has no one score for each of several classes"
        )
    count = _count(explained, ranked, seed)
    if count is not None and top > count:
        what = "units" if seed == "unit" else "channels"
        raise InputError(f"top={top}: {explained['value']!r} has {count} {what}")
    return ranked, count


def _target_shape(pair: Pair, top: int) -> list[int | str]:
    """Return the shape of ``target``; where the batch is free, one target may do for all images."""
    batch = _batch(pair)
    first: int | str = batch if isinstance(batch, int) else "targets"
    return [first] if top == 1 else [first, top]


def _answers(pair: Pair, names: Mapping[str, str], count: int | None, top: int) -> list[dict[str, Any]]:
    """Describe the outputs that say what was chosen, and by what."""
    batch, precision = _batch(pair), np.dtype(_seed_type(pair))
    dtype = TensorProto.DataType.Name(helper.np_dtype_to_tensor_dtype(precision)).lower()
    chosen = [batch] if top == 1 else [batch, top]
    return [
        {"name": names[SCORES], "shape": [batch, count], "dtype": dtype, "meaning": _SCORES},
        {"name": names[EXPLAINED], "shape": chosen, "dtype": "int64", "meaning": _EXPLAINED},
    ]


def _ranked(pair: Pair, value: str, seed: GraphSeed) -> Ranked:
    """Return the value by which classes or channels are ranked, and what is known of it."""
    scores, explained = pair.manifest["scores"], pair.manifest["explained"]
    if scores is None and explained["output"] is not None:
        raise ModelError(f"the graph does not tell what output {explained['output']!r} is: choose a layer")
    if seed != "unit" and scores is not None and value == scores["value"]:
        if scores["kind"] == "detections" and scores["fields"] is None:
            raise ModelError(
                f"output {scores['output']!r} holds boxes, and nothing tells which of their fields are "
                "classes: put the classes' labels into the model's metadata, or choose units (seed 'unit')"
            )
        if scores["kind"] == "embedding":
            raise ModelError(
                f"output {scores['output']!r} is an embedding, whose dimensions have no meaning: choose "
                "units (seed 'unit')"
            )
        fields = None if scores["fields"] is None else Fields(**scores["fields"])
        value = scores.get("ranked", value)  # earlier pairs have none
        return Ranked(value, Axes.of(scores["axes"]), scores["classes"], fields)
    return Ranked(value, Axes.of(explained["axes"]) if value == explained["value"] else Axes())


def _count(explained: Mapping[str, Any], ranked: Ranked, seed: GraphSeed) -> int | None:
    """Return how many channels, or units, each image has; ``None`` where the model does not say."""
    if ranked.elements is not None or ranked.fields is not None:
        return ranked.fields.count if ranked.fields is not None else len(ranked.elements or ())
    shape = Axes.of(explained["axes"]).sizes(explained["shape"]) or []
    sizes = shape[1:] if seed == "unit" else shape[1:2]
    whole = [size for size in sizes if isinstance(size, int)]
    return prod(whole) if sizes and len(whole) == len(sizes) else None


def _results(pair: Pair) -> dict[str, Mapping[str, Any]]:
    return {r["name"]: r for r in pair.manifest["reconstructions"]}


def _seed_type(pair: Pair) -> str:
    return str(pair.manifest["semantics"]["precision"])


def _entry(like: Mapping[str, Any], name: str, shape: Any) -> dict[str, Any]:
    return {**like, "name": name, "shape": shape}


def _with_top(shape: Any, top: int) -> Any:
    return shape if top == 1 or shape is None else [shape[0], top, *shape[1:]]


def _heat(result: Mapping[str, Any], name: str, layout: "Layout") -> dict[str, Any]:
    shape = result["shape"]
    if shape is not None:
        *lead, a, b, c = shape
        shape = [*lead, b, c, 3] if layout == "NCHW" else [*lead, a, b, 3]
    return {"name": name, "of": result["name"], "shape": shape, "dtype": "uint8"}


def _picture(inputs: Any, name: str, preprocess: "Preprocess") -> dict[str, Any]:
    if len(inputs) != 1:
        raise ModelError(f"the model takes {len(inputs)} inputs: a picture can be prepared for one alone")
    n, *rest = inputs[0]["shape"] or [None] * 4
    sizes = rest[1:] if preprocess.layout == "NCHW" else rest[:2]
    return {"name": name, "of": inputs[0]["name"], "shape": [n, *sizes, 3], "dtype": "uint8"}


def _prepared(pair: Pair, name: str, preprocess: "Preprocess") -> dict[str, Any]:
    """Say how pictures are prepared, which the graph itself does, and of what size they are."""
    ((batch, *rest),) = pair.manifest["example"].values()
    sizes = rest[1:] if preprocess.layout == "NCHW" else rest[:2]
    return {"preprocessing": asdict(preprocess), "example": {name: [batch, *sizes, 3]}}


def _info(entry: Mapping[str, Any]) -> ValueInfoProto:
    dtype = TensorProto.DataType.Value(str(entry["dtype"]).upper())
    return helper.make_tensor_value_info(entry["name"], dtype, entry["shape"])


class _Assembly:
    """A graph to which others are added; values that only they know get names that are free."""

    def __init__(self, proto: ModelProto, outputs: int, name: str) -> None:
        self.proto, self.graph, self.opset = proto, proto.graph, opset_of(proto)
        del self.graph.output[outputs:]
        put_in_order(self.graph, name)
        self.nodes = {n.name for n in self.graph.node}
        for node in self.graph.node:
            if node.name.startswith(BACKWARD):  # by which the backward pass is told from the user's model
                node.name = self._node_name(f"model/{node.name}")
        given = {i.name for i in self.graph.input}
        self.taken = {*given, *_names(self.graph)}
        self.fixed = {t.name for t in self.graph.initializer if t.name in given}
        tensors = [(t.name, t) for t in self.graph.initializer if t.name not in given]
        tensors += stored_tensors(self.graph.node).items()
        self.tensors = {_content(tensor): name for name, tensor in tensors}

    def free(self, name: str) -> str:
        """Take a name that no value has: this one, or a longer one."""
        while name in self.taken:
            name += "_"
        self.taken.add(name)
        return name

    def append(self, part: ModelProto, names: Mapping[str, str]) -> dict[str, str]:
        """Add a graph's nodes; its values that have no other name in ``names`` are tied by their own.

        Returns
        -------
        dict
            What its outputs are called here.
        """
        inside = at_opset(part, self.opset, IR_VERSION).graph
        known = {i.name: i.name for i in inside.input} | dict(names)
        known |= {t.name: self._weight(t) for t in inside.initializer}
        for node in inside.node:
            known |= {v: self.free(v) for v in node.output if v and v not in known}
            self.graph.node.append(_renamed(node, known, self._node_name(node.name)))
        return {o.name: known[o.name] for o in inside.output}

    def add_target(self, entry: Mapping[str, Any], *, optional: bool) -> None:
        """Declare the input that says what to explain; it has a default where it is optional."""
        if optional:
            ((name, default),) = own_top({"target": entry}).items()
            self.graph.initializer.append(numpy_helper.from_array(default, name))
        self.graph.input.append(_info(entry))

    def prepend(self, part: ModelProto, names: Mapping[str, str]) -> None:
        """Add a graph's nodes, in front of those that are there."""
        count = len(self.graph.node)
        self.append(part, names)
        turned = GraphProto()
        turned.node.extend([*self.graph.node[count:], *self.graph.node[:count]])
        del self.graph.node[:]
        self.graph.node.extend(turned.node)

    def replace_input(self, name: str, info: ValueInfoProto) -> None:
        """Declare another input in the place of one."""
        where = next(k for k, i in enumerate(self.graph.input) if i.name == name)
        self.graph.input[where].CopyFrom(info)

    def finished(self, pair: Pair, manifest: Mapping[str, Any], passes: Iterable[str]) -> ExplainGraph:
        """Optimise the model, and put the manifest into it."""
        del self.graph.value_info[:]
        replace(self.graph.value_info, _beyond_inference(self.proto))
        kept = {p.key: p.value for p in self.proto.metadata_props if p.key != MANIFEST_KEY}
        helper.set_model_props(self.proto, kept | {MANIFEST_KEY: json.dumps(manifest)})
        made = apply_passes(self.proto, passes)
        state_sizes(made)
        return ExplainGraph(made, manifest, pair.folder, pair)

    def _node_name(self, name: str) -> str:
        while name in self.nodes:
            name += "_"
        self.nodes.add(name)
        return name

    def _weight(self, tensor: TensorProto) -> str:
        if tensor.name in self.fixed:
            return tensor.name
        content = _content(tensor)
        if content not in self.tensors:
            copy = TensorProto()
            copy.CopyFrom(tensor)
            copy.name = self.tensors[content] = self.free(tensor.name)
            self.graph.initializer.append(copy)
        return self.tensors[content]


def _beyond_inference(proto: ModelProto) -> list[ValueInfoProto]:
    """List the feature maps of the user's model whose sizes ONNX's own inference, which passes use, misses.

    Most stand behind a Pad whose pads the graph computes.
    """
    found = onnx.shape_inference.infer_shapes(proto).graph.value_info
    missed = {v for node in proto.graph.node if not node.name.startswith(BACKWARD) for v in node.output}
    missed -= {info.name for info in found if _is_map_of_known_size(info)}
    if not missed:
        return []
    known = infer_shapes(proto).graph.value_info
    return [info for info in known if info.name in missed and _is_map_of_known_size(info)]


def _is_map_of_known_size(info: ValueInfoProto) -> bool:
    """Tell whether a value has a batch axis, channels, and axes of known size."""
    sizes = list(info.type.tensor_type.shape.dim)[1:]
    return len(sizes) > len("C") and all(dim.dim_value for dim in sizes)


def _names(graph: GraphProto) -> set[str]:
    """Collect the names of all values, those inside branches and loops too."""
    names = {v for n in graph.node for v in n.output} | {t.name for t in graph.initializer}
    names |= {t.values.name for t in graph.sparse_initializer}
    names |= {i.name for i in graph.input}
    for attribute in (a for n in graph.node for a in n.attribute):
        for inner in [attribute.g] if attribute.HasField("g") else attribute.graphs:
            names |= _names(inner)
    return names


def _content(tensor: TensorProto) -> object:
    """Tell tensors of the same numbers: by where they lie, or by the numbers themselves."""
    head = tensor.data_type, tuple(tensor.dims)
    if tensor.data_location == TensorProto.EXTERNAL:
        return *head, tuple(sorted((e.key, e.value) for e in tensor.external_data))
    return *head, numpy_helper.to_array(tensor).tobytes()


def _renamed(node: NodeProto, names: Mapping[str, str], name: str) -> NodeProto:
    new = renamed(node, names)
    new.name = name
    return new
