"""The optimisation passes by name."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from onnx_deconv.compiler.passes.rewriter import Rewriter

Pass = Callable[[Rewriter], None]

_PASSES: dict[str, Pass] = {}

PASSES: Mapping[str, Pass] = MappingProxyType(_PASSES)
"""Every registered pass by its name."""


def optimisation_pass(name: str) -> Callable[[Pass], Pass]:
    """Register a function as the pass of that name.

    Raises
    ------
    ValueError
        If a pass of that name is registered already.
    """

    def register(function: Pass) -> Pass:
        if name in _PASSES:
            raise ValueError(f"an optimisation pass is named {name!r} already")
        _PASSES[name] = function
        return function

    return register
