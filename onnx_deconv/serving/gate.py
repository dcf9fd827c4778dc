"""What every request passes: who asks, how many ask, what came of it.

Browsers send requests to any server, with its password, for any page that tells them to. So a server answers
to no page of another origin, and one on a loopback address only to a name of the loopback.
"""

import base64
import hmac
import logging
import re
import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from onnx_deconv.serving.limits import Address, Limits
from onnx_deconv.serving.metrics import Metrics

logger = logging.getLogger("onnx_deconv.serving")
TOLD = "told"
"""What the log says of a request beside its message: kept under this name of the request and the record."""

_LOOPBACK = {"localhost", "127.0.0.1", "::1"}
_OPEN_TO_ALL = ("/v2/health/live", "/v2/health/ready")
_COUNTS = "/metrics"
IDENTIFIER = "x-request-id"
_IDENTIFIER = re.compile(r"[\w.:-]{1,64}", re.ASCII)


class Admission:
    """Decides who may ask and how many ask at once, and counts what came of it, whatever the protocol.

    Parameters
    ----------
    address
        Who may ask.
    limits
        How many may ask at once.
    metrics
        Where they are counted.
    """

    def __init__(self, address: Address, limits: Limits, metrics: Metrics) -> None:
        self.address = address
        self._limits, self._metrics = limits, metrics
        self._open = 0

    def refuse(self, authorization: str, *, is_counted: bool = True) -> None:
        """Refuse a request that does not show the token, or that is one too many.

        Parameters
        ----------
        authorization
            What it shows, as the header of that name.
        is_counted
            Whether it may be one too many.

        Raises
        ------
        HTTPException
            401 or 429.
        """
        if self.address.token and not self._is_token(authorization):
            raise HTTPException(
                401, "give the token: Authorization: Bearer TOKEN", {"WWW-Authenticate": "Basic"}
            )
        if is_counted and self._open >= self._limits.waiting:
            raise HTTPException(429, f"{self._open} requests are waiting: try again", {"Retry-After": "1"})

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Count a request as open while it is worked on."""
        self._open += 1
        self._metrics.opened(self._open)
        try:
            yield
        finally:
            self._open -= 1
            self._metrics.opened(self._open)

    def record(self, status: int, began: float, told: Mapping[str, Any], line: Mapping[str, Any]) -> None:
        """Count an answer, and write a line about it.

        Parameters
        ----------
        status
            As HTTP numbers them.
        began
            When it was asked for, by ``time.perf_counter``.
        told
            What is known of the request: its route, its model, how many images.
        line
            Who asked for what.
        """
        seconds = time.perf_counter() - began
        self._metrics.answered(told.get("route", "other"), told.get("model", ""), status, seconds)
        level = logging.INFO if status < 500 else logging.ERROR  # noqa: PLR2004
        whole = {**line, "status": status, "seconds": round(seconds, 4), **told}
        logger.log(level, "answered", extra={TOLD: whole})

    def _is_token(self, authorization: str) -> bool:
        """Tell whether a caller has the token: a program as Bearer, a browser as a password."""
        kind, _, shown = authorization.partition(" ")
        if kind.lower() == "basic":
            shown = _password(shown)
        same = hmac.compare_digest(shown.strip().encode(), self.address.token.encode())
        return same and kind.lower() in ("bearer", "basic")


class Gate:
    """Lets requests over HTTP pass, or answers them itself.

    Parameters
    ----------
    app
        What answers them otherwise.
    admission
        Who may ask, and how many.
    headers
        What every answer says beside its own headers.
    """

    def __init__(self, app: ASGIApp, admission: Admission, headers: Mapping[str, str]) -> None:
        self._app, self._admission = app, admission
        self._headers = {"X-Content-Type-Options": "nosniff", **headers}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, and write a line about it."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        headers, began, status = Headers(scope=scope), time.perf_counter(), 500
        identifier = identified(headers.get(IDENTIFIER, ""))

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                answer = MutableHeaders(scope=message)
                for name, value in {**self._headers, "X-Request-Id": identifier}.items():
                    answer.setdefault(name, value)
            await send(message)

        try:
            refusal = self._refusal(scope, headers)
            if refusal is not None:
                return await refusal(scope, receive, sending)
            with self._admission.entered():
                await self._app(scope, receive, sending)
        finally:
            client = scope.get("client")
            line = {
                "request": identifier,
                "client": client[0] if client else None,
                "method": scope["method"],
                "path": scope["path"],
            }
            self._admission.record(status, began, scope.get(TOLD, {}), line)
        return None

    def _refusal(self, scope: Scope, headers: Headers) -> JSONResponse | None:
        """Answer what does not pass."""
        if self._admission.address.is_loopback and _host(headers.get("host", "")) not in _LOOPBACK:
            return _error(403, "this server answers to programs on its own machine, under its own name")
        if not _is_of_own_page(headers):
            return _error(403, "this server answers to no pages but its own")
        if scope["path"] in _OPEN_TO_ALL:
            return None
        try:
            self._admission.refuse(headers.get("authorization", ""), is_counted=scope["path"] != _COUNTS)
        except HTTPException as error:
            return _error(error.status_code, error.detail, error.headers)
        return None


def identified(given: str) -> str:
    """Return what a caller calls its request, or a name for it where it says nothing that can be repeated."""
    return given if _IDENTIFIER.fullmatch(given) else secrets.token_hex(8)


def _is_of_own_page(headers: Headers) -> bool:
    """Tell whether a request comes from a page of this server, or from no page."""
    origin = headers.get("origin")
    if origin is None:
        return True
    try:
        return urlsplit(origin).netloc == headers.get("host")
    except ValueError:
        return False


def _password(shown: str) -> str:
    try:
        return base64.b64decode(shown, validate=True).decode().partition(":")[2]
    except ValueError:
        return ""


def _host(header: str) -> str:
    """Return the name in a Host header, without its port."""
    try:
        return urlsplit(f"//{header}").hostname or ""
    except ValueError:
        return ""


def _error(status: int, text: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    return JSONResponse({"error": text}, status, headers)
