"""Detectors that propose regions, cut them out and classify them (Faster R-CNN), or multiply (FCOS)."""

import numpy as np
import onnx
import pytest
from small_networks import model, random
from torch_oracle import Oracle

from onnx_deconv import Explainer, ModelError, RuleError, compile_pair, explain_graph, load
from onnx_deconv.compiler.backward import RECONSTRUCTION
from onnx_deconv.runtime import Session, numpy_of
from onnx_deconv.verification import verify

ANCHORS = np.float32([
    [x, y, x + side, y + side] for side in (5.3, 8.9) for y in (0, 4.2, 7.1) for x in (0.5, 4.1, 9.3)
])  # fmt: skip
WEIGHTS = {
    "k": random(6, 3, 3, 3) / 5, "anchors": ANCHORS, "wo": random(6, 18) / 2, "wb": random(6, 72) / 10,
    "four": np.array([-1, 4]), "five": np.array([5]), "row": np.array([-1]), "w1": random(54, 8) / 5,
    "w2": random(8, 4), "first": np.array([1]), "all": np.array([4]), "last": np.array([1]),
    "classes": np.array([0, -1]), "most": np.array([3]), "rank": np.array(0), "iou": np.float32([0.5]),
    "least": np.float32([0.01]), "lead": np.array([0]), "column": np.array([2]), "zero": np.array(0),
}  # fmt: skip
PROPOSED = """
    c = Conv<strides=[2,2], pads=[1,1,1,1]>(x, k) m = Relu(c)
    g = GlobalAveragePool(m) f = Flatten(g) o = MatMul(f, wo) score = Reshape(o, row)
    d = MatMul(f, wb) moves = Reshape(d, four) moved = Add(anchors, moves)
    top, best = TopK(score, five) boxes = Gather(moved, best)
    image = Shape<start=0, end=1>(best) images = ConstantOfShape<value={MANY}>(image)
"""
CLASSIFIED = """
    r = RoiAlign<output_height=3, output_width=3, sampling_ratio={ratio}, spatial_scale=0.5>(m, boxes, images)
    h = Flatten(r) a = MatMul(h, w1) b = Relu(a) z = MatMul(b, w2) p = Softmax<axis=-1>(z)
    s = Slice(p, first, all, last)
"""
PICKED = {
    "best class": "y = ReduceMax<keepdims=0>(s, last)",
    "best of all": "l = Reshape(s, row) y, i = TopK(l, most)",
    "each class": """
        t = Transpose(s) u = Unsqueeze(t, lead) v = Unsqueeze(boxes, lead)
        n = NonMaxSuppression(v, u, most, iou, least) places = Gather<axis=1>(n, column)
        w = Squeeze(places, last) l = ReduceMax<keepdims=0>(s, last) y = Gather(l, w)
    """,
}


def detector(picked="best class", ratio=2, shape="1,3,16,16"):
    body = f"{PROPOSED}{CLASSIFIED.format(ratio=ratio)}{PICKED[picked]}"
    body = body.replace("<value={MANY}>", "<value=int64[1] {0}>")
    return model(body, WEIGHTS, shape, "y boxes")


IMAGE = random(1, 3, 16, 16, seed=4)


def expected(proto, channel, feeds):
    """The derivative of the class's best region's score by PyTorch, the regions being where they are."""
    oracle = Oracle(proto)
    z = oracle.forward({"x": feeds}, ["z"])["z"].detach().numpy()
    shares = np.exp(z) / np.exp(z).sum(1, keepdims=True)
    if channel is None:
        channel = int(shares[:, 1:].max(0).argmax())
    seed = np.zeros_like(z)
    place = int(shares[:, 1 + channel].argmax())
    seed[place, 1 + channel] = 1
    return channel, place, oracle.back("z", seed, "gradient")["x"]


@pytest.mark.parametrize("picked", PICKED)
@pytest.mark.parametrize("ratio", [0, 2])
def test_a_class_is_explained_from_its_best_region(picked, ratio):
    proto = detector(picked, ratio)
    ask = Explainer(proto, "gradient", providers="cpu")
    assert (ask.head.output, ask.head.kind, ask.head.start) == ("y", "detections", "z")
    for target in (None, 0, 2):
        (found,) = ask(IMAGE) if target is None else ask(IMAGE, target)
        channel, place, derivative = expected(proto, target, IMAGE)
        assert (found.channel, found.position) == (channel, (place,))
        assert np.abs(derivative).max() > 0
        np.testing.assert_allclose(found.reconstruction[None], derivative, rtol=1e-4, atol=1e-6)


def test_an_explain_graph_starts_at_the_same_region():
    proto = detector()
    graph = explain_graph(compile_pair(load(proto), semantics="gradient"))
    session = Session(graph.proto, graph.folder, "cpu")
    for target in (-1, 0, 2):
        made = numpy_of(session.run({"x": IMAGE, "target": np.array([target])})[RECONSTRUCTION])
        wanted = expected(proto, None if target == -1 else target, IMAGE)[2]
        np.testing.assert_allclose(made, wanted, rtol=1e-4, atol=1e-6)


def test_regions_of_several_images_in_one_row_are_refused():
    with pytest.raises(ModelError, match=r"does not tell which axis of output 'y' .* holds the images"):
        Explainer(detector(shape="N,3,16,16"), "gradient")(IMAGE)


def test_the_largest_sample_of_a_region_is_refused():
    proto = detector()
    node = next(node for node in proto.graph.node if node.op_type == "RoiAlign")
    node.attribute.append(onnx.helper.make_attribute("mode", "max"))
    with pytest.raises(RuleError, match="mode='max'; only 'avg' can be sent back"):
        Explainer(proto, "gradient", providers="cpu")(IMAGE)


@pytest.mark.parametrize(("held", "verdicts"), [(False, {"not covered"}), (True, {"ok"})])
def test_verify_says_that_steps_tell_nothing_where_regions_move(held, verdicts):
    proto = detector()
    if held:
        node = next(node for node in proto.graph.node if node.op_type == "RoiAlign")
        node.input[1:] = ["anchors", "none"]
        proto.graph.initializer.append(onnx.numpy_helper.from_array(np.zeros(len(ANCHORS), np.int64), "none"))
    checks = [check for check in verify(load(proto), {"x": IMAGE}) if check.name == "difference"]
    assert {check.verdict for check in checks} == verdicts
    if not held:
        assert checks[0].detail == "x: the places where RoiAlign reads move with the image, and get no signal"


def test_an_old_files_regions_lie_where_they_did():
    """Opset 16 moved them by half a pixel; an explain graph has a newer opset than the file."""
    weights = {"k": WEIGHTS["k"], "anchors": ANCHORS, "images": np.zeros(len(ANCHORS), np.int64)}
    body = "m = Conv(x, k) r = RoiAlign<output_height=3, output_width=3>(m, anchors, images)"
    proto = model(f"{body} y = ReduceMean<axes=[0,2,3]>(r)", weights, "1,3,16,16")
    proto.opset_import[0].version = 11
    seed = np.float32([[[[1]], [[0]], [[0]], [[2]], [[0]], [[0]]]])
    oracle = Oracle(proto)
    y = oracle.forward({"x": IMAGE}, ["y"])["y"].detach().numpy()
    back = oracle.back("y", seed, "gradient")["x"]
    pair = compile_pair(load(proto), "y", semantics="gradient")
    graph = explain_graph(pair, target="array")
    made = Session(graph.proto, graph.folder, "cpu").run({"x": IMAGE, "target": seed})
    np.testing.assert_allclose(numpy_of(made[RECONSTRUCTION]), back, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(numpy_of(made["y"]), y, rtol=1e-4, atol=1e-6)


# --- FCOS: a class's probability times that of a centre, taken level by level -----------------------

LEVELS = """
    c1 = Conv<strides=[4,4]>(x, k) c2 = Conv<strides=[8,8]>(x, l)
    r1 = Reshape(c1, rows) r2 = Reshape(c2, rows) r = Concat<axis=2>(r1, r2) t = Transpose<perm=[0,2,1]>(r)
    cls, ctr, box = Split<axis=2>(t, parts)
"""
LEVEL = """
    a{n} = Slice(cls, from{n}, to{n}, along) d{n} = Gather<axis=0>(a{n}, zero) p{n} = Sigmoid(d{n})
    e{n} = Slice(ctr, from{n}, to{n}, along) f{n} = Gather<axis=0>(e{n}, zero) q{n} = Sigmoid(f{n})
    m{n} = Mul(p{n}, q{n}) s{n} = Sqrt(m{n}) l{n} = Reshape(s{n}, row) v{n}, i{n} = TopK(l{n}, most)
"""
CENTRED = {
    "k": random(9, 3, 4, 4) / 4, "l": random(9, 3, 8, 8) / 8, "rows": np.array([0, 9, -1]),
    "parts": np.array([4, 1, 4]), "from1": np.array([0]), "to1": np.array([16]), "from2": np.array([16]),
    "to2": np.array([20]), "along": np.array([1]), "zero": np.array(0), "row": np.array([-1]),
    "most": np.array([3]),
}  # fmt: skip


@pytest.mark.parametrize("target", [None, 0, 3])
def test_products_of_each_level_are_explained_as_one(target):
    """The logarithm of a product is a sum: of the class's score and the centre's, at the best box of all."""
    body = f"{LEVELS} {LEVEL.format(n=1)} {LEVEL.format(n=2)} y = Concat<axis=0>(v1, v2)"
    proto = model(body, CENTRED, "1,3,16,16", "y box")
    ask = Explainer(proto, "gradient", providers="cpu")
    assert (ask.head.output, ask.head.kind, ask.fields.count) == ("y", "detections", 4)
    (found,) = ask(IMAGE) if target is None else ask(IMAGE, target)
    oracle = Oracle(model(f"{LEVELS} z = Add(cls, ctr)", CENTRED, "1,3,16,16", "z cls ctr"))
    values = {
        name: v.detach().numpy()[0] for name, v in oracle.forward({"x": IMAGE}, ["z", "cls", "ctr"]).items()
    }
    chances = 1 / (1 + np.exp(-values["cls"])) / (1 + np.exp(-values["ctr"]))
    channel = int(chances.max(0).argmax()) if target is None else target
    place = int(chances[:, channel].argmax())
    assert (found.channel, found.position) == (channel, (place,))
    seed = np.zeros((1, 20, 4))
    seed[0, place, channel] = 1
    wanted = oracle.back("z", seed, "gradient")["x"]
    np.testing.assert_allclose(found.reconstruction[None], wanted, rtol=1e-4, atol=1e-6)
    graph = explain_graph(compile_pair(load(proto), semantics="gradient"))
    made = Session(graph.proto, graph.folder, "cpu").run(
        {"x": IMAGE, "target": np.array([-1 if target is None else target])}
    )
    np.testing.assert_allclose(numpy_of(made[RECONSTRUCTION]), wanted, rtol=1e-4, atol=1e-6)
