"""Probabilities joined in one value, to each other or to numbers of boxes, as YOLO writes them: their scores.

The value has no scores of its own in the file: before the sigmoids stand several values, and beside them what
no sigmoid makes. In the *view* of a model it gets some: the same nodes once more, of what the sigmoids are
given. Each number of it stands where the probability does, and all others are the same. In the place of a
product of two probabilities, a class's and that of there being anything at all, stands the sum of their
scores, as the logarithm of a product is a sum, in that of powers of them the weighted sum; a power by itself,
as a root, stands for its probability; in the place of 1 - p stands the negative score. Which box, or class,
is the most probable is still asked of the value itself.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import isfinite
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray
from onnx import TensorProto

from onnx_deconv.errors import RuleError
from onnx_deconv.model.ensembles import factor
from onnx_deconv.model.reading import below_repeats, is_product, read_by, told_by_the_image
from onnx_deconv.operators import find, own_domain, traits_of
from onnx_deconv.operators.axes import compared, cut_out, placed_from, written_over
from onnx_deconv.operators.node import Forward, ForwardNode
from onnx_deconv.operators.traits import (
    AFFINE,
    JOIN,
    LOGARITHM,
    PICK,
    PLACEMENT,
    POINTWISE,
    PROBABILITY,
    QUANTISER,
    REDUCTION,
    REPEATS,
    VIEW,
)


@dataclass(frozen=True)
class Joined:
    """A value that holds probabilities.

    Attributes
    ----------
    value
        Its name.
    scores
        The same with scores in their place: a value of the view.
    squashed
        The nodes that make the probabilities, the last one first.
    beside
        Whether it holds other numbers too.
    fields
        For each of the numbers along one axis which group of probabilities it is of, counted from 1: those
        that one node makes; 0 for no probability. Where there are others, and it is known.
    """

    value: str
    scores: str
    squashed: Sequence[gs.Node]
    beside: bool
    fields: Sequence[int] | None = None


Written = tuple[gs.Node, Sequence[str]]
"""A node that the view gains, and for each of its results a value of the same type."""


def joined_probabilities(
    model: Forward, nodes: Sequence[gs.Node], outputs: Sequence[str]
) -> tuple[dict[str, Joined], list[Written]]:
    """Find the values that hold joined probabilities, and write the same of their scores.

    Parameters
    ----------
    model
        The view; not changed.
    nodes
        Its nodes, in order.
    outputs
        The model's outputs.

    Returns
    -------
    tuple
        What was found, by the value's name; and the nodes that the view is to gain, in order.
    """
    scores = _Scores(model, told_by_the_image(nodes, model.inputs))
    for node in _ends(model, nodes, outputs):
        scores.follow(node)
    found = {value: each.joined(value) for value, each in scores.known.items() if each.is_joined}
    return found, scores.needed(found)


_FOLLOWED = {JOIN, PICK, POINTWISE, QUANTISER, REDUCTION, REPEATS, VIEW}


def _ends(model: Forward, nodes: Sequence[gs.Node], outputs: Sequence[str]) -> list[gs.Node]:
    """List the nodes between the last probabilities, or filters, and the outputs, in order."""
    waiting, seen = list(outputs), set[str]()
    while waiting:
        name = waiting.pop()
        node = model.producers.get(name)
        if node is None or name in seen:
            continue
        seen.add(name)
        if PROBABILITY not in traits_of(node) and _is_followed(model, node):
            waiting += read_by(node)
    return [node for node in nodes if any(v.name in seen for v in node.outputs)]


def _is_followed(model: Forward, node: gs.Node) -> bool:
    """Tell whether a node picks, moves or combines numbers, as what follows scores does."""
    places = placed_from(ForwardNode(node, model)) is not None
    return places or _has_branches(node) or bool(traits_of(node) & _FOLLOWED)


def _has_branches(node: gs.Node) -> bool:
    return any(isinstance(each, gs.Graph) for each in node.attrs.values())


@dataclass(frozen=True)
class _Score:
    """What stands in the place of a value, with scores in that of probabilities.

    Attributes
    ----------
    name
        Its name.
    squashed
        The nodes that make the probabilities, by their values.
    is_joined
        Whether several values were joined, or multiplied.
    beside
        Whether it holds other numbers too.
    fields
        The axis along which scores follow each other or other numbers, and which are scores, if that is
        known.
    power
        The power that the probabilities were raised to; ``None`` where it is not one for all.
    exponent
        The value in the graph that holds this power, if there is one.
    """

    name: str
    squashed: Mapping[str, gs.Node]
    is_joined: bool = False
    beside: bool = False
    fields: "_Fields | None" = None
    power: float | None = 1
    exponent: str | None = None

    def joined(self, value: str) -> Joined:
        groups = None if self.fields is None else self.fields.groups
        fields = groups if self.beside or len(set(groups or ())) > 1 else None
        return Joined(value, self.name, list(self.squashed.values())[::-1], self.beside, fields)


class _Scores:
    """Scores in the place of probabilities, from one node to the next."""

    def __init__(self, model: Forward, told: set[str]) -> None:
        self._model, self._told = model, told
        self._written: dict[str, gs.Node] = {}
        self.known: dict[str, _Score] = {}

    def follow(self, node: gs.Node) -> None:
        """Learn what stands in the place of a node's results, where scores stand in that of probabilities."""
        traits, first = traits_of(node), node.inputs[0].name if node.inputs else ""
        if PROBABILITY in traits:
            if LOGARITHM not in traits and first not in self._model.inputs:
                self.known[node.outputs[0].name] = _Score(first, {node.outputs[0].name: node})
        elif QUANTISER in traits and JOIN not in traits:
            if first in self.known:
                self.known[node.outputs[0].name] = self.known[first]
        elif self._is_complement(node):
            self._write(node, gs.Node("Neg"))
        elif self._is_kept(node):
            self._write(node)
        elif self._is_product(node):
            if self._are_weighted_alike(node):
                self._write(node, gs.Node("Add"))
        elif (power := self._power(node)) is not None:
            score = next(self.known[v.name] for v in node.inputs if v.name in self.known)
            told = next((v.name for v in node.inputs if v.name not in self.known), None)
            raised = None if score.power is None else score.power * power
            exponent = told if score.power == 1 else score.exponent if power == 1 else None
            self.known[node.outputs[0].name] = replace(score, power=raised, exponent=exponent)

    def needed(self, found: Mapping[str, Joined]) -> list[Written]:
        """List the nodes that what was found is made of, in order."""
        waiting, used = [each.scores for each in found.values()], set[str]()
        while waiting:
            name = waiting.pop()
            if name in self._written and name not in used:
                used.add(name)
                waiting += [v.name for v in self._written[name].inputs]
        nodes = {id(node): node for name, node in self._written.items() if name in used}
        return [(n, [v.name.removesuffix(_SUFFIX) for v in n.outputs]) for n in nodes.values()]

    def _is_kept(self, node: gs.Node) -> bool:
        """Tell whether a node does to scores what it does to the probabilities beside other numbers."""
        traits, given = traits_of(node), [v.name for v in node.inputs if v.name in self.known]
        if not given or own_domain(node.domain) or not self._is_real(node):
            return False
        if JOIN in traits:
            return QUANTISER not in traits
        if traits >= {AFFINE, POINTWISE}:
            return self._scales_fields(node, given)
        others = [v.name for v in node.inputs[1:]]
        if PLACEMENT in traits:  # a box is written over its first numbers, or scores over the last
            kept = given[0] == node.inputs[0].name and self._told.isdisjoint(others[:1])
            return kept and (len(given) > 1 or not self._is_told_product(others[-1]))
        if given != [node.inputs[0].name] or _has_branches(node):
            return False
        return not traits.isdisjoint({VIEW, REPEATS}) or (
            PICK in traits
            and REDUCTION not in traits
            and compared(ForwardNode(node, self._model)) is None
            and self._told.isdisjoint(others)
        )

    def _is_told_product(self, value: str) -> bool:
        """Tell whether a value is a product of two that the image tells, as no number of a box is."""
        node = self._model.producers.get(below_repeats(self._model, value))
        return node is not None and is_product(node) and {v.name for v in node.inputs} <= self._told

    def _is_product(self, node: gs.Node) -> bool:
        """Tell whether a node multiplies two probabilities."""
        known = [self.known.get(v.name) for v in node.inputs]
        return is_product(node) and not any(each is None or each.beside for each in known)

    def _power(self, node: gs.Node) -> float | None:
        """Return the power that a node raises probabilities to: 1 if it limits them alone.

        The square of a sigmoid is a box's width or height, as YOLO computes them.
        """
        known, entry = [v.name for v in node.inputs if v.name in self.known], find(node.op, node.domain)
        if not known or len({*known}) > 1 or POINTWISE not in entry.traits or not entry.can_evaluate:
            return None
        if any(
            compared(ForwardNode(each, self._model)) is not None
            for each in self.known[known[0]].squashed.values()
        ):
            return None  # a softmax, whose logarithm is not its score alone
        others = [self._model.constant(v.name) for v in node.inputs if v.name and v.name not in known]
        fixed = all(each is not None and each.size == 1 for each in others)
        if not fixed or self.known[known[0]].beside or not self._is_real(node):
            return None
        given = np.array([0.25, 0.5, 0.75])
        read = [given if v.name in known else self._model.constant(v.name) for v in node.inputs if v.name]
        with np.errstate(all="ignore"):
            found = np.log(np.asarray(entry.evaluate(node.attrs, *read), np.float64)) / np.log(given)
        power = float(found.flat[0])
        most = np.inf if self.known[known[0]].is_joined else 1
        alike = found.shape == given.shape and np.allclose(found, power)
        return power if alike and 0 < power <= most + _ROUNDED else None

    def _are_weighted_alike(self, node: gs.Node) -> bool:
        """Tell whether both factors are of one power, after scores of other powers were weighted by these."""
        factors = {v.name: self.known[v.name] for v in node.inputs}
        powers = {each.power for each in factors.values()}
        if len(powers) == 1 or None in powers:
            return None not in powers
        return all(each.power == 1 or self._weigh(value, each) for value, each in factors.items())

    def _weigh(self, value: str, score: _Score) -> bool:
        """Write a score times the power of its probability, if the graph holds that; tell whether it does."""
        exponent, name = score.exponent, f"{value}{_SUFFIX}"
        if exponent is None or self._model.type_of(exponent).dtype != self._model.type_of(value).dtype:
            return False
        made = gs.Node("Mul", name, {}, [gs.Variable(score.name), gs.Variable(exponent)], [gs.Variable(name)])
        if name in self._written or not self._may_write(made):
            return False
        if name not in self._model.producers:
            self._written[name] = made
        self.known[value] = replace(score, name=name, power=1, exponent=None)
        return True

    def _is_complement(self, node: gs.Node) -> bool:
        """Tell whether a node takes probabilities from 1: a sigmoid's is that of the negative score."""
        known, entry = [v.name for v in node.inputs if v.name in self.known], find(node.op, node.domain)
        fixed = all(v.name in known or v.name in self._model.constants for v in node.inputs)
        if len(known) != 1 or not fixed or self.known[known[0]].is_joined or POINTWISE not in entry.traits:
            return False
        if not entry.can_evaluate or any(v.name in known for v in node.inputs[2:]):
            return False
        one = [None if v.name in known else self._model.constant(v.name) for v in node.inputs]
        given = ([x if each is None else each for each in one] for x in (np.array(0.25), np.array(2.0)))
        return [np.unique(entry.evaluate(node.attrs, *each)).tolist() for each in given] == [[0.75], [-1.0]]

    def _is_real(self, node: gs.Node) -> bool:
        return not any(self._model.type_of(v.name).dtype in _WHOLE for v in node.outputs)

    def _scales_fields(self, node: gs.Node, given: Sequence[str]) -> bool:
        """Tell whether a node multiplies fields by positive constants, as boxes by the image's size."""
        fixed = all(v.name in self._model.constants for v in node.inputs if v.name not in given)
        fields = len(given) == 1 and self.known[given[0]].beside
        return fixed and fields and isfinite(factor(self._model, node))

    def _write(self, node: gs.Node, instead: gs.Node | None = None) -> None:
        """Write a node once more, or another one in its place."""
        written, results = instead or node, [v.name for v in node.outputs]
        names = [f"{result}{_SUFFIX}" for result in results]
        of = [self.known.get(v.name) for v in node.inputs]
        places = zip(node.inputs, of, strict=True)
        inputs = [v if each is None else gs.Variable(each.name) for v, each in places]
        if instead is not None:
            inputs = [gs.Variable(each.name) for each in of if each is not None]
        made = gs.Node(written.op, names[0], dict(written.attrs), inputs, [gs.Variable(n) for n in names])
        if not self._may_write(made):
            return
        known, joins = [each for each in of if each is not None], _joins(node)
        joined = joins or len(known) > 1 or any(each.is_joined for each in known)
        powers = {each.power for each in known}
        power = powers.pop() if len(powers) == 1 else None
        squashed = {name: each for score in known for name, each in score.squashed.items()}
        for result, name in zip(results, names, strict=True):
            beside, fields = self._fields(node, result, of)
            if fields is not None and not any(fields.groups):
                continue  # none of them is a score
            self.known[result] = _Score(name, squashed, joined, beside, fields, power)
            if name not in self._model.producers:
                self._written[name] = made

    def _fields(
        self, node: gs.Node, value: str, of: Sequence[_Score | None]
    ) -> tuple[bool, "_Fields | None"]:
        """Tell whether a result of a node holds other numbers than scores, and where."""
        known = [each for each in of if each is not None]
        beside = any(each.beside for each in known) or (_joins(node) and None in of)
        found = None
        if JOIN in traits_of(node):
            found = self._joined_fields(node, of)
        elif _joins(node) and of[0] is not None:
            scores, placed = of[0], placed_from(ForwardNode(node, self._model))
            over = of[placed] if placed and placed < len(of) else None
            if over is not None and not over.beside:  # scores are written over others
                beside, found = scores.beside, scores.fields
            elif over is None:
                found = self._without(node, scores.fields)
        elif len(known) == 1 and known[0].fields is not None:
            found = self._moved_fields(node, value, known[0].fields)
        if found is None or 0 in found.groups:
            return beside, found
        return False, found if found.groups else None

    def _without(self, node: gs.Node, fields: "_Fields | None") -> "_Fields | None":
        """Return fields of which some are written over by numbers that are no scores."""
        at = ForwardNode(node, self._model)
        known = self._model.type_of(node.inputs[0].name).shape is not None
        axis, places = (written_over(at) if known else None) or (None, [])
        if axis is None or (fields is not None and fields.axis != axis):
            return None
        groups = [1] * (at.shape_of(0)[axis] or 0) if fields is None else list(fields.groups)
        return _Fields(axis, tuple(0 if k in places else group for k, group in enumerate(groups)))

    def _joined_fields(self, node: gs.Node, of: Sequence[_Score | None]) -> "_Fields | None":
        at = ForwardNode(node, self._model)
        if any(self._model.type_of(v.name).shape is None for v in node.inputs):
            return None
        axis, same = at.axis(), {None if each is None else each.fields for each in of}
        alike = same.pop()
        if not same and alike is not None and alike.axis != axis:
            return alike  # one level after the other
        found: list[int] = []
        for i, each in enumerate(of):
            size, next_group = at.shape_of(i)[axis], max(found, default=0) + 1
            if each is not None and each.fields is not None and each.fields.axis == axis:
                found += [group and group + next_group - 1 for group in each.fields.groups]
            elif size is None or (each is not None and each.beside):
                return None
            else:
                found += [0 if each is None else next_group] * size
        return _Fields(axis, tuple(found))

    def _moved_fields(self, node: gs.Node, value: str, fields: "_Fields") -> "_Fields | None":
        """Follow fields through a node that moves, picks or scales them; ``None`` where that is not known."""
        before = next(self._model.type_of(v.name).shape for v in node.inputs if v.name in self.known)
        after = self._model.type_of(value).shape
        if before is None or after is None:
            return None
        count = len(fields.groups)
        if len(before) == len(after) and after[fields.axis] == count and _keeps_order(node):
            return fields
        if VIEW in traits_of(node) and len(node.inputs) > 1:  # a Reshape
            kept = {1: 1, len(before) - 1: len(after) - 1}.get(fields.axis)
            return None if kept is None or after[kept] != count else replace(fields, axis=kept)
        groups = np.array(fields.groups).reshape([-1 if k == fields.axis else 1 for k in range(len(before))])
        try:
            groups = self._evaluated(node, value, groups)
        except (RuleError, TypeError, ValueError, IndexError, KeyError, AttributeError):
            return None
        if not groups.size:  # it cuts along another axis
            return fields if len(before) == len(after) and after[fields.axis] == count else None
        long = [k for k, size in enumerate(groups.shape) if size != 1] or [0]
        fits = groups.ndim == len(after) and (not after or after[long[0]] in (groups.size, None))
        if fits and len(long) == 1:
            return _Fields(long[0], tuple(groups.ravel().tolist()))
        return _Fields(fields.axis, ()) if groups.all() else None

    def _evaluated(self, node: gs.Node, value: str, groups: NDArray[Any]) -> NDArray[Any]:
        part = cut_out(ForwardNode(node, self._model), value)
        if part is not None:
            axis, first, last = part
            return groups if groups.shape[axis] == 1 else groups.take(range(first, last), axis)
        constants = [self._model.constant(v.name) for v in node.inputs[1:] if v.name]
        return np.asarray(find(node.op, node.domain).evaluate(node.attrs, groups, *constants))

    def _may_write(self, made: gs.Node) -> bool:
        """Tell whether the names are free, or are those of the same nodes, as in a pair's forward model."""
        there = (self._model.producers.get(v.name) for v in made.outputs)
        return all(each is None or _does_as(each, made) for each in there)


def _does_as(node: gs.Node, other: gs.Node) -> bool:
    read = ([v.name for v in each.inputs] for each in (node, other))
    return node.op == other.op and next(read) == next(read)


@dataclass(frozen=True)
class _Fields:
    """The axis along which scores and other numbers follow each other, and which are scores of which group.

    Groups are empty where all are scores, and it is not known along which axis.
    """

    axis: int
    groups: tuple[int, ...]


def _joins(node: gs.Node) -> bool:
    """Tell whether a node puts numbers beside others, or over them."""
    return bool(traits_of(node) & {JOIN, PLACEMENT})


def _keeps_order(node: gs.Node) -> bool:
    """Tell whether a node leaves fields, of which there are as many as before, in their order."""
    return PICK not in traits_of(node) and (POINTWISE in traits_of(node) or len(node.inputs) > 1)


_SUFFIX = "/scores"
_ROUNDED = 1e-6
_WHOLE = {TensorProto.INT64, TensorProto.INT32, TensorProto.BOOL}
