"""Other runtimes than onnxruntime, to prove graphs on: each is imported only when it is asked to run a file.

The file imports nothing of this package, so that tools/runtimes/run.py can load it where there is nothing but
NumPy and one runtime.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

Run = Callable[[Mapping[str, NDArray[Any]]], Sequence[NDArray[Any]]]
"""Runs a model on inputs by name."""

Load = Callable[[Path, Sequence[str]], Run]

_TRACT_TYPES = {
    "float16": "F16", "float32": "F32", "float64": "F64", "int32": "I32", "int64": "I64", "uint8": "U8",
    "bool": "BOOL",
}  # fmt: skip


@dataclass(frozen=True)
class Prover:
    """A runtime that can run a file on this machine, if its package is installed.

    Attributes
    ----------
    name
        What people call it.
    package
        What it is imported as, and called in the Python Package Index.
    own
        Each makes a file ready to run, of its path and the names of its outputs, in the file's order.
        There are several where a runtime computes otherwise in one thread than in many.
    provider
        onnxruntime's own name of what runs files in the same runtime, where its build has that.
    """

    name: str
    package: str
    own: Sequence[Load]
    provider: str = ""

    @property
    def is_installed(self) -> bool:
        """Whether it can be asked."""
        return bool(self.loads)

    @property
    def loads(self) -> Sequence[Load]:
        """What makes a file ready here: the package's own, and onnxruntime's provider."""
        own = self.own if find_spec(self.package) is not None else ()
        return (*own, partial(through, provider=self.provider)) if _is_built_in(self.provider) else own


def _is_built_in(provider: str) -> bool:
    if not provider or find_spec("onnxruntime") is None:
        return False
    import onnxruntime  # noqa: PLC0415 - takes a while to load

    return provider in onnxruntime.get_available_providers()


def through(file: Path, outputs: Sequence[str], provider: str) -> Run:
    """Make a file ready for a provider of onnxruntime, which leaves to the CPU what that does not take.

    Raises
    ------
    RuntimeError
        If the provider could not be started.
    """
    import onnxruntime  # noqa: PLC0415 - takes a while to load

    session = onnxruntime.InferenceSession(str(file), providers=[provider])
    if provider not in session.get_providers():
        raise RuntimeError(f"{provider} could not be started")
    return lambda feeds: session.run(list(outputs), dict(feeds))


def openvino(file: Path, outputs: Sequence[str], threads: int = 0) -> Run:
    """Make a file ready for OpenVINO on the CPU, computing in float32; 0 threads are all cores."""
    import openvino as ov  # noqa: PLC0415 - most machines do not have it

    core = ov.Core()
    core.set_property({"ENABLE_MMAP": False})  # a mapped file of weights could not be moved on Windows
    choices = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads}
    compiled = core.compile_model(core.read_model(str(file)), "CPU", choices)

    def run(feeds: Mapping[str, NDArray[Any]]) -> Sequence[NDArray[Any]]:
        found = compiled(dict(feeds))
        return [found[name] for name in outputs]

    return run


def tract(file: Path, places: Sequence[int]) -> Run:
    """Make a file ready for tract, which calls outputs by their nodes, once for each set of sizes."""
    import tract as runtime  # noqa: PLC0415 - most machines do not have it

    ready: dict[tuple[str, ...], tuple[Any, list[str]]] = {}

    def made(facts: Mapping[str, str]) -> tuple[Any, list[str]]:
        loaded = runtime.onnx().load(str(file))
        order = [loaded.input_name(k) for k in range(loaded.input_count())]
        for k, name in enumerate(order):
            loaded.set_input_fact(k, facts[name])
        return loaded.into_model().into_runnable(), order

    def run(feeds: Mapping[str, NDArray[Any]]) -> Sequence[NDArray[Any]]:
        facts = {
            name: ",".join([*map(str, array.shape), _TRACT_TYPES[str(array.dtype)]])
            for name, array in feeds.items()
        }
        sizes = tuple(facts.values())
        if sizes not in ready:
            ready[sizes] = made(facts)
        runnable, order = ready[sizes]
        found = runnable.run([feeds[name] for name in order])
        return [found[k].to_numpy() for k in places]

    return run


PROVERS: Mapping[str, Prover] = {
    "openvino": Prover(
        "OpenVINO", "openvino", (openvino, partial(openvino, threads=1)), "OpenVINOExecutionProvider"
    ),
    "tract": Prover("tract", "tract", (lambda file, outputs: tract(file, range(len(outputs))),)),
}
"""What proves graphs for a runtime, by what the runtime is called in ``--for``."""
