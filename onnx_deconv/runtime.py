"""onnxruntime sessions: the only room that imports it."""

import ctypes
import functools
import importlib.metadata
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import ModelProto, helper

from onnx_deconv.compile import SEED, Pair
from onnx_deconv.errors import InputError, ModelError, RuntimeUnavailableError
from onnx_deconv.lower import COMPANION, lower
from onnx_deconv.model import Array, all_tensors
from onnx_deconv.package import ONE_FILE, external_size

logger = logging.getLogger(__name__)

Providers = str | Sequence[str]
"""``auto``, or what to try in order: ``cpu``, ``cuda``, or onnxruntime's own names."""

_NAMES = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
_MOST_WORKERS = 16
_INSTALL = "pip install 'onnx-deconv[cpu]' (or [gpu] for CUDA)"


class Session:
    """A model that is ready to run.

    Parameters
    ----------
    proto
        The model; its external data lie in ``folder``.
    folder
        Where they lie; they are mapped, not copied, where the provider can.
    providers
        See :data:`Providers`. ``auto`` takes CUDA where it works and the CPU otherwise, and says so; a
        provider that is named must be had.
    alternating
        Whether it takes turns with another session: its threads must not wait actively then.
    threads
        How many threads of the CPU one run takes; all cores if not given.
    low_memory
        Whether to keep no memory from one run to the next; a little slower.

    Attributes
    ----------
    providers
        What the session really runs on, as onnxruntime reports it.
    """

    def __init__(
        self,
        proto: ModelProto,
        folder: Path,
        providers: Providers = "auto",
        *,
        alternating: bool = False,
        threads: int | None = None,
        low_memory: bool = False,
    ) -> None:
        ort = _onnxruntime()
        options = ort.SessionOptions()
        if threads is not None:
            options.intra_op_num_threads = threads
        # Sessions that stand beside many others would each keep as much memory as they ever needed.
        options.enable_cpu_mem_arena = threads is None and not low_memory
        if alternating:
            # The other session's idle threads would spin on the cores that this one needs: 24 ms, not 16,
            # for a SqueezeNet on 2 cores.
            options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3 if providers != "auto" else 4
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(folder))
        large = sum(map(external_size, all_tensors(proto))) > ONE_FILE
        if large:
            # Kernels would copy large weights into an order of their own, once for each session; measured on
            # a VGG-19 that doubles the memory and saves no time.
            options.add_session_config_entry("session.disable_prepacking", "1")
            # From the second run on it would keep one more block for what is computed; no faster either.
            options.enable_mem_pattern = False
        wanted = _resolve(providers)
        try:
            self._session = ort.InferenceSession(proto.SerializeToString(), options, providers=wanted)
        except Exception as error:  # onnxruntime has no common base for its exceptions
            raise ModelError(f"onnxruntime refuses the model: {_first_line(error)}") from error
        if large:
            return_freed_memory()
        self.providers: list[str] = self._session.get_providers()
        _check_providers(providers, wanted, self.providers)
        self.inputs = {i.name: i for i in self._session.get_inputs()}
        self.outputs = [o.name for o in self._session.get_outputs()]

    @property
    def device(self) -> str:
        """Where results stay: ``cuda`` or ``cpu``."""
        return "cuda" if _NAMES["cuda"] in self.providers else "cpu"

    def run(self, feeds: Mapping[str, Any], *, on_cpu: Sequence[str] = ()) -> dict[str, Any]:
        """Run the model; results stay on its device.

        Parameters
        ----------
        feeds
            Arrays, or results of another session, by input name.
        on_cpu
            Outputs that are wanted on the CPU in any case.

        Returns
        -------
        dict
            ``OrtValue`` by output name; :func:`numpy_of` copies one to the CPU.

        Raises
        ------
        InputError
            If an array does not fit the model.
        """
        binding = self._session.io_binding()
        quietly = _onnxruntime().RunOptions()
        quietly.log_severity_level = 4  # what goes wrong is raised: once is enough
        try:
            for name, value in feeds.items():
                if not isinstance(value, np.ndarray):
                    binding.bind_ortvalue_input(name, value)
                elif name in self.inputs:
                    binding.bind_cpu_input(name, np.asarray(value, order="C"))
                else:  # one with a default, which the call above does not know
                    whole = np.asarray(value, order="C")
                    binding.bind_ortvalue_input(name, _onnxruntime().OrtValue.ortvalue_from_numpy(whole))
            for name in self.outputs:
                binding.bind_output(name, "cpu" if name in on_cpu else self.device)
            self._session.run_with_iobinding(binding, quietly)
        except Exception as error:  # onnxruntime has no common base for its exceptions
            raise InputError(
                f"onnxruntime cannot run the model on this input: {_first_line(error)}"
            ) from error
        return dict(zip(self.outputs, binding.get_outputs(), strict=True))


class PairSession:
    """Both models of a pair, ready to run; what passes between them stays on the device.

    Safe to use from several threads: each call has its own bindings.

    Parameters
    ----------
    pair
        See :class:`onnx_deconv.compile.Pair`.
    providers
        See :data:`Providers`.
    lowerings
        Rewrites that make the companion faster, see :mod:`onnx_deconv.lower`; by default the device's.
    low_memory
        See :class:`Session`.
    """

    def __init__(
        self,
        pair: Pair,
        providers: Providers = "auto",
        lowerings: Sequence[str] | None = None,
        *,
        low_memory: bool = False,
    ) -> None:
        self.pair = pair
        session = functools.partial(
            Session, folder=pair.folder, providers=providers, alternating=True, low_memory=low_memory
        )
        self.forward = session(pair.forward)
        passes = COMPANION[self.forward.device] if lowerings is None else lowerings
        self.deconv = session(lower(pair.deconv, passes))
        entries = pair.manifest["deconv_inputs"]
        self.reads = [i["name"] for i in entries if i["kind"] != "seed"]
        self._on_cpu = [i["name"] for i in entries if i["kind"] == "shape"]

    def run_forward(self, feeds: Mapping[str, Array]) -> dict[str, Any]:
        """Run the user's model: its own outputs, the switches and the taps, as ``OrtValue`` s."""
        return self.forward.run(feeds, on_cpu=self._on_cpu)

    def run_deconv(self, values: Mapping[str, Any], seed: Array) -> dict[str, Array]:
        """Send a seed back through the companion, or several for each image at once.

        Parameters
        ----------
        values
            What :meth:`run_forward` returned for N images.
        seed
            Shape of the explained value, in the companion's type; or K times as long: K seeds for each
            image, those of the first image first. The forward pass is not repeated for them.

        Returns
        -------
        dict
            One reconstruction per explained input, shaped as the input (K times as long), by output name.

        Raises
        ------
        InputError
            If there are no whole number of seeds for each image, or the companion's batch size is fixed.
        """
        feeds = {name: values[name] for name in self.reads}
        images = values[self.pair.manifest["explained"]["value"]].shape()[:1]
        if list(seed.shape[:1]) != images:
            feeds = self._repeated(feeds, images[0], len(seed))
        results = self.deconv.run({**feeds, SEED: seed})
        return {name: numpy_of(value) for name, value in results.items()}

    def _repeated(self, feeds: Mapping[str, Any], images: int, seeds: int) -> dict[str, Array]:
        """Repeat each image's forward values as often as it has seeds."""
        entries = {e["name"]: e for e in self.pair.manifest["deconv_inputs"]}
        fixed = [
            n for n, e in entries.items() if e["kind"] != "shape" and isinstance((e["shape"] or [0])[0], int)
        ]
        if fixed or seeds % images:
            raise InputError(
                f"{seeds} seeds for {images} images: give as many, or a multiple if the batch is free"
            )
        arrays = {name: numpy_of(value) for name, value in feeds.items()}
        return {
            name: _repeat(array, seeds // images, entries[name]["kind"], self._positions(name, arrays))
            for name, array in arrays.items()
        }

    def _positions(self, switches: str, arrays: Mapping[str, Array]) -> int:
        """Return how many positions a pool whose switches these are has in one image; 0 for other values."""
        pool = self._pools.get(switches)
        if pool is None:
            return 0
        shape = next(
            (
                arrays[e["name"]]
                for e in self.pair.manifest["deconv_inputs"]
                if e["kind"] == "shape" and e["of"] == pool
            ),
            None,
        )
        sizes = self._sizes.get(pool, ()) if shape is None else shape[1:]
        if not len(sizes) or not all(sizes):
            raise InputError(f"the size of {pool!r} is not known: give one seed for each image")
        return int(np.prod(sizes))

    @functools.cached_property
    def _pools(self) -> dict[str, str]:
        """The input of each MaxPool by the name of its switches."""
        nodes = (n for n in self.pair.forward.graph.node if n.op_type == "MaxPool" and len(n.output) > 1)
        return {n.output[1]: n.input[0] for n in nodes}

    @functools.cached_property
    def _sizes(self) -> dict[str, list[int]]:
        """Each forward value's sizes behind the batch, 0 where not known."""
        graph = onnx.shape_inference.infer_shapes(self.pair.forward).graph
        infos = (*graph.input, *graph.value_info, *graph.output)
        return {i.name: [d.dim_value for d in i.type.tensor_type.shape.dim[1:]] for i in infos}

    @functools.cached_property
    def seed_dtype(self) -> Any:
        """The NumPy type of the seed."""
        return np.float16 if "float16" in self.deconv.inputs[SEED].type else np.float32


def _repeat(array: Array, times: int, kind: str, positions: int) -> Array:
    """Repeat what belongs to each image; a batch's switches count positions from its first image on."""
    if kind == "shape":
        return np.concatenate([array[:1] * times, array[1:]])
    repeated = np.repeat(array, times, axis=0)
    if kind != "switches":
        return repeated
    moved = np.arange(len(repeated)) - np.repeat(np.arange(len(array)), times)
    return repeated + (moved * positions).reshape(-1, *[1] * (array.ndim - 1))


def companion(pair: Pair, providers: Providers = "auto") -> Session:
    """Make a session of a pair's companion alone, to be run from :func:`workers` threads at once."""
    passes = COMPANION[device_of(providers)]
    return Session(lower(pair.deconv, passes), pair.folder, providers, threads=1)


def device_of(providers: Providers) -> str:
    """Return where sessions really run, ``cuda`` or ``cpu``: a session of one node tells."""
    return _device_of(providers if isinstance(providers, str) else tuple(providers))


@functools.cache
def _device_of(providers: str | tuple[str, ...]) -> str:
    value = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1])
    copied = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1])
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "probe", [value], [copied])
    opset = helper.make_opsetid("", 17)
    return Session(helper.make_model(graph, opset_imports=[opset], ir_version=9), Path(), providers).device


def workers(device: str) -> int:
    """Return how many runs at once keep a device busy: on the CPU one of one thread per core.

    That is up to twice as fast as one run on two cores: a reconstruction's small layers wait for each other.
    """
    return 1 if device == "cuda" else min(os.cpu_count() or 1, _MOST_WORKERS)


def numpy_of(value: Any) -> Array:
    """Copy a session's result to a NumPy array."""
    array: Array = value.numpy()
    return array


def _resolve(providers: Providers) -> list[str]:
    available = _onnxruntime().get_available_providers()
    if providers == "auto":
        names = [p for p in (_NAMES["cuda"], _NAMES["cpu"]) if p in available]
    else:
        listed = [providers] if isinstance(providers, str) else list(providers)
        names = [_NAMES.get(p, p) for p in listed]
    for name in names:
        if name not in available:
            way = (
                "pip install 'onnx-deconv[gpu]' in place of the CPU build"
                if "CUDA" in name
                else "see --providers"
            )
            raise RuntimeUnavailableError(f"the installed onnxruntime has no {name}: {way}")
    if _NAMES["cuda"] in names:
        preload = getattr(_onnxruntime(), "preload_dlls", None)
        if preload is not None:
            preload()
    return names


def _check_providers(asked: Providers, wanted: Sequence[str], got: Sequence[str]) -> None:
    """Compare what was asked for with what the session reports: onnxruntime falls back silently."""
    if _NAMES["cuda"] not in wanted or _NAMES["cuda"] in got:
        return
    if asked != "auto":
        raise RuntimeUnavailableError(
            "the CUDA provider could not be started: it needs an NVIDIA GPU with its driver, CUDA 13 and "
            "cuDNN 9 (pip install 'onnx-deconv[gpu]' brings both); use --providers cpu to do without"
        )
    _say_once("no usable CUDA device: running on the CPU")


@functools.cache
def _say_once(message: str) -> None:
    logger.warning(message)


@functools.cache
def _onnxruntime() -> Any:
    try:
        import onnxruntime  # noqa: PLC0415  (an extra: the rest of the package works without it)
    except ImportError as error:
        raise RuntimeUnavailableError(f"onnxruntime is not installed: {_INSTALL}") from error
    builds = [n for n in ("onnxruntime", "onnxruntime-gpu") if _installed(n)]
    if len(builds) > 1:
        logger.warning(
            "onnxruntime and onnxruntime-gpu are both installed and overwrite each other: remove one"
        )
    return onnxruntime


def _installed(distribution: str) -> bool:
    try:
        importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def return_freed_memory() -> None:
    """Give memory that was freed back to the system, where the C library (glibc) would keep it."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if os.name == "posix" else None
    if trim is not None:
        trim(0)


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
