"""Resampling: each axis is a matrix of weights."""

import itertools
import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from torch_oracle.operators import Call, operator
from torch_oracle.windows import Windows


@operator("Resize")
def resize(at: Call, x: Tensor, *given: Tensor | None) -> Tensor:
    """Resize by scales or to sizes."""
    if at.opset < 11:
        return upsample(at, x, *given)
    roi, scales, sizes = (v if v is not None and v.numel() else None for v in (*given, None, None, None)[:3])
    axes = [a % x.ndim for a in at.get("axes", range(x.ndim))]
    lengths = [x.shape[a] for a in axes]
    if sizes is None:
        ratios = scales.tolist()
        out = [int(np.floor(np.float32(s) * n)) for s, n in zip(ratios, lengths, strict=True)]
    else:
        out, ratios = _fitted(at, sizes.tolist(), lengths)
    edges = (
        [(0.0, 1.0)] * len(axes)
        if roi is None
        else list(zip(roi[: len(axes)].tolist(), roi[len(axes) :].tolist(), strict=True))
    )
    return _resampled(at, x, axes, out, ratios, edges)


@operator("Upsample")
def upsample(at: Call, x: Tensor, scales: Tensor | None = None) -> Tensor:
    """Resize as before opset 11: asymmetric, nearest by floor."""
    ratios = at.get("scales") or (scales.tolist() if scales is not None else None)
    ratios = ratios or [1.0, 1.0, at.get("height_scale"), at.get("width_scale")]
    mode = {"bilinear": "linear"}.get(at.get("mode", "nearest"), at.get("mode", "nearest"))
    call = at.like("Resize", mode=mode, coordinate_transformation_mode="asymmetric", nearest_mode="floor")
    out = [int(np.floor(np.float32(s) * n)) for s, n in zip(ratios, x.shape, strict=True)]
    return _resampled(call, x, range(x.ndim), out, ratios, [(0.0, 1.0)] * x.ndim)


def _fitted(at: Call, sizes: Sequence[int], lengths: Sequence[int]) -> tuple[list[int], list[float]]:
    """Return the sizes and scales after the policy on the aspect ratio."""
    ratios = [s / n for s, n in zip(sizes, lengths, strict=True)]
    policy = at.get("keep_aspect_ratio_policy", "stretch")
    if policy == "stretch":
        return list(sizes), ratios
    one = min(ratios) if policy == "not_larger" else max(ratios)
    return [int(np.floor(one * n + 0.5)) for n in lengths], [one] * len(ratios)


def _resampled(
    at: Call,
    x: Tensor,
    axes: Sequence[int],
    out: Sequence[int],
    ratios: Sequence[float],
    edges: Sequence[tuple[float, float]],
) -> Tensor:
    outside = torch.zeros(())
    for axis, count, ratio, edge in zip(axes, out, ratios, edges, strict=True):
        cropped = at.get("coordinate_transformation_mode") == "tf_crop_and_resize"
        if count == x.shape[axis] and ratio == 1 and not cropped:
            continue
        places = _coordinates(at, x.shape[axis], count, ratio, edge)
        weights = torch.from_numpy(_weights(at, places, x.shape[axis], ratio))
        x = torch.tensordot(x, weights, ([axis], [1])).movedim(-1, axis)
        if cropped:
            beyond = torch.from_numpy((places < 0) | (places > weights.shape[1] - 1))
            outside = outside + beyond.reshape(-1, *[1] * (x.ndim - 1 - axis))
    return torch.where(outside > 0, at.get("extrapolation_value", 0.0), x)


def _coordinates(at: Call, size: int, count: int, ratio: float, edge: tuple[float, float]) -> np.ndarray:
    """Return where each number of the output lies in the input, in single precision as runtimes do."""
    i, r, one = np.arange(count, dtype=np.float32), np.float32(ratio), np.float32(1)
    mode = at.get("coordinate_transformation_mode", "half_pixel")
    start, stop = map(np.float32, edge)
    if mode == "asymmetric":
        return i / r
    if mode == "align_corners":
        return i * np.float32(size - 1) / np.float32(count - 1) if count > 1 else 0 * i
    if mode == "pytorch_half_pixel":
        return (i + one / 2) / r - one / 2 if count > 1 else 0 * i
    if mode == "half_pixel_symmetric":
        adjust = np.float32(count) / (r * np.float32(size))
        centre = np.float32(size) / 2
        return centre * (1 - adjust) + (i + one / 2) / r - one / 2
    if mode == "tf_half_pixel_for_nn":
        return (i + one / 2) / r
    if mode == "tf_crop_and_resize":
        step = (stop - start) * (size - 1) / (count - 1) if count > 1 else 0
        return (
            start * (size - 1) + i * step
            if count > 1
            else np.float32(0.5) * (start + stop) * (size - 1) + 0 * i
        )
    return (i + one / 2) / r - one / 2


def _weights(at: Call, places: np.ndarray, size: int, ratio: float) -> np.ndarray:
    """Return how much each output (row) takes of each input (column)."""
    mode, antialias = at.get("mode", "nearest"), at.get("antialias", 0)
    if mode == "nearest":
        return np.eye(size)[_nearest(at, places).clip(0, size - 1)]
    stretch = max(1.0, 1 / ratio) if antialias else 1.0
    reach = (1 if mode == "linear" else 2) * stretch
    kernel = _tent if mode == "linear" else _cubic(at.get("cubic_coeff_a", -0.75))
    places = places.astype(np.float64)
    if mode == "linear" and not antialias:
        places = places.clip(0, size - 1)
    taps = np.floor(places)[:, None] + np.arange(-np.ceil(reach), np.ceil(reach) + 2)
    weights = kernel((taps - places[:, None]) / stretch)
    inside = (taps >= 0) & (taps < size)
    if at.get("exclude_outside", 0):
        weights = weights * inside
    weights = weights / weights.sum(1, keepdims=True)
    matrix = np.zeros((len(places), size))
    np.add.at(matrix, (np.arange(len(places))[:, None], taps.astype(int).clip(0, size - 1)), weights)
    return matrix


def _nearest(at: Call, places: np.ndarray) -> np.ndarray:
    round_ = {
        "round_prefer_floor": lambda x: np.ceil(x - np.float32(0.5)),
        "round_prefer_ceil": lambda x: np.floor(x + np.float32(0.5)),
        "floor": np.floor,
        "ceil": np.ceil,
    }[at.get("nearest_mode", "round_prefer_floor")]
    return round_(places).astype(int)


def _tent(x: np.ndarray) -> np.ndarray:
    return np.maximum(1 - np.abs(x), 0)


def _cubic(a: float):
    def kernel(x: np.ndarray) -> np.ndarray:
        x = np.abs(x)
        near = ((a + 2) * x - (a + 3)) * x**2 + 1
        far = a * (x**3 - 5 * x**2 + 8 * x - 4)
        return np.where(x <= 1, near, np.where(x < 2, far, 0.0))

    return kernel


@operator("GridSample")
def grid_sample(at: Call, x: Tensor, grid: Tensor) -> Tensor:
    """Sample at the points of a grid."""
    mode = at.get("mode", "linear")
    mode = {"linear": "bilinear", "cubic": "bicubic"}.get(mode, mode)
    corners = bool(at.get("align_corners", 0))
    return functional.grid_sample(x, grid, mode, at.get("padding_mode", "zeros"), corners)


@operator("AffineGrid")
def affine_grid(at: Call, theta: Tensor, size: Tensor) -> Tensor:
    """Return the grid of an affine map."""
    return functional.affine_grid(theta, size.tolist(), bool(at.get("align_corners", 0)))


@operator("DeformConv")
def deform_conv(
    at: Call, x: Tensor, w: Tensor, offset: Tensor, b: Tensor | None = None, mask: Tensor | None = None
) -> Tensor:
    """Convolve what is sampled at moved places (Dai et al. 2017)."""
    (n, _, *sizes), kernel, groups = x.shape, w.shape[2:], at.get("group", 1)
    windows, parts = Windows.of(at, sizes, kernel), at.get("offset_group", 1)
    counts = windows.counts(sizes)
    places = [windows.along(axis, count).double() for axis, count in enumerate(counts)]
    moved = offset.reshape(n * parts, *kernel, 2, *counts)
    share = None if mask is None else mask.reshape(n * parts, *kernel, 1, *counts)
    seen = []
    for i, j in itertools.product(*map(range, kernel)):
        rows = places[0][:, i, None] + moved[:, i, j, 0]
        columns = places[1][:, j] + moved[:, i, j, 1]
        grid = torch.stack([(2 * columns + 1) / sizes[1] - 1, (2 * rows + 1) / sizes[0] - 1], -1)
        part = functional.grid_sample(x.reshape(n * parts, -1, *sizes), grid, align_corners=False)
        seen.append(part if share is None else part * share[:, i, j])
    columns = torch.stack(seen, 2).reshape(n, groups, -1, counts[0] * counts[1])
    y = (w.reshape(groups, w.shape[0] // groups, -1) @ columns).reshape(n, w.shape[0], *counts)
    return y if b is None else y + b.reshape(-1, 1, 1)


@operator("RoiAlign")
def roi_align(at: Call, x: Tensor, regions: Tensor, images: Tensor) -> Tensor:
    """Return the mean of samples between pixels, for each bin of each region (He et al. 2017)."""
    half = at.get("coordinate_transformation_mode", "half_pixel" if at.opset >= 16 else "") == "half_pixel"
    bins = [at.get("output_height", 1), at.get("output_width", 1)]
    found = []
    for corners, image in zip(regions.detach().double(), images.tolist(), strict=True):
        x0, y0, x1, y1 = (corners * at.get("spatial_scale", 1.0) - half * 0.5).tolist()
        lengths = [length if half else max(length, 1.0) for length in (y1 - y0, x1 - x0)]
        counts = [
            at.get("sampling_ratio", 0) or max(math.ceil(n / b), 0)
            for n, b in zip(lengths, bins, strict=True)
        ]
        grid = []
        for start, length, parts, count in zip((y0, x0), lengths, bins, counts, strict=True):
            each = torch.arange(parts * count, dtype=torch.float64) + 0.5
            grid.append(start + each * length / (parts * max(count, 1)))
        rows, columns = torch.meshgrid(*grid, indexing="ij")
        sizes = x.shape[2:]
        inside = (rows >= -1) & (rows <= sizes[0]) & (columns >= -1) & (columns <= sizes[1])
        places = torch.stack([(2 * columns + 1) / sizes[1] - 1, (2 * rows + 1) / sizes[0] - 1], -1)[None]
        if not all(counts):
            found.append(x.new_zeros(1, x.shape[1], *bins))
            continue
        seen = functional.grid_sample(
            x[image : image + 1], places.to(x), padding_mode="border", align_corners=False
        )
        found.append(functional.avg_pool2d(seen * inside, tuple(counts)))
    return torch.cat(found)
