"""Layer-wise relevance propagation: the rules by their formulas, an independent oracle, and zennit.

zennit computes in float64. Where it merges batch normalisations it leaves their epsilon behind, so that each
divides by √(1 + ε) still: here it is told otherwise.
"""

import copy
import re

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from oracle import assert_close, model_of, numbers, plain, send_back, session_of
from random_networks import nets, signed_nets, strongest_units
from shares import both
from zoo_files import ZOO

from onnx_deconv import Explainer, RuleError, Semantics, compile_pair, load
from onnx_deconv.operators.lrp import AlphaBeta, Box, Epsilon, Flat, Gamma, WSquare, composite
from onnx_deconv.operators.signs import is_nonnegative
from onnx_deconv.runtime import PairSession
from onnx_deconv.verification.reference import relevance as by_formulas

TABLES = ["lrp", "lrp-epsilon", "lrp-gamma"]
X, R = np.float32([1, -2, 3]), np.array([0.25, 0.75])
W, B = np.float32([[2, -1], [1, 3], [-4, 0.5]]), np.float32([0.5, -1])


def relevance(proto, feeds, seed, rules="lrp", **more):
    """Send a seed back; return what the only explained input gets."""
    pair = session_of(proto, rules=Semantics.of(rules).rules, **more)
    (found,) = send_back(pair, feeds, np.asarray(seed, np.float32)).values()
    return found


# --- the rules, by hand ---------------------------------------------------------------------------


def divided(contributions, bias, r, epsilon=1e-6):
    """Rⱼ = Σₖ zⱼₖ/(Σⱼ zⱼₖ + biasₖ + ε·sign)·Rₖ."""
    z = contributions.sum(0) + bias
    return contributions @ (r / (z + np.where(z < 0, -epsilon, epsilon)))


def positive(a):
    return np.maximum(a, 0)


def by_gamma(x):
    z = x[:, None] * W
    result = z.sum(0) + B
    total = np.zeros(3)
    for sign in (1, -1):
        favoured, bias = (a + 0.25 * sign * positive(sign * a) for a in (z, B))
        total += divided(favoured, bias, np.where(np.sign(result) == sign, R, 0))
    return total


def in_box(x, low, high):
    return divided((x - low)[:, None] * positive(W) + (x - high)[:, None] * np.minimum(W, 0), 0, R)


RULES = {
    "epsilon": (Epsilon(), lambda x: divided(x[:, None] * W, B, R)),
    "epsilon of 1/2": (Epsilon(0.5), lambda x: divided(x[:, None] * W, B, R, 0.5)),
    "z-plus": (AlphaBeta(), lambda x: divided(positive(x[:, None] * W), positive(B), R)),
    "alpha 2, beta 1": (
        AlphaBeta(2, 1),
        lambda x: 2 * divided(positive(x[:, None] * W), positive(B), R)
        - divided(np.minimum(x[:, None] * W, 0), np.minimum(B, 0), R),
    ),
    "gamma": (Gamma(), by_gamma),
    "flat": (Flat(), lambda _: np.full(3, R.sum() / 3)),
    "w²": (WSquare(), lambda _: divided(W**2, 0, R)),
    "z-B": (Box(-3, 4), lambda x: in_box(x, -3, 4)),
    "z-B by the image": (Box(), lambda x: in_box(x, x.min(), x.max())),
}  # fmt: skip


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("x", [X, np.abs(X)], ids=["signed", "positive"])
def test_rules_by_their_formulas(name, x):
    rule, expected = RULES[name]
    weights = {"w": W, "b": B}
    found = relevance(
        model_of("y = Gemm(x, w, b)", {"x": (1, 3)}, weights),
        {"x": x[None]},
        R[None],
        composite("tried", dense=rule),
    )
    np.testing.assert_allclose(found[0], expected(x.astype(float)), rtol=1e-5)


def test_box_has_bounds_for_each_channel():
    weight = numbers((2, 3, 3, 3), "w")
    proto = model_of("y = Conv(x, w)", {"x": (1, 3, 5, 5)}, {"w": weight})
    x, low, high = numbers((1, 3, 5, 5), "x"), np.float32([-2, -3, -4]), np.float32([2, 2.5, 3])
    found = relevance(proto, {"x": x}, np.ones((1, 2, 3, 3)), composite("boxed", first=Box([*low], [*high])))

    # The rule is the epsilon rule of two images, one counted from low on, one from high down.
    def parts(bound, w):
        z = plain(model_of("y = Conv(x, w)", {"x": x.shape}, {"w": w}), {"x": x - bound.reshape(-1, 1, 1)})[
            "y"
        ]
        return z.astype(float), w

    (above, plus), (below, minus) = parts(low, positive(weight)), parts(high, np.minimum(weight, 0))
    ratio = (1 / (above + below)).astype(np.float32)

    def back(w):
        return relevance(model_of("y = Conv(x, w)", {"x": x.shape}, {"w": w}), {"x": x}, ratio, "gradient")

    expected = (x - low.reshape(-1, 1, 1)) * back(plus) + (x - high.reshape(-1, 1, 1)) * back(minus)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5)


def test_alpha_and_beta_differ_by_one():
    with pytest.raises(ValueError, match="alpha - beta has to be 1"):
        AlphaBeta(2, 2)


def test_a_composites_digest_tells_its_rules():
    rules = [
        (Gamma(0.25),),
        (Gamma(0.25),),
        (Gamma(0.5),),
        (Gamma(0.25), Epsilon(0.1)),
        (Gamma(0.25), None, Flat()),
    ]
    tables = [composite("c", *each) for each in rules]
    digests = [table.digest for table in tables]
    assert digests[0] == digests[1]
    assert len(set(digests)) == 4


def test_a_composite_says_which_rule_stands_where():
    table = composite("c", Gamma(), first=WSquare())
    rows = {key[1]: rule.__doc__ for key, rule in table._rows.items()}
    assert "gamma rule" in rows["Conv"]
    assert "in the first layer in proportion to squared weights" in rows["Conv"]
    assert "epsilon rule" in rows["Gemm"]


# --- what belongs to a layer ----------------------------------------------------------------------

LAYERS = {
    "Gemm": ("y = Gemm(x, w, b)", (2, 3)),
    "MatMul and Add": ("m = MatMul(x, w) y = Add(m, b)", (2, 3)),
    "MatMul, Mul and Sub": ("m = MatMul(x, half) d = Mul(m, two) y = Sub(d, minus)", (2, 3)),
    "Gemm of a transpose": ("y = Gemm<transB = 1, alpha = 0.5, beta = 2.0>(x, wt, bh)", (2, 3)),
    "MatMul, Mul by channel and Add": ("m = MatMul(x, apart) d = Mul(m, scale) y = Add(d, b)", (2, 3)),
    "Einsum and Add": ('m = Einsum<equation = "ni,io->no">(x, w) y = Add(m, b)', (2, 3)),
    "Einsum of the transpose first, Mul by channel and Add": (
        'm = Einsum<equation = "oi,ni->no">(apartt, x) d = Mul(m, scale) y = Add(d, b)', (2, 3),
    ),
}  # fmt: skip


@pytest.mark.parametrize("rules", TABLES)
@pytest.mark.parametrize("form", LAYERS)
def test_a_dense_layer_is_one_however_it_is_written(rules, form):
    weights = {"w": W, "b": B, "half": W / 2, "two": np.float32(2), "minus": -B, "wt": 2 * W.T, "bh": B / 2}
    scale = np.float32([2, -0.5])
    weights |= {"scale": scale, "apart": W / scale, "apartt": (W / scale).T}
    body, shape = LAYERS[form]
    before = "h = Gemm(x, one) "
    one = {"one": np.eye(3, dtype=np.float32)}
    feeds, seed = {"x": numbers(shape, "x")}, numbers((2, 2), "seed")
    found, expected = (
        relevance(
            model_of(before + re.sub(r"\bx\b", "h", text), {"x": shape}, one | weights), feeds, seed, rules
        )
        for text in (body, LAYERS["Gemm"][0])
    )
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("rules", [*TABLES, "excitation"])
@pytest.mark.parametrize("operator", ["Conv", "ConvTranspose"])
def test_a_normalisation_is_part_of_the_convolution_before_it(rules, operator):
    scale = {
        "s": np.float32([-2, 0.5, 1, -1]),
        "b": np.float32([1, 2, 0, -1]),
        "m": np.float32([0.5, -1, 0, 2]),
    }
    spread, weight = np.float32([1, 4, 0.5, 2]), numbers((4, 2, 3, 3), "w")
    factor = scale["s"] / np.sqrt(spread + 1e-5)
    if operator == "Conv":
        folded = weight * factor.reshape(-1, 1, 1, 1)
    else:  # channels of a group lie side by side
        folded = weight * factor.reshape(2, 1, 2, 1, 1).repeat(2, 1).reshape(4, 2, 1, 1)
    bias = scale["b"] - scale["m"] * factor
    begin = "a = Conv(x, first) r = Relu(a) "
    first = {"first": numbers((4, 3, 1, 1), "first")}
    apart = f"{begin} c = {operator}<group = 2>(r, w) n = BatchNormalization(c, s, b, m, v) y = Relu(n)"
    whole = f"{begin} c = {operator}<group = 2>(r, f, bias) y = Relu(c)"
    image, feeds = {"x": (1, 3, 6, 6)}, {"x": numbers((1, 3, 6, 6), "x")}
    one = model_of(apart, image, first | {"w": weight, "v": spread, **scale})
    other = model_of(whole, image, first | {"f": folded, "bias": bias})
    seed = plain(other, feeds)["y"]
    found, expected = relevance(one, feeds, seed, rules), relevance(other, feeds, seed, rules)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5 * np.abs(expected).max())


def test_a_scale_that_others_read_too_is_none_of_the_layer():
    """The filter's result is used before and after it is scaled."""
    body = "h = Gemm(x, one) c = Gemm(h, w) d = Mul(c, minus) y = Add(c, d)"
    weights = {"one": np.eye(3, dtype=np.float32), "w": W, "minus": np.float32(-0.5)}
    found = relevance(model_of(body, {"x": (1, 3)}, weights), {"x": X[None]}, R[None], "lrp-epsilon")
    x = X.astype(float)
    z = x @ W
    r = R * (z + -0.5 * z) / (0.5 * z)  # both terms' shares meet again
    np.testing.assert_allclose(found[0], divided(x[:, None] * W, 0, r), rtol=1e-4)


@pytest.mark.parametrize(
    "product",
    [
        'p = Einsum<equation = "ni,io->on">(h, w)',
        "p = MatMul(h, v)",
        "t = Transpose(h) p = MatMul(h, t)",
        "t = Transpose(h) p = MatMul(wt, t)",
    ],
    ids=["channels first", "a vector", "both from the image", "the weight first"],
)
def test_what_is_added_to_each_image_is_none_of_the_layer(product):
    """Of a sum, constants get nothing: relevance is what it is without them."""
    weights = {"one": np.eye(3, dtype=np.float32), "w": W, "v": W[:, 0], "wt": W.T, "b": np.float32([3, -5])}
    shape, feeds = {"x": (2, 3)}, {"x": numbers((2, 3), "x")}
    apart, alone = (
        model_of(f"h = Gemm(x, one) {product} y = {end}", shape, weights)
        for end in ("Add(p, b)", "Identity(p)")
    )
    seed = numbers(np.shape(plain(alone, feeds)["y"]), "seed")
    expected = relevance(alone, feeds, seed, "lrp-epsilon")
    assert expected.any()
    np.testing.assert_array_equal(relevance(apart, feeds, seed, "lrp-epsilon"), expected)


@pytest.mark.parametrize("reader", ["Exp", "Sqrt"])
def test_relevance_at_a_rectifiers_zeros_is_divided_by_the_filters_own_result(reader):
    """What reads the rectifier hands on what it gets, also where that is zero."""
    body = f"h = Gemm(x, one) c = Gemm(h, w) r = Relu(c) y = {reader}(r)"
    weights = {"one": np.eye(3, dtype=np.float32), "w": W}
    assert (X @ W).min() < 0
    found = relevance(model_of(body, {"x": (1, 3)}, weights), {"x": X[None]}, R[None], "lrp-epsilon")
    np.testing.assert_allclose(found[0], divided(X[:, None] * W, 0, R), rtol=1e-4)


@pytest.mark.parametrize(
    ("body", "sure"),
    [
        ("y = Relu(x)", True),
        ("y = Sigmoid(x)", True),
        ("y = Clip(x, zero, six)", True),
        ("y = Clip(x, minus, six)", False),
        ("y = Clip(x)", False),
        ("r = Max(x, zero) y = Min(r, six)", True),
        ("r = Max(x, minus) y = Min(r, six)", False),
        ("y = Tanh(x)", False),
        ("y = Flatten(x)", False),
        ("r = Relu(x) y = Flatten(r)", True),
        ("r = Relu(x) y = Neg(r)", False),
        ("r = Relu(x) y = Add(r, six)", True),
        ("r = Relu(x) y = Add(r, minus)", False),
        ("r = Relu(x) y = Add(r, x)", False),
        ("r = Relu(x) y = MaxPool<kernel_shape = [2, 2]>(r)", True),
        ("y = MaxPool<kernel_shape = [2, 2]>(x)", False),
    ],
)
def test_which_values_are_known_to_have_no_negative_numbers(body, sure):
    numbers_of = {"zero": np.float32(0), "six": np.float32(6), "minus": np.float32(-1)}
    assert is_nonnegative(load(model_of(body, {"x": (1, 2, 4, 4)}, numbers_of)), "y") is sure


def test_the_first_layers_are_those_that_read_the_image():
    weights = {
        "w": numbers((2, 3, 3, 3), "w"),
        "v": numbers((2, 3, 3, 3), "v"),
        "u": numbers((1, 2, 1, 1), "u"),
    }
    body = "a = Conv(x, w) b = Conv(x, v) s = Add(a, b) r = Relu(s) y = Conv(r, u)"
    image, feeds = {"x": (1, 3, 6, 6)}, {"x": numbers((1, 3, 6, 6), "x")}
    found = relevance(model_of(body, image, weights), feeds, np.ones((1, 1, 4, 4)))
    np.testing.assert_array_equal(found[:, 0], found[:, 1])  # by the flat rule all channels get the same
    prepared = "m = Sub(x, mean) d = Div(m, std) t = Transpose<perm = [0, 3, 1, 2]>(d) p = Pad(t, pads) "
    more = {
        "mean": np.float32([0.1, 0.2, 0.3]),
        "std": np.float32(0.5),
        "pads": np.array([0, 0, 1, 1, 0, 0, 1, 1]),
    }
    proto = model_of(prepared + body.replace("(x,", "(p,"), {"x": (1, 6, 6, 3)}, weights | more)
    found = relevance(proto, {"x": numbers((1, 6, 6, 3), "x")}, np.ones((1, 1, 6, 6)))
    np.testing.assert_array_equal(found[..., 0], found[..., 1])


def test_the_explained_value_ends_what_is_folded_in():
    body = "h = Gemm(x, one) c = Gemm(h, w) y = Mul(c, minus)"
    weights = {"one": np.eye(3, dtype=np.float32), "w": W, "minus": np.float32(-2)}
    proto, feeds = model_of(body, {"x": (1, 3)}, weights), {"x": X[None]}
    before, after = (relevance(proto, feeds, R[None], explained=value) for value in ("c", "y"))
    assert relevance(proto, feeds, R[None], "lrp-epsilon", explained="c").any()
    np.testing.assert_allclose(before, after, rtol=1e-5)  # in the epsilon rule the factor cancels


# --- against the oracle ---------------------------------------------------------------------------


@pytest.mark.parametrize("table", TABLES)
@settings(max_examples=30)
@given(net=signed_nets(), state=st.integers(0, 99))
def test_networks_of_signed_weights(table, net, state):
    x = np.random.default_rng(state).standard_normal((1, *net.shape)).astype(np.float32)
    found, expected, oracle, seed = both(net, x, table)
    assume(oracle.closest > 1e-5 and oracle.steepest < 1e4)
    tolerance = 1e-5 * np.abs(expected).max() + 1e-6 * oracle.steepest
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)
    path = list(reversed(oracle.model.graph.node))
    slow = by_formulas(oracle.model, oracle.values, net.last, seed, ["image"], path, table)["image"]
    tolerance = 1e-10 * np.abs(expected).max() + 1e-12 * oracle.steepest
    np.testing.assert_allclose(slow, expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("table", TABLES)
@settings(max_examples=40)
@given(net=nets(), state=st.integers(0, 99))
def test_without_biases_relevance_is_conserved(table, net, state):
    x = np.random.default_rng(state).uniform(1, 2, (2, *net.shape)).astype(np.float32)
    proto = net.model()
    seed = strongest_units(proto, net, x)
    found = relevance(proto, {"image": x}, seed, table, explained=net.last)
    np.testing.assert_allclose(found.sum((1, 2, 3), dtype=np.float64), 1, rtol=2e-3)


def test_on_a_real_model_biases_alone_keep_relevance():
    path = ZOO / "models" / "squeezenet1.1-caffe2-fp32.onnx"
    if not path.exists():
        pytest.skip(f"{path} is absent; set ONNX_DECONV_ZOO")
    explainer = Explainer(path, "lrp", providers="cpu")
    x = np.random.default_rng(0).uniform(-120, 130, (2, 3, 224, 224)).astype(np.float32)
    for one in explainer(x):
        assert one.seed == "one"
        assert one.reconstruction.min() >= 0
        assert 0.9 < one.reconstruction.sum(dtype=np.float64) < 1


# --- forms that have no rule ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "inputs", "why"),
    [
        ("y = Conv(x, z)", {"x": (1, 2, 4, 4), "z": (3, 2, 2, 2)}, "filter depends on the explained input"),
        ("y = Gemm(x, w, z)", {"x": (1, 3), "z": (1, 2)}, "depends on the explained input"),
    ],
)
@pytest.mark.parametrize("rules", ["lrp", "excitation"])
def test_what_cannot_be_divided_is_refused(rules, body, inputs, why):
    proto = model_of(body, inputs, {"w": W} if "w" in body.split("(")[1] else {})
    with pytest.raises(RuleError, match=why):
        compile_pair(load(proto), semantics=rules)


# --- zennit ---------------------------------------------------------------------------------------

NETWORKS = ["VGG-style", "SqueezeNet-style", "ResNet-style", "MobileNet-style"]


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("name", NETWORKS)
def test_as_zennit_has_it(name, table):
    pytest.importorskip("torch")
    pytest.importorskip("onnxscript")
    pytest.importorskip("zennit.composites")
    from networks import MODULES, clear_picture, exported, randomised  # noqa: PLC0415  (it needs torch)

    make, size = MODULES[name]
    network = randomised(make(), seed=0)
    x = clear_picture(network, size)
    top = int(network(x).argmax())
    pair = compile_pair(load(exported(network, size, dynamo=True)), semantics=table)
    session = PairSession(pair, "cpu")
    values = session.run_forward({pair.manifest["inputs"][0]["name"]: x.float().numpy()})
    seed = np.zeros((1, 10), np.float32)
    seed[0, top] = 1
    found = session.run_deconv(values, seed)["reconstruction"]
    expected = by_zennit(network, x, top, table)
    assert_close(found, expected)


def by_zennit(network, x, top, table):
    """Return what zennit makes of a class, 1 at its score; sums of two branches are modules of its own."""
    import networks  # noqa: PLC0415
    import torch  # noqa: PLC0415
    from zennit import canonizers, composites, layer, rules, types  # noqa: PLC0415

    class Merged(canonizers.SequentialMergeBatchNorm):
        def register(self, linears, batch_norm):
            super().register(linears, batch_norm)
            batch_norm.eps = 0.0

    network = copy.deepcopy(network)
    for block in [m for m in network.modules() if isinstance(m, networks.Residual)]:
        block.total = layer.Sum()

    def summed(_, block):
        if not isinstance(block, networks.Residual):
            return None
        return {
            "forward": lambda x: block.relu(block.total(torch.stack([block.body(x), block.carried(x)], -1)))
        }

    own = {"canonizers": [Merged(), canonizers.AttributeCanonizer(summed)]}
    low, high = x.amin((2, 3), keepdim=True), x.amax((2, 3), keepdim=True)
    epsilon = [*composites.layer_map_base(), (types.Linear, rules.Epsilon())]
    composite_of = {
        "lrp": lambda: composites.EpsilonPlusFlat(**own),
        "lrp-epsilon": lambda: composites.LayerMapComposite(epsilon, **own),
        "lrp-gamma": lambda: composites.EpsilonGammaBox(low, high, **own),
    }
    x = x.clone().requires_grad_()
    with composite_of[table]().context(network) as changed:
        score = changed(x)[0, top]
        return torch.autograd.grad(score, x)[0].numpy()
