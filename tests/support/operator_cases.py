"""Every form of every operator with what it computes; what several tests go through.

To test a new rule, add a row to CASES. Where a row names a function of PyTorch, autograd is asked as well.
"""

import itertools

import numpy as np
from oracle import Case, node

STATISTICS = {"s": (4,), "b": (4,), "m": (4,), "v": np.float32([0.4, 0.8, 1.5, 2.0])}
IMAGE = {"x": (1, 4, 3, 5)}
STANDARDISED = (
    "m = ReduceMean(g, axes) c = Sub(g, m) q = Mul(c, c) v2 = ReduceMean(q, axes) e = Add(v2, eps)"
    " r = Sqrt(e) n = Div(c, r)"
)


QUANTISER = {"s": np.array(0.05, "f"), "z": np.array(99, "u1")}


def ints(*values):
    return np.array(values, np.int64)


def scalar(value):
    return np.array(value, np.float32)


def response_normalisation(channels, size, alpha=1e-4, beta=0.75, bias=1.0):
    """x·(bias + alpha/size·Σ x²)^-beta, the sum written as a filter over neighbouring channels."""
    distance = np.subtract.outer(np.arange(channels), np.arange(channels))
    neighbours = (abs(distance) <= size // 2).astype(np.float32).reshape(channels, channels, 1, 1)
    given = f"size = {size}, alpha = {alpha:.6f}, beta = {beta}, bias = {bias}"
    return Case(
        f"y = LRN<{given}>(x)",
        x=(2, channels, 2, 3),
        same_as="q = Mul(x, x) n = Conv(q, near) a = Mul(n, share) d = Add(a, bias) p = Pow(d, beta)"
        " y = Mul(x, p)",
        weights={
            "near": neighbours,
            "share": scalar(alpha / size),
            "bias": scalar(bias),
            "beta": scalar(-beta),
        },
        torch=lambda t, v: t.nn.functional.local_response_norm(v["x"], size, alpha, beta, bias),
    )


def resizes():
    """Every way to interpolate, to a larger and to a smaller size."""
    scales = dict.fromkeys(("half_pixel", "pytorch_half_pixel", "asymmetric"), (1.7, 0.77))
    scales["align_corners"] = (1.5, 1.5)  # the standard's reference wants whole sizes here
    rounding = ["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"]
    ways = [("nearest", c, r) for c, r in itertools.product(scales, rounding)]
    ways += [(m, c, None) for m, c in itertools.product(("linear", "cubic"), scales)]
    for mode, coordinates, nearest in ways:
        how = {"mode": mode, "coordinate_transformation_mode": coordinates, "nearest_mode": nearest}
        by_scale = node("Resize", "x, , s", **how)
        yield Case(f"y = {by_scale}", x=(1, 2, 4, 6), weights={"s": np.float32([1, 1, *scales[coordinates]])})
        yield Case(
            f"y = {node('Resize', 'x, , , t', **how)}", x=(1, 2, 4, 6), weights={"t": ints(1, 2, 3, 9)}
        )
    smooth = node("Resize", "x, , , t", mode="linear", antialias=1, axes=(3, 2))
    yield Case(f"y = {smooth}", x=(1, 2, 4, 6), opset=18, weights={"t": ints(4, 3)})
    cropped = node("Resize", "x, r, , t", mode="linear", coordinate_transformation_mode="tf_crop_and_resize")
    region = np.float32([0, 0, 0.2, -0.3, 1, 1, 0.9, 1.1])
    yield Case(f"y = {cropped}", x=(1, 2, 5, 6), weights={"t": ints(1, 2, 4, 3), "r": region})
    beyond = cropped.replace("<", "<extrapolation_value = 0.3, ")
    yield Case(f"y = {beyond}", x=(1, 2, 5, 6), weights={"t": ints(1, 2, 4, 3), "r": region})


def grid_samples():
    """Every way to read between pixels and beyond the edge."""
    for mode, pad, corners in itertools.product(
        ("linear", "nearest", "cubic"), ("zeros", "border", "reflection"), (0, 1)
    ):
        if (mode, pad) == ("cubic", "reflection"):
            continue
        text = node("GridSample", "x, z", mode=mode, padding_mode=pad, align_corners=corners)
        sizes = {"x": (2, 2, 4, 5), "z": (2, 3, 3, 2), "low": -1.3, "high": 1.3, "opset": 20}
        yield Case(f"y = {text}", **sizes, torch=torch_grid_sample(mode, pad, corners), rounded=True)


def torch_grid_sample(mode, pad, corners):
    named = {"linear": "bilinear", "cubic": "bicubic"}.get(mode, mode)
    return lambda t, v: t.nn.functional.grid_sample(
        v["x"], v["z"], mode=named, padding_mode=pad, align_corners=bool(corners)
    )


def deformable(inputs, x, z, weights, group=1, offset_group=1, strides=(1, 1), pads=(0, 0, 0, 0),
               dilations=(1, 1)):  # fmt: skip
    """A filter that looks elsewhere; in PyTorch, one sampled picture for each of its places."""
    text = node("DeformConv", inputs, group=group, offset_group=offset_group, strides=strides, pads=pads,
                dilations=dilations)  # fmt: skip
    names = [name.strip() for name in inputs.split(",")]

    def torch_deformable(t, v):
        picture, w, offsets = (v[name] for name in names[:3])
        (n, channels, high, wide), (rows, columns), places = picture.shape, w.shape[2:], offsets.shape[2:]
        apart = offsets.view(n, offset_group, rows * columns, 2, *places)
        mask = v[names[4]].view(n, offset_group, rows * columns, *places) if len(names) > 4 else None
        grouped = picture.reshape(n * offset_group, -1, high, wide)
        seen = []
        for k in range(rows * columns):
            starts = [t.arange(places[a]) * strides[a] - pads[a] for a in range(2)]
            y = starts[0][:, None] + k // columns * dilations[0] + apart[:, :, k, 0]
            x_ = starts[1] + k % columns * dilations[1] + apart[:, :, k, 1]
            grid = t.stack([(2 * x_ + 1) / wide - 1, (2 * y + 1) / high - 1], -1).flatten(0, 1)
            sampled = t.nn.functional.grid_sample(grouped, grid, align_corners=False)
            sampled = sampled.view(n, offset_group, -1, *places)
            seen.append(sampled if mask is None else sampled * mask[:, :, None, k])
        seen = t.stack(seen, 3).reshape(n, group, channels // group * rows * columns, -1)
        return (w.reshape(group, w.shape[0] // group, -1) @ seen).reshape(n, -1, *places)

    return Case(f"y = {text}", x=x, z=z, opset=22, weights=weights, torch=torch_deformable, rounded=True)


REGIONS = np.float32([
    [0, 0, 5, 6], [1.3, 0.2, 3.9, 2.1], [-4, -3, 2, 9], [2, 1, 2.2, 1.1], [4, 3, 20, 14], [3, 4, 1, 2],
    [-9, -9, -6, -7],
])  # fmt: skip
"""Corners x, y, x, y: some regions lie partly or wholly outside, one is smaller than a pixel, one turned."""


def regions():
    """Every way to cut regions out of maps, of which some have none."""
    for ratio, coordinates, scale in itertools.product(
        (0, 1, 2), ("half_pixel", "output_half_pixel"), (1.0, 0.7)
    ):
        how = {"coordinate_transformation_mode": coordinates, "output_height": 2, "output_width": 3}
        text = node("RoiAlign", "x, r, i", sampling_ratio=ratio, spatial_scale=scale, **how)
        images = ints(0, 2, 0, 2, 0, 2, 0)
        torch = torch_regions(images, ratio, scale, half=coordinates == "half_pixel")
        yield Case(f"y = {text}", x=(3, 2, 6, 5), opset=16, weights={"r": REGIONS, "i": images}, torch=torch)
    before = node("RoiAlign", "x, r, i", output_height=2, output_width=3)
    yield Case(
        f"y = {before}", x=(1, 2, 6, 5), opset=10, weights={"r": REGIONS, "i": ints(0, 0, 0, 0, 0, 0, 0)},
        torch=torch_regions([0] * 7, 0, 1.0, half=False), rounded=True,  # the standard's evaluator is wrong
    )  # fmt: skip


def torch_regions(images, ratio, scale, *, half):
    """Each bin of each region by itself: the mean of samples between four pixels."""

    def sampled(t, picture, y, x):
        (_, high, wide), ends = picture.shape, []
        if not (-1 <= y <= high and -1 <= x <= wide):
            return t.zeros_like(picture[:, 0, 0])
        for along, size in ((y, high), (x, wide)):
            place = min(max(along, 0), size - 1)
            ends.append((int(place), min(int(place) + 1, size - 1), place - int(place)))
        (top, below, down), (left, right, across) = ends
        upper = picture[:, top, left] * (1 - across) + picture[:, top, right] * across
        lower = picture[:, below, left] * (1 - across) + picture[:, below, right] * across
        return upper * (1 - down) + lower * down

    def cut(t, v):
        found = []
        for corners, image in zip(REGIONS.astype(np.float64), images, strict=True):
            x0, y0, x1, y1 = corners * scale - half / 2
            lengths = [length if half else max(length, 1) for length in (y1 - y0, x1 - x0)]
            sizes = [length / bins for length, bins in zip(lengths, (2, 3), strict=True)]
            many = [ratio or int(np.ceil(size)) for size in sizes]
            for row, column in np.ndindex(2, 3):
                each = [
                    sampled(
                        t, v["x"][image],
                        y0 + (row + (i + 0.5) / many[0]) * sizes[0],
                        x0 + (column + (j + 0.5) / many[1]) * sizes[1],
                    )
                    for i in range(many[0]) for j in range(many[1])
                ]  # fmt: skip
                none = t.zeros_like(v["x"][0, :, 0, 0])
                found.append(t.stack(each).mean(0) if each else none)
        return t.stack(found, 1).reshape(-1, len(images), 2, 3).transpose(0, 1)

    return cut


CASES = [
    # Filters and products.
    Case("y = Conv<strides = [2, 1], pads = [1, 0, 0, 2]>(x, w, b)", weights={"w": (3, 4, 3, 2), "b": (3,)}),
    Case("y = ConvTranspose<strides = [2, 2]>(x, w, b)", weights={"w": (4, 3, 3, 2), "b": (3,)}),
    Case(  # one row more than there would be
        "y = ConvTranspose<strides = [2, 2], output_shape = [10, 11]>(x, w)",
        x=(2, 4, 4, 5),
        weights={"w": (4, 3, 3, 3)},
    ),
    Case("y = Gemm(x, z)", x=(2, 3), z=(3, 4)),
    Case("y = Gemm<alpha = 0.5, transA = 1>(x, z)", x=(3, 2), z=(3, 4)),
    Case("y = Gemm<alpha = 2.0, transB = 1>(x, z)", x=(2, 3), z=(4, 3)),
    Case("y = Gemm<transA = 1, transB = 1>(x, z)", x=(3, 2), z=(4, 3)),
    Case("y = Gemm<beta = 0.25>(x, w, z)", x=(2, 3), z=(4,), weights={"w": (3, 4)}),
    Case("y = Gemm<transB = 1>(x, x, z)", x=(3, 4), z=(1, 3)),
    Case("y = MatMul(x, z)", x=(2, 3), z=(3, 4)),
    Case("y = MatMul(x, z)", x=(2, 3, 4), z=(2, 4, 5)),
    Case("y = MatMul(x, z)", x=(2, 1, 3, 4), z=(3, 4, 2)),
    Case("y = MatMul(x, z)", x=(4,), z=(2, 4, 3)),
    Case("y = MatMul(x, z)", x=(2, 3, 4), z=(4,)),
    Case("y = MatMul(x, z)", x=(4,), z=(4,)),
    Case("y = MatMul(x, x)", x=(3, 3)),
    Case('y = Einsum<equation = "bij, bjk -> bik">(x, z)', x=(2, 3, 4), z=(2, 4, 5)),
    Case('y = Einsum<equation = "ij,kj">(x, z)', x=(3, 4), z=(2, 4)),
    Case('y = Einsum<equation = "...ij,jk->...ik">(x, w)', x=(2, 2, 3, 4), weights={"w": (4, 2)}),
    Case('y = Einsum<equation = "ijk,ik->k">(x, z)', x=(2, 3, 4), z=(2, 4)),
    Case('y = Einsum<equation = "i,ij,j->">(x, w, z)', x=(3,), z=(4,), weights={"w": (3, 4)}),
    # Pools.
    Case(
        "y = MaxPool<kernel_shape = [3, 3], strides = [2, 2]>(x)",
        torch=lambda t, v: t.max_pool2d(v["x"], 3, 2),
    ),
    Case("y = AveragePool<kernel_shape = [3, 2], strides = [2, 1], pads = [1, 0, 1, 1]>(x)"),
    Case("y = GlobalAveragePool(x)"),
    Case("y = GlobalMaxPool(x)", torch=lambda t, v: t.amax(v["x"], (2, 3), keepdim=True)),
    Case("y = LpPool<kernel_shape = [2, 3], strides = [1, 2], pads = [0, 1, 1, 1]>(x)", opset=18),
    Case("y = LpPool<kernel_shape = [2, 2], p = 1>(x)", opset=11),
    Case("y = LpPool<kernel_shape = [3], p = 3>(x)", x=(2, 3, 7), opset=18),
    Case(
        "y = GlobalLpPool(x)",
        same_as="q = Mul(x, x) a = ReduceSum(q, axes) y = Sqrt(a)",
        weights={"axes": ints(2, 3)},
    ),
    Case(
        "y = GlobalLpPool<p = 3>(x)",
        same_as="a = Abs(x) q = Pow(a, three) s = ReduceSum(q, axes) y = Pow(s, third)",
        weights={"axes": ints(2, 3), "three": scalar(3), "third": scalar(1 / 3)},
    ),
    Case(
        "p, i = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(x) y = MaxUnpool<kernel_shape = [2, 2],"
        " strides = [2, 2]>(p, i)",
        x=(1, 2, 4, 6),
        torch=lambda t, v: t.nn.functional.max_unpool2d(
            *t.nn.functional.max_pool2d(v["x"], 2, 2, return_indices=True), 2, 2
        ),
    ),
    # No autograd here: PyTorch counts a value twice that two windows put at one place.
    Case(
        "p, i = MaxPool<kernel_shape = [3, 3], strides = [2, 2]>(x) s = Shape(x)"
        " y = MaxUnpool<kernel_shape = [3, 3], strides = [2, 2]>(p, i, s)",
        x=(1, 2, 5, 7),
    ),
    # Sums and products of several values.
    Case("y = Add(x, z)", z=(4, 1, 1)),
    Case("y = Add(z, x)", x=(3, 4), z=(2, 1, 1)),
    Case("y = Sub(x, z)", z=(1, 1, 5, 6)),
    Case("y = Sub(z, x)", x=(3, 1), z=(2, 3, 4)),
    Case("y = Sum(x, z, x)", z=(6,)),
    Case("y = Mean(x, z, x)", z=(2, 1, 1, 1)),
    Case("y = Mul(x, z)", z=(2, 4, 1, 1), torch=lambda _, v: v["x"] * v["z"]),
    Case("y = Mul(x, x)", torch=lambda _, v: v["x"] ** 2),
    Case("y = Mul(z, x)", x=(1,), z=(2, 3)),
    Case("t = Neg(w) u = Add(t, w2) y = Mul(x, u)", weights={"w": (4, 1, 1), "w2": (4, 1, 1)}),
    Case("y = Div(x, z)", z=(4, 1, 1), low=0.5, torch=lambda _, v: v["x"] / v["z"]),
    Case("y = Div(z, x)", x=(3, 1), z=(2, 3, 4), low=0.5),
    Case("y = Div(w, x)", low=0.5, weights={"w": (5, 6)}),
    Case("y = Pow(x, e)", weights={"e": scalar(2)}, torch=lambda _, v: v["x"] ** 2),
    Case("y = Pow(x, e)", weights={"e": scalar(1)}),
    Case("y = Pow(x, e)", low=0.5, weights={"e": np.float32([[0.5], [-1.5], [3], [1]])}, x=(2, 4, 3)),
    Case("y = Pow(x, e)", weights={"e": ints(3)}),
    Case("y = Concat<axis = 1>(x, z, x)", z=(2, 1, 5, 6)),
    Case("y = Max(x, z)", z=(4, 1, 1), torch=lambda t, v: t.maximum(v["x"], v["z"])),
    Case("y = Min(x, z, w)", z=(5, 6), weights={"w": (1,)}),
    Case("y = Max(x)"),
    Case("y = Min(z, x, x)", x=(3, 1), z=(2, 3, 4)),
    Case("c = Greater(x, z) t = Mul(x, z) y = Where(c, t, z)", z=(4, 1, 1)),
    Case("c = Less(x, w) y = Where(c, x, x)", weights={"w": scalar(0.3)}),
    Case("c = Less(w, v) y = Where(c, x, z)", x=(4, 1), z=(2, 1, 3), weights={"w": (4, 3), "v": scalar(0)}),
    Case("a, b = Split<axis = 1>(x) y = Mul(a, b)", opset=13),
    Case("a, b, y = Split<axis = 2, split = [1, 1, 3]>(x)", opset=11),
    # Normalisations.
    Case("y = BatchNormalization<epsilon = 0.1>(x, s, b, m, v)", weights=STATISTICS),
    Case(
        "y = BatchNormalization<spatial = 0>(x, s, b, m, v)",
        x=(2, 2, 3),
        opset=7,
        same_as="c = Sub(x, m) e = Add(v, eps) r = Sqrt(e) n = Div(c, r) k = Mul(n, s) y = Add(k, b)",
        weights=dict.fromkeys("sbm", (2, 3)) | {"v": np.full((2, 3), 0.5, "f"), "eps": scalar(1e-5)},
    ),
    Case(
        "y = InstanceNormalization<epsilon = 0.01>(x, s, b)",
        weights=STATISTICS,
        torch=lambda t, v: t.nn.functional.instance_norm(v["x"], weight=v["s"], bias=v["b"], eps=0.01),
    ),
    Case("y = InstanceNormalization(x, s, b)", x=(2, 4, 7), weights=STATISTICS),
    Case(
        "y = LayerNormalization(x, s, b)",
        x=(2, 3, 4),
        weights=STATISTICS,
        torch=lambda t, v: t.nn.functional.layer_norm(v["x"], (4,), v["s"], v["b"]),
    ),
    Case(
        "y = LayerNormalization<axis = 1, epsilon = 0.001>(x, s)",
        x=(2, 3, 4),
        weights={"s": (3, 4)},
        torch=lambda t, v: t.nn.functional.layer_norm(v["x"], (3, 4), v["s"], eps=0.001),
    ),
    Case(
        "n, u = LayerNormalization(x, s, b) y = Add(n, u)",
        x=(2, 3, 4),
        weights=STATISTICS,
        torch=lambda t, v: (
            t.nn.functional.layer_norm(v["x"], (4,), v["s"], v["b"]) + v["x"].mean(-1, keepdim=True)
        ),
    ),
    Case(
        "n, m, i = LayerNormalization<axis = 1>(x, s) d = Mul(n, i) y = Add(d, m)",
        x=(2, 3, 4),
        weights={"s": (3, 4)},
        torch=lambda t, v: (
            t.nn.functional.layer_norm(v["x"], (3, 4), v["s"])
            * (v["x"].var((1, 2), keepdim=True, correction=0) + 1e-5).rsqrt()
            + v["x"].mean((1, 2), keepdim=True)
        ),
    ),
    Case(
        "n, m, i = LayerNormalization(x, s) y = Mul(m, i)",
        x=(2, 3, 4),
        weights={"s": (4,)},
        torch=lambda t, v: (
            t.mean(v["x"], -1, keepdim=True) * (v["x"].var(-1, keepdim=True, correction=0) + 1e-5).rsqrt()
        ),
    ),
    Case(
        "y = GroupNormalization<num_groups = 2>(x, s, b)",
        x=(2, 4, 3, 2),
        opset=21,
        same_as=f"g = Reshape(x, groups) {STANDARDISED} f = Reshape(n, whole) k = Reshape(s, column)"
        " y = Mul(f, k)",
        weights=STATISTICS
        | {"groups": ints(2, 2, -1), "whole": ints(2, 4, 3, 2), "column": ints(4, 1, 1)}
        | {"axes": ints(2), "eps": scalar(1e-5)},
        torch=lambda t, v: t.nn.functional.group_norm(v["x"], 2, v["s"], v["b"]),
    ),
    Case(
        "y = GroupNormalization<num_groups = 2, epsilon = 0.01>(x, s, b)",
        x=(2, 6, 3),
        opset=18,
        weights={"s": (2,), "b": (2,)},
        torch=lambda t, v: t.nn.functional.group_norm(
            v["x"], 2, v["s"].repeat_interleave(3), v["b"].repeat_interleave(3), 0.01
        ),
    ),
    Case(
        "y = MeanVarianceNormalization(x)",
        x=(2, 3, 4, 2),
        same_as=f"g = Identity(x) {STANDARDISED} y = Identity(n)",
        weights={"axes": ints(0, 2, 3), "eps": scalar(0)},
    ),
    Case(
        "y = MeanVarianceNormalization<axes = [1, -1]>(x)",
        x=(2, 3, 4),
        same_as=f"g = Identity(x) {STANDARDISED} y = Identity(n)",
        weights={"axes": ints(1, 2), "eps": scalar(0)},
    ),
    Case(
        "y = RMSNormalization(x, s)",
        x=(2, 3, 4),
        opset=23,
        weights=STATISTICS,
        torch=lambda t, v: t.nn.functional.rms_norm(v["x"], (4,), v["s"], 1e-5),
    ),
    Case(
        "y = RMSNormalization<axis = 1, epsilon = 0.01>(x, s)", x=(2, 3, 4), opset=23, weights={"s": (3, 4)}
    ),
    Case("y = LpNormalization(x)", torch=lambda t, v: t.nn.functional.normalize(v["x"], dim=-1)),
    Case(
        "y = LpNormalization<axis = 1, p = 1>(x)",
        same_as="n = ReduceL1(x, axis) y = Div(x, n)",
        weights={"axis": ints(1)},
        torch=lambda t, v: t.nn.functional.normalize(v["x"], 1, 1),
    ),
    response_normalisation(4, size=3),
    response_normalisation(7, size=5, alpha=0.3, beta=0.6, bias=2.0),
    response_normalisation(2, size=3, alpha=0.5),
    Case("t = Softmax(x) y = Neg(t)", x=(2, 3, 4), torch=lambda t, v: -t.softmax(v["x"], -1)),
    Case("t = Softmax<axis = 1>(x) y = Neg(t)", opset=13, torch=lambda t, v: -t.softmax(v["x"], 1)),
    Case(
        "t = Softmax(x) y = Neg(t)",
        x=(2, 3, 4),
        opset=12,
        same_as="f = Flatten(x) p = Softmax(f) t = Reshape(p, whole) y = Neg(t)",
        weights={"whole": ints(2, 3, 4)},
        torch=lambda t, v: -t.softmax(v["x"].view(2, 12), 1).view(2, 3, 4),
    ),
    Case("t = Softmax<axis = -1>(x) y = Neg(t)", opset=11, torch=lambda t, v: -t.softmax(v["x"], -1)),
    Case("t = LogSoftmax<axis = 1>(x) y = Neg(t)", torch=lambda t, v: -t.log_softmax(v["x"], 1)),
    Case(
        "t = LogSoftmax<axis = 0>(x) y = Neg(t)",
        x=(2, 3),
        opset=11,
        same_as="f = Flatten<axis = 0>(x) p = LogSoftmax(f) t = Reshape(p, whole) y = Neg(t)",
        weights={"whole": ints(2, 3)},
        torch=lambda t, v: -t.log_softmax(v["x"].view(6), 0).view(2, 3),
    ),
    # Operators that move values.
    Case("y = Reshape(x, s)", weights={"s": ints(0, -1, 3)}),
    Case("y = Flatten<axis = 2>(x)"),
    Case("y = Squeeze<axes = [1, 3]>(x)", x=(2, 1, 3, 1), opset=11),
    Case("y = Unsqueeze(x, a)", x=(3, 4), weights={"a": ints(-1, 0)}),
    Case("y = Transpose<perm = [0, 3, 1, 2]>(x)"),
    Case("y = Expand(x, s)", x=(3, 1), weights={"s": ints(2, 1, 4)}),
    Case(
        "y = Slice(x, b, e, a, s)",
        weights={"b": ints(-1, 0), "e": ints(-99, 4), "a": ints(2, -1), "s": ints(-2, 3)},
    ),
    Case('y = Pad<mode = "reflect">(x, p)', weights={"p": ints(0, 1, 0, 2, 0, 0, 3, 1)}),
    Case("y = DepthToSpace<blocksize = 2>(x)", x=(1, 8, 2, 3)),
    Case("y = SpaceToDepth<blocksize = 2>(x)", x=(1, 2, 4, 6)),
    Case("y = Identity(x)"),
    Case("y, mask = Dropout(x)", opset=13),
    Case(
        "k = Cast<to = 11>(w) a = CastLike(x, k) b = Tanh(a) y = CastLike(b, x)",
        same_as="y = Tanh(x)",
        weights={"w": (1,)},
    ),
    Case("a = Cast<to = 11>(x) b = Tanh(a) y = Cast<to = 1>(b)", same_as="y = Tanh(x)"),
    Case("y = ReduceMean<axes = [2, -1]>(x)", opset=13),
    Case("y = ReduceMean<keepdims = 0, axes = [1]>(x)", opset=11),
    Case("y = ReduceMean(x, a)", opset=18, weights={"a": ints(-2)}),
    Case("y = ReduceMean(x)", opset=13),
    Case("y = ReduceSum<keepdims = 0>(x, a)", opset=13, weights={"a": ints(0, 3)}),
    Case("y = ReduceSum<axes = [1]>(x)", opset=11),
    Case("y = ReduceL1<axes = [1]>(x)", opset=13),
    Case("y = ReduceL2<axes = [1, 2], keepdims = 0>(x)", opset=13),
    Case("y = ReduceSumSquare(x, a)", opset=18, weights={"a": ints(3)}),
    Case("y = ReduceLogSum<axes = [2]>(x)", opset=13, low=0.5),
    Case(
        "y = ReduceLogSumExp<axes = [1, 3], keepdims = 0>(x)",
        opset=13,
        torch=lambda t, v: t.logsumexp(v["x"], (1, 3)),
    ),
    Case("y = ReduceProd<axes = [3]>(x)", opset=13, torch=lambda t, v: t.prod(v["x"], 3, keepdim=True)),
    Case(
        "y = ReduceMax<axes = [1, 3]>(x)", opset=13, torch=lambda t, v: t.amax(v["x"], (1, 3), keepdim=True)
    ),
    Case("y = ReduceMax<keepdims = 0>(x)", opset=13),
    Case("y = ReduceMax<noop_with_empty_axes = 1>(x)", opset=18),
    Case(
        "y = ReduceMin<keepdims = 0>(x, a)",
        opset=18,
        weights={"a": ints(0, 2)},
        torch=lambda t, v: t.amin(v["x"], (0, 2)),
    ),
    # Operators that pick and place by index.
    Case("y = Gather<axis = 1>(x, i)", weights={"i": ints(1).reshape(())}),
    Case("y = Gather<axis = -1>(x, i)", weights={"i": ints(-2)}),
    Case("y = Gather<axis = 1>(x, i)", weights={"i": ints(3, 1, 1, -1)}),
    Case("y = Gather<axis = 2>(x, i)", weights={"i": ints(0, 2, 2, 4, 1, 3).reshape(2, 3).astype(np.int32)}),
    Case("y = Gather(x, i)", weights={"i": ints(1, 0)}),
    Case("y = GatherElements<axis = 1>(x, i)", x=(2, 3), weights={"i": ints(0, 2, 2, 1).reshape(2, 2)}),
    Case("y, i = TopK<axis = 1>(x, k)", x=(2, 5, 3), weights={"k": ints(3)}),
    Case(
        "y, i = TopK<largest = 0>(x, k)",
        x=(2, 5),
        weights={"k": ints(2)},
        torch=lambda t, v: t.topk(v["x"], 2, largest=False).values,
    ),
    Case("y = GatherND(x, i)", x=(2, 3, 4), weights={"i": ints(0, 1, 1, 2, 0, 1).reshape(3, 2)}),
    Case("y = GatherND<batch_dims = 1>(x, i)", x=(2, 3, 4), weights={"i": ints(1, 0).reshape(2, 1)}),
    Case(
        "y = GatherND<batch_dims = 2>(x, i)",
        x=(2, 2, 3, 2),
        weights={"i": ints(0, 1, 2, 2, 1, 1, 0, 2).reshape(2, 2, 2, 1)},
        torch=lambda t, v: t.stack(
            [t.stack([v["x"][a, b][v["i"].long()[a, b, :, 0]] for b in range(2)]) for a in range(2)]
        ),
    ),
    Case(
        "y = ScatterElements<axis = 1>(x, i, z)",
        x=(2, 4),
        z=(2, 2),
        weights={"i": ints(3, 1, 0, 2).reshape(2, 2)},
    ),
    Case(
        'y = ScatterElements<reduction = "add">(x, i, z)',
        x=(3, 2),
        z=(2, 2),
        opset=18,
        weights={"i": ints(0, 1, 0, 2).reshape(2, 2)},
    ),
    Case(
        "y = Scatter<axis = 1>(x, i, z)",
        x=(2, 4),
        z=(2, 1),
        opset=9,
        same_as="y = ScatterElements<axis = 1>(x, i, z)",
        weights={"i": ints(3, 1).reshape(2, 1)},
    ),
    Case("y = ScatterND(x, i, z)", x=(4, 3), z=(2, 3), weights={"i": ints(2, 0).reshape(2, 1)}),
    Case(
        'y = ScatterND<reduction = "add">(x, i, z)',
        x=(4, 3),
        z=(3, 3),
        opset=18,
        weights={"i": ints(2, 0, 2).reshape(3, 1)},
    ),
    Case("y = Tile(x, r)", x=(2, 3), weights={"r": ints(3, 2)}),
    Case("y = Tile(x, r)", x=(2, 1, 4), weights={"r": ints(1, 3, 1)}),
    # Resampling.
    *resizes(),
    Case(
        "y = Upsample(x, s)",
        x=(1, 2, 3, 4),
        opset=9,
        weights={"s": np.float32([1, 1, 2, 3])},
        torch=lambda t, v: t.nn.functional.interpolate(v["x"], scale_factor=(2, 3)),
    ),
    Case(
        'y = Upsample<mode = "nearest", scales = [1.0, 1.0, 2.0, 2.0]>(x)',
        x=(1, 2, 3, 4),
        opset=7,
        same_as='y = Resize<coordinate_transformation_mode = "asymmetric", nearest_mode = "floor">(x, , s)',
        weights={"s": np.float32([1, 1, 2, 2])},
        torch=lambda t, v: t.nn.functional.interpolate(v["x"], scale_factor=2),
    ),
    # Sampling between pixels.
    *grid_samples(),
    *regions(),
    deformable("x, w, z", x=(1, 2, 5, 4), z=(1, 12, 4, 2), weights={"w": (3, 2, 2, 3)}),
    deformable(
        "x, w, z, , m",
        x=(2, 4, 5, 4),
        z=(2, 16, 3, 4),
        weights={"w": (2, 2, 2, 2), "m": (2, 8, 3, 4)},
        offset_group=2,
        group=2,
        strides=(2, 1),
        pads=(1, 0, 1, 2),
        dilations=(1, 2),
    ),
    deformable(
        "x, w, o, b, z",
        x=(1, 2, 5, 4),
        z=(1, 6, 4, 2),
        weights={"w": (3, 2, 2, 3), "o": (1, 12, 4, 2), "b": (3,)},
    ),
    # Quantised numbers: as if nothing were rounded.
    Case(
        "q = QuantizeLinear(x, s, z) y = DequantizeLinear(q, s, z)",
        same_as="y = Identity(x)",
        weights=QUANTISER,
    ),
    Case(
        "q = QuantizeLinear(x, s) k = DequantizeLinear(q, t) y = Neg(k)",
        same_as="k = Mul(x, two) y = Neg(k)",
        weights={"s": scalar(0.05), "t": scalar(0.1), "two": scalar(2)},
    ),
    Case(
        "q = QuantizeLinear<axis = 1>(x, s, z) y = DequantizeLinear<axis = -3>(q, t, z)",
        same_as="y = Mul(x, r)",
        weights={
            "s": np.full(4, 0.05, "f"),
            "t": np.float32([0.05, 0.1, 0.15, 0.2]),
            "z": np.full(4, 99, "u1"),
            "r": np.float32([1, 2, 3, 4]).reshape(4, 1, 1),
        },
    ),
    Case("q, s, z = DynamicQuantizeLinear(x) y = DequantizeLinear(q, s, z)", same_as="y = Identity(x)"),
    # Functions of one value.
    Case("t = Hardmax(x) y = Add(x, t)", x=(2, 5)),
    Case("y = Neg(x)"),
    Case("t = Floor(x) y = Sub(x, t)"),
    Case("t = Ceil(x) y = Add(x, t)"),
    Case("t = Round(x) y = Sub(t, x)"),
    Case("t = Sign(x) y = Add(t, x)"),
    Case("t = Sigmoid(x) y = Neg(t)", torch=lambda t, v: -t.sigmoid(v["x"])),
    Case("y = Tanh(x)", torch=lambda t, v: t.tanh(v["x"])),
    Case("y = HardSigmoid(x)", low=-4, high=4),
    Case("y = HardSigmoid<alpha = 0.3, beta = 0.4>(x)"),
    Case(
        "y = HardSigmoid<alpha = 0.16666667>(x)",
        low=-5,
        high=5,
        torch=lambda t, v: t.nn.functional.hardsigmoid(v["x"]),
    ),
    Case("y = Softsign(x)", torch=lambda t, v: t.nn.functional.softsign(v["x"])),
    Case("y = Exp(x)", torch=lambda t, v: t.exp(v["x"])),
    Case("y = Log(x)", low=0.5, torch=lambda t, v: t.log(v["x"])),
    Case("y = Sqrt(x)", low=0.5, torch=lambda t, v: t.sqrt(v["x"])),
    Case("y = Reciprocal(x)", low=0.5, torch=lambda _, v: 1 / v["x"]),
    Case("y = Abs(x)", torch=lambda t, v: t.abs(v["x"])),
    Case("y = Erf(x)", torch=lambda t, v: t.erf(v["x"])),
    Case("y = Sin(x)", torch=lambda t, v: t.sin(v["x"])),
    Case("y = Cos(x)", torch=lambda t, v: t.cos(v["x"])),
    # Rectifiers.
    Case("y = Relu(x)", torch=lambda t, v: t.relu(v["x"])),
    Case("y = LeakyRelu(x)", torch=lambda t, v: t.nn.functional.leaky_relu(v["x"])),
    Case("y = LeakyRelu<alpha = 0.3>(x)", torch=lambda t, v: t.nn.functional.leaky_relu(v["x"], 0.3)),
    Case("y = PRelu(x, w)", weights={"w": (4, 1, 1)}, torch=lambda t, v: t.prelu(v["x"], v["w"].view(4))),
    Case("y = PRelu(x, w)", weights={"w": (1,)}),
    Case("y = PRelu(x, w)", weights={"w": (4, 5, 6)}),
    Case("y = ThresholdedRelu(x)", torch=lambda t, v: t.nn.functional.threshold(v["x"], 1, 0)),
    Case("y = ThresholdedRelu<alpha = 0.5>(x)"),
    Case("y = Clip<min = 0.0, max = 1.5>(x)", opset=10, torch=lambda t, v: t.clip(v["x"], 0, 1.5)),
    Case("y = Clip<max = 1.5>(x)", opset=7),
    Case("y = Clip(x)", opset=7),
    Case("y = Clip(x, low, high)", weights={"low": scalar(-1), "high": scalar(1.5)}),
    Case("y = Clip(x, low)", weights={"low": scalar(0.5)}),
    Case("y = Clip(x, , high)", weights={"high": scalar(0.5)}),
    Case("y = Elu(x)", torch=lambda t, v: t.nn.functional.elu(v["x"])),
    Case("y = Elu<alpha = 0.7>(x)", torch=lambda t, v: t.nn.functional.elu(v["x"], 0.7)),
    Case("y = Selu(x)", torch=lambda t, v: t.selu(v["x"])),
    Case("y = Selu<alpha = 2.0, gamma = 0.5>(x)"),
    Case("y = Celu(x)", torch=lambda t, v: t.celu(v["x"])),
    Case("y = Celu<alpha = 0.7>(x)", torch=lambda t, v: t.celu(v["x"], 0.7)),
    Case("y = Softplus(x)", torch=lambda t, v: t.nn.functional.softplus(v["x"])),
    Case("y = HardSwish(x)", low=-5, high=5, torch=lambda t, v: t.nn.functional.hardswish(v["x"])),
    Case("y = Mish(x)", opset=18, torch=lambda t, v: t.nn.functional.mish(v["x"])),
    Case(
        "y = Gelu(x)",
        opset=20,
        same_as="r = Mul(x, w) e = Erf(r) f = Mul(x, e) g = Add(f, x) y = Mul(g, h)",
        weights={"w": scalar(0.5**0.5), "h": scalar(0.5)},
        torch=lambda t, v: t.nn.functional.gelu(v["x"]),
    ),
    Case(
        'y = Gelu<approximate = "tanh">(x)',
        opset=20,
        torch=lambda t, v: t.nn.functional.gelu(v["x"], approximate="tanh"),
    ),
    Case("y = Swish(x)", opset=24, torch=lambda t, v: t.nn.functional.silu(v["x"])),
    Case(
        "y = Swish<alpha = 1.7>(x)",
        opset=24,
        same_as="t = Mul(a, x) s = Sigmoid(t) y = Mul(x, s)",
        weights={"a": scalar(1.7)},
    ),
]
