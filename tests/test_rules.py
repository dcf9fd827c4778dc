"""Every rule against the derivative of what it is a rule of, and the rectifiers against the papers.

To test a new rule, add a row to CASES in support/operator_cases.py. The answers come from central
differences of the standard's reference implementation in double precision, and from PyTorch's autograd
where a row names its function there.
"""

import functools

import numpy as np
import pytest
from operator_cases import CASES, response_normalisation, scalar
from oracle import (
    REAL,
    Case,
    RefusedError,
    assert_close,
    differences,
    model_of,
    numbers,
    plain,
    reconstruction,
)
from small_networks import model as small_model

from onnx_deconv import compile_pair, load
from onnx_deconv.errors import RuleError
from onnx_deconv.operators import operators_by_key, rule_table

RULES = {key: entry for key, entry in operators_by_key().items() if entry.rule is not None}
RECTIFIERS = {
    name
    for (_, name), entry in RULES.items()
    if name != "LRN" and rule_table("deconvnet").rule(entry) is not entry.rule
}
WITH_TORCH = [case for case in CASES if case.torch is not None]


def operators(case):
    return {node.op_type for node in case.proto().graph.node}


def seed_of(case):
    """Random numbers of the shape of y."""
    return numbers(plain(case.proto(), case.feeds())["y"].shape, "seed")


def send_back(case, of="x", **semantics):
    return reconstruction(case.proto(), case.feeds(), seed_of(case), inputs=[of], **semantics)


def test_every_rule_has_a_case():
    tested = set().union(*map(operators, CASES))
    assert {name for _, name in RULES} <= tested


@pytest.mark.parametrize("case", [case for case in CASES if not case.rounded], ids=str)
def test_the_gradient_table_holds_the_true_derivatives(case):
    for of in case.inputs:
        expected = differences(case.exact(), case.feeds(), seed_of(case), of)
        assert_close(send_back(case, of, rules="gradient"), expected)


@pytest.mark.parametrize("case", WITH_TORCH, ids=str)
def test_the_gradient_table_is_autograd(case):
    torch = pytest.importorskip("torch")
    values = {n: torch.tensor(a.astype(np.float64)) for n, a in (case.feeds() | case.arrays()).items()}
    for of in case.inputs:
        values[of].requires_grad_()
        y = case.torch(torch, values)
        (expected,) = torch.autograd.grad(y, values[of], torch.tensor(seed_of(case).astype(np.float64)))
        assert_close(send_back(case, of, rules="gradient"), expected.numpy())


@pytest.mark.parametrize("case", [c for c in CASES if not operators(c) & RECTIFIERS], ids=str)
def test_what_is_no_rectifier_has_its_true_derivative_in_every_table(case):
    gradient = send_back(case, rules="gradient", lrn="gradient")
    for rules in ("deconvnet", "guided"):
        np.testing.assert_array_equal(send_back(case, rules=rules, lrn="gradient"), gradient)


@pytest.mark.parametrize("case", [c for c in WITH_TORCH if operators(c) <= RECTIFIERS - {"PRelu"}], ids=str)
def test_far_from_zero_the_derivatives_are_still_right(case):
    torch = pytest.importorskip("torch")
    x = np.float32([-1000, -90, -20, 20, 90, 1000])
    far = torch.tensor(x.astype(np.float64), requires_grad=True)
    (expected,) = torch.autograd.grad(case.torch(torch, {"x": far}).sum(), far)
    proto = model_of(case.body, {"x": x.shape}, case.arrays(), case.opset)
    assert_close(reconstruction(proto, {"x": x}, rules="gradient"), expected.numpy())


@pytest.mark.slow
@pytest.mark.parametrize(("real", "tolerance"), [("double", 1e-5), ("float16", 2e-2)])
def test_a_model_of_another_precision_is_explained_in_single_precision(real, tolerance):
    explained = 0
    for case in CASES:
        proto = model_of(case.body, case.inputs, case.arrays(), case.opset, real)
        feeds = {name: array.astype(REAL[real]) for name, array in case.feeds().items()}
        try:
            plain(proto, feeds)
        except RefusedError:
            continue
        explained += 1
        got = reconstruction(proto, feeds, seed_of(case), inputs=["x"], rules="gradient")
        assert got.dtype == np.float32
        assert_close(got, send_back(case, rules="gradient"), tolerance)
    assert explained >= 0.5 * len(CASES)


@functools.cache
def in_its_own_opset(case):
    """What a form gives and sends back where the tests above have checked it."""
    return plain(case.proto(), case.feeds())["y"], send_back(case, rules="gradient")


STANDARD_SINCE = 17
"""Of LayerNormalization."""


@pytest.mark.slow
@pytest.mark.parametrize("opset", range(7, 27))
def test_a_form_that_other_opsets_write_alike_is_explained_alike(opset):
    """From the oldest opset that onnxruntime runs to the newest."""
    explained = 0
    for case in CASES:
        if opset < STANDARD_SINCE and case.body.startswith("n, "):
            continue  # onnxruntime runs LayerNormalization, but nobody says which shape its statistics have
        proto = model_of(case.body, case.inputs, case.arrays(), opset)
        try:
            y = plain(proto, case.feeds())["y"]
        except RefusedError:
            continue
        expected, sent_back = in_its_own_opset(case)
        if y.shape != expected.shape or not np.allclose(y, expected, rtol=1e-4, atol=1e-5):
            continue  # an operator that changed its meaning
        explained += 1
        got = reconstruction(proto, case.feeds(), seed_of(case), inputs=["x"], rules="gradient")
        assert_close(got, sent_back)
    assert explained > 100


# --- the rectifiers' rows, from their definitions ----------------------------------------------------

X = np.float32([-4, -2, -1, -0.5, 0, 0, 0.25, 0.5, 1, 2, 3.5, 7])
SIGNAL = np.float32([2, -1, 0.5, -3, 1, -1, -2, 4, 1.5, -0.25, 3, -5])


def relu(signal):
    return np.maximum(signal, 0)


def leaky(slope):
    return lambda signal: np.where(signal > 0, signal, slope * signal)


SLOPE = np.linspace(0.1, 0.9, 12, dtype=np.float32)
RECTIFIED = [
    (Case("y = Relu(x)", x=(12,)), relu),
    (Case("y = LeakyRelu<alpha = 0.3>(x)", x=(12,)), leaky(0.3)),
    (Case("y = LeakyRelu(x)", x=(12,)), leaky(0.01)),
    (Case("y = PRelu(x, w)", x=(12,), weights={"w": SLOPE}), leaky(SLOPE)),
    (Case("y = Clip<min = 0.0, max = 6.0>(x)", x=(12,), opset=10), relu),
    (Case("y = Clip(x, zero)", x=(12,), weights={"zero": scalar(0)}), relu),
    (Case("y = Clip(x, zero, six)", x=(12,), weights={"zero": scalar([0]), "six": scalar([6])}), relu),
    (Case("y = ThresholdedRelu<alpha = 0.5>(x)", x=(12,)), relu),
    (Case("y = Elu(x)", x=(12,)), relu),
    (Case("y = Selu(x)", x=(12,)), relu),
    (Case("y = Celu(x)", x=(12,)), relu),
    (Case("y = Softplus(x)", x=(12,)), relu),
    (Case("y = Swish(x)", x=(12,), opset=24), relu),
    (Case("y = HardSwish(x)", x=(12,)), relu),
    (Case("y = Gelu(x)", x=(12,), opset=20), relu),
    (Case("y = Mish(x)", x=(12,), opset=18), relu),
    (
        Case(
            "a = Add(x, n) q = QuantizeLinear(a, s, z) y = DequantizeLinear(q, s, z)",
            x=(12,),
            weights={"n": scalar(0), "s": scalar(0.05), "z": np.array(-128, "i1")},
        ),
        relu,
    ),
]
NO_RECTIFIER = [
    (Case("y = Clip<min = -1.5, max = 3.0>(x)", x=(12,), opset=10), (X > -1.5) & (X < 3)),
    (Case("y = Clip<min = 0.3, max = 3.0>(x)", x=(12,), opset=10), (X > 0.3) & (X < 3)),
    (Case("y = Clip(x, , high)", x=(12,), weights={"high": scalar(3)}), X < 3),
]


OLDEST_NEWEST_OPSET = 22
"""The newest that the oldest allowed version of onnxruntime runs."""


def rectified(case, **semantics):
    proto = case.proto()
    try:
        plain(proto, {"x": X})
    except RefusedError as reason:
        if case.opset <= OLDEST_NEWEST_OPSET:
            raise
        pytest.skip(str(reason))
    return reconstruction(proto, {"x": X}, SIGNAL, **semantics)


def test_every_rectifier_is_in_the_table_above():
    named = set().union(*(operators(case) for case, _ in RECTIFIED))
    assert named >= RECTIFIERS


@pytest.mark.parametrize(("case", "rectify"), RECTIFIED, ids=[str(c) for c, _ in RECTIFIED])
def test_a_deconvnet_rectifies_the_signal_whatever_the_forward_values(case, rectify):
    np.testing.assert_allclose(rectified(case, rules="deconvnet"), rectify(SIGNAL), rtol=1e-6)


@pytest.mark.parametrize(("case", "rectify"), RECTIFIED, ids=[str(c) for c, _ in RECTIFIED])
def test_guided_does_so_too_but_stops_where_the_forward_input_was_not_positive(case, rectify):
    expected = np.where(X > 0, rectify(SIGNAL), 0)
    np.testing.assert_allclose(rectified(case, rules="guided"), expected, rtol=1e-6)


@pytest.mark.parametrize("rules", ["deconvnet", "guided", "gradient"])
@pytest.mark.parametrize(("case", "inside"), NO_RECTIFIER, ids=[str(c) for c, _ in NO_RECTIFIER])
def test_a_clip_that_does_not_start_at_zero_is_no_rectifier(case, inside, rules):
    np.testing.assert_array_equal(rectified(case, rules=rules), np.where(inside, SIGNAL, 0))


@pytest.mark.parametrize("rules", ["deconvnet", "guided"])
@pytest.mark.parametrize("case", [c for c, _ in RECTIFIED], ids=str)
def test_activations_relu_leaves_all_but_relu_at_their_derivative(case, rules):
    own, gradient, limited = (
        rectified(case, **kind)
        for kind in ({"rules": rules}, {"rules": "gradient"}, {"rules": rules, "activations": "relu"})
    )
    np.testing.assert_array_equal(limited, own if operators(case) & {"Relu", "QuantizeLinear"} else gradient)
    assert not np.array_equal(own, gradient)


@pytest.mark.parametrize("precision", ["float32", "float16"])
@pytest.mark.parametrize("rules", ["deconvnet", "guided", "gradient"])
def test_bounds_that_nothing_exceeds_are_no_bounds(rules, precision):
    largest = float(np.finfo(np.float32).max)
    seldom = Case("y = Clip(x, zero, most)", x=(12,), weights={"zero": scalar(0), "most": scalar(largest)})
    never = Case(
        "y = Clip(x, least, most)", x=(12,), weights={"least": scalar(-np.inf), "most": scalar(np.inf)}
    )
    got = rectified(seldom, rules=rules, precision=precision)
    np.testing.assert_array_equal(got, rectified(RECTIFIED[0][0], rules=rules, precision=precision))
    np.testing.assert_array_equal(rectified(never, rules=rules, precision=precision), SIGNAL)


def test_the_gradient_of_relu_is_zero_at_zero():
    np.testing.assert_array_equal(rectified(RECTIFIED[0][0], rules="gradient"), np.where(X > 0, SIGNAL, 0))


@pytest.mark.parametrize(
    ("semantics", "identity"),
    [
        ({"rules": "deconvnet"}, True),
        ({"rules": "guided"}, False),
        ({"rules": "gradient"}, False),
        ({"rules": "gradient", "lrn": "identity"}, True),
        ({"rules": "deconvnet", "lrn": "gradient"}, False),
    ],
    ids=str,
)
def test_response_normalisation_is_passed_by_or_differentiated(semantics, identity):
    case = response_normalisation(4, size=3, alpha=0.5)
    seed = seed_of(case)
    expected = seed if identity else differences(case.exact(), case.feeds(), seed)
    assert_close(send_back(case, **semantics), expected)


INFINITE = {
    "a root of a square": ("r = Relu(x) q = Mul(r, r) y = Sqrt(q)", [0, 1, 0, 1]),
    "a power of a square": ("r = Relu(x) q = Mul(r, r) y = Pow(q, half)", [0, 1, 0, 1]),
    "a power by operand": ("r = Relu(x) q = Mul(r, r) y = Pow(q, halves)", [0, 1, 0, 1]),
    "a limited logarithm": ("r = Relu(x) l = Log(r) y = Max(l, low)", [0, 1, 0, 1 / 4]),
    "a limited reciprocal": ("r = Relu(x) l = Reciprocal(r) y = Min(l, high)", [0, -1, 0, -1 / 16]),
    "a limited quotient": ("r = Relu(x) l = Div(one, r) y = Min(l, high)", [0, -1, 0, -1 / 16]),
    "a limited logarithm of a sum": (
        "r = Relu(x) l = ReduceLogSum<axes = [0]>(r) y = Max(l, low)", [0, 1, 0, 1 / 4],
    ),
    "a quotient put aside": (
        "r = Relu(x) q = Mul(r, r) l = Div(q, r) m = Greater(r, zero) y = Where(m, l, zero)", [0, 1, 0, 1],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", INFINITE)
def test_a_dead_unit_sends_nothing_where_a_slope_is_infinite(name):
    body, expected = INFINITE[name]
    x = np.float32([[-1, 1, 0, 4]])
    held = {"half": 0.5, "low": -9, "high": 9, "one": 1, "zero": 0, "halves": np.full((1, 4), 0.5)}
    weights = {n: np.array(v, np.float32) for n, v in held.items() if f" {n}" in body or f"({n}" in body}
    proto = model_of(body, {"x": x.shape}, weights)
    got = reconstruction(proto, {"x": x}, np.ones(x.shape), "y", rules="gradient")
    np.testing.assert_allclose(got, [expected], rtol=1e-6)


TRAINING = {
    "further outputs": ("y, m, v, c, d = BatchNormalization(x, w, w, w, w)", 9),
    "an attribute": ("y, m, v = BatchNormalization<training_mode = 1>(x, w, w, w, w)", 15),
    "an input": ("y = Dropout(x, ratio, train)", 13),
}


@pytest.mark.parametrize("rules", ["deconvnet", "gradient", "lrp", "excitation"])
@pytest.mark.parametrize("name", TRAINING)
def test_a_node_in_training_mode_is_refused(name, rules):
    body, opset = TRAINING[name]
    held = {"w": np.ones(2, np.float32), "ratio": np.float32(0.5), "train": np.array(True)}
    weights = {n: a for n, a in held.items() if n in body.replace("training", "")}
    proto = model_of(f"{body} z = Relu(y)", {"x": (1, 2, 3, 3)}, weights, opset, outputs=("z",))
    with pytest.raises(RuleError, match=r"training mode.*export the model for inference"):
        compile_pair(load(proto), semantics=rules)


def test_training_mode_is_the_reason_where_it_hides_shapes():
    # Of a BatchNormalization in training mode that has one output, which is no ONNX, nothing tells the shape.
    body = "b = BatchNormalization<training_mode = 1>(x, w, w, w, w) m = ReduceMean(b) z = MatMul(m, w)"
    proto = model_of(body, {"x": (1, 2, 3, 3)}, {"w": np.ones(2, np.float32)}, 15, outputs=("z",))
    with pytest.raises(RuleError, match=r"BatchNormalization 'b'.*training mode"):
        compile_pair(load(proto), semantics="gradient")


def test_pads_that_follow_from_the_size_are_refused_with_the_way_to_give_it():
    body = """
        s = Shape(x) h = Gather(s, row) p = Mod(h, four)
        pads = Concat<axis=0>(none, none, none, p, none, none, none, p)
        d = Pad<mode="reflect">(x, pads) z = Conv(d, w)
    """
    weights = {"row": np.array([2]), "four": np.array([4]), "none": np.zeros(1, np.int64)}
    proto = small_model(body, weights | {"w": np.ones((2, 1, 1, 1), np.float32)}, "1,1,H,6", "z")
    with pytest.raises(RuleError, match=r"pads.*input_shapes=\{'x': \(1, 1, 224, 6\)"):
        compile_pair(load(proto), semantics="gradient")
    compile_pair(load(proto, {"x": (1, 1, 6, 6)}), semantics="gradient")


def test_a_filter_without_channels_is_not_one_of_too_large_windows():
    # Its result has a row and a column less than what it is joined to, so no runtime takes the model.
    weights = {"none": np.zeros((0, 2, 2, 2), np.float32), "w": np.ones((8, 3), np.float32)}
    body = "c = Conv(x, none) j = Concat<axis=1>(x, c) m = ReduceMean(j) z = MatMul(m, w)"
    proto = model_of(body, {"x": (1, 2, 8, 8)}, weights, 15, outputs=("z",))
    with pytest.raises(RuleError, match=r"unknown, as nothing tells what Concat 'j' makes"):
        compile_pair(load(proto), semantics="gradient")


@pytest.mark.parametrize("rules", ["lrp", "excitation"])
def test_an_output_that_a_rule_cannot_send_back_is_refused(rules):
    proto = model_of("n, m = LayerNormalization(x, s) y = Add(n, m)", {"x": (1, 4)}, {"s": np.ones(4, "f")})
    with pytest.raises(RuleError, match="only its first output"):
        compile_pair(load(proto), semantics=rules)
