"""A real server in a process of its own, and a plain client for it."""

import contextlib
import http.client
import json
import os
import subprocess
import sys
import threading

SECONDS = 120


@contextlib.contextmanager
def serving(*arguments, **environment):
    """Start the program; yield its process, its port, and its log, which grows."""
    command = [sys.executable, "-m", "onnx_deconv", *map(str, arguments), "--port", "0", "--json"]
    server = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )
    log = []
    reader = threading.Thread(target=lambda: log.extend(iter(server.stderr.readline, "")))
    reader.start()
    try:
        line = server.stdout.readline()
        assert line, "".join(log)
        yield server, int(json.loads(line)["url"].rpartition(":")[2]), log
    finally:
        server.terminate()
        server.wait(SECONDS)
        reader.join(SECONDS)
        server.stdout.close()
        server.stderr.close()


def ask(port, method, path, body=None, headers=None):
    """Ask once; return the status, the headers and the body."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=SECONDS)
    try:
        connection.request(method, path, body, headers or {})
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()
    finally:
        connection.close()
