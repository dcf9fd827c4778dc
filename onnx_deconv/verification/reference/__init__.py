"""The same explanation, slowly: an independent deconvnet in NumPy, written from the paper.

The product compiles a model into a companion graph. This package shares no code with it: it walks
the forward graph backwards in float64, one small function per operator, each straight from its
definition in the ONNX specification or from Zeiler & Fergus, "Visualizing and Understanding
Convolutional Networks" (2013), section 2.1:

* *filtering*: a convolution sends the signal back through its transposed filters;
* *rectification*: the signal passes through a relu where the forward values did;
* *unpooling*: the signal goes to the positions, the switches, where the maxima came from;
* anything else sends back its true vector-Jacobian product.

Two implementations that agree are the evidence that ``onnx-deconv verify`` reports.

References
----------
Zeiler & Fergus, 2013 (arXiv:1311.2901), section 2.1: deconvnet. Springenberg et al., 2014
(arXiv:1412.6806), section 3.4: guided backpropagation.
"""

from onnx_deconv.verification.reference import (  # noqa: F401 - each enters its operators into the table
    activations,
    filters,
    functions,
    indexing,
    joins,
    moves,
    normalisations,
    pools,
    products,
    quantisers,
    reductions,
    regions,
    resizing,
    samplers,
)
from onnx_deconv.verification.reference.class_activation import class_activation_map, enlarged
from onnx_deconv.verification.reference.options import ReferenceOptions, ReferenceRules
from onnx_deconv.verification.reference.relevance import TABLES, relevance
from onnx_deconv.verification.reference.table import BACKWARD
from onnx_deconv.verification.reference.walk import reference

__all__ = [
    "BACKWARD",
    "TABLES",
    "ReferenceOptions",
    "ReferenceRules",
    "class_activation_map",
    "enlarged",
    "reference",
    "relevance",
]
