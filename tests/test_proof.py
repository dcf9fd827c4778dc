"""Graphs for a runtime are run in it, where it is installed, before they are written."""

import json

import numpy as np
import onnx
import onnxruntime
import pytest
from commands import run as command
from small_networks import model, network, random

from onnx_deconv import (
    InputError,
    ModelError,
    RuntimeUnavailableError,
    compile_pair,
    explain_graph,
    load,
)
from onnx_deconv.compiler.explain_manifest import own_top
from onnx_deconv.imaging import Preprocess
from onnx_deconv.runtime import PROVERS, Prover
from onnx_deconv.verification import Question, prove, proving, questions

EXPLAIN = ("--form", "explain", "--for", "openvino")


def answering(change):
    """Load files into onnxruntime, and change its answers."""

    def load(file, outputs):
        session = onnxruntime.InferenceSession(file)

        def run(feeds):
            assert [o.name for o in session.get_outputs()] == outputs
            return [
                change(name, array) for name, array in zip(outputs, session.run(None, feeds), strict=True)
            ]

        return run

    return load


def prover(monkeypatch, *loads, package="onnxruntime"):
    monkeypatch.setitem(PROVERS, "openvino", Prover("Another", package, loads))


def convert(tmp_path, *more, proto=None):
    onnx.save(proto or network(), tmp_path / "model.onnx")
    return command("convert", tmp_path / "model.onnx", "-o", tmp_path / "made", *EXPLAIN, *more)


def right(_, array):
    return array


def off_by(share, of="reconstruction"):
    return lambda name, array: array + share * np.abs(array).max() if name == of else array


@pytest.mark.parametrize("share", [0, 1e-4])
def test_a_graph_that_its_runtime_computes_rightly_is_written(tmp_path, monkeypatch, share):
    prover(monkeypatch, answering(off_by(share)))
    code, out, err = convert(tmp_path)
    assert (code, err) == (0, "")
    assert "check ok: Another: " in out
    assert list((tmp_path / "made").rglob("*.onnx"))


def test_nothing_is_written_that_its_runtime_computes_wrongly(tmp_path, monkeypatch):
    prover(monkeypatch, answering(right), answering(off_by(0.25)))
    code, _, err = convert(tmp_path)
    assert code == 1
    (line,) = err.splitlines()
    assert "Another: 'reconstruction' differs from onnxruntime's by 0.25 of its largest" in line
    assert "nothing was written" in line
    assert "--for onnxruntime" in line
    assert not (tmp_path / "made").exists() or not list((tmp_path / "made").rglob("*"))


def test_earlier_files_stay_where_a_proof_fails(tmp_path, monkeypatch):
    prover(monkeypatch, answering(right))
    convert(tmp_path)
    before = (tmp_path / "made" / "explain.onnx").read_bytes()
    prover(monkeypatch, answering(off_by(1)))
    assert convert(tmp_path, "--rules", "guided")[0] == 1
    assert (tmp_path / "made" / "explain.onnx").read_bytes() == before


@pytest.mark.parametrize(
    ("change", "output"),
    [
        (lambda name, a: a * np.nan if name == "reconstruction" else a, "reconstruction"),
        (lambda name, a: a[..., None] if name == "scores_" else a, "scores_"),
        (lambda name, a: a + 1 if name == "explained" else a, "explained"),
    ],
    ids=["not finite", "another shape", "another class"],
)
def test_every_output_is_compared(tmp_path, monkeypatch, change, output):
    prover(monkeypatch, answering(change))
    code, _, err = convert(tmp_path)
    assert code == 1
    assert repr(output) in err


@pytest.mark.parametrize(("left", "code"), [(1e-9, 0), (1e-4, 1)])
def test_rounding_may_leave_something_where_all_is_zero(tmp_path, monkeypatch, left, code):
    body = "c = Conv(x, w) r = Relu(c) g = GlobalAveragePool(r) f = Flatten(g) y = Softmax(f)"
    nothing = model(body, {"w": np.zeros((5, 3, 1, 1), np.float32)}, "N,3,8,8")
    prover(monkeypatch, answering(lambda name, a: a + np.float32(left) if name == "reconstruction" else a))
    assert convert(tmp_path, "--rules", "gradient", proto=nothing)[0] == code


def test_a_runtime_that_takes_no_notice_of_the_target_is_found(tmp_path, monkeypatch):
    """It explains the strongest class whatever it is asked for."""

    def load(file, outputs):
        session = onnxruntime.InferenceSession(file)
        return lambda feeds: session.run(outputs, feeds | {"target": np.full_like(feeds["target"], -1)})

    prover(monkeypatch, load)
    assert convert(tmp_path)[0] == 1


@pytest.mark.parametrize("kind", ["index", "weights", "array"])
def test_all_kinds_of_targets_are_asked_for(tmp_path, monkeypatch, kind):
    asked = []

    def load(file, outputs):
        session = onnxruntime.InferenceSession(file)
        return lambda feeds: asked.append(feeds) or session.run(outputs, feeds)

    prover(monkeypatch, load)
    assert convert(tmp_path, "--target-kind", kind, "--input-shape", "x:N,3,12,14")[0] == 0
    own, other, both = (feeds["target"] for feeds in asked)
    assert (own == (-1 if kind == "index" else 0)).all()
    assert not np.array_equal(other, own)
    assert len(both) == 2
    assert [len(feeds["x"]) for feeds in asked] == [1, 1, 2]


@pytest.mark.parametrize(
    "said",
    [
        "Check 'false' failed at core.cpp:3\nno Conv here\n",
        "FrontEnd API failed with Failure:\nModel wasn't fully converted.\nSummary:\n-- no Conv here\n",
    ],
    ids=["a check", "a conversion"],
)
def test_a_runtime_that_refuses_a_graph_says_why(tmp_path, monkeypatch, said):
    def load(*_):
        raise RuntimeError(f"Exception from core.cpp:132:\n{said}")

    prover(monkeypatch, load)
    code, _, err = convert(tmp_path)
    assert code == 1
    assert "Another: cannot run the graph: no Conv here, so nothing was written" in err


def test_what_was_not_proved_is_said_and_written(tmp_path, monkeypatch):
    prover(monkeypatch, package="no_such_runtime")
    code, out, err = convert(tmp_path)
    assert code == 0
    assert (tmp_path / "made" / "explain.onnx").exists()
    assert "Another" not in out
    assert len(err.splitlines()) == 1
    assert "not proved in Another" in err
    assert "pip install no_such_runtime" in err
    record = json.loads(convert(tmp_path, "--json")[1])
    (proof,) = (check for check in record["checks"] if check["name"] == "proof")
    assert proof["verdict"] == "not covered"
    assert record["passed"]


def through(monkeypatch, provider):
    monkeypatch.setitem(PROVERS, "openvino", Prover("Another", "no_such_runtime", (), provider))


def test_a_provider_of_onnxruntime_proves_where_the_runtimes_own_package_is_not_installed(
    tmp_path, monkeypatch
):
    through(monkeypatch, "CPUExecutionProvider")
    code, out, err = convert(tmp_path)
    assert (code, err) == (0, "")
    assert "check ok: Another: " in out
    through(monkeypatch, "NoSuchExecutionProvider")
    code, out, err = convert(tmp_path)
    assert code == 0
    assert "not proved in Another" in err


def test_nothing_is_said_of_a_proof_that_was_not_asked_for(tmp_path, monkeypatch):
    prover(monkeypatch, package="no_such_runtime")
    for more in (("--check", 0), ("--for", "onnxruntime")):
        code, out, err = convert(tmp_path, *more)
        assert (code, err) == (0, "")
        assert "Another" not in out


@pytest.mark.parametrize("pictures", [False, True])
@pytest.mark.parametrize(("share", "of"), [(0, "reconstruction"), (0.25, "reconstruction"), (0.5, "scores_")])
def test_graphs_made_in_python_are_proved_where_it_is_asked_for(tmp_path, monkeypatch, share, of, pictures):
    prover(monkeypatch, answering(off_by(share, of)))
    net = load(network(size="12,14"))
    drawn = {"preprocess": Preprocess(size=(12, 14)), "rendering": "NCHW"} if pictures else {}
    graph = explain_graph(net, runtime="openvino", **drawn)
    if not share:
        assert graph.save(tmp_path / "made", check=proving(net, graph))[0].exists()
        return
    with pytest.raises(ModelError, match=rf"Another: '{of}' differs .*{share} of .*nothing was written"):
        graph.save(tmp_path / "made", check=proving(net, graph))
    assert not list(tmp_path.rglob("*.onnx"))


def test_what_cannot_be_proved_is_not_said_to_be(monkeypatch):
    prover(monkeypatch, package="no_such_runtime")
    net = load(network(size="12,14"))
    with pytest.raises(RuntimeUnavailableError, match="pip install no_such_runtime"):
        proving(net, explain_graph(net, runtime="openvino"))
    with pytest.raises(InputError, match="nothing proves graphs for web: only for openvino, tract"):
        proving(net, explain_graph(net, runtime="web"))


@pytest.mark.parametrize(("rounding", "verdict"), [(0.0, "failed"), (0.01, "ok")])
def test_an_answer_that_hangs_on_rounding_may_be_off_by_what_rounding_does(
    tmp_path, monkeypatch, rounding, verdict
):
    """Off by 0.02 of the largest number, where onnxruntime's own is by 0.01 for inputs that hardly differ."""
    prover(monkeypatch, lambda *_: lambda _: [np.array([1.0, 0.02])])
    asked = [Question({}, {"y": np.array([1.0, 0.0])}, {"y": rounding})]
    (check,) = prove(load(network()), "openvino", tmp_path / "any.onnx", asked)
    assert check.verdict == verdict
    assert check.error == pytest.approx(0.02)


def test_what_rounding_does_is_measured():
    """A step at 1 is crossed by inputs that hardly differ from 1; a line is not."""
    graph = explain_graph(compile_pair(load(network(size="12,14"))))
    x = {"x": np.ones((1, 3, 12, 14), np.float32), **own_top(graph.manifest)}

    def run(feeds):
        given, n = feeds["x"], len(feeds["x"])
        scores = np.arange(5.0)[None].repeat(n, 0)
        return {
            "step": (given > 1).astype(float) + 1,
            "line": given,
            "scores_": scores,
            "explained": np.full(n, 4),
        }

    own, *_ = questions(load(network()), graph.manifest, x, run(x), run, np.random.default_rng(0))
    assert own.rounding["step"] == 1
    assert 0 < own.rounding["line"] < 1e-5
    assert own.rounding["scores_"] == 0


@pytest.mark.parametrize(("real", "moves"), [("float", False), ("float16", True)])
def test_of_float16_models_pictures_are_moved_too(real, moves):
    """Else each answer that hangs on rounding would be refused."""
    body = "f = Cast<to = 1>(x) h = Cast<to = 10>(f) r = Relu(h) y = Cast<to = 1>(r)"
    text = body if real == "float16" else "f = Cast<to = 1>(x) y = Relu(f)"
    proto = onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["": 18]> g (uint8[1,3,40,40] x) => (float[] y) {{ {text} }}'
    )
    manifest = {"inputs": [{"name": "x", "shape": [1, 3, 40, 40]}]}
    manifest["target"] = {"name": "target", "shape": [1], "dtype": "int64"}
    asked = []

    def run(feeds):
        asked.append(feeds["x"])
        return {"scores": np.zeros((1, 5)), "explained": np.array([0])}

    x = {"x": np.full((1, 3, 40, 40), 255, np.uint8), "target": np.array([-1])}
    next(questions(load(proto), manifest, x, run(x), run, np.random.default_rng(0)))
    own, *nudged = (array.astype(int) for array in asked)
    shares = [float((array != own).mean()) for array in nudged]
    assert all(0.005 < share < 0.03 for share in shares) if moves else not any(shares)
    assert all(np.abs(array - own).max() <= 1 for array in nudged)


# --- the real runtimes --------------------------------------------------------------------------------


def shares_a_square_weight():
    body = "c = Conv<pads=[1,1,1,1]>(x, w) r = Relu(c) d = Conv(r, v) y = GlobalAveragePool(d)"
    return model(body, {"w": random(4, 4, 3, 3), "v": random(6, 4, 1, 1)}, "N,4,8,8")


@pytest.mark.slow
@pytest.mark.parametrize("pictures", [False, True])
def test_openvino_proves_graphs(tmp_path, pictures):
    pytest.importorskip("openvino", reason="OpenVINO is not installed")
    drawn = ("--pictures", "--heat", "--preset", "imagenet", "--size", "12x14") if pictures else ()
    code, out, err = convert(tmp_path, *drawn, "--input-shape", "x:N,3,12,14")
    assert (code, err) == (0, ""), err
    assert "check ok: OpenVINO" in out


@pytest.mark.slow
def test_openvino_finds_a_square_weight_that_is_read_in_two_manners(tmp_path):
    """Without the copy that graphs for it get it computes the reconstruction wrongly (2026.4)."""
    pytest.importorskip("openvino", reason="OpenVINO is not installed")
    more = ("--kind", "classes")
    assert convert(tmp_path, *more, proto=shares_a_square_weight())[0] == 0
    before = (tmp_path / "made" / "explain.onnx").read_bytes()
    code, _, err = convert(tmp_path, *more, "--passes", "sizes", proto=shares_a_square_weight())
    assert code == 1
    assert "OpenVINO: 'reconstruction' differs" in err
    assert (tmp_path / "made" / "explain.onnx").read_bytes() == before


def divides_by_places():
    """An average pool that does not count its padding, of maps that are as large as its windows."""
    body = """
        c = Conv(x, w) r = Relu(c) y = GlobalAveragePool(p) d = Conv(a, v)
        a = AveragePool<kernel_shape = [3, 3], pads = [1, 1, 1, 1]>(r) p = Relu(d)
    """
    return model(body, {"w": random(4, 3, 2, 2), "v": random(6, 4, 3, 3)}, "N,3,4,4")


@pytest.mark.slow
def test_openvino_does_not_take_places_of_a_map_for_those_of_a_filter(tmp_path):
    """Without the maximum between them it computes the reconstruction wrongly (2026.4)."""
    pytest.importorskip("openvino", reason="OpenVINO is not installed")
    more = ("--kind", "classes", "--rules", "lrp")
    assert convert(tmp_path, *more, proto=divides_by_places())[0] == 0
    code, _, err = convert(tmp_path, *more, "--passes", "sizes,filters", proto=divides_by_places())
    assert code == 1
    assert "OpenVINO: 'reconstruction' differs" in err


def quantised():
    """A filter and a sum of eight bits, as onnxruntime's tools write them, and a pool."""
    body = """
        q = QuantizeLinear(x, scale, zero) c = QLinearConv(q, scale, zero, w, scale, zero, scale, zero)
        d = com.microsoft.QLinearAdd(c, scale, zero, c, scale, zero, scale, zero)
        p = MaxPool<kernel_shape = [3, 3], strides = [2, 2]>(d) r = DequantizeLinear(p, scale, zero)
        f = Conv(r, v) y = GlobalAveragePool(f)
    """
    rng = np.random.default_rng(0)
    weights = {"scale": np.array(1 / 16, np.float32), "zero": np.array(7, np.uint8)}
    weights["w"] = rng.integers(0, 15, (4, 3, 3, 3)).astype(np.uint8)
    proto = model(body, weights | {"v": random(5, 4, 1, 1)}, "1,3,17,17")
    proto.opset_import.add(domain="com.microsoft", version=1)
    return proto


@pytest.mark.slow
@pytest.mark.parametrize("runtime", ["openvino", "tract"])
def test_graphs_of_eight_bits_are_proved(tmp_path, runtime):
    pytest.importorskip(runtime, reason=f"{runtime} is not installed")
    onnx.save(quantised(), tmp_path / "model.onnx")
    more = ("--form", "explain", "--for", runtime, "--kind", "classes")
    code, out, err = command("convert", tmp_path / "model.onnx", "-o", tmp_path / "made", *more)
    assert (code, err) == (0, ""), err
    assert "check ok:" in out


@pytest.mark.slow
def test_tract_proves_graphs(tmp_path):
    pytest.importorskip("tract", reason="tract is not installed")
    onnx.save(network(), tmp_path / "model.onnx")
    more = ("--form", "explain", "--for", "tract", "--input-shape", "x:N,3,12,14")
    code, out, err = command("convert", tmp_path / "model.onnx", "-o", tmp_path / "made", *more)
    assert (code, err) == (0, ""), err
    assert "check ok: tract" in out
