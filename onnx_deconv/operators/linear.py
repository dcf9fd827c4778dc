"""Filters: each sends back its exact transpose; the bias takes no part."""

from collections.abc import Sequence

from onnx_deconv.operators import fields
from onnx_deconv.operators.builder import Signal
from onnx_deconv.operators.registry import operator
from onnx_deconv.operators.site import Site
from onnx_deconv.operators.tables import Signals
from onnx_deconv.operators.traits import CONVOLUTION, FILTER, GLOBAL
from onnx_deconv.operators.window import Window, crop, spatial_shape


@operator("Conv", traits={FILTER, CONVOLUTION}, field=fields.window)
def conv(at: Site) -> Signals:
    """The transposed filter: ConvTranspose with the same weight, as large as the forward input."""
    if at.needs(1):
        raise at.unsupported("its filter depends on the explained input")
    window = Window.of(at, at.shape_of(1)[2:])
    same = {
        "dilations": window.dilations,
        "group": at.attr("group", 1),
        "kernel_shape": window.kernel,
    }
    return [window.transpose(at, at.signal, at.input(1), **same), None, None]


@operator("ConvTranspose", traits={FILTER}, field=fields.transposed_window)
def conv_transpose(at: Site) -> Signals:
    """The transpose of a transposed filter is the filter: Conv with the same weight."""
    if at.needs(1):
        raise at.unsupported("its filter depends on the explained input")
    kernel, n = at.shape_of(1)[2:], len(at.shape_of(1)) - 2
    strides, dilations = at.attr("strides", [1] * n), at.attr("dilations", [1] * n)
    pads = _transposed_pads(at, kernel, strides, dilations)
    signal = at.op.Conv(
        at.signal,
        at.input(1),
        strides=strides,
        dilations=dilations,
        pads=pads,
        group=at.attr("group", 1),
    )
    extra = any(p >= s for p, s in zip(at.attr("output_padding", [0] * n), strides, strict=True))
    # Output padding of a stride or more makes Conv see windows that the forward pass did not have.
    return [crop(at, signal, [0] * n, spatial_shape(at, 0)) if extra else signal, None, None]


@operator("Gemm", traits={FILTER, GLOBAL})
def gemm(at: Site) -> Signals:
    """Y = αA'B' + βC, so the signal for A is αYB'ᵀ, flipped once more where A was transposed."""
    alpha, trans_a, trans_b = at.attr("alpha", 1.0), at.attr("transA", 0), at.attr("transB", 0)
    op, signal = at.op, at.signal
    return [
        _product(at, signal, at.input(1), alpha, (0, 1 - trans_b), flip=trans_a) if at.needs(0) else None,
        _product(at, at.input(0), signal, alpha, (1 - trans_a, 0), flip=trans_b) if at.needs(1) else None,
        at.unbroadcast(op.Mul(signal, float(at.attr("beta", 1.0))), 2) if at.needs(2) else None,
    ]


def _product(at: Site, a: Signal, b: Signal, alpha: float, trans: tuple[int, int], *, flip: int) -> Signal:
    """Return αA'B', or its transpose B'ᵀA'ᵀ."""
    if flip:
        return at.op.Gemm(b, a, alpha=alpha, transA=1 - trans[1], transB=1 - trans[0])
    return at.op.Gemm(a, b, alpha=alpha, transA=trans[0], transB=trans[1])


@operator("MatMul", traits={FILTER}, field=fields.product)
def matmul(at: Site) -> Signals:
    """Y = AB, so A gets YBᵀ and B gets AᵀY, summed over the axes along which either was repeated."""
    ranks = len(at.shape_of(0)), len(at.shape_of(1))
    op = at.op
    # NumPy's rule: a vector is a row on the left and a column on the right.
    signal = at.signal
    if ranks[0] == 1:
        signal = op.Unsqueeze(signal, [-2] if ranks[1] > 1 else [0])
    if ranks[1] == 1:
        signal = op.Unsqueeze(signal, [-1])
    return [
        _left(at, signal, ranks) if at.needs(0) else None,
        _right(at, signal, ranks) if at.needs(1) else None,
    ]


def _left(at: Site, signal: Signal, ranks: tuple[int, int]) -> Signal:
    op, b = at.op, at.input(1)
    if ranks == (2, 2):
        return op.Gemm(signal, b, transB=1)
    if ranks[1] == 1:
        return _fold(at, op.Mul(signal, b), 0)
    return _fold(at, op.MatMul(signal, op.Transpose(b, perm=_swapped(ranks[1]))), 0)


def _right(at: Site, signal: Signal, ranks: tuple[int, int]) -> Signal:
    op, a = at.op, at.input(0)
    if ranks == (2, 2):
        return op.Gemm(a, signal, transA=1)
    if ranks[0] == 1:
        return _fold(at, op.Mul(op.Unsqueeze(a, [-1]), signal), 1)
    return _fold(at, op.MatMul(op.Transpose(a, perm=_swapped(ranks[0])), signal), 1)


def _fold(at: Site, signal: Signal, i: int) -> Signal:
    """Sum over repeated batch axes, and drop the axis that a vector had for the product's sake."""
    shape, other = at.shape_of(i), at.shape_of(1 - i)
    rank = max(len(shape), len(other), 2)
    matrix = [*shape] if len(shape) > 1 else ([1, *shape] if i == 0 else [*shape, 1])
    padded = [1] * (rank - len(matrix)) + matrix
    partner = [1] * (rank - len(other)) + [*other]
    summed = [k for k in range(rank - 2) if padded[k] == 1 and partner[k] != 1]
    if summed:
        signal = at.op.ReduceSum(signal, summed)
    return signal if len(shape) == rank else at.reshape(signal, i)


def _swapped(rank: int) -> list[int]:
    return [*range(rank - 2), rank - 1, rank - 2]


@operator("Einsum", traits={FILTER})
def einsum(at: Site) -> Signals:
    """Each operand gets the signal times the others, summed over the indices that it lacks."""
    terms, result = _equation(at)
    passed: list[Signal | None] = []
    for i, term in enumerate(terms):
        if not at.needs(i):
            passed.append(None)
            continue
        others = [k for k in range(len(terms)) if k != i]
        known = set(result).union(*(terms[k] for k in others))
        # An index of this operand alone was summed over: its signal is the same all along.
        kept = "".join(index for index in term if index in known)
        spelled = f"{','.join([result, *(terms[k] for k in others)])}->{kept}"
        signal = at.op.Einsum(at.signal, *(at.input(k) for k in others), equation=spelled)
        passed.append(_with_lost_indices(at, signal, i, [k for k, x in enumerate(term) if x not in known]))
    return passed


def _equation(at: Site) -> tuple[list[str], str]:
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
