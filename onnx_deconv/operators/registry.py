"""One entry per operator: all that the package knows of it, in facets that everybody reads here.

An entry is made where the operator's rule is written, in the file of its family: :func:`operator` decorates
the rule and takes the facets. The rule is the operator's row in the ``gradient`` table; the entry's
:meth:`Entry.row` gives it a row in another one.
"""

import functools
import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import onnx_graphsurgeon as gs

from onnx_deconv.operators.plugins import load_plugins
from onnx_deconv.operators.shapes import Known, Sizes
from onnx_deconv.operators.tables import Key, Rule, Signals, rule_table
from onnx_deconv.operators.traits import RECTIFIER, Trait

if TYPE_CHECKING:
    from onnx_deconv.operators.axes import Names
    from onnx_deconv.operators.node import ForwardNode
    from onnx_deconv.operators.sight import Sight
    from onnx_deconv.operators.site import Choices, Site

STANDARD = ("", "ai.onnx")
"""The names of the standard's own domain; entries have the first."""

Evaluate = Callable[..., Any]
"""The operator on numbers: its inputs, then its attributes by name.

A pointwise one takes numbers or arrays. The others take arrays of Python numbers, in which ``None`` is a
number that is only known at run time.
"""

Field = Callable[["ForwardNode", Mapping[int, "Sight"]], "Sight | None"]
"""What the result sees of the image, given what those inputs see that depend on it; ``None``: not known."""

Axes = Callable[["ForwardNode", Mapping[int, "Names"]], "Names | None"]
"""What runs along the result's axes, see :mod:`onnx_deconv.operators.axes`; ``None``: not known."""

Shape = Callable[[Known], Sizes | None]
"""The shape of the first result, where the standard's own inference does not know it."""


Fault = Callable[[Mapping[str, Any], int, int], "str | None"]
"""What no node of an operator can have, given its attributes and its numbers of inputs and outputs, in words.

Entries have one where the standard's own shape inference does not check, and reads what is not there, or
gives no shape and no reason.
"""


class Operator:
    """What is known of one operator.

    Attributes
    ----------
    name, domain
        As in a model; the standard's domain is ``""``.
    traits
        What kind of operator it is.
    rule
        Its row in the ``gradient`` table, ``None`` where nothing can be sent back through it.
    field
        How receptive fields pass it; ``None`` leaves that to its traits.
    shape
        The shape of its first result, where the standard's own inference does not know it.
    fault
        What no node of it can have.
    axes
        What runs along its results' axes; ``None`` leaves that to its traits.
    """

    def __init__(self, name: str, domain: str, traits: Collection[Trait], evaluate: Evaluate | None) -> None:
        self.name, self.domain, self.traits = name, domain, frozenset(traits)
        self.rule: Rule | None = None
        self.field: Field | None = None
        self.shape: Shape | None = None
        self.fault: Fault | None = None
        self.axes: Axes | None = None
        self._evaluate = evaluate
        self._attributes = _names(evaluate)

    def __repr__(self) -> str:
        return f"<operator {spelled((self.domain, self.name))}>"

    @property
    def can_evaluate(self) -> bool:
        """Whether it can be computed on plain numbers."""
        return self._evaluate is not None

    def evaluate(self, attributes: Mapping[str, Any], *inputs: Any) -> Any:
        """Compute it on numbers, see :data:`Evaluate`.

        Raises
        ------
        TypeError
            If it cannot be computed, or on these inputs.
        """
        if self._evaluate is None:
            raise TypeError(f"{self.name} cannot be evaluated")
        given = {k: v for k, v in attributes.items() if k in self._attributes}
        return self._evaluate(*inputs, **given)


def _names(function: Evaluate | None) -> frozenset[str]:
    try:
        return frozenset() if function is None else frozenset(inspect.signature(function).parameters)
    except ValueError:  # a NumPy function: its inputs alone
        return frozenset()


class Entry:
    """What :func:`operator` makes of a rule: the rule still, and the way to give its operators more facets.

    Attributes
    ----------
    operators
        The operators that share it.
    """

    def __init__(self, operators: Sequence[Operator]) -> None:
        self.operators = list(operators)

    def __call__(self, at: "Site") -> Signals:
        """Apply the operators' row of the ``gradient`` table."""
        rule = self.operators[0].rule
        if rule is None:
            raise TypeError(f"{self.operators[0]} has no rule")
        return rule(at)

    def row(self, name: str) -> Callable[[Rule], Rule]:
        """Register a function as the operators' row in another rule table.

        Parameters
        ----------
        name
            Of the table.
        """
        return rule_table(name).row(*((each.domain, each.name) for each in self.operators))

    def receptive_field(self, function: Field) -> Field:
        """Register how receptive fields pass the operators."""
        for each in self.operators:
            each.field = function
        return function

    def shape(self, function: Shape) -> Shape:
        """Register the shape of the operators' first result."""
        for each in self.operators:
            each.shape = function
        return function

    def fault(self, function: Fault) -> Fault:
        """Register what no node of the operators can have."""
        for each in self.operators:
            each.fault = function
        return function


_OPERATORS: dict[Key, Operator] = {}
_UNKNOWN = Operator("", "", (), None)


def declare(
    *names: str,
    domain: str = "",
    traits: Collection[Trait] = (),
    evaluate: Evaluate | None = None,
    field: Field | None = None,
    shape: Shape | None = None,
    axes: Axes | None = None,
) -> Entry:
    """Make an entry for operators through which nothing is sent back (comparisons, shapes).

    Parameters
    ----------
    names
        As in a model (``"Equal"``).
    domain
        The operators' domain.
    traits
        What kind of operators they are.
    evaluate
        See :data:`Evaluate`.
    field
        See :data:`Field`.
    shape
        See :data:`Shape`.
    axes
        See :data:`Axes`.

    Raises
    ------
    ValueError
        If an operator has an entry already.
    """
    made = []
    for name in names:
        if (domain, name) in _OPERATORS:
            raise ValueError(f"{spelled((domain, name))} has an entry already")
        made.append(Operator(name, domain, traits, evaluate))
        made[-1].field, made[-1].shape, made[-1].axes = field, shape, axes
        _OPERATORS[domain, name] = made[-1]
    return Entry(made)


def operator(
    *names: str,
    domain: str = "",
    traits: Collection[Trait] = (),
    evaluate: Evaluate | None = None,
    field: Field | None = None,
    shape: Shape | None = None,
    axes: Axes | None = None,
) -> Callable[[Rule | Entry], Entry]:
    """Make an entry of operators and their rule, the true vector-Jacobian product.

    Decorators that follow each other share the rule, not the facets. Parameters and errors are those
    of :func:`declare`.
    """

    def register(rule: Rule | Entry) -> Entry:
        shared = rule.operators if isinstance(rule, Entry) else []
        entry = declare(
            *names, domain=domain, traits=traits, evaluate=evaluate, field=field, shape=shape, axes=axes
        )
        for each in entry.operators:
            each.rule = shared[0].rule if shared else rule
        return Entry([*entry.operators, *shared])

    return register


def find(name: str, domain: str | None = "") -> Operator:
    """Look an operator up; one that nobody knows has no facets and no traits."""
    key = own_domain(domain), name
    found = _OPERATORS.get(key)
    if found is None:
        load_plugins()
        found = _OPERATORS.get(key, _UNKNOWN)
    return found


def key_of(node: gs.Node) -> Key:
    """Return the domain and name by which a node's operator is known."""
    return own_domain(node.domain), str(node.op)


def traits_of(node: gs.Node) -> frozenset[Trait]:
    """Return what kind of operator a node's is."""
    return find(node.op, node.domain).traits


def own_domain(domain: str | None) -> str:
    """Return a domain's one name: the standard's has two."""
    return "" if domain is None or domain in STANDARD else str(domain)


def operators_by_key() -> Mapping[Key, Operator]:
    """Return all entries, those of installed plug-ins too, by (domain, operator)."""
    load_plugins()
    return _OPERATORS


@functools.cache
def names_of(*traits: Trait) -> frozenset[str]:
    """Return the names of the standard's operators that have all of some traits."""
    return frozenset(
        o.name for (domain, _), o in operators_by_key().items() if not domain and {*traits} <= o.traits
    )


def spelled(key: Key) -> str:
    """Write an operator with its domain, unless that is the standard's."""
    return "::".join(filter(None, key))


def rules_for(semantics: "Choices") -> dict[Key, Rule]:
    """Return the rule that some semantics choose for each operator that has one, by (domain, operator)."""
    chosen, gradient = semantics.table, rule_table("gradient")
    lrn = {"identity": rule_table("deconvnet"), "gradient": gradient}.get(semantics.lrn, chosen)
    found = {}
    for key, each in operators_by_key().items():
        spared = RECTIFIER in each.traits and semantics.activations == "relu" and key != _RELU
        spared = spared and not chosen.conserves  # what is shared out passes every activation
        rule = (gradient if spared else lrn if key == _LRN else chosen).rule(each)
        if rule is not None:
            found[key] = rule
    return found


_RELU, _LRN = ("", "Relu"), ("", "LRN")
