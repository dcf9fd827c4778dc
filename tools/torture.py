"""Torture the command line with damaged, hostile and vanishing files; count what goes wrong, by kind.

Each campaign is a seeded sequence of cases. A case writes its files, runs one command, and is judged:

* the exit code is 0, 1, 2 or 130, and there is no traceback;
* a refusal (2) is one line on stderr, and nothing is on stdout but checks and plans that came before;
* it takes at most 10 seconds and 2 GB;
* what was there before a command that did not succeed is there after it, and nothing new.

    python tools/torture.py                          every campaign, 200 cases each
    python tools/torture.py --campaign images -n 5000 --random-state 7
    python tools/torture.py --soak 30                eight threads for half an hour: the memory's slope

A case that fails can be repeated: ``--campaign NAME --only NUMBER --keep FOLDER``.
"""

import argparse
import io
import itertools
import json
import multiprocessing
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
import traceback
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import ModelProto, TensorProto, helper, numpy_helper
from PIL import Image

LONGEST, LARGEST = 10.0, 2 << 30
"""Seconds and bytes that a case may take."""
MISTAKE = 2
_SAYS_BEFORE = {"verify", "build", "merge"}
"""Commands that print their checks, or what they will take, before they may refuse."""
CODES = {0, 1, MISTAKE, 130}
COMMAND = [sys.executable, "-m", "onnx_deconv"]
OUTPUT = "out"
"""The folder that a case's command writes to; it holds an older result."""

Campaign = Callable[[random.Random, Path], list[Any]]
CAMPAIGNS: dict[str, Campaign] = {}


def campaign(each: Campaign) -> Campaign:
    """Register a campaign: a function that writes a case's files and returns the command's arguments."""
    CAMPAIGNS[each.__name__.replace("_", "-")] = each
    return each


# What is damaged


@cache
def network() -> bytes:
    """Serialise a small network: convolutions, a pool, a dense layer, a softmax."""
    rng = np.random.default_rng(0)
    shapes = {"w1": (8, 3, 3, 3), "b1": (8,), "w2": (16, 8, 3, 3), "w3": (10, 16)}
    weights = [
        numpy_helper.from_array(rng.standard_normal(s).astype(np.float32), n) for n, s in shapes.items()
    ]
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["c1"], "conv1", pads=[1] * 4),
        helper.make_node("Relu", ["c1"], ["r1"], "relu1"),
        helper.make_node("MaxPool", ["r1"], ["p1"], "pool1", kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Conv", ["p1", "w2"], ["c2"], "conv2", pads=[1] * 4),
        helper.make_node("Relu", ["c2"], ["r2"], "relu2"),
        helper.make_node("GlobalAveragePool", ["r2"], ["g"], "gap"),
        helper.make_node("Flatten", ["g"], ["f"], "flatten"),
        helper.make_node("Gemm", ["f", "w3"], ["s"], "dense", transB=1),
        helper.make_node("Softmax", ["s"], ["y"], "softmax"),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 16, 16])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 10])
    model = helper.make_model(
        helper.make_graph(nodes, "net", [x], [y], weights),
        opset_imports=[helper.make_opsetid("", 17)], ir_version=8,
    )  # fmt: skip
    helper.set_model_props(model, {"labels": json.dumps([f"class {n}" for n in range(10)])})
    return model.SerializeToString()


@cache
def pictures() -> dict[str, bytes]:
    """Encode one picture in every format."""
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 24, 3), np.uint8))
    formats = {".png": "PNG", ".jpg": "JPEG", ".gif": "GIF", ".bmp": "BMP", ".tif": "TIFF", ".webp": "WEBP"}
    return {suffix: _encoded(picture, name) for suffix, name in formats.items()}


def _encoded(picture: Image.Image, name: str) -> bytes:
    file = io.BytesIO()
    picture.save(file, name)
    return file.getvalue()


@cache
def made(*command: str) -> dict[str, bytes]:
    """Run a command that succeeds, once; return the files that it writes to its output."""
    with tempfile.TemporaryDirectory() as home:
        where = Path(home)
        (where / "m.onnx").write_bytes(network())
        (where / "p.png").write_bytes(pictures()[".png"])
        subprocess.run([*COMMAND, *command, "-o", "made", "--quiet"], cwd=where, check=True)
        return {f.name: f.read_bytes() for f in (where / "made").iterdir()}


def write(folder: Path, files: dict[str, bytes]) -> Path:
    """Write files into a folder."""
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def damaged(rng: random.Random, content: bytes) -> bytes:
    """Damage bytes a few times: flip, cut, repeat, remove, overwrite, move."""
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 4, 16))):
        at, length = rng.randrange(len(data) + 1), rng.choice((1, 1, 2, 4, 8, 64))
        match rng.randrange(7):
            case 0:
                data[at : at + 1] = bytes([data[at] ^ 1 << rng.randrange(8)]) if at < len(data) else b""
            case 1:
                del data[at:]
            case 2:
                data[at:at] = data[at : at + length]
            case 3:
                del data[at : at + length]
            case 4:
                data[at : at + length] = rng.randbytes(min(length, len(data) - at))
            case 5:
                data[at : at + length] = rng.choice((b"\0", b"\xff", b"\x7f", b"\x80")) * length
            case _:
                other = rng.randrange(len(data) + 1)
                data[at : at + length] = data[other : other + length]
    return bytes(data)


ODD: tuple[Any, ...] = (
    *(
        0,
        -1,
        1,
        2**31,
        -(2**31),
        2**63,
        10**30,
        1.5,
        -0.0,
        1e308,
        True,
        None,
        "",
        "x",
        "\0",
        "\n",
        "../..",
        "/",
    ),
    *("<!--<script>", "\x1b[2J", "\u202e", "é" * 300, "1" * 5000, [], {}, [[]], [0], {"a": []}, ["x"] * 50),
)
"""What nobody expects in JSON."""


def damaged_json(rng: random.Random, content: Any) -> Any:
    """Replace, remove or repeat something somewhere in JSON data."""
    if isinstance(content, dict) and content and rng.random() < 0.9:  # noqa: PLR2004
        key = rng.choice(sorted(content))
        changed = {**content, key: damaged_json(rng, content[key])}
        if rng.random() < 0.1:  # noqa: PLR2004
            del changed[key]
        return changed
    if isinstance(content, list) and content and rng.random() < 0.8:  # noqa: PLR2004
        at = rng.randrange(len(content))
        return [*content[:at], damaged_json(rng, content[at]), *content[at + rng.choice((0, 1, 1, 2)) :]]
    return rng.choice(ODD)


def on_the_model(rng: random.Random, home: Path) -> list[Any]:
    """Choose a command that reads ``m.onnx``."""
    (home / "p.png").write_bytes(pictures()[".png"])
    return rng.choice(
        [
            ["inspect", "m.onnx"],
            ["explain", "m.onnx", "p.png", "-o", OUTPUT],
            ["convert", "m.onnx", "-o", OUTPUT],
            ["convert", "m.onnx", "-o", OUTPUT, "--form", "explain"],
            ["verify", "m.onnx", "--rules", "gradient"],
        ]
    )


# Campaigns


@campaign
def model_bytes(rng: random.Random, home: Path) -> list[Any]:
    """Damage a model's bytes."""
    (home / "m.onnx").write_bytes(damaged(rng, network()))
    return on_the_model(rng, home)


@campaign
def model_fields(rng: random.Random, home: Path) -> list[Any]:
    """Change fields of a well-formed model."""
    model = ModelProto.FromString(network())
    for _ in range(rng.choice((1, 1, 2, 3))):
        node = rng.choice(model.graph.node)
        tensor = rng.choice(model.graph.initializer)
        match rng.randrange(9):
            case 0:
                tensor.dims[rng.randrange(len(tensor.dims))] = rng.choice((0, -1, 1, 7, 1 << 40))
            case 1:
                tensor.data_type = rng.choice((0, 2, 6, 7, 8, 10, 11, 16, 99))
            case 2 if node.attribute:
                attribute = rng.choice(node.attribute)
                attribute.ints[:] = [rng.choice((0, -1, 1, 3, 1 << 40)) for _ in range(rng.randrange(5))]
            case 3 if node.attribute:
                del node.attribute[rng.randrange(len(node.attribute))]
            case 4 if node.input:
                node.input[rng.randrange(len(node.input))] = rng.choice(("", "x", "r2", "w1", "nothing"))
            case 5 if node.output:
                node.output[0] = rng.choice(("", "x", "r1", "w1", "y"))
            case 6:
                size = rng.choice(model.graph.input[0].type.tensor_type.shape.dim)
                size.dim_value = rng.choice((0, -1, 1, 2, 1 << 40))
            case 7:
                model.opset_import[0].version = rng.choice((-1, 0, 1, 6, 9, 13, 21, 99))
            case _:
                del model.graph.node[rng.randrange(len(model.graph.node) - 1)]
    (home / "m.onnx").write_bytes(model.SerializeToString())
    return on_the_model(rng, home)


@campaign
def places(rng: random.Random, home: Path) -> list[Any]:
    """Say odd things about where weights lie."""
    onnx.save(
        ModelProto.FromString(network()), home / "m.onnx",
        save_as_external_data=True, location="w.bin", size_threshold=0,
    )  # fmt: skip
    model = onnx.load(home / "m.onnx", load_external_data=False)
    odd = (
        "",
        "..",
        "../w.bin",
        "/etc/passwd",
        "w.bin\0",
        ".",
        "w.bin/",
        "m.onnx",
        "./w.bin",
        "x" * 5000,
        "-1",
    )
    numbers = ("-1", "", "x", "1e9", "9" * 18, "9" * 400, "0x10", "864", "1", " 0", "٣")
    for _ in range(rng.choice((1, 1, 3))):
        entry = rng.choice(rng.choice(model.graph.initializer).external_data)
        entry.value = rng.choice(odd if entry.key == "location" else numbers)
    (home / "m.onnx").write_bytes(model.SerializeToString())
    match rng.randrange(8):
        case 0:
            (home / "w.bin").unlink()
        case 1:
            os.truncate(home / "w.bin", rng.randrange(4096))
        case 2:
            (home / "w.bin").unlink()
            (home / "w.bin").symlink_to(rng.choice(("w.bin", "/dev/zero", "/", "m.onnx")))
    return on_the_model(rng, home)


@campaign
def foreign(rng: random.Random, home: Path) -> list[Any]:
    """Give a file of another kind for a model."""
    kinds = [
        b"version https://git-lfs.github.com/spec/v1\n",
        b"<!doctype html>",
        b"\x1f\x8b\x08",
        b"PK\x03\x04",
    ]
    kinds += [
        b"\x80\x02",
        b"\x89HDF\r\n\x1a\n",
        b"\0\0\0\0TFL3",
        b"\0\0\0\0ORTM",
        b"ftrt",
        b"{",
        b"",
        b"ir_version:",
    ]
    kinds += [(99).to_bytes(8, "little") + b'{"', *pictures().values()]
    (home / "m.onnx").write_bytes(damaged(rng, rng.choice(kinds) + rng.randbytes(rng.choice((0, 9, 600)))))
    return on_the_model(rng, home)


@campaign
def images(rng: random.Random, home: Path) -> list[Any]:
    """Damage photographs."""
    (home / "m.onnx").write_bytes(network())
    suffix, content = rng.choice(sorted(pictures().items()))
    (home / f"p{suffix}").write_bytes(damaged(rng, content))
    return rng.choice(
        [
            ["explain", "m.onnx", f"p{suffix}", "-o", OUTPUT],
            ["explain", "m.onnx", f"p{suffix}", "-o", OUTPUT, "--size", "16"],
            ["occlude", "m.onnx", f"p{suffix}", "-o", OUTPUT, "--size", "16"],
        ]
    )


@campaign
def archives(rng: random.Random, home: Path) -> list[Any]:
    """Damage archives of photographs."""
    (home / "m.onnx").write_bytes(network())
    content, name = io.BytesIO(), rng.choice(("p.zip", "p.tar", "p.tar.gz", "p.tar.xz", "p.tar.bz2"))
    if name == "p.zip":
        with zipfile.ZipFile(content, "w", rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as archive:
            for suffix, data in pictures().items():
                archive.writestr(f"p{suffix}", data)
    else:
        with tarfile.open(fileobj=content, mode=f"w:{name[6:]}") as archive:
            for suffix, data in pictures().items():
                member = tarfile.TarInfo(f"p{suffix}")
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
    (home / name).write_bytes(damaged(rng, content.getvalue()))
    return ["atlas", "build", "m.onnx", name, "-o", OUTPUT, "--size", "16", "--top", "2"]


@campaign
def manifests(rng: random.Random, home: Path) -> list[Any]:
    """Tamper with a saved pair or an explain graph: with its manifest, or with the bytes of one file."""
    form = rng.choice(("pair", "pair", "explain"))
    files = dict(made("convert", "m.onnx", "--form", form))
    if rng.random() < 0.7:  # noqa: PLR2004
        models = {name: ModelProto.FromString(files[name]) for name in files if name.endswith(".onnx")}
        first = next(iter(models.values()))
        text = next(p.value for p in first.metadata_props if p.key.endswith("manifest"))
        changed = json.dumps(damaged_json(rng, json.loads(text)))
        for name, model in models.items():
            for entry in model.metadata_props:
                entry.value = changed if entry.key.endswith("manifest") else entry.value
            files[name] = model.SerializeToString()
    else:
        name = rng.choice(sorted(files))
        files[name] = damaged(rng, files[name])
    write(home / "pair", files)
    (home / "p.png").write_bytes(pictures()[".png"])
    return rng.choice([["verify", "pair"], ["explain", "pair", "p.png", "-o", OUTPUT]])


@campaign
def atlases(rng: random.Random, home: Path) -> list[Any]:
    """Tamper with a finished atlas."""
    files = dict(made("atlas", "build", "m.onnx", "p.png", "--size", "16"))
    name = rng.choice(["atlas.json"] * 4 + sorted(files))
    if name == "atlas.json" and rng.random() < 0.8:  # noqa: PLR2004
        files[name] = json.dumps(damaged_json(rng, json.loads(files[name]))).encode()
    else:
        files[name] = damaged(rng, files[name])
    write(home / "atlas", files)
    (home / "m.onnx").write_bytes(network())
    (home / "p.png").write_bytes(pictures()[".png"])
    return rng.choice(
        [
            ["atlas", "report", "atlas", "-o", "report.html"],
            ["atlas", "report", "atlas", "p.png", "--model", "m.onnx", "-o", "report.html"],
            ["atlas", "merge", "atlas", "-o", OUTPUT],
        ]
    )


@campaign
def unfinished(rng: random.Random, home: Path) -> list[Any]:
    """Tamper with what an interrupted run left, and go on."""
    write(home / "atlas", damaged_state(rng))
    (home / "m.onnx").write_bytes(network())
    (home / "p.png").write_bytes(pictures()[".png"])
    return ["atlas", "build", "m.onnx", "p.png", "-o", "atlas", "--size", "16"]


def damaged_state(rng: random.Random) -> dict[str, bytes]:
    """Make the files of an unfinished atlas, one of them damaged."""
    files = {name: content for name, content in _state().items() if rng.random() < 0.9}  # noqa: PLR2004
    name = rng.choice(sorted(files) or ["atlas.partial.npz"])
    content = files.get(name, b"")
    if name.endswith(".jsonl"):
        lines = content.decode().splitlines()
        at = rng.randrange(len(lines))
        lines[at] = json.dumps(damaged_json(rng, json.loads(lines[at])))
        content = "\n".join([*lines, ""]).encode()
    return files | {name: damaged(rng, content)}


@cache
def _state() -> dict[str, bytes]:
    """Run an atlas that stops before it is finished."""
    script = (
        "import sys; from onnx_deconv.atlas import writer\n"
        "def stop(*_): raise KeyboardInterrupt\n"
        "writer.save_sheets = stop\n"
        "from onnx_deconv.cli import main; main()"
    )
    with tempfile.TemporaryDirectory() as home:
        (Path(home) / "m.onnx").write_bytes(network())
        (Path(home) / "p.png").write_bytes(pictures()[".png"])
        command = ["atlas", "build", "m.onnx", "p.png", "-o", "atlas", "--size", "16", "--quiet"]
        done = subprocess.run(
            [sys.executable, "-c", script, *command], cwd=home, capture_output=True, check=False
        )
        assert done.returncode == 130, done.stderr  # noqa: S101, PLR2004
        return {f.name: f.read_bytes() for f in (Path(home) / "atlas").iterdir()}


@campaign
def labels(rng: random.Random, home: Path) -> list[Any]:
    """Give odd labels: in a file, or in the model's metadata."""
    names = [
        rng.choice(("cat", "", "<!--<script>", "\x1b]0;x\x07", "a" * 3000, "1", "\u202e", "\n"))
        for _ in range(12)
    ]
    text = rng.choice(
        [
            json.dumps(damaged_json(rng, names)),
            json.dumps(damaged_json(rng, {str(n): name for n, name in enumerate(names)})),
            "\n".join(names),
            "[" * 100_000,
            '{"' + "9" * 6000 + '": "x"}',
        ]
    )
    content = damaged(rng, text.encode()) if rng.random() < 0.5 else text.encode()  # noqa: PLR2004
    (home / "p.png").write_bytes(pictures()[".png"])
    (home / "labels.txt").write_bytes(content)
    model = ModelProto.FromString(network())
    more = ["--labels", "labels.txt"]
    if rng.random() < 0.5:  # noqa: PLR2004
        key = rng.choice(("labels", "names", "id2label", "mean", "std", "size", "preprocess"))
        helper.set_model_props(model, {key: content.decode("utf-8", "replace")})
        more = []
    (home / "m.onnx").write_bytes(model.SerializeToString())
    return ["explain", "m.onnx", "p.png", "-o", OUTPUT, *more, *rng.choice([[], ["--json"]])]


# Running and judging


@dataclass
class Verdict:
    """What became of a case."""

    campaign: str
    number: int
    kinds: list[str]
    seconds: float
    memory: int
    said: str = ""


@dataclass
class Case:
    """A case that can be run again."""

    campaign: str
    number: int
    random_state: int
    home: Path
    before: dict[str, bytes] = field(default_factory=dict)

    def prepare(self) -> list[str]:
        """Write the files; return the command."""
        rng = random.Random(f"{self.random_state}/{self.campaign}/{self.number}")  # noqa: S311
        self.home.mkdir(parents=True)
        arguments = [str(each) for each in CAMPAIGNS[self.campaign](rng, self.home)]
        if OUTPUT in arguments and "convert" in arguments and rng.random() < 0.5:  # noqa: PLR2004
            write(self.home / OUTPUT, made("convert", "m.onnx"))
        self.before = self.after()
        return arguments

    def after(self) -> dict[str, bytes]:
        """Read all files that there are."""
        files = (f for f in self.home.rglob("*") if f.is_file() and not f.is_symlink())
        return {str(f.relative_to(self.home)): f.read_bytes() for f in files}

    def judge(self, arguments: list[str], code: int, out: str, err: str) -> list[str]:
        """Name what is wrong."""
        wrong = []
        if code not in CODES:
            wrong.append(f"exit code {code}")
        if "Traceback" in out + err:
            wrong.append("traceback")
        errors = [
            line for line in err.splitlines() if line and not line.startswith(("Usage:", "Try ", "Warning:"))
        ]
        if code == MISTAKE and (
            len(errors) != 1 or (out and "--json" not in arguments and not _SAYS_BEFORE & {*arguments})
        ):
            wrong.append("not one line")
        if any(sign in out + err for sign in ("\x1b", "\x07", "\u202e")):
            wrong.append("control characters")
        after = self.after()
        if any(".onnx-deconv-" in name for name in after):
            wrong.append("left behind")
        if code not in (0, 1) and "convert" in arguments and after != self.before:
            wrong.append("partial output")
        return wrong


def in_process(arguments: list[str], out: Path, err: Path) -> int:
    """Run the command line in this process; return its exit code."""
    from onnx_deconv.cli import main  # noqa: PLC0415  (after the tool's own help)

    warnings.filterwarnings("ignore", module=r"PIL\.")  # as the program itself does

    kept = [os.dup(1), os.dup(2)]
    for number, path in ((1, out), (2, err)):
        with path.open("wb") as file:
            os.dup2(file.fileno(), number)
    try:
        main(arguments)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:  # noqa: BLE001  (that is what is looked for)
        traceback.print_exc()
        return 3
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os.dup2(kept[0], 1)
        os.dup2(kept[1], 2)
        os.close(kept[0])
        os.close(kept[1])
    return 0


def _peak() -> int:
    """Return the most memory that this process has had since the last call, in bytes."""
    with Path("/proc/self/status").open() as file:
        most = next(int(line.split()[1]) << 10 for line in file if line.startswith("VmHWM"))
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return most


def _received(connection: Any) -> Any:
    try:
        return connection.recv()
    except EOFError:  # nobody asks any more
        return None


def _work(connection: Any) -> None:
    """Run cases that come through a pipe, until none comes any more."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    while (case := _received(connection)) is not None:
        with tempfile.TemporaryDirectory() as said:
            arguments = case.prepare()
            os.chdir(case.home)
            out, err = Path(said) / "out", Path(said) / "err"
            _peak()
            start = time.monotonic()
            code = in_process(arguments, out, err)
            seconds, memory = time.monotonic() - start, _peak()
            texts = [path.read_text("utf-8", "replace") for path in (out, err)]
            os.chdir("/")
            kinds = case.judge(arguments, code, *texts)
            connection.send((kinds, seconds, memory, f"{' '.join(arguments)}: {texts[1][-600:]}"))


class Worker:
    """A process that runs cases; where one kills it, the next gets a new one."""

    def __init__(self) -> None:
        self._process: Any = None

    def run(self, case: Case) -> Verdict:
        """Run a case."""
        if self._process is None:
            self._pipe, other = multiprocessing.Pipe()
            self._process = multiprocessing.get_context("spawn").Process(
                target=_work, args=(other,), daemon=True
            )
            self._process.start()
            other.close()
        start = time.monotonic()
        self._pipe.send(case)
        try:
            if not self._pipe.poll(3 * LONGEST):
                self._end()
                return Verdict(case.campaign, case.number, ["hangs"], time.monotonic() - start, 0)
            kinds, seconds, memory, said = self._pipe.recv()
        except (EOFError, ConnectionError):
            self._process.join()
            name = signal.Signals(-self._process.exitcode).name if self._process.exitcode < 0 else "exit"
            self._process = None
            return Verdict(case.campaign, case.number, [f"died of {name}"], time.monotonic() - start, 0)
        kinds += ["too slow"] * (seconds > LONGEST) + ["too much memory"] * (memory > LARGEST)
        if memory > LARGEST // 2:
            self._end()
        return Verdict(case.campaign, case.number, kinds, seconds, memory, said)

    def _end(self) -> None:
        self._process.kill()
        self._process.join()
        self._process = None


# Campaigns of whole processes: signals, a full disk


def _with_a_pair(campaign: str, home: Path) -> Case:
    """Write a model, a picture and the pair that was made of it before."""
    case = Case(campaign, 0, 0, home)
    home.mkdir(parents=True)
    write(home, {"m.onnx": network(), "p.png": pictures()[".png"]})
    write(home / OUTPUT, made("convert", "m.onnx"))
    case.before = case.after()
    return case


def stopped(rng: random.Random, home: Path) -> list[str]:
    """Stop a command at any time; return what is wrong."""
    case = _with_a_pair("signals", home)
    rules = rng.choice(("guided", "gradient"))
    arguments = rng.choice(
        [
            ["convert", "m.onnx", "-o", OUTPUT, "--rules", rules],
            ["atlas", "build", "m.onnx", "p.png", "-o", "atlas", "--size", "16"],
            ["explain", "m.onnx", "p.png", "-o", "explained"],
        ]
    )
    by = rng.choice((signal.SIGINT, signal.SIGTERM, signal.SIGKILL))
    process = subprocess.Popen(
        [*COMMAND, *arguments], cwd=home, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    time.sleep(rng.uniform(0.05, 1.2))
    process.send_signal(by)
    _, err = process.communicate(timeout=3 * LONGEST)
    # Python's own start takes some 50 ms, in which it answers an interruption by a traceback of its own.
    wrong = ["traceback"] * ("Traceback" in err and "/onnx_deconv/" in err)
    if process.returncode not in CODES | {-by}:
        wrong.append(f"exit code {process.returncode}")
    if by != signal.SIGKILL and any(".onnx-deconv-" in name for name in case.after()):
        wrong.append("left behind")
    pair = {name: content for name, content in case.after().items() if name.startswith(f"{OUTPUT}/")}
    whole = {name: content for name, content in case.before.items() if name.startswith(f"{OUTPUT}/")}
    new = {
        f"{OUTPUT}/{name}": content for name, content in made("convert", "m.onnx", "--rules", rules).items()
    }
    if {name: pair.get(name) for name in whole} not in (whole, new):
        wrong.append("partial output")
    return wrong


def full(rng: random.Random, home: Path) -> list[str]:
    """Let the disk be full after some bytes (by the limit of a file's size); return what is wrong."""
    case = _with_a_pair("disk", home)
    arguments = rng.choice(
        [
            ["convert", "m.onnx", "-o", OUTPUT, "--rules", "guided"],
            ["convert", "m.onnx", "-o", OUTPUT, "--form", "explain"],
            ["atlas", "build", "m.onnx", "p.png", "-o", "atlas", "--size", "16"],
            ["explain", "m.onnx", "p.png", "-o", "explained"],
            ["sheet", "m.onnx", "p.png", "-o", "sheet.png"],
        ]
    )
    limit = int(10 ** rng.uniform(1, 5))
    done = subprocess.run(
        [*COMMAND, *arguments], cwd=home, capture_output=True, text=True, check=False, timeout=3 * LONGEST,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )  # fmt: skip
    wrong = case.judge(arguments, done.returncode, done.stdout, done.stderr)
    return [*dict.fromkeys(wrong), *([done.stderr[-300:]] if wrong else [])]


def changed(rng: random.Random, home: Path) -> list[str]:
    """Replace, cut short, overwrite or delete a model while an explainer uses it; return what is wrong."""
    home.mkdir(parents=True)
    (home / "m.onnx").write_bytes(network())
    how = rng.choice(("replace", "truncate", "overwrite", "delete"))
    done = subprocess.run(
        [sys.executable, "-c", _CHANGED, how, str(rng.uniform(0, 0.2))],
        cwd=home, capture_output=True, text=True, check=False, timeout=3 * LONGEST,
    )  # fmt: skip
    return [] if done.returncode == 0 else [f"exit code {done.returncode}", done.stderr[-300:]]


_CHANGED = """
import os, sys, threading, time
import numpy as np
from onnx_deconv import Explainer, DeconvError
how, when = sys.argv[1], float(sys.argv[2])
expected = Explainer("m.onnx", providers="cpu", max_layers=1)
x = np.random.default_rng(0).standard_normal((1, 3, 16, 16)).astype(np.float32)
layers = ["r1", "c2", "r2", "s"]
answers = {l: expected(x, 1, layer=l)[0].reconstruction for l in layers}
other = bytes(reversed(open("m.onnx", "rb").read()))
def change():
    time.sleep(when)
    if how == "replace":
        open("new", "wb").write(other); os.replace("new", "m.onnx")
    elif how == "truncate": os.truncate("m.onnx", 100)
    elif how == "overwrite": open("m.onnx", "r+b").write(other)
    else: os.unlink("m.onnx")
thread = threading.Thread(target=change); thread.start()
try:
    explainer = Explainer("m.onnx", providers="cpu", max_layers=1)
    while thread.is_alive():
        for l in layers: assert (explainer(x, 1, layer=l)[0].reconstruction == answers[l]).all()
    for l in layers: assert (explainer(x, 1, layer=l)[0].reconstruction == answers[l]).all()
except DeconvError:
    pass  # it changed while it was read
thread.join()
"""


@cache
def _lasts() -> float:
    """Measure how long a command takes on this machine."""
    start = time.monotonic()
    made("convert", "m.onnx", "--rules", "guided")
    return time.monotonic() - start


def cut(rng: random.Random, home: Path) -> list[str]:
    """Cut a model's file short while a command runs; return what is wrong."""
    case = Case("cuts", 0, 0, home)
    home.mkdir(parents=True)
    model, where = ModelProto.FromString(network()), {"location": "w.bin", "size_threshold": 0}
    external = rng.random() < 0.5  # noqa: PLR2004
    onnx.save(model, home / "m.onnx", save_as_external_data=external, **(where if external else {}))
    write(home / OUTPUT, made("convert", "m.onnx"))
    old = case.after()
    arguments, name = rng.choice(
        [
            (["convert", "m.onnx", "-o", OUTPUT, "--rules", "guided"], "w.bin" if external else "m.onnx"),
            (["convert", "m.onnx", "-o", OUTPUT, "--form", "explain"], "w.bin" if external else "m.onnx"),
            (["verify", "m.onnx", "--rules", "gradient"], "w.bin" if external else "m.onnx"),
            (["verify", OUTPUT], f"{OUTPUT}/weights.bin"),
            (["inspect", "m.onnx"], "w.bin" if external else "m.onnx"),
        ]
    )
    process = subprocess.Popen(
        [*COMMAND, *arguments], cwd=home, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    time.sleep(rng.uniform(0.2, 1.2) * _lasts())
    os.truncate(home / name, rng.choice((0, 100, 4096)))
    case.before = {**old, name: (home / name).read_bytes()}
    out, err = process.communicate(timeout=3 * LONGEST)
    wrong = case.judge(arguments, process.returncode, out, err)
    return [*dict.fromkeys(wrong), *([f"{arguments} {process.returncode} {err[-300:]}"] if wrong else [])]


def threaded(rng: random.Random, home: Path) -> list[str]:
    """Let threads share an explainer that keeps few layers; return what is wrong."""
    from onnx_deconv import Explainer  # noqa: PLC0415

    del home
    explainer = Explainer(network(), providers="cpu", max_layers=rng.randint(1, 3))
    layers = ["r1", "c2", "r2", "s"]
    x = np.random.default_rng(rng.randrange(100)).standard_normal((2, 3, 16, 16)).astype(np.float32)
    answers = {layer: explainer(x, 1, layer=layer)[1].reconstruction for layer in layers}
    wrong: list[str] = []

    def ask(order: list[str]) -> None:
        for layer in order:
            try:
                if not np.array_equal(explainer(x, 1, layer=layer)[1].reconstruction, answers[layer]):
                    wrong.append("different answers")
            except Exception as error:  # noqa: BLE001
                wrong.append(type(error).__name__)

    threads = [threading.Thread(target=ask, args=(rng.sample(layers, 4),)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sorted({*wrong})


WHOLE: dict[str, Callable[[random.Random, Path], list[str]]] = {
    "signals": stopped,
    "disk": full,
    "changes": changed,
    "cuts": cut,
    "threads": threaded,
}
"""Campaigns whose cases judge themselves."""


def run_whole(name: str, number: int, random_state: int, home: Path) -> Verdict:
    """Run a case that judges itself."""
    rng, start = random.Random(f"{random_state}/{name}/{number}"), time.monotonic()  # noqa: S311
    try:
        kinds = WHOLE[name](rng, home)
    except subprocess.TimeoutExpired:
        kinds = ["hangs"]
    return Verdict(name, number, kinds[:1], time.monotonic() - start, 0, " ".join(kinds[1:]))


def run_campaign(name: str, numbers: range, random_state: int, keep: Path | None) -> Iterator[Verdict]:
    """Run the cases of a campaign, one after another."""
    worker, home = Worker(), Path(tempfile.mkdtemp(prefix="torture-")) if keep is None else keep
    for number in numbers:
        folder = home / f"{name}-{number}"
        if name in WHOLE:
            verdict = run_whole(name, number, random_state, folder)
        else:
            verdict = worker.run(Case(name, number, random_state, folder))
        if keep is None:
            shutil.rmtree(folder, ignore_errors=True)
        yield verdict
    if keep is None:
        shutil.rmtree(home, ignore_errors=True)


def soak(minutes: float, threads: int = 8) -> None:
    """Explain in several threads for a while, and print how the memory grows."""
    from onnx_deconv import Explainer  # noqa: PLC0415

    explainer, end = Explainer(network(), providers="cpu", max_layers=2), time.monotonic() + 60 * minutes
    calls = itertools.count()

    def ask(seed: int) -> None:
        rng = random.Random(seed)  # noqa: S311
        x = np.random.default_rng(seed).standard_normal((1, 3, 16, 16)).astype(np.float32)
        while time.monotonic() < end:
            explainer(x, 1, layer=rng.choice(("r1", "c2", "r2", "s")) if rng.random() < 0.1 else "s")  # noqa: PLR2004
            next(calls)

    workers = [threading.Thread(target=ask, args=(seed,)) for seed in range(threads)]
    for worker in workers:
        worker.start()
    samples = []
    while any(worker.is_alive() for worker in workers):
        time.sleep(1)
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        samples.append((time.monotonic() / 60, pages * os.sysconf("SC_PAGE_SIZE") / 1e6))
    settled = np.array(samples[len(samples) // 3 :])
    slope = np.polyfit(settled[:, 0], settled[:, 1], 1)[0]
    print(f"{next(calls)} calls, {settled[-1, 1]:.0f} MB at the end, {slope:+.2f} MB per minute")


def main() -> int:
    """Run campaigns; return 1 if any case failed."""
    names = [*CAMPAIGNS, *WHOLE]
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--campaign", action="append", choices=names, help="may be repeated (default: all)")
    parser.add_argument("-n", "--cases", type=int, default=200, help="of each campaign")
    parser.add_argument("--random-state", type=int, default=0)
    parser.add_argument("--only", type=int, help="run this case alone")
    parser.add_argument("--keep", type=Path, help="keep the cases' files there")
    parser.add_argument("--soak", type=float, metavar="MINUTES")
    chosen = parser.parse_args()
    if chosen.soak:
        soak(chosen.soak)
        return 0
    numbers = range(chosen.cases) if chosen.only is None else range(chosen.only, chosen.only + 1)
    failed = 0
    for name in chosen.campaign or names:
        kinds, slowest, most, count = Counter[str](), 0.0, 0, 0
        for verdict in run_campaign(name, numbers, chosen.random_state, chosen.keep):
            count += 1
            kinds.update(verdict.kinds)
            slowest, most = max(slowest, verdict.seconds), max(most, verdict.memory)
            if verdict.kinds:
                print(f"  {name} {verdict.number}: {', '.join(verdict.kinds)}  {verdict.said}", flush=True)
                failed += 1
        listed = ", ".join(f"{number} {kind}" for kind, number in kinds.most_common()) or "none failed"
        print(f"{name}: {count} cases, {listed}; at most {slowest:.1f} s, {most >> 20} MB", flush=True)
    print(f"{failed} cases failed")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
