"""Filters as rules of relevance see them: forward and back with any weights, scales of the result folded in.

A scale or a shift of a filter's result by constants (batch normalisation, a bias that is added) is part of
the filter, so that one network gets one explanation whether or not an exporter folded them.
"""

from collections.abc import Callable
from dataclasses import replace
from math import prod

from onnx_deconv.operators.builder import Emitter, Signal
from onnx_deconv.operators.reshape import padded_alike
from onnx_deconv.operators.site import Site
from onnx_deconv.operators.training import is_training


class Filter:
    """A linear map of one of a node's inputs.

    Parameters
    ----------
    at
        The filter's site.
    i
        Which input depends on the image.

    Attributes
    ----------
    weight
        The other input, times what scales the result.
    bias
        What is added to the result, one number per channel, or of a shape that is broadcast; ``None`` for
        nothing.
    end
        The site of the last node that was folded in; its output is the filter's result.
    """

    def __init__(self, at: Site, i: int = 0) -> None:
        self.at, self.i = at, i
        self.weight, self.bias, self.end = self._weight(), self._bias(), at
        self._fold()

    @property
    def op(self) -> Emitter:
        """Writes nodes of the companion."""
        return self.at.op

    @property
    def x(self) -> Signal:
        """The forward value of the input."""
        return self.at.input(self.i)

    def forward(self, x: Signal, weight: Signal, bias: Signal | None = None) -> Signal:
        """Apply the map to another input, with another weight and bias."""
        raise NotImplementedError

    def back(self, signal: Signal, weight: Signal) -> Signal:
        """Send a signal back through the map with another weight."""
        raise NotImplementedError

    def by_weight(self, signal: Signal, weight: Signal, least: float) -> Signal:
        """Divide a signal in proportion to weights that are not negative, whatever the input.

        What a result's weights add up to counts so much more.
        """
        op, ones = self.at.op, where_present(self.at, self.i, _ones)
        total = self.forward(ones, weight, op.filled([1], least))
        return self.back(op.Div(signal, total), weight)

    def evenly(self, signal: Signal, least: float) -> Signal:
        """Divide a signal evenly among the elements that each result was computed from."""
        return self.by_weight(signal, self.at.op.ones(self.at.shape(1 - self.i)), least)

    def leaves_gaps(self) -> bool:
        """Tell whether the map may give results that depend on no element of its input."""
        return False

    def _weight(self) -> Signal:
        return self.at.input(1 - self.i)

    def _bias(self) -> Signal | None:
        return None

    def _channels(self) -> tuple[int, int | None] | None:
        """Return the axis of the result's channels and how many there are; ``None``: nothing is folded in."""
        return None

    def _scaled(self, weight: Signal, scale: Signal) -> Signal:
        """Multiply a weight by one number per channel of the result."""
        raise NotImplementedError

    def _fold(self) -> None:
        """Take in the scales and shifts that follow."""
        channels = self._channels()
        while channels and (reader := self.end.only_reader()) is not None:
            step = _affine(reader, self.end.node.outputs[0].name, *channels)
            if step is None:
                break
            scale, shift = step
            op, self.end = self.at.op, reader
            if scale is not None:
                self.weight = self._scaled(self.weight, scale)
                self.bias = None if self.bias is None else op.Mul(self.bias, scale)
            if shift is not None:
                self.bias = shift if self.bias is None else op.Add(self.bias, shift)


def where_present(at: Site, i: int, make: Callable[[Site, int], Signal]) -> Signal:
    """Make a value of input ``i``'s shape; zero in the padding, where the input comes from a Pad.

    Parameters
    ----------
    at, i
        The node and its input.
    make
        From a node and its input to a value of that input's shape; it is called for the Pad where there is
        one.
    """
    node = at.model.producers.get(at.node.inputs[i].name)
    if node is None or node.op != "Pad":
        return make(at, i)
    pad = replace(at, node=node, signals=())
    if pad.attr("mode", "constant") != "constant":
        return make(at, i)
    return padded_alike(pad, make(pad, 0))


def _ones(at: Site, i: int) -> Signal:
    """Return ones in the shape of an input; of one image, where the batch's size is not known."""
    batch, *rest = at.shape_of(i)
    return at.op.ones([1, *rest] if batch is None and None not in rest else at.shape(i))


def _affine(
    at: Site, value: str, axis: int, channels: int | None
) -> tuple[Signal | None, Signal | None] | None:
    """Return by what a node scales a value and what it adds, one number per channel; ``None`` for others."""
    op, names = at.op, [v.name for v in at.node.inputs]
    if at.node.op == "BatchNormalization":
        return _normalised(at) if axis == 1 and not is_training(at) else None
    if at.node.op not in ("Add", "Sub", "Mul", "Div") or names.count(value) != 1:
        return None
    k = names.index(value)
    number = _per_channel(at, 1 - k, axis, channels)
    if number is None:
        return None
    match at.node.op:
        case "Add":
            return None, number
        case "Sub":
            return (None, op.Neg(number)) if k == 0 else None
        case "Mul":
            return number, None
        case _:
            return (op.Reciprocal(number), None) if k == 0 else None


def _normalised(at: Site) -> tuple[Signal, Signal] | None:
    if at.attr("spatial", 1) == 0:
        return None
    op = at.op
    spread = op.Sqrt(op.Add(at.input(4), float(at.attr("epsilon", 1e-5))))
    scale = op.Div(at.input(1), spread)
    return scale, op.Sub(at.input(2), op.Mul(at.input(3), scale))


def _per_channel(at: Site, i: int, axis: int, channels: int | None) -> Signal | None:
    """Return a constant operand as one number per channel, or one for all; ``None`` where it is neither."""
    name = at.node.inputs[i].name
    shape, rank = at.model.type_of(name).shape, len(at.shape_of_output())
    if name not in at.model.constants or shape is None or len(shape) > rank:
        return None
    elsewhere = [d for k, d in enumerate(shape, rank - len(shape)) if k != axis]
    if any(d != 1 for d in elsewhere) or prod(d or 0 for d in shape) not in (1, channels):
        return None
    return at.op.Reshape(at.input(i), [-1])
