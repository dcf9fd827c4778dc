"""Excitation Backprop: the formula by hand, an independent oracle, and probabilities that add up.

What a unit has is handed on whole, so the probabilities at the image add up to the seed; where they cannot
(a constant won, or nothing but padding was looked at) the case says so.
"""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from operator_cases import CASES
from oracle import RefusedError, model_of, numbers, plain, send_back, session_of
from random_networks import nets, signed_nets, strongest_units
from shares import both
from small_networks import network as small_network
from zoo_files import ZOO

from onnx_deconv import Explainer, RuleError, Semantics, compile_pair, explain_graph, load
from onnx_deconv.compiler.explain_manifest import own_top
from onnx_deconv.errors import InputError
from onnx_deconv.operators import compared_tables, rule_tables
from onnx_deconv.runtime import Session, first_nan, numpy_of

WEIGHTS = {"w": np.float32([[2, -1], [1, 3], [-4, 0.5]]), "v": np.float32([[1], [2]])}
LOSSY = {
    "Conv<strides = [2, 1], pads = [1, 0, 0, 2]>": "the last windows see nothing but padding",
    "output_shape = [10, 11]": "nothing reaches the last row",
    "MaxUnpool": "what was not found by a pool is a constant",
    "Min(x, z, w)": "the constant wins",
    "tf_crop_and_resize": "what lies beyond the picture is a constant",
    'padding_mode = "zeros"': "what lies beyond the picture is a constant",
    "RoiAlign": "what lies beyond the picture is a constant",
}
"""Forms in which a constant takes a part of the probability, and why."""


def shared(proto, feeds, seed, **more):
    """Send a seed back; return what each input gets."""
    pair = session_of(proto, rules="excitation", **more)
    return send_back(pair, feeds, np.asarray(seed, np.float32))


def excited(body, weights, x, seed):
    x = np.float32(x)
    (found,) = shared(model_of(body, {"x": x.shape}, weights), {"x": x}, seed).values()
    return found


# --- the formula ----------------------------------------------------------------------------------


def test_equation_5_by_hand():
    # x = (1, 2, 3) makes h = relu(2 + 2 - 12, -1 + 6 + 1.5) = (0, 6.5), of which v makes 13.
    found = excited("a = Gemm(x, w) h = Relu(a) y = Gemm(h, v)", WEIGHTS, np.abs([[1, 2, 3]]), [[1]])
    # All of it goes to the second unit; x is counted from 1 on: (0, 1, 2), and its weights are -1, 3, 0.5.
    np.testing.assert_allclose(found, [[0, 3 / 4, 1 / 4]], atol=1e-7)


def test_activations_of_a_rectifier_are_taken_as_they_are():
    found = excited("r = Relu(x) y = Gemm(r, w)", WEIGHTS, [[1, 2, 3]], [[0.25, 0.75]])
    first, second = np.array([2, 2, 0]) / 4, np.array([0, 6, 1.5]) / 7.5
    np.testing.assert_allclose(found[0], 0.25 * first + 0.75 * second, rtol=1e-6)


def test_biases_take_no_part():
    weights = WEIGHTS | {"b": np.float32([100, -100])}
    with_bias = excited("r = Relu(x) y = Gemm(r, w, b)", weights, [[1, 2, 3]], [[0.25, 0.75]])
    without = excited("r = Relu(x) y = Gemm(r, w)", WEIGHTS, [[1, 2, 3]], [[0.25, 0.75]])
    np.testing.assert_array_equal(with_bias, without)


@pytest.mark.parametrize("activation", ["Tanh", "Elu", "LeakyRelu"])
def test_signed_activations_count_from_the_smallest_on(activation):
    x = np.float32([[-2, 0.5, 1], [0.25, -0.125, 3]])
    found = excited(f"a = {activation}(x) y = Gemm(a, w)", WEIGHTS, x, [[0, 1]] * 2)
    y = plain(model_of(f"y = {activation}(x)", {"x": x.shape}), {"x": x})["y"]
    parts = (y - y.min(1, keepdims=True)) * [[0, 3, 0.5]]
    np.testing.assert_allclose(found, parts / parts.sum(1, keepdims=True), atol=1e-6)


def test_what_nothing_excites_is_handed_on_evenly():
    negative = {"w": np.float32([[-2], [-1], [-4]])}
    found = excited("r = Relu(x) y = Gemm(r, w)", negative, [[1, 2, 5]], [[1]])
    np.testing.assert_allclose(found, np.array([[1, 2, 5]]) / 8, rtol=1e-6)  # as if its weights were equal
    silent = excited("r = Relu(x) y = Gemm(r, w)", {"w": np.float32([[3], [1], [0]])}, [[-1, -2, -5]], [[1]])
    np.testing.assert_allclose(silent, [[3 / 4, 1 / 4, 0]], rtol=1e-6, atol=1e-9)


def test_padding_excites_nothing():
    image, weights = {"x": (1, 1, 3, 3)}, {"w": np.ones((1, 1, 3, 3), np.float32)}
    padded = "p = Pad(x, pads) y = Conv(p, w)"
    pads = {"pads": np.array([0, 0, 1, 1, 0, 0, 1, 1])}
    feeds, seed = {"x": numbers(image["x"], "x")}, np.ones((1, 1, 3, 3))
    apart = shared(model_of(padded, image, weights | pads), feeds, seed)["reconstruction"]
    within = shared(model_of("y = Conv<pads = [1, 1, 1, 1]>(x, w)", image, weights), feeds, seed)[
        "reconstruction"
    ]
    np.testing.assert_allclose(apart, within, rtol=1e-5)
    np.testing.assert_allclose(apart.sum(), 9, rtol=1e-6)


@pytest.mark.parametrize(
    ("operator", "channels"),
    [
        ("Conv<strides = [2, 2], pads = [2, 2, 2, 2]>", (4, 3)),
        ("Conv<strides = [2, 2], pads = [0, 2, 0, 0]>", (4, 3)),
        ("ConvTranspose<strides = [3, 3]>", (3, 4)),
    ],
)
def test_results_that_depend_on_no_element_divide_by_something(operator, channels):
    """Windows on padding alone, and gaps between a transposed filter's windows."""
    proto = model_of(f"y = {operator}(x, w)", {"x": (1, 3, 4, 4)}, {"w": numbers((*channels, 2, 2), "w")})
    feeds = {"x": np.abs(numbers((1, 3, 4, 4), "x"))}
    pair = session_of(proto, rules="excitation")
    values = pair.run_forward(feeds)
    seed = np.ones(values["y"].shape(), np.float32)
    sent = {name: numpy_of(values[name]) for name in pair.reads} | {"seed": seed}
    assert first_nan(pair.pair.deconv, pair.pair.folder, sent, or_infinite=True, companion=True) is None


def test_terms_and_branches_share_by_their_activations():
    body = "r = Relu(x) d = Mul(r, three) y = Add(r, d)"
    found = excited(body, {"three": np.float32(3)}, [[1, 2]], [[1, 1]])
    np.testing.assert_allclose(found, [[1, 1]], rtol=1e-6)
    weights = {"w": np.float32([[1], [3]]), "two": np.float32([2])}
    joined = "r = Relu(x) d = Mul(r, two) c = Concat<axis = 1>(r, d) y = Gemm(c, w)"
    np.testing.assert_allclose(excited(joined, weights, [[5]], [[1]]), [[1]], rtol=1e-6)


def test_a_gate_gets_nothing():
    body = """g = GlobalAveragePool(x) s = Conv(g, w) t = Sigmoid(s) r = Relu(x) y = Mul(r, t)"""
    proto = model_of(body, {"x": (1, 2, 3, 3)}, {"w": numbers((2, 2, 1, 1), "w")})
    feeds = {"x": numbers((1, 2, 3, 3), "x")}
    seed = np.abs(numbers((1, 2, 3, 3), "seed"))
    np.testing.assert_array_equal(shared(proto, feeds, seed)["reconstruction"], seed)


def test_a_normalisation_of_negative_scale_is_part_of_its_filter():
    scale = {"s": np.float32([-2, 0.5]), "b": np.float32([1, 2]), "m": np.float32([0.5, -1])}
    weight = numbers((2, 3, 3, 3), "w")
    spread = np.float32([1, 4])
    folded = weight * (scale["s"] / np.sqrt(spread + 1e-5)).reshape(-1, 1, 1, 1)
    image, feeds, seed = {"x": (1, 3, 6, 6)}, {"x": numbers((1, 3, 6, 6), "x")}, np.abs(numbers((1, 2, 4, 4)))
    apart = "c = Conv(x, w) y = BatchNormalization(c, s, b, m, v)"
    found = shared(model_of(apart, image, {"w": weight, "v": spread, **scale}), feeds, seed)["reconstruction"]
    expected = shared(model_of("y = Conv(x, w)", image, {"w": folded}), feeds, seed)["reconstruction"]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-7)


# --- against the oracle ---------------------------------------------------------------------------


@settings(max_examples=40)
@given(net=signed_nets(), state=st.integers(0, 99))
def test_networks_of_signed_weights(net, state):
    x = np.random.default_rng(state).standard_normal((1, *net.shape)).astype(np.float32)
    found, expected, oracle, _ = both(net, x, "excitation")
    assume(oracle.closest > 1e-5 and oracle.steepest < 1e4)
    tolerance = 1e-5 * np.abs(expected).max() + 1e-6 * oracle.steepest
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)
    assert found.min() >= 0
    np.testing.assert_allclose(found.sum(dtype=np.float64), 1, atol=1e-5)


# --- probabilities add up -------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_form_of_every_operator_hands_on_all_that_it_gets(case):
    feeds = case.feeds()
    try:
        y = plain(case.proto(), feeds)["y"]
    except RefusedError:
        pytest.skip("the runtime refuses the model")
    seed = np.abs(numbers(np.shape(y), "seed"))
    try:
        found = shared(case.proto(), feeds, seed, inputs=list(case.inputs))
    except RuleError as error:
        refused = {"DeformConv", "ScatterElements", "ScatterND", "Gemm", "Einsum"} & {*str(error).split()}
        assert refused or "only its first output can be explained" in str(error)  # noqa: PT017
        return
    total = sum(part.sum(dtype=np.float64) for part in found.values())
    assert all(part.min() >= 0 for part in found.values()) or "cubic" in case.body
    if any(form in case.body for form in LOSSY):
        assert total < seed.sum() * (1 + 1e-5)
    else:
        np.testing.assert_allclose(total, seed.sum(), rtol=1e-5)


@settings(max_examples=60)
@given(net=nets(), state=st.integers(0, 99))
def test_networks_of_random_geometry(net, state):
    x = np.random.default_rng(state).uniform(0.1, 1, (2, *net.shape)).astype(np.float32)
    proto = net.model()
    seed = strongest_units(proto, net, x)
    pair = session_of(proto, net.last, rules="excitation")
    found = send_back(pair, {"image": x}, seed)["reconstruction"]
    np.testing.assert_allclose(found.sum((1, 2, 3), dtype=np.float64), 1, atol=1e-5)


@pytest.mark.parametrize(
    "name", ["squeezenet1.1-caffe2-fp32", "mobilenetv2-tflite", "efficientnet-lite0-pytorch"]
)
def test_on_real_models(name):
    path = ZOO / "models" / f"{name}.onnx"
    if not path.exists():
        pytest.skip(f"{path} is absent; set ONNX_DECONV_ZOO")
    explainer = Explainer(path, "excitation", providers="cpu")
    (shape,) = [explainer.model.type_of(i).shape for i in explainer.model.inputs]
    low, high = (-120, 130) if "squeezenet" in name else (-1, 1)
    x = np.random.default_rng(0).uniform(low, high, (2, *shape[1:])).astype(np.float32)
    for one in (found for k in (0, 1) for found in explainer(x[k : k + 1], top=2)):
        assert one.seed == "one"
        assert one.reconstruction.min() >= 0
        np.testing.assert_allclose(one.reconstruction.sum(dtype=np.float64), 1, atol=1e-5)


# --- as a table among others ----------------------------------------------------------------------


def test_a_batch_gives_what_its_images_give_alone():
    explainer = Explainer(load(small_network()), "excitation", providers="cpu")
    batch = numbers((3, 3, 16, 16), "batch")
    together = explainer(batch)
    for k, one in enumerate(together):
        alone = explainer(batch[k : k + 1])[0]
        np.testing.assert_allclose(one.reconstruction, alone.reconstruction, rtol=1e-5, atol=1e-9)
        np.testing.assert_allclose(one.reconstruction.sum(), 1, atol=1e-5)


def test_a_class_starts_from_its_score():
    explainer = Explainer(load(small_network()), "excitation", providers="cpu")
    (one,) = explainer(numbers((1, 3, 16, 16), "x"))
    assert explainer.class_maps == "maps"
    assert (one.layer, one.seed, one.note) == ("scores", "one", None)


def test_the_choice_of_rectifiers_does_not_matter():
    proto = model_of("a = Elu(x) y = Gemm(a, w)", {"x": (1, 3)}, WEIGHTS)
    feeds, seed = {"x": numbers((1, 3), "x")}, [[1, 0]]
    (expected,) = shared(proto, feeds, seed).values()
    (found,) = shared(proto, feeds, seed, activations="relu").values()
    np.testing.assert_array_equal(found, expected)


def test_half_precision_is_refused():
    with pytest.raises(InputError, match="shares are too small for precision='float16'"):
        Semantics("excitation", precision="float16")


def test_comparisons_leave_tables_of_relevance_out_unless_told():
    assert compared_tables()[:3] == ("deconvnet", "guided", "gradient")
    assert not {"excitation", "lrp", "lrp-epsilon", "lrp-gamma"} & set(compared_tables())
    assert {"excitation", "lrp", "lrp-epsilon", "lrp-gamma"} < set(rule_tables())


def test_fast_convolutions_are_kept_away_from_shares():
    """Of a large convolution on mostly silent channels: some units are excited by almost nothing."""
    body = "r = Relu(x) c = Conv<pads = [1, 1, 1, 1]>(r, w) d = Relu(c) y = GlobalAveragePool(d)"
    weight = numbers((256, 256, 3, 3), "w")
    proto = model_of(body, {"x": (1, 256, 28, 28)}, {"w": weight, "b": numbers((256,), "b")})
    x = numbers((1, 256, 28, 28), "x")
    x[:, :, :14] = -1
    graphs = {
        rules: explain_graph(compile_pair(load(proto), semantics=rules))
        for rules in ("excitation", "gradient")
    }
    tiled = {rules: any(n.op_type == "Split" for n in g.proto.graph.node) for rules, g in graphs.items()}
    assert tiled == {"excitation": False, "gradient": True}
    graph = graphs["excitation"]
    found = numpy_of(
        Session(graph.proto, graph.folder, "cpu").run({"x": x} | own_top(graph.manifest))["reconstruction"]
    )
    np.testing.assert_allclose(found.sum(dtype=np.float64), 1, atol=1e-5)


def test_an_input_that_gets_nothing_gets_zeros():
    proto = model_of("g = Sigmoid(z) y = Mul(x, g)", {"x": (1, 2, 3), "z": (1, 2, 3)})
    feeds = {"x": numbers((1, 2, 3), "x"), "z": numbers((1, 2, 3), "z")}
    found = shared(proto, feeds, np.ones((1, 2, 3)))
    np.testing.assert_array_equal(found["reconstruction/x"], np.ones((1, 2, 3)))
    np.testing.assert_array_equal(found["reconstruction/z"], np.zeros((1, 2, 3)))
