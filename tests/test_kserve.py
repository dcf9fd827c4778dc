"""KServe's SDK in front of the server, asked by its own clients and Triton's: what it says the library says.

Triton's client and the SDK cannot be in one process: each has the protocol's messages, under the same names.
"""

import asyncio
import base64
import json
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from servers import SECONDS, ask, serving

from onnx_deconv import Explainer

pytest.importorskip("starlette", reason="starlette, of the extra 'kserve', is not installed")
given, sys.argv = sys.argv, sys.argv[:1]  # the SDK reads them
kserve = pytest.importorskip("kserve", reason="kserve is not installed")
sys.argv = given

import grpc  # noqa: E402 - after the skip
from kserve.protocol.grpc import grpc_predict_v2_pb2 as messages  # noqa: E402
from kserve.protocol.grpc.grpc_predict_v2_pb2_grpc import GRPCInferenceServiceStub  # noqa: E402
from kubernetes import client as kubernetes  # noqa: E402

MODELS = Path(__file__).parents[1] / "models"
DEMO, CHELSEA = MODELS / "demo.onnx", MODELS / "chelsea.png"
EXAMPLES = MODELS.parent / "docs/examples/serve"
TOKEN, METADATA = {"Authorization": "Bearer secret"}, [("authorization", "Bearer secret")]
pytestmark = pytest.mark.slow


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as found:
        return found.getsockname()[1]


@contextmanager
def started(*arguments, **environment):
    """Start the server with the SDK; yield its process, its ports for HTTP and for gRPC, and its log."""
    port = free_port()
    command = ("serve", *arguments, "--kserve", "--grpc-port", port)
    with serving(*command, **environment) as (process, http, log):
        assert ask(http, "GET", "/v2/health/ready")[0] == 200  # from here on gRPC is answered, too
        yield process, http, port, log


@pytest.fixture(scope="module")
def server():
    with started(DEMO, "--max-batch", 3) as found:
        yield found


@pytest.fixture(scope="module")
def demo():
    return Explainer(DEMO, "auto")


def images(count):
    return np.random.default_rng(0).standard_normal((count, 3, 64, 64)).astype(np.float32)


def close(found, expected):
    """Equal but for the order in which runs of other sizes add."""
    assert np.shape(found) == np.shape(expected)
    return np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()


def v1(port, verb, request, **headers):
    """Ask by the older protocol; return the status, the headers and the answer."""
    body = request if isinstance(request, bytes) else json.dumps(request)
    status, headers, body = ask(port, "POST", f"/v1/models/demo:{verb}", body, headers)
    return status, headers, json.loads(body)


def message(*inputs, outputs=(), **fields):
    """Write a request for gRPC; each input is its name, its datatype, its shape and its bytes."""
    tensor = messages.ModelInferRequest.InferInputTensor
    wanted = messages.ModelInferRequest.InferRequestedOutputTensor
    return messages.ModelInferRequest(
        **{"model_name": "demo", **fields},
        inputs=[tensor(name=name, datatype=kind, shape=shape) for name, kind, shape, _ in inputs],
        raw_input_contents=[content for *_, content in inputs],
        outputs=[wanted(name=name) for name in outputs],
    )


def element(content):
    """Write an element of BYTES."""
    return len(content).to_bytes(4, "little") + content


def asked(batch, *targets, **fields):
    """Ask for the explanations of images."""
    image = ("image", "FP32", batch.shape, batch.tobytes())
    return message(image, ("target", "INT64", [len(targets)], np.array(targets).tobytes()), **fields)


def arrays(answer):
    """Return the outputs of an answer by their names."""
    kinds = {"FP32": np.float32, "UINT8": np.uint8, "INT64": np.int64}
    pairs = zip(answer.outputs, answer.raw_output_contents, strict=True)
    return {o.name: np.frombuffer(content, kinds[o.datatype]).reshape(o.shape) for o, content in pairs}


@contextmanager
def service_at(port):
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield GRPCInferenceServiceStub(channel)


def infer(port, request, headers=()):
    with service_at(port) as service:
        return service.ModelInfer(request, metadata=headers)


def refused(call, *arguments):
    """Make a call that fails; return gRPC's code, and what the server says."""
    with pytest.raises(grpc.RpcError) as found:
        call(*arguments)
    return found.value.code().name, found.value.details()


def test_the_older_protocol_answers_and_explains(server, demo):
    _, port, _, _ = server
    batch = images(2)
    rows = {"instances": batch.tolist()}
    status, _, answer = v1(port, "predict", rows)
    assert (status, list(answer)) == (200, ["predictions"])
    assert close(answer["predictions"], demo.scores(batch))
    wanted = {"target": [7, 30], "outputs": ["explained", "reconstruction"]}
    status, _, answer = v1(port, "explain", rows | wanted)
    assert (status, [row["explained"] for row in answer["explanations"]]) == (200, [7, 30])
    for k, target in enumerate((7, 30)):
        (one,) = demo(batch[k : k + 1], target)
        assert close(answer["explanations"][k]["reconstruction"], one.reconstruction)


def test_photographs_and_labels_by_the_older_protocol(server, demo):
    file = {"b64": base64.b64encode(CHELSEA.read_bytes()).decode()}
    lion = demo.explain(CHELSEA, "lion")
    for rows in ({"instances": [file], "target": "lion"}, {"instances": [{"photo": file, "target": "lion"}]}):
        _, _, answer = v1(server[1], "explain", rows | {"outputs": ["reconstruction", "explained"]})
        (found,) = answer["explanations"]
        assert found["explained"] == lion.channel
        assert close(found["reconstruction"], lion.array)


def test_every_output_comes_where_none_is_named(server):
    _, port, _, _ = server
    told = json.loads(ask(port, "GET", "/v2/models/demo")[2])["outputs"]
    _, _, answer = v1(port, "explain", {"instances": images(1).tolist()})
    assert sorted(answer["explanations"][0]) == sorted(output["name"] for output in told)


@pytest.mark.parametrize("protocol", ["grpc", "v2", "v1"])
def test_its_own_clients_are_answered(server, demo, protocol):
    _, port, wire, _ = server
    batch, home = images(1), f"http://127.0.0.1:{port}"
    (expected,) = demo(batch, 7)

    async def found(*, binary):
        inputs = [
            kserve.InferInput("image", [1, 3, 64, 64], "FP32"),
            kserve.InferInput("target", [1], "INT64"),
        ]
        for each, array in zip(inputs, (batch, np.array([7])), strict=True):
            each.set_data_from_numpy(array, binary_data=binary)
        request = kserve.InferRequest("demo", inputs)
        if protocol == "grpc":
            async with kserve.InferenceGRPCClient(f"127.0.0.1:{wire}") as one:
                assert await one.is_server_ready()
                assert await one.is_model_ready("demo")
                return await one.infer(request)
        async with kserve.InferenceRESTClient(kserve.RESTConfig(protocol=protocol)) as one:
            assert await one.is_server_live(home)
            assert await one.is_model_ready(home, "demo")
            if protocol == "v2":
                return await one.infer(home, request, model_name="demo")
            return await one.explain(home, "demo", {"instances": batch.tolist(), "target": 7})

    for binary in (True, False):
        answer = asyncio.run(found(binary=binary))
        if protocol == "v1":
            reconstruction = answer["explanations"][0]["reconstruction"]
        else:
            (reconstruction,) = answer.get_output_by_name("reconstruction").as_numpy()
        assert close(reconstruction, expected.reconstruction)


def test_metadata_over_grpc_are_those_over_http(server):
    _, port, wire, _ = server
    told = json.loads(ask(port, "GET", "/v2/models/demo")[2])
    with service_at(wire) as service:
        found = service.ModelMetadata(messages.ModelMetadataRequest(name="demo"))
        assert service.ServerLive(messages.ServerLiveRequest()).live
    for side in ("inputs", "outputs"):
        assert [(t.name, t.datatype, list(t.shape)) for t in getattr(found, side)] == [
            (t["name"], t["datatype"], t["shape"]) for t in told[side]
        ]


def test_photographs_and_requested_outputs_over_grpc(server, demo):
    photo, target = element(CHELSEA.read_bytes()), element(b"lion")
    inputs = ("photo", "BYTES", [1], photo), ("target", "BYTES", [1], target)
    answer = infer(
        server[2], message(*inputs, outputs=["heat", "reconstruction"], id="mine", model_version="1")
    )
    found, lion = arrays(answer), demo.explain(CHELSEA, "lion")
    assert (answer.id, list(found)) == ("mine", ["heat", "reconstruction"])
    assert close(found["reconstruction"][0], lion.array)
    row = {"instances": [{"b64": base64.b64encode(CHELSEA.read_bytes()).decode()}], "target": "lion"}
    _, _, over_http = v1(server[1], "explain", row | {"outputs": ["heat"]})
    assert np.array_equal(found["heat"], over_http["explanations"])


def test_no_wrong_answer_when_many_ask_at_once(server, demo):
    _, port, wire, _ = server
    batch = images(8)
    expected = [demo(batch[k : k + 1], 10 * k)[0].reconstruction for k in range(8)]
    scores = demo.scores(batch)

    def over_grpc(k):
        return close(arrays(infer(wire, asked(batch[k : k + 1], 10 * k)))["reconstruction"][0], expected[k])

    def explained(k):
        row = {"image": batch[k].tolist(), "target": 10 * k}
        found = v1(port, "explain", {"instances": [row], "outputs": ["reconstruction"]})
        return close(found[2]["explanations"][0], expected[k])

    def predicted(k):
        return close(v1(port, "predict", {"instances": [batch[k].tolist()]})[2]["predictions"][0], scores[k])

    kinds = (over_grpc, explained, predicted)
    with ThreadPoolExecutor(16) as threads:
        checks = [threads.submit(one, k) for _ in range(4) for k in range(8) for one in kinds]
        assert all(check.result() for check in checks)


IMAGE = np.zeros((3, 64, 64)).tolist()
BAD = {
    "not JSON": b"{",
    "no object": b"[]",
    "deep": b'{"instances":' + b"[" * 100_000,
    "no instances": {},
    "none": {"instances": []},
    "no list": {"instances": "x"},
    "an unknown key": {"instances": [IMAGE], "taget": 1},
    "an unknown input": {"instances": [{"picture": IMAGE}]},
    "two kinds": {"instances": [IMAGE, {"b64": "AAAA"}]},
    "rows of unequal length": {"instances": [[[1.0], [1.0, 2.0]]]},
    "another shape": {"instances": [[[1.0]]]},
    "texts": {"instances": [[["a"]]]},
    "no photograph": {"instances": [{"b64": "AAAA"}]},
    "no base64": {"instances": [{"b64": 7}]},
    "an unknown class": {"instances": [IMAGE], "target": 100},
    "an unknown label": {"instances": [IMAGE], "target": "unicorn"},
    "half a class": {"instances": [IMAGE], "target": 1.5},
    "several classes": {"instances": [IMAGE], "target": [1, 2]},
    "an unknown output": {"instances": [IMAGE], "outputs": ["x"]},
    "no names": {"instances": [IMAGE], "outputs": "heat"},
}


@pytest.mark.parametrize("request_", BAD.values(), ids=BAD)
def test_a_mistake_by_the_older_protocol_is_answered_in_one_line(server, request_):
    status, _, answer = v1(server[1], "explain", request_)
    assert (status, list(answer)) == (400, ["error"])
    assert "\n" not in answer["error"]


def test_a_target_where_nothing_is_explained_is_refused(server):
    _, port, wire, _ = server
    rows, idle = {"instances": [IMAGE], "target": 7}, "'target': nothing is explained here"
    status, _, answer = v1(port, "predict", rows)
    assert (status, answer["error"].startswith(idle)) == (400, True)
    assert v1(port, "predict", rows | {"outputs": ["explained"]})[2] == {"predictions": [7]}
    code, said = refused(infer, wire, asked(images(1), 7, outputs=["probabilities"]))
    assert (code, said.startswith(idle), "\n" in said) == ("INVALID_ARGUMENT", True, False)


def image(content, kind="FP32", shape=(1, 3, 64, 64), name="image"):
    return message((name, kind, shape, content))


MISFITS = {
    "too few bytes": image(bytes(12)),
    "part of a number": image(bytes(13)),
    "no such type": image(bytes(4), "FP31"),
    "a length behind the end": image(b"\xff\xff\xff\xff", "BYTES", [1], "photo"),
    "no length": image(b"\0", "BYTES", [1], "photo"),
    "a huge shape": image(bytes(4), shape=[2**40, 2**40]),
    "a negative shape": image(bytes(4), shape=[-7]),
    "another type": image(bytes(8 * 3 * 64 * 64), "FP64"),
    "another input": image(bytes(4), shape=[1], name="x"),
    "no photograph": image(element(b"GIF8"), "BYTES", [1], "photo"),
    "no text": message(("photo", "BYTES", [1], element(b"")), ("target", "BYTES", [1], element(b"\xff"))),
    "no bytes": messages.ModelInferRequest(model_name="demo", inputs=image(b"").inputs),
    "no inputs": messages.ModelInferRequest(model_name="demo"),
    "one input twice": message(*[("image", "FP32", (1, 3, 64, 64), bytes(4 * 3 * 64 * 64))] * 2),
    "an unknown class": asked(images(1), 100),
    "an unknown output": asked(images(1), 1, outputs=["x"]),
}


@pytest.mark.parametrize("request_", MISFITS.values(), ids=MISFITS)
def test_a_mistake_over_grpc_is_an_invalid_argument_in_one_line(server, request_):
    code, said = refused(infer, server[2], request_)
    assert (code, "\n" in said) == ("INVALID_ARGUMENT", False)


def test_what_does_not_exist_is_named(server):
    _, port, wire, _ = server
    assert refused(infer, wire, asked(images(1), 1, model_name="x"))[0] == "NOT_FOUND"
    assert refused(infer, wire, asked(images(1), 1, model_version="2"))[0] == "NOT_FOUND"
    with service_at(wire) as service:
        assert refused(service.ModelMetadata, messages.ModelMetadataRequest(name="x"))[0] == "NOT_FOUND"
        assert refused(service.ModelReady, messages.ModelReadyRequest(name="x"))[0] == "NOT_FOUND"
    assert ask(port, "GET", "/v1/models/x")[0] == ask(port, "POST", "/v1/models/x:explain", "{}")[0] == 404


def test_no_caller_takes_a_model_away(server):
    _, port, wire, _ = server
    with service_at(wire) as service:
        for call, request in (
            (service.RepositoryModelUnload, messages.RepositoryModelUnloadRequest(model_name="demo")),
            (service.RepositoryModelLoad, messages.RepositoryModelLoadRequest(model_name="demo")),
        ):
            assert refused(call, request) == ("UNIMPLEMENTED", "models are chosen when the server starts")
    assert ask(port, "GET", "/v1/models/demo")[0] == 200


def test_the_headers_of_a_request_are_not_sent_back(server):
    row = {"instances": [IMAGE], "outputs": ["explained"]}
    status, headers, _ = v1(server[1], "explain", row, Authorization="Bearer mine", Mine="x")
    assert status == 200
    assert not {"authorization", "mine", "host"} & {name.lower() for name in headers}


def test_every_answer_is_counted_and_logged(server):
    _, port, wire, log = server
    v1(port, "explain", {"instances": [IMAGE]})
    infer(wire, asked(images(1), 1))
    counts = ask(port, "GET", "/metrics")[2].decode()
    for route in ("explain", "ModelInfer"):
        assert f'onnx_deconv_requests_total{{model="demo",route="{route}",status="200"}}' in counts
    lines = [json.loads(line) for line in list(log)]
    last = next(
        line for line in reversed(lines) if line.get("route") == "ModelInfer" and line["status"] == 200
    )
    assert last.items() >= {"client": "127.0.0.1", "method": "gRPC", "model": "demo", "images": 1}.items()


@pytest.fixture(scope="module")
def small():
    """A server with a token and narrow limits."""
    with started(DEMO, "--queue", 1, "--max-body", 1, ONNX_DECONV_TOKEN="secret") as found:
        yield found


def test_who_has_no_token_is_refused(small):
    _, port, wire, _ = small
    row = {"instances": [IMAGE], "outputs": ["explained"]}
    assert v1(port, "explain", row)[0] == 401
    assert v1(port, "explain", row, **TOKEN)[0] == 200
    with service_at(wire) as service:
        assert service.ServerReady(messages.ServerReadyRequest()).ready
    request = asked(images(1), 1)
    assert arrays(infer(wire, request, METADATA))["explained"].tolist() == [1]
    for headers in ((), (("authorization", "Bearer x"),)):
        assert refused(infer, wire, request, headers)[0] == "UNAUTHENTICATED"


def test_limits_are_kept(small):
    _, port, wire, _ = small
    large = images(30)  # 1.5 MB
    assert v1(port, "explain", {"instances": large.tolist()}, **TOKEN)[0] == 413
    assert refused(infer, wire, asked(large, 1), METADATA)[0] == "RESOURCE_EXHAUSTED"
    head = "POST /v1/models/demo:explain HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n"
    with socket.create_connection(("127.0.0.1", port), SECONDS) as waiting:
        waiting.sendall(f"{head}Authorization: Bearer secret\r\n\r\n{{".encode())  # not all of it
        while b"onnx_deconv_open_requests 2.0" not in ask(port, "GET", "/metrics", headers=TOKEN)[2]:
            pass
        said = refused(infer, wire, asked(images(1), 1), METADATA)
        assert said == ("RESOURCE_EXHAUSTED", "1 requests are waiting: try again")


@pytest.mark.skipif(sys.platform == "win32", reason="it has no such signals")
def test_open_requests_are_answered_before_it_stops(demo):
    batch = images(1)
    (expected,) = demo(batch, 7)
    with started(DEMO) as (process, _, wire, log), service_at(wire) as service:
        calls = [service.ModelInfer.future(asked(batch, 7)) for _ in range(40)]
        good = [calls[0].result(SECONDS)]
        process.send_signal(signal.SIGTERM)
        for call in calls[1:]:
            if call.exception(SECONDS) is None:
                good.append(call.result())
            else:  # it had not come yet; its client may ask another server
                assert call.code() == grpc.StatusCode.UNAVAILABLE
        assert process.wait(SECONDS) == 0
    assert all(close(arrays(each)["reconstruction"][0], expected.reconstruction) for each in good)
    assert "Traceback" not in "".join(log)


def code_of(service, request):
    """Return the code of gRPC's error; ``None`` where there is an answer."""
    error = service.ModelInfer.future(request, timeout=SECONDS).exception()
    return None if error is None else error.code()


@pytest.mark.skipif(sys.platform == "win32", reason="it has no such signals")
def test_both_protocols_stop_at_once():
    """Else what is open over HTTP would delay gRPC, and it would take twice as long as callers may."""
    batch = images(1)
    photo = CHELSEA.read_bytes()
    with started(DEMO) as (process, http, wire, _), service_at(wire) as service:
        assert service.ModelInfer(asked(batch, 7), timeout=SECONDS)
        with socket.create_connection(("127.0.0.1", http), SECONDS) as caller:
            head = (
                f"POST /v2/models/demo/infer HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(photo)}\r\n"
            )
            caller.sendall(f"{head}Content-Type: image/png\r\n\r\n".encode() + photo[:1000])
            while b"onnx_deconv_open_requests 2.0" not in ask(http, "GET", "/metrics")[2]:
                pass
            process.send_signal(signal.SIGTERM)
            codes = iter(lambda: code_of(service, asked(batch, 7)), grpc.StatusCode.UNAVAILABLE)
            assert {*codes} <= {None}  # until gRPC has stopped, though a request over HTTP is open
            assert process.poll() is None
            caller.sendall(photo[1000:])
            assert caller.recv(100).startswith(b"HTTP/1.1 200")
        assert process.wait(SECONDS) == 0


def test_a_port_that_is_taken_is_named(server):
    command = [sys.executable, "-m", "onnx_deconv", "serve", DEMO, "--kserve", "--grpc-port", server[2]]
    found = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    assert (found.returncode, found.stderr.count("\n")) == (2, 1)
    assert "choose another with --host or --grpc-port" in found.stderr


def test_the_example_of_the_documentation_runs(server):
    pytest.importorskip("tritonclient", reason="tritonclient is not installed")
    page = (MODELS.parent / "docs" / "serve.md").read_text(encoding="utf-8")
    example = page.partition("## KServe")[2].partition("```python\n")[2].partition("```")[0]
    example = example.replace("localhost:8081", f"localhost:{server[2]}").replace("cat.jpg", str(CHELSEA))
    found = subprocess.run([sys.executable, "-c", example], capture_output=True, text=True, check=True)
    assert found.stdout == "(1, 64, 64, 3) [30]\n"


# The example


def service():
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")
    return yaml.safe_load((EXAMPLES / "explainer.yaml").read_text(encoding="utf-8"))


def test_the_service_has_the_fields_that_kserve_knows():
    spec = service()["spec"]
    (container,) = spec["explainer"]["containers"]
    for given, known in (
        (spec, kserve.V1beta1InferenceServiceSpec),
        (spec["explainer"], kserve.V1beta1ExplainerSpec),
        (spec["predictor"], kserve.V1beta1PredictorSpec),
        (spec["predictor"]["model"], kserve.V1beta1ModelSpec),
        (container, kubernetes.V1Container),
        (container["securityContext"], kubernetes.V1SecurityContext),
        (container["ports"][0], kubernetes.V1ContainerPort),
    ):
        assert set(given) <= set(known.attribute_map.values())


def test_the_explainer_starts_with_the_arguments_that_kserve_adds():
    description = service()
    (container,) = description["spec"]["explainer"]["containers"]
    name = description["metadata"]["name"]
    (variable,) = (entry["name"] for entry in container["env"])
    port = free_port()
    # As pkg/apis/serving/v1beta1/explainer_custom.go of KServe appends them.
    added = ["--model_name", name, "--predictor_host", f"{name}-predictor.default", "--http_port", "8080"]
    assert container["ports"][0]["containerPort"] == 8080
    assert all(container[probe]["httpGet"]["port"] == 8080 for probe in ("readinessProbe", "livenessProbe"))
    given = [str(port) if each == "8080" else each for each in (*container["args"], *added, "--workers", "1")]
    given[given.index("/models/model.onnx")] = str(DEMO)
    lines = (EXAMPLES / "Dockerfile").read_text(encoding="utf-8").splitlines()
    entry = next(json.loads(line.partition(" ")[2]) for line in lines if line.startswith("ENTRYPOINT"))
    wire = ["--grpc-port", free_port()]
    with serving(*entry[1:], *given, *wire, **{variable: "secret"}) as (_, found, _):
        assert found == port
        for probe in ("readinessProbe", "livenessProbe"):
            assert ask(port, "GET", container[probe]["httpGet"]["path"])[0] == 200
        where = f"/v1/models/{name}:explain"
        asked = json.dumps({"instances": [IMAGE], "target": 7, "outputs": ["explained"]})
        assert json.loads(ask(port, "POST", where, asked, TOKEN)[2]) == {"explanations": [7]}
