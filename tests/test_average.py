"""SmoothGrad and integrated gradients against their definitions, PyTorch and Captum."""

import json

import numpy as np
import onnx
import pytest
from commands import refused, run
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import assert_close, model_of, numbers
from small_networks import network as small_network

from onnx_deconv import Explainer, InputError
from onnx_deconv.attribution.average import AVERAGES, Average
from onnx_deconv.evaluation import explanations
from onnx_deconv.imaging import save_png

WEIGHTS = {"w": numbers((6, 3, 3, 3), "w"), "v": numbers((5, 6, 3, 3), "v")}
BODY = (
    "a = Conv<pads = [1, 1, 1, 1]>(x, w) b = Relu(a) p = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(b)"
    " c = Conv(p, v) d = Softplus(c) g = GlobalAveragePool(d) y = Flatten(g)"
)
X = numbers((3, 3, 8, 8), "x")
TARGETS = [4, 0, 2]


def network():
    return model_of(BODY, {"x": ("N", 3, 8, 8)}, WEIGHTS)


def explained(average, semantics=None, x=X, targets=TARGETS):
    explainer = Explainer(network(), semantics, providers="cpu", average=average)
    return np.stack([one.reconstruction for one in explainer(x, targets)])


def scores(x):
    return Explainer(network(), providers="cpu").scores(x)


@settings(max_examples=20, deadline=None)
@given(st.floats(-2, 2, width=32), st.integers(0, 4))
def test_integrated_gradients_sum_up_to_what_the_score_gained(baseline, target):
    """Completeness, Sundararajan et al. 2017, proposition 1."""
    found = explained(Average("integrated-gradients", 300, baseline=baseline), targets=target)
    gained = scores(X)[:, target] - scores(np.full_like(X, baseline))[:, target]
    np.testing.assert_allclose(found.sum((1, 2, 3)), gained, rtol=0, atol=0.02 * np.abs(gained).max() + 1e-3)


def in_torch():
    torch = pytest.importorskip("torch")
    t = torch.nn
    net = t.Sequential(
        t.Conv2d(3, 6, 3, 1, 1, bias=False), t.ReLU(), t.MaxPool2d(2), t.Conv2d(6, 5, 3, bias=False),
        t.Softplus(), t.AdaptiveAvgPool2d(1), t.Flatten(),
    ).double()  # fmt: skip
    net[0].weight.data = torch.from_numpy(WEIGHTS["w"].astype("d"))
    net[3].weight.data = torch.from_numpy(WEIGHTS["v"].astype("d"))
    return torch, net


@pytest.mark.parametrize("baseline", [0.0, numbers((3, 8, 8), "baseline")], ids=["number", "image"])
def test_captum_integrates_the_same(baseline):
    captum = pytest.importorskip("captum.attr")
    torch, net = in_torch()
    base = torch.from_numpy(np.broadcast_to(baseline, X.shape).astype("d"))
    expected = captum.IntegratedGradients(net).attribute(
        torch.from_numpy(X.astype("d")), base, TARGETS, n_steps=9, method="riemann_middle"
    )
    found = explained(Average("integrated-gradients", 9, baseline=baseline))
    assert_close(found, expected.detach().numpy(), 1e-5)


def test_smooth_gradients_are_the_mean_of_gradients_at_images_with_noise():
    torch, net = in_torch()
    average = Average("smoothgrad", 5, noise=0.2, random_state=3)
    rng, total = np.random.default_rng(3), 0
    spread = X.max((1, 2, 3), keepdims=True) - X.min((1, 2, 3), keepdims=True)
    for _ in range(5):
        x = torch.from_numpy(X + 0.2 * spread * rng.standard_normal((3, 8, 8))).requires_grad_()
        net(x)[range(3), TARGETS].sum().backward()
        total = total + x.grad.numpy() / 5
    assert_close(explained(average), total, 1e-5)
    alone = explained(average, x=X[1:2], targets=[0])
    assert_close(alone, explained(average)[1:2], 1e-6)  # an image's noise does not depend on the batch


@pytest.mark.parametrize("rules", ["gradient", "guided"])
def test_without_noise_it_is_what_is_averaged(rules):
    single = Explainer(network(), rules, providers="cpu")(X, TARGETS, seed="one")
    found = explained(Average("smoothgrad", 2, noise=0.0), rules)
    assert_close(found, np.stack([one.reconstruction for one in single]), 1e-6)


def test_averages_are_named_by_what_is_averaged():
    def method(average, semantics=None):
        return Explainer(network(), semantics, providers="cpu", average=average)(X, 1)[0].method

    assert method("smoothgrad") == "smoothgrad"
    assert method("smoothgrad", "guided") == "smoothgrad*guided"
    assert method("integrated-gradients") == "integrated-gradients"


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Average("mean"), "choose one of smoothgrad, integrated-gradients"),
        (lambda: Average("smoothgrad", 0), "samples=0"),
        (lambda: Average("smoothgrad", noise=-1), "noise=-1"),
        (lambda: explained("integrated-gradients", "guided"), "leave out 'guided'"),
        (lambda: explained(Average("integrated-gradients", baseline=np.zeros((2, 2)))), "an image has shape"),
    ],
)
def test_what_cannot_be_averaged_is_refused(make, says):
    with pytest.raises(InputError, match=says):
        make()


@pytest.mark.parametrize("kind", AVERAGES)
def test_averages_can_be_evaluated(kind):
    maps = explanations(kind).on(Explainer(network(), providers="cpu").model, "NCHW")
    assert explanations(kind).name == kind
    assert maps(X, TARGETS).shape == (3, 8, 8)


def test_the_command_line_averages(tmp_path):
    onnx.save(small_network(size="16,16"), tmp_path / "m.onnx")
    photo = tmp_path / "photo.png"
    save_png(photo, np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8))
    model = tmp_path / "m.onnx"
    code, stdout, _ = run(
        "explain", model, photo, "-o", tmp_path / "out", "--average", "smoothgrad", "--samples", 3, "--json"
    )
    assert code == 0
    assert json.loads(stdout)["method"] == "smoothgrad"
    assert "--samples counts" in refused("explain", model, photo, "--samples", 3)
    message = refused("explain", model, photo, "--average", "integrated-gradients", "--rules", "guided")
    assert "guided" in message
