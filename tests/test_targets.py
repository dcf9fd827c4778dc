"""Targets of every kind of output, on networks whose explanations are known without running them."""

import json
import re

import numpy as np
import onnx
import onnxruntime
import pytest
from cells import SCENE, cell, scene
from commands import picture, refused, run
from onnx import numpy_helper
from small_networks import model, random

from onnx_deconv import Explainer, InputError, ModelError, compile_pair, explain_graph, load, save
from onnx_deconv.attribution.photographs import Selection
from onnx_deconv.compiler.backward import RECONSTRUCTION
from onnx_deconv.compiler.explain_manifest import own_top
from onnx_deconv.compiler.inspection import inspect_model
from onnx_deconv.evaluation import explanations, method_of
from onnx_deconv.experiments.occlusion import occlusion
from onnx_deconv.experiments.sheet import across_tables
from onnx_deconv.imaging import Preprocess, save_png
from onnx_deconv.model.detections import Fields, Layout, behind, ends_with_nothing, parts
from onnx_deconv.model.heads import head_of, heads
from onnx_deconv.runtime import Session, numpy_of
from onnx_deconv.serving.served import graph_of

IMAGES = np.abs(random(2, 3, 4, 6)) + 0.1
SAME = {"same": np.eye(4, 3, dtype=np.float32)[:, :, None, None]}
"""A map for each channel of the image, and one that is zero."""


def explainer(proto, rules="gradient", **more):
    return Explainer(proto, rules, providers="cpu", **more)


def named(proto, *labels):
    proto.metadata_props.add(key="labels", value=json.dumps(labels))
    return proto


def in_one_graph(proto, feeds, target=None, target_kind="index", **more):
    """What the explain graph returns."""
    pair = compile_pair(load(proto), semantics="gradient")
    graph = explain_graph(pair, target=target_kind, **more)
    given = {"x": feeds} if target is None else {"x": feeds, "target": np.array(target)}
    found = Session(graph.proto, graph.folder, "cpu").run(own_top(graph.manifest) | given)
    return numpy_of(found[RECONSTRUCTION])


def arrays(found):
    return np.stack([e.reconstruction for e in found])


# --- a segmenter: the map of a class is the image's channel of that number --------------------------

TAILS = {
    "NCHW": "y = Identity(c)",
    "NHWC": "y = Transpose<perm=[0,2,3,1]>(c)",
    "softmax": "y = Softmax<axis=1>(c)",
    "NHWC softmax": "t = Transpose<perm=[0,2,3,1]>(c) y = Softmax<axis=3>(t)",
    "argmax": "a = ArgMax<axis=1>(c) y = Cast<to=1>(a)",
}


def segmenter(tail="NCHW", batch="N", size="4,6"):
    return named(
        model(f"c = Conv(x, same) {TAILS.get(tail, tail)}", SAME, f"{batch},3,{size}"),
        "red",
        "green",
        "blue",
        "black",
    )


CLASS_MAPS = {
    "softmax": "y = Softmax<axis=1>(h)",
    "log-softmax": "y = LogSoftmax<axis=1>(h)",
    "NHWC softmax": "t = Transpose<perm=[0,2,3,1]>(h) y = Softmax<axis=3>(t)",
    "argmax": "a = ArgMax<axis=1>(h) y = Cast<to=1>(a)",
    "argmax of a softmax": "p = Softmax<axis=1>(h) a = ArgMax<axis=1>(p) y = Cast<to=1>(a)",
    "raw beside a softmax": "y = Identity(h) z = Softmax<axis=1>(y)",
    "raw": "y = Identity(h)",
    "some": "p = Softmax<axis=1>(h) y = Gather<axis=1>(p, few)",
}


@pytest.mark.parametrize("tail", CLASS_MAPS)
def test_the_strongest_class_of_a_map_is_the_most_probable_somewhere(tail):
    """A softmax does not see what the scores of a position have in common, however large it is."""
    hill = np.zeros((1, 1, 4, 6), np.float32)
    hill[..., 0, 0] = 100
    images = np.zeros((2, 3, 4, 6), np.float32)
    images[0, 2, 0, 0] = 0.5  # blue has the largest score, on the hill
    images[0, 1, 2, 3], images[0, 2, 2, 3] = 50, 20  # green is so probable that it is rounded to 1
    images[0, 2, 1, 1] = 19  # as blue is
    images[1] = images[0, ::-1]  # red in the place of blue; green as before
    body, outputs = (
        f"c = Conv(x, same) h = Add(c, hill) {CLASS_MAPS[tail]}",
        "y z" if "beside" in tail else "y",
    )
    proto = named(
        model(body, SAME | {"hill": hill, "few": np.array([2, 1, 0])}, "N,3,4,6", outputs),
        *(("blue", "green", "red") if tail == "some" else ("red", "green", "blue", "black")),
    )
    ask = explainer(proto)
    found = ask(images)
    raw = tail == "raw"
    assert [e.label for e in found] == (["blue", "red"] if raw else ["green", "green"])
    assert [e.standing.rank for e in ask(images, "green")] == ([2, 2] if raw else [1, 1])
    scores = np.append(images, np.zeros((2, 1, 4, 6)), axis=1)
    others = [np.exp(np.delete(scores, k, axis=1)).sum(axis=1) for k in range(4)]
    best = (scores + hill if raw else scores - np.log(np.stack(others, axis=1))).max(axis=(2, 3))
    order = [["red", "green", "blue", "black"].index(name) for name in ask.labels.names]
    np.testing.assert_allclose(ask.scores(images), best[:, order], rtol=1e-6)
    channels = [["red", "green", "blue"].index(e.label) for e in found]
    maps = np.stack([only(images + hill, k)[n] for n, k in enumerate(channels)])
    np.testing.assert_allclose(arrays(found), maps, atol=1e-6)
    np.testing.assert_array_equal(in_one_graph(proto, images), arrays(found))
    weights = np.zeros((2, len(ask.labels.names)), np.float32)
    np.testing.assert_array_equal(in_one_graph(proto, images, weights, "weights"), arrays(found))
    equal = np.ones_like(images)  # the first of equals
    assert ask(equal)[0].channel == 0
    np.testing.assert_array_equal(in_one_graph(proto, equal), arrays(ask(equal)))


@pytest.mark.parametrize(
    "tail",
    [
        "p = Softmax<axis=1>(c) y = Mul(p, weigh)",
        "p = Sigmoid(c) y = Mul(p, weigh)",
        "p = Softmax<axis=1>(c) w = Mul(p, weigh) y = Transpose<perm=[2,0,3,1]>(w)",
        "p = Softmax<axis=1>(c) w = Mul(p, weigh) y = Gather<axis=1>(w, few)",
    ],
)
def test_classes_of_a_map_that_are_weighed_after_the_softmax_are_ranked_by_the_output(tail):
    images = np.zeros((2, 3, 4, 6), np.float32)
    images[0, 1, 2, 3], images[0, 2, 1, 1] = 4, 2  # green is the surest, and blue weighs more
    images[1, 0, 1, 2], images[1, 2] = 1, -9  # red is the surest, and blue is nowhere
    weights = SAME | {"weigh": np.float32([1, 1, 6, 0.5])[:, None, None], "few": np.array([2, 1, 0])}
    proto = model(f"c = Conv(x, same) {tail}", weights, "N,3,4,6")
    scores = np.append(images, np.zeros((2, 1, 4, 6)), axis=1)
    odds = np.exp(scores)
    shares = odds / (1 + odds if "Sigmoid" in tail else odds.sum(axis=1, keepdims=True))
    weighed = (shares * weights["weigh"]).max(axis=(2, 3))
    order = [2, 1, 0] if "Gather" in tail else [0, 1, 2, 3]
    ask = explainer(proto)
    np.testing.assert_allclose(ask.scores(images), weighed[:, order], atol=1e-6)
    found = ask(images)
    assert [order[e.channel] for e in found] == [2, 0]
    plain = Preprocess(mean=(0, 0, 0), std=(1, 1, 1))
    hidden = [occlusion(ask, image, size=2, stride=2, fill=0, preprocess=plain) for image in images]
    assert [each.target for each in hidden] == [e.channel for e in found]  # the same class everywhere
    np.testing.assert_array_equal(in_one_graph(proto, images), arrays(found))


WIDE = {
    "v": random(72, 3), "thousand": random(72, 1000), "ten": random(72, 10), "one": random(72, 1),
    "face": random(72, 136), "vector": random(72, 512), "two": np.array([4, 7]), "hundred": np.float32(100),
}  # fmt: skip
WIDE["whole"] = WIDE["v"].T.reshape(3, 3, 4, 6)
FILTERED = "c = Conv(x, whole) y = Flatten(c)"
"""The same numbers as by `v`, made by filters as large as the image."""
NOTHING_TELLS = "row of 3 numbers, and nothing tells whether they are classes"


def row(tail=FILTERED, output="y"):
    """A row of numbers, made of all pixels of a photograph of 4×6."""
    return model(f"f = Flatten(x) {tail}".replace("y =", f"{output} ="), WIDE, "N,3,4,6", output)


def only(values, channel, where=1.0):
    """An image that has one channel of another, there where it says."""
    found = np.zeros_like(values)
    found[:, channel] = values[:, channel] * where
    return found


@pytest.mark.parametrize("tail", ["NCHW", "NHWC softmax"])
def test_the_explain_graph_sends_any_array_back(tail):
    """A position, a region, a mask: what the library makes of them, a caller of the graph gives it."""
    proto, places = segmenter(tail), [(1, 2), "region", np.eye(4, 6) > 0, None]
    where = np.zeros((4, 6)), IMAGES[0].argmax(axis=0) == 1, np.eye(4, 6), np.zeros((4, 6))
    where[0][1, 2] = 1
    for place, area in zip(places, where, strict=True):
        given = np.zeros((2, 4, 4, 6), np.float32)
        given[:, 1] = area
        given[1] = 0  # the strongest class's map
        turned = given if tail == "NCHW" else given.transpose(0, 2, 3, 1)
        found = in_one_graph(proto, IMAGES, turned, "array")
        whole = arrays(explainer(proto)(IMAGES))
        own = whole if place is None else arrays(explainer(proto)(IMAGES, 1, position=place))
        np.testing.assert_array_equal(found, np.stack([own[0], whole[1]]))


def test_an_embedding_is_explained_by_arrays_in_a_graph(tmp_path):
    """The gradient of a weighted sum of its dimensions; no number is the strongest, so zeros give zeros."""
    body = "p = GlobalAveragePool(x) f = Flatten(p) s = MatMul(f, m) n = ReduceL2(s, one) y = Div(s, n)"
    proto = model(body, {"m": (m := random(3, 512)), "one": np.array([1])}, "N,3,4,6")
    given = random(2, 512)
    long = IMAGES.mean(axis=(2, 3)) @ m
    length = np.linalg.norm(long, axis=1, keepdims=True)
    along = (given * long).sum(axis=1, keepdims=True) / length**2
    by_pixel = ((given - along * long) / length) @ m.T / 24
    expected = np.broadcast_to(by_pixel[..., None, None], IMAGES.shape)
    np.testing.assert_allclose(arrays(explainer(proto)(IMAGES, seed=given)), expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(in_one_graph(proto, IMAGES, given, "array"), expected, rtol=1e-4, atol=1e-6)
    assert not in_one_graph(proto, IMAGES, np.zeros((2, 512), np.float32), "array").any()
    onnx.save(proto, tmp_path / "net.onnx")
    for form in ("explain", "triton"):
        how = "--form", form, "--target-kind", "array", "--json"
        code, stdout, stderr = run("convert", tmp_path / "net.onnx", "-o", tmp_path / form, *how)
        assert (code, json.loads(stdout)["target"]["shape"]) == (0, ["N", 512]), stderr
    how = "--form", "explain", "--target-kind", "array", "--target-input", "optional"
    code, _, stderr = run("convert", tmp_path / "net.onnx", "-o", tmp_path / "other", *how)
    assert (code, "has no strongest number" in stderr, (tmp_path / "other").exists()) == (2, True, False)


def test_a_graph_that_takes_arrays_is_written_and_checked(tmp_path):
    (tmp_path / "net.onnx").write_bytes(segmenter("NHWC softmax").SerializeToString())
    for kind in ("required", "optional"):
        how = "--form", "explain", "--target-kind", "array", "--target-input", kind, "--json"
        code, stdout, stderr = run("convert", tmp_path / "net.onnx", "-o", tmp_path / kind, *how)
        assert code == 0, stderr
        assert json.loads(stdout)["target"]["shape"] == ["N", 4, 6, 4]
    pair = compile_pair(load(segmenter()), semantics="gradient")
    with pytest.raises(InputError, match="an array is one explanation"):
        explain_graph(pair, target="array", top=2)


@pytest.mark.parametrize("tail", ["y = Sigmoid(c)", "t = Transpose<perm=[0,2,3,1]>(c) y = Sigmoid(t)"])
def test_before_a_sigmoid_a_class_is_explained_from_where_it_is_seen(tail, tmp_path):
    """What is below zero there says that the class is not. One that is nowhere is explained as a whole."""
    images = random(2, 3, 4, 6, seed=9)
    images[1, 0] = -np.abs(images[1, 0])
    proto = model(f"c = Conv(x, same) {tail}", SAME, "N,3,4,6")
    expected = only(images, 0, images[:, 0] > 0)
    expected[1, 0] = images[1, 0]
    found = explainer(proto)(images, 0)
    assert {one.seed for one in found} == {"present"}
    save(compile_pair(load(proto), semantics="gradient"), tmp_path / "pair")
    first = np.float32([[1, 0, 0, 0]] * 2)
    graphs = in_one_graph(proto, images, [0, 0]), in_one_graph(proto, images, first, "weights")
    for each in (arrays(found), arrays(explainer(tmp_path / "pair")(images, 0)), *graphs):
        np.testing.assert_allclose(each, expected, rtol=1e-6)
    whole = arrays(explainer(proto)(images, 0, seed="map"))
    np.testing.assert_array_equal(whole, only(images, 0))
    np.testing.assert_array_equal(in_one_graph(proto, images, [0, 0], seed="map"), whole)


def test_where_the_complement_of_a_sigmoid_is_seen_its_score_is_below_zero():
    images = random(1, 3, 4, 6, seed=9)
    proto = model(
        "c = Conv(x, same) s = Sigmoid(c) y = Sub(one, s)", SAME | {"one": np.float32(1)}, "N,3,4,6"
    )
    (found,) = explainer(proto)(images, 0)
    np.testing.assert_array_equal(found.reconstruction, -only(images, 0)[0])


@pytest.mark.parametrize("batch", ["N", "2", "1"])
@pytest.mark.parametrize("tail", TAILS)
def test_a_class_map_is_explained_from_the_classs_whole_map(tail, batch):
    proto = segmenter(tail, batch)
    for channel, name in enumerate(["red", "green", "blue"]):
        found = explainer(proto)(IMAGES, name)
        assert {(e.channel, e.label, e.seed, e.kind) for e in found} == {(channel, name, "map", "class map")}
        np.testing.assert_array_equal(arrays(found), only(IMAGES, channel))


@pytest.mark.parametrize("tail", TAILS)
def test_the_explain_graph_explains_what_the_library_does(tail):
    proto = segmenter(tail)
    np.testing.assert_array_equal(in_one_graph(proto, IMAGES), arrays(explainer(proto)(IMAGES)))
    np.testing.assert_array_equal(in_one_graph(proto, IMAGES, [2, 0])[1], only(IMAGES, 0)[1])


ROWS = "rows = Constant<value_ints = [2]>() m = ReduceMean<keepdims=0>(c, rows)"
GLOBAL = {
    "pool": "g = GlobalAveragePool(c) y = Flatten(g)",
    "one mean after another": f"{ROWS} y = ReduceMean<keepdims=0>(m, rows)",
    "NHWC": "t = Transpose<perm=[0,2,3,1]>(c) places = Constant<value_ints = [1, 2]>() "
    "m = ReduceMean<keepdims=0>(t, places) y = Softmax(m)",
    "columns": f"{ROWS} y = Softmax<axis=1>(m)",
    "columns, each a step": f"{ROWS} t = Transpose<perm=[0,2,1]>(m) y = Softmax<axis=2>(t)",
}
"""Means over all places give one number for each class; over the rows alone a sequence."""


@pytest.mark.parametrize("of_layer", [False, True])
@pytest.mark.parametrize("tail", GLOBAL)
def test_what_is_written_or_served_starts_where_the_library_does(tail, of_layer, tmp_path):
    proto = segmenter(GLOBAL[tail])
    ask = explainer(proto)
    layer = ask.scores_layer if of_layer else None
    maps = IMAGES if "columns" not in tail else np.repeat(IMAGES.mean(axis=2, keepdims=True) / 4, 4, axis=2)
    onnx.save(proto, tmp_path / "model.onnx")
    chosen = [] if layer is None else ["--layer", layer]
    out = tmp_path / "out"
    code, _, stderr = run(
        "convert", tmp_path / "model.onnx", "-o", out, "--form", "explain", "--rules", "gradient", *chosen
    )
    assert code == 0, stderr
    made = [graph_of(ask, None), *([] if of_layer else [explain_graph(load(proto))])]
    written = Session(onnx.load(out / "explain.onnx"), out, "cpu")
    for session in (written, *(Session(each.proto, each.folder, "cpu") for each in made)):
        for k in range(3):
            found = session.run({"x": IMAGES, "target": np.full(len(IMAGES), k)})
            np.testing.assert_allclose(numpy_of(found[RECONSTRUCTION]), only(maps, k), rtol=1e-6)
    for k in range(3):
        np.testing.assert_allclose(arrays(ask(IMAGES, k, layer=layer)), only(maps, k), rtol=1e-6)


@pytest.mark.parametrize("tail", TAILS)
def test_a_class_map_is_explained_at_a_place(tail):
    ask = explainer(segmenter(tail))
    mask = np.zeros((4, 6), np.float32)
    mask[1:3, 2:] = 1
    (pixel, _) = ask(IMAGES, "green", position=(1, 4))
    assert (pixel.position, pixel.score) == ((1, 4), pytest.approx(IMAGES[0, 1, 1, 4]))
    assert np.argwhere(pixel.reconstruction).tolist() == [[1, 1, 4]]
    ones = np.ones_like(IMAGES)
    np.testing.assert_array_equal(arrays(ask(IMAGES, "green", position=mask)), only(ones, 1, mask))
    wins = IMAGES.argmax(axis=1) == 1
    found = ask(IMAGES, "green", position="region")
    np.testing.assert_array_equal(arrays(found), only(ones, 1, wins))
    assert {e.place for e in found} == {"its region"}
    np.testing.assert_array_equal(
        arrays(ask(IMAGES, "green", position="region", seed="map")), only(IMAGES, 1, wins)
    )


@pytest.mark.parametrize(("label", "sign"), [(0, -1), (1, 1)])
def test_the_region_of_two_classes_of_one_score_is_where_each_is_the_more_probable(label, sign):
    body, k = "c = Conv(x, k) p = Sigmoid(c) q = Sub(one, p) y = Concat<axis=1>(q, p)", random(1, 2, 1, 1)
    ask = explainer(model(body, {"k": k, "one": np.float32(1)}, "N,2,4,6"))
    x = random(1, 2, 4, 6)
    positive = np.einsum("c,chw->hw", k[0, :, 0, 0], x[0]) > 0
    assert 0 < positive.sum() < positive.size
    (found,) = ask(x, label, position="region")
    np.testing.assert_array_equal(found.reconstruction, sign * k[0] * (positive == label))


@pytest.mark.parametrize("place", [(1, 4), "region", np.eye(4, 6, dtype=np.float32)])
def test_a_place_of_scores_is_explained_alike_whatever_is_added_to_all_scores(place):
    """A softmax sees no constant that all scores share, so no sign of a score may turn a picture round."""
    body = "c = Conv(x, k) s = Sub(c, far) y = Softmax<axis=1>(s)"
    k = random(3, 2, 1, 1)
    x = random(1, 2, 4, 6)
    area = place
    if isinstance(place, str):
        area = np.einsum("kc,chw->khw", k[..., 0, 0], x[0]).argmax(axis=0) == 2
    if isinstance(place, tuple):
        area = np.zeros((4, 6))
        area[place] = 1
    for far in (-100, 0, 100):
        ask = explainer(model(body, {"k": k, "far": np.float32(far)}, "N,2,4,6"))
        (found,) = ask(x, 2, position=place)
        np.testing.assert_array_equal(found.reconstruction, k[2] * area.astype(np.float32))
        assert found.seed == "one"


def test_a_unit_inside_the_network_starts_with_its_activation():
    x, k = random(1, 2, 4, 6), random(3, 2, 1, 1)
    proto = model("c = Conv(x, k) r = Tanh(c) y = Softmax<axis=1>(r)", {"k": k}, "N,2,4,6")
    (found,) = explainer(proto)(x, 2, layer="c", position=(1, 4))
    np.testing.assert_allclose(
        found.reconstruction[:, 1, 4], k[2, :, 0, 0] * (k[2, :, 0, 0] @ x[0, :, 1, 4]), rtol=1e-5
    )


def test_a_unit_of_scores_starts_with_one_in_an_explain_graph():
    proto = model("c = Conv(x, k) y = Softmax<axis=1>(c)", {"k": (k := random(3, 2, 1, 1))}, "N,2,4,6")
    graph = explain_graph(compile_pair(load(proto)), seed="unit")
    unit = np.ravel_multi_index((2, 1, 4), (3, 4, 6))
    found = in_one_graph(proto, random(1, 2, 4, 6), [unit], seed="unit")
    np.testing.assert_array_equal(found[0, :, 1, 4], k[2, :, 0, 0])
    assert np.count_nonzero(found) == np.count_nonzero(k[2])
    assert graph.manifest["seed"] == "unit"


@pytest.mark.parametrize(
    ("command", "option", "ask", "argument"),
    [
        (("explain", "--top", 9), "--top 9: choose 1 to 4", lambda p: explainer(p)(IMAGES, top=9), "top=9: "),
        (
            ("convert", "--form", "explain", "--target-kind", "weights", "--top", 2),
            "--target-kind weights: a sum",
            lambda p: explain_graph(p, target="weights", top=2),
            "target='weights': a sum",
        ),
        (
            ("convert", "--form", "explain", "--seed", "contrast"),
            "--seed contrast: ",
            lambda p: explain_graph(p, seed="contrast"),
            "seed='contrast': ",
        ),
    ],
)
def test_messages_are_in_the_words_of_the_caller(photo, command, option, ask, argument):
    proto, (name, *how) = segmenter(size="16,16"), command
    onnx.save(proto, photo.parent / "net.onnx")
    code, _, stderr = run(
        name,
        photo.parent / "net.onnx",
        *([photo] if name == "explain" else []),
        *how,
        "-o",
        photo.parent / "o",
    )
    assert code == 2
    assert option in stderr
    assert argument not in stderr
    with pytest.raises(InputError, match=re.escape(argument)) as told:
        ask(segmenter())
    assert "--" not in str(told.value)


def test_a_mask_of_another_size_is_fitted():
    found = explainer(segmenter())(IMAGES, "red", position=np.array([[0, 1], [0, 0]], np.float32))
    mask = np.zeros((4, 6), np.float32)
    mask[:2, 3:] = 1
    np.testing.assert_array_equal(arrays(found), only(np.ones_like(IMAGES), 0, mask))


@pytest.mark.parametrize(
    "mask",
    [
        np.eye(4, 6, dtype=np.uint8) * 255, np.eye(4, 6, dtype=np.int64) * 255, np.eye(4, 6, dtype=np.uint8),
        np.eye(4, 6) > 0, np.eye(4, 6, dtype=np.uint8) * 150 + 100, np.eye(4, 6, dtype=np.float32),
    ],
)  # fmt: skip
def test_a_mask_means_the_same_however_it_is_written(mask):
    found = explainer(segmenter())(IMAGES, "red", position=mask)
    np.testing.assert_array_equal(arrays(found), only(np.ones_like(IMAGES), 0, np.eye(4, 6)))


def test_the_weights_of_a_mask_count():
    found = explainer(segmenter())(IMAGES, "red", position=np.full((4, 6), 0.5))
    np.testing.assert_array_equal(arrays(found), only(np.full_like(IMAGES, 0.5), 0))


@pytest.mark.parametrize("step", [5, np.int64(5), np.uint8(5), np.array(5), [5], np.array([5])])
def test_a_step_is_a_whole_number_of_any_kind(step):
    k = random(3, 2, 1)
    proto = model("c = Conv(x, k) t = Transpose<perm=[0,2,1]>(c) y = Softmax<axis=2>(t)", {"k": k}, "N,2,8")
    (found,) = explainer(proto)(random(1, 2, 8), 2, position=step)
    assert found.position == (5,)
    np.testing.assert_array_equal(found.reconstruction[:, 5], k[2, :, 0])


@pytest.mark.parametrize("place", ["region", np.ones((2, 2)), np.array([0.5, 1])])
@pytest.mark.parametrize("body", ["y = Flatten(p)", "y = Identity(p)"])
def test_a_class_without_a_map_has_neither_region_nor_mask(place, body):
    proto = model(f"c = Conv(x, same) p = GlobalAveragePool(c) {body}", SAME, "N,3,4,6")
    with pytest.raises(InputError, match="is for maps: here each class or channel has one number"):
        explainer(proto)(IMAGES, 1, position=place)


@pytest.mark.parametrize(
    ("target", "more", "message"),
    [
        ("", {}, "target '': it is empty"),
        (" ", {}, "target ' ': it is empty"),
        (0, {"position": 1.5}, "position 1.5: give a whole number"),
        (0, {"position": np.full((4, 6), 20, np.uint8)}, "a mask of the whole numbers 20 to 20"),
        (0, {"position": -np.eye(4, 6, dtype=np.int64)}, "a mask of the whole numbers -1 to 0"),
        (
            None,
            {"seed": np.full((2, 4, 6, 4), np.nan)},
            "seed: an array with numbers that are infinite or not",
        ),
        (7, {}, "no class 7: the model has 0 to 3"),
        (0, {"position": (1,)}, "2 axes after the channel"),
        (0, {"position": (4, 0)}, "outside the feature map"),
        (0, {"position": "here"}, "give indices, a mask, or region"),
        (0, {"position": np.ones(3, np.float32)}, "a mask of shape"),
        (0, {"seed": np.ones((2, 4, 6, 4))}, "leave out target"),
        (None, {"seed": np.ones((2, 3, 4))}, r"seed: an array of shape \(2, 3, 4\); .* shape \(2, 4, 6, 4\)"),
        (0.5, {}, "target 0.5: give a whole number or a label"),
        (True, {}, "target True: give a whole number or a label"),
    ],
)
def test_what_a_class_map_does_not_have_is_refused(target, more, message):
    with pytest.raises(InputError, match=message):
        explainer(segmenter("NHWC"))(IMAGES, target, **more)


def test_an_array_is_sent_back_as_it_is():
    seed = random(2, 4, 6, 4, seed=3)
    found = explainer(segmenter("NHWC"))(IMAGES, seed=seed)
    np.testing.assert_array_equal(arrays(found), seed.transpose(0, 3, 1, 2)[:, :3])
    one_at_a_time = explainer(segmenter("NHWC", batch="1"))(IMAGES, seed=seed)
    np.testing.assert_array_equal(arrays(one_at_a_time), arrays(found))
    assert [e.image for e in one_at_a_time] == [0, 1]
    score = float((seed[1, ..., :3] * IMAGES[1].transpose(1, 2, 0)).sum())
    assert (found[1].seed, found[1].score) == ("array", pytest.approx(score))


# --- sums of classes: a linear network's explanation is its weights ---------------------------------

READER = np.float32(np.arange(1, 73).reshape(72, 1) * [[1, 10, 100]])


def linear(tail="y = Softmax(s)", **weights):
    proto = model(f"f = Flatten(x) s = MatMul(f, r) {tail}", {"r": READER} | weights, "N,3,4,6")
    return named(proto, "tabby", "tiger cat", "T-shirt")


@pytest.mark.parametrize(
    ("target", "weights", "words"),
    [
        ("tabby", [1, 0, 0], None),
        (np.int64(1), [0, 1, 0], None),
        (np.array(2), [0, 0, 1], None),
        ("-tabby", [-1, 0, 0], "-tabby"),
        ("-2", [0, 0, -1], "-T-shirt"),
        ("tabby - tiger cat", [1, -1, 0], "tabby - tiger cat"),
        ("0.5*tabby + 2", [0.5, 0, 1], "0.5*tabby + T-shirt"),
        ("T-shirt - 2 * tabby + 1", [-2, 1, 1], "T-shirt - 2*tabby + tiger cat"),
        ("tabby + tabby", [2, 0, 0], "tabby + tabby"),
        ("tabby - others", [1, -0.5, -0.5], "tabby - others"),
        ("2*tabby - 1 - 3*others", [2, -1, -3], "2*tabby - tiger cat - 3*others"),
    ],
)
def test_a_target_is_a_sum_of_classes(target, weights, words):
    ask = explainer(linear())
    found = ask(IMAGES, target)
    expected = (READER @ np.float32(weights)).reshape(3, 4, 6)
    np.testing.assert_allclose(arrays(found), np.stack([expected] * 2), rtol=1e-6)
    assert {e.words for e in found} == {words}
    probabilities = ask.scores(IMAGES)
    np.testing.assert_allclose([e.score for e in found], probabilities @ weights, atol=1e-6)


def test_each_image_may_have_its_own_sum():
    found = explainer(linear())(IMAGES, ["-tabby", np.int32(1)])
    np.testing.assert_allclose(found[0].reconstruction.ravel(), -READER[:, 0])
    np.testing.assert_allclose(found[1].reconstruction.ravel(), READER[:, 1])


def test_a_sum_of_channels_of_a_layer():
    ask = explainer(segmenter())
    found = ask(IMAGES, "1 - 2*0", layer="c", seed="map")
    np.testing.assert_array_equal(arrays(found), only(IMAGES, 1) - 2 * only(IMAGES, 0))
    with pytest.raises(InputError, match="'red': a channel of a layer is given by its number"):
        ask(IMAGES, "1 - red", layer="c")


def test_a_class_may_be_called_others():
    named_so = explainer(linear(), labels=["lion", "others", "tabby"])
    (one,) = named_so(IMAGES[:1], "lion - others")
    np.testing.assert_array_equal(one.array.ravel(), READER @ [1, -1, 0])


@pytest.mark.parametrize("tail", ["y = Softmax(s)", "p = Softmax(s) y = Sub(one, p)"])
def test_a_graph_contrasts_each_class_with_the_others_as_the_library_does(tail):
    proto = linear(tail, one=np.float32(1))
    asked = explainer(proto)(IMAGES, ["1 - others", "2 - others"])
    found = in_one_graph(proto, IMAGES, [1, 2], seed="contrast")
    np.testing.assert_allclose(found, arrays(asked), rtol=1e-6)
    assert not in_one_graph(proto, IMAGES, [7, 7], seed="contrast").any()  # there is no such class


def test_a_graph_of_maps_has_nothing_to_contrast():
    with pytest.raises(InputError, match="no one score for each of several classes"):
        in_one_graph(segmenter(), IMAGES, seed="contrast")


def test_a_class_whose_name_looks_like_a_box_is_a_class():
    looks = explainer(linear(), labels=["lion", "tabby#2", "at 3,4"])
    (one,) = looks(IMAGES[:1], "2*tabby#2 - at 3,4")
    np.testing.assert_array_equal(one.array.ravel(), READER @ [0, 2, -1])


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("tabby - ", "no class is named"),
        ("tabby - lion", "no class is named 'lion'"),
        ("-others", "name one, '0 - others'"),
        ("-7", "no class 7"),
        ("-", "missing beside -"),
        ("tabby at 3,4", "a target 'at X,Y' is for detections: here are no boxes"),
        ("at 3,4", "a target 'at X,Y' is for detections"),
        ("tabby#2", "a target 'CLASS#N' is for detections"),
        ("field 4", "a target 'field N' is for detections"),
    ],
)
def test_a_sum_that_cannot_be_read_is_refused(target, message):
    with pytest.raises(InputError, match=message):
        explainer(linear())(IMAGES, target)


@pytest.mark.parametrize(
    ("tail", "classes"),
    [
        ("p = Softmax(s) y = Sub(one, p)", [(0, -1), (1, -1), (2, -1)]),
        ("p = Softmax(s) y = Gather<axis=1>(p, some)", [(2, 1), (0, 1)]),
        ("p = Sigmoid(s) g = Greater(p, one) n = Not(g) y = Cast<to=1>(n)", [(0, -1), (1, -1), (2, -1)]),
        ("p = Sigmoid(s) g = Less(p, one) n = Not(g) y = Cast<to=1>(n)", [(0, 1), (1, 1), (2, 1)]),
        (
            "p = Sigmoid(s) g = Greater(p, one) t = Cast<to=9>(one) n = Xor(g, t) y = Cast<to=1>(n)",
            [(0, -1), (1, -1), (2, -1)],
        ),
        (
            "p = Sigmoid(s) q = Sub(one, p) y = Concat<axis=1>(q, p)",
            [(0, -1), (1, -1), (2, -1), (0, 1), (1, 1), (2, 1)],
        ),
    ],
)
def test_classes_of_an_output_are_found_among_the_scores(tail, classes):
    proto = linear(tail, one=np.float32([1]), some=np.array([2, 0]))
    del proto.metadata_props[:]
    for k, (own, sign) in enumerate(classes):
        expected = np.stack([sign * READER[:, own].reshape(3, 4, 6)] * 2)
        np.testing.assert_allclose(arrays(explainer(proto)(IMAGES, k)), expected)
        np.testing.assert_allclose(in_one_graph(proto, IMAGES, [k]), expected)
    with pytest.raises(InputError, match=f"no class {len(classes)}"):
        explainer(proto)(IMAGES, len(classes))
    assert not in_one_graph(proto, IMAGES, [len(classes)]).any()
    np.testing.assert_allclose(in_one_graph(proto, IMAGES), arrays(explainer(proto)(IMAGES)))


PICKS = np.eye(72, 3, dtype=np.float32)
"""Scores that are an image's first three pixels."""
OWN_ORDER = [
    ("p = Softmax(s) y = Mul(p, twice)", [2, 1.5, 0], [1, 0, 2], [0, 1, 2]),
    ("p = Softmax(s) y = Div(p, half)", [2, 1.5, 0], [1, 0, 2], [0, 1, 2]),
    ("p = Softmax(s) g = Gather<axis=1>(p, turned) y = Mul(g, weighed)", [2, 1.5, 0], [2, 1, 0], [2, 0, 1]),
    ("p = Sigmoid(s) y = Mul(p, last)", [60, 80, 50], [1, 0, 2], [0, 1, 2]),  # the first two are 1, rounded
    (
        (
            "p = Sigmoid(s) a = Gather<axis=1>(p, two) b = Gather<axis=1>(p, third) h = Mul(a, small) "
            "y = Concat<axis=1>(h, b)"
        ),
        [2, 0, 1.5],
        [2, 0, 1],
        [0, 1, 2],
    ),
]
"""Tails that give each class another weight; pixels; the classes, best first; the score of each class."""


def own_order(tail):
    return linear(
        tail, r=PICKS, twice=np.float32([[1, 2, 1]]), half=np.float32([[1, 0.5, 1]]),
        weighed=np.float32([[1, 1, 2]]), last=np.float32([[1, 1, 0.5]]), turned=np.array([2, 0, 1]),
        two=np.array([0, 1]), third=np.array([2]), small=np.float32(0.5),
    )  # fmt: skip


@pytest.mark.parametrize(("tail", "pixels", "order", "scores"), OWN_ORDER)
def test_classes_are_ranked_by_the_models_own_numbers(tail, pixels, order, scores):
    proto, image = own_order(tail), np.zeros((1, 72), np.float32)
    image[0, :3], image = pixels, image.reshape(1, 3, 4, 6)
    expected = PICKS.T.reshape(3, 3, 4, 6)[[scores[k] for k in order]]
    found = explainer(proto)(image, top=3)
    assert [e.channel for e in found] == order
    np.testing.assert_array_equal(arrays(found), expected)
    for source in (proto, compile_pair(load(proto), semantics="gradient")):
        graph = explain_graph(source, top=3)
        run = Session(graph.proto, graph.folder, "cpu").run(own_top(graph.manifest) | {"x": image})
        assert numpy_of(run["explained"]).tolist() == [order]
        np.testing.assert_array_equal(numpy_of(run[RECONSTRUCTION])[0], expected)
    np.testing.assert_array_equal(in_one_graph(proto, image)[0], expected[0])
    np.testing.assert_array_equal(
        in_one_graph(proto, image, np.zeros((1, 3), np.float32), "weights")[0], expected[0]
    )


def test_classes_with_maps_are_ranked_by_the_models_own_numbers():
    """The second channel is the weaker one, and its class counts double."""
    proto = model(
        "c = Conv(x, k) g = GlobalAveragePool(c) s = Flatten(g) p = Softmax(s) y = Mul(p, twice)",
        {"k": np.eye(3, dtype=np.float32)[:, :, None, None], "twice": np.float32([[1, 2, 1]])},
        "N,3,4,6",
    )
    image = IMAGES[:1] * 0 + np.float32([2, 1.5, 0])[:, None, None]
    asked = Explainer(proto, "gradient", providers="cpu")(image)
    assert asked[0].layer == "c"
    np.testing.assert_array_equal(arrays(asked), only(image, 1))
    graph = explain_graph(proto)
    found = Session(graph.proto, graph.folder, "cpu").run(own_top(graph.manifest) | {"x": image})
    np.testing.assert_array_equal(numpy_of(found[RECONSTRUCTION]), only(image, 1))


def test_a_mean_of_sigmoids_without_an_axis_of_classes_is_explained_from_its_map():
    proto = model(
        "c = Conv(x, k) p = Sigmoid(c) y = ReduceMean<keepdims=0>(p, both)",
        {"k": np.eye(1, 3, dtype=np.float32)[:, :, None, None], "both": np.array([1, 2, 3])},
        "N,3,4,6",
    )
    asked = explainer(proto)
    found = asked(IMAGES)
    assert (asked.head.kind, [e.layer for e in found]) == ("classes", ["c"] * 2)
    np.testing.assert_array_equal(arrays(found), only(IMAGES, 0))  # all are positive
    np.testing.assert_allclose(
        [e.score for e in found], (1 / (1 + np.exp(-IMAGES[:, 0]))).mean((1, 2)), rtol=1e-6
    )
    graph = explain_graph(proto)
    ran = Session(graph.proto, graph.folder, "cpu").run(own_top(graph.manifest) | {"x": IMAGES})
    np.testing.assert_array_equal(numpy_of(ran[RECONSTRUCTION]), arrays(found))


def test_the_area_of_a_class_is_explained_from_its_number():
    """Of three alike, p rises by p(1 - p) = 2/9 with its own score and falls by p² = 1/9 with another."""
    proto = model(
        "c = Conv(x, k) p = Softmax<axis=1>(c) q = Gather<axis=1>(p, at) y = ReduceMean<keepdims=0>(q, both)",
        {"k": np.eye(3, dtype=np.float32)[:, :, None, None], "at": np.array(2), "both": np.array([1, 2])},
        "N,3,4,6",
    )
    image = np.zeros((2, 3, 4, 6), np.float32)
    expected = image + np.float32([-1, -1, 2])[:, None, None] / 9 / 24
    asked = explainer(proto)
    assert asked.head.kind == "regression"
    np.testing.assert_allclose(arrays(asked(image)), expected, rtol=1e-6)
    np.testing.assert_allclose(in_one_graph(proto, image), expected, rtol=1e-6)
    graph = explain_graph(proto)  # without a rectifier all rules are the gradient's
    found = Session(graph.proto, graph.folder, "cpu").run(own_top(graph.manifest) | {"x": image})
    np.testing.assert_allclose(numpy_of(found[RECONSTRUCTION]), expected, rtol=1e-6)


def test_images_of_which_several_make_one_result_are_refused():
    """Frames along the batch's axis, as some read videos: a result is none of theirs."""
    proto = model(
        "c = Conv(x, k) g = GlobalAveragePool(c) v = Reshape(g, videos) m = ReduceMean<keepdims=0>(v, at) "
        "y = Softmax<axis=1>(m)",
        {
            "k": np.eye(3, dtype=np.float32)[:, :, None, None],
            "videos": np.array([-1, 2, 3]),
            "at": np.array([1]),
        },
        "N,3,4,6",
    )
    for target in (None, 0):
        with pytest.raises(InputError, match="has 2 rows for 4 images: the model joins several into one"):
            explainer(proto)(np.ones((4, 3, 4, 6), np.float32), target)
    assert len(explainer(proto)(np.ones((4, 3, 4, 6), np.float32), layer="c")) == 4


# --- a reader of text: step t is the mean of column t -----------------------------------------------

READS = {
    "TNK": "y = Transpose<perm=[2,0,1]>(a)",
    "NTK": "t = Transpose<perm=[0,2,1]>(a) y = LogSoftmax<axis=2>(t)",
}


@pytest.mark.parametrize("batch", ["N", "2", "1"])
@pytest.mark.parametrize("tail", READS)
def test_a_step_of_a_sequence_is_read_from_its_column(tail, batch):
    body = f"c = Conv(x, same) a = ReduceMean<keepdims=0>(c, rows) {READS[tail]}"
    proto = model(body, SAME | {"rows": np.array([2])}, f"{batch},3,4,6")
    found = explainer(proto)(IMAGES, 2, position=(5,), seed="one")
    expected = np.zeros_like(IMAGES)
    expected[:, 2, :, 5] = 1 / 4
    np.testing.assert_array_equal(arrays(found), expected)
    whole = explainer(proto)(IMAGES, 2)
    assert {(e.kind, e.seed) for e in whole} == {("sequence", "map")}
    means = np.broadcast_to(IMAGES[:, 2].mean(axis=1, keepdims=True) / 4, (2, 4, 6))
    np.testing.assert_allclose(arrays(whole)[:, 2], means, rtol=1e-6)
    assert not arrays(whole)[:, :2].any()


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_a_map_without_an_axis_of_channels_is_explained_as_a_whole(layout):
    """Of depth, or of what stands out. The map is the image's second channel."""
    swap = "i = Transpose<perm=[0,3,1,2]>(x)" if layout == "NHWC" else "i = Identity(x)"
    weights = {"green": np.eye(3, dtype=np.float32)[1:2, :, None, None], "axis": np.array([1])}
    size = "4,6,3" if layout == "NHWC" else "3,4,6"
    proto = model(f"{swap} c = Conv(i, green) y = Squeeze(c, axis)", weights, f"N,{size}")
    turned = IMAGES.transpose(0, 2, 3, 1) if layout == "NHWC" else IMAGES
    expected = only(IMAGES, 1).transpose(0, 2, 3, 1) if layout == "NHWC" else only(IMAGES, 1)
    found = explainer(proto)(turned)
    assert {(e.kind, e.channel, e.seed) for e in found} == {("class map", 0, "map")}
    np.testing.assert_array_equal(arrays(found), expected)
    np.testing.assert_array_equal(in_one_graph(proto, turned), expected)


def test_the_best_place_of_a_keypoint_has_its_whole_map():
    """A softmax over all places of a map does not make classes of them."""
    tail = "f = Reshape(c, flat) p = Softmax<axis=2>(f) y = Reshape(p, whole)"
    weights = SAME | {"flat": np.array([0, 4, -1]), "whole": np.array([0, 4, 4, 6])}
    proto = model(f"c = Conv(x, same) {tail}", weights, "N,3,4,6")
    found = explainer(proto)(IMAGES, 2)
    assert {(e.kind, e.seed) for e in found} == {("class map", "map")}
    np.testing.assert_array_equal(arrays(found), only(IMAGES, 2))
    np.testing.assert_array_equal(in_one_graph(proto, IMAGES, [2, 2]), only(IMAGES, 2))


PLACES = {
    "a map of each channel": "f = Reshape(c, maps) p = Softmax<axis=2>(f) y = Reshape(p, whole)",
    "all images' maps in one axis": "f = Reshape(c, rows) p = Softmax<axis=1>(f) y = Reshape(p, whole)",
    "without rows and columns": "f = Reshape(c, maps) y = Softmax<axis=2>(f)",
    "where the largest is": "f = Reshape(c, maps) y = ArgMax<axis=2>(f)",
    "spelled out": "e = Exp(c) t = ReduceSum(e, last_two) y = Div(e, t)",
    "spelled out, less the largest": """m = ReduceMax(c, last_two) d = Sub(c, m) e = Exp(d)
        t = ReduceSum(e, last_two) i = Reciprocal(t) y = Mul(i, e)""",
    "spelled out, one axis at a time": """m = ReduceMax(c, last) n = ReduceMax(m, rows_) d = Sub(c, n)
        e = Exp(d) u = ReduceSum(e, last) t = ReduceSum(u, rows_) y = Div(e, t)""",
    "spelled out, without the axes": """e = Exp(c) u = ReduceSum<keepdims=0>(e, last_two)
        t = Unsqueeze(u, last_two) y = Div(e, t)""",
    "its logarithm": "t = ReduceLogSumExp(c, last_two) y = Sub(c, t)",
    "its logarithm, spelled out": "e = Exp(c) t = ReduceSum(e, last_two) l = Log(t) y = Sub(c, l)",
}


@pytest.mark.parametrize("tail", PLACES)
@pytest.mark.parametrize("batch", ["N", "2"])
@pytest.mark.parametrize("channels", [4, 1])
def test_a_softmax_over_places_leaves_maps_of_rows_and_columns(tail, batch, channels):
    """The same as without the softmax, one channel's map too, which no axis of channels tells of."""
    weights = {
        "some": SAME["same"][:channels], "maps": np.array([0, channels, -1]), "rows": np.array([-1, 24]),
        "whole": np.array([-1, channels, 4, 6]), "last_two": np.array([2, 3]), "last": np.array([-1]),
        "rows_": np.array([2]),
    }  # fmt: skip
    proto = model(f"c = Conv(x, some) {PLACES[tail]}", weights, f"{batch},3,4,6")
    proto.graph.output[0].type.tensor_type.elem_type = 7 if "ArgMax" in PLACES[tail] else 1
    ask, channel = explainer(proto), channels // 2
    assert (ask.head.kind, ask.head.start, ask.head.axes.positions) == ("class map", "c", (2, 3))
    np.testing.assert_array_equal(arrays(ask(IMAGES, channel)), only(IMAGES, channel))
    np.testing.assert_array_equal(in_one_graph(proto, IMAGES, [channel] * 2), only(IMAGES, channel))
    where, ones = np.zeros((4, 6)), np.ones_like(IMAGES)
    where[1, 2] = 1
    np.testing.assert_array_equal(arrays(ask(IMAGES, channel, position=(1, 2))), only(ones, channel, where))


@pytest.mark.parametrize("flat", ["0,1,-1", "0,-1"])
def test_places_that_are_compared_are_a_map_where_rows_and_columns_are_joined_before(flat):
    body = "c = Conv(x, some) f = Reshape(c, flat) t = Mul(f, two) y = Softmax<axis=-1>(t)"
    weights = {"some": SAME["same"][:1], "flat": np.array([*map(int, flat.split(","))])}
    proto = model(body, weights | {"two": np.float32(2)}, "N,3,4,6")
    ask = explainer(proto)
    assert (ask.head.kind, ask.head.start, ask.classes) == ("class map", "t", 1)
    np.testing.assert_array_equal(arrays(ask(IMAGES)), 4 * only(IMAGES, 0))
    np.testing.assert_array_equal(in_one_graph(proto, IMAGES), 4 * only(IMAGES, 0))


def test_the_explain_graph_reads_time_first():
    body = f"c = Conv(x, same) a = ReduceMean<keepdims=0>(c, rows) {READS['TNK']}"
    proto = model(body, SAME | {"rows": np.array([2])}, "N,3,4,6")
    np.testing.assert_array_equal(in_one_graph(proto, IMAGES), arrays(explainer(proto)(IMAGES)))


# --- numbers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("tail", ["y = Squeeze(s, axis)", "z = Squeeze(s, axis) y = Sigmoid(z)"])
def test_one_number_per_image_is_explained_by_its_weights(tail):
    proto = model(
        f"f = Flatten(x) s = MatMul(f, r) {tail}", {"r": READER[:, :1], "axis": np.array([1])}, "N,3,4,6"
    )
    expected = np.stack([READER[:, 0].reshape(3, 4, 6)] * 2)
    found = explainer(proto)(IMAGES)
    np.testing.assert_array_equal(arrays(found), expected)
    assert explainer(proto).scores(IMAGES).shape == (2, 1)
    np.testing.assert_array_equal(in_one_graph(proto, IMAGES), expected)
    np.testing.assert_array_equal(arrays(explainer(proto)(IMAGES, "-0")), -expected)


@pytest.mark.parametrize(
    ("tail", "name"),
    [
        ("y = Softmax(s)", "class 2"),
        ("y = LpNormalization(s)", "dimension 2"),
        ("z = Slice(s, two, three, axis) y = Identity(z)", "number 0"),
    ],
)
def test_what_is_no_class_is_not_called_one(tail, name):
    weights = {"r": READER, "two": np.array([2]), "three": np.array([3]), "axis": np.array([1])}
    proto = model(f"f = Flatten(x) s = MatMul(f, r) {tail}", weights, "N,3,4,6")
    assert explainer(proto)(IMAGES, int(name.split()[1]))[0].name == name


def test_a_channel_of_an_image_is_explained_from_what_it_was_drawn_from():
    # Channels are drawn from those of the input in another order, the last one twice as bright.
    w = np.float32([[0, 1, 0], [0, 0, 1], [2, 0, 0]])[:, :, None, None]
    proto = model("y = Conv(x, w)", {"w": w}, "N,3,40,40")
    images = random(1, 3, 40, 40)
    (one,) = explainer(proto)(images, 2)
    assert (one.name, one.kind) == ("channel 2", "image")
    np.testing.assert_allclose(one.reconstruction, only(images, 0, 4)[0], rtol=1e-6)
    np.testing.assert_allclose(in_one_graph(proto, images, [2]), only(images, 0, 4), rtol=1e-6)


@pytest.mark.parametrize(
    ("tail", "sign"),
    [("y = Add(x, f)", 1), ("y = Sub(x, f)", -1), ("s = Add(f, x) y = Clip(s, low, high)", 1)],
)
def test_an_image_may_be_what_filters_add_to_the_input(tail, sign):
    # Channel 2 is its own, and twice channel 0 added or taken off.
    w = np.float32([[0, 1, 0], [0, 0, 1], [2, 0, 0]])[:, :, None, None]
    bounds = {"low": np.float32(-100), "high": np.float32(100)}
    proto = model(f"f = Conv(x, w) {tail}", {"w": w} | bounds, "N,3,40,40")
    images = random(2, 3, 40, 40)
    drawn = images[:, 2] + 2 * sign * images[:, 0]
    expected = np.stack([2 * sign * drawn, 0 * drawn, drawn], 1)
    assert [(h.kind, h.axes.order) for h in heads(load(proto))] == [("image", [0, 1, 2, 3])]
    np.testing.assert_allclose(arrays(explainer(proto)(images, 2)), expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(in_one_graph(proto, images, [2, 2]), expected, rtol=1e-5, atol=1e-6)
    (one,) = explainer(proto)(images[:1], 2, position=(7, 30))
    assert np.argwhere(one.reconstruction).tolist() == [[0, 7, 30], [2, 7, 30]]


@pytest.mark.parametrize("tail", ["y = Softmax(q)", "y = Identity(q)"])
def test_the_only_image_may_be_picked_out_of_its_batch(tail):
    weights = {"v": WIDE["v"], "first": np.array(0)}
    proto = model(f"f = Flatten(x) s = MatMul(f, v) q = Gather(s, first) {tail}", weights, "1,3,4,6")
    (head,) = heads(load(proto))
    assert (head.start, head.axes.order) == ("s", [0, 1])
    (one,) = explainer(proto)(IMAGES[:1], 2)
    np.testing.assert_allclose(one.reconstruction, WIDE["v"][:, 2].reshape(3, 4, 6), rtol=1e-6)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_an_image_may_be_the_input_under_a_mask(layout):
    # The mask of each channel is the one before it, so the two are each other's derivative.
    w = np.eye(3, dtype=np.float32)[[2, 0, 1]][:, :, None, None]
    filtered, size = "f = Conv(x, w)", "N,3,40,40"
    if layout == "NHWC":
        filtered = "t = Transpose<perm=[0,3,1,2]>(x) c = Conv(t, w) f = Transpose<perm=[0,2,3,1]>(c)"
        size = "N,40,40,3"
    proto = model(f"{filtered} y = Mul(x, f)", {"w": w}, size)
    images = random(1, 3, 40, 40)
    a, b = images[0, 1], images[0, 0]
    expected, given = np.stack([a * b * a, a * b * b, 0 * a]), images
    if layout == "NHWC":
        expected, given = expected.transpose(1, 2, 0), images.transpose(0, 2, 3, 1)
    assert [h.kind for h in heads(load(proto))] == ["image"]
    (one,) = explainer(proto)(given, 1)
    np.testing.assert_allclose(one.reconstruction, expected, rtol=1e-5)


def test_an_embedding_is_explained_where_a_dimension_is_named():
    reader = random(72, 3)
    proto = linear("y = LpNormalization(s)", r=reader)
    with pytest.raises(InputError, match="output 'y' is an embedding, whose dimensions have no meaning"):
        explainer(proto)(IMAGES)
    found = explainer(proto)(IMAGES, 1)
    assert found[0].kind == "embedding"
    scores = IMAGES.reshape(2, 72) @ reader
    length = np.linalg.norm(scores, axis=1, keepdims=True)
    slopes = np.float32([[0, 1, 0]]) / length - scores * scores[:, 1:2] / length**3
    expected = (slopes @ reader.T).reshape(IMAGES.shape)
    np.testing.assert_allclose(arrays(found), expected, atol=1e-5 * np.abs(expected).max())
    with pytest.raises(ModelError, match="embedding"):
        in_one_graph(proto, IMAGES)


def test_a_flag_is_passed_as_it_is():
    proto = model(
        "f = Flatten(x) s = MatMul(f, r) n = Neg(s) y = Where(train, s, n)", {"r": READER}, "N,3,4,6"
    )
    flag = proto.graph.input.add(name="train")
    flag.type.tensor_type.elem_type = 9
    flag.type.tensor_type.shape.SetInParent()
    for train, sign in ((True, 1), (np.array(False), -1)):
        found = explainer(proto)({"x": IMAGES, "train": train}, 1)
        np.testing.assert_array_equal(found[1].reconstruction.ravel(), sign * READER[:, 1])


@pytest.mark.parametrize("output", ["a", "b"])
def test_any_output_can_be_chosen(output):
    proto = model(
        "f = Flatten(x) a = MatMul(f, r) n = Neg(a) b = Softmax(n)", {"r": READER}, "N,3,4,6", "a b"
    )
    ask = explainer(proto, output=output)
    (found, _) = ask(IMAGES, 1)
    assert (found.output, found.layer) == (output, {"a": "a", "b": "n"}[output])
    np.testing.assert_array_equal(found.reconstruction.ravel(), READER[:, 1] * (1 if output == "a" else -1))
    assert ask.scores(IMAGES).sum() == pytest.approx(2) or output == "a"


def test_a_probability_that_is_asked_for_is_said_to_be_one():
    ask = explainer(linear())
    assert "'y' is computed from scores" in ask(IMAGES, 0, layer="y")[0].note
    assert "computed from scores" not in (ask(IMAGES, 0)[0].note or "")


@pytest.fixture
def labelled_by_nodes(tmp_path):
    """Ends as scikit-learn's converters write it: a label, and a dictionary of probabilities."""
    proto = linear("p = Softmax(s) k = ArgMax<axis=1, keepdims=0>(p)")
    del proto.graph.output[:]
    proto.opset_import.add(domain="ai.onnx.ml", version=3)
    names = {"keys_int64s": [0, 1, 2], "values_strings": ["a", "b", "c"]}
    ml = {"domain": "ai.onnx.ml"}
    proto.graph.node.append(onnx.helper.make_node("LabelEncoder", ["k"], ["label"], **ml, **names))
    proto.graph.node.append(
        onnx.helper.make_node("ZipMap", ["p"], ["map"], **ml, classlabels_int64s=[0, 1, 2])
    )
    proto.graph.output.append(onnx.helper.make_tensor_value_info("label", onnx.TensorProto.STRING, ["N"]))
    number = onnx.helper.make_tensor_type_proto(onnx.TensorProto.FLOAT, [])
    maps = onnx.helper.make_sequence_type_proto(
        onnx.helper.make_map_type_proto(onnx.TensorProto.INT64, number)
    )
    proto.graph.output.append(onnx.helper.make_value_info("map", maps))
    (tmp_path / "net.onnx").write_bytes(proto.SerializeToString())
    return tmp_path / "net.onnx"


@pytest.mark.parametrize("output", [None, "label", "map"])
def test_labels_and_dictionaries_are_cut_off(labelled_by_nodes, output):
    (found, _) = explainer(labelled_by_nodes, output=output)(IMAGES, 2)
    assert found.layer == "s"
    np.testing.assert_array_equal(found.reconstruction.ravel(), READER[:, 2])


@pytest.mark.parametrize("form", ["pair", "explain"])
def test_a_model_that_returns_labels_and_dictionaries_is_checked(labelled_by_nodes, form):
    code, _, stderr = run("convert", labelled_by_nodes, "-o", labelled_by_nodes.parent / form, "--form", form)
    assert code == 0, stderr
    code, _, stderr = run("verify", labelled_by_nodes)
    assert code == 0, stderr


@pytest.mark.parametrize("batch", ["N", "2"])
@pytest.mark.parametrize("tail", [*TAILS, "linear", "falling"])
def test_the_explain_graph_takes_a_weight_for_each_class(tail, batch):
    made = {
        "linear": linear,
        "falling": lambda: linear("p = Softmax(s) y = Sub(one, p)", one=np.float32([1])),
    }
    proto = made[tail]() if tail in made else segmenter(tail, batch)
    ask = explainer(proto)
    count = 3 if tail in made else 4
    for weights, target in (((1, -1), "0 - 1"), ((0, 0.5, -2), "0.5*1 - 2*2"), ((-1,), "-0"), ((), None)):
        given = np.zeros((2, count), np.float32)
        given[:, : len(weights)] = weights
        found = in_one_graph(proto, IMAGES, given, target_kind="weights")
        np.testing.assert_allclose(found, arrays(ask(IMAGES, target)), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("more", "message"),
    [({"top": 2}, "not of several channels"), ({"seed": "unit"}, "not of units"), ({}, "a box of its own")],
)
def test_weights_of_what_is_no_sum_are_refused(more, message):
    pair = compile_pair(load(detector() if not more else segmenter()))
    with pytest.raises(InputError, match=f"target='weights': .*{message}"):
        explain_graph(pair, target="weights", **more)


def test_a_graph_that_takes_weights_is_written_and_checked(tmp_path):
    onnx.save(linear(), tmp_path / "model.onnx")
    code, _, stderr = run(
        "convert",
        tmp_path / "model.onnx",
        "-o",
        tmp_path / "out",
        "--form",
        "explain",
        "--target-kind",
        "weights",
    )
    assert code == 0, stderr
    taken = json.loads((tmp_path / "out" / "manifest.json").read_text())["target"]
    assert (taken["shape"], taken["dtype"]) == (["targets", 3], "float")


# --- a detector that fires on bright squares ---------------------------------------------------------

CELLS = np.stack(np.meshgrid(np.arange(4) * 4 + 2, np.arange(4) * 4 + 2), -1).reshape(16, 2)
"""Centres x, y of the 4×4 cells of an image of 16×16 pixels, row by row."""


def detector(order="fields first", *, objectness=False, labels=("bright", "dark")):
    """Each cell has a box of its size; a class's score is the mean of its pixels, or 1 minus that."""
    boxes = np.float32(np.concatenate([CELLS.T, np.full((2, 16), 4)]))[None]
    weights = {
        "mean": np.full((1, 1, 4, 4), 1 / 16, np.float32),
        "boxes": boxes,
        "row": np.array([0, 1, -1]),
        "one": np.float32([1]),
        "none": np.float32([0]),
    }
    certain = "z = Mul(bright, none) sure = Add(z, one)" if objectness else ""
    parts = "around, sure, bright, dark" if objectness else "around, bright, dark"
    body = f"""
        c = Conv<strides=[4,4]>(x, mean) bright = Reshape(c, row) dark = Sub(one, bright) {certain}
        w = Mul(bright, none) around = Add(w, boxes) all = Concat<axis=1>({parts})
        y = {"Identity(all)" if order == "fields first" else "Transpose<perm=[0,2,1]>(all)"}
    """
    proto = model(body, weights, "N,1,16,16")
    return named(proto, *labels) if labels else proto


@pytest.mark.parametrize("objectness", [False, True])
@pytest.mark.parametrize("order", ["fields first", "boxes first"])
def test_a_detection_lies_on_the_square_that_it_is_of(order, objectness):
    ask = explainer(detector(order, objectness=objectness))
    for target, cells, sign in (
        (None, [(1, 2), (2, 2)], [1, -1]),
        ("bright", [(1, 2), (0, 3)], [1, 1]),
        ("bright#2", [(3, 0), (0, 0)], [1, 1]),
        ("bright at 1,13", [(3, 0), (3, 0)], [1, 1]),
        ("at 9,9", [(2, 2), (2, 2)], [-1, -1]),
    ):
        expected = np.concatenate([cell(*where, s / 16) for where, s in zip(cells, sign, strict=True)])
        found = ask(SCENE, target)
        np.testing.assert_allclose(arrays(found), expected, atol=1e-7, err_msg=str(target))
        assert [e.position for e in found] == [(4 * row + column,) for row, column in cells]
    graph = in_one_graph(detector(order, objectness=objectness), SCENE)
    np.testing.assert_allclose(graph, arrays(ask(SCENE)), atol=1e-7)
    asked = in_one_graph(detector(order, objectness=objectness), SCENE, [0])
    np.testing.assert_allclose(asked, arrays(ask(SCENE, "bright")), atol=1e-7)
    assert not in_one_graph(detector(order, objectness=objectness), SCENE, [2]).any()


def test_the_score_of_a_detection_is_that_of_its_box():
    found = explainer(detector())(SCENE, "bright#2")
    np.testing.assert_allclose([e.score for e in found], [0.7, 0.2], atol=1e-6)
    assert {(e.kind, e.words) for e in found} == {("detections", "bright#2")}


def test_the_explain_graph_is_given_a_box_that_the_library_names():
    own = explainer(detector())(SCENE, "bright#2")
    given = np.zeros((2, 6, 16), np.float32)
    for image, one in enumerate(own):
        given[image, 4, one.position[0]] = 1  # the field of bright
    np.testing.assert_array_equal(in_one_graph(detector(), SCENE, given, "array"), arrays(own))


def test_without_labels_a_field_of_a_box_is_named():
    ask = explainer(detector(labels=()))
    with pytest.raises(
        InputError,
        match="holds rows of numbers, as of boxes or points, and nothing tells which of their fields 0 to 5",
    ):
        ask(SCENE)
    with pytest.raises(ModelError, match="holds rows of numbers, as of boxes or points, and nothing"):
        in_one_graph(detector(labels=()), SCENE)
    told = [
        inspect_model(load(detector(labels=names))).heads[0].targets for names in ((), ("bright", "dark"))
    ]
    assert told[0].startswith("'field F' and a box's position; a class, if labels tell")
    assert told[1].startswith("a class (its best box)")
    found = ask(SCENE, "field 4", position=(6,), seed="one")
    np.testing.assert_allclose(arrays(found), np.concatenate([cell(1, 2)] * 2), atol=1e-7)
    with pytest.raises(InputError, match="no field 6: boxes have 0 to 5"):
        ask(SCENE, "field 6", position=(6,))
    with pytest.raises(InputError, match="tell the box too"):
        ask(SCENE, "field 4")


def test_the_categories_of_a_detector_may_be_counted_from_one():
    ask, other = explainer(detector(labels=("", "bright", "dark"))), explainer(detector())
    assert (ask.labels, ask.fields) == (other.labels, other.fields)
    np.testing.assert_array_equal(arrays(ask(SCENE, "dark")), arrays(other(SCENE, "dark")))


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("bright#99", "#99: the class has 16 boxes"),
        ("at 99,99", "no box is around the point 99,99"),
        ("bright#0", "ranks count from 1"),
        ("bird", "no class is named 'bird': the names are bright, dark"),
        (2, "no class 2"),
    ],
)
def test_a_box_that_is_not_there_is_refused(target, message):
    with pytest.raises(InputError, match=message):
        explainer(detector())(SCENE, target)


@pytest.mark.parametrize(
    ("fields", "squashed", "labels", "expected"),
    [
        (84, False, 0, (4, 80, None)),
        (85, False, 0, (5, 80, 4)),
        (84, False, 80, (4, 80, None)),
        (25, False, 20, (5, 20, 4)),
        (24, False, 20, (4, 20, None)),
        (21, True, 20, (1, 20, None)),
        (20, True, 20, (0, 20, None)),
        (2, True, 0, (0, 2, None)),
        (6, True, 0, None),
        (8, True, 0, None),
        (8, True, 3, (5, 3, 4)),
        (85, True, 0, (5, 80, 4)),
        (4, False, 0, None),
        (7, False, 20, None),
    ],
)
def test_which_fields_are_classes(fields, squashed, labels, expected):
    found = Fields.of(Layout(fields, squashed=squashed), labels)
    assert found == (None if expected is None else Fields(*expected))


def test_a_box_that_overlaps_a_stronger_one_is_left_out():
    # Centre x, y, width, height, and one score; the second box covers most of the first.
    boxes = np.float32([[5, 5, 4, 4, 0.9], [5.5, 5, 4, 4, 0.8], [15, 5, 4, 4, 0.3], [7, 5, 4, 4, 0.5]]).T
    assert Fields(4, 1).ranked(boxes, 0) == [0, 3, 2]


ORDERS = [
    "fields last", "fields second", "squashed", "cells in a row", "along channels", "along channels, NHWC"
]  # fmt: skip


def grid(order):
    """A detector as it leaves its filter: three anchors in 4×4 cells, 4 + 1 + 2 numbers before a sigmoid.

    Of the first anchor the class bright is the mean of a cell's pixels times ten, less five, dark is minus
    that, and the objectness is 0.4 times bright; of the others all three are -9, so that their product would
    be the largest.
    """
    pixels, bias = np.zeros((14, 1, 4, 4), np.float32), np.zeros(14, np.float32)
    pixels[4], pixels[5], pixels[6] = 4 / 16, 10 / 16, -10 / 16
    bias[[4, 5, 6, 11, 12, 13]] = -2, -5, 5, -9, -9, -9
    pixels, bias = np.append(pixels, pixels[7:], 0), np.append(bias, bias[7:])
    weights = {"k": pixels, "b": bias, "split": np.array([0, 3, 7, 4, 4]), "flat": np.array([0, 3, 7, 16])}
    tail = {
        "along channels": "y = Identity(c)",
        "along channels, NHWC": "y = Transpose<perm=[0,2,3,1]>(c)",
        "fields last": "s = Reshape(c, split) y = Transpose<perm=[0,1,3,4,2]>(s)",
        "fields second": "y = Reshape(c, split)",
        "squashed": "s = Reshape(c, split) t = Transpose<perm=[0,1,3,4,2]>(s) y = Sigmoid(t)",
        "cells in a row": "s = Reshape(c, flat) y = Transpose<perm=[0,1,3,2]>(s)",
    }
    body = f"c = Conv<strides=[4,4]>(x, k, b) {tail[order]}"
    return named(model(body, weights, "N,1,16,16"), "bright", "dark")


@pytest.mark.parametrize("order", ORDERS)
def test_a_box_of_a_grid_of_anchors_lies_on_its_cell(order):
    ask = explainer(grid(order))
    # Of a class's score and the objectness both are explained, of a difference of classes the two alone.
    for target, cells, value in ((None, [(1, 2), (0, 3)], 14), ("bright#2", [(3, 0), (0, 0)], 14)):
        found = ask(SCENE, target)
        expected = np.concatenate([cell(*where, value / 16) for where in cells])
        np.testing.assert_allclose(arrays(found), expected, atol=1e-6, err_msg=str(target))
        places = [(0, 4 * row + column) if "row" in order else (0, row, column) for row, column in cells]
        assert [e.position for e in found] == places
        for k, one in enumerate(found):  # what is told can be asked for
            (same,) = ask(SCENE[k : k + 1], "bright", position=one.position, seed="one")
            np.testing.assert_array_equal(same.reconstruction, one.reconstruction)
            assert same.position == one.position
            m = SCENE[k].reshape(4, 4, 4, 4).mean(axis=(1, 3))[cells[k]]
            usual = 1 / (1 + np.exp(5 - 10 * m)) / (1 + np.exp(2 - 4 * m))
            assert one.score == pytest.approx(usual, rel=1e-5)
    (apart,) = ask(SCENE[:1], "bright - dark", position=places[0], seed="one")
    np.testing.assert_allclose(apart.reconstruction, cell(3, 0, 20 / 16)[0], atol=1e-6)
    np.testing.assert_allclose(in_one_graph(grid(order), SCENE), arrays(ask(SCENE)), atol=1e-6)
    asked = in_one_graph(grid(order), SCENE, [1, 1])
    np.testing.assert_allclose(asked, arrays(ask(SCENE, "dark")), atol=1e-6)
    with pytest.raises(ModelError, match="does not hold boxes in pixels"):
        ask(SCENE, "at 9,9")


@pytest.mark.parametrize("seed", ["map", "present", "strongest", "one", "auto"])
def test_a_box_starts_with_one_whatever_a_map_would(seed):
    """The score of the weaker one is below zero, and must not turn the picture round."""
    for net, at in ((grid("fields last"), (0,)), (level("sigmoids beside the box", "bright", "dark"), ())):
        ask = explainer(net)
        found = ask(SCENE[1:], "bright#2", seed=seed)
        assert ask.forward(SCENE[1:]).explained[0][(5, *found[0].position)] == pytest.approx(-3, rel=1e-5)
        np.testing.assert_allclose(arrays(found), cell(0, 0, 14 / 16), atol=1e-6)
        assert found[0].seed == "one"
        (same,) = ask(SCENE[1:], "bright", position=(*at, 0, 0), seed=seed)
        np.testing.assert_array_equal(same.reconstruction, found[0].reconstruction)
        graph = explain_graph(compile_pair(load(net), semantics="gradient"), seed=seed)
        assert graph.manifest["seed"] == "one"
        dark = np.ones((1, 1, 16, 16), np.float32) / 10  # the best box's score is below zero
        own = Session(graph.proto, graph.folder, "cpu").run({"x": dark, "target": np.array([0])})
        np.testing.assert_allclose(own[RECONSTRUCTION], arrays(ask(dark, "bright", seed=seed)), atol=1e-6)
        np.testing.assert_allclose(own[RECONSTRUCTION], cell(0, 0, 14 / 16), atol=1e-6)
    (asked,) = ask(SCENE[1:], "bright", position=(0, 0), seed="value")  # the score itself, -3, and -1.2
    np.testing.assert_allclose(asked.reconstruction, cell(0, 0, (10 * -3 + 4 * -1.2) / 16)[0], atol=1e-5)


@pytest.mark.parametrize(("seed", "factor"), [("map", 1), ("present", 1), ("strongest", 1), ("value", -2)])
def test_a_position_of_scores_below_zero_starts_with_one(seed, factor):
    (found,) = explainer(segmenter())(
        -2 * np.ones((1, 3, 4, 6), np.float32), "green", position=(1, 2), seed=seed
    )
    expected = np.zeros((3, 4, 6))
    expected[1, 1, 2] = factor
    np.testing.assert_array_equal(found.reconstruction, expected)


NOBODYS = (-2, -3, 99, 2**40)
"""Numbers that no class, channel or unit has, and that do not stand for the strongest."""


@pytest.mark.parametrize(
    ("net", "images", "seed"),
    [
        (segmenter(), IMAGES, "map"),
        (segmenter(), IMAGES, "present"),
        (segmenter(), IMAGES, "strongest"),
        (segmenter("NHWC"), IMAGES, "one"),
        (segmenter(), IMAGES, "unit"),
        (detector(), SCENE, "auto"),
        (grid("along channels"), SCENE, "auto"),
        (row("s = MatMul(f, ten) y = Softmax(s)"), IMAGES, "auto"),
        (row("s = MatMul(f, ten) y = Softmax(s)"), IMAGES, "contrast"),
        (row("s = MatMul(f, ten) p = Softmax(s) y = Gather<axis=1>(p, two)"), IMAGES, "auto"),
    ],
)
def test_a_graph_gives_zeros_for_what_there_is_not(net, images, seed):
    graph = explain_graph(compile_pair(load(net), semantics="gradient"), seed=seed)
    session, batch = Session(graph.proto, graph.folder, "cpu"), len(images)
    for target in (0, -1, *NOBODYS):
        found = session.run_plainly({"x": images, "target": np.full(batch, target)})
        assert found[RECONSTRUCTION].any() == (target not in NOBODYS), target
        if target != -1:
            assert found["explained"].tolist() == [target if target >= 0 else 2**31 - 1] * batch


SPLIT = "b, o, p = Split<axis=1>(c, parts) s = Sigmoid(o) t = Sigmoid(p)"
LEVELS = {
    "before a sigmoid": "y = Identity(c)",
    "NHWC": "y = Transpose<perm=[0,2,3,1]>(c)",
    "sigmoids beside the box": f"{SPLIT} y = Concat<axis=1>(b, s, t)",
    "sigmoids, NHWC": f"{SPLIT} j = Concat<axis=1>(b, s, t) y = Transpose<perm=[0,2,3,1]>(j)",
    "joined": "b, o, p = Split<axis=1>(c, parts) y = Concat<axis=1>(b, o, p)",
    "joined, NHWC": """
        b, o, p = Split<axis=1>(c, parts) j = Concat<axis=1>(b, o, p)
        q = QuantizeLinear(j, step) d = DequantizeLinear(q, step) y = Transpose<perm=[0,2,3,1]>(d)
    """,
    "joined along the last axis": """
        t = Transpose<perm=[0,2,3,1]>(c) b, o, p = Split<axis=3>(t, parts) y = Concat<axis=-1>(b, o, p)
    """,
    "sides": f"{SPLIT} d = Concat<axis=1>({', '.join('b' * 16)}) y = Concat<axis=1>(d, p)",
}


def level(tail, *labels):
    """A level of a detector, a box in each of 4×4 cells, and one of a single cell beside it.

    The class bright is the mean of a cell's pixels times ten, less five, dark is minus that, the objectness
    is 0.4 times bright, and the box is seven; so that a box's numbers would be the largest.
    """
    pixels, bias = np.zeros((7, 1, 4, 4), np.float32), np.full(7, 7, np.float32)
    pixels[4], pixels[5], pixels[6] = 4 / 16, 10 / 16, -10 / 16
    bias[4:] = -2, -5, 5
    last = "perm=[0,2,3,1]" in LEVELS[tail]
    pool = "AveragePool<kernel_shape=[4,4]>"
    other = f"m = {pool}(c) z = Transpose<perm=[0,2,3,1]>(m)" if last else f"z = {pool}(y)"
    body = f"c = Conv<strides=[4,4]>(x, k, bias) {LEVELS[tail]} {other}"
    weights = {"k": pixels, "bias": bias, "parts": np.array([4, 1, 2]), "step": np.float32(1 / 8)}
    proto = model(body, weights, "N,1,16,16", "y z")
    return named(proto, *labels) if labels else proto


@pytest.mark.parametrize("tail", LEVELS)
def test_a_box_of_a_level_lies_on_its_cell(tail):
    ask, value = explainer(level(tail, "bright", "dark")), 10 if tail == "sides" else 14
    for target, cells in (("bright", [(1, 2), (0, 3)]), ("bright#2", [(3, 0), (0, 0)])):
        found = ask(SCENE, target)
        assert [(e.channel, e.kind, e.position) for e in found] == [(0, "detections", c) for c in cells]
        expected = np.concatenate([cell(*where, value / 16) for where in cells])
        np.testing.assert_allclose(arrays(found), expected, atol=1e-6)
    found = in_one_graph(level(tail, "bright", "dark"), SCENE)
    np.testing.assert_allclose(found, arrays(ask(SCENE)), atol=1e-6)


@pytest.mark.parametrize("tail", [tail for tail in LEVELS if tail not in ("before a sigmoid", "NHWC")])
def test_a_level_that_joins_boxes_and_scores_is_asked_about_without_labels(tail):
    with pytest.raises(InputError, match="nothing tells which of their fields 0 to"):
        explainer(level(tail))(SCENE)
    ask = explainer(level(tail, *map(str, range(66 if tail == "sides" else 7))))
    assert ask.head.kind == "class map"  # every channel has a name


def unnamed(proto):
    """The same without names in its metadata."""
    del proto.metadata_props[:]
    return proto


@pytest.mark.parametrize(
    "made",
    [
        lambda: unnamed(detector()),
        lambda: unnamed(grid("along channels")),
        lambda: level("before a sigmoid"),
        lambda: level("sigmoids beside the box"),
    ],
)
def test_labels_that_are_given_tell_all_forms_what_those_in_the_file_tell(made, tmp_path):
    names = ["bright", "dark"]
    own = explainer(named(made(), *names))
    expected = arrays(own(SCENE))  # which lies on its cell, as above
    ask = explainer(made(), labels=names)
    assert (ask.head, ask.fields, ask.labels) == (own.head, own.fields, own.labels)
    np.testing.assert_array_equal(arrays(ask(SCENE)), expected)
    pair = compile_pair(load(made()), semantics="gradient", labels=names)
    save(pair, tmp_path / "pair")
    onnx.save(made(), tmp_path / "model.onnx")
    (tmp_path / "names.txt").write_text("\n".join(names))
    asked = tmp_path / "model.onnx", "--labels", tmp_path / "names.txt", "--rules", "gradient"
    for form in ("pair", "explain", "triton"):
        code, _, stderr = run("convert", *asked, "-o", tmp_path / f"by {form}", "--form", form)
        assert code == 0, stderr
    files = [tmp_path / "by triton" / "model_explain" / "1" / "model.onnx", tmp_path / "by explain"]
    for each in ("pair", "by pair", *files):
        again = explainer(tmp_path / each, None)
        assert (again.head, again.fields, again.labels) == (own.head, own.fields, own.labels)
        np.testing.assert_allclose(arrays(again(SCENE)), expected, atol=1e-6)
    save(compile_pair(load(made()), semantics="gradient"), tmp_path / "unnamed")
    found = explainer(tmp_path / "unnamed", None, labels=names)(SCENE)
    np.testing.assert_allclose(arrays(found), expected, atol=1e-6)
    assert "has its own labels" in refused("verify", tmp_path / "pair", *asked[1:3])
    graphs = [explain_graph(pair), graph_of(ask, None)]
    assert [graph.manifest["labels"] for graph in graphs] == [names] * 2
    sessions = [Session(graph.proto, graph.folder, "cpu") for graph in graphs]
    sessions += [Session(onnx.load(tmp_path / "by explain" / "explain.onnx"), tmp_path, "cpu")]
    for session in sessions:
        found = session.run({"x": SCENE, "target": np.full(2, -1)})
        np.testing.assert_allclose(numpy_of(found[RECONSTRUCTION]), expected, atol=1e-6)


def test_an_explain_graph_of_a_model_takes_the_names_of_its_classes():
    graphs = explain_graph(level("sides"), labels=["bright", "dark"]), explain_graph(level("sides", "b", "d"))
    assert [graph.manifest["labels"] for graph in graphs] == [["bright", "dark"], ["b", "d"]]
    assert graphs[0].manifest["scores"] == graphs[1].manifest["scores"]
    assert graphs[0].manifest["scores"]["fields"]["count"] == 2
    with pytest.raises(InputError, match="a pair has its own: give them to compile_pair"):
        explain_graph(compile_pair(level("sides")), labels=["bright", "dark"])


def test_labels_that_are_given_are_those_that_commands_check_and_list(tmp_path):
    onnx.save(level("sigmoids beside the box"), tmp_path / "model.onnx")
    (tmp_path / "names.txt").write_text("bright\ndark")
    asked = tmp_path / "model.onnx", "--labels", tmp_path / "names.txt"
    code, stdout, stderr = run("inspect", *asked, "--json")
    assert code == 0, stderr
    told = json.loads(stdout)
    assert told["heads"][0]["kind"] == "detections"
    assert (told["labels"], told["labels_are"]) == (2, "given")
    scores = explainer(tmp_path / "model.onnx", labels=["bright", "dark"]).scores_layer
    assert told["explained"] == scores
    code, stdout, stderr = run("verify", *asked, "--rules", "gradient", "--json")
    assert code == 0, stderr
    assert json.loads(stdout.splitlines()[0])["layer"] == scores


@pytest.mark.parametrize(("anchor", "value"), [(0, 14 / 16), (2, 0)])
def test_a_box_of_a_map_of_anchors_is_named_by_its_anchor_row_and_column(anchor, value):
    found = explainer(grid("along channels"))(SCENE[:1], "bright", position=(anchor, 3, 1), seed="one")
    np.testing.assert_allclose(arrays(found), cell(3, 1, value), atol=1e-6)
    with pytest.raises(InputError, match="give a box's anchor, row and column"):
        explainer(grid("along channels"))(SCENE[:1], "bright", position=(3, 1))
    for beyond in (-1, 3):
        with pytest.raises(InputError, match="there are anchors 0 to 2"):
            explainer(grid("along channels"))(SCENE[:1], "bright", position=(beyond, 3, 1))


@pytest.mark.parametrize(("names", "kind"), [(0, "detections"), (80, "detections"), (255, "class map")])
def test_a_map_of_cocos_boxes_is_the_same_wherever_it_is_asked(names, kind):
    """255 channels are three boxes with 80 classes, unless 255 names say that they are classes."""
    proto = model("y = Conv<strides=[4,4]>(x, k)", {"k": random(255, 1, 4, 4)}, "N,1,16,16")
    proto = named(proto, *(f"class {k}" for k in range(names))) if names else proto
    if names != 255:
        assert head_of(load(proto)).kind == kind
    ask = explainer(proto)
    assert [each.kind for each in inspect_model(load(proto)).heads] == [ask.head.kind] == [kind]
    assert ask.classes == (80 if kind == "detections" else 255)
    (found,) = ask(SCENE[:1])
    assert (found.kind, len(found.position or ())) == (kind, 3 if kind == "detections" else 0)


def apart(fields, *, softmax=False):
    """Two outputs, boxes first: of 16 cells four (or ten) numbers each, and scores of their brightness."""
    k = np.zeros((fields + 4, 1, 4, 4), np.float32)
    k[4:] = np.arange(1, fields + 1)[:, None, None, None] / 16
    weights = {
        "boxes": k[:4],
        "scores": k[4:],
        "four": np.array([0, -1, 4]),
        "rest": np.array([0, -1, fields]),
    }
    squash = "Softmax<axis=2>" if softmax else "Identity"
    body = f"""
        b = Conv<strides=[4,4]>(x, boxes) bt = Transpose<perm=[0,2,3,1]>(b) loc = Reshape(bt, four)
        c = Conv<strides=[4,4]>(x, scores) ct = Transpose<perm=[0,2,3,1]>(c) s = Reshape(ct, rest)
        y = {squash}(s)
    """
    return model(body, weights, "N,1,16,16", "loc y")


@pytest.mark.parametrize(("fields", "softmax", "first"), [(1, False, 0), (9, False, 0), (3, True, 1)])
def test_scores_beside_boxes_are_explained_and_boxes_are_not(fields, softmax, first):
    # The last class is the strongest everywhere; of a softmax the first is the background.
    names = [f"class {k}" for k in range(fields)] if fields == 9 else None
    proto = apart(fields, softmax=softmax)
    ask = explainer(named(proto, *names) if names else proto)
    assert ask.head.output == "y"
    found = ask(SCENE[:1])[0]
    np.testing.assert_allclose(found.reconstruction, cell(1, 2, fields / 16)[0], atol=1e-6)
    assert (found.channel, found.position) == (fields - 1 - first, (6,))
    np.testing.assert_allclose(in_one_graph(proto, SCENE[:1]), arrays([found]))
    with pytest.raises(InputError, match="output 'loc' holds boxes, whose scores another output holds"):
        explainer(apart(fields, softmax=softmax), output="loc")(SCENE)


@pytest.mark.parametrize(
    ("names", "expected"),
    [(["__background__", "a", "b"], "a"), (["BG", "a", "b"], "a"), (["a", "b", "background"], "a")],
)
def test_a_background_that_has_a_name_is_no_class_of_boxes(names, expected):
    """Unless it stands where no detector has its background."""
    proto = named(apart(3, softmax=True), *names)
    scores = next(i for i in proto.graph.initializer if i.name == "scores")
    scores.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(scores)[::-1].copy(), "scores"))
    ask = explainer(proto)
    field = names.index("a")
    assert ask.labels.names == (("a", "b") if field else tuple(names))
    (found,) = ask(SCENE[:1])
    assert found.label == expected
    shares = np.exp(np.outer([3, 2, 1], SCENE[0].reshape(4, 4, 4, 4).mean(axis=(1, 3)).ravel()))
    best = int((shares / shares.sum(axis=0))[field].argmax())
    np.testing.assert_allclose(found.reconstruction, cell(*divmod(best, 4), (3 - field) / 16)[0], atol=1e-6)
    np.testing.assert_allclose(in_one_graph(proto, SCENE[:1]), arrays([found]), atol=1e-6)


def test_raw_scores_of_boxes_that_nothing_names_are_asked_about():
    """A softmax may be to come, of which one number is nothing at all, or a sigmoid of each."""
    said = (
        "output 'y' holds the scores of boxes, and nothing tells which of their fields 0 to 2 are classes: "
    )
    with pytest.raises(InputError, match=f"{said}give the classes' labels, or a target such as 'field 2'"):
        explainer(apart(3))(SCENE)
    with pytest.raises(ModelError, match="nothing tells which of their fields are classes"):
        explain_graph(compile_pair(load(apart(3)), semantics="gradient"))
    found = explainer(apart(3))(SCENE[:1], "field 2", position=(6,), seed="one")
    np.testing.assert_allclose(arrays(found), cell(1, 2, 3 / 16), atol=1e-6)
    assert explainer(named(apart(3), "a", "b", "c"))(SCENE[:1])[0].label == "c"


@pytest.mark.parametrize("softmax", [True, False])
@pytest.mark.parametrize(("shares", "nothing"), [(True, 2), (False, 0)])
def test_no_object_is_the_last_of_the_classes_where_sigmoids_make_the_boxes(shares, nothing, softmax):
    """As DETR's are shares of the image's size, whatever its outputs are called."""
    proto = named(apart(3, softmax=softmax), "a", "b")
    if shares:
        proto.graph.node.append(onnx.helper.make_node("Sigmoid", ["loc"], ["share"]))
        proto.graph.output[0].name = "share"
    ask = explainer(proto)
    assert [ask.fields.first, ask.fields.count, ask.fields.exclusive] == [0 if nothing else 1, 2, True]
    (found,) = ask(SCENE[:1], "b")
    np.testing.assert_allclose(
        found.reconstruction, cell(*divmod(found.position[0], 4), (2 if nothing else 3) / 16)[0], atol=1e-6
    )


@pytest.mark.parametrize(
    ("outputs", "expected"),
    [
        ([((80,), 92, False), ((80,), 4, True)], ["scores", "boxes"]),  # DETR
        ([((80,), 4, True), ((80,), 92, False)], ["boxes", "scores"]),
        ([((80,), 92, True), ((80,), 4, True)], ["scores", "boxes"]),
        ([((80,), 4, True), ((80,), 1, False)], ["boxes", "scores"]),
        ([((80,), 4, False), ((80,), 4, True)], ["all", "all"]),  # four classes, or boxes of shares
        ([((80,), 4, False), ((80,), 4, True), ((80,), 10, False)], ["boxes", "scores", "boxes"]),
        ([((80,), 4, False), ((80,), 2, True), ((80,), 10, False)], ["boxes", "scores", "boxes"]),
        ([((80,), 4, False), ((80,), 9, False)], ["boxes", "scores"]),
        ([((80,), 4, False), ((None,), 3, True)], ["boxes", "scores"]),  # as many, for all that is known
        ([((None,), 4, False), ((None,), 3, True)], ["boxes", "scores"]),
        ([((80,), 4, False), ((40,), 3, True)], ["all", "all"]),
    ],
)
def test_boxes_that_a_sigmoid_makes_are_no_scores(outputs, expected):
    assert parts(outputs) == expected


@pytest.mark.parametrize(
    ("fields", "outputs", "expected"),
    [
        (92, ["scores", "boxes"], True),
        (92, ["out0", "out1"], True),
        (5, ["pred_logits", "pred_boxes"], True),
        (5, ["logits", "pred_boxes"], True),
        (21, ["scores", "boxes"], False),
        (None, ["scores", "boxes"], False),
    ],
)
def test_the_last_class_of_detr_is_no_object(fields, outputs, expected):
    assert ends_with_nothing(fields, outputs) is expected


@pytest.mark.parametrize(
    ("layout", "labels", "expected"),
    [
        (Layout(37, behind=(0, 32)), 1, Fields(4, 1)),
        (Layout(116, behind=(0, 32)), 0, Fields(4, 80)),
        (Layout(117, behind=(0, 32)), 80, Fields(5, 80, 4)),
        (Layout(56), 1, Fields(4, 1)),
        (Layout(112), 80, Fields(0, 80)),
        (Layout(144), 0, Fields(64, 80)),
        (Layout(92, "scores", squashed=True, exclusive=True), 0, Fields(1, 91, exclusive=True)),
        (Layout(91, "scores", squashed=True, exclusive=True), 91, Fields(0, 91, exclusive=True)),
        (Layout(21, "scores", squashed=True, exclusive=True), 20, Fields(1, 20, exclusive=True)),
        (Layout(92, "scores", squashed=True, exclusive=True, last=True), 0, Fields(0, 91, exclusive=True)),
        (Layout(92, "scores", last=True), 0, Fields(0, 91, exclusive=True)),
        (Layout(92, "scores", last=True), 91, Fields(0, 91, exclusive=True)),
        (Layout(21, "scores", last=True), 20, Fields(0, 20, exclusive=True)),
        (Layout(91, "scores", squashed=True, last=True), 0, Fields(0, 91)),  # Deformable DETR: a sigmoid
        (Layout(91, "scores", last=True), 91, Fields(0, 91)),
        (Layout(16, "boxes"), 0, None),
        (Layout(None), 80, None),
        (Layout(17, squashed=True, raw=True, behind=(0, 17)), 0, None),  # masks, as many as fields
        (Layout(17, squashed=True, raw=True, behind=(0, 17)), 17, Fields(0, 17, raw=True)),
    ],
)
def test_fields_behind_the_classes_and_apart_from_boxes_are_told(layout, labels, expected):
    assert Fields.of(layout, labels) == expected


def test_what_stands_behind_the_classes_is_told_by_metadata_and_masks():
    assert behind({"task": "pose", "kpt_shape": "[5, 3]"}, ()) == [0, 15]
    assert behind({"task": "pose"}, ()) == [0, 51]
    assert behind({"task": "obb"}, ()) == [0, 1]
    assert behind({"task": "segment"}, [32]) == [0, 32]
    assert behind({}, ()) == [0]


def test_boxes_of_two_corners_are_known_as_such():
    # Corners x, y, x, y, and one score; the second box covers most of the first.
    boxes = np.float32([[3, 3, 7, 7, 0.9], [3.5, 3, 7.5, 7, 0.8], [13, 3, 17, 7, 0.3]]).T
    assert Fields(4, 1).ranked(boxes, 0) == [0, 2]
    assert Fields(4, 1).around(boxes, (7.2, 5)) == [1]


# --- on the command line ----------------------------------------------------------------------------


@pytest.fixture
def photo(tmp_path):
    """Bright in the cell of row 1 and column 2."""
    grey = np.rint(scene((1, 2, 0.9))[0, 0] * 255).astype(np.uint8)
    save_png(tmp_path / "photo.png", np.stack([grey] * 3, axis=-1))
    return tmp_path / "photo.png"


def results(proto, photo, *arguments):
    path = photo.parent / "net.onnx"
    path.write_bytes(proto.SerializeToString())
    code, stdout, stderr = run(
        "explain", path, photo, "-o", photo.parent / "out", "--preset", "raw", *arguments, "--json"
    )
    assert code == 0, stderr
    return [json.loads(line) for line in stdout.splitlines()]


def test_a_detector_has_a_score_for_each_class():
    np.testing.assert_allclose(explainer(detector()).scores(SCENE), [[0.9, 0.8], [0.8, 0.9]], rtol=1e-6)
    assert explainer(detector()).classes == 2
    assert explainer(grid("along channels")).scores(SCENE).shape == (2, 2)


def test_occlusion_of_a_detector_follows_the_class_not_a_field():
    found = occlusion(explainer(detector()), scene((1, 2, 0.9), (3, 0, 0.7))[0], target="bright", layer="c",
                      size=4, stride=4, fill=0)  # fmt: skip
    assert (found.target, found.label) == (0, "bright")
    # Its best box is the brightest cell; without it, the second.
    expected = np.full((4, 4), 0.9)
    expected[1, 2] = 0.7
    np.testing.assert_allclose(found.scores, expected, rtol=1e-6)
    with pytest.raises(InputError, match="nothing tells which of their fields 0 to 5 are classes"):
        occlusion(explainer(detector(labels=())), SCENE[0], layer="c")


def two_heads():
    """Two classifiers: a class of the first is the sum of a row of pixels, of the second of a column."""
    rows = np.repeat(np.eye(4, dtype=np.float32), 4, axis=0)
    body = "f = Flatten(x) y = MatMul(f, rows) z = MatMul(f, columns)"
    weights = {"rows": rows, "columns": np.tile(np.eye(4, dtype=np.float32), (4, 1))}
    return model(f"{body} first = Softmax(y) second = Softmax(z)", weights, "N,1,4,4", "first second")


def test_every_command_explains_the_output_that_is_chosen(tmp_path):
    net, image = two_heads(), np.zeros((1, 4, 4), np.float32)
    image[0, 1, 2] = 1
    rows, columns = np.zeros((2, 1, 4, 4), np.float32)
    rows[0, 1], columns[0, :, 2] = 1, 1
    for output, expected in (("first", rows), ("second", columns)):
        ask = explainer(net, output=output)
        np.testing.assert_array_equal(ask(image[None])[0].reconstruction, expected)
        for made in (explanations("gradient", **ask.options), method_of("gradient", ask)):
            maps = made.on(ask.model, "NCHW")(image[None], [ask(image[None])[0].channel])
            np.testing.assert_array_equal(maps[0], expected[0])
        for column in across_tables(ask, ["gradient", "guided"], Selection()):
            np.testing.assert_array_equal(column.explainer(image[None])[0].reconstruction, expected)
    save_png(tmp_path / "p.png", np.repeat(image[0, :, :, None] * 255, 3, 2).astype(np.uint8))
    (tmp_path / "net.onnx").write_bytes(net.SerializeToString())
    how = ("--preset", "raw", "--model-output", "second", "--method", "gradient", "--measure", "sparsity")
    assert run("evaluate", tmp_path / "net.onnx", tmp_path / "p.png", *how, "-o", tmp_path / "out")[0] == 0
    told = json.loads((tmp_path / "out" / "evaluation.json").read_text(encoding="utf-8"))
    assert told["made"]["output"] == "second"


def test_an_array_is_sent_back_by_the_command_line(tmp_path, photo):
    net, out = tmp_path / "net.onnx", tmp_path / "out"
    net.write_bytes(detector().SerializeToString())
    seed = np.zeros((6, 16), np.float32)
    seed[4, 3], seed[5, 9] = 2, 1  # bright in a cell, dark in another
    np.save(tmp_path / "seed.npy", seed)
    np.savez(tmp_path / "several.npz", a=seed, b=seed)
    how = ("--preset", "raw", "--rules", "gradient", "--seed", tmp_path / "seed.npy", "-o", out)
    code, stdout, stderr = run("explain", net, photo, *how, "--json")
    assert code == 0, stderr
    told = json.loads(stdout)
    np.testing.assert_allclose(
        np.load(told["files"]["values"]), (2 * cell(0, 3) - cell(2, 1))[0], rtol=1e-6, atol=1e-9
    )
    assert (told["target"], told["seed"], told["class"]) == ("the given array", "array", None)
    (same,) = explainer(detector())(scene((1, 2, 0.9)), seed=seed)
    np.testing.assert_array_equal(np.load(told["files"]["values"]), same.reconstruction)
    sheet = ("--preset", "raw", "--seed", tmp_path / "seed.npy", "-o", out)
    assert run("sheet", net, photo, *sheet)[0] == 0
    for wrong, message in (
        (("explain", *how, "--target", "bright"), "leave out --target"),
        (("sheet", *sheet, "--target", "bright"), "leave out --target"),
        (("sheet", *sheet, "--across", "classes"), "--across tables"),
        (("sheet", *sheet, "--across", "layers"), "leave out --seed"),
        (("explain", *how[:4], "--seed", "nothing"), "auto, one, value, map, present, strongest"),
        (("explain", *how[:4], "--seed", photo), "no array of numbers"),
        (("explain", *how[:4], "--seed", tmp_path / "several.npz"), "it is no .npy file but several arrays"),
    ):
        assert message in refused(wrong[0], net, photo, *wrong[1:]), wrong
    np.save(tmp_path / "seed.npy", seed.T)
    assert "explained value has the shape (1, 6, 16)" in refused("explain", net, photo, *how)


@pytest.mark.parametrize(
    ("point", "box"), [("12,4", 6), ("8,8", 6), ("0,0", 0), ("16,16", 15), ("12.1,4", 3)]
)
def test_a_point_of_numbers_is_that_of_the_library(point, box, tmp_path):
    """Boxes that touch at a point are all around it, also at the input's borders."""
    numbers = tmp_path / "numbers.npy"
    np.save(numbers, scene((1, 2, 0.9), (0, 3, 0.7))[0])
    (found,) = results(detector(), numbers, "--target", f"bright at {point}", "--rules", "gradient")
    (own,) = explainer(detector())(np.load(numbers)[None], f"bright at {point}")
    assert (found["position"], own.position) == ([box], (box,))


def test_a_box_is_named_by_a_point_of_the_photograph(photo):
    (found,) = results(
        detector(), photo, "--target", "bright at 10,6", "--rules", "gradient", "--scale", 1 / 255
    )
    assert (found["output"], found["kind"], found["position"]) == ("y", "detections", [6])
    assert found["target"] == "bright, box 6"
    np.testing.assert_allclose(np.load(found["files"]["values"])[None], cell(1, 2), atol=1e-7)
    code, _, stderr = run(
        "explain", photo.parent / "net.onnx", photo, "--target", "at 99,9", "--preset", "raw"
    )
    assert (code, "the point 99,9 is outside what the model sees" in stderr) == (2, True)


def test_a_class_is_explained_under_a_mask(photo):
    proto = segmenter(size="16,16")
    mask = np.zeros((16, 16, 3), np.uint8)
    mask[:, :4] = 255
    save_png(photo.parent / "mask.png", mask)
    np.save(photo.parent / "mask.npy", mask[..., 0] / 255)
    np.save(photo.parent / "grey.npy", mask[..., 0])
    for name in ("mask.png", "mask.npy", "grey.npy"):
        (found,) = results(
            proto, photo, "--target", 1, "--position", photo.parent / name, "--rules", "gradient"
        )
        values = np.load(found["files"]["values"])
        np.testing.assert_array_equal(values[1, :, :4], np.ones((16, 4)))
        assert not values[:, :, 4:].any()
    (found,) = results(proto, photo, "--target", "green - red", "--position", "2,3", "--rules", "gradient")
    assert [tuple(k) for k in np.argwhere(np.load(found["files"]["values"]))] == [(0, 2, 3), (1, 2, 3)]
    assert found["target"] == "green - red"


def test_a_fourth_channel_that_no_photograph_gives_is_told(photo):
    filters = random(2, 4, 3, 3)
    proto = model(
        "c = Conv(x, k) r = Relu(c) g = GlobalAveragePool(r) y = Flatten(g)", {"k": filters}, "N,4,16,16"
    )
    path = photo.parent / "net.onnx"
    path.write_bytes(proto.SerializeToString())
    code, _, stderr = run(
        "explain", path, photo, "-o", photo.parent / "out", "--preset", "raw", "--target", 1
    )
    assert code == 0
    assert "the model's fourth channel is fed 255 everywhere" in stderr


def test_channels_that_no_photograph_has_are_refused_though_the_last_axis_is_one(photo):
    proto = model("c = Conv(x, k) y = GlobalAveragePool(c)", {"k": random(2, 11, 5, 1)}, "4,11,60,1")
    path = photo.parent / "net.onnx"
    path.write_bytes(proto.SerializeToString())
    code, _, stderr = run("explain", path, photo, "-o", photo.parent / "out", "--target", 0)
    assert code == 2
    assert "input 'x' takes 4×11×60×1, and photo.png is 3×16×16" in stderr
    assert not (photo.parent / "out").exists()
    code, _, stderr = run(
        "convert", path, "-o", photo.parent / "graph", "--form", "explain", "--kind", "classes"
    )
    assert code == 0, stderr


def test_outputs_are_listed_with_what_can_be_asked_of_them(tmp_path):
    (tmp_path / "net.onnx").write_bytes(segmenter("NHWC softmax").SerializeToString())
    code, stdout, _ = run("inspect", tmp_path / "net.onnx", "--json")
    (output,) = json.loads(stdout)["heads"]
    assert code == 0
    assert (output["kind"], output["start"], output["cut"]) == ("class map", "t", ["Softmax y"])
    assert output["axes"] == ["N images", "4", "6", "4 classes"]
    _, stdout, _ = run("inspect", tmp_path / "net.onnx")
    (line,) = [each for each in stdout.splitlines() if each.startswith("y ") and "class map" in each]
    assert "N images × 4 × 6 × 4 classes" in line
    assert "a class: its map, its region, a mask, or one position" in line


@pytest.mark.parametrize(
    ("tail", "count"),
    [
        ("p = Sigmoid(s) y = Gather<axis=1>(p, some)", 2),
        ("p = Sigmoid(s) q = Sub(one, p) y = Concat<axis=1>(q, p)", 6),
        ("p = Sigmoid(s) y = Sub(one, p)", 3),
    ],
)
def test_the_classes_of_an_output_are_counted(tail, count, tmp_path):
    path = tmp_path / "net.onnx"
    onnx.save(linear(tail, some=np.array([2, 0]), one=np.float32([1])), path)
    _, stdout, _ = run("inspect", path, "--json")
    (output,) = json.loads(stdout)["heads"]
    assert output["axes"] == ["N images", f"{count} classes"]


# --- an ensemble: two readers of the image's single numbers, the mean of whose probabilities is asked ---

STACKED = "j = Unsqueeze(p, {0}) k = Unsqueeze(q, {0}) c = Concat<axis={1}>(j, k)"
MEANS = {
    "mean": ("y = Mean(p, q)", 0.5),
    "sum": ("a = Add(p, q) y = Mul(a, half)", 0.5),
    "weighted": ("a = Mul(p, quarter) b = Mul(q, rest) y = Add(a, b)", 0.25),
    "stacked first": (STACKED.format("zero", 0) + "y = ReduceMean<keepdims=0>(c, zero)", 0.5),
    "stacked between": (STACKED.format("one", 1) + "y = ReduceMean<keepdims=0>(c, one)", 0.5),
    "percent": ("m = Mean(p, q) y = Mul(m, hundred)", 0.5),
    "logarithm": ("m = Mean(p, q) y = Log(m)", 0.5),
    "class": ("m = Mean(p, q) a = ArgMax<axis=1>(m) y = Cast<to=1>(a)", 0.5),
}
MEMBERS = random(72, 3, seed=3), random(72, 3, seed=4)
NUMBERS = {
    "v": MEMBERS[0], "w": MEMBERS[1], "half": np.float32(0.5), "quarter": np.float32(0.25),
    "rest": np.float32(0.75), "hundred": np.float32(100), "unit": np.float32(1),
    "zero": np.array([0]), "one": np.array([1]),
}  # fmt: skip
TWO = "f = Flatten(x) s = MatMul(f, v) t = MatMul(f, w) p = Softmax(s) q = Softmax(t)"


def ensemble(tail, **weights):
    return model(f"{TWO} {tail}", NUMBERS | weights, "N,3,4,6")


@pytest.mark.parametrize("tail", MEANS)
def test_a_mean_of_softmaxes_is_explained_by_the_mean_of_their_scores(tail):
    """Linear readers send back their weights: the mean's are the means of the members'."""
    proto, share = ensemble(MEANS[tail][0]), MEANS[tail][1]
    expected = share * MEMBERS[0][:, 1] + (1 - share) * MEMBERS[1][:, 1]
    (one, _) = explainer(proto)(IMAGES, 1)
    assert one.kind == "classes"
    assert "is computed from scores" not in (one.note or "")
    np.testing.assert_allclose(one.reconstruction.ravel(), expected, rtol=1e-6)
    np.testing.assert_allclose(in_one_graph(proto, IMAGES, [1, 1])[0].ravel(), expected, rtol=1e-6)


@pytest.mark.parametrize("squash", ["Sigmoid", "LogSoftmax"])
def test_a_mean_of_other_probabilities_is_explained_so_too(squash):
    two = TWO.replace("Softmax", squash)
    (one, _) = explainer(model(f"{two} y = Mean(p, q)", NUMBERS, "N,3,4,6"))(IMAGES, 1)
    expected = (MEMBERS[0][:, 1] + MEMBERS[1][:, 1]) / 2
    assert (one.layer, one.kind) == ("y/scores", "classes")
    np.testing.assert_allclose(one.reconstruction.ravel(), expected, rtol=1e-6)


@pytest.mark.parametrize(("squash", "seed"), [("Softmax<axis=1>", "map"), ("Sigmoid", "present")])
def test_a_mean_of_maps_of_probabilities_is_explained_from_the_map_of_its_scores(squash, seed):
    """One member sees the picture as it is, one three times as bright: together, twice as bright."""
    body = f"c = Conv(x, same) d = Mul(c, three) p = {squash}(c) q = {squash}(d) y = Mean(p, q)"
    proto = model(body, SAME | {"three": np.float32(3)}, "N,3,4,6")
    found = explainer(proto)(IMAGES, 1)
    assert {(one.kind, one.seed, one.layer) for one in found} == {("class map", seed, "y/scores")}
    # The seed is twice the picture's channel, and the mean's slope is two.
    np.testing.assert_allclose(arrays(found), 4 * only(IMAGES, 1), rtol=1e-6)
    np.testing.assert_allclose(in_one_graph(proto, IMAGES, [1, 1]), 4 * only(IMAGES, 1), rtol=1e-6)


def test_the_complement_of_a_mean_falls_as_its_score_rises():
    (one, _) = explainer(ensemble("m = Mean(p, q) y = Sub(unit, m)"))(IMAGES, 1)
    expected = -(MEMBERS[0][:, 1] + MEMBERS[1][:, 1]) / 2
    np.testing.assert_allclose(one.reconstruction.ravel(), expected, rtol=1e-6)


DIVIDED = [3, 0, 0], [-6, 0, 0]
"""What two members say of three classes: class 0 has the highest mean probability, (0.909 + 0.001) / 2, and
the lowest mean score."""


@pytest.mark.parametrize("tail", ["mean", "sum", "stacked first", "percent", "class"])
def test_the_mean_itself_tells_which_class_is_the_most_probable(tail, tmp_path):
    v, w = (np.tile(np.array(each, np.float32) / 72, (72, 1)) for each in DIVIDED)
    proto, ones = ensemble(MEANS[tail][0], v=v, w=w), np.ones((2, 3, 4, 6), np.float32)
    expected = np.full((2, 3, 4, 6), -1.5 / 72, np.float32)
    save(compile_pair(load(proto), semantics="gradient"), tmp_path / "pair")
    for e in (proto, tmp_path / "pair"):
        found = explainer(e)(ones)
        assert {one.channel for one in found} == {0}
        np.testing.assert_allclose(arrays(found), expected, rtol=1e-6)
    np.testing.assert_allclose(in_one_graph(proto, ones), expected, rtol=1e-6)


def test_a_mean_of_softmaxes_is_checked_and_read_back_from_an_explain_graph(tmp_path):
    (tmp_path / "net.onnx").write_bytes(ensemble(MEANS["mean"][0]).SerializeToString())
    code, stdout, _ = run("inspect", tmp_path / "net.onnx", "--json")
    (output,) = json.loads(stdout)["heads"]
    assert (output["start"], output["cut"]) == ("y/scores", ["Mean y", "Softmax q", "Softmax p"])
    convert = "convert", tmp_path / "net.onnx", "-o", tmp_path / "made", "--form", "explain"
    for command in (("verify", tmp_path / "net.onnx"), convert):
        code, _, stderr = run(*command)
        assert code == 0, stderr
    found = explainer(tmp_path / "made")(IMAGES)
    assert (found[0].layer, found[0].channel) == (
        "y/scores",
        explainer(tmp_path / "net.onnx")(IMAGES)[0].channel,
    )


@pytest.mark.parametrize(
    ("tail", "said"),
    [
        ("y = Max(p, q)", True),
        ("a = Sub(p, q) y = Mul(a, half)", True),
        ("r = Gather<axis=1>(q, turned) y = Mean(p, r)", True),
        ("y = Mean(s, t)", False),
    ],
)
def test_what_is_no_mean_of_probabilities_of_the_same_classes_says_that_it_is_made_of_scores(tail, said):
    (one, _) = explainer(ensemble(tail, turned=np.array([2, 1, 0])))(IMAGES, 1)
    assert one.layer == "y"
    assert ("is computed from scores" in (one.note or "")) == said


SPELLED = {
    "of all": "e = Exp(z) t = ReduceSum(e, last) y = Div(e, t)",
    "less the largest": "m = ReduceMax(z, last) s = Sub(z, m) e = Exp(s) t = ReduceSum(e, last)"
    " y = Div(e, t)",
    "by JAX": "m = ReduceMax<keepdims=0>(z, last) i = Identity(m) c = Reshape(i, column) s = Sub(z, c)"
    " e = Exp(s) t = ReduceSum<keepdims=0>(e, last) u = Unsqueeze(t, last) y = Div(e, u)",
    "by the inverse": "e = Exp(z) t = ReduceSum(e, last) r = Reciprocal(t) y = Mul(r, e)",
    "logarithm": "e = Exp(z) t = ReduceSum(e, last) l = Log(t) y = Sub(z, l)",
    "and a tail": "e = Exp(z) t = ReduceSum(e, last) p = Div(e, t) y = Mul(p, hundred)",
}


def spelled(tail):
    more = {"last": np.array([1]), "first": np.array([0]), "column": np.array([-1, 1])}
    weights = {name: array for name, array in WIDE.items() if name != "one"}
    return model(f"f = Flatten(x) z = MatMul(f, v) {tail}", weights | more, "N,3,4,6")


@pytest.mark.parametrize("tail", SPELLED.values(), ids=SPELLED)
def test_a_softmax_that_is_spelled_out_is_cut_off_as_one(tail):
    (head,) = heads(load(spelled(tail)))
    assert (head.kind, head.start, head.squash, head.assumed) == ("classes", "z", "together", False)
    whole = explainer(spelled("y = Softmax<axis=1>(z)"))(IMAGES)
    np.testing.assert_array_equal(arrays(explainer(spelled(tail))(IMAGES)), arrays(whole))


FINITE = {
    "Where": "n = IsNaN(p) y = Where(n, none, p)",
    "unequal to itself": "e = Equal(p, p) n = Not(e) y = Where(n, none, p)",
    "Where equal to itself": "e = Equal(p, p) y = Where(e, p, none)",
    "PyTorch's nan_to_num": """n = IsNaN(p) a = Where(n, none, p) i = IsInf(p) l = Less(p, none)
        d = And(i, l) b = Where(d, least, a) g = Greater(p, none) u = And(i, g) y = Where(u, most, b)""",
    "its older exporter's": """n = IsNaN(p) a = Where(n, none, p) h = Cast<to=11>(a) i = IsInf(h)
        g = Greater(a, none) u = And(i, g) y = Where(u, most, a)""",
    "of one sign": "u = IsInf<detect_negative=0>(p) y = Where(u, most, p)",
}


@pytest.mark.parametrize("squash", ["p = Softmax<axis=1>(z)", "p = Sigmoid(z)"])
@pytest.mark.parametrize("tail", FINITE.values(), ids=FINITE)
def test_what_replaces_numbers_that_are_none_is_cut_off(tail, squash):
    proto = spelled(f"{squash} {tail}")
    for name, number in (("none", 0), ("least", -3.4e38), ("most", 3.4e38)):
        proto.graph.initializer.append(numpy_helper.from_array(np.float32(number), name))
    (head,) = heads(load(proto))
    assert (head.kind, head.start, head.assumed) == ("classes", "z", False)
    whole = explainer(spelled("y = Softmax<axis=1>(z)"))(IMAGES, 1)
    np.testing.assert_array_equal(arrays(explainer(proto)(IMAGES, 1)), arrays(whole))
    np.testing.assert_allclose(in_one_graph(proto, IMAGES, [1, 1]), arrays(whole), rtol=1e-6)


@pytest.mark.parametrize(
    "tail",
    [
        "n = Neg(z) e = Exp(n) t = Add(e, one) y = Div(one, t)",
        "n = Neg(z) e = Exp(n) t = Add(one, e) y = Reciprocal(t)",
        "h = Mul(z, half) t = Tanh(h) u = Add(t, one) y = Mul(half, u)",
    ],
)
def test_a_sigmoid_that_is_spelled_out_is_cut_off_as_one(tail):
    proto = spelled(tail)
    for name, number in (("one", 1), ("half", 0.5)):
        proto.graph.initializer.append(numpy_helper.from_array(np.float32(number), name))
    (head,) = heads(load(proto))
    assert (head.kind, head.start, head.squash, head.assumed) == ("classes", "z", "each", False)
    whole = explainer(spelled("y = Sigmoid(z)"))(IMAGES)
    np.testing.assert_array_equal(arrays(explainer(proto)(IMAGES)), arrays(whole))


@pytest.mark.parametrize(
    "tail",
    [
        "e = Exp(z) t = ReduceSum(z, last) y = Div(e, t)",  # of other numbers
        "e = Exp(z) t = ReduceSum(e, last) y = Div(t, e)",
        "e = Exp(z) t = ReduceMax(e, last) y = Div(e, t)",
        "e = Exp(z) t = ReduceSum<keepdims=0>(e, first) y = Div(e, t)",  # of all images
    ],
)
def test_what_is_nearly_a_softmax_is_none(tail):
    assert "Softmax" not in {node.op for node in load(spelled(tail)).nodes}


def test_a_softmax_within_a_network_has_its_own_gradient():
    """Attention, spelled out: by central differences."""
    tail = f"{SPELLED['less the largest'].replace('y =', 'p =')} q = Mul(p, z) y = MatMul(q, square)"
    more = {"last": np.array([1]), "square": random(3, 3)}
    net = model(f"f = Flatten(x) z = MatMul(f, v) {tail}", WIDE | more, "N,3,4,6")
    image, ask = IMAGES[:1] / 8, explainer(net)
    found, step = ask(image, 1)[0].reconstruction.ravel(), 1e-2
    for k in range(0, 72, 7):
        moved = np.zeros((1, 72), np.float32)
        moved[0, k] = step
        high, low = (ask.scores(image + sign * moved.reshape(image.shape))[0, 1] for sign in (1, -1))
        assert found[k] == pytest.approx((high - low) / (2 * step), rel=2e-2, abs=2e-3)


@pytest.mark.parametrize(
    ("tail", "kind", "told"),
    [
        (FILTERED, "numbers", True),
        ("c = Conv(x, whole) m = Mul(c, hundred) y = Flatten(m)", "numbers", True),
        ("c = Conv(x, whole) r = Round(c) i = Cast<to=6>(r) y = Flatten(i)", "numbers", True),  # whole pixels
        ("y = MatMul(f, face)", "numbers", True),
        ("y = MatMul(f, vector)", "numbers", True),
        ("y = MatMul(f, v)", "classes", False),
        ("s = MatMul(f, v) y = Softmax(s)", "classes", True),
        ("s = MatMul(f, v) y = Sigmoid(s)", "classes", True),
        ("s = MatMul(f, v) a = ArgMax<axis=1>(s) y = Cast<to=1>(a)", "classes", True),
        ("c = Conv(x, whole) g = Greater(c, hundred) h = Cast<to=1>(g) y = Flatten(h)", "classes", True),
        ("y = MatMul(f, thousand)", "classes", True),
        ("y = MatMul(f, ten)", "classes", True),
        ("y = MatMul(f, one)", "regression", True),
        ("g = GlobalAveragePool(x) y = Flatten(g)", "classes", False),
        ("g = GlobalAveragePool(x) c = Conv(g, dense) r = Relu(c) d = Conv(r, other) y = Flatten(d)",
         "classes", False),
    ],
)  # fmt: skip
@pytest.mark.parametrize("labels", [None, ["a", "b", "c"]])
def test_a_row_of_numbers_is_of_classes_where_something_tells(tmp_path, tail, kind, told, labels):
    proto = row(tail)
    for name, array in (("dense", random(5, 3, 1, 1)), ("other", random(3, 5, 1, 1))):
        proto.graph.initializer.append(numpy_helper.from_array(array, name))
    (tmp_path / "net.onnx").write_bytes((named(proto, *labels) if labels else proto).SerializeToString())
    three = not {"face", "vector"} & set(re.findall("[a-z]+", tail))
    kind, told = ("classes", True) if labels and kind == "numbers" and three else (kind, told or bool(labels))
    head = explainer(tmp_path / "net.onnx").head
    assert (head.kind, head.assumed) == (kind, not told)
    _, stdout, _ = run("inspect", tmp_path / "net.onnx", "--json")
    listed = json.loads(stdout)["heads"][0]
    assert (listed["kind"], listed["assumed"]) == (kind, not told)
    assert ("classes, assumed" in run("inspect", tmp_path / "net.onnx")[1]) == (not told)


def test_what_is_taken_for_classes_is_warned_of_once_and_written_down(tmp_path):
    (tmp_path / "net.onnx").write_bytes(row("y = MatMul(f, v)").SerializeToString())
    for name in "ab":
        save_png(tmp_path / f"{name}.png", np.zeros((4, 6, 3), np.uint8))
    both = (tmp_path / "a.png", tmp_path / "b.png", "-o", tmp_path / "made", "--json")
    for kind, assumed in (((), True), (("--kind", "classes"), False)):
        code, stdout, stderr = run("explain", tmp_path / "net.onnx", *both, *kind)
        assert code == 0, stderr
        assert stderr.count("is taken for classes: nothing in the file says so") == assumed
        assert [json.loads(line)["kind_assumed"] for line in stdout.splitlines()] == [assumed] * 2
        for command, *more in (("sheet", tmp_path / "a.png"), ("convert", "--form", "explain")):
            how = (*more, "-o", tmp_path / command, *kind)
            code, _, stderr = run(command, tmp_path / "net.onnx", *how)
            assert (code, stderr.count("is taken for classes")) == (0, assumed), stderr


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("logits", "classes"), ("pred_class", "classes"), ("faceLandmarks", "regression"),
        ("bbox/out:0", "regression"), ("image_embeds", "embedding"), ("cls_token", "numbers"),
        ("class_boxes", "numbers"),
        ("boxing", "numbers"),
    ],
)  # fmt: skip
def test_a_name_tells_what_a_row_of_numbers_is(name, kind, tmp_path):
    proto = row()
    proto.graph.node[-1].output[0] = proto.graph.output[0].name = name
    (tmp_path / "net.onnx").write_bytes(proto.SerializeToString())
    assert explainer(proto).head.kind == kind
    _, stdout, _ = run("inspect", tmp_path / "net.onnx")
    assert (f"{kind}, by its name" in stdout) == (kind != "numbers")


def test_ten_numbers_beside_another_output_may_be_anything():
    proto = model("f = Flatten(x) y = MatMul(f, ten) z = MatMul(f, one)", WIDE, "N,3,4,6", "y z")
    assert explainer(proto, output="y").head.kind == "numbers"


@pytest.mark.parametrize("name", ["y", "landmarks", "embedding"])
def test_what_has_no_strongest_is_explained_where_it_is_named(name):
    proto, image = row(output=name), np.ones((1, 3, 4, 6), np.float32)
    asked = explainer(proto, "gradient")
    with pytest.raises(InputError, match="give one as a target"):
        asked(image)
    (one,) = asked(image, 2)
    np.testing.assert_allclose(one.reconstruction.ravel(), WIDE["v"][:, 2])
    assert (one.standing.rank, one.standing.probability) == (None, None) or name == "embedding"
    assert asked(image, seed=np.array([[0, 0, 1]]))[0].reconstruction.ravel() == pytest.approx(
        WIDE["v"][:, 2]
    )
    with pytest.raises(ModelError, match="choose units"):
        explain_graph(compile_pair(load(proto)))
    explain_graph(compile_pair(load(proto)), seed="unit")


def test_a_user_says_what_a_row_of_numbers_is(tmp_path):
    proto, image = row(), np.ones((1, 3, 4, 6), np.float32)
    strongest = int(WIDE["v"].sum(axis=0).argmax())
    asked = explainer(proto, "gradient", kind="classes")
    assert (asked(image)[0].channel, asked(image)[0].standing.rank) == (strongest, 1)
    with pytest.raises(InputError, match="3 quantities"):
        explainer(proto, kind="regression")(image)
    with pytest.raises(InputError, match="kind='map': choose one of classes, regression"):
        explainer(proto, kind="map")
    with pytest.raises(InputError, match="of the kind 'class map', as its axes tell"):
        explainer(segmenter("NCHW"), kind="classes")
    # A pair and a graph keep what was said.
    net, pair = tmp_path / "net.onnx", tmp_path / "pair"
    net.write_bytes(proto.SerializeToString())
    for form in ("pair", "explain"):
        how = ("--form", form, "--rules", "gradient", "-o", pair)
        assert run("convert", net, "--kind", "classes", *how)[0] == 0
        assert explainer(pair)(image)[0].channel == strongest


@pytest.mark.parametrize(
    ("tail", "kind", "assumed"),
    [
        ("y = Sigmoid(s)", "classes", True), ("scores = Sigmoid(s)", "classes", False),
        ("bbox = Sigmoid(s)", "regression", False), ("y = Softmax(s)", "classes", False),
        ("p = Sigmoid(s) g = Greater(p, half) y = Cast<to=1>(g)", "classes", False),
    ],
)  # fmt: skip
def test_four_sigmoids_are_assumed_to_be_classes_and_may_be_a_box(tail, kind, assumed):
    name = tail.split(" = ")[-2].rpartition(" ")[2]
    weights = WIDE | {"four": random(72, 4), "half": np.float32(0.5)}
    proto = model(f"f = Flatten(x) s = MatMul(f, four) {tail}", weights, "N,3,4,6", name)
    head = head_of(load(proto))
    assert (head.kind, head.assumed) == (kind, assumed)
    assert not explainer(proto, labels=list("abcd")).head.assumed
    # Where a softmax stands beside them, its classes come first.
    both = model(f"f = Flatten(x) s = MatMul(f, four) {tail} t = MatMul(f, v) z = Softmax(t)",
                 weights, "N,3,4,6", f"{name} z")  # fmt: skip
    assert head_of(load(both)).output == ("z" if assumed or kind == "regression" else name)


@pytest.mark.slow
def test_nothing_is_guessed_of_a_row_of_numbers_by_any_command(tmp_path, photo):
    net, out = tmp_path / "net.onnx", tmp_path / "out"
    body = "c = Conv(x, k) r = Relu(c) d = Conv(r, m) y = Flatten(d)"
    proto = model(body, {"k": random(4, 3, 3, 3), "m": random(3, 4, 14, 14)}, "N,3,16,16")
    net.write_bytes(proto.SerializeToString())
    how = ("--preset", "raw", "-o", out)
    for command in ("explain", "sheet", "occlude", "evaluate", "invariance"):
        assert NOTHING_TELLS in refused(command, net, photo, *how), command
    assert "--kind classes" in refused("convert", net, "--form", "explain", "-o", out)
    with pytest.raises(ModelError, match="kind='classes' says"):
        graph_of(explainer(proto), None)
    assert not list(tmp_path.glob("out/*"))
    for command, told in (("explain", "--target=1"), ("sheet", "--kind=classes"), ("occlude", "--target=1")):
        assert run(command, net, photo, *how, told)[0] == 0, command
    few = ("--method", "gradient", "--measure", "sparsity")
    assert run("evaluate", net, photo, *how, *few, "--kind", "classes")[0] == 0
    assert run("convert", net, "-o", tmp_path / "pair")[0] == 0  # its caller makes the seed


def test_a_map_of_one_channel_over_one_axis_has_one_channel():
    net = model("c = Conv(x, w) r = Relu(c) g = GlobalAveragePool(r) y = Flatten(g)",
                {"w": np.ones((1, 2, 3), np.float32)}, "N,2,20")  # fmt: skip
    signal = np.zeros((1, 2, 20), np.float32)
    signal[0, :, 8] = 1
    (one,) = explainer(net)(signal)
    assert (one.channel, one.score) == (0, pytest.approx(6 / 18))
    (unit,) = explainer(net)(signal, 0, layer="r", position=(7,))
    np.testing.assert_array_equal(np.nonzero(unit.reconstruction[0])[0], [7, 8, 9])


# --- expectations: Σ p·k over the bins of a softmax, as of an angle or an age -----------------------

BINS, SLIGHT = np.float32([-3, 0, 3]), random(72, 3) / 8
SPREAD = {
    "product and sum": "m = Mul(p, bins) y = ReduceSum<keepdims=0>(m, last)",
    "sum that keeps its axis": "m = Mul(p, bins) y = ReduceSum(m, last)",
    "matrix": "y = MatMul(p, column)",
    "dense": "y = Gemm(p, column)",
    "limited": "e = MatMul(p, column) y = Clip(e, least, most)",
    "filter": "u = Unsqueeze(p, wide) e = Conv(u, kernel) y = Flatten(e)",
    "quotient": "q = Exp(s) z = ReduceSum<keepdims=0>(q, last) m = Mul(q, bins) "
    "n = ReduceSum<keepdims=0>(m, last) y = Div(n, z)",
}


def expectation(tail):
    constants = {
        "bins": BINS, "last": np.array([1]), "wide": np.array([2, 3]), "column": BINS[:, None],
        "least": np.float32(-9), "most": np.float32(9), "kernel": BINS.reshape(1, 3, 1, 1),
        "reader": SLIGHT,
    }  # fmt: skip
    return model(f"f = Flatten(x) s = MatMul(f, reader) p = Softmax(s) {tail}", constants, "N,3,4,6")


def slopes_of_expectation(images):
    """Σ p_k (k - E) R_k, and E."""
    scores = images.reshape(len(images), 72).astype(np.float64) @ SLIGHT
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    shares = powers / powers.sum(axis=1, keepdims=True)
    expected = shares @ BINS
    return shares * (BINS - expected[:, None]), expected


@pytest.mark.parametrize("tail", SPREAD)
def test_an_expectation_is_a_number_and_explained_as_a_whole(tail):
    proto, (slopes, expected) = expectation(SPREAD[tail]), slopes_of_expectation(IMAGES)
    ask = explainer(proto)
    found = ask(IMAGES)
    assert (ask.head.kind, ask.head.start, ask.head.cut) == ("regression", "y", ())
    np.testing.assert_allclose([each.score for each in found], expected, rtol=1e-5)
    gradient = (slopes @ SLIGHT.T).reshape(IMAGES.shape)
    np.testing.assert_allclose(arrays(found), gradient, atol=1e-6)
    np.testing.assert_allclose(in_one_graph(proto, IMAGES), gradient, atol=1e-6)


def test_several_expectations_are_no_classes():
    head = explainer(expectation("a = MatMul(p, column) b = Mul(a, most) y = Concat<axis=1>(a, b)")).head
    assert (head.kind, head.assumed) == ("numbers", False)


def test_an_expectation_that_the_program_computes_is_its_gradient_sent_back():
    proto, (slopes, _) = expectation("y = Identity(s)"), slopes_of_expectation(IMAGES)
    found = explainer(proto)(IMAGES, seed=slopes.astype(np.float32))
    np.testing.assert_allclose(arrays(found), (slopes @ SLIGHT.T).reshape(IMAGES.shape), rtol=1e-5, atol=1e-6)


# --- outputs of the only image, without an axis for it ---------------------------------------------


@pytest.mark.parametrize(
    "tail", ["y = Squeeze(s, first)", "q = Squeeze(s, first) y = Softmax(q)", "y = Reshape(s, all)"]
)
def test_scores_of_the_only_image_need_no_axis_for_it(tail):
    proto = model(
        f"f = Flatten(x) s = MatMul(f, r) {tail}",
        {"r": READER, "first": np.array([0]), "all": np.array([-1])},
        "1,3,4,6",
    )
    ask, image = explainer(proto, labels=["a", "b", "c"]), IMAGES[:1]
    assert (ask.head.kind, ask.head.start) == ("classes", "s")
    np.testing.assert_array_equal(ask(image, "b")[0].reconstruction.ravel(), READER[:, 1])
    assert ask(image)[0].label == "c"  # its weights are a hundred times those of the first
    np.testing.assert_array_equal(in_one_graph(proto, image, [1]).ravel(), READER[:, 1])


@pytest.mark.parametrize("tail", ["y = Squeeze(c, first)", "p = Sigmoid(c) y = Squeeze(p, first)"])
def test_a_map_of_the_only_image_needs_no_axis_for_it(tail):
    proto = model(f"c = Conv(x, same) {tail}", SAME | {"first": np.array([0])}, "1,3,4,6")
    ask, image = explainer(proto), IMAGES[:1]
    assert (ask.head.kind, ask.head.start, ask.head.axes.positions) == ("class map", "c", (2, 3))
    np.testing.assert_array_equal(arrays(ask(image, 1)), only(image, 1))
    np.testing.assert_array_equal(in_one_graph(proto, image, [1]), only(image, 1))


POINTS = {"table": random(3, 10), "by2": np.array([-1, 5, 2]), "turn": np.array([-1, 2, 5])}
COORDINATES = {
    "y = Reshape(s, by2)": ("y", "numbers", range(10)),
    "p = Sigmoid(s) y = Reshape(p, by2)": ("y", "numbers", range(10)),
    "q = Reshape(s, turn) y = Transpose<perm=[0,2,1]>(q)": (
        "y",
        "numbers",
        [0, 5, 1, 6, 2, 7, 3, 8, 4, 9],
    ),
    "keypoints = Reshape(s, by2)": ("keypoints", "regression", range(10)),
}


@pytest.mark.parametrize(
    "behind", ["y = Identity(p)", "y = Flatten(p)", "i = ArgMax<axis=2>(p) y = Cast<to=1>(i)"]
)
def test_a_softmax_tells_which_axis_of_a_table_holds_the_classes(behind):
    """As a reader of plates: one dense layer for five characters, each of two classes."""
    body = "a = GlobalAveragePool(x) f = Flatten(a) s = MatMul(f, table) t = Reshape(s, by2)"
    proto = model(f"{body} p = Softmax<axis=2>(t) {behind}", POINTS, "N,3,4,6")
    ask = explainer(proto)
    assert (ask.head.kind, ask.head.start, ask.classes) == ("sequence", "t", 2)
    rows = (IMAGES.mean(axis=(2, 3)) @ POINTS["table"]).reshape(-1, 5, 2)[..., 1]
    expected = (rows @ POINTS["table"].reshape(3, 5, 2)[..., 1].T)[..., None, None] / 24
    found = arrays(ask(IMAGES, 1))
    np.testing.assert_allclose(found, np.broadcast_to(expected, IMAGES.shape), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(in_one_graph(proto, IMAGES, [1, 1]), found, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("tail", COORDINATES)
def test_coordinates_in_a_table_are_asked_for_and_counted_row_by_row(tail):
    """Also ten of them, and between 0 and 1, they are no classes: number k is a weighed mean of channels."""
    output, kind, order = COORDINATES[tail]
    proto = model(
        f"a = GlobalAveragePool(x) f = Flatten(a) s = MatMul(f, table) {tail}", POINTS, "N,3,4,6", output
    )
    ask = explainer(proto)
    assert (ask.head.kind, ask.head.start, ask.head.table, ask.classes) == (kind, "s", (5, 2), 10)
    what = "a table of 5×2 numbers" if kind == "numbers" else "holds 5×2 quantities"
    with pytest.raises(InputError, match=f"{what}.* as a target, counted row by row from 0 to 9"):
        ask(IMAGES)
    for number, column in enumerate(order):
        expected = np.broadcast_to(POINTS["table"][:, column, None, None] / 24, IMAGES.shape)
        np.testing.assert_allclose(arrays(ask(IMAGES, number)), expected, rtol=1e-5)


@pytest.mark.parametrize(
    "first", ["v = MatMul(f, one)", "v = MatMul(f, four)", "q = MatMul(f, four) v = Reshape(q, by2)"]
)
@pytest.mark.parametrize(
    ("scores", "comes_first"),
    [("s = MatMul(f, ten) y = Softmax(s)", "y"), ("s = MatMul(f, ten) y = Sigmoid(s)", "y"),
     ("s = MatMul(f, one) y = Sigmoid(s)", "v"), ("y = MatMul(f, three)", "v")],
)  # fmt: skip
def test_quantities_give_way_to_scores_of_several_classes(first, scores, comes_first, tmp_path):
    weights = {"one": random(3, 1), "four": random(3, 4), "ten": random(3, 10), "three": random(3, 3),
               "by2": np.array([-1, 2, 2])}  # fmt: skip
    proto = model(f"a = GlobalAveragePool(x) f = Flatten(a) {first} {scores}", weights, "N,3,4,6", "v y")
    head = head_of(load(proto))
    assert (head.output, head.in_place_of) == (comes_first, "v" if comes_first == "y" else None)
    assert compile_pair(load(proto)).manifest["explained"]["output"] == comes_first
    assert head_of(load(proto), "v").kind in ("regression", "numbers")
    if comes_first == "y":
        onnx.save(proto, tmp_path / "net.onnx")
        told = run("explain", tmp_path / "net.onnx", picture(tmp_path / "p.png"), "-o", tmp_path / "out")[2]
        assert "'y' is explained, as it holds scores; 'v', which stands before it, is explained with" in told
        assert "--model-output v" in told


def test_what_has_no_axis_for_the_images_is_refused_with_what_to_do():
    proto = model(
        "c = Conv(x, same) t = Transpose<perm=[0,2,3,1]>(c) y = Reshape(t, rows)",
        SAME | {"rows": np.array([-1, 4])},
        "2,3,4,6",
    )
    with pytest.raises(
        ModelError, match=r"axis of output 'y' \(48×4\) holds the images: choose a layer, as 't'"
    ):
        explainer(proto)(IMAGES)
    with pytest.raises(
        ModelError, match=r"output 'y' is: make the pair of a layer, by compile_pair\(model, LAYER\)"
    ):
        in_one_graph(proto, IMAGES)


# --- what is picked, and in which direction it rises -------------------------------------------------


@pytest.mark.parametrize(
    ("tail", "lowest", "sign"),
    [
        ("y = ArgMin<axis=1>(s)", True, -1),
        ("p = Softmax(s) y = ArgMin<axis=1>(p)", True, -1),
        ("p = Softmax(s) v, y = TopK<axis=1, largest=0>(p, one_place)", True, -1),
        ("n = Neg(s) y = ArgMin<axis=1>(n)", False, 1),
        ("p = Softmax(s) q = Sub(one, p) y = ArgMin<axis=1>(q)", False, 1),
        ("p = Softmax(s) q = Sub(one, p) y = ArgMax<axis=1>(q)", True, -1),
    ],
)
def test_the_class_that_a_model_reports_is_explained_as_it_comes_to_be_reported(tail, lowest, sign):
    proto = linear(tail, one=np.float32([1]), one_place=np.array([1]))
    proto.graph.output[0].type.tensor_type.elem_type = onnx.TensorProto.INT64
    reported = onnxruntime.InferenceSession(proto.SerializeToString()).run(None, {"x": IMAGES})[0].ravel()
    scores = np.einsum("bp,pk->bk", IMAGES.reshape(len(IMAGES), -1), READER)
    np.testing.assert_array_equal(reported, scores.argmin(1) if lowest else scores.argmax(1))
    found = explainer(proto)(IMAGES)
    assert [each.channel for each in found] == list(reported)
    expected = np.stack([sign * READER[:, k].reshape(3, 4, 6) for k in reported])
    np.testing.assert_allclose(arrays(found), expected)
    np.testing.assert_allclose(in_one_graph(proto, IMAGES), expected)


@pytest.mark.parametrize(
    ("tail", "classes"),
    [
        ("p = Softmax(s) y = GatherElements<axis=1>(p, backwards)", [2, 1, 0]),
        ("p = Softmax(s) t = Transpose(p) z = GatherND(t, rows) y = Transpose(z)", [2, 0]),
        ("z = Softmax(s) p = Pad(z, none) y = Identity(p)", [0, 1, 2]),
    ],
)
def test_classes_are_traced_through_constant_places(tail, classes):
    more = {"backwards": np.array([[2, 1, 0]] * 2), "rows": np.array([[2], [0]]), "none": np.zeros(4, int)}
    proto = linear(tail, **more)
    del proto.metadata_props[:]
    for k, own in enumerate(classes):
        expected = np.stack([READER[:, own].reshape(3, 4, 6)] * 2)
        np.testing.assert_allclose(arrays(explainer(proto)(IMAGES, k)), expected)
        np.testing.assert_allclose(in_one_graph(proto, IMAGES, [k]), expected)


@pytest.mark.parametrize(
    "tail",
    [
        "p = Softmax(s) y = Pad(p, before)",  # the first class is no score
        "p = Softmax(s) y = GatherElements<axis=1>(p, differing)",
        "p = Sigmoid(s) a = Greater(p, half) b = Less(p, most) c = And(a, b) y = Cast<to=1>(c)",  # a band
    ],
)
def test_classes_that_cannot_be_traced_are_refused_with_what_can_be_explained(tail):
    more = {"half": np.float32([0.5]), "most": np.float32([0.9]), "before": np.array([0, 1, 0, 0])}
    proto = linear(tail, **more, differing=np.array([[2, 1, 0], [0, 1, 2]]))
    with pytest.raises(ModelError, match=r"which of the scores 's' the classes .* choose a layer, as 's'"):
        explainer(proto)(IMAGES, 0)
    found = arrays(explainer(proto)(IMAGES, 0, layer="s"))
    np.testing.assert_allclose(found, np.stack([READER[:, 0].reshape(3, 4, 6)] * 2))


@pytest.mark.parametrize(
    "tail", ["p = Softmax(s) y = Sub(one, p)", "p = Softmax(s) y = Gather<axis=1>(p, some)"]
)
def test_a_channel_of_the_scores_is_no_class_of_an_output_that_turns_or_reorders_them(tail, tmp_path):
    proto = linear(tail, one=np.float32([1]), some=np.array([2, 0]))
    onnx.save(proto, tmp_path / "model.onnx")
    expected = np.stack([READER[:, 1].reshape(3, 4, 6)] * 2)
    found = explainer(proto)(IMAGES, 1, layer="s")
    np.testing.assert_allclose(arrays(found), expected)
    assert [each.label for each in found] == [None, None]
    strongest = explainer(proto)(IMAGES, layer="s")
    assert [each.channel for each in strongest] == list((IMAGES.reshape(2, -1) @ READER).argmax(1))
    pair = compile_pair(load(proto), "s", semantics="gradient")
    graph = explain_graph(pair, target="index")
    asked = own_top(graph.manifest) | {"x": IMAGES, "target": np.array([1])}
    np.testing.assert_allclose(
        numpy_of(Session(graph.proto, graph.folder, "cpu").run(asked)[RECONSTRUCTION]), expected
    )
    save(pair, tmp_path / "pair")
    np.testing.assert_allclose(arrays(Explainer(tmp_path / "pair", providers="cpu")(IMAGES, 1)), expected)


PLACED = {
    "turned": np.broadcast_to(np.array([3, 2, 1, 0])[:, None, None], (2, 4, 4, 6)).copy(),
    "differing": np.random.default_rng(0).integers(0, 4, (2, 4, 4, 6)), "mirrored": np.arange(6)[::-1].copy(),
    "across": np.broadcast_to(np.arange(6)[::-1], (2, 4, 4, 6)).copy(), "four": np.array([4]),
    "before_first": np.array([0, 1, 0, 0, 0, 0, 0, 0]), "around": np.array([0, 0, 1, 1, 0, 0, 1, 1]),
    "half": np.float32(0.5), "most": np.float32(0.9), "first": np.array([0]), "rows": np.array([2]),
    "at1": np.array([1]), "all_": np.array([-1]), "off_on": np.float32([0, 1]),
    "number": np.array(2),
    "swapped": np.eye(4, dtype=np.float32)[::-1, :, None, None].copy(),
}  # fmt: skip
"""For maps of four classes, 4×6 places each."""


def map_or_row(tail, form):
    """Four classes at each place, or at each step along the width, whose scores are the image's channels."""
    body = f"c = Conv(x, same) s = {'Identity(c)' if form == 'map' else 'ReduceMean<keepdims=0>(c, rows)'}"
    more = {}
    if form == "row":
        more = {key: PLACED[key][:, :, 0] for key in ("turned", "differing", "across")}
        more |= {key: PLACED[key][[0, 1, 2, 4, 5, 6]] for key in ("before_first", "around")}
    return model(f"{body} {tail}", SAME | PLACED | more, "2,3,4,6")


LOST = {
    "GatherElements 'y'": "p = Softmax<axis=1>(s) y = GatherElements<axis=1>(p, differing)",
    "Pad 'y'": "p = Softmax<axis=1>(s) y = Pad(p, before_first)",
    "GatherElements 'z'": """q = Conv(c, swapped) u = ReduceMean<keepdims=0>(q, rows)
        v, i = TopK<axis=1>(OTHERS, four) p = Softmax<axis=1>(s) z = GatherElements<axis=1>(p, i)
        y = Identity(z)""",
    "Gather 'y'": """g = GlobalAveragePool(x) a = ArgMax<axis=1,keepdims=0>(g) f = Flatten<axis=0>(a)
        i = Slice(f, first, at1, at1) j = Reshape(i, all_) p = Softmax<axis=1>(s)
        y = Gather<axis=1>(p, j)""",
    "And 'd'": """p = Sigmoid(s) a = Greater(p, half) b = Less(p, most) d = And(a, b)
        y = Cast<to=1>(d)""",
}
"""What a refusal names, and the tail: the order of another map's classes, the channel of another pool."""


@pytest.mark.parametrize("form", ["map", "row"])
@pytest.mark.parametrize("last", LOST)
def test_classes_of_maps_that_cannot_be_traced_are_refused_with_what_can_be_explained(last, form):
    proto = map_or_row(LOST[last].replace("OTHERS", "q" if form == "map" else "u"), form)
    said = rf"which of the scores 's' the classes .* by {last}: choose a layer, as 's'"
    with pytest.raises(ModelError, match=said):
        explainer(proto)(IMAGES, 0)
    assert explainer(proto)(IMAGES, 0, layer="s")[0].reconstruction.any()


@pytest.mark.parametrize("form", ["map", "row"])
@pytest.mark.parametrize(
    ("tail", "channel"),
    [
        ("y = GatherElements<axis=1>(p, turned)", 2),
        ("y = GatherElements<axis=-1>(p, across)", 1),
        ("y = Gather<axis=-1>(p, mirrored)", 1),
        ("y, i = TopK<axis=1>(p, four)", 1),
        ("v, i = TopK<axis=1>(p, four) y = GatherElements<axis=1>(p, i)", 1),
        ("y = Pad(p, around)", 1),
    ],
)
def test_classes_of_maps_are_traced_to_their_scores(tail, channel, form):
    """Where the image decides their order, a class is still one of those that are picked from."""
    proto = map_or_row(f"p = Softmax<axis=1>(s) {tail}", form)
    ask = explainer(proto)
    assert ask.head.start == "s"
    values = IMAGES if form == "map" else np.repeat(IMAGES.mean(axis=2, keepdims=True), 4, axis=2) / 4
    np.testing.assert_allclose(arrays(ask(IMAGES, 1)), only(values, channel), rtol=1e-6)
    np.testing.assert_allclose(in_one_graph(proto, IMAGES, [1, 1]), only(values, channel), rtol=1e-6)


DOUBTS = {
    "1 - p": "m = ReduceMax<keepdims=0>(p, second) y = Sub(one, m)",
    "of TopK": "m, i = TopK<axis=1>(p, second) y = Sub(one, m)",
    "negative": "m = ReduceMax(p, second) y = Neg(m)",
    "in percent": "m = ReduceMax(p, second) d = Sub(m, one) y = Mul(d, minus)",
}


@pytest.mark.parametrize("doubt", DOUBTS)
def test_what_falls_as_the_best_probability_rises_is_explained_itself(doubt):
    """How unsure a model is: minus the derivative of its largest probability, times 100 in percent."""
    numbers = {"one": np.float32(1), "minus": np.float32(-100), "second": np.array([1])}
    proto = model(
        f"f = Flatten(x) s = MatMul(f, r) p = Softmax(s) {DOUBTS[doubt]}",
        {"r": SLIGHT} | numbers,
        "N,3,4,6",
    )
    ask = explainer(proto)
    assert (ask.head.kind, ask.head.start, ask.head.cut) == ("regression", "y", ())
    shares = np.exp(IMAGES.reshape(2, -1) @ SLIGHT)
    shares /= shares.sum(axis=1, keepdims=True)
    best = shares.argmax(axis=1)
    largest = shares[[0, 1], best][:, None]
    slopes = -largest * (np.eye(shares.shape[1])[best] - shares) * (100 if doubt == "in percent" else 1)
    expected = (slopes @ SLIGHT.T).reshape(IMAGES.shape)
    found = ask(IMAGES)
    np.testing.assert_allclose(arrays(found), expected, rtol=1e-4, atol=1e-6)
    assert all("computed from scores" in each.note for each in found)
    np.testing.assert_allclose(in_one_graph(proto, IMAGES), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("form", ["map", "row"])
@pytest.mark.parametrize(
    ("tail", "classes"),
    [
        ("e = Equal(a, number) y = Cast<to=1>(e)", [2]),
        ("u = Unsqueeze(a, at1) e = Equal(u, number) g = Cast<to=1>(e) y = Mul(g, most)", [2]),
        ("e = Equal(a, number) n = Not(e) y = Cast<to=1>(n)", [0, 1, 3]),
        ("g = Less(a, number) y = Cast<to=1>(g)", [0, 1]),
        ("e = Equal(a, number) f = Equal(a, at1) o = Or(e, f) y = Cast<to=1>(o)", [1, 2]),
        ("e = Equal(a, all_) y = Cast<to=1>(e)", [0, 1, 2, 3]),
    ],
)
def test_whether_the_best_class_is_a_certain_one_is_told_by_its_score(tail, classes, form):
    """Where it is none of them, nothing is told."""
    proto = map_or_row(f"p = Softmax<axis=1>(s) a = ArgMax<axis=1,keepdims=0>(p) {tail}", form)
    ask = explainer(proto)
    assert (ask.head.start, ask.classes) == ("s", len(classes))
    values = IMAGES if form == "map" else np.repeat(IMAGES.mean(axis=2, keepdims=True), 4, axis=2) / 4
    for k, channel in enumerate(classes):
        expected = only(values, channel) if channel < 3 else np.zeros_like(values)
        np.testing.assert_allclose(arrays(ask(IMAGES, k)), expected, rtol=1e-6)
        np.testing.assert_allclose(in_one_graph(proto, IMAGES, [k, k]), expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("tail", "row", "classes"),
    [
        ("e = Equal(a, row) y = Cast<to=1>(e)", [0, 1, 2], [(0, 1), (1, 1), (2, 1)]),
        ("e = Equal(a, row) y = Cast<to=1>(e)", [2, 0], [(2, 1), (0, 1)]),
        ("e = Equal(a, row) n = Not(e) y = Cast<to=1>(n)", [2, 0, 1], [(2, -1), (0, -1), (1, -1)]),
        ("e = GreaterOrEqual(a, row) y = Cast<to=1>(e)", [1, 2], [(0, -1), (2, 1)]),
    ],
)
def test_of_a_row_of_classes_each_is_told_by_the_score_of_that_which_is_meant(tail, row, classes):
    proto = linear(f"a = ArgMax<axis=1,keepdims=1>(s) {tail}", row=np.array([row]))
    del proto.metadata_props[:]
    ask = explainer(proto)
    for k, (channel, sign) in enumerate(classes):
        expected = np.stack([sign * READER[:, channel].reshape(IMAGES.shape[1:])] * 2)
        np.testing.assert_allclose(arrays(ask(IMAGES, k)), expected, rtol=1e-6)
        np.testing.assert_allclose(in_one_graph(proto, IMAGES, [k, k]), expected, rtol=1e-6)


def test_of_a_row_of_maps_each_is_of_the_class_that_is_meant():
    tail = "a = ArgMax<axis=1,keepdims=1>(s) e = Equal(a, row) y = Cast<to=1>(e)"
    for row, meant in (([2, 0, 1, 3], True), ([1, 2, 3, 4], False)):
        proto = map_or_row(tail, "map")
        proto.graph.initializer.append(numpy_helper.from_array(np.reshape(row, (1, 4, 1, 1)), "row"))
        ask = explainer(proto)
        if meant:
            np.testing.assert_allclose(arrays(ask(IMAGES, 0)), only(IMAGES, 2), rtol=1e-6)
            np.testing.assert_allclose(in_one_graph(proto, IMAGES, [2, 2]), only(IMAGES, 1), rtol=1e-6)
        else:
            with pytest.raises(ModelError, match=r"does not tell which of the scores 's' .* by ArgMax 'a'"):
                ask(IMAGES, 0)


@pytest.mark.parametrize("row", [[1, 2, 3], [0, 0, 7]])
def test_a_row_of_classes_that_there_are_not_is_refused(row):
    proto = linear(
        "a = ArgMax<axis=1,keepdims=1>(s) e = Equal(a, row) y = Cast<to=1>(e)", row=np.array([row])
    )
    with pytest.raises(ModelError, match=r"does not tell which of the scores 's' .* by ArgMax 'a'.*'s'"):
        explainer(proto)(IMAGES, 0)


BEST_OF_PARTS = {
    "best of two": """v = Slice(p, at0, at1, axis) w = Slice(p, at1, at3, axis) m = ReduceMax(v, axis)
        n = ReduceMax(w, axis) y = Concat<axis=1>(m, n)""",
    "or none of them": "m = ReduceMax(p, axis) n = Sub(one, m) y = Concat<axis=1>(p, n)",
    "best beside another best": """m = ReduceMax(p, axis) w = Slice(p, at1, at3, axis)
        i = ArgMax<axis=1>(w) l = Cast<to=1>(i) y = Concat<axis=1>(m, l)""",
}
CUTS = {"at0": np.array([0]), "at1": np.array([1]), "at3": np.array([3]), "axis": np.array([1])}


@pytest.mark.parametrize("tail", BEST_OF_PARTS)
def test_the_best_of_a_part_of_the_classes_is_no_class_of_all(tail):
    """Each number is explained itself, and none is taken for a class before the softmax."""
    proto = linear(f"p = Softmax<axis=1>(s) {BEST_OF_PARTS[tail]}", one=np.float32([1]), **CUTS)
    del proto.metadata_props[:]
    ask = explainer(proto)
    assert (ask.head.kind, ask.head.start, ask.head.cut) == ("numbers", "y", ())
    with pytest.raises(InputError, match="nothing tells whether they are classes"):
        ask(IMAGES)
    scores = IMAGES.reshape(2, -1) @ READER
    shares = np.exp(scores - scores.max(1, keepdims=True))
    shares /= shares.sum(1, keepdims=True)
    best = 1 + shares[:, 1:].argmax(1) if tail == "best of two" else shares.argmax(1)
    number, sign = {"best of two": (1, 1), "or none of them": (3, -1)}.get(tail, (0, 1))
    largest = shares[[0, 1], best][:, None]
    expected = (sign * largest * (np.eye(3)[best] - shares) @ READER.T).reshape(IMAGES.shape)
    np.testing.assert_allclose(arrays(ask(IMAGES, number)), expected, rtol=1e-4, atol=1e-6)


def test_the_best_of_several_parts_of_the_classes_is_a_class_of_its_own():
    """Below the comparison stand the best of each part."""
    tail = BEST_OF_PARTS["best of two"].replace("y =", "z =")
    proto = linear(f"p = Softmax<axis=1>(s) {tail} y = ArgMax<axis=1>(z)", **CUTS)
    del proto.metadata_props[:]
    ask = explainer(proto)
    assert (ask.head.kind, ask.head.start, ask.classes) == ("classes", "z", 2)


def test_all_classes_compared_with_the_best_of_a_part_are_refused():
    tail = "w = Slice(p, at1, at3, axis) m = ReduceMax(w, axis) e = Equal(p, m) y = Cast<to=1>(e)"
    proto = linear(f"p = Softmax<axis=1>(s) {tail}", **CUTS)
    with pytest.raises(ModelError, match=r"does not tell which of the scores 's' .* by Equal 'e'.*'s'"):
        explainer(proto)(IMAGES, 0)


@pytest.mark.parametrize(
    ("tail", "expected"),
    [
        ("a = ArgMax<axis=1,keepdims=0>(p) e = Equal(a, number) y = Cast<to=1>(e)", {"blue": 2}),
        ("y = Slice(p, at1, four, at1)", {"green": 1, "blue": 2, "black": None}),
        ("y = Gather<axis=1>(p, some)", {"blue": 2, "red": 0}),
    ],
)
def test_names_of_all_scores_are_those_of_the_classes_that_an_output_has(tail, expected):
    proto = map_or_row(f"p = Softmax<axis=1>(s) {tail}", "map")
    proto.graph.initializer.append(numpy_helper.from_array(np.array([2, 0]), "some"))
    ask = explainer(named(proto, "red", "green", "blue", "black"))
    assert ask.labels.names == tuple(expected)
    assert compile_pair(load(proto)).manifest["labels"] == list(expected)
    for name, channel in expected.items():
        found = arrays(ask(IMAGES, name))
        np.testing.assert_allclose(found, 0 * IMAGES if channel is None else only(IMAGES, channel), rtol=1e-6)


FALLING_STEPS = [
    "m = ReduceMax(p, at1) g = Less(m, half) y = Cast<to=1>(g)",
    "m = ReduceMax(p, at1) e = Equal(p, m) n = Not(e) y = Cast<to=1>(n)",
    "m = ReduceMax(p, at1) l = Less(p, m) y = Cast<to=1>(l)",
    "m = ReduceMax(p, at1) e = Equal(p, m) g = Cast<to=1>(e) y = Sub(most, g)",
    "a = ArgMax<axis=1,keepdims=0>(p) h = OneHot<axis=1>(a, four, off_on) y = Sub(most, h)",
]


@pytest.mark.parametrize("form", ["map", "row"])
@pytest.mark.parametrize("tail", FALLING_STEPS)
def test_a_step_that_falls_as_the_best_probability_rises_is_refused(tail, form):
    proto = map_or_row(f"p = Softmax<axis=1>(s) {tail}", form)
    said = r"falls as the best of the scores 's' rises, .*: choose a layer, as 's'"
    with pytest.raises(ModelError, match=said):
        explainer(proto)(IMAGES, 0)


@pytest.mark.parametrize("form", ["map", "row"])
@pytest.mark.parametrize(
    "tail",
    [
        "a = ArgMax<axis=1,keepdims=0>(p) y = OneHot<axis=1>(a, four, off_on)",
        "a = ArgMax<axis=1,keepdims=0>(p) y = OneHot<axis=-1>(a, four, off_on)",
        "m = ReduceMax(p, at1) e = Equal(p, m) y = Cast<to=1>(e)",
        "m = ReduceMax(p, at1) g = GreaterOrEqual(p, m) y = Cast<to=1>(g)",
        "m = ReduceMax(p, at1) l = Less(p, m) e = Not(l) y = Cast<to=1>(e)",
        "m = ReduceMax(p, at1) e = Equal(p, m) g = Cast<to=1>(e) y = Mul(p, g)",
        "m = ReduceMax(s, at1) e = Equal(s, m) y = Where(e, s, most)",
    ],
)
def test_marks_of_the_best_class_are_explained_from_the_scores(tail, form):
    """As a mask for each class, 1 where it wins."""
    proto = map_or_row(f"p = Softmax<axis=1>(s) {tail}", form)
    ask = explainer(proto)
    assert ask.head.kind == ("class map" if form == "map" else "sequence")
    assert ask.head.start == "s"
    values = IMAGES if form == "map" else np.repeat(IMAGES.mean(axis=2, keepdims=True), 4, axis=2) / 4
    np.testing.assert_allclose(arrays(ask(IMAGES, 1)), only(values, 1), rtol=1e-6)
    np.testing.assert_allclose(in_one_graph(proto, IMAGES, [1, 1]), only(values, 1), rtol=1e-6)


BESIDE = {
    "of probabilities": "v = ReduceMax(p, at1) i = ArgMax<axis=1>(p) l = Cast<to=1>(i)",
    "of scores": "v = ReduceMax(p, at1) i = ArgMax<axis=1>(s) l = Cast<to=1>(i)",
    "the two best": "v, i = TopK<axis=1>(p, two) l = Cast<to=1>(i)",
    "the best, by the scores": "v, j = TopK<axis=1>(p, at1) w, i = TopK<axis=1>(s, at1) l = Cast<to=1>(i)",
}


@pytest.mark.parametrize("joined", ["y = Concat<axis=1>(v, l)", "y = Concat<axis=1>(l, v)"])
@pytest.mark.parametrize("form", ["numbers", "map", "row"])
@pytest.mark.parametrize("best", BESIDE)
def test_the_best_class_beside_its_probability_is_explained_from_the_scores(best, form, joined):
    tail = f"p = Softmax<axis=1>(s) {BESIDE[best]} {joined}"
    constants = {"at1": np.array([1]), "two": np.array([2])}
    if form == "numbers":
        proto, whole = linear(tail, **constants), linear()
    else:
        proto, whole = map_or_row(tail, form), map_or_row("y = Softmax<axis=1>(s)", form)
        for name, array in constants.items():
            if name not in {each.name for each in proto.graph.initializer}:
                proto.graph.initializer.append(numpy_helper.from_array(array, name))
    ask, plain = explainer(proto), explainer(whole)
    for attribute in ("kind", "start", "squash", "assumed", "axes", "elements", "seed"):
        assert getattr(ask.head, attribute) == getattr(plain.head, attribute), attribute
    found, wanted = ask(IMAGES), plain(IMAGES)
    assert [each.channel for each in found] == [each.channel for each in wanted]
    np.testing.assert_array_equal(arrays(found), arrays(wanted))


def test_the_place_of_another_score_beside_a_probability_is_not_of_its_class():
    """The largest of other numbers says nothing of the classes whose probability stands beside it."""
    tail = "p = Softmax(s) v = ReduceMax(p, at1) t = MatMul(f, other) i = ArgMax<axis=1>(t) l = Cast<to=1>(i)"
    constants = {"at1": np.array([1]), "other": random(72, 3)}
    head = explainer(linear(f"{tail} y = Concat<axis=1>(v, l)", **constants)).head
    assert (head.kind, head.start, head.cut) == ("numbers", "y", ())


OPPOSED = "p = Softmax(s) n = Neg(s) q = Softmax(n)"
"""The probabilities of a model and of one that thinks the opposite."""


@pytest.mark.parametrize(
    "tail",
    [
        f"{OPPOSED} y = Max(p, q)",
        f"{OPPOSED} z = Mul(p, q) y = Sqrt(z)",
        "t = Concat<axis=0>(s, s) p = Softmax(t) v = Reshape(p, halves) y = ReduceMean<keepdims=0>(v, front)",
    ],
)
def test_what_is_made_of_softmaxes_over_classes_has_classes(tail):
    proto = linear(tail, halves=np.array([2, -1, 3]), front=np.array([0]))
    del proto.metadata_props[:]
    (head,) = heads(load(proto))
    assert (head.kind, head.assumed) == ("classes", False)
    values = onnxruntime.InferenceSession(proto.SerializeToString()).run(None, {"x": IMAGES})[0]
    found = explainer(proto)(IMAGES)
    assert [each.channel for each in found] == list(values.argmax(1))
    assert all("computed from scores" in each.note for each in found)


def test_coordinates_that_a_softmax_over_places_gives_are_asked_about():
    body = (
        "c = Conv(x, same) f = Reshape(c, flat) p = Softmax<axis=2>(f) a = Mul(p, columns) b = Mul(p, rows) "
        "u = ReduceSum<keepdims=1>(a, last) v = ReduceSum<keepdims=1>(b, last) y = Concat<axis=2>(u, v)"
    )
    places = {"columns": np.float32(np.arange(24) % 6), "rows": np.float32(np.arange(24) // 6)}
    more = {"flat": np.array([0, 4, 24]), "last": np.array([2])}
    proto = model(body, SAME | places | more, "N,3,4,6")
    with pytest.raises(InputError, match="nothing tells what they are: give one as a target"):
        explainer(proto)(IMAGES)
    with pytest.raises(ModelError, match="nothing tells what they are"):
        explain_graph(compile_pair(load(proto), semantics="gradient"))
    # The derivative of a mean over a softmax by its scores: each place's share times how far it is off.
    shares = np.exp(IMAGES[:, 1]) / np.exp(IMAGES[:, 1]).sum((1, 2), keepdims=True)
    across = places["columns"].reshape(4, 6)
    mean = (shares * across).sum((1, 2), keepdims=True)
    found = arrays(explainer(proto)(IMAGES, 1, position=(0,), seed="one"))
    np.testing.assert_allclose(found[:, 1], shares * (across - mean), rtol=1e-4, atol=1e-6)
    assert not found[:, [0, 2]].any()


@pytest.mark.parametrize("count", [34, 51, 66])
def test_the_coordinates_of_a_body_are_asked_about(count):
    proto = model("f = Flatten(x) y = MatMul(f, w)", {"w": random(72, count)}, "N,3,4,6")
    with pytest.raises(InputError, match=f"row of {count} numbers, and nothing tells"):
        explainer(proto)(IMAGES)


@pytest.mark.parametrize(
    ("tail", "sign"),
    [
        ("y = Clip(s, one, two)", 1),
        ("y = HardSigmoid(s)", 1),
        ("q = HardSigmoid(s) y = Sub(one, q)", -1),
        ("y = Hardmax(s)", 1),
        ("q = Hardmax(s) y = Sub(one, q)", -1),
        ("y = Sign(s)", 1),
        ("p = Sigmoid(s) g = Greater(p, half) y = Where(g, one, zero)", 1),
        ("p = Sigmoid(s) g = Greater(p, half) y = Where(g, zero, one)", -1),
    ],
)
def test_what_passes_no_derivative_at_its_bounds_is_cut_off(tail, sign):
    numbers = {"zero": 0, "half": 0.5, "one": 1, "two": 2}
    proto = linear(tail, **{name: np.float32(value) for name, value in numbers.items()})
    for k in range(3):
        expected = np.stack([sign * READER[:, k].reshape(3, 4, 6)] * 2)
        np.testing.assert_allclose(arrays(explainer(proto)(IMAGES, k)), expected)
        np.testing.assert_allclose(in_one_graph(proto, IMAGES, [k]), expected)


def test_a_tanh_is_reached_by_no_number_and_has_its_own_derivative():
    (head,) = heads(load(linear("y = Tanh(s)")))
    assert head.start == "y"


GUARD = (
    "i = IsNaN(v) u = Where(i, nought, v) j = IsInf(u) g = Greater(u, nought) b = And(j, g) "
    "t = Where(b, most, u) k = IsInf(t) h = Less(t, nought) d = And(k, h) y = Where(d, least, t)"
)
"""What PyTorch writes for nan_to_num."""


@pytest.mark.parametrize(
    ("body", "count", "kind"),
    [
        ("v = MatMul(f, w)", 136, "numbers"),
        ("v = MatMul(f, w)", 1, "regression"),
        ("s = MatMul(f, w) v = LpNormalization(s)", 5, "embedding"),
        ("v = MatMul(f, w)", 5, "classes"),
        ("s = MatMul(f, w) v = Softmax(s)", 5, "classes"),
    ],
)
def test_what_keeps_finite_numbers_as_they_are_says_nothing_of_them(body, count, kind):
    bounds = {"nought": np.float32(0), "most": np.float32(3.4e38), "least": np.float32(-3.4e38)}
    weights = {"w": random(72, count)} | bounds
    plain, guarded = (
        model(f"f = Flatten(x) {body} {tail}", weights, "N,3,4,6") for tail in ("y = Identity(v)", GUARD)
    )
    found = [head_of(load(proto)) for proto in (plain, guarded)]
    assert [(each.kind, each.squash, each.assumed) for each in found] == [
        (kind, "together" if "Softmax" in body else None, kind == "classes" and "Softmax" not in body)
    ] * 2
    expected, explained = (arrays(explainer(each)(IMAGES, 0)) for each in (plain, guarded))
    np.testing.assert_allclose(explained, expected, rtol=1e-5)
    if kind != "embedding":
        np.testing.assert_allclose(explained.reshape(2, -1), [weights["w"][:, 0]] * 2, rtol=1e-5)


@pytest.mark.parametrize("condition", ["Greater(v, third)", "Equal(v, third)"])
def test_what_is_kept_by_its_size_is_picked(condition):
    numbers = {"third": np.float32(1 / 3), "least": np.float32(-1e9)}
    body = f"f = Flatten(x) v = MatMul(f, w) c = {condition} y = Where(c, v, least)"
    (found,) = heads(load(model(body, {"w": random(72, 136)} | numbers, "N,3,4,6")))
    assert (found.kind, found.start) == ("classes", "v")


@pytest.mark.parametrize("name", ["bbox", "boxes", "landmarks"])
def test_a_name_tells_that_what_a_sigmoid_gives_is_no_class(name):
    weights, image = {"v": random(72, 4), "w": random(72, 5)}, np.ones((1, 3, 4, 6), np.float32)
    alone = model(f"f = Flatten(x) b = MatMul(f, v) {name} = Sigmoid(b)", weights, "N,3,4,6", name)
    assert (explainer(alone).head.kind, explainer(alone).head.by_name) == ("regression", True)
    with pytest.raises(InputError, match="4 quantities, none of which comes first: give one as a target"):
        explainer(alone)(image)
    (one,) = explainer(alone)(image, 2)
    np.testing.assert_allclose(one.reconstruction.ravel(), weights["v"][:, 2])
    with pytest.raises(ModelError, match="several quantities, none of which comes first"):
        explain_graph(compile_pair(load(alone)))
    # Beside it stand scores.
    body = f"f = Flatten(x) b = MatMul(f, v) {name} = Sigmoid(b) s = MatMul(f, w) y = Softmax(s)"
    (one,) = explainer(model(body, weights, "N,3,4,6", f"{name} y"))(image)
    strongest = weights["w"].sum(axis=0).argmax()
    assert one.channel == strongest
    np.testing.assert_allclose(one.reconstruction.ravel(), weights["w"][:, strongest])


@pytest.mark.parametrize("steps", ["y = Sigmoid(s)", "p = Sigmoid(s) c = Greater(p, half) y = Cast<to=1>(c)"])
def test_what_a_sigmoid_gives_has_classes_where_nothing_says_that_it_has_none(steps):
    proto = linear(steps, half=np.float32(0.5))
    assert head_of(load(proto)).kind == "classes"


@pytest.mark.parametrize("along", [1, 2])
@pytest.mark.parametrize("last", ["y = Flatten(c)", "y = Reshape(c, eight)"])
@pytest.mark.parametrize("batch", ["N", "1"])
def test_sigmoids_that_were_stacked_and_laid_out_in_a_row_have_one_score_each(along, last, batch):
    weights = {"v": random(72, 4), "w": random(72, 4, seed=1)}
    body = (
        "f = Flatten(x) s = MatMul(f, v) p = Sigmoid(s) t = MatMul(f, w) q = Sigmoid(t) "
        f"a = Unsqueeze(p, along) b = Unsqueeze(q, along) c = Concat<axis={along}>(a, b) {last}"
    )
    proto = model(body, weights | {"along": np.array([along]), "eight": np.array([-1, 8])}, f"{batch},3,4,6")
    columns = np.stack([weights["v"], weights["w"]], along).reshape(72, 8)
    asked, image = explainer(proto), IMAGES[:1]
    for target in range(8):
        (one,) = asked(image, target)
        np.testing.assert_allclose(one.reconstruction.ravel(), columns[:, target])
    (one,) = asked(image)
    assert one.channel == (image.reshape(1, 72) @ columns).argmax()
    np.testing.assert_allclose(one.reconstruction.ravel(), columns[:, one.channel])
    np.testing.assert_allclose(in_one_graph(proto, image).ravel(), columns[:, one.channel], rtol=1e-5)


def test_sigmoids_that_were_stacked_are_asked_about():
    body = (
        "f = Flatten(x) s = MatMul(f, v) p = Sigmoid(s) n = Neg(s) q = Sigmoid(n) "
        "a = Unsqueeze(p, one) b = Unsqueeze(q, one) y = Concat<axis=1>(a, b)"
    )
    proto = model(body, {"v": random(72, 4), "one": np.array([1])}, "N,3,4,6")
    with pytest.raises(InputError, match="nothing tells what they are: give one as a target"):
        explainer(proto)(IMAGES)
    with pytest.raises(ModelError, match="nothing tells what they are"):
        explain_graph(compile_pair(load(proto), semantics="gradient"))


# --- a segmenter that draws: each class has a colour ------------------------------------------------

PAINTED = {
    "NHWC": "y = Gather(colours, a)",
    "NCHW": "p = Gather(colours, a) y = Transpose<perm=[0,3,1,2]>(p)",
    "shares": "p = Gather(colours, a) t = Transpose<perm=[0,3,1,2]>(p) y = Div(t, most)",
    "whole numbers": "b = Cast<to=2>(colours) y = Gather(b, a)",
    "by coordinates": "u = Unsqueeze(a, last) y = GatherND(colours, u)",
    "blue first": "p = Gather(colours, a) y = Slice(p, end, start, last, back)",
}


@pytest.mark.parametrize("classes", [3, 5])
@pytest.mark.parametrize("painted", PAINTED)
def test_a_painted_segmentation_is_explained_from_the_scores_of_its_classes(painted, classes):
    """The colours take no part: it is explained as the numbers of the classes are."""
    weights = {
        "k": random(classes, 3, 1, 1), "colours": np.float32(np.arange(classes * 3).reshape(classes, 3) * 16),
        "most": np.float32([255]), "last": np.array([-1]), "end": np.array([-1]), "start": np.array([-4]),
        "back": np.array([-1]),
    }  # fmt: skip
    body = "c = Conv(x, k) a = ArgMax<axis=1, keepdims=0>(c)"
    feeds = random(2, 3, 6, 7)
    plain = Explainer(model(f"{body} y = Cast<to=1>(a)", weights, "N,3,6,7"), "gradient", providers="cpu")
    proto = model(f"{body} {PAINTED[painted]}", weights, "N,3,6,7")
    if painted == "whole numbers":
        proto.graph.output[0].type.tensor_type.elem_type = onnx.TensorProto.UINT8
    ask = Explainer(proto, "gradient", providers="cpu")
    assert (ask.head.kind, ask.head.start) == ("class map", "c")
    for target, position in ((None, None), (1, None), (2, (3, 4)), (1, "region")):
        for found, wanted in zip(
            ask(feeds, target, position=position), plain(feeds, target, position=position), strict=True
        ):
            assert found.channel == wanted.channel
            np.testing.assert_array_equal(found.reconstruction, wanted.reconstruction)
    (one,) = ask(feeds[:1], 2, position=(3, 4))
    expected = np.zeros((3, 6, 7))
    expected[:, 3, 4] = weights["k"][2, :, 0, 0]
    np.testing.assert_allclose(one.reconstruction, expected, atol=1e-6)
    own = plain(feeds, 1)
    np.testing.assert_allclose(in_one_graph(proto, feeds, [1, 1]), arrays(own), atol=1e-6)
