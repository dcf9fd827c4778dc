"""Actors on a Ray cluster that do one task after another; a lost one is replaced."""

import os
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from onnx_deconv.errors import InputError
from onnx_deconv.runtime import limit_threads

T = TypeVar("T")

_ANSWERS = 10.0
"""Seconds in which a cluster answers that can be reached."""


class Workers:
    """Actors of one class, on one core each.

    Parameters
    ----------
    of
        The class.
    arguments
        What it is made of; every node gets it once.
    address
        The cluster's, ``auto`` for the one that this machine belongs to, or ``local`` for this machine alone.
    count
        How many; by default one for each core of the cluster.
    on_gpu
        Whether they share the cluster's GPUs in equal parts, as one core alone does not keep a GPU busy.

    Attributes
    ----------
    actors
        The actors.
    ray
        Ray.

    Raises
    ------
    InputError
        If Ray is not installed, or there is no such cluster.
    """

    def __init__(
        self, of: type, arguments: Sequence[Any], address: str = "auto", count: int | None = None,
        *, on_gpu: bool = False,
    ) -> None:  # fmt: skip
        self.ray = _connected(address)
        there = self.ray.cluster_resources()
        number = count or max(1, int(there.get("CPU", 1)))
        share = _share(there.get("GPU", 0), number) if on_gpu else 0
        # Ray replaces a lost actor, and gives it its task again, as often as it takes.
        remote = self.ray.remote(num_cpus=1, num_gpus=share, max_restarts=-1, max_task_retries=-1)(
            of_one_core(of)
        )
        self._shared = [self.ray.put(each) for each in arguments]  # kept: an actor made anew asks for them
        self.actors = [remote.remote(str(Path.cwd()), *self._shared) for _ in range(number)]

    def results(self, submit: Callable[[Any, T], Any], tasks: Sequence[T]) -> Iterator[tuple[T, Any]]:
        """Hand tasks to actors as they get free; yield each with where its result is, in order."""
        waiting, under_way, finished = iter(enumerate(tasks)), dict[Any, tuple[int, Any]](), dict[int, Any]()

        def start(actor: Any) -> None:
            for number, task in waiting:
                under_way[submit(actor, task)] = number, actor
                break

        for actor in self.actors:
            start(actor)
        for number, task in enumerate(tasks):
            while number not in finished:
                (reference,), _ = self.ray.wait(list(under_way), num_returns=1)
                of, actor = under_way.pop(reference)
                finished[of] = reference
                start(actor)
            yield task, finished.pop(number)

    def get(self, reference: Any) -> Any:
        """Return a result."""
        return self.ray.get(reference)


def _share(gpus: float, actors: int) -> float:
    """Return the part of a GPU that each of several actors gets; no actor gets parts of two."""
    if not gpus:
        raise InputError("the cluster has no GPU: choose --providers cpu, or a cluster that has one")
    return 1 / max(1, -(-actors // int(gpus)))


def of_one_core(of: type) -> type:
    """Return a class like another, whose objects begin in a folder and take one core."""

    class OfOneCore(of):  # type: ignore[misc]
        def __init__(self, home: str, *arguments: Any) -> None:
            with suppress(OSError):
                os.chdir(home)
            limit_threads(1)
            super().__init__(*arguments)

    OfOneCore.__name__ = OfOneCore.__qualname__ = of.__name__
    return OfOneCore


def _connected(address: str) -> Any:
    try:
        import ray  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise InputError("a cluster is spoken to by Ray: pip install 'onnx-deconv[ray]'") from error
    if not ray.is_initialized():
        where = {} if address == "local" else {"address": address}
        try:
            _knock(address)
            ray.init(**where, log_to_driver=False, configure_logging=False, include_dashboard=False)
        except (OSError, ValueError) as error:
            raise InputError(
                f"--ray {address}: no cluster answers ({str(error).splitlines()[0]}); "
                "'ray start --head' starts one, and --ray local needs none"
            ) from error
    return ray


def _knock(address: str) -> None:
    """Open a connection to a host and a port, where perhaps nobody listens: Ray would wait for minutes."""
    host, between, port = address.rpartition("://")[2].rpartition(":")
    if between and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), _ANSWERS).close()
