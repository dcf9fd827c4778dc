"""Attributes of nodes, and what a pattern may ask of one."""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, TypeAlias

import onnx
from onnx import NodeProto
from onnx.helper import get_attribute_value

from onnx_deconv.model.protos import attributes_of

Expected: TypeAlias = int | float | str | list[int] | Callable[[Any], bool]
"""An attribute's value, or a condition; one that is left out and has no default is ``None``."""


def as_expected(node: NodeProto, opset: int, expected: Mapping[str, Expected]) -> bool:
    """Tell whether a standard operator's attributes are as expected, by their defaults where left out."""
    if not expected:
        return True
    given = _defaults(node.op_type, opset) | attributes_of(node)
    return all(_is(given.get(name), wanted) for name, wanted in expected.items())


def ones(given: Sequence[int] | None) -> bool:
    """Tell whether an attribute such as ``strides`` is 1 along each axis, as where it is left out."""
    return all(number == 1 for number in given or ())


def zeros(given: Sequence[int] | None) -> bool:
    """Tell whether an attribute such as ``pads`` is 0 along each axis, as where it is left out."""
    return not any(given or ())


def off(given: int | None) -> bool:
    """Tell whether an attribute that switches something on is left out, or 0."""
    return not given


def absent(given: object) -> bool:
    """Tell whether an attribute is left out."""
    return given is None


def _is(given: Any, wanted: Expected) -> bool:
    if callable(wanted):
        return wanted(given)
    return bool((given.decode() if isinstance(given, bytes) else given) == wanted)


@cache
def _defaults(operator: str, opset: int) -> dict[str, Any]:
    """Return the values of attributes that a node leaves out, by name."""
    if not onnx.defs.has(operator, opset, ""):
        return {}
    attributes = onnx.defs.get_schema(operator, opset, "").attributes
    held = {name: a.default_value for name, a in attributes.items() if a.default_value.name}
    return {name: get_attribute_value(default) for name, default in held.items()}
