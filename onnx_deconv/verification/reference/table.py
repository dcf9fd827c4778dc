"""From an operator to the function that sends the signal back through it."""

from collections.abc import Callable

import numpy as np

from onnx_deconv.verification.reference.graph import Array
from onnx_deconv.verification.reference.visit import Visit

EachInput = Callable[[Visit, int], Array]
FirstInput = Callable[[Visit], Array]

BACKWARD: dict[str, EachInput] = {}
"""From an operator to the function that gives the signal for its input number i."""


def of_each_input(*operators: str) -> Callable[[EachInput], EachInput]:
    """Enter a function into the table that can serve every input of its operators."""

    def enter(function: EachInput) -> EachInput:
        BACKWARD.update(dict.fromkeys(operators, function))
        return function

    return enter


def of_first_input(*operators: str) -> Callable[[FirstInput], FirstInput]:
    """Enter a function into the table that serves input 0, the others being parameters.

    Nothing flows to a parameter of whole numbers: to positions, sizes and counts.
    """

    def enter(function: FirstInput) -> FirstInput:
        def for_data(at: Visit, i: int) -> Array:
            if i > 0 and at.raw(i).dtype.kind in "iu":
                return np.zeros(at.shape(i))
            if i > 0:
                raise at.unsupported(f"an input {i} computed from the explained input")
            return function(at)

        BACKWARD.update(dict.fromkeys(operators, for_data))
        return function

    return enter
