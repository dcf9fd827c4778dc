"""Class activation maps and class maps against PyTorch's own gradients and interpolation."""

from dataclasses import replace

import numpy as np
import pytest
from oracle import assert_close, model_of, numbers

from onnx_deconv import Explainer, InputError, ModelError, Semantics, compile_pair, load
from onnx_deconv.runtime import PairSession, numpy_of

torch = pytest.importorskip("torch")

CAMS = ["grad-cam", "layer-cam", "cam"]
WEIGHTS = {
    "w1": numbers((6, 3, 3, 3), "w1"),
    "w2": numbers((8, 6, 3, 3), "w2"),
    "fc": numbers((5, 8), "fc"),
    "bias": numbers((5,), "bias"),
    "wide": numbers((7, 8 * 9), "wide"),
    "narrow": numbers((7, 8), "narrow"),
    "last": numbers((5, 7), "last"),
    "classes": numbers((5, 8, 1, 1), "classes"),
    "s": np.array([1.2] * 8, "f"),
}
FEATURES = (
    "a = Conv<strides = [2, 2], pads = [1, 1, 1, 1]>(x, w1) b = Relu(a)"
    " c = Conv<strides = [2, 2], pads = [1, 1, 1, 1]>(b, w2) f = Relu(c) "
)
HEADS = {
    "pool and linear layer": "g = GlobalAveragePool(f) h = Flatten(g) y = Gemm<transB = 1>(h, fc, bias)",
    "pool, normalisation and linear layer": "g = GlobalAveragePool(f) h = Flatten(g)"
    " n = BatchNormalization(h, s, s, s, s) d = Dropout(n) y = Gemm<transB = 1>(d, fc, bias)",
    "two linear layers": "h = Flatten(f) k = Gemm<transB = 1>(h, wide) r = Relu(k)"
    " y = Gemm<transB = 1>(r, last)",
    "pool and two linear layers": "g = GlobalAveragePool(f) h = Flatten(g) k = Gemm<transB = 1>(h, narrow)"
    " r = HardSwish(k) y = Gemm<transB = 1>(r, last)",
    "maximum": "g = GlobalMaxPool(f) h = Flatten(g) y = Gemm<transB = 1>(h, fc, bias)",
    "channels last": "t = Transpose<perm = [0, 2, 3, 1]>(f) g = ReduceMean<axes = [1, 2], keepdims = 0>(t)"
    " y = Gemm<transB = 1>(g, fc, bias)",
    "softmax": "g = GlobalAveragePool(f) h = Flatten(g) z = Gemm<transB = 1>(h, fc, bias) y = Softmax(z)",
}
FC6 = {"fc6": numbers((6, 5), "fc6")}
X = numbers((2, 3, 12, 12), "x")
TARGETS = [3, 1]


def network(head):
    used = {name: array for name, array in WEIGHTS.items() if f"{name}" in FEATURES + HEADS[head]}
    return model_of(FEATURES + HEADS[head], {"x": ("N", 3, 12, 12)}, used)


def explained(proto, semantics, x=X, targets=TARGETS):
    pair = compile_pair(load(proto), semantics=semantics)
    session = PairSession(pair, "cpu")
    values = session.run_forward({"x": x})
    seed = np.zeros_like(numpy_of(values[pair.manifest["explained"]["value"]]))
    for image, target in enumerate(targets):
        seed[image, target] = 1
    return session.run_deconv(values, seed)["reconstruction"]


def head_in_torch(head, f):
    t = {name: torch.from_numpy(array.astype("d")) for name, array in WEIGHTS.items()}
    pooled = f.amax((2, 3)) if head == "maximum" else f.mean((2, 3))
    if head == "pool and two linear layers":
        return torch.nn.functional.hardswish(pooled @ t["narrow"].T) @ t["last"].T
    if head == "two linear layers":
        return torch.relu(f.flatten(1) @ t["wide"].T) @ t["last"].T
    if "normalisation" in head:
        pooled = (pooled - 1.2) / (1.2 + 1e-5) ** 0.5 * 1.2 + 1.2
    return pooled @ t["fc"].T + t["bias"]


def features_and_gradient(head):
    """The last feature maps and the gradient of each image's target, in double precision."""
    t = {name: torch.from_numpy(array.astype("d")) for name, array in WEIGHTS.items()}
    conv = torch.nn.functional.conv2d
    b = torch.relu(conv(torch.from_numpy(X.astype("d")), t["w1"], stride=2, padding=1))
    f = torch.relu(conv(b, t["w2"], stride=2, padding=1)).requires_grad_()
    scores = head_in_torch(head, f)
    scores[range(len(X)), TARGETS].sum().backward()
    return f.detach(), f.grad


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("cam", CAMS)
def test_a_map_is_what_its_paper_says(cam, head):
    f, gradient = features_and_gradient(head)
    weights = {"grad-cam": gradient.mean((2, 3), keepdim=True), "layer-cam": gradient.relu(), "cam": gradient}
    small = (weights[cam] * f).sum(1, keepdim=True).relu()
    large = torch.nn.functional.interpolate(small, (12, 12), mode="bilinear", align_corners=False)
    assert_close(explained(network(head), cam), large.numpy(), 1e-5)


def test_captum_agrees():
    captum = pytest.importorskip("captum.attr")
    t = torch.nn
    net = t.Sequential(
        t.Conv2d(3, 6, 3, 2, 1, bias=False), t.ReLU(), t.Conv2d(6, 8, 3, 2, 1, bias=False), t.ReLU(),
        t.AdaptiveAvgPool2d(1), t.Flatten(), t.Linear(8, 5),
    ).double()  # fmt: skip
    for layer, names in ((0, ["w1"]), (2, ["w2"]), (6, ["fc", "bias"])):
        for parameter, name in zip(net[layer].parameters(), names, strict=True):
            parameter.data = torch.from_numpy(WEIGHTS[name].astype("d"))
    x = torch.from_numpy(X.astype("d"))
    small = captum.LayerGradCam(net, net[3]).attribute(x, TARGETS, relu_attributions=True)
    large = captum.LayerAttribution.interpolate(small, (12, 12), "bilinear")
    ours = explained(network("pool and linear layer"), "grad-cam")
    assert_close(ours, large.detach().numpy(), 1e-5)


BRANCHES = (
    "a = Conv<strides = [2, 2], pads = [1, 1, 1, 1]>(x, w1) b = Relu(a)"
    " c = Conv<pads = [1, 1, 1, 1]>(b, inner) d = Relu(c) e = Conv<pads = [1, 1, 1, 1]>(d, inner)"
    " s = Add(b, e) r = Relu(s) m = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(r)"
    " k = Conv<strides = [2, 2], pads = [1, 1, 1, 1]>(m, w2) f = Relu(k)"
    " g = GlobalAveragePool(f) h = Flatten(g) y = Gemm<transB = 1>(h, fc, bias)"
)
"""A residual block: what is named within it is not all that the class depends on."""
INNER = numbers((6, 6, 3, 3), "inner")
SEEN = [2, 4]
"""A class for each image that every layer speaks for, so that no map is zero."""


def with_branches():
    used = {name: WEIGHTS[name] for name in ("w1", "w2", "fc", "bias")}
    return model_of(BRANCHES, {"x": ("N", 3, 12, 12)}, used | {"inner": INNER})


class Branches(torch.nn.Module):
    """The same network in double precision, each layer a module."""

    def __init__(self):
        super().__init__()
        t, double = torch.nn, {"bias": False, "dtype": torch.double}
        self.b = t.Sequential(t.Conv2d(3, 6, 3, 2, 1, **double), t.ReLU())
        self.d = t.Sequential(t.Conv2d(6, 6, 3, 1, 1, **double), t.ReLU())
        self.e, self.r, self.m = t.Conv2d(6, 6, 3, 1, 1, **double), t.ReLU(), t.MaxPool2d(2)
        self.f = t.Sequential(t.Conv2d(6, 8, 3, 2, 1, **double), t.ReLU())
        self.y = t.Linear(8, 5, dtype=torch.double)
        filters = {"w1": [self.b[0]], "inner": [self.d[0], self.e], "w2": [self.f[0]], "fc": [self.y]}
        for name, layer in ((name, each) for name, layers in filters.items() for each in layers):
            layer.weight.data = torch.from_numpy((WEIGHTS | {"inner": INNER})[name].astype("d"))
        self.y.bias.data = torch.from_numpy(WEIGHTS["bias"].astype("d"))

    def forward(self, x):
        b = self.b(x)
        return self.y(self.f(self.m(self.r(b + self.e(self.d(b))))).mean((2, 3)))


def enlarged(small):
    large = torch.nn.functional.interpolate(small, (12, 12), mode="bilinear", align_corners=False)
    return large.detach().numpy()


@pytest.mark.parametrize("layer", ["b", "d", "e", "r", "m", "f"])
@pytest.mark.parametrize("cam", CAMS)
def test_a_map_may_be_made_of_any_layer(cam, layer):
    net, seen = Branches(), {}
    getattr(net, layer).register_forward_hook(lambda _, __, value: seen.setdefault("a", value))
    scores = net(torch.from_numpy(X.astype("d")))[range(len(X)), SEEN].sum()
    a, gradient = seen["a"], torch.autograd.grad(scores, seen["a"])[0]
    weights = {"grad-cam": gradient.mean((2, 3), keepdim=True), "layer-cam": gradient.relu(), "cam": gradient}
    expected = enlarged((weights[cam] * a).sum(1, keepdim=True).relu())
    assert expected.any()
    assert_close(explained(with_branches(), f"{cam}@{layer}", targets=SEEN), expected, 1e-5)


@pytest.mark.parametrize("layer", ["b", "d", "m", "f"])
def test_captum_agrees_at_any_layer(layer):
    captum = pytest.importorskip("captum.attr")
    net = Branches()
    small = captum.LayerGradCam(net, getattr(net, layer)).attribute(
        torch.from_numpy(X.astype("d")), SEEN, relu_attributions=True
    )
    assert_close(explained(with_branches(), f"grad-cam@{layer}", targets=SEEN), enlarged(small), 1e-5)


@pytest.mark.parametrize("head", ["signal", "class-map"])
def test_a_product_with_a_map_of_an_inner_layer_is_one(head):
    proto = with_branches()
    product = explained(proto, Semantics("guided", "grad-cam^3", head, cam_layer="d"), targets=SEEN)
    guided = explained(proto, Semantics("guided", head=head), targets=SEEN)
    assert_close(product, guided * explained(proto, "grad-cam@d", targets=SEEN) ** 3, 1e-6)


def test_a_layer_with_channels_last_has_the_same_map():
    turned = "last = Transpose<perm = [0, 2, 3, 1]>(s) t = Relu(last) r = Transpose<perm = [0, 3, 1, 2]>(t)"
    body = BRANCHES.replace("r = Relu(s)", turned)
    used = {name: WEIGHTS[name] for name in ("w1", "w2", "fc", "bias")}
    proto = model_of(body, {"x": ("N", 3, 12, 12)}, used | {"inner": INNER})
    expected = explained(with_branches(), "grad-cam@r", targets=SEEN)
    assert_close(explained(proto, "grad-cam@t", targets=SEEN), expected, 1e-6)


@pytest.mark.parametrize(
    ("layer", "why"),
    [
        ("h", r"'h': it has no positions in the image \(its shape is N×8\)"),
        ("g", r"'g': it has no positions in the image \(its shape is N×8×1×1\)"),
        ("five", r"'five': it has no positions in the image \(its shape is N×2×3×6×6\)"),
        ("y", "'y': no signal from 'y' passes through it"),
        ("other", "'other': no signal from 'y' passes through it"),
        ("x", "'x': it is the image itself: choose a layer after it"),
        ("nowhere", "nowhere"),
    ],
)
def test_layers_that_have_no_map_of_the_class_are_refused(layer, why):
    used = {name: WEIGHTS[name] for name in ("w1", "w2", "fc", "bias")}
    groups = "five = Reshape(r, parted) four = Reshape(five, whole) m = MaxPool"
    body = BRANCHES.replace("m = MaxPool", groups).replace("(r) k", "(four) k") + " other = Relu(r)"
    shapes = {"parted": np.array([0, 2, 3, 6, 6]), "whole": np.array([0, 6, 6, 6])}
    weights = used | shapes | {"inner": INNER}
    proto = model_of(body, {"x": ("N", 3, 12, 12)}, weights, outputs=("y", "other"))
    with pytest.raises(ModelError, match=why):
        compile_pair(load(proto), semantics=Semantics.of(f"grad-cam@{layer}"))


@pytest.mark.parametrize("rules", ["deconvnet", "guided", "gradient"])
def test_a_product_is_one(rules):
    proto = network("pool and linear layer")
    product = explained(proto, f"{rules}*grad-cam")
    assert_close(product, explained(proto, rules) * explained(proto, "grad-cam"), 1e-6)
    steep = explained(proto, f"{rules}*grad-cam^3")
    assert_close(steep, explained(proto, rules) * explained(proto, "grad-cam") ** 3, 1e-6)


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("rules", ["deconvnet", "guided"])
def test_a_class_map_starts_with_what_each_position_contributes(rules, head):
    f, gradient = features_and_gradient(head)
    proto = network(head)
    below = PairSession(compile_pair(load(proto), "f", semantics=rules), "cpu")
    seed = (f * gradient).numpy().astype("f")
    expected = below.run_deconv(below.run_forward({"x": X}), seed)["reconstruction"]
    assert_close(explained(proto, Semantics(rules, head="class-map")), expected, 1e-5)


def test_a_linear_layer_after_the_pool_is_a_convolution_before_it():
    """Zhou et al. 2016: both compute the same, so both have the same class maps."""
    before = f"{FEATURES} k = Conv(f, classes) g = GlobalAveragePool(k) y = Flatten(g)"
    after = f"{FEATURES} g = GlobalAveragePool(f) h = Flatten(g) y = Gemm<transB = 1>(h, matrix)"
    matrix = WEIGHTS["classes"].reshape(5, 8)
    inputs = {"x": ("N", 3, 12, 12)}
    filters = {name: WEIGHTS[name] for name in ("w1", "w2")}
    one = model_of(before, inputs, filters | {"classes": WEIGHTS["classes"]})
    other = model_of(after, inputs, filters | {"matrix": matrix})
    f, _ = features_and_gradient("pool and linear layer")
    expected = np.einsum("nc,ncyx->nyx", matrix[TARGETS], f.numpy()) / f[0, 0].numel()
    expected = torch.from_numpy(np.maximum(expected, 0)[:, None])
    large = torch.nn.functional.interpolate(expected, (12, 12), mode="bilinear", align_corners=False)
    for proto in (one, other):
        assert_close(explained(proto, "grad-cam"), large.numpy(), 1e-5)


def test_an_image_with_channels_last_has_the_same_map():
    first = network("pool and linear layer")
    body = f"image = Transpose<perm = [0, 3, 1, 2]>(x) {FEATURES.replace('(x,', '(image,')}"
    used = {name: WEIGHTS[name] for name in ("w1", "w2", "fc", "bias")}
    last = model_of(body + HEADS["pool and linear layer"], {"x": ("N", 12, 12, 3)}, used)
    for method in ("grad-cam", "guided*grad-cam"):
        ours = explained(last, method, X.transpose(0, 2, 3, 1).copy())
        assert_close(ours.transpose(0, 3, 1, 2), explained(first, method), 1e-6)


def test_a_network_with_channels_last_throughout_has_the_same_map():
    """As Keras has them: the last maps, too, stand between Transposes, which onnxruntime moves."""
    below = FEATURES.replace("(x,", "(image,").replace(
        "f = Relu(c)", "u = Transpose<perm = [0, 2, 3, 1]>(c) f = Relu(u)"
    )
    head = "g = ReduceMean<axes = [1, 2], keepdims = 0>(f) y = Gemm<transB = 1>(g, fc, bias)"
    body = f"image = Transpose<perm = [0, 3, 1, 2]>(x) {below} {head}"
    used = {name: WEIGHTS[name] for name in ("w1", "w2", "fc", "bias")}
    first = network("pool and linear layer")
    for sizes in ((12, 12), ("H", "W")):
        last = model_of(body, {"x": ("N", *sizes, 3)}, used)
        for method in ("grad-cam", "guided*grad-cam^3"):
            ours = explained(last, method, X.transpose(0, 2, 3, 1).copy())
            assert_close(ours.transpose(0, 3, 1, 2), explained(first, method), 1e-6)


def test_sizes_may_be_known_at_run_time_only():
    used = {name: WEIGHTS[name] for name in ("w1", "w2", "fc", "bias")}
    free = model_of(FEATURES + HEADS["pool and linear layer"], {"x": ("N", 3, "H", "W")}, used)
    for method in ("grad-cam", "guided*grad-cam"):
        assert_close(explained(free, method), explained(network("pool and linear layer"), method), 1e-6)


def test_an_image_gets_the_same_alone():
    proto, method = network("two linear layers"), Semantics("guided", "grad-cam", "class-map")
    together = explained(proto, method)
    for image, target in enumerate(TARGETS):
        assert_close(
            together[image : image + 1], explained(proto, method, X[image : image + 1], [target]), 1e-6
        )


def test_a_model_without_feature_maps_is_refused():
    proto = model_of("h = Flatten(x) y = Gemm(h, m)", {"x": ("N", 3, 4, 4)}, {"m": numbers((48, 5))})
    with pytest.raises(ModelError, match="no feature maps lie before 'y'"):
        compile_pair(load(proto), semantics="grad-cam")


@pytest.mark.parametrize("shape", [("N", 12), ("N", 12, 12)])
def test_an_image_without_an_axis_of_channels_has_none_that_fit_it(shape):
    """The model adds the axis, so that its maps have one more than the image: none is enlarged to it."""
    kernel = numbers((6, 1) + (3,) * (len(shape) - 1), "kernel")
    body = "a = Unsqueeze(x, one) b = Conv(a, kernel) r = Relu(b) g = GlobalAveragePool(r) f = Flatten(g)"
    proto = model_of(f"{body} y = Gemm(f, fc6)", {"x": shape}, {"one": np.array([1]), "kernel": kernel} | FC6)
    given = numbers((2, *shape[1:]), "given")
    found = Explainer(proto, "auto", providers="cpu")(given, 1)
    assert {one.semantics.cam for one in found} == {"none"}
    expected = Explainer(proto, "guided", providers="cpu")(given, 1)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one.reconstruction, other.reconstruction)
    with pytest.raises(ModelError, match="no feature maps lie before 'y'"):
        compile_pair(load(proto), semantics="grad-cam")


def test_methods_have_names():
    assert Semantics.of("guided*grad-cam") == Semantics("guided", "grad-cam")
    assert Semantics.of("layer-cam") == Semantics("none", "layer-cam")
    assert Semantics.of("guided*cam@a*b@c") == Semantics("guided", "cam", cam_layer="a*b@c")
    for method in ("guided*grad-cam", "layer-cam", "deconvnet", "guided*grad-cam^3@conv3"):
        assert Semantics.of(method).method == method
    with pytest.raises(InputError, match="there is nothing to make"):
        Semantics("none")
    with pytest.raises(InputError, match="cam_layer='conv3': choose a class activation map too"):
        Semantics(cam_layer="conv3")
    with pytest.raises(
        InputError, match=r"'guided\*score-cam': choose a rule table \(deconvnet, .*grad-cam, "
    ):
        Semantics.of("guided*score-cam")


def test_what_was_done_stands_in_the_manifest():
    pair = compile_pair(
        load(network("softmax")), semantics=replace(Semantics.of("guided*cam"), head="class-map")
    )
    chosen = pair.manifest["semantics"]
    assert (chosen["rules"], chosen["cam"], chosen["head"]) == ("guided", "cam", "class-map")
