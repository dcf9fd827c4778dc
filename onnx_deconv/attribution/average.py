"""Gradients that are averaged over many inputs near an image, or on the way to it."""

import logging
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from onnx_deconv.attribution.forward_pass import Pass
from onnx_deconv.errors import InputError
from onnx_deconv.model import Array
from onnx_deconv.model.value_axes import Axes
from onnx_deconv.runtime import PairSession

logger = logging.getLogger(__name__)

AverageKind = Literal["smoothgrad", "integrated-gradients"]
AVERAGES: tuple[AverageKind, ...] = get_args(AverageKind)


@dataclass(frozen=True)
class Average:
    """What a reconstruction is the mean of.

    Attributes
    ----------
    kind
        ``smoothgrad``: reconstructions of the image with noise (Smilkov et al. 2017, section 2).
        ``integrated-gradients``: gradients on the straight line from a baseline to the image, by the midpoint
        rule, times the difference of both (Sundararajan et al. 2017, section 3): what they sum up to is by
        how much the score exceeds the baseline's.
    samples
        How many forward and backward passes.
    noise
        Of ``smoothgrad``: the standard deviation as a share of each image's range of values; 0.1 to 0.2 in
        the paper (section 3.1).
    baseline
        Of ``integrated-gradients``: a number, or an array shaped as one image, in the model's own units; 0
        is the mean colour where the preprocessing subtracts it.
    random_state
        Seeds the noise, which is the same for every image.
    """

    kind: AverageKind
    samples: int = 25
    noise: float = 0.15
    baseline: float | Array = 0.0
    random_state: int = 0

    def __post_init__(self) -> None:
        if self.kind not in AVERAGES:
            raise InputError(f"average={self.kind!r}: choose one of {', '.join(AVERAGES)}")
        if self.samples < 1:
            raise InputError(f"samples={self.samples}: an average needs at least one")
        if self.noise < 0:
            raise InputError(f"noise={self.noise}: a standard deviation is not negative")

    @classmethod
    def of(cls, average: "Average | str") -> "Average":
        """Accept a kind's name in place of the whole."""
        return cls(average) if isinstance(average, str) else average  # type: ignore[arg-type]

    @property
    def integrates(self) -> bool:
        """Whether it is the mean of gradients alone, times the difference from the baseline."""
        return self.kind == "integrated-gradients"

    def method(self, of: str) -> str:
        """Return what pictures call it, given the method that is averaged."""
        return self.kind if self.integrates or of == "gradient" else f"{self.kind}*{of}"

    def inputs(self, feeds: Mapping[str, Array]) -> Iterator[dict[str, Array]]:
        """Yield the batches to be averaged over; what is not floating point stays as it is."""
        rng = np.random.default_rng(self.random_state)
        for sample in range(self.samples):
            share = (sample + 0.5) / self.samples
            yield {name: self._sampled(array, share, rng) for name, array in feeds.items()}

    def finished(self, mean: Array, given: Array) -> Array:
        """Return the average, given the mean of reconstructions and the batch."""
        return mean * (given - self._baseline(given)) if self.integrates else mean

    def _sampled(self, array: Array, share: float, rng: np.random.Generator) -> Array:
        if array.dtype.kind != "f":
            return array
        if self.integrates:
            start = self._baseline(array)
            return np.asarray(start + share * (array - start), array.dtype)
        images = tuple(range(1, array.ndim))
        spread = array.max(images, keepdims=True) - array.min(images, keepdims=True)
        noise = rng.standard_normal(array.shape[1:])
        return np.asarray(array + self.noise * spread * noise, array.dtype)

    def _baseline(self, array: Array) -> Array:
        baseline = np.asarray(self.baseline)
        if baseline.ndim and baseline.shape != array.shape[1:]:
            raise InputError(f"baseline of shape {baseline.shape}: an image has shape {array.shape[1:]}")
        return baseline


class AveragedPass(Pass):
    """A pass whose reconstructions are averages: seeds are those of the image itself."""

    def __init__(
        self, pair: PairSession, layer: str, feeds: Mapping[str, Array], axes: Axes, average: Average,
        shared: Collection[str] = (),
    ) -> None:  # fmt: skip
        super().__init__(pair, layer, feeds, axes, shared)
        self._average = average

    def send(self, seed: Array) -> dict[str, Array]:
        """Send a seed back through every sample; return the averages by input name.

        Inputs that all images share stay as they are, and have no average.
        """
        own = {name: array for name, array in self._feeds.items() if name not in self._shared}
        total: dict[str, Array] = {}
        for number, feeds in enumerate(self._average.inputs(own), 1):
            logger.debug("sample %d of %d", number, self._average.samples)
            found = Pass(self.pair, self.layer, {**self._feeds, **feeds}, self.axes, self._shared).send(seed)
            total = {
                name: total.get(name, 0.0) + found[name].astype(np.float64) for name in found if name in own
            }
        means = {name: each / self._average.samples for name, each in total.items()}
        return {
            name: np.asarray(self._average.finished(each, self._feeds[name]), np.float32)
            for name, each in means.items()
        }
