"""Time five usual tasks, each written for this package, Captum and pytorch-grad-cam, and count their lines.

    python tools/usual_tasks.py

The programs are those of docs/examples/usual. Each is started anew, on a SqueezeNet 1.1, random weights, as
an ONNX file and as a PyTorch module, and a folder of 16 photographs. Told are its lines, without those that
are empty or comments, and the least of some runs, in seconds: on the clock from the start of Python to the
end (of the service: to its first answer), and of the processor. Needs torch, torchvision, onnxscript,
captum, grad-cam, starlette and uvicorn.
"""

import argparse
import contextlib
import os
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PROGRAMS = ROOT / "docs" / "examples" / "usual"
TASKS = {
    "overlay": "the class's overlay",
    "compare": "two classes compared",
    "unit": "a unit of a layer",
    "folder": "a folder of 16",
    "service": "a service's first answer",
}
LIBRARIES = {"here": "onnx_deconv", "captum": "Captum", "grad_cam": "pytorch-grad-cam"}
_PATIENCE = 120


def lines(program: Path) -> int:
    """Count the lines of a program that are neither empty nor comments."""
    stripped = (line.strip() for line in program.read_text(encoding="utf-8").splitlines())
    return sum(bool(line) and not line.startswith("#") for line in stripped)


def prepare(home: Path) -> None:
    """Write the model in both forms, and the photographs."""
    import torch  # noqa: PLC0415 - the programs need it, not this page of help
    from torchvision.models import squeezenet1_1  # noqa: PLC0415

    net = squeezenet1_1(weights=None).eval()
    torch.save(net, home / "model.pt")
    example = torch.zeros(1, 3, 224, 224)
    shapes = {"x": {0: torch.export.Dim("batch")}}
    torch.onnx.export(
        net,
        (example,),
        home / "model.onnx",
        input_names=["x"],
        dynamic_shapes=shapes,
        dynamo=True,
        verbose=False,
    )
    (home / "photos").mkdir()
    photo = ROOT / "models" / "chelsea.png"
    shutil.copy(photo, home / "photo.jpg")
    for k in range(16):
        shutil.copy(photo, home / "photos" / f"{k}.png")


def run(program: Path, home: Path) -> tuple[float, float]:
    """Run a program to its end, or a service to its first answer; return seconds of clock and processor."""
    used, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    if program.stem.startswith("service"):
        _first_answer(program, home)
    else:
        quiet = [sys.executable, "-W", "ignore", program]
        subprocess.run(quiet, cwd=home, check=True, stdout=subprocess.DEVNULL)
    spent, now = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return spent, now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime


def _first_answer(program: Path, home: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [
        sys.executable,
        "-m",
        "uvicorn",
        f"{program.stem}:app",
        "--port",
        str(port),
        "--log-level",
        "error",
    ]
    paths = os.pathsep.join(filter(None, [str(PROGRAMS), os.environ.get("PYTHONPATH")]))
    server = subprocess.Popen(words, cwd=home, env={**os.environ, "PYTHONPATH": paths})
    photo = (home / "photo.jpg").read_bytes()
    try:
        for _ in range(_PATIENCE * 50):
            if server.poll() is not None:
                raise RuntimeError(f"{program} ended before it answered")
            with contextlib.suppress(urllib.error.URLError, ConnectionError):
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/explain", photo) as answer:
                    assert answer.read().startswith(b"\x89PNG")  # noqa: S101
                return
            time.sleep(0.02)
        raise TimeoutError(program)
    finally:
        server.terminate()
        server.wait()


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--task", choices=TASKS, action="append", help="one of the tasks; may be repeated")
    parser.add_argument("--runs", type=int, default=5, help="how often each program is run (default: 5)")
    given = parser.parse_args()
    print("| task | " + " | ".join(LIBRARIES.values()) + " |\n|---|" + "---|" * len(LIBRARIES))
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        prepare(home)
        for task in given.task or TASKS:
            cells = []
            for library in LIBRARIES:
                program = PROGRAMS / f"{task}_{library}.py"
                if not program.exists():
                    cells.append("–")
                    continue
                run(program, home)  # fills the system's cache of files
                spent = [run(program, home) for _ in range(given.runs)]
                clock, processor = (min(each) for each in zip(*spent, strict=True))
                cells.append(f"{lines(program)} lines, {clock:.1f} s ({processor:.1f})")
            print(f"| {TASKS[task]} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
