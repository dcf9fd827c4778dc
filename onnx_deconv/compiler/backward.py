"""Walk back from the explained value to the input, one rule per node: the companion graph.

This is reverse-mode differentiation with other rows for the rectifiers: signals start at the
explained value, each node hands its output's signal to its inputs by its rule, and signals that
meet are summed.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import onnx_graphsurgeon as gs
from onnx import ModelProto, TensorProto, helper

from onnx_deconv.errors import DeconvError, MissingRuleError, ModelError, RuleError
from onnx_deconv.model import Model
from onnx_deconv.model.heads import FLOATS
from onnx_deconv.operators import Key, Rule, Signals, Site, Tap, find, own_domain, rules_for, spelled
from onnx_deconv.operators.builder import Emitter, Signal
from onnx_deconv.operators.node import label
from onnx_deconv.operators.traits import QUANTISER
from onnx_deconv.semantics import Semantics

SEED, RECONSTRUCTION = "seed", "reconstruction"

_QUANTISED = {TensorProto.UINT8, TensorProto.INT8, TensorProto.UINT16, TensorProto.INT16}
_CARRIERS = FLOATS | _QUANTISED
_OURS = "onnx_deconv."


class Walk:
    """One walk back through the graph.

    Parameters
    ----------
    model
        The user's model.
    value
        The value to explain.
    semantics
        The choices of the deconvnet.
    inputs
        The model inputs to explain in terms of; by default all that carry real numbers.

    Attributes
    ----------
    path
        The nodes between the inputs and the value, in order.
    reached
        The values between them.
    readers
        The nodes among them that read a value, by its name.
    rules
        The rule that the semantics choose for each operator that has one.
    """

    def __init__(
        self,
        model: Model,
        value: str,
        semantics: Semantics,
        inputs: Sequence[str] | None = None,
    ) -> None:
        self.model, self.value, self.semantics = model, value, semantics
        self.rules = rules_for(semantics)
        self.op = Emitter(np.dtype(semantics.precision))
        self.taps: dict[str, Tap] = {}
        self.weights: dict[str, TensorProto] = {}
        wanted = list(inputs) if inputs is not None else self._real_inputs()
        for name in wanted:
            if name not in model.inputs:
                raise ModelError(f"{model.name} has no input {name!r}; it has {', '.join(model.inputs)}")
        self.path, self.reached = _path(model, wanted, value)
        self.readers = _readers(self.path)
        self.inputs = [i for i in wanted if i in self.reached]
        if not self.inputs or value in wanted:
            raise ModelError(
                f"{model.name}: no path leads from {', '.join(wanted) or 'an input'} to {value!r}"
            )

    def missing(self) -> list[tuple[str, str]]:
        """Return (operator, node) for each node on the path that has no rule."""
        return [
            (spelled(key), label(node))
            for key, node in ((_key(n), n) for n in self.path)
            if key not in self.rules
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
            node, self.model, self.op, self.semantics, arrived,
            self.reached, self.readers, self.taps, self.weights,
        )  # fmt: skip
        passed = self._passed(site, self.rules[_key(node)], names)
        for name, signal in zip(names, passed, strict=False):
            if signal is not None and name in self.reached:
                signals[name].append(signal)

    def _passed(self, site: Site, rule: Rule, names: Sequence[str]) -> Signals:
        """Apply a rule, and check what it returns."""
        called = f"the rule {getattr(rule, '__name__', rule)!r} for {site.node.op} at {label(site.node)!r}"
        try:
            passed = rule(site)
        except DeconvError:
            raise
        except Exception as error:
            if getattr(rule, "__module__", "").startswith(_OURS):
                raise
            raise RuleError(f"{called} raised {type(error).__name__}: {error}") from error
        if not isinstance(passed, Sequence) or not all(s is None or isinstance(s, gs.Tensor) for s in passed):
            raise RuleError(f"{called} returned no list of signals: one per input, None where nothing flows")
        if any(s is not None for s in passed[len(names) :]):
            raise RuleError(f"{called} returned {len(passed)} signals for {len(names)} inputs")
        if any(name in self.reached for name in names[len(passed) :]):
            raise RuleError(
                f"{called} returned {len(passed)} signals, but input {len(passed)} depends on the image too"
            )
        return passed

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
        return [i for i, t in types.items() if t in FLOATS] or [
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


def _readers(path: Iterable[gs.Node]) -> dict[str, list[gs.Node]]:
    found: dict[str, list[gs.Node]] = defaultdict(list)
    for node in path:
        for value in set(_reads(node)):
            found[value].append(node)
    return dict(found)


def _passed_on(node: gs.Node) -> list[gs.Variable]:
    """Return the outputs that a signal can come from: a dynamic quantiser's scale is taken as given."""
    return node.outputs[:1] if QUANTISER in find(node.op, node.domain).traits else node.outputs


def _reads(node: gs.Node) -> Iterator[str]:
    """Yield the values that a node reads, those that its branches (If, Loop) take from around it too."""
    yield from (v.name for v in node.inputs)
    for branch in (a for a in node.attrs.values() if isinstance(a, gs.Graph)):
        for inner in branch.nodes:
            yield from _reads(inner)


def _key(node: gs.Node) -> Key:
    return own_domain(node.domain), str(node.op)
