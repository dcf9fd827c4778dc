"""Where no relevance can arrive: at activations that are zero, if all that reads them multiplies by them."""

from onnx_deconv.operators.registry import traits_of
from onnx_deconv.operators.site import Site
from onnx_deconv.operators.traits import FILTER, SWITCHES, VIEW

_WEIGH = {"Add", "Sum", "AveragePool", "GlobalAveragePool", "ReduceMean", "ReduceSum"}
"""Operators that divide relevance in proportion to their inputs, as filters do."""

_MOVE = {"Concat", "Split", "Slice", "Gather", "Pad"}
"""Operators that give each number its own relevance back, as views and max pools do."""


def rectifier_behind(at: Site) -> Site | None:
    """Return the rectifier that alone reads a node's result, if no relevance arrives at its zeros.

    Only a rectifier that turns what is negative to zero will do.
    """
    reader = at.only_reader()
    if reader is None or not _cuts_off(reader) or not _is_weighed(reader):
        return None
    return reader


def _cuts_off(at: Site) -> bool:
    return at.node.op == "Relu" or (at.node.op == "Clip" and at.numbers("min", 1) == [0])


def _is_weighed(at: Site) -> bool:
    """Tell whether all readers of a value multiply by it, directly or after it was moved about."""
    values, seen = [at.node.outputs[0].name], set[str]()
    while values:
        name = values.pop()
        if name in seen:
            continue
        seen.add(name)
        if not at.readers.get(name):
            return False  # it is explained itself
        for node in at.readers[name]:
            traits = traits_of(node)
            if node.op in _WEIGH or FILTER in traits:
                continue
            if node.op not in _MOVE and not traits & {VIEW, SWITCHES}:
                return False
            values += [v.name for v in node.outputs if v.name in at.reached]
    return True
