"""Masks of the backward pass are exact where they cost least."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from oracle import answer, assert_close

from onnx_deconv import Semantics, compile_pair, explain_graph, load
from onnx_deconv.compiler.explain_manifest import own_top
from onnx_deconv.compiler.passes import COMPANION, EXPLAIN, apply_passes
from onnx_deconv.runtime import PairSession, Session, numpy_of

RNG = np.random.default_rng(5)
LARGEST, NORMAL = np.finfo(np.float32).max, np.finfo(np.float32).smallest_normal
CHANNELS = 16


def normal(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


def graph(nodes, tensors, inputs, outputs=("y",)):
    made = helper.make_graph(
        [helper.make_node(op, read, [write], f"deconv/{write}", **attributes)
         for op, read, write, attributes in nodes],
        "net",
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, shape) for n, shape in inputs.items()],
        [helper.make_empty_tensor_value_info(n) for n in outputs],
        [numpy_helper.from_array(a, n) for n, a in tensors.items()],
    )  # fmt: skip
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def operators(proto):
    return [n.op_type for n in proto.graph.node]


def masked(kind, bound=0.0):
    """Mask one image by another, both given by convolutions that change nothing."""
    conv = {"group": CHANNELS}
    nodes = [
        ("Conv", ["a", "ones"], "s", conv), ("Conv", ["b", "ones"], "f", conv),
        (kind, ["f", "bound"], "passes", {}), ("Where", ["passes", "s", "zero"], "m", {}),
        ("Conv", ["m", "ones"], "y", conv),
    ]  # fmt: skip
    tensors = {
        "ones": np.ones((CHANNELS, 1, 1, 1), np.float32),
        "bound": np.float32(bound),
        "zero": np.float32(0),
    }
    return graph(nodes, tensors, {"a": ["N", CHANNELS, 3, 4], "b": ["N", CHANNELS, 3, 4]})


def around(bound):
    """Return numbers about a bound, in every place of an image."""
    b = np.float32(bound)
    numbers = [
        b, np.nextafter(b, -LARGEST), np.nextafter(b, LARGEST), -b, 0, -0.0, 2 * NORMAL, -NORMAL, 1, -1,
        LARGEST, -LARGEST, np.inf, -np.inf,
    ]  # fmt: skip
    return np.resize(np.asarray(numbers, np.float32), (1, CHANNELS, 3, 4))


def test_what_is_above_0_lets_a_signal_pass_as_it_is():
    proto = masked("Greater")
    optimised = apply_passes(proto, ["masks"])
    assert operators(optimised) == ["Conv", "Conv", "HardSigmoid", "Mul", "Conv"]
    forward, signal = around(2 * NORMAL), normal(1, CHANNELS, 3, 4)
    np.testing.assert_array_equal(
        answer(optimised, {"a": signal, "b": forward}), np.where(forward > 0, signal, 0)
    )


@settings(max_examples=60)
@given(
    st.one_of(
        st.sampled_from([6.0, 1.0, 0.5, 20.0, 2.0**-100, 2.0**100]), st.floats(2.0**-60, 2.0**60, width=32)
    )
)
def test_what_is_below_a_bound_lets_a_signal_pass_as_it_is(bound):
    optimised = apply_passes(masked("Less", bound), ["masks"])
    assert "HardSigmoid" in operators(optimised)
    forward, signal = around(bound), normal(1, CHANNELS, 3, 4)
    np.testing.assert_array_equal(
        answer(optimised, {"a": signal, "b": forward}), np.where(forward < np.float32(bound), signal, 0)
    )


@pytest.mark.parametrize(
    ("kind", "bound"), [("Greater", 1.0), ("Less", 0.0), ("Less", -1.0), ("Less", np.inf)]
)
def test_other_comparisons_stay(kind, bound):
    assert "HardSigmoid" not in operators(apply_passes(masked(kind, bound), ["masks"]))


@pytest.mark.parametrize("rectified", [True, False])
def test_a_sign_is_a_mask_only_of_what_is_not_negative(rectified):
    nodes = [
        ("Conv", ["a", "w"], "s", {}), ("Conv", ["b", "w"], "c", {}), ("Relu", ["c"], "r", {}),
        ("Sign", ["r" if rectified else "c"], "sign", {}), ("Mul", ["s", "sign"], "m", {}),
        ("Conv", ["m", "w"], "y", {}),
    ]  # fmt: skip
    shape = ["N", CHANNELS, 3, 4]
    proto = graph(nodes, {"w": normal(CHANNELS, CHANNELS, 1, 1)}, {"a": shape, "b": shape})
    optimised = apply_passes(proto, ["masks"])
    assert ("HardSigmoid" in operators(optimised)) is rectified
    feeds = {"a": normal(2, CHANNELS, 3, 4), "b": normal(2, CHANNELS, 3, 4)}
    assert_close(answer(optimised, feeds), answer(proto, feeds))


def test_signs_of_what_a_companion_is_given_are_cut_off():
    """Of all normal numbers, negative ones too; of what a convolution gives they stay (the test above)."""
    nodes = [("Sign", ["b"], "sign", {}), ("Mul", ["a", "sign"], "y", {})]
    proto = graph(nodes, {}, {"a": ["N", 4, 3, 4], "b": ["N", 4, 3, 4]})
    optimised = apply_passes(proto, ["masks"])
    assert operators(optimised) == ["Mul", "Clip", "Mul"]
    forward = np.concatenate([around(NORMAL), around(-NORMAL)]).reshape(-1, 4, 3, 4)
    signal = normal(*forward.shape)
    np.testing.assert_array_equal(answer(optimised, {"a": signal, "b": forward}), signal * np.sign(forward))


@pytest.mark.parametrize("rules", ["guided", "gradient"])
@pytest.mark.parametrize("activation", ["Relu", "Clip"])
def test_companions_mask_without_slow_operators(rules, activation):
    bounds = ["low", "high"] if activation == "Clip" else []
    nodes = [
        ("Conv", ["x", "w"], "c", {}), (activation, ["c", *bounds], "r", {}),
        ("Conv", ["r", "v"], "d", {}), (activation, ["d", *bounds], "e", {}), ("Flatten", ["e"], "y", {}),
    ]  # fmt: skip
    weights = {
        "w": normal(CHANNELS, 3, 3, 3), "v": normal(5, CHANNELS, 3, 3), "low": np.float32(0),
        "high": np.float32(1.5),
    }  # fmt: skip
    proto = network(nodes, weights, ["N", 3, 8, 8])
    pair = compile_pair(load(proto), "e", semantics=Semantics(rules))
    optimised = apply_passes(pair.deconv, COMPANION["cpu"])
    assert {"Sign", "Where"} & {*operators(pair.deconv)}
    assert not {"Sign", "Where"} & {*operators(optimised)}
    feeds, seed = {"x": normal(2, 3, 8, 8)}, normal(2, 5, 4, 4)
    assert_close(*(_reconstruction(pair, passes, feeds, seed) for passes in (None, ())))


def _reconstruction(pair, passes, feeds, seed):
    session = PairSession(pair, "cpu", passes)
    (found,) = session.run_deconv(session.run_forward(feeds), seed).values()
    return found


def test_a_signal_from_outside_the_blocked_layout_is_multiplied_where_it_is():
    nodes = [
        ("Sigmoid", ["a"], "s", {}), ("Greater", ["b", "zero"], "passes", {}),
        ("Where", ["passes", "s", "zero"], "y", {}),
    ]  # fmt: skip
    proto = graph(nodes, {"zero": np.float32(0)}, {"a": ["N", 4], "b": ["N", 4]})
    optimised = apply_passes(proto, ["masks"])
    assert operators(optimised) == ["Sigmoid", "Greater", "Cast", "Mul"]
    feeds = {"a": normal(3, 4), "b": normal(3, 4)}
    np.testing.assert_array_equal(answer(optimised, feeds), answer(proto, feeds))


def network(nodes, weights, shape):
    made = helper.make_graph(
        [helper.make_node(op, read, [write], **attributes) for op, read, write, attributes in nodes],
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_empty_tensor_value_info("y")],
        [numpy_helper.from_array(a, n) for n, a in weights.items()],
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def explained(proto, rules, x):
    """Return the explain graph of an image, and check that it gives what it gives without any pass."""
    pair = compile_pair(load(proto), semantics=Semantics(rules))
    optimised, plain = (explain_graph(pair, passes=passes) for passes in (EXPLAIN["cpu"], ()))
    found, expected = (
        numpy_of(
            Session(graph.proto, graph.folder, "cpu").run({"x": x} | own_top(graph.manifest))[
                "reconstruction"
            ]
        )
        for graph in (optimised, plain)
    )
    assert expected.any()
    assert_close(found, expected)
    return optimised.proto


def fire(kernel, size):
    """Two rectified branches side by side, pooled."""
    nodes = [
        ("Conv", ["x", "w"], "c", {"pads": [1] * 4}), ("Relu", ["c"], "r", {}),
        ("Conv", ["r", "u"], "d", {}), ("Relu", ["d"], "e", {}),
        ("Conv", ["r", "v"], "f", {"pads": [1] * 4}), ("Relu", ["f"], "g", {}),
        ("Concat", ["e", "g"], "h", {"axis": 1}),
        ("MaxPool", ["h"], "p", {"kernel_shape": [kernel] * 2, "strides": [2, 2]}),
        ("Conv", ["p", "t"], "i", {}), ("Relu", ["i"], "j", {}),
        ("GlobalAveragePool", ["j"], "k", {}), ("Flatten", ["k"], "y", {}),
    ]  # fmt: skip
    weights = {
        "w": normal(16, 3, 3, 3), "u": normal(16, 16, 1, 1), "v": normal(32, 16, 3, 3),
        "t": normal(7, 48, 1, 1),
    }  # fmt: skip
    return network(nodes, weights, ["N", 3, *size])


@pytest.mark.parametrize("rules", ["guided", "gradient"])
@pytest.mark.parametrize(("kernel", "size"), [(2, (12, 16)), (3, (13, 15)), (3, (12, 14))])
def test_what_an_unpooling_gives_is_masked_before(rules, kernel, size):
    optimised = explained(fire(kernel, size), rules, normal(2, 3, *size))
    # Of the four rectifiers two are masked by themselves; those that are pooled, by one mask of the maxima.
    forward = [n.input[0] for n in optimised.graph.node if n.op_type == "HardSigmoid"]
    assert "p" in forward
    assert not {"e", "g", "h"} & set(forward)


def test_what_another_reader_masks_too_is_masked_after():
    """The pooled value itself is read beside the pool: its signal is a sum, which the maxima cannot mask."""
    nodes = [
        ("Conv", ["x", "w"], "c", {"pads": [1] * 4}), ("Relu", ["c"], "r", {}),
        ("MaxPool", ["r"], "p", {"kernel_shape": [2, 2], "strides": [2, 2]}),
        ("AveragePool", ["r"], "q", {"kernel_shape": [2, 2], "strides": [2, 2]}),
        ("Add", ["p", "q"], "s", {}), ("Conv", ["s", "t"], "i", {}),
        ("GlobalAveragePool", ["i"], "k", {}), ("Flatten", ["k"], "y", {}),
    ]  # fmt: skip
    weights = {"w": normal(16, 3, 3, 3), "t": normal(7, 16, 1, 1)}
    optimised = explained(network(nodes, weights, ["N", 3, 8, 8]), "guided", normal(2, 3, 8, 8))
    assert [n.input[0] for n in optimised.graph.node if n.op_type == "HardSigmoid"] == ["r"]


@settings(max_examples=30, deadline=None)
@given(
    st.integers(5, 12), st.integers(5, 12), st.sampled_from(["Relu", "Clip", "HardSwish"]),
    st.sampled_from(["guided", "gradient"]), st.sampled_from([3, 5]), st.sampled_from([3, CHANNELS]),
)  # fmt: skip
def test_masks_are_done_to_the_phases_of_depthwise_filters(height, width, activation, rules, kernel, few):
    """Those of the filters' own channels, and of the fewer that a 1x1 convolution leaves."""
    wide = 2 * CHANNELS
    bounds = ["low", "high"] if activation == "Clip" else []
    nodes = [
        ("Conv", ["x", "v"], "few", {}), (activation, ["few", *bounds], "z", {}),
        ("Conv", ["z", "u"], "a", {}), (activation, ["a", *bounds], "b", {}),
        ("Conv", ["b", "d"], "c", {"group": wide, "strides": [2, 2], "pads": [kernel // 2] * 4}),
        (activation, ["c", *bounds], "e", {}), ("Conv", ["e", "t"], "f", {}),
        ("GlobalAveragePool", ["f"], "g", {}), ("Flatten", ["g"], "y", {}),
    ]  # fmt: skip
    weights = {
        "v": normal(few, 3, 3, 3), "u": normal(wide, few, 1, 1), "d": normal(wide, 1, kernel, kernel),
        "t": normal(5, wide, 1, 1), "low": np.float32(0), "high": np.float32(1.5),
    }  # fmt: skip
    optimised = explained(
        network(nodes, weights, ["N", 3, height, width]), rules, normal(2, 3, height, width)
    )
    if activation == "Relu":
        masks = [n.input[0] for n in optimised.graph.node if n.op_type == "HardSigmoid"]
        phases = [value for value in masks if value.startswith("deconv/")]  # moved there, not the model's own
        assert len(phases) == (8 if few == CHANNELS else 4)  # a convolution to fewer stays transposed


def test_masks_behind_computed_pads_are_in_the_blocked_layout():
    """As PyTorch exports padding: ONNX's own inference loses the sizes there."""
    nodes = [
        ("Shape", ["x"], "dims", {}), ("Gather", ["dims", "two"], "high", {}),
        ("Mod", ["high", "two"], "odd", {}), ("Unsqueeze", ["odd", "axis"], "more", {}),
        ("Concat", ["none", "more", "one", "none", "one", "one"], "pads", {"axis": 0}),
        ("Pad", ["x", "pads"], "p", {}), ("Conv", ["p", "w"], "c", {}), ("Relu", ["c"], "r", {}),
        ("Conv", ["r", "v"], "d", {}),
        ("Relu", ["d"], "e", {}), ("Conv", ["e", "t"], "f", {}), ("Relu", ["f"], "i", {}),
        ("GlobalAveragePool", ["i"], "g", {}), ("Flatten", ["g"], "y", {}),
    ]  # fmt: skip
    weights = {
        "w": normal(CHANNELS, 3, 3, 3), "v": normal(CHANNELS, CHANNELS, 3, 3), "t": normal(5, CHANNELS, 1, 1),
        "two": np.int64(2), "axis": np.int64([0]), "none": np.int64([0, 0]), "one": np.int64([1]),
    }  # fmt: skip
    optimised = explained(network(nodes, weights, ["N", 3, 9, 8]), "guided", normal(2, 3, 9, 8))
    declared = {info.name for info in optimised.graph.value_info}
    masked_by = [n.input[0] for n in optimised.graph.node if n.op_type == "HardSigmoid"]
    own = {value for value in masked_by if not value.startswith("deconv/")}
    assert own
    assert own <= declared
