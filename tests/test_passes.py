"""Every pass computes what the graph computed, and does take effect."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from oracle import answer, assert_close
from zoo_files import ZOO

from onnx_deconv import InputError, compile_pair, explain_graph, load
from onnx_deconv.compiler.explain_manifest import own_top
from onnx_deconv.compiler.passes import COMPANION, EXPLAIN, MAXIMA, PASSES, apply_passes
from onnx_deconv.compiler.passes.registry import optimisation_pass
from onnx_deconv.compiler.profiles import PROFILES
from onnx_deconv.runtime import PairSession, Session, numpy_of

RNG = np.random.default_rng(2)


def model(nodes, shape, tensors, opset=18):
    initializers = [numpy_helper.from_array(a, n) for n, a in tensors.items()]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
    y = helper.make_empty_tensor_value_info("y")
    graph = helper.make_graph(nodes, "net", [x], [y], initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def run(proto, x):
    return answer(proto, {"x": x})


def operators(proto):
    return {n.op_type for n in proto.graph.node}


def normal(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


@settings(max_examples=60)
@given(
    st.integers(1, 3), st.integers(1, 3), st.sampled_from([(1, 20), (2, 8), (20, 1), (3, 16)]),
    st.integers(1, 2), st.integers(0, 2),
)  # fmt: skip
def test_filters_in_steps_of_one_are_turned(kernel, other, channels, dilation, pad):
    group, each = channels
    shape = (2, group * 2, 9, 8)
    around = [min(pad, (k - 1) * dilation) for k in (kernel, other)] * 2
    node = helper.make_node(
        "ConvTranspose", ["x", "w"], ["y"], pads=around, dilations=[dilation] * 2, group=group
    )
    proto = model([node], shape, {"w": normal(group * 2, each, kernel, other)})
    optimised = apply_passes(proto, ["filters"])
    assert "ConvTranspose" in operators(proto) - operators(optimised)
    x = normal(*shape)
    assert_close(run(optimised, x), run(proto, x))


def many_channels(size, before=256, after=512, name="deconv/c", nodes=(), weights=None, **attributes):
    conv = helper.make_node("Conv", ["x", "w"], ["y"], name, **attributes)
    weights = weights or {"w": normal(after, before // attributes.get("group", 1), 3, 3) / before}
    return model([*nodes, conv], ["N", before, *size], weights)


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(
    st.tuples(st.integers(14, 21), st.integers(14, 21)), st.tuples(*[st.integers(0, 2)] * 4),
    st.sampled_from([(256, 1024), (1024, 256), (528, 512)]), st.integers(1, 2),
)  # fmt: skip
def test_filters_of_many_channels_take_fewer_multiplications(size, pads, channels, batch):
    proto = many_channels(size, *channels, pads=pads)
    optimised = apply_passes(proto, ["winograd"])
    results = [size[0] + pads[0] + pads[2] - 2, size[1] + pads[1] + pads[3] - 2]
    if all(result % 4 == 0 and result > 13 for result in results):  # whole tiles, and many
        assert "Split" in operators(optimised)
    x = normal(batch, channels[0], *size)
    expected = run(proto, x)
    assert_close(run(optimised, x), expected)


@pytest.mark.slow
@pytest.mark.parametrize(
    "other",
    [
        {"name": "c"},  # the user's own
        {"after": 64},
        {"before": 508, "after": 1024},
        {"strides": [2, 2]},
        {"dilations": [2, 2]},
        {"group": 2},
        {"auto_pad": "SAME_UPPER"},
        {"size": (5, 5), "before": 2048, "after": 2048},  # nine results are not worth a tile
        {"size": (200, 200), "before": 64, "after": 64},  # the rows' and columns' products would be too large
        {"size": (None, None)},
        {"weights": {"w": normal(512, 512, 5, 5)}},
    ],
)
def test_other_filters_of_many_channels_multiply_as_before(other):
    proto = many_channels(**{"size": (18, 18), "before": 512, "after": 512} | other)
    assert operators(apply_passes(proto, ["winograd"])) == {"Conv"}


def test_filters_of_many_channels_are_told_from_others():
    """What the other test changes, one thing at a time, is what makes the difference."""
    proto = many_channels((18, 18), 512, 512)
    optimised, x = apply_passes(proto, ["winograd"]), normal(1, 512, 18, 18)
    assert "Split" in operators(optimised)
    expected = run(proto, x)
    assert_close(run(optimised, x), expected)


@settings(max_examples=100)
@given(
    st.integers(1, 5), st.integers(1, 5), st.integers(2, 3), st.integers(0, 2), st.integers(0, 1),
    st.integers(0, 1), st.sampled_from([None, 2]),
)  # fmt: skip
def test_depthwise_filters_in_larger_steps_are_taken_apart(kernel, other, step, pad, end, more, batch):
    kernels = [kernel, other]
    pads = [min(pad, k - 1) for k in kernels] + [min(end, k - 1) for k in kernels]
    node = helper.make_node(
        "ConvTranspose", ["x", "w"], ["y"], "n", pads=pads, strides=[step] * 2, group=5,
        output_padding=[more] * 2,
    )  # fmt: skip
    proto = model([node], [batch or "N", 5, 6, 7], {"w": normal(5, 1, *kernels)})
    optimised = apply_passes(proto, ["depthwise"])
    if min(kernels) < step:  # some values are 0
        assert operators(optimised) == {"ConvTranspose"}
    elif max(pads) <= min((min(kernels) - 1) // 2, min(kernels) - step):  # each part begins in the picture
        assert "ConvTranspose" not in operators(optimised)
    x = normal(2, 5, 6, 7)
    assert_close(run(optimised, x), run(proto, x))


@pytest.mark.parametrize(
    ("channels", "attributes", "others"),
    [
        (4, {}, {"Relu": 4, "Conv": 8}),
        (9, {}, {"Relu": 4, "Conv": 5}),
        (4, {"pads": [1] * 4}, {"Relu": 4, "Conv": 5}),
        (4, {"strides": [2, 2]}, {"Relu": 4, "Conv": 5}),
        (4, {"auto_pad": "SAME_UPPER"}, {"Relu": 4, "Conv": 5}),
        (8, {"group": 8}, {"Relu": 4, "Conv": 5}),
    ],
)
def test_parts_of_a_picture_are_put_together_where_the_channels_are_fewest(channels, attributes, others):
    nodes = [
        helper.make_node(
            "ConvTranspose", ["x", "w"], ["a"], "n", pads=[1] * 4, strides=[2] * 2, group=8,
            output_padding=[1, 0],
        ),
        helper.make_node("Relu", ["a"], ["b"], "r"),
        helper.make_node("Conv", ["b", "v"], ["y"], "c", **attributes),
    ]  # fmt: skip
    weights = {"w": normal(8, 1, 3, 3), "v": normal(channels, 8 // attributes.get("group", 1), 1, 1)}
    proto = model(nodes, ["N", 8, 6, 7], weights)
    optimised = apply_passes(proto, ["depthwise"])
    found = [n.op_type for n in optimised.graph.node]
    assert {name: found.count(name) for name in others} == others
    x = normal(3, 8, 6, 7)
    assert_close(run(optimised, x), run(proto, x))


def test_a_pool_over_all_of_a_map_is_not_taken_apart():
    node = helper.make_node("ConvTranspose", ["x", "w"], ["y"], "n", strides=[8] * 2, group=8)
    proto = model([node], [2, 8, 1, 1], {"w": normal(8, 1, 8, 8)})
    assert operators(apply_passes(proto, ["depthwise"])) == {"ConvTranspose"}


def test_parts_of_a_picture_that_others_read_too_are_put_together_before():
    nodes = [
        helper.make_node("ConvTranspose", ["x", "w"], ["a"], "n", strides=[2] * 2, group=8),
        helper.make_node("Relu", ["a"], ["b"], "r"),
        helper.make_node("ReduceL1", ["a"], ["s"], "s"),  # a sum could come to nearly nothing
        helper.make_node("Mul", ["b", "s"], ["y"], "m"),
    ]
    proto = model(nodes, [2, 8, 6, 7], {"w": normal(8, 1, 3, 3)})
    optimised = apply_passes(proto, ["depthwise"])
    found = [n.op_type for n in optimised.graph.node]
    assert (found.count("Conv"), found.count("Relu")) == (4, 1)
    x = normal(2, 8, 6, 7)
    assert_close(run(optimised, x), run(proto, x))


@pytest.mark.parametrize(
    "attributes",
    [{"strides": [2, 2]}, {"output_shape": [12, 12]}, {"auto_pad": "SAME_UPPER"}, {"pads": [3] * 4}],
)
def test_other_filters_stay_as_they_are(attributes):
    node = helper.make_node("ConvTranspose", ["x", "w"], ["y"], "n", **attributes)
    proto = model([node], (1, 4, 9, 9), {"w": normal(4, 32, 3, 3)})
    assert operators(apply_passes(proto, PASSES)) == {"ConvTranspose"}


def averaged(*nodes, channels=6, size=(5, 4), batch="N", **tensors):
    """Nodes between x, as a global average pool sends it back, and y."""
    tensors = {"shape": np.array([1, 1, *size]), "w": normal(7, channels, 1, 1)} | tensors
    expand = helper.make_node("Expand", ["x", "shape"], ["a"], "expand")
    return model([expand, *nodes], (batch, channels, 1, 1), tensors)


ALIKE = {
    "Relu": [helper.make_node("Relu", ["a"], ["y"], "n")],
    "a 1×1 convolution": [helper.make_node("Conv", ["a", "w"], ["y"], "n")],
    "a scaling": [helper.make_node("Mul", ["a", "each"], ["y"], "n")],
    "a number": [helper.make_node("Div", ["a", "number"], ["y"], "n")],
    "a chain": [
        helper.make_node("Relu", ["a"], ["b"], "n"),
        helper.make_node("Conv", ["b", "w"], ["c"], "m"),
        helper.make_node("LeakyRelu", ["c"], ["y"], "o", alpha=0.3),
    ],
    "a split": [
        helper.make_node("Split", ["a"], ["b", "c"], "n", axis=1, num_outputs=2),
        helper.make_node("Relu", ["b"], ["d"], "m"),
        helper.make_node("Sub", ["d", "c"], ["y"], "o"),
    ],
    "another reader": [
        helper.make_node("Relu", ["a"], ["b"], "n"),
        helper.make_node("Sub", ["a", "b"], ["y"], "o"),
    ],
}


@pytest.mark.parametrize(("terms", "left"), [(["a", "whole"], 0), (["whole", "a", "a"], 0), (["a", "a"], 1)])
def test_a_sum_enlarges_its_terms_by_itself(terms, left):
    whole = helper.make_node("Relu", ["large"], ["whole"], "r")
    sum_of = helper.make_node("Sum", terms, ["y"], "n")
    proto = averaged(whole, sum_of, batch=3, large=normal(1, 6, 5, 4))
    optimised = apply_passes(proto, ["uniform"])
    assert [n.op_type for n in optimised.graph.node].count("Expand") == left
    x = normal(3, 6, 1, 1)
    np.testing.assert_array_equal(run(optimised, x), run(proto, x))


def test_sums_of_signals_become_additions_of_two():
    sums = [helper.make_node("Sum", ["x", *"abc"[:k]], [f"y{k}"], f"deconv/{k}") for k in range(4)]
    sums.append(helper.make_node("Sum", [f"y{k}" for k in range(4)], ["y"], "the user's own"))
    proto = model(sums, ["N", 4], {name: normal(1, 4) for name in "abc"})
    optimised = apply_passes(proto, ["sums"])
    found = [n.op_type for n in optimised.graph.node]
    assert (found.count("Add"), found.count("Sum")) == (1 + 2 + 3, 2)
    x = normal(3, 4)
    assert_close(run(optimised, x), run(proto, x))


def residual_blocks(channels=16, batch="N", high=5, back="deconv/", last="Conv", *, rectified=False):
    """Chain three sums of a signal and a convolution's result; the signal comes from outside the layout."""
    make = helper.make_node
    nodes = [make("ConvTranspose", ["x", "t"], ["s"], f"{back}t", strides=[2, 2])]
    if rectified:
        nodes.append(make("Relu", ["s"], ["a0"], f"{back}r"))
    else:
        nodes[0].output[0] = "a0"
    for k in range(3):
        nodes += [
            make("Conv", [f"a{k}", "w"], [f"c{k}"], f"{back}c{k}", pads=[1] * 4),
            make("Add", [f"a{k}", f"c{k}"], [f"b{k}"], f"{back}s{k}"),
            make("Relu", [f"b{k}"], [f"a{k + 1}"], f"{back}r{k}"),
        ]
    nodes.append(make(last, ["a3", "w", "x"][: 1 if last == "Relu" else 2], ["y"], f"{back}y"))
    tensors = {"t": normal(channels, channels, 2, 2), "w": normal(channels, channels, 3, 3) / 8}
    return model(nodes, [batch, channels, high, 4], tensors)


def entries(proto):
    """Count the depthwise convolutions."""
    return sum(a.name == "group" and a.i > 1 for n in proto.graph.node for a in n.attribute)


@pytest.mark.parametrize("rectified", [False, True])
@pytest.mark.parametrize("last", ["Conv", "Relu"])
@pytest.mark.parametrize("batch", ["N", 2])
def test_a_chain_of_sums_enters_the_blocked_layout_once(rectified, last, batch):
    proto = residual_blocks(batch=batch, last=last, rectified=rectified)
    optimised = apply_passes(proto, ["residuals"])
    assert entries(optimised) == 1
    assert len(optimised.graph.node) == len(proto.graph.node) + 1  # a ReLU that was moved is not left behind
    x = normal(2, 16, 5, 4)
    assert_close(run(optimised, x), run(proto, x))


@pytest.mark.parametrize(
    "spoilt", [{"channels": 20}, {"high": "H"}, {"back": ""}], ids=["channels", "sizes", "the model's own"]
)
def test_sums_that_the_blocked_layout_would_not_take_stay(spoilt):
    proto = residual_blocks(**spoilt)
    assert apply_passes(proto, ["residuals"]).graph.node == proto.graph.node


@pytest.mark.parametrize("kept", [["c0"], ["c0", "d0"], []])
def test_what_is_added_and_kept_is_added_by_one_more_convolution(kept):
    """Once for each sum; where nothing else reads a result, its own convolution takes the sum in."""
    make, conv = helper.make_node, {"kernel_shape": [1, 1]}
    nodes = [
        make("Conv", ["x", "w"], ["c0"], **conv), make("Conv", ["x", "v"], ["d0"], **conv),
        make("Add", ["c0", "d0"], ["s"]), make("Relu", ["s"], ["r"]), make("Conv", ["r", "w"], ["y"], **conv),
        *(make("GlobalMaxPool", [value], [f"{value}/max"]) for value in kept),
    ]  # fmt: skip
    proto = model(nodes, ["N", 16, 5, 4], {"w": normal(16, 16, 1, 1), "v": normal(16, 16, 1, 1)})
    proto.graph.output.extend(helper.make_empty_tensor_value_info(f"{value}/max") for value in kept)
    optimised = apply_passes(proto, ["shared"])
    assert entries(optimised) == bool(kept)
    x = normal(2, 16, 5, 4)
    np.testing.assert_array_equal(run(optimised, x), run(proto, x))


@pytest.mark.parametrize("channels", [16, 20])
@pytest.mark.parametrize("kept", [True, False])
def test_what_is_limited_and_kept_is_limited_by_one_more_convolution(kept, channels):
    """Where nothing else reads a result, its own convolution takes the limits in."""
    make = helper.make_node
    nodes = [
        make("Conv", ["x", "w"], ["c"], kernel_shape=[1, 1]),
        make("Clip", ["c", "low", "high"], ["r"]),
        make("Conv", ["r", "w"], ["y"], kernel_shape=[1, 1]),
        *([make("GlobalMaxPool", ["c"], ["c/max"])] if kept else []),
    ]
    bounds = {"low": np.float32(0), "high": np.float32(0.5)}
    proto = model(nodes, ["N", channels, 5, 4], {"w": normal(channels, channels, 1, 1), **bounds})
    proto.graph.output.extend([helper.make_empty_tensor_value_info("c/max")] if kept else [])
    optimised = apply_passes(proto, ["shared"])
    assert entries(optimised) == (kept and channels == 16)
    x = normal(2, channels, 5, 4)
    np.testing.assert_array_equal(run(optimised, x), run(proto, x))


@pytest.mark.parametrize("other", ["a0", "result", "c0"])
def test_only_those_read_the_entered_signal_that_gain(other):
    proto = residual_blocks()
    read = helper.make_node("Sigmoid", ["c0" if other == "c0" else "a0"], ["z"], "deconv/z")
    proto.graph.node.insert(3, read)
    proto.graph.output.append(helper.make_empty_tensor_value_info("a0" if other == "result" else "z"))
    optimised = apply_passes(proto, ["residuals"])
    assert entries(optimised) == 1
    assert next(n.input[0] for n in optimised.graph.node if n.name == "deconv/t") == "x"
    x = normal(2, 16, 5, 4)
    assert_close(run(optimised, x), run(proto, x))


def test_filters_of_one_number_that_no_file_stores_are_turned_too():
    nodes = [
        helper.make_node(
            "ConstantOfShape", ["shape"], ["w"], value=numpy_helper.from_array(np.ones(1, np.float32))
        ),
        helper.make_node("ConvTranspose", ["x", "w"], ["y"], "n", group=5, pads=[1] * 4),
    ]
    proto = model(nodes, ["N", 5, 6, 7], {"shape": np.array([5, 1, 3, 3])})
    optimised = apply_passes(proto, ["filters"])
    assert "ConvTranspose" not in operators(optimised)
    x = normal(2, 5, 6, 7)
    assert_close(run(optimised, x), run(proto, x))


WEIGHTS = {"each": normal(6, 1, 1).reshape(1, 6, 1, 1), "number": np.float32(3)}


@pytest.mark.parametrize("name", ALIKE)
@pytest.mark.parametrize("batch", ["N", 3])
def test_what_is_done_to_pictures_of_one_value_is_done_to_that_value(name, batch):
    proto = averaged(*ALIKE[name], batch=batch, **WEIGHTS)
    optimised = apply_passes(proto, ["uniform"])
    first = next(n for n in optimised.graph.node if n.op_type != "Expand")
    assert first.input[0] == "x"
    x = normal(3, 6, 1, 1)
    assert_close(run(optimised, x), run(proto, x))


@pytest.mark.parametrize(
    ("node", "tensors"),
    [
        (helper.make_node("Conv", ["a", "w"], ["y"], "n", pads=[1] * 4), {}),
        (helper.make_node("Conv", ["a", "w"], ["y"], "n"), {"w": normal(2, 6, 3, 3)}),
        (helper.make_node("Conv", ["a", "w"], ["y"], "n", strides=[2, 2]), {}),
        (helper.make_node("Mul", ["a", "m"], ["y"], "n"), {"m": normal(5, 4)}),
        (helper.make_node("Mul", ["a", "m"], ["y"], "n"), {"m": normal(2, 1, 1, 1, 1)}),
        (helper.make_node("Softmax", ["a"], ["y"], "n", axis=3), {}),
        (helper.make_node("Split", ["a"], ["y", "z"], "n", axis=2, num_outputs=2), {}),
        (helper.make_node("Relu", ["a"], ["y"], "n"), {"shape": np.array([2, 1, 1, 5, 4])}),
        (helper.make_node("Relu", ["a"], ["y"], "n"), {"shape": np.array([3, 1, 5, 4])}),
    ],
)
def test_what_is_not_done_alike_to_all_values_stays_as_it_is(node, tensors):
    proto = averaged(node, batch=1, **tensors)
    optimised = apply_passes(proto, ["uniform"])
    assert [n.op_type for n in optimised.graph.node] == ["Expand", node.op_type]
    x = normal(1, 6, 1, 1)
    np.testing.assert_array_equal(run(optimised, x), run(proto, x))


def pooled(k, size, **attributes):
    """A picture, pooled; rectified twice so that most windows are ties."""
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], pads=[1] * 4),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("MaxPool", ["r"], ["p"], kernel_shape=[k, k], strides=[k, k], **attributes),
        helper.make_node("Conv", ["p", "v"], ["y"]),
    ]
    proto = model(nodes, ("N", 3, *size), {"w": normal(16, 3, 3, 3), "v": normal(5, 16, 1, 1)})
    proto.graph.output[0].CopyFrom(
        helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 5, None, None])
    )
    return proto


@pytest.mark.parametrize(("k", "size"), [(1, (5, 4)), (2, (8, 12)), (3, (9, 6)), (4, (8, 8))])
def test_windows_side_by_side_find_their_first_maxima_by_comparing(k, size):
    net = pooled(k, size)
    pair = compile_pair(load(net))
    plain, optimised = (explain_graph(pair, passes=names) for names in ((), ("pools",)))
    assert "ScatterElements" in operators(plain.proto) - operators(optimised.proto)
    pool = next(n for n in optimised.proto.graph.node if n.op_type == "MaxPool")
    assert len(pool.output) == 1
    x = np.round(normal(3, 3, *size))  # whole numbers: ties
    x[1] = 0
    results = [
        numpy_of(Session(g.proto, g.folder, "cpu").run({"x": x} | own_top(g.manifest))["reconstruction"])
        for g in (plain, optimised)
    ]
    assert results[0].any()
    np.testing.assert_array_equal(*results)


@pytest.mark.parametrize(
    ("k", "size", "more"),
    [(2, (9, 8), {}), (2, (8, 8), {"pads": [1, 1, 1, 1]}), (2, (8, 8), {"dilations": [2, 2]})],
)
def test_other_pools_keep_their_switches(k, size, more):
    graph = explain_graph(compile_pair(load(pooled(k, size, **more))))
    assert "ScatterElements" in operators(graph.proto)


def overlapping(size, channels=16, batch="N", rectify="Relu", stem=None, before=3, around=None, **attributes):
    """A picture, rectified, pooled by 3×3 windows in steps of 2; a stem is a convolution in steps before."""
    attributes = {"kernel_shape": [3, 3], "strides": [2, 2]} | attributes
    around = ({"pads": [stem[0] // 2] * 4, "strides": [stem[1]] * 2} if stem else {}) | (around or {})
    nodes = [helper.make_node("Conv", ["x", "w"], ["c"], **around)] if stem else []
    nodes += [
        helper.make_node(rectify, ["c" if stem else "x"], ["r"]),
        helper.make_node("MaxPool", ["r"], ["p"], **attributes),
        helper.make_node("Conv", ["p", "v"], ["y"]),
    ]
    tensors = {"v": normal(5, channels, 1, 1)}
    if stem:
        tensors["w"] = normal(channels, before, stem[0], stem[0])
    proto = model(nodes, (batch, before if stem else channels, *size), tensors)
    proto.graph.output[0].CopyFrom(
        helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, 5, None, None])
    )
    return proto


def answers(net, x):
    """Explain a picture, without and with the passes; return all outputs of both, and the graph with them."""
    pair = compile_pair(load(net))
    graphs = [explain_graph(pair, passes=names) for names in ((), EXPLAIN["cpu"])]
    name = next(i["name"] for i in pair.manifest["inputs"])
    found = [Session(g.proto, g.folder, "cpu").run({name: x} | own_top(g.manifest)) for g in graphs]
    return *({k: numpy_of(v) for k, v in f.items()} for f in found), graphs[1].proto


def reconstructions(net, x):
    """Explain a picture, without and with the passes; return both, and the graph with them."""
    *found, proto = answers(net, x)
    return *(f["reconstruction"] for f in found), proto


def unpooling(size, batch="N", *, rectified=False, data="zeros", name="deconv/unpool", **attributes):
    """Pool a picture, and put a signal back by switches; both come from convolutions."""
    attributes = {"kernel_shape": [3, 3], "strides": [2, 2]} | attributes
    one = np.ones((16, 1, 1, 1), np.float32)
    nodes = [
        helper.make_node("Conv", ["x", "one"], ["c"], group=16),
        helper.make_node("Relu" if rectified else "Identity", ["c"], ["r"]),
        helper.make_node("MaxPool", ["r"], ["p", "places"], **attributes),
        helper.make_node("Conv", ["signal", "one"], ["s"], group=16),
        helper.make_node("Shape", ["r"], ["shape"]),
        helper.make_node("ConstantOfShape", ["shape"], ["zeros"]),
        helper.make_node("Mod", ["places", "size"], ["switches"]),
        *(helper.make_node("Flatten", [v], [f"{v}/flat"]) for v in (data, "switches", "s")),
        helper.make_node(
            "ScatterElements",
            [f"{v}/flat" for v in (data, "switches", "s")],
            ["sum"],
            axis=1,
            reduction="add",
        ),
        helper.make_node("Reshape", ["sum", "shape"], ["y"], name),
    ]
    proto = model(nodes, (batch, 16, *size), {"one": one, "size": np.array(16 * size[0] * size[1])})
    proto.graph.input.append(
        helper.make_tensor_value_info("signal", TensorProto.FLOAT, [batch, 16, None, None])
    )
    return proto


def assert_unpooled_alike(net, x, *, ort_optimises=True):
    optimised = apply_passes(net, ["blocked"])
    assert "ScatterElements" in operators(net) - operators(optimised)
    options = onnxruntime.SessionOptions()
    if not ort_optimises:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    windows = [d.dim_value for d in optimised.graph.value_info[0].type.tensor_type.shape.dim[2:]]
    feeds, found = {"x": x, "signal": normal(*x.shape[:2], *windows)}, []
    for proto in (net, optimised):
        session = onnxruntime.InferenceSession(
            proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        found.append(session.run(["y"], feeds)[0])
    # Up to four signals meet, in another order: three sums are rounded, each of at most four signals.
    slack = 3 * 2.0**-24 * 4 * np.abs(feeds["signal"]).max()
    np.testing.assert_allclose(found[1], found[0], rtol=0, atol=slack)
    np.testing.assert_array_equal(found[1] == 0, found[0] == 0)


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(
    st.tuples(st.integers(5, 12), st.integers(5, 12)), st.tuples(*map(st.integers, [0] * 4, [2, 2, 1, 1])),
    st.booleans(), st.sampled_from(["N", 2]), st.booleans(), st.integers(0, 99),
)  # fmt: skip
def test_overlapping_windows_find_their_first_maxima_in_the_blocked_layout(
    size, pads, ceil_mode, batch, ort_optimises, seed
):
    net = unpooling(size, batch, rectified=True, pads=pads, ceil_mode=int(ceil_mode))
    x = np.round(np.random.default_rng(seed).standard_normal((2, 16, *size))).astype(np.float32)
    x[0, 0] = 0
    assert_unpooled_alike(net, x, ort_optimises=ort_optimises)


@pytest.mark.parametrize("other", [{"data": "r"}, {"name": "the user's own"}])
@pytest.mark.parametrize("kernel", [2, 3])
def test_signals_that_are_scattered_otherwise_stay(other, kernel):
    net = unpooling((8, 8), rectified=True, kernel_shape=[kernel] * 2, **other)
    assert "ScatterElements" in operators(apply_passes(net, ["blocked", "pools"]))


LARGEST = np.finfo(np.float32).max
LOWEST = -np.nextafter(LARGEST, np.float32(0))
"""The lowest but one: onnxruntime 1.21 to 1.28 places the maximum of a window of the lowest alone at -5."""
EXTREMES = {
    "planes of one number": [3.0],
    "zeros of both signs": [0.0, -0.0],
    "neighbours": [
        1.0,
        np.nextafter(np.float32(1), np.float32(2)),
        np.nextafter(np.float32(1), np.float32(0)),
    ],
    "denormal numbers": [1e-45, 3e-45, 1e-40, 0.0, -1e-45],
    "the largest numbers": [3e38, -3e38, 1e38, LARGEST, LOWEST],
    "all kinds": [LOWEST, -1.0, -1e-45, 0.0, 1e-45, 1e-30, 1.0, LARGEST],
}


@pytest.mark.parametrize("ort_optimises", [True, False])
@pytest.mark.parametrize("rectified", [True, False])
@pytest.mark.parametrize("name", EXTREMES)
def test_first_maxima_of_extreme_numbers_are_found(name, rectified, ort_optimises):
    x = RNG.choice(np.array(EXTREMES[name], np.float32), (2, 16, 13, 12))
    pads = [1, 1, 0, 0] if rectified else [0] * 4
    assert_unpooled_alike(unpooling((13, 12), rectified=rectified, pads=pads), x, ort_optimises=ort_optimises)


@pytest.mark.parametrize("ort_optimises", [True, False])
@pytest.mark.parametrize("name", EXTREMES)
@pytest.mark.parametrize("batch", ["N", 2])
def test_first_maxima_of_windows_side_by_side_are_found_in_the_blocked_layout(name, batch, ort_optimises):
    x = RNG.choice(np.array(EXTREMES[name], np.float32), (2, 16, 12, 10))
    assert_unpooled_alike(unpooling((12, 10), batch, kernel_shape=[2, 2]), x, ort_optimises=ort_optimises)


def test_windows_side_by_side_are_padded_by_nothing_whatever_auto_pad_says():
    x = np.round(normal(2, 16, 12, 10))
    assert_unpooled_alike(unpooling((12, 10), 2, kernel_shape=[2, 2], auto_pad="SAME_LOWER"), x)


def test_rectifiers_that_follow_windows_side_by_side_are_done_before():
    net = pooled(2, (8, 12))
    x = np.round(normal(3, 3, 8, 12))
    x[1] = 0
    plain, optimised, proto = reconstructions(net, x)
    assert not {"ScatterElements", "SpaceToDepth"} & operators(proto)
    producers = {v: n.op_type for n in proto.graph.node for v in n.output}
    back = [n for n in proto.graph.node if n.op_type == "Relu" and n.name.startswith("deconv/")]
    assert back
    assert not {producers[n.input[0]] for n in back} & {"Reshape", "Slice"}  # which put the picture together
    assert plain.any()
    assert_close(optimised, plain, 1e-6)


@pytest.mark.parametrize(("kernel", "step"), [(3, 2), (7, 2), (2, 3), (5, 1)])
@pytest.mark.parametrize("pads", [[0] * 4, [1] * 4])
def test_a_transposed_convolution_takes_what_overlapping_windows_leave(kernel, step, pads):
    net = overlapping((37, 42), stem=(kernel, step), pads=pads)
    x = normal(2, 3, 37, 42)
    plain, optimised, proto = reconstructions(net, x)
    assert "ScatterElements" not in operators(proto)
    assert_close(optimised, plain)
    assert sum(n.op_type == "ConvTranspose" for n in proto.graph.node) >= 4


def test_a_graph_for_gpus_keeps_the_switches_of_overlapping_windows():
    """Their convolutions may round, which would find other maxima."""
    pair = compile_pair(load(overlapping((37, 42), stem=(3, 2))))
    kept = {device: operators(explain_graph(pair, passes=EXPLAIN[device]).proto) for device in EXPLAIN}
    assert "ScatterElements" in kept["cuda"] - kept["cpu"]


def channels_put_together(proto):
    """List the channels of pictures that are put together from their parts."""
    shapes = {t.name: numpy_helper.to_array(t).tolist() for t in proto.graph.initializer if len(t.dims) == 1}
    nodes = [n for n in proto.graph.node if n.op_type == "Reshape" and "/Reshape_" in n.name]
    return [shapes[n.input[1]][1] for n in nodes if len(shapes.get(n.input[1], ())) == 4]


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(
    st.tuples(st.integers(7, 12), st.integers(7, 12)), st.integers(1, 5), st.integers(0, 2),
    st.integers(0, 1), st.sampled_from([16, 32, 48]), st.sampled_from(["N", 2]),
)  # fmt: skip
def test_a_convolution_is_done_to_what_overlapping_windows_leave(size, kernel, pad, more, before, batch):
    ends = [pad, pad, pad + more, pad + more]
    net = overlapping(size, 32, batch, stem=(kernel, 1), before=before, around={"pads": ends})
    plain, optimised, proto = reconstructions(net, normal(2, before, *size))
    assert plain.any()
    assert_close(optimised, plain)
    if kernel in (1, 3, 5) and (pad, more) == (kernel // 2, 0):
        assert set(channels_put_together(proto)) == {min(before, 32)}


def joined(channels, size, kernel, *, batch="N", shown=(), twice=False, chained=False):
    """Two rectified branches, 1×1 and 3×3, side by side, and pooled: a Fire module before its pool."""
    first, second = channels
    pool = {"kernel_shape": [kernel] * 2, "strides": [2, 2]}
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], pads=[1] * 4),
        helper.make_node("Relu", ["c"], ["squeezed"]),
        helper.make_node("Conv", ["squeezed", "u"], ["d"]),
        helper.make_node("Relu", ["d"], ["a"]),
        helper.make_node("Conv", ["a" if chained else "squeezed", "t"], ["e"], pads=[1] * 4),
        helper.make_node("Relu", ["e"], ["b"]),
        helper.make_node("Concat", ["a", "b"], ["r"], axis=1),
        helper.make_node("MaxPool", ["r"], ["p"], **pool),
        helper.make_node("Conv", ["p", "v"], ["s" if twice else "y"]),
    ]
    if twice:
        nodes += [
            helper.make_node("MaxPool", ["r"], ["q"], **pool),
            helper.make_node("Add", ["p", "q"], ["both"]),
            helper.make_node("Conv", ["both", "v"], ["y"]),
        ]
    weights = {
        "w": (16, 3, 3, 3), "u": (first, 16, 1, 1), "t": (second, first if chained else 16, 3, 3),
        "v": (5, first + second, 1, 1),
    }  # fmt: skip
    proto = model(nodes, (batch, 3, *size), {name: normal(*dims) for name, dims in weights.items()})
    proto.graph.output[0].CopyFrom(
        helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, 5, None, None])
    )
    proto.graph.output.extend(
        helper.make_tensor_value_info(v, TensorProto.FLOAT, [batch, None, None, None]) for v in shown
    )
    return proto


@pytest.mark.parametrize("kernel", [2, 3])
@pytest.mark.parametrize("batch", ["N", 2])
@pytest.mark.parametrize(("channels", "more"), [
    ((32, 16), {}), ((16, 32), {"shown": ["p"]}), ((48, 16), {"shown": ["r"]}),
])  # fmt: skip
def test_branches_that_are_pooled_together_are_unpooled_apart(kernel, batch, channels, more):
    net = joined(channels, (20, 22), kernel, batch=batch, **more)
    x = normal(2, 3, 20, 22)
    plain, optimised, proto = answers(net, x)
    assert not {"ScatterElements", "Split"} & operators(proto)
    assert not [n.name for n in proto.graph.node if "r" in n.input]
    for name in ("reconstruction", "y", *more.get("shown", ())):
        np.testing.assert_allclose(
            optimised[name], plain[name], rtol=0, atol=1e-5 * np.abs(plain[name]).max()
        )


@pytest.mark.parametrize(
    "more", [{"twice": True}, {"chained": True}, {"channels": (24, 8)}, {"channels": (20, 8)}]
)
def test_branches_that_cannot_be_unpooled_apart_are_unpooled_together(more):
    net = joined(**{"channels": (32, 16), "size": (21, 24), "kernel": 3} | more)
    plain, optimised, proto = reconstructions(net, normal(2, 3, 21, 24))
    assert "Split" in operators(proto)
    assert ("ScatterElements" in operators(proto)) == (more.get("channels") == (20, 8))
    assert_close(optimised, plain)


@pytest.mark.parametrize(
    "more",
    [
        {"channels": 5},
        {"pads": [1, 1, 1, 1], "rectify": "LeakyRelu"},
        {"pads": [0, 0, 2, 2], "ceil_mode": 1},  # runtimes differ in whether there is one more window
        {"strides": [1, 1]},
        {"strides": [2, 1]},
        {"dilations": [2, 2]},
        {"kernel_shape": [5, 5]},
        {"auto_pad": "SAME_UPPER"},
        {"size": (None, None)},
    ],
)
def test_overlapping_windows_that_cannot_be_matched_keep_their_switches(more):
    net = overlapping(**{"size": (12, 12)} | more)
    x = normal(2, more.get("channels", 16), 12, 12)
    plain, optimised, proto = reconstructions(net, x)
    assert "ScatterElements" in operators(proto)
    np.testing.assert_array_equal(optimised, plain)


@pytest.mark.skipif(not ZOO.exists(), reason=f"{ZOO} is absent; set ONNX_DECONV_ZOO")
def test_a_squeezenet_is_explained_alike_without_switches():
    path = ZOO / "models" / "squeezenet1.1-caffe2-fp32.onnx"
    plain, optimised, proto = reconstructions(path, normal(1, 3, 224, 224))
    assert "ScatterElements" not in operators(proto)
    assert_close(optimised, plain)


def fire(sizes, *, axis=1, bias=False, **attributes):
    """A convolution, split, and each part rectified: a Fire module's way back."""
    names = [f"part{k}" for k in range(len(sizes))]
    tensors = {"w": normal(sum(sizes), 3, 3, 3), "sizes": np.array(sizes), "b": normal(sum(sizes))}
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"][: 3 if bias else 2], ["c"], **attributes),
        helper.make_node("Split", ["c", "sizes"], names, axis=axis),
        *(helper.make_node("Relu", [n], [f"{n}/relu"]) for n in names),
        helper.make_node("Concat", [f"{n}/relu" for n in reversed(names)], ["y"], axis=axis),
    ]
    return model(nodes, ["N", 3, 9, 8], tensors)


@pytest.mark.parametrize("attributes", [{}, {"pads": [1, 0, 2, 1], "strides": [2, 1], "dilations": [1, 2]}])
@pytest.mark.parametrize("sizes", [[16, 16], [1, 7, 24], [5]])
def test_a_convolution_whose_channels_are_split_becomes_several(sizes, attributes):
    proto = fire(sizes, **attributes)
    optimised = apply_passes(proto, ["splits"])
    assert "Split" in operators(proto) - operators(optimised)
    assert [n.op_type for n in optimised.graph.node].count("Conv") == len(sizes)
    x = normal(2, 3, 9, 8)
    assert_close(run(optimised, x), run(proto, x))


@pytest.mark.parametrize(("sizes", "more"), [([3, 4], {"axis": 2}), ([2, 4], {"bias": True})])
def test_other_splits_stay_as_they_are(sizes, more):
    proto = fire(sizes, **more)
    optimised = apply_passes(proto, PASSES)
    assert "Split" in operators(optimised)


def test_a_model_that_gives_its_switches_keeps_them():
    net = pooled(2, (8, 8))
    net.graph.node[2].output.append("where")
    net.graph.output.append(helper.make_tensor_value_info("where", TensorProto.INT64, None))
    graph = explain_graph(compile_pair(load(net)))
    found = Session(graph.proto, graph.folder, "cpu").run({"x": normal(1, 3, 8, 8)} | own_top(graph.manifest))
    assert numpy_of(found["where"]).dtype == np.int64


def test_no_pass_goes_by_another_name():
    with pytest.raises(InputError, match="filters"):
        explain_graph(compile_pair(load(pooled(2, (8, 8)))), passes=["faster"])


def test_a_pass_is_registered_once():
    before = dict(PASSES)
    with pytest.raises(ValueError, match="'filters'"):
        optimisation_pass("filters")(PASSES["sums"])
    assert before == PASSES


def test_every_pass_helps_some_device_or_runtime():
    lists = [*EXPLAIN.values(), *COMPANION.values(), *MAXIMA.values()]
    lists += [*(profile.passes for profile in PROFILES.values())]
    assert {name for names in lists for name in names} == set(PASSES)


def test_an_optimised_graph_is_valid(tmp_path):
    path = explain_graph(compile_pair(load(pooled(2, (8, 12)))), top=2).save(tmp_path)[0]
    onnx.checker.check_model(path, full_check=True)


@pytest.mark.parametrize("opset", [13, 18])
def test_a_companion_optimised_for_the_cpu_gives_the_same(opset):
    net = pooled(2, (8, 8))
    net.opset_import[0].version = opset
    pair = compile_pair(load(net))
    assert "Conv" in operators(apply_passes(pair.deconv, COMPANION["cpu"]))
    found = []
    for passes in ((), None):
        session = PairSession(pair, "cpu", passes)
        values = session.run_forward({"x": np.ones((2, 3, 8, 8), np.float32)})
        found.append(session.run_deconv(values, np.ones((2, 5, 4, 4), np.float32))["reconstruction"])
    assert_close(*found[::-1])


def test_the_page_on_costs_says_what_each_pass_changes():
    page = (Path(__file__).parents[1] / "docs" / "performance.md").read_text(encoding="utf-8")
    assert [name for name in PASSES if f"\n| `{name}` | " not in page] == []
