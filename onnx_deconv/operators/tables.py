"""Rule tables: what each operator does to the signal, under a name that every record carries.

A table has rows of its own, by operator or by trait, and a parent that answers for all other operators.
The last parent is ``gradient``, whose rows stand in the operators' entries.
"""

import hashlib
import inspect
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from onnx_deconv.errors import InputError, given
from onnx_deconv.operators.plugins import load_plugins
from onnx_deconv.operators.traits import Trait

if TYPE_CHECKING:
    from onnx_deconv.operators.registry import Operator

Key = tuple[str, str]
"""(domain, operator); the standard's own domain is ``""``."""

Signals = Sequence[Any]
"""One signal per input of a forward node, ``None`` where nothing flows."""

Rule = Callable[[Any], Signals]
"""From a :class:`~onnx_deconv.operators.site.Site` to one signal per input of its node."""

Rows = Mapping[Key | str | Trait, Rule]


class RuleTable:
    """A named set of rules.

    Parameters
    ----------
    name
        What records, manifests and the command line call it: letters, digits, ``-``, ``_`` and ``*``.
    parent
        The name of the table that answers for operators without a row here; ``None`` for ``gradient`` alone.
    rows
        Rules by operator (``"Relu"``, or ``(domain, operator)``) or by trait.
    doc
        What the table does, beginning with its source: one line.
    conserves
        Whether a signal is an amount that each unit divides among its inputs, as relevance is, and no
        derivative; by default what the parent says.

    Raises
    ------
    ValueError
        If the name is none, or a row is no function.
    """

    def __init__(
        self,
        name: str,
        parent: str | None = "gradient",
        rows: Rows | None = None,
        doc: str = "",
        *,
        conserves: bool | None = None,
    ) -> None:
        if not name or not name.replace("-", "").replace("_", "").replace("*", "").isalnum():
            raise ValueError(f"{name!r} is no name for a rule table: use letters, digits, - and _")
        self.name, self.doc = name, doc
        self._parent, self._conserves = parent, conserves
        self._rows: dict[Key | Trait, Rule] = {}
        self._by_trait: list[tuple[Trait, Rule]] = []
        for key, rule in (rows or {}).items():
            self.row(key)(rule)

    def __repr__(self) -> str:
        return f"<rule table {self.name}>"

    @property
    def parent(self) -> "RuleTable | None":
        """The table that answers for operators without a row here; ``None`` for ``gradient``."""
        return None if self._parent is None else rule_table(self._parent)

    @property
    def conserves(self) -> bool:
        """Whether a signal is an amount that each unit divides among its inputs, and no derivative."""
        if self._conserves is None:
            return self.parent is not None and self.parent.conserves
        return self._conserves

    def row(self, *keys: Key | str | Trait) -> Callable[[Rule], Rule]:
        """Register a function as the row of some operators, or of all with a trait.

        Raises
        ------
        ValueError
            If one has a row in this table already.
        """

        def register(rule: Rule) -> Rule:
            for key in keys:
                own = ("", key) if isinstance(key, str) else key
                if own in self._rows:
                    raise ValueError(f"{own} has a row in {self.name!r} already")
                if not callable(rule):
                    raise ValueError(f"the row of {own} in {self.name!r} is no function")  # noqa: TRY004
                self._rows[own] = rule
            self._by_trait = [(trait, self._rows[trait]) for trait in Trait if trait in self._rows]
            return rule

        return register

    def rule(self, of: "Operator") -> Rule | None:
        """Return an operator's rule: its own row, its traits', the parent's, else its gradient."""
        if (of.domain, of.name) in self._rows:
            return self._rows[of.domain, of.name]
        by_trait = next((rule for trait, rule in self._by_trait if trait in of.traits), None)
        if by_trait is not None:
            return by_trait
        return of.rule if self.parent is None else self.parent.rule(of)

    @property
    def digest(self) -> str:
        """A short hash of the rows: of their names for rules of this package, else of their source too."""
        lines = [] if self.parent is None else [self.parent.digest]
        lines += sorted(f"{key} {_identity(rule)}" for key, rule in self._rows.items())
        return hashlib.sha256("\n".join([self.name, *lines]).encode()).hexdigest()[:12]


def _identity(rule: Rule) -> str:
    where = f"{getattr(rule, '__module__', '')}.{getattr(rule, '__qualname__', type(rule).__name__)}"
    if where.startswith("onnx_deconv."):
        return where
    try:
        return where + textwrap.dedent(inspect.getsource(rule))
    except (OSError, TypeError):
        return where


_TABLES: dict[str, RuleTable] = {}
_REGISTERED: set[str] = set()


def register(new: RuleTable) -> RuleTable:
    """Make a table known by its name to the library and the command line.

    Raises
    ------
    ValueError
        If another table has that name.
    """
    if new.name in _REGISTERED and _TABLES[new.name] is not new:
        raise ValueError(f"there is a rule table {new.name!r} already")
    _REGISTERED.add(new.name)
    _TABLES[new.name] = new
    return new


def adopt(new: RuleTable) -> RuleTable:
    """Make a table known that a caller made for the moment; a later one may take its name.

    Raises
    ------
    InputError
        If a registered table has that name.
    """
    if new.name in _REGISTERED and _TABLES[new.name] is not new:
        raise InputError(f"there is a rule table {new.name!r} already: choose another name")
    _TABLES[new.name] = new
    return new


def rule_table(name: str) -> RuleTable:
    """Return the table of that name.

    Raises
    ------
    InputError
        If there is none.
    """
    if name not in _TABLES:
        load_plugins()
    if name not in _TABLES:
        raise InputError(f"{given('rules', name)}: choose one of {', '.join(_TABLES)}")
    return _TABLES[name]


def rule_tables() -> Mapping[str, RuleTable]:
    """Return all tables, those of installed plug-ins too, by name; the default first."""
    load_plugins()
    return _TABLES


def compared_tables() -> tuple[str, ...]:
    """Name the tables that comparisons take unless they are told: all but those of relevance."""
    return tuple(name for name, each in rule_tables().items() if not each.conserves)


register(RuleTable("deconvnet", doc="Zeiler & Fergus 2013, section 2.1: rectifies the signal itself."))
register(
    RuleTable(
        "guided",
        doc="Springenberg et al. 2015, section 3.4: rectifies the signal, and stops it where the forward "
        "input was not positive.",
    )
)
register(RuleTable("gradient", None, doc="Simonyan et al. 2014: the true derivative."))
