"""Servers: models that answer and explain over HTTP, and a page to explore one; starlette and uvicorn.

:func:`serve` is ``onnx-deconv serve``, :func:`explore` is ``onnx-deconv explore``. Both need the extra of
their name. Requests pass the gate (who asks, how many), the routes (what is asked for), and for models the
runs, where requests for one model run together.
"""

import importlib.util
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from onnx_deconv.errors import DeconvError, ModelError, RuntimeUnavailableError, given, way
from onnx_deconv.serving.limits import Address, Limits

if TYPE_CHECKING:
    from onnx_deconv.attribution.explainer import Explainer
    from onnx_deconv.imaging import Preprocess
    from onnx_deconv.serving.exploration import Asked

__all__ = ["Address", "Limits", "check_installed", "explore", "serve"]

logger = logging.getLogger(__name__)

_NEEDED = ("starlette", "uvicorn", "prometheus_client")
_OF_EXTRAS = {"kserve": ("kserve",)}
"""What an extra brings beside what all servers need."""


def check_installed(extra: str) -> None:
    """Refuse to go on without the packages that servers need.

    Raises
    ------
    RuntimeUnavailableError
        If one is missing.
    """
    needed = (*_NEEDED, *_OF_EXTRAS.get(extra, ()))
    missing = [name for name in needed if importlib.util.find_spec(name) is None]
    if missing:
        raise RuntimeUnavailableError(
            f"{', '.join(missing)} not installed: python -m pip install 'onnx-deconv[{extra}]'"
        )


def serve(
    models: "Mapping[str, tuple[Explainer, Preprocess | None]]",
    limits: Limits,
    address: Address,
    version: str,
    started: Callable[[str, str | None], None],
    grpc: Address | None = None,
) -> None:
    """Serve models over HTTP until the process is told to stop.

    Parameters
    ----------
    models
        By name: what explains each, and how photographs become its input (``None`` if it takes none).
    limits, address
        What callers may ask for, and where.
    version
        What the server says that it is.
    started
        Called with its address as soon as it listens, and with that of gRPC, if it answers there.
    grpc
        Where KServe's SDK answers, beside what it answers over HTTP; without it the SDK takes no part.

    Raises
    ------
    DeconvError
        If a model cannot be explained, or the server cannot listen.
    """
    from onnx_deconv.serving.application import free, models_app, run  # noqa: PLC0415 - an extra
    from onnx_deconv.serving.served import Served  # noqa: PLC0415

    served = []
    for name, model in models.items():
        logger.debug("making %s ready", name)
        try:
            served.append(Served(name, *model, limits.pixels))
        except DeconvError as error:
            raise ModelError(f"{name} cannot be served: {error}{_elsewhere(str(error))}") from error
    for each in served:
        if each.note is not None:
            logger.warning("%s: %s", each.name, each.note)
    grpc = None if grpc is None else free(grpc, "--grpc-port")
    app = models_app(served, limits, address, version, grpc)
    run(app, address, limits, lambda url: started(url, None if grpc is None else grpc.named))


def _elsewhere(remedy: str) -> str:
    """Say where a remedy is to be had, if the server does not offer it."""
    if not any(each in remedy for each in ("a layer", given("seed", "unit"))):
        return ""
    graph = way("onnx-deconv convert --form explain", "explain_graph")
    return f" (of what {graph} makes; a server explains answers alone)"


def explore(
    make: "Callable[[str], Explainer]",
    preprocess: "Preprocess",
    photographs: Sequence[Path],
    command: "Callable[[str, Asked, Sequence[str]], str]",
    limits: Limits,
    address: Address,
    started: Callable[[str], None],
    atlas: Path | None = None,
) -> None:
    """Serve a page that explores a model, until the process is told to stop.

    Parameters
    ----------
    make
        Makes an explainer of the model by a method's name.
    preprocess
        How photographs become its input.
    photographs
        Files to begin with.
    command
        Writes the command line that makes an explanation, given the photograph's path or name, and options
        of the method's own.
    limits, address, started
        As for :func:`serve`.
    atlas
        The folder of a finished atlas of the model, to show beside its feature maps.

    Raises
    ------
    DeconvError
        If the model cannot be explained, there is no atlas of it there, or the server cannot listen.
    """
    from onnx_deconv.atlas.reader import Reader  # noqa: PLC0415
    from onnx_deconv.serving.application import gated, run  # noqa: PLC0415 - an extra
    from onnx_deconv.serving.exploration import Exploration  # noqa: PLC0415
    from onnx_deconv.serving.explore_routes import HEADERS, ExploreRoutes  # noqa: PLC0415
    from onnx_deconv.serving.gate import Admission  # noqa: PLC0415
    from onnx_deconv.serving.metrics import Metrics  # noqa: PLC0415

    reader = None if atlas is None else Reader(atlas)
    exploration = Exploration(make, preprocess, photographs, limits.pixels, reader)
    routes = ExploreRoutes(exploration, limits, command).all()
    app = gated(routes, Admission(address, limits, Metrics()), HEADERS)
    run(app, address, limits, started, logging.ERROR)
