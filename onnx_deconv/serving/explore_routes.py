"""The routes of ``onnx-deconv explore``: its page, and what the page asks for."""

import asyncio
import io
import re
from collections.abc import Callable, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from onnx_deconv.errors import InputError
from onnx_deconv.imaging import VECTOR, VIEWS, png
from onnx_deconv.serving.bodies import body_of, in_time
from onnx_deconv.serving.exploration import Asked, Exploration
from onnx_deconv.serving.limits import Limits

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
"""Nothing but the page's own files runs in it, whatever a model or a photograph is called."""
_PAGE = {
    "/": ("index.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    "/page.js": ("page.js", "text/javascript"),
}
_KINDS = {".svg": "image/svg+xml", ".pdf": "application/pdf"}
_LONGEST_NAME = 200
_AT_ONCE = 4
"""How many answers are made at once: a long one (occlusion) must not hold up the others."""
_GONE = 499
"""The status, in log and metrics, of a request whose caller has left; nginx calls it so."""
CommandOf = Callable[[str, Asked, Sequence[str]], str]
_Found = TypeVar("_Found")


class ExploreRoutes:
    """Answers the page.

    Parameters
    ----------
    exploration
        What is explored.
    limits
        Of the server.
    command
        Writes the command line that makes an explanation, given the photograph's path or name, and options
        of the method's own.
    """

    def __init__(self, exploration: Exploration, limits: Limits, command: CommandOf) -> None:
        self._exploration, self._limits, self._command = exploration, limits, command
        self._turns = asyncio.Semaphore(_AT_ONCE)

    def all(self) -> list[Route]:
        """List the routes."""
        return [
            *(Route(path, self.page) for path in _PAGE),
            Route("/api/model", self.model),
            Route("/api/photographs", self.photographs),
            Route("/api/photographs", self.add, methods=["POST"]),
            Route("/api/seen.png", self.seen),
            Route("/api/classes", self.classes),
            Route("/api/maps", self.maps),
            Route("/api/map.png", self.map),
            Route("/api/glance", self.glance),
            Route("/api/nine", self.nine),
            Route("/api/explanation", self.explanation),
            Route("/api/note", self.note),
            Route("/api/explanation.png", self.picture),
            *(Route(f"/api/explanation{suffix}", self.sheet) for suffix in VECTOR),
            Route("/api/explanation.npy", self.values),
        ]

    async def page(self, request: Request) -> Response:
        """Return a file of the page."""
        name, kind = _PAGE[request.url.path]
        return Response(files("onnx_deconv.serving").joinpath("page", name).read_bytes(), media_type=kind)

    async def model(self, request: Request) -> Response:
        """Describe the model."""
        return JSONResponse(await self._work(request, self._exploration.model))

    async def photographs(self, request: Request) -> Response:
        """List the photographs."""
        del request
        return JSONResponse(self._exploration.photographs())

    async def add(self, request: Request) -> Response:
        """Take a photograph."""
        body = await body_of(request, self._limits)
        name = request.query_params.get("name", "photograph")[:_LONGEST_NAME]
        instead = request.query_params.get("instead")
        return JSONResponse(await self._work(request, lambda: self._exploration.add(body, name, instead)))

    async def seen(self, request: Request) -> Response:
        """Show what the model sees of a photograph."""
        identifier = _asked(request).photograph
        return Response(
            await self._work(request, lambda: self._exploration.seen(identifier)), media_type="image/png"
        )

    async def classes(self, request: Request) -> Response:
        """List a photograph's classes."""
        identifier = _asked(request).photograph
        return JSONResponse(await self._work(request, lambda: self._exploration.classes(identifier)))

    async def maps(self, request: Request) -> Response:
        """Draw a layer's feature maps."""
        asked = _asked(request)
        if asked.layer is None:
            raise InputError("name a layer")
        layer = asked.layer
        return JSONResponse(
            await self._work(request, lambda: self._exploration.maps(asked.photograph, layer))
        )

    async def map(self, request: Request) -> Response:
        """Draw one feature map."""
        photograph, (layer, channel) = _asked(request).photograph, _map_of(request)
        drawn = await self._work(request, lambda: self._exploration.map(photograph, layer, channel))
        return Response(drawn, media_type="image/png")

    async def glance(self, request: Request) -> Response:
        """Draw what excited one unit, as fast as can be."""
        asked = _asked(request)
        return JSONResponse(await self._work(request, lambda: self._exploration.glance(asked)))

    async def nine(self, request: Request) -> Response:
        """Show what the atlas holds of a feature map."""
        layer, channel = _map_of(request)
        return JSONResponse(await self._work(request, lambda: self._exploration.nine(layer, channel)))

    async def explanation(self, request: Request) -> Response:
        """Explain, and draw what came of it."""
        asked = _asked(request)
        found = await self._work(request, lambda: self._exploration.explanation(asked))
        name, options = self._exploration.name_of(asked.photograph), found.pop("options", [])
        found["command"] = self._command(name, asked, options)
        return JSONResponse(found)

    async def note(self, request: Request) -> Response:
        """Say what takes longer to find out of an explanation than to make it."""
        asked = _asked(request)
        return JSONResponse({"note": await self._work(request, lambda: self._exploration.note(asked))})

    async def picture(self, request: Request) -> Response:
        """Return a picture of an explanation as a file."""
        asked, view = _asked(request), request.query_params.get("view", "side-by-side")
        if view not in VIEWS:
            raise InputError(f"no view is named {view!r}: choose one of {', '.join(VIEWS)}")
        found = await self._work(request, lambda: png(self._exploration.picture(asked, view)))
        return _file(found, "image/png", f"explanation-{view}.png")

    async def sheet(self, request: Request) -> Response:
        """Return the side-by-side sheet of an explanation as a file whose texts are texts."""
        asked, suffix = _asked(request), Path(request.url.path).suffix
        found = await self._work(request, lambda: VECTOR[suffix](self._exploration.sheet(asked)))
        return _file(found, _KINDS[suffix], f"explanation{suffix}")

    async def values(self, request: Request) -> Response:
        """Return a reconstruction's numbers as a file of NumPy's."""
        asked = _asked(request)
        found = await self._work(request, lambda: _npy(self._exploration.array(asked)))
        return _file(found, "application/octet-stream", "explanation.npy")

    async def _work(self, request: Request, work: Callable[[], _Found]) -> _Found:
        return await in_time(self._limits, self._in_turn(request, work))

    async def _in_turn(self, request: Request, work: Callable[[], _Found]) -> _Found:
        """Make an answer when there is room, unless the page has gone on and wants another."""
        async with self._turns:
            if await request.is_disconnected():
                raise HTTPException(_GONE, "nobody waits for this any more")
            return await asyncio.to_thread(work)


def _asked(request: Request) -> Asked:
    """Read what is asked for from an address."""
    query = request.query_params
    photograph = query.get("photograph")
    if photograph is None:
        raise HTTPException(400, "name a photograph")
    return Asked(
        photograph,
        query.get("method", "auto"),
        query.get("layer"),
        query.get("target"),
        _position(query.get("position")),
    )


def _map_of(request: Request) -> tuple[str, int]:
    """Read a layer and the number of a channel from an address."""
    layer, channel = request.query_params.get("layer", ""), request.query_params.get("target", "")
    if not layer or not channel.isdecimal():
        raise InputError("tell a layer and the number of a channel")
    return layer, int(channel)


def _position(text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    if not re.fullmatch(r"\d{1,6}(,\d{1,6}){0,3}", text):
        raise InputError(f"position {text!r}: write whole numbers with commas between them")
    return tuple(map(int, text.split(",")))


def _npy(array: np.ndarray[Any, Any]) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=False)
    return file.getvalue()


def _file(content: bytes, kind: str, name: str) -> Response:
    return Response(
        content, media_type=kind, headers={"Content-Disposition": f'attachment; filename="{name}"'}
    )
