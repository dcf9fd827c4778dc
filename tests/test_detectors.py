"""Detectors whose graphs pick their boxes, on networks whose explanations are known without running them.

A class fires on bright cells of 4×4 pixels, another on dark ones: their scores before a sigmoid are ten times
the mean of a cell's pixels less five, and minus that.
"""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from cells import SCENE, cell, scene
from commands import run
from onnx import TensorProto, helper, numpy_helper
from small_networks import model, random

from onnx_deconv import Explainer, InputError, ModelError, compile_pair, explain_graph, load, save
from onnx_deconv.compiler.backward import RECONSTRUCTION
from onnx_deconv.compiler.explain_manifest import own_top
from onnx_deconv.compiler.inspection import inspect_model
from onnx_deconv.imaging import save_png
from onnx_deconv.model.heads import head_of, heads
from onnx_deconv.runtime import Session, numpy_of

PIXELS = np.full((2, 1, 4, 4), 10 / 16, np.float32) * np.float32([1, -1])[:, None, None, None]
CORNERS = np.float32([[4 * c, 4 * r, 4 * c + 4, 4 * r + 4] for r in range(4) for c in range(4)])
WEIGHTS = {
    "k": PIXELS, "o": np.float32([-5, 5]), "corners": CORNERS.T[None], "flat": np.array([0, 2, -1]),
    "zero": np.float32(0), "one": np.float32(1), "third": np.float32(0.3), "tiny": np.float32(1e-6),
    "far": np.float32(1e4), "five": np.array([5]), "two": np.array(2), "each": np.array(5),
    "last": np.array([2]),
    "second": np.array([1]), "first": np.array([0]), "parts": np.array([4, 2]), "by2": np.array([1, 1, 2]),
    "by4": np.array([1, 1, 4]), "all": np.array([0, -1]), "many": np.array([100]),
    "iou": np.float32([0.45]), "least": np.float32([0.25]), "place": np.array([0, 2]), "image": np.array([0]),
    "kind": np.array([1]), "zeroth": np.array(0), "middle": np.float32(np.eye(4)), "size": np.float32(1 / 16),
    "background": np.array([3]), "sixteen": np.array(16), "none": np.array([-1]),
    "ring": np.array([0, 0, 1, 0, 0, 0, 0, 0]), "four": np.array([4]),
    "beyond": np.array([0, 0, 0, 0, 50, 0]),
}  # fmt: skip
MAPS = "c = Conv<strides=[4,4]>(x, k, o)"
HEAT = f"{MAPS} s = Sigmoid(c) m = MaxPool<kernel_shape=[3,3],pads=[1,1,1,1],strides=[1,1]>(s)"
PEAKS = {
    "equal": "e = Equal(s, m) f = Cast<to=1>(e) y = Mul(s, f)",
    "equal, the other way": "e = Equal(m, s) f = Cast<to=1>(e) y = Mul(f, s)",
    "where": "e = Equal(s, m) y = Where(e, s, zero)",
    "masked": "e = Equal(s, m) n = Not(e) y = Where(n, zero, s)",
    "not below": "e = GreaterOrEqual(s, m) f = Cast<to=1>(e) y = Mul(s, f)",
    "not far": "d = Sub(m, s) a = Abs(d) e = Less(a, tiny) f = Cast<to=1>(e) y = Mul(s, f)",
    "ceil": "d = Sub(m, s) u = Ceil(d) f = Sub(one, u) y = Mul(s, f)",
    "sign": "d = Sub(m, s) u = Sign(d) f = Sub(one, u) y = Mul(s, f)",
    "threshold too": "e = Equal(s, m) g = Greater(s, third) a = And(e, g) f = Cast<to=1>(a) y = Mul(s, f)",
    "pushed away": "e = Equal(s, m) n = Not(e) f = Cast<to=1>(n) p = Mul(f, far) y = Sub(s, p)",
    "where alone": "e = Equal(s, m) y = Cast<to=1>(e)",
    "where above a threshold": (
        "e = GreaterOrEqual(s, m) g = Greater(s, third) a = And(e, g) n = Not(a) l = Not(n) y = Cast<to=1>(l)"
    ),
    "above its neighbours": (
        "w = Pad(s, ring) u = Slice(w, first, four, last) e = Greater(s, third) "
        "g = GreaterOrEqual(s, u) a = And(e, g) y = Cast<to=1>(a)"
    ),
    "by a whole number": "e = Equal(s, m) i = Cast<to=6>(e) f = Cast<to=1>(i) y = Mul(s, f)",
}
BEST = "l = Reshape(y, flat) v, i = TopK(l, five) a = Reshape(v, all) z, j = TopK(a, five)"
BEHIND = {
    "NHWC": ("z = Transpose<perm=[0,2,3,1]>(y)", "z"),
    "best of each class": ("l = Reshape(y, flat) z, i = TopK(l, five)", "z"),
    "best of all": (BEST, "z"),
    "classes of the best": (f"{BEST} h = Div(j, each)", "h"),
    "places of the best": (
        f"{BEST} p = Mod(i, sixteen) g = Reshape(p, all) h = GatherElements<axis=1>(g, j)", "h",
    ),
    "threshold": ("g = Greater(y, third) z = Cast<to=1>(g)", "z"),
    "largest": ("z = ReduceMax<keepdims=0>(y, second)", "z"),
}  # fmt: skip


def explainer(proto, **more):
    return Explainer(proto, "gradient", providers="cpu", **more)


def named(proto, *labels):
    if labels:
        proto.metadata_props.add(key="labels", value=json.dumps(labels))
    return proto


def net(body, outputs="y", shape="N,1,16,16", labels=("bright", "dark"), whole=(), **more):
    proto = model(body, WEIGHTS | more, shape, outputs)
    for output in proto.graph.output:
        if output.name in whole:
            output.type.tensor_type.elem_type = TensorProto.INT64
    return named(proto, *labels)


BRIGHT = np.concatenate([cell(1, 2, 4 * 10 / 16) + cell(3, 0, 2 * 10 / 16), cell(0, 3, 3 * 10 / 16)])
"""What the map of the class bright is made of, where it is positive before the sigmoid."""


def arrays(found):
    return np.stack([e.reconstruction for e in found])


def in_all_three(proto, images, tmp_path, target=None):
    """Explain by the library, a saved pair and an explain graph, which have to agree."""
    own = explainer(proto)(images, target)
    save(compile_pair(load(proto), semantics="gradient"), tmp_path / "pair")
    pair = explainer(tmp_path / "pair")(images, target)
    np.testing.assert_array_equal(arrays(pair), arrays(own))
    graph = explain_graph(compile_pair(load(proto), semantics="gradient"))
    asked = {} if target is None else {"target": np.array([own[0].channel] * len(images))}
    found = Session(graph.proto, graph.folder, "cpu").run(own_top(graph.manifest) | {"x": images} | asked)
    np.testing.assert_allclose(numpy_of(found[RECONSTRUCTION]), arrays(own), atol=1e-6)
    return own


# --- centres: local maxima of a map keep their value -------------------------------------------------


@pytest.mark.parametrize("opset", [12, 18])
@pytest.mark.parametrize("peaks", PEAKS)
def test_local_maxima_are_traced_to_the_scores_before_the_sigmoid(peaks, opset, tmp_path):
    proto = net(f"{HEAT} {PEAKS[peaks]}")
    proto.opset_import[0].version = opset
    (head,) = heads(load(proto))
    assert (head.kind, head.start, head.seed) == ("class map", "c", "present")
    assert head.cut[-1].startswith("Sigmoid")
    found = in_all_three(proto, SCENE, tmp_path, "bright")
    np.testing.assert_allclose(arrays(found), BRIGHT, atol=1e-6)


@pytest.mark.parametrize("behind", BEHIND)
def test_what_is_picked_of_local_maxima_is_traced_to_them(behind, tmp_path):
    more, output = BEHIND[behind]
    proto = net(f"{HEAT} {PEAKS['equal']} {more}", output, whole=("h",))
    (head,) = heads(load(proto))
    assert (head.kind, head.start) == ("class map", "c")
    found = in_all_three(proto, SCENE, tmp_path, "bright")
    np.testing.assert_allclose(arrays(found), BRIGHT, atol=1e-6)


@pytest.mark.parametrize(
    ("tail", "start"),
    [
        # A product of two maps that both carry a derivative is no condition; nor is a number that is counted.
        ("t = Tanh(c) y = Mul(s, t)", "y"),
        ("d = Sub(m, s) y = Mul(s, d)", "y"),
        # Without a sigmoid, too, what is kept only where it is largest is picked.
        ("p = MaxPool<kernel_shape=[3,3],pads=[1,1,1,1]>(c) e = Equal(c, p) y = Where(e, c, zero)", "c"),
        # Where one map is larger than another says nothing of either alone.
        ("e = Greater(c, m) y = Cast<to=1>(e)", "y"),
        ("t = Conv<strides=[4,4]>(x, k) e = Greater(c, t) y = Cast<to=1>(e)", "y"),
        # What falls where it is kept is not kept.
        ("e = Equal(s, m) f = Cast<to=1>(e) n = Neg(f) y = Mul(s, n)", "y"),
    ],
)
def test_only_a_condition_keeps_what_it_is_multiplied_by(tail, start):
    assert head_of(load(net(f"{HEAT} {tail}"))).start == start


@pytest.mark.parametrize("row", ["u, w", "u, w, v"])
def test_coordinates_of_the_largest_number_are_traced_to_its_map(row, tmp_path):
    """Keypoints: for each map the column and the row of its largest number, with or without the number."""
    body = f"""
        {MAPS} l = Reshape(c, flat) i = ArgMax<axis=2>(l) n = Cast<to=1>(i) v = ReduceMax(l, last)
        col = Mod(i, fours) u = Cast<to=1>(col) line = Div(i, fours) w = Cast<to=1>(line)
        y = Concat<axis=2>({row})
    """
    proto = net(body, fours=np.array(4), labels=())
    (head,) = heads(load(proto))
    assert (head.kind, head.start, head.axes.order) == ("class map", "c", [0, 1, 2, 3])
    found = in_all_three(proto, SCENE[:1], tmp_path, 0)
    logits = 10 * SCENE[:1].reshape(1, 1, 4, 4, 4, 4).mean(axis=(3, 5)) - 5
    expected = np.kron(logits * 10 / 16, np.ones((4, 4)))
    np.testing.assert_allclose(arrays(found), expected, atol=1e-5)


# --- rows of boxes: corners, score, class ------------------------------------------------------------

ALL = f"""
    {MAPS} r = Reshape(c, flat) s = Sigmoid(r) w = Slice(s, first, second, second) n = Mul(w, zero)
    around = Add(n, corners) joined = Concat<axis=1>(around, s) p = Transpose<perm=[0,2,1]>(joined)
    b, t = Split<axis=2>(p, parts)
"""
"""Boxes and probabilities of both classes, N×16×6, in one value."""
APART = f"""
    {MAPS} r = Reshape(c, flat) q = Transpose<perm=[0,2,1]>(r) t = Sigmoid(q)
    w = Slice(r, first, second, second) n = Mul(w, zero) around = Add(n, corners)
    turned = Transpose<perm=[0,2,1]>(around) b = MatMul(turned, middle)
"""
"""Boxes and probabilities, N×16×4 and N×16×2, of which no value holds both."""
TWICE = """
    best = ReduceMax<keepdims=0>(t, last) v0, i0 = TopK<axis=1>(best, five) u0 = Unsqueeze(i0, last)
    at4 = Tile(u0, by4) at2 = Tile(u0, by2) b0 = GatherElements<axis=1>(b, at4)
    t0 = GatherElements<axis=1>(t, at2) f = Flatten(t0) v, i = TopK(f, five) cls = Mod(i, two)
    box = Div(i, two) u = Unsqueeze(box, last) at = Tile(u, by4) boxes = GatherElements<axis=1>(b0, at)
"""
"""As YOLO v10 does: the boxes whose best class is strongest, and of all their classes the strongest."""
ONCE = """
    f = Flatten(t) v, i = TopK(f, five) box = Div(i, two) back = Mul(box, two) cls = Sub(i, back)
    u = Unsqueeze(box, last) at = Tile(u, by4) boxes = GatherElements<axis=1>(b, at)
"""
"""As RT-DETR does: of all classes of all boxes the strongest."""
OF_EACH = """
    best = ReduceMax<keepdims=0>(t, last) v, i = TopK<axis=1>(best, five) u = Unsqueeze(i, last)
    at = Tile(u, by4) boxes = GatherElements<axis=1>(b, at) a = ArgMax<axis=2,keepdims=0>(t)
    cls = GatherElements<axis=1>(a, i)
"""
"""The best class of each box, and the boxes where it is strongest."""
NMS = """
    tt = Transpose<perm=[0,2,1]>(t) sel = NonMaxSuppression(b, tt, many, iou, least)
    bi = Gather<axis=1>(sel, place) boxes = GatherND(b, bi) v = GatherND(tt, sel)
    ci = Gather<axis=1>(sel, kind) cls = Squeeze(ci, second) img = Gather<axis=1>(sel, image)
"""
"""Boxes that do not overlap a stronger one of their class, without an axis for the images."""
ROW = "cf = Cast<to=1>(cls) cu = Unsqueeze(cf, none) vu = Unsqueeze(v, none)"
SIX = f"{ROW} y = Concat<axis=2>(boxes, vu, cu)"
SEVEN = f"{ROW} imgf = Cast<to=1>(img) y = Concat<axis=1>(imgf, boxes, cu, vu)"
ROWS = {
    "v10": f"{ALL} {TWICE} {SIX}", "best class": f"{ALL} {OF_EACH} {SIX}", "of all": f"{ALL} {ONCE} {SIX}",
    "v10, apart": f"{APART} {TWICE} {SIX}", "DETR": f"{APART} {ONCE} {SIX}",
    "best class, apart": f"{APART} {OF_EACH} {SIX}",
    "of all, padded": f"{ALL} {ONCE} {SIX.replace('y =', 'r_ =')} y = Pad(r_, beyond)",
    "NMS": f"{ALL} {NMS} {SEVEN}", "NMS, apart": f"{APART} {NMS} {SEVEN}",
}  # fmt: skip


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


@pytest.mark.parametrize("labels", [("bright", "dark"), ()])
@pytest.mark.parametrize("rows", ROWS)
def test_rows_of_picked_boxes_are_explained_from_the_scores_of_all(rows, labels, tmp_path):
    """Names are not needed to tell which numbers are the classes': two of them are no two more fields."""
    proto = net(ROWS[rows], labels=labels)
    (head,) = heads(load(proto))
    apart = "apart" in rows or rows == "DETR"
    assert (head.kind, head.start) == ("detections", "q" if apart else "p/scores")
    assert head.cut[-1] == "Sigmoid " + ("t" if apart else "s")
    found = in_all_three(proto, SCENE, tmp_path)
    # Of the first image a bright cell is the strongest, of the second a dark one.
    expected = np.concatenate([cell(1, 2, 10 / 16), cell(2, 2, -10 / 16)])
    np.testing.assert_allclose(arrays(found), expected, atol=1e-6)
    assert [(e.channel, e.position) for e in found] == [(0, (6,)), (1, (10,))]
    assert [e.label for e in found] == list(labels or (None, None))
    second = in_all_three(proto, SCENE[:1], tmp_path / "dark", 1)
    assert second[0].position == (0,)
    ask = explainer(proto)
    assert [e.position for e in ask(SCENE[:1], f"{labels[0]}#2" if labels else "0#2")] == [(12,)]
    if apart:
        with pytest.raises(ModelError, match="name a class and a rank"):
            ask(SCENE, "at 9,5")
    else:
        assert ask(SCENE[:1], "at 9,5")[0].position == (6,)
        assert ask(SCENE[:1], "0 at 1,13" if not labels else "bright at 1,13")[0].position == (12,)


@pytest.mark.parametrize("labels", [("bright",), ()])
@pytest.mark.parametrize("rows", ROWS)
def test_rows_of_one_class_are_told_too(rows, labels, tmp_path):
    """The best of one class is itself."""
    alone = {
        "k": PIXELS[:1], "o": np.float32([-5]), "flat": np.array([0, 1, -1]), "parts": np.array([4, 1]),
        "by2": np.array([1, 1, 1]), "two": np.array(1),
    }  # fmt: skip
    found = in_all_three(net(ROWS[rows], labels=labels, **alone), SCENE, tmp_path)
    expected = np.concatenate([cell(1, 2, 10 / 16), cell(0, 3, 10 / 16)])
    np.testing.assert_allclose(arrays(found), expected, atol=1e-6)
    assert [(e.channel, e.position) for e in found] == [(0, (6,)), (0, (3,))]


@pytest.mark.parametrize("rows", ["v10", "DETR", "NMS"])
def test_the_score_of_a_picked_box_is_found_among_all(rows):
    found = explainer(net(ROWS[rows]))(SCENE, top=2)
    best = sigmoid(4) if rows != "DETR" else 4
    np.testing.assert_allclose([e.score for e in found if e.position in ((6,), (10,))], best, rtol=1e-6)


# --- boxes, scores and classes as outputs of their own ------------------------------------------------

THREE = {"DETR": ONCE, "best class": OF_EACH, "v10": TWICE, "NMS": NMS}


@pytest.mark.parametrize("output", [None, "v", "cls"])
@pytest.mark.parametrize("picking", THREE)
def test_scores_and_classes_of_picked_boxes_lead_to_the_scores_of_all(picking, output, tmp_path):
    proto = net(f"{APART} {THREE[picking]}", "boxes v cls", whole=("cls",))
    told = {h.output: h for h in heads(load(proto))}
    assert {name: h.kind for name, h in told.items()} == dict.fromkeys(told, "detections")
    assert (told["v"].start, told["cls"].start, told["boxes"].boxes.part) == ("q", "q", "boxes")
    assert head_of(load(proto)).output == "v"
    ask = explainer(proto, output=output)
    np.testing.assert_allclose(
        arrays(ask(SCENE, "bright")), 10 * np.concatenate([cell(1, 2), cell(0, 3)]), atol=1e-6
    )
    found = in_all_three(proto, SCENE, tmp_path)
    assert [(e.label, e.position) for e in found] == [("bright", (6,)), ("dark", (10,))]
    with pytest.raises(InputError, match="holds boxes, whose scores another output holds"):
        explainer(proto, output="boxes")(SCENE)


@pytest.mark.parametrize("output", [None, "v", "cls"])
def test_a_detector_of_one_image_without_an_axis_for_it(output, tmp_path):
    """As torchvision writes detectors: D boxes, D classes and D scores."""
    body = (
        f"w_ = Unsqueeze(x, first) {APART.replace('Conv<strides=[4,4]>(x,', 'Conv<strides=[4,4]>(w_,')} {NMS}"
    )
    proto = net(body, "boxes v cls", "1,16,16", whole=("cls",))
    ask = explainer(proto, output=output)
    assert (ask.head.output, ask.head.kind, ask.head.start) == (output or "v", "detections", "q")
    found = in_all_three(proto, SCENE[:1], tmp_path)
    assert [(e.label, e.position) for e in found] == [("bright", (6,))]
    np.testing.assert_allclose(arrays(found), 10 * cell(1, 2), atol=1e-6)
    assert [(e.label, e.position) for e in ask(SCENE)] == [("bright", (6,)), ("dark", (10,))]
    np.testing.assert_array_equal(arrays(ask(SCENE[0])), arrays(found))
    with pytest.raises(InputError, match="holds boxes, whose scores another output holds"):
        explainer(proto, output="boxes")(SCENE[0])


def kept(name, scores):
    """As torchvision picks the best of some scores: those above a threshold, and of these the largest."""
    return f"""
        e{name} = Greater({scores}, third) n{name} = NonZero(e{name}) t{name} = Transpose(n{name})
        g{name} = GatherND({scores}, t{name}) z{name} = Shape(g{name}) m{name} = Min(z{name}, five)
        v{name}, i{name} = TopK(g{name}, m{name})
    """


def of_level(name, first, end):
    scores = f"""
        l{name} = Slice(q, {first}, {end}, second) o{name} = Gather<axis=0>(l{name}, zeroth)
        p{name} = Sigmoid(o{name}) f{name} = Reshape(p{name}, line)
    """
    return scores + kept(name, f"f{name}")


LOGITS = """
    u = Unsqueeze(x, first) c = Conv<strides=[4,4]>(u, k, o) r = Reshape(c, flat)
    q = Transpose<perm=[0,2,1]>(r) w = Slice(r, first, second, second) n = Mul(w, zero)
    around = Add(n, corners) turned = Transpose<perm=[0,2,1]>(around) boxes = Squeeze(turned, first)
"""
OF_LEVELS = f"{LOGITS} {of_level('a', 'first', 'ten')} {of_level('b', 'ten', 'sixteenth')}"
SHARED = f"""
    {LOGITS} s = Softmax<axis=2>(q) f = Gather<axis=0>(s, zeroth)
    fa = Gather<axis=1>(f, oneth) fb = Gather<axis=1>(f, two) {kept("a", "fa")} {kept("b", "fb")}
"""


@pytest.mark.parametrize("labels", [("bright", "dark"), ()])
@pytest.mark.parametrize(
    ("body", "fields"), [(OF_LEVELS, (0, 2)), (SHARED, (1, 2))], ids=["RetinaNet", "SSD"]
)
def test_scores_that_are_picked_one_by_one_and_joined_are_traced_to_those_of_all(
    body, fields, labels, tmp_path
):
    """Torchvision's detectors pick the best boxes of each map, or of each class beside the background."""
    alone = {"k": np.concatenate([0 * PIXELS[:1], PIXELS]), "o": np.float32([0, -5, 5])} if fields[0] else {}
    more = {
        "flat": np.array([1, 3 if fields[0] else 2, -1]), "ten": np.array([10]), "line": np.array([-1]),
        "sixteenth": np.array([16]), "oneth": np.array(1),
    }  # fmt: skip
    joined = """
        y = Concat<axis=0>(va, vb) whole = Shape(y) best, order = TopK(y, whole) v = Gather<axis=0>(y, order)
    """
    proto = net(
        f"{body} {joined}", "boxes v", "1,16,16", labels, **{"flat": np.array([0, 2, -1])} | more | alone
    )
    head = head_of(load(proto))
    assert (head.output, head.kind, head.start, head.boxes.told) == ("v", "detections", "q", fields)
    for image, channel, cell_of in zip(SCENE, (0, 1), ((1, 2), (2, 2)), strict=True):
        found = in_all_three(proto, image[None], tmp_path / str(channel))
        position = (4 * cell_of[0] + cell_of[1],)
        told = [(e.channel, e.label, e.position) for e in found]
        assert told == [(channel, labels[channel] if labels else None, position)]
        expected = cell(*cell_of, (1 - 2 * channel) * 10 / 16)
        np.testing.assert_allclose(arrays(found), expected, atol=1e-6)
    assert explainer(proto)(SCENE[:1], 1)[0].position == (0,)


@pytest.mark.parametrize("labels", [("bright", "dark"), ()])
def test_a_detector_as_tensorflow_writes_it_is_told_by_its_graph(labels, tmp_path):
    """Boxes, classes that count from 1, scores, and how many; a class is no box's place among the best."""
    body = f"""
        x_ = Transpose<perm=[0,3,1,2]>(x) {APART.replace("Conv<strides=[4,4]>(x,", "Conv<strides=[4,4]>(x_,")}
        {OF_EACH} cf = Cast<to=1>(cls) detection_classes = Add(cf, one) detection_scores = Identity(v)
        detection_boxes = Mul(boxes, size) g = Greater(v, third) gf = Cast<to=1>(g)
        num_detections = ReduceSum<keepdims=0>(gf, second)
    """
    outputs = "detection_boxes detection_classes detection_scores num_detections"
    proto = net(body, outputs, "N,16,16,1", labels)
    images = SCENE.transpose(0, 2, 3, 1)
    for output in (None, "detection_scores", "detection_classes"):
        ask = explainer(proto, output=output)
        assert (ask.head.kind, ask.head.start, ask.classes) == ("detections", "q", 2)
        found = ask(images)
        assert [(e.channel, e.position) for e in found] == [(0, (6,)), (1, (10,))]
        expected = 10 * np.concatenate([cell(1, 2), -cell(2, 2)]).transpose(0, 2, 3, 1)
        np.testing.assert_allclose(arrays(found), expected, atol=1e-6)
    in_all_three(proto, images, tmp_path)


@pytest.mark.parametrize("labels", [("nothing", "dark", "grey"), ("dark", "grey")])
def test_names_may_count_the_background(labels):
    """As torchvision's detectors do: a softmax, of which the first class is dropped, of one image."""
    weights = WEIGHTS | {"k": PIXELS[[0, 1, 1]], "o": np.float32([-5, 5, 4]), "flat3": np.array([0, 3, -1])}
    body = f"""
        {MAPS} r = Reshape(c, flat3) q = Transpose<perm=[0,2,1]>(r) only = Gather<axis=0>(q, zeroth)
        t = Softmax<axis=1>(only) u = Slice(t, second, background, second) f = Reshape(u, none)
        y, i = TopK(f, five)
    """
    proto = named(model(body, weights, "1,1,16,16"), *labels)
    ask = explainer(proto)
    assert (ask.head.kind, ask.head.start, ask.classes) == ("detections", "q", 2)
    (found,) = ask(SCENE[1:])
    assert (found.label, found.position) == ("dark", (10,))
    np.testing.assert_allclose(found.reconstruction, -10 * cell(2, 2)[0], atol=1e-6)
    assert compile_pair(load(proto)).manifest["labels"] == ["dark", "grey"]


def test_the_boxes_of_one_class_are_those_of_a_map():
    proto = net(
        f"{MAPS} w = Slice(c, first, second, second) s = Sigmoid(w) f = Flatten(s) v, i = TopK(f, five)",
        "v", labels=("bright",),
    )  # fmt: skip
    found = explainer(proto)(SCENE)
    assert {e.label for e in found} == {"bright"}
    np.testing.assert_allclose(arrays(found), BRIGHT, atol=1e-6)


NOTHING_AT = {"first": [2, 0, 1], "last": [0, 1, 2]}


@pytest.mark.parametrize("squash", ["t = Softmax<axis=2>(q)", "t = Identity(q)"])
@pytest.mark.parametrize(
    ("where", "outputs"),
    [("first", "boxes t"), ("first", "t boxes"), ("last", "pred_boxes t"), ("last", "t pred_boxes")],
)
def test_boxes_are_ranked_by_the_share_of_a_class_and_never_by_that_of_nothing(
    where, outputs, squash, tmp_path
):
    """The brightest cell has the largest score of bright, and a larger one of being nothing at all."""
    order = NOTHING_AT[where]
    scores = np.concatenate([PIXELS, 3 * PIXELS[:1]])[order], np.float32([-5, 5, -20])[order]
    more = {"k": scores[0], "o": scores[1], "flat3": np.array([0, 3, -1])}
    proto = net(
        f"""{MAPS} r = Reshape(c, flat3) q = Transpose<perm=[0,2,1]>(r) {squash}
            w = Slice(r, first, second, second) n = Mul(w, zero) around = Add(n, corners)
            boxes = Transpose<perm=[0,2,1]>(around) pred_boxes = Identity(boxes)""",
        outputs, **more,
    )  # fmt: skip
    found = in_all_three(proto, SCENE, tmp_path, 0)
    # The first image's bright cells have 4 and 2, where nothing has 7 and 1: shares of 0.05 and 0.72.
    assert [(e.label, e.position) for e in found] == [("bright", (12,)), ("bright", (3,))]
    expected = 10 * np.concatenate([cell(3, 0), cell(0, 3)])
    np.testing.assert_allclose(arrays(found), expected, atol=1e-6)
    shares = explainer(proto).scores(SCENE[:1])[0]
    values = np.exp([1, 2, -2])
    assert shares[0] == pytest.approx(values[1] / values.sum(), rel=1e-5)
    assert [e.position for e in explainer(proto)(SCENE[:1], "bright#2")] == [(6,)]
    assert [e.position for e in explainer(proto)(SCENE[1:], "dark")] == [(10,)]


@pytest.mark.parametrize("labels", [(), ("bright", "dark")])
@pytest.mark.parametrize(
    ("squash", "cells"), [("Softmax<axis=2>", [(3, 0), (0, 3)]), ("Sigmoid", [(1, 2), (0, 3)])]
)
@pytest.mark.parametrize("where", NOTHING_AT)
def test_what_stands_for_nothing_may_be_cut_off_behind_the_probabilities(
    where, squash, cells, labels, tmp_path
):
    """As SSD's and DETR's files drop it: the others stay what they are, and boxes are ranked as before."""
    order = NOTHING_AT[where]
    scores = np.concatenate([PIXELS, 3 * PIXELS[:1]])[order], np.float32([-5, 5, -20])[order]
    start = np.array([int(where == "first")])
    more = {"k": scores[0], "o": scores[1], "flat3": np.array([0, 3, -1]), "from": start, "to": start + 2}
    more["fields"] = np.array([2])
    proto = net(
        f"""{MAPS} r = Reshape(c, flat3) q = Transpose<perm=[0,2,1]>(r) p = {squash}(q)
            t = Slice(p, from, to, fields) w = Slice(r, first, second, second) n = Mul(w, zero)
            around = Add(n, corners) boxes = Transpose<perm=[0,2,1]>(around)""",
        "boxes t", labels=labels, **more,
    )  # fmt: skip
    found = in_all_three(proto, SCENE, tmp_path, 0)
    assert [e.position for e in found] == [(4 * y + x,) for y, x in cells]
    np.testing.assert_allclose(arrays(found), 10 * np.concatenate([cell(*at) for at in cells]), atol=1e-6)


@pytest.mark.parametrize(
    ("outputs", "labels", "said"),
    [
        ("boxes t", (), "field 0 is assumed"), ("pred_boxes t", (), "field 2 is assumed"),
        ("boxes t", ("bright", "dark"), None),
    ],
)  # fmt: skip
def test_inspect_says_which_field_is_assumed_to_stand_for_nothing(outputs, labels, said):
    body = f"""{MAPS} r = Reshape(c, flat3) q = Transpose<perm=[0,2,1]>(r) t = Softmax<axis=2>(q)
        p = MatMul(q, four_of) boxes = Identity(p) pred_boxes = Identity(p)"""
    more = {"k": PIXELS[[0, 1, 1]], "o": np.float32([-5, 5, 4]), "flat3": np.array([0, 3, -1])}
    proto = net(body, outputs, labels=labels, four_of=np.ones((3, 4), np.float32), **more)
    told = next(each.targets for each in inspect_model(load(proto)).heads if each.output == "t")
    assert (said in told) if said else ("assumed" not in told)


@pytest.mark.parametrize(
    ("outputs", "chosen"),
    [
        ("wh peaks reg", "peaks"), ("reg wh", "reg"), ("wh hm", "hm"), ("wh c", "wh"),
        ("box0 cls0 box1 cls1", "cls0"), ("wh p e", "p"), ("e wh p", "p"), ("e wh", "e"), ("picture p", "p"),
        ("picture hm", "hm"), ("p peaks", "p"), ("c picks", "picks"), ("hm p", "hm"),
    ],
)  # fmt: skip
def test_the_output_that_is_said_to_hold_scores_comes_first(outputs, chosen):
    """Maps of sizes and offsets, images and embeddings come behind scores, wherever they stand."""
    body = f"""{MAPS} peaks = Sigmoid(c) wh = Neg(c) reg = Mul(c, third) hm = Identity(c) box0 = Identity(c)
        box1 = Mul(c, third) cls0 = Identity(c) cls1 = Mul(c, third) a = GlobalAveragePool(c) g = Flatten(a)
        p = Softmax<axis=1>(g) e = LpNormalization<axis=1>(g) picture = Conv<pads=[1,1,1,1]>(x, k3)
        picks = ArgMax<axis=1,keepdims=0>(c)"""
    counted = ("picks",) if "picks" in outputs else ()
    proto = net(body, outputs, labels=(), whole=counted, k3=np.ones((1, 1, 3, 3), np.float32))
    assert head_of(load(proto)).output == chosen
    if chosen == "peaks":
        np.testing.assert_allclose(arrays(explainer(proto)(SCENE, 0)), BRIGHT, atol=1e-6)


@pytest.mark.parametrize("gain", [2, 100])
def test_a_signal_that_dies_at_a_full_probability_is_said_to_with_the_way_out(gain):
    """A Split behind which one part is dead counts as dead: the Sigmoid is named, no Relu below."""
    body = f"{MAPS} a = Relu(c) g = Mul(a, gain) " + ALL.replace(MAPS, "").replace("(c, flat)", "(g, flat)")
    body += " f = Identity(p) boxes, scores = Split<axis=2>(f, parts) y = Concat<axis=2>(boxes, scores)"
    ask = explainer(net(body, gain=np.float32(gain)))
    (found,) = ask(SCENE[:1], "bright")  # before the Sigmoid none dies
    np.testing.assert_allclose(found.reconstruction, cell(1, 2, gain * 10 / 16)[0], rtol=1e-5)
    assert found.score == pytest.approx(sigmoid(4 * gain), rel=1e-6)
    (found,) = ask(SCENE[:1], 4, layer="y", position=found.position, seed="one")
    if gain == 2:  # sigmoid(8)
        slope = gain * 10 / 16 * sigmoid(8) * (1 - sigmoid(8))
        np.testing.assert_allclose(found.reconstruction, cell(1, 2, slope)[0], rtol=1e-3, atol=1e-8)
        assert "died" not in (found.note or "")
        return
    assert found.is_empty
    assert "the signal of 'y' (seed one) died at 's'" in found.note
    assert "explain the layer 'r' before it" in found.note


# --- probabilities and boxes in one value, as YOLO writes them -----------------------------------------

SURE = 100
"""Times its slope a class's score is so large that its sigmoid is 1 to the last digit."""
FINE = np.zeros((7, 1, 2, 2), np.float32)
COARSE = np.zeros((7, 1, 4, 4), np.float32)
for kernel_, area in ((FINE, 4), (COARSE, 16)):
    kernel_[[4, 5, 6]] = np.reshape(np.float32([0.5, 1, -1]) * SURE / area, (3, 1, 1, 1))
LEVELS = {
    "fine": FINE, "coarse": COARSE, "bf": np.float32([0, 0, 0, 0, -46, -100, -100]),
    "bc": np.float32([0, 0, 0, 0, -20, -40, 40]), "rows": np.array([0, 7, -1]), "to4": np.array([4, 3]),
    "to2": np.array([2, 2, 3]), "to7": np.array([4, 1, 2]), "eight": np.float32(8), "half": np.float32(0.5),
    "at4": np.array([4]), "at5": np.array([5]), "at7": np.array([7]), "at0": np.array([0]),
    "size_": np.float32([[[16], [16], [16], [16], [1], [1], [1]]]), "only": np.array([4, 3]),
    "box": np.array([[0], [1], [2], [3]]),
}  # fmt: skip
"""Cells of 4×4 pixels, and of 2×2 which have no class: four numbers of a box, objectness, bright, dark."""
TWO = "f = Conv<strides=[2,2]>(x, fine, bf) c = Conv<strides=[4,4]>(x, coarse, bc)"


def decoded(level):
    """A level of YOLO v5: a sigmoid of all fields, of which some become a box."""
    return f"""
        {level}r = Reshape({level}, rows) {level}t = Transpose<perm=[0,2,1]>({level}r)
        {level}s = Sigmoid({level}t)
        {level}xy, {level}wh, {level}p = Split<axis=2>({level}s, to2) {level}m = Mul({level}xy, eight)
        {level}sh = Sub({level}m, half) {level}sq = Mul({level}wh, {level}wh)
        {level}y = Concat<axis=2>({level}sh, {level}sq, {level}p)
    """


def beside(level):
    """A level of YOLOX: the sigmoids alone stand beside a box."""
    return f"""
        {level}b, {level}o, {level}k = Split<axis=1>({level}, to7) {level}so = Sigmoid({level}o)
        {level}sk = Sigmoid({level}k) {level}j = Concat<axis=1>({level}b, {level}so, {level}sk)
        {level}y = Reshape({level}j, rows)
    """


YOLO = {
    "v5": f"{TWO} {decoded('f')} {decoded('c')} y = Concat<axis=1>(fy, cy)",
    "X": f"""{TWO} {beside("f")} {beside("c")} l = Concat<axis=2>(fy, cy) t = Transpose<perm=[0,2,1]>(l)
        w, p = Split<axis=2>(t, only) d = Exp(w) y = Concat<axis=2>(d, p)""",
    "v8 with an objectness": f"""{TWO} fr = Reshape(f, rows) cr = Reshape(c, rows) l = Concat<axis=2>(fr, cr)
        w, q = Split<axis=1>(l, only) d = Mul(w, eight) p = Sigmoid(q) y = Concat<axis=1>(d, p)""",
    "in pixels": f"""{TWO} {beside("f")} {beside("c")} l = Concat<axis=2>(fy, cy) y = Mul(l, size_)""",
    "quantised": f"""{TWO} {beside("f")} {beside("c")} l = Concat<axis=2>(fy, cy)
        q = QuantizeLinear(l, step, zero8) y = DequantizeLinear(q, step, zero8)""",
    "in place": f"""{TWO} fr = Reshape(f, rows) cr = Reshape(c, rows) l = Concat<axis=2>(fr, cr)
        s = Sigmoid(l) w = Slice(s, at0, at4, second) d = Mul(w, eight) t = Transpose<perm=[1,2,0]>(s)
        u = Transpose<perm=[1,2,0]>(d) z = ScatterND(t, box, u) y = Transpose<perm=[2,0,1]>(z)""",
    "sliced and joined": f"""{TWO} {beside("f")} {beside("c")} l = Concat<axis=2>(fy, cy)
        w = Slice(l, at0, at4, second) p = Slice(l, at4, at7, second) y = Concat<axis=1>(w, p)""",
}  # fmt: skip


@pytest.mark.parametrize("form", YOLO)
def test_boxes_beside_sure_probabilities_are_explained_from_before_the_sigmoids(form, tmp_path):
    """Of the bright cell the objectness, 50·0.9 - 20, and the class, 100·0.9 - 40, are as sure as can be."""
    proto = net(YOLO[form], **LEVELS, step=np.float32(1 / 128), zero8=np.uint8(0))
    ask = explainer(proto)
    assert (ask.head.kind, ask.head.ranked) == ("detections", "y")
    assert ask.head.start == ("l/scores" if form == "quantised" else "y/scores")
    sigmoids = {"v5": 2, "v8 with an objectness": 1, "in place": 1}.get(form, 4)
    assert [each.split()[0] for each in ask.head.cut] == ["Sigmoid"] * sigmoids
    image = scene((1, 2, 0.9), (3, 0, 0.3))
    found = in_all_three(proto, image, tmp_path, "bright")
    assert found[0].position == (64 + 6,)
    # The class's score and the objectness are multiplied, so that both are explained.
    np.testing.assert_allclose(arrays(found), cell(1, 2, 1.5 * SURE / 16), rtol=1e-5, atol=1e-6)
    assert found[0].score == pytest.approx(1, rel=1e-6)
    (weaker,) = ask(image, "bright", position=(64 + 12,), seed="one")
    np.testing.assert_allclose(weaker.reconstruction, cell(3, 0, 1.5 * SURE / 16)[0], rtol=1e-5, atol=1e-6)
    (other,) = ask(image, "bright - dark", position=(64 + 6,), seed="one")
    np.testing.assert_allclose(other.reconstruction, cell(1, 2, 2 * SURE / 16)[0], rtol=1e-5, atol=1e-6)
    (alone,) = ask(image, "field 4", position=(64 + 6,), seed="one")
    np.testing.assert_allclose(alone.reconstruction, cell(1, 2, 0.5 * SURE / 16)[0], rtol=1e-5, atol=1e-6)


def test_the_region_of_a_class_is_told_among_the_classes_and_never_among_a_boxes_numbers():
    """Bright wins in cells above 0.4, where the objectness counts too; boxes have larger numbers."""
    body = "c = Conv<strides=[4,4]>(x, coarse, bc) r = Reshape(c, rows) b, q = Split<axis=1>(r, only)"
    large = LEVELS | {"bc": np.float32([100, 100, 100, 100, -20, -40, 40])}
    proto = net(f"{body} p = Sigmoid(q) y = Concat<axis=1>(b, p)", **large)
    ask = explainer(proto)
    assert (ask.fields.first, ask.fields.count, ask.fields.objectness) == (5, 2, 4)
    image = scene((1, 2, 0.9), (3, 0, 0.7))
    (found,) = ask(image, "bright", position="region")
    both = cell(1, 2, 1.5 * SURE / 16) + cell(3, 0, 1.5 * SURE / 16)
    np.testing.assert_allclose(found.reconstruction, both[0], rtol=1e-5)
    (found,) = ask(image, "dark", position="region")
    rest = (both[0] == 0) * np.float32(-0.5 * SURE / 16)  # the objectness rises by half of that
    np.testing.assert_allclose(found.reconstruction, rest, rtol=1e-5)
    (found,) = ask(image, "bright - dark", position="region")
    weights = both[0] / both.max() * SURE / 16 + (both[0] == 0) * SURE / 16
    np.testing.assert_allclose(found.reconstruction, weights, rtol=1e-5)
    (found,) = ask(image, "field 4", position=np.ones(16))
    assert found.score == pytest.approx(50 * 0.9 - 20, rel=1e-5)
    for target, place, message in (
        ("at 5,5", 3, "finds a box by itself: leave out the position"),
        ("bright#2", "region", "finds a box by itself"),
        ("field 4", "region", "field 4 is no class: give a box's place"),
    ):
        with pytest.raises(InputError, match=message):
            ask(image, target, position=place)


@pytest.mark.parametrize("squash", ["Sigmoid", "Softmax<axis=2>"])
def test_probabilities_of_several_levels_are_explained_from_before_each(squash, tmp_path):
    """As RetinaNet, SSD and RetinaFace write them: beside the boxes, level after level."""
    body = f"""{TWO} fr = Reshape(f, rows) cr = Reshape(c, rows)
        ft = Transpose<perm=[0,2,1]>(fr) ct = Transpose<perm=[0,2,1]>(cr)
        fb, fo, fk = Split<axis=2>(ft, to7) cb, co, ck = Split<axis=2>(ct, to7)
        void = Mul(fk, zero) fs = {squash}(void) cs = {squash}(ck) boxes = Concat<axis=1>(fb, cb)
        y = Concat<axis=1>(fs, cs)"""
    proto = net(body, "y boxes", **LEVELS)
    head = head_of(load(proto))
    assert (head.output, head.kind, head.start, head.ranked) == ("y", "detections", "y/scores", "y")
    assert head.squash == ("each" if squash == "Sigmoid" else "together")
    image = scene((1, 2, 0.9), (3, 0, 0.3))
    found = in_all_three(proto, image, tmp_path, "bright")
    np.testing.assert_allclose(arrays(found), cell(1, 2, SURE / 16), rtol=1e-5, atol=1e-6)
    assert found[0].position == (64 + 6,)


def test_a_value_of_the_users_own_is_not_taken_for_the_scores():
    """Its name is the one that these would get; then the probabilities are explained, as they stand."""
    proto = net(f"{YOLO['v5'].replace(' y = ', ' joined = ')} y = Identity(joined)", **LEVELS)
    proto.graph.node.append(helper.make_node("Concat", ["fy", "cy"], ["joined/scores"], axis=1))
    head = head_of(load(proto))
    assert (head.kind, head.start, head.ranked) == ("detections", "y", None)


@pytest.mark.parametrize("labels", [("bright", "dark"), ("nothing", "bright", "dark"), ()])
def test_a_background_beside_classes_is_no_objectness(labels, tmp_path):
    """As SSD writes boxes and the softmax of 1 + 2 classes in one value: it is nothing where it is grey."""
    softmax = np.float32([0, 200, -200]), np.float32([0, -100, 30])
    body = f"""{MAPS} r = Reshape(c, flat3) t = Transpose<perm=[0,2,1]>(r) s = Softmax<axis=2>(t)
        w = Slice(r, first, second, second) n = Mul(w, zero) around = Add(n, corners)
        b = Transpose<perm=[0,2,1]>(around) y = Concat<axis=2>(b, s)"""
    kernel = np.full((3, 1, 4, 4), 1 / 16, np.float32) * softmax[0][:, None, None, None]
    proto = net(body, labels=labels, k=kernel, o=softmax[1], flat3=np.array([0, 3, -1]))
    image = scene((1, 2, 0.9), (3, 0, 0.8))
    image[..., 12:, 12:] = 0.1
    ask = explainer(proto)
    assert ask.head.start == "y/scores"
    (told,) = inspect_model(load(proto)).heads
    assert ("field 4 is assumed to stand for no object" in told.targets) is (not labels)
    for rank, position in ((1, 6), (2, 12)):  # the two bright cells are sure, grey ones are nothing
        (found,) = ask(image, f"{'bright' if labels else 0}#{rank}")
        assert found.position == (position,)
        np.testing.assert_allclose(found.reconstruction, cell(*divmod(position, 4), 200 / 16)[0], rtol=1e-6)
    found = in_all_three(proto, image, tmp_path, "dark" if labels else 1)
    assert found[0].position == (15,)
    np.testing.assert_allclose(arrays(found), cell(3, 3, -200 / 16), rtol=1e-6)


FACTORS = """boxes = Slice(rows_, at0, at4, last) sure = Slice(rows_, at4, at5, last)
    which = Slice(rows_, at5, at7, last) y = Mul(sure, which)"""
PRODUCTS = {
    "beside the boxes": ("y = Identity(p)", "y boxes"),
    "with the boxes": ("y = Concat<axis=2>(boxes, p)", "y"),
    "picked": ("flat_ = Reshape(p, all) y, i = TopK(flat_, five) nth = Div(i, two)", "y"),
    "root": ("y = Sqrt(p)", "y boxes"),
}


@pytest.mark.parametrize("form", ["v5", "X", "v8 with an objectness", "sliced and joined"])
def test_factors_that_are_cut_out_of_rows_again_are_multiplied(form, tmp_path):
    """As YOLO v7's exporter does before it picks the best boxes."""
    turned = "Identity(joined)" if form in ("v5", "X") else "Transpose<perm=[0,2,1]>(joined)"
    body = f"{YOLO[form].replace(' y = ', ' joined = ')} rows_ = {turned} {FACTORS}"
    proto = net(body, "y boxes", **LEVELS)
    head = head_of(load(proto))
    assert (head.output, head.kind, head.ranked) == ("y", "detections", "y")
    found = in_all_three(proto, scene((1, 2, 0.9), (3, 0, 0.3)), tmp_path, "bright")
    np.testing.assert_allclose(arrays(found), cell(1, 2, 1.5 * SURE / 16), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("form", PRODUCTS)
def test_a_product_of_two_sure_probabilities_is_explained_from_before_both(form, tmp_path):
    """As YOLO's exporters multiply classes by the objectness, and FCOS's by the centerness."""
    more, outputs = PRODUCTS[form]
    body = f"""{TWO} r = Reshape(c, rows) t = Transpose<perm=[0,2,1]>(r) boxes, co, ck = Split<axis=2>(t, to7)
        so = Sigmoid(co) sk = Sigmoid(ck) p = Mul(sk, so) {more}"""
    proto = net(body, outputs, **LEVELS)
    head = head_of(load(proto))
    assert (head.output, head.kind) == ("y", "detections")
    assert sorted(head.cut[-2:]) == ["Sigmoid sk", "Sigmoid so"]
    found = in_all_three(proto, scene((1, 2, 0.9), (3, 0, 0.3)), tmp_path, "bright")
    np.testing.assert_allclose(arrays(found), cell(1, 2, 1.5 * SURE / 16), rtol=1e-5, atol=1e-6)
    assert found[0].score == pytest.approx(1, rel=1e-6)


POWERS = {
    "a root": ("p = Mul(sk, so) u = Sqrt(p)", 1.5),
    "a power": ("p = Mul(sk, so) u = Pow(p, third)", 1.5),
    "powers": ("ks = Pow(sk, third) os = Pow(so, tenth) u = Mul(ks, os)", 0.3 + 0.1 * 0.5),
    "roots": ("ks = Sqrt(sk) os = Sqrt(so) u = Mul(os, ks)", 1.5),
    "one power": ("ks = Pow(sk, third) u = Mul(ks, so)", 0.3 + 0.5),
    "a limit": ("p = Mul(sk, so) u = Clip(p, tiny, one)", 1.5),
}
"""As PP-YOLO and FCOS weigh a class and whether there is anything; and the weight of a cell's pixels."""


@pytest.mark.parametrize("form", POWERS)
def test_powers_of_probabilities_beside_boxes_are_explained_by_the_weighted_scores(form, tmp_path):
    tail, weight = POWERS[form]
    body = f"""{TWO} r = Reshape(c, rows) t = Transpose<perm=[0,2,1]>(r) boxes, co, ck = Split<axis=2>(t, to7)
        so = Sigmoid(co) sk = Sigmoid(ck) {tail} y = Concat<axis=2>(boxes, u)"""
    proto = net(body, **LEVELS, tenth=np.float32(0.1))
    ask = explainer(proto)
    assert (ask.head.start, ask.head.ranked, ask.fields.objectness) == ("y/scores", "y", None)
    found = in_all_three(proto, scene((1, 2, 0.9), (3, 0, 0.3)), tmp_path, "bright")
    np.testing.assert_allclose(arrays(found), cell(1, 2, weight * SURE / 16), rtol=1e-5, atol=1e-6)
    assert found[0].score == pytest.approx(1, rel=1e-6)


@pytest.mark.parametrize("tail", ["ks = Sqrt(sk) u = Mul(ks, so)", "ks = Tanh(sk) u = Mul(ks, so)"])
def test_a_product_whose_weights_the_graph_does_not_hold_is_explained_itself(tail):
    """A square root has no exponent among the graph's values, and Tanh raises to no power."""
    body = f"""{TWO} r = Reshape(c, rows) t = Transpose<perm=[0,2,1]>(r) boxes, co, ck = Split<axis=2>(t, to7)
        so = Sigmoid(co) sk = Sigmoid(ck) {tail} y = Concat<axis=2>(boxes, u)"""
    ask = explainer(net(body, **LEVELS))
    assert ask.head.start == "y"
    (found,) = ask(scene((1, 2, 0.4)), "bright")
    assert "'y' is computed from scores" in found.note


def test_sigmoids_beside_each_other_are_classes_explained_from_before_each(tmp_path):
    """As classifiers with a head for each class write them; a sigmoid of a large number is 1."""
    body = """a = Conv<strides=[16,16]>(x, left) b = Conv<strides=[16,16]>(x, right) af = Flatten(a)
        bf = Flatten(b) p = Sigmoid(af) q = Sigmoid(bf) y = Concat<axis=1>(p, q)"""
    left, right = (200 * cell(row, 0)[:, :, :] for row in (0, 2))
    proto = net(body, left=left, right=right)
    head = head_of(load(proto))
    assert (head.kind, head.start, list(head.cut)) == ("classes", "y/scores", ["Sigmoid q", "Sigmoid p"])
    found = in_all_three(proto, np.ones((1, 1, 16, 16), np.float32), tmp_path, "dark")
    np.testing.assert_allclose(arrays(found), right, rtol=1e-6)


OVER = "tr = Transpose<perm=[2,0,1]>(rows_) up = Transpose<perm=[2,0,1]>(p) over = ScatterND(tr, last2, up)"
COUNTED_IN = {
    "beside": "p = Mul(which, sure) y = Concat<axis=2>(boxes, sure, p)",
    "cut out again": "p = Mul(which, again) y = Concat<axis=2>(boxes, sure, p)",
    "left with the boxes": (
        "p = Mul(which, sure) rest = Slice(rows_, at0, at5, last) y = Concat<axis=2>(rest, p)"
    ),
    "written over": f"p = Mul(which, sure) {OVER} y = Transpose<perm=[1,2,0]>(over)",
    "repeated": (
        f"once = Mul(which, sure) as = Shape(which) p = Expand(once, as) {OVER} "
        "y = Transpose<perm=[1,2,0]>(over)"
    ),
}
"""An objectness that the graph multiplies classes by, and leaves beside them."""


@pytest.mark.parametrize("form", COUNTED_IN)
@pytest.mark.parametrize("rows", ["v5", "in place"])
def test_an_objectness_that_the_graph_has_multiplied_in_counts_once(rows, form, tmp_path):
    """Also where the products are written over the classes, and the sigmoids are one, as in YOLO's rows."""
    turned = "rows_ = Transpose<perm=[0,2,1]>(plain)" if rows == "in place" else "rows_ = Identity(plain)"
    body = f"""{YOLO[rows].replace(" y = ", " plain = ")}
        {turned} boxes = Slice(rows_, at0, at4, last) sure = Slice(rows_, at4, at5, last)
        again = Slice(rows_, at4, at5, last) which = Slice(rows_, at5, at7, last) {COUNTED_IN[form]}"""
    proto = net(body, **LEVELS, last2=np.array([[5], [6]]))
    head = head_of(load(proto))
    assert (head.output, head.kind) == ("y", "detections")
    image = scene((1, 2, 0.9), (3, 0, 0.3))
    found = in_all_three(proto, image, tmp_path, "bright")
    np.testing.assert_allclose(arrays(found), cell(1, 2, 1.5 * SURE / 16), rtol=1e-5, atol=1e-6)
    (weaker,) = explainer(proto)(image, "bright", position=(64 + 12,))
    assert weaker.score == pytest.approx(1 / (1 + np.exp(5)) / (1 + np.exp(10)), rel=1e-3)
    np.testing.assert_allclose(weaker.reconstruction, cell(3, 0, 1.5 * SURE / 16)[0], rtol=1e-5, atol=1e-6)


def test_boxes_written_over_the_rows_of_any_number_of_images_are_no_scores(tmp_path):
    """As `y[..., :4] = ...` is exported: only the run tells which images there are, but not which fields."""
    body = f"""{TWO} fr = Reshape(f, rows) cr = Reshape(c, rows) l = Concat<axis=2>(fr, cr)
        t = Transpose<perm=[0,2,1]>(l) s = Sigmoid(t) w = Slice(s, at0, at4, last) d = Mul(w, eight)
        as = Shape(w) n = Gather(as, zeroth) im = Range(zeroth, n, unit) imr = Reshape(im, images_)
        all4 = Concat<axis=0>(as, unit1) ime = Expand(imr, all4) ane = Expand(anchors_, all4)
        fie = Expand(fields_, all4) places = Concat<axis=3>(ime, ane, fie) rows_ = ScatterND(s, places, d)
        sure = Slice(rows_, at4, at5, last) which = Slice(rows_, at5, at7, last)
        {COUNTED_IN["written over"]}"""
    numbers = {
        "unit": np.array(1), "unit1": np.array([1]), "images_": np.array([-1, 1, 1, 1]),
        "anchors_": np.arange(80).reshape(1, 80, 1, 1), "fields_": np.arange(4).reshape(1, 1, 4, 1),
        "last2": np.array([[5], [6]]),
    }  # fmt: skip
    proto = net(body, **LEVELS, **numbers)
    assert head_of(load(proto)).start == "y/scores"
    image = scene((1, 2, 0.9), (3, 0, 0.3))
    found = in_all_three(proto, image, tmp_path, "bright")
    np.testing.assert_allclose(arrays(found), cell(1, 2, 1.5 * SURE / 16), rtol=1e-5, atol=1e-6)


def test_a_product_that_nothing_follows_is_no_box_that_is_written_over_rows():
    """Its other factor is a number of a box: the rows are explained as they are, with no score among them."""
    body = f"""{YOLO["v5"].replace(" y = ", " rows_ = ")} wide = Slice(rows_, two_, three_, last)
        which = Slice(rows_, at5, at7, last) p = Mul(which, wide) {OVER} y = Transpose<perm=[1,2,0]>(over)"""
    places = {"last2": np.array([[5], [6]]), "two_": np.array([2]), "three_": np.array([3])}
    assert head_of(load(net(body, **LEVELS, **places))).start == "y"


@pytest.mark.parametrize("order", ["p, n", "n, p"])
def test_the_complement_of_a_sigmoid_beside_others_is_explained_from_the_negative_score(order, tmp_path):
    body = f"""a = Conv<strides=[16,16]>(x, left) b = Conv<strides=[16,16]>(x, right) af = Flatten(a)
        bf = Flatten(b) p = Sigmoid(af) q = Sigmoid(bf) n = Sub(one, q) y = Concat<axis=1>({order})"""
    left, right = (cell(row, 0)[:, :, :] for row in (0, 2))
    proto = net(body, left=left, right=right, one=np.float32([1]))
    head = head_of(load(proto))
    assert (head.kind, head.start, sorted(head.cut)) == ("classes", "y/scores", ["Sigmoid p", "Sigmoid q"])
    names = ("bright", "dark") if order == "p, n" else ("dark", "bright")
    for name, expected in zip(names, (left, -right), strict=True):
        found = in_all_three(proto, np.ones((1, 1, 16, 16), np.float32), tmp_path, name)
        np.testing.assert_allclose(arrays(found), expected, rtol=1e-6)


def test_what_is_computed_from_probabilities_in_another_way_is_not_put_beside_scores():
    """What is twice as large as a probability stands for no score: all are explained as they are."""
    body = """a = Conv<strides=[16,16]>(x, left) b = Conv<strides=[16,16]>(x, right) af = Flatten(a)
        bf = Flatten(b) p = Sigmoid(af) q = Sigmoid(bf) n = Mul(two, q) y = Concat<axis=1>(p, n)"""
    left, right = (cell(row, 0)[:, :, :] for row in (0, 2))
    head = head_of(load(net(body, left=left, right=right, two=np.float32([2]))))
    assert (head.start, head.cut) == ("y", ())


def test_sums_of_picked_scores_are_no_classes():
    """As CornerNet's: of each two best corners the mean, and of these the best."""
    body = f"""{MAPS} d = Conv<strides=[4,4]>(x, k, o) s = Sigmoid(c) q = Sigmoid(d)
        l = Flatten(s) n = Flatten(q) v, i = TopK(l, five) w, j = TopK(n, five) u = Unsqueeze(v, last)
        r = Unsqueeze(w, second) a = Add(u, r) m = Mul(a, third) f = Flatten(m) y, h = TopK(f, five)"""
    proto = net(body, labels=())
    (head,) = heads(load(proto))
    assert (head.kind, head.start) == ("numbers", "f")
    with pytest.raises(InputError, match="nothing tells whether they are classes"):
        explainer(proto)(SCENE)


def test_the_mean_of_two_class_maps_is_explained_by_the_mean_of_their_scores(tmp_path):
    body = f"""{MAPS} d = Conv<strides=[4,4]>(x, k, o) s = Sigmoid(c) q = Sigmoid(d) a = Add(s, q)
        y = Mul(a, half_)"""
    proto = net(body, half_=np.float32(0.5))
    assert head_of(load(proto)).kind == "class map"
    np.testing.assert_allclose(arrays(in_all_three(proto, SCENE, tmp_path, "bright")), BRIGHT, atol=1e-6)


# --- branches, plug-ins, and what is not told ---------------------------------------------------------


def with_branches(proto, condition, taken):
    """Let a graph return nothing where a condition holds, and what it takes by one node where not."""
    for name, node in taken.items():
        result = node.output[0]
        nothing = numpy_helper.from_array(np.zeros((0, 4) if name == "boxes" else (0,), np.float32))
        empty = helper.make_node("Constant", [], ["nothing"], value=nothing)
        infos = [helper.make_tensor_value_info(v, TensorProto.FLOAT, None) for v in ("nothing", result)]
        branches = [helper.make_graph([n], "g", [], [i]) for n, i in zip((empty, node), infos, strict=True)]
        proto.graph.node.append(
            helper.make_node("If", [condition], [name], then_branch=branches[0], else_branch=branches[1])
        )
    return proto


def test_a_branch_for_no_detections_is_passed(tmp_path):
    picked = """
        tt = Transpose<perm=[0,2,1]>(t) sel = NonMaxSuppression(b, tt, many, iou, least)
        bi = Gather<axis=1>(sel, place) dims = Shape(sel) n = Gather(dims, zeroth) none_ = Equal(n, zeroth)
    """
    proto = with_branches(
        net(f"{APART.replace(' n ', ' nn ').replace('(n,', '(nn,')} {picked}", "boxes v"),
        "none_",
        {
            "boxes": helper.make_node("GatherND", ["b", "bi"], ["boxes_"]),
            "v": helper.make_node("GatherND", ["tt", "sel"], ["v_"]),
        },
    )
    found = in_all_three(proto, SCENE, tmp_path)
    assert [(e.label, e.position) for e in found] == [("bright", (6,)), ("dark", (10,))]
    np.testing.assert_allclose(arrays(found), 10 * np.concatenate([cell(1, 2), -cell(2, 2)]), atol=1e-6)


@pytest.mark.parametrize(
    ("operator", "domain", "outputs"),
    [
        ("EfficientNMS_TRT", "TRT", {"num": (7, [1]), "boxes": (1, [100, 4]), "scores": (1, [100])}),
        ("TRTBatchedNMS", "mmdeploy", {"dets": (1, [100, 5]), "labels": (7, [100])}),
        ("DetectionOutput", "org.openvinotoolkit", {"y": (1, [1, 200, 7])}),
    ],
)
def test_boxes_that_a_plug_in_picks_are_refused_by_its_name(operator, domain, outputs, tmp_path):
    proto = net(ALL, "t")
    del proto.graph.output[:]
    infos = [helper.make_tensor_value_info(name, *of) for name, of in outputs.items()]
    for info in infos:
        info.type.tensor_type.shape.dim.insert(0, onnx.TensorShapeProto.Dimension(dim_param="N"))
    proto.graph.output.extend(infos)
    proto.graph.node.append(helper.make_node(operator, ["b", "t"], list(outputs), domain=domain))
    proto.opset_import.add(domain=domain, version=1)
    said = rf"is computed by {domain}::{operator}, an operator of which nothing is known here: choose a layer"
    with pytest.raises(ModelError, match=said):
        explainer(proto)(SCENE)
    (tmp_path / "net.onnx").write_bytes(proto.SerializeToString())
    code, _, stderr = run("convert", tmp_path / "net.onnx", "-o", tmp_path / "out")
    assert (code, stderr.count("\n")) == (2, 1)
    assert f"{domain}::{operator}" in stderr
    code, stdout, _ = run("inspect", tmp_path / "net.onnx")
    assert code == 1
    assert f"{domain}::{operator}" in stdout


def test_numbers_of_classes_are_never_taken_for_scores():
    """Boxes, a score and a class are six numbers, as boxes and the scores of two classes are."""
    body = f"{APART} {ONCE} odd = Sin(v) {ROW} ou = Unsqueeze(odd, none) y = Concat<axis=2>(boxes, ou, cu)"
    proto = net(body)
    said = "nothing tells which of their fields 0 to 5 are classes: give a target such as 'field 4'"
    with pytest.raises(InputError, match=said):
        explainer(proto)(SCENE)


# --- on the command line ------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("rows", ["v10", "DETR", "NMS", "centres"])
def test_detectors_that_pick_are_explained_converted_and_checked_by_commands(rows, tmp_path):
    # A photograph's pixels are 0 to 255.
    body = f"{HEAT} {PEAKS['equal']} {BEST}" if rows == "centres" else ROWS[rows]
    proto = net(body.replace("(x, k, o)", "(small, k, o)"), "z" if rows == "centres" else "y")
    proto.graph.node.insert(0, helper.make_node("Mul", ["x", "share"], ["small"]))
    proto.graph.initializer.append(numpy_helper.from_array(np.float32(1 / 255), "share"))
    path = tmp_path / "net.onnx"
    path.write_bytes(proto.SerializeToString())
    grey = np.rint(SCENE[0, 0] * 255).astype(np.uint8)
    save_png(tmp_path / "photo.png", np.stack([grey] * 3, axis=-1))
    code, stdout, stderr = run("inspect", path)
    assert code == 0, stderr
    assert ("class map" if rows == "centres" else "detections") in stdout
    how = "-o", tmp_path / "out", "--preset", "raw", "--rules", "gradient", "--json"
    code, stdout, stderr = run("explain", path, tmp_path / "photo.png", *how)
    assert code == 0, stderr
    (found,) = [json.loads(line) for line in stdout.splitlines()]
    assert found["label"] == "bright"
    drawn = np.abs(np.load(next((tmp_path / "out").glob("*.npy"))))
    assert drawn[..., 4:8, 8:12].sum() > 0.6 * drawn.sum()
    for form in ("pair", "explain"):
        code, _, stderr = run("convert", path, "-o", tmp_path / form, "--form", form)
        assert code == 0, stderr
    for what in (path, tmp_path / "pair"):
        code, stdout, stderr = run("verify", what)
        assert code == 0, stdout + stderr


FOURS = """
    cb = Conv<strides=[4,4]>(x, kb) cs = Conv<strides=[4,4]>(x, ks)
    bf = Reshape(cb, shape) sf = Reshape(cs, shape)
    bt = Transpose<perm=[0,2,1]>(bf) st = Transpose<perm=[0,2,1]>(sf)
"""


@pytest.mark.parametrize(
    ("boxes", "scores", "part"),
    [
        ("boxes = Sigmoid(bt)", "scores = Sigmoid(st)", "scores"),
        ("pred_boxes = Sigmoid(bt)", "pred_logits = Identity(st)", "scores"),
        ("bbox = Identity(bt)", "output = Identity(st)", "scores"),
        ("u = Identity(bt)", "v = Softmax<axis=-1>(st)", "scores"),
        ("u = Sigmoid(bt)", "v = Identity(st)", "all"),
        ("u = Sigmoid(bt)", "v = Sigmoid(st)", "all"),
    ],
)
def test_of_two_outputs_of_four_numbers_names_and_softmaxes_tell_the_scores(boxes, scores, part):
    """A sigmoid makes boxes as it makes scores of four classes; where nothing tells, it is asked."""
    names = [text.partition(" ")[0] for text in (boxes, scores)]
    kernels = {name: np.ones((4, 1, 4, 4), np.float32) for name in ("kb", "ks")}
    weights = {**kernels, "shape": np.array([0, 4, 16])}
    proto = model(f"{FOURS} {boxes} {scores}", weights, "N,1,16,16", " ".join(names))
    found = {head.output: head.boxes.part for head in heads(load(proto))}
    assert found == dict(zip(names, ("boxes" if part == "scores" else "all", part), strict=True))
    if part == "all":
        with pytest.raises(InputError, match="nothing tells which of their fields 0 to 3 are classes"):
            Explainer(proto)(PIXELS.repeat(4, 2).repeat(4, 3)[:1])
    else:
        assert head_of(load(proto)).output == names[1]


@pytest.mark.parametrize(
    ("output", "labels", "told"),
    [("y", "", False), ("y", "abc", False), ("boxes", "", False), ("y", "abcd", True), ("scores", "", True)],
)
def test_four_sigmoids_of_each_row_alone_are_a_box_or_four_classes(output, labels, told):
    """Names say which; else it is asked."""
    body = f"c = Conv<strides=[4,4]>(x, k) r = Reshape(c, shape) t = Transpose<perm=[0,2,1]>(r) {output} = "
    weights = {"k": random(4, 1, 4, 4), "shape": np.array([0, 4, 16])}
    proto = model(f"{body} Sigmoid(t)", weights, "N,1,16,16", output)
    ask = Explainer(named(proto, *labels) if labels else proto, "gradient", providers="cpu")
    if told:
        assert (ask.fields.first, ask.fields.count) == (0, 4)
    else:
        said = (
            "3 labels do not tell which of their fields 0 to 3 are classes; 4 would"
            if labels
            else "nothing tells"
        )
        with pytest.raises(InputError, match=said):
            ask(SCENE[:1])
        tells = "3 labels do not tell" if labels else "nothing tells"
        with pytest.raises(ModelError, match=f"{tells} which of their fields are classes"):
            explain_graph(compile_pair(load(proto)))


def test_sigmoids_of_boxes_and_classes_that_are_joined_are_asked_about():
    body = f"{FOURS} p = Sigmoid(bt) q = Sigmoid(st) y = Concat<axis=2>(p, q)"
    weights = {
        "kb": np.ones((4, 1, 4, 4), np.float32), "ks": np.ones((3, 1, 4, 4), np.float32),
        "shape": np.array([0, -1, 16]),
    }  # fmt: skip
    proto = model(body, weights, "N,1,16,16")
    with pytest.raises(InputError, match="nothing tells which of their fields 0 to 6 are classes"):
        Explainer(proto)(np.ones((1, 1, 16, 16), np.float32))
    (one,) = Explainer(named(proto, "a", "b", "c"), "gradient")(np.ones((1, 1, 16, 16), np.float32))
    assert one.layer == "y/scores"
    assert one.channel == 0


def test_a_share_of_the_image_is_explained_by_any_rules():
    """The number is not told by the axes of the map that the explanation starts from."""
    proto = model("c = Conv<strides=[4,4]>(x, k) p = Sigmoid(c) y = ReduceMean<axes=[1,2,3],keepdims=0>(p)",
                  {"k": np.ones((1, 1, 4, 4), np.float32)}, "N,1,16,16")  # fmt: skip
    proto.opset_import[0].version = 13
    for one in Explainer(proto, "gradient")(np.full((2, 1, 16, 16), 0.01, np.float32)):
        assert one.score == pytest.approx(1 / (1 + np.exp(-0.16)))
        assert one.reconstruction == pytest.approx(one.reconstruction[0, 0, 0])
        assert one.reconstruction.min() > 0


@pytest.mark.parametrize(
    ("order", "first", "objectness"),
    [
        ("bt, q", 4, None),
        ("q, bt", 0, None),
        ("bt, o, q", 5, 4),
        ("bt, q, o", 4, 7),
        ("o, q, bt", 1, 0),
        ("q, o, bt", 0, 3),
        ("q, bt, o", 0, 7),
        ("bt, both", 5, 4),
        ("both, bt", 1, 0),
        ("bt, joined", 4, 7),
        ("o, bt, angle, q", 6, 0),
        ("bt, angle, q", 5, None),
    ],
)
def test_the_graph_tells_which_fields_are_probabilities(order, first, objectness):
    """Names alone say 4 or 5 fields before the classes; each sigmoid's probabilities are one group."""
    reshaped = "{0}t = Reshape({0}m, shape) {0}f = Transpose<perm=[0,2,1]>({0}t)"
    body = f"""
        {FOURS} om = Conv<strides=[4,4]>(x, ko) {reshaped.format("o")}
        am = Conv<strides=[4,4]>(x, ko) {reshaped.format("a")} angle = Identity(af)
        q = Sigmoid(st) o = Sigmoid(of) joined = Concat<axis=2>(q, o)
        raw = Concat<axis=2>(of, st) both = Sigmoid(raw) y = Concat<axis=2>({order})
    """
    per_field = {"kb": [90] * 4, "ks": [3, 2, 1], "ko": [0.5]}
    kernels = {
        name: np.float32(each)[:, None, None, None] / np.float32(16) * np.ones((1, 1, 4, 4), np.float32)
        for name, each in per_field.items()
    }
    proto = model(body, {**kernels, "shape": np.array([0, -1, 16])}, "N,1,16,16")
    ask = explainer(proto, labels=["a", "b", "c"])
    assert (ask.fields.first, ask.fields.count, ask.fields.objectness) == (first, 3, objectness)
    found = ask(SCENE)
    # The brightest cell's class a, and its objectness where there is one.
    each = 3 if objectness is None else 3.5
    expected = np.concatenate([cell(*where, each / 16) for where in ((1, 2), (0, 3))])
    np.testing.assert_allclose(arrays(found), expected, atol=1e-6)
    assert [one.label for one in found] == ["a", "a"]
    mean = SCENE.reshape(2, 4, 4, 4, 4).mean(axis=(2, 4))[[0, 1], [1, 0], [2, 3]]
    certain = 1 if objectness is None else 1 / (1 + np.exp(-0.5 * mean))
    np.testing.assert_allclose([one.score for one in found], certain / (1 + np.exp(-3 * mean)), rtol=1e-5)
    graph = explain_graph(compile_pair(load(proto), semantics="gradient", labels=["a", "b", "c"]))
    given = Session(graph.proto, graph.folder, "cpu").run({"x": SCENE, "target": np.full(2, -1)})
    np.testing.assert_allclose(given["reconstruction"], expected, atol=1e-6)


@pytest.mark.parametrize(
    ("order", "names", "said"),
    [
        (
            "q, bt, o",
            "abcde",
            "5 labels do not tell which of their fields 0 to 7 are classes; 3 would: give the",
        ),
        (
            "o, bt, q",
            "",
            "nothing tells which of their fields 0 to 7 are classes: give the classes' labels, or",
        ),
    ],
)
def test_labels_that_fit_no_fields_are_told_from_those_that_would(order, names, said):
    body = f"""
        {FOURS} om = Conv<strides=[4,4]>(x, ko) ot = Reshape(om, shape) of = Transpose<perm=[0,2,1]>(ot)
        q = Sigmoid(st) o = Sigmoid(of) y = Concat<axis=2>({order})
    """
    kernels = {name: np.ones((n, 1, 4, 4), np.float32) for name, n in (("kb", 4), ("ks", 3), ("ko", 1))}
    proto = model(body, {**kernels, "shape": np.array([0, -1, 16])}, "N,1,16,16")
    with pytest.raises(InputError, match=said):
        explainer(proto, labels=list(names) or None)(SCENE)


@pytest.mark.parametrize("command", ["convert", "inspect", "verify"])
@pytest.mark.parametrize(("names", "told"), [("abcde", True), ("abc", False)])
def test_commands_that_explain_no_photograph_tell_of_labels_that_fit_no_fields(
    tmp_path, monkeypatch, command, names, told
):
    """Four numbers of a box, three classes and an objectness in one row: three labels fit, five do not."""
    monkeypatch.chdir(tmp_path)
    body = f"""
        {FOURS} om = Conv<strides=[4,4]>(x, ko) ot = Reshape(om, shape) of = Transpose<perm=[0,2,1]>(ot)
        q = Sigmoid(st) o = Sigmoid(of) y = Concat<axis=2>(q, bt, o)
    """
    kernels = {name: np.ones((n, 1, 4, 4), np.float32) for name, n in (("kb", 4), ("ks", 3), ("ko", 1))}
    onnx.save(model(body, {**kernels, "shape": np.array([0, -1, 16])}, "N,1,16,16"), "boxes.onnx")
    Path("labels.txt").write_text("\n".join(names))
    code, stdout, stderr = run(command, "boxes.onnx", "--labels", "labels.txt")
    said = "5 labels do not tell which fields of its boxes are classes; 3 would"
    assert code == 0
    assert (stdout + stderr).count(said) == told


FINE_AND_COARSE = """
    c = Conv<strides=[4,4]>(x, k, o) t = Transpose<perm=[0,2,3,1]>(c) fine = Reshape(t, rows2)
    d = AveragePool<kernel_shape=[2,2],strides=[2,2]>(c) u = Transpose<perm=[0,2,3,1]>(d)
    coarse = Reshape(u, rows2)
    e = Conv<strides=[4,4]>(x, b) v = Transpose<perm=[0,2,3,1]>(e) boxes = Reshape(v, rows4)
    f = AveragePool<kernel_shape=[2,2],strides=[2,2]>(e) w = Transpose<perm=[0,2,3,1]>(f)
    large = Reshape(w, rows4)
"""


@pytest.mark.parametrize(
    ("outputs", "asked", "chosen", "levels"),
    [
        ("boxes fine large coarse", None, "fine", ("coarse",)),
        ("coarse large fine boxes", None, "coarse", ("fine",)),
        ("boxes fine large coarse", "coarse", "coarse", ()),
        ("boxes fine", None, "fine", ()),
    ],
)
def test_levels_whose_scores_are_apart_are_told_where_none_is_asked_for(
    outputs, asked, chosen, levels, tmp_path
):
    """As BlazeFace and SCRFD write them: scores and boxes of 16 small cells, and of 4 large ones."""
    rows = {"rows2": np.array([0, -1, 2]), "rows4": np.array([0, -1, 4])}
    weights = WEIGHTS | rows | {"b": random(4, 1, 4, 4)}
    proto = model(FINE_AND_COARSE, weights, "N,1,16,16", outputs)
    head = head_of(load(proto), asked)
    assert (head.output, head.kind, tuple(head.levels)) == (chosen, "detections", levels)
    onnx.save(proto, tmp_path / "net.onnx")
    save_png(tmp_path / "p.png", np.zeros((16, 16, 3), np.uint8))
    (tmp_path / "names.txt").write_text("bright\ndark\n")
    asking = ["--labels", tmp_path / "names.txt", *(["--model-output", asked] if asked else [])]
    code, _, told = run("explain", tmp_path / "net.onnx", tmp_path / "p.png", *asking, "-o", tmp_path / "out")
    assert code == 0
    assert ("--model-output chooses" in told) == bool(levels)
    assert all(f"'{chosen}' is explained; '{name}', which holds the same classes" in told for name in levels)
