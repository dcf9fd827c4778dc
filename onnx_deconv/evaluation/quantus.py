"""A model as Quantus takes one, so that its metrics run on any ONNX file.

Quantus (Hedström et al. 2023, "Quantus: An Explainable AI Toolkit") is not needed here, and nothing is
imported from it. Its metrics call two things: a model that predicts, and a function that explains::

    model = QuantusModel("model.onnx")
    metric.explain_func, metric.explain_func_kwargs = explain_func, {"method": "guided"}
    metric.evaluate_batch(model=model, x_batch=x, y_batch=y, a_batch=a, s_batch=masks)

To be called itself, a metric takes models of PyTorch and TensorFlow alone: :meth:`QuantusModel.module` makes
one, whose layers can be given random weights, as MPRT does (the randomisation test of Adebayo et al. 2018)::

    metric(model.module(), x, y, explain_func=explain_func, explain_func_kwargs={"method": "guided"})
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from onnx_deconv.attribution.explainer import Explainer
from onnx_deconv.attribution.features import Features
from onnx_deconv.evaluation.methods import Maps, Method, method_of
from onnx_deconv.evaluation.randomisation import learnt_layers, randomised
from onnx_deconv.imaging import Layout
from onnx_deconv.imaging.model_input import ImageInput
from onnx_deconv.model import Array, Model, Source

ExplainFunction = Callable[..., Array]


class QuantusModel:
    """A model with the methods of Quantus's ``ModelInterface`` that its metrics call.

    Parameters
    ----------
    model
        An explainer for the model, whose providers are taken, or what
        :class:`~onnx_deconv.attribution.explainer.Explainer` takes as a model.
    softmax
        Whether predictions are probabilities, where the model gives any; else they are scores.
    layout
        The layout of the model's input, where its shape does not show it. Quantus gives channels first.
    """

    def __init__(
        self, model: Explainer | Source | Model, *, softmax: bool = False, layout: Layout | None = None
    ) -> None:
        self.explainer = model if isinstance(model, Explainer) else Explainer(model)
        self.softmax = softmax
        self.layout = ImageInput.of(self.explainer.model, layout).layout
        self._network = Features(self.explainer)
        self._maps: dict[str, Maps] = {}

    def predict(self, x: Array, **_: Any) -> Array:
        """Return scores or probabilities, shape (N, K), of images with channels first, shape (N, C, H, W)."""
        values = self._network(self._images(x))
        return values.probabilities_or_scores if self.softmax else values.scores

    def shape_input(self, x: Array, shape: Sequence[int], **_: Any) -> Array:
        """Return images in the shape that :meth:`predict` takes."""
        return np.asarray(x).reshape(-1, *shape[-3:])

    def get_model(self) -> "QuantusModel":
        """Return what Quantus hands to a function that explains."""
        return self

    def explain(self, inputs: Array, targets: Sequence[int], method: Method | str = "deconvnet") -> Array:
        """Return saliency maps, shape (N, 1, H, W), of images with channels first."""
        chosen = method_of(method, self.explainer)
        if chosen.name not in self._maps:
            self._maps[chosen.name] = chosen.on(self.explainer.model, self.layout)
        return self._maps[chosen.name](self._images(inputs), [int(k) for k in targets])[:, None]

    def explain_func(self, method: Method | str = "deconvnet") -> ExplainFunction:
        """Make a function that explains this model, whichever model it is given."""

        def explain(model: object, inputs: Array, targets: Sequence[int], **_: Any) -> Array:  # noqa: ARG001
            return self.explain(inputs, targets, method)

        return explain

    def with_random_layers(self, states: Mapping[str, int]) -> "QuantusModel":
        """Return the model with random weights in some layers, by name, each with a random state."""
        model = self.explainer.model
        for layer in learnt_layers(model):
            if layer.name in states:
                model = randomised(model, [layer], states[layer.name])
        explainer = Explainer(model, **self.explainer.options)
        return QuantusModel(explainer, softmax=self.softmax, layout=self.layout)

    def module(self) -> Any:
        """Return the model as a module of PyTorch, which has to be installed.

        It predicts, and explains by :func:`explain_func`. It has a child for each layer with weights, in the
        order of the graph, whose ``reset_parameters`` gives that layer random weights.
        """
        from onnx_deconv.evaluation.torch_module import module_of  # noqa: PLC0415 - it imports torch

        return module_of(self)

    def _images(self, x: Array) -> Array:
        images = np.asarray(x)
        return images if self.layout == "NCHW" else images.transpose(0, 2, 3, 1)


def explain_func(
    model: QuantusModel,
    inputs: Array,
    targets: Sequence[int],
    *,
    method: Method | str = "deconvnet",
    **_: Any,
) -> Array:
    """Explain images as Quantus asks for it: see :meth:`QuantusModel.explain`."""
    return model.explain(inputs, targets, method)
