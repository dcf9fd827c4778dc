"""Sizes known at run time only: one pair is right at every size, and for every image of a batch.

Each network is compiled once with symbolic batch, height and width, and compared at several sizes
with the pair compiled for that size, and with finite differences of the reference implementation.
"""

from dataclasses import replace

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx.reference import ReferenceEvaluator
from operator_cases import ints
from oracle import Case, assert_close, model_of, node, numbers, plain, send_back, session_of

from onnx_deconv import load

SIZES = [(1, 8, 8), (2, 9, 7), (3, 11, 12), (1, 13, 10)]
IMAGE = ("N", 3, "H", "W")


def network(body, opset=18, **weights):
    return Case(body, IMAGE, opset=opset, weights=weights)


PARTS = {"i0": ints(0), "i1": ints(1), "i2": ints(2), "i3": ints(3), "minus": ints(-1), "two": ints(2)}
NETWORKS = {
    "Conv of stride 2": network("y = Conv<strides = [2, 2], pads = [1, 1, 1, 1]>(x, w)", w=(4, 3, 3, 3)),
    "Conv of strides 3 and 2, uneven pads": network(
        "y = Conv<strides = [3, 2], pads = [2, 0, 1, 1]>(x, w, b)", w=(4, 3, 4, 3), b=(4,)
    ),
    "Conv with a stride larger than its kernel": network("y = Conv<strides = [3, 3]>(x, w)", w=(4, 3, 2, 1)),
    "Conv of stride 2, dilated, in groups": network(
        "y = Conv<strides = [2, 1], dilations = [2, 3], group = 3, pads = [1, 2, 0, 0]>(x, w)", w=(6, 1, 2, 3)
    ),
    "Conv SAME_UPPER of stride 2": network(
        'y = Conv<auto_pad = "SAME_UPPER", strides = [2, 2]>(x, w)', w=(4, 3, 3, 4)
    ),
    "Conv SAME_LOWER of stride 2": network(
        'y = Conv<auto_pad = "SAME_LOWER", strides = [2, 2]>(x, w)', w=(4, 3, 3, 4)
    ),
    "Conv SAME_UPPER of strides 1 and 3": network(
        'y = Conv<auto_pad = "SAME_UPPER", strides = [1, 3]>(x, w)', w=(4, 3, 4, 5)
    ),
    "Conv SAME_LOWER of strides 3 and 1": network(
        'y = Conv<auto_pad = "SAME_LOWER", strides = [3, 1]>(x, w)', w=(4, 3, 2, 2)
    ),
    "Conv VALID of stride 2": network('y = Conv<auto_pad = "VALID", strides = [2, 2]>(x, w)', w=(4, 3, 3, 3)),
    "ConvTranspose of stride 2": network(
        "y = ConvTranspose<strides = [2, 2], pads = [1, 0, 1, 1], output_padding = [1, 0]>(x, w)",
        w=(3, 2, 3, 3),
    ),
    "ConvTranspose SAME_UPPER": network(
        'y = ConvTranspose<auto_pad = "SAME_UPPER", strides = [2, 3]>(x, w)', w=(3, 2, 3, 4)
    ),
    "MaxPool 3x3 of stride 2": network(
        "y = MaxPool<kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1]>(x)"
    ),
    "MaxPool rounding up": network("y = MaxPool<kernel_shape = [3, 2], strides = [2, 2], ceil_mode = 1>(x)"),
    "MaxPool SAME_UPPER": network(
        'y = MaxPool<kernel_shape = [3, 2], strides = [2, 2], auto_pad = "SAME_UPPER">(x)'
    ),
    "MaxPool in column order": network(
        "y = MaxPool<kernel_shape = [3, 2], strides = [2, 1], storage_order = 1>(x)"
    ),
    "AveragePool with pads": network(
        "y = AveragePool<kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1]>(x)"
    ),
    "AveragePool with pads that count": network(
        "y = AveragePool<kernel_shape = [3, 3], strides = [2, 1], pads = [1, 0, 1, 2],"
        " count_include_pad = 1>(x)"
    ),
    "AveragePool without pads that would count": network(
        "y = AveragePool<kernel_shape = [2, 2], strides = [2, 2], count_include_pad = 1>(x)"
    ),
    "AveragePool rounding up": network(
        "y = AveragePool<kernel_shape = [3, 2], strides = [2, 3], pads = [1, 0, 0, 1], ceil_mode = 1>(x)"
    ),
    "AveragePool rounding up with pads that count": network(
        "y = AveragePool<kernel_shape = [3, 3], strides = [2, 2], pads = [1, 0, 1, 1], ceil_mode = 1,"
        " count_include_pad = 1>(x)",
        opset=19,
    ),
    "AveragePool SAME_LOWER": network(
        'y = AveragePool<kernel_shape = [3, 2], strides = [2, 2], auto_pad = "SAME_LOWER">(x)'
    ),
    "AveragePool dilated": network(
        "y = AveragePool<kernel_shape = [2, 3], strides = [2, 1], dilations = [3, 2], pads = [1, 0, 0, 1]>"
        "(x)",
        opset=19,
    ),
    "GlobalAveragePool": network("y = GlobalAveragePool(x)"),
    "GlobalMaxPool": network("y = GlobalMaxPool(x)"),
    "ReduceMean": network("y = ReduceMean<keepdims = 0>(x, a)", a=ints(2, -1)),
    "Concat along channels": network("a = Mul(x, x) y = Concat<axis = 1>(a, x)"),
    "Concat along height": network(
        "a = AveragePool<kernel_shape = [2, 1], strides = [2, 1]>(x) y = Concat<axis = 2>(x, a, x)"
    ),
    "Concat along the batch": network("a = Mul(x, x) y = Concat<axis = 0>(a, x)"),
    "Split along channels": network("a, b = Split<axis = 1>(x, s) y = Mul(a, b)", s=ints(2, 1)),
    "Split along channels, a part unused": network("a, y = Split<axis = 1>(x, s)", s=ints(2, 1)),
    "Reshape to a computed target": network(
        "s = Shape(x) n = Gather(s, i0) t = Concat<axis = 0>(n, minus) y = Reshape(x, t)", **PARTS
    ),
    "Reshape of two axes into one": network(
        "s = Shape(x) n = Gather(s, i0) c = Gather(s, i1) t = Concat<axis = 0>(n, c, minus)"
        " r = Reshape(x, t) y = Transpose<perm = [0, 2, 1]>(r)",
        **PARTS,
    ),
    "Reshape by a product of sizes": network(
        "s = Shape(x) n = Gather(s, i0) h = Gather(s, i2) w = Gather(s, i3) a = Mul(h, w)"
        " t = Concat<axis = 0>(n, i3, a) r = Reshape(x, t) y = MatMul(m, r)",
        **PARTS,
        m=(5, 3),
    ),
    "Flatten and Gemm": network(
        "g = GlobalAveragePool(x) f = Flatten(g) y = Gemm<transB = 1>(f, w, b)", w=(5, 3), b=(5,)
    ),
    "Squeeze and Unsqueeze": network(
        "g = GlobalAveragePool(x) q = Squeeze(g, a) u = Unsqueeze(q, a) y = Mul(x, u)", a=ints(2, 3)
    ),
    "Transpose": network("t = Transpose<perm = [0, 2, 3, 1]>(x) y = MatMul(t, m)", m=(3, 4)),
    "Pad constant": network("y = Pad(x, p)", p=ints(0, 0, 1, 2, 0, 0, 3, 0)),
    "Pad constant that cuts": Case(
        "y = Pad(x, p)",
        IMAGE,
        same_as="q = Pad(x, p2) y = Slice(q, b, e, a)",
        weights={"p": ints(0, 0, 1, -2, 0, 0, -3, 1), "p2": ints(0, 0, 1, 0, 0, 0, 0, 1)}
        | {"b": ints(0, 2), "e": ints(-3, 99), "a": ints(2, 3)},
    ),
    "Pad reflect": network('y = Pad<mode = "reflect">(x, p)', p=ints(0, 0, 1, 2, 0, 0, 3, 0)),
    "Pad edge": network('y = Pad<mode = "edge">(x, p)', p=ints(0, 0, 1, 2, 0, 0, 3, 0)),
    "Pad wrap": network('y = Pad<mode = "wrap">(x, p)', p=ints(0, 0, 1, 2, 0, 0, 3, 0), opset=19),
    "Slice of a dynamic axis": network(
        "y = Slice(x, b, e, a)", b=ints(1, -4), e=ints(2**62, -1), a=ints(2, -1)
    ),
    "Slice backwards in steps": network(
        "y = Slice(x, b, e, a, s)", b=ints(-1, 2), e=ints(-(2**62), 9), a=ints(2, 3), s=ints(-2, 3)
    ),
    "Slice of the first half, computed": network(
        "s = Shape(x) h = Gather(s, i2) half = Div(h, two) y = Slice(x, i0, half, i2)", **PARTS
    ),
    "Slice of a known axis to a computed end": network(
        "s = Shape(x) h = Gather(s, i2) end = Div(h, five) y = Slice(x, i0, end, i1)", **PARTS, five=ints(5)
    ),
    "Slice of a known axis from a computed start": network(
        "s = Shape(x) h = Gather(s, i2) start = Div(h, five) y = Slice(x, start, i3, i1)",
        **PARTS,
        five=ints(5),
    ),
    "InstanceNormalization": network("y = InstanceNormalization(x, s, b)", s=(3,), b=(3,)),
    "BatchNormalization": network(
        "y = BatchNormalization(x, s, b, b, v)", s=(3,), b=(3,), v=np.float32([0.5, 1, 2])
    ),
    "LayerNormalization over channels last": network(
        "t = Transpose<perm = [0, 2, 3, 1]>(x) y = LayerNormalization(t, s, b)", s=(3,), b=(3,)
    ),
    "Softmax over channels": network("t = Softmax<axis = 1>(x) y = Neg(t)"),
    "DepthToSpace": network("c = Conv(x, w) y = DepthToSpace<blocksize = 2>(c)", w=(8, 3, 1, 1)),
    "DepthToSpace by columns": network(
        'c = Conv(x, w) y = DepthToSpace<blocksize = 2, mode = "CRD">(c)', w=(8, 3, 1, 1)
    ),
    "SpaceToDepth": network(
        "p = Concat<axis = 2>(x, x) q = Concat<axis = 3>(p, p) y = SpaceToDepth<blocksize = 2>(q)"
    ),
    "Expand": network("s = Shape(x) g = GlobalAveragePool(x) y = Expand(g, s)"),
    "Squeeze and excite": network(
        "g = GlobalAveragePool(x) c = Conv(g, w) k = Sigmoid(c) y = Mul(x, k)", w=(3, 3, 1, 1)
    ),
    "Unbroadcast at run time": network(
        "g = ReduceMean(x, a) m = Mul(x, g) p = AveragePool<kernel_shape = [2, 1], strides = [2, 1]>(m)"
        " k = ReduceMax(p, c) y = Mul(p, k)",
        a=ints(2),
        c=ints(1),
    ),
    "Gather a row": network("y = Gather<axis = 2>(x, i)", i=ints(-2).reshape(())),
    "Gather columns": network("y = Gather<axis = 3>(x, i)", i=ints(3, 1, 1, -1)),
    "GatherElements": network(
        "e = Shape(x) k = ConstantOfShape(e) f = Cast<to = 7>(k) g = Add(f, one)"
        " y = GatherElements<axis = 3>(x, g)",
        one=ints(1).reshape(()),
    ),
    "Tile": network("y = Tile(x, r)", r=ints(1, 2, 3, 1)),
    "Where": network("c = Greater(x, z) d = Mul(x, x) y = Where(c, d, x)", z=np.array(0.1, "f")),
    "ReduceMax over height and width": network("y = ReduceMax<keepdims = 0>(x, a)", a=ints(2, 3)),
    "ReduceLogSumExp": network("y = ReduceLogSumExp(x, a)", a=ints(3)),
    "LpPool": network("y = LpPool<kernel_shape = [2, 3], strides = [2, 2], pads = [0, 1, 0, 1]>(x)"),
    "GroupNormalization": Case(
        "c = Conv(x, w) y = GroupNormalization<num_groups = 2>(c, s, b)",
        IMAGE,
        opset=21,
        same_as="c = Conv(x, w) g = Reshape(c, groups) m = ReduceMean(g, last) d = Sub(g, m) q = Mul(d, d)"
        " u = ReduceMean(q, last) e = Add(u, eps) r = Sqrt(e) n = Div(d, r) z = Shape(c) f = Reshape(n, z)"
        " k = Mul(f, s2) y = Add(k, b2)",
        weights={"w": (4, 3, 1, 1), "s": np.ones(4, "f"), "b": np.zeros(4, "f")}
        | {"groups": ints(0, 2, -1), "last": ints(2), "eps": np.array(1e-5, "f")}
        | {"s2": np.ones((4, 1, 1), "f"), "b2": np.zeros((4, 1, 1), "f")},
    ),
    "RoiAlign": network(
        "a = Conv(x, w) y = RoiAlign<output_height = 2, output_width = 3>(a, r, i)",
        w=(4, 3, 1, 1),
        r=np.float32([[0.3, 0, 5, 6], [1.3, 0.2, 3.9, 2.1], [-4, -3, 2, 9]]),
        i=ints(0, 0, 0),
    ),
    "Resize to twice the size": network(
        'y = Resize<mode = "linear", coordinate_transformation_mode = "half_pixel">(x, , k)',
        k=np.float32([1, 1, 2, 2]),
    ),
    "Resize to the size of another": network(
        "p = AveragePool<kernel_shape = [2, 2], strides = [2, 2]>(x) t = Shape(x)"
        ' r = Resize<mode = "nearest", nearest_mode = "floor", coordinate_transformation_mode = "asymmetric">'
        "(p, , , t) y = Mul(r, x)"
    ),
    "Upsample": Case(
        "y = Upsample(x, k)",
        IMAGE,
        opset=9,
        same_as='y = Resize<coordinate_transformation_mode = "asymmetric", nearest_mode = "floor">(x, , k)',
        weights={"k": np.float32([1, 1, 3, 2])},
    ),
    "A small network": network(
        "a = Conv<strides = [2, 2], pads = [1, 1, 1, 1]>(x, w) r = Relu(a)"
        " p = MaxPool<kernel_shape = [3, 3], strides = [2, 2], ceil_mode = 1>(r)"
        " g = GlobalAveragePool(p) f = Flatten(g) y = Gemm(f, v)",
        w=(4, 3, 3, 3),
        v=(4, 2),
    ),
}
ALONG_THE_BATCH = {"Concat along the batch", "RoiAlign"}


def padded(proto):
    """Write the padding that SAME means; the reference of onnx up to 1.20 takes it from other axes."""
    (x,) = (i.type.tensor_type.shape.dim for i in proto.graph.input if i.name == "x")
    shapes = {t.name: t.dims for t in proto.graph.initializer}
    for each in proto.graph.node:
        found = {a.name: onnx.helper.get_attribute_value(a) for a in each.attribute}
        if each.op_type == "Conv" and found.get("auto_pad", b"").startswith(b"SAME"):
            assert each.input[0] == "x"
            del each.attribute[:]
            sizes = [d.dim_value for d in x][2:]
            needed = [
                max(0, (-(-size // step) - 1) * step + kernel - size)
                for size, step, kernel in zip(sizes, found["strides"], shapes[each.input[1]][2:], strict=True)
            ]
            less, more = [n // 2 for n in needed], [n - n // 2 for n in needed]
            pads = less + more if found.pop("auto_pad") == b"SAME_UPPER" else more + less
            each.attribute.extend(
                onnx.helper.make_attribute(k, v) for k, v in (found | {"pads": pads}).items()
            )
    return proto


def directional(case, feeds, seed, direction, step=1e-6):
    """seed·∂y/∂x·direction by central differences in double precision."""
    run = ReferenceEvaluator(padded(case.exact()))
    sides = [run.run(None, {"x": feeds["x"].astype(float) + sign * step * direction})[0] for sign in (1, -1)]
    return np.vdot(seed, sides[0] - sides[1]) / (2 * step)


def at_size(case, size):
    """The same network for one size alone."""
    return replace(case, x=tuple({"N": size[0], "H": size[1], "W": size[2]}.get(d, d) for d in case.x))


@pytest.mark.parametrize("name", NETWORKS)
def test_one_pair_is_right_at_every_size(name):
    case = NETWORKS[name]
    dynamic = session_of(case.proto(), rules="gradient")
    for size in SIZES:
        fixed = at_size(case, size)
        static, feeds = session_of(fixed.proto(), rules="gradient"), fixed.feeds()
        seed = numbers(static.run_forward(feeds)["y"].shape(), "seed")
        (got,), (expected,) = (send_back(pair, feeds, seed).values() for pair in (dynamic, static))
        assert_close(got, expected, 1e-6)
        direction = numbers(got.shape, "direction")
        exact = directional(fixed, feeds, seed, direction)
        scale = np.linalg.norm(got) * np.linalg.norm(direction)
        assert abs(np.vdot(got.astype(np.float64), direction) - exact) <= 1e-5 * scale


@pytest.mark.parametrize("rules", ["deconvnet", "gradient"])
@pytest.mark.parametrize("name", sorted(set(NETWORKS) - ALONG_THE_BATCH))
def test_an_image_gets_what_it_would_get_alone(name, rules):
    case = NETWORKS[name]
    pair = session_of(case.proto(), rules=rules)
    x = case.feeds(N=3, H=9, W=10)["x"]
    y = pair.run_forward({"x": x})["y"].numpy()
    seed = numbers(y.shape, "seed")
    (batch,) = send_back(pair, {"x": x}, seed).values()
    for k in range(3):
        (single,) = send_back(pair, {"x": x[k : k + 1]}, seed[k : k + 1]).values()
        assert_close(batch[k : k + 1], single, 1e-6)
    assert not np.array_equal(batch[0], batch[1])


@pytest.mark.parametrize("order", [0, 1])
def test_overwriting_unpools_are_right_at_every_size(order):
    window = "kernel_shape = [3, 3], strides = [2, 1], pads = [1, 1, 1, 1]"
    case = network(f"y = MaxPool<{window}, storage_order = {order}>(x)")
    dynamic = session_of(case.proto(), unpool="overwrite")
    for size in SIZES:
        fixed = at_size(case, size)
        feeds = fixed.feeds()
        static = session_of(fixed.proto(), unpool="overwrite")
        seed = numbers(static.run_forward(feeds)["y"].shape(), "seed")
        (got,), (expected,) = (send_back(pair, feeds, seed).values() for pair in (dynamic, static))
        np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("axes", [("N",), ("H",), ("W",), ("N", "H", "W")])
def test_any_axis_may_be_left_open(axes):
    case = NETWORKS["A small network"]
    sizes = {"N": 2, "H": 9, "W": 11}
    part = replace(case, x=tuple(d if d in axes else sizes.get(d, d) for d in case.x))
    feeds = case.feeds(**sizes)
    got, expected = (
        next(iter(send_back(session_of(c.proto()), feeds).values()))
        for c in (part, at_size(case, (2, 9, 11)))
    )
    assert_close(got, expected, 1e-6)


def test_symbols_of_the_model_name_the_companions_axes():
    case = NETWORKS["Conv of stride 2"]
    pair = session_of(case.proto()).pair
    (reconstruction,) = pair.manifest["reconstructions"]
    assert reconstruction["shape"] == ["N", 3, "H", "W"]


def test_an_unnamed_axis_may_have_any_size():
    case = replace(NETWORKS["A small network"], x=("", 3, "", ""))
    proto = model_of(case.body, {"x": ("N", 3, "H", "W")}, case.arrays())
    for d in (0, 2, 3):
        proto.graph.input[0].type.tensor_type.shape.dim[d].Clear()
    pair = session_of(proto)
    for size in SIZES:
        feeds = at_size(NETWORKS["A small network"], size).feeds()
        (got,) = send_back(pair, feeds).values()
        (expected,) = send_back(
            session_of(at_size(NETWORKS["A small network"], size).proto()), feeds
        ).values()
        assert_close(got, expected, 1e-6)


# --- shapes that the graph computes ---------------------------------------------------------------


def shape_of(body, **given):
    return load(network(body, **given).proto()).type_of("y").shape


def test_a_target_computed_through_real_numbers_is_followed():
    body = (
        "s = Shape(x) f = Cast<to = 1>(s) n = Gather(f, i1) h = Mul(n, n) i = Cast<to = 7>(h)"
        " t = Concat<axis = 0>(minus, i) y = Reshape(x, t)"
    )
    assert shape_of(body, **PARTS) == (None, 9)


def test_the_ends_of_a_slice_may_be_computed_from_sizes():
    """As PyTorch cuts one weight into those of queries, keys and values."""
    body = (
        "s = Shape(x) c = Gather<axis = 0>(s, i1) q = Squeeze(c) d = Mul(q, q) e = Unsqueeze(d, i0)"
        " w = Slice(table, c, e, i0) t = Transpose(w) p = GlobalAveragePool(x) f = Flatten(p)"
        " y = MatMul(f, t)"
    )
    given = {"i0": ints(0), "i1": ints(1), "table": np.ones((12, 3), np.float32)}
    assert shape_of(body, **given)[1] == 6  # rows 3 to 9, for 3 channels
    assert (
        shape_of(
            body.replace("Slice(table, c, e, i0)", "Slice(table, e, c, i0, back)"), **given, back=ints(-2)
        )[1]
        == 3
    )


@pytest.mark.parametrize(
    "body",
    [
        "t = Add(table, row) f = Cast<to = 1>(t) y = Mul(p, f)",
        "z = Sub(two, two) t = Div(two, z) y = Identity(p)",
        "t = Gather<axis = 1>(table, i1) f = Cast<to = 1>(t) y = Mul(p, f)",
    ],
)
def test_integers_that_are_no_sizes_do_no_harm(body):
    given = PARTS | {"table": np.arange(6).reshape(2, 3), "row": ints(1, 2, 3)}
    assert len(shape_of(f"p = GlobalAveragePool(x) {body}", **given)) == 4


@pytest.mark.parametrize("opset", [10, 12, 22])
@pytest.mark.parametrize("operator", ["MaxPool", "AveragePool"])
def test_windows_that_would_start_beyond_the_input_are_not_counted(operator, opset):
    call = node(operator, "x", kernel_shape=[2, 1], strides=[2, 2], pads=[1, 0, 1, 0], ceil_mode=1)
    case = Case(f"p = {call} y = Flatten(p)", (1, 2, 3, 6), opset=opset)
    y = plain(case.proto(), case.feeds())["y"]
    assert load(case.proto()).type_of("y").shape == y.shape == (1, 12)


@given(st.data())
@settings(max_examples=60)
def test_pools_that_round_up_have_the_runtimes_size(data):
    kernel, stride, dilation = (data.draw(st.integers(1, most)) for most in (4, 4, 2))
    begin, end = (data.draw(st.integers(0, kernel - 1)) for _ in "be")
    window = {"kernel_shape": [kernel], "strides": [stride], "dilations": [dilation], "pads": [begin, end]}
    case = Case(f"y = {node('MaxPool', 'x', **window, ceil_mode=1)}", (1, 2, data.draw(st.integers(7, 14))))
    y = plain(case.proto(), case.feeds())["y"]
    assert load(case.proto()).type_of("y").shape == y.shape
