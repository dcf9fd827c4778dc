"""Patterns of operators, written like the expressions that they match.

    CONV = op.Conv(value("signal"), value("weight"), ABSENT, group=1, strides=ones)
    SPLIT_CONV = op.Split(read_once(CONV.named("conv")), axis=1)

    for found in SPLIT_CONV.matches(graph):
        found.node, found.nodes["conv"], found.values["weight"]

The pattern's operator is searched for among the nodes; its operands are matched with what makes the node's
inputs. Inputs that a pattern does not list may be anything, and so may attributes; an attribute that a node
leaves out has its default. ``a | b`` matches what either matches, ``.named("conv")`` captures a node,
``.where(test)`` puts a test to it, ``.giving(1)`` is its second output.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, TypeAlias

from onnx import NodeProto

from onnx_deconv.compiler.passes.attributes import Expected, as_expected
from onnx_deconv.compiler.passes.rewriter import Rewriter
from onnx_deconv.model.protos import attributes_of
from onnx_deconv.operators import own_domain
from onnx_deconv.operators.builder import BACKWARD


@dataclass(frozen=True)
class Match:
    """How a pattern matched.

    Attributes
    ----------
    graph
        The graph.
    node
        The node that the pattern's outermost operator matched.
    nodes, values
        What was captured, by name.
    """

    graph: Rewriter
    node: NodeProto
    nodes: Mapping[str, NodeProto] = field(default_factory=dict)
    values: Mapping[str, str] = field(default_factory=dict)

    @property
    def attributes(self) -> dict[str, Any]:
        """The node's attributes that are given."""
        return attributes_of(self.node)


Test: TypeAlias = Callable[[Match], bool]
"""Asked of an operator's match when its operands have matched; its node is that operator's."""


class Pattern(ABC):
    """What matches a value by what makes it, or a node; made by :data:`op`, :func:`value` and others here."""

    @abstractmethod
    def of_value(self, found: Match, value: str) -> Iterator[Match]:
        """Yield how a value that ``found.node`` reads can match, given what has matched so far."""

    def of_node(self, found: Match) -> Iterator[Match]:  # noqa: ARG002 - a value has no node
        """Yield how ``found.node`` can match."""
        return iter(())

    @property
    def operators(self) -> frozenset[str]:
        """What operators a node that matches may have."""
        return frozenset()

    def match(self, graph: Rewriter, node: NodeProto | None) -> Match | None:
        """Match a node; ``None`` where there is none, or it does not match."""
        if node is None or node.op_type not in self.operators:
            return None
        return next(self.of_node(Match(graph, node)), None)

    def matches(self, graph: Rewriter) -> Iterator[Match]:
        """Yield the match of each node that matches, in order; nodes may be changed meanwhile."""
        for node in graph.nodes:
            found = self.match(graph, node)
            if found is not None:
                yield found

    def named(self, name: str) -> "Pattern":
        """Capture the node."""
        raise NotImplementedError(f"{self} matches a value, not a node")

    def where(self, *tests: Test) -> "Pattern":
        """Match only a node that passes tests."""
        raise NotImplementedError(f"{self} matches a value, not a node")

    def __or__(self, other: "Pattern") -> "Pattern":
        return _Either((self, other))


@dataclass(frozen=True)
class _Either(Pattern):
    options: tuple[Pattern, ...]

    @cached_property
    def operators(self) -> frozenset[str]:
        return frozenset().union(*(option.operators for option in self.options))

    def named(self, name: str) -> Pattern:
        return _Either(tuple(option.named(name) for option in self.options))

    def where(self, *tests: Test) -> Pattern:
        return _Either(tuple(option.where(*tests) for option in self.options))

    def of_value(self, found: Match, value: str) -> Iterator[Match]:
        for option in self.options:
            yield from option.of_value(found, value)

    def of_node(self, found: Match) -> Iterator[Match]:
        for option in self.options:
            yield from option.of_node(found)


@dataclass(frozen=True)
class _Value(Pattern):
    name: str = ""
    test: Callable[[Rewriter, str], bool] | None = None

    def of_value(self, found: Match, value: str) -> Iterator[Match]:
        if value and (self.test is None or self.test(found.graph, value)):
            yield replace(found, values={**found.values, self.name: value}) if self.name else found


@dataclass(frozen=True)
class _Absent(Pattern):
    def of_value(self, found: Match, value: str) -> Iterator[Match]:
        if not value:
            yield found


@dataclass(frozen=True)
class _ReadOnce(Pattern):
    inner: Pattern

    def of_value(self, found: Match, value: str) -> Iterator[Match]:
        reader = found.graph.only_reader(value)
        if reader is found.node and list(reader.input).count(value) == 1:
            yield from self.inner.of_value(found, value)


@dataclass(frozen=True)
class _Operation(Pattern):
    operator: str
    operands: tuple[Pattern, ...]
    attributes: Mapping[str, Expected]
    name: str = ""
    output: int = 0
    tests: tuple[Test, ...] = ()

    @cached_property
    def operators(self) -> frozenset[str]:
        return frozenset({self.operator})

    def named(self, name: str) -> "_Operation":
        return replace(self, name=name)

    def giving(self, output: int) -> "_Operation":
        return replace(self, output=output)

    def where(self, *tests: Test) -> "_Operation":
        return replace(self, tests=(*self.tests, *tests))

    def of_value(self, found: Match, value: str) -> Iterator[Match]:
        node = found.graph.producers.get(value)
        if node is not None and list(node.output).index(value) == self.output:
            for inner in self.of_node(replace(found, node=node)):
                yield replace(inner, node=found.node)

    def of_node(self, found: Match) -> Iterator[Match]:
        node = found.node
        if node.op_type != self.operator or own_domain(node.domain):
            return
        if self.name:
            found = replace(found, nodes={**found.nodes, self.name: node})
        values = [*node.input, *[""] * (len(self.operands) - len(node.input))]
        if as_expected(node, found.graph.opset, self.attributes):
            for match in _all_match(self.operands, found, values):
                if all(test(match) for test in self.tests):
                    yield match


class _Operators:
    """Makes patterns: an operator's name is a method that takes patterns of its inputs, and attributes."""

    def __getattr__(self, operator: str) -> Callable[..., _Operation]:
        def operation(*operands: Pattern, **attributes: Expected) -> _Operation:
            return _Operation(operator, operands, attributes)

        return operation


op = _Operators()
"""``op.Conv(value("signal"), ANY, ABSENT, group=1)`` matches a Conv in one group without a bias."""

ANY = _Value()
"""Matches any value, but not an input that is left out."""

ABSENT = _Absent()
"""Matches an input that is left out."""


def value(name: str, test: Callable[[Rewriter, str], bool] | None = None) -> Pattern:
    """Match and capture any value, or one that passes a test."""
    return _Value(name, test)


def read_once(pattern: Pattern) -> Pattern:
    """Match a value that nothing else reads, and the graph does not give."""
    return _ReadOnce(pattern)


def backward(found: Match) -> bool:
    """Tell whether a node belongs to the backward pass, not to the user's model."""
    return found.node.name.startswith(BACKWARD)


def _all_match(patterns: Sequence[Pattern], found: Match, values: Sequence[str]) -> Iterator[Match]:
    if not patterns:
        yield found
        return
    for match in patterns[0].of_value(found, values[0]):
        yield from _all_match(patterns[1:], match, values[1:])
