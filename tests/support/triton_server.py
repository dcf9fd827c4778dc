"""NVIDIA's Triton Inference Server itself, as tools/install_examples.sh puts it into an environment."""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import ExitStack, contextmanager
from ctypes.util import find_library
from pathlib import Path

import pytest

SECONDS = 120
BACKEND = """
import os
import numpy as np
import onnxruntime
import triton_python_backend_utils as triton

class TritonPythonModel:
    def initialize(self, told):
        file = os.path.join(told["model_repository"], told["model_version"], "model.onnx")
        self.model = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
        self.inputs = [i.name for i in self.model.get_inputs()]
        self.outputs = [o.name for o in self.model.get_outputs()]

    def execute(self, requests):
        images = [[triton.get_input_tensor_by_name(r, n).as_numpy() for n in self.inputs] for r in requests]
        whole = {n: np.concatenate(each) for n, each in zip(self.inputs, zip(*images))}
        found = self.model.run(self.outputs, whole)
        ends = np.cumsum([len(each[0]) for each in images])[:-1]
        parts = [np.split(each, ends) for each in found]
        answers = [[triton.Tensor(*each) for each in zip(self.outputs, one)] for one in zip(*parts)]
        return [triton.InferenceResponse(answer) for answer in answers]
"""
"""What runs our files in the place of the server's backend for ONNX, which no package has."""


@contextmanager
def triton_server(home, repository, folder):
    """Start the server of an environment, on loopback addresses alone; yields its address for HTTP."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    packages = home / f"lib/python{version}/site-packages"
    server = packages / "pytriton/tritonserver"
    stub = server / "python_backend_stubs" / version / "triton_python_backend_stub"
    if not stub.exists() or find_library(f"python{version}") is None:
        pytest.skip(f"no shared library of Python {version}, which Triton's backend needs")
    shutil.copytree(server / "backends/python", folder / "python")
    Path(shutil.copy(stub, folder / "python")).chmod(0o755)
    for config in repository.glob("*/config.pbtxt"):
        config.write_text(config.read_text().replace('"onnxruntime"', '"python"'))
        (config.parent / "1/model.py").write_text(BACKEND)
    http, grpc = _free_ports(2)
    program = server / "bin/tritonserver"
    program.chmod(0o755)
    call = [program, "--model-repository", repository, "--backend-directory", folder]
    call += ["--http-address", "127.0.0.1", "--http-port", http, "--allow-metrics", "false"]
    call += ["--grpc-address", "127.0.0.1", "--grpc-port", grpc]
    own = {"PATH": f"{home / 'bin'}:{os.environ['PATH']}"}
    own["LD_LIBRARY_PATH"] = str(packages / "nvidia_pytriton.libs")
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(call, stdout=log, stderr=log, env=os.environ | own)
    try:
        _wait_for(f"http://127.0.0.1:{http}/v2/health/ready", process, folder / "log")
        yield f"127.0.0.1:{http}"
    finally:
        process.terminate()
        process.wait(SECONDS)


def _free_ports(count):
    with ExitStack() as stack:
        listeners = [stack.enter_context(socket.socket()) for _ in range(count)]
        for listener in listeners:
            listener.bind(("127.0.0.1", 0))
        return [str(listener.getsockname()[1]) for listener in listeners]


def _wait_for(address, process, log):
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        assert process.poll() is None, log.read_text()
        try:
            with urllib.request.urlopen(address, timeout=1):
                return
        except OSError:
            time.sleep(0.1)
    raise AssertionError(log.read_text())
