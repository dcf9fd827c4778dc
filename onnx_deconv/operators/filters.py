"""Filters as rules of relevance see them: forward and back with any weights, scales of the result folded in.

A scale or a shift of a filter's result by constants (batch normalisation, a bias that is added) is part of
the filter, so that one network gets one explanation whether or not an exporter folded them.
"""

from collections.abc import Callable
from dataclasses import replace
from math import prod

from onnx_deconv.operators import linear
from onnx_deconv.operators.builder import Signal
from onnx_deconv.operators.reshape import padded_alike
from onnx_deconv.operators.site import Site
from onnx_deconv.operators.window import Window, spatial_shape


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


class _Convolution(Filter):
    """Conv: weight (channels, of each group, *kernel)."""

    attributes: tuple[str, ...] = ("auto_pad", "dilations", "group", "kernel_shape", "pads", "strides")

    def forward(self, x: Signal, weight: Signal, bias: Signal | None = None) -> Signal:
        at = self.at
        given = {name: at.attr(name) for name in self.attributes}
        return getattr(at.op, at.node.op)(x, weight, *([] if bias is None else [self._vector(bias)]), **given)

    def back(self, signal: Signal, weight: Signal) -> Signal:
        return linear.conv_back(self.at, signal, weight)

    def evenly(self, signal: Signal, least: float) -> Signal:
        at, op, (_, inputs, *kernel) = self.at, self.at.op, self.at.shape_of(1)
        if at.node.op != "Conv" or at.attr("group", 1) != 1:
            return super().evenly(signal, least)
        # All channels are alike: one does for all.
        weight = op.ones([1, 1, *kernel])
        counts = op.Mul(self.forward(where_present(at, 0, _one_channel), weight), float(inputs or 0))
        ratio = op.Div(op.ReduceSum(signal, [1]), op.Add(counts, least))
        return op.Expand(self.back(ratio, weight), [1, inputs, *[1] * len(kernel)])

    def leaves_gaps(self) -> bool:
        window = Window.of(self.at, self.at.shape_of(1)[2:])
        pads = zip(window.begins, window.ends, strict=True)
        return any(max(p or 0 for p in both) >= window.extent(k) for k, both in enumerate(pads))

    def _weight(self) -> Signal:
        return linear.given_filter(self.at)

    def _bias(self) -> Signal | None:
        return self.at.input(2) if self.at.has(2) else None

    def _channels(self) -> tuple[int, int | None] | None:
        return 1, self.at.shape_of(1)[0]

    def _scaled(self, weight: Signal, scale: Signal) -> Signal:
        op, rank = self.at.op, len(self.at.shape_of(1))
        return op.Mul(weight, op.Reshape(scale, [-1] + [1] * (rank - 1)))

    def _vector(self, bias: Signal) -> Signal:
        """Give a bias one number per channel."""
        channels = self._channels()
        return self.at.op.Expand(bias, [channels[1]]) if channels and channels[1] else bias


class _TransposedConvolution(_Convolution):
    """ConvTranspose: weight (input channels, of each group, *kernel)."""

    attributes = (*_Convolution.attributes, "output_padding", "output_shape")

    def back(self, signal: Signal, weight: Signal) -> Signal:
        return linear.conv_transpose_back(self.at, signal, weight)

    def leaves_gaps(self) -> bool:
        return True

    def _channels(self) -> tuple[int, int | None] | None:
        each = self.at.shape_of(1)[1]
        return 1, None if each is None else each * self.at.attr("group", 1)

    def _scaled(self, weight: Signal, scale: Signal) -> Signal:
        op, (inputs, each, *kernel) = self.at.op, self.at.shape_of(1)
        groups = self.at.attr("group", 1)
        apart = op.Reshape(weight, [groups, (inputs or 0) // groups, each, *kernel])
        one = [1] * len(kernel)
        scales = op.Reshape(self._vector(scale), [groups, 1, each, *one])
        return op.Reshape(op.Mul(apart, scales), [inputs, each, *kernel])


class _Matrix(Filter):
    """Gemm: weight (inputs, channels), or the transpose."""

    def forward(self, x: Signal, weight: Signal, bias: Signal | None = None) -> Signal:
        at, pair = self.at, (x, weight) if self.i == 0 else (weight, x)
        more = [] if bias is None else [bias]
        return at.op.Gemm(*pair, *more, transA=at.attr("transA", 0), transB=at.attr("transB", 0))

    def back(self, signal: Signal, weight: Signal) -> Signal:
        return linear.gemm_back(self.at, self.i, signal, weight)

    def _weight(self) -> Signal:
        alpha, weight = float(self.at.attr("alpha", 1.0)), self.at.input(1 - self.i)
        return weight if alpha == 1.0 else self.at.op.Mul(weight, alpha)

    def _bias(self) -> Signal | None:
        if not self.at.has(2) or self.at.needs(2):
            return None
        beta, bias = float(self.at.attr("beta", 1.0)), self.at.input(2)
        return bias if beta == 1.0 else self.at.op.Mul(bias, beta)

    def _channels(self) -> tuple[int, int | None] | None:
        return (1, self.at.shape_of_output()[1]) if self.i == 0 and not self.at.needs(1) else None

    def _scaled(self, weight: Signal, scale: Signal) -> Signal:
        by_row = self.at.attr("transB", 0)
        return self.at.op.Mul(weight, self.at.op.Reshape(scale, [-1, 1]) if by_row else scale)


class _Product(Filter):
    """MatMul: weight (..., inputs, channels)."""

    def forward(self, x: Signal, weight: Signal, bias: Signal | None = None) -> Signal:
        op = self.at.op
        product = op.MatMul(x, weight) if self.i == 0 else op.MatMul(weight, x)
        return product if bias is None else op.Add(product, bias)

    def back(self, signal: Signal, weight: Signal) -> Signal:
        return linear.matmul_back(self.at, self.i, signal, weight)

    def _channels(self) -> tuple[int, int | None] | None:
        matrix = self.i == 0 and not self.at.needs(1) and len(self.at.shape_of(1)) > 1
        return (len(self.at.shape_of_output()) - 1, self.at.shape_of_output()[-1]) if matrix else None

    def _scaled(self, weight: Signal, scale: Signal) -> Signal:
        return self.at.op.Mul(weight, scale)


class _Summation(Filter):
    """Einsum of two operands."""

    def forward(self, x: Signal, weight: Signal, bias: Signal | None = None) -> Signal:
        op, pair = self.at.op, (x, weight) if self.i == 0 else (weight, x)
        total = op.Einsum(*pair, equation=self.at.attr("equation"))
        return total if bias is None else op.Add(total, bias)

    def back(self, signal: Signal, weight: Signal) -> Signal:
        return linear.einsum_back(self.at, self.i, signal, [weight])

    def _weight(self) -> Signal:
        if len(self.at.node.inputs) != 2:  # noqa: PLR2004
            raise self.at.unsupported("relevance through more or fewer than two operands")
        return super()._weight()

    def _channels(self) -> tuple[int, int | None] | None:
        terms, result = linear.equation(self.at)
        own = set(terms[1 - self.i]) - set(terms[self.i])
        return (len(result) - 1, self.at.shape_of_output()[-1]) if result[-1:] in own else None

    def _scaled(self, weight: Signal, scale: Signal) -> Signal:
        terms, result = linear.equation(self.at)
        aligned = [-1 if index == result[-1] else 1 for index in terms[1 - self.i]]
        return self.at.op.Mul(weight, self.at.op.Reshape(scale, aligned))


_KINDS: dict[str, Callable[[Site, int], Filter]] = {
    "Conv": _Convolution,
    "ConvTranspose": _TransposedConvolution,
    "Gemm": _Matrix,
    "MatMul": _Product,
    "Einsum": _Summation,
}
CONVOLUTIONS, PRODUCTS = ("Conv", "ConvTranspose"), ("Gemm", "MatMul", "Einsum")


def filter_at(at: Site, i: int = 0) -> Filter:
    """Return the filter that a node is, as a map of its input ``i``."""
    return _KINDS[at.node.op](at, i)


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


def _one_channel(at: Site, i: int) -> Signal:
    sizes = spatial_shape(at, i)
    shape = [1, 1, *sizes] if isinstance(sizes, list) else at.op.Concat([1, 1], sizes, axis=0)
    return at.op.ones(shape)


def _affine(
    at: Site, value: str, axis: int, channels: int | None
) -> tuple[Signal | None, Signal | None] | None:
    """Return by what a node scales a value and what it adds, one number per channel; ``None`` for others."""
    op, names = at.op, [v.name for v in at.node.inputs]
    if at.node.op == "BatchNormalization":
        return _normalised(at) if axis == 1 and not at.attr("training_mode", 0) else None
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
