"""What is done to the explained class's channel alone is what is done to all."""

import numpy as np
import onnx
import onnxruntime
import pytest
from commands import run
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import assert_close, model_of, numbers

from onnx_deconv import Explainer, Semantics, compile_pair, explain_graph, load
from onnx_deconv.compiler.passes import EXPLAIN
from onnx_deconv.runtime import Session, numpy_of

CLASSES = 10
FEATURES = "a = Conv<strides = [2, 2], pads = [1, 1, 1, 1]>(x, w1) b = Relu(a) c = Conv(b, w2) f = Relu(c) "
HEADS = {
    "rectified maps": "m = Conv(f, maps, bias) r = Relu(m) g = GlobalAveragePool(r) y = Flatten(g)",
    "maps": "m = Conv(f, maps) g = GlobalAveragePool(m) y = Flatten(g)",
    "linear": "g = GlobalAveragePool(f) h = Flatten(g) y = Gemm<transB = 1>(h, fc, bias)",
    "linear, turned": "g = GlobalAveragePool(f) h = Flatten(g) y = Gemm(h, turned)",
    "two linear layers": "h = Flatten(f) k = Gemm<transB = 1>(h, wide) r = Relu(k)"
    " y = Gemm<transB = 1>(r, last)",
    "rectified maps, not flattened": "m = Conv(f, maps, bias) r = Relu(m) y = GlobalAveragePool(r)",
    "maximum": "m = Conv(f, maps) r = Relu(m) g = GlobalMaxPool(r) y = Flatten(g)",
}
WEIGHTS = {
    "w1": numbers((6, 3, 3, 3), "w1"),
    "w2": numbers((8, 6, 3, 3), "w2"),
    "maps": numbers((CLASSES, 8, 1, 1), "maps"),
    "bias": numbers((CLASSES,), "bias"),
    "fc": numbers((CLASSES, 8), "fc"),
    "turned": numbers((8, CLASSES), "turned"),
    "wide": numbers((7, 8 * 16), "wide"),
    "last": numbers((CLASSES, 7), "last"),
}
RECTIFIED = "rectified maps", "rectified maps, not flattened"
METHODS = {
    "auto": Semantics("guided", "grad-cam^3", "class-map"),
    "guided": Semantics("guided"),
    "gradient": Semantics("gradient"),
    "deconvnet": Semantics(),
}


def graphs(head, method, **more):
    """Return the explain graph with the pass, and without any, ready to run."""
    body = FEATURES + HEADS[head]
    used = {name: array for name, array in WEIGHTS.items() if name in body}
    pair = compile_pair(load(model_of(body, {"x": ("N", 3, 12, 12)}, used)), semantics=METHODS[method])
    made = [explain_graph(pair, passes=passes, **more) for passes in (EXPLAIN["cpu"], ())]
    return [(graph, Session(graph.proto, graph.folder, "cpu")) for graph in made]


def operators(graph):
    return {n.op_type for n in graph.proto.graph.node}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("head", HEADS)
def test_the_explained_classs_channel_is_enough(head, method):
    (chosen, ours), (_, plain) = graphs(head, method)
    x = numbers((4, 3, 12, 12), "x")
    for target in ([0, 4, 2, 2], [-1, -1, 3, -1], [CLASSES, 1, CLASSES + 7, 0]):  # -1: the top; beyond: none
        feeds = {"x": x, "target": np.asarray(target, np.int64)}
        found, expected = (numpy_of(s.run(feeds)["reconstruction"]) for s in (ours, plain))
        assert_close(found, expected)
        for image, k in enumerate(target):
            assert found[image].any() == (expected[image].any() and k < CLASSES)
    stays = {
        "maps": set(METHODS) - {"auto"},
        **{head: {"deconvnet"} for head in RECTIFIED},
        "maximum": set(METHODS),
    }
    # There the signal is the same all over each map, which the pass `uniform` uses, or goes elsewhere.
    assert ("OneHot" in operators(chosen)) is (method in stays.get(head, ()))


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.integers(-1, CLASSES), min_size=1, max_size=4), st.sampled_from(["rectified maps", "linear"])
)
def test_each_image_has_a_class_of_its_own(targets, head):
    (_, ours), (_, plain) = graphs(head, "auto")
    feeds = {"x": numbers((len(targets), 3, 12, 12), "x"), "target": np.asarray(targets, np.int64)}
    found, expected = (numpy_of(s.run(feeds)["reconstruction"]) for s in (ours, plain))
    assert_close(found, expected)


def test_several_classes_of_an_image_are_done_as_before():
    (several, ours), (_, plain) = graphs("rectified maps", "auto", top=2)
    assert "OneHot" in operators(several)
    feeds = {"x": numbers((2, 3, 12, 12), "x"), "target": np.asarray([[1, 3], [-1, -1]], np.int64)}
    found, expected = (numpy_of(s.run(feeds)["reconstruction"]) for s in (ours, plain))
    assert_close(found, expected)


@pytest.mark.parametrize("head", ["linear", "linear, turned", "maps"])
def test_of_a_float16_filter_the_rows_of_the_classes_alone_become_float32(head):
    """OpenVINO cannot run a filter whose float16 weight is read as float32 by a Gather, too."""
    body = FEATURES + HEADS[head]
    used = {name: array for name, array in WEIGHTS.items() if name in body}
    net = model_of(body, {"x": ("N", 3, 12, 12)}, used, real="float16")
    pair = compile_pair(load(net), semantics=METHODS["auto" if head == "maps" else "deconvnet"])
    ours, plain = (explain_graph(pair, passes=passes) for passes in (EXPLAIN["cpu"], ()))
    makers = {v: n.op_type for n in ours.proto.graph.node for v in n.output}
    (gather,) = (n for n in ours.proto.graph.node if n.op_type == "Gather")
    assert gather.input[0] not in makers
    feeds = {"x": numbers((2, 3, 12, 12), "x").astype(np.float16), "target": np.array([3, 7])}
    found, expected = (
        numpy_of(Session(g.proto, g.folder, "cpu").run(feeds)["reconstruction"]) for g in (ours, plain)
    )
    assert expected.any()
    assert_close(found, expected)


@pytest.mark.parametrize("head", ["rectified maps", "linear"])
@pytest.mark.parametrize(
    "choices",
    [
        (),
        ("--rules", "guided"),
        ("--cam", "grad-cam"),
        ("--rules", "guided", "--cam", "grad-cam^3", "--head", "class-map"),
        ("--rules", "guided", "--cam", "grad-cam", "--cam-layer", "b"),
    ],
    ids=" ".join,
)
def test_a_converted_graph_explains_as_the_library(head, choices, tmp_path):
    body = FEATURES + HEADS[head]
    used = {name: array for name, array in WEIGHTS.items() if name in body}
    onnx.save(model_of(body, {"x": ("N", 3, 12, 12)}, used), tmp_path / "m.onnx")
    code, _, _ = run("convert", tmp_path / "m.onnx", "--form", "explain", *choices, "-o", tmp_path / "out")
    assert code == 0
    given = {
        name[2:].replace("-", "_"): value for name, value in zip(choices[::2], choices[1::2], strict=True)
    }
    explainer = Explainer(tmp_path / "m.onnx", Semantics(**given), providers="cpu")
    x, targets = numbers((3, 3, 12, 12), "x"), [0, 4, 2]
    expected = np.stack([one.reconstruction for one in explainer(x, targets)])
    session = onnxruntime.InferenceSession(
        tmp_path / "out" / "explain.onnx", providers=["CPUExecutionProvider"]
    )
    (found,) = session.run(["reconstruction"], {"x": x, "target": np.asarray(targets, np.int64)})
    assert expected.any()
    assert_close(found, expected)
