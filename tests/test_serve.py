"""Servers: a real one is started and asked by a real client; what it answers is what the library says."""

import asyncio
import base64
import contextlib
import http.client
import io
import json
import re
import signal
import socket
import struct
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from commands import runner
from differences import close
from faint import leftovers
from PIL import Image
from servers import SECONDS, answered, ask, serving
from small_networks import ROWS

from onnx_deconv import Explainer, InputError
from onnx_deconv.cli import main
from onnx_deconv.imaging import preprocess_for

for name in ("starlette", "uvicorn", "prometheus_client"):
    pytest.importorskip(name, reason=f"{name}, of the extra 'serve', is not installed")

import uvicorn  # noqa: E402 - after the skip

from onnx_deconv.serving.application import _listening as listen  # noqa: E402
from onnx_deconv.serving.application import _Server as Server  # noqa: E402
from onnx_deconv.serving.application import models_app  # noqa: E402
from onnx_deconv.serving.batching import Alike, Job, Runs  # noqa: E402
from onnx_deconv.serving.bodies import in_time  # noqa: E402
from onnx_deconv.serving.connections import Connections  # noqa: E402
from onnx_deconv.serving.limits import Address, Limits  # noqa: E402
from onnx_deconv.serving.photographs import TooLargeError, read_photograph  # noqa: E402
from onnx_deconv.serving.protocol import Request, objects, parse, response  # noqa: E402
from onnx_deconv.serving.routes import _written  # noqa: E402
from onnx_deconv.serving.rows import request_of, rows_of  # noqa: E402
from onnx_deconv.serving.served import Served  # noqa: E402

MODELS = Path(__file__).parents[1] / "models"
DEMO, CHELSEA = MODELS / "demo.onnx", MODELS / "chelsea.png"
TYPES = {"FP32": "float32", "UINT8": "uint8", "INT64": "int64"}


def json_request(**inputs):
    def entry(name, array):
        kind = next(k for k, v in TYPES.items() if v == array.dtype.name)
        return {"name": name, "datatype": kind, "shape": list(array.shape), "data": array.ravel().tolist()}

    return {"inputs": [entry(name, np.asarray(array)) for name, array in inputs.items()]}


def arrays_of(body):
    return {
        o["name"]: np.array(o["data"], TYPES[o["datatype"]]).reshape(o["shape"])
        for o in json.loads(body)["outputs"]
    }


@pytest.fixture(scope="module")
def pairs_alone(tmp_path_factory):
    """A network that takes two images at a time, no more and no fewer."""
    text = """
        <ir_version: 8, opset_import: ["": 17]>
        net (float[2, 3, 16, 16] x) => (float[2, 5] scores) {
            c = Conv <pads = [1, 1, 1, 1]> (x, w)
            r = Relu (c)
            m = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (r)
            d = Conv (m, v)
            s = Relu (d)
            pooled = GlobalAveragePool (s)
            scores = Flatten (pooled)
        }
    """
    model, rng = onnx.parser.parse_model(text), np.random.default_rng(3)
    for name, shape in (("w", (4, 3, 3, 3)), ("v", (5, 4, 3, 3))):
        array = rng.standard_normal(shape).astype(np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    path = tmp_path_factory.mktemp("models") / "net.onnx"
    onnx.save(model, path)
    return path


@pytest.fixture(scope="module")
def server(pairs_alone):
    with serving("serve", f"demo={DEMO}", f"two={pairs_alone}", "--max-batch", 3) as found:
        yield found


@pytest.fixture(scope="module")
def demo():
    explainer = Explainer(DEMO, "auto")
    return explainer, preprocess_for(explainer.model)[0]


def images(count, size=64):
    return np.random.default_rng(0).standard_normal((count, 3, size, size)).astype(np.float32)


@pytest.mark.slow
def test_metadata_say_what_comes(server):
    _, port, _ = server
    told = json.loads(ask(port, "GET", "/v2/models/demo")[2])
    assert [i["name"] for i in told["inputs"]] == ["image", "photo", "target"]
    answer = json.loads(
        ask(port, "POST", "/v2/models/demo/infer", json.dumps(json_request(image=images(2))))[2]
    )
    assert [o["name"] for o in answer["outputs"]] == [o["name"] for o in told["outputs"]]
    for one, said in zip(answer["outputs"], told["outputs"], strict=True):
        assert one["datatype"] == said["datatype"]
        assert all(s in (-1, size) for s, size in zip(said["shape"], one["shape"], strict=True))
    index = json.loads(ask(port, "POST", "/v2/repository/index", "{}")[2])
    assert [model["name"] for model in index] == ["demo", "two"]
    assert ask(port, "GET", "/v2/models/demo/versions/1/ready")[0] == 200
    assert ask(port, "GET", "/v2/models/demo/versions/2")[0] == ask(port, "GET", "/v2/models/x")[0] == 404


@pytest.mark.slow
def test_a_client_of_the_protocol_gets_what_the_library_says(server, demo):
    triton = pytest.importorskip("tritonclient.http", reason="tritonclient is not installed")
    _, port, _ = server
    batch, targets = images(2), np.array([7, 30])
    (first,), (second,) = demo[0](batch[:1], 7), demo[0](batch[1:], 30)
    for binary in (True, False):
        inputs = [triton.InferInput("image", batch.shape, "FP32"), triton.InferInput("target", [2], "INT64")]
        for given, array in zip(inputs, (batch, targets), strict=True):
            given.set_data_from_numpy(array, binary_data=binary)
        wanted = [triton.InferRequestedOutput(n, binary_data=binary) for n in ("reconstruction", "heat")]
        with triton.InferenceServerClient(f"127.0.0.1:{port}") as client:
            assert client.is_server_ready()
            assert client.is_model_ready("demo")
            answer = client.infer("demo", inputs, outputs=wanted, request_id="mine")
        assert answer.get_response()["id"] == "mine"
        found = answer.as_numpy("reconstruction")
        assert close(found[0], first.reconstruction)
        assert close(found[1], second.reconstruction)
        assert answer.as_numpy("heat").shape == (2, 64, 64, 3)


@pytest.mark.slow
def test_the_example_of_the_documentation_runs(server, capsys):
    pytest.importorskip("tritonclient.http", reason="tritonclient is not installed")
    page = (MODELS.parent / "docs" / "serve.md").read_text(encoding="utf-8")
    example, *_ = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    exec(compile(example.replace("localhost:8000", f"localhost:{server[1]}"), "serve.md", "exec"), {})
    assert capsys.readouterr().out == "(1, 3, 64, 64)\n"


@pytest.mark.slow
def test_no_wrong_answer_when_many_ask_at_once(server, demo, pairs_alone):
    _, port, log = server
    batch, small = images(8), images(6, 16)
    expected = {k: demo[0](batch[k : k + 1], 10 * k)[0].reconstruction for k in range(8)}
    scores = demo[0].scores(batch)
    two = Explainer(pairs_alone, "auto")
    own = [two(small[k : k + 2], 3) for k in (0, 2, 4)]

    def explained(k):
        request = json_request(image=batch[k : k + 1], target=np.array([10 * k]))
        request["outputs"] = [{"name": "reconstruction"}]
        answer = ask(port, "POST", "/v2/models/demo/infer", json.dumps(request))
        return close(arrays_of(answer[2])["reconstruction"][0], expected[k])

    def answered(k):
        request = json_request(image=batch[k : k + 1]) | {"outputs": [{"name": "probabilities"}]}
        answer = ask(port, "POST", "/v2/models/demo/infer", json.dumps(request))
        return close(arrays_of(answer[2])["probabilities"][0], scores[k])

    def fixed(k):
        k = 1 + k % 5
        request = json_request(x=small[k : k + 1], target=np.array([3]))
        answer = ask(port, "POST", "/v2/models/two/infer", json.dumps(request))
        return close(arrays_of(answer[2])["reconstruction"][0], own[k // 2][k % 2].reconstruction)

    with ThreadPoolExecutor(12) as threads:
        checks = [
            threads.submit(ask_one, k)
            for _ in range(3)
            for k in range(8)
            for ask_one in (explained, answered, fixed)
        ]
        assert all(check.result() for check in checks)
    counts = ask(port, "GET", "/metrics")[2].decode()
    together = float(
        next(s for s in counts.splitlines() if s.startswith("onnx_deconv_run_images_count")).split()[1]
    )
    ran = float(next(s for s in counts.splitlines() if s.startswith("onnx_deconv_run_images_sum")).split()[1])
    assert together < ran  # some ran together
    line = json.loads(log[-1])
    assert {"request", "method", "path", "status", "seconds"} <= set(line)


@pytest.mark.slow
def test_a_photograph_alone_is_a_request(server, demo):
    _, port, _ = server
    explainer, preprocess = demo
    photo, kind = CHELSEA.read_bytes(), {"Content-Type": "image/png"}
    best = explainer.explain(CHELSEA)
    status, _, body = ask(port, "POST", "/v2/models/demo/infer", photo, kind)
    first = json.loads(body)["parameters"]["classes"][0]
    assert (status, first["class"], first["label"]) == (200, best.channel, best.label)
    assert first["score"] == pytest.approx(best.score, rel=1e-4)
    where = "/v2/models/demo/infer?target=lion&view="
    lion = explainer.explain(CHELSEA, "lion")
    for view, size in (("heat", lion.heat.size), ("side-by-side", None)):
        status, headers, body = ask(port, "POST", where + view, photo, kind)
        with Image.open(io.BytesIO(body)) as picture:
            assert (status, headers["content-type"], picture.format) == (200, "image/png", "PNG")
            assert size is None or np.abs(np.asarray(picture).astype(int) - np.asarray(lion.heat)).max() <= 3
    asked = {
        "inputs": [
            {"name": "photo", "datatype": "BYTES", "shape": [1], "data": [base64.b64encode(photo).decode()]}
        ]
    }
    asked["outputs"] = [{"name": "probabilities"}]
    found = arrays_of(ask(port, "POST", "/v2/models/demo/infer", json.dumps(asked))[2])["probabilities"]
    assert close(found, explainer.scores(preprocess.apply(np.asarray(Image.open(CHELSEA)))[0][None]))


BAD = {
    "not JSON": b"{",
    "no object": b"[]",
    "deep": b'{"inputs":' + b"[" * 100_000,
    "no inputs": b"{}",
    "no name": json.dumps({"inputs": [{}]}),
    "an unknown input": json.dumps(json_request(images=images(1))),
    "another type": json.dumps(json_request(image=np.zeros((1, 3, 64, 64), np.int64))),
    "another shape": json.dumps(json_request(image=np.zeros((1, 4, 64, 64), np.float32))),
    "no numbers": json.dumps(json_request(image=np.zeros((0, 3, 64, 64), np.float32))),
    "too few numbers": json.dumps(
        {"inputs": [{"name": "image", "datatype": "FP32", "shape": [1, 3, 64, 64], "data": [1.0]}]}
    ),
    "an unknown class": json.dumps(json_request(image=images(1), target=np.array([100]))),
    "no class": json.dumps(json_request(image=images(1), target=np.array([-2]))),
    "several classes": json.dumps(json_request(image=images(1), target=np.array([1, 2]))),
    "an unknown output": json.dumps(json_request(image=images(1)) | {"outputs": [{"name": "x"}]}),
    "a shape that nothing has": json.dumps(
        {"inputs": [{"name": "image", "datatype": "FP32", "shape": [0, 10**30], "data": []}]}
    ),
    "half a character": json.dumps(json_request(**{"\ud800": images(1)})),
    "a list for a label": json.dumps(
        {"inputs": [{"name": "target", "datatype": "BYTES", "shape": [1], "data": [[1]]}]}
    ),
    "no photograph": json.dumps(
        {"inputs": [{"name": "photo", "datatype": "BYTES", "shape": [1], "data": ["AAAA"]}]}
    ),
}


def test_a_photograph_above_the_reader_s_own_limit_is_too_large(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(TooLargeError, match="more than 100 pixels"):
        read_photograph(CHELSEA.read_bytes(), Limits.pixels)


@pytest.fixture(scope="module")
def app():
    """What a server answers with, in this process."""
    explainer = Explainer(DEMO, "auto")
    served = Served("demo", explainer, preprocess_for(explainer.model)[0], Limits.pixels)
    return models_app([served], Limits(), Address(), "0")


def test_a_model_answers_and_explains(app, demo):
    batch = images(2)
    asked = json.dumps(json_request(image=batch, target=np.array([3, 30])))
    status, body = answered(app, "POST", "/v2/models/demo/infer", asked)
    found = arrays_of(body)
    assert status == 200
    assert close(found["probabilities"], demo[0].scores(batch))
    for k, target in enumerate((3, 30)):
        (one,) = demo[0](batch[k : k + 1], target)
        assert close(found["reconstruction"][k], one.reconstruction)
    assert (
        b'onnx_deconv_requests_total{model="demo",route="infer",status="200"}'
        in answered(app, "GET", "/metrics")[1]
    )


@pytest.mark.parametrize("body", BAD.values(), ids=BAD)
def test_a_mistake_is_answered_in_one_line(app, body):
    status, answer = answered(app, "POST", "/v2/models/demo/infer", body)
    assert status == 400
    assert "\n" not in json.loads(answer)["error"]


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("taget=lion", "taget: the address may say output, target, view here"),
        ("view=heat&top=3&target=lion", "top: the address may say target, view here"),
        ("view=heat&output=probabilities", "output: the address may say"),
        ("view=heat&target=lion&target=7", "target: the address says it more than once"),
        ("target=lion", "target: nothing is explained here: ask for a view, or for output=reconstruction"),
        ("target=lion&output=probabilities", "target: nothing is explained here"),
    ],
)
def test_an_address_that_asks_for_what_would_be_ignored_is_refused(app, asked, said):
    where = f"/v2/models/demo/infer?{asked}"
    status, answer = answered(app, "POST", where, CHELSEA.read_bytes(), "image/png")
    assert status == 400
    assert said in json.loads(answer)["error"]


def test_a_target_where_none_is_looked_for_is_refused(app):
    message = json_request(image=images(1))
    where = "/v2/models/demo/infer"
    status, answer = answered(app, "POST", f"{where}?target=lion", json.dumps(message).encode())
    assert (status, json.loads(answer)["error"].startswith("target: tensors and what to")) == (400, True)
    message["parameters"] = {"target": 7}
    status, answer = answered(app, "POST", where, json.dumps(message).encode())
    assert status == 400
    assert "'target' is an input, not a parameter" in json.loads(answer)["error"]
    idle = "'target': nothing is explained here: name 'reconstruction' among the outputs, or leave it out"
    message = json_request(image=images(1), target=np.array([7]))
    for outputs, expected in ((["probabilities"], 400), (["probabilities", "explained"], 200)):
        message["outputs"] = [{"name": name} for name in outputs]
        status, answer = answered(app, "POST", where, json.dumps(message).encode())
        assert (status, json.loads(answer).get("error")) == (expected, idle if expected == 400 else None)


def test_images_with_numbers_that_are_none_are_not_explained(app):
    image = images(2)
    image[1, 2, 3, 4] = np.nan
    status, answer = answered(
        app, "POST", "/v2/models/demo/infer", json.dumps(json_request(image=image)).encode()
    )
    assert status == 400
    said = "input 'image': image 1 holds nan at [2, 3, 4]; all numbers have to be finite"
    assert json.loads(answer)["error"] == said


@pytest.mark.slow
def test_pages_of_other_origins_are_refused(server):
    _, port, _ = server
    origins = ("http://attacker.example", "null", "http://[")
    for headers in ({"Host": "attacker.example"}, *({"Origin": origin} for origin in origins)):
        assert ask(port, "GET", "/v2", headers=headers)[0] == 403
    assert ask(port, "GET", "/v2", headers={"Origin": f"http://127.0.0.1:{port}"})[0] == 200


@pytest.fixture(scope="module")
def small():
    """A server with a token and narrow limits."""
    limits = ["--queue", 1, "--max-body", 1, "--max-pixels", 200_000, "--timeout", 4]
    with serving("serve", DEMO, *limits, ONNX_DECONV_TOKEN="secret") as found:
        yield found


TOKEN = {"Authorization": "Bearer secret"}
PHOTO = TOKEN | {"Content-Type": "image/png"}


@pytest.mark.slow
def test_who_has_no_token_is_refused(small):
    _, port, _ = small
    for headers in ({}, {"Authorization": "Bearer Secret"}, {"Authorization": "Basic secret"}):
        assert ask(port, "GET", "/v2/models/demo", headers=headers)[0] == 401
        assert ask(port, "GET", "/metrics", headers=headers)[0] == 401
        assert ask(port, "GET", "/v2/health/ready", headers=headers)[0] == 200
    assert ask(port, "GET", "/v2/models/demo", headers=TOKEN)[0] == 200


def opened(port, size, sent):
    """Begin a request whose body does not all come."""
    connection = socket.create_connection(("127.0.0.1", port), SECONDS)
    head = f"POST /v2/models/demo/infer HTTP/1.1\r\nHost: localhost\r\nContent-Length: {size}\r\n"
    head += "".join(f"{name}: {value}\r\n" for name, value in PHOTO.items())
    connection.sendall(head.encode() + b"\r\n" + sent)
    return connection


def status_of(connection):
    answer = http.client.HTTPResponse(connection)
    answer.begin()
    return answer.status


@pytest.mark.slow
def test_limits_are_kept(small):
    _, port, _ = small
    where = "/v2/models/demo/infer"
    large = np.zeros((600, 600, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(large).save(file, "PNG")
    assert ask(port, "POST", where, file.getvalue(), PHOTO)[0] == 413
    connection = opened(port, 2 << 20, b"")
    assert status_of(connection) == 413
    connection.close()
    connection = socket.create_connection(("127.0.0.1", port), SECONDS)
    head = f"POST {where} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n"
    connection.sendall((head + "Authorization: Bearer secret\r\n\r\n").encode())
    for _ in range(17):  # a sixteenth more than is allowed
        connection.sendall(b"10000\r\n" + bytes(1 << 16) + b"\r\n")
    assert status_of(connection) == 413
    connection.close()
    assert ask(port, "POST", where, b"x", PHOTO | {"Content-Encoding": "gzip"})[0] == 415
    waiting = opened(port, 100, b"x")
    while True:  # until the server has begun to read it
        status, headers, _ = ask(port, "POST", where, CHELSEA.read_bytes(), PHOTO)
        if status != 200:
            break
    assert (status, headers["retry-after"]) == (429, "1")
    assert ask(port, "GET", "/v2/health/live")[0] == 200
    assert status_of(waiting) == 408
    waiting.close()
    assert ask(port, "POST", where, CHELSEA.read_bytes(), PHOTO)[0] == 200


@pytest.mark.slow
def test_who_sends_no_whole_request_is_not_waited_for(small):
    _, port, log = small
    heads = (b"", b"POST /v2/models/demo/infer HTTP/1.1\r\nHost: local")
    silent = [socket.create_connection(("127.0.0.1", port), SECONDS) for _ in heads]
    for connection, head in zip(silent, heads, strict=True):
        connection.sendall(head)
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=SECONDS)) as kept:
        kept.request("GET", "/v2/health/live")
        kept.getresponse().read()
        first = kept.sock
        for connection in silent:
            assert connection.recv(1) == b""
            connection.close()
        kept.request("GET", "/v2/health/live")  # one that has asked is kept for longer
        assert kept.getresponse().status == 200
        assert kept.sock is first
    gone = opened(port, 100, b"x")
    gone.close()
    while not any(json.loads(line)["status"] == 499 for line in list(log) if '"status"' in line):
        pass
    assert "traceback" not in "".join(log)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="it has no such signals")
def test_open_requests_are_answered_before_it_stops():
    with serving("serve", DEMO, ONNX_DECONV_TOKEN="secret") as (process, port, _):
        photo = CHELSEA.read_bytes()
        connection = opened(port, len(photo), photo[:1000])
        while b"onnx_deconv_open_requests 2.0" not in ask(port, "GET", "/metrics", headers=TOKEN)[2]:
            pass
        process.send_signal(signal.SIGTERM)
        while True:  # until it has stopped to listen
            try:
                ask(port, "GET", "/v2/health/live")
            except OSError:
                break
        connection.sendall(photo[1000:])
        assert status_of(connection) == 200
        connection.close()
        assert process.wait(SECONDS) == 0


def test_who_waits_to_be_accepted_when_it_stops_is_answered():
    """As they connect in the thread of the server, it accepts none before it is told to stop."""

    async def app(*given):
        send = given[-1]
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})

    async def answers():
        config = uvicorn.Config(app, interface="asgi3", lifespan="off", log_config=None)
        server, listening = Server(config, 1), listen(Address(port=0), 16)
        config.load()
        server.lifespan = config.lifespan_class(config)
        await server.startup([listening])
        with contextlib.ExitStack() as stack:
            at = listening.getsockname()
            callers = [stack.enter_context(socket.create_connection(at, SECONDS)) for _ in range(5)]
            for caller in callers:
                caller.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            server.should_exit = True
            await server.shutdown([listening])
            return [stack.enter_context(caller.makefile("rb")).read() for caller in callers]

    for answer in asyncio.run(answers()):
        head, _, body = answer.partition(b"\r\n\r\n")
        assert (head.splitlines()[0], body) == (b"HTTP/1.1 200 OK", b"ok")
        assert b"connection: close" in head.lower()  # else a caller would ask once more


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="it has no such signals")
@pytest.mark.parametrize("kept", [False, True])
def test_no_caller_is_lost_when_it_stops_under_load(kept):
    """Callers ask until nobody listens, each on one connection as long as the server keeps it, or on many."""
    with serving("serve", DEMO) as (process, port, _):
        answers, enough = [], threading.Event()

        def call():
            connection = None
            while True:
                if connection is None:
                    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=SECONDS)
                    try:
                        connection.connect()
                    except ConnectionRefusedError:
                        return
                connection.request("GET", "/v2/health/live")
                answer = connection.getresponse()
                answer.read()
                answers.append(answer.status)
                if len(answers) > 200:
                    enough.set()
                if not kept or answer.will_close:
                    connection.close()
                    connection = None

        with ThreadPoolExecutor(8) as pool:
            callers = [pool.submit(call) for _ in range(8)]
            enough.wait(SECONDS)
            process.send_signal(signal.SIGTERM)
            for caller in callers:
                caller.result()  # raises what it met: a connection that was broken
        assert process.wait(SECONDS) == 0
    assert set(answers) == {200}


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="it has no such signals")
@pytest.mark.parametrize("by", ["SIGTERM", "SIGINT", "SIGHUP"])
def test_it_stops_quietly_whoever_asks(by):
    with serving("serve", DEMO) as (process, port, log):
        assert ask(port, "GET", "/v2/health/live")[0] == 200
        process.send_signal(getattr(signal, by))
        assert process.wait(SECONDS) == 0
    assert "Traceback" not in "".join(log)


def run(*arguments, **environment):
    return runner(env={"ONNX_DECONV_TOKEN": "", **environment}).invoke(main, [str(a) for a in arguments])


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.0.7", "example.org"])
def test_it_is_not_open_to_other_machines_by_mistake(host):
    result = run("serve", DEMO, "--host", host)
    assert result.exit_code == 2
    assert "ONNX_DECONV_TOKEN" in result.stderr
    Address(host, token="secret").check()
    Address(host).check(open_to_all=True)


def test_mistakes_are_one_line():
    assert "two models are named 'demo'" in run("serve", DEMO, DEMO).stderr
    assert "without a slash" in run("serve", f"cats/large={DEMO}").stderr
    assert "header" in run("serve", DEMO, ONNX_DECONV_TOKEN="a b").stderr
    with socket.create_server(("127.0.0.1", 0)) as taken:
        result = run("serve", DEMO, "--port", taken.getsockname()[1])
    assert (result.exit_code, "cannot listen on 127.0.0.1" in result.stderr) == (2, True)


def test_a_model_that_cannot_be_explained_is_named(tmp_path):
    text = """
        <ir_version: 8, opset_import: ["": 17]>
        net (float[N, 3, 8, 8] x) => (int64[4] found) { found = Shape (x) }
    """
    onnx.save(onnx.parser.parse_model(text), tmp_path / "net.onnx")
    result = run("serve", f"mine={tmp_path / 'net.onnx'}")
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert "mine cannot be served" in result.stderr


def test_what_a_server_does_not_offer_is_not_the_way_out(tmp_path):
    text = """
        <ir_version: 8, opset_import: ["": 17]>
        net (float[N, 3, 8, 8] x) => (float[N, 3] embedding) {
            pooled = GlobalAveragePool (x)
            flat = Flatten (pooled)
            embedding = LpNormalization (flat)
        }
    """
    onnx.save(onnx.parser.parse_model(text), tmp_path / "net.onnx")
    result = run("serve", tmp_path / "net.onnx")
    assert "--seed unit" in result.stderr
    assert (
        "of what onnx-deconv convert --form explain makes; a server explains answers alone" in result.stderr
    )


def test_the_missing_extra_is_named(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "kserve" else name)
    result = run("serve", DEMO, "--kserve")
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert "kserve not installed: python -m pip install 'onnx-deconv[kserve]'" in result.stderr
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    assert "pip install 'onnx-deconv[serve]'" in run("serve", DEMO).stderr


def test_options_of_kserve_s_sdk_need_it(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    for given in (["--grpc-port", 9], ["--model_name", "x"], ["--http_port", 9], ["--workers", 2]):
        result = run("serve", DEMO, *given)
        assert (result.exit_code, f"{given[0]}: only with --kserve" in result.stderr) == (2, True)
    result = run("serve", DEMO, "--kserve", "--http_port", 8081)
    assert (result.exit_code, "choose another by --grpc-port" in result.stderr) == (2, True)


def test_binary_tensors_follow_the_json():
    array, texts = np.array([[1.5, -2.0]], np.float32), b"\x02\x00\x00\x00hi\x00\x00\x00\x00"
    head = json.dumps(
        {
            "inputs": [
                {"name": "a", "datatype": "FP32", "shape": [1, 2], "parameters": {"binary_data_size": 8}},
                {"name": "b", "datatype": "BYTES", "shape": [2], "parameters": {"binary_data_size": 10}},
            ]
        }
    ).encode()
    found = parse(head + struct.pack("<2f", 1.5, -2.0) + texts, str(len(head)))
    assert np.array_equal(found.inputs["a"], array)
    assert found.inputs["b"].tolist() == [b"hi", b""]
    for rest in (b"", bytes(8) + texts + b"x", bytes(8) + texts[:-1], bytes(8) + b"\x09" + texts[1:]):
        with pytest.raises(InputError):
            parse(head + rest, str(len(head)))
    for length in ("x", "-1", "²", "9" * 5000, str(len(head) + 100)):
        with pytest.raises(InputError, match="inference-header-content-length"):
            parse(head, length)


def test_texts_are_sent_in_either_form():
    texts = np.array(["hi", "", "é"], object)
    body, length = response("m", Request({}, {"y": True}), {"y": texts})
    (entry,) = json.loads(body[:length])["outputs"]
    assert (entry["datatype"], entry["parameters"]) == ("BYTES", {"binary_data_size": 16})
    assert body[length:] == b"\x02\0\0\0hi\0\0\0\0\x02\0\0\0\xc3\xa9"
    body, length = response("m", Request({}), {"y": texts})
    assert (json.loads(body)["outputs"][0]["data"], length) == (["hi", "", "é"], None)


def test_numbers_that_json_has_no_word_for_are_not_sent_as_such():
    array = np.array([np.nan, 1], np.float32)
    with pytest.raises(InputError, match="binary data"):
        response("m", Request({}), {"y": array})
    body, length = response("m", Request({}, {"y": True}), {"y": array})
    assert json.loads(body[:length])["outputs"][0]["parameters"] == {"binary_data_size": 8}
    assert np.array_equal(np.frombuffer(body[length:], "<f4"), array, equal_nan=True)


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("INT8", [128]),
        ("UINT8", [-1]),
        ("INT64", [1.5]),
        ("BOOL", [2]),
        ("FP32", ["1"]),
        ("FP32", [[1], [1, 2]]),
    ],
)
def test_numbers_of_another_type_are_refused(kind, data):
    with pytest.raises(InputError):
        parse(
            json.dumps(
                {"inputs": [{"name": "x", "datatype": kind, "shape": [len(data)], "data": data}]}
            ).encode()
        )


@pytest.fixture(scope="module")
def served():
    explainer = Explainer(DEMO, "auto")
    return Served("demo", explainer, preprocess_for(explainer.model)[0], Limits.pixels)


def test_rows_ask_for_what_tensors_ask_for(served):
    batch = images(2)
    for rows in (
        {"instances": batch.tolist(), "target": [3, "lion"]},
        {"instances": [{"image": x.tolist(), "target": k} for x, k in zip(batch, (3, "lion"), strict=True)]},
    ):
        job, _, names = served.job(request_of(served, rows, []))
        assert np.array_equal(job.feeds["image"], batch)
        assert job.feeds["target"].tolist() == [3, served.labels.index("lion")]
        assert names == [output.name for output in served.outputs]
    _, _, names = served.job(request_of(served, {"instances": batch.tolist()}, served.own_outputs))
    assert names == served.own_outputs
    with pytest.raises(InputError, match="'target': nothing is explained here"):
        served.job(request_of(served, {"instances": batch.tolist(), "target": 3}, served.own_outputs))
    file = CHELSEA.read_bytes()
    text = base64.b64encode(file).decode()
    photos, _, _ = served.job(Request({"photo": objects([file, file])}))
    for rows in ([{"b64": text}] * 2, [{"photo": {"b64": text}}] * 2, [{"photo": text}] * 2):
        job, _, _ = served.job(request_of(served, {"instances": rows}, []))
        assert np.array_equal(job.feeds["image"], photos.feeds["image"])


def test_results_are_parted_into_rows():
    one, two = np.array([[1.5, 2], [3, 4]], np.float32), np.array([7, 8])
    assert rows_of({"a": one}, 2) == [[1.5, 2.0], [3.0, 4.0]]
    assert rows_of({"a": one, "b": two}, 2) == [{"a": [1.5, 2.0], "b": 7}, {"a": [3.0, 4.0], "b": 8}]
    for bad in ({"mean": np.ones(1)}, {"mean": np.array(1.0)}, {"a": np.array([np.nan, 1])}):
        with pytest.raises(InputError):
            rows_of(bad, 2)


IMAGE = np.zeros((3, 64, 64)).tolist()


@pytest.mark.parametrize(
    "rows",
    [
        [],
        {"instances": []},
        {"instances": IMAGE, "taget": 1},
        {"instances": [{"x": IMAGE}]},
        {"instances": [IMAGE, {"b64": ""}]},
        {"instances": [{"b64": 7}]},
        {"instances": [IMAGE], "target": True},
        {"instances": [IMAGE], "target": 1.5},
        {"instances": [IMAGE], "target": [1, 2]},
        {"instances": [{"image": IMAGE, "target": 1}], "target": 2},
        {"instances": [[[1.0], [1.0, 2.0]]]},
        {"instances": [[[["a"]]]]},
        {"instances": [IMAGE], "outputs": "heat"},
    ],
)
def test_a_mistake_in_rows_is_refused(served, rows):
    with pytest.raises(InputError):
        served.job(request_of(served, rows, []))


def sums(feeds):
    """What a model does that takes three images at a time: the sum of each, and how many ran."""
    array = feeds["x"]
    assert len(array) == 3
    return {"sum": array.sum(axis=1)}


def test_runs_give_every_job_its_own_images():
    rng = np.random.default_rng(1)
    sizes, ran = [1, 4, 2, 1, 3], []
    arrays = [rng.standard_normal((n, 5)) for n in sizes]

    async def all_at_once():
        runs = Runs(8, 1, ran.append)
        jobs = [Job(sums, {"x": array}, len(array)) for array in arrays]
        found = await asyncio.gather(*(runs.submit(job, Alike("same", 3)) for job in jobs))
        runs.close()
        return found

    for found, array in zip(asyncio.run(all_at_once()), arrays, strict=True):
        assert np.array_equal(found["sum"], array.sum(axis=1))
    assert set(ran) == {3}
    assert len(ran) < sum(-(-n // 3) for n in sizes)  # fewer than one after the other would take


def test_a_run_that_fails_fails_its_own_jobs():
    def broken(_):
        raise InputError("no")

    async def both():
        runs = Runs(8)
        bad = runs.submit(Job(broken, {"x": np.zeros((3, 1))}, 3), Alike("bad", 3))
        good = runs.submit(Job(sums, {"x": np.ones((3, 1))}, 3), Alike("good", 3))
        found = await asyncio.gather(bad, good, return_exceptions=True)
        runs.close()
        return found

    bad, good = asyncio.run(both())
    assert isinstance(bad, InputError)
    assert good["sum"].tolist() == [1, 1, 1]


def test_an_image_that_cannot_be_run_fails_nobody_else():
    def finite(feeds):
        if not np.isfinite(feeds["x"]).all():
            raise InputError("not a number")
        return sums(feeds)

    arrays = [np.full((1, 2), value) for value in (1, np.nan, 3)]

    async def all_at_once():
        runs = Runs(3)
        jobs = [Job(finite, {"x": array}, 1) for array in arrays]
        found = await asyncio.gather(
            *(runs.submit(job, Alike("same", 3)) for job in jobs), return_exceptions=True
        )
        runs.close()
        return found

    one, none, three = asyncio.run(all_at_once())
    assert (one["sum"].tolist(), three["sum"].tolist()) == ([2], [6])
    assert isinstance(none, InputError)


def test_who_gives_up_is_not_waited_for():
    ran, given_up = [], threading.Event()

    def slow(feeds):
        given_up.wait(60)
        ran.append(float(feeds["x"][0, 0]))
        return {"y": feeds["x"]}

    async def one_gives_up():
        runs = Runs(1)
        tasks = [
            asyncio.create_task(runs.submit(Job(slow, {"x": np.full((1, 1), k)}, 1), Alike(k)))
            for k in range(3)
        ]
        await asyncio.sleep(0)
        tasks[1].cancel()
        await asyncio.sleep(0)
        given_up.set()
        await asyncio.gather(*tasks, return_exceptions=True)
        runs.close()

    asyncio.run(one_gives_up())
    assert ran == [0, 2]


class Connection:
    """What the server knows of one."""

    def __init__(self, name, closed):
        self.name, self.unsent, self.cycle = name, 0, None
        self.transport = SimpleNamespace(
            get_write_buffer_size=lambda: self.unsent, abort=lambda: closed.append(name)
        )


class Cycle:
    """A request, and whether it is answered."""

    def __init__(self, *, answered=True):
        self.response_complete = answered


def test_connections_are_closed_when_nothing_goes_on():
    closed = []
    silent, asks, works, reads, stuck, kept = every = [Connection(k, closed) for k in range(6)]
    works.cycle = Cycle(answered=False)
    for each in (asks, reads, stuck, kept):
        each.cycle = Cycle()
    reads.unsent = stuck.unsent = 1000
    found = Connections(seconds=10, kept=75)
    for now in range(0, 200, 5):
        if now == 60:
            asks.cycle = Cycle()  # another one, in the meantime
        if now <= 100:
            reads.unsent -= 1
        alive = [each for each in every if each.name not in closed]
        found.close_idle(alive, now)
        for each, last in ((silent, 10), (stuck, 10), (kept, 75), (asks, 135), (reads, 110)):
            assert (each.name in closed) == (now > last), (each.name, now)
    assert works.name not in closed


def test_what_takes_too_long_is_given_up():
    with pytest.raises(Exception, match=r"no answer within 0\.01 seconds") as found:
        asyncio.run(in_time(Limits(seconds=0.01), asyncio.sleep(60)))
    assert found.value.status_code == 504


def test_photographs_are_measured_before_they_are_decoded(monkeypatch):
    file = CHELSEA.read_bytes()
    height, width = read_photograph(file, 10**7).shape[:2]
    assert read_photograph(file, height * width).shape == (height, width, 3)
    monkeypatch.setattr("onnx_deconv.serving.photographs.read_image", lambda _: pytest.fail("decoded"))
    with pytest.raises(TooLargeError):
        read_photograph(file, height * width - 1)
    for other in (b"GIF89a" + file, b"%!PS-AdoWEBP\n", b"II*\0\x08\0\0\0WEBP"):
        with pytest.raises(InputError, match="no JPEG"):
            read_photograph(other, 10**7)


def test_many_photographs_are_not_more_than_memory_and_time_hold(monkeypatch):
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "PNG")
    explainer = Explainer(DEMO)
    served = Served("demo", explainer, preprocess_for(explainer.model)[0], 64 * 64 * 3)
    photos = np.array([file.getvalue()] * 4, object)
    job, _, _ = served.job(Request({"photo": photos[:3]}))
    assert job.feeds["image"].shape == (3, 3, 64, 64)
    with pytest.raises(TooLargeError):
        served.job(Request({"photo": photos}))
    file = io.BytesIO()
    Image.new("RGB", (64, 64 * 3)).save(file, "PNG")  # as many pixels as one may have
    monkeypatch.setattr("onnx_deconv.serving.photographs.read_image", lambda _: pytest.fail("decoded"))
    with pytest.raises(TooLargeError, match="5 photographs"):
        served.job(Request({"photo": np.array([file.getvalue()] * 5, object)}))


def test_an_answer_says_which_reconstructions_are_empty():
    text = """
        <ir_version: 8, opset_import: ["": 17]>
        net (float[N, 3, 8, 8] x) => (float[N, 3] scores) {
            positive = Relu (x)
            pooled = GlobalAveragePool (positive)
            scores = Flatten (pooled)
        }
    """
    served = Served("net", Explainer(onnx.parser.parse_model(text), "gradient"), None, 1)
    batch = np.abs(images(3, 8))
    batch[1] = -1  # nothing passes the rectifier, either way
    asked = Request({"x": batch})
    job, _, names = served.job(asked)
    found = job.run(job.feeds)
    assert json.loads(_written(served, asked, found).body)["parameters"] == {"empty": [1]}
    plain = {name: found[name] for name in names if name == "scores"}
    assert "parameters" not in json.loads(_written(served, asked, plain).body)


def test_answers_say_that_little_of_the_signal_is_left():
    explainer = Explainer(leftovers(0.01), "deconvnet", providers="cpu")
    served = Served("net", explainer, preprocess_for(explainer.model, "unit")[0], Limits.pixels)
    app = models_app([served], Limits(), Address(), "0")
    said = "0.0033 % of the signal's energy passes the narrowest rectifier, 'r'"  # 0.01 squared of 3
    assert said in json.loads(answered(app, "GET", "/v2/models/net")[1])["parameters"]["note"]
    asked = json_request(x=np.ones((1, 3, 8, 8), np.float32), target=np.array([1]))
    answer = json.loads(answered(app, "POST", "/v2/models/net/infer", json.dumps(asked))[1])
    assert said in answer["parameters"]["note"]
    plain = json.dumps(json_request(x=np.ones((1, 3, 8, 8), np.float32)) | {"outputs": [{"name": "scores"}]})
    assert "parameters" not in json.loads(answered(app, "POST", "/v2/models/net/infer", plain)[1])
    for method, least in (("deconvnet", 1), ("guided", 0.01)):
        assert Served("net", Explainer(leftovers(least), method, providers="cpu"), None, 1).note is None


def test_answers_say_that_they_are_not_about_the_image():
    text = """
        <ir_version: 8, opset_import: ["": 17]>
        net (float[N, 3, H, W] x) => (float[N, 3] scores) {
            r = Relu (x)
            pooled = GlobalAveragePool (r)
            scores = Flatten (pooled)
        }
    """
    note = Served("net", Explainer(onnx.parser.parse_model(text), "deconvnet"), None, 1).note
    assert note.startswith("deconvnet hardly depends on the image here: only through the map it starts from")


@pytest.mark.slow
def test_pictures_have_the_note_in_a_header(tmp_path):
    onnx.save(leftovers(0.01), tmp_path / "net.onnx")
    with serving("serve", tmp_path / "net.onnx", "--rules", "deconvnet", "--preset", "unit") as found:
        _, port, log = found
        where = "/v2/models/net/infer?view=heat"
        status, headers, _ = ask(port, "POST", where, CHELSEA.read_bytes(), {"Content-Type": "image/png"})
    assert (status, "0.0033 %" in headers["X-Note"]) == (200, True)
    assert any("0.0033 %" in line for line in log)


def test_several_inputs_and_results_that_are_not_of_images():
    text = """
        <ir_version: 8, opset_import: ["": 17]>
        net (float[N, 3, 8, 8] x, float[N, 3, 8, 8] y) => (float[N, 3] scores, float[1] mean) {
            both = Add (x, y)
            positive = Relu (both)
            pooled = GlobalAveragePool (positive)
            scores = Flatten (pooled)
            whole = ReduceMean <keepdims = 0> (scores)
            one = Constant <value_ints = [1]> ()
            mean = Reshape (whole, one)
        }
    """
    explainer = Explainer(onnx.parser.parse_model(text), "gradient")
    served = Served("net", explainer, None, 1)
    feeds = {"x": images(2, 8), "y": images(4, 8)[2:]}
    job, alike, _ = served.job(Request({**feeds, served.target: np.array([1])}))
    assert alike.key is None  # the mean is that of all images: others would change it
    found, expected = job.run(job.feeds), explainer(feeds, 1)
    for k, one in enumerate(expected):
        for name, reconstruction in one.reconstructions.items():
            entry = next(e for e in explainer.prepare().pair.manifest["reconstructions"] if e["of"] == name)
            assert close(found[entry["name"]][k], reconstruction)


MIXED = {
    "average": "m = ReduceMean<axes = [0]>(x) c = Sub(x, m)",
    "maximum": "a = Abs(x) m = ReduceMax(a) c = Div(x, m)",
    "softmax": "c = Softmax<axis = 0>(x)",
    "range": "q, s, z = DynamicQuantizeLinear(x) c = DequantizeLinear(q, s, z)",
}


@pytest.mark.parametrize(("batch", "mixed"), [("N", each) for each in MIXED] + [(2, "average")])
def test_callers_whose_images_the_model_mixes_are_not_put_together(batch, mixed):
    text = f"""
        <ir_version: 8, opset_import: ["": 17]>
        net (float[{batch}, 3, 8, 8] x) => (float[{batch}, 3] y) {{
            {MIXED[mixed]}
            r = Relu(c) p = GlobalAveragePool(r) y = Flatten(p)
        }}
    """
    served = Served("net", Explainer(onnx.parser.parse_model(text), "gradient"), None, 1)
    job, alike, _ = served.job(Request({"x": images(2, 8)}))
    assert alike.key is None
    assert job.images == 2
    apart = text.replace(MIXED[mixed], "c = Identity(x)")
    served = Served("net", Explainer(onnx.parser.parse_model(apart), "gradient"), None, 1)
    assert served.job(Request({"x": images(2, 8)}))[1].key is not None


def test_rows_of_several_to_an_image_are_answered_whole():
    served = Served("net", Explainer(onnx.parser.parse_model(ROWS), "gradient"), None, 1)
    job, alike, _ = served.job(Request({"x": images(2, 8)}, ["rows"]))
    assert alike.key is None
    assert job.run(job.feeds)["rows"].shape == (6, 1)


# Containers


SERVE_EXAMPLES = Path(__file__).parents[1] / "docs/examples/serve"


def dockerfile():
    """The instructions of the Dockerfile, by their names."""
    text = (SERVE_EXAMPLES / "Dockerfile").read_text(encoding="utf-8")
    return dict(line.split(" ", 1) for line in text.splitlines() if line and not line.startswith("#"))


def service():
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")
    text = (SERVE_EXAMPLES / "inference-service.yaml").read_text(encoding="utf-8")
    (container,) = yaml.safe_load(text)["spec"]["predictor"]["containers"]
    return container


def started(*arguments):
    """Start what a container starts, but on a free port and with a model that is here."""
    program, command, *options = json.loads(dockerfile()["ENTRYPOINT"])
    assert program == "onnx-deconv"
    here = [each.replace("/models/model.onnx", str(DEMO)) for each in arguments]
    return serving(command, *options, *here, ONNX_DECONV_TOKEN="secret")


def test_what_the_dockerfile_starts_serves_whoever_has_the_token():
    instructions = dockerfile()
    options = json.loads(instructions["ENTRYPOINT"])
    assert options[options.index("--port") + 1] == instructions["EXPOSE"]
    with started(*json.loads(instructions["CMD"])) as (_, port, _):
        assert ask(port, "GET", "/v2/health/ready")[0] == 200
        assert ask(port, "GET", "/v2/models/demo")[0] == 401
        known = {"Authorization": "Bearer secret"}
        assert ask(port, "GET", "/v2/models/demo", headers=known)[0] == 200


def test_a_kserve_service_matches_what_it_starts():
    container = service()
    assert str(container["ports"][0]["containerPort"]) == dockerfile()["EXPOSE"]
    (token,) = (e["name"] for e in container["env"])
    assert token == "ONNX_DECONV_TOKEN"
    with started(*container["args"]) as (_, port, _):
        for probe in ("readinessProbe", "livenessProbe"):
            assert str(container[probe]["httpGet"]["port"]) == dockerfile()["EXPOSE"]
            assert ask(port, "GET", container[probe]["httpGet"]["path"])[0] == 200
        known = {"Authorization": "Bearer secret"}
        photograph = CHELSEA.read_bytes()
        kind = known | {"Content-Type": "image/png"}
        assert ask(port, "POST", "/v2/models/demo/infer?target=7&view=heat", photograph, kind)[0] == 200
