"""The filters of the standard: each operator's linear map, forward and back."""

from collections.abc import Callable

from onnx_deconv.operators import linear
from onnx_deconv.operators.builder import Signal
from onnx_deconv.operators.filters import Filter, where_present
from onnx_deconv.operators.site import Site
from onnx_deconv.operators.window import Window, spatial_shape


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


def _one_channel(at: Site, i: int) -> Signal:
    sizes = spatial_shape(at, i)
    shape = [1, 1, *sizes] if isinstance(sizes, list) else at.op.Concat([1, 1], sizes, axis=0)
    return at.op.ones(shape)
