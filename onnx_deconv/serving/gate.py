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
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
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
_IDENTIFIER = re.compile(r"[\w.:-]{1,64}", re.ASCII)


class Gate:
    """Lets requests pass, or answers them itself.

    Parameters
    ----------
    app
        What answers them otherwise.
    address
        Who may ask.
    limits
        How many may ask at once.
    metrics
        Where they are counted.
    headers
        What every answer says beside its own headers.
    """

    def __init__(
        self, app: ASGIApp, address: Address, limits: Limits, metrics: Metrics, headers: Mapping[str, str]
    ) -> None:
        self._app, self._address, self._limits, self._metrics = app, address, limits, metrics
        self._headers = {"X-Content-Type-Options": "nosniff", **headers}
        self._open = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, and write a line about it."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        headers, began, status = Headers(scope=scope), time.perf_counter(), 500
        given = headers.get("x-request-id", "")
        identifier = given if _IDENTIFIER.fullmatch(given) else secrets.token_hex(8)

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
            await self._admitted(scope, receive, sending)
        finally:
            seconds = time.perf_counter() - began
            self._record(scope, identifier, status, seconds)
        return None

    async def _admitted(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._open += 1
        self._metrics.opened(self._open)
        try:
            await self._app(scope, receive, send)
        finally:
            self._open -= 1
            self._metrics.opened(self._open)

    def _refusal(self, scope: Scope, headers: Headers) -> JSONResponse | None:
        """Answer what does not pass."""
        if self._address.is_loopback and _host(headers.get("host", "")) not in _LOOPBACK:
            return _error(403, "this server answers to programs on its own machine, under its own name")
        if not _is_of_own_page(headers):
            return _error(403, "this server answers to no pages but its own")
        if scope["path"] in _OPEN_TO_ALL:
            return None
        if self._address.token and not self._shows_token(headers):
            return _error(401, "give the token: Authorization: Bearer TOKEN", {"WWW-Authenticate": "Basic"})
        if self._open >= self._limits.waiting and scope["path"] != _COUNTS:
            return _error(429, f"{self._open} requests are waiting: try again", {"Retry-After": "1"})
        return None

    def _shows_token(self, headers: Headers) -> bool:
        """Tell whether a caller has the token: a program as Bearer, a browser as a password."""
        kind, _, shown = headers.get("authorization", "").partition(" ")
        if kind.lower() == "basic":
            shown = _password(shown)
        same = hmac.compare_digest(shown.strip().encode(), self._address.token.encode())
        return same and kind.lower() in ("bearer", "basic")

    def _record(self, scope: Scope, identifier: str, status: int, seconds: float) -> None:
        told: dict[str, Any] = scope.get(TOLD, {})
        route, model = told.get("route", "other"), told.get("model", "")
        self._metrics.answered(route, model, status, seconds)
        client = scope.get("client")
        line = {
            "request": identifier,
            "client": client[0] if client else None,
            "method": scope["method"],
            "path": scope["path"],
            "status": status,
            "seconds": round(seconds, 4),
            **told,
        }
        level = logging.INFO if status < 500 else logging.ERROR  # noqa: PLR2004
        logger.log(level, "answered", extra={TOLD: line})


def _is_of_own_page(headers: Headers) -> bool:
    """Tell whether a request comes from a page of this server, or from no page."""
    origin = headers.get("origin")
    return origin is None or urlsplit(origin).netloc == headers.get("host")


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
