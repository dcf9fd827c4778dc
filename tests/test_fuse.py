"""The explain graph gives what the pair and the Explainer give, in one run."""

import json
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import small_networks
from onnx import TensorProto, helper, numpy_helper
from oracle import answer, assert_close, model_of
from PIL import Image
from zoo_files import ZOO

from onnx_deconv import (
    Explainer,
    InputError,
    RuntimeUnavailableError,
    Semantics,
    compile_pair,
    explain_graph,
    load,
)
from onnx_deconv.attribution.features import Features
from onnx_deconv.compiler import image_graph
from onnx_deconv.compiler.backward import RECONSTRUCTION
from onnx_deconv.compiler.explain_manifest import own_top
from onnx_deconv.compiler.package import EXPLAIN, MANIFEST, WEIGHTS
from onnx_deconv.imaging import Preprocess, heat_map, saliency
from onnx_deconv.model import all_tensors
from onnx_deconv.runtime import Session, numpy_of

DEMO = Path(__file__).parents[1] / "models" / "demo.onnx"
LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
CLOSE = {"rtol": 0, "atol": 1e-6}


def run(graph, feeds):
    session = Session(graph.proto, graph.folder, "cpu")
    found = session.run(own_top(graph.manifest) | feeds)
    return {name: numpy_of(value) for name, value in found.items()}


close = partial(assert_close, tolerance=1e-6)


def pictures(n, size=64, seed=3):
    return np.random.default_rng(seed).standard_normal((n, 3, size, size)).astype(np.float32)


def network(opset=17, ir_version=8):
    """Conv → Relu → MaxPool (overlapping) → Conv → Relu → ReduceMean → Gemm → Softmax, with older forms."""
    rng = np.random.default_rng(3)
    shapes = {"w1": (8, 3, 3, 3), "w2": (12, 8, 3, 3), "w3": (10, 12)}
    tensors = [
        numpy_helper.from_array((rng.standard_normal(s) / np.sqrt(np.prod(s[1:]))).astype(np.float32), name)
        for name, s in shapes.items()
    ]
    old = opset < 13
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["c1"], pads=[1] * 4),
        helper.make_node("Relu", ["c1"], ["r1"]),
        helper.make_node("MaxPool", ["r1"], ["p"], kernel_shape=[3, 3], strides=[2, 2]),
        helper.make_node("Conv", ["p", "w2"], ["c2"], pads=[1] * 4),
        helper.make_node("Relu", ["c2"], ["r2"]),
        helper.make_node(
            "ReduceMean",
            ["r2"] if opset < 18 else ["r2", "axes"],
            ["m"],
            **({"axes": [2, 3]} if opset < 18 else {}),
        ),
        helper.make_node(
            "Squeeze", ["m"] if old else ["m", "axes"], ["f"], **({"axes": [2, 3]} if old else {})
        ),
        helper.make_node("Dropout", ["f"], ["d"], **({"ratio": 0.3} if opset < 12 else {})),
        helper.make_node("Gemm", ["d", "w3"] + (["b"] if opset < 11 else []), ["logits"], transB=1),
        helper.make_node("Softmax", ["logits"], ["y"], axis=1),
    ]
    tensors.append(numpy_helper.from_array(np.array([2, 3]), "axes"))
    tensors.append(numpy_helper.from_array(np.zeros(10, np.float32), "b"))
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 16, 16])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 10])
    listed = (
        [helper.make_tensor_value_info(t.name, t.data_type, t.dims) for t in tensors]
        if ir_version < 4
        else []
    )
    graph = helper.make_graph(nodes, "net", [x, *listed], [y], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir_version)


@pytest.mark.parametrize("opset", [7, 9, 11, 12, 13, 17, 18, 20, 21, 22])
def test_models_of_any_opset_answer_and_explain_in_one_graph(opset, tmp_path):
    model = network(opset, ir_version=3 if opset < 9 else 8)
    x = pictures(3, 16)
    graph = explain_graph(compile_pair(load(model)))
    onnx.checker.check_model(graph.save(tmp_path)[0], full_check=True)
    found = run(graph, {"x": x})
    np.testing.assert_allclose(found["y"], answer(model, {"x": x}), **CLOSE)
    expected = [e.reconstruction for e in Explainer(model, providers="cpu")(x, seed="one")]
    close(found[RECONSTRUCTION], np.stack(expected))


@pytest.mark.parametrize("rules", ["deconvnet", "guided", "gradient"])
@pytest.mark.parametrize("seed", ["one", "map", "strongest"])
def test_a_layers_seed_is_that_of_the_explainer(rules, seed):
    model, x = load(DEMO), pictures(2)
    pair = compile_pair(model, "relu4_1", semantics=Semantics(rules=rules))
    found = run(explain_graph(pair, seed=seed), {model.inputs[0]: x})
    explainer = Explainer(model, rules, providers="cpu")
    expected = explainer(x, layer="relu4_1", seed=seed)
    close(found[RECONSTRUCTION], np.stack([e.reconstruction for e in expected]))


@pytest.mark.parametrize(
    "withdrawn",
    [
        "ImageScaler<scale = 0.5, bias = [0.25, -1.0, 0.0]>(x)",
        "Affine<alpha = -1.5, beta = 2.0>(x)",
        "Crop<border = [1, 0, 2, 1]>(x)",
    ],
)
def test_models_of_withdrawn_operators_become_graphs_without_them(withdrawn):
    """onnxruntime runs them in old opsets alone; a graph has a newer one."""
    body = f"s = {withdrawn} c = Conv(s, w) r = Relu(c) y = GlobalAveragePool(r)"
    old = small_networks.model(body, {"w": small_networks.random(4, 3, 3, 3)}, "N,3,9,8")
    old.opset_import[0].version = 8
    graph = explain_graph(compile_pair(load(old)), seed="one")
    assert withdrawn.partition("<")[0] not in {node.op_type for node in graph.proto.graph.node}
    x = small_networks.random(2, 3, 9, 8)
    found = run(graph, {"x": x, "target": np.array([3, 0])})
    close(
        found["reconstruction"],
        [e.reconstruction for e in Explainer(old, providers="cpu")(x, [3, 0], seed="one")],
    )
    close(found["y"], answer(old, {"x": x}))


def test_the_target_is_chosen_per_image_for_all_or_left_to_the_model():
    model, x = load(DEMO), pictures(3)
    name = model.inputs[0]
    graph = explain_graph(compile_pair(model))
    explainer = Explainer(model, providers="cpu")
    top = [e.channel for e in explainer(x, seed="one")]
    for given, channels in (([4, -1, 7], [4, top[1], 7]), ([9], [9] * 3), (None, top)):
        feeds = {name: x} if given is None else {name: x, "target": np.array(given)}
        expected = explainer(x, channels, seed="one")
        close(run(graph, feeds)[RECONSTRUCTION], np.stack([e.reconstruction for e in expected]))


@pytest.mark.parametrize("rules", ["deconvnet", "gradient"])
def test_the_target_may_be_a_unit_per_image(rules):
    model, x = load(DEMO), pictures(3)
    explainer = Explainer(model, rules, providers="cpu")
    values = Features(explainer, ["relu4_1"])(x).features["relu4_1"]
    sizes = values.shape[1:]
    strongest = [np.unravel_index(v.argmax(), sizes) for v in values]
    chosen = [(5, 2, 3), strongest[1], (0, 0, 7)]
    graph = explain_graph(compile_pair(model, "relu4_1", semantics=Semantics(rules=rules)), seed="unit")
    target = [np.ravel_multi_index(chosen[0], sizes), -1, np.ravel_multi_index(chosen[2], sizes)]
    found = run(graph, {model.inputs[0]: x, "target": np.array(target)})[RECONSTRUCTION]
    for k, (channel, *at) in enumerate(chosen):
        (expected,) = explainer(x[k : k + 1], int(channel), layer="relu4_1", position=at)
        close(found[k], expected.reconstruction)
    assert found.reshape(3, -1).any(axis=1).all()


def test_top_k_units_are_the_strongest_of_the_layer():
    model, x = load(DEMO), pictures(2)
    explainer = Explainer(model, providers="cpu")
    values = Features(explainer, ["relu4_1"])(x).features["relu4_1"]
    found = run(explain_graph(compile_pair(model, "relu4_1"), seed="unit", top=3), {model.inputs[0]: x})
    for n, k in np.ndindex(2, 3):
        unit = np.argsort(-values[n].ravel(), kind="stable")[k]
        channel, *at = map(int, np.unravel_index(unit, values.shape[1:]))
        (expected,) = explainer(x[n : n + 1], channel, layer="relu4_1", position=at)
        close(found[RECONSTRUCTION][n, k], expected.reconstruction)


def test_a_unit_of_the_scores_is_a_class_that_starts_with_one():
    model, x = load(DEMO), pictures(1)
    feeds = {model.inputs[0]: x, "target": np.array([7])}
    found = run(explain_graph(compile_pair(model), seed="unit"), feeds)[RECONSTRUCTION]
    (expected,) = Explainer(model, providers="cpu")(x, 7, seed="one")
    close(found[0], expected.reconstruction)


def test_a_seed_that_cannot_be_is_refused():
    model = load(DEMO)
    with pytest.raises(
        InputError, match="'units': choose one of auto, one, contrast, map, present, strongest, unit"
    ):
        explain_graph(compile_pair(model), seed="units")
    explainer = Explainer(model, providers="cpu")
    pair = compile_pair(model, explainer.class_maps)
    with pytest.raises(InputError, match="ranked by their own value"):
        explain_graph(pair, seed="unit", ranking=explainer.scores_layer)


def test_the_target_is_an_ordinary_input_unless_it_is_to_be_optional():
    pair, x = compile_pair(load(DEMO)), pictures(1)
    graph, optional = explain_graph(pair), explain_graph(pair, target_input="optional")
    assert [i.name for i in graph.proto.graph.input] == ["image", "target"]
    fixed = [{t.name for t in g.proto.graph.initializer} & {"target"} for g in (graph, optional)]
    assert fixed == [set(), {"target"}]
    with pytest.raises(InputError, match="nothing was given for the model's input 'target'"):
        Session(graph.proto, graph.folder, "cpu").run({"image": x})
    found, given = (run(graph, {"image": x, "target": np.array([k])}) for k in (-1, 3))
    left_out = Session(optional.proto, optional.folder, "cpu").run({"image": x})
    np.testing.assert_array_equal(numpy_of(left_out[RECONSTRUCTION]), found[RECONSTRUCTION])
    assert (found[RECONSTRUCTION] != given[RECONSTRUCTION]).any()
    chosen = run(optional, {"image": x, "target": np.array([3])})  # the default is no constant
    np.testing.assert_array_equal(chosen[RECONSTRUCTION], given[RECONSTRUCTION])


def test_top_k_gives_k_reconstructions_of_each_image():
    model, x = load(DEMO), pictures(2)
    graph = explain_graph(compile_pair(model), top=3)
    found = run(graph, {model.inputs[0]: x})[RECONSTRUCTION]
    expected = Explainer(model, providers="cpu")(x, top=3, seed="one")
    assert found.shape == (2, 3, 3, 64, 64)
    close(found.reshape(6, 3, 64, 64), np.stack([e.reconstruction for e in expected]))
    second = run(graph, {model.inputs[0]: x, "target": np.array([[-1, 5, -1]])})[RECONSTRUCTION]
    five = Explainer(model, providers="cpu")(x, 5, seed="one")
    close(second[:, 1], np.stack([e.reconstruction for e in five]))
    np.testing.assert_array_equal(second[:, [0, 2]], found[:, [0, 2]])


def test_class_maps_are_ranked_by_the_scores():
    model, x = load(DEMO), pictures(2, 96)
    explainer = Explainer(model, providers="cpu")
    pair = compile_pair(model, explainer.class_maps)
    found = run(explain_graph(pair, ranking=explainer.scores_layer), {model.inputs[0]: x})
    close(found[RECONSTRUCTION], np.stack([e.reconstruction for e in explainer(x)]))


@pytest.mark.parametrize("one_file", [True, False])
def test_weights_are_stored_once(tmp_path, monkeypatch, one_file):
    if not one_file:
        monkeypatch.setattr("onnx_deconv.compiler.package.ONE_FILE", 1 << 20)
    files = explain_graph(compile_pair(load(DEMO)), top=2).save(tmp_path)
    assert [f.name for f in files] == [EXPLAIN, MANIFEST, *([] if one_file else [WEIGHTS])]
    assert sum(f.stat().st_size for f in files) < DEMO.stat().st_size * 1.02
    session = onnxruntime.InferenceSession(tmp_path / EXPLAIN, providers=["CPUExecutionProvider"])
    manifest = json.loads((tmp_path / MANIFEST).read_text())
    assert [o.name for o in session.get_outputs()] == [o["name"] for o in manifest["outputs"]]
    x = pictures(1)
    found = session.run([RECONSTRUCTION], {manifest["inputs"][0]["name"]: x} | own_top(manifest))[0]
    expected = Explainer(DEMO, providers="cpu")(x, top=2, seed="one")
    close(found[0], np.stack([e.reconstruction for e in expected]))


@pytest.mark.parametrize("channels", ["RGB", "BGR", "L", "BGRA"])
@pytest.mark.parametrize(("layout", "dtype"), [("NCHW", "float32"), ("NHWC", "float32"), ("NHWC", "uint8")])
def test_pictures_are_prepared_as_the_library_does(channels, layout, dtype):
    photos = np.random.default_rng(5).integers(0, 256, (2, 5, 7, 3), np.uint8)
    c = len(channels)
    preprocess = Preprocess(
        (5, 7), "none", channels=channels, scale=1 / 255 if dtype == "float32" else 1.0,
        mean=(0.4, 0.5, 0.6, 0.1)[:c], std=(0.2, 0.3, 0.4, 0.5)[:c] if dtype == "float32" else (1.0,) * c,
        layout=layout, dtype=dtype,
    )  # fmt: skip
    part = image_graph.preprocessing(preprocess, "x")
    part.graph.output[0].type.tensor_type.elem_type = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    found = answer(part, {"picture": photos})
    np.testing.assert_allclose(found, np.stack([preprocess.normalise(p) for p in photos]), **CLOSE)


def test_every_grey_level_is_pillow_s():
    """All that is computed is whole numbers in float32: runtimes divide whole numbers differently."""
    every = np.stack(np.meshgrid(*[np.arange(0, 256, 5, np.uint8)] * 3, indexing="ij"), -1)
    preprocess = Preprocess(every.shape[1:3], "none", channels="L", scale=1.0, mean=(0,), std=(1,))
    part = image_graph.preprocessing(preprocess, "x")
    part.graph.output[0].type.tensor_type.elem_type = TensorProto.FLOAT
    found = answer(part, {"picture": every})
    grey = np.stack([np.asarray(Image.fromarray(p).convert("L")) for p in every])
    np.testing.assert_array_equal(found[:, 0], grey)
    used = {i.type.tensor_type.elem_type for i in onnx.shape_inference.infer_shapes(part).graph.value_info}
    assert not used & {TensorProto.INT32, TensorProto.INT64}


@pytest.mark.parametrize("top", [1, 2])
def test_a_picture_goes_in_and_a_heat_map_comes_out(top):
    model = load(DEMO)
    preprocess = Preprocess((64, 48), "none", scale=1 / 255, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.2))
    photos = np.random.default_rng(5).integers(0, 256, (2, 64, 48, 3), np.uint8)
    graph = explain_graph(compile_pair(model), top=top, preprocess=preprocess, rendering="NCHW")
    found = run(graph, {"picture": photos})
    x = np.stack([preprocess.normalise(p) for p in photos])
    expected = Explainer(model, providers="cpu")(x, top=top, seed="one")
    reconstructions = np.stack([e.reconstruction for e in expected])
    close(found[RECONSTRUCTION].reshape(reconstructions.shape), reconstructions)
    heat = found["heat"].reshape(-1, 64, 48, 3)
    assert heat.dtype == np.uint8
    drawn = np.stack([heat_map(saliency(r)) for r in found[RECONSTRUCTION].reshape(reconstructions.shape)])
    # A saliency at the border between two of 256 colours may fall on either side.
    differs = (heat != drawn).any(axis=-1)
    assert differs.mean() < 0.001


def test_an_empty_reconstruction_is_drawn_as_nothing():
    model, x = load(DEMO), pictures(1)
    graph = explain_graph(compile_pair(model), rendering="NCHW")
    beyond = np.array([10**6])
    found = run(graph, {model.inputs[0]: x, "target": beyond})
    assert not found[RECONSTRUCTION].any()
    np.testing.assert_array_equal(found["heat"][0], heat_map(np.zeros((64, 64))))


def test_of_several_classes_a_single_number_gets_no_row_of_signals():
    body = "a = GlobalAveragePool(x) b = Flatten(a) y = Mul(b, gain)"
    proto = model_of(body, {"x": ("N", 3, 8, 8), "gain": ()})
    proto.graph.input[1].type.tensor_type.shape.SetInParent()  # of no axes: the parser leaves it unknown
    model = load(proto)
    with pytest.raises(InputError, match="top=2: input 'gain' is one number: explain one class at a time"):
        explain_graph(compile_pair(model), top=2)
    assert explain_graph(compile_pair(model)).manifest["top"] == 1


@pytest.mark.parametrize("layer", [None, "relu4_1"])
@pytest.mark.parametrize("top", [1, 3])
def test_the_graph_says_what_it_explained_and_by_which_scores(layer, top):
    model, x = load(DEMO), pictures(3)
    graph = explain_graph(compile_pair(model, layer), top=top)
    entries = {e["name"]: e for e in graph.manifest["outputs"]}
    given = np.array([-1, 5, -1]) if top == 1 else np.array([[-1, 5, -1]] * 3)
    found = run(graph, {model.inputs[0]: x, "target": given})
    explainer = Explainer(model, providers="cpu")
    layer = layer or explainer.scores_layer
    values = Features(explainer, [layer])(x).features[layer]
    scores = values.reshape(*values.shape[:2], -1).max(2)
    np.testing.assert_allclose(found["scores"], scores, **CLOSE)
    strongest = np.argsort(-scores, axis=1, kind="stable")[:, :top].reshape(given.shape)
    np.testing.assert_array_equal(found["explained"], np.where(given < 0, strongest, given))
    assert (entries["scores"]["dtype"], entries["explained"]["dtype"]) == ("float", "int64")
    assert entries["scores"]["shape"][1:] == [scores.shape[1]]


def test_a_fixed_batch_has_a_target_for_each_image():
    model = network()
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 2
    graph = explain_graph(compile_pair(load(model)), top=3)
    assert graph.manifest["target"]["shape"] == [2, 3]


def test_names_that_a_model_has_taken_get_longer():
    model = network()
    for node in model.graph.node:
        node.input[:] = ["reconstruction" if v == "p" else "target" if v == "r1" else v for v in node.input]
        node.output[:] = ["reconstruction" if v == "p" else "target" if v == "r1" else v for v in node.output]
    graph = explain_graph(compile_pair(load(model)))
    assert graph.manifest["target"]["name"] == "target_"
    x = pictures(2, 16)
    found = run(graph, {"x": x})[graph.manifest["outputs"][1]["name"]]
    close(found, np.stack([e.reconstruction for e in Explainer(model, providers="cpu")(x, seed="one")]))


@pytest.mark.parametrize("rules", ["deconvnet", "guided"])
def test_nodes_that_are_named_like_the_companions_stay_the_models_own(rules):
    """Passes tell the backward pass by its nodes' names; answers are to stay to the last digit."""
    plain, alike = network(), network()
    for proto, prefix in ((plain, "net/"), (alike, "deconv/")):
        proto.graph.node[4].CopyFrom(helper.make_node("Sum", ["c2"] * 3, ["r2"]))
        for k, node in enumerate(proto.graph.node):
            node.name = f"{prefix}{k}"
    plain, alike = (explain_graph(compile_pair(load(p), semantics=rules)) for p in (plain, alike))
    assert [n.op_type for n in alike.proto.graph.node] == [n.op_type for n in plain.proto.graph.node]
    feeds = {"x": pictures(2, 16)}
    for name, value in run(plain, feeds).items():
        np.testing.assert_array_equal(run(alike, feeds)[name], value)


@pytest.mark.parametrize("name", ["target", "scores", "explained", "reconstruction", "heat", "seed"])
def test_the_explained_value_may_have_any_name(name, tmp_path):
    model, x = network(), pictures(2, 16)
    for node in model.graph.node:
        for values in (node.input, node.output):
            values[:] = [name if v == "logits" else v for v in values]
    graph = explain_graph(compile_pair(load(model)), rendering="NCHW")
    onnx.checker.check_model(graph.save(tmp_path)[0], full_check=True)
    entry = next(o for o in graph.manifest["outputs"] if o.get("of") == "x")
    found = run(graph, {"x": x})[entry["name"]]
    close(found, np.stack([e.reconstruction for e in Explainer(model, providers="cpu")(x, seed="one")]))


@pytest.mark.parametrize("wrong", [{"top": 0}, {"ranking": "nowhere"}])
def test_what_cannot_be_is_said(wrong):
    with pytest.raises(InputError):
        explain_graph(compile_pair(load(DEMO)), **wrong)


@pytest.mark.parametrize("top", [1, 2])
@pytest.mark.parametrize("sizes", ["9", "5,6,7"])
def test_no_heat_map_is_drawn_of_what_is_no_image(sizes, top):
    weights = {"w": small_networks.random(3, 2, *[1] * len(sizes.split(",")))}
    body = "c = Conv(x, w) y = GlobalAveragePool(c)"
    pair = compile_pair(load(small_networks.model(body, weights, f"N,2,{sizes}")))
    with pytest.raises(InputError, match="a heat map is drawn of an image alone"):
        explain_graph(pair, top=top, rendering="NCHW")


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["squeezenet1.1-caffe2-fp32", "cifar10-pytorch1.7", "mnist-cntk", "textline-orientation-paddle"]
)
def test_real_models(name):
    path = ZOO / "models" / f"{name}.onnx"
    if not path.exists():
        pytest.skip(f"{path} is not there")
    model = load(path)
    types = model.type_of(model.inputs[0])
    shape = [2 if k == 0 and d is None else d or 64 for k, d in enumerate(types.shape)]
    x = np.random.default_rng(1).standard_normal(shape).astype(np.float32) * 50
    found = run(explain_graph(compile_pair(model)), {model.inputs[0]: x})
    explainer = Explainer(path, providers="cpu")
    expected = np.stack([e.reconstruction for e in explainer(x, layer=explainer.scores_layer, seed="one")])
    close(found[RECONSTRUCTION], expected) if expected.any() else np.testing.assert_array_equal(
        found[RECONSTRUCTION], expected
    )


@pytest.mark.slow
@pytest.mark.parametrize("path", sorted(LIGHT.glob("light_*.onnx")), ids=lambda p: p.stem)
def test_published_topologies(path):
    model = load(path)
    x = np.random.default_rng(1).standard_normal((1, 3, 224, 224)).astype(np.float32)
    pair = compile_pair(model)
    explainer = Explainer(model, providers="cpu")
    expected = explainer(x, layer=explainer.scores_layer, seed="one")[0].reconstruction
    graph = explain_graph(pair)
    found = run(graph, {model.inputs[0]: x})
    if expected.any():
        # A weight's numbers are all the same there: sums of up to 9216 equal terms round all one way, by
        # 2**-24 of the sum for each term at the most, which is 5e-4; by how much hangs on their order.
        close(found[RECONSTRUCTION][0], expected, tolerance=1e-4)
    assert sum(t.ByteSize() for t in all_tensors(graph.proto)) < 1 << 20


def test_no_more_is_explained_than_there_is():
    pair = compile_pair(load(DEMO))
    with pytest.raises(InputError, match=r"top=101: .* has 100 channels"):
        explain_graph(pair, top=101)
    with pytest.raises(InputError, match=r"top=101: .* has 100 units"):
        explain_graph(pair, top=101, seed="unit")


@pytest.mark.cuda
@pytest.mark.parametrize("top", [1, 2])
def test_every_node_of_the_explain_graph_runs_on_cuda(top):
    graph = explain_graph(compile_pair(load(network())), top=top)
    try:
        Session(graph.proto, graph.folder, "cuda")
    except RuntimeUnavailableError as error:
        pytest.skip(f"onnxruntime has no usable CUDA device: {error}")
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    options.add_session_config_entry(
        "session.model_external_initializers_file_folder_path", str(graph.folder)
    )
    session = onnxruntime.InferenceSession(
        graph.proto.SerializeToString(), options, providers=["CUDAExecutionProvider"]
    )
    assert session.get_providers()[0] == "CUDAExecutionProvider"
