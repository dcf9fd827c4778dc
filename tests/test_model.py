"""Loading: what is a model, what is none, and what is left where it was."""

import re

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper, parser
from oracle import model_of, numbers

from onnx_deconv import DeconvError, ModelError, UnknownLayerError, compile_pair, load
from onnx_deconv.errors import InputError
from onnx_deconv.model import parse_input_shape
from onnx_deconv.model.external_data import INLINE_LIMIT, skim
from onnx_deconv.model.layer_names import layers_named
from onnx_deconv.operators import rule_table


def weights(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def network(**proto):
    """A convolution of 4·3·5·5 floats (1200 bytes: external after skimming) and a small bias."""
    text = """
        <ir_version: 8, opset_import: ["": 17]>
        net (float[N, 3, H, W] x) => (float[N, 4, H, W] y) {
            c = Conv <pads = [2, 2, 2, 2]> (x, w, b)
            y = Relu (c)
        }
    """
    model = parser.parse_model(text)
    model.graph.initializer.extend(
        [numpy_helper.from_array(weights(4, 3, 5, 5), "w"), numpy_helper.from_array(weights(4), "b")]
    )
    for field, value in proto.items():
        setattr(model, field, value)
    return model


@pytest.fixture
def path(tmp_path):
    onnx.save(network(), tmp_path / "net.onnx")
    return tmp_path / "net.onnx"


def external(model, folder, location="weights.bin"):
    """Save a model whose weights lie in another file."""
    onnx.save(model, folder / "net.onnx", save_as_external_data=True, location=location, size_threshold=0)
    return folder / "net.onnx"


def test_a_skimmed_model_is_the_same_model_with_its_weights_left_in_the_file(path):
    content = path.read_bytes()
    slim = onnx.ModelProto.FromString(skim(memoryview(content), path.name))
    assert len(slim.SerializeToString()) < INLINE_LIMIT
    onnx.external_data_helper.load_external_data_for_model(slim, str(path.parent))
    for tensor in slim.graph.initializer:
        tensor.ClearField("data_location")
    assert slim == onnx.ModelProto.FromString(content)


@pytest.mark.parametrize(
    "dtype",
    [TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.INT64, TensorProto.UINT8],
)
@pytest.mark.parametrize("raw", [True, False])
def test_tensors_of_every_type_and_field_are_read_back(tmp_path, dtype, raw):
    numbers = (np.arange(700) % 200).astype(helper.tensor_dtype_to_np_dtype(dtype))
    values = numbers.tobytes() if raw else numbers.tolist()
    tensor = helper.make_tensor("t", dtype, [700], values, raw=raw)
    model = network()
    model.graph.initializer.append(tensor)
    onnx.save(model, tmp_path / "net.onnx")
    loaded = load(tmp_path / "net.onnx")
    np.testing.assert_array_equal(loaded.read(loaded.tensors["t"]), numbers)


def test_a_path_bytes_and_a_proto_give_the_same_model(path):
    models = [load(path), load(str(path)), load(path.read_bytes()), load(onnx.load(path))]
    for model in models:
        assert model.inputs == ["x"]
        assert model.outputs == ["y"]
        np.testing.assert_array_equal(model.constant("w"), weights(4, 3, 5, 5))


def test_sizes_known_at_run_time_keep_their_names(path):
    assert str(load(path).type_of("x")) == "N×3×H×W"
    assert str(load(path).type_of("c")) == "N×4×?×?"
    assert load(path, {"x": (1, 3, 9, 7)}).type_of("c").shape == (1, 4, 9, 7)


def test_external_data_are_left_where_they_are(tmp_path):
    model = load(external(network(), tmp_path))
    np.testing.assert_array_equal(model.constant("w"), weights(4, 3, 5, 5))


def test_missing_external_data_are_named(tmp_path):
    path = external(network(), tmp_path)
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(ModelError, match=r"weights\.bin"):
        load(path)


def test_external_data_that_end_too_early_are_refused(tmp_path):
    path = external(network(), tmp_path)
    content = (tmp_path / "weights.bin").read_bytes()
    (tmp_path / "weights.bin").write_bytes(content[: len(content) // 2])
    with pytest.raises(ModelError, match="end before"):
        load(path)


@pytest.mark.parametrize("location", ["../secret.bin", "/etc/hostname", "sub/../../secret.bin"])
def test_external_data_outside_the_folder_are_refused(tmp_path, location):
    folder = tmp_path / "inner"
    folder.mkdir()
    (tmp_path / "secret.bin").write_bytes(bytes(4096))
    path = external(network(), folder)
    model = onnx.load(path, load_external_data=False)
    for tensor in model.graph.initializer:
        tensor.external_data[0].value = location
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match="outside"):
        load(path)


@pytest.mark.parametrize(
    "content", [b"", b"\x89PNG\r\n\x1a\n" + bytes(100), b"hello world", bytes(64), b"\xff" * 200]
)
def test_what_is_no_model_is_refused_in_one_line(tmp_path, content):
    path = tmp_path / "no.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelError) as error:
        load(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_model_cut_short_anywhere_is_refused_or_whole(path, tmp_path):
    """A cut between two fields leaves a well-formed message; then what is left has to be usable."""
    content = path.read_bytes()
    cut = tmp_path / "cut.onnx"
    refused = 0
    for length in range(0, len(content), 13):
        cut.write_bytes(content[:length])
        try:
            load(cut)
        except ModelError as error:
            refused += 1
            assert "\n" not in str(error)  # noqa: PT017
    assert refused > len(content) / 13 * 0.9


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    for path in (tmp_path / "none.onnx", tmp_path):
        with pytest.raises(ModelError, match=re.escape(str(path))):
            load(path)


def test_initializers_that_old_files_list_as_inputs_are_constants():
    model = network(ir_version=3)
    for name, shape in (("w", [4, 3, 5, 5]), ("b", [4])):
        model.graph.input.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
    loaded = load(model)
    assert loaded.inputs == ["x"]
    assert {"w", "b"} <= loaded.constants


def test_a_layer_is_found_by_value_or_node_name():
    model = network()
    model.graph.node[0].name = "first"
    loaded = load(model)
    assert loaded.layer("c") == loaded.layer("first") == "c"
    with pytest.raises(UnknownLayerError, match="firsd") as error:
        loaded.layer("firsd")
    assert "first" in error.value.matches


def test_a_close_name_that_node_and_value_share_is_offered_once():
    model = network()
    model.graph.node[0].name = "c"
    with pytest.raises(UnknownLayerError) as error:
        load(model).layer("cc")
    assert error.value.matches.count("c") == 1


LAYERS = {name: name for name in ("pool1_1", "pool10_1", "fire6/expand3x3_1", "fire6/expand3x3_2", "a.7.b")}


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("pool1_1", ["pool1_1"]),
        ("pool1", ["pool1_1"]),  # a whole part comes before the beginning of one
        ("POOL10", ["pool10_1"]),
        ("pool", ["pool1_1", "pool10_1"]),
        ("expand3x3", ["fire6/expand3x3_1", "fire6/expand3x3_2"]),
        ("fire6/exp", ["fire6/expand3x3_1", "fire6/expand3x3_2"]),
        ("expand3x3_2", ["fire6/expand3x3_2"]),
        ("xpand3x3_2", []),
        ("7.b", ["a.7.b"]),
        ("7", []),
        ("", []),
        ("conv1", ["fire6/expand3x3_1"]),
        ("onv1", []),
        ("node", ["a.7.b"]),
        ("a", ["a.7.b"]),  # of the value and of its node, which are one layer
    ],
)
def test_a_layer_may_be_called_by_a_part_of_its_name(name, found):
    names = LAYERS | {"a/node": "a.7.b"}
    assert layers_named(name, names, {"conv1": "fire6/expand3x3_1"}) == found


def test_layers_that_share_the_given_part_are_offered():
    model = network()
    model.graph.node[0].name = "block/first"
    model.graph.node[1].name = "block/second"
    loaded = load(model)
    assert loaded.layer("first") == "c"
    with pytest.raises(UnknownLayerError, match="'block': did you mean c, y") as error:
        loaded.layer("block")
    assert error.value.matches == ["c", "y"]


def test_what_only_weights_decide_is_constant_and_computed():
    text = """
        <ir_version: 8, opset_import: ["": 17]>
        net (float[2, 6] x) => (float[a, b] y)
        <int64[1] two = {2}, int64[1] rest = {-1}>
        {
            s = Shape (x)
            n = ReduceProd <keepdims = 1> (s)
            half = Div (n, two)
            target = Concat <axis = 0> (half, rest)
            y = Reshape (x, target)
        }
    """
    model = load(parser.parse_model(text))
    np.testing.assert_array_equal(model.constant("target"), [6, -1])
    assert model.constant("x") is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x:1,3,224,224", ("x", (1, 3, 224, 224))),
        ("in:0:1,2", ("in:0", (1, 2))),
        ("x:7", ("x", (7,))),
        ("x:N,3,h,8", ("x", ("N", 3, "h", 8))),
    ],
)
def test_input_shapes_are_parsed_as_the_onnx_tools_write_them(text, expected):
    assert parse_input_shape(text) == expected


@pytest.mark.parametrize("text", ["x", "x:", ":1,3", "x:1,2a", "x:0,3", "x:-1,3", "x:?,3", ""])
def test_other_forms_of_input_shapes_are_refused(text):
    with pytest.raises(InputError, match="NAME:1,3,224,224"):
        parse_input_shape(text)


def test_an_input_shape_has_to_fit_the_model(path):
    with pytest.raises(InputError, match="no input 'z'"):
        load(path, {"z": (1, 3, 8, 8)})
    with pytest.raises(InputError, match="4 axes"):
        load(path, {"x": (3, 8, 8)})
    for wrong in (0, -1, "?"):
        with pytest.raises(InputError, match="is no size: give a number, or 'N' for any"):
            load(path, {"x": (wrong, 3, 8, 8)})


BODY = (
    "c = Conv<strides = [2, 2], pads = [1, 1, 1, 1]>(x, w) n = BatchNormalization(c, s, s, s, s) r = Relu(n)"
    " p = MaxPool<kernel_shape = [3, 3], strides = [2, 2]>(r) g = GlobalAveragePool(p) f = Flatten(g)"
    " h = Gemm<transB = 1>(f, q) k = Sigmoid(h) e = Mul(k, h) y = Softmax(e)"
)


def small_network():
    weights = {"w": numbers((4, 3, 3, 3), "w"), "s": numbers((4,), "s", 0.5, 1), "q": numbers((5, 4), "q")}
    return model_of(BODY, {"x": (1, 3, 16, 16)}, weights)


@pytest.mark.slow
def test_a_damaged_file_is_a_mistake_of_the_file_wherever_it_is_damaged():
    """Bytes changed at random: explained or refused in one line, never an exception of another kind."""
    whole, rng = small_network().SerializeToString(), np.random.default_rng(0)
    refused = 0
    for _ in range(400):
        damaged = bytearray(whole)
        for place in rng.integers(0, len(whole), rng.integers(1, 4)):
            damaged[place] = rng.integers(0, 256)
        try:
            compile_pair(load(bytes(damaged)))
        except DeconvError as error:
            refused += 1
            lines = str(error).count("\n")
        else:
            lines = 0
        assert lines == 0
    assert 100 < refused < 400


def test_a_fault_of_ours_is_not_blamed_on_a_valid_file(monkeypatch):
    def faulty(_):
        raise KeyError("ours")

    faulty.__module__ = "onnx_deconv.operators.rectify"
    monkeypatch.setitem(rule_table("deconvnet")._rows, ("", "Relu"), faulty)
    with pytest.raises(KeyError, match="ours"):
        compile_pair(load(small_network()))


def test_a_layer_is_found_as_the_nth_convolution():
    text = """
        <ir_version: 8, opset_import: ["": 17]>
        net (float[N, 3, H, W] x, float[3, 3, 1, 1] w) => (float[N, 3, H, W] c) {
            a = Conv (x, w)
            conv3 = Conv (a, w)
            c = Conv (conv3, w)
        }
    """
    model = load(parser.parse_model(text))
    assert model.layer("conv1") == "a"
    # The second convolution's value bears another's ordinal: names win.
    assert model.layer("conv3") == "conv3"
    assert model.convolutions == ["a", "conv3", "c"]
    with pytest.raises(UnknownLayerError, match="conv"):
        model.layer("conv4")


def test_the_size_of_a_constant_is_known_where_inference_does_not_tell_it():
    # As YOLO's exporters make the grid of a detector: a Range as long as the image is high, moved by a half.
    text = """
        <ir_version: 8, opset_import: ["": 17]>
        net (float[1, 1, 6, 4] x) => (float[1, 1, 6, 4] y) {
            s = Shape (x) h = Gather (s, two) f = Cast <to = 1> (h) r = Range (zero, f, one)
            g = Add (r, half) k = Shape (g) e = Expand (seven, k) c = Reshape (e, column) y = Mul (x, c)
        }
    """
    proto = parser.parse_model(text)
    constants = {
        "zero": np.float32(0),
        "one": np.float32(1),
        "half": np.float32(0.5),
        "seven": np.float32([7]),
    }
    constants |= {"two": np.array(2), "column": np.array([1, 1, -1, 1])}
    proto.graph.initializer.extend(numpy_helper.from_array(np.asarray(a), n) for n, a in constants.items())
    np.testing.assert_array_equal(load(proto).constant("c"), np.full((1, 1, 6, 1), 7, np.float32))
