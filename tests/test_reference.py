"""The slow reference against finite differences, adjoint identities and other people's answers."""

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from operator_cases import CASES
from reference_rows import ACTIVATIONS, LINEAR, OTHERS, TRANSPOSED, Row, ints, model_of
from standard_evaluator import forward_values
from zoo_files import ZOO

from onnx_deconv.errors import (
    InputError,
    MissingRuleError,
    ModelError,
    RuleError,
    UnknownLayerError,
)
from onnx_deconv.operators import operators_by_key
from onnx_deconv.verification.reference import BACKWARD, ReferenceOptions, reference

GRADIENT = ReferenceOptions(rules="gradient")
DECONVNET = ReferenceOptions()
GUIDED = ReferenceOptions(rules="guided")


def explain(model, feeds, seed, options=DECONVNET, explained="y", **more):
    values = forward_values(model, feeds)
    return reference(model, values, explained, np.asarray(seed), options=options, **more)


# --- every operator against finite differences ----------------------------------------------------


def values_of(row, model, feeds):
    """The forward values, computed in other words where a row has them."""
    if not row.same_as:
        return forward_values(model, feeds)
    other = model_of(row.same_as, feeds)
    other.graph.initializer.extend(model.graph.initializer)
    return forward_values(other, feeds)


@pytest.mark.parametrize("row", [*LINEAR, *ACTIVATIONS, *OTHERS], ids=str)
def test_gradient_rules_equal_central_differences(row):
    model, feeds, rng = row.draw()
    values = values_of(row, model, feeds)
    seed = rng.normal(size=values["y"].shape)
    found = reference(model, values, "y", seed, options=GRADIENT)
    assert found.keys() == feeds.keys()
    for _ in range(3):
        step = {name: 1e-6 * rng.normal(size=value.shape) for name, value in feeds.items()}
        ahead, behind = (
            values_of(row, model, {name: feeds[name] + sign * step[name] for name in feeds})["y"]
            for sign in (1, -1)
        )
        expected = np.vdot(seed, ahead - behind) / 2e-6
        along = sum(np.vdot(found[name], step[name]) for name in feeds) / 1e-6
        assert along == pytest.approx(expected, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("row", LINEAR, ids=str)
def test_linear_operators_send_back_their_exact_transpose(row):
    model, feeds, rng = row.draw()
    values = values_of(row, model, feeds)
    origin = values_of(row, model, {name: np.zeros_like(value) for name, value in feeds.items()})
    seed = rng.normal(size=values["y"].shape)
    found = reference(model, values, "y", seed)
    across = np.vdot(values["y"] - origin["y"], seed)
    assert np.vdot(feeds["x"], found["x"]) == pytest.approx(across, rel=1e-10, abs=1e-10)


def test_every_operator_has_a_row():
    text = " ".join(row.text for row in [*LINEAR, *ACTIVATIONS, *OTHERS])
    stairs = {"Sign", "Ceil", "Round", "Hardmax"}
    quantisers = {"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear"}
    between_pixels = {"GridSample", "DeformConv"}  # the standard's evaluator rounds them to single precision
    assert {
        operator for operator in BACKWARD if f"{operator}(" not in text and f"{operator}<" not in text
    } == stairs | quantisers | between_pixels


NOT_COVERED: dict[str, str] = {}
"""Operators that have a rule and no row in the reference, each with the reason."""


def test_every_operator_with_a_rule_is_covered_but_for_those_with_a_reason():
    ruled = {
        f"{domain}.{name}".lstrip(".") for (domain, name), entry in operators_by_key().items() if entry.rule
    }
    without = ruled - set(BACKWARD)
    assert {"Sin", "Cos", "Softsign"} <= without
    assert {operator for operator in without if not is_differentiated(operator)} == set(NOT_COVERED)


def is_differentiated(operator):
    """Whether it is a function of one number, which needs no row."""
    nodes = [(case, node) for case in CASES for node in case.proto().graph.node if node.op_type == operator]
    case = next(case for case, node in nodes if len(case.proto().graph.node) == 1)
    model = model_of(case.body, case.feeds(), {}, case.opset)
    values = {name: array.astype(np.float64) for name, array in case.feeds().items()}
    try:
        reference(model, values | {"y": values["x"]}, "y", np.ones(case.inputs["x"]), options=GRADIENT)
    except MissingRuleError:
        return False
    return True


@pytest.mark.parametrize(
    ("operator", "slope"),
    [
        ("Sin", np.cos),
        ("Tan", lambda x: np.cos(x) ** -2),
        ("Sinh", np.cosh),
        ("Atan", lambda x: 1 / (1 + x**2)),
    ],
)
def test_a_function_of_one_number_needs_no_row(operator, slope):
    model = model_of(f"y = {operator}(x)", VECTOR)
    found = explain(model, VECTOR, [2.0, -3.0])["x"]
    np.testing.assert_allclose(found, [2, -3] * slope(VECTOR["x"]), rtol=1e-8)


@pytest.mark.parametrize(
    "text",
    ["y = LpNormalization(x)", "y = Softmax(x)", "y = Det(x)", "y = Cast<to = 1>(x)"],
)
def test_what_is_no_function_of_one_number_needs_one(monkeypatch, text):
    feeds = {"x": np.float64([[0.5, 1.0], [2.0, -1.0]])}
    model = model_of(text, feeds)
    operator = model.graph.node[0].op_type
    monkeypatch.delitem(BACKWARD, operator, raising=False)
    with pytest.raises(MissingRuleError, match=operator):
        explain(model, feeds, np.ones_like(forward_values(model, feeds)["y"]))


@pytest.mark.parametrize(
    "case", [c for c in CASES if c.torch is not None and len(c.proto().graph.node) == 1], ids=str
)
def test_gradient_rules_equal_those_of_torch(case):
    torch = pytest.importorskip("torch")
    model = model_of(case.body, case.feeds(), {}, case.opset)
    model.graph.initializer.extend(case.exact().graph.initializer)
    arrays = {name: array.astype(np.float64) for name, array in case.feeds().items()}
    weights = {name: torch.tensor(array.astype(np.float64)) for name, array in case.arrays().items()}
    tensors = {name: torch.tensor(array, requires_grad=True) for name, array in arrays.items()}
    y = case.torch(torch, tensors | weights)
    seed = np.random.default_rng(0).normal(size=y.shape)
    (y * torch.tensor(seed)).sum().backward()
    found = reference(model, arrays | {"y": y.detach().numpy()}, "y", seed, options=GRADIENT)
    assert found.keys() == case.feeds().keys()
    for name, signal in found.items():
        expected = tensors[name].grad.numpy()
        # Attributes are numbers of single precision.
        np.testing.assert_allclose(signal, expected, rtol=0, atol=1e-7 * np.abs(expected).max(initial=1.0))


@pytest.mark.parametrize(
    "text",
    [
        "q = QuantizeLinear(x, s, z) y = DequantizeLinear(q, t, z)",
        "q = QuantizeLinear<axis = 0>(x, ss, zz) y = DequantizeLinear<axis = 0>(q, tt, zz)",
        "q, k, n = DynamicQuantizeLinear(x) d = DequantizeLinear(q, k, n) y = Add(d, d)",
    ],
)
def test_quantisers_pass_the_signal_as_if_nothing_were_rounded(text):
    weights = {"s": np.float32(0.1), "t": np.float32(0.2), "z": np.uint8(99)}
    weights |= {"ss": np.full(4, 0.1, "f"), "tt": np.full(4, 0.2, "f"), "zz": np.full(4, 9, "u1")}
    proto = onnx.parser.parse_model(
        f'<ir_version: 10, opset_import: ["": 21]> g (float[4] x) => (float[4] y) {{ {text} }}'
    )
    proto.graph.initializer.extend(numpy_helper.from_array(np.asarray(a), n) for n, a in weights.items())
    x = np.float32([-1.5, -0.2, 0.4, 1.9])
    names = [v for n in proto.graph.node for v in n.output]
    values = dict(zip(names, onnx.reference.ReferenceEvaluator(proto).run(names, {"x": x}), strict=True))
    seed = np.array([1.0, -2.0, 3.0, 0.5])
    found = reference(proto, {"x": x, **values}, "y", seed, options=GRADIENT)
    np.testing.assert_allclose(found["x"], 2 * seed, rtol=1e-6)


def test_batch_normalization_of_single_positions_in_opset_7():
    scale, mean = np.arange(1.0, 13).reshape(2, 2, 3), np.zeros((2, 2, 3))
    weights = {"s": scale, "b": mean, "m": mean, "v": np.full((2, 2, 3), 0.25)}
    text = "y = BatchNormalization<spatial=0, epsilon=0.0>(x, s, b, m, v)"
    model = model_of(text, {"x": scale[None]}, weights, opset=7)
    seed = np.ones((1, 2, 2, 3))
    found = reference(model, {"x": seed, "y": seed}, "y", seed)
    np.testing.assert_allclose(found["x"], 2 * scale[None])


# --- unpooling ------------------------------------------------------------------------------------


def test_a_tie_goes_to_the_first_position_in_row_major_order():
    model = model_of("y = MaxPool<kernel_shape=[2,2]>(x)", {"x": np.zeros((1, 1, 3, 3))})
    found = explain(model, {"x": np.zeros((1, 1, 3, 3))}, [[[[1, 2], [4, 8]]]])
    np.testing.assert_array_equal(found["x"], [[[[1, 2, 0], [4, 8, 0], [0, 0, 0]]]])


@pytest.mark.parametrize(("unpool", "expected"), [("add", 15), ("overwrite", 8)])
def test_overlapping_windows_add_up_or_the_last_one_wins(unpool, expected):
    x = np.zeros((1, 1, 3, 3))
    x[0, 0, 1, 1] = 5
    model = model_of("y = MaxPool<kernel_shape=[2,2]>(x)", {"x": x})
    found = explain(model, {"x": x}, [[[[1, 2], [4, 8]]]], ReferenceOptions(unpool=unpool))
    np.testing.assert_array_equal(found["x"], expected * (x > 0))


def test_every_plane_of_a_batch_has_switches_of_its_own():
    x = np.arange(16.0).reshape(2, 2, 1, 4)
    x[1, 0] = x[1, 0, :, ::-1]
    model = model_of("y = MaxPool<kernel_shape=[1,4]>(x)", {"x": x})
    found = explain(model, {"x": x}, np.arange(1.0, 5).reshape(2, 2, 1, 1))
    expected = [[[[0, 0, 0, 1]], [[0, 0, 0, 2]]], [[[3, 0, 0, 0]], [[0, 0, 0, 4]]]]
    np.testing.assert_array_equal(found["x"], expected)


# --- rectification --------------------------------------------------------------------------------

POSITIVE = (
    "Relu",
    "Elu",
    "Selu",
    "Celu",
    "Softplus",
    "Swish",
    "HardSwish",
    "Gelu",
    "Mish",
    "ThresholdedRelu",
    "Clip<min=0.0",
)


def rectify(row, signal):
    """What a deconvnet makes of the signal, or None where the derivative applies."""
    if row.text.startswith("y = LeakyRelu"):
        return np.where(signal > 0, signal, signal * (0.3 if "alpha" in row.text else 0.01))
    if row.text.startswith("y = PRelu"):
        slope = numpy_helper.to_array(row.draw()[0].graph.initializer[0])
        return np.where(signal > 0, signal, signal * slope)
    rectifier = row.text.removeprefix("y = ").startswith(POSITIVE)
    return np.maximum(signal, 0) if rectifier else None


@pytest.mark.parametrize("row", ACTIVATIONS, ids=str)
def test_rectifiers_rectify_the_signal(row):
    model, feeds, rng = row.draw()
    values = forward_values(model, feeds)
    seed = rng.normal(size=values["y"].shape)

    def found(**options):
        return reference(model, values, "y", seed, options=ReferenceOptions(**options))["x"]

    gradient, expected = found(rules="gradient"), rectify(row, seed)
    if expected is None:
        np.testing.assert_array_equal(found(), gradient)
        np.testing.assert_array_equal(found(rules="guided"), gradient)
    else:
        np.testing.assert_allclose(found(), expected, rtol=1e-7)
        masked = expected * (feeds["x"] > 0)
        np.testing.assert_allclose(found(rules="guided"), masked, rtol=1e-7)
    if row.text != "y = Relu(x)":
        np.testing.assert_array_equal(found(activations="relu"), gradient)
        np.testing.assert_array_equal(found(rules="guided", activations="relu"), gradient)


def test_clip_from_zero_given_as_an_input_is_a_rectifier():
    x = np.array([-1.0, 0.5, 9.0])
    model = model_of("y = Clip(x, low)", {"x": x}, {"low": np.array(0.0)})
    np.testing.assert_array_equal(explain(model, {"x": x}, [1, -1, 2])["x"], [1, 0, 2])
    np.testing.assert_array_equal(explain(model, {"x": x}, [1, -1, 2], GUIDED)["x"], [0, 0, 2])


NUMBERS = {
    "zero": np.array(0.0),
    "half": np.array([0.5]),
    "one": np.array(1.0),
    "two": np.array(2.0),
    "three": np.array([[3.0]]),
    "six": np.array(6.0),
    "sixth": np.array(1 / 6),
    "root": np.array(np.sqrt(2)),
    "unroot": np.array(np.sqrt(0.5)),
    "minus": np.array(-1.0),
}

SPELLED = [
    "s = Sigmoid(x) y = Mul(x, s)",
    "s = Sigmoid(x) y = Mul(s, x)",
    "s = HardSigmoid<alpha=0.16666667, beta=0.5>(x) y = Mul(x, s)",
    "a = Add(x, three) c = Clip(a, zero, six) p = Mul(x, c) y = Div(p, six)",
    "a = Add(three, x) c = Clip(a, zero, six) p = Mul(c, x) y = Mul(sixth, p)",
    "a = Add(x, three) c = Clip(a, zero, six) p = Div(c, six) y = Mul(p, x)",
    "a = Add(x, three) c = Clip(a, zero, six) p = Mul(sixth, x) y = Mul(c, p)",
    "a = Add(x, three) m = Max(a, zero) c = Min(six, m) p = Mul(x, c) y = Div(p, six)",
    "d = Div(x, root) e = Erf(d) a = Add(e, one) p = Mul(x, a) y = Mul(p, half)",
    "d = Mul(x, unroot) e = Erf(d) a = Add(one, e) p = Mul(half, x) y = Mul(p, a)",
    "r = Sqrt(two) d = Div(x, r) e = Erf(d) a = Add(e, one) p = Mul(a, half) y = Mul(x, p)",
    "d = Div(x, root) e = Erf(d) f = Mul(e, half) a = Add(f, half) y = Mul(x, a)",
    "s = Softplus(x) t = Tanh(s) y = Mul(x, t)",
    "s = Softplus(x) t = Tanh(s) y = Mul(t, x)",
    "a = Max(x, zero) y = Min(a, six)",
    "a = Max(zero, x) y = Min(six, a)",
    "a = Min(x, six) y = Max(a, zero)",
    "h = Constant<value=double[1]{6.0}>() a = Min(h, x) y = Max(zero, a)",
]


def spelled(text):
    rng = np.random.default_rng(5)
    x, seed = rng.uniform(-8, 8, (2, 3, 5)), rng.normal(size=(2, 3, 5))
    return model_of(text, {"x": x}, NUMBERS), x, seed


@pytest.mark.parametrize("text", SPELLED)
def test_an_activation_spelled_in_several_nodes_is_one_rectifier(text):
    model, x, seed = spelled(text)
    rectified = np.maximum(seed, 0)
    np.testing.assert_array_equal(explain(model, {"x": x}, seed)["x"], rectified)
    masked = explain(model, {"x": x}, seed, GUIDED)["x"]
    np.testing.assert_array_equal(masked, rectified * (x > 0))
    relu_only = explain(model, {"x": x}, seed, ReferenceOptions(activations="relu"))["x"]
    np.testing.assert_array_equal(relu_only, explain(model, {"x": x}, seed, GRADIENT)["x"])


@pytest.mark.parametrize(
    "text",
    [
        "s = Sigmoid(x) y = Mul(s, s)",
        "s = Sigmoid(x) p = Mul(x, two) y = Mul(p, s)",
        "d = Mul(x, two) s = Sigmoid(d) y = Mul(x, s)",
        "n = Neg(x) s = Sigmoid(n) y = Mul(x, s)",
        "s = HardSigmoid(x) y = Mul(x, s)",
        "d = Div(x, two) e = Erf(d) a = Add(e, one) p = Mul(x, a) y = Mul(p, half)",
        "d = Div(x, root) e = Erf(d) a = Add(e, one) y = Mul(x, a)",
        "s = Softplus(x) t = Tanh(s) y = Mul(t, s)",
        "t = Tanh(x) y = Mul(t, x)",
        "a = Max(x, minus) y = Min(a, six)",
    ],
)
def test_what_only_looks_like_an_activation_keeps_its_true_derivative(text):
    model, x, seed = spelled(text)
    gradient = explain(model, {"x": x}, seed, GRADIENT)["x"]
    relu_only = explain(model, {"x": x}, seed, ReferenceOptions(activations="relu"))["x"]
    np.testing.assert_array_equal(relu_only, gradient)
    found = explain(model, {"x": x}, seed)["x"]
    if "Softplus" in text:  # a rectifier by itself
        assert not np.array_equal(found, np.maximum(seed, 0))
    else:
        np.testing.assert_array_equal(found, gradient)


def test_the_inside_of_a_spelled_activation_keeps_its_own_signal():
    model, x, seed = spelled("s = Sigmoid(x) a = Mul(x, s) y = Add(a, s)")
    gate = 1 / (1 + np.exp(-x))
    expected = np.maximum(seed, 0) + seed * gate * (1 - gate)
    np.testing.assert_allclose(explain(model, {"x": x}, seed)["x"], expected)


def test_a_spelled_activation_may_be_of_a_product():
    model, x, seed = spelled("c = Mul(x, half) s = Sigmoid(c) y = Mul(c, s)")
    np.testing.assert_array_equal(explain(model, {"x": x}, seed)["x"], np.maximum(seed, 0) / 2)


# --- normalisation and joins ----------------------------------------------------------------------


@pytest.mark.parametrize("rules", ["deconvnet", "guided", "gradient"])
def test_lrn_is_the_identity_for_a_deconvnet_alone_unless_told(rules):
    model, feeds, rng = Row("y = LRN<size=3, alpha=5.0>(x)").draw()
    seed = rng.normal(size=(2, 4, 5, 6))
    gradient = explain(model, feeds, seed, GRADIENT)["x"]
    assert not np.allclose(gradient, seed)
    for lrn, expected in {
        None: seed if rules == "deconvnet" else gradient,
        "identity": seed,
        "gradient": gradient,
    }.items():
        found = explain(model, feeds, seed, ReferenceOptions(rules=rules, lrn=lrn))["x"]
        np.testing.assert_array_equal(found, expected)


def test_of_equal_operands_the_first_receives_the_signal():
    feeds = {"x": np.array([1.0, 2.0, 3.0]), "z": np.array([1.0, 3.0, 2.0])}
    model = model_of("y = Max(x, z)", feeds)
    found = explain(model, feeds, [1, 1, 1])
    np.testing.assert_array_equal(found["x"], [1, 0, 1])
    np.testing.assert_array_equal(found["z"], [0, 1, 0])


# --- the walk -------------------------------------------------------------------------------------

VECTOR = {"x": np.array([1.0, -2.0])}


def test_signals_that_meet_are_summed():
    model = model_of("a = Neg(x) b = Add(a, x) y = Sum(b, x, x)", VECTOR)
    np.testing.assert_array_equal(explain(model, VECTOR, [1, 3])["x"], [2, 6])


def test_a_value_within_the_graph_is_explained_without_what_follows():
    model = model_of("a = Neg(x) y = Det(a)", VECTOR)
    values = VECTOR | {"a": -VECTOR["x"]}
    found = reference(model, values, "a", np.array([1.0, 3.0]))
    np.testing.assert_array_equal(found["x"], [-1, -3])


def test_the_input_explains_itself():
    model = model_of("y = Neg(x)", VECTOR)
    np.testing.assert_array_equal(explain(model, VECTOR, [1, 3], explained="x")["x"], [1, 3])


def test_only_the_inputs_that_were_reached_are_returned_unless_named():
    feeds = VECTOR | {"z": np.ones(3)}
    model = model_of("y = Neg(x)", feeds)
    assert explain(model, feeds, [1, 3]).keys() == {"x"}
    named = explain(model, feeds, [1, 3], inputs=["z", "x"])
    assert list(named) == ["z", "x"]
    np.testing.assert_array_equal(named["z"], [0, 0, 0])


def test_paths_from_other_inputs_need_no_rule():
    feeds = VECTOR | {"z": np.ones((1, 2))}
    model = model_of('d = Einsum<equation="ij->j">(z) y = Mul(x, d)', feeds)
    np.testing.assert_array_equal(explain(model, feeds, [1, 3], inputs=["x"])["x"], [1, 3])


def test_an_image_of_bytes_is_explained_when_it_is_named():
    x = np.array([3, 250], np.uint8)
    model = model_of("a = Cast<to=11>(x) y = Mul(a, a)", {"x": x})
    assert explain(model, {"x": x}, [1, 1]) == {}
    np.testing.assert_array_equal(explain(model, {"x": x}, [1, 1], inputs=["x"])["x"], [6, 500])


def test_all_operators_without_a_rule_are_named_at_once():
    square = {"x": np.float64([[1, 2], [3, 4]])}
    model = model_of("a = Det(x) b = CumSum(x, axis) y = Add(a, b)", square, {"axis": np.array(0)})
    with pytest.raises(MissingRuleError) as error:
        explain(model, square, np.ones((2, 2)))
    assert sorted(error.value.missing) == [("CumSum", "b"), ("Det", "a")]


def test_an_unknown_value_is_refused_with_the_close_ones():
    model = model_of("layer_one = Neg(x) y = Neg(layer_one)", VECTOR)
    with pytest.raises(UnknownLayerError, match="layer_one"):
        explain(model, VECTOR, [1, 3], explained="layer_on")


def test_a_seed_of_another_shape_is_refused():
    with pytest.raises(InputError, match="shape"):
        explain(model_of("y = Neg(x)", VECTOR), VECTOR, [1, 2, 3])


def test_a_forward_value_that_is_needed_and_absent_is_named():
    model = model_of("a = Neg(x) y = Exp(a)", VECTOR)
    with pytest.raises(ModelError, match="'a'"):
        reference(model, VECTOR | {"y": np.ones(2)}, "y", np.ones(2))


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("y = Conv(x, z)", "input 1"),
        ("m = Sigmoid(z) y = PRelu(x, m)", "input 1"),
        ("a, y = MaxPool<kernel_shape=[1,1]>(x)", "secondary"),
        ("y, m, v, a, b = BatchNormalization(x, w, w, w, w)", "training"),
        ('y = Resize<keep_aspect_ratio_policy="not_larger">(x, , w)', "aspect"),
        ("y = TopK<sorted=0>(x, k)", "no order"),
        ('y = ScatterElements<reduction="mul">(x, i, z)', "mul"),
        ("y = DeformConv(x, z, o)", "input 1"),
        ('y = Einsum<equation="aaaa->a">(x)', "twice"),
    ],
)
def test_unsupported_forms_are_refused_by_name(text, what):
    shape = (1, 1, 1, 1)
    feeds = {"x": np.ones(shape), "z": np.ones(shape)}
    weights = {"w": np.ones(4, np.float32), "k": ints(1), "i": ints(0).reshape(shape)}
    model = model_of(text, feeds, weights | {"o": np.zeros((1, 2, 1, 1))})
    values = feeds | {name: np.ones(shape) for name in ("y", "m", "a")}
    with pytest.raises(RuleError, match=what):
        reference(model, values, "y", np.ones(shape))


def test_training_is_refused():
    model = model_of(
        "y = Dropout(x, ratio, train)", VECTOR, {"ratio": np.float32(0), "train": np.array(True)}
    )
    with pytest.raises(RuleError, match="training"):
        reference(model, VECTOR | {"y": VECTOR["x"]}, "y", VECTOR["x"])


@pytest.mark.parametrize(
    "text",
    [
        "y = ConvTranspose<group=2>(x, w)",
        "y = ConvTranspose<output_shape=[9,9]>(x, w)",
        'y = MaxPool<kernel_shape=[2,2], auto_pad="SAME_LOWER">(x)',
    ],
)
def test_forward_values_refuses_what_the_evaluator_computes_wrongly(text):
    model, feeds, _ = Row(text, weights=TRANSPOSED).draw()
    with pytest.raises(RuleError, match="onnxruntime"):
        forward_values(model, feeds)


# --- other people's answers -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ("deconvnet", [[2, 3, 3, 1], [3, 5, 5, 2], [3, 5, 5, 2], [1, 2, 2, 1]]),
        ("guided", [[0, 1, 1, 1], [1, 3, 3, 2], [1, 3, 3, 2], [1, 2, 2, 1]]),
    ],
)
def test_the_exact_case_of_captum(rules, expected):
    x = np.arange(16.0).reshape(1, 1, 4, 4)
    units = np.outer(np.ones(4), [1, 1, 1, 1, 1, -1, -1, -1])
    weights = {"w": np.ones((2, 1, 3, 3)), "b": np.array([-50.0, -75.0]), "units": units}
    text = "a = Conv(x, w, b) r = Relu(a) f = Flatten(r) g = Gemm<transB=1>(f, units) y = Relu(g)"
    model = model_of(text, {"x": x}, weights)
    found = explain(model, {"x": x}, [[1, 0, 0, 0]], ReferenceOptions(rules=rules))
    np.testing.assert_array_equal(found["x"][0, 0], expected)


INNVESTIGATE = {
    "Dense": "a = MatMul(x, k) h = Add(a, b)",
    "Dense_relu": "a = MatMul(x, k) c = Add(a, b) h = Relu(c)",
    "Conv2D": "n = Transpose<perm=[0,3,1,2]>(x) k2 = Transpose<perm=[3,2,0,1]>(k)"
    " c = Conv(n, k2, b) h = Transpose<perm=[0,2,3,1]>(c)",
    "Conv2D_relu": "n = Transpose<perm=[0,3,1,2]>(x) k2 = Transpose<perm=[3,2,0,1]>(k)"
    " c = Conv(n, k2, b) r = Relu(c) h = Transpose<perm=[0,2,3,1]>(r)",
    "MaxPooling2D": "n = Transpose<perm=[0,3,1,2]>(x)"
    " c = MaxPool<kernel_shape=[2,2], strides=[2,2]>(n) h = Transpose<perm=[0,2,3,1]>(c)",
    "AveragePooling2D": "n = Transpose<perm=[0,3,1,2]>(x)"
    " c = AveragePool<kernel_shape=[2,2], strides=[2,2]>(n) h = Transpose<perm=[0,2,3,1]>(c)",
}


@pytest.mark.parametrize("layer", INNVESTIGATE)
def test_the_six_layers_of_innvestigate(layer):
    h5py = pytest.importorskip("h5py")
    path = ZOO / "oracles" / "innvestigate_Deconvnet.hdf5"
    if not path.exists():
        pytest.skip(f"{path} is absent")
    with h5py.File(path) as file:
        x, held = file["input"][()].astype(np.float64), file[layer]
        weights = [held["weights"][key][()].astype(np.float64) for key in held["weights"]]
        output, expected = held["output"][()], held["attribution"][()]
    named = dict(zip("kb", weights, strict=False))
    model = model_of(INNVESTIGATE[layer] + " y = Flatten(h)", {"x": x}, named)
    values = forward_values(model, {"x": x})
    np.testing.assert_allclose(values["y"], output, rtol=1e-5, atol=1e-6)
    strongest = values["y"].argmax(1)[:, None] == np.arange(output.shape[1])
    found = reference(model, values, "y", values["y"] * strongest)
    np.testing.assert_allclose(found["x"], expected, rtol=1e-6, atol=1e-6)
