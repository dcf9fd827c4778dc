"""The bodies of requests, and the answers to those that fail."""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import suppress
from typing import TypeVar

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from onnx_deconv.errors import DeconvError
from onnx_deconv.serving.limits import Limits
from onnx_deconv.serving.photographs import TooLargeError

_Item = TypeVar("_Item")
GONE = 499
"""The status of a request whose caller did not wait for the answer; no caller sees it."""
_CLOSE = {"Connection": "close"}
_LINGER, _PATIENCE = 2.0, 8
"""How many seconds, and how many times what is allowed, is read of a body that is too large."""


async def body_of(request: Request, limits: Limits) -> bytes:
    """Read the body of a request, as far as it is allowed.

    Raises
    ------
    HTTPException
        413 if it is larger, 415 if it is compressed, 408 if it does not come in time.
    """
    if request.headers.get("content-encoding", "identity") != "identity":
        raise HTTPException(415, "send the body as it is, not compressed")
    parts, size = list[bytes](), 0
    length = request.headers.get("content-length", "")
    is_too_large = length.isdecimal() and int(length) > limits.body
    chunks = request.stream()
    try:
        async with asyncio.timeout(limits.seconds):
            while not is_too_large:
                part = await anext(chunks, None)
                if part is None:
                    return b"".join(parts)
                size += len(part)
                is_too_large = size > limits.body
                parts.append(part)
    except TimeoutError:
        raise HTTPException(408, "the body did not come in time", _CLOSE) from None
    parts.clear()
    if "expect" not in request.headers:
        await _drained(chunks, _PATIENCE * limits.body)
    raise HTTPException(413, f"a body may have {limits.body:,} bytes", _CLOSE)


async def _drained(chunks: AsyncIterator[bytes], most: int) -> None:
    """Read what a caller goes on sending, and forget it: else it would see a broken connection, no answer."""
    size = 0
    with suppress(TimeoutError):
        async with asyncio.timeout(_LINGER):
            async for part in chunks:
                size += len(part)
                if size > most:
                    return


async def in_time(limits: Limits, work: Awaitable[_Item]) -> _Item:
    """Wait for an answer as long as a caller may.

    Raises
    ------
    HTTPException
        504 if it takes longer.
    """
    try:
        async with asyncio.timeout(limits.seconds):
            return await work
    except TimeoutError:
        raise HTTPException(504, f"no answer within {limits.seconds:g} seconds") from None


async def failed(request: Request, error: Exception) -> Response:
    """Answer a request that failed: whose fault it is, and what to do."""
    del request
    status, text = status_of(error)
    headers = error.headers if isinstance(error, HTTPException) else None
    return JSONResponse({"error": text}, status, headers)


def status_of(error: Exception) -> tuple[int, str]:
    """Tell whose fault an error is, as HTTP numbers it, and what to do."""
    if isinstance(error, HTTPException):
        return error.status_code, error.detail
    if isinstance(error, ClientDisconnect):
        return GONE, "the caller has gone"
    if isinstance(error, DeconvError):
        text = str(error).encode(errors="backslashreplace").decode()  # half a character cannot be sent
        return 413 if isinstance(error, TooLargeError) else 400, text
    return 500, "an error in the server: its log says more"
