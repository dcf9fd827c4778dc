"""Both models of a pair, ready to run."""

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from onnx import ModelProto

from onnx_deconv.compiler.backward import SEED
from onnx_deconv.compiler.pair import Pair
from onnx_deconv.compiler.passes import COMPANION, apply_passes
from onnx_deconv.errors import InputError
from onnx_deconv.model import Array
from onnx_deconv.runtime.providers import Providers
from onnx_deconv.runtime.session import Session, device_of, numpy_of


class PairSession:
    """Both models of a pair, ready to run; what passes between them stays on the device.

    Safe to use from several threads: each call has its own bindings.

    Parameters
    ----------
    pair
        See :class:`onnx_deconv.compiler.pair.Pair`.
    providers
        See :data:`Providers`.
    passes
        Optimisation passes to apply to the companion, by name, see :mod:`onnx_deconv.compiler.passes`; by
        default those for the device.
    low_memory
        See :class:`Session`.
    """

    def __init__(
        self,
        pair: Pair,
        providers: Providers = "auto",
        passes: Sequence[str] | None = None,
        *,
        low_memory: bool = False,
    ) -> None:
        self.pair = pair
        session = functools.partial(
            Session, folder=pair.folder, providers=providers, alternating=True, low_memory=low_memory
        )
        self.forward = session(pair.forward)
        passes = COMPANION[self.forward.device] if passes is None else passes
        self.deconv = session(apply_passes(pair.deconv, passes))
        entries = pair.manifest["deconv_inputs"]
        self.reads = [i["name"] for i in entries if i["kind"] != "seed"]
        self._on_cpu = [i["name"] for i in entries if i["kind"] == "shape"]

    def run_forward(self, feeds: Mapping[str, Array]) -> dict[str, Any]:
        """Run the user's model: its own outputs, the switches and the taps, as ``OrtValue`` s."""
        return self.forward.run(feeds, on_cpu=self._on_cpu)

    def run_deconv(self, values: Mapping[str, Any], seed: Array) -> dict[str, Array]:
        """Send a seed back through the companion, or several for each image at once.

        Parameters
        ----------
        values
            What :meth:`run_forward` returned for N images.
        seed
            Shape of the explained value, in the companion's type; or K times as long: K seeds for each
            image, those of the first image first. The forward pass is not repeated for them.

        Returns
        -------
        dict
            One reconstruction per explained input, shaped as the input (K times as long), by output name.

        Raises
        ------
        InputError
            If there are no whole number of seeds for each image, or the companion's batch size is fixed.
        """
        feeds = {name: values[name] for name in self.reads}
        images = values[self.pair.manifest["explained"]["value"]].shape()[:1]
        if list(seed.shape[:1]) != images:
            feeds = self._repeated(feeds, images[0], len(seed))
        results = self.deconv.run({**feeds, SEED: seed})
        return {name: numpy_of(value) for name, value in results.items()}

    def _repeated(self, feeds: Mapping[str, Any], images: int, seeds: int) -> dict[str, Array]:
        """Repeat each image's forward values as often as it has seeds."""
        entries = {e["name"]: e for e in self.pair.manifest["deconv_inputs"]}
        fixed = [
            n for n, e in entries.items() if e["kind"] != "shape" and isinstance((e["shape"] or [0])[0], int)
        ]
        if fixed or seeds % images:
            raise InputError(
                f"{seeds} seeds for {images} images: give as many, or a multiple if the batch is free"
            )
        return {
            name: _repeat(numpy_of(value), seeds // images, entries[name]["kind"])
            for name, value in feeds.items()
        }

    @functools.cached_property
    def seed_dtype(self) -> Any:
        """The NumPy type of the seed."""
        return seed_type(self.deconv)


def seed_type(companion: Session) -> Any:
    """Return the NumPy type of a companion's seed."""
    return np.float16 if "float16" in companion.inputs[SEED].type else np.float32


def _repeat(array: Array, times: int, kind: str) -> Array:
    """Repeat what belongs to each image."""
    if kind == "shape":
        return np.concatenate([array[:1] * times, array[1:]])
    return np.repeat(array, times, axis=0)


def companion(proto: ModelProto, folder: Path, providers: Providers = "auto") -> Session:
    """Make a session of a companion alone, to be run from :func:`workers` threads at once."""
    return Session(apply_passes(proto, COMPANION[device_of(providers)]), folder, providers, threads=1)
