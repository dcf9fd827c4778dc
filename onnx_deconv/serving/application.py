"""Servers: routes behind a gate, until they are told to stop."""

import asyncio
import json
import logging
import os
import selectors
import signal
import socket
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, nullcontext, suppress
from dataclasses import replace
from types import FrameType
from typing import Any, cast

import uvicorn
from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from onnx_deconv.errors import DeconvError, InputError
from onnx_deconv.serving.batching import Runs
from onnx_deconv.serving.bodies import failed
from onnx_deconv.serving.connections import Connections, is_silent
from onnx_deconv.serving.gate import TOLD, Admission, Gate
from onnx_deconv.serving.limits import Address, Limits
from onnx_deconv.serving.metrics import Metrics
from onnx_deconv.serving.routes import Routes
from onnx_deconv.serving.served import Served

_KEEP_ALIVE = 75
"""Seconds that a connection is kept: longer than proxies keep theirs."""
_TICKS = 10
"""How often uvicorn looks after itself in a second."""
_LAST = 0.25
"""Seconds in which the request of a connection comes that was made before the server stopped."""
_STOP = "stop"
State = dict[str, Callable[[], Awaitable[None]]]
"""What an application gives its server."""
_LONGEST = 0.5
"""How many more are spent on reading what has come."""


def models_app(
    models: Sequence[Served], limits: Limits, address: Address, version: str, grpc: Address | None = None
) -> ASGIApp:
    """Make what answers for models.

    Parameters
    ----------
    grpc
        Where KServe's SDK listens for gRPC; ``None`` where it takes no part.
    """
    metrics = Metrics()
    runs = Runs(limits.batch, limits.runs, metrics.ran)
    admission = Admission(address, limits, metrics)
    routes, sdk = Routes(models, runs, limits, metrics, version).all(), None
    if grpc is not None:
        from onnx_deconv.serving.kserve import KServe  # noqa: PLC0415 - an extra

        sdk = KServe(models, runs, limits)
        routes += sdk.routes()

    @asynccontextmanager
    async def life() -> AsyncIterator[State]:
        async with nullcontext() if sdk is None or grpc is None else sdk.listening(grpc, admission) as stop:
            yield {} if stop is None else {_STOP: stop}
        runs.close()

    return gated(routes, admission, {}, life())


def gated(
    routes: Sequence[BaseRoute],
    admission: Admission,
    headers: Mapping[str, str],
    life: AbstractAsyncContextManager[State] | None = None,
) -> ASGIApp:
    """Put routes behind a gate.

    Parameters
    ----------
    life
        Entered before the first answer, and left after the last. It may give what begins to stop what listens
        beside the server, as ``stop``.
    """
    handlers = dict.fromkeys((HTTPException, DeconvError, ClientDisconnect, Exception), failed)
    app = Starlette(
        routes=list(routes), exception_handlers=handlers, lifespan=lambda _: life or nullcontext({})
    )
    return Gate(app, admission, headers)


def run(
    app: ASGIApp, address: Address, limits: Limits, started: Callable[[str], None], level: int = logging.INFO
) -> None:
    """Serve until the process is told to stop (SIGTERM, SIGHUP, Ctrl+C); open requests are answered.

    Parameters
    ----------
    app, address, limits
        What is served, where, and how long open requests may take when it stops.
    started
        Called with the server's own address as soon as it listens.
    level
        What the log tells of: every request, or (``logging.ERROR``) only those that the server failed at.

    Raises
    ------
    InputError
        If it cannot listen there.
    """
    log_as_json(level)
    config = uvicorn.Config(
        app,
        host=address.host,
        port=address.port,
        interface="asgi3",
        log_config=None,
        access_log=False,
        server_header=False,
        lifespan="on",
        timeout_keep_alive=_KEEP_ALIVE,
        timeout_graceful_shutdown=int(limits.seconds) + 1,
    )
    listening = _listening(address, config.backlog)
    server = _Server(config, limits.seconds)
    with _stopped_quietly(server):
        started(f"http://{_found(address, listening).named}")
        server.run(sockets=[listening])


class _Server(uvicorn.Server):
    """A server that looks after its connections.

    Parameters
    ----------
    config
        Of the server.
    seconds
        How long its callers may take.
    """

    def __init__(self, config: uvicorn.Config, seconds: float) -> None:
        super().__init__(config)
        self._connections = Connections(seconds, _KEEP_ALIVE)
        self._app, config.app = cast("ASGIApp", config.app), self._answered

    async def on_tick(self, counter: int) -> bool:
        """Close idle connections, once a second."""
        if counter % _TICKS == 0:
            self._connections.close_idle(self.server_state.connections, time.monotonic())
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Hear all who have connected before listening no more: the system breaks what nobody accepted."""
        beside = [asyncio.ensure_future(stop()) for key, stop in self.lifespan.state.items() if key == _STOP]
        waiting = [connected for each in sockets or [] for connected in _accepted(each)]
        for server in self.servers:
            server.close()
        for connected in waiting:
            await asyncio.get_running_loop().connect_accepted_socket(self._protocol, connected)
        await asyncio.sleep(_LAST)
        await self._read()
        await super().shutdown(sockets)
        await asyncio.gather(*beside)

    def _protocol(self) -> asyncio.Protocol:
        """Make what talks on one connection, as uvicorn does for those that it accepts itself."""
        made: asyncio.Protocol = self.config.http_protocol_class(  # type: ignore[call-arg]
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )
        return made

    async def _read(self) -> None:
        """Wait until all that has come on connections is read, unless callers send without an end."""
        end = time.monotonic() + _LONGEST
        while time.monotonic() < end:
            if not _has_unread(self._silent()):
                return
            await asyncio.sleep(0)

    def _silent(self) -> list[Any]:
        """List the sockets of connections on which no request is worked on."""
        open_ = [each for each in self.server_state.connections if is_silent(each)]
        return [each.transport.get_extra_info("socket") for each in open_]

    async def _answered(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Say in last answers that the connection ends, for callers would send more on it."""

        async def sending(message: Message) -> None:
            if self.should_exit and message["type"] == "http.response.start":
                MutableHeaders(scope=message)["Connection"] = "close"
            await send(message)

        await self._app(scope, receive, sending)


def _accepted(listening: socket.socket) -> Iterator[socket.socket]:
    """Yield the connections that wait to be accepted."""
    with suppress(BlockingIOError):
        while True:
            connected, _ = listening.accept()
            connected.setblocking(False)
            yield connected


def _has_unread(sockets: Sequence[Any]) -> bool:
    with selectors.DefaultSelector() as waiting:
        for each in sockets:
            waiting.register(each, selectors.EVENT_READ)
        return bool(waiting.select(0))


def free(address: Address, option: str) -> Address:
    """Return an address with a number for its port, after looking whether it can be listened on.

    Raises
    ------
    InputError
        If it cannot; names the option that chooses another.
    """
    with _listening(address, 1, option) as listening:
        return _found(address, listening)


def _found(address: Address, listening: socket.socket) -> Address:
    return replace(address, port=listening.getsockname()[1])


def _listening(address: Address, backlog: int, option: str = "--port") -> socket.socket:
    """Listen: from here on, who asks may have to wait, but is not refused.

    The protocol is named, for asyncio sends small answers at once only on sockets that know theirs: the
    kernel would else keep them back for 40 ms.
    """
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    found = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        if os.name == "posix":
            found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind((address.host, address.port))
        found.listen(backlog)
    except OSError as error:
        found.close()
        raise InputError(
            f"cannot listen on {address.host}, port {address.port} ({error.strerror}): choose another with "
            f"--host or {option}"
        ) from None
    return found


@contextmanager
def _stopped_quietly(server: uvicorn.Server) -> Iterator[None]:
    """Have a signal stop the server before uvicorn listens for signals, too.

    uvicorn's last word is to raise the signal again: that does nothing then, and the exit code is 0.
    """

    def stop(number: int, frame: FrameType | None) -> None:
        del number, frame
        server.should_exit = True

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    names = (name for name in ("SIGTERM", "SIGINT", "SIGHUP") if hasattr(signal, name))
    before = {number: signal.signal(number, stop) for number in (getattr(signal, name) for name in names)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def log_as_json(level: int) -> None:
    """Write the server's log to stderr, one JSON object per line."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Lines())
    for name, least in (("onnx_deconv.serving", level), ("uvicorn.error", logging.WARNING)):
        log = logging.getLogger(name)
        log.handlers[:], log.propagate = [handler], False
        log.setLevel(least)


class _Lines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {"time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S%z"), "level": record.levelname.lower()}
        line |= {"message": record.getMessage(), **getattr(record, TOLD, {})}
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line)
