"""Products of two probabilities that a detector takes level by level, as FCOS: the same product of all boxes.

The class's probability and that of there being anything stand in one value each for all boxes. The graph cuts
both at the same places, makes probabilities, multiplies them, and picks the best of each level. No value of
the file holds the products of all boxes: the view gets one.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import onnx_graphsurgeon as gs

from onnx_deconv.model.joined import Written
from onnx_deconv.model.reading import is_product
from onnx_deconv.operators import traits_of
from onnx_deconv.operators.node import Forward
from onnx_deconv.operators.traits import PICK, POINTWISE, PROBABILITY, REDUCTION


def products(model: Forward, nodes: Sequence[gs.Node]) -> tuple[dict[str, str], list[Written]]:
    """Find products of parts of the same two values, and write the product of both.

    Parameters
    ----------
    model
        The view; not changed.
    nodes
        Its nodes, in order.

    Returns
    -------
    tuple
        For each product of parts the value that holds the product of all; and the nodes that the view is to
        gain, in order.
    """
    found, made = dict[str, str](), dict[tuple[str, str], tuple[list[gs.Node], list[str]]]()
    for node in filter(is_product, nodes):
        parts = [_part(model, v.name) for v in node.inputs]
        if None in parts:
            continue
        (first, one, cuts), (second, other, same) = (each for each in parts if each is not None)
        if cuts and _are_alike(model, cuts, same) and _fit(model, first, second):
            squashes, results = made.setdefault((first, second), ([one, other], []))
            results.append(node.outputs[0].name)
    written: list[Written] = []
    for (first, second), (squashes, results) in made.items():
        whole = f"{first}/product"
        if len(results) > 1 and whole not in model.producers:
            found |= dict.fromkeys(results, whole)
            written += _written(first, second, squashes, whole)
    return found, written


def _written(first: str, second: str, squashes: Sequence[gs.Node], whole: str) -> Iterator[Written]:
    larger = []
    for value, like in zip((first, second), squashes, strict=True):
        larger.append(gs.Variable(f"{value}/probability"))
        attributes, given = dict(like.attrs), [gs.Variable(value)]
        yield gs.Node(like.op, larger[-1].name, attributes, given, larger[-1:], domain=like.domain), [value]
    yield gs.Node("Mul", whole, {}, larger, [gs.Variable(whole)]), [first]


def _part(model: Forward, value: str) -> tuple[str, gs.Node, list[gs.Node]] | None:
    """Return what a probability's score is cut out of, the sigmoid, and the cuts; ``None`` of others."""
    squash = model.producers.get(value)
    if squash is None or not traits_of(squash) >= {PROBABILITY, POINTWISE}:
        return None
    cuts, name = list[gs.Node](), squash.inputs[0].name
    while (node := model.producers.get(name)) is not None and _cuts(model, node):
        cuts.append(node)
        name = node.inputs[0].name
    return name, squash, cuts


def _cuts(model: Forward, node: gs.Node) -> bool:
    """Tell whether a node picks from its first input at places that constants tell."""
    known = all(v.name in model.constants for v in node.inputs[1:] if v.name)
    traits, alone = traits_of(node), len(node.outputs) == 1 and len(node.inputs) > 1
    return alone and known and PICK in traits and REDUCTION not in traits


def _are_alike(model: Forward, cuts: Sequence[gs.Node], others: Sequence[gs.Node]) -> bool:
    """Tell whether nodes pick at the same places."""

    def of(node: gs.Node) -> tuple[object, ...]:
        numbers = [model.constant(v.name) for v in node.inputs[1:] if v.name]
        return node.op, dict(node.attrs), [None if n is None else np.asarray(n).tolist() for n in numbers]

    return [of(node) for node in cuts] == [of(node) for node in others]


def _fit(model: Forward, first: str, second: str) -> bool:
    """Tell whether the second value has one number for each row of the first."""
    shapes = [model.type_of(value).shape for value in (first, second)]
    if shapes[0] is None or shapes[1] is None or len(shapes[0]) != len(shapes[1]):
        return False
    return shapes[0][:-1] == shapes[1][:-1] and shapes[1][-1] == 1
