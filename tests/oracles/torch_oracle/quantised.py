"""Quantised operators.

The signal passes a quantisation unchanged, saturated or not (straight through). Where integers stand
for real numbers they are held in double precision, so that it can.
"""

import torch
from torch import Tensor

from torch_oracle.linear import channelwise, conv, gemm
from torch_oracle.operators import MICROSOFT, At, Call, as_double, operator, torch_type
from torch_oracle.pooling import average_pool
from torch_oracle.rectifiers import rectifier


def along(at: Call, x: Tensor, number: Tensor, axis: int = 1) -> Tensor:
    """Shape a scale or a zero point, one or one per channel, or per block of them, so that it fits x."""
    axis = at.get("axis", axis) % max(x.ndim, 1)
    block = at.get("block_size", 0)
    if block and number.ndim == x.ndim:
        return number.repeat_interleave(block, axis).narrow(axis, 0, x.shape[axis])
    return number if number.numel() == 1 and number.ndim <= 1 and number.ndim == 0 else _fit(x, number, axis)


def _fit(x: Tensor, number: Tensor, axis: int) -> Tensor:
    return number.reshape(()) if number.numel() == 1 else number.reshape(-1, *[1] * (x.ndim - 1 - axis))


def quantise(x: Tensor, scale: Tensor, zero: Tensor, kind: torch.dtype) -> Tensor:
    """Return integers in double precision."""
    exact = x / scale + zero
    y = ((x / scale).detach().round() + zero).clamp(*_range(kind))
    return At.apply(exact, y) if exact.requires_grad else y


def _range(kind: torch.dtype) -> tuple[float, float]:
    if kind.is_floating_point:
        return -torch.inf, torch.inf
    return float(torch.iinfo(kind).min), float(torch.iinfo(kind).max)


@operator("QuantizeLinear")
@operator("QuantizeLinear", domain=MICROSOFT)
def quantize_linear(at: Call, x: Tensor, scale: Tensor, zero: Tensor | None = None) -> Tensor:
    """Quantise."""
    kind = zero.dtype if zero is not None else torch_type(at.get("output_dtype", 0) or 2)
    offset = along(at, x, as_double(zero)) if zero is not None else torch.zeros((), dtype=torch.float64)
    y = quantise(as_double(x), along(at, x, scale), offset, kind)
    return y if y.requires_grad else y.to(kind)


@operator("DequantizeLinear")
@operator("DequantizeLinear", domain=MICROSOFT)
def dequantize_linear(at: Call, x: Tensor, scale: Tensor, zero: Tensor | None = None) -> Tensor:
    """Return the real numbers that integers stand for."""
    offset = 0.0 if zero is None else along(at, x, as_double(zero))
    return (as_double(x) - offset) * along(at, x, scale)


@operator("DynamicQuantizeLinear")
def dynamic_quantize_linear(_: Call, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Quantise by the range of the numbers; the range itself carries no signal."""
    low, high = x.detach().min().clamp(max=0), x.detach().max().clamp(min=0)
    scale = (high - low) / 255
    scale = torch.where(scale > 0, scale, 1.0)
    zero = (-low / scale).round().clamp(0, 255)
    return quantise(x, scale, zero, torch.uint8), scale, zero.to(torch.uint8)


def real(x: Tensor, scale: Tensor, zero: Tensor | None, axis: int | None = None) -> Tensor:
    """Return the real numbers that integers stand for, with one scale or one along an axis."""
    offset = torch.zeros((), dtype=torch.float64) if zero is None else as_double(zero)
    if axis is None or scale.numel() == 1:
        return (as_double(x) - offset.reshape(-1)[0]) * scale.reshape(-1)[0]
    shift = offset.reshape(()) if offset.numel() == 1 else _fit(x, offset, axis)
    return (as_double(x) - shift) * _fit(x, scale, axis)


def back_to_integers(y: Tensor, scale: Tensor, zero: Tensor | None) -> Tensor:
    """Quantise a result."""
    offset = torch.zeros((), dtype=torch.uint8) if zero is None else zero
    return quantise(y, scale.reshape(()), as_double(offset).reshape(()), offset.dtype)


@operator("QLinearConv")
@operator("QLinearConv", domain=MICROSOFT)
def qlinear_conv(
    at: Call, x: Tensor, xs: Tensor, xz: Tensor, w: Tensor, ws: Tensor, wz: Tensor, ys: Tensor, yz: Tensor,
    b: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """Convolve with the dequantised filters."""
    x, last = real(x, xs, xz), at.get("channels_last", 0)
    y = conv(at, x.movedim(-1, 1) if last else x, real(w, ws, wz, 0))
    y = y if b is None else y + channelwise(as_double(b) * xs * ws, y)
    return back_to_integers(y.movedim(1, -1) if last else y, ys, yz)


@operator("QLinearMatMul")
def qlinear_matmul(
    _: Call, a: Tensor, as_: Tensor, az: Tensor, b: Tensor, bs: Tensor, bz: Tensor, ys: Tensor, yz: Tensor
) -> Tensor:
    """Return the product of the dequantised matrices."""
    return back_to_integers(real(a, as_, az) @ real(b, bs, bz, b.ndim - 1), ys, yz)


@operator("QGemm", domain=MICROSOFT)
def qgemm(
    at: Call, a: Tensor, as_: Tensor, az: Tensor, b: Tensor, bs: Tensor, bz: Tensor, c: Tensor | None = None,
    ys: Tensor | None = None, yz: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """Return αAB + C of the dequantised matrices."""
    given = {"transA": at.get("transA", 0), "transB": at.get("transB", 0), "alpha": at.get("alpha", 1.0)}
    y = gemm(at.like("Gemm", **given), real(a, as_, az), real(b, bs, bz, 0 if given["transB"] else 1))
    y = y if c is None else y + at.get("alpha", 1.0) * as_double(c) * as_ * bs
    return y if ys is None else back_to_integers(y, ys, yz)


@operator("ConvInteger")
def conv_integer(
    at: Call, x: Tensor, w: Tensor, xz: Tensor | None = None, wz: Tensor | None = None
) -> Tensor:
    """Convolve integers."""
    one = torch.ones((), dtype=torch.float64)
    scales = one if wz is None else one.expand(wz.numel())
    return conv(at, real(x, one, xz), real(w, scales, wz, 0))


@operator("MatMulInteger")
def matmul_integer(
    _: Call, a: Tensor, b: Tensor, az: Tensor | None = None, bz: Tensor | None = None
) -> Tensor:
    """Multiply matrices of integers."""
    a, b = as_double(a), as_double(b)
    a = a if az is None else a - (az[..., None] if az.ndim else az)
    return a @ (b if bz is None else b - bz)


@operator("DynamicQuantizeMatMul", domain=MICROSOFT)
def dynamic_quantize_matmul(
    at: Call, a: Tensor, b: Tensor, bs: Tensor, bz: Tensor | None = None, bias: Tensor | None = None
) -> Tensor:
    """Quantise, multiply, return real numbers."""
    y = matmul_integer_to_float(at, *_dynamic(at, a, b, bs, bz))
    return y if bias is None else y + bias


def _dynamic(at: Call, a: Tensor, b: Tensor, bs: Tensor, bz: Tensor | None) -> tuple[Tensor | None, ...]:
    q, scale, zero = dynamic_quantize_linear(at, a)
    return q, b, scale, bs, zero, bz


@operator("MatMulIntegerToFloat", domain=MICROSOFT)
def matmul_integer_to_float(
    _: Call, a: Tensor, b: Tensor, as_: Tensor, bs: Tensor, az: Tensor | None = None,
    bz: Tensor | None = None, bias: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """Multiply the dequantised matrices."""
    y = real(a, as_, az) @ real(b, bs, bz, b.ndim - 1)
    return y if bias is None else y + bias


def _binary(function):
    def run(
        _: Call,
        a: Tensor,
        as_: Tensor,
        az: Tensor,
        b: Tensor,
        bs: Tensor,
        bz: Tensor,
        ys: Tensor,
        yz: Tensor | None = None,
    ) -> Tensor:
        return back_to_integers(function(real(a, as_, az), real(b, bs, bz)), ys, yz)

    return run


operator("QLinearAdd", domain=MICROSOFT)(_binary(torch.add))


@operator("QLinearMul", domain=MICROSOFT)
def qlinear_mul(at: Call, *given: Tensor) -> Tensor:
    """Multiply; a number by its own sigmoid is Swish, whatever was rounded between."""
    a, b, (ys, yz) = real(*given[:3]), real(*given[3:6]), given[6:8]
    y = a * b
    for x, gate in ((0, 3), (3, 0)):
        source = at.runner.producers.get(at.node.input[gate])
        gated = source is not None and source.op_type == "QLinearSigmoid"
        if gated and source.input[0] == at.node.input[x]:
            y = at.runner.detour((a, b)[x // 3], y, rectifier())
    return back_to_integers(y, ys, yz)


def _unary(function):
    def run(
        at: Call, x: Tensor, xs: Tensor, xz: Tensor | None, ys: Tensor, yz: Tensor | None = None
    ) -> Tensor:
        return back_to_integers(function(at, real(x, xs, xz)), ys, yz)

    return run


def _pooled(at: Call, x: Tensor) -> Tensor:
    if not at.get("channels_last", 0):
        return average_pool(at, x)
    return average_pool(at, x.movedim(-1, 1)).movedim(1, -1)


def _global(at: Call, x: Tensor) -> Tensor:
    last = at.get("channels_last", 0)
    return x.mean(list(range(1, x.ndim - 1)) if last else list(range(2, x.ndim)), keepdim=True)


def _leaky(at: Call, x: Tensor) -> Tensor:
    slope = at.get("alpha", 0.01)
    return at.runner.detour(x, torch.where(x > 0, x, x * slope), rectifier(slope))


operator("QLinearAveragePool", domain=MICROSOFT)(_unary(_pooled))
operator("QLinearGlobalAveragePool", domain=MICROSOFT)(_unary(_global))
operator("QLinearSigmoid", domain=MICROSOFT)(_unary(lambda _, x: torch.sigmoid(x)))
operator("QLinearLeakyRelu", domain=MICROSOFT)(_unary(_leaky))
operator("QLinearSoftmax", domain=MICROSOFT)(_unary(lambda at, x: torch.softmax(x, at.get("axis", -1))))


@operator("QLinearConcat", domain=MICROSOFT)
def qlinear_concat(at: Call, ys: Tensor, yz: Tensor, *parts: Tensor) -> Tensor:
    """Join dequantised values."""
    rows = [parts[k : k + 3] for k in range(0, len(parts), 3)]
    return back_to_integers(torch.cat([real(*row) for row in rows], at.get("axis")), ys, yz)
