"""Linear operators in every geometry: what flows back is the exact transpose of what flowed forward.

Three kinds of evidence, none of which looks at the companion graph: the adjoint identity for linear
operators, a NumPy scatter from NumPy's own argmax for MaxPool, and the count of refused cases, which
keeps the other two from passing on nothing.
"""

import math
from collections import Counter
from dataclasses import dataclass
from itertools import product

import numpy as np
import pytest
from hypothesis import assume, given, reject
from hypothesis import strategies as st
from operator_cases import ints
from oracle import Case, RefusedError, assert_close, assert_transposed, node, numbers, plain, reconstruction

small = st.integers(1, 3)
yes_or_no = st.booleans()


# --- sliding windows ------------------------------------------------------------------------------


@st.composite
def windows(draw, axes, *, dilated=True, padded_by=lambda kernel: kernel + 1):
    """Sizes, kernels, strides, dilations and pads of a sliding window that fits at least once."""
    found = {"size": [], "kernel": [], "strides": [], "dilations": [], "begin": [], "end": []}
    for _ in range(axes):
        kernel, stride = draw(st.integers(1, 4)), draw(st.integers(1, 4))
        dilation = draw(st.integers(1, 3)) if dilated and kernel > 1 else 1
        begin, end = (draw(st.integers(0, padded_by(kernel))) for _ in range(2))
        extent = (kernel - 1) * dilation + 1
        count, over = draw(small), draw(st.integers(0, stride - 1))
        size = max(1, (count - 1) * stride + extent - begin - end + over)
        for name, value in zip(found, (size, kernel, stride, dilation, begin, end), strict=True):
            found[name].append(value)
    return found


def padding(draw, window):
    """Attributes that pad a window: by numbers or by name.

    By name, onnxruntime pads no dilated convolution, pads a dilated pool as if it were not dilated,
    and shifts windows whose stride is two more than the kernel: none of that is in the standard.
    """
    auto = draw(st.sampled_from([None, None, "NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"]))
    if auto in (None, "NOTSET"):
        return {"auto_pad": auto, "pads": window["begin"] + window["end"]}
    if auto == "VALID":
        extents = [(k - 1) * d + 1 for k, d in zip(window["kernel"], window["dilations"], strict=True)]
        window["size"] = [max(s, e) for s, e in zip(window["size"], extents, strict=True)]
    else:
        window["dilations"] = [1] * len(window["kernel"])
        window["strides"] = [min(s, k + 1) for s, k in zip(window["strides"], window["kernel"], strict=True)]
    return {"auto_pad": auto}


@st.composite
def convolutions(draw, axes):
    window = draw(windows(axes))
    attributes = padding(draw, window)
    group, per_group, filters = draw(small), draw(st.integers(1, 2)), draw(st.integers(1, 2))
    if draw(yes_or_no):
        attributes["kernel_shape"] = window["kernel"]
    bias = draw(yes_or_no)
    call = node(
        "Conv",
        "x, w, b" if bias else "x, w",
        strides=window["strides"],
        dilations=window["dilations"],
        group=group,
        **attributes,
    )
    weights = {"w": (group * filters, per_group, *window["kernel"])}
    weights |= {"b": (group * filters,)} if bias else {}
    x = (draw(st.integers(1, 2)), group * per_group, *window["size"])
    return Case(f"y = {call}", x, weights=weights, opset=draw(st.sampled_from([7, 11, 17])))


@st.composite
def transposed_convolutions(draw, axes):
    kernel, strides, dilations, counts, begin, end, extra = (
        draw(st.lists(st.integers(*span), min_size=axes, max_size=axes))
        for span in ((1, 4), (1, 4), (1, 2), (1, 4), (0, 2), (0, 2), (0, 3))
    )
    if draw(yes_or_no):
        dilations = [1] * axes
    adjust = [
        e % max(s, d) if draw(yes_or_no) else 0 for e, s, d in zip(extra, strides, dilations, strict=True)
    ]
    whole = [
        (n - 1) * s + (k - 1) * d + 1 + a
        for n, s, k, d, a in zip(counts, strides, kernel, dilations, adjust, strict=True)
    ]
    attributes = {"output_padding": adjust} if any(adjust) or draw(yes_or_no) else {}
    form = draw(st.sampled_from(["pads", "pads", "output_shape", "SAME_UPPER", "SAME_LOWER", "VALID"]))
    if form == "pads":
        begin = [min(b, (w - 1) // 2) for b, w in zip(begin, whole, strict=True)]
        end = [min(e, (w - 1) // 2) for e, w in zip(end, whole, strict=True)]
        attributes["pads"] = begin + end
    elif form == "output_shape":
        # Also larger than what the windows reach.
        attributes["output_shape"] = [max(n, w - e + 1) for n, w, e in zip(counts, whole, extra, strict=True)]
        attributes["auto_pad"] = draw(st.sampled_from([None, "SAME_UPPER", "SAME_LOWER"]))
    else:
        attributes = {"auto_pad": form}
    group, per_group, filters = draw(small), draw(st.integers(1, 2)), draw(st.integers(1, 2))
    call = node("ConvTranspose", "x, w, b", strides=strides, dilations=dilations, group=group, **attributes)
    weights = {"w": (group * per_group, filters, *kernel), "b": (group * filters,)}
    return Case(f"y = {call}", (draw(st.integers(1, 2)), group * per_group, *counts), weights=weights)


@st.composite
def average_pools(draw, axes):
    opset = draw(st.sampled_from([7, 10, 11, 17, 19, 20]))
    window = draw(windows(axes, dilated=opset >= 19, padded_by=lambda kernel: kernel - 1))
    attributes = padding(draw, window)
    if opset >= 10:
        attributes["ceil_mode"] = draw(st.sampled_from([None, 0, 1]))
    if opset >= 19:
        attributes["dilations"] = window["dilations"]
    call = node(
        "AveragePool",
        "x",
        kernel_shape=window["kernel"],
        strides=window["strides"],
        count_include_pad=draw(st.sampled_from([None, 0, 1])),
        **attributes,
    )
    return Case(f"y = {call}", (draw(st.integers(1, 2)), draw(small), *window["size"]), opset=opset)


# --- products -------------------------------------------------------------------------------------


@st.composite
def gemms(draw):
    m, k, n = draw(small), draw(small), draw(small)
    trans_a, trans_b = draw(yes_or_no), draw(yes_or_no)
    a, b = ((k, m) if trans_a else (m, k)), ((n, k) if trans_b else (k, n))
    attributes = {
        "transA": int(trans_a) if trans_a or draw(yes_or_no) else None,
        "transB": int(trans_b) if trans_b or draw(yes_or_no) else None,
        "alpha": draw(st.sampled_from([None, 1.0, 0.5, -2.0])),
        "beta": draw(st.sampled_from([None, 1.0, 0.5])),
    }
    addend = draw(st.sampled_from([(n,), (1, n), (m, 1), (m, n), (1,)]))
    place = draw(st.sampled_from(["x, b, c", "x, b", "a, x, c", "a, b, x"]))
    if place == "x, b":
        attributes["beta"] = None
    shapes = {"a": a, "b": b, "c": addend}
    x = [a, b, addend][place.split(", ").index("x")]
    weights = {name: shape for name, shape in shapes.items() if name in place.split(", ")}
    return Case(f"y = {node('Gemm', place, **attributes)}", x, weights=weights, opset=13)


@st.composite
def matrix_products(draw):
    m, k, n = draw(small), draw(small), draw(small)
    batch = draw(st.lists(small, max_size=2))
    left, right = (
        [size if draw(st.integers(0, 2)) else 1 for size in batch[draw(st.integers(0, len(batch))) :]]
        for _ in range(2)
    )
    a = draw(st.sampled_from([(k,), (m, k), (*left, m, k), (*left, m, k)]))
    b = draw(st.sampled_from([(k,), (k, n), (*right, k, n), (*right, k, n)]))
    if draw(yes_or_no):
        return Case("y = MatMul(x, w)", a, weights={"w": b})
    return Case("y = MatMul(w, x)", b, weights={"w": a})


# --- operators that move values -------------------------------------------------------------------

shapes = st.lists(small, min_size=1, max_size=4)


@st.composite
def reshapes(draw):
    x = draw(shapes)
    target = draw(st.permutations(x))
    if draw(yes_or_no):
        target[draw(st.integers(0, len(target) - 1))] = -1
    target = [0 if t == s and draw(yes_or_no) else t for t, s in zip(target, x, strict=True)]
    return Case("y = Reshape(x, t)", tuple(x), weights={"t": ints(*target)})


@st.composite
def flattens(draw):
    x, opset = draw(shapes), draw(st.sampled_from([7, 13]))
    axis = draw(st.integers(0 if opset < 11 else -len(x), len(x)))
    return Case(f"y = {node('Flatten', 'x', axis=axis)}", tuple(x), opset=opset)


@st.composite
def squeezes(draw):
    x = draw(shapes)
    axes = sorted(draw(st.sets(st.integers(0, len(x) - 1))))
    for axis in axes:
        x[axis] = 1
    if draw(yes_or_no):
        axes = [a - len(x) for a in axes]
    if not axes:
        return Case("y = Squeeze(x)", tuple(x), opset=draw(st.sampled_from([11, 13])))
    if draw(yes_or_no):
        return Case(f"y = {node('Squeeze', 'x', axes=axes)}", tuple(x), opset=11)
    return Case("y = Squeeze(x, a)", tuple(x), weights={"a": ints(*axes)}, opset=13)


@st.composite
def unsqueezes(draw):
    x, added = draw(shapes), draw(small)
    axes = sorted(draw(st.sets(st.integers(0, len(x) + added - 1), min_size=added, max_size=added)))
    if draw(yes_or_no):
        axes = [a - len(x) - added for a in axes]
    if draw(yes_or_no):
        return Case(f"y = {node('Unsqueeze', 'x', axes=axes)}", tuple(x), opset=11)
    return Case("y = Unsqueeze(x, a)", tuple(x), weights={"a": ints(*axes)}, opset=13)


@st.composite
def transposes(draw):
    x = draw(shapes)
    perm = draw(st.none() | st.permutations(range(len(x))))
    return Case(f"y = {node('Transpose', 'x', perm=perm)}", tuple(x))


@st.composite
def concatenations(draw):
    x = draw(shapes)
    axis = draw(st.integers(0, len(x) - 1))
    other = tuple(draw(small) if k == axis else size for k, size in enumerate(x))
    parts = draw(st.sampled_from(["x", "x, w", "w, x", "x, w, x", "x, x"]))
    axis -= len(x) if draw(yes_or_no) else 0
    return Case(f"y = Concat<axis = {axis}>({parts})", tuple(x), weights={"w": other} if "w" in parts else {})


@st.composite
def splits(draw):
    """Parts are put together again in another order, some left out, some twice."""
    x, parts = draw(shapes), draw(st.lists(small, min_size=2, max_size=3))
    axis = draw(st.integers(0, len(x) - 1))
    form = draw(st.sampled_from(["attribute", "input", "equal", "num_outputs"]))
    if form in ("equal", "num_outputs"):
        parts = [parts[0]] * len(parts)
    x[axis] = sum(parts)
    where = axis - (len(x) if draw(yes_or_no) else 0)
    weights, opset, operands = {}, 11, "x"
    attributes = {"axis": where}
    if form == "attribute":
        attributes["split"] = parts
    elif form == "input":
        operands, opset, weights = "x, s", 13, {"s": ints(*parts)}
    elif form == "num_outputs":
        opset, attributes["num_outputs"] = 18, len(parts)
    names = [f"p{k}" for k in range(len(parts))]
    kept = draw(st.lists(st.sampled_from(names), min_size=1, max_size=4))
    body = (
        f"{', '.join(names)} = {node('Split', operands, **attributes)} "
        f"y = Concat<axis = {where}>({', '.join(kept)})"
    )
    return Case(body, tuple(x), weights=weights, opset=opset)


@st.composite
def slices(draw):
    x = [size + 2 for size in draw(shapes)]
    axes = sorted(draw(st.sets(st.integers(0, len(x) - 1), min_size=1)))
    form = draw(st.sampled_from(["attributes", "inputs", "inputs", "inputs without axes"]))
    if form == "inputs without axes":
        axes = list(range(len(axes)))
    starts, ends, steps = [], [], []
    for axis in axes:
        size = x[axis]
        step = 1 if form == "attributes" else draw(st.sampled_from([1, 1, 2, 3, -1, -2]))
        first, last = sorted(draw(st.sets(st.integers(0, size - 1), min_size=2, max_size=2)))
        if step > 0:
            start = draw(st.sampled_from([first, first - size]))
            end = draw(st.sampled_from([last, last - size, size, size + 5, 2**31 - 1, 2**63 - 1]))
        else:
            start = draw(st.sampled_from([last, last - size, size + 5, 2**31 - 1, 2**63 - 1]))
            end = draw(st.sampled_from([first, first - size, -size - 1, -(2**31), -(2**63)]))
        starts.append(start)
        ends.append(end)
        steps.append(step)
    named = [a - len(x) if draw(yes_or_no) else a for a in axes]
    if form == "attributes":
        call = node("Slice", "x", starts=starts, ends=ends, axes=named if draw(yes_or_no) else axes)
        return Case(f"y = {call}", tuple(x), opset=9)
    weights = {"starts": ints(*starts), "ends": ints(*ends), "steps": ints(*steps)}
    if form == "inputs without axes":
        return Case('y = Slice(x, starts, ends, "", steps)'.replace('""', ""), tuple(x), weights=weights)
    return Case("y = Slice(x, starts, ends, axes, steps)", tuple(x), weights=weights | {"axes": ints(*named)})


@st.composite
def pads(draw):
    mode = draw(st.sampled_from([None, "constant", "reflect", "edge", "wrap"]))
    x = [size + 1 for size in draw(shapes)]
    form = draw(st.sampled_from(["attribute", "input", "axes"]))
    if mode == "wrap":
        form = "axes"
    axes = sorted(draw(st.sets(st.integers(0, len(x) - 1), min_size=1))) if form == "axes" else range(len(x))
    least = -1 if mode in (None, "constant") else 0
    begin, end = ([draw(st.integers(least, x[a] - 1)) for a in axes] for _ in range(2))
    for k, axis in enumerate(axes):
        if x[axis] + begin[k] + end[k] < 1:
            begin[k] = 0
    both = [*begin, *end]
    if form == "attribute":
        return Case(f"y = {node('Pad', 'x', mode=mode, pads=both)}", tuple(x), opset=7)
    if form == "input":
        return Case(f"y = {node('Pad', 'x, p', mode=mode)}", tuple(x), weights={"p": ints(*both)}, opset=13)
    named = ints(*[a - len(x) if draw(yes_or_no) else a for a in axes])
    call = node("Pad", "x, p, , a", mode=mode)
    return Case(f"y = {call}", tuple(x), weights={"p": ints(*both), "a": named}, opset=19)


@st.composite
def expansions(draw):
    x = draw(shapes)
    target = [s if s > 1 else draw(small) for s in x]
    target = [*draw(st.lists(small, max_size=2)), *target]
    cut = draw(st.integers(0, len(target) - 1))
    # A target may be shorter than the input, and a 1 keeps the input's size.
    target = [1 if draw(yes_or_no) else t for t in target[cut:]]
    return Case("y = Expand(x, t)", tuple(x), weights={"t": ints(*target)})


@st.composite
def blocks(draw):
    n, channels, height, width, block = draw(small), draw(small), draw(small), draw(small), draw(small)
    if draw(yes_or_no):
        call = node("SpaceToDepth", "x", blocksize=block)
        return Case(f"y = {call}", (n, channels, height * block, width * block))
    mode, opset = draw(st.sampled_from([(None, 7), (None, 13), ("DCR", 13), ("CRD", 13)]))
    call = node("DepthToSpace", "x", blocksize=block, mode=mode)
    return Case(f"y = {call}", (n, channels * block**2, height, width), opset=opset)


@st.composite
def batch_normalizations(draw):
    channels = draw(small)
    weights = dict.fromkeys(("scale", "shift", "mean"), (channels,)) | {
        "var": np.linspace(0.3, 2, channels).astype("f")
    }
    call = node(
        "BatchNormalization",
        "x, scale, shift, mean, var",
        epsilon=draw(st.sampled_from([None, 0.001, 0.5])),
    )
    x = (draw(small), channels, *draw(st.lists(small, max_size=3)))
    return Case(f"y = {call}", x, weights=weights, opset=draw(st.sampled_from([7, 9, 14, 15])))


@st.composite
def sums(draw):
    """Sums, differences and products with weights, repeated along axes on either side."""
    x = draw(shapes)
    weight = [size if draw(yes_or_no) else 1 for size in x]
    x = [size if draw(st.integers(0, 2)) else 1 for size in x]
    weight = weight[draw(st.integers(0, len(weight))) :] or [1]
    if draw(yes_or_no):
        weight = [draw(small), *weight] if len(weight) == len(x) else weight
    body = draw(
        st.sampled_from(
            [
                "Add(x, w)",
                "Add(w, x)",
                "Sub(x, w)",
                "Sub(w, x)",
                "Mul(x, w)",
                "Mul(w, x)",
                "Div(x, w)",
                "Sum(x, w, x)",
                "Sum(x)",
                "Mean(w, x)",
                "Mean(x, x, w)",
            ]
        )
    )
    weights = {"w": np.linspace(0.5, 2, math.prod(weight), dtype="f").reshape(weight)}
    return Case(f"y = {body}", tuple(x), weights=weights if "w" in body else {})


@st.composite
def plain_passages(draw):
    call, opset = draw(
        st.sampled_from(
            [
                ("GlobalAveragePool(x)", 7),
                ("Identity(x)", 7),
                ("Dropout(x)", 7),
                ("Dropout<ratio = 0.3>(x)", 10),
                ("Dropout(x, ratio)", 13),
                ("Cast<to = 1>(x)", 13),
                ("Neg(x)", 13),
                ("ImageScaler<scale = 0.5, bias = [0.25, -1.0]>(x)", 7),
                ("Affine<alpha = -1.5, beta = 2.0>(x)", 7),
                ("Crop<border = [1, 0, 2, 1]>(x)", 7),
                ("Crop<border = [1, 2, 0, 0], scale = [3, 2]>(x)", 7),
            ]
        )
    )
    x = (draw(small), 2, draw(small) + 4, draw(small) + 4)
    weights = {"ratio": np.array(0.25, np.float32)} if "ratio)" in call else {}
    return Case(f"y = {call}", x, weights=weights, opset=opset)


LINEAR = {
    "Conv 1-D": convolutions(1),
    "Conv 2-D": convolutions(2),
    "Conv 3-D": convolutions(3),
    "ConvTranspose 1-D": transposed_convolutions(1),
    "ConvTranspose 2-D": transposed_convolutions(2),
    "ConvTranspose 3-D": transposed_convolutions(3),
    "AveragePool 1-D": average_pools(1),
    "AveragePool 2-D": average_pools(2),
    "AveragePool 3-D": average_pools(3),
    "Gemm": gemms(),
    "MatMul": matrix_products(),
    "Reshape": reshapes(),
    "Flatten": flattens(),
    "Squeeze": squeezes(),
    "Unsqueeze": unsqueezes(),
    "Transpose": transposes(),
    "Concat": concatenations(),
    "Split": splits(),
    "Slice": slices(),
    "Pad": pads(),
    "Expand": expansions(),
    "DepthToSpace, SpaceToDepth": blocks(),
    "BatchNormalization": batch_normalizations(),
    "Add, Sub, Mul, Div, Sum, Mean": sums(),
    "Identity and its like": plain_passages(),
}


@pytest.mark.slow
@pytest.mark.parametrize("family", LINEAR)
def test_what_a_linear_operator_sends_back_is_its_exact_transpose(family):
    counts = Counter()

    @given(LINEAR[family])
    def holds(case):
        try:
            assert_transposed(case.proto(), case.feeds())
        except RefusedError:
            counts["refused"] += 1
            reject()
        counts["held"] += 1

    holds()
    assert counts["held"] >= max(200, 4 * counts["refused"]), counts


# --- unpooling ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Pool:
    """A MaxPool and where its windows start, worked out from the operator's specification."""

    x: tuple[int, ...]
    attributes: dict
    opset: int
    begins: list[int]
    counts: list[int]

    @property
    def proto(self):
        return Case(f"y = {node('MaxPool', 'x', **self.attributes)}", self.x, opset=self.opset).proto()

    def positions(self, x):
        """Flat positions of each window's maximum, the first of equals in row-major order."""
        attributes, n = self.attributes, len(self.counts)
        steps = attributes.get("strides") or [1] * n
        spread = attributes.get("dilations") or [1] * n
        found = np.empty((*x.shape[:2], *self.counts), np.int64)
        for place in np.ndindex(found.shape):
            seen = []
            for offset in product(*map(range, attributes["kernel_shape"])):
                at = [
                    p * s + o * d - b
                    for p, s, o, d, b in zip(place[2:], steps, offset, spread, self.begins, strict=True)
                ]
                if all(0 <= a < size for a, size in zip(at, x.shape[2:], strict=True)):
                    seen.append((*place[:2], *at))
            assume(seen)  # a dilated window may lie in the padding altogether: it has no maximum
            best = max(x[at] for at in seen)
            found[place] = np.ravel_multi_index(next(at for at in seen if x[at] == best), x.shape)
        return found


@st.composite
def max_pools(draw, axes, *, overlapping=True):
    opset = draw(st.sampled_from([7, 8, 10, 12, 22]))
    window = draw(windows(axes, dilated=opset >= 10 and overlapping, padded_by=lambda kernel: kernel - 1))
    if not overlapping:
        window["strides"] = [max(k, s) for k, s in zip(window["kernel"], window["strides"], strict=True)]
    attributes = padding(draw, window)
    ceil = draw(yes_or_no) if opset >= 10 else False
    begins, counts = [], []
    for size, kernel, stride, dilation, begin, end in zip(*window.values(), strict=True):
        extent = (kernel - 1) * dilation + 1
        if attributes["auto_pad"] in ("SAME_UPPER", "SAME_LOWER"):
            count = math.ceil(size / stride)
            total = max((count - 1) * stride + extent - size, 0)
            begins.append(total // 2 if attributes["auto_pad"] == "SAME_UPPER" else (total + 1) // 2)
            counts.append(count)
            continue
        before, after = (0, 0) if attributes["auto_pad"] == "VALID" else (begin, end)
        steps = (size + before + after - extent) / stride
        count = (math.ceil(steps) if ceil else math.floor(steps)) + 1
        if (count - 1) * stride >= size + before:
            count -= 1  # a window must start in the input or in the padding before it
        begins.append(before)
        counts.append(count)
    attributes |= {
        "kernel_shape": window["kernel"],
        "strides": window["strides"] if max(window["strides"]) > 1 or draw(yes_or_no) else None,
        "dilations": window["dilations"] if max(window["dilations"]) > 1 else None,
        "ceil_mode": 1 if ceil else draw(st.sampled_from([None, 0])) if opset >= 10 else None,
        "storage_order": draw(st.sampled_from([None, 0, 1])) if opset >= 8 else None,
    }
    return Pool((draw(small), draw(small), *window["size"]), attributes, opset, begins, counts)


def rectified(shape):
    """Small whole numbers, half of them zero, as behind a rectifier: most windows have ties."""
    return np.maximum(np.rint(numbers(shape, "x")), 0)


def check_unpooling(pool, unpool):
    x = rectified(pool.x)
    forward = plain(pool.proto, {"x": x})["y"]
    positions = pool.positions(x)
    np.testing.assert_array_equal(forward, x.ravel()[positions])
    seed = numbers(positions.shape, "seed")
    expected = np.zeros(x.size)
    for place in np.ndindex(positions.shape):
        if unpool == "add":
            expected[positions[place]] += seed[place]
        else:
            expected[positions[place]] = seed[place]
    got = reconstruction(pool.proto, {"x": x}, seed, unpool=unpool)
    assert_close(got, expected.reshape(x.shape))


@pytest.mark.slow
@pytest.mark.parametrize("unpool", ["add", "overwrite"])
@pytest.mark.parametrize("axes", [1, 2, 3])
def test_unpooling_puts_each_signal_where_its_window_found_the_first_maximum(axes, unpool):
    counts = Counter()

    @given(max_pools(axes))
    def holds(pool):
        try:
            check_unpooling(pool, unpool)
        except RefusedError:
            counts["refused"] += 1
            reject()
        counts["held"] += 1
        strides = pool.attributes["strides"] or [1] * axes
        counts["overlapping"] += any(map(int.__gt__, pool.attributes["kernel_shape"], strides))

    holds()
    assert counts["held"] >= max(200, 4 * counts["refused"]), counts
    assert counts["overlapping"] >= 50, counts


@pytest.mark.slow
def test_where_windows_do_not_overlap_adding_and_overwriting_are_the_same():
    counts = Counter()

    @given(max_pools(2, overlapping=False))
    def holds(pool):
        x = rectified(pool.x)
        try:
            y = plain(pool.proto, {"x": x})["y"]
        except RefusedError:
            reject()
        seed = numbers(y.shape, "seed")
        both = [reconstruction(pool.proto, {"x": x}, seed, unpool=kind) for kind in ("add", "overwrite")]
        np.testing.assert_array_equal(*both)
        counts["pools that pool"] += y.size < x.size

    holds()
    assert counts["pools that pool"] >= 50
