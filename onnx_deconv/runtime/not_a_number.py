"""Which node of a model gives the first result that is no number."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from onnx import ModelProto, NodeProto, helper

from onnx_deconv.compiler.pair import Pair
from onnx_deconv.errors import way
from onnx_deconv.model.protos import constant_nodes
from onnx_deconv.operators.builder import BACKWARD, origin
from onnx_deconv.runtime.session import Session, numpy_of


def why_not_finite(pair: Pair, feeds: Mapping[str, Any], sent: Mapping[str, Any]) -> str:
    """Say what made values of a reconstruction infinite or NaN.

    Parameters
    ----------
    pair
        The pair that made it.
    feeds, sent
        What its forward model and its companion were given, by name; on the CPU.
    """
    own = first_nan(pair.forward, pair.folder, feeds)
    if own is not None:
        return f"the model's own {own} gives NaN"
    found = first_nan(pair.deconv, pair.folder, sent, or_infinite=True, companion=True)
    return f"the signal is first infinite or NaN at {found}; {_way_out(pair.manifest['semantics'])}"


def _way_out(semantics: Mapping[str, Any]) -> str:
    """Name what keeps a signal smaller: more precision, else rules that stop it where units are saturated."""
    if semantics["precision"] == "float16":
        return "explain in float32"
    if semantics["rules"] != "gradient" or semantics["cam"] != "none":
        by = way("--rules gradient", "semantics='gradient'")
        return f"by the gradient it may stay finite: {by}"
    return f"it may stay finite from a layer nearer to the input: {way('--layer', 'layer=')}"


def first_nan(
    proto: ModelProto,
    folder: Path,
    feeds: Mapping[str, Any],
    *,
    or_infinite: bool = False,
    companion: bool = False,
) -> str | None:
    """Name the first node that gives NaN, by its operator and its name; ``None`` where none does.

    Parameters
    ----------
    proto, folder
        A model, and where its weights lie.
    feeds
        Its inputs by name.
    or_infinite
        Whether infinite numbers count, too.
    companion
        Whether it is a companion, or has one in it: its nodes are named by the forward nodes.
    """
    probe = ModelProto()
    probe.CopyFrom(proto)
    shown = {o.name for o in probe.graph.output} | {*constant_nodes(probe.graph.node)}
    values = (v for node in probe.graph.node for v in node.output if v and v not in shown)
    probe.graph.output.extend(map(helper.make_empty_tensor_value_info, values))
    found = Session(probe, folder, "cpu").run(feeds)
    for node in probe.graph.node:
        results = (numpy_of(found[v]) for v in node.output if v in found)
        if any(_is_bad(result, or_infinite=or_infinite) for result in results):
            return _named(node, companion=companion)
    return None


def _named(node: NodeProto, *, companion: bool) -> str:
    name = node.name or node.output[0]
    if companion and name.startswith(BACKWARD):
        return repr(origin(name))
    return f"{node.op_type} {name!r}"


def _is_bad(values: Any, *, or_infinite: bool) -> bool:
    if values.dtype.kind != "f":
        return False
    return bool((~np.isfinite(values) if or_infinite else np.isnan(values)).any())
