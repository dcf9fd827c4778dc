"""Walk back from the explained value to the input, one rule per node: the companion graph.

This is reverse-mode differentiation with other rows for the rectifiers: signals start at the
explained value, each node hands its output's signal to its inputs by its rule, and signals that
meet are summed.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs
from onnx import ModelProto, TensorProto, helper

from onnx_deconv.compiler.forward import forward
from onnx_deconv.errors import MissingRuleError, ModelError, RuleError
from onnx_deconv.model import Model, blaming_the_file
from onnx_deconv.operators import RuleTable, Site, rule_table
from onnx_deconv.operators.builder import Emitter, Signal
from onnx_deconv.operators.site import Tap, label
from onnx_deconv.semantics import Semantics

SEED, RECONSTRUCTION = "seed", "reconstruction"
MANIFEST_KEY = "onnx_deconv.manifest"
FORMAT = 1
"""Version of the manifest's layout."""

_FLOATS = {
    TensorProto.FLOAT,
    TensorProto.FLOAT16,
    TensorProto.DOUBLE,
    TensorProto.BFLOAT16,
    TensorProto.UNDEFINED,
}
_QUANTISED = {TensorProto.UINT8, TensorProto.INT8, TensorProto.UINT16, TensorProto.INT16}
_CARRIERS = _FLOATS | _QUANTISED
_MEANINGS = {
    "seed": "what to explain: zero but for the chosen unit of the explained value",
    "switches": "where each window of the MaxPool found its maximum: flat index into its whole input",
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
        The temporary folder of a model that came from memory, kept as long as the pair.
    """

    forward: ModelProto
    deconv: ModelProto
    manifest: Mapping[str, Any]
    folder: Path
    keeps: object = field(default=None, repr=False)


def compile_pair(
    model: Model,
    explained: str | None = None,
    *,
    semantics: Semantics | None = None,
    inputs: Sequence[str] | None = None,
    rules: RuleTable | None = None,
) -> Pair:
    """Make the forward model and the companion that explains one of its values.

    Parameters
    ----------
    model
        The user's model.
    explained
        The value to explain; by default the scores: the first output, before a final Softmax,
        LogSoftmax or Sigmoid (see :func:`scores_value`).
    semantics
        The choices of the deconvnet; all defaults if not given.
    inputs
        The model inputs to explain in terms of; by default all that carry real numbers.
    rules
        A rule table of the caller's own in place of the one that the semantics choose.

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
    with blaming_the_file(model.proto, model.name):
        return _compiled(model, explained, semantics or Semantics(), inputs, rules)


def _compiled(
    model: Model,
    explained: str | None,
    semantics: Semantics,
    inputs: Sequence[str] | None,
    rules: RuleTable | None,
) -> Pair:
    value, cut = scores_value(model) if explained is None else (model.layer(explained), [])
    walk = Walk(model, value, semantics, inputs, rules or rule_table(semantics))
    deconv, taps = walk.run()
    manifest = _manifest(walk, deconv, taps, cut)
    # The explained value's own activations choose the unit and scale the seed.
    shown = Tap("value", walk.value, walk.value)
    pair = Pair(forward(model, [*taps, shown]), deconv, manifest, model.folder, model.spool)
    for proto in (pair.forward, pair.deconv):
        kept = [(p.key, p.value) for p in proto.metadata_props if p.key != MANIFEST_KEY]
        helper.set_model_props(proto, {**dict(kept), MANIFEST_KEY: json.dumps(manifest)})
    pair.deconv.producer_name, pair.deconv.producer_version = "onnx_deconv", manifest["version"]
    return pair


def scores_value(model: Model, output: str | None = None) -> tuple[str, list[str]]:
    """Find where an explanation of a class starts: before the final Softmax, LogSoftmax or Sigmoid.

    A softmax makes every class's signal depend on all others; Simonyan et al. (2014, section 2)
    start before it for that reason.

    Returns
    -------
    tuple
        The value's name, and the names of the nodes that were cut off behind it.
    """
    value = output or next((o for o in model.outputs if model.type_of(o).dtype in _FLOATS), model.outputs[0])
    trail: list[str] = []
    below = value
    while (node := model.producers.get(below)) is not None:
        trail.append(f"{node.op} {label(node)}")
        below = node.inputs[0].name if node.inputs else ""
        if node.op in ("Softmax", "LogSoftmax", "Sigmoid"):
            return below, trail
        if node.op not in (
            "Identity",
            "Cast",
            "Dropout",
            "Reshape",
            "Flatten",
            "Squeeze",
            "Unsqueeze",
            "Transpose",
        ):
            break
    return value, []


class Walk:
    """One walk back through the graph.

    Parameters
    ----------
    model, value, semantics, inputs, table
        As for :func:`compile_pair`.
    """

    def __init__(
        self,
        model: Model,
        value: str,
        semantics: Semantics,
        inputs: Sequence[str] | None,
        table: RuleTable,
    ) -> None:
        self.model, self.value, self.semantics, self.table = model, value, semantics, table
        self.op = Emitter(np.dtype(semantics.precision))
        self.taps: dict[str, Tap] = {}
        self.weights: dict[str, TensorProto] = {}
        wanted = list(inputs) if inputs is not None else self._real_inputs()
        for name in wanted:
            if name not in model.inputs:
                raise ModelError(f"{model.name} has no input {name!r}; it has {', '.join(model.inputs)}")
        self.path, self.reached = _path(model, wanted, value)
        self.inputs = [i for i in wanted if i in self.reached]
        if not self.inputs or value in wanted:
            raise ModelError(
                f"{model.name}: no path leads from {', '.join(wanted) or 'an input'} to {value!r}"
            )

    def missing(self) -> list[tuple[str, str]]:
        """Return (operator, node) for each node on the path that has no rule."""
        return [
            (n.op if _domain(n) == "" else f"{_domain(n)}::{n.op}", label(n))
            for n in self.path
            if (_domain(n), n.op) not in self.table
        ]

    def run(self) -> tuple[ModelProto, list[Tap]]:
        """Emit the companion; return it with the taps it reads."""
        if missing := self.missing():
            raise MissingRuleError(missing)
        types = self.model.type_of(self.value)
        signals: dict[str, list[Signal]] = defaultdict(list)
        signals[self.value] = [self.op.input(SEED, types.dims)]
        for node in reversed(self.path):
            arrived = [self._met(signals, v.name) for v in node.outputs]
            if any(s is not None for s in arrived):
                self._apply(node, arrived, signals)
        return self._export(signals)

    def _apply(self, node: gs.Node, arrived: list[Signal | None], signals: dict[str, list[Signal]]) -> None:
        self.op.origin = label(node)
        names = [v.name for v in node.inputs]
        site = Site(
            node, self.op, self.model, self.semantics, arrived,
            lambda i: i < len(names) and names[i] in self.reached, self.taps, self.weights,
        )  # fmt: skip
        passed = self.table[_domain(node), node.op](site)
        if len(passed) > len(names) and any(s is not None for s in passed[len(names) :]):
            why = f"returned {len(passed)} signals for the {len(names)} inputs of {label(node)!r}"
            raise RuleError(f"the rule for {node.op} {why}")
        for name, signal in zip(names, passed, strict=False):
            if signal is not None and name in self.reached:
                signals[name].append(signal)

    def _met(self, signals: dict[str, list[Signal]], value: str) -> Signal | None:
        """Return the sum of the signals that meet at a value."""
        if not signals[value]:
            return None
        signals[value] = [self.op.sum(signals[value])]
        return signals[value][0]

    def _export(self, signals: dict[str, list[Signal]]) -> tuple[ModelProto, list[Tap]]:
        outputs = []
        for name in self.inputs:
            types = self.model.type_of(name)
            shape = types.dims
            signal = self._met(signals, name)
            if signal is None:
                raise ModelError(f"{self.model.name}: no signal from {self.value!r} can reach {name!r}")
            output = RECONSTRUCTION if len(self.inputs) == 1 else f"{RECONSTRUCTION}/{name}"
            outputs.append((output, signal, helper.make_tensor_value_info(output, self.op.elem_type, shape)))
        proto = self.op.export(outputs, self.weights.values(), f"deconv of {self.value}")
        used = {i.name for i in proto.graph.input}
        return proto, [t for t in self.taps.values() if t.name in used]

    def _real_inputs(self) -> list[str]:
        types = {i: self.model.type_of(i).dtype for i in self.model.inputs}
        # Some quantised models take the picture as it is, in whole numbers.
        return [i for i, t in types.items() if t in _FLOATS] or [
            i for i, t in types.items() if t in _QUANTISED
        ]


def _path(model: Model, inputs: Iterable[str], value: str) -> tuple[list[gs.Node], set[str]]:
    """Find the nodes between the inputs and the value, in order, and the values between them.

    Real numbers carry a signal, quantised ones too: paths end at other integers and at truth values
    (shapes, indices, masks).
    """
    reached = set(inputs)
    for node in model.nodes:
        if any(v in reached for v in _reads(node)):
            reached.update(v.name for v in _passed_on(node) if model.type_of(v.name).dtype in _CARRIERS)
    wanted, path = {value}, []
    for node in reversed(model.nodes):
        if any(v.name in wanted and v.name in reached for v in node.outputs):
            path.append(node)
            wanted.update(v for v in _reads(node) if v in reached)
    return path[::-1], reached & wanted


def _passed_on(node: gs.Node) -> list[gs.Variable]:
    """Return the outputs that a signal can come from: a dynamic quantiser's scale is taken as given."""
    return node.outputs[:1] if node.op == "DynamicQuantizeLinear" else node.outputs


def _reads(node: gs.Node) -> Iterator[str]:
    """Yield the values that a node reads, those that its branches (If, Loop) take from around it too."""
    yield from (v.name for v in node.inputs)
    for branch in (a for a in node.attrs.values() if isinstance(a, gs.Graph)):
        for inner in branch.nodes:
            yield from _reads(inner)


def _domain(node: gs.Node) -> str:
    return "" if node.domain in (None, "", "ai.onnx") else str(node.domain)


def _manifest(walk: Walk, deconv: ModelProto, taps: Sequence[Tap], cut: Sequence[str]) -> dict[str, Any]:
    model, tapped = walk.model, {t.name: t for t in taps}
    return {
        "format": FORMAT,
        "version": version("onnx-deconv"),
        "model": Path(model.name).name,
        "explained": {"value": walk.value, **_type(model, walk.value), "cut": list(cut)},
        "semantics": walk.semantics.as_dict(),
        "inputs": [{"name": name, **_type(model, name)} for name in model.inputs],
        "outputs": [{"name": name, **_type(model, name)} for name in model.outputs],
        "deconv_inputs": [
            {"name": i.name, **_meaning(tapped.get(i.name)), **_info_type(i)} for i in deconv.graph.input
        ],
        "reconstructions": [
            {"name": o.name, "of": name, **_info_type(o)}
            for o, name in zip(deconv.graph.output, walk.inputs, strict=True)
        ],
    }


def _meaning(tap: Tap | None) -> dict[str, str]:
    if tap is None:
        return {"kind": "seed", "meaning": _MEANINGS["seed"]}
    return {"kind": tap.kind, "of": tap.value, "meaning": _MEANINGS[tap.kind]}


def _type(model: Model, value: str) -> dict[str, Any]:
    types = model.type_of(value)
    dtype = TensorProto.DataType.Name(types.dtype).lower()
    return {"shape": types.dims, "dtype": dtype}


def _info_type(info: Any) -> dict[str, Any]:
    tensor = info.type.tensor_type
    dims = [d.dim_value if d.HasField("dim_value") else d.dim_param or None for d in tensor.shape.dim]
    dtype = TensorProto.DataType.Name(tensor.elem_type).lower()
    return {"shape": dims if tensor.HasField("shape") else None, "dtype": dtype}
