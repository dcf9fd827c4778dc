"""The routes of ``onnx-deconv serve``: the Open Inference Protocol V2, and photographs without it."""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from starlette.datastructures import QueryParams
from starlette.exceptions import HTTPException
from starlette.requests import Request as Asked
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from onnx_deconv.errors import InputError
from onnx_deconv.imaging import VIEWS, png
from onnx_deconv.serving.batching import Results, Runs
from onnx_deconv.serving.bodies import body_of, in_time
from onnx_deconv.serving.gate import TOLD
from onnx_deconv.serving.limits import Limits
from onnx_deconv.serving.metrics import Metrics
from onnx_deconv.serving.protocol import HEADER_LENGTH, Request, objects, parse, response
from onnx_deconv.serving.served import VERSION, Served

PRODUCT = "onnx-deconv"
_EXTENSIONS = ["binary_tensor_data"]
_EMPTY, _NOTE = "X-Empty-Images", "X-Note"
"""What an answer that is a picture says of it: that nothing is in it; that it is not about the photograph, or
little of the signal is left in it."""


class Routes:
    """Answers requests.

    Parameters
    ----------
    models
        By name.
    runs
        Where they run.
    limits, metrics
        Of the server.
    version
        Of this program.
    """

    def __init__(
        self, models: Sequence[Served], runs: Runs, limits: Limits, metrics: Metrics, version: str
    ) -> None:
        self._models = {model.name: model for model in models}
        self._runs, self._limits, self._metrics, self._version = runs, limits, metrics, version

    def all(self) -> list[Route]:
        """List the routes."""
        found = [
            Route("/v2", self.server),
            Route("/v2/health/live", self.well),
            Route("/v2/health/ready", self.well),
            Route("/v2/repository/index", self.index, methods=["POST"]),
            Route("/metrics", self.metrics),
        ]
        for path in ("/v2/models/{model}", "/v2/models/{model}/versions/{version}"):
            found += [
                Route(path, self.model),
                Route(f"{path}/ready", self.ready),
                Route(f"{path}/infer", self.infer, methods=["POST"]),
            ]
        return found

    async def server(self, request: Asked) -> Response:
        """Tell what the server is."""
        del request
        return JSONResponse({"name": PRODUCT, "version": self._version, "extensions": _EXTENSIONS})

    async def well(self, request: Asked) -> Response:
        """Say that the server lives, and that it is ready: it listens only once its models are loaded."""
        del request
        return JSONResponse({"live": True, "ready": True})

    async def index(self, request: Asked) -> Response:
        """List the models."""
        del request
        return JSONResponse([{"name": n, "version": VERSION, "state": "READY"} for n in self._models])

    async def metrics(self, request: Asked) -> Response:
        """Write the counts for Prometheus."""
        del request
        return Response(self._metrics.text(), media_type="text/plain; version=0.0.4")

    async def model(self, request: Asked) -> Response:
        """Tell what a model takes and returns."""
        model = self._named(request)
        return JSONResponse(
            {
                "name": model.name,
                "versions": [VERSION],
                "platform": "onnxruntime_onnx",
                "inputs": [asdict(each) for each in model.inputs],
                "outputs": [asdict(each) for each in model.outputs],
                "parameters": {
                    "method": model.method,
                    "note": model.note,
                    "labels": list(model.labels.names),
                },
            }
        )

    async def ready(self, request: Asked) -> Response:
        """Say that a model is ready."""
        model = self._named(request)
        return JSONResponse({"name": model.name, "ready": True})

    async def infer(self, request: Asked) -> Response:
        """Run a model, or explain what it answers."""
        model = self._named(request)
        request.scope[TOLD] = {"route": "infer", "model": model.name}
        body = await body_of(request, self._limits)
        answer = self._photograph if _is_image(request) else self._tensors
        return await in_time(self._limits, answer(model, request, body))

    async def _tensors(self, model: Served, request: Asked, body: bytes) -> Response:
        if request.query_params:
            raise InputError(
                f"{', '.join(request.query_params)}: tensors and what to explain stand in the body; a "
                "photograph, for which the address may say it, has a Content-Type of image/..."
            )
        asked = await asyncio.to_thread(parse, body, request.headers.get(HEADER_LENGTH))
        results = await self._results(model, asked, request)
        return await asyncio.to_thread(_written, model, asked, results)

    async def _photograph(self, model: Served, request: Asked, body: bytes) -> Response:
        """Answer a request that is a photograph and nothing else: what is wanted stands in its address."""
        if model.photo is None:
            raise InputError("the model takes no photographs: send tensors")
        query = request.query_params
        view = _view(request)
        names = [model.reconstruction] if view else query.getlist("output") or model.own_outputs
        _refuse_idle(query, {"target", "view"} if view else {"target", "view", "output"})
        if "target" in query and set(names) <= set(model.own_outputs):
            raise InputError(
                f"target: nothing is explained here: ask for a view, or for output={model.reconstruction}"
            )
        inputs = {model.photo: objects([body])}
        if "target" in query:
            inputs[model.target] = objects([query["target"]])
        asked = Request(inputs, dict.fromkeys(names, False))
        results = await self._results(model, asked, request)
        if view is None:
            told = {"classes": model.classes_of(results)}
            return await asyncio.to_thread(_written, model, asked, results, told)
        picture = await self._runs.photograph(lambda: png(model.picture(results, body, view)))
        empty = {_EMPTY: "0"} if model.empty(results) else {}
        note = {} if model.note is None else {_NOTE: _in_a_header(model.note)}
        return Response(picture, media_type="image/png", headers=empty | note)

    async def _results(self, model: Served, asked: Request, request: Asked) -> Results:
        return await model.results(asked, self._runs, request.scope[TOLD])

    def _named(self, request: Asked) -> Served:
        name, version = request.path_params["model"], request.path_params.get("version", VERSION)
        if name not in self._models or version != VERSION:
            raise HTTPException(404, f"no such model or version: there are {', '.join(self._models)}")
        request.scope[TOLD] = {"route": "model", "model": name}
        return self._models[name]


def _is_image(request: Asked) -> bool:
    return request.headers.get("content-type", "").lower().startswith("image/")


def _view(request: Asked) -> str | None:
    """Return the view that is wanted, where a picture is; else ``None``.

    Raises
    ------
    InputError
        If there is no such view.
    """
    wanted = request.query_params.get("view")
    if wanted is None:
        return "overlay" if "image/png" in request.headers.get("accept", "") else None
    if wanted not in VIEWS:
        raise InputError(f"no view is named {wanted!r}: choose one of {', '.join(VIEWS)}")
    return wanted


def _refuse_idle(query: QueryParams, known: Collection[str]) -> None:
    """Make sure that an address asks for nothing that would be ignored.

    Raises
    ------
    InputError
        If it does.
    """
    if idle := [name for name in query if name not in known]:
        raise InputError(f"{', '.join(idle)}: the address may say {', '.join(sorted(known))} here")
    for name in query:
        if name != "output" and len(query.getlist(name)) > 1:
            raise InputError(f"{name}: the address says it more than once")


def _in_a_header(text: str) -> str:
    """Write a text in one line of ASCII: a model's values may have any name."""
    return " ".join(text.split()).encode("ascii", "backslashreplace").decode()


def _written(
    model: Served, asked: Request, results: Results, told: Mapping[str, Any] | None = None
) -> Response:
    body, length = response(model.name, asked, results, {**(told or {}), **model.told(results)})
    if length is None:
        return Response(body, media_type="application/json")
    return Response(body, headers={HEADER_LENGTH: str(length)}, media_type="application/octet-stream")
