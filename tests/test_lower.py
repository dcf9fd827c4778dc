"""Every lowering computes what the graph computed, and does take effect."""

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from onnx_deconv import InputError, compile_pair, explain_graph, load
from onnx_deconv.lower import COMPANION, PASSES, lower
from onnx_deconv.runtime import PairSession, Session, numpy_of

RNG = np.random.default_rng(2)


def model(nodes, shape, tensors, opset=18):
    initializers = [numpy_helper.from_array(a, n) for n, a in tensors.items()]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
    y = helper.make_empty_tensor_value_info("y")
    graph = helper.make_graph(nodes, "net", [x], [y], initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def run(proto, x):
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})[0]


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
    lowered = lower(proto, ["filters"])
    assert "ConvTranspose" in operators(proto) - operators(lowered)
    x = normal(*shape)
    np.testing.assert_allclose(run(lowered, x), run(proto, x), rtol=0, atol=1e-4)


@settings(max_examples=60)
@given(
    st.integers(1, 5), st.integers(2, 3), st.integers(0, 2), st.integers(0, 1), st.integers(0, 1),
    st.sampled_from([None, 2]),
)  # fmt: skip
def test_depthwise_filters_in_larger_steps_get_zeros_between(kernel, step, pad, end, more, batch):
    pads = [min(pad, kernel - 1)] * 2 + [min(end, kernel - 1)] * 2
    node = helper.make_node(
        "ConvTranspose", ["x", "w"], ["y"], "n", pads=pads, strides=[step] * 2, group=5,
        output_padding=[more] * 2,
    )  # fmt: skip
    proto = model([node], [batch or "N", 5, 6, 7], {"w": normal(5, 1, kernel, kernel)})
    lowered = lower(proto, ["depthwise"])
    fits = kernel - 1 - pads[2] + more - (step - 1) >= 0
    assert ("Conv" in operators(lowered)) == fits
    x = normal(2, 5, 6, 7)
    np.testing.assert_allclose(run(lowered, x), run(proto, x), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "attributes",
    [{"strides": [2, 2]}, {"output_shape": [12, 12]}, {"auto_pad": "SAME_UPPER"}, {"pads": [3] * 4}],
)
def test_other_filters_stay_as_they_are(attributes):
    node = helper.make_node("ConvTranspose", ["x", "w"], ["y"], "n", **attributes)
    proto = model([node], (1, 4, 9, 9), {"w": normal(4, 32, 3, 3)})
    assert operators(lower(proto, PASSES)) == {"ConvTranspose"}


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


@pytest.mark.parametrize(("k", "size"), [(2, (8, 12)), (3, (9, 6)), (4, (8, 8))])
def test_windows_side_by_side_find_their_first_maxima_by_comparing(k, size):
    net = pooled(k, size)
    pair = compile_pair(load(net))
    plain, lowered = (explain_graph(pair, lowerings=names) for names in ((), ("pools",)))
    assert "ScatterElements" in operators(plain.proto) - operators(lowered.proto)
    pool = next(n for n in lowered.proto.graph.node if n.op_type == "MaxPool")
    assert len(pool.output) == 1
    x = np.round(normal(3, 3, *size))  # whole numbers: ties
    x[1] = 0
    results = [
        numpy_of(Session(g.proto, g.folder, "cpu").run({"x": x})["reconstruction"]) for g in (plain, lowered)
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


def test_a_model_that_gives_its_switches_keeps_them():
    net = pooled(2, (8, 8))
    net.graph.node[2].output.append("where")
    net.graph.output.append(helper.make_tensor_value_info("where", TensorProto.INT64, None))
    graph = explain_graph(compile_pair(load(net)))
    found = Session(graph.proto, graph.folder, "cpu").run({"x": normal(1, 3, 8, 8)})
    assert numpy_of(found["where"]).dtype == np.int64


def test_no_lowering_goes_by_another_name():
    with pytest.raises(InputError, match="filters"):
        explain_graph(compile_pair(load(pooled(2, (8, 8)))), lowerings=["faster"])


def test_a_lowered_graph_is_valid(tmp_path):
    path = explain_graph(compile_pair(load(pooled(2, (8, 12)))), top=2).save(tmp_path)[0]
    onnx.checker.check_model(path, full_check=True)


@pytest.mark.parametrize("opset", [13, 18])
def test_a_companion_lowered_for_the_cpu_gives_the_same(opset):
    net = pooled(2, (8, 8))
    net.opset_import[0].version = opset
    pair = compile_pair(load(net))
    assert "Conv" in operators(lower(pair.deconv, COMPANION["cpu"]))
    found = []
    for passes in ((), None):
        session = PairSession(pair, "cpu", passes)
        values = session.run_forward({"x": np.ones((2, 3, 8, 8), np.float32)})
        found.append(session.run_deconv(values, np.ones((2, 5, 4, 4), np.float32))["reconstruction"])
    np.testing.assert_allclose(*found, rtol=0, atol=1e-6)
