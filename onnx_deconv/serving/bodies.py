"""The bodies of requests, and the answers to those that fail."""

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from onnx_deconv.errors import DeconvError
from onnx_deconv.serving.limits import Limits
from onnx_deconv.serving.photographs import TooLargeError

_Item = TypeVar("_Item")


async def body_of(request: Request, limits: Limits) -> bytes:
    """Read the body of a request, as far as it is allowed.

    Raises
    ------
    HTTPException
        413 if it is larger, 415 if it is compressed, 408 if it does not come in time.
    """
    if request.headers.get("content-encoding", "identity") != "identity":
        raise HTTPException(415, "send the body as it is, not compressed")
    length, too_large = (
        request.headers.get("content-length", ""),
        HTTPException(413, f"a body may have {limits.body:,} bytes", {"Connection": "close"}),
    )
    if length.isdecimal() and int(length) > limits.body:
        raise too_large
    parts, size = [], 0
    try:
        async with asyncio.timeout(limits.seconds):
            async for part in request.stream():
                size += len(part)
                if size > limits.body:
                    raise too_large
                parts.append(part)
    except TimeoutError:
        raise HTTPException(408, "the body did not come in time", {"Connection": "close"}) from None
    return b"".join(parts)


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
    if isinstance(error, HTTPException):
        return JSONResponse({"error": error.detail}, error.status_code, error.headers)
    if isinstance(error, DeconvError):
        return JSONResponse({"error": str(error)}, 413 if isinstance(error, TooLargeError) else 400)
    return JSONResponse({"error": "an error in the server: its log says more"}, 500)
