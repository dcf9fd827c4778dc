"""Verification passes what is exact, and finds what is not."""

import re
from dataclasses import replace

import numpy as np
import onnxruntime
import pytest
from onnx import numpy_helper, parser
from oracle import model_of, numbers
from pools import POOLS
from small_networks import model as small_network
from small_networks import random
from zoo_files import ZOO

from onnx_deconv import Semantics, compile_pair, load
from onnx_deconv.compiler import backward
from onnx_deconv.errors import InputError, MissingRuleError, UnknownLayerError
from onnx_deconv.model.value_axes import Axes
from onnx_deconv.operators import RuleTable, rule_tables
from onnx_deconv.operators.lrp import AlphaBeta, composite
from onnx_deconv.runtime import Session
from onnx_deconv.verification import (
    Check,
    check_pair,
    random_feeds,
    reference,
    relative_error,
    same_but_for_rounding,
    same_outputs,
    verify,
)
from onnx_deconv.verification.batch import Batch, strongest_unit
from onnx_deconv.verification.companion import compared, settled
from onnx_deconv.verification.dependence import correlation
from onnx_deconv.verification.switches import SwitchWindows, check_switches


def network(pool="MaxPool<kernel_shape = [3, 3], strides = [2, 2]>", size=(11, 12)):
    """Conv → Relu → MaxPool → Conv, of any number of axes."""
    body = f"c = Conv(x, w)  r = Relu(c)  p = {pool}(r)  y = Conv(p, v)"
    ones = (1,) * (len(size) - 1)
    weights = {"w": numbers((4, 3, 3, *ones), "w"), "v": numbers((5, 4, 2, *ones), "v")}
    return model_of(body, {"x": (2, 3, *size)}, weights)


def feeds_of(model, rng=0):
    return random_feeds(model, np.random.default_rng(rng))


def checks_of(proto, **more):
    model = load(proto)
    return list(verify(model, feeds_of(model), providers="cpu", **more))


@pytest.fixture
def batch():
    """One of the network above, gone forward."""
    model = load(network())
    return Batch(model, compile_pair(model), feeds_of(model), "cpu")


@pytest.mark.parametrize("name", POOLS)
def test_every_form_of_a_pool_is_found_exact(name):
    attributes, size = POOLS[name]
    checks = checks_of(network(f"MaxPool<{attributes}>", size))
    assert [c.name for c in checks] == [
        "forward", "switches", "companion", "companion", "image", "class", "signal",
        "forward", "companion", "companion", "image", "class", "signal",
        "forward", "companion", "companion", "image", "class", "signal", "difference", "difference",
    ]  # fmt: skip
    assert [c for c in checks if c.verdict != "ok"] == []


@pytest.mark.parametrize(
    ("choice", "differences"),
    [
        ({"unpool": "overwrite"}, {"not covered"}),
        ({"lrn": "identity"}, {"not covered"}),
        ({"activations": "relu"}, {"ok"}),
        ({"lrn": "gradient"}, {"ok"}),
    ],
)
def test_choices_are_verified_as_chosen(choice, differences):
    body = (
        "c = Conv(x, w)  e = Elu(c)  l = LRN<size = 3, alpha = 0.5>(e)  y = MaxPool<kernel_shape = [3, 3]>(l)"
    )
    proto = model_of(body, {"x": (1, 3, 9, 9)}, {"w": numbers((4, 3, 3, 3), "w")})
    checks = checks_of(proto, semantics=Semantics(**choice))
    assert {c.verdict for c in checks if c.name == "difference"} == differences
    assert {c.verdict for c in checks if c.name != "difference"} == {"ok"}


def test_a_model_in_functions_is_verified():
    proto = parser.parse_model("""
        <ir_version: 8, opset_import: ["": 17, "own": 1]>
        net (float[1, 3, 8, 8] x) => (float[] y) {
            c = own.block (x, w)
            y = MaxPool <kernel_shape = [2, 2]> (c)
        }
        <domain: "own", opset_import: ["": 17]>
        block (a, w) => (b) { c = Conv (a, w)  b = Elu (c) }
    """)
    proto.graph.initializer.append(numpy_helper.from_array(numbers((4, 3, 3, 3), "w"), "w"))
    assert all(c.verdict == "ok" for c in checks_of(proto))


def test_a_layer_and_some_tables_alone():
    checks = checks_of(network(), layer="r", tables=["gradient"])
    assert [c.name for c in checks] == [
        "forward", "companion", "companion", "image", "class", "signal", "difference", "difference",
    ]  # fmt: skip
    assert all(c.verdict == "ok" for c in checks)
    with pytest.raises(UnknownLayerError):
        checks_of(network(), layer="q")


@pytest.mark.parametrize(
    ("table", "rule", "fails"),
    [
        ("deconvnet", lambda at: [at.signal], {"companion"}),
        ("gradient", lambda at: [at.op.Mul(at.signal, 0.5)], {"companion", "difference"}),
    ],
)
def test_a_wrong_rule_is_found(monkeypatch, table, rule, fails):
    monkeypatch.setitem(rule_tables()[table]._rows, ("", "Relu"), rule)
    checks = checks_of(network(), tables=[table])
    assert {c.name for c in checks if c.verdict == "failed"} == fails


def test_switches_that_point_elsewhere_are_found(batch):
    (name,) = batch.pools
    right = batch.values[name]
    assert check_switches(batch).verdict == "ok"
    x = batch.values["r"]
    for wrong in (
        right + 1,  # a neighbour
        right + x[0].size,  # another image
        np.flip(right, 1),  # another channel
        np.full_like(right, int(x.argmax())),  # the largest of all, in another window
        np.full_like(right, -1),
        np.full_like(right, x.size),
    ):
        batch.values[name] = wrong
        check = check_switches(batch)
        assert check.verdict == "failed"
        assert "wrong in" in check.detail


def test_ties_that_another_runtime_decides_otherwise_are_as_right(batch):
    """A CUDA pool takes the first maximum by column: the reference follows where the values are equal."""
    (name,) = batch.pools
    x = np.round(batch.values["r"])  # many ties, zeros above all
    windows = SwitchWindows.of(batch.pools[name], x.shape, batch.values["p"].shape)
    last = last_maxima(windows, x)
    assert (last != windows.first_maxima(x)).mean() > 0.1
    batch.values |= {"r": x, "p": x.reshape(-1)[last], name: last % x[0].size}
    batch.passed |= {"r": x, name: last % x[0].size}
    assert check_switches(batch).verdict == "ok"
    seed = numbers(batch.values["y"].shape, "seed")
    assert compared(batch, settled(batch), "random seed", seed).verdict == "ok"
    assert compared(batch, batch.values, "random seed", seed).verdict == "failed"


def last_maxima(windows, x):
    """Each window's last maximum in row-major order."""
    last = np.empty((*x.shape[:2], *(len(p) for p in windows.positions)), np.int64)
    for index in np.ndindex(last.shape):
        n, c, *at = index
        rows, columns = (windows.positions[k][i] for k, i in enumerate(at))
        places = [(h, w) for h in rows for w in columns if h >= 0 and w >= 0]
        best = max(x[n, c, h, w] for h, w in places)
        h, w = [p for p in places if x[n, c, p[0], p[1]] == best][-1]
        last[index] = np.ravel_multi_index((n, c, h, w), x.shape)
    return last


def test_a_forward_model_that_differs_is_found(monkeypatch):
    real = Session.run

    def off(self, feeds, *, on_cpu=()):
        results = real(self, feeds, on_cpu=on_cpu)
        if "p/switches" in results:
            results["y"] = onnxruntime.OrtValue.ortvalue_from_numpy(results["y"].numpy() * np.float32(1.001))
        return results

    monkeypatch.setattr(Session, "run", off)
    (check,) = [c for c in checks_of(network(), tables=["guided"]) if c.name == "forward"]
    assert check.verdict == "failed"
    assert check.error == pytest.approx(1e-3, rel=0.1)


def given(values):
    """What a runtime returns, by name."""
    return {name: onnxruntime.OrtValue.ortvalue_from_numpy(each) for name, each in values.items()}


@pytest.mark.parametrize(("steps", "verdict"), [(1, "ok"), (-1, "ok"), (2, "failed")])
def test_bytes_of_a_quantised_model_may_be_one_step_apart(steps, verdict):
    """One step of probabilities that are at most 13 of 255 is 8 % of the largest."""
    weights = {"scale": np.float32(1 / 255), "zero": np.uint8(0)}
    proto = small_network("s = Softmax(x) y = QuantizeLinear(s, scale, zero)", weights, "N,4")
    probabilities = np.array([[13, 12, 5, 3]], np.uint8)
    found = probabilities + np.array([0, steps, 0, 0]).astype(np.uint8)
    check = same_outputs(load(proto), given({"y": probabilities}), given({"y": found}), "gradient")
    assert check.verdict == verdict


@pytest.mark.parametrize(
    ("body", "unoptimised", "verdict"),
    [
        ("d = DequantizeLinear(w, scale) y = MatMul(x, d)", 0, "ok"),
        ("d = DequantizeLinear(w, scale) y = MatMul(x, d)", 0.1, "failed"),
        ("y = MatMul(x, v)", 0, "failed"),
    ],
)
def test_eight_bit_products_of_the_runtime_are_no_fault_of_the_forward_model(body, unoptimised, verdict):
    """Where weights alone are quantised, the runtime may round what they are multiplied by, unless told."""
    weights = {"w": np.ones((4, 2), np.int8), "scale": np.float32(1), "v": np.ones((4, 2), np.float32)}
    used = {name: each for name, each in weights.items() if f"{name}," in body or f"{name})" in body}
    net = load(small_network(body, used, "N,4"))
    own, off = np.float32([[1, 2]]), np.float32([[1, 2.01]])
    check = same_outputs(net, given({"y": own}), given({"y": off}), "gradient")
    assert check.verdict == "failed"
    plain = given({"y": own}), given({"y": own + np.float32(unoptimised)})
    assert same_but_for_rounding(check, net, given({"y": own}), lambda: plain).verdict == verdict


def test_what_the_reference_lacks_is_not_covered(monkeypatch):
    monkeypatch.delitem(reference.BACKWARD, "MaxPool")
    checks = checks_of(network(), tables=["gradient"])
    companion = [c for c in checks if c.name == "companion"]
    assert [c.error for c in companion] == [None, None]
    assert {c.verdict for c in companion} == {"not covered"}
    assert companion[0].detail == "strongest unit: the reference lacks MaxPool"
    assert {c.verdict for c in checks if c.name != "companion"} == {"ok"}


@pytest.mark.parametrize("rules", ["deconvnet", "guided", "gradient"])
def test_a_model_that_is_the_same_for_all_images_is_not_covered(rules):
    """The length of what is divided by its own deviation: signals cancel, and rounding alone arrives."""
    body = """
        c = Conv(x, w) n = InstanceNormalization<epsilon=1e-9>(c, one, none)
        a = ReduceL2<keepdims=0>(n, places) y = MatMul(a, m)
    """
    weights = {
        "w": numbers((4, 3, 1, 1), "w"), "one": np.ones(4, "f"), "none": np.zeros(4, "f"),
        "places": np.array([2, 3]), "m": np.abs(numbers((4, 5), "m")),
    }  # fmt: skip
    checks = checks_of(small_network(body, weights, "N,3,8,8"), tables=[rules])
    told = [check for check in checks if check.name == "companion"]
    assert [check.verdict for check in told] == ["not covered", "not covered"]
    assert "what arrives is rounding, as the model gives 'y' alike for other images" in told[0].detail
    assert not [check for check in checks if check.verdict == "failed"]


def half_lost(at):
    """The rule of Mul, but for the signal of every other channel."""
    kept = np.float32([1, 0, 1, 0]).reshape(4, 1, 1)
    return [at.op.Mul(at.op.Mul(at.signal, at.input(1)), kept), None]


def test_a_gradient_that_lost_half_of_the_channels_is_found_by_differences_alone(monkeypatch):
    """It is the right one's projection: a step along it changes the unit just as it says."""
    monkeypatch.delitem(reference.BACKWARD, "Mul")
    weights = {"k": numbers((4, 1, 1), "k"), "w": numbers((6, 4, 3, 3), "w"), "v": numbers((5, 6, 2, 2), "v")}
    body = "s = Mul(x, k) c = Conv(s, w) r = Relu(c) y = Conv<strides = [2, 2]>(r, v)"
    proto = model_of(body, {"x": (1, 4, 9, 9)}, weights)
    right = checks_of(proto, tables=["gradient"])
    monkeypatch.setitem(rule_tables()["gradient"]._rows, ("", "Mul"), half_lost)
    wrong = checks_of(proto, tables=["gradient"])
    for checks, verdict in ((right, "ok"), (wrong, "failed")):
        assert [c.verdict for c in checks if c.name == "companion"] == ["not covered"] * 2
        along, across = [c for c in checks if c.name == "difference"]
        assert "along the gradient" in along.detail
        assert along.verdict == "ok"
        assert across.verdict == verdict


def test_a_gradient_of_nothing_is_found(monkeypatch):
    def nothing(at):
        return [at.op.Mul(at.signal, 0.0)]

    monkeypatch.setitem(rule_tables()["gradient"]._rows, ("", "Relu"), nothing)
    (check,) = [c for c in checks_of(network(), tables=["gradient"]) if c.name == "difference"]
    assert (check.verdict, check.error) == ("failed", np.inf)


def test_a_table_of_the_callers_own_is_not_covered_by_the_reference():
    own = RuleTable("doubled", "deconvnet", {"Relu": lambda at: [at.op.Mul(at.signal, 2.0)]})
    model = load(network())
    pair = compile_pair(model, semantics=own)
    checks = list(verify(model, feeds_of(model), providers="cpu", saved=pair))
    assert [(c.name, c.verdict) for c in checks] == [
        ("forward", "ok"), ("switches", "ok"), ("companion", "not covered"), ("companion", "not covered"),
        ("image", "ok"), ("class", "ok"),
    ]  # fmt: skip
    assert "no rule table 'doubled'" in checks[3].detail


CLASSIFIER = """c = Conv<pads = [1, 1, 1, 1]>(x, w) r = Relu(c)
    p = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(r) d = Conv(p, v) e = Relu(d)
    f = Flatten(e) y = Gemm(f, k)"""
"""Two layers of feature maps, and seven classes whose gradients have both signs at the last maps."""


def classifier(body=CLASSIFIER, x=(2, 3, 10, 12)):
    weights = {"w": numbers((4, 3, 3, 3), "w"), "v": numbers((5, 4, 3, 3), "v"), "k": numbers((60, 7), "k")}
    return model_of(body, {"x": x}, weights)


def companions(proto, **semantics):
    tables = [semantics.pop("rules", "guided")]
    checks = checks_of(proto, semantics=Semantics(**semantics), tables=tables)
    assert [c for c in checks if c.name != "companion" and c.verdict == "failed"] == []
    return [c for c in checks if c.name == "companion"]


MAPS = [
    {"cam": "grad-cam"},
    {"cam": "layer-cam"},
    {"cam": "cam"},
    {"cam": "grad-cam^3", "rules": "deconvnet"},
    {"head": "class-map"},
    {"head": "class-map", "cam": "cam", "rules": "gradient"},
    {"head": "class-map", "cam": "grad-cam", "cam_layer": "r"},
]


@pytest.mark.parametrize("choice", MAPS, ids=str)
def test_class_activation_maps_are_compared_with_their_equations(choice):
    assert {c.verdict for c in companions(classifier(), **choice)} == {"ok"}
    last = f"t = Transpose<perm = [0, 3, 1, 2]>(x) {CLASSIFIER.replace('(x, w)', '(t, w)')}"
    assert {c.verdict for c in companions(classifier(last, (2, 10, 12, 3)), **choice)} == {"ok"}


def of_one_sign(op, gradient, activations):
    """Any of the maps, but for the mean of the gradient and its sign."""
    return op.Relu(op.ReduceSum(op.Mul(op.Abs(gradient), activations), [1], keepdims=1))


@pytest.mark.parametrize("cam", ["grad-cam", "layer-cam", "cam"])
def test_a_wrong_class_activation_map_is_found(monkeypatch, cam):
    monkeypatch.setattr(backward, "class_activation_map", lambda op, _, *maps: of_one_sign(op, *maps))
    assert {c.verdict for c in companions(classifier(), cam=cam)} == {"failed"}


def test_differences_do_not_judge_what_is_multiplied_by_a_map():
    checks = checks_of(classifier(), semantics=Semantics(cam="grad-cam"), tables=["gradient"])
    assert [c.verdict for c in checks if c.name == "difference"] == ["not covered"]


@pytest.mark.parametrize(
    ("operator", "rule"),
    [
        ("Relu", lambda at: [at.op.Mul(at.signal, 0.99)]),
        ("MaxPool", lambda at: [at.op.Sub(at.input(0), at.input(0))]),
        ("Relu", lambda at: [at.op.Sub(at.signal, at.op.Relu(at.op.Sub(at.signal, 0.1)))]),
    ],
)
def test_probability_that_is_lost_is_found(monkeypatch, operator, rule):
    assert [c.verdict for c in companions(classifier(), rules="excitation")] == ["ok", "ok"]
    monkeypatch.setitem(rule_tables()["excitation"]._rows, ("", operator), rule)
    assert {c.verdict for c in companions(classifier(), rules="excitation")} == {"failed"}


def test_negative_probability_is_found(monkeypatch):
    def moved(at):
        """Takes from one half what it gives to the other."""
        x = at.input(0)
        return [at.op.Add(at.signal, at.op.Sub(x, at.op.ReduceMean(x, [1, 2, 3], keepdims=1)))]

    monkeypatch.setitem(rule_tables()["excitation"]._rows, ("", "Relu"), moved)
    assert {c.verdict for c in companions(classifier(), rules="excitation")} == {"failed"}


RELEVANCE = {"lrp": "lrp-gamma", "lrp-epsilon": "lrp", "lrp-gamma": "lrp-epsilon"}
"""Tables of relevance, each with another one."""


@pytest.mark.parametrize("rules", RELEVANCE)
def test_another_tables_relevance_is_found(rules, monkeypatch):
    assert [c.verdict for c in companions(classifier(), rules=rules)] == ["ok", "ok"]
    other = rule_tables()[RELEVANCE[rules]]._rows["", "Conv"]
    monkeypatch.setitem(rule_tables()[rules]._rows, ("", "Conv"), other)
    assert {c.verdict for c in companions(classifier(), rules=rules)} == {"failed"}


LAYERS = {
    "padded": "p = Pad(x, pads) c = Conv(p, w) r = Relu(c) y = Conv(r, v)",
    "scales": """c = Conv(x, w) n = BatchNormalization(c, s, b, b, s) m = Mul(n, s3)
        r = Relu(m) y = Conv(r, v)""",
    "transposed": """c = Conv(x, w) r = Tanh(c)
        t = ConvTranspose<group = 2, strides = [2, 1]>(r, u) y = Sub(t, s3)""",
    "averages": """c = Conv(x, w)
        a = AveragePool<kernel_shape = [2, 2], pads = [1, 0, 0, 1]>(c) y = Conv(a, v)""",
    "a residual": "c = Conv(x, w) d = Neg(c) r = LeakyRelu(d) m = Sub(c, r) y = Conv(m, v)",
    "a gate": "c = Conv(x, w) g = GlobalAveragePool(c) k = Sigmoid(g) m = Mul(c, k) y = Conv(m, v)",
    "dense layers": """f = Flatten(x) m = MatMul(f, q) a = Add(m, h) r = Relu(a)
        y = Gemm<transB = 1, alpha = 0.5>(r, z)""",
}


@pytest.mark.parametrize("rules", RELEVANCE)
@pytest.mark.parametrize("name", LAYERS)
def test_relevance_through_every_kind_of_layer_is_found_exact(name, rules):
    weights = {
        "w": numbers((4, 3, 3, 3), "w"), "v": numbers((5, 4, 2, 2), "v"), "u": numbers((4, 3, 3, 2), "u"),
        "q": numbers((90, 6), "q"), "h": numbers((6,), "h"), "z": numbers((3, 6), "z"),
        "s": np.float32([1.5, 0.5, 2, 1]), "b": np.float32([0.1, -0.2, 0, 0.3]),
        "s3": np.float32([[[-1]], [[2]], [[0.5]], [[3]]]), "pads": np.array([0, 0, 1, 0, 0, 0, 2, 1]),
    }  # fmt: skip
    body = LAYERS[name]
    if name == "transposed":  # six channels
        weights["s3"] = numbers((6, 1, 1), "s")
    used = {k: w for k, w in weights.items() if re.search(rf"\b{k}\b", body)}
    proto = model_of(body, {"x": (2, 3, 5, 6)}, used, opset=13)
    assert [c.verdict for c in companions(proto, rules=rules)] == ["ok", "ok"]


def test_where_no_formula_stands_relevance_is_not_covered():
    proto = model_of(
        "c = Conv(x, w) y = ReduceL1(c)", {"x": (2, 3, 5, 6)}, {"w": numbers((4, 3, 3, 3), "w")}, 13
    )
    found = companions(proto, rules="lrp")
    assert {c.verdict for c in found} == {"not covered"}
    assert "ReduceL1" in found[0].detail


def test_a_composite_of_ones_own_is_not_covered_and_not_differentiated(monkeypatch):
    table = composite("own", AlphaBeta(2, 1))
    monkeypatch.setitem(rule_tables(), "own", table)
    checks = checks_of(network(), tables=["own"])
    assert [(c.name, c.verdict) for c in checks] == [
        ("forward", "ok"), ("switches", "ok"), ("companion", "not covered"), ("companion", "not covered"),
        ("image", "ok"), ("class", "ok"), ("signal", "ok"),
    ]  # fmt: skip
    assert "no rule table 'own'" in checks[3].detail


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("r = Round(x) y = Add(r, x)", "Round"),
        ("h = Cast<to = 10>(x) r = Relu(h) y = Cast<to = 1>(r)", "float16"),
        ("c = Mul(x, tiny) y = Add(c, large)", "rounding"),
        ("y = Add(x, nan)", "is a number"),
    ],
)
def test_what_steps_cannot_tell_is_not_covered(body, why):
    weights = {"tiny": np.float32(1e-9), "large": np.float32(1e3), "nan": np.full(6, np.nan, np.float32)}
    checks = checks_of(model_of(body, {"x": (1, 6)}, weights), tables=["gradient"])
    stepped = [c for c in checks if c.name == "difference"]
    assert {c.verdict for c in stepped} == {"not covered"}
    assert all(why in c.detail for c in stepped)
    assert {c.verdict for c in checks if c.name != "difference"} == {"ok"}


CORRECT = {
    "ReduceMax": ("c = Conv(x, w) r = Relu(c) y = ReduceMax<axes = [2, 3], keepdims = 0>(r)", (2, 3, 8, 8)),
    "several views": (
        """v = Reshape(x, views) c = Conv(v, w) r = Relu(c) f = GlobalAveragePool(r) g = Reshape(f, groups)
        y = ReduceMax<axes = [1], keepdims = 0>(g)""",
        (2, 3, 3, 8, 8),
    ),
    "attention": (
        """c = Conv(x, w) f = Reshape(c, flat) p = Einsum<equation = "bci,bcj->bij">(f, f) a = Softmax(p)
        y = Einsum<equation = "bij,bcj->bci">(a, f)""",
        (1, 3, 5, 5),
    ),
    "the largest of each row": (
        "c = Conv(x, w) t, i = TopK<axis = 3>(c, three) y = ReduceL2<axes = [2, 3], keepdims = 0>(t)",
        (1, 3, 8, 8),
    ),
    "one number per image": (
        "c = Conv(x, w) y = ReduceMean<axes = [1, 2, 3], keepdims = 0>(c)",
        (2, 3, 6, 6),
    ),
}


@pytest.mark.parametrize("name", CORRECT)
def test_correct_models_are_found_exact(name):
    body, x = CORRECT[name]
    weights = {"w": numbers((4, 3, 3, 3), "w"), "three": np.array([3])}
    weights |= {"views": np.array([6, 3, 8, 8]), "groups": np.array([2, 3, 4]), "flat": np.array([1, 4, 9])}
    used = {k: v for k, v in weights.items() if k in body}
    checks = checks_of(model_of(body, {"x": x}, used, opset=13))
    assert [c for c in checks if c.verdict != "ok"] == []


def test_a_missing_rule_is_an_error():
    with pytest.raises(MissingRuleError, match="Det"):
        checks_of(model_of("y = Det(x)", {"x": (1, 3, 4, 4)}))


@pytest.mark.parametrize("semantics", ["deconvnet", "grad-cam", "guided*layer-cam"])
def test_a_saved_pair_has_a_picture_of_the_method_s_own_shape(semantics):
    model = load(network())
    pair = compile_pair(model, semantics=semantics)
    original = Session(model.proto, model.folder, "cpu")
    checks = [*check_pair(model, original, pair, feeds_of(model), "cpu")]
    checks += verify(model, feeds_of(model), saved=pair, providers="cpu")
    assert {c.verdict for c in checks} <= {"ok", "not covered"}


def test_a_saved_pair_is_checked_for_numbers():
    model = load(network())
    original = Session(model.proto, model.folder, "cpu")
    pair = compile_pair(model)
    checks = list(check_pair(model, original, pair, feeds_of(model), "cpu"))
    assert [(c.name, c.verdict) for c in checks] == [("forward", "ok"), ("companion", "ok")]
    weight = next(t for t in pair.deconv.graph.initializer if t.name == "w")
    weight.CopyFrom(numpy_helper.from_array(np.full((4, 3, 3, 1), np.inf, np.float32), "w"))
    checks = check_pair(model, original, pair, feeds_of(model), "cpu")
    assert [c.verdict for c in checks] == ["ok", "failed"]


def test_an_order_that_only_rounding_decides_is_compared_without_optimisations():
    """The pair shows a value that keeps the runtime from fusing: two orders of rows, and both are right."""
    body = """
        c = Conv(x, k) b = BatchNormalization(c, scale, shift, mean, variance) f = Reshape(b, flat)
        v, i = TopK(f, many) y = GatherElements<axis=1>(places, i)
    """
    channel = {
        name: np.abs(random(1, seed=n)) for n, name in enumerate(("scale", "shift", "mean", "variance"))
    }
    weights = channel | {"k": random(1, 3, 3, 3), "places": np.arange(900, dtype=np.float32)[None]}
    weights |= {"flat": np.array([1, -1]), "many": np.array([900])}
    model = load(small_network(body, weights, "1,3,32,32"))
    feeds = {"x": 1 + np.float32(1e-6) * random(1, 3, 32, 32)}  # the scores of all places are nearly equal
    pair = compile_pair(model, "c", semantics="gradient")
    original = Session(model.proto, model.folder, "cpu")
    found = Session(pair.forward, pair.folder, "cpu").run(feeds)
    assert same_outputs(model, original.run(feeds), found, "gradient").verdict == "failed"
    forward, *_ = check_pair(model, original, pair, feeds, "cpu")
    assert (forward.verdict, "without the runtime's optimisations" in forward.detail) == ("ok", True)
    kernel = next(t for t in pair.forward.graph.initializer if t.name == "k")
    kernel.CopyFrom(numpy_helper.from_array(-numpy_helper.to_array(kernel), "k"))
    assert next(check_pair(model, original, pair, feeds, "cpu")).verdict == "failed"


@pytest.mark.parametrize(
    ("found", "expected", "error"),
    [
        ([1.0, 2.0], [1.0, 2.0], 0.0),
        ([1.0, 2.5], [1.0, 2.0], 0.25),
        ([0.0, 0.0], [0.0, 0.0], 0.0),
        ([0.0, 1e-9], [0.0, 0.0], np.inf),
        ([np.nan, 1.0], [np.nan, 1.0], 0.0),
        ([np.inf, 1.0], [np.inf, 1.0], 0.0),
        ([0.0, 1.0], [np.nan, 1.0], np.inf),
        ([1.0], [1.0, 2.0], np.inf),
    ],
)
def test_errors_are_shares_of_the_largest_expected_number(found, expected, error):
    assert relative_error(np.array(found), np.array(expected)) == error


@pytest.mark.parametrize(
    ("error", "verdict"), [(1.0, "ok"), (1.1, "failed"), (float("nan"), "failed"), (None, "not covered")]
)
def test_a_check_has_one_of_three_verdicts(error, verdict):
    check = Check("companion", "guided", error, 1.0)
    assert check.verdict == check.as_dict()["verdict"] == verdict


@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 4, 5), (2,)])
def test_the_strongest_unit_of_each_image_is_the_largest_finite_number(shape):
    values = numbers(shape, "values")
    if values[0].size > 1:
        values[0].flat[[0, 1]] = np.nan, np.inf
    axes = Axes(0, 1, tuple(range(2, len(shape)))) if len(shape) > 1 else Axes(0, None)
    seed = strongest_unit(values, axes)
    finite = np.where(np.isfinite(values), values, -9).reshape(2, -1)
    assert seed.shape == shape
    assert (seed.reshape(2, -1) == (finite == finite.max(1, keepdims=True))).all()
    if len(shape) > 1:  # of the only image, which has no axis
        alone = strongest_unit(values[1], Axes(None, 0, tuple(range(1, len(shape) - 1))))
        np.testing.assert_array_equal(alone, seed[1])


def test_random_input_has_the_models_sizes():
    model = load(network(size=(9, 7)))
    (x,) = feeds_of(model).values()
    assert (x.shape, x.dtype) == ((2, 3, 9, 7), np.float32)
    assert np.array_equal(x, feeds_of(model)["x"])
    assert not np.array_equal(x, feeds_of(model, 1)["x"])
    two = load(model_of("s = Cast<to = 1>(k)  y = Mul(x, s)", {"x": (1, 7)}))
    assert feeds_of(two)["x"].shape == (1, 7)
    with pytest.raises(InputError, match="input_shapes="):
        feeds_of(load(model_of("y = Relu(x)", {"x": (1, "L")})))


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["squeezenet1.1-caffe2-fp16", "mnist-cntk", "cifar10-pytorch1.7", "textline-orientation-paddle"]
)
def test_real_models_are_found_exact(name):
    path = ZOO / "models" / f"{name}.onnx"
    if not path.exists():
        pytest.skip(f"{path} is absent")
    model = load(path, {"x": (1, 3, 48, 192)} if "paddle" in name else None)
    checks = list(verify(model, feeds_of(model), tables=["guided", "gradient"], providers="cpu"))
    half = "fp16" in name
    assert [c for c in checks if c.verdict != "ok" and not (half and c.name == "difference")] == []
    assert len(checks) >= 7


def test_a_half_precision_companion_has_a_wider_limit():
    checks = [
        c for c in checks_of(network(), semantics=Semantics(precision="float16")) if c.name == "companion"
    ]
    assert all(c.verdict == "ok" for c in checks)
    assert {c.limit for c in checks} == {1e-2}


def dependence(pools, rules):
    """Return what is told of two images and of two units, of a network with max pools or without."""
    pool = f"{'Max' if pools else 'Average'}Pool<kernel_shape = [2, 2], strides = [2, 2]>"
    checks = checks_of(network(pool, (12, 12)), tables=[rules])
    return [c for c in checks if c.name in {"image", "class"}]


@pytest.mark.parametrize(
    ("pools", "rules", "depends"),
    [(True, "deconvnet", "yes"), (False, "deconvnet", "no"), (False, "guided", "yes")],
)
def test_two_images_are_told_apart_by_what_depends_on_them(pools, rules, depends):
    about_image, about_class = dependence(pools, rules)
    assert (about_image.verdict, about_class.verdict) == ("ok", "ok")
    assert f"depends on the image: {depends}" in about_image.detail
    assert ("correlate 1.00, they are alike" in about_image.detail) is (depends == "no")


def test_a_manifest_that_denies_the_image_although_it_takes_part_is_found():
    model = load(network())
    pair = compile_pair(model, semantics="guided")
    denied = {"depends": "no", "through": [], "note": ""}
    wrong = replace(pair, manifest={**pair.manifest, "image_dependence": denied})
    checks = {c.name: c for c in verify(model, feeds_of(model), providers="cpu", saved=wrong)}
    assert checks["image"].verdict == "failed"


def test_pictures_are_compared_by_their_magnitudes():
    one = numbers((1, 3, 4, 4), "one")
    assert correlation(one, -2 * one) == pytest.approx(1)
    assert correlation(one, numbers((1, 3, 4, 4), "other")) == pytest.approx(
        np.corrcoef(np.abs(one).ravel(), np.abs(numbers((1, 3, 4, 4), "other")).ravel())[0, 1]
    )
    assert correlation(one, np.ones_like(one)) is None


@pytest.mark.parametrize("squash", ["Sigmoid", "Tanh"])
def test_functions_that_are_nearly_at_their_bound_fail_no_check(squash):
    """onnxruntime's own numbers there are a percent off, which is no fault of the companion's."""
    low = {"Sigmoid": -13, "Tanh": -7}[squash]
    body = f"""
        c = Conv(x, w, low) s = {squash}(c) d = Conv(x, v, low) t = {squash}(d)
        m = Mul(s, t) y = GlobalAveragePool(m)
    """
    weights = {"w": numbers((4, 3, 3, 3), "w") / 9, "v": numbers((4, 3, 3, 3), "v") / 9}
    weights["low"] = np.full(4, low, np.float32)
    checks = checks_of(model_of(body, {"x": (2, 3, 9, 9)}, weights))
    assert [c for c in checks if c.verdict == "failed"] == []
    assert "ok" in {c.verdict for c in checks if c.name == "companion"}
