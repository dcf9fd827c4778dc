"""Models that take one image at a time: without an axis for it in the input, in an output, or anywhere."""

import json
import pickle

import numpy as np
import onnx
import pytest
from commands import picture, run
from small_networks import model, random

from onnx_deconv import (
    Explainer,
    InputError,
    ModelError,
    compile_pair,
    explain_graph,
    load,
    save,
    with_inputs,
)
from onnx_deconv.compiler.backward import RECONSTRUCTION
from onnx_deconv.compiler.explain_manifest import own_top
from onnx_deconv.compiler.inspection import inspect_model
from onnx_deconv.model.heads import explainable, head_of, heads
from onnx_deconv.model.image_axis import ADDED
from onnx_deconv.model.value_axes import Axes
from onnx_deconv.runtime import Session, numpy_of

WEIGHTS = {
    "k": random(4, 3, 3, 3), "b": random(4), "m": random(4, 5), "flat": np.array([-1]),
    "first": np.array([0]), "places": np.array([1, 2]), "both": np.array([2, 3]), "all": np.array([0, 2, 3]),
    "one": np.array([1, 4, 6, 9]), "whole": np.array([1, 3, 6, 9]), "shift": random(3, 1, 1),
    "table": random(3, 5), "same": np.eye(4, 3, dtype=np.float32)[:, :, None, None],
    "rows": np.array([-1, 4]),
}  # fmt: skip
IMAGES = random(3, 3, 6, 9)
SIZES = "3,6,9"


def explainer(proto, rules="gradient", **more):
    return Explainer(proto, rules, providers="cpu", **more)


def arrays(found):
    return np.stack([e.reconstruction for e in found])


def in_all_three(proto, images, tmp_path, target=None, rules="gradient"):
    """Explain by the library, a saved pair and an explain graph, which have to agree."""
    own = explainer(proto, rules)(images, target)
    save(compile_pair(load(proto), semantics=rules), tmp_path / "pair")
    np.testing.assert_array_equal(arrays(explainer(tmp_path / "pair", rules)(images, target)), arrays(own))
    graph = explain_graph(compile_pair(load(proto), semantics=rules))
    session = Session(graph.proto, graph.folder, "cpu")
    for image, one in zip(images, own, strict=True):
        asked = {} if target is None else {"target": np.array([one.channel])}
        found = session.run(own_top(graph.manifest) | {"x": image[None]} | asked)
        np.testing.assert_allclose(numpy_of(found[RECONSTRUCTION])[0], one.reconstruction, atol=1e-6)
    return own


# --- outputs without an axis for the image: the score of class k is the channels' means times a table ---

MEANS = "g = ReduceMean<keepdims=0>(x, all)"
WITHOUT = {
    "reduced": f"{MEANS} y = MatMul(g, table)",
    "softmax": f"{MEANS} s = MatMul(g, table) y = Softmax<axis=0>(s)",
    "joined": "a = GlobalAveragePool(x) q = Reshape(a, flat) y = MatMul(q, table)",
    "joined, softmax": "a = GlobalAveragePool(x) q = Reshape(a, flat) s = MatMul(q, table) y = Softmax(s)",
    "dropped last": "a = ReduceMean<keepdims=0>(x, both) s = MatMul(a, table) y = Squeeze(s, first)",
}


@pytest.mark.parametrize("tail", WITHOUT)
def test_classes_of_the_only_image_need_no_axis_for_it(tail, tmp_path):
    proto = model(WITHOUT[tail], WEIGHTS, f"1,{SIZES}")
    (head,) = heads(load(proto))
    assert (head.kind, head.problem) == ("classes", None)
    found = in_all_three(proto, IMAGES, tmp_path)
    scores = IMAGES.mean(axis=(2, 3)) @ WEIGHTS["table"]
    assert [e.channel for e in found] == scores.argmax(axis=1).tolist()
    expected = [np.broadcast_to(WEIGHTS["table"][:, e.channel, None, None] / 54, (3, 6, 9)) for e in found]
    np.testing.assert_allclose(arrays(found), expected, rtol=1e-5)
    told = scores if "softmax" not in tail else np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    np.testing.assert_allclose([e.score for e in found], told.max(axis=1), rtol=1e-5)
    np.testing.assert_allclose(explainer(proto).scores(IMAGES), told, rtol=1e-4, atol=1e-6)
    second = in_all_three(proto, IMAGES[:1], tmp_path / "of 2", 2)
    np.testing.assert_allclose(arrays(second)[0, :, 0, 0], WEIGHTS["table"][:, 2] / 54, rtol=1e-5)


@pytest.mark.parametrize(
    ("tail", "kind", "start", "sign"),
    [
        ("y = ReduceMean<keepdims=0>(x)", "regression", "y", 1),
        ("s = ReduceMean<keepdims=0>(x) y = Sigmoid(s)", "classes", "s", 1),
        ("s = ReduceMean<keepdims=0>(x) p = Sigmoid(s) y = Sub(unit, p)", "classes", "s", -1),
        # The same with an axis for images, and none for the class.
        ("s = ReduceMean<keepdims=0>(x, each) p = Sigmoid(s) y = Sub(unit, p)", "classes", "s", -1),
    ],
)
def test_one_number_of_the_only_image_may_have_no_axes(tail, kind, start, sign, tmp_path):
    proto = model(tail, WEIGHTS | {"unit": np.float32(1), "each": np.array([1, 2, 3])}, f"1,{SIZES}")
    (head,) = heads(load(proto))
    assert (head.kind, head.start, head.axes) == (kind, start, Axes(0 if "each" in tail else None, None))
    found = in_all_three(proto, IMAGES, tmp_path)
    np.testing.assert_allclose(arrays(found), np.full((3, 3, 6, 9), sign / 162), rtol=1e-5)
    means = IMAGES.mean(axis=(1, 2, 3))
    told = means if kind == "regression" else 1 / (1 + np.exp(-sign * means))
    np.testing.assert_allclose([e.score for e in found], told, rtol=1e-5)


def test_an_array_is_sent_back_from_an_output_without_an_axis_for_the_image(tmp_path):
    """It has the output's own shape, or one of them for each image."""
    proto, seed = model(WITHOUT["reduced"], WEIGHTS, f"1,{SIZES}"), random(5)
    expected = np.broadcast_to((WEIGHTS["table"] @ seed)[:, None, None] / 54, IMAGES.shape)
    for given in (seed, np.stack([seed] * 3)):
        np.testing.assert_allclose(arrays(explainer(proto)(IMAGES, seed=given)), expected, rtol=1e-4)
    with pytest.raises(InputError, match=r"seed: an array of shape \(4,\)"):
        explainer(proto)(IMAGES, seed=random(4))
    graph = explain_graph(compile_pair(load(proto), semantics="gradient"), target="array")
    session = Session(graph.proto, graph.folder, "cpu")
    found = session.run(own_top(graph.manifest) | {"x": IMAGES[:1], "target": seed})
    np.testing.assert_allclose(numpy_of(found[RECONSTRUCTION]), expected[:1], rtol=1e-4)
    assert run("verify", saved(proto, tmp_path / "net.onnx"))[0] == 0


def test_images_that_share_an_output_have_none_of_their_own():
    """A mean over all images of a batch is no image's."""
    with pytest.raises(ModelError, match=r"which axis of output 'y' .* holds the images"):
        explainable(load(model(WITHOUT["reduced"], WEIGHTS, f"N,{SIZES}")))
    with pytest.raises(ModelError, match=r"which axis of output 'y' .* holds the images"):
        explainable(load(model(WITHOUT["reduced"], WEIGHTS, f"2,{SIZES}")))


def test_boxes_of_the_only_image_need_no_axis_for_it():
    """Each row is a box: the numbers of one position. Which of them are classes is asked."""
    body = "c = Conv(x, same) t = Transpose<perm=[0,2,3,1]>(c) y = Reshape(t, rows)"
    proto = model(body, WEIGHTS, f"1,{SIZES}")
    (head,) = heads(load(proto))
    assert (head.kind, head.axes) == ("detections", Axes(None, 1, (0,)))
    with pytest.raises(InputError, match="nothing tells which of their fields 0 to 3 are classes"):
        explainer(proto)(IMAGES)
    found = explainer(proto)(IMAGES, "field 1", position=(10,))
    expected = np.zeros_like(IMAGES)
    expected[:, 1, 1, 1] = 1
    np.testing.assert_array_equal(arrays(found), expected)


def test_places_and_classes_that_share_an_axis_are_no_classes():
    proto = model("c = Conv(x, same) y = Reshape(c, flat)", WEIGHTS, f"1,{SIZES}")
    assert "which axis of output 'y' (216) holds the classes" in head_of(load(proto)).problem


# --- inputs without an axis for the image ---------------------------------------------------------------


def saved(proto, path):
    onnx.save(proto, path)
    return path


SCORES = "r = Relu(c) a = ReduceMean<keepdims=0>(r, {axes}) s = MatMul(a, m)"
WHOLE = f"c = Conv(x, k, b) {SCORES.format(axes='both')} y = Softmax(s)"
FORMS = {
    "in front": f"u = Unsqueeze(x, first) c = Conv(u, k, b) {SCORES.format(axes='both')} y = Softmax(s)",
    "reshaped": f"u = Reshape(x, whole) c = Conv(u, k, b) {SCORES.format(axes='both')} y = Softmax(s)",
    "around each filter": (  # as PyTorch writes layers that are called with one image
        "u = Unsqueeze(x, first) f = Conv(u, k, b) c = Squeeze(f, first) "
        f"{SCORES.format(axes='places')} y = Softmax<axis=0>(s)"
    ),
    "none in the output": (
        f"u = Unsqueeze(x, first) c = Conv(u, k, b) {SCORES.format(axes='both')} "
        "p = Softmax(s) y = Squeeze(p, first)"
    ),
}


@pytest.mark.parametrize("rules", ["deconvnet", "gradient"])
@pytest.mark.parametrize("form", FORMS)
def test_an_image_without_an_axis_is_explained_as_a_batch_of_one(form, rules, tmp_path):
    proto = model(FORMS[form], WEIGHTS, SIZES)
    loaded = load(proto)
    assert (loaded.batch, loaded.type_of("x").shape) == (1, (1, 3, 6, 9))
    assert loaded.image_axis_added == {"x"}
    expected = explainer(model(WHOLE, WEIGHTS, f"1,{SIZES}"), rules)(IMAGES)
    found = in_all_three(proto, IMAGES, tmp_path, rules=rules)
    assert [e.channel for e in found] == [e.channel for e in expected]
    np.testing.assert_allclose([e.score for e in found], [e.score for e in expected], rtol=1e-5)
    np.testing.assert_allclose(arrays(found), arrays(expected), atol=1e-6)
    (alone,) = explainer(proto, rules)(IMAGES[0])  # as the file says
    np.testing.assert_array_equal(alone.reconstruction, found[0].reconstruction)


@pytest.mark.parametrize("form", ["in front", "around each filter"])
def test_layers_of_an_image_without_an_axis_have_channels_and_positions(form):
    """Also a layer of three axes, whose first is no batch."""
    whole = model(WHOLE, WEIGHTS, f"1,{SIZES}")
    for options in ({}, {"position": (2, 3)}, {"top": 2}):
        expected = explainer(whole)(IMAGES[:1], layer="r", **options)
        found = explainer(model(FORMS[form], WEIGHTS, SIZES))(IMAGES[:1], layer="r", **options)
        assert [(e.channel, e.position) for e in found] == [(e.channel, e.position) for e in expected]
        np.testing.assert_allclose(arrays(found), arrays(expected), atol=1e-6)


@pytest.mark.parametrize("rules", ["auto", "grad-cam", "layer-cam", "lrp"])
@pytest.mark.parametrize("form", ["in front", "around each filter"])
def test_class_activation_maps_are_those_of_the_same_model_with_the_axis(form, rules):
    expected = explainer(model(WHOLE, WEIGHTS, f"1,{SIZES}"), rules)(IMAGES)
    found = explainer(model(FORMS[form], WEIGHTS, SIZES), rules)(IMAGES)
    assert [e.semantics for e in found] == [e.semantics for e in expected]
    np.testing.assert_allclose(arrays(found), arrays(expected), atol=1e-6)


def test_a_class_s_own_map_is_found_whatever_axes_it_has():
    """With the channels last, and without an axis for the image."""
    weights = WEIGHTS | {"w": random(5, 4, 1, 1)}
    bodies = {
        f"1,{SIZES}": """
            c = Conv(x, k, b) r = Relu(c) maps = Conv(r, w) s = ReduceMean<keepdims=0>(maps, both)
        """,
        SIZES: """
            u = Unsqueeze(x, first) f = Conv(u, k, b) c = Squeeze(f, first) r = Relu(c)
            v = Unsqueeze(r, first) g = Conv(v, w) maps = Squeeze(g, first)
            s = ReduceMean<keepdims=0>(maps, places)
        """,
        "1,6,9,3": """
            t = Transpose<perm=[0,3,1,2]>(x) c = Conv(t, k, b) r = Relu(c) g = Conv(r, w)
            maps = Transpose<perm=[0,2,3,1]>(g) s = ReduceMean<keepdims=0>(maps, places)
        """,
    }
    found = []
    for sizes, body in bodies.items():
        images = IMAGES.transpose(0, 2, 3, 1) if sizes.endswith("3") else IMAGES
        each = explainer(model(f"{body} y = Softmax(s)", weights, sizes), "deconvnet")(images)
        assert {(e.layer, e.seed) for e in each} == {("maps", "map")}
        found.append(arrays(each).transpose(0, 3, 1, 2) if sizes.endswith("3") else arrays(each))
    np.testing.assert_allclose(found[1], found[0], atol=1e-6)
    np.testing.assert_allclose(found[2], found[0], atol=1e-6)


@pytest.mark.parametrize("opset", [11, 12])
def test_axes_that_are_attributes_are_given_and_taken_away_too(opset):
    body = "u = Unsqueeze<axes=[0]>(x) c = Conv(u, k, b) r = Relu(c) g = GlobalAveragePool(r) y = Flatten(g)"
    proto = model(body, WEIGHTS, SIZES)
    proto.opset_import[0].version = opset
    expected = explainer(model("c = Conv(x, k, b) r = Relu(c) g = GlobalAveragePool(r) y = Flatten(g)",
                               WEIGHTS, f"1,{SIZES}"))(IMAGES, 1)  # fmt: skip
    np.testing.assert_array_equal(arrays(explainer(proto)(IMAGES, 1)), arrays(expected))


OTHERS = {
    "channels last": (
        "6,9,3", (6, 9, 3),
        "t = Transpose<perm=[2,0,1]>(x) u = Unsqueeze(t, first) c = Conv(u, k, b)",
        lambda x: x.transpose(2, 0, 1),
    ),
    "grey, two axes": (
        "6,9", (6, 9), "u = Reshape(x, grey) c = Conv(u, k1, b)", lambda x: x[None],
    ),
    "a signal": ("54", (54,), "u = Reshape(x, grey) c = Conv(u, k1, b)", lambda x: x.reshape(1, 6, 9)),
    "frames": (
        "2,3,6,9", (2, 3, 6, 9),
        "t = Transpose<perm=[1,0,2,3]>(x) u = Unsqueeze(t, first) d = Conv(u, k3) c = Squeeze(d, third)",
        None,
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", OTHERS)
def test_whatever_a_filter_goes_along_is_no_axis_of_images(case):
    sizes, shape, body, as_maps = OTHERS[case]
    more = {
        "grey": np.array([1, 1, 6, 9]), "k1": random(4, 1, 3, 3), "k3": random(4, 3, 2, 3, 3),
        "third": np.array([2]),
    }  # fmt: skip
    proto = model(f"{body} g = GlobalAveragePool(c) s = Flatten(g) y = Softmax(s)", WEIGHTS | more, sizes)
    loaded, x = load(proto), random(*shape)
    assert loaded.type_of("x").shape == (1, *shape)
    found = explainer(proto)(np.stack([x, -x]), 2, seed="one")
    assert [e.reconstruction.shape for e in found] == [shape, shape]
    if as_maps is not None:  # each pixel gets what all filters of class 2 that reach it weigh it by
        kernel = WEIGHTS["k"][2] if case == "channels last" else more["k1"][2]
        expected = np.zeros(as_maps(x).shape)
        for down in range(4):
            for across in range(7):
                expected[:, down : down + 3, across : across + 3] += kernel / 28
        np.testing.assert_allclose(as_maps(found[0].reconstruction), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("body", "shape"),
    [
        ("c = Conv(x, k, b) y = GlobalAveragePool(c)", "N,3,6,9"),
        ("c = Conv(x, k, b) y = GlobalAveragePool(c)", "3,3,6,9"),
        # Channels of all images side by side, as grouped filters of one's own for each need them.
        ("u = Reshape(x, beside) c = Conv<group=2>(u, k2) y = Reshape(c, apart)", "2,3,6,9"),
        ("t = Transpose<perm=[1,0,2,3]>(x) c = Conv(t, k, b) y = GlobalAveragePool(c)", "3,1,6,9"),
    ],
)
def test_a_batch_stays_one(body, shape):
    more = {"beside": np.array([1, 6, 6, 9]), "k2": random(8, 3, 3, 3), "apart": np.array([2, 4, 4, 7])}
    assert not load(model(body, WEIGHTS | more, shape)).image_axis_added


def test_a_map_of_an_image_without_an_axis(tmp_path):
    body = "u = Unsqueeze(x, first) c = Conv(u, same) p = Softmax<axis=1>(c) y = Squeeze(p, first)"
    proto = model(body, WEIGHTS, SIZES)
    images = np.abs(IMAGES)
    found = in_all_three(proto, images, tmp_path, 1)
    expected = np.zeros_like(images)
    expected[:, 1] = images[:, 1]
    np.testing.assert_array_equal(arrays(found), expected)
    assert (found[0].kind, explainer(proto)(images, 1, position=(2, 3))[0].position) == ("class map", (2, 3))


def test_free_sizes_stay_free():
    proto = model(FORMS["in front"], WEIGHTS, "3,H,W")
    expected = explainer(model(WHOLE, WEIGHTS, "1,3,H,W"))
    for size in ((6, 9), (12, 7)):
        image = random(3, *size)
        found, wanted = explainer(proto)(image, 3), expected(image[None], 3)
        np.testing.assert_allclose(arrays(found), arrays(wanted), atol=1e-6)
    fixed = load(proto, {"x": (3, 8, 8)})
    assert fixed.type_of("x").shape == (1, 3, 8, 8)
    (undeclared,) = (saved_proto := model(FORMS["in front"], WEIGHTS, SIZES)).graph.input
    undeclared.type.tensor_type.ClearField("shape")
    assert load(saved_proto, {"x": (3, 6, 9)}).type_of("x").shape == (1, 3, 6, 9)


def test_photographs_are_explained_as_of_the_same_model_with_the_axis(tmp_path):
    normalised = FORMS["in front"].replace("Unsqueeze(x", "Unsqueeze(n")
    nets = {
        name: saved(model(f"n = Sub(x, shift) {body}", WEIGHTS, sizes), tmp_path / f"{name}.onnx")
        for name, body, sizes in (
            ("without", normalised, SIZES),
            ("with", WHOLE.replace("Conv(x", "Conv(n"), f"1,{SIZES}"),
        )
    }
    photos = [picture(tmp_path / f"{k}.png") for k in range(2)]
    records = {}
    for name, net in nets.items():
        code, _, err = run("explain", net, *photos, "-o", tmp_path / name)
        assert code == 0, err
        records[name] = sorted((tmp_path / name).glob("*.npy"))
    assert len(records["with"]) == len(records["without"]) >= len(photos)
    for one, other in zip(records["with"], records["without"], strict=True):
        np.testing.assert_allclose(np.load(one), np.load(other), atol=1e-6)
    found = [Explainer(net, "gradient", providers="cpu").explain(photos[0]) for net in nets.values()]
    np.testing.assert_allclose(found[0].reconstruction, found[1].reconstruction, atol=1e-6)


def test_what_was_added_is_told(tmp_path):
    net = saved(model(FORMS["in front"], WEIGHTS, SIZES), tmp_path / "net.onnx")
    told = inspect_model(load(net)).as_dict()
    assert told["image_axis_added"] == ["x"]
    assert "x had no axis for the images, and gets one of size 1" in run("inspect", net)[1]
    assert run("verify", net)[0] == 0
    for form in ("pair", "explain"):
        out = tmp_path / form
        code, _, err = run("convert", net, "--form", form, "-o", out)
        assert code == 0
        assert "input 'x' takes a batch of one image, 1×3×6×9: in net.onnx it has no axis for it" in err
        path = out / ("explain.onnx" if form == "explain" else "forward.onnx")
        metadata = {p.key: p.value for p in onnx.load(path).metadata_props}
        assert json.loads(metadata[ADDED]) == ["x"]
        assert json.loads(metadata["onnx_deconv.manifest"])["batch"] == {"axis": 0, "size": 1, "added": ["x"]}
        assert run("explain", out, picture(tmp_path / "p.png"), "-o", tmp_path / f"{form} out")[0] == 0
    again = pickle.loads(pickle.dumps(load(net)))
    assert (again.image_axis_added, again.type_of("x").shape) == ({"x"}, (1, 3, 6, 9))


def test_a_table_beside_an_image_without_an_axis():
    proto = model(f"d = Mul(x, t) {FORMS['in front'].replace('Unsqueeze(x', 'Unsqueeze(d')}", WEIGHTS, SIZES)
    proto.graph.input.append(onnx.helper.make_tensor_value_info("t", onnx.TensorProto.FLOAT, [9]))
    table = random(9)
    loaded = load(proto)
    assert loaded.image_axis_added == {"x"}
    body = f"d = Mul(x, t) {WHOLE.replace('Conv(x', 'Conv(d')}"
    whole = model(body, WEIGHTS | {"t": table}, f"1,{SIZES}")
    expected = explainer(whole)(IMAGES, 1)
    found = explainer(with_inputs(loaded, {"t": table}))(IMAGES, 1)
    np.testing.assert_allclose(arrays(found), arrays(expected), atol=1e-6)
    found = explainer(proto)({"x": IMAGES, "t": table}, 1)
    np.testing.assert_allclose(arrays(found), arrays(expected), atol=1e-6)


@pytest.mark.parametrize("text", ["", "x", "{}", "[[1]]", '["z", 3]', "[" * 100_000])
def test_what_a_file_says_of_added_axes_need_not_be_true(text):
    proto = model(WHOLE, WEIGHTS, f"1,{SIZES}")
    proto.metadata_props.add(key=ADDED, value=text)
    assert load(proto).image_axis_added == frozenset()
    with pytest.raises(InputError, match="add an axis for the images"):
        explainer(proto)(IMAGES[0])


def test_an_image_that_is_given_is_no_input_any_more():
    body = FORMS["in front"].replace("Unsqueeze(x", "Unsqueeze(d")
    proto = model(f"d = Sub(x, other) {body}", WEIGHTS, SIZES)
    proto.graph.input.append(onnx.helper.make_tensor_value_info("other", onnx.TensorProto.FLOAT, [3, 6, 9]))
    loaded = load(proto)
    assert loaded.image_axis_added == {"x", "other"}
    both = explainer(proto)({"x": IMAGES[:1], "other": IMAGES[1:2]}, 1)
    one = with_inputs(loaded, {"other": IMAGES[1]})
    assert (one.inputs, one.image_axis_added) == (["x"], {"x"})
    np.testing.assert_allclose(arrays(explainer(one)(IMAGES[0], 1)), arrays(both), atol=1e-6)


# Images of one batch


@pytest.mark.parametrize("batch", ["N", 1, 2])
def test_images_that_would_share_a_range_are_explained_one_by_one(batch):
    """Beside a brighter image a coarser range would round the others' numbers otherwise."""
    text = f"""
        <ir_version: 8, opset_import: ["": 17]>
        net (float[{batch}, 3, 8, 8] x) => (float[{batch}, 3] y) {{
            q, s, z = DynamicQuantizeLinear(x) c = DequantizeLinear(q, s, z)
            d = Mul(c, c) p = GlobalAveragePool(d) y = Flatten(p)
        }}
    """
    explain = Explainer(onnx.parser.parse_model(text), "gradient", providers="cpu", kind="classes")
    images = np.random.default_rng(3).uniform(0, 1, (2, 3, 8, 8)).astype(np.float32)
    images[1] *= 100
    dim, bright = explain(images, 1, seed="one")
    # The derivative of a mean of squares: twice the number, of a grid of 255 steps from 0 to the largest.
    for one, image in ((dim, images[0]), (bright, images[1])):
        step = image.max() / 255
        expected = np.zeros_like(image)
        expected[1] = 2 * np.rint(image[1] / step) * step / 64
        if batch == 2 and one is dim:  # the file says that two run together
            assert not np.allclose(one.reconstruction, expected, rtol=1e-3)
        else:
            np.testing.assert_allclose(one.reconstruction, expected, rtol=1e-3)
            assert explain.scores(images)[one.image, 1] == pytest.approx(
                (expected[1] ** 2).sum() * 64 / 4, rel=1e-3
            )
