"""What "the convolution, rectified" means: one answer, for the atlas and for the experiments alike."""

import pytest
from small_networks import model, random

from onnx_deconv import Explainer
from onnx_deconv.attribution.features import last_convolution
from onnx_deconv.model.feature_maps import convolutions, rectified_convolution

CHANNELS = {name: abs(random(4, seed=n)) for n, name in enumerate(["scale", "shift", "mean", "variance"])}
WEIGHTS = {"k": random(4, 3, 3, 3), "bias": random(4, 1, 1), "zero": random() * 0, "six": random() * 0 + 6}
BN = "BatchNormalization({}, scale, shift, mean, variance)"


@pytest.mark.parametrize(
    ("body", "layer"),
    [
        (f"b = {BN.format('c')} r = HardSwish(b) y = GlobalAveragePool(r)", "r"),
        ("r = LeakyRelu(c) y = GlobalAveragePool(r)", "r"),
        ("a = Add(c, bias) r = Relu(a) y = GlobalAveragePool(r)", "r"),
        ("r = Clip(c, zero, six) y = GlobalAveragePool(r)", "r"),
        ("i = Identity(c) r = Relu(i) y = GlobalAveragePool(r)", "r"),
        ("s = Sigmoid(c) r = Mul(c, s) y = GlobalAveragePool(r)", "r"),  # Swish, spelled out
        (
            "t = Add(c, three) d = Clip(t, zero, six) r = Mul(c, d) y = GlobalAveragePool(r)",
            "r",  # HardSwish but for its factor
        ),
        ("r = Relu(c) a = Add(r, c) y = GlobalAveragePool(a)", "r"),  # beside a residual branch
        (f"b = {BN.format('c')} r = Relu(b) a = Add(r, b) y = GlobalAveragePool(a)", "r"),
        ("a = Add(c, bias) r = Relu(a) t = Add(r, c) y = GlobalAveragePool(t)", "c"),  # not c's alone
        (f"b = {BN.format('c')} y = GlobalAveragePool(b)", "b"),
        ("i = Identity(c) y = GlobalAveragePool(i)", "c"),
        ("s = Sigmoid(c) y = GlobalAveragePool(s)", "c"),
    ],
)
def test_a_convolution_is_taken_behind_its_rectifier(body, layer):
    weights = WEIGHTS | CHANNELS | {"three": random() * 0 + 3}
    proto = model(f"c = Conv(x, k) {body}", weights, "N,3,8,8")
    explainer = Explainer(proto, providers="cpu")
    assert rectified_convolution(explainer.model, "c") == layer
    assert convolutions(explainer.model) == [layer]
    # The atlas takes all of these, experiments those that are no class maps; a further layer is needed then.
    further = model(
        f"c = Conv(x, k) {body} z = Conv(y, one)", weights | {"one": random(5, 4, 1, 1)}, "N,3,8,8", "z"
    )
    assert last_convolution(Explainer(further, providers="cpu")) == layer


def test_convolutions_that_share_a_rectifier_are_listed_once_and_of_weights_alone_never():
    proto = model(
        "c = Conv(x, k) r = Relu(c) w = Conv(ones, kk) d = Conv(r, w) q = Relu(d) y = GlobalMaxPool(q)",
        {"k": random(4, 3, 1, 1), "ones": random(2, 5, 3, 3), "kk": random(4, 5, 3, 3)},
        "N,3,8,8",
    )
    found = convolutions(Explainer(proto, providers="cpu").model)
    assert found == ["r", "q"]
