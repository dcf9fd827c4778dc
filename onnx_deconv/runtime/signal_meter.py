"""How much of a signal the rectifiers let through on its way back to the input."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from onnx_deconv.compiler.backward import SEED, Walk
from onnx_deconv.compiler.forward import forward
from onnx_deconv.model import Array, Model
from onnx_deconv.model.heads import axes_of
from onnx_deconv.operators import Tap
from onnx_deconv.runtime.providers import Providers
from onnx_deconv.runtime.session import Session, numpy_of
from onnx_deconv.semantics import Semantics

LEFTOVERS = 1e-3
"""The share below which a picture shows leftovers. Of a class's signal deconvnets keep 0.7 % to 4 % in
SqueezeNet 1.1, MobileNetV1, MobileNetV2 and the EfficientNets-lite; in SqueezeNet 1.0, whose pictures are not
of the object, mostly less than 0.001 %."""


class Survival(NamedTuple):
    """What became of a signal.

    Attributes
    ----------
    share
        The share of its energy that the narrowest rectifier let through, on the path that lets most through.
    at
        The value that this rectifier computes; ``None`` where there is no rectifier on that path.
    """

    share: float
    at: str | None

    @property
    def words(self) -> str:
        """One line."""
        if self.at is None:
            return "nothing rectifies the signal"
        return f"{percent(self.share)} of the signal's energy passes the narrowest rectifier, {self.at!r}"

    @property
    def warning(self) -> str | None:
        """What to say of a picture that shows leftovers."""
        if self.share >= LEFTOVERS:
            return None
        return f"{self.words}: what is left says little; guided keeps more, and so may other layers"

    def as_dict(self) -> dict[str, Any]:
        """Return everything as plain JSON data."""
        return {**self._asdict(), "words": self.words, "warning": self.warning}


class SignalMeter:
    """Measures what becomes of seeds.

    Parameters
    ----------
    model
        The model.
    value
        The explained value.
    semantics
        How signals are sent back.
    inputs
        The explained inputs; by default all.
    providers
        What to run on.
    """

    def __init__(
        self,
        model: Model,
        value: str,
        semantics: Semantics,
        inputs: Sequence[str] | None = None,
        providers: Providers = "cpu",
    ) -> None:
        self._walk = Walk(model, value, semantics, inputs, measured=True)
        self._axes = axes_of(model, value)
        companion, taps = self._walk.run()
        both = forward(model, [*taps, Tap("value", value, value)])
        self._forward, self._back = (Session(p, model.folder, providers) for p in (both, companion))

    def __call__(self, feeds: Mapping[str, Array], seed: Array | Callable[[Array], Array]) -> list[Survival]:
        """Send a seed back for each image; tell how much of it survived.

        Parameters
        ----------
        feeds
            A batch of N images.
        seed
            Shape of the explained value; or what makes it from that value's activations.

        Returns
        -------
        list of Survival
            One for each image.
        """
        values = self._forward.run(feeds)
        explained = numpy_of(values[self._walk.value])
        images = len(self._axes.canonical(explained))
        given = seed(explained) if callable(seed) else seed
        reads = {name: values[name] for name in self._back.inputs if name != SEED}
        found = self._back.run({**reads, SEED: given.astype(self._walk.op.dtype)})
        shares = {
            value: _shares(numpy_of(found[before]), numpy_of(found[after]), images)
            for value, (before, after) in self._walk.energies.items()
        }
        return [self._survival({v: s[k] for v, s in shares.items()}) for k in range(images)]

    def _survival(self, shares: Mapping[str, float]) -> Survival:
        """Find the path from the explained value to an input whose narrowest rectifier is the widest."""
        paths = {self._walk.value: Survival(1.0, None)}
        for node in reversed(self._walk.path):
            arrived = [paths[v.name] for v in node.outputs if v.name in paths]
            if not arrived:
                continue
            path = max(arrived, key=_share)
            value = node.outputs[0].name
            if shares.get(value, np.inf) <= path.share:
                path = Survival(shares[value], value)
            for name in (v.name for v in node.inputs if v.name in self._walk.reached):
                paths[name] = max(paths.get(name, path), path, key=_share)
        return max((paths[name] for name in self._walk.inputs if name in paths), key=_share)


def _share(path: Survival) -> float:
    return path.share


def _shares(arrived: Array, passed: Array, images: int) -> list[float]:
    """Return the share that passed, for each image; where images are not told apart, that of all."""
    if len(arrived) != images:
        arrived, passed = (np.full(images, energy.sum()) for energy in (arrived, passed))
    unknown = ~np.isfinite(arrived) | ~np.isfinite(passed)  # of a signal that outgrew its numbers
    shares = np.divide(passed, arrived, out=np.zeros(images), where=(arrived > 0) & ~unknown)
    return np.where(unknown, np.nan, shares).tolist()


def percent(share: float) -> str:
    """Return a share for people, with two digits."""
    found = 100 * share
    if found >= 10:  # noqa: PLR2004 - two digits
        return f"{found:.0f} %"
    return f"{found:.2g} %" if found >= 0.001 else "less than 0.001 %"  # noqa: PLR2004 - as it says
