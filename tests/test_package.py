"""Saved pairs: two models, one weights file, and a manifest that is enough to drive them."""

import json
import shutil

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from oracle import assert_close

from onnx_deconv import (
    Explainer,
    InputError,
    ModelError,
    Semantics,
    compile_pair,
    explain_graph,
    load,
    load_pair,
    save,
)
from onnx_deconv.compiler.package import DECONV, FORWARD, MANIFEST, WEIGHTS, save_graph
from onnx_deconv.files import replacing
from onnx_deconv.imaging import Preprocess


def network(*, constants=False, packed=False):
    """Conv → Relu → MaxPool (overlapping) → Conv → Relu → Flatten → Gemm → Softmax."""
    rng = np.random.default_rng(3)
    shapes = {"w1": (16, 3, 3, 3), "w2": (32, 16, 3, 3), "w3": (10, 32 * 7 * 7)}
    arrays = {
        n: (rng.standard_normal(s) / np.sqrt(np.prod(s[1:]))).astype(np.float32) for n, s in shapes.items()
    }
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["c1"], pads=[1] * 4),
        helper.make_node("Relu", ["c1"], ["r1"]),
        helper.make_node("MaxPool", ["r1"], ["p"], "pool", kernel_shape=[3, 3], strides=[2, 2]),
        helper.make_node("Conv", ["p", "w2"], ["c2"], pads=[1] * 4),
        helper.make_node("Relu", ["c2"], ["r2"]),
        helper.make_node("Flatten", ["r2"], ["f"]),
        helper.make_node("Gemm", ["f", "w3"], ["logits"], transB=1),
        helper.make_node("Softmax", ["logits"], ["y"]),
    ]

    def tensor(name, array):
        return (
            helper.make_tensor(name, TensorProto.FLOAT, array.shape, array.ravel())
            if packed
            else numpy_helper.from_array(array, name)
        )

    tensors = [tensor(n, a) for n, a in arrays.items()]
    if constants:
        nodes = [helper.make_node("Constant", [], [t.name], value=t) for t in tensors] + nodes
        tensors = []
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 16, 16])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 10])
    graph = helper.make_graph(nodes, "net", [x], [y], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


X = np.random.default_rng(9).standard_normal((2, 3, 16, 16)).astype(np.float32)


@pytest.mark.parametrize("opset", [8, 17])
@pytest.mark.parametrize("unpool", ["add", "overwrite"])
@pytest.mark.parametrize(("forward_by", "deconv_by"), [(3, 3), (1, 3), (3, 1), (1, 1)])
def test_a_pair_s_halves_may_be_batched_apart_in_any_order(tmp_path, forward_by, deconv_by, unpool, opset):
    """Switches are an image's own: what a batcher makes of either half changes no picture."""
    body = network()
    body.opset_import[0].version = opset
    next(n for n in body.graph.node if n.output[0] == "logits").input.append("b")  # which was not optional
    body.graph.initializer.append(numpy_helper.from_array(np.zeros(10, np.float32), "b"))
    save(compile_pair(load(body), semantics=Semantics(unpool=unpool)), tmp_path)
    forward, deconv = (
        onnxruntime.InferenceSession(tmp_path / name, providers=["CPUExecutionProvider"])
        for name in (FORWARD, DECONV)
    )
    x = np.random.default_rng(1).standard_normal((3, 3, 16, 16)).astype(np.float32)
    names = [o.name for o in forward.get_outputs()]
    parts = [forward.run(names, {"x": x[k : k + forward_by]}) for k in range(0, 3, forward_by)]
    values = {name: np.concatenate(each) for name, each in zip(names, zip(*parts, strict=True), strict=True)}
    order, seed = [2, 0, 1], np.eye(10, dtype=np.float32)[:3]
    feeds = {i.name: (values | {"seed": seed})[i.name][order] for i in deconv.get_inputs()}
    found = [
        deconv.run(None, {name: value[k : k + deconv_by] for name, value in feeds.items()})[0]
        for k in range(0, 3, deconv_by)
    ]
    semantics = Semantics(unpool=unpool)
    alone = [Explainer(network(), semantics, providers="cpu")(x[k : k + 1], k, seed="one")[0] for k in order]
    assert_close(np.concatenate(found), np.stack([each.reconstruction for each in alone]))


def drive(folder):
    """What a program in any language does: it reads the manifest and runs the two models."""
    manifest = json.loads((folder / MANIFEST).read_text())
    forward = onnxruntime.InferenceSession(folder / FORWARD, providers=["CPUExecutionProvider"])
    deconv = onnxruntime.InferenceSession(folder / DECONV, providers=["CPUExecutionProvider"])
    names = [o.name for o in forward.get_outputs()]
    values = dict(zip(names, forward.run(None, {"x": X}), strict=True))
    scores = values[manifest["explained"]["value"]]
    seed = np.zeros_like(scores)
    seed[np.arange(len(scores)), scores.argmax(1)] = 1
    feeds = {i["name"]: seed if i["kind"] == "seed" else values[i["name"]] for i in manifest["deconv_inputs"]}
    return deconv.run([manifest["reconstructions"][0]["name"]], feeds)[0]


@pytest.mark.parametrize("form", [{}, {"constants": True}, {"packed": True}])
def test_a_saved_pair_is_driven_by_its_manifest_alone(tmp_path, form):
    model = network(**form)
    save(compile_pair(load(model)), tmp_path / "pair")
    for name in (FORWARD, DECONV):
        onnx.checker.check_model(tmp_path / "pair" / name, full_check=True)
    expected = [e.reconstruction for e in Explainer(model, providers="cpu")(X, seed="one")]
    # The Explainer lowers the companion when it loads it: the same up to rounding.
    assert_close(drive(tmp_path / "pair"), np.array(expected))


@pytest.mark.parametrize("form", [{}, {"constants": True}, {"packed": True}])
def test_every_weight_is_stored_once(tmp_path, form):
    original = len(network(**form).SerializeToString())
    save(compile_pair(load(network(**form))), tmp_path / "pair")
    total = sum(f.stat().st_size for f in (tmp_path / "pair").iterdir())
    assert original <= total <= original * 1.02 + 64 * 1024
    # Forward and companion hold all of the weights but refer to one copy of each.
    used = original - 16 * 1024
    assert (tmp_path / "pair" / WEIGHTS).stat().st_size < original
    assert (tmp_path / "pair" / WEIGHTS).stat().st_size > used


def test_a_saved_pair_explains_as_the_model_does(tmp_path):
    save(compile_pair(load(network())), tmp_path)
    for seed in ("one", "auto"):
        direct, saved = (Explainer(m, providers="cpu")(X, top=2, seed=seed) for m in (network(), tmp_path))
        for a, b in zip(direct, saved, strict=True):
            assert (a.channel, a.score) == (b.channel, b.score)
            np.testing.assert_array_equal(a.reconstruction, b.reconstruction)


def test_a_saved_pair_can_explain_another_layer(tmp_path):
    save(compile_pair(load(network())), tmp_path)
    a, b = (Explainer(m, providers="cpu")(X, 3, layer="r1") for m in (network(), tmp_path))
    np.testing.assert_array_equal(a[0].reconstruction, b[0].reconstruction)


def test_the_manifest_says_what_passes_between_the_models(tmp_path):
    save(compile_pair(load(network())), tmp_path)
    manifest = json.loads((tmp_path / MANIFEST).read_text())
    assert manifest == load_pair(tmp_path).manifest
    assert manifest["explained"]["value"] == "logits"
    assert manifest["explained"]["cut"] == ["Softmax y"]
    kinds = {i["name"]: (i["kind"], i["shape"], i["dtype"]) for i in manifest["deconv_inputs"]}
    assert kinds["seed"] == ("seed", ["N", 10], "float")
    assert kinds["p/switches"] == ("switches", ["N", 16, 7, 7], "int64")
    assert manifest["reconstructions"] == [
        {"name": "reconstruction", "of": "x", "shape": ["N", 3, 16, 16], "dtype": "float"}
    ]
    assert manifest["semantics"]["rules"] == "deconvnet"
    for name in (FORWARD, DECONV):
        properties = {
            p.key: p.value for p in onnx.load(tmp_path / name, load_external_data=False).metadata_props
        }
        assert json.loads(properties["onnx_deconv.manifest"]) == manifest


def test_saving_over_a_pair_replaces_it_and_a_failure_keeps_it(tmp_path, monkeypatch):
    save(compile_pair(load(network())), tmp_path)
    before = {f.name: f.read_bytes() for f in tmp_path.iterdir()}

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("onnx_deconv.compiler.package._Weights._place", full)
    with pytest.raises(InputError, match="No space left"):
        save(compile_pair(load(network()), "r1"), tmp_path)
    assert {f.name: f.read_bytes() for f in tmp_path.iterdir()} == before


@pytest.mark.parametrize(
    "save_to",
    [
        lambda model, path: save(compile_pair(model), path),
        lambda model, path: save_graph(model.proto, None, model.folder, path),
    ],
)
def test_a_disk_without_room_for_the_weights_is_refused_before_anything_is_written(
    tmp_path, monkeypatch, save_to
):
    model = load(network())
    weights = sum(len(tensor.raw_data) for tensor in model.proto.graph.initializer)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage._replace(free=weights // 2))
    with pytest.raises(InputError, match=r"the files take about 0 MB, and 0 MB are free: choose another"):
        save_to(model, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_save_leaves_nothing(tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("onnx_deconv.compiler.package._Weights._place", interrupt)
    with pytest.raises(KeyboardInterrupt):
        save(compile_pair(load(network())), tmp_path / "pair")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_without_a_pair_is_refused(tmp_path):
    with pytest.raises(ModelError, match="convert"):
        load_pair(tmp_path)


def test_a_file_in_the_way_of_the_folder_is_named(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="file"):
        save(compile_pair(load(network())), tmp_path / "file")


def test_a_file_appears_whole_or_not_at_all(tmp_path):
    target = tmp_path / "a.txt"
    with replacing(target) as temporary:
        temporary.write_text("whole")
        assert not target.exists()
    assert target.read_text() == "whole"
    assert [f.name for f in tmp_path.iterdir()] == ["a.txt"]


def test_the_manifest_says_how_to_prepare_and_warm_up():
    proto = network()
    proto.metadata_props.add(key="labels", value=json.dumps(["ant", "bee"]))
    pair = compile_pair(load(proto))
    graph = explain_graph(pair)
    for manifest in (pair.manifest, graph.manifest):
        assert manifest["batch"] == {"axis": 0, "size": None}
        assert manifest["example"] == {"x": [1, 3, 16, 16]}
        assert manifest["labels"] == ["ant", "bee"]
        assert manifest["preprocessing"] is None  # the model does not say
    assert (graph.manifest["file"], graph.manifest["runtime"]) == ("explain.onnx", "onnxruntime")
    proto.metadata_props.add(key="preset", value="imagenet")
    told = compile_pair(load(proto, {"x": (2, 3, 16, 16)})).manifest
    assert told["batch"] == {"axis": 0, "size": 2}
    assert told["preprocessing"]["mean"] == pytest.approx([0.485, 0.456, 0.406])
    assert told["preprocessing"]["size"] == (16, 16)


def test_the_manifest_of_a_graph_that_prepares_pictures_says_how():
    preprocess = Preprocess((16, 16), "none", mean=(1.0, 2.0, 3.0))
    manifest = explain_graph(compile_pair(load(network())), preprocess=preprocess).manifest
    assert manifest["example"] == {"picture": [1, 16, 16, 3]}
    assert manifest["preprocessing"]["mean"] == (1.0, 2.0, 3.0)
