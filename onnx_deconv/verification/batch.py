"""One batch that went forward through a pair whose forward model shows every value."""

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from onnx_deconv.compiler.forward import forward
from onnx_deconv.compiler.pair import Pair
from onnx_deconv.errors import ModelError
from onnx_deconv.model import Array, Model, all_tensors
from onnx_deconv.model.protos import constant_nodes
from onnx_deconv.model.value_axes import Axes
from onnx_deconv.operators import Tap
from onnx_deconv.runtime import PairSession, Providers, numpy_of
from onnx_deconv.verification.reference.graph import Forward

ROUNDING = 10 * float(np.finfo(np.float32).eps)
"""Of a score: what rounding may make of a change at most."""


class Batch:
    """One batch that went forward through a pair whose forward model shows every value.

    Parameters
    ----------
    model, pair, feeds, providers
        What runs.

    Attributes
    ----------
    session
        The pair, its forward model showing every value.
    passed
        What the companion reads, as ``OrtValue`` s by name.
    values
        Every forward value by name, activations recognised.
    explained
        The name of the explained value.
    """

    def __init__(self, model: Model, pair: Pair, feeds: Mapping[str, Array], providers: Providers) -> None:
        self.model, self.pair, self.feeds = model, pair, feeds
        self.session = PairSession(replace(pair, forward=_showing_all(model, pair)), providers)
        self.passed = self.session.run_forward(feeds)
        self.values = {v: numpy_of(value) for v, value in self.passed.items() if value.is_tensor()} | dict(
            feeds
        )
        for new, value in model.gained.values.items():
            # An activation without the factor that the file writes with it.
            if value in self.values:
                self.values[new] = self.values[value] / model.read(model.tensors[f"{value}/factor"])
        self.explained = str(pair.manifest["explained"]["value"])

    @cached_property
    def is_constant(self) -> bool:
        """Whether the explained value is the same for other images, but for rounding.

        All that is sent back from it cancels out: what is left on either side is rounding.
        """
        rng = np.random.default_rng(0)
        others = {
            name: (x / 2 + rng.standard_normal(x.shape) * (x.std() or 1) / 2).astype(x.dtype)
            for name, x in self.feeds.items()
            if x.dtype.kind == "f"
        }
        found = numpy_of(self.session.run_forward({**self.feeds, **others})[self.explained])
        own, other = (each.astype(np.float64) for each in (self.values[self.explained], found))
        return bool(np.abs(own - other).max(initial=0) <= ROUNDING * np.abs(own).max(initial=0))

    @cached_property
    def graph(self) -> ModelProto:
        """The model's graph, flat, activations recognised, with its weights inside."""
        return _with_weights(self.model)

    @cached_property
    def pools(self) -> dict[str, NodeProto]:
        """The max pools on the path, by the names of their switches."""
        producers = {v: n for n in self.graph.graph.node for v in n.output}
        entries = [e for e in self.pair.manifest["deconv_inputs"] if e["kind"] == "switches"]
        unknown = [e["name"] for e in entries if e.get("of") not in producers]
        if unknown:
            raise ModelError(f"the manifest does not say of which pool {unknown[0]!r} are the switches")
        return {e["name"]: producers[e["of"]] for e in entries}

    @cached_property
    def path(self) -> list[NodeProto]:
        """The nodes between the explained inputs and the explained value, the last first."""
        inputs = [e["of"] for e in self.pair.manifest["reconstructions"]]
        reached = Forward.read(self.graph, self.values, inputs).depends
        wanted, path = {self.explained}, []
        for node in reversed(self.graph.graph.node):
            if reached & wanted.intersection(node.output):
                path.append(node)
                wanted.update(node.input)
        return path


def strongest_unit(explained: Array, axes: Axes) -> Array:
    """Return a seed of 1 at each image's strongest unit, the first of equals; what is not finite is none.

    Parameters
    ----------
    explained
        The explained value's numbers.
    axes
        Its axes.
    """
    values = axes.canonical(explained.astype(np.float32))
    images = np.where(np.isfinite(values), values, -np.inf).reshape(len(values), -1)
    seed = np.zeros(images.shape, np.float32)
    seed[np.arange(len(images)), images.argmax(1)] = 1
    return axes.restored(seed.reshape(values.shape))


def axes_told(pair: Pair) -> Axes:
    """Return the axes of the value that a pair explains."""
    return Axes.of(pair.manifest["explained"]["axes"])


def _showing_all(model: Model, pair: Pair) -> ModelProto:
    """Copy the forward model, with every value of the graph among its outputs."""
    entries = [e for e in pair.manifest["deconv_inputs"] if e["kind"] != "seed"]
    explained = str(pair.manifest["explained"]["value"])
    taps = [Tap(e["kind"], e["of"], e["name"]) for e in entries] + [Tap("value", explained, explained)]
    held = constant_nodes(model.view.graph.node)
    computed = [v for n in model.view.graph.node for v in n.output if v and v not in held]
    # Values inside local functions and withdrawn operators get nodes of their own.
    taps += [Tap("value", v, v) for v in computed if v not in model.values and v != explained]
    full = forward(model, taps)
    shown = {o.name for o in full.graph.output}
    hidden = {*shown, *constant_nodes(full.graph.node)}
    own = [v for n in full.graph.node for v in n.output if v and v not in hidden]
    full.graph.output.extend(helper.make_empty_tensor_value_info(v) for v in own)
    return full


def _with_weights(model: Model) -> ModelProto:
    whole = ModelProto()
    whole.CopyFrom(model.view)
    del whole.graph.node[:]
    whole.graph.node.extend(model.node_proto(node) for node in model.nodes)
    held = {t.name for t in whole.graph.initializer} | {v for n in whole.graph.node for v in n.output}
    whole.graph.initializer.extend(t for name, t in model.tensors.items() if name not in held)
    for tensor in all_tensors(whole):
        if tensor.data_location == TensorProto.EXTERNAL:
            tensor.CopyFrom(numpy_helper.from_array(np.asarray(model.read(tensor)), tensor.name))
    return whole
