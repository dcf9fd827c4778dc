"""Explain any CNN in an ONNX file: switches, a companion deconv graph, and what excited a unit."""

from onnx_deconv.attribution.explainer import Explainer, Explanation
from onnx_deconv.compiler.explain_graph import ExplainGraph, explain_graph
from onnx_deconv.compiler.package import load_pair, save
from onnx_deconv.compiler.pair import Pair, compile_pair
from onnx_deconv.errors import (
    DeconvError,
    InputError,
    MissingRuleError,
    ModelError,
    RuleError,
    RuntimeUnavailableError,
    UnknownLayerError,
)
from onnx_deconv.labels import Labels
from onnx_deconv.model import Model, load
from onnx_deconv.semantics import Semantics

__version__ = "0.1.0"

__all__ = [
    "DeconvError",
    "ExplainGraph",
    "Explainer",
    "Explanation",
    "InputError",
    "Labels",
    "MissingRuleError",
    "Model",
    "ModelError",
    "Pair",
    "RuleError",
    "RuntimeUnavailableError",
    "Semantics",
    "UnknownLayerError",
    "__version__",
    "compile_pair",
    "explain_graph",
    "load",
    "load_pair",
    "save",
]
