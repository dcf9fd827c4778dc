"""Load a server: answers a second, how long they take, whether one is wrong, and the server's memory.

Usage: bench_serve.py MODEL [--clients 1 8 32] [--seconds 10] [-- OPTIONS OF SERVE]

Every client is a thread with one connection, which asks again as soon as it has its answer: one image, as
binary tensors, of which there are eight that differ. Each answer is compared with the library's.
"""

import argparse
import http.client
import json
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from onnx_deconv import Explainer
from onnx_deconv.serving.protocol import HEADER_LENGTH

_IMAGES = 8
_TOLERANCE = 1e-3


class Question:
    """What is asked for one image, and the right answer."""

    def __init__(
        self, name: str, image: np.ndarray, target: int | None, output: str, answer: np.ndarray
    ) -> None:
        tensors = {name: image} | ({} if target is None else {"target": np.array([target])})
        inputs = [
            {
                "name": each,
                "datatype": {"float32": "FP32", "float16": "FP16", "int64": "INT64"}[array.dtype.name],
                "shape": array.shape,
                "parameters": {"binary_data_size": array.nbytes},
            }
            for each, array in tensors.items()
        ]
        wanted = [{"name": output, "parameters": {"binary_data": True}}]
        head = json.dumps({"inputs": inputs, "outputs": wanted}).encode()
        self.body = b"".join([head, *(array.tobytes() for array in tensors.values())])
        self.headers = {HEADER_LENGTH: str(len(head))}
        self._answer = answer

    def is_wrong(self, length: int, body: bytes) -> bool:
        """Tell whether an answer differs from the library's."""
        found = np.frombuffer(body[length:], np.float32)
        return bool(np.abs(found - self._answer).max() > _TOLERANCE * np.abs(self._answer).max())


def questions(path: Path) -> tuple[list[Question], list[Question]]:
    """Ask the library: the answers alone, and the explanations of classes that are not all the strongest."""
    explainer = Explainer(path, "auto")
    (name,) = explainer.model.inputs
    shape = [size or 224 for size in (explainer.model.type_of(name).shape or [])[1:]]
    rng = np.random.default_rng(0)
    plain, explained = [], []
    for target in range(_IMAGES):
        image = rng.standard_normal((1, *shape)).astype(np.float32)
        plain.append(Question(name, image, None, explainer.head.output, explainer.scores(image)[0]))
        (one,) = explainer(image, target)
        explained.append(Question(name, image, target, "reconstruction", one.reconstruction.ravel()))
    return plain, explained


def load(port: int, path: str, asked: Sequence[Question], clients: int, seconds: float) -> dict[str, Any]:
    """Ask with a number of clients for some time."""
    took: list[float] = []
    bad: list[int] = []
    end = time.perf_counter() + seconds

    def client(k: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        while time.perf_counter() < end:
            question = asked[k % len(asked)]
            began = time.perf_counter()
            connection.request("POST", path, question.body, question.headers)
            answer = connection.getresponse()
            body = answer.read()
            took.append(time.perf_counter() - began)
            if answer.status != http.client.OK or question.is_wrong(int(answer.headers[HEADER_LENGTH]), body):
                bad.append(answer.status)
            k += 1
        connection.close()

    threads = [threading.Thread(target=client, args=(k,)) for k in range(clients)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    p50, p99 = np.percentile(took, [50, 99])
    return {
        "clients": clients,
        "per second": round(len(took) / (time.perf_counter() - began), 1),
        "p50 ms": round(1000 * float(p50), 1),
        "p99 ms": round(1000 * float(p99), 1),
        "wrong": len(bad),
    }


def resident(process: int) -> int:
    """Return a process's memory in MB."""
    pages = int(Path(f"/proc/{process}/statm").read_text(encoding="utf-8").split()[1])
    return pages * 4096 // 1_000_000


def main() -> None:
    """Measure and print one line of JSON for each load."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--seconds", type=float, default=10)
    known, rest = parser.parse_known_args()
    options = [each for each in rest if each != "--"]
    command = [
        sys.executable,
        "-m",
        "onnx_deconv",
        "serve",
        f"m={known.model}",
        "--port",
        "0",
        "--json",
        *options,
    ]
    asked = dict(zip(("answer", "explain"), questions(known.model), strict=True))
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        port = int(json.loads(server.stdout.readline())["url"].rpartition(":")[2])  # type: ignore[union-attr]
        for what, several in asked.items():
            load(port, "/v2/models/m/infer", several, 2, 1)  # warm up
            for clients in known.clients:
                found = load(port, "/v2/models/m/infer", several, clients, known.seconds)
                print(json.dumps({"what": what, **found, "MB": resident(server.pid)}), flush=True)
        server.terminate()


if __name__ == "__main__":
    main()
