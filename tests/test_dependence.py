"""Whether a picture depends on the image is known beforehand, and true of the numbers."""

import numpy as np
import pytest
from oracle import model_of, numbers

from onnx_deconv import Explainer, Semantics, compile_pair, load
from onnx_deconv.attribution.method import CLASS_METHOD
from onnx_deconv.runtime import PairSession, SignalMeter, numpy_of

QUANTISED = "q{0} = QuantizeLinear({0}, scale, zero) r{0} = DequantizeLinear(q{0}, scale, zero)"
HEAD = "g = GlobalAveragePool({}) h = Flatten(g) y = Gemm<transB = 1>(h, fc)"
STRIDED = "Conv<strides = [2, 2], pads = [1, 1, 1, 1]>"
SAME = "Conv<pads = [1, 1, 1, 1]>"
POOL = "MaxPool<kernel_shape = [2, 2], strides = [2, 2]>"
BODIES = {
    "no pools": f"a = {STRIDED}(x, w1) b = Relu(a) c = {STRIDED}(b, w2) d = Relu(c) " + HEAD.format("d"),
    "one pool of three": f"a = {STRIDED}(x, w1) b = Relu(a) p = {POOL}(b) c = {STRIDED}(p, w2) d = Relu(c) "
    + HEAD.format("d"),
    "pools alone": f"a = {SAME}(x, w1) b = Relu(a) p = {POOL}(b) c = {SAME}(p, w2) d = Relu(c) q = {POOL}(d) "
    + HEAD.format("q"),
    "a gate": f"a = {STRIDED}(x, w1) b = Relu(a) s = GlobalAveragePool(b) t = Sigmoid(s) u = Mul(b, t)"
    f" c = {STRIDED}(u, w2) d = Relu(c) " + HEAD.format("d"),
}
WEIGHTS = {"scale": np.float32(0.05), "zero": np.uint8(0)} | {
    "w1": numbers((6, 3, 3, 3)),
    "w2": numbers((6, 6, 3, 3)),
    "fc": numbers((5, 6)),
}
LEFT_OUT = (
    f"a = {STRIDED}(x, w1) {QUANTISED.format('a')} c = {STRIDED}(ra, w2) {QUANTISED.format('c')} "
    + HEAD.format("rc")
)
"""What quantising tools write of "no pools": they leave out a Relu before a quantiser that does the same."""
IMAGES = numbers((2, 3, 16, 16), "images")


def network(body):
    return load(model_of(BODIES[body], {"x": ("N", 3, 16, 16)}, WEIGHTS))


def told(body, semantics, layer=None):
    return compile_pair(network(body), layer, semantics=semantics).manifest["image_dependence"]


def reconstructions(body, semantics):
    """Of one class, for two images."""
    session = PairSession(compile_pair(network(body), semantics=semantics), "cpu")
    values = session.run_forward({"x": IMAGES})
    seed = np.zeros_like(numpy_of(values["y"]))
    seed[:, 2] = 1
    return session.run_deconv(values, seed)["reconstruction"]


@pytest.mark.parametrize(
    ("body", "semantics", "depends", "through"),
    [
        ("no pools", "deconvnet", "no", []),
        ("no pools", Semantics(head="class-map"), "hardly", ["class map"]),
        ("no pools", "guided", "yes", ["rectifiers"]),
        ("no pools", "gradient", "yes", ["rectifiers"]),
        ("no pools", "deconvnet*grad-cam", "yes", ["class activation map"]),
        ("no pools", "grad-cam", "yes", ["class activation map"]),
        ("one pool of three", "deconvnet", "hardly", ["switches"]),
        ("pools alone", "deconvnet", "yes", ["switches"]),
        ("a gate", "deconvnet", "hardly", ["values"]),
        ("a gate", "guided", "yes", ["rectifiers"]),
        ("no pools", "excitation", "yes", ["activations"]),
        ("one pool of three", "lrp", "yes", ["activations", "switches"]),
    ],
)
def test_what_takes_part_is_told(body, semantics, depends, through):
    found = told(body, semantics)
    assert (found["depends"], found["through"]) == (depends, through)
    assert (found["note"] is None) == (depends == "yes")
    first, second = reconstructions(body, semantics)
    assert np.array_equal(first, second) == (depends == "no")


@pytest.mark.parametrize(
    ("rules", "depends", "note"),
    [
        ("deconvnet", "no", "deconvnet does not depend on the image here"),
        ("guided", "yes", None),
        ("gradient", "yes", None),
    ],
)
def test_a_quantiser_that_stands_for_a_relu_is_told_as_one(rules, depends, note):
    pair = compile_pair(model_of(LEFT_OUT, {"x": ("N", 3, 16, 16)}, WEIGHTS), semantics=rules)
    found = pair.manifest["image_dependence"]
    assert found["depends"] == depends
    assert (found["note"] or "").startswith(note or "")
    assert (found["note"] is None) == (note is None)


@pytest.mark.parametrize(("layer", "depends"), [("b", "yes"), ("c", "yes"), ("d", "yes"), ("f", "hardly")])
def test_a_whole_map_brings_the_image_in_where_it_is_fine(layer, depends):
    """Of 16 positions a side: 8, 4, 4 and 2."""
    body = BODIES["no pools"].partition("g =")[0] + f"e = {STRIDED}(d, w2) f = Relu(e) " + HEAD.format("f")
    explainer = Explainer(model_of(body, {"x": ("N", 3, 16, 16)}, WEIGHTS), "deconvnet", providers="cpu")
    for seed, expected in (("map", depends), ("value", "no")):
        (found,) = explainer(IMAGES[:1], 2, layer=layer, seed=seed)
        assert (found.depends, found.note is None) == (expected, expected == "yes")


def test_the_share_is_said():
    assert "max pools that do 33 % of the downsampling" in told("one pool of three", "deconvnet")["note"]


@pytest.mark.parametrize("body", BODIES)
def test_auto_is_never_blind(body):
    explainer = Explainer(network(body), "auto", providers="cpu")
    for layer in (None, "b", "d"):
        for one in explainer(IMAGES, 2, layer=layer):
            assert one.note is None or "depend" not in one.note
            assert one.semantics == explainer.method(layer)
    assert explainer.semantics == explainer.method("y") == CLASS_METHOD


def test_auto_keeps_the_paper_s_deconvnet_where_switches_tie_it_to_the_image():
    layers = {"pools alone": "deconvnet", "one pool of three": "guided", "no pools": "guided"}
    for body, rules in layers.items():
        assert Explainer(network(body), "auto", providers="cpu").method("d") == Semantics(rules)


def test_auto_without_feature_maps_is_guided():
    proto = model_of("h = Flatten(x) k = Gemm(h, m) r = Relu(k) y = Gemm(r, n)", {"x": ("N", 3, 2, 2)},
                     {"m": numbers((12, 7)), "n": numbers((7, 5))})  # fmt: skip
    assert Explainer(proto, "auto", providers="cpu").method("y") == Semantics("guided")


def test_a_map_that_is_nowhere_positive_gives_way():
    body = f"a = {STRIDED}(x, w1) b = Relu(a) " + HEAD.format("b")
    weights = {"w1": WEIGHTS["w1"], "fc": -np.abs(WEIGHTS["fc"])}
    proto = model_of(body, {"x": ("N", 3, 16, 16)}, weights)
    (found,) = Explainer(proto, "auto", providers="cpu")(IMAGES[:1], 2)
    assert "(seed one) died" in found.note
    assert found.note.endswith("explained 'y' by gradient instead")
    assert found.method == "gradient"
    assert not found.is_empty


# --- how much of a signal the rectifiers let through ------------------------------------------------

UP, DOWN = np.float32([[3, -4, 0]]).T, np.float32([[1, 1, -1]]).T
"""Signals at a rectifier: of 25 parts of energy 9 pass, of 3 parts 2."""


def metered(body, seed=1.0, semantics=None, **weights):
    proto = model_of(body, {"x": ("N", 3)}, {"one": np.eye(3, dtype=np.float32), **weights})
    meter = SignalMeter(load(proto), "y", semantics or Semantics())
    return meter({"x": np.ones((2, 3), np.float32)}, np.full((2, 1), seed, np.float32))


@pytest.mark.parametrize(
    ("body", "share", "at"),
    [
        ("r = Relu(x) y = MatMul(r, up)", 9 / 25, "r"),
        ("r = LeakyRelu<alpha = 0.5>(x) y = MatMul(r, up)", 13 / 25, "r"),
        ("y = MatMul(x, up)", 1, None),
        ("a = Relu(x) b = Relu(x) s = MatMul(a, up) t = MatMul(b, down) y = Add(s, t)", 2 / 3, "b"),
        ("a = Relu(x) s = MatMul(a, up) t = MatMul(x, down) y = Add(s, t)", 1, None),
        ("a = Relu(x) b = Relu(a) y = MatMul(b, up)", 9 / 25, "b"),
        ("a = Relu(x) s = MatMul(a, plus) t = MatMul(x, plus) y = Add(s, t)", 1, None),
        ("a = Relu(x) y = MatMul(a, plus)", 1, "a"),
        ("a = Relu(x) b = MatMul(a, one) c = Neg(b) d = Relu(c) y = MatMul(d, up)", 0, "a"),
    ],
)
def test_the_narrowest_rectifier_of_the_widest_way_is_told(body, share, at):
    for found in metered(body, up=UP, down=DOWN, plus=abs(UP)):
        assert found.share == pytest.approx(share)
        assert found.at == at


def test_each_image_s_signal_is_measured():
    proto = model_of("r = Relu(x) y = MatMul(r, up)", {"x": ("N", 3)}, {"up": UP})
    seed = np.float32([[1], [-1]])
    first, second = SignalMeter(load(proto), "y", Semantics())({"x": np.ones((2, 3), np.float32)}, seed)
    assert first.share == pytest.approx(9 / 25)
    assert second.share == pytest.approx(16 / 25)


def leftovers(least):
    """A network whose rectifier lets little of class 1's signal through, and half of class 0's."""
    head = np.float32([[1, -1], [least, -1]]).reshape(2, 2)
    weights = {"w": np.ones((2, 3, 1, 1), np.float32), "fc": head}
    body = "c = Conv(x, w) r = Relu(c) g = GlobalAveragePool(r) f = Flatten(g) y = Gemm<transB = 1>(f, fc)"
    return model_of(body, {"x": ("N", 3, 4, 4)}, weights)


def test_explanations_tell_leftovers_where_they_are_asked_to():
    images = np.ones((1, 3, 4, 4), np.float32)
    asked = Explainer(leftovers(1e-3), "deconvnet", providers="cpu", measure=True)
    (half,), (little,) = (asked(images, target) for target in (0, 1))
    assert half.survived == pytest.approx(0.5)
    assert little.survived == pytest.approx(1e-6, rel=1e-3)
    said = "less than 0.001 % of the signal's energy passes the narrowest rectifier, 'r': what is left"
    assert said in little.note
    assert said not in half.note
    plain = Explainer(leftovers(1e-3), "deconvnet", providers="cpu")
    measuring = plain.measuring()
    (unasked,), (asked_later,) = plain(images, 1), measuring(images, 1)
    assert unasked.survived is None
    assert said not in unasked.note
    assert said in asked_later.note
    assert measuring.session() is plain.session()
    # What guided lets through is the image's doing.
    (guided,) = Explainer(leftovers(1e-3), "guided", providers="cpu", measure=True)(images, 1)
    assert guided.survived is None
