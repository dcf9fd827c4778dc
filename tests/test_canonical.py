"""The view of a model: what is read of it, value by value, against what onnxruntime computes."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from oracle import model_of, numbers, plain

from onnx_deconv import InputError, ModelError, load
from onnx_deconv.model.canonical import read_view, reads, value_types

CHAIN = "a = Relu(x) b = Neg(a) y = Add(a, b)"


def info(name, shape, dtype=TensorProto.FLOAT):
    return helper.make_tensor_value_info(name, dtype, shape)


def types(proto, **shapes):
    return value_types(read_view(proto, shapes, "net"))


def test_every_value_has_the_type_that_onnxruntime_gives_it():
    body = "c = Conv(x, w) f = Flatten(c) s = Shape(c) h = Cast<to = 10>(f) i = ArgMax(h) y = Add(f, k)"
    arrays = {"w": numbers((4, 3, 3, 3)), "k": numbers((1, 144))}
    names, feeds = ("c", "f", "s", "h", "i", "y"), {"x": numbers((2, 3, 8, 8))}
    asked = model_of(body, {"x": (2, 3, 8, 8)}, arrays)
    del asked.graph.output[:]
    asked.graph.output.extend(map(helper.make_empty_tensor_value_info, names))
    values = plain(asked, feeds) | arrays | feeds
    found = types(model_of(body, {"x": (2, 3, 8, 8)}, arrays))
    for name, array in values.items():
        assert found[name].shape == array.shape
        assert helper.tensor_dtype_to_np_dtype(found[name].dtype) == array.dtype


def test_a_size_that_is_no_size_is_open_and_a_made_up_name_is_none():
    proto = model_of("a = NonZero(x) b = Reshape(x, open) y = Relu(z)", {"x": (2, 3), "z": ("N", 4)},
                     {"open": np.array([-1])})  # fmt: skip
    proto.graph.input[1].type.tensor_type.shape.dim[1].dim_value = -1
    proto.graph.value_info.append(info("b", [0]))
    found = types(proto)
    assert (found["z"].shape, found["z"].symbols) == ((None, None), ("N", ""))
    assert (found["y"].shape, found["y"].symbols) == ((None, None), ("N", ""))
    assert (found["a"].shape, found["a"].symbols) == ((2, None), ("", ""))
    assert found["b"].shape == (6,)


def test_a_value_of_unknown_rank_has_no_shape():
    proto = model_of(
        "t = NonZero(x) r = Reshape(t, row) y = Reshape(x, r)", {"x": (2, 3)}, {"row": np.array([-1])}
    )
    assert types(proto)["y"].shape is None


def test_shapes_are_inferred_and_those_of_the_file_serve_where_nothing_is_known():
    proto = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["": 17, "elsewhere": 1]>
        net (float[2, 3] x) => (float[] y) {
            a = Relu(x) b = elsewhere.Mystery(a) c = Neg(b) y = Transpose(c)
        }"""
    )
    proto.graph.value_info.extend([info("a", [7, 7]), info("b", [5, 4])])
    found = types(proto)
    assert found["a"].shape == (2, 3)
    assert [found[name].shape for name in "bcy"] == [(5, 4), (5, 4), (4, 5)]


def test_a_list_of_shapes_without_one_leaves_what_was_inferred():
    proto = model_of(CHAIN, {"x": (2, 3)})
    proto.graph.value_info.append(helper.make_empty_tensor_value_info("a"))
    assert types(proto)["a"].shape == types(proto)["b"].shape == (2, 3)


def test_nodes_are_put_in_order_and_the_file_is_not_touched():
    proto = model_of("y = Add(a, b) b = Neg(a) a = Relu(x)", {"x": (2, 3)})
    before = proto.SerializeToString()
    view = read_view(proto, {}, "net")
    assert [node.op_type for node in view.graph.node] == ["Relu", "Neg", "Add"]
    assert value_types(view)["y"].shape == (2, 3)
    assert proto.SerializeToString() == before


def test_the_nodes_of_a_branch_are_put_in_order():
    proto = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["": 17]>
        net (float[2] x, bool c) => (float[2] y) {
            y = If(c) <then_branch = one () => (float[2] t) { t = Neg(u) u = Exp(x) },
                       else_branch = two () => (float[2] e) { e = Relu(x) }>
        }"""
    )
    (node,) = read_view(proto, {}, "net").graph.node
    (branch,) = (a.g for a in node.attribute if a.name == "then_branch")
    assert [inner.op_type for inner in branch.node] == ["Exp", "Neg"]


def test_nodes_in_order_stay_where_they_are():
    body = "b = Neg(x) d = Exp(b) a = Relu(x) c = Sin(a) y = Add(d, c)"
    assert [n.output[0] for n in read_view(model_of(body, {"x": (2,)}), {}, "net").graph.node] == [*"bdacy"]


@pytest.mark.parametrize(("name", "said"), [("turn", "'turn'"), ("", "'a'")])
def test_a_node_that_needs_its_own_result_is_named(name, said):
    proto = model_of("a, more = Split<axis = 0>(b) b = Neg(a) y = Relu(a)", {"x": (2, 3)}, opset=13)
    proto.graph.node[0].name = name
    proto.graph.node[1].name = name
    with pytest.raises(ModelError, match=f"net: node ({said}|'b') needs its own result"):
        read_view(proto, {}, "net")


def test_what_a_branch_reads_from_around_it_is_read():
    proto = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["": 17]>
        net (float[2] x, bool c) => (float[2] y) {
            y = If(c) <then_branch = one () => (float[2] t) { t = Neg(a) },
                       else_branch = two () => (float[2] e) { e = Add(x, b) }>
            a = Relu(x) b = Exp(x)
        }"""
    )
    assert {*reads(proto.graph.node[0])} == {"c", "a", "x", "b"}
    assert read_view(proto, {}, "net").graph.node[-1].op_type == "If"


def test_initializers_that_are_inputs_too_are_constants():
    proto = model_of("y = Reshape(x, s)", {"x": (2, 3)}, {"s": np.array([3, -1])})
    proto.graph.input.append(info("s", [2], TensorProto.INT64))
    proto.ir_version = 3
    view = read_view(proto, {}, "net")
    assert [i.name for i in view.graph.input] == ["x"]
    assert view.ir_version == 4
    assert value_types(view)["y"].shape == (3, 2)
    assert read_view(model_of(CHAIN, {"x": (2,)}), {}, "net").ir_version == 8


def test_sizes_of_inputs_may_be_given():
    proto = model_of("y = Neg(x)", {"x": ("N", "C"), "z": (2,)})
    assert types(proto, x=(4, 5))["y"].shape == (4, 5)
    assert types(proto, x=(4, 5))["z"].shape == (2,)
    with pytest.raises(InputError, match=r"net has no input 'v'; it has 'x', 'z'"):
        types(proto, v=(1,))
    with pytest.raises(InputError, match=r"input 'x' of net has 2 axes, not 3"):
        types(proto, x=(1, 2, 3))
    del proto.graph.input[0].type.tensor_type.shape.dim[:]
    assert types(proto, x=(4, 5))["y"].shape == (4, 5)


def test_a_loaded_models_functions_are_inlined():
    proto = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["": 17, "own": 1]>
        net (float[2, 3] x) => (float[2, 3] y) { y = own.twice(x) }
        <domain: "own", opset_import: ["": 17]> twice (a) => (b) { b = Add(a, a) }"""
    )
    assert [n.op for n in load(proto).nodes] == ["Add"]
    assert load(proto).type_of("y").shape == (2, 3)
