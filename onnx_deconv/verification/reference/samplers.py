"""Operators that look between pixels: each sample's signal is shared among the pixels that it took."""

import math

import numpy as np

from onnx_deconv.verification.reference.filters import mix
from onnx_deconv.verification.reference.graph import Array
from onnx_deconv.verification.reference.sampling import (
    Neighbours,
    Samples,
    border,
    reflected,
    reflection,
    zeros,
)
from onnx_deconv.verification.reference.table import of_each_input
from onnx_deconv.verification.reference.visit import Visit
from onnx_deconv.verification.reference.windows import Windows


@of_each_input("GridSample")
def grid_sample(at: Visit, i: int) -> Array:
    """Y = X at places between pixels, from -1 to 1 along each axis, the last axis first.

    X receives what each sample took of it; the grid receives how each sample changes as it moves.
    """
    rank = len(at.shape()) - 2
    grid = at.x(1).reshape(len(at.x(1)), -1, rank)
    located = [located_along(at, axis, grid[..., rank - 1 - axis]) for axis in range(rank)]
    samples = Samples(at.shape()[2:], [neighbours for neighbours, _ in located])
    signal = at.signal.reshape(*at.signal.shape[:2], -1)
    if i == 0:
        return samples.spread(signal)
    moves = [(signal * samples.read(at.x(), axis)).sum(1) * located[axis][1] for axis in range(rank)]
    return np.stack(moves[::-1], -1).reshape(at.shape(1))


def located_along(at: Visit, axis: int, grid: Array) -> tuple[Neighbours, Array]:
    """Return the pixels that a grid names along an axis, and the derivative of the coordinate by the grid."""
    mode, padding = str(at.attr("mode", "linear")).removeprefix("bi"), at.attr("padding_mode", "zeros")
    size, corners = at.shape()[2 + axis], at.attr("align_corners", 0)
    half = (size - 1 if corners else size) / 2
    coordinate, slope = (grid + 1) * half - (0 if corners else 0.5), np.full_like(grid, half)
    if padding != "reflection":
        inside = zeros(size) if padding == "zeros" else border(size)
        return Neighbours.of(coordinate, mode, inside), slope
    ends = (0, size - 1) if corners else (-0.5, size - 0.5)
    folded, sign = reflected(np.rint(coordinate) if mode == "nearest" else coordinate, *ends)
    return Neighbours.of(folded, mode, reflection(*ends)), slope * sign


@of_each_input("DeformConv")
def deform_conv(at: Visit, i: int) -> Array:
    """y[o, j] = Σ w[o, c, k]·mask[k, j]·x[c, j·s + k·d - p + offset[k, j]], x being looked at between pixels.

    What the filter saw receives the signal through the transposed filter. Of that, x receives what was taken
    of it, the offsets how it changes as they move, the mask what was seen.
    """
    if i in (1, 3):
        raise at.unsupported(f"an input {i} computed from the explained input")
    windows = Windows.of(at, at.shape(1)[2:])
    back = [seen_back(at, i, windows, k) for k in range(math.prod(windows.kernel))]
    return np.sum(back, axis=0).reshape(at.shape()) if i == 0 else np.stack(back, 1).reshape(at.shape(i))


def seen_back(at: Visit, i: int, windows: Windows, k: int) -> Array:
    """Return the signal of input i for what the k-th weight of each filter saw, offset groups as images.

    Of shape (images, channels, size) for x; (images, 2, positions) for the offsets of a picture and
    (images, 1, positions) for the mask.
    """
    rank, images = len(windows.kernel), at.shape()[0] * at.attr("offset_group", 1)
    pictures = at.x().reshape(images, -1, *windows.size)
    samples = Samples(windows.size, moved_windows(at, windows, k, images))
    groups, weight = at.attr("group", 1), at.x(1)
    grouped = weight.reshape(groups, -1, weight.shape[1], math.prod(windows.kernel))[..., k]
    signal = mix(grouped.swapaxes(1, 2), at.signal).reshape(images, pictures.shape[1], -1)
    if i == 4:  # noqa: PLR2004
        return (signal * samples.read(pictures)).sum(1, keepdims=True)
    if at.given(4):
        signal = signal * at.x(4).reshape(images, math.prod(windows.kernel), 1, -1)[:, k]
    if i == 0:
        return samples.spread(signal)
    return np.stack([(signal * samples.read(pictures, axis)).sum(1) for axis in range(rank)], 1)


def moved_windows(at: Visit, windows: Windows, k: int, images: int) -> list[Neighbours]:
    """Return for each axis where the k-th weight looked: its own place, moved by its offset."""
    rank, offset = len(windows.kernel), np.unravel_index(k, windows.kernel)
    moves = at.x(2).reshape(images, -1, rank, *windows.count)[:, k]
    axes = []
    for a in range(rank):
        first = offset[a] * windows.dilations[a] - windows.begin[a]
        own = first + np.arange(windows.count[a]) * windows.strides[a]
        coordinate = moves[:, a] + own.reshape(-1, *[1] * (rank - 1 - a))
        axes.append(Neighbours.of(coordinate.reshape(images, -1), "linear", zeros(windows.size[a])))
    return axes
