"""Control flow whose course is known is seen as the nodes that run; nodes are seen in order."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from oracle import assert_close, model_of, numbers, plain, reconstruction

from onnx_deconv import MissingRuleError, ModelError, load

X = {"x": numbers((2, 3, 4, 5), "x")}
W = {"w": numbers((4, 3, 2, 2), "w")}
BOOL = TensorProto.BOOL


def branch(*nodes, output, tensors=()):
    info = helper.make_empty_tensor_value_info(output)
    info.type.tensor_type.elem_type = TensorProto.FLOAT
    return helper.make_graph(list(nodes), "branch", [], [info], initializer=list(tensors))


def node(op, inputs, output, **attributes):
    return helper.make_node(op, inputs.split(), [output], **attributes)


def network(*nodes, weights=(), dynamic=False):
    shape = ["n", 3, "h", "w"] if dynamic else X["x"].shape
    graph = helper.make_graph(
        list(nodes),
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        initializer=[numpy_helper.from_array(np.asarray(a), n) for n, a in dict(weights).items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


DOUBLED = branch(node("Add", "x x", "t"), node("Tanh", "t", "z"), output="z")
FILTERED = branch(
    node("Conv", "x k", "t"),
    node("Relu", "t", "z"),
    output="z",
    tensors=[numpy_helper.from_array(W["w"], "k")],
)
CHANNELS = [
    node("Shape", "x", "s"),
    node("Gather", "s one", "channels"),
    node("Equal", "channels three", "is_three"),
]
NUMBERS = {"one": np.int64(1), "three": np.int64(3), "yes": np.bool_(True), "no": np.bool_(False)}


@pytest.mark.parametrize("rules", ["deconvnet", "guided", "gradient"])
@pytest.mark.parametrize("condition", ["yes", "no", "is_three", "is_not_three"])
def test_a_branch_that_sizes_or_constants_choose_takes_the_place_of_the_if(condition, rules):
    proto = network(
        *CHANNELS,
        node("Not", "is_three", "is_not_three"),
        node("If", condition, "c", then_branch=FILTERED, else_branch=DOUBLED),
        node("Neg", "c", "y"),
        weights=NUMBERS,
        dynamic=True,
    )
    chosen = "f = Conv(x, w) c = Relu(f)" if condition in ("yes", "is_three") else "f = Add(x, x) c = Tanh(f)"
    straight = model_of(f"{chosen} y = Neg(c)", {"x": X["x"].shape}, W)
    expected = plain(straight, X)["y"]
    np.testing.assert_array_equal(plain(proto, X)["y"], expected)
    seed = numbers(expected.shape, "seed")
    assert_close(
        reconstruction(proto, X, seed, rules=rules), reconstruction(straight, X, seed, rules=rules), 1e-6
    )


def test_branches_in_branches_and_equal_names_do_not_meet():
    inner = node("If", "yes", "z", then_branch=DOUBLED, else_branch=FILTERED)
    proto = network(
        node("If", "no", "a", then_branch=FILTERED, else_branch=branch(inner, output="z")),
        node("If", "yes", "b", then_branch=DOUBLED, else_branch=FILTERED),
        node("Mul", "a b", "y"),
        weights=NUMBERS,
    )
    straight = model_of("d = Add(x, x) t = Tanh(d) y = Mul(t, t)", {"x": X["x"].shape})
    seed = numbers(X["x"].shape, "seed")
    got = reconstruction(proto, X, seed, rules="gradient")
    assert_close(got, reconstruction(straight, X, seed, rules="gradient"), 1e-6)


def test_an_if_that_the_input_decides_is_refused_by_name():
    proto = network(
        node("ReduceMax", "x", "most", keepdims=0),
        node("Greater", "most zero", "bright"),
        helper.make_node("If", ["bright"], ["y"], "choice", then_branch=DOUBLED, else_branch=FILTERED),
        weights={"zero": np.float32(0)},
    )
    with pytest.raises(MissingRuleError, match=r"choice \(If\)"):
        reconstruction(proto, X)


def loop(turns, condition="yes", goes_on="Identity"):
    tensor = helper.make_tensor_value_info
    body = helper.make_graph(
        [
            node(goes_on, "before", "after"),
            node("Conv", "h v", "c", pads=[1, 1, 1, 1]),
            node("Cast", "count", "k", to=TensorProto.FLOAT),
            node("Add", "c k", "d"),
            node("Sigmoid", "d", "h_next"),
        ],
        "body",
        [
            tensor("count", TensorProto.INT64, []),
            tensor("before", BOOL, []),
            tensor("h", TensorProto.FLOAT, None),
        ],
        [tensor("after", BOOL, []), tensor("h_next", TensorProto.FLOAT, None)],
    )
    filters = {"v": numbers((3, 3, 3, 3), "v"), "turns": np.int64(turns)}
    return network(
        helper.make_node("Loop", ["turns", condition, "x"], ["r"], "turns", body=body),
        node("Neg", "r", "y"),
        weights=NUMBERS | filters,
    ), filters


@pytest.mark.parametrize("turns", [1, 3])
@pytest.mark.parametrize("rules", ["deconvnet", "gradient"])
def test_a_loop_of_known_length_is_unrolled(turns, rules):
    proto, filters = loop(turns)
    body = " ".join(
        f"c{k} = Conv<pads = [1, 1, 1, 1]>(h{k}, v) d{k} = Add(c{k}, k{k}) h{k + 1} = Sigmoid(d{k})"
        for k in range(turns)
    )
    counts = {f"k{k}": np.array(k, np.float32) for k in range(turns)}
    straight = model_of(
        f"h0 = Identity(x) {body} y = Neg(h{turns})", {"x": X["x"].shape}, {"v": filters["v"]} | counts
    )
    np.testing.assert_allclose(plain(proto, X)["y"], plain(straight, X)["y"], rtol=1e-5, atol=1e-6)
    seed = numbers(X["x"].shape, "seed")
    got = reconstruction(proto, X, seed, rules=rules)
    assert_close(got, reconstruction(straight, X, seed, rules=rules), 1e-6)


@pytest.mark.parametrize(
    "how", [{"turns": 10**6}, {"turns": 3, "condition": "no"}, {"turns": 3, "goes_on": "Not"}]
)
def test_a_loop_that_is_too_long_or_may_stop_early_is_refused_by_name(how):
    proto, _ = loop(**how)
    with pytest.raises(MissingRuleError, match=r"turns \(Loop\)"):
        reconstruction(proto, X)


def test_nodes_in_any_order_are_put_in_order():
    body = "c = Conv(x, w) r = Relu(c) p = MaxPool<kernel_shape = [2, 2]>(r) y = Neg(p)"
    proto = model_of(body, {"x": X["x"].shape}, W)
    shuffled = onnx.ModelProto()
    shuffled.CopyFrom(proto)
    del shuffled.graph.node[:]
    shuffled.graph.node.extend(proto.graph.node[k] for k in (3, 1, 0, 2))
    np.testing.assert_array_equal(reconstruction(shuffled, X), reconstruction(proto, X))


def test_nodes_that_need_each_other_are_named():
    proto = network(node("Add", "x b", "a"), node("Neg", "a", "b"), node("Neg", "b", "y"))
    with pytest.raises(ModelError, match="needs its own result"):
        load(proto)
