"""What a model's outputs are: their axes, kinds and tails, found from the graph."""

import json
import re

import numpy as np
import onnx
import onnxruntime
import pytest
from commands import run
from small_networks import model, random

from onnx_deconv import Explainer, InputError, ModelError, load
from onnx_deconv.model.axis_names import axis_names
from onnx_deconv.model.heads import explainable, head_of, heads
from onnx_deconv.model.value_axes import Axes

# An image of 6×9 pixels becomes four channels at 6×9 positions, or one row of nine steps, or five numbers.
WEIGHTS = {
    "k": random(4, 3, 3, 3),
    "m": random(4, 5),
    "hundred": np.float32([100]),
    "one": np.float32([1]),
    "half": np.float32([0.5]),
    "rest": np.array([0, 4, -1]),
    "flat": np.array([-1, 5]),
    "first": np.array([0]),
    "third": np.array([2]),
    "swapped": np.array([3, 1]),
    "tail": np.array([1]),
    "end": np.array([9]),
    "rows": np.array([2]),
    "both": np.array([2, 3]),
    "axis": np.array([1]),
    "tiny": np.float32(1e-12),
    "parts": np.array([2, 3]),
}
MAPS = "c = Conv<pads=[1,1,1,1]>(x, k) r = Relu(c)"
ROW = f"{MAPS} a = ReduceMean<keepdims=0>(r, rows)"
BEST = f"{ROW} p = Softmax<axis=1>(a) v = ReduceMax(p, axis) i = ArgMax<axis=1>(p)"
SCORES = f"{MAPS} a = ReduceMean<keepdims=0>(r, both) s = MatMul(a, m)"
SOFTMAX = f"{SCORES} p = Softmax<axis=1>(s)"


def head(body, batch="N", **more):
    return head_of(load(model(body, WEIGHTS | more, f"{batch},3,6,9")))


@pytest.mark.parametrize("batch", ["N", "1", "3"])
@pytest.mark.parametrize(
    ("body", "kind", "axes"),
    [
        (f"{SCORES} y = Identity(s)", "classes", (0, 1, ())),
        (f"{MAPS} g = GlobalAveragePool(r) y = Identity(g)", "classes", (0, 1, (2, 3))),
        (f"{MAPS} y = Identity(r)", "class map", (0, 1, (2, 3))),
        (f"{MAPS} y = Transpose<perm=[0,2,3,1]>(r)", "class map", (0, 3, (1, 2))),
        (f"{MAPS} y = Transpose<perm=[2,3,0,1]>(r)", "class map", (2, 3, (0, 1))),
        (f"{ROW} y = Identity(a)", "sequence", (0, 1, (2,))),
        (f"{ROW} y = Transpose<perm=[0,2,1]>(a)", "sequence", (0, 2, (1,))),
        (f"{ROW} y = Transpose<perm=[2,0,1]>(a)", "sequence", (1, 2, (0,))),
        (f"{ROW} t = Transpose<perm=[2,0,1]>(a) y = MatMul(t, m)", "sequence", (1, 2, (0,))),
        (f"{MAPS} y = Reshape(r, rest)", "detections", (0, 1, (2,))),
        (f"{MAPS} q = Reshape(r, rest) y = Transpose<perm=[0,2,1]>(q)", "detections", (0, 2, (1,))),
        (f"{MAPS} g = GlobalAveragePool(r) f = Flatten(g) y = MatMul(f, w)", "regression", (0, 1, ())),
        (
            f"{MAPS} g = GlobalAveragePool(r) f = Flatten(g) z = MatMul(f, w) y = Squeeze(z, axis)",
            "regression",
            (0, None, ()),
        ),
        (f"{SCORES} y = LpNormalization(s)", "embedding", (0, 1, ())),
        (f"{SCORES} n = ReduceL2(s, axis) y = Div(s, n)", "embedding", (0, 1, ())),
        (
            (
                f'{SCORES} n = ReduceL2(s, axis) e = Clip(n, tiny, "") '
                "z = Shape(s) l = Expand(e, z) y = Div(s, l)"
            ),
            "embedding",
            (0, 1, ()),
        ),
        (f"{MAPS} i = Conv(r, back) y = Tanh(i)", "image", (0, 1, (2, 3))),
        # A map, or a row, of one channel that has no axis.
        (f"{MAPS} d = Conv(r, deep) y = Squeeze(d, axis)", "class map", (0, None, (1, 2))),
        (f"{MAPS} d = Conv(r, deep) q = Squeeze(d, axis) y = Sigmoid(q)", "class map", (0, None, (1, 2))),
        (f"{ROW} y = ReduceMean<keepdims=0>(a, axis)", "sequence", (0, None, (1,))),
        # The largest of all classes at each position is one of their scores, picked.
        (f"{ROW} p = Softmax<axis=1>(a) y = ReduceMax<keepdims=0>(p, axis)", "sequence", (0, 1, (2,))),
        (f"{MAPS} y = ReduceMax<keepdims=0>(r, axis)", "class map", (0, 1, (2, 3))),
        # The best class of each step and its probability are no rows of boxes.
        (
            f"{BEST} f = Cast<to=1>(i) y = Concat<axis=1>(v, f)",
            "sequence",
            (0, 1, (2,)),
        ),
        # The largest at all positions of each class is one score.
        (f"{MAPS} y = ReduceMax<keepdims=0>(r, both)", "classes", (0, 1, ())),
        # A softmax over all places of each channel's map.
        (f"{MAPS} q = Reshape(r, rest) p = Softmax<axis=2>(q) y = Identity(p)", "class map", (0, 1, (2, 3))),
        # What is taken off, or divides, and is no length.
        (f"{SCORES} u = ReduceMean(s, axis) y = Sub(s, u)", "classes", (0, 1, ())),
        (f"{SCORES} z = ReduceLogSumExp(s, axis) y = Sub(s, z)", "classes", (0, 1, ())),
        (f"{SCORES} e = Softplus(s) z = ReduceSum(e, axis) y = Div(e, z)", "classes", (0, 1, ())),
        (f"{SCORES} q = Mul(s, s) z = ReduceSum(q, axis) n = Sqrt(z) y = Div(s, n)", "embedding", (0, 1, ())),
    ],
)
def test_axes_and_kind_are_told_by_the_graph(body, kind, axes, batch):
    found = head(body, batch, w=random(4, 1), back=random(3, 4, 1, 1), deep=random(1, 4, 1, 1))
    assert (found.kind, found.problem) == (kind, None)
    assert (found.axes.batch, found.axes.classes, found.axes.positions) == axes


@pytest.mark.parametrize(
    ("tail", "cut", "elements"),
    [
        ("y = Mul(p, hundred)", ["Mul", "Softmax"], None),
        ("q = Mul(p, hundred) o = Round(q) y = Clip(o)", ["Clip", "Round", "Mul", "Softmax"], None),
        ("y = Log(p)", ["Log", "Softmax"], None),
        ("z = ReduceLogSumExp(s, axis) y = Sub(s, z)", ["LogSoftmax"], None),
        ("y = Sub(one, p)", ["Sub", "Softmax"], [(k, -1) for k in range(5)]),
        ("y = Slice(p, third, end, tail)", ["Slice", "Softmax"], [(2, 1), (3, 1), (4, 1)]),
        ("y = Gather<axis=1>(p, swapped)", ["Gather", "Softmax"], [(3, 1), (1, 1)]),
        ("q = Sub(one, p) y = Gather<axis=1>(q, third)", ["Gather", "Sub", "Softmax"], [(2, -1)]),
        ("z, y = Split<axis=1>(p, parts)", ["Split", "Softmax"], [(2, 1), (3, 1), (4, 1)]),
        ("y, z = Split<axis=1>(p, parts)", ["Split", "Softmax"], [(0, 1), (1, 1)]),
        (
            "z, q = Split<axis=1>(p, parts) y = ArgMax<axis=1>(q)",
            ["ArgMax", "Split", "Softmax"],
            [(2, 1), (3, 1), (4, 1)],
        ),
        (
            "q = Sub(one, p) y = Concat<axis=1>(q, p)",
            ["Concat", "Sub", "Softmax"],
            [*((k, -1) for k in range(5)), *((k, 1) for k in range(5))],
        ),
        ("y = ArgMax<axis=1>(p)", ["ArgMax", "Softmax"], None),
        ("v, y = TopK(p, axis)", ["TopK", "Softmax"], None),
        ("y = ReduceMax<keepdims=0>(p, axis)", ["ReduceMax", "Softmax"], None),
        ("y = ReduceMax(s, axis)", ["ReduceMax"], None),
        # The best class's probability and its number are no two classes.
        (
            "v = ReduceMax(p, axis) i = ArgMax<axis=1>(p) f = Cast<to=1>(i) y = Concat<axis=1>(v, f)",
            ["Concat", "Cast", "ArgMax", "ReduceMax", "Softmax"],
            None,
        ),
        ("b = Greater(p, half) y = Cast<to=1>(b)", ["Cast", "Greater", "Softmax"], None),
        ("y = Reshape(p, flat)", ["Reshape", "Softmax"], None),
    ],
)
def test_a_tail_is_cut_to_the_scores_and_says_what_its_classes_are(tail, cut, elements):
    found = head(f"{SOFTMAX} {tail}")
    assert found.start == "s"
    assert [node.partition(" ")[0] for node in found.cut] == cut
    assert found.elements == (None if elements is None else tuple(elements))


@pytest.mark.parametrize(
    "tail", ["y = ReduceMean<keepdims=0>(s, axis)", "t = Sin(s) y = Mul(s, t)", "y = Relu(s)", "y = Clip(s)"]
)
def test_what_a_derivative_passes_is_no_tail_without_a_softmax(tail):
    assert head(f"{SCORES} {tail}").start == "y"


def test_scores_are_found_above_what_no_derivative_passes():
    assert head(f"{MAPS} t = Mul(r, hundred) a = ArgMax<axis=1,keepdims=0>(t) y = Cast<to=6>(a)").start == "t"


@pytest.mark.parametrize(
    ("outputs", "boxes", "kind"),
    [("y", "", "sequence"), ("y boxes", "boxes = MatMul(t, fours)", "detections")],
)
def test_a_row_of_classes_is_one_of_boxes_where_boxes_stand_beside_it(outputs, boxes, kind):
    body = f"{MAPS} q = Reshape(r, rest) t = Transpose<perm=[0,2,1]>(q) y = Softmax<axis=2>(t) {boxes}"
    loaded = load(model(body, WEIGHTS | {"fours": random(4, 4)}, "N,3,6,9", outputs))
    assert head_of(loaded).kind == kind


QUERIES = f"{MAPS} q = Reshape(r, rest) t = Transpose<perm=[0,2,1]>(q) a = MatMul(asked, q) p = Softmax(a)"
"""Six steps look for something in all places of the map, as readers of text with attention do."""
TOKENS = f"{MAPS} q = Reshape(r, rest) l = Transpose<perm=[0,2,1]>(q) p = Slice(l, first, six, one)"


@pytest.mark.parametrize("batch", ["N", "1", "3"])
@pytest.mark.parametrize("steps", [f"{QUERIES} g = MatMul(p, t)", f"{TOKENS} g = Identity(p)"])
@pytest.mark.parametrize(
    ("tail", "axes"),
    [("y = MatMul(g, m)", (0, 2, (1,))), ("d = MatMul(g, m) y = Add(five, d)", (0, 2, (1,))),
     ("u = Transpose<perm=[0,2,1]>(g) y = MatMul(turned, u)", (0, 1, (2,)))],
)  # fmt: skip
def test_the_last_dense_layer_tells_which_axis_holds_the_classes(steps, tail, axes, batch):
    weights = {"asked": random(6, 4), "five": random(5), "six": np.array([6]), "turned": random(5, 4)}
    found = head(f"{steps} {tail}", batch, **weights, one=np.array([1]))
    assert (found.kind, found.problem, found.assumed) == ("sequence", None, True)
    assert (found.axes.batch, found.axes.classes, found.axes.positions) == axes


@pytest.mark.parametrize(
    ("tail", "output", "labels", "how"),
    [
        ("Identity(s)", "y", (), "sequence, assumed"),
        ("Identity(s)", "logits", (), "sequence, by its name"),
        ("Identity(s)", "y", "abcde", "sequence"),
        ("Softmax<axis=2>(s)", "y", (), "sequence"),
        ("Cast<to=1>(i)", "y", (), "sequence"),
    ],
)
def test_steps_of_a_dense_layer_are_only_assumed_to_have_classes(tail, output, labels, how, tmp_path):
    """They may be a forecast, features or pixels, too: commands say so once, and what tells."""
    body = f"{QUERIES} g = MatMul(p, t) s = MatMul(g, m) i = ArgMax<axis=2>(s) {output} = {tail}"
    path = tmp_path / "net.onnx"
    onnx.save(model(body, WEIGHTS | {"asked": random(6, 4)}, "N,3,6,9", output), path)
    np.save(tmp_path / "x.npy", random(1, 3, 6, 9))
    (tmp_path / "names.txt").write_text("\n".join(labels))
    given = ("--labels", tmp_path / "names.txt") if labels else ()
    if not labels:  # which inspect does not take
        assert re.search(f"^{output} +{how}  ", run("inspect", path)[1], re.MULTILINE)
    made = ("--rules", "gradient", "--json", "-o", tmp_path / "made")
    code, stdout, stderr = run("explain", path, tmp_path / "x.npy", *made, *given)
    assert code == 0, stderr
    assumed = how == "sequence, assumed"
    assert stderr.count("is taken for classes at each step: nothing in the file says so") == assumed
    assert [json.loads(line)["kind_assumed"] for line in stdout.splitlines()] == [assumed]


@pytest.mark.parametrize(("output", "width"), [("y", 2), ("y", 4), ("keypoints", 5), ("features", 5)])
def test_coordinates_and_features_of_a_dense_layer_are_no_steps(output, width):
    body = f"{QUERIES} g = MatMul(p, t) {output} = MatMul(g, dense)"
    weights = WEIGHTS | {"asked": random(6, 4), "dense": random(4, width)}
    ask = Explainer(model(body, weights, "N,3,6,9", output), "gradient", providers="cpu")
    with pytest.raises(InputError, match="give"):
        ask(random(1, 3, 6, 9))


@pytest.mark.parametrize("beside", ["boxes = MatMul(g, fours)", "boxes = MatMul(p, t)"])
def test_dense_layers_beside_each_other_are_of_boxes(beside):
    body = f"{QUERIES} g = MatMul(p, t) y = MatMul(g, m) {beside}"
    weights = WEIGHTS | {"asked": random(6, 4), "fours": random(4, 4)}
    assert head_of(load(model(body, weights, "N,3,6,9", "y boxes")), "y").kind == "detections"


def test_boxes_that_were_picked_are_traced_to_the_scores_of_all():
    body = f"{MAPS} q = Reshape(r, rest) p = Sigmoid(q) n = NonMaxSuppression(boxes, p) y = Cast<to=1>(n)"
    found = head(body, "1", boxes=random(1, 54, 4))
    assert (found.start, found.kind, found.axes) == ("q", "detections", Axes(0, 1, (2,)))
    assert [node.partition(" ")[0] for node in found.cut] == ["Cast", "NonMaxSuppression", "Sigmoid"]


def test_the_softmax_says_which_axis_holds_the_classes():
    body = f"{MAPS} y = Softmax<axis=2>(r)"
    assert head(body).axes == Axes(0, 2, (1, 3))


def test_an_output_that_nothing_tells_about_is_refused_with_those_that_can_be_explained():
    boxes = "q = Transpose<perm=[2,3,0,1]>(r) boxes = Reshape(q, fours)"
    body = f"{SCORES} {boxes} y = Softmax(s)"
    loaded = load(model(body, WEIGHTS | {"fours": np.array([-1, 4])}, "N,3,6,9", "boxes y"))
    with pytest.raises(
        ModelError, match=r"output 'boxes' .* holds the images: choose the output 'y', or a layer"
    ):
        explainable(loaded)
    assert explainable(loaded, "y").start == "s"
    assert [h.problem is None for h in heads(loaded)] == [False, True]
    with pytest.raises(InputError, match="no output 'z'; it has boxes, y"):
        head_of(loaded, "z")


def test_steps_that_stand_among_the_images_are_refused():
    """Where each image has several rows of an output, no row is an image's."""
    body = f"{ROW} t = Transpose<perm=[0,2,1]>(a) q = Reshape(t, rows4) y = Softmax<axis=1>(q)"
    assert "holds the images" in head(body, rows4=np.array([-1, 4])).problem


def test_probabilities_of_several_softmaxes_are_those_of_classes():
    body = f"{SCORES} a1 = Slice(s, first, two, axis) a2 = Slice(s, two, end, axis)"
    found = head(
        f"{body} p1 = Softmax<axis=1>(a1) p2 = Softmax<axis=1>(a2) y = Concat<axis=1>(p1, p2)",
        two=np.array([2]),
    )
    assert (found.kind, found.assumed) == ("classes", False)


def test_the_last_layer_with_an_axis_of_images_is_named():
    # As SCRFD writes its scores, but of several images: their axis is one of many that are joined.
    body = f"{MAPS} t = Transpose<perm=[2,3,0,1]>(r) q = Reshape(t, column) y = Sigmoid(q)"
    proto = model(body, WEIGHTS | {"column": np.array([-1, 1])}, "2,3,6,9")
    with pytest.raises(ModelError, match=r"which axis of output 'y' .* images: choose a layer, as 't'"):
        explainable(load(proto))


@pytest.mark.parametrize(
    ("tail", "layer"),
    [("g = Greater(p, half) f = Cast<to=7>(g) y = ReduceSum<keepdims=0>(f, axis)", "p"),
     ("n = NonZero(s) y = Cast<to=7>(n)", "s")],
)  # fmt: skip
def test_a_layer_that_is_named_where_an_output_is_refused_can_be_explained(tail, layer):
    proto = model(f"{SCORES} p = Sigmoid(s) {tail}", WEIGHTS, "N,3,6,9")
    proto.graph.output[0].type.tensor_type.elem_type = 7
    with pytest.raises(ModelError, match=f"choose a layer, as '{layer}'"):
        explainable(load(proto))
    (found,) = Explainer(proto, "gradient", providers="cpu")(random(1, 3, 6, 9), layer=layer)
    assert found.reconstruction.any()


def test_whole_numbers_that_no_scores_lead_to_are_refused():
    proto = model(f"{SCORES} n = NonZero(s) y = Cast<to=7>(n)", WEIGHTS, "N,3,6,9")
    proto.graph.output[0].type.tensor_type.elem_type = 7
    assert "whole numbers" in head_of(load(proto)).problem


@pytest.mark.parametrize(
    ("body", "shape", "axis"),
    [("y = Conv(x, k)", "4,3,60,3", 1), ("t = Transpose<perm=[0,3,1,2]>(x) y = Conv(t, k)", "N,3,3,3", 3)],
)
def test_the_first_filter_tells_which_axis_holds_the_channels(body, shape, axis):
    assert axis_names(load(model(body, WEIGHTS, shape))).channels == {"x": axis}


@pytest.mark.parametrize(
    ("body", "shape"),
    [
        ("t = Unsqueeze(x, one) y = Conv(t, w)", "N,8,12"),
        ("t = Unsqueeze(x, last) u = Transpose<perm=[0,3,1,2]>(t) y = Conv(u, w)", "N,8,12"),
        ("t = Reshape(x, cut) u = Transpose<perm=[0,2,1]>(t) y = Conv(u, v)", "N,24"),
    ],
)
def test_an_input_whose_axes_the_first_filter_goes_along_has_no_channels(body, shape):
    """A spectrogram that becomes an image of one channel, and a sound that is cut into frames of 8."""
    weights = {
        "one": np.array([1]),
        "last": np.array([3]),
        "cut": np.array([0, 3, 8]),
        "w": np.ones((2, 1, 3, 3), np.float32),
        "v": np.ones((2, 8, 1), np.float32),
    }
    used = {name: each for name, each in weights.items() if f" {name})" in body}
    names = axis_names(load(model(body, used, shape)))
    assert (names.channels, names.planes) == ({}, {"x"})


@pytest.mark.parametrize(
    "axes", [Axes(0, 1, (2, 3)), Axes(2, 3, (0, 1)), Axes(1, 2, (0, 3)), Axes(1, 0, (3, 2))]
)
def test_axes_are_brought_into_order_and_back(axes):
    values = random(2, 3, 4, 5)
    turned = axes.canonical(values)
    assert turned.shape == tuple(values.shape[k] for k in axes.order)
    np.testing.assert_array_equal(axes.restored(turned), values)
    assert axes.sizes(values.shape) == list(turned.shape)
    assert Axes.of(axes.as_dict()) == axes


def test_one_number_per_image_is_one_class():
    axes = Axes(0, None)
    assert axes.canonical(random(7)).shape == (7, 1)
    np.testing.assert_array_equal(axes.restored(axes.canonical(random(7))), random(7))
    assert axes.sizes(["N"]) == ["N", 1]


@pytest.mark.parametrize(
    ("tail", "kind"),
    [
        ("p = Softmax<axis=1>(s)", "classes"),
        ("h = Mul(s, hundred) p = Softmax<axis=1>(h)", "classes"),
        ("p = ArgMax<axis=1>(s)", "classes"),
        ("q = Relu(s) z = MatMul(q, square) p = Softmax<axis=1>(z)", "numbers"),
        ("q = Mul(s, s) p = Identity(q)", "numbers"),
    ],
)
def test_numbers_whose_softmax_another_output_is_are_scores_of_classes(tail, kind):
    proto = model(f"{SCORES} {tail}", WEIGHTS | {"square": random(5, 5)}, "N,3,6,9", "s p a")
    if "ArgMax" in tail:
        proto.graph.output[1].type.tensor_type.elem_type = 7
    told = {each.output: each.kind for each in heads(load(proto))}
    assert (told["s"], told["a"]) == (kind, "numbers")


def test_one_number_whose_sigmoid_another_output_is_is_the_score_of_a_class():
    body = f"{MAPS} g = GlobalAveragePool(r) f = Flatten(g) z = MatMul(f, w) p = Sigmoid(z)"
    proto = model(body, WEIGHTS | {"w": random(4, 1)}, "N,3,6,9", "z p")
    assert [each.kind for each in heads(load(proto))] == ["classes", "classes"]


VIDEO = """c = Reshape(x, frames) d = Conv(c, k) r = Relu(d) p = ReduceMean<keepdims=0>(r, both)
    sizes = Shape(x) n = Gather(sizes, first) t = Gather(sizes, tail)
    shape = Concat<axis=0>(n, t, last) v = Reshape(p, shape)"""
FRAMES = {"frames": np.array([-1, 3, 6, 9]), "last": np.array([-1])}
"""Of each frame four numbers, in rows of frames for each video."""


@pytest.mark.parametrize("frames", ["5", "T"])
@pytest.mark.parametrize(
    ("tail", "kind", "axes"),
    [
        ("e = ReduceMean<keepdims=0>(v, axis) s = MatMul(e, m) y = Softmax(s)", "classes", (0, 1, ())),
        ("s = MatMul(v, m) y = Softmax<axis=2>(s)", "sequence", (0, 2, (1,))),
        ("u = Transpose<perm=[0,2,1]>(v) y = Softmax<axis=1>(u)", "sequence", (0, 1, (2,))),
    ],
)
def test_frames_of_videos_that_pass_as_images_are_parted_again(tail, kind, axes, frames):
    proto = model(f"{VIDEO} {tail}", WEIGHTS | FRAMES, f"N,{frames},3,6,9")
    found = head_of(load(proto))
    assert (found.kind, found.problem) == (kind, None)
    assert (found.axes.batch, found.axes.classes, found.axes.positions) == axes


def test_videos_are_explained_each_by_its_own_frames():
    tail = "e = ReduceMean<keepdims=0>(v, axis) s = MatMul(e, m) y = Softmax(s)"
    ask = Explainer(model(f"{VIDEO} {tail}", WEIGHTS | FRAMES, "N,5,3,6,9"), "gradient", providers="cpu")
    videos = random(3, 5, 3, 6, 9)
    together, alone = ask(videos, 2), [ask(videos[k : k + 1], 2)[0] for k in range(3)]
    for one, same in zip(together, alone, strict=True):
        np.testing.assert_allclose(one.reconstruction, same.reconstruction, rtol=1e-5, atol=1e-8)
        assert np.abs(one.reconstruction).reshape(5, -1).sum(axis=1).all()  # every frame has its share


@pytest.mark.parametrize(
    ("tail", "layer"),
    [
        ("g = Sigmoid(s) t = Greater(g, half) i = Cast<to=7>(t) y = ReduceSum<keepdims=0>(i, axis)", "g"),
        ("h = Mul(s, hundred) i = Cast<to=7>(h) y = ReduceSum<keepdims=0>(i, axis)", "h"),
        ("b = ArgMax<axis=1>(s) c2 = ArgMin<axis=1>(s) y = Add(b, c2)", "s"),
    ],
)
def test_the_layer_that_a_refusal_names_can_be_explained(tail, layer):
    """Of counts, as of ordinal classes, none is a score, and no signal passes what they are counted from."""
    proto = model(f"{SCORES} {tail}", WEIGHTS, "N,3,6,9")
    proto.graph.output[0].type.tensor_type.elem_type = 7
    with pytest.raises(ModelError, match=f"no path leads from scores .*choose a layer, as '{layer}'"):
        explainable(load(proto))
    (found,) = Explainer(proto, "gradient", providers="cpu")(random(1, 3, 6, 9), layer=layer)
    assert not found.is_empty


@pytest.mark.parametrize("scores", ["y = Softmax(d)", "y = Identity(d)"])
@pytest.mark.parametrize("first", [True, False])
def test_an_input_that_is_returned_is_listed_and_the_other_output_explained(scores, first):
    weights = {"k": random(4, 3, 2, 2), "w": random(4, 5)}
    body = f"c = Conv(x, k) g = GlobalAveragePool(c) f = Flatten(g) d = MatMul(f, w) {scores}"
    proto = model(body, weights, "N,3,4,4")
    proto.graph.output.insert(0 if first else 1, proto.graph.input[0])
    onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    ask = Explainer(proto, "gradient", providers="cpu")
    assert ask.head.output == "y"
    (found,) = ask(random(1, 3, 4, 4), 2)
    places = np.zeros((3, 4, 4))
    for row, column in np.ndindex(3, 3):  # a kernel of 2×2 at nine places
        places[:, row : row + 2, column : column + 2] += np.einsum(
            "ocij,o->cij", weights["k"], weights["w"][:, 2]
        )
    np.testing.assert_allclose(found.reconstruction, places / 9, rtol=1e-4, atol=1e-6)
    listed = {head.output: head.problem for head in heads(load(proto))}
    assert listed == {"x": "output 'x' is the input itself", "y": None}
    with pytest.raises(ModelError, match="output 'x' is the input itself: choose the output 'y', or a layer"):
        Explainer(proto, output="x")(random(1, 3, 4, 4))
    del proto.graph.output[1 if first else 0]
    with pytest.raises(ModelError, match="output 'x' is the input itself: choose a layer"):
        Explainer(proto)(random(1, 3, 4, 4))


def test_a_result_with_an_inputs_name_is_refused_with_its_node():
    """As PyTorch's exporter writes a returned input; no runtime takes it."""
    proto = model("y = Relu(x)", {}, "N,3,4,4")
    proto.graph.node.append(onnx.helper.make_node("Identity", ["x"], ["x"], name="same"))
    proto.graph.output.append(proto.graph.input[0])
    with pytest.raises(Exception, match="Duplicate definition"):
        onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    with pytest.raises(ModelError, match="input 'x' is given anew by node 'same', which no runtime takes"):
        load(proto)


@pytest.mark.parametrize(("numbers", "kind"), [(1, "sequence"), (3, "detections")])
def test_the_time_that_two_signals_share_is_one_axis(numbers, kind):
    """A mark for each sample is no box; three numbers may be one."""
    proto = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["": 18]> g (float[N,1,40] x, float[N,4,40] z) => (float[] y) {'
        " j = Concat<axis = 1>(x, z) c = Conv<pads = [1, 1]>(j, w) y = Transpose<perm = [0, 2, 1]>(c) }"
    )
    proto.graph.initializer.append(onnx.numpy_helper.from_array(random(numbers, 5, 3), "w"))
    assert head_of(load(proto)).kind == kind
