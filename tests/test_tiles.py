"""Photographs that do not fit into the memory: what is computed in tiles is what is computed whole."""

from functools import partial

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from oracle import assert_close

from onnx_deconv import Explainer, InputError
from onnx_deconv.attribution import room, tiled_pass
from onnx_deconv.semantics import Semantics

ENOUGH, LITTLE = 1 << 40, 3_000_000


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Let small images count as large ones."""
    monkeypatch.setattr(room, "_LARGE", 1)
    monkeypatch.setattr(tiled_pass, "_SMALLEST", 8)


def network(*, dense=True, channels_last=False):
    """A residual network of free size; pools overlap, or round up, or both."""
    rng = np.random.default_rng(2)
    shapes = {
        "w1": (8, 3, 3, 3),
        "w2": (16, 8, 3, 3),
        "w3": (16, 16, 3, 3),
        "w4": (12, 16, 1, 1),
        "w5": (10, 12),
    }
    weights = [
        numpy_helper.from_array((rng.standard_normal(s) * (2 / np.prod(s[1:])) ** 0.5).astype(np.float32), n)
        for n, s in shapes.items()
    ]
    node = helper.make_node
    nodes = [
        node("Transpose", ["x"], ["t"], perm=[0, 3, 1, 2] if channels_last else [0, 1, 2, 3]),
        node("Conv", ["t", "w1"], ["c1"], pads=[1] * 4, strides=[2, 2]),
        node("Relu", ["c1"], ["r1"]),
        node("MaxPool", ["r1"], ["p1"], kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1),
        node("Conv", ["p1", "w2"], ["c2"], pads=[1] * 4),
        node("Relu", ["c2"], ["r2"]),
        node("MaxPool", ["r2"], ["p2"], kernel_shape=[2, 2], strides=[2, 2]),
        node("Conv", ["p2", "w3"], ["c3"], pads=[1] * 4),
        node("Add", ["c3", "p2"], ["a3"]),
        node("Relu", ["a3"], ["r3"]),
        node("Conv", ["r3", "w4"], ["c4"]),
        node("Relu", ["c4"], ["r4"]),
        node("GlobalAveragePool", ["r4"], ["g"]),
        node("Flatten", ["g"], ["f"]),
        *([node("Gemm", ["f", "w5"], ["s"], transB=1)] if dense else []),
        node("Softmax", ["s" if dense else "f"], ["y"]),
    ]
    sizes = ["N", "H", "W", 3] if channels_last else ["N", 3, "H", "W"]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, sizes)
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 10 if dense else 12])
    graph = helper.make_graph(nodes, "net", [x], [y], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def explained(monkeypatch, free, model, images, method, **asked):
    monkeypatch.setattr(room, "memory_free", lambda: free)
    return Explainer(model, method, providers="cpu")(images, 3, **asked)


def images(*shape):
    return np.random.default_rng(3).standard_normal(shape).astype(np.float32)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["deconvnet", "guided", "gradient"])
@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"seed": "one"},
        {"layer": "r3", "seed": "map"},
        {"layer": "r3", "seed": "strongest"},
        {"layer": "c4", "position": (3, 14)},
        {"layer": "c3", "position": (0, 0)},
    ],
)
@pytest.mark.parametrize(("dense", "size"), [(True, (256, 320)), (False, (251, 333))])
def test_tiles_give_what_the_whole_image_gives(monkeypatch, caplog, method, asked, dense, size):
    model, batch = network(dense=dense), images(2, 3, *size)
    whole, tiled = (explained(monkeypatch, free, model, batch, method, **asked) for free in (ENOUGH, LITTLE))
    assert "tiles" in caplog.text
    for one, other in zip(whole, tiled, strict=True):
        scale = np.abs(one.reconstruction).max()
        np.testing.assert_allclose(other.reconstruction, one.reconstruction, rtol=0, atol=1e-5 * scale)
        assert other.score == pytest.approx(one.score, rel=1e-5)
        assert (other.layer, other.position, other.seed) == (one.layer, one.position, one.seed)


MAPS = {
    "what auto chooses": "auto",
    "the map alone": "grad-cam",
    "its product": "deconvnet*grad-cam",
    "each position's own gradient": "guided*layer-cam",
    "a class map": Semantics("guided", head="class-map"),
    "a layer below": "grad-cam@r3",
    "a product with a layer below": "guided*cam@r3",
}


def gated():
    """The last feature maps depend on the whole image: the tiles end below them."""
    model, at = network(), 12
    assert model.graph.node[at].op_type == "GlobalAveragePool"
    model.graph.node[at].input[0] = "gated"
    for k, (operator, *values) in enumerate(
        [("GlobalMaxPool", ["r4"], ["m"]), ("Sigmoid", ["m"], ["gate"]), ("Mul", ["r4", "gate"], ["gated"])]
    ):
        model.graph.node.insert(at + k, helper.make_node(operator, *values))
    return model


@pytest.mark.slow
@pytest.mark.parametrize("name", MAPS)
@pytest.mark.parametrize("made", [network, gated, partial(network, dense=False)])
def test_class_activation_maps_are_made_of_feature_maps_that_tiles_gave(monkeypatch, caplog, made, name):
    model, batch = made(), images(2, 3, 251, 333)
    whole, tiled = (explained(monkeypatch, free, model, batch, MAPS[name]) for free in (ENOUGH, 2 * LITTLE))
    assert "tiles" in caplog.text
    for one, other in zip(whole, tiled, strict=True):
        scale = np.abs(one.reconstruction).max()
        assert scale > 0
        np.testing.assert_allclose(other.reconstruction, one.reconstruction, rtol=0, atol=1e-5 * scale)
        assert other.score == pytest.approx(one.score, rel=1e-5)
        assert (other.semantics, other.note) == (one.semantics, one.note)


def test_a_class_activation_map_of_images_with_channels_last_goes_in_tiles(monkeypatch, caplog):
    batch, model = images(1, 256, 320, 3), network(channels_last=True)
    whole, tiled = (
        explained(monkeypatch, free, model, batch, "auto")[0].reconstruction for free in (ENOUGH, LITTLE)
    )
    assert "tiles" in caplog.text
    assert whole.shape == (256, 320, 3)
    assert_close(tiled, whole)


def test_images_with_channels_last_go_in_tiles(monkeypatch, caplog):
    batch = images(1, 256, 320, 3)
    whole, tiled = (
        explained(monkeypatch, free, network(channels_last=True), batch, "guided")[0].reconstruction
        for free in (ENOUGH, LITTLE)
    )
    assert "tiles" in caplog.text
    assert_close(tiled, whole)


def test_a_layer_that_sees_the_whole_image_is_computed_from_tiles_of_one_below(monkeypatch, caplog):
    """What a unit above the pool is explained by comes from everywhere: the signal at the cut is the same."""
    batch = images(1, 3, 256, 320)
    whole, tiled = (
        explained(monkeypatch, free, network(), batch, "gradient", layer="g")[0].reconstruction
        for free in (ENOUGH, LITTLE)
    )
    assert "tiles" in caplog.text
    assert_close(tiled, whole)


def test_an_array_is_sent_back_in_tiles(monkeypatch, caplog):
    batch = images(1, 3, 256, 320)
    monkeypatch.setattr(room, "memory_free", lambda: ENOUGH)
    explainer = Explainer(network(), "guided", providers="cpu")
    seed = images(1, 12, 32, 40)
    (whole,) = explainer(batch, layer="r4", seed=seed)
    monkeypatch.setattr(room, "memory_free", lambda: LITTLE)
    (tiled,) = explainer(batch, layer="r4", seed=seed)
    assert "tiles" in caplog.text
    np.testing.assert_allclose(
        tiled.reconstruction, whole.reconstruction, rtol=0, atol=1e-5 * np.abs(whole.reconstruction).max()
    )


def squeezed():
    """A gate that sees the whole image, early: nothing below it is a bounded value but the first filters."""
    model = network()
    model.graph.node[1].CopyFrom(helper.make_node("GlobalAveragePool", ["t"], ["mean"]))
    model.graph.node.insert(2, helper.make_node("Sub", ["t", "mean"], ["centred"]))
    model.graph.node.insert(
        3, helper.make_node("Conv", ["centred", "w1"], ["c1"], pads=[1] * 4, strides=[2, 2])
    )
    return model


@pytest.mark.parametrize(
    ("model", "method", "why"),
    [
        (squeezed(), "guided", "what is above the tiles does not fit"),
        (network(), Semantics("guided", "grad-cam", "class-map", cam_layer="r3"), "not computed in tiles"),
        (network(), "lrp-epsilon", "not computed in tiles"),
    ],
)
def test_what_cannot_be_tiled_is_refused_beforehand(monkeypatch, model, method, why):
    with pytest.raises(InputError, match=rf"takes about .* GB of memory.*{why}.*choose a smaller size"):
        explained(monkeypatch, 2_000_000, model, images(1, 3, 256, 320), method)


def test_what_does_not_fit_even_in_tiles_is_refused(monkeypatch):
    with pytest.raises(InputError, match="choose a smaller size or fewer images"):
        explained(monkeypatch, 1000, network(), images(1, 3, 256, 320), "guided")


def test_averages_are_refused_where_they_do_not_fit(monkeypatch):
    monkeypatch.setattr(room, "memory_free", lambda: LITTLE)
    with pytest.raises(InputError, match="choose a smaller size"):
        Explainer(network(), average="smoothgrad", providers="cpu")(images(1, 3, 256, 320), 3)


def test_much_memory_is_said_beforehand(monkeypatch, caplog):
    monkeypatch.setattr(room, "_MUCH", 1)
    explained(monkeypatch, ENOUGH, network(), images(1, 3, 64, 64), "guided")
    assert "takes about 0.0 GB of memory; a smaller size takes less" in caplog.text


def test_a_model_of_nodes_in_any_order_goes_in_tiles(monkeypatch, caplog):
    model = network()
    nodes = list(model.graph.node)[::-1]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    batch = images(1, 3, 256, 320)
    (whole,) = explained(monkeypatch, ENOUGH, network(), batch, "guided")
    (tiled,) = explained(monkeypatch, LITTLE, model, batch, "guided")
    assert "tiles" in caplog.text
    np.testing.assert_allclose(tiled.reconstruction, whole.reconstruction, atol=1e-5)
