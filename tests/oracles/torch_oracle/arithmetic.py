"""Numbers of several values: sums, products, comparisons, reductions."""

from collections.abc import Callable
from functools import reduce

import torch
from torch import Tensor

from torch_oracle.operators import OPERATORS, Call, operator
from torch_oracle.pooling import at_first_maximum, norm


def _divided(a: Tensor, b: Tensor) -> Tensor:
    return a / b if a.is_floating_point() or b.is_floating_point() else torch.div(a, b, rounding_mode="trunc")


BINARY: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "Add": torch.add,
    "Sub": torch.sub,
    "Mul": torch.mul,
    "Div": _divided,
    "Greater": torch.gt,
    "GreaterOrEqual": torch.ge,
    "Less": torch.lt,
    "LessOrEqual": torch.le,
    "Equal": torch.eq,
    "And": torch.logical_and,
    "Or": torch.logical_or,
    "Xor": torch.logical_xor,
    "BitwiseAnd": torch.bitwise_and,
    "BitwiseOr": torch.bitwise_or,
    "BitwiseXor": torch.bitwise_xor,
    "Pow": lambda a, b: (a ** b.to(torch.float64)).to(a.dtype),
}
VARIADIC: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "Sum": torch.add,
    "Max": lambda a, b: torch.where(a >= b, a, b),  # of equals, the first has the signal
    "Min": lambda a, b: torch.where(a <= b, a, b),
}


def _old(at: Call, a: Tensor, b: Tensor) -> Tensor:
    """Give b the axes that opsets before 7 broadcast it along."""
    if at.opset < 7 and at.get("broadcast", 0) and "axis" in at.attributes:
        return b.reshape(*b.shape, *[1] * (a.ndim - at.get("axis") % a.ndim - b.ndim))
    return b


OPERATORS.update({("", n): lambda at, a, b, f=f: f(a, _old(at, a, b)) for n, f in BINARY.items()})
OPERATORS.update({("", n): lambda _, *parts, f=f: reduce(f, parts) for n, f in VARIADIC.items()})


@operator("Mean")
def mean(_: Call, *parts: Tensor) -> Tensor:
    """Average values."""
    return sum(parts[1:], parts[0]) / len(parts)


@operator("Mod")
def mod(at: Call, a: Tensor, b: Tensor) -> Tensor:
    """Return the remainder."""
    return torch.fmod(a, b) if at.get("fmod", 0) else torch.remainder(a, b)


@operator("Where")
def where(_: Call, condition: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Choose."""
    return torch.where(condition, a, b)


def _axes(at: Call, x: Tensor, given: Tensor | None) -> list[int]:
    """Return a reduction's axes; none of them where it is told to do nothing then."""
    axes = at.ints("axes", given)
    if axes:
        return [a % x.ndim for a in axes]
    return [] if at.get("noop_with_empty_axes", 0) else list(range(x.ndim))


def _at_extremum(x: Tensor, sign: int, axes: list[int], *, keep: bool) -> Tensor:
    """Return the maximum of sign·x; its signal goes to the first of equals in row-major order."""
    kept = [a for a in range(x.ndim) if a not in axes]
    rows = x.permute(*kept, *axes).reshape(*[x.shape[a] for a in kept], -1)
    y = rows.gather(-1, at_first_maximum(sign * rows)[..., None])[..., 0]
    return y.reshape(tuple(1 if a in axes else x.shape[a] for a in range(x.ndim))) if keep else y


REDUCTIONS: dict[str, Callable[[Tensor, list[int], bool], Tensor]] = {
    "ReduceSum": lambda x, axes, keep: x.sum(axes, keepdim=keep),
    "ReduceMean": lambda x, axes, keep: (
        x.mean(axes, keepdim=keep)
        if x.is_floating_point()
        else x.double().mean(axes, keepdim=keep).to(x.dtype)
    ),
    "ReduceMax": lambda x, axes, keep: _at_extremum(x, 1, sorted(axes), keep=keep),
    "ReduceMin": lambda x, axes, keep: _at_extremum(x, -1, sorted(axes), keep=keep),
    "ReduceL1": lambda x, axes, keep: x.abs().sum(axes, keepdim=keep),
    "ReduceL2": lambda x, axes, keep: norm(x, 2, axes, keep=keep),
    "ReduceSumSquare": lambda x, axes, keep: x.square().sum(axes, keepdim=keep),
    "ReduceLogSum": lambda x, axes, keep: x.sum(axes, keepdim=keep).log(),
    "ReduceLogSumExp": lambda x, axes, keep: torch.logsumexp(x, axes, keepdim=keep),
    "ReduceProd": lambda x, axes, keep: _product(x, axes, keep=keep),
}


def _product(x: Tensor, axes: list[int], *, keep: bool) -> Tensor:
    for axis in sorted(axes, reverse=True):
        x = x.prod(axis, keepdim=keep)
    return x


def _reduce(at: Call, x: Tensor, given: Tensor | None = None) -> Tensor:
    axes = _axes(at, x, given)
    function = REDUCTIONS[at.node.op_type]
    if not axes:
        return function(x[None], [0], False)
    return function(x, axes, bool(at.get("keepdims", 1)))


OPERATORS.update({("", name): _reduce for name in REDUCTIONS})


@operator("ArgMax", "ArgMin")
def arg(at: Call, x: Tensor) -> Tensor:
    """Return where the extremum is, the first of equals unless told."""
    axis = at.get("axis", 0) % x.ndim
    rows = (x if at.node.op_type == "ArgMax" else -x).movedim(axis, -1)
    last = at.get("select_last_index", 0)
    found = rows.shape[-1] - 1 - at_first_maximum(rows.flip(-1)) if last else at_first_maximum(rows)
    return found.unsqueeze(axis) if at.get("keepdims", 1) else found


@operator("TopK")
def top_k(at: Call, x: Tensor, k: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Return the largest numbers, and where they are."""
    axis = at.get("axis", -1)
    order = torch.argsort(x.detach(), dim=axis, descending=bool(at.get("largest", 1)), stable=True)
    places = order.narrow(axis, 0, at.ints("k", k)[0] if k is not None else at.get("k"))
    return x.gather(axis, places), places


@operator("CumSum")
def cumulative_sum(at: Call, x: Tensor, axis: Tensor) -> Tensor:
    """Sum up along an axis."""
    along = int(axis)
    turned = x.flip(along) if at.get("reverse", 0) else x
    total = turned.cumsum(along) - (turned if at.get("exclusive", 0) else 0)
    return total.flip(along) if at.get("reverse", 0) else total
