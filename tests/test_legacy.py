"""Opsets 1 to 6: rewritten for opset 7, equal to PyTorch's or NumPy's word for the same operators."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnx_deconv import ModelError, load
from onnx_deconv.runtime import Session

RNG = np.random.default_rng(5)
X = RNG.standard_normal((2, 3, 6, 6)).astype(np.float32)
SCALE, SHIFT, MEAN = (RNG.standard_normal(3).astype(np.float32) for _ in range(3))
VARIANCE = RNG.random(3).astype(np.float32) + 0.5


def run(opset, nodes, **constants):
    tensors = [numpy_helper.from_array(np.asarray(a), n) for n, a in constants.items()]
    listed = [helper.make_tensor_value_info(t.name, t.data_type, t.dims) for t in tensors]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, X.shape)
    y = helper.make_empty_tensor_value_info("y")
    y.type.tensor_type.elem_type = TensorProto.FLOAT
    graph = helper.make_graph(nodes, "old", [x, *listed], [y], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=3)
    new = load(model)
    assert new.opset == 7
    return Session(new.proto, new.folder, "cpu").run({"x": X})["y"].numpy()


@pytest.mark.parametrize("opset", [1, 3, 5, 6])
@pytest.mark.parametrize(
    ("operator", "function"),
    [("Add", np.add), ("Sub", np.subtract), ("Mul", np.multiply), ("Div", np.divide)],
)
@pytest.mark.parametrize(
    ("shape", "axis", "aligned"),
    [
        ((3,), 1, (3, 1, 1)),
        ((3, 6), 1, (3, 6, 1)),
        ((6,), None, (6,)),
        ((6, 6), -2, (6, 6)),
        ((2,), 0, (2, 1, 1, 1)),
    ],
)
def test_an_operand_placed_by_its_axis_is_broadcast_there(opset, operator, function, shape, axis, aligned):
    operand = RNG.random(shape).astype(np.float32) + 1
    extra = {"consumed_inputs": [0, 0]} if opset < 6 else {}
    if axis is not None:
        extra["axis"] = axis
    node = helper.make_node(operator, ["x", "b"], ["y"], broadcast=1, **extra)
    np.testing.assert_allclose(
        run(opset, [node], b=operand), function(X, operand.reshape(aligned)), rtol=1e-6
    )


@pytest.mark.parametrize("opset", [1, 5, 6])
def test_batch_normalization_and_dropout_keep_to_inference(opset):
    extra = {"consumed_inputs": [0, 0, 0, 1, 1]} if opset < 6 else {}
    nodes = [
        helper.make_node(
            "BatchNormalization", ["x", "s", "b", "m", "v"], ["n"], is_test=1, epsilon=1e-3, **extra
        ),
        helper.make_node("Dropout", ["n"], ["y"], is_test=1, ratio=0.5),
    ]
    got = run(opset, nodes, s=SCALE, b=SHIFT, m=MEAN, v=VARIANCE)
    column = (slice(None), None, None)
    expected = (X - MEAN[column]) / np.sqrt(VARIANCE + 1e-3)[column] * SCALE[column] + SHIFT[column]
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("opset", [1, 4])
def test_a_reshape_whose_target_is_an_attribute(opset):
    got = run(opset, [helper.make_node("Reshape", ["x"], ["y"], shape=[0, -1])])
    np.testing.assert_array_equal(got, X.reshape(2, -1))


def test_a_concat_without_an_axis_joins_channels():
    got = run(1, [helper.make_node("Concat", ["x", "x"], ["y"])])
    np.testing.assert_array_equal(got, np.concatenate([X, X], axis=1))


def test_a_pad_by_its_old_attribute():
    pads = [0, 0, 1, 2, 0, 0, 3, 0]
    got = run(1, [helper.make_node("Pad", ["x"], ["y"], paddings=pads, mode="constant", value=1.5)])
    np.testing.assert_array_equal(got, np.pad(X, [(0, 0), (0, 0), (1, 3), (2, 0)], constant_values=1.5))


def test_a_cast_by_the_name_of_a_type():
    nodes = [
        helper.make_node("Cast", ["x"], ["i"], to="INT32"),
        helper.make_node("Cast", ["i"], ["y"], to="FLOAT"),
    ]
    np.testing.assert_array_equal(run(1, nodes), np.trunc(X))


@pytest.mark.parametrize("opset", [1, 6])
def test_a_prelu_slope_belongs_to_the_channels(opset):
    got = run(opset, [helper.make_node("PRelu", ["x", "s"], ["y"])], s=SCALE)
    np.testing.assert_allclose(got, np.where(X > 0, X, X * SCALE[:, None, None]), rtol=1e-6)


@pytest.mark.parametrize("opset", [1, 6])
def test_a_gemm_that_was_told_to_broadcast(opset):
    w, b = RNG.standard_normal((4, 108)).astype(np.float32), RNG.standard_normal(4).astype(np.float32)
    flat = helper.make_node("Flatten", ["x"], ["f"])
    got = run(
        opset, [flat, helper.make_node("Gemm", ["f", "w", "b"], ["y"], transB=1, broadcast=1)], w=w, b=b
    )
    np.testing.assert_allclose(got, X.reshape(2, -1) @ w.T + b, rtol=1e-4, atol=1e-4)


def test_an_old_operator_of_unknown_form_is_named():
    node = helper.make_node("Upsample", ["x"], ["y"], height_scale=2.0, width_scale=2.0)
    with pytest.raises(ModelError, match="Upsample"):
        run(1, [node])


def test_the_standards_own_converter_cannot_be_trusted_with_broadcasting():
    """Why this package rewrites old opsets itself: should this fail, the converter could take over."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4, 8, 8])
    b = helper.make_tensor_value_info("b", TensorProto.FLOAT, [4])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4, 8, 8])
    node = helper.make_node("Add", ["x", "b"], ["y"], broadcast=1, axis=1)
    old = helper.make_model(
        helper.make_graph([node], "old", [x, b], [y]), opset_imports=[helper.make_opsetid("", 6)]
    )
    new = onnx.version_converter.convert_version(old, 7)
    (unsqueeze,) = [n for n in new.graph.node if n.op_type == "Unsqueeze"]
    assert list(unsqueeze.attribute[0].ints) == [1, 2, 3]
