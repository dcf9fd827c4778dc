"""The walk back through the forward graph, node by node."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from onnx_deconv.errors import InputError, MissingRuleError
from onnx_deconv.verification.reference.activations import rectified
from onnx_deconv.verification.reference.graph import Array, Forward
from onnx_deconv.verification.reference.options import ReferenceOptions
from onnx_deconv.verification.reference.slopes import differentiated
from onnx_deconv.verification.reference.spelled import spelled_activation
from onnx_deconv.verification.reference.table import BACKWARD
from onnx_deconv.verification.reference.visit import Visit

Sent = list[tuple[str, Array]]
"""The signals that a node sends back, by the values that they go to."""


def reference(
    model: onnx.ModelProto,
    values: Mapping[str, NDArray[Any]],
    explained: str,
    seed: NDArray[Any],
    inputs: Sequence[str] | None = None,
    options: ReferenceOptions | None = None,
) -> dict[str, Array]:
    """Project `seed`, placed at the value `explained`, back to the inputs of `model`.

    Parameters
    ----------
    model
        A flat graph (functions inlined) with its weights inside.
    values
        Every forward value by name, from any runtime: graph inputs and outputs of nodes.
        The switches are recomputed from these very numbers.
    explained
        The value to start from.
    seed
        The signal there, of the value's shape.
    inputs
        The inputs to return reconstructions for, of any type; default: each floating point input of the model
        that the signal reaches.
    options
        The variant of the method; a deconvnet with all defaults if not given.

    Returns
    -------
    dict
        The reconstruction for each input, float64; zeros for one in `inputs` that no signal
        reaches.

    Raises
    ------
    MissingRuleError
        If operators that the signal reaches have no row here, and are no functions of one number; all of
        them are named.
    RuleError
        If an operator has a form that its row does not support.
    InputError
        If the seed does not have the value's shape.
    UnknownLayerError, ModelError
        If a forward value that is needed is unknown, or was not given.
    """
    graph = Forward.read(model, values, inputs)
    seed = np.asarray(seed, np.float64)
    if graph.value(explained).shape != seed.shape:
        shape = graph.value(explained).shape
        raise InputError(f"the seed has shape {seed.shape}, but {explained!r} has {shape}")
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        nodes = reversed(model.graph.node)
        signals = walk_back(nodes, graph, {explained: seed}, options or ReferenceOptions(), _sent_back)
    return {
        name: np.array(signals[name]) if name in signals else np.zeros(graph.value(name).shape)
        for name in graph.inputs
        if inputs is not None or name in signals
    }


def walk_back(
    nodes: Iterable[onnx.NodeProto],
    graph: Forward,
    signals: dict[str, Array],
    options: ReferenceOptions,
    sent_back: Callable[[Visit], Sent | None],
) -> dict[str, Array]:
    """Send signals back through nodes, the last first; return those that are left, the inputs' among them.

    Raises
    ------
    MissingRuleError
        If `sent_back` knows no answer for nodes that a signal reaches.
    """
    missing: list[tuple[str, str]] = []
    for node in nodes:
        arrived = [signals.get(name) if name else None for name in node.output]
        for name in set(node.output) - set(graph.inputs):
            signals.pop(name, None)
        visit = Visit(graph, node, arrived, options)
        if not visit.reached:
            continue
        sent = sent_back(visit)
        if sent is None:
            missing.append((visit.operator, node.name or node.output[0]))
            continue
        for name, signal in sent:
            signals[name] = signals[name] + signal if name in signals else signal
    if missing:
        raise MissingRuleError(missing)
    return signals


def _sent_back(at: Visit) -> Sent | None:
    """Return the signal for each input that an explained input feeds; None if the operator is unknown."""
    x = _spelled_rectifier(at)
    if x is not None:
        return [(x, rectified(at, at.graph.value(x)))]
    if at.operator in BACKWARD:
        row = BACKWARD[at.operator]
        return [(name, row(at, i)) for i, name in enumerate(at.node.input) if name in at.graph.depends]
    signal = differentiated(at)
    return None if signal is None else [(at.node.input[0], signal)]


def _spelled_rectifier(at: Visit) -> str | None:
    """Return the input of the activation that ends here, spelled in several nodes."""
    if at.options.rules == "gradient" or at.options.activations == "relu":
        return None
    return spelled_activation(at.graph, at.node)
