"""Explain any CNN in an ONNX file: switches, a companion deconv graph, and what excited a unit."""

from onnx_deconv.errors import (
    DeconvError,
    InputError,
    MissingRuleError,
    ModelError,
    RuleError,
    RuntimeUnavailableError,
    UnknownLayerError,
)

# Checkers take it for typing's, which takes a while to load: an interruption would show a traceback.
TYPE_CHECKING = False

if TYPE_CHECKING:
    from onnx_deconv.attribution.examples import example
    from onnx_deconv.attribution.explainer import Explainer
    from onnx_deconv.attribution.explanation import Explanation
    from onnx_deconv.attribution.explanations import Explanations
    from onnx_deconv.attribution.fixed_inputs import with_inputs
    from onnx_deconv.attribution.images import explain
    from onnx_deconv.compiler.explain_graph import ExplainGraph, explain_graph
    from onnx_deconv.compiler.package import load_pair, save
    from onnx_deconv.compiler.pair import Pair, compile_pair
    from onnx_deconv.labels import Labels
    from onnx_deconv.model import Model, load
    from onnx_deconv.semantics import Semantics

__version__ = "0.1.0"

__all__ = [
    "DeconvError",
    "ExplainGraph",
    "Explainer",
    "Explanation",
    "Explanations",
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
    "example",
    "explain",
    "explain_graph",
    "load",
    "load_pair",
    "save",
    "with_inputs",
]

# Imported on first use, so that "onnx-deconv --help" does not wait for onnx and NumPy.
_HOMES = {
    "attribution.examples": ("example",),
    "attribution.explainer": ("Explainer",),
    "attribution.explanation": ("Explanation",),
    "attribution.explanations": ("Explanations",),
    "attribution.fixed_inputs": ("with_inputs",),
    "attribution.images": ("explain",),
    "compiler.explain_graph": ("ExplainGraph", "explain_graph"),
    "compiler.package": ("load_pair", "save"),
    "compiler.pair": ("Pair", "compile_pair"),
    "labels": ("Labels",),
    "model": ("Model", "load"),
    "semantics": ("Semantics",),
}


def __getattr__(name: str) -> object:
    from importlib import import_module  # noqa: PLC0415

    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{home}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
