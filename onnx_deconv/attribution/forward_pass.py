"""One forward pass of a batch through a pair, and any number of backward passes."""

from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from onnx import ModelProto, helper

from onnx_deconv.attribution.seed import Aim, SeedKind, make_seed, ranks_of
from onnx_deconv.compiler.backward import SEED
from onnx_deconv.errors import InputError
from onnx_deconv.model import Array
from onnx_deconv.model.head import Head
from onnx_deconv.model.value_axes import Axes
from onnx_deconv.operators import find
from onnx_deconv.operators.builder import origin
from onnx_deconv.operators.traits import AFFINE, COMBINATION, JOIN, PICK, PLACEMENT, RECTIFIER
from onnx_deconv.runtime import PairSession, Session, numpy_of, why_not_finite

_CAN_STOP = {RECTIFIER, AFFINE, COMBINATION, PLACEMENT, PICK, JOIN}
"""Traits of the companion's nodes that can stop a signal altogether, or let one of its parts alone pass."""


class Pass:
    """A batch that has run forward; its activations stay on the device for the backward passes.

    Parameters
    ----------
    pair
        The pair that explains the value ``layer``.
    layer
        The explained value.
    feeds
        The batch, by input name.
    axes
        What the axes of the explained value are.
    shared
        The inputs without a batch axis, which all images share.
    """

    def __init__(
        self, pair: PairSession, layer: str, feeds: Mapping[str, Array], axes: Axes | None = None,
        shared: Collection[str] = (),
    ) -> None:  # fmt: skip
        self._shared = shared
        self.pair, self.layer, self.axes = pair, layer, axes or Axes()
        self._feeds = feeds
        self._values = pair.run_forward(feeds)

    @cached_property
    def explained(self) -> Array:
        """The explained value's activations, shape (N, K, ...), float32.

        Raises
        ------
        InputError
            If it has no channels, or nothing is left of the images there.
        """
        explained = self.axes.canonical(numpy_of(self._values[self.layer]))
        if explained.ndim < 2:  # noqa: PLR2004
            raise InputError(f"{self.layer!r} has shape {explained.shape}: it has no channels to explain")
        if not explained.size:
            shape = "×".join(map(str, explained.shape))
            raise InputError(
                f"nothing is left of the images at {self.layer!r} ({shape}): choose a larger size"
            )
        return explained.astype(np.float32, copy=False)

    def scores(self, head: Head) -> Array:
        """Return one score per image and class of an output, shape (N, K), float32.

        Parameters
        ----------
        head
            The output. It gives the scores if it has one number per class (also where the explanation
            starts before a final softmax); else they are the strongest activations of the classes, or their
            odds, see :func:`~onnx_deconv.attribution.seed.of_classes`.
        """
        found = ranks_of(self.ranked(head), head)
        if head.own is not None:
            own = head.own.canonical(numpy_of(self._values[head.output]))
            found = own.reshape(found.shape) if own.size == found.size else found
        return found.astype(np.float32)

    def ranked(self, head: Head) -> Array:
        """Return the numbers by which an output's classes are ranked, shape (N, K, ...), float32."""
        by = None if head.ranked is None else self._values.get(head.ranked)
        known = self.explained if by is None else head.ranked_axes.canonical(numpy_of(by))
        return known.astype(np.float32, copy=False)

    def back(self, aims: Sequence[Aim], kind: SeedKind) -> tuple[dict[str, Array], Array, str]:
        """Send one seed per image back.

        Parameters
        ----------
        aims, kind
            As for :func:`~onnx_deconv.attribution.seed.make_seed`.

        Returns
        -------
        tuple
            The reconstructions by input name, each shaped as the input, float32; the seed; its kind.
        """
        seed, used = make_seed(self.explained, aims, kind)
        return self.send(seed), seed, used

    def send(self, seed: Array) -> dict[str, Array]:
        """Send a seed of the shape (N, K, ...) back; return the reconstructions by input name.

        What arrives at an input that all images share is the sum over them: of one image alone it is that
        image's, and is returned with an axis for it; of several it is none's, and left out.
        """
        results = self.pair.run_deconv(self._values, self._own(seed))
        of = {r["name"]: r["of"] for r in self.pair.pair.manifest["reconstructions"]}
        found = {of[name]: r.astype(np.float32, copy=False) for name, r in results.items()}
        alone = len(seed) == 1
        return {
            name: r[None] if name in self._shared else r
            for name, r in found.items()
            if alone or name not in self._shared
        }

    def _own(self, seed: Array) -> Array:
        """Return a seed as the companion takes it: in the explained value's own order of axes."""
        return np.asarray(self.axes.restored(seed.astype(self.pair.seed_dtype, copy=False)), order="C")

    def why_not_finite(self, seed: Array) -> str:
        """Say what made values of a reconstruction from this seed infinite or NaN."""
        sent = {name: numpy_of(self._values[name]) for name in self.pair.reads}
        return why_not_finite(self.pair.pair, self._feeds, {**sent, SEED: seed.astype(self.pair.seed_dtype)})

    def where_signals_died(self, seed: Array, images: Sequence[int]) -> list[str | None]:
        """Name, for each of these images, the last forward node at which its signal became zero.

        ``None`` where the seed itself is zero: nothing was active there.
        """
        probe = ModelProto()
        probe.CopyFrom(self.pair.pair.deconv)
        shown = {o.name for o in probe.graph.output}
        nodes = [n for n in probe.graph.node if find(n.op_type).traits & _CAN_STOP]
        stops = [value for node in nodes for value in node.output if value]
        probe.graph.output.extend(helper.make_empty_tensor_value_info(v) for v in stops if v not in shown)
        feeds = {name: numpy_of(self._values[name]) for name in self.pair.reads}
        session = Session(probe, self.pair.pair.folder, "cpu")

        def died(image: int) -> str | None:
            alone = np.zeros(seed.shape, self.pair.seed_dtype)
            alone[image] = seed[image]
            return _last_stop(probe, session.run({**feeds, SEED: self._own(alone)})) if alone.any() else None

        return [died(image) for image in images]


def _last_stop(probe: ModelProto, found: Mapping[str, Any]) -> str:
    alive, stop = {SEED}, "the seed"
    for node in probe.graph.node:
        if not any(value in alive for value in node.input):
            continue
        living = [value for value in node.output if value not in found or numpy_of(found[value]).any()]
        alive.update(living)
        if not living:
            stop = origin(node.name)
    return stop
