"""Attempts at an explanation: where a reconstruction comes out empty, the next start is tried."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from onnx_deconv.attribution.forward_pass import Pass
from onnx_deconv.attribution.seed import Aim, SeedKind, strongest
from onnx_deconv.errors import InputError
from onnx_deconv.model import Array
from onnx_deconv.semantics import Semantics


class Start(NamedTuple):
    """A layer to start from, the seed to start with, and how signals are sent back."""

    layer: str
    seed: SeedKind
    semantics: Semantics


class Passes(dict[tuple[str, Semantics], Pass]):
    """The forward passes of one chunk, by layer and semantics; each is made when it is first asked for.

    Parameters
    ----------
    make
        Runs the chunk forward through the pair of a layer.
    """

    def __init__(self, make: Callable[[str, Semantics], Pass]) -> None:
        super().__init__()
        self._make = make

    def __missing__(self, key: tuple[str, Semantics]) -> Pass:
        self[key] = self._make(*key)
        return self[key]

    def of(self, start: Start) -> Pass:
        """Return the pass that a start needs."""
        return self[start.layer, start.semantics]


@dataclass
class Column:
    """Reconstructions of one channel per image, and per image what they were made from.

    Attributes
    ----------
    reconstructions
        By input name, shape (N, ...).
    starts, kinds
        For each image, what its reconstruction started from, and the kind of seed.
    notes
        For each image, what happened to signals that became zero, or no numbers; else ``None``.
    seeds
        For each image, its seed, shape (K, ...).
    """

    reconstructions: dict[str, Array]
    starts: list[Start]
    kinds: list[str]
    notes: list[str | None]
    seeds: list[Array]

    @classmethod
    def of(cls, reconstructions: dict[str, Array], start: Start, kind: str, seed: Array) -> "Column":
        """Return the column of a first attempt."""
        n = len(next(iter(reconstructions.values())))
        return cls(reconstructions, [start] * n, [kind] * n, [None] * n, list(seed))

    def empty(self) -> list[int]:
        """Return the images whose reconstructions are zero everywhere."""
        arrays = self.reconstructions.values()
        return [k for k in range(len(self.starts)) if not any(a[k].any() for a in arrays)]

    def not_finite(self) -> dict[int, int]:
        """Return how many values of an image's reconstructions are infinite or NaN, where some are."""
        arrays = self.reconstructions.values()
        counts = {k: sum(int((~np.isfinite(a[k])).sum()) for a in arrays) for k in range(len(self.starts))}
        return {k: count for k, count in counts.items() if count}

    def replace(
        self, images: Sequence[int], others: Mapping[str, Array], start: Start, kind: str, seed: Array
    ) -> None:
        """Take these images from another attempt, where it gave something."""
        for k in images:
            if any(a[k].any() for a in others.values()):
                for name, a in others.items():
                    self.reconstructions[name][k] = a[k]
                other = start.semantics != self.starts[k].semantics
                how = f"by {start.semantics.method}" if other else f"(seed {kind})"
                self.starts[k], self.kinds[k], self.seeds[k] = start, kind, seed[k]
                self.notes[k] = f"{self.notes[k]}; explained {start.layer!r} {how} instead"

    def found(self, image: int, aim: Aim) -> tuple[int, ...] | None:
        """Return the position of a map that an image's seed starts from, where no place was aimed at."""
        kind, seed = self.kinds[image], self.seeds[image][aim.weights[0][0]]
        alone = aim.place is None and kind in ("one", "value") and seed.size > 1
        return strongest(np.abs(seed)) if kind == "strongest" or alone else None

    def note(self, image: int, text: str) -> None:
        """Add to what is noted of an image, once where several starts tell the same."""
        told = self.notes[image]
        if text not in (told or "").split("; "):
            self.notes[image] = f"{told}; {text}" if told else text


def explain_column(passes: Passes, starts: Sequence[Start], aims: Sequence[Aim]) -> Column:
    """Explain one aim per image, from the first of the starts that gives something.

    Parameters
    ----------
    passes
        The chunk's forward passes.
    starts
        What to start from, in order.
    aims
        As for :func:`~onnx_deconv.attribution.seed.make_seed`.
    """
    column: Column | None = None
    empty: list[int] = []
    told: dict[int, int] = {}
    for start in starts:
        run = passes.of(start)
        reconstructions, seed, kind = run.back(aims, start.seed)
        if column is None:
            column = Column.of(reconstructions, start, kind, seed)
        else:
            column.replace(empty, reconstructions, start, kind, seed)
        for image, count in column.not_finite().items() - told.items():
            told[image] = count
            column.note(image, f"{count} values are not finite: {run.why_not_finite(seed)}")
        empty = column.empty()
        if not empty:
            break
        for image, stop in zip(empty, run.where_signals_died(seed, empty), strict=True):
            fate = f"died at {stop!r}" if stop is not None else "is zero: nothing is active there"
            column.note(image, f"the signal of {start.layer!r} (seed {kind}) {fate}")
    if column is None:
        raise InputError("nothing to start from")
    return column
