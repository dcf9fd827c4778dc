"""The command line: what it prints, what it writes, and how it fails."""

import contextlib
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from onnx_deconv import cli, saliency
from onnx_deconv.inspection import operator_table_markdown
from onnx_deconv.rules import registry

ROOT = Path(__file__).parents[1]
ZOO = Path(os.environ.get("ONNX_DECONV_ZOO", ROOT.parent / "shared" / "zoo"))
SQUEEZENET = ZOO / "models" / "squeezenet1.1-caffe2-fp32.onnx"
needs_zoo = pytest.mark.skipif(not SQUEEZENET.exists(), reason=f"no model zoo in {ZOO}")


def run(*arguments):
    """Run the command line in this process; return (exit code, stdout, stderr)."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.raises(SystemExit) as stop:
        cli.main([str(a) for a in arguments])
    return stop.value.code or 0, out.getvalue(), err.getvalue()


def refused(*arguments):
    """Run what has to be refused: one line on stderr, a non-zero exit code, no traceback."""
    code, out, err = run(*arguments)
    assert code == 2
    assert out == ""
    assert "Traceback" not in err
    return err.strip().splitlines()[-1]


def size_of(path):
    with Image.open(path) as picture:
        return picture.size


def network(operator="Relu", size=32, channels=3):
    """Conv → an activation → MaxPool → Conv to 5 class maps → global average → 5 scores."""
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
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", channels, size, size])
    scores = helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["N", 5])
    graph = helper.make_graph(nodes, "net", [image], [scores], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    model.metadata_props.add(key="preset", value="unit")
    model.metadata_props.add(key="labels", value=json.dumps(["ant", "bee", "cat", "dog", "emu"]))
    return model


@pytest.fixture
def model(tmp_path):
    onnx.save(network(), tmp_path / "net.onnx")
    return tmp_path / "net.onnx"


@pytest.fixture
def photo(tmp_path):
    pixels = np.random.default_rng(2).integers(0, 256, (40, 50, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def test_explain_writes_pictures_and_says_where(model, photo, tmp_path):
    code, out, err = run(
        "explain", model, photo, "-o", tmp_path / "out", "--class", "cat", "--view", "all", "--json"
    )
    assert (code, err) == (0, "")
    (result,) = map(json.loads, out.splitlines())
    assert (result["image"], result["class"], result["label"]) == (str(photo), 2, "cat")
    assert 0 < result["score"] < 1
    assert sorted(Path(f).name for f in result["files"].values()) == sorted(
        f.name for f in (tmp_path / "out").iterdir()
    )
    by_view = result["files"]
    assert size_of(by_view["projection"]) == (32, 32)
    # Maps lie on the photograph's own grid: 50 wide, 40 high.
    assert size_of(by_view["heat"]) == size_of(by_view["overlay"]) == (50, 40)
    raw = np.load(result["files"]["values"])
    assert (raw.shape, raw.dtype) == ((3, 32, 32), np.float32)


def test_the_top_classes_come_strongest_first(model, photo, tmp_path):
    _, out, _ = run("explain", model, photo, "-o", tmp_path / "out", "--top", 5, "--json")
    results = [json.loads(line) for line in out.splitlines()]
    scores = [r["score"] for r in results]
    assert scores == sorted(scores, reverse=True)
    assert sum(scores) == pytest.approx(1, abs=1e-5)
    assert len({r["class"] for r in results}) == 5


def test_folders_and_patterns_name_photographs_each_once(model, photo, tmp_path):
    folder = tmp_path / "photos"
    (folder / "sub").mkdir(parents=True)
    for name in ("a.png", "b.jpg", "sub/a.png"):
        Image.open(photo).save(folder / name)
    (folder / "notes.txt").write_text("no picture")
    arguments = [folder, folder / "a.png", f"{folder}/sub/*.png", "-o", tmp_path / "out", "--json"]
    code, out, _ = run("explain", model, *arguments)
    assert code == 0
    results = [json.loads(line) for line in out.splitlines()]
    assert [r["image"] for r in results] == [str(folder / n) for n in ("a.png", "b.jpg", "sub/a.png")]
    files = [f for r in results for f in r["files"].values()]
    assert len(set(files)) == len(files)


def test_a_unit_of_a_layer_by_value_or_node_name(model, photo, tmp_path):
    unit = ["--channel", 3, "--at", "4,5", "--json", "-o", tmp_path / "out"]
    results = [
        json.loads(run("explain", model, photo, "--layer", name, *unit)[1]) for name in ("r1", "activation")
    ]
    assert results[0] == results[1]
    raw = np.load(results[0]["files"]["values"])
    # A 3×3 filter: nothing but the unit's receptive field.
    rows, columns = np.nonzero(raw.any(0))
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (3, 5, 4, 6)


def test_one_unreadable_photograph_does_not_stop_the_others(model, photo, tmp_path):
    (tmp_path / "broken.png").write_bytes(photo.read_bytes()[:200])
    code, out, err = run("explain", model, tmp_path / "broken.png", photo, "-o", tmp_path / "out", "--json")
    assert code == 1
    assert json.loads(out)["image"] == str(photo)
    assert "broken.png" in err
    assert [line.partition(":")[0] for line in err.splitlines()] == ["Error", "Warning"]


def test_convert_writes_a_pair_and_checks_it(model, tmp_path):
    code, out, _ = run("convert", model, "-o", tmp_path / "pair", "--check", 2, "--json")
    result = json.loads(out)
    assert code == 0
    sizes = {f.name: f.stat().st_size for f in (tmp_path / "pair").iterdir()}
    assert result["bytes"] == {**sizes, "model": model.stat().st_size}
    assert (result["explained"]["value"], result["explained"]["cut"]) == ("logits", ["Softmax softmax"])
    assert result["switches"] == ["p1"]
    assert len(result["checks"]) == 4
    assert all(c["passed"] for c in result["checks"])


def test_a_converted_folder_can_be_explained(model, photo, tmp_path):
    run("convert", model, "-o", tmp_path / "pair")
    results = []
    for source in (model, tmp_path / "pair"):
        _, out, _ = run(
            "explain", source, photo, "--seed", "one", "--layer", "logits", "-o", tmp_path / "out", "--json"
        )
        results.append(json.loads(out))
    assert results[0] == results[1]


def test_inspect_lists_layers_rules_and_pools(model):
    code, out, _ = run("inspect", model, "--json")
    report = json.loads(out)
    assert code == 0
    assert [row["operator"] for row in report["layers"]] == [
        "Conv", "Relu", "MaxPool", "Conv", "GlobalAveragePool", "Flatten",
    ]  # fmt: skip
    assert all(row["rule"] for row in report["layers"])
    assert [row["overlaps"] for row in report["layers"]] == [None, None, True, None, None, None]
    assert report["cut"] == ["Softmax softmax"]
    assert report["inputs"] == {"image": {"dtype": "float", "shape": ["N", 3, 32, 32]}}
    assert "logits" in run("inspect", model)[1]


def test_inspect_names_every_node_without_a_rule_and_explain_refuses(tmp_path, photo):
    onnx.save(network("Det"), tmp_path / "net.onnx")
    code, out, _ = run("inspect", tmp_path / "net.onnx", "--layer", "r1", "--json")
    assert code == 1
    assert [(m["operator"], m["node"]) for m in json.loads(out)["missing"]] == [("Det", "activation")]
    message = refused("explain", tmp_path / "net.onnx", photo, "--layer", "r1", "-o", tmp_path / "out")
    assert "Det" in message
    assert "activation" in message


def test_verify_finds_the_pair_exact(model):
    code, out, _ = run("verify", model, "--json")
    checks = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    assert {c["name"] for c in checks} == {"forward", "switches", "companion", "difference"}
    tables = {c["of"] for c in checks if c["name"] == "companion"}
    assert tables == {"deconvnet", "guided", "gradient"}
    assert all(c["passed"] for c in checks)


def test_verify_finds_a_wrong_rule(model, monkeypatch):

    wrong = registry._TABLES["deconvnet"] | {("", "Relu"): lambda at: [at.op.Mul(at.signal, 2.0)]}
    monkeypatch.setitem(registry._TABLES, "deconvnet", wrong)
    code, out, _ = run("verify", model, "--rules", "deconvnet")
    assert code == 1
    assert "FAIL" in out


def test_ops_agrees_with_the_documentation():
    code, out, _ = run("ops", "--markdown")
    assert code == 0
    assert out == operator_table_markdown()
    assert (ROOT / "docs" / "operators.md").read_text(encoding="utf-8") == out, (
        "write it anew: onnx-deconv ops --markdown > docs/operators.md"
    )
    rows = [json.loads(line) for line in run("ops", "--json")[1].splitlines()]
    assert {"Conv", "MaxPool", "Relu"} <= {row["operator"] for row in rows}


def test_the_demo_explains_the_embedded_photograph(tmp_path):
    code, out, err = run("demo", "-o", tmp_path / "demo")
    assert (code, err) == (0, "")
    assert len(out.splitlines()) >= 2
    sheets = list((tmp_path / "demo").glob("*-side-by-side.png"))
    assert sheets
    for sheet in sheets:
        assert np.asarray(Image.open(sheet)).std() > 10


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
def test_squeezenet_names_what_is_in_the_photograph(photograph, label, tmp_path):
    options = [
        "--preset",
        "imagenet-caffe",
        "--labels",
        ZOO / "imagenet-labels.txt",
        "-o",
        tmp_path,
        "--json",
    ]
    code, out, _ = run("explain", SQUEEZENET, ZOO / "photos" / photograph, *options)
    assert code == 0
    assert json.loads(out)["label"] == label


def test_quiet_says_nothing_and_verbose_more(model, photo, tmp_path):
    assert run("explain", model, photo, "-o", tmp_path / "out", "--quiet") == (0, "", "")
    code, _, err = run("explain", tmp_path / "none.onnx", photo, "-v")
    assert code == 2
    assert "Traceback" in err


def test_the_program_starts_as_a_module_and_tells_its_version():
    done = subprocess.run(
        [sys.executable, "-m", "onnx_deconv", "--version"], capture_output=True, text=True, check=True
    )
    assert re.search(r"\d+\.\d+\.\d+", done.stdout)


def test_starting_does_not_import_what_is_slow():
    code = "import sys, onnx_deconv.cli; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"onnxruntime", "PIL.Image", "torch", "matplotlib", "scipy"} & set(done.stdout.split())


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--layer", "activatoin"], "activation"),
        (["--class", 5], "class 5"),
        (["--class", "cta"], "cat"),
        (["--top", 9], "top=9"),
        (["--layer", "r1", "--channel", 8], "channel 8"),
        (["--layer", "r1", "--channel", 1, "--at", "40,1"], "outside"),
        (["--layer", "r1", "--channel", 1, "--at", "4"], "2 axes"),
        (["--layer", "r1", "--channel", 1, "--at", "a,b"], "--at"),
        (["--preset", "imagnet"], "imagenet"),
        (["--mean", "1,2"], "mean"),
        (["--std", "0,1,1"], "std"),
        (["--size", "big"], "--size"),
        (["--input-shape", "image:1,3"], "axes"),
        (["--input-shape", "nonsense"], "NAME:1,3,224,224"),
        (["--labels", "/nowhere/labels.txt"], "labels"),
        (["--providers", "tpu"], "tpu"),
        (["--rules", "magic"], "magic"),
    ],
)
def test_a_mistake_is_one_line_that_names_it(model, photo, tmp_path, arguments, says):
    message = refused("explain", model, photo, "-o", tmp_path / "out", *arguments)
    assert says in message
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n\x1a\n" + bytes(64), b"not a model at all"])
@pytest.mark.parametrize("command", ["explain", "convert", "inspect", "verify"])
def test_what_is_no_model_is_refused(tmp_path, photo, content, command):
    path = tmp_path / "no.onnx"
    path.write_bytes(content)
    more = {"explain": [photo], "convert": ["-o", tmp_path / "pair"]}.get(command, [])
    assert "no.onnx" in refused(command, path, *more)
    assert not (tmp_path / "pair").exists()


def test_missing_files_are_named(model, photo, tmp_path):
    assert "none.onnx" in refused("explain", tmp_path / "none.onnx", photo)
    assert "none.png" in refused("explain", model, tmp_path / "none.png", "-o", tmp_path / "out")
    assert "*.bmp" in refused("explain", model, f"{tmp_path}/*.bmp")
    (tmp_path / "empty").mkdir()
    assert "empty" in refused("explain", model, tmp_path / "empty")


def test_a_model_that_takes_no_image_is_refused(tmp_path, photo):
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 7])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 7])
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [x], [y])
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8),
        tmp_path / "n.onnx",
    )
    assert "no batch of pictures" in refused("explain", tmp_path / "n.onnx", photo)


def test_a_file_in_the_way_of_the_output_is_named(model, photo, tmp_path):
    (tmp_path / "file").write_text("in the way")
    assert "file" in refused("explain", model, photo, "-o", tmp_path / "file")
    assert "file" in refused("convert", model, "-o", tmp_path / "file" / "pair")
    assert (tmp_path / "file").read_text() == "in the way"


def test_a_full_disk_leaves_no_half_written_picture(model, photo, tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    assert "No space left" in refused("explain", model, photo, "-o", tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_an_interrupt_is_one_line_and_leaves_nothing_half_written(model, photo, tmp_path, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(saliency.render, "projection", interrupt)
    code, _, err = run("explain", model, photo, "-o", tmp_path / "out")
    assert code == 130
    assert err.strip().splitlines() == ["interrupted"]
    assert list(tmp_path.glob("out/*")) == []


def test_an_unexpected_error_is_one_line_too(model, photo, tmp_path, monkeypatch):
    monkeypatch.setattr(saliency.render, "projection", lambda *_, **__: 1 // 0)
    code, out, err = run("explain", model, photo, "-o", tmp_path / "out")
    assert (code, out) == (3, "")
    assert len(err.splitlines()) == 1
    assert "ZeroDivisionError" in err
    assert "-v" in err


def test_a_grey_model_of_last_channels_gets_what_it_takes(tmp_path, photo):
    """NHWC, one channel, as Keras writes it: layout and channels are seen from the shape."""
    inner = network(channels=1)
    first = inner.graph.node[0]
    first.input[0] = "planes"
    inner.graph.node.insert(0, helper.make_node("Transpose", ["image"], ["planes"], perm=[0, 3, 1, 2]))
    inner.graph.input[0].CopyFrom(helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 32, 32, 1]))
    onnx.save(inner, tmp_path / "net.onnx")
    code, out, _ = run(
        "explain", tmp_path / "net.onnx", photo, "-o", tmp_path / "out", "--json", "--view", "all"
    )
    assert code == 0
    assert np.load(json.loads(out)["files"]["values"]).shape == (32, 32, 1)
