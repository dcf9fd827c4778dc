"""Operators on plain numbers: the functions that entries name as their ``evaluate``.

They compute what a few nodes of a graph come to: an activation that an exporter wrote as several nodes,
a shape that the graph computes. Arguments are the operator's inputs and attributes, by their names in
the standard.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import helper, numpy_helper

MOST = 64
"""Elements of a shape, of pads or of indices, at most: more than that are no such small numbers."""

Numbers = NDArray[Any]


# Pointwise: numbers or arrays of any type


def identity(x: Any, *_: Any) -> Any:
    """Return the numbers as they are."""
    return x


def cast(x: Any, to: int | None = None) -> Any:
    """Round to integers or truth values where the target is one; precisions are not told apart."""
    kind = "f" if to is None else np.dtype(helper.tensor_dtype_to_np_dtype(to)).kind
    if kind == "b":
        return np.not_equal(x, 0)
    return np.trunc(x).astype(np.int64) if kind in "iu" else np.asarray(x, np.float64)


def divide(a: Any, b: Any) -> Any:
    """Divide; whole numbers are cut towards zero."""
    if np.result_type(a, b).kind in "iu":
        return np.sign(a) * np.sign(b) * (np.abs(a) // np.abs(b))
    return np.true_divide(a, b)


def clip(x: Any, min: Any = None, max: Any = None) -> Any:  # noqa: A002
    """Limit from below and above."""
    x = x if min is None else np.maximum(x, min)
    return x if max is None else np.minimum(x, max)


def is_inf(x: Any, detect_negative: int = 1, detect_positive: int = 1) -> Any:
    """Tell where numbers are infinite, of the signs that are looked for."""
    return np.isposinf(x) & bool(detect_positive) | np.isneginf(x) & bool(detect_negative)


def leaky(x: Any, slope: Any) -> Any:
    """Scale what is negative."""
    return np.where(np.greater(x, 0), x, slope * x)


def exponential(x: Any, alpha: float, gamma: float = 1.0, scale: float = 1.0) -> Any:
    """Saturate exponentially at -alpha·gamma where negative: Elu, Selu, Celu."""
    return gamma * np.where(np.greater(x, 0), x, alpha * np.expm1(np.minimum(x, 0) / scale))


def logistic(x: Any) -> Any:
    """Return σ(x)."""
    return np.exp(-np.logaddexp(0, -x))


def hard_sigmoid(x: Any, alpha: float = 0.2, beta: float = 0.5) -> Any:
    """Return the straight line alpha·x + beta, limited to 0 and 1."""
    return np.clip(alpha * x + beta, 0, 1)


def where(condition: Any, x: Any, y: Any) -> Any:
    """Choose at each place."""
    return np.where(np.not_equal(condition, 0), x, y)


error_function = np.vectorize(math.erf, otypes=[np.float64])
"""erf(x) to double precision."""


def gelu(x: Any, approximate: str = "none") -> Any:
    """Return x·Φ(x), or its tanh form."""
    if approximate == "none":
        return x * 0.5 * (1 + error_function(x / math.sqrt(2)))
    return x * 0.5 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def maximum(*x: Any) -> Any:
    """Return the largest operand at each place."""
    return np.maximum.reduce(np.broadcast_arrays(*x))


def minimum(*x: Any) -> Any:
    """Return the smallest operand at each place."""
    return np.minimum.reduce(np.broadcast_arrays(*x))


# Whole arrays of Python numbers, None where one is only known at run time


def reduced(function: Callable[[list[Any]], Any]) -> Callable[..., Any]:
    """Reduce over all elements: a shape has but one axis."""

    def reduce(data: Numbers, *_: Any, keepdims: int = 1) -> Any:
        elements = data.reshape(-1).tolist()
        whole = None if None in elements else function(elements)
        return np.asarray(whole, object).reshape((1,) * data.ndim if keepdims else ())

    return reduce


def reshape(data: Numbers, shape: Any) -> Numbers:
    """Give another shape; 0 keeps a size."""
    return data.reshape([data.shape[k] if n == 0 else n for k, n in enumerate(_whole(shape))])


def squeeze(data: Numbers, axes: Any = None) -> Numbers:
    """Drop axes of size 1."""
    return np.squeeze(data, None if axes is None else tuple(_whole(axes)))


def unsqueeze(data: Numbers, axes: Any) -> Numbers:
    """Insert axes of size 1."""
    return np.expand_dims(data, tuple(_whole(axes)))


def transpose(data: Numbers, perm: Sequence[int] | None = None) -> Numbers:
    """Let axes change places."""
    return data.transpose(perm)


def slice_(data: Numbers, starts: Any, ends: Any, axes: Any = None, steps: Any = None) -> Numbers:
    """Cut along some axes."""
    starts, ends = _whole(starts), _whole(ends)
    along = range(len(starts)) if axes is None else _whole(axes)
    cut = [slice(None)] * data.ndim
    for axis, start, end, step in zip(
        along, starts, ends, [1] * len(starts) if steps is None else _whole(steps), strict=True
    ):
        # Backwards, an end before the beginning means the beginning is taken too.
        cut[axis] = slice(start, None if step < 0 and end < -data.shape[axis] else end, step)
    return data[tuple(cut)]


def concat(*parts: Numbers, axis: int) -> Numbers:
    """Join along an axis."""
    return np.concatenate(parts, axis)


def gather(data: Numbers, indices: Any, axis: int = 0) -> Numbers:
    """Pick along an axis; one number, which may be one that is not known, is an array without axes."""
    return np.asarray(data.take(np.asarray(indices, np.int64), axis), data.dtype)


def gather_elements(data: Numbers, indices: Any, axis: int = 0) -> Numbers:
    """Pick along an axis, elsewhere in place; along an axis of size 1 all indices have to be the same."""
    places = np.asarray(indices, np.int64)
    axis %= data.ndim
    for k in range(data.ndim):
        if k != axis and data.shape[k] == 1:
            first = places.take([0], k)
            if (places != first).any():
                raise ValueError(f"indices differ along axis {k}")
            places = first
    kept = tuple(slice(None) if k == axis else slice(n) for k, n in enumerate(places.shape))
    return np.take_along_axis(data[kept], places, axis)


def gather_nd(data: Numbers, indices: Any, batch_dims: int = 0) -> Numbers:
    """Pick elements or slices, each by its coordinates."""
    if batch_dims:
        raise ValueError(f"batch_dims={batch_dims}")
    return np.asarray(data[tuple(np.moveaxis(np.asarray(indices, np.int64), -1, 0))])


def filled(shape: Any, value: Any = None) -> Numbers | None:
    """Return a small array of one number."""
    number = 0.0 if value is None else _single(value)
    sizes = _whole(shape)
    return np.full(sizes, number, object) if math.prod(sizes) <= MOST else None


def shape(sizes: Sequence[int | None], start: int = 0, end: int | None = None) -> Numbers:
    """Return the sizes of a value, of which some may not be known."""
    return np.asarray(list(sizes)[start:end], object)


def size(sizes: Sequence[int | None]) -> Numbers | None:
    """Return how many elements a value has."""
    return None if None in sizes else np.asarray(math.prod(d or 0 for d in sizes), object)


def _whole(numbers: Any) -> list[int]:
    return [int(n) for n in np.reshape(numbers, -1)]


def _single(value: Any) -> Any:
    array = value.values if hasattr(value, "values") else numpy_helper.to_array(value)
    return np.asarray(array).item()
