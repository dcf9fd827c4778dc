"""Patterns match what they are written like, and nothing else."""

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from onnx_deconv.compiler.passes.attributes import absent, off, ones, zeros
from onnx_deconv.compiler.passes.pattern import ABSENT, ANY, backward, op, read_once, value
from onnx_deconv.compiler.passes.rewriter import Rewriter


def graph(body, results="y", opset=18):
    outputs = ", ".join(f"float[] {name}" for name in results.split())
    proto = onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["": {opset}]> g (float[N,4,6,6] x) => ({outputs}) {{ {body} }}'
    )
    for name, shape in {"w": (4, 4, 3, 3), "b": (4,), "c": (1,)}.items():
        proto.graph.initializer.append(numpy_helper.from_array(np.ones(shape, np.float32), name))
    return Rewriter(proto)


def found(pattern, body, **more):
    """The outputs of the nodes that match."""
    return [match.node.output[0] for match in pattern.matches(graph(body, **more))]


def test_operands_are_matched_with_what_makes_the_inputs():
    body = "a = Relu(x) y = Conv(a, w) z = Conv(x, w)"
    assert found(op.Conv(op.Relu(ANY), ANY), body) == ["y"]
    assert found(op.Conv(ANY, ANY), body) == ["y", "z"]
    assert found(op.Conv(ANY, op.Relu(ANY)), body) == []
    assert found(op.Conv(), body) == ["y", "z"]


def test_what_is_named_is_captured():
    made = graph("a = Relu(x) y = Conv(a, w)")
    (match,) = op.Conv(op.Relu(value("before")).named("relu"), value("weight")).matches(made)
    assert match.values == {"before": "x", "weight": "w"}
    assert match.nodes["relu"] is made.producers["a"]
    assert match.node is made.producers["y"]


def test_inputs_may_have_to_be_left_out():
    body = "y = Conv(x, w) z = Conv(x, w, b)"
    assert found(op.Conv(ANY, ANY, ABSENT), body) == ["y"]
    assert found(op.Conv(ANY, ANY, ANY), body) == ["z"]
    assert found(op.Clip(ANY, ABSENT, ANY), "y = Clip(x, , c) z = Clip(x, c, c)") == ["y"]


@pytest.mark.parametrize(
    ("attributes", "matched"),
    [
        ({"group": 1}, ["y", "v"]),
        ({"group": 2}, ["z"]),
        ({"strides": ones}, ["y", "z"]),
        ({"strides": ones, "group": 1}, ["y"]),
        ({"pads": zeros}, ["y", "v"]),
        ({"auto_pad": "NOTSET"}, ["y", "z", "v"]),
        ({"dilations": absent}, ["y", "z", "v"]),
        ({"kernel_shape": [3, 3]}, ["v"]),
    ],
)
def test_attributes_are_as_expected_by_their_defaults_where_left_out(attributes, matched):
    body = "y = Conv(x, w) z = Conv<group=2, pads=[1,1,1,1]>(x, w)"
    body += "v = Conv<strides=[2,2], kernel_shape=[3,3]>(x, w)"
    assert found(op.Conv(**attributes), body) == matched


def test_a_switch_may_be_off_in_opsets_that_lack_it():
    body = "y = BatchNormalization(x, b, b, b, b)"
    for opset in (9, 18):
        assert found(op.BatchNormalization(training_mode=off), body, opset=opset) == ["y"]


def test_either_of_two_patterns_matches():
    product = op.Mul(value("signal"), op.Relu(ANY)) | op.Mul(op.Relu(ANY), value("signal"))
    made = graph("a = Relu(x) b1 = Sigmoid(x) y = Mul(a, b1) z = Mul(b1, a)", "y z")
    assert [match.values["signal"] for match in product.named("product").matches(made)] == ["b1", "b1"]
    assert [match.nodes["product"].output[0] for match in product.named("product").matches(made)] == [
        "y",
        "z",
    ]


def test_a_later_alternative_is_tried_where_the_rest_does_not_match():
    """The first alternative matches by itself; the second input, or a test, then refuses it."""
    reshaped = op.Reshape(value("v"), ANY) | value("v")
    body = "s = Shape(x) a = Reshape(x, s) y = Add(a, a)"
    seen = op.Add(reshaped, ANY).where(lambda match: match.values["v"] == "a")
    assert found(op.Add(reshaped, ANY), body) == found(seen, body) == ["y"]


def test_values_that_are_read_once():
    pattern = op.Relu(read_once(op.Sigmoid(ANY)))
    assert found(pattern, "a = Sigmoid(x) y = Relu(a)") == ["y"]
    assert found(pattern, "a = Sigmoid(x) y = Relu(a) z = Neg(a)", results="y z") == []
    assert found(pattern, "a = Sigmoid(x) y = Relu(a)", results="y a") == []
    assert found(op.Add(read_once(op.Sigmoid(ANY)), ANY), "a = Sigmoid(x) y = Add(a, a)") == []
    branches = "<then_branch = g1 () => (float[] t) { t = Neg(a) }, "
    branches += "else_branch = g2 () => (float[] e) { e = Abs(a) }>"
    assert (
        found(pattern, f"a = Sigmoid(x) y = Relu(a) k = Cast<to=9>(c) z = If (k) {branches}", results="y z")
        == []
    )


def test_an_output_other_than_the_first():
    body = "p, s = MaxPool<kernel_shape=[2,2]>(x) y = Neg(p) z = Neg(s)"
    assert found(op.Neg(op.MaxPool(ANY)), body) == ["y"]
    assert found(op.Neg(op.MaxPool(ANY).giving(1)), body) == ["z"]


def test_tests_see_the_node_that_they_are_put_to():
    body = "a = Relu(x) y = Neg(a)"
    seen = []
    inner = op.Relu(ANY).where(lambda match: bool(seen.append(match.node.op_type)) or True)
    assert found(op.Neg(inner).where(lambda match: match.node.op_type == "Neg"), body) == ["y"]
    assert seen == ["Relu"]
    assert found(op.Relu(value("v", lambda made, name: made.shape(name) == ("N", 4, 6, 6))), body) == ["a"]


def test_nodes_of_the_backward_pass_are_told_by_their_names():
    made = graph("y = Relu(x) z = Relu(x)", "y z")
    made.producers["z"].name = "deconv/z"
    assert [match.node.output[0] for match in op.Relu(ANY).where(backward).matches(made)] == ["z"]


def test_operators_of_other_domains_do_not_match():
    made = graph("y = Relu(x) z = Relu(x)", "y z")
    made.producers["z"].domain = "com.example"
    assert [match.node.output[0] for match in op.Relu(ANY).matches(made)] == ["y"]


def test_no_node_does_not_match():
    assert op.Relu(ANY).match(graph("y = Neg(x)"), None) is None
