"""Which rule an operator gets: three tables that differ in the rectifiers' rows alone."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from onnx_deconv.operators.builder import Signal
from onnx_deconv.semantics import Semantics

if TYPE_CHECKING:
    from onnx_deconv.operators.site import Site

Signals = Sequence[Signal | None]
"""One signal per input of a forward node, ``None`` where nothing flows."""

Rule = Callable[["Site"], Signals]
Key = tuple[str, str]
"""(domain, operator); the standard's own domain is ``""``."""

RuleTable = Mapping[Key, Rule]

_RELU = {("", "Relu"), ("", "QuantizeLinear")}
"""What counts as Relu where the other activations are left at their derivative."""

_TABLES: dict[str, dict[Key, Rule]] = {
    "gradient": {},
    "deconvnet": {},
    "guided": {},
    "lrn=identity": {},
}


@dataclass(frozen=True)
class Row:
    """One line of the operator table.

    Attributes
    ----------
    operator, domain
        The forward operator.
    family
        The file of its rule.
    says
        What the rule does, in its own words.
    rectifier
        Whether the deconvnet and guided tables have a row of their own for it.
    """

    operator: str
    domain: str
    family: str
    says: str
    rectifier: bool


def rule(*operators: str, domain: str = "", table: str = "gradient") -> Callable[[Rule], Rule]:
    """Register a function as the rule of one or more operators.

    Parameters
    ----------
    operators
        Names as in the model (``"Conv"``).
    domain
        The operators' domain.
    table
        ``gradient``: what all tables share (the true vector-Jacobian product); ``deconvnet``,
        ``guided``, ``lrn=identity``: the row that replaces it there.

    Raises
    ------
    ValueError
        If an operator has a rule in that table already.
    """

    def register(function: Rule) -> Rule:
        for operator in operators:
            if (domain, operator) in _TABLES[table]:
                raise ValueError(f"{domain or 'ai.onnx'}::{operator} has a rule in {table!r} already")
            _TABLES[table][domain, operator] = function
        return function

    return register


def rule_table(semantics: Semantics) -> dict[Key, Rule]:
    """Return the rules that the given semantics choose, by (domain, operator)."""
    table = dict(_TABLES["gradient"])
    if semantics.rules != "gradient":
        rows = _TABLES[semantics.rules]
        table |= {k: r for k, r in rows.items() if semantics.activations == "all" or k in _RELU}
    if semantics.lrn_is_identity:
        table |= _TABLES["lrn=identity"]
    return table


def rows() -> Iterator[Row]:
    """Yield the operator table, sorted by domain and operator."""
    for (domain, operator), function in sorted(_TABLES["gradient"].items()):
        family = function.__module__.rpartition(".")[2]
        says = (function.__doc__ or "").strip().partition("\n")[0]
        yield Row(operator, domain, family, says, (domain, operator) in _TABLES["deconvnet"])
