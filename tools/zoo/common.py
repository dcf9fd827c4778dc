"""What the builders of the zoo share: the command line, the record of each model, and the check that it runs.

A builder is a function that writes one ONNX file and returns the facts that its record needs. Each is run in
a process of its own, so that an exporter that crashes or hangs costs one model, not the sweep.
"""

import argparse
import contextlib
import json
import multiprocessing
import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from fnmatch import fnmatch
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort

Facts = dict[str, Any]
Build = Callable[[Path], Facts]

LIMIT = 900  # seconds for one model
ONE_FILE = 1 << 31  # protobuf's limit


class NotYetError(Exception):
    """What a model is made from is not there yet: nothing is recorded."""


def main(recipes: Mapping[str, Build]) -> None:
    """Build the chosen recipes: the command line of every script here."""
    parser = argparse.ArgumentParser(description=sys.modules["__main__"].__doc__)
    parser.add_argument("-o", "--output", type=Path, help="folder to write to")
    parser.add_argument("--only", default="*", metavar="GLOB", help="the names to build")
    parser.add_argument("--again", action="store_true", help="rebuild what is there")
    parser.add_argument("--list", action="store_true", help="print the names and end")
    chosen = parser.parse_args()
    names = [name for name in recipes if fnmatch(name, chosen.only)]
    if chosen.list:
        print(*names, sep="\n")
    elif chosen.output is None:
        parser.error("say where to write: -o FOLDER")
    else:
        chosen.output.mkdir(parents=True, exist_ok=True)
        missing = [n for n in names if chosen.again or not (chosen.output / f"{n}.json").exists()]
        for count, name in enumerate(missing, 1):
            print(f"[{count}/{len(missing)}] {name}", end=" ", flush=True)
            print(alone(name, recipes[name], chosen.output), flush=True)


def alone(name: str, build: Build, folder: Path) -> str:
    """Build one model in a process of its own; return what became of it, in one line."""
    start = time.perf_counter()
    work = multiprocessing.get_context("fork").Process(target=attempt, args=(name, build, folder))
    work.start()
    work.join(LIMIT)
    if work.is_alive():
        work.kill()
        work.join()
        failed(name, folder, f"no end after {LIMIT} s")
    elif work.exitcode:
        failed(
            name,
            folder,
            f"the exporter died (exit code {work.exitcode}): {last_words(folder / f'.{name}' / 'log')}",
        )
    shutil.rmtree(folder / f".{name}", ignore_errors=True)
    written = folder / f"{name}.json"
    became = (
        json.loads(written.read_text()).get("failed", "ready") if written.exists() else "waits for its base"
    )
    return f"{became} ({time.perf_counter() - start:.0f} s)"


def last_words(log: Path) -> str:
    """Return the last line that an exporter printed."""
    lines = log.read_text(errors="replace").split("\n") if log.exists() else []
    return next((line.strip()[:160] for line in reversed(lines) if line.strip()), "silently")


def attempt(name: str, build: Build, folder: Path) -> None:
    """Build, check and record one model; a failure is recorded too, never dropped."""
    draft = folder / f".{name}" / "model.onnx"
    shutil.rmtree(draft.parent, ignore_errors=True)
    draft.parent.mkdir()
    try:
        with silence(draft.with_name("log")):
            facts = build(draft)
            model = one_file(draft)
            facts = {"opset": opset(model)} | facts
            for sizes in [facts["inputs"], *facts.get("sizes", [])]:
                check(draft, sizes)
    except NotYetError:
        return
    except Exception as error:  # noqa: BLE001 the reason becomes a row of the table
        failed(name, folder, reason(error))
    else:
        draft.replace(folder / f"{name}.onnx")
        record(name, folder, facts)


@contextlib.contextmanager
def silence(log: Path) -> Iterator[None]:
    """Send what frameworks print to a file; Python's and native code's alike."""
    with log.open("w") as file:
        kept = os.dup(1), os.dup(2)
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
        try:
            yield
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for stream, old in zip((1, 2), kept, strict=True):
                os.dup2(old, stream)


def one_file(path: Path) -> onnx.ModelProto:
    """Bring the weights into the file itself where it can hold them."""
    model = onnx.load(path)
    if len(list(path.parent.glob("*"))) > 2 and model.ByteSize() < ONE_FILE:  # noqa: PLR2004 the model and the log
        onnx.save(model, path)
    return model


def opset(model: onnx.ModelProto) -> int:
    """Return the version of the standard operators."""
    return max((o.version for o in model.opset_import if o.domain in {"", "ai.onnx"}), default=1)


def check(path: Path, sizes: Mapping[str, list[int]]) -> None:
    """Raise unless onnxruntime runs the model and its outputs neither vanish nor explode."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    for name, found in zip(
        [o.name for o in session.get_outputs()], session.run(None, feed(session, sizes)), strict=True
    ):
        values = np.asarray(found, np.float64)
        if not np.isfinite(values).all() or np.abs(values).max(initial=0) > 1e6:  # noqa: PLR2004
            raise ValueError(f"output {name} explodes for {dict(sizes)}")
        if values.size > 1 and not values.std():
            raise ValueError(f"output {name} is constant for {dict(sizes)}")


def feed(session: ort.InferenceSession, sizes: Mapping[str, list[int]]) -> dict[str, np.ndarray]:
    """Draw an input of the given sizes: standard normal, or bytes where the model takes integers."""
    rng = np.random.default_rng(0)
    types = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(double)": np.float64}
    of = {i.name: i.type for i in session.get_inputs()}
    return {
        name: rng.standard_normal(size).astype(types[of[name]])
        if of[name] in types
        else rng.integers(0, 255, size).astype(of[name][7:-1])
        for name, size in sizes.items()
    }


def record(name: str, folder: Path, facts: Facts) -> None:
    """Write a model's record under a temporary name, then rename it."""
    exporter, architecture = name.split("_", 1)
    facts = {"name": name, "architecture": architecture, "exporter": exporter} | facts
    draft = folder / f".{name}" / "record.json"
    draft.parent.mkdir(exist_ok=True)
    draft.write_text(json.dumps(facts, indent=1) + "\n")
    draft.replace(folder / f"{name}.json")


def failed(name: str, folder: Path, why: str) -> None:
    """Record a model that could not be made."""
    (folder / f"{name}.onnx").unlink(missing_ok=True)
    record(name, folder, {"failed": why})


def reason(error: BaseException) -> str:
    """Return the first telling line of an error, with the error that caused it."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or ["no message"]
    told = re.sub(r"(Load model from )?\S*/model\.onnx( failed:)?", "", lines[0])
    return f"{type(error).__name__}: {told}"[:200]


def versions(*packages: str) -> str:
    """Return ``"torch 2.13.0, timm 1.0.31"``."""
    return ", ".join(f"{p} {version(p)}" for p in packages)
