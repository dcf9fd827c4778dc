"""The Explainer: arrays in, explanations out; what it falls back to, what it refuses, and where it runs."""

import logging
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator
from oracle import assert_close
from small_networks import random

from onnx_deconv import (
    Explainer,
    InputError,
    ModelError,
    RuntimeUnavailableError,
    Semantics,
    UnknownLayerError,
    compile_pair,
    load,
    save,
)
from onnx_deconv.attribution.photographs import Selection
from onnx_deconv.experiments.sheet import Column
from onnx_deconv.model.ranking import before_limit
from onnx_deconv.runtime import providers

TABLES = ["deconvnet", "guided", "gradient"]
LABELS = ["cat", "dog", "sea lion, seal", "espresso", "king snake, kingsnake"]


def model(body, weights, inputs=None, outputs="y", real="float"):
    """A model from text; each node is named after its operator and what it computes."""
    shapes = inputs or {"x": "N,2,12,12"}
    given = ", ".join(f"{real}[{shape}] {name}" for name, shape in shapes.items())
    results = ", ".join(f"{real}[] {name}" for name in outputs.split())
    proto = onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["": 18]> g ({given}) => ({results}) {{ {body} }}'
    )
    dtype = onnx.helper.tensor_dtype_to_np_dtype(proto.graph.input[0].type.tensor_type.elem_type)
    for name, array in weights.items():
        numbers = array.astype(dtype) if array.dtype.kind == "f" else array
        proto.graph.initializer.append(numpy_helper.from_array(numbers, name))
    for node in proto.graph.node:
        node.name = f"{node.op_type}/{node.output[0]}"
    return proto


def network(batch="N", real="float"):
    """Two filters, two overlapping pools, five classes and a softmax."""
    body = """
        c1 = Conv<pads=[1,1,1,1]>(x, w1, b1) r1 = Relu(c1)
        p1 = MaxPool<kernel_shape=[3,3], strides=[2,2], pads=[1,1,1,1]>(r1)
        c2 = Conv<pads=[1,1,1,1]>(p1, w2, b2) r2 = Relu(c2)
        p2 = MaxPool<kernel_shape=[3,3], strides=[2,2], pads=[1,1,1,1]>(r2)
        f = Flatten(p2) scores = Gemm<transB=1>(f, w3, b3) y = Softmax(scores)
    """
    sizes = {"w1": (4, 2, 3, 3), "b1": (4,), "w2": (6, 4, 3, 3), "b2": (6,), "w3": (5, 54), "b3": (5,)}
    weights = {name: random(*shape) * 0.3 for name, shape in sizes.items()}
    return model(body, weights, {"x": f"{batch},2,12,12"}, real=real)


def labelled(proto):
    proto.metadata_props.add(key="labels", value="\n".join(LABELS))
    return proto


IMAGES = random(6, 2, 12, 12, seed=7)


@pytest.fixture(scope="module")
def explainer():
    return Explainer(labelled(network()), providers="cpu")


def values_of(proto, x):
    """The forward values by name, computed by the standard's own reference implementation."""
    names = [v for node in proto.graph.node for v in node.output]
    return dict(zip(names, ReferenceEvaluator(proto).run(names, {"x": x}), strict=True))


def arrays(explanations):
    return np.stack([e.reconstruction for e in explanations])


# --- where a model comes from ---------------------------------------------------------------------


@pytest.mark.parametrize("rules", TABLES)
def test_a_model_gives_the_same_however_it_is_given(tmp_path, rules):
    proto = network()
    path = tmp_path / "model.onnx"
    onnx.save(proto, path)
    save(compile_pair(load(path), semantics=Semantics(rules=rules)), tmp_path / "pair")
    expected = Explainer(path, rules, providers="cpu")(IMAGES)
    assert not any(e.is_empty for e in expected)
    for source in (str(path), proto, proto.SerializeToString(), load(path)):
        np.testing.assert_array_equal(
            arrays(Explainer(source, rules, providers="cpu")(IMAGES)), arrays(expected)
        )
    saved = Explainer(tmp_path / "pair", providers="cpu")
    assert saved.semantics.rules == rules
    np.testing.assert_array_equal(arrays(saved(IMAGES)), arrays(expected))


def test_low_memory_changes_no_number(tmp_path):
    net = network()
    save(compile_pair(load(net)), tmp_path / "pair")
    for source in (net, tmp_path / "pair"):
        kept, given_back = (Explainer(source, providers="cpu", low_memory=low) for low in (False, True))
        np.testing.assert_array_equal(arrays(kept(IMAGES)), arrays(given_back(IMAGES)))


def test_a_saved_pair_can_be_asked_for_another_layer_and_other_rules(tmp_path):
    path = tmp_path / "model.onnx"
    onnx.save(network(), path)
    save(compile_pair(load(path)), tmp_path / "pair")
    for choice, layer in ((None, "r1"), ("gradient", None)):
        found = Explainer(tmp_path / "pair", choice, providers="cpu")(IMAGES, 1, layer=layer)
        expected = Explainer(path, choice, providers="cpu")(IMAGES, 1, layer=layer)
        np.testing.assert_array_equal(arrays(found), arrays(expected))


def test_a_pair_saved_for_a_layer_explains_that_layer(tmp_path):
    save(compile_pair(load(network()), "r1"), tmp_path)
    saved = Explainer(tmp_path, providers="cpu")
    assert saved.layer == "r1"
    expected = Explainer(network(), providers="cpu")(IMAGES, layer="r1")
    np.testing.assert_array_equal(arrays(saved(IMAGES)), arrays(expected))


# --- what is explained ----------------------------------------------------------------------------


def test_the_scores_are_the_models_own(explainer):
    expected = values_of(network(), IMAGES)["y"]
    np.testing.assert_allclose(explainer.scores(IMAGES), expected, atol=1e-6)


def test_the_strongest_classes_come_first(explainer):
    probability = values_of(network(), IMAGES)["y"]
    found = explainer(IMAGES, top=3)
    assert [e.image for e in found] == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4, 5, 5, 5]
    order = np.argsort(-probability, axis=1)[:, :3]
    assert [e.channel for e in found] == [*order.ravel()]
    np.testing.assert_allclose(
        [e.score for e in found], np.take_along_axis(probability, order, 1).ravel(), atol=1e-6
    )
    assert [e.label for e in found] == [LABELS[k] for k in order.ravel()]


def test_a_class_may_be_given_by_one_of_its_names(explainer):
    by_index = explainer(IMAGES, 2)
    for name in ("seal", "Sea Lion", "sea lion, seal"):
        np.testing.assert_array_equal(arrays(explainer(IMAGES, name)), arrays(by_index))
    assert {e.label for e in by_index} == {"sea lion, seal"}


def test_each_image_may_have_its_own_class(explainer):
    classes = [0, "dog", 2, "espresso", 4, 0]
    found = explainer(IMAGES, classes)
    assert [e.channel for e in found] == [0, 1, 2, 3, 4, 0]
    for image, name in enumerate(classes):
        (alone,) = explainer(IMAGES[image : image + 1], name)
        assert_close(found[image].reconstruction, alone.reconstruction)


def test_a_layer_is_named_by_its_value_or_its_node(explainer):
    by_value = explainer(IMAGES, 3, layer="c2")
    np.testing.assert_array_equal(arrays(explainer(IMAGES, 3, layer="Conv/c2")), arrays(by_value))
    assert {e.layer for e in by_value} == {"c2"}
    assert {e.label for e in by_value} == {None}


def test_a_layers_strongest_channel_is_the_one_with_the_strongest_activation(explainer):
    maxima = values_of(network(), IMAGES)["r1"].max(axis=(2, 3))
    found = explainer(IMAGES, layer="r1")
    assert [e.channel for e in found] == [*maxima.argmax(1)]
    np.testing.assert_allclose([e.score for e in found], maxima.max(1), rtol=1e-5)


def test_a_position_reaches_its_receptive_field_and_nothing_else(explainer):
    # 3×3 of p1 around (1, 4); each sees 3×3 of r1 around twice its place; each sees 3×3 of x.
    seen = np.zeros((12, 12), bool)
    seen[: 2 * 2 + 3, 2 * 3 - 2 :] = True
    for image in arrays(explainer(IMAGES, 0, layer="c2", position=(1, 4))):
        assert image.any()
        assert not image[:, ~seen].any()


def test_a_position_has_its_own_activation_as_score(explainer):
    expected = values_of(network(), IMAGES)["c2"][:, 5, 2, 3]
    found = explainer(IMAGES, 5, layer="c2", position=(2, 3))
    assert_close(np.array([e.score for e in found]), expected)
    assert {e.position for e in found} == {(2, 3)}


# --- seeds ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("rules", TABLES)
def test_a_seed_of_the_activation_is_that_many_times_the_seed_of_one(rules):
    explainer = Explainer(network(), rules, providers="cpu")
    maps = values_of(network(), IMAGES)["r2"]
    channel, i, j = np.unravel_index((maps > 0).sum(0).argmax(), maps.shape[1:])
    one, value = (
        explainer(IMAGES, int(channel), layer="r2", position=(i, j), seed=seed) for seed in ("one", "value")
    )
    for a, b, activation in zip(one, value, maps[:, channel, i, j], strict=True):
        # The activation is not negative, and every rectifier is positively homogeneous.
        assert_close(b.reconstruction, activation * a.reconstruction)


def test_a_class_explained_by_its_value_is_its_score_before_the_softmax_times_one(explainer):
    scores = values_of(network(), IMAGES)["scores"].max(1)
    assert (scores > 0).all()
    one, value = (arrays(explainer(IMAGES, seed=seed)) for seed in ("one", "value"))
    assert_close(value, one * scores[:, None, None, None])


def test_a_map_is_the_sum_of_its_positions_where_the_way_back_is_linear():
    explainer = Explainer(network(), "gradient", providers="cpu")
    whole = arrays(explainer(IMAGES, 1, layer="c2", seed="map"))
    parts = [arrays(explainer(IMAGES, 1, layer="c2", position=at, seed="value")) for at in np.ndindex(6, 6)]
    assert whole.any()
    assert_close(sum(parts), whole)
    np.testing.assert_array_equal(arrays(explainer(IMAGES, 1, layer="c2")), whole)


def test_the_strongest_position_is_where_the_activation_is_largest(explainer):
    maps = values_of(network(), IMAGES)["c2"][:, 4]
    found = explainer(IMAGES, 4, layer="c2", seed="strongest")
    for image, e in enumerate(found):
        at = np.unravel_index(maps[image].argmax(), maps[image].shape)
        (told,) = explainer(IMAGES[image : image + 1], 4, layer="c2", position=at, seed="value")
        assert_close(e.reconstruction, told.reconstruction)
        assert e.seed == "strongest"


# --- equals ---------------------------------------------------------------------------------------

LIMITED = """
    c = Conv(x, w) y = Clip(c, low, high)
    p = GlobalAveragePool(y) f = Flatten(p) scores = Gemm<transB=1>(f, v)
"""
PLANTED = np.float32([[[[1, 5], [4, 0]]]])
"""Times 3 and 2, five and four are more than 6; times 1 they are less."""


@pytest.fixture
def limited():
    """A ReLU6 makes two channels equal, and two positions in each; of three classes two are the same."""
    weights = {
        "w": np.float32([3, 2, 1]).reshape(3, 1, 1, 1),
        "v": np.float32([[0, 0, 1], [1, 0, 0], [1, 0, 0]]),
        "low": np.float32(0),
        "high": np.float32(6),
    }
    return Explainer(model(LIMITED, weights, {"x": "N,1,2,2"}, outputs="scores"), providers="cpu")


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({"layer": "y"}, [(0, 1, 0)]),
        ({"layer": "y", "seed": "strongest"}, [(0, 1, 1)]),
        ({"layer": "y", "seed": "one"}, [(0, 1, 1)]),
        ({"layer": "y", "top": 2}, [(0, 0, 0), (1, 0, 0)]),
        ({"layer": "y", "top": 3, "seed": "strongest"}, [(0, 0, 1), (1, 0, 1), (2, 0, 0)]),
        ({"layer": "y", "target": 1, "seed": "strongest"}, [(1, 0, 1)]),
        ({"layer": "y", "position": (1, 0)}, [(0, 1, 0)]),
        ({"layer": "c", "seed": "strongest"}, [(0, 0, 0)]),
        ({}, [(1, 1, 0)]),
        ({"target": 2}, [(2, 0, 0)]),
    ],
)
def test_what_is_exactly_as_strong_is_counted(limited, asked, expected):
    found = limited(PLANTED, **asked)
    assert [(one.channel, *one.equals) for one in found] == expected
    assert ["as strong" in (one.note or "") for one in found] == [
        channels + positions > 0 for _, channels, positions in expected
    ]


def test_equals_are_told_and_the_layer_that_tells_them_apart(limited):
    (one,) = limited(PLANTED, layer="y", seed="strongest")
    assert one.position == (0, 1)
    assert one.caption == "y channel 0 at 0,1, 6, as others"
    assert Column(limited, Selection(layer="y")).caption(one).startswith("y map 0, 6, as others, deconvnet")
    assert one.note.startswith(
        "1 other channel and 1 other position are as strong: the first in order is explained; layer='c', "
        "the value before, tells them apart; "
    )
    (one,) = limited(PLANTED)
    assert one.note.startswith("1 other class is as strong: the first in order is explained; ")
    assert "layer=" not in one.note
    (one,) = limited(PLANTED, 1, layer="y", seed="strongest", position="region")
    assert "as strong" not in one.note


def test_of_what_is_zero_everywhere_nothing_is_as_strong(limited):
    (one,) = limited(np.zeros_like(PLANTED), layer="y", seed="strongest")
    assert "nothing is active there" in one.note
    assert one.equals == (0, 0)
    assert "as strong" not in one.note


@pytest.mark.parametrize(
    ("body", "before"),
    [
        ("y = Clip(c, low, high)", "c"),
        ("r = Relu(c) y = Min(r, high)", "c"),
        ("y = Sigmoid(c)", "c"),
        ("k = Clip(c, low, high) y = Transpose<perm=[0,2,3,1]>(k)", "c"),
        ("q = QuantizeLinear(c, high, zero) y = DequantizeLinear(q, high, zero)", "c"),
        ("k = Clip(c, low, high) q = QuantizeLinear(k, high, zero) y = DequantizeLinear(q, high, zero)", "c"),
        ("k = Relu(c) q = QuantizeLinear(k, high, zero) y = DequantizeLinear(q, high, zero)", "k"),
        ("y = Relu(c)", None),
        ("k = Clip(c, low, high) y = MaxPool<kernel_shape=[2,2]>(k)", None),
        ("k = Identity(c) y = Clip(x, low, high)", None),
    ],
)  # fmt: skip
def test_the_value_before_what_makes_activations_equal(body, before):
    weights = {
        "w": random(1, 1, 1, 1), "low": np.float32(0), "high": np.float32(6), "zero": np.uint8(0),
    }  # fmt: skip
    loaded = load(model(f"c = Conv(x, w) {body}", weights, {"x": "N,1,2,2"}))
    assert before_limit(loaded, "y") == before


# --- batches --------------------------------------------------------------------------------------


@pytest.mark.parametrize("layer", [None, "c2"])
@pytest.mark.parametrize("rules", TABLES)
def test_an_image_gets_what_it_would_get_alone(rules, layer):
    explainer = Explainer(network(), rules, providers="cpu")
    together = explainer(IMAGES, layer=layer, top=2)
    alone = [e for image in IMAGES for e in explainer(image[None], layer=layer, top=2)]
    assert [(e.channel, e.seed, e.note) for e in together] == [(e.channel, e.seed, e.note) for e in alone]
    assert_close(arrays(together), arrays(alone))


def test_a_fixed_batch_size_takes_any_multiple_of_it(explainer):
    fixed = Explainer(network(batch=2), providers="cpu")
    expected = explainer(IMAGES, [0, 1, 2, 3, 4, 0])
    found = fixed(IMAGES, [0, 1, 2, 3, 4, 0])
    assert [e.image for e in found] == [0, 1, 2, 3, 4, 5]
    assert_close(arrays(found), arrays(expected))
    np.testing.assert_allclose(fixed.scores(IMAGES), explainer.scores(IMAGES), atol=1e-6)
    with pytest.raises(InputError, match="2 images at a time; 5"):
        fixed(IMAGES[:5])


def test_calls_from_several_threads_give_what_calls_in_turn_give():
    jobs = [(k % 5, layer) for k in range(6) for layer in (None, "c1", "r2", "p1")]

    def run(explainer, job):
        channel, layer = job
        return arrays(explainer(IMAGES, channel % (4 if layer in ("c1", "p1") else 5), layer=layer))

    in_turn, shared = (Explainer(network(), providers="cpu") for _ in range(2))
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda job: run(shared, job), jobs))
    for job, result in zip(jobs, found, strict=True):
        np.testing.assert_array_equal(result, run(in_turn, job), err_msg=str(job))


# --- signals that die -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def fading():
    """Three classes, each with a map below a global pool, made so that signals die at the Relu r.

    0. A peak in a pit: what reaches all positions evenly is cancelled, what reaches one passes. The
       bias makes its map even where the image is.
    1. A mean; the bias keeps its map at 0.
    2. Nothing positive at all.
    """
    filters = np.full((3, 1, 3, 3), -0.5, np.float32)
    filters[0, 0, 1, 1] = 1.0
    filters[1] = 1.0
    body = """
        c = Conv(x, same) r = Relu(c) m = Conv<pads=[1,1,1,1]>(r, filters, bias) maps = Relu(m)
        g = GlobalAveragePool(maps) scores = Flatten(g) y = Softmax(scores)
    """
    weights = {
        "same": np.ones((1, 1, 1, 1), np.float32),
        "filters": filters,
        "bias": np.float32([5, -100, 10]),
    }
    return model(body, weights, {"x": "N,1,6,6"})


HERE = "on the image here"
WAY = "guided does, and any rules times grad-cam do"
BLIND = f"deconvnet does not depend {HERE}: no forward value takes part; {WAY}"
EVEN = np.ones((1, 1, 6, 6), np.float32)
PIXEL = np.zeros((1, 1, 6, 6), np.float32)
PIXEL[0, 0, 2, 3] = 1.0


def test_a_class_is_explained_from_its_own_map_where_that_reaches_the_image(fading):
    # Without the bias a map would be positive at the pixel alone.
    fading = onnx.ModelProto.FromString(fading.SerializeToString())
    fading.graph.initializer[2].CopyFrom(numpy_helper.from_array(np.zeros(3, np.float32), "bias"))
    (found,) = Explainer(fading, providers="cpu")(PIXEL, 0)
    assert (found.layer, found.seed) == ("maps", "map")
    assert found.note is None
    np.testing.assert_array_equal(found.reconstruction, PIXEL[0])


def test_a_signal_that_dies_is_noticed_and_its_grave_named(fading):
    (found,) = Explainer(fading, providers="cpu")(EVEN, 0, seed="one")
    assert found.is_empty
    np.testing.assert_array_equal(found.reconstruction, np.zeros((1, 6, 6)))
    assert found.note == f"the signal of 'scores' (seed one) died at 'Relu/r'; {BLIND}"


def test_a_map_that_dies_gives_way_to_its_strongest_position(fading):
    (found,) = Explainer(fading, providers="cpu")(EVEN, 0)
    assert (found.layer, found.seed) == ("maps", "strongest")
    assert found.note == (
        "the signal of 'maps' (seed map) died at 'Relu/r'; explained 'maps' (seed strongest) instead; "
        "3 other positions are as strong: the first in order is explained; " + BLIND
    )
    # The strongest is a corner, which the fewest neighbours pull down; its pit is rectified away.
    corner = np.zeros((1, 6, 6))
    corner[0, 0, 0] = 5 + 1 - 3 * 0.5
    np.testing.assert_array_equal(found.reconstruction, corner)


def test_a_map_without_activations_gives_way_to_the_score(fading):
    (found,) = Explainer(fading, providers="cpu")(EVEN, 1)
    assert (found.layer, found.seed) == ("scores", "one")
    assert "the signal of 'maps' (seed map) is zero: nothing is active there" in found.note
    assert found.note.endswith(f"explained 'scores' (seed one) instead; {BLIND}")
    # 1/36 at every position, from each of up to nine neighbours.
    assert found.reconstruction[0, 0, 0] == pytest.approx(4 / 36)
    assert found.reconstruction[0, 3, 3] == pytest.approx(9 / 36)


def test_what_dies_whatever_it_starts_from_stays_zero(fading):
    (found,) = Explainer(fading, providers="cpu")(EVEN, 2)
    assert found.is_empty
    np.testing.assert_array_equal(found.reconstruction, np.zeros((1, 6, 6)))
    for start in ("'maps' (seed map)", "'maps' (seed strongest)", "'scores' (seed one)"):
        assert f"the signal of {start} died at 'Relu/r'" in found.note
    assert "instead" not in found.note


def test_what_several_methods_die_of_is_told_once():
    """Against a class that a Relu has its score from, no rectifying method lets a signal through."""
    body = "a = Conv(x, k) b = Relu(a) c = MaxPool<kernel_shape=[2,2],strides=[2,2]>(b) d = Conv(c, l)"
    end = "e = Relu(d) g = GlobalAveragePool(e) f = Flatten(g) y = Softmax(f)"
    ones = {"k": np.ones((4, 1, 3, 3), np.float32), "l": np.ones((3, 4, 1, 1), np.float32)}
    (found,) = Explainer(model(f"{body} {end}", ones, {"x": "N,1,8,8"}), "auto", providers="cpu")(
        np.ones((1, 1, 8, 8), np.float32), "-1"
    )
    assert found.note == "the signal of 'f' (seed one) died at 'Relu/e'; explained 'f' by gradient instead"


def test_a_saved_pair_starts_where_it_was_made_to_and_falls_back_likewise(fading, tmp_path):
    save(compile_pair(load(fading)), tmp_path)
    saved = Explainer(tmp_path, providers="cpu")
    (kept,) = saved(EVEN, 1)
    assert (kept.layer, kept.seed, kept.note) == ("scores", "one", BLIND)
    (fell,) = saved(EVEN, 0)
    assert (fell.layer, fell.seed) == ("maps", "strongest")
    assert fell.note.startswith("the signal of 'scores' (seed one) died at 'Relu/r'; ")


def test_images_fall_back_each_for_itself(fading):
    batch, classes = np.concatenate([EVEN, PIXEL, EVEN, EVEN]), [0, 1, 2, 1]
    explainer = Explainer(fading, providers="cpu")
    together = explainer(batch, classes)
    for image, e in enumerate(together):
        (alone,) = explainer(batch[image : image + 1], classes[image])
        assert (e.layer, e.seed, e.note) == (alone.layer, alone.seed, alone.note)
        np.testing.assert_array_equal(e.reconstruction, alone.reconstruction)
    assert len({(e.layer, e.seed, e.note) for e in together}) == 3


# --- several inputs, other types ------------------------------------------------------------------


@pytest.fixture(scope="module")
def two_inputs():
    body = "a = Conv(x, v) b = Conv(z, w) s = Add(a, b) r = Relu(s) f = Flatten(r) y = Gemm(f, u)"
    weights = {"v": random(3, 1, 2, 2), "w": random(3, 2, 2, 2), "u": random(12, 4)}
    return model(body, weights, {"x": "N,1,3,3", "z": "N,2,3,3"})


PARTS = {"x": random(2, 1, 3, 3), "z": random(2, 2, 3, 3)}


def test_each_input_has_its_own_reconstruction(two_inputs):
    found = Explainer(two_inputs, providers="cpu")(PARTS, 1)
    for name in PARTS:
        (shape,) = {e.reconstructions[name].shape for e in found}
        assert shape == PARTS[name].shape[1:]
    assert all(e.reconstruction is e.reconstructions["x"] for e in found)
    alone = Explainer(two_inputs, providers="cpu", inputs=["z"])(PARTS, 1)
    assert [e.reconstructions.keys() for e in alone] == [{"z"}] * 2
    np.testing.assert_array_equal(arrays(alone), [e.reconstructions["z"] for e in found])


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        (PARTS["x"], "inputs x, z: give a dict"),
        ({"x": PARTS["x"]}, "takes x, z; given: x"),
        (PARTS | {"q": PARTS["x"]}, "takes x, z; given: x, z, q"),
        (PARTS | {"z": PARTS["z"][:1]}, "same number of images, not x: 2, z: 1"),
    ],
)
def test_inputs_that_do_not_belong_together_are_refused(two_inputs, batch, message):
    with pytest.raises(InputError, match=message):
        Explainer(two_inputs, providers="cpu")(batch)


def test_an_input_that_the_model_lacks_is_refused(two_inputs):
    with pytest.raises(ModelError, match="no input 'q'; it has x, z"):
        Explainer(two_inputs, providers="cpu", inputs=["q"])(PARTS)


def test_double_precision_images_are_taken_and_reconstructed_in_single(explainer):
    (found,) = explainer(IMAGES[:1].astype(np.float64))
    assert found.reconstruction.dtype == np.float32
    np.testing.assert_array_equal(found.reconstruction, explainer(IMAGES[:1])[0].reconstruction)


@pytest.mark.parametrize("precision", ["float32", "float16"])
@pytest.mark.parametrize("rules", TABLES)
def test_a_half_precision_model_is_explained_like_its_twin(rules, precision):
    half = Explainer(network(real="float16"), Semantics(rules=rules, precision=precision), providers="cpu")
    full = Explainer(network(), rules, providers="cpu")
    found, expected = half(IMAGES, 3), full(IMAGES, 3)
    assert {e.reconstruction.dtype for e in found} == {np.dtype(np.float32)}
    np.testing.assert_allclose(arrays(found), arrays(expected), atol=0.01 * np.abs(arrays(expected)).max())


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        (IMAGES.astype(np.uint8), "takes float32 numbers, not uint8; preprocess"),
        (IMAGES.astype(np.int64), "takes float32 numbers, not int64"),
        (IMAGES[0], r"shape N×2×12×12, not 2×12×12: add an axis for the images, array\[None\]$"),
        (IMAGES[:, :1], r"shape N×2×12×12, not 6×1×12×12$"),
        (IMAGES[:, :, :8], r"shape N×2×12×12, not 6×2×8×12"),
        (IMAGES[:0], r"input 'x': the batch is empty \(0×2×12×12\)"),
    ],
)
def test_a_batch_that_does_not_fit_is_refused_with_both_forms(explainer, batch, message):
    with pytest.raises(InputError, match=message):
        explainer(batch)


@pytest.mark.parametrize(
    ("channel", "more", "message"),
    [
        (5, {}, "no class 5: the model has 0 to 4"),
        (-1, {}, "no class -1"),
        (6, {"layer": "c2"}, "no channel 6: the model has 0 to 5"),
        ("seagull", {}, "no class is named 'seagull'"),
        ("espreso", {}, "did you mean espresso"),
        ("cat", {"layer": "c2"}, "given by its number"),
        ([0, 1], {}, "2 targets for 6 images"),
        ([0, 1, 2, 3, 4, 0, 1], {}, "7 targets for 6 images"),
        (None, {"top": 6}, "top=6"),
        (None, {"top": 0}, "top=0"),
        (None, {"top": 2.5}, "top=2.5: give a whole number"),
        (None, {"top": "3"}, "top='3': give a whole number"),
        (0, {"layer": 2}, "layer=2: give the name of one layer"),
        (0, {"layer": ["c2"]}, "layer=.*: give the name of one layer"),
        (0, {"layer": "c2", "position": 5}, r"position \(5,\): the explained value has 2 axes"),
        (0, {"layer": "c2", "position": (1.5, 2)}, "position .*: give a whole number"),
        (0, {"layer": "c2", "position": (1,)}, "2 axes after the channel"),
        (0, {"layer": "c2", "position": (1, 6)}, "outside the feature map"),
        (0, {"layer": "c2", "position": (-1, 1)}, "outside the feature map"),
        (0, {"position": (1, 1)}, "has no positions: leave it out, or name a layer"),
        (0, {"seed": "two"}, "seed='two': choose one of auto, one, value, map, present, strongest"),
    ],
)
def test_a_choice_that_does_not_fit_is_refused(explainer, channel, more, message):
    with pytest.raises(InputError, match=message):
        explainer(IMAGES, channel, **more)


def test_a_label_without_labels_is_refused_with_the_way_out():
    with pytest.raises(InputError, match="carries no labels; give an index, or the names"):
        Explainer(network(), providers="cpu")(IMAGES, "cat")


def test_an_unknown_layer_is_refused_with_the_close_ones():
    names = model("conv_first = Neg(x) conv_second = Neg(conv_first) y = Neg(conv_second)", {})
    with pytest.raises(UnknownLayerError, match="conv_first") as error:
        Explainer(names, providers="cpu")(IMAGES, 0, layer="conv_frist")
    assert "conv_first" in error.value.matches


def test_an_unknown_layer_like_none_is_refused_with_some_that_there_are():
    net = Explainer(network(), providers="cpu")
    with pytest.raises(UnknownLayerError) as error:
        net(IMAGES, 0, layer="quux")
    last = ", ".join(net.model.ordinals.values())
    assert str(error.value).endswith(
        f"'quux': there are y, {last} and others, which 'onnx-deconv inspect' lists"
    )


def test_a_layer_without_channels_is_refused():
    proto = model("f = ReduceSum<keepdims=0>(x, a) y = Neg(f)", {"a": np.array([0, 1, 2, 3])})
    with pytest.raises(InputError, match="has no channels"):
        Explainer(proto, providers="cpu")(IMAGES, layer="f")
    with pytest.raises(ModelError, match=r"which axis of output 'y' .* holds the images: choose a layer"):
        Explainer(proto, providers="cpu")(IMAGES)


# --- where it runs --------------------------------------------------------------------------------


def without_a_device(monkeypatch):
    """Let onnxruntime behave as its GPU build does on a machine without a GPU."""
    ort = providers.onnxruntime()

    def session(content, options, providers):
        del providers
        return ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])

    pretended = SimpleNamespace(
        SessionOptions=ort.SessionOptions,
        RunOptions=ort.RunOptions,
        InferenceSession=session,
        get_available_providers=lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"],
    )
    monkeypatch.setattr(providers, "onnxruntime", lambda: pretended)
    providers.say_once.cache_clear()


def test_cuda_without_a_device_is_refused_with_what_it_needs(monkeypatch):
    without_a_device(monkeypatch)
    with pytest.raises(RuntimeUnavailableError, match=r"NVIDIA GPU .* CUDA 13 .* cuDNN 9"):
        Explainer(network(), providers="cuda")(IMAGES)


def test_auto_without_a_device_runs_on_the_cpu_and_says_so_once(monkeypatch, caplog):
    without_a_device(monkeypatch)
    with caplog.at_level(logging.INFO, logger="onnx_deconv"):
        found = Explainer(network(), providers="auto")(IMAGES)
        Explainer(network(), providers="auto")(IMAGES, layer="c1")
    assert [r.getMessage() for r in caplog.records] == ["no usable CUDA device: running on the CPU"]
    np.testing.assert_array_equal(arrays(found), arrays(Explainer(network(), providers="cpu")(IMAGES)))


def test_cuda_without_its_build_is_refused_with_the_way_to_get_it():
    if "CUDAExecutionProvider" in providers.onnxruntime().get_available_providers():
        pytest.skip("the GPU build of onnxruntime is installed")
    with pytest.raises(RuntimeUnavailableError, match=r"no CUDAExecutionProvider: .*onnx-deconv\[gpu\]"):
        Explainer(network(), providers="cuda")(IMAGES)


@pytest.fixture(scope="module")
def cuda():
    try:
        return Explainer(network(), providers="cuda").session()
    except RuntimeUnavailableError as error:
        pytest.skip(f"onnxruntime has no usable CUDA device: {error}")


@pytest.mark.cuda
@pytest.mark.usefixtures("cuda")
@pytest.mark.parametrize("layer", [None, "c2"])
@pytest.mark.parametrize("rules", TABLES)
def test_cuda_explains_as_the_cpu_does(rules, layer):
    found = Explainer(network(), rules, providers="cuda")(IMAGES, 3, layer=layer)
    expected = Explainer(network(), rules, providers="cpu")(IMAGES, 3, layer=layer)
    tolerance = 1e-4 * np.abs(arrays(expected)).max()
    np.testing.assert_allclose(arrays(found), arrays(expected), rtol=0, atol=tolerance)


@pytest.mark.cuda
@pytest.mark.usefixtures("cuda")
@pytest.mark.parametrize("rules", TABLES)
def test_every_node_of_both_models_runs_on_cuda(rules):
    ort, pair = providers.onnxruntime(), compile_pair(load(network(batch=2)), semantics=Semantics.of(rules))
    for proto in (pair.forward, pair.deconv):
        options = ort.SessionOptions()
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
        options.add_session_config_entry(
            "session.model_external_initializers_file_folder_path", str(pair.folder)
        )
        # The runtime refuses the session if it cannot place a node there.
        session = ort.InferenceSession(
            proto.SerializeToString(), options, providers=["CUDAExecutionProvider"]
        )
        assert session.get_providers()[0] == "CUDAExecutionProvider"


def test_a_class_may_be_a_number_of_numpy_s():
    (one,), (other,) = (
        Explainer(network(), providers="cpu")(IMAGES[:1], target) for target in (2, np.int64(2))
    )
    np.testing.assert_array_equal(one.reconstruction, other.reconstruction)
