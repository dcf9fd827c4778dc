"""Filters: each sends back its exact transpose; the bias takes no part."""

from collections.abc import Mapping, Sequence
from typing import Any

from onnx_deconv.operators import axes, fields
from onnx_deconv.operators.builder import Signal
from onnx_deconv.operators.registry import operator
from onnx_deconv.operators.site import Site
from onnx_deconv.operators.tables import Signals
from onnx_deconv.operators.traits import CONVOLUTION, FILTER, GLOBAL
from onnx_deconv.operators.window import Window, crop, impossible, spatial_shape


@operator("Conv", traits={FILTER, CONVOLUTION}, field=fields.window)
def conv(at: Site) -> Signals:
    """The transposed filter: ConvTranspose with the same weight, as large as the forward input."""
    return [conv_back(at, at.signal, given_filter(at)), None, None]


conv.fault(impossible)


def given_filter(at: Site) -> Signal:
    """Return a convolution's filter.

    Raises
    ------
    RuleError
        If it is none of the model's own, but depends on the explained input.
    """
    if at.needs(1):
        raise at.unsupported("its filter depends on the explained input")
    return at.input(1)


def conv_back(at: Site, signal: Signal, weight: Signal) -> Signal:
    """Send a signal back through a convolution with a weight of its filter's shape."""
    window = Window.of(at, at.shape_of(1)[2:])
    same = {
        "dilations": window.dilations,
        "group": at.attr("group", 1),
        "kernel_shape": window.kernel,
    }
    return window.transpose(at, signal, weight, **same)


@operator("ConvTranspose", traits={FILTER}, field=fields.transposed_window)
def conv_transpose(at: Site) -> Signals:
    """The transpose of a transposed filter is the filter: Conv with the same weight."""
    return [conv_transpose_back(at, at.signal, given_filter(at)), None, None]


conv_transpose.fault(impossible)


def conv_transpose_back(at: Site, signal: Signal, weight: Signal) -> Signal:
    """Send a signal back through a transposed convolution with a weight of its filter's shape."""
    kernel, n = at.shape_of(1)[2:], len(at.shape_of(1)) - 2
    strides, dilations = at.attr("strides", [1] * n), at.attr("dilations", [1] * n)
    pads = _transposed_pads(at, kernel, strides, dilations)
    signal = at.op.Conv(
        signal,
        weight,
        strides=strides,
        dilations=dilations,
        pads=pads,
        group=at.attr("group", 1),
    )
    extra = any(p >= s for p, s in zip(at.attr("output_padding", [0] * n), strides, strict=True))
    # Output padding of a stride or more makes Conv see windows that the forward pass did not have.
    return crop(at, signal, [0] * n, spatial_shape(at, 0)) if extra else signal


@operator("Gemm", traits={FILTER, GLOBAL}, axes=axes.gemm)
def gemm(at: Site) -> Signals:
    """Y = αA'B' + βC, so the signal for A is αYB'ᵀ, flipped once more where A was transposed."""
    alpha, signal = at.attr("alpha", 1.0), at.signal
    return [
        gemm_back(at, 0, signal, at.input(1), alpha) if at.needs(0) else None,
        gemm_back(at, 1, signal, at.input(0), alpha) if at.needs(1) else None,
        at.unbroadcast(at.op.Mul(signal, float(at.attr("beta", 1.0))), 2) if at.needs(2) else None,
    ]


def gemm_back(at: Site, i: int, signal: Signal, other: Signal, alpha: float = 1.0) -> Signal:
    """Send a signal back to factor ``i`` of a Gemm whose other factor is given."""
    trans = at.attr("transA", 0), at.attr("transB", 0)
    if i == 0:
        return _product(at, signal, other, alpha, (0, 1 - trans[1]), flip=trans[0])
    return _product(at, other, signal, alpha, (1 - trans[0], 0), flip=trans[1])


def _product(at: Site, a: Signal, b: Signal, alpha: float, trans: tuple[int, int], *, flip: int) -> Signal:
    """Return αA'B', or its transpose B'ᵀA'ᵀ."""
    if flip:
        return at.op.Gemm(b, a, alpha=alpha, transA=1 - trans[1], transB=1 - trans[0])
    return at.op.Gemm(a, b, alpha=alpha, transA=trans[0], transB=trans[1])


@operator("MatMul", traits={FILTER}, field=fields.product, axes=axes.product)
def matmul(at: Site) -> Signals:
    """Y = AB, so A gets YBᵀ and B gets AᵀY, summed over the axes along which either was repeated."""
    return [matmul_back(at, i, at.signal, at.input(1 - i)) if at.needs(i) else None for i in (0, 1)]


def matmul_back(at: Site, i: int, signal: Signal, other: Signal) -> Signal:
    """Send a signal back to factor ``i`` of a MatMul whose other factor is given."""
    ranks = len(at.shape_of(0)), len(at.shape_of(1))
    # NumPy's rule: a vector is a row on the left and a column on the right.
    if ranks[0] == 1:
        signal = at.op.Unsqueeze(signal, [-2] if ranks[1] > 1 else [0])
    if ranks[1] == 1:
        signal = at.op.Unsqueeze(signal, [-1])
    return (_right if i else _left)(at, signal, other, ranks)


def _left(at: Site, signal: Signal, b: Signal, ranks: tuple[int, int]) -> Signal:
    op = at.op
    if ranks == (2, 2):
        return op.Gemm(signal, b, transB=1)
    if ranks[1] == 1:
        return _fold(at, op.Mul(signal, b), 0)
    return _fold(at, op.MatMul(signal, op.Transpose(b, perm=_swapped(ranks[1]))), 0)


def _right(at: Site, signal: Signal, a: Signal, ranks: tuple[int, int]) -> Signal:
    op = at.op
    if ranks == (2, 2):
        return op.Gemm(a, signal, transA=1)
    if ranks[0] == 1:
        return _fold(at, op.Mul(op.Unsqueeze(a, [-1]), signal), 1)
    return _fold(at, op.MatMul(op.Transpose(a, perm=_swapped(ranks[0])), signal), 1)


def _fold(at: Site, signal: Signal, i: int) -> Signal:
    """Sum over repeated batch axes, and drop the axis that a vector had for the product's sake."""
    shape, other = at.shape_of(i), at.shape_of(1 - i)
    rank = max(len(shape), len(other), 2)
    padded = [1] * (rank - len(shape)) + [*shape]
    partner = [1] * (rank - len(other)) + [*other]
    summed = [k for k in range(rank - 2) if padded[k] == 1 and partner[k] != 1]
    if summed:
        signal = at.op.ReduceSum(signal, summed)
    return signal if len(shape) == rank else at.reshape(signal, i)


def _swapped(rank: int) -> list[int]:
    return [*range(rank - 2), rank - 1, rank - 2]


@operator("Einsum", traits={FILTER}, axes=axes.summation)
def einsum(at: Site) -> Signals:
    """Each operand gets the signal times the others, summed over the indices that it lacks."""
    count = len(at.node.inputs)
    others = {i: [at.input(k) for k in range(count) if k != i] for i in range(count) if at.needs(i)}
    return [einsum_back(at, i, at.signal, others[i]) if i in others else None for i in range(count)]


@einsum.fault
def einsum_operands(attributes: Mapping[str, Any], inputs: int, _: int) -> str | None:
    """Refuse an equation of another number of operands."""
    equation = attributes.get("equation", b"").decode()
    terms = len(equation.partition("->")[0].split(","))
    return None if terms == inputs else f"equation={equation!r}, and {inputs} inputs"


def einsum_back(at: Site, i: int, signal: Signal, others: Sequence[Signal]) -> Signal:
    """Send a signal back to operand ``i`` of an Einsum whose other operands are given."""
    terms, result = equation(at)
    rest = [term for k, term in enumerate(terms) if k != i]
    known = set(result).union(*rest)
    # An index of this operand alone was summed over: its signal is the same all along.
    kept = "".join(index for index in terms[i] if index in known)
    signal = at.op.Einsum(signal, *others, equation=f"{','.join([result, *rest])}->{kept}")
    return _with_lost_indices(at, signal, i, [k for k, x in enumerate(terms[i]) if x not in known])


def equation(at: Site) -> tuple[list[str], str]:
    """Return the operands' indices and the result's; an ellipsis becomes indices of its own."""
    left, arrow, result = str(at.attr("equation")).replace(" ", "").partition("->")
    terms = left.split(",")
    if not arrow:
        alone = sorted(c for c in set(left) - {",", "."} if left.count(c) == 1)
        result = ("..." if "..." in left else "") + "".join(alone)
    free = [c for c in "ZYXWVUTSRQPON" if c not in left + result]
    lengths = [len(at.shape_of(i)) - len(t.replace("...", "")) for i, t in enumerate(terms) if "..." in t]
    names = "".join(free[: max(lengths, default=0)])[::-1]
    whole = [
        t.replace("...", names[len(names) - (len(at.shape_of(i)) - len(t) + 3) :]) if "..." in t else t
        for i, t in enumerate(terms)
    ]
    if any(len(set(term)) < len(term) for term in whole):
        raise at.unsupported("an index that stands twice in one operand")
    if len(set(lengths)) > 1 or _stretches(at, whole):
        raise at.unsupported("operands that are stretched to each other's size")
    return whole, result.replace("...", names)


def _stretches(at: Site, terms: Sequence[str]) -> bool:
    """Tell whether an index has size 1 in one operand and another size in another."""
    sizes: dict[str, set[int | None]] = {}
    for i, term in enumerate(terms):
        for index, size in zip(term, at.shape_of(i), strict=True):
            sizes.setdefault(index, set()).add(size)
    return any(1 in known and len(known) > 1 for known in sizes.values())


def _with_lost_indices(at: Site, signal: Signal, i: int, lost: list[int]) -> Signal:
    return at.op.Expand(at.op.Unsqueeze(signal, lost), at.shape(i)) if lost else signal


def _transposed_pads(
    at: Site, kernel: Sequence[int | None], strides: Sequence[int], dilations: Sequence[int]
) -> list[int]:
    """Resolve the padding of a ConvTranspose, as its specification derives it from output_shape."""
    n = len(kernel)
    output, auto = at.attr("output_shape"), at.attr("auto_pad", "NOTSET")
    sizes = list(at.shape_of(0)[2:])
    if output is None and auto in ("SAME_UPPER", "SAME_LOWER"):
        output = [None if size is None else size * s for size, s in zip(sizes, strides, strict=True)]
        sizes = [0 if size is None else size for size in sizes]  # a size cancels out: out - s·size = 0
        output = [0 if o is None else o for o in output]
    if output is None:
        return [0] * (2 * n) if auto == "VALID" else list(at.attr("pads", [0] * (2 * n)))
    adjust = at.attr("output_padding", [0] * n)
    begins, ends = [], []
    for k in range(n):
        size, kernel_size = sizes[k], kernel[k]
        if size is None or kernel_size is None:
            raise at.unsupported("output_shape with an input size that is only known at run time")
        total = strides[k] * (size - 1) + adjust[k] + (kernel_size - 1) * dilations[k] + 1 - output[-n:][k]
        total = max(total, 0)
        small, large = total // 2, total - total // 2
        begin, end = (small, large) if auto == "SAME_UPPER" else (large, small)
        begins.append(begin)
        ends.append(end)
    return begins + ends
