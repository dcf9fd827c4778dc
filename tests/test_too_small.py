"""Images that are too small for the network: the node that leaves nothing is named, and the way out."""

import re

import numpy as np
import onnx
import onnxruntime
import pytest
from commands import picture, refused, run
from oracle import model_of, numbers

from onnx_deconv import Explainer, InputError, ModelError, load
from onnx_deconv.model.too_small import too_small

TAIL = " r = Relu(c) g = GlobalAveragePool(r) f = Flatten(g) y = Gemm<transB = 1>(f, d)"
HEAD = "a = Conv<strides = [2, 2]>(x, w) b = Relu(a) "
HELD = {
    "w": numbers((4, 3, 3, 3), "w"),
    "v": numbers((4, 4, 3, 3), "v"),
    "d": numbers((5, 4), "d"),
    "pads": np.array([0, 0, -9, -8, 0, 0, -9, -8]),
    "scales": np.array([1, 1, 0.125, 0.125], np.float32),
    "first": np.array([12, 12]),
    "last": np.array([40, 40]),
    "axes": np.array([2, 3]),
}
BODIES = {
    "a convolution": "p = MaxPool<kernel_shape = [3, 3], strides = [2, 2]>(b) c = Conv(p, v)",
    "one with gaps": "c = Conv<dilations = [3, 5], pads = [1, 1, 0, 1]>(b, v)",
    "a maximum": "c = MaxPool<kernel_shape = [9, 8], pads = [1, 0, 1, 2]>(b)",
    "a mean": "c = AveragePool<kernel_shape = [9, 8]>(b)",
    "pads": "c = Pad(b, pads)",
    "another size": 'c = Resize<mode = "nearest">(b, , scales)',
    "a part": "c = Slice(b, first, last, axes)",
    "a transposed convolution": "c = ConvTranspose<pads = [9, 9, 9, 9]>(b, v)",
}


def small(name, size=("H", "W")):
    body = f"{HEAD}{BODIES[name]}{TAIL}"
    held = {n: a for n, a in HELD.items() if re.search(rf"\b{n}\)|\b{n},", body)}
    return model_of(body, {"x": ("N", 3, *size)}, held)


def runs(session, size):
    """Whether onnxruntime runs it, and gives a number that is one."""
    try:
        (found,) = session.run(None, {"x": np.ones((1, 3, size, size), np.float32)})
    except Exception:  # noqa: BLE001  (it raises what it likes)
        return False
    return bool(np.isfinite(found).all())


def least(proto):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options)
    return next(size for size in range(1, 99) if runs(session, size))


@pytest.mark.parametrize("name", BODIES)
def test_the_smallest_size_that_is_named_is_the_first_that_onnxruntime_takes(name):
    proto = small(name)
    size = least(proto)
    assert too_small(proto, {"x": (1, 3, size, size)}) is None
    for smaller in (size - 1, 4):
        assert f"at least {size}×{size}" in too_small(proto, {"x": (1, 3, smaller, smaller)})
        with pytest.raises(InputError, match=f": choose a size of at least {size}×{size}"):
            Explainer(proto, providers="cpu")(np.ones((1, 3, smaller, smaller), np.float32), 1)


@pytest.mark.parametrize("name", ["a convolution", "a maximum", "a mean", "pads", "a transposed convolution"])
def test_sizes_that_are_given_beforehand_are_refused_when_the_model_is_read(name):
    proto = small(name)
    size = least(proto)
    load(proto, {"x": (1, 3, size, size)})
    with pytest.raises(ModelError, match=f": choose a size of at least {size}×{size}"):
        load(proto, {"x": ("N", 3, 4, 4)})


def test_a_file_for_small_images_alone_is_to_be_made_again():
    with pytest.raises(
        ModelError, match=r"'c' have 9×8 positions, and its input 'b' has 7×7.*export the model"
    ):
        load(small("a mean", (15, 15)))


def test_the_words_name_windows_with_their_gaps_and_their_padding():
    said = too_small(small("one with gaps"), {"x": (1, 3, 11, 11)})
    assert "the windows of Conv 'c' have 7×11 positions, and its input 'b' has 6×7, padding included" in said


def test_other_results_name_both_shapes():
    assert "Slice 'c' makes 1×4×0×0 of 1×4×7×7" in too_small(small("a part"), {"x": (1, 3, 15, 15)})


@pytest.mark.parametrize(
    "command",
    [
        ("explain", "m.onnx", "p.png", "--size", "9", "-o", "out"),
        ("occlude", "m.onnx", "p.png", "--size", "9", "-o", "out"),
        ("atlas", "build", "m.onnx", "p.png", "--size", "9", "-o", "out", "--quiet"),
        ("convert", "m.onnx", "--input-shape", "x:1,3,9,9", "-o", "out", "--quiet"),
        ("convert", "m.onnx", "--input-shape", "x:1,3,9,9", "-o", "out", "--form", "explain", "--quiet"),
        ("verify", "m.onnx", "--input-shape", "x:1,3,9,9"),
        ("inspect", "m.onnx", "--input-shape", "x:1,3,9,9"),
    ],
    ids=lambda command: " ".join(command[:2]),
)
def test_every_command_names_the_node_and_the_way_out(tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    onnx.save(small("a convolution"), "m.onnx")
    picture(tmp_path / "p.png")
    said = refused(*command)
    assert "Conv 'c'" in said
    assert "larger size" in said or "at least 15×15" in said
    assert not (tmp_path / "out").exists()


def test_a_layer_that_is_empty_is_no_layer_to_explain():
    proto = model_of(
        f"{HEAD} y = MaxPool<kernel_shape = [8, 8]>(b)", {"x": ("N", 3, "H", "W")}, {"w": HELD["w"]}
    )
    with pytest.raises(InputError, match=r"nothing is left of the images at 'y' \(1×4×0×0\)"):
        Explainer(proto, providers="cpu")(np.ones((1, 3, 15, 15), np.float32), 1)


def test_sizes_that_a_file_writes_as_minus_one_are_open():
    proto = small("a mean")
    for info in (*proto.graph.input, *proto.graph.output):
        for dim in info.type.tensor_type.shape.dim[2:]:
            dim.dim_value = -1
    proto.graph.value_info.append(onnx.helper.make_tensor_value_info("c", 1, [-1, 4, -1, -1]))
    assert load(proto).type_of("c").shape == (None, 4, None, None)


def test_a_list_of_numbers_without_end_takes_no_memory(tmp_path):
    """ONNX would keep a record of each of the 2⁴⁰ numbers of the list."""
    body = "b = Add(n, one) c = Cast<to = 1>(b) s = ReduceSum(c) m = Mul(x, s) y = Relu(m)"
    proto = model_of(body, {"x": (1, 3, 8, 8), "n": (1,)}, {"one": np.array([1])})
    kind = proto.graph.input[1].type.tensor_type
    kind.elem_type, kind.shape.dim[0].dim_value = onnx.TensorProto.INT64, 1 << 40
    (tmp_path / "m.onnx").write_bytes(proto.SerializeToString())
    assert run("inspect", tmp_path / "m.onnx")[0] == 0
    assert load(proto).type_of("b").shape == (1 << 40,)
