"""What nodes read, which values the image's numbers change, and which nodes multiply."""

from collections.abc import Iterable, Iterator

import onnx_graphsurgeon as gs

from onnx_deconv.operators import find, traits_of
from onnx_deconv.operators.node import Forward
from onnx_deconv.operators.traits import POINTWISE, REPEATS, SHAPE_ONLY, VIEW


def read_by(node: gs.Node) -> Iterator[str]:
    """Yield the values that a node reads, those that its branches (If, Loop) take from around it too."""
    yield from (value.name for value in node.inputs if value.name)
    for branch in (a for a in node.attrs.values() if isinstance(a, gs.Graph)):
        for inner in branch.nodes:
            yield from read_by(inner)


def told_by_the_image(nodes: Iterable[gs.Node], inputs: Iterable[str]) -> set[str]:
    """Return the values that depend on the inputs' numbers, not on their sizes alone.

    Parameters
    ----------
    nodes
        The nodes, in order.
    inputs
        The inputs.
    """
    found = set(inputs)
    for node in nodes:
        if SHAPE_ONLY not in traits_of(node) and not found.isdisjoint(read_by(node)):
            found.update(v.name for v in node.outputs)
    return found


def below_repeats(model: Forward, value: str) -> str:
    """Return the value whose numbers one has, in another shape or repeated."""
    while (node := model.producers.get(value)) is not None and traits_of(node) & {REPEATS, VIEW}:
        value = node.inputs[0].name
    return value


def is_product(node: gs.Node) -> bool:
    """Tell whether a node multiplies two values."""
    entry, names = find(node.op, node.domain), [value.name for value in node.inputs]
    if POINTWISE not in entry.traits or not entry.can_evaluate or len(names) != 2 or len({*names}) != 2:  # noqa: PLR2004
        return False
    return all(entry.evaluate(node.attrs, a, b) == a * b for a, b in ((2.0, 3.0), (5.0, 0.5)))
