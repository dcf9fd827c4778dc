"""Servers: models that answer and explain over HTTP, and a page to explore one; starlette and uvicorn.

:func:`serve` is ``onnx-deconv serve``, :func:`explore` is ``onnx-deconv explore``. Both need the extra of
their name. Requests pass the gate (who asks, how many), the routes (what is asked for), and for models the
runs, where requests for one model run together.
"""

import importlib.util
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from onnx_deconv.errors import RuntimeUnavailableError
from onnx_deconv.serving.limits import Address, Limits

if TYPE_CHECKING:
    from onnx_deconv.attribution.explainer import Explainer
    from onnx_deconv.imaging import Preprocess

__all__ = ["Address", "Limits", "check_installed", "serve"]

_NEEDED = ("starlette", "uvicorn", "prometheus_client")


def check_installed(extra: str) -> None:
    """Refuse to go on without the packages that servers need.

    Raises
    ------
    RuntimeUnavailableError
        If one is missing.
    """
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise RuntimeUnavailableError(
            f"{', '.join(missing)} not installed: python -m pip install 'onnx-deconv[{extra}]'"
        )


def serve(
    models: "Mapping[str, tuple[Explainer, Preprocess | None]]",
    limits: Limits,
    address: Address,
    version: str,
    started: Callable[[str], None],
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
        Called with its address as soon as it listens.

    Raises
    ------
    DeconvError
        If a model cannot be explained, or the server cannot listen.
    """
    from onnx_deconv.serving.application import models_app, run  # noqa: PLC0415 - an extra
    from onnx_deconv.serving.served import Served  # noqa: PLC0415

    served = [Served(name, *given, limits.pixels) for name, given in models.items()]
    run(models_app(served, limits, address, version), address, limits, started)
