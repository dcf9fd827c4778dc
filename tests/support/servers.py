"""A real server in a process of its own and a plain client for it; and an application without a server."""

import asyncio
import contextlib
import http.client
import json
import os
import subprocess
import sys
import threading
from urllib.parse import unquote

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


def answered(app, method, path, body=b""):
    """Ask an application in this process; return the status and the body."""
    path, _, query = path.partition("?")
    scope = {
        "type": "http", "http_version": "1.1", "method": method, "path": unquote(path),
        "raw_path": path.encode(), "query_string": query.encode(), "headers": [(b"host", b"localhost")],
        "client": ("127.0.0.1", 1),
        "server": ("localhost", 80), "scheme": "http", "root_path": "",
    }  # fmt: skip
    sent = []

    async def receive():
        return {"type": "http.request", "body": body if isinstance(body, bytes) else body.encode()}

    async def send(message):
        sent.append(message)

    asyncio.run(app(scope, receive, send))
    return sent[0]["status"], b"".join(message.get("body", b"") for message in sent[1:])
