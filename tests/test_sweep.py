"""A part of the sweep over the zoo that needs nothing but PyTorch.

Small networks of every kind, as exporters, quantisers and optimisers write them, each against the same
file in PyTorch, in all three rule tables.

The whole sweep is tools/sweep.py; docs/zoo.md is its table.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import onnx
import onnxruntime
import pytest

from onnx_deconv import MissingRuleError, load

torch = pytest.importorskip("torch")
TOOLS = Path(__file__).parents[1] / "tools"
sys.path[:0] = [str(TOOLS), str(TOOLS / "zoo")]

import small_nets  # noqa: E402  (they need torch)
import zoo_check  # noqa: E402
from torch_export import Net, dynamo, settle, torchscript  # noqa: E402

# The warnings are exporters', about themselves.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
NETS = small_nets.all_nets(Net)
DEMO = Path(__file__).parents[1] / "models" / "demo.onnx"
# No exporter of this PyTorch has them, or (the last two) they are here under another name already.
NOT_EXPORTED = {"aligned", "segnet", "act_threshold", "yolo_free", "volume_c3d"}
TRACED = sorted(NETS.keys() - NOT_EXPORTED)
BY_DYNAMO = ["act_gelu", "act_hardswish", "act_prelu", "norm_group", "pool_max_ceil", "unet", "yolo"]


def verdict(path, family, sizes, more=()):
    record = {"family": family, "inputs": sizes, "sizes": list(more)}
    return zoo_check.check(record, path)["verdict"]


def exported(name, export, folder):
    net = NETS[name]
    torch.manual_seed(0)
    module = net.make()
    settle(module, torch.randn(4, *net.shape[1:]))
    path = folder / f"{name}.onnx"
    export(net, module, path)
    return verdict(path, net.family, {"input": list(net.shape)}, [{"input": [*s]} for s in net.sizes])


@pytest.mark.parametrize("name", TRACED)
def test_traced(name, tmp_path):
    assert exported(name, torchscript, tmp_path).startswith("ok")


@pytest.mark.parametrize("name", BY_DYNAMO)
def test_by_dynamo(name, tmp_path):
    pytest.importorskip("onnxscript")
    assert exported(name, dynamo, tmp_path).startswith("ok")


def optimised(path, level):
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, f"ORT_ENABLE_{level}")
    options.optimized_model_filepath = str(path)
    onnxruntime.InferenceSession(DEMO, options, providers=["CPUExecutionProvider"])


def quantised(path, how):
    quantization = pytest.importorskip("onnxruntime.quantization")
    if how == "dynamic":
        quantization.quantize_dynamic(DEMO, path, weight_type=quantization.QuantType.QUInt8)
        return
    session = onnxruntime.InferenceSession(DEMO, providers=["CPUExecutionProvider"])
    (image,) = session.get_inputs()

    rest = [zoo_check.numbers(load(DEMO), {image.name: [1, 3, 64, 64]}) for _ in range(2)]

    class Images(quantization.CalibrationDataReader):
        def get_next(self):
            return rest.pop() if rest else None

    form = getattr(quantization.QuantFormat, how)
    quantization.quantize_static(DEMO, path, Images(), quant_format=form, per_channel=how == "QDQ")


@pytest.mark.parametrize("how", ["QDQ", "QOperator", "dynamic"])
def test_quantised(how, tmp_path):
    quantised(tmp_path / "model.onnx", how)
    (image,) = onnx.load(DEMO).graph.input
    assert verdict(tmp_path / "model.onnx", "quantised", {image.name: [2, 3, 64, 64]}).startswith("ok")


@pytest.mark.parametrize("level", ["BASIC", "EXTENDED"])
def test_optimised(level, tmp_path):
    optimised(tmp_path / "model.onnx", level)
    (image,) = onnx.load(DEMO).graph.input
    assert verdict(tmp_path / "model.onnx", "optimised", {image.name: [2, 3, 64, 64]}) == "ok"


def test_what_is_laid_out_for_one_machine_is_refused_with_the_way_out(tmp_path):
    optimised(tmp_path / "model.onnx", "ALL")
    if "com.microsoft.nchwc" not in {o.domain for o in onnx.load(tmp_path / "model.onnx").opset_import}:
        pytest.skip("onnxruntime lays nothing out on this machine")
    if not any(n.domain == "com.microsoft.nchwc" for n in onnx.load(tmp_path / "model.onnx").graph.node):
        pytest.skip("onnxruntime lays nothing out on this machine")
    with pytest.raises(MissingRuleError, match="level 'extended'"):
        verdict(tmp_path / "model.onnx", "optimised", {})


def test_the_sweep_records_what_fails_and_goes_on_where_it_stopped(tmp_path):
    """A folder with a good model and a broken one: two results, a table, and nothing done twice."""
    shutil.copy(DEMO, tmp_path / "good.onnx")
    (tmp_path / "bad.onnx").write_bytes(b"no model")
    facts = {"architecture": "a", "framework": "f", "exporter": "e", "opset": 17, "family": "classifier"}
    (image,) = onnx.load(DEMO).graph.input
    for name in ("good", "bad"):
        record = {**facts, "name": name, "inputs": {image.name: [1, 3, 64, 64]}}
        (tmp_path / f"{name}.json").write_text(json.dumps(record))
    command = [sys.executable, str(TOOLS / "sweep.py"), str(tmp_path), "--table", str(tmp_path / "zoo.md")]
    for _ in range(2):
        ended = subprocess.run(command, capture_output=True, text=True, check=True)
        assert "zoo.md" in ended.stdout
        table = (tmp_path / "zoo.md").read_text()
        assert "1 ok, 1 not" in table
        assert "no ONNX model" in table
        written = {p: p.stat().st_mtime_ns for p in tmp_path.glob("*.result.json")}
        assert len(written) == 2
    assert written == {p: p.stat().st_mtime_ns for p in tmp_path.glob("*.result.json")}


def test_what_is_no_number_agrees_with_nothing():
    found = {"same_outputs": True, "error": float("nan"), "sizes": [], "moved": False}
    assert zoo_check.verdict(found, "classifier") == "differs from the oracle"
    found |= {"error": 1e-7, "sizes": [{"sizes": {"x": [1]}, "error": float("nan")}]}
    assert zoo_check.verdict(found, "classifier") == "wrong at {'x': [1]}"
