"""Model repositories for Triton: read by the server's own schema, and run as the server would batch them."""

import importlib.util
import json
from importlib import metadata

import numpy as np
import onnx
import onnxruntime
import pytest
from commands import run as command
from google.protobuf import text_format
from oracle import assert_close
from small_networks import ROWS, network, random

from onnx_deconv import Explainer, InputError, compile_pair, explain_graph, load
from onnx_deconv.compiler.triton import save_repository
from onnx_deconv.runtime import Session
from onnx_deconv.verification import heeds_neighbours


@pytest.fixture(scope="module")
def schema():
    """The server's schema of a configuration, from its client's package, without gRPC."""
    try:
        files = metadata.files("tritonclient") or []
    except metadata.PackageNotFoundError:
        pytest.skip("tritonclient is not installed")
    path = next(f for f in files if f.name == "model_config_pb2.py" and f.parent.name == "grpc").locate()
    spec = importlib.util.spec_from_file_location("model_config_pb2", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def read(schema, folder):
    return text_format.Parse((folder / "config.pbtxt").read_text(), schema.ModelConfig())


def repository(path, proto=None, **options):
    model = load(proto if proto is not None else network(size="12,14"))
    save_repository(model, explain_graph(compile_pair(model, kind="classes"), **options), path, "net")
    return path


def session(folder):
    return onnxruntime.InferenceSession(folder / "1" / "model.onnx", providers=["CPUExecutionProvider"])


def batched(config, sizes, batch):
    """The shape that the server gives the model for a value, by its documentation of `reshape`."""
    dims = list(config.reshape.shape) if config.HasField("reshape") else list(config.dims)
    return ([batch] if sizes else []) + dims


@pytest.mark.parametrize("name", ["net", "net_explain"])
@pytest.mark.parametrize("top", [1, 2])
def test_configurations_are_read_by_the_servers_schema_and_fit_the_models(schema, tmp_path, name, top):
    home = repository(tmp_path, top=top, rendering="NCHW") / name
    config, model = read(schema, home), session(home)
    assert (config.name, config.backend, config.max_batch_size) == (name, "onnxruntime", 8)
    assert config.HasField("dynamic_batching")
    types = {"tensor(float)": "TYPE_FP32", "tensor(int64)": "TYPE_INT64", "tensor(uint8)": "TYPE_UINT8"}
    for declared, values in ((config.input, model.get_inputs()), (config.output, model.get_outputs())):
        assert [d.name for d in declared] == [v.name for v in values]
        for entry, value in zip(declared, values, strict=True):
            assert schema.DataType.Name(entry.data_type) == types[value.type]
            assert len(entry.dims) > 0  # the server refuses a value without dimensions
            dims = [d if isinstance(d, int) else -1 for d in value.shape]
            assert batched(entry, config.max_batch_size, -1) == dims


def test_warming_up_with_the_sizes_of_the_configuration_works(schema, tmp_path):
    home = repository(tmp_path) / "net_explain"
    (sample,), model = read(schema, home).model_warmup, session(home)
    declared = {d.name: d for d in read(schema, home).input}
    feeds = {}
    for name, given in sample.inputs.items():
        assert given.zero_data
        rank = len(model.get_inputs()[[i.name for i in model.get_inputs()].index(name)].shape)
        dims = list(given.dims) if rank > 1 else []
        dtype = np.int64 if declared[name].data_type == schema.TYPE_INT64 else np.float32
        feeds[name] = np.zeros([sample.batch_size, *dims], dtype)
    assert set(feeds) == {"x", "target"}
    assert len(model.run(None, feeds)) == len(model.get_outputs())


def test_requests_that_the_server_batches_get_what_they_get_alone(tmp_path):
    home = repository(tmp_path)
    explain, plain = session(home / "net_explain"), session(home / "net")
    x, target = random(3, 3, 12, 14), np.array([4, 1, 0])
    whole = explain.run(["reconstruction", "explained", "y"], {"x": x, "target": target})
    alone = [e.reconstruction for e in Explainer(network(), providers="cpu")(x, target.tolist(), seed="one")]
    assert_close(whole[0], alone, 1e-6)
    np.testing.assert_array_equal(whole[1], target)
    np.testing.assert_allclose(plain.run(["y"], {"x": x})[0], whole[2], rtol=0, atol=1e-6)


def test_a_model_of_fixed_batch_is_not_batched(schema, tmp_path):
    home = repository(tmp_path, network(batch=2, size="12,14")) / "net_explain"
    config = read(schema, home)
    assert config.max_batch_size == 0
    assert not config.HasField("dynamic_batching")
    assert [list(i.dims) for i in config.input] == [[2, 3, 12, 14], [2]]
    assert not any(i.HasField("reshape") for i in config.input)


def test_names_of_any_kind_are_read_by_the_servers_schema(schema, tmp_path):
    proto, name = network(size="12,14"), 'im"age\\ of\nKöln:0'
    proto.graph.input[0].name = proto.graph.node[0].input[0] = name
    config = read(schema, repository(tmp_path, proto) / "net_explain")
    assert [i.name for i in config.input] == [name, "target"]
    assert set(config.model_warmup[0].inputs) == {name, "target"}


def test_results_that_cannot_be_parted_by_images_are_not_batched(schema, tmp_path):
    home = repository(tmp_path, onnx.parser.parse_model(ROWS))
    for name in ("net", "net_explain"):
        config = read(schema, home / name)
        assert config.max_batch_size == 0
        assert [list(o.dims) for o in config.output[:2]] == [[-1, 3], [-1, 1]]


@pytest.mark.parametrize(
    ("kind", "number"),
    [("TYPE_INT16", 5), ("TYPE_UINT16", 4), ("TYPE_UINT64", 13), ("TYPE_STRING", 8), ("TYPE_BF16", 16)],
)
def test_outputs_of_all_types_of_the_server_are_described(schema, tmp_path, kind, number):
    text = ROWS.replace("float[M, 1] rows", "float[N, 3] rows").replace(
        "rows = Reshape (scores, all)", f"rows = Cast <to = {number}> (scores)"
    )
    proto = onnx.parser.parse_model(text)
    proto.graph.output[1].type.tensor_type.elem_type = number
    config = read(schema, repository(tmp_path, proto) / "net")
    assert schema.DataType.Name(config.output[1].data_type) == kind


def test_what_the_server_would_refuse_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(InputError, match="no optional inputs"):
        repository(tmp_path, target_input="optional")
    text = ROWS.replace("float[M, 1] rows", "float rows").replace(
        "rows = Reshape (scores, all)", "rows = ReduceMax <keepdims = 0> (scores)"
    )
    with pytest.raises(InputError, match="'rows' has no axes"):
        repository(tmp_path, onnx.parser.parse_model(text))
    text = (
        ROWS.replace("float[M, 1] rows", "float8e5m2[N, 3] rows")
        .replace("rows = Reshape (scores, all)", "rows = Cast <to = 19> (scores)")
        .replace('"": 17', '"": 19')
        .replace("ir_version: 8", "ir_version: 9")
    )
    with pytest.raises(InputError, match="'rows' is float8e5m2"):
        repository(tmp_path, onnx.parser.parse_model(text))
    assert not list(tmp_path.iterdir())


def test_sizes_that_are_given_are_those_of_both_models(schema, tmp_path):
    model = load(network(), {"x": ("N", 3, 12, 14)})
    save_repository(model, explain_graph(compile_pair(model)), tmp_path, "net")
    for name in ("net", "net_explain"):
        assert session(tmp_path / name).get_inputs()[0].shape == ["N", 3, 12, 14]
        assert list(read(schema, tmp_path / name).input[0].dims) == [3, 12, 14]


def test_gpus_are_asked_for_where_the_graph_is_for_one(schema, tmp_path):
    for runtime, kind in (("onnxruntime", "KIND_CPU"), ("cuda", "KIND_GPU")):
        (group,) = read(
            schema, repository(tmp_path / runtime, runtime=runtime) / "net_explain"
        ).instance_group
        assert schema.ModelInstanceGroup.Kind.Name(group.kind) == kind
    with pytest.raises(InputError, match="not for web"):
        repository(tmp_path / "web", runtime="web")


def test_requests_are_not_put_together_where_the_model_mixes_images(schema, tmp_path):
    text = """
        <ir_version: 8, opset_import: ["": 17]>
        net (float[N, 3, 8, 8] x) => (float[N, 3] y) {
            mean = ReduceMean<axes = [0]>(x)
            centred = Sub(x, mean)
            pooled = GlobalMaxPool(centred)
            y = Flatten(pooled)
        }
    """
    onnx.save(onnx.parser.parse_model(text), tmp_path / "net.onnx")
    code, out, _ = command(
        "convert", tmp_path / "net.onnx", "-o", tmp_path / "models", "--form", "triton", "--kind", "classes"
    )
    assert (code, "requests are not put together" in out) == (0, True)
    mixing = load(tmp_path / "net.onnx")
    assert heeds_neighbours(mixing, Session(mixing.proto, mixing.folder).run_plainly, None)  # as Python would
    for name in ("net", "net_explain"):
        assert read(schema, tmp_path / "models" / name).max_batch_size == 0


def test_convert_writes_a_repository(schema, tmp_path):
    onnx.save(network(), tmp_path / "net.onnx")
    code, stdout, _ = command(
        "convert", tmp_path / "net.onnx", "-o", tmp_path / "made", "--form", "triton", "--json"
    )
    record = json.loads(stdout)
    assert code == 0
    assert record["passed"]
    assert record["bytes"].keys() == {
        "net/1/model.onnx", "net/config.pbtxt", "net_explain/1/model.onnx", "net_explain/1/manifest.json",
        "net_explain/config.pbtxt",
    }  # fmt: skip
    for name in ("net", "net_explain"):
        assert read(schema, tmp_path / "made" / name).name == name
    manifest = json.loads((tmp_path / "made" / "net_explain" / "1" / "manifest.json").read_text())
    assert manifest["file"] == "model.onnx"
