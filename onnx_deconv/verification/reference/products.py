"""Matrix products, and sums of products over named indices."""

from collections.abc import Sequence

import numpy as np

from onnx_deconv.verification.reference.graph import Array
from onnx_deconv.verification.reference.signals import shrink
from onnx_deconv.verification.reference.table import of_each_input
from onnx_deconv.verification.reference.visit import Visit


@of_each_input("Gemm")
def gemm(at: Visit, i: int) -> Array:
    """Y = alpha·A·B + beta·C: A receives alpha·signal·Bᵀ, B receives alpha·Aᵀ·signal.

    What entered transposed is sent back transposed.
    """
    if i > 1:
        return shrink(at.real("beta", 1.0) * at.signal, at.shape(2))
    flipped = at.attr("transA" if i == 0 else "transB", 0)
    if i == 0:
        other = at.x(1) if at.attr("transB", 0) else at.x(1).T
        back = at.signal @ other
    else:
        other = at.x(0) if at.attr("transA", 0) else at.x(0).T
        back = other @ at.signal
    scaled: Array = at.real("alpha", 1.0) * (back.T if flipped else back)
    return scaled


@of_each_input("MatMul")
def matmul(at: Visit, i: int) -> Array:
    """Y = A·B: A receives signal·Bᵀ, B receives Aᵀ·signal; stacks broadcast, vectors are thin."""
    signal = at.signal
    if len(at.shape(0)) == 1:
        signal = np.expand_dims(signal, -2 if len(at.shape(1)) > 1 else -1)
    if len(at.shape(1)) == 1:
        signal = np.expand_dims(signal, -1)
    if len(at.shape(0)) == len(at.shape(1)) == 1:
        signal = signal.reshape(1, 1)
    a, b = (1, *at.shape(0))[-max(2, len(at.shape(0))) :], at.shape(1)
    b = (*b, 1) if len(b) == 1 else b
    if i == 0:
        back = shrink(signal @ at.x(1).reshape(b).swapaxes(-1, -2), a)
    else:
        back = shrink(at.x(0).reshape(a).swapaxes(-1, -2) @ signal, b)
    return back.reshape(at.shape(i))


@of_each_input("Einsum")
def einsum(at: Visit, i: int) -> Array:
    """Y = Σ of products, linear in each operand, which receives signal times the others, summed likewise.

    Along an index that no other term names, the operand was summed up: its signal is the same all along.
    """
    terms, result = equation(at)
    if len(set(terms[i])) < len(terms[i]):
        raise at.unsupported("an index that stands twice in one operand")
    others = [k for k in range(len(terms)) if k != i]
    named = [result, *(terms[k] for k in others), *terms[i]]
    all_along = [np.ones(size) for size in at.shape(i)]
    operands = [at.signal, *(at.x(k) for k in others), *all_along]
    back: Array = np.einsum(f"{','.join(named)}->{terms[i]}", *operands, optimize="greedy")
    return back


def equation(at: Visit) -> tuple[list[str], str]:
    """Return the operands' indices and the result's: what `...` stands for gets letters of its own.

    Without an arrow the result has the indices that stand once, in alphabetical order.
    """
    left, arrow, result = str(at.attr("equation")).replace(" ", "").partition("->")
    terms = left.split(",")
    if not arrow:
        result = "..." + "".join(sorted(c for c in set(left) - set(",.") if left.count(c) == 1))
    free = [letter for letter in "zyxwvutsrqponmlkjihgfedcba" if letter not in left]
    hidden = [len(at.shape(k)) - len(term.replace("...", "")) for k, term in enumerate(terms)]
    spelled = [_with_letters(term, free, count) for term, count in zip(terms, hidden, strict=True)]
    return spelled, _with_letters(result, free, max(hidden))


def _with_letters(term: str, free: Sequence[str], count: int) -> str:
    return term.replace("...", "".join(reversed(free[:count])))
