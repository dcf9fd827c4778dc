"""Means of several probabilities, as ensembles, several crops and several dropouts give: their scores.

The mean of several softmaxes has no scores of its own in the file. In the *view* of a model it gets some: the
same mean of what the softmaxes are given. One member's weight in it is its weight in the mean, and a class's
share of a score is the sum of what each member sees of it. Which class is the most probable is still
asked of the mean itself, as the mean of scores may rank classes otherwise where members disagree.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from onnx_deconv.errors import RuleError
from onnx_deconv.operators import find, traits_of
from onnx_deconv.operators.axes import compared
from onnx_deconv.operators.node import Forward, ForwardNode
from onnx_deconv.operators.traits import AFFINE, JOIN, POINTWISE, PROBABILITY, REDUCTION, SUM, VIEW

_Numbers = NDArray[Any]


@dataclass(frozen=True)
class Ensemble:
    """A mean, or a sum, of several probabilities.

    Attributes
    ----------
    value
        The mean.
    scores
        The same mean of the scores: a value of the view.
    nodes
        The nodes between the scores and the mean, the last one first.
    classes
        The axis of the mean along which softmaxes compare the classes; ``None`` where each stands alone.
    """

    value: str
    scores: str
    nodes: Sequence[gs.Node]
    classes: int | None


def ensembles(
    model: Forward, outputs: Sequence[str]
) -> tuple[dict[str, Ensemble], list[tuple[gs.Node, Sequence[str]]]]:
    """Find the means of probabilities that outputs are made of, and write the means of their scores.

    Parameters
    ----------
    model
        The view; not changed.
    outputs
        The model's outputs.

    Returns
    -------
    tuple
        What was found, by the mean's value; and the nodes that the view is to gain, in order, each with
        a value whose type its result has.
    """
    found: dict[str, Ensemble] = {}
    written: list[tuple[gs.Node, Sequence[str]]] = []
    for value in _candidates(model, outputs):
        members = _members(model, value)
        numbers = None if members is None else _numbers(model, value, members)
        if members is None or numbers is None:
            continue
        scores = f"{value}/scores"
        if (made := model.producers.get(scores)) is None:
            written += _written(value, members)
        elif made.op != model.producers[value].op:
            continue  # a value of that name is the user's own
        leaf = next(node for node in members if PROBABILITY in traits_of(node))
        alone = compared(ForwardNode(leaf, model)) is None or numbers.size == 1
        axis = None if alone else numbers.shape.index(numbers.size)
        found[value] = Ensemble(value, scores, members[::-1], axis)
    return found, written


def _candidates(model: Forward, outputs: Sequence[str]) -> Iterator[str]:
    """Yield the last sums before the outputs, each with the factor below one that makes it a mean."""
    seen = set[str]()
    for output in outputs:
        value, after = output, output
        while value not in seen and (node := model.producers.get(value)) is not None:
            seen.add(value)
            given = _given(model, node)
            if SUM in traits_of(node) and (len(given) > 1 or REDUCTION in traits_of(node)):
                yield after if after != value and factor(model, model.producers[after]) < 1 else value
            if PROBABILITY in traits_of(node) or len(given) != 1 or REDUCTION in traits_of(node):
                break
            value, after = given[0], value


def _members(model: Forward, value: str) -> list[gs.Node] | None:
    """Return the nodes that make a value of probabilities, in order; ``None`` if others take part."""
    found: dict[str, gs.Node] = {}
    pending = [value]
    while pending:
        name = pending.pop()
        node = model.producers.get(name)
        if name in found:
            continue
        if node is None or len(node.outputs) > 1:
            return None
        found[name] = node
        if PROBABILITY in traits_of(node):
            continue
        given, traits = _given(model, node), traits_of(node)
        moved = VIEW in traits and given == [node.inputs[0].name]
        scaled = len(given) == 1 and factor(model, node) < math.inf
        if not (traits & {SUM, JOIN} or moved or scaled):
            return None
        pending += given
    leaves = [node for node in found.values() if PROBABILITY in traits_of(node)]
    order = {n.outputs[0].name: k for k, n in enumerate(model.producers.values())}
    alike = len({node.op for node in leaves}) == 1
    return sorted(found.values(), key=lambda n: order[n.outputs[0].name]) if alike else None


def factor(model: Forward, node: gs.Node) -> float:
    """Return by what a node multiplies, at most, if positive constants are all; else infinity."""
    entry = find(node.op, node.domain)
    if not entry.can_evaluate or not entry.traits >= {AFFINE, POINTWISE}:
        return math.inf
    constants = [model.constant(v.name) if v.name in model.constants else None for v in node.inputs]
    with np.errstate(all="ignore"):
        low, high = (
            np.asarray(entry.evaluate(node.attrs, *(np.asarray(x) if c is None else c for c in constants)))
            for x in (0.0, 1.0)
        )
    return float((high - low).max()) if (high > low).all() else math.inf


def _numbers(model: Forward, value: str, members: Sequence[gs.Node]) -> _Numbers | None:
    """Return the numbers of the classes in a sum, the same in all its terms; ``None`` if they are not.

    They are followed through it: in a sum over classes terms have different ones.
    """
    known: dict[str, _Numbers] = {}
    try:
        for node in members:
            known[node.outputs[0].name] = _numbered(model, node, known)
    except (RuleError, TypeError, ValueError, IndexError, KeyError, AttributeError):
        return None
    sizes = {known[n.outputs[0].name].size for n in members if PROBABILITY in traits_of(n)}
    found = known[value]
    return found if sizes == {found.size} and (np.diff(found.ravel()) > 0).all() else None


def _numbered(model: Forward, node: gs.Node, known: Mapping[str, _Numbers]) -> _Numbers:
    """Return the numbers of the classes after a node; along all other axes they are the same."""
    traits, entry = traits_of(node), find(node.op, node.domain)
    if PROBABILITY in traits:
        shape, axis = model.type_of(node.outputs[0].name).shape or (), compared(ForwardNode(node, model))
        axis = min(1, len(shape) - 1) if axis is None else axis
        return np.arange(shape[axis] or 0).reshape([-1 if k == axis else 1 for k in range(len(shape))])
    terms = [known[name] for name in _given(model, node)]
    if traits >= {SUM, REDUCTION}:
        at = ForwardNode(node, model)
        gone = [int(k) for k in at.numbers("axes", 1) or range(terms[0].ndim)]
        least, most = (f(terms[0], tuple(gone), keepdims=True) for f in (np.min, np.max))
        if (least != most).any():
            raise ValueError(node.op)
        return least if at.attr("keepdims", 1) else least.squeeze(tuple(gone))
    if SUM in traits:
        if any((np.asarray(term) != terms[0]).any() for term in terms):
            raise ValueError(node.op)
        return np.asarray(np.broadcast_arrays(*terms)[0])
    if POINTWISE in traits:
        return terms[0]
    inputs = [known[v.name] if v.name in known else model.constant(v.name) for v in node.inputs if v.name]
    return np.asarray(entry.evaluate(node.attrs, *inputs))


def _written(value: str, members: Sequence[gs.Node]) -> Iterator[tuple[gs.Node, Sequence[str]]]:
    """Write a sum's nodes once more, for what the probabilities are made of."""
    new: dict[str, gs.Variable] = {}
    for node in members:
        name = node.outputs[0].name
        if PROBABILITY in traits_of(node):
            new[name] = gs.Variable(node.inputs[0].name)
            continue
        new[name] = gs.Variable(f"{value}/scores" if name == value else f"{value}/scores/{name}")
        inputs = [new.get(v.name, v) for v in node.inputs]
        attributes, domain = dict(node.attrs), node.domain
        yield gs.Node(node.op, new[name].name, attributes, inputs, [new[name]], domain=domain), [name]


def _given(model: Forward, node: gs.Node) -> list[str]:
    """Return the values among a node's inputs that depend on the model's, each once."""
    return list(dict.fromkeys(v.name for v in node.inputs if v.name and v.name not in model.constants))
