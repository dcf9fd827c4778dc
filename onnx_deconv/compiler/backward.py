"""Walk back from the explained value to the input, one rule per node: the companion graph.

This is reverse-mode differentiation with other rows for the rectifiers: signals start at the
explained value, each node hands its output's signal to its inputs by its rule, and signals that
meet are summed.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cached_property

import numpy as np
import onnx_graphsurgeon as gs
from onnx import ModelProto, TensorProto, helper

from onnx_deconv.compiler.axis_order import canonical
from onnx_deconv.compiler.class_activation import class_activation_map, on_image
from onnx_deconv.compiler.dependence import ImageDependence, image_dependence
from onnx_deconv.errors import DeconvError, MissingRuleError, ModelError, RuleError, way
from onnx_deconv.imaging.model_input import input_layout
from onnx_deconv.model import Model
from onnx_deconv.model.carriers import carried, real_inputs
from onnx_deconv.model.feature_maps import feature_maps, feature_maps_at
from onnx_deconv.model.heads import axes_of
from onnx_deconv.model.opset_conversion import at_opset
from onnx_deconv.model.reading import read_by
from onnx_deconv.operators import (
    Key,
    Rule,
    Signals,
    Site,
    Tap,
    key_of,
    rules_for,
    spelled,
    traits_of,
)
from onnx_deconv.operators.builder import OPSET, Emitter, Signal
from onnx_deconv.operators.forward_values import ForwardValues
from onnx_deconv.operators.node import label
from onnx_deconv.operators.quantise import replaces_relu
from onnx_deconv.operators.traits import RECTIFIER
from onnx_deconv.semantics import GRADIENT, NO_RULES, Semantics

SEED, RECONSTRUCTION = "seed", "reconstruction"

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
    measured
        Whether the companion also returns the energy (the sum of squares, for each image) of the signal
        before and after each rectifier.

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
    rectifies
        After :meth:`run`: whether the signal met a rectifier, or a quantiser that stands for one.
    reads_rectifiers
        After :meth:`run`: whether the rule of such a node read forward values.
    energies
        After :meth:`run`, if measured: the companion's outputs with the signal's energy before and after a
        rectifier, by the value that the rectifier computes.
    """

    def __init__(
        self,
        model: Model,
        value: str,
        semantics: Semantics,
        inputs: Sequence[str] | None = None,
        *,
        measured: bool = False,
    ) -> None:
        self.measured, self.energies = measured, dict[str, tuple[str, str]]()
        self._energies = dict[str, Signal]()
        self.model, self.value, self.semantics = model, value, semantics
        self.rules = rules_for(semantics)
        self.op = Emitter(np.dtype(semantics.precision))
        self.values = ForwardValues(model, self.op)
        self.rectifies = self.reads_rectifiers = False
        wanted = list(inputs) if inputs is not None else real_inputs(self.model)
        for name in wanted:
            if name not in model.inputs:
                raise ModelError(f"{model.name} has no input {name!r}; it has {', '.join(model.inputs)}")
        self.path, self.reached = _path(model, wanted, value)
        self.readers = _readers(self.path)
        self.inputs = [i for i in wanted if i in self.reached]
        if not wanted:
            raise ModelError(
                f"{model.name}: no signal comes from {_typed(model)}: put a Cast from float32 before it, or "
                "export the model with float32 inputs"
            )
        if not self.inputs or value in wanted:
            raise ModelError(
                f"{model.name}: no path leads from {', '.join(wanted)} to {value!r}"
                + _way_out(model, wanted, value)
            )

    @cached_property
    def last_maps(self) -> str | None:
        """The last feature maps before the explained value, where the semantics read them.

        Raises
        ------
        ModelError
            If there are none.
        """
        named = self.semantics.cam_layer is not None and self.semantics.head == "signal"
        if named or not self.semantics.reads_feature_maps:
            return None
        maps = feature_maps(self.model, self.value, self.path, self.reached)
        if maps is None:
            remedy = "choose rules without a class activation map"
            raise ModelError(f"{self.model.name}: no feature maps lie before {self.value!r}: {remedy}")
        return maps

    @cached_property
    def cam_maps(self) -> str | None:
        """The feature maps that the class activation map is made of, where there is one.

        Raises
        ------
        ModelError
            If the layer that the semantics name has no positions, or no signal passes through it.
        UnknownLayerError
            If there is no such layer.
        """
        name = self.semantics.cam_layer
        if name is None:
            return self.last_maps if self.semantics.cam != "none" else None
        layer = self.model.layer(name)
        return feature_maps_at(self.model, layer, self.value, self.reached)

    def missing(self) -> list[tuple[str, str]]:
        """Return (operator, node) for each node on the path that has no rule."""
        return [
            (spelled(key), label(node))
            for key, node in ((key_of(n), n) for n in self.path)
            if key not in self.rules
        ]

    def run(self) -> tuple[ModelProto, list[Tap]]:
        """Emit the companion; return it with the taps it reads."""
        if missing := self.missing():
            raise MissingRuleError(missing)
        seed = self.op.input(SEED, self.model.type_of(self.value).dims)
        start, nodes = {self.value: seed}, self.path
        gradients = self._gradients(start)
        cam = None if self.cam_maps is None else self._cam(self.cam_maps, gradients[self.cam_maps])
        if self.semantics.head == "class-map" and self.last_maps is not None:
            above = {id(node) for node in _after(self.path, self.last_maps)}
            nodes = [node for node in self.path if id(node) not in above]
            contributed = self.op.Mul(gradients[self.last_maps], self.values.value(self.last_maps))
            start = {self.last_maps: contributed}
        found = self._sent_back(start, nodes, self.rules) if self.semantics.rules != NO_RULES else {}
        return self._export(found, cam)

    def _gradients(self, start: Mapping[str, Signal]) -> dict[str, Signal]:
        """Return the gradient at the feature maps that take part, by name."""
        wanted = [maps for maps in (self.last_maps, self.cam_maps) if maps is not None]
        after = {id(node) for maps in wanted for node in _after(self.path, maps)}
        above = [node for node in self.path if id(node) in after]
        found = self._sent_back(start, above, rules_for(GRADIENT)) if above else {}
        for maps in wanted:
            if maps not in found:
                raise ModelError(f"{self.model.name}: no gradient of {self.value!r} reaches {maps!r}")
        return found

    def _cam(self, maps: str, gradient: Signal) -> Signal:
        """Make the class activation map of some feature maps, of shape (N, 1, ...)."""
        activations, axes = self.values.value(maps), axes_of(self.model, maps)
        gradient, activations = (canonical(self.op, each, axes) for each in (gradient, activations))
        return class_activation_map(self.op, self.semantics.cam, gradient, activations)

    def image_dependence(self, taps: Collection[Tap]) -> ImageDependence:
        """Tell how the reconstruction depends on the image, given the taps that :meth:`run` returned."""
        return image_dependence(
            self.semantics,
            self.path,
            taps,
            rectifies=self.rectifies,
            reads_rectifiers=self.reads_rectifiers,
        )

    def _sent_back(
        self, start: Mapping[str, Signal], nodes: Sequence[gs.Node], rules: Mapping[Key, Rule]
    ) -> dict[str, Signal]:
        """Send signals back through some nodes; return what arrived, by value."""
        signals: dict[str, list[Signal]] = defaultdict(list)
        signals |= {value: [signal] for value, signal in start.items()}
        for node in reversed(nodes):
            arrived = [self._met(signals, v.name) for v in node.outputs]
            if any(s is not None for s in arrived):
                self._apply(node, arrived, signals, rules)
        return {value: self._met(signals, value) for value in list(signals) if signals[value]}

    def _apply(
        self,
        node: gs.Node,
        arrived: list[Signal | None],
        signals: dict[str, list[Signal]],
        rules: Mapping[Key, Rule],
    ) -> None:
        self.op.origin = label(node)
        names = [v.name for v in node.inputs]
        site = Site(
            node, self.model, self.op, self.semantics, arrived,
            self.reached, self.readers, self.values,
        )  # fmt: skip
        before = self.values.reads
        passed = self._passed(site, rules[key_of(node)], names)
        if rules is self.rules and (RECTIFIER in traits_of(node) or replaces_relu(site)):
            self.rectifies = True
            self.reads_rectifiers |= self.values.reads > before
            if self.measured and RECTIFIER in traits_of(node):
                self._measure(node, arrived[0], passed[0])
        for name, signal in zip(names, passed, strict=False):
            if signal is not None and name in self.reached:
                signals[name].append(signal)

    def _measure(self, node: gs.Node, arrived: Signal | None, passed: Signal | None) -> None:
        """Note the energy of the signal before and after a rectifier."""
        if arrived is None or passed is None:
            return
        value, op = node.outputs[0].name, self.op
        self.energies[value] = f"arrived/{value}", f"passed/{value}"
        for name, signal in zip(self.energies[value], (arrived, passed), strict=True):
            wide = op.Cast(op.Reshape(signal, [0, -1]), to=TensorProto.DOUBLE)
            self._energies[name] = op.ReduceSumSquare(wide, [1], keepdims=0)

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

    def _export(self, found: Mapping[str, Signal], cam: Signal | None) -> tuple[ModelProto, list[Tap]]:
        if cam is not None and len(self.inputs) > 1:
            raise ModelError(
                f"{self.model.name}: a class activation map is of one of {', '.join(self.inputs)}: "
                + way("choose rules without one", f"choose rules without one, or inputs=[{self.inputs[0]!r}]")
            )
        outputs = []
        for name in self.inputs:
            signal, dims = found.get(name), self.model.type_of(name).dims
            if cam is not None:
                layout = input_layout(self.model, name)
                signal, dims = on_image(self.values, cam, self.semantics.cam, signal, name, dims, layout)
            if signal is None and self.semantics.table.conserves and len(self.inputs) > 1:
                signal = self.op.filled(self.values.shape(name, len(dims or ())), 0.0)  # all went elsewhere
            if signal is None:
                raise ModelError(f"{self.model.name}: no signal from {self.value!r} can reach {name!r}")
            output = RECONSTRUCTION if len(self.inputs) == 1 else f"{RECONSTRUCTION}/{name}"
            outputs.append((output, signal, helper.make_tensor_value_info(output, self.op.elem_type, dims)))
        for name, energy in self._energies.items():
            outputs.append((name, energy, helper.make_tensor_value_info(name, TensorProto.DOUBLE, None)))
        weights = self.values.weights.values()
        proto = self.op.export(outputs, weights, f"deconv of {self.value}")
        if self.op.opset > OPSET:
            ir_version = helper.find_min_ir_version_for([helper.make_opsetid("", self.op.opset)])
            proto = at_opset(proto, self.op.opset, ir_version)
        used = {i.name for i in proto.graph.input}
        return proto, [t for t in self.values.taps.values() if t.name in used]


def _typed(model: Model) -> str:
    """Name the inputs with their types."""
    types = {name: TensorProto.DataType.Name(model.type_of(name).dtype or 0).lower() for name in model.inputs}
    return ", ".join(f"{name} ({stored})" for name, stored in types.items())


def _after(path: Sequence[gs.Node], value: str) -> list[gs.Node]:
    """Return the nodes of the path that depend on a value."""
    reached, found = {value}, []
    for node in path:
        if any(v in reached for v in read_by(node)):
            found.append(node)
            reached.update(v.name for v in node.outputs)
    return found


def _path(model: Model, inputs: Iterable[str], value: str) -> tuple[list[gs.Node], set[str]]:
    """Find the nodes between the inputs and the value, in order, and the values between them."""
    reached, wanted, path = carried(model, inputs), {value}, list[gs.Node]()
    for node in reversed(model.nodes):
        if any(v.name in wanted and v.name in reached for v in node.outputs):
            path.append(node)
            wanted.update(v for v in read_by(node) if v in reached)
    return path[::-1], reached & wanted


def _way_out(model: Model, inputs: Sequence[str], value: str) -> str:
    """Name the last value that a path leads to before one that is made of truth values or whole numbers."""
    reached, needed = carried(model, inputs) - set(inputs), {value}
    for node in reversed(model.nodes):
        if not needed.isdisjoint(v.name for v in node.outputs):
            needed.update(read_by(node))
            if nearest := next((v for v in read_by(node) if v in reached), None):
                return (
                    f", as no signal passes {node.op} {label(node)}: choose a layer before it, as {nearest!r}"
                )
    return ""


def _readers(path: Iterable[gs.Node]) -> dict[str, list[gs.Node]]:
    found: dict[str, list[gs.Node]] = defaultdict(list)
    for node in path:
        for value in set(read_by(node)):
            found[value].append(node)
    return dict(found)
