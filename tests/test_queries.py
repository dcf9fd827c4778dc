"""Detectors that ask with learned queries, as DETR, and readers of several attributes, against autograd."""

import numpy as np
import onnx
import pytest
import torch
from small_networks import model, random

from onnx_deconv import Explainer, InputError, ModelError, compile_pair, explain_graph, load
from onnx_deconv.compiler.backward import RECONSTRUCTION
from onnx_deconv.runtime import Session, numpy_of

QUERIES, WIDTH, CLASSES = 5, 8, 3
WEIGHTS = {
    "k": random(WIDTH, 3, 2, 2), "row": np.array([0, WIDTH, -1]), "q": random(QUERIES, WIDTH) / 8,
    "wb": random(WIDTH, 4), "bb": random(4), "wc": random(WIDTH, CLASSES), "bc": random(CLASSES),
    "size": np.float32([640]), "before": random(1, QUERIES, 4),
}  # fmt: skip
ATTENTION = (
    "c = Conv<strides=[2,2]>(x, k) f = Reshape(c, row) m = Transpose<perm=[0,2,1]>(f) "
    "l = MatMul(q, f) a = Softmax<axis=-1>(l) t = MatMul(a, m) "
    "d = MatMul(t, wb) b = Add(d, bb) e = MatMul(t, wc) z = Add(e, bc) p = Sigmoid(z)"
)
ROWS = {
    "shares": "s = Sigmoid(b) y = Concat<axis=-1>(s, p)",
    "pixels": "s = Sigmoid(b) r = Mul(s, size) y = Concat<axis=-1>(r, p)",
    "moved": "o = Add(b, before) s = Sigmoid(o) y = Concat<axis=2>(s, p)",
    "classes first": "s = Sigmoid(b) y = Concat<axis=-1>(p, s)",
}
IMAGES = random(2, 3, 8, 8, seed=3)


def detector(rows, names=("a", "b", "c")):
    proto = model(f"{ATTENTION} {ROWS[rows]}", WEIGHTS, "N,3,8,8")
    if names:
        onnx.helper.set_model_props(proto, {"names": str(dict(enumerate(names)))})
    return proto


def scores(x):
    """The scores N×queries×classes, before the sigmoid, in double precision."""
    w = {name: torch.from_numpy(array).double() for name, array in WEIGHTS.items()}
    memory = torch.nn.functional.conv2d(x, w["k"], stride=2).flatten(2)
    tokens = (w["q"] @ memory).softmax(-1) @ memory.transpose(1, 2)
    return tokens @ w["wc"] + w["bc"]


def gradient(position, channel):
    """The derivative of one score of each image by the image."""
    x = torch.from_numpy(IMAGES).double().requires_grad_()
    found = scores(x)
    total = sum(found[i, p, c] for i, (p, c) in enumerate(zip(position, channel, strict=True)))
    return torch.autograd.grad(total, x)[0].numpy()


@pytest.mark.parametrize("rows", ROWS)
def test_the_last_dense_layers_of_queries_tell_the_fields_of_their_boxes(rows):
    found = Explainer(detector(rows), "gradient", providers="cpu")(IMAGES)
    each = scores(torch.from_numpy(IMAGES).double()).numpy().reshape(len(IMAGES), -1).argmax(1)
    position, channel = np.divmod(each, CLASSES)
    assert [f.label for f in found] == ["abc"[c] for c in channel]
    assert [f.position for f in found] == [(p,) for p in position]
    np.testing.assert_allclose(
        [f.reconstruction for f in found], gradient(position, channel), rtol=1e-4, atol=1e-6
    )


@pytest.mark.parametrize("rows", ["shares", "moved"])
def test_an_explain_graph_of_queries_starts_at_the_same_box(rows):
    pair = compile_pair(load(detector(rows)), semantics="gradient")
    graph = explain_graph(pair)
    made = Session(graph.proto, graph.folder, "cpu").run({"x": IMAGES, "target": np.array([1, 1])})
    of_b = scores(torch.from_numpy(IMAGES).double()).numpy()[:, :, 1].argmax(1)
    np.testing.assert_allclose(numpy_of(made[RECONSTRUCTION]), gradient(of_b, [1, 1]), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("rows", ["shares", "pixels"])
def test_queries_without_names_are_asked_about(rows):
    with pytest.raises(InputError, match="nothing tells which of their fields 0 to 6 are classes"):
        Explainer(detector(rows, names=()), "gradient")(IMAGES)


ATTRIBUTES = "c = Conv<strides=[2,2]>(x, k) g = GlobalAveragePool(c) f = Flatten(g)"
HEADS = {f"w{h}": random(WIDTH, 2, seed=h) for h in range(3)}


@pytest.mark.parametrize("axis", [1, 2])
def test_a_stack_of_softmaxes_has_the_classes_of_each_attribute(axis):
    """Colour, age, size, each with two classes: the attributes are steps, and each step has a softmax."""
    each = " ".join(
        f"d{h} = MatMul(f, w{h}) s{h} = Softmax<axis=1>(d{h}) u{h} = Unsqueeze(s{h}, at)" for h in range(3)
    )
    weights = WEIGHTS | HEADS | {"at": np.array([axis])}
    proto = model(f"{ATTRIBUTES} {each} y = Concat<axis={axis}>(u0, u1, u2)", weights, "N,3,8,8")
    ask = Explainer(proto, "gradient", providers="cpu")
    assert (ask.head.kind, ask.head.assumed, ask.head.has_positions) == ("sequence", False, True)
    found = ask(IMAGES, 1, position=(2,))
    # Each pixel of a cell adds its kernel's weights times the dense layer's column, over the 4×4 cells.
    pixel = np.einsum("ocij,o->cij", WEIGHTS["k"], HEADS["w2"][:, 1]) / 16
    for one in found:
        np.testing.assert_allclose(one.reconstruction, np.tile(pixel, (1, 4, 4)), rtol=1e-4, atol=1e-6)
    graph = explain_graph(compile_pair(load(proto), semantics="gradient"))
    made = Session(graph.proto, graph.folder, "cpu").run({"x": IMAGES, "target": np.array([1, 1])})
    both = [one.reconstruction for one in ask(IMAGES, 1)]
    np.testing.assert_allclose(numpy_of(made[RECONSTRUCTION]), both, rtol=1e-4, atol=1e-6)


def test_a_refusal_names_no_softmax_that_attention_weighs_by():
    """Neither of the axes of a token's features is a dense layer's after the Erf."""
    proto = model(f"{ATTENTION.partition(' d =')[0]} y = Erf(t)", WEIGHTS, "N,3,8,8")
    with pytest.raises(ModelError, match=r"does not tell which axis of output 'y' .* as 'l'$"):
        Explainer(proto, "gradient")(IMAGES)
    assert Explainer(proto, "gradient", providers="cpu")(IMAGES, 2, layer="l")


def test_a_refusal_names_no_row_of_all_classes_and_places():
    """As CornerNet picks corners of two kinds, and joins each of one to each of the other."""
    body = (
        "c = Conv<strides=[2,2]>(x, k) s = Sigmoid(c) r = Reshape(s, all) v, i = TopK(r, five) "
        "u = Unsqueeze(v, last) w = Unsqueeze(v, middle) p = Add(u, w) y = Reshape(p, rows)"
    )
    weights = WEIGHTS | {
        "all": np.array([0, -1]), "five": np.array([5]), "last": np.array([2]), "middle": np.array([1]),
        "rows": np.array([-1, 5]),
    }  # fmt: skip
    with pytest.raises(ModelError, match=r"which axis of output 'y' .* images: choose a layer, as 's'$"):
        Explainer(model(body, weights, "N,3,8,8"), "gradient")(IMAGES)


HEADED = {
    "images first": "r = Transpose<perm=[0,2,1,3]>(u) t = Reshape(r, tokens)",
    "queries first": """
        r = Transpose<perm=[2,0,1,3]>(u) n = Reshape(r, rows) o = MatMul(n, wo)
        v = Reshape(o, queries) t = Transpose<perm=[1,0,2]>(v)
    """,
}


@pytest.mark.parametrize("order", HEADED)
def test_heads_and_queries_that_share_an_axis_with_a_free_number_of_images_are_parted(order):
    """As PyTorch's attention computes: images · heads, then queries · images, along the first axis."""
    wo = np.eye(WIDTH, dtype=np.float32) if order == "images first" else random(WIDTH, WIDTH, seed=7) / 8
    weights = WEIGHTS | {
        "wo": wo, "qh": random(QUERIES, WIDTH // 2, seed=5), "heads": np.array([-1, WIDTH // 2, 16]),
        "apart": np.array([-1, 2, QUERIES, WIDTH // 2]), "rows": np.array([-1, WIDTH]),
        "tokens": np.array([-1, QUERIES, WIDTH]), "queries": np.array([QUERIES, -1, WIDTH]),
    }  # fmt: skip
    dense = ATTENTION.partition(" d =")[2]
    body = (
        "c = Conv<strides=[2,2]>(x, k) h = Reshape(c, heads) l = MatMul(qh, h) a = Softmax<axis=-1>(l) "
        f"m = Transpose<perm=[0,2,1]>(h) g = MatMul(a, m) u = Reshape(g, apart) {HEADED[order]} d ={dense}"
    )
    proto = model(f"{body} {ROWS['shares']}", weights, "N,3,8,8")
    onnx.helper.set_model_props(proto, {"names": "['a', 'b', 'c']"})
    x = torch.from_numpy(IMAGES).double().requires_grad_()
    w = {name: torch.from_numpy(array).double() for name, array in weights.items()}
    each = torch.nn.functional.conv2d(x, w["k"], stride=2).reshape(len(IMAGES), 2, WIDTH // 2, 16)
    seen = (w["qh"] @ each).softmax(-1) @ each.transpose(2, 3)
    of_all = seen.transpose(1, 2).flatten(2) @ w["wo"] @ w["wc"] + w["bc"]
    expected = torch.autograd.grad(of_all.flatten(1).max(1).values.sum(), x)[0].numpy()
    ask = Explainer(proto, "gradient", providers="cpu")
    assert ask.head.kind == "detections"
    found = [one.reconstruction for one in ask(IMAGES)]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    pair = compile_pair(load(proto), semantics="gradient")
    made = Session(explain_graph(pair).proto, pair.folder, "cpu").run(
        {"x": IMAGES, "target": np.full(len(IMAGES), -1)}
    )
    np.testing.assert_allclose(numpy_of(made[RECONSTRUCTION]), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("names", [(), ("a", "b", "c")])
def test_points_that_a_sigmoid_makes_are_not_the_scores_of_queries(names):
    """As of detectors of persons by points: what they are follows from their name."""
    weights = WEIGHTS | {"two": random(WIDTH, 2, seed=9)}
    tail = "j = MatMul(t, two) pred_points = Sigmoid(j) pred_logits = Identity(z)"
    rows = f"{ATTENTION.partition(' p =')[0]} {tail}"
    proto = model(rows, weights, "N,3,8,8", "pred_points pred_logits")
    ask = Explainer(proto, "gradient", providers="cpu", labels=names or None)
    assert ask.head.output == "pred_logits"
    if not names:
        with pytest.raises(InputError, match="'pred_logits' holds the scores of boxes, and nothing tells"):
            ask(IMAGES)
        return
    found = ask(IMAGES)
    each = scores(torch.from_numpy(IMAGES).double()).numpy().reshape(len(IMAGES), -1).argmax(1)
    position, channel = np.divmod(each, CLASSES)
    assert [f.label for f in found] == ["abc"[c] for c in channel]
    np.testing.assert_allclose(
        [f.reconstruction for f in found], gradient(position, channel), rtol=1e-4, atol=1e-6
    )


def best(classes=CLASSES):
    """The rows and the classes of each image's most probable class of a softmax, without its last field."""
    shares = scores(torch.from_numpy(IMAGES).double()).softmax(-1)[..., :classes]
    return np.divmod(shares.numpy().reshape(len(IMAGES), -1).argmax(1), classes)


def assert_explained(ask, position, channel):
    found = ask(IMAGES)
    assert [(f.channel, f.position) for f in found] == [
        (c, (p,)) for p, c in zip(position, channel, strict=True)
    ]
    arrays = [f.reconstruction for f in found]
    np.testing.assert_allclose(arrays, gradient(position, channel), rtol=1e-4, atol=1e-6)


BEFORE = ATTENTION.partition(" p =")[0]


@pytest.mark.parametrize("labels", [None, ["a", "b"]])
def test_the_last_share_of_a_softmax_beside_sigmoids_boxes_is_no_object(labels):
    """In one value, as in two: not the first is left out, as of SSD."""
    proto = model(
        f"{BEFORE} s = Sigmoid(b) p = Softmax<axis=2>(z) y = Concat<axis=2>(s, p)", WEIGHTS, "N,3,8,8"
    )
    assert_explained(Explainer(proto, "gradient", providers="cpu", labels=labels), *best(CLASSES - 1))


@pytest.mark.parametrize("order", ["low, high, p", "p, low, high"])
def test_two_corners_beside_the_scores_of_queries_are_a_box(order):
    body = f"""{ATTENTION} s = Sigmoid(b) xy, wh = Split<axis=2>(s, halves) half = Mul(wh, by)
               low = Sub(xy, half) high = Add(xy, half) y = Concat<axis=2>({order})"""
    weights = WEIGHTS | {"halves": np.array([2, 2]), "by": np.float32([0.5])}
    proto = model(body, weights, "N,3,8,8")
    with pytest.raises(InputError, match="nothing tells which of their fields 0 to 6 are classes"):
        Explainer(proto, "gradient")(IMAGES)
    each = scores(torch.from_numpy(IMAGES).double()).numpy().reshape(len(IMAGES), -1).argmax(1)
    assert_explained(
        Explainer(proto, "gradient", providers="cpu", labels=list("abc")), *np.divmod(each, CLASSES)
    )


def test_a_box_that_sigmoids_make_is_no_objectness_and_classes():
    """Three names fit one sigmoid's four numbers, but then nothing would be left for a box."""
    proto = model(f"{BEFORE} s = Sigmoid(b) y = Concat<axis=2>(s, z)", WEIGHTS, "N,3,8,8")
    with pytest.raises(InputError, match="3 labels do not tell which of their fields 0 to 6 are classes"):
        Explainer(proto, "gradient", labels=list("abc"))(IMAGES)


@pytest.mark.parametrize("outputs", ["u z", "z u", "z s u"])
def test_points_without_a_name_are_not_taken_for_scores(outputs):
    weights = WEIGHTS | {"two": random(WIDTH, 2, seed=9)}
    proto = model(f"{BEFORE} s = Sigmoid(b) j = MatMul(t, two) u = Sigmoid(j)", weights, "N,3,8,8", outputs)
    with pytest.raises(InputError, match="nothing tells which of their fields"):
        Explainer(proto, "gradient")(IMAGES)


@pytest.mark.parametrize("outputs", ["z n", "n z"])
def test_a_mask_for_each_query_tells_the_fields_of_its_classes(outputs):
    """As MaskFormer's, of which the last field stands for no object."""
    weights = WEIGHTS | {"map": np.array([0, QUERIES, 4, 4])}
    proto = model(f"{BEFORE} q_f = MatMul(t, f) n = Reshape(q_f, map)", weights, "N,3,8,8", outputs)
    ask = Explainer(proto, "gradient", providers="cpu", labels=["a", "b"])
    assert_explained(ask, *best(CLASSES - 1))
    with pytest.raises(InputError, match="'z' holds the scores of boxes, and nothing tells"):
        Explainer(proto, "gradient")(IMAGES)
