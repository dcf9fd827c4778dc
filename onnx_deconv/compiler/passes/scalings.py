"""Scalings that cancel, or that a filter takes in."""

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any, NamedTuple

import numpy as np
from onnx import NodeProto, TensorProto, helper, numpy_helper

from onnx_deconv.compiler.passes.rewriter import BACK, Branch, Rewriter, attributes_of, lowering

_LARGE = 1 << 20
"""Numbers in a stored weight above which a second one, in memory, costs more than the scaling."""

_FOLDED = {
    "Add", "Cast", "Concat", "Constant", "ConstantOfShape", "Div", "Expand", "Identity", "Mul", "Neg",
    "Reciprocal", "Reshape", "Slice", "Sqrt", "Squeeze", "Sub", "Transpose", "Unsqueeze",
}  # fmt: skip
"""What a runtime computes when it loads a model, where only constants go in; DequantizeLinear it does not."""

_FLOATS = {TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE}


class _Constants:
    """The values that are the same in every run."""

    def __init__(self, graph: Rewriter) -> None:
        replaceable = {i.name for i in graph.graph.input}
        self.stored = {t.name: t for t in graph.graph.initializer if t.name not in replaceable}
        self.dims: dict[str, Sequence[int | str]] = {n: tuple(t.dims) for n, t in self.stored.items()}
        for node in graph.nodes:
            if _is(node, "Constant") and node.attribute[0].name == "value":
                self.stored[node.output[0]] = node.attribute[0].t
                self.dims[node.output[0]] = tuple(node.attribute[0].t.dims)
            elif _is(node, *_FOLDED) and all(v in self.dims for v in node.input):
                self.dims[node.output[0]] = _shape(graph, node.output[0]) or ("",)

    def sizes(self, value: str) -> list[int] | None:
        """Return a constant's sizes; ``None`` where they are not known, or it is none."""
        dims = self.dims.get(value, ("",))  # a name is a size that is not known
        sizes = [d for d in dims if isinstance(d, int)]
        return sizes if len(sizes) == len(dims) else None

    def numbers(self, value: str) -> np.ndarray[Any, Any] | None:
        """Return the numbers of a constant that the graph itself holds."""
        tensor = self.stored.get(value)
        here = tensor is not None and tensor.data_location != TensorProto.EXTERNAL
        return numpy_helper.to_array(tensor) if tensor is not None and here else None


def _is(node: NodeProto | None, *operators: str) -> bool:
    return node is not None and node.domain in ("", "ai.onnx") and node.op_type in operators


def _shape(graph: Rewriter, value: str) -> Sequence[int | str]:
    return graph.types.get(value, (0, ()))[1]


def _reread(node: NodeProto, same: Mapping[str, str]) -> None:
    for k, value in enumerate(node.input):
        if value in same:
            node.input[k] = same[value]


def _drop(graph: Rewriter, node: NodeProto, source: str, same: dict[str, str]) -> None:
    """Let a node's readers read something else; a result is still given by its name."""
    if node.output[0] in graph.results:
        node.CopyFrom(helper.make_node("Identity", [source], node.output, node.name))
    else:
        same[node.output[0]] = source


class _Factor(NamedTuple):
    """What a signal is multiplied by, or divided, without becoming larger."""

    signal: str
    constant: str
    """For a BatchNormalization its scale, a number for each channel."""
    sizes: list[int]


class _Pair(NamedTuple):
    """Two scalings in a row as one: its operator, and how its constant is made of both."""

    signal: str
    operator: str
    joined: str
    constants: list[str]
    sizes: list[int]


class _Weight(NamedTuple):
    """A filter's weight, with the axis of the signal's channels and that of the result's."""

    sizes: list[int]
    into: int
    out: int
    group: int
    channel: int
    """The axis of channels in the signal and in the result, counted from the end."""


@lowering("scalings")
def scalings(graph: Rewriter) -> None:
    """Of two scalings in a row one is left, or none, and a filter takes in the one before or behind it.

    A scaling is a Mul or Div by a constant, or a BatchNormalization without mean and shift: what is left, on
    the way back, of one that an exporter did not fold. A filter takes in what scales the signal, or each
    channel, alike, where nothing else reads the value in between. The weight is multiplied in the graph, when
    the model is loaded: no file stores it twice. In memory it is there twice, if it was not made at load
    anyway, as one that ``filters`` turns; so a large weight that is used as it is stored takes in nothing.

    Only on the way back: the user's model is to answer what it answers, to the last digit, and runtimes know
    patterns in it by their factors (Gelu's ½).
    """
    walk = _Scalings(graph)
    for node in graph.nodes:
        walk.visit(node)
    walk.finish()


class _Scalings:
    """One walk along a graph, which changes nodes in their places."""

    def __init__(self, graph: Rewriter) -> None:
        self.graph, self.constants = graph, _Constants(graph)
        self.same: dict[str, str] = {}
        self.made: dict[int, Branch] = {}

    def visit(self, node: NodeProto) -> None:
        """Let a filter take in the scaling before it, and a scaling what is before it."""
        _reread(node, self.same)
        if not node.name.startswith(BACK):
            return
        if self._factor(node) is None:
            self._take_in(node, node, self._before(node))
        elif cancelled := self._cancelled(node):
            _drop(self.graph, node, cancelled, self.same)
        elif not (self._cancelled(self.graph.only_reader(node.output[0])) or self._in_a_row(node)):
            self._take_in(node, self._before(node), node)

    def finish(self) -> None:
        """Put what makes the constants before the nodes that read them."""
        for node in self.graph.nodes:
            if id(node) in self.made:
                self.graph.replace(node, [*self.made[id(node)].nodes, node])

    def _add(self, node: NodeProto) -> Branch:
        return self.made.setdefault(id(node), Branch(f"{node.output[0]}/scaled"))

    def _factor(self, node: NodeProto | None) -> _Factor | None:
        """Match a scaling by a constant of real numbers (quotients of whole ones are rounded)."""
        if node is None or not _is(node, "Mul", "Div", "BatchNormalization"):
            return None
        signal, constant = node.input[:2]
        if node.op_type == "Mul" and signal in self.constants.dims:
            signal, constant = constant, signal
        sizes, shape = self.constants.sizes(constant), _shape(self.graph, signal)
        real = self.graph.types.get(node.output[0], (0, ()))[0] in _FLOATS
        if not real or signal in self.constants.dims or sizes is None:
            return None
        if node.op_type == "BatchNormalization":
            return _Factor(signal, constant, sizes) if self._only_scales(node) else None
        lines = zip(sizes[::-1], shape[::-1], strict=False)
        fits = len(sizes) <= len(shape) and all(a in (1, b) for a, b in lines)
        return _Factor(signal, constant, sizes) if fits else None

    def _only_scales(self, node: NodeProto) -> bool:
        """Tell whether a normalisation's shift and mean are made of zeros."""
        made = [self.graph.producers.get(v) for v in node.input[2:4]]
        filled_with = [a.t for n in made if n is not None for a in n.attribute]
        return (
            all(_is(n, "ConstantOfShape") for n in made)
            and not any(numpy_helper.to_array(t).any() for t in filled_with)
            and node.input[4] in self.constants.dims
            and not attributes_of(node).get("training_mode", 0)
        )

    def _before(self, node: NodeProto) -> NodeProto | None:
        """Return what makes a node's signal, if this node alone reads it."""
        factor = self._factor(node)
        signal = factor.signal if factor else next(iter(node.input), "")
        alone = self.graph.only_reader(signal) is node and list(node.input).count(signal) == 1
        return self.graph.producers.get(signal) if alone else None

    def _pair(self, node: NodeProto | None) -> _Pair | None:
        """Match a Mul or Div, and another behind it: what both together do to the first one's signal."""
        before = self._before(node) if node is not None and _is(node, "Mul", "Div") else None
        if node is None or before is None or not _is(before, "Mul", "Div"):
            return None
        first, last = self._factor(before), self._factor(node)
        if first is None or last is None:
            return None
        if first.sizes != last.sizes and 1 not in (prod(first.sizes), prod(last.sizes)):
            return None  # the product might be much larger than both
        sizes = max(first.sizes, last.sizes, key=lambda line: (prod(line), len(line)))
        if before.op_type == node.op_type:
            return _Pair(first.signal, node.op_type, "Mul", [first.constant, last.constant], sizes)
        factor, divisor = (first, last) if before.op_type == "Mul" else (last, first)
        return _Pair(first.signal, "Mul", "Div", [factor.constant, divisor.constant], sizes)

    def _cancelled(self, node: NodeProto | None) -> str:
        """Return what was scaled, if a scaling and the one before make 1."""
        pair = self._pair(node)
        if pair is None or prod(pair.sizes) > 1:
            return ""
        numbers = [self.constants.numbers(name) for name in pair.constants]
        if numbers[0] is None or numbers[1] is None:
            return ""
        with np.errstate(all="ignore"):
            one = numbers[0] * numbers[1] if pair.joined == "Mul" else numbers[0] / numbers[1]
        return pair.signal if one.item() == 1 else ""

    def _in_a_row(self, node: NodeProto) -> bool:
        """Let a scaling take in the one before."""
        pair = self._pair(node)
        if pair is None:
            return False
        name = self._add(node)(pair.joined, *pair.constants)
        self.constants.dims[name] = pair.sizes
        node.CopyFrom(helper.make_node(pair.operator, [pair.signal, name], node.output, node.name))
        return True

    def _take_in(self, node: NodeProto, filtered: NodeProto | None, scaling: NodeProto | None) -> None:
        """Do a filter, and the scaling before or behind it, in the place of the later of both."""
        weight, factor = _weight(filtered, self.constants), self._factor(scaling)
        if filtered is None or scaling is None or weight is None or factor is None:
            return
        behind, channels = node is scaling, prod(factor.sizes)
        if not _by_channel(factor, scaling, weight, filtered) or (behind and any(filtered.input[2:])):
            return  # what is added to the result would be scaled as well
        add, by = self._add(node), factor.constant
        if scaling.op_type == "BatchNormalization":
            by = self._gain(add, scaling)
        by = self._spread(add, by, channels, weight, weight.out if behind else weight.into)
        made = NodeProto()
        made.CopyFrom(filtered)
        made.name, made.output[:] = node.name, node.output[:1]
        made.input[0] = filtered.input[0] if behind else factor.signal
        made.input[1] = add("Div" if scaling.op_type == "Div" else "Mul", filtered.input[1], by)
        self.constants.dims[made.input[1]] = weight.sizes
        node.CopyFrom(made)

    def _gain(self, add: Branch, node: NodeProto) -> str:
        """Compute what a normalisation multiplies each channel by."""
        dtype = helper.tensor_dtype_to_np_dtype(self.graph.types[node.output[0]][0])
        epsilon = self.graph.constant(attributes_of(node).get("epsilon", 1e-5), dtype)
        return add("Div", node.input[1], add("Sqrt", add("Add", node.input[4], epsilon)))

    def _spread(self, add: Branch, by: str, channels: int, weight: _Weight, axis: int) -> str:
        """Lay a number for each channel along an axis; on the second, each group has its share of them."""
        constant, lines = self.graph.constant, [1] * len(weight.sizes)
        lines[axis] = channels
        if axis == 1 and weight.group > 1 and channels > 1:
            groups, (whole, share) = weight.group, weight.sizes[:2]
            apart = add("Reshape", by, constant([groups, 1, share]))
            by = add("Expand", apart, constant([groups, whole // groups, share]))
            lines[:2] = whole, share
        return add("Reshape", by, constant(lines))


def _by_channel(factor: _Factor, scaling: NodeProto, weight: _Weight, filtered: NodeProto) -> bool:
    """Tell whether all of the signal is scaled alike, or each of the channels that the filter sums over."""
    if prod(factor.sizes) == 1:
        return True
    if scaling.op_type == "BatchNormalization":
        return filtered.op_type != "MatMul"  # whose channels are the last axis, not the second
    reaches = len(factor.sizes) >= -weight.channel
    return reaches and factor.sizes[weight.channel] == prod(factor.sizes)


def _weight(node: NodeProto | None, constants: _Constants) -> _Weight | None:
    """Match a filter whose weight is made at load, or is small."""
    if node is None or not _is(node, "Conv", "ConvTranspose", "Gemm", "MatMul"):
        return None
    sizes, attributes = constants.sizes(node.input[1]), attributes_of(node)
    large = node.input[1] in constants.stored and prod(sizes or ()) > _LARGE
    if sizes is None or len(sizes) < 2 or large or attributes.get("transA", 0):  # noqa: PLR2004
        return None
    if node.op_type in ("Gemm", "MatMul"):
        into = attributes.get("transB", 0)
        return _Weight(sizes, into, 1 - into, 1, -1) if len(sizes) == 2 else None  # noqa: PLR2004
    into = int(node.op_type == "Conv")
    return _Weight(sizes, into, 1 - into, attributes.get("group", 1), 1 - len(sizes))
