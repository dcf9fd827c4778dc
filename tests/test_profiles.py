"""Graphs for each runtime: what it does not take is brought to other forms, which compute the same."""

import re

import numpy as np
import onnx
import onnxruntime
import pytest
from commands import run as command
from onnx import TensorProto, helper, numpy_helper
from oracle import answer, assert_close, plain
from pools import POOLS
from small_networks import model, network, random

from onnx_deconv import Explainer, InputError, ModelError, Semantics, compile_pair, explain_graph, load
from onnx_deconv.compiler.explain_manifest import own_top
from onnx_deconv.compiler.pair import pair_for
from onnx_deconv.compiler.passes import apply_passes
from onnx_deconv.compiler.profiles import PROFILES, check
from onnx_deconv.compiler.telephones import shares
from onnx_deconv.imaging import Preprocess
from onnx_deconv.operators import rule_tables
from onnx_deconv.runtime import Session, numpy_of

BY_INDICES = [
    name for name, profile in PROFILES.items() if any(f.operator == "MaxPool" for f in profile.refused)
]


def operators(proto):
    return [node.op_type for node in proto.graph.node]


def explained(graph, feeds):
    found = Session(graph.proto, graph.folder, "cpu").run(own_top(graph.manifest) | feeds)
    return {name: numpy_of(value) for name, value in found.items()}


def graph_of(text, inputs="float[N,4,6,7] x", opset=18, **tensors):
    proto = onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["": {opset}]> g ({inputs}) => (float[] y) {{ {text} }}'
    )
    proto.graph.initializer.extend(numpy_helper.from_array(a, name) for name, a in tensors.items())
    return proto


# --- unpooling ------------------------------------------------------------------------------------


@pytest.mark.parametrize("pads", ["zeros in the padding win", "all are negative"])
@pytest.mark.parametrize("name", [name for name in POOLS if name != "by column"])
def test_first_maxima_of_any_windows_are_found_by_comparing(name, pads):
    """All numbers are whole and small, so that sums are exact in any order; most windows are ties."""
    attributes, size = POOLS[name]
    ones = (1,) * (len(size) - 1)
    rng = np.random.default_rng(0)
    weights = {
        "w": rng.integers(-1, 2, (4, 3, 1, *ones)).astype(np.float32),
        "b": np.full(4, -9.0 if pads == "all are negative" else 0.0, np.float32),
        "v": rng.integers(-3, 4, (5, 4, 1, *ones)).astype(np.float32),
    }
    axes = ", ".join(map(str, size))
    body = f"c = Conv(x, w, b) p = MaxPool<{attributes}>(c) y = Conv(p, v)"
    net = model(body, weights, f"N,3,{axes}")
    pair = compile_pair(load(net), semantics="gradient")
    plain, compared = (explain_graph(pair, seed="map", passes=p) for p in ((), ("windows",)))
    assert "ScatterElements" in operators(plain.proto)
    assert not {"ScatterElements", "Mod"} & {*operators(compared.proto)}
    assert all(len(n.output) == 1 for n in compared.proto.graph.node if n.op_type == "MaxPool")
    x = rng.integers(0, 2, (3, 3, *size)).astype(np.float32)
    found, expected = (explained(graph, {"x": x})["reconstruction"] for graph in (compared, plain))
    assert expected.any()
    np.testing.assert_array_equal(found, expected)


NARROW = {
    "float16": ("q = Cast<to = 10>(c)", "d = Cast<to = 1>(p)", {}),
    "uint8": (
        "q = QuantizeLinear(c, one, zero)",
        "d = DequantizeLinear(p, one, zero)",
        {"zero": np.array(9, np.uint8)},
    ),
    "int8": (
        "q = QuantizeLinear(c, one, zero)",
        "d = DequantizeLinear(p, one, zero)",
        {"zero": np.array(0, np.int8)},
    ),
}
"""How small whole numbers become another type and real ones again."""


@pytest.mark.parametrize("name", ["side by side", "overlapping", "hanging over", "padded", "dilated"])
@pytest.mark.parametrize("dtype", NARROW)
@pytest.mark.parametrize("runtime", [None, *BY_INDICES])
def test_first_maxima_of_numbers_of_fewer_bits_are_found_by_comparing(runtime, dtype, name):
    """As all numbers are whole and small, it is what the pool of the same numbers as float32 gives."""
    attributes, size = POOLS[name]
    there, back, tensors = NARROW[dtype]
    rng = np.random.default_rng(1)
    weights = {
        "w": rng.integers(-1, 2, (4, 3, 1, 1)).astype(np.float32),
        "v": rng.integers(-3, 4, (5, 4, 1, 1)).astype(np.float32),
    }
    tensors = tensors | ({"one": np.array(1, np.float32)} if tensors else {})
    x = rng.integers(0, 2, (1, 3, *size)).astype(np.float32)
    axes = ", ".join(map(str, x.shape))
    full = f"c = Conv(x, w) p = MaxPool<{attributes}>(c) y = Conv(p, v)"
    narrow = f"c = Conv(x, w) {there} p = MaxPool<{attributes}>(q) {back} y = Conv(d, v)"
    expected = explained(
        explain_graph(compile_pair(load(model(full, weights, axes)), semantics="gradient"), seed="map"),
        {"x": x},
    )["reconstruction"]
    pair = compile_pair(load(model(narrow, weights | tensors, axes)), semantics="gradient")
    passes = {"passes": ("windows",)} if runtime is None else {"runtime": runtime}
    if runtime == "tensorrt" and (dtype == "uint8" or name == "dilated"):
        with pytest.raises(ModelError, match="uint8" if dtype == "uint8" else "dilated"):
            explain_graph(pair, seed="map", **passes)
        return
    graph = explain_graph(pair, seed="map", **passes)
    assert not {"ScatterElements", "Mod"} & {*operators(graph.proto)}
    assert all(len(n.output) == 1 for n in graph.proto.graph.node if n.op_type == "MaxPool")
    assert expected.any()
    np.testing.assert_array_equal(explained(graph, {"x": x})["reconstruction"], expected)


def test_maxima_of_double_precision_keep_their_switches():
    """float32 does not hold their numbers: two that differ could be taken for equal."""
    body = "d = Cast<to = 11>(x) p = MaxPool<kernel_shape = [2, 2]>(d) y = Cast<to = 1>(p)"
    pair = compile_pair(load(model(body, {}, "N,3,5,6")), semantics="gradient")
    assert "ScatterElements" in operators(explain_graph(pair, passes=("windows",)).proto)


def test_windows_of_unknown_size_keep_their_switches():
    net = model("p = MaxPool<kernel_shape = [2, 2]>(x) y = Relu(p)", {}, "N,3,H,W")
    graph = explain_graph(compile_pair(load(net), semantics="gradient"), passes=("windows",))
    assert "ScatterElements" in operators(graph.proto)


@pytest.mark.parametrize(
    "name", ["overlapping", "hanging over", "dilated", "one axis", "three axes", "by column"]
)
def test_one_graph_unpools_a_whole_batch_by_the_pools_own_indices(name):
    attributes, size = POOLS[name]
    axes = ", ".join("HWD"[: len(size)])
    body = f"c = Relu(x) p = MaxPool<{attributes}>(c) y = Neg(p)"
    pair = compile_pair(load(model(body, {}, f"N,3,{axes}")), semantics="gradient")
    plain, whole = (explain_graph(pair, seed="map", passes=p) for p in ((), ("batches",)))
    assert [("Mod" in operators(g.proto)) for g in (plain, whole)] == [True, False]
    x = random(3, 3, *size)
    found, expected = (explained(graph, {"x": x})["reconstruction"] for graph in (whole, plain))
    assert expected.any()
    np.testing.assert_array_equal(found, expected)


# --- other passes -----------------------------------------------------------------------------------


@pytest.mark.parametrize("passes", [None, ()])
def test_values_of_which_no_type_is_known_are_not_declared(passes):
    """ONNX infers nothing of onnxruntime's own operators, and onnxruntime refuses a value without a type."""
    body = """
        q = QuantizeLinear(x, scale, zero)
        d = com.microsoft.QLinearAdd(q, scale, zero, q, scale, zero, scale, zero)
        r = Reshape(d, shape) y = DequantizeLinear(r, scale, zero)
    """
    tensors = {
        "scale": np.array(0.5, np.float32),
        "zero": np.array(0, np.int8),
        "shape": np.array([1, 3, 4, 6]),
    }
    net = model(body, tensors, "1,3,6,4")
    net.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    graph = explain_graph(compile_pair(load(net, {"x": (1, 3, 6, 4)}), "r"), passes=passes)
    assert all(info.type.tensor_type.elem_type for info in graph.proto.graph.value_info)
    assert explained(graph, {"x": random(1, 3, 6, 4)})["reconstruction"].any()


@pytest.mark.parametrize("form", ["pair", "explain"])
def test_nodes_in_any_order_stay_where_sizes_are_given(form):
    """onnxruntime's converter to float16 appends the Cast of the input after all that read it."""
    net = network()
    net.graph.node.insert(0, net.graph.node.pop())
    given = load(net, {"x": ("N", 3, 12, 14)})
    pair = compile_pair(given)
    x = {"x": random(2, 3, 12, 14)}
    expected = Session(network(), given.folder, "cpu").run(x)["y"]
    proto = pair.forward if form == "pair" else explain_graph(pair).proto
    asked = x if form == "pair" else x | {"target": np.array([-1, -1])}
    found = Session(proto, given.folder, "cpu").run(asked)["y"]
    np.testing.assert_allclose(numpy_of(found), numpy_of(expected), rtol=0, atol=1e-6)


def test_a_square_weight_that_is_shared_gets_a_copy():
    body = "c = Conv<pads=[1,1,1,1]>(x, w) r = Relu(c) d = Conv(r, v) y = GlobalAveragePool(d)"
    weights = {"w": random(4, 4, 3, 3), "v": random(6, 4, 1, 1)}
    pair = compile_pair(load(model(body, weights, "N,4,8,8")))
    plain, copied = (explain_graph(pair, passes=p) for p in ((), ("copies",)))

    def shared(proto):
        kinds = ("Conv", "ConvTranspose")
        one, other = ({n.input[1] for n in proto.graph.node if n.op_type == kind} for kind in kinds)
        return one & other

    assert shared(plain.proto) == {"w", "v"}
    assert shared(copied.proto) == {"v"}
    x = random(2, 4, 8, 8)
    one, other = (explained(g, {"x": x})["reconstruction"] for g in (plain, copied))
    np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("text", "size", "copies_"),
    [
        ("a = Gemm<transB=1>(x, w) r = Relu(a) y = Gemm(r, w)", (5, 5), 1),
        ("a = MatMul(x, w) r = Relu(a) t = Transpose<perm=[1,0]>(w) y = MatMul(r, t)", (5, 5), 1),
        ("a = Gemm<transB=1>(x, w) b = Gemm(x, w) c = MatMul(x, w) y = Sum(a, b, c)", (5, 5), 2),
        ("v = Relu(w) a = Gemm<transB=1>(x, v) b = Gemm(x, v) y = Add(a, b)", (5, 5), 1),
        ("u = Neg(w) v = Neg(w) a = Gemm<transB=1>(x, u) b = Gemm(x, v) y = Add(a, b)", (5, 5), 1),
        ("a = Gemm(x, w) r = Relu(a) y = Gemm(r, w)", (5, 5), 0),
        ("v = Max(w, zero) a = Gemm<transB=1>(x, w) b = Gemm(x, v) y = Add(a, b)", (5, 5), 1),
        ("a = Gemm<transB=1>(x, w) r = Relu(a) y = Gemm(r, w)", (4, 5), 0),
        ("a = MatMul(x, x) t = Transpose<perm=[1,0]>(x) b = MatMul(t, t) y = Sum(a, b, w)", (5, 5), 0),
    ],
)
def test_filters_that_read_a_square_weight_in_two_manners_get_a_copy_each(text, size, copies_):
    plain = graph_of(text, "float[5,5] x", w=random(*size), zero=np.float32(0))
    copied = apply_passes(plain, ["copies"])
    assert sum(list(t.dims) == list(size) for t in copied.graph.initializer) == 1 + copies_
    x = random(5, 5)
    np.testing.assert_array_equal(answer(copied, {"x": x}), answer(plain, {"x": x}))


def test_convolutions_with_a_weight_that_is_computed_get_a_copy_each():
    text = "v = Relu(w) a = Conv(x, v) r = Relu(a) y = ConvTranspose(r, v)"
    plain = graph_of(text, w=random(4, 4, 3, 3))
    copied = apply_passes(plain, ["copies"])
    read = [n.input[1] for n in copied.graph.node if n.op_type in ("Conv", "ConvTranspose")]
    made_of = {n.output[0]: n.input[0] for n in copied.graph.node}
    assert {made_of[v] for v in read} == {t.name for t in copied.graph.initializer}
    assert len(copied.graph.initializer) == 2
    x = random(2, 4, 6, 7)
    np.testing.assert_array_equal(answer(copied, {"x": x}), answer(plain, {"x": x}))


@pytest.mark.parametrize(
    ("text", "inputs", "size"),
    [
        ("a = Gemm<transB=1>(x, w) r = Relu(a) y = Gemm(r, w)", "float[3,2] x", (2, 2)),
        ("a = MatMul(x, w) t = Transpose<perm=[0,2,1]>(w) y = MatMul(a, t)", "float[3,1,2] x", (3, 2, 2)),
        ("a = Conv(x, w) r = Relu(a) y = ConvTranspose(r, w)", "float[1,2,3,4] x", (2, 2, 1, 1)),
    ],
)
def test_the_copy_of_a_small_weight_has_other_numbers(text, inputs, size):
    """OpenVINO makes one of small constants of equal numbers."""
    plain = graph_of(text, inputs, w=random(*size))
    copied = apply_passes(plain, ["copies"])
    one, other = (numpy_helper.to_array(t).tolist() for t in copied.graph.initializer)
    assert one != other
    x = random(*(d.dim_value for d in plain.graph.input[0].type.tensor_type.shape.dim))
    np.testing.assert_array_equal(answer(copied, {"x": x}), answer(plain, {"x": x}))


@pytest.mark.parametrize("operator", ["Mul", "Div"])
@pytest.mark.parametrize(
    ("shape", "parted"),
    [
        *((shape, True) for shape in ((6, 7), (1, 7), (6, 1), (1, 1, 6, 7), (1, 4, 6, 7))),
        *((shape, False) for shape in ((), (1,), (4, 1, 1), (1, 4, 1, 1))),
    ],
)
@pytest.mark.parametrize("then", ["", "s"])
def test_a_maximum_parts_numbers_of_places_from_the_filter_that_reads_them(operator, shape, parted, then):
    """A scaling that is the same at all places may stand between; the maximum changes nothing."""
    text = f"a = {operator}(x, d) b = Mul(a, {then or 'one'}) y = Conv<pads = [1, 1, 1, 1]>(b, w)"
    tensors = {"d": np.abs(random(*shape)) + 1, "w": random(4, 4, 3, 3), "one": np.array(1, np.float32)}
    before = graph_of(text, "float[N,4,6,7] x", s=random(4, 1, 1), **tensors)
    after = apply_passes(before, ["apart"])
    assert operators(after) == [operator, "Mul", *["Max"] * parted, "Conv"]
    x = -np.abs(random(2, 4, 6, 7))
    np.testing.assert_array_equal(answer(after, {"x": x}), answer(before, {"x": x}))


@pytest.mark.parametrize(("channels", "made", "parted"), [(1, 1, True), (1, 2, False), (2, 1, False)])
def test_a_maximum_parts_one_channel_from_what_is_added_to_it(channels, made, parted):
    text = "c = Conv<pads = [1, 1, 1, 1]>(x, w) r = Relu(c) y = Add(c, r)"
    before = graph_of(text, f"float[N,{channels},2,3] x", w=random(made, channels, 3, 3))
    after = apply_passes(before, ["apart"])
    assert operators(after) == ["Conv", *["Max"] * parted, "Relu", "Add"]
    x = random(2, channels, 2, 3)
    np.testing.assert_array_equal(answer(after, {"x": x}), answer(before, {"x": x}))


@pytest.mark.parametrize("real", ["float", "float16"])
@pytest.mark.parametrize("form", ["", "<p = 1>", "<axis = 1>", "<p = 1, axis = 2>"])
def test_a_normalisation_by_a_norm_becomes_a_division(form, real):
    before = graph_of(f"n = LpNormalization{form}(x) y = Cast<to = 1>(n)", f"{real}[2,3,4,5] x")
    after = apply_passes(before, ["norms"])
    assert "LpNormalization" not in operators(after)
    x = random(2, 3, 4, 5)
    x[0], x[1, :, 0], x[1, 0, :, 0] = 0, 0, 0
    x = x.astype(np.float16 if real == "float16" else np.float32)
    order, axis = 1 if "p = 1" in form else 2, int(form[form.index("axis") + 7]) if "axis" in form else -1
    norm = np.linalg.norm(x.astype(float), order, axis, keepdims=True)
    expected = np.divide(x, norm, where=norm != 0, out=np.zeros(x.shape))
    assert_close(answer(after, {"x": x}), expected, 2e-3 if real == "float16" else 1e-6)


@pytest.mark.parametrize(("form", "order"), [("", 2), ("<p = 1>", 1), ("<p = 3>", 3)])
def test_a_pool_by_a_norm_over_whole_maps_becomes_the_norm(form, order):
    before = graph_of(f"y = GlobalLpPool{form}(x)", "float[2,3,4,5] x")
    after = apply_passes(before, ["norms"])
    assert ("GlobalLpPool" in operators(after)) == (order > 2)
    x = random(2, 3, 4, 5)
    expected = (np.abs(x.astype(float)) ** order).sum((2, 3), keepdims=True) ** (1 / order)
    assert_close(answer(after, {"x": x}), expected, 1e-6)


@pytest.mark.parametrize("rules", ["guided", "gradient"])
def test_masks_have_an_offset_that_openvino_does_not_take_for_another(rules):
    """Of 0 it makes 0.5: half of a signal would pass where it is stopped."""
    graph = explain_graph(compile_pair(load(network(size="22,22")), semantics=rules), runtime="openvino")
    masks = [n for n in graph.proto.graph.node if n.op_type == "HardSigmoid"]
    offsets = [helper.get_attribute_value(a) for n in masks for a in n.attribute if a.name == "beta"]
    assert len(offsets) == len(masks) > 0
    assert all(-(2.0**-120) < offset < 0 for offset in offsets)


def test_a_copy_of_a_large_weight_has_bytes_of_its_own(tmp_path, monkeypatch):
    """OpenVINO takes two tensors for one if they lie at one place of a file."""
    monkeypatch.setattr("onnx_deconv.compiler.package.ONE_FILE", 1000)
    body = "c = Conv<pads=[1,1,1,1]>(x, w) r = Relu(c) y = GlobalAveragePool(r)"
    pair = compile_pair(load(model(body, {"w": random(16, 16, 3, 3)}, "N,16,8,8")))
    for passes, times in (((), 1), (("copies",), 2)):
        files = {f.name: f.stat().st_size for f in explain_graph(pair, passes=passes).save(tmp_path)}
        assert files["weights.bin"] == times * 16 * 16 * 3 * 3 * 4


def test_arithmetic_on_known_sizes_becomes_constant():
    text = """
        s = Shape(x) h = Gather(s, two) w = Gather(s, three) hw = Mul(h, w) u = Unsqueeze(hw, zero)
        n = Shape<start = 0, end = 1>(x) t = Concat<axis = 0>(n, four, u) y = Reshape(x, t)
    """
    numbers = {"two": 2, "three": 3, "zero": [0], "four": [4]}
    tensors = {name: np.array(value) for name, value in numbers.items()}
    free, fixed = (graph_of(text, f"float[{n},4,6,7] x", **tensors) for n in ("N", 2))
    x = random(2, 4, 6, 7)
    for proto, left in ((free, {"Shape", "Concat", "Reshape"}), (fixed, {"Reshape"})):
        made = apply_passes(proto, ["sizes"])
        assert set(operators(made)) == left
        np.testing.assert_array_equal(answer(made, {"x": x}), answer(proto, {"x": x}))


def test_numbers_that_depend_on_the_image_stay():
    proto = graph_of("m = ReduceMax<keepdims = 0>(x) i = Cast<to = 7>(m) f = Cast<to = 1>(i) y = Mul(x, f)")
    made = apply_passes(proto, ["sizes"])
    assert operators(made) == operators(proto)


@pytest.mark.parametrize(
    "pads", [[0, 0, -1, -2, 0, 0, -1, 0], [0, 0, 1, -2, 0, 0, -1, 3], [0, 0, -1, 0, 0, 0, 0, 0]]
)
@pytest.mark.parametrize("value", ["", ", value"])
def test_a_pad_that_takes_away_becomes_a_slice(pads, value):
    tensors = {"pads": np.array(pads)} | ({"value": np.array(7, np.float32)} if value else {})
    proto = graph_of(f"y = Pad(x, pads{value})", **tensors)
    made, x = apply_passes(proto, ["crops"]), random(2, 4, 6, 7)
    held = {t.name: numpy_helper.to_array(t) for t in made.graph.initializer}
    assert "Slice" in operators(made)
    assert all((held[n.input[1]] >= 0).all() for n in made.graph.node if n.op_type == "Pad")
    np.testing.assert_array_equal(answer(made, {"x": x}), answer(proto, {"x": x}))


@pytest.mark.parametrize("more", ["", ', coordinate_transformation_mode = "asymmetric"'])
def test_a_resize_of_its_last_axes_is_told_the_sizes_of_all(more):
    text = f'y = Resize<axes = [2, 3], mode = "linear"{more}>(x, , , sizes)'
    plain = graph_of(text, sizes=np.array([9, 4]))
    whole = apply_passes(plain, ["axes"])
    (resize,) = (n for n in whole.graph.node if n.op_type == "Resize")
    assert "axes" not in [a.name for a in resize.attribute]
    for x in (random(1, 4, 6, 7), random(3, 4, 6, 7)):
        np.testing.assert_array_equal(answer(whole, {"x": x}), answer(plain, {"x": x}))


@pytest.mark.parametrize(
    "text",
    [
        'y = Resize<axes = [1, 2], mode = "linear">(x, , , sizes)',
        "y = Resize<axes = [2, 3]>(x, , scales)",
        "k = Shape(x) y = Resize(x, , , k)",
    ],
)
def test_other_resizes_stay(text):
    plain = graph_of(text, sizes=np.array([9, 4]), scales=np.float32([2, 2]))
    whole = apply_passes(plain, ["axes"])
    assert [n.SerializeToString() for n in whole.graph.node] == [
        n.SerializeToString() for n in plain.graph.node
    ]


def test_bytes_are_made_under_the_name_that_the_graph_gives_them():
    plain = graph_of("a = Abs(x) b = Cast<to = 2>(a) y = Identity(b)")
    plain.graph.output[0].type.tensor_type.elem_type = TensorProto.UINT8
    made = apply_passes(plain, ["bytes"])
    assert operators(made) == ["Abs", "Cast"]
    x = 100 * random(1, 4, 6, 7)
    np.testing.assert_array_equal(answer(made, {"x": x}), answer(plain, {"x": x}))


@pytest.mark.parametrize(("sizes", "count"), [([2, 2], 2), ([1, 1, 1, 1], 4), ([1, 3], None)])
def test_a_split_into_equal_parts_says_how_many(sizes, count):
    names = [f"p{k}" for k in range(len(sizes))]
    turned = ", ".join(reversed(names))
    text = f"{', '.join(names)} = Split<axis = 1>(x, sizes) y = Concat<axis = 1>({turned})"
    proto = graph_of(text, sizes=np.array(sizes))
    made, x = apply_passes(proto, ["parts"]), random(2, 4, 6, 7)
    (split,) = (node for node in made.graph.node if node.op_type == "Split")
    told = {a.name: a.i for a in split.attribute}
    assert told == {"axis": 1} | ({"num_outputs": count} if count else {})
    assert len(split.input) == (1 if count else 2)
    np.testing.assert_array_equal(answer(made, {"x": x}), answer(proto, {"x": x}))


def test_telephones_are_given_no_sizes_of_equal_parts():
    """On which onnxruntime's NNAPI provider (1.29) dies."""
    weights = {name: random(4, 3, 3, 3, seed=k) for k, name in enumerate("vw")} | {"u": random(5, 12, 1, 1)}
    body = """
        a = Conv(x, v) b = Conv(x, w) d = Concat<axis = 1>(a, b) e = Conv(x, v)
        f = Concat<axis = 1>(d, e) r = Relu(f) m = Conv(r, u) g = GlobalAveragePool(m) y = Flatten(g)
    """
    pair = compile_pair(load(model(body, weights, "1,3,8,9")))
    splits = [
        node for node in explain_graph(pair, runtime="mobile").proto.graph.node if node.op_type == "Split"
    ]
    assert sorted(len(node.input) for node in splits) == [1, 2]  # 4 and 4; 8 and 4
    with pytest.raises(ModelError, match="equal parts"):
        explain_graph(pair, runtime="mobile", passes=())


@pytest.mark.parametrize("pads", [[0, 1, 1, 0], [2, 1, 1, 1], [0, 0, 1, 2]])
@pytest.mark.parametrize("more", ["", ", output_padding = [1, 0]"])
def test_uneven_pads_of_a_transposed_convolution_become_even_ones_and_a_slice(pads, more):
    text = f"y = ConvTranspose<strides = [2, 2], pads = {pads}{more}>(x, w, b)"
    proto = graph_of(text, w=random(4, 3, 3, 3), b=random(3))
    made, x = apply_passes(proto, ["pads"]), random(2, 4, 6, 7)
    assert operators(made) == ["ConvTranspose", "Slice"]
    given = next(list(a.ints) for a in made.graph.node[0].attribute if a.name == "pads")
    assert given[:2] == given[2:]
    np.testing.assert_allclose(answer(made, {"x": x}), answer(proto, {"x": x}), rtol=0, atol=1e-5)


def trimmed(text, pads, **tensors):
    """A graph of the backward pass, before and after the pass."""
    proto = graph_of(text, w=random(4, 3, 3, 3), pads=np.array(pads), **tensors)
    for node in proto.graph.node:
        node.name = f"deconv/{node.output[0]}"
    return proto, apply_passes(proto, ["trims"])


@pytest.mark.parametrize("cut", [[0, 0, 0, 0, 0, 0, -1, -1], [0, 0, -1, 0, 0, 0, -2, -3]])
@pytest.mark.parametrize("more", ["", "<pads = [1, 0, 0, 2]>", "<strides = [2, 2], output_padding = [1, 0]>"])
def test_a_pad_that_cuts_a_transposed_convolution_becomes_its_pads(cut, more):
    proto, made = trimmed(f"c = ConvTranspose{more}(x, w) y = Pad(c, pads)", cut)
    assert operators(made) == ["ConvTranspose"]
    x = random(2, 4, 6, 7)
    np.testing.assert_allclose(answer(made, {"x": x}), answer(proto, {"x": x}), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("text", "pads"),
    [
        ("c = ConvTranspose(x, w) y = Pad(c, pads)", [0, 0, -1, 0, 0, 0, 1, 0]),  # adds as well
        ("c = ConvTranspose(x, w) y = Pad(c, pads)", [0, -1, 0, 0, 0, 0, 0, 0]),  # cuts off channels
        (
            "c = ConvTranspose(x, w) p = Pad(c, pads) s = ReduceSum(c) y = Mul(p, s)",
            [0, 0, 0, 0, 0, 0, -1, 0],
        ),
        ("c = Relu(x) y = Pad(c, pads)", [0, 0, 0, 0, 0, 0, -1, 0]),
    ],
)
def test_other_pads_stay(text, pads):
    proto, made = trimmed(text, pads)
    assert operators(made) == operators(proto)


# --- profiles ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("runtime", PROFILES)
def test_a_graph_for_a_runtime_explains_as_the_library_does(runtime, batch):
    x = random(batch, 3, 12, 14)
    net = load(network(), {"x": x.shape})
    graph = explain_graph(compile_pair(net), runtime=runtime)
    targets = np.arange(batch)
    found = explained(graph, {"x": x, "target": targets})
    expected = [e.reconstruction for e in Explainer(net, providers="cpu")(x, targets.tolist(), seed="one")]
    assert_close(found["reconstruction"], expected, 1e-6)
    np.testing.assert_array_equal(found["explained"], targets)
    assert graph.manifest["runtime"] == runtime
    indices = [n for n in graph.proto.graph.node if n.op_type == "MaxPool" and len(n.output) > 1]
    assert not (runtime in BY_INDICES and indices)


def gated(real):
    """Conv, HardSwish spelled out, overlapping windows, a classifier."""
    body = """
        c = Conv<pads = [1, 1, 1, 1]>(x, w) a = Add(c, three) b = Clip(a, zero, six) m = Mul(c, b)
        h = Div(m, six) p = MaxPool<kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1]>(h)
        d = Conv<group = 4>(p, k) r = Relu(d) g = GlobalAveragePool(r) f = Flatten(g) y = Gemm(f, v)
    """
    weights = {"w": random(4, 3, 3, 3), "k": random(4, 1, 3, 3), "v": random(4, 5)}
    weights |= {
        name: np.array(number, np.float32) for name, number in (("three", 3), ("zero", 0), ("six", 6))
    }
    proto = onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["": 18]> g ({real}[1,3,12,13] x) => ({real}[] y) {{ {body} }}'
    )
    dtype = np.float16 if real == "float16" else np.float32
    proto.graph.initializer.extend(numpy_helper.from_array(a.astype(dtype), n) for n, a in weights.items())
    return proto


@pytest.mark.parametrize("rules", ["deconvnet", "guided", "gradient"])
@pytest.mark.parametrize("real", ["float", "float16"])
@pytest.mark.parametrize("runtime", PROFILES)
def test_companions_of_float16_are_brought_to_runtimes_too(runtime, real, rules):
    net = load(gated(real))
    full, half = (
        compile_pair(net, semantics=Semantics(rules, precision=precision))
        for precision in ("float32", "float16")
    )
    x = random(1, 3, 12, 13).astype(np.float16 if real == "float16" else np.float32)
    feeds = {"x": x, "target": np.array([2])}
    found = explained(explain_graph(half, runtime=runtime), feeds)["reconstruction"]
    expected = explained(explain_graph(full, passes=()), feeds)["reconstruction"]
    assert found.dtype == np.float16
    assert_close(found.astype(np.float32), expected, 5e-3)


@pytest.mark.parametrize("opset", [11, 17])
def test_normalisations_of_float16_of_old_models_explain_as_the_library_does(opset):
    """Raised to opset 18 as they are, onnxruntime writes them with constants of float32, and refuses them."""
    text = "m = MeanVarianceNormalization(x) c = Conv(m, w) r = Relu(c) y = GlobalAveragePool(r)"
    proto = onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["": {opset}]> g (float16[2,3,8,8] x) => (float16[] y) {{ {text} }}'
    )
    proto.graph.initializer.append(numpy_helper.from_array(random(5, 3, 3, 3).astype(np.float16), "w"))
    net, x = load(proto), random(2, 3, 8, 8).astype(np.float16)
    found = explained(explain_graph(compile_pair(net)), {"x": x, "target": np.array([4, 2])})
    explanations = Explainer(net, providers="cpu")(x, [4, 2], seed="one")
    assert_close(found["reconstruction"], np.stack([e.reconstruction for e in explanations]), 2e-3)


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("runtime", [*BY_INDICES, "openvino"])
def test_no_form_of_a_pool_is_left_its_indices(runtime, batch):
    """Overlapping windows of few channels, which the passes for CPUs leave their switches."""
    pool = "MaxPool<kernel_shape=[3,3], strides=[1,2], pads=[1,1,1,1]>"
    body = f"c = Conv(x, w) r = Relu(c) p = {pool}(r) y = Neg(p)"
    net = model(body, {"w": random(4, 3, 1, 1)}, f"{batch},3,9,8")
    graph = explain_graph(compile_pair(load(net)), seed="map", runtime=runtime)
    assert all(len(n.output) == 1 for n in graph.proto.graph.node if n.op_type == "MaxPool")


@pytest.mark.parametrize("runtime", ["onnxruntime", *BY_INDICES])
def test_pools_of_old_models_of_a_free_number_of_images_lose_their_indices_too(runtime):
    """Before opset 10 there is no Mod, and what is left of a division is written in other words."""
    net = network(size="12,14")
    del net.opset_import[:]
    net.opset_import.append(helper.make_opsetid("", 9))
    made = load(net) if PROFILES[runtime].sizes != "all" else load(net, {"x": (2, 3, 12, 14)})
    graph = explain_graph(compile_pair(made), runtime=runtime)
    assert all(len(n.output) == 1 for n in graph.proto.graph.node if n.op_type == "MaxPool")
    x, targets = random(2, 3, 12, 14), np.array([4, 2])
    found = explained(graph, {"x": x, "target": targets})["reconstruction"]
    explanations = Explainer(net, providers="cpu")(x, targets.tolist(), seed="one")
    expected = np.stack([e.reconstruction for e in explanations])
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6 * np.abs(expected).max())


@pytest.mark.parametrize(
    ("runtime", "text", "why"),
    [
        ("web", "y, i = MaxPool<kernel_shape = [2, 2]>(x)", "MaxPool .* gives the indices"),
        ("tensorrt", "y, i = MaxPool<kernel_shape = [2, 2]>(x)", "MaxPool .* gives the indices"),
        ("tensorrt", "s = Shape(x) k = Slice(s, one, two) y, i = TopK(x, k)", "TopK .* not constant"),
        ("tensorrt", "d = Size(x) j = Cast<to = 7>(x) y = OneHot(j, d, pair)", "OneHot .* not constant"),
        ("tensorrt", "b = Cast<to = 2>(x) t = Transpose(b) y = Cast<to = 1>(t)", "Transpose .* of uint8"),
        ("cuda", "y = ConvTranspose<pads = [0, 0, 1, 1]>(x, w)", "ConvTranspose .* other pads before"),
        (
            "cuda",
            "s = Shape(x) p = ReduceProd<keepdims = 0>(s) f = Cast<to = 1>(p) y = Mul(x, f)",
            "ReduceProd",
        ),
        (
            "cuda",
            "s = Shape<start = 3>(x) f = Cast<to = 1>(s) y = Mul(x, f)",
            "Cast .* makes real numbers",
        ),
        (
            "web",
            "y = ConvTranspose<group = 2>(x, g)",
            "ConvTranspose .* makes one channel",
        ),
        ("openvino", "y = HardSigmoid<beta = 0.0>(x)", "HardSigmoid .* an offset of 0"),
        (
            "openvino",
            "y = ConvTranspose<dilations = [2, 1], strides = [3, 1], output_padding = [2, 0]>(x, w)",
            "ConvTranspose .* is dilated",
        ),
        ("tract", "y = Pad(x, less)", "Pad .* takes away"),
        ("tract", "y = LpPool<kernel_shape = [2, 2]>(x)", "LpPool .* not known"),
        ("tract", "h = Cast<to = 10>(x) y = Gemm(h, h, h)", "Gemm .* adds in float16"),
        ("tract", "y = com.microsoft.QLinearAdd(x, x)", "QLinearAdd .* not one of the standard's"),
        ("tensorrt", "y = com.microsoft.QLinearAdd(x, x)", "QLinearAdd .* not one of the standard's"),
        ("tensorrt", "y = QLinearConv(x, w, w, w, w, w, w, w)", "QLinearConv .* not known"),
        ("tensorrt", "i = Cast<to = 6>(x) y = DequantizeLinear(i, w)", "DequantizeLinear .* of int32"),
        ("tract", "y = GlobalLpPool(x)", "GlobalLpPool .* computed wrongly"),
        ("openvino", "y = GlobalLpPool<p = 3>(x)", "GlobalLpPool .* a higher power than 2"),
        ("openvino", "y = LpNormalization(x)", "LpNormalization .* adds something"),
        ("tract", "c = Conv(x, w) y = Slice(c, one, many, two_, two_)", "Slice .* steps over"),
        ("tensorrt", "y = MaxPool<kernel_shape = [2, 2], dilations = [1, 2]>(x)", "MaxPool .* dilated"),
        ("tensorrt", "y = LpPool<kernel_shape = [2, 2], p = 3>(x)", "LpPool .* a higher power than 2"),
        ("tensorrt", "y = RoiAlign(x, boxes, images)", "RoiAlign .* by a plugin"),
        ("tract", "y = RoiAlign(x, boxes, images)", "RoiAlign .* not known"),
        (
            "cuda",
            "m = ReduceMax<keepdims = 0>(x) c = Cast<to = 7>(m) y = Range(zero, c, single)",
            "Range .* not of sizes alone",
        ),
        (
            "tensorrt",
            'i = Cast<to = 7>(x) y = ScatterElements<reduction = "add">(x, i, x)',
            "ScatterElements .* adds up",
        ),
    ],
)
def test_what_a_runtime_does_not_take_is_named(runtime, text, why):
    tensors = {"one": np.array([1]), "two": np.array([2]), "pair": np.array([0, 1], np.float32)}
    tensors |= {"w": random(4, 3, 3, 3), "less": np.array([0, 0, 0, 0, 0, 0, 0, -1])}
    tensors |= {"g": random(4, 1, 3, 3), "many": np.array([99]), "two_": np.array([2])}
    tensors |= {"boxes": np.float32([[0, 0, 3, 3]]), "images": np.array([0])}
    tensors |= {"zero": np.array(0), "single": np.array(1)}
    proto = graph_of(text, **tensors)
    with pytest.raises(ModelError, match=f"{runtime} cannot run this graph: {why}"):
        check(proto, runtime)
    check(proto, "onnxruntime")


@pytest.mark.parametrize("size", ["H,W", "9,8"])
def test_the_companion_of_a_pair_on_a_gpu_reckons_with_no_input(size):
    """What the CUDA provider would copy: ConvTranspose with uneven pads, arithmetic on given shapes."""
    body = """
        c = Conv<strides = [2, 2], pads = [0, 0, 1, 1]>(x, w) r = Relu(c)
        p = MaxPool<kernel_shape = [3, 3]>(r) y = GlobalAveragePool(p)
    """
    pair = compile_pair(load(model(body, {"w": random(4, 3, 3, 3)}, f"N,3,{size}")))
    brought = pair_for(pair, "cuda")
    shapes = {i.name for i in brought.deconv.graph.input if i.name.endswith("/shape")}
    first = [n for n in brought.deconv.graph.node if n.input[:1] and n.input[0] in shapes]
    assert {n.op_type for n in first} <= {"ConstantOfShape"}
    x = random(2, 3, 9, 8)
    halves = [Session(p, pair.folder, "cpu") for p in (pair.forward, pair.deconv, brought.deconv)]
    taps = halves[0].run({"x": x})
    seed = np.eye(4, dtype=np.float32)[[1, 3], :, None, None]
    given = {i: v for i, v in taps.items() if i in {v.name for v in pair.deconv.graph.input}} | {"seed": seed}
    one, other = (numpy_of(half.run(given)["reconstruction"]) for half in halves[1:])
    assert one.any()
    assert_close(other, one, 1e-6)


def rounded():
    """Filters, a rectifier and a pool of windows side by side, between quantisers to eight bits."""
    body = """
        q = QuantizeLinear(x, scale, zero) a = DequantizeLinear(q, scale, zero)
        u = DequantizeLinear(w, scale, zero) c = Conv(a, u) r = Relu(c) k = QuantizeLinear(r, scale, zero)
        b = DequantizeLinear(k, scale, zero) p = MaxPool<kernel_shape = [3, 3], strides = [2, 2]>(b)
        t = DequantizeLinear(v, scale, zero) e = Conv(p, t) y = GlobalAveragePool(e)
    """
    rng = np.random.default_rng(0)
    weights = {"scale": np.array(1 / 16, np.float32), "zero": np.array(0, np.int8)}
    weights["w"] = rng.integers(-8, 9, (16, 3, 3, 3)).astype(np.int8)
    weights["v"] = rng.integers(-8, 9, (5, 16, 1, 1)).astype(np.int8)
    return model(body, weights, "1,3,18,18")


def test_graphs_for_openvino_round_by_arithmetic_alone():
    """Where it sees a quantiser it moves scales and roundings, also into the backward pass."""
    pair = compile_pair(load(rounded()), semantics="guided")
    for_cpus, ours = (explain_graph(pair, runtime=runtime) for runtime in ("onnxruntime", "openvino"))
    assert "QuantizeLinear" in operators(for_cpus.proto)
    assert not {"QuantizeLinear", "DequantizeLinear"} & {*operators(ours.proto)}
    feeds = {"x": random(1, 3, 18, 18), "target": np.array([3])}
    found, expected = (explained(graph, feeds)["reconstruction"] for graph in (ours, for_cpus))
    assert_close(found, expected)


@pytest.mark.parametrize("real", ["float", "float16"])
@pytest.mark.parametrize("axis", [None, 1, -1])
@pytest.mark.parametrize(
    ("dtype", "zeros"),
    [(np.uint8, ""), *((dtype, "zero") for dtype in (np.uint8, np.int8, np.uint16, np.int16))],
)
def test_a_quantiser_becomes_what_the_standard_defines_it_as(dtype, axis, zeros, real):
    """Halves are rounded to even numbers, and what is beyond the levels is cut off."""
    n = 1 if axis is None else 4
    low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
    scales, zero = np.array([0.5, 2, 1, 0.25])[:n], np.array([3, 0, 1, high])[:n].astype(dtype)
    x = np.array([-1e4, -2.5, -0.25, 0, 0.5, 0.75, 1, 1.5, 2.5, 3, 77, 1e4]).repeat(4).reshape(1, 12, 4)
    x = x.transpose(0, 2, 1) if axis == 1 else x
    tensors = {"s": scales.astype(np.float16 if real == "float16" else np.float32)}
    tensors |= {"zero": zero} if zeros else {}
    tensors = {name: array.reshape(()) if axis is None else array for name, array in tensors.items()}
    more = f"<axis = {axis}>" if axis is not None else ""
    text = f"q = QuantizeLinear{more}(x, s{', zero' if zeros else ''}) y = Cast<to = 1>(q)"
    before = graph_of(text, f"{real}[{','.join(map(str, x.shape))}] x", 21, **tensors)
    after = apply_passes(before, ["levels"])
    assert "QuantizeLinear" not in operators(after)
    found = answer(after, {"x": x.astype(np.float16 if real == "float16" else np.float32)})
    along = [1, -1, 1] if axis == 1 else [-1]
    levels = np.rint(x / scales.reshape(along)) + (zero.astype(float).reshape(along) if zeros else 0)
    np.testing.assert_array_equal(found, np.clip(levels, low, high))


@pytest.mark.parametrize("real", ["float", "float16"])
@pytest.mark.parametrize("stored", [False, True])
@pytest.mark.parametrize("axis", [None, 1, -1])
@pytest.mark.parametrize(
    ("dtype", "zeros"),
    [(np.int32, ""), (np.uint8, ""), (np.uint8, "zero"), (np.int8, "zero"), (np.uint16, "zero")],
)
def test_what_puts_levels_back_becomes_what_the_standard_defines_it_as(dtype, zeros, axis, stored, real):
    n, most = 1 if axis is None else 4, min(np.iinfo(dtype).max, 1000)
    scales, zero = np.array([0.5, 2, 1, 0.25])[:n], np.array([3, 0, 1, most])[:n].astype(dtype)
    levels = np.array([0, 1, 2, 77, most - 1, most]).astype(dtype)
    levels = levels.repeat(4).reshape(1, 6, 4)
    levels = levels.transpose(0, 2, 1).copy() if axis == 1 else levels
    tensors = {"s": scales.astype(np.float16 if real == "float16" else np.float32)}
    tensors |= {"zero": zero} if zeros else {}
    tensors = {name: array.reshape(()) if axis is None else array for name, array in tensors.items()}
    more = f"<axis = {axis}>" if axis is not None else ""
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    read = "x" if not stored else "k"
    text = f"q = DequantizeLinear{more}({read}, s{', zero' if zeros else ''}) y = Cast<to = 1>(q)"
    inputs = f"{TensorProto.DataType.Name(kind).lower()}[{','.join(map(str, levels.shape))}] x"
    before = graph_of(text, inputs, 21, **tensors, **({"k": levels} if stored else {}))
    after = apply_passes(before, ["levels"])
    assert "DequantizeLinear" not in operators(after)
    along = [1, -1, 1] if axis == 1 else [-1]
    less = zero.astype(float).reshape(along) if zeros else 0
    expected = (levels - less) * scales.reshape(along)
    np.testing.assert_array_equal(answer(after, {"x": levels}), expected.astype(tensors["s"].dtype))


def test_a_quantiser_of_unknown_form_stays_and_is_refused():
    text = "q = QuantizeLinear<block_size = 2, axis = 1>(x, s) y = Cast<to = 1>(q)"
    proto = apply_passes(graph_of(text, opset=21, s=np.ones((1, 2, 6, 7), np.float32)), ["levels"])
    assert "QuantizeLinear" in operators(proto)
    with pytest.raises(ModelError, match="openvino cannot run this graph: QuantizeLinear"):
        check(proto, "openvino")


@pytest.mark.parametrize("size", ["12,13", "H,W"])
@pytest.mark.parametrize("batch", [1, "N"])
def test_switches_of_bytes_are_those_of_the_same_numbers_in_float32(batch, size):
    """Where all bytes are 0, onnxruntime (1.22 to 1.28) gives any place for that of the maximum."""
    text = """
        b = Cast<to = 2>(x) m = MaxPool<kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1]>(b)
        f = Cast<to = 1>(m) c = Conv(f, w) y = GlobalAveragePool(c)
    """
    pair = compile_pair(load(model(text, {"w": random(5, 3, 1, 1)}, f"{batch},3,{size}")))
    made = {v: node for node in pair.forward.graph.node for v in node.output}
    (pool,) = (n for n in pair.forward.graph.node if n.op_type == "MaxPool" and len(n.output) > 1)
    assert made[pool.input[0]].attribute[0].i == TensorProto.FLOAT
    count = 1 if batch == 1 else 2
    x = np.random.default_rng(0).integers(0, 3, (count, 3, 12, 13)).astype(np.float32)
    switches = next(v for v in plain(pair.forward, {"x": x}).values() if v.dtype == np.int64 and v.ndim > 1)
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)), constant_values=-1)
    for at in np.ndindex(switches.shape):
        n, c, row, column = at
        window = padded[n, c, 2 * row : 2 * row + 3, 2 * column : 2 * column + 3]
        down, right = np.unravel_index(window.argmax(), window.shape)
        assert switches[at] == (c * 12 + 2 * row + down - 1) * 13 + 2 * column + right - 1


def joined():
    """A filter, a sum and parts put together, all of eight bits, and a pool of windows that overlap."""
    body = """
        q = QuantizeLinear(x, scale, zero) c = QLinearConv(q, scale, zero, w, scale, zero, scale, zero)
        d = com.microsoft.QLinearAdd(c, scale, zero, c, scale, zero, scale, zero)
        e = com.microsoft.QLinearConcat<axis = 1>(scale, zero, c, scale, zero, d, scale, zero)
        p = MaxPool<kernel_shape = [3, 3], strides = [2, 2]>(e) r = DequantizeLinear(p, scale, zero)
        t = DequantizeLinear(v, scale, zero) f = Conv(r, t) y = GlobalAveragePool(f)
    """
    rng = np.random.default_rng(0)
    weights = {"scale": np.array(1 / 16, np.float32), "zero": np.array(0, np.int8)}
    weights["w"] = rng.integers(-8, 9, (4, 3, 3, 3)).astype(np.int8)
    weights["v"] = rng.integers(-8, 9, (5, 8, 1, 1)).astype(np.int8)
    proto = model(body, weights, "1,3,17,17")
    proto.opset_import.add(domain="com.microsoft", version=1)
    return proto


@pytest.mark.parametrize("rules", ["deconvnet", "guided", "excitation"])
@pytest.mark.parametrize("runtime", ["onnxruntime", "web", "mobile", "openvino", "tract"])
def test_operators_of_onnxruntimes_own_are_spelled_out_where_they_are_not_known(runtime, rules):
    """Sizes behind them are known, so that no pool is left its indices."""
    pair = compile_pair(load(joined()), semantics=rules)
    graph, plain = (explain_graph(pair, **more) for more in ({"runtime": runtime}, {"passes": ()}))
    names = operators(graph.proto)
    assert ("QLinearConcat" in names) == (runtime in ("onnxruntime", "web", "mobile"))
    if runtime in (*BY_INDICES, "openvino"):
        assert all(len(n.output) == 1 for n in graph.proto.graph.node if n.op_type == "MaxPool")
    feeds = {"x": random(1, 3, 17, 17) * 4, "target": np.array([3])}
    expected = explained(plain, feeds)
    assert expected["reconstruction"].any()
    for name, found in explained(graph, feeds).items():
        assert_close(found, expected[name], 1e-5)


def test_what_the_tables_refuse_is_no_more_than_that():
    tensors = {"w": random(4, 3, 3, 3), "k": np.array([2]), "more": np.array([0, 0, 0, 0, 0, 0, 0, 1])}
    tensors |= {"each": random(4, 1, 3, 3), "some": random(4, 2, 3, 3)}
    text = """
        p = MaxPool<kernel_shape = [2, 2]>(x) a = ConvTranspose<group = 4>(p, each)
        b = ConvTranspose<group = 2>(a, some) c = ConvTranspose<pads = [1, 1, 1, 1]>(b, w)
        q = Pad(c, more) y, i = TopK(q, k)
    """
    for runtime in PROFILES:
        check(graph_of(text, **tensors), runtime)
        check(graph_of("a = HardSigmoid(x) y = HardSigmoid<beta = 0.1>(a)"), runtime)
        check(graph_of("i = Cast<to = 7>(x) y = ScatterElements(x, i, x)"), runtime)
        check(graph_of("c = Conv(x, w) y = Slice(c, k, k, k)", **tensors), runtime)
        check(graph_of("y = Slice(x, k, k, k, k)", **tensors), runtime)
        check(graph_of("h = Cast<to = 10>(x) a = Gemm(h, h) y = Gemm(x, x, x)"), runtime)
        check(
            graph_of(
                "s = Shape<start = 2, end = 3>(x) c = Squeeze(s) y = Range(zero, c, single)",
                zero=np.array(0),
                single=np.array(1),
            ),
            runtime,
        )
        if runtime != "tract":
            check(graph_of("y = LpPool<kernel_shape = [2, 2]>(x)"), runtime)


@pytest.mark.parametrize("rules", rule_tables())
@pytest.mark.parametrize("size", ["H,W", "15,14"])
def test_nothing_is_copied_from_a_gpu_to_the_cpu_whatever_is_free(rules, size):
    """What onnxruntime's CUDA provider has no kernel for is known; gates and strides bring it about."""
    body = """
        c = Conv<strides=[2,2], pads=[0,0,1,1]>(x, w) r = HardSwish(c) g = GlobalAveragePool(r) s = Conv(g, v)
        h = HardSigmoid(s) m = Mul(r, h) p = MaxPool<kernel_shape=[3,3], strides=[2,2]>(m)
        d = Conv<strides=[2,2], pads=[1,1,1,1]>(p, u) e = Relu(d) y = ReduceMean<keepdims=0>(e, axes)
    """
    weights = {
        "w": random(4, 3, 3, 3),
        "v": random(4, 4, 1, 1),
        "u": random(5, 4, 3, 3),
        "axes": np.array([2, 3]),
    }
    net = model(body, weights, f"N,3,{size}")
    graph = explain_graph(compile_pair(load(net), semantics=rules), runtime="cuda")
    x = random(2, 3, 15, 14)
    expected = [e.reconstruction for e in Explainer(net, rules, providers="cpu")(x, [1, 2], seed="one")]
    found = explained(graph, {"x": x, "target": np.array([1, 2])})["reconstruction"]
    assert_close(found, expected)


@pytest.mark.parametrize("channels", ["RGB", "BGR", "L"])
def test_bytes_of_pictures_and_heat_maps_stay_at_the_border(channels):
    depth = len(channels)
    net = load(model("c = Conv(x, w) y = Relu(c)", {"w": random(4, depth, 3, 3)}, f"1,{depth},9,8"))
    pixels = Preprocess(size=(9, 8), channels=channels)
    graph = explain_graph(compile_pair(net), runtime="tensorrt", preprocess=pixels, rendering="NCHW")
    kinds = [graph.proto.graph.input[0], *graph.proto.graph.output]
    assert sum(v.type.tensor_type.elem_type == TensorProto.UINT8 for v in kinds) == 2


def test_a_file_for_telephones_holds_no_weight_twice(tmp_path):
    """onnxruntime computes what is known as it writes that: a weight that is turned would be there twice."""
    net = load(
        model("c = Conv(x, w) r = Relu(c) y = GlobalAveragePool(r)", {"w": random(64, 32, 3, 3)}, "1,32,9,8")
    )
    graph = explain_graph(compile_pair(net), runtime="mobile")
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "explain.ort")
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.add_session_config_entry("session.save_model_format", "ORT")
    path = graph.save(tmp_path)[0]
    onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    assert (tmp_path / "explain.ort").stat().st_size < 1.5 * 64 * 32 * 3 * 3 * 4


@pytest.mark.parametrize("runtime", [name for name, profile in PROFILES.items() if profile.sizes != "any"])
def test_sizes_that_a_runtime_must_know_are_asked_for(runtime):
    with pytest.raises(
        InputError, match=rf"{runtime} needs all sizes.* of 'x'.*input_shapes={{'x': \(1, 3, 224, 224\)}}"
    ):
        explain_graph(compile_pair(load(network())), runtime=runtime)


def test_telephones_must_know_the_batch_too():
    with pytest.raises(InputError, match="all sizes of 'x'"):
        explain_graph(compile_pair(load(network(size="12,14"))), runtime="mobile")
    explain_graph(compile_pair(load(network(size="12,14"))), runtime="web")


@pytest.mark.parametrize(
    "runtime", [name for name, profile in PROFILES.items() if not profile.optional_target]
)
def test_an_optional_target_is_refused_where_it_would_be_ignored(runtime):
    with pytest.raises(InputError, match=f"{runtime} would ignore"):
        explain_graph(compile_pair(load(network(1, size="12,14"))), runtime=runtime, target_input="optional")


def test_no_runtime_goes_by_another_name():
    with pytest.raises(InputError, match=r"runtime='abacus': choose one of onnxruntime, cuda"):
        explain_graph(compile_pair(load(network())), runtime="abacus")


# --- telephones -------------------------------------------------------------------------------------


def test_what_telephones_take_follows_the_published_tables():
    """NNAPI has no ConvTranspose; the others want its weight constant, Core ML no output padding."""
    body = """
        a = Conv(x, w) b = ConvTranspose<output_padding = [1, 1], strides = [2, 2]>(a, w)
        c = ConvTranspose(a, w) d = ConvTranspose(a, x) e = Abs(b) f = Equal(b, b)
        y, i = MaxPool<kernel_shape = [2, 2]>(b)
    """
    proto = graph_of(body, "float[1,3,8,8] x", w=random(3, 3, 3, 3))
    found = {share.provider: share for share in shares(proto)}
    assert found["NNAPI"].left == {"ConvTranspose": 3, "Equal": 1, "MaxPool": 1}
    assert found["Core ML"].left == {"ConvTranspose": 2, "Abs": 1, "Equal": 1, "MaxPool": 1}
    assert found["XNNPACK"].left == {"ConvTranspose": 1, "Abs": 1, "Equal": 1, "MaxPool": 1}
    assert {(share.taken, share.nodes) for share in found.values()} == {(2, 7), (3, 7)}


def test_whole_numbers_are_left_to_the_cpu():
    proto = graph_of("y = Add(x, x)", "int64[2,3] x")
    assert [share.taken for share in shares(proto)] == [0, 0, 0]


def test_converting_for_telephones_says_how_much_each_provider_takes(tmp_path):
    onnx.save(network(batch=1, size="12,14"), tmp_path / "model.onnx")
    asked = [
        "convert",
        tmp_path / "model.onnx",
        "-o",
        tmp_path / "made",
        "--form",
        "explain",
        "--for",
        "mobile",
    ]
    code, stdout, stderr = command(*asked)
    assert code == 0, stderr
    nodes = sum(
        node.op_type != "Constant" for node in onnx.load(tmp_path / "made" / "explain.onnx").graph.node
    )
    for provider in ("NNAPI", "Core ML", "XNNPACK"):
        assert re.search(rf"{provider} takes \d+ of {nodes} nodes by its published table; not \d+ ", stdout)


# --- fixed sizes ------------------------------------------------------------------------------------


def test_sizes_that_are_given_are_written_down():
    proto = network()
    proto.graph.value_info.append(helper.make_tensor_value_info("r1", TensorProto.FLOAT, ["N", 4, "H", "W"]))
    net = load(proto, {"x": (2, 3, 12, 14)})
    pair = compile_pair(net)
    for made in (pair.forward, pair.deconv, explain_graph(pair).proto):
        infos = (*made.graph.input, *made.graph.output, *made.graph.value_info)
        known = {i.name for i in infos if all(d.dim_value for d in i.type.tensor_type.shape.dim)}
        assert known >= {v for node in made.graph.node for v in node.output if v}
        assert all(info.name in known for info in infos)
        onnx.checker.check_model(made, full_check=True)
    assert [d.dim_value for d in pair.forward.graph.input[0].type.tensor_type.shape.dim] == [2, 3, 12, 14]
    assert [d.dim_param for d in net.proto.graph.input[0].type.tensor_type.shape.dim] == ["N", "", "H", "W"]


def test_what_a_model_computes_from_given_sizes_is_constant_in_every_form():
    """The model makes the target of its Reshape itself, as exporters write ``x.view(x.size(0), -1)``."""
    body = """
        r = Relu(x) s = Shape(r) n = Gather(s, zero) u = Unsqueeze(n, axes)
        t = Concat<axis = 0>(u, rest) f = Reshape(r, t) y = MatMul(f, w)
    """
    weights = {"zero": np.array(0), "axes": np.array([0]), "rest": np.array([-1]), "w": random(12, 3)}
    proto, x = model(body, weights, "N,3,H,W"), random(2, 3, 2, 2)
    pair = compile_pair(load(proto, {"x": x.shape}))
    assert {"Shape", "Gather", "Concat"} <= {*operators(proto)}
    for made in (pair.forward, pair.deconv):
        assert not {"Shape", "Gather", "Concat"} & {*operators(made)}
    assert not {"Shape", "Concat"} & {*operators(explain_graph(pair).proto)}
    np.testing.assert_array_equal(answer(pair.forward, {"x": x}), answer(proto, {"x": x}))


@pytest.mark.parametrize("form", ["pair", "explain"])
def test_the_number_of_images_may_stay_free_where_sizes_are_given(tmp_path, form):
    onnx.save(network(), tmp_path / "model.onnx")
    more = ["--form", form, "--input-shape", "x:images,3,12,14"]
    code, _, stderr = command("convert", tmp_path / "model.onnx", "-o", tmp_path / "made", *more)
    assert code == 0, stderr
    made = onnx.load(tmp_path / "made" / ("forward.onnx" if form == "pair" else "explain.onnx"))
    dims = [d.dim_param or d.dim_value for d in made.graph.input[0].type.tensor_type.shape.dim]
    assert dims == ["images", 3, 12, 14]


@pytest.mark.parametrize("runtime", [name for name in PROFILES if name != "mobile"])
def test_graphs_of_a_free_number_of_images_explain_any(runtime):
    net = load(network(), {"x": ("N", 3, 12, 14)})
    graph, explainer = explain_graph(compile_pair(net), runtime=runtime), Explainer(net, providers="cpu")
    for batch in (1, 3):
        x, targets = random(batch, 3, 12, 14), np.arange(batch)
        found = explained(graph, {"x": x, "target": targets})["reconstruction"]
        expected = [e.reconstruction for e in explainer(x, targets.tolist(), seed="one")]
        assert_close(found, expected, 1e-6)


def test_a_number_of_images_that_the_file_fixes_is_made_free():
    net = load(network(batch=1, size="12,14"), {"x": ("N", 3, 12, 14)})
    x = random(2, 3, 12, 14)
    assert explained(explain_graph(compile_pair(net)), {"x": x})["reconstruction"].shape == x.shape


# --- command line -----------------------------------------------------------------------------------


def test_convert_writes_a_graph_for_a_runtime(tmp_path):
    onnx.save(network(), tmp_path / "model.onnx")
    more = ["--form", "explain", "--for", "web", "--input-shape", "x:1,3,12,14"]
    code, _, _ = command("convert", tmp_path / "model.onnx", "-o", tmp_path / "web", *more)
    assert code == 0
    assert "ScatterElements" not in operators(onnx.load(tmp_path / "web" / "explain.onnx"))


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--form", "explain", "--for", "tract"], "--input-shape"),
        (["--form", "explain", "--for", "openvino", "--target-input", "optional"], "ignore"),
        (["--for", "openvino"], "make an explain graph"),
    ],
)
def test_what_cannot_be_for_a_runtime_is_said_in_a_line(tmp_path, more, said):
    onnx.save(network(), tmp_path / "model.onnx")
    code, _, stderr = command("convert", tmp_path / "model.onnx", "-o", tmp_path / "made", *more)
    assert code == 2
    assert said in stderr
    assert not (tmp_path / "made" / "explain.onnx").exists()
