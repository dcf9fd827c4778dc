"""An independent oracle: any ONNX model run in PyTorch, node by node, in double precision.

PyTorch's automatic differentiation sends the seed back, so that no rule of onnx_deconv takes part;
the rectifiers alone are replaced where a rule table asks for it.
"""

from torch_oracle import (
    activations,
    arithmetic,
    linear,
    normalisation,
    pooling,
    quantised,
    resampling,
    shaping,
)
from torch_oracle.operators import OPERATORS
from torch_oracle.run import Oracle, reconstruct

FAMILIES = (activations, arithmetic, linear, normalisation, pooling, quantised, resampling, shaping)

__all__ = ["FAMILIES", "OPERATORS", "Oracle", "reconstruct"]
