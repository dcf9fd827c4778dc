"""What a model's own nodes call the classes of an output."""

from collections.abc import Iterator

from onnx_deconv.model.class_numbers import Elements, before, numbering
from onnx_deconv.model.head import Head
from onnx_deconv.model.model import Model
from onnx_deconv.model.tails import Tail, tail_of
from onnx_deconv.operators.class_names import class_names
from onnx_deconv.operators.node import ForwardNode


def names_in_nodes(model: Model, head: Head) -> tuple[str, ...]:
    """Return the names of an output's classes that nodes hold; none where no node names them.

    Another output of the same scores may hold them: a classifier that scikit-learn's converter wrote returns
    probabilities, and beside them the name of the most probable class. Whole numbers are names too,
    unless they only count the classes.

    Parameters
    ----------
    model, head
        The model and its output.
    """
    shape, axis = model.type_of(head.start).shape, head.axes.classes
    count = None if shape is None or axis is None or axis >= len(shape) else shape[axis]
    if count is None or axis is None or head.kind == "detections":
        return ()
    own = list(head.elements or ((k, 1) for k in range(count)))
    for output in dict.fromkeys((head.output, *model.outputs)):
        tail = tail_of(model, output)
        if tail.start != head.start:
            continue
        for elements, names in _named(model, tail, axis, count):
            called = dict(zip(elements, names, strict=True))
            if called.keys() >= {*own} and names != [str(k) for k in range(len(names))]:
                return tuple(called[each] for each in own)
    return ()


def _named(model: Model, tail: Tail, axis: int, count: int) -> Iterator[tuple[Elements, list[str]]]:
    """Yield classes of values in a tail with the names that nodes give them."""
    known = numbering(model, tail, axis, count)
    for node in tail.nodes:
        found = class_names(ForwardNode(node, model))
        value = None if found is None else before(model, node)
        while value is not None and value not in known:
            below = model.producers.get(value)
            value = None if below is None else before(model, below)
        if found is None or value is None:
            continue
        if found.keys() == {*range(len(known[value]))}:
            yield known[value], [found[k] for k in range(len(found))]
