"""The command line: what it prints, what it writes, and how it fails."""

import dataclasses
import json
import logging
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from commands import picture, pixels, refused, run
from onnx import TensorProto, helper, numpy_helper
from oracle import model_of, numbers
from PIL import Image
from zoo_files import ZOO

import onnx_deconv
from onnx_deconv import load
from onnx_deconv.attribution import explainer
from onnx_deconv.attribution.sessions import Sessions
from onnx_deconv.cli.console import Console, in_bytes, sizes, table
from onnx_deconv.cli.model_options import SemanticsOptions
from onnx_deconv.cli.pictures import find_pictures, safe, stems
from onnx_deconv.compiler import package
from onnx_deconv.compiler.operator_table import operator_table_markdown
from onnx_deconv.errors import InputError
from onnx_deconv.files import embedded
from onnx_deconv.imaging import ImageInput
from onnx_deconv.operators import operators_by_key, rule_tables
from onnx_deconv.semantics import Semantics
from onnx_deconv.verification import reference

ROOT = Path(__file__).parents[1]
SQUEEZENET = ZOO / "models" / "squeezenet1.1-caffe2-fp32.onnx"
needs_zoo = pytest.mark.skipif(not SQUEEZENET.exists(), reason=f"no model zoo in {ZOO}")
COMMANDS = [
    "demo",
    "explain",
    "atlas build",
    "atlas merge",
    "atlas query",
    "atlas report",
    "convert",
    "explore",
    "serve",
    "inspect",
    "ops",
    "verify",
    "occlude",
    "evaluate",
    "sheet",
    "invariance",
    "evolution",
    "correspondence",
]
LABELS = ["ant", "bee", "cat, house cat", "dog", "emu"]


def network(operator="Relu", size=32, channels=3, batch="N"):
    """Conv → an activation → MaxPool → Conv to 5 class maps → global average → Softmax."""
    rng = np.random.default_rng(1)
    w1, w2 = rng.standard_normal((8, channels, 3, 3)), rng.standard_normal((5, 8, 3, 3))
    nodes = [
        helper.make_node("Conv", ["image", "w1"], ["c1"], "conv_one", pads=[1] * 4),
        helper.make_node(operator, ["c1"], ["r1"], "activation"),
        helper.make_node("MaxPool", ["r1"], ["p1"], "pool_one", kernel_shape=[3, 3], strides=[2, 2]),
        helper.make_node("Conv", ["p1", "w2"], ["maps"], "conv_two"),
        helper.make_node("GlobalAveragePool", ["maps"], ["mean"], "gap"),
        helper.make_node("Flatten", ["mean"], ["logits"], "flat"),
        helper.make_node("Softmax", ["logits"], ["scores"], "softmax"),
    ]
    weights = [numpy_helper.from_array(w.astype(np.float32), n) for n, w in (("w1", w1), ("w2", w2))]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [batch, channels, size, size])
    scores = helper.make_tensor_value_info("scores", TensorProto.FLOAT, [batch, 5])
    graph = helper.make_graph(nodes, "net", [image], [scores], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    told(model, labels=json.dumps(LABELS), preset="imagenet")
    return model


def told(model, **metadata):
    """Add to a model's metadata."""
    for key, value in metadata.items():
        model.metadata_props.add(key=key, value=value)


def saved(model, path, **external):
    onnx.save(model, path, **external)
    return path


@pytest.fixture
def model(tmp_path):
    return saved(network(), tmp_path / "net.onnx")


@pytest.fixture
def photo(tmp_path):
    return picture(tmp_path / "photo.png")


@pytest.fixture
def out(tmp_path):
    """Where results shall go; it does not exist yet."""
    return tmp_path / "out"


def explained(*arguments, rules="deconvnet", blind=False):
    """Run ``explain --json`` with a rule table; return its results."""
    chosen = () if rules is None or "--rules" in arguments else ("--rules", rules)
    code, stdout, stderr = run("explain", *arguments, *chosen, "--json")
    assert code == 0
    # A random network is as sure of its class as of nothing else.
    said = [line for line in stderr.splitlines() if "the model hardly sees this class" not in line]
    assert all("the image" in line for line in said) if blind else not said
    return [json.loads(line) for line in stdout.splitlines()]


def inside(folder):
    return sorted(f.name for f in folder.iterdir()) if folder.exists() else []


# explain


def test_explain_writes_pictures_and_says_where(model, photo, out):
    (result,) = explained(model, photo, "-o", out, "--target", "cat", "--view", "all")
    assert (result["image"], result["class"], result["label"]) == (str(photo), 2, LABELS[2])
    assert (result["seed"], result["layer"], result["note"], result["empty"]) == ("map", "maps", None, False)
    assert 0 < result["score"] < 1
    files = {view: Path(path) for view, path in result["files"].items()}
    assert {f.name for f in files.values()} == set(inside(out))
    assert files["overlay"].name == "photo-cat-deconvnet-overlay.png"
    assert pixels(files["projection"]).shape == (32, 32, 3)
    # Maps lie on the photograph's own grid: 50 wide, 40 high.
    assert pixels(files["heat"]).shape == pixels(files["overlay"]).shape == (40, 50, 3)
    raw = np.load(files["values"])
    assert (raw.shape, raw.dtype) == ((3, 32, 32), np.float32)
    record = json.loads(files["record"].read_text())
    assert record["class"] == 2
    assert record["semantics"]["rules"] == "deconvnet"
    assert record["photograph"]["size"] == [40, 50]
    magnitudes = np.abs(raw[raw != 0])
    assert record["projection"]["scale"] == pytest.approx(np.percentile(magnitudes, 99.5), rel=1e-3)


def test_models_of_layers_that_are_named_are_made_once(model, photo, out, tmp_path, monkeypatch):
    made, make = [], Sessions._made
    monkeypatch.setattr(Sessions, "_made", lambda self, *key: made.append(key[0]) or make(self, *key))
    monkeypatch.setattr("onnx_deconv.cli.model_options.MAX_LAYERS", 1)
    picture(tmp_path / "second.png")
    layers = [word for name in ("r1", "maps") for word in ("--layer", name)]
    assert run("explain", model, photo, tmp_path / "second.png", *layers, "-o", out)[0] == 0
    assert sorted(made) == ["maps", "r1"]


def test_numbers_that_are_none_are_reported_where_they_begin(photo, tmp_path):
    proto = network()
    weights = next(t for t in proto.graph.initializer if t.name == "w2")
    weights.CopyFrom(numpy_helper.from_array(np.full((5, 8, 3, 3), np.nan, np.float32), "w2"))
    line = refused("explain", saved(proto, tmp_path / "nan.onnx"), photo, "-o", tmp_path / "out")
    assert "conv_two" in line


def test_by_default_a_class_is_explained_by_what_depends_on_the_photograph(model, photo, out):
    (result,) = explained(model, photo, "-o", out, rules=None)
    assert (result["method"], result["seed"], result["layer"]) == ("guided*grad-cam^3", "one", "logits")
    record = json.loads(Path(result["files"]["record"]).read_text())
    assert record["semantics"]["head"] == "class-map"
    assert (record["rules"]["name"], record["rules"]["parent"]) == ("guided", "gradient")
    assert record["rules"]["digest"] == rule_tables()["guided"].digest
    assert Path(result["files"]["values"]).name.endswith("-guided-grad-cam-3.npy")
    (unit,) = explained(model, photo, "-o", out, "--layer", "r1", rules=None)
    assert unit["method"] == "guided"


def test_a_picture_that_does_not_depend_on_the_photograph_says_so(model, photo, out):
    (blind,) = explained(model, photo, "--layer", "r1", "--seed", "strongest", "-o", out, blind=True)
    assert blind["note"].startswith("deconvnet does not depend on the image here")
    assert blind["depends_on_image"] == "no"


def leftovers(path):
    """A network of whose class's signal a rectifier lets a millionth through; no max pool."""
    weights = {"w": np.ones((2, 3, 1, 1), np.float32), "fc": np.float32([[1e-3, -1], [1e-3, -1]])}
    body = "c = Conv(x, w) r = Relu(c) g = GlobalAveragePool(r) f = Flatten(g) y = Gemm<transB = 1>(f, fc)"
    return saved(model_of(body, {"x": ("N", 3, 32, 32)}, weights), path)


def test_commands_say_how_much_of_a_signal_survives(tmp_path, photo):
    net = leftovers(tmp_path / "net.onnx")
    said = "less than 0.001 % of the signal's energy passes the narrowest rectifier, 'r'"
    _, stdout, stderr = run(
        "explain", net, photo, "--rules", "deconvnet", "--seed", "one", "--kind", "classes",
        "-o", tmp_path / "out", "--json",
    )  # fmt: skip
    assert said in stderr
    one = json.loads(stdout)
    assert one["survived"] == pytest.approx(1e-6, rel=1e-3)
    assert said in one["note"]
    code, stdout, stderr = run("convert", net, "-o", tmp_path / "pair")
    assert (code, said in stdout, said in stderr) == (0, True, True)
    assert said in run("verify", net, "--rules", "deconvnet")[1]
    other = picture(tmp_path / "other.png", 33, 60)
    code, stdout, _ = run("inspect", net, "--measure", photo, "--measure", other)
    assert (code, said in stdout) == (0, True)
    assert "two photographs, one unit: nothing to compare" in stdout  # a picture of one number everywhere
    code, stdout, _ = run("inspect", net, "--measure", photo, "--json")
    measured = json.loads(stdout)["measured"]
    assert (measured["photographs"], measured["likeness"]) == (1, None)
    assert measured["signal"]["at"] == "r"


def test_demo_measures_how_much_of_a_signal_survives(out):
    _, stdout, _ = run("demo", "--rules", "deconvnet", "-o", out, "--json")
    assert 1e-3 < json.loads(stdout)["survived"] < 1


def test_inspect_measures_two_photographs_at_most_and_asks_for_one(model, photo):
    assert "--preset: only with --measure" in refused("inspect", model, "--preset", "imagenet")
    assert "one photograph, or two" in refused("inspect", model, *["--measure", photo] * 3)


def test_convert_and_inspect_say_what_does_not_depend_on_the_photograph(tmp_path):
    body = "a = Conv(x, w) r = Relu(a) g = GlobalAveragePool(r) y = Flatten(g)"
    blind = saved(model_of(body, {"x": (1, 3, 8, 8)}, {"w": numbers((4, 3, 3, 3))}), tmp_path / "blind.onnx")
    said = "deconvnet does not depend on the image here"
    code, _, stderr = run("convert", blind, "-o", tmp_path / "pair")
    assert (code, said in stderr) == (0, True)
    assert said in run("inspect", blind)[1]
    code, _, stderr = run("convert", blind, "-o", tmp_path / "guided", "--rules", "guided")
    assert (code, stderr) == (0, "")
    assert said not in run("inspect", blind, "--rules", "guided")[1]


def test_what_is_as_strong_is_said_with_the_layer_that_tells_it_apart(photo, tmp_path, out):
    """Two of three channels are above 6 everywhere."""
    body = "c = Conv(x, w, b) r = Clip(c, low, high) g = GlobalAveragePool(r) y = Flatten(g)"
    weights = {"w": numbers((3, 3, 1, 1)), "b": np.float32([100, 100, -100])}
    weights |= {"low": np.float32(0), "high": np.float32(6)}
    limited = saved(model_of(body, {"x": (1, 3, 8, 8)}, weights), tmp_path / "limited.onnx")
    way = "the first in order is explained; --layer c, the value before, tells them apart"
    code, _, stderr = run("convert", limited, "--layer", "r", "--form", "explain", "-o", tmp_path / "graph")
    assert (code, f"Warning: where several are equally strong in 'r', {way}" in stderr) == (0, True)
    for other in (("--layer", "c", "--form", "explain"), ("--layer", "r"), ("--form", "explain")):
        assert way not in run("convert", limited, *other, "-o", tmp_path / "other")[2]
    code, stdout, stderr = run(
        "explain", limited, photo, "--layer", "r", "--seed", "strongest", "-o", out, "--json"
    )
    record = json.loads(stdout)
    assert (code, record["equals"]) == (0, {"channels": 1, "positions": 63})
    assert f"1 other channel and 63 other positions are as strong: {way}" in record["note"]
    assert record["note"] in stderr


def test_without_json_lines_are_for_people(model, photo, out):
    code, stdout, stderr = run("explain", model, photo, "--rules", "deconvnet", "-o", out)
    assert (code, stderr) == (0, "")
    first, *files = stdout.splitlines()
    assert re.fullmatch(rf"{re.escape(str(photo))}: .+ \(class \d\), score [\d.]+", first)
    assert [Path(line.strip()).is_file() for line in files] == [True, True]
    assert {Path(f.strip()).stem.split("deconvnet-")[1] for f in files} == {"projection", "side-by-side"}


def test_what_the_model_does_not_see_is_not_coloured(model, tmp_path, out):
    wide = picture(tmp_path / "wide.png", 40, 120)
    (result,) = explained(model, wide, "-o", out, "--view", "heat", "--view", "overlay")
    seen = json.loads(Path(result["files"]["record"]).read_text())["photograph"]["shown"]
    _, left, _, right = (round(edge) for edge in seen)
    assert 0 < left < right < 120
    heat = pixels(result["files"]["heat"])
    assert (heat[:, : left - 1] == heat[0, 0]).all()
    assert (heat[:, right + 1 :] == heat[0, 0]).all()
    assert heat[:, left:right].std() > 5
    photograph = pixels(wide)
    over = pixels(result["files"]["overlay"])
    np.testing.assert_array_equal(over[:, : left - 1], photograph[:, : left - 1])


def test_the_top_classes_come_strongest_first(model, photo, out):
    results = explained(model, photo, "-o", out, "--top", 5)
    scores = [r["score"] for r in results]
    assert scores == sorted(scores, reverse=True)
    assert sum(scores) == pytest.approx(1, abs=1e-5)
    assert sorted(r["class"] for r in results) == [0, 1, 2, 3, 4]
    assert [r["rank"] for r in results] == [1, 2, 3, 4, 5]
    assert len(inside(out)) == 5 * 4


def test_several_classes_by_index_or_label(model, photo, out):
    results = explained(model, photo, "-o", out, "--target", "emu", "--target", 0, "--target", "house cat")
    assert [r["class"] for r in results] == [4, 0, 2]
    assert [Path(r["files"]["values"]).name for r in results] == [
        "photo-1-emu-deconvnet.npy",
        "photo-2-ant-deconvnet.npy",
        "photo-3-cat-deconvnet.npy",
    ]


def test_folders_and_patterns_name_photographs_each_once(model, photo, tmp_path, out):
    folder = tmp_path / "photos"
    for name in ("a.png", "b.jpg", "sub/a.png", ".hidden.png"):
        picture(folder / name)
    (folder / "notes.txt").write_text("no picture")
    results = explained(model, folder, folder / "a.png", f"{folder}/s*/*.png", photo, "-o", out)
    assert [r["image"] for r in results] == [
        str(p) for p in (folder / "a.png", folder / "b.jpg", folder / "sub" / "a.png", photo)
    ]
    files = [f for r in results for f in r["files"].values()]
    assert len(set(files)) == len(files)
    of_all = {"explained.jsonl", "index.html", "summary.csv", "thumbnails"}
    assert {Path(f).name for f in files} == set(inside(out)) - of_all


def test_a_unit_of_a_layer_by_value_or_node_name(model, photo, out):
    unit = ["--target", 3, "--position", "4,5", "-o", out]
    results = [explained(model, photo, "--layer", n, *unit, blind=True)[0] for n in ("r1", "activation")]
    assert results[0] == results[1]
    assert (results[0]["class"], results[0]["channel"], results[0]["position"]) == (None, 3, [4, 5])
    assert Path(results[0]["files"]["values"]).name == "photo-r1-3-4-5-deconvnet.npy"
    raw = np.load(results[0]["files"]["values"])
    # A 3×3 filter: nothing but the unit's receptive field.
    rows, columns = np.nonzero(raw.any(0))
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (3, 5, 4, 6)
    assert results[0]["receptive_field"] == [3, 4, 6, 7]


def test_the_strongest_unit_of_the_nth_convolution(model, photo, out):
    found = explained(
        model, photo, "--layer", "conv1", "--seed", "strongest", "--top", 2, "-o", out, blind=True
    )
    for one in found:
        y, x = one["position"]
        raw = np.load(one["files"]["values"])
        y0, x0, y1, x1 = one["receptive_field"]
        assert y0 <= y < y1
        assert x0 <= x < x1
        raw[:, y0:y1, x0:x1] = 0
        assert not raw.any()


def test_every_named_choice_is_an_option():
    options, choices = ({f.name for f in dataclasses.fields(each)} for each in (SemanticsOptions, Semantics))
    assert options == choices


def test_a_class_activation_map_is_drawn_alone_or_times_a_reconstruction(model, photo, out):
    (alone,) = explained(model, photo, "-o", out, "--rules", "none", "--cam", "grad-cam", "--target", 2)
    (both,) = explained(model, photo, "-o", out, "--rules", "guided", "--cam", "grad-cam", "--target", 2)
    assert Path(alone["files"]["values"]).name == "photo-cat-grad-cam.npy"
    assert Path(both["files"]["values"]).name == "photo-cat-guided-grad-cam.npy"
    (inner,) = explained(
        model, photo, "-o", out, "--rules", "none", "--cam", "grad-cam", "--cam-layer", "r1", "--target", 2
    )
    assert (inner["method"], Path(inner["files"]["values"]).name) == (
        "grad-cam@r1",
        "photo-cat-grad-cam-r1.npy",
    )
    record = json.loads(Path(inner["files"]["record"]).read_text())
    assert record["semantics"]["cam_layer"] == "r1"
    assert "nothing to make" in refused("explain", model, photo, "-o", out, "--rules", "none")
    assert "choose a class activation map too, as --cam grad-cam" in refused(
        "explain", model, photo, "-o", out, "--cam-layer", "r1"
    )


def test_several_layers_are_explained_in_turn(model, photo, out):
    results = explained(
        model, photo, "--layer", "r1", "--layer", "conv2", "--target", 2, "-o", out, blind=True
    )
    assert [(r["layer"], r["channel"], r["rank"]) for r in results] == [("r1", 2, 1), ("maps", 2, 1)]
    assert len({r["files"]["values"] for r in results}) == 2
    (alone,) = explained(model, photo, "--layer", "r1", "--target", 2, "-o", out, blind=True)
    np.testing.assert_array_equal(np.load(alone["files"]["values"]), np.load(results[0]["files"]["values"]))


def test_choices_reach_the_explanation(model, photo, out):
    found = {}
    for rules in ("deconvnet", "guided", "gradient"):
        (result,) = explained(model, photo, "-o", out, "--rules", rules, "--target", 1, "--seed", "one")
        assert result["seed"] == "one"
        found[rules] = np.load(result["files"]["values"])
    assert not np.array_equal(found["deconvnet"], found["guided"])
    assert not np.array_equal(found["deconvnet"], found["gradient"])
    (result,) = explained(model, photo, "-o", out, "--unpool", "overwrite", "--target", 1, "--seed", "one")
    assert not np.array_equal(found["deconvnet"], np.load(result["files"]["values"]))


@pytest.mark.parametrize(("asked", "offered"), [((), True), (("--layer", "r1"), False)])
def test_imagenets_names_are_offered_where_a_class_is_explained(photo, tmp_path, out, asked, offered):
    proto = network()
    (weight,) = (tensor for tensor in proto.graph.initializer if tensor.name == "w2")
    weight.CopyFrom(numpy_helper.from_array(np.ones((1000, 8, 3, 3), np.float32), "w2"))
    proto.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 1000
    proto.metadata_props[0].CopyFrom(onnx.StringStringEntryProto(key="author", value="me"))  # no labels
    model = saved(proto, tmp_path / "net.onnx")
    code, _, stderr = run("explain", model, photo, *asked, "-o", out)
    assert code == 0, stderr
    assert ("--labels imagenet does" in stderr) == offered


def test_preprocessing_comes_from_the_options_then_the_metadata_then_imagenet(photo, tmp_path, out):
    plain = network()
    del plain.metadata_props[:]
    net = saved(plain, tmp_path / "plain.onnx")

    def preprocess(*arguments):
        code, stdout, stderr = run("explain", net, photo, "-o", out, "--json", *arguments)
        assert code == 0
        record = json.loads(stdout)["files"]["record"]
        return json.loads(Path(record).read_text())["preprocess"], stderr

    assumed, warning = preprocess()
    assert assumed["mean"] == [0.485, 0.456, 0.406]
    assert assumed["size"] == [32, 32]
    assert len(warning.splitlines()) == 1
    assert "--preset imagenet" in warning
    chosen, warning = preprocess("--preset", "imagenet-caffe", "--fit", "pad")
    assert (chosen["channels"], chosen["fit"], warning) == ("BGR", "pad", "")
    chosen, warning = preprocess("--mean", "0.5", "--std", "0.25,0.5,0.75", "--scale", "0.01")
    assert (chosen["mean"], chosen["std"], chosen["scale"], warning) == ([0.5], [0.25, 0.5, 0.75], 0.01, "")
    told(plain, preset="unit", size="64", **{"Image.BitmapPixelFormat": "Bgr8"})
    saved(plain, net)
    read, warning = preprocess()
    assert (read["channels"], read["mean"], read["scale"]) == ("BGR", [0.0], 1 / 255)
    assert read["size"] == [32, 32]  # the input's own
    assert warning == ""


def test_channels_last_of_one_plane_is_seen_from_the_shape(photo, tmp_path, out):
    """NHWC, one channel, as Keras writes it."""
    inner = network(channels=1)
    inner.graph.node[0].input[0] = "planes"
    inner.graph.node.insert(0, helper.make_node("Transpose", ["image"], ["planes"], perm=[0, 3, 1, 2]))
    inner.graph.input[0].CopyFrom(helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 32, 32, 1]))
    (result,) = explained(saved(inner, tmp_path / "net.onnx"), photo, "-o", out, "--view", "all")
    assert np.load(result["files"]["values"]).shape == (32, 32, 1)
    projection = pixels(result["files"]["projection"])
    assert projection.shape == (32, 32, 3)
    assert np.ptp(projection, axis=2).max() == 0


def test_the_layout_is_taken_from_denotations():
    model = network(channels=3, size=3)
    model.graph.node[3].attribute.append(helper.make_attribute("pads", [1] * 4))  # something is left
    for layout, axis in (("NCHW", 1), ("NHWC", 3)):
        for k, dim in enumerate(model.graph.input[0].type.tensor_type.shape.dim):
            dim.denotation = "DATA_CHANNEL" if k == axis else "DATA_FEATURE"
        assert ImageInput.of(load(model)).layout == layout


def test_a_model_of_a_fixed_batch_gets_batches(tmp_path, out):
    net = saved(network(batch=2), tmp_path / "two.onnx")
    photos = [picture(tmp_path / "photos" / f"{k}.png", 40 + k, 50) for k in range(3)]
    results = explained(net, *photos, "-o", out)
    single = explained(saved(network(), tmp_path / "one.onnx"), *photos, "-o", out)
    assert [r["image"] for r in results] == [str(p) for p in photos]
    assert [r["score"] for r in results] == pytest.approx([r["score"] for r in single], rel=1e-5)


def test_photographs_in_their_own_sizes(tmp_path, photo, out):
    """Sizes known at run time; a photograph too small for the pools is reported, the rest explained."""
    net = network(size="S")
    small = picture(tmp_path / "small.png", 3, 3)
    code, stdout, stderr = run(
        "explain", saved(net, tmp_path / "n.onnx"), small, photo, "-o", out, "--size", "photo", "--json"
    )
    assert code == 1
    assert "small.png" in stderr
    assert np.load(json.loads(stdout)["files"]["values"]).shape == (3, 40, 50)


def test_one_unreadable_photograph_does_not_stop_the_others(model, photo, tmp_path, out):
    (tmp_path / "broken.png").write_bytes(photo.read_bytes()[:200])
    code, stdout, stderr = run(
        "explain", model, tmp_path / "broken.png", photo, tmp_path / "none.jpg", "-o", out, "--json"
    )
    assert code == 1
    assert json.loads(stdout)["image"] == str(photo)
    errors = stderr.splitlines()
    assert [line.split(":")[0] for line in errors] == ["Error", "Error", "Warning"]
    assert "broken.png" in errors[0]
    assert "none.jpg" in errors[1]
    assert "2 of 3" in errors[2]


@pytest.mark.parametrize("rules", ["excitation", "lrp", "lrp-epsilon", "lrp-gamma"])
def test_relevance_starts_from_the_score(model, photo, tmp_path, out, rules):
    (result,) = explained(model, photo, "-o", out, "--rules", rules)
    assert (result["layer"], result["seed"]) == ("logits", "one")
    assert np.load(result["files"]["values"]).any()
    options = ["--form", "explain", "--rules", rules, "--json"]
    code, stdout, _ = run("convert", model, "-o", tmp_path / "graph", *options)
    assert code == 0
    assert json.loads(stdout)["explained"]["value"] == "logits"


def test_a_label_cannot_lead_out_of_the_folder(model, photo, tmp_path, out):
    (tmp_path / "labels.txt").write_text("../../evil\n" * 2 + "köln / …\n" + "x" * 500 + "\n  ..  \n")
    results = explained(model, photo, "-o", out, "--labels", tmp_path / "labels.txt", "--top", 5)
    for result in results:
        assert all(Path(f).parent == out for f in result["files"].values())
    # Two classes of one name are told apart by their index.
    names = {r["class"]: Path(r["files"]["values"]).name for r in results}
    assert re.fullmatch(r"photo-\d-evil-0-deconvnet\.npy", names[0])
    assert re.fullmatch(r"photo-\d-evil-1-deconvnet\.npy", names[1])


@pytest.mark.parametrize("names", [2, 6])
@pytest.mark.parametrize("command", ["explain", "occlude", "sheet", "evaluate"])
def test_labels_that_are_too_few_or_too_many_are_noticed_once(model, photo, tmp_path, out, command, names):
    (tmp_path / "labels.txt").write_text("".join(f"name {k}\n" for k in range(names)))
    code, _, stderr = run(command, model, photo, "-o", out, "--labels", tmp_path / "labels.txt")
    assert code == 0
    assert stderr.count(f"{names} labels for 5 classes: names may be wrong") == 1


def test_an_empty_reconstruction_is_said(photo, tmp_path, out):
    dead = network()
    weights = numpy_helper.to_array(dead.graph.initializer[1]).copy()
    dead.graph.initializer[1].CopyFrom(numpy_helper.from_array(np.zeros_like(weights), "w2"))
    code, stdout, stderr = run("explain", saved(dead, tmp_path / "dead.onnx"), photo, "-o", out, "--json")
    result = json.loads(stdout)
    assert code == 0
    assert result["empty"]
    assert "died at" in result["note"]
    assert "blank" in stderr
    assert (pixels(result["files"]["projection"]) == 128).all()


def test_a_converted_folder_can_be_explained(model, photo, tmp_path, out):
    assert run("convert", model, "-o", tmp_path / "pair", "--rules", "guided", "--quiet") == (0, "", "")
    same = [photo, "-o", out, "--seed", "one", "--layer", "logits"]
    from_pair = explained(tmp_path / "pair", *same, rules=None)
    assert from_pair == explained(model, *same, "--rules", "guided")
    assert "guided" in from_pair[0]["files"]["values"]
    assert "gradient" in explained(tmp_path / "pair", *same, "--rules", "gradient")[0]["files"]["values"]


@pytest.mark.slow
@needs_zoo
@pytest.mark.parametrize(
    ("photograph", "label"),
    [
        ("winml_dog.jpg", "golden retriever"),
        ("pytorch_hub_dog_samoyed.jpg", "Samoyed"),
        ("skimage_coffee.png", "espresso"),
        ("ozbulak_snake.png", "king snake"),
        ("winml_hummingbird.jpg", "hummingbird"),
    ],
)
def test_squeezenet_names_what_is_in_the_photograph(photograph, label, out):
    (result,) = explained(
        SQUEEZENET, ZOO / "photos" / photograph, "-o", out,
        "--preset", "imagenet-caffe", "--labels", ZOO / "imagenet-labels.txt",
    )  # fmt: skip
    assert result["label"] == label
    assert pixels(result["files"]["projection"]).std() > 5


# the other commands


def test_the_demo_explains_the_embedded_photograph(out):
    code, stdout, stderr = run("demo", "-o", out)
    assert (code, stderr) == (0, "")
    assert "chelsea.png: " in stdout
    assert len(inside(out)) == 6
    (sheet,) = out.glob("*-side-by-side.png")
    assert pixels(sheet).std() > 10
    code, stdout, _ = run("demo", "-o", out, "--json", "--rules", "guided")
    assert json.loads(stdout)["label"]
    assert embedded("demo.onnx").is_file()
    with pytest.raises(InputError, match="install"):
        embedded("none.onnx")


def test_convert_writes_a_pair_and_checks_it(model, tmp_path):
    code, stdout, stderr = run("convert", model, "-o", tmp_path / "pair", "--check", 2, "--json")
    result = json.loads(stdout)
    assert (code, stderr) == (0, "")
    assert inside(tmp_path / "pair") == ["deconv.onnx", "forward.onnx", "manifest.json", "weights.bin"]
    assert (result["explained"]["value"], result["explained"]["cut"]) == ("logits", ["Softmax softmax"])
    assert result["switches"] == ["p1"]
    assert result["nodes"] == {"model": 7, "path": 6, "deconv": result["nodes"]["deconv"]}
    assert result["bytes"]["model"] == model.stat().st_size
    assert [c["name"] for c in result["checks"]] == ["forward", "companion"] * 2
    assert result["passed"]
    assert {"load", "compile", "save", "check", "signal"} == set(result["seconds"])
    _, stdout, _ = run("convert", model, "-o", tmp_path / "pair", "--check", 0)
    assert "Softmax softmax" in stdout
    assert "--layer maps" in stdout


def test_convert_writes_one_graph_that_answers_and_explains(model, tmp_path):
    code, stdout, _ = run("convert", model, "-o", tmp_path, "--form", "explain", "--top", 2, "--json")
    record = json.loads(stdout)
    assert code == 0
    assert record["passed"]
    assert record["bytes"]["explain.onnx"] == (tmp_path / "explain.onnx").stat().st_size
    assert [o["name"] for o in record["outputs"]][1:] == ["reconstruction", "scores_", "explained"]
    assert (record["target"]["shape"], record["target"]["input"]) == (["targets", 2], "required")


def test_the_one_graph_may_explain_units_of_a_layer(model, tmp_path):
    options = ["--form", "explain", "--layer", "conv1", "--seed", "unit", "--json"]
    code, stdout, _ = run("convert", model, "-o", tmp_path, *options)
    record = json.loads(stdout)
    assert code == 0
    assert record["passed"]
    assert "unit" in record["target"]["meaning"]


def test_rewrites_are_chosen_by_device_or_by_name(model, tmp_path):
    for passes in ("cuda", "filters,pools", ""):
        code, _, _ = run("convert", model, "-o", tmp_path, "--form", "explain", "--passes", passes)
        assert code == 0
    code, _, stderr = run("convert", model, "-o", tmp_path, "--form", "explain", "--passes", "fast")
    assert (code, stderr.count("\n")) == (2, 1)
    assert "'fast'" in stderr


def test_the_one_graph_may_take_pictures_and_give_heat_maps(model, tmp_path):
    extra = ["--pictures", "--heat", "--target-input", "optional", "--preset", "unit"]
    code, stdout, _ = run("convert", model, "-o", tmp_path, "--form", "explain", *extra)
    assert code == 0
    assert stdout.count("check ok") == 3
    assert "picture" in stdout
    assert "heat" in stdout


def test_convert_says_when_the_pair_falls_short(model, tmp_path, monkeypatch):
    save = package.save

    def spoilt(pair, folder, check):
        for tensor in pair.deconv.graph.initializer:
            if tensor.name == "w1":
                tensor.CopyFrom(numpy_helper.from_array(np.full((8, 3, 3, 3), np.nan, np.float32), "w1"))
        return save(pair, folder, check)

    run("convert", model, "-o", tmp_path / "pair")
    before = {file.name: file.read_bytes() for file in (tmp_path / "pair").iterdir()}
    monkeypatch.setattr("onnx_deconv.cli.pair_form.save", spoilt)
    code, stdout, stderr = run("convert", model, "-o", tmp_path / "pair", "--rules", "guided")
    assert code == 1
    assert "FAILED" in stdout
    assert stderr.startswith("Error: ")
    assert {file.name: file.read_bytes() for file in (tmp_path / "pair").iterdir()} == before


def test_convert_does_not_overwrite_the_model_it_reads(tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    net = saved(
        network(), home / "net.onnx", save_as_external_data=True, location="weights.bin", size_threshold=0
    )
    weights = (home / "weights.bin").read_bytes()
    assert "weights.bin" in refused("convert", net, "-o", home)
    assert (home / "weights.bin").read_bytes() == weights
    run("convert", net, "-o", tmp_path / "pair")
    assert "forward.onnx" in refused("convert", tmp_path / "pair" / "forward.onnx", "-o", tmp_path / "pair")
    assert run("convert", tmp_path / "pair" / "forward.onnx", "-o", tmp_path / "again")[0] == 0


def test_inspect_lists_layers_and_rules(model):
    code, stdout, stderr = run("inspect", model, "--json")
    report = json.loads(stdout)
    assert (code, stderr) == (0, "")
    layers = report["layers"]
    assert [row["operator"] for row in layers] == [
        "Conv", "Relu", "MaxPool", "Conv", "GlobalAveragePool", "Flatten",
    ]  # fmt: skip
    assert [row["number"] for row in layers] == ["conv1", None, None, "conv2", None, None]
    assert [row["family"] for row in layers] == [
        "linear", "rectify", "pooling", "linear", "pooling", "reshape",
    ]  # fmt: skip
    assert layers[0]["shape"] == ["N", 8, 32, 32]
    assert [row["overlaps"] for row in layers if row["overlaps"] is not None] == [True]
    assert (report["explained"], report["cut"]) == ("logits", ["Softmax softmax"])
    assert report["class_maps"] == "maps"
    assert report["dynamic"] == ["image[N]"]
    assert report["inputs"] == {"image": {"shape": ["N", 3, 32, 32], "dtype": "float"}}
    assert (report["opset"], report["ir_version"], report["labels"]) == (17, 8, 5)
    assert report["missing"] == []
    assert report["problem"] is None
    _, stdout, _ = run("inspect", model, "--rules", "gradient")
    assert "Passes where the forward value is positive." in stdout
    assert "Windows overlap." in stdout


@pytest.mark.parametrize(
    ("choices", "maps"),
    [([], True), (["--rules", "guided"], True), (["--rules", "lrp"], False), (["--cam", "grad-cam"], False),
     (["--head", "class-map"], False)],
)  # fmt: skip
def test_the_layer_of_the_class_maps_is_named_where_classes_are_explained_from_it(model, out, choices, maps):
    _, told, _ = run("inspect", model, *choices)
    _, advised, _ = run("convert", model, *choices, "-o", out)
    assert ("from its own map in maps" in told, "--layer maps" in advised) == (maps, maps)


@pytest.mark.parametrize(
    ("kernel", "strides", "dilations", "expected"),
    [([2, 2], [2, 2], [1, 1], False), ([3, 3], [2, 2], [1, 1], True), ([2, 3], [2, 2], [1, 1], True),
     ([2, 2], [1, 1], [2, 2], True), ([2, 2], [3, 3], [2, 2], False), ([3, 3], [2, 2], [2, 2], True),
     ([32, 32], [1, 1], [1, 1], False)],
)  # fmt: skip
def test_windows_overlap_where_two_share_a_position(tmp_path, kernel, strides, dilations, expected):
    net = network()
    net.graph.node[3].attribute.append(helper.make_attribute("pads", [1] * 4))  # something is left
    for name, value in (("kernel_shape", kernel), ("strides", strides), ("dilations", dilations)):
        pool = net.graph.node[2]
        kept = [a for a in pool.attribute if a.name != name]
        del pool.attribute[:]
        pool.attribute.extend([*kept, helper.make_attribute(name, value)])
    arguments = ["inspect", saved(net, tmp_path / "n.onnx"), "--json", "--layer", "p1"]
    assert json.loads(run(*arguments)[1])["layers"][-1]["overlaps"] == expected


def test_inspect_names_every_node_without_a_rule_and_explain_refuses(tmp_path, photo, out):
    net = network("Softplus")
    net.graph.node[1].op_type = net.graph.node[3].op_type = "Mystery"
    net.graph.node[1].domain = net.graph.node[3].domain = "org.example"
    net.opset_import.append(helper.make_opsetid("org.example", 1))
    saved(net, tmp_path / "net.onnx")
    code, stdout, _ = run("inspect", tmp_path / "net.onnx", "--json")
    report = json.loads(stdout)
    assert code == 1
    assert [(row["operator"], row["node"]) for row in report["missing"]] == [
        ("org.example::Mystery", "activation"),
        ("org.example::Mystery", "conv_two"),
    ]
    assert report["deepest"] == "c1"
    assert "--layer c1" in run("inspect", tmp_path / "net.onnx")[1]
    for command in (["explain", tmp_path / "net.onnx", photo], ["convert", tmp_path / "net.onnx"]):
        message = refused(*command, "-o", out)
        assert "activation" in message
        assert "conv_two" in message
        assert not out.exists()


def test_ops_lists_every_rule_and_the_page_is_its_own():
    code, stdout, _ = run("ops", "--markdown")
    assert code == 0
    assert stdout == operator_table_markdown()
    listed = [json.loads(line) for line in run("ops", "--json")[1].splitlines()]
    assert sorted(row["operator"] for row in listed) == sorted(
        name for (_, name), entry in operators_by_key().items() if entry.rule
    )
    relu = next(row for row in listed if row["operator"] == "Relu")
    assert len(set(relu["rules"].values())) == 4
    assert "Relu" in run("ops")[1]


def test_the_page_of_operators_is_up_to_date():
    page = ROOT / "docs" / "operators.md"
    assert page.read_text(encoding="utf-8") == operator_table_markdown(), (
        "write it anew: onnx-deconv ops --markdown > docs/operators.md"
    )


def test_verify_finds_the_pair_exact(model, photo):
    code, stdout, stderr = run("verify", model, "--json")
    checks = [json.loads(line) for line in stdout.splitlines()]
    assert (code, stderr) == (0, "")
    assert all(c["verdict"] == "ok" for c in checks)
    assert {c["name"] for c in checks} == {
        "forward", "switches", "companion", "image", "class", "signal", "difference",
    }  # fmt: skip
    assert {c["of"] for c in checks if c["name"] == "companion"} == {"deconvnet", "guided", "gradient"}
    code, stdout, _ = run("verify", model, "--image", photo, "--rules", "guided", "--layer", "r1")
    assert code == 0
    assert "all checks passed" in stdout


def test_verify_and_inspect_take_several_layers_and_random_numbers_their_state(model):
    def checked(*arguments):
        code, stdout, _ = run("verify", model, "--rules", "gradient", "--json", *arguments)
        assert code == 0
        return [json.loads(line) for line in stdout.splitlines()]

    both = checked("--layer", "r1", "--layer", "maps")
    assert both == checked("--layer", "r1") + checked("--layer", "maps")
    assert checked("--random-state", 1) == checked("--random-state", 1) != checked("--random-state", 2)
    _, stdout, _ = run("inspect", model, "--layer", "r1", "--layer", "maps", "--json")
    assert [json.loads(line)["explained"] for line in stdout.splitlines()] == ["r1", "maps"]


def test_verify_checks_the_very_pair_that_was_saved(model, tmp_path):
    pair = tmp_path / "pair"
    run("convert", model, "-o", pair, "--rules", "guided", "--layer", "maps", "--check", 0)
    code, stdout, _ = run("verify", pair, "--json")
    checks = [json.loads(line) for line in stdout.splitlines()]
    assert code == 0
    names = ["forward", "switches", "companion", "companion", "image", "class", "signal"]
    assert [c["name"] for c in checks] == names
    assert {c["of"] for c in checks if c["name"] == "companion"} == {"guided"}
    assert "--rules" in refused("verify", pair, "--rules", "gradient")
    deconv = onnx.load(pair / "deconv.onnx", load_external_data=False)
    relu = next(n for n in deconv.graph.node if n.op_type == "Relu")
    relu.op_type = "Abs"
    (pair / "deconv.onnx").write_bytes(deconv.SerializeToString())
    code, stdout, _ = run("verify", pair, "--json")
    assert code == 1
    verdicts = {c["name"]: c["verdict"] for c in map(json.loads, stdout.splitlines())}
    assert verdicts["companion"] == "failed"
    assert verdicts["forward"] == verdicts["switches"] == "ok"


def test_verify_fails_where_a_rule_is_wrong(model, monkeypatch):
    monkeypatch.setitem(
        rule_tables()["deconvnet"]._rows, ("", "Relu"), lambda at: [at.op.Mul(at.signal, 2.0)]
    )
    code, stdout, stderr = run("verify", model, "--rules", "deconvnet")
    assert code == 1
    assert "FAILED" in stdout
    assert "checks failed" in stderr


def test_verify_says_what_it_could_not_check(model, monkeypatch):
    monkeypatch.delitem(reference.BACKWARD, "MaxPool")
    code, stdout, stderr = run("verify", model, "--rules", "guided")
    assert (code, stderr) == (0, "")
    assert stdout.splitlines()[-1] == "no check failed; 2 of 7 not covered"
    assert stdout.count("not covered  companion") == 2
    assert "the reference lacks MaxPool" in stdout
    code, stdout, _ = run("verify", model, "--rules", "guided", "--json")
    checks = [json.loads(line) for line in stdout.splitlines()]
    assert code == 0
    assert [c["verdict"] for c in checks] == ["ok", "ok", "not covered", "not covered", "ok", "ok", "ok"]
    assert checks[3]["error"] is None


# manners


def test_quiet_says_nothing_and_verbose_more(model, photo, out):
    assert run("explain", model, photo, "-o", out, "--quiet") == (0, "", "")
    code, _, err = run("explain", out / "none.onnx", photo, "-v")
    assert code == 2
    assert "Traceback" in err
    assert "preprocessing: crop to 32×32" in run("explain", model, photo, "-o", out, "-v")[2]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_examples(command):
    code, stdout, _ = run(*command.split(), "--help")
    assert code == 0
    assert "Examples:" in stdout
    for option in ("--json", "--quiet", "--verbose"):
        assert option in stdout


def test_an_option_that_does_not_exist_is_one_line_with_a_suggestion(model, photo, out):
    message = refused("explain", model, photo, "-o", out, "--layers", "r1,maps")
    assert "--layers" in message
    assert re.search(r"(Did you mean|Possible options).*--layer\b", message)
    assert "--target" in refused("explain", model, photo, "-o", out, "--targets", 1)
    assert "did you mean explain?" in refused("explian", model, photo)
    assert "atlas" in refused("report", out)
    assert "build" in refused("atlas", model, photo)


def test_an_option_that_a_command_takes_once_is_refused_twice(model, photo, out):
    assert "once" in refused("convert", model, "-o", out, "--layer", "r1", "--layer", "maps")
    assert "once" in refused("occlude", model, photo, "-o", out, "--target", 1, "--target", 2)
    assert not out.exists()


def test_options_of_the_explain_graph_are_refused_for_a_pair(model, out):
    message = refused("convert", model, "-o", out, "--top", 3, "--heat", "--preset", "unit")
    assert "--top, --heat, --preset: only with --form explain" in message
    assert not out.exists()


@pytest.mark.parametrize("form", ["explain", "triton"])
def test_choices_about_photographs_are_refused_for_a_graph_that_takes_none(model, out, form):
    common = "convert", model, "-o", out, "--form", form
    assert "--preset, --mean: only with --pictures" in refused(*common, "--preset", "unit", "--mean", "0.5")
    assert "--size: only with --pictures" in refused(*common, "--heat", "--size", 8, "--layout", "NCHW")
    assert "--layout: only with --pictures or --heat" in refused(*common, "--layout", "NCHW")
    assert not out.exists()


def test_bands_are_refused_for_photographs(model, photo, out):
    message = refused("explain", model, photo, "-o", out, "--bands", "0,1,2")
    assert "--bands: the model takes photographs alone" in message
    assert not out.exists()


@pytest.mark.parametrize(
    ("arguments", "files"),
    [
        (["demo"], 6),
        (["explain", "MODEL", "PHOTO"], 4),
        (["convert", "MODEL"], 4),
        (["convert", "MODEL", "--form", "explain"], 2),
        (["atlas", "build", "MODEL", "PHOTO"], 9),
        (["occlude", "MODEL", "PHOTO", "--square", "30"], 7),
        (["evaluate", "MODEL", "PHOTO", "--steps", "1"], 3),
        (["sheet", "MODEL", "PHOTO"], 2),
        (["invariance", "MODEL", "PHOTO", "--steps", "2"], 2),
    ],
)
def test_results_have_a_folder_of_their_own_which_is_printed(
    model, photo, tmp_path, monkeypatch, arguments, files
):
    home = tmp_path / "here"
    home.mkdir()
    monkeypatch.chdir(home)
    paths = {"MODEL": model, "PHOTO": photo}
    code, stdout, _ = run(*(paths.get(argument, argument) for argument in arguments))
    assert code == 0
    (folder,) = home.iterdir()
    assert folder.name.startswith("onnx-deconv-")
    assert folder.name in stdout
    assert len(inside(folder)) == files
    assert str(folder.name) in re.sub(
        r"-\s+", "-", run(*arguments[: 1 + (arguments[0] == "atlas")], "--help")[1]
    )


def test_the_help_lists_options_under_what_they_are_for():
    _, stdout, _ = run("explain", "--help")
    sections = re.split(r"^(\S[^\n]*):\n(?=  -)", stdout, flags=re.MULTILINE)
    under = dict(zip(sections[1::2], sections[2::2], strict=True))
    assert "--output" in under["Options"]
    assert "--help" in under["Options"]
    assert "--target" in under["What is explained"]
    assert "--rules" in under["How the signal is sent back"]
    assert "--preset" in under["How a photograph becomes the model's input"]
    assert "--providers" in under["How a model is read and run"]


def test_the_programs_help_documents_exit_codes_and_completion():
    _, stdout, _ = run("--help")
    for needed in ("130", "_ONNX_DECONV_COMPLETE=bash_source", *(name.split()[0] for name in COMMANDS)):
        assert needed in stdout
    assert run("nonsense")[0] == 2


def test_warnings_of_the_library_are_lines_on_stderr(model, photo, out, monkeypatch):
    real = explainer.Explainer.session

    def warning(self, *given):
        logging.getLogger("onnx_deconv.runtime.session").warning("no usable\ndevice")
        return real(self, *given)

    monkeypatch.setattr(explainer.Explainer, "session", warning)
    code, _, err = run("explain", model, photo, "-o", out, "--json")
    assert code == 0
    assert set(err.splitlines()) == {"Warning: no usable device"}
    assert run("explain", model, photo, "-o", out, "--quiet")[2] == ""
    assert logging.getLogger("onnx_deconv").handlers == []


def test_progress_is_shown_on_a_terminal_alone(monkeypatch, capsys):
    console = Console()
    assert list(console.progress(["a", "b"], str)) == ["a", "b"]
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    for item in console.progress(["a", "b"], str):
        console.say(item)
    captured = capsys.readouterr()
    assert captured.out == "a\nb\n"
    assert "1/2 a" in captured.err
    assert captured.err.endswith("\r")
    console.quiet = True
    assert list(console.progress(["a", "b"], str)) == ["a", "b"]
    assert capsys.readouterr().err == ""


def test_samples_and_checks_are_counted_on_a_terminal_alone(model, photo, out, monkeypatch):
    asked = "explain", model, photo, "--average", "smoothgrad", "--samples", 3, "--verbose", "-o", out
    assert "sample" not in run(*asked)[2]
    shown = []
    monkeypatch.setattr(Console, "status", lambda _, text: shown.append(text))
    assert run(*asked)[0] == 0
    assert shown == [f"sample {k} of 3" for k in (1, 2, 3)]
    for form in ("pair", "explain"):
        shown.clear()
        assert run("convert", model, "--form", form, "--check", 2, "-o", out / form)[0] == 0
        assert shown == ["check 1 of 2", "check 2 of 2"]
    assert logging.getLogger("onnx_deconv").level == logging.NOTSET


def test_json_holds_no_number_that_json_does_not_know(capsys):
    console = Console()
    console.json = True
    console.result({"a": [float("nan"), 1.5], "b": (float("inf"), Path("x")), "c": "né"}, "text")
    out = capsys.readouterr().out
    assert json.loads(out) == {"a": [None, 1.5], "b": [None, "x"], "c": "né"}
    assert out.isascii()


def test_small_writers():
    assert table([["a", "bb"], ["ccc", "d"]], " ") == " a    bb\n ccc  d"
    assert [sizes(None), sizes([]), sizes(["N", None, 3])] == ["?", "scalar", "N×?×3"]
    formula = "(floor(floor(height/2 - 1/2)/2) + 1)*(floor(floor(width/2 - 1/2)/2) + 1)"
    assert sizes(["N", 22, formula]) == "N×22×?"
    assert [in_bytes(7), in_bytes(7400), in_bytes(7_400_000)] == ["7 B", "7 kB", "7.4 MB"]


def program(*arguments, **more):
    """Run the program in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "onnx_deconv", *map(str, arguments)],
        capture_output=True, text=True, check=False, encoding="utf-8", **more,
    )  # fmt: skip


def test_the_program_starts_as_a_module_and_tells_its_version():
    done = program("--version")
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(r"\d+\.\d+\.\d+", done.stdout)


def test_a_reader_that_has_seen_enough_is_no_error():
    command = f"'{sys.executable}' -m onnx_deconv ops --json | head -n 1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)
    assert done.stderr == ""


def test_names_that_the_terminal_cannot_show_do_no_harm(model, tmp_path, out):
    strange = picture(tmp_path / "größe ✓.png")
    environment = os.environ | {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    done = program("explain", model, strange, "-o", out, env=environment)
    assert (done.returncode, done.stderr) == (0, "")
    assert inside(out)


def test_explaining_imports_nothing_slow_that_it_does_not_need(model, photo, out):
    code = f"""
import sys
from onnx_deconv.cli import main
try:
    main({["explain", str(model), str(photo), "-o", str(out), "--quiet"]!r})
finally:
    print(*sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    unwanted = {"onnx.reference", "onnx_deconv.verification.reference", "onnx_deconv.verification"}
    unwanted |= {"scipy", "matplotlib", "torch", "sympy"}
    assert not unwanted & set(done.stdout.split())


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["atlas", "--help"]])
def test_the_programs_help_imports_nothing_slow(arguments):
    code = f"""
import sys
from onnx_deconv.cli import main
try:
    main({arguments!r})
finally:
    print(*sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"onnxruntime", "PIL", "onnx", "numpy", "onnx_graphsurgeon"} & set(done.stdout.split())


def test_the_package_exports_what_it_names():
    for name in onnx_deconv.__all__:
        assert getattr(onnx_deconv, name) is not None
    assert set(onnx_deconv.__all__) <= set(dir(onnx_deconv))
    with pytest.raises(AttributeError, match="'explain_everything'"):
        _ = onnx_deconv.explain_everything


@pytest.mark.slow
def test_the_shell_is_given_its_completion():
    code = "from onnx_deconv.cli import main; main(prog_name='onnx-deconv')"
    environment = os.environ | {"_ONNX_DECONV_COMPLETE": "zsh_source"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    assert "#compdef onnx-deconv" in done.stdout


# mistakes


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--layer", "activatoin"], "did you mean activation"),
        (["--target", 5], "no class 5"),
        (["--target", "houze cat"], "did you mean house cat"),
        (["--top", 9], "--top 9"),
        (["--top", 0], "--top"),
        (["--target", 1, "--top", 2], "--top"),
        (["--target", "cat", "--layer", "r1"], "by its number"),
        (["--layer", "r1", "--target", 8], "channel 8"),
        (["--layer", "r1", "--target", 1, "--position", "40,1"], "outside"),
        (["--layer", "r1", "--target", 1, "--position", "4"], "2 axes"),
        (["--layer", "r1", "--target", 1, "--position", "a,b"], "--position"),
        (["--layer", "image"], "image"),
        (["--preset", "imagnet"], "imagenet"),
        (["--mean", "1,2"], "mean"),
        (["--std", "0,1,1"], "std"),
        (["--size", "big"], "--size"),
        (["--size", "64"], "takes pictures of 32×32 alone"),
        (["--channels", "L"], "1×32×32"),
        (["--fit", "none"], "40×50"),
        (["--input-shape", "image:1,3"], "4 axes"),
        (["--input-shape", "nonsense"], "NAME:1,3,224,224"),
        (["--labels", "/nowhere/labels.txt"], "labels"),
        (["--providers", "tpu"], "tpu"),
        (["--rules", "magic"], "magic"),
        (["--layout", "NHWC"], "channels"),
    ],
)
def test_a_mistake_is_one_line_that_names_it(model, photo, out, arguments, says):
    assert says in refused("explain", model, photo, "-o", out, *arguments)
    assert not out.exists()


NO_MODEL = {"empty": b"", "png": b"\x89PNG\r\n\x1a\n" + bytes(64), "text": b"not a model", "zeros": bytes(64)}


@pytest.mark.parametrize("content", NO_MODEL)
@pytest.mark.parametrize("command", ["explain", "convert", "inspect", "verify"])
def test_what_is_no_model_is_refused(tmp_path, photo, out, content, command):
    path = tmp_path / "no.onnx"
    path.write_bytes(NO_MODEL[content])
    more = {"explain": [photo, "-o", out], "convert": ["-o", out]}.get(command, [])
    assert "no.onnx" in refused(command, path, *more)
    assert not out.exists()


def test_a_model_cut_short_is_refused(model, out):
    content = model.read_bytes()
    for length in range(0, len(content), 41):
        model.write_bytes(content[:length])
        refused("convert", model, "-o", out)
        assert not out.exists()


def test_a_pair_cut_short_is_refused(model, photo, tmp_path, out):
    run("convert", model, "-o", tmp_path / "pair", "--check", 0)
    for name in ("deconv.onnx", "forward.onnx"):
        content = (tmp_path / "pair" / name).read_bytes()
        (tmp_path / "pair" / name).write_bytes(content[: len(content) // 2])
        refused("explain", tmp_path / "pair", photo, "-o", out)
        (tmp_path / "pair" / name).write_bytes(content)
    (tmp_path / "pair" / "weights.bin").unlink()
    assert "weights.bin" in refused("explain", tmp_path / "pair", photo, "-o", out)
    assert not out.exists()


@pytest.mark.parametrize("command", ["convert", "inspect", "verify"])
def test_external_data_missing_or_outside_the_folder(tmp_path, command, out):
    net = saved(
        network(), tmp_path / "net.onnx", save_as_external_data=True, location="w.bin", size_threshold=0
    )
    more = ["-o", out] if command == "convert" else []
    weights = (tmp_path / "w.bin").rename(tmp_path / "elsewhere.bin")
    assert "w.bin" in refused(command, net, *more)
    inner = tmp_path / "inner"
    inner.mkdir()
    proto = onnx.load(net, load_external_data=False)
    for tensor in proto.graph.initializer:
        tensor.external_data[0].value = f"../{weights.name}"
    (inner / "net.onnx").write_bytes(proto.SerializeToString())
    assert "outside" in refused(command, inner / "net.onnx", *more)
    assert not out.exists()


def test_inputs_that_are_no_pictures_are_refused(tmp_path, photo, out):
    def relu(shape, dtype=TensorProto.FLOAT):
        ends = [helper.make_tensor_value_info(name, dtype, shape) for name in "xy"]
        graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", ends[:1], ends[1:])
        opsets = [helper.make_opsetid("", 17)]
        return saved(helper.make_model(graph, opset_imports=opsets, ir_version=8), tmp_path / "n.onnx")

    for shape, dtype, says in (
        ([1, 7], TensorProto.FLOAT, "takes 1×7, and photo.png is 3×40×50"),
        (None, TensorProto.FLOAT, "--input-shape"),
        ([1, 7, 8, 8], TensorProto.FLOAT, "takes 1×7×8×8, and photo.png is 3×40×50"),
        ([1, 3, 8, 8], TensorProto.INT64, "no path"),
    ):
        assert says in refused("explain", relu(shape, dtype), photo, "--target", 0, "-o", out)
    assert not out.exists()
    two = network()
    two.graph.input.append(helper.make_tensor_value_info("other", TensorProto.FLOAT, [1]))
    assert "other" in refused("explain", saved(two, tmp_path / "two.onnx"), photo, "-o", out)


def test_missing_files_are_named(model, photo, tmp_path, out):
    assert "none.onnx" in refused("explain", tmp_path / "none.onnx", photo)
    assert "none.png" in refused("explain", model, tmp_path / "none.png", "-o", out)
    assert "*.bmp" in refused("explain", model, f"{tmp_path}/*.bmp")
    (tmp_path / "empty").mkdir()
    assert "empty" in refused("explain", model, tmp_path / "empty", "-o", out)
    assert "empty" in refused("inspect", tmp_path / "empty")
    assert not out.exists()


def test_a_picture_of_enormous_size_is_refused(model, photo, out, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert "100 pixels" in refused("explain", model, photo, "-o", out)


def test_nothing_explained_is_a_mistake(model, tmp_path, out):
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(b"no picture")
    code, stdout, stderr = run("explain", model, tmp_path / "a.png", tmp_path / "b.png", "-o", out)
    assert (code, stdout) == (2, "")
    assert len(stderr.splitlines()) == 3
    assert not out.exists()


def test_a_file_in_the_way_of_the_output_is_named(model, photo, tmp_path):
    (tmp_path / "file").write_text("in the way")
    assert "file" in refused("explain", model, photo, "-o", tmp_path / "file")
    assert "file" in refused("explain", model, photo, "-o", tmp_path / "file" / "below")
    assert "file" in refused("convert", model, "-o", tmp_path / "file" / "pair")
    assert (tmp_path / "file").read_text() == "in the way"
    (tmp_path / "pair" / "deconv.onnx").mkdir(parents=True)
    assert "deconv.onnx" in refused("convert", model, "-o", tmp_path / "pair")
    assert inside(tmp_path / "pair") == ["deconv.onnx"]


def broken_off(error):
    """A write that breaks off after a few bytes."""

    def save(_, path, *__, **___):
        Path(path).write_bytes(b"\x89PNG")
        raise error

    return save


def test_a_full_disk_leaves_no_half_written_picture(model, photo, out, monkeypatch):
    monkeypatch.setattr(Image.Image, "save", broken_off(OSError(28, "No space left on device")))
    assert "No space left" in refused("explain", model, photo, "-o", out)
    assert inside(out) == []


def test_an_interrupt_is_one_line_and_leaves_nothing_half_written(model, photo, out, monkeypatch):
    monkeypatch.setattr(Image.Image, "save", broken_off(KeyboardInterrupt()))
    code, stdout, stderr = run("explain", model, photo, "-o", out)
    assert (code, stdout, stderr) == (130, "", "interrupted\n")
    assert inside(out) == []
    monkeypatch.setattr(package._Weights, "_place", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    code, _, stderr = run("convert", model, "-o", out, "--check", 0)
    assert (code, stderr) == (130, "interrupted\n")
    assert inside(out) == []


@pytest.mark.parametrize(
    ("error", "exit_code", "says"),
    [
        (MemoryError(), 2, "memory"),
        (OSError(28, "No space left on device"), 2, "No space left"),
        (ZeroDivisionError("a\nb"), 3, "ZeroDivisionError (a b)"),
    ],
)
def test_what_nobody_expected_is_one_line_too(model, photo, out, monkeypatch, error, exit_code, says):
    monkeypatch.setattr(Image.Image, "save", broken_off(error))
    code, stdout, stderr = run("explain", model, photo, "-o", out)
    assert (code, stdout) == (exit_code, "")
    assert len(stderr.splitlines()) == 1
    assert says in stderr
    assert "Traceback" in run("explain", model, photo, "-o", out, "-v")[2]


# names


def test_names_of_results_are_safe_and_told_apart(tmp_path):
    assert [safe(t) for t in ("a b/c", "..", "", "x" * 99, "ä-Ö_1.2", "-rf", "CON:")] == [
        "a-b-c", "unnamed", "unnamed", "x" * 60, "ä-Ö_1.2", "rf", "CON",
    ]  # fmt: skip
    assert len(safe("€" * 50).encode()) <= 60
    paths = [tmp_path / p for p in ("a/x.png", "b/x.png", "b/X.jpg", "c/b-x.png", "b/x.webp", "a/x.webp")]
    names = stems(map(str, paths))
    assert names[:2] == ["x", "b-x"]
    assert len({name.casefold() for name in names}) == len(names)


def test_a_file_that_looks_like_a_pattern_is_a_file(tmp_path):
    picture(tmp_path / "[1].png")
    picture(tmp_path / "1.png")
    assert find_pictures([str(tmp_path / "[1].png")]) == [tmp_path / "[1].png"]
    assert find_pictures([str(tmp_path / "[12].png")]) == [tmp_path / "1.png"]


def test_what_the_runtime_refuses_is_told_once(tmp_path, out):
    """onnxruntime prints what it raises, too."""
    small = picture(tmp_path / "small.png", 3, 3)
    net = saved(network(size="S"), tmp_path / "n.onnx")
    done = program("explain", net, small, "-o", out, "--size", "photo", "--providers", "cpu")
    assert done.returncode == 2
    assert re.fullmatch(r"Error: .*small\.png: the windows of Conv 'conv_two' .*\n", done.stderr)
