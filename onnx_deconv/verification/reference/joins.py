"""Operators of several inputs, where paths join, and Split, where they part."""

import numpy as np

from onnx_deconv.verification.reference.graph import Array
from onnx_deconv.verification.reference.signals import inverse, shrink
from onnx_deconv.verification.reference.table import of_each_input, of_first_input
from onnx_deconv.verification.reference.visit import Visit


@of_each_input("Add", "Sum")
def add(at: Visit, i: int) -> Array:
    """Add, Sum: each term receives the signal."""
    return shrink(at.signal, at.shape(i))


@of_each_input("Mean")
def mean(at: Visit, i: int) -> Array:
    """Mean: each of n terms receives signal/n."""
    return shrink(at.signal / len(at.node.input), at.shape(i))


@of_each_input("Sub")
def subtract(at: Visit, i: int) -> Array:
    """Sub, A - B: A receives the signal, B its negative."""
    return shrink(at.signal if i == 0 else -at.signal, at.shape(i))


@of_each_input("Mul")
def multiply(at: Visit, i: int) -> Array:
    """Mul, A·B: each factor receives signal times the other."""
    return shrink(at.signal * at.x(1 - i), at.shape(i))


@of_each_input("Div")
def divide(at: Visit, i: int) -> Array:
    """Div, A/B: A receives signal/B, B receives -signal·A/B²; 0 where B is."""
    factor = inverse(at.x(1)) if i == 0 else -at.x(0) * inverse(at.x(1)) ** 2
    return shrink(at.signal * factor, at.shape(i))


@of_each_input("Pow")
def power(at: Visit, i: int) -> Array:
    """Pow, A^B: A receives signal·B·A^(B-1), B receives signal·A^B·ln A (0 where A is 0 and that is not)."""
    a, b = np.broadcast_arrays(at.x(0), at.x(1))
    if i == 0:
        return shrink(at.signal * np.where((a == 0) & (b < 1), 0.0, b * a ** (b - 1)), at.shape(0))
    return shrink(at.signal * np.where(a == 0, 0.0, a**b * np.log(a)), at.shape(1))


@of_each_input("Max", "Min")
def extremum(at: Visit, i: int) -> Array:
    """Return the signal where operand i is the extremum; of equal ones, the first receives it."""
    operands = np.stack(np.broadcast_arrays(*(at.x(j) for j in range(len(at.node.input)))))
    chosen = operands.argmax(0) if at.operator == "Max" else operands.argmin(0)
    return shrink(np.where(chosen == i, at.signal, 0.0), at.shape(i))


@of_each_input("Where")
def where(at: Visit, i: int) -> Array:
    """Return the signal where the condition chose operand i."""
    return shrink(np.where(at.raw(0) if i == 1 else ~at.raw(0), at.signal, 0.0), at.shape(i))


@of_each_input("Concat")
def concat(at: Visit, i: int) -> Array:
    """Concat: each part receives its stretch of the signal."""
    axis = at.attr("axis", 1) % at.signal.ndim
    start = sum(at.shape(j)[axis] for j in range(i))
    return at.signal.take(range(start, start + at.shape(i)[axis]), axis)


@of_first_input("Split")
def split(at: Visit) -> Array:
    """Parts along an axis: the concatenation of their signals, zero for one that has none."""
    axis = at.attr("axis", 0) % len(at.shape())
    total, parts = at.shape()[axis], len(at.node.output)
    largest = -(-total // parts)
    sizes = at.ints("split", 1) or [min(largest, total - p * largest) for p in range(parts)]
    frame = np.zeros(at.shape())
    for signal, stop in zip(at.arrived, np.cumsum(sizes), strict=True):
        if signal is not None:
            place = [slice(None)] * axis + [slice(stop - signal.shape[axis], stop)]
            frame[tuple(place)] = signal
    return frame
