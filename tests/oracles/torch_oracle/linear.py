"""Filters and products."""

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from torch_oracle.operators import MICROSOFT, OPERATORS, At, Call, operator, tensor_of
from torch_oracle.rectifiers import native_rule
from torch_oracle.windows import Windows, framed

_CONVOLUTIONS = functional.conv1d, functional.conv2d, functional.conv3d
_TRANSPOSED = functional.conv_transpose1d, functional.conv_transpose2d, functional.conv_transpose3d


def channelwise(bias: Tensor, like: Tensor) -> Tensor:
    """Shape one number per channel so that it broadcasts."""
    return bias.reshape(-1, *[1] * (like.ndim - 2))


@operator("Conv")
def conv(at: Call, x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
    """Convolve; a filter per channel is a sum of shifted products (PyTorch's is slow in double)."""
    windows = Windows.of(at, x.shape[2:], w.shape[2:])
    framed_x, groups = framed(x, windows.begins, windows.ends), at.get("group", 1)
    if groups == x.shape[1] == w.shape[0] > 1:
        y = _depthwise(framed_x, w, windows)
        return y if b is None else y + channelwise(b, y)
    run = _CONVOLUTIONS[x.ndim - 3]
    return run(framed_x, w, b, windows.strides, 0, windows.dilations, groups)


def _depthwise(x: Tensor, w: Tensor, windows: Windows) -> Tensor:
    spans = [(k - 1) * d for k, d in zip(windows.kernel, windows.dilations, strict=True)]
    total: Any = 0
    for place in (
        torch.cartesian_prod(*[torch.arange(k) for k in windows.kernel]).reshape(-1, len(spans)).tolist()
    ):
        part = x
        for axis, (k, d, s, span) in enumerate(
            zip(place, windows.dilations, windows.strides, spans, strict=True), 2
        ):
            part = part[(slice(None),) * axis + (slice(k * d, x.shape[axis] - span + k * d, s),)]
        total = total + part * channelwise(w[(slice(None), 0, *place)], x)
    return total


@operator("ConvTranspose")
def conv_transpose(at: Call, x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
    """Convolve transposed, whole, then cut or extend to the output's size."""
    n = x.ndim - 2
    strides, dilations = at.get("strides") or [1] * n, at.get("dilations") or [1] * n
    extra, shape = at.get("output_padding") or [0] * n, at.get("output_shape")
    whole = _TRANSPOSED[n - 1](x, w, None, strides, 0, 0, at.get("group", 1), dilations)
    auto = at.get("auto_pad", "NOTSET")
    if shape is None and auto.startswith("SAME"):
        shape = [size * s for size, s in zip(x.shape[2:], strides, strict=True)]
    if shape is None:
        pads = [0] * 2 * n if auto == "VALID" else at.get("pads") or [0] * 2 * n
        begins, ends = pads[:n], [p - e for p, e in zip(pads[n:], extra, strict=True)]
    else:
        sizes = zip(whole.shape[2:], extra, shape[-n:], strict=True)
        totals = [full + e - size for full, e, size in sizes]
        begins = [(max(t, 0) + (auto == "SAME_LOWER")) // 2 for t in totals]
        ends = [full - size - p for full, size, p in zip(whole.shape[2:], shape[-n:], begins, strict=True)]
    y = framed(whole, [-p for p in begins], [-p for p in ends])
    return y if b is None else y + channelwise(b, y)


@operator("Gemm")
def gemm(at: Call, a: Tensor, b: Tensor, c: Tensor | None = None) -> Tensor:
    """Return αAB + βC."""
    y = at.get("alpha", 1.0) * (_turned(at, "transA", a) @ _turned(at, "transB", b))
    return y if c is None else y + at.get("beta", 1.0) * c


@operator("MatMul")
def matmul(_: Call, a: Tensor, b: Tensor) -> Tensor:
    """Return AB."""
    return a @ b


@operator("Einsum")
def einsum(at: Call, *terms: Tensor) -> Tensor:
    """Sum products over the indices that the equation leaves out."""
    return torch.einsum(at.get("equation").replace(" ", ""), *terms)


@operator("FusedConv", domain=MICROSOFT)
def fused_conv(at: Call, x: Tensor, w: Tensor, b: Tensor | None = None, z: Tensor | None = None) -> Tensor:
    """Convolve, add, activate."""
    y = conv(at, x, w, b)
    return activated(at, y if z is None else y + z)


@operator("FusedGemm", domain=MICROSOFT)
def fused_gemm(at: Call, a: Tensor, b: Tensor, c: Tensor | None = None) -> Tensor:
    """Return the activation of αAB + βC."""
    return activated(at, gemm(at, a, b, c))


@operator("FusedMatMul", domain=MICROSOFT)
def fused_matmul(at: Call, a: Tensor, b: Tensor) -> Tensor:
    """Return αAB, either transposed on the way."""
    a, b = (v.movedim(0, -2) if at.get(f"transBatch{k}") else v for k, v in (("A", a), ("B", b)))
    return at.get("alpha", 1.0) * (_turned(at, "transA", a) @ _turned(at, "transB", b))


def _turned(at: Call, name: str, x: Tensor) -> Tensor:
    return x.transpose(-1, -2) if at.get(name, 0) and x.ndim > 1 else x


_PARAMETERS = {"LeakyRelu": ("alpha",), "HardSigmoid": ("alpha", "beta"), "Clip": ("min", "max")}


def activated(at: Call, x: Tensor) -> Tensor:
    """Apply the activation that a fused operator names, with the table's way back."""
    op = at.get("activation", "")
    if not op:
        return x
    numbers = at.get("activation_params") or [at.get(f"activation_{p}") for p in _PARAMETERS.get(op, ())]
    given = {k: float(v) for k, v in zip(_PARAMETERS.get(op, ()), numbers, strict=False) if v is not None}
    call, x = at.like(op, **given), _on_the_side_taken(at, op, given, x)
    y, rule = OPERATORS["", op](call, x), native_rule(call, x)
    return y if rule is None else at.runner.detour(x, y, rule)


def _on_the_side_taken(at: Call, op: str, bounds: dict[str, float], x: Tensor) -> Tensor:
    """Return x, but on the side of a bound where another runtime had it, as its result tells.

    A fused operator does not show its activation's input: within a rounding of a bound, the sum in double
    precision may lie on the other side than the one in single precision that was acted on.
    """
    result = at.runner.given.get(at.node.output[0])
    if result is None or op not in {"Relu", "Clip"}:
        return x
    low, high = (
        (0.0, math.inf) if op == "Relu" else (bounds.get("min", -math.inf), bounds.get("max", math.inf))
    )
    y, own = tensor_of(result), x.detach()
    outside = torch.where(y <= low, own.clamp(max=low), own.clamp(min=high))
    taken = torch.where((y > low) & (y < high), y, outside)
    return At.apply(x, torch.where(((own > low) == (y > low)) & ((own < high) == (y < high)), own, taken))
