"""What the specification of a deconvnet leaves open."""

from dataclasses import dataclass
from typing import Literal

ReferenceRules = Literal["deconvnet", "guided", "gradient"]


@dataclass(frozen=True)
class ReferenceOptions:
    """What the specification of a deconvnet leaves open.

    Parameters
    ----------
    rules
        What a rectifier does to the signal: `deconvnet` rectifies the signal, `guided` also stops
        it where the forward input was not positive, `gradient` is the true derivative.
    activations
        Which activations obey `rules`: `all` of the rectifier-like ones, or `relu` alone, the
        others then being at their true derivative.
    lrn
        `identity`, or `gradient`; None means identity for the deconvnet and gradient otherwise.
    unpool
        Where windows overlap their signals `add`, or the last one in row-major order wins
        (`overwrite`).
    """

    rules: ReferenceRules = "deconvnet"
    activations: Literal["all", "relu"] = "all"
    lrn: Literal["identity", "gradient"] | None = None
    unpool: Literal["add", "overwrite"] = "add"
