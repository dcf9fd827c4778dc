"""Features of any layers, for batches of any length: the model itself runs, without switches."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from onnx_deconv.attribution.batches import as_array, as_input
from onnx_deconv.attribution.explainer import Explainer
from onnx_deconv.attribution.seed import of_classes, ranks_of
from onnx_deconv.compiler.forward import forward
from onnx_deconv.errors import InputError, ModelError, way
from onnx_deconv.model import Array, Model
from onnx_deconv.model.feature_maps import convolutions, rectified_convolution
from onnx_deconv.model.heads import axes_of, explainable
from onnx_deconv.operators import Tap, find
from onnx_deconv.operators.traits import LOGARITHM
from onnx_deconv.runtime import Session, numpy_of

_OUTPUT, _RANKED = "", "//"
"""What the model's own output, and what ranks its classes, are kept under; no value has such a name."""
_BATCH = 32
"""How many images run at once, where the model leaves that open."""


class Features:
    """Runs a model of one input and returns some of its values.

    Parameters
    ----------
    explainer
        An explainer for the model, which runs on the same providers.
    layers
        Names of values or nodes, besides the scores.

    Attributes
    ----------
    layers
        The values' names, in the order given.
    scores_layer
        The scores, before a final softmax or sigmoid.

    Raises
    ------
    InputError
        If the model has several inputs.
    UnknownLayerError
        If there is no such layer.
    """

    def __init__(self, explainer: Explainer, layers: Sequence[str] = ()) -> None:
        self.model = explainer.model
        if len(self.model.inputs) != 1:
            raise InputError(
                f"the model has inputs {', '.join(self.model.inputs)}, and this takes a model of one: "
                "give the others by onnx_deconv.with_inputs"
            )
        (self._input,) = self.model.inputs
        self.layers = [self.model.layer(name) for name in layers]
        explainable(self.model, explainer.head.output)
        self.head, self._fields = explainer.head, explainer.fields
        self.scores_layer = self.head.start
        self._last_operator = next((step.partition(" ")[0] for step in reversed(self.head.cut)), None)
        self._ranked = self.head.ranked or self.scores_layer
        wanted = dict.fromkeys([*self.layers, self.scores_layer, self._ranked])
        taps = [Tap("value", value, value) for value in wanted]
        self._session = Session(forward(self.model, taps), self.model.folder, explainer.providers)

    def __call__(self, batch: Array) -> "Values":
        """Run a batch of any length: 32 images at a time, or the model's fixed batch size.

        Parameters
        ----------
        batch
            Images as the model takes them, shape (N, ...).

        Raises
        ------
        InputError
            If the batch does not fit.
        """
        images = as_input(self.model, self._input, as_array(self._input, batch))
        chunks = [self._run(chunk) for chunk in self._chunks(images)]
        joined = {name: np.concatenate([c[name] for c in chunks])[: len(images)] for name in chunks[0]}
        ranks = self._ranks(joined[_RANKED])
        scores = ranks if self._fields else of_classes(joined[self.scores_layer], self.head)
        own = joined.get(_OUTPUT)
        return Values(joined, scores, self._probabilities(own, scores), ranks)

    def _ranks(self, values: Array) -> Array:
        """Return the number by which each class of each image is ranked."""
        if self._fields is not None:
            return self._fields.best(values)
        return ranks_of(values, self.head)

    def _run(self, chunk: Array) -> dict[str, Array]:
        found = self._session.run({self._input: chunk})
        wanted = {name: axes_of(self.model, name) for name in (*self.layers, self.scores_layer)}
        values = {name: axes.canonical(numpy_of(found[name])) for name, axes in wanted.items()}
        for name, value in values.items():
            if value.ndim < 2 or len(value) != len(chunk):  # noqa: PLR2004
                raise InputError(f"{name!r} has shape {value.shape}: not one set of features per image")
        values[_RANKED] = self.head.ranked_axes.canonical(numpy_of(found[self._ranked]))
        if self.head.own is not None:
            values[_OUTPUT] = self.head.own.canonical(numpy_of(found[self.head.output]))
        return {name: value.astype(np.float32, copy=False) for name, value in values.items()}

    def _chunks(self, batch: Array) -> Iterator[Array]:
        """Cut a batch into what the model takes at once, the last filled up with its last image."""
        step = self.model.batch or min(len(batch), _BATCH)
        for first in range(0, len(batch), step):
            chunk = batch[first : first + step]
            missing = step - len(chunk) if self.model.batch else 0
            yield np.concatenate([chunk, chunk[-1:].repeat(missing, axis=0)]) if missing else chunk

    def _probabilities(self, output: Array | None, scores: Array) -> Array | None:
        if self._last_operator is None or output is None or output.size != scores.size:
            return None
        output = output.reshape(scores.shape)
        return np.exp(output) if LOGARITHM in find(self._last_operator).traits else output


@dataclass(frozen=True)
class Values:
    """The values that a model computed for a batch.

    Attributes
    ----------
    features
        By the value's name: float32, shape (N, K, ...).
    scores
        One score per image and class, before a final softmax or sigmoid, shape (N, K).
    probabilities
        The same after it; ``None`` where the model has none.
    ranks
        By what classes are ranked, shape (N, K): the scores, unless the model puts them into another order.
    """

    features: dict[str, Array]
    scores: Array
    probabilities: Array | None
    ranks: Array

    @property
    def probabilities_or_scores(self) -> Array:
        """The probabilities where the model gives any, else the scores; shape (N, K)."""
        return self.scores if self.probabilities is None else self.probabilities


def feature_layers(explainer: Explainer) -> list[str]:
    """List the layers whose feature maps are worth following, in the order of the graph.

    These are the convolutions, each rectified (:func:`onnx_deconv.model.feature_maps.convolutions`). Left out
    are maps of a single position and, where the scores are means of one map per class, those maps: their
    activations say no more than the scores.
    """
    model, maps = explainer.model, explainer.class_maps
    of_classes = {maps, rectified_convolution(model, maps)} if maps else set()
    return [
        value for value in convolutions(model) if value not in of_classes and _has_positions(model, value)
    ]


def last_convolution(explainer: Explainer) -> str:
    """Name the last layer of feature maps.

    Raises
    ------
    ModelError
        If the model has none.
    """
    layers = feature_layers(explainer)
    if not layers:
        raise ModelError(
            f"{explainer.model.name} has no convolution: name a layer ({way('--layer', 'layer=')})"
        )
    return layers[-1]


def _has_positions(model: Model, value: str) -> bool:
    shape = model.type_of(value).shape
    return shape is None or len(shape) < 3 or any(size != 1 for size in shape[2:])  # noqa: PLR2004
