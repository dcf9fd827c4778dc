"""Where an explained channel stands among all: its rank, and its probability."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from onnx_deconv.attribution.chance import EVEN
from onnx_deconv.model import Array
from onnx_deconv.model.head import Head
from onnx_deconv.operators import find
from onnx_deconv.operators.traits import LOGARITHM, PROBABILITY
from onnx_deconv.runtime import percent

_IMPROBABLE = 0.01
"""A class is called improbable if its probability is less than this share of the most probable one's."""
_ROUNDING = 1e-3
_FIRST = 5
"""Where a model gives no probabilities, a class is called improbable if this many come before it."""


class Equals(NamedTuple):
    """How many others are exactly as strong as what is explained, which is the first of them in order.

    Attributes
    ----------
    channels
        Classes or channels that are not explained; 0 where one was asked for.
    positions
        Of the channel's map; 0 where one, or the whole map, was asked for.
    """

    channels: int = 0
    positions: int = 0

    @property
    def words(self) -> str:
        """What a caption adds to the score: nothing if there are none."""
        return ", as others" if any(self) else ""


@dataclass(frozen=True)
class Standing:
    """Where an explained channel stands among all channels, for one image.

    Attributes
    ----------
    asked
        The value whose channel is explained: the scores, or a layer.
    of_class
        Whether it is the scores, so that the channel is a class.
    rank
        1 for the channel with the highest score or activation; ``None`` of a sum of several, or an array.
    among
        How many channels there are.
    probability
        The class's, 0..1, where the model gives any; of a map, where it is highest; of boxes, the best one's.
    improbable
        Whether the image hardly shows the class, by what the model says.
    absent
        Whether the class, more likely than not, is nowhere in the image, as a box, a sigmoid or its map says.
    """

    asked: str
    of_class: bool
    rank: int | None = None
    among: int = 0
    probability: float | None = None
    improbable: bool = False
    absent: bool = False

    @classmethod
    def of_a_class(cls, head: Head, asked: str, scores: Array, channel: int) -> "Standing":
        """Tell where a class stands.

        Parameters
        ----------
        head
            The model's output.
        asked
            The value that holds the scores.
        scores
            What the model gives each class of one image, shape (K,).
        channel
            The class.
        """
        if head.kind in ("numbers", "regression"):
            return cls(asked, True)  # the largest of several quantities is not the first
        rank = _rank(scores, channel)
        if head.kind != "classes":  # where in the map, or which box, decides
            return cls(asked, True, rank, len(scores))
        probabilities = _probabilities(head, scores)
        if probabilities is None:
            return cls(asked, True, rank, len(scores), None, rank > _FIRST)
        probability = float(probabilities[channel])
        improbable = probability < _IMPROBABLE * float(probabilities.max())
        several = head.squash == "each" and len(scores) > 1  # a single one may be one of two, as cat or dog
        absent = several and rank == 1 and probability < EVEN
        return cls(asked, True, rank, len(scores), probability, improbable, absent)

    @classmethod
    def of_a_channel(cls, asked: str, activations: Array, channel: int) -> "Standing":
        """Tell where a channel of a layer stands, by the strongest activations, shape (K,)."""
        return cls(asked, False, _rank(activations, channel), len(activations))

    @property
    def words(self) -> str:
        """The rank for people: ``rank 3 of 1000``."""
        return "" if self.rank is None else f"rank {self.rank} of {self.among}"

    @property
    def is_behind(self) -> bool:
        """Whether others are stronger."""
        return self.rank is not None and self.rank > 1

    def beside(self, score: float) -> str:
        """Return the probability as it stands behind the score, see :func:`beside`."""
        return beside(score, self.probability)

    @property
    def doubt(self) -> str | None:
        """A remark where nothing of the class was found, else ``None``."""
        if not self.absent:
            return None
        if self.probability is None:
            return (
                "its score is below 0: before a sigmoid that says that, more likely than not, it is not there"
            )
        return f"its probability is {percent(self.probability)}: more likely than not, it is not there"

    @property
    def warning(self) -> str | None:
        """A remark where the image hardly shows the class, else ``None``."""
        if not self.improbable:
            return None
        chance = "" if self.probability is None else f" (probability {self.probability:.2g})"
        return (
            f"the model hardly sees this class here: {self.words}{chance}; the picture shows what speaks "
            "for it most, not that it is there"
        )


def beside(score: float, probability: float | None) -> str:
    """Return a probability, behind a score that is another number; nothing where there is none."""
    same = probability is None or np.isclose(probability, score)
    return "" if same else f" (probability {probability:.3g})"


def _rank(scores: Array, channel: int) -> int:
    return 1 + int((scores > scores[channel]).sum())


def _probabilities(head: Head, scores: Array) -> Array | None:
    """Return the scores as probabilities, where the model's last operator makes them such."""
    last = next((step.partition(" ")[0] for step in reversed(head.cut)), None)
    traits = frozenset() if last is None else find(last).traits
    if not traits & {PROBABILITY, LOGARITHM}:
        return None
    found = np.exp(scores) if LOGARITHM in traits else scores
    # An output of another shape than the scores is not what the scores were read from.
    return found if ((found >= 0) & (found <= 1 + _ROUNDING)).all() else None
