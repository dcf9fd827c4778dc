"""Features of any layers for batches of any length: the plain model runs, without switches."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_graphsurgeon as gs

from onnx_deconv.attribution.explainer import Explainer
from onnx_deconv.attribution.seed import scores_of
from onnx_deconv.compiler.forward import forward
from onnx_deconv.errors import InputError, ModelError
from onnx_deconv.model import Array, Model
from onnx_deconv.model.heads import scores_value
from onnx_deconv.operators import Tap
from onnx_deconv.runtime import Session, numpy_of

_AT_ONCE = 32
_CONVOLUTIONS = ("Conv", "FusedConv", "QLinearConv", "ConvInteger")
_RECTIFIERS = (
    "Relu", "LeakyRelu", "PRelu", "ThresholdedRelu", "Clip", "Elu", "Selu", "Celu",
    "Softplus", "Swish", "HardSwish", "Mish", "Gelu",
)  # fmt: skip
_SCALINGS = ("BatchNormalization", "Add", "Sub", "Mul", "Div")


class Features:
    """Runs a model of one input and tells what some of its values are.

    Parameters
    ----------
    explainer
        Whose model it is; it runs on the same providers.
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
            raise InputError(f"the model has inputs {', '.join(self.model.inputs)}: one is supported here")
        (self._input,) = self.model.inputs
        self._as_input = explainer.as_input
        self.layers = [self.model.layer(name) for name in layers]
        self.scores_layer, cut = scores_value(self.model)
        self._last = next((step.partition(" ")[0] for step in reversed(cut)), None)
        wanted = dict.fromkeys([*self.layers, self.scores_layer])
        taps = [Tap("value", value, value) for value in wanted]
        self._session = Session(forward(self.model, taps), self.model.folder, explainer.providers)

    def __call__(self, batch: Array) -> "Values":
        """Run a batch of any length: 32 at a time, or as many as the model's fixed batch size says.

        Parameters
        ----------
        batch
            Images as the model takes them, shape (N, ...).

        Raises
        ------
        InputError
            If the batch does not fit.
        """
        parts = [self._run(part) for part in self._parts(self._as_input(self._input, batch))]
        joined = {name: np.concatenate([part[name] for part in parts])[: len(batch)] for name in parts[0]}
        scores = scores_of(joined[self.scores_layer])
        return Values(joined, scores, self._probabilities(joined, scores))

    def _run(self, part: Array) -> dict[str, Array]:
        found = self._session.run({self._input: part})
        wanted = {*self.layers, self.scores_layer, self.model.outputs[0]}
        values = {name: numpy_of(found[name]).astype(np.float32, copy=False) for name in wanted}
        for name, value in values.items():
            if name != self.model.outputs[0] and (value.ndim < 2 or len(value) != len(part)):  # noqa: PLR2004
                raise InputError(f"{name!r} has shape {value.shape}: not one set of features per image")
        return values

    def _parts(self, batch: Array) -> Iterator[Array]:
        step = self.model.batch or min(len(batch), _AT_ONCE)
        for first in range(0, len(batch), step):
            part = batch[first : first + step]
            missing = step - len(part) if self.model.batch else 0
            yield np.concatenate([part, part[-1:].repeat(missing, axis=0)]) if missing else part

    def _probabilities(self, values: dict[str, Array], scores: Array) -> Array | None:
        output = values[self.model.outputs[0]]
        if self._last is None or output.size != scores.size:
            return None
        output = output.reshape(scores.shape)
        return np.exp(output) if self._last == "LogSoftmax" else output


@dataclass(frozen=True)
class Values:
    """What a model made of a batch.

    Attributes
    ----------
    of
        Features by value name, float32, shape (N, K, ...).
    scores
        One score per image and class, before a final softmax or sigmoid, shape (N, K).
    probabilities
        The same behind it; ``None`` where the model has none.
    """

    of: dict[str, Array]
    scores: Array
    probabilities: Array | None

    @property
    def shown(self) -> Array:
        """The probabilities where there are any, else the scores."""
        return self.scores if self.probabilities is None else self.probabilities


def convolutions(explainer: Explainer) -> list[str]:
    """List the layers of feature maps, in the order of the graph.

    Each is what a convolution gives, behind the normalisation and the rectifier that follow it alone.
    Maps of one position, and those of the classes right below a global pool, are left out: their
    activations are no more than the scores.
    """
    model = explainer.model
    last = _rectified(model, explainer.class_maps) if explainer.class_maps else None
    values = [
        _rectified(model, node.outputs[0].name)
        for node in model.nodes
        if node.op in _CONVOLUTIONS and _has_positions(model, node.outputs[0].name)
    ]
    return [value for value in dict.fromkeys(values) if value not in (last, explainer.class_maps)]


def last_convolution(explainer: Explainer) -> str:
    """Name the last layer of feature maps.

    Raises
    ------
    ModelError
        If the model has none.
    """
    layers = convolutions(explainer)
    if not layers:
        raise ModelError(f"{explainer.model.name} has no convolution: name a layer with --layer")
    return layers[-1]


def _rectified(model: Model, value: str) -> str:
    """Follow a convolution's result through the scaling and shifting behind it to its rectifier, if any."""
    last = value
    while True:
        users = [node for node in model.nodes if any(i.name == last for i in node.inputs)]
        rectifier = next((node for node in users if node.op in _RECTIFIERS), None)
        if rectifier is not None:
            return rectifier.outputs[0].name
        if len(users) != 1 or not _scales(model, users[0], last):
            return last
        last = users[0].outputs[0].name


def _scales(model: Model, node: gs.Node, value: str) -> bool:
    """Tell whether a node scales or shifts a value by constants."""
    others = [i.name for i in node.inputs if i.name and i.name != value]
    return node.op in _SCALINGS and all(name in model.constants for name in others)


def _has_positions(model: Model, value: str) -> bool:
    shape = model.type_of(value).shape
    return shape is None or len(shape) < 3 or any(size != 1 for size in shape[2:])  # noqa: PLR2004
