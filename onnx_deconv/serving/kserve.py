"""KServe's own SDK in front of served models: its older protocol (V1, ``:predict``, ``:explain``), and gRPC.

The SDK reads requests and writes answers: its endpoints, its servicer, its data plane, with one
:class:`kserve.Model` for each served model. Who may ask, how much, and what runs is the server's business, as
it is over HTTP: requests for one model run together, whichever protocol they came by.
"""

import asyncio
import json
import logging
import struct
import sys
import time
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from dataclasses import asdict
from typing import Any
from urllib.parse import unquote

from starlette.exceptions import HTTPException
from starlette.requests import Request as Asked
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from onnx_deconv.errors import InputError
from onnx_deconv.model import Array
from onnx_deconv.serving.batching import Results, Runs
from onnx_deconv.serving.bodies import GONE, body_of, in_time, status_of
from onnx_deconv.serving.gate import IDENTIFIER, TOLD, Admission, identified
from onnx_deconv.serving.limits import Address, Limits
from onnx_deconv.serving.protocol import Request, datatype
from onnx_deconv.serving.rows import request_of, rows_of
from onnx_deconv.serving.served import VERSION, Served


@contextmanager
def _no_arguments() -> Iterator[None]:
    """Keep the program's arguments from the SDK, which takes them for its own when it is imported."""
    given, sys.argv = sys.argv, sys.argv[:1]
    try:
        yield
    finally:
        sys.argv = given


with _no_arguments():
    import grpc
    from grpc_interceptor.server import AsyncServerInterceptor
    from kserve import InferOutput, InferRequest, InferResponse, Model, ModelRepository
    from kserve.errors import InvalidInput, ModelNotFound
    from kserve.protocol.dataplane import DataPlane
    from kserve.protocol.grpc.grpc_predict_v2_pb2_grpc import add_GRPCInferenceServiceServicer_to_server
    from kserve.protocol.grpc.servicer import InferenceServicer
    from kserve.protocol.model_repository_extension import ModelRepositoryExtension
    from kserve.protocol.rest.v1_endpoints import V1Endpoints

logger = logging.getLogger("onnx_deconv.serving")

_TOLD: ContextVar[dict[str, Any]] = ContextVar("told")
"""What the log says of the request that is worked on."""
_OPEN_TO_ALL, _REPOSITORY = ("ServerLive", "ServerReady"), "Repository"
"""Methods that need no token, and what the names of those begin with that take models away."""
_CODES = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    404: grpc.StatusCode.NOT_FOUND,
    413: grpc.StatusCode.RESOURCE_EXHAUSTED,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    500: grpc.StatusCode.INTERNAL,
    501: grpc.StatusCode.UNIMPLEMENTED,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
}
"""What gRPC calls the statuses that HTTP numbers."""
_EVENT = b"application/cloudevents+json"
_UNKNOWN = 500
"""The status of an error of the server's own."""


class KServe:
    """The SDK, with the models of a server.

    Parameters
    ----------
    models
        What is served.
    runs
        Where they run.
    limits
        Of the server.
    """

    def __init__(self, models: Sequence[Served], runs: Runs, limits: Limits) -> None:
        warnings.filterwarnings("ignore", "ORJSONResponse is deprecated")  # the SDK's own business
        repository = ModelRepository()
        for model in models:
            repository.update(Explained(model, runs, limits))
        self._limits = limits
        self._data, self._extension = DataPlane(repository), ModelRepositoryExtension(repository)
        self._endpoints = V1Endpoints(self._data, self._extension)

    def routes(self) -> list[Route]:
        """List the routes of the older protocol."""
        return [
            Route("/", self.live),
            Route("/v1/models", self.models),
            Route("/v1/models/{model}", self.ready),
            Route("/v1/models/{model}:predict", self.predict, methods=["POST"]),
            Route("/v1/models/{model}:explain", self.explain, methods=["POST"]),
        ]

    async def live(self, request: Asked) -> Response:
        """Say that the server lives."""
        del request
        return JSONResponse(await self._data.live())

    async def models(self, request: Asked) -> Response:
        """List the models."""
        del request
        return JSONResponse(await self._endpoints.models())

    async def ready(self, request: Asked) -> Response:
        """Say that a model is ready."""
        with _as_ours():
            return JSONResponse(await self._endpoints.model_ready(request.path_params["model"]))

    async def predict(self, request: Asked) -> Response:
        """Answer with the model's own outputs."""
        return await self._answered(request, self._endpoints.predict, "predict")

    async def explain(self, request: Asked) -> Response:
        """Answer with what in the images excited a class."""
        return await self._answered(request, self._endpoints.explain, "explain")

    async def _answered(
        self, request: Asked, endpoint: Callable[[str, Asked], Awaitable[Response]], route: str
    ) -> Response:
        told = request.scope[TOLD] = {"route": route}
        body = await body_of(request, self._limits)
        _TOLD.set(told)
        with _as_ours():
            return await endpoint(request.path_params["model"], _read(request, body))

    @asynccontextmanager
    async def listening(
        self, address: Address, admission: Admission
    ) -> AsyncIterator[Callable[[], Awaitable[None]]]:
        """Answer gRPC until what is done meanwhile ends; open requests are answered.

        Parameters
        ----------
        address
            Where.
        admission
            Who may ask, and how many.

        Yields
        ------
        Callable
            Stops it earlier: it accepts no more, and ends when open requests are answered.
        """
        options = {
            "grpc.max_receive_message_length": self._limits.body,
            "grpc.max_send_message_length": -1,
            "grpc.so_reuseport": 0,  # else a second server would take half of the requests
        }
        server = grpc.aio.server(interceptors=[_Door(admission)], options=list(options.items()))
        add_GRPCInferenceServiceServicer_to_server(InferenceServicer(self._data, self._extension), server)
        server.add_insecure_port(address.named)
        await server.start()

        async def stop() -> None:
            await server.stop(self._limits.seconds)

        try:
            yield stop
        finally:
            await stop()


class Explained(Model):  # type: ignore[misc] # the SDK is an extra
    """A served model, as the SDK asks it.

    Parameters
    ----------
    model
        What is served.
    runs
        Where it runs.
    limits
        How long a caller may wait.
    """

    def __init__(self, model: Served, runs: Runs, limits: Limits) -> None:
        super().__init__(model.name)
        self._model, self._runs, self._limits = model, runs, limits
        self.ready = True

    def get_input_types(self) -> list[dict[str, Any]]:
        """Tell what the model takes."""
        return [asdict(each) for each in self._model.inputs]

    def get_output_types(self) -> list[dict[str, Any]]:
        """Tell what the model returns."""
        return [asdict(each) for each in self._model.outputs]

    async def predict(self, payload: Any, headers: Any = None, response_headers: Any = None) -> Any:
        """Answer with the model's own outputs, or over gRPC with all that is asked for."""
        del headers, response_headers
        if isinstance(payload, InferRequest):
            return await in_time(self._limits, self._tensors(payload))
        rows, _ = await in_time(self._limits, self._rows(payload, self._model.own_outputs))
        return {"predictions": rows}

    async def explain(self, payload: Any, headers: Any = None) -> Any:
        """Answer with what in the images excited a class."""
        del headers
        rows, told = await in_time(self._limits, self._rows(payload, []))
        return {"explanations": rows, **told}

    async def _rows(self, payload: Any, outputs: Sequence[str]) -> tuple[list[Any], dict[str, Any]]:
        told = self._told()
        request = await asyncio.to_thread(request_of, self._model, payload, outputs)
        results = await self._model.results(request, self._runs, told)
        rows = await asyncio.to_thread(rows_of, results, told["images"])
        return rows, self._model.told(results)

    async def _tensors(self, payload: InferRequest) -> InferResponse:
        if payload.model_version not in ("", None, VERSION):
            raise HTTPException(404, f"{self.name} has no version {payload.model_version!r}: only {VERSION}")
        request = await asyncio.to_thread(_request_of, payload)
        results = await self._model.results(request, self._runs, self._told())
        return await asyncio.to_thread(_response, self._model, payload, results)

    def _told(self) -> dict[str, Any]:
        told = _TOLD.get({})
        told["model"] = self.name
        return told


class _Door(AsyncServerInterceptor):  # type: ignore[misc] # the SDK is an extra
    """What every request over gRPC passes, as those over HTTP pass the gate."""

    def __init__(self, admission: Admission) -> None:
        self._admission = admission

    async def intercept(
        self, method: Callable[..., Any], request_or_iterator: Any, context: Any, method_name: str
    ) -> Any:
        """Answer one request, and write a line about it."""
        began, status, told = time.perf_counter(), GONE, {"route": method_name.rpartition("/")[2]}
        headers = {key: value for key, value in context.invocation_metadata() if isinstance(value, str)}
        _TOLD.set(told)
        try:
            self._refuse(told["route"], headers)
            with self._admission.entered(), _as_ours():
                answer = await method(request_or_iterator, context)
            status = 200
        except Exception as error:
            status, text = status_of(error)
            if status == _UNKNOWN:
                logger.exception("failed")
            await context.abort(_CODES[status], text)
        else:
            return answer
        finally:
            line = {
                "request": identified(headers.get(IDENTIFIER, "")),
                "client": _host_of(context.peer()),
                "method": "gRPC",
                "path": method_name,
            }
            self._admission.record(status, began, told, line)

    def _refuse(self, method: str, headers: Mapping[str, str]) -> None:
        if method not in _OPEN_TO_ALL:
            self._admission.refuse(headers.get("authorization", ""))
        if method.startswith(_REPOSITORY):
            raise HTTPException(501, "models are chosen when the server starts")


def _host_of(peer: str) -> str:
    """Return the host in gRPC's name of a caller, such as ``ipv4:127.0.0.1:1234``."""
    return unquote(peer.partition(":")[2].rpartition(":")[0]).strip("[]")


@contextmanager
def _as_ours() -> Iterator[None]:
    """Turn what the SDK says of a request into what the server says."""
    try:
        yield
    except InvalidInput as error:
        raise InputError(str(error)) from None
    except ModelNotFound as error:
        raise HTTPException(404, str(error)) from None


def _read(request: Asked, body: bytes) -> Asked:
    """Return a request whose body was read, for the SDK.

    The SDK answers an explanation with the headers of its request, the token among them, and reads JSON only
    where they call it so: it gets those alone that make the request a CloudEvent.
    """
    kept = [(name, value) for name, value in request.scope["headers"] if _is_of_event(name, value)]

    async def whole() -> dict[str, Any]:
        return {"type": "http.request", "body": body}

    return Asked({**request.scope, "headers": kept}, whole)


def _is_of_event(name: bytes, value: bytes) -> bool:
    return name.startswith(b"ce-") or (name == b"content-type" and value.startswith(_EVENT))


def _request_of(payload: InferRequest) -> Request:
    """Read a request of the SDK's."""
    inputs = {each.name: _array(each) for each in payload.inputs}
    if len(inputs) < len(payload.inputs):
        raise InputError("two inputs have the same name")
    outputs = {each.name: True for each in payload.request_outputs or ()}
    return Request(inputs, outputs, parameters=payload.parameters or {})


def _array(given: Any) -> Array:
    """Return a tensor of the SDK's; it does not look whether the data fit."""
    try:
        found: Array = given.as_numpy()
    except (ValueError, TypeError, OverflowError, struct.error):
        raise InputError(
            f"input {given.name!r}: its data are not {given.datatype} of shape {given.shape}"
        ) from None
    return found


def _response(model: Served, payload: InferRequest, results: Results) -> InferResponse:
    """Write results as the SDK sends them: as raw bytes where the request's tensors were."""
    outputs = []
    for name, array in results.items():
        outputs.append(InferOutput(name, list(array.shape), datatype(array.dtype)))
        outputs[-1].set_data_from_numpy(array, binary_data=payload.use_binary_outputs)
    told = {
        key: text if isinstance(text, str) else json.dumps(text) for key, text in model.told(results).items()
    }
    return InferResponse(payload.id, model.name, outputs, VERSION, parameters=told)
