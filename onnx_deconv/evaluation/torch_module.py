"""A model as a module of PyTorch whose layers can be given random weights, one by one.

Imported only where it is asked for: PyTorch is no requirement.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from onnx_deconv.evaluation.randomisation import learnt_layers
from onnx_deconv.model import Array

if TYPE_CHECKING:
    from onnx_deconv.evaluation.methods import Method
    from onnx_deconv.evaluation.quantus import QuantusModel

_STATES = 2**31


class _Layer(torch.nn.Module):
    """A layer with weights: those of the file, or random ones."""

    state: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("state", torch.tensor(0))  # 0 stands for the file's own weights

    def reset_parameters(self) -> None:
        """Draw the random weights' state from PyTorch's own random numbers."""
        self.state.copy_(torch.randint(1, _STATES, ()))


class OnnxModule(torch.nn.Module):
    """A model, and which of its layers have random weights.

    Parameters
    ----------
    model
        The model with its own weights.
    """

    def __init__(self, model: "QuantusModel") -> None:
        super().__init__()
        self._own = model
        self._made: tuple[dict[str, int], QuantusModel] = {}, model
        names = [layer.name for layer in reversed(learnt_layers(model.explainer.model))]
        self.layers = {name: _Layer() for name in names}
        for name, layer in self.layers.items():
            self.add_module("layer/" + name.replace(".", "_"), layer)

    def __deepcopy__(self, memo: dict[int, Any]) -> "OnnxModule":
        copy = OnnxModule(self._own)
        copy.load_state_dict(self.state_dict())
        return copy.train(self.training)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return scores or probabilities, shape (N, K)."""
        return torch.from_numpy(self.current().predict(images.detach().cpu().numpy()))

    def explain(self, inputs: Array, targets: Sequence[int], method: "Method | str" = "deconvnet") -> Array:
        """Explain images by the weights as they are now."""
        return self.current().explain(inputs, targets, method)

    def current(self) -> "QuantusModel":
        """Return the model with the weights that it has now."""
        states = {name: state for name, layer in self.layers.items() if (state := int(layer.state))}
        if states != self._made[0]:
            self._made = states, self._own.with_random_layers(states)
        return self._made[1]


def module_of(model: "QuantusModel") -> OnnxModule:
    """Make the module of a model, ready to predict."""
    return OnnxModule(model).eval()
