"""Attempts at an explanation: where a reconstruction comes out empty, the next start is tried."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from onnx_deconv.attribution.batches import length
from onnx_deconv.attribution.forward_pass import Pass
from onnx_deconv.attribution.seed import SeedKind
from onnx_deconv.errors import InputError
from onnx_deconv.model import Array


class Start(NamedTuple):
    """A layer to start from, and the seed to start with."""

    layer: str
    seed: SeedKind


class Passes(dict[str, Pass]):
    """The forward passes of one chunk, by layer; each is made when it is first asked for.

    Parameters
    ----------
    make
        Runs the chunk forward through the pair of a layer.
    """

    def __init__(self, make: Callable[[str], Pass]) -> None:
        super().__init__()
        self._make = make

    def __missing__(self, layer: str) -> Pass:
        self[layer] = self._make(layer)
        return self[layer]


@dataclass
class Column:
    """Reconstructions of one channel per image, and per image what they were made from.

    Attributes
    ----------
    reconstructions
        By input name, shape (N, ...).
    layers, kinds
        For each image, the layer that its reconstruction started from, and the kind of seed.
    notes
        For each image, what happened to signals that became zero; else ``None``.
    """

    reconstructions: dict[str, Array]
    layers: list[str]
    kinds: list[str]
    notes: list[str | None]

    @classmethod
    def of(cls, reconstructions: dict[str, Array], layer: str, kind: str) -> "Column":
        """Return the column of a first attempt."""
        n = length(reconstructions)
        return cls(reconstructions, [layer] * n, [kind] * n, [None] * n)

    def empty(self) -> list[int]:
        """Return the images whose reconstructions are zero everywhere."""
        arrays = self.reconstructions.values()
        return [k for k in range(len(self.layers)) if not any(a[k].any() for a in arrays)]

    def replace(self, images: Sequence[int], others: Mapping[str, Array], layer: str, kind: str) -> None:
        """Take these images from another attempt, where it gave something."""
        for k in images:
            if any(a[k].any() for a in others.values()):
                for name, a in others.items():
                    self.reconstructions[name][k] = a[k]
                self.layers[k], self.kinds[k] = layer, kind
                self.notes[k] = f"{self.notes[k]}; explained {layer!r} (seed {kind}) instead"

    def note(self, image: int, text: str) -> None:
        """Add to what is noted of an image."""
        self.notes[image] = f"{self.notes[image]}; {text}" if self.notes[image] else text


def explain_column(
    passes: Passes, starts: Sequence[Start], channels: Sequence[int], position: Sequence[int] | None
) -> Column:
    """Explain one channel per image, from the first of the starts that gives something.

    Parameters
    ----------
    passes
        The chunk's forward passes.
    starts
        What to start from, in order.
    channels, position
        As for :func:`~onnx_deconv.attribution.seed.make_seed`.
    """
    column: Column | None = None
    empty: list[int] = []
    for start in starts:
        run = passes[start.layer]
        reconstructions, seed, kind = run.back(channels, position, start.seed)
        if column is None:
            column = Column.of(reconstructions, start.layer, kind)
        else:
            column.replace(empty, reconstructions, start.layer, kind)
        empty = column.empty()
        if not empty:
            break
        for image, stop in zip(empty, run.where_signals_died(seed, empty), strict=True):
            fate = f"died at {stop!r}" if stop is not None else "is zero: nothing is active there"
            column.note(image, f"the signal of {start.layer!r} (seed {kind}) {fate}")
    if column is None:
        raise InputError("nothing to start from")
    return column
