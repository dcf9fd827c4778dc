"""One network, one explanation: activations that exporters spell out count as the operators they are."""

import numpy as np
import pytest
from oracle import assert_close, differences, model_of, numbers, plain, reconstruction

from onnx_deconv import load

X = {"x": numbers((2, 3, 5, 5), "x")}
ROOT, PI = 2**0.5, np.pi
NUMBERS = {
    "zero": 0.0, "half": 0.5, "one": 1.0, "two": 2.0, "three": 3.0, "five": 5.0, "six": 6.0,
    "sixth": 1 / 6, "root": ROOT, "root_half": 1 / ROOT, "cubic": 0.044715, "bell": (2 / PI) ** 0.5,
    "slightly": 0.04, "far": 64.0, "tiny": 1e-6, "third": 1 / 3, "fifth": 0.2,
    "steep": numbers((4, 1, 1), "s", 0.05, 0.6),
}  # fmt: skip


def network(activation, opset=17, real="float", *, between="a = Conv(x, w)"):
    """A filter, the activation a -> b, and another filter."""
    body = f"{between} {activation} y = Conv(b, v)"
    weights = {n: np.array(v, np.float32) for n, v in NUMBERS.items() if n in body}
    weights |= {"w": numbers((4, 3, 2, 2), "w"), "v": numbers((2, 4, 2, 2), "v")}
    weights |= {"k": numbers((4, 1, 1), "k")} if "k" in between else {}
    return model_of(body, {"x": X["x"].shape}, weights, opset, real)


SWISH = {
    "x·σ(x)": "s = Sigmoid(a) b = Mul(a, s)",
    "σ(x)·x": "s = Sigmoid(a) b = Mul(s, a)",
}
HARD_SWISH = {
    "x·HardSigmoid(x)": "s = HardSigmoid<alpha = 0.16666667, beta = 0.5>(a) b = Mul(a, s)",
    "HardSigmoid(x)·x, beta by default": "s = HardSigmoid<alpha = 0.16666667>(a) b = Mul(s, a)",
    "x·(Clip(x+3)/6)": "p = Add(a, three) c = Clip(p, zero, six) d = Div(c, six) b = Mul(a, d)",
    "(Clip(3+x)/6)·x": "p = Add(three, a) c = Clip(p, zero, six) d = Div(c, six) b = Mul(d, a)",
    "x·(Clip(x+3)·⅙)": "p = Add(a, three) c = Clip(p, zero, six) d = Mul(c, sixth) b = Mul(a, d)",
    "(x·Clip(x+3))/6": "p = Add(a, three) c = Clip(p, zero, six) d = Mul(a, c) b = Div(d, six)",
    "⅙·(Clip(x+3)·x)": "p = Add(a, three) c = Clip(p, zero, six) d = Mul(c, a) b = Mul(sixth, d)",
    "(x/6)·Clip(x+3)": "p = Add(a, three) c = Clip(p, zero, six) d = Div(a, six) b = Mul(d, c)",
    "Clip(x+3)·(x·⅙)": "p = Add(a, three) c = Clip(p, zero, six) d = Mul(a, sixth) b = Mul(c, d)",
    "bounds as Constant nodes": "l = Constant<value = float {0.0}>() h = Constant<value = float {6.0}>()"
    " p = Add(a, three) c = Clip(p, l, h) d = Div(c, six) b = Mul(a, d)",
    "ReLU6 as Min and Max": "p = Add(a, three) m = Max(p, zero) c = Min(m, six) d = Mul(c, sixth)"
    " b = Mul(a, d)",
}
GELU = {
    "x·½·(1+erf(x/√2))": "r = Div(a, root) e = Erf(r) p = Add(e, one) h = Mul(a, half) b = Mul(h, p)",
    "(x·(1+erf(x/√2)))·½": "r = Div(a, root) e = Erf(r) p = Add(e, one) h = Mul(a, p) b = Mul(h, half)",
    "½·(x·(erf(x·√½)+1))": "r = Mul(a, root_half) e = Erf(r) p = Add(one, e) h = Mul(a, p) b = Mul(half, h)",
    "x·(½·(1+erf(√½·x)))": "r = Mul(root_half, a) e = Erf(r) p = Add(e, one) h = Mul(half, p) b = Mul(a, h)",
    "(½·(1+erf(x/√2)))·x": "r = Div(a, root) e = Erf(r) p = Add(e, one) h = Mul(p, half) b = Mul(h, a)",
    "x·((1+erf(x/√2))/2)": "r = Div(a, root) e = Erf(r) p = Add(e, one) h = Div(p, two) b = Mul(a, h)",
    "(x·(1+erf(x/√2)))/2": "r = Div(a, root) e = Erf(r) p = Add(e, one) h = Mul(a, p) b = Div(h, two)",
}
GELU_TANH = {
    "cube by Pow": "q = Pow(a, three) c = Mul(q, cubic) s = Add(a, c) r = Mul(s, bell) t = Tanh(r)"
    " p = Add(t, one) h = Mul(a, half) b = Mul(h, p)",
    "cube by products": "q2 = Mul(a, a) q = Mul(q2, a) c = Mul(cubic, q) s = Add(c, a) r = Mul(bell, s)"
    " t = Tanh(r) p = Add(one, t) h = Mul(half, a) b = Mul(p, h)",
    "half last": "q2 = Mul(a, a) q = Mul(a, q2) c = Mul(q, cubic) s = Add(a, c) r = Mul(s, bell)"
    " t = Tanh(r) p = Add(t, one) h = Mul(a, p) b = Mul(h, half)",
}
MISH = {
    "x·tanh(softplus(x))": "s = Softplus(a) t = Tanh(s) b = Mul(a, t)",
    "tanh(softplus(x))·x": "s = Softplus(a) t = Tanh(s) b = Mul(t, a)",
}
CLIP = {
    "min(max(x, 0), 6)": "m = Max(a, zero) b = Min(m, six)",
    "max(min(x, 6), 0)": "m = Min(a, six) b = Max(m, zero)",
    "min(6, max(0, x))": "m = Max(zero, a) b = Min(six, m)",
    "max(0, min(6, x))": "m = Min(six, a) b = Max(zero, m)",
}
RELU = {
    "max(x, 0)": "b = Max(a, zero)",
    "max(0, x)": "b = Max(zero, a)",
    "x where x > 0": "m = Greater(a, zero) b = Where(m, a, zero)",
    "x where not x < 0": "m = Less(a, zero) b = Where(m, zero, a)",
    "x times a mask": "m = Greater(a, zero) o = Cast<to = 1>(m) b = Mul(a, o)",
}
HARD_SIGMOID = {
    "Clip(x+3)/6": "p = Add(a, three) c = Clip(p, zero, six) b = Div(c, six)",
    "⅙·min(max(x+3, 0), 6)": "p = Add(a, three) m = Max(p, zero) c = Min(m, six) b = Mul(sixth, c)",
    "Clip(x/6+½, 0, 1)": "p = Mul(a, sixth) q = Add(p, half) b = Clip(q, zero, one)",
}
LEAKY = {
    "max(x, x/5)": "l = Mul(a, fifth) b = Max(a, l)",
    "where": "l = Mul(fifth, a) m = GreaterOrEqual(a, zero) b = Where(m, a, l)",
    "relu(x) - relu(-x)/5": "r = Relu(a) n = Neg(a) q = Relu(n) t = Mul(q, fifth) b = Sub(r, t)",
}
SLOPED = {
    "relu(x) + (-s)·relu(-x)": "r = Relu(a) n = Neg(a) q = Relu(n) i = Neg(steep) t = Mul(i, q)"
    " b = Add(r, t)",
    "max(x, 0) + s·min(x, 0)": "r = Max(a, zero) q = Min(a, zero) t = Mul(steep, q) b = Add(r, t)",
    "where": "t = Mul(steep, a) m = Greater(a, zero) b = Where(m, a, t)",
}
EXPONENTIAL = {
    "where": "e = Exp(a) p = Sub(e, one) m = Greater(a, zero) b = Where(m, a, p)",
    "max(x, 0) + min(exp(x) - 1, 0)": "e = Exp(a) p = Sub(e, one) q = Min(p, zero) r = Relu(a) b = Add(r, q)",
    "as Keras writes it": "e = Elu(a) p = Mul(e, one) m = Greater(a, zero) n = Not(m) o = Cast<to = 1>(m)"
    " u = Mul(o, a) i = Cast<to = 1>(n) j = Mul(i, p) b = Add(u, j)",
}
SOFTPLUS = {
    "log(1 + exp(x))": "e = Exp(a) p = Add(e, one) b = Log(p)",
    "max(x, 0) + log(1 + exp(-|x|))": "m = Max(a, zero) t = Abs(a) n = Neg(t) e = Exp(n) p = Add(e, one)"
    " l = Log(p) b = Add(m, l)",
}
CAPPED = {
    "min(relu(x), 6)": "r = Relu(a) b = Min(r, six)",
    "relu(x) clipped": "r = Relu(a) b = Clip(r, , six)",
    "as Keras writes it": "r = Relu(a) m = Min(r, six) b = Max(m, zero)",
}
THRESHOLDED = {"x times a mask": "m = Greater(a, fifth) o = Cast<to = 1>(m) b = Mul(a, o)"}
SPELLED = [
    *((f"Relu: {k}", v, "Relu", "b = Relu(a)", 17) for k, v in RELU.items()),
    *(
        (f"HardSigmoid: {k}", v, "HardSigmoid", "b = HardSigmoid<alpha = 0.16666667>(a)", 17)
        for k, v in HARD_SIGMOID.items()
    ),
    *((f"LeakyRelu: {k}", v, "LeakyRelu", "b = LeakyRelu<alpha = 0.2>(a)", 17) for k, v in LEAKY.items()),
    *((f"PRelu: {k}", v, "PRelu", "b = PRelu(a, steep)", 17) for k, v in SLOPED.items()),
    *((f"Elu: {k}", v, "Elu", "b = Elu(a)", 17) for k, v in EXPONENTIAL.items()),
    *((f"Softplus: {k}", v, "Softplus", "b = Softplus(a)", 17) for k, v in SOFTPLUS.items()),
    *((f"Clip: {k}", v, "Clip", "b = Clip(a, zero, six)", 17) for k, v in CAPPED.items()),
    *(
        (f"ThresholdedRelu: {k}", v, "ThresholdedRelu", "b = ThresholdedRelu<alpha = 0.2>(a)", 17)
        for k, v in THRESHOLDED.items()
    ),
    *((f"Swish: {k}", v, "Swish", "b = Swish(a)", 24) for k, v in SWISH.items()),
    *((f"HardSwish: {k}", v, "HardSwish", "b = HardSwish(a)", 17) for k, v in HARD_SWISH.items()),
    *((f"Gelu: {k}", v, "Gelu", "b = Gelu(a)", 20) for k, v in GELU.items()),
    *(
        (f"Gelu by tanh: {k}", v, "Gelu", 'b = Gelu<approximate = "tanh">(a)', 20)
        for k, v in GELU_TANH.items()
    ),
    *((f"Mish: {k}", v, "Mish", "b = Mish(a)", 18) for k, v in MISH.items()),
    *((f"Clip: {k}", v, "Clip", "b = Clip(a, zero, six)", 17) for k, v in CLIP.items()),
]
NEAR_MISSES = {
    "nothing of what is small": "p = Sub(a, far) b = Max(p, zero)",
    "a constant": "p = Mul(a, zero) b = Add(p, six)",
    "the gate has another input": "n = Neg(a) s = Sigmoid(n) b = Mul(a, s)",
    "a gate of a filter": "f = GlobalAveragePool(a) s = Sigmoid(f) b = Mul(a, s)",
    "a sigmoid squared": "s = Sigmoid(a) b = Mul(s, s)",
    "HardSigmoid with the default alpha": "s = HardSigmoid(a) b = Mul(a, s)",
    "HardSigmoid with another beta": "s = HardSigmoid<alpha = 0.16666667, beta = 0.4>(a) b = Mul(a, s)",
    "HardSigmoid of another input": "n = Neg(a) s = HardSigmoid<alpha = 0.16666667>(n) b = Mul(a, s)",
    "a clip up to 5": "p = Add(a, three) c = Clip(p, zero, five) d = Div(c, six) b = Mul(a, d)",
    "a clip from 1": "p = Add(a, three) c = Clip(p, one, six) d = Div(c, six) b = Mul(a, d)",
    "a clip of x+2": "p = Add(a, two) c = Clip(p, zero, six) d = Div(c, six) b = Mul(a, d)",
    "a clip of another input": "n = Neg(a) p = Add(n, three) c = Clip(p, zero, six) d = Div(c, six)"
    " b = Mul(a, d)",
    "erf of x/2": "r = Div(a, two) e = Erf(r) p = Add(e, one) h = Mul(a, half) b = Mul(h, p)",
    "erf of another input": "n = Neg(a) r = Div(n, root) e = Erf(r) p = Add(e, one) h = Mul(a, half)"
    " b = Mul(h, p)",
    "2 + erf": "r = Div(a, root) e = Erf(r) p = Add(e, two) h = Mul(a, half) b = Mul(h, p)",
    "x twice": "r = Div(a, root) e = Erf(r) p = Add(e, one) h = Mul(a, half) g = Mul(h, a) b = Mul(g, p)",
    "a cubic with another factor": "q = Pow(a, three) c = Mul(q, slightly) s = Add(a, c) r = Mul(s, bell)"
    " t = Tanh(r) p = Add(t, one) h = Mul(a, half) b = Mul(h, p)",
    "a square for a cube": "q = Pow(a, two) c = Mul(q, cubic) s = Add(a, c) r = Mul(s, bell) t = Tanh(r)"
    " p = Add(t, one) h = Mul(a, half) b = Mul(h, p)",
    "softplus of another input": "n = Neg(a) s = Softplus(n) t = Tanh(s) b = Mul(a, t)",
    "tanh alone": "t = Tanh(a) b = Mul(a, t)",
    "a root, of no number below zero": "q = Mul(a, a) p = Add(q, one) r = Sqrt(p) b = Mul(r, steep)",
}
NEARLY_RECTIFIED = {
    "relu(x) + e": "r = Relu(a) b = Add(r, tiny)",
    "relu(x) - e": "r = Relu(a) b = Sub(r, tiny)",
    "clip(relu(x), e)": "r = Relu(a) b = Clip(r, tiny)",
    "max(relu(x), e)": "r = Relu(a) b = Max(r, tiny)",
    "max(x, e)": "b = Max(a, tiny)",
    "max(x, 0) + e": "r = Max(a, zero) b = Add(r, tiny)",
    "min(relu(x), 6) + e": "r = Relu(a) q = Min(r, six) b = Add(q, tiny)",
    "√(relu(x) + e)": "r = Relu(a) q = Add(r, tiny) b = Sqrt(q)",
    "leaky(x) + e": "r = LeakyRelu<alpha = 0.2>(a) b = Add(r, tiny)",
    "x thresholded + e": "r = ThresholdedRelu<alpha = 0.2>(a) b = Add(r, tiny)",
    "clip(x + e, 0)": "q = Add(a, tiny) b = Clip(q, zero)",
    "gem": "r = Relu(a) c = Clip(r, tiny) p = Pow(c, three) m = GlobalAveragePool(p) q = Pow(m, third)"
    " b = Mul(r, q)",
}
SCALED = {
    "2·Gelu, its half folded away": (
        "r = Div(a, root) e = Erf(r) p = Add(e, one) b = Mul(a, p)",
        "k2 = Gelu(a) b = Mul(k2, two)",
    ),
    "0.4·Gelu": (
        "r = Div(a, root) e = Erf(r) p = Add(e, one) h = Mul(a, fifth) b = Mul(h, p)",
        "k2 = Gelu(a) h = Mul(k2, two) b = Mul(h, fifth)",
    ),
    "HardSwish over 5, not 6": (
        "p = Add(a, three) c = Clip(p, zero, six) d = Mul(a, c) b = Div(d, five)",
        "k2 = HardSwish(a) h = Mul(k2, six) b = Div(h, five)",
    ),
    "6·HardSwish": (
        "p = Add(a, three) c = Clip(p, zero, six) b = Mul(a, c)",
        "k2 = HardSwish(a) b = Mul(k2, six)",
    ),
}
NAMES = {"Swish", "HardSwish", "Gelu", "Mish", "PRelu", "ThresholdedRelu"}


def operators(proto):
    return {n.op for n in load(proto).nodes}


@pytest.mark.parametrize("rules", ["deconvnet", "guided", "gradient"])
@pytest.mark.parametrize("spelled", SPELLED, ids=lambda row: row[0])
def test_spelling_an_activation_out_changes_nothing(spelled, rules):
    _, body, operator, single, opset = spelled
    assert operator in operators(network(body))
    seed = numbers((2, 2, 3, 3), "seed")
    got = reconstruction(network(body), X, seed, rules=rules)
    assert_close(got, reconstruction(network(single, opset), X, seed, rules=rules))


@pytest.mark.parametrize("spelled", SPELLED, ids=lambda row: row[0])
def test_the_spellings_above_are_the_same_functions(spelled):
    _, body, _, single, opset = spelled
    np.testing.assert_allclose(
        plain(network(body), X)["y"], plain(network(single, opset), X)["y"], rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("rules", ["deconvnet", "guided", "gradient"])
@pytest.mark.parametrize("zeros", ["Expand(zero, d)", "ConstantOfShape(d)"])
def test_numbers_may_be_repeated_to_sizes_that_only_the_run_tells(zeros, rules):
    """As JAX writes Elu: where the input is positive, 0 stands for it, so that no exponential overflows."""
    spelled = (
        f"a = Conv(x, w) d = Shape(a) z = {zeros} m = Greater(a, zero) s = Where(m, z, a) e = Exp(s)"
        " p = Sub(e, one) b = Where(m, a, p) y = Conv(b, v)"
    )
    weights = {"w": numbers((4, 3, 2, 2), "w"), "v": numbers((2, 4, 2, 2), "v")}
    weights |= {name: np.array(NUMBERS[name], np.float32) for name in ("zero", "one")}
    free = {"x": ("N", *X["x"].shape[1:])}
    proto, single = (
        model_of(spelled, free, weights),
        model_of("a = Conv(x, w) b = Elu(a) y = Conv(b, v)", free, weights),
    )
    assert "Elu" in operators(proto)
    seed = numbers((2, 2, 3, 3), "seed")
    got = reconstruction(proto, X, seed, rules=rules)
    assert_close(got, reconstruction(single, X, seed, rules=rules))


@pytest.mark.parametrize("spelled", SPELLED, ids=lambda row: row[0])
def test_what_is_activated_may_itself_be_a_product(spelled):
    _, body, operator, _, _ = spelled
    assert operator in operators(network(body, between="f = Conv(x, w) a = Mul(f, k)"))


@pytest.mark.parametrize("name", NEAR_MISSES)
def test_what_only_looks_like_an_activation_is_none(name):
    proto = network(NEAR_MISSES[name])
    assert not operators(proto) & NAMES
    seed = numbers((2, 2, 3, 3), "seed")
    expected = differences(network(NEAR_MISSES[name], real="double"), X, seed)
    assert_close(reconstruction(proto, X, seed, rules="gradient"), expected)


@pytest.mark.parametrize("rules", ["deconvnet", "guided", "gradient"])
@pytest.mark.parametrize("name", SCALED)
def test_an_activation_with_another_factor_is_one_times_the_factor(name, rules):
    spelled, single = SCALED[name]
    seed = numbers((2, 2, 3, 3), "seed")
    got = reconstruction(network(spelled), X, seed, rules=rules)
    assert_close(got, reconstruction(network(single, 20), X, seed, rules=rules))


@pytest.mark.parametrize("name", NEARLY_RECTIFIED)
def test_what_is_nearly_a_rectifier_still_stops_what_is_dead(name):
    seed = numbers((2, 2, 3, 3), "seed")
    expected = differences(network(NEARLY_RECTIFIED[name], real="double"), X, seed)
    assert_close(reconstruction(network(NEARLY_RECTIFIED[name]), X, seed, rules="gradient"), expected)


@pytest.mark.parametrize("rules", ["deconvnet", "guided", "gradient"])
@pytest.mark.parametrize("limit", ["c = Clip(r, tiny)", "c = Max(r, tiny)", "c = Max(tiny, r)"])
def test_a_generalised_mean_sends_nothing_to_a_dead_channel(limit, rules):
    body = f"r = Relu(x) {limit} p = Pow(c, three) m = GlobalAveragePool(p) y = Pow(m, third)"
    x = np.stack([np.full((2, 2), -1.0), np.full((2, 2), 2.0)])[None].astype(np.float32)
    weights = {"tiny": np.float32(1e-6), "three": np.float32(3), "third": np.float32(1 / 3)}
    got = reconstruction(model_of(body, {"x": x.shape}, weights), {"x": x}, rules=rules)
    np.testing.assert_allclose(got[0], [np.zeros((2, 2)), np.full((2, 2), 0.25)], rtol=1e-5)


@pytest.mark.parametrize("rules", ["deconvnet", "guided"])
def test_a_small_number_added_to_a_relu_changes_nothing(rules):
    body, seed = "r = Relu(a) b = Add(r, tiny)", numbers((2, 2, 3, 3), "seed")
    expected = reconstruction(network("b = Relu(a)"), X, seed, rules=rules)
    np.testing.assert_array_equal(reconstruction(network(body), X, seed, rules=rules), expected)


def test_the_bounds_of_a_clip_are_those_of_what_it_limits():
    """What several nodes compute is rounded: compared with a bound, it may lie beyond it."""
    body = "p = Add(x, shift) c = Clip(p, zero, one) y = Sub(c, shift)"
    x = np.float32([[-3, -0.2, 0.1, 0.6, 3]])
    for shift in np.linspace(0.12, 0.18, 50, dtype=np.float32):
        proto = model_of(body, {"x": x.shape}, {"shift": shift, "zero": np.float32(0), "one": np.float32(1)})
        np.testing.assert_array_equal(reconstruction(proto, {"x": x}, rules="gradient"), [[0, 0, 1, 1, 0]])


def test_a_variance_kept_from_below_zero_is_no_activation():
    body = (
        "m = ReduceMean<axes = [2, 3]>(a) q = Mul(a, a) n = ReduceMean<axes = [2, 3]>(q) o = Mul(m, m)"
        " u = Sub(n, o) t = Max(u, zero) e = Add(t, tiny) r = Sqrt(e) c = Sub(a, m) b = Div(c, r)"
    )
    seed = numbers((2, 2, 3, 3), "seed")
    expected = differences(network(body, real="double"), X, seed)
    assert "Relu" not in operators(network(body))
    for rules in ("deconvnet", "gradient"):
        assert_close(reconstruction(network(body), X, seed, rules=rules), expected)


def test_a_gate_that_is_used_elsewhere_too_sends_its_own_signal():
    body = "s = Sigmoid(a) m = Mul(a, s) b = Add(m, s)"
    seed = numbers((2, 2, 3, 3), "seed")
    expected = differences(network(body, real="double"), X, seed)
    assert "Swish" in operators(network(body))
    assert_close(reconstruction(network(body), X, seed, rules="gradient"), expected)


def test_a_value_inside_an_activation_can_be_explained():
    proto = network("s = Sigmoid(a) b = Mul(a, s)")
    seed = numbers((2, 4, 4, 4), "seed")
    alone = network("s = Sigmoid(a) b = Neg(s)")
    np.testing.assert_array_equal(reconstruction(proto, X, seed, "s"), reconstruction(alone, X, seed, "s"))


@pytest.mark.parametrize("bounds", [("zero", "k"), ("k", "six")])
def test_minimum_and_maximum_by_channel_are_no_clip(bounds):
    low, high = bounds
    body = f"m = Max(a, {low}) b = Min(m, {high})"
    proto = network(body, between="f = Conv(x, w) a = Mul(f, k)")
    assert "Clip" not in operators(proto)


def test_a_product_with_half_a_value_is_just_that():
    proto = network("h = Div(a, two) b = Mul(a, h)")
    expected = differences(network("h = Div(a, two) b = Mul(a, h)", real="double"), X, numbers((2, 2, 3, 3)))
    assert_close(reconstruction(proto, X, numbers((2, 2, 3, 3))), expected)
