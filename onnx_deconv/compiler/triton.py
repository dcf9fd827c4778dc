"""A model repository for NVIDIA's Triton Inference Server: the model itself, and beside it its explain graph.

Plain requests go to the model itself and stay as fast as they are. Both are batched by the server, where the
batch is free: what an image gets depends on no other image.
"""

from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

from google.protobuf.text_encoding import CEscape

from onnx_deconv.compiler.explain_graph import ExplainGraph
from onnx_deconv.compiler.input_facts import input_facts, labels_of
from onnx_deconv.compiler.package import Check, save_graph
from onnx_deconv.compiler.pair import described, of_given_sizes
from onnx_deconv.errors import InputError, given, sizes_of
from onnx_deconv.files import folder, replacing
from onnx_deconv.model import Model
from onnx_deconv.model.axis_names import has_batches
from onnx_deconv.model.heads import head_of

FILE, CONFIG, VERSION = "model.onnx", "config.pbtxt", "1"
_TYPES = {
    "float": "TYPE_FP32", "float16": "TYPE_FP16", "double": "TYPE_FP64", "bfloat16": "TYPE_BF16",
    "int8": "TYPE_INT8", "int16": "TYPE_INT16", "int32": "TYPE_INT32", "int64": "TYPE_INT64",
    "uint8": "TYPE_UINT8", "uint16": "TYPE_UINT16", "uint32": "TYPE_UINT32", "uint64": "TYPE_UINT64",
    "bool": "TYPE_BOOL", "string": "TYPE_STRING",
}  # fmt: skip
_KINDS = {"onnxruntime": "KIND_CPU", "cuda": "KIND_GPU"}
_DELAY = 500
"""Microseconds for which a request waits for others to be batched with."""

MOST = 8
"""How many images the server runs at once, at most, if nothing else is said."""


def save_repository(
    model: Model,
    graph: ExplainGraph,
    path: str | PathLike[str],
    name: str,
    max_batch: int = MOST,
    check: Check = lambda _: None,
) -> list[Path]:
    """Write ``NAME`` and ``NAME_explain`` into a model repository, which is made where it does not exist.

    Parameters
    ----------
    model, graph
        The model, and its explain graph for ``onnxruntime`` or ``cuda``.
    path
        The repository's folder.
    name
        What the server calls the model.
    max_batch
        How many images the server runs at once, at most, where the model leaves that open; 0 where it must
        not put requests together, as the model's answer for an image depends on those beside it. This is not
        tried here, where nothing is run, but by ``convert``, and by
        ``heeds_neighbours(model, Session(model.proto, model.folder).run_plainly, None)``
        (:mod:`onnx_deconv.verification`, :mod:`onnx_deconv.runtime`).
    check
        A last look at the folder of the explain graph, the first that is written; where it raises
        anything, all stays as it was.

    Returns
    -------
    list
        The files written.

    Raises
    ------
    InputError
        If the graph is for a runtime that the server's backend for ONNX does not have, its target may be left
        out, a value is of no form that the server takes, or a file cannot be written.
    """
    manifest = graph.manifest
    if manifest["runtime"] not in _KINDS:
        raise InputError(f"Triton runs graphs for {' and '.join(_KINDS)}, not for {manifest['runtime']}")
    if manifest["target"]["input"] == "optional":
        raise InputError(
            f"{given('target_input', 'optional')}: Triton's backend for ONNX takes no optional inputs"
        )
    if untyped := [entry["name"] for entry in manifest["outputs"] if entry["dtype"] == "undefined"]:
        raise InputError(
            f"output {untyped[0]!r} is no tensor, as a ZipMap's, and Triton's backend for ONNX takes nothing "
            "else: leave that node out of the model"
        )
    home, files = folder(path), list[Path]()
    both: tuple[tuple[str, dict[str, Any], Callable[[Path], list[Path]]], ...] = (
        (f"{name}_explain", _with_target(manifest), lambda to: graph.save(to, FILE, check)),
        (
            name,
            _of_model(model, manifest["runtime"]),
            lambda to: save_graph(of_given_sizes(model), None, model.folder, to, FILE),
        ),
    )
    texts = {
        called: config(called, entries, max_batch if _can_batch(model, manifest) else 0)
        for called, entries, _ in both
    }
    for called, _, write in both:
        files += write(home / called / VERSION)
        target = home / called / CONFIG
        with replacing(target) as file:
            file.write_text(texts[called], encoding="utf-8")
        files.append(target)
    return files


def _can_batch(model: Model, manifest: Mapping[str, Any]) -> bool:
    """Tell whether the server may put requests together, and part the results, along the first axis."""
    is_weighted = manifest["target"]["dtype"] == "float"  # or an array of the explained value's shape
    return has_batches(model) and (not is_weighted or manifest["explained"]["axes"]["batch"] == 0)


def _of_model(model: Model, runtime: str) -> dict[str, Any]:
    entries = [[described(model, name) for name in names] for names in (model.inputs, model.outputs)]
    head = head_of(model)
    return {
        "inputs": entries[0],
        "outputs": entries[1],
        "runtime": runtime,
        **input_facts(model, head, labels_of(model, head).names),
    }


def _with_target(manifest: Mapping[str, Any]) -> dict[str, Any]:
    target = manifest["target"]
    given = {"name": target["name"], "shape": target["shape"], "dtype": target["dtype"]}
    example = [size if isinstance(size, int) else 1 for size in target["shape"]]
    return {
        **manifest,
        "inputs": [*manifest["inputs"], given],
        "example": {**manifest["example"], target["name"]: example},
    }


def config(name: str, manifest: Mapping[str, Any], max_batch: int) -> str:
    """Write the server's configuration of one model, in protobuf's text format.

    Parameters
    ----------
    name
        What the server calls it.
    manifest
        Its ``inputs`` and ``outputs``, the ``example`` sizes for warming up, and its ``runtime``.
    max_batch
        See :func:`save_repository`; 0 if the first axis is not that of the images.
    """
    values = [*manifest["inputs"], *manifest["outputs"]]
    for entry in values:
        if entry["shape"] is None:
            raise InputError(
                f"the number of axes of {entry['name']!r} is not known: {sizes_of(entry['name'])}"
            )
    free = all(entry["shape"] and not isinstance(entry["shape"][0], int) for entry in values)
    batch = max_batch if free else 0
    lines = [f"name: {_text(name)}", 'backend: "onnxruntime"', f"max_batch_size: {batch}"]
    lines += [_value("input", entry, batch) for entry in manifest["inputs"]]
    lines += [_value("output", entry, batch) for entry in manifest["outputs"]]
    if batch:
        lines.append(f"dynamic_batching {{ max_queue_delay_microseconds: {_DELAY} }}")
    lines.append(f"instance_group {{ kind: {_KINDS[manifest['runtime']]} count: 1 }}")
    return "\n".join([*lines, *_warm_up(manifest, batch)]) + "\n"


def _value(kind: str, entry: Mapping[str, Any], batch: int) -> str:
    """Describe an input or output; the batch is not among its dimensions, of which it has one at least."""
    dims = [size if isinstance(size, int) else -1 for size in entry["shape"]]
    if not dims:
        raise InputError(f"{entry['name']!r} has no axes: Triton takes no such values")
    dims = dims[1:] if batch else dims
    alone = "" if dims else " reshape { shape: [ ] }"
    given = f"data_type: {_type(entry)} dims: {_list(dims or [1])}{alone}"
    return f"{kind} {{ name: {_text(entry['name'])} {given} }}"


def _warm_up(manifest: Mapping[str, Any], batch: int) -> list[str]:
    example = manifest["example"]
    if any(sizes is None or None in sizes for sizes in example.values()):
        return []
    inputs = []
    for entry in manifest["inputs"]:
        sizes = example[entry["name"]]
        dims = (sizes[1:] or [1]) if batch else sizes
        given = f"data_type: {_type(entry)} dims: {_list(dims)} zero_data: true"
        inputs.append(f"  inputs {{ key: {_text(entry['name'])} value {{ {given} }} }}")
    return ['model_warmup {\n  name: "zeros"\n  batch_size: 1', *inputs, "}"]


def _type(entry: Mapping[str, Any]) -> str:
    if entry["dtype"] not in _TYPES:
        raise InputError(f"{entry['name']!r} is {entry['dtype']}: Triton takes no such values")
    return _TYPES[entry["dtype"]]


def _text(name: str) -> str:
    return f'"{CEscape(name, as_utf8=True)}"'


def _list(numbers: Sequence[int]) -> str:
    return f"[ {', '.join(map(str, numbers))} ]"
