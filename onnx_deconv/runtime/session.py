"""One model, ready to run in onnxruntime."""

import ctypes
import functools
import os
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
from onnx import ModelProto, TensorProto, helper

from onnx_deconv.compiler.package import ONE_FILE, copy_weights, external_size
from onnx_deconv.errors import InputError, ModelError
from onnx_deconv.files import Spool
from onnx_deconv.model import Array, all_tensors
from onnx_deconv.model.too_small import too_small
from onnx_deconv.runtime import providers as execution_providers
from onnx_deconv.runtime.providers import Providers

_MOST_WORKERS = 16
_BFLOAT16 = "tensor(bfloat16)"
_SESSIONS: "weakref.WeakSet[Session]" = weakref.WeakSet()
_limit: list[int] = []
"""The most threads that sessions may take, if there is a limit."""


def limit_threads(most: int | None) -> None:
    """Limit how many threads of the CPU each session takes that is made from now on, in the whole process.

    Parameters
    ----------
    most
        At least 1; ``None`` for all cores.

    Raises
    ------
    InputError
        If it is less than 1.
    """
    if most is not None and most < 1:
        raise InputError(f"{most} threads: give at least 1")
    _limit[:] = [] if most is None else [most]


class Session:
    """A model that is ready to run.

    Parameters
    ----------
    proto
        The model; its external data are in ``folder``.
    folder
        Where they lie; they are mapped, not copied, where the provider can.
    providers
        See :data:`Providers`. ``auto`` takes CUDA where it works and the CPU otherwise, and says so; a
        provider that is named must be had.
    alternating
        Whether it takes turns with another session: its threads must not wait actively then.
    threads
        How many threads of the CPU one run takes; all cores, or what :func:`limit_threads` allows, if not
        given.
    low_memory
        Whether to keep no memory from one run to the next; a little slower.
    arena
        Whether memory is kept from one run to the next; by default unless `threads` are given or memory is
        low.
    numbered
        Whether the node that comes first in onnxruntime's numbering is computed first of those that can be;
        otherwise the last output is, with all that it needs, then the one before it.
    optimised
        Whether the runtime may fuse nodes, which rounds otherwise.

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
        arena: bool | None = None,
        numbered: bool = False,
        optimised: bool = True,
    ) -> None:
        ort = execution_providers.onnxruntime()
        self._spelled = _Spelled(folder, proto)
        large = sum(map(external_size, all_tensors(proto))) > ONE_FILE
        options = _options(threads, large=large, alternating=alternating, numbered=numbered)
        if not optimised:
            options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.add_session_config_entry(
            "session.model_external_initializers_file_folder_path", str(self._spelled.folder)
        )
        # Sessions that stand beside many others would each keep as much memory as they ever needed.
        options.enable_cpu_mem_arena = threads is None and not low_memory if arena is None else arena
        wanted = execution_providers.resolve(providers)
        try:
            self._session: Any = ort.InferenceSession(proto.SerializeToString(), options, providers=wanted)
        except Exception as error:  # onnxruntime has no common base for its exceptions
            raise ModelError(
                f"onnxruntime refuses the model: {_first_line(error)}{_in_bfloat16(proto)}"
            ) from error
        if large:
            return_freed_memory()
        self._proto = proto
        self.providers: list[str] = self._session.get_providers()
        execution_providers.check(providers, wanted, self.providers)
        _SESSIONS.add(self)
        self.inputs = {i.name: i for i in self._session.get_inputs()}
        self.outputs = [o.name for o in self._session.get_outputs()]

    def abandon(self) -> None:
        """Never use the session again, in a process that was forked from the one that made it.

        It is not even destroyed: that would wait for its threads, which do not exist in this process.
        """
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._session))
        self._session = None

    @property
    def device(self) -> str:
        """Where results stay: ``cuda`` or ``cpu``."""
        return "cuda" if execution_providers.CUDA in self.providers else "cpu"

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
            If an array does not fit the model, or there is none for an input.
        """
        if self._session is None:
            raise InputError("made before the process was forked: make it again in the new process")
        missing = [name for name in self.inputs if name not in feeds]
        if missing:
            raise InputError(f"nothing was given for the model's input {missing[0]!r}")
        binding, kept = self._session.io_binding(), list[_Rounded]()
        quietly = execution_providers.onnxruntime().RunOptions()
        quietly.log_severity_level = 4  # what goes wrong is raised: once is enough
        try:
            for name, given in feeds.items():
                # Arithmetic makes NumPy's numbers of arrays without axes.
                value = np.asarray(given) if isinstance(given, np.generic) else given
                if not isinstance(value, np.ndarray):
                    binding.bind_ortvalue_input(name, value)
                elif name in self.inputs and self.inputs[name].type == _BFLOAT16:
                    kept.append(_rounded(value))
                    binding.bind_ortvalue_input(name, kept[-1].value)
                elif name in self.inputs:
                    binding.bind_cpu_input(name, np.asarray(value, order="C"))
                else:  # one with a default, which the call above does not know
                    whole = np.asarray(value, order="C")
                    binding.bind_ortvalue_input(
                        name, execution_providers.onnxruntime().OrtValue.ortvalue_from_numpy(whole)
                    )
            for name in self.outputs:
                binding.bind_output(name, "cpu" if name in on_cpu else self.device)
            self._session.run_with_iobinding(binding, quietly)
        except Exception as error:  # onnxruntime has no common base for its exceptions
            raise InputError(self._why(error, feeds)) from error
        return dict(zip(self.outputs, binding.get_outputs(), strict=True))

    def run_plainly(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Run the model as its users will, on arrays and without bindings; return arrays by output name.

        Raises
        ------
        InputError
            If an array does not fit the model, or one is missing.
        """
        if any(each.type == _BFLOAT16 for each in self.inputs.values()):
            return {name: numpy_of(value) for name, value in self.run(feeds).items()}
        try:
            results = self._session.run(None, dict(feeds))
        except Exception as error:  # onnxruntime has no common base for its exceptions
            raise InputError(self._why(error, feeds)) from error
        return dict(zip(self.outputs, results, strict=True))

    def _why(self, error: Exception, feeds: Mapping[str, Any]) -> str:
        """Say what is wrong with an input: that it is too small, or what onnxruntime says."""
        shapes = {
            name: list(value.shape if isinstance(value, np.ndarray) else value.shape())
            for name, value in feeds.items()
        }
        said = f"onnxruntime cannot run the model on this input: {_first_line(error)}"
        return too_small(self._proto, shapes) or said


class _Rounded(NamedTuple):
    """Numbers rounded to bfloat16, and the memory that they lie in."""

    value: Any
    stored: Array


def _rounded(values: Array) -> _Rounded:
    """Round numbers to bfloat16, as onnxruntime keeps them."""
    stored = values.astype(helper.tensor_dtype_to_np_dtype(TensorProto.BFLOAT16)).view(np.uint16)
    ort_value = execution_providers.onnxruntime().OrtValue
    return _Rounded(ort_value.ortvalue_from_numpy_with_onnx_type(stored, TensorProto.BFLOAT16), stored)


def _in_bfloat16(proto: ModelProto) -> str:
    """Say what to do about a model that computes with bfloat16."""
    types = {tensor.data_type for tensor in all_tensors(proto)}
    types |= {info.type.tensor_type.elem_type for info in proto.graph.input}
    remedy = "; few operators take bfloat16, least of all on CPUs: convert the model to float32"
    return remedy if TensorProto.BFLOAT16 in types else ""


class _Spelled:
    """A folder under a name that onnxruntime takes: it reads UTF-8, whatever the file system's encoding."""

    def __init__(self, folder: Path, proto: ModelProto) -> None:
        self.folder = folder
        if not str(folder).isascii() and os.fsencode(folder) != str(folder).encode(errors="replace"):
            self._spool = Spool()
            self.folder = self._spool.folder / "here"
            try:
                self.folder.symlink_to(folder.absolute(), target_is_directory=True)
            except (
                OSError,
                NotImplementedError,
            ):  # links need a privilege on Windows; not all disks have them
                copy_weights(proto, folder, self.folder)


def _options(threads: int | None, *, large: bool, alternating: bool, numbered: bool) -> Any:
    """Choose how onnxruntime runs a session; it is large if its weights are kept in a file of their own."""
    ort = execution_providers.onnxruntime()
    options = ort.SessionOptions()
    options.log_severity_level = 4  # what goes wrong is raised: once is enough
    if threads is not None or _limit:
        options.intra_op_num_threads = min(filter(None, [threads, *_limit]))
    if alternating:
        # The other session's idle threads would spin on the cores that this one needs: half as long
        # again, for a SqueezeNet on 2 cores.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if numbered:
        options.execution_order = ort.ExecutionOrder.PRIORITY_BASED
    if large:
        # Kernels would copy large weights into an order of their own, once for each session; measured on
        # a VGG-19 that doubles the memory and saves no time.
        options.add_session_config_entry("session.disable_prepacking", "1")
        # From the second run on it would keep one more block for what is computed; no faster either.
        options.enable_mem_pattern = False
    return options


def _abandon_all() -> None:
    for session in list(_SESSIONS):
        session.abandon()
    _SESSIONS.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_abandon_all)


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
    return 1 if device == "cuda" else min(os.cpu_count() or 1, _MOST_WORKERS, *_limit)


def clock_of(device: str) -> Callable[[], float]:
    """Return what measures, in seconds, what work on a device takes.

    On the CPU that is the processor's time, which other programs change little, whatever they leave of it.
    """
    return time.perf_counter if device == "cuda" else time.process_time


def numpy_of(value: Any) -> Array:
    """Copy a session's result to a NumPy array; an array is returned as it is."""
    array: Array = value if isinstance(value, np.ndarray) else value.numpy()
    return array


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]


def return_freed_memory() -> None:
    """Give memory that was freed back to the system, where the C library (glibc) would keep it."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if os.name == "posix" else None
    if trim is not None:
        trim(0)
